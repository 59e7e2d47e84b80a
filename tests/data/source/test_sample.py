"""The samples that packages carry."""

import importlib.metadata
import sys
from datetime import date

import numpy as np
import pytest

from mimstocr.data import DataSettings, inspect_panel, load_panel
from mimstocr.data.panel import days_of, symbols_of
from mimstocr.data.source import sample
from mimstocr.errors import ConfigError, DataError


def have(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


needs_us_large = pytest.mark.skipif(not have("fakestockdata"), reason="needs the extra samples (fakestockdata)")
needs_sp500 = pytest.mark.skipif(
    not have("portfolio-backtester"), reason="needs the extra samples (portfolio-backtester)"
)


def load(name, **options):
    return load_panel(DataSettings(source=f"sample:{name}", **options))


@needs_us_large
def test_us_large_is_what_its_notes_say():
    panel = load("us-large")
    assert panel.sizes == {"date": 3926, "symbol": 29, "concept": 8}
    assert "AAPL" in symbols_of(panel)
    first_row = [panel[name].sel(symbol="AA").values[0] for name in ("open", "high", "low", "close", "volume")]
    np.testing.assert_array_equal(
        first_row, np.array([13.3754, 13.4223, 13.2462, 13.3511, 2739839.602], dtype=np.float32)
    )
    seen = inspect_panel(panel)
    assert (seen.first_day, seen.last_day) == ("1998-01-02", "2013-08-09")
    assert (seen.members_min, seen.members_max, seen.untradable, seen.dropped) == (23, 29, 0, {})
    starts = {s: str(days_of(panel)[np.argmax(panel["member"].sel(symbol=s).values)]) for s in symbols_of(panel)}
    late = {symbol: day[:4] for symbol, day in starts.items() if day > "1998-02-01"}
    assert late == {"EBAY": "1998", "MET": "2000", "ZMH": "2001", "GOOG": "2004", "NYX": "2006"}
    assert starts["VRSN"] == "1998-01-30"
    assert seen.notes[: len(sample.US_LARGE_NOTES)] == list(sample.US_LARGE_NOTES)


@needs_sp500
def test_sp500_is_what_its_notes_say():
    panel = load("sp500")
    assert panel.sizes == {"date": 3807, "symbol": 503}
    seen = inspect_panel(panel)
    assert (seen.first_day, seen.last_day) == ("2006-08-31", "2021-10-14")
    assert (seen.members_min, seen.members_max, seen.untradable, seen.dropped) == (423, 503, 271, {})
    assert "2 days without any price are left out: 2016-01-18, 2018-12-05" in seen.notes
    assert not {"2016-01-18", "2018-12-05"} & {str(day) for day in days_of(panel)}
    assert seen.notes[: len(sample.SP500_NOTES)] == list(sample.SP500_NOTES)
    close = panel["close"].values.astype(float)
    change = close[1:] / close[:-1] - 1
    for symbol, day, fall in (("JCI", "2007-07-02", -0.53), ("WY", "2010-07-20", -0.62), ("EXPE", "2011-12-21", -0.34)):
        at = int(np.flatnonzero(days_of(panel) == np.datetime64(day))[0])
        assert change[at - 1, symbols_of(panel).index(symbol)] == pytest.approx(fall, abs=0.005)


@needs_us_large
def test_a_sample_is_cut_and_compared_like_any_source():
    panel = load("us-large", start=date(1999, 1, 1), end=date(1999, 12, 31), benchmark="GE")
    assert panel.sizes == {"date": 252, "symbol": 24, "concept": 8}
    assert panel.attrs["benchmark_name"] == "GE"
    assert "4 symbols have no price on these days and are left out: GOOG, MET, NYX, ZMH" in panel.attrs["notes"]


def test_an_unknown_sample_names_the_close_match():
    with pytest.raises(
        ConfigError, match=r"unknown sample 'us_large'; did you mean 'us-large'\? known: sp500, us-large"
    ):
        load("us_large")


def test_columns_cannot_be_mapped_in_a_sample():
    with pytest.raises(ConfigError, match=r"data.columns is for your own tables"):
        load("us-large", columns={"close": "x"})


def test_a_missing_package_names_the_extra(monkeypatch):
    def none(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(sample, "distribution", none)
    monkeypatch.setattr(sample, "find_spec", lambda name: None)
    for name, package in (("us-large", "fakestockdata"), ("sp500", "portfolio-backtester")):
        with pytest.raises(DataError, match=rf"comes with the package {package}.*pip install 'mimstocr\[samples\]'"):
            load(name)


def test_a_package_without_its_files_names_the_extra(monkeypatch, tmp_path):
    class Emptied:
        files = None

    monkeypatch.setattr(sample, "distribution", lambda name: Emptied())
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(DataError, match=r"or lacks its files\); pip install 'mimstocr\[samples\]'"):
        load("us-large")


@needs_us_large
def test_the_files_are_found_without_the_packages_record(monkeypatch):
    class Unrecorded:
        files = None

    expected = sample._us_large_files()
    monkeypatch.setattr(sample, "distribution", lambda name: Unrecorded())
    assert [file.resolve() for file in sample._us_large_files()] == [file.resolve() for file in expected]
    assert len(expected) == 29


@needs_sp500
def test_reading_a_sample_does_not_import_its_package():
    load("sp500")
    assert "portfolio_backtester" not in sys.modules
