"""The card of a network that writes down what is said, as JSON inside its ONNX file.

See :mod:`stream_ser.runtime.card.recognition`.

Such a file takes a whole clip and gives its text: input ``features`` ``(1, n_mels, frames)``, whole steps of normalised
log-mel; outputs ``tokens`` ``(length,)`` int64, classes of the vocabulary up to the end of the text, which is the last
of them unless the text was cut off, and ``log_probs`` ``(length,)``, of each. The network's loop over its own output is
part of the graph.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from stream_ser.config import FeatureConfig
from stream_ser.errors import ModelError
from stream_ser.runtime.card.base import characters_of, check_vocabulary
from stream_ser.runtime.card.recognition import (
    MAX_CARD_BYTES,
    MAX_LABEL_LENGTH,
    check_constants,
    check_texts,
    checked_part,
    numbers,
    shown,
)
from stream_ser.text import printable

KIND = "transcriber"
SCHEMA_VERSION = 1
TOKENS, SCORES = "tokens", "log_probs"
#: Class that ends a text; empty in the vocabulary.
END = 0
#: A minute at 10 ms a frame: attention takes memory by the square of it.
MAX_FRAMES = 6_000
_MAX_STRIDE, _MAX_TOKENS = 64, 4_096


@dataclass(frozen=True)
class TranscriberCard:
    """A transcriber's card.

    Attributes:
        name: short name, such as ``transcriber``.
        features: the log-mel definition.
        mean: per-band mean that is subtracted, ``(n_mels,)``.
        std: per-band standard deviation that divides, ``(n_mels,)``.
        vocabulary: the character of each class; that of :data:`END` is empty.
        stride: frames of a step.
        max_frames: of the longest clip that the network knows how to hear; whole steps.
        max_tokens: characters of the longest text that it can write.
        parameters: trainable parameters.
        training: for people.
        results: for people.
        licence: terms that bind the weights.
        kind: ``transcriber``.
        schema: version of the layout.
    """

    name: str
    features: FeatureConfig
    mean: tuple[float, ...]
    std: tuple[float, ...]
    vocabulary: tuple[str, ...]
    stride: int
    max_frames: int
    max_tokens: int
    parameters: int = 0
    training: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    kind: str = KIND
    schema: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.kind != KIND:
            raise ModelError(_other(self.kind))
        if not self.name.strip() or len(self.name) > MAX_LABEL_LENGTH or not self.name.isprintable():
            raise ModelError(f"card: name {shown(self.name)} is not 1 to {MAX_LABEL_LENGTH} printable characters")
        if self.features.normalization != "corpus":
            raise ModelError(f"card: normalization is {self.features.normalization!r}, expected 'corpus'")
        check_constants(self.mean, self.std, self.features.n_mels)
        check_vocabulary(self.vocabulary, END)
        for name, most in (("stride", _MAX_STRIDE), ("max_frames", MAX_FRAMES), ("max_tokens", _MAX_TOKENS)):
            if not 1 <= getattr(self, name) <= most:
                raise ModelError(f"card: {name} is {shown(getattr(self, name))}, expected 1 to {most:,}")
        if self.max_frames % self.stride:
            raise ModelError(f"card: max_frames {self.max_frames} is no multiple of stride {self.stride}")

    @property
    def max_samples(self) -> int:
        """Of the longest clip, at the rate of the features."""
        return self.features.samples_for(self.max_frames)

    def text_of(self, tokens: list[int]) -> str:
        """Tokens as text, with one space between words; the end is none of it.

        Raises:
            ModelError: a class beyond the vocabulary.
        """
        if strange := [token for token in tokens if not 0 <= token < len(self.vocabulary)]:
            raise ModelError(f"class {strange[0]} is not one of the card's {len(self.vocabulary)}; export it again")
        return " ".join("".join(self.vocabulary[token] for token in tokens).split())

    def to_json(self) -> str:
        """The card as JSON text."""
        content = asdict(self)
        content["features"] = {"kind": "log-mel", **content["features"]}
        return json.dumps(content, indent=1, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> TranscriberCard:
        """Parse and check a card.

        Raises:
            ModelError: not JSON, of another kind, a newer schema, missing or unknown fields, values out of range.
        """
        if len(text) > MAX_CARD_BYTES:
            raise ModelError(f"card: {len(text):,} characters, expected at most {MAX_CARD_BYTES:,}")
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"card: not valid JSON ({type(error).__name__}); export the model again") from None
        if not isinstance(content, dict):
            raise ModelError("card: not a JSON object; export the model again")
        if content.get("kind") != KIND:
            raise ModelError(_other(content.get("kind")))
        schema = content.get("schema")
        if type(schema) is not int or schema < 1:
            raise ModelError(f"card: schema is {shown(schema)}, expected a whole number from 1 on")
        if schema > SCHEMA_VERSION:
            raise ModelError(f"card: schema {shown(schema)} is newer than {SCHEMA_VERSION}; update stream-ser")
        try:
            return cls(**_checked(content))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            said = printable(f"{type(error).__name__}: {error}", 300)
            raise ModelError(f"card: {said}; export the model again") from None


def _other(kind: object) -> str:
    return f"card: kind is {shown(kind)}, expected {KIND!r}: a network that writes down what is said"


_LISTS = ("mean", "std", "vocabulary")


def _checked(content: dict[str, Any]) -> dict[str, Any]:
    """Fields of the kinds that the card has, lists as tuples.

    Raises:
        ModelError: features that are no log-mel.
        TypeError: a value of another kind, or a field that is unknown.
        ValueError: control characters, or a value out of range.
    """
    kinds = {part.name: str(part.type).partition("[")[0] for part in fields(TranscriberCard)}
    wanted: dict[str, type] = {"str": str, "int": int, "dict": dict, "FeatureConfig": dict}
    for name, value in content.items():
        kind = list if name in _LISTS else wanted.get(kinds.get(name, ""))
        if kind is None:
            raise TypeError(f"unknown field {shown(name)}")
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(f"{name} is {shown(value)}, expected {kind.__name__}")
        check_texts(value, name)
    features = dict(content["features"])
    if (found := features.pop("kind", None)) != "log-mel":
        raise ModelError(f"card: feature kind {shown(found)} is not supported, expected 'log-mel'")
    return {
        **content,
        "features": checked_part(FeatureConfig, features),
        "mean": numbers("mean", content["mean"]),
        "std": numbers("std", content["std"]),
        "vocabulary": characters_of(content["vocabulary"]),
    }
