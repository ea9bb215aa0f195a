import numpy as np
import pytest

from stream_ser.train.metrics import confusion_matrix, ece, fit_temperature, score, softmax


def one_hot(predicted: list[int], classes: int = 3) -> np.ndarray:
    return np.eye(classes)[predicted]


def test_known_scores() -> None:
    truth = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    scores = score(one_hot([0, 0, 0, 1, 1, 0, 2, 2]), truth)
    assert scores.wa == pytest.approx(6 / 8)
    assert scores.uar == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    assert scores.f1 == pytest.approx((6 / 8 + 2 / 4 + 1) / 3)
    assert scores.confusion == ((3, 1, 0), (1, 1, 0), (0, 0, 2))
    assert scores.recall == (0.75, 0.5, 1.0)


def test_absent_classes_do_not_count() -> None:
    scores = score(one_hot([0, 1]), np.array([0, 1]))
    assert (scores.uar, scores.f1) == (1.0, 1.0)


def test_confusion_has_truth_in_rows() -> None:
    assert confusion_matrix(np.array([0, 0]), np.array([1, 1]), 2).tolist() == [[0, 2], [0, 0]]


def test_ece_by_hand() -> None:
    # Two in the bin of .9, one right: |.5 - .9|; two in the bin of .6, both right: |1 - .6|.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    assert ece(probabilities, np.array([0, 1, 0, 1])) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)


def test_temperature_is_found_again() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 4)) * 2
    truth = np.array([rng.choice(4, p=p) for p in softmax(logits)])
    assert fit_temperature(3.0 * logits, truth) == pytest.approx(3.0, rel=0.05)
    assert ece(softmax(3.0 * logits, 3.0), truth) < 0.02 < ece(softmax(3.0 * logits), truth)


def test_softmax_is_stable() -> None:
    assert softmax(np.array([1e4, 0.0])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("probabilities", "truth"),
    [(np.ones((2, 2)), [0]), (np.ones(2), [0, 1]), (np.empty((0, 2)), []), (np.full((1, 2), np.nan), [0])],
)
def test_bad_input_is_refused(probabilities, truth) -> None:
    with pytest.raises(ValueError, match=r"do not fit|NaN"):
        score(probabilities, np.array(truth, dtype=np.int64))
