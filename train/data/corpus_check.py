"""What a corpus holds, and what is wrong with it: every clip is decoded."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_ser.audio.decode import AudioFile
from stream_ser.config import FeatureConfig
from stream_ser.errors import AudioError

from .corpora import PARTS, Clip, Corpus

#: Nothing louder than this (-60 dB of full scale) is silence: no corpus' quietest clip comes near it.
SILENCE_PEAK = 1e-3
#: Samples from here on count as clipped; lossy formats do not keep the exact full scale.
CLIPPED_LEVEL = 0.99
#: A clip with a larger share of such samples is remarked upon.
CLIPPED_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a clip.

    Attributes:
        clip: which one.
        what: ``unreadable``, ``damaged``, ``silence``, ``too short``, ``duplicate``, ``duplicate, other label``; or, no
            defect but worth knowing, ``clipped`` and ``sample rate``.
        detail: how much of it, or of what.
        defect: the clip should not be trained on as it is.
    """

    clip: Clip
    what: str
    detail: str
    defect: bool = True


@dataclass(frozen=True, slots=True)
class Sound:
    """What was heard of one clip.

    Attributes:
        clip: which one.
        samples: at the features' sample rate.
        rate: of the file, Hz.
        peak: full scale is 1.
        clipped: share of the samples at full scale.
        digest: equal only for the same samples.
        trouble: why it could not be decoded, or not to its end; empty otherwise.
    """

    clip: Clip
    samples: int = 0
    rate: int = 0
    peak: float = 0.0
    clipped: float = 0.0
    digest: bytes = b""
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A checked corpus.

    Attributes:
        corpus: as it was loaded, known defects left out.
        sounds: one a clip, in the corpus' order.
        findings: sorted by what they are, then by file.
        sample_rate: of :attr:`Sound.samples`, Hz.
    """

    corpus: Corpus
    sounds: tuple[Sound, ...]
    findings: tuple[Finding, ...]
    sample_rate: int

    @property
    def defects(self) -> tuple[Finding, ...]:
        """Findings that are defects."""
        return tuple(finding for finding in self.findings if finding.defect)

    def seconds(self, clips: Iterable[Clip] | None = None) -> float:
        """Length of some clips, by default of all."""
        wanted = None if clips is None else set(clips)
        return sum(s.samples for s in self.sounds if wanted is None or s.clip in wanted) / self.sample_rate

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        clips, lengths = self.corpus.clips, [sound.samples / self.sample_rate for sound in self.sounds]
        return {
            "corpus": self.corpus.name,
            "licence": self.corpus.licence,
            "clips": len(clips),
            "speakers": len({clip.speaker for clip in clips}),
            "seconds": round(sum(lengths), 3),
            "clip_seconds": {
                "shortest": round(min(lengths, default=0.0), 3),
                "median": round(float(np.median(lengths)), 3) if lengths else 0.0,
                "longest": round(max(lengths, default=0.0), 3),
            },
            "labels": {
                label: {"clips": len(own), "seconds": round(self.seconds(own), 3)} for label, own in self.by_label()
            },
            "parts": {part: count for part in PARTS if (count := sum(clip.part == part for clip in clips))},
            "folds": {fold: count for fold, count in sorted(Counter(c.fold for c in clips).items()) if fold},
            "with_text": sum(bool(clip.text) for clip in clips),
            "with_votes": sum(bool(clip.votes) for clip in clips),
            "sample_rates_hz": dict(Counter(sound.rate for sound in self.sounds if sound.rate).most_common()),
            "known_defects": [{"file": stem, "reason": reason} for stem, reason in self.corpus.dropped],
            "defects": [_as_dict(finding) for finding in self.findings if finding.defect],
            "remarks": [_as_dict(finding) for finding in self.findings if not finding.defect],
        }

    def by_label(self) -> list[tuple[str, list[Clip]]]:
        """Clips of each label, in the labels' order."""
        return [(label, [clip for clip in self.corpus.clips if clip.label == label]) for label in self.corpus.labels]


