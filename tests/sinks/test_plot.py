"""``--plot``: what the picture is drawn from stays bounded and right, and the picture is drawn."""

import ast
import inspect
import io
import sys
import tracemalloc

import numpy as np
import pytest
from cli_fakes import call, fake_engine, microphone, noise, one_line, wav  # noqa: F401 - fixtures

image = pytest.importorskip("matplotlib.image")

from stream_ser.config import FeatureConfig  # noqa: E402
from stream_ser.events import SILENCE, UNCERTAIN, Decision, Gap, Prediction, StreamInfo, Summary, Transcript, Word  # noqa: E402
from stream_ser.features.log_mel import log_mel  # noqa: E402
from stream_ser.sinks.plot import picture as plot  # noqa: E402
from stream_ser.sinks.plot.bins import MOST_WORDS, PlotState  # noqa: E402
from stream_ser.sinks.plot.picture import Plot, draw  # noqa: E402

LABELS = ("anger", "happy")
HOP = 4
RATE = 100
INFO = StreamInfo("a $x$ b\x1b.wav", "_m$", ("$anger$", "_happy"), 16_000)


def state_of(samples=0, bins=8):
    state = PlotState(LABELS, 2, HOP, bins)
    state.hear(np.arange(samples, dtype=np.float32))
    return state


# the state


def test_the_waveform_keeps_extremes_however_it_was_split_and_merged():
    rng = np.random.default_rng(0)
    samples = rng.standard_normal(1_000).astype(np.float32)
    whole, pieces = state_of(), state_of()
    whole.hear(samples)
    for cut in np.split(samples, np.sort(rng.integers(0, 1_000, 50))):
        pieces.hear(cut)
    assert whole.span == 128  # 4 doubled until 8 bins hold 1000 samples
    assert whole.used == 8
    expected = [samples[first : first + 128] for first in range(0, 1_000, 128)]
    for state in (whole, pieces):
        low, high = state.waveform
        assert np.array_equal(low, [part.min() for part in expected])
        assert np.array_equal(high, [part.max() for part in expected])


def test_the_log_mel_is_a_mean_over_columns():
    state = state_of(64)
    columns = np.arange(32, dtype=np.float32).reshape(16, 2)
    state.see(columns)
    assert state.span == 8
    assert np.allclose(state.log_mel, columns.reshape(8, 2, 2).mean(axis=1).T)


def test_probabilities_stand_for_what_is_new_in_a_window():
    state = state_of(32)
    for end, probabilities in ((8, (0.25, 0.75)), (16, ()), (24, (1.0, 0.0)), (32, (0.5, 0.5))):
        state.take(Prediction(max(0, end - 24), end, probabilities, -20.0))
    shown = state.probabilities
    assert np.array_equal(shown[0], [0.25, 0.25, np.nan, np.nan, 1.0, 1.0, 0.5, 0.5], equal_nan=True)
    state.hear(np.zeros(32, np.float32))
    assert np.array_equal(state.probabilities[0], [0.25, np.nan, 1.0, 0.5, *[np.nan] * 4], equal_nan=True)


def test_decisions_and_losses_become_stretches_of_bins():
    state = state_of(32)
    for start, end, label in ((0, 7, SILENCE), (7, 20, "happy"), (20, 22, "anger"), (22, 32, UNCERTAIN)):
        state.take(Decision(start, end, label, 0.5))
    state.take(Gap(13, 1))
    state.take(Gap(31, 1))
    assert state.runs == [(0, 2, SILENCE), (2, 5, "happy"), (5, 6, "anger"), (6, 8, UNCERTAIN)]
    assert state.gaps == [(3, 4, "lost"), (7, 8, "lost")]
    state.hear(np.zeros(1_000, np.float32))
    assert state.gaps == [(0, 1, "lost")]


def test_events_may_be_ahead_of_the_audio():
    state = state_of(4)
    state.take(Gap(4, 96))
    state.hear(np.zeros(96, np.float32))
    assert state.used == 7
    assert state.gaps == [(0, 7, "lost")]


def test_memory_does_not_grow_with_the_stream():
    """From a minute on to a day's worth of bins: nothing is allocated that stays."""
    state = PlotState(LABELS, 64, 160)
    second = np.zeros(16_000, np.float32)
    columns = np.zeros((100, 64), np.float32)
    for count in range(60):
        state.hear(second)
        state.see(columns)
        state.take(Decision(count * 16_000, (count + 1) * 16_000, LABELS[count % 2], 0.5))
    tracemalloc.start()
    try:
        for count in range(60, 400):
            state.hear(second)
            state.take(Prediction(0, count * 16_000, (0.5, 0.5), -20.0))
            state.take(Decision(count * 16_000, (count + 1) * 16_000, LABELS[count % 2], 0.5))
        current, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert current < 100_000
    assert 2_048 <= state.used <= 4_096


# the figure


def drawn(samples, events=(), summary=None, features=None):
    features = features or FeatureConfig()
    state = PlotState(INFO.labels, features.n_mels, features.hop_length)
    state.hear(samples)
    state.see(log_mel(samples, features).T)
    for event in events:
        state.take(event)
    return draw(INFO, state, features, summary)


