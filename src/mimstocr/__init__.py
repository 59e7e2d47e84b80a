"""MiM-StocR: daily prices to a ranked list of stocks, learned on several tasks at once, with honest evidence."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mimstocr.config import Config, load_config
    from mimstocr.data import DataSettings, Panel, load_panel, panel_from_frame
    from mimstocr.discovery import discover
    from mimstocr.live import Positions, positions, recommend
    from mimstocr.studies.runner import run_study
    from mimstocr.studies.show import show_study
    from mimstocr.studies.study import load_study
    from mimstocr.workflow import RunResult, evaluate, run, run_backtest, write_report

__version__ = version("mimstocr")

# torch takes a second to import: nothing of it until something that trains is asked for
_HOMES = {
    "Config": "mimstocr.config",
    "load_config": "mimstocr.config",
    "DataSettings": "mimstocr.data",
    "Panel": "mimstocr.data",
    "load_panel": "mimstocr.data",
    "panel_from_frame": "mimstocr.data",
    "discover": "mimstocr.discovery",
    "Positions": "mimstocr.live",
    "positions": "mimstocr.live",
    "recommend": "mimstocr.live",
    "load_study": "mimstocr.studies.study",
    "run_study": "mimstocr.studies.runner",
    "show_study": "mimstocr.studies.show",
    "RunResult": "mimstocr.workflow",
    "evaluate": "mimstocr.workflow",
    "run": "mimstocr.workflow",
    "run_backtest": "mimstocr.workflow",
    "write_report": "mimstocr.workflow",
}

__all__ = [
    "Config",
    "DataSettings",
    "Panel",
    "Positions",
    "RunResult",
    "discover",
    "evaluate",
    "load_config",
    "load_panel",
    "load_study",
    "panel_from_frame",
    "positions",
    "recommend",
    "run",
    "run_backtest",
    "run_study",
    "show_study",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mimstocr' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
