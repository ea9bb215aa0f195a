"""ONNX models: found, checked against their card, run. It and :mod:`.io_binding` alone know onnxruntime."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_ser.errors import ModelError
from stream_ser.features.normalization import Normalizer
from stream_ser.runtime import providers
from stream_ser.runtime.bundled import bundled as bundled
from stream_ser.runtime.bundled import find_model as find_model
from stream_ser.runtime.card.recognition import CARD_KEY, FEATURES, LOG_PROBS, LOGITS, Card
from stream_ser.runtime.cuda import preload_tensorrt
from stream_ser.runtime.io_binding import Bound, OnDevice
from stream_ser.runtime.onnx_scan import read_metadata
from stream_ser.runtime.providers import CPU as CPU
from stream_ser.runtime.providers import CUDA as CUDA
from stream_ser.runtime.providers import Provider as Provider
from stream_ser.runtime.providers import Wanted
from stream_ser.text import printable

DEFAULT_MODEL = "streaming-septr"
INPUT_NAME, OUTPUT_NAME = "log_mel", LOGITS
_log = logging.getLogger("stream_ser.engine")
#: onnxruntime's log levels.
_WARNING, _FATAL = 2, 4


def available_providers() -> list[str]:
    """Providers that this onnxruntime was built with, whether or not they can be used here."""
    import onnxruntime as ort

    return list(ort.get_available_providers())


class _ToLog(io.TextIOBase):
    """A text stream whose lines go to the log."""

    def write(self, text: str) -> int:
        """Log what is not blank."""
        if text.strip():
            logging.getLogger("stream_ser.onnxruntime").info(text.strip())
        return len(text)


def reason(error: Exception) -> str:
    """The first line of what onnxruntime says, which quotes names from the file."""
    return printable(str(error).partition("\n")[0], 300) or type(error).__name__


def open_session(path: Path, wanted: list[str] | Wanted, threads: int) -> Any:
    """An ``onnxruntime.InferenceSession`` that spins on no core and prints nothing.

    Args:
        path: of a model whose bytes were checked, see :mod:`stream_ser.runtime.onnx_scan`, or that came with a package.
        wanted: execution providers, best first, with their options or without.
        threads: inside one inference.

    Raises:
        ModelError: not a readable ONNX model.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    # One thread and no spinning: at ten small inferences a second the default thread pool burns a third of a core
    # waiting, for the same median latency and a worse tail.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Whatever the file is called: onnxruntime's own format, by the suffix .ort, would be read unchecked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.log_severity_level = _FATAL
    try:
        # onnxruntime's complaints about missing CUDA libraries go to standard output, among the results, and as
        # several raw lines to standard error. What came of it is read off the session and said in one line.
        ort.set_default_logger_severity(_FATAL)
        with contextlib.redirect_stdout(_ToLog()):
            names = [one if isinstance(one, str) else one[0] for one in wanted]
            if CUDA in names:
                ort.preload_dlls()
            if providers.TENSORRT in names:
                preload_tensorrt()
            # Without its own fallback, which would drop the options unheard.
            return ort.InferenceSession(str(path), options, providers=wanted, enable_fallback=False)
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class
        raise ModelError(f"{path}: not a readable ONNX model ({reason(error)}); export or download it again") from None
    finally:
        ort.set_default_logger_severity(_WARNING)


#: Tensors that a streaming network carries from one step to the next, in the order of the card's states. On a GPU they
#: stay there.
State = tuple[NDArray[np.float32] | OnDevice, ...]
#: Above the logarithm of 1, for rounding.
_MOST_LOG_PROB = 0.01
#: Values that BLAS sums up on one thread (OpenBLAS: 10,000).
_QUICK = 8_192
#: A graph that replays something else than it was given is further from the CPU, relative to the largest answer, than
#: rounding is, that of float16 included.
_MOST_APART = 0.05


@dataclass(frozen=True, slots=True)
class Step:
    """What a streaming network makes of a hop.

    Attributes:
        probabilities: calibrated, of the card's labels, by all that was heard since the state was initial.
        log_probs: ``(hop / stride, classes)`` of its CTC output; None where it has none.
        state: for the next hop.
        seconds: that it took; its share where several streams were heard together.
        voice: ``(size,)`` what the utterance so far adds to a memory of the voice; None where the card has none.
    """

    probabilities: tuple[float, ...]
    log_probs: NDArray[np.float32] | None
    state: State
    seconds: float = 0.0
    voice: NDArray[np.float32] | None = None