def test_the_picture_shows_everything_on_one_time_axis():
    events = [
        Prediction(0, 16_000, (0.25, 0.75), -20.0),
        Decision(0, 8_000, SILENCE, 0.0),
        Decision(8_000, 24_000, "_happy", 0.7),
        Decision(24_000, 32_000, UNCERTAIN, 0.3),
        Gap(16_000, 8_000),
    ]
    figure = drawn(noise(2), events, Summary(32_000, 8_000, "_happy", (0.2, 0.8), {}))
    assert [axes.get_ylabel() for axes in figure.axes] == ["waveform", "log-mel, Hz", "probability", "emotion"]
    assert {axes.get_xlim() for axes in figure.axes} == {(0.0, 2.0)}
    (title,) = (text for text in figure.texts if "overall" in text.get_text())
    assert title.get_text() == "a $x$ b\\x1b.wav · 2.00 s · _m$ · overall _happy"
    assert all(any(patch.get_hatch() == "////" for patch in axes.patches) for axes in figure.axes)
    named = [text.get_text() for text in figure.axes[3].texts]
    assert named == [SILENCE, "_happy", UNCERTAIN]
    legend = [text.get_text().strip() for text in figure.axes[2].get_legend().get_texts()]
    assert legend == ["_happy", r"\$anger\$"]
    out = io.BytesIO()
    figure.savefig(out, format="png")


def line(*words: tuple[str, int], final: bool = True) -> Transcript:
    return Transcript(tuple(Word(text, start, start + 400, 0.9) for text, start in words), LABELS[0], final)


def test_words_stand_where_they_begin_and_do_not_cover_each_other():
    said = [("IT'S", 1_600), ("ELEVEN", 4_000), ("$O$", 4_500), ("CLOCK", 5_000), ("NOW", 5_500), ("HERE", 24_000)]
    figure = drawn(noise(2), [line(*said[:2], final=False), line(*said)])
    axes = figure.axes[4]
    assert axes.get_ylabel() == "words"
    placed = {text.get_text().strip(): text.get_position() for text in axes.texts}
    # There is room for three words at about the same time; the fourth is a tick.
    assert list(placed) == [text for text, _ in said if text != "NOW"]
    assert all(placed[text][0] == pytest.approx(start / 16_000) for text, start in said if text in placed)
    y = {text: place[1] for text, place in placed.items()}
    assert y["IT'S"] == y["ELEVEN"] == y["HERE"] > y["$O$"] > y["CLOCK"]
    assert len(axes.lines) == len(said)
    figure.savefig(io.BytesIO(), format="png")


def test_more_words_than_can_be_read_are_not_drawn():
    state = state_of(8)
    for count in range(MOST_WORDS):
        state.take(line((str(count), count)))
    assert len(state.words) == MOST_WORDS
    state.take(line(("more", 0)))
    state.take(line(("and more", 0)))
    assert state.words == []


def test_the_ticks_of_the_log_mel_lie_where_a_tone_is():
    time_s = np.arange(16_000) / 16_000
    features = FeatureConfig()
    for hz in (500, 1_000, 4_000):
        axes = drawn(np.sin(2 * np.pi * hz * time_s).astype(np.float32)).axes[1]
        ticks = dict(zip([label.get_text() for label in axes.get_yticklabels()], axes.get_yticks(), strict=True))
        band = log_mel(np.sin(2 * np.pi * hz * time_s).astype(np.float32), features).mean(axis=1).argmax()
        assert band <= ticks[str(hz)] <= band + 1


@pytest.mark.parametrize("samples", [1, 511, 4_800])
def test_short_and_silent_streams_have_a_picture_too(samples):
    drawn(np.zeros(samples, np.float32)).savefig(io.BytesIO(), format="svg")


def test_nothing_heard_is_no_picture(tmp_path):
    sink = Plot(lambda name: tmp_path / "a.png", lambda: lambda samples: [], FeatureConfig())
    sink.open(INFO)
    sink.close(None)
    assert list(tmp_path.iterdir()) == []


# the command line


def test_file_and_listen_draw(wav, microphone, tmp_path, call):
    for args in (("file", wav), ("listen", "--no-view")):
        path = tmp_path / f"{args[0]}.png"
        code, _, err = call(*args, "--plot", path, "--format", "none")
        assert (code, err) == (0, "")
        picture = image.imread(path)
        assert picture.shape[:2] == (840, 1_440)
        # Emotions are in colour: anger's red is on it.
        assert (np.abs(picture[..., :3] - np.array([0xE5, 0x48, 0x4D]) / 255).max(axis=-1) < 0.01).sum() > 500


def test_several_files_have_a_picture_each(wav, tmp_path, call):
    other = tmp_path / "other.wav"
    other.write_bytes(wav.read_bytes())
    code, out, err = call("file", wav, other, "--plot", tmp_path / "p.svg", "--format", "csv")
    assert (code, err) == (0, "")
    assert {path.name for path in tmp_path.glob("*.svg")} == {"p-speech.svg", "p-other.svg"}
    assert "anger" in out


@pytest.mark.parametrize(
    ("name", "said"), [("a.bmp", "expected one of .png"), ("a", "expected one of .png"), ("no/a.png", "cannot write")]
)
def test_pictures_that_cannot_be_drawn_are_one_line(name, said, wav, tmp_path, call):
    code, _, err = call("file", wav, "--plot", tmp_path / name, "--format", "none")
    assert code == 2
    assert said in one_line(err)


def test_a_missing_matplotlib_names_the_extra(wav, tmp_path, call, monkeypatch):
    for module in list(sys.modules):
        if module.partition(".")[0] == "matplotlib":
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = call("file", wav, "--plot", tmp_path / "a.png")
    assert (code, out) == (2, "")
    assert "pip install 'stream-ser[plot]'" in one_line(err)


def test_matplotlib_is_loaded_for_a_picture_only():
    imports = [
        node for node in ast.parse(inspect.getsource(plot)).body if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    names = {name.name for node in imports for name in node.names}
    assert "numpy" in names
    assert not any("matplotlib" in ast.unparse(node) for node in imports)
