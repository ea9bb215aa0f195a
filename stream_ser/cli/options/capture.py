"""What ``listen`` hears and what it keeps of it: a microphone or a recorded session, a WAV and a session."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from stream_ser.cli.options.recognition import apply
from stream_ser.cli.run.files import Claims
from stream_ser.cli.run.outputs import Report
from stream_ser.errors import DeviceError, OutputError
from stream_ser.events import Block
from stream_ser.text import printable

if TYPE_CHECKING:
    from stream_ser.sources.base import Source
    from stream_ser.sources.microphone import Microphone, OnLost, Overload
    from stream_ser.sources.reconnect import Channels
    from stream_ser.sources.session import Replay

#: Half a lifetime.
MAX_DURATION_S = 1e9


class Recorder(Protocol):
    """What keeps blocks."""

    def write(self, block: Block) -> None:
        """The next block, as it was captured."""

    def close(self) -> None:
        """No more blocks follow."""


def _check_duration(ctx: click.Context, param: click.Parameter, duration: float | None) -> float | None:
    """Written so that NaN is out of range too."""
    if duration is not None and not 0 < duration <= MAX_DURATION_S:
        raise click.BadParameter(f"{duration:g} is not more than 0 and at most {MAX_DURATION_S:g} seconds")
    return duration


def _channels(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Channels:
    """``mix`` or nothing as None, ``each`` as itself, a number from 1 as one from 0, several as a tuple."""
    if len(values) < 2 and values in ((), ("mix",), ("each",)):
        return "each" if values == ("each",) else None
    numbers = []
    for value in values:
        if not (value.isascii() and value.isdigit() and int(value) >= 1):
            alone = f"{value} stands alone" if value in ("mix", "each") else f"{value!r}"
            raise click.BadParameter(f"{alone}, expected mix, each, or numbers from 1")
        numbers.append(int(value) - 1)
    if len(set(numbers)) < len(numbers):
        raise click.BadParameter("one channel is given twice; name each once")
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


_FILE = click.Path(path_type=Path, dir_okay=False)
_OPTIONS = (
    click.option(
        "--device",
        "-d",
        multiple=True,
        metavar="NAME|NUMBER",
        help="Audio input (see 'stream-ser devices'); several times: several, each a stream of its own.",
    ),
    click.option(
        "--channel",
        multiple=True,
        metavar="N|mix|each",
        callback=_channels,
        help="One channel, from 1; the mean of all; each, or some by giving this several times, as streams of their "
        "own, named DEVICE#1, DEVICE#2.  [default: mix]",
    ),
    click.option("--duration", type=float, callback=_check_duration, metavar="SECONDS", help="Stop after this."),
    click.option(
        "--overload",
        type=click.Choice(["drop-oldest", "skip-hop", "block"]),
        help="When the machine is too slow: lose the oldest audio, after 10 s; hear all of it, but leave out "
        "predictions; or let it all wait, in memory.  [default: drop-oldest]",
    ),
    click.option(
        "--on-lost",
        type=click.Choice(["retry", "exit"]),
        help="When the device is gone: look for it until it is back, or end with an error.  [default: retry]",
    ),
    click.option(
        "--record",
        type=_FILE,
        metavar="WAV",
        help="Keep what was captured; 'stream-ser file' on it gives the same results. Of several devices a WAV each, "
        "NAME-1.wav, NAME-2.wav, in their order.",
    ),
    click.option(
        "--record-session",
        type=_FILE,
        metavar="JSONL",
        help="Keep also how it came: blocks, timing, losses, notices. The audio goes to a WAV beside it.",
    ),
    click.option("--force/--no-force", default=False, help="Let --record and --record-session overwrite files."),
    click.option("--replay", type=_FILE, metavar="JSONL", help="Run a recorded session again instead of listening."),
    click.option("--realtime/--no-realtime", default=False, help="With --replay: at the pace of the session."),
)


@dataclass(frozen=True, slots=True)
class Capture:
    """The options above; None where nothing was asked for."""

    device: tuple[str, ...]
    channel: Channels
    duration: float | None
    overload: Overload | None
    on_lost: OnLost | None
    record: Path | None
    record_session: Path | None
    force: bool
    replay: Path | None
    realtime: bool

    def claim(self, claims: Claims) -> None:
        """See that the files can be written, before anything is opened.

        Raises:
            OutputError: a file exists and shall not be overwritten, or is used twice.
            click.UsageError: options that exclude each other.
        """
        if self.realtime and self.replay is None:
            raise click.UsageError("--realtime is for --replay: a microphone has its own pace")
        if self.replay is not None:
            for field in fields(self):
                if field.name not in ("replay", "realtime", "force") and getattr(self, field.name) not in (None, ()):
                    option = field.name.replace("_", "-")
                    raise click.UsageError(f"--{option} has no use with --replay, which runs what was recorded")
        if self.record_session is not None and len(self.device) > 1:
            raise click.UsageError(
                f"--record-session keeps one device, and there are {len(self.device)}; use --record, which writes a "
                "WAV for each"
            )
        for path in self.kept:
            if path.exists() and not self.force:
                raise OutputError(f"{path} exists already; choose another name or use --force")
            claims.write(path, "--record-session" if path == self.record_session else "--record")

    @property
    def wavs(self) -> list[Path]:
        """Where the audio goes, by device: a session is not complete without it."""
        path = self.record
        if path is None and self.record_session is not None:
            path = self.record_session.with_suffix(".wav")
        if path is None:
            return []
        if len(self.device) < 2:
            return [path]
        return [path.with_name(f"{path.stem}-{number}{path.suffix}") for number, _ in enumerate(self.device, 1)]

    @property
    def kept(self) -> list[Path]:
        """All files that the capture is kept in."""
        return self.wavs + ([] if self.record_session is None else [self.record_session])

    def open(self) -> Sequence[Microphone] | Sequence[Replay]:
        """What is heard.

        Raises:
            DeviceError: no such device, or one that is given twice.
            AudioError: no such session.
        """
        if self.replay is not None:
            from stream_ser.sources.session import Replay

            return [Replay(self.replay, self.realtime)]
        from stream_ser.sources.microphone import Microphone

        found = [
            Microphone(
                device,
                channel=self.channel,
                duration_s=self.duration,
                overload=self.overload or "drop-oldest",
                on_lost=self.on_lost or "retry",
            )
            for device in self.device or (None,)
        ]
        for (first, one), (second, other) in itertools.combinations(zip(self.device, found, strict=False), 2):
            if one.device.index == other.device.index:
                raise DeviceError(
                    f"--device {first} and --device {second} are both {one.name}; name two devices, or use --channel "
                    "for the channels of one"
                )
        return found

    def recorders(self, sources: Sequence[Source], stack: ExitStack, about: dict[str, Any]) -> list[list[Recorder]]:
        """What keeps sources that deliver already: one that does not start leaves no empty file, nor replaces one.

        Raises:
            OutputError: a file cannot be written.
        """
        from stream_ser.sources.recorder import WavRecorder
        from stream_ser.sources.session import SessionRecorder

        found: list[list[Recorder]] = [[] for _ in sources]
        for source, path, kept in zip(sources, self.wavs, found, strict=False):
            channels = len(source.parts)
            kept.append(stack.enter_context(WavRecorder(path, source.sample_rate, self.force, channels)))
            if self.record_session is not None:
                session = SessionRecorder(self.record_session, source, path, about, self.force)
                kept.append(stack.enter_context(session))
        return found


def capture_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options behind :class:`Capture`, as its argument ``capture``."""

    @functools.wraps(function)
    def command(*args: Any, **options: Any) -> Any:
        capture = Capture(**{field.name: options.pop(field.name) for field in fields(Capture)})
        return function(*args, capture=capture, **options)

    return apply(_OPTIONS)(command)


