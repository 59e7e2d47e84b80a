"""Splits by day, exact."""

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mimstocr.components import readable
from mimstocr.data.splits import SplitSettings, labelled_days, resolve_splits
from mimstocr.errors import ConfigError

# weekdays from Thursday 2020-01-02 to Wednesday 2020-01-29, 20 days
DAYS = np.array([d for d in np.arange("2020-01-02", "2020-01-30", dtype="M8[D]") if np.is_busday(d)])


def asked(*texts):
    days = [date.fromisoformat(text) for text in texts]
    return SplitSettings(train=(days[0], days[1]), valid=(days[2], days[3]), test=(days[4], days[5]))


def test_without_dates_the_days_are_cut_60_20_20():
    splits = resolve_splits(SplitSettings(), DAYS, reach=2)
    assert [(s.name, s.first, s.last, s.days, s.labelled) for s in splits] == [
        ("train", date(2020, 1, 2), date(2020, 1, 17), slice(0, 12), slice(0, 10)),
        ("valid", date(2020, 1, 20), date(2020, 1, 23), slice(12, 16), slice(12, 14)),
        ("test", date(2020, 1, 24), date(2020, 1, 29), slice(16, 20), slice(16, 18)),
    ]


def test_dates_are_inclusive_and_need_not_be_trading_days():
    settings = asked("2020-01-01", "2020-01-12", "2020-01-13", "2020-01-19", "2020-01-22", "2020-02-02")
    splits = resolve_splits(settings, DAYS, reach=1)
    assert [(s.first, s.last, s.days, s.labelled) for s in splits] == [
        (date(2020, 1, 2), date(2020, 1, 10), slice(0, 7), slice(0, 6)),
        (date(2020, 1, 13), date(2020, 1, 17), slice(7, 12), slice(7, 11)),
        (date(2020, 1, 22), date(2020, 1, 29), slice(14, 20), slice(14, 19)),
    ]
    assert splits.valid.name == "valid"


def test_days_come_in_any_unit():
    assert resolve_splits(SplitSettings(), DAYS.astype("M8[ns]"), 1) == resolve_splits(SplitSettings(), DAYS, 1)


@given(n=st.integers(5, 400), reach=st.integers(0, 6))
def test_no_label_leaves_its_split(n, reach):
    days = np.arange(n).astype("M8[D]")
    shortest = min(n * 60 // 100, n * 80 // 100 - n * 60 // 100, n - n * 80 // 100)
    if shortest <= reach:
        with pytest.raises(ConfigError, match="choose more"):
            resolve_splits(SplitSettings(), days, reach)
        return
    splits = resolve_splits(SplitSettings(), days, reach)
    covered = []
    for split in splits:
        inside = list(range(n))[split.days]
        covered += inside
        ends = [day + reach for day in list(range(n))[split.labelled]]
        assert ends
        assert ends == inside[reach:]
    assert covered == list(range(n))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"train": ["2020-01-01", "2020-01-31"]}, "train given without valid, test; give all three splits, or none"),
        (
            {
                "train": ["2020-01-01", "2020-02-01"],
                "valid": ["2020-02-01", "2020-03-01"],
                "test": ["2020-04-01", "2020-05-01"],
            },
            "valid starts on 2020-02-01, but train ends on 2020-02-01; expected train before valid before test",
        ),
        (
            {
                "train": ["2020-01-01", "2020-01-31"],
                "valid": ["2020-04-01", "2020-05-01"],
                "test": ["2020-02-01", "2020-03-01"],
            },
            "test starts on 2020-02-01, but valid ends on 2020-05-01",
        ),
        (
            {
                "train": ["2020-01-31", "2020-01-01"],
                "valid": ["2020-02-01", "2020-03-01"],
                "test": ["2020-04-01", "2020-05-01"],
            },
            "train ends on 2020-01-01, before it starts on 2020-01-31",
        ),
    ],
)
def test_splits_out_of_order_are_refused_when_the_settings_are_made(raw, said):
    with pytest.raises(ValidationError) as caught:
        SplitSettings(**raw)
    error = readable(caught.value, "splits")
    assert isinstance(error, ConfigError)
    assert said in str(error)


def test_dates_outside_the_data_name_its_range():
    inside = ("2020-01-02", "2020-01-10", "2020-01-13", "2020-01-17", "2020-01-20")
    resolve_splits(asked(*inside, "2020-02-08"), DAYS, 1)  # ten days beyond the end may be a holiday
    with pytest.raises(ConfigError, match=r"splits.test: asks for 2020-01-20 to 2020-02-09, but the data goes from"):
        resolve_splits(asked(*inside, "2020-02-09"), DAYS, 1)
    resolve_splits(asked("2019-12-23", *inside[1:], "2020-01-29"), DAYS, 1)
    with pytest.raises(ConfigError, match=r"splits.train: asks for 2019-12-22 .* from 2020-01-02 to 2020-01-29"):
        resolve_splits(asked("2019-12-22", *inside[1:], "2020-01-29"), DAYS, 1)


