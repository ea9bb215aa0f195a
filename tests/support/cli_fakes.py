"""Stand-ins and fixtures for the tests of the command line: an engine, a microphone, a caller."""

import io
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from generate import voice

import stream_ser
from stream_ser.cli import main
from stream_ser.config import FeatureConfig
from stream_ser.errors import ModelError
from stream_ser.events import Block
from stream_ser.runtime import engine
from stream_ser.runtime.card.recognition import Card

LABELS = ("anger", "happy", "sad")
LONG_NAME = "n" * 5_000
REAL_LOAD = engine.load
ROOT = Path(stream_ser.__file__).parent.parent
CARD = Card(
    name="fake",
    labels=LABELS,
    features=FeatureConfig(),
    mean=(0.0,) * 64,
    std=(1.0,) * 64,
    parameters=1_234,
    training={"corpora": ["CREMA-D"]},
    results={"uar": 0.6123, "protocol": "speaker-independent"},
    licence="CREMA-D: ODbL 1.0",
)


class FakeEngine:
    """Hears the emotion in the loudness: every second stretch of speech differs, so decisions come and go."""

    path = Path("fake.onnx")
    provider = "CPUExecutionProvider"
    note = ""
    card = CARD

    def probabilities(self, window):
        loud = float(window.mean()) > -2.0
        return (0.8, 0.15, 0.05) if loud else (0.1, 0.2, 0.7)


class FakeMicrophone:
    """Delivers what it was given; hands out the rest and ends once closed, as the real one does."""

    blocks: tuple[Block, ...] = ()
    failure: Exception | None = None
    forever = False
    block_signal = None
    parts = ("",)
    warning = None

    def __init__(self, device=None, duration_s=None, **options):
        type(self).options = options
        self.name = f"fake microphone {device}" if device else "fake microphone"
        self.sample_rate = 16_000
        self.overflows = self.lost_samples = 0
        self.duration_s = duration_s
        self._closed = threading.Event()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.close()

    def close(self):
        self._closed.set()

    def __iter__(self):
        left = None if self.duration_s is None else round(self.duration_s * self.sample_rate)
        for number, block in enumerate(self.blocks):
            if left is not None:
                if left <= 0:
                    return
                block = Block(block.samples[:left], block.captured_at, block.lost)
                left -= len(block.samples)
            yield block
            if self.block_signal is not None and number == self.block_signal[0]:
                os.kill(os.getpid(), self.block_signal[1])
        if self.failure is not None:
            raise self.failure
        while self.forever and not self._closed.wait(0.05):
            pass


def noise(seconds, amplitude=0.3, seed=0):
    return as_16_bit(np.random.default_rng(seed).standard_normal(round(seconds * 16_000)) * amplitude)


def as_16_bit(samples):
    return np.clip(np.rint(samples * 32_768) / 32_768, -1, 1 - 2**-15).astype(np.float32)


def speech():
    parts = [voice(4, level=0.9), voice(4, level=0.05), np.zeros(32_000, np.float32), voice(3, level=0.9)]
    return as_16_bit(np.concatenate(parts))


def blocks_of(samples, size=320):
    return tuple(
        Block(samples[first : first + size], captured_at=time.monotonic()) for first in range(0, len(samples), size)
    )


@pytest.fixture(autouse=True)
def fake_engine(monkeypatch):
    def load(model="septr", provider="auto", threads=1):
        if model == "broken":
            raise ModelError("broken: no such model file")
        engine = FakeEngine()
        engine.path = Path(model)
        return engine

    monkeypatch.setattr("stream_ser.runtime.engine.load", load)


@pytest.fixture
def microphone(monkeypatch):
    fake = type("Fake", (FakeMicrophone,), {"blocks": blocks_of(speech())})
    monkeypatch.setattr("stream_ser.sources.microphone.Microphone", fake)
    return fake


@pytest.fixture
def wav(tmp_path):
    path = tmp_path / "speech.wav"
    soundfile.write(path, speech(), 16_000, subtype="PCM_16")
    return path


@pytest.fixture
def call(capsys):
    """Runs the command line as a shell would; exit code, stdout, stderr."""

    def run(*args):
        with pytest.raises(SystemExit) as exit_:
            main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return exit_.value.code, out, err

    return run


def one_line(err):
    assert err.count("\n") == 1, err
    assert err.startswith("stream-ser: error: "), err
    assert "Traceback" not in err
    return err


class Terminal(io.StringIO):
    def isatty(self):
        return True
