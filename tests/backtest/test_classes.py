"""Two asset classes on their own calendars in one account: closed days keep scores, hold prices and fill nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mimstocr.backtest import BacktestSettings, backtest, make_terms, view_of
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.orders import NO_PRICE
from mimstocr.backtest.run import BacktestResult, carried
from mimstocr.backtest.strategies.top_k import TopK
from mimstocr.data.assets import merge_classes
from mimstocr.data.panel import Panel, make_panel

NAN = np.nan
DAYS = np.arange("2024-02-29", "2024-03-06", dtype="datetime64[D]")  # Thu Fri Sat Sun Mon Tue
OPEN = np.array([0, 1, 4, 5])
STOCK = np.array([10.0, 10.0, 11.0, 22.0])
COIN = np.array([100.0, 100.0, 50.0, 200.0, 100.0, 100.0])
SCORES = np.array([[2.0, 1.0], [2.0, 1.0], [NAN, 5.0], [NAN, 1.0], [1.0, 2.0], [1.0, 2.0]])


def panel_of(close: np.ndarray, days: np.ndarray, symbols: list[str], **more: object) -> Panel:
    return make_panel({"close": close}, days, symbols, source="test", **more)


@pytest.fixture
def both() -> Panel:
    stocks = panel_of(STOCK[:, None], DAYS[OPEN], ["A"])
    return merge_classes({"stocks": stocks, "crypto": panel_of(COIN[:, None], DAYS, ["X"], days_per_year=365)})


def run(panel: Panel, scores: np.ndarray, first: int = 0, **changes: object) -> BacktestResult:
    settings = {"strategy": TopK(k=1), "delay": 1, "market": Flat(commission=0), "capital": 100.0, **changes}
    return backtest(panel, scores, BacktestSettings(**settings), first=DAYS[first], last=DAYS[-1])


def test_a_weekend_by_hand(both: Panel) -> None:
    result = run(both, SCORES)
    # Thu: A wins, 10 A at Friday's 10. Fri: A again, nothing to do. Sat: X wins by 5 to the 2 that stands, but A has no
    # price on Sunday. Sun: A wins by 2 to 1, kept. Mon: X wins; Tue: 10 A sold at 22, 2.2 X bought at 100.
    assert_allclose(result.net.value, [100, 100, 100, 100, 110, 220])
    assert_allclose(result.net.shares, [[0, 0], [10, 0], [10, 0], [10, 0], [10, 0], [0, 2.2]])
    assert result.net.stuck_sells.tolist() == [0, 0, 0, 1, 0, 0]
    assert result.counts["stale_marks"] == 0
    # an equal part of every member: on closed days A moves by 0, on Monday by what it did since Friday
    assert_allclose(result.universe_returns, [(0 - 0.5) / 2, (0 + 3) / 2, (0.1 - 0.5) / 2, (1 + 0) / 2], rtol=1e-6)
    assert any("on which it is closed" in note for note in result.notes())


def test_the_friday_score_of_a_stock_is_filled_on_monday(both: Panel) -> None:
    scores = SCORES.copy()
    scores[0] = [1.0, 2.0]  # X is bought on Friday
    scores[2, 1] = 1.0
    result = run(both, scores)
    # Fri, Sat and Sun want A: X is sold on Saturday at 50, A comes on Monday at 11, one of its own days after the score
    assert_allclose(result.net.shares[:5, 0], [0, 0, 0, 0, 50 / 11])
    assert_allclose(result.net.value, [100, 100, 50, 50, 50, 50 / 11 * 22])


def test_scores_stand_only_while_their_class_is_closed(both: Panel) -> None:
    stood = carried(both, SCORES, slice(0, 6))
    assert_array_equal(stood, [[2, 1], [2, 1], [2, 5], [2, 1], [1, 2], [1, 2]])
    missing = SCORES.copy()
    missing[1, 0] = NAN  # suspended on Friday
    assert np.isnan(carried(both, missing, slice(0, 6))[1:4, 0]).all()
    future = SCORES.copy()
    future[4:] = 99.0
    assert_array_equal(carried(both, future, slice(0, 6))[:4], stood[:4])


def test_a_window_that_starts_on_a_weekend_waits_for_all_classes(both: Panel) -> None:
    stood = carried(both, SCORES[2:], slice(2, 6))
    assert np.isnan(stood[:2]).all()
    assert_array_equal(stood[2:], SCORES[4:])
    assert run(both, SCORES, first=2, delay=0).counts["days_without_decision"] == 2


def test_a_class_that_does_not_exist_yet_is_not_waited_for() -> None:
    stocks = panel_of(STOCK[2:, None], DAYS[OPEN[2:]], ["A"])
    later = merge_classes({"stocks": stocks, "crypto": panel_of(COIN[:, None], DAYS, ["X"])})
    scores = SCORES.copy()
    scores[:2, 0] = NAN
    assert_array_equal(carried(later, scores, slice(0, 6)), scores)


def test_terms_of_a_class_are_those_it_has_alone() -> None:
    random = np.random.default_rng(0)
    days = np.datetime64("2024-01-01") + np.arange(60)
    work = days[np.is_busday(days)]
    closes = {"stocks": random.uniform(9, 11, (len(work), 3)), "crypto": random.uniform(9, 11, (60, 2))}
    volume = {name: random.uniform(100, 200, close.shape) for name, close in closes.items()}
    closes["stocks"][-30:, 2] = volume["stocks"][-30:, 2] = NAN  # delisted: settled 20 of its own days later
    parts = {
        name: make_panel({"close": close, "volume": volume[name]}, own, list(names), source=name, days_per_year=365)
        for (name, close), own, names in zip(closes.items(), (work, days), ("ABC", "XY"), strict=True)
    }
    whole = merge_classes(parts)
    rules = Flat(commission=0.001, impact=1.0, participation=0.1, lot=1, borrow=0.1)
    terms = make_terms(rules, whole, slice(0, 60))
    at = {"stocks": (np.isin(days, work), slice(0, 3)), "crypto": (np.ones(60, dtype=bool), slice(3, 5))}
    for name, part in parts.items():
        alone = make_terms(rules, part, slice(0, part.sizes["date"]))
        rows, columns = at[name]
        for field in (
            "worth",
            "mark",
            "blocked_buy",
            "blocked_sell",
            "stale",
            "gone",
            "step",
            "least",
            "cap",
            "impact",
        ):
            assert_array_equal(getattr(terms, field)[rows][:, columns], getattr(alone, field), err_msg=field)
        assert (terms.borrow, terms.kinds) == (alone.borrow, alone.kinds)
    shut = ~np.isin(days, work)
    assert (terms.blocked_buy[shut, :3] == NO_PRICE).all()
    assert (terms.blocked_sell[shut, :3] == NO_PRICE).all()
    before = np.searchsorted(work, days[shut]) - 1
    assert_array_equal(terms.mark[shut, :2], closes["stocks"].astype(np.float32)[before, :2])
    assert_array_equal(terms.worth[shut], terms.mark[shut] * [1, 1, 1, 0, 0] + terms.worth[shut] * [0, 0, 0, 1, 1])
    middle = make_terms(rules, whole, slice(30, 50))
    assert_array_equal(middle.impact, terms.impact[30:50])
    assert_array_equal(middle.rates, terms.rates[30:50])


def test_a_strategy_sees_closed_days_as_days_without_a_move(both: Panel) -> None:
    view = view_of(both, slice(2, 6))
    assert_array_equal(view.closes[:, 0], [10, 10, 10, 10, 11, 22])
    assert view.tradable is not None
    assert view.tradable.all()
    assert view.days_per_year == 365
