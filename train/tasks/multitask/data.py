"""Clips with an emotion, a transcript or both: where they come from, and as spectrograms in memory."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stream_ser.config import FeatureConfig
from stream_ser.errors import DataError, TrainError
from stream_ser.features.log_mel import log_mel
from stream_ser.train.augment import AugmentConfig, Sounds, augment_wave, spec_augment, with_speeds
from stream_ser.train.data import splits
from stream_ser.train.data.corpora import EMOTIONS, NO_LABEL, Clip, Corpus, load, parse_data_option
from stream_ser.train.data.pcm16 import Waves, to_float32
from stream_ser.train.data.windows import band_statistics, read_waves
from stream_ser.train.losses.ctc import Vocabulary

#: Of an item without that label.
NO_EMOTION = -1
#: Halves of float32: a step of 0.008 at worst, below what any noise changes.
Spectrogram = NDArray[np.float16]
#: Batches among which clips are sorted by length, so that little is padded.
_POOL = 12
#: Of a clip. A batch of longer ones has fewer, so that it holds as many frames at most.
_USUAL_FRAMES = 500
#: Shorter sounds are no beginning of speech.
_SOUND_FRAMES = 5
#: Of the way from quiet to loud: a first word that is said softly is not to be missed.
_FAINT = 0.25


@dataclass(frozen=True)
class Item:
    """A clip and what is known of it.

    Attributes:
        clip: the recording.
        corpus: its name.
        emotion: index among the labels; :data:`NO_EMOTION` where it has none of them.
        text: normalised; empty where unknown.
        held_out: its sentence is not to be learnt.
    """

    clip: Clip
    corpus: str
    emotion: int
    text: str
    held_out: bool = False


@dataclass(frozen=True)
class Material:
    """Clips in parts without a common speaker.

    Attributes:
        train: to learn from.
        validation: looked at after each epoch.
        test: looked at once; of the corpora that come with such a part.
        labels: emotions.
        split: how the parts were made, in words.
        licences: what binds the weights, by corpus.
    """

    train: tuple[Item, ...]
    validation: tuple[Item, ...]
    test: tuple[Item, ...]
    labels: tuple[str, ...]
    split: str
    licences: dict[str, str]


def gather(
    data: Sequence[str], vocabulary: Vocabulary, held_out: Sequence[str], seed: int, validation_share: float
) -> Material:
    """Load corpora and split each one: by its own lists, or by speakers where it has no validation part.

    Drawn test speakers are as many as drawn validation speakers, where the corpus has no test part of its own.

    Emotions are the common six; a clip with another one keeps its transcript alone. A transcript with characters that
    the vocabulary lacks is none.

    Args:
        data: ``CORPUS=PATH`` each.
        vocabulary: that transcripts are spelt with.
        held_out: sentences that are not to be learnt.
        seed: of a split by speakers.
        validation_share: of the speakers, where they are drawn.

    Raises:
        DataError: an option, corpus or split that is not possible, no clip with a label, or a sentence nobody says.
    """
    corpora = [load(name, path) for name, path in parse_data_option(data)]
    wanted = {vocabulary.normalise(sentence) for sentence in held_out}
    said = {vocabulary.normalise(clip.text) for corpus in corpora for clip in corpus.clips}
    if unsaid := sorted(wanted - said):
        raise DataError(f"train.held_out: no clip says {unsaid[0]!r}; give sentences of the corpora")
    parts: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
    names = []
    for corpus in corpora:
        split = _split(corpus, seed, validation_share)
        names.append(f"{corpus.name}: {split.name}")
        for name, clips in (("train", split.train), ("validation", split.validation), ("test", split.test)):
            parts[name] += [_item(clip, corpus.name, vocabulary, wanted) for clip in clips]
    if not any(item.emotion != NO_EMOTION or item.text for item in parts["train"]):
        raise DataError("no training clip has an emotion or a transcript; give a corpus that has one, such as crema-d")
    train, validation, test = (tuple(parts[name]) for name in ("train", "validation", "test"))
    licences = {corpus.name: corpus.licence for corpus in corpora}
    return Material(train, validation, test, EMOTIONS, "; ".join(names), licences)


def _split(corpus: Corpus, seed: int, share: float) -> splits.Split:
    has = {clip.part for clip in corpus.clips}
    if {"train", "validation"} <= has and "" not in has:
        return splits.fixed([corpus])
    split = splits.by_speaker([corpus], seed, share)
    if split.test or len({clip.speaker for clip in split.train}) < 2:
        return split
    # The validation part chooses how much a language model says; what is reported needs speakers of its own.
    rest = splits.by_speaker([replace(corpus, clips=split.train)], seed + 1, share)
    held = len({clip.speaker for clip in rest.validation})
    return replace(split, train=rest.train, test=rest.validation, name=f"{split.name[:-1]}, {held} test speakers)")


def _item(clip: Clip, corpus: str, vocabulary: Vocabulary, held_out: set[str]) -> Item:
    text = vocabulary.normalise(clip.text)
    try:
        vocabulary.encode(text)
    except DataError:
        text = ""
    emotion = EMOTIONS.index(clip.label) if clip.label in EMOTIONS and clip.label != NO_LABEL else NO_EMOTION
    return Item(clip, corpus, emotion, text, bool(text) and text in held_out)


@dataclass(frozen=True)
class Heard:
    """Items with their spectrograms.

    Attributes:
        items: in order.
        copies: raw log-mels ``(mel, frames)`` of all items, one list a copy; all but the first augmented.
    """

    items: tuple[Item, ...]
    copies: tuple[list[Spectrogram], ...]


def hear(items: Sequence[Item], features: FeatureConfig, advance: Callable[[], object] | None = None) -> Heard:
    """Decode items as they are, for validation and test; ``advance`` is called once a clip."""
    waves = read_waves([item.clip for item in items], features, advance)
    return Heard(tuple(items), (_plain(waves, features),))


def hear_augmented(
    items: Sequence[Item],
    features: FeatureConfig,
    augment: AugmentConfig,
    copies: int,
    seed: int,
    advance: Callable[[], object] | None = None,
) -> tuple[Heard, NDArray[np.float32], NDArray[np.float32]]:
    """Decode items for training: as they are and augmented, once, for the processors are busy later.

    Args:
        items: the training part.
        features: the log-mel.
        augment: what is done to a copy, in the order of :func:`stream_ser.train.augment.augment_wave`; the speeds take
            turns.
        copies: of each clip, the first without any augmentation.
        seed: of the draws.
        advance: called once a clip.

    Returns:
        the items, and mean and standard deviation of each band over the clips as they are, ``(mel,)``.
    """
    waves = read_waves([item.clip for item in items], features, advance)
    mean, std = band_statistics(waves, features)
    sounds = Sounds.load(augment, features.sample_rate, seed)
    made = [_plain(waves, features)]
    for copy in range(1, copies):
        speed = augment.speeds[(copy - 1) % len(augment.speeds)]
        moved = with_speeds(waves, (speed,))[0]
        made.append([_augmented(wave, features, augment, (seed, copy, i), sounds) for i, wave in enumerate(moved)])
    return Heard(tuple(items), tuple(made)), mean, std


def _plain(waves: Waves, features: FeatureConfig) -> list[Spectrogram]:
    return [log_mel(to_float32(wave), features).astype(np.float16) for wave in waves]


def _augmented(
    wave: NDArray[np.int16], features: FeatureConfig, augment: AugmentConfig, seed: tuple[int, ...], sounds: Sounds
) -> Spectrogram:
    # A longer window takes the clip whole, with silence before it and after it.
    size = wave.size + int(augment.trail_s * features.sample_rate)
    rng = np.random.default_rng(seed)
    changed = augment_wave(to_float32(wave), size, augment, features.sample_rate, rng, sounds)
    return log_mel(changed, features).astype(np.float16)


def onset(log_mels: Spectrogram, share: float = 0.5) -> int:
    """First frame of sound: of :data:`_SOUND_FRAMES` in a row above ``share`` of the way, in dB, from quiet to loud."""
    level = np.log(np.exp(log_mels.astype(np.float64)).sum(axis=0))
    quiet, loud = np.percentile(level, (10, 95))
    above = level > quiet + share * (loud - quiet)
    runs = np.convolve(above, np.ones(min(_SOUND_FRAMES, above.size)), "valid") >= min(_SOUND_FRAMES, above.size)
    return int(runs.argmax())


def _least_steps(text: tuple[int, ...]) -> int:
    """Steps in which CTC can spell a text: twice a letter needs a step between."""
    return len(text) + sum(a == b for a, b in itertools.pairwise(text))


class Batch(NamedTuple):
    """Clips of about one length.

    Attributes:
        features: normalised log-mel ``(batch, mel, frames)``, zeros behind a clip's end; whole steps.
        steps: of each clip, ``(batch,)``.
        emotions: ``(batch,)``; :data:`NO_EMOTION` where unknown, or where two clips are joined.
        targets: classes of the characters, one clip after the other.
        target_lengths: ``(batch,)``; 0 where the text is unknown or too long for the clip.
        quiet: steps at a clip's beginning that spell nothing, ``(batch,)``.
        places: of the items, ``(batch,)``; of two that are joined, the first one's.
    """

    features: Tensor
    steps: Tensor
    emotions: Tensor
    targets: Tensor
    target_lengths: Tensor
    quiet: Tensor
    places: NDArray[np.int64]


class Batches:
    """Makes batches of some items.

    Args:
        heard: items and spectrograms.
        features: the log-mel.
        mean: per band, ``(mel,)``.
        std: per band, ``(mel,)``.
        vocabulary: that texts are spelt with.
        stride: frames of a step.
        size: clips a batch.
        hear_first: frames of sound that are heard before anything is spelt.
        longest_text: characters that two clips together may have.

    Raises:
        TrainError: there are no items.
    """

    def __init__(
        self,
        heard: Heard,
        features: FeatureConfig,
        mean: NDArray[np.float32],
        std: NDArray[np.float32],
        vocabulary: Vocabulary,
        stride: int,
        size: int,
        hear_first: int = 0,
        longest_text: int = sys.maxsize,
    ) -> None:
        if not heard.items:
            raise TrainError("there are no clips to make batches of")
        self.heard = heard
        self._floor = features.log_floor
        self._mean, self._std = (torch.from_numpy(values)[:, None] for values in (mean, std))
        self._texts = [() if item.held_out else vocabulary.encode(item.text) for item in heard.items]
        self._space = vocabulary.space
        self._stride = stride
        self._size = size
        self._hear_first = hear_first
        self._longest_text = longest_text
        self._onsets: dict[tuple[int, int], int] = {}

    def ordered(self) -> Iterator[Batch]:
        """Every item once as it is, shortest first: what is padded costs no result."""
        every = np.arange(len(self.heard.items))
        for rows in self._cut(every, np.zeros_like(every)):
            yield self._batch(rows, np.zeros_like(rows))

    def count(self, repeat: int) -> int:
        """Batches of :meth:`epoch`, up to what the draw of copies changes."""
        order = self._list(repeat)
        return len(self._cut(order, np.zeros_like(order)))

    def epoch(self, seed: tuple[int, ...], augment: AugmentConfig, repeat: int, joined: float = 0.0) -> Iterator[Batch]:
        """Shuffled and augmented, clips of like length together; all draws hang on the seed.

        Args:
            seed: of the draws.
            augment: what is done to a clip.
            repeat: how often a clip comes that has a transcript and no emotion.
            joined: share of the batches whose clips are joined in pairs.
        """
        rng = np.random.default_rng(seed)
        order = rng.permutation(self._list(repeat))
        copies = rng.integers(len(self.heard.copies), size=len(order))
        batches = []
        for first in range(0, len(order), _POOL * self._size):
            pool = slice(first, first + _POOL * self._size)
            batches += [first + rows for rows in self._cut(order[pool], copies[pool])]
        for place in rng.permutation(len(batches)):
            rows = batches[place]
            pairs = joined > 0.0 and rng.random() < joined
            yield self._batch(order[rows], copies[rows], augment, rng, pairs)

    def _cut(self, items: NDArray[np.int64], copies: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Places in ``items`` by batch: by length, and fewer of the long ones, for memory holds only so much."""
        lengths = np.asarray([self.heard.copies[c][i].shape[1] for i, c in zip(items, copies, strict=True)])
        batches: list[list[int]] = [[]]
        for place in np.argsort(lengths, kind="stable").tolist():
            last = batches[-1]
            if last and (len(last) == self._size or (len(last) + 1) * lengths[place] > self._size * _USUAL_FRAMES):
                batches.append([])
            batches[-1].append(place)
        return [np.asarray(batch, np.int64) for batch in batches]

    def _list(self, repeat: int) -> NDArray[np.int64]:
        times = [repeat if item.emotion == NO_EMOTION else 1 for item in self.heard.items]
        return np.repeat(np.arange(len(times)), times)

    def _batch(
        self,
        chosen: NDArray[np.int64],
        copies: NDArray[np.int64],
        augment: AugmentConfig | None = None,
        rng: np.random.Generator | None = None,
        pairs: bool = False,
    ) -> Batch:
        parts = []
        for item, copy in zip(chosen, copies, strict=True):
            part = self.heard.copies[copy][item]
            x = torch.from_numpy(part[:, : max(1, part.shape[1] // self._stride) * self._stride].astype(np.float32))
            if augment is not None and rng is not None:
                x = self._amplified(x, float(rng.uniform(-augment.gain_db, augment.gain_db)))
            x = (x - self._mean) / self._std
            if augment is not None and rng is not None:
                x = spec_augment(x[None], augment, rng)[0]
            parts.append(x)
        texts = [self._texts[item] for item in chosen]
        emotions = [self.heard.items[item].emotion for item in chosen]
        quiet = [self._quiet(item, copy) for item, copy in zip(chosen.tolist(), copies.tolist(), strict=True)]
        texts = [self._sayable(text, part) for text, part in zip(texts, parts, strict=True)]
        if pairs and rng is not None:
            twos = self._pairs(rng.permutation(len(parts)), texts)
            if any(len(two) > 1 for two in twos):
                parts = [torch.cat([parts[i] for i in two], dim=1) for two in twos]
                texts = [
                    self._sayable(self._behind([texts[i] for i in two]), x) for two, x in zip(twos, parts, strict=True)
                ]
                firsts = [two[0] for two in twos]
                quiet, chosen, emotions = [quiet[i] for i in firsts], chosen[firsts], [NO_EMOTION] * len(twos)
        steps = [-(-part.shape[1] // self._stride) for part in parts]
        features = torch.zeros(len(parts), len(self._mean), max(steps) * self._stride)
        for row, part in enumerate(parts):
            features[row, :, : part.shape[1]] = part
        quiet = [
            max(0, min(until, n - _least_steps(text))) if text else 0
            for until, text, n in zip(quiet, texts, steps, strict=True)
        ]
        return Batch(
            features,
            torch.tensor(steps),
            torch.tensor(emotions),
            torch.tensor([token for text in texts for token in text], dtype=torch.long),
            torch.tensor([len(text) for text in texts]),
            torch.tensor(quiet),
            np.asarray(chosen, np.int64),
        )

    def _sayable(self, text: tuple[int, ...], part: Tensor) -> tuple[int, ...]:
        """A text, or none where it cannot be said so fast: it would only give an infinite loss."""
        return text if _least_steps(text) <= -(-part.shape[1] // self._stride) else ()

    def _behind(self, texts: list[tuple[int, ...]]) -> tuple[int, ...]:
        """One text behind the other, a space between them."""
        space = () if self._space is None else (self._space,)
        joined = texts[0]
        for text in texts[1:]:
            joined = joined + space + text
        return joined

    def _pairs(self, order: NDArray[np.int64], texts: list[tuple[int, ...]]) -> list[list[int]]:
        """Rows two by two, as ``order`` has them; an odd one stays alone.

        All stay alone where one has no text, beside which nothing could be learnt, or where a pair's is too long: a
        batch of some pairs and many single clips would be padded to twice its size.
        """
        twos = [order[first : first + 2].tolist() for first in range(0, len(order), 2)]
        longest = max(len(self._behind([texts[i] for i in two])) for two in twos)
        if all(texts) and longest <= self._longest_text:
            return twos
        return [[row] for row in range(len(texts))]

    def _quiet(self, item: int, copy: int) -> int:
        """Steps of a copy before anything may be spelt."""
        if not self._hear_first:
            return 0
        place = item, copy
        if place not in self._onsets:
            self._onsets[place] = onset(self.heard.copies[copy][item], _FAINT)
        return (self._onsets[place] + self._hear_first) // self._stride

    def _amplified(self, log_mels: Tensor, gain_db: float) -> Tensor:
        """What the spectrogram of a louder or softer wave would be: the floor stays where it is."""
        power = (log_mels.exp() - self._floor).clamp_min_(0.0)
        return torch.log(power * 10.0 ** (gain_db / 10.0) + self._floor)
