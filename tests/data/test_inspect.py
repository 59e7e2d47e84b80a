"""The account of a panel, and writing it out."""

import json
from dataclasses import asdict

import numpy as np
import polars as pl
import pytest

from mimstocr.data import DataSettings, inspect_panel, load_panel, make_panel, write_long
from mimstocr.data.panel import fingerprint
from mimstocr.errors import DataError

NAN = np.nan
DATES = np.array(["2020-01-02", "2020-01-03", "2020-01-06", "2020-01-17", "2020-01-20"], dtype="datetime64[D]")


def world(**options):
    """Five days, three stocks: A doubles after a suspension, B halves and more, C is never a member."""
    close = np.array([[10, 8, 1], [10, 8, NAN], [10, 3, 4], [21, 3, 4], [21, 0, 4]], dtype=float)
    volume = np.array([[5, 5, 5], [5, 5, NAN], [0, 5, 5], [5, 5, 5], [5, 5, 5]], dtype=float)
    vwap = np.array([[10, NAN, 1], [10, 8, NAN], [10, 3, NAN], [21, 3, 4], [21, 0, 4]], dtype=float)
    member = np.array([[True, True, False]] * 5)
    member[0, 0] = False
    options = {"member": member, "max_dropped": 0.5, "notes": ["hand-made"], **options}
    fields = {"close": close, "volume": volume, "vwap": vwap}
    return make_panel(fields, DATES, ["A", "B", "C"], source="hand", **options)


def test_every_number_of_the_account():
    seen = inspect_panel(world())
    assert (seen.source, seen.first_day, seen.last_day) == ("hand", "2020-01-02", "2020-01-20")
    assert (seen.days, seen.symbols) == (5, 3)
    # members a day: B alone, both, both, both, and A alone, as B's last row is dropped
    assert (seen.members_min, seen.members_median, seen.members_max) == (1, 2.0, 2)
    assert seen.member_days == 8
    assert seen.missing == {"close": 0.0, "vwap": 1 / 8, "volume": 0.0}
    assert (seen.untradable, seen.untradable_share) == (1, 1 / 8)
    assert seen.dropped == {"price infinite or not above zero": 1}
    assert seen.notes == ["hand-made"]
    assert seen.fingerprint == fingerprint(world())


def test_changes_are_measured_between_tradable_closes():
    seen = inspect_panel(world())
    # A: 10 on the 3rd, suspended on the 6th, 21 on the 17th; B: 8 to 3; C: 1, no row, 4
    assert seen.extreme_changes == 3
    assert seen.largest_changes == [
        ("C", "2020-01-06", 3.0, "2020-01-02"),
        ("A", "2020-01-17", pytest.approx(1.1), "2020-01-03"),
        ("B", "2020-01-06", -0.625, "2020-01-03"),
    ]


def test_only_the_five_largest_changes_are_listed():
    factors = np.array([2, 1, 3, 1, 4, 1, 5, 1, 6, 1, 7.0])
    dates = np.arange(11).astype("datetime64[D]")
    seen = inspect_panel(make_panel({"close": factors[:, None]}, dates, ["A"], source="hand"))
    expected = [r for r in factors[1:] / factors[:-1] - 1 if abs(r) > 0.5]
    assert seen.extreme_changes == len(expected)
    assert [change.change for change in seen.largest_changes] == pytest.approx(sorted(expected)[::-1][:5])


def test_gaps_are_more_than_ten_calendar_days():
    assert inspect_panel(world()).gaps == [("2020-01-06", "2020-01-17", 11)]
    dates = np.array(["2020-01-01", "2020-01-11", "2020-01-22"], dtype="datetime64[D]")
    seen = inspect_panel(make_panel({"close": np.ones((3, 1))}, dates, ["A"], source="hand"))
    assert seen.gaps == [("2020-01-11", "2020-01-22", 11)]


def test_the_account_is_plain_data():
    assert json.loads(json.dumps(asdict(inspect_panel(world()))))["missing"]["vwap"] == 1 / 8


def test_a_panel_without_members_has_no_shares():
    seen = inspect_panel(world(member=np.zeros((5, 3), dtype=bool)))
    assert seen.member_days == 0
    assert np.isnan(seen.untradable_share)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_written_panel_reads_back_with_its_benchmark_and_masks(tmp_path, kind):
    member = np.ones((5, 3), dtype=bool)
    member[2:4, 0] = False
    tradable = np.ones((5, 3), dtype=bool)
    tradable[1, 1] = False
    index = np.array([100.5, NAN, 102.25, 103, 104])
    panel = world(member=member, tradable=tradable, benchmark=index, benchmark_name="IDX")
    path = tmp_path / f"panel.{kind}"
    write_long(panel, path)
    again = load_panel(DataSettings(source=f"{kind}:{path}", benchmark="IDX"))
    assert again.equals(panel)
    assert fingerprint(again) == fingerprint(panel)
    assert load_panel(DataSettings(source=f"{kind}:{path}")).equals(panel.drop_vars("benchmark"))


def test_a_written_panel_is_sorted_and_complete(tmp_path):
    write_long(world(benchmark=np.ones(5), benchmark_name="IDX"), tmp_path / "panel.parquet")
    table = pl.read_parquet(tmp_path / "panel.parquet")
    assert table.columns == ["date", "symbol", "close", "vwap", "volume", "member", "tradable"]
    assert table.equals(table.sort("date", "symbol"))
    assert len(table) == 15 - 1 - 1 + 5  # a missing and a dropped row; the benchmark's days
    assert table["vwap"].null_count() == 2 + 5
    assert not table.filter(symbol="IDX")["member"].any()


def test_nothing_is_written_over_and_nothing_half_written(tmp_path, monkeypatch):
    path = tmp_path / "panel.csv"
    path.write_text("mine")
    with pytest.raises(DataError, match="exists already and is not written over"):
        write_long(world(), path)
    assert path.read_text() == "mine"
    with pytest.raises(DataError, match=r"expected a name that ends in .parquet or .csv, got '.xlsx'"):
        write_long(world(), tmp_path / "panel.xlsx")
    with pytest.raises(DataError, match=r"the folder .* does not exist"):
        write_long(world(), tmp_path / "no" / "panel.csv")

    def fails(self, file):
        file.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", fails)
    with pytest.raises(OSError, match="disk full"):
        write_long(world(), tmp_path / "panel.parquet")
    assert [file.name for file in tmp_path.iterdir()] == ["panel.csv"]


def test_bars_within_the_day_are_told_with_their_time():
    times = np.array(["2020-01-02T10", "2020-01-02T11", "2020-01-15T10"], dtype="datetime64[h]")
    found = inspect_panel(make_panel({"close": np.array([[1.0], [2.0], [2.0]])}, times, ["A"], source="hand"))
    assert (found.first_day, found.last_day, found.days) == ("2020-01-02 10:00", "2020-01-15 10:00", 3)
    assert found.gaps == [("2020-01-02 11:00", "2020-01-15 10:00", 13)]
    assert found.largest_changes == [("A", "2020-01-02 11:00", 1.0, "2020-01-02 10:00")]
