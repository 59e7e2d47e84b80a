"""What is asked of the two ways, what is refused before anything is trained, and the tables.

The whole way, with real runs, is in tests/cli/test_discover.py.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mimstocr
from mimstocr.config import Config
from mimstocr.discovery import whole
from mimstocr.discovery.affinity import Affinity, AffinityPlan, Estimate
from mimstocr.discovery.forward import Round, Selection, Trial
from mimstocr.discovery.show import affinity_tables, selection_table
from mimstocr.discovery.watch import Unwatched
from mimstocr.errors import ConfigError
from mimstocr.training.loop import Moment, Watcher
from mimstocr.workflow import Quiet

Make = Callable[..., Config]
TASKS = {
    "return": {"kind": "return", "delay": 1},
    "momentum": {"kind": "momentum_line", "s": 3, "l": 2},
    "week": {"kind": "return", "delay": 1, "horizon": 5},
}
TRAINING = {"learning_rate": 0.01, "max_epochs": 1, "days_per_step": 24, "device": "cpu"}


def test_a_stop_in_the_affinity_ends_all(small: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopping(Unwatched):
        def training(self, config: Config) -> AbstractContextManager[Watcher]:
            class Watch(Quiet):
                def step(self, moment: Moment) -> None:
                    if moment.step == moment.steps:  # a second signal would insist
                        os.kill(os.getpid(), signal.SIGINT)

            return nullcontext(Watch())

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the selection began")

    monkeypatch.setattr(whole, "select", never)
    found = mimstocr.discover(small(tasks=TASKS, training=TRAINING), affinity=AffinityPlan(1, 3), watch=Stopping())
    assert found.stopped
    assert found.selection is None
    assert found.tables == affinity_tables(found.affinity)  # the only epoch was done and measured
    assert (found.folder / "affinity.md").is_file()


@pytest.mark.parametrize(
    ("changes", "asked", "said"),
    [
        ({"agent": "ppo"}, {}, "tasks are compared on a network, but agent is ppo"),
        ({"balancer": "stl"}, {}, "with balancer stl there is return alone"),
        ({"tasks": {"return": TASKS["return"]}}, {}, "at least two tasks"),
        ({}, {"candidates": ["return"]}, "candidate 'return' is the main task"),
        ({}, {"candidates": ["weak"]}, "candidate 'weak' is no learned task; did you mean 'week'"),
        ({}, {"candidates": []}, "expected candidates, each once, of momentum, week; got none"),
        ({}, {"candidates": ["week", "week"]}, "expected candidates, each once"),
        ({}, {"max_tasks": 1}, "expected at least 2 tasks at most"),
        (
            {"training": {**TRAINING, "max_epochs": 3, "curriculum": [{"tasks": ["week"], "epochs": 1}]}},
            {},
            "a curriculum orders tasks that are chosen already",
        ),
        ({"training": {**TRAINING, "monitor": "loss"}}, {"method": "forward"}, "monitor=loss cannot be compared"),
        ({"training": {**TRAINING, "monitor": "loss"}}, {"method": "both"}, "monitor=loss cannot be compared"),
        (
            {"sharing": {"kind": "hierarchical", "levels": [["week"], ["momentum"], ["return"]]}},
            {},
            r"sharing\.levels names all learned tasks, and forward selection trains some",
        ),
        (
            {"backtest": {"strategy": {"kind": "signal", "value": "week"}}},
            {},
            r"backtest\.strategy reads week, which sets of tasks without it do not have",
        ),
    ],
)
def test_mistakes_are_found_before_anything_is_written(
    small: Make, tmp_path: Path, changes: dict[str, Any], asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        mimstocr.discover(small(**{"tasks": TASKS, **changes}), **asked)
    assert not (tmp_path / "runs").exists()


def test_candidates_are_what_is_learned(small: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the config, one a horizon; those left out stay configured."""
    seen: list[Any] = []

    def select(config: Config, main: str, candidates: list[str], **how: Any) -> Selection:
        seen.append((main, candidates, config.training.learn, how["max_added"]))
        return Selection("rank_ic", (0,), 0.0)

    monkeypatch.setattr(whole, "select", select)
    tasks = {**TASKS, "ahead": {"kind": "return", "horizons": [2, 3]}}
    forward: dict[str, Any] = {"method": "forward"}
    mimstocr.discover(small(tasks=tasks), **forward)
    mimstocr.discover(small(tasks=tasks), candidates=["ahead_3", "momentum"], max_tasks=2, **forward)
    mimstocr.discover(small(tasks=tasks, training={"learn": ["week", "ahead_2"]}), **forward)
    assert seen == [
        ("return", ["momentum", "week", "ahead_2", "ahead_3"], (), 4),
        ("return", ["momentum", "ahead_3"], ("return", "momentum", "ahead_3"), 1),
        ("week", ["ahead_2"], ("week", "ahead_2"), 1),
    ]


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_the_affinity_table_is_of_the_main_tasks_column() -> None:
    """Row i says what task i does to the main one."""
    ahead = Estimate(np.array([[0.02, 0.3], [0.005, 0.4]]), np.full((2, 2), 0.001), np.array([[9, 7], [6, 8]]))
    cosine = Estimate(np.array([[1, 0.25], [0.25, 1]]), np.array([[0, 0.1], [0.1, np.nan]]), ahead.days)
    table, cosines, lookaheads = affinity_tables(Affinity(("main", "other"), cosine, ahead, 0.1, 3, (0, 1)))
    assert [[entry.text for entry in row] for row in table.rows] == [
        ["main (its own)", "1.000", "0.000", "2.00e-02", "1.00e-03", "1.000", "9"],
        ["other", "0.250", "0.100", "5.00e-03", "1.00e-03", "0.250", "6"],
    ]
    assert [entry.value for entry in lookaheads.rows[0][1:]] == [0.02, 0.3]
    assert [entry.text for entry in cosines.rows[1]] == ["other", "0.250", "1.000"]


