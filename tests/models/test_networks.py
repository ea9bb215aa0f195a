"""Every network of the registry: what they all keep to, from the forward pass to the runtime."""

from __future__ import annotations

import doctest
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from stream_ser.config import FeatureConfig, WindowConfig  # noqa: E402
from stream_ser.errors import TrainError  # noqa: E402
from stream_ser.events import Prediction  # noqa: E402
from stream_ser.export import checkpoints, parity  # noqa: E402
from stream_ser.models import alexnet, ast, inputs, layers, lenet, registry, septr, tokens, vgg, vit  # noqa: E402
from stream_ser.models.base import NetworkConfig, WindowNetwork  # noqa: E402
from stream_ser.recognition.recognizer import Recognizer  # noqa: E402
from stream_ser.runtime import engine  # noqa: E402
from stream_ser.runtime.card.recognition import Card  # noqa: E402
from stream_ser.train.evaluation.complexity import complexity  # noqa: E402
from stream_ser.train.transfer import onnx_weights  # noqa: E402

LABELS = ("anger", "disgust", "fear", "happy", "neutral", "sad")
#: Odd on purpose: no patch, stride or pooling divides it.
N_MELS, N_FRAMES = 64, 103
TOKENS = {"dim": 16, "heads": 2, "dim_head": 8, "mlp_dim": 16}
#: Small settings of each network; between them they use the options that change what is exported.
TINY: dict[str, dict] = {
    "septr": {**TOKENS, "depth": 1, "patch": (16, 16), "stem": "conv", "stem_channels": (4, 4, 8, 8), "pool": "mean"},
    "streaming-septr": {**TOKENS, "depth": 2, "patch": (16, 8), "stem_channels": (4, 4, 8, 8), "memory": 5},
    "vit": {**TOKENS, "depth": 2, "patch": (16, 10), "pool": "attention"},
    "ast": {"dim": 16, "depth": 2, "heads": 2, "mlp_dim": 16},
    "alexnet-1d": {"channels": (4, 8, 8, 8, 8), "hidden": (8, 8), "signal": "time"},
    "vgg16-1d": {"channels": (4, 4, 4, 8, 8), "hidden": (8, 8), "norm": False},
    "vgg16-2d": {"channels": (4, 4, 4, 8, 8), "hidden": (8, 8), "image": (32, 0)},
    "lenet5-1d": {"signal": "time", "norm": True, "activation": "relu"},
    "lenet5-2d": {},
}
NAMES = tuple(registry.NETWORKS)
#: Exported as networks that take a window; test_streaming_septr has the one that takes hops.
WINDOWED = tuple(name for name in NAMES if name != "streaming-septr")


def settings(name: str, **changes: object) -> NetworkConfig:
    values = {"n_mels": N_MELS, "n_frames": N_FRAMES, "num_classes": 6, **TINY[name], **changes}
    return registry.get(name).config(**values)


def network(name: str, **changes: object) -> WindowNetwork:
    torch.manual_seed(0)
    return registry.build(name, settings(name, **changes))


def windows(count: int = 4) -> torch.Tensor:
    return torch.randn(count, N_MELS, N_FRAMES, generator=torch.Generator().manual_seed(1))


def test_all_are_tested() -> None:
    assert set(TINY) == set(registry.NETWORKS)
    for name, entry in registry.NETWORKS.items():
        assert entry.name == name
        assert entry.summary


def test_names_are_known_without_torch() -> None:
    code = "import sys; from stream_ser.models.registry import NETWORKS as n; print('ast' in n, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_unknown_names_and_foreign_settings_are_refused() -> None:
    with pytest.raises(TrainError, match="unknown network 'resnet'; known: septr, vit, ast"):
        registry.build("resnet", settings("ast"))
    with pytest.raises(TrainError, match="vit is built from a ViTConfig, not from a ASTConfig"):
        registry.build("vit", settings("ast"))


@pytest.mark.parametrize("name", NAMES)
def test_a_window_gives_logits_and_another_size_an_error(name: str) -> None:
    model = network(name, num_classes=5)
    assert model(windows(3)).shape == (3, 5)
    assert model.head.out_features == 5
    assert model.embed(windows(3)).shape == (3, model.head.in_features)
    for wrong in (windows()[:, :-1], windows()[:, :, 1:], windows()[0]):
        with pytest.raises(ValueError, match=rf"expected \(batch, {N_MELS}, {N_FRAMES}\)"):
            model(wrong)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name: str) -> None:
    model = network(name)
    torch.nn.functional.cross_entropy(model(windows(6)), torch.arange(6)).backward()
    idle = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


