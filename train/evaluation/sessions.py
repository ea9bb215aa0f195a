"""Fits and measures a memory of the voice on embeddings that were computed once.

Sessions are drawn: utterances of one speaker before the present one, in three mixes of emotions. The order of the
steps matters. First the classifier and what it subtracts are learnt where the earlier emotions say nothing of the
present one, then, with both frozen, the gate on all mixes. Learnt together, the classifier takes the earlier emotion
for a hint and gets worse where emotions change (LOG.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from stream_ser.errors import DataError
from stream_ser.models.session import Session, SessionHead, summed
from stream_ser.train.metrics import answers, restrict, softmax

#: Emotions of the earlier utterances: all alike often; four in five neutral; all of the present emotion; all of one
#: emotion, which says nothing of the present one (for training alone).
Mix = Literal["balanced", "neutral", "same", "one"]
MIXES: tuple[Mix, ...] = get_args(Mix)
#: What is measured and the gate is fitted on.
MEASURED: tuple[Mix, ...] = ("balanced", "neutral", "same")
#: Share of neutral utterances in the mix of that name.
NEUTRAL_SHARE = 0.8
#: Utterances heard before, in training and in the table.
HEARD = (1, 2, 3, 5, 8, 12, 20, 30)
SHOWN = (0, 1, 3, 10, 30)
#: Weight of the mix ``same`` for the gate, beside 1 for the others.
SAME_WEIGHT = 0.3


@dataclass(frozen=True)
class Utterances:
    """Embedded utterances of known speakers.

    Attributes:
        embeddings: ``(clips, width)``, standardised.
        truth: ``(clips,)``.
        speakers: number of each clip's speaker, from 0, ``(clips,)``.
        classes: number of classes.
        neutral: index of neutral.
    """

    embeddings: NDArray[np.float32]
    truth: NDArray[np.int64]
    speakers: NDArray[np.int64]
    classes: int
    neutral: int

    def __post_init__(self) -> None:
        if not len(self.embeddings) == len(self.truth) == len(self.speakers) > 0:
            raise DataError(
                f"{len(self.embeddings)} embeddings, {len(self.truth)} labels and {len(self.speakers)} speakers"
            )

    def select(self, chosen: NDArray[np.bool_]) -> Utterances:
        """Some of the clips, with the speakers numbered anew."""
        numbers = np.unique(self.speakers[chosen], return_inverse=True)[1].astype(np.int64)
        return Utterances(self.embeddings[chosen], self.truth[chosen], numbers, self.classes, self.neutral)

    def by_class(self) -> list[list[NDArray[np.int64]]]:
        """Clips of each speaker and class."""
        return [
            [np.flatnonzero((self.speakers == s) & (self.truth == c)) for c in range(self.classes)]
            for s in range(int(self.speakers.max()) + 1)
        ]


def draw_history(
    utterances: Utterances, rows: NDArray[np.int64], count: int, mix: Mix, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Earlier utterances for each of ``rows``: of the same speaker, never the clip itself.

    A class that a speaker lacks is replaced by the others; clips come twice only where there are too few.

    Args:
        utterances: what is drawn from.
        rows: present utterances, ``(rows,)``.
        count: how many come before.
        mix: of their emotions.
        rng: source of all randomness.

    Returns:
        ``(rows, count)``.

    Raises:
        DataError: a speaker with a single clip.
    """
    places = utterances.by_class()
    out = np.empty((len(rows), count), np.int64)
    for row, clip in enumerate(rows):
        own, label = places[utterances.speakers[clip]], int(utterances.truth[clip])
        others = {c: clips[clips != clip] for c, clips in enumerate(own)}
        have = [c for c, clips in others.items() if len(clips)]
        if not have:
            raise DataError("a speaker with a single utterance has no session")
        drawn = rng.choice(have, count)
        if mix == "same" and label in have:
            drawn = np.full(count, label)
        elif mix == "one":
            drawn = np.full(count, rng.choice(have))
        elif mix == "neutral" and utterances.neutral in have:
            drawn = np.where(rng.random(count) < NEUTRAL_SHARE, utterances.neutral, drawn)
        for c in np.unique(drawn):
            wanted, pool = drawn == c, others[int(c)]
            out[row, wanted] = rng.choice(pool, int(wanted.sum()), replace=int(wanted.sum()) > len(pool))
    return out


def _sessions(
    utterances: Utterances,
    posteriors: NDArray[np.float32],
    mixes: Sequence[Mix],
    rng: np.random.Generator,
    empty: SessionHead,
) -> Session:
    """A drawn session before each clip; a share of them is empty."""
    clips = len(utterances.truth)
    parts = list(empty.begin(clips))
    cases: list[tuple[Mix, int]] = [(mix, count) for mix in mixes for count in HEARD]
    groups = np.array_split(rng.permutation(clips), len(cases) + len(mixes))
    for rows, (mix, count) in zip(groups, cases, strict=False):
        if len(rows):
            drawn = draw_history(utterances, rows, count, mix, rng)
            found = summed(torch.from_numpy(utterances.embeddings[drawn]), torch.from_numpy(posteriors[drawn]))
            for part, value in zip(parts, found, strict=True):
                part[torch.from_numpy(rows)] = value
    return Session(*parts)


