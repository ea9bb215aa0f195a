"""From a torch module to an ONNX graph, by the exporter that torch recommends."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import onnx
import torch
from torch import Tensor, nn

#: From this version on GELU is one operator.
OPSET = 20


def graph_of(
    module: nn.Module, example: Sequence[Any], inputs: Sequence[str], outputs: Sequence[str]
) -> onnx.ModelProto:
    """The graph of ``module`` in evaluation mode: weights inside, the first axis of every input free.

    Args:
        module: what is exported.
        example: its arguments, tensors or tuples of tensors, of two rows or more.
        inputs: names of all tensors in ``example``, in order.
        outputs: names of all tensors that come out.
    """
    batch = torch.export.Dim("batch", min=1)
    shapes = tuple({0: batch} if isinstance(part, Tensor) else tuple({0: batch} for _ in part) for part in example)
    # The exporter's own libraries talk about packages that are not needed and about their future releases.
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                tuple(example),
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=shapes,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None
    model = program.model_proto
    forget_origin(model)
    return model


def forget_origin(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes about where each node came from: stack traces with this machine's paths.

    The names of classes go with them; weights, nodes, their names and what is computed stay as they are.
    """
    pending = [model.graph]
    while pending:
        graph = pending.pop()
        for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
            del part.metadata_props[:]
            part.doc_string = ""
        pending.extend(attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g"))
    model.doc_string = ""