def about(model: str | None, vad: bool | None) -> dict[str, Any]:
    """What a session tells of the recognition, so that it can be run again."""
    from stream_ser.runtime.engine import DEFAULT_MODEL
    from stream_ser.vad.silero import available

    return {"model": model or DEFAULT_MODEL, "vad": available() if vad is None else vad}


def as_recorded(source: Source, model: str | None, vad: bool | None) -> tuple[str | None, bool | None]:
    """The model and ``--vad`` of the session that is replayed, where the command line says nothing.

    Raises:
        ModelError: it was recorded with a model file. A session may come from anybody and opens no files by itself.
    """
    from stream_ser.sources.session import Replay

    recorded = source.about if isinstance(source, Replay) else {}
    name, spoken = recorded.get("model"), recorded.get("vad")
    if model is None and isinstance(name, str):
        from stream_ser.errors import ModelError
        from stream_ser.runtime.engine import bundled

        if name not in [path.stem for path in bundled()]:
            raise ModelError(f"the session was recorded with the model {printable(name)!r}; give that file as --model")
        model = name
    return model, spoken if vad is None and isinstance(spoken, bool) else vad


class RecordingSource:
    """A source that passes on what another gives, and has it recorded.

    A recorder that fails is left out: that is told by a notice and to ``report``, and what comes is still heard.

    Args:
        source: a microphone or a session.
        report: takes the line that says what failed.

    Attributes:
        name: the source's.
        parts: the source's.
        sample_rate: the source's, Hz.
        recorders: get every block as it was captured; to be filled before the first one.
        failed: whether one of them did.
        change: applied to each block before it is recorded and passed on.
    """

    def __init__(self, source: Source, report: Report = lambda message: None) -> None:

        self.name = source.name
        self.parts = source.parts
        self.sample_rate = source.sample_rate
        self.recorders: list[Recorder] = []
        self.failed = False
        self.change: Callable[[Block], Block] = lambda block: block
        self._source = source
        self._report = report

    @property
    def overflows(self) -> int:
        """How often the device reported that audio was lost."""
        return self._source.overflows

    @property
    def warning(self) -> str | None:
        """What was wrong with the source."""
        return self._source.warning

    def close(self) -> None:
        """Make the iteration end, once what was captured is through; any thread may call this."""
        self._source.close()

    def __iter__(self) -> Iterator[Block]:
        """Blocks of the source."""
        for captured in self._source:
            block = self.change(captured)
            for recorder in tuple(self.recorders):
                try:
                    recorder.write(block)
                except OutputError as error:
                    self.recorders.remove(recorder)
                    with suppress(OutputError):
                        recorder.close()
                    self.failed = True
                    self._report(str(error))
                    block = replace(block, notices=(*block.notices, ("recording", str(error))))
            yield block
