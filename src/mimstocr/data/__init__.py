"""Where prices come from, and what a Panel is.

A *source* reads one kind of place and gives a Panel. It is named by an address, `scheme:place`, such as
`qlib:~/.qlib/qlib_data/cn_data` or `csv:prices.csv`.
"""

from mimstocr.data.inspect import Inspection, inspect_panel, write_long
from mimstocr.data.panel import Panel, make_panel
from mimstocr.data.settings import DataSettings
from mimstocr.data.sources import SOURCES, load_panel
from mimstocr.data.splits import Splits, SplitSettings, resolve_splits
from mimstocr.data.tables import panel_from_frame

__all__ = [
    "SOURCES",
    "DataSettings",
    "Inspection",
    "Panel",
    "SplitSettings",
    "Splits",
    "inspect_panel",
    "load_panel",
    "make_panel",
    "panel_from_frame",
    "resolve_splits",
    "write_long",
]
