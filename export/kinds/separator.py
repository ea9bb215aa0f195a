"""A separator as one ONNX file with its card and state tensors, proven: streaming equals offline equals torch."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stream_ser.errors import TrainError
from stream_ser.export.checkpoints import OPSET, keep_checkpoint, temporary_beside, without_folders
from stream_ser.models.separator import Separator, State
from stream_ser.runtime.card.recognition import CARD_KEY
from stream_ser.runtime.card.separation import AFTER, MIXTURE, SOURCES, SeparatorCard
from stream_ser.runtime.onnx_scan import read_metadata
from stream_ser.train.tasks.separation.task import SEPARATOR, read_checkpoint, trained_separator

#: Names of separators by what they do: take noise off one voice, take several voices apart.
ENHANCER, SEVERAL = "enhancer", "separator"
#: Largest absolute difference of a sample, full scale at 1, between torch and the file, in one go or streamed.
TOLERANCE = 1e-4
#: Hops a chunk, over and over: single ones, a few, many.
_CHUNKS = (1, 1, 3, 2, 17, 1, 64)
_VERIFIED_S = 8.0


class _Flat(nn.Module):
    """The network with its state as plain inputs and outputs."""

    def __init__(self, network: Separator) -> None:
        super().__init__()
        self.network = network

    def forward(self, mixture: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Mixture and state in, sources and state out."""
        sources, after = self.network(mixture, State(*state))
        return (sources, *after)


@dataclass(frozen=True)
class ExportedSeparator:
    """What an export made.

    Attributes:
        path: the ONNX file.
        card: inside it.
        offline: largest difference of a sample between torch and the file, both on the whole recording.
        streaming: the same with the file fed chunk by chunk.
        seconds: of audio that were compared.
        rtf: processing time over audio time of the file fed hop by hop, one thread.
    """

    path: Path
    card: SeparatorCard
    offline: float
    streaming: float
    seconds: float
    rtf: float


def newest_checkpoint(name: str, runs: Path = Path("runs")) -> Path:
    """The separator in ``runs/*/`` that was written last, of one source for :data:`ENHANCER`, else of several.

    Raises:
        TrainError: there is none, or one that cannot be read.
    """
    found = sorted(runs.glob(f"*/{SEPARATOR}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found:
        if _name_of(trained_separator(read_checkpoint(path))) == name:
            return path
    preset = " --preset enhance" if name == ENHANCER else ""
    raise TrainError(
        f"no {name} under {runs}/ (looked for {runs}/*/{SEPARATOR}); train one with 'stream-ser train separator"
        f"{preset}' or give --checkpoint"
    )


def _name_of(network: Separator) -> str:
    return ENHANCER if network.config.sources == 1 else SEVERAL


def make_card(state: dict[str, Any], network: Separator) -> SeparatorCard:
    """The card of a checkpoint."""
    config, history = network.config, state["history"]
    last = history[-1] if history else {}
    names = ("speech",) if config.sources == 1 else tuple(f"source_{n}" for n in range(1, config.sources + 1))
    describe = {name: value for name, value in state["describe"].items() if name not in ("held_out", "licences")}
    licences = "; ".join(f"trained on {name}: {terms}" for name, terms in sorted(state["describe"]["licences"].items()))
    return SeparatorCard(
        name=_name_of(network),
        sources=names,
        sample_rate=config.sample_rate,
        hop_length=config.hop,
        window=config.window,
        state=tuple((name, tuple(part.shape)) for name, part in network.initial_state()._asdict().items()),
        parameters=sum(p.numel() for p in network.parameters()),
        training={
            **describe,
            "network": state["network"],
            "epochs": len(history),
            "model": state["config"]["model"],
            "recipe": without_folders(state["config"]["train"]),
            "mixtures": state["config"]["mixtures"],
        },
        results={
            "held_out": {
                "protocol": describe["split"],
                "si_snr_db": last.get("held_out_si_snr_db"),
                "si_snr_improvement_db": last.get("held_out_si_snr_improvement_db"),
            }
        },
        licence=f"The corpora's licences bind these weights: {licences}." if licences else "",
    )


def write_onnx(network: Separator, card: SeparatorCard, path: Path) -> None:
    """Write the network with its card as one file, for a batch of one and any whole number of hops."""
    network = network.eval()
    before = network.initial_state()
    names = [name for name, _ in card.state]
    example = (torch.zeros(1, 4 * network.config.hop), *before)
    with warnings.catch_warnings():
        # The exporter that torch recommends unrolls an LSTM, or fails where time is free (torch 2.11); this one writes
        # ONNX's own LSTM.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Flat(network),
            example,
            str(path),
            input_names=[MIXTURE, *names],
            output_names=[SOURCES, *(name + AFTER for name in names)],
            dynamic_axes={MIXTURE: {1: "time"}, SOURCES: {2: "time"}},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(str(path))
    del model.metadata_props[:]
    model.metadata_props.add(key=CARD_KEY, value=card.to_json())
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path), save_as_external_data=False)