class Engine:
    """One loaded model.

    Attributes:
        path: the file.
        card: its card.
        provider: the execution provider that the session really got.
        note: what a person should know about the choice of the provider; mostly empty.
        frames: of log-mel, that the network takes at once.
        batches: one call may serve several streams: the graph leaves the number of its rows free.
    """

    def __init__(self, path: Path, provider: Provider = "auto", threads: int = 1) -> None:
        wanted = providers.choose(provider, available_providers())
        self.path = path
        # Before onnxruntime opens it: what the file refers to, and what its card asks for.
        self.card = self._read_card()
        self._threads = threads
        self._run, graphs = self._open(wanted, graphs=True)
        # A session that could not load CUDA's libraries runs on the CPU without a word: only this list is true.
        self.provider: str = self._run.get_providers()[0]
        providers.check(provider, self.provider)
        fell_back = self.provider != wanted[0]
        self.note = (
            f"CUDA cannot be used here, running on {self.provider} (see 'stream-ser doctor')" if fell_back else ""
        )
        _log.info("%s: runs on %s", path, self.provider)
        card = self.card
        self.frames = card.window.hop if card.states else card.window.frames
        self._normalize = Normalizer(card.features, card.mean, card.std, self.frames)
        self._input = np.zeros((1, card.features.n_mels, self.frames), dtype=np.float32)
        name = FEATURES if card.states else INPUT_NAME
        self._inputs = {name: self._input.shape, **{state.input: state.shape for state in card.states}}
        self._outputs: dict[str, tuple[int, ...]] = {LOGITS: (1, len(card.labels))}
        if card.vocabulary:
            self._outputs[LOG_PROBS] = (1, card.window.hop // card.stride, len(card.vocabulary))
        if card.memory is not None:
            memory = card.memory
            self._outputs[memory.output] = next(part.shape for part in card.states if part.input == memory.state)
        self._outputs |= {state.output: state.shape for state in card.states}
        self._check_signature()
        self._feed = {name: self._input}
        tensors = [*self._run.get_inputs(), *self._run.get_outputs()]
        self.batches = not any(isinstance(tensor.shape[0], int) for tensor in tensors)
        self._rows = np.empty((0, *self._input.shape[1:]), dtype=np.float32)
        self._wanted = wanted
        self._bound = self._bind(graphs=graphs) if providers.on_gpu(self.provider) else None
        self._run_network(self.initial_state())  # warm-up: the first run allocates

    def _open(self, wanted: list[str], *, graphs: bool) -> tuple[Any, bool]:
        """A session, and whether it captures CUDA graphs: it cannot where a part of the network stays on the CPU."""
        if not providers.on_gpu(wanted[0]):
            return open_session(self.path, wanted, self._threads), False
        cache = providers.tensorrt_cache(self.path) if providers.TENSORRT in wanted else None
        half = self.card.training.get("precision") == "fp16"
        if graphs:
            options = providers.with_options(wanted, graphs=True, half=half, cache=cache)
            try:
                return open_session(self.path, options, self._threads), True
            except ModelError as error:
                _log.info("without CUDA graphs: %s", error)
        options = providers.with_options(wanted, graphs=False, half=half, cache=cache)
        try:
            return open_session(self.path, options, self._threads), False
        except ModelError as error:
            # A provider that cannot be loaded says so or not. If it is the file, the CPU cannot open it either.
            session = open_session(self.path, [CPU], self._threads)
            _log.info("%s cannot be used: %s", wanted[0], error)
            return session, False

    @functools.cached_property
    def _run_rows(self) -> Any:
        """The session for many streams: one of its own where one stream has fixed places for all tensors."""
        return self._run if self._bound is None else self._open(self._wanted, graphs=False)[0]

    def _bind(self, *, graphs: bool) -> Bound:
        """Give all tensors their places on the GPU, and see that what is replayed there is what the CPU computes."""
        if graphs:
            bound = self._place(graphs=True)
            try:
                apart = bound.apart(open_session(self.path, [CPU], os.cpu_count() or 1))
            except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class
                _log.info("%s: CUDA graphs cannot be captured (%s)", self.path, reason(error))
            else:
                if apart <= _MOST_APART:
                    _log.info("%s: CUDA graphs, within %.1e of the CPU", self.path, apart)
                    return bound
                _log.warning("%s: CUDA graphs are %.1e from the CPU and are not used", self.path, apart)
            self._run, _ = self._open(self._wanted, graphs=False)
        return self._place(graphs=False)

    def _place(self, *, graphs: bool) -> Bound:
        states = [(state.input, state.output, state.shape) for state in self.card.states]
        inputs = {name: array.shape for name, array in self._feed.items()}
        outputs = dict(list(self._outputs.items())[: len(self._outputs) - len(states)])
        return Bound(self._run, inputs, outputs, states, device=providers.device_of(self.provider), graphs=graphs)

    def _read_card(self) -> Card:
        text = read_metadata(self.path).get(CARD_KEY)
        if text is None:
            raise ModelError(
                f"{self.path}: has no stream-ser card ({CARD_KEY!r} in its metadata), so its labels and features are "
                "unknown; make it with 'stream-ser export'"
            )
        try:
            return Card.from_json(text)
        except ModelError as error:
            raise ModelError(f"{self.path}: {error}") from None

    def _check_signature(self) -> None:
        """Refuse a graph whose inputs and outputs are not those that its card names."""
        for kind, values, wanted in (
            ("input", self._run.get_inputs(), self._inputs),
            ("output", self._run.get_outputs(), self._outputs),
        ):
            most = len(wanted) + 2
            try:
                found = [(printable(v.name, 60), v.type, list(v.shape)[:8]) for v in values[:most]]
            except UnicodeDecodeError as error:
                raise ModelError(
                    f"{self.path}: not a readable ONNX model (a name is no UTF-8: {error.reason}); export or download "
                    "it again"
                ) from None
            given = {name: (type_, shape) for name, type_, shape in found}
            for name, shape in wanted.items():
                if len(found) != len(wanted) or not _fits(given.get(name), shape):
                    only = "only " if len(wanted) == 1 else ""
                    raise ModelError(
                        f"{self.path}: {kind} is {printable(str(found), 300)}, but its card needs {only}float32 "
                        f"{name!r} of shape ({', '.join(map(str, shape))}); export the model again"
                    )

    def logits(self, window: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run a network without states on one window.

        Args:
            window: raw log-mel ``(frames, n_mels)``; normalisation happens here, as the card asks.

        Returns:
            ``(labels,)`` float32.

        Raises:
            ModelError: the network cannot be run.
            ValueError: it has states.
        """
        if self.card.states:
            raise ValueError(f"{self.card.name} carries states from hop to hop; use step()")
        self._normalize(window, self._input[0])
        output: NDArray[np.float32] = self._run_network(())[0][0]
        return output

    def initial_state(self) -> State:
        """What a streaming network knows before it has heard anything; of any other network nothing."""
        return tuple(np.zeros(state.shape, dtype=np.float32) for state in self.card.states)

    def step(self, frames: NDArray[np.float32], state: State) -> Step:
        """Run a streaming network on the newest frames. Nothing of it stays in here: several streams may take turns.

        Args:
            frames: raw log-mel ``(hop, n_mels)``, with the hop of the card's window.
            state: of the step before, or :meth:`initial_state`.

        Raises:
            ModelError: the network cannot be run, or returned other shapes, NaN or infinity.
        """
        started = time.perf_counter()
        self._normalize(frames, self._input[0])
        step = self._step_of(self._run_network(state))
        return replace(step, seconds=time.perf_counter() - started)

    def together(self, frames: Sequence[NDArray[np.float32]], states: Sequence[State]) -> list[Step]:
        """Run the network once for several streams. What each is told differs from :meth:`step` by rounding alone.

        Args:
            frames: of each stream, as for :meth:`step` or :meth:`logits`.
            states: of each stream, empty for a network without.

        Raises:
            ModelError: as :meth:`step`, for any of them; or it does not batch.
        """
        if not self.batches:
            raise ModelError(f"{self.path}: takes one stream at a time; export it with a free batch axis")
        started, count = time.perf_counter(), len(frames)
        # On a GPU each new shape is prepared for, which takes longer than the network does: few shapes.
        rows = count if self._bound is None else 1 << (count - 1).bit_length()
        if len(self._rows) < rows:
            self._rows = np.zeros((rows, *self._input.shape[1:]), dtype=np.float32)
        for window, row in zip(frames, self._rows, strict=False):
            self._normalize(window, row)
        padded = [*states, *[self.initial_state()] * (rows - count)]
        feed = dict.fromkeys(self._feed, self._rows[:rows])
        for place, part in enumerate(self.card.states):
            feed[part.input] = np.concatenate([np.asarray(state[place]) for state in padded])
        outputs = self._run_session(self._run_rows, feed, rows)
        # Copies: a stream that pauses does not hold the states of all others.
        steps = [self._step_of([output[row : row + 1].copy() for output in outputs]) for row in range(count)]
        share_s = (time.perf_counter() - started) / count
        return [replace(step, seconds=share_s) for step in steps]

    def _step_of(self, outputs: list[Any]) -> Step:
        """What the outputs of one stream mean."""
        logits, *others = outputs
        log_probs = None
        if self.card.vocabulary:
            log_probs = others.pop(0)[0]
            if np.isnan(log_probs).any() or log_probs.max() > _MOST_LOG_PROB:
                raise ModelError(f"{self.path}: the network returned log_probs that are none; export it again")
        voice = None
        if self.card.memory is not None:
            voice = others.pop(0)[0]
            if not np.isfinite(voice).all():
                raise self._not_finite()
        # What lies on the GPU is not fetched for this: what is not finite there is heard in the answers.
        if not all(_is_finite(array) for array in others if isinstance(array, np.ndarray)):
            raise self._not_finite()
        return Step(self._softmax(logits[0]), log_probs, tuple(others), voice=voice)

    def _run_network(self, state: State) -> list[Any]:
        """All outputs, in the order of ``_outputs``; states that stay on the GPU as :class:`OnDevice`."""
        try:
            if self._bound is not None:
                return self._bound.run(self._feed, state)
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class
            raise self._not_run(error) from None
        feed = self._feed | {part.input: array for part, array in zip(self.card.states, state, strict=True)}
        return self._run_session(self._run, feed, 1)

    def _run_session(self, session: Any, feed: dict[str, Any], rows: int) -> list[Any]:
        """All outputs of ``rows`` streams, checked: what a graph declares is not always what it computes."""
        try:
            outputs = [np.asarray(output) for output in session.run(list(self._outputs), feed)]
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class
            raise self._not_run(error) from None
        for output, shape in zip(outputs, self._outputs.values(), strict=True):
            expected = (rows, *shape[1:]) if rows > 1 else shape
            if output.shape != expected:
                raise ModelError(
                    f"{self.path}: the network returned {output.shape}, expected {expected}; export it again"
                )
        return outputs

    def _not_run(self, error: Exception) -> ModelError:
        return ModelError(f"{self.path}: the network cannot be run ({reason(error)}); export it again")

    def probabilities(self, window: NDArray[np.float32]) -> tuple[float, ...]:
        """Calibrated probabilities of the card's labels for one window, as for :meth:`logits`.

        Raises:
            ModelError: the network returned NaN or infinity.
        """
        return self._softmax(self.logits(window))

    def _softmax(self, logits: NDArray[np.float32]) -> tuple[float, ...]:
        if not np.isfinite(logits).all():
            raise self._not_finite()
        scaled = logits.astype(np.float64) / self.card.temperature
        exponentials = np.exp(scaled - scaled.max())
        return tuple((exponentials / exponentials.sum()).tolist())

    def _not_finite(self) -> ModelError:
        return ModelError(f"{self.path}: the network returned values that are not finite; export it again")


def _is_finite(array: NDArray[np.float32]) -> bool:
    """Whether all values are; twenty states a hop are asked, so a sum of squares goes first: two thirds less time.

    Of large arrays BLAS would wake other threads.
    """
    return (array.size <= _QUICK and math.isfinite(np.vdot(array, array))) or bool(np.isfinite(array).all())


def _fits(found: tuple[str, list[Any]] | None, shape: tuple[int, ...]) -> bool:
    """Whether a float32 tensor is there; its first axis may be free (a name or None) where 1 is wanted."""
    if found is None or found[0] != "tensor(float)" or len(found[1]) != len(shape):
        return False
    first = shape[0] == 1 and not isinstance(found[1][0], int)
    return list(shape[first:]) == found[1][first:]


def load(model: str | os.PathLike[str] = DEFAULT_MODEL, provider: Provider = "auto", threads: int = 1) -> Engine:
    """Load a bundled model by name, or an ONNX file with a card.

    Args:
        model: name or path.
        provider: ``cpu``; ``cuda`` or ``tensorrt``, which fail loudly where they cannot be used; ``auto``, CUDA where
            it works.
        threads: threads inside one inference.

    Raises:
        ModelError: no such model, not ONNX, no card, or a card that does not fit.
        ProviderError: ``cuda`` or ``tensorrt`` was asked for and the session did not get it.
    """
    return Engine(find_model(model), provider, threads)
