"""Examples in docstrings are run: all of the runtime's."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import stream_ser

PACKAGE = Path(stream_ser.__file__).parent
#: Needs torch; test_networks runs its examples.
MODELS = "models"


def modules() -> list[str]:
    """Modules of the runtime whose docstrings hold an example."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[1] != MODELS and ">>> " in path.read_text(encoding="utf-8"):
            found.append(".".join(parts).removesuffix(".__init__"))
    return [*found, "stream_ser.train.evaluation.diarization"]


@pytest.mark.parametrize("name", modules())
def test_the_examples_of(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
