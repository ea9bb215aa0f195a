"""Classical controls: openSMILE functionals and an RBF SVM, on the split of the networks.

``python -m stream_ser.train.experiments.controls --data crema-d=PATH --cache FOLDER --out results/controls.json``

The cost C is chosen by cross-validation over the speakers of the training part; the other parts are measured once.
"""

from __future__ import annotations

import os
import time
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from stream_ser.errors import DataError, TrainError
from stream_ser.train.data.corpora import Clip
from stream_ser.train.data.labels import FOLDED, SPLITS, SplitKind, load_corpora, make_split
from stream_ser.train.evaluation.mcnemar import mcnemar
from stream_ser.train.metrics import Floats, Ints, Scores, score, uar_interval

from .command import Command, make_parent, print_table, progress_bar, write_json
from .functionals import FEATURE_SETS, functionals

Features = NDArray[np.float32]
#: The costs C that are tried.
GRID = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def one_hot(predicted: Ints, classes: int) -> Floats:
    """Certainty ``(clips, classes)`` for :func:`stream_ser.train.metrics.score`: an SVM gives no probabilities."""
    return np.eye(classes)[predicted]


def kernels(train: Features, other: Features) -> tuple[Floats, Floats]:
    """RBF kernels of the training clips with themselves and of other clips with them.

    Features are brought to zero mean and unit variance over ``train``; a missing one takes the mean. The width is
    scikit-learn's ``scale``: 1 / (features * variance). One product of matrices here is many times as fast as libsvm's
    own kernel, and serves every C.

    Args:
        train: ``(clips, features)``.
        other: ``(others, features)``.

    Returns:
        ``(clips, clips)`` and ``(others, clips)``.
    """
    from sklearn.metrics.pairwise import rbf_kernel
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train)
    known, asked = (np.nan_to_num(scaler.transform(part)) for part in (train, other))
    gamma = 1.0 / (known.shape[1] * float(known.var()))
    return rbf_kernel(known, gamma=gamma), rbf_kernel(asked, known, gamma=gamma)


def predict(gram: Floats, targets: Ints, cross: Floats, cost: float) -> Ints:
    """Fit an SVM (one against one, classes weighted alike) on ``gram`` and name the classes of ``cross``."""
    from sklearn.svm import SVC

    machine = SVC(C=cost, kernel="precomputed", class_weight="balanced").fit(gram, targets)
    return np.asarray(machine.predict(cross), dtype=np.int64)


def choose_cost(
    features: Features,
    targets: Ints,
    speakers: Sequence[str],
    classes: int,
    grid: Sequence[float] = GRID,
    folds: int = 5,
) -> tuple[float, dict[float, float]]:
    """The C with the best mean UAR in a cross-validation whose folds share no speaker.

    Returns:
        the cost, and the mean UAR of each cost.

    Raises:
        DataError: fewer speakers than folds.
    """
    from sklearn.model_selection import GroupKFold

    if len(set(speakers)) < folds:
        raise DataError(f"{len(set(speakers))} training speakers do not make {folds} folds; use a larger corpus")
    uar: defaultdict[float, float] = defaultdict(float)
    for inside, outside in GroupKFold(folds).split(features, targets, speakers):
        gram, cross = kernels(features[inside], features[outside])
        for cost in grid:
            predicted = predict(gram, targets[inside], cross, cost)
            uar[cost] += score(one_hot(predicted, classes), targets[outside]).uar / folds
    return max(grid, key=lambda cost: uar[cost]), dict(uar)


@dataclass(frozen=True)
class Control:
    """A fitted control on the clips that it was measured with.

    Attributes:
        clips: measured.
        truth: ``(clips,)``.
        predicted: ``(clips,)``.
        labels: names of the classes.
        cost: the chosen C.
        searched: mean UAR of each C within the training part.
    """

    clips: Sequence[Clip]
    truth: Ints
    predicted: Ints
    labels: tuple[str, ...]
    cost: float
    searched: dict[float, float]

    @property
    def scores(self) -> Scores:
        """WA, UAR and F1; what needs probabilities has no meaning here."""
        return score(one_hot(self.predicted, len(self.labels)), self.truth)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        scores = self.scores
        speakers = [clip.speaker for clip in self.clips]
        return {
            "c": self.cost,
            "searched_uar": {str(cost): round(uar, 4) for cost, uar in self.searched.items()},
            **{name: getattr(scores, name) for name in ("clips", "uar", "wa", "f1", "recall", "confusion")},
            "uar_interval": uar_interval(one_hot(self.predicted, len(self.labels)), self.truth, speakers),
        }

    def save(self, path: Path) -> None:
        """Predictions by clip, under the names that a run's ``predictions.npz`` has."""
        np.savez_compressed(
            path,
            stems=np.asarray([clip.path.stem for clip in self.clips]),
            speakers=np.asarray([clip.speaker for clip in self.clips]),
            truth=self.truth,
            predicted=self.predicted,
            probabilities=one_hot(self.predicted, len(self.labels)),
            labels=np.asarray(self.labels),
        )

    def against(self, right: NDArray[np.bool_]) -> dict[str, Any]:
        """McNemar's test against a run, given what it has right of the same clips, ``(clips,)``."""
        test = mcnemar(self.predicted == self.truth, right)
        return {"control_only_right": test.first_only, "run_only_right": test.second_only, "p": test.p}


