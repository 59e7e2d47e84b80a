"""Chinese A shares."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from mimstocr.backtest.market import MARKETS, Fee, Fraction, Market, Mask, Prices, Values
from mimstocr.data.universe import read_spans
from mimstocr.errors import ConfigError

CHINEXT_WIDE = date(2020, 8, 24)
"""From this day the limits of ChiNext (SZ300, SZ301) are those of STAR."""
MAIN_REFORM = date(2023, 4, 10)
"""From this day new listings on the main boards have no limits for five days."""
NO_TICKS = 0.003
"""Without real prices the limits are taken this much nearer, as real ones are rounded to 0.01."""


@MARKETS.register("cn_a_share")
class CnAShare(Market):
    """Shanghai, Shenzhen, Beijing: lots of 100, daily price limits, stamp duty, commission with a minimum.

    - T+1: there is one order a stock and day, so nothing is sold on the day it was bought.
    - Limits: 10 % of the close before, 20 % on STAR (688, 689) and on ChiNext (300, 301, 302) from 2020-08-24, 30 % in
      Beijing (BJ), 5 % for special treatment (`st`) on the main boards. The limit is rounded to 0.01 of the real price,
      close / factor; without a factor in the source it is taken 0.3 % nearer. A stock without a close before has none
      that day; nor has one on its first five days on STAR, on ChiNext from 2020-08-24, on the main boards from
      2023-04-10, as far as the data shows the listing. Before those days a new stock was at its limit from the opening
      of its first day, and is not bought on it. A symbol without digits counts as one of the main boards.
    - Lots: 100 shares; on STAR 200 or any more, in Beijing 100 or any more. What is held can always be sold whole, so
      odd lots can go.
    - Stamp duty: 0.4 % on both sides from 1998-06-12, 0.2 % from 2001-11-16, 0.1 % from 2005-01-24, 0.3 % from
      2007-05-30, 0.1 % from 2008-04-24; on sells alone from 2008-09-19, 0.05 % from 2023-08-28. Transfer fee: 0.002 %
      on both sides from 2015-08-01, 0.001 % from 2022-04-29.
    """

    commission: Fraction = 0.00025
    """Fraction of the traded value, on buys and sells; 0.025 % is what brokers have asked since about 2015."""
    min_commission: Annotated[float, Field(ge=0)] = 5.0
    """The least that an order pays as commission, in yuan."""
    fees: dict[str, tuple[Fee, ...]] = {
        "stamp_duty": (
            Fee(since=date(1998, 6, 12), buy=0.004, sell=0.004),
            Fee(since=date(2001, 11, 16), buy=0.002, sell=0.002),
            Fee(since=date(2005, 1, 24), buy=0.001, sell=0.001),
            Fee(since=date(2007, 5, 30), buy=0.003, sell=0.003),
            Fee(since=date(2008, 4, 24), buy=0.001, sell=0.001),
            Fee(since=date(2008, 9, 19), sell=0.001),
            Fee(since=date(2023, 8, 28), sell=0.0005),
        ),
        "transfer_fee": (
            Fee(since=date(2015, 8, 1), buy=0.00002, sell=0.00002),
            Fee(since=date(2022, 4, 29), buy=0.00001, sell=0.00001),
        ),
    }
    """Stamp duty and transfer fee, each with its rates from a day on."""
    participation: Annotated[float, Field(gt=0, le=1)] | None = 0.1
    """The largest share of a stock's volume of the day that one order may be; none: no limit."""
    lot: Annotated[float, Field(gt=0)] | None = 100.0
    """Real shares in a lot; none: shares are fractional."""
    slippage: Fraction = 0.0005
    """Fraction of the price by which every order is filled worse; 0.05 % is half the spread of a stock of 20 yuan."""
    price_limits: bool = True
    """Whether the daily price limits bind."""
    st: Path | None = None
    """A file of spans of special treatment: symbol, first day, last day, as in Qlib's instruments files. Without one
    the limits of 5 % are unknown, and such stocks are taken to have 10 %."""

    def limits(self, prices: Prices) -> tuple[Mask, Mask]:
        """Where the fill price is at or beyond the day's limits."""
        boards = np.array([_board(symbol) for symbol in prices.symbols])
        reformed = prices.days >= np.datetime64(CHINEXT_WIDE)
        share = np.full(prices.fill.shape, 0.10)
        share[:, boards == "star"] = 0.20
        share[:, boards == "beijing"] = 0.30
        share[np.ix_(reformed, boards == "chinext")] = 0.20
        self._special(share, prices, boards == "main")
        free = np.zeros(prices.fill.shape, dtype=bool)  # days that know the new listings' freedom
        free[:, boards == "star"] = True
        free[np.ix_(reformed, boards == "chinext")] = True
        free[np.ix_(prices.days >= np.datetime64(MAIN_REFORM), boards == "main")] = True
        share[free & (prices.age < 5)] = np.inf
        scarce = ~free & (prices.age == 0) & np.isin(boards, ("main", "chinext"))
        with np.errstate(invalid="ignore"):
            if prices.factor is None:
                move = prices.fill / prices.before - 1.0
                return (move >= share - NO_TICKS) | scarce, move <= -share + NO_TICKS
            # the exchange's reference on a day of splits is the close before in shares of that day
            real, reference = prices.fill / prices.factor, _to_tick(prices.before / prices.factor)
            upper, lower = _to_tick(reference * (1 + share)), _to_tick(reference * (1 - share))
            return (real >= upper - 0.005) | scarce, real <= lower + 0.005

    def _special(self, share: Values, prices: Prices, main: Mask) -> None:
        """Put 5 % where a stock of the main boards has special treatment."""
        if self.st is None:
            return
        columns = {symbol: i for i, symbol in enumerate(prices.symbols)}
        spans = read_spans(self.st)
        if spans and not {_form(span.symbol) for span in spans} & {_form(symbol) for symbol in prices.symbols}:
            raise ConfigError(
                f"backtest.market.st: expected symbols written as in the source, such as {prices.symbols[0]}, but "
                f"those of {self.st} look like {spans[0].symbol}; write them alike"
            )
        known = [span for span in spans if span.symbol in columns]
        days = prices.days.astype("datetime64[D]")
        for span in known:
            if main[columns[span.symbol]]:
                share[(days >= span.first) & (days <= span.last), columns[span.symbol]] = 0.05

    def notes(self, real: bool) -> list[str]:
        """Besides lots, how limits are known."""
        near = ["without a factor in the source, price limits are taken 0.3 % nearer"]
        unknown = ["special treatment is not known: such stocks are taken to have limits of 10 %"]
        limits = near * (not real) + unknown * (self.st is None)
        return super().notes(real) + limits * self.price_limits

    def lots(self, symbols: Sequence[str]) -> tuple[Values, Values]:
        """Lots of `lot`; on STAR any number from two lots on."""
        step, least = super().lots(symbols)
        if self.lot is not None:
            boards = np.array([_board(symbol) for symbol in symbols])
            step = np.where(np.isin(boards, ("star", "beijing")), 1.0, step)
            least = np.where(boards == "star", 2 * self.lot, least)
        return step, least


def _to_tick(price: Values) -> Values:
    """Rounded to 0.01, a half up; float32 prices are off by far less than the slack."""
    return np.floor(price * 100 + 0.5 + 1e-3) / 100


def _form(symbol: str) -> str:
    """How a symbol is written: SZ000001 is AA999999."""
    return "".join("9" if c.isdigit() else "A" if c.isupper() else "a" if c.islower() else c for c in symbol)


def _board(symbol: str) -> str:
    """star, chinext, beijing or main, by a symbol such as SZ300750, 300750.SZ or bj920002."""
    digits = "".join(c for c in symbol if c.isdigit())
    if "BJ" in symbol.upper() or (digits == symbol and digits.startswith(("4", "8", "92"))):
        return "beijing"
    if digits.startswith(("688", "689")):
        return "star"
    return "chinext" if digits.startswith(("300", "301", "302")) else "main"
