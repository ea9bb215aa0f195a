"""What ``stream-ser file`` reads: files behind folders and patterns, raw samples, single channels."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream_ser.errors import AudioError

if TYPE_CHECKING:
    from stream_ser.audio.wav import RawFormat

#: What libsndfile reads; the formats in which corpora come (stream_ser.train.data.corpora) are a list of their own.
AUDIO_SUFFIXES = (
    *(".wav", ".wave", ".w64", ".rf64", ".caf", ".aiff", ".aif", ".aifc", ".au", ".snd"),
    *(".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2"),
)
STDIN = "-"
EACH = "each"
_PATTERN = re.compile(r"[*?[]")


@dataclass(frozen=True, slots=True)
class Input:
    """One stream to recognise.

    Attributes:
        path: file, or ``-``.
        name: what results call it: the path, with ``#2`` behind it for its second channel alone.
        channel: from 0; None for the mean of all.
        source: of those that a separator makes of it, from 0; None where nothing separates, or it makes one.
    """

    path: str
    name: str
    channel: int | None = None
    source: int | None = None


def expand(paths: Sequence[str], on_error: Callable[[OSError], object] = lambda error: None) -> list[str]:
    """Files behind paths: folders give their audio files, subfolders included, sorted; nothing comes twice.

    A pattern (``calls/**/*.wav``) that is no file gives what it matches: folders as above, and files of which either
    the pattern or the list of audio formats names the suffix.

    Args:
        paths: files, folders, patterns and ``-``.
        on_error: told of each folder that cannot be read.

    Raises:
        AudioError: a folder holds no audio file, or nothing matches a pattern.
        OSError: the same, and some of it cannot be read.
    """
    names: dict[str, None] = {}
    for path in paths:
        if path == STDIN:
            names[path] = None
        elif os.path.isdir(path):
            names.update(dict.fromkeys(_in_folder(path, on_error)))
        elif _PATTERN.search(path) and not os.path.lexists(path):
            names.update(dict.fromkeys(_matching(path, on_error)))
        else:
            names[path] = None
    return list(names)


def _in_folder(path: str, on_error: Callable[[OSError], object]) -> list[str]:
    failed: list[OSError] = []
    found = [
        os.path.join(folder, name)
        for folder, _, files in os.walk(path, onerror=failed.append)
        for name in files
        if Path(name).suffix.lower() in AUDIO_SUFFIXES and not name.startswith(".")
    ]
    if failed and not found:
        raise failed[0]
    for error in failed:
        on_error(error)
    if not found:
        raise AudioError(f"{path}: no audio files in this folder (looked for .wav, .flac, .ogg, .mp3 and others)")
    return sorted(found)


def _matching(pattern: str, on_error: Callable[[OSError], object]) -> list[str]:
    suffix = Path(pattern).suffix
    named = bool(suffix) and not _PATTERN.search(suffix)
    found: list[str] = []
    # "**" also matches the folders on the way, whose files it matches too; other patterns name a folder as a whole.
    deep = Path(pattern).name == "**"
    for path in sorted(glob.glob(pattern, recursive=True)):
        if os.path.isdir(path):
            if not deep:
                with contextlib.suppress(AudioError):
                    found += _in_folder(path, on_error)
        elif named or Path(path).suffix.lower() in AUDIO_SUFFIXES:
            found.append(path)
    if not found:
        raise AudioError(
            f"{pattern}: no audio file matches this pattern; check it, for it is relative to {os.getcwd()}"
        )
    return found


def streams(
    names: Sequence[str],
    channel: int | str | None,
    raw: RawFormat | None,
    stack: contextlib.ExitStack,
    sources: int = 1,
) -> list[Input]:
    """The streams in some files.

    Args:
        names: of files, or ``-``.
        channel: from 0, None for the mean, or :data:`EACH`.
        raw: as for ``AudioFile``.
        stack: keeps a copy of standard input, where it has to be read more than once.
        sources: that a separator makes of each stream.

    Raises:
        AudioError: standard input is a terminal.
    """
    found: list[Input] = []
    for name in names:
        again = name == STDIN and (channel == EACH or sources > 1)
        path = stack.enter_context(_kept_stdin()) if again else name
        if isinstance(channel, str):
            heard = [Input(path, f"{name}#{index + 1}", index) for index in range(_channels_of(path, raw))]
        else:
            heard = [Input(path, name, channel)]
        if sources == 1:
            found += heard
        else:
            found += [replace(one, name=f"{one.name}#{n + 1}", source=n) for one in heard for n in range(sources)]
    return found


def _channels_of(path: str, raw: RawFormat | None) -> int:
    """How many channels a file has; 1 where that cannot be told: whoever reads it will say why."""
    if raw is not None:
        return raw.channels
    from stream_ser.audio.decode import AudioFile

    try:
        with AudioFile(path) as audio:
            return audio.channels
    except (AudioError, OSError):
        return 1


@contextlib.contextmanager
def _kept_stdin() -> Iterator[str]:
    """Standard input in a temporary file, for what has to be read more than once.

    Raises:
        AudioError: standard input is a terminal, or the disk is full.
    """
    if sys.stdin is None or sys.stdin.isatty():
        raise AudioError("standard input is a terminal, expected audio piped into it: ... | stream-ser file -")
    with tempfile.TemporaryDirectory(prefix="stream-ser-") as folder:
        path = Path(folder, "stdin")
        try:
            with path.open("wb") as copy:
                shutil.copyfileobj(sys.stdin.buffer, copy)
        except OSError as error:
            raise AudioError(
                f"standard input cannot be kept in {folder} to be read more than once: {error.strerror}; give a file"
            ) from error
        yield str(path)


def _raw_format(ctx: click.Context, param: click.Parameter, value: str | None) -> RawFormat | None:
    """``s16le,48000,2`` as a format; the rate and the channels may be left out."""
    if value is None:
        return None
    from stream_ser.audio.wav import RawFormat

    encoding, *numbers = (part.strip() for part in value.split(","))
    try:
        rate, channels = [*map(int, numbers), *(16_000, 1)[len(numbers) :]]
    except ValueError:
        raise click.BadParameter(f"{value!r}, expected ENCODING[,RATE[,CHANNELS]] as in s16le,48000,2") from None
    try:
        return RawFormat(rate, channels, encoding)
    except AudioError as error:
        raise click.BadParameter(str(error)) from None


def _channel(ctx: click.Context, param: click.Parameter, value: str) -> int | str | None:
    """``mix`` as None, ``each`` as itself, a number from 1 as one from 0."""
    if value in ("mix", EACH):
        return None if value == "mix" else EACH
    if not (value.isascii() and value.isdigit() and int(value) >= 1):
        raise click.BadParameter(f"{value!r}, expected mix, each or a number from 1")
    return int(value) - 1


raw_option = click.option(
    "--raw",
    metavar="ENCODING,RATE,CHANNELS",
    callback=_raw_format,
    help="The input has no header: s16le,48000,2 (u8 s16le s24le s32le f32le f64le mulaw alaw).",
)
channel_option = click.option(
    "--channel",
    metavar="N|mix|each",
    default="mix",
    show_default=True,
    callback=_channel,
    help="One channel, from 1; the mean of all; or each as a stream of its own, named FILE#1, FILE#2.",
)
