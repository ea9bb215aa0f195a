"""``stream-ser data sines`` and ``stream-ser plot``: what is written, and what is never overwritten."""

import csv

import numpy as np
import pytest
import soundfile
from cli_fakes import call, one_line  # noqa: F401 - fixtures
from generate import voice, write_wav

pytest.importorskip("matplotlib")

from stream_ser.errors import DataError
from stream_ser.train.tasks.separation import mixture_folder, spectrograms
from stream_ser.train.tasks.separation.sines import AMPLITUDE, SineConfig, draw


@pytest.fixture
def sines(tmp_path):
    """Three sets of 0.2 s."""
    out = tmp_path / "sines"
    mixture_folder.prepare(out, 3, ("mixture", "source_1", "source_2"), force=False)
    mixture_folder.write(out, draw(SineConfig(3, 8_000, 0.2), seed=1), 8_000)
    return out


def table(out):
    with (out / "info.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_set_is_two_sinusoids_and_their_sum(call, tmp_path):
    out = tmp_path / "s"
    code, said, err = call("data", "sines", out, "--sets", 4, "--fs", 4000, "--duration", 0.5, "--boundary", 700)
    assert (code, err) == (0, "")
    assert "4 sets of 0.5 s at 4000 Hz, 4 to 696 Hz + 704 to 1996 Hz, seed 0" in said
    rows = table(out)
    assert len(rows) == 4
    assert {path.name for path in out.iterdir()} == {
        "info.csv",
        *(row[role] for row in rows for role in ("mixture", "source_1", "source_2")),
    }
    for row in rows:
        assert row["sampling_frequency_hz"] == "4000"
        mixture, low, high = (
            soundfile.read(out / row[r], dtype="int16")[0] for r in ("mixture", "source_1", "source_2")
        )
        np.testing.assert_array_equal(mixture, low + high)
        for wave, column in ((low, "frequency_1_hz"), (high, "frequency_2_hz")):
            expected = AMPLITUDE * np.sin(2 * np.pi * float(row[column]) * np.arange(2000) / 4000)
            np.testing.assert_allclose(wave / 32768, expected, atol=1e-4)
        assert 4 <= float(row["frequency_1_hz"]) <= 696 < 704 <= float(row["frequency_2_hz"]) <= 1996


def test_the_seed_decides_and_the_number_of_sets_does_not():
    few, many = (list(draw(SineConfig(n, 8_000, 0.1, phases="random"), seed=3)) for n in (2, 5))
    for a, b in zip(few, many[:2], strict=True):
        assert a.about == b.about
        np.testing.assert_array_equal(a.waves["mixture"], b.waves["mixture"])
    assert next(iter(draw(SineConfig(1, 8_000, 0.1), seed=4))).about != few[0].about
    assert few[0].about["phase_1_rad"] != 0.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"boundary_hz": 4_000.0}, "a boundary of 4000 Hz leaves no room"),
        ({"boundary_hz": -5.0}, "a boundary of -5 Hz leaves no room"),
        ({"boundary_hz": float("nan")}, "a boundary of nan Hz leaves no room"),
        ({"duration_s": 0.001}, "too short for two sinusoids"),
        ({"duration_s": float("nan")}, "a duration of nan s"),
        ({"duration_s": -1.0}, "a duration of -1 s"),
        ({"sample_rate": 10}, "a sampling frequency of 10 Hz, expected 1000 to"),
        ({"sets": 0}, "0 sets"),
        ({"phases": "odd"}, "'odd' is not one of zero, random"),
    ],
)
def test_what_is_impossible_is_refused(change, said):
    with pytest.raises(DataError, match=said):
        SineConfig(**change)


def test_impossible_frequencies_are_one_line(call, tmp_path):
    code, out, err = call("data", "sines", tmp_path / "s", "--boundary", 4000)
    assert (code, out) == (2, "")
    assert "expected 4 to 3996 Hz" in one_line(err)
    assert not (tmp_path / "s").exists()


def test_nothing_is_overwritten_without_force(call, sines):
    before = {path.name: path.read_bytes() for path in sines.iterdir()}
    code, _, err = call("data", "sines", sines, "--sets", 2)
    assert code == 2
    assert "holds info.csv already" in one_line(err)
    assert {path.name: path.read_bytes() for path in sines.iterdir()} == before


def test_a_single_file_in_the_way_is_enough(call, tmp_path):
    (tmp_path / "0002_source_1.wav").write_text("mine")
    assert "holds 0002_source_1.wav already" in call("data", "sines", tmp_path, "--sets", 2)[2]
    assert (tmp_path / "0002_source_1.wav").read_text() == "mine"