@pytest.mark.parametrize("name", NAMES)
def test_windows_do_not_see_each_other(name: str) -> None:
    model, x = network(name).eval(), windows()
    alone = torch.cat([model(window[None]) for window in x])
    torch.testing.assert_close(model(x), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_newest_frame_counts(name: str) -> None:
    """Where a grid does not fill the window, it is the oldest audio that goes unused."""
    model, x = network(name).eval(), windows(1)
    changed = x.clone()
    changed[:, :, -1] += 3.0
    assert not torch.equal(model(x), model(changed))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_network(name: str) -> None:
    assert torch.equal(network(name).eval()(windows()), network(name).eval()(windows()))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory):
    """``exported(name)``: the tiny network and its ONNX file, written once."""
    made: dict[str, tuple[WindowNetwork, Path]] = {}
    folder = tmp_path_factory.mktemp("onnx")

    def export(name: str) -> tuple[WindowNetwork, Path]:
        if name not in made:
            window = WindowConfig(frames=N_FRAMES, hop=25, minimum=50, shortest=30)
            card = Card(name, LABELS, FeatureConfig(), (-6.0,) * N_MELS, (3.0,) * N_MELS, window)
            model = network(name)
            model.train()(windows(8))  # statistics of batch norm that are not those of the start
            checkpoints.write_onnx(model.eval(), card, folder / f"{name}.onnx")
            made[name] = model, folder / f"{name}.onnx"
        return made[name]

    return export


@pytest.mark.parametrize("name", WINDOWED)
def test_the_weights_come_back_from_the_file(name: str, exported) -> None:
    model, path = exported(name)
    again = network(name)
    for parameter in again.parameters():
        torch.nn.init.zeros_(parameter)
    again.load_state_dict(onnx_weights.read_weights(again, path), strict=False)
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(windows()), model(windows()), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", WINDOWED)
def test_the_file_equals_torch(name: str, exported) -> None:
    model, path = exported(name)
    assert parity.largest_difference(path, model, windows(5), batch=3) <= 1e-4
    assert [p.name for p in path.parent.glob(f"{name}.onnx*")] == [path.name]


@pytest.mark.parametrize("name", WINDOWED)
def test_the_runtime_recognises_with_it(name: str, exported, speechlike) -> None:
    _, path = exported(name)
    events = Recognizer(engine.load(str(path), "cpu")).push(speechlike(2.0))
    predictions = [event for event in events if isinstance(event, Prediction)]
    assert len(predictions) > 3
    for prediction in predictions:
        assert sum(prediction.probabilities) == pytest.approx(1.0, abs=1e-5)


def test_the_control_has_the_same_matrices() -> None:
    """Only the tables of positions differ."""
    separable = network("septr", depth=2)
    values = {**TINY["septr"], "depth": 4}
    torch.manual_seed(0)
    joint = registry.build("vit", vit.ViTConfig(n_mels=N_MELS, n_frames=N_FRAMES, num_classes=6, **values))

    def shapes(model: WindowNetwork) -> list[tuple[str, torch.Size]]:
        return sorted((key, p.shape) for key, p in model.state_dict().items() if "position" not in key)

    assert shapes(separable) == shapes(joint)
    height, width = separable.config.grid
    assert joint.position.shape[0] == height * width + 1


def test_joint_attention_sees_across_both_axes() -> None:
    model = network("vit", pool="cls", patch=(16, 10)).eval()
    x = windows(1)
    kept = {}
    model.layers[0].register_forward_hook(lambda _module, _args, out: kept.setdefault(len(kept), out.detach()))
    changed = x.clone()
    changed[:, :16, -10:] += 1.0
    model(x), model(changed)
    assert (kept[0] - kept[1]).abs().amax(dim=-1).min() > 0


