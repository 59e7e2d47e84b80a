"""What training stands on: nothing of a later split reaches an earlier one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mimstocr.config import Config
from mimstocr.errors import ConfigError
from mimstocr.training.prepare import prepare, resolve_device

Make = Callable[..., Config]


def test_labels_end_inside_their_split(small: Make) -> None:
    prepared = prepare(small(tasks={"return": {"kind": "return", "delay": 1, "horizon": 3}}))
    label = prepared.labels["return"]
    for split in prepared.splits:
        assert np.isfinite(label[split.labelled]).any(axis=1).all()
        assert np.isnan(label[split.labelled.stop : split.days.stop]).all()
        assert split.days.stop - split.labelled.stop == 4
    assert max(prepared.train_days) + 4 < prepared.splits.valid.days.start + 1


def test_prices_after_a_split_change_nothing_in_it(small: Make, prices: Path, tmp_path: Path) -> None:
    """Constants, windows and targets of the training days, with everything later scrambled."""
    config = small(balancer={"kind": "cqb", "indicator": "meta"})
    one = prepare(config)
    table = pl.read_parquet(prices)
    cut = one.splits.train.last
    rng = np.random.default_rng(1)
    fields = ["open", "high", "low", "close", "volume"]
    noise = rng.uniform(0.5, 2.0, table.height)
    scrambled = table.with_columns(
        pl.when(pl.col("date") > cut).then(pl.col(name) * noise).otherwise(pl.col(name)).alias(name) for name in fields
    )
    scrambled.write_parquet(tmp_path / "scrambled.parquet")
    two = prepare(
        small(balancer=config.balancer.model_dump(), data={"source": f"parquet:{tmp_path / 'scrambled.parquet'}"})
    )
    for name, constant in one.fitted.constants().items():
        assert np.array_equal(constant, two.fitted.constants()[name])
    assert one.train_days == two.train_days
    for day in one.train_days + (one.indicator_days or []):
        a, b = one.batches([day]), two.batches([day])
        assert a.x.equal(b.x)
        for task in a.targets:
            assert np.array_equal(a.targets[task].numpy(), b.targets[task].numpy(), equal_nan=True)


def test_meta_days_do_not_overlap_the_training_days(small: Make) -> None:
    prepared = prepare(small(balancer={"kind": "cqb", "indicator": "meta"}))
    assert prepared.indicator_days is not None
    whole = prepare(small()).train_days
    assert len(prepared.indicator_days) == round(0.1 * len(whole))
    assert max(prepared.train_days) + prepared.config.reach < min(prepared.indicator_days)


def test_stl_leaves_the_other_tasks_out(small: Make) -> None:
    prepared = prepare(small(balancer="stl"))
    assert list(prepared.learned) == ["return"]
    assert list(prepared.labels) == ["return", "momentum"]


def test_momentum_alone_ranks_by_expected_relevance(small: Make) -> None:
    prepared = prepare(small(balancer={"kind": "stl", "task": "momentum"}))
    assert prepared.main == "momentum"
    assert prepared.learned["momentum"].reach == 2  # where the return label ends


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert resolve_device("auto").type == "cpu"
    with pytest.raises(ConfigError, match="0 CUDA devices"):
        resolve_device("cuda:1")
    with pytest.raises(ConfigError, match="got 'gpu'"):
        resolve_device("gpu")
    with pytest.raises(ConfigError, match="got 'meta'"):
        resolve_device("meta")
