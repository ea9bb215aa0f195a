#!/bin/bash
# onnxruntime-gpu without CUDA says that CUDA is available, and a session for CUDA alone runs on the CPU.
#
# Version: onnxruntime-gpu 1.31.1 (256 MB), onnx 1.23.2, from PyPI, on a machine without CUDA libraries.
# Expected: get_available_providers() names what can be used here; preload_dlls() raises when it loads nothing; a
#   session with providers=["CUDAExecutionProvider"] raises, since the CPU was not asked for.
# Seen: CUDAExecutionProvider and TensorrtExecutionProvider are listed, preload_dlls() prints and returns None, and the
#   session is created with ["CPUExecutionProvider"]; a log line on stderr is all. Only session.get_providers() tells.
# Also: the newest onnx, 1.23.2, writes IR version 14 unless told otherwise; this newest GPU build reads 13 at most and
#   refuses such a model (the CPU package, 1.32.0, reads it). Set ir_version when a graph is made.
# For speech tools: a benchmark or a service "on CUDA" may measure or use the CPU. After creating a session compare
#   get_providers() with what was asked for, and fail loudly.
set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
python3 - <<'PY' || { echo "CUDA libraries are installed here: the finding needs a machine without" >&2; exit 2; }
import ctypes
import sys

try:
    ctypes.CDLL("libcublasLt.so.13")
except OSError:
    sys.exit(0)
sys.exit(1)
PY
python3 -m venv "$work/venv" &&
    "$work/venv/bin/pip" install -q --no-cache-dir onnxruntime-gpu==1.31.1 onnx==1.23.2 2>"$work/pip.log" ||
    { echo "could not install the packages" >&2; exit 2; }
cd "$work" || exit 2
HOME=$work ORT_DISABLE_TELEMETRY=1 venv/bin/python - 2>log <<'PY'
import contextlib
import io
import sys

import onnx
import onnxruntime
from onnx import TensorProto, helper


def model(**options) -> bytes:
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [value("x")], [value("y")])
    return helper.make_model(graph, **options).SerializeToString()


def session(data: bytes, provider: str) -> object:
    try:
        return onnxruntime.InferenceSession(data, providers=[provider]).get_providers()
    except Exception as error:  # the type is not exported by name
        return f"{type(error).__name__}: {str(error).rsplit('&) ')[-1].strip()}"


def preload() -> object:
    try:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            answer = onnxruntime.preload_dlls()
        return answer, "Failed to load" in said.getvalue()
    except Exception as error:
        return type(error).__name__


usable = model(ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
available = onnxruntime.get_available_providers()
loaded = preload()
cuda = session(usable, "CUDAExecutionProvider")
default = session(model(), "CPUExecutionProvider")
print(f"onnxruntime-gpu {onnxruntime.__version__}, onnx {onnx.__version__}, no CUDA libraries")
print(f"  get_available_providers(): expected the CPU alone, seen {available}")
print(f"  preload_dlls(): expected an error, seen (answer, printed a failure) {loaded}")
print(f"  session for CUDA alone: expected an error, seen {cuda}")
print(f"  CPU session for onnx's default graph: expected a session, seen {default}")
stands = (
    "CUDAExecutionProvider" in available
    and loaded == (None, True)
    and cuda == ["CPUExecutionProvider"]
    and "IR version: 14" in str(default)
)
print("the finding stands" if stands else "CHANGED")
sys.exit(0 if stands else 1)
PY
