import itertools
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from generate import write_wav

torch = pytest.importorskip("torch")

from stream_ser.config import FeatureConfig, WindowConfig  # noqa: E402
from stream_ser.errors import DataError, TrainError  # noqa: E402
from stream_ser.features.log_mel import log_mel  # noqa: E402
from stream_ser.train import augment  # noqa: E402
from stream_ser.train.augment import AugmentConfig  # noqa: E402
from stream_ser.train.data import windows as dataset  # noqa: E402

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
    # Class indices become one-hot targets, each clip once an epoch.
    torch.testing.assert_close(torch.cat([y for _, y in first]).sum(dim=0), torch.ones(6))


def test_an_epoch_that_is_left_leaves_no_thread() -> None:
    def left() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "training-windows"]

    before = left()
    data = windows([np.full(8_000, 1_000, np.int16)] * 3, np.arange(3), batch_size=1)
    epoch = data.epoch((0,))
    next(epoch)
    time.sleep(0.2)  # the other two batches fill the queue
    epoch.close()
    for thread in set(left()) - set(before):
        thread.join(2.0)
        assert not thread.is_alive()


def test_evaluation_windows_are_those_of_the_runtime(speechlike, tiny_model) -> None:
    from stream_ser.recognition.recognizer import Recognizer
    from stream_ser.runtime import engine

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
        # Looking for changes asks about more windows.
        recognizer = Recognizer(spy, replace(spy.card.decider, change_distance=1.0))
        recognizer.push(dataset.to_float32(wave))
        recognizer.flush()
        windows, owners = dataset.evaluation_windows([wave], FeatureConfig(), WindowConfig())
        assert owners.tolist() == [0] * len(windows)
        np.testing.assert_array_equal(windows, np.stack(spy.seen[-len(windows) :]))


def windows(waves: list[np.ndarray], targets: np.ndarray, config: AugmentConfig = OFF, batch_size: int = 2, **more):
    window = WindowConfig(frames=100, minimum=50)
    return dataset.TrainingWindows(waves, targets, FeatureConfig(), window, config, batch_size, **more)


def clips(count: int, speechlike) -> list[np.ndarray]:
    return [dataset.to_int16(speechlike(0.6 + 0.05 * i, i)) for i in range(count)]


def test_soft_targets_stay_with_their_clips() -> None:
    waves = [np.full(16_000, 1_000 * (i + 1), np.int16) for i in range(4)]
    targets = np.random.default_rng(0).dirichlet(np.ones(3), 4).astype(np.float32)
    for x, y in windows(waves, targets).epoch((0,)):
        which = (x[:, -1] * 32.768).round().long() - 1
        torch.testing.assert_close(y, torch.from_numpy(targets)[which])


def test_weights_are_sampling_probabilities() -> None:
    waves = [np.full(8_000, 1_000 * (i + 1), np.int16) for i in range(8)]
    weights = np.array([0.0, 1, 1, 1, 1, 1, 1, 6])
    data = windows(waves, np.arange(8), weights=weights)
    drawn = sum((y for epoch in range(60) for _, y in data.epoch((epoch,))), torch.zeros(2, 8)).sum(dim=0)
    assert drawn[0] == 0
    assert drawn[7] / drawn.sum() == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": np.arange(3)}, "targets of shape"),
        ({"weights": np.ones(3)}, "weights of shape"),
        ({"weights": -np.ones(4)}, "weights of shape"),
        ({"batch_size": 5}, "do not fill one batch of 5"),
    ],
)
def test_targets_and_weights_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        windows([np.zeros(8_000, np.int16)] * 4, **{"targets": np.arange(4), **change})  # type: ignore[arg-type]


def peak_hz(wave: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(wave.size)))
    return float(spectrum.argmax()) * 16_000 / wave.size


@pytest.mark.parametrize("semitones", [-4.0, 0.0, 3.5])
def test_pitch_moves_and_tempo_stays(semitones: float) -> None:
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)).astype(np.float32)
    moved = augment.pitch_shifted(tone, semitones)
    assert (moved.shape, moved.dtype) == (tone.shape, np.float32)
    assert peak_hz(moved) == pytest.approx(440 * 2 ** (semitones / 12), abs=4)
    assert rms(moved[2_000:-2_000]) == pytest.approx(rms(tone), rel=0.1)


