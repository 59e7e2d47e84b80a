"""The engine under all rules of a market, against a slow account in plain Python and by identities."""

import math
import statistics
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mimstocr.backtest.engine import simulate
from mimstocr.backtest.market import Fee, terms_of
from mimstocr.backtest.markets.cn_a_share import CnAShare
from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.orders import REASONS
from mimstocr.backtest.strategy import Decision, following
from mimstocr.errors import DataError

NAN = math.nan
SYMBOLS = ("SH600000", "SZ000001", "SZ300001", "SH688001", "SH601000", "SZ000002")
ST = "SZ000001"
ENDS = "SH601000"  # delisted on day 8
STARTS = "SH688001"  # listed on day 5, and without limits for five days
DAYS = np.busday_offset("2020-08-10", np.arange(31)).astype("datetime64[D]")
ST_SPAN = (DAYS[4], DAYS[20])
SHARES = {"SZ300001": [Fraction(1, 10), Fraction(1, 5)], "SH688001": [Fraction(1, 5)] * 2}


def half_up(price):
    """A Fraction rounded to cents."""
    return Fraction(math.floor(price * 100 + Fraction(1, 2)), 100)


def limit_share(symbol, day):
    if symbol == ST and ST_SPAN[0] <= day <= ST_SPAN[1]:
        return Fraction(1, 20)
    return SHARES.get(symbol, [Fraction(1, 10)] * 2)[int(day >= np.datetime64("2020-08-24"))]


class World(NamedTuple):
    """(days, stocks): arrays for `terms_of`, and the same prices as exact fractions."""

    close: np.ndarray
    open: np.ndarray
    tradable: np.ndarray
    factor: np.ndarray
    volume: np.ndarray
    upper: np.ndarray
    """Exact limits of the real price; none without a close before."""
    lower: np.ndarray
    real_open: np.ndarray
    real_close: np.ndarray
    ratio: np.ndarray


def world(seed):
    """Real prices on ticks that are often at a limit, splits, gaps, a listing and a delisting."""
    random = np.random.default_rng(seed)
    shape = (len(DAYS), len(SYMBOLS))
    close, opened, factor, volume = (np.full(shape, NAN) for _ in range(4))
    tradable = np.zeros(shape, dtype=bool)
    upper, lower, real_open, real_close, ratio = (np.full(shape, None, dtype=object) for _ in range(5))
    for i, symbol in enumerate(SYMBOLS):
        scale, last = Fraction(int(random.integers(1, 5)), 2), None
        for day, date in enumerate(DAYS):
            if (symbol == STARTS and day < 5) or (symbol == ENDS and day > 8):
                continue
            if last is None:
                price = start = Fraction(int(random.integers(300, 3000)), 100)
            else:
                if random.random() < 0.08:
                    scale *= random.choice([Fraction(3, 2), Fraction(11, 10), Fraction(2)])
                reference = half_up(last / scale)
                share = limit_share(symbol, date)
                high, low = half_up(reference * (1 + share)), half_up(reference * (1 - share))
                if symbol != STARTS or day >= 10:
                    upper[day, i], lower[day, i] = high, low
                inside = (half_up(reference * Fraction(int(random.integers(960, 1040)), 1000)) for _ in range(2))
                price, start = (random.choice([high, low, between], p=[0.1, 0.1, 0.8]) for between in inside)
                if random.random() < 0.12 and not (symbol == ENDS and day == 8):  # suspended
                    if random.random() < 0.5:  # it comes as a repeated price
                        close[day, i], factor[day, i], volume[day, i] = float(last), float(scale), 0.0
                        ratio[day, i], real_close[day, i] = scale, last / scale
                    continue
            last = price * scale
            tradable[day, i] = True
            close[day, i], factor[day, i] = float(last), float(scale)
            real_close[day, i], ratio[day, i] = price, scale
            volume[day, i] = float(random.integers(100, 20_000))
            if random.random() < 0.9:
                real_open[day, i], opened[day, i] = start, float(start * scale)
    return World(close, opened, tradable, factor, volume, upper, lower, real_open, real_close, ratio)


def st_file(folder):
    path = folder / "st.txt"
    path.write_text(f"{ST}\t{ST_SPAN[0]}\t{ST_SPAN[1]}\n")
    return path


def some_market(seed, st):
    """A market with rules drawn by chance; every rule is off in some and on in others."""
    random = np.random.default_rng(1000 + seed)

    def either(*choices):
        return choices[int(random.integers(len(choices)))]

    short = either(False, False, True)
    fees = {
        "stamp": (Fee(since="2020-08-12", buy=0.002, sell=0.004), Fee(since="2020-08-27", sell=0.01)),
        "levy": (Fee(since="2020-09-01", buy=0.001, sell=0.0005),),
    }
    return CnAShare(
        price=either("close", "open"),
        commission=either(0.0, 0.0003, 0.003),
        min_commission=either(0.0, 0.0, 5.0),
        fees=either({}, fees),
        slippage=either(0.0, 0.001),
        impact=either(0.0, 0.0, 1.0),
        participation=either(None, 0.1, 0.5),
        lot=None if short else either(None, 100.0, 100.0),
        suspensions=either(True, True, False),
        price_limits=either(False, True, True),
        short=short,
        leverage=either(1.0, 1.0, 1.5),
        borrow=0.5 if short else 0.0,
        financing=0.3,
        delisting_loss=0.0 if short else either(0.0, 0.4),
        st=either(None, st, st),
    )


def some_plan(seed, market):
    """Decisions by chance, a mapping of day to `Decision`: all kinds of weights, and days without one."""
    random = np.random.default_rng(2000 + seed)
    plan = {}
    for day in range(len(DAYS)):
        kind = random.random()
        if day > 1 and kind < 0.2:
            continue
        if kind < 0.35 and not market.short:
            weights = random.choice([NAN, 0.0, 0.3], size=len(SYMBOLS), p=[0.4, 0.3, 0.3])
            weights[weights > 0] = 0.95 / max((weights > 0).sum(), 1)
            plan[day] = Decision(weights, of_cash=True)
            continue
        weights = random.dirichlet(np.ones(len(SYMBOLS))) * (random.random(len(SYMBOLS)) < 0.6)
        weights *= market.leverage * random.choice([1.0, 0.999, 0.6]) / max(weights.sum(), 1e-9)
        if market.short:
            weights *= random.choice([1.0, -0.5], size=len(weights))
        elif random.random() < 0.3:
            weights[random.random(len(weights)) < 0.3] = NAN
        plan[day] = Decision(weights)
    return plan


