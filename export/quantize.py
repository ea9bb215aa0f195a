"""Smaller and faster variants of an ONNX file that recognises emotion, each measured against the file it is made of.

``int8``: convolutions and products with constant matrices in 8-bit integers, weights per output channel, activations
by ranges that were seen on training clips (static, as quantize/dequantize pairs; B. Jacob et al., "Quantization and
training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018). ``int8-dynamic``: products
alone, the ranges found anew at each run. ``fp16``: all in 16-bit floats. ``fp32``: the same numbers, GELU in one
operator instead of five.

Calibration and proof use what the runtime itself asks of the network, voice activity detection and all.
"""

from __future__ import annotations

import contextlib
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from stream_ser.audio.decode import read_blocks
from stream_ser.config import DEFAULT_VAD
from stream_ser.errors import AudioError, ModelError, OutputError, TrainError
from stream_ser.events import Block
from stream_ser.features.normalization import Normalizer
from stream_ser.recognition.inference import ModelRequest, answer
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime.card.recognition import FEATURES, Card
from stream_ser.runtime.engine import INPUT_NAME, Engine, open_session
from stream_ser.train.data.splits import Split
from stream_ser.train.evaluation.evaluate import Evaluation, evaluate
from stream_ser.vad.silero import available

from .checkpoints import temporary_beside, write_card
from .kinds.streaming import memory_nodes

Precision = Literal["fp32", "fp16", "int8", "int8-dynamic"]
#: Largest loss of unweighted average recall that a variant may show on the validation part.
MOST_LOSS = 0.005
#: Training clips by which the ranges of activations are found.
CALIBRATION_CLIPS = 64
#: Of a clip, the last questions to the network: a window that holds most of it, or the last hops.
CALIBRATION_ASKS = 4
#: Convolutions at the network's beginning that ``int8`` leaves in float32: they are a tenth of the time, and all that
#: follows works with what they round. In the bundled network they make the mean change of a probability .006, not .014.
FLOAT_CONVOLUTIONS = 2
#: Standard ONNX has GELU from this version on.
_GELU_OPSET = 20
#: Pairs of runs that are timed.
_TIMED = 30

Feed = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Measured:
    """One file.

    Attributes:
        size: bytes.
        run_ms: median processor time of one question to the network, on one thread.
        uar: on the validation part; None where no corpora were given.
        wa: likewise.
    """

    size: int
    run_ms: float
    uar: float | None
    wa: float | None


@dataclass(frozen=True)
class Quantized:
    """What a quantization made.

    Attributes:
        path: the file.
        card: the card inside it.
        before: of the file it was made of.
        after: of this one.
        clips: of the validation part; 0 where no corpora were given.
    """

    path: Path
    card: Card
    before: Measured
    after: Measured
    clips: int


def quantize(
    source: Path,
    out: Path,
    precision: Precision,
    split: Split | None = None,
    *,
    most_loss: float = MOST_LOSS,
    advance: Callable[[], object] | None = None,
) -> Quantized:
    """Write a variant of a model in another precision.

    Args:
        source: an ONNX file with a card of kind ``emotion``.
        out: where the variant goes.
        precision: of the variant.
        split: of corpora with the model's labels: calibrated on training clips, measured on validation clips.
        most_loss: of UAR.
        advance: called for each validation clip, twice.

    Raises:
        ModelError: ``source`` cannot be loaded or is of another kind, or its graph cannot be converted.
        OutputError: ``out`` cannot be written or is ``source``.
        TrainError: ``int8`` without clips to calibrate on, or a loss above ``most_loss``; nothing is written then.
    """
    if out.exists() and out.samefile(source):
        raise OutputError(f"{out}: is the model itself, expected another file; choose another --out")
    engine = Engine(source, "cpu")
    if engine.card.kind != "emotion":
        raise ModelError(f"{source}: is of kind {engine.card.kind!r}, expected 'emotion': only that can be measured")
    if (found := engine.card.training.get("precision", "fp32")) != "fp32":
        raise ModelError(f"{source}: is {found} already, expected fp32; start from the file it was made of")
    if precision == "int8" and split is None:
        raise TrainError("int8 finds the ranges of activations on training clips: give --data, or use int8-dynamic")
    feeds = [feed for asks in _asks(engine, split) for feed in asks]
    if not feeds:
        raise TrainError("no speech is heard in any of the clips to calibrate on, expected some; give other --data")
    model = converted(onnx.load(str(source)), precision, feeds)
    before = after = None
    if split is not None:
        before = _scored(engine, split, advance)
    with temporary_beside(out) as temporary:
        card = replace(engine.card, results={}, training={**engine.card.training, "precision": precision})
        _write(model, card, temporary)
        variant = Engine(temporary, "cpu")
        if split is not None and before is not None:
            after = _scored(variant, split, advance)
            if before.scores.uar - after.scores.uar > most_loss:
                raise TrainError(
                    f"{precision} loses {100 * (before.scores.uar - after.scores.uar):.1f} points of UAR on "
                    f"{len(split.validation)} validation clips ({before.scores.uar:.4f} to {after.scores.uar:.4f}), "
                    f"more than {100 * most_loss:.1f}; nothing was written, keep fp32"
                )
            card = replace(card, results={"quantization": _result(precision, split, before, after)})
            _write(model, card, temporary)
        times = _run_ms([source, temporary], feeds)
        size = temporary.stat().st_size
        os.replace(temporary, out)
    return Quantized(
        path=out,
        card=card,
        before=_measured(source.stat().st_size, times[0], before),
        after=_measured(size, times[1], after),
        clips=0 if split is None else len(split.validation),
    )


