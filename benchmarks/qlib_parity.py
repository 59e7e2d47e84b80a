"""Whether a backtest here earns what Qlib's executor earns with the same scores and rules, and how much sooner.

    python3.11 -m venv qlibenv
    qlibenv/bin/python -m pip install pyqlib==0.9.7
    python benchmarks/qlib_parity.py runs/NAME FOLDER --qlib-python qlibenv/bin/python

pyqlib (1.4 GB with what it needs) stays in that environment of its own: it is the oracle, no dependency.

Scores are those of the test split of a run folder, or of a predictions.parquet, averaged over seeds; FOLDER is in
Qlib's provider format. Both sides follow TopkDropout from the first to the last scored day, filled at the close of the
day after the score, in lots of 100, under the costs and limits of `EXCHANGE`. Compared day by day are the returns after
costs (in Qlib's report `return` less `cost`), the costs, the cash and what is held; the exit status is 1 when returns
differ by more than `--within` on any day.

What is timed, each in one process and one thread, wall and processor time:

- Qlib: `qlib.backtest.backtest`, that is its two halves in turn: the making of the exchange, which reads the quotes of
  all stocks of those days, and the loop over the days. Imports, `qlib.init` and the reading of the scores are not part
  of it and told apart.
- Here: the reading of the same quotes with all checks, and the account: terms of the market, plan, simulation. Also
  `backtest`, which simulates two accounts, with and without costs, and measures both. Medians of `--repeats` runs, half
  of them before Qlib's turn and half after; compilation and imports are not part of it.

Qlib looks one day past the last in its calendar, so it is given a folder of links with a calendar one day longer; no
price is changed by that.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import xarray as xr
from numpy.typing import NDArray

from mimstocr.backtest import BacktestSettings, Simulation, backtest, make_terms, simulate, view_of
from mimstocr.backtest.markets.qlib_cn import QlibCn
from mimstocr.backtest.orders import REASONS
from mimstocr.backtest.strategies.topk_dropout import TopkDropout
from mimstocr.data.panel import Panel, days_of, symbols_of
from mimstocr.data.settings import DataSettings
from mimstocr.data.sources import load_panel
from mimstocr.evidence import split_of
from mimstocr.predictions import averaged, matrix_of

Values = NDArray[np.float64]
Seconds = dict[str, tuple[float, float]]
"""Wall and processor seconds by what was done."""

EXCHANGE = {
    "freq": "day",
    "limit_threshold": 0.095,
    "deal_price": "close",
    "open_cost": 0.0005,
    "close_cost": 0.0015,
    "min_cost": 5,
}
"""Qlib's usual settings for Chinese stocks; `QlibCn` has the same by default."""
SHOWN = 10
"""Stocks told of the first day that differs."""


def oracle(folder: str, scores: str, out: str, account: str, topk: str, n_drop: str, exchange: str) -> None:
    """Qlib's side. Runs in the other environment, from its source alone, hence the imports within."""
    import itertools
    import json
    import logging
    import time
    from pathlib import Path

    def clock() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    marks = {"": clock()}
    import pandas as pd
    import qlib
    from qlib.backtest import get_strategy_executor
    from qlib.backtest.backtest import backtest_loop
    from qlib.backtest.executor import SimulatorExecutor
    from qlib.contrib.strategy.signal_strategy import TopkDropoutStrategy

    marks["imports"] = clock()
    qlib.init(provider_uri=folder, region="cn", kernels=1, logging_level=logging.ERROR)
    marks["qlib.init"] = clock()
    signal = pd.read_parquet(scores).set_index(["datetime", "instrument"])["score"]
    days = signal.index.get_level_values("datetime")
    marks["scores"] = clock()
    # what qlib.backtest.backtest does, in its two halves
    strategy, executor = get_strategy_executor(
        start_time=days.min(),
        end_time=days.max(),
        strategy=TopkDropoutStrategy(topk=int(topk), n_drop=int(n_drop), signal=signal),
        executor=SimulatorExecutor(time_per_step="day", generate_portfolio_metrics=True),
        benchmark="SH000300",
        account=float(account),
        exchange_kwargs=json.loads(exchange),
    )
    marks["exchange"] = clock()
    portfolio, _ = backtest_loop(days.min(), days.max(), strategy, executor)
    marks["loop"] = clock()

    report, positions = portfolio["1day"]
    report.reset_index().to_parquet(Path(out) / "report.parquet")
    held = [
        (day, stock, one["amount"])
        for day, position in positions.items()
        for stock, one in position.position.items()
        if isinstance(one, dict)
    ]
    pd.DataFrame(held, columns=["day", "symbol", "shares"]).to_parquet(Path(out) / "positions.parquet")
    names = list(marks)
    seconds = {
        name: [after - before for after, before in zip(marks[name], marks[last], strict=True)]
        for last, name in itertools.pairwise(names)
    }
    (Path(out) / "seconds.json").write_text(json.dumps(seconds))


