import gc
import tracemalloc

import numpy as np
import pytest
from generate import voice
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ser.config import FeatureConfig
from stream_ser.features.framing import Framer
from stream_ser.features.log_mel import LogMel, hz_to_mel, log_mel, mel_filterbank, mel_to_hz
from stream_ser.features.normalization import LEVEL_TARGET, Normalizer

CONFIG = FeatureConfig()


def stream(samples: np.ndarray, sizes: list[int], config: FeatureConfig = CONFIG) -> np.ndarray:
    framer, stage = Framer(config.n_fft, config.hop_length), LogMel(config)
    columns, position, turn = [], 0, 0
    while position < len(samples):
        block = samples[position : position + sizes[turn % len(sizes)]]
        columns += [stage(windows.values) for windows in framer.push(block)]
        position, turn = position + len(block), turn + 1
    return np.concatenate(columns).T if columns else np.empty((config.n_mels, 0), np.float32)


@pytest.mark.parametrize("level", [1.0, 1e-1, 1e-3])
@pytest.mark.parametrize("n_mels", [40, 64, 80])
def test_equals_torchaudio(level: float, n_mels: int) -> None:
    torch = pytest.importorskip("torch")
    transforms = pytest.importorskip("torchaudio.transforms")
    config = FeatureConfig(n_mels=n_mels)
    samples = (level * np.random.default_rng(0).standard_normal(32_000)).astype(np.float32)
    reference = transforms.MelSpectrogram(
        sample_rate=config.sample_rate,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        f_min=config.f_min,
        f_max=config.f_max,
        n_mels=config.n_mels,
        center=False,
    )
    expected = torch.log(reference(torch.from_numpy(samples)) + config.log_floor).numpy()
    actual = log_mel(samples, config)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() < 1e-4


def test_equals_torchaudio_on_a_voice(speechlike) -> None:
    torch = pytest.importorskip("torch")
    transforms = pytest.importorskip("torchaudio.transforms")
    samples = speechlike(3.0, 1)
    reference = transforms.MelSpectrogram(
        sample_rate=16_000, n_fft=512, hop_length=160, f_min=50.0, f_max=8_000.0, n_mels=64, center=False
    )
    expected = torch.log(reference(torch.from_numpy(samples)) + CONFIG.log_floor).numpy()
    assert np.abs(log_mel(samples) - expected).max() < 1e-4


def test_the_filters_equal_torchaudios() -> None:
    functional = pytest.importorskip("torchaudio.functional")
    expected = functional.melscale_fbanks(257, 50.0, 8_000.0, 64, 16_000).numpy()
    assert np.abs(mel_filterbank(CONFIG) - expected).max() < 1e-5


@settings(max_examples=30, deadline=None)
@given(
    length=st.integers(0, 9_000),
    sizes=st.lists(st.one_of(st.integers(1, 7), st.integers(100, 3_000)), min_size=1, max_size=6),
    seed=st.integers(0, 99),
)
def test_any_split_gives_the_same_bits(length: int, sizes: list[int], seed: int) -> None:
    samples = np.random.default_rng(seed).uniform(-1, 1, length).astype(np.float32)
    np.testing.assert_array_equal(stream(samples, sizes), log_mel(samples))


def test_sample_by_sample_gives_the_same_bits() -> None:
    samples = np.random.default_rng(3).uniform(-1, 1, 2_000).astype(np.float32)
    np.testing.assert_array_equal(stream(samples, [1]), log_mel(samples))


