"""What of a window is speech: read off what its columns hold behind their log-mel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_ser.config import FeatureConfig, VadConfig
from stream_ser.vad.detector import CHUNK_MS, newest_utterance

# What a column holds behind the frame's log-mel: its mean square, which gives the level, and whether somebody is
# speaking in it, then whether somebody is speaking or pausing.
POWER, VOICED, SPEAKING = -3, -2, -1
N_AUX = 3
#: Level of digital silence, dBFS: finite, so that every output format can write it.
LOWEST_DBFS = -120.0


def level_dbfs(columns: NDArray[np.float32]) -> float:
    """Mean level of columns ``(frames, n_mels + EXTRA)``, full scale at 0, at least :data:`LOWEST_DBFS`."""
    mean_square = float(columns[:, POWER].mean(dtype=np.float64))
    return max(LOWEST_DBFS, 10.0 * float(np.log10(max(mean_square, 1e-30))))


class Speech:
    """Looks for speech in windows of columns ``(frames, n_mels + EXTRA)``.

    Args:
        features: the log-mel.
        vad: thresholds of voice activity detection; None where whatever is loud enough counts.
        silence_dbfs: level of a frame under which a window holds nothing.
        nothing: the column of digital silence, ``(n_mels + EXTRA,)``.
    """

    def __init__(
        self, features: FeatureConfig, vad: VadConfig | None, silence_dbfs: float, nothing: NDArray[np.float32]
    ) -> None:
        self._features, self._vad, self._nothing = features, vad, nothing
        self._least_power = 10.0 ** (silence_dbfs / 10.0)

    def newest(self, end: int, window: NDArray[np.float32]) -> tuple[NDArray[np.float32], int, tuple[int, int] | None]:
        """The window without earlier utterances, its first frame that is left, and where its newest speech lies.

        Another utterance may be another mood or another speaker: the network sees it as it saw the clips of its
        training, with nothing before it.

        Args:
            end: one past the window's last frame, from the stream's start on; the speech lies in samples from there.
            window: of columns.
        """
        if self._vad is None:
            return window, 0, None
        utterance = newest_utterance(window[:, VOICED] > 0.0, window[:, SPEAKING] > 0.0)
        if utterance is None:
            return window, 0, None
        window = self.blanked(window, utterance.begin)
        features, first = self._features, end - len(window)
        # Speech is told from a click only after a while, and by whole chunks.
        late = max(0, round((self._vad.min_speech_s - CHUNK_MS / 1000.0) * features.sample_rate))
        began = max(0, (first + utterance.first) * features.hop_length - late)
        return window, utterance.begin, (began, features.samples_for(first + utterance.end))

    def blanked(self, window: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        """A window whose ``count`` oldest columns are digital silence; of log-mel alone, or of whole columns."""
        if not count:
            return window
        window = window.copy()
        window[:count] = self._nothing[: window.shape[1]]
        return window

    def begins(self, end: int, new: int, window: NDArray[np.float32], *, known: bool = False) -> int | None:
        """Frame from which on somebody speaks, of what lasts into the ``new`` newest frames; None where nobody does.

        Args:
            end: one past the window's last frame, from the stream's start on.
            new: frames.
            window: of columns.
            known: where it began is known already; the first of the new frames does for it.
        """
        newest = window[-new:]
        if not (newest[:, POWER].any() and self.is_loud(window)):
            return None
        if self._vad is None:
            return end - new
        if not newest[:, SPEAKING].any():
            return None
        if known:
            return end - new
        _, _, voice = self.newest(end, window)
        return end - new if voice is None else min(voice[0] // self._features.hop_length, end - new)

    def holds(self, window: NDArray[np.float32]) -> bool:
        """Whether a window is worth an opinion: not too quiet, and with enough speech in it that is not long over."""
        if not self.is_loud(window):
            return False
        if self._vad is None:
            return True
        features = self._features
        voiced_s = float(window[:, VOICED].sum()) * features.hop_length / features.sample_rate
        tail = 1 + round(self._vad.tail_s * features.sample_rate / features.hop_length)
        return bool(window[-tail:, SPEAKING].any()) and voiced_s >= self._vad.min_voiced_s

    def is_loud(self, window: NDArray[np.float32]) -> bool:
        """Whether any frame is louder than silence."""
        return bool(window[:, POWER].max() >= self._least_power)
