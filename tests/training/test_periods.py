"""Rolling models: what they are trained on, that they know no future, and that a stop changes nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import mimstocr
from mimstocr.cli.main import app
from mimstocr.config import Config
from mimstocr.data import load_panel
from mimstocr.data.assets import own_calendars
from mimstocr.data.panel import days_of, symbols_of
from mimstocr.errors import RunError
from mimstocr.runs import RunFolder
from mimstocr.training.batches import DayBatch, DayBatches
from mimstocr.training.checkpoint import load_checkpoint, part
from mimstocr.training.interrupt import Stop
from mimstocr.training.loop import Moment, Trainer
from mimstocr.training.periods import PeriodTrainer, RollingTrainer
from mimstocr.training.predict import predict
from mimstocr.training.prepare import Prepared, prepare
from mimstocr.workflow import Quiet, fresh_model, make_setting

Make = Callable[..., Config]
CPU = torch.device("cpu")
TRAINING = {"learning_rate": 0.01, "max_epochs": 3, "days_per_step": 8, "device": "cpu", "monitor": "loss"}
SPLITS = {
    "train": ["2020-01-01", "2020-03-20"],
    "valid": ["2020-03-23", "2020-04-10"],
    "test": ["2020-04-15", "2020-05-15"],
}
"""The data go on to 30 June: two days lie between validation and test, and six weeks after it."""
POSITIONS: dict[str, Any] = {
    "tasks": {"position": {"kind": "position", "delay": 1, "loss": "sharpe"}, "return": {"kind": "return", "delay": 1}},
    "balancer": "stl",
    "backtest": {"strategy": "positions", "market": {"kind": "flat", "short": True}},
}


def rolling(make: Make, how: dict[str, object] | None = None, **changes: Any) -> Config:
    training = {**TRAINING, "rolling": how or {}, **changes.pop("training", {})}
    return make(**{"splits": SPLITS, "training": training, **changes})


def both(prepared: Prepared, folder: Path, batches: DayBatches | None = None) -> RollingTrainer:
    setting, model = make_setting(prepared), fresh_model(prepared, 0)
    how, batches = prepared.config.training.rolling, batches or prepared.open_batches
    assert how is not None
    assert batches is not None
    rolled = PeriodTrainer(setting, model, 0, folder, how, prepared.periods, batches)
    return RollingTrainer(Trainer(setting, model, 0, folder), rolled)


def weights(folder: Path) -> dict[str, dict[str, Tensor]]:
    """First day to the tensors of every period."""
    files = sorted((folder / "rolling").glob("2*.safetensors"))
    return {path.stem: load_checkpoint(path, CPU)[0] for path in files}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


class Recorder(DayBatches):
    """Remembers the days that are asked for."""

    def __init__(self, inner: DayBatches) -> None:
        self.inner = inner
        self.seen: list[int] = []

    def __call__(self, days: Sequence[int]) -> DayBatch:
        self.seen += days
        return self.inner(days)


# ---- what is trained on ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epochs", "window"), [(1, None), (2, 12)])
def test_only_days_whose_labels_are_known_before_the_period(
    small: Make, tmp_path: Path, epochs: int, window: int | None
) -> None:
    """Against the prices themselves: a day counts when the two closes after it are of days before the period."""
    prepared = prepare(rolling(small, {"every": "week", "epochs": epochs, "train_days": window}))
    assert prepared.open_batches is not None
    seen = Recorder(prepared.open_batches)
    run = both(prepared, tmp_path, seen)
    trained: list[tuple[str, list[int]]] = []

    class Watch(Quiet):
        def epoch(self, row: Any) -> None:
            if "period" in row:
                trained.append((row["period"], list(seen.seen)))
                assert row["days"] == len(seen.seen)
                assert row["until"] == str(prepared.days[max(seen.seen)])[:10]
            seen.seen.clear()

    assert run.fit(Watch(), Stop())
    dates = [day.astype("datetime64[D]").item() for day in prepared.days]
    first = next(i for i, day in enumerate(dates) if str(day) >= "2020-04-15")
    weeks: dict[tuple[int, int], int] = {}
    for i in range(first, len(dates)):
        weeks.setdefault(dates[i].isocalendar()[:2], i)
    close = prepared.panel["close"].values
    expected = []
    for start in weeks.values():
        known = [t for t in range(start) if t + 2 < start and np.isfinite(close[t + 1 : t + 3]).all(axis=0).any()]
        expected += [(str(dates[start]), known if window is None else known[-window:])] * epochs
    assert [(name, sorted(days)) for name, days in trained] == expected
    assert any(days != sorted(days) for _, days in trained)
    valid = range(*prepared.splits.valid.days.indices(len(dates)))
    assert window or set(valid) <= set(trained[-1][1])  # and the days between the splits, and the test's past
    assert window or set(range(first, first + 20)) <= set(trained[-1][1])


def test_labels_are_those_of_the_prices_wherever_they_end(small: Make) -> None:
    prepared = prepare(rolling(small))
    assert prepared.open_batches is not None
    edge = prepared.splits.valid.days.stop - 1  # its label ends after the validation split
    close = prepared.panel["close"].values
    for batches, known in ((prepared.batches, False), (prepared.open_batches, True)):
        batch = batches([edge])
        assert bool(batch.targets["return"].isfinite().any()) == known
    target, symbols = batch.targets["return"][0], batch.symbols[0]
    gains = torch.from_numpy(close[edge + 2] / close[edge + 1] - 1)[symbols].float()
    there = target.isfinite()
    assert torch.equal(target[there].argsort(), gains[there].argsort())  # normalised within the day
    assert prepare(small()).open_batches is None


def test_two_classes_wait_for_the_calendar_that_is_later(small: Make, tmp_path: Path) -> None:
    """Friday's label of coins is known on Sunday, that of stocks on Tuesday."""
    random = np.random.default_rng(0)
    every = np.datetime64("2023-01-02") + np.arange(140)
    assets = {}
    for name, days, symbols in (("stocks", every[np.is_busday(every)], "ABCD"), ("coins", every, "XYZ")):
        close = 20 * np.exp(np.cumsum(random.normal(0, 0.03, (len(days), len(symbols))), axis=0))
        keys = {"date": np.repeat(days, len(symbols)), "symbol": np.tile(list(symbols), len(days))}
        pl.DataFrame({**keys, "close": close.ravel(), "volume": np.full(close.size, 9.0)}).write_parquet(
            tmp_path / f"{name}.parquet"
        )
        assets[name] = {"source": f"parquet:{tmp_path / f'{name}.parquet'}"}
    splits = {
        "train": ["2023-01-02", "2023-03-19"],
        "valid": ["2023-03-20", "2023-04-07"],
        "test": ["2023-04-08", "2023-05-05"],
    }
    prepared = prepare(rolling(small, {"every": "week"}, data={"assets": assets}, splits=splits))
    for period in prepared.periods:
        expected = []
        for t in range(period.first):
            ends = []
            for own in own_calendars(prepared.panel):
                if own.open[t]:
                    at = own.days.tolist().index(t) + 2
                    ends.append(int(own.days[at]) if at < len(own.days) else 10_000)
            if max(ends) < period.first:
                expected.append(t)
        assert period.train == expected
    monday = next(p for p in prepared.periods if str(prepared.days[p.first])[:10] == "2023-04-17")
    last = [str(prepared.days[t])[:10] for t in monday.train[-2:]]
    assert last == ["2023-04-11", "2023-04-12"]


