#!/bin/bash
# Two float16 converters of the same name replace the small constant under a logarithm, each by a value of its own.
#
# Version: onnxruntime 1.32.0 (onnxruntime.transformers.float16), onnxconverter-common 1.16.0, onnx 1.23.2, from PyPI.
# Input: a log-mel front end's last step, log(x + 1e-10), for silence (x = 0), and a constant of 20000, which
#   float16 holds exactly.
# Expected: the floor stays at -23.03, or the constant is reported or left in float32, as float16 ends at 6e-8; 20000
#   stays.
# Seen: onnxruntime's convert_float_to_float16 turns 1e-10 into 5.96e-8 without a word: the floor is -16.6.
#   onnxconverter-common's turns it into 1e-7 (floor -15.9) with a warning, and 20000 into 10000, its largest value by
#   default, where float16's is 65504. Max and Min are left in float32 by both, so log(max(x, 1e-10)) keeps its floor.
# For speech tools: pauses, the most frequent input, get another value than in training; the network downstream was
#   normalized for -23. Keep the front end out of the conversion (node_block_list) and compare outputs for silence.
set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv" &&
    "$work/venv/bin/pip" install -q --no-cache-dir onnxruntime==1.32.0 onnx==1.23.2 onnxconverter-common==1.16.0 \
        2>"$work/pip.log" ||
    { echo "could not install the packages" >&2; exit 2; }
cd "$work" || exit 2
HOME=$work ORT_DISABLE_TELEMETRY=1 venv/bin/python - <<'PY'
import contextlib
import io
import logging
import sys
import warnings

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxconverter_common.float16 import convert_float_to_float16 as by_common
from onnxruntime.transformers.float16 import convert_float_to_float16 as by_onnxruntime


def model():
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])
    constants = [
        numpy_helper.from_array(np.array([number], np.float32), name)
        for name, number in (("floor", 1e-10), ("scale", 20_000.0))
    ]
    nodes = [
        helper.make_node("Add", ["x", "floor"], ["above"], "add"),
        helper.make_node("Log", ["above"], ["log"], "log"),
        helper.make_node("Mul", ["x", "scale"], ["scaled"], "mul"),
    ]
    graph = helper.make_graph(nodes, "front_end", [value("x")], [value("log"), value("scaled")], constants)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


def run(converted) -> tuple[float, float]:
    session = onnxruntime.InferenceSession(converted.SerializeToString(), providers=["CPUExecutionProvider"])
    log = session.run(["log"], {"x": np.zeros(1, np.float32)})[0][0]
    return float(log), float(session.run(["scaled"], {"x": np.ones(1, np.float32)})[0][0])


print(f"onnxruntime {onnxruntime.__version__}; float32: log floor %.2f, constant %.0f" % run(model()))
stands = True
for name, convert, floor, constant, told in (
    ("onnxruntime.transformers", by_onnxruntime, -16.6, 20_000, False),
    ("onnxconverter_common", by_common, -15.9, 10_000, True),
):
    said = io.StringIO()
    logging.basicConfig(stream=said, level=logging.WARNING, force=True)
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stderr(said):
        warnings.simplefilter("always")
        converted = convert(model(), keep_io_types=True)
    seen = run(converted)
    warned = any("truncated" in str(warning.message) for warning in caught) or "e-10" in said.getvalue()
    print(f"  {name}: log floor {seen[0]:.2f}, constant {seen[1]:.0f}, warned: {warned}")
    stands &= abs(seen[0] - floor) < 0.1 and abs(seen[1] - constant) < 10 and warned == told
print("the finding stands" if stands else "CHANGED")
sys.exit(0 if stands else 1)
PY
