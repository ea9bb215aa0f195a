"""The card of a network that separates sources, as JSON inside its ONNX file.

See :mod:`stream_ser.runtime.card.recognition`.

Such a file takes the next samples of a mixture and its state, and gives the samples of each source and the state after
them: inputs ``mixture`` ``(1, time)`` and, for each state ``NAME``, ``NAME``; outputs ``sources`` ``(1, sources,
time)`` and ``NAME_out``. Time is one or more hops; the state before the first sample is zeros.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from stream_ser.errors import ModelError
from stream_ser.runtime.card.recognition import MAX_CARD_BYTES, MAX_LABEL_LENGTH, SCHEMA_VERSION, check_texts, shown
from stream_ser.text import printable

KIND = "separator"
MIXTURE, SOURCES, AFTER = "mixture", "sources", "_out"
MAX_SOURCES, MAX_STATES = 8, 16
#: Float32 numbers of all states together: 32 MiB.
_MAX_STATE = 8 * 1024**2
_RANGES = {"sample_rate": (1_000, 192_000), "hop_length": (1, 16_384), "window": (2, 65_536)}


@dataclass(frozen=True)
class SeparatorCard:
    """A separator's card.

    Attributes:
        name: short name, such as ``two-voices``.
        sources: what comes out, in order.
        sample_rate: Hz, of input and output.
        hop_length: samples; a chunk is a multiple of it.
        window: samples of a frame: the algorithmic latency. Output lags input by ``window - hop_length`` samples.
        state: name and shape of each state tensor, float32.
        parameters: trainable parameters.
        training: for people.
        results: for people.
        licence: terms that bind the weights.
        kind: ``separator``.
        schema: version of the layout.
    """

    name: str
    sources: tuple[str, ...]
    sample_rate: int
    hop_length: int
    window: int
    state: tuple[tuple[str, tuple[int, ...]], ...]
    parameters: int = 0
    training: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    kind: str = KIND
    schema: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.kind != KIND:
            raise ModelError(f"card: kind is {shown(self.kind)}, expected {KIND!r}: a network that separates sources")
        for text in (self.name, *self.sources):
            if not text.strip() or len(text) > MAX_LABEL_LENGTH or not text.isprintable():
                raise ModelError(f"card: name {shown(text)} is not 1 to {MAX_LABEL_LENGTH} printable characters")
        if not 1 <= len(self.sources) <= MAX_SOURCES or len(set(self.sources)) < len(self.sources):
            raise ModelError(f"card: needs 1 to {MAX_SOURCES} different sources")
        for name, (least, most) in _RANGES.items():
            if not least <= getattr(self, name) <= most:
                raise ModelError(f"card: {name} is {shown(getattr(self, name))}, expected {least} to {most}")
        if self.window <= self.hop_length or self.window % self.hop_length:
            raise ModelError(f"card: window {self.window} is not a larger multiple of hop_length {self.hop_length}")
        names = [name for name, _ in self.state]
        if not 1 <= len(names) <= MAX_STATES or len({MIXTURE, SOURCES, *names}) < len(names) + 2:
            raise ModelError(f"card: needs 1 to {MAX_STATES} states with different names")
        for name, shape in self.state:
            if not name.isidentifier() or len(name) > MAX_LABEL_LENGTH or name.endswith(AFTER):
                raise ModelError(f"card: {shown(name)} is no name of a state")
            if not 1 <= len(shape) <= 6 or min(shape) < 1:
                raise ModelError(f"card: state {name} has shape {shown(shape)}, expected 1 to 6 positive sizes")
        if sum(math.prod(shape) for _, shape in self.state) > _MAX_STATE:
            raise ModelError(f"card: the state holds more than {_MAX_STATE:,} numbers; export a smaller network")

    @property
    def delay(self) -> int:
        """Samples by which output lags input."""
        return self.window - self.hop_length

    def to_json(self) -> str:
        """The card as JSON text."""
        return json.dumps({**asdict(self), "schema": SCHEMA_VERSION}, indent=1, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> SeparatorCard:
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
            raise ModelError(
                f"card: kind is {shown(content.get('kind'))}, expected {KIND!r}: a network that separates sources"
            )
        schema = content.get("schema")
        if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
            raise ModelError(f"card: schema is {shown(schema)}, expected a whole number from 1 on")
        if schema > SCHEMA_VERSION:
            raise ModelError(f"card: schema {shown(schema)} is newer than {SCHEMA_VERSION}; update stream-ser")
        try:
            return cls(**_checked(content))
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            said = printable(f"{type(error).__name__}: {error}", 300)
            raise ModelError(f"card: {said}; export the model again") from None


def _checked(content: dict[str, Any]) -> dict[str, Any]:
    """Fields of the kinds that the card has, lists as tuples.

    Raises:
        TypeError: a value of another kind, or a field that is unknown.
        ValueError: control characters.
    """
    kinds = {field_.name: str(field_.type).partition("[")[0] for field_ in fields(SeparatorCard)}
    wanted: dict[str, type] = {"str": str, "int": int, "dict": dict}
    for name, value in content.items():
        kind = list if name in ("sources", "state") else wanted.get(kinds.get(name, ""))
        if kind is None:
            raise TypeError(f"unknown field {shown(name)}")
        if not isinstance(value, kind) or isinstance(value, bool):
            raise TypeError(f"{name} is {shown(value)}, expected {kind.__name__}")
        check_texts(value, name)
    for pair in content["state"]:
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and _is_shape(pair[1])):
            raise TypeError(f"state holds {shown(pair)}, expected a name and its shape in whole numbers")
    if strange := [source for source in content["sources"] if not isinstance(source, str)]:
        raise TypeError(f"sources holds {shown(strange[0])}, expected words")
    state = tuple((name, tuple(sizes)) for name, sizes in content["state"])
    return {**content, "sources": tuple(content["sources"]), "state": state}


def _is_shape(sizes: object) -> bool:
    return isinstance(sizes, list) and all(type(size) is int and size < 2**31 for size in sizes)
