"""One colour an emotion, the same in every view, and the big letters of the current one."""

from __future__ import annotations

from stream_ser.events import SILENCE, TOO_SHORT, UNCERTAIN

GREY = "#8a8f98"
FAINT = "#5c626c"
LOST = "#ff3b6b"

#: By the first three letters, which tell "anger" and "angry" alike from all others.
_BY_STEM = {
    "ang": "#e5484d",
    "dis": "#46a758",
    "fea": "#a855f7",
    "hap": "#ffc53d",
    "joy": "#ffc53d",
    "neu": "#9fb3c8",
    "sad": "#3b82f6",
    "sur": "#ff8b3e",
    "cal": "#12a594",
    "bor": "#ad7f58",
    "con": "#c4549c",
    "exc": "#ff6fb5",
    "fru": "#b5483a",
}
_OTHERS = ("#00b8d9", "#d6409f", "#7cb518", "#6e56cf", "#e2a336", "#2e9b8f")


def colours(labels: tuple[str, ...]) -> dict[str, str]:
    """Colour of every label and of what claims nothing; no two labels share one while colours last."""
    chosen: dict[str, str] = {}
    for label in labels:
        wanted = _BY_STEM.get(label[:3].lower(), _OTHERS[0])
        if wanted in chosen.values():
            free = [colour for colour in (*_OTHERS, *_BY_STEM.values()) if colour not in chosen.values()]
            wanted = free[0] if free else wanted
        chosen[label] = wanted
    return chosen | {SILENCE: FAINT, UNCERTAIN: GREY, TOO_SHORT: GREY}


#: 3 x 5 pixels a letter, five rows of three from the top; drawn two pixel rows a text row.
_GLYPHS = {
    "A": ".X. X.X XXX X.X X.X",
    "B": "XX. X.X XX. X.X XX.",
    "C": ".XX X.. X.. X.. .XX",
    "D": "XX. X.X X.X X.X XX.",
    "E": "XXX X.. XX. X.. XXX",
    "F": "XXX X.. XX. X.. X..",
    "G": ".XX X.. X.X X.X .XX",
    "H": "X.X X.X XXX X.X X.X",
    "I": "XXX .X. .X. .X. XXX",
    "J": "..X ..X ..X X.X .X.",
    "K": "X.X X.X XX. X.X X.X",
    "L": "X.. X.. X.. X.. XXX",
    "M": "X.X XXX XXX X.X X.X",
    "N": "XX. X.X X.X X.X X.X",
    "O": ".X. X.X X.X X.X .X.",
    "P": "XX. X.X XX. X.. X..",
    "Q": ".X. X.X X.X XX. .XX",
    "R": "XX. X.X XX. X.X X.X",
    "S": ".XX X.. .X. ..X XX.",
    "T": "XXX .X. .X. .X. .X.",
    "U": "X.X X.X X.X X.X XXX",
    "V": "X.X X.X X.X X.X .X.",
    "W": "X.X X.X XXX XXX X.X",
    "X": "X.X X.X .X. X.X X.X",
    "Y": "X.X X.X .X. .X. .X.",
    "Z": "XXX ..X .X. X.. XXX",
}
BIG_ROWS = 3


def big(word: str, width: int) -> list[str]:
    """A word in letters three rows high.

    Returns:
        :data:`BIG_ROWS` lines of equal length, at most ``width``; the plain word in the middle line where it
        does not fit or holds anything but the letters A to Z.
    """
    letters = word.upper()
    if any(letter not in _GLYPHS for letter in letters) or 4 * len(letters) - 1 > width:
        plain = letters[: max(width, 0)]
        return [" " * len(plain), plain, " " * len(plain)]
    glyphs = [[*_GLYPHS[letter].split(), "..."] for letter in letters]
    lines = []
    for row in range(BIG_ROWS):
        cells = []
        for glyph in glyphs:
            pixels = zip(glyph[2 * row], glyph[2 * row + 1], strict=True)
            cells.append("".join(" ▀▄█"[(upper == "X") + 2 * (lower == "X")] for upper, lower in pixels))
        lines.append(" ".join(cells))
    return lines
