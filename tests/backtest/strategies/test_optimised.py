import sys
from collections import Counter

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import ValidationError

from mimstocr.backtest.covariance import FLOOR, shrunk_covariance
from mimstocr.backtest.engine import simulate
from mimstocr.backtest.market import terms_of
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.optimum import Groups, Problem, optimum, turnover_of
from mimstocr.backtest.strategies.optimised import KEPT, Optimised, _cleaned
from mimstocr.backtest.strategy import Moment, View
from mimstocr.errors import ConfigError, DataError

NAN = np.nan
DAYS, STOCKS, BEFORE = 12, 40, 60


def world(seed=0, n=STOCKS, missing=0.1):
    """Scores, closes and industries; some of each are missing."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(DAYS, n))
    scores[random.random(scores.shape) < missing] = NAN
    common = random.normal(0, 0.01, (BEFORE + DAYS, 1)) * random.uniform(0.3, 1.7, n)
    closes = 20 * np.exp(np.cumsum(common + random.normal(0, 0.02, (BEFORE + DAYS, n)), axis=0))
    closes[random.random(closes.shape) < missing / 5] = NAN
    groups = np.eye(5, dtype=bool)[random.integers(0, 4, n)]  # the last has no member
    groups[random.random(n) < missing] = False
    return scores, closes.astype(np.float32), groups


def view_of(closes, groups=None, **given):
    return View(None, closes, before=BEFORE, groups=groups, **given)


def decide(plan, day, held):
    """The weights wanted, those kept among them."""
    held = np.asarray(held, dtype=float)
    weights = plan(Moment(day, held * 9, held)).weights
    return np.where(np.isnan(weights), held, weights)


def spread(n, k, total=1.0, seed=0):
    """k of n stocks held in equal parts."""
    held = np.zeros(n)
    held[np.random.default_rng(seed).permutation(n)[:k]] = total / k
    return held


# ---- the problem of a day --------------------------------------------------------------------------------------------


def test_the_problem_is_the_one_that_is_documented():
    scores, closes, groups = world()
    settings = {"ic": 0.03, "risk_aversion": 8.0, "trade_cost": 0.002, "invested": 0.97, "position_cap": 0.06}
    strategy = Optimised(**settings, turnover_cap=0.2, industry_band=0.02, risk_target=0.155, days=30, min_days=25)
    plan = strategy.plan(scores, view_of(closes, groups, days_per_year=365))
    held = spread(STOCKS, 20, 0.95)
    day = 7
    scored = [i for i in range(STOCKS) if np.isfinite(scores[day, i])]
    prices = closes.astype(float)
    returns = np.full((30, len(scored)), NAN)
    for row, t in enumerate(range(BEFORE + day - 29, BEFORE + day + 1)):
        for column, i in enumerate(scored):
            returns[row, column] = prices[t, i] / prices[t - 1, i] - 1
    covariance = shrunk_covariance(returns, 25).values
    mean = sum(scores[day, i] for i in scored) / len(scored)
    deviation = np.sqrt(sum((scores[day, i] - mean) ** 2 for i in scored) / len(scored))
    alpha = [0.03 * np.sqrt(covariance[c, c]) * (scores[day, i] - mean) / deviation for c, i in enumerate(scored)]
    members = groups[scored][:, :4].astype(float)
    expected = optimum(
        Problem(
            np.array(alpha),
            covariance,
            held[scored],
            invested=0.97,
            position_cap=0.06,
            risk_aversion=8.0,
            trade_cost=0.002,
            risk_cap=0.155 / np.sqrt(365),
            groups=Groups(members, members.sum(axis=0) / len(scored), 0.02),
            turnover_cap=0.2,
        )
    )
    found = decide(plan, day, held)
    assert_allclose(found[scored], expected.weights, atol=5 * KEPT)
    assert_array_equal(np.delete(found, scored), 0)
    assert plan(Moment(day, held, held)).gave_way == expected.gave_way == ()
    risk = np.sqrt(365 * found[scored] @ covariance @ found[scored])
    assert risk == pytest.approx(0.155, abs=1e-4)  # which binds


def test_equal_scores_give_the_least_variance():
    _, closes, _ = world(n=4, missing=0)
    strategy = Optimised(position_cap=1, trade_cost=0, days=50)
    found = decide(strategy.plan(np.full((DAYS, 4), 3.3), view_of(closes)), 2, np.zeros(4))
    prices = closes[BEFORE + 2 - 50 : BEFORE + 3].astype(float)
    covariance = shrunk_covariance(prices[1:] / prices[:-1] - 1, 2).values
    inverse = np.linalg.solve(covariance, np.ones(4))
    assert (inverse > 0).all()
    assert_allclose(found, inverse / inverse.sum(), atol=1e-7)


def test_two_stocks_by_hand():
    """z is 1 and -1, so the first is above the least variance by ic (s_a + s_b) / (aversion x var(a - b))."""
    random = np.random.default_rng(3)
    closes = 10 * np.exp(np.cumsum(random.normal(0, 0.02, (BEFORE + DAYS, 2)), axis=0))
    moves = closes[1 : BEFORE + 1] / closes[:BEFORE] - 1
    a, b = moves[:, 0].var(), moves[:, 1].var()
    both = np.mean((moves[:, 0] - moves[:, 0].mean()) * (moves[:, 1] - moves[:, 1].mean())) * (1 - FLOOR)
    strategy = Optimised(ic=0.01, risk_aversion=9, position_cap=1, trade_cost=0)
    scores = np.tile([5.0, -1.0], (DAYS, 1))
    found = decide(strategy.plan(scores, view_of(closes)), 0, np.zeros(2))
    apart = a + b - 2 * both
    first = (b - both) / apart + 0.01 * (np.sqrt(a) + np.sqrt(b)) / (9 * apart)
    assert 0.5 < first < 0.9
    assert_allclose(found, [first, 1 - first], atol=1e-7)


def test_only_the_returns_of_the_window_count():
    scores, closes, _ = world()
    held, day, days = spread(STOCKS, 20), 5, 30
    other = closes.copy()
    other[: BEFORE + day - days] *= np.random.default_rng(1).uniform(0.5, 2, other[: BEFORE + day - days].shape)
    strategy = Optimised(days=days)
    found = decide(strategy.plan(scores, view_of(closes)), day, held)
    assert_array_equal(found, decide(strategy.plan(scores, view_of(other.astype(np.float32))), day, held))
    other[BEFORE + day - days] *= np.linspace(0.9, 1.1, STOCKS)
    assert (found != decide(strategy.plan(scores, view_of(other.astype(np.float32))), day, held)).any()


def test_the_size_of_scores_does_not_matter_and_with_ranks_not_their_distances():
    scores, closes, _ = world()
    held = spread(STOCKS, 20)

    def found(values, by):
        return decide(Optimised(by=by).plan(values, view_of(closes)), 3, held)

    assert_allclose(found(100 + 50 * scores, "score"), found(scores, "score"), atol=1e-7)
    assert np.abs(found(np.exp(2 * scores), "score") - found(scores, "score")).max() > 0.01
    assert_array_equal(found(np.exp(2 * scores), "rank"), found(scores, "rank"))
    order = np.argsort(np.argsort(np.where(np.isfinite(scores), scores, NAN), axis=-1), axis=-1).astype(float)
    assert_allclose(found(np.where(np.isfinite(scores), order, NAN), "score"), found(scores, "rank"), atol=1e-7)


def test_scores_are_trusted_as_far_as_ic_says():
    scores, closes, _ = world()
    means = [
        np.nansum(decide(Optimised(ic=ic).plan(scores, view_of(closes)), 3, np.zeros(STOCKS)) * scores[3])
        for ic in (0.001, 0.01, 0.1)
    ]
    assert means[0] < means[1] < means[2]


# ---- who can be held -------------------------------------------------------------------------------------------------


def test_what_has_no_score_is_sold_and_never_bought():
    scores, closes, _ = world(missing=0.3)
    held = np.full(STOCKS, 1 / STOCKS)
    without = np.isnan(scores[4])
    for strategy in (Optimised(), Optimised(turnover_cap=0.0)):
        plan = strategy.plan(scores, view_of(closes))
        weights, _, gave_way = plan(Moment(4, held, held))
        assert_array_equal(weights[without], 0)
        assert np.where(np.isnan(weights), held, weights).sum() == pytest.approx(1, abs=1e-5)
        assert gave_way == ()


def test_a_day_without_scores_is_no_decision():
    scores, closes, _ = world()
    scores[2] = NAN
    plan = Optimised().plan(scores, view_of(closes))
    assert plan(Moment(2, np.zeros(STOCKS), np.zeros(STOCKS))) is None


def test_the_k_highest_and_what_is_held():
    scores, closes, _ = world(missing=0)
    ranked = np.argsort(-scores[3])
    held = np.zeros(STOCKS)
    held[ranked[[30, 35]]] = 0.05
    plan = Optimised(k=22, trade_cost=0.05, ic=0.001).plan(scores, view_of(closes))
    found = decide(plan, 3, held)
    assert_allclose(found[ranked[[30, 35]]], 0.05, atol=KEPT)  # not worth the cost of a trade
    assert (found[np.delete(ranked[22:], [8, 13])] == 0).all()
    assert (found[ranked[:22]] > 0).sum() >= 18


def test_no_turnover_keeps_all():
    scores, closes, _ = world(missing=0)
    held = spread(STOCKS, 25)
    plan = Optimised(turnover_cap=0).plan(scores, view_of(closes))
    weights = plan(Moment(0, held, held)).weights
    assert np.isnan(weights[held > 0]).all()
    assert_array_equal(weights[held == 0], 0)


def test_trades_that_are_only_the_precision_of_the_solver_are_left_out():
    held = np.array([0.3, 0.3, KEPT / 2, 0.0, 0.1])
    weights = np.array([0.3 + KEPT / 2, 0.5, KEPT / 3, KEPT / 2, 0.2])
    assert_array_equal(_cleaned(weights, held, 1.1), [NAN, 0.5, 0, 0, 0.2])
    assert _cleaned(np.array([0.5 + 1e-7, 0.5]), np.zeros(2), 1.0).sum() <= 1


# ---- many days -------------------------------------------------------------------------------------------------------

ALL = Optimised(
    invested=0.98, position_cap=0.08, turnover_cap=0.15, industry_band=0.03, risk_target=0.2, trade_cost=0.0005
)


def followed(strategy, scores, closes, groups):
    """Each day's held and wanted weights, and what gave way."""
    plan, kept, notes = strategy.plan(scores, view_of(closes, groups)), {}, {}

    def keeping(moment):
        decision = plan(moment)
        kept[moment.day] = moment.weights, np.where(np.isnan(decision.weights), moment.weights, decision.weights)
        notes[moment.day] = decision.gave_way
        return decision

    terms = terms_of(Flat(), close=closes, tradable=np.isfinite(closes), window=slice(BEFORE, None))
    account = simulate(terms, keeping, delay=1)
    assert account.gave_way == Counter(name for names in notes.values() for name in names)
    return kept, notes


