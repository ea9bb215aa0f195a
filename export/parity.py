"""Parity between a torch network and its ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from stream_ser.runtime.engine import INPUT_NAME, OUTPUT_NAME

#: Largest absolute difference of a logit that an export may show.
TOLERANCE = 1e-4


@torch.no_grad()
def largest_difference(path: Path, network: nn.Module, windows: torch.Tensor, batch: int = 16) -> float:
    """Largest absolute difference of the logits, over all windows, one at a time and in batches.

    Args:
        path: ONNX file.
        network: in evaluation mode, float32.
        windows: normalised ``(windows, mel, time)``.
        batch: size of the batches; the last one may be smaller, so the dynamic axis is exercised.

    Returns:
        the difference; infinity where one side is not finite.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(values: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run([OUTPUT_NAME], {INPUT_NAME: values.numpy()})[0])

    expected = torch.cat([network(part) for part in windows.split(batch)])
    together = torch.cat([run(part) for part in windows.split(batch)])
    alone = torch.cat([run(part) for part in windows.split(1)])
    difference = torch.maximum((together - expected).abs(), (alone - expected).abs())
    return float(difference.max()) if bool(torch.isfinite(difference).all()) else float(np.inf)
