"""The loop against a loop written out, and against itself stopped and resumed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
import torch

from mimstocr.balancing import BALANCERS
from mimstocr.config import Config
from mimstocr.errors import RunError, TrainingError
from mimstocr.training.batches import DayBatch, DayBatches
from mimstocr.training.checkpoint import load_checkpoint, part
from mimstocr.training.interrupt import Stop
from mimstocr.training.loop import Moment, Trainer
from mimstocr.training.predict import predict
from mimstocr.training.prepare import Prepared, prepare
from mimstocr.workflow import Quiet, fresh_model, make_setting

Make = Callable[..., Config]


def trainer(prepared: Prepared, folder: Path, seed: int = 0) -> Trainer:
    return Trainer(make_setting(prepared), fresh_model(prepared, seed), seed, folder)


class StopAt(Quiet):
    """Raises the flag at one step of one epoch."""

    def __init__(self, stop: Stop, epoch: int, step: int) -> None:
        self.stop, self.at = stop, (epoch, step)

    def step(self, moment: Moment) -> None:
        if (moment.epoch, moment.step) == self.at:
            self.stop.asked = True


def without_time(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def test_equals_a_loop_written_out(small: Make, tmp_path: Path) -> None:
    """Plain Adam on the sum of two losses, one epoch after the other, in twenty lines."""
    config = small(
        balancer="ew",
        backbone={"kind": "lstm", "hidden_size": 5, "num_layers": 1},
        training={"learning_rate": 0.01, "max_epochs": 2, "days_per_step": 3, "device": "cpu", "weight_decay": 0.01},
    )
    prepared = prepare(config)
    ours = trainer(prepared, tmp_path)
    assert ours.fit(Quiet(), Stop())

    model = fresh_model(prepared, 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.01)
    for epoch in (1, 2):
        order = torch.randperm(len(prepared.train_days), generator=torch.Generator().manual_seed(epoch)).tolist()
        for at in range(0, len(order), 3):
            total = torch.zeros(())
            losses: dict[str, list[torch.Tensor]] = {"return": [], "momentum": []}
            for i in order[at : at + 3]:
                batch = prepared.batches([prepared.train_days[i]])
                out = model(batch.x, batch.valid, batch.facts)
                for name, task in prepared.learned.items():
                    known = ~batch.targets[name][0].isnan()
                    if known.any():
                        target = batch.targets[name][:, known]
                        target = target.long() if name == "momentum" else target
                        everyone = torch.ones_like(target, dtype=torch.bool)
                        losses[name].append(task.loss(out[name][:, known], target, everyone)[0])
            total = sum(torch.stack(each).mean() for each in losses.values() if each)
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
    for (name, mine), theirs in zip(ours.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(("epoch", "step"), [(1, 1), (2, 7), (3, 19)])
@pytest.mark.parametrize(
    "balancer", ["ew", {"kind": "cqb", "window": 1}, {"kind": "cqb", "window": 1, "indicator": "meta"}]
)
def test_resumed_equals_uninterrupted(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, balancer: object, epoch: int, step: int
) -> None:
    """Weights, optimiser, balancer, history, to the bit; with dropout, so the generator too."""
    monkeypatch.setattr("mimstocr.training.loop.LOOK_SECONDS", -1.0)
    prepared = prepare(small(balancer=balancer))
    whole = trainer(prepared, tmp_path / "whole")
    assert whole.fit(Quiet(), Stop())

    stop = Stop()
    first = trainer(prepared, tmp_path / "parts")
    if epoch == 3:
        step = len(first.order())  # the last step of an epoch
    assert not first.fit(StopAt(stop, epoch, step), stop)
    torch.rand(7)  # whatever happens between the two does not matter
    second = trainer(prepared, tmp_path / "parts")
    second.resume()
    assert second.fit(Quiet(), Stop())

    assert without_time(second.at.history) == without_time(whole.at.history)
    one, _ = load_checkpoint(whole.last, torch.device("cpu"))
    two, _ = load_checkpoint(second.last, torch.device("cpu"))
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


def test_same_seed_same_numbers_and_another_seed_others(small: Make, tmp_path: Path) -> None:
    prepared = prepare(small())
    runs = [trainer(prepared, tmp_path / str(i), seed) for i, seed in enumerate((0, 0, 1))]
    for run in runs:
        run.fit(Quiet(), Stop())
    histories = [[row["train"] for row in run.at.history] for run in runs]
    assert histories[0] == histories[1]
    assert histories[0] != histories[2]


def test_days_come_once_an_epoch_in_another_order_each(small: Make, tmp_path: Path) -> None:
    prepared = prepare(small())
    one = trainer(prepared, tmp_path)
    first = [day for days in one.order() for day in days]
    one.at.epoch = 2
    second = [day for days in one.order() for day in days]
    assert sorted(first) == sorted(second) == prepared.train_days
    assert first != second


def test_best_is_the_best_validation_epoch(small: Make, tmp_path: Path) -> None:
    prepared = prepare(small(training={"learning_rate": 0.05, "max_epochs": 6, "days_per_step": 4, "monitor": "loss"}))
    run = trainer(prepared, tmp_path)
    run.fit(Quiet(), Stop())
    totals = [sum(row["valid"].values()) for row in run.at.history]
    _, header = load_checkpoint(run.best, torch.device("cpu"))
    assert header["epoch"] == totals.index(min(totals)) + 1 == run.at.best_epoch
    assert [row["best"] for row in run.at.history] == [
        total == min(totals[: i + 1]) and total not in totals[:i] for i, total in enumerate(totals)
    ]


def test_without_a_figure_the_last_epoch_is_kept(small: Make, tmp_path: Path) -> None:
    prepared = prepare(small())
    setting = replace(make_setting(prepared), figures=lambda _: {"ic": math.nan, "rank_ic": math.nan})
    run = Trainer(setting, fresh_model(prepared, 0), 0, tmp_path)
    run.fit(Quiet(), Stop())
    best, header = load_checkpoint(run.best, torch.device("cpu"))
    assert header["epoch"] == 4
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(part(best, "model.")[name], tensor)


def test_patience_stops_and_more_patience_goes_on(small: Make, tmp_path: Path) -> None:
    def at(patience: int, max_epochs: int) -> Prepared:
        training = {"learning_rate": 0.0001, "days_per_step": 4, "patience": patience, "max_epochs": max_epochs}
        return prepare(small(training=training))

    scripted = iter([0.1, 0.3, 0.2, 0.2, 0.2, 0.2, 0.2])
    setting = replace(make_setting(at(2, 9)), figures=lambda _: {"ic": 0.0, "rank_ic": next(scripted)})
    run = Trainer(setting, fresh_model(at(2, 9), 0), 0, tmp_path)
    assert run.fit(Quiet(), Stop())
    assert (len(run.at.history), run.at.best_epoch) == (4, 2)

    more = replace(make_setting(at(3, 9)), figures=lambda _: {"ic": 0.0, "rank_ic": next(scripted)})
    again = Trainer(more, fresh_model(at(3, 9), 0), 0, tmp_path)
    again.resume()
    assert again.fit(Quiet(), Stop())
    assert len(again.at.history) == 5


def test_weight_decay_follows_the_balancer(small: Make, tmp_path: Path) -> None:
    prepared = prepare(small(balancer={"kind": "cqb", "adaptive_decay": False, "decay": 0.25}))
    run = trainer(prepared, tmp_path)
    run.fit(Quiet(), Stop())
    assert run.optimizer.param_groups[0]["weight_decay"] == 0.25


def test_a_loss_that_is_not_finite_names_day_and_task(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimstocr.training.loop.LOOK_SECONDS", -1.0)
    prepared = prepare(small())
    run = trainer(prepared, tmp_path)
    run.fit(StopAt(stop := Stop(), 1, 3), stop)
    with torch.no_grad():
        run.model.heads["momentum"].bias[2] = math.nan
    with pytest.raises(TrainingError, match=r"task 'momentum' is not finite on 2020-.*heads\.momentum\.bias"):
        run.fit(Quiet(), Stop())


def test_a_loss_that_is_not_finite_names_the_stock(small: Make, tmp_path: Path) -> None:
    prepared = prepare(small(balancer="ew"))
    run = trainer(prepared, tmp_path)

    def poisoned(days: Sequence[int]) -> DayBatch:
        batch = prepared.batches(days)
        batch.x[batch.symbols == 7] = math.nan
        return batch

    run.setting = replace(run.setting, batches=cast(DayBatches, poisoned))
    with pytest.raises(TrainingError, match=r"task 'return' is not finite on .*first bad tensor: windows; of S07\."):
        run.fit(Quiet(), Stop())


def test_checkpoint_of_another_config_is_refused(small: Make, tmp_path: Path) -> None:
    one = trainer(prepare(small()), tmp_path)
    one.fit(Quiet(), Stop())
    other = trainer(prepare(small(training={"learning_rate": 0.02, "max_epochs": 4, "days_per_step": 4})), tmp_path)
    with pytest.raises(RunError, match=r"training\.learning_rate: then 0\.01, now 0\.02"):
        other.resume()


def test_truncated_checkpoint_is_refused(small: Make, tmp_path: Path) -> None:
    run = trainer(prepare(small()), tmp_path)
    run.fit(Quiet(), Stop())
    run.last.write_bytes(run.last.read_bytes()[:-100])
    with pytest.raises(RunError, match="not a whole checkpoint"):
        run.resume()


def test_history_is_plain_json(small: Make, tmp_path: Path) -> None:
    run = trainer(prepare(small()), tmp_path)
    run.fit(Quiet(), Stop())
    row = json.loads(json.dumps(run.at.history[-1]))
    assert row["train"].keys() == row["valid"].keys() == {"return", "momentum"}
    assert len(row["beta"]) == 2
    assert len(row["decay"]) == 1


def test_the_test_curve_changes_nothing_else(small: Make, tmp_path: Path) -> None:
    settings = {"learning_rate": 0.01, "max_epochs": 2, "device": "cpu"}
    plain = trainer(prepare(small(training=settings)), tmp_path / "plain")
    assert plain.fit(Quiet(), Stop())
    prepared = prepare(small(training={**settings, "test_curve": 2}))
    curved = trainer(prepared, tmp_path / "curved")
    assert curved.fit(Quiet(), Stop())
    lines = without_time(curved.at.history)
    seen = [line.pop("test") for line in lines]
    assert lines == without_time(plain.at.history)
    every_second = predict(
        curved.model, prepared.learned, prepared.batches, prepared.test_days[::2], prepared.panel.sizes["symbol"]
    )
    assert list(seen[-1].values()) == every_second.losses.tolist()


# ---- blocks of days --------------------------------------------------------------------------------------------------


def blocks(small: Make, **training: object) -> Config:
    return small(
        tasks={
            "position": {"kind": "position", "delay": 1, "loss": "sharpe"},
            "return": {"kind": "return", "delay": 1},
        },
        balancer="stl",
        training={
            "learning_rate": 0.01,
            "max_epochs": 3,
            "order": "blocks",
            "days_per_step": 10,
            "device": "cpu",
            **training,
        },
    )


def test_blocks_are_consecutive_days_cut_anew_each_epoch(small: Make, tmp_path: Path) -> None:
    prepared = prepare(blocks(small))
    one, other = trainer(prepared, tmp_path), trainer(prepared, tmp_path, seed=1)
    orders = []
    for epoch in (1, 2, 3):
        for run in (one, other):
            run.at.epoch = epoch
            orders.append(run.order())
            assert run.order() == orders[-1]
            assert sorted(day for days in orders[-1] for day in days) == prepared.train_days
            assert all(days == list(range(days[0], days[-1] + 1)) for days in orders[-1])
    assert len({str(order) for order in orders}) == 6
    assert len({str(sorted(order)) for order in orders}) > 2


def test_a_step_of_a_block_is_the_slope_of_its_account(small: Make, tmp_path: Path) -> None:
    prepared = prepare(blocks(small, max_epochs=1))
    ours = trainer(prepared, tmp_path)
    order = ours.order()
    assert ours.fit(Quiet(), Stop())
    model = fresh_model(prepared, 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    torch.manual_seed(1)  # of the first epoch, for the dropout
    for days in order:
        stocks = sorted({int(i) for day in days for i in prepared.rows[day].nonzero()[0]})
        batch = prepared.batches(days)
        assert batch.symbols.tolist() == [stocks] * len(days)
        d = torch.from_numpy(prepared.labels["position"][days][:, stocks])
        o = model(batch.x, batch.valid, batch.facts)["position"]
        loss = prepared.learned["position"].loss(o, d, ~d.isnan() & torch.from_numpy(prepared.rows[days][:, stocks]))
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    for (name, mine), theirs in zip(ours.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6, msg=name)


def test_blocks_resumed_equal_blocks_uninterrupted(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimstocr.training.loop.LOOK_SECONDS", -1.0)
    prepared = prepare(blocks(small))
    whole = trainer(prepared, tmp_path / "whole")
    assert whole.fit(Quiet(), Stop())
    stop = Stop()
    assert not trainer(prepared, tmp_path / "parts").fit(StopAt(stop, 2, 3), stop)
    second = trainer(prepared, tmp_path / "parts")
    second.resume()
    assert second.fit(Quiet(), Stop())
    assert without_time(second.at.history) == without_time(whole.at.history)
    assert all(torch.equal(a, b) for a, b in zip(second.model.parameters(), whole.model.parameters(), strict=True))


def test_a_checkpoint_made_before_there_was_an_order_goes_on(small: Make, tmp_path: Path) -> None:
    """Shuffled, the order is no part of what a checkpoint must share; in blocks it is."""
    prepared = prepare(small())
    assert "training.order" not in make_setting(prepared).identity
    assert make_setting(prepare(blocks(small))).identity["training.order"] == "blocks"


@pytest.mark.parametrize(
    "balancer", [name for name in BALANCERS.names() if BALANCERS.get(name)().negative_losses is not None]
)
def test_a_balancer_that_refuses_negative_losses_refuses_profits(small: Make, tmp_path: Path, balancer: str) -> None:
    tasks = {"return": {"kind": "return", "delay": 1}, "position": {"kind": "position", "hold": False}}
    prepared = prepare(small(tasks=tasks, balancer=balancer))
    run = trainer(prepared, tmp_path)
    with pytest.raises(TrainingError, match=rf"balancer {balancer}: expected losses of at least 0, .* 'position' is -"):
        run.fit(Quiet(), Stop())


def test_a_window_that_is_not_finite_names_the_stock_beside_hold(small: Make, tmp_path: Path) -> None:
    prepared = prepare(small(tasks={"position": {"kind": "position", "delay": 1}, "return": "return"}, balancer="stl"))
    run = trainer(prepared, tmp_path)

    def poisoned(days: Sequence[int]) -> DayBatch:
        batch = prepared.batches(days)
        batch.x[batch.symbols == 7] = math.nan
        return batch

    run.setting = replace(run.setting, batches=cast(DayBatches, poisoned))
    with pytest.raises(TrainingError, match=r"task 'position' is not finite.*windows; of S07"):
        run.fit(Quiet(), Stop())


# ---- positions learn what there is to learn --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reversing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prices whose return of the day after tomorrow has the other sign than today's, and a size of its own."""
    random = np.random.default_rng(0)
    n_days, n_stocks = 200, 10
    signs = random.choice([-1.0, 1.0], (n_days, n_stocks))
    for day in range(2, n_days):
        signs[day] = -signs[day - 2]
    close = 20 * np.cumprod(1 + signs * random.uniform(0.005, 0.03, signs.shape), axis=0)
    days = np.busday_offset("2020-01-01", np.arange(n_days), roll="forward").astype("datetime64[D]")
    table = pl.DataFrame(
        {
            "date": np.repeat(days, n_stocks),
            "symbol": np.tile([f"S{i:02d}" for i in range(n_stocks)], n_days),
            **{name: close.ravel() for name in ("open", "high", "low", "close")},
            "volume": np.full(close.size, 1000.0),
        }
    )
    path = tmp_path_factory.mktemp("reversing") / "prices.parquet"
    table.write_parquet(path)
    return path


