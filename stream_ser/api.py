"""Recognition in one call: a clip, or the microphone. For audio of your own there is ``Recognizer``.

Example:
    >>> import numpy as np
    >>> import stream_ser as ss
    >>> result = ss.recognize(np.zeros(16_000, dtype=np.float32), vad=None)
    >>> result.label, result.seconds
    ('silence', 1.0)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ser.config import DEFAULT_VAD, SAMPLE_RATE_HZ, DeciderConfig, VadConfig
from stream_ser.events import Block, Decision, Event, Gap, Prediction, Transcript
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.recognition.voice_profile import VoiceProfile
from stream_ser.runtime.engine import DEFAULT_MODEL, Engine, Provider, load
from stream_ser.sources.base import Source
from stream_ser.sources.block_resampler import BlockResampler, resampled
from stream_ser.sources.file import FileSource
from stream_ser.sources.microphone import Microphone

Model = str | os.PathLike[str] | Engine
Audio = str | os.PathLike[str] | NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Recognition:
    """What was heard in a clip.

    Attributes:
        label: emotion that the timeline carries longest; where it carries none ``uncertain``, ``too short`` or
            ``silence``.
        confidence: calibrated probability that the label is right.
        probabilities: of each of the model's labels, means over the speech; empty for silence.
        seconds: length of the clip.
        sample_rate: Hz, at which ``events`` count.
        events: every :class:`Prediction`, :class:`Provisional`, :class:`Decision`, :class:`Gap` and
            :class:`Transcript`, in order.
        warning: what was wrong with a file that could be used all the same, such as that it is truncated.
    """

    label: str
    confidence: float
    probabilities: dict[str, float]
    seconds: float
    sample_rate: int
    events: tuple[Event, ...]
    warning: str | None = None

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The timeline: stretches of one label each, without holes."""
        return tuple(event for event in self.events if isinstance(event, Decision))

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        """What the network said of each window."""
        return tuple(event for event in self.events if isinstance(event, Prediction))

    @property
    def transcript(self) -> tuple[Transcript, ...]:
        """What was said, line by line, each with its words and its emotion; none from a model that knows no words."""
        return tuple(event for event in self.events if isinstance(event, Transcript) and event.final)

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Audio that was lost."""
        return tuple(event for event in self.events if isinstance(event, Gap))


class _Samples:
    """An array as a source."""

    name = "samples"
    parts = ("",)
    overflows = 0
    warning = None

    def __init__(self, samples: NDArray[np.floating], sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._samples = samples

    def __iter__(self) -> Iterator[Block]:
        """Blocks of a tenth of a second."""
        size = max(1, self.sample_rate // 10)
        for first in range(0, len(self._samples), size):
            yield Block(np.asarray(self._samples[first : first + size], dtype=np.float32))

    def close(self) -> None:
        """There is nothing to release."""


def recognize(
    audio: Audio,
    *,
    sample_rate: int = SAMPLE_RATE_HZ,
    model: Model = DEFAULT_MODEL,
    provider: Provider = "auto",
    decider: DeciderConfig | None = None,
    vad: VadConfig | None = DEFAULT_VAD,
    adapt: bool = True,
    voice: VoiceProfile | None = None,
) -> Recognition:
    """Recognise a clip.

    Args:
        audio: a file that libsndfile reads, or samples ``(time,)`` with full scale at 1.0.
        sample_rate: of the samples, Hz; a file knows its own.
        model: name of a bundled model, an ``.onnx`` file, or an engine from :func:`stream_ser.load`, which saves
            loading it for every clip.
        provider: where the network runs, if it is loaded here.
        decider: costs and thresholds; those of the model's card by default.
        vad: voice activity detection, None for none.
        adapt: as for :class:`Recognizer`.
        voice: as for :class:`Recognizer`.

    Raises:
        AudioError: a file that cannot be read, samples that are not finite, or less audio than the model needs.
        ModelError: no such model.
        ProviderError: ``cuda`` was asked for and cannot be had.
        ValueError: samples that are not ``(time,)`` or whole numbers, or a rate below 1 Hz.

    Example:
        >>> tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
        >>> result = recognize(tone, sample_rate=44_100)
        >>> [(decision.label, decision.end) for decision in result.decisions]
        [('silence', 15872)]
    """
    recognizer = Recognizer(_engine(model, provider), decider, vad=vad, adapt=adapt, voice=voice)
    if isinstance(audio, np.ndarray):
        if audio.ndim != 1 or audio.dtype.kind != "f" or sample_rate < 1:
            raise ValueError(
                f"samples are {audio.dtype} {audio.shape} at {sample_rate} Hz, expected floats (time,) with full scale "
                "at 1, at 1 Hz or more; divide 16-bit samples by 32768"
            )
        return _recognition(recognizer, _Samples(audio, sample_rate))
    with FileSource(audio) as source:
        return _recognition(recognizer, source)


def listen(
    device: int | str | None = None,
    *,
    model: Model = DEFAULT_MODEL,
    provider: Provider = "auto",
    duration_s: float | None = None,
    decider: DeciderConfig | None = None,
    vad: VadConfig | None = DEFAULT_VAD,
    adapt: bool = True,
    voice: VoiceProfile | None = None,
) -> Iterator[Event]:
    """Listen to a microphone, and yield events as they come.

    The microphone is opened at the first event that is asked for, and closed when the iteration ends, for
    whatever reason.

    Args:
        device: index, name or part of a name (``stream-ser devices``); the system's default input if None.
        model: as for :func:`recognize`.
        provider: as for :func:`recognize`.
        duration_s: seconds after which to end; None listens until the caller stops.
        decider: as for :func:`recognize`.
        vad: as for :func:`recognize`.
        adapt: as for :class:`Recognizer`.
        voice: as for :class:`Recognizer`.

    Yields:
        A :class:`Prediction` every hop, a :class:`Provisional` label while somebody speaks, a :class:`Decision` where
        it is final, a :class:`Gap` where
        audio was lost, a :class:`Notice` of what becomes known of the device, and from a model that transcribes a
        :class:`Transcript` whenever a line of words has grown.

    Raises:
        DeviceError: no such device, or it was lost.
        ModelError: as for :func:`recognize`.
        ProviderError: as for :func:`recognize`.
        AudioError: less than the model needs was heard before the end.
    """
    recognizer = Recognizer(_engine(model, provider), decider, vad=vad, adapt=adapt, voice=voice)
    with Microphone(device, duration_s=duration_s) as microphone:
        resampler = BlockResampler(microphone.sample_rate, recognizer.card.features.sample_rate)
        microphone.needs_s = lambda: recognizer.needs_s - resampler.held_s
        yield from _events(recognizer, microphone, resampler)


def _engine(model: Model, provider: Provider) -> Engine:
    return load(model, provider) if isinstance(model, (str, os.PathLike)) else model


def _events(recognizer: Recognizer, source: Source, resampler: BlockResampler | None = None) -> Iterator[Event]:
    for block in resampled(source, recognizer.card.features.sample_rate, resampler):
        yield from recognizer.push_block(block)
    yield from recognizer.flush()


def _recognition(recognizer: Recognizer, source: Source) -> Recognition:
    events = tuple(_events(recognizer, source))
    summary = recognizer.summary()
    rate = recognizer.card.features.sample_rate
    return Recognition(
        summary.label,
        summary.confidence,
        dict(zip(recognizer.card.labels, summary.probabilities, strict=False)),
        summary.samples / rate,
        rate,
        events,
        source.warning,
    )
