"""Tune the decider and the voice activity detection's patience on streams, and report on other speakers.

``python -m stream_ser.train.experiments.decider septr --data crema-d=PATH --data ravdess=PATH --cache D --out R.json``

The network hears each stream once for each ``--min-silence``; its predictions are kept in the cache, and a run that was
stopped goes on there. The decider's settings are then searched on the kept predictions: from the model's own and from
drawn starting points, one setting after the other takes its best value until none helps.

First the two temperatures are fitted, by likelihood. Then the settings of the live label: best is the highest mean UAR
of what is shown .5, 1, 1.5 and 2 s after the onset of speech on the tuning speakers, among settings with at most
``--flips`` changes a minute of speech. What is chosen is scored on the reporting speakers, who took no part. Settings
from hasty to calm are the trade-off curve, on all speakers. ``abstain_below`` is not searched: a doubt counts like a
mistake, so that they would never abstain. How precise the claims become with higher thresholds is reported instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from stream_ser.config import DEFAULT_VAD, DeciderConfig, VadConfig
from stream_ser.errors import DataError, OutputError
from stream_ser.events import Change, Prediction
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime.engine import DEFAULT_MODEL, Engine, load
from stream_ser.train.data.corpora import Clip
from stream_ser.train.data.labels import load_corpora
from stream_ser.train.data.long_streams import Placed, Stream, StreamConfig, streams
from stream_ser.train.evaluation.confidence import confidences
from stream_ser.train.evaluation.evaluate import of_speakers
from stream_ser.train.evaluation.stream_metrics import Heard, StreamScores, decide, hear, score

from .command import Command, make_parent, print_table, progress_bar, write_json

#: Speakers that the bundled model was not trained on: RAVDESS' last validation actors and five of CREMA-D's nine ...
TUNE = (*(f"ravdess/{n}" for n in range(17, 21)), *(f"crema-d/{n}" for n in (1009, 1011, 1022, 1034, 1039)))
#: ... and the other four.
REPORT = tuple(f"crema-d/{n}" for n in (1047, 1066, 1070, 1082))
#: What is tried, the plainest first.
VALUES: dict[str, tuple[float, ...]] = {
    "listen_s": (1.2, 0.0, 0.6, 0.9, 1.6, 2.0),
    "listen_confidence": (0.45, 0.3, 0.35, 0.4, 0.5, 0.6),
    "switch_cost": (1.0, 0.0, 0.5, 0.7, 1.4, 2.0),
    "hold_s": (0.3, 0.0, 0.15, 0.45, 0.6),
}
#: Temperatures that are tried.
TEMPERATURES = (0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5)
#: Settings of the trade-off curve, from the bare arg max to calm: ``listen_s``, ``listen_confidence``, ``switch_cost``,
#: ``hold_s``, ``abstain_below``.
CURVE = (
    (0.0, 0.0, 0.0, 0.0, 0.0),
    (0.6, 0.35, 0.5, 0.0, 0.2),
    (0.9, 0.35, 1.0, 0.3, 0.2),
    (1.2, 0.45, 1.0, 0.3, 0.2),
    (0.9, 0.4, 1.0, 0.3, 0.1),
    (1.6, 0.5, 1.4, 0.3, 0.2),
    (2.0, 0.6, 1.5, 0.6, 0.2),
)
CURVE_SETTINGS = ("listen_s", "listen_confidence", "switch_cost", "hold_s", "abstain_below")
#: Thresholds whose precision is reported.
ABSTAIN = (0.0, 0.3, 0.4, 0.5, 0.6)
MIN_SILENCE_S = (0.5,)
#: What a change must gain: less is the luck of these streams.
LEAST_GAIN = 1e-3


def speakers_of(groups: Mapping[str, Sequence[Clip]], speakers: Sequence[str]) -> list[Clip]:
    """All clips of some speakers.

    Raises:
        DataError: no clip of one of them.
    """
    return [clip for clips in of_speakers(groups, speakers).values() for clip in clips]


def key_of(engine: Engine, vad: VadConfig, config: StreamConfig, clips: Sequence[Clip]) -> str:
    """What a stream's predictions hang on, in a few letters: the model's file, the settings and the clips."""
    facts = [asdict(vad), asdict(config), [(clip.path.name, clip.label) for clip in clips], Prediction.__slots__]
    return hashlib.sha256(engine.path.read_bytes() + json.dumps(facts).encode()).hexdigest()[:16]


def save(path: Path, heard: Heard) -> None:
    """Keep the predictions on a stream.

    Raises:
        OutputError: the file cannot be written.
    """
    width = max((len(p.probabilities) for p in heard.predictions), default=0)
    unknown = (float("nan"),) * width
    arrays = {
        "length": np.asarray(heard.length),
        "rate": np.asarray(heard.rate),
        "span": np.asarray([(p.start, p.end) for p in heard.predictions], dtype=np.int64),
        "probabilities": np.asarray([p.probabilities or unknown for p in heard.predictions]),
        "level_dbfs": np.asarray([p.level_dbfs for p in heard.predictions]),
        "voice": np.asarray([p.voice or (-1, -1) for p in heard.predictions], dtype=np.int64),
        "changed": np.asarray([(n, c.at) for n, p in enumerate(heard.predictions) for c in p.changes], dtype=np.int64),
        "before": np.asarray([c.before for p in heard.predictions for c in p.changes]),
        "placed": np.asarray([(p.start, p.end, p.onset, p.offset) for p in heard.placed], dtype=np.int64),
        "files": np.asarray([p.clip.path.name for p in heard.placed]),
    }
    # Another name until it is whole, so that a killed run leaves nothing that looks finished.
    partial = path.with_suffix(".partial.npz")
    try:
        np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --cache") from None


def restore(path: Path, clips: Sequence[Clip]) -> Heard:
    """What :func:`save` kept, without decisions: :func:`decide` makes them.

    Raises:
        DataError: the file is damaged, or of other clips.
    """
    named = {clip.path.name: clip for clip in clips}
    try:
        with np.load(path, allow_pickle=False) as kept:
            changes: dict[int, tuple[Change, ...]] = {}
            for (place, at), before in zip(kept["changed"].reshape(-1, 2), kept["before"], strict=True):
                changes[int(place)] = (*changes.get(int(place), ()), Change(int(at), tuple(before.tolist())))
            columns = zip(kept["span"], kept["probabilities"], kept["level_dbfs"], kept["voice"], strict=True)
            predictions = tuple(
                Prediction(
                    int(start),
                    int(end),
                    () if np.isnan(row).any() or not row.size else tuple(row.tolist()),
                    float(level),
                    voice=None if first < 0 else (int(first), int(last)),
                    changes=changes.get(place, ()),
                )
                for place, ((start, end), row, level, (first, last)) in enumerate(columns)
            )
            placed = tuple(
                Placed(named[str(name)], *map(int, positions))
                for name, positions in zip(kept["files"], kept["placed"], strict=True)
            )
            rate, length = int(kept["rate"]), int(kept["length"])
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(f"{path}: no predictions of these clips ({error}); remove it") from None
    return Heard(clips[0].speaker, rate, length, placed, (), (), predictions)


def listen(
    engine: Engine,
    clips: Sequence[Clip],
    vad: VadConfig,
    config: StreamConfig,
    cache: Path,
    advance: Callable[[], object] = lambda: None,
) -> list[Heard]:
    """Predictions on a stream a speaker, from the cache where they are there.

    Raises:
        DataError: a damaged file in the cache, or clips that cannot be used.
        OutputError: the cache cannot be written.
    """
    found = []
    for speaker in sorted({clip.speaker for clip in clips}):
        own = [clip for clip in clips if clip.speaker == speaker]
        path = cache / f"{speaker.replace('/', '-')}-{key_of(engine, vad, config, own)}.npz"
        if not path.is_file():
            (stream,) = streams(own, engine.card.features.sample_rate, config)
            save(path, _hear(engine, stream, vad))
        found.append(restore(path, own))
        advance()
    return found


def _hear(engine: Engine, stream: Stream, vad: VadConfig) -> Heard:
    return hear(Recognizer(engine, vad=vad), stream, alone=False)


@dataclass(frozen=True)
class Trial:
    """Settings and what they come to on the tuning speakers."""

    config: DeciderConfig
    scores: StreamScores

    @property
    def cost(self) -> float:
        """What is made small."""
        times = self.scores.uar_at.values()
        return float(1.0 - sum(times) / len(times))


def search(
    heard: Sequence[Heard],
    labels: tuple[str, ...],
    start: DeciderConfig,
    most_flips: float,
    draws: int,
    seed: int,
) -> Trial:
    """Search the decider's settings by coordinate descent.

    Args:
        heard: tuning streams.
        labels: of the model.
        start: first starting point.
        most_flips: changes of the shown label a minute of speech that are allowed.
        draws: further starting points.
        seed: of them.

    Returns:
        The best settings; those with the fewest flips where none keeps to ``most_flips``.
    """
    tried: dict[DeciderConfig, Trial] = {}

    def attempt(config: DeciderConfig) -> Trial:
        if config not in tried:
            tried[config] = Trial(config, score([decide(each, labels, config) for each in heard]))
        return tried[config]

    def better(one: Trial, other: Trial) -> bool:
        flips = one.scores.flips_per_minute, other.scores.flips_per_minute
        if max(flips) > most_flips:
            return bool(flips[0] < flips[1])
        return one.cost < other.cost - LEAST_GAIN

    rng = np.random.default_rng(seed)
    starts = [start]
    for _ in range(draws):
        starts.append(replace(start, **{name: float(rng.choice(values)) for name, values in VALUES.items()}))
    best = attempt(start)
    for point in starts:
        here = attempt(point)
        improved = True
        while improved:
            improved = False
            for name, values in VALUES.items():
                for value in values:
                    trial = attempt(replace(here.config, **{name: value}))
                    if better(trial, here):
                        here, improved = trial, True
        if better(here, best):
            best = here
    return best


def calibrated(heard: Sequence[Heard], labels: tuple[str, ...], start: DeciderConfig) -> DeciderConfig:
    """The settings with the two temperatures of highest likelihood: of the verdict, then of the first second."""

    def loss(config: DeciderConfig, times: Sequence[str]) -> float:
        found = confidences(heard, labels, config)
        return float(sum(found[time].nll for time in times))

    whole = [replace(start, temperature=value, onset_temperature=value) for value in TEMPERATURES]
    best = min(whole, key=lambda config: loss(config, ("2", "end")))
    onset = [replace(best, onset_temperature=value) for value in TEMPERATURES if value >= best.temperature]
    return min(onset, key=lambda config: loss(config, ("0.5", "1")))


@click.command(cls=Command)
@click.argument("model", default=DEFAULT_MODEL, metavar="[NAME|FILE]")
@click.option("--data", multiple=True, metavar="CORPUS=PATH", help="Corpus, such as crema-d=PATH; repeatable.")
@click.option("--tune", multiple=True, metavar="SPEAKER", help="Tune on this speaker; repeatable. Default: see above.")
@click.option("--report", multiple=True, metavar="SPEAKER", help="Report on this speaker; repeatable.")
@click.option(
    "--min-silence",
    multiple=True,
    type=click.FloatRange(min=0.0),
    metavar="S",
    help="Patience of the voice activity detection; repeatable.",
)
@click.option("--flips", default=8.0, show_default=True, help="Most label changes a minute of speech.")
@click.option("--snr", default=30.0, show_default=True, help="Of pink noise under the streams, dB.")
@click.option("--draws", default=4, show_default=True, type=click.IntRange(min=0), help="Further starting points.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Fixes every draw.")
@click.option(
    "--cache", type=click.Path(path_type=Path, file_okay=False), required=True, help="Predictions are kept here."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Results, as JSON.")
def main(
    model: str,
    data: tuple[str, ...],
    tune: tuple[str, ...],
    report: tuple[str, ...],
    min_silence: tuple[float, ...],
    flips: float,
    snr: float,
    draws: int,
    seed: int,
    cache: Path,
    out: Path,
) -> None:
    """Tune the decider on streams of some speakers and report on others.

    By default it is tuned on RAVDESS' actors 17 to 20 and on five of CREMA-D's nine validation actors, and reported on
    the other four; the bundled model was trained on none of them. `python -m stream_ser.export.decider_settings` writes
    what was chosen into the model's card.
    """
    make_parent(out)
    make_parent(cache / "predictions")
    engine = load(model, "cpu")
    groups = {corpus.name: corpus.clips for corpus in load_corpora(data, engine.card.labels)}
    parts = [speakers_of(groups, chosen) for chosen in (tune or TUNE, report or REPORT)]
    check_apart(parts[0], parts[1])
    config, labels = StreamConfig(snr_db=snr, seed=seed), engine.card.labels
    waits = min_silence or MIN_SILENCE_S
    content: dict[str, Any] = {
        "model": engine.path.name,
        "streams": config.describe(),
        "tune": sorted({clip.speaker for clip in parts[0]}),
        "report": sorted({clip.speaker for clip in parts[1]}),
        "heard in training": sorted(
            {clip.speaker for part in parts for clip in part} & set(engine.card.training.get("train_speakers", ()))
        ),
        "most flips a minute": flips,
        "results": [],
    }
    best: Trial | None = None
    chosen = DEFAULT_VAD
    for wait in waits:
        vad = replace(DEFAULT_VAD, min_silence_s=wait)
        total = len({clip.speaker for clip in parts[0]} | {clip.speaker for clip in parts[1]})
        with progress_bar(f"min_silence_s {wait:g}", total) as advance:
            tuning, reporting = (listen(engine, part, vad, config, cache, advance) for part in parts)
        start = calibrated(tuning, labels, engine.card.decider)
        trial = search(tuning, labels, start, flips, draws, seed)
        for name, settings in (("card", engine.card.decider), ("tuned", trial.config)):
            row: dict[str, Any] = {"settings": name, "min_silence_s": wait, "decider": asdict(settings)}
            for part, streams_ in (("tune", tuning), ("report", reporting)):
                row[part] = score([decide(each, labels, settings) for each in streams_]).as_dict()
                numbers = confidences(streams_, labels, settings)
                row[part]["confidence"] = {time: asdict(found) for time, found in numbers.items()}
            content["results"].append(row)
        if best is None or trial.cost < best.cost - LEAST_GAIN:
            best, chosen = trial, vad
            content["chosen"] = {"min_silence_s": wait, "decider": asdict(trial.config)}
            content["curve"] = [
                {"settings": settings, **score([decide(each, labels, config) for each in tuning + reporting]).as_dict()}
                for values in CURVE
                for settings in [dict(zip(CURVE_SETTINGS, values, strict=True))]
                for config in [replace(trial.config, **settings)]
            ]
            content["abstain"] = [
                {
                    "abstain_below": value,
                    **score(
                        [decide(each, labels, replace(trial.config, abstain_below=value)) for each in reporting]
                    ).as_dict(),
                }
                for value in ABSTAIN
            ]
        write_json(out, content)
    assert best is not None
    print_table(
        f"{engine.path.name}: {config.describe()}", HEADER, [r for row in content["results"] for r in _rows(row)]
    )
    click.echo(f"chosen: min_silence_s {chosen.min_silence_s:g}, " + _words(best.config))
    for row in content["curve"]:
        shown = ", ".join(f"{value:.3f}" for value in row["uar_at"].values())
        how = ", ".join(f"{name} {value:g}" for name, value in row["settings"].items())
        click.echo(f"{row['flips_per_minute']:.1f} changes a minute, UAR {shown} after .5, 1, 1.5, 2 s: {how}")
    for row in content["abstain"]:
        click.echo(
            f"abstain_below {row['abstain_below']:.2f}: {row['precision']:.1%} of the claims right, "
            f"{row['uncertain']:.1%} of the speech uncertain, EDER {row['eder']:.3f} (reporting speakers)"
        )


HEADER = ("settings, part", "EDER", "shown", "flips", ".5 s", "1 s", "2 s", "whole", "settled")


def _rows(row: dict[str, Any]) -> list[list[str]]:
    rows = []
    for part in ("tune", "report"):
        found = row[part]
        settled = "-" if found["settled_s"] is None else f"{found['settled_s']:.2f}"
        rows.append(
            [
                f"{row['settings']} {row['min_silence_s']:g} {part}",
                *(f"{found[name]:.3f}" for name in ("eder", "eder_shown")),
                f"{found['flips_per_minute']:.1f}",
                *(f"{found['uar_at'][time]:.3f}" for time in ("0.5", "1", "2")),
                f"{found['uar_whole']:.3f}",
                settled,
            ]
        )
    return rows


def _words(config: DeciderConfig) -> str:
    return ", ".join(f"{name} {getattr(config, name):g}" for name in VALUES)


def check_apart(tuning: Sequence[Clip], reporting: Sequence[Clip]) -> None:
    """Refuse to report on what was tuned on.

    Raises:
        DataError: a speaker is in both.
    """
    if both := sorted({clip.speaker for clip in tuning} & {clip.speaker for clip in reporting}):
        raise DataError(f"{both[0]} is among the speakers to tune on and to report on; choose others")


if __name__ == "__main__":
    main()
