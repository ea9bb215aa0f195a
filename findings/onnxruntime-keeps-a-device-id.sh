#!/bin/bash
# onnxruntime writes a device id and a queue of usage events to the home folder on import.
#
# Version: onnxruntime 1.32.0 (CPU) on Linux, from PyPI.
# Expected: loading a library and running a local model leaves nothing in the home folder.
# Seen: `import onnxruntime` alone creates ~/.cache/Microsoft/DeveloperTools/.onnxruntime/ with `deviceid` (a UUID,
#   kept from run to run) and `onnxruntime.db`, a queue of events for upload. The queue holds the SHA-256 of the id and
#   the name of the operating system. ORT_DISABLE_TELEMETRY=1 before the import stops both files;
#   onnxruntime.disable_telemetry_events() comes too late, since it can only be called after the import. Where a
#   continuous-integration variable such as CI is set, nothing is written: a test in CI does not see this.
# For speech tools: a program that promises to keep everything on the machine must set ORT_DISABLE_TELEMETRY before its
#   first import of onnxruntime, and must test that with an emptied environment.
#
# Nothing is uploaded: each run ends at once and, where the system allows it, has a network namespace without network.
set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv" &&
    "$work/venv/bin/pip" install -q --no-cache-dir onnxruntime==1.32.0 onnx==1.23.2 2>"$work/pip.log" ||
    { echo "could not install the packages" >&2; exit 2; }
cd "$work" || exit 2

offline=(unshare -rn)
"${offline[@]}" true 2>/dev/null || { offline=(); echo "no network namespace here: relying on the short run"; }

cat >import.py <<'PY'
import onnxruntime
PY
cat >disable_late.py <<'PY'
import onnxruntime
onnxruntime.disable_telemetry_events()
PY
cat >session.py <<'PY'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper

value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4])
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [value("x")], [value("y")])
model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
session.run(None, {"x": np.ones((1, 4), np.float32)})
PY

run() { # HOME, script, further variables: runs in an environment emptied of everything else
    local home=$1 script=$2
    shift 2
    mkdir -p "$home"
    timeout 20 "${offline[@]}" env -i PATH=/usr/bin:/bin HOME="$home" "$@" venv/bin/python "$script" || exit 2
}
files() { (cd "$1" && find . -type f | sort | tr '\n' ' '); }

store=.cache/Microsoft/DeveloperTools/.onnxruntime
both="./$store/deviceid ./$store/onnxruntime.db "
changed=0
expect() { # label, seen, described
    echo "$1: ${2:-nothing}"
    [ "$2" = "$3" ] || { echo "  CHANGED: described was: ${3:-nothing}"; changed=1; }
}

echo "onnxruntime 1.32.0; expected of a local library: nothing is written"
run "$PWD/h1" import.py
expect "after import" "$(files h1)" "$both"
first=$(cat "h1/$store/deviceid" 2>/dev/null)
run "$PWD/h1" session.py
expect "device id after a second run" \
    "$([ -n "$first" ] && [ "$first" = "$(cat "h1/$store/deviceid")" ] && echo kept)" kept
run "$PWD/h2" disable_late.py
expect "with disable_telemetry_events()" "$(files h2)" "$both"
run "$PWD/h3" session.py ORT_DISABLE_TELEMETRY=1
expect "with ORT_DISABLE_TELEMETRY=1" "$(files h3)" ""
run "$PWD/h4" session.py CI=true
expect "with CI=true" "$(files h4)" ""

expect "in the queue" "$(venv/bin/python - "h1/$store" <<'PY'
import hashlib
import pathlib
import platform
import sqlite3
import sys

folder = pathlib.Path(sys.argv[1])
events = sqlite3.connect(folder / "onnxruntime.db").execute("SELECT payload FROM events").fetchall()
text = b"".join(payload for (payload,) in events)
device = hashlib.sha256((folder / "deviceid").read_bytes()).hexdigest().upper().encode()
system = platform.freedesktop_os_release()["PRETTY_NAME"].encode()
print("events," * bool(events), "hashed id," * (device in text), "operating system" * (system in text))
PY
)" "events, hashed id, operating system"
exit $changed