class OnnxSeparator:
    """An exported file and the state of one stream through it, on the CPU in one thread."""

    def __init__(self, path: Path) -> None:
        text = read_metadata(path).get(CARD_KEY)
        if text is None:
            raise TrainError(f"{path}: has no stream-ser card; export the separator again")
        self.card = SeparatorCard.from_json(text)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.reset()

    def reset(self) -> None:
        """Begin a new stream."""
        self._state = {name: np.zeros(shape, np.float32) for name, shape in self.card.state}

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """The next samples ``(time,)``, whole hops; sources ``(sources, time)``, delayed."""
        sources, *after = self._session.run(None, {MIXTURE: samples[None], **self._state})
        self._state = dict(zip(self._state, after, strict=True))
        return np.asarray(sources[0], np.float32)


def stream(separator: OnnxSeparator, samples: NDArray[np.float32], chunks: Sequence[int]) -> NDArray[np.float32]:
    """Sources ``(sources, time)`` of a whole number of hops, fed in chunks of so many hops, over and over."""
    separator.reset()
    out, position, turn = [], 0, 0
    while position < samples.size:
        end = position + chunks[turn % len(chunks)] * separator.card.hop_length
        out.append(separator.push(samples[position:end]))
        position, turn = end, turn + 1
    return np.concatenate(out, axis=1)


@torch.no_grad()
def differences(path: Path, network: Separator, samples: NDArray[np.float32]) -> tuple[float, float, float]:
    """Largest difference from torch offline and streamed, and the real-time factor hop by hop.

    Args:
        path: ONNX file.
        network: in evaluation mode, float32.
        samples: ``(time,)``, a whole number of hops.

    Returns:
        offline, streaming (torch's own streaming included), RTF; differences are infinite where anything is not finite.
    """
    hop = network.config.hop
    expected = network(torch.from_numpy(samples)[None])[0][0].numpy()
    file = OnnxSeparator(path)
    whole = stream(file, samples, [samples.size // hop])
    mixed = stream(file, samples, _CHUNKS)
    start = time.perf_counter()
    single = stream(file, samples, [1])
    rtf = (time.perf_counter() - start) / (samples.size / network.config.sample_rate)
    parts, state = [], None
    for chunk in torch.from_numpy(samples)[None].split(7 * hop, dim=1):
        part, state = network(chunk, state)
        parts.append(part)
    streamed = torch.cat(parts, dim=-1)[0].numpy()

    def largest(*found: NDArray[np.float32]) -> float:
        if not all(np.isfinite(values).all() for values in (expected, *found)):
            return float("inf")
        return max(float(np.abs(values - expected).max()) for values in found)

    return largest(whole), largest(mixed, single, streamed), rtf


def _voice(sample_rate: int, hop: int) -> NDArray[np.float32]:
    """The bundled clip, whole hops of up to :data:`_VERIFIED_S` seconds."""
    from importlib import resources

    from stream_ser.audio.decode import read_blocks

    path = Path(str(resources.files("stream_ser.assets") / "demo.flac"))
    samples = np.concatenate(list(read_blocks(path, sample_rate)))[: round(_VERIFIED_S * sample_rate)]
    return samples[: samples.size - samples.size % hop]


def export_separator(checkpoint: Path, out: Path, *, tolerance: float = TOLERANCE) -> ExportedSeparator:
    """Write the averaged separator of ``checkpoint`` to ``out``, after comparing it with torch on a real voice.

    Raises:
        TrainError: an unreadable checkpoint, or a difference above ``tolerance`` (nothing is written then).
        OutputError: ``out`` cannot be written, or is the checkpoint.
    """
    keep_checkpoint(out, checkpoint)
    state = read_checkpoint(checkpoint)
    network = trained_separator(state)
    card = make_card(state, network)
    samples = _voice(card.sample_rate, card.hop_length)
    with temporary_beside(out) as temporary:
        write_onnx(network, card, temporary)
        offline, streaming, rtf = differences(temporary, network, samples)
        if not max(offline, streaming) <= tolerance:
            raise TrainError(
                f"the ONNX file differs from torch by {offline:.2e} on the whole and by {streaming:.2e} streamed, more "
                f"than {tolerance:.0e}; nothing was written"
            )
        os.replace(temporary, out)
    return ExportedSeparator(out, card, offline, streaming, samples.size / card.sample_rate, rtf)
