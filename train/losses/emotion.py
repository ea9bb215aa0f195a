"""What a step of training minimises: the classes, what teachers say of them, the sentences, now and earlier."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from stream_ser.train.config import TrainConfig
from stream_ser.train.data.teacher_scores import feature_loss

from .distillation import distillation_loss
from .sentences import sentence_loss


class Objective:
    """The loss of a batch.

    Args:
        config: what counts how much.
        classes: number of them; what logits and targets hold behind them is of sentences and a teacher's features.
        weights: of the classes, ``(classes,)``, or None.
        features: width of a teacher's features, the last columns.
    """

    def __init__(self, config: TrainConfig, classes: int, weights: Tensor | None, features: int = 0) -> None:
        self.config, self.classes, self.weights, self.features = config, classes, weights, features

    def __call__(self, logits: Tensor, targets: Tensor, taught: Tensor | None) -> Tensor:
        """Mean over the batch, nats.

        Args:
            logits: ``(batch, classes + sentences + features)``, or ``(batch, 2, ...)`` at the end and earlier.
            targets: ``(batch, classes + sentences + features)``: two distributions, and values.
            taught: what teachers say of the whole windows, ``(batch, classes)``, or None.
        """
        if logits.ndim == 2:
            return self._once(logits, targets, taught)
        end, early = (self._once(moment, targets, taught) for moment in logits.unbind(1))
        return torch.lerp(end, early, self.config.early)

    def _once(self, logits: Tensor, targets: Tensor, taught: Tensor | None) -> Tensor:
        config, classes, end = self.config, self.classes, logits.shape[1] - self.features
        logits, spoken, heard = logits[:, :classes], logits[:, classes:end], logits[:, end:]
        targets, texts, features = targets[:, :classes], targets[:, classes:end], targets[:, end:]
        loss = F.cross_entropy(logits, targets, weight=self.weights, label_smoothing=config.label_smoothing)
        if taught is not None:
            loss = torch.lerp(loss, distillation_loss(logits, taught, config.distill_temperature), config.distill)
        if texts.shape[1]:
            loss = loss + config.sentences * sentence_loss(spoken, texts)
        return loss + config.features * feature_loss(heard, features) if self.features else loss