@pytest.mark.parametrize("rate", [0.8, 1.0, 1.25])
def test_tempo_moves_and_pitch_stays(rate: float) -> None:
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)).astype(np.float32)
    tone[8_000:] = 0.0
    moved = augment.stretched(tone, rate)
    assert moved.size == round(16_000 / rate)
    assert peak_hz(moved) == pytest.approx(440, abs=4)
    end = np.flatnonzero(np.abs(moved) > 0.1)[-1]
    assert end == pytest.approx(8_000 / rate, abs=700)  # the vocoder's window smears by half of 1024


@pytest.mark.parametrize("hz", [100, 1_000, 3_000, 6_000])
def test_the_telephone_passes_its_band_alone(hz: int) -> None:
    tone = np.sin(2 * np.pi * hz * np.arange(16_000) / 16_000).astype(np.float32)
    gain = rms(augment.telephone(tone, 16_000)[2_000:-2_000]) / rms(tone)
    assert gain == pytest.approx(1.0, abs=0.1) if 300 < hz < 3_400 else gain < 0.02


def test_telephone_is_drawn_as_often_as_asked(speechlike) -> None:
    wave = speechlike(0.5, 0)
    always, half, never = (
        sum(
            rms(augment.augment_wave(wave, 9_000, replace(OFF, telephone_p=p), 16_000, r)[-8_000:] - wave) > 1e-4
            for r in [rng()]
            for _ in range(40)
        )
        for p in (1.0, 0.5, 0.0)
    )
    assert (always, never) == (40, 0)
    assert 8 < half < 32


def test_the_set_is_expanded_after_the_split(speechlike) -> None:
    waves = clips(3, speechlike)
    config = replace(OFF, expand=("original", "noise", "pitch", "stretch"))
    data, again, other = (windows(waves, np.arange(3), config, batch_size=4, seed=seed) for seed in (0, 0, 1))
    assert data.batches == 3
    rows = [(x, int(y.argmax())) for batch in data.epoch((0,)) for x, y in zip(*batch, strict=True)]
    assert sorted(clip for _, clip in rows) == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    # Every clip as it was, and three changed copies that differ from it and from each other.
    for clip, wave in enumerate(waves):
        tails = [x[-wave.size :].numpy() for x, which in rows if which == clip]
        assert sum(np.array_equal(tail, dataset.to_float32(wave)) for tail in tails) == 1
        assert all(not np.array_equal(a, b) for a, b in itertools.combinations(tails, 2))
    for (x, _), (x2, _), (x3, _) in zip(data.epoch((0,)), again.epoch((0,)), other.epoch((0,)), strict=True):
        assert torch.equal(x, x2)
        assert not torch.equal(x, x3)


def test_an_expansion_hangs_on_the_seed_and_the_clips_place_alone(speechlike) -> None:
    waves = clips(4, speechlike)
    for kind in ("noise", "pitch", "stretch"):
        every = augment.expanded(waves, kind, OFF, 16_000, 7)
        some = augment.expanded(waves[:2], kind, OFF, 16_000, 7)
        assert all(np.array_equal(a, b) for a, b in zip(every, some, strict=False))
        assert not np.array_equal(every[0], waves[0])
    assert augment.expanded(waves, "original", OFF, 16_000, 7) is waves
    with pytest.raises(DataError, match="'echo' is not one of original, noise, pitch, stretch"):
        augment.expanded(waves, "echo", OFF, 16_000, 7)


def test_pitched_and_stretched_copies_are_drawn_on_the_fly(speechlike) -> None:
    waves = clips(2, speechlike)
    plain = torch.cat([x for x, _ in windows(waves, np.arange(2)).epoch((0,))])
    for config in (replace(OFF, pitch_p=1.0), replace(OFF, stretch_p=1.0)):
        changed = [x for x, _ in windows(waves, np.arange(2), config).epoch((0,))]
        assert torch.cat(changed).abs().amax() > 0.01
        assert not torch.allclose(torch.cat(changed), plain, atol=1e-2)


