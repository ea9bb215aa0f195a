"""How a model holds up when the sound is not the studio's, through the very pipeline of ``stream-ser file``.

``python -m stream_ser.train.experiments.robustness MODEL... --data crema-d=PATH --out results/robustness.json``

Every disturbance acts on whole decoded clips, draws from a generator that the seed, the condition and the clip's
place fix, and ends in what a 16-bit sound card can hold: samples beyond full scale are clipped, and their share is
told. ``clean`` alone is left as decoded, so that it equals ``stream-ser evaluate``.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile
import soxr
import torch
import torchaudio.functional as audio
from numpy.typing import NDArray

from stream_ser.audio.decode import read_blocks
from stream_ser.errors import DataError
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime.engine import Engine, load
from stream_ser.train.augment import coloured_noise
from stream_ser.train.data import corpora
from stream_ser.train.data.corpora import Clip
from stream_ser.train.data.labels import load_corpora
from stream_ser.train.metrics import score

from .command import Command, make_parent, print_table, progress_bar, write_json

Wave = NDArray[np.float32]
#: ``(time,)`` samples, their rate in Hz and the source of randomness, to ``(time,)`` samples.
Transform = Callable[[Wave, int, np.random.Generator], Wave]

TELEPHONE_RATE_HZ = 8_000
GAINS_DB = (-20.0, -10.0, 10.0, 20.0)
SNRS_DB = (20.0, 10.0, 5.0, 0.0)
#: Classes of ESC-50 that people make; all others are noise.
ESC50_HUMAN = frozenset(
    (
        "crying_baby",
        "sneezing",
        "clapping",
        "breathing",
        "coughing",
        "footsteps",
        "laughing",
        "brushing_teeth",
        "snoring",
        "drinking_sipping",
    )
)
#: The fold of ESC-50 from which noise is taken: the others may serve as training noise.
NOISE_FOLD = 5


def gain(decibels: float) -> Transform:
    """A louder or softer recording."""
    return lambda wave, rate, rng: wave * np.float32(10.0 ** (decibels / 20.0))


def mix(wave: Wave, noise: Wave, snr_db: float) -> Wave:
    """Add noise so that the ratio of the whole clips' energies is ``snr_db``; silence on either side stays as it is."""
    signal, disturbance = (float(np.square(part, dtype=np.float64).sum()) for part in (wave, noise))
    if not signal or not disturbance:
        return wave
    scaled: Wave = noise * np.float32(np.sqrt(signal / disturbance) * 10.0 ** (-snr_db / 20.0))
    return wave + scaled


def coloured(exponent: float, snr_db: float) -> Transform:
    """Stationary Gaussian noise with power ``1 / f**exponent``: 0 is white, 1 is pink."""
    return lambda wave, rate, rng: mix(wave, coloured_noise(wave.size, exponent, rng), snr_db)


def recorded(noises: Sequence[Wave], snr_db: float) -> Transform:
    """A recorded noise, drawn, whose loudest sample falls anywhere in the clip; one shorter than the clip repeats."""

    def apply(wave: Wave, rate: int, rng: np.random.Generator) -> Wave:
        noise = noises[int(rng.integers(len(noises)))]
        # Many recordings are one short sound and then silence: a place drawn at random would often hold nothing.
        shift = int(rng.integers(wave.size)) - int(np.abs(noise).argmax())
        return mix(wave, np.resize(np.roll(noise, shift), wave.size), snr_db)

    return apply


def _fit(wave: NDArray[np.floating], size: int) -> Wave:
    """Cut, or filled up with zeros: a conversion of the rate may change the length by a sample."""
    fitted = np.zeros(size, dtype=np.float32)
    fitted[: wave.size] = wave[:size]
    return fitted


def telephone(wave: Wave, rate: int, rng: np.random.Generator) -> Wave:
    """300-3400 Hz at 8 kHz: fourth-order Butterworth flanks (two biquads each), then back to ``rate``."""
    narrow = torch.from_numpy(soxr.resample(wave, rate, TELEPHONE_RATE_HZ).astype(np.float64))
    for quality in (0.5412, 1.3066):
        narrow = audio.highpass_biquad(narrow, TELEPHONE_RATE_HZ, 300.0, quality)
        narrow = audio.lowpass_biquad(narrow, TELEPHONE_RATE_HZ, 3_400.0, quality)
    return _fit(soxr.resample(narrow.numpy(), TELEPHONE_RATE_HZ, rate), wave.size)


