"""Each descriptor equals librosa's; the tolerance is that of float32 sums over a frame."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")
librosa = pytest.importorskip("librosa")

from stream_ser.train.data import descriptors as d  # noqa: E402

RATE = 16_000
FRAMINGS = (d.Frames(), d.Frames(n_fft=512, hop_length=160, n_mels=40))

NAMES = ("zero_crossing_rate", "energy", "rms", "mel_spectrogram", "mfcc", "chroma", "spectral_contrast", "mel_mean")


@pytest.fixture(scope="module")
def waves(speechlike) -> np.ndarray:
    quiet, loud = speechlike(1.0, 0, level=0.01), speechlike(1.0, 1, pitch_hz=220.0, level=0.8)
    noise = (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)
    return np.stack([quiet, loud, noise])


def of_librosa(name: str, wave: np.ndarray, f: d.Frames) -> np.ndarray:
    spectrum = {"y": wave, "sr": f.sample_rate, "n_fft": f.n_fft, "hop_length": f.hop_length}
    framing = {"frame_length": f.n_fft, "hop_length": f.hop_length}
    feature = librosa.feature
    if name == "zero_crossing_rate":
        return feature.zero_crossing_rate(wave, **framing)[0]
    if name == "rms":
        return feature.rms(y=wave, **framing)[0]
    if name == "energy":
        return np.square(feature.rms(y=wave.astype(np.float64), **framing)[0]) * f.n_fft
    if name == "mel_spectrogram":
        return feature.melspectrogram(**spectrum, n_mels=f.n_mels)
    if name == "mel_mean":
        return feature.melspectrogram(**spectrum, n_mels=f.n_mels).mean(axis=1)
    if name == "mfcc":
        return feature.mfcc(**spectrum, n_mfcc=20, n_mels=f.n_mels)
    if name == "chroma":
        return feature.chroma_stft(**spectrum, tuning=0.0)
    assert name == "spectral_contrast"
    # librosa refuses octaves beyond half the sample rate, as ours does: five of them end at 6.4 kHz.
    return feature.spectral_contrast(**spectrum, n_bands=5)


def ours(name: str, wave: np.ndarray, f: d.Frames) -> np.ndarray:
    more = {"n_bands": 5} if name == "spectral_contrast" else {}
    return getattr(d, name)(torch.from_numpy(wave), frames=f, **more).numpy()


#: Largest difference: absolute, and relative to librosa's value. dB and cepstral coefficients are in dB.
TOLERANCES = {
    "zero_crossing_rate": (1e-6, 0.0),
    "energy": (1e-6, 1e-5),
    "rms": (1e-6, 1e-5),
    "mel_spectrogram": (1e-6, 1e-4),
    "mel_mean": (1e-6, 1e-4),
    "mfcc": (1e-2, 0.0),
    "chroma": (1e-4, 0.0),
    "spectral_contrast": (1e-2, 0.0),
}


@pytest.mark.slow  # librosa compiles
@pytest.mark.parametrize(("name", "frames"), list(itertools.product(NAMES, FRAMINGS)))
def test_equals_librosa(name: str, frames: d.Frames, waves: np.ndarray) -> None:
    absolute, relative = TOLERANCES[name]
    for wave in waves:
        expected = of_librosa(name, wave, frames)
        actual = ours(name, wave, frames)
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, atol=absolute, rtol=relative)


@pytest.mark.parametrize("name", NAMES)
def test_batched_equals_per_item(name: str, waves: np.ndarray) -> None:
    batched = ours(name, waves[:2].reshape(1, 2, RATE), FRAMINGS[0])
    alone = np.stack([ours(name, wave, FRAMINGS[0]) for wave in waves[:2]])[None]
    assert batched.shape == alone.shape
    np.testing.assert_allclose(batched, alone, rtol=1e-4, atol=1e-4)


def test_silence_and_short_clips_are_finite() -> None:
    for name, size in itertools.product(NAMES, (1, 100, 5_000)):
        assert np.isfinite(ours(name, np.zeros(size, np.float32), FRAMINGS[0])).all()


@pytest.mark.slow
def test_the_mel_image_is_librosas_in_decibels(waves: np.ndarray) -> None:
    frames = FRAMINGS[1]
    images = d.mel_image(torch.from_numpy(waves), frames=frames).numpy()
    for wave, image in zip(waves, images, strict=True):
        mel = librosa.feature.melspectrogram(y=wave, sr=RATE, n_fft=512, hop_length=160, n_mels=40)
        expected = librosa.power_to_db(mel, ref=np.max) / 80.0 + 1.0
        np.testing.assert_allclose(image, expected, atol=1e-4)
        assert image.max() == pytest.approx(1.0)


def test_the_mel_image_is_resized_item_by_item(waves: np.ndarray) -> None:
    images = d.mel_image(torch.from_numpy(waves), (32, 48), FRAMINGS[1])
    assert images.shape == (3, 32, 48)
    alone = d.mel_image(torch.from_numpy(waves[0]), (32, 48), FRAMINGS[1])
    torch.testing.assert_close(images[0], alone)
    whole = d.mel_image(torch.from_numpy(waves), frames=FRAMINGS[1])
    torch.testing.assert_close(images.mean(dim=(1, 2)), whole.mean(dim=(1, 2)), atol=0.02, rtol=0.0)


def test_a_tone_has_its_pitch_class() -> None:
    tone = torch.sin(2 * torch.pi * 261.63 * torch.arange(RATE) / RATE)
    assert (d.chroma(tone)[:, 2:-2].argmax(dim=0) == 0).all()  # C


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected floats \(\.\.\., time\)"):
        d.rms(torch.zeros(5, dtype=torch.int16))
    with pytest.raises(ValueError, match="n_mfcc 41"):
        d.mfcc(torch.zeros(5), 41, FRAMINGS[1])
    with pytest.raises(ValueError, match="7 octaves from 200 Hz do not fit below 8000 Hz"):
        d.spectral_contrast(torch.zeros(5), n_bands=7)
    with pytest.raises(ValueError, match="hop_length"):
        d.Frames(hop_length=4_096)
