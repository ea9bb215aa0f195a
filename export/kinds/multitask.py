"""The multitask network as one streaming ONNX file with its card, proven: torch whole, torch and ONNX hop by hop."""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stream_ser.audio.decode import read_blocks
from stream_ser.config import FeatureConfig, WindowConfig
from stream_ser.errors import TrainError
from stream_ser.export.checkpoints import OPSET, keep_checkpoint, temporary_beside, without_folders, write_card
from stream_ser.features.log_mel import log_mel
from stream_ser.models.multitask import Multitask, State
from stream_ser.runtime.card.base import State as CardState
from stream_ser.runtime.card.recognition import FEATURES, LOG_PROBS, LOGITS, Card
from stream_ser.train.data.normalization import normalize
from stream_ser.train.losses.ctc import Vocabulary
from stream_ser.train.tasks.multitask.config import MultitaskRun
from stream_ser.train.tasks.multitask.task import CHECKPOINT, read_checkpoint, trained_network

#: Largest absolute difference of a logit or log-probability between any two ways of running the network.
TOLERANCE = 1e-4
#: About a hop: a quarter of a second, whole steps.
_HOP_FRAMES = 24


@dataclass(frozen=True)
class ExportedMultitask:
    """What an export made.

    Attributes:
        path: the ONNX file.
        card: inside it.
        torch_streaming: largest difference of torch fed hop by hop from torch on the whole.
        onnx_streaming: the same of the file.
        seconds: of audio that were compared.
        rtf: processing time over audio time of the file, one thread.
    """

    path: Path
    card: Card
    torch_streaming: float
    onnx_streaming: float
    seconds: float
    rtf: float


class _Flat(nn.Module):
    """The network with its state as plain inputs and outputs."""

    def __init__(self, network: Multitask) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Features and state in; logits, log-probabilities and state out."""
        logits, log_probs, after = self.network(features, State(*state))
        return (logits, log_probs, *after)


def newest_checkpoint(runs: Path = Path("runs")) -> Path:
    """The multitask network in ``runs/*/`` that was written last.

    Raises:
        TrainError: there is none.
    """
    found = sorted(runs.glob(f"*/{CHECKPOINT}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise TrainError(
            f"no multitask network under {runs}/ (looked for {runs}/*/{CHECKPOINT}); train one with 'stream-ser train "
            "multitask' or give --checkpoint"
        )
    return found[-1]


def make_card(state: dict[str, Any], network: Multitask) -> Card:
    """The card of a checkpoint. Results are those of its end; a run that was cut short has none."""
    config = MultitaskRun.from_dict(state["config"])
    vocabulary, results = Vocabulary.from_dict(state["vocabulary"]), state["results"]
    stride = config.model.stride
    describe = {name: value for name, value in state["describe"].items() if name != "licences"}
    licences = "; ".join(f"trained on {name}: {terms}" for name, terms in sorted(state["describe"]["licences"].items()))
    parts = network.initial_state()
    return Card(
        name="multitask",
        kind="multitask",
        labels=tuple(state["labels"]),
        features=config.features,
        mean=tuple(state["mean"]),
        std=tuple(state["std"]),
        window=WindowConfig(hop=-(-_HOP_FRAMES // stride) * stride),
        temperature=float(results.get("validation", {}).get("temperature", 1.0)),
        states=tuple(CardState(f"state_{n}", f"next_state_{n}", tuple(part.shape)) for n, part in enumerate(parts)),
        vocabulary=("", *vocabulary.characters),
        blank=0,
        stride=stride,
        delay_frames=int(results.get("delay_frames", 0)),
        parameters=sum(p.numel() for p in network.parameters()),
        training={
            **describe,
            "epochs": len(state["history"]),
            "calibration": "temperature fitted on the validation part",
            "model": state["config"]["model"],
            "recipe": state["config"]["train"],
            "augment": without_folders(state["config"]["augment"]),
            "language_model": results.get("language_model", {}),
            "licences": dict(state["describe"]["licences"]),
        },
        results=_results(results),
        licence=f"The corpora's licences bind these weights: {licences}." if licences else "",
    )


def _results(results: dict[str, Any]) -> dict[str, Any]:
    """Scores of whole clips by part: emotion as of every other model, and the error rates by corpus.

    How the parts were made is said of the training.
    """
    found: dict[str, Any] = {}
    for part in ("validation", "test"):
        scores = results.get(part, {})
        if emotion := scores.get("emotion"):
            found[f"training_{part}"] = {
                "protocol": f"{part} part; torch, float32, the clip's end",
                **{name: emotion[name] for name in ("uar", "wa", "f1", "clips")},
            }
        for how in ("greedy", "with_language_model"):
            for corpus, rates in scores.get(how, {}).items():
                found[f"{part}_{how}_{corpus}"] = {
                    "protocol": f"{corpus}, {part} part; whole clips, {how.replace('_', ' ')}",
                    **{name: rates[name] for name in ("wer", "cer", "words")},
                }
    return found


def write_onnx(network: Multitask, card: Card, path: Path) -> None:
    """Write the network with its card as one file: a hop and its state in, outputs and the next state out."""
    network = network.eval()
    example = (torch.zeros(1, card.features.n_mels, card.window.hop), *network.initial_state())
    with warnings.catch_warnings():
        # The exporter that torch recommends unrolls an LSTM (torch 2.11); this one writes ONNX's own.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Flat(network).eval(),  # the exporter gives the modules back in the mode in which it got the outermost
            example,
            str(path),
            input_names=[FEATURES, *(state.input for state in card.states)],
            output_names=[LOGITS, LOG_PROBS, *(state.output for state in card.states)],
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(str(path))
    write_card(model, card)
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path), save_as_external_data=False)


