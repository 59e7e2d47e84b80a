"""The door of the Panel."""

from datetime import date, datetime

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mimstocr.data.panel import (
    day_text,
    days_of,
    few,
    fingerprint,
    lacking,
    last_known,
    make_panel,
    place_of,
    repeated,
    resolved,
    span_of,
    symbols_of,
    traded_money,
    usable,
    within_day,
)
from mimstocr.errors import DataError

DATES = np.array(["2020-01-02", "2020-01-03", "2020-01-06"], dtype="datetime64[D]")
NAN = np.nan


def close(**cells):
    """(3, 2) closes 1..6; `r0c1=...` sets one."""
    values = np.arange(1.0, 7.0).reshape(3, 2)
    for place, value in cells.items():
        values[int(place[1]), int(place[3])] = value
    return values


def panel(fields=None, **options):
    options = {"source": "test", "max_dropped": 1.0, **options}
    return make_panel(fields or {"close": close()}, DATES, ["A", "B"], **options)


def test_values_days_and_symbols_come_through():
    made = panel({"close": close(), "volume": close() * 100})
    assert list(days_of(made)) == list(DATES)
    assert symbols_of(made) == ["A", "B"]
    np.testing.assert_array_equal(made["close"].values, close().astype(np.float32))
    assert made["close"].dtype == np.float32
    assert made["member"].values.all()
    assert made["tradable"].values.all()
    assert made.attrs == {
        "source": "test", "days_per_year": 252, "benchmark_name": None, "real_shares": None, "dropped": {}, "notes": [],
    }  # fmt: skip


def test_the_panel_is_read_only_and_shares_nothing_with_its_maker():
    given = close()
    made = panel({"close": given}, benchmark=np.ones(3), benchmark_name="I")
    for name in ("close", "member", "tradable", "benchmark"):
        with pytest.raises(ValueError, match="read-only"):
            made[name].values[...] = 0
    given[:] = 99
    assert made["close"].values[0, 0] == 1


def test_a_day_without_volume_or_price_is_not_tradable():
    volume = np.array([[1.0, 0.0], [NAN, 1.0], [1.0, 1.0]])
    made = panel({"close": close(r2c0=NAN), "volume": np.where(np.isnan(close(r2c0=NAN)), NAN, volume)})
    assert made["tradable"].values.tolist() == [[True, False], [False, True], [False, True]]
    assert made["member"].values.tolist() == [[True, True], [True, True], [False, True]]
    assert usable(made).tolist() == [[True, False], [False, True], [False, True]]


def test_membership_needs_a_close_and_tradable_can_only_be_narrowed():
    member = np.array([[True, False]] * 3)
    tradable = np.array([[True, True], [False, True], [True, True]])
    made = panel({"close": close(r0c0=NAN), "volume": close(r0c0=NAN, r2c1=0.0)}, member=member, tradable=tradable)
    assert made["member"].values.tolist() == [[False, False], [True, False], [True, False]]
    assert made["tradable"].values.tolist() == [[False, True], [False, True], [True, False]]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"close": close(r1c0=0.0)}, "price infinite or not above zero"),
        ({"close": close(r1c0=-1.0)}, "price infinite or not above zero"),
        ({"close": close(), "open": close(r1c0=np.inf)}, "price infinite or not above zero"),
        ({"close": close(), "high": close(), "low": close(r1c0=3.001)}, "low above high"),
        ({"close": close(), "volume": close(r1c0=-5.0)}, "volume infinite or negative"),
        ({"close": close(), "volume": close(r1c0=np.inf)}, "volume infinite or negative"),
        ({"close": close(r1c0=NAN), "open": close()}, "no close"),
    ],
)
def test_an_impossible_row_is_dropped_whole_and_counted(fields, reason):
    made = panel(fields)
    assert made.attrs["dropped"] == {reason: 1}
    for name in fields:
        expected = fields[name].astype(np.float32)
        expected[1, 0] = NAN
        np.testing.assert_array_equal(made[name].values, expected)
    assert not made["member"].values[1, 0]
    assert not made["tradable"].values[1, 0]


def test_a_row_with_two_faults_is_counted_once_and_rounding_is_no_fault():
    made = panel({"close": close(r0c0=-1.0), "volume": close(r0c0=-1.0)})
    assert made.attrs["dropped"] == {"price infinite or not above zero": 1}
    assert panel({"close": close(), "high": close(), "low": close() * (1 + 5e-5)}).attrs["dropped"] == {}


def test_too_much_dropped_is_refused_with_the_account():
    bad = {"close": close(r0c0=-1.0, r1c1=NAN), "open": close()}
    said = r"test: 2 of 6 rows \(33.3%\) cannot be used \(price infinite or not above zero: 1, no close: 1\); "
    with pytest.raises(DataError, match=said):
        panel(bad, max_dropped=0.05)
    assert panel(bad, max_dropped=2 / 6).attrs["dropped"]["no close"] == 1


