"""The Python API: what it gives is what the pipeline gives, and what it opens is closed."""

import doctest
import importlib
from typing import get_args

import numpy as np
import pytest
import soundfile
from cli_fakes import FakeMicrophone, blocks_of, noise

import stream_ser as ss
from stream_ser.driver import StreamRun, drive_all
from stream_ser.errors import AudioError, DeviceError, ModelError
from stream_ser.events import Block, Event


@pytest.fixture
def engine(tiny_model):
    return ss.load(tiny_model)


@pytest.fixture
def microphone(monkeypatch):
    made = []

    class Fake(FakeMicrophone):
        blocks = blocks_of(noise(3))

        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            made.append(self)

    Fake.made = made
    monkeypatch.setattr("stream_ser.api.Microphone", Fake)
    return Fake


@pytest.mark.parametrize("name", ["stream_ser", "stream_ser.api", "stream_ser.recognition.recognizer"])
def test_docstring_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_every_public_name_is_there():
    # Whoever iterates over events can tell them apart.
    assert {kind.__name__ for kind in get_args(Event)} <= set(ss.__all__)
    for name in ss.__all__:
        assert getattr(ss, name) is not None
    assert dir(ss) == sorted(ss.__all__)


def test_a_file_and_its_samples_give_the_events_of_a_recogniser(tmp_path, engine):
    samples = noise(4)
    soundfile.write(tmp_path / "clip.wav", samples, 16_000, subtype="PCM_16")
    recognizer = ss.Recognizer(engine, vad=None)
    expected = tuple(recognizer.push(samples) + recognizer.flush())
    from_file = ss.recognize(tmp_path / "clip.wav", model=engine, vad=None)
    from_samples = ss.recognize(samples, model=engine, vad=None)
    assert from_file.events == from_samples.events == expected
    assert from_file.label == recognizer.summary().label
    assert tuple(from_file.probabilities.values()) == recognizer.summary().probabilities
    assert from_file.seconds == 4.0
    assert len(from_file.predictions) + len(from_file.decisions) < len(expected), "and what was provisional"
    assert from_file.confidence == recognizer.summary().confidence > 0.0
    assert from_file.gaps == ()


def test_samples_at_another_rate_keep_their_length(engine):
    result = ss.recognize(noise(2).repeat(3), sample_rate=48_000, model=engine, vad=None)
    assert result.seconds == 2.0
    assert result.decisions[-1].end > 1.9 * 16_000


def test_silence_has_no_probabilities(engine):
    result = ss.recognize(np.zeros(32_000), model=engine)
    assert (result.label, result.probabilities) == ("silence", {})


def test_a_damaged_file_says_so(tmp_path, engine):
    soundfile.write(tmp_path / "clip.flac", noise(3), 16_000)
    whole = (tmp_path / "clip.flac").read_bytes()
    (tmp_path / "half.flac").write_bytes(whole[: len(whole) // 2])
    assert ss.recognize(tmp_path / "clip.flac", model=engine).warning is None
    assert ss.recognize(tmp_path / "half.flac", model=engine).warning


@pytest.mark.parametrize(
    ("samples", "options", "error"),
    [
        (np.zeros((2, 16_000)), {}, ValueError),
        (np.zeros(16_000), {"sample_rate": 0}, ValueError),
        (np.full(16_000, np.nan), {}, AudioError),
        (np.zeros(100), {}, AudioError),
        ("missing.wav", {}, AudioError),
        (np.zeros(16_000), {"model": "missing.onnx"}, ModelError),
    ],
)
def test_what_cannot_be_recognised_is_refused(samples, options, error, engine):
    with pytest.raises(error):
        ss.recognize(samples, **{"model": engine, **options})


def test_listening_gives_what_the_samples_give(engine, microphone):
    samples = np.concatenate([block.samples for block in microphone.blocks])
    heard = tuple(ss.listen("room", model=engine, vad=None))
    assert heard == ss.recognize(samples, model=engine, vad=None).events
    assert microphone.made[0].name.endswith("room")


def test_a_loss_while_listening_is_a_gap(engine, microphone):
    microphone.blocks = (*blocks_of(noise(1)), Block(noise(1), lost=800))
    heard = list(ss.listen(model=engine, vad=None))
    assert ss.Gap(16_000, 800) in heard


def test_nothing_is_opened_before_the_first_event_and_all_is_closed_after_the_last(engine, microphone):
    events = ss.listen(model=engine, vad=None)
    assert microphone.made == []
    next(events)
    assert not microphone.made[0]._closed.is_set()
    events.close()
    assert microphone.made[0]._closed.is_set()


def test_a_lost_device_is_raised_and_closed(engine, microphone):
    microphone.failure = DeviceError("gone")
    with pytest.raises(DeviceError, match="gone"):
        list(ss.listen(model=engine, vad=None))
    assert microphone.made[0]._closed.is_set()


def test_whole_numbers_are_no_audio(engine):
    with pytest.raises(ValueError, match=r"samples are int16 .*divide 16-bit samples by 32768"):
        ss.recognize(np.full(40_000, 1_000, np.int16), model=engine)


def grid_s(engine, seconds):
    """When predictions can come, in seconds of audio."""
    features, window = engine.card.features, engine.card.window
    ends = range(window.minimum, round(seconds * features.sample_rate / features.hop_length), window.hop)
    return np.array([features.samples_for(end) for end in ends]) / features.sample_rate


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
@pytest.mark.parametrize("way", ["api", "lane"])
def test_what_is_needed_counts_what_a_resampler_holds(engine, monkeypatch, rate, way):
    """Between two blocks, what was captured and what is needed add up to the next prediction."""
    blocks = [Block(samples) for samples in np.split(noise(4 * rate / 16_000)[: 4 * rate], 4 * rate // (rate // 25))]
    found = []

    def given_out(needs_s):
        captured = 0
        for block in blocks:
            found.append(captured / rate + needs_s())
            yield block
            captured += len(block.samples)

    if way == "api":

        class Fake(FakeMicrophone):
            def __init__(self, *args, **options):
                super().__init__(*args, **options)
                self.sample_rate = rate

            def __iter__(self):
                return given_out(self.needs_s)

        monkeypatch.setattr("stream_ser.api.Microphone", Fake)
        assert list(ss.listen(model=engine, vad=None))
    else:
        lane = StreamRun("lane", ss.Recognizer(engine, vad=None), [])
        drive_all(((0, block) for block in given_out(lambda: lane.needs_s)), [(rate, [lane])])
    grid = grid_s(engine, 6.0)
    assert len(found) == 100
    assert all(np.abs(grid - time_s).min() < 1e-9 for time_s in found)
    assert max(found) > 3.5
