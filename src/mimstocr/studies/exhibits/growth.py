"""What the strategies earned over the test days, as in figure 4 of MiM-StocR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mimstocr.config import Config
from mimstocr.errors import MimstocrError
from mimstocr.studies.exhibits import _style as style
from mimstocr.studies.exhibits.base import EXHIBITS, Drawing, Entry, Shows, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mimstocr.backtest import BacktestResult, Market
    from mimstocr.data import Panel
    from mimstocr.studies.results import Results, Shown

Mark = Literal["", "best", "second"]
Values = NDArray[np.float64]
Days = NDArray[np.datetime64]
REFERENCES = {"index": ("#000000", (0, (4, 1.6))), "universe": (style.GREY, (0, (1, 1.4)))}
"""Colour and dashes of what the strategies are held against."""
COLUMNS = {
    "annual": "Annual return",
    "gross": "Before costs",
    "sharpe": "Sharpe",
    "drawdown": "Max drawdown",
    "index": "Excess over index",
    "universe": "Excess over universe",
}
"""All of them are better when higher: a drawdown is negative."""


@dataclass(frozen=True)
class Path:
    """What 1 became."""

    days: Days
    """(days + 1,): the day of the first fill, then the days compared."""
    wealth: Values
    """(days + 1,), 1 at first."""
    figures: Mapping[str, float]
    """Those of COLUMNS that are known, as fractions."""


@dataclass(frozen=True)
class Account:
    """A cell with the accounts of its seeds."""

    shown: Shown
    paths: Sequence[Path]
    references: Mapping[str, Path]
    """Index and universe over the same days, where they are complete."""

    @property
    def mean(self) -> tuple[Days, Values]:
        """The mean of the accounts' values."""
        return self.paths[0].days, np.mean([path.wealth for path in self.paths], axis=0)


@dataclass
class Told:
    """What notes are made of."""

    delays: set[int] = field(default_factory=set)
    markets: set[str] = field(default_factory=set)
    strategies: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


