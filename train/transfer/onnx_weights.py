"""A network back from its ONNX file, so that a bundled model can be fine-tuned, or teach."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from stream_ser.errors import TrainError
from stream_ser.models import registry
from stream_ser.models.base import WindowNetwork
from stream_ser.runtime import engine
from stream_ser.train.config import RunConfig
from stream_ser.train.data.normalization import normalize

#: Where a file's metadata tells which constant holds which weight, where that has not the weight's own name.
WEIGHTS_KEY = "stream_ser.weights"
#: Ends the name of a constant that is the weight transposed: a linear layer is a product from the left in the file.
TRANSPOSED = ".T"
#: Stands for a weight that is all zeros, and may not be in the file.
ZEROS = "0"
#: Most numbers of a weight that is written into the metadata itself.
WRITTEN_OUT = 1_024
#: Largest difference of a logit that what was read may show against the file itself.
TOLERANCE = 1e-3

Weights = dict[str, torch.Tensor]


def note_weights(model: onnx.ModelProto, weights: Mapping[str, torch.Tensor]) -> None:
    """Write into the metadata of an exported graph which of its constants are which weights.

    The exporter keeps the names of what it leaves as it is; what it transposes or reshapes becomes a number, and of
    equal constants it keeps one. Small ones that it computes with ahead, and drops, are written out; batch norm, which
    goes into the layer before it, is not.

    Args:
        model: its metadata is changed.
        weights: state of the network that was exported.
    """
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in model.graph.initializer}
    noted: dict[str, str | list[float]] = {}
    for name, tensor in weights.items():
        wanted = tensor.detach().cpu().numpy()
        if name in constants or not tensor.is_floating_point():
            continue
        if not wanted.any():
            noted[name] = ZEROS
            continue
        for other, value in constants.items():
            if value.size != wanted.size or value.dtype != wanted.dtype:
                continue
            if np.array_equal(value.ravel(), wanted.ravel()):
                noted[name] = other
                break
            if wanted.ndim == 2 and value.shape == wanted.T.shape and np.array_equal(value, wanted.T):
                noted[name] = other + TRANSPOSED
                break
        else:
            if wanted.size <= WRITTEN_OUT and f"{name.rpartition('.')[0]}.running_mean" not in weights:
                noted[name] = wanted.ravel().tolist()
    model.metadata_props.add(key=WEIGHTS_KEY, value=json.dumps(noted))


def read_onnx(path: Path) -> dict[str, Any]:
    """What of a checkpoint a start or a teacher needs, from an exported file.

    The export folds batch norm into the layer before it; here that layer keeps the product and batch norm begins anew
    as the identity, with the folded bias.

    Raises:
        TrainError: not a network of ours, or one whose weights do not stand in the file by name.
        ModelError: a file that the runtime refuses.
    """
    loaded = engine.load(path, "cpu")
    card = loaded.card
    about = card.training
    try:
        config = RunConfig.from_dict(
            {
                "network": card.name,
                "model": about["model"],
                "train": about["recipe"],
                "augment": about["augment"],
                "features": asdict(card.features),
                "window": asdict(card.window),
            }
        )
        network = registry.build(config.network, config.model)
        network.set_normalization(torch.tensor(card.mean), torch.tensor(card.std), card.features.log_floor)
        network.load_state_dict(read_weights(network, path), strict=False)
    except (KeyError, TypeError, RuntimeError, ValueError, TrainError) as error:
        raise TrainError(
            f"{path}: cannot be trained on ({error}); give the checkpoint or run folder that it came from"
        ) from None
    _check(path, loaded, network.eval(), config)
    return {
        "network": config.network,
        "config": config.as_dict(),
        "labels": list(card.labels),
        "mean": list(card.mean),
        "std": list(card.std),
        "average": {f"module.network.{name}": value for name, value in network.state_dict().items()},
        "describe": about,
        # Cards from before the field say it in one sentence.
        "licences": about.get("licences") or {path.name: card.licence},
    }


def read_weights(network: nn.Module, path: Path) -> Weights:
    """The state of ``network``, but for counters, from the constants of its file.

    Raises:
        KeyError: a weight that does not stand in the file by its name.
    """
    model = onnx.load(str(path))
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in model.graph.initializer}
    noted: dict[str, str | list[float]] = {}
    for entry in model.metadata_props:
        if entry.key == WEIGHTS_KEY:
            noted = json.loads(entry.value)

    def take(name: str, shape: torch.Size) -> torch.Tensor:
        at = noted.get(name, name)
        if at == ZEROS:
            return torch.zeros(shape)
        if isinstance(at, list):
            return torch.tensor(at).reshape(shape)
        found = constants.get(at.removesuffix(TRANSPOSED))
        if found is None:
            raise KeyError(name)
        return torch.from_numpy(np.array(found.T if at.endswith(TRANSPOSED) else found)).reshape(shape)

    state: Weights = {}
    before = ""
    for prefix, module in network.named_modules():
        own = {f"{prefix}.{name}".lstrip("."): value for name, value in module.named_parameters(recurse=False)}
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            size = torch.Size([module.num_features])
            folded = f"{before}.weight_bias"
            if folded in constants:
                biased = f"{before}.bias" in state
                state[f"{prefix}.weight"] = torch.ones(size)
                state[f"{prefix}.bias"] = torch.zeros(size) if biased else take(folded, size)
                state[f"{prefix}.running_mean"] = torch.zeros(size)
                state[f"{prefix}.running_var"] = torch.full(size, 1.0 - module.eps)
                continue
            own.update({f"{prefix}.{name}": getattr(module, name) for name in ("running_mean", "running_var")})
        for name, value in own.items():
            folded = f"{prefix}.weight_bias"
            state[name] = take(folded if name == f"{prefix}.bias" and folded in constants else name, value.shape)
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            before = prefix
    return state


def _answer(loaded: engine.Engine, window: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logits of raw log-mel ``(mel, time)``; of a network that hears hop by hop, after whole hops, up to a constant."""
    if not loaded.card.states:
        return np.asarray(loaded.logits(window.T), np.float64)
    hop, state = loaded.card.window.hop, loaded.initial_state()
    for first in range(0, window.shape[1], hop):
        step = loaded.step(window[:, first : first + hop].T, state)
        state = step.state
    logits: NDArray[np.float64] = np.log(np.asarray(step.probabilities)) * loaded.card.temperature
    return logits


@torch.no_grad()
def _check(path: Path, loaded: engine.Engine, network: WindowNetwork, config: RunConfig) -> None:
    """Compare with the file itself, on noise.

    Raises:
        TrainError: they differ.
    """
    card = loaded.card
    # Of a stream, whole hops.
    frames = card.window.frames if not card.states else card.window.frames // card.window.hop * card.window.hop
    rng = np.random.default_rng(0)
    window = rng.normal(-4.0, 2.0, (config.features.n_mels, frames)).astype(np.float32)
    mean, std = np.asarray(card.mean, np.float32), np.asarray(card.std, np.float32)
    x = normalize(torch.from_numpy(window)[None], config.features, mean, std)
    ours = network.head(network.embed(x))[0].double().numpy()
    theirs = _answer(loaded, window)
    if card.states:
        ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    difference = float(np.abs(ours - theirs).max())
    if not difference <= TOLERANCE:
        raise TrainError(
            f"{path}: the weights read from it give other logits (by {difference:.1e}); give the checkpoint or run "
            "folder that it came from"
        )
