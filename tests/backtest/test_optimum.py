import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from mimstocr.backtest import optimum as module
from mimstocr.backtest.optimum import Groups, Problem, optimum, turnover_of
from mimstocr.errors import ConfigError, DataError

EXACT = 1e-6
"""To what every constraint is kept."""


def covariance_of(random, n, extra=20):
    common = random.normal(0, 0.012, (n + extra, 1)) * random.uniform(0.3, 1.7, n)
    moves = common + random.normal(0, 0.02, (n + extra, n))
    return (moves.T @ moves / len(moves)).reshape(n, n)


def problem_of(seed, n):
    """Any constraints, of which some contradict each other."""
    random = np.random.default_rng(seed)
    held = random.dirichlet(np.ones(n)) * (random.random(n) < 0.6) * random.choice([0.0, 0.7, 1.0])
    invested = float(random.choice([1.0, 1.0, 0.9, 0.5]))
    members = np.eye(3)[random.integers(0, 3, n)]
    members[random.random(n) < 0.15] = 0  # in none
    members[random.random(n) < 0.15] = 1  # in all
    return Problem(
        alpha=random.normal(0, 0.002, n) * random.choice([0, 1, 3]),
        covariance=covariance_of(random, n),
        held=held / max(held.sum(), 1.0),
        invested=invested,
        position_cap=max(float(random.choice([0.3, 0.5, 1.0])), 1.1 * invested / n),
        risk_aversion=float(random.choice([0.0, 5.0, 50.0])),
        trade_cost=float(random.choice([0.0, 0.0005, 0.02])),
        risk_cap=float(random.uniform(0.01, 0.03)) if random.random() < 0.5 else None,
        groups=Groups(members, members.mean(axis=0), float(random.uniform(0.001, 0.1)))
        if random.random() < 0.5
        else None,
        turnover_cap=float(random.choice([0.05, 0.3])) if random.random() < 0.5 else None,
    )


def utility(problem, weights):
    variance = weights @ problem.covariance @ weights
    cost = problem.trade_cost * np.abs(weights - problem.held).sum()
    return float(problem.alpha @ weights - problem.risk_aversion / 2 * variance - cost)


def violations(problem, weights):
    """By how much each constraint is broken."""
    broken = {
        "short": -weights.min(),
        "position_cap": weights.max() - problem.position_cap,
        "invested": abs(weights.sum() - problem.invested),
    }
    if problem.risk_cap is not None:
        broken["risk_cap"] = np.sqrt(weights @ problem.covariance @ weights) - problem.risk_cap
    if problem.groups is not None:
        members, shares, band = problem.groups
        broken["groups"] = max(
            abs(members[:, g] @ weights - shares[g] * weights.sum()) - band for g in range(len(shares))
        )
    if problem.turnover_cap is not None:
        broken["turnover_cap"] = turnover_of(weights, problem.held) - problem.turnover_cap
    return broken


def assert_kept(problem, found):
    for name, by in violations(problem, found.weights).items():
        assert by < EXACT or name in found.gave_way, name


def searched(problem, start):
    """The best weights by a general method, over buys and sells, so that all is smooth."""
    n, scale = len(problem.alpha), 1000.0

    def weights(x):
        return problem.held + x[:n] - x[n:]

    def variance(x):
        return weights(x) @ problem.covariance @ weights(x)

    def loss(x):
        kept = problem.alpha @ weights(x) - problem.risk_aversion / 2 * variance(x)
        return -scale * (kept - problem.trade_cost * x.sum())

    rules = [
        {"type": "eq", "fun": lambda x: weights(x).sum() - problem.invested},
        {"type": "ineq", "fun": weights},
        {"type": "ineq", "fun": lambda x: problem.position_cap - weights(x)},
    ]
    if problem.risk_cap is not None:
        rules.append({"type": "ineq", "fun": lambda x: scale * (problem.risk_cap**2 - variance(x))})
    if problem.groups is not None:
        members, shares, band = problem.groups

        def inside(x, sign):
            return band - sign * (members.T @ weights(x) - shares * problem.invested)

        rules += [{"type": "ineq", "fun": inside, "args": (sign,)} for sign in (1, -1)]
    if problem.turnover_cap is not None:
        less = slice(n, None) if problem.invested >= problem.held.sum() else slice(0, n)
        rules.append({"type": "ineq", "fun": lambda x: problem.turnover_cap - x[less].sum()})
    first = np.concatenate([np.maximum(start - problem.held, 0), np.maximum(problem.held - start, 0)])
    options = {"maxiter": 500, "ftol": 1e-12}
    return weights(minimize(loss, first, method="SLSQP", bounds=[(0, 1)] * 2 * n, constraints=rules, options=options).x)