MENDED: list[dict[str, object]] = [
    {"kind": "stock_loss", "hold_reward": 0.0001},
    {"kind": "stock_loss", "hold_reward": 0.0, "sign": "hard"},
    {"kind": "stock_loss_max", "hold_reward": 0.002},
    {"kind": "stock_loss_l2", "form": "signed", "hold_reward": 0.0},
    {"kind": "stock_loss_norm", "form": "safe"},
    {"kind": "sharpe"},
    {"kind": "sortino"},
    {"kind": "log_wealth"},
]


def profit_after_training(small: Make, prices: Path, folder: Path, loss: dict[str, object], *, hold: bool) -> float:
    """Mean daily profit of the positions on the validation days, by the last weights of five epochs."""
    training = {"learning_rate": 0.01, "max_epochs": 5, "days_per_step": 10, "order": "blocks", "device": "cpu"}
    prepared = prepare(
        small(
            data={"source": f"parquet:{prices}"},
            features={"kind": "alpha360", "window": 4, "fields": ["close"]},
            tasks={
                "position": {"kind": "position", "delay": 1, "loss": loss, "hold": hold},
                "return": {"kind": "return", "delay": 1},
            },
            backbone={"kind": "mlp", "hidden_sizes": [16]},
            balancer="stl",
            training=training,
        )
    )
    run = trainer(prepared, folder)
    assert run.fit(Quiet(), Stop())
    found = predict(run.model, prepared.learned, prepared.batches, prepared.valid_days, 10)
    returns = prepared.labels["return"][prepared.valid_days]
    return float(np.nansum(found.outputs["position"] * returns, axis=1).mean())


@pytest.mark.parametrize("loss", MENDED, ids=lambda loss: str(loss["kind"]))
def test_positions_learn_a_pattern_that_is_there(
    small: Make, reversing: Path, tmp_path: Path, loss: dict[str, object]
) -> None:
    """All on the right side would earn 1.75 % a day, and no skill nothing."""
    hold = loss["kind"] != "stock_loss_norm"
    assert profit_after_training(small, reversing, tmp_path, loss, hold=hold) > 0.01


@pytest.mark.parametrize(("kind", "hold"), [("stock_loss", True), ("stock_loss_l2", False)])
def test_as_published_they_do_not(small: Make, reversing: Path, tmp_path: Path, kind: str, hold: bool) -> None:
    """All in cash; and on either side by chance."""
    assert abs(profit_after_training(small, reversing, tmp_path, {"kind": kind}, hold=hold)) < 0.003
