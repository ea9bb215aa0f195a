"""What an ONNX file asks for, read off its bytes before any runtime sees them. Files are data, never code.

A scanner of the protobuf wire format (https://protobuf.dev/programming-guides/encoding) that knows just enough of ONNX
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) to reach every operator and tensor, those in subgraphs and
functions included, and to refuse what reaches outside the file: external data, operators of foreign libraries,
embedded engines. It decodes no tensor and allocates nothing by an announced size.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stream_ser.errors import ModelError
from stream_ser.text import printable

#: Operators that come with onnxruntime; Microsoft's are those of quantised and fused networks.
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
#: Of Microsoft's domain, what loads another file or calls back into Python.
_REFUSED_OPERATORS = frozenset({"EPContext", "PythonOp", "PythonOpGrad", "ATen", "ExternalGraph", "Opaque"})
#: A protobuf message cannot be larger, so neither can a model that lies in one file.
MAX_BYTES = 2**31 - 1
#: Metadata of a network is some kilobytes.
MAX_METADATA_BYTES = 4 * 1024**2
#: Protobuf's own limit is 100. A subgraph takes three levels, and nobody nests twelve of them.
_MAX_DEPTH = 40
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# message: field number: the message that it holds. What is not named here holds neither operator nor tensor.
_NESTED: dict[str, dict[int, str]] = {
    "model": {7: "graph", 14: "entry", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
    "entry": {},
}
_NODE_INPUT, _NODE_OPERATOR, _NODE_DOMAIN = 1, 4, 7
_FUNCTION_NAME, _FUNCTION_DOMAIN = 1, 10
_TENSOR_NAME, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 8, 13, 14


class _DamagedError(Exception):
    """Not the wire format; the message says what and where."""


@dataclass
class _Found:
    """What the scan collects.

    Attributes:
        used: operators of nodes by (domain, operator), and whether a node inside a function uses it.
        functions: the file's own, by (domain, name).
        metadata: pairs in the order of the file.
        graphs: number of main graphs.
    """

    used: set[tuple[str, str, bool]] = field(default_factory=set)
    functions: set[tuple[str, str]] = field(default_factory=set)
    metadata: list[tuple[str, str]] = field(default_factory=list)
    graphs: int = 0


def read_metadata(path: Path) -> dict[str, str]:
    """Check that an ONNX file is complete in itself and made of operators that are known; return its metadata.

    Args:
        path: the file.

    Returns:
        Its ``metadata_props``.

    Raises:
        ModelError: unreadable, no ONNX, or it refers to other files, foreign operators or embedded engines.
    """
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ModelError(f"{path}: {size / 1024**3:.1f} GiB, expected an ONNX model of at most 2 GiB")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    return scan(data, os.fspath(path))


def scan(data: bytes, name: str) -> dict[str, str]:
    """:func:`read_metadata` for the bytes of a file; ``name`` is what messages call it."""
    found = _Found()
    try:
        _walk(memoryview(data), "model", found, name, 0, in_function=False)
    except _DamagedError as error:
        raise ModelError(f"{name}: not a readable ONNX model ({error}); export or download it again") from None
    if not found.graphs:
        raise ModelError(f"{name}: not a readable ONNX model (no graph in it); export or download it again")
    _check_operators(found, name)
    metadata = dict(found.metadata)
    if len(metadata) < len(found.metadata):
        raise ModelError(f"{name}: its metadata names a key twice, expected each once; export the model again")
    return metadata


def _check_operators(found: _Found, name: str) -> None:
    for domain, operator in sorted(found.functions):
        # One that hides a known operator, or calls another and so perhaps itself, is no network that anyone exports.
        if domain in DOMAINS:
            raise ModelError(
                f"{name}: redefines operators of the domain {domain or 'ai.onnx'!r} (function {_quoted(operator)}), "
                "expected standard ones; export the model again"
            )
    for domain, operator, in_function in sorted(found.used):
        if domain in DOMAINS and operator not in _REFUSED_OPERATORS:
            continue
        if (domain, operator) in found.functions and not in_function:
            continue
        what = "an operator that reaches outside the file" if domain in DOMAINS else "a custom operator"
        raise ModelError(
            f"{name}: uses {what}, {_quoted(operator)} of the domain {_quoted(domain)}, expected standard ONNX "
            "operators only; export the model without it"
        )


def _quoted(text: str) -> str:
    return f"'{printable(text, 60)}'"


def _walk(data: memoryview, message: str, found: _Found, name: str, depth: int, in_function: bool) -> None:
    """Go through one message and all that can hold an operator or a tensor below it."""
    if depth > _MAX_DEPTH:
        raise _DamagedError(f"nested deeper than {_MAX_DEPTH} levels")
    nested = _NESTED[message]
    texts: dict[int, list[bytes]] = {}
    for number, kind, value in _fields(data):
        if message == "tensor" and (
            number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and (kind != _VARINT or value != 0))
        ):
            raise ModelError(
                f"{name}: keeps weights in another file (ONNX external data), expected all of them inside; save it as "
                "one file, as with onnx.save(onnx.load(FILE), NEW, save_as_external_data=False)"
            )
        if not isinstance(value, memoryview):
            continue
        if number in nested:
            if message == "model" and nested[number] == "graph":
                found.graphs += 1
            inside = in_function or message == "function"
            _walk(value, nested[number], found, name, depth + 1, inside)
        elif message in {"node", "function", "entry"}:
            if message == "entry" and len(value) > MAX_METADATA_BYTES:
                raise _DamagedError(f"{len(value)} bytes of metadata")
            texts.setdefault(number, []).append(bytes(value))
    if message == "node":
        if b"LayerNormalization" in texts.get(_NODE_OPERATOR, []) and b"" in texts.get(_NODE_INPUT, []):
            # Valid, but onnxruntime 1.31 dies of it (segmentation fault while it optimises the graph).
            raise ModelError(
                f"{name}: a LayerNormalization with an input that is left empty, which onnxruntime cannot read; "
                "leave the input out and export the model again"
            )
        # Repeated, the last one counts; all are held to the rules.
        for operator in texts.get(_NODE_OPERATOR, [b""]):
            for domain in texts.get(_NODE_DOMAIN, [b""]):
                found.used.add((_text(domain), _text(operator), in_function))
    elif message == "function":
        for operator in texts.get(_FUNCTION_NAME, [b""]):
            for domain in texts.get(_FUNCTION_DOMAIN, [b""]):
                found.functions.add((_text(domain), _text(operator)))
    elif message == "entry":
        key, value_ = (_text(texts.get(n, [b""])[-1]) for n in (1, 2))
        found.metadata.append((key, value_))


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise _DamagedError("text that is not UTF-8") from None


def _fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Fields of a message: number, wire type and value; of fixed-size numbers the value is 0.

    Raises:
        _DamagedError: it is cut off, or no message.
    """
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < 2**29:
            raise _DamagedError(f"a field of number {number}")
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield number, kind, value
            continue
        if kind == _BYTES:
            size, position = _varint(data, position)
        elif kind in {_FIXED64, _FIXED32}:
            size = 8 if kind == _FIXED64 else 4
        else:
            raise _DamagedError(f"a field of wire type {kind}")
        if size > end - position:
            raise _DamagedError(f"cut off: {size} bytes announced, {end - position} there")
        yield number, kind, data[position : position + size] if kind == _BYTES else 0
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """A base-128 number of at most 64 bits and the position after it."""
    value = 0
    for index in range(position, min(position + 10, len(data))):
        value |= (data[index] & 0x7F) << 7 * (index - position)
        if data[index] < 0x80:
            return value & (2**64 - 1), index + 1
    raise _DamagedError("cut off inside a number" if len(data) - position < 10 else "a number of more than 64 bits")
