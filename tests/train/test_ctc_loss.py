"""The CTC loss and its gradient: against enumeration, torch's native loss, autograd and finite differences."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from stream_ser.train.losses.ctc import brute, ctc_loss, ctc_loss_autograd  # noqa: E402
from stream_ser.train.losses.ctc import loss as loss_module  # noqa: E402

INF = float("inf")


def logits(frames: int, items: int, classes: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(frames, items, classes, generator=generator, dtype=torch.float64).to(dtype)


def solved(function, scores: torch.Tensor, *args, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and gradient at the logits."""
    scores = scores.detach().clone().requires_grad_()
    loss = function(scores.log_softmax(-1), *args, **options)
    (gradient,) = torch.autograd.grad(loss.sum(), scores)
    return loss.detach(), gradient


def assert_same(one, other, tolerance: float = 1e-10) -> None:
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("function", [ctc_loss, ctc_loss_autograd])
@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("frames", [1, 3, 5])
def test_every_labelling_of_a_few_frames(function, frames: int, blank: int) -> None:
    log_probs = logits(frames, 1, 3, frames).log_softmax(-1)
    possible = brute.labellings(log_probs[:, 0], blank)
    assert math.isclose(math.fsum(map(math.exp, possible.values())), 1.0)
    tokens = [token for token in range(3) if token != blank]
    for length in range(frames + 1):
        for target in itertools.product(tokens, repeat=length):
            found = function(log_probs, torch.tensor([target], dtype=torch.int64), [frames], [length], blank, "none")
            assert found.item() == pytest.approx(-possible.get(target, -INF), abs=1e-12)


@st.composite
def batches(draw):
    """Logits, targets, lengths, blank: few classes so that tokens repeat, targets also too long for their frames."""
    items, classes = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    frames, longest = draw(st.integers(1, 12)), draw(st.integers(0, 7))
    blank = draw(st.integers(0, classes - 1))
    tokens = [token for token in range(classes) if token != blank]
    longest = longest if tokens else 0
    rows = [draw(st.lists(st.sampled_from(tokens or [0]), max_size=longest)) for _ in range(items)]
    lengths = [len(row) for row in rows]
    targets = torch.tensor([row + [-1] * (longest - len(row)) for row in rows], dtype=torch.int64)
    inputs = [draw(st.integers(0, frames)) for _ in range(items)]
    scores = logits(frames, items, classes, draw(st.integers(0, 1000)))
    return scores, targets.reshape(items, longest), inputs, lengths, blank


@given(batches(), st.sampled_from(["none", "sum", "mean"]), st.booleans())
@settings(max_examples=100, deadline=None)
def test_equals_torch(batch, reduction: str, zero_infinity: bool) -> None:
    scores, targets, inputs, lengths, blank = batch
    options = {"blank": blank, "reduction": reduction, "zero_infinity": zero_infinity}
    expected = solved(F.ctc_loss, scores, targets, tuple(inputs), tuple(lengths), **options)
    assert_same(solved(ctc_loss, scores, targets, inputs, lengths, **options), expected)
    row = torch.cat([line[:n] for line, n in zip(targets, lengths, strict=True)])
    assert_same(solved(ctc_loss, scores, row, torch.tensor(inputs), torch.tensor(lengths), **options), expected)


@given(batches())
@settings(max_examples=60, deadline=None)
def test_equals_autograd(batch) -> None:
    scores, *rest = batch
    options = {"reduction": "none", "zero_infinity": True}
    assert_same(solved(ctc_loss, scores, *rest, **options), solved(ctc_loss_autograd, scores, *rest, **options))


@pytest.mark.parametrize("frames", [63, 64, 65, 130])
def test_chunks_of_frames_leave_no_mark(frames: int, monkeypatch) -> None:
    scores, targets = logits(frames, 3, 4, 1), torch.tensor([[1, 1, 2, 3], [3, 2, 0, 0], [1, 2, 3, 3]])
    args = (targets, [frames, 62, 5], [4, 2, 4], 0, "none")
    whole, quiet = solved(ctc_loss, scores, *args), ctc_loss(scores.log_softmax(-1), *args)
    assert_same(whole, solved(F.ctc_loss, scores, targets, (frames, 62, 5), (4, 2, 4), reduction="none"))
    assert torch.equal(whole[0], quiet)  # without a gradient only a chunk is kept
    monkeypatch.setattr(loss_module, "_CHUNK", 7)
    assert_same(solved(ctc_loss, scores, *args), whole, 0.0)


