"""One rate on every trade."""

from __future__ import annotations

from mimstocr.backtest.market import MARKETS, Fraction, Market


@MARKETS.register("flat")
class Flat(Market):
    """One rate on every trade, fractional shares; nothing binds but that a suspended stock cannot be traded."""

    commission: Fraction = 0.001
    """Fraction of the traded value, on buys and sells; 0.1 % is the mean of the 0.05 % on buys and 0.15 % on sells
    that Qlib charges by default for Chinese stocks."""