@pytest.mark.parametrize("seed", range(3))
def test_every_constraint_is_kept_on_every_day(seed):
    scores, closes, groups = world(seed)
    kept, notes = followed(ALL, scores, closes, groups)
    assert sum(gave_way == () for gave_way in notes.values()) > 5
    assert len(kept) == DAYS - 1
    for day, (held, weights) in kept.items():
        scored = np.isfinite(scores[day])
        prices = closes[: BEFORE + day + 1, scored].astype(float)
        covariance = shrunk_covariance((prices[1:] / prices[:-1] - 1)[-252:], 20).values
        weights, held = weights[scored], held[scored]
        tolerance = 5 * KEPT
        assert weights.min() >= 0
        assert weights.max() <= 0.08 + tolerance
        assert np.sqrt(252 * weights @ covariance @ weights) <= 0.2 + tolerance
        neutral = weights.sum() * groups[scored].mean(axis=0)
        assert np.abs(weights @ groups[scored] - neutral).max() <= 0.03 + tolerance
        assert weights.sum() == pytest.approx(0.98, abs=tolerance) or "invested" in notes[day]
        assert turnover_of(weights, held) <= 0.15 + tolerance or "turnover_cap" in notes[day]


def test_the_future_does_not_matter_under_all_constraints():
    """Nor does it change in which way constraints gave way; what is scored later neither."""
    scores, closes, groups = world()
    others, prices, _ = world(seed=9)
    expected, notes = followed(ALL, scores, closes, groups)
    for day in (0, 4):
        later = np.concatenate([scores[: day + 1], others[day + 1 :]])
        moved = np.concatenate([closes[: BEFORE + day + 1], 2 * prices[BEFORE + day + 1 :]])
        found, other = followed(ALL, later, moved, groups)
        for known in range(day + 1):
            for one, two in zip(expected[known], found[known], strict=True):
                assert_array_equal(one, two)
            assert notes[known] == other[known]


