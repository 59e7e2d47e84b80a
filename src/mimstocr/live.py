"""What a finished run says of a day of its source read anew: the ranked list, and the positions to take."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimstocr.backtest import BacktestSettings, view_of
from mimstocr.backtest.orders import Values
from mimstocr.backtest.run import carried
from mimstocr.backtest.strategies.positions import Positions as Weights
from mimstocr.config import Config
from mimstocr.data import DataSettings, load_panel
from mimstocr.data.assets import own_calendars, standing
from mimstocr.data.panel import Panel, day_text, days_of, few, place_of, symbols_of, usable
from mimstocr.errors import ConfigError, DataError, RunError
from mimstocr.predictions import averaged, matrices_of, prediction_table, ranked_list
from mimstocr.runs import RunFolder
from mimstocr.training.machine import settle
from mimstocr.training.predict import Predicted
from mimstocr.training.prepare import resolve_device
from mimstocr.training.rolling import outdated
from mimstocr.workflow import predict_days

SIDES = {1: "long", -1: "short", 0: "none"}
"""Of the sign of a weight."""
CASH = "cash"
"""The side of the row without a symbol."""


def recommend(
    path: Path, *, day: date | None = None, top: int | None = None, source: str | None = None
) -> pl.DataFrame:
    """The ranked list of a day, by default the last day of the data: date, rank, symbol, score, task outputs.

    Of several asset classes, one that is closed on the day comes with the scores of its own last day before, which
    the row's date tells; with the column asset_class after the symbol. An agent's scores are its weights; see
    `positions`.
    day: a day, or a time where the data are bars within the day; there a day alone means its last bar.

    The source is read anew, so that a run trained once gives tomorrow's list every evening; `source` is another
    address with the same fields, read with the run's data settings but for their end. Raises RunError when the run
    has not finished, DataError when the day is not a trading day of the data, has no stock that can be scored, or has
    nothing in a table of the user's own that the features read.
    """
    return ranked_list(_ask(RunFolder.open(path), day, source).table, top)


@dataclass(frozen=True, eq=False)
class Positions:
    """What to hold after a day, as the strategy `positions` is given it by a backtest of the run."""

    table: pl.DataFrame
    """date, symbol, weight, side, and of several seeds spread: longs, the largest first, then shorts, then members of
    the universe without a position, last the cash. weight: fraction of the equity, below zero sold short; the row of
    the cash, without a symbol, has 1 - the sum of their sizes. side: long, short, none or cash. spread: standard
    deviation over seeds of what each would hold alone."""
    task: str
    """Whose answers these are."""
    day: str
    """The day, or bar, at whose close it was decided."""
    delay: int
    """Trading days from then to the fill."""
    fill_day: str | None
    """The day of the fill, where the data have it already."""
    price: str
    """The price of that day at which the backtest fills, such as close."""
    gross: float
    """The sum of the sizes of all weights."""
    net: float
    """The sum of all weights."""
    cash: float
    """1 - gross: what is in no position."""
    hold: float | None
    """What the model holds back by itself, the mean over seeds; the rest of the cash is from seeds that disagree, or
    from the strategy. None without Hold."""
    seeds: tuple[int, ...]
    notes: list[str]
    """What a reader must know before trading."""

    def plain(self) -> dict[str, Any]:
        """All of it in plain types, as JSON holds it."""
        told = {name: value for name, value in vars(self).items() if name != "table"}
        rows = self.table.with_columns(pl.col("date").cast(pl.String)).to_dicts()
        return {**told, "seeds": list(self.seeds), "positions": rows}


def positions(path: Path, *, day: date | None = None, source: str | None = None) -> Positions:
    """The weights to hold after the close of a day, by default the last day of the data, of a run that learned them.

    Of the main task where it is of kind position, else of the first learned one that is. Several seeds are averaged, as
    the backtest does. The strategy is the run's own where that is `positions`, else that one as it comes. An agent's
    account is lived anew from the first day of the run's test, as what it does depends on what it holds.

    day, source: as for `recommend`. Raises what that raises; RunError when the run has not finished or learned no
    positions; DataError when the data have other stocks than a fixed portfolio or an agent was made for, or the day
    lies before an agent's test.
    """
    folder = RunFolder.open(path)
    folder.read_json("metrics.json")  # which a run has once it is finished
    config = folder.config()
    task, settings = _position_task(config), config.traded()
    strategy = settings.strategy if isinstance(settings.strategy, Weights) else Weights()
    said = _ask(folder, day, source)
    weights = said.weights(strategy, task)
    alone = np.array([said.weights(strategy, task, seed) for seed in config.seeds])
    days, delay = days_of(said.panel), settings.delay or 0
    gross = float(np.abs(weights).sum())
    return Positions(
        table=_table(said, weights, alone),
        task=task,
        day=day_text(days[said.at]),
        delay=delay,
        fill_day=day_text(days[said.at + delay]) if said.at + delay < len(days) else None,
        price=settings.market.price,
        gross=gross,
        net=float(weights.sum()),
        cash=1.0 - gross,
        hold=said.hold(task),
        seeds=config.seeds,
        notes=[
            *_notes(said, settings, strategy, weights, alone),
            *_short_past(folder, said),
            *stale(path, days[said.at]),
        ],
    )


def stale(path: Path, day: date | np.datetime64) -> list[str]:
    """A note when the last rolling model of a run is of an earlier week or month than `day`; without, nothing."""
    folder = RunFolder.open(path)
    config = folder.config()
    if config.training.rolling is None:
        return []
    told = outdated(folder.checkpoints(config.seeds[0]), config.training.rolling, np.datetime64(day))
    return [told] if told else []


# ---- a day of a source ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Said:
    """What a run says of one day."""

    config: Config
    panel: Panel
    at: int
    """The place of the day."""
    first: int
    """The place of the earliest day in the table: an asset class that is closed stands with its own last day."""
    table: pl.DataFrame
    """The predictions of every seed."""

    def weights(self, strategy: Weights, task: str, seed: int | None = None) -> Values:
        """(symbols,) what the strategy decides on the day, by the mean of the seeds or by one of them."""
        table = averaged(self.table if seed is None else self.table.filter(pl.col("seed") == seed))
        days, symbols, found = matrices_of(table, [task])
        rows = np.searchsorted(days_of(self.panel), days) - self.first
        scores = np.full((self.at + 1 - self.first, self.panel.sizes["symbol"]), np.nan)
        places = {symbol: place for place, symbol in enumerate(symbols_of(self.panel))}
        scores[np.ix_(rows, np.array([places[symbol] for symbol in symbols]))] = found[task]
        stood = carried(self.panel, scores, slice(self.first, self.at + 1))[-1:]
        weights: Values = strategy.weights(stood, view_of(self.panel, slice(self.at, self.at + 1)))[0]
        return weights

    def hold(self, task: str) -> float | None:
        """The share of Hold on the newest day, the mean over seeds."""
        if not self.config.learned()[task].holds:
            return None
        newest = self.table.filter(pl.col("date") == pl.col("date").max())
        return float(newest.select(pl.col(f"{task}.hold").cast(pl.Float64).mean()).item())

    def members(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(symbols,) each: members of the universe, and those of them that could be traded."""
        masks = self.panel["member"].values, usable(self.panel)
        known, traded = (standing(own_calendars(self.panel), mask)[self.at] for mask in masks)
        return known, traded


