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
from stream_ser.runtime.card.base import (
    MAX_DELAY_FRAMES,
    Memory,
    State,
    characters_of,
    check_memory,
    check_states,
    check_vocabulary,
    memory_of,
    states_of,
)
from stream_ser.text import printable

CARD_KEY = "stream_ser.card"
#: 2 added ``features.normalization``; a card of schema 1 has none and means ``corpus``.
SCHEMA_VERSION = 2
#: 3 added streaming networks.
STREAMING_VERSION = 3
#: 4 brought another decider, 5 another way to find changes within an utterance. Of an older card's settings only what
#: still means the same is read.
DECIDER_VERSION = 5
#: 6 added a memory of the voice. A card without one is written as of the schema before, which older programs read.
MEMORY_VERSION = 6
_OLDER_DECIDER = ("abstain_below", "silence_dbfs")
_CUTS_OF_4 = ("cut_cost", "memory_s")
KINDS = ("emotion", "multitask")
#: Networks with cards of their own: what they do instead, and the command that does it.
_OTHER_KINDS = {
    "separator": ("separates sources", "separate"),
    "transcriber": ("writes down what is said", "transcribe"),
}
#: Names of a streaming network's input and outputs; see the card's ``states`` for the others.
FEATURES, LOGITS, LOG_PROBS = "features", "logits", "log_probs"
_STREAMING_FIELDS = ("states", "vocabulary", "blank", "stride", "delay_frames")

# What a card may ask for: far above any network for speech, far below what would fill a machine's memory.
MAX_CARD_BYTES = 1024**2
MAX_LABELS, MAX_LABEL_LENGTH = 256, 64
#: Least and most of what the fields of the parts may hold: Hz, samples, bands, frames, seconds.
_RANGES: dict[str, tuple[float, float]] = {
    "sample_rate": (1_000, 192_000),
    "n_fft": (16, 16_384),
    "hop_length": (1, 16_384),
    "n_mels": (1, 256),
    "log_floor": (1e-30, 1.0),
    "frames": (0, 50_000),
    "hop": (0, 50_000),
    "listen_s": (0.0, 3_600.0),
    "switch_cost": (0.0, 100.0),
    "hold_s": (0.0, 3_600.0),
    "change_distance": (0.0, 1.0),
    "min_duration_s": (0.0, 3_600.0),
    "silence_s": (0.0, 3_600.0),
    "hangover_s": (0.0, 1.0),
    "short_s": (0.0, 3_600.0),
    "limit_s": (1.0, 300.0),
    "temperature": (1e-2, 1e2),
    "onset_temperature": (1e-2, 1e2),
    "onset_s": (1e-2, 3_600.0),
}
#: The log-mel window is float32 and held in a few copies.
_MAX_WINDOW_BYTES = 32 * 1024**2
_STD_RANGE = _TEMPERATURE_RANGE = (1e-3, 1e3)
_MAX_MEAN = 1e3


Part = TypeVar("Part", FeatureConfig, WindowConfig, DeciderConfig)


def checked_part(kind: type[Part], values: dict[str, Any]) -> Part:
    """Build a part of a card whose values are of the kind that its fields have: JSON tells 64 from 64.0.

    Raises:
        TypeError: an unknown field, or a value of another kind.
        ValueError: a value out of range.
    """
    for field_ in fields(kind):
        value = values.get(field_.name, field_.default)
        if isinstance(field_.default, str):
            if not isinstance(value, str):
                raise TypeError(f"{field_.name} is {shown(value)}, expected a word")
            continue
        wanted = int if isinstance(field_.default, int) else (int, float)
        if isinstance(value, bool) or not isinstance(value, wanted) or not _is_finite(value):
            raise TypeError(f"{field_.name} is {shown(value)}, expected a {'whole ' if wanted is int else ''}number")
        least, most = _RANGES.get(field_.name, (value, value))
        if not least <= value <= most:
            raise ValueError(f"{field_.name} is {shown(value)}, expected {least:g} to {most:g}")
    return kind(**values)


def shown(value: object) -> str:
    """A value from a card, fit for a message."""
    return printable(repr(value), 80)


def _is_finite(value: float) -> bool:
    """Whether a number is one that float can hold; JSON has whole numbers of any length."""
    return -1e300 < value < 1e300


def numbers(name: str, values: list[Any]) -> tuple[float, ...]:
    """Floats of a list from JSON; NaN for one that no float can hold.

    Raises:
        TypeError: something else in it.
    """
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} holds {shown(value)}, expected numbers")
    return tuple(float(value) if _is_finite(value) else math.nan for value in values)