def test_equals_the_training_of_periods_written_out(small: Make, tmp_path: Path) -> None:
    """Adam on the mean loss goes on from the best epoch, moments and all, one period after the other."""
    config = rolling(
        small,
        {"epochs": 2, "learning_rate": 0.003},
        balancer="ew",
        backbone={"kind": "lstm", "hidden_size": 5, "num_layers": 1},
    )
    prepared = prepare(config)
    run = both(prepared, tmp_path)
    assert run.fit(Quiet(), Stop())
    assert run.trainer.at.best_epoch == 3  # else the moments that follow are not those of the training's end
    ended, _ = load_checkpoint(run.trainer.last, CPU)

    model = fresh_model(prepared, 0)
    model.load_state_dict(part(ended, "model."))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    moments = part(ended, "optimizer.")
    for index, parameter in enumerate(model.parameters()):
        optimizer.state[parameter] = {
            key: moments[f"{index}.{key}"].clone() for key in ("step", "exp_avg", "exp_avg_sq")
        }
    assert prepared.open_batches is not None
    found, number = weights(tmp_path), 0
    for period in prepared.periods:
        for _ in range(2):
            number += 1
            generator = torch.Generator().manual_seed(500_000 + number)
            order = torch.randperm(len(period.train), generator=generator).tolist()
            for at in range(0, len(order), 8):
                batch = prepared.open_batches([period.train[i] for i in order[at : at + 8]])
                out = model(batch.x, batch.valid, batch.facts)
                total = torch.zeros(())
                for name, task in prepared.learned.items():
                    known = batch.valid & ~batch.targets[name].isnan()
                    target = batch.targets[name].masked_fill(~known, 0)
                    losses = task.loss(out[name], target.long() if task.levels else target, known)
                    total = total + losses[known.any(dim=1)].mean()
                optimizer.zero_grad()
                total.backward()
                optimizer.step()
        mine = part(found[str(prepared.days[period.first])[:10]], "model.")
        for name, parameter in model.state_dict().items():
            torch.testing.assert_close(mine[name], parameter, rtol=1e-4, atol=1e-5)
    assert len(found) == 3  # April, May and June


