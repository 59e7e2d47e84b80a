"""Gradients and steps against finite differences, a world in which one knows who helps, and stops on the way."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from mimstocr.backbones import BACKBONES, Inputs
from mimstocr.backbones.recurrent import Gru, Lstm
from mimstocr.config import Config
from mimstocr.discovery.affinity import (
    TABLE,
    Affinity,
    AffinityPlan,
    average,
    find_affinity,
    long_table,
    measure,
    spread,
)
from mimstocr.discovery.watch import Unwatched
from mimstocr.errors import ConfigError, RunError
from mimstocr.losses.cross_entropy import CrossEntropy
from mimstocr.sharing.hard import Hard
from mimstocr.studies.study import config_hash
from mimstocr.tasks import Task
from mimstocr.tasks.momentum_line import MomentumLine
from mimstocr.tasks.returns import Return
from mimstocr.training.batches import DayBatch, DayBatches
from mimstocr.training.loop import Moment, Trainer, Watcher
from mimstocr.training.model import Model, seeded_model
from mimstocr.training.prepare import Prepared, prepare
from mimstocr.workflow import Quiet

Make = Callable[..., Config]
CPU = torch.device("cpu")
STEP = 0.05


def made_up(days: int, tasks: Mapping[str, Task], seed: int = 0) -> Callable[[Sequence[int]], DayBatch]:
    """Batches of days of five stocks, the last of which is padding."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(days, 5, 4, 2, generator=random)
    levels = torch.randint(0, 5, (days, 5), generator=random).float()
    values = {name: torch.randn(days, 5, generator=random) for name in tasks}
    targets = {name: levels if task.levels else values[name] for name, task in tasks.items()}
    valid = torch.ones(days, 5, dtype=torch.bool)
    valid[:, 4] = False

    def batches(at: Sequence[int]) -> DayBatch:
        rows = list(at)
        symbols = torch.arange(5).expand(len(rows), 5)
        return DayBatch(rows, symbols, valid[rows], x[rows], {}, {name: y[rows] for name, y in targets.items()})

    return batches


# ---- one model, one day ----------------------------------------------------------------------------------------------


def loss_by_hand(model: Model, tasks: Mapping[str, Task], batch: DayBatch, name: str) -> float:
    """One stock after the other."""
    with torch.no_grad():
        out = model(batch.x.double(), batch.valid, {})[name][0]
    terms = []
    for i in range(batch.valid.shape[1]):
        if not batch.valid[0, i] or batch.targets[name][0, i].isnan():
            continue
        y = batch.targets[name][0, i]
        terms.append(float(-torch.log_softmax(out[i], 0)[int(y)] if tasks[name].levels else (out[i] - y) ** 2))
    return sum(terms) / len(terms)


def gradient_by_hand(model: Model, tasks: Mapping[str, Task], batch: DayBatch, name: str) -> list[float]:
    """Central differences, one weight after the other."""
    gradient = []
    with torch.no_grad():
        for parameter in model.shared.parameters():
            flat = parameter.view(-1)
            for i in range(len(flat)):
                kept, sides = float(flat[i]), []
                for side in (1e-6, -1e-6):
                    flat[i] = kept + side
                    sides.append(loss_by_hand(model, tasks, batch, name))
                flat[i] = kept
                gradient.append((sides[0] - sides[1]) / 2e-6)
    return gradient


def test_equals_finite_differences() -> None:
    tasks: dict[str, Task] = {
        "main": Return(),
        "level": MomentumLine(lead=1, loss=CrossEntropy()),
        "other": Return(horizon=5),
    }
    model = seeded_model(3, Gru(hidden_size=2, num_layers=1), Hard(), tasks, Inputs(2, 4)).double()
    batches = made_up(2, tasks)
    cosines, lookaheads = measure(model, tasks, cast(DayBatches, batches), [0, 1], STEP)
    assert cosines.shape == lookaheads.shape == (2, 3, 3)
    for day in range(2):
        batch = batches([day])
        gradients = {name: gradient_by_hand(model, tasks, batch, name) for name in tasks}
        for i, one in enumerate(tasks):
            for j, other in enumerate(tasks):
                inner = sum(a * b for a, b in zip(gradients[one], gradients[other], strict=True))
                lengths = math.prod(math.sqrt(sum(a * a for a in gradients[name])) for name in (one, other))
                assert cosines[day, i, j] == pytest.approx(inner / lengths, rel=1e-6, abs=1e-8)
            before = {name: loss_by_hand(model, tasks, batch, name) for name in tasks}
            with torch.no_grad():
                start = torch.nn.utils.parameters_to_vector(model.shared.parameters()).clone()
                moved = start - STEP * torch.tensor(gradients[one], dtype=torch.float64)
                torch.nn.utils.vector_to_parameters(moved, model.shared.parameters())
                after = {name: loss_by_hand(model, tasks, batch, name) for name in tasks}
                torch.nn.utils.vector_to_parameters(start, model.shared.parameters())
            for j, other in enumerate(tasks):
                assert lookaheads[day, i, j] == pytest.approx(1 - after[other] / before[other], rel=1e-6, abs=1e-9)


