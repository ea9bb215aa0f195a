"""States of the live view."""

from __future__ import annotations

import numpy as np

from stream_ser.events import (
    SILENCE,
    UNCERTAIN,
    Decision,
    Gap,
    Prediction,
    Provisional,
    StreamInfo,
    Timing,
    Transcript,
    Word,
)
from stream_ser.sinks.live.state import LiveState

LABELS = ("anger", "disgust", "fear", "happy", "neutral", "sad")
RATE = 16_000
HOP = 4_000


def new_state(labels=LABELS, source="Built-in microphone"):
    state = LiveState(provider="CPUExecutionProvider")
    state.begin(StreamInfo(source, "septr", labels, RATE))
    return state


def speak(state, label, seconds, amplitude=0.1):
    start = state.heard
    if state.current is not None:
        state.take(Decision(state.current.start, state.current.end, state.current.label, state.current.confidence))
    for _ in range(round(seconds * RATE / HOP)):
        state.hear(np.full(HOP, amplitude, np.float32))
        scores = tuple(0.7 if name == label else 0.06 for name in state.labels)
        probabilities = () if label == SILENCE else scores
        end = state.heard
        state.take(Prediction(max(0, end - 48_000), end, probabilities, -20.0, Timing(0.5, 2.5, 40.0)))
        confidence = 0.0 if label == SILENCE else 0.7
        state.show(Provisional(start, end, label, confidence), probabilities)


def lose(state, samples):
    state.take(Gap(state.heard, samples))
    state.heard += samples


def empty():
    return new_state()


def silent():
    state = new_state()
    speak(state, SILENCE, 3, amplitude=0.0)
    return state


def unsure():
    state = new_state()
    speak(state, UNCERTAIN, 3)
    return state


def eventful():
    state = new_state(source="HDA Intel PCH: ALC295 Analog (hw:0,0), a microphone with a long name")
    for label, seconds in (("happy", 20), (SILENCE, 3), ("anger", 20), (UNCERTAIN, 4)):
        speak(state, label, seconds)
    lose(state, 24_000)
    speak(state, "sad", 8)
    state.overflows = 3
    return state


def many_labels():
    state = new_state(tuple(f"label{index}" for index in range(30)))
    speak(state, "label3", 5)
    return state


def words(text, start):
    return tuple(
        Word(word, start + place * HOP, start + place * HOP + HOP // 2, 0.9) for place, word in enumerate(text.split())
    )


def talking():
    """A model that transcribes: two lines have ended, a third goes on."""
    state = new_state()
    state.transcribes = True
    speak(state, "happy", 8)
    state.take(Transcript(words("IT IS ELEVEN O'CLOCK", 16_000), "happy", True))
    speak(state, "anger", 12)
    long = "THAT IS EXACTLY WHAT HAPPENED AND I WONDER WHAT THIS IS ABOUT DON'T FORGET A JACKET"
    for cut in (9, 30, len(long)):
        state.take(Transcript(words(long[:cut], 9 * RATE), "anger", cut == len(long)))
    speak(state, "sad", 2)
    state.take(Transcript(words("MAYBE TOMOR", 21 * RATE), "sad", False))
    return state
