"""The rooms of the package and what each may import; docs/architecture.md shows the same table."""

from __future__ import annotations

BASE = frozenset({"errors", "events", "config", "text", "version"})
#: room: the rooms that it may import, besides itself and the base. A folder of the package is a room, and so is each of
#: its modules that lies beside them; the base is five modules. The command line has three floors.
ROOMS: dict[str, frozenset[str]] = {
    name: frozenset(others.split())
    for name, others in {
        "assets": "",
        "audio": "",
        "ctc": "",
        "features": "",
        "sinks": "",
        "models": "",
        "sources": "audio",
        "runtime": "features",
        "vad": "runtime",
        "separation": "audio sources runtime",
        "transcription": "audio features runtime ctc vad",
        "recognition": "features runtime vad ctc transcription",
        "driver": "sources recognition sinks",
        "api": "audio sources runtime recognition driver transcription",
        "bench": "audio runtime vad recognition sinks",
        "doctor": "sources runtime vad separation",
        "train": "audio features runtime vad ctc transcription separation recognition models",
        "export": "audio features runtime vad ctc transcription separation recognition models train",
    }.items()
}
_PRODUCT = frozenset(ROOMS) - {"models", "api"}
ROOMS |= {
    "cli": frozenset({"cli/run"}),
    "cli/run": _PRODUCT,
    "cli/options": _PRODUCT | {"cli/run"},
    "cli/commands": _PRODUCT | {"cli/run", "cli/options"},
    "__init__": _PRODUCT | {"api"},
    "__main__": frozenset({"cli"}),
}
