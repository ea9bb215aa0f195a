import subprocess
import sys

import numpy as np
import pytest

from stream_ser.config import FeatureConfig
from stream_ser.errors import ModelError, ProviderError
from stream_ser.features.log_mel import log_mel
from stream_ser.runtime import engine
from stream_ser.runtime.card.recognition import Card
from stream_ser.runtime.cuda import driver_present


def test_loads_by_path_and_runs(tiny_model) -> None:
    loaded = engine.load(tiny_model, "cpu")
    assert loaded.provider == engine.CPU
    window = np.random.default_rng(0).normal(-6, 3, (300, 64)).astype(np.float32)
    probabilities = loaded.probabilities(window)
    assert sum(probabilities) == pytest.approx(1.0)
    assert loaded.probabilities(window) == probabilities
    # The engine normalises with the card's constants: this graph is a mean over time and a matrix.
    onnx = pytest.importorskip("onnx")
    weights = onnx.numpy_helper.to_array(onnx.load(tiny_model).graph.initializer[1])
    expected = ((window + 6.0) / 3.0).mean(axis=0) @ weights
    np.testing.assert_allclose(loaded.logits(window), expected, atol=1e-5)


def test_temperature_softens(tiny_onnx) -> None:
    features = FeatureConfig()
    sides = {"mean": (-6.0,) * 64, "std": (3.0,) * 64}
    window = np.random.default_rng(0).normal(-3, 3, (300, 64)).astype(np.float32)
    hot, cold = (
        max(
            engine.load(
                tiny_onnx(f"{t}.onnx", card=Card("t", ("a", "b", "c", "d", "e", "f"), features, **sides, temperature=t))
            ).probabilities(window)
        )
        for t in (3.0, 0.5)
    )
    assert hot < cold


def test_a_model_normalised_by_level_does_not_hear_the_microphones_gain(tiny_onnx, speechlike) -> None:
    voice = speechlike(3.2, 0)[: FeatureConfig().samples_for(300)]
    apart = {}
    for kind in ("corpus", "level", "sample"):
        loaded = engine.load(tiny_onnx(f"{kind}.onnx", features=FeatureConfig(normalization=kind)), "cpu")
        said = [loaded.probabilities(log_mel(np.float32(gain) * voice).T) for gain in (0.1, 1.0, 10.0)]
        apart[kind] = max(np.abs(np.subtract(said[1], other)).max() for other in said)
    assert apart["level"] < 0.05 < apart["corpus"]
    assert apart["sample"] < apart["corpus"]


def test_unknown_names_list_what_is_there() -> None:
    with pytest.raises(ModelError, match="no such model file, nor a bundled model"):
        engine.load("nobody")


def test_a_folder_is_not_a_model(tmp_path) -> None:
    with pytest.raises(ModelError, match="is a folder"):
        engine.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07\x12\x00" * 50])
def test_a_file_that_is_no_model_is_refused(tmp_path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="broken"):
        engine.load(path)


def test_a_truncated_model_is_refused(tiny_model, tmp_path) -> None:
    content = tiny_model.read_bytes()
    for share in (0.3, 0.7, 0.95):
        path = tmp_path / "cut.onnx"
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ModelError, match=r"cut\.onnx"):
            engine.load(path)


def test_a_model_without_a_card_is_refused(tiny_onnx) -> None:
    with pytest.raises(ModelError, match="has no stream-ser card"):
        engine.load(tiny_onnx(with_card=False))


def test_a_card_that_is_broken_is_refused(tiny_onnx) -> None:
    with pytest.raises(ModelError, match="not valid JSON"):
        engine.load(tiny_onnx(card="{"))


def test_a_card_of_another_graph_is_refused(tiny_onnx) -> None:
    with pytest.raises(ModelError, match="input is"):
        engine.load(tiny_onnx(mels=40))
    with pytest.raises(ModelError, match="output is"):
        engine.load(tiny_onnx(outputs=3))


def test_a_graph_of_another_batch_is_refused(tiny_model, tmp_path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(tiny_model)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, tmp_path / "four.onnx")
    with pytest.raises(ModelError, match="input is"):
        engine.load(tmp_path / "four.onnx")


def test_a_network_that_fails_while_it_runs_is_a_model_error(tiny_model, monkeypatch) -> None:
    loaded = engine.load(tiny_model)

    class Broken:
        def run(self, *_: object) -> None:
            raise RuntimeError("out of memory\nmore")

    monkeypatch.setattr(loaded, "_run", Broken())
    with pytest.raises(ModelError, match=r"cannot be run \(out of memory\)"):
        loaded.logits(np.zeros((300, 64), np.float32))


def test_what_onnxruntime_prints_does_not_reach_the_results(capsys) -> None:
    import contextlib

    with contextlib.redirect_stdout(engine._ToLog()):
        print("Failed to load a library")
    assert capsys.readouterr().out == ""


def test_a_network_that_returns_nan_is_never_a_score(tiny_model) -> None:
    loaded = engine.load(tiny_model)
    with pytest.raises(ModelError, match="not finite"):
        loaded.probabilities(np.full((300, 64), np.nan, np.float32))


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_a_network_that_returns_infinity_is_one_error_and_no_warning(value, tiny_model, monkeypatch) -> None:
    loaded = engine.load(tiny_model)
    monkeypatch.setattr(loaded, "logits", lambda window: np.array([value, 0.0, 1.0], np.float32))
    with pytest.raises(ModelError, match="not finite"):
        loaded.probabilities(np.zeros((300, 64), np.float32))


def test_cuda_fails_in_one_line(tiny_model) -> None:
    if driver_present():
        pytest.skip("this machine has an NVIDIA driver")
    command = [sys.executable, "-m", "stream_ser", "file", "x.wav", "--model", str(tiny_model), "--provider", "cuda"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_cuda_fails_loudly_where_it_cannot_be_used(tiny_model) -> None:
    if driver_present():
        pytest.skip("this machine has an NVIDIA driver")
    with pytest.raises(ProviderError, match="cuda"):
        engine.load(tiny_model, "cuda")
    assert engine.load(tiny_model, "auto").provider == engine.CPU


def test_the_log_says_which_provider_was_taken(tiny_model, caplog) -> None:
    with caplog.at_level("INFO", logger="stream_ser.engine"):
        engine.load(tiny_model, "auto")
    assert "tiny.onnx: runs on " in caplog.text


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (["libcudart.so.13", "libcudnn.so.9"], "libcudart.so.13, libcudnn.so.9 cannot be loaded: pip install"),
        (["libcudnn.so.9", "libcuda.so.1"], "libcudnn.so.9 cannot be loaded: .*and an NVIDIA driver, or"),
        (["libcuda.so.1"], "libcuda.so.1 cannot be loaded: install an NVIDIA driver, or"),
        ([], "cuDNN 9 and a driver that fits are needed"),
    ],
)
def test_cuda_names_the_libraries_that_it_lacks(tiny_model, monkeypatch, missing: list[str], said: str) -> None:
    if driver_present():
        pytest.skip("this machine has an NVIDIA driver")
    if engine.CUDA not in engine.available_providers():
        pytest.skip("this onnxruntime is built without CUDA")
    monkeypatch.setattr("stream_ser.runtime.cuda.missing_libraries", lambda: missing)
    with pytest.raises(ProviderError, match=said):
        engine.load(tiny_model, "cuda")