class Slow:
    """One account, from what the docstrings say, stock by stock and day by day."""

    def __init__(self, world, market, plan, *, delay, every, capital, days_per_year, afters):
        self.world, self.market, self.plan = world, market, plan
        self.delay, self.every, self.capital = delay, every, capital
        self.days_per_year, self.afters = days_per_year, afters
        self.held, self.money = {}, capital
        self.kinds = ["commission", *market.fees, "slippage", "impact", "financing", "delisting"]
        self.rows, self.orders = [], []

    # prices ----------------------------------------------------------------------------------------------------

    def last(self, values, i, day):
        """The last known value of a stock on or before a day."""
        for u in range(day, -1, -1):
            if not math.isnan(values[u, i]):
                return values[u, i]
        return NAN

    def mark(self, i, day):
        return self.last(self.world.close, i, day)

    def fill_price(self, i, day):
        """The price of a fill, NaN where there is none."""
        prices = self.world.close if self.market.price == "close" else self.world.open
        price = prices[day, i] if self.world.tradable[day, i] else NAN
        return self.worth(i, day) if math.isnan(price) and not self.market.suspensions else price

    def worth(self, i, day):
        prices = self.world.close if self.market.price == "close" else self.world.open
        if self.world.tradable[day, i] and not math.isnan(prices[day, i]):
            return prices[day, i]
        if self.market.price == "close":
            return self.mark(i, day)
        return self.mark(i, day - 1) if day else NAN

    # rules -----------------------------------------------------------------------------------------------------

    def blocked(self, i, day, side):
        """Why an order cannot be filled, none when it can."""
        market = self.market
        if math.isnan(self.worth(i, day)) or self.ended(i, day):
            return "no price"
        if market.suspensions:
            if not self.world.tradable[day, i]:
                return "suspended"
            if math.isnan(self.fill_price(i, day)):
                return "no price"
        elif math.isnan(self.world.close[day, i]):
            return "no price"
        if market.impact and self.impact(i, day) is None:
            return "no traded money known"
        if market.price_limits and self.world.tradable[day, i]:
            real = (self.world.real_close if market.price == "close" else self.world.real_open)[day, i]
            upper, lower = self.limits(i, day)
            if real is not None and upper is not None:
                if side == "buy" and real >= upper:
                    return "at the upper limit"
                if side == "sell" and real <= lower:
                    return "at the lower limit"
        return None

    def ended(self, i, day):
        """Whether the stock had its last price 20 or more days before; what is held of it is settled on the first."""
        known = [u for u in range(len(DAYS)) if not math.isnan(self.world.close[u, i])]
        return day >= known[-1] + 20

    def limits(self, i, day):
        upper, lower = self.world.upper[day, i], self.world.lower[day, i]
        if upper is None or self.market.st is not None or SYMBOLS[i] != ST:
            return upper, lower
        # without a file of spans the stock has 10 %
        before = [u for u in range(day) if self.world.real_close[u, i] is not None][-1]
        reference = half_up(self.world.real_close[before, i] * self.world.ratio[before, i] / self.world.ratio[day, i])
        return half_up(reference * Fraction(11, 10)), half_up(reference * Fraction(9, 10))

    def impact(self, i, day):
        """Y x volatility / sqrt(money traded) of the 20 days before, none where not known."""
        past = range(max(day - 20, 0), day)
        close, volume = self.world.close, self.world.volume
        moves = [close[u, i] / close[u - 1, i] - 1 for u in past if u and not math.isnan(close[u, i] / close[u - 1, i])]
        money = [close[u, i] * volume[u, i] for u in past if not math.isnan(close[u, i] * volume[u, i])]
        if len(moves) < 2 or not money or sum(money) == 0:
            return None
        return self.market.impact * statistics.stdev(moves) / math.sqrt(statistics.fmean(money))

    def lots(self, i, day):
        """Step and least order in adjusted shares; zero for fractional ones."""
        if self.market.lot is None:
            return 0.0, 0.0
        factor = self.last(self.world.factor, i, day)
        if SYMBOLS[i].startswith("SH688"):
            return 1 / factor, 2 * self.market.lot / factor
        return self.market.lot / factor, self.market.lot / factor

    def cap(self, i, day):
        """The most adjusted shares that one order may be."""
        if self.market.participation is None:
            return math.inf
        volume = self.world.volume[day, i]
        return 0.0 if math.isnan(volume) else self.market.participation * volume

    def cost(self, value, side, i, day):
        """Kind to money."""
        market = self.market
        if value <= 0:
            return dict.fromkeys(self.kinds, 0.0)
        paid = dict.fromkeys(self.kinds, 0.0)
        paid["commission"] = max(market.commission * value, market.min_commission)
        for name, steps in market.fees.items():
            rate = 0.0
            for fee in steps:
                if DAYS[day] >= np.datetime64(fee.since):
                    rate = fee.buy if side == "buy" else fee.sell
            paid[name] = rate * value
        paid["slippage"] = market.slippage * value
        if market.impact:
            paid["impact"] = value * min(self.impact(i, day) * math.sqrt(value), 0.5)
        return paid

    def total(self, value, side, i, day):
        return sum(self.cost(value, side, i, day).values())

    # a day -----------------------------------------------------------------------------------------------------

    def run(self):
        first = None
        for day in range(len(DAYS)):
            spent = dict.fromkeys(self.kinds, 0.0)
            self.night(day, spent)
            self.settle(day, spent)
            decision = self.plan.get(day - self.delay)
            turnover = 0.0
            if decision is not None and (first is None or (day - first) % self.every == 0):
                first = day if first is None else first
                turnover = self.trade(day, decision, spent)
            value = self.money + sum(n * self.mark(i, day) for i, n in self.held.items())
            shares = [self.held.get(i, 0.0) for i in range(len(SYMBOLS))]
            stale = sum(not self.world.tradable[day, i] for i in self.held)
            self.rows.append((value, self.money, turnover, shares, [spent[kind] for kind in self.kinds], stale))
        return self

    def night(self, day, spent):
        short = sum(-n * self.mark(i, day - 1) for i, n in self.held.items() if n < 0)
        spent["financing"] = (
            short * self.market.borrow + max(-self.money, 0.0) * self.market.financing
        ) / self.days_per_year
        self.money -= spent["financing"]

    def settle(self, day, spent):
        for i in sorted(self.held):
            if self.ended(i, day):
                shares, price = self.held.pop(i), self.mark(i, day)
                loss = shares * price * self.market.delisting_loss
                self.money += shares * price - loss
                spent["delisting"] += loss
                self.orders.append((day, i, -shares * price, -shares, "settled after delisting", {"delisting": loss}))

    def trade(self, day, decision, spent):
        worth = {i: self.worth(i, day) for i in range(len(SYMBOLS))}
        worth = {i: 0.0 if math.isnan(price) else price for i, price in worth.items()}
        held = {i: self.held.get(i, 0.0) * worth[i] for i in worth}
        targets = {i: w for i, w in enumerate(decision.weights) if not math.isnan(w)}
        equity = self.money + sum(held.values())
        self.floor = -(self.market.leverage - 1) * equity
        self.block = {(i, side): self.blocked(i, day, side) for i in targets for side in ("buy", "sell")}
        if decision.of_cash:
            gaps = {i: -held[i] for i, w in targets.items() if w == 0}
        else:
            after = self.after(day, targets, held, worth, equity)
            gaps = {i: w * after - held[i] for i, w in targets.items()}
        traded, tiny = 0.0, 1e-12 * equity
        for i, gap in gaps.items():
            if gap < 0 and (gap < -tiny or targets[i] == 0):
                traded += self.sell(i, day, gap, worth[i], targets[i] == 0, spent)
        if decision.of_cash:
            gaps = {i: w * self.money for i, w in targets.items() if w > 0}
        traded += self.buy(day, {i: gap for i, gap in gaps.items() if gap > tiny}, worth, equity, spent)
        return traded / equity / 2

    def rounded(self, i, day, shares):
        step, least = self.lots(i, day)
        if step == 0:
            return shares
        lots = math.floor(shares / step + self.market.lot_slack)
        return lots * step if lots and lots * step >= least * (1 - self.market.lot_slack) else 0.0

    def possible(self, i, day, asked, whole):
        """What the market lets of an order in shares, and what is told of it."""
        shares = min(asked, self.cap(i, day))
        why = "filled" if shares == asked else "cut to the share of the volume"
        if whole and shares == asked:
            return shares, why
        before, shares = shares, self.rounded(i, day, shares)
        if shares == 0 and self.lots(i, day)[0]:
            small = self.cap(i, day) < min(asked, self.lots(i, day)[1])
            return 0.0, "cut to the share of the volume" if small else "less than a lot"
        if why == "filled" and shares < before - self.market.lot_slack * self.lots(i, day)[0]:
            why = "rounded down to whole lots"
        return shares, why

    def worthwhile(self, value, side, i, day):
        return self.total(value, side, i, day) <= value

    def sell(self, i, day, gap, price, whole, spent):
        if self.block[i, "sell"]:
            self.orders.append((day, i, gap, 0.0, self.block[i, "sell"], {}))
            return 0.0
        shares, why = self.possible(i, day, self.held[i] if whole else -gap / price, whole)
        if shares and not self.worthwhile(shares * price, "sell", i, day):
            shares, why = 0.0, "worth less than its costs"
        paid = self.cost(shares * price, "sell", i, day)
        self.done(i, day, gap, -shares, price, why, paid, spent)
        return shares * price

    def buy(self, day, gaps, worth, equity, spent):
        told, likes = {}, {}
        for i, gap in gaps.items():
            told[i] = self.block[i, "buy"]
            if told[i] is None:
                shares, told[i] = self.possible(i, day, gap / worth[i], False)
                if shares and not self.worthwhile(shares * worth[i], "buy", i, day):
                    shares, told[i] = 0.0, "worth less than its costs"
                if shares:  # what cannot be bought in any case takes no cash from the rest
                    likes[i] = min(gap, self.cap(i, day) * worth[i])
        means = self.money - self.floor
        part = self.part(day, likes, means if means > 1e-12 * equity else 0.0)
        traded = 0.0
        for i, gap in gaps.items():
            shares = 0.0
            if i in likes:
                shares = self.rounded(i, day, part * likes[i] / worth[i])
                if part == 0:
                    told[i] = "no cash"
                elif part < 1 - 1e-9:
                    told[i] = "cut to the cash there was" if shares else "less than a lot"
            self.done(i, day, gap, shares, worth[i], told[i], self.cost(shares * worth[i], "buy", i, day), spent)
            traded += shares * worth[i]
        return traded

    def done(self, i, day, gap, shares, price, why, paid, spent):
        self.orders.append((day, i, gap, shares, why, paid))
        for kind, money in paid.items():
            spent[kind] += money
        self.money -= shares * price + sum(paid.values())
        self.held[i] = self.held.get(i, 0.0) + shares
        if abs(self.held[i]) < 1e-12 * abs(shares) or self.held[i] == 0:
            del self.held[i]

    def part(self, day, likes, means):
        """The share of the buys that the money can pay with their costs, by bisection."""

        def needs(part):
            return sum(part * like + self.total(part * like, "buy", i, day) for i, like in likes.items())

        full = needs(1.0)
        if full <= means:
            return 1.0
        if means <= 0:
            return 0.0
        if self.market.min_commission == 0 and self.market.impact == 0:
            return means / full
        return bisect(lambda part: needs(part) <= means, 1.0)

    def costs_at(self, after, day, targets, held, worth):
        """What trading towards the targets of `after` would cost."""
        money, spent, likes = self.money, 0.0, {}
        for i, w in targets.items():
            gap = w * after - held[i]
            if gap < 0 and not self.block[i, "sell"]:
                value = min(-gap, self.cap(i, day) * worth[i])
                paid = self.total(value, "sell", i, day)
                if paid <= value:
                    money, spent = money + value - paid, spent + paid
            elif gap > 0 and not self.block[i, "buy"]:
                likes[i] = min(gap, self.cap(i, day) * worth[i])
                if not self.worthwhile(likes[i], "buy", i, day):
                    del likes[i]
        part = self.part(day, likes, money - self.floor)
        return spent + sum(self.total(part * like, "buy", i, day) for i, like in likes.items())

    def after(self, day, targets, held, worth, equity):
        """The equity after costs: what it pays is what is missing from the equity.

        A least commission makes the costs jump, so that there can be several such equities, or none: then the one that
        was found by the engine is taken if it is one, or if it lies where the costs jump across it.
        """

        def excess(after):
            return after + self.costs_at(after, day, targets, held, worth) - equity

        if self.market.min_commission == 0:
            return bisect(lambda after: excess(after) < 0, equity)
        found = self.afters.get(day)
        if found is None:
            return equity  # no order towards a weight
        jumps = excess(found * (1 - 1e-9)) <= 0 <= excess(found * (1 + 1e-9))
        assert abs(excess(found)) <= 1e-9 * equity or jumps, (day, found, excess(found))
        return found


