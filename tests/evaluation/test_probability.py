import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from mimstocr.errors import ConfigError, DataError
from mimstocr.evaluation.probability import CLIP, daily_auc, event_metrics, level_metrics, reliability_table

NAN = np.nan
FIGURES = ("accuracy", "majority", "base_rate", "auc", "log_loss", "base_log_loss", "brier", "brier_skill", "ece")


def world(seed, days=8, stocks=15, distinct=None, missing=0.2):
    """Probabilities with some skill, events and gaps; `distinct` values of the probability, so that ties come."""
    random = np.random.default_rng(seed)
    p = random.random((days, stocks))
    y = (random.random(p.shape) < 0.3 + 0.4 * p).astype(float)
    if distinct is not None:
        p = np.floor(p * distinct) / (distinct - 1)
    p[random.random(p.shape) < missing] = NAN
    y[random.random(p.shape) < missing / 2] = NAN
    return p, y


def slow_auc(p, y):
    """Every pair of one that happened and one that did not."""
    won = [(a > b) + (a == b) / 2 for a, x in zip(p, y, strict=True) for b, z in zip(p, y, strict=True) if x > z]
    return sum(won) / len(won) if won else NAN


def slow_ece(p, y):
    """Ten lists."""
    bins = [[] for _ in range(10)]
    for a, b in zip(p, y, strict=True):
        bins[max(k for k in range(10) if a >= k / 10)].append((a, b))
    return sum(abs(sum(a for a, _ in part) - sum(b for _, b in part)) for part in bins) / len(p)


def slow(p, y):
    n, rate = len(y), sum(y) / len(y)
    right = [0.5 if a == 0.5 else float((a > 0.5) == (b == 1)) for a, b in zip(p, y, strict=True)]
    brier = sum((a - b) ** 2 for a, b in zip(p, y, strict=True)) / n
    base = sum((rate - b) ** 2 for b in y) / n
    return {
        "accuracy": sum(right) / n,
        "majority": max(rate, 1 - rate),
        "base_rate": rate,
        "auc": slow_auc(p, y),
        "log_loss": -sum(math.log(max(a if b else 1 - a, CLIP)) for a, b in zip(p, y, strict=True)) / n,
        "base_log_loss": -sum(math.log(rate if b else 1 - rate) for b in y) / n,
        "brier": brier,
        "brier_skill": 1 - brier / base,
        "ece": slow_ece(p, y),
    }


# --- events ------------------------------------------------------------------------------------------------------


