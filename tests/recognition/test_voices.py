"""Voice profiles as files: where they lie, who may read them, and what is refused."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from stream_ser.errors import OutputError, VoiceError
from stream_ser.recognition import voice_profile
from stream_ser.recognition.voice_profile import VoiceProfile

pytestmark = pytest.mark.usefixtures("home")
PROFILE = VoiceProfile("listener", "ab12", 12.345, (3.0, -0.5, 1e-7))


def test_a_profile_comes_back_and_only_its_user_reads_it() -> None:
    path = voice_profile.save(PROFILE, "Anna Maria")
    assert path == voice_profile.folder() / "Anna Maria.json"
    assert voice_profile.read("Anna Maria") == voice_profile.read(str(path)) == PROFILE
    assert voice_profile.names() == ["Anna Maria"]
    assert list(path.parent.iterdir()) == [path]
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_profile_holds_numbers_and_a_model_and_nothing_else() -> None:
    content = json.loads(PROFILE.to_json())
    assert sorted(content) == ["fingerprint", "model", "schema", "seconds", "type", "values"]
    assert content["values"] == [3.0, -0.5, 1e-7]


@pytest.mark.skipif(sys.platform != "linux", reason="the folder of Linux")
def test_the_folder_is_the_users_data_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert voice_profile.folder() == home / "data" / "stream-ser" / "voices"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert voice_profile.folder() == home / ".local" / "share" / "stream-ser" / "voices"


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("win32", ("data", "stream-ser", "voices")),
        ("darwin", ("Library", "Application Support", "stream-ser", "voices")),
    ],
)
def test_other_systems_have_folders_of_their_own(
    platform: str, expected: tuple[str, ...], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voice_profile.sys, "platform", platform)
    assert voice_profile.folder() == home.joinpath(*expected)


def test_one_of_the_same_name_is_kept_unless_forced() -> None:
    path = voice_profile.save(PROFILE, "me")
    with pytest.raises(OutputError, match="exists already; choose another name or --force"):
        voice_profile.save(PROFILE, "me")
    newer = VoiceProfile("listener", "ab12", 1.0, (1.0, 2.0))
    assert voice_profile.save(newer, "me", force=True) == path
    assert voice_profile.read("me") == newer


def test_deleted_it_is_gone() -> None:
    path = voice_profile.save(PROFILE, "me")
    voice_profile.save(PROFILE, "you")
    assert voice_profile.delete("me") == path
    assert not path.exists()
    with pytest.raises(VoiceError, match=r"me: no such voice profile \(stored: you\)"):
        voice_profile.delete("me")


@pytest.mark.parametrize(
    "name", ["", "../me", "a/b", ".hidden", "-x", "me.", "con", "LPT1.txt", "a\nb", "x" * 64, "a\\b"]
)
def test_what_is_no_file_name_everywhere_is_no_name(name: str) -> None:
    with pytest.raises(VoiceError, match="no name of a voice"):
        voice_profile.path_of(name)


def test_a_missing_one_says_which_there_are() -> None:
    with pytest.raises(VoiceError, match=r"me: no such voice profile \(stored: none\); make one with"):
        voice_profile.read("me")
    with pytest.raises(VoiceError, match="no such voice profile"):
        voice_profile.read("some/where.json")


def changed(**values: object) -> str:
    return json.dumps(json.loads(PROFILE.to_json()) | values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a voice profile, expected a file of 'stream-ser enroll'"),
        ("[1]", "not a voice profile"),
        ("[" * 100_000, "not a voice profile"),
        ('{"type": "session"}', "not a voice profile"),
        (changed(schema=2), "schema 2, expected 1; update"),
        (changed(schema=True), "schema True, expected 1"),
        (changed(values=[1.0]), "damaged"),
        (changed(values=["1", "2"]), "damaged"),
        (changed(values=[1.0, float("nan")]), "damaged"),
        (changed(values=[1.0, 10**400]), "damaged"),
        (changed(values=[-1.0, 1.0]), "damaged"),
        (changed(values=None), "damaged"),
        (changed(seconds=-1.0), "damaged"),
        (changed(seconds=True), "damaged"),
        (changed(model=1), "damaged"),
        (PROFILE.to_json()[:-10], "not a voice profile"),
    ],
)
def test_a_damaged_file_is_refused_by_its_name(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "voice.json"
    path.write_text(text)
    with pytest.raises(VoiceError, match=message) as caught:
        voice_profile.read(path)
    assert str(path) in str(caught.value)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "voice.json"
    with path.open("wb") as stream:
        stream.truncate(5 * 1024**2)
    with pytest.raises(VoiceError, match="more than 4 MiB"):
        voice_profile.read(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_said(home: Path) -> None:
    (home / "data").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="cannot be written"):
        voice_profile.save(PROFILE, "me")


def test_a_file_where_the_folder_should_be_is_said(home: Path) -> None:
    (home / "data").write_text("")
    if sys.platform == "linux":
        with pytest.raises(OutputError, match="cannot be written"):
            voice_profile.save(PROFILE, "me")
