"""What a run's test scores say of other outcomes than their label: where an IC comes from.

    python benchmarks/outcomes.py runs/NAME

prints IC and RankIC by year, with later returns (an edge fades, a leak does not), with the night and the day after
the score, without the stocks that moved to their limit, and those of plain five-day reversal on validation and test.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimstocr.data import load_panel
from mimstocr.data.panel import days_of, symbols_of, usable
from mimstocr.evaluation import daily_metrics, summarise
from mimstocr.evidence import split_of
from mimstocr.predictions import averaged, matrix_of
from mimstocr.runs import RunFolder
from mimstocr.tasks.base import shifted
from mimstocr.tasks.returns import Return

LIMIT = 0.095
"""A move that is, or nearly is, the daily limit of 10 % on Chinese boards."""


def show(name: str, scores: NDArray[np.floating], outcome: NDArray[np.floating]) -> None:
    found = summarise(daily_metrics(scores, outcome, precision_at=(), ndcg_at=()))
    print(f"{name:32} IC {found['ic']:+.4f}  RankIC {found['rank_ic']:+.4f}  days {found['days']:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    folder = RunFolder.open(parser.parse_args().run)
    config = folder.config()
    panel = load_panel(config.data)
    table = folder.read_frame("predictions.parquet")
    days, symbols, test = matrix_of(averaged(split_of(table, "test")), "score")
    rows = np.searchsorted(days_of(panel), days)
    columns = np.searchsorted(symbols_of(panel), symbols)
    scores = np.full(panel["close"].shape, np.nan)
    scores[np.ix_(rows, columns)] = test
    asked = config.priced()[1]

    def labels(delay: int) -> NDArray[np.floating]:
        return Return(delay=delay, horizon=asked.horizon).labels(panel)

    own = labels(asked.delay)
    for year in np.unique(days.astype("datetime64[Y]")):
        of_year = rows[days.astype("datetime64[Y]") == year]
        show(f"{year}, delay {asked.delay}", scores[of_year], own[of_year])
    for delay in (0, 1, 2, 3, 5, 10):
        show(f"return after a delay of {delay}", scores[rows], labels(delay)[rows])
    close, traded = panel["close"].values, panel["tradable"].values
    today = close / shifted(close, -1) - 1
    show("return of the day itself", scores[rows], today[rows])
    if "open" in panel:
        next_traded = shifted(traded.astype(np.float32), 1) == 1
        night = np.where(next_traded, shifted(panel["open"].values, 1) / close - 1, np.nan)
        day = np.where(next_traded, shifted(close / panel["open"].values, 1) - 1, np.nan)
        show("close to next open", scores[rows], night[rows])
        show("next open to next close", scores[rows], day[rows])
    calm = np.where(np.abs(today) > LIMIT, np.nan, scores)
    show("without moves to the limit", calm[rows], own[rows])
    reversal = np.where(usable(panel), -(close / shifted(close, -5) - 1), np.nan)
    for split in ("valid", "test"):
        some = np.searchsorted(days_of(panel), split_of(table, split)["date"].unique().sort().to_numpy())
        show(f"five-day reversal, {split}", reversal[some], own[some])


if __name__ == "__main__":
    main()
