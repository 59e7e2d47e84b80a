"""Stages: which tasks train when, by hand; and in the loop what does not train stays as it is, to the bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mimstocr.config import Config, make_config
from mimstocr.errors import ConfigError
from mimstocr.training.checkpoint import load_checkpoint, part
from mimstocr.training.curriculum import Stage, phase_of
from mimstocr.training.interrupt import Stop
from mimstocr.training.loop import Moment, Trainer
from mimstocr.training.prepare import Prepared, prepare
from mimstocr.workflow import Quiet, fresh_model, make_setting

Make = Callable[..., Config]
TASKS = ["return", "direction", "volume"]
CPU = torch.device("cpu")


def history(**losses: Sequence[float]) -> list[dict[str, Any]]:
    """Rows with validation losses by task; a task that is not named is always at 1."""
    n = max(len(values) for values in losses.values())
    return [{"valid": {name: losses.get(name, [1.0] * n)[i] for name in TASKS}} for i in range(n)]


def stages_of(stages: Sequence[Stage], rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """The stage of each epoch: of the first, and of those that follow each row."""
    return [phase_of(stages, TASKS, rows[:n]).stage for n in range(len(rows) + 1)]


# ---- which tasks train when ------------------------------------------------------------------------------------------


def test_without_stages_all_train_from_the_first_epoch() -> None:
    assert phase_of([], TASKS, []) == (1, tuple(TASKS), True)


def test_tasks_enter_in_turn_and_stay() -> None:
    stages = [Stage(tasks=("volume",), epochs=2), Stage(tasks=("direction",), epochs=1)]
    rows = history(volume=[1.0] * 5)
    assert [phase_of(stages, TASKS, rows[:n]) for n in range(6)] == [
        (1, ("volume",), False),
        (1, ("volume",), False),
        (2, ("direction", "volume"), False),  # in the order of all tasks
        (3, ("return", "direction", "volume"), True),
        (3, ("return", "direction", "volume"), True),
        (3, ("return", "direction", "volume"), True),
    ]


@pytest.mark.parametrize(
    ("patience", "losses", "length"),
    [
        (None, [3, 3, 3, 3, 3, 3], 6),  # without patience its epochs are what it takes
        (2, [3, 2, 1, 0.5, 0.4, 0.3], 6),  # always better: to the end
        (2, [3, 2, 2, 2, 1, 1], 4),  # as low as before is not lower
        (2, [3, 4, 2, 4, 4, 1], 5),  # the count begins anew at 2
        (1, [3, 3, 1, 1, 1, 1], 2),
        (1, [math.nan, 1, 1, 1, 1, 1], 1),  # no number is no lower one
        (2, [math.nan, 1, math.nan, 2, 1, 1], 4),
        (6, [3, 3, 3, 3, 3, 3], 6),
    ],
)
def test_a_stage_ends_when_its_losses_stand_still(patience: int | None, losses: list[float], length: int) -> None:
    rows = history(direction=losses)
    # the losses of a task that is not of the stage, even one that trains, do not count
    stages = [Stage(tasks=("direction",), epochs=6, patience=patience)]
    assert stages_of(stages, rows)[: length + 1] == [1] * length + [2]
    later = [Stage(tasks=("volume",), epochs=1), *stages]
    assert stages_of(later, [*history(volume=[0.0]), *rows])[: length + 2] == [1] + [2] * length + [3]


def test_a_stage_goes_on_as_long_as_any_of_its_tasks_gets_better() -> None:
    stages = [Stage(tasks=("direction", "volume"), epochs=9, patience=2)]
    rows = history(direction=[3, 2, 2, 2, 2, 2, 2], volume=[900, 901, 899, 950, 950, 1, 1])
    assert stages_of(stages, rows) == [1, 1, 1, 1, 1, 2, 2, 2]  # better at 1, 2 (direction), 3 (volume): ends after 5


def test_what_comes_later_does_not_change_what_was() -> None:
    stages = [Stage(tasks=("direction",), epochs=6, patience=2), Stage(tasks=("volume",), epochs=3, patience=1)]
    random = torch.Generator().manual_seed(0)
    for _ in range(50):
        losses = {name: torch.randint(0, 5, (12,), generator=random).tolist() for name in TASKS}
        rows = history(**losses)
        found = stages_of(stages, rows)
        assert found == sorted(found)
        assert max(found[1:]) <= 3
        changed = rows[:6] + history(**{name: values[::-1] for name, values in losses.items()})[6:]
        assert stages_of(stages, changed)[:7] == found[:7]


# ---- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"curriculum": [{"tasks": ["momentun"], "epochs": 1}]}, r"curriculum.*no task 'momentun'; did you mean 'mom"),
        ({"curriculum": [{"tasks": [], "epochs": 1}]}, r"curriculum\.0\.tasks: .*at least 1"),
        ({"curriculum": [{"tasks": ["return"], "epochs": 0}]}, r"curriculum\.0\.epochs: .*greater than or equal to 1"),
        (
            {"curriculum": [{"tasks": ["return"], "epochs": 1}, {"tasks": ["momentum", "return"], "epochs": 1}]},
            "a task enters once and stays, but return enters twice",
        ),
        (
            {"curriculum": [{"tasks": ["momentum"], "epochs": 3, "patience": 1}], "max_epochs": 3},
            r"may take 3 epochs, which leaves none of max_epochs \(3\)",
        ),
        ({"joint_learning_rate": 0.1}, "it is of a curriculum, and there is none"),
        ({"learn": ["momentum", "momentum"]}, "learn: each task once, got momentum twice"),
        ({"learn": ["returns"]}, r"training\.learn: no task 'returns'; did you mean 'return'"),
        (
            {"learn": ["return"], "curriculum": [{"tasks": ["momentum"], "epochs": 1}]},
            "of the learned tasks: no task 'momentum'; known: return",
        ),
    ],
)
def test_mistakes_are_found_in_the_config(training: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_config({"training": training})


def test_names_of_a_curriculum_are_those_of_settled_tasks() -> None:
    tasks = {"return": {"kind": "return"}, "ahead": {"kind": "return", "horizons": [1, 5]}}
    stages = [{"tasks": ["ahead_5"], "epochs": 2}]
    config = make_config({"tasks": tasks, "training": {"curriculum": stages}})
    assert config.training.curriculum[0].tasks == ("ahead_5",)
    with pytest.raises(ConfigError, match="no task 'ahead'"):
        make_config({"tasks": tasks, "training": {"curriculum": [{"tasks": ["ahead"], "epochs": 2}]}})


def test_some_of_the_tasks_are_learned_on_the_days_of_all(small: Make) -> None:
    """The others still cut the splits, so what is measured is measured on the same days."""
    tasks = {
        "return": {"kind": "return", "delay": 1},
        "momentum": {"kind": "momentum_line", "s": 3, "l": 2},
        "month": {"kind": "return", "delay": 1, "horizon": 10},
    }
    whole, part_of = prepare(small(tasks=tasks)), prepare(small(tasks=tasks, training={"learn": ["month", "return"]}))
    assert list(part_of.learned) == ["return", "month"]  # in the order of the tasks
    assert part_of.valid_days == whole.valid_days
    assert part_of.splits == whole.splits
    without = prepare(small(tasks={name: tasks[name] for name in ("return", "momentum")}))
    assert without.splits != whole.splits


# ---- in the loop -----------------------------------------------------------------------------------------------------


def staged(
    small: Make,
    balancer: Any = "ew",
    stages: Sequence[Mapping[str, Any]] | None = None,
    dropout: float = 0.2,
    **more: Any,
) -> Prepared:
    """Three tasks; by default the momentum for two epochs, the week beside it for one, then all."""
    stages = stages or [{"tasks": ["momentum"], "epochs": 2}, {"tasks": ["week"], "epochs": 1}]
    training = {"learning_rate": 0.01, "max_epochs": 5, "days_per_step": 12, "device": "cpu", **more}
    tasks = {
        "return": {"kind": "return", "delay": 1},
        "momentum": {"kind": "momentum_line", "s": 3, "l": 2},
        "week": {"kind": "return", "delay": 1, "horizon": 5},
    }
    backbone = {"kind": "gru", "hidden_size": 4, "num_layers": 2, "dropout": dropout}
    settings = {"backbone": backbone, "balancer": balancer, "training": {"curriculum": stages, **training}}
    return prepare(small(tasks=tasks, **settings))


def trainer(prepared: Prepared, folder: Path) -> Trainer:
    return Trainer(make_setting(prepared), fresh_model(prepared, 0), 0, folder)


class Snapshots(Quiet):
    """The heads, the gradients and the optimiser's memory after each epoch."""

    def __init__(self, run: Trainer) -> None:
        self.run = run
        self.heads: list[dict[str, list[Tensor]]] = [self._heads()]
        self.without: list[set[str]] = []
        self.rates: list[float] = []

    def _heads(self) -> dict[str, list[Tensor]]:
        return {name: [p.detach().clone() for p in head.parameters()] for name, head in self.run.model.heads.items()}

    def epoch(self, row: Mapping[str, Any]) -> None:
        self.heads.append(self._heads())
        of = {name: list(head.parameters()) for name, head in self.run.model.heads.items()}
        self.without.append(
            {name for name, own in of.items() if all(p.grad is None and p not in self.run.optimizer.state for p in own)}
        )
        self.rates.append(self.run.optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("balancer", ["ew", "uw", {"kind": "cqb", "window": 1}, "mgda", "famo"])
def test_what_does_not_train_stays_as_it_is(small: Make, tmp_path: Path, balancer: Any) -> None:
    """Head, gradient and Adam's memory, in spite of weight decay."""
    run = trainer(staged(small, balancer, weight_decay=0.1), tmp_path)
    seen = Snapshots(run)
    assert run.fit(seen, Stop())
    assert [(row["stage"], row["active"]) for row in run.at.history] == [
        (1, ["momentum"]),
        (1, ["momentum"]),
        (2, ["momentum", "week"]),
        (3, ["return", "momentum", "week"]),
        (3, ["return", "momentum", "week"]),
    ]
    for row, before, after, without in zip(run.at.history, seen.heads, seen.heads[1:], seen.without, strict=False):
        for name, head in before.items():
            still = all(torch.equal(one, other) for one, other in zip(head, after[name], strict=True))
            assert still == (name not in row["active"])
        assert without == {"return", "momentum", "week"} - set(row["active"])
        assert {name for name, loss in row["train"].items() if math.isnan(loss)} == without
        assert all(math.isfinite(loss) for loss in row["valid"].values())


def test_equals_a_loop_written_out(small: Make, tmp_path: Path) -> None:
    """Adam on the losses that there are, with a step size of its own in the end."""
    prepared = staged(small, "ew", weight_decay=0.01, joint_learning_rate=0.002, days_per_step=20, dropout=0.0)
    ours = trainer(prepared, tmp_path)
    assert ours.fit(Quiet(), Stop())

    model = fresh_model(prepared, 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.01)
    plan = [["momentum"], ["momentum"], ["momentum", "week"], [*prepared.learned], [*prepared.learned]]
    for epoch, names in enumerate(plan, start=1):
        if epoch == 4:
            optimizer.param_groups[0]["lr"] = 0.002
        order = torch.randperm(len(prepared.train_days), generator=torch.Generator().manual_seed(epoch)).tolist()
        for at in range(0, len(order), 20):
            means = []
            for name in names:
                task, losses = prepared.learned[name], []
                for i in order[at : at + 20]:
                    batch = prepared.batches([prepared.train_days[i]])
                    out = model(batch.x, batch.valid, batch.facts)[name]
                    known = ~batch.targets[name][0].isnan()
                    if known.any():
                        target = batch.targets[name][:, known]
                        target = target.long() if name == "momentum" else target
                        losses.append(task.loss(out[:, known], target, torch.ones_like(target, dtype=torch.bool))[0])
                means.append(torch.stack(losses).mean())
            optimizer.zero_grad()
            sum(means).backward()
            optimizer.step()
    for (name, mine), theirs in zip(ours.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6, msg=name)


class StopAt(Quiet):
    """Raises the flag at one step of one epoch."""

    def __init__(self, stop: Stop, epoch: int, step: int) -> None:
        self.stop, self.at = stop, (epoch, step)

    def step(self, moment: Moment) -> None:
        if (moment.epoch, moment.step) == self.at:
            self.stop.asked = True


def alike(one: Any, other: Any) -> bool:
    """Equal, a NaN to a NaN as well."""
    return repr(one) == repr(other)


def without_time(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.mark.parametrize("balancer", ["ew", "dwa", "gradnorm", {"kind": "cqb", "window": 1}, "db_mtl"])
def test_stopped_in_every_stage_equals_uninterrupted(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, balancer: Any
) -> None:
    """Within each stage, and in the first step of a new one; weights, moments, balancer and history."""
    monkeypatch.setattr("mimstocr.training.loop.LOOK_SECONDS", -1.0)
    prepared = staged(small, balancer, joint_learning_rate=0.003)
    whole = trainer(prepared, tmp_path / "whole")
    assert whole.fit(Quiet(), Stop())
    n = len(whole.order())
    for epoch, step in [(1, 1), (2, n), (3, 2), (3, n), (4, 3), (5, 2)]:
        stop = Stop()
        some = trainer(prepared, tmp_path / "parts")
        if some.last.exists():
            some.resume()
        assert not some.fit(StopAt(stop, epoch, step), stop)
        torch.rand(7)
    last = trainer(prepared, tmp_path / "parts")
    last.resume()
    assert last.fit(Quiet(), Stop())
    assert alike(without_time(last.at.history), without_time(whole.at.history))
    one, two = (load_checkpoint(each.last, CPU)[0] for each in (whole, last))
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name].nan_to_num(7), two[name].nan_to_num(7)), name


