"""What ``listen`` hears and what it keeps of it: a microphone or a recorded session, a WAV and a session."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

from stream_ser.cli._files import Claims
from stream_ser.cli._options import apply
from stream_ser.cli._outputs import Report
from stream_ser.errors import OutputError
from stream_ser.events import Block
from stream_ser.text import printable

if TYPE_CHECKING:
    from stream_ser.microphone import Microphone, OnLost, Overload
    from stream_ser.session import Replay
    from stream_ser.sources import Source

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


_FILE = click.Path(path_type=Path, dir_okay=False)
_OPTIONS = (
    click.option("--device", "-d", metavar="NAME|NUMBER", help="Audio input (see 'stream-ser devices')."),
    click.option("--channel", type=click.IntRange(1), metavar="N", help="Hear this channel alone, from 1."),
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
        help="Keep what was captured; 'stream-ser file' on it gives the same results.",
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

    device: str | None
    channel: int | None
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
                if field.name not in ("replay", "realtime", "force") and getattr(self, field.name) is not None:
                    option = field.name.replace("_", "-")
                    raise click.UsageError(f"--{option} has no use with --replay, which runs what was recorded")
        for path, option in ((self.wav, "--record"), (self.record_session, "--record-session")):
            if path is not None:
                if path.exists() and not self.force:
                    raise OutputError(f"{path} exists already; choose another name or use --force")
                claims.write(path, option)

    @property
    def wav(self) -> Path | None:
        """Where the audio goes: a session is not complete without it."""
        if self.record is None and self.record_session is not None:
            return self.record_session.with_suffix(".wav")
        return self.record

    def open(self) -> Microphone | Replay:
        """What is heard.

        Raises:
            DeviceError: no such device.
            AudioError: no such session.
        """
        if self.replay is not None:
            from stream_ser.session import Replay

            return Replay(self.replay, self.realtime)
        from stream_ser.microphone import Microphone

        return Microphone(
            self.device,
            channel=None if self.channel is None else self.channel - 1,
            duration_s=self.duration,
            overload=self.overload or "drop-oldest",
            on_lost=self.on_lost or "retry",
        )

    def recorders(self, source: Source, stack: ExitStack, about: dict[str, Any]) -> list[Recorder]:
        """What keeps a source that delivers already: one that does not start leaves no empty file, nor replaces one.

        Raises:
            OutputError: a file cannot be written.
        """
        from stream_ser.session import SessionRecorder
        from stream_ser.sources import WavRecorder

        found: list[Recorder] = []
        if self.wav is not None:
            found.append(stack.enter_context(WavRecorder(self.wav, source.sample_rate, force=self.force)))
            if self.record_session is not None:
                session = SessionRecorder(self.record_session, source, self.wav, about, self.force)
                found.append(stack.enter_context(session))
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
    from stream_ser.engine import DEFAULT_MODEL
    from stream_ser.vad import available

    return {"model": model or DEFAULT_MODEL, "vad": available() if vad is None else vad}


def as_recorded(source: Source, model: str | None, vad: bool | None) -> tuple[str | None, bool | None]:
    """The model and ``--vad`` of the session that is replayed, where the command line says nothing.

    Raises:
        ModelError: it was recorded with a model file. A session may come from anybody and opens no files by itself.
    """
    recorded: dict[str, Any] = getattr(source, "about", {})
    name, spoken = recorded.get("model"), recorded.get("vad")
    if model is None and isinstance(name, str):
        from stream_ser.engine import bundled
        from stream_ser.errors import ModelError

        if name not in [path.stem for path in bundled()]:
            raise ModelError(f"the session was recorded with the model {printable(name)!r}; give that file as --model")
        model = name
    return model, spoken if vad is None and isinstance(spoken, bool) else vad


class Tapped:
    """A source that passes on what another gives, has it recorded, and ends early when asked to.

    A recorder that fails is left out: that is told by a notice and to ``report``, and what comes is still heard.

    Args:
        source: opened.
        recorders: get every block as it was captured.
        should_stop: asked after every block.
        report: takes the line that says what failed.
    """

    def __init__(
        self,
        source: Source,
        recorders: Sequence[Recorder] = (),
        should_stop: Callable[[], bool] = lambda: False,
        report: Report = lambda message: None,
    ) -> None:
        self.name = source.name
        self.sample_rate = source.sample_rate
        self.failed = False
        self._source = source
        self._recorders = list(recorders)
        self._should_stop = should_stop
        self._report = report

    def __iter__(self) -> Iterator[Block]:
        """Blocks of the source, until it ends or is to end."""
        for block in self._source:
            for recorder in tuple(self._recorders):
                try:
                    recorder.write(block)
                except OutputError as error:
                    self._recorders.remove(recorder)
                    with suppress(OutputError):
                        recorder.close()
                    self.failed = True
                    self._report(str(error))
                    block = replace(block, notices=(*block.notices, ("recording", str(error))))
            yield block
            if self._should_stop():
                return
