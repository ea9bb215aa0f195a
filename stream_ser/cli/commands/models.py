"""``stream-ser models``: what there is to choose from, and how well it does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from stream_ser.text import printable

if TYPE_CHECKING:
    from pathlib import Path

    from stream_ser.runtime.card.recognition import Card
    from stream_ser.runtime.card.separation import SeparatorCard


@click.command()
@click.argument("paths", nargs=-1, metavar="[NAME|FILE.onnx]...")
@click.option("--json", "as_json", is_flag=True, help="One JSON array with the whole cards, and which is the default.")
def models(paths: tuple[str, ...], as_json: bool) -> None:
    """List the bundled models and separators, or the given ones: what they say, size, results, licence."""
    from stream_ser.runtime.engine import DEFAULT_MODEL, bundled
    from stream_ser.separation.separator import bundled_separators

    known = [*bundled(), *bundled_separators()]
    cards = [_read(path) for path in paths or known]

    def is_default(path: Path) -> bool:
        return path.stem == DEFAULT_MODEL and path in known

    if as_json:
        import json

        content = [
            {"path": str(path), "bytes": path.stat().st_size, "default": is_default(path), **json.loads(card.to_json())}
            for path, card in cards
        ]
        click.echo(json.dumps(content, indent=1))
        return
    if not cards:
        click.echo("stream-ser: no model is bundled with this installation; give an .onnx file", err=True)
        return
    from rich.table import Table

    from stream_ser.runtime.card.recognition import Card
    from stream_ser.sinks.table import console_for

    console = console_for(sys.stdout)
    for path, card in cards:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="grey62", no_wrap=True)
        grid.add_column(overflow="fold")
        rows = describe(path, card) if isinstance(card, Card) else describe_separator(path, card)
        for name, value in rows:
            grid.add_row(name, "\n".join(map(printable, value.split("\n"))))
        console.print(f"{card.name} (the default)" if is_default(path) else card.name, style="bold")
        console.print(grid)
        console.print()


def _read(model: str | Path) -> tuple[Path, Card | SeparatorCard]:
    """Load a model of either kind: file and card.

    Raises:
        ModelError: no such model, or it cannot be read.
    """
    from stream_ser.runtime.engine import load
    from stream_ser.separation.separator import Separator, is_separator

    loaded = Separator(model) if is_separator(model) else load(model, "cpu")
    # The file: what was given may be the name of a bundled model.
    return loaded.path, loaded.card


def describe_separator(path: Path, card: SeparatorCard) -> list[tuple[str, str]]:
    """The same for a separator."""
    return [
        ("file", str(path)),
        ("sources", ", ".join(card.sources)),
        ("size", f"{card.parameters:,} parameters, {path.stat().st_size / 1e6:.2f} MB"),
        ("latency", f"{1000 * card.window / card.sample_rate:g} ms at {card.sample_rate} Hz"),
        (
            "trained on",
            ", ".join(str(card.training[key]) for key in ("data", "split") if card.training.get(key)) or "not recorded",
        ),
        ("measured", "\n".join(_separated(card)) or "not recorded"),
        ("licence", card.licence or "not recorded"),
    ]


def _separated(card: SeparatorCard) -> Iterator[str]:
    for name, result in card.results.items():
        scores = _mapping(result)
        labels = (("si_snr_improvement_db", "SI-SNRi"), ("si_snr_db", "SI-SNR"))
        numbers = [f"{label} {scores[key]:.2f} dB" for key, label in labels if _is_number(scores.get(key))]
        yield f"{', '.join(numbers) or result} ({scores.get('protocol', name)})"


def describe(path: Path, card: Card) -> list[tuple[str, str]]:
    """What a card says, as rows for people."""
    features, window = card.features, card.window
    window_s = features.samples_for(window.frames) / features.sample_rate
    hop_s = window.hop * features.hop_length / features.sample_rate
    first_s = features.samples_for(window.minimum) / features.sample_rate
    seen = "what was said since the last pause" if card.states else f"{window_s:.2f} s"
    return [
        ("file", str(path)),
        ("labels", ", ".join(card.labels)),
        ("size", f"{card.parameters:,} parameters, {path.stat().st_size / 1e6:.2f} MB"),
        ("window", f"{seen}, a prediction every {hop_s:.2f} s, the first after {first_s:.2f} s"),
        ("input", f"log-mel, {features.n_mels} bands, {features.f_min:g} to {features.f_max:g} Hz"),
        *([("words", _words(card))] if card.vocabulary else []),
        *([("memory", "of the voice, within a session (--adapt, --voice)")] if card.memory else []),
        ("voice", _voice()),
        ("trained on", _trained(card)),
        ("measured", "\n".join(_measured(card)) or "not recorded"),
        ("licence", card.licence or "not recorded"),
    ]


def _words(card: Card) -> str:
    """What a model that transcribes spells with, and how much later than it is said."""
    delay_ms = 1000.0 * card.delay_frames * card.features.hop_length / card.features.sample_rate
    characters = "".join(sorted(card.vocabulary)).strip()
    spelt = characters if len(characters) <= 60 else f"{len(characters)} characters"
    return f"spelt with {spelt}, {delay_ms:.0f} ms after they are said"


def _voice() -> str:
    """What tells speech from everything else; no part of the model."""
    from importlib.metadata import version

    from stream_ser.vad.silero import PACKAGE, available

    if not available():
        return f"no voice activity detection: {PACKAGE} is not installed"
    return f"voice activity detection by Silero VAD ({PACKAGE} {version(PACKAGE)}), unless --no-vad"


def _trained(card: Card) -> str:
    """Corpora, split and seed; the whole recipe is in ``--json``."""
    said = [f"{name} ({clips} clips)" for name, clips in _mapping(card.training.get("corpora")).items()]
    for key in ("split", "seed", "epochs", "commit"):
        if card.training.get(key) not in (None, ""):
            said.append(str(card.training[key]) if key == "split" else f"{key} {card.training[key]}")
    return ", ".join(said) or "not recorded"


def _measured(card: Card) -> Iterator[str]:
    """One line a result: the scores, then how they were obtained."""
    for name, result in card.results.items():
        scores = _mapping(result)
        numbers = [
            f"{key.upper()} {scores[key]:.4f}" for key in ("uar", "wa", "f1", "ece") if _is_number(scores.get(key))
        ]
        numbers += [f"{key.upper()} {100 * scores[key]:.1f} %" for key in ("wer", "cer") if _is_number(scores.get(key))]
        numbers += [f"{scores[key]} {key}" for key in ("clips", "words") if key in scores]
        yield f"{', '.join(numbers) or result} ({scores.get('protocol', name)})"


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
