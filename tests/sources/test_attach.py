"""Channels of a device, and a device that is found again while another one is heard; with a made-up PortAudio."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_portaudio import FakePortAudio, portaudio  # noqa: F401 - fixture

from stream_ser.errors import DeviceError
from stream_ser.sources import reconnect
from stream_ser.sources.microphone import Microphone
from stream_ser.sources.portaudio import DeviceInfo, list_devices

RATE = 16_000


@pytest.mark.parametrize(
    ("channel", "parts", "expected"),
    [
        ("each", ("#1", "#2"), [[1, 2], [-32768, -32768], [5, 9]]),
        ((1, 0), ("#2", "#1"), [[2, 1], [-32768, -32768], [9, 5]]),
        ((1,), ("#2",), [[2], [-32768], [9]]),
    ],
)
def test_channels_are_streams_of_one_capture(portaudio, channel, parts, expected) -> None:
    with Microphone(channel=channel) as mic:
        assert (mic.parts, portaudio.opened["channels"]) == (parts, 2)
        portaudio.deliver(np.array([[1, 2], [-32768, -32768], [5, 9]]))
        mic.close()
        (block,) = mic
    np.testing.assert_array_equal(block.samples * 32768, expected)
    assert block.samples.dtype == np.float32
    assert mic.captured_samples == 3


def test_one_channel_and_the_mean_are_one_stream(portaudio) -> None:
    assert Microphone().parts == Microphone(channel=1).parts == ("",)


def test_a_duration_ends_every_channel_at_the_same_sample(portaudio) -> None:
    with Microphone(channel="each", duration_s=0.03) as mic:
        for _ in range(3):
            portaudio.deliver(np.ones((320, 2)))
        blocks = list(mic)
    assert [block.samples.shape for block in blocks] == [(320, 2), (160, 2)]


def test_channels_that_are_not_there_are_refused(portaudio) -> None:
    with pytest.raises(DeviceError, match="mic has 2 channels, not 3; choose another"):
        Microphone(channel=(0, 2))
    portaudio.channels = 32
    with pytest.raises(DeviceError, match=r"mic offers 32 channels.*--channel 1 --channel 2"):
        Microphone(channel="each")
    assert Microphone(channel=(0, 31)).parts == ("#1", "#32")


def test_a_process_of_its_own_sees_what_this_one_sees() -> None:
    try:
        here = list_devices()
    except DeviceError as error:
        pytest.skip(str(error))
    assert [device.name for device in reconnect.devices_elsewhere()] == [device.name for device in here]


class TwoDevices(FakePortAudio):
    """A fake with two devices, ``agent`` and ``customer``, that come and go; streams by index."""

    def __init__(self) -> None:
        super().__init__(channels=1)
        self.there = ["agent", "customer"]
        self.known = list(self.there)
        self.started = 0
        self.streams: dict[int, dict[str, Any]] = {}

    def _terminate(self) -> None:
        self.streams.clear()

    def _initialize(self) -> None:
        self.started += 1
        self.known = list(self.there)

    def query_devices(self, kind: str | None = None) -> Any:
        base = FakePortAudio.query_devices(self, "input")
        found = [base | {"index": index, "name": name} for index, name in enumerate(self.known)]
        return found[0] if kind else found

    def RawInputStream(self, **settings: Any) -> Any:  # noqa: N802 - sounddevice's name
        fake = self

        class Stream:
            def start(self) -> None:
                if fake.known[settings["device"]] not in fake.there:
                    raise fake.PortAudioError("Device unavailable")
                fake.streams[settings["device"]] = settings

            def close(self) -> None:
                fake.streams.pop(settings["device"], None)

        return Stream()

    def say(self, index: int, value: int) -> None:
        self.opened = self.streams[index]
        self.deliver(np.full(320, value))

    def elsewhere(self) -> list[DeviceInfo]:
        """What a fresh PortAudio would find."""
        known, self.known = self.known, self.there
        try:
            return [replace(device) for device in list_devices()]
        finally:
            self.known = known


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> TwoDevices:
    fake = TwoDevices()
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    monkeypatch.setattr("stream_ser.sources.reconnect.devices_elsewhere", fake.elsewhere)
    monkeypatch.setattr("stream_ser.sources.microphone._RETRY_S", 0.01)
    monkeypatch.setattr("stream_ser.sources.microphone._MAX_RETRY_S", 0.01)
    monkeypatch.setattr("stream_ser.sources.microphone._POLL_S", 0.01)
    return fake


def unplug(two: TwoDevices, index: int) -> None:
    name = two.known[index]
    two.there.remove(name)
    two.streams.pop(index)["finished_callback"]()


def until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread does; half a minute is for ever."""
    deadline_s = time.monotonic() + 30.0
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def follow(mic: Microphone, last: str) -> tuple[threading.Thread, list[str]]:
    """Iterate in a thread, as ``MergedSources`` does, until a notice of a kind has come."""
    kinds: list[str] = []

    def run() -> None:
        for block in mic:
            kinds.extend(kind for kind, _ in block.notices)
            if last in kinds:
                return

    thread = threading.Thread(target=run)
    thread.start()
    return thread, kinds


