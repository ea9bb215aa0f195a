"""The report of a run: pictures, ``report.md`` for people, ``report.json`` for programs."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from stream_ser.errors import TrainError
from stream_ser.train.checkpoint import write_atomically
from stream_ser.train.metrics import (
    Floats,
    Ints,
    Reliability,
    Scores,
    SpeakerScore,
    clip_means,
    cross_fitted_ece,
    fit_temperature_windows,
    reliability,
    score,
    score_speakers,
    softmax,
    uar_interval,
)
from stream_ser.train.run_folder import METRICS, PREDICTIONS, TEST_PREDICTIONS, Epoch, write_json

from . import plots

REPORT, REPORT_TEXT = "report.json", "report.md"
#: Speakers up to which the text lists all; of more, the worst.
LISTED = 24


@dataclass(frozen=True)
class Part:
    """Predictions for one part of the split, before calibration.

    Attributes:
        name: ``validation`` or ``test``.
        truth: ``(clips,)``.
        speakers: of each clip.
        logits: of each window, ``(windows, classes)``.
        owners: clip of each window, ``(windows,)``.
        fitted: the temperature that was fitted on other clips; None: on these ones.
    """

    name: str
    truth: Ints
    speakers: tuple[str, ...]
    logits: Floats
    owners: Ints
    fitted: float | None = None

    @classmethod
    def read(cls, path: Path, name: str, fitted: float | None = None) -> Part | None:
        """Read what a run left; None where it left nothing.

        Raises:
            TrainError: the file cannot be read.
        """
        if not path.is_file():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                logits = arrays["window_logits"].astype(np.float64)
                return cls(name, arrays["truth"], tuple(arrays["speakers"].tolist()), logits, arrays["owners"], fitted)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise TrainError(f"{path}: not readable as predictions ({type(error).__name__}); train again") from None

    @cached_property
    def temperature(self) -> float:
        """What divides the logits: fitted here, or elsewhere."""
        return fit_temperature_windows(self.logits, self.owners, self.truth) if self.fitted is None else self.fitted

    def probabilities(self, temperature: float) -> Floats:
        """Of the clips, as the runtime forms them, ``(clips, classes)``."""
        return clip_means(softmax(self.logits, temperature), self.owners)

    @cached_property
    def scores(self) -> Scores:
        """At temperature 1, as in training."""
        return score(self.probabilities(1.0), self.truth)

    @cached_property
    def by_speaker(self) -> list[SpeakerScore]:
        """Best first."""
        return score_speakers(self.probabilities(1.0), self.truth, self.speakers)

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """95 % of the UAR, over speakers."""
        return uar_interval(self.probabilities(1.0), self.truth, self.speakers)

    def reliability(self, temperature: float) -> Reliability:
        """Bins at a temperature."""
        return reliability(self.probabilities(temperature), self.truth)

    @cached_property
    def cross_fitted(self) -> float | None:
        """ECE with the temperature from other speakers."""
        if self.fitted is not None:
            return self.reliability(self.fitted).ece
        return cross_fitted_ece(self.logits, self.owners, self.truth, self.speakers)

    def as_dict(self, labels: Sequence[str]) -> dict[str, Any]:
        """For JSON."""
        scores = self.scores.as_dict()
        return {
            **{name: scores[name] for name in ("clips", "wa", "uar", "f1", "nll", "confusion")},
            "uar_interval": self.interval,
            "recall": dict(zip(labels, self.scores.recall, strict=True)),
            "speakers": [asdict(row) for row in self.by_speaker],
            "temperature": self.temperature,
            "temperature_fitted_on": "these clips" if self.fitted is None else "validation",
            "ece_as_trained": self.reliability(1.0).ece,
            "ece": self.reliability(self.temperature).ece,
            "ece_cross_fitted": self.cross_fitted,
        }


def write_report(history: Sequence[Epoch], labels: Sequence[str], out: Path) -> None:
    """Write the report of a run into its folder.

    ``curves.png``, ``confusion.png`` and ``recall.png`` come from the last epoch; ``speakers.png``,
    ``calibration.png``, ``report.json`` and ``report.md`` from the predictions that the run left, for the test part too
    (``-test``).

    Args:
        history: of the training.
        labels: in the order of the network's outputs.
        out: run folder.

    Raises:
        TrainError: predictions that cannot be read.
    """
    plots.plot_curves(history, out / "curves.png")
    _draw_scores(history[-1].scores, labels, out, "validation")
    validation = Part.read(out / PREDICTIONS, "validation")
    if validation is None:
        return
    parts = [validation]
    if test := Part.read(out / TEST_PREDICTIONS, "test", validation.temperature):
        parts.append(test)
        _draw_scores(test.scores, labels, out, "test")
    for part in parts:
        _draw_part(part, out)
    write_json(out / REPORT, {"labels": list(labels), **{part.name: part.as_dict(labels) for part in parts}})
    text = "\n".join(_text(parts, labels, out))
    write_atomically(out / REPORT_TEXT, lambda path: path.write_text(text, encoding="utf-8"))


def _suffix(part: str) -> str:
    return "-test" if part == "test" else ""


def _draw_scores(scores: Scores, labels: Sequence[str], out: Path, part: str) -> None:
    title = f"{part.capitalize()}, {scores.clips:,} clips: UAR {100 * scores.uar:.1f} %, WA {100 * scores.wa:.1f} %"
    plots.plot_confusion(scores, labels, out / f"confusion{_suffix(part)}.png", title)
    plots.plot_recall(scores, labels, out / f"recall{_suffix(part)}.png", f"Recall by class, {part}")


def _draw_part(part: Part, out: Path) -> None:
    title = f"UAR by speaker, {part.name}, {len(part.by_speaker):,} speakers"
    plots.plot_speakers(
        part.by_speaker, part.scores.uar, part.interval, out / f"speakers{_suffix(part.name)}.png", title
    )
    plots.plot_calibration(
        part.reliability(1.0),
        part.reliability(part.temperature),
        part.probabilities(part.temperature).max(axis=1),
        part.temperature,
        out / f"calibration{_suffix(part.name)}.png",
        f"Calibration, {part.name}, {len(part.truth):,} clips\n{_how_calibrated(part)}",
    )


def _how_calibrated(part: Part) -> str:
    if part.fitted is not None:
        return "temperature fitted on the validation part"
    if part.cross_fitted is None:
        return "temperature fitted on these very clips"
    return f"temperature fitted on these clips; from other speakers: ECE {part.cross_fitted:.3f}"


def _text(parts: Sequence[Part], labels: Sequence[str], out: Path) -> list[str]:
    """Lines of Markdown."""
    about: dict[str, Any] = {}
    if (out / METRICS).is_file():
        about = json.loads((out / METRICS).read_text(encoding="utf-8"))
    lines = [f"# {about.get('network', 'Run')}: {out.name}", ""]
    corpora = ", ".join(f"{name} ({clips} clips)" for name, clips in about.get("corpora", {}).items())
    for name, value in (
        ("corpora", corpora),
        ("split", about.get("split")),
        ("seed", about.get("seed")),
        ("epochs", about.get("epochs")),
        ("parameters", f"{about['parameters']:,}" if "parameters" in about else None),
        ("MACs a window", f"{about['macs']:,}" if about.get("macs") else None),
        ("training", f"{about['train_seconds'] / 60:.1f} minutes" if "train_seconds" in about else None),
    ):
        if value not in (None, ""):
            lines.append(f"- {name}: {value}")
    lines += [
        "",
        "| part | clips | UAR | 95 % over speakers | WA | F1 | ECE as trained | T | ECE | ECE, other speakers |",
    ]
    lines.append("|---|" + "---:|" * 9)
    for part in parts:
        scores = part.scores
        interval = "-" if part.interval is None else "{:.3f} to {:.3f}".format(*part.interval)
        error = "-" if part.cross_fitted is None else f"{part.cross_fitted:.3f}"
        lines.append(
            f"| {part.name} | {scores.clips} | {scores.uar:.4f} | {interval} | {scores.wa:.4f} | {scores.f1:.4f} "
            f"| {part.reliability(1.0).ece:.3f} | {part.temperature:.2f} "
            f"| {part.reliability(part.temperature).ece:.3f} | {error} |"
        )
    lines += ["", "![learning curves](curves.png)"]
    for part in parts:
        suffix = _suffix(part.name)
        lines += ["", f"## {part.name.capitalize()}", ""]
        lines += [f"![{kind}]({kind}{suffix}.png)" for kind in ("confusion", "recall", "speakers", "calibration")]
        lines += ["", "| class | clips | recall |", "|---|---:|---:|"]
        clips = np.asarray(part.scores.confusion).sum(axis=1)
        rows = zip(labels, clips, part.scores.recall, strict=True)
        lines += [f"| {label} | {count} | {recall:.3f} |" for label, count, recall in rows]
        lines += ["", *_speaker_lines(part)]
    return [*lines, ""]


def _speaker_lines(part: Part) -> list[str]:
    rows = part.by_speaker
    shown = rows if len(rows) <= LISTED else rows[-LISTED:]
    head = [f"The {LISTED} speakers of {len(rows):,} with the lowest UAR:", ""] if len(rows) > LISTED else []
    table = ["| speaker | clips | UAR | WA |", "|---|---:|---:|---:|"]
    return [*head, *table, *(f"| {r.speaker} | {r.clips} | {r.uar:.3f} | {r.wa:.3f} |" for r in shown)]