def test_four_samples_by_hand():
    found = event_metrics(np.array([0.9, 0.6, 0.4, 0.2]), np.array([1, 0, 1, 0]))
    assert found == {
        "accuracy": 2 / 4,
        "majority": 2 / 4,
        "base_rate": 2 / 4,
        "auc": 3 / 4,  # of the pairs only 0.4 below 0.6 is wrong
        "daily_auc": pytest.approx(NAN, nan_ok=True),
        "daily_auc_days": 0,
        "daily_auc_left_out": 0,
        "log_loss": pytest.approx(-(math.log(0.9) + math.log(0.4) + math.log(0.4) + math.log(0.8)) / 4),
        "base_log_loss": pytest.approx(math.log(2)),
        "brier": pytest.approx((0.1**2 + 0.6**2 + 0.6**2 + 0.2**2) / 4),
        "brier_skill": pytest.approx(1 - (0.1**2 + 0.6**2 + 0.6**2 + 0.2**2) / (4 * 0.5**2)),
        "ece": pytest.approx((0.1 + 0.6 + 0.6 + 0.2) / 4),
        "clipped": 0,
        "samples": 4,
        "left_out": 0,
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("distinct", [None, 6])
def test_events_equal_the_loops(seed, distinct):
    p, y = world(seed, distinct=distinct)
    known = ~np.isnan(p) & ~np.isnan(y)
    found = event_metrics(p, y)
    expected = slow(p[known].tolist(), y[known].tolist())
    assert {name: found[name] for name in FIGURES} == pytest.approx(expected, rel=1e-12)
    by_day = [slow_auc(p[day, known[day]], y[day, known[day]]) for day in range(len(p))]
    assert_allclose(daily_auc(p, y), by_day, rtol=1e-13)
    assert found["daily_auc"] == pytest.approx(np.nanmean(by_day))
    assert found["samples"] == known.sum()
    assert found["left_out"] == (np.isnan(p) != np.isnan(y)).sum() > 0


def test_auc_is_the_statistic_of_mann_and_whitney():
    p, y = world(0, distinct=5, missing=0)
    won = stats.mannwhitneyu(p[y == 1], p[y == 0]).statistic
    assert event_metrics(p, y)["auc"] == pytest.approx(won / ((y == 1).sum() * (y == 0).sum()))


def test_days_of_one_kind_are_left_out_of_the_daily_auc_and_counted():
    p, y = world(1)
    y[0][~np.isnan(y[0])], y[1][~np.isnan(y[1])] = 1, 0
    p[2] = NAN
    p[3, 1:] = NAN
    found, by_day = event_metrics(p, y), daily_auc(p, y)
    assert np.isnan(by_day[:4]).all()
    assert not np.isnan(by_day[4:]).any()
    assert (found["daily_auc_days"], found["daily_auc_left_out"]) == (4, 4)
    assert found["daily_auc"] == pytest.approx(by_day[4:].mean())


def test_knowing_the_days_is_no_daily_auc():
    """One probability for all stocks of a day, right about the days: the ties within are even."""
    y = np.array([[1.0, 1, 1, 0], [0, 0, 0, 1]])
    found = event_metrics(np.array([[0.8] * 4, [0.2] * 4]), y)
    assert found["auc"] == (3 * 3 + 3 / 2 + 3 / 2) / 16
    assert found["daily_auc"] == 0.5


def test_only_the_order_of_probabilities_matters_to_auc():
    p, y = world(2)
    found, bent = event_metrics(p, y), event_metrics(p**3, y)
    for name in ("auc", "daily_auc"):
        assert bent[name] == found[name], name
    assert bent["brier"] != pytest.approx(found["brier"])


def test_the_event_and_its_absence_are_alike():
    """Eighths, whose complements are exact, 0.5 among them."""
    p, y = world(3, distinct=9)
    found, turned = event_metrics(p, y), event_metrics(1 - p, 1 - y)
    for name in set(FIGURES) - {"base_rate", "ece"}:
        assert turned[name] == pytest.approx(found[name], rel=1e-12), name
    assert turned["base_rate"] == pytest.approx(1 - found["base_rate"])


def test_constant_probabilities_know_nothing():
    y = np.array([1, 0, 0, 0])
    for p, accuracy in ((0.25, 0.75), (0.5, 0.5), (0.75, 0.25)):
        found = event_metrics(np.full(4, p), y)
        assert (found["accuracy"], found["auc"]) == (accuracy, 0.5)
    base = event_metrics(np.full(4, 0.25), y)
    assert (base["brier_skill"], base["ece"], base["majority"]) == (0, 0, 0.75)
    assert base["log_loss"] == pytest.approx(base["base_log_loss"])


def test_log_loss_is_bounded_and_the_samples_counted():
    found = event_metrics(np.array([0.0, 1.0, 1.0, 1e-9, 1e-9]), np.array([1, 0, 1, 0, 1]))
    assert np.finfo(np.float32).eps == CLIP
    assert found["log_loss"] == pytest.approx((3 * 23 * math.log(2) - math.log(1 - 1e-9)) / 5)
    assert found["clipped"] == 3
    perfect = event_metrics(np.array([0.0, 1.0]), np.array([False, True]))
    assert [perfect[name] for name in ("accuracy", "auc", "brier_skill")] == [1, 1, 1]
    assert math.copysign(1, perfect["log_loss"]) == 1  # 0, not -0
    assert [perfect[name] for name in ("log_loss", "brier", "ece", "clipped")] == [0, 0, 0, 0]


def test_one_kind_only():
    found = event_metrics(np.array([0.9, 0.7]), np.array([1, 1]))
    assert math.isnan(found["auc"])
    assert math.isnan(found["brier_skill"])
    assert (found["accuracy"], found["majority"], found["base_log_loss"]) == (1, 1, 0)
    assert found["brier"] == pytest.approx((0.1**2 + 0.3**2) / 2)


def test_no_sample():
    for shape in ((0,), (0, 3), (3, 0), (2, 2)):
        found = event_metrics(np.full(shape, NAN), np.full(shape, NAN))
        assert all(math.isnan(found[name]) for name in (*FIGURES, "daily_auc"))
        assert (found["samples"], found["clipped"], found["daily_auc_days"]) == (0, 0, 0)
        assert found["daily_auc_left_out"] == (shape[0] if len(shape) == 2 else 0)


def test_the_order_of_the_columns_does_not_matter():
    p, y = world(4, distinct=6)
    shuffle = np.random.default_rng(0).permutation(p.shape[1])
    assert event_metrics(p[:, shuffle], y[:, shuffle]) == pytest.approx(event_metrics(p, y))
    assert_array_equal(daily_auc(p[:, shuffle], y[:, shuffle]), daily_auc(p, y))


@pytest.mark.parametrize("metric", [event_metrics, daily_auc, reliability_table])
def test_events_refuse(metric):
    good = np.array([[0.5, 0.2]])
    with pytest.raises(DataError, match=r"probability and happened of one shape.*\(1, 2\) and \(2,\); align"):
        metric(good, good[0])
    for bad in (-0.1, 1.1):
        with pytest.raises(DataError, match=rf"probability: expected 0 \.\. 1, got 1 others, such as {bad}; take"):
            metric(np.array([[0.5, bad]]), np.ones((1, 2)))
    with pytest.raises(DataError, match="probability: expected finite"):
        metric(np.array([[0.5, np.inf]]), np.ones((1, 2)))
    with pytest.raises(DataError, match=r"happened: expected 0 .* got 2 others, such as 0.3"):
        metric(good, np.array([[0.3, 2]]))


def test_daily_auc_needs_days():
    with pytest.raises(DataError, match=r"shape \(days, stocks\), got \(2,\)"):
        daily_auc(np.array([0.5, 0.2]), np.array([1, 0]))


# --- reliability -------------------------------------------------------------------------------------------------


def test_reliability_by_hand():
    p = np.array([0.0, 0.1, 0.25, 0.49, 0.75, 1.0, NAN])
    table = reliability_table(p, np.array([0, 1, 1, 0, 1, 1, 1]), bins=4)
    assert_array_equal(table.edges, [0, 1 / 4, 2 / 4, 3 / 4, 1])
    assert_array_equal(table.samples, [2, 2, 0, 2])
    assert_allclose(table.probability, [0.1 / 2, (0.25 + 0.49) / 2, NAN, 1.75 / 2])
    assert_allclose(table.happened, [1 / 2, 1 / 2, NAN, 1])


@pytest.mark.parametrize("bins", [1, 3, 10, 20])
def test_every_edge_belongs_to_the_bin_above_it(bins):
    """Thirds and tenths too, whose multiples float64 rounds."""
    edges = np.array([k / bins for k in range(bins + 1)])
    below = np.nextafter(edges[1:], 0)
    at, under = (reliability_table(p, np.ones(len(p)), bins).samples for p in (edges[:-1], below))
    assert_array_equal(at, np.ones(bins))
    assert_array_equal(under, np.ones(bins))
    assert reliability_table(np.ones(1), np.ones(1), bins).samples[-1] == 1


def test_reliability_holds_every_sample_once():
    p, y = world(5)
    table = reliability_table(p, y)
    known = ~np.isnan(p + y)
    assert table.samples.sum() == known.sum()
    assert np.nansum(table.samples * table.probability) == pytest.approx(p[known].sum())
    assert np.nansum(table.samples * table.happened) == pytest.approx(y[known].sum())
    off = np.nansum(table.samples * np.abs(table.probability - table.happened)) / known.sum()
    assert event_metrics(p, y)["ece"] == pytest.approx(off)


def test_reliability_of_nothing():
    table = reliability_table(np.zeros(0), np.zeros(0), 2)
    assert_array_equal(table.samples, [0, 0])
    assert np.isnan(table.probability).all()
    with pytest.raises(ConfigError, match="bins: expected 1 or more, got 0"):
        reliability_table(np.zeros(1), np.zeros(1), 0)


# --- levels ------------------------------------------------------------------------------------------------------


def levels_world(seed, samples=80, n_levels=4, distinct=None):
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.ones(n_levels), samples)
    if distinct is not None:  # rows of parts of `distinct`, so that ties come
        p = random.multinomial(distinct, np.full(n_levels, 1 / n_levels), samples) / distinct
    return p, np.array([random.choice(n_levels, p=0.5 * row + 0.5 / n_levels) for row in p])


