import io
import time

import numpy as np
import pytest
from rich.console import Console, Group
from view_states import HOP, LABELS, RATE, empty, eventful, lose, many_labels, new_state, silent, speak, talking, unsure

from stream_ser.cli.run.outputs import GuardedSink
from stream_ser.events import (
    SILENCE,
    TOO_SHORT,
    Decision,
    Notice,
    Prediction,
    Provisional,
    StreamInfo,
    Summary,
    Timing,
)
from stream_ser.sinks.live import rows as live_rows
from stream_ser.sinks.live.screen import REFRESH_S
from stream_ser.sinks.live.single import LiveView, render
from stream_ser.sinks.live.state import FLOOR_DBFS, HISTORY_S
from stream_ser.sinks.table import console_for

SIZES = [(60, 20), (80, 24), (120, 40), (40, 16), (20, 8), (200, 60), (1, 1)]


def full_scale():
    state = new_state()
    speak(state, "anger", 2, amplitude=1.5)
    return state


def begun():
    """Somebody has just begun to speak: the network has been asked, and no label is shown yet."""
    state = new_state()
    speak(state, SILENCE, 3, amplitude=0.0)
    speak(state, "happy", 0.25)
    state.show(Provisional(48_000, state.heard, TOO_SHORT, 0.3, 1), state.probabilities)
    return state


STATES = [empty, silent, unsure, eventful, full_scale, many_labels, talking]


def text_of(state, width, height):
    return rendered(render(state, width, height), width)


def rendered(frame, width):
    console = Console(file=io.StringIO(), record=True, width=max(width, 1) + 50, highlight=False)
    console.print(Group(*frame))
    return console.export_text(styles=False)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("state", STATES)
def test_no_frame_is_larger_than_the_terminal(state, width, height):
    lines = text_of(state(), width, height).splitlines()
    assert len(lines) <= height
    assert max(len(line.rstrip()) for line in lines) <= width


@pytest.mark.parametrize(("width", "height"), SIZES[:3])
def test_a_usual_terminal_shows_everything(width, height):
    text = text_of(eventful(), width, height)
    for said in (*LABELS, "septr", "CPU", "70%", "0:56", "latency", "audio age", "RTF", "dBFS", "now", "╳"):
        assert said in text, said
    assert "lost 1.50 s" in text
    assert "overflows 3" in text


def test_what_is_said_stands_below_the_emotion_and_is_replaced_as_it_grows():
    text = text_of(talking(), 80, 24)
    rows = [line.strip() for line in text.splitlines()]
    assert "[sad] MAYBE TOMOR" in rows
    assert text.count("THAT IS EXACTLY") == 1
    assert text.index("FORGET A JACKET") < text.index("MAYBE TOMOR") < text.index("disgust")
    for height in (8, 12, 18):
        assert "MAYBE TOMOR" in text_of(talking(), 60, height)
    assert "MAYBE" not in text_of(eventful(), 80, 24)


def test_the_current_emotion_is_marked():
    lines = text_of(eventful(), 80, 24).splitlines()
    marked = [line for line in lines if "▸" in line]
    assert len(marked) == 1
    assert "sad" in marked[0]


def test_before_the_first_decision_nothing_is_claimed():
    text = text_of(empty(), 80, 24)
    assert "listening" in text
    assert "%" not in text


def test_the_onset_of_speech_is_no_silence():
    """The first label waits until it is clear, or enough was heard."""
    state = begun()
    text = text_of(state, 80, 24)
    assert "listening" in text
    assert "no emotion claimed" not in text
    row = live_rows.render([state, silent()], 80, 24)
    assert "listening" in rendered(row, 80)
    assert rendered(row, 80).count("silence for") == 1


@pytest.mark.parametrize("height", [1, 5, 12, 16, 24])
def test_what_is_wrong_is_never_cut_off(height):
    state = eventful()
    state.take(Notice(state.heard, "lost", "the microphone was unplugged"))
    assert "! the microphone was unplugged" in text_of(state, 80, height)


