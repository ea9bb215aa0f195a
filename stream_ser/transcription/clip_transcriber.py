"""A network that writes down what is said in a clip: loaded, checked against its card, run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_ser.config import LOUDEST
from stream_ser.errors import AudioError, ModelError
from stream_ser.features.log_mel import log_mel
from stream_ser.features.normalization import Normalizer
from stream_ser.runtime.card.recognition import CARD_KEY, FEATURES
from stream_ser.runtime.card.transcription import END, SCORES, TOKENS, TranscriberCard
from stream_ser.runtime.engine import CPU, open_session, reason
from stream_ser.runtime.onnx_scan import read_metadata
from stream_ser.text import printable


@dataclass(frozen=True, slots=True)
class Text:
    """What was written.

    Attributes:
        text: words with one space between; empty where nothing was said.
        confidence: geometric mean of the probabilities of its characters and its end.
    """

    text: str
    confidence: float


class Transcriber:
    """An exported transcriber, on the CPU: its loop is many small steps, of which a GPU does none faster.

    Args:
        model: an ``.onnx`` file.
        threads: inside one inference.

    Attributes:
        path: the file.
        card: its card.

    Raises:
        ModelError: no such file, no ONNX, no card, another kind of network, or a graph that does not fit the card.
    """

    def __init__(self, model: str | os.PathLike[str], threads: int = 1) -> None:
        self.path = path = Path(model)
        if path.is_dir():
            raise ModelError(f"{path}: is a folder, expected an .onnx file")
        if not path.is_file():
            raise ModelError(f"{path}: no such file, expected one of 'stream-ser export --model transcriber'")
        text = read_metadata(path).get(CARD_KEY)
        if text is None:
            raise ModelError(f"{path}: has no stream-ser card; make it with 'stream-ser export --model transcriber'")
        try:
            self.card = TranscriberCard.from_json(text)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None
        self._run = open_session(path, [CPU], threads)
        self._check_signature()

    def _check_signature(self) -> None:
        inputs, outputs = self._run.get_inputs(), self._run.get_outputs()
        wanted = [(FEATURES, "tensor(float)"), (TOKENS, "tensor(int64)"), (SCORES, "tensor(float)")]
        try:
            found = [(value.name, value.type) for value in (*inputs, *outputs)]
        except UnicodeDecodeError as error:
            raise ModelError(f"{self.path}: a name is no UTF-8 ({error.reason}); export it again") from None
        shape = inputs[0].shape if inputs else []
        if found != wanted or len(inputs) != 1 or len(shape) != 3 or shape[:2] != [1, self.card.features.n_mels]:
            raise ModelError(
                f"{self.path}: has {printable(str(found), 300)} of shape {printable(str(shape), 80)}, but its card "
                f"needs {FEATURES} (1, {self.card.features.n_mels}, frames), {TOKENS} and {SCORES}; export it again"
            )

    def transcribe(self, samples: NDArray[np.float32]) -> Text:
        """Write down one clip.

        Args:
            samples: ``(time,)`` at the card's rate, full scale at 1.0; see
                :class:`stream_ser.transcription.clip_splitter.Pieces` for what is longer than ``card.max_samples``.

        Raises:
            AudioError: a sample is NaN or infinite.
            ModelError: the network fails, or returns what is no text.
            ValueError: the clip is too long.
        """
        card = self.card
        if len(samples) > card.max_samples:
            raise ValueError(f"{len(samples)} samples, expected at most {card.max_samples}; cut them into pieces")
        if not (np.abs(samples) <= LOUDEST).all():
            raise AudioError(
                "holds NaN or infinity, expected finite samples with full scale at 1; export the audio again"
            )
        frames = log_mel(samples, card.features).T
        frames = frames[: len(frames) - len(frames) % card.stride]
        if not len(frames):
            return Text("", 0.0)
        features = np.empty((1, card.features.n_mels, len(frames)), np.float32)
        Normalizer(card.features, card.mean, card.std, len(frames))(np.ascontiguousarray(frames), features[0])
        try:
            tokens, scores = self._run.run([TOKENS, SCORES], {FEATURES: features})
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class
            raise ModelError(f"{self.path}: the network cannot be run ({reason(error)}); export it again") from None
        most = min(len(frames) // card.stride, card.max_tokens) + 1
        if tokens.ndim != 1 or tokens.shape != scores.shape or not 1 <= len(tokens) <= most or np.isnan(scores).any():
            raise ModelError(
                f"{self.path}: the network returned tokens {tokens.shape} and scores {scores.shape}, expected 1 to "
                f"{most} of each and no NaN; export it again"
            )
        try:
            text = card.text_of([token for token in tokens.tolist() if token != END])
        except ModelError as error:
            raise ModelError(f"{self.path}: {error}") from None
        return Text(text, min(1.0, float(np.exp(np.mean(scores, dtype=np.float64)))))
