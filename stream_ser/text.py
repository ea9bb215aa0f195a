"""Text from files and devices, made fit for a terminal and for one line."""

from __future__ import annotations

import unicodedata

#: What takes the place of what was cut off.
_CUT = "..."


def printable(text: str, limit: int | None = None) -> str:
    r"""Text whose control characters are spelled out, so that no name of a file or label drives a terminal.

    Spaces of all widths stay: names on macOS and in Japanese are full of them.

    Args:
        text: anything; lone surrogates (bytes of a file name that are no UTF-8) are spelled out as well.
        limit: longest result, in characters.

    Example:
        >>> printable("a\x1b[2Jb")
        'a\\x1b[2Jb'
        >>> printable("calm and very happy", 10)
        'calm an...'
    """
    if not text.isprintable():
        text = "".join(c if _shows(c) else c.encode("unicode_escape").decode("ascii") for c in text)
    return text if limit is None or len(text) <= limit else text[: limit - len(_CUT)] + _CUT


def _shows(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"
