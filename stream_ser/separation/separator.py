"""Separation as a stage of a stream: a mixture in, its sources out, in step with it and of the same length.

What the network gives late is moved back to where it belongs, so every position stays right. The network is always
asked for the same number of hops at once: any split of the samples into blocks gives the same sources, to the last bit.
"""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_ser.audio.resample import Resampler
from stream_ser.config import LOUDEST
from stream_ser.errors import AudioError, ModelError
from stream_ser.runtime.card.recognition import CARD_KEY
from stream_ser.runtime.card.separation import AFTER, KIND, MIXTURE, SOURCES, SeparatorCard
from stream_ser.runtime.engine import CPU, open_session, reason
from stream_ser.runtime.onnx_scan import read_metadata
from stream_ser.text import printable

DEFAULT_SEPARATOR = "separator"
#: Live, a hop at once: nothing waits for longer than it must.
LIVE_HOPS = 1
_NONE = np.zeros(0, np.float32)


def bundled_separators() -> list[Path]:
    """Paths of the bundled separators, by name; apart from the models that recognise."""
    return sorted(Path(str(resources.files("stream_ser.assets"))).glob("separators/*.onnx"))


def find_separator(model: str | os.PathLike[str]) -> Path:
    """Path of a bundled separator (by name) or of an ONNX file.

    Raises:
        ModelError: neither.
    """
    named = {path.stem: path for path in bundled_separators()}
    text = os.fspath(model)
    path = named.get(text, Path(text))
    if path.is_dir():
        raise ModelError(f"{text}: is a folder, expected an .onnx file")
    if not path.is_file():
        known = ", ".join(named) or "none"
        raise ModelError(
            f"{text}: no such separator file, nor a bundled separator (bundled: {known}); give a file of 'stream-ser "
            "export --model separator'"
        )
    return path


