"""Where the emotion changes: candidates, networks that are heard afresh, and the runtime with both kinds of network."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ser.config import DeciderConfig, FeatureConfig, WindowConfig
from stream_ser.events import Change
from stream_ser.recognition.changes import CANDIDATE_S, HORIZON_S, Candidate, ChangeFinder, hellinger
from stream_ser.recognition.inference import Asking, ModelRequest
from stream_ser.recognition.streaming_predictor import PREROLL_S, StreamedNetwork
from stream_ser.recognition.window_predictor import WindowedNetwork
from stream_ser.runtime.requests import Waits

A, B, EVEN = (0.9, 0.1), (0.1, 0.9), (0.5, 0.5)
HOP = 16
FEATURES = FeatureConfig(n_mels=2)
SECOND = FEATURES.sample_rate // FEATURES.hop_length
QUIET = np.zeros(2, dtype=np.float32)

distributions = st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3).filter(lambda p: sum(p) > 0.1)


@given(distributions, distributions)
def test_the_distance_is_a_distance(p: list[float], q: list[float]) -> None:
    p, q = [x / sum(p) for x in p], [x / sum(q) for x in q]
    assert hellinger(p, q) == hellinger(q, p)
    assert 0.0 <= hellinger(p, q) <= 1.0
    assert hellinger(p, p) == pytest.approx(0.0, abs=1e-12)


def test_the_distance_in_known_places() -> None:
    assert hellinger((1.0, 0.0), (0.0, 1.0)) == 1.0
    assert hellinger((1.0, 0.0), (0.5, 0.5)) == pytest.approx(1.0 - math.sqrt(0.5))


def judged(*afters: tuple[float, ...]) -> list[Candidate]:
    return [Candidate(place, A, after, judged=True) for place, after in enumerate(afters)]


def test_a_change_is_the_best_of_its_neighbours() -> None:
    finder = ChangeFinder(0.3)
    finder.candidates = judged(A, (0.3, 0.7), B, (0.2, 0.8))
    found = finder.found()
    assert found is not None
    assert found.at == 2
    finder.candidates = judged(A, EVEN, A)
    assert finder.found() is None
    assert [each.at for each in finder.candidates] == [2], "the last one waits for the next"
    assert not ChangeFinder(1.0).active


def test_what_is_left_at_the_end_needs_enough_behind_it() -> None:
    finder = ChangeFinder(0.2)
    finder.candidates = judged((0.3, 0.7), B, EVEN)
    assert finder.last(5) is finder.candidates[1]
    assert finder.last(0) is finder.candidates[0]
    assert finder.last(-1) is None


def mean(frames: Iterable[np.ndarray]) -> tuple[float, ...]:
    """What the toy networks say: the share of each label in the loud frames, smoothed."""
    loud = sum((np.asarray(frame) for frame in frames), np.zeros(2))
    shares = loud + 0.5
    return tuple((shares / shares.sum()).tolist())


@dataclass
class ToyEngine:
    """A network with states that counts what it heard: the state is the sum of the frames."""

    words: bool = False
    asked: int = 0

    def __post_init__(self) -> None:
        window = WindowConfig(frames=304, hop=HOP, minimum=HOP, shortest=HOP)
        self.card = SimpleNamespace(
            name="toy", features=FEATURES, window=window, vocabulary=(), decider=DeciderConfig(), memory=None
        )

    def initial_state(self) -> tuple[np.ndarray, ...]:
        return (np.zeros(2),)

    def answer(self, ask: ModelRequest) -> SimpleNamespace:
        self.asked += 1
        total = ask.state[0] + ask.frames.sum(axis=0)
        return SimpleNamespace(probabilities=mean([total]), state=(total,), log_probs=None, voice=None, seconds=0.0)


def drive(work: Asking, answer) -> object:
    try:
        question = next(work)
        while True:
            question = work.send(answer(question))
    except StopIteration as done:
        return done.value


def emotions(*parts: tuple[int, float]) -> np.ndarray:
    """Frames: of each part the label and the seconds."""
    rows = [np.tile(np.eye(2, dtype=np.float32)[label], (round(seconds * SECOND), 1)) for label, seconds in parts]
    return np.concatenate(rows)


def stream(
    frames: np.ndarray, config: DeciderConfig, lead_s: float = PREROLL_S
) -> tuple[StreamedNetwork, list[Change], ToyEngine]:
    """An utterance after some quiet, as the pipeline gives it, to its end."""
    engine = ToyEngine()
    network = StreamedNetwork(engine, 0.0, config, waits=Waits())  # type: ignore[arg-type]
    lead = round(lead_s * SECOND) // HOP * HOP
    heard = np.concatenate((np.zeros((lead, 2), dtype=np.float32), frames))
    changes: list[Change] = []
    for end in range(HOP, len(heard) + 1, HOP):
        speech_from = lead if end > lead else None
        drive(network.hear(heard[:end], end, HOP, speech_from), engine.answer)
        changes += network.changes()
    network.conclude(len(heard))
    changes += network.changes()
    return network, changes, engine


CONFIG = DeciderConfig(change_distance=0.3)


@pytest.mark.parametrize("behind_s", [1.3, 6.0])
def test_a_streaming_network_finds_a_change_and_goes_on_with_what_follows(behind_s: float) -> None:
    network, changes, _ = stream(emotions((0, 3.0), (1, behind_s)), CONFIG)
    (change,) = changes
    lead = 48 * FEATURES.hop_length
    assert abs(change.at - lead - 3.0 * FEATURES.sample_rate) <= (CANDIDATE_S / 2 + 0.16) * FEATURES.sample_rate
    assert change.before[0] > 0.8
    assert network.probabilities[1] > 0.8, "what follows the change, without what was before"
    assert network.since == change.at // FEATURES.hop_length


def test_two_changes_are_found() -> None:
    _, changes, _ = stream(emotions((0, 4.0), (1, 4.0), (0, 4.0)), CONFIG)
    assert [change.before.index(max(change.before)) for change in changes] == [0, 1]


def test_one_emotion_and_parts_that_are_too_short_have_no_changes() -> None:
    assert not stream(emotions((0, 9.0)), CONFIG)[1]
    assert not stream(emotions((0, 0.5), (1, 2.0)), replace(CONFIG, min_duration_s=1.0))[1]
    assert not stream(emotions((0, 2.0), (1, 0.4)), CONFIG)[1]


def test_without_looking_for_changes_the_network_is_asked_once_a_hop() -> None:
    frames = emotions((0, 3.0), (1, 3.0))
    _, changes, engine = stream(frames, replace(CONFIG, change_distance=1.0))
    assert not changes
    assert engine.asked == (len(frames) + 48) // HOP
    lanes = math.ceil((HORIZON_S + CANDIDATE_S) / CANDIDATE_S)
    assert stream(frames, CONFIG)[2].asked <= engine.asked * (1 + lanes), "however long it is"


def test_where_nothing_quiet_was_heard_before_it_begins_with_nothing() -> None:
    _, changes, _ = stream(emotions((0, 3.0), (1, 3.0)), CONFIG, lead_s=0.0)
    assert len(changes) == 1


def test_a_new_utterance_knows_nothing_of_the_candidates_before() -> None:
    network, _, engine = stream(emotions((0, 2.0)), CONFIG)
    drive(network.hear(np.zeros((HOP, 2), dtype=np.float32), 500 * HOP, HOP, None), engine.answer)
    frames = emotions((1, 2.0))
    for end in range(HOP, len(frames) + 1, HOP):
        at = 600 * HOP + end
        drive(network.hear(frames[:end], at, HOP, 600 * HOP), engine.answer)
    network.conclude(600 * HOP + len(frames))
    assert not network.changes()


@pytest.mark.parametrize("behind_s", [1.6, 5.0])
def test_a_window_network_finds_a_change(behind_s: float) -> None:
    def blank(window: np.ndarray, count: int) -> np.ndarray:
        window = window.copy()
        window[:count] = 0.0
        return window

    network = WindowedNetwork(FEATURES, CONFIG, blank, Waits())
    frames = emotions((0, 3.0), (1, behind_s))
    size = 304
    padded = np.concatenate((np.zeros((size, 2), dtype=np.float32), frames))
    changes: list[Change] = []
    probabilities: tuple[float, ...] = ()
    for end in range(HOP, len(frames) // HOP * HOP + 1, HOP):
        voice = max(0, end - size) * FEATURES.hop_length, end * FEATURES.hop_length
        window = padded[end : end + size]
        ended = end + HOP > len(frames)
        work = network.hear(window, max(0, size - end), end, voice, ended)
        probabilities, begin, found = drive(
            work, lambda ask: SimpleNamespace(probabilities=mean(ask.frames), seconds=0.0)
        )
        changes += found
        assert 0 <= begin < size
    (change,) = changes
    assert abs(change.at - 3.0 * FEATURES.sample_rate) <= (CANDIDATE_S / 2 + 0.16) * FEATURES.sample_rate
    assert change.before[0] > 0.8
    assert probabilities[1] > 0.8
    assert not network.open
