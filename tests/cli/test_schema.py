"""The schema that is shipped, and the lines that are written, are the same thing."""

import io
import json
from importlib import resources
from typing import get_args

import jsonschema
import pytest
from cli_fakes import blocks_of, call, fake_engine, microphone, noise, wav  # noqa: F401 - fixtures

from stream_ser.events import (
    SILENCE,
    UNCERTAIN,
    Block,
    Decision,
    Gap,
    Notice,
    NoticeKind,
    Prediction,
    StreamInfo,
    Summary,
    Timing,
    Transcript,
    Word,
)
from stream_ser.sinks.jsonl import SCHEMA_VERSION, JsonLines

SCHEMA = json.loads((resources.files("stream_ser.assets") / "events.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
KINDS = {"stream", "prediction", "decision", "gap", "notice", "transcript", "summary"}
INFO = StreamInfo("a.wav", "septr", ("anger", "happy"), 16_000)
EVENTS = [
    Prediction(0, 16_352, (0.25, 0.75), -23.4),
    Prediction(0, 20_352, (0.25, 0.75), 3.0, Timing(0.1, 0.2, 30.0)),
    Prediction(0, 24_352, (), -120.0),
    Decision(0, 16_000, SILENCE, 0.0),
    Decision(16_000, 48_000, "happy", 1.0),
    Decision(48_000, 56_000, UNCERTAIN, 0.3),
    Gap(56_000, 8_000),
    Transcript((Word("SO", 16_100, 18_000, 0.9),), UNCERTAIN, False),
    Transcript((Word("SO", 16_100, 18_000, 0.9), Word("GLAD", 19_000, 24_000, 1.0)), "happy", True),
    *(Notice(56_000, kind, "what happened") for kind in get_args(NoticeKind)),
]
SUMMARIES = [
    Summary(64_000, 8_000, "happy", (0.25, 0.75), {SILENCE: 1.0, "happy": 2.0}, 3),
    Summary(64_000, 0, SILENCE, (), {SILENCE: 4.0}),
]


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def written():
    out = io.StringIO()
    sink = JsonLines(out)
    for summary in SUMMARIES:
        sink.open(INFO)
        for event in EVENTS:
            sink.write(event)
        sink.close(summary)
    return lines_of(out.getvalue())


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    definitions = SCHEMA["$defs"]
    assert {name for name in definitions if "additionalProperties" in definitions[name]} >= KINDS
    assert all(definitions[kind]["additionalProperties"] is False for kind in KINDS)


def test_every_kind_of_line_is_valid_and_described():
    lines = written()
    assert {line["type"] for line in lines} == KINDS
    for line in lines:
        VALIDATOR.validate(line)
    for kind in KINDS:
        keys = set().union(*(line for line in lines if line["type"] == kind))
        assert keys == set(SCHEMA["$defs"][kind]["properties"]), kind


def test_schema_and_lines_have_one_version():
    assert written()[0]["schema"] == SCHEMA_VERSION == SCHEMA["$defs"]["stream"]["properties"]["schema"]["const"]
    assert SCHEMA["$id"].endswith(f":{SCHEMA_VERSION}")
    assert SCHEMA["$defs"]["notice"]["properties"]["kind"]["enum"] == list(get_args(NoticeKind))


@pytest.mark.parametrize("number", range(len(EVENTS) + 2))
def test_a_line_with_more_less_or_other_content_is_not_valid(number):
    line = written()[number]
    for key in line:
        assert not VALIDATOR.is_valid({name: value for name, value in line.items() if name != key}) or key == "timing"
    assert not VALIDATOR.is_valid({**line, "more": 1})
    assert not VALIDATOR.is_valid({**line, "type": "other"})
    assert not VALIDATOR.is_valid({**line, "file": None})


def test_what_file_and_listen_write_is_valid(wav, microphone, call):
    first, second = noise(2), noise(2)
    microphone.blocks = (*blocks_of(first), Block(second, 0.0, lost=1_600))
    for args in (("file", wav, wav), ("listen", "--no-view")):
        code, out, _ = call(*args, "--format", "jsonl")
        assert code == 0
        lines = lines_of(out)
        assert lines[0]["schema"] == SCHEMA_VERSION
        for line in lines:
            VALIDATOR.validate(line)


def test_the_command_prints_the_schema(call):
    code, out, err = call("schema")
    assert (code, err) == (0, "")
    assert json.loads(out) == SCHEMA
