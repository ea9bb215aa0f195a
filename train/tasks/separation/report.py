"""What a separator's run leaves behind besides its checkpoint: scores, curves, separated sources, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from stream_ser.train.data.pcm16 import to_int16
from stream_ser.train.run_folder import write_json

from . import sinusoid_fit, spectrograms
from .metrics import sdr, si_sdr, si_snr, snr
from .task import Epoch, Examples

#: Not the classifiers' metrics.json, which stream-ser report looks for.
METRICS, CURVES, SEPARATED = "separation.json", "curves.png", "separated"
#: Test mixtures that get a picture.
PICTURES = 8
ORANGE = "#dd6b20"
_METRICS = {"si_snr_db": si_snr, "si_sdr_db": si_sdr, "sdr_db": sdr, "snr_db": snr}


@dataclass(frozen=True)
class Scores:
    """Means over mixtures and sources, dB.

    Attributes:
        si_snr_db: scale-invariant, means removed.
        si_sdr_db: scale-invariant.
        sdr_db: up to a filter of 512 taps.
        snr_db: level included.
        worst_si_snr_db: of any source.
    """

    si_snr_db: float
    si_sdr_db: float
    sdr_db: float
    snr_db: float
    worst_si_snr_db: float

    @classmethod
    def of(cls, estimate: Tensor, target: Tensor) -> Scores:
        """Of sources ``(mixtures, sources, time)`` in the targets' order."""
        values = {name: float(metric(estimate, target).mean()) for name, metric in _METRICS.items()}
        return cls(**values, worst_si_snr_db=float(si_snr(estimate, target).min()))


def unprocessed(examples: Examples) -> Tensor:
    """The mixture as an estimate of each of its sources."""
    target = torch.from_numpy(examples.sources)
    return torch.from_numpy(examples.mixtures).unsqueeze(1).expand_as(target)


def closed_form(examples: Examples, sample_rate: int) -> Tensor:
    """Sinusoids fitted to each mixture alone, ``(mixtures, sources, time)``; see :mod:`.sinusoid_fit`."""
    count = examples.sources.shape[1]
    return torch.from_numpy(
        np.stack([sinusoid_fit.separate(wave, sample_rate, count)[0] for wave in examples.mixtures])
    )


def write_metrics(
    out: Path, history: Sequence[Epoch], scores: Mapping[str, Scores], describe: Mapping[str, Any], parameters: int
) -> None:
    """Scores of the test part by method, and all curves, batch by batch and epoch by epoch."""
    content = {
        "parameters": parameters,
        "data": dict(describe),
        "test": {name: asdict(values) for name, values in scores.items()},
        "si_snr_improvement_db": scores["separator"].si_snr_db - scores["mixture"].si_snr_db,
        "epochs": [
            {
                **asdict(epoch),
                "mean_loss": float(np.mean(epoch.losses)),
                "mean_si_snr_db": float(np.mean(epoch.si_snr_db)),
            }
            for epoch in history
        ],
    }
    write_json(out / METRICS, content)


def plot_curves(history: Sequence[Epoch], path: Path, objective: str) -> None:
    """Loss and SI-SNR: each batch faintly, the average of each epoch, the held-out mixtures after it."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _curve(left, [e.losses for e in history], [e.held_out_loss for e in history])
    left.set_title(f"Loss ({objective})", color=spectrograms.INK)
    _curve(right, [e.si_snr_db for e in history], [e.held_out_si_snr_db for e in history])
    right.set_title(f"SI-SNR, dB: {history[-1].held_out_si_snr_db:.1f} on held-out mixtures", color=spectrograms.INK)
    right.legend(frameon=False, loc="best")
    spectrograms.save(figure, path)


def _curve(axes: Axes, batches: Sequence[Sequence[float]], test: Sequence[float]) -> None:
    epochs = np.arange(1, len(batches) + 1)
    # Batch ``i`` of ``n`` ends that share of its epoch.
    places = np.concatenate(
        [e - 1 + np.arange(1, len(values) + 1) / len(values) for e, values in zip(epochs, batches, strict=True)]
    )
    axes.plot(places, np.concatenate(batches), color="#90cdf4", linewidth=0.6, label="training, each batch")
    marker = "o" if len(batches) < 3 else ""
    axes.plot(epochs, [np.mean(v) for v in batches], color=spectrograms.BLUE, marker=marker, label="training, average")
    axes.plot(epochs, test, color=ORANGE, marker=marker, label="held out, average")
    axes.set_xlabel("epoch")
    axes.grid(color=spectrograms.FAINT, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.02)


def write_separated(out: Path, examples: Examples, estimate: Tensor, sample_rate: int) -> None:
    """The separated test sources as WAV; of the first :data:`PICTURES` mixtures, a picture each."""
    folder = out / SEPARATED
    folder.mkdir(exist_ok=True)
    waves = estimate.numpy()
    ratios = si_snr(estimate, torch.from_numpy(examples.sources)).numpy()
    for index, name in enumerate(examples.names):
        for source, wave in enumerate(waves[index], start=1):
            soundfile.write(folder / f"{name}_source_{source}.wav", to_int16(wave), sample_rate, subtype="PCM_16")
        if index < PICTURES:
            figure = compare(
                name, examples.mixtures[index], examples.sources[index], waves[index], sample_rate, ratios[index]
            )
            spectrograms.save(figure, folder / f"{name}.png")


def compare(
    name: str,
    mixture: NDArray[np.float32],
    truth: NDArray[np.float32],
    estimate: NDArray[np.float32],
    sample_rate: int,
    ratios_db: Sequence[float],
) -> Figure:
    """Spectrograms of mixture, truth and reconstruction side by side, a row a source, all on one scale.

    Args:
        name: of the mixture.
        mixture: ``(time,)``.
        truth: ``(sources, time)``.
        estimate: ``(sources, time)``.
        sample_rate: Hz.
        ratios_db: SI-SNR of each source.
    """
    config = spectrograms.settings(sample_rate, mixture.size)
    figure = Figure(figsize=(12.0, 0.7 + 2.4 * len(truth)), layout="constrained")
    grid = figure.subplots(len(truth), 3, squeeze=False, sharex=True, sharey=True)
    images = [
        [
            spectrograms.spectrogram_db(
                np.pad(wave, (0, max(0, config.n_fft - wave.size))), config.n_fft, config.hop_length
            )
            for wave in (mixture, true, found)
        ]
        for true, found in zip(truth, estimate, strict=True)
    ]
    top = float(images[0][0].max())
    for number, (row, trio, ratio) in enumerate(zip(grid, images, ratios_db, strict=True), start=1):
        titles = (f"mixture {name}", f"source {number}", f"separated: SI-SNR {ratio:.1f} dB")
        for axes, image, title in zip(row, trio, titles, strict=True):
            extent = (0.0, mixture.size / sample_rate, 0.0, sample_rate / 2000)
            axes.imshow(
                image,
                origin="lower",
                aspect="auto",
                cmap="magma",
                vmin=top - spectrograms.RANGE_DB,
                vmax=top,
                extent=extent,
                interpolation="nearest",
            )
            axes.set_title(title, loc="left", fontsize=9, color=spectrograms.INK).set_parse_math(False)
            axes.tick_params(labelsize=8, length=2)
        row[0].set_ylabel("kHz", fontsize=8)
    for axes in grid[-1]:
        axes.set_xlabel("s", fontsize=8)
    return figure
