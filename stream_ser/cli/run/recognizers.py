"""Recognisers for the commands: a model loaded once, its settings as asked for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import click

from stream_ser.cli.run.decisions import Decisions
from stream_ser.cli.run.voice import Memory

if TYPE_CHECKING:
    from stream_ser.config import VadConfig
    from stream_ser.recognition.recognizer import Recognizer
    from stream_ser.runtime.engine import Provider
    from stream_ser.transcription.rescoring import LanguageModel


def vad_config(vad: bool | None, *, quiet: bool = False) -> VadConfig | None:
    """What ``--vad/--no-vad`` asks for; where nothing was asked and the package lacks, none, and that is said."""
    from stream_ser.config import DEFAULT_VAD
    from stream_ser.vad.silero import PACKAGE, available

    if vad is None and not available():
        _remark(f"no voice activity detection: {PACKAGE} is not installed", quiet)
        return None
    return None if vad is False else DEFAULT_VAD


def recognizer_for(
    model: str | None,
    provider: Provider,
    vad: bool | None = None,
    *,
    decider: Decisions | None = None,
    language_model: LanguageModel | None = None,
    memory: Memory | None = None,
    quiet: bool = False,
) -> Recognizer:
    """Load a model and put a recogniser on it; see :func:`recognizers_for`."""
    return recognizers_for(
        1, model, provider, vad, decider=decider, language_model=language_model, memory=memory, quiet=quiet
    )[0]


def recognizers_for(
    count: int,
    model: str | None,
    provider: Provider,
    vad: bool | None = None,
    *,
    decider: Decisions | None = None,
    language_model: LanguageModel | None = None,
    memory: Memory | None = None,
    quiet: bool = False,
) -> list[Recognizer]:
    """Load a model once and put recognisers on it, which take turns.

    Args:
        count: of the streams.
        model: name or file; None for the default one.
        provider: where the network runs.
        vad: of :data:`vad_option`.
        decider: settings that were asked for.
        language_model: what finished lines are spelt with.
        memory: whether they get to know the voice, and with which they begin.
        quiet: remarks go to the log alone.

    Raises:
        DataError: the model can spell none of the language model's words.
        ModelError: no such model, or one that cannot be read; no voice activity detection, though it was asked for; a
            language model for one that transcribes nothing.
        ProviderError: the session did not get the provider that was asked for.
        VoiceError: no such voice, or one of another model.
    """
    from stream_ser.recognition.recognizer import Recognizer
    from stream_ser.runtime.engine import DEFAULT_MODEL, load

    engine = load(model or DEFAULT_MODEL, provider)
    logging.getLogger("stream_ser.cli._run").info("model %s on %s", engine.path, engine.provider)
    if engine.note:
        _remark(engine.note, quiet)
    heard = vad_config(vad, quiet=quiet)
    config = engine.card.decider if decider is None else decider.config(engine.card.decider)
    memory = memory or Memory()
    if text := memory.remark(engine.card):
        _remark(text, quiet)
    adapt, voice = memory.adapt is not False, memory.profile()
    return [
        Recognizer(engine, config, vad=heard, language_model=language_model, adapt=adapt, voice=voice)
        for _ in range(count)
    ]


def _remark(text: str, quiet: bool) -> None:
    logging.getLogger("stream_ser.said").info("%s", text)
    if not quiet:
        click.echo(f"stream-ser: {text}", err=True)
