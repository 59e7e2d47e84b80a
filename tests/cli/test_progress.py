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


def test_periods_of_a_rolling_model_have_their_own_lines(small: Callable[..., Config]) -> None:
    out = io.StringIO()
    row = {"seed": 0, "period": "2020-05-01", "epoch": 1, "days": 80, "until": "2020-04-28", "train": {"return": 0.5}}
    with progress(Console(file=out, force_terminal=True, width=200), small()) as watcher:
        for seed in (0, 1):  # seed 1 was resumed within its periods
            if seed == 0:
                watcher.step(Moment(0, 4, 10, 10, {"return": 0.5}, {}))
            watcher.step(Moment(seed, 1, 5, 10, {"return": 0.5}, {}, period="2020-05-01", periods=(2, 3)))
        watcher.epoch({**row, "best": False, "seconds": 1.25})
    shown = out.getvalue()
    for seed in (0, 1):
        assert f"seed {seed} period 2020-05-01 (2/3) epoch 1 step 5/10" in shown
    assert "seed 0 period 2020-05-01 epoch   1  return 0.5000  80 days to 2020-04-28  1.2 s" in shown


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


def test_an_agent_is_told_by_its_account(small: Callable[..., Config]) -> None:
    out = io.StringIO()
    tasks = {"position": {"kind": "position", "delay": 1}, "return": {"kind": "return"}}
    config = small(tasks=tasks, balancer="stl", agent={"kind": "ppo", "total_steps": 1001, "eval_steps": 500})
    row = {"seed": 0, "epoch": 2, "train": {"position": 0.5}, "valid": {"position": -0.25}, "ic": 0.1, "rank_ic": 0.1}
    account = {"steps": 1000, "sharpe": 1.5, "profit": -0.034, "turnover": 0.5, "best": True, "seconds": 2.0}
    with progress(Console(file=out, force_terminal=True, width=200), config) as watcher:
        watcher.step(Moment(0, 2, 5, 500, {"position": 0.5}, {}))
        watcher.epoch(row | account)
    shown = out.getvalue()
    assert "seed 0 epoch 2/3 step 5/500" in shown
    assert (
        "seed 0 epoch   2  1,000 steps  reward -0.5000/+0.2500  valid Sharpe +1.5000 profit -3.40% turnover 50.0%  "
        "2.0 s  best" in shown
    )
