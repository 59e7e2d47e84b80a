"""Our metrics against those of a well-kept library, on random series."""

import empyrical
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from mimstocr.backtest.portfolio import drawdown, portfolio_metrics
from mimstocr.backtest.risk import MONTHS, drawdowns, monthly_returns, rolling_sharpe


def series(seed, n):
    """Returns with quiet days, fat tails and a benchmark they depend on."""
    random = np.random.default_rng(seed)
    benchmark = random.standard_t(4, n) / 120
    returns = 0.7 * benchmark + random.normal(0.0004, 0.012, n)
    returns[random.random(n) < 0.05] = 0.0
    return returns, benchmark


@pytest.mark.parametrize("year", [252, 365])
@pytest.mark.parametrize(("seed", "n"), [(0, 30), (1, 250), (2, 1000), (3, 777)])
def test_portfolio_metrics(seed, n, year):
    r, b = series(seed, n)
    ours = portfolio_metrics(r, year, b)
    theirs = {
        "cumulative_return": empyrical.cum_returns_final(r),
        "annual_return": empyrical.annual_return(r, annualization=year),
        "annual_volatility": empyrical.annual_volatility(r, annualization=year),
        "sharpe": empyrical.sharpe_ratio(r, annualization=year),
        "sortino": empyrical.sortino_ratio(r, annualization=year),
        "max_drawdown": empyrical.max_drawdown(r),
        "calmar": empyrical.calmar_ratio(r, annualization=year),
        "beta": empyrical.beta(r, b),
        "tracking_error": empyrical.annual_volatility(r - b, annualization=year),
        "information_ratio": empyrical.excess_sharpe(r, b) * year**0.5,  # theirs is of a day
    }
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(float(value), rel=1e-9), name
    # theirs compounds the daily alpha over the year, ours sums it
    assert (1 + ours["alpha"] / year) ** year - 1 == pytest.approx(empyrical.alpha(r, b, annualization=year), rel=1e-9)


def test_a_loss_on_the_first_day():
    r = np.array([-0.2, 0.05, -0.1, 0.5])
    assert portfolio_metrics(r, 252)["max_drawdown"] == pytest.approx(empyrical.max_drawdown(r), rel=1e-12)
    assert drawdowns(r, np.datetime64("2020-01-01") + np.arange(4))["depth"].min() == pytest.approx(
        empyrical.max_drawdown(r), rel=1e-12
    )


@pytest.mark.parametrize("seed", range(4))
def test_every_drawdown(seed):
    """Each is the library's deepest of its own days, and what is left between them is no fall."""
    r, _ = series(seed, 400)
    days = np.datetime64("2020-01-01") + np.arange(400)
    found = drawdowns(r, days, n=400)
    assert found["depth"].min() == pytest.approx(float(empyrical.max_drawdown(r)), rel=1e-12)
    for start, recovered, depth in found.select("start", "recovered", "depth").iter_rows():
        begins = 0 if start is None else int(np.searchsorted(days, np.datetime64(start))) + 1
        ends = len(r) if recovered is None else int(np.searchsorted(days, np.datetime64(recovered)))
        assert depth == pytest.approx(float(empyrical.max_drawdown(r[begins:ends])), rel=1e-9)
    assert len(found) == int((np.diff(np.concatenate([[False], drawdown(r) < 0]).astype(int)) == 1).sum())


@pytest.mark.parametrize(("seed", "first"), [(0, "2017-01-01"), (1, "2019-11-20"), (2, "2016-02-29")])
def test_months_and_years(seed, first):
    r, _ = series(seed, 800)
    days = pd.bdate_range(first, periods=800)
    ours = monthly_returns(r, days.to_numpy().astype("datetime64[D]"))
    months = empyrical.aggregate_returns(pd.Series(r, days), "monthly")
    years = empyrical.aggregate_returns(pd.Series(r, days), "yearly")
    assert ours["year"].to_list() == years.index.to_list()
    assert_allclose(ours["total"], years, rtol=1e-9)
    found = {
        (row["year"], i): row[name]
        for row in ours.iter_rows(named=True)
        for i, name in enumerate(MONTHS, start=1)
        if row[name] is not None
    }
    assert list(found) == months.index.to_list()
    assert_allclose(list(found.values()), months, rtol=1e-9)


@pytest.mark.parametrize("window", [2, 21, 126])
def test_rolling_sharpe(window):
    r, _ = series(5, 300)
    theirs = empyrical.roll_sharpe_ratio(r, window, annualization=252)
    ours = rolling_sharpe(r, window, 252)
    assert np.isnan(ours[: window - 1]).all()
    assert_allclose(ours[window - 1 :], theirs, rtol=1e-9)
