"""A memory of the voice: its sums, what an empty one changes, and that it learns voices on generated embeddings."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from stream_ser.errors import DataError  # noqa: E402
from stream_ser.models.session import SessionHead, summed  # noqa: E402
from stream_ser.train.evaluation import sessions  # noqa: E402
from stream_ser.train.evaluation.sessions import Utterances, draw_history  # noqa: E402
from stream_ser.train.experiments.teacher import unheard_posteriors  # noqa: E402

CLASSES, WIDTH = 4, 12


def voices(speakers: int, seed: int, spread: float = 2.0) -> Utterances:
    """Classes at fixed places, every speaker shifted by a draw of his own as far as classes are apart."""
    places = np.random.default_rng(0).standard_normal((CLASSES, WIDTH)) * 1.5
    rng = np.random.default_rng(seed)
    shifts = rng.standard_normal((speakers, WIDTH)) * spread
    numbers = np.repeat(np.arange(speakers), 40)
    truth = np.tile(np.repeat(np.arange(CLASSES), 10), speakers)
    embeddings = places[truth] + shifts[numbers] + rng.standard_normal((len(truth), WIDTH))
    return Utterances((embeddings / 3.0).astype(np.float32), truth, numbers, CLASSES, neutral=1)


def test_utterance_by_utterance_is_all_at_once() -> None:
    torch.manual_seed(0)
    head = SessionHead(WIDTH, CLASSES).eval()
    embeddings = torch.randn(3, 5, WIDTH)
    one_by_one = head.begin(3)
    for n in range(5):
        one_by_one = head.hear(embeddings[:, n], one_by_one)
    at_once = summed(embeddings, head.base(embeddings).softmax(dim=-1))
    for ours, theirs in zip(one_by_one, at_once, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        head(embeddings[:, 0], one_by_one), head(embeddings[:, 0], at_once), atol=1e-5, rtol=1e-5
    )


def test_an_empty_session_changes_nothing_whatever_was_learnt() -> None:
    torch.manual_seed(0)
    head = SessionHead(WIDTH, CLASSES)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(6, WIDTH)
    torch.testing.assert_close(head(x, head.begin(6)), head.base(x), atol=1e-5, rtol=1e-5)


def test_the_order_of_what_was_heard_does_not_matter() -> None:
    torch.manual_seed(0)
    head = SessionHead(WIDTH, CLASSES)
    x = torch.randn(1, 7, WIDTH)
    p = head.base(x).softmax(dim=-1)
    back = summed(x.flip(1), p.flip(1))
    torch.testing.assert_close(head(x[:, 0], summed(x, p)), head(x[:, 0], back), atol=1e-5, rtol=1e-5)


def test_the_gate_sees_whether_emotions_were_mixed() -> None:
    head = SessionHead(WIDTH, CLASSES, neutral=2)
    sure = torch.eye(CLASSES)[None]
    mixed = head.scalars(summed(torch.zeros(1, CLASSES, WIDTH), sure))[0]
    same = head.scalars(summed(torch.zeros(1, CLASSES, WIDTH), sure[:, :1].expand(-1, CLASSES, -1)))[0]
    assert mixed[0] == pytest.approx(1.0, abs=1e-3)  # entropy
    assert same[0] == pytest.approx(0.0, abs=1e-3)
    assert mixed[2] == pytest.approx(1 / CLASSES, abs=1e-3)  # agreement
    assert same[2] == pytest.approx(1.0, abs=1e-3)
    assert (mixed[4].item(), same[4].item()) == (0.25, 0.0)  # neutral


@pytest.mark.parametrize("mix", sessions.MIXES)
def test_a_history_is_of_the_speaker_and_not_the_clip_itself(mix) -> None:
    data = voices(3, 0)
    rows = np.arange(0, 120, 7)
    drawn = draw_history(data, rows, 12, mix, np.random.default_rng(1))
    assert drawn.shape == (len(rows), 12)
    assert (data.speakers[drawn] == data.speakers[rows][:, None]).all()
    assert not (drawn == rows[:, None]).any()
    labels = data.truth[drawn]
    if mix == "same":
        assert (labels == data.truth[rows][:, None]).all()
    elif mix == "one":
        assert (labels == labels[:, :1]).all()
        assert len(np.unique(labels[:, 0])) > 1
    else:
        share = (labels == 1).mean()
        assert share > 0.6 if mix == "neutral" else 0.1 < share < 0.4


def test_a_single_utterance_has_no_history() -> None:
    data = Utterances(np.zeros((1, 2), np.float32), np.zeros(1, np.int64), np.zeros(1, np.int64), 2, 0)
    with pytest.raises(DataError, match="single utterance"):
        draw_history(data, np.arange(1), 3, "balanced", np.random.default_rng(0))
    with pytest.raises(DataError, match="2 embeddings, 1 labels"):
        Utterances(np.zeros((2, 2), np.float32), np.zeros(1, np.int64), np.zeros(2, np.int64), 2, 0)


@pytest.mark.slow
def test_it_learns_what_a_voice_is() -> None:
    """Speakers who are shifted as far as emotions are apart: a memory helps new ones, and costs little at any mix."""
    known, new = voices(60, 1, 1.3), voices(12, 2, 1.3)
    names = [f"x/{n}" for n in known.speakers]
    posteriors = unheard_posteriors(known.embeddings, known.truth, names, CLASSES)
    head = sessions.fit(known, posteriors, passes=60, decay=0.01)
    table = sessions.measure(head, new, draws=2)
    without = table["balanced"][0]
    assert without < 0.95
    assert table["balanced"][30] > without + 0.04
    assert all(row[0] == without for row in table.values())
    assert min(value for row in table.values() for value in row.values()) > without - 0.03


def test_the_same_seed_gives_the_same_head() -> None:
    known = voices(6, 1)
    posteriors = np.full((len(known.truth), CLASSES), 0.25, np.float32)
    first, again = (sessions.fit(known, posteriors, passes=2) for _ in range(2))
    for ours, theirs in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_another_classifiers_logits_are_changed_by_as_much() -> None:
    """With the head's own logits it is the head again; without a memory the others' stand alone."""
    known, new = voices(20, 1), voices(6, 2)
    head = sessions.fit(known, np.full((len(known.truth), CLASSES), 0.25, np.float32), passes=4)
    with torch.no_grad():
        own = head.base(torch.from_numpy(new.embeddings)).numpy()
    alone, added = sessions.measure(head, new, draws=1), sessions.measure(head, new, own, draws=1)
    for mix, row in alone.items():
        assert added[mix] == pytest.approx(row, abs=5e-3)
    perfect = np.eye(CLASSES, dtype=np.float32)[new.truth] * 100.0
    assert sessions.measure(head, new, perfect, draws=1)["balanced"] == dict.fromkeys(sessions.SHOWN, 1.0)


def test_the_table_of_whisper_needs_no_network(tmp_path, tiny_crema_d) -> None:
    from click.testing import CliRunner

    from stream_ser.train.experiments import sessions

    line = ["--data", f"crema-d={tiny_crema_d}"]
    for more, said in (
        (["--leave-out", "nemo"], "not among the corpora"),
        (["--head", str(tmp_path / "head.pt")], "give it with --run"),
    ):
        wrong = CliRunner().invoke(sessions.main, [*line, *more])
        assert wrong.exit_code == 2
        assert said in wrong.output
