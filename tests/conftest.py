"""Fixtures shared by the whole suite."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from mimstocr.config import Config, make_config

CSI300 = Path(os.environ.get("MIMSTOCR_CSI300", Path(__file__).resolve().parents[2] / "shared/data/csi300"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """The suite runs side by side; more threads would only get in each other's way."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def csi300() -> Path:
    """A folder of real CSI 300 data in Qlib's format; tests that need it skip without it."""
    if not (CSI300 / "calendars/day.txt").is_file():
        pytest.skip(f"no CSI 300 data at {CSI300}; set MIMSTOCR_CSI300 to a folder in Qlib's format")
    return CSI300


def price_table(n_days: int = 130, n_symbols: int = 12, seed: int = 0) -> pl.DataFrame:
    """A long table of random walks, with a suspended stock now and then."""
    rng = np.random.default_rng(seed)
    close = 20 * np.exp(np.cumsum(rng.normal(0, 0.02, (n_days, n_symbols)), axis=0))
    volume = rng.integers(1_000, 9_000, (n_days, n_symbols)).astype(float)
    quiet = rng.random((n_days, n_symbols)) < 0.01
    for t in range(1, n_days):
        close[t, quiet[t]] = close[t - 1, quiet[t]]
    volume[quiet] = 0.0
    days = np.busday_offset("2020-01-01", np.arange(n_days), roll="forward").astype("datetime64[D]")
    spread = 1 + rng.uniform(0, 0.01, close.shape)
    return pl.DataFrame(
        {
            "date": np.repeat(days, n_symbols),
            "symbol": np.tile([f"S{i:02d}" for i in range(n_symbols)], n_days),
            "open": close.ravel(),
            "high": (close * spread).ravel(),
            "low": (close / spread).ravel(),
            "close": close.ravel(),
            "volume": volume.ravel(),
        }
    )


@pytest.fixture(scope="session")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Parquet file of 130 days of 12 stocks."""
    path = tmp_path_factory.mktemp("prices") / "prices.parquet"
    price_table().write_parquet(path)
    return path


@pytest.fixture
def small(prices: Path, tmp_path: Path) -> Callable[..., Config]:
    """A config that trains in a second or two; keywords replace whole top-level settings."""

    def make(**changes: object) -> Config:
        raw: dict[str, object] = {
            "name": "small",
            "out": str(tmp_path / "runs"),
            "data": {"source": f"parquet:{prices}"},
            "features": {"kind": "alpha360", "window": 8},
            "tasks": {
                "return": {"kind": "return", "delay": 1},
                "momentum": {"kind": "momentum_line", "s": 3, "l": 2},
            },
            "backbone": {"kind": "gru", "hidden_size": 6, "num_layers": 2, "dropout": 0.2},
            "balancer": {"kind": "cqb", "window": 1},
            "training": {"learning_rate": 0.01, "max_epochs": 4, "days_per_step": 4, "device": "cpu"},
            "evaluation": {"precision_at": [2, 4], "ndcg_at": [3]},
            "backtest": {"strategy": {"kind": "top_k", "k": 3}},
        }
        return make_config({**raw, **changes})

    return make
