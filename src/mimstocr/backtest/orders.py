"""What an order is made of and what can become of it; the compiled side of it is `fill`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Codes = NDArray[np.uint8]

REASONS = (
    "filled",
    "suspended",
    "at the upper limit",
    "at the lower limit",
    "no price",
    "no traded money known",
    "cut to the share of the volume",
    "cut to the cash there was",
    "no cash",
    "less than a lot",
    "rounded down to whole lots",
    "worth less than its costs",
    "settled after delisting",
)
"""What can become of an order, by code. Numba keeps the machine code of `fill` until that file changes: touch it when
a code does."""
FILLED, SUSPENDED, LIMIT_UP, LIMIT_DOWN, NO_PRICE, NO_MONEY = range(6)
BLOCKED = (SUSPENDED, LIMIT_UP, LIMIT_DOWN, NO_PRICE, NO_MONEY)
"""The market did not allow the order."""
CUT_VOLUME, CUT_CASH, NO_CASH, NO_LOT, ROUNDED, NO_GAIN, SETTLED = range(6, 13)


class DayTerms(NamedTuple):
    """The terms of one day; arrays are (stocks,) and as in `Terms`."""

    worth: Values
    blocked_buy: Codes
    blocked_sell: Codes
    step: Values
    least: Values
    slack: float
    cap: Values
    impact: Values
    rates: Values
    """(2, 1 + fees)."""
    slippage: float
    min_commission: float
    leverage: float


class DayOrders(NamedTuple):
    """The orders of one day, written by `fill`; (stocks,), 0 where there is none."""

    wanted: Values
    """Money asked for; below zero to sell."""
    filled: Values
    """Shares traded."""
    reason: Codes
    costs: Values
    """(stocks, kinds) money paid."""
