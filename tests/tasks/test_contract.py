"""What every registered task promises, whatever it asks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from mimstocr.data.panel import Panel, make_panel
from mimstocr.tasks import TASKS, Task
from mimstocr.tasks.returns import Return

DAYS, STOCKS = 60, 12
MAINS = {"the paper's": Return(), "tradable": Return(delay=1), "five days": Return(delay=1, horizon=5)}

SMALL = {"regime": {"history": 10}}
"""Settings under which a task has labels in so short a world."""

pytestmark = pytest.mark.parametrize(
    "task",
    [
        TASKS.get(name)(**SMALL.get(name, {})).follow(main) if name != "return" else main
        for name in TASKS.names()
        for main in MAINS.values()
    ],
    ids=["-".join(pair) for pair in itertools.product(TASKS.names(), MAINS)],
)


def panel_of(close: NDArray[np.floating], volume: NDArray[np.floating]) -> Panel:
    dates = np.datetime64("2020-01-01") + np.arange(len(close))
    fields = {"close": close, "volume": volume, "high": close * 1.02, "low": close * 0.98, "open": close}
    panel = make_panel(fields, dates, [f"S{n}" for n in range(close.shape[1])], source="test")
    assert panel.attrs["dropped"] == {}
    return panel


def world(seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Closes and volumes: days without a row, and days suspended at the last price with volume 0."""
    random = np.random.default_rng(seed)
    close = 20 * np.exp(np.cumsum(random.normal(0, 0.03, (DAYS, STOCKS)), axis=0))
    volume = random.lognormal(14, 0.5, close.shape)
    close[30, 0] = volume[30, 0] = np.nan
    close[28:33, 1] = close[27, 1]
    volume[28:33, 1] = 0
    close[:25, 2] = volume[:25, 2] = np.nan
    close[45:, 3] = volume[45:, 3] = np.nan
    return close, volume


def test_levels_or_values_of_the_promised_shape(task: Task) -> None:
    labels = task.labels(panel_of(*world()))
    assert labels.shape == (DAYS, STOCKS)
    assert labels.dtype == np.float32
    known = labels[~np.isnan(labels)]
    assert known.size > DAYS * STOCKS / 2
    assert np.isfinite(known).all()
    if task.target == "level":
        assert task.width == len(task.levels) > 1
        assert set(known.tolist()) <= set(range(task.width))
    else:
        assert (task.width, task.levels) == (1, ())
    if task.target == "event":
        assert set(known.tolist()) == {0, 1}
    if task.target == "scale":
        assert (known >= 0).all()


@pytest.mark.parametrize("day", [20, 33])
def test_nothing_after_the_reach_changes_a_label(task: Task, day: int) -> None:
    close, volume = world()
    other_close, other_volume = world(seed=1)
    last = day + max(task.reach, 0)
    close_after, volume_after = close.copy(), volume.copy()
    close_after[last + 1 :], volume_after[last + 1 :] = 3 * other_close[last + 1 :], other_volume[last + 1 :]
    before = task.labels(panel_of(close, volume))
    after = task.labels(panel_of(close_after, volume_after))
    assert_array_equal(before[: day + 1], after[: day + 1])
    assert not np.array_equal(before[day + 1], after[day + 1], equal_nan=True)


@pytest.mark.parametrize("factor", [0.1, 10])
def test_the_last_day_of_the_reach_does_change_labels(task: Task, factor: float) -> None:
    close, volume = world()
    moved, more = close.copy(), volume.copy()
    moved[40 + task.reach] *= factor
    more[40 + task.reach] *= factor
    before, after = task.labels(panel_of(close, volume)), task.labels(panel_of(moved, more))
    assert (before[40] != after[40])[~np.isnan(before[40])].any()
    assert_array_equal(np.isnan(before[40]), np.isnan(after[40]))


def test_no_label_ends_on_a_day_without_trade(task: Task) -> None:
    panel = panel_of(*world())
    labels, tradable = task.labels(panel), panel["tradable"].values
    reach = max(task.reach, 0)
    assert not tradable.all()
    assert np.isnan(labels[: DAYS - reach][~tradable[reach:]]).all()


def test_no_label_whose_end_lies_beyond_the_data(task: Task) -> None:
    labels = task.labels(panel_of(*world()))
    if task.reach > 0:
        assert np.isnan(labels[-task.reach :]).all()
    assert (~np.isnan(labels[DAYS - 1 - task.reach, 4:])).all()


def test_data_shorter_than_the_reach_has_no_label(task: Task) -> None:
    close, volume = world()
    labels = task.labels(panel_of(close[: task.reach, 4:], volume[: task.reach, 4:]))
    assert labels.shape == (task.reach, STOCKS - 4)
    assert np.isnan(labels).all()


