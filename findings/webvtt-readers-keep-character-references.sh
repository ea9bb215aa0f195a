#!/bin/bash
# Two readers of WebVTT give "&amp;" to the program as text; one of them also writes "&" and "<" unescaped.
#
# Version: pysubs2 1.8.1, webvtt-py 0.6.0, from PyPI.
# Input: a cue "fish &amp; chips &lt;3". In WebVTT, but not in SubRip, "&" and "<" of the text must be written as
#   character references (W3C WebVTT, section 4.2.2, WebVTT cue text span and cue character references).
# Expected: the text of the cue is "fish & chips <3", and that text written as WebVTT is escaped again.
# Seen: both give "fish &amp; chips &lt;3" as the text; pysubs2 converted to SubRip shows viewers the "&amp;". A SubRip
#   cue "fish & chips <3" converted to WebVTT keeps "&" and "<" as they are, which a WebVTT parser reads as a tag.
# For speech tools: whoever compares transcripts read from WebVTT must unescape them (html.unescape) first, and escape
#   before writing; word error rates count "&amp;" as a wrong word.
set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv" &&
    "$work/venv/bin/pip" install -q --no-cache-dir pysubs2==1.8.1 webvtt-py==0.6.0 2>"$work/pip.log" ||
    { echo "could not install the packages" >&2; exit 2; }
cd "$work" || exit 2
venv/bin/python - <<'PY'
import importlib.metadata
import sys

import pysubs2
import webvtt

ESCAPED, PLAIN = "fish &amp; chips &lt;3", "fish & chips <3"
with open("cue.vtt", "w") as file:
    file.write(f"WEBVTT\n\n00:00.000 --> 00:01.000\n{ESCAPED}\n")
from_vtt = pysubs2.load("cue.vtt")
from_srt = pysubs2.SSAFile.from_string(f"1\n00:00:00,000 --> 00:00:01,000\n{PLAIN}\n", format_="srt")


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


print(f"pysubs2 {pysubs2.__version__}, webvtt-py {importlib.metadata.version('webvtt-py')}")
stands = True
for label, expected, seen, described in (
    ("pysubs2 reads", PLAIN, from_vtt[0].plaintext, ESCAPED),
    ("webvtt-py reads", PLAIN, webvtt.read("cue.vtt")[0].text, ESCAPED),
    ("pysubs2, WebVTT to SubRip", PLAIN, last_line(from_vtt.to_string("srt")), ESCAPED),
    ("pysubs2, SubRip to WebVTT", ESCAPED, last_line(from_srt.to_string("vtt")), PLAIN),
):
    stands &= seen == described
    print(f"  {label}: expected {expected!r}, seen {seen!r}")
print("the finding stands" if stands else "CHANGED")
sys.exit(0 if stands else 1)
PY
