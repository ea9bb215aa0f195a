"""Feed a range of damaged files to the readers: ``fuzz_worker.py KIND FIRST COUNT STATE FOLDER``.

A process of its own, because a native library that crashes or hangs takes its process along. STATE holds the number of
the case at hand; standard output ends in one line of JSON: what went wrong, and how often each outcome came about.

A case that takes more than a second of this process's time ends it (SIGPROF counts that in native code, too, and not
what other processes take of the cores); one that waits for something is given up by a clock.
"""

from __future__ import annotations

import faulthandler
import io
import json
import os
import resource
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from fuzz_audio import audio_case
from fuzz_models import card_case, model_case

from stream_ser.audio.decode import AudioFile
from stream_ser.audio.wav import RawFormat
from stream_ser.errors import StreamSerError
from stream_ser.runtime.card.recognition import Card
from stream_ser.runtime.engine import Engine
from stream_ser.runtime.onnx_scan import scan

CPU_LIMIT_S = 1.0
WAITING_LIMIT_S = 120
#: What one case may add to the memory that this process ever held, and what it may ask for at all.
RESIDENT_LIMIT_BYTES = 100 * 1024**2
ADDRESS_LIMIT_BYTES = 2 * 1024**3
#: A network is a program: what it computes with is its own choice, up to the limit of all.
UNBOUNDED = "model"
#: A reader of half a second gives no longer block.
LONGEST_BLOCK = 200_000
#: More would be a file that blows itself up.
LONGEST_AUDIO = 50_000_000


class Pipe(io.RawIOBase):
    """Cannot seek, and hands out odd amounts."""

    def __init__(self, data: bytes) -> None:
        self._rest = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._rest.readinto(memoryview(buffer)[:1009])


def read_audio(number: int, folder: Path) -> str:
    case = audio_case(number)
    source: object = io.BytesIO(case.data)
    if case.how == "path":
        path = folder / f"case.{case.suffix}"
        path.write_bytes(case.data)
        source = path
    elif case.how in {"pipe", "raw"}:
        source = Pipe(case.data)
    raw = RawFormat(16_000, 1 + number % 3, case.encoding) if case.how == "raw" else None
    total = 0
    with AudioFile(source, raw=raw) as audio:  # type: ignore[arg-type]
        for block in audio.blocks():
            assert (block.dtype, block.ndim) == (np.float32, 1)
            assert 0 < len(block) <= LONGEST_BLOCK
            assert np.isfinite(block).all()
            total += len(block)
            assert total <= LONGEST_AUDIO
    return "read with a warning" if audio.warning else "read"


def read_card(number: int, folder: Path) -> str:
    Card.from_json(card_case(number))
    return "read"


def scan_model(number: int, folder: Path) -> str:
    scan(model_case(number), "case.onnx")
    return "read"


def load_model(number: int, folder: Path) -> str:
    path = folder / "case.onnx"
    path.write_bytes(model_case(number))
    engine = Engine(path, "cpu")
    frames = np.zeros((engine.frames, engine.card.features.n_mels), np.float32)
    with np.errstate(all="ignore"):
        if engine.card.states:
            engine.step(frames, engine.step(frames, engine.initial_state()).state)
        else:
            engine.probabilities(frames)
    return "read"


def misbehave(how: str) -> Callable[[int, Path], str]:
    """A reader that does at case 11 what the worker is there to notice."""

    def read(number: int, folder: Path) -> str:
        if number != 11:
            return "read"
        if how == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        elif how == "hang":
            while True:
                pass
        elif how == "traceback":
            raise ValueError("not ours")
        elif how == "two lines":
            raise StreamSerError("one\ntwo")
        elif how == "noise":
            os.write(2, b"torn screen")
        elif how == "memory":
            bytearray(os.urandom(4096)) * (RESIDENT_LIMIT_BYTES // 2048)
        return "read"

    return read


KINDS: dict[str, Callable[[int, Path], str]] = {
    "audio": read_audio,
    "card": read_card,
    "scan": scan_model,
    "model": load_model,
    **{f"self-test {how}": misbehave(how) for how in ("crash", "hang", "traceback", "two lines", "noise", "memory")},
}


def largest_resident_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: on Linux that begins with what the process held that this one was started by.
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(peak.split()[1])
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else 1024 * held


def one(read: Callable[[int, Path], str], number: int, folder: Path) -> tuple[str, str]:
    """Outcome of one case, and what was wrong with it, if anything."""
    before = largest_resident_bytes()
    try:
        outcome = read(number, folder)
    except StreamSerError as error:
        outcome, said = type(error).__name__, str(error)
        if len(said.splitlines()) != 1 or len(said) > 1_000 or not said.isprintable():
            return outcome, f"not one short, printable line: {said[:300]!r}"
    except Exception:  # noqa: BLE001 - any other is what is looked for
        return "other exception", traceback.format_exc(limit=-4)
    if read is not KINDS[UNBOUNDED] and (grown := largest_resident_bytes() - before) > RESIDENT_LIMIT_BYTES:
        return outcome, f"took {grown / 1024**2:.0f} MiB"
    return outcome, ""


def main() -> None:
    read, first, count = KINDS[sys.argv[1]], int(sys.argv[2]), int(sys.argv[3])
    state, folder = Path(sys.argv[4]), Path(sys.argv[5])
    # Import and allocate what every case needs, before anything is measured.
    for number in range(3):
        one(read, number, folder)
    statm = Path("/proc/self/statm")
    if statm.exists():
        address_bytes = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (address_bytes + ADDRESS_LIMIT_BYTES, resource.RLIM_INFINITY))
    # What native code or a callback prints past Python would tear a user's screen.
    printed = os.open(folder / "printed", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    kept = os.dup(2)
    faulthandler.enable(kept)
    faulthandler.register(signal.SIGPROF, kept, chain=True)
    outcomes: Counter[str] = Counter()
    failures: list[tuple[int, str]] = []
    with state.open("wb", buffering=0) as at:
        for number in range(first, first + count):
            os.pwrite(at.fileno(), str(number).ljust(12).encode(), 0)
            signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
            faulthandler.dump_traceback_later(WAITING_LIMIT_S, exit=True, file=kept)
            os.dup2(printed, 2)
            outcome, wrong = one(read, number, folder)
            os.dup2(kept, 2)
            signal.setitimer(signal.ITIMER_PROF, 0)
            if size := os.fstat(printed).st_size:
                wrong = wrong or "printed: " + os.pread(printed, min(size, 2_000), 0).decode(errors="replace")
                os.ftruncate(printed, 0)
                os.lseek(printed, 0, os.SEEK_SET)
            outcomes[outcome] += 1
            if wrong:
                failures.append((number, wrong))
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"outcomes": outcomes, "failures": failures, "resident_mb": largest_resident_bytes() / 2**20}))


if __name__ == "__main__":
    main()