Answer = tuple[NDArray[np.float32], NDArray[np.float32]]


def stream_onnx(path: Path, card: Card, features: NDArray[np.float32]) -> Answer:
    """Logits after each hop ``(hops, labels)`` and log-probabilities ``(steps, vocabulary)`` of an exported file.

    Args:
        path: of the file.
        card: inside it.
        features: normalised ``(mel, frames)``, whole hops.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    state = {part.input: np.zeros(part.shape, np.float32) for part in card.states}
    felt, spelt = [], []
    for first in range(0, features.shape[1], card.window.hop):
        hop = np.ascontiguousarray(features[None, :, first : first + card.window.hop])
        logits, log_probs, *after = session.run(None, {FEATURES: hop, **state})
        state = dict(zip(state, after, strict=True))
        felt.append(logits[0])
        spelt.append(log_probs[0])
    return np.stack(felt), np.concatenate(spelt)


@torch.no_grad()
def differences(
    path: Path, card: Card, network: Multitask, features: NDArray[np.float32]
) -> tuple[float, float, float]:
    """How far streaming is from the whole, in torch and in the file, and the file's real-time factor.

    Args:
        path: ONNX file.
        card: inside it.
        network: in evaluation mode, float32.
        features: normalised ``(mel, frames)``, whole hops.

    Returns:
        largest differences, infinite where anything is not finite, and the RTF.
    """
    hop, steps = card.window.hop, card.window.hop // card.stride
    whole = torch.from_numpy(np.ascontiguousarray(features))[None]
    felt, spelt, _ = network.steps(whole)
    expected = felt[0, steps - 1 :: steps].numpy(), spelt[0].numpy()
    state, logits, log_probs = None, [], []
    for part in whole.split(hop, dim=2):
        one, other, state = network(part, state)
        logits.append(one)
        log_probs.append(other)
    start = time.perf_counter()
    streamed = stream_onnx(path, card, features)
    seconds = features.shape[1] * card.features.hop_length / card.features.sample_rate
    rtf = (time.perf_counter() - start) / seconds

    def largest(found: Answer) -> float:
        if not all(np.isfinite(values).all() for values in (*expected, *found)):
            return float("inf")
        return max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))

    return largest((torch.cat(logits).numpy(), torch.cat(log_probs, dim=1)[0].numpy())), largest(streamed), rtf


def _voice(card: Card) -> NDArray[np.float32]:
    """The bundled clip as the network hears it, ``(mel, frames)``, whole hops."""
    features: FeatureConfig = card.features
    path = Path(str(resources.files("stream_ser.assets") / "demo.flac"))
    columns = log_mel(np.concatenate(list(read_blocks(path, features.sample_rate))), features)
    columns = columns[:, : columns.shape[1] - columns.shape[1] % card.window.hop]
    mean, std = np.asarray(card.mean, np.float32), np.asarray(card.std, np.float32)
    found: NDArray[np.float32] = normalize(torch.from_numpy(columns.copy()), features, mean, std).numpy()
    return found


def export_multitask(checkpoint: Path, out: Path, *, tolerance: float = TOLERANCE) -> ExportedMultitask:
    """Write the averaged network of ``checkpoint`` to ``out``, after proving it on a real voice.

    Raises:
        TrainError: an unreadable checkpoint, or a difference above ``tolerance`` (nothing is written then).
        OutputError: ``out`` cannot be written, or is the checkpoint.
    """
    keep_checkpoint(out, checkpoint)
    state = read_checkpoint(checkpoint)
    network = trained_network(state)
    card = make_card(state, network)
    features = _voice(card)
    with temporary_beside(out) as temporary:
        write_onnx(network, card, temporary)
        in_torch, in_onnx, rtf = differences(temporary, card, network, features)
        if not max(in_torch, in_onnx) <= tolerance:
            raise TrainError(
                f"streaming differs from the whole by {in_torch:.2e} in torch and by {in_onnx:.2e} in the ONNX file, "
                f"more than {tolerance:.0e}; nothing was written"
            )
        os.replace(temporary, out)
    seconds = features.shape[1] * card.features.hop_length / card.features.sample_rate
    return ExportedMultitask(out, card, in_torch, in_onnx, seconds, rtf)
