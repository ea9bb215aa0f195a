"""Voice activity detection: the hysteresis on made-up probabilities, the network on real and generated sound."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import shared_data

from stream_ser.audio.decode import read_blocks
from stream_ser.config import VadConfig
from stream_ser.vad.detector import Voice, VoiceDetector, newest_utterance
from stream_ser.vad.silero import Hearing, Memory

RATE = 16_000
CHUNK = 512


class Script:
    """A network whose probability is the first sample of a loud chunk; it counts what it forgot."""

    def __init__(self) -> None:
        self.forgotten = 0

    def fresh(self) -> Memory:
        self.forgotten += 1
        return Memory(np.zeros(0, np.float32), np.zeros(0, np.float32))

    def hear(self, chunks: Sequence[np.ndarray], memories: Sequence[Memory]) -> list[Hearing]:
        assert [len(chunk) for chunk in chunks] == [CHUNK]
        return [Hearing(float(chunk[0]), memory, 0.0) for chunk, memory in zip(chunks, memories, strict=True)]


def scripted(probabilities: Iterable[float], **config: float) -> list[Voice]:
    samples = np.repeat(np.asarray(list(probabilities), dtype=np.float32), CHUNK)
    return VoiceDetector(RATE, VadConfig(**config), Script()).push(samples)


def shown(voices: list[Voice]) -> str:
    """``S`` speech, ``p`` a pause in it, ``.`` nobody."""
    return "".join("S" if v.voiced else "p" if v.speaking else "." for v in voices)


CHUNKS_S = CHUNK / RATE


def test_speech_begins_high_and_pauses_low() -> None:
    heard = scripted(
        [0.3, 0.6, 0.3, 0.3, 0.1, 0.3, 0.1, 0.1, 0.3],
        enter=0.5,
        leave=0.2,
        min_speech_s=0.0,
        min_silence_s=2 * CHUNKS_S,
    )
    assert shown(heard) == ".SSSpSp.."
    assert [v.end for v in heard] == [CHUNK * (i + 1) for i in range(9)]
    assert heard[1].probability == pytest.approx(0.6)


def test_a_click_is_no_speech() -> None:
    options = {"enter": 0.5, "leave": 0.2, "min_speech_s": 3 * CHUNKS_S, "min_silence_s": 2 * CHUNKS_S}
    assert shown(scripted([0.9, 0.9, 0.1, 0.9, 0.9, 0.1], **options)) == "......"
    assert shown(scripted([0.9, 0.3, 0.9, 0.9, 0.1], **options)) == "..SSp"


def test_a_whisper_is_made_louder_and_a_shout_is_left() -> None:
    class Ear(Script):
        def hear(self, chunks: Sequence[np.ndarray], memories: Sequence[Memory]) -> list[Hearing]:
            self.peaks.append(float(np.abs(chunks[0]).max()))
            return [Hearing(0.0, memories[0], 0.0)]

        def __init__(self) -> None:
            super().__init__()
            self.peaks: list[float] = []

    ear = Ear()
    detector = VoiceDetector(RATE, VadConfig(), ear)
    for level in (0.001, 0.5, 0.001, 2.0):
        detector.push(np.full(CHUNK, level, np.float32))
    # From -30 dBFS to -15; then the level is 0.5, and hardly falls in a chunk; then full scale.
    assert ear.peaks == pytest.approx([0.001 * 10**0.75 * 10 ** (0.096 / 20), 0.5, 0.001, 1.0], rel=1e-3)


def test_a_quiet_microphone_is_heard_as_well(speechlike) -> None:
    detector = VoiceDetector(RATE)
    loud = detector.push(speechlike(3.0, 1, level=0.3))
    detector.reset()
    quiet = detector.push(speechlike(3.0, 1, level=0.01))
    assert sum(v.speaking for v in quiet) >= 0.9 * sum(v.speaking for v in loud)


def test_digital_silence_is_not_asked_about_and_forgets() -> None:
    network = Script()
    detector = VoiceDetector(RATE, VadConfig(), network)
    detector.push(np.full(CHUNK, 0.9, np.float32))
    before = network.forgotten
    (voice,) = detector.push(np.zeros(CHUNK, np.float32))
    assert (voice.probability, network.forgotten) == (0.0, before + 1)


def test_reset_forgets_all() -> None:
    samples = np.repeat(np.array([0.9, 0.9, 0.9, 0.9, 0.9], np.float32), CHUNK)
    detector = VoiceDetector(RATE, VadConfig(), Script())
    first = detector.push(samples[:-100])
    detector.reset()
    assert detector.push(samples[:-100]) == first


def test_positions_do_not_overflow() -> None:
    detector = VoiceDetector(RATE, VadConfig(), Script())
    detector._end = 2**31 - CHUNK // 2
    (voice,) = detector.push(np.full(CHUNK, 0.5, np.float32))
    assert voice.end == 2**31 + CHUNK // 2


@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(0, 32_000), max_size=12), seed=st.integers(0, 3))
def test_any_split_gives_the_same_probabilities(speechlike, cuts, seed) -> None:
    samples = speechlike(2.0, seed)
    samples[12_000:14_000] = 0.0
    detector = VoiceDetector(RATE)
    whole = detector.push(samples)
    detector.reset()
    split = [v for part in np.split(samples, sorted(cuts)) for v in detector.push(part)]
    assert split == whole


def test_generated_speech_is_speech_and_noise_is_not(speechlike) -> None:
    rng = np.random.default_rng(0)
    time_s = np.arange(48_000) / RATE
    others = {
        "noise": 0.1 * rng.standard_normal(48_000),
        "hum": 0.3 * np.sin(2 * np.pi * 50.0 * time_s),
        "tone": 0.3 * np.sin(2 * np.pi * 440.0 * time_s),
        "silence": np.zeros(48_000),
    }
    detector = VoiceDetector(RATE)
    for name, samples in others.items():
        detector.reset()
        assert not any(v.speaking for v in detector.push(samples.astype(np.float32))), name
    for seed in range(3):
        detector.reset()
        assert np.mean([v.speaking for v in detector.push(speechlike(3.0, seed))]) > 0.8


def heard_in(detector: VoiceDetector, path: Path) -> float:
    """Share of a file in which somebody speaks."""
    detector.reset()
    voices = [v for block in read_blocks(path) for v in detector.push(block)]
    return float(np.mean([v.speaking for v in voices]))


def test_real_emotional_speech_is_speech(crema_d) -> None:
    """Of every emotion and many actors of the training part; the one digital silence is a known defect."""
    files = sorted((crema_d / "AudioWAV").glob("*"))[:: 5_890 // 60]
    detector = VoiceDetector(RATE)
    shares = {path.stem: heard_in(detector, path) for path in files if "1076_MTI_SAD" not in path.stem}
    assert len({name.split("_")[2] for name in shares}) == 6
    assert sum(share == 0.0 for share in shares.values()) <= 1
    assert np.mean(list(shares.values())) > 0.6


def test_real_noise_is_no_speech() -> None:
    folder = shared_data("esc-50")
    if folder is None:
        pytest.skip("ESC-50 is not at ../shared/data/esc-50")
    with (folder / "esc50.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["category"] in ("rain", "helicopter", "dog", "siren")]
    detector = VoiceDetector(RATE)
    paths = [(folder / "audio" / row["filename"]).with_suffix(".ogg") for row in itertools.islice(rows, 0, None, 8)]
    assert len(paths) == 20
    assert np.mean([heard_in(detector, path) for path in paths]) < 0.1


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="leave <= enter"):
        VadConfig(enter=0.2, leave=0.3)
    with pytest.raises(ValueError, match="negative"):
        VadConfig(min_silence_s=-1.0)


def flags(text: str) -> tuple[np.ndarray, np.ndarray]:
    """``v`` voiced, ``p`` pausing, ``.`` nobody speaks; a frame each."""
    return np.array([c == "v" for c in text]), np.array([c != "." for c in text])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("....", None),
        ("vvpv", (0, 0, 4)),
        ("..vvpp", (0, 2, 4)),
        ("vpp..vvp", (3, 5, 7)),
        ("vpp..vvpp..", (3, 5, 7)),
        ("pp..vp.vv", (6, 7, 9)),
        ("ppp..", None),
    ],
)
def test_the_newest_utterance_is_told_from_those_before(text, found) -> None:
    utterance = newest_utterance(*flags(text))
    assert (utterance and (utterance.begin, utterance.first, utterance.end)) == found