def _ask(folder: RunFolder, day: date | None, source: str | None) -> _Said:
    """Read the source and let every seed speak of a day of it."""
    config = folder.config()
    panel = load_panel(config.data if source is None else _elsewhere(config.data, source))
    at = _place(panel, day)
    calendars = [own for own in own_calendars(panel) if own.last[at] >= 0]
    for own in calendars:
        config.features.check_known(own.panel, int(own.last[at]))
    settle(config.training.threads)
    last = sorted({int(own.days[own.last[at]]) for own in calendars})
    table = prediction_table(panel, last, _predicted(config, panel, folder, last), config.learned())
    if table.is_empty():
        raise DataError(
            f"no stock of the universe could be traded on {day_text(days_of(panel)[at])}; choose a day with prices and "
            "volume"
        )
    return _Said(config, panel, at, last[0], table)


def _predicted(config: Config, panel: Panel, folder: RunFolder, days: list[int]) -> dict[int, Predicted]:
    """Seed to what it says of `days`; an agent's account is of one class, and so of one day."""
    if config.agent is not None:
        from mimstocr.agents.run import lived_again  # of the extra rl

        return lived_again(config, config.agent, panel, folder, days[-1])
    device = resolve_device(config.training.device)
    return {seed: predict_days(config, panel, folder, seed, days, device) for seed in config.seeds}


def _place(panel: Panel, day: date | None) -> int:
    """The place of a day, by default of the last."""
    days = days_of(panel)
    at = len(days) - 1 if day is None else place_of(days, day)
    if at is None:
        before = max(int(np.searchsorted(days, np.datetime64(day))) - 1, 0)
        raise DataError(
            f"{day} is not a trading day of {panel.attrs['source']}, which has {day_text(days[0])} to "
            f"{day_text(days[-1])}; the nearest before it is {day_text(days[before])}"
        )
    return at


