"""All registries, by the name of their family."""

from __future__ import annotations

from typing import Any

from mimstocr.agents import AGENTS
from mimstocr.backbones import BACKBONES
from mimstocr.backtest import MARKETS, STRATEGIES
from mimstocr.balancing import BALANCERS
from mimstocr.components import Registry
from mimstocr.data import SOURCES
from mimstocr.features import FEATURES
from mimstocr.losses import LOSSES
from mimstocr.sharing import SHARINGS
from mimstocr.studies.exhibits import EXHIBITS
from mimstocr.tasks import TASKS


def families() -> dict[str, Registry[Any]]:
    """Family to registry, in the order of the way through."""
    return {
        "sources": SOURCES,
        "features": FEATURES,
        "tasks": TASKS,
        "losses": LOSSES,
        "backbones": BACKBONES,
        "sharing": SHARINGS,
        "balancers": BALANCERS,
        "agents": AGENTS,
        "strategies": STRATEGIES,
        "markets": MARKETS,
        "exhibits": EXHIBITS,
    }
