"""The files of a run folder that outlive the run: how they are written, and how a network comes back from them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from stream_ser.errors import TrainError
from stream_ser.models import registry
from stream_ser.models.base import WindowNetwork

from .config import RunConfig
from .files import write_atomically as write_atomically

Network = TypeVar("Network", bound=nn.Module)

CHECKPOINT = "checkpoint.pt"
BEST = "best.pt"
#: Some validation windows, by which an export is verified.
WINDOWS = "windows.npz"
#: What every reader of a checkpoint takes for granted.
_KINDS = {
    **dict.fromkeys(("config", "average", "describe"), Mapping),
    **dict.fromkeys(("labels", "mean", "std"), list),
    "network": str,
}


def current_commit(folder: Path | None = None) -> str:
    """Commit of a checkout, by default this file's, ``+`` for uncommitted changes; empty for an installed wheel."""
    # Not `describe --dirty`, which locks and rewrites the index: whoever commits at that moment would be refused.
    folder = folder or Path(__file__).resolve().parent
    command = ["git", "--no-optional-locks", "-C", str(folder), "status", "--porcelain=v2", "--branch", "-uno"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    head = re.search(r"^# branch\.oid ([0-9a-f]{12})", done.stdout, re.MULTILINE)
    if done.returncode != 0 or head is None:
        return ""
    changed = any(not line.startswith("#") for line in done.stdout.splitlines())
    return head[1] + ("+" if changed else "")


def load_as_data(path: Path, command: str) -> Any:
    """What ``torch.save`` wrote, never run as code (``weights_only``).

    Args:
        path: of the file.
        command: that makes one, for the message.

    Raises:
        TrainError: missing or unreadable.
    """
    if not path.is_file():
        raise TrainError(f"{path}: no such checkpoint; train one with '{command}' first")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch raises many kinds for a broken file
        # The rest of torch's message advises to load it as code.
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise TrainError(f"{path}: not a readable checkpoint ({type(error).__name__}: {reason})") from None


def read_state(path: Path, format_: str, what: str, command: str, kinds: Iterable[tuple[str, type]]) -> dict[str, Any]:
    """Read a checkpoint of another training than the classifiers' as data, never as code.

    Args:
        path: of the file.
        format_: what its ``format`` must be.
        what: what it should be, for messages.
        command: that makes one.
        kinds: what else it holds, and of which type.

    Raises:
        TrainError: missing, unreadable, or something else.
    """
    state: Any = load_as_data(path, command)
    if not isinstance(state, dict) or state.get("format") != format_:
        raise TrainError(f"{path}: not {what}; train one with '{command}'")
    for name, kind in kinds:
        if not isinstance(state.get(name), kind):
            raise TrainError(f"{path}: a damaged checkpoint ({name!r} is missing); train again")
    return state


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint as data, never as code (``weights_only``).

    Raises:
        TrainError: missing, unreadable, or not one of ours.
    """
    state = load_as_data(path, "stream-ser train")
    if not isinstance(state, dict) or state.get("format") != 1 or "average" not in state:
        raise TrainError(f"{path}: not a checkpoint of stream-ser; train one with 'stream-ser train'")
    for name, kind in _KINDS.items():
        if not isinstance(state.get(name), kind):
            what = "a table" if kind is Mapping else "a list" if kind is list else "a word"
            raise TrainError(f"{path}: a damaged checkpoint ({name!r} is not {what}); train again, or use another one")
    return state


def trained_network(state: dict[str, Any]) -> WindowNetwork:
    """The averaged network of a checkpoint, in evaluation mode, without normalisation in front.

    Raises:
        TrainError: weights that do not fit the configuration.
    """
    config = RunConfig.from_dict(state["config"])
    prefix = "module.network."
    weights = {k.removeprefix(prefix): v for k, v in state["average"].items() if k.startswith(prefix)}
    return with_weights(registry.build(config.network, config.model), weights)


def with_weights(network: Network, weights: dict[str, Any]) -> Network:
    """A network with the weights of a checkpoint, in evaluation mode.

    Raises:
        TrainError: they do not fit.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise TrainError(f"checkpoint does not fit its own configuration: {str(error).splitlines()[0]}") from None
    return network.eval()
