"""A network of a card's kind with another window and weights drawn at random: it costs what a trained one costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from stream_ser.errors import ModelError, TrainError
from stream_ser.models import registry
from stream_ser.models.streaming_septr import StreamingSepTr
from stream_ser.runtime.card.recognition import Card
from stream_ser.train.config import tuples

from .checkpoints import write_onnx
from .kinds.streaming import states_of


def write_untrained(card: Card, seconds: float, path: Path) -> Card:
    """Write such a network.

    Args:
        card: of a network that this project trained; its card tells the settings.
        seconds: length of the window, rounded up to whole tokens; of a network for streams, how long it remembers.
        path: of the ONNX file.

    Returns:
        The new card. It claims nothing about the weights: no results, no training.

    Raises:
        ModelError: the card does not tell how the network is built, or it cannot be built so long.
    """
    settings = card.training.get("model")
    if not isinstance(settings, dict):
        raise ModelError(f"the card of {card.name} does not tell how the network is built; expected an exported run")
    wanted = max(1, round(seconds * card.features.sample_rate / card.features.hop_length))
    patch = settings.get("patch")
    step = int(patch[1]) if isinstance(patch, (list, tuple)) else 1
    frames = -(-wanted // step) * step
    if card.states:
        changes = {"memory": max(1, wanted // step)}
        frames = card.window.frames
    else:
        changes = {"n_frames": frames}
    try:
        # Drawn without touching the caller's random numbers: the same weights each time.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            config = registry.get(card.name).config(**tuples({**settings, **changes}))
            network = registry.build(card.name, config)
            network.set_normalization(torch.tensor(card.mean), torch.tensor(card.std), card.features.log_floor)
    except (TypeError, ValueError, TrainError) as error:
        raise ModelError(f"{card.name} cannot be built with a window of {seconds:g} s: {error}") from None
    window = card.window
    minimum = min(window.minimum, frames)
    new = replace(
        card,
        window=replace(window, frames=frames, minimum=minimum, shortest=min(window.shortest, minimum)),
        parameters=sum(p.numel() for p in network.parameters()),
        states=states_of(network) if isinstance(network, StreamingSepTr) else (),
        training={},
        results={},
        licence="Random weights.",
    )
    write_onnx(network, new, path)
    return new
