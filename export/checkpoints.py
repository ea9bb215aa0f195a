"""From a checkpoint to one self-contained ONNX file, proven against torch before it is written."""

from __future__ import annotations

import contextlib
import os
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from stream_ser.config import FeatureConfig, WindowConfig
from stream_ser.errors import OutputError, TrainError
from stream_ser.models.streaming_septr import StreamingSepTr
from stream_ser.runtime.card.base import Memory
from stream_ser.runtime.card.recognition import CARD_KEY, Card
from stream_ser.runtime.engine import INPUT_NAME, OUTPUT_NAME
from stream_ser.train.checkpoint import BEST, CHECKPOINT, WINDOWS, read_checkpoint, trained_network
from stream_ser.train.config import RunConfig
from stream_ser.train.data.normalization import normalize
from stream_ser.train.evaluation.complexity import complexity
from stream_ser.train.transfer.onnx_weights import note_weights
from stream_ser.train.transfer.voice_head import VoiceHead, fitting, read

from .graph import OPSET as OPSET
from .graph import graph_of
from .kinds import streaming
from .parity import TOLERANCE, largest_difference


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Attributes:
        path: the ONNX file.
        card: the card inside it.
        difference: largest absolute difference between the logits of torch and of the file.
        windows: number of windows that were compared.
        source: where those windows came from.
    """

    path: Path
    card: Card
    difference: float
    windows: int
    source: str


def newest_checkpoint(network: str, runs: Path = Path("runs"), weights: str = "last") -> Path:
    """The checkpoint of ``network`` in ``runs/*/`` that was written last.

    Raises:
        TrainError: there is none.
    """
    name = CHECKPOINT if weights == "last" else BEST
    found = sorted(runs.glob(f"*/{name}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found:
        if read_checkpoint(path)["network"] == network:
            return path
    raise TrainError(
        f"no {network} run under {runs}/ (looked for {runs}/*/{name}); train one with "
        f"'stream-ser train {network} --data ... --out {runs}/NAME' or give --checkpoint"
    )


