"""Chinese A shares: limits to the tick, lots, taxes by day, and real prices."""

import datetime
import math
from fractions import Fraction

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mimstocr.backtest.engine import simulate
from mimstocr.backtest.market import make_terms, terms_of
from mimstocr.backtest.markets.cn_a_share import CnAShare
from mimstocr.backtest.orders import LIMIT_DOWN, LIMIT_UP, REASONS
from mimstocr.backtest.strategy import Decision, following
from mimstocr.data.panel import days_of, last_known, make_panel, symbols_of
from mimstocr.data.settings import DataSettings
from mimstocr.data.sources import load_panel
from mimstocr.errors import ConfigError, DataError

NAN = math.nan


def days_from(first, n):
    return np.busday_offset(first, np.arange(n), roll="forward").astype("datetime64[D]")


def terms(real, symbol="SH600000", *, first="2019-03-04", factor=None, before=8, market=None, tradable=None):
    """Terms of real closes of one stock; `before`: days at the first of them, so that it is no new listing."""
    real = np.concatenate([np.full(before, real[0]), real])
    ratio = np.ones(len(real)) if factor is None else np.concatenate([np.full(before, factor[0]), factor])
    days = days_from(np.busday_offset(first, -before, roll="forward"), len(real))
    can = np.isfinite(real) if tradable is None else np.concatenate([np.ones(before, bool), tradable])
    return terms_of(
        market or CnAShare(participation=None, slippage=0),
        close=(real * ratio)[:, None],
        tradable=can[:, None],
        factor=ratio[:, None],
        days=days,
        symbols=[symbol],
        window=slice(before, None),
    )


def at_limit(real, **changes):
    """What is told of the last of some real closes: upper, lower or none."""
    made = terms(real, **changes)
    upper, lower = made.blocked_buy[-1, 0] == LIMIT_UP, made.blocked_sell[-1, 0] == LIMIT_DOWN
    assert not (upper and lower)
    return "upper" if upper else "lower" if lower else None


@pytest.mark.parametrize(
    ("before", "upper", "lower"),
    [
        (10.00, 11.00, 9.00),
        (10.05, 11.06, 9.05),  # 11.055 and 9.045: a half goes up
        (10.04, 11.04, 9.04),  # 11.044 and 9.036
        (3.33, 3.66, 3.00),  # 3.663 and 2.997: a rise of 9.9 %, a fall of 9.9 %
        (1.84, 2.02, 1.66),  # 2.024 and 1.656
        (1.05, 1.16, 0.95),  # 1.155 and 0.945
        (28.22, 31.04, 25.40),
        (1799.95, 1979.95, 1619.96),  # 1979.945 and 1619.955
    ],
)
@pytest.mark.parametrize("factor", [1.0, 7.129, 0.31])
def test_limits_to_the_tick(before, upper, lower, factor):
    for price, expected in (
        (upper, "upper"),
        (upper - 0.01, None),
        (upper + 0.01, "upper"),
        (lower, "lower"),
        (lower + 0.01, None),
        (lower - 0.01, "lower"),
        (before, None),
    ):
        assert at_limit([before, price], factor=[factor, factor]) == expected, price


def test_limits_of_nine_and_a_half_per_cent_are_none():
    """5.33 after 4.85 is a rise of 9.9 %, but the limit is 5.335, that is 5.34."""
    assert at_limit([4.85, 5.33]) is None
    assert at_limit([4.85, 5.34]) == "upper"


@pytest.mark.parametrize(
    ("symbol", "first", "share"),
    [
        ("SH600000", "2021-03-01", 0.10),
        ("SZ000001", "2021-03-01", 0.10),
        ("SZ002415", "2021-03-01", 0.10),
        ("SH688981", "2019-08-01", 0.20),
        ("689009.SH", "2021-03-01", 0.20),
        ("SZ300750", "2020-08-20", 0.10),  # the fill is on 2020-08-21, a Friday
        ("SZ300750", "2020-08-21", 0.20),  # the fill is on 2020-08-24
        ("301001.SZ", "2021-09-01", 0.20),
        ("sz302132", "2025-03-03", 0.20),
        ("BJ430047", "2022-03-01", 0.30),
        ("920002.BJ", "2025-03-03", 0.30),
    ],
)
def test_limits_of_the_boards(symbol, first, share):
    up, down = 20 * (1 + share), 20 * (1 - share)
    changes = {"symbol": symbol, "first": first}
    assert at_limit([20.0, round(up, 2)], **changes) == "upper"
    assert at_limit([20.0, round(up, 2) - 0.01], **changes) is None
    assert at_limit([20.0, round(down, 2)], **changes) == "lower"
    assert at_limit([20.0, round(down, 2) + 0.01], **changes) is None