@pytest.mark.parametrize("n", [4, 5, 6])
@pytest.mark.parametrize("seed", range(20))
def test_nothing_that_a_general_method_finds_is_better(seed, n):
    problem = problem_of(seed, n)
    found = optimum(problem)
    assert_kept(problem, found)
    if found.gave_way:
        return
    random = np.random.default_rng(seed)
    found_any = False
    for start in (np.full(n, problem.invested / n), found.weights, random.dirichlet(np.ones(n)) * problem.invested):
        other = searched(problem, start)
        if max(violations(problem, other).values()) < 1e-8:
            found_any = True
            assert utility(problem, other) <= utility(problem, found.weights) + 1e-9
            if np.array_equal(start, found.weights) and problem.risk_aversion > 0:
                assert_allclose(other, found.weights, atol=1e-4)
    assert found_any


def test_such_problems_have_every_outcome():
    """So that the test above tests something."""
    problems = [problem_of(seed, n) for seed in range(20) for n in (4, 5, 6)]
    outcomes = [optimum(problem).gave_way for problem in problems]
    assert sum(not gave_way for gave_way in outcomes) > 30
    assert {name for gave_way in outcomes for name in gave_way} == {"invested", "turnover_cap"}


# ---- closed forms ----------------------------------------------------------------------------------------------------


def inner(n=5, seed=0):
    """A problem whose only constraint that binds is the sum."""
    random = np.random.default_rng(seed)
    covariance = np.diag(random.uniform(2e-4, 6e-4, n)) + 5e-5
    return Problem(random.normal(0, 2e-4, n), covariance, np.zeros(n), risk_aversion=20.0)


@pytest.mark.parametrize("invested", [1.0, 0.6])
def test_equal_alphas_give_the_least_variance(invested):
    problem = inner()._replace(alpha=np.full(5, 0.7), invested=invested)
    inverse = np.linalg.solve(problem.covariance, np.ones(5))
    assert_allclose(optimum(problem).weights, invested * inverse / inverse.sum(), atol=1e-8)


def test_alphas_tilt_by_the_inverse_of_the_covariance():
    """alpha - risk_aversion S w = nu for all stocks, with nu from the sum."""
    problem = inner()
    inverse = np.linalg.inv(problem.covariance) / problem.risk_aversion
    nu = ((inverse @ problem.alpha).sum() - 1) / inverse.sum()
    expected = inverse @ (problem.alpha - nu)
    assert (expected > 0.01).all()
    assert_allclose(optimum(problem).weights, expected, atol=1e-8)


def test_without_risk_the_best_stocks_are_held_at_their_cap():
    alpha = np.array([0.1, 0.4, 0.3, 0.2]) / 100
    found = optimum(Problem(alpha, np.eye(4) * 1e-4, np.zeros(4), position_cap=0.4, risk_aversion=0.0))
    assert_allclose(found.weights, [0, 0.4, 0.4, 0.2], atol=1e-8)


def test_a_trade_must_be_worth_its_cost():
    """Two stocks of equal risk, uncorrelated, half in each: moving x gains 2 x d - cost 2 x - 2 aversion v x^2."""
    v, aversion, d = 4e-4, 10.0, 0.0005
    problem = Problem(np.array([d, -d]), np.eye(2) * v, np.array([0.5, 0.5]), risk_aversion=aversion)
    for cost in (0.0, 0.0002, 0.0006):
        x = max(d - cost, 0) / (aversion * v)
        assert_allclose(optimum(problem._replace(trade_cost=cost)).weights, [0.5 + x, 0.5 - x], atol=1e-7)


def test_the_least_can_be_all():
    """20 stocks of at most 5 % leave one choice."""
    problem = problem_of(0, 20)._replace(invested=1.0, position_cap=0.05, risk_cap=None, groups=None, turnover_cap=None)
    assert_allclose(optimum(problem).weights, np.full(20, 0.05), atol=1e-9)