def test_gradient_at_log_probs_is_that_of_the_function() -> None:
    """Not torch's, which takes a log-softmax before it for granted."""
    log_probs = logits(6, 2, 3).log_softmax(-1).requires_grad_()
    targets, inputs, lengths = torch.tensor([[1, 1], [2, 0]]), [6, 4], [2, 1]
    assert torch.autograd.gradcheck(lambda x: ctc_loss(x, targets, inputs, lengths, 0, "none"), log_probs)
    (ours,) = torch.autograd.grad(ctc_loss(log_probs, targets, inputs, lengths, 0, "sum"), log_probs)
    native = F.ctc_loss(log_probs, targets, tuple(inputs), tuple(lengths), reduction="sum")
    (theirs,) = torch.autograd.grad(native, log_probs)
    used = torch.arange(6)[:, None, None] < torch.tensor(inputs)[:, None]
    torch.testing.assert_close(theirs - ours, log_probs.exp() * used)


def test_gradient_sums_to_minus_one_in_each_frame() -> None:
    """Some state is passed in every frame of the item, none behind its end."""
    log_probs = logits(80, 2, 5).log_softmax(-1).requires_grad_()
    loss = ctc_loss(log_probs, [[1, 2, 2], [4, 3, 1]], [80, 30], [3, 3], reduction="sum")
    (gradient,) = torch.autograd.grad(loss, log_probs)
    expected = -(torch.arange(80)[:, None] < torch.tensor([80, 30])).double()
    torch.testing.assert_close(gradient.sum(-1), expected)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_one_item_without_batch_axis(reduction: str) -> None:
    scores, target = logits(9, 1, 4), torch.tensor([1, 1, 3])
    for inputs, lengths in ((9, 3), (torch.tensor(9), torch.tensor(3)), ([9], [3])):
        single = solved(ctc_loss, scores[:, 0], target, inputs, lengths, reduction=reduction)
        batch = solved(ctc_loss, scores, target[None], [9], [3], reduction=reduction)
        assert single[0].shape == ()
        assert_same(single, (batch[0].reshape(()), batch[1][:, 0]), 0.0)
    native = solved(F.ctc_loss, scores[:, 0], target, torch.tensor(9), torch.tensor(3), reduction=reduction)
    assert_same(single, native)


def test_mean_divides_by_the_length_and_an_empty_target_by_one() -> None:
    log_probs = logits(8, 2, 3).log_softmax(-1)
    args = (log_probs, [[1, 2], [0, 0]], [8, 8], [2, 0])
    each = ctc_loss(*args, reduction="none")
    assert each[1].item() == pytest.approx(-log_probs[:, 1, 0].sum().item())
    assert ctc_loss(*args).item() == pytest.approx((each[0] / 2 + each[1]).item() / 2)


def test_items_do_not_see_each_other_nor_what_is_behind_their_end() -> None:
    scores, targets = logits(70, 3, 4), torch.tensor([[1, 2, 3], [2, 2, 1], [3, 1, 1]])
    inputs, lengths = [70, 20, 5], [3, 3, 2]
    log_probs = scores.log_softmax(-1)
    for item, frames in enumerate(inputs):
        log_probs[frames:, item] = math.nan
    log_probs.requires_grad_()
    together = ctc_loss(log_probs, targets, inputs, lengths, 0, "none")
    (gradient,) = torch.autograd.grad(together.sum(), log_probs)
    for item, (frames, length) in enumerate(zip(inputs, lengths, strict=True)):
        alone = log_probs[:frames, item].detach().requires_grad_()
        loss = ctc_loss(alone, targets[item, :length], frames, length, 0, "none")
        torch.testing.assert_close(loss, together[item], rtol=0, atol=1e-12)
        torch.testing.assert_close(torch.autograd.grad(loss, alone)[0], gradient[:frames, item], rtol=0, atol=1e-12)
        assert not gradient[frames:, item].any()


