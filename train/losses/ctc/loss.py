"""Connectionist temporal classification: the loss and its exact gradient, from the recursions themselves.

A path gives one class to every frame; merging repetitions and then removing blanks turns it into a text. The loss is
``-log`` of the summed probability of all paths that give the target. With ``S`` tokens a path runs through ``2 S + 1``
states, a blank before, between and behind the tokens. They are kept apart here, ``S + 1`` blanks and ``S`` tokens
(shifted by one column, so that state ``s`` of both follows token ``s - 1``), which has a use: what enters blank ``s``,
that is blank ``s`` or token ``s - 1``, is also what enters token ``s`` from below. Computing that sum once halves the
work, and all neighbours are slices: nothing is gathered inside the loop over time.

Reference: A. Graves et al., Connectionist temporal classification, ICML 2006.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from stream_ser.ctc.batch import Batch, arrange

Reduction = Literal["none", "mean", "sum"]

_NEVER = float("-inf")
#: Frames that are worked on at once: bounds what is allocated besides the result.
_CHUNK = 64


def ctc_loss(
    log_probs: Tensor,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: Reduction = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """``-log p(targets | log_probs)``, as ``torch.nn.functional.ctc_loss`` defines it, on any device.

    The gradient is that of the loss as a function of ``log_probs``: minus the share of the paths' probability that
    passes through a class in a frame. torch's own is larger by ``exp(log_probs)``, which presumes a log-softmax before
    it; behind one, at the logits, the two are the same. Frames behind an item's end have the gradient 0. An item that
    has no alignment has the loss inf and NaN as its gradient, unless ``zero_infinity``.

    Args:
        log_probs: ``(time, batch, classes)``, or ``(time, classes)`` for one item; natural logarithms, -inf allowed.
            float16 and bfloat16 are computed in float32.
        targets: ``(batch, longest)`` padded with anything, or ``(sum of target_lengths,)``; class indices.
        input_lengths: ``(batch,)``, frames; tensor or sequence.
        target_lengths: ``(batch,)``, tokens; 0 is allowed.
        blank: class index.
        reduction: ``none``: ``(batch,)``, for one item ``()``; ``sum``; ``mean``: each loss divided by its target's
            length (at least 1), then the mean over the batch.
        zero_infinity: infinite losses and their gradients become 0.

    Returns:
        float32, or float64 for such ``log_probs``.

    Raises:
        ValueError: a shape, kind of number, device, length or class does not fit, or the blank is among the targets.
        RuntimeError: the gradient is differentiated; :func:`ctc_loss_autograd` can be.
    """
    given = _check(log_probs, targets, input_lengths, target_lengths, blank, reduction)
    keep = given.log_probs.requires_grad and torch.is_grad_enabled()
    losses: Tensor = _Loss.apply(given.log_probs, given.tables, keep)
    return _reduce(losses, given, reduction, zero_infinity)


def ctc_loss_autograd(
    log_probs: Tensor,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: Reduction = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """:func:`ctc_loss` written down once more, state by state in Graves' order, its gradient left to autograd.

    It is the check on the other, slow, and differentiable twice. Where an item has no alignment its gradient is 0.
    """
    given = _check(log_probs, targets, input_lengths, target_lengths, blank, reduction)
    batch, scores = given.batch, given.log_probs
    items = scores.shape[1]
    states = torch.full((items, 2 * batch.targets.shape[1] + 1), blank, device=scores.device)
    states[:, 1::2] = given.tables.targets
    may_skip = torch.zeros_like(states, dtype=torch.bool)
    may_skip[:, 2:] = (states[:, 2:] != blank) & (states[:, 2:] != states[:, :-2])
    ends = 2 * given.tables.target_lengths[:, None]
    alpha = torch.where(torch.arange(states.shape[1], device=scores.device) == 0, 0.0, _NEVER).to(scores)
    alpha = alpha.expand(states.shape)
    for t in range(scores.shape[0]):
        # Before the first frame there is only the start, which the first blank and the first token follow.
        one, two = _shifted(alpha, 1), _shifted(alpha, 2).masked_fill(~may_skip, _NEVER)
        after = _log_sum(torch.stack((alpha, one, two))) + scores[t].gather(1, states)
        alpha = torch.where(given.tables.input_lengths[:, None] > t, after, alpha)
    last = alpha.gather(1, torch.cat((ends, (ends - 1).clamp(min=0)), dim=1))
    last = torch.stack((last[:, 0], last[:, 1].masked_fill(ends[:, 0] == 0, _NEVER)))
    return _reduce(-_log_sum(last), given, reduction, zero_infinity)


def _shifted(alpha: Tensor, by: int) -> Tensor:
    return torch.nn.functional.pad(alpha, (by, 0), value=_NEVER)[:, : alpha.shape[1]]


def _log_sum(terms: Tensor) -> Tensor:
    """``logsumexp`` over the first axis whose gradient is 0, not NaN, where all terms are -inf."""
    top = terms.detach().amax(dim=0)
    top = top.masked_fill(top == _NEVER, 0.0)
    total = (terms - top).exp().sum(dim=0)
    return torch.where(total > 0, total, 1.0).log().add(top).masked_fill(total == 0, _NEVER)


@dataclass(frozen=True)
class _Tables:
    """A batch on the device of ``log_probs``.

    Attributes:
        targets: ``(batch, S)``, blank behind an item's end.
        follows: ``(batch, S)``, whether the token may follow the one before it without a blank; None: all may.
        target_lengths: ``(batch,)``.
        input_lengths: ``(batch,)``.
        ends: ``(frame, items)`` that end with that frame, in order.
        blank: class index.
    """

    targets: Tensor
    follows: Tensor | None
    target_lengths: Tensor
    input_lengths: Tensor
    ends: tuple[tuple[int, Tensor], ...]
    blank: int


@dataclass(frozen=True)
class _Given:
    log_probs: Tensor
    batch: Batch
    tables: _Tables
    single: bool


def _check(
    log_probs: Tensor, targets: Any, input_lengths: Any, target_lengths: Any, blank: int, reduction: Reduction
) -> _Given:
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction is {reduction!r}, expected one of {', '.join(get_args(Reduction))}")
    if not isinstance(log_probs, Tensor) or not log_probs.is_floating_point():
        found = log_probs.dtype if isinstance(log_probs, Tensor) else type(log_probs).__name__
        raise ValueError(f"log_probs are {found}, expected a tensor of floats")
    device = log_probs.device
    for name, values in (("targets", targets), ("input_lengths", input_lengths), ("target_lengths", target_lengths)):
        if isinstance(values, Tensor) and values.device not in (device, torch.device("cpu")):
            raise ValueError(f"{name} are on {values.device}, log_probs on {device}; move them there or to the CPU")
    batch = arrange(tuple(log_probs.shape), targets, input_lengths, target_lengths, blank)
    single = log_probs.ndim == 2
    scores = log_probs if log_probs.dtype == torch.float64 else log_probs.float()
    repeated = batch.repeated
    ends: dict[int, list[int]] = {}
    for item, frames in enumerate(batch.input_lengths.tolist()):
        ends.setdefault(frames - 1, []).append(item)
    tables = _Tables(
        torch.from_numpy(batch.targets).to(device),
        torch.from_numpy(~repeated).to(device) if repeated.any() else None,
        torch.from_numpy(batch.target_lengths).to(device),
        torch.from_numpy(batch.input_lengths).to(device),
        tuple((frame, torch.tensor(ends[frame], device=device)) for frame in sorted(ends)),
        batch.blank,
    )
    return _Given(scores.unsqueeze(1) if single else scores, batch, tables, single)


def _reduce(losses: Tensor, given: _Given, reduction: Reduction, zero_infinity: bool) -> Tensor:
    if zero_infinity:
        losses = torch.where(losses == float("inf"), 0.0, losses)
    if reduction == "mean":
        return (losses / given.tables.target_lengths.clamp(min=1)).mean()
    if reduction == "sum":
        return losses.sum()
    return losses[0] if given.single else losses


def _alphas(scores: Tensor, tables: _Tables, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The forward recursion.

    Args:
        scores: ``(time, batch, classes)``.
        tables: the batch.
        keep: return the forward variables of all frames; else only a chunk of them is ever in memory.

    Returns:
        ``log p(targets)`` ``(batch,)``; the blanks' and the tokens' forward variables, ``(time, batch, S + 1)`` each,
        token ``s`` in column ``s + 1``.
    """
    frames, items, _ = scores.shape
    count = tables.targets.shape[1]
    shape = (frames if keep else min(frames, _CHUNK), items, count + 1)
    blanks, tokens = scores.new_empty(shape), scores.new_empty(shape)
    tokens[..., 0] = _NEVER
    # Before the first frame: the first blank and the first token both follow this.
    blank, token = scores.new_full((2, items, count + 1), _NEVER)
    blank[:, 0] = 0.0
    log_p = torch.where(tables.target_lengths == 0, 0.0, _NEVER).to(scores)  # of items without frames
    inner = token[:, 1:]
    entering, stepping = torch.empty_like(blank), scores.new_empty((items, count))
    below = entering[:, :-1]
    for start in range(0, frames, _CHUNK):
        chunk = scores[start : start + _CHUNK]
        first = start if keep else 0
        rows = slice(first, first + len(chunk))
        if start and not keep:
            blank, token = blank.clone(), token.clone()  # they lie in rows that are written next
            inner = token[:, 1:]
        tokens[rows, :, 1:] = chunk.gather(2, tables.targets.expand(len(chunk), -1, -1))
        columns = (chunk[..., tables.blank, None], blanks[rows], tokens[rows], tokens[rows, :, 1:])
        for score, new_blank, new_token, new_inner in zip(*(column.unbind() for column in columns), strict=True):
            torch.logaddexp(blank, token, out=entering)
            if tables.follows is None:
                torch.logaddexp(inner, below, out=stepping)
            else:
                torch.where(tables.follows, below, blank[:, :-1], out=stepping)
                torch.logaddexp(inner, stepping, out=stepping)
            new_inner.add_(stepping)
            torch.add(entering, score, out=new_blank)
            blank, token, inner = new_blank, new_token, new_inner
        for frame, ending in tables.ends:
            if start <= frame < start + len(chunk):
                row, column = first + frame - start, tables.target_lengths[ending]
                log_p[ending] = torch.logaddexp(blanks[row, ending, column], tokens[row, ending, column])
    return log_p, blanks, tokens