@pytest.mark.parametrize(
    "normalization", ["corpus", *(pytest.param(name, marks=pytest.mark.slow) for name in ("level", "sample"))]
)
def test_a_hop_allocates_nothing_that_grows_with_it(normalization: str) -> None:
    config, window, hop = FeatureConfig(normalization=normalization), 300, 10
    framer, stage = Framer(config.n_fft, config.hop_length), LogMel(config)
    columns = Framer(window, hop, (config.n_mels,), at_once=1)
    normalize = Normalizer(config, (0.0,) * 64, (1.0,) * 64, window)
    newest, out = np.empty((framer.at_once, 64), np.float32), np.empty((64, window), np.float32)
    samples = np.random.default_rng(0).uniform(-1, 1, 16_000).astype(np.float32)

    def run(hops: int) -> int:
        done = position = 0
        while done < hops:
            for frames in framer.push(samples[position : position + 320]):
                for ready in columns.push(stage(frames.values, out=newest[: len(frames.values)])):
                    normalize(ready.values[0], out)
                    done += 1
            position = (position + 320) % samples.size
        return done

    run(100)
    grown, peaks = [], []
    tracemalloc.start()
    try:
        run(100)
        for _ in range(3):
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            assert run(1_000) == 1_000
            after, peak = tracemalloc.get_traced_memory()
            grown.append(after - before)
            peaks.append(peak - before)
    finally:
        tracemalloc.stop()
    # numpy keeps the shapes of a few views, and sums in small buffers. A window would be 75 KiB and the frames of a hop
    # 20 KiB; a single object kept from every hop 28 KiB. What hops keep grows in every round; a thread that an earlier
    # test left behind allocates in some of them.
    assert min(grown) < 16 * 1024
    assert min(peaks) < 20 * 1024


def test_a_call_leaves_what_the_one_before_gave() -> None:
    samples = np.random.default_rng(5).uniform(-1, 1, (2, 70, 512)).astype(np.float32)
    stage = LogMel(CONFIG)
    first = stage(samples[0])
    kept = first.copy()
    out = np.full((70, 66), np.nan, np.float32)
    assert stage(samples[1], out=out[:, 1:65]).base is out
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(out[:, 1:65], LogMel(CONFIG)(samples[1]))
    assert np.isnan(out[:, [0, 65]]).all()


def test_later_audio_does_not_change_earlier_frames() -> None:
    samples = np.random.default_rng(4).uniform(-1, 1, 16_000).astype(np.float32)
    short = log_mel(samples[:8_000])
    np.testing.assert_array_equal(log_mel(samples)[:, : short.shape[1]], short)


def test_frames_are_not_centred() -> None:
    samples = np.zeros(4 * CONFIG.hop_length + CONFIG.n_fft, np.float32)
    samples[CONFIG.n_fft + CONFIG.hop_length :] = 0.5
    features = log_mel(samples)
    assert features.shape == (64, 5)
    silence = LogMel(CONFIG).silence
    np.testing.assert_array_equal(features[:, :2], np.float32(silence))
    assert (features[:, 2] > silence).any()


def test_a_tone_lands_in_its_band() -> None:
    tone = np.sin(2 * np.pi * 1_000 * np.arange(8_000) / 16_000).astype(np.float32)
    centres = mel_to_hz(np.linspace(hz_to_mel(50.0), hz_to_mel(8_000.0), 66))[1:-1]
    loudest = log_mel(tone).mean(axis=1).argmax()
    assert abs(centres[loudest] - 1_000) < 60


def test_less_than_one_frame_gives_no_column() -> None:
    assert log_mel(np.zeros(511, np.float32)).shape == (64, 0)
    assert log_mel(np.zeros(512, np.float32)).shape == (64, 1)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="holds no bin"):
        mel_filterbank(FeatureConfig(n_fft=128, hop_length=64, n_mels=128))
    with pytest.raises(ValueError, match="f_min < f_max"):
        FeatureConfig(f_max=9_000.0)
    with pytest.raises(ValueError, match="hop_length"):
        FeatureConfig(hop_length=1_024)
    with pytest.raises(ValueError, match=r"expected \(time,\)"):
        log_mel(np.zeros((2, 600), np.float32))


