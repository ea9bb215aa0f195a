"""Where models lie: those that ship with the package, by name, and files."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from stream_ser.errors import ModelError


def bundled() -> list[Path]:
    """Paths of the bundled models, by name."""
    assets = Path(str(resources.files("stream_ser.assets")))
    return sorted(assets.glob("*.onnx"))


def find_model(model: str | os.PathLike[str]) -> Path:
    """Path of a bundled model (by name) or of an ONNX file.

    Raises:
        ModelError: neither.
    """
    named = {path.stem: path for path in bundled()}
    text = os.fspath(model)
    if text in named:
        return named[text]
    path = Path(text)
    if path.is_file():
        return path
    if path.is_dir():
        raise ModelError(f"{text}: is a folder, expected an .onnx file")
    known = ", ".join(named) or "none"
    raise ModelError(f"{text}: no such model file, nor a bundled model (bundled: {known})")
