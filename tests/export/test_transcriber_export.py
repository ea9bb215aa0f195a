"""The transcriber's ONNX file: its loop writes what torch writes, whatever the length; the runtime hears with it."""

from __future__ import annotations

import numpy as np
import pytest
from cli_fakes import call, one_line  # noqa: F401 - fixtures
from generate import voice, write_wav

pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx
import torch

from stream_ser.errors import OutputError, TrainError
from stream_ser.export.kinds import transcriber as export
from stream_ser.features.log_mel import log_mel
from stream_ser.models.transcriber import END, TranscriberConfig
from stream_ser.models.transcriber import Transcriber as Network
from stream_ser.runtime.engine import CPU, open_session
from stream_ser.runtime.onnx_scan import read_metadata
from stream_ser.train.losses.ctc import ENGLISH
from stream_ser.train.tasks.transcriber.config import TranscriberRun
from stream_ser.train.tasks.transcriber.task import CHECKPOINT, FORMAT
from stream_ser.transcription.clip_transcriber import Transcriber

MODEL = TranscriberConfig(dim=16, heads=2, encoder_layers=2, decoder_layers=2, max_tokens=20)
RATES = {"an4": {"wer": 0.1, "cer": 0.05, "words": 70, "characters": 300, "wrong_texts": 0.2}}


def talkative(config: TranscriberConfig = MODEL) -> Network:
    """Untrained, but by larger weights it writes different characters of different lengths."""
    torch.manual_seed(4)
    network = Network(config).eval()
    with torch.no_grad():
        network.embedding.weight.mul_(6.0)
        network.decoder_norm.weight.normal_()
        for layer in network.decoder:
            layer.cross.out.weight.mul_(6.0)
            layer.cross.query.weight.mul_(6.0)
    return network


def checkpoint(folder, network: Network | None = None, **changes):
    network = network or talkative()
    state = {
        "format": FORMAT,
        "config": TranscriberRun(network.config).as_dict(),
        "vocabulary": ENGLISH.as_dict(),
        "mean": [-5.0] * 64,
        "std": [2.5] * 64,
        "describe": {"split": "by speaker", "licences": {"x": "MIT"}, "longest_frames": 302},
        "weights": network.state_dict(),
        "average": network.state_dict(),
        "optimizer": {},
        "history": [],
        "results": {"validation": {"greedy": RATES}},
        **changes,
    }
    torch.save(state, folder / CHECKPOINT)
    return folder / CHECKPOINT


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    return export.export_transcriber(checkpoint(folder), folder / "t.onnx")


def test_the_file_writes_what_torch_writes(exported):
    """Of clips from one step on; among them texts that end and texts that are cut off."""
    assert exported.difference < 1e-4
    assert exported.clips == 10
    network = talkative()
    session = open_session(exported.path, [CPU], 1)
    lengths, ended = set(), set()
    for steps in (1, 2, 5, 19, 20, 21, 60, 75):
        features = 3.0 * torch.randn(1, 64, 4 * steps, generator=torch.Generator().manual_seed(steps))
        ((expected, wanted),) = network.greedy(features)
        tokens, scores = session.run(["tokens", "log_probs"], {"features": features.numpy()})
        assert tokens.tolist() == expected.tolist()
        np.testing.assert_allclose(scores, wanted, atol=1e-4)
        lengths.add(len(tokens))
        ended.add(END in tokens.tolist())
    assert len(lengths) > 2
    assert ended == {True, False}


def test_the_card_tells_what_is_inside(exported):
    card = exported.card
    assert (card.stride, card.max_frames, card.max_tokens) == (4, 300, 20)
    assert card.vocabulary == ("", *" 'ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert card.parameters == sum(p.numel() for p in talkative().parameters())
    assert card.results["validation_an4"] == {
        "protocol": "by speaker; whole clips, greedy",
        "wer": 0.1,
        "cer": 0.05,
        "words": 70,
    }
    assert card.licence == "The corpora's licences bind these weights: trained on x: MIT."
    assert Transcriber(exported.path).card == card


def test_one_file_of_standard_operators_with_a_loop(exported):
    assert list(read_metadata(exported.path)) == ["stream_ser.card"]
    model = onnx.load(str(exported.path), load_external_data=False)
    assert [node.op_type for node in model.graph.node].count("Loop") == 1
    assert [path.name for path in exported.path.parent.iterdir()].count("t.onnx") == 1
    assert len(list(exported.path.parent.iterdir())) == 2


def test_the_runtime_hears_what_torch_hears(exported):
    transcriber = Transcriber(exported.path)
    network = talkative()
    for seconds in (0.3, 1.0, 2.9):
        samples = voice(seconds, seed=2)
        raw = log_mel(samples, exported.card.features)
        raw = raw[:, : raw.shape[1] // 4 * 4]
        ((tokens, scores),) = network.greedy((torch.from_numpy(raw.copy())[None] + 5.0) / 2.5)
        found = transcriber.transcribe(samples)
        assert found.text == ENGLISH.decode(token for token in tokens.tolist() if token != END)
        assert found.confidence == pytest.approx(float(scores.mean().exp()), rel=1e-3)


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
    path = checkpoint(tmp_path)
    with pytest.raises(TrainError, match=r"log-probabilities .* off than torch on 10 clips.*nothing was written"):
        export.export_transcriber(path, tmp_path / "t.onnx", tolerance=-1.0)
    with pytest.raises(OutputError, match="is the checkpoint"):
        export.export_transcriber(path, path)
    write = export.write_onnx

    def other(network, card, out):
        write(Network(MODEL), card, out)

    monkeypatch.setattr(export, "write_onnx", other)
    with pytest.raises(TrainError, match="other tokens than torch"):
        export.export_transcriber(path, tmp_path / "t.onnx")
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT]


def test_a_run_that_was_cut_short_has_no_results(tmp_path):
    state = export.read_checkpoint(checkpoint(tmp_path, results={}))
    assert export.make_card(state, talkative()).results == {}


def test_the_commands_export_and_transcribe(call, tmp_path, monkeypatch):
    (tmp_path / "runs" / "one").mkdir(parents=True)
    checkpoint(tmp_path / "runs" / "one")
    monkeypatch.chdir(tmp_path)
    code, out, err = call("export", "--model", "transcriber")
    assert code == 0, err
    assert "tokens as torch on 10 clips" in out
    write_wav(tmp_path / "a.wav", voice(2.0))
    code, out, err = call("transcribe", "a.wav", "-m", "runs/one/transcriber.onnx", "--no-vad")
    assert (code, err) == (0, "")
    assert out == Transcriber("runs/one/transcriber.onnx").transcribe(voice_of("a.wav")).text + "\n"
    assert "no such checkpoint" in one_line(call("export", "--model", "transcriber", "--checkpoint", "nope")[2])
    monkeypatch.chdir(tmp_path / "runs" / "one")
    assert "no transcriber under runs" in one_line(call("export", "--model", "transcriber")[2])


def voice_of(path: str) -> np.ndarray:
    import soundfile

    samples: np.ndarray = soundfile.read(path, dtype="float32")[0]
    return samples
