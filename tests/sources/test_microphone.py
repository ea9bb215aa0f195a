"""The books of a capture, and a device that comes and goes, with a made-up PortAudio."""

from __future__ import annotations

import itertools
import queue
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from cli_fakes import FakeEngine
from fake_portaudio import FakePortAudio, portaudio  # noqa: F401 - fixture

from stream_ser.errors import DeviceError
from stream_ser.events import Block, Gap, Prediction
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.sources.block_resampler import BlockResampler, resampled
from stream_ser.sources.microphone import Microphone

RATE = 16_000


class SlowEngine(FakeEngine):
    """Every call lets the device deliver ten more blocks."""

    def __init__(self, device: FakePortAudio, blocks: int) -> None:
        self.device, self.left, self.calls = device, blocks, 0

    def probabilities(self, window):
        self.calls += 1
        self.deliver(40)
        return super().probabilities(window)

    def deliver(self, blocks: int) -> None:
        for _ in range(min(blocks, self.left)):
            self.left -= 1
            tone = 3_000 * np.sin(2 * np.pi * 220 / RATE * np.arange(320))
            self.device.deliver(tone.astype(np.int16))


def overload(portaudio, policy: str, rates=(RATE,)):
    portaudio.rates = rates
    engine = SlowEngine(portaudio, 1_500)
    recognizer = Recognizer(engine, vad=None)
    heard, events = 0, []
    with Microphone(overload=policy, queue_seconds=1.0, block_seconds=0.02) as mic:
        engine.deliver(100)
        for block in resampled(mic, RATE):
            heard += len(block.samples)
            events += recognizer.push_block(block)
            if mic.backlog_s < 0.4:
                engine.deliver(20)
            if not engine.left:
                mic.close()
        events += recognizer.flush()
    return mic, engine, recognizer.summary(), heard, events


@pytest.mark.parametrize("rates", [(RATE,), (48_000,)])
def test_dropping_the_oldest_every_sample_is_in_the_books(portaudio, rates):
    mic, _engine, summary, heard, events = overload(portaudio, "drop-oldest", rates)
    gaps = [event for event in events if isinstance(event, Gap)]
    assert mic.captured_samples == 1_500 * 320
    assert mic.missing_samples == 0
    assert mic.lost_samples > 0
    share = RATE / rates[0]
    # captured = processed + lost
    assert summary.samples == heard == round(mic.captured_samples * share)
    assert summary.lost == sum(gap.length for gap in gaps) == round(mic.lost_samples * share)
    assert summary.skipped == 0
    assert all(a.start + a.length <= b.start for a, b in itertools.pairwise(gaps))
    predictions = [event for event in events if isinstance(event, Prediction)]
    assert predictions[-1].end == pytest.approx(summary.samples, abs=160)


def test_skipping_hops_loses_no_audio(portaudio):
    mic, engine, summary, heard, events = overload(portaudio, "skip-hop")
    assert mic.lost_samples == mic.missing_samples == summary.lost == 0
    assert summary.samples == heard == mic.captured_samples == 1_500 * 320
    predictions = [event for event in events if isinstance(event, Prediction)]
    assert summary.skipped > 0
    assert len(predictions) == engine.calls
    every = [event for event in events if getattr(event, "kind", "") == "behind"]
    assert len(every) == 1
    # As many hops as without hurry, and the stream's last window is there.
    assert len(predictions) + summary.skipped in (hops := range(117, 119)), hops
    assert predictions[-1].end > summary.samples - 160


def test_blocking_everything_waits(portaudio):
    mic, _engine, summary, _, events = overload(portaudio, "block")
    assert (mic.lost_samples, summary.lost, summary.skipped) == (0, 0, 0)
    assert summary.samples == mic.captured_samples == 1_500 * 320
    assert not any(isinstance(event, Gap) for event in events)


def test_unknown_policies_are_refused(portaudio):
    with pytest.raises(ValueError, match="no such policy"):
        Microphone(overload="panic")


# --- when the consumer is woken --------------------------------------------------------------------------------


