"""A run's epochs as TensorBoard events, where TensorBoard is installed."""

from __future__ import annotations

from pathlib import Path

from stream_ser.errors import TrainError

from .run_folder import Epoch

FOLDER = "tensorboard"


class TensorBoardLog:
    """Writes the scalars of each epoch into ``out/tensorboard``.

    Args:
        out: run folder.
        epochs: finished before; what an earlier, killed process wrote after them is hidden.

    Raises:
        TrainError: TensorBoard is not installed.
    """

    def __init__(self, out: Path, epochs: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise TrainError("tensorboard is missing: pip install 'stream-ser[tensorboard]'") from None
        self._writer = SummaryWriter(str(out / FOLDER), purge_step=epochs + 1)

    def __call__(self, epoch: Epoch) -> None:
        """Write one epoch."""
        scores = epoch.scores
        values = {
            "loss/training": epoch.train_loss,
            "loss/validation": epoch.validation_loss,
            "validation/uar": scores.uar,
            "validation/wa": scores.wa,
            "validation/f1": scores.f1,
            "validation/ece": scores.ece,
            "training/lr": epoch.lr,
            "training/seconds": epoch.seconds,
        }
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch.epoch)
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        self._writer.close()