def test_levels_by_hand():
    p = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1], [0.45, 0.45, 0.1]])
    found = level_metrics(p, np.array([0, 1, 1, 0]))
    assert found["log_loss"] == pytest.approx(-(math.log(0.7) + math.log(0.4) + math.log(0.8) + math.log(0.45)) / 4)
    assert found["base_log_loss"] == pytest.approx(math.log(2))
    # level 0: 0.7, 0.45 against 0.5, 0.1; level 1: 0.4, 0.8 against 0.2, 0.45; level 2 never came
    assert_allclose(found["auc"], [3 / 4, 3 / 4, NAN])
    assert found["macro_auc"] == 3 / 4
    # tops 0.7 right, 0.5 wrong, 0.8 right, 0.45 named half right: each in its own bin
    assert found["ece"] == pytest.approx((0.3 + 0.5 + 0.2 + 0.05) / 4)
    assert found["clipped"] == 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("distinct", [None, 5])
def test_levels_equal_the_loops(seed, distinct):
    p, true = levels_world(seed, distinct=distinct)
    found = level_metrics(p, true)
    auc = [slow_auc(p[:, level], (true == level).astype(int)) for level in range(4)]
    assert_allclose(found["auc"], auc, rtol=1e-13)
    assert found["macro_auc"] == pytest.approx(np.nanmean(auc))
    named = [[c for c in range(4) if row[c] == max(row)] for row in p]
    right = [(t in tops) / len(tops) for t, tops in zip(true, named, strict=True)]
    assert found["ece"] == pytest.approx(slow_ece(p.max(axis=1), right))
    of_truth = [row[t] for row, t in zip(p, true, strict=True)]
    assert found["log_loss"] == pytest.approx(-sum(math.log(max(a, CLIP)) for a in of_truth) / 80)
    assert found["clipped"] == sum(a < CLIP for a in of_truth)
    shares = [(true == t).mean() for t in true]
    assert found["base_log_loss"] == pytest.approx(-sum(math.log(a) for a in shares) / 80)


