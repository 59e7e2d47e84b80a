"""How fast the daily metrics are, beside one call a day through pandas.

    python benchmarks/metrics.py
    python benchmarks/metrics.py --source qlib:FOLDER --universe csi300 --start 2017-01-01

Both are timed in the same run on the same numbers, and their values are compared first.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mimstocr.data.panel import usable
from mimstocr.data.settings import DataSettings
from mimstocr.data.sources import load_panel
from mimstocr.evaluation import daily_metrics

Values = NDArray[np.float64]


def synthetic(days: int, stocks: int) -> tuple[Values, Values]:
    """Scores that know a little of the returns; one in ten is missing."""
    random = np.random.default_rng(0)
    scores = random.normal(size=(days, stocks))
    returns = 0.02 * (0.05 * scores + random.normal(size=scores.shape))
    scores[random.random(scores.shape) < 0.1] = np.nan
    return scores, returns


def from_source(source: str, universe: str | None, start: date | None) -> tuple[Values, Values]:
    """The five-day fall as a score of the next day's return."""
    panel = load_panel(DataSettings(source=source, universe=universe, start=start))
    close = np.where(usable(panel), panel["close"].values.astype(np.float64), np.nan)
    scores, returns = np.full(close.shape, np.nan), np.full(close.shape, np.nan)
    scores[5:] = -(close[5:] / close[:-5] - 1)
    returns[:-1] = close[1:] / close[:-1] - 1
    return scores, returns


def by_pandas(table: pd.DataFrame) -> tuple[Values, Values]:
    """IC and rank IC alone, one group a day."""
    groups = table.groupby("day")[["score", "ret"]]
    ic = groups.apply(lambda day: day["score"].corr(day["ret"]))
    rank_ic = groups.apply(lambda day: day["score"].rank().corr(day["ret"].rank()))
    return ic.to_numpy(), rank_ic.to_numpy()


def timed(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median seconds, and the peak of memory allocated by one further call, in MiB."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return statistics.median(seconds), peak / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=972)
    parser.add_argument("--stocks", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--source", help="real prices, such as qlib:FOLDER, in place of synthetic ones")
    parser.add_argument("--universe")
    parser.add_argument("--start", type=date.fromisoformat)
    args = parser.parse_args()
    if args.source is None:
        scores, returns = synthetic(args.days, args.stocks)
    else:
        scores, returns = from_source(args.source, args.universe, args.start)

    valid = np.isfinite(scores) & np.isfinite(returns)
    day = np.nonzero(valid)[0]
    table = pd.DataFrame({"day": day, "score": scores[valid], "ret": returns[valid]})
    found = daily_metrics(scores, returns)
    known = ~np.isnan(found["ic"])
    for ours, theirs in zip((found["ic"], found["rank_ic"]), by_pandas(table), strict=True):
        np.testing.assert_allclose(ours[known], theirs[~np.isnan(theirs)], atol=1e-9)

    print(f"{scores.shape[0]} days x {scores.shape[1]} stocks, {len(day)} scores; median of {args.repeats}")
    ours, our_peak = timed(lambda: daily_metrics(scores, returns), args.repeats)
    theirs, their_peak = timed(lambda: by_pandas(table), max(1, args.repeats // 3))
    print(f"all {len(found)} daily metrics         {ours:8.4f} s   peak {our_peak:6.1f} MiB")
    print(f"pandas, IC and rank IC alone {theirs:8.4f} s   peak {their_peak:6.1f} MiB   {theirs / ours:.1f} x as long")


if __name__ == "__main__":
    main()