def mu_law(wave: Wave, rate: int, rng: np.random.Generator) -> Wave:
    """8 bit mu-law at 8 kHz (ITU-T G.711) and back."""
    with io.BytesIO() as file:
        narrow = np.clip(soxr.resample(wave, rate, TELEPHONE_RATE_HZ), -1.0, 1.0)
        soundfile.write(file, narrow, TELEPHONE_RATE_HZ, format="WAV", subtype="ULAW")
        file.seek(0)
        heard, _ = soundfile.read(file, dtype="float32")
    return _fit(soxr.resample(heard, TELEPHONE_RATE_HZ, rate), wave.size)


def reverberation(rt60_s: float, direct_db: float) -> Transform:
    """A synthetic room: noise that decays by 60 dB in ``rt60_s`` (Polack 1988), 2.5 ms behind the direct sound.

    Args:
        rt60_s: reverberation time.
        direct_db: energy of the direct sound over that of the room's answer.
    """

    def apply(wave: Wave, rate: int, rng: np.random.Generator) -> Wave:
        delay, length = round(0.0025 * rate), round(rt60_s * rate)
        tail = rng.standard_normal(length) * 10.0 ** (-3.0 * np.arange(length) / length)
        room = np.zeros(delay + length)
        room[delay:] = tail * np.sqrt(10.0 ** (-direct_db / 10.0) / np.square(tail).sum())
        room[0] = 1.0
        wet = audio.fftconvolve(torch.from_numpy(wave.astype(np.float64)), torch.from_numpy(room))
        return _fit(wet.numpy(), wave.size)

    return apply


def conditions(noises: Sequence[Wave] = ()) -> dict[str, Transform | None]:
    """All conditions by name; those with recorded noise only where there is some. None leaves a clip as it is."""
    found: dict[str, Transform | None] = {"clean": None}
    found |= {f"gain {level:+.0f} dB": gain(level) for level in GAINS_DB}
    for name, exponent in (("white", 0.0), ("pink", 1.0)):
        found |= {f"{name} noise {snr:.0f} dB": coloured(exponent, snr) for snr in SNRS_DB}
    if noises:
        found |= {f"recorded noise {snr:.0f} dB": recorded(noises, snr) for snr in SNRS_DB}
    return found | {
        "telephone 300-3400 Hz": telephone,
        "mu-law 8 kHz": mu_law,
        "reverberation 0.3 s": reverberation(0.3, direct_db=5.0),
    }


def as_recorded(wave: Wave) -> tuple[Wave, float]:
    """What 16 bits hold of ``wave``, and the share of its samples that were beyond full scale."""
    steps = np.round(wave.astype(np.float64) * 32_768.0)
    held = np.clip(steps, -32_768, 32_767)
    return (held / 32_768.0).astype(np.float32), float(np.mean(steps != held))


@dataclass(frozen=True)
class Result:
    """Scores of one model under one condition.

    Attributes:
        condition: name.
        uar: unweighted average recall.
        wa: accuracy.
        f1: macro F1.
        ece: expected calibration error, 15 bins.
        uar_change: UAR minus that of the clean clips.
        silent: clips in which the runtime heard nobody; they count as wrong.
        clipped: share of the samples that were clipped.
    """

    condition: str
    uar: float
    wa: float
    f1: float
    ece: float
    uar_change: float
    silent: int
    clipped: float