def test_where_the_risk_is_too_high_the_rest_is_cash_and_noted():
    scores, closes, _ = world()
    plan = Optimised(risk_target=0.05).plan(scores, view_of(closes))
    found, _, gave_way = plan(Moment(3, np.zeros(STOCKS), np.zeros(STOCKS)))
    assert gave_way == ("invested",)
    assert 0.1 < found.sum() < 0.9


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_without_the_extra(monkeypatch):
    scores, closes, _ = world()
    monkeypatch.setitem(sys.modules, "clarabel", None)
    strategy = Optimised()  # settings can be read without it
    with pytest.raises(ConfigError, match=r"clarabel.*pip install 'mimstocr\[portfolio\]'"):
        strategy.plan(scores, view_of(closes))


def test_industries_need_groups():
    scores, closes, _ = world()
    with pytest.raises(ConfigError, match=r"industry_band needs .* give data.concepts"):
        Optimised(industry_band=0.01).plan(scores, view_of(closes))


def test_too_few_stocks_for_the_cap_name_the_day():
    scores, closes, _ = world(missing=0)
    scores[6, 19:] = NAN
    with pytest.raises(DataError, match=r"expected at least 20 scored stocks .* got 19 on day 6 "):
        Optimised().plan(scores, view_of(closes))
    Optimised(invested=0.95).plan(scores, view_of(closes))


