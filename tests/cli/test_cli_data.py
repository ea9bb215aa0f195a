"""``stream-ser data check`` on good corpora and on broken ones."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from cli_fakes import call, one_line  # noqa: F401 - fixtures
from generate import voice, write_wav

from stream_ser.train.data import corpora, corpus_check


@pytest.fixture
def broken(tmp_path):
    """A folder corpus with one of everything that can be wrong, and two good clips."""
    root = tmp_path / "own"
    for label in ("happy", "sad"):
        (root / label).mkdir(parents=True)
    sound = voice(1.0)
    write_wav(root / "happy" / "good.wav", sound)
    write_wav(root / "sad" / "good.wav", voice(1.0, 1))
    write_wav(root / "sad" / "copy.wav", sound)
    write_wav(root / "happy" / "again.wav", voice(1.0, 2))
    shutil.copy(root / "happy" / "again.wav", root / "happy" / "once more.wav")
    write_wav(root / "sad" / "silence.wav", np.zeros(16_000, np.float32))
    write_wav(root / "sad" / "hush.wav", sound * np.float32(1e-4))
    write_wav(root / "sad" / "short.wav", np.full(200, 0.1, np.float32))
    write_wav(root / "sad" / "loud.wav", np.clip(voice(1.0, 3) * 20, -1, 1))
    write_wav(root / "sad" / "slow.wav", voice(1.0, 4)[::2], 8_000)
    soundfile.write(root / "sad" / "nan.wav", np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    (root / "sad" / "text.wav").write_text("no audio")
    whole = (root / "happy" / "good.wav").read_bytes()
    (root / "sad" / "cut.wav").write_bytes(whole[:20_000])
    return root


FOUND = {
    ("cut", "damaged"),
    ("again", "duplicate"),
    ("once more", "duplicate"),
    ("good", "duplicate, other label"),
    ("copy", "duplicate, other label"),
    ("silence", "silence"),
    ("hush", "silence"),
    ("short", "too short"),
    ("nan", "unreadable"),
    ("text", "unreadable"),
}


def test_everything_wrong_is_found(broken) -> None:
    seen = []
    (report,) = corpus_check.check([corpora.load("folder", broken)], lambda: seen.append(1))
    assert len(seen) == len(report.corpus.clips) == 13
    assert {(finding.clip.path.stem, finding.what) for finding in report.defects} == FOUND
    remarks = {(f.clip.path.stem, f.what) for f in report.findings if not f.defect}
    assert remarks == {("loud", "clipped"), ("slow", "sample rate")}
    details = {finding.clip.path.stem: finding.detail for finding in report.findings}
    assert details["silence"] == "digital silence"
    assert details["hush"] == "peak -90 dB"
    assert details["copy"] == "same audio as good (happy)"
    assert details["slow"] == "8000 Hz, others have 16000 Hz"
    assert "NaN at 0.000 s" in details["nan"]


def test_duplicates_are_found_across_corpora(tmp_path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "happy").mkdir(parents=True)
        write_wav(tmp_path / name / "happy" / f"{name}.wav", voice(0.5))
    reports = corpus_check.check([corpora.load("folder", tmp_path / name) for name in ("a", "b")])
    assert [report.defects[0].detail for report in reports] == ["same audio as b (happy)", "same audio as a (happy)"]


def test_a_good_corpus_is_0(tiny_crema_d, call):
    code, out, err = call("data", "check", f"crema-d={tiny_crema_d}")
    assert (code, err) == (0, "")
    for text in (
        "60, 5 speakers",
        "train (36), validation (24)",
        "text     60 clips",
        "16000 Hz (60)",
        "no new defects",
    ):
        assert text in out
    assert max(map(len, out.splitlines())) <= 100


def test_defects_are_1(broken, call):
    code, out, err = call("data", "check", f"folder={broken}")
    assert (code, err) == (1, "")
    assert "10 new defects, 2 remarks" in out
    assert "duplicate, other label: 2" in out
    assert str(broken / "sad" / "nan.wav") in out


def test_json(broken, tiny_crema_d, tmp_path, call):
    shutil.copytree(tiny_crema_d, tmp_path / "c")
    write_wav(tmp_path / "c" / "AudioWAV" / "1076_MTI_SAD_XX.wav", np.zeros(16_000, np.float32))
    code, out, err = call("data", "check", "--json", f"crema-d={tmp_path / 'c'}", f"folder={broken}")
    assert (code, err) == (1, "")
    good, bad = json.loads(out)
    assert (good["clips"], good["speakers"], good["seconds"], good["defects"]) == (60, 5, 72.0, [])
    assert good["labels"]["anger"] == {"clips": 10, "seconds": 12.0}
    assert good["parts"] == {"train": 36, "validation": 24}
    assert good["known_defects"] == [{"file": "1076_MTI_SAD_XX", "reason": "digital silence"}]
    assert len(bad["defects"]) == 10
    assert bad["sample_rates_hz"] == {"16000": 11, "8000": 1}
    assert {"file", "label", "what", "detail"} == bad["remarks"][0].keys()


def test_many_findings_are_counted(tmp_path, call):
    (tmp_path / "happy").mkdir()
    for number in range(25):
        write_wav(tmp_path / "happy" / f"{number}.wav", np.zeros(8_000, np.float32))
    code, out, _ = call("data", "check", f"folder={tmp_path}")
    assert code == 1
    assert out.count("digital silence") == 20
    assert "and 5 more" in out


@pytest.mark.parametrize("arguments", [[], ["crema-d"], ["dreams=x"], ["crema-d=missing"], ["csv=missing.csv"]])
def test_mistakes_are_2(arguments, call):
    code, out, err = call("data", "check", *arguments)
    assert (code, out) == (2, "")
    one_line(err)


def test_a_mistake_is_named_as_it_was_typed(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "error: 'dreams=x': unknown corpus 'dreams'; known: an4, " in call("data", "check", "dreams=x")[2]
    assert "error: 'crema-d': expected CORPUS=PATH, such as" in call("data", "check", "crema-d")[2]


def test_two_folders_are_told_apart(call, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "happy").mkdir(parents=True)
        write_wav(tmp_path / name / "happy" / "x.wav", voice(0.5, ord(name)))
    out = call("data", "check", f"folder={tmp_path / 'a'}", f"folder={tmp_path / 'b'}")[1]
    assert {"folder", "folder-2"} <= set(out.split())


def test_data_alone_says_what_there_is(call):
    code, out, err = call("data")
    assert (code, err) == (0, "")
    assert "check" in out


def test_an4s_own_format_is_decoded(tmp_path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "an4_train.fileids").write_text("an4_clstk/fash/an251-fash-b\n")
    (tmp_path / "etc" / "an4_train.transcription").write_text("<s> YES </s> (an251-fash-b)\n")
    sphere = tmp_path / "wav" / "an4_clstk" / "fash" / "an251-fash-b.sph"
    sphere.parent.mkdir(parents=True)
    soundfile.write(sphere, voice(1.0), 16_000, format="NIST", subtype="PCM_16")
    (report,) = corpus_check.check([corpora.load("an4", tmp_path)])
    assert (report.seconds(), report.findings) == (1.0, ())
