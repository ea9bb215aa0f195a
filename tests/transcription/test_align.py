"""``stream-ser align`` and :func:`stream_ser.align`: the same times as the live transcript, and clear refusals."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from generate import write_wav
from streamed import RATE, Cut, run
from tiny_models import write_streaming_onnx
from transcripts import lines, tones

import stream_ser as ss
from stream_ser.errors import AudioError, DataError, ModelError
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime import engine
from stream_ser.transcription import forced_alignment

SAID = "CAB FACED A BADE"
SAMPLES = tones("__" + SAID + "__")


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wav(tmp_path_factory.mktemp("align") / "said.wav", SAMPLES)


@pytest.fixture(scope="module")
def loaded(speller: Path) -> engine.Engine:
    return engine.load(speller, "cpu")


def test_words_have_the_times_of_the_live_transcript(loaded: engine.Engine) -> None:
    live = lines(run(Recognizer(loaded, vad=None), Cut([(0, SAMPLES)], [10**6], RATE)))[-1]
    found = ss.align(SAMPLES, "Cab, faced a bade!", model=loaded)
    assert [(word.text, word.start, word.end) for word in found] == [
        (word.text, word.start, word.end) for word in live.words
    ]
    assert [word.confidence for word in found] == pytest.approx([word.confidence for word in live.words])


def test_a_word_that_was_not_said_has_a_low_confidence(loaded: engine.Engine) -> None:
    cab, faded, a, bade = ss.align(SAMPLES, "cab faded a bade", model=loaded)
    assert faded.confidence < 0.5 < min(cab.confidence, a.confidence, bade.confidence)


@pytest.mark.parametrize("delay_steps", [1, 3, 7])
def test_the_networks_delay_is_taken_out(tmp_path: Path, loaded: engine.Engine, delay_steps: int) -> None:
    path = write_streaming_onnx(tmp_path / "late.onnx", delay_steps=delay_steps)
    assert ss.align(SAMPLES, SAID, model=path) == ss.align(SAMPLES, SAID, model=loaded)


def test_the_blank_may_be_any_class(loaded: engine.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = loaded.step

    def step(frames, state):
        found = real(frames, state)
        return replace(found, log_probs=np.roll(found.log_probs, -1, axis=1))

    expected = ss.align(SAMPLES, SAID, model=loaded)
    card = replace(loaded.card, vocabulary=(*loaded.card.vocabulary[1:], ""), blank=7)
    monkeypatch.setattr(loaded, "card", card)
    monkeypatch.setattr(loaded, "step", step)
    assert ss.align(SAMPLES, SAID, model=loaded) == expected


def test_a_file_of_another_rate_gives_nearly_the_same(loaded: engine.Engine) -> None:
    double = np.interp(np.arange(2 * len(SAMPLES)) / 2, np.arange(len(SAMPLES)), SAMPLES).astype(np.float32)
    for word, other in zip(
        ss.align(SAMPLES, SAID, model=loaded),
        ss.align(double, SAID, sample_rate=2 * RATE, model=loaded),
        strict=True,
    ):
        assert abs(word.start - other.start) <= 640
        assert abs(word.end - other.end) <= 640


@pytest.mark.parametrize(
    ("samples", "text", "error", "said"),
    [
        (SAMPLES, "zoo", DataError, "'O', 'Z', which is not among ' ABCDEF'"),
        (SAMPLES, "...", DataError, "holds no letter"),
        (SAMPLES, "", DataError, "holds no letter"),
        (SAMPLES[: RATE // 2], SAID, DataError, "needs 0.64 s or more, and the audio lasts 0.50 s"),
        (SAMPLES[:300], "a", AudioError, "300 samples of audio, too short"),
        (np.full(RATE, np.nan, np.float32), "a", AudioError, "NaN"),
        (SAMPLES[None], "a", ValueError, r"expected \(time,\)"),
    ],
)
def test_what_cannot_be_aligned_is_refused(loaded: engine.Engine, samples, text: str, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        ss.align(samples, text, model=loaded)


def test_too_much_at_once_is_refused_before_it_fills_the_memory(
    loaded: engine.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forced_alignment, "MAX_CELLS", 100)
    with pytest.raises(DataError, match="align it in parts"):
        ss.align(SAMPLES, SAID, model=loaded)


def test_a_model_that_does_not_transcribe_says_so(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="recognises emotion only, expected a model that transcribes"):
        ss.align(SAMPLES, SAID, model=tiny_model)


def test_the_command_writes_every_format(call, wav: Path, speller: Path, tmp_path: Path) -> None:
    def printed(*options: object) -> str:
        code, out, err = call("align", wav, SAID, "--model", speller, "--provider", "cpu", *options)
        assert (code, err) == (0, "")
        return str(out)

    table = printed().splitlines()
    assert [line.split()[4] for line in table] == SAID.split()
    words = [json.loads(line) for line in printed("--format", "jsonl").splitlines()]
    assert [word["text"] for word in words] == SAID.split()
    assert words[0]["start_s"] == words[0]["start"] / RATE
    rows = list(csv.DictReader(io.StringIO(printed("--format", "csv"))))
    assert [float(row["start_s"]) for row in rows] == pytest.approx([word["start_s"] for word in words], abs=1e-4)
    assert printed("--format", "srt").endswith(f"\n{SAID}\n\n")
    out = tmp_path / "words.vtt"
    assert printed("-o", out) == ""
    assert out.read_text(encoding="utf-8").startswith("WEBVTT\n")


def test_the_text_may_come_from_a_file(call, wav: Path, speller: Path, tmp_path: Path) -> None:
    text = tmp_path / "said.txt"
    text.write_text("Cab faced\na bade.\n", encoding="utf-8")
    code, out, _ = call("align", wav, "--text-file", text, "--model", speller, "--provider", "cpu")
    assert code == 0
    assert [line.split()[4] for line in out.splitlines()] == SAID.split()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["{wav}"], "give the text as an argument, or with --text-file"),
        (["{wav}", "a", "--text-file", "{bytes}"], "give the text as an argument, or with --text-file"),
        (["{wav}", "--text-file", "{bytes}"], "is no UTF-8 text"),
        (["{wav}", "a", "-o", "x.doc"], "no suffix names its format"),
        (["{wav}", "a", "-o", "{wav}", "--format", "csv"], "is one of the inputs"),
        (["{wav}", SAID, "-o", "{model}", "--format", "csv"], "is one of the inputs"),
        (["missing.wav", "a"], "missing.wav: no such file"),
        (["{wav}", "zoo"], "which is not among"),
    ],
)
def test_mistakes_end_in_one_line(call, wav: Path, speller: Path, tmp_path: Path, args: list[str], said: str) -> None:
    strange = tmp_path / "bytes.txt"
    strange.write_bytes(b"\xff\xfe\xff")
    filled = [argument.format(wav=wav, bytes=strange, model=speller) for argument in args]
    code, out, err = call("align", *filled, "--model", speller, "--provider", "cpu")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert said in err
