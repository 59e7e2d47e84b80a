"""What each balancing method adds to a training step, against the plain sum (EW), in one run.

A step: the forward pass of an LSTM on one day's stocks, the losses of the tasks, the backward passes, the balancer's
own work, and the forward pass of one that looks back. EW and the others that read losses make one backward pass;
those that read gradients one a task, which is the least that they can do.

    python benchmarks/balancers.py                      (300 stocks, 60 lags, 2 tasks, LSTM-64 with two layers)
    python benchmarks/balancers.py --stocks 100 --tasks 4
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from mimstocr.backbones import Inputs
from mimstocr.backbones.recurrent import Lstm
from mimstocr.balancing import BALANCERS, Balancer
from mimstocr.sharing.hard import Hard
from mimstocr.tasks import Task
from mimstocr.tasks.momentum_line import MomentumLine
from mimstocr.tasks.returns import Return
from mimstocr.training.batches import DayBatch
from mimstocr.training.machine import settle
from mimstocr.training.model import seeded_model
from mimstocr.training.objective import backward, daily_losses, look_back, mean_over_days


def made_batch(tasks: dict[str, Task], stocks: int, window: int, fields: int) -> DayBatch:
    random = np.random.default_rng(0)
    targets = {
        name: random.integers(0, task.width, (1, stocks)) if task.levels else random.normal(size=(1, stocks))
        for name, task in tasks.items()
    }
    return DayBatch(
        days=[0],
        symbols=torch.arange(stocks)[None],
        valid=torch.ones(1, stocks, dtype=torch.bool),
        x=torch.from_numpy(random.normal(size=(1, stocks, window, fields)).astype(np.float32)),
        facts={},
        targets={name: torch.from_numpy(target.astype(np.float32)) for name, target in targets.items()},
    )


def milliseconds(balancer: Balancer, tasks: dict[str, Task], batch: DayBatch, repeats: int) -> float:
    """Median processor time of a step: on one thread, the time on an idle machine."""
    model = seeded_model(0, Lstm(), Hard(), tasks, Inputs(batch.x.shape[-1], batch.x.shape[-2]))
    sizes = [parameter.numel() for parameter in model.shared.parameters()]
    state = balancer.init(len(tasks), sizes, torch.device("cpu"))
    times = []
    for _ in range(repeats + 2):
        started = time.process_time()
        losses = mean_over_days(*daily_losses(tasks, model(batch.x, batch.valid, batch.facts), batch))
        state = backward(model, losses, balancer, state)
        state = look_back(model, tasks, batch, balancer, state)
        times.append(time.process_time() - started)
    return statistics.median(times[2:]) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stocks", type=int, default=300)
    parser.add_argument("--window", type=int, default=60)
    parser.add_argument("--tasks", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    asked = parser.parse_args()
    settle(1)
    tasks: dict[str, Task] = {"return": Return()}
    tasks |= {f"momentum{i}": MomentumLine(s=i + 4, lead=1) for i in range(1, asked.tasks)}
    batch = made_batch(tasks, asked.stocks, asked.window, 5)
    print(f"{asked.stocks} stocks, {asked.window} lags, {len(tasks)} tasks, one thread, torch {torch.__version__}")
    kinds = [name for name in BALANCERS.names() if name not in ("stl", "ew")]
    plain = milliseconds(BALANCERS.get("ew")(), tasks, batch, asked.repeats)
    print(f"{'ew':12} {plain:7.1f} ms")
    for kind in kinds:
        balancer = BALANCERS.get(kind)()
        found = milliseconds(balancer, tasks, batch, asked.repeats)
        passes = 1 if balancer.reads == "losses" else len(tasks)
        print(f"{kind:12} {found:7.1f} ms  {found / plain:5.2f} of ew  {passes} backward")


if __name__ == "__main__":
    main()
