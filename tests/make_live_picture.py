"""Makes ``docs/live.svg``, the README's picture: a real frame of ``stream-ser demo``, exported by rich.

The clip is heard in real time, for the numbers in the frame are measured. Run with
``python tests/make_live_picture.py``.
"""

from __future__ import annotations

import io
import re
from importlib import resources
from pathlib import Path

from rich.console import Console, Group

from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime.engine import load
from stream_ser.sinks.live.single import render
from stream_ser.sinks.live.state import LiveState
from stream_ser.sources.file import FileSource

WIDTH, HEIGHT = 100, 26
SECONDS = 33.0


def main() -> None:
    """Write the picture."""
    recognizer = Recognizer(load())
    state = LiveState(provider=recognizer.engine.provider, duration_s=None)
    state.begin(recognizer.info("demo (demo.flac)"))
    heard = 0
    with FileSource(str(resources.files("stream_ser.assets") / "demo.flac"), realtime=True) as source:
        for block in source:
            for event in recognizer.push(block.samples, captured_at=block.captured_at):
                state.take(event)
            state.hear(block.samples)
            state.show(recognizer.current, recognizer.posterior)
            heard += block.samples.size
            if heard >= SECONDS * 16_000:
                break
    console = Console(file=io.StringIO(), record=True, width=WIDTH, height=HEIGHT, force_terminal=True)
    console.print(Group(*render(state, WIDTH, HEIGHT)))
    svg = console.export_svg(title="stream-ser demo")
    # Without rich's web font: a picture that needs no network.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code", "DejaVu Sans Mono")
    out = Path(__file__).parents[1] / "docs" / "live.svg"
    out.parent.mkdir(exist_ok=True)
    out.write_text(svg, encoding="utf-8")
    print(out)


if __name__ == "__main__":
    main()
