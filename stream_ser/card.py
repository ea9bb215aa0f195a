"""The model card: everything the runtime must know about a network, as JSON inside its ONNX file.

The card sits in the file's ``metadata_props`` under :data:`CARD_KEY`. Nothing in it is ever evaluated: it is parsed
as JSON, checked field by field, and refused with a message that says what was found and what is needed.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from stream_ser.config import DeciderConfig, FeatureConfig, WindowConfig
from stream_ser.errors import ModelError

CARD_KEY = "stream_ser.card"
#: 2 added ``features.normalization``; a card of schema 1 has none and means ``corpus``.
SCHEMA_VERSION = 2
KINDS = ("emotion",)


Part = TypeVar("Part", FeatureConfig, WindowConfig, DeciderConfig)


def _checked(kind: type[Part], values: dict[str, Any]) -> Part:
    """Build a part of a card whose values are of the kind that its fields have: JSON tells 64 from 64.0.

    Raises:
        TypeError: an unknown field, or a value of another kind.
    """
    for field_ in fields(kind):
        value = values.get(field_.name, field_.default)
        if isinstance(field_.default, str):
            if not isinstance(value, str):
                raise TypeError(f"{field_.name} is {value!r}, expected a word")
            continue
        wanted = int if isinstance(field_.default, int) else (int, float)
        if isinstance(value, bool) or not isinstance(value, wanted) or not math.isfinite(value):
            raise TypeError(f"{field_.name} is {value!r}, expected a {'whole ' if wanted is int else ''}number")
    return kind(**values)


#: What JSON must give for the fields that are not parts of their own.
_KINDS: dict[str, type] = {
    **dict.fromkeys(("labels", "mean", "std"), list),
    **dict.fromkeys(("training", "results"), dict),
    **dict.fromkeys(("name", "licence"), str),
    "parameters": int,
}


@dataclass(frozen=True)
class Card:
    """A model's card.

    Attributes:
        name: short name, such as ``septr``.
        kind: ``emotion``: log-mel window in, one logit a label out.
        labels: the classes, in the order of the logits.
        features: the log-mel definition.
        mean: per-band mean that is subtracted, ``(n_mels,)``.
        std: per-band standard deviation that divides, ``(n_mels,)``.
        window: length and hop of the sliding window.
        temperature: divides the logits before the softmax (calibration on validation data).
        decider: defaults for smoothing and abstention, tuned for this model.
        parameters: trainable parameters of the network.
        training: corpora, split, seed, epochs, commit - for people, not read by the runtime.
        results: measured results, each with its protocol - for people.
        licence: terms that bind the weights.
        schema: version of this layout.
    """

    name: str
    labels: tuple[str, ...]
    features: FeatureConfig
    mean: tuple[float, ...]
    std: tuple[float, ...]
    window: WindowConfig = field(default_factory=WindowConfig)
    temperature: float = 1.0
    decider: DeciderConfig = field(default_factory=DeciderConfig)
    parameters: int = 0
    training: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    kind: str = "emotion"
    schema: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ModelError(f"card: kind {self.kind!r} is not one of {', '.join(KINDS)}; update stream-ser")
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ModelError("card: needs two or more different labels")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.features.n_mels or not all(map(math.isfinite, values)):
                raise ModelError(f"card: {name} must hold {self.features.n_mels} finite numbers")
        if min(self.std) <= 0.0:
            raise ModelError("card: std must be positive")
        if not (math.isfinite(self.temperature) and self.temperature > 0.0):
            raise ModelError(f"card: temperature {self.temperature} must be positive")

    def to_json(self) -> str:
        """The card as JSON text."""
        content = {**asdict(self), "schema": SCHEMA_VERSION}
        content["features"] = {"kind": "log-mel", **content["features"]}
        return json.dumps(content, indent=1, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Parse and check a card.

        Raises:
            ModelError: not JSON, a newer schema, missing or unknown fields, or values out of range.
        """
        try:
            content = json.loads(text)
        except ValueError as error:
            raise ModelError(f"card: not valid JSON ({error}); export the model again") from None
        if not isinstance(content, dict):
            raise ModelError("card: not a JSON object; export the model again")
        schema = content.get("schema")
        if not isinstance(schema, int) or schema < 1:
            raise ModelError(f"card: schema is {schema!r}, expected a whole number from 1 on")
        if schema > SCHEMA_VERSION:
            raise ModelError(
                f"card: schema {schema} is newer than {SCHEMA_VERSION}, the newest that this version of stream-ser "
                "reads; update stream-ser or export the model with this version"
            )
        try:
            for name, wanted in _KINDS.items():
                if name in content and not isinstance(content[name], wanted):
                    raise TypeError(f"{name} is {content[name]!r}, expected {wanted.__name__}")
            features = dict(content.pop("features"))
            feature_kind = features.pop("kind", None)
            if feature_kind != "log-mel":
                raise ModelError(f"card: feature kind {feature_kind!r} is not supported, expected 'log-mel'")
            return cls(
                features=_checked(FeatureConfig, features),
                window=_checked(WindowConfig, content.pop("window")),
                decider=_checked(DeciderConfig, content.pop("decider")),
                labels=tuple(map(str, content.pop("labels"))),
                mean=tuple(map(float, content.pop("mean"))),
                std=tuple(map(float, content.pop("std"))),
                **content,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"card: {type(error).__name__}: {error}; export the model again") from None
