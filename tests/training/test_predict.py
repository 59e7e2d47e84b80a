"""Predictions: batched equals one by one, and the future is of no matter."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

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


# ---- positions -------------------------------------------------------------------------------------------------------


def portfolio(small: Make, loss: str, **changes: object) -> Config:
    return small(
        tasks={"position": {"kind": "position", "delay": 1, "loss": loss}, "return": {"kind": "return", "delay": 1}},
        balancer="ew",
        **changes,
    )


def test_weights_and_hold_are_of_the_whole_day(small: Make) -> None:
    prepared = prepare(portfolio(small, "stock_loss"))
    model = fresh_model(prepared, 0).eval()
    days = list(range(prepared.splits.test.days.start, len(prepared.days)))
    found = predict(model, prepared.learned, prepared.batches, days, 12)
    for at, day in enumerate(days):
        batch = prepared.batches([day])
        with torch.no_grad():
            o = model(batch.x, batch.valid, batch.facts)["position"][0].double()
        total = o.abs().sum()
        symbols = batch.symbols[0].tolist()
        np.testing.assert_allclose(found.outputs["position"][at, symbols], o[:-1] / total, atol=1e-6)
        assert found.holds["position"][at] == pytest.approx(float(o[-1].abs() / total), abs=1e-6)
        others = sorted(set(range(12)) - set(symbols))
        assert np.isnan(found.scores["position"][at, others]).all()
    np.testing.assert_array_equal(found.scores["position"], found.outputs["position"])
    assert list(found.holds) == ["position"]
    sizes = np.nansum(np.abs(found.outputs["position"]), axis=1) + found.holds["position"]
    np.testing.assert_allclose(sizes, 1, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 30, 2048])
@pytest.mark.parametrize("loss", ["sharpe", "log_wealth"])
def test_an_account_is_followed_through_all_days(
    small: Make, monkeypatch: pytest.MonkeyPatch, loss: str, rows: int
) -> None:
    """However the days are cut to passes, the loss is that of one account; the other task is as ever."""
    monkeypatch.setattr("mimstocr.training.predict.ROWS_AT_ONCE", rows)
    training = {"order": "blocks", "days_per_step": 5, "device": "cpu"}
    prepared = prepare(portfolio(small, loss, training=training))
    model = fresh_model(prepared, 0).eval()
    days = prepared.valid_days
    found = predict(model, prepared.learned, prepared.batches, days, 12)

    o, d = torch.zeros(len(days), 13), torch.full((len(days), 12), float("nan"))
    plain = []
    for at, day in enumerate(days):
        batch = prepared.batches([day])
        with torch.no_grad():
            out = model(batch.x, batch.valid, batch.facts)
        symbols = batch.symbols[0].tolist()
        o[at, symbols], o[at, 12] = out["position"][0, :-1], out["position"][0, -1]
        d[at, symbols] = batch.targets["position"][0]
        plain.append(float((out["return"] - batch.targets["return"]).square().nanmean()))
    expected = prepared.learned["position"].loss(o, d, ~d.isnan()).mean()
    np.testing.assert_allclose(found.losses, [float(expected), np.mean(plain)], rtol=1e-4)