def test_the_mean_vector_leaves_the_padding_out() -> None:
    heard = torch.randn(2, 8, 20)
    padded = torch.cat((torch.full((2, 8, 30), -4.0), heard), dim=2)
    mean = inputs.MeanVector()
    torch.testing.assert_close(mean(padded), heard.mean(dim=2)[:, None])
    # A full window leaves out its oldest frame alone, one of nothing but silence gives that silence.
    torch.testing.assert_close(mean(heard), heard[:, :, 1:].mean(dim=2)[:, None])
    silence = torch.full((1, 8, 20), -4.0)
    torch.testing.assert_close(mean(silence), silence[:, None, :, 0])
    # Silence between words is no padding.
    words = torch.cat((heard[:1], silence, heard[1:]), dim=2)
    torch.testing.assert_close(mean(words), words[:, :, 1:].mean(dim=2)[:, None])


def test_pools_of_tokens() -> None:
    cls, rows = torch.randn(2, 4), torch.randn(2, 5, 4)
    assert torch.equal(layers.TokenPool("cls", 4)(cls, rows), cls)
    torch.testing.assert_close(layers.TokenPool("mean", 4)(cls, rows), rows.mean(dim=1))
    pool = layers.TokenPool("attention", 4)
    with torch.no_grad():
        pool.score.weight.copy_(torch.tensor([[100.0, 0.0, 0.0, 0.0]]))
    best = rows[torch.arange(2), rows[:, :, 0].argmax(dim=1)]
    torch.testing.assert_close(pool(cls, rows), best, atol=1e-2, rtol=0)


@pytest.mark.parametrize("length", range(12, 40))
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 0), (11, 4, 2), (16, 10, 0)])
def test_a_crop_ends_at_the_newest(length: int, kernel: int, stride: int, padding: int) -> None:
    if length < kernel:
        return
    kept = layers.CropOldest(kernel, stride, padding)(torch.arange(length))
    assert kept[-1] == length - 1
    assert (len(kept) + 2 * padding - kernel) % stride == 0
    used, whole = (layers.output_length(n, kernel, stride, padding) for n in (len(kept), length))
    assert used == whole


def test_published_sizes() -> None:
    """Parameter counts that the literature gives, at its input sizes."""

    def count(model: torch.nn.Module) -> int:
        return sum(p.numel() for p in model.parameters())

    with torch.device("meta"):
        assert count(lenet.LeNet5(lenet.LeNet2dConfig(num_classes=10))) == 61_706
        big = vgg.VGG2dConfig(
            n_mels=224,
            n_frames=224,
            num_classes=1000,
            image=(0, 0),
            channels=(64, 128, 256, 512, 512),
            hidden=(4096, 4096),
            norm=False,
        )
        # 138,357,544 with three input channels instead of one.
        assert count(vgg.VGG16(big)) == 138_357_544 - 2 * 9 * 64
        base = ast.ASTConfig(
            n_mels=128, n_frames=1024, num_classes=527, stride=(10, 10), dim=768, depth=12, heads=12, mlp_dim=3072
        )
        assert base.grid == (12, 101)
        # ViT-B/16's encoder: 12 layers of 7,087,872 and the last norm.
        assert count(ast.AST(base).layers) == 12 * 7_087_872


def weighted(model: torch.nn.Module) -> int:
    kinds = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Linear)
    return sum(isinstance(module, kinds) for module in model.modules())