def test_a_task_that_wants_the_opposite_is_at_minus_one() -> None:
    """Its head and its errors are those of the main one, but for their sign; a small step then takes what it gives."""
    tasks: dict[str, Task] = {"main": Return(), "opposite": Return(), "same": Return()}
    model = seeded_model(0, Lstm(hidden_size=3, num_layers=1), Hard(), tasks, Inputs(2, 4)).double()
    for name in ("opposite", "same"):
        model.heads[name].load_state_dict(model.heads["main"].state_dict())
    plain = made_up(1, tasks)

    def batches(at: Sequence[int]) -> DayBatch:
        batch = plain(at)
        with torch.no_grad():
            out = model(batch.x.double(), batch.valid, {})["main"]
        y = batch.targets["main"]
        return replace(batch, targets={"main": y, "opposite": 2 * out - y, "same": y})

    cosines, lookaheads = measure(model, tasks, cast(DayBatches, batches), [0], 1e-5)
    np.testing.assert_allclose(cosines[0, :, 0], [1, -1, 1], atol=1e-12)
    assert lookaheads[0, 0, 0] > 0
    assert lookaheads[0, 2, 0] == pytest.approx(lookaheads[0, 0, 0], rel=1e-12)
    assert lookaheads[0, 1, 0] == pytest.approx(-lookaheads[0, 0, 0], rel=1e-3)


def test_what_is_not_defined_is_not_a_number() -> None:
    tasks: dict[str, Task] = {"main": Return(), "other": Return(), "fitted": Return()}
    model = seeded_model(0, Lstm(hidden_size=3, num_layers=1), Hard(), tasks, Inputs(2, 4)).double()
    plain = made_up(2, tasks)

    def batches(at: Sequence[int]) -> DayBatch:
        batch = plain(at)
        with torch.no_grad():
            out = model(batch.x.double(), batch.valid, {})["fitted"]
        if list(at) == [1]:
            batch.targets["other"][:] = math.nan  # no label on that day
        return replace(batch, targets={**batch.targets, "fitted": out})  # a loss of 0, and no gradient

    cosines, lookaheads = measure(model, tasks, cast(DayBatches, batches), [0, 1], STEP)
    assert np.isnan(cosines[0]).tolist() == [[False, False, True], [False, False, True], [True, True, True]]
    assert np.isnan(cosines[1]).tolist() == [[False, True, True], [True, True, True], [True, True, True]]
    # a step of a task that has nothing to learn changes nothing; a loss of 0 has no parts
    assert lookaheads[0, 2, :2].tolist() == [0, 0]
    assert np.isnan(lookaheads[0, :, 2]).all()
    assert np.isnan(lookaheads[1]).tolist() == [[False, True, True], [True, True, True], [False, True, True]]


