"""Which word of a known text is said when: forced alignment by a multitask network's CTC output.

Example:
    >>> import stream_ser as ss
    >>> [(word.text, word.start) for word in ss.align("clip.wav", "kids are talking")]  # doctest: +SKIP
    [('KIDS', 8496), ('ARE', 15536), ('TALKING', 19376)]
"""

from __future__ import annotations

import itertools
import math
import os

import numpy as np
from numpy.typing import NDArray

from stream_ser.audio.decode import AudioFile
from stream_ser.audio.resample import Resampler
from stream_ser.config import LOUDEST, SAMPLE_RATE_HZ
from stream_ser.ctc import ctc_alignment, words
from stream_ser.ctc.alignment import Word as AlignedWord
from stream_ser.errors import AudioError, DataError
from stream_ser.events import Word
from stream_ser.features.log_mel import LogMel, log_mel
from stream_ser.runtime.card.recognition import Card
from stream_ser.runtime.engine import Engine, Provider, load
from stream_ser.transcription.line_decoder import class_order, sample_of_step, vocabulary_of

#: The model that is taken where none is named.
DEFAULT_MODEL = "multitask"
#: Steps times places in the text: the search keeps a byte for each, and a few moments of work.
MAX_CELLS = 512 * 1024**2


def ctc_log_probs(engine: Engine, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The CTC output for a whole clip, heard from its first to its last sample without forgetting.

    Args:
        engine: of a multitask network.
        samples: ``(time,)`` at the card's rate, full scale at 1.0.

    Returns:
        ``(steps, classes)``; step ``i`` describes frames from ``i * stride`` on: the delay is taken out.

    Raises:
        ModelError: the model has no such output.
        AudioError: a sample is NaN or infinite, or there is not one frame.
    """
    card, hop = engine.card, engine.frames
    vocabulary_of(card)
    if not (np.abs(samples) <= LOUDEST).all():
        raise AudioError("holds NaN or infinity, expected finite samples with full scale at 1; export the audio again")
    frames = log_mel(samples, card.features).T
    if not len(frames):
        needed_ms = 1000.0 * card.features.n_fft / card.features.sample_rate
        raise AudioError(f"{samples.size} samples of audio, too short: expected {needed_ms:g} ms or more")
    hops = -(-(len(frames) + card.delay_frames) // hop)
    padded = np.full((hops * hop, card.features.n_mels), LogMel(card.features).silence, dtype=np.float32)
    padded[: len(frames)] = frames
    found = []
    state = engine.initial_state()
    for first in range(0, len(padded), hop):
        step = engine.step(padded[first : first + hop], state)
        state = step.state
        assert step.log_probs is not None
        found.append(step.log_probs)
    late = _delay_steps(card)
    output: NDArray[np.float32] = np.concatenate(found)[late : late - (-len(frames) // card.stride)]
    return output


def align_samples(engine: Engine, samples: NDArray[np.float32], text: str) -> list[Word]:
    """:func:`align` for samples ``(time,)`` at the rate of the engine's card."""
    card = engine.card
    vocabulary = vocabulary_of(card)
    tokens = vocabulary.encode(text)
    if not set(tokens) - {vocabulary.space}:
        raise DataError(f"the text {text[:80]!r} holds no letter, expected words that are said in the audio")
    log_probs = ctc_log_probs(engine, samples)
    if len(log_probs) * (2 * len(tokens) + 1) > MAX_CELLS:
        seconds = samples.size / card.features.sample_rate
        raise DataError(
            f"{seconds:.0f} s of audio and {len(tokens):,} characters are too much at once; align it in parts"
        )
    ordered = log_probs[:, class_order(card)]
    needed = len(tokens) + sum(a == b for a, b in itertools.pairwise(tokens))
    if needed > len(ordered):
        step_s = card.stride * card.features.hop_length / card.features.sample_rate
        raise DataError(
            f"the text has {len(tokens)} characters and needs {needed * step_s:.2f} s or more, and the audio lasts "
            f"{samples.size / card.features.sample_rate:.2f} s; is it the text of this recording?"
        )
    (alignment,) = ctc_alignment(ordered, tokens, len(ordered), len(tokens))
    return [_placed(word, card, samples.size) for word in words(alignment, vocabulary, 1.0)]


def align(
    audio: str | os.PathLike[str] | NDArray[np.floating],
    text: str,
    *,
    sample_rate: int = SAMPLE_RATE_HZ,
    model: str | os.PathLike[str] | Engine = DEFAULT_MODEL,
    provider: Provider = "auto",
) -> list[Word]:
    """When each word of a text is said in a recording of it.

    Args:
        audio: a file that libsndfile reads, or samples ``(time,)`` with full scale at 1.0.
        text: what is said, all of it; case, punctuation and accents that the model lacks do not matter.
        sample_rate: of the samples, Hz; a file knows its own.
        model: name of a bundled model, an ``.onnx`` file, or an engine from :func:`stream_ser.load`.
        provider: where the network runs, if it is loaded here.

    Returns:
        The words in the model's spelling; positions count at the rate of the model's card, 16 kHz in the bundled ones.

    Raises:
        AudioError: a file that cannot be read, or samples that are not finite.
        DataError: a character that the model lacks, no word, or more text than the audio has room for.
        ModelError: no such model, or one without a CTC output.
        ValueError: samples that are not ``(time,)``, or a rate below 1 Hz.
    """
    engine = load(model, provider) if isinstance(model, (str, os.PathLike)) else model
    vocabulary_of(engine.card)
    return align_samples(engine, at_rate(audio, sample_rate, engine.card.features.sample_rate), text)


def at_rate(audio: str | os.PathLike[str] | NDArray[np.floating], rate: int, wanted: int) -> NDArray[np.float32]:
    """A file, or samples ``(time,)`` at ``rate``, as samples at ``wanted`` Hz; raises as :func:`align`."""
    if not isinstance(audio, np.ndarray):
        with AudioFile(audio, wanted) as opened:
            return np.concatenate([np.zeros(0, np.float32), *opened.blocks()])
    if audio.ndim != 1 or rate < 1:
        raise ValueError(f"samples of shape {audio.shape} at {rate} Hz, expected (time,) at 1 Hz or more")
    resampler = Resampler(rate, wanted)
    samples = np.asarray(audio, dtype=np.float32)
    return np.concatenate([resampler.push(samples), resampler.flush()])


def _delay_steps(card: Card) -> int:
    return -(-card.delay_frames // card.stride)


def _placed(word: AlignedWord, card: Card, length: int) -> Word:
    late = _delay_steps(card)
    start, end = (sample_of_step(card, late + round(at)) for at in (word.start_s, word.end_s))
    start = min(max(start, 0), length - 1)
    return Word(word.text, start, max(start + 1, min(end, length)), min(1.0, math.exp(word.score)))