def bisect(below, high):
    low = 0.0
    for _ in range(50):
        middle = (low + high) / 2
        if below(middle):
            low = middle
        else:
            high = middle
    return low


def terms_for(world, market, **changes):
    return terms_of(
        market,
        close=world.close,
        tradable=world.tradable,
        fill=None if market.price == "close" else world.open,
        factor=world.factor,
        money=world.close * world.volume,
        days=DAYS,
        symbols=SYMBOLS,
        days_per_year=250,
        **changes,
    )


def settings_of(seed):
    return {"delay": seed % 3, "every": (1, 1, 4)[seed // 3 % 3], "capital": (2e3, 1e5, 5e6)[seed // 9 % 3]}


def simulated(seed, st):
    """A world, its market and plan, and what the engine makes of them."""
    market = some_market(seed, st)
    plan, settings = some_plan(seed, market), settings_of(seed)
    terms = terms_for(world(seed), market)
    return market, plan, terms, simulate(terms, lambda moment: plan.get(moment.day), **settings)


def afters_of(run, plan, delay):
    """Day to the equity after costs by which the engine made its orders, from its largest weight."""
    found = {}
    log = run.orders
    for day in range(len(DAYS)):
        decision = plan.get(day - delay)
        rows = np.flatnonzero((log.day == day) & (log.reason != REASONS.index("settled after delisting")))
        if decision is None or decision.of_cash or not len(rows):
            continue
        row = max(rows, key=lambda row: abs(decision.weights[log.stock[row]]))
        weight, stock = decision.weights[log.stock[row]], log.stock[row]
        if weight != 0:
            before = run.shares[day, stock] - log.filled[row]
            found[day] = (log.wanted[row] + before * log.price[row]) / weight
    return found


SEEDS = range(45)


@pytest.fixture(scope="module")
def st(tmp_path_factory):
    return st_file(tmp_path_factory.mktemp("st"))


@pytest.mark.parametrize("seed", SEEDS)
def test_equals_the_slow_account(seed, st):
    market, plan, terms, run = simulated(seed, st)
    settings = settings_of(seed)
    slow = Slow(
        world(seed), market, plan, **settings, days_per_year=250, afters=afters_of(run, plan, settings["delay"])
    ).run()
    value, cash, turnover, shares, kinds, stale = (np.array(column) for column in zip(*slow.rows, strict=True))
    assert terms.kinds == tuple(slow.kinds)
    log = run.orders
    expected = sorted(slow.orders, key=lambda order: (order[0], order[4] != "settled after delisting", order[1]))
    assert [(d, s) for d, s in zip(log.day, log.stock, strict=True)] == [order[:2] for order in expected]
    assert [REASONS[code] for code in log.reason] == [order[4] for order in expected]
    money = {"rtol": 1e-9, "atol": 1e-9 * settings["capital"]}
    assert_allclose(log.wanted, [order[2] for order in expected], **money)
    assert_allclose(log.filled, [order[3] for order in expected], rtol=1e-9, atol=1e-7)
    costs = [[order[5].get(kind, 0.0) for kind in slow.kinds] for order in expected]
    assert_allclose(log.costs, np.reshape(costs, log.costs.shape), **money)
    assert_allclose(run.shares, shares, rtol=1e-9, atol=1e-7)
    assert_allclose(run.value, value, **money)
    assert_allclose(run.cash, cash, **money)
    assert_allclose(run.cost_kinds, kinds, **money)
    assert_allclose(run.turnover, turnover, rtol=1e-9, atol=1e-9)
    assert_array_equal(run.stale_marks, stale)


def test_the_worlds_reach_every_case(st):
    """Every outcome, every kind of cost, money borrowed, stocks sold short, buys cut by a factor."""
    outcomes, paid = set(), {}
    borrowed = shorted = fractional = whole = 0
    for seed in SEEDS:
        market, _, terms, run = simulated(seed, st)
        outcomes |= set(run.reasons())
        for kind, money in zip(terms.kinds, run.cost_kinds.sum(axis=0), strict=True):
            paid[kind] = paid.get(kind, 0.0) + money
        borrowed += int((run.cash < -1).sum())
        shorted += int((run.shares < 0).sum())
        fractional += market.lot is None
        whole += market.lot is not None
    assert outcomes == set(REASONS)
    assert min(paid.values()) > 0
    assert min(borrowed, shorted, fractional, whole) > 5


@pytest.mark.parametrize("seed", SEEDS)
def test_identities(seed, st):
    market, _, terms, run = simulated(seed, st)
    log, capital = run.orders, settings_of(seed)["capital"]
    close = {"rtol": 1e-9, "atol": 1e-9 * capital}
    before = np.vstack([np.zeros(len(SYMBOLS)), run.shares[:-1]])
    marks = np.vstack([terms.mark[:1], terms.mark[:-1]])
    # value change = holdings x price change - costs, to the fill price with what was held, from it with what is held
    gains = (before * (terms.worth - marks)).sum(axis=1) + (run.shares * (terms.mark - terms.worth)).sum(axis=1)
    assert_allclose(np.diff(run.value, prepend=capital), gains - run.costs, **close)
    assert_allclose(run.value, run.cash + (run.shares * terms.mark).sum(axis=1), **close)
    assert_allclose(np.cumprod(1 + run.returns) * capital, run.value, rtol=1e-9)
    # filled orders are the change of shares, and money changes by them and the costs alone
    change, spent = np.zeros(run.shares.shape), np.zeros(run.cost_kinds.shape)
    np.add.at(change, (log.day, log.stock), log.filled)
    np.add.at(spent, log.day, log.costs)
    assert_allclose(np.diff(run.shares, axis=0, prepend=0), change, rtol=0, atol=1e-7)
    assert_allclose(np.diff(run.cash, prepend=capital), -(change * terms.worth).sum(axis=1) - run.costs, **close)
    # costs by kind, recomputed from the orders
    spent[:, -2] = run.cost_kinds[:, -2]
    assert_allclose(spent, run.cost_kinds, **close)
    assert_allclose(run.costs, run.cost_kinds.sum(axis=1), **close)
    settled = log.reason == REASONS.index("settled after delisting")
    value = np.where(settled, 0.0, np.abs(log.filled) * log.price)
    side = (log.filled < 0).astype(int)
    rates = terms.rates[log.day, side]
    commission = np.where(value > 0, np.maximum(value * rates[:, 0], market.min_commission), 0.0)
    assert_allclose(log.costs[:, 0], commission, **close)
    assert_allclose(log.costs[:, 1:-4], value[:, None] * rates[:, 1:], **close)
    assert_allclose(log.costs[:, -4], value * market.slippage, **close)
    moved = np.minimum(terms.impact[log.day, log.stock] * np.sqrt(value), 0.5)
    assert_allclose(log.costs[:, -3], value * moved, **close)
    # what may not be is not
    if market.leverage == 1 and not market.short:
        assert run.cash.min() >= -1e-9 * capital
    if not market.short:
        assert run.shares.min() >= 0
    bought, sold = (log.filled > 0) & ~settled, (log.filled < 0) & ~settled
    assert (terms.blocked_buy[log.day, log.stock][bought] == 0).all()
    assert (terms.blocked_sell[log.day, log.stock][sold] == 0).all()
    cap = terms.cap[log.day, log.stock]
    assert (np.abs(log.filled) <= cap * (1 + 1e-12))[~settled].all()
    if market.lot is not None:
        step, least = terms.step[log.day, log.stock], terms.least[log.day, log.stock]
        lots = np.abs(log.filled) / step
        emptied = run.shares[log.day, log.stock] == 0
        assert (np.abs(lots - np.round(lots)) < 2e-6)[bought | (sold & ~emptied)].all()
        assert (np.abs(log.filled) >= least * (1 - 2e-6))[bought | (sold & ~emptied)].all()
    # one order a stock and day, so that what is sold was held the day before
    assert len({(d, s, r) for d, s, r in zip(log.day, log.stock, settled, strict=True)}) == len(log.day)
    # the sign of what is filled is that of what was wanted, and never more than it beyond the rounding to lots
    assert (log.filled * log.wanted >= 0).all()
    over = np.abs(log.filled * log.price) - np.abs(log.wanted)
    assert (over <= 1e-9 * capital + 2e-6 * terms.step[log.day, log.stock] * log.price).all()
    traded = np.bincount(log.day, value, minlength=len(DAYS))
    paid = np.bincount(log.day, np.where(settled, 0.0, log.costs.sum(axis=1)), minlength=len(DAYS))
    equity = run.cash + (run.shares * terms.worth).sum(axis=1) + paid
    assert_allclose(run.turnover, traded / equity / 2, rtol=1e-9, atol=1e-9)


def run_flat(close, weights, *, of_cash=False, capital=1000.0, delay=0, every=1, tradable=None, market=None, **terms):
    """Follow fixed weights; keywords other than these are those of `terms_of`, or of a `Flat` market without cost."""
    own = {name: terms.pop(name) for name in list(terms) if name in Flat.model_fields}
    close, weights = np.array(close, dtype=float), np.array(weights, dtype=float)
    can = ~np.isnan(close) if tradable is None else np.array(tradable, dtype=bool)
    made = terms_of(market or Flat(**{"commission": 0.0, **own}), close=close, tradable=can, **terms)
    plan = (lambda moment: Decision(weights[moment.day], True)) if of_cash else following(weights)
    return simulate(made, plan, delay=delay, every=every, capital=capital)


def told(run):
    return [REASONS[code] for code in run.orders.reason]


def ends_after(days, prices):
    """Closes of some stocks, of which the first ends after the given days, long before the others."""
    close = np.tile(np.array(prices, dtype=float), (days + 25, 1))
    close[days:, 0] = NAN
    return close


def keep_after(*rows, days):
    """Rows of weights, then no decision."""
    return np.vstack([rows, np.full((days - len(rows), len(rows[0])), NAN)])


def test_lots_are_whole_and_the_rest_stays_in_cash():
    # 1000 / 3.9 = 256.4 shares: two lots; then 380 / 3.9 = 97.4 are to stay, so one lot goes; then all
    run = run_flat([[3.9]] * 3, [[1.0], [0.38], [0.0]], lot=100)
    assert run.shares[:, 0].tolist() == [200, 100, 0]
    assert_allclose(run.cash, [1000 - 780, 1000 - 390, 1000], rtol=1e-12)
    assert told(run) == ["rounded down to whole lots"] * 2 + ["filled"]


def test_lots_are_of_real_shares_and_odd_lots_are_sold_whole():
    """100 real shares are 50 adjusted ones at a factor of 2; after a split into three they are 300."""
    factor = np.array([[2.0], [6.0], [6.0], [6.0]])
    run = run_flat([[20.0]] * 4, [[1.0], [0.5], [0.3], [0.0]], lot=100, factor=factor, capital=1240.0)
    # 62 adjusted are 124 real: 100. Then 300 real are held and 1240 / 2 / 20 = 31 adjusted, 186 real, are to stay: 114
    # are to go: 100, that is 16.67. Then 18.6 are to stay, of 33.33: 88 real to go, less than a lot
    assert_allclose(run.shares[:, 0], [50, 100 / 3, 100 / 3, 0], rtol=1e-12)
    assert told(run) == ["rounded down to whole lots"] * 2 + ["less than a lot", "filled"]
    # 150 real shares, by a split of one into three halves, go whole
    odd = run_flat([[10.0]] * 2, [[1.0], [0.0]], lot=100, factor=np.array([[1.0], [1.5]]))
    assert odd.shares[:, 0].tolist() == [100, 0]


def test_a_capital_too_small_for_a_lot_is_told():
    run = run_flat([[10.0, 20.0]] * 3, [[0.5, 0.5]] * 3, lot=100)
    assert run.reasons() == {"less than a lot": 6}
    assert run.unfilled_buys.tolist() == [0, 0, 0]  # the market would have allowed them
    assert (run.value == 1000).all()


@pytest.mark.parametrize("slack", [1e-6, 1e-3])
@pytest.mark.parametrize("missing", [0.0, 1e-5, 0.05])
def test_a_lot_is_not_bought_beyond_the_cash(missing, slack):
    run = run_flat([[10.0]], [[1.0]], lot=100, lot_slack=slack, capital=1000.0 - missing)
    assert run.cash[0] >= 0
    assert run.shares[0, 0] == (100 if missing == 0 else 0)


def test_the_rounding_to_lots_never_sells_short():
    factor = np.array([[1.0], [1 - 3e-7]])  # a factor of float32 is as exact as that
    run = run_flat([[10.0]] * 2, [[1.0], [1e-9]], lot=100, factor=factor)
    assert run.shares[0, 0] == 100
    assert run.shares.min() >= 0


def test_the_share_of_the_volume_binds_on_buys_and_sells():
    money = np.array([[4000.0], [3000.0], [1000.0], [5e6]])
    run = run_flat([[10.0]] * 4, [[1.0], [0.0], [0.0], [0.0]], participation=0.1, money=money)
    assert_allclose(run.shares[:, 0], [40, 10, 0, 0], atol=1e-12)
    assert told(run) == ["cut to the share of the volume"] * 2 + ["filled"]


def test_the_share_of_the_volume_is_of_shares_whatever_the_fill_price():
    """1000 shares at a close of 20; the fill is at an open of 10."""
    rules = {"price": "open", "participation": 0.1}
    run = run_flat([[20.0]], [[1.0]], **rules, fill=np.array([[10.0]]), money=np.array([[2e4]]), capital=1e6)
    assert run.shares[0, 0] == pytest.approx(100, rel=1e-12)


@pytest.mark.parametrize("lot", [None, 100])
def test_a_day_without_volume_lets_nothing_through(lot):
    run = run_flat(
        [[10.0]] * 2,
        [[1.0]] * 2,
        tradable=[[False]] * 2,
        suspensions=False,
        participation=0.1,
        money=np.zeros((2, 1)),
        lot=lot,
    )
    assert told(run) == ["cut to the share of the volume"] * 2
    assert (run.shares == 0).all()


def test_the_least_commission_and_the_rate():
    run = run_flat([[10.0, 10.0]], [[0.2, 0.7]], commission=0.01, min_commission=5)
    after = (1000 - 5) / (1 + 0.01 * 0.7)  # of 200 the minimum is asked, of 700 the rate
    assert_allclose(run.orders.costs[:, 0], [5, 0.01 * 0.7 * after], rtol=1e-12)
    assert_allclose(run.shares[0], [0.02 * after, 0.07 * after], rtol=1e-12)


def test_orders_worth_less_than_their_costs_are_not_made():
    run = run_flat([[10.0, 10.0]] * 2, [[0.5, 0.4], [0.498, 0.4]], min_commission=5)
    assert_array_equal(run.shares[1], run.shares[0])
    assert run.costs.tolist() == [10, 0]
    assert "worth less than its costs" in told(run)


def test_what_a_refused_order_would_cost_is_not_counted():
    """The only wish is a buy of .403 x 990 - 396 = 2.97, less than its costs of 5, so nothing is paid."""
    run = run_flat([[10.0, 10.0]] * 2, [[0.5, 0.4], [0.5, 0.403]], min_commission=5)
    assert run.value.tolist() == [990, 990]
    assert told(run)[2:] == ["worth less than its costs"]
    assert run.orders.wanted[2] == pytest.approx(0.403 * 990 - 396, rel=1e-9)


def test_orders_filled_in_full_say_so():
    random = np.random.default_rng(0)
    close = 10 * np.exp(np.cumsum(random.normal(scale=0.02, size=(60, 40)), axis=0))
    weights = np.array([random.permutation(np.repeat([0.1, 0.0], [10, 30])) for _ in range(60)])
    for cost in (0.0, 0.001):
        run = run_flat(close, weights, commission=cost, capital=1e6)
        assert run.reasons() == {"filled": len(run.orders.day)}


def test_buys_are_cut_by_one_factor_to_the_cash_there_was():
    """The first stock is stuck with half of the money, so 500 have to do for 400 and 600."""
    run = run_flat([[10.0] * 3] * 2, [[0.5, 0, 0], [0, 0.4, 0.6]], tradable=[[1, 1, 1], [0, 1, 1]])
    assert_allclose(run.shares[1] * 10, [500, 200, 300], rtol=1e-12)
    assert told(run)[1:] == ["suspended"] + ["cut to the cash there was"] * 2
    assert run.cash[1] == pytest.approx(0, abs=1e-9)


def test_without_cash_nothing_is_bought():
    run = run_flat([[10.0, 10.0]] * 2, [[1.0, 0], [0, 1.0]], tradable=[[1, 1], [0, 1]])
    assert told(run) == ["filled", "suspended", "no cash"]
    assert run.unfilled_buys.tolist() == [0, 0]  # no cash is not the market's doing
    assert run.stuck_sells.tolist() == [0, 1]


def test_the_impact_grows_with_the_square_root_of_the_order():
    """Closes of 10, 11, 10, 11, ...: 20 moves of + 10 % and - 1 / 11, beside 50 000 traded a day."""
    close = np.array([[10.0 + day % 2] for day in range(23)])
    weights = np.full((23, 1), NAN)
    weights[22] = 0.4
    money = np.full((23, 1), 50_000.0)
    run = run_flat(close, weights, impact=0.8, money=money, capital=1e4)
    moves = [0.1 if day % 2 else -1 / 11 for day in range(1, 23)][-21:-1]
    rate = 0.8 * statistics.stdev(moves) / math.sqrt(50_000)
    value = run.orders.filled[0] * 10
    assert run.cost_kinds[22].tolist() == [0, 0, pytest.approx(rate * value**1.5, rel=1e-9), 0, 0]
    assert value == pytest.approx(0.4 * (1e4 - rate * value**1.5), rel=1e-9)


def test_the_impact_is_half_of_the_price_at_most():
    close = np.array([[10.0 * (1 + day % 2)] for day in range(23)])
    weights = np.full((23, 1), NAN)
    weights[22] = 1.0
    run = run_flat(close, weights, impact=5.0, money=np.ones((23, 1)), capital=1.5e6)
    assert_allclose([run.shares[22, 0] * 10, run.costs[22]], [1e6, 5e5], rtol=1e-9)


def test_a_stock_whose_traded_money_is_not_known_is_not_traded():
    money = np.array([[NAN]] * 3 + [[1e4]] * 3)
    run = run_flat([[10.0], [11.0], [10.0], [11.0], [10.0], [11.0]], [[0.5]] * 6, impact=1.0, money=money)
    assert told(run)[:5] == ["no traded money known"] * 4 + ["filled"]


def test_several_fees_by_side_and_day():
    fees = {
        "stamp": (Fee(since="2020-01-02", buy=0.01, sell=0.02), Fee(since="2020-01-04", sell=0.03)),
        "levy": (Fee(since="2020-01-03", buy=0.005),),
    }
    days = np.datetime64("2020-01-01") + np.arange(5)
    close, weights = [[10.0]] * 5, [[0.5], [0.6], [0.4], [0.5], [0.2]]
    run = run_flat(close, weights, fees=fees, commission=0.001, slippage=0.002, days=days)
    value = np.abs(run.orders.filled) * 10
    assert (run.orders.filled > 0).tolist() == [True, True, False, True, False]
    rates = np.array([[0, 0], [0.01, 0], [0.02, 0], [0, 0.005], [0.03, 0]])
    assert_allclose(run.cost_kinds[:, 1:3], value[:, None] * rates, rtol=1e-12)
    assert_allclose(run.cost_kinds[:, [0, 3]], value[:, None] * [[0.001, 0.002]], rtol=1e-12)
    assert (run.cost_kinds[:, 4:] == 0).all()


def test_leverage_borrows_money_and_pays_for_the_nights():
    close = [[10.0], [12.0], [12.0]]
    run = run_flat(close, [[1.5], [NAN], [1.5]], leverage=1.5, financing=0.1, days_per_year=250)
    night = 500 * 0.1 / 250
    # 150 shares for 1500; on day 2 the equity is 150 x 12 - 500 - 2 nights, of which 1.5 are to be in the stock
    equity = 1800 - (500 + night) * (1 + 0.1 / 250)
    assert_allclose(run.cash, [-500, -500 - night, -equity / 2], rtol=1e-12)
    assert_allclose(run.value, [1000, 1300 - night, equity], rtol=1e-12)
    assert_allclose(run.costs, [0, night, (500 + night) * 0.1 / 250], rtol=1e-9)


def test_a_stock_sold_short_is_borrowed_and_covered():
    close = [[10.0, 10.0], [8.0, 10.0], [8.0, 10.0]]
    run = run_flat(close, [[-0.5, 0.5], [NAN] * 2, [0.0, 0.5]], short=True, borrow=0.1, commission=0.01)
    after = 1000 / 1.01
    short = after / 2 / 10
    fees = [short * 10 * 0.1 / 252, short * 8 * 0.1 / 252]
    assert_allclose(run.shares[:, 0], [-short, -short, 0], rtol=1e-12)
    assert_allclose(run.value[1], after + short * 2 - fees[0], rtol=1e-12)
    assert_allclose(run.cost_kinds[:, -2], [0, *fees], rtol=1e-12)
    assert run.orders.costs[2, 0] == pytest.approx(0.01 * 8 * short)


def test_an_odd_lot_sold_short_is_covered_whole():
    run = run_flat([[10.0]] * 2, [[-0.5], [0.0]], short=True, lot=1, factor=np.array([[1.0], [0.97]]))
    assert run.shares[:, 0].tolist() == [-50, 0]


def test_what_is_covered_is_gone_to_the_last_bit():
    random = np.random.default_rng(0)
    for _ in range(50):
        close = random.uniform(5, 50, 3) * np.cumprod(random.uniform(0.9, 1.1, (3, 3)), axis=0)
        weights = [[0.5, -0.3, 0.2], [0.7, -0.3, 0], [0.6, 0, 0.4]]
        run = run_flat(close, weights, short=True, commission=0.001, capital=1e6)
        assert run.shares[-1, 1] == 0


def test_a_delisted_stock_is_settled_with_a_loss_once():
    close = ends_after(2, [10.0, 10.0])
    weights = np.full((len(close), 2), NAN)
    weights[[0, 21, 22]] = 0.5  # the last price is of day 1, the settlement on day 21
    run = run_flat(close, weights, delisting_loss=0.4)
    assert_array_equal(run.shares[20], [50, 50])
    assert run.shares[21].tolist() == [0, 40]  # 500 - 200 back, of 800 one half is in the other stock
    assert run.cost_kinds[20:23, -1].tolist() == [0, 200, 0]
    assert run.value[20:23].tolist() == [1000, 800, 800]
    assert told(run)[2:] == ["settled after delisting", "no price", "filled", "no price"]


def test_a_stock_sold_short_gains_by_the_loss_of_its_delisting():
    close = ends_after(2, [10.0, 10.0])
    run = run_flat(close, keep_after([-0.5, 0.0], days=len(close)), delisting_loss=1.0, short=True)
    assert run.value[[1, 20, 21, 22]].tolist() == [1000, 1000, 1500, 1500]
    assert run.costs.sum() == -500


def test_a_stock_that_ends_shortly_before_the_panel_is_not_settled():
    close = np.full((22, 1), 10.0)
    close[3:] = NAN  # 19 days
    run = run_flat(close, keep_after([1.0], days=22), delisting_loss=0.4)
    assert (run.shares[:, 0] == 100).all()
    close = np.full((23, 1), 10.0)
    close[3:] = NAN
    assert run_flat(close, keep_after([1.0], days=23), delisting_loss=0.4).value[-1] == 600


@pytest.mark.parametrize("suspensions", [True, False])
def test_nothing_is_bought_after_a_delisting(suspensions):
    close = ends_after(2, [10.0, 10.0])
    run = run_flat(close, [[0.5, 0.5]] * len(close), suspensions=suspensions)
    assert (run.shares[21:, 0] == 0).all()


def test_a_fill_at_the_open_earns_the_rest_of_the_day():
    close, opened = [[10.0], [12.0], [9.0]], np.array([[9.0], [11.0], [10.0]])
    run = run_flat(close, [[1.0], [0.0], [0.0]], delay=1, price="open", fill=opened)
    # decided on day 0: bought at 11, marked at 12; decided on day 1: sold at 10
    assert_allclose(run.value, [1000, 1000 / 11 * 12, 1000 / 11 * 10], rtol=1e-12)
    assert run.orders.price.tolist() == [11, 10]


def test_a_stock_without_an_open_is_not_traded_and_stands_at_its_last_close():
    opened = np.array([[10.0, 10.0], [NAN, 20.0]])
    run = run_flat([[10.0, 10.0], [30.0, 20.0]], [[0.5, 0.5], [0.0, 0.5]], price="open", fill=opened)
    # at the open the first stock is worth 500 and the second 1000, of which one half of 1500 is to stay
    assert told(run)[2:] == ["no price", "filled"]
    assert_allclose(run.shares[1], [50, 37.5], rtol=1e-12)
    assert run.value[1] == 50 * 30 + 1000


@pytest.mark.parametrize(("every", "days"), [(1, [2, 3, 4, 5, 6]), (2, [2, 4, 6]), (3, [2, 5])])
def test_every_counts_from_the_first_decision(every, days):
    weights = [[NAN]] + [[0.1 * day] for day in range(1, 7)]
    run = run_flat([[10.0]] * 7, weights, delay=1, every=every)
    assert run.orders.day.tolist() == days
    assert_allclose(run.shares[days, 0], [0.1 * (day - 1) * 100 for day in days], rtol=1e-12)


def test_weights_of_the_cash_are_added_and_the_others_kept():
    weights = [[0.4, 0.4, 0.0], [0.0, NAN, 0.5]]
    run = run_flat([[10.0] * 3, [20.0] * 3], weights, of_cash=True)
    assert_allclose(run.shares, [[40, 40, 0], [0, 40, (200 + 800) / 2 / 20]], rtol=1e-12)


def test_weights_below_zero_of_the_cash_are_refused():
    with pytest.raises(DataError, match="below zero of the cash"):
        run_flat([[10.0]], [[-0.5]], of_cash=True, short=True)


def test_what_is_sold_short_is_covered_by_a_weight_of_zero_of_the_cash():
    close = np.full((2, 1), 10.0)
    terms = terms_of(Flat(commission=0, short=True), close=close, tradable=close > 0)
    run = simulate(terms, lambda moment: Decision(np.array([-0.5 + moment.day / 2]), moment.day > 0), delay=0)
    assert run.shares[1, 0] == 0


@pytest.mark.parametrize("opened", [5.0, 4.0])
def test_an_account_that_is_worth_nothing_at_the_fill_has_lost_everything(opened):
    with pytest.raises(DataError, match="lost everything on day 1"):
        run_flat([[10.0]] * 2, [[2.0]] * 2, leverage=2, price="open", fill=np.array([[10.0], [opened]]))


def test_an_account_that_is_worth_nothing_at_the_close_has_lost_everything():
    with pytest.raises(DataError, match=r"lost everything on day 1.*sold short"):
        run_flat([[10.0], [31.0]], [[-0.5], [NAN]], short=True)


@pytest.mark.parametrize(
    ("weights", "rules", "text"),
    [
        ([[0.8, 0.4]], {}, "sum to 1.2 .*at most 1 is allowed"),
        ([[0.8, -0.4]], {"short": True}, "sum to 1.2 "),
        ([[0.8, 0.9]], {"leverage": 1.5}, "sum to 1.7 .*at most 1.5 is allowed"),
        ([[0.8, -0.1]], {}, "below zero.*short: true"),
        ([[math.inf, 0.1]], {"short": True, "leverage": 9}, "infinite"),
        ([[0.6, 0.1, 0.1]], {}, r"a weight for each of 2 stocks, got shape \(3,\)"),
    ],
)
def test_weights_that_the_market_does_not_allow(weights, rules, text):
    with pytest.raises(DataError, match=text):
        run_flat([[10.0, 10.0]], weights, **rules)


@pytest.mark.parametrize("day", [6, 14, 22])
def test_what_comes_later_does_not_matter(day, st):
    """All rules on: prices, volumes and factors of later days are others; what is gone from the list stays gone."""
    now = world(7)
    random = np.random.default_rng(day)
    later = World(*(array.copy() for array in now))
    for array in (later.close, later.open, later.factor, later.volume):
        array[day + 1 :] *= random.uniform(0.5, 2, array[day + 1 :].shape)
    market = CnAShare(price="open", impact=1.0, participation=0.3, slippage=0.001, st=st)
    plan = some_plan(7, market)
    one, other = (
        simulate(terms_for(prices, market), lambda moment: plan.get(moment.day), delay=1, capital=1e5)
        for prices in (now, later)
    )
    for name in ("value", "cash", "shares", "cost_kinds", "turnover"):
        assert_array_equal(getattr(one, name)[: day + 1], getattr(other, name)[: day + 1], err_msg=name)
    assert (one.value[day + 1 :] != other.value[day + 1 :]).any()


def test_inputs_are_left_alone(st):
    now = world(3)
    before = [array.copy() for array in now]
    for array in now:
        array.flags.writeable = False
    plan = some_plan(3, CnAShare())
    simulate(terms_for(now, CnAShare(impact=1.0, st=st)), lambda moment: plan.get(moment.day), delay=1, capital=1e5)
    for array, old in zip(now, before, strict=True):
        assert_array_equal(array, old)


@pytest.mark.parametrize("seed", range(4))
def test_free_of_costs_it_is_worth_more_where_all_weights_are_reached(seed):
    """With nothing in the way both accounts hold the same weights, so that costs alone tell them apart."""
    random = np.random.default_rng(seed)
    close = 10 * np.exp(np.cumsum(random.normal(scale=0.03, size=(30, 5)), axis=0))
    weights = random.dirichlet(np.ones(5), size=30)
    market = Flat(commission=0.002, slippage=0.001, impact=0.5, min_commission=0.01)
    terms = terms_of(market, close=close, tradable=close > 0, money=np.full(close.shape, 1e5))
    weights[:3] = NAN  # the impact is not known yet
    net, gross = (simulate(t, following(weights), delay=0, capital=1e4) for t in (terms, terms.free()))
    growth = gross.value[1:] / gross.value[:-1]
    assert (net.value[1:] / net.value[:-1] < growth)[3:].all()
    assert (gross.costs == 0).all()
    assert_allclose((net.value[1:] + net.costs[1:]) / net.value[:-1], growth, rtol=1e-9)
