"""Streams in which a voice changes its emotion without a pause, or keeps it for long. No torch.

Clips of one speaker are cut to their speech (:func:`.long_streams.speech_span`) and joined end to end. Where two
emotions meet, a decider should cut; where one emotion goes on, it should not. Every utterance has a fixed pause around
it, so that each is judged for itself.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from stream_ser.errors import DataError
from stream_ser.events import Decision

from .corpora import Clip
from .long_streams import Placed, Stream, StreamConfig, load_noise, read_clip, speech_span
from .pcm16 import Wave

#: Around each joined utterance, seconds: longer than the pause that ends an utterance.
APART_S = 1.5
#: Over which one clip fades into the next, seconds: a hard cut clicks.
FADE_S = 0.02
#: A boundary counts as found where a cut lies no farther from it, seconds.
TOLERANCE_S = 0.5


@dataclass(frozen=True, slots=True)
class JoinConfig:
    """How utterances are joined.

    Attributes:
        pairs: utterances of two clips with different emotions, a speaker.
        singles: utterances of ``run`` clips with the same emotion, a speaker.
        run: clips of those.
        stream: noise and seed.
    """

    pairs: int = 12
    singles: int = 6
    run: int = 3
    stream: StreamConfig = field(default_factory=StreamConfig)


def joined(clips: Iterable[Clip], rate: int, config: JoinConfig) -> Iterator[Stream]:
    """A stream a speaker; clips of one utterance follow each other in ``Stream.placed`` without a gap.

    Args:
        clips: of any speakers; each needs enough of them.
        rate: Hz.
        config: how many utterances, and of what.

    Raises:
        AudioError: a clip that cannot be decoded.
        DataError: a speaker with too few clips.
    """
    groups: dict[str, list[Clip]] = {}
    for clip in clips:
        groups.setdefault(clip.speaker, []).append(clip)
    noise = load_noise(config.stream, rate)
    for speaker, own in sorted(groups.items()):
        yield _build(speaker, own, rate, config, noise)


def _build(speaker: str, clips: Sequence[Clip], rate: int, config: JoinConfig, noise: Wave | None) -> Stream:
    rng = np.random.default_rng((config.stream.seed, zlib.crc32(speaker.encode()), 2))
    parts: list[Wave] = [np.zeros(round(APART_S * rate), dtype=np.float32)]
    placed: list[Placed] = []
    position, energy, spoken = parts[0].size, 0.0, 0
    for group in _groups(clips, config, rng):
        waves = []
        for clip in group:
            wave = read_clip(clip, rate)
            first, last = speech_span(wave, rate)
            waves.append(wave[first:last])
        fade = round(FADE_S * rate)
        utterance, edges = waves[0], [0]
        for wave in waves[1:]:
            ramp = np.linspace(0.0, 1.0, fade, dtype=np.float32)
            middle = utterance[-fade:] * (1.0 - ramp) + wave[:fade] * ramp
            edges.append(utterance.size - fade // 2)
            utterance = np.concatenate((utterance[:-fade], middle, wave[fade:]))
        edges.append(utterance.size)
        for clip, first, last in zip(group, edges, edges[1:], strict=False):
            placed.append(Placed(clip, position + first, position + last, position + first, position + last))
        energy += float(np.square(utterance, dtype=np.float64).sum())
        spoken += utterance.size
        parts += [utterance, np.zeros(round(APART_S * rate), dtype=np.float32)]
        position += utterance.size + parts[-1].size
    samples = np.concatenate(parts)
    if noise is not None:
        power = float(np.mean(np.square(noise, dtype=np.float64)))
        gain = np.sqrt(energy / spoken / power) * 10.0 ** (-config.stream.snr_db / 20.0)
        samples += np.float32(gain) * np.resize(noise, samples.size)
        np.clip(samples, -1.0, 1.0, out=samples)
    return Stream(speaker, samples, rate, tuple(placed))


def _groups(clips: Sequence[Clip], config: JoinConfig, rng: np.random.Generator) -> list[list[Clip]]:
    by_label: dict[str, list[Clip]] = {}
    for index in rng.permutation(len(clips)):
        by_label.setdefault(clips[index].label, []).append(clips[index])
    labels = sorted(by_label)
    if len(labels) < 2 or max(map(len, by_label.values())) < config.run:
        raise DataError(f"speaker {clips[0].speaker} has too few clips to join; choose another one")
    groups = []
    for _ in range(config.pairs):
        first, second = rng.choice(len(labels), size=2, replace=False)
        groups.append([_one(by_label[labels[which]], rng) for which in (first, second)])
    long = [label for label in labels if len(by_label[label]) >= config.run]
    for number in range(config.singles):
        own = by_label[long[number % len(long)]]
        groups.append([own[index] for index in rng.choice(len(own), size=config.run, replace=False)])
    order = rng.permutation(len(groups))
    return [groups[index] for index in order]


def _one(clips: Sequence[Clip], rng: np.random.Generator) -> Clip:
    return clips[int(rng.integers(len(clips)))]


@dataclass(frozen=True)
class CutScores:
    """How well changes inside utterances are found.

    Attributes:
        pairs: utterances of two emotions ...
        recognised: ... of which both halves are recognised alone ...
        found: ... and of these, with a cut within :data:`TOLERANCE_S` of the change, as a share.
        both_right: ... and with both labels right on most of their half, too, as a share.
        found_all: of all pairs, with a cut within the tolerance, as a share.
        single_minutes: speech of one emotion ...
        false_cuts: ... and cuts in it.
        false_cuts_per_2_minutes: of such speech.
    """

    pairs: int
    recognised: int
    found: float
    both_right: float
    found_all: float
    single_minutes: float
    false_cuts: int
    false_cuts_per_2_minutes: float


def utterances_of(placed: Sequence[Placed]) -> list[list[Placed]]:
    """The clips of each utterance: those that follow each other without a gap."""
    groups: list[list[Placed]] = []
    for each in placed:
        if groups and groups[-1][-1].end == each.start:
            groups[-1].append(each)
        else:
            groups.append([each])
    return groups


def cuts_within(decisions: Sequence[Decision], start: int, end: int) -> list[int]:
    """Samples at which one utterance's label changes, strictly between two samples."""
    return [
        after.start
        for before, after in itertools.pairwise(decisions)
        if before.utterance == after.utterance
        and after.utterance
        and before.end == after.start
        and before.label != after.label
        and start < after.start < end
    ]


