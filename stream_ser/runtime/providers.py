"""Where a network runs: which execution providers to ask onnxruntime for, with which options."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

from stream_ser.errors import ProviderError
from stream_ser.runtime.cuda import CUDA_LIBRARY, TENSORRT_LIBRARY, driver_present, lacking

Provider = Literal["auto", "cpu", "cuda", "tensorrt"]
CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
#: Those that work on a GPU: name on the command line, and what it is called in a message.
_GPU: dict[str, tuple[str, str]] = {"cuda": (CUDA, "CUDA"), "tensorrt": (TENSORRT, "TensorRT")}
_LIBRARIES = {"cuda": CUDA_LIBRARY, "tensorrt": TENSORRT_LIBRARY}
_log = logging.getLogger("stream_ser.providers")

#: As onnxruntime takes them: a name and options.
Wanted = list[tuple[str, dict[str, str]]]


def choose(provider: Provider, available: list[str]) -> list[str]:
    """The execution providers to ask for, best first.

    Args:
        provider: as asked for; ``auto`` is CUDA where there is a driver. TensorRT is taken only when asked for: it
            compiles a network for minutes before it runs it.
        available: what this onnxruntime was built with. It names CUDA wherever the GPU build is installed, driver
            or not.

    Raises:
        ProviderError: an unknown provider, or one that this onnxruntime is built without.
    """
    if provider not in get_args(Provider):
        raise ProviderError(f"provider {provider!r} is not one of {', '.join(get_args(Provider))}")
    if provider in _GPU:
        name, called = _GPU[provider]
        if name not in available:
            raise ProviderError(
                f"provider {provider}: this onnxruntime is built without {called}; install onnxruntime-gpu or use "
                "--provider cpu"
            )
        # What TensorRT cannot compile runs on CUDA.
        return [name, CPU] if name == CUDA else [name, CUDA, CPU]
    return [CUDA, CPU] if provider == "auto" and CUDA in available and driver_present() else [CPU]


def check(provider: Provider, got: str) -> None:
    """Refuse a session that runs elsewhere than it was asked to: onnxruntime goes to the CPU without a word.

    Args:
        provider: as asked for.
        got: the first provider that the session names.

    Raises:
        ProviderError: with what is missing and how to get it.
    """
    if provider in _GPU and got != _GPU[provider][0]:
        missing = lacking(_LIBRARIES[provider])
        raise ProviderError(f"provider {provider}: the session runs on {got} instead; {missing}, or use --provider cpu")


def on_gpu(name: str) -> bool:
    """Whether an execution provider computes on a GPU."""
    return name in (CUDA, TENSORRT)


def device_of(name: str) -> str:
    """Onnxruntime's name of the device whose memory an execution provider reads."""
    return "cuda" if name in (CUDA, TENSORRT) else "cpu"


def with_options(names: list[str], *, graphs: bool, half: bool = False, cache: Path | None = None) -> Wanted:
    """Execution providers with the options that fixed shapes and one hop at a time ask for.

    Args:
        names: of :func:`choose`.
        graphs: capture CUDA graphs; the session's tensors must then have fixed places.
        half: TensorRT may compute in float16.
        cache: folder for what TensorRT has compiled.
    """
    # The first alone captures: onnxruntime refuses a session where one captures and does not compute all of it.
    return [(name, _options(name, graphs and name == names[0], half, cache)) for name in names]


def _options(name: str, graphs: bool, half: bool, cache: Path | None) -> dict[str, str]:
    if name == CUDA:
        return {
            # A network has one shape, so nothing is gained by trying every algorithm of cuDNN at the start.
            "cudnn_conv_algo_search": "HEURISTIC",
            "arena_extend_strategy": "kSameAsRequested",
            # A float32 file gives float32's answers, wherever it runs; who wants speed exports float16.
            "use_tf32": "0",
            "enable_cuda_graph": str(int(graphs)),
        }
    if name == TENSORRT:
        options = {"trt_fp16_enable": str(int(half)), "trt_cuda_graph_enable": str(int(graphs))}
        if cache is not None:
            options |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache)}
            options |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(cache)}
        return options
    return {}


def tensorrt_cache(model: Path) -> Path | None:
    """The folder where TensorRT keeps what it has compiled of a model; created. None where none can be.

    Its name holds the model's hash: onnxruntime's own names for these files do not hang on the weights.
    """
    try:
        version = metadata.version("onnxruntime-gpu")
    except metadata.PackageNotFoundError:
        version = "other"
    folder = _caches() / "stream-ser" / f"tensorrt-{version}" / hashlib.sha256(model.read_bytes()).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _log.warning("TensorRT compiles at every start: %s cannot be created (%s)", folder, error.strerror)
        return None
    return folder


def _caches() -> Path:
    """Where this system keeps what can be made again."""
    environment: Any = os.environ
    if sys.platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
