import csv
import io
import itertools
import json

import pytest
from rich.console import Console
from sink_events import INFO, LABELS, SPANS, SUMMARY

from stream_ser.events import (
    SILENCE,
    TOO_SHORT,
    UNCERTAIN,
    Decision,
    Gap,
    Prediction,
    Provisional,
    StreamInfo,
    Summary,
    Timing,
)
from stream_ser.sinks import clock
from stream_ser.sinks.csv_ import Csv
from stream_ser.sinks.draw.palette import BIG_ROWS, big, colours
from stream_ser.sinks.draw.timeline import GAP, axis, bar, fit, fit_tail, sample_cells, strip
from stream_ser.sinks.jsonl import JsonLines
from stream_ser.sinks.lines import Lines
from stream_ser.sinks.progress import FileProgress
from stream_ser.sinks.table import MAX_KEPT, MAX_LISTED, Table, overview, render


def feed(sink, events, summary=SUMMARY, info=INFO):
    sink.open(info)
    for event in events:
        sink.write(event)
    sink.close(summary)


def text_of(renderable, width):
    out = io.StringIO()
    Console(file=out, width=width, highlight=False, markup=False, emoji=False).print(renderable)
    return out.getvalue()


class CountingFlushes(io.StringIO):
    flushes = 0

    def flush(self):
        self.flushes += 1


# JSON lines


def test_json_lines_hold_every_event_in_order():
    out = io.StringIO()
    prediction = Prediction(0, 16_352, (0.12345678, 0.2, 0.67654322), -23.456, Timing(1.0, 2.0))
    silent = Prediction(4_000, 20_352, (), -120.0)
    feed(JsonLines(out), [prediction, silent, *SPANS])
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["type"] for line in lines] == [
        *("stream", "prediction", "prediction"),
        *("decision", "decision", "gap", "decision", "summary"),
    ]
    assert {line["file"] for line in lines} == {INFO.name}
    assert lines[0]["labels"] == list(LABELS)
    assert lines[1] == {
        "type": "prediction",
        "file": INFO.name,
        "start": 0,
        "end": 16_352,
        "start_s": 0.0,
        "end_s": 1.022,
        "label": "happy",
        "probabilities": {"anger": 0.1235, "fear": 0.2, "happy": 0.6765},
        "level_dbfs": -23.46,
    }
    assert (lines[2]["label"], lines[2]["probabilities"]) == (SILENCE, None)
    assert lines[4]["confidence"] == 0.7124
    assert (lines[5]["start"], lines[5]["length"], lines[5]["length_s"]) == (48_000, 8_000, 0.5)
    assert lines[7]["seconds"] == {SILENCE: 1.0, "happy": 2.0, UNCERTAIN: 1.5}
    assert lines[7]["duration_s"] == 5.0


def test_json_lines_give_timing_for_live_streams_only():
    out = io.StringIO()
    live = Prediction(0, 16_000, (0.1, 0.2, 0.7), -20.0, Timing(0.111, 2.222, 45.678))
    feed(JsonLines(out), [live])
    timing = json.loads(out.getvalue().splitlines()[1])["timing"]
    assert timing == {"features_ms": 0.11, "inference_ms": 2.22, "age_ms": 45.68}


def test_json_lines_of_a_stream_that_broke_off_have_no_summary():
    out = io.StringIO()
    feed(JsonLines(out), SPANS, summary=None)
    assert "summary" not in out.getvalue()


def test_json_lines_survive_a_file_name_that_is_not_utf8():
    out = io.StringIO()
    feed(JsonLines(out), [], info=StreamInfo("bad\udcff.wav", "m", LABELS, 16_000))
    lines = out.getvalue().encode("utf-8").splitlines()
    assert {json.loads(line)["file"] for line in lines} == {"bad\udcff.wav"}


@pytest.mark.parametrize("sink", [JsonLines, Csv])
def test_live_results_are_flushed_line_by_line(sink):
    out, lazy = CountingFlushes(), CountingFlushes()
    feed(sink(out, flush=True), SPANS)
    feed(sink(lazy), SPANS)
    assert lazy.flushes == 1
    assert out.flushes >= 1 + len([span for span in SPANS if isinstance(span, Decision)])


# CSV