@pytest.mark.parametrize("kind", [name for name in BACKBONES.names() if not BACKBONES.get(name).fixed_portfolio])
def test_the_model_stays_as_it_is_whatever_the_backbone(kind: str, small: Make) -> None:
    """Weights, mode and gradients; twice the same, so without dropout."""
    table = small().data.source.removeprefix("parquet:")
    symbols = pl.read_parquet(table)["symbol"].unique(maintain_order=True)
    concepts = Path(small().out).parent / "concepts.csv"
    pl.DataFrame({"symbol": symbols, "concept": ["a", "b"] * (len(symbols) // 2)}).write_csv(concepts)
    config = small(backbone=kind, data={"source": f"parquet:{table}", "concepts": str(concepts)})
    prepared = prepare(config)
    model = seeded_model(
        0,
        config.backbone,
        config.sharing,
        prepared.learned,
        Inputs(len(prepared.fitted.names), 8, len(prepared.concepts)),
    ).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    one, two = (measure(model, prepared.learned, prepared.batches, prepared.valid_days[:2], STEP) for _ in range(2))
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, two, strict=True))
    assert np.isfinite(one[0]).all()
    np.testing.assert_allclose(one[0][:, [0, 1], [0, 1]], 1, rtol=1e-12)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


# ---- from days to estimates ------------------------------------------------------------------------------------------


def test_means_are_of_days_and_errors_over_days() -> None:
    """Two epochs and two seeds of a day are one value of it."""
    random = np.random.default_rng(0)
    dates = np.array(["2020-01-02", "2020-01-03", "2020-01-06"], dtype="datetime64[D]")
    tables, cosines = [], []
    for seed in (0, 1):
        for epoch in (1, 2):
            found = random.normal(size=(3, 2, 2)), random.normal(size=(3, 2, 2))
            found[0][1, 0, 1] = math.nan  # never known on the second day
            if epoch == 2:
                found[0][2, 1, 1] = math.nan  # on the third known in the first epoch alone
            cosines.append(found[0])
            tables.append(long_table(found, ["a", "b"], dates, seed, epoch))
    got = average(pl.concat(tables), ["a", "b"], STEP)
    assert (got.tasks, got.epochs, got.seeds) == (("a", "b"), 2, (0, 1))
    assert got.cosine.days.tolist() == [[3, 2], [3, 3]]
    for i in range(2):
        for j in range(2):
            by_day = []
            for day in range(3):
                known = [c[day, i, j] for c in cosines if not math.isnan(c[day, i, j])]
                by_day += [sum(known) / len(known)] if known else []
            n, mean = len(by_day), sum(by_day) / len(by_day)
            error = math.sqrt(sum((value - mean) ** 2 for value in by_day) / (n - 1) / n)
            assert got.cosine.mean[i, j] == pytest.approx(mean)
            assert got.cosine.error[i, j] == pytest.approx(error)


def test_days_are_spread_evenly_from_the_first_to_the_last() -> None:
    assert spread([3, 5, 7, 9, 11], 3) == [3, 7, 11]
    assert spread([3, 5, 7], 9) == [3, 5, 7]
    assert spread([3, 5, 7], 1) == [3]
    assert len(spread(list(range(200)), 30)) == 30


# ---- a world in which one knows --------------------------------------------------------------------------------------

NAMES = ("return", "copy", "noise")


@pytest.fixture
def planted(small: Make, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Three tasks: the change of the last day with noise, the same with more noise, and noise alone."""

    def plant(config: Config) -> Prepared:
        prepared = prepare(config)
        random = np.random.default_rng(5)
        close = prepared.panel["close"].values
        change = np.vstack([np.zeros((1, close.shape[1])), close[1:] / close[:-1] - 1])
        main = change / change.std() + 0.3 * random.normal(size=change.shape)
        labels = {
            "return": main,
            "copy": main + 0.5 * random.normal(size=change.shape),
            "noise": 3 * random.normal(size=change.shape),
        }
        targets = {name: np.where(prepared.rows, y, np.nan).astype(np.float32) for name, y in labels.items()}
        windows = prepared.fitted.bind(prepared.panel, CPU)
        return replace(prepared, batches=DayBatches(windows, prepared.rows, targets, CPU))

    monkeypatch.setattr("mimstocr.discovery.affinity.prepare", plant)
    tasks = {name: {"kind": "return", "delay": 1, "normalise": "none"} for name in NAMES}
    training = {"learning_rate": 0.01, "max_epochs": 40, "days_per_step": 12, "device": "cpu"}
    return small(tasks=tasks, balancer="ew", training=training, backbone={"kind": "mlp", "hidden_sizes": [8]})


def found(config: Config, place: Path, watch: Unwatched | None = None, epochs: int = 4) -> Affinity | None:
    return find_affinity(config, AffinityPlan(epochs=epochs, days=12), place, watch or Unwatched())[0]


def test_who_helps_is_told_from_who_does_not(planted: Config, tmp_path: Path) -> None:
    got = found(planted, tmp_path / "place", epochs=20)
    assert got is not None
    assert got.tasks == NAMES
    cosine, lookahead = got.cosine.mean[:, 0], got.lookahead.mean[:, 0]
    assert cosine[0] == pytest.approx(1)
    assert cosine[1] > 0.3
    assert cosine[1] - cosine[2] > 3 * math.hypot(got.cosine.error[1, 0], got.cosine.error[2, 0])
    assert lookahead[0] > 0
    assert lookahead[1] > 3 * got.lookahead.error[1, 0] > 0
    assert lookahead[2] < lookahead[1] / 3
    assert abs(cosine[2]) < 0.3
    assert got.step == 0.01
    assert (got.cosine.days == 12).all()


class Interrupting(Unwatched):
    """Sends Ctrl-C at one step of one epoch, or raises at the end of one."""

    def __init__(self, epoch: int, kill: bool = False) -> None:
        self.at = epoch
        self.kill = kill
        self.asked = False

    def training(self, config: Config) -> AbstractContextManager[Watcher]:
        outer = self

        class Watch(Quiet):
            def step(self, moment: Moment) -> None:
                if moment.epoch == outer.at and not outer.kill and not outer.asked:
                    outer.asked = True  # a second one would insist
                    os.kill(os.getpid(), signal.SIGINT)

            def epoch(self, row: Mapping[str, Any]) -> None:
                if row["epoch"] == outer.at and outer.kill:
                    raise MemoryError

        return nullcontext(Watch())


def table_of(place: Path) -> pl.DataFrame:
    (path,) = place.rglob(TABLE)
    return pl.read_parquet(path)


@pytest.mark.parametrize("kill", [False, True])
def test_stopped_or_killed_it_goes_on_with_the_same_figures(
    planted: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill: bool
) -> None:
    """A kill between the checkpoint of an epoch and its measure is made good."""
    monkeypatch.setattr("mimstocr.training.loop.LOOK_SECONDS", -1.0)
    whole = found(planted, tmp_path / "whole")
    for epoch in (2, 3):
        if kill:
            with pytest.raises(MemoryError):
                found(planted, tmp_path / "parts", Interrupting(epoch, kill=True))
        else:
            assert found(planted, tmp_path / "parts", Interrupting(epoch)) is None
    parts = found(planted, tmp_path / "parts")
    assert parts is not None
    assert whole is not None
    assert_frame_equal(table_of(tmp_path / "whole"), table_of(tmp_path / "parts"))
    assert np.array_equal(parts.lookahead.mean, whole.lookahead.mean)
    assert parts.seconds > 0
    assert parts.measuring > 0

    def again(*_: object) -> None:
        raise AssertionError("trained twice")

    monkeypatch.setattr(Trainer, "_step", again)
    shown = found(planted, tmp_path / "parts")
    assert shown is not None
    assert (shown.seconds, shown.measuring) == (parts.seconds, parts.measuring)  # the cost of then, not of looking


def test_a_stop_in_the_last_measure_is_not_lost(planted: Config, tmp_path: Path) -> None:
    """What comes after must not begin."""
    got, stopped = find_affinity(planted, AffinityPlan(epochs=1, days=3), tmp_path / "place", Interrupting(1))
    assert stopped
    assert got is not None


def test_measures_that_are_lost_are_not_made_up(planted: Config, tmp_path: Path) -> None:
    found(planted, tmp_path, epochs=3)
    (path,) = tmp_path.rglob(TABLE)
    pl.read_parquet(path).filter(pl.col("epoch") != 2).write_parquet(path)
    with pytest.raises(RunError, match=r"lacks epochs \[2\] of a training that is past them; remove"):
        found(planted, tmp_path, epochs=3)


def test_without_shared_parameters_there_is_no_affinity(
    planted: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Model, "shared_parameters", lambda self: [])
    with pytest.raises(ConfigError, match="sharing hard has none"):
        found(planted, tmp_path)
    assert list(tmp_path.glob("affinity*")) == []


def test_the_folder_says_what_it_is_of(planted: Config, tmp_path: Path) -> None:
    place = tmp_path / "place"
    found(planted, place, epochs=1)
    other = planted.model_copy(update={"seeds": (1,)})
    assert config_hash(other) == config_hash(planted)  # another seed has its own part of the same folder
    find_affinity(other, AffinityPlan(epochs=1, days=12), place, Unwatched())
    find_affinity(planted, AffinityPlan(epochs=1, days=12, step=0.5), place, Unwatched())
    find_affinity(planted, AffinityPlan(epochs=1, days=11), place, Unwatched())
    folders = sorted(path.name.split("-", 2)[2] for path in place.glob("affinity-*"))
    assert folders == ["11-0.01", "12-0.01", "12-0.5"]
    assert len(list(place.rglob(TABLE))) == 4