@pytest.fixture
def noises(tmp_path):
    """Two recordings of one tone each, with pauses as in ESC-50, and a text file."""
    for number, hz in enumerate((1_000, 3_000)):
        tone = 0.3 * np.sin(2 * np.pi * hz * np.arange(40_000) / 16_000)
        tone[8_000:24_000] = 0.0
        write_wav(tmp_path / f"{number + 1}-100-A-{number}.wav", tone)
    (tmp_path / "readme.txt").write_text("not a sound")
    return tmp_path


def test_recorded_noise_has_its_ratio_and_its_sound(noises, speechlike) -> None:
    config = replace(OFF, noise_p=1.0, noise_snr_db=(10.0, 10.0), noise_folder=str(noises), noise_recorded=1.0)
    sounds = augment.Sounds.load(config, 16_000)
    assert sounds.noises is not None
    assert sounds.noises.size == 48_000  # without the pauses
    wave = speechlike(1.0, 0)
    noise = augment.augment_wave(wave, 16_000, config, 16_000, rng(), sounds) - wave
    assert 20 * np.log10(rms(wave) / rms(noise)) == pytest.approx(10.0, abs=0.05)
    assert min(abs(peak_hz(noise) - 1_000), abs(peak_hz(noise) - 3_000)) < 30
    long = speechlike(5.0, 0)  # longer than all recordings together: round and round
    noise = augment.add_noise(long, 10.0, rng(), sounds.noises) - long
    assert 20 * np.log10(rms(long) / rms(noise)) == pytest.approx(10.0, abs=0.05)
    only = augment.Sounds.load(replace(config, noise_files="1-*"), 16_000).noises
    assert only is not None
    assert peak_hz(only.astype(np.float32)) == pytest.approx(1_000, abs=5)


def test_measured_rooms_delay_nothing(tmp_path) -> None:
    room = np.zeros(8_000)
    room[500], room[1_500] = 0.8, -0.4
    write_wav(tmp_path / "room.wav", room)
    config = replace(OFF, reverb_p=1.0, reverb_folder=str(tmp_path))
    click = np.zeros(16_000, np.float32)
    click[4_000] = 0.5
    wet = augment.augment_wave(click, 16_000, config, 16_000, rng(), augment.Sounds.load(config, 16_000))
    assert np.argsort(-np.abs(wet))[:2].tolist() == [4_000, 5_000]
    assert wet[5_000] / wet[4_000] == pytest.approx(-0.5, abs=1e-3)


def test_folders_without_sounds_are_refused(tmp_path) -> None:
    load = augment.Sounds.load
    with pytest.raises(DataError, match=r"augment\.noise_folder: .*nowhere is not a folder"):
        load(AugmentConfig(noise_folder=str(tmp_path / "nowhere")), 16_000)
    with pytest.raises(DataError, match=r"augment\.reverb_folder: no \.wav"):
        load(AugmentConfig(reverb_folder=str(tmp_path)), 16_000)
    write_wav(tmp_path / "silence.wav", np.zeros(16_000))
    with pytest.raises(DataError, match="less than a second"):
        load(AugmentConfig(noise_folder=str(tmp_path)), 16_000)
    with pytest.raises(DataError, match="are silent"):
        load(AugmentConfig(reverb_folder=str(tmp_path)), 16_000)
    with pytest.raises(DataError, match=r"augment\.noise_folder: '/\*' is no pattern of file names"):
        load(AugmentConfig(noise_folder=str(tmp_path), noise_files="/*"), 16_000)
    (tmp_path / "silence.wav").rename(tmp_path / "._silence.wav")
    with pytest.raises(DataError, match=r"no \.wav"):
        load(AugmentConfig(noise_folder=str(tmp_path)), 16_000)
    # What is switched off is not read.
    assert load(AugmentConfig(noise_folder="nowhere", noise_p=0.0), 16_000) == augment.Sounds()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"expand": ()}, "expand must hold"),
        ({"expand": ("original", "echo")}, "expand must hold"),
        ({"expand": ("noise", "noise")}, "each once"),
        ({"pitch_p": 0.7, "stretch_p": 0.7}, "must not exceed 1"),
        ({"telephone_p": 1.5}, "telephone_p"),
        ({"stretch_rates": (1.2, 0.8)}, "stretch_rates"),
        ({"stretch_rates": (0.0, 1.0)}, r"\[0.25, 4\]"),
        ({"pitch_semitones": (-30.0, 0.0)}, "pitch_semitones"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**change)  # type: ignore[arg-type]


