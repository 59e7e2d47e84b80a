"""What each sharing structure adds to a training step, against hard sharing, on an LSTM and an MLP.

A step: the forward pass on one day's stocks, the losses of the tasks, and the backward pass under EW. The structures
of one backbone run in turn, --repeats times: medians of processor time (on one thread: the time on an idle machine),
and their ratio to hard sharing. Memory is the peak of what torch's allocator hands out during one more step, gradients
included, weights and batch not. Torch's profiler, which counts it, writes lines of its own to stderr.

    python benchmarks/sharing.py 2> /dev/null           (300 stocks, 60 lags, 2 tasks, sizes of the defaults)
    python benchmarks/sharing.py --stocks 100 --tasks 4
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from balancers import made_batch  # the same step, beside this file
from mimstocr.backbones import Backbone, Inputs
from mimstocr.backbones.mlp import Mlp
from mimstocr.backbones.recurrent import Lstm
from mimstocr.balancing.equal import EqualWeighting
from mimstocr.sharing import SHARINGS, Sharing
from mimstocr.tasks import Task
from mimstocr.tasks.momentum_line import MomentumLine
from mimstocr.tasks.returns import Return
from mimstocr.training.batches import DayBatch
from mimstocr.training.machine import settle
from mimstocr.training.model import Model, seeded_model
from mimstocr.training.objective import backward, daily_losses, mean_over_days


def step(backbone: Backbone, sharing: Sharing, tasks: dict[str, Task], batch: DayBatch) -> tuple[Model, Callable]:
    model = seeded_model(0, backbone, sharing, tasks, Inputs(batch.x.shape[-1], batch.x.shape[-2]))

    def once() -> None:
        losses = mean_over_days(*daily_losses(tasks, model(batch.x, batch.valid, batch.facts), batch))
        backward(model, losses, EqualWeighting(), {})

    return model, once


def milliseconds(steps: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 2):
        for name, once in steps.items():
            started = time.process_time()
            once()
            times[name].append(time.process_time() - started)
    return {name: statistics.median(taken[2:]) * 1000 for name, taken in times.items()}


def peak(model: Model, once: Callable[[], None]) -> float:
    """MB that torch's allocator holds at most, above what it held before."""
    model.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        once()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        seen.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = [event["args"] for event in events if event.get("name") == "[memory]"]
    before = changes[0]["Total Allocated"] - changes[0]["Bytes"]
    return float(max(change["Total Allocated"] for change in changes) - before) / 2**20


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
    names = ["hard", *(name for name in SHARINGS.names() if name != "hard")]
    for backbone in (Lstm(), Mlp()):
        made = {name: step(backbone, SHARINGS.get(name)(), tasks, batch) for name in names}
        took = milliseconds({name: once for name, (_, once) in made.items()}, asked.repeats)
        memory = {name: peak(model, once) for name, (model, once) in made.items()}
        for name, (model, _) in made.items():
            weights = sum(parameter.numel() for parameter in model.parameters())
            print(
                f"{backbone.kind:5} {name:13} {took[name]:7.1f} ms {took[name] / took['hard']:6.2f} of hard"
                f"  {memory[name]:7.1f} MB {memory[name] / memory['hard']:6.2f} of hard  {weights:8,} weights"
            )


if __name__ == "__main__":
    main()
