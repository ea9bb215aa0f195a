"""From the options of the command line to corpora with joined labels, and to a split of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

from stream_ser.errors import DataError

from . import splits
from .corpora import EMOTIONS, NO_LABEL, OWN, Corpus, Modality, load, parse_data_option

#: ``auto``: the corpora's own labels where all have the same, else the common ones.
LabelSet = Literal["auto", "own", "common"]
SplitKind = Literal["fixed", "speaker", "folds", "nested", "random", "random-70-30"]
SPLITS: tuple[SplitKind, ...] = get_args(SplitKind)
#: Split kinds that need the number of a fold.
FOLDED: tuple[SplitKind, ...] = ("folds", "nested")
DROP = "drop"

#: Other words for the common labels, as people name the folders of their own recordings.
_SYNONYMS = {
    **dict.fromkeys(("angry", "ang"), "anger"),
    **dict.fromkeys(("disgusted", "dis"), "disgust"),
    **dict.fromkeys(("fearful", "afraid", "fea"), "fear"),
    **dict.fromkeys(("happiness", "joy", "hap"), "happy"),
    **dict.fromkeys(("neu",), "neutral"),
    **dict.fromkeys(("sadness", "sad.", "unhappy"), "sad"),
    **dict.fromkeys(("surprised", "pleasant surprise", "pleasant_surprise", "ps"), "surprise"),
}
#: Labels of the known corpora that are not common; left out unless they are mapped.
_UNCOMMON = ("boredom", "calm", "surprise")


def parse_map_option(values: Iterable[str]) -> dict[str, str]:
    """Parse ``LABEL=LABEL`` and ``LABEL=drop``.

    Raises:
        DataError: no ``=``, an empty side, or a label mapped twice.
    """
    mapping: dict[str, str] = {}
    for value in values:
        source, _, target = value.partition("=")
        if not source or not target:
            raise DataError(f"--map {value!r}: expected LABEL=LABEL or LABEL={DROP}, such as calm=neutral")
        if mapping.setdefault(source, target) != target:
            raise DataError(f"--map: {source} is mapped to {mapping[source]} and to {target}")
    return mapping


def load_corpora(
    data: Sequence[str],
    labels: LabelSet | Sequence[str] = "auto",
    mapping: Sequence[str] = (),
    votes: Modality = "voice",
) -> tuple[Corpus, ...]:
    """Load corpora and give all of them the same labels.

    Args:
        data: ``CORPUS=PATH`` each.
        labels: ``auto``, ``own`` (all that the corpora have), ``common`` (:data:`EMOTIONS`), or the labels themselves,
            as a model's card has them.
        mapping: ``LABEL=LABEL`` or ``LABEL=drop`` each, as the user wishes it.
        votes: see :func:`stream_ser.train.data.corpora.load`.

    Raises:
        DataError: an option that cannot be read, a corpus that cannot be loaded, a recording that is given twice, or
            a label that has no place.
    """
    wishes = parse_map_option(mapping)
    corpora = name_apart([load(name, path, votes) for name, path in parse_data_option(data)])
    _refuse_shared_files(corpora)
    known = {label for corpus in corpora for label in corpus.labels}
    if unknown := sorted(wishes.keys() - known):
        raise DataError(f"--map {unknown[0]}: no corpus has that label; there are {', '.join(sorted(known))}")
    if labels == "auto":
        labels = "own" if len({frozenset(corpus.labels) for corpus in corpora}) == 1 else "common"
    if labels == "own":
        targets = dict.fromkeys(wishes.get(label, label) for corpus in corpora for label in corpus.labels)
        targets.pop(DROP, None)
        return tuple(relabel(corpus, tuple(targets), wishes) for corpus in corpora)
    wanted = EMOTIONS if labels == "common" else tuple(labels)
    return tuple(relabel(corpus, wanted, wishes) for corpus in corpora)


def load_plain(data: Sequence[str]) -> list[Corpus]:
    """Load corpora of plain speech, whose labels, if there are any, are not looked at.

    Args:
        data: ``CORPUS=PATH`` each.

    Raises:
        DataError: an option that cannot be read, or a corpus that cannot be loaded.
    """
    return name_apart([load(name, path) for name, path in parse_data_option(data)])


def relabel(corpus: Corpus, labels: Sequence[str], mapping: Mapping[str, str] | None = None) -> Corpus:
    """Give a corpus other labels.

    A label that is not among the new ones goes where ``mapping`` says, to the common label of the same meaning
    (``angry`` is ``anger``), or, if it is calm, surprise or boredom, is left out. Votes follow the labels.

    Args:
        corpus: any.
        labels: the new ones, in the order of the networks' outputs.
        mapping: from the corpus' labels to the new ones or to ``drop``.

    Raises:
        DataError: a label that has no place, or no clip is left.
    """
    places = {label: _place(corpus, label, labels, mapping or {}) for label in corpus.labels}
    if tuple(corpus.labels) == tuple(labels) and all(old == new for old, new in places.items()):
        return corpus
    clips = tuple(
        replace(clip, label=new, votes=_votes(clip.votes, corpus.labels, places, labels))
        for clip in corpus.clips
        if (new := places[clip.label]) != DROP
    )
    if not clips:
        raise DataError(f"{corpus.name}: no clip is left with the labels {', '.join(labels)}; map others with --map")
    counts = Counter(clip.label for clip in corpus.clips if places[clip.label] == DROP)
    return replace(corpus, clips=clips, labels=tuple(labels), unused=(*corpus.unused, *sorted(counts.items())))


def make_split(
    corpora: Sequence[Corpus],
    kind: SplitKind,
    seed: int,
    fold: int | None = None,
    folds: int | None = None,
    left_out: Sequence[str] = (),
) -> splits.Split:
    """Split corpora as the options say.

    Args:
        corpora: with the same labels.
        kind: ``fixed`` lists, by ``speaker``, held-out ``folds``, ``nested`` folds, ``random`` clips 70/15/15 or
            ``random-70-30``.
        seed: of whatever is drawn.
        fold: number of the fold, from 1, for ``folds`` and ``nested``.
        folds: how many there are; by default the official number, or five.
        left_out: names of corpora that become the test part, all their speakers; the others are split.

    Raises:
        DataError: a split that these corpora do not have, a fold where there is none, or a name of no corpus.
    """
    if left_out:
        names = [corpus.name for corpus in corpora]
        if unknown := sorted(set(left_out) - set(names)):
            raise DataError(f"--leave-out {unknown[0]}: not among the corpora; there are {', '.join(names)}")
        kept = [corpus for corpus in corpora if corpus.name not in left_out]
        if not kept:
            raise DataError("--leave-out: no corpus is left to train on; name another with --data")
        split = make_split(kept, kind, seed, fold, folds)
        return splits.leave_out(split, [corpus for corpus in corpora if corpus.name in left_out])
    if kind in FOLDED:
        if fold is None:
            total = splits.fold_count(corpora, folds)
            raise DataError(f"--split {kind}: which fold? give --fold 1 to --fold {total}")
        return splits.fold(corpora, fold, seed, folds, nested=kind == "nested")
    if fold is not None or folds is not None:
        raise DataError(f"--split {kind} has no folds; leave --fold and --folds away or use --split folds")
    if kind == "fixed":
        return splits.fixed(corpora)
    if kind == "speaker":
        return splits.by_speaker(corpora, seed)
    return splits.random_clips(corpora, seed, "70/15/15" if kind == "random" else "70/30")


def name_apart(corpora: Sequence[Corpus]) -> list[Corpus]:
    """Give every corpus a name of its own: the second ``folder`` is ``folder-2``, and so are its speakers."""
    named: list[Corpus] = []
    seen: Counter[str] = Counter()
    for corpus in corpora:
        seen[corpus.name] += 1
        if seen[corpus.name] > 1:
            name = f"{corpus.name}-{seen[corpus.name]}"
            clips = (replace(clip, speaker=name + clip.speaker[len(corpus.name) :]) for clip in corpus.clips)
            corpus = replace(corpus, name=name, clips=tuple(clips))
        named.append(corpus)
    return named


def _refuse_shared_files(corpora: Sequence[Corpus]) -> None:
    """Refuse a file that is there under two paths: a split would take it for recordings of two speakers."""
    # The layouts of two known corpora have no file name in common.
    if not any(corpus.name.partition("-")[0] in OWN for corpus in corpora):
        return
    seen: dict[str, str] = {}
    for corpus in corpora:
        for clip in corpus.clips:
            file = os.path.realpath(clip.path)
            if file in seen:
                raise DataError(f"{clip.path}: is in {seen[file]} and in {corpus.name}; keep it in one place")
            seen[file] = corpus.name


def _place(corpus: Corpus, label: str, labels: Sequence[str], mapping: Mapping[str, str]) -> str:
    """The new label of an old one, or ``drop``."""
    if label in mapping:
        if mapping[label] != DROP and mapping[label] not in labels:
            raise DataError(f"--map {label}={mapping[label]}: not one of the labels {', '.join(labels)}")
        return mapping[label]
    if label in labels:
        return label
    meaning = _SYNONYMS.get(label.lower(), label.lower())
    if meaning in labels:
        return meaning
    if meaning in _UNCOMMON:
        return DROP
    has = "no emotions" if corpus.labels == (NO_LABEL,) else f"the label {label!r}"
    raise DataError(
        f"{corpus.name} has {has}, which is none of {', '.join(labels)}; map it with --map {label}=LABEL "
        f"or --map {label}={DROP}"
    )


def _votes(
    votes: Sequence[float], old: Sequence[str], places: Mapping[str, str], new: Sequence[str]
) -> tuple[float, ...]:
    """Votes for the new labels; none where all were for labels that are left out."""
    if not votes:
        return ()
    sums = dict.fromkeys(new, 0.0)
    for label, share in zip(old, votes, strict=True):
        if places[label] != DROP:
            sums[places[label]] += share
    total = sum(sums.values())
    return tuple(share / total for share in sums.values()) if total > 0.0 else ()
