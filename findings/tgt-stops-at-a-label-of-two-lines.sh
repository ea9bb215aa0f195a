#!/bin/bash
# tgt cannot read a TextGrid that Praat writes when a label has a line break.
#
# Version: tgt 1.5, praat-parselmouth 0.4.7 (Praat itself as a library), praatio 6.2.2, textgrid 1.6.1, from PyPI.
# Input: Praat makes a TextGrid with the label "two<newline>lines" and saves it; Praat reads it back unchanged.
# Expected: three intervals with their labels, as praatio and textgrid read them.
# Seen: tgt.read_textgrid raises IndexError: it takes every line of the file for one field.
# For speech tools: whoever writes TextGrids for others to read should put labels, transcripts above all, on one line.
set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv" &&
    "$work/venv/bin/pip" install -q --no-cache-dir tgt==1.5 praat-parselmouth==0.4.7 praatio==6.2.2 TextGrid==1.6.1 \
        2>"$work/pip.log" ||
    { echo "could not install the packages" >&2; exit 2; }
cd "$work" || exit 2
venv/bin/python - <<'PY'
import importlib.metadata
import sys

import parselmouth
import textgrid
import tgt
from parselmouth.praat import call
from praatio import textgrid as praatio_textgrid

LABELS = ["one", "two\nlines", ""]
grid = call("Create TextGrid", 0, 3, "words", "")
for number, label in enumerate(LABELS, start=1):
    if number > 1:
        call(grid, "Insert boundary", 1, number - 1)
    call(grid, "Set interval text", 1, number, label)
call(grid, "Save as text file", "words.TextGrid")


def read(function) -> object:
    try:
        return function()
    except Exception as error:
        return type(error).__name__


readers = {
    "Praat": lambda: [call(parselmouth.read("words.TextGrid"), "Get label of interval", 1, n) for n in (1, 2, 3)],
    "praatio": lambda: [
        entry.label for entry in praatio_textgrid.openTextgrid("words.TextGrid", True).getTier("words").entries
    ],
    "textgrid": lambda: [interval.mark for interval in textgrid.TextGrid.fromFile("words.TextGrid")[0]],
    "tgt": lambda: [i.text for i in tgt.read_textgrid("words.TextGrid", include_empty_intervals=True).tiers[0]],
}
seen = {name: read(function) for name, function in readers.items()}
print(f"tgt {importlib.metadata.version('tgt')}; expected of each: {LABELS}")
for name, answer in seen.items():
    print(f"  {name}: {answer}")
stands = seen.pop("tgt") == "IndexError" and all(answer == LABELS for answer in seen.values())
print("the finding stands" if stands else "CHANGED")
sys.exit(0 if stands else 1)
PY
