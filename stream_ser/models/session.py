"""A memory of the voice: what was heard of a speaker before conditions how the next utterance is classified.

After each finished utterance its embedding and the posterior that it would have without the memory are added to
sums. The mean embedding, pulled towards the training mean by a prior count, is the voice and the room as far as they
are known; it is subtracted from the next embedding in front of the classifier. A mean over utterances of one emotion
holds that emotion, too: a gate, which sees how mixed the posteriors were, decides how much is subtracted, and how much
the emotions heard so far count as a prior. With an empty memory the classifier is as it is without one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Scalars of the memory that the gate sees.
SCALARS = 6
#: Utterances after which the emotions heard so far count half as a prior.
HALF = 5.0
_TINY = 1e-6
#: Smallest share of an emotion that was not heard.
_UNHEARD = 1e-3


class Session(NamedTuple):
    """Sums over the finished utterances of a session; all zeros at its beginning. Each tensor has the batch first.

    Attributes:
        utterances: how many, ``(batch, 1)``.
        total: of their embeddings, ``(batch, width)``.
        posterior: of their posteriors, ``(batch, classes)``.
        certainty: of the squared length of each posterior, ``(batch, 1)``.
        logits: of the logarithms of the posteriors, ``(batch, classes)``.
        squares: of their squares, ``(batch, classes)``.
    """

    utterances: Tensor
    total: Tensor
    posterior: Tensor
    certainty: Tensor
    logits: Tensor
    squares: Tensor

    def plus(self, embedding: Tensor, posterior: Tensor) -> Session:
        """The sums with one more utterance, ``(batch, width)`` and ``(batch, classes)``."""
        logits = (posterior + _TINY).log()
        return Session(
            self.utterances + 1.0,
            self.total + embedding,
            self.posterior + posterior,
            self.certainty + posterior.square().sum(dim=-1, keepdim=True),
            self.logits + logits,
            self.squares + logits.square(),
        )

    def flat(self) -> Tensor:
        """All sums side by side, the number of utterances first, ``(batch, size)``."""
        return torch.cat(tuple(self), dim=-1)

    def filled(self, flat: Tensor) -> Session:
        """A session of the same make-up from :meth:`flat` sums."""
        return Session(*flat.split([part.shape[-1] for part in self], dim=-1))


def summed(embeddings: Tensor, posteriors: Tensor) -> Session:
    """The session of utterances ``(batch, utterances, width)`` with posteriors ``(batch, utterances, classes)``."""
    logits = (posteriors + _TINY).log()
    count = embeddings.new_full((embeddings.shape[0], 1), float(embeddings.shape[1]))
    return Session(
        count,
        embeddings.sum(dim=1),
        posteriors.sum(dim=1),
        posteriors.square().sum(dim=(1, 2))[:, None],
        logits.sum(dim=1),
        logits.square().sum(dim=1),
    )


class SessionHead(nn.Module):
    """A linear classifier of embeddings with a memory of the session.

    Args:
        width: of the embeddings, which have about zero mean and unit variance over the training speakers.
        classes: number of them.
        prior: utterances at the training mean that pull the mean of the session back.
        neutral: index of the class neutral.

    Example:
        >>> head = SessionHead(4, 3, neutral=1).eval()
        >>> embedding = torch.randn(2, 4)
        >>> session = head.begin(2)
        >>> torch.equal(head(embedding, session), head.base(embedding))
        True
        >>> session = head.hear(embedding, session)
        >>> session.utterances.tolist(), tuple(head(embedding, session).shape)
        ([[1.0], [1.0]], (2, 3))
    """

    def __init__(self, width: int, classes: int, prior: float = 8.0, neutral: int = 0) -> None:
        super().__init__()
        self.classes, self.prior, self.neutral = classes, prior, neutral
        self.base = nn.Linear(width, classes)
        #: How much of the session's mean is subtracted, by dimension, before the sigmoid.
        self.share = nn.Parameter(torch.full((width,), 2.0))
        self.gate = nn.Sequential(nn.Linear(SCALARS, 8), nn.Tanh(), nn.Linear(8, 2))
        last = self.gate[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_(torch.tensor([0.0, -2.0]))

    def begin(self, batch: int = 1) -> Session:
        """The session before its first utterance."""
        new = self.base.weight.new_zeros
        classes, width = self.base.weight.shape
        sizes = (1, width, classes, 1, classes, classes)
        return Session(*(new(batch, size) for size in sizes))

    def hear(self, embedding: Tensor, session: Session) -> Session:
        """The session after a finished utterance with this embedding ``(batch, width)``."""
        return session.plus(embedding, self.base(embedding).softmax(dim=-1))

    def centre(self, session: Session) -> Tensor:
        """The mean of the session, pulled towards zero by the prior, by the learnt share, ``(batch, width)``."""
        return torch.sigmoid(self.share) * session.total / (session.utterances + self.prior)

    def scalars(self, session: Session) -> Tensor:
        """How mixed the session's emotions were, ``(batch, 6)``; zeros at its beginning."""
        # A short utterance counts as less than one.
        count = session.utterances.clamp_min(_TINY)
        mean = session.posterior / count
        entropy = -(mean * (mean + _TINY).log()).sum(dim=-1, keepdim=True) / math.log(self.classes)
        # 1 where all utterances were of one emotion, 1 over the classes where they were mixed.
        agreement = mean.square().sum(dim=-1, keepdim=True) / (session.certainty / count + _TINY)
        variance = (session.squares / count - (session.logits / count).square()).mean(dim=-1, keepdim=True)
        known = (
            entropy,
            mean.amax(dim=-1, keepdim=True),
            agreement,
            variance.clamp_min(0.0).sqrt(),
            mean[:, self.neutral : self.neutral + 1],
            torch.log1p(session.utterances) / 3.0,
        )
        return torch.cat(known, dim=-1) * (session.utterances > 0.0)

    def change(self, session: Session) -> Tensor:
        """Compute what the session adds to the logits of the next utterance, ``(batch, classes)``; zeros if empty."""
        openings = self.gate(self.scalars(session))
        weight = session.utterances / (session.utterances + self.prior)
        mean = session.posterior / session.utterances.clamp_min(_TINY)
        shares = weight * mean + (1.0 - weight) / self.classes
        persistence = functional.softplus(openings[:, 1:]) * session.utterances / (session.utterances + HALF)
        # Not as a linear layer: of two that share a constant, ONNX Runtime's quantizer transposes it under one of them.
        removed = torch.sigmoid(openings[:, :1]) * (self.centre(session) @ self.base.weight.t())
        # The logarithm of the uniform distribution is no prior: subtracted, it leaves an empty session's logits alone.
        heard = torch.log(shares + _UNHEARD) - math.log(1.0 / self.classes + _UNHEARD)
        return persistence * heard - removed

    def forward(self, embedding: Tensor, session: Session) -> Tensor:
        """Logits of an utterance given the session before it.

        Args:
            embedding: ``(batch, width)``.
            session: sums over earlier utterances.

        Returns:
            ``(batch, classes)``.
        """
        out: Tensor = self.base(embedding) + self.change(session)
        return out


