"""stream-ser: hears a voice and says, as it speaks, which emotion it carries.

The public names are imported when they are first used, so that importing the package costs nothing.

Example:
    >>> import stream_ser
    >>> stream_ser.log_mel.__module__
    'stream_ser.features'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stream_ser.version import __version__

if TYPE_CHECKING:
    from stream_ser.engine import load
    from stream_ser.errors import StreamSerError
    from stream_ser.events import Decision, Gap, Prediction
    from stream_ser.features import log_mel
    from stream_ser.pipeline import Recognizer

__all__ = ["Decision", "Gap", "Prediction", "Recognizer", "StreamSerError", "__version__", "load", "log_mel"]

_HOMES = {
    "Decision": "stream_ser.events",
    "Gap": "stream_ser.events",
    "Prediction": "stream_ser.events",
    "Recognizer": "stream_ser.pipeline",
    "StreamSerError": "stream_ser.errors",
    "load": "stream_ser.engine",
    "log_mel": "stream_ser.features",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module 'stream_ser' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
