import math

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from mimstocr.errors import ConfigError, DataError
from mimstocr.evaluation.daily import daily_metrics
from mimstocr.evaluation.decay import ic_decay
from mimstocr.evaluation.significance import automatic_lags, hac_test

NAN = np.nan


def world(seed=0, days=40, stocks=9):
    """Scores with gaps, closes, and which stocks could be traded."""
    random = np.random.default_rng(seed)
    close = 10 * np.exp(np.cumsum(random.normal(scale=0.03, size=(days, stocks)), axis=0))
    tradable = random.random(close.shape) < 0.85
    close[~tradable & (random.random(close.shape) < 0.5)] = NAN
    scores = np.where(random.random(close.shape) < 0.8, random.normal(size=close.shape), NAN)
    return scores, close.astype(np.float32), tradable


def slow_correlation(x, y):
    mx, my = math.fsum(x) / len(x), math.fsum(y) / len(y)
    above = math.fsum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    return above / math.sqrt(math.fsum((a - mx) ** 2 for a in x) * math.fsum((b - my) ** 2 for b in y))


def slow_ranks(x):
    return [sum(b < a for b in x) + (sum(b == a for b in x) + 1) / 2 for a in x]


def slow_series(scores, close, tradable, start, end):
    """IC and RankIC of each day that has them, by loops."""
    ic, rank_ic = [], []
    for t in range(len(scores) - end):
        pairs = [
            (float(scores[t, i]), float(close[t + end, i]) / float(close[t + start, i]) - 1)
            for i in range(scores.shape[1])
            if math.isfinite(scores[t, i]) and tradable[t + start, i] and tradable[t + end, i]
        ]
        if len(pairs) > 1:
            s, r = zip(*pairs, strict=True)
            ic.append(slow_correlation(s, r))
            rank_ic.append(slow_correlation(slow_ranks(s), slow_ranks(r)))
    return ic, rank_ic


@pytest.mark.parametrize("delay", [0, 1])
@pytest.mark.parametrize("seed", range(2))
def test_equals_the_loops(seed, delay):
    scores, close, tradable = world(seed)
    scores[7] = NAN
    scores[8, 1:] = NAN  # one stock is no cross-section
    found = ic_decay(scores, close, tradable, (1, 2, 5), delay=delay)
    assert found.select("returns", "horizon").rows() == [(k, h) for k in ("marginal", "cumulative") for h in (1, 2, 5)]
    for row in found.iter_rows(named=True):
        h = row["horizon"]
        start = delay + h - 1 if row["returns"] == "marginal" else delay
        ic, rank_ic = slow_series(scores, close, tradable, start, delay + h)
        assert row["days"] == len(ic)
        assert row["days_left_out"] == 40 - len(ic) >= delay + h + 2
        for name, series in (("ic", ic), ("rank_ic", rank_ic)):
            values = np.array(series)
            lags = max(automatic_lags(values), 0 if row["returns"] == "marginal" else h - 1)
            assert row[name] == pytest.approx(sum(series) / len(series), rel=1e-9)
            assert row[f"{name}_se"] == pytest.approx(hac_test(values, lags).se, rel=1e-9)


def test_the_first_day_is_that_of_the_label():
    scores, close, tradable = world(3)
    price = np.where(tradable, close, NAN).astype(float)
    for delay in (0, 1, 2):
        label = np.full(price.shape, NAN)
        label[: 40 - delay - 1] = price[delay + 1 :] / price[delay : 40 - 1] - 1
        daily = daily_metrics(scores, label)
        for row in ic_decay(scores, close, tradable, [1], delay=delay).iter_rows(named=True):
            assert row["ic"] == pytest.approx(np.nanmean(daily["ic"]), rel=1e-12)
            assert row["rank_ic"] == pytest.approx(np.nanmean(daily["rank_ic"]), rel=1e-12)


