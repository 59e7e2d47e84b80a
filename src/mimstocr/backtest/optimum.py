"""The best portfolio of a day under constraints: a quadratic program with a cone, by the solver Clarabel.

The solver meets few stocks at a time: a portfolio holds a small part of them, and its time grows with their third
power. It starts with those that are held and the most promising others; what its multipliers say of the stocks left out
proves that none of them would enter, or names those that would, and it starts again with these. The result is that of
all stocks at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimstocr.errors import ConfigError, DataError

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
Goal = Literal["utility", "invested", "turnover"]

TOLERANCE = 1e-10
"""Of the solver, on an objective whose gradient is about 1."""
REDUCED = 1e-6
"""What is still taken where rounding ends its progress."""
GAIN = 1e-7
"""What a stock that was left out must promise to be worth another try, on the same objective."""
SLACK = 1e-6
"""By which a sum of weights is told from another."""
SPARE = 1e-5
"""How far a turnover cap that gave way goes beyond the least it must: the solver needs room."""
START, MORE = 15, 20
"""Stocks that the solver starts with, besides those held and as many as it takes to hold all that is to be invested;
and the most that are added at a time."""


class Groups(NamedTuple):
    """Neutrality towards groups of stocks, such as industries."""

    members: Values
    """(stocks, groups) 1 for a member, else 0."""
    shares: Values
    """(groups,) parts of the money invested that are neutral."""
    band: float
    """By how much of the equity each may be missed."""


class Problem(NamedTuple):
    """Maximise alpha'w - risk_aversion / 2 w'Sw - trade_cost sum|w - held| over weights w of the stocks, under

    0 <= w <= position_cap and sum w = invested, and where these are given
    sqrt(w'Sw) <= risk_cap, |sum of w in g - shares_g sum w| <= band for every group g, and
    min(buys, sells) <= turnover_cap, with buys and sells the sums of w - held above and below zero.
    """

    alpha: Values
    """(stocks,)."""
    covariance: Values
    """(stocks, stocks) S, positive definite."""
    held: Values
    """(stocks,) weights now, not below zero."""
    invested: float = 1.0
    position_cap: float = 1.0
    risk_aversion: float = 1.0
    trade_cost: float = 0.0
    risk_cap: float | None = None
    groups: Groups | None = None
    turnover_cap: float | None = None


class Optimum(NamedTuple):
    """What `optimum` finds."""

    weights: Values
    """(stocks,)."""
    gave_way: tuple[str, ...] = ()
    """Which of "invested", "turnover_cap" could not be kept; "utility": all are kept, but the solver could not tell
    the best portfolio that does from others to its precision."""


def load_solver() -> Any:
    """The optional library; ConfigError without it."""
    try:
        return import_module("clarabel")
    except ModuleNotFoundError:
        raise ConfigError(
            "portfolios with constraints need the package clarabel, which is not installed; "
            "pip install 'mimstocr[portfolio]', or choose another strategy"
        ) from None


def optimum(problem: Problem) -> Optimum:
    """The best weights of a problem whose parts of `position_cap` can hold all that is to be invested.

    Where no weights keep every constraint, the turnover gives way first: it becomes as small as the others allow. When
    the risk is still too high, or a group out of its band, less is invested: as much as can be. So risk and groups are
    always kept, as holding nothing keeps them. Raises DataError when the solver finds no such weights either.
    """
    among = _start(problem)
    best, among = _solved(problem, "utility", among)
    if best is not None:
        return Optimum(best)
    widest, among = _solved(problem._replace(turnover_cap=None), "invested", among)
    if widest is None:
        raise DataError("expected weights that keep the constraints, but the solver found none")
    cap = problem.turnover_cap
    if widest.sum() < problem.invested - SLACK:
        over = cap is not None and turnover_of(widest, problem.held) > cap + SLACK
        return Optimum(widest, ("invested", "turnover_cap") if over else ("invested",))
    gave_way: tuple[str, ...] = ()
    if cap is not None:
        calm, among = _solved(problem._replace(turnover_cap=None), "turnover", among)
        widest = widest if calm is None else calm
        if (least := turnover_of(widest, problem.held)) > cap:
            problem, gave_way = problem._replace(turnover_cap=least + SPARE), ("turnover_cap",)
    best, _ = _solved(problem, "utility", among)
    return Optimum(widest, (*gave_way, "utility")) if best is None else Optimum(best, gave_way)


def turnover_of(weights: Values, held: Values) -> float:
    """The lesser of what is bought and what is sold, as a fraction of the equity."""
    trades = weights - held
    return float(min(np.maximum(trades, 0.0).sum(), np.maximum(-trades, 0.0).sum()))


def _start(problem: Problem) -> Mask:
    """What is held, and the others that promise most: overall, and as many in each group as its band asks for."""
    n = len(problem.alpha)
    held = problem.held > 0
    point = problem.held / problem.held.sum() if held.any() else np.full(n, 1.0 / n)
    promise = problem.alpha - problem.risk_aversion * (problem.covariance @ (problem.invested * point))
    ranked = np.argsort(-promise, kind="stable")
    among: Mask = held.copy()
    among[ranked[~held[ranked]][: START + int(np.ceil(problem.invested / problem.position_cap))]] = True
    if problem.groups is not None:
        members, shares, band = problem.groups
        needed = np.ceil((shares * problem.invested - band) / problem.position_cap)
        first = (members[ranked] > 0) & (members[ranked].cumsum(axis=0) <= needed)
        among[ranked[first.any(axis=1)]] = True
    return among


def _solved(problem: Problem, goal: Goal, among: Mask) -> tuple[Values | None, Mask]:
    """The weights that serve the goal best of all stocks, none if `among` has none; and the stocks that it took."""
    while True:
        found = _solve(problem, goal, among)
        if found is None:
            return None, among
        weights, gains = found
        better = np.flatnonzero(~among & (gains > GAIN))
        if not len(better):
            return weights, among
        among = among.copy()
        among[better[np.argsort(-gains[better], kind="stable")][:MORE]] = True


def _solve(problem: Problem, goal: Goal, among: Mask) -> tuple[Values, Values] | None:
    """The weights that serve the goal best with the stocks `among` alone, and what a little of each other would gain.

    Variables are the weights w and, where trades count, the sells s of what is held: s >= 0, s >= held - w. With the
    sum of w the buys are known then, so that trade_cost |w - held| is 2 trade_cost s and a constant. "invested"
    maximises the sum of w and "turnover" minimises that of s.
    """
    stocks, at_held = np.flatnonzero(among), np.flatnonzero(problem.held[among] > 0)
    trades = goal == "turnover" or (goal == "utility" and (problem.trade_cost > 0 or problem.turnover_cap is not None))
    sold = at_held if trades else at_held[:0]
    rows = _Rows(len(stocks), len(sold))
    total = rows.add(rows.of_weights(np.ones((1, len(stocks)))), problem.invested, equal=goal != "invested")
    rows.add(-rows.weights, 0.0)
    rows.add(rows.weights, problem.position_cap)
    rows.add(-rows.sells, 0.0)
    rows.add(-rows.weights[sold] - rows.sells, -problem.held[stocks[sold]])
    if goal == "utility" and problem.turnover_cap is not None:
        into_cash = max(float(problem.held.sum()) - problem.invested, 0.0)
        rows.add(rows.sells.sum(axis=0, keepdims=True), problem.turnover_cap + into_cash)
    exposures = np.zeros((0, len(among)))
    if problem.groups is not None:
        # where the sum of the weights is fixed, taking it as known keeps the rows sparse
        shares, free = problem.groups.shares, goal == "invested"
        exposures = problem.groups.members.T - (shares[:, None] if free else 0.0)
        neutral = 0.0 if free else shares * problem.invested
        band = rows.of_weights(exposures[:, among])
        above, below = rows.add(band, problem.groups.band + neutral), rows.add(-band, problem.groups.band - neutral)
    covariance = problem.covariance[np.ix_(stocks, stocks)]
    if problem.risk_cap is not None:
        risk = rows.add_norm(rows.of_weights(np.linalg.cholesky(covariance).T / problem.risk_cap))

    slope, aversion, cost = _objective(problem, goal)
    found = rows.minimum(np.concatenate([slope[among], np.full(len(sold), cost)]), aversion * covariance)
    if found is None:
        return None
    x, multipliers = found
    weights = np.zeros(len(among))
    weights[stocks] = np.clip(x[: len(stocks)], 0.0, problem.position_cap)
    pull = problem.covariance @ weights
    gradient = slope + aversion * pull + multipliers[total]
    if problem.groups is not None:
        gradient += exposures.T @ (multipliers[above] - multipliers[below])
    if problem.risk_cap is not None and (variance := weights @ pull) > 0:
        gradient += multipliers[risk.start] * pull / (problem.risk_cap * np.sqrt(variance))
    return weights, -gradient


def _objective(problem: Problem, goal: Goal) -> tuple[Values, float, float]:
    """To be minimised: the slope of the weights, the factor of S and the slope of the sells, of a size about 1."""
    n = len(problem.alpha)
    if goal != "utility":
        return np.full(n, -1.0 if goal == "invested" else 0.0), 0.0, 1.0
    spread = float(np.ptp(problem.alpha))
    pull = problem.risk_aversion * float(np.diag(problem.covariance).max()) * problem.invested
    size = max(spread, pull, problem.trade_cost) or 1.0
    # the mean is the same for all weights of one sum
    slope: Values = (problem.alpha.mean() - problem.alpha) / size
    return slope, problem.risk_aversion / size, 2 * problem.trade_cost / size


class _Rows:
    """The constraints A x <= b of weights and sells, row by row."""

    def __init__(self, n_weights: int, n_sells: int) -> None:
        n = n_weights + n_sells
        self.weights: Values = np.eye(n_weights, n)
        self.sells: Values = np.eye(n_sells, n, k=n_weights)
        self._clarabel = load_solver()
        self._left: list[Values] = []
        self._right: list[Values] = []
        self._cones: list[Any] = []
        self._n = 0

    def of_weights(self, left: NDArray[np.floating]) -> Values:
        """Rows of the weights alone."""
        return np.pad(left.astype(np.float64), ((0, 0), (0, len(self.sells))))

    def add(self, left: Values, right: Values | float, equal: bool = False) -> slice:
        """Rows with left x <= right; where they stand among the multipliers."""
        cone = self._clarabel.ZeroConeT if equal else self._clarabel.NonnegativeConeT
        return self._put(left, np.broadcast_to(right, len(left)), cone)

    def add_norm(self, left: Values) -> slice:
        """The rows of |left x| <= 1, the bound first."""
        bounded = np.pad(-left, ((1, 0), (0, 0)))
        return self._put(bounded, np.eye(1, len(bounded))[0], self._clarabel.SecondOrderConeT)

    def _put(self, left: Values, right: Values, cone: Any) -> slice:
        self._left.append(left)
        self._right.append(right)
        if len(left):
            self._cones.append(cone(len(left)))
        self._n += len(left)
        return slice(self._n - len(left), self._n)

    def minimum(self, slope: Values, curvature: Values) -> tuple[Values, Values] | None:
        """x that minimises slope'x + 1/2 w' curvature w, and the multipliers; none if there is none."""
        from scipy import sparse  # with the solver: a command that needs neither does not wait for them

        settings = self._clarabel.DefaultSettings()
        settings.verbose, settings.max_threads, settings.direct_solve_method = False, 1, "qdldl"
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = TOLERANCE
        settings.reduced_tol_gap_abs = settings.reduced_tol_gap_rel = settings.reduced_tol_feas = REDUCED
        upper = np.zeros((len(slope), len(slope)))
        upper[: len(curvature), : len(curvature)] = np.triu(curvature)
        left, right = sparse.csc_matrix(np.concatenate(self._left)), np.concatenate(self._right)
        made = self._clarabel.DefaultSolver(sparse.csc_matrix(upper), slope, left, right, self._cones, settings)
        answer = made.solve()
        if str(answer.status) not in ("Solved", "AlmostSolved"):
            return None
        return np.array(answer.x), np.array(answer.z)
