"""The liquidity set of the profit-guided losses paper (its table 4), from daily prices and volume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from mimstocr.data.panel import Panel
from mimstocr.features._series import Indicator, IndicatorFeatures
from mimstocr.features._traded import Array, TradedDays, before, change, moving_mean
from mimstocr.features.base import FEATURES

SPREAD_DAYS = 20
"""Days whose estimates make one spread: Corwin and Schultz average over a month too."""
MILLION = 1e6


def corwin_schultz(high: Array, low: Array, close: Array) -> Array:
    """Bid-ask spread as a fraction of the price, from the highs and lows of two days (Corwin and Schultz 2012).

    high, low, close: (days, symbols); gives (days, symbols), the estimate of day t from days t-1 and t, NaN on the
    first. If all of day t lies above or below the close of t-1, its high and low are moved by the gap (their
    overnight adjustment). With beta the sum of the squared log(high / low) of both days and gamma that of the two
    days' joint range, alpha = (sqrt(2 beta) - sqrt(beta)) / (3 - 2 sqrt 2) - sqrt(gamma / (3 - 2 sqrt 2)), and the
    spread is 2 (e^alpha - 1) / (1 + e^alpha) (Eqs. 14 and 18); a negative one is set to 0, as they do.
    """
    high0, low0, close0 = before(high, 1), before(low, 1), before(close, 1)
    gap = np.maximum(low - close0, 0) - np.maximum(close0 - high, 0)
    high1, low1 = high - gap, low - gap
    beta = np.log(high0 / low0) ** 2 + np.log(high1 / low1) ** 2
    gamma = np.log(np.maximum(high0, high1) / np.minimum(low0, low1)) ** 2
    k = 3 - 2 * np.sqrt(2)
    alpha = (np.sqrt(2 * beta) - np.sqrt(beta)) / k - np.sqrt(gamma / k)
    spread: Array = np.maximum(2 * np.tanh(alpha / 2), 0)  # 2 tanh(a / 2) is 2 (e^a - 1) / (1 + e^a)
    return spread


def _high_low_spread(days: TradedDays) -> Array:
    return moving_mean(corwin_schultz(days.field("high"), days.field("low"), days.close), SPREAD_DAYS)


def _turnover(days: TradedDays) -> Array:
    return days.money / days.field("market_value")


def _log_shares_outstanding(days: TradedDays) -> Array:
    return np.log(days.field("market_value") / days.raw_price)


@FEATURES.register("liquidity")
class Liquidity(IndicatorFeatures):
    """Eight measures of how a stock trades and how large it is (profit-guided losses paper, table 4).

    Over the days on which the stock traded, with p the adjusted close and money what was traded that day in the
    source's currency (`traded_money`):

        volume_change            v[t] / v[t-1] - 1, v = money / p, volume that a split does not jump
        high_low_spread          mean of the last 20 estimates of the bid-ask spread from daily highs and lows
                                 (`corwin_schultz`); there are no quotes
        illiquidity              |p[t] / p[t-1] - 1| per million of money (Amihud 2002)
        turnover                 money / market value, which is volume over shares outstanding; where the source has
                                 no market value it is replaced by log_dollar_volume, log(money)
        log_price                log of what a share cost, p / factor
        return                   p[t] / p[t-1] - 1
        log_shares_outstanding   log(market value / (p / factor))
        log_market_value         log(market value)

    Levels (price, shares, market value, money) are in logarithms: they spread over several powers of ten. What the
    source has no fields for is left out, and the run says so. An adjusted price is no price that anyone paid, and
    later splits change it, so that log_price needs the factor; a table of prices that never needed an adjustment can
    give it as 1.
    """

    indicators: ClassVar[Mapping[str, Indicator]] = {
        "volume_change": Indicator(lambda days: change(days.money / days.close), ("volume",)),
        "high_low_spread": Indicator(_high_low_spread, ("high", "low")),
        "illiquidity": Indicator(lambda days: np.abs(change(days.close)) / (days.money / MILLION), ("volume",)),
        "turnover": Indicator(_turnover, ("volume", "market_value")),
        "log_dollar_volume": Indicator(lambda days: np.log(days.money), ("volume",)),
        "log_price": Indicator(lambda days: np.log(days.raw_price), ("factor",)),
        "return": Indicator(lambda days: change(days.close)),
        "log_shares_outstanding": Indicator(_log_shares_outstanding, ("factor", "market_value")),
        "log_market_value": Indicator(lambda days: np.log(days.field("market_value")), ("market_value",)),
    }

    def offered(self, panel: Panel) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """All for which the panel has the fields; dollar volume only where there is no turnover."""
        names, notes = super().offered(panel)
        if "turnover" in names:
            names = tuple(name for name in names if name != "log_dollar_volume")
        return names, notes
