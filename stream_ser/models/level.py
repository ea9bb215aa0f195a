"""A common level for a stream, of which the loudest moment may be still to come."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .running import decayed_max

#: Frames over which the level is averaged, the power that it is brought to and the largest gain, as in
#: :mod:`stream_ser.features.normalization`.
LEVEL_FRAMES, LEVEL_TARGET, LEVEL_MAX_GAIN = 25, 100.0, 1e4
#: Share of the log-mel's floor that stays in: taking all of it away would blow up rounding in silent bands.
_FLOOR_KEPT = 0.01


class CommonLevel(nn.Module):
    """Brings a stream to the level of its loudest quarter of a second so far, which slowly counts less.

    As ``level`` of :mod:`stream_ser.features.normalization`, but by what was heard already: predictions do not hang on
    a microphone's gain. It works on normalised log-mel, whose statistics it keeps to undo and redo that.

    Args:
        n_mels: bands.
        stride: frames of a column.
        memory: frames after which a loud moment counts by 1/e.
    """

    def __init__(self, n_mels: int, stride: int, memory: float) -> None:
        super().__init__()
        self.stride = stride
        self.memory = memory / stride
        #: Columns before its own that the level of a column is averaged over.
        self.before = max(1, round(LEVEL_FRAMES / stride) - 1)
        self.mean: Tensor
        self.std: Tensor
        self.floor: Tensor
        self.register_buffer("mean", torch.zeros(n_mels, 1))
        self.register_buffer("std", torch.ones(n_mels, 1))
        self.register_buffer("floor", torch.tensor(1e-5))

    def forward(self, x: Tensor, energy: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Level whole columns.

        Args:
            x: normalised log-mel ``(batch, mel, time)``.
            energy: of the columns before, ``(batch, before)``.
            level: as of them, ``(batch, 1)``.

        Returns:
            what would be heard at the common level, and both as of the last column.
        """
        power = ((x * self.std + self.mean).exp() - (1.0 - _FLOOR_KEPT) * self.floor).clamp_min(0.0)
        columns = power.sum(dim=1).unflatten(-1, (-1, self.stride)).mean(dim=-1)
        joined = torch.cat((energy, columns), dim=-1)
        count = columns.shape[1]
        mean = torch.stack([joined[:, k : k + count] for k in range(self.before + 1)]).mean(dim=0)
        loudest = decayed_max(mean, level, self.memory)
        gain = LEVEL_TARGET / loudest.clamp_min(LEVEL_TARGET / LEVEL_MAX_GAIN)
        gain = gain.repeat_interleave(self.stride, dim=1)[:, None]
        out = (torch.log(power * gain + self.floor) - self.mean) / self.std
        return out, joined[:, count:], loudest[:, -1:]
