"""Trains a plan of runs, one after the other; started again, it goes on where it was.

``python -m stream_ser.train.experiments.compare PLAN --data-root FOLDER --out runs/NAME``

A plan is a JSON file: ``about`` says what it compares, ``runs`` lists the runs, and what they have in common is in
``all``. A run has the fields of :class:`Run`, but ``set`` for ``changes``; its own ``set`` comes after the common one.
Paths are no part of a plan: corpora are looked for by name in the data root, and ``{data}`` in a change is that folder.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import click

from stream_ser.errors import TrainError
from stream_ser.models.registry import NETWORKS
from stream_ser.train.checkpoint import CHECKPOINT
from stream_ser.train.data.corpora import CORPORA
from stream_ser.train.data.labels import SPLITS, SplitKind
from stream_ser.train.evaluation.series import parse_seeds

from .command import Command, make_parent, write_json

PLANS = Path(__file__).parent / "plans"
#: In each run's folder: what made it, and whether it came to its end.
RECORD = "command.json"


@dataclass(frozen=True)
class Run:
    """One call of ``stream-ser train``.

    Attributes:
        name: of its folder.
        network: what to train.
        data: names of the corpora, which are also those of their folders in the data root.
        preset: recipe.
        split: kind of split.
        fold: number of the fold, or ``all``.
        seeds: one is one run; several give a folder of runs.
        epochs: instead of the recipe's.
        init: what to start from: a run of the same plan that comes before, or a bundled model.
        teacher: what to learn from, likewise.
        taught: a teacher's file, by its name in the folder of the runs.
        ordinary: names of corpora of plain speech, found as those of ``data``.
        left_out: those of ``data`` that are tested on alone.
        changes: ``SECTION.FIELD=VALUE`` each.
    """

    name: str
    network: str
    data: tuple[str, ...]
    preset: str = "default"
    split: SplitKind = "fixed"
    fold: int | str | None = None
    seeds: tuple[int, ...] = (0,)
    epochs: int | None = None
    init: str = ""
    teacher: str = ""
    taught: str = ""
    ordinary: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or Path(self.name).name != self.name:
            raise ValueError(f"name {self.name!r} is not that of a folder")
        if unknown := {*self.data, *self.ordinary} - CORPORA.keys():
            raise ValueError(f"{self.name}: unknown corpus {min(unknown)!r}; known: {', '.join(sorted(CORPORA))}")
        if not self.data or not isinstance(self.seeds, tuple) or not self.seeds:
            raise ValueError(f"{self.name}: needs a list of one or more, of data and of seeds")
        if unknown := set(self.left_out) - set(self.data):
            raise ValueError(f"{self.name}: leaves out {min(unknown)!r}, which is not among its data")
        if self.network not in NETWORKS:
            raise ValueError(f"{self.name}: unknown network {self.network!r}; known: {', '.join(NETWORKS)}")
        if self.split not in SPLITS:
            raise ValueError(f"{self.name}: unknown split {self.split!r}; known: {', '.join(SPLITS)}")

    def arguments(self) -> list[str]:
        """What follows ``stream-ser train``, without paths."""
        found = [self.network, "--preset", self.preset, "--split", self.split]
        if self.fold is not None:
            found += ["--fold", str(self.fold)]
        seeds = ",".join(map(str, self.seeds))
        found += ["--seeds" if len(self.seeds) > 1 else "--seed", seeds]
        if self.epochs is not None:
            found += ["--epochs", str(self.epochs)]
        for name in self.left_out:
            found += ["--leave-out", name]
        for change in self.changes:
            found += ["--set", change]
        return found


def read_plan(path: Path) -> tuple[str, tuple[Run, ...]]:
    """What a plan is about, and its runs.

    Raises:
        TrainError: no such file, not JSON, or not a plan.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        bundled = ", ".join(bundled_plans())
        raise TrainError(f"{path}: cannot be read ({error.strerror}); give a file or one of {bundled}") from None
    except ValueError as error:
        raise TrainError(f"{path}: not valid JSON ({error}); mend it") from None
    try:
        if unknown := content.keys() - {"about", "all", "runs"}:
            raise ValueError(f"unknown field {min(unknown)!r}; a plan has about, all and runs")
        runs = tuple(_run(content.get("all", {}), own) for own in content["runs"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise TrainError(f"{path}: not a plan: {reason}") from None
    twice = [name for name, count in Counter(run.name for run in runs).items() if count > 1]
    if twice or not runs:
        raise TrainError(f"{path}: not a plan: {f'two runs are called {twice[0]}' if twice else 'no runs'}")
    return str(content.get("about", "")), runs


def _run(common: dict[str, Any], own: dict[str, Any]) -> Run:
    known = {field.name for field in fields(Run)} - {"changes"} | {"set"}
    values = {**common, **own}
    if unknown := values.keys() - known:
        raise ValueError(f"a run has no field {min(unknown)!r}; it has {', '.join(sorted(known))}")
    values.pop("set", None)
    changes = [common.get("set", []), own.get("set", [])]
    if not all(isinstance(part, list) for part in changes):
        raise ValueError("set must be a list of SECTION.FIELD=VALUE")
    values["changes"] = [*changes[0], *changes[1]]
    arguments: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return Run(**arguments)


def bundled_plans() -> list[str]:
    """Names of the plans that come with the package."""
    return sorted(path.stem for path in PLANS.glob("*.json"))


def find_plan(plan: str) -> Path:
    """Path of a bundled plan (by name) or of a file."""
    return PLANS / f"{plan}.json" if plan in bundled_plans() else Path(plan)


def command(run: Run, data_root: Path, folder: Path, more: Sequence[str] = ()) -> list[str]:
    """The command line that trains ``run`` into ``folder``, or goes on with it."""
    found = [sys.executable, "-m", "stream_ser", "train", *run.arguments(), *more]
    found = [argument.replace("{data}", str(data_root)) for argument in found]
    for name in run.data:
        found += ["--data", f"{name}={data_root / name}"]
    for name in run.ordinary:
        found += ["--ordinary", f"{name}={data_root / name}"]
    if run.taught:
        found += ["--taught", str(folder.parent / run.taught)]
    for option, model in (("--init", run.init), ("--teacher", run.teacher)):
        if model:
            earlier = folder.parent / model
            found += [option, str(earlier) if earlier.is_dir() else model]
    found += ["--out", str(folder)]
    if next(folder.rglob(CHECKPOINT), None) is not None:
        found.append("--resume")
    return found


def _plain(run: Run) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(asdict(run)))
    return content


def is_finished(run: Run, folder: Path) -> bool:
    """Whether ``folder`` holds this run to its end.

    Raises:
        TrainError: it holds another run, or a record that cannot be read.
    """
    path = folder / RECORD
    if not path.is_file():
        return False
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        # What a run of before these fields were there did without.
        absent = {"teacher": "", "taught": "", "ordinary": [], "left_out": []}
        same, finished = {**absent, **record["run"]} == _plain(run), bool(record["finished"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainError(f"{path}: not readable ({type(error).__name__}); remove {folder}") from None
    if not same:
        raise TrainError(f"{folder}: holds a run with other settings; choose another --out")
    return finished


def train(run: Run, folder: Path, line: Sequence[str]) -> bool:
    """Train one run and record how; whether it came to its end."""
    make_parent(folder / RECORD)
    record = {"run": _plain(run), "command": shlex.join(line), "finished": False}
    write_json(folder / RECORD, record)
    started = time.monotonic()
    with subprocess.Popen(line) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()  # it was interrupted, too, and says how to go on
            raise
    seconds = round(time.monotonic() - started, 1)
    write_json(folder / RECORD, {**record, "finished": code == 0, "exit_code": code, "seconds": seconds})
    return code == 0


def select(runs: Iterable[Run], only: Sequence[str], epochs: int | None, seeds: tuple[int, ...] = ()) -> list[Run]:
    """Those whose name holds one of ``only``, with ``epochs`` and ``seeds`` where given.

    Raises:
        TrainError: none is left.
    """
    known = list(runs)
    chosen = [run for run in known if not only or any(text in run.name for text in only)]
    if not chosen:
        raise TrainError(f"--only {only[0]}: no run of that name; there are {', '.join(run.name for run in known)}")
    return [replace(run, epochs=epochs or run.epochs, seeds=seeds or run.seeds) for run in chosen]


@click.command(cls=Command)
@click.argument("plan", metavar="PLAN")
@click.option(
    "--data-root", type=click.Path(path_type=Path), required=True, help="Folder that holds the corpora by name."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the runs.")
@click.option("--only", multiple=True, metavar="TEXT", help="Only the runs whose name holds TEXT.")
@click.option("--epochs", type=click.IntRange(min=1), help="For all runs, instead of the plan's.")
@click.option("--seeds", metavar="SEED,...", help="For all runs, instead of the plan's.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--dry-run", is_flag=True, help="Print the command lines and train nothing.")
@click.pass_context
def main(
    ctx: click.Context,
    plan: str,
    data_root: Path,
    out: Path,
    only: tuple[str, ...],
    epochs: int | None,
    seeds: str | None,
    device: str,
    dry_run: bool,
) -> None:
    """Train the runs of PLAN, a file or the name of a bundled one, one after the other.

    Runs that are finished are skipped, interrupted ones resumed. A run that fails is said and does not stop the others.
    """
    about, runs = read_plan(find_plan(plan))
    chosen = select(runs, only, epochs, parse_seeds(seeds) if seeds else ())
    finished = [is_finished(run, out / run.name) for run in chosen]
    more = ["--device", device]
    if dry_run:
        for run in chosen:
            click.echo(shlex.join(command(run, data_root, out / run.name, more)))
        return
    click.echo(f"{plan}: {about} ({len(chosen)} runs, {sum(finished)} finished)", err=True)
    failed = []
    for number, (run, done) in enumerate(zip(chosen, finished, strict=True), start=1):
        click.echo(f"[{number}/{len(chosen)}] {run.name}{': finished' if done else ''}", err=True)
        folder = out / run.name
        if not done and not train(run, folder, command(run, data_root, folder, more)):
            failed.append(run.name)
    if failed:
        click.echo(f"failed: {', '.join(failed)}; start again to go on with them", err=True)
    folders = [str(out / run.name) for run in chosen if run.name not in failed]
    click.echo(shlex.join(["stream-ser", "report", *folders]))
    ctx.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