def is_separator(model: str | os.PathLike[str]) -> bool:
    """Whether a name or file is that of a separator, and not of a model that recognises, or of nothing."""
    text = os.fspath(model)
    if text in {path.stem for path in bundled_separators()}:
        return True
    try:
        content = json.loads(read_metadata(Path(text)).get(CARD_KEY, "")) if Path(text).is_file() else None
    except (ModelError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("kind") == KIND


class Separator:
    """An exported separator, on the CPU: a hop is too little work for a journey to a GPU and back.

    Args:
        model: name or file.
        threads: inside one inference.

    Attributes:
        path: the file.
        card: its card.

    Raises:
        ModelError: no such file, no ONNX, no card, another kind of network, or a graph that does not fit the card.
    """

    def __init__(self, model: str | os.PathLike[str] = DEFAULT_SEPARATOR, threads: int = 1) -> None:
        self.path = path = find_separator(model)
        text = read_metadata(path).get(CARD_KEY)
        if text is None:
            raise ModelError(f"{path}: has no stream-ser card; make it with 'stream-ser export --model separator'")
        try:
            self.card = SeparatorCard.from_json(text)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None
        self._run = open_session(path, [CPU], threads)
        self._check_signature()
        self.separate(np.zeros(self.card.hop_length, np.float32), self.initial_state())

    def _check_signature(self) -> None:
        card = self.card
        names = [name for name, _ in card.state]
        for kind, values, wanted in (
            ("inputs", self._run.get_inputs(), [MIXTURE, *names]),
            ("outputs", self._run.get_outputs(), [SOURCES, *(name + AFTER for name in names)]),
        ):
            try:
                found = [value.name for value in values]
            except UnicodeDecodeError as error:
                raise ModelError(f"{self.path}: a name is no UTF-8 ({error.reason}); export it again") from None
            if found != wanted:
                raise ModelError(
                    f"{self.path}: its {kind} are {printable(', '.join(found), 200)}, but its card needs "
                    f"{', '.join(wanted)}; export it again"
                )

    def initial_state(self) -> dict[str, NDArray[np.float32]]:
        """The state before the first sample: zeros."""
        return {name: np.zeros(shape, np.float32) for name, shape in self.card.state}

    def separate(
        self, samples: NDArray[np.float32], state: dict[str, NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
        """Run the network once.

        Args:
            samples: ``(time,)``, whole hops.
            state: after the samples before.

        Returns:
            ``(sources, time)``, late by ``card.delay`` samples, and the state after them.

        Raises:
            ModelError: the network fails, or returns what is not finite or of another shape.
        """
        try:
            sources, *after = self._run.run(None, {MIXTURE: samples[None], **state})
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class
            raise ModelError(f"{self.path}: the network cannot be run ({reason(error)}); export it again") from None
        expected = [(1, len(self.card.sources), samples.size), *(shape for _, shape in self.card.state)]
        shapes = [np.shape(value) for value in (sources, *after)]
        if shapes != expected or not np.isfinite(sources).all():
            what = f"{shapes[0]}, expected {expected[0]}" if shapes != expected else "values that are not finite"
            raise ModelError(f"{self.path}: the network returned {what}; export it again")
        return np.asarray(sources[0], np.float32), dict(zip(state, after, strict=True))


class SeparatorStream:
    """One stream through a separator: ``n`` samples in give ``n`` samples of each source, in step.

    Args:
        separator: which streams may share.
        sample_rate: Hz, of what goes in and what comes out; the separator's own by default.
        hops: that the network gets at once. More is faster and, live, later.

    Attributes:
        latency_s: longest time from a sample's arrival to that of its output, without computation.
    """

    def __init__(self, separator: Separator, sample_rate: int | None = None, hops: int = LIVE_HOPS) -> None:
        if hops < 1:
            raise ValueError(f"hops is {hops}, expected 1 or more")
        card = separator.card
        self.separator = separator
        self.sample_rate = sample_rate or card.sample_rate
        self._step = hops * card.hop_length
        self.latency_s = (card.delay + self._step) / card.sample_rate
        self.reset()

    @property
    def sources(self) -> tuple[str, ...]:
        """What comes out, in order."""
        return self.separator.card.sources

    def reset(self) -> None:
        """Begin a new stream."""
        card = self.separator.card
        self._down = Resampler(self.sample_rate, card.sample_rate)
        self._up = [Resampler(card.sample_rate, self.sample_rate) for _ in card.sources]
        self._state = self.separator.initial_state()
        self._waiting = _NONE
        self._late = card.delay
        self._taken = self._given = 0

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take ``(time,)`` samples; ``(sources, time)`` that are ready, at first often none.

        Raises:
            AudioError: a sample is NaN or infinite; the stream is left as it was before.
            ModelError: see :meth:`Separator.separate`.
        """
        if not (fine := np.abs(samples) <= LOUDEST).all():
            index = int(fine.argmin())
            raise AudioError(
                f"sample {self._taken + index} is {samples[index]:g}, expected finite numbers with full scale at 1; "
                "export the audio again"
            )
        self._taken += len(samples)
        return self._emit(self._separated(self._down.push(samples)))

    def flush(self) -> NDArray[np.float32]:
        """The rest, ``(sources, time)``, as if silence followed; and begin a new stream."""
        card = self.separator.card
        rest = self._down.flush()
        missing = -(len(self._waiting) + len(rest) + card.delay) % self._step
        late = self._emit(self._separated(np.concatenate([rest, np.zeros(card.delay + missing, np.float32)])))
        missing = self._taken - self._given
        # Rates that do not divide leave a sample more or less.
        last = np.stack([up.flush() for up in self._up])[:, :missing]
        whole = np.concatenate([late, np.pad(last, ((0, 0), (0, missing - last.shape[1])))], axis=1)
        self.reset()
        return whole

    def _separated(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sources at the separator's rate, those that lie before the first sample left out."""
        waiting = np.concatenate([self._waiting, samples]) if len(self._waiting) else samples
        whole = len(waiting) - len(waiting) % self._step
        parts = []
        for first in range(0, whole, self._step):
            part, self._state = self.separator.separate(
                np.ascontiguousarray(waiting[first : first + self._step], np.float32), self._state
            )
            parts.append(part)
        self._waiting = waiting[whole:].copy()
        if not parts:
            return np.zeros((len(self.sources), 0), np.float32)
        joined = np.concatenate(parts, axis=1)[:, self._late :] if self._late else np.concatenate(parts, axis=1)
        self._late = max(0, self._late - whole)
        return joined

    def _emit(self, sources: NDArray[np.float32]) -> NDArray[np.float32]:
        """At the stream's rate, and never more than was put in."""
        out = np.stack([up.push(source) for up, source in zip(self._up, sources, strict=True)])
        out = out[:, : self._taken - self._given]
        self._given += out.shape[1]
        return out
