"""Tables and JSON of ``stream-ser evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stream_ser.text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from stream_ser.runtime.card.recognition import Card
    from stream_ser.runtime.engine import Engine
    from stream_ser.train.data.corpora import Clip
    from stream_ser.train.evaluation.evaluate import Evaluation
    from stream_ser.train.evaluation.mcnemar import McNemar


#: Columns where standard output is no terminal.
WIDTH = 140
#: More classes than this do not fit across a terminal.
WIDEST_CONFUSION = 12
_CAPTION = (
    "95 %: bootstrap interval of the UAR over speakers. speakers: lowest and highest UAR of one. ECE*: with a "
    "temperature fitted on other speakers. ms: features and network, a window."
)


def shown(engine: Engine) -> str:
    """What people are told of a model: the name of its file."""
    return printable(engine.path.name)


class Measured:
    """A model and what it was found to do.

    Args:
        engine: the model.
        result: on all clips.
        sizes: clips of each corpus, in their order.
        name: which clips they are.
        vad: whether voice activity detection was on.
        suffix: behind the name of the part, where results go into a card.
    """

    def __init__(
        self, engine: Engine, result: Evaluation, sizes: dict[str, int], name: str, vad: bool, suffix: str = ""
    ) -> None:
        import numpy as np

        self.engine = engine
        self.result = result
        self.name = name
        self.vad = vad
        self.suffix = suffix
        self.corpora = " + ".join(sizes)
        owner = np.repeat(np.arange(len(sizes)), list(sizes.values()))
        #: The results on each corpus, where there are several.
        self.parts = {c: result.select(owner == i) for i, c in enumerate(sizes)} if len(sizes) > 1 else {}

    def protocol(self, corpora: str, result: Evaluation) -> str:
        """What was measured, on whom, and where it ran."""
        heard = speakers(result.clips, self.engine.card)
        how = f"ONNX, {self.engine.provider}{'' if self.vad else ', no VAD'}"
        return f"{corpora}, {self.name}, {heard}; {how}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        content = {
            "model": self.engine.path.name,
            "protocol": self.protocol(self.corpora, self.result),
            **self.result.as_dict(),
        }
        parts = {c: {"protocol": self.protocol(c, r), **r.as_dict()} for c, r in self.parts.items()}
        return {**content, "corpora": parts} if parts else content

    def recorded(self, part: str) -> Card:
        """The model's card with these results in it."""
        from dataclasses import replace

        results = dict(self.engine.card.results)
        for corpora, result in ((self.corpora, self.result), *self.parts.items()):
            kept = {k: v for k, v in result.as_dict().items() if k not in ("confusion", "speakers")}
            results[f"{corpora} {part}{self.suffix}"] = {"protocol": self.protocol(corpora, result), **kept}
        return replace(self.engine.card, results=results)


def speakers(clips: Sequence[Clip], card: Card) -> str:
    """How many speakers there are, and whether the model knows them from its training."""
    from stream_ser.train.data.corpora import UNKNOWN_SPEAKER

    present = {clip.speaker for clip in clips}
    known = {speaker for speaker in present if speaker.partition("/")[2] != UNKNOWN_SPEAKER}
    count = f"{len(present)} speaker{'s' if len(present) > 1 else ''}"
    heard = card.training.get("train_speakers")
    if not isinstance(heard, list):
        return f"{count}, training speakers unknown"
    seen = len(present & set(heard))
    if seen:
        return f"{count}, {seen} of them heard in training: not speaker-independent"
    if known != present:
        return f"{len(known)} known speakers and unknown ones, who may have been heard in training"
    return f"{count}, none of them heard in training"


def as_json_content(measured: Sequence[Measured], pairs: Sequence[tuple[int, int, McNemar]]) -> dict[str, Any]:
    """The scores as JSON: of one model its own, of several a list with the comparison of each pair."""
    if len(measured) == 1:
        return measured[0].as_dict()
    from dataclasses import asdict

    names = [str(each.engine.path) for each in measured]
    tests = [{"first": names[i], "second": names[j], **asdict(test)} for i, j, test in pairs]
    return {"models": [each.as_dict() for each in measured], "mcnemar": tests}


def print_tables(console: Console, measured: Sequence[Measured], pairs: Sequence[tuple[int, int, McNemar]]) -> None:
    """Print the scores of every model, then a table of several and the comparison of each pair."""
    for each in measured:
        _line(console, f"{shown(each.engine)}: {each.protocol(each.corpora, each.result)}")
        if len(measured) == 1:
            _print_scores(console, each.result.scores.clips, each.result)
    if len(measured) > 1 or measured[0].parts:
        _print_table(console, measured)
    if len(measured) == 1:
        _print_classes(console, measured[0].engine.card.labels, measured[0].result)
    else:
        _print_pairs(console, measured, pairs)


