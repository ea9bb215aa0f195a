"""Attention for training on CPUs: what the backward pass can compute again is not kept.

torch's fused kernel for CPUs is slow backwards on lines of a hundred tokens, and its unfused one keeps scaled copies of
queries and keys, a copy of the values, and the weights. Here queries, keys and values are kept as the projection left
them, and the result; the weights are computed again, one product of five.

Reference: T. Dao et al., "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness", NeurIPS 2022,
appendix B.2, for the backward pass, without its tiles.
"""

from __future__ import annotations

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