def test_a_score_that_knows_one_day_decays_at_once():
    """It is the return of the second day: nothing on the first and the third, a part of every sum from two days on."""
    random = np.random.default_rng(0)
    moves = random.normal(scale=0.02, size=(300, 30))
    close = 10 * np.exp(np.cumsum(moves, axis=0))
    scores = np.full(close.shape, NAN)
    scores[:-2] = moves[2:]
    found = ic_decay(scores, close, np.ones(close.shape, dtype=bool), range(1, 5))
    marginal, cumulative = (found.filter(pl.col("returns") == kind) for kind in ("marginal", "cumulative"))
    assert marginal["rank_ic"][1] == pytest.approx(1)
    assert marginal["rank_ic_se"][1] == pytest.approx(0, abs=1e-9)
    for h in (0, 2, 3):
        assert abs(marginal["ic"][h]) < 4 * marginal["ic_se"][h]
    # one of h independent moves of equal size: 1 / sqrt(h)
    assert_allclose(cumulative["ic"].to_numpy()[1:], 1 / np.sqrt([2, 3, 4]), atol=0.03)
    assert (cumulative["ic_se"].to_numpy() > 0).all()


def test_overlap_widens_the_error():
    """A constant score meets returns of h days that share h - 1 of them: without lags the error would be too small."""
    random = np.random.default_rng(1)
    close = 10 * np.exp(np.cumsum(random.normal(scale=0.02, size=(400, 12)), axis=0))
    scores = np.tile(np.arange(12.0), (400, 1))
    row = ic_decay(scores, close, np.ones(close.shape, dtype=bool), [10]).row(1, named=True)
    label = np.full(close.shape, NAN)
    label[:-10] = close[10:] / close[:-10] - 1
    ic = daily_metrics(scores, label)["ic"]
    assert row["ic_se"] > 2 * hac_test(ic, 0).se
    assert row["ic_se"] >= hac_test(ic, 9).se * (1 - 1e-9)


def test_order_scale_and_closes_that_cannot_be_traded_do_not_matter():
    scores, close, tradable = world(4)
    whole = ic_decay(scores, close, tradable, [1, 3], delay=1)
    order = np.random.default_rng(0).permutation(9)
    shuffled = ic_decay(scores[:, order], close[:, order], tradable[:, order], [1, 3], delay=1)
    for name in ("ic", "rank_ic", "ic_se", "rank_ic_se", "days"):
        assert_allclose(shuffled[name], whole[name], rtol=1e-9)
    unscored = np.hstack([np.full((40, 3), NAN), scores])
    closes, open_for = np.hstack([close[:, :3], close]), np.hstack([tradable[:, :3], tradable])
    assert ic_decay(unscored, closes, open_for, [1, 3], delay=1).equals(whole)
    junk = np.where(tradable, close, 1e9)
    assert ic_decay(scores, junk, tradable, [1, 3], delay=1).equals(whole)
    scaled = close * np.linspace(0.1, 10, 9)
    assert_allclose(ic_decay(scores, scaled, tradable, [1, 3], delay=1)["ic"], whole["ic"], rtol=1e-5)


def test_what_is_not_defined_is_null():
    scores, close, tradable = world(0, days=4)
    found = ic_decay(scores, close, tradable, [1, 3, 4, 9])
    beyond = found.filter(pl.col("horizon") >= 4)
    assert beyond["ic"].null_count() == beyond["rank_ic_se"].null_count() == 4
    assert beyond["days"].to_list() == [0] * 4
    assert beyond["days_left_out"].to_list() == [4] * 4
    one = found.filter(pl.col("horizon") == 3)
    assert one["days"].to_list() == [1, 1]
    assert one["ic"].null_count() == 0
    assert one["ic_se"].null_count() == 2
    nothing = ic_decay(np.full((4, 9), NAN), close, tradable, [1])
    assert nothing["days"].to_list() == [0, 0]


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"close": np.ones((4, 8))}, DataError, "one shape"),
        ({"horizons": []}, ConfigError, "from 1, each once"),
        ({"horizons": [0, 1]}, ConfigError, "from 1, each once"),
        ({"horizons": [2, 2]}, ConfigError, "from 1, each once"),
        ({"delay": -1}, ConfigError, "0 or more days"),
    ],
)
def test_errors(changes, error, text):
    scores, close, tradable = world(0, days=4)
    with pytest.raises(error, match=text):
        ic_decay(**{"scores": scores, "close": close, "tradable": tradable, **changes})