def without_folders(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings in which a folder is its name alone: where it lay is nobody's business."""
    return {name: Path(value).name if name.endswith("_folder") else value for name, value in settings.items()}


def make_card(state: dict[str, Any], network: nn.Module, chosen: str = "", voice: VoiceHead | None = None) -> Card:
    """The card of a checkpoint; ``chosen`` says how its epoch was chosen, where it was not simply the last.

    ``voice`` is the memory that goes into the file with it.
    """
    config = RunConfig.from_dict(state["config"])
    last = state["history"][-1]
    scores = last["scores"]
    licences = "; ".join(f"trained on {name}: {terms}" for name, terms in sorted(state["licences"].items()))
    states = streaming.states_of(network) if isinstance(network, StreamingSepTr) else ()
    memory, extra = None, {}
    if voice is not None:
        session = streaming.session_state(voice.adapter)
        states, extra = (*states, session), {"memory": voice.about}
        memory = Memory(session.input, streaming.VOICE, voice.full_s, voice.fingerprint)
    return Card(
        name=state["network"],
        labels=tuple(state["labels"]),
        features=config.features,
        mean=tuple(state["mean"]),
        std=tuple(state["std"]),
        window=config.window,
        temperature=float(state["temperature"]),
        states=states,
        memory=memory,
        parameters=sum(p.numel() for p in network.parameters()),
        training={
            **state["describe"],
            "macs": complexity(network, config.features.n_mels, config.window.frames).macs,
            "calibration": "temperature fitted on the validation part",
            "model": state["config"]["model"],
            "recipe": state["config"]["train"],
            "augment": without_folders(state["config"]["augment"]),
            "licences": dict(state["licences"]),
            **extra,
        },
        results={
            "training_validation": {
                "protocol": (
                    f"{state['describe']['split']}; torch, {config.train.precision}, epoch {last['epoch']}{chosen}"
                ),
                "uar": scores["uar"],
                "wa": scores["wa"],
                "f1": scores["f1"],
                "clips": scores["clips"],
            }
        },
        licence=f"The corpora's licences bind these weights: {licences}.",
    )


def demo_windows(features: FeatureConfig, window: WindowConfig) -> NDArray[np.float32]:
    """Windows of the bundled clip, ``(windows, mel, time)``: real audio where a run left none behind."""
    from importlib import resources

    from stream_ser.audio.decode import read_blocks
    from stream_ser.features.log_mel import log_mel

    path = Path(str(resources.files("stream_ser.assets") / "demo.flac"))
    columns = log_mel(np.concatenate(list(read_blocks(path, features.sample_rate))), features)
    ends = range(window.frames, columns.shape[1] + 1, window.hop)
    if not ends:
        raise TrainError(f"{path.name} is shorter than the window of {window.frames} frames; keep the run's {WINDOWS}")
    return np.stack([columns[:, end - window.frames : end] for end in ends])


def real_windows(checkpoint: Path, config: RunConfig) -> tuple[NDArray[np.float32], str]:
    """Un-normalised windows to verify with: the run's own validation windows, else those of the bundled clip."""
    stored = checkpoint.parent / WINDOWS
    if stored.is_file():
        try:
            with np.load(stored, allow_pickle=False) as arrays:
                windows = arrays["windows"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            raise TrainError(f"{stored}: not readable; remove it to verify with the bundled clip instead") from None
        if windows.ndim != 3 or windows.shape[1:] != (config.features.n_mels, config.window.frames):
            raise TrainError(f"{stored}: holds {windows.shape}, which is not of this checkpoint; remove it")
        return windows, "validation windows of the run"
    return demo_windows(config.features, config.window), "windows of the bundled clip"


def export_checkpoint(
    checkpoint: Path, out: Path, *, memory: Path | None = None, tolerance: float = TOLERANCE
) -> Exported:
    """Write the averaged network of ``checkpoint`` to ``out``, after comparing it with torch on real windows.

    Args:
        checkpoint: of a run.
        out: the ONNX file.
        memory: file of a memory of the voice (:mod:`stream_ser.train.transfer.voice_head`) to attach.
        tolerance: largest difference from torch.

    Raises:
        TrainError: an unreadable checkpoint, a memory of another network, or a difference above ``tolerance``
            (nothing is written then).
        OutputError: ``out`` cannot be written, or is a file of the run.
    """
    for path in (checkpoint, *(checkpoint.with_name(name) for name in (CHECKPOINT, BEST, WINDOWS))):
        if out.exists() and path.exists() and out.samefile(path):
            raise OutputError(f"{out}: is the run's own {path.name}, expected another file; choose another --out")
    state = read_checkpoint(checkpoint)
    network = trained_network(state)
    config = RunConfig.from_dict(state["config"])
    chosen = ", chosen on the validation part, which is thus no longer unseen" if checkpoint.name == BEST else ""
    voice = None if memory is None else _voice_head(memory, network)
    return _export(out, checkpoint, network, make_card(state, network, chosen, voice), voice, config, tolerance)


def _voice_head(path: Path, network: nn.Module) -> VoiceHead:
    if not isinstance(network, StreamingSepTr):
        raise TrainError(f"{path}: only streaming-septr takes a memory of the voice; export without --memory")
    return fitting(read(path), path, network, network.config.dim, network.config.num_classes)


def export_network(network: StreamingSepTr, state: dict[str, Any], voice: VoiceHead, out: Path) -> Card:
    """Write a network with a memory without proof, for measurements; returns its card."""
    card = make_card(state, network, voice=voice)
    write_onnx(network, card, out, voice)
    return card


def _export(
    out: Path,
    checkpoint: Path,
    network: nn.Module,
    card: Card,
    voice: VoiceHead | None,
    config: RunConfig,
    tolerance: float,
) -> Exported:
    windows, source = real_windows(checkpoint, config)
    mean, std = np.asarray(card.mean, np.float32), np.asarray(card.std, np.float32)
    normalised = normalize(torch.from_numpy(windows), config.features, mean, std)
    with temporary_beside(out) as temporary:
        write_onnx(network, card, temporary, voice)
        if isinstance(network, StreamingSepTr):
            tolerance = min(tolerance, streaming.TOLERANCE)
            adapter = None if voice is None else voice.adapter
            difference = streaming.largest_difference(temporary, card, network, normalised, adapter)
        else:
            difference = largest_difference(temporary, network, normalised)
        if not difference <= tolerance:
            raise TrainError(
                f"the ONNX file differs from torch by {difference:.2e} on {len(windows)} {source}, more than "
                f"{tolerance:.0e}; nothing was written"
            )
        os.replace(temporary, out)
    return Exported(out, card, difference, len(windows), source)


def keep_checkpoint(out: Path, checkpoint: Path) -> None:
    """See that an export does not replace what it is made from.

    Raises:
        OutputError: both are one file.
    """
    if out.exists() and checkpoint.exists() and out.samefile(checkpoint):
        raise OutputError(f"{out}: is the checkpoint, expected another file; choose another --out")


@contextlib.contextmanager
def temporary_beside(out: Path) -> Iterator[Path]:
    """Path of a temporary file in the folder of ``out``; removed at the end unless it was renamed.

    Raises:
        OutputError: the folder cannot be created or written.
    """
    if out.is_dir():
        raise OutputError(f"{out}: is a folder, expected the name of a file")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(suffix=".onnx", prefix=".part-", dir=out.parent)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None
    os.close(handle)
    os.chmod(name, 0o644)
    path = Path(name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def write_onnx(network: nn.Module, card: Card, path: Path, voice: VoiceHead | None = None) -> None:
    """Write ``network`` with ``card`` as one file: weights inside, batch dynamic, mel and time fixed."""
    if isinstance(network, StreamingSepTr):
        model = streaming.hop_graph(network, card, None if voice is None else voice.adapter)
    else:
        example = torch.zeros(2, card.features.n_mels, card.window.frames)
        model = graph_of(network, [example], [INPUT_NAME], [OUTPUT_NAME])
    note_weights(model, network.state_dict())
    write_card(model, card)
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path), save_as_external_data=False)


def write_card(model: onnx.ModelProto, card: Card) -> None:
    """Put the card into a model, in place of an older one."""
    kept = [(p.key, p.value) for p in model.metadata_props if p.key != CARD_KEY]
    del model.metadata_props[:]
    for key, value in [*kept, (CARD_KEY, card.to_json())]:
        model.metadata_props.add(key=key, value=value)


def rewrite_card(path: Path, card: Card) -> None:
    """Replace the card of a file on disk, atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    model = onnx.load(str(path))
    write_card(model, card)
    with temporary_beside(path) as temporary:
        onnx.save_model(model, str(temporary), save_as_external_data=False)
        os.replace(temporary, path)
