"""Calibrations are compared on the clips that they were fitted to and on other speakers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from stream_ser.train.experiments.calibration import MAPS, Part, compare, fit, main, probabilities  # noqa: E402


def draw(rng: np.random.Generator, clips: int, scale: float, bias: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Part:
    """Two windows a clip whose truth was drawn from ``softmax(z)``; the network gives ``scale * (z - bias)``."""
    z = 2.0 * rng.standard_normal((clips, 3))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    truth = (p.cumsum(1) < rng.random((clips, 1))).sum(1).clip(0, 2)
    logits = torch.from_numpy(np.repeat(scale * (z - np.array(bias)), 2, axis=0))
    owners = torch.arange(clips).repeat_interleave(2)
    return Part(logits, owners, torch.from_numpy(truth), np.array([f"a/{i % 4}" for i in range(clips)]))


def test_temperature_undoes_a_scale() -> None:
    part = draw(np.random.default_rng(0), 4_000, scale=3.0)
    assert float(fit(part, "temperature").exp()) == pytest.approx(1 / 3, abs=0.03)


def test_biases_undo_a_shift_which_no_temperature_can() -> None:
    part = draw(np.random.default_rng(1), 4_000, scale=2.0, bias=(0.0, 1.0, -1.0))
    values = fit(part, "biases")
    assert float(values[0].exp()) == pytest.approx(0.5, abs=0.05)
    assert (values[1:] - values[1]).tolist() == pytest.approx([0.0, 1.0, -1.0], abs=0.15)
    assert compare(part, "biases")[0].nll < compare(part, "temperature")[0].nll - 0.02


def test_other_speakers_are_scored_by_a_fit_without_them() -> None:
    # One speaker's classes are turned round: what fits him spoils the others.
    part = draw(np.random.default_rng(2), 400, scale=1.0)
    odd = torch.from_numpy(part.speakers == "a/0")
    part = Part(part.logits, part.owners, torch.where(odd, (part.truth + 1) % 3, part.truth), part.speakers)
    for name in MAPS:
        whole, others = compare(part, name)
        assert others.nll > whole.nll


def test_parts_keep_windows_with_their_clips() -> None:
    part = draw(np.random.default_rng(3), 40, scale=1.0)
    own = part.speakers == "a/1"
    values = torch.zeros(1, dtype=torch.float64)
    assert torch.equal(
        probabilities(part.of(own), "temperature", values), probabilities(part, "temperature", values)[own]
    )


def write_run(folder: Path, speakers: int = 4) -> Path:
    part = draw(np.random.default_rng(4), 40, scale=1.0)
    np.savez(
        folder / "predictions.npz",
        window_logits=part.logits.numpy(),
        owners=part.owners.numpy(),
        truth=part.truth.numpy(),
        speakers=np.array([f"a/{index % speakers}" for index in range(40)]),
    )
    return folder


def test_command_prints_a_row_a_map(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(write_run(tmp_path)), "--corpus", "a"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "40 clips, 4 speakers"
    assert [line.split()[0] for line in lines[3:]] == list(MAPS)


@pytest.mark.parametrize(
    ("speakers", "arguments", "said"),
    [(1, [], "fewer than two validation speakers,"), (4, ["--corpus", "b"], "fewer than two validation speakers of b")],
)
def test_one_speaker_is_too_few(tmp_path: Path, speakers: int, arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(main, [str(write_run(tmp_path, speakers)), *arguments])
    assert result.exit_code == 2
    assert said in result.output


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tmp_path)])
    assert result.exit_code == 2
    assert "holds no predictions.npz" in result.output
