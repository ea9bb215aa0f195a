"""Fixtures for all tests: generated voices, tiny models, a tiny corpus, and the real corpora where they lie beside."""

from __future__ import annotations

import os

# Before numpy and torch, which read it once. Tests and the processes they start share the cores, and the
# thread pools of several processes slow each other down.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from generate import voice, write_crema_d
from numpy.typing import NDArray

from stream_ser.card import CARD_KEY, Card
from stream_ser.config import FeatureConfig, WindowConfig

ROOT = Path(__file__).resolve().parent.parent
LABELS = ("anger", "disgust", "fear", "happy", "neutral", "sad")


def shared_data(name: str) -> Path | None:
    """Folder of a real corpus next to the clone, if there is one."""
    folder = ROOT.parent / "shared" / "data" / name
    return folder if folder.is_dir() else None


def write_tiny_onnx(
    path: Path,
    *,
    labels: Sequence[str] = LABELS,
    features: FeatureConfig | None = None,
    window: WindowConfig | None = None,
    seed: int = 0,
    card: Card | str | None = None,
    with_card: bool = True,
    mels: int | None = None,
    outputs: int | None = None,
) -> Path:
    """Write an emotion model: the mean over time, then a matrix drawn with ``seed``.

    Args:
        path: of the ``.onnx`` file.
        labels: of the card.
        features: of the card.
        window: of the card.
        seed: of the weights.
        card: instead of the one that fits; text is written as it is.
        with_card: without it the file has no card at all.
        mels: bands of the graph's input, where they shall differ from the card.
        outputs: of the graph, where they shall differ from the card.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    features, window = features or FeatureConfig(), window or WindowConfig()
    mels, outputs = mels or features.n_mels, outputs or len(labels)
    weights = np.random.default_rng(seed).standard_normal((mels, outputs)).astype(np.float32) / np.sqrt(mels) * 4
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["log_mel", "time"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("log_mel", TensorProto.FLOAT, ["batch", mels, window.frames])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", outputs])],
        [
            numpy_helper.from_array(np.array([2], dtype=np.int64), "time"),
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
        ],
    )
    # Not onnx's newest: onnxruntime reads a new version of the format only some releases later.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    if with_card:
        if card is None:
            bands = features.n_mels
            card = Card("tiny", tuple(labels), features, (-6.0,) * bands, (3.0,) * bands, window, licence="MIT")
        text = card if isinstance(card, str) else card.to_json()
        helper.set_model_props(model, {CARD_KEY: text})
    onnx.save(model, path)
    return path


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


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny model for all tests that only read it."""
    return write_tiny_onnx(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="session")
def tiny_crema_d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated corpus in CREMA-D's layout with both parts of the fixed list, for tests that only read it."""
    return write_crema_d(tmp_path_factory.mktemp("corpus") / "crema-d")


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
