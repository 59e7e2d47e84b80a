"""US stocks."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import Field

from mimstocr.backtest.market import MARKETS, Fee, Fraction, Market


@MARKETS.register("us_equity")
class UsEquity(Market):
    """US exchanges: no commission, half a spread of 2 basis points, the SEC's fee on sells; can be sold short.

    The fee is that of section 31 of the Securities Exchange Act, whose rate changes about once a year; before the
    first rate here, of March 2014, none is asked. FINRA's fee of a fraction of a cent a share is left out.
    """

    slippage: Fraction = 0.0002
    """Fraction of the price by which every order is filled worse; 0.02 % is half the spread of a large stock."""
    fees: dict[str, tuple[Fee, ...]] = {
        "sec_fee": (
            Fee(since=date(2014, 3, 18), sell=22.10e-6),
            Fee(since=date(2015, 2, 14), sell=18.40e-6),
            Fee(since=date(2016, 2, 16), sell=21.80e-6),
            Fee(since=date(2017, 7, 4), sell=23.10e-6),
            Fee(since=date(2018, 5, 22), sell=13.00e-6),
            Fee(since=date(2019, 4, 16), sell=20.70e-6),
            Fee(since=date(2020, 2, 18), sell=22.10e-6),
            Fee(since=date(2021, 2, 25), sell=5.10e-6),
            Fee(since=date(2022, 5, 14), sell=22.90e-6),
            Fee(since=date(2023, 2, 27), sell=8.00e-6),
            Fee(since=date(2024, 5, 22), sell=27.80e-6),
            Fee(since=date(2025, 5, 14), sell=0.0),
        )
    }
    """The SEC's fee, with its rates from a day on."""
    lot: Annotated[float, Field(gt=0)] | None = 1.0
    """Real shares in a lot; none: shares are fractional. Without a factor in the source adjusted shares are counted."""
    short: bool = True
    """Whether stocks can be sold short."""
    borrow: Annotated[float, Field(ge=0)] = 0.005
    """Yearly fee on the value of stocks sold short; 0.5 % is that of stocks that are easy to borrow."""
    financing: Annotated[float, Field(ge=0)] = 0.05
    """Yearly interest on money borrowed."""
