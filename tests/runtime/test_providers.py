"""Which execution providers are asked for, with which options, and what is said where they are not got."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stream_ser.errors import ProviderError
from stream_ser.runtime import cuda, providers
from stream_ser.runtime.providers import CPU, CUDA, TENSORRT

ALL = [TENSORRT, CUDA, CPU]


@pytest.mark.parametrize(
    ("provider", "driver", "available", "chosen"),
    [
        ("cpu", True, ALL, [CPU]),
        ("auto", True, ALL, [CUDA, CPU]),
        ("auto", False, ALL, [CPU]),
        ("auto", True, [CPU], [CPU]),
        ("cuda", False, ALL, [CUDA, CPU]),
        ("tensorrt", False, ALL, [TENSORRT, CUDA, CPU]),
    ],
)
def test_what_is_asked_for(provider, driver, available, chosen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "driver_present", lambda: driver)
    assert providers.choose(provider, available) == chosen


@pytest.mark.parametrize(
    ("provider", "said"),
    [
        ("cuda", "provider cuda: this onnxruntime is built without CUDA; install onnxruntime-gpu or use"),
        ("tensorrt", "provider tensorrt: this onnxruntime is built without TensorRT; install"),
        ("rocm", "provider 'rocm' is not one of auto, cpu, cuda, tensorrt"),
    ],
)
def test_what_there_is_not(provider, said: str) -> None:
    with pytest.raises(ProviderError, match=said):
        providers.choose(provider, [CPU])


@pytest.mark.parametrize(
    ("provider", "got", "missing", "said"),
    [
        (
            "cuda",
            CPU,
            ["libcudart.so.13"],
            "cuda: the session runs on CPU.* libcudart.so.13 .* pip install 'stream",
        ),
        (
            "tensorrt",
            CUDA,
            ["libnvinfer.so.10"],
            "session runs on CUDA.*libnvinfer.so.10 .* 'tensorrt-cu.*==10.*'",
        ),
        ("tensorrt", CPU, ["libcuda.so.1"], "libcuda.so.1 cannot be loaded: install an NVIDIA driver"),
    ],
)
def test_a_session_that_runs_elsewhere_is_refused(provider, got, missing, said, monkeypatch) -> None:
    monkeypatch.setattr(cuda, "missing_libraries", lambda *_: missing)
    with pytest.raises(ProviderError, match=said):
        providers.check(provider, got)


def test_a_session_that_got_what_it_asked_for_is_not() -> None:
    for provider, got in (("auto", CPU), ("auto", CUDA), ("cpu", CPU), ("cuda", CUDA), ("tensorrt", TENSORRT)):
        providers.check(provider, got)


def test_options_are_those_of_fixed_shapes(tmp_path: Path) -> None:
    (name, options), (last, none) = providers.with_options([CUDA, CPU], graphs=True)
    assert (name, last, none) == (CUDA, CPU, {})
    assert options["enable_cuda_graph"] == "1"
    assert options["cudnn_conv_algo_search"] == "HEURISTIC"
    assert options["use_tf32"] == "0"
    assert providers.with_options([CUDA], graphs=False)[0][1]["enable_cuda_graph"] == "0"
    (_, tensorrt), (_, behind), _ = providers.with_options(ALL, graphs=True, half=True, cache=tmp_path)
    assert behind["enable_cuda_graph"] == "0"
    assert (
        tensorrt["trt_fp16_enable"] == tensorrt["trt_cuda_graph_enable"] == tensorrt["trt_engine_cache_enable"] == "1"
    )
    assert tensorrt["trt_engine_cache_path"] == str(tmp_path)
    assert "trt_engine_cache_path" not in providers.with_options([TENSORRT], graphs=True)[0][1]


def test_all_options_are_text(tmp_path: Path) -> None:
    """onnxruntime refuses any other kind of value, and only on a machine with a GPU."""
    for _, options in providers.with_options(ALL, graphs=True, half=True, cache=tmp_path):
        assert all(isinstance(text, str) for pair in options.items() for text in pair)


def test_what_is_compiled_belongs_to_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_caches", lambda: tmp_path / "caches")
    model = tmp_path / "a.onnx"
    model.write_bytes(b"first")
    first = providers.tensorrt_cache(model)
    assert first is not None
    assert first.is_dir()
    assert providers.tensorrt_cache(model) == first
    model.write_bytes(b"second")
    assert providers.tensorrt_cache(model) != first


def test_a_folder_that_cannot_be_made_costs_time_only(tmp_path: Path, monkeypatch, caplog) -> None:
    (tmp_path / "caches").write_text("a file")
    monkeypatch.setattr(providers, "_caches", lambda: tmp_path / "caches")
    (tmp_path / "a.onnx").write_bytes(b"model")
    assert providers.tensorrt_cache(tmp_path / "a.onnx") is None
    assert "TensorRT compiles at every start" in caplog.text


@pytest.mark.skipif(cuda.provider_library(cuda.TENSORRT_LIBRARY) is None, reason="this onnxruntime has no TensorRT")
def test_what_tensorrt_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(cuda.ctypes, "CDLL", load)
    said = cuda.lacking(cuda.TENSORRT_LIBRARY)
    major = re.search(r"libnvinfer\.so\.(\d+)", said)[1]
    assert re.search(rf"'tensorrt-cu\d+=={major}\.\*'", said)
    assert "libnvinfer" not in cuda.lacking()