def test_layers_with_weights() -> None:
    assert [weighted(network(name)) for name in ("lenet5-1d", "alexnet-1d", "vgg16-1d", "vgg16-2d")] == [5, 8, 16, 16]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("vit", {"pool": "sum"}, "pool 'sum' is not one of cls, mean, attention"),
        ("vit", {"num_classes": 0}, "at least 1"),
        ("ast", {"heads": 3}, "3 heads do not divide dim 16"),
        ("ast", {"patch": (16,)}, "height and a width"),
        ("ast", {"patch": (65, 16)}, "larger than the input"),
        ("ast", {"stride": (0, 16)}, "at least 1"),
        ("ast", {"dropout": 1.0}, r"dropout 1.0 must be in \[0, 1\)"),
        ("alexnet-1d", {"signal": "loud"}, "signal 'loud' is not one of mean, time"),
        ("alexnet-1d", {"signal": "mean", "n_mels": 40}, "63 or more values, not 40"),
        ("alexnet-1d", {"channels": (8, 8)}, "five widths"),
        ("vgg16-1d", {"n_mels": 31}, "32 or more, not 31"),
        ("vgg16-2d", {"image": (32,)}, "height and a width"),
        ("vgg16-2d", {"image": (16, 64)}, "32 or more, not 16 x 64"),
        ("vgg16-2d", {"hidden": (8,)}, "hidden"),
        ("lenet5-1d", {"n_frames": 15}, "16 or more, not 15"),
        ("lenet5-2d", {"channels": (6,)}, "two widths each"),
        ("lenet5-2d", {"activation": "step"}, "activation 'step'"),
    ],
)
def test_impossible_settings_are_refused(name: str, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(name, **changes)


@pytest.mark.parametrize(("signal", "n_mels"), [("mean", 63), ("mean", 64), ("mean", 128), ("time", 40)])
def test_alexnet_at_its_smallest(signal: str, n_mels: int) -> None:
    model = network("alexnet-1d", signal=signal, n_mels=n_mels)
    assert model(torch.randn(2, n_mels, N_FRAMES)).shape == (2, 6)


def test_complexity_by_hand() -> None:
    # LeNet-5: two convolutions of 5 x 5 over 28 x 28 and 10 x 10 places, then 400-120-84-6.
    by_hand = 28 * 28 * 25 * 6 + 10 * 10 * 25 * 6 * 16 + 400 * 120 + 120 * 84 + 84 * 6
    cost = complexity(lenet.LeNet5(lenet.LeNet2dConfig()), 64, 300)
    assert (cost.macs, cost.parameters) == (by_hand, 61_706 - 4 * 85)


def test_complexity_of_attention_by_hand() -> None:
    n, dim, mlp = 4 * 10 + 1, 16, 16
    layer = n * (3 * dim * 16 + 16 * dim + 2 * dim * mlp) + 2 * n * n * 16
    joint = network("vit", pool="cls", dropout=0.1)
    before = [p.clone() for p in joint.parameters()]
    by_hand = 40 * 160 * dim + 2 * layer + dim * 6
    assert complexity(joint.eval(), N_MELS, N_FRAMES).macs == by_hand
    assert not joint.training
    assert all(torch.equal(a, b) for a, b in zip(before, joint.parameters(), strict=True))
    # torch's own encoder layers have a fused path in evaluation mode, which would hide their products.
    plain = network("ast")
    tokens_ = plain.config.grid[0] * plain.config.grid[1]
    n = tokens_ + 1
    by_hand = tokens_ * 256 * 16 + 2 * (n * 4 * 16 * 16 + 2 * n * n * 16 + 2 * n * 16 * 16) + 16 * 6
    assert complexity(plain.eval(), N_MELS, N_FRAMES).macs == by_hand


def test_separable_attention_is_cheaper() -> None:
    """What the paper is about: f t (f + t) against (f t)^2."""
    many = {"patch": (2, 2), "stem": "patch", "stem_channels": (), "pool": "cls"}
    separable = complexity(network("septr", **many), N_MELS, N_FRAMES).macs
    joint = complexity(network("vit", **many), N_MELS, N_FRAMES).macs
    assert separable < joint / 5


def test_examples_in_the_documentation() -> None:
    for module in (alexnet, ast, inputs, layers, lenet, septr, tokens, vgg, vit):
        assert doctest.testmod(module).failed == 0


def test_settings_are_values() -> None:
    for name in NAMES:
        config = settings(name)
        assert replace(config) == config
        assert hash(config) == hash(replace(config))


def test_logits_are_finite_on_silence_and_extremes() -> None:
    for name in NAMES:
        model = network(name).eval()
        for level in (-10.0, 0.0, 10.0):
            assert np.isfinite(model(torch.full((1, N_MELS, N_FRAMES), level)).detach().numpy()).all(), name


def test_complexity_where_batch_norm_spans_processes(tmp_path: Path) -> None:
    """On several GPUs batch norm is joined over them, which the count's own pass cannot be."""
    joined = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network("vgg16-2d"))
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        assert complexity(joined, N_MELS, N_FRAMES) == complexity(network("vgg16-2d"), N_MELS, N_FRAMES)
    finally:
        torch.distributed.destroy_process_group()