@pytest.mark.parametrize(
    ("factors", "reference"),
    [
        ([1.0, 2.0], 10.00),  # two for one: 20 becomes 10
        ([1.3, 1.3 * 20 / 19.43], 19.43),  # a dividend of 0.57
        ([1.0, 1.5], 13.33),  # 13.333
        ([2.0, 1.0], 40.00),  # a consolidation
    ],
)
def test_on_a_day_of_splits_the_reference_is_in_shares_of_that_day(factors, reference):
    upper, lower = (math.floor(reference * share * 100 + 0.5 + 1e-9) / 100 for share in (1.1, 0.9))
    for price, expected in ((upper, "upper"), (upper - 0.01, None), (lower, "lower"), (lower + 0.01, None)):
        assert at_limit([20.0, price], factor=factors) == expected, price


def test_after_a_suspension_the_reference_is_the_last_close():
    """Both forms of a suspended day: a repeated price, and none."""
    for quiet in (20.0, NAN):
        tradable = np.array([True, False, True])
        assert at_limit([20.0, quiet, 22.0], tradable=tradable) == "upper"
        assert at_limit([20.0, quiet, 21.99], tradable=tradable) is None
        # a split while it was suspended
        factor = [1.0, NAN if math.isnan(quiet) else 1.0, 2.0]
        assert at_limit([20.0, quiet, 11.0], tradable=tradable, factor=factor) == "upper"


@pytest.mark.parametrize("seed", range(2))
def test_limits_of_float32_prices_are_those_of_exact_arithmetic(seed, tmp_path):
    """Panels hold adjusted prices and factors as float32, which is exact to 0.02 of a cent at 2000 yuan."""
    random, half = np.random.default_rng(seed), Fraction(1, 2)
    boards = {"SH600": 10, "SH688": 20, "SZ300": 10, "SH601": 5}  # the last are in the file
    names, close, factor, expected = [], [], [], []
    while len(names) < 2000:
        board = list(boards)[len(names) % 4]
        before = int(10 ** random.uniform(2, 5.3))
        scale = Fraction(int(random.integers(250, 20_000)), 1000)
        split = Fraction(int(random.choice([1000, 1000, 1500, 1300, 1003])), 1000)
        exact = before / split
        if abs(exact - math.floor(exact) - half) < Fraction(1, 20):
            continue  # a half that float32 cannot tell
        share, reference = boards[board], math.floor(exact + half)
        upper, lower = (math.floor(Fraction(reference * (100 + sign * share), 100) + half) for sign in (1, -1))
        price = int(random.choice([upper, lower])) + int(random.integers(-2, 3))
        names.append(f"{board}{len(names):03d}")
        close.append([float(Fraction(before, 100) * scale)] * 8 + [float(Fraction(price, 100) * scale * split)])
        factor.append([float(scale)] * 8 + [float(scale * split)])
        expected.append((price >= upper, price <= lower))
    (tmp_path / "st.txt").write_text("".join(f"{name}\t2019-01-01\t2019-12-31\n" for name in names if "SH601" in name))
    fields = {"close": np.array(close).T, "factor": np.array(factor).T}
    panel = make_panel(fields, days_from("2019-03-04", 9), names, source="test")
    made = make_terms(CnAShare(participation=None, st=tmp_path / "st.txt"), panel, slice(8, 9))
    at_upper, at_lower = np.array(expected).T
    assert_array_equal(made.blocked_buy[0] == LIMIT_UP, at_upper)
    assert_array_equal(made.blocked_sell[0] == LIMIT_DOWN, at_lower)
    assert min(at_upper.sum(), at_lower.sum()) > 400


