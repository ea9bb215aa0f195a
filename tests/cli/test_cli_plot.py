"""``stream-ser plot``: where its words go, and what it never draws over."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import Terminal, call, one_line  # noqa: F401 - fixtures
from generate import voice, write_wav

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    drawn: dict[str, Any] = {"draw": lambda signals: None, "save": lambda figure, path: path.write_bytes(b"drawn")}
    for name, fake in drawn.items():
        monkeypatch.setattr(f"stream_ser.train.tasks.separation.spectrograms.{name}", fake)


@pytest.fixture
def sounds(tmp_path: Path) -> list[Path]:
    return [write_wav(tmp_path / f"{name}.wav", voice(0.5)) for name in "ab"]


def test_names_and_a_progress_bar_never_share_a_terminal(
    sounds: list[Path], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is printed while a bar is drawn tears it."""
    monkeypatch.setenv("TERM", "xterm-256color")
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stderr", err)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", out)
        assert call("plot", *sounds)[0] == 0
    assert out.getvalue() == "".join(f"{path.with_suffix('.png')}\n" for path in sounds)
    assert err.getvalue() == ""
    assert call("plot", *sounds, "--force")[:2] == (0, out.getvalue())
    assert "2/2" in err.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows forbids such names")
def test_no_name_drives_the_terminal_and_a_pipe_gets_it_as_it_is(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = write_wav(tmp_path / "a\x1b[2J.wav", voice(2)), tmp_path / "b\x1b[2J.wav"
    bad.write_bytes(b"no audio")
    code, out, err = call("plot", good, bad, "--duration", 1)
    assert (code, out) == (1, f"{good.with_suffix('.png')}\n")
    assert "\x1b" not in err
    assert err.count("\\x1b[2J") == 2
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    assert call("plot", good, "--force")[0] == 0
    assert "a\\x1b[2J.png" in screen.getvalue()


@pytest.mark.parametrize("link", [None, os.symlink])
def test_a_sound_is_never_drawn_over(link: Callable[..., None] | None, sounds: list[Path], call: Call) -> None:
    """Not even with --force: a sound may be called .png."""
    sound = sounds[0].rename(sounds[0].with_name("x.png"))
    before, target = sound.read_bytes(), sound
    if link is not None:
        target = sound.with_name("link.png")
        link(sound, target)
    assert "one of the inputs" in one_line(call("plot", sound, "--joint", target, "--force")[2])
    if link is None:
        assert "one of the inputs" in one_line(call("plot", sound, "--force")[2])
    assert sound.read_bytes() == before
