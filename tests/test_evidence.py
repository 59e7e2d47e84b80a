"""What is judged of a task, and that nothing is where there is nothing to judge."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from mimstocr.evidence import judge_task
from mimstocr.tasks import TASKS, Task
from mimstocr.tasks.returns import Return

DAYS, STOCKS = 6, 5
KINDS = ["return", "volume", "direction", "volatility", "regime", "momentum_line"]


def table_of(task: Task) -> pl.DataFrame:
    """Made-up predictions of a task and what came."""
    random = np.random.default_rng(0)
    day, stock = (index.ravel() for index in np.indices((DAYS, STOCKS)))
    n = len(day)
    said = task.natural(random.normal(size=(n, task.width) if task.levels else n).astype(np.float32))
    columns = {f"t.{level}": said[:, i] for i, level in enumerate(task.levels)} or {"t": said}
    came = {"level": np.arange(n) % task.width, "event": np.arange(n) % 2, "scale": random.uniform(0.01, 0.03, n)}
    label = came.get(task.target, random.normal(size=n)).astype(np.float32)
    dates = np.datetime64("2020-01-01") + day
    return pl.DataFrame({"date": dates, "symbol": [f"S{i}" for i in stock], **columns, "label.t": label})


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_without_a_label_on_these_days_has_no_samples(kind: str) -> None:
    """Its data may end before the test does, which is seen after the training."""
    task = TASKS.get(kind)()
    table = table_of(task)
    priced = "t", Return(horizon=1, delay=1)  # whose returns positions are judged on
    assert len(judge_task(table, "t", task, priced)) > 1
    nothing = table.with_columns(pl.lit(None, dtype=pl.Float32).alias("label.t"))
    assert judge_task(nothing, "t", task, priced) == {"samples": 0}
