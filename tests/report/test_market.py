from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest

from mimstocr.backtest.market import Fee, Market
from mimstocr.backtest.markets.cn_a_share import CnAShare
from mimstocr.backtest.markets.crypto import Crypto
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.markets.qlib_cn import QlibCn
from mimstocr.backtest.markets.us_equity import UsEquity
from mimstocr.report.inputs import ReportInputs
from mimstocr.report.market import trading_terms

SPAN = (date(2017, 1, 3), date(2020, 9, 24))


def said(
    market: Market | dict[str, Any] | None, *, span: tuple[date, date] | None = SPAN, config: Any = None, **more: Any
) -> str:
    nothing = pl.DataFrame()
    told = {"delay": 1, **more}
    if market is not None:
        told["market"] = market.model_dump(mode="json") if isinstance(market, Market) else market
    days = nothing if span is None else pl.DataFrame({"date": list(span)})
    return trading_terms(
        ReportInputs("n", config or {}, {}, {}, [], {"backtest": told}, nothing, nothing, days, nothing)
    )


def test_flat() -> None:
    assert said(Flat()) == "Orders fill at the close 1 trading day later. Every buy and sell costs 0.1% of its value."
    assert said(Flat(commission=0), delay=0) == "Orders fill at the very close the score has seen. No commission."


def test_chinese_stocks() -> None:
    assert said(CnAShare(), delay=2) == (
        "Orders fill at the close 2 trading days later. Market CN a share: every buy and sell costs 0.025% of its "
        "value, 5 at least; stamp duty 0.1% of sells; transfer fee 0.002% of buys and sells; every order fills 0.05% "
        "worse than its price; an order is at most 10% of the stock's volume of the day; lots of 100 shares; nothing "
        "is bought at the upper price limit or sold at the lower one."
    )


def test_american_stocks_and_coins() -> None:
    text = said(UsEquity())
    assert text.startswith("Orders fill at the close 1 trading day later. Market US equity: no commission; sec fee ")
    assert "sec fee 0.0013% to 0.00231% of sells; " in text  # the lowest and highest from 2017-01 to 2020-09
    assert "stocks sold short cost 0.5% a year; every order fills 0.02% worse than its price; whole shares." in text
    assert "0.01% a year" not in said(Crypto())
    assert "on credit" not in said(Crypto())
    assert "up to 2 times the account's value is held, on credit at 10% a year" in said(Crypto(leverage=2))


def test_every_rule_has_words() -> None:
    text = said(Flat(impact=0.8, suspensions=False, delisting_loss=0.3, price="open", lot=1))
    assert "Orders fill at the open 1 trading day later" in text
    assert "fills worse by 0.8 x daily volatility" in text
    assert "suspended stocks trade at their last known price" in text
    assert "a delisted stock loses 30% of its last price" in text
    assert "whole shares" in text
    assert "the volume-weighted mean price 1 trading" in said(Flat(price="vwap"))
    own = said(QlibCn())
    assert "extra sell 0.001" in own  # a setting of this market alone, under its own name
    assert "limit 0.095" in own
    assert "lot slack" not in own


@pytest.mark.parametrize(
    ("span", "told"),
    [
        (("2015-01-01", "2015-06-30"), "duty 0.1% of buys and sells."),
        (("2015-06-01", "2016-12-30"), "duty 0.1% to 0.2% of buys and 0.1% of sells."),
        (("2016-06-01", "2016-12-30"), "duty 0.2% of buys and 0.1% of sells."),
        (("2018-06-01", "2018-12-30"), "costs 0.1% of its value."),
        (("2009-06-01", "2009-12-30"), "costs 0.1% of its value."),
    ],
)
def test_fees_are_those_of_the_days(span: tuple[str, str], told: str) -> None:
    fees = (
        Fee(since=date(2010, 1, 1), buy=0.001, sell=0.001),
        Fee(since=date(2016, 1, 1), buy=0.002, sell=0.001),
        Fee(since=date(2018, 1, 1)),
    )
    first, last = (date.fromisoformat(day) for day in span)
    assert said(Flat(fees={"duty": fees}), span=(first, last)).endswith(told)


def test_runs_from_before_there_were_markets() -> None:
    flat = "Every buy and sell costs 0.1% of its value."
    assert said(None, cost=0.001).endswith(flat)
    assert said(None, config={"backtest": {"cost": 0.001}}).endswith(flat)
    assert said(None, config={"backtest": {"market": {"kind": "flat", "commission": 0.001}}}).endswith(flat)


def test_what_is_not_known_is_said() -> None:
    assert said(None) == "Orders fill at the close 1 trading day later. What trading costs is not known."
    text = said({"kind": "flat", "commission": None}, span=None, delay=None, every=5)
    assert text == (
        "Orders fill at a close that is not known, decided every 5 trading days. Every buy and sell costs an unknown "
        "part of its value."
    )
