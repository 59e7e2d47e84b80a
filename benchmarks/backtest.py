"""How fast a Top-K backtest is, beside a dictionary of shares kept by hand.

    python benchmarks/backtest.py
    python benchmarks/backtest.py --source qlib:FOLDER --universe csi300 --start 2017-01-01

Both are timed in the same run on the same scores, and their final values are compared first.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import tracemalloc
from collections.abc import Callable
from datetime import date

import numpy as np
from numpy.typing import NDArray

from mimstocr.backtest import BacktestResult, BacktestSettings, backtest
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.strategies.top_k import TopK
from mimstocr.data.panel import Panel, days_of, make_panel, usable
from mimstocr.data.settings import DataSettings
from mimstocr.data.sources import load_panel

Values = NDArray[np.float64]


def synthetic(days: int, stocks: int) -> Panel:
    """Random walks; one day in fifty is a suspension, with a repeated price and no volume."""
    random = np.random.default_rng(0)
    suspended = random.random((days, stocks)) < 0.02
    moves = np.where(suspended, 0.0, random.normal(scale=0.02, size=suspended.shape))
    return make_panel(
        {"close": 10 * np.exp(moves.cumsum(axis=0)), "volume": np.where(suspended, 0.0, 1e6)},
        np.datetime64("2017-01-01") + np.arange(days),
        [f"S{i:04}" for i in range(stocks)],
        source="synthetic",
    )


def by_hand(panel: Panel, scores: Values, k: int, delay: int, cost: float) -> float:
    """The final value over the capital, from dictionaries day by day."""
    close, tradable = panel["close"].values.astype(float), panel["tradable"].values
    shares: dict[int, float] = {}
    last: dict[int, float] = {}
    cash = 1.0
    for day in range(len(close)):
        last |= {i: price for i, price in enumerate(close[day].tolist()) if not math.isnan(price)}
        scored = (
            [] if day < delay else [(-s, i) for i, s in enumerate(scores[day - delay].tolist()) if not math.isnan(s)]
        )
        if not scored:
            continue
        target = {i: 1 / k for _, i in sorted(scored)[:k]}
        worth = {i: n * last[i] for i, n in shares.items()}
        equity = after = cash + sum(worth.values())
        for _ in range(8):
            gaps = {
                i: target.get(i, 0.0) * after - worth.get(i, 0.0) for i in target.keys() | worth if tradable[day, i]
            }
            sells, buys = -sum(g for g in gaps.values() if g < 0), sum(g for g in gaps.values() if g > 0)
            part = min(1.0, max(cash + (1 - cost) * sells, 0.0) / ((1 + cost) * buys)) if buys else 1.0
            after = equity - cost * (sells + part * buys)
        for i, gap in gaps.items():
            shares[i] = shares.get(i, 0.0) + (gap * part if gap > 0 else gap) / last[i]
            if not target.get(i):
                del shares[i]
        cash += sells - part * buys - cost * (sells + part * buys)
    return cash + sum(n * last[i] for i, n in shares.items())


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
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--delay", type=int, default=1)
    parser.add_argument("--cost", type=float, default=0.001)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--source", help="real prices, such as qlib:FOLDER, in place of synthetic ones")
    parser.add_argument("--universe")
    parser.add_argument("--start", type=date.fromisoformat)
    args = parser.parse_args()
    if args.source is None:
        panel = synthetic(args.days, args.stocks)
    else:
        panel = load_panel(DataSettings(source=args.source, universe=args.universe, start=args.start))
    scores = np.where(usable(panel), np.random.default_rng(1).normal(size=panel["close"].shape), np.nan)
    days = days_of(panel)

    settings = BacktestSettings(
        strategy=TopK(k=args.k), market=Flat(commission=args.cost), delay=args.delay, capital=1.0
    )

    def ours() -> BacktestResult:
        return backtest(
            panel,
            scores,
            settings,
            first=days[0],
            last=days[-1],
        )

    def naive() -> tuple[float, float]:
        net, gross = (by_hand(panel, scores, args.k, args.delay, cost) for cost in (args.cost, 0.0))
        return net, gross

    result = ours()
    np.testing.assert_allclose([result.net.value[-1], result.gross.value[-1]], naive(), rtol=1e-9)
    print(f"{len(days)} days x {scores.shape[1]} stocks, top {args.k}, net and gross; median of {args.repeats}")
    seconds, peak = timed(ours, args.repeats)
    slow, slow_peak = timed(naive, max(1, args.repeats // 3))
    print(f"backtest      {seconds:8.4f} s   peak {peak:6.1f} MiB")
    print(f"dictionaries  {slow:8.4f} s   peak {slow_peak:6.1f} MiB   {slow / seconds:.1f} x as long")


if __name__ == "__main__":
    main()