def test_force_removes_the_old_set_and_nothing_else(call, sines, tmp_path):
    precious = tmp_path / "0001_mixture.wav"
    precious.write_text("mine")
    (sines / "notes.txt").write_text("mine")
    (sines / "0009_mixture.wav").write_text("mine: not in info.csv")
    with (sines / "info.csv").open("a") as file:
        file.write(f"../{precious.name},notes.txt,0009_other.wav,8000,1,2,0,0\n")
    assert call("data", "sines", sines, "--sets", 1, "--duration", 0.1, "--force")[0] == 0
    expected = {"info.csv", "notes.txt", "0009_mixture.wav"} | {
        f"0001_{r}.wav" for r in ("mixture", "source_1", "source_2")
    }
    assert {path.name for path in sines.iterdir()} == expected
    assert precious.read_text() == "mine"


def test_a_file_is_no_folder(call, tmp_path):
    (tmp_path / "x").write_text("")
    assert "is a file, expected the name of a folder" in one_line(call("data", "sines", tmp_path / "x", "--force")[2])


def test_a_set_is_read_as_it_was_written(sines):
    there = mixture_folder.read(sines)
    assert (there.names, there.sample_rate) == (("0001", "0002", "0003"), 8_000)
    assert there.mixtures.shape == (3, 1_600)
    assert there.sources.shape == (3, 2, 1_600)
    np.testing.assert_array_equal(there.mixtures, there.sources.sum(axis=1))
    assert (there.column("frequency_1_hz") < there.column("frequency_2_hz")).all()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda out: (out / "info.csv").unlink(), "no such file"),
        (lambda out: (out / "info.csv").write_text("mixture,source_1\n"), "holds no mixture"),
        (lambda out: (out / "info.csv").write_text("a,b\n1,2\n"), "has no column mixture"),
        (lambda out: (out / "info.csv").write_text("mixture,source_1\n../x.wav,y.wav\n"), "not the name of a file"),
        (lambda out: write_wav(out / "0002_mixture.wav", np.zeros(1_600, np.float32), 8_000), "not the sum"),
        (lambda out: write_wav(out / "0002_mixture.wav", np.zeros(99, np.float32), 8_000), "99 samples at 8000 Hz"),
        (lambda out: write_wav(out / "0002_mixture.wav", np.zeros(1_600, np.float32), 16_000), "at 16000 Hz"),
    ],
)
def test_a_damaged_set_is_refused(sines, damage, said):
    damage(sines)
    with pytest.raises(DataError, match=said):
        mixture_folder.read(sines)


def test_a_set_gets_a_picture_a_mixture(call, sines, tmp_path):
    code, out, err = call("plot", sines, "--out", tmp_path / "p")
    assert (code, err) == (0, "")
    drawn = [tmp_path / "p" / f"000{n}.png" for n in (1, 2, 3)]
    assert out.split() == [str(path) for path in drawn]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_pictures_are_not_drawn_over(call, tmp_path):
    path = write_wav(tmp_path / "a$b$.wav", voice(0.3))
    assert call("plot", path)[0] == 0
    picture = tmp_path / "a$b$.png"
    picture.write_text("mine")
    assert "is there already" in one_line(call("plot", path)[2])
    assert picture.read_text() == "mine"
    assert call("plot", path, "--force", "--start", 0.1, "--duration", 0.1)[0] == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_files_share_one_picture_or_a_mistake_is_named(call, tmp_path):
    one, two = (
        write_wav(tmp_path / name / "x.wav", voice(0.2)) for name in ("a", "b") if not (tmp_path / name).mkdir()
    )
    assert call("plot", one, two, "--joint", tmp_path / "both.png")[:2] == (0, f"{tmp_path / 'both.png'}\n")
    assert "would show" in one_line(call("plot", one, two, "--out", tmp_path / "p")[2])
    assert "no such file" in one_line(call("plot", tmp_path / "nope")[2])
    assert "ends in .png" in one_line(call("plot", one, "--joint", tmp_path / "x.jpg")[2])
    code, out, err = call("plot", one, "--start", 5, "--out", tmp_path / "p")
    assert (code, out) == (2, "")
    assert "ends at 0.20 s" in one_line(err)


def test_a_sinusoid_is_drawn_where_it_is():
    rate, hz = 8_000, 1_500.0
    wave = np.sin(2 * np.pi * hz * np.arange(rate) / rate).astype(np.float32)
    config = spectrograms.settings(rate, wave.size)
    image = spectrograms.spectrogram_db(wave, config.n_fft, config.hop_length)
    assert image.max() == pytest.approx(0.0, abs=0.01)
    assert image.max(axis=1).argmax() * rate / config.n_fft == hz
    figure = spectrograms.draw([spectrograms.Signal("one", wave, rate), spectrograms.Signal("two", wave[:10], rate)])
    assert len(figure.axes) == 6


@pytest.mark.parametrize("rate", [1_000, 8_000, 44_100, 192_000])
def test_any_rate_and_length_can_be_drawn(rate):
    for size in (1, 700_000):
        config = spectrograms.settings(rate, size)
        assert size / config.hop_length <= 2_000 or config.hop_length == config.n_fft
