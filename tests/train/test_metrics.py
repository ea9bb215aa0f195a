import numpy as np
import pytest

from stream_ser.train.metrics import (
    answers,
    calibrated_ece,
    clip_means,
    confusion_matrix,
    cross_fitted_ece,
    ece,
    fit_temperature,
    fit_temperature_windows,
    present_classes,
    reliability,
    restrict,
    score,
    score_speakers,
    softmax,
    uar_interval,
)


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


def test_reliability_bins_by_hand() -> None:
    # The upper edge belongs to a bin: .8 is in (.6, .8].
    bins = reliability(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), np.array([0, 1, 1]), bins=5)
    assert bins.counts.tolist() == [0, 0, 0, 2, 1]
    assert bins.confidence == pytest.approx([0, 0, 0, 0.75, 0.9])
    assert bins.accuracy == pytest.approx([0, 0, 0, 0.5, 1.0])
    assert bins.ece == pytest.approx((2 * 0.25 + 0.1) / 3)


def drawn_clips(clips: int, windows: int, temperature: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows whose softmax, averaged over the clip at ``temperature``, is the truth's very distribution."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(clips * windows, 4)) * 2
    owners = np.repeat(np.arange(clips), windows)
    truth = np.array([rng.choice(4, p=p) for p in clip_means(softmax(logits), owners)])
    return temperature * logits, owners, truth


def test_temperature_of_windows_is_that_of_their_mean_probabilities() -> None:
    logits, owners, truth = drawn_clips(8_000, 4, 2.0)
    fitted = fit_temperature_windows(logits, owners, truth)
    assert fitted == pytest.approx(2.0, rel=0.07)
    # The mean logits' temperature is not it: with it, the mean probabilities are not calibrated.
    other = fit_temperature(clip_means(logits, owners), truth)
    assert abs(other - fitted) > 0.2
    errors = [ece(clip_means(softmax(logits, t), owners), truth) for t in (fitted, other)]
    assert errors[0] < 0.02 < errors[1]


def test_temperature_is_the_smallest_likelihood_of_a_fine_grid() -> None:
    logits, owners, truth = drawn_clips(50, 3, 1.7)

    def nll(temperature: float) -> float:
        return score(clip_means(softmax(logits, temperature), owners), truth).nll

    fitted = fit_temperature_windows(logits, owners, truth)
    assert nll(fitted) <= min(nll(t) for t in np.geomspace(0.1, 10, 2_000)) + 1e-9


def test_temperature_stays_finite() -> None:
    truth = np.array([0, 1, 1])
    right = np.eye(2)[truth]
    assert fit_temperature(1e4 * right, truth) <= 10.0
    assert fit_temperature(-right, truth) == pytest.approx(10.0, rel=1e-3)
    assert fit_temperature(right, truth) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize(
    ("owners", "truth"), [([0, 0], [0, 1]), ([0, 2], [0, 1]), ([0, 1, 1], [0, 1]), ([0, 1], [0, 1, 1])]
)
def test_windows_that_fit_no_clips_are_refused(owners, truth) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        fit_temperature_windows(np.zeros((2, 2)), np.array(owners), np.array(truth))


def test_cross_fitting_never_sees_the_clips_own_speaker() -> None:
    # Speaker a is sure and right, b sure and wrong. Together they are fitted at .5; each by the other's, far off.
    logits = np.array([[4.0, 0.0]] * 20)
    truth = np.array([0] * 10 + [1] * 10)
    speakers = ["a"] * 10 + ["b"] * 10
    within = ece(softmax(logits, fit_temperature(logits, truth)), truth)
    assert within == pytest.approx(0.1, abs=0.01)  # at the largest temperature: .6 against .5
    assert cross_fitted_ece(logits, np.arange(20), truth, speakers) == pytest.approx(0.7, abs=0.01)


def test_cross_fitted_ece_is_that_of_alike_speakers_and_seeded() -> None:
    logits, owners, truth = drawn_clips(3_000, 2, 3.0)
    speakers = [f"s{i % 10}" for i in range(3_000)]
    error = cross_fitted_ece(logits, owners, truth, speakers)
    assert error == cross_fitted_ece(logits, owners, truth, speakers)
    assert error is not None
    assert error < 0.04 < ece(clip_means(softmax(logits), owners), truth)
    assert cross_fitted_ece(logits, owners, truth, ["one"] * 3_000) is None


def test_speakers_apart() -> None:
    rows = score_speakers(one_hot([0, 1, 1, 2]), np.array([0, 0, 1, 2]), ["a", "a", "b", "b"])
    assert [(r.speaker, r.clips, r.wa, r.uar) for r in rows] == [("b", 2, 1.0, 1.0), ("a", 2, 0.5, 0.5)]


def test_interval_draws_speakers_not_clips() -> None:
    truth = np.tile([0, 1, 2], 100)
    # Ten speakers alike, each with two of three right: whoever is drawn, the UAR is the same.
    alike = one_hot([0, 1, 0] * 100)
    names = [f"s{i // 30}" for i in range(300)]
    assert uar_interval(alike, truth, names) == pytest.approx((2 / 3, 2 / 3))
    # Half of them all right, half all wrong: the share of the right ones is binomial(10, .5) / 10.
    apart = np.where(np.repeat([[True], [False]], 150, axis=0), np.eye(3)[truth], np.eye(3)[(truth + 1) % 3])
    assert uar_interval(apart, truth, names) == pytest.approx((0.2, 0.8))
    assert uar_interval(apart, truth, ["one"] * 300) is None


def test_interval_leaves_classes_out_that_were_not_drawn() -> None:
    low, high = uar_interval(one_hot([0, 1]), np.array([0, 1]), ["a", "b"]) or (0.0, 0.0)
    assert (low, high) == (1.0, 1.0)


def test_what_nobody_said_is_wrong_whatever_the_first_class() -> None:
    """Uniform rows are clips in which the runtime heard nobody: they once counted as the first class."""
    probabilities = np.array([[1 / 3, 1 / 3, 1 / 3], [0.0, 1.0, 0.0], [0.0, 0.5, 0.5]])
    truth = np.array([0, 1, 1])
    assert answers(probabilities).tolist() == [-1, 1, 1]
    scores = score(probabilities, truth)
    assert (scores.wa, scores.uar) == (pytest.approx(2 / 3), 0.5)
    assert scores.confusion == ((0, 0, 0), (0, 2, 0), (0, 0, 0))
    assert scores.recall == (0.0, 1.0, 0.0)
    # They claim nothing that could be calibrated.
    assert scores.ece == ece(probabilities[1:], truth[1:])
    assert reliability(probabilities, truth).counts.sum() == 2
    assert uar_interval(np.full((4, 2), 0.5), np.array([0, 1, 0, 1]), ["a", "a", "b", "b"]) == (0.0, 0.0)
    assert score(np.full((2, 2), 0.5), np.array([0, 1])).ece == 0.0


def test_a_calibrated_model_shows_an_error_that_falls_with_the_number_of_clips() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), 20_000)
    truth = (probabilities.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    few, many = calibrated_ece(probabilities[:200], 50), calibrated_ece(probabilities, 20)
    assert few[1] < few[0] < few[2]
    assert few[0] > 3 * many[0]
    # These are calibrated: what they show lies where it is said to lie; when sharpened, it does not.
    assert ece(probabilities, truth) < 1.5 * many[2]
    sharp = probabilities**3 / (probabilities**3).sum(axis=1, keepdims=True)
    assert ece(sharp, truth) > 5 * calibrated_ece(sharp, 20)[2]


def test_nothing_claimed_shows_no_error() -> None:
    assert calibrated_ece(np.zeros((3, 4))) == (0.0, 0.0, 0.0)


def test_among_some_classes_the_posterior_is_renormalised() -> None:
    truth = np.array([0, 2, 2])
    present = present_classes(truth, 3)
    assert present.tolist() == [True, False, True]
    probabilities = np.array([[0.3, 0.6, 0.1], [0.1, 0.5, 0.4], [0.0, 1.0, 0.0]])
    among = restrict(probabilities, present)
    np.testing.assert_allclose(among, [[0.75, 0.0, 0.25], [0.2, 0.0, 0.8], [0.0, 1.0, 0.0]])
    assert score(probabilities, truth).uar == 0.0
    assert score(among, truth).recall == (1.0, 0.0, 0.5)  # what was said of an absent class alone stays wrong


def test_nothing_claimed_stays_nothing_among_some_classes() -> None:
    silent = np.full((1, 3), 1.0 / 3.0)
    among = restrict(silent, np.array([True, False, True]))
    assert answers(among).tolist() == [-1]
    own = restrict(np.array([[0.2, 0.3, 0.5]] * 2), np.array([[True, True, False], [False, True, True]]))
    np.testing.assert_allclose(own, [[0.4, 0.6, 0.0], [0.0, 0.375, 0.625]])