def test_fewer_than_k_names_the_day():
    scores, closes, _ = world(missing=0)
    scores[6, 30:] = NAN
    with pytest.raises(DataError, match=r"expected at least 31 scored stocks .* got 30 on day 6 "):
        Optimised(k=31).plan(scores, view_of(closes))


def test_too_few_prices_before_the_first_scores():
    scores, closes, _ = world()
    scores[:3] = NAN
    short = View(None, closes[-DAYS:])
    with pytest.raises(DataError, match=r"more than strategy.min_days = 4 days of prices .* on day 3, got 4"):
        Optimised(min_days=4).plan(scores, short)
    plan = Optimised(min_days=3).plan(scores, short)
    assert decide(plan, 3, np.zeros(STOCKS)).sum() == pytest.approx(1)


def test_no_stock_with_returns_names_the_day():
    scores, closes, _ = world()
    closes[: BEFORE + 1] = NAN
    plan = Optimised().plan(scores, view_of(closes))
    with pytest.raises(DataError, match=r"at least 20 daily returns .* up to day 5; lower strategy.min_days"):
        decide(plan, 5, np.zeros(STOCKS))


def test_a_solver_that_finds_nothing_names_the_day(monkeypatch):
    scores, closes, _ = world()
    plan = Optimised().plan(scores, view_of(closes))
    monkeypatch.setattr("mimstocr.backtest.optimum._solve", lambda *_: None)
    with pytest.raises(DataError, match=r"the solver found none, on day 5; raise"):
        decide(plan, 5, np.zeros(STOCKS))


@pytest.mark.parametrize(
    "bad",
    [
        {"k": 19},
        {"k": 30, "industry_band": 0.1},
        {"ic": 0},
        {"invested": 1.1},
        {"position_cap": 0},
        {"turnover_cap": -0.1},
        {"risk_target": 0},
        {"risk_aversion": -1},
        {"min_days": 300},
    ],
)
def test_settings_that_make_no_sense(bad):
    with pytest.raises(ValidationError):
        Optimised(**bad)


def test_parts_that_make_a_whole_but_for_rounding():
    Optimised(k=3, position_cap=1 / 3)
    Optimised(k=18, position_cap=0.03, invested=0.54)
