"""Recipes: by name, from files, changed from the command line, and back from a run's record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from stream_ser.errors import TrainError  # noqa: E402
from stream_ser.features.log_mel import mel_filterbank  # noqa: E402
from stream_ser.models import registry  # noqa: E402
from stream_ser.models.lenet import LeNet2dConfig  # noqa: E402
from stream_ser.train import presets  # noqa: E402
from stream_ser.train.config import RunConfig  # noqa: E402
from stream_ser.train.evaluation.complexity import complexity  # noqa: E402

EVERY = [(network, name) for network, recipes in presets.PRESETS.items() for name in recipes]


def test_every_network_has_a_default() -> None:
    assert list(presets.PRESETS) == list(registry.NETWORKS)
    assert all(next(iter(recipes)) == "default" for recipes in presets.PRESETS.values())


@pytest.mark.parametrize(("network", "name"), EVERY)
def test_recipes_build_and_come_back_from_json(network: str, name: str) -> None:
    config = presets.preset(network, name)
    assert config.network == network
    with torch.device("meta"):
        registry.build(network, config.model)
    assert mel_filterbank(config.features).shape[1] == config.model.n_mels
    assert config.model.n_frames == config.window.frames
    assert RunConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config


@pytest.mark.parametrize("network", list(presets.PRESETS))
def test_defaults_are_affordable(network: str) -> None:
    """At most 3 GFLOP a window, and 16 MB but for VGG."""
    config = presets.preset(network)
    with torch.device("meta"):
        model = registry.build(network, config.model)
    cost = complexity(model, config.model.n_mels, config.model.n_frames)
    assert cost.macs <= 1.5e9
    assert cost.parameters <= (6e6 if network.startswith("vgg") else 4e6)


@pytest.mark.parametrize("name", ["default", "patches"])
def test_the_control_is_as_large_as_septr(name: str) -> None:
    sizes = []
    for network in ("septr", "vit"):
        config = presets.preset(network, name)
        with torch.device("meta"):
            sizes.append(sum(p.numel() for p in registry.build(network, config.model).parameters()))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)


@pytest.mark.parametrize("order", ["frequency-time", "time-frequency", "frequency", "time"])
def test_the_orders_of_septr(order: str) -> None:
    config = presets.apply(presets.preset("septr"), [f"model.order={order}"])
    assert config.model.order == order


def test_unknown_names() -> None:
    with pytest.raises(TrainError, match="unknown preset 'miracle'; septr has default, patches, published"):
        presets.preset("septr", "miracle")
    with pytest.raises(TrainError, match="unknown network 'resnet'; known: septr"):
        presets.preset("resnet")


def test_a_run_before_there_were_other_networks_is_a_septr() -> None:
    old = presets.preset("septr").as_dict()
    del old["network"], old["model"]["pool"]
    assert RunConfig.from_dict(old) == presets.preset("septr")


def test_the_settings_must_be_of_the_network() -> None:
    with pytest.raises(TrainError, match="septr needs a SepTrConfig, not a LeNet2dConfig"):
        RunConfig(LeNet2dConfig())
    with pytest.raises(TrainError, match="unknown network"):
        RunConfig(LeNet2dConfig(), network="resnet")
    with pytest.raises(TrainError, match="unexpected keyword"):
        RunConfig.from_dict({**presets.preset("septr").as_dict(), "network": "ast"})


def test_changes_are_typed() -> None:
    changes = ["model.image=48x60", "model.norm=true", "augment.expand=original,noise", "train.lr=1"]
    config = presets.apply(presets.preset("lenet5-2d"), [*changes, "features.n_mels=40", "window.frames=350"])
    assert config.model == LeNet2dConfig(n_mels=40, n_frames=350, image=(48, 60), norm=True)
    assert config.augment.expand == ("original", "noise")
    assert isinstance(config.train.lr, float)
    empty = presets.apply(presets.preset("septr", "patches"), ["model.stem_channels=8,8,8,8", "model.pool=attention"])
    assert empty.model.stem_channels == (8, 8, 8, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.norm=maybe", "--set model.norm=maybe: expected a value like False"),
        ("model.image=big", "expected a value like"),
        ("model.image=8x8", "16 or more"),
        ("model.order=time", "unknown field 'order'; model has n_mels"),
        ("model.hidden=120.5,84", "expected a value like"),
        ("model.n_mels=40", "model.n_mels 40 is not features.n_mels 64; set features.n_mels alone"),
        ("model.n_frames=100", "set window.frames alone"),
    ],
)
def test_changes_that_make_no_sense(change: str, message: str) -> None:
    with pytest.raises(TrainError, match=message):
        presets.apply(presets.preset("lenet5-2d"), [change])


def test_a_recipe_file(tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    content = {"preset": "patches", "model": {"patch": [8, 20], "order": "time"}, "augment": {"speeds": [1.0]}}
    file.write_text(json.dumps(content))
    config = presets.preset("septr", str(file))
    base = presets.preset("septr", "patches")
    assert config == replace(
        base, model=replace(base.model, patch=(8, 20), order="time"), augment=replace(base.augment, speeds=(1.0,))
    )


@pytest.mark.parametrize(("network", "name"), EVERY)
def test_a_runs_record_is_a_recipe_file(network: str, name: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(presets.preset(network, name).as_dict()))
    assert presets.preset(network, str(file)) == presets.preset(network, name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a readable recipe"),
        ("[]", "expected sections"),
        ('{"network": "ast"}', "a recipe of ast, not of septr"),
        ('{"preset": "miracle"}', "unknown preset 'miracle'"),
        ('{"model": 3}', "model is 3, expected a section"),
        ('{"model": {"colour": 3}}', "recipe.json 'model.colour=3': unknown field"),
        ('{"model": {"dim": "many"}}', "recipe.json model.dim=many: expected a value like 192"),
        ('{"model": {"dim": 0}}', "recipe.json: depth, heads"),
        ('{"style": {"dim": 0}}', "unknown section 'style'"),
    ],
)
def test_broken_recipe_files(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(content)
    with pytest.raises(TrainError, match=message):
        presets.preset("septr", str(file))
    with pytest.raises(TrainError, match="not a readable recipe"):
        presets.preset("septr", str(tmp_path / "nowhere.json"))
