"""The tables, as text cells ready to print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import yaml

from mimstocr.report.figures import SERIES, quantile_names
from mimstocr.report.formats import (
    EVIDENCE,
    MONEY,
    NOTHING,
    Metric,
    count,
    duration,
    in_order,
    is_nested,
    metric,
    number,
    part,
    percent,
    text,
)
from mimstocr.report.inputs import ReportInputs, column, dates, dig, known

SHOWN = 100
"""Rows of the latest list that the report shows; the rest is in recommendations.csv."""
LIST_WORDS = {"rank": "Rank", "symbol": "Symbol", "asset_class": "Class", "date": "Date"}
SPLITS = {"train": "Train", "valid": "Validation", "test": "Test"}


@dataclass(frozen=True)
class Table:
    """Columns and rows of text. The first `text_columns` columns are words, the rest numbers."""

    columns: list[str]
    rows: list[list[str]]
    text_columns: int = 1
    meanings: dict[str, str] = field(default_factory=dict)
    """What rows or columns mean, by their names, shown on asking."""

    def __bool__(self) -> bool:
        return bool(self.rows)


def evidence(inputs: ReportInputs) -> Table:
    """Figures of the ranking, validation and test: over seeds, and of the mean score."""
    several = len(inputs.seeds) > 1
    found: dict[str, None] = {}
    for part_, split in (("mean", "valid"), ("mean", "test"), ("ensemble", "test")):
        found |= dict.fromkeys(dig(inputs.metrics, part_, split) or {})
    keys = in_order(EVIDENCE, list(found))
    rows = []
    for key in keys:
        shown = metric(EVIDENCE, key)
        cells = [
            with_std(shown.write, dig(inputs.metrics, "mean", split, key), dig(inputs.metrics, "std", split, key))
            if several
            else shown.write(dig(inputs.metrics, "mean", split, key))
            for split in ("valid", "test")
        ]
        both = [shown.write(dig(inputs.metrics, "ensemble", split, key)) for split in ("valid", "test")]
        rows.append([shown.label, *cells, *both] if several else [shown.label, *cells])
    heads = ["Validation", "Test"]
    if several:
        heads = ["Validation, seeds", "Test, seeds", "Validation, mean score", "Test, mean score"]
    return Table(["", *heads], rows, meanings=_meanings(EVIDENCE, keys))


def seeds(inputs: ReportInputs) -> Table:
    """One row a seed: how its training went and what came of it."""
    rows = []
    for seed in inputs.seeds:
        of = dig(inputs.metrics, "seeds", seed) or {}
        figures = [number(dig(of, "test", key)) for key in ("ic", "icir", "rank_ic", "rank_icir")]
        epochs = f"{count(of.get('best_epoch'))} of {count(of.get('epochs'))}"
        rows.append([seed, epochs, duration(of.get("seconds")), number(dig(of, "valid", "rank_ic")), *figures])
    heads = ["Seed", "Best epoch", "Time", "Valid. RankIC", "Test IC", "Test ICIR", "Test RankIC", "Test RankICIR"]
    return Table(heads, rows)


def classes(inputs: ReportInputs) -> Table:
    """One row an asset class: the ranking within it, of the mean score; nothing where there is one class."""
    found = dig(inputs.metrics, "by_class") or {}
    keys = ("ic", "icir", "rank_ic", "rank_icir")
    rows = []
    for name, splits_ in found.items():
        figures = [number(dig(splits_, "test", key)) for key in keys]
        counts = [count(dig(splits_, "test", key)) for key in ("stocks", "days")]
        rows.append([str(name), number(dig(splits_, "valid", "rank_ic")), *figures, *counts])
    heads = ["Asset class", "Valid. RankIC", *(f"Test {metric(EVIDENCE, key).label}" for key in keys)]
    return Table([*heads, "Stocks a day", "Days"], rows)


def money(inputs: ReportInputs) -> Table:
    """Figures of the backtest beside its benchmarks."""
    found = {name: dig(inputs.metrics, "backtest", name) for name in SERIES}
    present = {name: figures for name, figures in found.items() if figures}
    keys: dict[str, None] = {}
    for figures in present.values():
        keys |= {key: None for key, value in figures.items() if not is_nested(value)}
    ordered = in_order(MONEY, list(keys))
    rows = []
    for key in ordered:
        shown = metric(MONEY, key)
        cells = [shown.write(figures.get(key)) for figures in present.values()]
        if any(cell != NOTHING for cell in cells):
            rows.append([shown.label, *cells])
    heads = {"net": "Net", "gross": "Gross", "universe": "Universe", "index": "Index"}
    return Table(["", *(heads[name] for name in present)], rows, meanings=_meanings(MONEY, ordered))


def years(inputs: ReportInputs) -> Table:
    """One row a calendar year: what the ranking and the account did in it."""
    of_daily, of_money = _by_year(inputs.daily), _by_year(inputs.backtest)
    present = [name for name in SERIES if column(inputs.backtest, name) is not None]
    heads = {"net": "Net", "gross": "Gross", "universe": "Universe", "index": "Index"}
    against = next((name for name in ("index", "universe") if name in present), None)
    rows = []
    for year in sorted(of_daily.keys() | of_money.keys()):
        scored, traded = of_daily.get(year), of_money.get(year)
        earned = {name: _compounded(traded, name) for name in present}
        cells = [year, count(0 if scored is None else len(scored)), *(_mean(scored, key) for key in ("ic", "rank_ic"))]
        cells += [percent(earned[name]) for name in present]
        if against and "net" in present:
            cells.append(percent(_excess(earned["net"], earned[against])))
        rows.append(cells)
    columns = ["Year", "Days", "IC", "RankIC", *(heads[name] for name in present)]
    return Table([*columns, f"Net over {against}"] if against and "net" in present else columns, rows)


def falls(inputs: ReportInputs) -> Table:
    """One row a drawdown of the net account, the deepest first."""
    rows = []
    for fall in _rows(inputs, "drawdowns"):
        width = 16 if isinstance(fall["trough"], datetime) else 10  # with the time of bars within the day
        start = "before the first day" if fall["start"] is None else str(fall["start"])[:width]
        recovered = "not yet" if fall["recovered"] is None else str(fall["recovered"])[:width]
        cells = [percent(fall["depth"]), count(fall["days_down"]), count(fall["days_to_recover"])]
        rows.append([start, str(fall["trough"])[:width], recovered, *cells])
    heads = ["Highest before", "Lowest", "Recovered", "Depth", "Days down", "Days to recover"]
    return Table(heads, rows, text_columns=3)


def orders(inputs: ReportInputs) -> Table:
    """What became of the orders of the net account."""
    found = list(_rows(inputs, "orders"))
    total = sum((known(row["buys"]) or 0) + (known(row["sells"]) or 0) for row in found)
    rows = []
    for row in found:
        n = (known(row["buys"]) or 0) + (known(row["sells"]) or 0)
        cells = [count(row["buys"]), count(row["sells"]), percent(n / total if total else None)]
        rows.append(
            [str(row["outcome"]).capitalize(), *cells, count(_whole(row["asked"])), count(_whole(row["traded"]))]
        )
    return Table(["Outcome", "Buys", "Sells", "Of all orders", "Money asked for", "Money traded"], rows)


def costs(inputs: ReportInputs) -> Table:
    """What the net account paid, by kind."""
    found = list(_rows(inputs, "costs"))
    rows = [
        [
            str(row["kind"]).replace("_", " "),
            count(_whole(row["money"])),
            percent(row["of_capital"]),
            number(row["basis_points"], 2),
        ]
        for row in found
    ]
    if len(rows) > 1:
        money, shares, points = (
            sum(known(row[name]) or 0.0 for row in found) for name in ("money", "of_capital", "basis_points")
        )
        rows.append(["in all", count(_whole(money)), percent(shares), number(points, 2)])
    return Table(["Kind", "Money", "Of the capital", "Of the value traded, bp"], rows)


def _rows(inputs: ReportInputs, name: str) -> Iterator[dict[str, Any]]:
    """The rows of a table of the risk."""
    frame = pl.DataFrame() if inputs.risk is None else getattr(inputs.risk, name)
    return frame.iter_rows(named=True)


def _whole(value: Any) -> float | None:
    found = known(value)
    return None if found is None else round(found)


def quantile_table(quantiles: pl.DataFrame) -> Table:
    """One row a quantile: its mean return a day, standard error and t."""
    rows = []
    for name in quantile_names(quantiles):
        values = column(quantiles, name)
        kept = values[np.isfinite(values)] if values is not None else np.empty(0)
        rows.append([name.upper(), *_mean_cells(kept)])
    names = quantile_names(quantiles)
    if len(names) > 1:
        low, high = column(quantiles, names[0]), column(quantiles, names[-1])
        if low is not None and high is not None:
            gap = high - low
            rows.append(["Top - bottom", *_mean_cells(gap[np.isfinite(gap)])])
    return Table(["Quantile", "Mean, bp", "Std. error", "t", "Days"], rows)


def latest(inputs: ReportInputs) -> Table:
    """The first rows of the list of the last day; with the date of each, where an asset class has another one."""
    frame = inputs.recommendations
    several = len(set(dates(frame))) > 1
    words = [name for name in LIST_WORDS if name in frame.columns and (name != "date" or several)]
    columns = [*words, *(name for name in frame.columns if name not in (*words, "date"))]
    rows = [
        [number(value, 4) if isinstance(value, float) else text(value) for value in row]
        for row in frame.select(columns).head(SHOWN).iter_rows()
    ]
    called = {**LIST_WORDS, "score": "Score"}
    heads = [called.get(name, name.replace(".", " ").replace("_", " ")) for name in columns]
    return Table(heads, rows, text_columns=len(words))


def splits(inputs: ReportInputs) -> Table:
    """Which days train, validate and test."""
    rows = []
    for split, name in SPLITS.items():
        of = dig(inputs.data, "splits", split)
        if of:
            rows.append([name, text(of.get("first")), text(of.get("last")), *_counts(of, ("days", "labelled", "rows"))])
    return Table(["Split", "First day", "Last day", "Days", "With labels", "Stock-days"], rows, text_columns=3)


def source(inputs: ReportInputs) -> Table:
    """Where the prices came from and how complete they are."""
    of = inputs.inspection
    low, middle, high = (count(of.get(f"members_{which}")) for which in ("min", "median", "max"))
    rows = [
        ["Source", text(of.get("source"))],
        ["Universe", text(dig(inputs.config, "data", "universe") or "all symbols of the source")],
        ["Index", text(dig(inputs.config, "data", "benchmark") or "none")],
        ["Days", f"{text(of.get('first_day'))} to {text(of.get('last_day'))}, {count(of.get('days'))} trading days"],
        ["Symbols", count(of.get("symbols"))],
        ["Members a day", f"{low} least, {middle} median, {high} most"],
        ["Not tradable", f"{count(of.get('untradable'))} member-days, {percent(of.get('untradable_share'))}"],
        ["Features", _features(inputs)],
        ["Fingerprint", text(of.get("fingerprint") or inputs.environment.get("data_fingerprint"))],
    ]
    return Table(["", ""], rows, text_columns=2)


def missing(inputs: ReportInputs) -> Table:
    """Field to the share of member-days on which it is not known."""
    shares = inputs.inspection.get("missing") or {}
    return Table(["Field", "Missing"], [[str(name), percent(share, 3)] for name, share in shares.items()])


def extremes(inputs: ReportInputs) -> Table:
    """The largest changes of a close."""
    rows = []
    for move in inputs.inspection.get("largest_changes") or []:
        values = list(move.values()) if isinstance(move, Mapping) else [move] if isinstance(move, str) else list(move)
        rows.append([percent(value, 1) if isinstance(value, float) else text(value) for value in values])
    width = max((len(row) for row in rows), default=0)
    heads = ["Symbol", "Day", "Change", "Last price before"][:width]
    return Table(heads + [""] * (width - len(heads)), [row + [""] * (width - len(row)) for row in rows], width)


def environment(inputs: ReportInputs) -> Table:
    """What the run was computed with."""
    rows = []
    for key, value in inputs.environment.items():
        shown = duration(value) if key == "seconds" else str(value) if key == "started" else text(value)
        rows.append(["time" if key == "seconds" else key.replace("_", " "), shown])
    return Table(["", ""], rows, text_columns=2)


def config_text(inputs: ReportInputs) -> str:
    """The whole tree of settings as YAML."""
    if not inputs.config:
        return NOTHING
    return str(yaml.safe_dump(inputs.config, sort_keys=False, allow_unicode=True, width=100))


def _meanings(known_ones: Mapping[str, Metric], keys: Sequence[str]) -> dict[str, str]:
    """Label to meaning; the figures of a family such as precision@ together, in the words of the first."""
    told: dict[str, str] = {}
    for key in keys:
        shown = metric(known_ones, key)
        if shown.meaning and shown.meaning not in told.values():
            told[shown.label.partition("@")[0]] = shown.meaning
    return told


def with_std(write: Any, mean: Any, std: Any) -> str:
    """`mean ± std`, or the mean alone where nothing deviates, and of what is merely counted."""
    if known(mean) is None or not known(std) or write is count:
        return str(write(mean))
    return f"{write(mean)} \u00b1 {write(std).removesuffix(' bp')}"


def _counts(of: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    return [count(of.get(key)) for key in keys]


def _features(inputs: ReportInputs) -> str:
    of = dig(inputs.data, "features") or {}
    names = of.get("names") or []
    return f"{part(of.get('kind'))}: {len(names)} fields x {count(of.get('window'))} days ({text(names)})"


def _by_year(frame: pl.DataFrame) -> dict[str, pl.DataFrame]:
    if frame.is_empty() or "date" not in frame.columns:
        return {}
    labelled = frame.with_columns(pl.Series("_year", [day[:4] for day in dates(frame)]))
    return {str(key[0]): rows for key, rows in labelled.partition_by("_year", as_dict=True).items()}


def _compounded(frame: pl.DataFrame | None, name: str) -> float | None:
    """The return of the whole frame; None where a day is not known."""
    values = column(frame, name) if frame is not None else None
    return None if values is None or not np.isfinite(values).all() else float(np.prod(1.0 + values) - 1.0)


def _mean(frame: pl.DataFrame | None, name: str) -> str:
    values = column(frame, name) if frame is not None else None
    return NOTHING if values is None else number(float(np.nanmean(values)))


def _excess(net: float | None, benchmark: float | None) -> float | None:
    return None if net is None or benchmark is None else (1.0 + net) / (1.0 + benchmark) - 1.0


def _mean_cells(values: Any) -> list[str]:
    if len(values) < 2:
        return [NOTHING, NOTHING, NOTHING, count(len(values))]
    mean, error = float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)
    return [
        number(mean * 1e4, 1),
        number(error * 1e4, 1),
        number(mean / error, 2) if error else NOTHING,
        count(len(values)),
    ]