def test_silence_claims_no_emotion_and_uncertain_no_winner():
    text = text_of(silent(), 80, 24)
    assert "no emotion claimed" in text
    assert "%" not in text
    assert "▸" not in text
    assert "nothing stands out" in text_of(unsure(), 80, 24)


def test_timeline_shows_order_and_gap_without_colours():
    lines = text_of(eventful(), 120, 30).splitlines()
    strip = next(line for line in lines if "anger" in line and "happy" in line and "%" not in line)
    order = [strip.index(mark) for mark in ("happy", "anger", "╳", "sad")]
    assert order == sorted(order)
    assert strip.rstrip().endswith("█")


def test_timeline_keeps_a_minute():
    state = new_state()
    speak(state, "happy", 10)
    speak(state, "sad", HISTORY_S + 2)
    assert all(moment.label == "sad" for moment in list(state.moments)[1:])
    assert "happy" not in {moment.label for moment in state.moments if moment.end > state.heard - HISTORY_S * RATE}
    assert len(state.moments) < 300


def test_moments_between_predictions_are_joined():
    state = new_state()
    for _ in range(3_000):
        state.hear(np.zeros(320, np.float32))
        state.show(Provisional(0, 100, "happy", 0.5), (0.1,) * 6)
    assert len(state.moments) == 1


def test_level_meter_holds_the_peak_and_falls():
    state = new_state()
    state.hear(np.full(1_600, 1.0, np.float32))
    assert state.level_dbfs == pytest.approx(0.0)
    assert state.peak_dbfs == pytest.approx(0.0)
    for _ in range(10):
        state.hear(np.zeros(1_600, np.float32))
    assert state.peak_dbfs == pytest.approx(0.0)
    assert state.level_dbfs < -50
    for _ in range(100):
        state.hear(np.zeros(1_600, np.float32))
    assert state.level_dbfs == state.peak_dbfs == FLOOR_DBFS


def test_sine_level_is_rms():
    state = new_state()
    state.hear(np.sin(2 * np.pi * 100 * np.arange(16_000) / 16_000).astype(np.float32))
    assert state.level_dbfs == pytest.approx(-3.01, abs=0.01)


def test_latency_percentiles_and_real_time_factor():
    state = new_state()
    assert state.latency_ms is None
    assert state.real_time_factor is None
    for index in range(1, 201):
        cost = 100.0 if index == 50 else float(index > 190) * 9.0 + 1.0
        state.take(Prediction(0, index * HOP, (), -20.0, Timing(0.0, cost)))
    assert state.latency_ms == (1.0, 10.0)
    assert state.real_time_factor == pytest.approx((89 * 1.0 + 10 * 10.0) / (99 * 250.0))


def test_gap_counts_and_time_goes_on():
    state = new_state()
    speak(state, "happy", 2)
    lose(state, 8_000)
    assert (state.lost, state.heard) == (8_000, 40_000)
    speak(state, "happy", 1)
    assert [moment.label for moment in state.moments].count("lost") == 1


def test_a_notice_stays_for_a_while_and_one_of_what_lasts_until_the_next():
    state = empty()
    speak(state, "happy", 2)
    state.take(Notice(state.heard, "stalled", "the device\x1b delivers nothing"))
    speak(state, "happy", 60)
    assert "! the device\\x1b delivers nothing" in text_of(state, 80, 24)
    state.take(Notice(state.heard, "resumed", "it delivers again"))
    assert "! it delivers again" in text_of(state, 40, 16)
    speak(state, "happy", 16)
    assert "!" not in text_of(state, 80, 24)
    state.warn("a.csv is full")
    assert "! a.csv is full" in text_of(state, 80, 24)


def test_a_new_stream_forgets_the_old_one():
    state = eventful()
    state.begin(StreamInfo("next", "septr", LABELS, RATE))
    assert (state.heard, state.lost, len(state.moments), state.provider) == (0, 0, 0, "CPUExecutionProvider")


