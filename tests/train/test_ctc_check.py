"""``stream-ser ctc-check``: says so when a loss is right, and when it is not."""

import json

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from stream_ser.cli import app  # noqa: E402
from stream_ser.train.losses.ctc import benchmark, brute, check, loss  # noqa: E402


def test_enumeration_is_a_distribution_over_texts() -> None:
    log_probs = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).log()
    assert brute.merge((1, 1, 0, 1), 0) == (1, 1)
    assert brute.labellings(log_probs) == pytest.approx(
        {(): torch.tensor(0.125).log().item(), (1,): torch.tensor(0.875).log().item()}
    )
    path, score = brute.best_paths(log_probs)[1,]
    assert path in {(0, 1), (1, 1)}
    assert score == pytest.approx(torch.tensor(0.375).log().item())
    with pytest.raises(ValueError, match="10 classes over 9 frames are too many paths; at most 1,000,000"):
        brute.labellings(torch.zeros(9, 10))


def test_the_cases_are_what_their_names_say() -> None:
    for number, (name, sizes) in enumerate(check.CASES.items()):
        draw = check.Draw(number)
        for _ in range(5):
            problem = draw.problem(**sizes)
            repeats = [
                sum(row[:n].tolist()[i] == row[:n].tolist()[i - 1] for i in range(1, int(n)))
                for row, n in zip(problem.targets, problem.target_lengths, strict=True)
            ]
            least = problem.target_lengths + torch.tensor(repeats)
            if name.startswith("T = S"):
                assert torch.equal(problem.input_lengths, least), name
            if name == "T = S, no repetition":
                assert not any(repeats)
            assert problem.impossible == int((problem.input_lengths < least).sum())
            assert name != "T < S + repetitions" or problem.impossible == len(least)


def test_same_seed_same_batches() -> None:
    one, two, other = (check.Draw(seed).problem() for seed in (3, 3, 4))
    assert torch.equal(one.logits, two.logits)
    assert one.logits.shape != other.logits.shape or not torch.equal(one.logits, other.logits)


def test_rows_pass_and_cover_impossible_items() -> None:
    rows = list(check.compare(52, seed=1))
    assert [row.case for row in rows if not row.passed] == []
    assert sum(row.batches for row in rows if row.against == "torch") == 52
    assert {row.against for row in rows} == {"torch", "all paths", "autograd"}
    assert any(row.impossible for row in rows)
    assert len(rows) == check.COMPARISONS


def biased(*args, **options):
    return F.ctc_loss(*args, **options) * (1 + 1e-8)


def without_gradient_of_blank(log_probs, *args, blank=0, **options):
    kept = torch.arange(log_probs.shape[2]) != blank
    return loss.ctc_loss(torch.where(kept, log_probs, log_probs.detach()), *args, blank=blank, **options)


@pytest.mark.parametrize("wrong", [biased, without_gradient_of_blank])
def test_a_wrong_loss_fails(wrong) -> None:
    rows = list(check.compare(13, seed=1, loss=wrong))
    assert [row for row in rows if row.case == "random" and row.passed] == []


def test_difference_of_what_is_not_finite() -> None:
    inf, nan = float("inf"), float("nan")
    numbers = torch.tensor([inf, nan, -inf, 1.0])
    assert check.difference(numbers, numbers.clone()) == 0
    for place, value in ((0, 1.0), (0, -inf), (1, 0.0), (3, nan)):
        changed = numbers.clone()
        changed[place] = value
        assert check.difference(numbers, changed) == inf
    assert check.difference(torch.zeros(0), torch.zeros(0)) == 0


def test_command_prints_and_exits(monkeypatch) -> None:
    runner = CliRunner()
    done = runner.invoke(app, ["ctc-check", "--batches", "13", "--no-benchmark"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "T < S + repetitions" in done.stdout
    assert "equal: losses within 1e-10, gradients within 1e-09" in done.stdout
    monkeypatch.setattr(check, "LOSS_TOLERANCE", -1.0)
    done = runner.invoke(app, ["ctc-check", "--batches", "1", "--no-benchmark", "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["passed"] is False


def test_benchmark_measures_both(monkeypatch) -> None:
    (cost,) = benchmark.measure(1, sizes=((20, 2, 5, 4),))
    assert min(*cost.forward_ms, *cost.both_ms, *cost.forward_mb) > 0
    assert all(both > forward for both, forward in zip(cost.both_mb, cost.forward_mb, strict=True))
    monkeypatch.setattr(benchmark, "SIZES", ((20, 2, 5, 4),))
    done = CliRunner().invoke(app, ["ctc-check", "--batches", "1", "--repeats", "1", "--json"], catch_exceptions=False)
    assert json.loads(done.stdout)["benchmark"][0]["size"] == [20, 2, 5, 4]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_is_one_line(capsys) -> None:
    from stream_ser.cli import main

    with pytest.raises(SystemExit) as exit_:
        main(["ctc-check", "--device", "cuda"])
    assert exit_.value.code == 2
    assert "finds no CUDA device on this machine; leave --device out" in capsys.readouterr().err
