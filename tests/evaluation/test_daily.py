import itertools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mimstocr.errors import ConfigError, DataError
from mimstocr.evaluation.daily import daily_metrics, days_defined, quantile_returns, summarise

NAN = np.nan
CUTS = {"precision_at": (1, 2, 3, 5), "ndcg_at": (2, 4)}


def world(seed, days=12, stocks=23, distinct=None, missing=0.2):
    """Random scores and returns; `distinct` values of scores and returns, so that ties come."""
    random = np.random.default_rng(seed)
    scores, returns = random.normal(size=(days, stocks)), random.normal(scale=0.02, size=(days, stocks))
    if distinct is not None:
        scores = random.integers(0, distinct, scores.shape).astype(float)
        returns = random.integers(-distinct, distinct, returns.shape) / 100
    scores[random.random(scores.shape) < missing] = NAN
    returns[random.random(scores.shape) < missing / 2] = NAN
    return scores, returns


def orders(scores):
    """Every order of the stocks from the highest score down, all orders inside ties."""
    levels = sorted(set(scores), reverse=True)
    groups = [[i for i, score in enumerate(scores) if score == level] for level in levels]
    for parts in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield [stock for part in parts for stock in part]


def slow_rank(values, i):
    return 1 + sum(v < values[i] for v in values) + (sum(v == values[i] for v in values) - 1) / 2


def slow_correlation(x, y):
    if len(set(x)) < 2 or len(set(y)) < 2:
        return NAN
    mx, my = math.fsum(x) / len(x), math.fsum(y) / len(y)
    above = math.fsum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    return above / math.sqrt(math.fsum((a - mx) ** 2 for a in x) * math.fsum((b - my) ** 2 for b in y))