@pytest.fixture(scope="module")
def st_spans(tmp_path_factory):
    path = tmp_path_factory.mktemp("st") / "st.txt"
    path.write_text(
        "SH601000\t2019-01-01\t2019-12-31\nSH688001\t2019-01-01\t2019-12-31\nSH999999\t2019-01-01\t2019-12-31\n"
    )
    return path


@pytest.mark.parametrize(
    ("symbol", "first", "share"),
    [
        ("SH601000", "2018-12-28", 0.10),  # the fill is on the last day of 2018
        ("SH601000", "2018-12-31", 0.05),
        ("SH601000", "2019-12-30", 0.05),  # the fill is on the last day of the span
        ("SH601000", "2019-12-31", 0.10),
        ("SH688001", "2019-06-03", 0.20),  # STAR knows no narrower limits
    ],
)
def test_special_treatment(symbol, first, share, st_spans):
    market = CnAShare(participation=None, st=st_spans)
    for change, expected in ((share, "upper"), (share - 0.001, None), (-share, "lower"), (0.001 - share, None)):
        price = round(20 * (1 + change), 2)
        assert at_limit([20.0, price], symbol=symbol, first=first, market=market) == expected, change
    assert at_limit([20.0, 21.0], symbol="SH601000") is None  # without the file


def test_a_file_of_special_treatment_that_cannot_be_used(tmp_path):
    with pytest.raises(DataError, match=r"none.txt: cannot be read"):
        terms([10.0, 10.0], market=CnAShare(st=tmp_path / "none.txt", participation=None))
    (tmp_path / "st.txt").write_text("600000.SH\t2019-01-01\t2019-12-31\n")
    with pytest.raises(ConfigError, match=r"such as SH600000.*600000.SH"):
        terms([10.0, 10.0], market=CnAShare(st=tmp_path / "st.txt", participation=None))
    # one that is written alike but names other stocks is of no effect
    (tmp_path / "st.txt").write_text("SH600001\t2019-01-01\t2019-12-31\n")
    assert at_limit([20.0, 21.0], market=CnAShare(st=tmp_path / "st.txt", participation=None)) is None
    (tmp_path / "st.txt").write_text("SH600000\t2019-01-01\n")
    with pytest.raises(DataError, match="line 1: expected symbol, first day, last day"):
        terms([10.0, 10.0], market=CnAShare(st=tmp_path / "st.txt", participation=None))


@pytest.mark.parametrize(
    ("symbol", "first", "free"),
    [
        ("SH688001", "2019-07-22", 5),
        ("SZ300001", "2020-08-03", 1),
        ("SZ300999", "2020-10-12", 5),
        ("SZ300001", "2020-08-20", 5),  # the third day is the first of the reform
        ("SH601000", "2023-03-01", 1),
        ("SH603000", "2023-04-10", 5),
        ("SZ001001", "2024-01-03", 5),
    ],
)
def test_new_listings_have_no_limits(symbol, first, free):
    """Each day rises by a half; the panel has two days before the listing."""
    real = np.array([NAN, NAN, *(10 * 1.5**day for day in range(8))])
    days = days_from(np.busday_offset(first, -2), len(real))
    made = terms_of(
        CnAShare(participation=None),
        close=real[:, None],
        tradable=np.isfinite(real)[:, None],
        factor=np.ones((len(real), 1)),
        days=days,
        symbols=[symbol],
    )
    found = (made.blocked_buy[2:, 0] == LIMIT_UP).tolist()
    if symbol == "SZ300001" and first == "2020-08-20":
        # listed on 20 August with limits; from the 24th its third to fifth days are free
        assert found == [True, True, False, False, False, True, True, True]
    else:
        # before the reforms nobody could buy on the first day, whatever its close
        assert found == ([True] if free == 1 else [False] * free) + [True] * (8 - free)
    assert not (made.blocked_sell[2:, 0] == LIMIT_DOWN).any()


