"""The world of an agent: some days of a market as arrays, and the account that it keeps in it.

The account is kept by the parts of the backtest engine itself: the terms of the market and the compiled trades of a day
are the same, and so is the order of things on a day u (interest and settlement, the fill of the decision of day
u - delay, the mark). The weights that an agent chose, followed by `simulate` on the same days, give the same account,
suspensions, delistings, lots and fees included. Three things differ:

- An account that has lost everything is an error of the engine; here it ends the episode.
- What an agent is paid runs from fill to fill: the reward of a decision is the change from before its fill to before
  the next one, so its own costs are in it and those of the next decision are not. Day by day the engine's returns run
  from close to close, with the cost of a fill at the close on the day before. The products are equal.
- Here a decision is made every day, whatever `backtest.every` says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mimstocr.agents.settings import EnvironmentSettings
from mimstocr.backtest.fill import fill
from mimstocr.backtest.market import Terms, Values, make_terms
from mimstocr.backtest.orders import DayOrders, DayTerms
from mimstocr.backtest.settings import BacktestSettings
from mimstocr.data.assets import class_names
from mimstocr.data.panel import Days, Matrix, Panel, days_of, symbols_of, usable
from mimstocr.errors import ConfigError, TrainingError
from mimstocr.features import Fitted, WindowMaker

DAYS_AT_ONCE = 64
"""Days whose windows are made at a time."""
RUIN = -0.99
"""The return of the day on which an account loses everything, or more: its logarithm is finite."""

Action = NDArray[np.floating]
Observation = NDArray[np.float32]
Policy = Callable[[Observation], Action]
"""What an agent does when it sees this."""


@dataclass(frozen=True, eq=False)
class World:
    """Consecutive days of a market; N stocks, T days, a window of L days of F features."""

    days: Days
    """(T,)."""
    symbols: list[str]
    features: Matrix
    """(T, N * L * F) what is known at the close of each day; 0, the training median, for a stock that is not in the
    day's cross-section."""
    rows: NDArray[np.bool_]
    """(T, N) the cross-sections: what can be decided on."""
    terms: Terms
    delay: int
    """Days from a decision to its fill, 0 or 1."""
    capital: float
    days_per_year: int
    settings: EnvironmentSettings
    cut: int
    """Features beyond `settings.clip`, which were cut to it."""
    hold: bool = True
    """Whether there is an action for cash, as the paper's Hold output; without, all money is in stocks."""

    @property
    def decisions(self) -> int:
        """Decisions whose whole return lies within the days, from the first day on."""
        return max(len(self.days) - 1 - self.delay, 0)

    @property
    def notes(self) -> list[str]:
        """What a reader of the results must know."""
        return [f"{self.cut} features beyond {self.settings.clip:g} were cut to it for the agent"] if self.cut else []


def make_world(
    panel: Panel,
    fitted: Fitted,
    days: slice,
    trading: BacktestSettings,
    settings: EnvironmentSettings,
    *,
    hold: bool = True,
    least: int | None = None,
) -> World:
    """The days of a panel as an agent lives them; hand over a panel that ends with them where it must not see further.

    trading: market, delay and capital of the account. hold: whether there is an action for cash. least: days that there
    must be, by default those that one decision earns from; 1 where only what is decided matters.

    Raises ConfigError when an agent cannot live there: a delay other than 0 or 1, a window longer than that of the
    features, several asset classes, fewer than `least` days.
    """
    if trading.delay not in (0, 1):
        raise ConfigError(
            f"agents decide on what they hold, which is known for a delay of 0 or 1 days, got {trading.delay}; set "
            "the delay of the return task, or backtest.delay"
        )
    if settings.window > fitted.window:
        raise ConfigError(
            f"agent.environment.window: expected at most the {fitted.window} days of the features, got "
            f"{settings.window}"
        )
    if class_names(panel):
        raise ConfigError(
            f"agents live in one asset class, got {', '.join(class_names(panel))}; configure data.source alone"
        )
    n_days, least = days.stop - days.start, 2 + trading.delay if least is None else least
    if n_days < least:
        raise ConfigError(f"expected at least {least} days to live, got {n_days}; widen the split")
    rows: NDArray[np.bool_] = usable(panel)[days]
    seen, cut = _seen(fitted.bind(panel, torch.device("cpu")), days, rows, settings)
    return World(
        days=days_of(panel)[days],
        symbols=symbols_of(panel),
        features=seen,
        rows=rows,
        terms=make_terms(trading.market, panel, days),
        delay=trading.delay,
        capital=trading.capital,
        days_per_year=int(panel.attrs["days_per_year"]),
        settings=settings,
        cut=cut,
        hold=hold,
    )


