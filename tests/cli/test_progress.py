"""The display of a training."""

from __future__ import annotations

import io
from collections.abc import Callable

from rich.console import Console

from mimstocr.cli.progress import progress
from mimstocr.config import Config
from mimstocr.training.loop import Moment

ROW = {
    "seed": 0,
    "epoch": 3,
    "train": {"return": 0.5, "momentum": 0.25},
    "valid": {"return": 0.6, "momentum": 0.35},
    "ic": 0.012,
    "rank_ic": float("nan"),
    "beta": [0.6, 0.7],
    "decay": [0.00027],
    "best": True,
    "seconds": 1.25,
}


def test_a_terminal_shows_losses_beta_decay_and_time_left(small: Callable[..., Config]) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=200)
    with progress(console, small()) as watcher:
        told = {"beta": [0.6, 0.7], "decay": [0.00027]}
        watcher.step(Moment(0, 2, 5, 10, {"return": 0.5, "momentum": 0.25}, told))
        watcher.epoch(ROW)
    shown = out.getvalue()
    for text in (
        "seed 0 epoch 2/4 step 5/10",
        "return 0.5000",
        "momentum 0.2500",
        "beta 0.600 0.700",
        "decay 2.70e-04",
    ):
        assert text in shown
    assert "at most" in shown


def test_elsewhere_there_is_a_line_an_epoch(small: Callable[..., Config]) -> None:
    out = io.StringIO()
    with progress(Console(file=out, width=200), small()) as watcher:
        watcher.step(Moment(0, 1, 1, 10, {"return": 0.5, "momentum": 0.25}, {}))
        watcher.epoch(ROW)
        watcher.epoch({key: value for key, value in ROW.items() if key not in ("beta", "decay")})
    lines = [line for line in out.getvalue().splitlines() if line]
    assert len(lines) == 2
    assert "return 0.5000/0.6000" in lines[0]
    assert "valid IC +0.0120 RankIC -" in lines[0]
    assert "beta 0.600 0.700" in lines[0]
    assert lines[0].endswith("best")
    assert "beta" not in lines[1]


def test_a_curriculum_shows_its_stage_and_what_trains(small: Callable[..., Config]) -> None:
    """Numbers of tasks that do not train yet are left out."""
    stages = [{"tasks": ["momentum"], "epochs": 2}]
    config = small(training={"max_epochs": 4, "curriculum": stages})
    row = {**ROW, "best": False, "stage": 1, "active": ["momentum"], "beta": [float("nan"), 0.7]}
    row["train"] = {"return": float("nan"), "momentum": 0.25}
    for stage, told in ((1, "seed 0 epoch 2/4 stage 1/1 step 5/10"), (2, "seed 0 epoch 2/4 joint step 5/10")):
        out = io.StringIO()
        with progress(Console(file=out, force_terminal=True, width=200), config) as watcher:
            watcher.step(Moment(0, 2, 5, 10, {"momentum": 0.25}, {}, stage))
            watcher.epoch(row)
            watcher.epoch({**ROW, "stage": 2, "active": ["return", "momentum"]})
        shown = out.getvalue()
        assert told in shown
        assert "seed 0 epoch   3 stage 1/1  momentum 0.2500/0.3500  valid IC" in shown
        assert "beta 0.700  decay" in shown
        assert "seed 0 epoch   3 joint  return 0.5000/0.6000  momentum" in shown
        assert "nan" not in shown
