"""The memory of a voice: sums over finished utterances, which condition what a network says of the next one.

The network's graph takes the session as one of its states and gives, with each hop, what the utterance so far would add
to it (:class:`stream_ser.runtime.card.base.Memory`). Here it is added up: at the end of an utterance, weighted by its
length, never before. Pauses, losses and changes of emotion leave the session as it is. One a stream, and numbers only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_ser.recognition.voice_profile import VoiceProfile
from stream_ser.runtime.card.recognition import Card
from stream_ser.runtime.engine import State

#: A long utterance counts as so many at most: a network's mean over it reaches back no farther.
MOST_WEIGHT = 3.0
#: Utterances that a session holds: beyond, older ones fade, so that a session of days still follows the voice.
MOST_UTTERANCES = 200.0


class VoiceMemory:
    """The session of one stream.

    Args:
        card: of the network.
        adapt: False leaves the session as it begins.
        voice: what it begins with; default: nothing.
        pause_s: silence that is heard of an utterance before its end is known.

    Attributes:
        place: of the session among the network's states; None where the network has no memory.
        session: the sums ``(size,)``, the number of utterances first.
        seconds: of speech in the session.

    Raises:
        VoiceError: the profile is of another network, or the network has no memory.
    """

    def __init__(self, card: Card, adapt: bool = True, voice: VoiceProfile | None = None, pause_s: float = 0.0) -> None:
        memory = card.memory
        self._frame_s = card.features.hop_length / card.features.sample_rate
        self._pause_s = pause_s
        self._name, self._adapt, self._memory = card.name, adapt, memory
        self.place: int | None = None
        size = 0
        if memory is not None:
            self.place = next(n for n, state in enumerate(card.states) if state.input == memory.state)
            size = card.states[self.place].shape[1]
        if voice is not None:
            voice.check(card.name, memory.fingerprint if memory else None, size)
        self._start, self._size = voice, size
        self.session: NDArray[np.float64] = np.zeros(size)
        self.reset()

    def reset(self) -> None:
        """Back to the profile that the session began with, or to nothing."""
        self.forget()
        if self._start is not None:
            self.session = np.array(self._start.values, dtype=np.float64)
            self.seconds = self._start.seconds

    def forget(self) -> None:
        """Forget the voice, that of a profile too, and what was heard of the utterance that goes on."""
        self.session = np.zeros(self._size)
        self.seconds = 0.0
        self._parts: list[tuple[NDArray[np.float32], float]] = []
        self._begun = False

    @property
    def profile(self) -> VoiceProfile | None:
        """The session as plain numbers; None where the network has no memory."""
        if self._memory is None:
            return None
        return VoiceProfile(self._name, self._memory.fingerprint, self.seconds, tuple(self.session.tolist()))

    def into(self, state: State) -> State:
        """The network's state with this session in it."""
        if self.place is None:
            return state
        session = self.session.astype(np.float32)[None]
        return (*state[: self.place], session, *state[self.place + 1 :])

    def begin(self) -> None:
        """An utterance begins."""
        self._parts, self._begun = [], True

    def hear(self, voice: NDArray[np.float32] | None, frames: int) -> None:
        """Note a part of the utterance: what the network adds for it, and how many frames it is; the last is last."""
        if voice is not None and self._adapt and self._begun and frames > 0:
            self._parts.append((voice, frames * self._frame_s))

    def finish(self) -> None:
        """The utterance has ended: what was heard of it is remembered."""
        parts, self._parts, self._begun = self._parts, [], False
        if self._memory is None:
            return
        if parts:
            parts[-1] = parts[-1][0], parts[-1][1] - self._pause_s
        for voice, seconds in parts:
            if seconds <= 0.0:
                continue
            self.session = self.session + min(seconds / self._memory.full_s, MOST_WEIGHT) * voice.astype(np.float64)
            self.seconds += seconds
        if (count := float(self.session[0])) > MOST_UTTERANCES:
            self.session = self.session * (MOST_UTTERANCES / count)