class Timed:
    """A device and a consumer in a time of their own: blocks of 40 ms arrive while the microphone waits."""

    def __init__(self, portaudio, monkeypatch, **settings) -> None:
        self.now_s, self.arrived, self.slept = 1_000.0, 0, []
        self._portaudio = portaudio
        monkeypatch.setattr("stream_ser.sources.microphone.time.monotonic", lambda: self.now_s)
        self.mic = Microphone(**settings)
        self.block = self.mic.sample_rate // 25
        monkeypatch.setattr(self.mic._closing, "wait", self.wait)
        timed = self

        class Queue(queue.SimpleQueue):
            def get(self, block: bool = True, timeout: float | None = None):
                if self.empty():  # what waits here is woken by the next block
                    timed.until(1_000.0 + 0.04 * (timed.arrived + 1))
                return super().get_nowait()

        self.mic._queue = Queue()

    def wait(self, seconds: float) -> bool:
        self.slept.append(seconds)
        self.until(self.now_s + seconds)
        return False

    def until(self, end_s: float) -> None:
        while (due_s := 1_000.0 + 0.04 * (self.arrived + 1)) <= end_s:
            self.now_s, self.arrived = due_s, self.arrived + 1
            self._portaudio.deliver(np.full(self.block, self.arrived))
        self.now_s = end_s


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
@pytest.mark.parametrize("hop", [2_560, 1_600, 4_000, 16_000, 40_000])
def test_blocks_are_left_lying_until_something_can_come_of_them(portaudio, monkeypatch, hop, rate):
    portaudio.rates = (rate,)
    timed = Timed(portaudio, monkeypatch, sample_rate=rate, overload="skip-hop")
    resampler, given, due, found_s, blocks = BlockResampler(rate, RATE), 0, 2_912, [], []
    with timed.mic as mic:
        mic.needs_s = lambda: (due - given) / RATE - resampler.held_s
        for block in mic:
            assert mic.backlog_s == 0.0
            assert len(block.samples) <= 0.24 * rate
            blocks.append(block)
            given += sum(len(part.samples) for part in resampler.push(block))
            while given >= due:
                found_s.append((due, timed.now_s))
                due += hop
            if given > 30 * RATE:
                break
    whole = np.concatenate([block.samples for block in blocks])
    assert (np.round(whole[:: timed.block] * 32768) == np.arange(1, len(whole) // timed.block + 1)).all()
    assert mic.lost_samples == 0
    assert not any(block.behind or block.notices for block in blocks)
    # As soon as by a consumer that is woken by each block, but for 2 ms.
    resampler, given, arrived, soonest_s = BlockResampler(rate, RATE), 0, 0, {}
    for due, _ in found_s:
        while given < due:
            arrived += 1
            block = Block(np.zeros(timed.block, np.float32))
            given += sum(len(part.samples) for part in resampler.push(block))
        soonest_s[due] = 1_000.0 + 0.04 * arrived
    late_s = [now_s - soonest_s[due] for due, now_s in found_s if soonest_s[due] > 1_002.0]
    assert len(late_s) > 27 * RATE // hop
    assert 0.0 <= max(late_s) < 0.003
    # Awake once a hop, and every 200 ms of a long one; a resampler's last samples cost another time.
    hop_s, each = hop / RATE, 1 if rate == RATE else 2
    assert len(timed.slept) <= 1.1 * each * 28 / hop_s * max(1.0, hop_s / 0.2 + 1.0 * (hop_s > 0.2))
    assert max(timed.slept) <= 0.2


def test_what_was_lost_or_is_to_be_told_stands_between_blocks(portaudio, monkeypatch):
    timed = Timed(portaudio, monkeypatch, queue_seconds=0.4)
    with timed.mic as mic:
        mic.needs_s = lambda: 0.0
        timed.until(1_001.0)
        blocks = iter(mic)
        first = next(blocks)
        assert first.lost > 0
        timed.until(1_001.12)
        mic._queue.put(mic._streams - 1)  # of a stream that was given up
        timed.until(1_001.2)
        mic.close()
        rest = list(blocks)
    heard = np.concatenate([first.samples, *(block.samples for block in rest)])
    assert first.lost + len(heard) + sum(block.lost for block in rest) == timed.arrived * 640
    position, numbers = 0, np.round(heard * 32768)
    for block in (first, *rest):  # each sample says which block of the device it was in
        position += block.lost
        count = len(block.samples)
        assert (numbers[:count] == 1 + np.arange(position, position + count) // 640).all()
        position, numbers = position + count, numbers[count:]


def test_nobody_oversleeps_the_end(portaudio, monkeypatch):
    timed = Timed(portaudio, monkeypatch, duration_s=2.05)
    with timed.mic as mic:
        timed.until(1_002.0)
        mic.needs_s = lambda: 60.0
        assert sum(len(block.samples) for block in mic) == round(2.05 * RATE)
    assert timed.now_s <= 1_000.0 + 2.08 + 0.003


def test_who_says_nothing_of_needs_gets_every_block_at_once(portaudio, monkeypatch):
    timed = Timed(portaudio, monkeypatch, duration_s=1.0)
    with timed.mic as mic:
        timed.until(1_001.0)
        assert [len(block.samples) for block in mic] == [640] * 25
    assert timed.slept == []


def test_a_microphone_that_is_closed_wakes_up(portaudio, monkeypatch):
    monkeypatch.setattr("stream_ser.sources.microphone.GATHER_S", 60.0)
    now_s = [1_000.0]
    with monkeypatch.context() as earlier:
        earlier.setattr("stream_ser.sources.microphone.time.monotonic", lambda: now_s[0])
        mic = Microphone(stall_seconds=60.0)
        mic.__enter__()
        for _ in range(50):
            now_s[0] += 0.04
            portaudio.deliver(np.zeros(640))
    with mic:
        mic.needs_s = lambda: 50.0
        wait, woken = mic._closing.wait, []
        monkeypatch.setattr(mic._clock, "arrives_in", lambda *_: 50.0)

        def waits(seconds: float) -> bool:
            threading.Thread(target=mic.close).start()
            woken.append(wait(seconds))
            return woken[-1]

        monkeypatch.setattr(mic._closing, "wait", waits)
        assert sum(len(block.samples) for block in mic) == 50 * 640
    # Not by the time that it would have slept.
    assert woken == [True]


# --- a device that comes and goes -----------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("stream_ser.sources.microphone._RETRY_S", 0.01)
    monkeypatch.setattr("stream_ser.sources.microphone._POLL_S", 0.01)
    monkeypatch.setattr("stream_ser.sources.microphone._STALL_NOTICE_S", 0.05)


def test_a_lost_device_is_found_again_and_the_time_between_is_a_gap(portaudio, quick):
    refreshed = []
    portaudio._terminate = portaudio._initialize = lambda: refreshed.append(1)
    first_open = portaudio.RawInputStream
    opened = []

    def reopen(**settings):
        opened.append(settings)
        stream = first_open(**settings)
        if len(opened) == 2:
            portaudio.deliver(np.full(320, 2))
        return stream

    def devices(kind=None):
        device = FakePortAudio.query_devices(portaudio, "input")
        device |= {"name": "other" if len(refreshed) == 2 else "mic"}
        return device if kind else [device]

    portaudio.RawInputStream, portaudio.query_devices = reopen, devices
    with Microphone("mic", on_lost="retry") as mic:
        portaudio.deliver(np.full(320, 1))
        before_s = time.monotonic()
        portaudio.opened["finished_callback"]()
        seen = []
        for block in mic:
            seen.append(block)
            if len(block.samples) and block.samples[0] * 32768 == 2:
                after_s = time.monotonic()
                break
    kinds = [notice[0] for block in seen for notice in block.notices]
    assert kinds == ["lost", "lost", "attached"]
    texts = [notice[1] for block in seen for notice in block.notices]
    assert texts[0] == "mic was lost: the stream ended; looking for it"
    assert "no input device is called 'mic'; there are 0: other" in texts[1]
    assert len(refreshed) == 4
    assert 0 < seen[-1].lost <= (after_s - before_s + 0.1) * RATE
    assert mic.missing_samples == mic.lost_samples == seen[-1].lost


def test_a_silent_device_is_told_within_a_second(portaudio, monkeypatch):
    with Microphone(stall_seconds=60.0) as mic:
        portaudio.deliver(np.ones(320))
        blocks = iter(mic)
        assert len(next(blocks).samples) == 320
        told = next(blocks)
        ((kind, text),) = told.notices
        assert (kind, len(told.samples)) == ("stalled", 0)
        assert text.startswith("mic has delivered no audio for 0.")
        portaudio.deliver(np.ones(320))
        assert [notice[0] for notice in next(blocks).notices] == ["resumed"]


def test_a_duration_ends_though_the_device_is_gone(portaudio, quick):
    portaudio._terminate = portaudio._initialize = lambda: None

    def none(kind=None):
        if kind:
            raise portaudio.PortAudioError("no default device")
        return []

    with Microphone(on_lost="retry", duration_s=0.5) as mic:
        portaudio.deliver(np.ones(320))
        portaudio.query_devices = none
        portaudio.opened["finished_callback"]()
        blocks = list(mic)
    assert sum(len(block.samples) for block in blocks) == 320
    assert blocks[-1].lost == 8_000 - 320 == mic.lost_samples == mic.missing_samples


def test_closing_ends_the_search(portaudio, quick, monkeypatch):
    monkeypatch.setattr("stream_ser.sources.microphone._RETRY_S", 60.0)
    with Microphone(on_lost="retry") as mic:
        portaudio.opened["finished_callback"]()
        timer = threading.Timer(0.05, mic.close)
        timer.start()
        assert [block.notices[0][0] for block in mic] == ["lost"]
        timer.join()


def test_scripts_get_an_error(portaudio):
    with Microphone(on_lost="exit") as mic:
        portaudio.opened["finished_callback"]()
        with pytest.raises(DeviceError, match="mic was lost: the stream ended"):
            list(mic)


@pytest.mark.parametrize("ended", [True, False])
def test_what_a_silent_device_misses_until_the_end_is_in_the_books(portaudio, quick, ended):
    """Stopped while the device was away, the timeline ended where the device did, and nothing was said to be lost."""
    portaudio._terminate = portaudio._initialize = lambda: None
    with Microphone(on_lost="retry") as mic:
        opened_s = time.monotonic()
        portaudio.deliver(np.ones(320))
        if ended:
            portaudio.opened["finished_callback"]()
        portaudio.rates = ()
        blocks = []
        for block in mic:
            blocks.append(block)
            if {"lost", "stalled"} & {notice[0] for notice in block.notices}:
                time.sleep(0.1)
                mic.close()
        closed_s = time.monotonic()
    heard = sum(len(block.samples) for block in blocks)
    assert heard == mic.captured_samples == 320
    assert blocks[-1].lost == mic.lost_samples == mic.missing_samples
    assert 0.1 * RATE <= blocks[-1].lost <= (closed_s - opened_s) * RATE


def test_what_waits_when_the_device_is_slow_to_stop_is_heard(portaudio, quick):
    """The iteration ended as soon as it found nothing in the queue, before the capture had handed over the rest."""
    with Microphone() as mic:
        portaudio.deliver(np.ones(320))
        mic._clock.settled, mic._clock.arrived = False, lambda samples, now_s: 0
        portaudio.deliver(np.ones(320))
        portaudio.close = lambda: time.sleep(0.2)
        closing = threading.Timer(0.05, mic.close)
        closing.start()
        assert sum(len(block.samples) for block in mic) == mic.captured_samples == 640
        closing.join()


def test_late_consumers_lose_words_and_not_every_other_moment(portaudio):
    """One block went for each that came: what was left were snippets of twenty milliseconds."""
    with Microphone(queue_seconds=1.0, block_seconds=0.02) as mic:
        for _ in range(51):
            portaudio.deliver(np.ones(320))
        mic.close()
        assert [block.lost for block in mic] == [5 * 320] + [0] * 45


def test_what_was_captured_keeps_its_channels_when_the_device_comes_back_with_others(portaudio):
    portaudio.mono = False
    with Microphone() as mic:
        portaudio.deliver(np.array([[2, 4], [6, 8]]))
        mic._channels = 1
        portaudio.deliver(np.array([7, 9]))
        mic.close()
        assert [(block.samples * 32768).tolist() for block in mic] == [[3, 7], [7, 9]]


def test_a_close_while_the_device_is_being_opened_breaks_nothing(portaudio):
    class Taken(Microphone):
        """Another thread takes the stream as soon as it is there."""

        _stream = property(lambda self: None, lambda self, stream: None)

    with Taken() as mic:
        mic.close()
        assert list(mic) == []


# --- what C libraries print while a stream is open --------------------------------------------------------------

NOISY = """
import logging, os, sys
from stream_ser.sources.portaudio import native_stderr_to_log, quiet_native_stderr
logging.basicConfig(filename=sys.argv[1], level=logging.INFO, format="%(name)s %(message)s")
with native_stderr_to_log():
    os.write(2, b"ALSA lib pcm.c\\nhalf a ")
    print("python speaks", file=sys.stderr)
    os.write(2, b"line\\n")
    with quiet_native_stderr():
        os.write(2, b"while opening\\n")
    print("and again", file=sys.stderr)
os.write(2, b"native again\\n")
print("the end", file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such noise")
@pytest.mark.parametrize("unbuffered", [(), ("-u",)])
def test_native_noise_goes_to_the_log_while_python_still_speaks(tmp_path, unbuffered):
    log = tmp_path / "log"
    command = [sys.executable, *unbuffered, "-c", NOISY, str(log)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "python speaks\nand again\nnative again\nthe end\n")
    lines = log.read_text().splitlines()
    assert sorted(lines) == [f"stream_ser.portaudio {x}" for x in ("ALSA lib pcm.c", "half a line", "while opening")]
