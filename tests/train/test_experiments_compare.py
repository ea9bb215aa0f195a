"""Plans of runs: what they say is what ``stream-ser train`` takes; finished runs are left alone, others resumed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("torch")

from stream_ser.cli.commands.train import train as train_command
from stream_ser.errors import TrainError
from stream_ser.models import registry
from stream_ser.train import presets
from stream_ser.train.checkpoint import CHECKPOINT
from stream_ser.train.experiments import compare

#: Stands for ``stream-ser train``: notes that it was called; fails where a file says so.
STAND_IN = """
import sys
from pathlib import Path
out = Path(sys.argv[sys.argv.index("--out") + 1])
with open(out / "calls", "a") as file:
    print(*sys.argv[1:], file=file)
sys.exit(3 if (out.parent / f"{out.name}-fails").exists() else 0)
"""


def write_plan(path: Path, *runs: dict[str, object], **common: object) -> Path:
    path.write_text(json.dumps({"about": "a test", "all": common, "runs": runs}), encoding="utf-8")
    return path


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return write_plan(
        tmp_path / "plan.json",
        {"name": "one", "set": ["augment.noise_p=0"]},
        {"name": "two", "seeds": [0, 1]},
        network="septr",
        data=["crema-d"],
        epochs=2,
        set=["train.ema_decay=0"],
    )


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    real = compare.command

    def command(run: compare.Run, data_root: Path, folder: Path, more: Sequence[str] = ()) -> list[str]:
        return [sys.executable, "-c", STAND_IN, *real(run, data_root, folder, more)[4:]]

    monkeypatch.setattr(compare, "command", command)


def call(plan: Path, out: Path, *args: str) -> Result:
    return CliRunner().invoke(compare.main, [str(plan), "--data-root", "/data", "--out", str(out), *args])


@pytest.mark.parametrize("name", compare.bundled_plans())
def test_bundled_plans_are_what_the_command_takes(name: str) -> None:
    about, runs = compare.read_plan(compare.find_plan(name))
    assert about
    for run in runs:
        line = compare.command(run, Path("/data"), Path("/runs") / run.name)
        assert line[1:4] == ["-m", "stream_ser", "train"]
        context = train_command.make_context("train", line[4:])
        assert context.params["data"] == tuple(f"{name}=/data/{name}" for name in run.data)
        presets.apply(presets.preset(run.network, run.preset), context.params["changes"])
        assert bool(run.fold) == (run.split in ("folds", "nested"))


def test_the_plans_of_the_project_are_there() -> None:
    assert {"ablation", "augment", "esc50", "leak", "networks", "ravdess"} <= set(compare.bundled_plans())


def test_the_ablation_compares_networks_of_one_size() -> None:
    sizes = []
    for run in compare.read_plan(compare.find_plan("ablation"))[1]:
        config = presets.apply(presets.preset(run.network, run.preset), run.changes)
        network = registry.build(config.network, config.model)
        sizes.append(sum(p.numel() for p in network.parameters()))
    assert len(sizes) == 5
    assert max(sizes) < 1.05 * min(sizes)


def test_the_plan_of_networks_holds_all_of_them() -> None:
    assert {run.network for run in compare.read_plan(compare.find_plan("networks"))[1]} == registry.NETWORKS.keys()


def test_a_run_changes_what_all_have(plan: Path) -> None:
    one, two = compare.read_plan(plan)[1]
    assert one.changes == ("train.ema_decay=0", "augment.noise_p=0")
    assert (two.changes, two.seeds, two.epochs) == (("train.ema_decay=0",), (0, 1), 2)
    assert one.arguments()[-6:] == ["--epochs", "2", "--set", "train.ema_decay=0", "--set", "augment.noise_p=0"]
    assert "--seeds 0,1" in " ".join(two.arguments())


def test_runs_once_and_resumes_what_failed(plan: Path, tmp_path: Path, stand_in: None) -> None:
    out = tmp_path / "runs"
    out.mkdir()
    (out / "two-fails").touch()
    done = call(plan, out)
    assert done.exit_code == 1
    assert "failed: two" in done.stderr
    assert done.stdout == f"stream-ser report {out / 'one'}\n"
    (out / "two-fails").unlink()
    (out / "two" / "seed-0").mkdir()
    (out / "two" / "seed-0" / CHECKPOINT).touch()
    done = call(plan, out)
    assert (done.exit_code, done.stdout) == (0, f"stream-ser report {out / 'one'} {out / 'two'}\n")
    calls = {name: (out / name / "calls").read_text().splitlines() for name in ("one", "two")}
    assert (len(calls["one"]), len(calls["two"])) == (1, 2)
    assert [line.endswith("--resume") for line in calls["two"]] == [False, True]
    record = json.loads((out / "one" / compare.RECORD).read_text())
    assert record["finished"]
    assert "--data crema-d=/data/crema-d" in record["command"]


def test_another_plan_does_not_pass_for_this_one(plan: Path, tmp_path: Path, stand_in: None) -> None:
    out = tmp_path / "runs"
    assert call(plan, out, "--only", "one").exit_code == 0
    done = call(plan, out, "--epochs", "3")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "other settings" in done.stderr
    (out / "one" / compare.RECORD).write_text("{")
    assert "remove" in call(plan, out).stderr


@pytest.mark.parametrize("option", ["init", "teacher"])
def test_a_run_starts_or_learns_from_one_before_it_or_from_a_bundled_model(tmp_path: Path, option: str) -> None:
    path = tmp_path / "plan.json"
    run = {"network": "septr", "data": ["crema-d"]}
    path.write_text(json.dumps({"runs": [{**run, "name": "a"}, {**run, "name": "b", option: "a"}]}))
    second = compare.read_plan(path)[1][1]
    (tmp_path / "a").mkdir()
    for folder, start in ((tmp_path / "b", str(tmp_path / "a")), (tmp_path / "elsewhere" / "b", "a")):
        line = compare.command(second, Path("/data"), folder)
        assert line[line.index(f"--{option}") + 1] == start


def test_a_run_of_before_there_were_teachers_is_finished(tmp_path: Path) -> None:
    run = compare.read_plan(compare.find_plan("streaming"))[1][0]
    record = compare._plain(run)
    (tmp_path / compare.RECORD).write_text(json.dumps({"run": record, "finished": True}))
    assert compare.is_finished(run, tmp_path)
    del record["teacher"]
    (tmp_path / compare.RECORD).write_text(json.dumps({"run": record, "finished": True}))
    assert compare.is_finished(replace(run, teacher=""), tmp_path)
    with pytest.raises(TrainError, match="other settings"):
        compare.is_finished(run, tmp_path)


def test_changes_may_name_the_data_root(tmp_path: Path) -> None:
    second = compare.read_plan(compare.find_plan("default"))[1][1]
    line = compare.command(second, Path("/data"), tmp_path / "second")
    assert "augment.noise_folder=/data/esc-50/audio" in line


def test_seeds_of_the_command_line_come_before_the_plans(plan: Path, tmp_path: Path) -> None:
    done = call(plan, tmp_path / "runs", "--dry-run", "--seeds", "3")
    assert done.stdout.count("--seed 3 ") == 2
    assert "--seeds" not in done.stdout


def test_dry_run_prints_and_leaves_nothing(plan: Path, tmp_path: Path) -> None:
    done = call(plan, tmp_path / "runs", "--dry-run", "--only", "two", "--epochs", "7", "--device", "cpu")
    assert done.exit_code == 0
    (line,) = done.stdout.splitlines()
    assert "stream_ser train septr --preset default --split fixed --seeds 0,1 --epochs 7" in line
    assert "--device cpu" in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a plan"),
        ('{"runs": []}', "no runs"),
        ('{"runs": [], "data": []}', "unknown field 'data'"),
        ('{"about": ""}', "'runs' is missing"),
        ('{"runs": [{"name": "a", "network": "septr", "data": ["crema-d"], "lr": 1}]}', "no field 'lr'"),
        ('{"runs": [{"name": "a", "network": "septr", "data": ["nothing"]}]}', "unknown corpus 'nothing'"),
        ('{"runs": [{"name": "../a", "network": "septr", "data": ["crema-d"]}]}', "not that of a folder"),
        ('{"runs": [{"name": "a", "network": "septr", "data": ["crema-d"], "split": "x"}]}', "unknown split 'x'"),
        ('{"runs": [{"name": "a", "network": "septr"}]}', "data"),
        ('{"runs": [{"name": "a", "network": "resnet", "data": ["crema-d"]}]}', "unknown network 'resnet'"),
        ('{"runs": [{"name": "a", "network": "septr", "data": ["crema-d"], "seeds": 3}]}', "needs a list"),
        ('{"runs": [{"name": "a", "network": "septr", "data": ["crema-d"], "set": "a.b=1"}]}', "set must be a list"),
        (
            '{"all": {"network": "septr", "data": ["crema-d"]}, "runs": [{"name": "a"}, {"name": "a"}]}',
            "two runs are called a",
        ),
    ],
)
def test_a_bad_plan_is_one_line(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "plan.json").write_text(content, encoding="utf-8")
    done = call(tmp_path / "plan.json", tmp_path / "runs")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr


def test_unknown_names_say_what_there_is(plan: Path, tmp_path: Path) -> None:
    assert "leak" in call(tmp_path / "nothing", tmp_path / "runs").stderr
    assert "there are one, two" in call(plan, tmp_path / "runs", "--only", "three").stderr
    with pytest.raises(TrainError, match="no run of that name"):
        compare.select([], ["x"], None)


def test_what_a_run_learns_from_besides_its_corpora(tmp_path: Path) -> None:
    more = {"ordinary": ["an4", "librispeech"], "taught": "teacher.npz", "left_out": ["nemo"]}
    path = write_plan(tmp_path / "plan.json", {"name": "one", **more}, network="septr", data=["crema-d", "nemo"])
    (run,) = compare.read_plan(path)[1]
    line = compare.command(run, Path("data"), tmp_path / "runs/one")
    parsed = train_command.make_context("train", line[4:]).params
    assert parsed["ordinary"] == (f"an4={Path('data/an4')}", f"librispeech={Path('data/librispeech')}")
    assert parsed["taught"] == tmp_path / "runs/teacher.npz"
    assert parsed["left_out"] == ("nemo",)
    for wrong, message in (
        ({"ordinary": ["dreams"]}, "unknown corpus 'dreams'"),
        ({"left_out": ["an4"]}, "leaves out"),
    ):
        path = write_plan(tmp_path / "bad.json", {"name": "one", **wrong}, network="septr", data=["nemo"])
        with pytest.raises(TrainError, match=message):
            compare.read_plan(path)


def test_a_record_of_before_these_fields_is_of_the_same_run(tmp_path: Path, plan: Path) -> None:
    run = compare.read_plan(plan)[1][0]
    record = {k: v for k, v in compare._plain(run).items() if k not in ("taught", "ordinary", "left_out", "teacher")}
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / compare.RECORD).write_text(json.dumps({"run": record, "finished": True}))
    assert compare.is_finished(run, tmp_path / "one")
