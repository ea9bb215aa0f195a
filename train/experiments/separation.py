"""How well separators do, beside what is possible and what others do: two voices, noise, emotion, speed.

``python -m stream_ser.train.experiments.separation two NAME|FILE... --mixtures SET --out results/separation/two.json``

``SET`` is written by ``stream-ser data mixtures``; the other commands draw from the held-out part of a corpus, as
``stream-ser train separator`` holds it out with the same seed. Separators are ONNX files, run as in the product.
"""

from __future__ import annotations

import itertools
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
import torch
from numpy.typing import NDArray

from stream_ser.errors import DataError, TrainError
from stream_ser.models.separator import STFTBasis, frame_sizes
from stream_ser.runtime.engine import load
from stream_ser.separation.separator import Separator, SeparatorStream
from stream_ser.train.augment import coloured_noise
from stream_ser.train.data.corpora import load as load_corpus
from stream_ser.train.data.corpora import parse_data_option
from stream_ser.train.data.labels import load_corpora
from stream_ser.train.tasks.separation import mixture_folder
from stream_ser.train.tasks.separation.config import MixtureConfig
from stream_ser.train.tasks.separation.metrics import si_sdr, si_snr
from stream_ser.train.tasks.separation.mixtures import draw_many, load_pools
from stream_ser.train.tasks.separation.task import in_order

from . import robustness
from .command import Command, make_parent, print_table, progress_bar, write_json

Wave = NDArray[np.float32]
#: ``(time,)`` mixture and ``(sources, time)`` truth, which only controls look at, to ``(sources, time)``.
Method = Callable[[Wave, Wave], Wave]

SNRS_DB = (-5.0, 0.0, 5.0, 10.0, 15.0)
EMOTION_SNRS_DB = (10.0, 5.0, 0.0, -5.0)
#: Upper ends of the shares of a mixture's sounding time in which both voices sound.
OVERLAPS = (0.25, 0.5, 0.75, 1.0)
#: A voice sounds where its level is above its loudest frame's by this.
_SOUNDING_DB = -30.0
_FRAME_S = 0.02
_HOPS = 16


def separated(separator: Separator, wave: Wave, rate: int) -> Wave:
    """Sources ``(sources, time)`` of ``(time,)``, as the product gives them at that rate."""
    stream = SeparatorStream(separator, rate, _HOPS)
    return np.concatenate([stream.push(wave), stream.flush()], axis=1)


def separate_by(separator: Separator, rate: int) -> Method:
    """A separator as a method."""
    return lambda mixture, truth: separated(separator, mixture, rate)


def unprocessed(mixture: Wave, truth: Wave) -> Wave:
    """The mixture for each source."""
    return np.broadcast_to(mixture, truth.shape)