def test_two_levels_are_an_event():
    p, y = world(6, missing=0)
    p, y = p.ravel(), y.ravel().astype(int)
    events, levels = event_metrics(p, y), level_metrics(np.stack([1 - p, p], axis=1), y)
    for name in ("log_loss", "base_log_loss", "clipped"):
        assert levels[name] == pytest.approx(events[name]), name
    assert levels["macro_auc"] == pytest.approx(events["auc"])
    assert_allclose(levels["auc"], [events["auc"]] * 2)


def test_levels_float32_softmax_is_accepted():
    logits = np.random.default_rng(7).normal(size=(1000, 5)).astype(np.float32) * 10
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = odds / odds.sum(axis=1, keepdims=True)
    assert p.dtype == np.float32
    assert math.isfinite(level_metrics(p, np.zeros(1000, int))["log_loss"])


def test_sure_levels():
    true = np.array([2, 0, 2, 1], dtype=np.int8)
    perfect = level_metrics(np.eye(3)[true], true)
    assert [perfect[name] for name in ("log_loss", "ece", "macro_auc", "clipped")] == [0, 0, 1, 0]
    wrong = level_metrics(np.eye(3)[(true + 1) % 3], true)
    assert wrong["log_loss"] == pytest.approx(23 * math.log(2))
    assert (wrong["ece"], wrong["clipped"]) == (1, 4)
    same = level_metrics(np.full((4, 3), 1 / 3), np.zeros(4, int))
    assert math.isnan(same["macro_auc"])
    assert same["ece"] == pytest.approx(0, abs=1e-15)  # one of three equal tops is right by a third


def test_no_level():
    found = level_metrics(np.empty((0, 3)), np.empty(0, int))
    assert all(math.isnan(found[name]) for name in ("log_loss", "base_log_loss", "ece", "macro_auc"))
    assert_array_equal(found["auc"], [NAN] * 3)
    assert found["clipped"] == 0


@pytest.mark.parametrize(
    ("p", "levels", "text"),
    [
        (np.full((2, 2), 0.5), np.array([0]), r"got shapes \(2, 2\) and \(1,\)"),
        (np.full(2, 0.5), np.array([0, 1]), r"expected probabilities \(samples, levels\)"),
        (np.empty((2, 0)), np.array([0, 1]), r"expected probabilities \(samples, levels\)"),
        (np.full((2, 2), 0.5), np.array([0.0, 1.0]), "integer levels"),
        (np.array([[0.5, 0.5], [0.5, 0.4]]), np.array([0, 1]), "add up to 1, got 1 others; take the softmax"),
        (np.array([[1.5, -0.5], [0.5, 0.5]]), np.array([0, 1]), "got 1 others"),
        (np.array([[NAN, 0.5], [np.inf, 0.5]]), np.array([0, 1]), "got 2 others"),
        (np.full((2, 2), 0.5), np.array([0, 2]), r"levels: expected 0 \.\. 1, got 0 \.\. 2"),
        (np.full((2, 2), 0.5), np.array([-1, 1]), r"levels: expected 0 \.\. 1, got -1 \.\. 1"),
    ],
)
def test_levels_refuse(p, levels, text):
    with pytest.raises(DataError, match=text):
        level_metrics(p, levels)
