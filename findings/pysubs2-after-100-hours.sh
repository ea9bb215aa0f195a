#!/bin/bash
# pysubs2 drops the first digit of SubRip hours from 100 on, and moves WebVTT cues after 100 hours to 99:59:59.999.
#
# Version: pysubs2 1.8.1, from PyPI.
# Input: cues of a recording that runs for more than four days. WebVTT writes hours as two or more digits (W3C WebVTT,
#   section 4.1, WebVTT timestamp); SubRip has no standard, and its hours are read as a number by ffmpeg.
# Expected: times are kept from reading to writing, or an error.
# Seen: SubRip 100:00:01,000 is read as 00:00:01,000 and 123:... as 23:..., without a warning. WebVTT 100:00:01.000 is
#   read correctly, but written as 99:59:59.999 with a warning that speaks of SubRip: all later cues get the same time.
# For speech tools: subtitles of a monitor that runs for days cannot be passed through it. Start a new file every day.
set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv" &&
    "$work/venv/bin/pip" install -q --no-cache-dir pysubs2==1.8.1 2>"$work/pip.log" ||
    { echo "could not install the packages" >&2; exit 2; }
cd "$work" || exit 2
venv/bin/python - <<'PY'
import sys
import warnings

import pysubs2

HOUR_MS = 3_600_000
stands = True


def check(label: str, expected: object, seen: object, described: object) -> None:
    global stands
    stands &= seen == described
    print(f"  {label}: expected {expected}, seen {seen}" + ("" if seen == described else f"  CHANGED from {described}"))


def warned_about(caught: list) -> bool:
    return any("timestamp" in str(warning.message) for warning in caught)


print(f"pysubs2 {pysubs2.__version__}")
for hours in (99, 100, 123):
    srt = f"1\n{hours}:00:01,000 --> {hours}:00:02,000\nhello\n"
    vtt = f"WEBVTT\n\n{hours}:00:01.000 --> {hours}:00:02.000\nhello\n"
    expected = hours * HOUR_MS + 1000
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read = pysubs2.SSAFile.from_string(srt, format_="srt")[0].start
    check(f"SubRip hour {hours}, start in ms", expected, read, hours % 100 * HOUR_MS + 1000 if hours > 99 else expected)
    check(f"SubRip hour {hours}, warned", hours > 99, warned_about(caught), False)
    cues = pysubs2.SSAFile.from_string(vtt, format_="vtt")
    check(f"WebVTT hour {hours}, start in ms", expected, cues[0].start, expected)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        written = next(line for line in cues.to_string("vtt").splitlines() if "-->" in line)
    check(
        f"WebVTT hour {hours}, written",
        vtt.splitlines()[2],
        written,
        "99:59:59.999 --> 99:59:59.999" if hours > 99 else vtt.splitlines()[2],
    )
print("the finding stands" if stands else "CHANGED")
sys.exit(0 if stands else 1)
PY