def check_texts(value: Any, where: str) -> None:
    """Refuse control characters in all that people are shown: a card does not drive a terminal.

    Raises:
        ValueError: a name or a text holds one.
    """
    if isinstance(value, str):
        if not value.replace("\n", " ").isprintable():
            raise ValueError(f"{where} holds control characters: {shown(value)}")
    elif isinstance(value, dict):
        for key, inner in value.items():
            check_texts(key, where)
            check_texts(inner, where)
    elif isinstance(value, list | tuple):
        for inner in value:
            check_texts(inner, where)


def check_constants(mean: tuple[float, ...], std: tuple[float, ...], n_mels: int) -> None:
    """Refuse constants that cannot normalise a log-mel.

    Raises:
        ModelError: not one for each band, not finite, or out of range.
    """
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != n_mels or not all(map(math.isfinite, values)):
            raise ModelError(f"card: {name} must hold {n_mels} finite numbers")
    if max(map(abs, mean)) > _MAX_MEAN:
        raise ModelError(f"card: mean must lie within -{_MAX_MEAN:g} to {_MAX_MEAN:g}")
    if not _STD_RANGE[0] <= min(std) <= max(std) <= _STD_RANGE[1]:
        raise ModelError(f"card: std must be positive, from {_STD_RANGE[0]:g} to {_STD_RANGE[1]:g}")


#: What JSON must give for the fields that are not parts of their own.
_KINDS: dict[str, type] = {
    **dict.fromkeys(("labels", "mean", "std", "states", "vocabulary"), list),
    **dict.fromkeys(("training", "results"), dict),
    **dict.fromkeys(("name", "licence"), str),
    **dict.fromkeys(("parameters", "blank", "stride", "delay_frames"), int),
}


