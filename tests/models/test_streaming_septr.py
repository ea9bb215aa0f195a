"""Streaming SepTr: nothing from the future, the same whole and hop by hop, in torch and in its file, at any level."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from generate import voice

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from stream_ser.config import FeatureConfig  # noqa: E402
from stream_ser.errors import TrainError  # noqa: E402
from stream_ser.events import Prediction  # noqa: E402
from stream_ser.export import checkpoints, untrained  # noqa: E402
from stream_ser.features import normalization  # noqa: E402
from stream_ser.features.log_mel import log_mel  # noqa: E402
from stream_ser.models import level, running  # noqa: E402
from stream_ser.models.streaming_septr import StreamingSepTr, StreamingSepTrConfig  # noqa: E402
from stream_ser.recognition.recognizer import Recognizer  # noqa: E402
from stream_ser.runtime import engine  # noqa: E402
from stream_ser.runtime.card.recognition import Card  # noqa: E402
from stream_ser.train import checkpoint, presets  # noqa: E402
from stream_ser.train.config import RunConfig  # noqa: E402
from stream_ser.train.transfer import finetune  # noqa: E402

TINY = (
    "model.dim=16",
    "model.heads=2",
    "model.dim_head=8",
    "model.mlp_dim=16",
    "model.stem_channels=4,8,8,8",
    "model.memory=5",
    "model.reach=3",
)
LABELS = ["anger", "disgust", "fear", "happy", "neutral", "sad"]
MEAN, STD = -6.0, 3.0


def recipe(*changes: str) -> RunConfig:
    return presets.apply(presets.preset("streaming-septr"), [*TINY, *changes])


def lively(config: StreamingSepTrConfig, seed: int = 0) -> StreamingSepTr:
    """A network whose every part matters: weights larger than a beginner's, statistics as of a run."""
    torch.manual_seed(seed)
    network = StreamingSepTr(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2.0)
    network.set_normalization(torch.full((64,), MEAN), torch.full((64,), STD), 1e-5)
    return network


@pytest.fixture(scope="module")
def network() -> StreamingSepTr:
    return lively(recipe().model)