def test_the_scale_of_prices_and_the_other_stocks_are_of_no_matter(task: Task) -> None:
    close, volume = world()
    labels = task.labels(panel_of(close, volume))
    np.testing.assert_allclose(task.labels(panel_of(close * 8, volume)), labels)
    assert_array_equal(task.labels(panel_of(close[:, :5], volume[:, :5])), labels[:, :5])


def test_targets_exist_only_on_the_rows_and_follow_from_them_alone(task: Task) -> None:
    labels = task.labels(panel_of(*world()))
    rows = np.random.default_rng(2).random(labels.shape) < 0.7
    targets = task.targets(labels, rows)
    assert targets.dtype == np.float32
    assert_array_equal(np.isnan(targets), ~rows | np.isnan(labels))
    elsewhere = np.where(rows, labels, np.float32(3))
    assert_array_equal(task.targets(elsewhere, rows), targets)
    # days do not touch one another
    assert_array_equal(np.concatenate([task.targets(labels[d : d + 1], rows[d : d + 1]) for d in range(DAYS)]), targets)


def test_a_score_for_each_stock(task: Task) -> None:
    random = torch.Generator().manual_seed(0)
    shape = (3, 7, task.width) if task.levels else (3, 7)
    output = torch.randn(shape, generator=random, dtype=torch.float64)
    score = task.score(output)
    assert score.shape == (3, 7)
    assert score.isfinite().all()
    torch.testing.assert_close(task.score(output[1:2, 2:3]), score[1:2, 2:3])


def test_sure_of_a_higher_level_scores_higher(task: Task) -> None:
    sure = 50 * torch.eye(task.width) if task.levels else torch.linspace(-2, 2, 5)
    assert (task.score(sure).diff() > 0).all()


def test_a_loss_of_the_other_kind_is_refused(task: Task) -> None:
    other = "mse" if task.target in ("level", "event") else "cross_entropy"
    with pytest.raises(ValueError, match=f"loss '{other}' learns an? .*, but task '{task.kind}'"):
        type(task)(loss=other)


def test_what_is_said_of_a_day_leaves_out_who_is_not_valid(task: Task) -> None:
    random = torch.Generator().manual_seed(0)
    shape = (3, 7, task.width) if task.levels else (3, 7 + task.holds)
    output = torch.randn(shape, generator=random, dtype=torch.float64).tanh()
    valid = torch.rand(3, 7, generator=random) < 0.7
    said = task.said(output, valid)
    assert said.shape == output.shape
    junk = output.clone()
    junk[:, :7][~valid] = 5.0
    places = torch.cat([valid, torch.ones(3, int(task.holds), dtype=torch.bool)], dim=1)
    torch.testing.assert_close(task.said(junk, valid)[places], said[places])
    torch.testing.assert_close(task.said(output[1:2], valid[1:2]), said[1:2])
    if task.target == "position":
        assert (said.abs().sum(dim=1) - 1).abs().max() < 1e-12
        assert torch.equal(said[:, :7].sign()[valid], output[:, :7].sign()[valid])
    else:
        assert said is output


def test_what_the_head_says_in_the_unit_of_the_labels(task: Task) -> None:
    shape = (3, 7, task.width) if task.levels else (3, 7)
    output = np.random.default_rng(3).normal(0, 15, shape).astype(np.float32)
    said = task.natural(output)
    assert said.shape == shape
    assert said.dtype == np.float32
    if task.target == "level":
        expected = torch.from_numpy(output).double().softmax(dim=-1)
    elif task.target == "event":
        expected = torch.from_numpy(output).double().sigmoid()
    elif task.target == "scale":
        expected = torch.from_numpy(output).double().clamp(-13.8, 13.8).exp()
    else:
        expected = torch.from_numpy(output).double()
    np.testing.assert_allclose(said, expected, rtol=1e-5, atol=1e-30)


def test_a_reference_knows_nothing_after_its_day(task: Task) -> None:
    close, volume = world()
    if task.reference(panel_of(close, volume)) is None:
        return
    other_close, other_volume = world(seed=1)
    close_after, volume_after = close.copy(), volume.copy()
    close_after[34:], volume_after[34:] = 3 * other_close[34:], other_volume[34:]
    before, after = task.reference(panel_of(close, volume)), task.reference(panel_of(close_after, volume_after))
    assert before is not None
    assert after is not None
    assert_array_equal(before[:34], after[:34])
    assert (before[34] != after[34]).any()
    assert (~np.isnan(before[33, 4:])).all()