def test_candidates_are_ranked_by_what_their_step_takes_and_the_cost_is_told() -> None:
    takes = np.array([0.1, -0.3, np.nan, 0.4, 0.2])
    ahead = Estimate(np.repeat(takes[:, None], 5, axis=1), np.zeros((5, 5)), np.full((5, 5), 3))
    names = ("main", "hurts", "unknown", "helps", "some")
    table = affinity_tables(Affinity(names, ahead, ahead, 0.1, 3, (0, 1), 61.4, 7.6))[0]
    assert [row[0].text for row in table.rows] == ["main (its own)", "helps", "some", "hurts", "unknown"]
    assert any("in all 6 epochs, 61 seconds of training and 8 of measuring" in note for note in table.notes)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"epochs": 0}, "at least 1 of epochs, got 0"),
        ({"days": 0}, "at least 1 of days, got 0"),
        ({"step": 0.0}, "a step above 0, got 0"),
        ({"step": float("nan")}, "a step above 0, got nan"),
    ],
)
def test_a_plan_that_measures_nothing_is_refused(plan: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        AffinityPlan(**plan)


def test_the_selection_table_says_what_it_cost_and_what_failed() -> None:
    start = Trial(("main",), None, (0.1, 0.2), 7, 10.0)
    one = Trial(("main", "a"), "a", (0.2, 0.2), 5, 20.0, (0.1, 0.0))
    two = Trial(("main", "b"), "b", (float("nan"), 0.2), 5, 30.0, (float("nan"), 0.0))
    found = Selection("ic", (0, 1), 0.01, start, (Round((one, two), "a"),), {"main + a + b seed 1": "x\nlost"})
    table = selection_table(found, "main")
    assert [[entry.text for entry in row] for row in table.rows] == [
        ["0", "main", "0.1500", "0.0707", "–", "–", "7", "10.0", ""],
        ["1", "main + a", "0.2000", "0.0000", "+0.0500", "0.0707", "5", "20.0", "taken"],
        ["1", "main + b", "–", "–", "–", "–", "5", "30.0", ""],
    ]
    assert "taken so far: a; the selection has not ended" in table.notes
    assert "in all 3 sets of tasks, 17 epochs, 60 seconds of training" in table.notes
    assert table.notes[-1] == "main + a + b seed 1: lost"
