"""Attention for training on CPUs: what the backward pass can compute again is not kept.

torch's fused kernel for CPUs is slow backwards on lines of a hundred tokens, and its unfused one keeps scaled copies of
queries and keys, a copy of the values, and the weights. :func:`lean_attention` keeps queries, keys and values as the
projection left them, and the result; the weights are computed again, one product of five. :func:`attention_by_head`
goes from the layer's input to its output one head at a time and keeps the input alone, for the projections once more.

Reference: T. Dao et al., "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness", NeurIPS 2022,
appendix B.2, for the backward pass, without its tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, heads: int) -> Tensor:
        with torch.autocast(qkv.device.type, enabled=False):
            q, k, v = _parts(qkv, heads)
            out = _join(_weights(q, k) @ v)
        ctx.heads = heads
        ctx.save_for_backward(qkv, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        qkv, out = ctx.saved_tensors
        q, k, v = _parts(qkv, ctx.heads)
        by_head = (*grad.shape[:2], ctx.heads, -1)
        # What every weight of a row gets subtracted, by the derivative of the softmax.
        shared = (grad * out).view(by_head).sum(dim=-1).transpose(1, 2)[..., None]
        grad = grad.reshape(by_head).transpose(1, 2)
        weights = _weights(q, k)
        result = torch.empty_like(qkv, memory_format=torch.contiguous_format)
        to_q, to_k, to_v = _parts(result, ctx.heads)
        to_v.copy_(weights.transpose(-1, -2) @ grad)
        scores = (grad @ v.transpose(-1, -2)).sub_(shared).mul_(weights).mul_(q.shape[-1] ** -0.5)
        to_q.copy_(scores @ k)
        to_k.copy_(scores.transpose(-1, -2) @ q)
        return result, None


def _parts(qkv: Tensor, heads: int) -> tuple[Tensor, ...]:
    """Views ``(batch, head, token, dim_head)`` of queries, keys and values."""
    batch, tokens, _ = qkv.shape
    return qkv.view(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def _weights(q: Tensor, k: Tensor) -> Tensor:
    return torch.softmax((q @ k.transpose(-1, -2)).mul_(q.shape[-1] ** -0.5), dim=-1)


def _join(out: Tensor) -> Tensor:
    """``(batch, head, token, dim_head)`` to ``(batch, token, head * dim_head)``."""
    return out.transpose(1, 2).flatten(2)


def lean_attention(qkv: Tensor, heads: int) -> Tensor:
    """Scaled dot-product attention whose backward pass keeps nothing but its argument and its result.

    Args:
        qkv: ``(batch, token, 3 * heads * dim_head)``: queries, keys and values of all heads, one after the other.
        heads: number of heads.

    Returns:
        ``(batch, token, heads * dim_head)``. It can be differentiated once.
    """
    result: Tensor = _Attention.apply(qkv, heads)
    return result


class _ByHead(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, to_qkv: Tensor, to_out: Tensor, heads: int) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            flat, total = x.flatten(0, 1), None
            for of_qkv, of_out in _heads(to_qkv, to_out, heads):
                q, k, v = _project(flat, of_qkv, x)
                total = _add(total, (_weights(q, k) @ v).flatten(0, 1) @ of_out.t())
        ctx.heads = heads
        ctx.save_for_backward(x, to_qkv, to_out)
        assert total is not None
        result: Tensor = total.to(x.dtype).unflatten(0, x.shape[:2])
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, to_qkv, to_out = ctx.saved_tensors
        flat, grad, total = x.flatten(0, 1), grad.flatten(0, 1), None
        width = to_out.shape[1] // ctx.heads
        grad_qkv, grad_out = torch.empty_like(to_qkv), torch.empty_like(to_out)
        by_head = zip(grad_qkv.view(3, ctx.heads, width, -1).unbind(1), grad_out.split(width, dim=1), strict=True)
        for (of_qkv, of_out), (its_qkv, its_out) in zip(_heads(to_qkv, to_out, ctx.heads), by_head, strict=True):
            q, k, v = _project(flat, of_qkv, x)
            weights = _weights(q, k)
            out = weights @ v
            its_out.copy_(grad.t() @ out.flatten(0, 1))
            behind = (grad @ of_out).view_as(out)
            scores = behind @ v.transpose(-1, -2)
            # What every weight of a row gets subtracted, by the derivative of the softmax.
            scores.sub_((behind * out).sum(dim=-1, keepdim=True)).mul_(weights).mul_(width**-0.5)
            result = torch.empty(*x.shape[:2], 3 * width, dtype=x.dtype, device=x.device)
            to_q, to_k, to_v = result.split(width, dim=-1)
            to_q.copy_(scores @ k)
            to_k.copy_(scores.transpose(-1, -2) @ q)
            to_v.copy_(weights.transpose(-1, -2) @ behind)
            rows = result.flatten(0, 1)
            its_qkv.copy_((rows.t() @ flat).view_as(its_qkv))
            total = _add(total, rows @ of_qkv)
        assert total is not None
        return total.to(x.dtype).view_as(x), grad_qkv, grad_out, None


def _heads(to_qkv: Tensor, to_out: Tensor, heads: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each head the rows of the first matrix, ``(3 * dim_head, dim)``, and the columns of the second."""
    rows = to_qkv.unflatten(0, (3, heads, -1)).transpose(0, 1).flatten(1, 2)
    return zip(rows.unbind(0), to_out.chunk(heads, dim=1), strict=True)


def _project(flat: Tensor, of_qkv: Tensor, like: Tensor) -> list[Tensor]:
    """A head's queries, keys and values, ``(batch, token, dim_head)`` each: apart, so that none has to be copied."""
    return [(flat @ part.t()).unflatten(0, like.shape[:2]) for part in of_qkv.chunk(3)]


def _add(total: Tensor | None, part: Tensor) -> Tensor:
    """Sums over heads are float32 at least, as inside one product."""
    if total is None:
        return part.to(torch.promote_types(part.dtype, torch.float32))
    return total.add_(part)


def attention_by_head(x: Tensor, to_qkv: Tensor, to_out: Tensor, heads: int) -> Tensor:
    """Self-attention with its projections, a head at a time; the backward pass keeps nothing but the arguments.

    Under autocast it computes in autocast's precision, as linear layers do.

    Args:
        x: ``(batch, token, dim)``.
        to_qkv: ``(3 * heads * dim_head, dim)``, weights of queries, keys and values of all heads.
        to_out: ``(dim, heads * dim_head)``, weights of the result.
        heads: number of heads.

    Returns:
        ``(batch, token, dim)``. It can be differentiated once.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, to_qkv, to_out = x.to(dtype), to_qkv.to(dtype), to_out.to(dtype)
    result: Tensor = _ByHead.apply(x, to_qkv, to_out, heads)
    return result