def _elsewhere(data: DataSettings, source: str) -> DataSettings:
    if data.assets:
        raise ConfigError(
            f"--source: the run has the asset classes {', '.join(data.assets)}, each with a source of its own; change "
            "these in the run's config.yaml"
        )
    return data.model_copy(update={"source": source, "end": None})


# ---- positions ------------------------------------------------------------------------------------------------------


def _position_task(config: Config) -> str:
    """The first learned task of kind position, which is the main one where that is such."""
    learned = config.learned()
    found = next((name for name, task in learned.items() if task.target == "position"), None)
    if found is None:
        kinds = ", ".join(f"{name} ({task.kind})" for name, task in learned.items())
        raise RunError(
            f"{config.folder} learned {kinds}, and no task of kind position puts out weights; for its ranked list use "
            f"`mimstocr recommend {config.folder}`"
        )
    return found


def _table(said: _Said, weights: Values, alone: Values) -> pl.DataFrame:
    """The rows of `Positions.table`; alone: (seeds, symbols)."""
    symbols, sign = np.array(symbols_of(said.panel)), np.sign(weights).astype(int)
    shown = np.flatnonzero(said.members()[0] | (weights != 0))
    order = (symbols[shown], -np.abs(weights[shown]), (sign[shown] - 1) % 3)  # long, short, none
    shown = shown[np.lexsort(order)]
    columns: dict[str, Any] = {
        "symbol": [*symbols[shown].tolist(), None],
        "weight": [*weights[shown].tolist(), 1.0 - float(np.abs(weights).sum())],
        "side": [*(SIDES[side] for side in sign[shown].tolist()), CASH],
    }
    if len(alone) > 1:
        cash = 1.0 - np.abs(alone).sum(axis=1)
        columns["spread"] = [*alone.std(axis=0, ddof=1)[shown].tolist(), float(cash.std(ddof=1))]
    dates = np.repeat(days_of(said.panel)[said.at], len(shown) + 1)
    return pl.DataFrame({"date": dates, **columns}, schema_overrides={"symbol": pl.String})


def _notes(said: _Said, settings: BacktestSettings, strategy: Weights, weights: Values, alone: Values) -> list[str]:
    """What a reader must know before trading."""
    told = []
    members, traded = said.members()
    symbols = symbols_of(said.panel)
    if absent := [symbols[place] for place in np.flatnonzero(members & ~traded)]:
        told.append(
            f"not traded on the day, so weight 0: {len(absent)} of {int(members.sum())} ({few(absent)}); what is held "
            "of them stays until it can be sold"
        )
    if split := int(((alone > 0).any(axis=0) & (alone < 0).any(axis=0)).sum()):
        told.append(f"the seeds disagree on the side of {split} of {int(traded.sum())} stocks")
    if idle := [str(seed) for seed, own in zip(said.config.seeds, alone, strict=True) if not own.any()]:
        told.append(f"seed {', '.join(idle)} holds cash alone")
    if strategy is not settings.strategy:
        told.append(
            f"the run's own backtest trades {settings.strategy.kind} by the score, not these weights; they are those "
            "of strategy positions"
        )
    elif (main := next(iter(said.config.learned()))) != (task := _position_task(said.config)):
        told.append(
            f"the run's own backtest trades the score, which is what task {main} says, not these weights of task "
            f"{task}; the first task ranks the stocks"
        )
    if (weights < 0).any() and not settings.market.short:
        told.append(f"the market of the run, {settings.market.kind}, sells nothing short, but there are shorts")
    if settings.every > 1:
        told.append(f"the run's backtest follows every {settings.every}th decision, counted from its first")
    return told


def _short_past(folder: RunFolder, said: _Said) -> list[str]:
    """A note when the data begin too late for the first window that was read: of the day, of an agent of its test."""
    told, first, agent = folder.read_json("data.json"), said.at, said.config.agent
    window = told["features"]["window"]
    if agent is not None:
        window = agent.environment.window
        first = int(np.searchsorted(days_of(said.panel), np.datetime64(told["splits"]["test"]["first"])))
    known = min(int(own.last[first]) + 1 for own in own_calendars(said.panel) if own.last[first] >= 0)
    if known >= window:
        return []
    return [
        f"the data have {known} days up to {day_text(days_of(said.panel)[first])}, fewer than a window of {window}; "
        "what is missing is set to the training median, so give data that begin earlier"
    ]
