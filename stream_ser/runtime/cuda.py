"""Which libraries onnxruntime's CUDA and TensorRT providers need, and which of them are missing, by name.

onnxruntime says of a missing library that it could not load its provider, if anything. The names stand in the
provider's own ELF file (System V ABI, chapter 5, "Dynamic Section"), so they fit the version that is installed.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import struct
import sys
from pathlib import Path
from typing import Any

#: Loaded when a network first needs it, so it does not stand in the ELF file; convolutions do.
CUDNN = "libcudnn.so.9"
#: The driver's, which no package brings.
DRIVER = "libcuda.so.1"
#: onnxruntime's providers, a library each.
CUDA_LIBRARY = "libonnxruntime_providers_cuda.so"
TENSORRT_LIBRARY = "libonnxruntime_providers_tensorrt.so"
#: NVIDIA's libraries are called so, those of the system are not.
_NVIDIA = ("libcu", "libnv")
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB = 0, 1, 5


def driver_present() -> bool:
    """Whether an NVIDIA driver is installed."""
    if sys.platform == "win32":
        return (Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvcuda.dll").exists()
    return Path("/proc/driver/nvidia/version").exists() or Path("/dev/nvidiactl").exists()


def provider_library(name: str = CUDA_LIBRARY) -> Path | None:
    """A provider of the onnxruntime that is installed; None where it has none, or is not on Linux."""
    spec = importlib.util.find_spec("onnxruntime")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / "capi" / name).is_file():
            return path
    return None


def preload_tensorrt() -> None:
    """Load TensorRT's libraries from pip's package, whose folder no loader looks into; nothing where it is not there.

    onnxruntime does so for CUDA and cuDNN alone.
    """
    spec = importlib.util.find_spec("tensorrt_libs")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for pattern in ("libnvinfer.so.*", "libnvonnxparser.so.*"):
            for path in sorted(Path(folder).glob(pattern)):
                with contextlib.suppress(OSError):  # what cannot be loaded is told by name where it is missed
                    ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def needed_libraries(path: Path) -> list[str]:
    """Names of the libraries that a 64-bit little-endian ELF file is linked with, in its order.

    Raises:
        ValueError: no such file format, or damaged.
        OSError: unreadable.
    """
    with path.open("rb") as file:

        def take(at: int, layout: str) -> tuple[Any, ...]:
            file.seek(at)
            return struct.unpack(layout, file.read(struct.calcsize(layout)))

        def name(at: int) -> str:
            file.seek(at)
            return file.read(256).split(b"\0")[0].decode()

        try:
            if take(0, "<4sBB")[:3] != (b"\x7fELF", 2, 1):
                raise ValueError(f"{path}: no 64-bit little-endian ELF file")
            (headers_at,), (header_size, count) = take(32, "<Q"), take(54, "<HH")
            # type, flags, offset in the file, address in memory, (physical address), size in the file
            segments = [take(headers_at + i * header_size, "<IIQQQQ") for i in range(count)]
            entries: list[tuple[int, int]] = []
            for kind, _, offset, _, _, size in segments:
                if kind == _PT_DYNAMIC:
                    entries = [
                        (tag, value) for at in range(offset, offset + size, 16) for tag, value in [take(at, "<QQ")]
                    ]
            strings = next(value for tag, value in entries if tag == _DT_STRTAB)
            # The table of strings is given by its address in memory.
            start = next(s[2] + strings - s[3] for s in segments if s[0] == _PT_LOAD and 0 <= strings - s[3] < s[5])
            return [name(start + value) for tag, value in entries if tag == _DT_NEEDED]
        except (struct.error, StopIteration, UnicodeDecodeError):
            raise ValueError(f"{path}: a damaged ELF file") from None


def missing_libraries(library: Path | None = None) -> list[str]:
    """NVIDIA's libraries that cannot be loaded; those from pip can once onnxruntime has preloaded them.

    Args:
        library: the provider; default: that of the onnxruntime that is installed.
    """
    library = library or provider_library()
    if library is None:
        return []
    wanted = [name for name in needed_libraries(library) if name.startswith(_NVIDIA)]
    missing = []
    for name in dict.fromkeys([*wanted, CUDNN]) if wanted else []:
        try:
            ctypes.CDLL(name)
        except OSError:
            missing.append(name)
    return missing


def lacking(provider: str = CUDA_LIBRARY) -> str:
    """Why a session did not get CUDA or TensorRT, and what to do, for a message."""
    missing: list[str] = []
    with contextlib.suppress(OSError, ValueError):
        missing = missing_libraries() if provider == CUDA_LIBRARY else missing_libraries(provider_library(provider))
    install = "pip install 'stream-ser[cuda]'"
    for name in missing:
        if name.startswith("libnvinfer.so."):  # the newest TensorRT is not the one that onnxruntime is built for
            install += f" 'tensorrt-cu{cuda_major() or ''}=={name.removeprefix('libnvinfer.so.')}.*'"
    if packaged := [name for name in missing if name != DRIVER]:
        driver = " and an NVIDIA driver" if DRIVER in missing else ""
        return f"{', '.join(packaged)} cannot be loaded: {install}{driver}"
    if missing:
        return f"{DRIVER} cannot be loaded: install an NVIDIA driver"
    return f"CUDA {cuda_major() or ''}, cuDNN 9 and a driver that fits are needed ({install})".replace(" ,", ",")


def cuda_major(library: Path | None = None) -> int | None:
    """CUDA's major version that the provider is built for."""
    library = library or provider_library()
    with contextlib.suppress(OSError, ValueError):
        for name in needed_libraries(library) if library else []:
            if name.startswith("libcudart.so."):
                return int(name.removeprefix("libcudart.so."))
    return None