def test_a_single_stock():
    assert_allclose(optimum(Problem(np.zeros(1), np.eye(1) * 1e-4, np.ones(1))).weights, [1], atol=1e-9)


# ---- every constraint binds ------------------------------------------------------------------------------------------


def wide(seed=0, n=120):
    random = np.random.default_rng(seed)
    members = np.eye(4)[random.integers(0, 4, n)]
    alpha = random.normal(0, 0.001, n) + 0.001 * members[:, 0]
    held = np.zeros(n)
    held[random.permutation(n)[:30]] = 1 / 30
    problem = Problem(alpha, covariance_of(random, n, extra=100), held, risk_aversion=10.0, trade_cost=0.0002)
    return problem, Groups(members, members.mean(axis=0), 0.02)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["position_cap", "risk_cap", "groups", "turnover_cap"])
def test_a_constraint_that_is_broken_without_it_binds_with_it(name, seed):
    problem, groups = wide(seed)
    free = optimum(problem).weights
    limit = {"position_cap": 0.04, "risk_cap": 0.0075, "groups": groups, "turnover_cap": 0.1}[name]
    bound = problem._replace(**{name: limit})
    found = optimum(bound)
    assert found.gave_way == ()
    assert violations(bound, free)[name] > 1e-4
    assert abs(violations(bound, found.weights)[name]) < EXACT
    assert_kept(bound, found)
    assert utility(problem, found.weights) < utility(problem, free)


def test_all_constraints_together():
    problem, groups = wide()
    bound = problem._replace(position_cap=0.04, risk_cap=0.0078, groups=groups, turnover_cap=0.6)
    found = optimum(bound)
    assert found.gave_way == ()
    assert_kept(bound, found)
    assert (found.weights > 1e-6).sum() < 60  # sparse, which is why few stocks at a time suffice


@pytest.mark.parametrize("aversion", [0.0, 10.0, 1e5])
@pytest.mark.parametrize("seed", range(2))
def test_few_stocks_at_a_time_find_what_all_at_once_do(seed, aversion, monkeypatch):
    problem, groups = wide(seed, n=80)
    problem = problem._replace(risk_aversion=aversion, position_cap=0.05)
    solve = module._solve
    bounds = [
        {},
        {"groups": groups},
        {"risk_cap": 0.0068, "turnover_cap": 0.2},
        {"risk_cap": 0.004},
        {"risk_cap": 0.0085, "turnover_cap": 0.01, "position_cap": 0.2},
        {"groups": groups, "risk_cap": 0.0068, "turnover_cap": 0.01},
    ]
    for bound in bounds:
        solved = []
        monkeypatch.setattr(module, "START", 80)
        expected = optimum(problem._replace(**bound))
        monkeypatch.setattr(module, "START", 5)
        monkeypatch.setattr(module, "MORE", 7)
        monkeypatch.setattr(module, "_solve", lambda *a, kept=solved: kept.append(int(a[2].sum())) or solve(*a))
        found = optimum(problem._replace(**bound))
        monkeypatch.undo()
        assert max(solved) < 80
        assert found.gave_way == expected.gave_way
        assert_allclose(found.weights, expected.weights, atol=1e-6)


# ---- turnover and cash -----------------------------------------------------------------------------------------------


def test_no_turnover_keeps_what_is_held():
    problem, _ = wide()
    found = optimum(problem._replace(turnover_cap=0.0))
    assert found.gave_way == ()
    assert_allclose(found.weights, problem.held, atol=1e-8)


@pytest.mark.parametrize(("invested", "held"), [(1.0, 0.4), (0.3, 0.4)])
def test_money_between_cash_and_stocks_is_no_turnover(invested, held):
    """Of 0.4 held nothing is sold to buy for 0.6; nothing is bought where 0.1 is sold."""
    problem = Problem(
        np.array([3.0, 2.0, 1.0]) / 1000, np.eye(3) * 1e-4, np.array([0, 0, held]), invested, turnover_cap=0.0
    )
    found = optimum(problem).weights
    assert found.sum() == pytest.approx(invested, abs=1e-8)
    if invested > held:
        assert found[2] > held - 1e-8
    else:
        assert_allclose(found, [0, 0, invested], atol=1e-8)


def test_the_lesser_of_buys_and_sells():
    assert turnover_of(np.array([0.5, 0.1, 0.3]), np.array([0.1, 0.2, 0.3])) == pytest.approx(0.1)
    assert turnover_of(np.array([0.2, 0.1, 0.3]), np.array([0.1, 0.5, 0.3])) == pytest.approx(0.1)


