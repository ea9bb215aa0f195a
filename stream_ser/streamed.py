"""A network with states on a stream: when it hears, when it forgets, and what it says of each utterance.

It hears hop by hop while somebody speaks, from a moment before the voice on. It forgets where an utterance ends, and at
a hop of digital silence: what was lost from a stream reads as zeros, and what follows a loss does not continue what was
before it. As this hangs on the samples alone, a recording with a loss in it gives what the live stream gave.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_ser.asking import Ask, Asking
from stream_ser.engine import Engine, Step
from stream_ser.memory import VoiceMemory
from stream_ser.respell import Respeller
from stream_ser.transcript import Line, Transcriber
from stream_ser.waits import Waits

#: Heard before the voice, seconds: an utterance begins more softly than voice activity detection notices, and networks
#: are trained on clips that begin before the voice does.
PREROLL_S = 0.5


class StreamedNetwork:
    """Drives a network with states over the hops of one stream.

    Args:
        engine: of a card with states; it keeps nothing of the stream.
        silence: log-mel of digital silence.
        respell: what spells a finished line once more, of a network that transcribes.
        waits: gets the time that others take between a question and its answer.
        memory: of the voice; default: a new one.

    Attributes:
        memory: of the voice.
        probabilities: what it says of the utterance that goes on, or that has just ended; empty before the first.
        since: first frame of that utterance.
    """

    def __init__(
        self,
        engine: Engine,
        silence: float,
        respell: Respeller | None = None,
        waits: Waits | None = None,
        memory: VoiceMemory | None = None,
    ) -> None:
        self._engine = engine
        self.memory = memory or VoiceMemory(engine.card)
        self._waits = waits or Waits()
        card = engine.card
        self._hop = card.window.hop
        self._nothing = np.full((self._hop, card.features.n_mels), silence, dtype=np.float32)
        self._preroll = round(PREROLL_S * card.features.sample_rate / card.features.hop_length)
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
        self._voice_from = 0
        self._open = False
        self._lines: list[Line] = []

    def forget_voice(self) -> None:
        """Forget the voice at once; of the utterance that goes on nothing will be remembered."""
        self.memory.forget()
        self._state = self.memory.into(self._state)

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
            self._begin(end - new - hops * self._hop)
            self._voice_from = max(speech_from, self.since)
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
        self.memory.hear(self._voice, self._heard - self._voice_from)
        self.memory.finish()
        if self._transcriber is not None:
            for _ in range(-(-self._engine.card.delay_frames // self._hop)):
                self._spell((yield from self._waits.ask(Ask(self._nothing, self._state))))
            self._lines += self._transcriber.end()
        self._open = False

    def lines(self) -> list[Line]:
        """What was said since this was asked last."""
        lines, self._lines = self._lines, []
        return lines

    def _begin(self, first: int) -> None:
        self._open = True
        self.memory.begin()
        self._state = self.memory.into(self._engine.initial_state())
        self.since = self._heard = first
        if self._transcriber is not None:
            self._transcriber.begin(self._sample(first))

    def _step(self, frames: NDArray[np.float32], real: int) -> Asking[None]:
        step: Step = yield from self._waits.ask(Ask(frames, self._state))
        self.probabilities, self._voice = step.probabilities, step.voice
        self._heard += real
        self._spell(step)

    def _spell(self, step: Step) -> None:
        self._state = step.state
        if self._transcriber is not None and step.log_probs is not None:
            features = self._engine.card.features
            limit = self._sample(self._heard) + features.n_fft - features.hop_length
            self._lines += self._transcriber.push(step.log_probs, limit)

    def _sample(self, frame: int) -> int:
        return self._start + frame * self._engine.card.features.hop_length
