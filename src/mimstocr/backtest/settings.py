"""The settings of a backtest."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mimstocr.backtest.strategies.top_k import TopK
from mimstocr.backtest.strategy import AnyStrategy
from mimstocr.components import Settings


class BacktestSettings(Settings):
    """What to hold, and what trading costs."""

    strategy: AnyStrategy = TopK()
    """Scores to target weights; the default is the paper's Top50."""
    cost: Annotated[float, Field(ge=0, lt=1)] = 0.001
    """Fraction of the traded value paid on every buy and every sell; 0.1 % is the mean of the 0.05 % on buys and
    0.15 % on sells that Qlib charges by default for Chinese stocks."""
    capital: Annotated[float, Field(gt=0)] = 1_000_000.0
    """Money at the start, in the currency of the source; shares are fractional, so returns do not depend on it."""
