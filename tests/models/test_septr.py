import pytest

torch = pytest.importorskip("torch")

from stream_ser.models.septr import SepTr, SepTrConfig  # noqa: E402
from stream_ser.models.tokens import ConvStem  # noqa: E402

SMALL = {"n_mels": 8, "n_frames": 12, "num_classes": 6, "dim": 16, "depth": 2, "heads": 2, "dim_head": 8, "mlp_dim": 24}
ORDERS = ["frequency-time", "time-frequency", "frequency", "time"]


def test_published_size() -> None:
    with torch.device("meta"):
        model = SepTr(SepTrConfig())
    assert sum(p.numel() for p in model.parameters()) == 9_459_235


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("patch", [(1, 1), (2, 3), (3, 5), (8, 12)])
def test_any_patch_and_order(order: str, patch: tuple[int, int]) -> None:
    model = SepTr(SepTrConfig(**SMALL, patch=patch, order=order))
    logits = model(torch.randn(3, 8, 12))
    assert logits.shape == (3, 6)
    logits.sum().backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert missing == []


@pytest.mark.parametrize("order", ORDERS)
def test_examples_do_not_see_each_other(order: str) -> None:
    torch.manual_seed(0)
    model = SepTr(SepTrConfig(**SMALL, order=order)).eval()
    x = torch.randn(4, 8, 12)
    alone = torch.cat([model(row[None]) for row in x])
    torch.testing.assert_close(model(x), alone, atol=1e-5, rtol=1e-5)


def reference_block(model: SepTr, x: torch.Tensor) -> torch.Tensor:
    """The paper's description in loops, one line at a time, for one example."""

    def layer(module, line, cls):
        y = torch.cat([cls[None], line]) + module.position
        z = module.norm_attention(y)
        heads, width = module.attention.heads, module.attention.to_qkv.out_features // 3
        q, k, v = module.attention.to_qkv(z).split(width, dim=-1)
        out = []
        for h in range(heads):
            part = slice(h * width // heads, (h + 1) * width // heads)
            weights = torch.softmax(q[:, part] @ k[:, part].T / (width // heads) ** 0.5, dim=-1)
            out.append(weights @ v[:, part])
        y = y + module.attention.to_out(torch.cat(out, dim=-1))
        y = y + module.mlp(module.norm_mlp(y))
        return y[1:], y[0]

    tokens = model.stem.projection(x[..., None])
    cls = model.cls_token
    for module in model.layers:
        lines = tokens.transpose(0, 1) if module.axis == "frequency" else tokens
        done = [layer(module, line, cls) for line in lines]
        cls = torch.stack([c for _, c in done]).mean(0)
        tokens = torch.stack([t for t, _ in done])
        tokens = tokens.transpose(0, 1) if module.axis == "frequency" else tokens
    return model.head(cls)


@pytest.mark.parametrize("order", ORDERS)
def test_equals_the_description_line_by_line(order: str) -> None:
    torch.manual_seed(1)
    model = SepTr(SepTrConfig(**SMALL, order=order)).double().eval()
    x = torch.randn(8, 12, dtype=torch.float64)
    torch.testing.assert_close(model(x[None])[0], reference_block(model, x), atol=1e-10, rtol=1e-10)


def test_one_axis_alone_never_mixes_the_other_tokens() -> None:
    torch.manual_seed(2)
    layer = SepTr(SepTrConfig(**SMALL, order="frequency")).layers[0].eval()
    tokens, cls = torch.randn(1, 8, 12, 16), torch.zeros(1, 16)
    changed = tokens.clone()
    changed[:, :, 5] += 1.0
    difference = (layer(tokens, cls)[0] - layer(changed, cls)[0]).abs().sum(dim=(0, 1, 3))
    assert difference[5] > 0
    assert difference[torch.arange(12) != 5].max() == 0


@pytest.mark.parametrize(("patch", "layers"), [((8, 8), 3), ((8, 8), 6), ((16, 8), 8), ((4, 16), 11), ((2, 2), 1)])
def test_the_convolution_stem_gives_the_grid(patch: tuple[int, int], layers: int) -> None:
    config = SepTrConfig(
        **{**SMALL, "n_mels": 64, "n_frames": 100}, patch=patch, stem="conv", stem_channels=(8,) * layers
    )
    tokens = ConvStem(config)(torch.randn(2, 64, 100))
    assert tokens.shape == (2, *config.grid, 16)
    assert SepTr(config)(torch.randn(2, 64, 100)).shape == (2, 6)


def test_dropout_acts_in_training_only() -> None:
    model = SepTr(SepTrConfig(**SMALL, dropout=0.5))
    x = torch.randn(2, 8, 12)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": "diagonal"}, "order"),
        ({"stem": "magic"}, "stem"),
        ({"depth": 0}, "at least 1"),
        ({"patch": (9, 1)}, "larger than the input"),
        ({"stem": "conv"}, "needs stem_channels"),
        ({"stem": "conv", "stem_channels": (8, 8), "patch": (3, 2)}, "powers of two"),
        ({"stem": "conv", "stem_channels": (8, 8), "patch": (2, 8)}, "needs 3 or more stem_channels"),
    ],
)
def test_impossible_settings_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SepTrConfig(**{**SMALL, **change})
    with pytest.raises(ValueError, match="expected"):
        SepTr(SepTrConfig(**SMALL))(torch.zeros(1, 8, 13))