@pytest.mark.parametrize("normalization", ["corpus", "level", "sample"])
@pytest.mark.parametrize("frames", [300, 10])
def test_normalisation_of_the_runtime_equals_that_of_training(speechlike, normalization: str, frames: int) -> None:
    torch = pytest.importorskip("torch")
    from stream_ser.train.data.normalization import normalize

    config = FeatureConfig(normalization=normalization)
    mean, std = np.linspace(-8, -2, 64, dtype=np.float32), np.linspace(1, 3, 64, dtype=np.float32)
    stage = Normalizer(config, mean, std, frames)
    voice = speechlike(config.samples_for(300) / 16_000, 2)[: config.samples_for(frames)]
    padded = voice.copy()
    padded[: voice.size // 2] = 0.0
    loud, silent = (4.0 * voice).astype(np.float32), np.zeros_like(voice)
    # As the pipeline's ring gives it: frames first, and not contiguous.
    windows = [np.column_stack([log_mel(wave).T, np.ones(frames)]).astype(np.float32) for wave in (voice, padded)]
    windows += [log_mel(wave).T for wave in (loud, silent)]
    expected = normalize(torch.from_numpy(np.stack([w[:, :64].T for w in windows])), config, mean, std).numpy()
    for window, batched in zip(windows, expected, strict=True):
        kept, out = window.copy(), np.full((64, frames), np.nan, np.float32)
        stage(window[:, :64], out)
        np.testing.assert_allclose(out, batched, atol=2e-4)
        np.testing.assert_array_equal(window, kept)
        alone = normalize(torch.from_numpy(window[:, :64].T.copy()), config, mean, std).numpy()
        np.testing.assert_allclose(alone, batched, atol=1e-5)


def normalised(samples: np.ndarray, normalization: str) -> np.ndarray:
    config = FeatureConfig(normalization=normalization)
    columns = log_mel(samples, config)
    out = np.empty_like(columns)
    Normalizer(config, (0.0,) * 64, (1.0,) * 64, columns.shape[1])(columns.T, out)
    return out


@settings(max_examples=12, deadline=None)
@given(gain_db=st.floats(-20.0, 20.0), seed=st.integers(0, 50))
def test_level_normalisation_takes_the_microphones_gain_away(gain_db: float, seed: int) -> None:
    # Speech in the default log-mel has a standard deviation of 2 to 3 a band: .1 of it hardly moves a network. What
    # moves is what lies near the floor, so the bound is on the mean, and a looser one on bands above it.
    samples = voice(1.5, seed)
    gained = (samples * np.float32(10.0 ** (gain_db / 20.0))).astype(np.float32)
    before, after = (normalised(x, "level") for x in (samples, gained))
    assert np.abs(after - before).mean() < 0.15
    clear = before > np.log(100 * CONFIG.log_floor)
    assert np.abs(after - before)[clear].max() < 0.15
    corpus = np.abs(normalised(gained, "corpus") - normalised(samples, "corpus"))[clear].mean()
    assert corpus > 0.2 * abs(gain_db) - 0.1  # without it the features follow the gain


def test_level_normalisation_brings_the_loudest_quarter_second_to_the_target(speechlike) -> None:
    for level in (0.9, 0.02):
        columns = normalised(speechlike(3.0, 5, level=level), "level").astype(np.float64)
        energy = (np.exp(columns) - CONFIG.log_floor).sum(axis=0)
        loudest = max(energy[i : i + 25].mean() for i in range(energy.size - 24))
        assert loudest == pytest.approx(LEVEL_TARGET, rel=1e-3)


def test_silence_is_not_amplified_to_speech() -> None:
    hiss = (1e-5 * np.random.default_rng(0).standard_normal(48_000)).astype(np.float32)
    assert np.exp(normalised(hiss, "level")).sum(axis=0).mean() < LEVEL_TARGET / 100
    np.testing.assert_allclose(normalised(np.zeros(48_000, np.float32), "sample"), 0.0, atol=1e-4)


def test_sample_normalisation_has_zero_mean_and_unit_deviation(speechlike) -> None:
    out = normalised(speechlike(3.0, 1), "sample")
    assert (out.mean(), out.std()) == pytest.approx((0.0, 1.0), abs=1e-4)


def test_unknown_normalisation_is_refused() -> None:
    with pytest.raises(ValueError, match="'clip' is not one of corpus, level, sample"):
        FeatureConfig(normalization="clip")  # type: ignore[arg-type]