def score_cuts(heard: Sequence[tuple[Sequence[Placed], Sequence[Decision], Sequence[str]]], rate: int) -> CutScores:
    """Score finished timelines of joined streams.

    Args:
        heard: of each stream its clips, its decisions, and what is said of each clip alone.
        rate: Hz.

    Raises:
        DataError: no stream.
    """
    if not heard:
        raise DataError("cannot evaluate: no joined streams")
    pairs = recognised = found = both = found_all = false_cuts = 0
    single = 0
    tolerance = TOLERANCE_S * rate
    for placed, decisions, alone in heard:
        said = dict(zip(map(id, placed), alone, strict=True))
        for group in utterances_of(placed):
            cuts = cuts_within(decisions, group[0].start, group[-1].end)
            labels = {each.clip.label for each in group}
            if len(labels) == 1:
                single += group[-1].end - group[0].start
                false_cuts += len(cuts)
                continue
            pairs += 1
            hit = any(abs(cut - group[1].start) <= tolerance for cut in cuts)
            found_all += hit
            if all(said[id(each)] == each.clip.label for each in group):
                recognised += 1
                found += hit
                both += hit and all(_mostly(decisions, each) == each.clip.label for each in group)
    minutes = single / rate / 60.0
    return CutScores(
        pairs=pairs,
        recognised=recognised,
        found=found / max(recognised, 1),
        both_right=both / max(recognised, 1),
        found_all=found_all / max(pairs, 1),
        single_minutes=minutes,
        false_cuts=false_cuts,
        false_cuts_per_2_minutes=2.0 * false_cuts / max(minutes, 1e-9),
    )


def _mostly(decisions: Sequence[Decision], placed: Placed) -> str:
    samples: dict[str, int] = {}
    for decision in decisions:
        shared = min(decision.end, placed.end) - max(decision.start, placed.start)
        if shared > 0:
            samples[decision.label] = samples.get(decision.label, 0) + shared
    return max(samples, key=samples.__getitem__, default="")