@dataclass(frozen=True, eq=False)
class Account:
    """One side's account, every array over the days, shares over (days, stocks)."""

    returns: Values
    """After costs."""
    value: Values
    costs: Values
    """Money."""
    cash: Values
    shares: Values


def scores_of(path: Path) -> pl.DataFrame:
    """date, symbol, score of the test split, seeds averaged."""
    table = pl.read_parquet(path / "predictions.parquet" if path.is_dir() else path)
    columns = table.select("seed", "date", "symbol", "split", pl.col("score").cast(pl.Float64))
    return averaged(split_of(columns, "test"))


def linked(folder: Path, place: Path) -> Path:
    """The folder by links, with the calendar of the future that Qlib asks for."""
    (place / "calendars").mkdir(parents=True)
    for name in ("instruments", "features"):
        (place / name).symlink_to((folder / name).resolve())
    days = (folder / "calendars/day.txt").read_text().split()
    (place / "calendars/day.txt").write_text("\n".join(days) + "\n")
    beyond = str(np.datetime64(days[-1]) + 1)
    (place / "calendars/day_future.txt").write_text("\n".join([*days, beyond]) + "\n")
    return place


def by_qlib(
    args: argparse.Namespace, folder: Path, table: pl.DataFrame, capital: float, symbols: list[str], out: Path
) -> tuple[Account, Seconds]:
    """Qlib's account over its seconds, from a process of its own."""
    out.mkdir()
    scores = out / "scores.parquet"
    table.select(datetime=pl.col("date").cast(pl.Datetime("ns")), instrument="symbol", score="score").write_parquet(
        scores
    )
    code = f"{inspect.getsource(oracle)}\nimport sys\noracle(*sys.argv[1:])\n"
    given = [folder, scores, out, capital, args.k, args.n_drop, json.dumps(EXCHANGE)]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    done = subprocess.run(
        [args.qlib_python, "-W", "ignore", "-c", code, *map(str, given)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **one_thread},
    )
    if done.returncode:
        sys.exit(f"Qlib's side failed:\n{done.stderr[-4000:]}")
    report = pl.read_parquet(out / "report.parquet")
    positions = pl.read_parquet(out / "positions.parquet")
    days = report["datetime"].to_numpy().astype("datetime64[D]")
    shares = np.zeros((len(days), len(symbols)))
    at = {symbol: column for column, symbol in enumerate(symbols)}
    rows = np.searchsorted(days, positions["day"].to_numpy().astype("datetime64[D]"))
    shares[rows, [at[symbol] for symbol in positions["symbol"]]] = positions["shares"].to_numpy()
    account = Account(
        returns=(report["return"] - report["cost"]).to_numpy(),
        value=report["account"].to_numpy(),
        costs=np.diff(report["total_cost"].to_numpy(), prepend=0.0),
        cash=report["cash"].to_numpy(),
        shares=shares,
    )
    seconds = json.loads((out / "seconds.json").read_text())
    return account, {name: (wall, cpu) for name, (wall, cpu) in seconds.items()}