@dataclass(frozen=True)
class Card:
    """A model's card.

    Attributes:
        name: short name, such as ``septr``.
        kind: ``emotion``: log-mel in, one logit a label out; ``multitask``: what is said, too.
        labels: the classes, in the order of the logits.
        features: the log-mel definition.
        mean: per-band mean that is subtracted, ``(n_mels,)``.
        std: per-band standard deviation that divides, ``(n_mels,)``.
        window: length and hop of the sliding window.
        temperature: divides the logits before the softmax (calibration on validation data).
        decider: costs, thresholds and calibration of labels, tuned for this model.
        parameters: trainable parameters of the network.
        training: corpora, split, seed, epochs, commit - for people, not read by the runtime.
        results: measured results, each with its protocol - for people.
        licence: terms that bind the weights.
        states: of a streaming network, which takes the newest ``window.hop`` frames, already normalised, as
            ``features (1, n_mels, hop)``, with these; its ``logits (1, labels)`` are of all that it heard since the
            states were zeros. Empty for a network that takes a whole window, ``log_mel``.
        vocabulary: of a multitask network: the character of each class of its output
            ``log_probs (1, hop / stride, classes)``; the blank's is empty.
        blank: class index.
        stride: frames from one step of ``log_probs`` to the next.
        delay_frames: the step that begins at frame ``f`` describes the audio from frame ``f - delay_frames`` on.
        memory: what a streaming network remembers of the voice from utterance to utterance; None for nothing.
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
    states: tuple[State, ...] = ()
    vocabulary: tuple[str, ...] = ()
    blank: int = 0
    stride: int = 1
    delay_frames: int = 0
    memory: Memory | None = None
    schema: int = DECIDER_VERSION

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ModelError(f"card: kind {shown(self.kind)} is not one of {', '.join(KINDS)}; update stream-ser")
        self._check_names()
        self._check_streaming()
        check_constants(self.mean, self.std, self.features.n_mels)
        if not _TEMPERATURE_RANGE[0] <= self.temperature <= _TEMPERATURE_RANGE[1]:
            raise ModelError(
                f"card: temperature {self.temperature:g} must be positive, from {_TEMPERATURE_RANGE[0]:g} to "
                f"{_TEMPERATURE_RANGE[1]:g}"
            )
        if 4 * self.features.n_mels * self.window.frames > _MAX_WINDOW_BYTES:
            raise ModelError(
                f"card: a window of {self.window.frames} frames of {self.features.n_mels} bands is more than "
                f"{_MAX_WINDOW_BYTES // 1024**2} MiB; export the model with a shorter one"
            )

    def _check_names(self) -> None:
        if len(self.name) > MAX_LABEL_LENGTH or not self.name.isprintable():
            raise ModelError(f"card: name {shown(self.name)} is not up to {MAX_LABEL_LENGTH} printable characters")
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ModelError("card: needs two or more different labels")
        if len(self.labels) > MAX_LABELS:
            raise ModelError(f"card: has {len(self.labels)} labels, expected at most {MAX_LABELS}")
        for label in self.labels:
            if not label.strip() or len(label) > MAX_LABEL_LENGTH or not label.isprintable():
                raise ModelError(
                    f"card: label {shown(label)} is not 1 to {MAX_LABEL_LENGTH} printable characters; export the "
                    "model with other labels"
                )

    def _check_streaming(self) -> None:
        if self.states:
            check_states(self.states, {FEATURES, LOGITS, LOG_PROBS})
            if self.memory is not None:
                check_memory(self.memory, self.states, {FEATURES, LOGITS, LOG_PROBS})
            if self.features.normalization != "corpus":
                raise ModelError(
                    f"card: normalization {self.features.normalization!r} looks at a whole window, which a streaming "
                    "network never has; expected 'corpus'"
                )
        elif self.memory is not None:
            raise ModelError("card: has a memory but no states, expected a streaming network; export it with them")
        if self.kind != "multitask":
            if self.vocabulary:
                raise ModelError(f"card: kind {self.kind!r} has a vocabulary, expected none; say kind 'multitask'")
            return
        if not self.states:
            raise ModelError("card: kind 'multitask' has no states, expected a streaming network; export it with them")
        check_vocabulary(self.vocabulary, self.blank)
        if not 1 <= self.stride <= self.window.hop or self.window.hop % self.stride:
            raise ModelError(f"card: stride {self.stride} does not divide the hop of {self.window.hop} frames")
        if not 0 <= self.delay_frames <= MAX_DELAY_FRAMES:
            raise ModelError(f"card: delay_frames is {shown(self.delay_frames)}, expected 0 to {MAX_DELAY_FRAMES}")

    def to_json(self) -> str:
        """The card as JSON text."""
        content = {**asdict(self), "schema": DECIDER_VERSION if self.memory is None else MEMORY_VERSION}
        if self.memory is None:
            del content["memory"]
        if not self.states:
            for name in _STREAMING_FIELDS:
                del content[name]
        content["features"] = {"kind": "log-mel", **content["features"]}
        return json.dumps(content, indent=1, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Parse and check a card.

        Raises:
            ModelError: not JSON, a newer schema, missing or unknown fields, or values out of range.
        """
        if len(text) > MAX_CARD_BYTES:
            raise ModelError(f"card: {len(text):,} characters, expected at most {MAX_CARD_BYTES:,}")
        try:
            content = json.loads(text)
        except RecursionError:
            raise ModelError("card: nested too deeply; export the model again") from None
        except ValueError as error:
            raise ModelError(f"card: not valid JSON ({error}); export the model again") from None
        if not isinstance(content, dict):
            raise ModelError("card: not a JSON object; export the model again")
        if other := _OTHER_KINDS.get(str(content.get("kind"))):
            raise ModelError(
                f"card: kind {content['kind']!r} is a network that {other[0]}, expected one that recognises emotion; "
                f"use it with 'stream-ser {other[1]}'"
            )
        schema = content.get("schema")
        if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
            raise ModelError(f"card: schema is {shown(schema)}, expected a whole number from 1 on")
        if schema > MEMORY_VERSION:
            raise ModelError(
                f"card: schema {shown(schema)} is newer than {MEMORY_VERSION}, the newest that this stream-ser "
                "reads; update stream-ser or export the model with this version"
            )
        try:
            for name, wanted in _KINDS.items():
                if name in content and (
                    not isinstance(content[name], wanted) or (wanted is int and isinstance(content[name], bool))
                ):
                    raise TypeError(f"{name} is {shown(content[name])}, expected {wanted.__name__}")
            for name in ("name", "licence", "training", "results", "states", "vocabulary"):
                check_texts(content.get(name), name)
            if strange := [label for label in content["labels"] if not isinstance(label, str)]:
                raise TypeError(f"labels holds {shown(strange[0])}, expected words")
            features = dict(content.pop("features"))
            feature_kind = features.pop("kind", None)
            if feature_kind != "log-mel":
                raise ModelError(f"card: feature kind {shown(feature_kind)} is not supported, expected 'log-mel'")
            decider = content.pop("decider")
            if schema == 4:
                decider = {name: value for name, value in decider.items() if name not in _CUTS_OF_4}
            elif schema < DECIDER_VERSION:
                decider = {name: decider[name] for name in _OLDER_DECIDER if name in decider}
            return cls(
                features=checked_part(FeatureConfig, features),
                window=checked_part(WindowConfig, content.pop("window")),
                decider=checked_part(DeciderConfig, decider),
                labels=tuple(content.pop("labels")),
                mean=numbers("mean", content.pop("mean")),
                std=numbers("std", content.pop("std")),
                temperature=numbers("temperature", [content.pop("temperature", 1.0)])[0],
                states=states_of(content.pop("states", ())),
                memory=memory_of(content.pop("memory", None)),
                vocabulary=characters_of(content.pop("vocabulary", ())),
                **content,
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            said = printable(f"{type(error).__name__}: {error}", 300)
            raise ModelError(f"card: {said}; export the model again") from None