def test_a_stock_of_the_first_day_of_the_data_is_no_new_listing():
    real = np.array([10.0, 20.0])
    made = terms_of(
        CnAShare(participation=None),
        close=real[:, None],
        tradable=np.ones((2, 1), dtype=bool),
        factor=np.ones((2, 1)),
        days=days_from("2021-03-01", 2),
        symbols=["SH688001"],
    )
    assert made.blocked_buy[:, 0].tolist() == [0, LIMIT_UP]


def test_without_a_factor_the_limits_are_a_little_nearer():
    close = np.array([[100.0] * 4, [109.8, 109.6, 90.2, 90.4]])
    made = terms_of(
        CnAShare(participation=None),
        close=close,
        tradable=close > 0,
        days=days_from("2021-03-01", 2),
        symbols=["SH600000", "SH600001", "SH600002", "SH600003"],
    )
    assert made.blocked_buy[1].tolist() == [LIMIT_UP, 0, 0, 0]
    assert made.blocked_sell[1].tolist() == [0, 0, LIMIT_DOWN, 0]
    assert any("0.3 % nearer" in note for note in made.notes)
    assert any("special treatment" in note for note in made.notes)


# orders ----------------------------------------------------------------------------------------------------------


def follow(real, weights, *, symbols, market=None, capital=1e6, factor=None, first="2019-03-04", delay=0):
    """Follow weights over real closes (days, stocks), after some days at the first of them."""
    real, before = np.array(real, dtype=float), 8
    real = np.vstack([np.tile(real[:1], (before, 1)), real])
    ratio = np.ones(real.shape) if factor is None else np.array(factor, dtype=float)
    if factor is not None:
        ratio = np.vstack([np.tile(ratio[:1], (before, 1)), ratio])
    made = terms_of(
        market or CnAShare(participation=None, slippage=0),
        close=real * ratio,
        tradable=np.isfinite(real),
        factor=ratio,
        days=days_from(np.busday_offset(first, -before, roll="forward"), len(real)),
        symbols=symbols,
        window=slice(before, None),
    )
    return made, simulate(made, following(np.array(weights, dtype=float)), delay=delay, capital=capital)


def told(run, day):
    return {
        int(s): REASONS[r]
        for d, s, r in zip(run.orders.day, run.orders.stock, run.orders.reason, strict=True)
        if d == day
    }


def test_nothing_is_bought_at_the_upper_and_nothing_sold_at_the_lower_limit():
    """On day 1 stocks 0 and 1 are at the upper limit, 2 and 3 at the lower one; 1 and 3 are held."""
    weights = [[0.0, 0.4, 0.0, 0.4], [0.2, 0.0, 0.2, 0.0]]
    _, run = follow(
        [[10.0] * 4, [11.0, 11.0, 9.0, 9.0]], weights, symbols=["SH600000", "SH600001", "SZ000001", "SZ000002"]
    )
    assert told(run, 1) == {
        0: "at the upper limit",
        1: "filled",
        2: "rounded down to whole lots",
        3: "at the lower limit",
    }
    assert run.shares[1, 0] == run.shares[1, 1] == 0
    assert run.shares[1, 2] > 0
    assert run.shares[1, 3] == run.shares[0, 3] > 0


def test_limits_switched_off():
    market = CnAShare(participation=None, price_limits=False)
    _, run = follow([[10.0], [11.0]], [[NAN], [0.5]], symbols=["SH600000"], market=market)
    assert run.shares[1, 0] > 0


@pytest.mark.parametrize(
    ("day", "buy", "sell"),
    [
        ("2004-12-31", 0.002, 0.002),
        ("2005-01-24", 0.001, 0.001),
        ("2007-05-29", 0.001, 0.001),
        ("2007-05-30", 0.003, 0.003),
        ("2008-04-23", 0.003, 0.003),
        ("2008-04-24", 0.001, 0.001),
        ("2008-09-18", 0.001, 0.001),
        ("2008-09-19", 0.0, 0.001),
        ("2023-08-25", 0.0, 0.001),
        ("2023-08-28", 0.0, 0.0005),
        ("2025-06-30", 0.0, 0.0005),
    ],
)
def test_stamp_duty_of_every_change(day, buy, sell):
    days = np.array([day], dtype="datetime64[D]")
    assert_allclose(CnAShare().rates(days)[0, :, 1], [buy, sell], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("day", "rate"),
    [("2015-07-31", 0.0), ("2015-08-03", 0.00002), ("2022-04-28", 0.00002), ("2022-04-29", 0.00001)],
)
def test_transfer_fee_of_both_sides(day, rate):
    assert CnAShare().rates(np.array([day], dtype="datetime64[D]"))[0, :, 2].tolist() == [rate, rate]


