"""Events of one recording, as sinks are given them."""

from __future__ import annotations

from stream_ser.events import SILENCE, UNCERTAIN, Decision, Gap, StreamInfo, Summary

LABELS = ("anger", "fear", "happy")
INFO = StreamInfo('odd "name", ü.wav', "septr", LABELS, 16_000)
SPANS = [
    Decision(0, 16_000, SILENCE, 0.0),
    Decision(16_000, 48_000, "happy", 0.71239),
    Gap(48_000, 8_000),
    Decision(56_000, 80_000, UNCERTAIN, 0.25),
]
SUMMARY = Summary(80_000, 8_000, "happy", (0.1, 0.2, 0.7), {SILENCE: 1.0, "happy": 2.0, UNCERTAIN: 1.5})