def _line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)


def _print_scores(console: Console, clips: int, result: Evaluation) -> None:
    scores = result.scores
    _line(
        console,
        f"clips {clips}  WA {scores.wa:.4f}  UAR {scores.uar:.4f}  F1 {scores.f1:.4f}  "
        f"ECE {scores.ece:.4f}  NLL {scores.nll:.4f}  heard as silence {result.silent}  "
        f"{result.window_ms:.2f} ms a window",
    )
    mean, low, high = result.calibrated_ece
    _line(console, f"a perfectly calibrated model would show an ECE of {mean:.3f} ({low:.3f} to {high:.3f}) here")
    if result.uar_interval is not None and result.cross_fitted_ece is not None:
        best, worst = result.speakers[0], result.speakers[-1]
        _line(
            console,
            f"UAR by speaker {worst.uar:.3f} ({worst.speaker}) to {best.uar:.3f} ({best.speaker}), 95 % interval over "
            f"speakers {_interval(result)}; ECE {result.cross_fitted_ece:.4f} with a temperature from other speakers",
        )


def _interval(result: Evaluation) -> str:
    return "-" if result.uar_interval is None else "{:.3f} to {:.3f}".format(*result.uar_interval)


def _print_table(console: Console, measured: Sequence[Measured]) -> None:
    """One row a model and corpus, several corpora also together."""
    from rich.table import Table

    several = bool(measured[0].parts)
    heads = ["clips", "WA", "UAR", "95 %", "speakers", "F1", "ECE", "ECE*", "silence", "ms"]
    table = Table("model", *(["corpus"] if several else []), caption=_CAPTION, caption_justify="left")
    for head in heads:
        table.add_column(head, justify="right")
    for each in measured:
        for corpora, result in (*each.parts.items(), (each.corpora, each.result)):
            scores, error = result.scores, result.cross_fitted_ece
            table.add_row(
                shown(each.engine),
                *([corpora] if several else []),
                *(str(scores.clips), f"{scores.wa:.4f}", f"{scores.uar:.4f}", _interval(result)),
                f"{result.speakers[-1].uar:.2f} to {result.speakers[0].uar:.2f}",
                *(f"{scores.f1:.4f}", f"{scores.ece:.4f}", "-" if error is None else f"{error:.4f}"),
                *(str(result.silent), f"{result.window_ms:.2f}"),
            )
        if several:
            table.add_section()
    console.print(table)


def _print_pairs(console: Console, measured: Sequence[Measured], pairs: Sequence[tuple[int, int, McNemar]]) -> None:
    for i, j, test in pairs:
        first, second = shown(measured[i].engine), shown(measured[j].engine)
        how = "exact" if test.exact else "chi-square, continuity-corrected"
        _line(
            console,
            f"McNemar: {test.first_only} clips only {first} has right, {test.second_only} only {second}; "
            f"p = {test.p:.3g} ({how})",
        )


def _print_classes(console: Console, labels: Sequence[str], result: Evaluation) -> None:
    """The confusion matrix, or where it is too wide what each class is mostly taken for."""
    from rich.table import Table

    clips = [int((result.truth == index).sum()) for index in range(len(labels))]
    rows = zip(labels, clips, result.scores.confusion, result.scores.recall, strict=True)
    if len(labels) <= WIDEST_CONFUSION:
        heads = (*labels, "silence") if result.silent else labels
        table = Table("truth", *heads, "recall", title="confusion (columns: predicted)", title_justify="left")
        for label, total, row, recall in rows:
            silent = [str(total - sum(row))] if result.silent else []
            table.add_row(label, *map(str, row), *silent, f"{recall:.3f}")
    else:
        table = Table("class", "clips", "recall", "mostly taken for")
        for label, total, row, recall in sorted(rows, key=lambda entry: entry[3]):
            others = [(count, other) for other, count in zip(labels, row, strict=True) if other != label and count]
            taken = ", ".join(f"{other} {count}" for count, other in sorted(others, reverse=True)[:3])
            table.add_row(label, str(total), f"{recall:.3f}", taken)
    for column in table.columns[1 : 3 if len(labels) > WIDEST_CONFUSION else None]:
        column.justify = "right"
    console.print(table)