class VoiceAdapter(nn.Module):
    """Attaches a :class:`SessionHead` to a network that has a classifier of its own.

    The head reads an affine map of the network's embedding. What the session changes of the head's logits is added to
    the network's own, so that with an empty session the network gives exactly what it gives without the head.

    Args:
        head: fitted on ``features`` of the network's embeddings.
        features: from the network's embedding to what the head reads.

    Example:
        >>> adapter = VoiceAdapter(SessionHead(4, 3), nn.Linear(8, 4)).eval()
        >>> embedding, logits = torch.randn(2, 8), torch.randn(2, 3)
        >>> changed, voice = adapter(embedding, logits, adapter.begin(2))
        >>> torch.equal(changed, logits), voice[:, 0].tolist()
        (True, [1.0, 1.0])
    """

    def __init__(self, head: SessionHead, features: nn.Linear) -> None:
        super().__init__()
        self.head, self.features = head, features
        self.make_up = head.begin()

    def begin(self, batch: int = 1) -> Tensor:
        """The session before its first utterance, flat, ``(batch, size)``."""
        return self.head.begin(batch).flat()

    def voice(self, embedding: Tensor) -> Tensor:
        """What an utterance with this embedding ``(batch, dim)`` adds to a session, ``(batch, size)``."""
        features = self.features(embedding)
        posterior = self.head.base(features).softmax(dim=-1)
        logits = (posterior + _TINY).log()
        certainty = posterior.square().sum(dim=-1, keepdim=True)
        one = torch.ones_like(certainty)
        return Session(one, features, posterior, certainty, logits, logits.square()).flat()

    def forward(self, embedding: Tensor, logits: Tensor, session: Tensor) -> tuple[Tensor, Tensor]:
        """Condition an utterance on the session before it.

        Args:
            embedding: of the utterance so far, ``(batch, dim)``.
            logits: the network's own, ``(batch, classes)``.
            session: sums over earlier utterances, ``(batch, size)``.

        Returns:
            logits, and what the utterance adds to the session if it ends here, ``(batch, size)``.
        """
        return logits + self.head.change(self.make_up.filled(session)), self.voice(embedding)