def slow_day(scores, returns):
    """One day by loops; ties by the mean over all their orders."""
    pairs = [(s, r) for s, r in zip(scores, returns, strict=True) if math.isfinite(s) and math.isfinite(r)]
    n = len(pairs)
    names = [
        "ic",
        "rank_ic",
        *(f"precision@{k}" for k in CUTS["precision_at"]),
        *(f"ndcg@{k}" for k in CUTS["ndcg_at"]),
    ]
    out = {**dict.fromkeys([*names, "spread"], NAN), "stocks": n}
    s, r = [p[0] for p in pairs], [p[1] for p in pairs]
    if n < 2 or len(set(s)) < 2:
        return out
    out["ic"] = slow_correlation(s, r)
    out["rank_ic"] = slow_correlation([slow_rank(s, i) for i in range(n)], [slow_rank(r, i) for i in range(n)])
    every = list(orders(s))
    for k in CUTS["precision_at"]:
        if n >= k:
            out[f"precision@{k}"] = np.mean([sum(r[i] > 0 for i in order[:k]) / k for order in every])
    gain = [2 ** math.floor(5 * (slow_rank(r, i) - 0.5) / n) - 1 for i in range(n)]
    for k in CUTS["ndcg_at"]:
        found = np.mean([sum(gain[i] / math.log2(2 + p) for p, i in enumerate(order[:k])) for order in every])
        best = sum(g / math.log2(2 + p) for p, g in enumerate(sorted(gain, reverse=True)[:k]))
        out[f"ndcg@{k}"] = found / best if best > 0 else NAN
    tenth = max(1, n // 10)
    out["spread"] = np.mean([(sum(r[i] for i in o[:tenth]) - sum(r[i] for i in o[-tenth:])) / tenth for o in every])
    return out


def slow_turnover(scores, returns):
    """By sets; for scores without ties."""
    before, out = None, []
    for day in range(len(scores)):
        valid = [i for i in range(scores.shape[1]) if math.isfinite(scores[day, i]) and math.isfinite(returns[day, i])]
        if len(valid) < 2:
            out.append(NAN)
            continue
        best = sorted(valid, key=lambda i: -scores[day, i])[: max(1, len(valid) // 10)]
        out.append(NAN if before is None else len(set(best) - before) / len(best))
        before = set(best)
    return out


def assert_same(found, expected, **tolerance):
    for name in expected:
        assert_allclose(found[name], expected[name], err_msg=name, **tolerance)


def test_four_stocks_by_hand():
    scores = np.array([[4.0, 3.0, 2.0, 1.0], [1.0, 4.0, 3.0, 2.0]])
    returns = np.array([[0.03, -0.01, 0.02, -0.02], [0.01, 0.02, 0.03, 0.04]])
    daily = daily_metrics(scores, returns, precision_at=(1, 2, 3, 4, 5), ndcg_at=(2, 4, 9))
    # deviations: scores 1.5 .5 -.5 -1.5; returns .025 -.015 .015 -.025
    assert daily["ic"][0] == pytest.approx(0.06 / math.sqrt(5 * 0.0017), rel=1e-14)
    # return ranks 4 2 3 1 against 4 3 2 1
    assert daily["rank_ic"][0] == pytest.approx(1 - 6 * 2 / (4 * (16 - 1)), rel=1e-14)
    assert [daily[f"precision@{n}"][0] for n in (1, 2, 3, 4)] == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    assert np.isnan(daily["precision@5"]).all()
    # fifths of the ranks 4 3 2 1: floor(5 x 3.5 / 4) .. floor(5 x .5 / 4) = 4 3 1 0, gains 15 7 1 0
    log3 = math.log2(3)
    assert daily["ndcg@2"][0] == pytest.approx((15 + 1 / log3) / (15 + 7 / log3), rel=1e-14)
    assert daily["ndcg@4"][0] == pytest.approx((15 + 1 / log3 + 7 / 2) / (15 + 7 / log3 + 1 / 2), rel=1e-14)
    assert daily["ndcg@9"][0] == daily["ndcg@4"][0]
    assert daily["spread"] == pytest.approx([0.03 - -0.02, 0.02 - 0.01], rel=1e-14)
    assert_array_equal(daily["turnover"], [NAN, 1.0])
    assert_array_equal(daily["stocks"], [4, 4])


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_loops(seed):
    scores, returns = world(seed)
    found = daily_metrics(scores, returns, **CUTS)
    days = [slow_day(s, r) for s, r in zip(scores, returns, strict=True)]
    assert_same(found, {name: [day[name] for day in days] for name in days[0]}, rtol=1e-10, atol=1e-13)
    assert_allclose(found["turnover"], slow_turnover(scores, returns), rtol=1e-14)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("stocks", [1, 2, 3, 6])
def test_ties_are_the_mean_over_their_orders(seed, stocks):
    scores, returns = world(seed, days=25, stocks=stocks, distinct=3, missing=0.15)
    found = daily_metrics(scores, returns, **CUTS)
    days = [slow_day(s, r) for s, r in zip(scores, returns, strict=True)]
    assert_same(found, {name: [day[name] for day in days] for name in days[0]}, rtol=1e-10, atol=1e-13)


def test_ties_across_the_edge_of_the_tenth():
    scores = np.arange(23.0)[None] * np.ones((3, 1))
    scores[:, [19, 20, 21]] = 20.0  # n = 23: the tenth is 2 stocks, 22 and one of these three
    returns = np.random.default_rng(0).normal(size=scores.shape)
    daily = daily_metrics(scores, returns, **CUTS)
    days = [slow_day(s, r) for s, r in zip(scores, returns, strict=True)]
    assert_same(daily, {name: [day[name] for day in days] for name in days[0]}, rtol=1e-10)
    assert_array_equal(daily["turnover"], [NAN, 0.0, 0.0])  # the same ties hold the same shares
    scores[1, 19] = 0.5  # places left to two: each of 20 and 21 goes from 1/3 to 1/2 of one place of two
    moved = daily_metrics(scores, returns)["turnover"]
    assert moved[1] == pytest.approx(2 * (1 / 2 - 1 / 3) / 2, rel=1e-14)
    assert moved[2] == pytest.approx((1 / 3) / 2, rel=1e-14)


def test_days_left_out_are_missing_and_counted():
    scores, returns = world(3, days=7)
    scores[1] = NAN  # nobody
    scores[2, 1:], scores[2, 0], returns[2, 0] = NAN, 1.0, 0.1  # one stock
    scores[3] = 0.1  # all equal, and its mean is not exactly 0.1
    returns[4] = 0.1
    scores[4] = np.arange(23.0)
    daily = daily_metrics(scores, returns, **CUTS)
    for name, values in daily.items():
        if name != "stocks":
            assert np.isnan(values[[1, 2, 3]]).all(), name
    assert_array_equal(daily["stocks"][[1, 2]], [0, 1])
    assert np.isnan(daily["ic"][4])
    assert np.isnan(daily["rank_ic"][4])
    assert daily["precision@5"][4] == 1
    assert daily["ndcg@4"][4] == pytest.approx(1)  # every order of equal returns is ideal
    assert daily["spread"][4] == pytest.approx(0, abs=1e-15)
    summary = summarise(daily)
    assert (summary["days"], summary["days_left_out"]) == (3, 4)
    assert days_defined(daily)["spread"] == 4
    # the turnover of day 4 looks back to day 0, the evaluated day before it
    alone = daily_metrics(scores[[0, 4]], returns[[0, 4]])["turnover"][1]
    assert daily["turnover"][4] == alone


def test_two_stocks_have_a_ndcg():
    # fifths floor(5 x 1.5 / 2) = 3 and floor(5 x .5 / 2) = 1
    daily = daily_metrics(np.array([[1.0, 2.0]]), np.array([[0.1, 0.2]]), ndcg_at=(1,))
    assert daily["ndcg@1"][0] == 1
    daily = daily_metrics(np.array([[2.0, 1.0]]), np.array([[0.1, 0.2]]), ndcg_at=(1,))
    assert daily["ndcg@1"][0] == pytest.approx((2**1 - 1) / (2**3 - 1))


def test_infinite_values_do_not_count():
    scores, returns = world(0)
    scores[:, 1], returns[:, 1] = 0.3, 0.01
    expected = daily_metrics(np.where(np.arange(23) == 1, NAN, scores), returns)
    for junk in (np.inf, -np.inf):
        assert_same(daily_metrics(np.where(np.arange(23) == 1, junk, scores), returns), expected)
    later = np.where(np.isnan(returns), 123.0, scores)
    assert_same(daily_metrics(later, returns), daily_metrics(scores, returns))


@pytest.mark.parametrize("distinct", [None, 3])
def test_the_order_of_the_columns_does_not_matter(distinct):
    scores, returns = world(1, distinct=distinct)
    shuffled = np.random.default_rng(9).permutation(scores.shape[1])
    found = daily_metrics(scores[:, shuffled], returns[:, shuffled])
    assert_same(found, daily_metrics(scores, returns), rtol=1e-12, atol=1e-14)
    assert_allclose(
        quantile_returns(scores[:, shuffled], returns[:, shuffled]), quantile_returns(scores, returns), atol=1e-15
    )


@pytest.mark.parametrize("distinct", [None, 3])
def test_the_days_together_equal_each_day_alone(distinct):
    scores, returns = world(2, distinct=distinct)
    together = daily_metrics(scores, returns)
    for day in range(len(scores)):
        alone = daily_metrics(scores[[day]], returns[[day]])
        assert_same(
            {name: values[day] for name, values in together.items() if name != "turnover"},
            {name: values[0] for name, values in alone.items() if name != "turnover"},
            rtol=1e-13,
        )


def test_only_the_order_of_scores_matters_but_to_ic():
    scores, returns = world(4)
    found, bent = daily_metrics(scores, returns), daily_metrics(np.exp(3 * scores), returns)
    assert not np.allclose(found.pop("ic"), bent.pop("ic"))
    assert_same(bent, found)
    turned = daily_metrics(-scores, returns)
    assert_allclose(turned["rank_ic"], -found["rank_ic"])
    assert_allclose(turned["spread"], -found["spread"], atol=1e-15)


@pytest.mark.parametrize(("scale", "shift"), [(1e-200, 0.0), (1e200, 0.0), (1e-3, 1.0), (5.0, -3.0)])
def test_ic_does_not_depend_on_the_units_of_scores(scale, shift):
    scores, returns = world(5)
    assert_allclose(
        daily_metrics(scores * scale + shift, returns)["ic"], daily_metrics(scores, returns)["ic"], rtol=1e-9
    )


def test_perfect_scores():
    _, returns = world(6)
    daily = daily_metrics(returns, returns)
    for name in ("ic", "rank_ic", "ndcg@10", "ndcg@50"):
        assert_allclose(daily[name], 1.0, rtol=1e-14)
        assert (daily[name] <= 1 + 1e-15).all()


def test_float32_is_computed_in_float64():
    scores, returns = world(7)
    low = scores.astype(np.float32), returns.astype(np.float32)
    assert_same(daily_metrics(*low), daily_metrics(low[0].astype(float), low[1].astype(float)), rtol=0, atol=0)


def test_summary_by_hand():
    daily = {"ic": np.array([0.1, NAN, 0.3]), "rank_ic": np.array([0.2, NAN, NAN]), "spread": np.full(3, NAN)}
    summary = summarise(daily)
    assert summary["ic"] == pytest.approx(0.2)
    assert summary["icir"] == pytest.approx(0.2 / math.sqrt(0.02))  # deviations .1, ddof 1
    assert summary["rank_ic"] == pytest.approx(0.2)
    assert math.isnan(summary["rank_icir"])
    assert math.isnan(summary["spread"])
    assert (summary["days"], summary["days_left_out"]) == (2, 1)
    steady = summarise({"ic": np.full(3, 0.1), "rank_ic": np.full(3, 0.1)})
    assert math.isnan(steady["icir"])


def test_no_days_at_all():
    summary = summarise(daily_metrics(np.empty((0, 3)), np.empty((0, 3))))
    assert summary["days"] == 0
    assert math.isnan(summary["ic"])


@pytest.mark.parametrize("distinct", [None, 3])
@pytest.mark.parametrize("parts", [2, 5])
def test_quantiles_equal_the_loop(distinct, parts):
    scores, returns = world(8, distinct=distinct)
    scores[2] = NAN
    scores[3] = 0.5
    found = quantile_returns(scores, returns, parts)
    for day in range(len(scores)):
        pairs = [(s, r) for s, r in zip(scores[day], returns[day], strict=True) if math.isfinite(s + r)]
        s, sums = [p[0] for p in pairs], [[] for _ in range(parts)]
        if len(set(s)) >= 2:
            for i in range(len(s)):
                sums[math.floor(parts * (slow_rank(s, i) - 0.5) / len(s))].append(pairs[i][1])
        assert_allclose(found[day], [np.mean(part) if part else NAN for part in sums], atol=1e-15)
    assert np.isnan(found[[2, 3]]).all()


def test_quantiles_by_hand():
    found = quantile_returns(
        np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]), np.array([[1.0, 3.0, 10.0, 20.0, 5.0, 7.0]]), 3
    )
    assert_array_equal(found, [[2.0, 15.0, 6.0]])
    empty = quantile_returns(np.array([[1.0, 1.0, 1.0, 2.0]]), np.array([[1.0, 2.0, 3.0, 9.0]]), 5)
    assert_array_equal(empty, [[NAN, 2.0, NAN, NAN, 9.0]])  # ranks 2 2 2 4 of 4: floor(5 x 1.5 / 4) = 1


def test_errors_say_what_to_do():
    good = np.zeros((2, 3))
    with pytest.raises(DataError, match=r"\(2, 3\) and \(3, 2\); align"):
        daily_metrics(good, good.T)
    with pytest.raises(DataError, match="shape"):
        quantile_returns(good[0], good[0])
    with pytest.raises(DataError, match="shape"):
        daily_metrics(np.empty((2, 0)), np.empty((2, 0)))
    with pytest.raises(ConfigError, match="precision_at"):
        daily_metrics(good, good, precision_at=(10, 0))
    with pytest.raises(ConfigError, match="ndcg_at"):
        daily_metrics(good, good, ndcg_at=(-1,))
    with pytest.raises(ConfigError, match="n_quantiles"):
        quantile_returns(good, good, 1)