def test_csv_has_one_header_and_a_row_a_decision_over_several_streams():
    out = io.StringIO(newline="")
    sink = Csv(out)
    feed(sink, [Prediction(0, 1, (), -1.0), *SPANS])
    feed(sink, SPANS[:1], info=StreamInfo("two.wav", "septr", LABELS, 16_000))
    assert "\r" not in out.getvalue()
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert len(rows) == 4
    assert rows[1] == {
        "file": INFO.name,
        "start_s": "1.0000",
        "end_s": "3.0000",
        "label": "happy",
        "confidence": "0.7124",
    }
    assert rows[3]["file"] == "two.wav"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        *(
            (formula, f"'{formula}")
            for formula in ("=cmd|' /C calc'!A0.wav", "+1.wav", "-2+3.wav", "@SUM(1).wav", "-#x")
        ),
        *((kept, kept) for kept in ("-", "-#2", "a=b.wav", "C:\\calls\\a.wav", "Gespräch\u202f1\u3000通話.wav", "")),
        ("\t=1.wav", "\\t=1.wav"),
        ("a\r\nb\x1b[2J\x9b\u2028.wav", "a\\r\\nb\\x1b[2J\\x9b\\u2028.wav"),
    ],
)
def test_no_name_is_a_formula_or_a_second_line_of_csv(name, written):
    out = io.StringIO(newline="")
    feed(Csv(out), [Decision(0, 16_000, name or "x", 0.5)], info=StreamInfo(name, "m", LABELS, 16_000))
    assert len(out.getvalue().splitlines()) == 2
    (row,) = csv.DictReader(io.StringIO(out.getvalue()))
    assert (row["file"], row["label"]) == (written, written or "x")


# the table


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_table_is_never_wider_than_the_terminal(width):
    text = text_of(render(INFO, SPANS, SUMMARY, width), 500)
    assert max(map(len, text.splitlines())) <= width
    if width >= 60:
        for said in ("happy", "anger", "uncertain", "silence", "8000 samples lost", "overall happy"):
            assert said in text


def test_table_lists_stretches_with_times_and_confidence():
    text = text_of(render(INFO, SPANS, SUMMARY, 80), 80)
    row = next(line for line in text.splitlines() if "1.00 –" in line and "3.00 s" in line)
    assert "happy" in row
    assert "71%" in row


def test_table_claims_no_emotion_for_silence_and_none_for_uncertain():
    silent = Summary(48_000, 0, SILENCE, (), {SILENCE: 3.0})
    text = text_of(render(INFO, [Decision(0, 48_000, SILENCE, 0.0)], silent, 80), 80)
    assert "no emotion is claimed" in text
    assert "%" not in text
    unsure = Summary(48_000, 0, UNCERTAIN, (0.3, 0.35, 0.35), {UNCERTAIN: 3.0})
    assert "no emotion stands out" in text_of(render(INFO, [], unsure, 80), 80)


def test_table_cuts_a_long_list_and_says_so():
    spans = [Decision(i * 100, i * 100 + 100, LABELS[i % 3], 0.5) for i in range(MAX_LISTED + 7)]
    summary = Summary(100 * len(spans), 0, "anger", (0.5, 0.3, 0.2), {})
    text = text_of(render(INFO, spans, summary, 80), 80)
    assert "7 more" in text


