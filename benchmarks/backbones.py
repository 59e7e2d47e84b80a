"""Every backbone's forward and backward pass on days of one size, against the bare recurrent network under it.

The bare network is torch's LSTM or GRU of the same sizes, in the layout it likes best, last state only. A backbone
and its bare network run in turn, --repeat times: medians of processor time (on one thread: the time on an idle
machine), and their ratio. Memory is the peak of what torch's allocator hands out during one more pass, gradients
included, weights and batch not. Torch's profiler, which counts it, writes lines of its own to stderr.

    python benchmarks/backbones.py 2> /dev/null
    python benchmarks/backbones.py --days 8 --stocks 100 --only hist gats
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
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from mimstocr.backbones import BACKBONES, Backbone, Inputs
from mimstocr.backbones.recurrent import RNNS, RecurrentSettings, RnnKind
from mimstocr.training.machine import settle

FORMS: dict[str, list[dict[str, object]]] = {"rsr": [{}, {"strength": "explicit"}], "hist": [{}, {"rnn": "lstm"}]}
"""Settings to measure where there is more than the defaults."""


def make(arguments: argparse.Namespace, name: str, settings: dict[str, object]) -> Backbone:
    backbone = BACKBONES.get(name)(**settings)
    if isinstance(backbone, RecurrentSettings):
        return backbone.changed(hidden_size=arguments.hidden, num_layers=arguments.layers)
    return backbone


def training(module: nn.Module, forward: Callable[[], Tensor]) -> Callable[[], None]:
    """One forward and backward pass."""

    def once() -> None:
        module.zero_grad(set_to_none=True)
        forward().square().mean().backward()

    return once


def bare(arguments: argparse.Namespace, kind: RnnKind) -> Callable[[], None]:
    module = RNNS[kind](arguments.features, arguments.hidden, arguments.layers)
    steps = torch.randn(arguments.window, arguments.days * arguments.stocks, arguments.features)
    return training(module, lambda: module(steps)[0][-1])


def ours(arguments: argparse.Namespace, backbone: Backbone) -> Callable[[], None]:
    module = backbone.build(Inputs(arguments.features, arguments.window, arguments.concepts))
    days, stocks = arguments.days, arguments.stocks
    x = torch.randn(days, stocks, arguments.window, arguments.features)
    valid = torch.ones(days, stocks, dtype=torch.bool)
    industry = torch.randint(arguments.concepts, (days, stocks, 1))
    facts = {"concepts": industry == torch.arange(arguments.concepts), "market_value": torch.rand(days, stocks) + 0.1}
    return training(module, lambda: module(x, valid, facts))


def peak(once: Callable[[], None]) -> float:
    """MB of torch's allocator at the height of one pass, over what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        once()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        found.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = [event["args"] for event in events if event.get("name") == "[memory]"]
    before = changes[0]["Total Allocated"] - changes[0]["Bytes"]
    return (max(change["Total Allocated"] for change in changes) - before) / 2**20


def medians(arguments: argparse.Namespace, *each: Callable[[], None]) -> list[float]:
    """Milliseconds of processor time of each, run in turn."""
    seconds: list[list[float]] = [[] for _ in each]
    for _ in range(arguments.repeat):
        for once, found in zip(each, seconds, strict=True):
            started = time.process_time()
            once()
            found.append(time.process_time() - started)
    return [1000 * statistics.median(found) for found in seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=1)
    parser.add_argument("--stocks", type=int, default=300)
    parser.add_argument("--window", type=int, default=60)
    parser.add_argument("--features", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--concepts", type=int, default=30)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--only", nargs="+", metavar="BACKBONE")
    arguments = parser.parse_args()
    settle(1)
    print(
        f"stocks {arguments.stocks}, days {arguments.days}, window {arguments.window}, features {arguments.features}, "
        f"hidden {arguments.hidden}, layers {arguments.layers}, concepts {arguments.concepts}; CPU, one thread"
    )
    print(f"{'':14}{'ms':>8}{'bare':>8}{'ratio':>7}{'MB':>8}{'bare':>8}{'ratio':>7}")
    free = [
        name for name in BACKBONES.names() if not BACKBONES.get(name).fixed_portfolio
    ]  # of the rest: forecasters.py
    for name in arguments.only or free:
        for settings in FORMS.get(name, [{}]):
            torch.manual_seed(0)
            backbone = make(arguments, name, settings)
            kind = getattr(backbone, "rnn", "gru" if name == "gru" else "lstm")
            both = ours(arguments, backbone), bare(arguments, kind)
            for once in both:
                once()
            ms, bare_ms = medians(arguments, *both)
            mb, bare_mb = (peak(once) for once in both)
            print(
                f"{' '.join([name, *map(str, settings.values())]):14}{ms:8.1f}{bare_ms:8.1f}{ms / bare_ms:7.2f}"
                f"{mb:8.1f}{bare_mb:8.1f}{mb / bare_mb:7.2f}  {kind}",
                flush=True,
            )


if __name__ == "__main__":
    main()
