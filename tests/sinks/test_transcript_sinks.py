"""What was said, in every output: each line with its emotion, each word with its times; else nothing changes."""

from __future__ import annotations

import csv
import io
import json
import logging

import pytest
from rich.console import Console

from stream_ser.events import UNCERTAIN, Decision, Event, StreamInfo, Summary, Transcript, Word
from stream_ser.sinks.csv_ import Csv
from stream_ser.sinks.draw.captions import captions, listed, said, wrapped
from stream_ser.sinks.draw.palette import colours
from stream_ser.sinks.jsonl import JsonLines
from stream_ser.sinks.lines import Lines
from stream_ser.sinks.log import Log
from stream_ser.sinks.rttm import Rttm
from stream_ser.sinks.subtitles import MAX_CHARACTERS, Srt, Vtt
from stream_ser.sinks.table import MAX_LISTED, Table

LABELS = ("anger", "happy")
INFO = StreamInfo("a.wav", "multitask", LABELS, 16_000, transcribes=True)
SILENT = StreamInfo("a.wav", "septr", LABELS, 16_000)
SUMMARY = Summary(64_000, 0, "happy", (0.25, 0.75), {"happy": 4.0})


def words(text: str, start: int = 1_600, each: int = 4_800) -> tuple[Word, ...]:
    return tuple(
        Word(word, start + place * each, start + place * each + each // 2, 0.5 + place % 2 / 2)
        for place, word in enumerate(text.split())
    )


PARTIAL = Transcript(words("KIDS ARE TAL"), UNCERTAIN, final=False)
FINAL = Transcript(words("KIDS ARE TALKING"), "happy", final=True)
EVENTS: list[Event] = [PARTIAL, Decision(0, 48_000, "happy", 0.9), FINAL]


def written(make: type, events: list[Event] = EVENTS, info: StreamInfo = INFO) -> str:
    out = io.StringIO()
    sink = make(out)
    sink.open(info)
    for event in events:
        sink.write(event)
    sink.close(SUMMARY)
    return out.getvalue()


def test_json_lines_have_words_with_times_partial_and_final() -> None:
    found = [json.loads(line) for line in written(JsonLines).splitlines()]
    partial, final = (line for line in found if line["type"] == "transcript")
    assert (partial["text"], partial["label"], partial["final"]) == ("KIDS ARE TAL", UNCERTAIN, False)
    assert (final["text"], final["label"], final["final"]) == ("KIDS ARE TALKING", "happy", True)
    assert (final["start"], final["end"], final["start_s"]) == (1_600, 13_600, 0.1)
    assert final["words"][1] == {
        "text": "ARE",
        "start": 6_400,
        "end": 8_800,
        "start_s": 0.4,
        "end_s": 0.55,
        "confidence": 1.0,
    }


def test_csv_has_a_column_of_text_only_from_a_model_that_transcribes() -> None:
    rows = list(csv.DictReader(io.StringIO(written(Csv))))
    assert [(row["label"], row["text"]) for row in rows] == [("happy", ""), ("happy", "KIDS ARE TALKING")]
    assert (rows[1]["start_s"], rows[1]["confidence"]) == ("0.1000", "0.6667")
    assert "text" not in written(Csv, [Decision(0, 48_000, "happy", 0.9)], SILENT)


def test_a_word_that_is_a_formula_is_none_in_the_csv() -> None:
    line = Transcript((Word("=1+1", 0, 100, 1.0),), "happy", final=True)
    (row,) = csv.DictReader(io.StringIO(written(Csv, [line])))
    assert not row["text"].startswith("=")


def test_rttm_has_a_lexeme_a_word() -> None:
    found = [line.split() for line in written(Rttm).splitlines()]
    assert [line[0] for line in found] == ["SPEAKER", "LEXEME", "LEXEME", "LEXEME"]
    assert found[2] == ["LEXEME", "a.wav", "1", "0.4000", "0.1500", "ARE", "lex", "happy", "1.0000", "<NA>"]
    assert {len(line) for line in found} == {10}


@pytest.mark.parametrize(("make", "comma"), [(Srt, ","), (Vtt, ".")])
def test_subtitles_are_what_was_said_led_by_its_emotion(make: type, comma: str) -> None:
    text = written(make)
    assert text.endswith(f"1\n00:00:00{comma}100 --> 00:00:01{comma}100\n[happy] KIDS ARE TALKING\n\n")
    assert text.count("-->") == 1
    assert "happy (90%)" in written(make, info=SILENT, events=EVENTS[1:2])


def test_a_long_line_is_cut_into_cues_that_do_not_overlap() -> None:
    long = Transcript(words("WORDS " * 60, each=2_000), "anger", final=True)
    following = Transcript(words("NEXT", start=long.end + 160), "happy", final=True)
    blocks = [block.split("\n") for block in written(Srt, [long, following]).strip().split("\n\n")]
    times = [part for _, span, _ in blocks for part in span.split(" --> ")]
    assert times == sorted(times)
    assert len(blocks) == 6
    assert all(text.startswith("[anger] ") and len(text) <= MAX_CHARACTERS + 8 for _, _, text in blocks[:-1])
    assert " ".join(text.removeprefix("[anger] ") for _, _, text in blocks[:-1]) == long.text


def test_plain_lines_and_the_log_say_a_line_once(caplog: pytest.LogCaptureFixture) -> None:
    assert written(Lines).count("[happy] KIDS ARE TALKING") == 1
    assert "TAL\n" not in written(Lines)
    with caplog.at_level(logging.INFO, "stream_ser.events"):
        written(lambda out: Log())  # type: ignore[arg-type]
    assert sum("[happy] KIDS ARE TALKING" in record.getMessage() for record in caplog.records) == 1


def printed(width: int, events: list[Event]) -> str:
    out = io.StringIO()
    sink = Table(Console(file=out, width=width, highlight=False, markup=False, emoji=False))
    sink.open(INFO)
    for event in events:
        sink.write(event)
    sink.close(SUMMARY)
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_table_lists_what_was_said(width: int) -> None:
    long = Transcript(words("WORDS " * 60), "anger", final=True)
    text = printed(width, [*EVENTS, long])
    assert "[happy] KIDS" in text
    assert text.count("WORDS") == 60
    assert max(map(len, text.splitlines())) <= width


def test_the_table_of_a_long_stream_says_how_much_it_leaves_out() -> None:
    assert "and 3 more: --format srt" in printed(80, [FINAL] * (MAX_LISTED + 3))


@pytest.mark.parametrize("width", [1, 7, 8, 20, 60, 200])
@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_captions_fill_their_rows_and_no_more(width: int, rows: int) -> None:
    found = captions([FINAL, Transcript(words("INCONCEIVABLY " * 9), "anger", final=False)], width, rows, {})
    assert len(found) == rows
    assert all(row.cell_len <= width for row in found)


def test_captions_keep_the_newest_and_dim_what_goes_on() -> None:
    colour = colours(LABELS)
    *_, before, last = captions([FINAL, PARTIAL], 80, 3, colour)
    assert before.plain.strip() == "[happy] KIDS ARE TALKING"
    assert last.plain.strip() == "[uncertain] KIDS ARE TAL"
    assert "italic" in str(last.spans[0].style)
    assert "italic" not in str([span.style for span in before.spans])
    assert colour["happy"] in str([span.style for span in before.spans])


def test_rows_are_wrapped_between_words() -> None:
    assert wrapped(["ONE", "TWO", "INCONCEIVABLE"], 7) == ["ONE TWO", "INCONC…"]
    assert [row.plain for row in said(FINAL, 18, {})] == ["  [happy] KIDS ARE", "  TALKING"]
    assert listed(FINAL, 16_000, 80, {})[0].plain == "      0.10 –     0.85 s  [happy] KIDS ARE TALKING"