def best_mask(rate: int) -> Method:
    """The most that masks between 0 and 1 on frames of 32 ms can do: of each bin the best, made from the truth.

    The phase-sensitive mask, cut to that range (Erdogan et al. 2015).
    """
    window, _ = frame_sizes(rate)
    hop = window // 2
    basis = STFTBasis(window, hop)

    def frames(wave: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(wave, (hop, hop + -wave.shape[-1] % hop))
        return padded.unfold(-1, window, hop)

    def method(mixture: Wave, truth: Wave) -> Wave:
        spectrum = frames(torch.from_numpy(mixture)[None]) @ basis.analysis
        parts = frames(torch.from_numpy(truth)) @ basis.analysis
        mixed, sources = (torch.complex(*value.chunk(2, dim=-1)) for value in (spectrum, parts))
        masks = (sources / (mixed + 1e-12)).real.clamp(0.0, 1.0)
        out = basis.decode(spectrum, masks.transpose(0, 1)[None])[0].transpose(0, 1)
        # Frames overlap by half: the second half of one lies over the first half of the next.
        summed = out[..., :-1, hop:] + out[..., 1:, :hop]
        return summed.flatten(1)[:, : mixture.size].numpy()

    return method


def spectral_gating(rate: int, *, stationary: bool) -> Method:
    """What the library ``noisereduce`` makes of noise (Sainburg et al. 2020).

    Raises:
        TrainError: it is not installed.
    """
    try:
        import noisereduce
    except ModuleNotFoundError:
        raise TrainError("noisereduce is missing: pip install 'stream-ser[dev]', or --no-gating") from None
    return lambda mixture, truth: np.asarray(
        noisereduce.reduce_noise(y=mixture, sr=rate, stationary=stationary), np.float32
    )[None]


def overlap(sources: Wave, rate: int) -> float:
    """Share of the time in which anybody sounds that all of ``(sources, time)`` sound in."""
    size = round(_FRAME_S * rate)
    blocks = sources[:, : sources.shape[1] // size * size].reshape(len(sources), -1, size)
    power = np.square(blocks, dtype=np.float64).mean(axis=-1)
    sounds = power > power.max(axis=1, keepdims=True) * 10.0 ** (_SOUNDING_DB / 10.0)
    return float(sounds.all(axis=0).sum() / max(1, sounds.any(axis=0).sum()))


def score(method: Method, mixture: Wave, truth: Wave) -> dict[str, float]:
    """SI-SNR and SI-SDR, dB, mean over the sources in their best order; and how much above the mixture's own.

    Raises:
        DataError: the method gives another number of sources.
    """
    estimate = np.array(method(mixture, truth), np.float32)
    if estimate.shape != truth.shape:
        raise DataError(
            f"a separator gives {len(estimate)} sources where there are {len(truth)}; choose one that fits the mixtures"
        )
    target = torch.from_numpy(np.array(truth, np.float32))[None]
    found = in_order(torch.from_numpy(estimate)[None], target, permute=len(truth) > 1)
    before = torch.from_numpy(np.array(mixture, np.float32)).expand_as(target)
    values: dict[str, float] = {}
    for name, metric in (("si_snr", si_snr), ("si_sdr", si_sdr)):
        after = float(metric(found, target).mean())
        values |= {f"{name}_db": after, f"{name}i_db": after - float(metric(before, target).mean())}
    return values


def mean(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each value, and how many there are."""
    return {name: float(np.mean([one[name] for one in scores])) for name in scores[0]} | {"mixtures": len(scores)}


def _row(name: str, values: Mapping[str, float]) -> list[str]:
    return [name, *(f"{values[key]:.2f}" for key in ("si_snr_db", "si_snri_db", "si_sdri_db")), f"{values['mixtures']}"]


HEADER = ("method", "SI-SNR", "SI-SNRi", "SI-SDRi", "mixtures")


@click.group()
def main() -> None:
    """Measure separators."""


_models = click.argument("models", nargs=-1, required=True, metavar="NAME|FILE...")
_out = click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Results, as JSON.")
_seed = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of parts and draws.")


@main.command(cls=Command)
@_models
@click.option("--mixtures", type=click.Path(path_type=Path), required=True, help="A set of 'stream-ser data mixtures'.")
@_out
def two(models: tuple[str, ...], mixtures: Path, out: Path) -> None:
    """Voices that speak at the same time: a set on disk, by the share of time in which they do."""
    make_parent(out)
    whole = mixture_folder.read(mixtures)
    rate = whole.sample_rate
    methods: dict[str, Method] = {"mixture": unprocessed}
    methods |= {name: separate_by(Separator(name), rate) for name in models}
    methods["best mask"] = best_mask(rate)
    shares = np.array([overlap(sources, rate) for sources in whole.sources])
    bounds = (-np.inf, *OVERLAPS)
    content: dict[str, Any] = {
        "protocol": f"{whole.folder.name}: {len(whole.names)} mixtures of {whole.sources.shape[1]} voices, "
        f"{whole.mixtures.shape[1] / rate:g} s at {rate} Hz; ONNX on the CPU",
        "methods": {},
    }
    for name, method in methods.items():
        with progress_bar(name, len(whole.names)) as advance:
            scores = []
            for mixture, truth in zip(whole.mixtures, whole.sources, strict=True):
                scores.append(score(method, mixture, truth))
                advance()
        found = content["methods"][name] = {"all": mean(scores)}
        for low, high in itertools.pairwise(bounds):
            if chosen := [one for one, share in zip(scores, shares, strict=True) if low < share <= high]:
                found[f"overlap up to {high:.0%}"] = mean(chosen)
        write_json(out, content)
    for part in content["methods"]["mixture"]:
        rows = [_row(name, parts[part]) for name, parts in content["methods"].items()]
        print_table(f"{content['protocol']}; {part}", HEADER, rows)


@main.command(cls=Command)
@_models
@click.option("--data", required=True, metavar="CORPUS=PATH", help="With speakers, such as librispeech=PATH.")
@click.option("--noise", required=True, metavar="generated|PATH|CORPUS=PATH", help="Such as esc-50=PATH.")
@click.option("--sets", type=click.IntRange(min=1), default=60, show_default=True, help="Mixtures at each level.")
@click.option("--rate", type=click.Choice(["8000", "16000"]), default="16000", show_default=True, help="Hz.")
@click.option("--gating/--no-gating", default=True, help="Beside the library noisereduce.")
@_seed
@_out
def noise(
    models: tuple[str, ...], data: str, noise: str, sets: int, rate: str, gating: bool, seed: int, out: Path
) -> None:
    """Speech in noise, held-out speakers and noises, from -5 to 15 dB."""
    make_parent(out)
    corpus = load_corpus(*parse_data_option([data])[0])
    kind: Literal["generated", "recorded"] = "generated" if noise == "generated" else "recorded"
    config = MixtureConfig(sample_rate=int(rate), speakers=1, noise=kind)
    pool = load_pools([corpus], noise, config.sample_rate, seed, ("test",))["test"]
    methods: dict[str, Method] = {"mixture": unprocessed}
    if gating:
        methods["noisereduce"] = spectral_gating(config.sample_rate, stationary=False)
        methods["noisereduce, stationary"] = spectral_gating(config.sample_rate, stationary=True)
    methods |= {name: separate_by(Separator(name), config.sample_rate) for name in models}
    methods["best mask"] = best_mask(config.sample_rate)
    content: dict[str, Any] = {
        "protocol": f"{corpus.name}, {len(pool.voices)} held-out speakers, noise {noise.partition('=')[0]}, {sets} "
        f"mixtures of {config.duration_s:g} s at {rate} Hz a level, seed {seed}; ONNX on the CPU",
        "methods": {name: {} for name in methods},
    }
    with progress_bar("levels", len(SNRS_DB)) as advance:
        for snr_db in SNRS_DB:
            drawn = list(draw_many(pool, replace(config, snr_db=(snr_db, snr_db)), seed, sets))
            for name, method in methods.items():
                scores = [score(method, one.mixture, one.sources) for one in drawn]
                content["methods"][name][f"{snr_db:g} dB"] = mean(scores)
            write_json(out, content)
            advance()
    levels = [f"{snr_db:g} dB" for snr_db in SNRS_DB]
    for key, title in (("si_snr_db", "SI-SNR, dB"), ("si_snri_db", "SI-SNRi, dB")):
        rows = [[name, *(f"{found[level][key]:.1f}" for level in levels)] for name, found in content["methods"].items()]
        print_table(f"{title}; {content['protocol']}", ("method", *levels), rows)


def conditions(
    waves: Sequence[Wave], speakers: Sequence[str], noises: Sequence[Wave], rate: int, seed: int,
    separator: Separator | None, enhancer: Separator | None,
) -> dict[str, robustness.Transform | None]:  # fmt: skip
    """What happens to a clip, by name; a clip meets the same noise and the same other voice, processed or not.

    Args:
        waves: of all clips, the other voices.
        speakers: of each clip.
        noises: recordings; none for coloured noise.
        rate: Hz.
        seed: of the draws.
        separator: of two voices. Which of its two streams is the clip's is known here: the closer one by SI-SNR.
        enhancer: of one voice.
    """
    found: dict[str, robustness.Transform | None] = {"clean": None}
    owner = {zlib.crc32(wave.tobytes()): speaker for wave, speaker in zip(waves, speakers, strict=True)}

    def rng_of(wave: Wave) -> np.random.Generator:
        return np.random.default_rng((seed, zlib.crc32(wave.tobytes())))

    def noisy(snr_db: float) -> robustness.Transform:
        def apply(wave: Wave, rate: int, rng: np.random.Generator) -> Wave:
            rng = rng_of(wave)
            if noises:
                return robustness.recorded(noises, snr_db)(wave, rate, rng)
            return robustness.mix(wave, coloured_noise(wave.size, 1.0, rng), snr_db)

        return apply

    def with_another(wave: Wave, rate: int, rng: np.random.Generator) -> Wave:
        rng, mine = rng_of(wave), owner[zlib.crc32(wave.tobytes())]
        others = [index for index, speaker in enumerate(speakers) if speaker != mine]
        return robustness.mix(wave, np.resize(waves[others[int(rng.integers(len(others)))]], wave.size), 0.0)

    def enhanced(change: robustness.Transform) -> robustness.Transform:
        assert enhancer is not None
        return lambda wave, rate, rng: separated(enhancer, change(wave, rate, rng), rate)[0]

    def apart(wave: Wave, rate: int, rng: np.random.Generator) -> Wave:
        assert separator is not None
        sources = separated(separator, with_another(wave, rate, rng), rate)
        target = torch.from_numpy(wave).expand(len(sources), -1)
        nearest: Wave = sources[int(si_snr(torch.from_numpy(sources), target).argmax())]
        return nearest

    if enhancer is not None:
        found["clean, enhanced"] = enhanced(lambda wave, rate, rng: wave)
    for snr_db in EMOTION_SNRS_DB:
        found[f"noise {snr_db:g} dB"] = noisy(snr_db)
        if enhancer is not None:
            found[f"noise {snr_db:g} dB, enhanced"] = enhanced(noisy(snr_db))
    found["another voice 0 dB"] = with_another
    if separator is not None:
        found["another voice 0 dB, separated"] = apart
    return found


@main.command(cls=Command)
@click.argument("model", metavar="NAME|FILE")
@click.option("--separator", metavar="NAME|FILE", help="Of two voices.")
@click.option("--enhancer", metavar="NAME|FILE", help="Of speech in noise.")
@click.option("--data", required=True, metavar="CORPUS=PATH", help="Corpus with emotions, such as crema-d=PATH.")
@click.option("--part", default="validation", show_default=True, help="Of the corpus' fixed list.")
@click.option("--noise", metavar="esc-50=PATH", help="ESC-50's non-human sounds of fold 5; default: pink noise.")
@click.option("--clips", type=click.IntRange(min=1), help="So many, drawn with the seed; default: all.")
@_seed
@_out
def emotion(
    model: str, separator: str | None, enhancer: str | None, data: str, part: str, noise: str | None,
    clips: int | None, seed: int, out: Path,
) -> None:  # fmt: skip
    """What separation before the emotion model does to its UAR, in noise and with another voice."""
    make_parent(out)
    engine = load(model, "cpu")
    rate = engine.card.features.sample_rate
    (corpus,) = load_corpora([data], engine.card.labels)
    chosen = [clip for clip in corpus.clips if clip.part == part]
    if not chosen:
        raise DataError(f"{corpus.name} has no clip in the {part} part; choose another --part")
    if clips is not None and clips < len(chosen):
        chosen = [chosen[i] for i in sorted(np.random.default_rng(seed).permutation(len(chosen))[:clips].tolist())]
    waves = robustness.read(chosen, rate)
    noises = robustness.read(robustness.noise_clips(noise), rate) if noise else []
    first, second = (None if name is None else Separator(name) for name in (separator, enhancer))
    names = [clip.speaker for clip in chosen]
    if len(set(names)) < 2:
        raise DataError(f"{len(chosen)} clips of 1 speaker, expected two or more to speak at once; raise --clips")
    changes = conditions(waves, names, noises, rate, seed, first, second)
    content: dict[str, Any] = {
        "protocol": f"{corpus.name}, {part} part, {len(set(names))} speakers, {len(chosen)} clips; "
        f"{'ESC-50 fold 5' if noise else 'pink'} noise; {model}; ONNX on the CPU, seed {seed}",
        "conditions": {},
    }
    with progress_bar(model, len(chosen) * len(changes)) as advance:
        for result in robustness.measure(engine, chosen, waves, changes, seed, advance):
            content["conditions"][result.condition] = {"uar": result.uar, "wa": result.wa, "silent": result.silent}
            write_json(out, content)
    rows = [
        [name, f"{values['uar']:.3f}", f"{values['wa']:.3f}", str(values["silent"])]
        for name, values in content["conditions"].items()
    ]
    print_table(content["protocol"], ("condition", "UAR", "WA", "silent"), rows)


@main.command(cls=Command)
@_models
@click.option("--seconds", type=click.FloatRange(min=1.0), default=30.0, show_default=True, help="Of audio.")
@_out
def speed(models: tuple[str, ...], seconds: float, out: Path) -> None:
    """Real-time factor on one thread, live (hop by hop) and of files."""
    make_parent(out)
    content: dict[str, Any] = {name: dict(_speed(Separator(name), seconds)) for name in models}
    write_json(out, content)
    rows = [
        [name, f"{v['latency_ms']:g}", f"{v['rtf_live']:.3f}", f"{v['rtf_file']:.3f}", f"{v['parameters'] / 1e6:.2f} M"]
        for name, v in content.items()
    ]
    print_table("One thread", ("separator", "latency, ms", "RTF live", "RTF file", "parameters"), rows)


def _speed(separator: Separator, seconds: float) -> Iterator[tuple[str, float]]:
    card = separator.card
    noise = np.random.default_rng(0).standard_normal(round(seconds * card.sample_rate)).astype(np.float32)
    yield "parameters", card.parameters
    yield "latency_ms", 1000.0 * card.window / card.sample_rate
    for name, hops in (("rtf_live", 1), ("rtf_file", _HOPS)):
        stream = SeparatorStream(separator, hops=hops)
        start = time.process_time()
        stream.push(0.1 * noise)
        yield name, (time.process_time() - start) / seconds


if __name__ == "__main__":
    main()