class Ours:
    """This package's side."""

    def __init__(self, args: argparse.Namespace, table: pl.DataFrame) -> None:
        self.days, symbols, matrix = matrix_of(table, "score")
        self.data = DataSettings(
            source=f"qlib:{args.folder}",
            universe=args.universe,
            start=self.days[0].item(),
            end=self.days[-1].item(),
            benchmark="SH000300",
        )
        self.scores = xr.DataArray(matrix, {"date": self.days, "symbol": symbols}, ("date", "symbol"))
        self.strategy = TopkDropout(k=args.k, n_drop=args.n_drop)
        self.panel = self.read()
        self.grid = self.scores.reindex(date=days_of(self.panel), symbol=symbols_of(self.panel)).values

    def read(self) -> Panel:
        return load_panel(self.data)

    def account(self, capital: float) -> Simulation:
        """One account, after costs."""
        window = slice(0, len(self.grid))
        terms = make_terms(QlibCn(), self.panel, window)
        plan = self.strategy.plan(self.grid, view_of(self.panel, window))
        return simulate(terms, plan, delay=1, capital=capital)

    def whole(self, capital: float) -> object:
        """Two accounts, with and without costs, and their metrics."""
        settings = BacktestSettings(strategy=self.strategy, market=QlibCn(), delay=1, capital=capital)
        return backtest(self.panel, self.scores, settings=settings, first=self.days[0], last=self.days[-1])

    def timed(self, capital: float, repeats: int) -> dict[str, list[tuple[float, float]]]:
        calls: dict[str, Callable[[], Any]] = {
            "reading": self.read,
            "account": lambda: self.account(capital),
            "backtest": lambda: self.whole(capital),
        }
        return {name: [clocked(call) for _ in range(repeats)] for name, call in calls.items()}


