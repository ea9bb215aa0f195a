import numpy as np
import pytest

torch = pytest.importorskip("torch")

from stream_ser.config import FeatureConfig, WindowConfig  # noqa: E402
from stream_ser.features import log_mel  # noqa: E402
from stream_ser.train import augment, dataset  # noqa: E402
from stream_ser.train.augment import AugmentConfig  # noqa: E402

OFF = AugmentConfig(
    speeds=(1.0,), cut_p=0.0, trail_s=0.0, gain_db=0.0, noise_p=0.0, reverb_p=0.0, time_masks=0, mel_masks=0
)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


def test_all_off_is_the_clip_at_the_end_of_the_window(speechlike) -> None:
    wave = speechlike(1.0, 0)
    window = augment.augment_wave(wave, 20_000, OFF, 16_000, rng())
    np.testing.assert_array_equal(window[-16_000:], wave)
    np.testing.assert_array_equal(window[:-16_000], 0)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 30.0])
def test_noise_has_the_ratio_asked_for(speechlike, snr_db: float) -> None:
    wave = speechlike(2.0, 0)
    noise = augment.add_noise(wave, snr_db, rng()) - wave
    assert 20 * np.log10(rms(wave) / rms(noise)) == pytest.approx(snr_db, abs=0.05)


def test_silence_stays_silent() -> None:
    silence = np.zeros(16_000, np.float32)
    assert not augment.add_noise(silence, 0.0, rng()).any()
    assert not augment.add_reverb(silence, 0.3, 16_000, rng()).any()


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_noise_has_its_colour(exponent: float) -> None:
    power = np.square(np.abs(np.fft.rfft(augment.coloured_noise(1 << 16, exponent, rng()))))
    low, high = power[200:400].mean(), power[3_200:6_400].mean()
    assert np.log2(low / high) / 4 == pytest.approx(exponent, abs=0.2)


def test_reverb_keeps_level_and_adds_a_tail() -> None:
    click = np.zeros(16_000, np.float32)
    click[1_000] = 1.0
    wet = augment.add_reverb(click, 0.4, 16_000, rng())
    assert rms(wet) == pytest.approx(rms(click), rel=1e-3)
    # The convolution is by FFT: before the click there is rounding and nothing else.
    assert np.abs(wet[:1_000]).max() < 1e-6
    assert 0 < np.abs(wet[5_000:7_000]).max() < np.abs(wet[1_001:3_000]).max()


def test_windows_end_where_a_stream_might() -> None:
    config = AugmentConfig(cut_p=1.0)
    ends = [augment.draw_end(40_000, 48_352, config, 16_000, r) for r in [rng()] for _ in range(300)]
    assert min(ends) >= 16_000
    assert max(ends) <= 40_000
    ends = [augment.draw_end(80_000, 48_352, config, 16_000, r) for r in [rng()] for _ in range(300)]
    assert min(ends) >= 48_352
    assert max(ends) <= 80_000 + 8_000


def test_masks_cover_no_more_than_asked() -> None:
    config = AugmentConfig(time_masks=1, time_mask_frames=5, mel_masks=1, mel_mask_bands=3)
    masked = augment.spec_augment(torch.ones(50, 8, 20), config, rng())
    bands = (masked == 0).all(dim=2).sum(dim=1)
    frames = (masked == 0).all(dim=1).sum(dim=1)
    assert bands.max() <= 3
    assert frames.max() <= 5
    assert bands.float().mean() > 0.5
    assert frames.float().mean() > 1.0
    assert ((masked == 0) | (masked == 1)).all()


def test_mixup_mixes_targets_like_features() -> None:
    targets = torch.eye(4)
    features = targets[:, :, None].expand(4, 4, 3).clone()
    mixed, mixed_targets = augment.mixup(features, targets, 1.0, rng())
    torch.testing.assert_close(mixed[:, :, 0], mixed_targets)
    torch.testing.assert_close(mixed_targets.sum(dim=1), torch.ones(4))
    assert (mixed_targets.max(dim=1).values < 1).any()
    same, same_targets = augment.mixup(features, targets, 0.0, rng())
    assert same is features
    assert same_targets is targets


def test_speed_changes_the_length() -> None:
    waves = [np.zeros(9_900, np.int16)]
    slow, same, fast = (copies[0].size for copies in dataset.with_speeds(waves, (0.9, 1.0, 1.1)))
    assert (slow, same, fast) == (11_000, 9_900, 9_000)


def test_torch_features_equal_the_runtime(speechlike) -> None:
    wave = speechlike(3.0, 0)
    actual = dataset.TorchLogMel(FeatureConfig())(torch.from_numpy(wave)[None])[0].numpy()
    assert np.abs(actual - log_mel(wave)).max() < 1e-4


def test_training_batches_hang_on_the_seed(speechlike) -> None:
    waves = [dataset.to_int16(speechlike(0.5 + 0.1 * i, i)) for i in range(6)]
    data = dataset.TrainingWindows(
        waves, np.arange(6), FeatureConfig(), WindowConfig(frames=100, minimum=50), AugmentConfig(), batch_size=3
    )
    first, again, other = (list(data.epoch((0, epoch))) for epoch in (0, 0, 1))
    assert len(first) == data.batches == 2
    for (x, y), (x2, y2) in zip(first, again, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)
    assert not torch.equal(first[0][0], other[0][0])
    assert sorted(torch.cat([y for _, y in first]).tolist()) == list(range(6))


def test_evaluation_windows_are_those_of_the_runtime(speechlike, tiny_model) -> None:
    from stream_ser import engine
    from stream_ser.pipeline import Recognizer

    class Spy:
        def __init__(self) -> None:
            self.engine = engine.load(tiny_model, "cpu")
            self.card = self.engine.card
            self.seen: list[np.ndarray] = []

        def probabilities(self, window):
            self.seen.append(window.T.copy())
            return self.engine.probabilities(window)

    for seconds in (1.3, 3.022, 4.4):
        wave = dataset.to_int16(speechlike(seconds, 0))
        spy = Spy()
        recognizer = Recognizer(spy)
        recognizer.push(dataset.to_float32(wave))
        recognizer.flush()
        windows, owners = dataset.evaluation_windows([wave], FeatureConfig(), WindowConfig())
        assert owners.tolist() == [0] * len(windows)
        np.testing.assert_array_equal(windows, np.stack(spy.seen[-len(windows) :]))