@EXHIBITS.register("growth")
class Growth(style.Lined):
    """Cumulative return of each cell's strategy over the test days, beside the index and the universe's mean."""

    cost: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Fraction of the traded value paid on every buy and every sell, in place of all costs of the runs' market, whose
    rules stay; none: what the runs are set to. The paper
    does not say what the accounts of its figure pay."""
    delay: Annotated[int, Field(ge=0)] | None = None
    """Trading days from a score to its fill; none: that of the return label. 0 fills at the close that the score
    has seen, which cannot be traded."""

    def make(self, results: Results) -> Shows:
        """A drawing for each combination of the other axes, and one table of all accounts."""
        drawings, why, rows, notes = [], [], [], []
        panels: dict[str, Panel] = {}
        for group in self.groups(results):
            told = Told()
            accounts = [account for shown in group.cells if (account := self._account(results, shown, told, panels))]
            lacks = [*told.notes, *style.account(results, group.cells, folders=True)]
            notes += group.told(lacks)
            if not accounts:
                why += group.told([*lacks, *self.scope()])
                continue
            with style.styled():
                figure = self._draw(results, accounts)
            name = self.file(results, *self._terms_in_name(), group.name)
            drawn = [*_terms(told), _means(accounts), *lacks, *self.scope()]
            drawings.append(Drawing(name, group.name or self.headline(results), figure, drawn))
            rows += self._rows(results, group, accounts)
            notes = [*_terms(told), *notes]
        tables = [self._table(results, rows, list(dict.fromkeys(notes)))] if rows else []
        return self.shows(results, drawings, why, tables)

    def _account(self, results: Results, shown: Shown, told: Told, panels: dict[str, Panel]) -> Account | None:
        """The backtests of a cell's runs; what goes wrong or differs becomes a note. `panels` by their settings."""
        from mimstocr.data import load_panel
        from mimstocr.workflow import run_backtest

        paths: list[Path] = []
        references: dict[str, Path] = {}
        for run in style.with_folder(results, shown):
            assert run.folder is not None
            try:
                data = run.folder.config().data
                read = data.model_dump_json()
                if read not in panels:
                    panels[read] = load_panel(data)
                result = run_backtest(run.folder.path, overrides=self._overrides, panel=panels[read])
            except MimstocrError as error:
                told.notes.append(f"{style.named_runs([(shown.name, run.seed)])} cannot be backtested here: {error}.")
                continue
            path, others = _paths(result)
            if paths and not np.array_equal(path.days, paths[0].days):
                told.notes.append(f"{style.named_runs([(shown.name, run.seed)])} covers other days, and is left out.")
                continue
            paths.append(path)
            references = others
            told.notes += [note for note in _lacking(result, shown) if note not in told.notes]
            self._tell(shown.cell.config, told)
        return Account(shown, paths, references) if paths else None

    def _tell(self, config: Config, told: Told) -> None:
        told.delays.add(config.traded(self._overrides).delay or 0)
        told.markets.add(_asks(config.traded(self._overrides).market))
        told.strategies.add(_strategy(config))

    @property
    def _overrides(self) -> list[str]:
        """The settings of the backtest that differ from the runs'."""
        own = ("min_commission=0", "fees={}", "slippage=0", "impact=0")
        market = [] if self.cost is None else [f"market.{cost}" for cost in (f"commission={self.cost}", *own)]
        return market + ([] if self.delay is None else [f"delay={self.delay}"])

    @property
    def _columns(self) -> list[str]:
        """Keys of the columns of its table; without costs there is no return before them."""
        return [key for key in COLUMNS if key != "gross" or self.cost != 0]

    def _terms_in_name(self) -> list[str]:
        cost = [] if self.cost is None else [f"cost-{self.cost:g}"]
        return cost + ([] if self.delay is None else [f"delay-{self.delay}"])

    def _draw(self, results: Results, accounts: Sequence[Account]) -> Figure:
        levels = style.levels_of([account.shown for account in accounts], self.panels, results)
        columns = min(len(levels), 2)
        width, height = (6.6, 3.2) if columns == 1 else (4.4, 2.7)
        figure, places = style.grid_of_panels(
            len(levels), columns, sharex=True, sharey=True, width=width, height=height
        )
        ends = []
        for number, (axes, level) in enumerate(zip(places, levels, strict=True)):
            here = [account for account in accounts if style.at_level(account.shown, self.panels) == level]
            ends.append(self._panel(results, axes, here))
            axes.set_title(level)
            if number % columns == 0:
                axes.set_ylabel("Cumulative return")
        for axes, of_panel in zip(places, ends, strict=True):  # all lines are drawn, so the limits they share are final
            style.label_ends(axes, of_panel)
        return figure

    def _panel(self, results: Results, axes: Axes, accounts: Sequence[Account]) -> list[tuple[Any, float, str, str]]:
        """Draw the accounts and what they are held against; gives the ends of the lines, to be labelled."""
        from matplotlib.ticker import PercentFormatter

        ends = []
        for key, name, path in self._references(results, accounts):
            colour, dash = REFERENCES[key]
            axes.plot(path.days, path.wealth - 1.0, color=colour, ls=dash, lw=1.1, label=name, gid=key)
            ends.append((path.days[-1], path.wealth[-1] - 1.0, name, colour))
        for account in accounts:
            colour, name = self.colour(results, account.shown), self.line(results, account.shown)
            days, wealth = account.mean
            if len(account.paths) > 1:
                every = np.array([path.wealth for path in account.paths]) - 1.0
                axes.fill_between(days, every.min(axis=0), every.max(axis=0), color=colour, alpha=0.1, lw=0)
            axes.plot(days, wealth - 1.0, color=colour, lw=1.5, label=name, gid="mean")
            ends.append((days[-1], wealth[-1] - 1.0, name, colour))
        axes.axhline(0.0, color=style.AXIS, lw=0.8, zorder=1, gid="zero")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.margins(x=0.0)
        return ends

    def _rows(self, results: Results, group: style.Group, accounts: Sequence[Account]) -> list[list[Entry]]:
        """A row a cell, drawn or missing, and one for each reference, panel by panel."""
        rows = []
        for level in style.levels_of(group.cells, self.panels, results):
            found = {
                account.shown.name: account
                for account in accounts
                if style.at_level(account.shown, self.panels) == level
            }
            marks = _marks(list(found.values()))
            for shown in group.cells:
                if style.at_level(shown, self.panels) == level:
                    labels = [Entry(name) for name in shown.levels.values()]
                    rows.append([*labels, *_figures(self._columns, found.get(shown.name), marks.get(shown.name, {}))])
            blanks = [Entry("")] * (len(results.grid.study.shown_axes) - 1)
            for _, name, path in self._references(results, list(found.values())):
                one = [(key, path.figures.get(key)) for key in self._columns]
                numbers = [Entry(_text(key, [value]), value=value) for key, value in one]
                rows.append([Entry(name), *blanks, Entry(""), *numbers])
        return rows

    def _references(self, results: Results, accounts: Sequence[Account]) -> list[tuple[str, str, Path]]:
        """Kind, name and path of each index and universe once, the longest where delays cut them differently."""
        found: dict[tuple[str, str], list[Account]] = {}
        for account in accounts:
            config = account.shown.cell.config
            for key in account.references:
                data = config.data.model_dump_json(exclude={"universe"} if key == "index" else set())
                found.setdefault((key, data + str(config.splits.test or config.splits.test_year)), []).append(account)
        listed = []
        for (key, _), same in found.items():
            path = max((account.references[key] for account in same), key=lambda path: len(path.days))
            benchmark = same[0].shown.cell.config.data.benchmark
            name = "Universe mean" if key == "universe" else f"Index {benchmark}" if benchmark else "Index"
            several = sum(other == key for other, _ in found) > 1
            listed.append((key, f"{name}, {self.line(results, same[0].shown)}" if several else name, path))
        return listed

    def _table(self, results: Results, rows: list[list[Entry]], notes: Sequence[str]) -> Table:
        axes = results.grid.study.shown_axes
        meaning = (
            "Annual figures of the test days, mean (standard deviation) over seeds, each seed its own account. Excess "
            "is the geometric difference of annual returns; Sharpe takes a risk-free rate of 0. Best and second are "
            "marked within a panel."
        )
        name = self.file(results, *self._terms_in_name())
        header = [*axes, "Seeds", *(COLUMNS[key] for key in self._columns)]
        return Table(name, self.headline(results), header, rows, len(axes), [meaning, *notes, *self.scope()])


