"""The ``stream-ser`` command. Commands are imported when they are called, so that ``--help`` is instant."""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click
from click.core import ParameterSource

from stream_ser.cli.run.errors import abandon_stdout, os_error_message
from stream_ser.errors import StreamSerError
from stream_ser.text import printable
from stream_ser.version import __version__

#: name: (module, attribute, what ``--help`` says about it).
COMMANDS = {
    "listen": ("stream_ser.cli.commands.listen", "listen", "Hear the microphone and show the emotion, live."),
    "file": ("stream_ser.cli.commands.file", "file", "Recognise files, folders or standard input."),
    "separate": ("stream_ser.cli.commands.separate", "separate", "Take voices apart, or noise off a voice."),
    "transcribe": ("stream_ser.cli.commands.transcribe", "transcribe", "Write down what is said in recordings."),
    "align": ("stream_ser.cli.commands.align", "align", "Find when each word of a known text is said."),
    "enroll": ("stream_ser.cli.commands.enroll", "enroll", "Make a voice profile, list or delete them."),
    "demo": ("stream_ser.cli.commands.demo", "demo", "See the live view at work, without a microphone."),
    "devices": ("stream_ser.cli.commands.devices", "devices", "List the audio inputs."),
    "models": ("stream_ser.cli.commands.models", "models", "List the models and how well they do."),
    "doctor": ("stream_ser.cli.commands.doctor", "doctor", "Find what is wrong here, and how to mend it."),
    "schema": ("stream_ser.cli.commands.schema", "schema", "Print the JSON Schema of the JSON lines."),
    "train": ("stream_ser.cli.commands.train", "train", "Train a network."),
    "evaluate": ("stream_ser.cli.commands.evaluate", "evaluate", "Measure a model on a corpus."),
    "bench": ("stream_ser.cli.commands.bench", "bench", "Measure latency, memory and capacity on this machine."),
    "report": ("stream_ser.cli.commands.report", "report", "Put trained runs into one table."),
    "export": ("stream_ser.cli.commands.export", "export", "Write a trained network as ONNX."),
    "ctc-check": (
        "stream_ser.cli.commands.ctc_check",
        "ctc_check",
        "Prove the CTC loss against torch's and time both.",
    ),
    "data": ("stream_ser.cli.commands.data", "data", "Check corpora; make sinusoids and mixtures."),
    "plot": ("stream_ser.cli.commands.plot", "plot", "Draw waveforms and spectrograms."),
}
_TRAINING_PACKAGES = {"torch", "torchaudio", "einops", "jiwer", "onnx", "onnxscript", "matplotlib"}
_INTERRUPTED = 130
_STDERR = 2
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table, which is that of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; of one that is not there, say which was meant."""
        if args[0] not in COMMANDS and not ctx.resilient_parsing:
            import difflib

            for near in difflib.get_close_matches(args[0], COMMANDS, n=1):
                ctx.fail(f"No such command {args[0]!r}; did you mean {near}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, _, about) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "--version", prog_name="stream-ser")
@click.pass_context
def app(ctx: click.Context) -> None:
    """Label the emotion in speech in real time. Everything stays on this machine."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    A user's mistake ends in one line on standard error. Exit codes: 0 done; 1 some of the input could not be
    processed; 2 a mistake or an input that cannot be read at all; 130 interrupted.
    """
    _open_closed_streams()
    # A file name need not be valid UTF-8, nor a terminal able to show every letter: no reason to fail.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _invoke(args)
        sys.stdout.flush()
    except BrokenPipeError:
        abandon_stdout()
        code = 1
    except OSError as error:
        if error.filename is not None:
            code = _complain(os_error_message(error))
        elif error.errno in _DISK_ERRORS:
            abandon_stdout()
            code = _complain(f"cannot write the output: {error.strerror}")
        else:
            raise
    sys.exit(code)


def _invoke(args: Sequence[str] | None) -> int:
    try:
        result = app.main(args=args, prog_name="stream-ser", standalone_mode=False)
    except StreamSerError as error:
        return _complain(str(error), error.exit_code)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "stream-ser"
        said = " ".join(error.format_message().split()).rstrip(".")
        return _complain(f"{_origin(error)}{said}; see '{command} --help'")
    except click.ClickException as error:
        return _complain(error.format_message())
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _TRAINING_PACKAGES:
            raise
        return _complain(f"{package} is missing: this needs the training packages: pip install 'stream-ser[train]'")
    return result if isinstance(result, int) else 0


def _origin(error: click.UsageError) -> str:
    """The file that a wrong value was read from: who reads the message looks at the command line."""
    if not isinstance(error, click.BadParameter) or error.ctx is None or error.param is None:
        return ""
    source = error.ctx.get_parameter_source(str(error.param.name))
    return f"{error.ctx.params.get('config')}: " if source is ParameterSource.DEFAULT_MAP else ""


def _open_closed_streams() -> None:
    """Whoever starts a program may have closed its standard streams; no file that is opened later shall become one."""
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - stays open, as streams do


def _complain(message: str, exit_code: int = 2) -> int:
    click.echo(f"stream-ser: error: {printable(' '.join(message.splitlines()))}", err=True)
    return exit_code
