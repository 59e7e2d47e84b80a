"""Addresses."""

import pytest

from mimstocr.data import SOURCES, DataSettings, load_panel
from mimstocr.errors import ConfigError, DataError


def test_the_built_in_sources_say_what_they_are():
    assert {"qlib", "csv", "parquet", "sample"} <= set(SOURCES.names())
    for name in SOURCES.names():
        assert len(SOURCES.summary(name)) > 20


@pytest.mark.parametrize("address", ["/data/prices", "prices.csv", "csv:", ""])
def test_an_address_needs_a_scheme_and_a_place(address):
    with pytest.raises(DataError, match="expected an address scheme:place"):
        load_panel(DataSettings(source=address))


def test_an_unknown_scheme_names_the_close_match():
    with pytest.raises(ConfigError, match="unknown source 'parqet'; did you mean 'parquet'"):
        load_panel(DataSettings(source="parqet:prices.parquet"))
