"""Wires the stages: samples -> frames -> log-mel columns -> windows -> network -> decisions.

Beside them, voice activity detection hears the same samples; the network is asked only where somebody speaks.

Nothing here knows the time of day: positions are sample counts, and any split of the same samples into blocks gives
the same events, to the last bit. Only ``Prediction.timing`` is measured, and it takes no part in comparisons.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stream_ser.config import DEFAULT_VAD, LOUDEST, DeciderConfig, VadConfig
from stream_ser.errors import AudioError, ModelError
from stream_ser.events import (
    Block,
    Change,
    Decision,
    Event,
    Gap,
    Notice,
    Prediction,
    Provisional,
    StreamInfo,
    Summary,
    Timing,
    Transcript,
)
from stream_ser.features.framing import Framer
from stream_ser.features.log_mel import LogMel
from stream_ser.recognition.decider import Decider
from stream_ser.recognition.inference import Asking, answered
from stream_ser.recognition.streaming_predictor import StreamedNetwork
from stream_ser.recognition.summary import Tally
from stream_ser.recognition.voice_memory import VoiceMemory
from stream_ser.recognition.voice_profile import VoiceProfile
from stream_ser.recognition.window_predictor import WindowedNetwork
from stream_ser.runtime.engine import DEFAULT_MODEL, Engine, load
from stream_ser.runtime.requests import Waits
from stream_ser.transcription.rescoring import LanguageModel, Rescorer
from stream_ser.vad.detector import Voice, VoiceDetector
from stream_ser.vad.window_speech import N_AUX, POWER, VOICED, Speech, level_dbfs


class Recognizer:
    """Recognises the emotion of one stream of mono samples at the card's rate (16 kHz in the bundled models).

    Args:
        engine: a loaded model, which recognisers that take turns may share; or what :func:`stream_ser.load` takes.
        decider: costs and thresholds; default: those of the model's card.
        vad: voice activity detection; None claims an emotion of whatever is loud enough.
        language_model: what finished lines are spelt with, by a model that transcribes.
        keep_judged: keep what the summary is the mean of. Grows with the stream: for evaluation, on clips.
        adapt: get to know the voice: what was heard conditions the next utterances, where the model has a memory.
        voice: a voice to begin with, see :attr:`voice`.

    Raises:
        ModelError: the card's log-mel cannot be computed, there is no voice activity detection at its rate or on this
            platform, or a language model for a network that transcribes nothing.
        DataError: the network can spell none of the language model's words.
        VoiceError: the voice is of another model, or the model has no memory of one.

    Example:
        >>> recognizer = Recognizer(vad=None)
        >>> events = recognizer.push(np.zeros(40_000, dtype=np.float32))
        >>> [(event.start, event.end, event.probabilities) for event in events][-1]
        (0, 38752, ())
        >>> recognizer.flush()[-1].label, recognizer.summary().label
        ('silence', 'silence')
    """

    def __init__(
        self,
        engine: Engine | str | os.PathLike[str] = DEFAULT_MODEL,
        decider: DeciderConfig | None = None,
        *,
        vad: VadConfig | None = DEFAULT_VAD,
        language_model: LanguageModel | None = None,
        keep_judged: bool = False,
        adapt: bool = True,
        voice: VoiceProfile | None = None,
    ) -> None:
        self.engine = engine = load(engine) if isinstance(engine, (str, os.PathLike)) else engine
        self.card = engine.card
        features, window = self.card.features, self.card.window
        try:
            self._log_mel = LogMel(features)
        except ValueError as error:
            raise ModelError(f"{engine.path}: {error}; export the model again") from None
        self._frames = Framer(features.n_fft, features.hop_length)
        self._newest = np.empty((self._frames.at_once, features.n_mels + N_AUX), dtype=np.float32)
        self._nothing = np.full(features.n_mels + N_AUX, self._log_mel.silence, dtype=np.float32)
        self._nothing[-N_AUX:] = 0.0
        respell = Rescorer(self.card, language_model) if language_model else None
        self._waits = Waits()
        self._streamed = None
        config = decider or self.card.decider
        memory = VoiceMemory(self.card, adapt, voice, pause_s=0.0 if vad is None else vad.min_silence_s)
        if self.card.states:
            self._streamed = StreamedNetwork(
                engine,
                self._log_mel.silence,
                config,
                respell,
                self._waits,
                pause_s=0.0 if vad is None else vad.min_silence_s,
                memory=memory,
            )
        self._columns = Framer(
            window.frames,
            window.hop,
            (features.n_mels + N_AUX,),
            # A streaming network hears every hop; it is asked as late as any other.
            first=window.minimum if self._streamed is None else window.hop,
            fill=self._nothing,
            at_once=1,
        )
        self._vad = None if vad is None else VoiceDetector(features.sample_rate, vad, waits=self._waits)
        # What came since the last hop, up to where the next one is complete.
        self._early = np.empty(features.samples_for(max(window.hop, window.minimum)), dtype=np.float32)
        self._tally = Tally(self.card.labels, features.sample_rate, keep_judged)
        self._decider = Decider(self.card.labels, features.sample_rate, config)
        self._speech = Speech(features, vad, config.silence_dbfs, self._nothing)
        self._windowed = WindowedNetwork(features, config, self._speech.blanked, self._waits)
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
        self._start = self._samples = start
        self._first_column = start // self.card.features.hop_length
        self._frames.reset(start)
        self._columns.reset(self._first_column)
        #: Where the next hop is complete.
        self._due = start + self.card.features.samples_for(self._columns.next_end - self._first_column)
        self._decider.reset(start)
        self._windowed.reset()
        if self._streamed is not None:
            self._streamed.reset(start)
        if self._vad is not None:
            self._vad.reset(start)
        # Chunks that the next frame may look at, the last one that it can see first.
        self._voices = [Voice(start, 0.0, False, False)]
        self._lost = self._skipped = 0
        self._skipped_last = False
        self._waiting = 0
        self._waits.take()
        self._features_s = self._inference_s = 0.0
        self._tally.reset()
        self._predicted = False

    @property
    def judged(self) -> list[tuple[float, ...]]:
        """Probabilities of each window, or stretch of speech, that the summary rests on; kept only if asked for."""
        return self._tally.judged

    @property
    def current(self) -> Provisional | None:
        """What is shown now, or None before the first prediction."""
        return self._decider.current

    @property
    def posterior(self) -> tuple[float, ...]:
        """Calibrated probabilities of the utterance that goes on; empty in silence and before the first prediction."""
        return self._decider.posterior

    @property
    def voice(self) -> VoiceProfile | None:
        """The voice as it is known from finished utterances; None where the model has no memory.

        Another recogniser of the same model may begin with it: ``Recognizer(engine, voice=profile)``.
        """
        return None if self._streamed is None else self._streamed.memory.profile

    def forget_voice(self) -> None:
        """Forget the voice, as when another person speaks next.

        It may be called between two blocks. Of the utterance that goes on nothing is remembered. :meth:`reset` goes
        back to the voice that the recogniser was given.
        """
        if self._streamed is not None:
            self._streamed.forget_voice()

    @property
    def needs_s(self) -> float:
        """Seconds of audio without which nothing can come of what is pushed next; 0 if anything may."""
        return max(0, self._due - self._samples) / self.card.features.sample_rate

    def info(self, name: str) -> StreamInfo:
        """What a sink is told first."""
        features, transcribes = self.card.features, bool(self.card.vocabulary)
        return StreamInfo(name, self.card.name, self.card.labels, features.sample_rate, transcribes)

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
            ValueError: not one-dimensional, or whole numbers, whose full scale is not 1.
        """
        return self._push(Block(self.checked(samples), captured_at, lost, gap=gap, behind=behind))

    def checked(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """The samples of the stream's next block as float32.

        Raises:
            AudioError, ValueError: see :meth:`push`.
        """
        samples = np.asarray(samples)
        if samples.ndim != 1 or samples.dtype.kind != "f":
            raise ValueError(f"samples are {samples.dtype} {samples.shape}, expected floats (time,), full scale at 1")
        samples = samples.astype(np.float32, copy=False)
        # NaN is the least and the greatest of all, and in no range.
        if samples.size and not (samples.min() >= -LOUDEST and samples.max() <= LOUDEST):
            index = int((np.abs(samples) <= LOUDEST).argmin())
            position = self._samples + index
            raise AudioError(
                f"sample {position} (at {position / self.card.features.sample_rate:.3f} s) is "
                f"{samples[index]:g}, expected finite numbers with full scale at 1; export the audio again"
            )
        return samples

    def asking(self, block: Block) -> Asking[list[Event]]:
        """The work that a block makes, of samples that were checked; whoever drives it answers its questions."""
        events: list[Event] = [Notice(self._samples, kind, text) for kind, text in block.notices]
        if any(kind == "forgotten" for kind, _ in block.notices):
            self.forget_voice()
        if lost := block.lost:
            events.append(Gap(self._samples, lost))
            self._lost += lost
            second = np.zeros(self.card.features.sample_rate, dtype=np.float32)
            for first in range(0, lost, second.size):
                yield from self._take(second[: lost - first], events, None, block.behind)
        if block.gap:
            events.append(Gap(self._samples, block.gap))
            self._lost += block.gap
        yield from self._take(block.samples, events, block.captured_at, block.behind)
        return events

    def push_block(self, block: Block) -> list[Event]:
        """Take a block of a source at the model's rate (see ``sources.resampled``) with all that it says.

        Raises:
            AudioError: as :meth:`push`.
        """
        samples = self.checked(block.samples)
        return self._push(block if samples is block.samples else replace(block, samples=samples))

    def flush(self) -> list[Event]:
        """End of the stream: the last window and the open decision.

        Raises:
            AudioError: the stream is too short for a prediction.
        """
        return answered(self.ending(), self.engine)

    def ending(self) -> Asking[list[Event]]:
        """The work of :meth:`flush`, as :meth:`asking`."""
        events: list[Event] = []
        if self._waiting:
            yield from self._work(self._held(), events, None, False)
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
        new = self._columns.total - self._columns.last_end
        last = self._columns.flush(again=not self._predicted or (self._skipped_last and self._streamed is None))
        if last is not None:
            yield from self._hear(last.end, last.values[0], new)
        whole = self._columns.flush(again=True)
        if self._streamed is not None and whole is not None:
            voice = self._speech.newest(whole.end - self._first_column, whole.values[0])[2]
            if voice is not None:
                self._streamed.conclude(voice[1] // self.card.features.hop_length)
            yield from self._streamed.end_utterance()
            if self._streamed.found:
                last = whole
        elif self._windowed.open:
            last = whole
        if last is not None:
            yield from self._predict(last.end, last.values[0], events, None, ended=True)
        self._emit_decisions(self._decider.flush(), events)
        self._emit_lines(events)
        return events

    def summary(self) -> Summary:
        """The stream as a whole, so far."""
        tally = self._tally
        heard = self._samples - self._start
        return Summary(
            heard, self._lost, tally.label, tally.probabilities, dict(tally.seconds), self._skipped, tally.confidence
        )

    def _push(self, block: Block) -> list[Event]:
        # Most blocks of a microphone only wait: they are done with before any of the rest is touched.
        if not (block.lost or block.gap or block.notices) and self._waits_with(block.samples):
            return []
        return answered(self.asking(block), self.engine)

    def _take(
        self, samples: NDArray[np.float32], events: list[Event], captured_at: float | None, behind: bool
    ) -> Asking[None]:
        """Take samples in."""
        if self._waits_with(samples):
            return
        self._samples += samples.size
        held = self._held()
        yield from self._work(np.concatenate((held, samples)) if held.size else samples, events, captured_at, behind)
        self._due = self._start + self.card.features.samples_for(self._columns.next_end - self._first_column)

    def _waits_with(self, samples: NDArray[np.float32]) -> bool:
        """Let samples wait that complete no hop; whether they do.

        Nothing could come of them yet, and one wake-up's work is cheaper than that of many: caches are warm after the
        first of it. A microphone's blocks cost a third less so.
        """
        if self._samples + samples.size >= self._due:
            return False
        self._samples += samples.size
        self._early[self._waiting : self._waiting + samples.size] = samples
        self._waiting += samples.size
        return True

    def _held(self) -> NDArray[np.float32]:
        """What has waited, which does so no longer; valid until samples wait again."""
        held, self._waiting = self._early[: self._waiting], 0
        return held

    def _work(
        self, samples: NDArray[np.float32], events: list[Event], captured_at: float | None, behind: bool
    ) -> Asking[None]:
        started = time.perf_counter()
        if self._vad is not None:
            self._voices += yield from self._vad.asking(samples)
            self._features_s -= self._waits.take()
        chunk_ends = np.array([voice.end for voice in self._voices])
        voices = np.array([(voice.voiced, voice.speaking) for voice in self._voices], dtype=np.float32)
        seen = 0
        for frames in self._frames.push(samples):
            values = frames.values
            columns = self._newest[: len(values)]
            self._log_mel(values, out=columns[:, :-N_AUX])
            power = np.einsum("ij,ij->i", values, values, out=columns[:, POWER])
            power /= np.float32(values.shape[1])
            # The newest chunk that lies within a frame or before it, however far ahead of it the block reaches.
            ends = frames.end + self._frames.hop * np.arange(len(values))
            newest = np.searchsorted(chunk_ends, ends, side="right") - 1
            columns[:, VOICED:] = voices[newest]
            seen = int(newest[-1])
            self._features_s += time.perf_counter() - started
            for windows in self._columns.push(columns):
                for window in windows.values:
                    self._skipped_last = behind and self._speech.holds(window)
                    if self._skipped_last:
                        self._skipped += 1
                        if self._streamed is not None:
                            yield from self._streamed.interrupt(windows.end - self._first_column)
                    else:
                        yield from self._hear(windows.end, window, self._columns.hop)
                        if windows.end - self._first_column >= self.card.window.minimum:
                            yield from self._predict(windows.end, window, events, captured_at)
                    self._emit_lines(events)
            started = time.perf_counter()
        del self._voices[:seen]
        self._features_s += time.perf_counter() - started

    def _hear(self, end: int, window: NDArray[np.float32], new: int) -> Asking[None]:
        """Let a streaming network hear the newest frames, if somebody speaks in them."""
        if self._streamed is None or not new:
            return
        started = time.perf_counter()
        end -= self._first_column
        speech_from = self._speech.begins(end, new, window, known=self._streamed.listens)
        yield from self._streamed.hear(window[:, :-N_AUX], end, new, speech_from)
        self._inference_s += time.perf_counter() - started - self._waits.take()

    def _predict(
        self,
        end: int,
        window: NDArray[np.float32],
        events: list[Event],
        captured_at: float | None,
        *,
        ended: bool = False,
    ) -> Asking[None]:
        features = self.card.features
        end -= self._first_column
        started = time.perf_counter()
        level = level_dbfs(window[-self.card.window.hop :])
        window, begin, voice = self._speech.newest(end, window)
        probabilities, begin, changes = yield from self._said(end, window, begin, voice, ended)
        heard_from = max(0, end - len(window) + begin)
        inference_s, self._inference_s = self._inference_s + time.perf_counter() - started - self._waits.take(), 0.0
        end_sample = self._start + features.samples_for(end)
        age_ms = None
        if captured_at is not None:
            behind_s = (self._samples - end_sample) / features.sample_rate
            age_ms = 1000.0 * (time.monotonic() - captured_at + behind_s)
        prediction = Prediction(
            start=self._start + heard_from * features.hop_length,
            end=end_sample,
            probabilities=probabilities,
            level_dbfs=level,
            timing=Timing(1000.0 * self._features_s, 1000.0 * inference_s, age_ms),
            voice=None if voice is None else (self._start + voice[0], self._start + voice[1]),
            changes=tuple(Change(self._start + each.at, each.before) for each in changes),
        )
        self._features_s, self._predicted = 0.0, True
        events.append(prediction)
        self._emit_decisions(self._decider.push(prediction), events)

    def _said(
        self, end: int, window: NDArray[np.float32], begin: int, voice: tuple[int, int] | None, ended: bool
    ) -> Asking[tuple[tuple[float, ...], int, tuple[Change, ...]]]:
        """What the network says of the newest part of the newest speech, where that begins in the window, and changes.

        Args:
            end: one past the window's last frame, from the stream's start on.
            window: of columns, without earlier utterances.
            begin: its first frame that is left.
            voice: samples of its speech.
            ended: the stream has ended.
        """
        # The decider ends the utterance with this prediction: whatever it shall know of it must be known now.
        if voice is not None:
            features = self.card.features
            pause = round(self._decider.config.silence_s * features.sample_rate)
            ended = ended or features.samples_for(end) - voice[1] >= pause
        holds = self._speech.holds(window)
        streamed = self._streamed
        if streamed is not None:
            if ended and voice is not None:
                streamed.conclude(voice[1] // self.card.features.hop_length)
            changes = streamed.changes()
            if holds and streamed.probabilities:
                return streamed.probabilities, streamed.since - (end - len(window)), changes
            return (), begin, changes
        if not holds and not (ended and self._windowed.open):
            return (), begin, ()
        said = yield from self._windowed.hear(window[:, :-N_AUX], begin, end, voice, ended)
        return said if holds or said[2] else ((), begin, ())

    def _emit_lines(self, events: list[Event]) -> None:
        if self._streamed is not None:
            for line in self._streamed.lines():
                label = self._tally.during(line.words[0].start, line.words[-1].end, self.current)
                events.append(Transcript(line.words, label, line.final))

    def _emit_decisions(self, decisions: Sequence[Provisional | Decision], events: list[Event]) -> None:
        for decision in decisions:
            if isinstance(decision, Decision):
                self._tally.decided(decision)
            events.append(decision)
