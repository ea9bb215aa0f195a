"""A session whose inputs and outputs have fixed places on a device, where the states of streams stay.

``InferenceSession.run`` finds room for every tensor, copies the inputs to the device and all outputs back, at every
hop. Here everything has its place before the first hop: features go in, logits come out, and what a hop says of the
past is where the next hop reads it. CUDA graphs need just that: a graph that was captured once is replayed on the
addresses of the capture, one call instead of one for each kernel.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[np.float32]
Shapes = Mapping[str, tuple[int, ...]]
#: Streams whose states lie on the device at a time. Those of others travel to the host and back at each hop.
SEATS = 8


class OnDevice:
    """A state that stays on the device until its place is needed; then it goes on as an array. It never changes.

    Attributes:
        shape: of the tensor.
    """

    __slots__ = ("__weakref__", "_array", "_value", "shape")

    def __init__(self, value: Any, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self._value = value
        self._array: Array | None = None

    def leave(self) -> None:
        """Copy it to the host: its place is going to be written to."""
        self._array = np.asarray(self)
        self._array.flags.writeable = False
        self._value = None

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """On the host; of a tensor on the device a copy."""
        array = np.array(self._value.numpy(), copy=True) if self._array is None else self._array
        return np.array(array, dtype=dtype, copy=copy)


class _Seat:
    """Two places for a stream's states: a hop reads one and writes the other, so that neither is copied.

    Reading and writing one place would do without the second, but a run that is captured is run more than once.
    """

    def __init__(self, places: Sequence[list[Any]], bindings: Sequence[Any], options: Sequence[Any]) -> None:
        self.places = places
        #: By the place that is read, as the options.
        self.bindings = bindings
        self.options = options
        self._held: list[tuple[weakref.ref[OnDevice], ...]] = [(), ()]

    @property
    def taken(self) -> bool:
        """Whether anybody may ask for what lies here."""
        return any(tensor() is not None for held in self._held for tensor in held)

    def side_of(self, state: Sequence[Any]) -> int | None:
        """The place where exactly these states lie."""
        for side, held in enumerate(self._held):
            if held and all(tensor() is wanted for tensor, wanted in zip(held, state, strict=True)):
                return side
        return None

    def vacate(self, side: int) -> None:
        """Whoever holds what lies there gets it as arrays."""
        for reference in self._held[side]:
            if (tensor := reference()) is not None:
                tensor.leave()
        self._held[side] = ()

    def hold(self, side: int, shapes: Sequence[tuple[int, ...]]) -> list[OnDevice]:
        """What a hop has just written there."""
        tensors = [OnDevice(value, shape) for value, shape in zip(self.places[side], shapes, strict=True)]
        self._held[side] = tuple(weakref.ref(tensor) for tensor in tensors)
        return tensors


class Bound:
    """Runs a session on tensors that are allocated once. Not for several threads at a time.

    Args:
        session: an ``onnxruntime.InferenceSession``; all its tensors are float32.
        inputs: shapes of the inputs that a caller gives, by name.
        outputs: shapes of the outputs that a caller gets.
        states: input, output and shape of each state.
        device: onnxruntime's name of where they lie: ``cuda``, or ``cpu``, where nothing is gained but all is as there.
        index: which of these devices.
        graphs: the session captures CUDA graphs.
        seats: streams whose states stay on the device at a time.

    A caller writes ``bound = Bound(session, {"features": (1, 64, 24)}, {"logits": (1, 6)}, [("h", "next_h", (1, 8))])``
    and for each hop ``logits, *state = bound.run({"features": hop}, state)``.
    """

    def __init__(
        self,
        session: Any,
        inputs: Shapes,
        outputs: Shapes,
        states: Sequence[tuple[str, str, tuple[int, ...]]] = (),
        *,
        device: str = "cpu",
        index: int = 0,
        graphs: bool = False,
        seats: int = SEATS,
    ) -> None:
        if seats < 1:
            raise ValueError(f"{seats} seats, expected at least 1")
        self._session = session
        self._states = tuple(states)
        self._device = (device, index)
        self._graphs = graphs
        self._inputs = {name: self._allocate(shape) for name, shape in inputs.items()}
        self._outputs = {name: self._allocate(shape) for name, shape in outputs.items()}
        self._most = seats if states else 1
        #: The one that was used last is the last.
        self._seats: list[_Seat] = []
        self._captures = 0

    def run(self, feed: Mapping[str, Array], state: Sequence[Any] = ()) -> list[Any]:
        """A hop.

        Args:
            feed: the inputs, by name, C-contiguous float32.
            state: what the hop before returned, or arrays; it stays what it is.

        Returns:
            The outputs as arrays, in their order, then the states after the hop, on the device.
        """
        seat, side = self._seat(state)
        seat.vacate(1 - side)
        for name, array in feed.items():
            self._inputs[name].update_inplace(array)
        binding = seat.bindings[side]
        self._session.run_with_iobinding(binding, seat.options[side])
        binding.synchronize_outputs()
        answers = [np.array(value.numpy(), copy=True) for value in self._outputs.values()]
        return [*answers, *seat.hold(1 - side, [shape for _, _, shape in self._states])]

    def apart(self, reference: Any) -> float:
        """How far the answers to noise are from those of another session of the same network.

        Hops follow each other from states of zeros until every graph that they capture was replayed.

        Args:
            reference: an ``onnxruntime.InferenceSession``.

        Returns:
            The largest difference relative to the largest answer of that hop; infinity where one is not finite.
        """
        noise = np.random.default_rng(0)
        names = [*self._outputs, *(after for _, after, _ in self._states)]
        shapes = {name: tuple(value.shape()) for name, value in self._inputs.items()}
        ours: list[Any] = [np.zeros(shape, dtype=np.float32) for _, _, shape in self._states]
        theirs, worst = ours, 0.0
        for _ in range(4 if self._states else 2):
            feed = {name: noise.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
            answers = self.run(feed, ours)
            states = {before: array for (before, _, _), array in zip(self._states, theirs, strict=True)}
            expected = reference.run(names, feed | states)
            for answer, wanted in zip(answers[: len(self._outputs)], expected, strict=False):
                difference = float(np.abs(answer - wanted).max() / (1.0 + np.abs(wanted).max()))
                worst = max(worst, difference if np.isfinite(difference) else np.inf)
            ours, theirs = answers[len(self._outputs) :], expected[len(self._outputs) :]
        return worst

    def _seat(self, state: Sequence[Any]) -> tuple[_Seat, int]:
        """Where the states lie; they are taken there if need be."""
        if len(state) != len(self._states):
            raise ValueError(f"{len(state)} states, expected {len(self._states)}")
        for seat in reversed(self._seats):
            side = seat.side_of(state) if state else 0
            if side is not None:
                self._use(seat)
                return seat, side
        arrays = [np.ascontiguousarray(tensor, dtype=np.float32) for tensor in state]
        seat = self._free_seat()
        for half in (0, 1):
            seat.vacate(half)
        for value, array in zip(seat.places[0], arrays, strict=True):
            value.update_inplace(array)
        self._use(seat)
        return seat, 0

    def _use(self, seat: _Seat) -> None:
        self._seats.remove(seat)
        self._seats.append(seat)

    def _free_seat(self) -> _Seat:
        """One that nobody needs, a new one, or the one that was not used for longest."""
        for seat in self._seats:
            if not seat.taken:
                return seat
        if len(self._seats) < self._most:
            self._seats.append(self._new_seat())
            return self._seats[-1]
        return self._seats[0]

    def _new_seat(self) -> _Seat:
        places = [[self._allocate(shape) for _, _, shape in self._states] for _ in range(2)]
        bindings = [self._bind(places[side], places[1 - side]) for side in range(2)]
        return _Seat(places, bindings, [self._options() for _ in range(2)])

    def _bind(self, read: list[Any], written: list[Any]) -> Any:
        binding = self._session.io_binding()
        for name, value in self._inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            binding.bind_ortvalue_output(name, value)
        for (before, after, _), source, target in zip(self._states, read, written, strict=True):
            binding.bind_ortvalue_input(before, source)
            binding.bind_ortvalue_output(after, target)
        return binding

    def _options(self) -> Any:
        """Of a run: each pair of addresses is a graph of its own. The number 0 is onnxruntime's."""
        if not self._graphs:
            return None
        import onnxruntime as ort

        self._captures += 1
        options = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(self._captures))
        return options

    def _allocate(self, shape: tuple[int, ...]) -> Any:
        import onnxruntime as ort

        value = ort.OrtValue.ortvalue_from_shape_and_type(list(shape), np.float32, *self._device)
        value.update_inplace(np.zeros(shape, dtype=np.float32))
        return value