def test_costs_of_a_round_trip_in_yuan():
    """1 000 shares at 12: 12 000 yuan, whose commission of 3 yuan is below the least; sold at 13."""
    made, run = follow([[12.0], [13.0]], [[0.125], [0.0]], symbols=["SH600000"], capital=100_000.0)
    assert run.shares[:, 0].tolist() == [1000, 0]
    assert made.kinds[:3] == ("commission", "stamp_duty", "transfer_fee")
    assert_allclose(run.cost_kinds[:, :3], [[5, 0, 0.24], [5, 13, 0.26]], rtol=1e-12)
    assert_allclose(run.cash, [100_000 - 12_000 - 5.24, 100_000 + 1000 - 5.24 - 18.26], rtol=1e-12)
    # 40 000 yuan: 10 yuan of commission
    _, run = follow([[40.0]], [[0.401]], symbols=["SH600000"], capital=100_000.0)
    assert run.cost_kinds[0, 0] == pytest.approx(10, rel=1e-12)


@pytest.mark.parametrize(
    ("symbol", "wish", "shares"),
    [
        ("SH600000", 99, 0),
        ("SH600000", 199.9, 100),
        ("SZ300001", 350, 300),
        ("SH688001", 199.5, 0),
        ("SH688001", 200.5, 200),
        ("SH688001", 357.5, 357),
        ("BJ430047", 99.5, 0),
        ("BJ430047", 157.5, 157),
    ],
)
@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_lots_of_the_boards_in_real_shares(symbol, wish, shares, factor):
    market = CnAShare(participation=None, commission=0, min_commission=0, fees={}, slippage=0)
    _, run = follow([[10.0]], [[wish * 10 / 1e5]], symbols=[symbol], capital=1e5, factor=[[factor]], market=market)
    assert run.shares[0, 0] * factor == pytest.approx(shares, rel=1e-12)


def test_odd_lots_are_sold_whole_and_not_in_part():
    """300 shares become 390 by a bonus of three for ten; 150 of STAR are fewer than its least order."""
    market = CnAShare(participation=None, commission=0, min_commission=0, fees={}, slippage=0)
    weights = [[0.3, 0.2], [0.195, 0.1], [0.0, 0.0]]
    _, run = follow(
        [[10.0, 10.0], [10 / 1.3, 10.0], [10 / 1.3, 10.0]],
        weights,
        symbols=["SH600000", "SH688001"],
        factor=[[1.0, 1.0], [1.3, 1.0], [1.3, 1.0]],
        market=market,
        capital=1e4,
    )
    # 1950 / 7.692 = 253.5 are to stay of 390: one lot goes; of 200 of STAR 100 are to go, fewer than 200
    assert_allclose(run.shares[:, 0] * [1, 1.3, 1.3], [300, 290, 0], rtol=1e-12)
    assert run.shares[:, 1].tolist() == [200, 200, 0]
    assert told(run, 1) == {0: "rounded down to whole lots", 1: "less than a lot"}
    assert told(run, 2) == {0: "filled", 1: "filled"}