def run_view(console, refresh=True):
    view = LiveView(console, provider="CPUExecutionProvider", duration_s=5.0)
    view.open(StreamInfo("clip", "septr", LABELS, RATE))
    block = np.full(HOP, 0.1, np.float32)
    probabilities = (0.1, 0.1, 0.1, 0.5, 0.1, 0.1)
    for index in range(1, 21):
        view.write(Prediction(0, index * HOP, probabilities, -20.0, Timing(1.0, 1.0)))
        view.tick(block, Provisional(0, index * HOP, "happy", 0.5), probabilities, overflows=0)
    view.write(Decision(0, 20 * HOP, "happy", 0.5))
    return view


def test_live_view_takes_the_screen_gives_it_back_and_prints_the_result():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, height=24, color_system="truecolor")
    view = run_view(console)
    view.close(Summary(20 * HOP, 0, "happy", (0.1, 0.1, 0.1, 0.5, 0.1, 0.1), {"happy": 5.0}))
    text = out.getvalue()
    assert text.count("\x1b[?1049h") == 1
    assert text.count("\x1b[?1049l") == 1
    after = text.split("\x1b[?1049l")[1]
    assert "happy" in after
    assert "overall" in after


def test_live_view_gives_the_screen_back_after_an_error():
    out = io.StringIO()
    view = run_view(Console(file=out, force_terminal=True, width=80, height=24))
    view.close(None)
    assert out.getvalue().rstrip().endswith("\x1b[?25h") or "\x1b[?1049l" in out.getvalue()


def test_live_view_draws_at_ten_hertz_however_small_the_blocks(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("stream_ser.sinks.live.screen.time.monotonic", lambda: now[0])
    drawn = []
    monkeypatch.setattr("stream_ser.sinks.live.single.render", lambda *args: drawn.append(now[0]) or [])
    view = LiveView(Console(file=io.StringIO(), force_terminal=True), provider="x")
    view.open(StreamInfo("clip", "septr", LABELS, RATE))
    for _ in range(500):
        now[0] += 0.02
        view.tick(np.zeros(320, np.float32), None, ())
    view.close(None)
    assert 80 <= len(drawn) <= 101


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("out", "no_color", "coloured"),
    [
        (Terminal, None, True),
        (Terminal, "1", False),
        (io.StringIO, None, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(out, no_color, coloured, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    out = out()
    console_for(out).print(Group(*render(eventful(), 80, 24)))
    assert "neutral" in out.getvalue()
    assert ("\x1b[38;" in out.getvalue() or ";38;" in out.getvalue()) == coloured


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_frame_exports_to_svg(width):
    console = Console(file=io.StringIO(), record=True, width=width, force_terminal=True)
    console.print(Group(*render(eventful(), width, 24)))
    svg = console.export_svg(title="stream-ser")
    assert "#ffc53d" in svg
    assert "stream-ser" in svg


class Flaky(Terminal):
    """A terminal that cannot be written for a moment."""

    failing = False

    def write(self, text):
        if self.failing:
            self.failing = False
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return super().write(text)


@pytest.mark.parametrize("view", [LiveView, lambda *args, **more: live_rows.LiveRows(args[0], 1, **more).rows[0]])
def test_a_view_that_failed_gives_the_screen_back_all_the_same(view):
    out, told = Flaky(), []
    console = Console(file=out, force_terminal=True, width=80, height=24)
    guard = GuardedSink(view(console, provider="CPUExecutionProvider"), "the view", told.append, out)
    guard.open(StreamInfo("clip", "septr", LABELS, RATE))
    guard.write(Prediction(0, HOP, (0.1, 0.1, 0.1, 0.5, 0.1, 0.1), -20.0, Timing(1.0, 1.0)))
    out.failing = True
    time.sleep(REFRESH_S)
    guard.run(guard.sink.tick, np.full(HOP, 0.1, np.float32), None, ())
    assert not out.failing
    assert len(told) == 1
    guard.close(None)
    text = out.getvalue()
    assert text.index("\x1b[?1049h") < text.index("\x1b[?1049l")
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert text.count("\x1b[?1049l") == 1
