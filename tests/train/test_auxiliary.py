"""The auxiliary task: which sentence is spoken."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training import make, strip, tiny_config  # noqa: E402

from stream_ser.models import registry  # noqa: E402
from stream_ser.train.checkpoint import CHECKPOINT, read_checkpoint, trained_network  # noqa: E402
from stream_ser.train.data.corpora import Clip  # noqa: E402
from stream_ser.train.losses.sentences import WithSentences, sentence_loss, sentence_targets, sentences_of  # noqa: E402
from stream_ser.train.trainer import Trainer  # noqa: E402


def clip(text: str, speaker: str = "s") -> Clip:
    return Clip(Path("a.wav"), "anger", speaker, text=text)


def test_sentences_are_those_of_several_speakers() -> None:
    clips = [clip("b"), clip(""), clip("a"), clip("b", "t"), clip("a", "t"), clip("own"), clip("own"), clip("", "t")]
    assert sentences_of(clips) == ("a", "b")


@pytest.mark.parametrize("texts", [("", ""), ("a", "a"), ("a", "b")])
def test_nothing_to_tell_apart_is_no_task(texts: tuple[str, str]) -> None:
    assert sentences_of([clip(texts[0], "s"), clip(texts[1], "t")]) == ()


def test_targets_are_one_hot_and_zero_where_no_sentence_is_said() -> None:
    clips = [clip("b"), clip(""), clip("a"), clip("own")]
    assert sentence_targets(clips, ("a", "b")).tolist() == [[0, 1], [0, 0], [1, 0], [0, 0]]


def test_a_clip_without_text_pulls_at_nothing() -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    sentence_loss(logits, torch.tensor([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])).backward()
    assert logits.grad is not None
    assert logits.grad[1].abs().max() == 0.0
    assert logits.grad[0].abs().min() > 0.0


def test_both_heads_see_one_embedding() -> None:
    config = tiny_config()
    network = registry.build(config.network, config.model).eval()
    both = WithSentences(network, 3).eval()
    x = torch.randn(2, config.model.n_mels, config.model.n_frames)
    out = both(x)
    assert out.shape == (2, config.model.num_classes + 3)
    torch.testing.assert_close(out[:, : config.model.num_classes], network(x))
    torch.testing.assert_close(out[:, config.model.num_classes :], both.sentences(network.embed(x)))


@pytest.fixture(scope="module")
def whole(tiny_crema_d: Path, tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """An unbroken run with the task."""
    run = make(tiny_crema_d, tmp_path_factory.mktemp("runs") / "whole", "train.sentences=0.5")
    run.fit()
    return run


def test_the_task_changes_learning_and_leaves_the_network_as_it_was(whole: Trainer, septr_run: Trainer) -> None:
    assert strip(whole.history) != strip(septr_run.history)
    state = read_checkpoint(whole.out / CHECKPOINT)
    assert set(trained_network(state).state_dict()) == set(septr_run.model.network.state_dict())


def test_resume_gives_what_the_unbroken_run_gives(whole: Trainer, tiny_crema_d: Path, tmp_path: Path) -> None:
    first = make(tiny_crema_d, tmp_path / "broken", "train.sentences=0.5")

    class StopError(Exception):
        pass

    def stop(_: object) -> None:
        raise StopError

    with pytest.raises(StopError):
        first.fit(on_epoch=stop)
    second = make(tiny_crema_d, tmp_path / "broken", "train.sentences=0.5")
    assert second.resume()
    second.fit()
    assert strip(second.history) == strip(whole.history)
    assert whole.auxiliary is not None
    assert second.auxiliary is not None
    np.testing.assert_array_equal(second.auxiliary.weight.detach(), whole.auxiliary.weight.detach())