def measure(
    engine: Engine,
    clips: Sequence[Clip],
    waves: Sequence[Wave],
    chosen: Mapping[str, Transform | None],
    seed: int = 0,
    advance: Callable[[], object] | None = None,
) -> Iterator[Result]:
    """Run ``engine`` over ``waves`` under each condition; changes are against the first one.

    Args:
        engine: a loaded model.
        clips: give the labels.
        waves: their samples at the model's rate.
        chosen: transforms by name, ``clean`` first.
        seed: fixes every draw; a condition's draws do not depend on which others there are.
        advance: called once a clip and condition.

    Raises:
        DataError: no clips, or a label that the model does not have.
    """
    labels, rate = engine.card.labels, engine.card.features.sample_rate
    unknown = sorted({clip.label for clip in clips} - set(labels))
    if unknown or not clips:
        problem = f"label {unknown[0]!r} is not one of the model's ({', '.join(labels)})" if unknown else "no clips"
        raise DataError(f"cannot evaluate: {problem}")
    truth = np.asarray([labels.index(clip.label) for clip in clips], dtype=np.int64)
    recognizer = Recognizer(engine)
    reference: float | None = None
    for name, transform in chosen.items():
        probabilities = np.full((len(clips), len(labels)), 1.0 / len(labels))
        silent, clipped = 0, 0.0
        for row, wave in enumerate(waves):
            heard = wave
            if transform is not None:
                rng = np.random.default_rng((seed, zlib.crc32(name.encode()), row))
                heard, share = as_recorded(transform(wave, rate, rng))
                clipped += share / len(waves)
            recognizer.reset()
            recognizer.push(heard)
            recognizer.flush()
            summary = recognizer.summary()
            if summary.probabilities:
                probabilities[row] = summary.probabilities
            else:
                silent += 1
            if advance is not None:
                advance()
        scores = score(probabilities, truth)
        reference = scores.uar if reference is None else reference
        change = scores.uar - reference
        yield Result(name, scores.uar, scores.wa, scores.f1, scores.ece, change, silent, clipped)


def read(clips: Sequence[Clip], rate: int) -> list[Wave]:
    """Decode clips to mono at ``rate``.

    Raises:
        AudioError: a clip that cannot be decoded.
    """
    return [np.concatenate(list(read_blocks(clip.path, rate))) for clip in clips]


def noise_clips(option: str) -> list[Clip]:
    """The recordings of ``esc-50=PATH`` that no human makes, of the fold that is kept for tests."""
    (pair,) = corpora.parse_data_option([option])
    corpus = corpora.load(*pair)
    if corpus.name != "esc-50":
        raise DataError(f"--noise {option!r}: expected esc-50=PATH")
    return [clip for clip in corpus.clips if clip.fold == NOISE_FOLD and clip.label not in ESC50_HUMAN]


@click.command(cls=Command)
@click.argument("models", nargs=-1, required=True, metavar="NAME|FILE...")
@click.option("--data", required=True, metavar="CORPUS=PATH", help="Corpus, such as crema-d=PATH.")
@click.option("--part", default="validation", show_default=True, help="Part of the corpus' fixed list.")
@click.option("--noise", metavar="esc-50=PATH", help="Add recorded noise: ESC-50's non-human sounds of fold 5.")
@click.option("--only", multiple=True, metavar="TEXT", help="Only clean and the conditions whose name holds TEXT.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Fixes every draw.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Results, as JSON.")
def main(
    models: tuple[str, ...], data: str, part: str, noise: str | None, only: tuple[str, ...], seed: int, out: Path
) -> None:
    """Measure ONNX models on disturbed clips, through the pipeline of `stream-ser file`."""
    make_parent(out)
    noises = noise_clips(noise) if noise else []
    content: dict[str, Any] = {"protocol": "", "models": {}}
    for model, engine in [(model, load(model, "cpu")) for model in models]:
        rate = engine.card.features.sample_rate
        (corpus,) = load_corpora([data], engine.card.labels)
        clips = [clip for clip in corpus.clips if clip.part == part]
        if not clips:
            raise DataError(f"{corpus.name} has no clip in the {part} part; choose another --part")
        speakers = len({clip.speaker for clip in clips})
        protocol = f"{corpus.name}, {part} part, {speakers} speakers, {len(clips)} clips; ONNX on the CPU, seed {seed}"
        content["protocol"] = protocol
        everything = conditions(read(noises, rate))
        chosen = {n: t for n, t in everything.items() if t is None or not only or any(text in n for text in only)}
        results = content["models"][model] = []
        with progress_bar(model, len(clips) * len(chosen)) as advance:
            for result in measure(engine, clips, read(clips, rate), chosen, seed, advance):
                results.append(asdict(result))
                write_json(out, content)
        print_table(f"{model}: {protocol}", HEADER, [_row(result) for result in results])


HEADER = ("condition", "UAR", "change", "WA", "F1", "ECE", "silent", "clipped")


def _row(result: dict[str, Any]) -> list[str]:
    scores = [f"{result[name]:.4f}" for name in ("uar", "wa", "f1", "ece")]
    scores.insert(1, f"{result['uar_change']:+.4f}")
    return [result["condition"], *scores, str(result["silent"]), f"{100.0 * result['clipped']:.2f} %"]


if __name__ == "__main__":
    main()
