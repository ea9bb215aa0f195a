"""``stream-ser bench``: latency, share of a core, memory and capacity, on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream_ser.cli.options.recognition import changes_option, model_option, provider_option, vad_option
from stream_ser.config import BLOCK_S
from stream_ser.text import printable

if TYPE_CHECKING:
    from stream_ser.bench.report import Options, Say
    from stream_ser.runtime.engine import Provider


def _numbers(text: str, least: float, option: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(least <= number < 1e6 for number in found):
        raise click.UsageError(f"{option} is {text!r}, expected numbers of at least {least:g} with commas between them")
    return found


@click.command()
@model_option
@provider_option
@vad_option
@changes_option
@click.option("--hops", type=click.IntRange(1, 1_000_000), default=1_000, show_default=True, help="In each run.")
@click.option("--hop", "hop_ms", type=float, metavar="MS", help="Predict this often. Default: the model's hop.")
@click.option(
    "--block",
    "block_ms",
    type=float,
    default=1_000 * BLOCK_S,
    show_default=f"{1_000 * BLOCK_S:g}, a microphone's",
    metavar="MS",
    help="Audio that is pushed at once.",
)
@click.option("--threads", type=click.IntRange(1, 256), default=1, show_default=True, help="In one inference.")
@click.option("--streams", metavar="N,...", help="Also so many at once, on one core.")
@click.option("--capacity", is_flag=True, help="Also find how many streams one core bears, by trying.")
@click.option("--windows", metavar="S,...", help="Also the network with windows or a memory so long, untrained.")
@click.option("--flat-out", "flat_only", is_flag=True, help="Leave out the runs at the pace of speech.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--compare", type=click.Path(path_type=Path, dir_okay=False), metavar="JSON", help="Print ratios to it.")
def bench(
    model: str | None,
    provider: Provider,
    vad: bool | None,
    changes: bool,
    hops: int,
    hop_ms: float | None,
    block_ms: float,
    threads: int,
    streams: str | None,
    capacity: bool,
    windows: str | None,
    flat_only: bool,
    as_json: bool,
    compare: Path | None,
) -> None:
    """Measure what recognition costs here.

    Speech without a pause is pushed flat out and then, block by block, at the pace of a microphone; then a quiet room.
    Features (with voice activity detection), inference, decision and delivery are timed for every hop. The age of a
    prediction runs from the capture of the last sample that it saw to its delivery.
    """
    import json

    from stream_ser.bench.report import Bench, Options, environment_note, ratios, read_report, same_conditions
    from stream_ser.runtime.engine import DEFAULT_MODEL
    from stream_ser.vad.silero import available

    old = None if compare is None else read_report(compare)
    options = Options(
        model=model or DEFAULT_MODEL,
        provider=provider,
        vad=available() if vad is None else vad,
        changes=changes,
        hops=hops,
        hop_ms=hop_ms,
        block_ms=block_ms,
        streams=tuple(round(number) for number in _numbers(streams, 1, "--streams")) if streams else (),
        capacity=capacity,
        paced=not flat_only,
        threads=threads,
    )
    lengths_s = _numbers(windows, 0.5, "--windows") if windows else []
    if note := environment_note():
        click.echo(f"stream-ser: {note}", err=True)
    say = _say if sys.stderr.isatty() else _quiet
    report = Bench(options, say).run()
    report.windows = _windows(options, lengths_s, say)
    content = report.to_dict()
    if as_json:
        click.echo(json.dumps(content, indent=1))
    else:
        _show(content)
    if old is not None and compare is not None:
        differences = same_conditions(content, old)
        _show_ratios(ratios(content, old), differences, compare, err=as_json)


def _say(text: str) -> None:
    click.echo(f"stream-ser: {text}", err=True)


def _quiet(text: str) -> None:
    pass


def _windows(options: Options, lengths_s: list[float], say: Say) -> list[dict[str, Any]]:
    """Cost of the same network with other windows: what of it grows with the window, and how."""
    import tempfile
    from dataclasses import replace

    if not lengths_s:
        return []
    from stream_ser.bench.report import Bench
    from stream_ser.export.untrained import write_untrained
    from stream_ser.runtime.engine import load

    card = load(options.model, "cpu").card
    found: list[dict[str, Any]] = []
    for seconds in lengths_s:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "untrained.onnx"
            write_untrained(card, seconds, path)
            say(f"a window or memory of {seconds:g} s")
            alone = replace(options, model=str(path), streams=(), capacity=False, paced=False)
            content = Bench(alone).run(start_up=False).to_dict()
            run = content["runs"][0]
            # Of a network with states it is its memory that is so long.
            lasting = {"window_s": seconds} if card.states else {}
            measured = {"stages": run["stages"], "compute": run["compute"], "rtf": run["rtf"]}
            found.append({**content["model"], **lasting, **measured})
    return found


def _show(content: dict[str, Any]) -> None:
    """The report for people."""
    model, machine = content["model"], content["machine"]
    vad = "with" if model["vad"] else "without"
    click.echo(
        f"{model['name']} ({model['sha256'][:12]}, {model['bytes'] / 1e6:.1f} MB) on {model['provider']}, "
        f"{model['threads']} thread, window {model['window_s']:.2f} s, hop {model['hop_ms']:g} ms, "
        f"{vad} voice activity detection{', looking for changes' if model['changes'] else ''}"
    )
    packages = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    gpu = f", {machine['gpu']}" if "gpu" in machine else ""
    click.echo(f"{machine['cpu']}, {machine['cores']} cores{gpu}, {machine['system']}; {packages}")
    for run in content["runs"]:
        streams = "" if run["streams"] == 1 else f", {run['streams']} streams"
        click.echo(
            f"\n{run['name']}{streams}: {run['hops']} hops in {run['wall_s']:.1f} s, "
            f"real-time factor {run['rtf']:.4f}, {100 * run['cpu_share']:.1f} % of a core"
        )
        click.echo(f"{'ms':>12}" + "".join(f"{name:>10}" for name in ("p50", "p95", "p99", "max")))
        for name, spread in [*run["stages"].items(), *((key, run[key]) for key in ("compute", "latency", "age"))]:
            if spread is not None:
                click.echo(f"{name:>12}" + "".join(f"{spread[key]:10.2f}" for key in ("p50", "p95", "p99", "max")))
    click.echo("")
    click.echo(f"model loaded in {content['load_ms']:.0f} ms")
    if content["first_result_ms"] is not None:
        click.echo(f"'stream-ser file' has its first result after {content['first_result_ms']:.0f} ms")
    if content["rss_mb"] is not None:
        click.echo(f"memory {content['rss_mb']:.0f} MB")
    if content["windows"]:
        click.echo("\nwindow or memory, random weights: compute p50, p99, inference p50 (ms a hop)")
        for window in content["windows"]:
            compute, inference = window["compute"], window["stages"]["inference"]
            click.echo(
                f"{window['window_s']:8.2f} s {compute['p50']:10.2f} {compute['p99']:10.2f} {inference['p50']:10.2f}"
            )
    if content["trials"]:
        click.echo(
            f"\ncapacity of one core: {content['capacity']} streams (p99 of latency below {model['hop_ms']:g} ms)"
        )
        for trial in content["trials"]:
            verdict = "held" if trial["held"] else "too many"
            click.echo(
                f"{trial['streams']:8} streams: p99 {trial['p99_ms']:9.1f} ms, "
                f"{100 * trial['cpu_share']:5.1f} % of a core, {verdict}"
            )


def _show_ratios(rows: list[tuple[str, float, float, float]], differences: list[str], path: Path, *, err: bool) -> None:
    click.echo(f"\nagainst {printable(str(path))} (now, then, now / then)", err=err)
    for difference in differences:
        click.echo(f"not the same: {difference}", err=err)
    for name, now, then, ratio in rows:
        click.echo(f"{name:<44}{now:10.3f}{then:10.3f}{ratio:8.2f}", err=err)
