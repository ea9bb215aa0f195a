"""Wires the stages: samples -> frames -> log-mel columns -> windows -> network -> decisions.

Beside them, voice activity detection hears the same samples; the network is asked only where somebody speaks.

Nothing here knows the time of day: positions are sample counts, and any split of the same samples into blocks gives
the same events, to the last bit. Only ``Prediction.timing`` is measured, and it takes no part in comparisons.
"""

from __future__ import annotations

import os
import time

import numpy as np
from numpy.typing import NDArray

from stream_ser.config import DEFAULT_VAD, LOUDEST, DeciderConfig, VadConfig
from stream_ser.decider import Decider
from stream_ser.engine import DEFAULT_MODEL, Engine, load
from stream_ser.errors import AudioError, ModelError
from stream_ser.events import (
    SILENCE,
    UNCERTAIN,
    Block,
    Decision,
    Event,
    Gap,
    Notice,
    Prediction,
    StreamInfo,
    Summary,
    Timing,
)
from stream_ser.features import LogMel
from stream_ser.framer import Framer
from stream_ser.vad import CHUNK_MS, Voice, VoiceDetector, newest_utterance

#: Level of digital silence, dBFS: finite, so that every output format can write it.
LOWEST_DBFS = -120.0

# What a column holds behind the frame's log-mel: its mean square, which gives the level, and whether somebody is
# speaking in it, then whether somebody is speaking or pausing.
_POWER, _VOICED, _SPEAKING = -3, -2, -1
_EXTRA = 3


def to_dbfs(mean_square: float) -> float:
    """Mean square of samples with full scale 1.0 as dB relative to full scale, at least :data:`LOWEST_DBFS`."""
    return max(LOWEST_DBFS, 10.0 * float(np.log10(max(mean_square, 1e-30))))