def check(
    corpora: Sequence[Corpus], advance: Callable[[], object] = lambda: None, features: FeatureConfig | None = None
) -> list[Report]:
    """Decode every clip, in threads, and find what is wrong. Duplicates are found across corpora.

    Args:
        corpora: what to check.
        advance: called once a clip, for a progress display.
        features: give the sample rate and the shortest usable length; by default the runtime's.
    """
    features = features or FeatureConfig()

    def hear_next(clip: Clip) -> Sound:
        sound = hear(clip, features.sample_rate)
        advance()
        return sound

    with ThreadPoolExecutor() as pool:
        heard = [tuple(pool.map(hear_next, corpus.clips)) for corpus in corpora]
    alike = defaultdict(list)
    for sound in (sound for sounds in heard for sound in sounds):
        if sound.samples and sound.peak >= SILENCE_PEAK:
            alike[sound.digest].append(sound.clip)
    reports = []
    for corpus, sounds in zip(corpora, heard, strict=True):
        findings = [f for s in sounds for f in _findings(s, features, [c for c in alike[s.digest] if c != s.clip])]
        findings += _odd_rates(sounds, features.sample_rate)
        findings.sort(key=lambda finding: (not finding.defect, finding.what, finding.clip.path))
        reports.append(Report(corpus, sounds, tuple(findings), features.sample_rate))
    return reports


def hear(clip: Clip, sample_rate: int) -> Sound:
    """Decode one clip; a file that cannot be decoded is a :class:`Sound` with a ``trouble``."""
    samples, clipped, peak, rate = 0, 0, 0.0, 0
    digest = hashlib.blake2b(digest_size=16)
    try:
        with AudioFile(clip.path, sample_rate, block_samples=sample_rate) as audio:
            rate = audio.source_rate
            for block in audio.blocks():
                level = np.abs(block)
                samples += len(block)
                clipped += int(np.count_nonzero(level >= CLIPPED_LEVEL))
                peak = max(peak, float(level.max()))
                digest.update(block.tobytes())
            trouble = audio.warning or ""
    except AudioError as error:
        return Sound(clip, rate=rate, trouble=str(error).removeprefix(f"{clip.path}: "))
    return Sound(clip, samples, rate, peak, clipped / max(samples, 1), digest.digest(), trouble)


def _findings(sound: Sound, features: FeatureConfig, same: Sequence[Clip]) -> list[Finding]:
    clip, found = sound.clip, []
    if not sound.samples:
        return [Finding(clip, "unreadable", sound.trouble or "no samples")]
    if sound.trouble:
        found.append(Finding(clip, "damaged", sound.trouble))
    if sound.samples < features.n_fft:
        length = f"{sound.samples} samples, a frame has {features.n_fft}"
        found.append(Finding(clip, "too short", length))
    if sound.peak < SILENCE_PEAK:
        level = f"peak {20 * np.log10(sound.peak):.0f} dB" if sound.peak else "digital silence"
        found.append(Finding(clip, "silence", level))
    if same:
        other = [copy for copy in same if copy.label != clip.label]
        names = ", ".join(f"{copy.path.stem} ({copy.label})" for copy in other or same)
        found.append(Finding(clip, "duplicate, other label" if other else "duplicate", f"same audio as {names}"))
    if sound.clipped >= CLIPPED_SHARE:
        found.append(Finding(clip, "clipped", f"{sound.clipped:.1%} of the samples at full scale", defect=False))
    return found


def _odd_rates(sounds: Sequence[Sound], sample_rate: int) -> list[Finding]:
    """Files below the features' rate, whose upper bands are empty, and those unlike the rest of their corpus."""
    rates = Counter(sound.rate for sound in sounds if sound.rate)
    usual = rates.most_common(1)[0][0] if rates else sample_rate
    return [
        Finding(
            sound.clip,
            "sample rate",
            f"{sound.rate} Hz, "
            + (f"others have {usual} Hz" if sound.rate != usual else f"bands above {usual // 2} Hz stay empty"),
            defect=False,
        )
        for sound in sounds
        if sound.rate and (sound.rate != usual or sound.rate < sample_rate)
    ]


def _as_dict(finding: Finding) -> dict[str, str]:
    clip = finding.clip
    return {"file": str(clip.path), "label": clip.label, "what": finding.what, "detail": finding.detail}
