"""Fixtures for all tests: generated voices, tiny models, a tiny corpus, and the real corpora where they lie beside."""

from __future__ import annotations

import os

# Before numpy and torch, which read it once. Tests and the processes they start share the cores, and the
# thread pools of several processes slow each other down.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generate import voice, write_crema_d
from numpy.typing import NDArray
from tiny_models import shared_data, write_streaming_onnx, write_tiny_onnx


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Divide the tests among the workers as ``scheduling`` does, unless another ``--dist`` is asked for."""
    from scheduling import GroupScheduling

    return GroupScheduling(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def speechlike() -> Callable[..., NDArray[np.float32]]:
    """``speechlike(seconds, seed=0, *, pitch_hz, syllables_hz, level)``: float32 at 16 kHz, see ``generate.voice``."""
    return voice


@pytest.fixture
def tiny_onnx(tmp_path: Path) -> Callable[..., Path]:
    """``tiny_onnx(name="tiny.onnx", ...)`` writes a model into ``tmp_path``; arguments of ``write_tiny_onnx``."""

    def write(name: str = "tiny.onnx", **changes: object) -> Path:
        return write_tiny_onnx(tmp_path / name, **changes)  # type: ignore[arg-type]

    return write


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder of the test's own, where voice profiles are stored."""
    for name in ("XDG_DATA_HOME", "APPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny model for all tests that only read it."""
    return write_tiny_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="session")
def tiny_crema_d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated corpus in CREMA-D's layout with both parts of the fixed list, for tests that only read it."""
    return write_crema_d(tmp_path_factory.mktemp("corpus") / "crema-d")


@pytest.fixture(scope="session")
def septr_run(tiny_crema_d: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished SepTr run of two epochs, as ``training.make`` gives it, for tests that only read it.

    Each worker would train its own: ``scheduling`` keeps the modules that use it on one.
    """
    from training import make

    trainer = make(tiny_crema_d, tmp_path_factory.mktemp("runs") / "septr")
    trainer.fit()
    return trainer


@pytest.fixture(scope="session")
def septr_export(septr_run: Any) -> Any:
    """The export of ``septr_run``, beside its checkpoint."""
    from stream_ser.export.checkpoints import export_checkpoint
    from stream_ser.train.checkpoint import CHECKPOINT

    return export_checkpoint(septr_run.out / CHECKPOINT, septr_run.out / "septr.onnx")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """``call(*arguments)`` runs a command line as a shell would; gives exit code, standard output, standard error."""
    from stream_ser import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def crema_d() -> Path:
    """The real corpus, where it lies next to the clone."""
    folder = shared_data("crema-d")
    if folder is None:
        pytest.skip("CREMA-D is not at ../shared/data/crema-d")
    return folder


@pytest.fixture(scope="session")
def speller(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One streaming multitask model for all tests that only read it."""
    return write_streaming_onnx(tmp_path_factory.mktemp("speller") / "speller.onnx")
