import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pydantic import ValidationError

from mimstocr.backtest.engine import simulate
from mimstocr.backtest.market import terms_of
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.strategies.topk_dropout import TopkDropout
from mimstocr.backtest.strategy import Moment, View
from mimstocr.errors import DataError

NAN = np.nan


def plan_of(scores, **settings):
    scores = np.array(scores, dtype=float)
    return TopkDropout(**settings).plan(scores, View(None, np.ones(scores.shape)))


def decide(plan, day, held, n):
    shares = np.zeros(n)
    shares[held] = 7.0
    return plan(Moment(day, shares, shares / 7.0 / max(len(held), 1)))


def exchange(scores, held, **settings):
    """What is sold and what is bought on a single day."""
    decision = decide(plan_of([scores], **settings), 0, held, len(scores))
    assert decision.of_cash
    weights = decision.weights
    sold, bought = np.flatnonzero(weights == 0).tolist(), np.flatnonzero(weights > 0).tolist()
    assert_array_equal(weights[bought], np.full(len(bought), 0.95 / max(len(bought), 1)))
    assert np.isnan(weights).sum() == len(scores) - len(sold) - len(bought)
    return sold, bought


def test_the_first_day_buys_the_k_highest():
    assert exchange([5, 1, 4, 2, 3], [], k=3, n_drop=1) == ([], [0, 2, 4])


def test_the_lowest_held_make_room_for_better_ones():
    """Held 2, 3 (scores 4, 2); the best two others are 0, 4 (5, 3): of 5 4 3 2 the last two are 4 and 3."""
    assert exchange([5, 1, 4, 2, 3], [2, 3], k=2, n_drop=2) == ([3], [0])
    assert exchange([5, 1, 4, 2, 3], [1, 3], k=2, n_drop=2) == ([1, 3], [0, 2])
    assert exchange([5, 1, 4, 2, 3], [1, 3], k=2, n_drop=1) == ([1], [0])


def test_nothing_is_exchanged_for_worse():
    assert exchange([5, 1, 4, 2, 3], [0, 2], k=2, n_drop=2) == ([], [])


def test_the_buys_fill_what_is_missing():
    """One of two is held: 0 and 2 could come, of 5 4 2 the last is held and goes, so both come."""
    assert exchange([5, 1, 4, 2, 3], [3], k=2, n_drop=1) == ([3], [0, 2])
    assert exchange([5, 1, 4, 2, 3], [0], k=2, n_drop=1) == ([], [2])


def test_held_stocks_without_a_score_go_first():
    assert exchange([5, NAN, 4, 2, -3], [1, 4], k=2, n_drop=1) == ([1], [0])
    assert exchange([5, NAN, NAN, 4, 3, 2], [1, 2, 5], k=3, n_drop=1) == ([2], [0])  # ties by column: 1 before 2


def test_ties_go_by_the_order_of_the_symbols():
    assert exchange([1, 1, 1, 1], [], k=2, n_drop=1) == ([], [0, 1])
    assert exchange([1, 1, 1, 1], [2, 3], k=2, n_drop=1) == ([3], [0])
    assert exchange([1, 1, 1, 1], [0, 1], k=2, n_drop=1) == ([], [])


def test_more_than_k_held_shrink_again():
    """A stuck sell leaves one too many: the lowest goes and none comes, unless two go."""
    assert exchange([5, 4, 3, 2, 1], [0, 1, 2], k=2, n_drop=1) == ([2], [])
    assert exchange([5, 4, 3, 2, 1], [2, 3, 4], k=2, n_drop=2) == ([3, 4], [0])
    assert exchange([9, 8, 7, 6, 5, 4, 3, 2, 1], [5, 6, 7, 8], k=1, n_drop=1) == ([8], [])


def test_without_others_there_are_only_sells():
    assert exchange([5, 4, NAN], [0, 1], k=2, n_drop=1) == ([1], [])


def test_a_day_without_scores_keeps_everything():
    assert decide(plan_of([[NAN, NAN]], k=1), 0, [0], 2) is None


def test_held_days_count_from_fill_to_fill():
    scores = [[1, 0, 0], [0, 1, 0], [NAN] * 3, [0, 0, 1], [0, 0, 1]]
    plan = plan_of(scores, k=1, n_drop=1, hold_days=3)
    assert_array_equal(decide(plan, 0, [], 3).weights, [0.95, NAN, NAN])
    # one day held; Qlib buys for a sell that has to wait, from what cash there is
    assert_array_equal(decide(plan, 1, [0], 3).weights, [NAN, 0.95, NAN])
    assert decide(plan, 2, [0, 1], 3) is None  # counted all the same
    assert_array_equal(decide(plan, 3, [0, 1], 3).weights, [NAN, NAN, NAN])  # of 0, 1, 2 the last is 1, two days held
    assert_array_equal(decide(plan, 4, [0, 1], 3).weights, [NAN, 0.0, NAN])