def test_band_statistics_are_those_of_the_normalised_clips(speechlike) -> None:
    loud, quiet = ([dataset.to_int16(speechlike(1.0, 0, level=level))] for level in (0.5, 0.05))
    level, sample, corpus = (FeatureConfig(normalization=name) for name in ("level", "sample", "corpus"))
    apart = [
        np.abs(dataset.band_statistics(loud, c)[0] - dataset.band_statistics(quiet, c)[0]).mean()
        for c in (level, corpus)
    ]
    assert apart[0] < 0.5 < 2.0 < apart[1]
    mean, std = dataset.band_statistics(loud, sample)
    assert not mean.any()
    assert (std == 1.0).all()


def test_settings_from_the_command_line() -> None:
    from stream_ser.train import presets

    changes = ["augment.expand=original,noise,pitch", "augment.telephone_p=0.2", "augment.noise_folder=/sounds/box"]
    config = presets.apply(presets.preset("septr", "default"), [*changes, "features.normalization=level"])
    assert config.augment.expand == ("original", "noise", "pitch")
    assert (config.augment.telephone_p, config.augment.noise_folder) == (0.2, "/sounds/box")
    assert config.features.normalization == "level"
    with pytest.raises(TrainError, match="'loud' is not one of corpus, level, sample"):
        presets.apply(config, ["features.normalization=loud"])


def test_a_card_does_not_say_where_folders_lay() -> None:
    from stream_ser.export.checkpoints import without_folders

    assert without_folders({"noise_folder": "/home/me/esc-50/audio", "reverb_folder": "", "noise_p": 0.5}) == {
        "noise_folder": "audio",
        "reverb_folder": "",
        "noise_p": 0.5,
    }


def test_a_splice_holds_pieces_of_its_clips_alone() -> None:
    waves = [np.full(16_000, value, np.float32) for value in (0.1, 0.2, 0.4)]
    config = replace(OFF, splice_p=1.0, splice_s=(0.2, 0.3))
    out = augment.splice(waves, config, 16_000, rng())
    assert out.shape == (16_000,)
    assert out.dtype == np.float32
    # Away from the cross-fades each sample is that of one of the clips, and every clip has a share.
    shares = [np.isclose(out, value, atol=1e-6).mean() for value in (0.1, 0.2, 0.4)]
    assert sum(shares) > 0.75
    assert min(shares) > 0.05
    assert out.max() <= 0.4 + 1e-6
    alone = augment.splice([np.arange(16_000, dtype=np.float32)], config, 16_000, rng())
    assert alone.shape == (16_000,)
    assert (np.diff(alone) < 0).any()  # shuffled


def test_a_clip_that_is_shorter_than_a_piece_is_spliced_too() -> None:
    out = augment.splice([np.ones(1_000, np.float32)], replace(OFF, splice_s=(0.5, 1.0)), 16_000, rng())
    assert out.shape == (1_000,)


def test_what_belongs_to_a_clip_is_not_asked_of_a_splice() -> None:
    waves = [np.full(16_000, level, np.int16) for level in (1_000, 2_000, 4_000, 8_000)]
    targets = np.hstack((np.eye(2)[[0, 0, 1, 1]], np.full((4, 3), 7.0))).astype(np.float32)
    groups = np.array([0, 0, 1, 1])
    data = windows(waves, targets, replace(OFF, splice_p=1.0), groups=groups, own=2)
    for samples, said in data.epoch((0,)):
        assert not said[:, 2:].any()
        for row, target in zip(samples.numpy(), said.numpy(), strict=True):
            level = np.abs(row).max() * 32_768
            assert (level > 3_000) == bool(target[1])  # pieces come from the own group alone
    data = windows(waves, targets, replace(OFF, splice_p=0.0), groups=groups, own=2)
    assert all((said[:, 2:] == 7.0).all() for _, said in data.epoch((0,)))
    with pytest.raises(DataError, match="same speaker and label"):
        windows(waves, targets, replace(OFF, splice_p=0.5))
