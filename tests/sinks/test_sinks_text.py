"""RTTM, SubRip, WebVTT: valid by the rules of their formats, whatever the names."""

import io
import re

import pytest

from stream_ser.events import SILENCE, UNCERTAIN, Decision, Gap, Notice, Prediction, StreamInfo, Summary
from stream_ser.sinks.rttm import Rttm, word
from stream_ser.sinks.subtitles import Srt, Vtt, escaped

INFO = StreamInfo("my talk --> 50%.wav", "septr", ("anger", "fear", "happy"), 16_000)
HOUR = 3_600 * 16_000
EVENTS = [
    Prediction(0, 16_000, (), -80.0),
    Decision(0, 16_000, SILENCE, 0.0),
    Decision(16_000, 48_000, "happy", 0.71239),
    Gap(48_000, 8_000),
    Notice(48_000, "stalled", "nothing --> came"),
    Decision(48_000, 80_000, UNCERTAIN, 0.25),
    Decision(80_000, 80_001, "anger", 0.9),
    Decision(101 * HOUR + 16, 101 * HOUR + 16_016, "fear & <b> --> \nfear", 0.5),
]
SUMMARY = Summary(80_001, 8_000, "happy", (0.1, 0.2, 0.7), {"happy": 2.0})
NAMES = ["", "a\tb\u2028c", "-->", "<script>", "&amp;", "\x1b[2J", "bad\udcff", "  ", "日本 語"]


def written(sink_type, events=EVENTS, info=INFO, summary=SUMMARY):
    out = io.StringIO()
    sink = sink_type(out)
    sink.open(info)
    for event in events:
        sink.write(event)
    sink.close(summary)
    return out.getvalue()


# RTTM


def rttm_of(text):
    """By the NIST evaluation plan: ten fields a line, divided by white space."""
    lines = [line.split() for line in text.splitlines()]
    assert all(len(fields) == 10 for fields in lines)
    return lines


def test_rttm_has_a_line_for_each_emotion_and_one_for_what_was_lost():
    lines = rttm_of(written(Rttm))
    name = "my%20talk%20-->%2050%25.wav"
    assert lines[0] == ["SPEAKER", name, "1", "1.0000", "2.0000", "<NA>", "happy", "happy", "0.7124", "<NA>"]
    assert lines[1] == ["NOSCORE", name, "1", "3.0000", "0.5000", *["<NA>"] * 5]
    assert [line[0] for line in lines] == ["SPEAKER", "NOSCORE", "SPEAKER", "SPEAKER", "SPEAKER"]
    assert SILENCE not in {line[6] for line in lines}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_one_field_of_rttm(name):
    info = StreamInfo(name, "m", ("a",), 16_000)
    (line,) = rttm_of(written(Rttm, [Decision(0, 16_000, name or "a", 0.5)], info))
    assert line[3:5] == ["0.0000", "1.0000"]
    assert "\x1b" not in line[1]


def test_rttm_names_stay_different():
    assert word("a b") != word("a%20b")


# subtitles

SRT_TIME = r"\d\d+:[0-5]\d:[0-5]\d,\d{3}"
VTT_TIME = SRT_TIME.replace(",", r"\.")


def cues_of(blocks, time):
    cues = []
    for number, times, *text in blocks:
        start, end = re.fullmatch(f"({time}) --> ({time})", times).groups()
        assert len(text) == 1
        assert text[0].strip()
        assert "-->" not in text[0]
        assert "<" not in text[0]
        assert re.sub(r"&(amp|lt|gt);", "", text[0]).count("&") == 0
        assert start < end
        cues.append((int(number), start, end, text[0]))
    assert [cue[0] for cue in cues] == list(range(1, len(cues) + 1))
    return cues


def srt_of(text):
    assert text == "" or text.endswith("\n\n")
    return cues_of([block.split("\n") for block in text.split("\n\n")[:-1]], SRT_TIME)


def vtt_of(text):
    """By the W3C's syntax: a header line, then blocks between empty lines; a NOTE holds no arrow."""
    header, *blocks = text.split("\n\n")
    assert header == "WEBVTT"
    assert blocks.pop() == ""
    notes = [block for block in blocks if block.startswith("NOTE ")]
    assert all("-->" not in note and "\n" not in note for note in notes)
    return cues_of([block.split("\n") for block in blocks if block not in notes], VTT_TIME)


@pytest.mark.parametrize(("sink", "parse", "comma"), [(Srt, srt_of, ","), (Vtt, vtt_of, ".")])
def test_subtitles_hold_a_cue_for_each_emotion_and_none_for_silence(sink, parse, comma):
    cues = parse(written(sink))
    assert cues[0] == (1, f"00:00:01{comma}000", f"00:00:03{comma}000", "happy (71%)")
    assert cues[1][3] == UNCERTAIN
    assert (cues[2][1], cues[2][2]) == (f"00:00:05{comma}000", f"00:00:05{comma}001")
    assert cues[3][1:] == (
        f"101:00:00{comma}001",
        f"101:00:01{comma}001",
        "fear &amp; &lt;b&gt; --&gt; fear (50%)",
    )
    assert len(cues) == 4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("sink", "parse"), [(Srt, srt_of), (Vtt, vtt_of)])
def test_names_and_labels_break_no_subtitles(sink, parse, name):
    info = StreamInfo(name, name, ("a",), 16_000)
    text = written(sink, [Decision(0, 16_000, name or "a", 0.5)], info)
    assert len(parse(text)) == 1
    assert "\x1b" not in text


def test_a_stream_without_cues_is_a_valid_file():
    silent = [Decision(0, 16_000, SILENCE, 0.0)]
    assert vtt_of(written(Vtt, silent)) == []
    assert vtt_of(written(Vtt, [])) == []
    assert srt_of(written(Srt, silent)) == []


@pytest.mark.parametrize("sink", [Rttm, Srt, Vtt])
def test_a_stream_that_broke_off_before_its_first_event_leaves_nothing(sink):
    assert written(sink, [], summary=None) == ""


def test_a_cue_is_complete_when_its_decision_ends():
    out = io.StringIO()
    sink = Srt(out)
    sink.open(INFO)
    for event in EVENTS[:3]:
        sink.write(event)
    assert len(srt_of(out.getvalue())) == 1


def test_escaping_is_done_once():
    assert escaped("&lt;") == "&amp;lt;"