def right_of(path: Path, clips: Sequence[Clip]) -> NDArray[np.bool_]:
    """Which of ``clips`` a run has right, ``(clips,)``, by the predictions that it left.

    Raises:
        DataError: not such a file, or other clips.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as run:
            right = dict(zip(run["stems"].tolist(), run["probabilities"].argmax(axis=1) == run["truth"], strict=True))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not the predictions of a run ({type(error).__name__}: {error})") from None
    stems = [clip.path.stem for clip in clips]
    if right.keys() != set(stems) or len(right) != len(stems):
        raise DataError(f"{path}: not on the clips of this split; compare runs of one split")
    return np.asarray([right[stem] for stem in stems])


def fit(features: Features, clips: Sequence[Clip], train: int, labels: tuple[str, ...]) -> Control:
    """Fit on the first ``train`` clips and measure on the others.

    Raises:
        DataError: too few training speakers.
    """
    targets = np.asarray([labels.index(clip.label) for clip in clips], dtype=np.int64)
    known, truth = targets[:train], targets[train:]
    speakers = [clip.speaker for clip in clips[:train]]
    cost, searched = choose_cost(features[:train], known, speakers, len(labels))
    gram, cross = kernels(features[:train], features[train:])
    return Control(clips[train:], truth, predict(gram, known, cross, cost), labels, cost, searched)


@click.command(cls=Command)
@click.option("--data", multiple=True, metavar="CORPUS=PATH", help="Corpus, such as crema-d=PATH.")
@click.option("--split", type=click.Choice(SPLITS), default="fixed", show_default=True, help="As for training.")
@click.option("--fold", type=click.IntRange(min=1), help=f"Number of the fold, for {' and '.join(FOLDED)}.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the split.")
@click.option(
    "--features", "sets", multiple=True, type=click.Choice(list(FEATURE_SETS)), default=list(FEATURE_SETS), help="Sets."
)
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for features.")
@click.option("--jobs", type=click.IntRange(min=1), default=os.cpu_count() or 1, show_default=True, help="Processes.")
@click.option(
    "--against", multiple=True, type=click.Path(path_type=Path), help="A run's predictions.npz, for McNemar's test."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Results, as JSON.")
def main(
    data: tuple[str, ...],
    split: SplitKind,
    fold: int | None,
    seed: int,
    sets: tuple[str, ...],
    cache: Path,
    jobs: int,
    against: tuple[Path, ...],
    out: Path,
) -> None:
    """Measure openSMILE functionals with an RBF SVM on a split of corpora.

    Each set's predictions go beside the results, as NAME-SET.npz.
    """
    try:
        import sklearn
    except ModuleNotFoundError:
        raise TrainError("scikit-learn is missing: the controls need: pip install 'stream-ser[dev]'") from None
    make_parent(out)
    corpora = load_corpora(data)
    parts = make_split(corpora, split, seed, fold)
    measured = parts.test or parts.validation
    clips, labels = [*parts.train, *measured], corpora[0].labels
    name = (
        f"{' + '.join(corpus.name for corpus in corpora)}, {parts.name}, {'test' if parts.test else 'validation'} part"
    )
    content: dict[str, Any] = {"protocol": name, "scikit_learn": sklearn.__version__, "labels": labels, "controls": {}}
    # Before the hours of work: a mistake in a path shows at once.
    runs = {str(path): right_of(path, measured) for path in against}
    rows = []
    for feature_set in sets:
        started = time.monotonic()
        with progress_bar(feature_set, len(clips)) as advance:
            features = functionals(clips, feature_set, cache, jobs, advance)
        extracted = time.monotonic()
        control = fit(features, clips, len(parts.train), labels)
        control.save(out.with_name(f"{out.stem}-{feature_set}.npz"))
        content["controls"][feature_set] = {
            "classifier": "standardisation, RBF SVM",
            **control.as_dict(),
            "missing": int(np.isnan(features).sum()),
            "extraction_s": round(extracted - started, 1),
            "svm_s": round(time.monotonic() - extracted, 1),
            "mcnemar": {path: control.against(right) for path, right in runs.items()},
        }
        write_json(out, content)
        scores = control.scores
        numbers = (scores.uar, scores.wa, scores.f1)
        rows.append([feature_set, f"{control.cost:g}", *(f"{number:.4f}" for number in numbers), str(scores.clips)])
    print_table(name, ("features", "C", "UAR", "WA", "F1", "clips"), rows)
    for feature_set, result in content["controls"].items():
        for path, test in result["mcnemar"].items():
            counts = f"{test['control_only_right']} : {test['run_only_right']} clips that only one has right"
            click.echo(f"{feature_set} against {path}: {counts}, McNemar p {test['p']:.3g}")


if __name__ == "__main__":
    main()