def _betas(scores: Tensor, tables: _Tables) -> Iterator[tuple[Tensor, Tensor]]:
    """The backward recursion, from the last frame to the first.

    A backward variable leaves out its own frame's score, so forward plus backward is a state's share of ``p``.

    Yields:
        The blanks' backward variables ``(batch, S + 1)`` and the tokens' ``(batch, S)``; both are overwritten next.
    """
    frames, items, _ = scores.shape
    count = tables.targets.shape[1]
    # The token in a blank's column is the one behind it; behind the last blank there is none.
    blank, tokens = scores.new_full((2, items, count + 1), _NEVER)
    token, leaving, stepping = tokens[:, :-1], torch.empty_like(blank), scores.new_empty((items, count))
    follows = None if tables.follows is None else torch.nn.functional.pad(tables.follows[:, 1:], (0, 1), value=True)
    ends = dict(tables.ends)
    for start in reversed(range(0, frames, _CHUNK)):
        chunk = scores[start : start + _CHUNK]
        token_scores = chunk.gather(2, tables.targets.expand(len(chunk), -1, -1)).unbind()
        blank_scores = chunk[..., tables.blank, None].unbind()
        for row in reversed(range(len(chunk))):
            if start + row in ends:
                ending = ends[start + row]
                places = torch.arange(count + 1, device=scores.device) - tables.target_lengths[ending, None]
                blank[ending] = torch.where(places == 0, 0.0, _NEVER).to(scores)
                tokens[ending] = torch.where(places == -1, 0.0, _NEVER).to(scores)
            yield blank, token
            blank.add_(blank_scores[row])
            token.add_(token_scores[row])
            torch.logaddexp(blank, tokens, out=leaving)
            above = leaving[:, 1:]
            if follows is not None:
                above = torch.where(follows, above, blank[:, 1:], out=stepping)
            torch.logaddexp(token, above, out=token)
            blank, leaving = leaving, blank


