"""Run a command and see every address, name look-up and written file of it and of the processes that it starts.

``strace`` sees all system calls. Where it is missing or may not trace, ``guard.c`` is compiled and preloaded: it sees
what goes through the C library's functions, native libraries included, but no call from inside the C library.
"""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Protocol

SOURCE = Path(__file__).with_name("guard.c")
_CALLS = "connect,bind,sendto,sendmsg,sendmmsg,open,openat,openat2,creat"
_NETWORK = re.compile(r"(?:connect|bind|sendto|sendmsg|sendmmsg)\(")
#: As strace prints them in ``{sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("192.0.2.1")}``.
_ADDRESS = re.compile(r'sa_family=AF_INET6?, sin6?_port=htons\((\d+)\)[^}]*?inet_(?:addr\(|pton\(AF_INET6, )"([^"]+)"')
_OPENED = re.compile(r"(creat|open\w*)\((.*)\) = \d+<(.*?)>(?:\(deleted\))?$")
_WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT")
#: glibc reads these before it looks up a name, whoever then answers.
_RESOLVER = ("/etc/hosts", "/etc/resolv.conf")


@dataclass(frozen=True)
class Seen:
    """What a command did.

    Attributes:
        returncode, stdout, stderr: of the command.
        addresses: host and port, of IPv4 and IPv6 only, that were connected to, bound or sent to.
        lookups: names, or files that the C library reads in order to look one up.
        written: absolute paths that were opened for writing.
    """

    returncode: int
    stdout: str
    stderr: str
    addresses: frozenset[tuple[str, int]]
    lookups: frozenset[str]
    written: frozenset[str]

    def complaints(self, folders: Iterable[Path], allowed: Iterable[str]) -> list[str]:
        """What leaves the machine, and what is written outside ``folders`` and the ``allowed`` patterns of paths."""
        inside, patterns = tuple(f"{folder.resolve()}/" for folder in folders), tuple(allowed)
        # A resolver may listen on a loopback address.
        found = [f"address {h} {p}" for h, p in self.addresses if p == 53 or not ipaddress.ip_address(h).is_loopback]
        found += [f"lookup {name}" for name in self.lookups]
        found += [
            f"write {path}"
            for path in self.written
            if not path.startswith(inside) and not any(fnmatch(path, pattern) for pattern in patterns)
        ]
        return sorted(found)


class Guard(Protocol):
    """One way to watch."""

    def run(self, command: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> Seen:
        """Run a command to its end; ``log`` is a folder that does not exist yet."""


def _finish(
    command: Sequence[str], env: Mapping[str, str], cwd: Path, timeout_s: float = 900.0
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s,
        check=False,
    )  # fmt: skip


@dataclass(frozen=True)
class Strace:
    """Every system call, in a file for each process."""

    program: str
    options: tuple[str, ...]

    def run(self, command: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> Seen:
        """See :class:`Guard`."""
        log.mkdir()
        done = _finish([self.program, *self.options, "-o", str(log / "calls"), *command], env, cwd)
        addresses, lookups, written = set(), set(), set()
        for path in log.iterdir():
            for line in path.read_text(errors="replace").splitlines():
                if _NETWORK.match(line):
                    addresses |= {(host, int(port)) for port, host in _ADDRESS.findall(line)}
                elif opened := _OPENED.match(line):
                    call, arguments, name = opened.groups()
                    lookups |= {name} & set(_RESOLVER)
                    if call == "creat" or _WRITING.search(arguments):
                        written.add(name)
        if not any(log.iterdir()):
            raise RuntimeError(f"strace wrote nothing: {done.stderr}")
        return Seen(
            done.returncode, done.stdout, done.stderr, frozenset(addresses), frozenset(lookups), frozenset(written)
        )


@dataclass(frozen=True)
class Preload:
    """The C library's functions."""

    library: Path

    def run(self, command: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> Seen:
        """See :class:`Guard`."""
        log.mkdir()
        calls = log / "calls"
        calls.touch()
        done = _finish(command, {**env, "LD_PRELOAD": str(self.library), "GUARD_LOG": str(calls)}, cwd)
        lines = [line.partition(" ") for line in calls.read_text(errors="replace").splitlines()]
        told = {kind: {rest for found, _, rest in lines if found == kind} for kind in ("address", "lookup", "write")}
        addresses = {(host, int(port)) for host, port in map(str.split, told["address"])}
        return Seen(
            done.returncode, done.stdout, done.stderr, frozenset(addresses), frozenset(told["lookup"]),
            frozenset(path.removesuffix(" (deleted)") for path in told["write"]),
        )  # fmt: skip


def strace() -> Strace | str:
    """The guard, or why there is none."""
    program = shutil.which("strace")
    if sys.platform != "linux" or program is None:
        return "strace is not installed"
    options = ("-ff", "-y", "-qq", "-e", f"trace={_CALLS}", "-e", "signal=none")
    # With a filter in the kernel only the calls that are traced stop the process; older versions do not have it.
    for more in (("--seccomp-bpf",), ()):
        done = subprocess.run(
            [program, *more, *options, "-o", "/dev/null", "true"], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return Strace(program, (*more, *options))
    return f"strace may not trace here: {done.stderr.strip()}"


def preload(folder: Path) -> Preload | str:
    """The guard, compiled into ``folder``, or why there is none."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if sys.platform != "linux" or compiler is None:
        return "no C compiler is installed"
    library = folder / "guard.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return Preload(library) if done.returncode == 0 else f"guard.c does not compile here: {done.stderr.strip()[:200]}"
