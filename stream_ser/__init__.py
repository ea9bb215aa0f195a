"""stream-ser: labels the emotion in speech in real time, offline.

The public names are imported when they are first used, so that importing the package costs nothing.

Example:
    >>> import numpy as np
    >>> import stream_ser as ss
    >>> ss.recognize(np.zeros(16_000, dtype=np.float32)).label
    'silence'
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from stream_ser.version import __version__

# onnxruntime 1.29 and later report to Microsoft unless this variable is set when they are first imported, so it is set
# here, before any module of the package. The user's own value stays; an empty one counts as none.
os.environ["ORT_DISABLE_TELEMETRY"] = os.environ.get("ORT_DISABLE_TELEMETRY") or "1"

if TYPE_CHECKING:
    from stream_ser.api import Recognition, listen, recognize
    from stream_ser.config import DeciderConfig
    from stream_ser.errors import StreamSerError
    from stream_ser.events import Decision, Gap, Notice, Prediction, Provisional, Summary, Transcript, Word
    from stream_ser.features.log_mel import log_mel
    from stream_ser.recognition.pool import RecognizerPool
    from stream_ser.recognition.recognizer import Recognizer
    from stream_ser.recognition.voice_profile import VoiceProfile
    from stream_ser.runtime.engine import load
    from stream_ser.transcription.forced_alignment import align

__all__ = [
    "DeciderConfig",
    "Decision",
    "Gap",
    "Notice",
    "Prediction",
    "Provisional",
    "Recognition",
    "Recognizer",
    "RecognizerPool",
    "StreamSerError",
    "Summary",
    "Transcript",
    "VoiceProfile",
    "Word",
    "__version__",
    "align",
    "listen",
    "load",
    "log_mel",
    "recognize",
]

_HOMES = {
    "DeciderConfig": "stream_ser.config",
    "Decision": "stream_ser.events",
    "Gap": "stream_ser.events",
    "Notice": "stream_ser.events",
    "Prediction": "stream_ser.events",
    "Provisional": "stream_ser.events",
    "Recognition": "stream_ser.api",
    "Recognizer": "stream_ser.recognition.recognizer",
    "RecognizerPool": "stream_ser.recognition.pool",
    "StreamSerError": "stream_ser.errors",
    "Summary": "stream_ser.events",
    "Transcript": "stream_ser.events",
    "VoiceProfile": "stream_ser.recognition.voice_profile",
    "Word": "stream_ser.events",
    "align": "stream_ser.transcription.forced_alignment",
    "listen": "stream_ser.api",
    "load": "stream_ser.runtime.engine",
    "log_mel": "stream_ser.features.log_mel",
    "recognize": "stream_ser.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module 'stream_ser' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
