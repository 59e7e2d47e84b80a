"""Risk, costs, capacity and decay: from a backtest to what the page shows."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from mimstocr.backtest.markets.cn_a_share import CnAShare
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.portfolio import portfolio_metrics
from mimstocr.backtest.risk import GroupExposure, SizeExposure, sizes
from mimstocr.backtest.run import BacktestResult, backtest
from mimstocr.backtest.settings import BacktestSettings
from mimstocr.backtest.strategies.quantile_long_short import QuantileLongShort
from mimstocr.backtest.strategies.top_k import TopK
from mimstocr.data.concepts import add_concepts
from mimstocr.data.panel import Panel, days_of, make_panel, symbols_of, usable
from mimstocr.errors import ConfigError
from mimstocr.evaluation import daily_metrics
from mimstocr.report import ReportInputs, RiskInputs, render, risk_inputs
from mimstocr.report import page as page_module

NAN = float("nan")
SYMBOLS = [f"SH60000{i}" for i in range(9)]
ALL_CHARTS = {
    "decay-marginal",
    "decay-cumulative",
    "rolling-sharpe",
    "size",
    "months",
    "industries",
    "costs",
    "capacity",
    "capacity-costs",
}


def world(days: int = 320, *, concepts: bool = True, volume: bool = True) -> tuple[Panel, np.ndarray]:
    random = np.random.default_rng(0)
    close = 10 * np.exp(np.cumsum(random.normal(scale=0.02, size=(days, 9)), axis=0))
    fields_ = {"close": close, **({"volume": random.integers(5_000, 90_000, close.shape) * 1.0} if volume else {})}
    dates = np.busday_offset("2019-01-01", np.arange(days), roll="forward").astype("datetime64[D]")
    panel = make_panel(fields_, dates, SYMBOLS, source="t")
    if concepts:
        table = pl.DataFrame({"symbol": SYMBOLS[:8], "concept": list("aabbbcc<")})
        panel = add_concepts(panel, table, "concepts")
    return panel, np.where(usable(panel), random.normal(size=close.shape), np.nan)


def run(panel: Panel, scores: np.ndarray, **changes: Any) -> BacktestResult:
    settings = {"strategy": TopK(k=3), "delay": 1, "market": CnAShare(participation=0.05), "capital": 1e5, **changes}
    days = days_of(panel)
    return backtest(panel, scores, BacktestSettings(**settings), first=days[20], last=days[-11])


@pytest.fixture(scope="module")
def made() -> tuple[Panel, np.ndarray, BacktestResult, RiskInputs]:
    panel, scores = world()
    result = run(panel, scores)
    return panel, scores, result, risk_inputs(panel, result, capitals=[1e4, 1e5, 1e6])


@pytest.fixture(scope="module", autouse=True)
def light() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_module, "get_plotlyjs", lambda: "/* plotly.js */")
        yield


def inputs_of(risk: RiskInputs | None, backtest: dict[str, Any] | None = None) -> ReportInputs:
    nothing = pl.DataFrame()
    metrics = {} if backtest is None else {"backtest": backtest}
    return ReportInputs("risky", {}, {}, {}, [], metrics, nothing, nothing, nothing, nothing, risk)


def charts_of(html: str) -> dict[str, Any]:
    found = re.findall(r'<script type="application/json" data-chart="([^"]+)">(.*?)</script>', html, re.S)
    return {name: json.loads(text) for name, text in found}


def text_of(html: str) -> str:
    bare = re.sub(r"<(script|style).*?</\1>", " ", html, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", bare))


def array(of: Any) -> np.ndarray:
    if isinstance(of, dict):
        flat = np.frombuffer(base64.b64decode(of["bdata"]), dtype=of["dtype"])
        return flat.reshape([int(n) for n in of["shape"].split(",")]) if "shape" in of else flat
    return np.asarray(of, dtype=float)


@pytest.fixture(scope="module")
def html(made: tuple[Panel, np.ndarray, BacktestResult, RiskInputs]) -> str:
    return render(inputs_of(made[3], {"universe": {"annual_return": 0.123}}))


@pytest.fixture(scope="module")
def charts(html: str) -> dict[str, Any]:
    return charts_of(html)


# ---- risk_inputs ---------------------------------------------------------------------------------------------------


def test_everything_is_of_the_days_compared(made: Any) -> None:
    _, _, result, risk = made
    assert risk.days is result.days
    assert risk.sharpe_days == 126
    assert set(risk.sharpe) == {"net", "universe"}
    assert all(len(values) == len(result.days) for values in risk.sharpe.values())
    last = portfolio_metrics(result.net_returns[-126:], 252)["sharpe"]
    assert risk.sharpe["net"][-1] == pytest.approx(last)
    assert risk.industries.account.shape == (len(result.days), 5)  # a, b, c, < and none
    assert risk.size["held"].rank.shape == (len(result.days),)
    assert set(risk.size) == {"held"}
    assert np.prod(1 + risk.months["total"].to_numpy()) == pytest.approx(result.net.value[-1] / 1e5)
    assert risk.drawdowns["depth"].min() == pytest.approx(result.metrics["net"]["max_drawdown"])
    assert risk.costs["of_capital"].sum() == pytest.approx(result.metrics["net"]["costs"])
    assert risk.orders["buys"].sum() + risk.orders["sells"].sum() == sum(result.net.reasons().values())
    assert risk.capacity["capital"].to_list() == [1e4, 1e5, 1e6]
    assert risk.capacity["sharpe"][1] == result.metrics["net"]["sharpe"]


def test_exposure_of_the_last_day_by_hand(made: Any) -> None:
    panel, _, result, risk = made
    shares, value = result.net.shares[-1], result.net.value[-1]
    close = panel["close"].values[days_of(panel) == result.days[-1]][0].astype(float)
    held = shares * close / value
    assert risk.industries.names == ["<", "a", "b", "c", "none"]
    assert risk.industries.account[-1] == pytest.approx(
        [held[7], held[:2].sum(), held[2:5].sum(), held[5:7].sum(), held[8]]
    )
    money = sizes(panel)[0][days_of(panel) == result.days[-1]][0]
    ranks = [(sum(other < one for other in money) + 0.5) / 9 for one in money]
    assert risk.size["held"].rank[-1] == pytest.approx(np.dot(held, ranks) / held.sum())
    assert risk.industries.universe[-1] == pytest.approx([1 / 9, 2 / 9, 3 / 9, 2 / 9, 1 / 9])


def test_decay_counts_from_the_close_of_the_fill(made: Any) -> None:
    panel, scores, result, risk = made
    assert risk.delay == 1
    rows = slice(20, 20 + len(result.simulated_days))
    close, label = panel["close"].values[rows].astype(float), np.full(scores[rows].shape, np.nan)
    label[:-2] = close[2:] / close[1:-1] - 1
    ic = daily_metrics(scores[rows], label)["ic"]
    assert risk.decay["ic"][0] == pytest.approx(np.nanmean(ic))
    assert risk.decay["days"][0] == len(ic) - 2


def test_prices_after_the_last_day_change_nothing(made: Any) -> None:
    panel, scores, _, risk = made
    changed = {name: panel[name].values.copy() for name in ("close", "volume")}
    changed["close"][-10:] *= np.random.default_rng(1).uniform(0.5, 2, (10, 9))
    changed["volume"][-10:] *= 3
    table = pl.DataFrame({"symbol": SYMBOLS[:8], "concept": list("aabbbcc<")})
    later = add_concepts(make_panel(changed, days_of(panel), symbols_of(panel), source="t"), table, "concepts")
    again = risk_inputs(later, run(later, scores), capitals=[1e4, 1e5, 1e6])
    for field in fields(RiskInputs):
        ours, theirs = getattr(risk, field.name), getattr(again, field.name)
        if isinstance(ours, pl.DataFrame):
            assert ours.equals(theirs), field.name
    assert np.array_equal(risk.size["held"].rank, again.size["held"].rank)
    assert np.array_equal(risk.industries.active, again.industries.active)


def test_what_a_source_does_not_know_is_left_out() -> None:
    panel, scores = world(60, concepts=False, volume=False)
    result = run(panel, scores, market=Flat())
    risk = risk_inputs(panel, result, capitals=[1e4, 1e5])
    assert risk.industries is None
    assert risk.size == {}
    assert risk.sharpe_days is None  # 29 days are less than two quarters
    assert risk.capacity is None
    assert risk.size_rules == []
    page = render(inputs_of(risk))
    assert set(charts_of(page)) == ALL_CHARTS - {"industries", "size", "rolling-sharpe", "capacity", "capacity-costs"}
    assert "In this market nothing depends on the amount of money" in text_of(page)


def test_a_short_test_has_the_sharpe_of_a_quarter() -> None:
    panel, scores = world(170, concepts=False)
    risk = risk_inputs(panel, run(panel, scores))
    assert risk.sharpe_days == 63
    assert risk.capacity is None
    text = text_of(render(inputs_of(risk)))
    assert "of the last 63 days" in text
    assert "How the result depends on the amount of money was not asked for." in text


def test_what_is_sold_short_has_a_line_of_its_own() -> None:
    panel, scores = world(90)
    result = run(panel, scores, market=Flat(short=True), strategy=QuantileLongShort(fraction=0.3))
    risk = risk_inputs(panel, result)
    assert set(risk.size) == {"held", "short"}
    page = render(inputs_of(risk))
    assert [trace["name"] for trace in charts_of(page)["size"]["data"]] == ["Held", "Short"]
    assert "orange: what is sold short" in text_of(page)


def test_capitals_are_checked(made: Any) -> None:
    with pytest.raises(ConfigError, match="amounts of money"):
        risk_inputs(made[0], made[2], capitals=[])


# ---- the page ------------------------------------------------------------------------------------------------------


def test_every_chart_of_the_risk_is_there(html: str, charts: dict[str, Any]) -> None:
    assert set(charts) == ALL_CHARTS
    for name in ("risk", "costs"):
        assert f'<section id="{name}">' in html
        assert f'href="#{name}"' in html


def test_without_risk_there_are_no_such_sections() -> None:
    page = render(inputs_of(None))
    assert charts_of(page) == {}
    assert 'id="risk"' not in page
    assert 'href="#costs"' not in page


def test_months_are_in_their_cells(made: Any, charts: dict[str, Any]) -> None:
    cells = charts["months"]["data"][0]
    z = array(cells["z"])
    months = made[3].months
    assert cells["y"] == [str(year) for year in months["year"]]
    assert cells["x"][0] == "Jan"
    assert cells["x"][-1] == "Year"
    assert z[0, 4] == pytest.approx(months["may"][0])
    assert z[1, -1] == pytest.approx(months["total"][1])
    assert np.isnan(z[-1, 11])  # the test ends before December
    assert cells["text"][-1][11] == ""
    assert cells["zmax"] == -cells["zmin"] == pytest.approx(np.nanmax(np.abs(z[:, :-1])))


def test_industries_are_sorted_by_their_mean(made: Any, charts: dict[str, Any]) -> None:
    risk = made[3]
    cells = charts["industries"]["data"][0]
    mean = risk.industries.active.mean(axis=0)
    order = sorted(range(5), key=lambda i: -mean[i])
    written = [risk.industries.names[i].replace("<", "&lt;") for i in order]
    assert [label.split("  ")[0] for label in cells["y"]] == written
    assert cells["y"][0].endswith(f"{mean[order[0]]:+.1%}")
    first = [day for day in risk.days if str(day).startswith(cells["x"][3])]
    rows = np.isin(risk.days, first)
    assert array(cells["z"])[1, 3] == pytest.approx(risk.industries.active[rows][:, order[1]].mean())


def test_only_the_industries_that_differ_most_are_shown() -> None:
    days = np.datetime64("2020-01-01") + np.arange(40)
    active = np.tile(np.linspace(-0.1, 0.2, 31), (40, 1))
    risk = RiskInputs(days=days, industries=GroupExposure([f"g{i}" for i in range(31)], active, np.zeros((40, 31))))
    page = render(inputs_of(risk))
    cells = charts_of(page)["industries"]["data"][0]
    assert [label.split()[0] for label in cells["y"]] == [f"g{i}" for i in range(30, 22, -1)]
    assert "The 8 of 31 groups that differ most" in text_of(page)


def test_decay_bars_have_their_errors(made: Any, charts: dict[str, Any]) -> None:
    decay = made[3].decay
    for kind in ("marginal", "cumulative"):
        rows = decay.filter(pl.col("returns") == kind)
        bars = {trace["name"]: trace for trace in charts[f"decay-{kind}"]["data"]}
        for name, key in (("IC", "ic"), ("RankIC", "rank_ic")):
            assert list(bars[name]["x"]) == list(range(1, 21))
            assert array(bars[name]["y"]) == pytest.approx(rows[key].to_numpy())
            assert array(bars[name]["error_y"]["array"]) == pytest.approx(rows[f"{key}_se"].to_numpy())


def test_capacity_is_drawn_against_the_capital(made: Any, charts: dict[str, Any], html: str) -> None:
    table = made[3].capacity
    by_name = {t["name"]: t for t in charts["capacity"]["data"] + charts["capacity-costs"]["data"]}
    names = {
        "Annual return": "annual_return",
        "Sharpe": "sharpe",
        "Costs": "cost_bp",
        "Cut to the share of the volume": "cut_by_volume",
        "Less than a lot": "below_a_lot",
    }
    assert set(by_name) == set(names)
    for name, key in names.items():
        assert array(by_name[name]["x"]).tolist() == [1e4, 1e5, 1e6]
        assert array(by_name[name]["y"]) == pytest.approx(table[key].to_numpy())
    assert charts["capacity"]["layout"]["xaxis"]["type"] == "log"
    levels = [shape["y0"] for shape in charts["capacity"]["layout"]["shapes"] if shape["y0"] == shape["y1"]]
    assert levels == [0.123]
    text = text_of(html)
    assert "Here the largest share of the volume, the least commission and the lot depend on the amount." in text


def test_a_capital_that_lost_everything_is_told(made: Any) -> None:
    table = made[3].capacity
    lost = table.with_columns(
        *(pl.when(pl.col("capital") == 1e4).then(None).otherwise(pl.col(n)).alias(n) for n in table.columns[1:-1]),
        problem=pl.when(pl.col("capital") == 1e4).then(pl.lit("the account lost everything")),
    )
    page = render(inputs_of(replace(made[3], capacity=lost)))
    assert "Without figures: 10,000: the account lost everything." in text_of(page)
    assert np.isnan(array(charts_of(page)["capacity"]["data"][0]["y"])[0])


def test_costs_and_orders_are_tables(made: Any, charts: dict[str, Any], html: str) -> None:
    _, _, result, risk = made
    bars, text = charts["costs"]["data"][0], text_of(html)
    assert bars["y"] == ["commission", "stamp duty", "transfer fee", "slippage"]
    assert array(bars["x"]) == pytest.approx(risk.costs["of_capital"].to_numpy())
    paid, points = float(result.costs.sum()), risk.costs["basis_points"].sum()
    assert f"in all {paid:,.0f} {paid / 1e5:.2%} {points:.2f}" in text
    total = sum(result.net.reasons().values())
    row = risk.orders.row(0, named=True)
    n = row["buys"] + row["sells"]
    assert f"{row['outcome'].capitalize()} {row['buys']:,} {row['sells']:,} {n / total:.2%}" in text


def test_drawdowns_are_a_table() -> None:
    days = np.datetime64("2020-01-01") + np.arange(4)
    rows = {
        "start": [None, days[1].item()],
        "trough": [days[0].item(), days[2].item()],
        "recovered": [days[1].item(), None],
        "depth": [-0.2, -0.1],
        "days_down": [1, 1],
        "days_to_recover": [1, None],
    }
    text = text_of(render(inputs_of(RiskInputs(days=days, drawdowns=pl.DataFrame(rows)))))
    assert "before the first day 2020-01-01 2020-01-02 -20.00% 1 1" in text
    assert "2020-01-02 2020-01-03 not yet -10.00% 1 \u2013" in text


def test_holdings_of_unknown_size_are_told() -> None:
    days = np.datetime64("2020-01-01") + np.arange(3)
    size = {"held": SizeExposure(np.array([0.2, NAN, 0.4]), 17)}
    page = render(inputs_of(RiskInputs(days=days, size=size, size_is="market value")))
    assert "17 holdings (stock-days) of unknown size are left out." in text_of(page)
    assert charts_of(page)["size"]["data"][0]["x"] == ["2020-01-01", "2020-01-03"]


def spoiled(value: Any) -> Any:
    """Every number unknown."""
    if isinstance(value, pl.DataFrame):
        floats = [name for name, kind in value.schema.items() if kind == pl.Float64]
        return value.with_columns(
            pl.lit(None if i % 2 else NAN, dtype=pl.Float64).alias(name) for i, name in enumerate(floats)
        )
    if isinstance(value, np.ndarray) and value.dtype == float:
        return np.full(value.shape, NAN)
    if isinstance(value, dict):
        return {key: spoiled(inner) for key, inner in value.items()}
    if isinstance(value, SizeExposure):
        return SizeExposure(spoiled(value.rank), 0)
    if isinstance(value, GroupExposure):
        return GroupExposure(value.names, spoiled(value.account), value.universe)
    return value


def test_unknown_values_leave_no_trace(made: Any) -> None:
    risk = RiskInputs(**{field.name: spoiled(getattr(made[3], field.name)) for field in fields(RiskInputs)})
    page = render(inputs_of(risk))
    assert charts_of(page) == {}
    for wrong in ("nan", "None", "inf", "NaN"):
        assert not re.search(rf"(?<![\w.]){wrong}(?!\w)", text_of(page)), wrong
    cleared = {
        field.name: value.clear() if isinstance(value := getattr(made[3], field.name), pl.DataFrame) else value
        for field in fields(RiskInputs)
    }
    page = render(inputs_of(RiskInputs(**cleared)))
    assert set(charts_of(page)) == {"rolling-sharpe", "size", "industries"}


def test_names_of_groups_and_costs_are_text_not_tags(made: Any) -> None:
    hostile = "<img src=x>"
    risk = replace(
        made[3],
        industries=GroupExposure([hostile, *"bcde"], made[3].industries.account, made[3].industries.universe),
        costs=made[3].costs.with_columns(kind=pl.lit(hostile)),
        orders=made[3].orders.with_columns(outcome=pl.lit(hostile)),
    )
    page = render(inputs_of(risk))
    assert hostile not in page
    assert charts_of(page)["costs"]["data"][0]["y"][0] == "&lt;img src=x&gt;"
