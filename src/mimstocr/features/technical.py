"""Technical indicators of the multi-task learning chapter, from closes alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from mimstocr.features._series import Indicator, IndicatorFeatures
from mimstocr.features._traded import Array, TradedDays, before, change, ema, moving_mean, moving_std
from mimstocr.features.base import FEATURES

PERIOD = 20
"""Days of the moving statistics (the chapter's)."""


def _return(n: int) -> Indicator:
    return Indicator(lambda days: change(days.close, n))


def _sma_ratio(days: TradedDays) -> Array:
    return days.close / moving_mean(days.close, PERIOD)


def _ema_ratio(days: TradedDays) -> Array:
    return days.close / ema(days.close, PERIOD)


def _volatility(days: TradedDays) -> Array:
    return moving_std(change(days.close), PERIOD)


def _rsi(days: TradedDays) -> Array:
    step = days.close - before(days.close, 1)
    gain = moving_mean(np.maximum(step, 0), PERIOD)
    both = gain + moving_mean(np.maximum(-step, 0), PERIOD)
    share: Array = np.divide(gain, both, out=np.full(gain.shape, 0.5), where=both != 0)
    return 100 * share


def _macd(days: TradedDays) -> Array:
    return (ema(days.close, 12) - ema(days.close, 26)) / days.close


def _bb_position(days: TradedDays) -> Array:
    distance = days.close - moving_mean(days.close, PERIOD)
    width = 2 * moving_std(days.close, PERIOD)
    position: Array = np.divide(distance, width, out=np.zeros(width.shape), where=width != 0)
    return position


@FEATURES.register("technical")
class Technical(IndicatorFeatures):
    """Ten technical indicators of the close: returns, averages, volatility, momentum, RSI, MACD, Bollinger position.

    With p the adjusted close, t and all lags counted in days on which the stock traded, and every sum over 20 days:

        return_1d, _5d, _10d   p[t] / p[t-n] - 1
        sma_ratio              p[t] / SMA20[t], SMA20 the mean of p[t-19] .. p[t]
        ema_ratio              p[t] / EMA20[t], see below
        volatility             standard deviation (ddof 1) of the last 20 return_1d
        momentum               p[t] / p[t-20] - 1
        rsi                    100 * G / (G + L), G and L the mean rise and mean fall of p over 20 days; 50 if both 0
        macd                   (EMA12[t] - EMA26[t]) / p[t]
        bb_position            (p[t] - SMA20[t]) / (2 S), S the standard deviation (ddof 1) of p over 20 days; 0 if S is

    These are the chapter's formulas. EMA of span n is pandas' default (adjust=True), as there: all prices so far with
    weights (1 - 2 / (n + 1))^age that add up to 1. Where the chapter adds 1e-10 to a denominator, in units of the
    price, the case of a zero is settled instead, so that the unit of the price is of no matter. An indicator is not
    known before its longest average has all its days: EMA26 from the 26th price on, and so on.

    `window` is 20: the default backbones read a sequence, and the days that went into the averages tell how an
    indicator came to be where it is. 1 gives today's indicators alone, the chapter's table, for the backbone `mlp`.
    """

    indicators: ClassVar[Mapping[str, Indicator]] = {
        "return_1d": _return(1),
        "return_5d": _return(5),
        "return_10d": _return(10),
        "sma_ratio": Indicator(_sma_ratio),
        "ema_ratio": Indicator(_ema_ratio),
        "volatility": Indicator(_volatility),
        "momentum": _return(PERIOD),
        "rsi": Indicator(_rsi),
        "macd": Indicator(_macd),
        "bb_position": Indicator(_bb_position),
    }
