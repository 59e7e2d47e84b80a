"""Where prices come from, and what a Panel is.

A *source* reads one kind of place and gives a Panel. It is named by an address, `scheme:place`, such as
`qlib:~/.qlib/qlib_data/cn_data` or `csv:prices.csv`.
"""

from mimstocr.data.panel import Panel, make_panel
from mimstocr.data.settings import DataSettings
from mimstocr.data.sources import SOURCES, load_panel

__all__ = ["SOURCES", "DataSettings", "Panel", "load_panel", "make_panel"]