def test_table_of_a_week_keeps_little_and_counts_all():
    out = io.StringIO()
    sink = Table(Console(file=out, width=100))
    sink.open(INFO)
    hop, count = 16_000, 20_000
    for index in range(count):
        # A long emotion and a short one in turns; in the middle, a stretch of its own.
        label = UNCERTAIN if 9_000 <= index < 11_000 else LABELS[index % 2]
        start = index * hop + (index % 2) * hop // 2
        sink.write(Decision(start, (index + 1) * hop + (1 - index % 2) * hop // 2, label, 0.5))
        sink.write(Gap(start, 10))
    kept = len(sink._decisions) + len(sink._gaps)
    assert kept <= 2 * MAX_KEPT
    assert sink._decisions[0].start == 0
    assert sink._decisions[-1].end == count * hop
    assert all(a.end == b.start for a, b in itertools.pairwise(sink._decisions))
    sink.write(Gap(count * hop - 5, 5))
    sink.close(Summary(count * hop, 0, "anger", (0.5, 0.3, 0.2), {}))
    assert f"… and {2 * count + 1 - MAX_LISTED} more" in out.getvalue()
    assert "     1.50 –     2.00 s  fear" in out.getvalue()


def test_table_prints_each_stream_for_itself():
    out = io.StringIO()
    sink = Table(Console(file=out, width=80))
    feed(sink, SPANS)
    first = out.getvalue()
    feed(sink, SPANS)
    assert out.getvalue() == first * 2
    feed(sink, SPANS, summary=None)
    assert out.getvalue() == first * 2


@pytest.mark.parametrize("width", [60, 80, 120])
def test_overview_has_a_line_a_file(width):
    rows = [("a.wav", SUMMARY, 16_000), ("deep/" * 40 + "b.wav", SUMMARY, 16_000), ("bad.wav", None, 16_000)]
    lines = text_of(overview(rows, LABELS, width), 500).splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= width
    assert "b.wav" in lines[2]
    assert "not read" in lines[3]


# plain lines


def test_lines_tell_every_change_once_and_every_verdict():
    out = io.StringIO()
    sink = Lines(out)
    sink.open(INFO)
    sink.tick(None, Provisional(0, 2_000, TOO_SHORT, 0.3, 1), (0.2, 0.3, 0.5))
    for end in (4_000, 8_000, 12_000):
        sink.tick(None, Provisional(0, end, "happy", 0.5, 1), (0.2, 0.3, 0.5))
    sink.write(Decision(0, 12_000, "happy", 0.7, 1))
    sink.write(Gap(12_000, 160))
    sink.tick(None, Provisional(12_160, 16_000, SILENCE, 0.0), ())
    sink.close(SUMMARY)
    lines = out.getvalue().splitlines()
    assert lines[1].split() == ["0.25", "s", "happy?", "50%"]
    assert lines[2].split() == ["0.00", "s", "happy", "70%", "to", "0.75", "s"]
    assert "160 samples lost" in lines[3]
    assert lines[4].split() == ["0.76", "s", "silence"]
    assert "happy overall" in lines[5]
    assert len(lines) == 6


# the pieces


def test_lost_audio_is_never_hidden_by_a_longer_neighbour():
    spans = [(0, 900, "happy"), (900, 901, GAP), (901, 2000, "anger")]
    assert GAP in sample_cells(spans, 0, 2000, 4)
    assert sample_cells([(0, 600, "a"), (600, 1000, "b")], 0, 1000, 1) == ["a"]
    assert sample_cells([], 0, 0, 3) == ["", "", ""]


@pytest.mark.parametrize("fraction", [-1.0, 0.0, 0.01, 0.5, 0.999, 1.0, 7.0])
@pytest.mark.parametrize("width", [0, 1, 10])
def test_bar_is_exactly_as_wide_as_asked(fraction, width):
    assert len(bar(fraction, width, "red").plain) == width


def test_bar_length_is_the_fraction():
    assert bar(0.5, 10, "red").plain == "█████     "
    assert bar(0.25, 2, "red").plain == "▌ "


def test_strip_tells_stretches_apart_without_colours():
    cells = ["happy"] * 8 + [GAP] * 2 + [SILENCE] * 3 + [UNCERTAIN] * 3 + [""] * 2
    assert strip(cells, colours(LABELS)).plain == "happy███╳╳···░░░  "


@pytest.mark.parametrize("length", [0.01, 0.3, 3.0, 59.0, 61.0, 3_600.0, 400_000.0])
@pytest.mark.parametrize("width", [1, 20, 76])
def test_axis_fits_every_length(length, width):
    assert len(axis(0.0, length, width, lambda s: f"{s:g} s").plain) == width


def test_fit_counts_terminal_cells():
    assert fit("日本語", 4) == "日 …"
    assert fit("abc", 5) == "abc  "
    assert fit("abcdef", 4) == "abc…"
    assert fit_tail("a/b/c/name.wav", 9) == "…name.wav"


def test_colours_are_unique_and_the_same_for_anger_and_angry():
    labels = ("angry", "happy", "joy", "made-up", "other", "sad")
    chosen = colours(labels)
    assert len({chosen[label] for label in labels}) == len(labels)
    assert colours(("anger",))["anger"] == chosen["angry"]


@pytest.mark.parametrize("word", ["happy", "uncertain", "naïve 2", "", "x" * 50])
def test_big_words_are_rectangles_within_the_width(word):
    lines = big(word, 40)
    assert len(lines) == BIG_ROWS
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= 40


def test_clock():
    assert [clock(s) for s in (0, 7.9, 754, 3_723)] == ["0:00", "0:07", "12:34", "1:02:03"]


def test_progress_moves_with_predictions_and_leaves_at_the_end():
    out = io.StringIO()
    bar_sink = FileProgress(Console(file=out, force_terminal=True, width=100), files=2)
    for index in range(2):
        bar_sink.expect(index, 2.0)
        bar_sink.open(StreamInfo(f"{index}.wav", "m", LABELS, 16_000))
        bar_sink.write(Prediction(0, 16_000, (), -50.0))
        assert bar_sink._bar.tasks[0].completed == index + 0.5
        bar_sink.close(None)
    assert bar_sink._bar.finished
    assert not bar_sink._bar.live.is_started
