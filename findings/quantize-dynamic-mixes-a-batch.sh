#!/bin/bash
# onnxruntime's dynamic quantization makes the answer for one item depend on the other items of its batch.
#
# Version: onnxruntime 1.32.0 (CPU), onnx 1.23.2, from PyPI.
# Expected: a row of a batch gives the row that it gives alone, apart from float rounding, as in the float32 model.
# Seen: quantize_dynamic computes one scale for the whole activation tensor. A row beside one that is ten times as loud
#   gets a tenth of the resolution: its answers move by far more than the quantization itself had moved them.
# For speech tools: windows of several speakers in one batch change each other's probabilities, so results depend on who
#   else is talking, on the batch size and on the order of the files. Run such models with a batch of one, or quantize
#   statically.
set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv" &&
    "$work/venv/bin/pip" install -q --no-cache-dir onnxruntime==1.32.0 onnx==1.23.2 2>"$work/pip.log" ||
    { echo "could not install the packages" >&2; exit 2; }
cd "$work" || exit 2
HOME=$work ORT_DISABLE_TELEMETRY=1 venv/bin/python - 2>"$work/log" <<'PY'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

rng = np.random.default_rng(0)
weight = rng.normal(size=(64, 8)).astype(np.float32)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])],
    "linear",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])],
    [numpy_helper.from_array(weight, "w")],
)
onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), "float.onnx")
quantize_dynamic("float.onnx", "int8.onnx")

quiet = rng.normal(size=(1, 64)).astype(np.float32)
loud = 10 * rng.normal(size=(1, 64)).astype(np.float32)


def first_row(path: str, batch: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": batch})[0][0]


both = np.vstack([quiet, loud])
truth = first_row("float.onnx", quiet)
print(f"onnxruntime {onnxruntime.__version__}; largest change of one row (answers' spread {truth.std():.1f}):")
company_float = np.abs(first_row("float.onnx", both) - truth).max()
rounding = np.abs(first_row("int8.onnx", quiet) - truth).max()
company = np.abs(first_row("int8.onnx", both) - first_row("int8.onnx", quiet)).max()
print(f"  float32: alone against beside a loud row  {company_float:.6f}  (expected: about 0)")
print(f"  int8:    alone against float32            {rounding:.6f}")
print(f"  int8:    alone against beside a loud row  {company:.6f}  (expected: about 0)")
stands = company_float < 1e-4 and company > 2 * rounding
print("the finding stands" if stands else "CHANGED")
sys.exit(0 if stands else 1)
PY
