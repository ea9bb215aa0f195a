"""A private PulseAudio server whose only microphone is the monitor of a null sink: play into it, record from it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

SINK = "stream_ser_test"
_START_S = 15.0
_ASOUNDRC = "pcm.!default { type pulse }\nctl.!default { type pulse }\n"


class PulseUnavailable(Exception):  # noqa: N818 - a reason to skip, no error
    """No private server can run here; the message says why."""


def isolated_env(folder: Path) -> dict[str, str]:
    """The environment of a machine without any audio server or ALSA device of its own configuration."""
    runtime = folder / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)
    dropped = ("PULSE_", "DBUS_", "PIPEWIRE_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    env.pop("DISPLAY", None)
    return env | {
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(runtime),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "PULSE_RUNTIME_PATH": str(runtime),
        "PULSE_STATE_PATH": str(folder / "state"),
        "PULSE_SERVER": f"unix:{runtime / 'native'}",
        "LC_ALL": "C.UTF-8",
    }


def _answers(env: dict[str, str]) -> bool:
    try:
        command = ["pactl", "get-default-source"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=5.0, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and done.stdout.strip() == f"{SINK}.monitor"


@contextlib.contextmanager
def running_server(env: dict[str, str], rate: int = 48_000) -> Iterator[None]:
    """Run a server at the socket that an environment names; it may come and go there.

    Raises:
        PulseUnavailable: as :func:`pulse_server`.
    """
    for program in ("pulseaudio", "pactl", "paplay"):
        if shutil.which(program) is None:
            raise PulseUnavailable(f"{program} is not installed (Debian: pulseaudio, pulseaudio-utils)")
    log_path = Path(env["HOME"], "server.log")
    socket = env["PULSE_SERVER"].removeprefix("unix:")
    command = ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1"]
    command += ["--disallow-exit", "--log-target=stderr"]
    command += ["-L", f"module-native-protocol-unix socket={socket} auth-anonymous=1"]
    command += ["-L", f"module-null-sink sink_name={SINK} rate={rate} channels=2"]
    with log_path.open("wb") as log:
        server = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline_s = time.monotonic() + _START_S
        while not _answers(env):
            if server.poll() is not None or time.monotonic() > deadline_s:
                lines = log_path.read_text(errors="replace").strip().splitlines()
                last = lines[-1] if lines else f"no answer within {_START_S:g} s"
                raise PulseUnavailable(f"pulseaudio does not start: {last}")
            time.sleep(0.1)
        yield
    finally:
        server.terminate()
        try:
            server.wait(5.0)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@contextlib.contextmanager
def pulse_server(rate: int = 48_000) -> Iterator[dict[str, str]]:
    """Run the server.

    Args:
        rate: of the null sink, Hz.

    Yields:
        The environment for programs (paplay, PortAudio through ALSA) that shall use it.

    Raises:
        PulseUnavailable: a program is missing, or the server does not come up.
    """
    # Not pytest's tmp_path: the path of a Unix socket may be 107 bytes long at most.
    with tempfile.TemporaryDirectory(prefix="pulse-") as name:
        env = isolated_env(Path(name))
        Path(name, ".asoundrc").write_text(_ASOUNDRC)
        with running_server(env, rate):
            yield env
