"""What decides a training of the transcriber: frozen configuration that goes to JSON and back."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_ser.models.transcriber import TranscriberConfig
from stream_ser.train.tasks.multitask.config import SpokenLoop, SpokenRun


@dataclass(frozen=True)
class LoopConfig(SpokenLoop):
    """How to train the transcriber.

    Attributes:
        ctc_weight: share of the encoder's CTC loss, a character, in what is minimised; the rest is the decoder's
            cross-entropy, a character. 0 leaves the decoder to itself.
        guide_weight: of the decoder's looking away from where CTC hears the character that is to come: minus the log of
            the weight that one head gives to those steps. Attention otherwise finds its way late on little data.
        told_wrong: share of the characters that the decoder is told while it is trained which are drawn instead. On few
            sentences it otherwise learns what follows what, and hardly listens.

    Raises:
        ValueError: a value out of range.
    """

    epochs: int = 40
    lr: float = 1e-3
    warmup_epochs: float = 3.0
    label_smoothing: float = 0.1
    ctc_weight: float = 0.5
    joined: float = 0.3
    guide_weight: float = 0.3
    told_wrong: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_shares("ctc_weight", "told_wrong")
        self._check_not_negative("guide_weight")
        if self.guide_weight and not self.ctc_weight:
            raise ValueError("guide_weight needs CTC, which finds the characters; with ctc_weight=0 set it to 0, too")


@dataclass(frozen=True)
class TranscriberRun(SpokenRun):
    """A run of the transcriber."""

    model: TranscriberConfig = field(default_factory=TranscriberConfig)
    train: LoopConfig = field(default_factory=LoopConfig)