def test_the_moments_come_with_the_best_epoch_not_the_last(small: Make, tmp_path: Path) -> None:
    """A training whose best epoch is its last, and one that went on in vain, have the same periods."""
    changes: dict[str, Any] = {"balancer": {"kind": "cqb", "window": 1}}
    config = rolling(small, **changes, training={"learning_rate": 0.3, "max_epochs": 6})
    went_on = both(prepare(config), tmp_path / "on")
    assert went_on.fit(Quiet(), Stop())
    best = went_on.trainer.at.best_epoch
    assert best < 6, "choose another learning rate: the best epoch is to be an early one"
    short = both(
        prepare(rolling(small, **changes, training={"learning_rate": 0.3, "max_epochs": best})), tmp_path / "s"
    )
    assert short.fit(Quiet(), Stop())
    one, two = weights(tmp_path / "on"), weights(tmp_path / "s")
    assert one.keys() == two.keys()
    assert all(same(one[first], two[first]) for first in one)


def test_a_curriculum_ends_with_all_tasks_and_the_rate_of_the_joint_phase(small: Make, tmp_path: Path) -> None:
    stages = {"curriculum": [{"tasks": ["momentum"], "epochs": 1}], "joint_learning_rate": 0.002}
    run = both(prepare(rolling(small, training=stages)), tmp_path)
    assert run.rolled.optimizer.param_groups[0]["lr"] == 0.01
    assert run.fit(Quiet(), Stop())
    assert run.rolled.optimizer.param_groups[0]["lr"] == 0.002
    rows = [row for row in run.at.history if "period" in row]
    assert all(np.isfinite(list(row["train"].values())).all() and len(row["train"]) == 2 for row in rows)
    best = load_checkpoint(run.trainer.best, CPU)[0]
    last = weights(tmp_path)["2020-06-01"]
    for head in ("return", "momentum"):
        assert not torch.equal(best[f"model.heads.{head}.weight"], last[f"model.heads.{head}.weight"])