def converted(model: onnx.ModelProto, precision: Precision, feeds: Sequence[Feed]) -> onnx.ModelProto:
    """A graph in another precision, its metadata left behind.

    Args:
        model: float32; it is changed.
        precision: of the result.
        feeds: inputs of the network, by which ``int8`` finds ranges.

    Raises:
        ModelError: onnxruntime's tools cannot convert it.
    """
    fuse_gelu(model)
    # What the exporter noted of shapes is at odds with what the tools infer.
    del model.graph.value_info[:]
    del model.metadata_props[:]
    try:
        with _quiet():
            if precision == "fp16":
                return _in_halves(model)
            return model if precision == "fp32" else _in_integers(model, precision == "int8", feeds)
    except Exception as error:  # noqa: BLE001 - the tools raise whatever they meet
        raise ModelError(f"cannot be converted to {precision} ({type(error).__name__}: {error}); keep fp32") from None


def fuse_gelu(model: onnx.ModelProto) -> int:
    """Replace each ``x * (0.5 * (1 + erf(x / sqrt(2))))`` by one Gelu, which is one pass over memory instead of five.

    onnxruntime does this itself for other orders of the factors. Reference: D. Hendrycks, K. Gimpel, "Gaussian Error
    Linear Units", arXiv 1606.08415.

    Returns:
        how many were found.
    """
    graph = model.graph
    made = {output: node for node in graph.node for output in node.output}
    used: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            used.setdefault(name, []).append(node)
    constants = {c.name: numpy_helper.to_array(c) for c in graph.initializer if int(np.prod(c.dims)) == 1}

    def constant(node: onnx.NodeProto, value: float) -> bool:
        return any(name in constants and np.isclose(constants[name].item(), value) for name in node.input)

    gone: set[str] = set()
    fused: dict[str, onnx.NodeProto] = {}
    for erf in graph.node:
        divided = made.get(erf.input[0]) if erf.op_type == "Erf" else None
        if divided is None or divided.op_type != "Div" or not constant(divided, 2.0**0.5):
            continue
        chain = [divided, erf]
        for operator in ("Add", "Mul", "Mul"):
            following = used.get(chain[-1].output[0], [])
            if len(following) != 1 or following[0].op_type != operator:
                break
            chain.append(following[0])
        x = divided.input[0]
        if len(chain) == 5 and constant(chain[2], 1.0) and constant(chain[3], 0.5) and x in chain[4].input:
            gone.update(node.output[0] for node in chain[:-1])
            fused[chain[4].output[0]] = helper.make_node("Gelu", [x], chain[4].output[:], name=chain[4].name)
    if fused:
        nodes = [fused.get(node.output[0], node) for node in graph.node if node.output[0] not in gone]
        del graph.node[:]
        graph.node.extend(nodes)
        wanted = {name for node in nodes for name in node.input}
        kept = [c for c in graph.initializer if c.name in wanted]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        for opset in model.opset_import:
            if not opset.domain:
                opset.version = max(opset.version, _GELU_OPSET)
    return len(fused)