def test_held_days_start_anew_with_a_new_buy():
    plan = plan_of([[1, 0]] * 3 + [[0, 1]] * 2, k=1, n_drop=1, hold_days=2)
    for day, held in enumerate([[], [0], []]):
        decide(plan, day, held, 2)
    assert_array_equal(decide(plan, 3, [0], 2).weights, [NAN, 0.95])
    assert_array_equal(decide(plan, 4, [0], 2).weights, [0.0, 0.95])


def test_fewer_stocks_than_k_names_the_day():
    with pytest.raises(DataError, match=r"fewer stocks than K: expected at least 3 .* got 2 on day 1 "):
        plan_of([[1, 2, 3], [1, 2, NAN]], k=3)


@pytest.mark.parametrize("bad", [{"k": 0}, {"n_drop": 0}, {"invested": 0}, {"invested": 1.1}, {"hold_days": 0}])
def test_settings_that_make_no_sense(bad):
    with pytest.raises(ValidationError):
        TopkDropout(**bad)


# ---- against an account kept in lists and dicts ----------------------------------------------------------------------


def reference(scores, close, tradable, cost, k, n_drop, invested, hold_days, delay, every):
    """(days, stocks) shares and (days,) cash, written from the description; counts exchanges and waits too."""
    n_days, n_stocks = scores.shape
    shares, bought, cash, first = {}, {}, 1.0, None
    all_shares, all_cash, seen = [], [], {"sold": 0, "stuck": 0, "waited": 0, "missed": 0, "too many": 0}
    for u in range(n_days):
        scored = {i: s for i, s in enumerate(scores[u - delay].tolist()) if s == s} if u >= delay else {}
        if scored and (first is None or (u - first) % every == 0):
            first = u if first is None else first

            def place(i, scored=scored):
                return (0, -scored[i], i) if i in scored else (1, 0, i)

            seen["too many"] += len(shares) > k
            last = sorted(shares, key=place)
            today = sorted((i for i in scored if i not in shares), key=place)
            today = today[: max(n_drop + k - len(last), 0)]
            comb = sorted([*last, *today], key=place)
            sell = [i for i in last if i in comb[-n_drop:]]
            buy = today[: max(len(sell) + k - len(last), 0)]
            for i in sell:
                if u - bought[i] < hold_days:
                    seen["waited"] += 1
                elif not tradable[u, i]:
                    seen["stuck"] += 1
                else:
                    seen["sold"] += 1
                    cash += shares.pop(i) * close[u, i] * (1 - cost)
            each = invested * cash / len(buy) if buy else 0.0
            for i in buy:
                if tradable[u, i]:
                    shares[i], bought[i] = each / close[u, i], u
                    cash -= each * (1 + cost)
                else:
                    seen["missed"] += 1
        all_shares.append([shares.get(i, 0.0) for i in range(n_stocks)])
        all_cash.append(cash)
    return np.array(all_shares), np.array(all_cash), seen


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("hold_days", "n_drop", "delay", "every"), [(1, 2, 1, 1), (4, 2, 1, 1), (1, 7, 0, 1), (3, 1, 2, 1), (5, 2, 1, 3)]
)
def test_against_an_account_of_lists_and_dicts(seed, hold_days, n_drop, delay, every):
    random = np.random.default_rng(seed)
    n_days, n_stocks, k, cost = 80, 16, 5, 0.01
    scores = random.normal(size=(n_days, n_stocks)).round(1) + random.normal(size=n_stocks)  # some stay good for long
    scores[random.random(scores.shape) < 0.3] = NAN
    scores[(np.isfinite(scores).sum(axis=1) < k) | (random.random(n_days) < 0.05)] = NAN
    close = 10 * np.exp(np.cumsum(random.normal(0, 0.03, scores.shape), axis=0))
    tradable = random.random(scores.shape) < 0.8
    settings = {"k": k, "n_drop": n_drop, "invested": 0.9, "hold_days": hold_days}
    shares, cash, seen = reference(scores, close, tradable, cost, **settings, delay=delay, every=every)

    terms = terms_of(Flat(commission=cost), close=np.where(tradable, close, NAN), tradable=tradable)
    simulation = simulate(terms, plan_of(scores, **settings), delay=delay, every=every)
    assert_allclose(simulation.shares, shares, rtol=1e-9, atol=1e-15)
    assert_allclose(simulation.cash, cash, rtol=1e-9)
    assert min(seen["sold"], seen["stuck"], seen["missed"], seen["too many"]) > 0
    assert hold_days <= every or seen["waited"] > 0