def test_a_tenth_of_the_volume_at_most():
    fields = {"close": np.full((3, 1), 10.0), "volume": np.array([[8000.0], [8000.0], [5000.0]])}
    panel = make_panel(fields, days_from("2021-03-01", 3), ["SH600000"], source="test")
    made = make_terms(CnAShare(), panel, slice(0, 3))
    plan = {0: Decision(np.array([0.5])), 2: Decision(np.array([0.0]))}
    run = simulate(made, lambda moment: plan.get(moment.day), delay=0, capital=1e5)
    assert run.shares[:, 0].tolist() == [800, 800, 300]


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_sold_on_the_day_it_was_bought(seed):
    """T+1: what is sold on a day was held on the evening before, whatever the decisions."""
    random = np.random.default_rng(seed)
    real = np.round(20 * np.exp(np.cumsum(random.normal(scale=0.04, size=(40, 6)), axis=0)), 2)
    weights = random.dirichlet(np.ones(6), size=40) * (random.random((40, 6)) < 0.6)
    weights[random.random(40) < 0.2] = NAN
    _, run = follow(real, weights, symbols=[f"SH60000{i}" for i in range(6)], delay=1)
    sold = np.zeros(run.shares.shape)
    log = run.orders
    np.add.at(sold, (log.day, log.stock), np.maximum(-log.filled, 0))
    assert (sold > 0).any()
    assert (sold[1:] <= run.shares[:-1]).all()
    assert (sold[0] == 0).all()
    both = np.zeros(run.shares.shape)
    np.add.at(both, (log.day, log.stock), 1)
    assert both.max() == 1


# real prices -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(csi300):
    """Prices of the members from 2016 on, and the terms from 2017 on."""
    panel = load_panel(
        DataSettings(
            source=f"qlib:{csi300}",
            universe="csi300",
            start=datetime.date(2016, 10, 10),
            end=datetime.date(2020, 12, 31),
        )
    )
    first = int(np.searchsorted(days_of(panel), np.datetime64("2017-01-01")))
    window = slice(first, panel.sizes["date"])
    fields = {name: panel[name].values[window].astype(float) for name in ("close", "high", "low", "factor")}
    before = last_known(panel["close"].values.astype(float))[first - 1 : -1]
    used = panel["member"].values[window] & panel["tradable"].values[window]
    return make_terms(CnAShare(), panel, window), fields, before, used, panel


def test_real_limits_against_a_rule_of_thumb(real):
    """Members at a limit by the tick, and those that moved by 9.8 % or more."""
    made, fields, before, used, panel = real
    wide = np.array([name.startswith(("SH688", "SZ300")) for name in symbols_of(panel)])
    move = fields["close"] / before - 1
    price = fields["close"] / fields["factor"]
    # the data comes in ticks, so that nothing is decided by rounding
    assert np.abs(price * 100 - np.round(price * 100))[used].max() < 0.02
    for at, by_move, extreme in (
        ((made.blocked_buy == LIMIT_UP) & used, (move >= 0.098) & used, fields["high"]),
        ((made.blocked_sell == LIMIT_DOWN) & used, (move <= -0.098) & used, fields["low"]),
    ):
        assert at.sum() > 600
        # a rule of thumb finds all but one, and some that were a tick or two away
        assert (at & ~by_move).sum() <= 1
        assert 1.04 < by_move.sum() / at.sum() < 1.2
        # nothing was traded beyond the limit: the close is the high, or the low, of the day
        beyond = at & (np.abs(extreme / fields["close"] - 1) > 1e-6)
        assert beyond.sum() <= 1  # one blemish of the factor each
        missed = by_move & ~at & ~wide
        # most of those that were not at the limit traded beyond their close, or closed two halves of a tick below
        further = np.abs(extreme / fields["close"] - 1) > 1e-6
        assert (further & missed).sum() > 0.85 * missed.sum()


def test_real_limits_without_a_factor_are_near_those_with_it(real):
    made, _, _, used, panel = real
    first = panel.sizes["date"] - len(used)
    plain = make_terms(CnAShare(), panel.drop_vars("factor"), slice(first, None))
    for with_it, without in ((made.blocked_buy, plain.blocked_buy), (made.blocked_sell, plain.blocked_sell)):
        at, near = np.isin(with_it, (LIMIT_UP, LIMIT_DOWN)) & used, np.isin(without, (LIMIT_UP, LIMIT_DOWN)) & used
        assert (at & near).sum() > 0.98 * at.sum()
        assert near.sum() < 1.25 * at.sum()
    assert len(plain.notes) == 3