def _in_halves(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    blocked = sorted(memory_nodes(model))
    half = ONNXModel(convert_float_to_float16(model, keep_io_types=True, node_block_list=blocked or None))
    _straighten(half.model.graph)
    half.topological_sort()  # the converter puts the casts of the inputs last
    return half.model


def _straighten(graph: onnx.GraphProto) -> None:
    """Mend what the converter does around nodes that stay in float32.

    What two of them read is cast twice under one name, which is no valid graph; and what is an input or an output in
    float32 goes through float16 on its way to them.
    """
    nodes, made = [], {}
    for node in graph.node:
        if not all(name in made for name in node.output):
            nodes.append(node)
            made.update(dict.fromkeys(node.output, node))
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    direct: dict[str, str] = {}
    for node in nodes:
        before = made.get(node.input[0]) if node.op_type == "Cast" else None
        if before is not None and before.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT:
            source = before.input[0]
            if types.get(source) == TensorProto.FLOAT and node.output[0] not in types:
                direct[node.output[0]] = source
    for node in nodes:
        for place, name in enumerate(node.input):
            node.input[place] = direct.get(name, name)
    del graph.node[:]
    graph.node.extend(nodes)


def _in_integers(model: onnx.ModelProto, static: bool, feeds: Sequence[Feed]) -> onnx.ModelProto:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Gives out the feeds one by one."""

        def __init__(self) -> None:
            self._feeds = iter(feeds)

        def get_next(self) -> Feed | None:
            return next(self._feeds, None)

    constants = {constant.name for constant in model.graph.initializer}
    # Attention multiplies activations with each other: little work, and much to lose.
    nodes = [node.name for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in constants]
    if static:
        nodes += [node.name for node in model.graph.node if node.op_type == "Conv"][FLOAT_CONVOLUTIONS:]
    memory = memory_nodes(model)
    nodes = [name for name in nodes if name not in memory]
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "float.onnx", Path(folder) / "integer.onnx"
        onnx.save(model, str(source))
        common: dict[str, Any] = {"per_channel": True, "weight_type": QuantType.QInt8, "nodes_to_quantize": nodes}
        if static:
            quantize_static(
                str(source),
                str(out),
                Reader(),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                **common,
            )
        else:
            quantize_dynamic(str(source), str(out), **common)
        return onnx.load(str(out))


def _asks(engine: Engine, split: Split | None) -> Iterator[list[Feed]]:
    """What the runtime feeds the network on some training clips, or on the bundled clip where there are none."""
    card = engine.card
    normalize = Normalizer(card.features, card.mean, card.std, engine.frames)

    def feed(ask: ModelRequest) -> Feed:
        values = np.empty((1, card.features.n_mels, engine.frames), dtype=np.float32)
        normalize(ask.frames, values[0])
        state = {part.input: np.array(value) for part, value in zip(card.states, ask.state, strict=True)}
        return {FEATURES if card.states else INPUT_NAME: values, **state}

    recognizer = Recognizer(engine, vad=DEFAULT_VAD if available() else None)
    for path in _calibration_paths(split):
        recognizer.reset()
        asks: list[Feed] = []
        samples = np.concatenate(list(read_blocks(path, card.features.sample_rate)))
        for work in (recognizer.asking(Block(samples)), recognizer.ending()):
            with contextlib.suppress(StopIteration, AudioError):  # the latter: too short
                ask = next(work)
                while True:
                    if isinstance(ask, ModelRequest):
                        asks.append(feed(ask))
                    ask = work.send(answer(engine, ask))
        yield asks[-CALIBRATION_ASKS:]


def _calibration_paths(split: Split | None) -> list[Path]:
    if split is None:
        from importlib import resources

        return [Path(str(resources.files("stream_ser.assets"))) / "demo.flac"]
    chosen = np.random.default_rng(0).permutation(len(split.train))[:CALIBRATION_CLIPS]
    return [split.train[index].path for index in chosen]


def _scored(engine: Engine, split: Split, advance: Callable[[], object] | None) -> Evaluation:
    return evaluate(engine, split.validation, advance, vad=DEFAULT_VAD if available() else None)


def _result(precision: Precision, split: Split, before: Evaluation, after: Evaluation) -> dict[str, Any]:
    """For the card."""
    speakers = len({clip.speaker for clip in split.validation})
    agree = float(np.mean(before.probabilities.argmax(axis=1) == after.probabilities.argmax(axis=1)))
    return {
        "protocol": (
            f"{precision} against fp32, validation part, {speakers} speakers; ONNX, CPUExecutionProvider"
            f"{'' if available() else ', no VAD'}"
        ),
        "uar": after.scores.uar,
        "wa": after.scores.wa,
        "f1": after.scores.f1,
        "clips": after.scores.clips,
        "uar_fp32": before.scores.uar,
        "agreement": agree,
    }


def _measured(size: int, run_ms: float, result: Evaluation | None) -> Measured:
    scores = None if result is None else result.scores
    return Measured(size, run_ms, None if scores is None else scores.uar, None if scores is None else scores.wa)


def _run_ms(paths: Sequence[Path], feeds: Sequence[Feed]) -> list[float]:
    """Median processor time of a run of each file, milliseconds; they take turns."""
    sessions = [open_session(path, ["CPUExecutionProvider"], 1) for path in paths]
    spent: list[list[float]] = [[] for _ in sessions]
    for turn in range(_TIMED + 1):
        for session, times in zip(sessions, spent, strict=True):
            began = time.process_time()
            session.run(None, feeds[turn % len(feeds)])
            if turn:
                times.append(1e3 * (time.process_time() - began))
    return [statistics.median(times) for times in spent]


def _write(model: onnx.ModelProto, card: Card, path: Path) -> None:
    write_card(model, card)
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path), save_as_external_data=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The tools warn, through the root logger, of steps that are not needed here."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