def _rows(session: Session, rows: torch.Tensor) -> Session:
    return Session(*(part[rows] for part in session))


def fit(
    utterances: Utterances,
    posteriors: NDArray[np.float32],
    *,
    passes: int = 24,
    decay: float = 0.3,
    same: float = SAME_WEIGHT,
    seed: int = 0,
) -> SessionHead:
    """Learn a classifier with a memory in two steps.

    Args:
        utterances: of the training speakers.
        posteriors: what heads that have not heard the speaker say of each clip, ``(clips, classes)``: what is summed
            up in training must be as uncertain as what will be summed up of a new voice.
        passes: over the clips in the first step; half as many in the second.
        decay: of the classifier's weights.
        same: weight of sessions of the present emotion for the gate, beside 1 for the other mixes.
        seed: of all draws.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    head = SessionHead(utterances.embeddings.shape[1], utterances.classes, neutral=utterances.neutral)
    inputs, targets = torch.from_numpy(utterances.embeddings), torch.from_numpy(utterances.truth)
    _first_step(head, utterances, posteriors, inputs, targets, rng, passes, decay)
    _second_step(head, utterances, posteriors, inputs, targets, rng, passes // 2, same)
    return head.eval()


def _first_step(
    head: SessionHead,
    utterances: Utterances,
    posteriors: NDArray[np.float32],
    inputs: torch.Tensor,
    targets: torch.Tensor,
    rng: np.random.Generator,
    passes: int,
    decay: float,
) -> None:
    """The classifier and what it subtracts, where earlier emotions say nothing; all of the mean is let through."""
    size = min(256, len(targets))
    groups: list[dict[str, Any]] = [
        {"params": [head.base.weight], "weight_decay": decay},
        {"params": [head.base.bias, head.share]},
    ]
    optimizer = torch.optim.AdamW(groups, lr=2e-3, weight_decay=0.0)
    steps = passes * (len(targets) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for number in range(passes):
        if number % 4 == 0:
            session = _sessions(utterances, posteriors, ("balanced", "neutral", "one"), rng, head)
        for rows in torch.randperm(len(targets)).split(size):
            if len(rows) < size:
                continue
            said = head.base(inputs[rows] - head.centre(_rows(session, rows)))
            loss = F.cross_entropy(said, targets[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def _second_step(
    head: SessionHead,
    utterances: Utterances,
    posteriors: NDArray[np.float32],
    inputs: torch.Tensor,
    targets: torch.Tensor,
    rng: np.random.Generator,
    passes: int,
    same: float,
) -> None:
    """The gate alone, on all mixes."""
    optimizer = torch.optim.Adam(head.gate.parameters(), lr=1e-2)
    for number in range(max(1, passes)):
        if number % 4 == 0:
            sessions = {mix: _sessions(utterances, posteriors, (mix,), rng, head) for mix in MEASURED}
        for rows in torch.randperm(len(targets)).split(512):
            loss = torch.zeros(())
            for mix, session in sessions.items():
                weight = same if mix == "same" else 1.0
                loss = loss + weight * F.cross_entropy(head(inputs[rows], _rows(session, rows)), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.no_grad()
def measure(
    head: SessionHead,
    utterances: Utterances,
    own: NDArray[np.float32] | None = None,
    *,
    draws: int = 3,
    seed: int = 5,
) -> dict[str, dict[int, float]]:
    """UAR by mix and by the number of utterances heard before, 0 being without a memory.

    Every clip is the present utterance once a draw. Answers are among the classes that occur.

    Args:
        head: fitted on other speakers.
        utterances: of speakers with two clips or more.
        own: logits of another classifier ``(clips, classes)``, to which is added by how much the memory changes those
            of ``head``; without them the logits are the head's.
        draws: of the earlier utterances, averaged.
        seed: of the draws.
    """
    inputs = torch.from_numpy(utterances.embeddings)
    posteriors = head.base(inputs).softmax(dim=-1)
    rows = np.arange(len(utterances.truth))
    present = np.bincount(utterances.truth, minlength=utterances.classes) > 0
    table: dict[str, dict[int, float]] = {}
    for mix in MEASURED:
        table[mix] = {}
        for count in SHOWN:
            found = []
            for draw in range(draws if count else 1):
                session = head.begin(len(rows))
                if count:
                    rng = np.random.default_rng((seed, draw, count))
                    drawn = torch.from_numpy(draw_history(utterances, rows, count, mix, rng))
                    session = summed(inputs[drawn], posteriors[drawn])
                logits = head(inputs, session)
                if own is not None:
                    logits = logits - head.base(inputs) + torch.from_numpy(own)
                said = restrict(softmax(logits.double().numpy()), present)
                right = answers(said) == utterances.truth
                found.append(np.mean([right[utterances.truth == c].mean() for c in np.flatnonzero(present)]))
            table[mix][count] = float(np.mean(found))
    return table
