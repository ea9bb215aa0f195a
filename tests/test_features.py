import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ser.config import FeatureConfig
from stream_ser.features import LogMel, hz_to_mel, log_mel, mel_filterbank, mel_to_hz
from stream_ser.framer import Framer

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
