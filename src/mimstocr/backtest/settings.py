"""The settings of a backtest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, PositiveInt, model_validator

from mimstocr.backtest.market import AnyMarket
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.strategies.top_k import TopK
from mimstocr.backtest.strategy import AnyStrategy
from mimstocr.components import Settings


class BacktestSettings(Settings):
    """What to hold, where it is traded, and when."""

    strategy: AnyStrategy = TopK()
    """Scores to target weights; the default is the paper's Top50."""
    market: AnyMarket = Flat()
    """The rules of trading and its costs; the default is one rate on every trade."""
    delay: Annotated[int, Field(ge=0)] | None = None
    """Trading days from a score to the fill; none: those of the label. 0 fills at the price that the score has seen."""
    every: PositiveInt = 1
    """Trading days from one decision to the next."""
    capital: Annotated[float, Field(gt=0)] = 1_000_000.0
    """Money at the start, in the currency of the source."""

    @model_validator(mode="after")
    def _after_the_score(self) -> Self:
        if self.delay == 0 and self.market.price != "close":
            raise ValueError(
                f"delay 0 at the {self.market.price}: the score of a day is known at its close, after that price; set "
                "delay to 1 or more, or market.price to close"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _before_markets(cls, raw: Any) -> Any:
        """Run folders made before there were markets have one cost."""
        if isinstance(raw, Mapping) and "cost" in raw and "market" not in raw:
            rest = {key: value for key, value in raw.items() if key != "cost"}
            return {**rest, "market": {"kind": "flat", "commission": raw["cost"]}}
        if isinstance(raw, Mapping) and "cost" in raw:
            raise ValueError("'cost' has become a setting of the market: say market.commission")
        return raw
