"""Attention for training on CPUs equals torch's, forwards and backwards, and keeps less."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402

from stream_ser.models.attention import attention_by_head, lean_attention  # noqa: E402
from stream_ser.models.tokens import Attention, TokenConfig, TransformerLayer  # noqa: E402

LINES, TOKENS, HEADS, WIDTH = 3, 7, 2, 5


def draw(dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (LINES, TOKENS, 3 * HEADS * WIDTH)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def torchs(qkv: torch.Tensor) -> torch.Tensor:
    q, k, v = qkv.view(LINES, TOKENS, 3, HEADS, WIDTH).permute(2, 0, 3, 1, 4).unbind(0)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(LINES, TOKENS, -1)


@pytest.mark.parametrize(
    ("dtype", "within"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 3e-2)], ids=str
)
def test_equals_torchs_attention(dtype: torch.dtype, within: float) -> None:
    ours, theirs = draw(dtype), draw(torch.float64)
    weights = torch.randn(LINES, TOKENS, HEADS * WIDTH, generator=torch.Generator().manual_seed(1))
    for qkv, attend in ((ours, lambda x: lean_attention(x, HEADS)), (theirs, torchs)):
        out = attend(qkv)
        (out * weights.to(out.dtype)).sum().backward()
    torch.testing.assert_close(lean_attention(ours, HEADS).double(), torchs(theirs), atol=within, rtol=within)
    torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=within, rtol=within)


def test_gradients_by_differences() -> None:
    assert torch.autograd.gradcheck(lambda qkv: lean_attention(qkv, HEADS), draw(torch.float64))


def by_head(dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((LINES, TOKENS, 6), (3 * HEADS * WIDTH, 6), (6, HEADS * WIDTH))
    drawn = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return [tensor.to(dtype).requires_grad_() for tensor in drawn]


@pytest.mark.parametrize(
    ("dtype", "within"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 3e-2)], ids=str
)
def test_head_by_head_equals_torchs_attention(dtype: torch.dtype, within: float) -> None:
    ours, theirs = by_head(dtype), by_head(torch.float64)
    x, to_qkv, to_out = theirs
    expected = torchs(x @ to_qkv.t()) @ to_out.t()
    out = attention_by_head(*ours, HEADS)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (expected * weights).sum().backward()
    (out * weights.to(dtype)).sum().backward()
    pairs = ((out.detach(), expected.detach()), *((a.grad, b.grad) for a, b in zip(ours, theirs, strict=True)))
    for found, right in pairs:
        torch.testing.assert_close(found.double(), right, atol=within * float(right.abs().max()), rtol=within)


def test_gradients_head_by_head_by_differences() -> None:
    assert torch.autograd.gradcheck(lambda *given: attention_by_head(*given, HEADS), by_head(torch.float64))


def test_head_by_head_computes_in_autocasts_precision() -> None:
    given = by_head(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = attention_by_head(*given, HEADS)
    assert torch.equal(inside, attention_by_head(*(tensor.bfloat16() for tensor in given), HEADS))
    inside.float().sum().backward()
    assert all(tensor.grad is not None and tensor.grad.dtype == torch.float32 for tensor in given)


def test_the_precision_of_the_surroundings_does_not_matter() -> None:
    qkv = draw(torch.float32)
    alone = lean_attention(qkv, HEADS)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(lean_attention(qkv, HEADS), alone)


def kept(forward: Callable[[torch.Tensor], torch.Tensor], layer: torch.nn.Module, x: torch.Tensor) -> int:
    """Bytes that the backward pass needs, parameters left out."""
    parameters = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    found: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        forward(x)
    return sum(found.values())


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("width", [32, 128])
def test_a_layer_says_in_training_what_it_says_later(width: int, precision: torch.dtype) -> None:
    torch.manual_seed(0)
    layer, x = Attention(16, 2, width, dropout=0.0), torch.randn(4, 33, 16)
    within = 1e-5 if precision == torch.float32 else 2e-2
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        training, later = layer(x), layer.eval()(x)
    assert training.dtype == later.dtype
    torch.testing.assert_close(training.float(), later.float(), atol=within, rtol=within)


def test_a_layer_in_training_keeps_less_and_says_the_same() -> None:
    torch.manual_seed(0)
    layer = Attention(16, 2, 32, dropout=0.0)
    x = torch.randn(4, 33, 16)
    lean, before = layer(x), kept(layer, layer, x)
    assert before == 4 * x.numel() * (1 + 3 * 64 // 16 + 64 // 16)  # input, projection, result
    layer.eval()
    torch.testing.assert_close(lean, layer(x), atol=1e-5, rtol=1e-5)
    with sdpa_kernel(SDPBackend.MATH):
        assert kept(layer, layer, x) > 1.2 * before


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_what_is_computed_again_is_the_same(dropout: float) -> None:
    found = []
    for recompute in (False, True):
        torch.manual_seed(0)
        layer = TransformerLayer(TokenConfig(8, 8, dim=16, heads=2, dim_head=8, dropout=dropout, recompute=recompute))
        x = torch.randn(4, 33, 16, requires_grad=True)
        out = layer.attend(x)
        out.square().sum().backward()
        found.append([out.detach(), x.grad, *(p.grad for p in layer.parameters())])
    for kept, again in zip(*found, strict=True):
        torch.testing.assert_close(kept, again, atol=1e-5, rtol=1e-5)


def test_attention_that_is_computed_again_is_not_kept() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 33, 16)
    layers = [
        TransformerLayer(TokenConfig(8, 8, dim=16, mlp_dim=16, heads=2, dim_head=64, recompute=recompute))
        for recompute in (False, True)
    ]
    whole, part = (kept(layer.attend, layer, x) for layer in layers)
    assert part < whole / 3
    layer = Attention(16, 2, 64, dropout=0.0, recompute=True)
    assert kept(layer, layer, x) == 4 * x.numel()  # its input
    wide = Attention(16, 1, 128, dropout=0.0)
    assert kept(wide, wide, x) == 4 * x.numel()


def test_dropout_is_left_to_torch() -> None:
    torch.manual_seed(0)
    layer = Attention(16, 2, 32, dropout=0.5)
    x = torch.randn(4, 33, 16)
    assert not torch.equal(layer(x), layer(x))