# ---- what gives way --------------------------------------------------------------------------------------------------


def test_a_turnover_cap_gives_way_to_a_position_cap_by_the_least():
    """0.4 + 0.35 held of at most 0.3 each: 0.15 must go, and no more goes, though the third is the worst to buy."""
    problem = Problem(
        np.array([5.0, 1.0, -9.0, 0.0]) / 1000,
        np.eye(4) * 1e-4,
        np.array([0.4, 0.35, 0.25, 0.0]),
        position_cap=0.3,
        turnover_cap=0.1,
    )
    found = optimum(problem)
    assert found.gave_way == ("turnover_cap",)
    assert_allclose(found.weights, [0.3, 0.3, 0.25, 0.15], atol=2 * module.SPARE)
    assert turnover_of(found.weights, problem.held) == pytest.approx(0.15, abs=2 * module.SPARE)


def test_less_is_invested_where_the_risk_is_too_high():
    """n uncorrelated stocks of variance v: s in equal parts has the variance s^2 v / n, and no s less."""
    n, v = 9, 4e-4
    problem = Problem(np.linspace(-1, 1, n) / 100, np.eye(n) * v, np.zeros(n), risk_cap=0.005, turnover_cap=0.01)
    found = optimum(problem)
    assert found.gave_way == ("invested",)
    assert_allclose(found.weights, np.full(n, 0.005 * np.sqrt(n / v) / n), atol=1e-7)
    assert_kept(problem, found)


@pytest.mark.parametrize(("factor", "gave_way"), [(1 + 1e-4, ()), (1 - 1e-4, ("invested",))])
def test_the_step_from_all_to_less_is_small(factor, gave_way):
    problem = inner()
    inverse = np.linalg.solve(problem.covariance, np.ones(5))
    found = optimum(problem._replace(risk_cap=factor / np.sqrt(inverse.sum())))
    assert found.gave_way == gave_way
    assert_allclose(found.weights, inverse / inverse.sum(), atol=2e-2)


def test_going_to_cash_may_need_a_turnover_too():
    """All is in one stock; the largest part that can be invested is in two equal ones."""
    problem = Problem(np.zeros(2), np.eye(2) * 1e-4, np.array([1.0, 0.0]), risk_cap=0.005, turnover_cap=0.01)
    found = optimum(problem)
    assert found.gave_way == ("invested", "turnover_cap")
    assert_allclose(found.weights, np.full(2, 0.5 * np.sqrt(0.5)), atol=1e-7)


def test_a_neutral_part_stays_neutral_where_less_is_invested():
    problem, groups = wide()
    bound = problem._replace(groups=groups._replace(band=0.001), risk_cap=0.003)
    found = optimum(bound)
    assert found.gave_way == ("invested",)
    assert_kept(bound, found)
    assert 0.1 < found.weights.sum() < 0.9


def test_a_portfolio_is_found_whatever_the_constraints():
    """Many stocks in narrow bands with risk and turnover capped below what can be."""
    for seed in range(40):
        problem = problem_of(seed, 30)._replace(position_cap=0.06, turnover_cap=0.02)
        groups = problem.groups and problem.groups._replace(band=1e-6)
        assert_kept(problem, optimum(problem._replace(groups=groups)))


# ---- the solver ------------------------------------------------------------------------------------------------------


def test_without_the_solver(monkeypatch):
    monkeypatch.setitem(sys.modules, "clarabel", None)
    with pytest.raises(ConfigError, match=r"need the package clarabel.*pip install 'mimstocr\[portfolio\]'"):
        module.load_solver()


def test_a_solver_that_finds_nothing(monkeypatch):
    monkeypatch.setattr(module._Rows, "minimum", lambda *_: None)
    with pytest.raises(DataError, match="the solver found none"):
        optimum(inner())


def test_a_solver_that_cannot_tell_the_best(monkeypatch):
    """What keeps the constraints is taken, and said."""
    problem = wide()[0]._replace(turnover_cap=0.1)
    solve = module._solve
    monkeypatch.setattr(module, "_solve", lambda p, goal, among: None if goal == "utility" else solve(p, goal, among))
    found = optimum(problem)
    assert found.gave_way == ("utility",)
    assert_kept(problem, found)