def _gradient(scores: Tensor, tables: _Tables, log_p: Tensor, blanks: Tensor, tokens: Tensor, scale: Tensor) -> Tensor:
    """The gradient ``(time, batch, classes)``: a class' states' shares of ``p`` in each frame, times ``-scale``.

    Args:
        scores: ``(time, batch, classes)``.
        tables: the batch.
        log_p: ``(batch,)``, of :func:`_alphas`.
        blanks: likewise.
        tokens: likewise.
        scale: ``(batch,)``, gradient of the losses.
    """
    gradient = torch.zeros_like(scores)
    frames, items, states = blanks.shape
    size = min(frames, _CHUNK)
    at_blanks, at_tokens = scores.new_empty((size, items, states)), scores.new_empty((size, items, states - 1))
    betas = _betas(scores, tables)
    for start in reversed(range(0, frames, _CHUNK)):
        rows = slice(start, min(start + _CHUNK, frames))
        count = rows.stop - start
        for row in reversed(range(count)):
            blank, token = next(betas)
            torch.add(blanks[start + row], blank, out=at_blanks[row])
            torch.add(tokens[start + row, :, 1:], token, out=at_tokens[row])
        for shares in (at_blanks[:count], at_tokens[:count]):
            shares.sub_(log_p[:, None]).exp_().mul_(-scale[:, None])
        gradient[rows].scatter_add_(2, tables.targets.expand(count, -1, -1), at_tokens[:count])
        gradient[rows, :, tables.blank] += at_blanks[:count].sum(dim=2)
    # Of a frame behind the end nothing is known, it may even hold NaN; a loss without weight has no gradient, even inf.
    behind = torch.arange(frames, device=scores.device)[:, None] >= tables.input_lengths
    return gradient.masked_fill_((behind | (scale == 0))[..., None], 0.0)


class _Loss(torch.autograd.Function):
    """``-log p`` ``(batch,)``; ``keep`` the forward variables for the gradient."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, tables: _Tables, keep: bool) -> Tensor:
        log_p, blanks, tokens = _alphas(scores, tables, keep)
        if keep:
            ctx.save_for_backward(scores, log_p, blanks, tokens)
            ctx.tables = tables
        return -log_p

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None, None]:
        scores, log_p, blanks, tokens = ctx.saved_tensors
        gradient = _gradient(scores.detach(), ctx.tables, log_p, blanks, tokens, scale.detach())
        return _Once.apply(gradient, scores, scale), None, None


class _Once(torch.autograd.Function):
    """A gradient that says what to do when it is itself differentiated."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *depends_on: Tensor) -> Tensor:
        return gradient

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[None, ...]:
        raise RuntimeError("ctc_loss can be differentiated once, not twice; ctc_loss_autograd can, slowly")