def test_a_split_needs_a_day_whose_label_ends_inside():
    settings = asked("2020-01-02", "2020-01-10", "2020-01-13", "2020-01-14", "2020-01-20", "2020-01-29")
    assert resolve_splits(settings, DAYS, 1).valid.labelled == slice(7, 8)
    with pytest.raises(ConfigError, match=r"splits.valid: 2 days, .* at least 3 are needed; the data has 20 days"):
        resolve_splits(settings, DAYS, 2)
    weekend = asked("2020-01-02", "2020-01-10", "2020-01-11", "2020-01-12", "2020-01-20", "2020-01-29")
    with pytest.raises(ConfigError, match=r"splits.valid: 0 days"):
        resolve_splits(weekend, DAYS, 0)


HOURS = np.arange("2020-01-01T00", "2020-01-11T00", 4, dtype="M8[h]").astype("M8[ms]")  # 6 bars on each of 10 days


def test_a_split_of_bars_has_whole_days():
    splits = resolve_splits(
        asked("2020-01-01", "2020-01-05", "2020-01-06", "2020-01-07", "2020-01-09", "2020-01-10"), HOURS, 3
    )
    assert [s.days for s in splits] == [slice(0, 30), slice(30, 42), slice(48, 60)]
    assert [s.labelled for s in splits] == [slice(0, 27), slice(30, 39), slice(48, 57)]
    assert (splits.train.last, splits.valid.first) == (date(2020, 1, 5), date(2020, 1, 6))


def test_without_dates_no_day_is_cut_in_two():
    splits = resolve_splits(SplitSettings(), HOURS[:58], 3)  # 60 % of 58 bars is within the sixth day
    assert [s.days for s in splits] == [slice(0, 30), slice(30, 42), slice(42, 58)]
    assert splits.train.last < splits.valid.first


def test_splits_may_ask_for_a_holiday_beyond_the_bars():
    late = asked("2019-12-25", "2020-01-05", "2020-01-06", "2020-01-07", "2020-01-09", "2020-01-20")
    assert resolve_splits(late, HOURS, 1).test.days == slice(48, 60)
    with pytest.raises(ConfigError, match="the data goes from 2020-01-01 to 2020-01-10"):
        resolve_splits(
            asked("2019-12-20", "2020-01-05", "2020-01-06", "2020-01-07", "2020-01-09", "2020-01-20"), HOURS, 1
        )


@given(st.integers(0, 3), st.integers(0, 2**14 - 1))
def test_labels_of_a_class_end_in_its_split_on_its_own_days(reach, bits):
    splits = resolve_splits(SplitSettings(), DAYS, reach)
    own = np.array([day for day in range(20) if day >= 14 or bits >> day & 1 or day % 6 < 5])
    counts = [np.sum((own >= s.days.start) & (own < s.days.stop)) for s in splits]
    if min(counts) < reach + 1:
        with pytest.raises(ConfigError, match="asset class coins has"):
            labelled_days(splits, own, reach, "coins")
        return
    found = labelled_days(splits, own, reach, "coins")
    for place, day in enumerate(own):
        split = next(s for s in splits if s.days.start <= day < s.days.stop)
        ends = own[place + reach] if place + reach < len(own) else 99
        assert found[place] == (ends < split.days.stop)


def test_all_days_are_labelled_as_the_splits_say():
    splits = resolve_splits(SplitSettings(), DAYS, 2)
    expected = np.zeros(20, dtype=bool)
    for split in splits:
        expected[split.labelled] = True
    assert labelled_days(splits, np.arange(20), 2).tolist() == expected.tolist()


def test_a_year_tests_the_one_before_validates_and_all_before_train() -> None:
    days = np.arange("2015-06-01", "2019-03-01", dtype="datetime64[D]")
    splits = resolve_splits(SplitSettings(test_year=2018), days, 2)
    told = [(str(split.first), str(split.last)) for split in splits]
    assert told == [("2015-06-01", "2016-12-31"), ("2017-01-01", "2017-12-31"), ("2018-01-01", "2018-12-31")]
    assert [split.labelled.stop - split.days.stop for split in splits] == [-2, -2, -2]
    by_dates = SplitSettings(
        train=(date(2015, 6, 1), date(2016, 12, 31)),
        valid=(date(2017, 1, 1), date(2017, 12, 31)),
        test=(date(2018, 1, 1), date(2018, 12, 31)),
    )
    assert resolve_splits(by_dates, days, 2) == splits


@pytest.mark.parametrize(("year", "lacks"), [(2016, "train"), (2020, "test"), (2015, "train"), (2030, "valid")])
def test_a_year_without_days_is_refused(year: int, lacks: str) -> None:
    days = np.arange("2015-06-01", "2019-03-01", dtype="datetime64[D]")
    with pytest.raises(ConfigError, match=f"test_year: {year} needs days .* leaves none to {lacks}"):
        resolve_splits(SplitSettings(test_year=year), days, 1)


def test_a_year_and_dates_are_refused() -> None:
    with pytest.raises(ValueError, match="test_year and test are both given"):
        SplitSettings(test_year=2018, test=(date(2018, 1, 1), date(2018, 12, 31)))