class Recognizer:
    """Recognises the emotion of one stream of mono samples at the card's rate (16 kHz in the bundled models).

    Args:
        engine: a loaded model, which recognisers that take turns may share; or what :func:`stream_ser.load` takes.
        decider: smoothing and thresholds; default: those of the model's card.
        vad: voice activity detection; None claims an emotion of whatever is loud enough.
        keep_judged: keep what the summary is the mean of. Grows with the stream: for evaluation, on clips.

    Attributes:
        judged: probabilities of each window that the summary rests on, empty unless asked for.

    Raises:
        ModelError: the card's log-mel cannot be computed, or there is no voice activity detection at its rate or on
            this platform.

    Example:
        >>> recognizer = Recognizer(vad=None)
        >>> events = recognizer.push(np.zeros(40_000, dtype=np.float32))
        >>> [(event.start, event.end, event.probabilities) for event in events][-1]
        (0, 36352, ())
        >>> recognizer.flush()[-1].label, recognizer.summary().label
        ('silence', 'silence')
    """

    def __init__(
        self,
        engine: Engine | str | os.PathLike[str] = DEFAULT_MODEL,
        decider: DeciderConfig | None = None,
        *,
        vad: VadConfig | None = DEFAULT_VAD,
        keep_judged: bool = False,
    ) -> None:
        self.engine = engine = load(engine) if isinstance(engine, (str, os.PathLike)) else engine
        self.card = engine.card
        features, window = self.card.features, self.card.window
        try:
            self._log_mel = LogMel(features)
        except ValueError as error:
            raise ModelError(f"{engine.path}: {error}; export the model again") from None
        self._frames = Framer(features.n_fft, features.hop_length)
        self._nothing = np.full(features.n_mels + _EXTRA, self._log_mel.silence, dtype=np.float32)
        self._nothing[-_EXTRA:] = 0.0
        self._columns = Framer(
            window.frames,
            window.hop,
            (features.n_mels + _EXTRA,),
            first=window.minimum,
            fill=self._nothing,
            at_once=1,
        )
        self._vad = None if vad is None else VoiceDetector(features.sample_rate, vad)
        self._keep_judged = keep_judged
        self._decider = Decider(self.card.labels, features.sample_rate, decider or self.card.decider)
        self.reset()

    def reset(self, start: int = 0) -> None:
        """Back to the start of a stream.

        Args:
            start: position of its first sample. The events are those of a stream that starts at 0, shifted by this: for
                parts of a longer recording, and to see that no counter breaks after days.

        Raises:
            ValueError: ``start`` is negative.
        """
        if start < 0:
            raise ValueError(f"start is {start}, expected 0 or more")
        self._start = start
        self._first_column = start // self.card.features.hop_length
        self._frames.reset(start)
        self._columns.reset(self._first_column)
        self._decider.reset(start)
        if self._vad is not None:
            self._vad.reset(start)
        # Chunks that the next frame may look at, the last one that it can see first.
        self._voices = [Voice(start, 0.0, False, False)]
        self._samples = start
        self._lost = 0
        self._skipped = 0
        self._skipped_last = False
        self._features_s = 0.0
        self._fullest = 0
        self._sum = np.zeros(len(self.card.labels))
        self._count = 0
        self.judged: list[tuple[float, ...]] = []
        self._seconds: dict[str, float] = {}

    @property
    def current(self) -> Decision | None:
        """The label that is being shown now, or None before the first prediction."""
        return self._decider.current

    @property
    def smoothed(self) -> tuple[float, ...]:
        """Smoothed probabilities; empty in silence and before the first prediction."""
        return self._decider.smoothed

    def info(self, name: str) -> StreamInfo:
        """What a sink is told first."""
        return StreamInfo(name, self.card.name, self.card.labels, self.card.features.sample_rate)

    def push(
        self,
        samples: NDArray[np.float32],
        *,
        lost: int = 0,
        gap: int = 0,
        behind: bool = False,
        captured_at: float | None = None,
    ) -> list[Event]:
        """Take a block of any size.

        Args:
            samples: ``(time,)`` float32 at the card's sample rate, full scale at 1.0.
            lost: samples that were lost right before this block. They are replaced by zeros, so that every later
                position is right, and reported as a :class:`Gap`.
            gap: a loss of this many samples begins with the block: what stands for it is in the block and the next.
            behind: hear the block without asking the network: the predictions that it would ask for are counted and
                left out. The same blocks with the same marks give the same events.
            captured_at: ``time.monotonic()`` at the capture of the block's last sample.

        Raises:
            AudioError: a sample is NaN or infinite; the recogniser is left as it was before the block.
            ValueError: not one-dimensional.
        """
        samples = np.asarray(samples, dtype=np.float32)
        if samples.ndim != 1:
            raise ValueError(f"samples has shape {samples.shape}, expected (time,)")
        if not (fine := np.abs(samples) <= LOUDEST).all():
            index = int(fine.argmin())
            position = self._samples + index
            raise AudioError(
                f"sample {position} (at {position / self.card.features.sample_rate:.3f} s) is "
                f"{samples[index]:g}, expected finite numbers with full scale at 1; export the audio again"
            )
        events: list[Event] = []
        if lost:
            events.append(Gap(self._samples, lost))
            self._lost += lost
            second = np.zeros(self.card.features.sample_rate, dtype=np.float32)
            for first in range(0, lost, second.size):
                self._take(second[: lost - first], events, None, behind)
        if gap:
            events.append(Gap(self._samples, gap))
            self._lost += gap
        self._take(samples, events, captured_at, behind)
        return events

    def push_block(self, block: Block) -> list[Event]:
        """Take a block of a source at the model's rate (see ``sources.resampled``) with all that it says.

        Raises:
            AudioError: as :meth:`push`.
        """
        events: list[Event] = [Notice(self._samples, kind, text) for kind, text in block.notices]
        return events + self.push(
            block.samples, lost=block.lost, gap=block.gap, behind=block.behind, captured_at=block.captured_at
        )

    def flush(self) -> list[Event]:
        """End of the stream: the last window and the open decision.

        Raises:
            AudioError: the stream is too short for a prediction.
        """
        events: list[Event] = []
        shortest = self.card.window.shortest
        if self._columns.total - self._first_column < shortest:
            features = self.card.features
            needed_s = features.samples_for(shortest) / features.sample_rate
            heard = self._samples - self._start
            unit = "sample" if heard == 1 else "samples"
            raise AudioError(
                f"{heard} {unit} ({heard / features.sample_rate:.3f} s) of audio, too short: the "
                f"model needs at least {needed_s:.2f} s"
            )
        last = self._columns.flush(again=self._skipped_last)
        if last is not None:
            self._predict(last.end, last.values[0], events, None)
        self._emit_decisions(self._decider.flush(), events)
        return events

    def summary(self) -> Summary:
        """The stream as a whole, so far."""
        label = SILENCE
        probabilities: tuple[float, ...] = ()
        if self._count:
            probabilities = tuple((self._sum / self._count).tolist())
            best = max(probabilities)
            sure = best >= self._decider.config.abstain_below
            label = self.card.labels[probabilities.index(best)] if sure else UNCERTAIN
        heard = self._samples - self._start
        return Summary(heard, self._lost, label, probabilities, dict(self._seconds), self._skipped)

    def _take(self, samples: NDArray[np.float32], events: list[Event], captured_at: float | None, behind: bool) -> None:
        self._samples += samples.size
        started = time.perf_counter()
        if self._vad is not None:
            self._voices += self._vad.push(samples)
        chunk_ends = np.array([voice.end for voice in self._voices])
        voices = np.array([(voice.voiced, voice.speaking) for voice in self._voices], dtype=np.float32)
        seen = 0
        for frames in self._frames.push(samples):
            values = frames.values
            columns = np.empty((len(values), self.card.features.n_mels + _EXTRA), dtype=np.float32)
            columns[:, :-_EXTRA] = self._log_mel(values)
            columns[:, _POWER] = np.einsum("ij,ij->i", values, values) / np.float32(values.shape[1])
            # The newest chunk that lies within a frame or before it, however far ahead of it the block reaches.
            ends = frames.end + self._frames.hop * np.arange(len(values))
            newest = np.searchsorted(chunk_ends, ends, side="right") - 1
            columns[:, _VOICED:] = voices[newest]
            seen = int(newest[-1])
            self._features_s += time.perf_counter() - started
            for windows in self._columns.push(columns):
                for window in windows.values:
                    self._skipped_last = behind and self._holds_speech(window)
                    if self._skipped_last:
                        self._skipped += 1
                    else:
                        self._predict(windows.end, window, events, captured_at)
            started = time.perf_counter()
        del self._voices[:seen]
        self._features_s += time.perf_counter() - started

    def _predict(self, end: int, window: NDArray[np.float32], events: list[Event], captured_at: float | None) -> None:
        features = self.card.features
        end -= self._first_column
        started = time.perf_counter()
        level_dbfs = to_dbfs(float(window[-self.card.window.hop :, _POWER].mean(dtype=np.float64)))
        window, begin, voice = self._newest_speech(end, window)
        probabilities: tuple[float, ...] = ()
        if self._holds_speech(window):
            probabilities = self.engine.probabilities(window[:, :-_EXTRA])
        finished = time.perf_counter()
        end_sample = self._start + features.samples_for(end)
        age_ms = None
        if captured_at is not None:
            behind_s = (self._samples - end_sample) / features.sample_rate
            age_ms = 1000.0 * (time.monotonic() - captured_at + behind_s)
        prediction = Prediction(
            start=self._start + max(0, end - len(window) + begin) * features.hop_length,
            end=end_sample,
            probabilities=probabilities,
            level_dbfs=level_dbfs,
            timing=Timing(1000.0 * self._features_s, 1000.0 * (finished - started), age_ms),
            voice=voice,
        )
        self._features_s = 0.0
        events.append(prediction)
        self._emit_decisions(self._decider.push(prediction), events)
        self._remember(end, probabilities)

    def _newest_speech(
        self, end: int, window: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], int, tuple[int, int] | None]:
        """The window without earlier utterances, its first frame that is left, and where its newest speech lies.

        Another utterance may be another mood or another speaker: the network sees it as it saw the clips of its
        training, with nothing before it.
        """
        if self._vad is None:
            return window, 0, None
        utterance = newest_utterance(window[:, _VOICED] > 0.0, window[:, _SPEAKING] > 0.0)
        if utterance is None:
            return window, 0, None
        if utterance.begin:
            window = window.copy()
            window[: utterance.begin] = self._nothing
        features, first = self.card.features, end - len(window)
        # Speech is told from a click only after a while, and by whole chunks.
        late = max(0, round((self._vad.config.min_speech_s - CHUNK_MS / 1000.0) * features.sample_rate))
        began = max(0, (first + utterance.first) * features.hop_length - late)
        return window, utterance.begin, (self._start + began, self._start + features.samples_for(first + utterance.end))

    def _holds_speech(self, window: NDArray[np.float32]) -> bool:
        """Whether a window is worth an opinion: not too quiet, and with enough speech in it that is not long over."""
        if float(window[:, _POWER].max()) < 10.0 ** (self._decider.config.silence_dbfs / 10.0):
            return False
        if self._vad is None:
            return True
        features = self.card.features
        voiced_s = float(window[:, _VOICED].sum()) * features.hop_length / features.sample_rate
        tail = 1 + round(self._vad.config.tail_s * features.sample_rate / features.hop_length)
        return bool(window[-tail:, _SPEAKING].any()) and voiced_s >= self._vad.config.min_voiced_s

    def _remember(self, end: int, probabilities: tuple[float, ...]) -> None:
        # The whole stream is judged by its fullest windows: those without padding, or else the longest one. Where
        # nobody speaks, or all is quiet, the network has no say: one click in an hour of silence is no emotion.
        fill = min(end, self.card.window.frames)
        heard = bool(self._decider.smoothed) if self._vad is None else bool(probabilities)
        if not heard or fill < self._fullest:
            return
        if fill > self._fullest:
            self._fullest, self._count = fill, 0
            self._sum[:] = 0.0
            self.judged.clear()
        self._sum += probabilities
        self._count += 1
        if self._keep_judged:
            self.judged.append(probabilities)

    def _emit_decisions(self, decisions: list[Decision], events: list[Event]) -> None:
        for decision in decisions:
            seconds = (decision.end - decision.start) / self.card.features.sample_rate
            self._seconds[decision.label] = self._seconds.get(decision.label, 0.0) + seconds
            events.append(decision)
