#!/bin/bash
# torchaudio 2.11.1 declares torch>=2.11, but its library needs symbols that torch 2.11.0 and 2.12.1 do not have.
#
# Version: torchaudio 2.11.1 with torch 2.11.0 and 2.14.1, Linux x86-64 wheels from PyPI.
# Expected: the pair that pip installs and `pip check` accepts can be imported.
# Seen: libtorchaudio.so refers to torch_exception_get_what, torch_exception_get_what_without_backtrace and
#   torch_new_stable_ivalue, which no library of torch 2.11.0 defines; torch 2.14.1 defines all of them. `import
#   torchaudio` with torch 2.11.0 ends with OSError, "undefined symbol: torch_exception_get_what_without_backtrace".
# For speech tools: torch==2.11.* with torchaudio==2.11.* worked until 2.11.1 came out. Pin the exact pair, or take a
#   newer torch, and import torchaudio in CI with the newest versions that the range allows.
#
# By default only the wheels are compared: 1.1 GB of download. FULL=1 also installs torch 2.11.0 with its CUDA packages
# and runs the import: 4.6 GB installed, about 5 minutes. Everything is removed at the end.
set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
need_gb=3
[ -n "${FULL:-}" ] && need_gb=12
free_gb=$(($(df -Pk "$work" | awk 'NR == 2 {print $4}') / 1048576))
[ "$free_gb" -ge $need_gb ] || { echo "needs $need_gb GB of free disk, has $free_gb" >&2; exit 2; }
[ "$(uname -sm)" = "Linux x86_64" ] || { echo "needs Linux on x86-64" >&2; exit 2; }
cd "$work" || exit 2
export TMPDIR=$work
fetch() { venv/bin/pip download -q --no-cache-dir --no-deps -d wheels "$1" 2>>pip.log; }
python3 -m venv venv && venv/bin/pip install -q --no-cache-dir pyelftools==0.33 2>pip.log &&
    fetch torchaudio==2.11.1 && fetch torch==2.11.0 && fetch torch==2.14.1 ||
    { echo "could not get the packages" >&2; exit 2; }

venv/bin/python - <<'PY'
import io
import sys
import zipfile
from pathlib import Path

from elftools.elf.elffile import ELFFile

WHEELS = Path("wheels")


def symbols(pattern: str, folder: str) -> tuple[set[str], set[str]]:
    """Undefined and defined dynamic symbols of the libraries in a folder of a wheel."""
    undefined: set[str] = set()
    defined: set[str] = set()
    with zipfile.ZipFile(next(WHEELS.glob(pattern))) as wheel:
        for name in wheel.namelist():
            if name.startswith(folder) and ".so" in name:
                table = ELFFile(io.BytesIO(wheel.read(name))).get_section_by_name(".dynsym")
                for symbol in table.iter_symbols():
                    (undefined if symbol["st_shndx"] == "SHN_UNDEF" else defined).add(symbol.name)
    return undefined, defined


with zipfile.ZipFile(next(WHEELS.glob("torchaudio-2.11.1-*"))) as wheel:
    metadata = wheel.read("torchaudio-2.11.1.dist-info/METADATA").decode()
declared = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:")]
needed = {name for name in symbols("torchaudio-2.11.1-*", "torchaudio/lib/")[0] if name.startswith(("torch_", "aoti_"))}
missing = {v: sorted(needed - symbols(f"torch-{v}*", "torch/lib/")[1]) for v in ("2.11.0", "2.14.1")}
print(f"torchaudio 2.11.1 declares {declared}; expected: torch 2.11.0 has all that it needs; seen:")
for version, names in missing.items():
    print(f"  torch {version} lacks {len(names)} of {len(needed)} symbols {' '.join(names)}")
described = ["torch_exception_get_what", "torch_exception_get_what_without_backtrace", "torch_new_stable_ivalue"]
stands = declared == ["Requires-Dist: torch>=2.11"] and missing == {"2.11.0": described, "2.14.1": []}
print("the finding stands" if stands else "CHANGED")
sys.exit(0 if stands else 1)
PY
result=$?
[ -n "${FULL:-}" ] || exit $result

rm -f wheels/torch-2.14*
venv/bin/pip install -q --no-cache-dir --find-links wheels torch==2.11.0 torchaudio==2.11.1 2>>pip.log ||
    { echo "could not install the pair" >&2; exit 2; }
venv/bin/pip check
said=$(venv/bin/python -c 'import torchaudio' 2>&1) && { echo "CHANGED: the import succeeds"; exit 1; }
echo "$said" | grep -o "undefined symbol: .*" | head -n 1 || { echo "CHANGED: another error"; exit 1; }
exit $result