def test_what_a_balancer_makes_of_epochs_stays_and_its_memory_goes_on(small: Make, tmp_path: Path) -> None:
    run = both(prepare(rolling(small, training={"max_epochs": 5})), tmp_path)
    assert run.fit(Quiet(), Stop())
    best = part(load_checkpoint(run.trainer.best, CPU)[0], "balancer.")
    for name in ("ratio", "ratio_before", "train", "indicator"):
        assert torch.equal(run.rolled.balance[name], best[name])
    steps = sum(-(-row["days"] // 8) for row in run.at.history if "period" in row)
    assert (run.rolled.balance["steps"] == best["steps"] + steps).all()
    assert not torch.equal(run.rolled.balance["smoothed"], best["smoothed"])


# ---- the future ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "every"), [("tasks", "month"), ("positions", "week")])
def test_prices_from_a_day_on_change_nothing_before_it(
    small: Make, prices: Path, tmp_path: Path, kind: str, every: str
) -> None:
    """From the table to the predictions, at days of the test, days after it, and the first day of a period."""
    table, rng = pl.read_parquet(prices), np.random.default_rng(5)
    noise = pl.Series(rng.uniform(0.5, 2.0, table.height))
    fields = ("open", "high", "low", "close", "volume")
    changes: dict[str, Any] = {"training": {"max_epochs": 1, "days_per_step": 10}}
    if kind == "positions":
        changes = {**POSITIONS, "training": {"max_epochs": 1, "days_per_step": 10, "order": "blocks"}}

    def run_from(cut: str | None) -> tuple[pl.DataFrame, dict[str, dict[str, Tensor]]]:
        file = tmp_path / f"{cut}.parquet"
        day = pl.lit(cut or "2100-01-01").str.to_date()
        later = [pl.when(pl.col("date") < day).then(pl.col(f)).otherwise(pl.col(f) * noise).alias(f) for f in fields]
        table.with_columns(later).write_parquet(file)
        config = rolling(small, {"every": every}, data={"source": f"parquet:{file}"}, name=f"from-{cut}", **changes)
        made = mimstocr.run(config).folder
        outputs = [name for name in made.read_frame("predictions.parquet").columns if not name.startswith("label.")]
        return made.read_frame("predictions.parquet").select(outputs), weights(made.checkpoints(0))

    whole, models = run_from(None)
    for cut in ("2020-04-15", "2020-05-05", "2020-06-01"):
        scrambled, theirs = run_from(cut)
        before = pl.col("date") < pl.lit(cut).str.to_date()
        assert whole.filter(before).equals(scrambled.filter(before)), cut
        assert not whole.filter(~before).equals(scrambled.filter(~before)), cut
        for first, model in models.items():  # one that begins on the cut has seen the close before it and no more
            assert same(model, theirs[first]) == (first <= cut), (cut, first)


# ---- stopped ---------------------------------------------------------------------------------------------------------


class StopAt(Quiet):
    """Raises the flag at one step, after which one more is made; -1: so that this is the last of the epoch. 0: at the
    epoch's end."""

    def __init__(self, stop: Stop, period: str, epoch: int, step: int) -> None:
        self.stop, self.at = stop, (period, epoch, step)

    def step(self, moment: Moment) -> None:
        if (moment.period, moment.epoch, moment.step) == self.at or (self.at[2] == -1 and self._last(moment)):
            self.stop.asked = True

    def _last(self, moment: Moment) -> bool:
        return (moment.period, moment.epoch) == self.at[:2] and moment.step == moment.steps - 1

    def epoch(self, row: Any) -> None:
        if (row.get("period", ""), row["epoch"], 0) == self.at:
            self.stop.asked = True


PLACES = [
    ("", 2, 3),  # within the training
    ("", 3, -1),  # its last step
    ("", 3, 0),  # between the training and the periods
    ("2020-04-15", 1, 1),  # the first step of all periods
    ("2020-05-01", 1, 5),  # within a period
    ("2020-05-01", 1, 0),  # between two epochs of a period
    ("2020-05-01", 2, -1),  # the last step of a period
    ("2020-05-01", 2, 0),  # between two periods
    ("2020-06-01", 2, -1),  # the very last step
]


@pytest.mark.parametrize("kind", ["cqb", "db_mtl", "famo", "blocks"])
def test_stopped_and_resumed_anywhere_equals_uninterrupted(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Weights of every period, optimiser, balancer and history, to the bit; with dropout."""
    monkeypatch.setattr("mimstocr.training.loop.LOOK_SECONDS", -1.0)
    changes: dict[str, Any] = {"balancer": {"kind": kind, **({"window": 1} if kind == "cqb" else {})}}
    if kind == "blocks":
        changes = {**POSITIONS, "training": {"order": "blocks"}}
    prepared = prepare(rolling(small, {"epochs": 2}, **changes))
    whole = both(prepared, tmp_path / "whole")
    assert whole.fit(Quiet(), Stop())
    models = weights(tmp_path / "whole")
    assert list(models) == ["2020-04-15", "2020-05-01", "2020-06-01"]
    for place in PLACES if kind == "cqb" else PLACES[4::3]:
        folder = tmp_path / "-".join(map(str, place))
        stop = Stop()
        first = both(prepared, folder)
        assert not first.fit(StopAt(stop, *place), stop), place
        torch.rand(7)
        second = both(prepared, folder)
        second.resume()
        assert second.fit(Quiet(), Stop())
        theirs = weights(folder)
        assert theirs.keys() == models.keys()
        assert all(same(models[day], theirs[day]) for day in models), place
        for last in (Path("last.safetensors"), Path("rolling/last.safetensors")):
            assert same(load_checkpoint(tmp_path / "whole" / last, CPU)[0], load_checkpoint(folder / last, CPU)[0])
        rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in run.at.history] for run in (whole, second)]
        assert rows[0] == rows[1]


def test_a_killed_training_goes_back_to_its_last_checkpoint(small: Make, tmp_path: Path) -> None:
    prepared = prepare(rolling(small))
    whole = both(prepared, tmp_path / "whole")
    whole.fit(Quiet(), Stop())

    class Kill(Quiet):
        def step(self, moment: Moment) -> None:
            if moment.period == "2020-06-01":
                raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        both(prepared, tmp_path / "parts").fit(Kill(), Stop())
    assert not list((tmp_path / "parts").rglob("*.partial"))
    second = both(prepared, tmp_path / "parts")
    second.resume()
    assert second.fit(Quiet(), Stop())
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert one.keys() == two.keys()
    assert all(same(one[day], two[day]) for day in one)


def test_a_longer_training_with_another_best_epoch_has_other_periods(small: Make, tmp_path: Path) -> None:
    def of(epochs: int, folder: str) -> RollingTrainer:
        return both(prepare(rolling(small, training={"max_epochs": epochs})), tmp_path / folder)

    first = of(2, "longer")
    assert first.fit(Quiet(), Stop())
    before = weights(tmp_path / "longer")
    (tmp_path / "longer" / "rolling" / "2019-01-01.safetensors").write_bytes(b"of another time")
    again = of(3, "longer")
    again.resume()
    assert again.fit(Quiet(), Stop())
    assert (first.trainer.at.best_epoch, again.trainer.at.best_epoch) == (2, 3)
    straight = of(3, "straight")
    assert straight.fit(Quiet(), Stop())
    one, two = weights(tmp_path / "longer"), weights(tmp_path / "straight")
    assert one.keys() == two.keys()
    assert all(same(one[day], two[day]) for day in one)
    assert not any(same(one[day], before[day]) for day in one)


# ---- a whole run -----------------------------------------------------------------------------------------------------


class Signal(Quiet):
    """SIGTERM to this process, once, in a period."""

    def __init__(self) -> None:
        self.sent = False

    def step(self, moment: Moment) -> None:
        if moment.period == "2020-05-01" and not self.sent:
            self.sent = True
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def finished(small: Make) -> RunFolder:
    return mimstocr.run(rolling(small, seeds=[0, 1])).folder


def test_a_run_stopped_by_a_signal_goes_on(
    small: Make, finished: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mimstocr.training.loop.LOOK_SECONDS", -1.0)
    config = rolling(small, seeds=[0, 1], name="stopped")
    result = mimstocr.run(config, watcher=Signal())
    assert not result.finished
    assert not (result.folder.path / "predictions.parquet").exists()
    with pytest.raises(RunError, match="has not the models of all periods yet"):
        mimstocr.recommend(result.folder.path)
    assert mimstocr.run(config, resume=True).finished
    assert result.folder.read_frame("predictions.parquet").equals(finished.read_frame("predictions.parquet"))


def test_each_day_is_predicted_by_the_model_of_its_period(small: Make, finished: RunFolder) -> None:
    prepared = prepare(finished.config())
    table = finished.read_frame("predictions.parquet").filter(pl.col("seed") == 1)
    stocks, days = symbols_of(prepared.panel), [str(day)[:10] for day in prepared.days]
    models = weights(finished.checkpoints(1))
    best, _ = load_checkpoint(finished.checkpoints(1) / "best.safetensors", CPU)
    seen = set()
    for (date,), rows in table.group_by("date"):
        owner = max((first for first in models if first <= str(date)), default="best")
        seen.add(owner)
        model = fresh_model(prepared, 1)
        model.load_state_dict(part(models.get(owner, best), "model."))
        said = predict(model, prepared.learned, prepared.batches, [days.index(str(date))], len(stocks))
        mine = said.scores["return"][0][[stocks.index(symbol) for symbol in rows["symbol"]]]
        np.testing.assert_allclose(rows["score"].to_numpy(), mine, rtol=1e-4, atol=1e-6)
    assert seen == {"best", "2020-04-15", "2020-05-01", "2020-06-01"}
    assert set(table["split"].unique()) == {"valid", "test", "live"}


def test_everything_that_reads_a_run_copes(finished: RunFolder) -> None:
    rows, periods = finished.read_history(), finished.read_periods()
    assert [(row["seed"], row["epoch"]) for row in rows] == [(seed, epoch) for seed in (0, 1) for epoch in (1, 2, 3)]
    assert [(row["seed"], row["period"], row["best"]) for row in periods] == [
        (seed, first, False) for seed in (0, 1) for first in ("2020-04-15", "2020-05-01", "2020-06-01")
    ]
    metrics = finished.read_json("metrics.json")
    for seed in ("0", "1"):
        assert metrics["seeds"][seed]["epochs"] == 3
        seconds = sum(row["seconds"] for row in [*rows, *periods] if row["seed"] == int(seed))
        assert metrics["seeds"][seed]["seconds"] == pytest.approx(seconds)
    again = mimstocr.evaluate(finished.path)
    assert again["mean"]["rank_ic"] == pytest.approx(metrics["mean"]["test"]["rank_ic"])
    told = finished.read_json("data.json")
    first, last = (row["days"] for row in periods if row["seed"] == 0 and row["period"] in ("2020-04-15", "2020-05-01"))
    assert told["rolling"] == {
        **{"every": "month", "epochs": 1, "train_days": None, "learning_rate": None},
        **{"periods": 3, "test_periods": 2, "first_train_days": first, "last_train_days": last},
    }
    page = mimstocr.write_report(finished.path).read_text()
    assert f"2 rolling models, one a month; epochs each: 1, on {first} to {last} days" in page
    assert "are of 3 models, one a month" in page  # the note


def test_later_days_are_of_the_last_model(small: Make, prices: Path, tmp_path: Path) -> None:
    """A source that has grown by a month: the same weights, the same list for days that were there."""
    table = pl.read_parquet(prices)
    early = tmp_path / "early.parquet"
    table.filter(pl.col("date") < pl.date(2020, 5, 20)).write_parquet(early)
    made = mimstocr.run(rolling(small, data={"source": f"parquet:{early}"})).folder
    listed = made.read_frame("recommendations.csv")
    table.write_parquet(early)
    assert mimstocr.recommend(made.path, day=listed["date"][0])["symbol"].to_list() == listed["symbol"].to_list()
    live = mimstocr.recommend(made.path)
    panel = load_panel(made.config().data)
    assert str(live["date"][0])[:10] == str(days_of(panel)[-1])[:10] == "2020-06-30"
    shown = CliRunner().invoke(app, ["recommend", str(made.path)])
    assert shown.exit_code == 0
    told = "note: the last rolling model, of the month from 2020-05-01, was trained on days up to 2020-04-28"
    assert told in " ".join(shown.stderr.split())
    shown = CliRunner().invoke(app, ["recommend", str(made.path), "--date", str(listed["date"][0])])
    assert "note" not in shown.stderr
    before = made.read_frame("predictions.parquet")
    assert mimstocr.run(made.config(), resume=True).finished  # keeps to the days it began with
    assert made.read_frame("predictions.parquet").equals(before)
    assert list(weights(made.checkpoints(0))) == ["2020-04-15", "2020-05-01"]


def test_without_rolling_nothing_is_other_than_before(small: Make) -> None:
    made = mimstocr.run(small(splits=SPLITS, training=TRAINING)).folder
    _, header = load_checkpoint(made.checkpoints(0) / "best.safetensors", CPU)
    assert not [key for key in header["identity"] if "rolling" in key]
    assert not (made.checkpoints(0) / "rolling").exists()
    assert "rolling" not in made.read_json("data.json")
    tensors, _ = load_checkpoint(made.checkpoints(0) / "best.safetensors", CPU)
    assert {name.partition(".")[0] for name in tensors} == {"model", "features"}
    with pytest.raises(RunError, match=r"training\.rolling\.every: then None, now 'month'"):
        mimstocr.run(rolling(small), resume=True)
