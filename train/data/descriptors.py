"""Descriptors of speech for research beside the log-mel: the textbook set, in torch, for batches.

All take samples ``(..., time)``, full scale at 1.0, and give ``(..., time)``-like axes last, each item as if it were
alone. Frames are centred and padded as librosa's are, and the numbers equal librosa's (a test states how closely), so
these are for whole clips: the runtime's features are the causal ones of :mod:`stream_ser.features.log_mel`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from torchaudio import functional as audio

#: Range below the loudest value that decibels keep.
TOP_DB = 80.0
#: Power that decibels take for silence.
LEAST_POWER = 1e-10


@dataclass(frozen=True)
class Frames:
    """How a clip is cut into frames.

    Attributes:
        sample_rate: Hz.
        n_fft: length of a frame and of its FFT, samples.
        hop_length: samples from one frame to the next.
        n_mels: mel bands from 0 Hz to half the sample rate (Slaney's scale, filters of equal area).
    """

    sample_rate: int = 16_000
    n_fft: int = 2_048
    hop_length: int = 512
    n_mels: int = 128

    def __post_init__(self) -> None:
        if not 0 < self.hop_length <= self.n_fft:
            raise ValueError(f"hop_length {self.hop_length} is not in 1..{self.n_fft} (n_fft)")
        if self.sample_rate < 1 or self.n_mels < 1:
            raise ValueError("sample_rate and n_mels must be positive")


DEFAULT = Frames()


def _checked(waves: torch.Tensor) -> torch.Tensor:
    if waves.ndim < 1 or waves.shape[-1] == 0 or not waves.is_floating_point():
        raise ValueError(f"waves are {waves.dtype} of shape {tuple(waves.shape)}, expected floats (..., time)")
    return waves


def _framed(waves: torch.Tensor, frames: Frames, mode: str) -> torch.Tensor:
    """``(..., time)`` to centred frames ``(..., frames, n_fft)``, padded with zeros or with the edge's value."""
    flat = _checked(waves).reshape(-1, 1, waves.shape[-1])
    padded = F.pad(flat, (frames.n_fft // 2, frames.n_fft // 2), mode=mode)
    return padded.unfold(-1, frames.n_fft, frames.hop_length).reshape(*waves.shape[:-1], -1, frames.n_fft)


def _magnitude(waves: torch.Tensor, frames: Frames) -> torch.Tensor:
    """``(..., n_fft // 2 + 1, frames)``, of a periodic Hann window that is not normalised."""
    window = torch.hann_window(frames.n_fft, dtype=waves.dtype, device=waves.device)
    pad = frames.n_fft // 2
    # Padded here, for torchaudio pads by reflection and so refuses clips of less than half a frame.
    padded = F.pad(_checked(waves), (pad, pad))
    spectrum: torch.Tensor = audio.spectrogram(
        padded, 0, window, frames.n_fft, frames.hop_length, frames.n_fft, power=1.0, normalized=False, center=False
    )
    return spectrum


def decibels(power: torch.Tensor, *, relative: bool = False) -> torch.Tensor:
    """``10 * log10``, with nothing further than 80 dB below the item's largest value.

    Args:
        power: ``(..., bands, frames)``.
        relative: to the item's largest value, which becomes 0 dB; else to a power of 1.
    """
    # torchaudio takes one maximum for all channels of an item: each clip is made an item of one channel.
    items = power.reshape(-1, 1, *power.shape[-2:])
    db: torch.Tensor = audio.amplitude_to_DB(items, 10.0, LEAST_POWER, 0.0, TOP_DB)
    return (db - db.amax(dim=(-2, -1), keepdim=True) if relative else db).reshape(power.shape)


def zero_crossing_rate(waves: torch.Tensor, frames: Frames = DEFAULT) -> torch.Tensor:
    """Share of the samples of a frame at which the sign changes, ``(..., frames)`` in [0, 1].

    Reference: Kedem 1986. Zero counts as positive, and so does anything up to 1e-10.
    """
    framed = _framed(waves, frames, "replicate")
    negative = framed < -1e-10
    return (negative[..., 1:] != negative[..., :-1]).sum(dim=-1) / framed.shape[-1]


def energy(waves: torch.Tensor, frames: Frames = DEFAULT) -> torch.Tensor:
    """Sum of the squares of a frame's samples, ``(..., frames)``."""
    return _framed(waves, frames, "constant").square().sum(dim=-1)


def rms(waves: torch.Tensor, frames: Frames = DEFAULT) -> torch.Tensor:
    """Root mean square of a frame's samples, ``(..., frames)``, full scale at 1.0."""
    return (energy(waves, frames) / frames.n_fft).sqrt()


@functools.lru_cache(maxsize=8)
def _mel_filters(frames: Frames) -> torch.Tensor:
    bins, highest_hz = frames.n_fft // 2 + 1, frames.sample_rate / 2
    filters: torch.Tensor = audio.melscale_fbanks(
        bins, 0.0, highest_hz, frames.n_mels, frames.sample_rate, norm="slaney", mel_scale="slaney"
    )
    return filters


def mel_spectrogram(waves: torch.Tensor, frames: Frames = DEFAULT) -> torch.Tensor:
    """Power in mel bands, ``(..., n_mels, frames)`` (Slaney 1998, Auditory Toolbox)."""
    filters = _mel_filters(frames).to(waves)
    return filters.T @ _magnitude(waves, frames).square()


def mfcc(waves: torch.Tensor, n_mfcc: int = 20, frames: Frames = DEFAULT) -> torch.Tensor:
    """Mel-frequency cepstral coefficients, ``(..., n_mfcc, frames)``, of mel bands in dB (Davis & Mermelstein 1980).

    The cosine transform is the orthonormal DCT-II.

    Raises:
        ValueError: more coefficients than mel bands.
    """
    if not 1 <= n_mfcc <= frames.n_mels:
        raise ValueError(f"n_mfcc {n_mfcc} is not in 1..{frames.n_mels} (n_mels)")
    matrix: torch.Tensor = audio.create_dct(n_mfcc, frames.n_mels, "ortho").to(waves)
    return matrix.T @ decibels(mel_spectrogram(waves, frames))


@functools.lru_cache(maxsize=8)
def _chroma_filters(sample_rate: int, n_fft: int, centre_octave: float = 5.0, octaves: float = 2.0) -> torch.Tensor:
    """Weight of each FFT bin in each pitch class, ``(12, n_fft // 2 + 1)``, C first.

    A bin at cyclic distance ``d`` semitones from a class weighs ``exp(-2 * (d / w)**2)`` in it, with ``w`` the distance
    to the next bin (1 at least). A bin's weights have unit norm, then fade by a Gaussian of ``octaves`` around the
    ``centre_octave`` above A0 (880 Hz). Reference: Ellis 2007, "Chroma feature analysis and synthesis".
    """
    hz = np.arange(1, n_fft) * sample_rate / n_fft
    semitones = 12.0 * np.log2(hz / 27.5)
    # The bin at 0 Hz has no pitch: it is taken for one and a half octaves below the first.
    semitones = np.concatenate(([semitones[0] - 18.0], semitones))
    width = np.maximum(np.diff(semitones, append=semitones[-1] + 1.0), 1.0)
    distance = (semitones[None] - np.arange(12)[:, None] + 6.0) % 12.0 - 6.0
    weights = np.exp(-2.0 * np.square(distance / width))
    weights /= np.linalg.norm(weights, axis=0)
    weights *= np.exp(-0.5 * np.square((semitones / 12.0 - centre_octave) / octaves))
    from_c = np.roll(weights, -3, axis=0)[:, : n_fft // 2 + 1]
    return torch.from_numpy(from_c.astype(np.float32))


def chroma(waves: torch.Tensor, frames: Frames = DEFAULT) -> torch.Tensor:
    """Power in the twelve pitch classes C, C sharp ... B at A = 440 Hz, ``(..., 12, frames)``, a frame's largest is 1.

    The tuning is not estimated from the clip.
    """
    power = _chroma_filters(frames.sample_rate, frames.n_fft).to(waves) @ _magnitude(waves, frames).square()
    largest = power.amax(dim=-2, keepdim=True)
    return power / torch.where(largest > torch.finfo(power.dtype).tiny, largest, 1.0)


def spectral_contrast(
    waves: torch.Tensor, frames: Frames = DEFAULT, n_bands: int = 6, f_min: float = 200.0, quantile: float = 0.02
) -> torch.Tensor:
    """Peaks over valleys of each octave's spectrum, dB, ``(..., n_bands + 1, frames)`` (Jiang et al. 2002).

    Band 0 is [0, f_min], band ``k`` the octave from ``f_min * 2**(k - 1)``; the last one reaches up to half the
    sample rate. Peak and valley are the means of the highest and the lowest ``quantile`` of the magnitudes.

    Raises:
        ValueError: the last octave begins at half the sample rate or above.
    """
    edges = np.concatenate(([0.0], f_min * 2.0 ** np.arange(n_bands + 1)))
    if n_bands < 1 or edges[-2] >= frames.sample_rate / 2:
        raise ValueError(f"{n_bands} octaves from {f_min:g} Hz do not fit below {frames.sample_rate / 2:g} Hz")
    magnitude = _magnitude(waves, frames)
    hz = np.arange(magnitude.shape[-2]) * frames.sample_rate / frames.n_fft
    peaks, valleys = [], []
    for band in range(n_bands + 1):
        bins = np.flatnonzero((hz >= edges[band]) & (hz <= edges[band + 1]))
        # Each band begins with the bin below its edge and, but for the last, leaves its own last bin to the next.
        first = max(0, bins[0] - 1) if band else bins[0]
        last = bins[-1] if band < n_bands else hz.size - 1
        count = max(1, int(np.rint(quantile * (last - first + 1))))
        inside = magnitude[..., first : last + (band == n_bands), :].sort(dim=-2).values
        valleys.append(inside[..., :count, :].mean(dim=-2))
        peaks.append(inside[..., -count:, :].mean(dim=-2))
    return decibels(torch.stack(peaks, dim=-2)) - decibels(torch.stack(valleys, dim=-2))


def mel_mean(waves: torch.Tensor, frames: Frames = DEFAULT) -> torch.Tensor:
    """Mean power of each mel band over the clip, ``(..., n_mels)``: the one-dimensional networks' classical input."""
    return mel_spectrogram(waves, frames).mean(dim=-1)


def mel_image(waves: torch.Tensor, size: tuple[int, int] | None = None, frames: Frames = DEFAULT) -> torch.Tensor:
    """The mel spectrogram as a picture: 1 is the clip's loudest value and 0 lies 80 dB below it.

    Args:
        waves: ``(..., time)``.
        size: height and width in pixels; default: as many as there are mel bands and frames.
        frames: how the clip is cut.

    Returns:
        ``(..., height, width)``, low bands first, resized by bilinear interpolation with antialiasing.
    """
    image = decibels(mel_spectrogram(waves, frames), relative=True) / TOP_DB + 1.0
    if size is None or tuple(image.shape[-2:]) == tuple(size):
        return image
    flat = image.reshape(-1, 1, *image.shape[-2:])
    resized = F.interpolate(flat, size, mode="bilinear", antialias=True, align_corners=False)
    return resized.reshape(*image.shape[:-2], *size)
