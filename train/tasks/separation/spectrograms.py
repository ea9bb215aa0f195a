"""Waveform, spectrogram and mel spectrogram side by side, a row a signal. Needs matplotlib and no torch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stream_ser.config import FeatureConfig
from stream_ser.features.log_mel import hann_window, hz_to_mel, log_mel, mel_filterbank
from stream_ser.text import printable
from stream_ser.train.files import write_atomically

INK, GREY, FAINT, BLUE = "#2d3748", "#718096", "#e2e8f0", "#2b6cb0"
#: Below the loudest cell of a figure everything looks the same.
RANGE_DB = 80.0
#: Window and hop, seconds, each rounded to a power of two samples.
_WINDOW_S, _HOP_S = 0.032, 0.008
_BANDS = 64
#: Columns that a picture of this size can show; longer signals get a longer hop.
_MOST_COLUMNS = 2_000
_ROW_INCHES, _WIDTH_INCHES = 2.1, 13.0


@dataclass(frozen=True)
class Signal:
    """What a row shows.

    Attributes:
        title: of the row.
        samples: ``(time,)``, full scale at 1.
        sample_rate: Hz.
    """

    title: str
    samples: NDArray[np.float32]
    sample_rate: int


def _power_of_two(samples: float) -> int:
    return int(max(16, 2 ** round(np.log2(max(samples, 1.0)))))


def settings(sample_rate: int, samples: int) -> FeatureConfig:
    """The frames of a picture; as many mel bands, up to 64, as the FFT has bins for."""
    n_fft = _power_of_two(_WINDOW_S * sample_rate)
    hop = max(_power_of_two(_HOP_S * sample_rate), -(-samples // _MOST_COLUMNS))
    config = FeatureConfig(sample_rate, n_fft, min(hop, n_fft), f_min=0.0, f_max=sample_rate / 2, log_floor=1e-12)
    for bands in range(_BANDS, 0, -1):
        config = replace(config, n_mels=bands)
        try:
            mel_filterbank(config)
        except ValueError:
            continue
        break
    return config


def spectrogram_db(samples: NDArray[np.float32], n_fft: int, hop_length: int) -> NDArray[np.float64]:
    """Power of Hann-windowed frames, 0 dB for a sinusoid at full scale.

    Args:
        samples: ``(time,)``, at least ``n_fft``.
        n_fft: samples a frame.
        hop_length: samples.

    Returns:
        ``(n_fft // 2 + 1, frames)``.
    """
    window = hann_window(n_fft).astype(np.float64)
    frames = sliding_window_view(samples, n_fft)[::hop_length]
    power = np.square(np.abs(np.fft.rfft(frames * window, axis=-1)) * 2.0 / window.sum())
    decibels: NDArray[np.float64] = 10.0 * np.log10(power + 1e-12).T
    return decibels


def _tidy(axes: Axes) -> None:
    axes.tick_params(colors=INK, labelsize=8, length=2)
    for side in axes.spines.values():
        side.set_color(FAINT)


def _label(axes: Axes, title: str) -> None:
    """A name is no formula: dollars are dollars."""
    axes.set_title(printable(title, 90), loc="left", fontsize=9, color=INK).set_parse_math(False)


def _khz(value: float, _position: int) -> str:
    return f"{value / 1000:g}"


def draw(signals: Sequence[Signal], heading: str = "") -> Figure:
    """A row a signal; colours and amplitudes mean the same in all rows.

    Args:
        signals: one or more.
        heading: above the figure.
    """
    count = len(signals)
    figure = Figure(figsize=(_WIDTH_INCHES, _ROW_INCHES * count + 0.7), layout="constrained")
    grid = figure.subplots(count, 3, squeeze=False)
    pictures = []
    for signal in signals:
        config = settings(signal.sample_rate, signal.samples.size)
        samples = signal.samples
        if samples.size < config.n_fft:
            samples = np.pad(samples, (0, config.n_fft - samples.size))
        linear = spectrogram_db(samples, config.n_fft, config.hop_length)
        mel = log_mel(samples, config).astype(np.float64) * (10.0 / np.log(10.0))
        pictures.append((config, linear, mel))
    top_linear = max(float(linear.max()) for _, linear, _ in pictures)
    top_mel = max(float(mel.max()) for _, _, mel in pictures)
    peak = max(1e-3, *(float(np.abs(signal.samples).max(initial=0.0)) for signal in signals))
    for row, signal, (config, linear, mel) in zip(grid, signals, pictures, strict=True):
        seconds = signal.samples.size / signal.sample_rate
        span_s = max(seconds, config.n_fft / signal.sample_rate)
        _waveform(row[0], signal, peak)
        _label(row[0], signal.title)
        nyquist = signal.sample_rate / 2
        for axes, image, top, high in ((row[1], linear, top_linear, nyquist), (row[2], mel, top_mel, config.n_mels)):
            axes.imshow(
                image,
                origin="lower",
                aspect="auto",
                cmap="magma",
                vmin=top - RANGE_DB,
                vmax=top,
                extent=(0.0, span_s, 0.0, high),
                interpolation="nearest",
            )
        row[1].yaxis.set_major_formatter(_khz)
        row[1].set_ylabel("kHz", fontsize=8, color=INK)
        _mel_ticks(row[2], config)
        for axes in row:
            axes.set_xlim(0.0, span_s)
            _tidy(axes)
    for axes, name in zip(grid[0][1:], ("spectrogram", "mel spectrogram"), strict=True):
        _label(axes, f"{name}, {RANGE_DB:g} dB")
    for axes in grid[-1]:
        axes.set_xlabel("s", fontsize=8, color=INK)
    if heading:
        figure.suptitle(printable(heading, 120), fontsize=11, color=INK).set_parse_math(False)
    return figure


def _waveform(axes: Axes, signal: Signal, peak: float) -> None:
    """The samples, or of many the range that each column covers."""
    samples, rate = signal.samples, signal.sample_rate
    span = -(-samples.size // _MOST_COLUMNS)
    if span <= 1:
        axes.plot(np.arange(samples.size) / rate, samples, color=BLUE, linewidth=0.6)
    else:
        padded = np.pad(samples, (0, -samples.size % span), mode="edge").reshape(-1, span)
        edges_s = np.arange(len(padded) + 1) * span / rate
        axes.stairs(padded.max(axis=1), edges_s, baseline=padded.min(axis=1), fill=True, color=BLUE)
    axes.set_ylim(-1.05 * peak, 1.05 * peak)


def _mel_ticks(axes: Axes, config: FeatureConfig) -> None:
    """Ticks in kHz where round frequencies lie."""
    ticks_hz = [hz for hz in (125, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000) if hz < config.f_max]
    # Band ``i`` is centred one step above the lower edge plus ``i`` steps; in the picture it spans i to i + 1.
    steps = hz_to_mel(np.array(ticks_hz, np.float64)) / hz_to_mel(config.f_max) * (config.n_mels + 1) - 0.5
    axes.set_yticks(steps, [f"{hz / 1000:g}" for hz in ticks_hz])
    axes.set_ylim(0, config.n_mels)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, atomically."""
    with warnings.catch_warnings():
        # A letter that matplotlib's font lacks is drawn as a box.
        warnings.simplefilter("ignore")
        write_atomically(path, lambda part: figure.savefig(part, dpi=110, format="png"))
