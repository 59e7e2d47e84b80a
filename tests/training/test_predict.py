"""Predictions: batched equals one by one, and the future is of no matter."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mimstocr.config import Config
from mimstocr.training.predict import predict
from mimstocr.training.prepare import prepare
from mimstocr.workflow import fresh_model

Make = Callable[..., Config]


def test_batched_equals_one_by_one(small: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare(small())
    model = fresh_model(prepared, 0)
    days = prepared.valid_days
    whole = predict(model, prepared.learned, prepared.batches, days, 12)
    monkeypatch.setattr("mimstocr.training.predict.ROWS_AT_ONCE", 1)
    single = predict(model, prepared.learned, prepared.batches, days, 12)
    for name in prepared.learned:
        np.testing.assert_allclose(whole.outputs[name], single.outputs[name], atol=1e-6)
        np.testing.assert_allclose(whole.scores[name], single.scores[name], atol=1e-4)
    np.testing.assert_allclose(whole.losses, single.losses, rtol=1e-5)
    known = ~np.isnan(whole.scores["return"])
    assert np.array_equal(known, prepared.rows[days])
    assert model.training  # left as it was


def test_scores_ignore_the_future(small: Make, prices: Path, tmp_path: Path) -> None:
    """The same weights on prices that differ after day t give the same scores up to day t."""
    one = prepare(small())
    model = fresh_model(one, 0)
    t = one.splits.test.days.start + 3
    table = pl.read_parquet(prices)
    noise = np.random.default_rng(2).uniform(0.5, 2.0, table.height)
    later = pl.col("date") > one.days[t].item()
    fields = ["open", "high", "low", "close", "volume"]
    changed = table.with_columns(pl.when(later).then(pl.col(f) * noise).otherwise(pl.col(f)).alias(f) for f in fields)
    changed.write_parquet(tmp_path / "changed.parquet")
    two = prepare(small(data={"source": f"parquet:{tmp_path / 'changed.parquet'}"}))
    days = list(range(one.splits.valid.days.start, t + 2))
    a = predict(model, one.learned, one.batches, days, 12).scores["return"]
    b = predict(model, two.learned, two.batches, days, 12).scores["return"]
    assert np.array_equal(a[:-1], b[:-1], equal_nan=True)
    assert not np.array_equal(a[-1], b[-1], equal_nan=True)  # the day after is seen