def test_looking_for_one_device_leaves_the_other_alone(two: TwoDevices) -> None:
    with Microphone("agent", on_lost="retry") as agent, Microphone("customer", on_lost="retry") as customer:
        two.say(0, 1)
        two.say(1, 1)
        unplug(two, 0)
        thread, kinds = follow(agent, "attached")
        until(lambda: "lost" in kinds)
        stream = two.streams[1]
        thread.join(0.1)  # it is looked for meanwhile
        assert (two.started, two.streams[1]) == (0, stream)
        # Where PortAudio knew it, it is opened as it was: nothing of the other stream is touched.
        two.there.insert(0, "agent")
        until(lambda: 0 in two.streams)
        two.say(0, 2)
        thread.join(30.0)
        assert not thread.is_alive()
        assert (kinds[0], kinds[-1], two.started, two.streams[1]) == ("lost", "attached", 0, stream)
        assert customer.missing_samples == 0
        assert agent.missing_samples > 0


def test_a_device_at_another_place_costs_the_other_a_gap_and_no_more(two: TwoDevices) -> None:
    with Microphone("agent", on_lost="retry") as agent, Microphone("customer", on_lost="retry") as customer:
        two.say(0, 1)
        two.say(1, 1)
        unplug(two, 0)
        thread, _ = follow(agent, "attached")
        two.there.append("agent")  # behind the other one, which moves
        until(lambda: two.started == 1 and 1 in two.streams)
        two.say(1, 2)
        two.say(0, 3)
        thread.join(30.0)
        assert not thread.is_alive()
        assert (two.started, agent.device.index, customer.device.index) == (1, 1, 0)
        customer.close()
        blocks = list(customer)
    assert [round(float(block.samples[0]) * 32768) for block in blocks] == [1, 3]
    assert blocks[-1].lost == customer.missing_samples
    assert [block.notices for block in blocks] == [(), ()]


def test_a_device_that_is_gone_when_portaudio_starts_anew_is_lost_too(two: TwoDevices) -> None:
    with Microphone("agent", on_lost="retry") as agent, Microphone("customer", on_lost="exit") as customer:
        two.say(0, 1)
        two.say(1, 1)
        unplug(two, 0)
        two.there[:] = ["other", "agent"]
        thread, _ = follow(agent, "attached")
        until(lambda: two.started == 1 and 1 in two.streams)
        two.say(1, 2)
        thread.join(30.0)
        with pytest.raises(DeviceError, match="customer was lost: the stream ended"):
            list(customer)


def test_closing_while_it_is_looked_for(two: TwoDevices) -> None:
    with Microphone("agent", on_lost="retry") as agent, Microphone("customer", on_lost="retry"):
        two.say(0, 1)
        unplug(two, 0)
        thread, kinds = follow(agent, "attached")
        until(lambda: "lost" in kinds)
        agent.close()
        thread.join(30.0)
        assert not thread.is_alive()
        assert list(two.streams) == [1]
    assert reconnect._listening == []
