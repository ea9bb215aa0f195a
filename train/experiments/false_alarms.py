"""How much of the time an emotion is claimed where nobody is: ESC-50's non-human classes, through the very runtime.

``python -m stream_ser.train.experiments.false_alarms MODEL --data esc-50=PATH --fold 5``

Every clip is a stream of its own, heard with voice activity detection and without. The share is that of the timeline
which carries one of the model's labels; ``silence`` and ``uncertain`` claim nothing. The thresholds were chosen on
folds 1 to 4; fold 5 is the test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click

from stream_ser.audio.decode import read_blocks
from stream_ser.config import DEFAULT_VAD
from stream_ser.errors import DataError
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime.engine import DEFAULT_MODEL, Engine, load
from stream_ser.train.data import corpora
from stream_ser.train.data.corpora import Clip

from .command import Command, print_table, progress_bar
from .robustness import ESC50_HUMAN


@dataclass
class Claims:
    """Time on the timelines of some clips.

    Attributes:
        name: of the class, or what the clips have in common.
        clips: how many.
        seconds: length of their timelines.
        with_vad_s: of it, time that carries an emotion with voice activity detection ...
        without_vad_s: ... and without.
    """

    name: str
    clips: int = 0
    seconds: float = 0.0
    with_vad_s: float = 0.0
    without_vad_s: float = 0.0

    @property
    def with_vad(self) -> float:
        """Share of the time that carries an emotion."""
        return self.with_vad_s / self.seconds

    @property
    def without_vad(self) -> float:
        """Share of the time that carries an emotion where nothing tells speech from other sounds."""
        return self.without_vad_s / self.seconds


def measure(engine: Engine, clips: Sequence[Clip], advance: Callable[[], object] = lambda: None) -> list[Claims]:
    """Time claimed, by class, worst first.

    Raises:
        AudioError: a clip that cannot be decoded.
        ModelError: there is no voice activity detection.
    """
    rate = engine.card.features.sample_rate
    detecting, credulous = Recognizer(engine, vad=DEFAULT_VAD), Recognizer(engine, vad=None)
    classes: dict[str, Claims] = {}
    for clip in clips:
        claims = classes.setdefault(clip.label, Claims(clip.label))
        for recognizer in (detecting, credulous):
            recognizer.reset()
        for block in read_blocks(clip.path, rate):
            detecting.push(block)
            credulous.push(block)
        for recognizer in (detecting, credulous):
            recognizer.flush()
        claims.clips += 1
        claims.seconds += sum(detecting.summary().seconds.values())
        claims.with_vad_s += claimed_s(detecting)
        claims.without_vad_s += claimed_s(credulous)
        advance()
    return sorted(classes.values(), key=lambda claims: (-claims.with_vad, -claims.without_vad, claims.name))


def claimed_s(recognizer: Recognizer) -> float:
    """Seconds of a finished stream that carry an emotion."""
    seconds = recognizer.summary().seconds
    return sum(seconds.get(label, 0.0) for label in recognizer.card.labels)


def total(classes: Iterable[Claims]) -> Claims:
    """All classes as one."""
    every = Claims("all")
    for claims in classes:
        every.clips += claims.clips
        every.seconds += claims.seconds
        every.with_vad_s += claims.with_vad_s
        every.without_vad_s += claims.without_vad_s
    return every


def non_human(data: str, folds: Sequence[int]) -> list[Clip]:
    """The clips of ``esc-50=PATH`` that no human makes, of some folds (all of them where none is named).

    Raises:
        DataError: another corpus, or no such clip.
    """
    (pair,) = corpora.parse_data_option([data])
    corpus = corpora.load(*pair)
    if corpus.name != "esc-50":
        raise DataError(f"--data {data!r}: expected esc-50=PATH")
    chosen = [c for c in corpus.clips if c.label not in ESC50_HUMAN and (not folds or c.fold in folds)]
    if not chosen:
        there = ", ".join(map(str, sorted({clip.fold for clip in corpus.clips})))
        raise DataError(f"no clip of a non-human class is in fold {', '.join(map(str, folds))}; there are {there}")
    return chosen


@click.command(cls=Command)
@click.argument("model", default=DEFAULT_MODEL, metavar="[NAME|FILE]")
@click.option("--data", required=True, metavar="esc-50=PATH", help="Where ESC-50 is.")
@click.option("--fold", "folds", type=int, multiple=True, help="Only this fold; repeatable.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def main(model: str, data: str, folds: tuple[int, ...], as_json: bool) -> None:
    """Measure the emotion that is claimed of sounds that no human makes."""
    engine = load(model, "cpu")
    clips = non_human(data, folds)
    with progress_bar(engine.path.name, len(clips)) as advance:
        classes = measure(engine, clips, advance)
    every = total(classes)
    where = f"folds {', '.join(map(str, folds))}" if folds else "all folds"
    protocol = f"esc-50, {where}, {len(classes)} non-human classes, {every.clips} clips, {every.seconds:.0f} s"
    if as_json:
        content = {"model": engine.path.name, "protocol": protocol, "vad": asdict(DEFAULT_VAD)}
        click.echo(json.dumps({**content, "all": as_dict(every), "classes": list(map(as_dict, classes))}, indent=1))
        return
    rows = [(c.name, str(c.clips), f"{c.with_vad:.1%}", f"{c.without_vad:.1%}") for c in (every, *classes)]
    title = f"{engine.path.name}: time that carries an emotion; {protocol}"
    print_table(title, ("class", "clips", "with VAD", "without"), rows)


def as_dict(claims: Claims) -> dict[str, Any]:
    """For JSON."""
    return {**asdict(claims), "with_vad": claims.with_vad, "without_vad": claims.without_vad}


if __name__ == "__main__":
    main()
