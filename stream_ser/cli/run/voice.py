"""The memory of the voice while a command runs: settings, keys, forgetting."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream_ser.events import Block
    from stream_ser.recognition.voice_profile import VoiceProfile
    from stream_ser.runtime.card.recognition import Card

#: In the live view.
FORGET_KEY = "v"
FORGOTTEN = "the voice is forgotten; the next one begins anew"


@dataclass(frozen=True, slots=True)
class Memory:
    """The options, as asked for; None where nothing was asked.

    Attributes:
        adapt: get to know the voice.
        voice: name of a stored profile, or its file.
    """

    adapt: bool | None = None
    voice: str | None = None

    @property
    def files(self) -> list[Path]:
        """The profile's file, if it is asked for by its path."""
        return [Path(self.voice)] if self.voice is not None and Path(self.voice).is_file() else []

    def profile(self) -> VoiceProfile | None:
        """The profile to begin with.

        Raises:
            VoiceError: missing, unreadable or damaged.
        """
        if self.voice is None:
            return None
        from stream_ser.recognition import voice_profile

        return voice_profile.read(self.voice)

    def remark(self, card: Card) -> str | None:
        """What to say where adapting was asked for of a model that cannot."""
        if self.adapt and card.memory is None:
            return f"--adapt: model {card.name} has no memory of a voice, it hears every utterance alike"
        return None


class Keys:
    """Keys that are pressed while a command runs, without waiting for one.

    Only where standard input is a terminal and the program is in its foreground; a program in the background would be
    stopped. Ctrl-C and Ctrl-Z keep their meaning.
    """

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._windows = False

    @contextlib.contextmanager
    def reading(self) -> Iterator[Keys]:
        """Read single keys; the terminal is put back at the end."""
        if sys.stdin is None or not sys.stdin.isatty():
            yield self
            return
        if sys.platform == "win32":
            self._windows = True
            yield self
            return
        import termios
        import tty

        try:
            descriptor = sys.stdin.fileno()
            if os.tcgetpgrp(descriptor) != os.getpgrp():
                yield self
                return
            before = termios.tcgetattr(descriptor)
            tty.setcbreak(descriptor, termios.TCSADRAIN)
        except (OSError, ValueError, termios.error):
            yield self
            return
        self._descriptor = descriptor
        try:
            yield self
        finally:
            self._descriptor = None
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

    def pressed(self, key: str) -> bool:
        """Take what was pressed since the last call; True if the key was among it."""
        if self._windows:
            return key in self._windows_keys()
        if self._descriptor is None:
            return False
        found = b""
        with contextlib.suppress(OSError):
            while select.select([self._descriptor], [], [], 0.0)[0]:
                new = os.read(self._descriptor, 64)
                if not new:
                    # The terminal is gone.
                    self._descriptor = None
                    break
                found += new
        return key.encode() in found.lower()

    @staticmethod
    def _windows_keys() -> str:
        found = ""
        msvcrt: Any = __import__("msvcrt")
        while msvcrt.kbhit():
            found += msvcrt.getwch().lower()
        return found


class Forgetting:
    """Marks the next block of every source once the key was pressed.

    The mark is a notice of the block: recorded with it, a replay forgets at the same place.

    Args:
        keys: that are read.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._lock = threading.Lock()
        self._presses = 0

    def of_source(self) -> Callable[[Block], Block]:
        """What each block of one source goes through, in the thread of that source."""
        seen = self._presses

        def change(block: Block) -> Block:
            nonlocal seen
            with self._lock:
                self._presses += self._keys.pressed(FORGET_KEY)
                presses = self._presses
            if presses == seen:
                return block
            seen = presses
            return replace(block, notices=(*block.notices, ("forgotten", FORGOTTEN)))

        return change
