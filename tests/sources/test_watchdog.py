"""Samples against the clock, without a device."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ser.sources.capture_clock import SETTLE_S, TOLERANCE_S, CaptureClock

RATE = 16_000
BLOCK = 320
BLOCK_S = BLOCK / RATE


class Device:
    """Delivers blocks at the times that a test says."""

    def __init__(self, start_s=1_000.0):
        self.clock, self.now_s, self.missing = CaptureClock(RATE), start_s, 0

    def run(self, seconds, jitter=lambda k: 0.0, rate=1.0):
        for k in range(round(seconds / BLOCK_S)):
            self.now_s += BLOCK_S / rate
            self.missing += self.clock.arrived(BLOCK, self.now_s + jitter(k))

    def burst(self, seconds):
        for _ in range(round(seconds / BLOCK_S)):
            self.missing += self.clock.arrived(BLOCK, self.now_s)


def test_a_faultless_device_misses_nothing():
    device = Device()
    device.run(600.0, jitter=lambda k: 0.08 * (k % 4) / 4)
    assert device.missing == 0
    assert device.clock.position == pytest.approx(device.clock.due(device.now_s), abs=1)


@settings(max_examples=60, deadline=None)
@given(lost_s=st.floats(0.15, 50.0), before_s=st.floats(2.0, 20.0), jitter_s=st.floats(0.0, 0.05))
def test_what_stays_late_is_missing(lost_s, before_s, jitter_s):
    device = Device()
    device.run(before_s)
    device.now_s += lost_s
    device.run(1.0, jitter=lambda k: jitter_s * (k % 3 == 1))
    assert device.clock.settled
    assert device.missing / RATE == pytest.approx(lost_s, abs=0.02)
    device.run(5.0)
    assert device.missing / RATE == pytest.approx(lost_s, abs=0.02)


@settings(max_examples=60, deadline=None)
@given(stall_s=st.floats(0.0, 20.0), speed=st.floats(2.0, 100.0))
def test_what_a_burst_makes_good_was_a_delay(stall_s, speed):
    device = Device()
    device.run(3.0)
    device.now_s += stall_s
    device.run(stall_s * speed / (speed - 1.0), rate=speed)
    device.run(2.0)
    assert device.missing == 0


def test_a_loss_is_known_within_a_second_and_until_then_open():
    device = Device()
    device.run(3.0)
    device.now_s += 2.0
    since_s = 0.0
    while not device.missing:
        device.run(BLOCK_S)
        since_s += BLOCK_S
        assert device.clock.settled == bool(device.missing)
    assert since_s <= SETTLE_S + 3 * BLOCK_S < 1.0


def test_fewer_samples_than_the_clock_says_are_noticed():
    device = Device()
    device.run(3.0)
    device.run(60.0, rate=0.9)  # delivers nine tenths
    assert device.missing / RATE == pytest.approx((60.0 / 0.9) - 60.0, abs=1.0)


@pytest.mark.parametrize("skew", [-100e-6, 100e-6])
def test_a_crystal_that_is_a_little_off_is_no_loss(skew):
    device = Device()
    device.run(2 * 3600.0, rate=1.0 + skew)
    assert device.missing == 0


def test_the_first_burst_of_a_stream_is_no_loss():
    device = Device()
    device.burst(0.4)
    device.now_s += 0.4
    device.run(5.0)
    assert device.missing == 0


def test_a_reopened_stream_goes_on_where_the_clock_is():
    device = Device()
    device.run(10.0)
    device.now_s += 7.0
    device.clock.reopened()
    device.run(5.0)
    assert device.missing == 7 * RATE
    assert device.clock.position == 22 * RATE
    assert TOLERANCE_S < 0.25


@given(blocks=st.integers(60, 400), ahead=st.integers(-2_000, 20_000), passed=st.floats(0.0, 1.0))
def test_when_a_sample_arrives_is_known_before(blocks, ahead, passed):
    device = Device()
    assert device.clock.arrives_in(RATE, BLOCK, device.now_s) == 0.0
    for _ in range(blocks):
        device.run(BLOCK_S)
    now_s = device.now_s + passed * BLOCK_S
    position = device.clock.position + ahead
    foretold_s = device.clock.arrives_in(position, BLOCK, now_s)
    if ahead <= 0:
        assert foretold_s == 0.0
        return
    while device.clock.position < position:
        device.run(BLOCK_S)
    # The clock of a device may be off by what is reckoned with as drift.
    assert now_s + foretold_s == pytest.approx(device.now_s, abs=1e-3)
