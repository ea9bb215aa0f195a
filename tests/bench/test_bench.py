"""The benchmark counts what it says it counts: on a clock of its own, and as a command."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from stream_ser.bench import machine, material
from stream_ser.bench.pooled import PooledRun
from stream_ser.bench.report import Bench, Options, ratios, same_conditions, with_hop
from stream_ser.bench.runs import STAGES, WARM_UP, Run, Spread, Stream, capacity, flat_out, most_streams, paced
from stream_ser.config import GATHER_S
from stream_ser.errors import ModelError
from stream_ser.recognition.pool import RecognizerPool
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.runtime.engine import load

RATE = 16_000
HOP = 4_000


@dataclass
class FakeClock:
    """Time that passes only while somebody sleeps, and by a fixed amount each time somebody looks at it."""

    at: float = 100.0
    look_s: float = 0.0
    slept: float = 0.0

    def now(self) -> float:
        self.at += self.look_s
        return self.at

    def cpu(self) -> float:
        return self.at - self.slept

    def sleep(self, seconds: float) -> None:
        self.at += seconds
        self.slept += seconds


@pytest.fixture
def stream(tiny_model: Path) -> Callable[..., Stream]:
    engine = load(tiny_model, "cpu")
    noise = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)

    def make(block: int = 320, first: int = 0) -> Stream:
        return Stream(Recognizer(engine, vad=None), noise, block, StringIO(), first)

    return make


def spread(p99: float) -> Spread:
    return Spread(p99 / 4, p99 / 2, p99, p99)


def run_of(streams: int, p99_ms: float) -> Run:
    return Run("speech, paced", streams, 1, 1.0, 1.0, {}, spread(1), spread(p99_ms), spread(1), 0.1, 0.1)


def test_flat_out_measures_every_hop_after_the_warm_up(stream: Callable[..., Stream]) -> None:
    one = stream()
    run = flat_out(one, 20, RATE, FakeClock(look_s=0.001))
    assert (run.hops, one.hops, run.streams) == (20, 20 + WARM_UP, 1)
    assert set(run.stages) == set(STAGES)
    assert run.latency is None
    assert run.age is None
    # The first prediction comes after a second, the others a hop apart.
    assert run.audio_s == pytest.approx((RATE + (20 + WARM_UP - 1) * HOP + 320) / RATE, abs=0.05)


def test_paced_waits_for_every_block_and_gives_its_age(stream: Callable[..., Stream]) -> None:
    clock = FakeClock()
    run = paced([stream()], RATE, hops=10, clock=clock)
    assert run.hops == 10
    assert run.wall_s == pytest.approx(run.audio_s, abs=0.2)
    assert run.latency is not None
    assert run.age is not None
    # Nothing takes time: delivered when captured, and as old as the samples that no frame has seen.
    assert run.latency.max == pytest.approx(0.0, abs=1e-6)
    assert 0.0 <= run.age.p50 < 1e3 * 320 / RATE
    assert run.cpu_share == pytest.approx(0.0, abs=1e-6)


def test_blocks_of_which_nothing_can_come_wake_nobody(stream: Callable[..., Stream], monkeypatch) -> None:
    one, clock, woken = stream(), FakeClock(), []
    sleep = clock.sleep
    monkeypatch.setattr(clock, "sleep", lambda seconds: (woken.append(one.pushed), sleep(seconds)))
    run = paced([one], RATE, hops=10, clock=clock)
    # Once a prediction, 250 ms apart, and once in between: nothing lies for longer than 200 ms.
    assert len(woken) == pytest.approx(2 * run.audio_s / 0.25, abs=3)
    assert max(b - a for a, b in itertools.pairwise(woken)) == round(GATHER_S * RATE)
    assert one.pushed == pytest.approx(run.audio_s * RATE)
    # The captures of those that were left lying are their own.
    assert run.age is not None
    assert 0.0 <= run.age.p50 < 1e3 * 320 / RATE


def test_a_machine_that_is_too_slow_has_growing_latency(stream: Callable[..., Stream]) -> None:
    # Three looks a wake-up, of which there are two in 250 ms, 100 ms each: less than half as fast as needed.
    slow = paced([stream()], RATE, hops=10, clock=FakeClock(look_s=0.1))
    assert slow.latency is not None
    assert slow.latency.max > 1_000
    assert slow.wall_s > 1.3 * slow.audio_s


def test_streams_are_served_in_turn_and_all_of_them(stream: Callable[..., Stream]) -> None:
    streams = [stream(HOP, first=900 * index) for index in range(5)]
    run = paced(streams, RATE, seconds=4.0, clock=FakeClock())
    assert run.streams == 5
    assert len({one.pushed for one in streams}) == 1
    assert run.hops == sum(one.hops - WARM_UP for one in streams)


@pytest.mark.parametrize(("streams", "batch"), [(1, 1), (5, 1), (5, 3)])
def test_a_pool_serves_all_streams_at_their_pace(tiny_model: Path, streams: int, batch: int) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)
    pool = RecognizerPool(load(tiny_model, "cpu"), vad=None, batch=batch)
    run = PooledRun(pool, noise, streams, StringIO(), FakeClock()).paced(4.0)
    assert run.streams == streams
    assert run.audio_s == pytest.approx(4.0 * streams)
    # The first prediction after a second, then one every hop.
    assert run.hops == streams * (12 - WARM_UP)
    assert set(run.stages) == set(STAGES)
    # Nothing takes time: delivered with the block that brings it, which is a hop long.
    assert run.latency is not None
    assert run.age is not None
    assert run.latency.max == pytest.approx(0.0, abs=1e-6)
    assert 0.0 <= run.age.max < 1e3 * HOP / RATE
    slow = PooledRun(
        RecognizerPool(pool.engine, vad=None, batch=batch), noise, streams, StringIO(), FakeClock(look_s=0.3)
    )
    late = slow.paced(4.0).latency
    assert late is not None
    assert late.p99 > 250


@pytest.mark.parametrize(("streams", "batch"), [(1, 1), (5, 1), (5, 3)])
def test_a_pool_accounts_for_all_of_its_time_once(tiny_model: Path, streams: int, batch: int, monkeypatch) -> None:
    clock = FakeClock(look_s=0.001)
    monkeypatch.setattr("time.perf_counter", clock.now)
    monkeypatch.setattr("stream_ser.bench.pooled.WARM_UP", 0)
    noise = 0.1 * np.random.default_rng(0).standard_normal(3 * RATE).astype(np.float32)
    pool = RecognizerPool(load(tiny_model, "cpu"), vad=None, batch=batch)
    run = PooledRun(pool, noise, streams, StringIO(), clock)
    deliver, spent_ms, left_ms = run._deliver, [], [0.0]

    def counted(heard, since_ms):
        spent_ms.append(since_ms - left_ms[-1])
        left_ms.append(deliver(heard, since_ms))
        return left_ms[-1]

    monkeypatch.setattr(run, "_deliver", counted)
    run.paced(4.0)
    assert sum(spent_ms) > 100.0
    assert sum(run._measured.compute) == pytest.approx(sum(spent_ms) - left_ms[-1])


def test_quiet_counts_hops_at_which_the_network_is_not_asked(tiny_model: Path) -> None:
    silence = np.zeros(RATE, np.float32)
    one = Stream(Recognizer(load(tiny_model, "cpu"), vad=None), silence, 320, StringIO())
    assert paced([one], RATE, seconds=5.0, quiet=True, clock=FakeClock()).hops > 10


def test_a_quiet_run_of_one_hop_measures_one(tiny_model: Path) -> None:
    """Seconds cut from so few hops ended before the first one that counts."""
    silence = np.zeros(RATE, np.float32)
    one = Stream(Recognizer(load(tiny_model, "cpu"), vad=None), silence, 320, StringIO())
    assert paced([one], RATE, hops=1, quiet=True, clock=FakeClock()).hops == 1


def test_speech_in_which_nothing_is_heard_is_refused_instead_of_going_on_for_ever(tiny_model: Path) -> None:
    silence = np.zeros(RATE, np.float32)
    with pytest.raises(ValueError, match="no hop of speech"):
        flat_out(Stream(Recognizer(load(tiny_model, "cpu"), vad=None), silence, 1_600, StringIO()), 5, RATE)


@pytest.mark.parametrize("limits", [{}, {"hops": 1, "seconds": 1.0}])
def test_paced_needs_one_end(stream: Callable[..., Stream], limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="either hops or seconds"):
        paced([stream()], RATE, **limits)  # type: ignore[arg-type]


@pytest.mark.parametrize("bears", [0, 1, 2, 7, 64, 100, 333, 4_096])
@pytest.mark.parametrize("guess", [1, 50, 5_000])
def test_capacity_is_found_wherever_the_search_begins(bears: int, guess: int) -> None:
    trials = capacity(lambda streams: run_of(streams, 100 if streams <= bears else 900), 250, guess)
    found = most_streams(trials)
    assert found <= bears
    assert bears - found <= max(1, found // 20)
    assert len(trials) < 20


def test_the_speech_is_without_pauses_and_the_room_is_quiet() -> None:
    from stream_ser.vad.detector import VoiceDetector

    heard = VoiceDetector(RATE).push(material.speech(RATE))
    assert np.mean([voice.voiced for voice in heard]) > 0.8
    assert not any(voice.voiced for voice in VoiceDetector(RATE).push(material.quiet(RATE)))


def test_hops_are_whole_frames(tiny_model: Path) -> None:
    assert with_hop(load(tiny_model, "cpu"), 100).card.window.hop == 10
    with pytest.raises(ModelError, match="multiple of 10 ms"):
        with_hop(load(tiny_model, "cpu"), 105)


def test_a_network_with_states_has_one_hop() -> None:
    assert with_hop(load("multitask", "cpu"), 240).card.window.hop == 24
    with pytest.raises(ModelError, match="multitask hears hops of 240 ms and no others"):
        with_hop(load("multitask", "cpu"), 120)


def test_report_survives_json_and_ratios_are_now_over_then(tiny_model: Path) -> None:
    report = Bench(Options(str(tiny_model), "cpu", vad=False, hops=5, paced=False)).run(start_up=False)
    content = json.loads(json.dumps(report.to_dict()))
    assert content["model"]["sha256"] == machine.sha256(tiny_model)
    rows = {name: (now, then, ratio) for name, now, then, ratio in ratios(content, content)}
    assert rows["speech, flat out: compute p50"][2] == 1.0
    twice = json.loads(json.dumps(content))
    twice["runs"][0]["compute"]["p99"] *= 2
    rows = {name: (now, then, ratio) for name, now, then, ratio in ratios(twice, content)}
    assert rows["speech, flat out: compute p99"][2] == pytest.approx(2.0)
    twice["machine"]["cpu"] = "another"
    assert same_conditions(twice, content) == [f"cpu {content['machine']['cpu']} then, another now"]


@pytest.mark.slow
def test_command_prints_a_table_json_and_ratios(
    tiny_model: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    arguments = ["bench", "--model", str(tiny_model), "--no-vad", "--hops", "3", "--flat-out", "--streams", "1"]
    code, out, _ = call(*arguments, "--json")
    assert code == 0
    content = json.loads(out)
    assert content["first_result_ms"] > 0
    assert [run["name"] for run in content["runs"]] == ["speech, flat out", "speech, paced"]
    then = tmp_path / "then.json"
    then.write_text(out)
    code, out, _ = call(*arguments, "--compare", str(then))
    assert code == 0
    for word in ("features", "inference", "decision", "delivery", "compute", "age", "memory", "now / then"):
        assert word in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--streams", "1,x"], "numbers of at least 1"),
        (["--hop", "7"], "multiple of 10 ms"),
        (["--block", "0"], "expected 0.0625 to 1000 ms"),
        (["--compare", "README.md"], "not a report"),
        (["--compare", "nowhere.json"], "not a report"),
    ],
)
def test_mistakes_are_one_line(
    tiny_model: Path, arguments: list[str], said: str, call: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = call("bench", "--model", str(tiny_model), "--hops", "1", "--flat-out", *arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_machine_is_described_without_its_name(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nmodel name\t: A Chip @ 3 GHz\n")
    assert machine.cpu_name(cpuinfo) == "A Chip @ 3 GHz"
    assert machine.cpu_name(tmp_path / "none")
    status = tmp_path / "status"
    status.write_text("Name: x\nVmRSS:\t 1000 kB\n")
    assert machine.rss_mb(status) == pytest.approx(1.024)
    assert machine.rss_mb(tmp_path / "none") is None
    assert set(machine.describe()) - {"gpu"} == {"cpu", "cores", "system"}


def test_gpus_are_named_as_their_driver_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(("NVIDIA A", "NVIDIA B")):
        folder = tmp_path / f"0000:0{number}:00.0"
        folder.mkdir()
        (folder / "information").write_text(f"Model: \t\t {name}\nIRQ: 1\nGPU UUID: GPU-{number}\n")
    (tmp_path / "0000:02:00.0").mkdir()
    assert machine.gpu_names(tmp_path) == ["NVIDIA A", "NVIDIA B"]
    assert machine.gpu_names(tmp_path / "none") == []
    monkeypatch.setattr(machine, "gpu_names", lambda: ["NVIDIA A", "NVIDIA B"])
    assert machine.describe()["gpu"] == "NVIDIA A, NVIDIA B"


@pytest.mark.slow
def test_windows_of_other_lengths_are_networks_of_that_length(call: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = call("bench", "--model", "septr", "--flat-out", "--hops", "3", "--windows", "0.5,1", "--json")
    assert code == 0
    windows = json.loads(out)["windows"]
    # Rounded up to whole tokens of 16 frames of 10 ms; a frame is 32 ms long.
    assert [round(window["window_s"], 3) for window in windows] == [0.662, 1.142]
    assert all(window["compute"]["p50"] > 0 for window in windows)