def test_what_the_source_dropped_counts_too():
    with pytest.raises(DataError, match=r"4 of 10 rows \(40.0%\).*unreadable: 4"):
        panel(dropped={"unreadable": 4}, max_dropped=0.39)
    assert panel(dropped={"unreadable": 4}, max_dropped=0.4).attrs["dropped"] == {"unreadable": 4}


def test_the_benchmark_is_checked():
    made = panel(benchmark=np.array([3000.0, -1.0, NAN]), benchmark_name="IDX")
    np.testing.assert_array_equal(made["benchmark"].values, np.array([3000, NAN, NAN], dtype=np.float32))
    assert made.attrs["notes"] == ["benchmark IDX has no close on 2 of 3 days"]
    with pytest.raises(DataError, match="benchmark 'IDX' has no close between 2020-01-02 and 2020-01-06"):
        panel(benchmark=np.full(3, NAN), benchmark_name="IDX")
    with pytest.raises(DataError, match="benchmark 'B' is also a stock of the panel"):
        panel(benchmark=np.ones(3), benchmark_name="B")
    with pytest.raises(DataError, match=r"benchmark has shape \(2,\)"):
        panel(benchmark=np.ones(2), benchmark_name="IDX")


@pytest.mark.parametrize(
    ("fields", "dates", "symbols", "said"),
    [
        ({"open": close()}, DATES, ["A", "B"], r"expected a close, got fields \['open'\]"),
        ({"close": close(), "bid": close()}, DATES, ["A", "B"], "unknown field 'bid'; known: open"),
        ({"close": close().T}, DATES, ["A", "B"], r"'close' has shape \(2, 3\), expected .* \(3, 2\)"),
        ({"close": close()[:0]}, DATES[:0], ["A", "B"], "got 0 days and 2 symbols"),
        ({"close": close()}, DATES[[0, 2, 1]], ["A", "B"], "2020-01-03 follows 2020-01-06"),
        ({"close": close()}, DATES[[0, 1, 1]], ["A", "B"], "2020-01-03 follows 2020-01-03"),
        ({"close": close()}, np.array([*DATES[:2], "NaT"], dtype="M8[D]"), ["A", "B"], "a date is missing"),
        ({"close": close()}, np.array([*DATES[:2], "9999-12-31"], dtype="M8[D]"), ["A", "B"], "got 9999-12-31"),
        ({"close": close()}, DATES, ["A", "A"], "symbol A comes twice"),
        ({"close": np.full((3, 2), NAN)}, DATES, ["A", "B"], "no usable row is left"),
    ],
)
def test_a_bad_shape_is_refused(fields, dates, symbols, said):
    with pytest.raises(DataError, match=said):
        make_panel(fields, dates, symbols, source="test")


def test_masks_of_another_shape_are_refused():
    for name in ("member", "tradable"):
        with pytest.raises(DataError, match=rf"{name} has shape \(2,\), expected"):
            panel(**{name: np.array([True, False])})


def test_the_fingerprint_follows_every_value():
    base = fingerprint(panel())
    assert fingerprint(panel()) == base
    assert fingerprint(panel({"close": close(r2c1=6.5)})) != base
    assert fingerprint(panel({"close": close(), "open": close()})) != base
    assert fingerprint(panel(member=np.eye(3, 2, dtype=bool))) != base
    assert fingerprint(panel(benchmark=np.ones(3), benchmark_name="I")) != base
    assert fingerprint(make_panel({"close": close()}, DATES, ["A", "C"], source="test")) != base
    assert fingerprint(make_panel({"close": close()}, DATES + 1, ["A", "B"], source="test")) != base
    assert fingerprint(panel(notes=["other"], source="elsewhere")) == base


def test_words():
    assert few(["a", "b"]) == "a, b"
    assert few(list("abcdefg")) == "a, b, c, d, e and 2 more"
    assert repeated(["b", "a", "b", "c", "a"]) == ["a", "b"]
    assert lacking(["close", "volume", "open", "high", "low", "vwap"]) == []
    assert lacking(["close"])[0] == "fields the source lacks: open, high, low, vwap, volume"
    assert "every day with a close counts as tradable" in lacking(["close"])[1]


def test_last_known_looks_back_and_never_ahead():
    close = np.array([[np.nan, 1.0], [2.0, np.nan], [np.nan, np.nan], [3.0, 4.0]], dtype=np.float32)
    found = last_known(close)
    assert_array_equal(found, [[np.nan, 1], [2, 1], [2, 1], [3, 4]])
    assert found.dtype == np.float32