def test_impossible_items() -> None:
    """A frame is missing for the blank between repeated tokens."""
    scores = logits(3, 2, 3)
    args = ([[1, 1, 0], [1, 2, 1]], [2, 3], [2, 3])
    losses, gradient = solved(ctc_loss, scores, *args, reduction="none")
    assert losses[0] == INF
    assert losses[1].isfinite()
    assert gradient[:2, 0].isnan().all()
    assert gradient[:, 1].isfinite().all()
    losses, gradient = solved(ctc_loss, scores, *args, reduction="none", zero_infinity=True)
    assert losses[0] == 0
    assert not gradient[:, 0].any()
    assert gradient[:, 1].any()


@pytest.mark.parametrize("function", [ctc_loss, ctc_loss_autograd])
def test_forbidden_classes(function) -> None:
    """-inf among the scores: finite losses and gradients wherever some path is left."""
    scores = logits(6, 2, 4)
    scores[:, :, 3] = -INF
    scores[2, 0, 1] = -INF
    scores[1, 1, :3] = torch.tensor([-INF, 0.0, -INF])
    losses, gradient = solved(function, scores, [[1, 2], [1, 1]], [6, 6], [2, 2], reduction="none")
    for item, target in enumerate([(1, 2), (1, 1)]):
        expected = -brute.labellings(scores[:, item].log_softmax(-1))[target]
        assert losses[item].item() == pytest.approx(expected, abs=1e-12)
    assert gradient.isfinite().all()
    torch.testing.assert_close(gradient.sum(-1), torch.zeros(6, 2, dtype=torch.float64))


def test_far_from_the_target_and_long() -> None:
    """Probabilities of e^-10000: no underflow."""
    scores = torch.zeros(1000, 1, 3, dtype=torch.float64)
    scores[..., 2] = 50.0
    expected = solved(F.ctc_loss, scores, torch.ones(1, 200, dtype=torch.int64), (1000,), (200,), reduction="none")
    found = solved(ctc_loss, scores, [[1] * 200], [1000], [200], reduction="none")
    assert expected[0].item() > 10_000
    torch.testing.assert_close(found[0], expected[0], rtol=1e-13, atol=0)
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_is_computed_in_single(dtype) -> None:
    log_probs = logits(50, 2, 5, dtype=dtype).log_softmax(-1).requires_grad_()
    args = ([[1, 2, 3], [4, 4, 1]], [50, 40], [3, 3])
    loss = ctc_loss(log_probs, *args)
    (gradient,) = torch.autograd.grad(loss, log_probs)
    same = log_probs.detach().float().requires_grad_()
    expected = ctc_loss(same, *args)
    assert loss.dtype == torch.float32
    assert gradient.dtype == dtype
    assert torch.equal(loss, expected)
    assert torch.equal(gradient, torch.autograd.grad(expected, same)[0].to(dtype))


def test_backward_twice_on_one_graph_and_weighted() -> None:
    """The forward variables are not used up, and losses may be weighted."""
    log_probs = logits(20, 2, 4).log_softmax(-1).requires_grad_()
    losses = ctc_loss(log_probs, [[1, 1], [2, 3]], [20, 15], [2, 2], reduction="none")
    (first,) = torch.autograd.grad(losses.sum(), log_probs, retain_graph=True)
    (again,) = torch.autograd.grad(losses.sum(), log_probs, retain_graph=True)
    (weighted,) = torch.autograd.grad((losses * torch.tensor([2.0, -0.5])).sum(), log_probs)
    assert torch.equal(first, again)
    torch.testing.assert_close(weighted, first * torch.tensor([2.0, -0.5])[:, None])


def test_no_memory_is_held_without_gradient() -> None:
    log_probs = logits(20, 1, 4).log_softmax(-1).requires_grad_()
    with torch.no_grad():
        assert ctc_loss(log_probs, [[1]], [20], [1]).grad_fn is None
    assert not ctc_loss(log_probs.detach(), [[1]], [20], [1]).requires_grad