def _paths(result: BacktestResult) -> tuple[Path, dict[str, Path]]:
    """The net account, and index and universe where they are known on every day."""
    table = result.table()
    days = np.concatenate([[result.simulated_days[result.net.first_fill]], table["date"].to_numpy()])
    annual = {name: figures["annual_return"] for name, figures in result.metrics.items()}
    found: dict[str, Path] = {}
    names: tuple[str, ...] = ("net", "index", "universe")
    for name in names:
        if name not in result.metrics:
            continue
        figures = result.metrics[name]
        told = {
            "annual": figures["annual_return"],
            "sharpe": figures["sharpe"],
            "drawdown": figures["max_drawdown"],
            **{
                other: _excess(annual[name], annual[other]) for other in REFERENCES if other in annual and other != name
            },
        }
        if name == "net":
            told["gross"] = annual["gross"]
        returns = table[name].to_numpy().astype(np.float64)
        found[name] = Path(days, np.concatenate([[1.0], np.cumprod(1.0 + returns)]), told)
    return found.pop("net"), found


def _excess(annual: float, other: float) -> float:
    return (1.0 + annual) / (1.0 + other) - 1.0


def _lacking(result: BacktestResult, shown: Shown) -> list[str]:
    """Notes on what the account cannot be held against."""
    notes = []
    if result.index_returns is None:
        notes.append(f"{shown.name}: its data have no index.")
    elif missing := result.counts["index_days_missing"]:
        notes.append(f"{shown.name}: the index lacks {missing} of the days, so it is not shown.")
    if missing := result.counts["universe_days_missing"]:
        notes.append(f"{shown.name}: the universe has no mean on {missing} of the days, so it is not shown.")
    return notes


def _figures(columns: Sequence[str], account: Account | None, marks: Mapping[str, Mark]) -> list[Entry]:
    """Seeds, and the columns."""
    if account is None:
        return [Entry("0", value=0.0), *(Entry("\N{EN DASH}") for _ in columns)]
    entries = [Entry(str(len(account.paths)), value=float(len(account.paths)))]
    for key in columns:
        values = [path.figures.get(key) for path in account.paths]
        entries.append(Entry(_text(key, values), marks.get(key, ""), _mean(values)))
    return entries


def _text(key: str, values: Sequence[float | None]) -> str:
    """Mean (standard deviation)."""
    from mimstocr.report.formats import NOTHING, number, percent

    mean = _mean(values)
    if mean is None:
        return NOTHING
    known = [value for value in values if value is not None]
    spread = float(np.std(known, ddof=1)) if len(known) > 1 else None
    if key == "sharpe":
        return number(mean, 2) + (f" ({number(spread, 2)})" if spread is not None else "")
    return percent(mean, 1) + (f" ({spread * 100:.1f})" if spread is not None else "")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _marks(accounts: Sequence[Account]) -> dict[str, dict[str, Mark]]:
    """Cell to column to best or second, among the accounts of a panel."""
    marks: dict[str, dict[str, Mark]] = {account.shown.name: {} for account in accounts}
    for key in COLUMNS:
        means = {
            account.shown.name: mean
            for account in accounts
            if (mean := _mean([path.figures.get(key) for path in account.paths])) is not None
        }
        first = sorted(set(means.values()), reverse=True)[:2]
        for name, mean in means.items():
            if len(means) > 1 and mean in first:
                marks[name][key] = "best" if mean == first[0] else "second"
    return marks


def _terms(told: Told) -> list[str]:
    """On which terms the accounts traded."""
    fills = []
    for delay in sorted(told.delays):
        if delay == 0:
            fills.append(
                "delay 0 fills at the close that the score has seen, which cannot be traded: it shows what the ranking "
                "holds, not what could have been earned"
            )
        else:
            fills.append(f"delay {delay} fills at the close {delay} trading day{'s' * (delay > 1)} after the score's")
    asked = " or ".join(sorted(told.markets))
    return [f"Strategy: {' or '.join(sorted(told.strategies))}; {asked}; {'; '.join(fills)}."]


def _asks(market: Market) -> str:
    if market.kind != "flat":
        return f"the rules and costs of the market {market.kind}"
    cost = market.commission
    return f"{cost * 100:.4g}% of the traded value paid on every buy and every sell" if cost else "no costs"


def _means(accounts: Sequence[Account]) -> str:
    several = any(len(account.paths) > 1 for account in accounts)
    mean = (
        "Lines: the mean over seeds of the account's value; bands: from the worst to the best seed. " if several else ""
    )
    return (
        f"{mean}Index: its closes; universe mean: an equal part of every member, rebalanced each day without cost. All "
        "start at 0 on the day of the first fill."
    )


def _strategy(config: Config) -> str:
    from mimstocr.report.formats import part

    return part(config.backtest.strategy.model_dump(mode="json"))
