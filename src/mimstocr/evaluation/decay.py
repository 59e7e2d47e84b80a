"""How long a score stays useful: its IC with returns further and further ahead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimstocr.errors import ConfigError, DataError
from mimstocr.evaluation.daily import daily_metrics
from mimstocr.evaluation.significance import automatic_lags, hac_test

HORIZONS = tuple(range(1, 21))
"""About a month, day by day."""
MARGINAL, CUMULATIVE = "marginal", "cumulative"


def ic_decay(
    scores: NDArray[Any],
    close: NDArray[Any],
    tradable: NDArray[np.bool_],
    horizons: Sequence[int] = HORIZONS,
    *,
    delay: int = 0,
) -> pl.DataFrame:
    """IC and RankIC, as in `daily_metrics`, of the score of each day with returns up to h days ahead.

    scores: (days, stocks), NaN where there is none. close, tradable: the same days and stocks; days after them are
    not known. With p the close and d the delay, the score of day t meets two returns, told apart in column `returns`:
    `marginal`, p_{t+d+h} / p_{t+d+h-1} - 1, that of the h-th day alone; and `cumulative`, p_{t+d+h} / p_{t+d} - 1, that
    of all h days. A stock counts on a day where it has a score and was tradable at both ends of the return.

    One row a kind and horizon: returns, horizon, `ic` and `rank_ic` (means over days), `ic_se` and `rank_ic_se`
    (Newey-West standard errors by `hac_test`, of h - 1 lags at least where returns overlap by so many days), `days` on
    which the IC is defined, and `days_left_out`, all others: those whose return ends after the last day, and those with
    fewer than two stocks, equal scores or equal returns. A mean without days is null, an error with fewer than two.

    Raises DataError on shapes that differ, ConfigError on horizons below 1 or twice, or a delay below 0.
    """
    if not np.shape(scores) == np.shape(close) == np.shape(tradable) or np.ndim(scores) != 2:
        raise DataError(
            f"expected scores, close and tradable of one shape (days, stocks), got {np.shape(scores)}, "
            f"{np.shape(close)} and {np.shape(tradable)}; align all three to the same days and symbols"
        )
    spans = sorted(horizons)
    if not spans or spans[0] < 1 or len(set(spans)) < len(spans):
        raise ConfigError(f"horizons: expected days ahead from 1, each once, got {tuple(horizons)}")
    if delay < 0:
        raise ConfigError(f"delay: expected 0 or more days, got {delay}; a return cannot start before its score")
    price = np.where(tradable, np.asarray(close, dtype=np.float64), np.nan)
    columns = _scored_first(scores)
    packed = np.take_along_axis(np.asarray(scores, dtype=np.float64), columns, axis=1)
    rows = []
    for kind in (MARGINAL, CUMULATIVE):
        for h in spans:
            start = delay + h - 1 if kind == MARGINAL else delay
            returns = np.take_along_axis(_returns(price, start, delay + h), columns, axis=1)
            daily = daily_metrics(packed, returns, precision_at=(), ndcg_at=())
            overlap = 0 if kind == MARGINAL else h - 1
            figures = {name: _mean_and_error(daily[name], overlap) for name in ("ic", "rank_ic")}
            days = int(np.isfinite(daily["ic"]).sum())
            rows.append(
                {
                    "returns": kind,
                    "horizon": h,
                    **{name: mean for name, (mean, _) in figures.items()},
                    **{f"{name}_se": error for name, (_, error) in figures.items()},
                    "days": days,
                    "days_left_out": len(packed) - days,
                }
            )
    schema = {"returns": pl.String, "horizon": pl.Int64, **dict.fromkeys(("ic", "rank_ic"), pl.Float64)}
    schema |= {**dict.fromkeys(("ic_se", "rank_ic_se"), pl.Float64), "days": pl.Int64, "days_left_out": pl.Int64}
    return pl.DataFrame(rows, schema)


def _scored_first(scores: NDArray[Any]) -> NDArray[np.int64]:
    """(days, most scored on a day) columns of each day that have a score, then others; a universe is often half."""
    scored = np.isfinite(scores)
    width = max(int(scored.sum(axis=1).max(initial=0)), 1)
    return np.argsort(~scored, axis=1, kind="stable")[:, :width]


def _returns(price: NDArray[np.float64], start: int, end: int) -> NDArray[np.float64]:
    """From `start` to `end` days after each day; NaN beyond the last."""
    returns = np.full(price.shape, np.nan)
    n = len(price) - end
    if n > 0:
        returns[:n] = price[end:] / price[start : start + n] - 1.0
    return returns


def _mean_and_error(daily: NDArray[np.float64], overlap: int) -> tuple[float | None, float | None]:
    known = daily[np.isfinite(daily)]
    if len(known) < 2:
        return (float(known[0]) if len(known) else None), None
    test = hac_test(known, min(max(automatic_lags(known), overlap), len(known) - 1))
    return test.mean, test.se