def test_a_training_ended_between_two_stages_goes_on_in_the_next(small: Make, tmp_path: Path) -> None:
    """As a kill after the epoch's checkpoint leaves it."""

    class Kill(Quiet):
        def epoch(self, row: Mapping[str, Any]) -> None:
            if row["epoch"] in (2, 3):
                raise KeyboardInterrupt

    prepared = staged(small, {"kind": "cqb", "window": 1})
    whole = trainer(prepared, tmp_path / "whole")
    whole.fit(Quiet(), Stop())
    for _ in range(2):
        killed = trainer(prepared, tmp_path / "killed")
        if killed.last.exists():
            killed.resume()
        with pytest.raises(KeyboardInterrupt):
            killed.fit(Kill(), Stop())
    last = trainer(prepared, tmp_path / "killed")
    last.resume()
    last.fit(Quiet(), Stop())
    assert alike(without_time(last.at.history), without_time(whole.at.history))


def test_the_joint_step_size_survives_a_stop(small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mimstocr.training.loop.LOOK_SECONDS", -1.0)
    prepared = staged(small, joint_learning_rate=0.0005)
    whole = trainer(prepared, tmp_path / "whole")
    seen = Snapshots(whole)
    whole.fit(seen, Stop())
    assert seen.rates == [0.01, 0.01, 0.01, 0.0005, 0.0005]
    stop = Stop()
    trainer(prepared, tmp_path / "parts").fit(StopAt(stop, 5, 1), stop)
    again = trainer(prepared, tmp_path / "parts")
    again.resume()
    after = Snapshots(again)
    again.fit(after, Stop())
    assert after.rates == [0.0005]


def test_only_the_joint_phase_counts(small: Make, tmp_path: Path) -> None:
    """Neither the best epoch nor the patience looks at an epoch in which the main task may be untrained."""
    scripted = iter([0.9, 0.8, 0.7, 0.1, 0.3, 0.2, 0.2, 0.2])
    prepared = staged(small, max_epochs=20, patience=2)
    setting = replace(make_setting(prepared), figures=lambda _: {"ic": 0.0, "rank_ic": next(scripted)})
    run = Trainer(setting, fresh_model(prepared, 0), 0, tmp_path)
    assert run.fit(Quiet(), Stop())
    assert [row["best"] for row in run.at.history] == [False, False, False, True, True, False, False]
    assert run.at.best_epoch == 5
    assert load_checkpoint(run.best, CPU)[1]["epoch"] == 5


def test_stages_follow_the_losses_of_the_history(small: Make, tmp_path: Path) -> None:
    """A step size that is far too large: the stage ends by patience, and what was recorded is what the rule says."""
    stages = [{"tasks": ["momentum"], "epochs": 6, "patience": 1}, {"tasks": ["week"], "epochs": 6, "patience": 2}]
    run = trainer(staged(small, "ew", stages, learning_rate=0.3, max_epochs=14), tmp_path)
    run.fit(Quiet(), Stop())
    rows = run.at.history
    lowest, latest = math.inf, 0
    length = 0
    for number, row in enumerate(rows[:6], start=1):
        if row["valid"]["momentum"] < lowest:
            lowest, latest = row["valid"]["momentum"], number
        length = number
        if number - latest == 1:
            break
    assert 0 < length < 6
    assert [row["stage"] for row in rows].count(1) == length
    found = [phase_of(run.setting.training.curriculum, list(run.setting.tasks), rows[:i]) for i in range(len(rows))]
    assert [row["stage"] for row in rows] == [phase.stage for phase in found]


def test_telemetry_stands_at_the_places_of_its_tasks(small: Make, tmp_path: Path) -> None:
    run = trainer(staged(small, {"kind": "cqb", "window": 1}), tmp_path)
    run.fit(Quiet(), Stop())
    for part_of, key in (("train", "train"), ("valid", "indicator")):  # and the balancer is told those that train
        for row, kept in zip(run.at.history, run.balance[key].tolist(), strict=True):
            expected = [row[part_of][name] if name in row["active"] else math.nan for name in run.setting.tasks]
            assert kept == pytest.approx(expected, nan_ok=True)
    for row in run.at.history:
        known = [not math.isnan(value) for value in row["beta"]]
        assert known == [name in row["active"] for name in ("return", "momentum", "week")]
        assert len(row["decay"]) == 1
        assert math.isfinite(row["decay"][0])


def test_watchers_are_told_of_the_stage_and_of_what_trains(small: Make, tmp_path: Path) -> None:
    told: dict[int, tuple[int, list[str]]] = {}

    class Notes(Quiet):
        def step(self, moment: Moment) -> None:
            told[moment.epoch] = (moment.stage, list(moment.losses))

    trainer(staged(small), tmp_path).fit(Notes(), Stop())
    assert [told[epoch] for epoch in (1, 3, 4)] == [
        (1, ["momentum"]),
        (2, ["momentum", "week"]),
        (3, ["return", "momentum", "week"]),
    ]


def test_rows_without_a_curriculum_are_as_before(small: Make, tmp_path: Path) -> None:
    run = trainer(prepare(small(training={"max_epochs": 1, "days_per_step": 40, "device": "cpu"})), tmp_path)
    told: list[int] = []

    class Notes(Quiet):
        def step(self, moment: Moment) -> None:
            told.append(moment.stage)

    run.fit(Notes(), Stop())
    assert not {"stage", "active"} & run.at.history[0].keys()
    assert told[-1] == 0


def test_a_checkpoint_from_before_curricula_is_gone_on_with(small: Make, tmp_path: Path) -> None:
    """Its identity has neither setting."""
    prepared = prepare(small(training={"max_epochs": 2, "days_per_step": 40, "device": "cpu"}))
    setting = make_setting(prepared)
    new = {"training.curriculum", "training.learn", "training.joint_learning_rate"}
    assert new <= setting.identity.keys()
    old = replace(setting, identity={key: value for key, value in setting.identity.items() if key not in new})
    stop = Stop()
    run = Trainer(old, fresh_model(prepared, 0), 0, tmp_path)
    assert not run.fit(StopAt(stop, 1, len(run.order())), stop)
    again = Trainer(setting, fresh_model(prepared, 0), 0, tmp_path)
    again.resume()
    assert again.fit(Quiet(), Stop())
    assert part(load_checkpoint(again.last, CPU)[0], "model.")
