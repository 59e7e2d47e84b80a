"""Coins against a stable currency."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mimstocr.backtest.market import MARKETS, Fraction, Market


@MARKETS.register("crypto")
class Crypto(Market):
    """A spot exchange with margin: the taker's fee of 0.1 %, slippage of 0.02 %, fractional, can be sold short.

    The funding that perpetual futures exchange every few hours is not in daily prices, and is not modelled.
    """

    commission: Fraction = 0.001
    """Fraction of the traded value, on buys and sells; 0.1 % is the usual fee of the large exchanges for takers."""
    slippage: Fraction = 0.0002
    """Fraction of the price by which every order is filled worse."""
    short: bool = True
    """Whether coins can be sold short."""
    borrow: Annotated[float, Field(ge=0)] = 0.1
    """Yearly fee on the value of coins sold short."""
    financing: Annotated[float, Field(ge=0)] = 0.1
    """Yearly interest on money borrowed."""
