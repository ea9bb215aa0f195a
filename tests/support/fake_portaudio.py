"""A PortAudio of our own: devices that deliver what a test says."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest


class FakePortAudio(types.ModuleType):
    """What Microphone uses of sounddevice; the test plays the device's thread."""

    class PortAudioError(Exception):
        pass

    def __init__(self, channels: int = 2, rates: tuple[int, ...] = (16_000, 48_000), mono: bool = True) -> None:
        super().__init__("sounddevice")
        self.channels, self.rates, self.mono = channels, rates, mono
        self.opened: dict[str, Any] = {}

    def query_hostapis(self) -> list[dict[str, Any]]:
        return [{"name": "Fake"}]

    def query_devices(self, kind: str | None = None) -> Any:
        device = {"index": 0, "name": "mic", "hostapi": 0, "max_input_channels": self.channels}
        device |= {"default_samplerate": 48_000.0}
        return device if kind else [device]

    def check_input_settings(self, device: int, channels: int, dtype: str, samplerate: int) -> None:
        if samplerate not in self.rates or (channels == 1 and not self.mono):
            raise self.PortAudioError(f"Invalid sample rate or channels: {samplerate}, {channels}")

    def RawInputStream(self, **settings: Any) -> FakePortAudio:  # noqa: N802 - sounddevice's name
        self.opened = settings
        return self

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass

    def deliver(self, samples: np.ndarray, adc_s: float = 0.0, now_s: float = 0.0, overflow: bool = False) -> None:
        times = types.SimpleNamespace(inputBufferAdcTime=adc_s, currentTime=now_s)
        status = types.SimpleNamespace(input_overflow=overflow)
        self.opened["callback"](memoryview(samples.astype(np.int16).tobytes()), len(samples), times, status)


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> FakePortAudio:
    fake = FakePortAudio()
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake
