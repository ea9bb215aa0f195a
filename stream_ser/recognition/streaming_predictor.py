"""A network with states on a stream: when it hears, when it forgets, and what it says of each utterance.

It hears hop by hop while somebody speaks, from a moment before the voice on. It forgets where an utterance ends, and at
a hop of digital silence: what was lost from a stream reads as zeros, and what follows a loss does not continue what was
before it. As this hangs on the samples alone, a recording with a loss in it gives what the live stream gave.

While an utterance goes on, it is also heard afresh from a row of places, each with the state from before the first
word: this finds where the emotion changes (:mod:`stream_ser.recognition.changes`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ser.config import DeciderConfig
from stream_ser.events import Change
from stream_ser.recognition.changes import CANDIDATE_S, HORIZON_S, Candidate, ChangeFinder, change
from stream_ser.recognition.inference import Asking, ModelRequest
from stream_ser.recognition.voice_memory import VoiceMemory
from stream_ser.runtime.engine import Engine, State, Step
from stream_ser.runtime.requests import Waits
from stream_ser.transcription.line_decoder import Line, Transcriber
from stream_ser.transcription.rescoring import Rescorer

#: Heard before the voice, seconds: an utterance begins more softly than voice activity detection notices, and networks
#: are trained on clips that begin before the voice does.
PREROLL_S = 0.5


@dataclass(slots=True)
class _Lane:
    """The network started afresh: from which frame, its state, and what it says.

    ``before`` is what the speech before it adds to a memory of the voice, ``voice`` what the speech behind it adds.
    """

    first: int
    state: State
    candidate: Candidate
    probabilities: tuple[float, ...] = ()
    before: NDArray[np.float32] | None = None
    voice: NDArray[np.float32] | None = None


class StreamedNetwork:
    """Drives a network with states over the hops of one stream.

    Args:
        engine: of a card with states; it keeps nothing of the stream.
        silence: log-mel of digital silence.
        config: of the decider: from which distance on a change is one, and the shortest part.
        respell: what spells a finished line once more, of a network that transcribes.
        waits: gets the time that others take between a question and its answer.
        pause_s: silence that belongs to what it hears, where an utterance ends.
        memory: of the voice; default: a new one.

    Attributes:
        memory: of the voice.
        probabilities: what it says of the utterance that goes on, or that has just ended; empty before the first.
        since: first frame of that utterance, or of its newest part.
    """

    def __init__(
        self,
        engine: Engine,
        silence: float,
        config: DeciderConfig | None = None,
        respell: Rescorer | None = None,
        waits: Waits | None = None,
        pause_s: float = 0.0,
        memory: VoiceMemory | None = None,
    ) -> None:
        self._engine = engine
        self.memory = memory or VoiceMemory(engine.card)
        self._waits = waits or Waits()
        card = engine.card
        self._hop, self._hop_length = card.window.hop, card.features.hop_length
        self._nothing = np.full((self._hop, card.features.n_mels), silence, dtype=np.float32)
        config, second = config or card.decider, card.features.sample_rate / card.features.hop_length
        self._preroll = round(PREROLL_S * second)
        self._finder = ChangeFinder(config.change_distance)
        self._shortest, self._pause = round(config.min_duration_s * second), round(pause_s * second)
        self._apart, self._horizon = round(CANDIDATE_S * second), round(HORIZON_S * second)
        self._transcriber = Transcriber(card, respell) if card.vocabulary else None
        self.reset()

    def reset(self, start: int = 0) -> None:
        """Back to the start of a stream, whose first sample has the position ``start``."""
        self._start = start
        self.probabilities: tuple[float, ...] = ()
        self.since = self._heard = 0
        self.memory.reset()
        self._state = self.memory.into(self._engine.initial_state())
        self._voice: NDArray[np.float32] | None = None
        self._open = False
        self._lines: list[Line] = []
        self._changes: list[Change] = []
        self._changed: _Lane | None = None
        self._fresh, self._fresh_at = self._state, 0
        self._begin_part(0)

    def forget_voice(self) -> None:
        """Forget the voice at once; of the utterance that goes on nothing will be remembered."""
        self.memory.forget()
        self._state, self._fresh = self.memory.into(self._state), self.memory.into(self._fresh)
        for lane in self._restarted():
            lane.state = self.memory.into(lane.state)

    @property
    def listens(self) -> bool:
        """Whether an utterance goes on."""
        return self._open

    def hear(self, frames: NDArray[np.float32], end: int, new: int, speech_from: int | None) -> Asking[None]:
        """Take the newest frames of the stream.

        Args:
            frames: raw log-mel ``(frames, n_mels)``: the new frames behind older ones.
            end: of them, counted from the stream's start.
            new: how many are new: a hop, or fewer at the stream's end.
            speech_from: frame from which on somebody speaks, of no interest while an utterance goes on; None where
                nobody does in the new frames, or they are digital silence.
        """
        if speech_from is None:
            if self._open:
                yield from self.end_utterance()
                self._heard = end
            return
        hops = 0
        if not self._open:
            # Whole hops, up to the one that holds the beginning of the voice, if they are still there and unheard.
            wanted = -(-(end - new - speech_from + self._preroll) // self._hop)
            oldest = max(self._heard, end - len(frames), 0)
            hops = max(0, min(wanted, (end - new - oldest) // self._hop))
            self._begin(end - new - hops * self._hop, speech_from)
        first = len(frames) - new - hops * self._hop
        for place in range(first, len(frames) - new, self._hop):
            yield from self._step(frames[place : place + self._hop], self._hop)
        last = frames[len(frames) - new :]
        if new < self._hop:
            last = np.concatenate((last, self._nothing[new:]))
        yield from self._step(last, new)

    def interrupt(self, end: int) -> Asking[None]:
        """The frames up to ``end`` are not heard: what follows them begins anew."""
        yield from self.end_utterance()
        self.probabilities = ()
        self._heard = end

    def end_utterance(self) -> Asking[None]:
        """Nobody speaks any more: the rest of what was said, which the network gives with a delay."""
        if not self._open:
            return
        self.conclude(self._heard - self._pause)
        self.memory.hear(self._voice, self._heard - self._part)
        self.memory.finish()
        if self._transcriber is not None:
            for _ in range(-(-self._engine.card.delay_frames // self._hop)):
                self._spell((yield from self._waits.ask(ModelRequest(self._nothing, self._state))))
            self._lines += self._transcriber.end()
        self._open = False

    def conclude(self, voice_end: int) -> None:
        """Look for a last change in the utterance, which ends: its voice does at the frame ``voice_end``."""
        for lane in self._lanes:
            if not lane.candidate.judged:
                lane.candidate.after = lane.probabilities
        self._cut(self._finder.last((voice_end - self._shortest) * self._hop_length))
        self._begin_part(self._part)

    @property
    def found(self) -> bool:
        """Whether :meth:`changes` holds any."""
        return bool(self._changes)

    def changes(self) -> tuple[Change, ...]:
        """Changes that were found since this was asked last."""
        changes, self._changes = self._changes, []
        return tuple(changes)

    def lines(self) -> list[Line]:
        """What was said since this was asked last."""
        lines, self._lines = self._lines, []
        return lines

    def _begin(self, first: int, speech_from: int) -> None:
        self._open = True
        self.memory.begin()
        self._state = self.memory.into(self._engine.initial_state())
        self.since = self._heard = first
        self._changed = None
        self._begin_part(speech_from)
        #: The state before the first word, with which a lane begins: the network has heard the room, as in training.
        self._fresh = self._state
        quiet = min(self._preroll, speech_from - first)
        self._fresh_at = first + quiet // self._hop * self._hop
        if self._transcriber is not None:
            self._transcriber.begin(self._sample(first))

    def _begin_part(self, first: int) -> None:
        """What follows may be another emotion's; candidates before it are of no interest."""
        self._part = self._newest = first
        self._finder.begin()
        self._lanes: list[_Lane] = []

    def _restarted(self) -> list[_Lane]:
        """All that hears afresh: from places that may be a change, and, with words, from one that is."""
        return self._lanes if self._changed is None else [*self._lanes, self._changed]

    def _step(self, frames: NDArray[np.float32], real: int) -> Asking[None]:
        step: Step = yield from self._waits.ask(ModelRequest(frames, self._state))
        self.probabilities, self._voice = step.probabilities, step.voice
        self._heard += real
        self._spell(step)
        if not self._finder.active:
            return
        for lane in self._restarted():
            step = yield from self._waits.ask(ModelRequest(frames, lane.state))
            lane.state, lane.probabilities, lane.voice = step.state, step.probabilities, step.voice
            if not lane.candidate.judged and self._heard - lane.first >= self._horizon:
                lane.candidate.after, lane.candidate.judged = step.probabilities, True
        if self._changed is not None:
            self.probabilities, self._voice = self._changed.probabilities, self._changed.voice
        self._look()
        if self._heard == self._fresh_at:
            self._fresh = self._state

    def _look(self) -> None:
        """See whether a change is certain now, and begin to hear from here afresh where it is time to."""
        self._cut(self._finder.found())
        open_ = self._finder.candidates
        self._lanes = [lane for lane in self._lanes if any(lane.candidate is each for each in open_)]
        if self._heard - self._newest >= self._apart and self._heard - self._part >= self._shortest:
            self._newest = self._heard
            candidate = Candidate(self._heard * self._hop_length, self.probabilities)
            self._finder.candidates.append(candidate)
            self._lanes.append(_Lane(self._heard, self._fresh, candidate, before=self._voice))

    def _cut(self, found: Candidate | None) -> None:
        if found is None:
            return
        lane = next(lane for lane in self._lanes if lane.candidate is found)
        self._changes.append(change(found))
        self.memory.hear(lane.before, lane.first - self._part)
        self.probabilities, self.since, self._voice = lane.probabilities, lane.first, lane.voice
        if self._transcriber is None:
            self._state = lane.state
        else:
            # Words go on over a change, and need what was heard before it.
            self._changed = lane
        self._begin_part(lane.first)
        self._newest = self._heard

    def _spell(self, step: Step) -> None:
        self._state = step.state
        if self._transcriber is not None and step.log_probs is not None:
            features = self._engine.card.features
            limit = self._sample(self._heard) + features.n_fft - features.hop_length
            self._lines += self._transcriber.push(step.log_probs, limit)

    def _sample(self, frame: int) -> int:
        return self._start + frame * self._engine.card.features.hop_length
