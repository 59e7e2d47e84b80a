from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.testing import assert_array_equal

from mimstocr.data import DataSettings, load_panel
from mimstocr.data.panel import Panel, make_panel, symbols_of
from mimstocr.data.portfolio import Portfolio, choose
from mimstocr.errors import DataError

DAYS, NAMES = 6, ["A", "B", "C", "D", "E"]
NAN = np.nan


def world(last: float = 1.0, **fields: object) -> Panel:
    """Money a day: A 10, B 40, C 30, D 20, E 50 that is no member; A is 1000 times as large from day 4 on."""
    close = np.full((DAYS, 5), 10.0)
    volume = np.tile([1.0, 4.0, 3.0, 2.0, 5.0], (DAYS, 1))
    volume[4:, 0] = 1000.0 * last
    member = np.ones((DAYS, 5), dtype=bool)
    member[:, 4] = False
    member[:2] = False
    given = {"close": close, "volume": volume, **fields}
    return make_panel(given, np.datetime64("2020-01-01") + np.arange(DAYS), NAMES, source="test", member=member)


def test_the_largest_members_of_the_day_in_the_panels_order() -> None:
    chosen = choose(world(), Portfolio(day=date(2020, 1, 4), n=2))
    assert symbols_of(chosen) == ["B", "C"]
    # members wherever they have a price, also before they were in the universe
    assert chosen["member"].values.all()
    assert chosen.attrs["notes"][-1] == (
        "portfolio of 2 of 4 members, by mean dollar volume of the 60 days up to 2020-01-04: B, C"
    )
    assert not chosen["close"].values.flags.writeable


def test_larger_ones_can_be_passed_over() -> None:
    chosen = choose(world(), Portfolio(day=date(2020, 1, 4), n=2, skip=1))
    assert symbols_of(chosen) == ["C", "D"]
    assert "the 1 largest passed over" in chosen.attrs["notes"][-1]


@pytest.mark.parametrize("last", [1.0, 0.0, 1e6])
def test_nothing_after_the_day_is_looked_at(last: float) -> None:
    assert symbols_of(choose(world(last), Portfolio(day=date(2020, 1, 4), n=2))) == ["B", "C"]


def test_the_mean_is_over_the_days_asked_for() -> None:
    assert symbols_of(choose(world(), Portfolio(day=date(2020, 1, 5), n=1, days=1))) == ["A"]
    # (10 x 4 + 10000) / 5 is larger than 40, too; over five days A is (4 x 10 + 100) / 5 = 28 with a tenth of a rise
    assert symbols_of(choose(world(0.01), Portfolio(day=date(2020, 1, 5), n=1, days=5))) == ["B"]


def test_a_day_without_trade_is_the_last_one_before_it() -> None:
    panel = world().isel(date=[0, 1, 2, 5])  # 2020-01-06 comes after 2020-01-03
    chosen = choose(panel, Portfolio(day=date(2020, 1, 5), n=2))
    assert "up to 2020-01-03" in chosen.attrs["notes"][-1]


def test_a_stock_without_a_price_on_the_day_is_not_chosen_and_gaps_count_in_no_mean() -> None:
    close = np.full((DAYS, 5), 10.0)
    close[3, 1] = NAN
    volume = np.tile([1.0, 4.0, 3.0, 2.0, 5.0], (DAYS, 1))
    volume[3, 1] = NAN
    assert symbols_of(choose(world(close=close, volume=volume), Portfolio(day=date(2020, 1, 4), n=2))) == ["C", "D"]
    later = choose(world(close=close, volume=volume), Portfolio(day=date(2020, 1, 5), n=2, days=3))
    assert symbols_of(later) == ["B", "C"]  # a mean of two days, no third of them
    assert_array_equal(later["member"].values[:, 0], [True, True, True, False, True, True])


def test_by_market_value() -> None:
    value = np.tile([5.0, 1.0, 2.0, 3.0, 9.0], (DAYS, 1))
    by = Portfolio(day=date(2020, 1, 4), n=2, by="market_value")
    assert symbols_of(choose(world(market_value=value), by)) == ["A", "D"]
    with pytest.raises(DataError, match=r"data\.portfolio\.by: test has no market value; set it to dollar_volume"):
        choose(world(), by)


def test_bad_wishes() -> None:
    with pytest.raises(DataError, match=r"2021-01-01 lies outside test, which has 2020-01-01 to 2020-01-06"):
        choose(world(), Portfolio(day=date(2021, 1, 1)))
    with pytest.raises(DataError, match=r"2019-12-31 lies outside"):
        choose(world(), Portfolio(day=date(2019, 12, 31)))
    with pytest.raises(
        DataError, match=r"asks for 50 stocks after 0, but 4 members have a dollar volume on 2020-01-04"
    ):
        choose(world(), Portfolio(day=date(2020, 1, 4)))


def test_the_fifty_largest_of_csi_300(csi300: Path) -> None:
    settings = DataSettings(
        source=f"qlib:{csi300}", universe="csi300", portfolio=Portfolio(day=date(2016, 12, 31), n=50)
    )
    panel = load_panel(settings)
    assert panel.sizes["symbol"] == 50
    assert "up to 2016-12-30" in panel.attrs["notes"][-1]
    early = load_panel(
        settings.model_copy(update={"end": date(2016, 12, 30)}).model_copy(
            update={"portfolio": Portfolio(day=date(2016, 12, 30), n=50)}
        )
    )
    assert symbols_of(early) == symbols_of(panel)


def test_it_can_be_written_in_yaml() -> None:
    """A key `on` would be read as true there."""
    read = yaml.safe_load("portfolio: {day: 2016-12-31, n: 3, skip: 1, by: market_value, days: 5}")
    assert DataSettings(**read).portfolio == Portfolio(day=date(2016, 12, 31), n=3, skip=1, by="market_value", days=5)
