"""The text side of CTC: which characters a network spells, and transcripts brought into that form."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from stream_ser.errors import DataError
from stream_ser.text import printable

Case = Literal["upper", "lower", "keep"]

#: Class of the blank; the characters follow it.
BLANK = 0
SPACE = " "
#: Written for an apostrophe. The opening quotation mark is none.
_APOSTROPHES = dict.fromkeys(map(ord, "’ʼ´`"), "'")
#: Unicode's classes of letters, marks and digits.
_SPELT = ("L", "M", "N")
#: Of a text in a message.
_LONGEST_TEXT = 80


@dataclass(frozen=True)
class Vocabulary:
    """What the classes of a CTC network stand for: class 0 is the blank, the characters follow in order.

    Attributes:
        characters: each once; a space among them separates words.
        case: that transcripts are brought to.

    Raises:
        ValueError: a character twice, none, one that is not printable, or one of the other case.

    Example:
        >>> vocabulary = Vocabulary(" 'ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        >>> vocabulary.normalise("Don’t forget - a “jacket”!")
        "DON'T FORGET A JACKET"
        >>> vocabulary.encode("a bee")
        (3, 1, 4, 7, 7)
        >>> vocabulary.decode((3, 1, 4, 7, 7))
        'A BEE'
    """

    characters: str
    case: Case = "upper"

    def __post_init__(self) -> None:
        if not self.characters or len(set(self.characters)) < len(self.characters):
            raise ValueError(f"characters are {self.characters!r}, expected one or more, each once")
        if not self.characters.isprintable():
            raise ValueError(f"characters are {self.characters!r}, expected printable ones; of white space the space")
        if self.case not in get_args(Case):
            raise ValueError(f"case is {self.case!r}, expected one of {', '.join(get_args(Case))}")
        if _cased(self.characters, self.case) != self.characters:
            raise ValueError(f"characters are {self.characters!r}, but the case is {self.case}")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Vocabulary:
        """What :meth:`as_dict` gave."""
        return cls(content["characters"], content["case"])

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return {"characters": self.characters, "case": self.case}

    def __len__(self) -> int:
        """Classes, the blank included."""
        return len(self.characters) + 1

    @property
    def space(self) -> int | None:
        """Class of the space, where there is one."""
        place = self.characters.find(SPACE)
        return place + 1 if place >= 0 else None

    def normalise(self, text: str) -> str:
        """Text in this vocabulary's form.

        Compatible forms of a character become one (NFKC), the case that of the vocabulary, and all but letters, digits
        and the vocabulary's own characters a space, one between words. An apostrophe that touches no letter is none.
        What the vocabulary lacks stays: :meth:`encode` names it.
        """
        return _normalise(text, self.case, self.characters)

    def encode(self, text: str) -> tuple[int, ...]:
        """Classes of a text, which is normalised first; a letter that is lacking loses its accents, if that helps.

        Raises:
            DataError: the vocabulary lacks a character.
        """
        plain = "".join(c if c in self.characters else self._without_accents(c) for c in self.normalise(text))
        lacking = sorted(set(plain) - set(self.characters))
        if lacking:
            raise DataError(
                f"{printable(repr(text), _LONGEST_TEXT)} has {', '.join(map(repr, lacking))}, "
                f"which is not among {self.characters!r}; spell it with these (numbers as words)"
            )
        return tuple(self.characters.index(character) + 1 for character in plain)

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of classes, blanks already removed; with one space between words.

        Raises:
            ValueError: a class is the blank or beyond the last one.
        """
        return " ".join("".join(map(self.character, tokens)).split())

    def character(self, token: int) -> str:
        """The character of a class.

        Raises:
            ValueError: the class is the blank or beyond the last one.
        """
        if not BLANK < token < len(self):
            raise ValueError(f"class {token} is no character, expected 1..{len(self) - 1}")
        return self.characters[token - 1]

    def _without_accents(self, character: str) -> str:
        base = "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
        return base if base and set(base) <= set(self.characters) else character


def _cased(text: str, case: Case) -> str:
    return text.upper() if case == "upper" else text.lower() if case == "lower" else text


def _normalise(text: str, case: Case, keep: str) -> str:
    # Changing the case can decompose letters, and both can bring apostrophes forth: U+0149 has one in it.
    text = _cased(unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)), case)
    text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES)
    kept = "".join(c if c in keep or unicodedata.category(c)[0] in _SPELT else SPACE for c in text)
    return " ".join(word for word in map(_trimmed, kept.split()) if word)


def _trimmed(word: str) -> str:
    """A word without the apostrophes that touch no letter."""
    return "".join(c for i, c in enumerate(word) if c != "'" or any(map(str.isalnum, _beside(word, i))))


def _beside(word: Sequence[str], place: int) -> Iterable[str]:
    return (word[i] for i in (place - 1, place + 1) if 0 <= i < len(word))


#: Of English transcripts.
ENGLISH = Vocabulary(" 'ABCDEFGHIJKLMNOPQRSTUVWXYZ")