def frames(count: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    """Normalised log-mel like that of voices, ``(batch, mel, count)``."""
    heard = []
    for row in range(batch):
        samples = voice(count / 100 + 0.1, seed + row)
        heard.append(log_mel(samples, FeatureConfig())[:, :count])
    return (torch.from_numpy(np.stack(heard)) - MEAN) / STD


@torch.no_grad()
def test_any_split_into_columns_gives_what_the_whole_gives(network) -> None:
    """Over many times what the network remembers."""
    x = frames(16 * 40, batch=2)
    whole, state = network.hear(x)
    for sizes in ([1], [2, 1, 5], [7], [39]):
        parts, at, after = [], 0, None
        while at < 40:
            size = min(sizes[len(parts) % len(sizes)], 40 - at)
            logits, after = network.hear(x[..., 16 * at : 16 * (at + size)], after)
            parts.append(logits)
            at += size
        assert (torch.cat(parts, dim=1) - whole).abs().max() < 1e-5
        for found, expected in zip(after.flat(), state.flat(), strict=True):
            assert found.shape == expected.shape
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_a_state_of_zeros_is_the_beginning(network) -> None:
    x = frames(64)
    torch.testing.assert_close(network.hear(x, network.initial_state())[0], network.hear(x)[0], atol=1e-5, rtol=0.0)


@torch.no_grad()
def test_no_answer_hangs_on_what_comes_later(network) -> None:
    x = frames(160)
    before = network.hear(x)[0]
    for column in (0, 4, 9):
        changed = x.clone()
        changed[..., 16 * column :] = 2.0 * torch.randn_like(changed[..., 16 * column :])
        after = network.hear(changed)[0]
        torch.testing.assert_close(after[:, :column], before[:, :column], atol=1e-6, rtol=0.0)
        assert (after[:, column] - before[:, column]).abs().max() > 1e-3
        # The last frame of a column is heard in that column already.
        changed = x.clone()
        changed[..., 16 * column + 15] += 1.0
        assert not torch.equal(network.hear(changed)[0][:, column], before[:, column])


@torch.no_grad()
def test_attention_reaches_as_far_as_the_memory() -> None:
    """One block on tokens alone: a change is seen up to ``memory`` columns later, and no further."""
    layer = lively(recipe("model.depth=1").model).along_time[0]
    x = torch.randn(1, 20, 5, 16)
    changed = x.clone()
    changed[:, 4, 1:] = torch.randn(4, 16)
    nothing = torch.zeros(1, 4, 0, 8)
    unheard = torch.zeros(1, 1, 20)
    before, after = (layer(tokens, nothing, nothing, unheard)[0][0, :, 0] for tokens in (x, changed))
    seen = ((before - after).abs().amax(dim=-1) > 1e-6).nonzero()[:, 0].tolist()
    assert seen == [4, 5, 6, 7, 8, 9]


@torch.no_grad()
def test_the_same_sound_gives_the_same_answer_wherever_in_the_stream(network) -> None:
    """What a column leaves hangs on what the convolutions see, not on its number; positions are distances."""
    x = frames(16 * 12)
    # What came before is softer, so that the level is that of x.
    early, late = (network.columns(torch.cat((x[..., :n] - 2.0, x), dim=-1))[1] for n in (16, 16 * 12))
    assert early.heard == late.heard
    for name in ("keys", "values"):
        torch.testing.assert_close(getattr(early, name)[0], getattr(late, name)[0], atol=1e-5, rtol=1e-5)
    near = network.along_time[0]._near(3, 8)
    assert torch.equal(near, network.along_time[0]._near(3, 30)[..., -8:])


@torch.no_grad()
@pytest.mark.parametrize("gain_db", [-20.0, 20.0])
def test_the_gain_of_a_microphone_changes_little(gain_db: float) -> None:
    network = lively(recipe().model)
    features = FeatureConfig()
    samples = 0.1 * voice(3.0, 1) + 1e-3 * np.random.default_rng(0).standard_normal(48_000).astype(np.float32)

    def answers(samples: np.ndarray) -> torch.Tensor:
        columns = torch.from_numpy(log_mel(samples, features).copy())[None, :, :288]
        return network.hear((columns - MEAN) / STD)[0]

    plain, changed = answers(samples), answers(np.float32(10.0 ** (gain_db / 20.0)) * samples)
    network.level.forward = lambda x, energy, loudest: (x, energy, loudest)  # type: ignore[method-assign]
    unlevelled = answers(samples), answers(np.float32(10.0 ** (gain_db / 20.0)) * samples)
    assert (plain - changed).abs().max() < 0.1 * (unlevelled[0] - unlevelled[1]).abs().max()


@torch.no_grad()
def test_the_level_is_that_of_the_loudest_moment_so_far_and_is_forgotten() -> None:
    common = level.CommonLevel(4, 16, 160.0)
    x = torch.full((1, 4, 16 * 20), 0.0)
    x[..., 32:64] = 4.0
    out, _, loudest = common(x, torch.zeros(1, 1), torch.zeros(1, 1))
    # Two columns of a power of 4 e^4, over both of which the level is averaged; then e-fold less in ten columns.
    assert loudest.item() == pytest.approx(4.0 * np.exp(4.0 - 1.6), rel=1e-3)
    torch.testing.assert_close(out[0, 0, 48], torch.tensor(np.log(level.LEVEL_TARGET / 4.0), dtype=torch.float32))
    parts, energy, loud = [], torch.zeros(1, 1), torch.zeros(1, 1)
    for part in x.split(16, dim=-1):
        found, energy, loud = common(part, energy, loud)
        parts.append(found)
    torch.testing.assert_close(torch.cat(parts, dim=-1), out)


def test_levels_are_those_of_the_windowed_networks() -> None:
    for name in ("LEVEL_FRAMES", "LEVEL_TARGET", "LEVEL_MAX_GAIN"):
        assert getattr(level, name) == getattr(normalization, name)


def test_sums_and_maxima_by_hand() -> None:
    x, carried, g = torch.tensor([[1.0, 5.0, 2.0]]), torch.tensor([[40.0]]), float(np.exp(-1 / 3))
    sums = running.decayed_sums(x[..., None], carried, 3.0)[0, :, 0]
    one = 40 * g + 1
    two = one * g + 5
    torch.testing.assert_close(sums, torch.tensor([one, two, two * g + 2]))
    largest = running.decayed_max(x, torch.tensor([[6.5]]), 3.0)[0]
    torch.testing.assert_close(largest, torch.tensor([6.5 * g, 5.0, 5.0 * g]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("window.hop=25", "window.hop 25 must be a multiple of the 16 frames"),
        ("features.normalization=level", "'level' looks at a whole window"),
        ("model.memory=0", "memory and reach must be at least 1 column"),
        ("model.mean_memory=0", "must be positive"),
        ("model.stem=patch", "convolution stem"),
        ("model.heads=3", "dim 16 must be a multiple of heads 3"),
    ],
)
def test_impossible_settings_are_refused(change: str, said: str) -> None:
    with pytest.raises(TrainError, match=said):
        recipe(change)


def test_settings_that_go_together_may_be_changed_together() -> None:
    config = recipe("window.hop=24", "model.patch=16x8")
    assert config.model.stride == 8


def test_other_than_whole_columns_are_refused(network) -> None:
    for wrong in (torch.zeros(1, 64, 17), torch.zeros(1, 63, 16), torch.zeros(1, 64, 0)):
        with pytest.raises(ValueError, match=r"expected \(batch, 64, frames\), a multiple of 16 frames"):
            network.hear(wrong)


def write_run(folder: Path, network: StreamingSepTr) -> Path:
    """A run folder's checkpoint as training leaves it."""
    config = replace(recipe(), model=network.config)
    scores = {"uar": 0.5, "wa": 0.5, "f1": 0.5, "clips": 9}
    state = {
        "format": 1,
        "network": "streaming-septr",
        "config": config.as_dict(),
        "labels": LABELS,
        "mean": [MEAN] * 64,
        "std": [STD] * 64,
        "average": {f"module.network.{name}": value for name, value in network.state_dict().items()},
        "history": [{"epoch": 1, "scores": scores}],
        "describe": {"split": "by speaker", "epochs": 1, "corpora": {"x": 9}, "seed": 0, "train_speakers": ["s"]},
        "licences": {"x": "MIT"},
        "temperature": 1.5,
    }
    torch.save(state, folder / checkpoint.CHECKPOINT)
    return folder / checkpoint.CHECKPOINT


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory) -> checkpoints.Exported:
    folder = tmp_path_factory.mktemp("run")
    return checkpoints.export_checkpoint(write_run(folder, network), folder / "streaming-septr.onnx")


