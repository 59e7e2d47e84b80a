"""An epoch of training with its validation, against the bare forward and backward passes it cannot do without.

The reference makes the same batches once beforehand and then times nothing but: the model's forward pass and one
backward pass a task on every training day, and the forward pass on every validation day. The ratio is what the loop
adds: windows, losses, balancing, the optimiser, figures, checkpoints.

    python benchmarks/epoch.py qlib:PATH --universe csi300 --train 2010-01-04 2014-12-31 --valid 2015-01-01 2016-12-31
    python benchmarks/epoch.py            (synthetic prices, quick)
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch

from mimstocr.config import Config, make_config
from mimstocr.training.interrupt import Stop
from mimstocr.training.loop import Trainer
from mimstocr.training.machine import settle
from mimstocr.training.model import Model
from mimstocr.training.objective import labelled
from mimstocr.training.predict import ROWS_AT_ONCE
from mimstocr.training.prepare import Prepared, prepare
from mimstocr.workflow import Quiet, fresh_model, make_setting


def synthetic(path: Path, n_days: int = 260, n_symbols: int = 300) -> str:
    rng = np.random.default_rng(0)
    close = 20 * np.exp(np.cumsum(rng.normal(0, 0.02, (n_days, n_symbols)), axis=0)).ravel()
    days = np.busday_offset("2015-01-01", np.arange(n_days), roll="forward").astype("datetime64[D]")
    columns = dict.fromkeys(("open", "high", "low", "close"), close)
    symbols = np.tile([f"S{i:03d}" for i in range(n_symbols)], n_days)
    table = pl.DataFrame({"date": np.repeat(days, n_symbols), "symbol": symbols, **columns, "volume": close})
    table.write_parquet(path)
    return f"parquet:{path}"


def bare(prepared: Prepared, model: Model, n_train: int) -> float:
    """Seconds of the passes alone, on batches made before."""
    total = 0.0
    tasks = prepared.learned
    for day in prepared.train_days[:n_train]:
        batch = prepared.batches([day])
        known = {name: labelled(task, batch, name) for name, task in tasks.items()}
        started = time.perf_counter()
        outputs = model(batch.x, batch.valid, batch.facts)
        simple = [outputs[name].sum(-1) if tasks[name].levels else outputs[name] for name in known]
        shared = list(model.shared.parameters())
        if prepared.config.balancer.reads == "gradients":
            for k, output in enumerate(simple):
                torch.autograd.grad(output.square().mean(), shared, retain_graph=k < len(simple) - 1)
        else:
            torch.autograd.grad(sum(output.square().mean() for output in simple), shared)
        total += time.perf_counter() - started
    model.eval()
    per_pass = max(1, ROWS_AT_ONCE // prepared.batches.size(prepared.valid_days[-1]))
    with torch.no_grad():
        for at in range(0, len(prepared.valid_days), per_pass):
            batch = prepared.batches(prepared.valid_days[at : at + per_pass])
            started = time.perf_counter()
            model(batch.x, batch.valid, batch.facts)
            total += time.perf_counter() - started
    model.train()
    return total


def make(arguments: argparse.Namespace, source: str, balancer: str, folder: Path) -> Config:
    raw: dict[str, object] = {
        "name": "epoch",
        "out": str(folder),
        "data": {"source": source, "universe": arguments.universe},
        "balancer": balancer,
        "training": {"max_epochs": 1, "device": arguments.device, "checkpoint_seconds": 60},
    }
    if arguments.train:
        last = arguments.valid[1]
        raw["splits"] = {"train": arguments.train, "valid": arguments.valid, "test": arguments.test or [last, last]}
    return make_config(raw)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?")
    parser.add_argument("--universe")
    parser.add_argument("--train", nargs=2)
    parser.add_argument("--valid", nargs=2)
    parser.add_argument("--test", nargs=2)
    parser.add_argument("--balancers", nargs="+", default=["ew", "cqb"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    settle(1)
    with tempfile.TemporaryDirectory() as folder:
        source = arguments.source or synthetic(Path(folder) / "prices.parquet")
        for balancer in arguments.balancers:
            prepared = prepare(make(arguments, source, balancer, Path(folder)))
            sizes = [prepared.batches.size(day) for day in prepared.train_days]
            print(
                f"{balancer}: {len(sizes)} training days of {statistics.median(sizes):.0f} stocks, "
                f"{len(prepared.valid_days)} validation days, window {prepared.fitted.window}, one thread"
            )
            ratios = []
            for i in range(arguments.repeat):
                model = fresh_model(prepared, 0)
                reference = bare(prepared, model, len(sizes))
                trainer = Trainer(make_setting(prepared), fresh_model(prepared, 0), 0, Path(folder) / f"{balancer}{i}")
                started = time.perf_counter()
                trainer.fit(Quiet(), Stop())
                ours = time.perf_counter() - started
                ratios.append(ours / reference)
                print(f"  epoch {ours:.1f} s, bare passes {reference:.1f} s, ratio {ratios[-1]:.3f}")
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"  median ratio {statistics.median(ratios):.3f}, peak memory so far {peak:.0f} MB")


if __name__ == "__main__":
    main()