def test_second_derivative_is_refused_and_autograd_has_it() -> None:
    log_probs = logits(5, 1, 3).log_softmax(-1).requires_grad_()
    (gradient,) = torch.autograd.grad(ctc_loss(log_probs, [[1]], [5], [1]), log_probs, create_graph=True)
    with pytest.raises(RuntimeError, match=r"differentiated once, not twice; ctc_loss_autograd can"):
        gradient.square().sum().backward()
    assert torch.autograd.gradgradcheck(lambda x: ctc_loss_autograd(x, [[1]], [5], [1]), log_probs)


GOOD = {
    "log_probs": torch.zeros(4, 2, 3),
    "targets": torch.tensor([[1, 2], [2, 0]]),
    "input_lengths": torch.tensor([4, 4]),
    "target_lengths": torch.tensor([2, 1]),
}


@pytest.mark.parametrize("function", [ctc_loss, ctc_loss_autograd])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": torch.tensor([[1, 0], [2, 0]])}, r"target 1 of item 0 is 0: the blank \(0\) is no target"),
        ({"blank": 2}, r"target 1 of item 0 is 2: the blank \(2\)"),
        ({"targets": torch.tensor([[1, 3], [2, 0]])}, r"target 1 of item 0 is 3: classes are 0\.\.2"),
        ({"targets": torch.tensor([[-1, 1], [2, 0]])}, r"target 0 of item 0 is -1: classes"),
        ({"targets": torch.tensor([1, 2, 1, 1])}, r"4 targets in one row, but target_lengths sum to 3"),
        ({"targets": torch.tensor([[1, 2]])}, r"targets have 1 rows, log_probs have 2 items"),
        ({"targets": torch.zeros(1, 2, 2, dtype=torch.int64)}, r"targets have shape \(1, 2, 2\), expected"),
        ({"targets": torch.tensor([[1.0, 2.0], [2.0, 0.0]])}, r"targets are float32, expected integers"),
        ({"targets": torch.ones(2, 2, dtype=torch.bool)}, r"targets are bool"),
        ({"input_lengths": torch.tensor([4, 5])}, r"input_lengths\[1\] is 5, expected 0\.\.4, the number of frames"),
        ({"input_lengths": [-1, 4]}, r"input_lengths\[0\] is -1"),
        ({"input_lengths": 4}, r"input_lengths have shape \(\), expected \(2,\)"),
        ({"input_lengths": [4.0, 4.0]}, r"input_lengths are float64, expected integers"),
        ({"target_lengths": [2, 3]}, r"target_lengths\[1\] is 3, expected 0\.\.2, the number of columns"),
        ({"target_lengths": [2]}, r"target_lengths have shape \(1,\)"),
        ({"blank": 3}, r"blank is 3, expected a class index in 0\.\.2"),
        ({"blank": -1}, r"blank is -1"),
        ({"reduction": "average"}, r"reduction is 'average', expected one of none, mean, sum"),
        ({"log_probs": torch.zeros(4, 2, 3, dtype=torch.int64)}, r"log_probs are torch\.int64, expected"),
        ({"log_probs": np.zeros((4, 2, 3))}, r"log_probs are ndarray, expected a tensor of floats"),
        ({"log_probs": torch.zeros(4)}, r"log_probs have 1 axes"),
        ({"log_probs": torch.zeros(4, 0, 3)}, r"log_probs are empty: shape \(4, 0, 3\)"),
        ({"targets": torch.empty(2, 2, dtype=torch.int64, device="meta")}, r"targets are on meta, log_probs on cpu"),
        ({"target_lengths": torch.empty(2, dtype=torch.int64, device="meta")}, r"target_lengths are on meta"),
    ],
)
def test_mistakes_are_named(function, changes, message: str) -> None:
    function(**GOOD)
    with pytest.raises(ValueError, match=message):
        function(**GOOD | changes)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cuda_equals_cpu(dtype) -> None:
    scores, targets = logits(150, 3, 6, dtype=dtype), torch.tensor([[1, 1, 2], [5, 3, 0], [4, 4, 4]])
    args = ([150, 70, 9], [3, 2, 3], 0, "none")
    expected = solved(ctc_loss, scores, targets, *args)
    for where in ("cpu", "cuda"):
        found = solved(ctc_loss, scores.cuda(), targets.to(where), *args)
        assert_same([part.cpu() for part in found], expected, 1e-9 if dtype == torch.float64 else 1e-3)