def test_the_file_hears_what_torch_hears_whole(exported, network) -> None:
    assert exported.difference < 1e-5
    card = exported.card
    assert (card.name, card.kind, card.window.hop, card.vocabulary) == ("streaming-septr", "emotion", 16, ())
    assert sum(int(np.prod(state.shape)) for state in card.states) < 20_000
    # Through the engine, over more hops than the network remembers, from raw log-mel.
    loaded = engine.load(exported.path, "cpu")
    raw = log_mel(voice(4.0, 3), card.features)[:, : 16 * 24]
    with torch.no_grad():
        whole = network.hear((torch.from_numpy(raw.copy())[None] - MEAN) / STD)[0][0].double()
    state = loaded.initial_state()
    for hop in range(24):
        step = loaded.step(np.ascontiguousarray(raw[:, 16 * hop : 16 * hop + 16].T), state)
        state = step.state
        np.testing.assert_allclose(step.probabilities, torch.softmax(whole[hop] / 1.5, dim=-1), atol=1e-5)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory) -> checkpoints.Exported:
    """A network that gives all moments little weight; of one block, for which an export takes half as long."""
    network = lively(recipe("model.depth=1").model)
    with torch.no_grad():
        network.pool.weights.weight.mul_(0.1)
        network.pool.weights.bias.fill_(-8.0)
    folder = tmp_path_factory.mktemp("quiet")
    return checkpoints.export_checkpoint(write_run(folder, network), folder / "quiet.onnx")


@pytest.mark.slow
def test_moments_of_little_weight_are_the_same_in_the_file(quiet) -> None:
    """The mean is a ratio of their sums: what the file computes of them has to be right in proportion."""
    assert quiet.difference < 1e-5


def test_a_file_that_differs_is_not_written(exported, network, tmp_path, monkeypatch) -> None:
    """The file is of other weights than the checkpoint."""
    path = write_run(tmp_path, lively(network.config, seed=1))
    monkeypatch.setattr(checkpoints, "write_onnx", lambda _network, _card, out, _voice: shutil.copy(exported.path, out))
    with pytest.raises(TrainError, match="nothing was written"):
        checkpoints.export_checkpoint(path, tmp_path / "s.onnx")
    assert {p.name for p in tmp_path.iterdir()} == {checkpoint.CHECKPOINT}


def test_the_weights_come_back_from_the_file(exported, network) -> None:
    state = finetune.read_run(exported.path)
    again = checkpoint.trained_network(state)
    x = frames(64)
    with torch.no_grad():
        torch.testing.assert_close(again.hear(x)[0], network.hear(x)[0], atol=1e-4, rtol=1e-4)


def test_the_runtime_recognises_in_any_blocks(exported) -> None:
    recognizer = Recognizer(str(exported.path), vad=None)
    samples = voice(4.0, 2)

    def events(size: int) -> list:
        recognizer.reset()
        found = [e for first in range(0, len(samples), size) for e in recognizer.push(samples[first : first + size])]
        return found + recognizer.flush()

    whole = events(len(samples))
    asked = [event for event in whole if isinstance(event, Prediction) and event.probabilities]
    # From .96 s on every 160 ms, and the rest at the end.
    assert [event.end for event in asked][:2] == [95 * 160 + 512, 111 * 160 + 512]
    assert len(asked) > 15
    for size in (100, 777, 16_001):
        assert events(size) == whole
    assert recognizer.summary().probabilities


@pytest.mark.slow
def test_an_untrained_network_remembers_as_long_as_asked(quiet, tmp_path) -> None:
    card: Card = quiet.card
    made = untrained.write_untrained(card, 10.0, tmp_path / "u.onnx")
    shapes = {state.input: state.shape for state in made.states}
    assert shapes["keys_0"] == (1, 4, 62, 8)
    assert (made.window, made.training) == (card.window, {})
    assert engine.load(tmp_path / "u.onnx", "cpu").card.states == made.states