def _seen(
    windows: WindowMaker, days: slice, rows: NDArray[np.bool_], settings: EnvironmentSettings
) -> tuple[Matrix, int]:
    """(T, N * L * F) the last L days of the windows of all stocks, and how many values were cut."""
    n_days, n_stocks = rows.shape
    symbols = torch.arange(n_stocks)
    parts, cut = [], 0
    for first in range(0, n_days, DAYS_AT_ONCE):
        at = torch.arange(first, min(first + DAYS_AT_ONCE, n_days))
        x = windows(at + days.start, symbols.expand(len(at), -1))[:, :, -settings.window :].numpy()
        x = np.where(rows[first : first + len(at), :, None, None], x, np.float32(0.0))
        cut += int((np.abs(x) > settings.clip).sum())
        parts.append(np.clip(x, -settings.clip, settings.clip).reshape(len(at), -1))
    return np.concatenate(parts), cut


class Account:
    """Money and stocks of an agent in a world, decision by decision."""

    def __init__(self, world: World) -> None:
        self.world = world
        terms = world.terms
        n, kinds = len(world.symbols), len(terms.kinds)
        self._terms: list[DayTerms] = [terms.day(at) for at in range(len(world.days))]
        self._decides: list[bool] = [bool(day.any()) for day in world.rows]
        self._settles: list[bool] = [bool(day.any()) for day in terms.gone]
        self._lends = terms.borrow > 0 or terms.financing > 0
        self._out = DayOrders(np.zeros(n), np.zeros(n), np.zeros(n, dtype=np.uint8), np.zeros((n, kinds)))
        self._n_seen = world.features.shape[1]
        self.start(0)

    def start(self, at: int) -> None:
        """All in cash at the close of the day `at`, which decides first."""
        n = len(self.world.symbols)
        self.at = at
        self.held: Values = np.zeros(n)
        """(stocks,) adjusted shares after the last fill; of the next day's settlement already."""
        self.money = self.world.capital
        self.equity = self.world.capital
        """What it is worth before the next fill."""
        self.value = self.world.capital
        """What it was worth at the close of the last fill's day, after it."""
        self.weights: Values = np.zeros(n)
        """(stocks,) what is held at the close of the day that decides, as fractions of the equity."""
        self.cash = 1.0
        """The rest of the equity, at that close."""
        self.turnover = 0.0
        """One-way, of the last fill."""

    @property
    def ruined(self) -> bool:
        """Whether everything is lost."""
        return not (self.equity > 0 and self.value > 0)

    def observe(self) -> Observation:
        """(N * L * F + N + 1,) features of the day that decides, weights held, cash; all known at its close."""
        seen = np.empty(self._n_seen + len(self.weights) + 1, dtype=np.float32)
        seen[: self._n_seen] = self.world.features[self.at]
        held = seen[self._n_seen :]
        held[:-1] = self.weights
        held[-1] = self.cash
        clip = self.world.settings.clip
        np.clip(held, -clip, clip, out=held)
        return seen

    def positions(self, action: Action) -> Values:
        """(stocks,) the weights that an action (N,) or with Hold (N + 1,) asks for on the day that decides.

        v_i = |a_i| / sum |a_j|, Hold included in the sum, long where a_i > 0 and short where a_i < 0; Hold's part
        stays in cash. A stock outside the day's cross-section gets 0 and takes no part in the sum. Where the market
        sells nothing short, the part of a negative action stays in cash. All zero: all cash. On a day without any
        cross-section all are NaN: no decision.

        Raises TrainingError on an action that is not finite.
        """
        n, rows = len(self.weights), self.world.rows[self.at]
        wanted: Values = np.where(rows, action[:n], 0.0)
        total = float(np.abs(wanted).sum())
        if self.world.hold:
            total += abs(float(action[n]))
        if not np.isfinite(total):
            raise TrainingError(f"expected actions from -1 to 1, got one that is not finite on day {self.at}")
        if not self._decides[self.at]:
            return np.full(n, np.nan)
        if total == 0:
            return np.zeros(n)
        if not self.world.terms.short:
            wanted = np.maximum(wanted, 0.0)
        return wanted / total

    def follow(self, weights: Values) -> float:
        """Fill the decision of the day, go on to the next day, and give the net return of the decision.

        That is equity before the next fill / equity before this one - 1; NaN where the days end before that.
        """
        day = self.at + self.world.delay
        self.at += 1
        if day >= len(self._terms):
            return float("nan")
        before = self.equity
        self._trade(day, weights)
        if self.world.delay == 1:
            self._look(day, self.value)
        if day + 1 >= len(self._terms):
            return float("nan")
        self._open(day + 1)
        if self.world.delay == 0:
            mark = self.world.terms.mark[day + 1]
            self._look(day + 1, self.money + float(self.held @ mark))
        return RUIN if self.ruined else max(self.equity / before - 1.0, RUIN)

    def _trade(self, day: int, weights: Values) -> None:
        for array in self._out:
            array.fill(0)
        self.money, traded, equity = fill(self.held, self.money, weights, False, self._terms[day], self._out)
        self.turnover = traded / equity / 2
        self.value = self.money + float(self.held @ self.world.terms.mark[day])

    def _open(self, day: int) -> None:
        """Interest of the night and settlement of delisted stocks, as the engine has them."""
        terms = self.world.terms
        mark = terms.mark[day - 1]
        if self._lends:
            shorted = -float(np.minimum(self.held, 0.0) @ mark)
            self.money -= shorted * terms.borrow + max(-self.money, 0.0) * terms.financing
        if self._settles[day]:
            ended = terms.gone[day]
            self.money += float(self.held[ended] @ terms.mark[day][ended]) * (1.0 - terms.delisting_loss)
            self.held[ended] = 0.0
        self.equity = self.money + float(self.held @ terms.worth[day])

    def _look(self, day: int, value: float) -> None:
        """Remember what is held at the close of a day."""
        if value > 0:
            self.weights = self.held * self.world.terms.mark[day] / value
            self.cash = self.money / value

    def state(self) -> dict[str, Any]:
        """All that changes, for a checkpoint."""
        names = ("at", "money", "equity", "value", "cash", "turnover")
        arrays = {"held": self.held.tolist(), "weights": self.weights.tolist()}
        return {name: getattr(self, name) for name in names} | arrays

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        for name, value in state.items():
            setattr(self, name, np.array(value) if isinstance(value, list) else value)


class Followed(NamedTuple):
    """What a policy did in a world from its first day to its last."""

    weights: Values
    """(T, N), NaN where a stock is not in the day's cross-section."""
    returns: Values
    """(decisions,) net."""
    turnover: Values
    """(decisions,) one-way."""


def follow(policy: Policy, world: World) -> Followed:
    """Let a policy decide on every day of a world, in cash at first.

    After an account has lost everything it holds nothing. Raises TrainingError on an action that is not finite.
    """
    account = Account(world)
    n_days, n = world.rows.shape
    weights, returns, turnover = np.zeros((n_days, n)), np.zeros(n_days), np.zeros(n_days)
    for at in range(n_days):
        if account.ruined:
            break
        weights[at] = account.positions(policy(account.observe()))
        returns[at] = account.follow(weights[at])
        turnover[at] = account.turnover
    weights[~world.rows] = np.nan
    return Followed(weights, returns[: world.decisions], turnover[: world.decisions])
