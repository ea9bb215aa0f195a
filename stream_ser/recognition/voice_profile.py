"""Voice profiles: what a memory holds of a voice, as a small JSON file of numbers, without audio.

They lie in the user's data folder (:func:`folder`), readable by the user alone. A profile belongs to the network that
made it, which its fingerprint names.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stream_ser.errors import OutputError, VoiceError
from stream_ser.text import printable

SCHEMA = 1
SUFFIX = ".json"
_MOST_BYTES = 4 * 1024**2
_MOST_VALUES = 65_536
#: Larger sums come from no voice.
_LARGEST = 1e9
_NAME = re.compile(r"\w[\w .-]{0,62}", re.UNICODE)
#: Names that Windows keeps for devices.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class VoiceProfile:
    """A voice as a network's memory knows it.

    Attributes:
        model: name of the network.
        fingerprint: of the network and its memory.
        seconds: of speech that it was made of.
        values: sums over utterances, the number of utterances first.

    Example:
        >>> profile = VoiceProfile("tiny", "ab12", 4.0, (2.0, 0.5))
        >>> VoiceProfile.from_json(profile.to_json()) == profile
        True
    """

    model: str
    fingerprint: str
    seconds: float
    values: tuple[float, ...]

    @property
    def utterances(self) -> float:
        """How many utterances it is made of; a short one counts as less than one."""
        return self.values[0] if self.values else 0.0

    def to_json(self) -> str:
        """The profile as JSON text."""
        content = {"type": "voice", "schema": SCHEMA, "model": self.model, "fingerprint": self.fingerprint}
        return json.dumps({**content, "seconds": round(self.seconds, 3), "values": list(self.values)}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, name: str = "voice profile") -> VoiceProfile:
        """Parse and check a profile.

        Args:
            text: of the file.
            name: of it, for messages.

        Raises:
            VoiceError: not a profile, one of a newer version, or a damaged one.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict) or content.get("type") != "voice":
            raise VoiceError(f"{name}: not a voice profile, expected a file of 'stream-ser enroll'; enroll again")
        schema = content.get("schema")
        if schema != SCHEMA or isinstance(schema, bool):
            raise VoiceError(
                f"{name}: a voice profile of schema {printable(repr(schema), 40)}, expected {SCHEMA}; update "
                "stream-ser or enroll again"
            )
        seconds: Any
        values: Any
        model, fingerprint, seconds, values = (
            content.get(part) for part in ("model", "fingerprint", "seconds", "values")
        )
        damaged = VoiceError(f"{name}: a damaged voice profile; enroll again")
        if not isinstance(model, str) or not isinstance(fingerprint, str) or not isinstance(values, list):
            raise damaged
        # The number of utterances and the seconds of speech are never below zero.
        if not 2 <= len(values) <= _MOST_VALUES or not all(map(_in_range, (seconds, *values))) or values[0] < 0.0:
            raise damaged
        if seconds < 0.0:
            raise damaged
        return cls(model, fingerprint, float(seconds), tuple(map(float, values)))

    def check(self, model: str, fingerprint: str | None, size: int) -> None:
        """See that a network can begin with this voice.

        Args:
            model: name of the network.
            fingerprint: of its memory; None where it has none.
            size: numbers that its session holds.

        Raises:
            VoiceError: it cannot.
        """
        if fingerprint is None:
            raise VoiceError(
                f"model {model} has no memory of a voice, so it can use no voice profile; leave the voice out, or "
                "choose another model (see 'stream-ser models')"
            )
        if self.fingerprint != fingerprint or len(self.values) != size:
            raise VoiceError(
                f"the voice profile was made with another model ({printable(self.model, 80)}, "
                f"{printable(self.fingerprint, 20)}), expected one of {model}, {fingerprint}; enroll again with this "
                "model"
            )


def _in_range(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -_LARGEST <= value <= _LARGEST and math.isfinite(value)


def folder() -> Path:
    """The folder of the user's voice profiles; not created."""
    environment: Any = os.environ
    if sys.platform == "win32":
        base = Path(environment.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(environment.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "stream-ser" / "voices"


def path_of(name: str) -> Path:
    """Where the profile of this name lies, or would lie.

    Raises:
        VoiceError: it is no name of a profile.
    """
    if not _NAME.fullmatch(name) or name[-1] in " ." or _DEVICES.fullmatch(name):
        raise VoiceError(
            f"{printable(repr(name), 80)}: no name of a voice, expected up to 63 letters, digits, spaces, dots, "
            "hyphens or underscores, a letter or digit first"
        )
    return folder() / f"{name}{SUFFIX}"


def names() -> list[str]:
    """Names of the stored profiles, sorted."""
    return sorted(path.stem for path in folder().glob(f"*{SUFFIX}") if _NAME.fullmatch(path.stem))


def read(voice: str | os.PathLike[str]) -> VoiceProfile:
    """Read a stored profile by its name, or a file.

    Raises:
        VoiceError: missing, unreadable, or no intact profile.
    """
    text = os.fspath(voice)
    is_path = os.sep in text or "/" in text or text.endswith(SUFFIX) or not isinstance(voice, str)
    path = Path(text) if is_path else path_of(text)
    try:
        with path.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        known = ", ".join(names()) or "none"
        raise VoiceError(
            f"{text}: no such voice profile (stored: {known}); make one with 'stream-ser enroll'"
        ) from None
    except OSError as error:
        raise VoiceError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    if len(data) > _MOST_BYTES:
        raise VoiceError(f"{path}: more than {_MOST_BYTES // 1024**2} MiB, expected a voice profile; enroll again")
    return VoiceProfile.from_json(data.decode("utf-8", errors="replace"), str(path))


def save(profile: VoiceProfile, name: str, *, force: bool = False) -> Path:
    """Store a profile, readable by its user alone; returns where.

    Args:
        profile: what to store.
        name: of the voice.
        force: replace one of the same name.

    Raises:
        OutputError: it cannot be written, or one of that name is there.
        VoiceError: it is no name of a profile.
    """
    path = path_of(name)
    if path.exists() and not force:
        raise OutputError(f"{path}: exists already; choose another name or --force")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # mkstemp makes files that their owner alone may read and write.
        handle, temporary = tempfile.mkstemp(prefix=".part-", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(profile.to_json() + "\n")
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); check the folder") from None
    return path


def delete(name: str) -> Path:
    """Delete a stored profile; returns where it was.

    Raises:
        OutputError: it cannot be deleted.
        VoiceError: there is none of that name.
    """
    path = path_of(name)
    try:
        path.unlink()
    except FileNotFoundError:
        known = ", ".join(names()) or "none"
        raise VoiceError(f"{name}: no such voice profile (stored: {known})") from None
    except OSError as error:
        raise OutputError(f"{path}: cannot be deleted ({error.strerror}); check its permissions") from None
    return path
