"""What a streaming network makes of each clip as the runtime hears it: with voice activity detection, hop by hop.

Embeddings of whole clips are not what a memory of the voice sums up: the runtime begins half a second before the voice,
ends in the pause behind it, and splits a clip at pauses. So the runtime itself hears the clips here, on the network in
torch, which has a memory that adds up the embeddings alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stream_ser.errors import AudioError, TrainError
from stream_ser.features.normalization import Normalizer
from stream_ser.models.streaming_septr import StreamingSepTr
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime.card.base import Memory, State
from stream_ser.runtime.card.recognition import Card
from stream_ser.runtime.engine import Step
from stream_ser.train.checkpoint import trained_network
from stream_ser.train.config import RunConfig
from stream_ser.train.data.corpora import Clip
from stream_ser.train.data.pcm16 import to_float32
from stream_ser.train.data.windows import read_waves
from stream_ser.train.transfer.finetune import read_run
from stream_ser.train.transfer.voice_head import FULL_S, fingerprint

Floats = NDArray[np.float32]
#: Clips that are decoded at a time.
_AT_ONCE = 256


class TorchEngine:
    """A streaming network in torch where the runtime expects an engine; its memory sums up embeddings.

    Args:
        network: in evaluation mode.
        state: of its checkpoint.

    Attributes:
        width: of an embedding.
    """

    path = Path("checkpoint")
    provider = "torch"
    note = ""
    batches = False

    def __init__(self, network: StreamingSepTr, state: dict[str, Any]) -> None:
        config = RunConfig.from_dict(state["config"])
        self._network = network
        self.width = network.config.dim
        self._size = 1 + self.width
        self.card = Card(
            name=state["network"],
            labels=tuple(state["labels"]),
            features=config.features,
            mean=tuple(state["mean"]),
            std=tuple(state["std"]),
            window=config.window,
            # Of the network's own states the runtime knows only that they are carried along.
            states=(State("session", "next_session", (1, self._size)),),
            memory=Memory("session", "voice", FULL_S, fingerprint(network)),
        )
        self.frames = config.window.hop
        self._normalize = Normalizer(config.features, self.card.mean, self.card.std, self.frames)
        self._input = np.zeros((1, config.features.n_mels, self.frames), np.float32)

    def initial_state(self) -> tuple[Any, ...]:
        """The session, then the network's state."""
        session: Any = np.zeros((1, self._size), np.float32)
        return session, *self._network.initial_state().flat()

    @torch.no_grad()
    def step(self, frames: Floats, state: tuple[Any, ...]) -> Step:
        """As :meth:`stream_ser.runtime.engine.Engine.step`; the session changes nothing."""
        session, *own = state
        self._normalize(frames, self._input[0])
        make_up = self._network.initial_state()
        embeddings, after = self._network.columns(torch.from_numpy(self._input.copy()), make_up.filled(own))
        embedding = embeddings[0, -1]
        probabilities = tuple(self._network.head(embedding).double().softmax(dim=-1).tolist())
        voice = np.concatenate((np.ones(1, np.float32), embedding.numpy()))
        following: tuple[Any, ...] = (session, *after.flat())
        return Step(probabilities, None, following, voice=voice)


@dataclass(frozen=True)
class Heard:
    """Clips as the runtime heard them.

    Attributes:
        embeddings: mean over a clip's utterances, weighted as a session weights them; zeros where no voice was heard,
            ``(clips, dim)``.
        weights: how many utterances a clip is, ``(clips,)``; 0 where no voice was heard.
    """

    embeddings: Floats
    weights: Floats

    @property
    def any(self) -> NDArray[np.bool_]:
        """True for clips in which a voice was heard, ``(clips,)``."""
        return self.weights > 0.0


def network_of(run: Path) -> tuple[StreamingSepTr, dict[str, Any]]:
    """A streaming network and its checkpoint, from a run folder, a checkpoint or an exported file.

    Raises:
        TrainError: none there, or of another network.
    """
    state = read_run(run)
    network = trained_network(state)
    if not isinstance(network, StreamingSepTr):
        raise TrainError(f"{run}: a {state['network']}, expected streaming-septr, which alone takes a memory")
    return network, state


def hear(
    network: StreamingSepTr,
    state: dict[str, Any],
    clips: Sequence[Clip],
    advance: Callable[[], object] = lambda: None,
) -> Heard:
    """Hear each clip as a stream of its own.

    Args:
        network: in evaluation mode.
        state: of its checkpoint.
        clips: to be heard.
        advance: called once a clip.

    Raises:
        AudioError: a clip that cannot be decoded.
        DataError: a clip shorter than a frame.
    """
    engine: Any = TorchEngine(network, state)
    threads = torch.get_num_threads()
    # A hop is too little work to share: on a busy machine two threads take five times as long as one.
    torch.set_num_threads(1)
    try:
        return _hear(engine, clips, advance)
    finally:
        torch.set_num_threads(threads)


def _hear(engine: Any, clips: Sequence[Clip], advance: Callable[[], object]) -> Heard:
    recognizer = Recognizer(engine, replace(engine.card.decider, change_distance=1.0))
    embeddings = np.zeros((len(clips), engine.width), np.float32)
    weights = np.zeros(len(clips), np.float32)
    features = engine.card.features
    for start in range(0, len(clips), _AT_ONCE):
        for place, wave in enumerate(read_waves(clips[start : start + _AT_ONCE], features), start):
            recognizer.reset()
            recognizer.push(to_float32(wave))
            try:
                recognizer.flush()
            except AudioError:
                # Too short for an answer, and so for a voice.
                advance()
                continue
            profile = recognizer.voice
            assert profile is not None
            if profile.utterances > 0.0:
                weights[place] = profile.utterances
                embeddings[place] = np.asarray(profile.values[1:]) / profile.utterances
            advance()
    return Heard(embeddings, weights)


def cached(
    network: StreamingSepTr,
    state: dict[str, Any],
    clips: Sequence[Clip],
    keys: Sequence[str],
    path: Path | None,
    advance: Callable[[], object] = lambda: None,
) -> Heard:
    """As :func:`hear`, from the file ``path`` where that has all clips of this network, else written there.

    Args:
        network: as for :func:`hear`.
        state: as for :func:`hear`.
        clips: as for :func:`hear`.
        keys: names of the clips in the file.
        path: the file; None for none.
        advance: as for :func:`hear`.
    """
    own = fingerprint(network)
    if path is not None and path.is_file():
        with np.load(path, allow_pickle=False) as file:
            rows = {key: row for row, key in enumerate(file["keys"].tolist())}
            if str(file["network"]) == own and all(key in rows for key in keys):
                wanted = [rows[key] for key in keys]
                return Heard(file["embeddings"][wanted], file["weights"][wanted])
    found = hear(network, state, clips, advance)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, keys=np.asarray(keys), network=own, embeddings=found.embeddings, weights=found.weights)
    return found