def clocked(call: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def compare(theirs: Account, ours: Simulation, side: Ours, within: float) -> int:
    """Print where the accounts agree and the first day on which they do not; days that differ by more."""
    gaps = np.abs(ours.returns - theirs.returns)
    worst = int(np.argmax(gaps))
    differ = int((gaps > within).sum())
    correlation = np.corrcoef(ours.returns, theirs.returns)[0, 1]
    print(
        f"  daily returns after costs: differ by at most {gaps[worst]:.1e} ({side.days[worst]}), by more than "
        f"{within:g} on {differ} of {len(gaps)} days; correlation {correlation:.12f}"
    )
    for name, mine, qlibs in (
        ("final value", ours.value[-1], theirs.value[-1]),
        ("costs paid", ours.costs.sum(), theirs.costs.sum()),
        ("cash at the end", ours.cash[-1], theirs.cash[-1]),
    ):
        print(f"  {name}: Qlib {qlibs:,.4f}, here {mine:,.4f}")
    print(f"  orders here: {', '.join(f'{count} {reason}' for reason, count in ours.reasons().items())}")
    other = ~np.isclose(ours.shares, theirs.shares, rtol=1e-9, atol=1e-9)
    if not other.any():
        held = ours.n_held[ours.first_fill :]
        print(f"  holdings: the same {held.min()} to {held.max()} stocks and as many shares of each at every close")
        return differ
    stocks = ((ours.shares != 0) != (theirs.shares != 0)).any(axis=1)
    print(f"  other shares held at {int(other.any(axis=1).sum())} closes, other stocks at {int(stocks.sum())}")
    explain_first(theirs, ours, side, other)
    return differ


def explain_first(theirs: Account, ours: Simulation, side: Ours, other: NDArray[np.bool_]) -> None:
    """What either side did on the first day that differs, and what became of the orders here."""
    day = int(np.argmax(other.any(axis=1)))
    symbols, close = symbols_of(side.panel), side.panel["close"].values
    today = ours.orders.day == day
    reasons = dict(zip(ours.orders.stock[today].tolist(), ours.orders.reason[today].tolist(), strict=True))
    print(f"  first on {side.days[day]}; adjusted shares before and after, Qlib and here:")
    for stock in np.flatnonzero(other[day])[:SHOWN].tolist():
        before = (theirs.shares[day - 1, stock], ours.shares[day - 1, stock])
        after = (theirs.shares[day, stock], ours.shares[day, stock])
        print(
            f"    {symbols[stock]}: Qlib {before[0]:.2f} to {after[0]:.2f}, here {before[1]:.2f} to {after[1]:.2f}; "
            f"order here: {REASONS[reasons[stock]] if stock in reasons else 'none'}; close moved "
            f"{close[day, stock] / close[day - 1, stock] - 1:+.4f}"
        )


def tell_times(theirs: Seconds, runs: dict[str, list[tuple[float, float]]]) -> None:
    """Wall and processor seconds of both sides, and how often ours go into theirs."""
    ours = {
        name: (statistics.median(wall for wall, _ in times), statistics.median(cpu for _, cpu in times))
        for name, times in runs.items()
    }

    def total(seconds: Seconds, *names: str) -> tuple[float, float]:
        return sum(seconds[name][0] for name in names), sum(seconds[name][1] for name in names)

    print("  seconds, wall (processor)                    Qlib               here          Qlib / here")
    for name, qlibs, mine in (
        ("quotes", total(theirs, "exchange"), total(ours, "reading")),
        ("account, quotes at hand", total(theirs, "loop"), total(ours, "account")),
        ("account with its quotes", total(theirs, "exchange", "loop"), total(ours, "reading", "account")),
        ("the same, here by backtest()", total(theirs, "exchange", "loop"), total(ours, "reading", "backtest")),
    ):
        ratios = qlibs[0] / mine[0], qlibs[1] / mine[1]
        print(
            f"  {name:40} {qlibs[0]:7.2f} ({qlibs[1]:6.2f})   {mine[0]:7.3f} ({mine[1]:6.3f})   "
            f"{ratios[0]:6.1f} ({ratios[1]:.1f})"
        )
    rest = total(theirs, "imports", "qlib.init", "scores")
    print(f"  besides, Qlib's imports, qlib.init and reading of the scores: {rest[0]:.2f} ({rest[1]:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path, help="a run folder, or a predictions.parquet")
    parser.add_argument("folder", type=Path, help="prices in Qlib's provider format")
    parser.add_argument("--qlib-python", required=True, help="the interpreter of the environment with pyqlib")
    parser.add_argument("--universe", help="stocks to read here; all, as Qlib's exchange does, by default")
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--n-drop", type=int, default=5)
    parser.add_argument("--capital", type=float, nargs="+", default=[1e8, 1e6])
    parser.add_argument("--within", type=float, default=1e-6, help="largest difference of a day's return")
    parser.add_argument("--repeats", type=int, default=6, help="runs of this package's side, half before Qlib's turn")
    args = parser.parse_args()
    table = scores_of(args.scores)
    ours = Ours(args, table)
    print(f"TopkDropout {args.k}/{args.n_drop}, {ours.days[0]} to {ours.days[-1]}, {len(table)} scores")
    print(f"{ours.panel.sizes['symbol']} stocks read here")
    failed = 0
    with tempfile.TemporaryDirectory() as made:
        folder = linked(args.folder, Path(made) / "provider")
        for capital in args.capital:
            ours.whole(capital)  # compiles
            runs = ours.timed(capital, args.repeats // 2)
            theirs, seconds = by_qlib(
                args, folder, table, capital, symbols_of(ours.panel), Path(made) / f"{capital:.0f}"
            )
            for name, times in ours.timed(capital, args.repeats - args.repeats // 2).items():
                runs[name] += times
            print(f"\naccount of {capital:,.0f}")
            failed += compare(theirs, ours.account(capital), ours, args.within)
            tell_times(seconds, runs)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