def test_traded_money_of_volumes_that_are_adjusted_and_of_real_shares():
    factor = np.array([[2.0, 1.0], [2.0, 1.0], [4.0, 1.0]])
    real = np.array([[100.0, 30.0], [50.0, 0.0], [75.0, NAN]])
    adjusted = real / (factor * 1.1)
    prices = {"close": close(), "factor": factor}
    expected = close() / factor * real
    made = panel({**prices, "volume": real})
    assert_array_equal(traded_money(made), np.where(np.isnan(expected), NAN, expected))
    np.testing.assert_allclose(traded_money(panel({**prices, "volume": adjusted})), close() * adjusted, rtol=1e-6)
    np.testing.assert_allclose(traded_money(panel({"close": close(), "volume": real})), close() * real, rtol=1e-6)
    with pytest.raises(DataError, match="expected a volume"):
        traded_money(panel({"close": close()}))


def test_real_data_counts_real_shares(csi300):
    from mimstocr.data import DataSettings, load_panel

    made = load_panel(DataSettings(source=f"qlib:{csi300}", universe="csi300", start="2020-12-01", end="2020-12-31"))
    money = np.nansum(np.where(made["member"].values, traded_money(made), 0), axis=1)
    # the index's stocks traded a few hundred billion yuan a day in December 2020
    assert ((money > 1e11) & (money < 6e11)).all()


HOURS = np.arange("2020-01-02T00", "2020-01-04T00", 6, dtype="datetime64[h]")
"""Four bars on each of two days."""


def hourly(**options):
    return make_panel({"close": np.ones((8, 1))}, HOURS, ["A"], **{"source": "test", "days_per_year": 1461, **options})


def test_bars_within_the_day_keep_their_time():
    made = hourly()
    days = days_of(made)
    assert days.dtype == "datetime64[ms]"
    assert within_day(days)
    assert_array_equal(days, HOURS)
    assert made["date"].dtype == "datetime64[ns]"
    assert made.attrs["notes"] == [
        "bars within the day, 360 minutes from one to the next: every day that is counted is one such bar"
    ]
    told = hourly(days_per_year=252).attrs["notes"][1]
    assert told.startswith("there are about 1,461 bars a year, but data.days_per_year is 252")


@pytest.mark.parametrize("unit", ["D", "s", "ms", "ns"])
def test_dates_without_a_time_of_day_are_days(unit):
    made = make_panel({"close": close()}, DATES.astype(f"datetime64[{unit}]"), ["A", "B"], source="test")
    assert days_of(made).dtype == "datetime64[D]"
    assert not within_day(days_of(made))
    assert made.attrs["notes"] == []
    assert fingerprint(made) == fingerprint(panel())


def test_resolved_is_the_same_for_a_panel_and_a_table():
    assert resolved(HOURS.astype("datetime64[ns]")).dtype == resolved(HOURS.astype("datetime64[us]")).dtype
    assert resolved(HOURS[:1]).dtype == "datetime64[D]"


def test_times_finer_than_a_millisecond_or_out_of_order_are_refused():
    finer = HOURS.astype("datetime64[us]") + np.timedelta64(1, "us")
    with pytest.raises(DataError, match=r"expected times to the millisecond, got 2020-01-02T00:00:00\.000001"):
        make_panel({"close": np.ones((8, 1))}, finer, ["A"], source="test")
    with pytest.raises(DataError, match="days must increase"):
        make_panel({"close": np.ones((8, 1))}, HOURS[::-1], ["A"], source="test")


def test_a_day_stands_for_all_of_its_bars():
    days = resolved(HOURS)
    assert span_of(days, date(2020, 1, 2), date(2020, 1, 2)) == slice(0, 4)
    assert span_of(days, np.datetime64("2020-01-03"), date(2020, 1, 9)) == slice(4, 8)
    assert span_of(days, HOURS[1], HOURS[5]) == slice(1, 6)
    assert span_of(days, datetime(2020, 1, 2, 5), datetime(2020, 1, 3, 5)) == slice(1, 5)
    assert place_of(days, date(2020, 1, 2)) == 3
    assert place_of(days, datetime(2020, 1, 2, 12)) == 2
    assert place_of(days, datetime(2020, 1, 2, 13)) is None
    assert place_of(days, date(2020, 1, 4)) is None
    assert place_of(days, date(2019, 1, 4)) is None


def test_of_days_the_time_of_day_does_not_matter():
    assert span_of(DATES, datetime(2020, 1, 3, 15), datetime(2020, 1, 3, 9)) == slice(1, 2)
    assert place_of(DATES, datetime(2020, 1, 3, 15)) == 1
    assert place_of(DATES, date(2020, 1, 4)) is None


def test_days_and_times_in_words():
    assert day_text(DATES[0]) == "2020-01-02"
    assert day_text(resolved(HOURS)[0]) == "2020-01-02 00:00"
    assert day_text(np.datetime64("2020-01-02T05:30:10", "ms")) == "2020-01-02 05:30:10"
