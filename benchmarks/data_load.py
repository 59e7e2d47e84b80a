"""Seconds and peak memory of loading prices, beside the obvious way with pandas on the same files.

    python benchmarks/data_load.py qlib:FOLDER --universe csi300
    python benchmarks/data_load.py csv:prices.csv
    python benchmarks/data_load.py sample:sp500

Each reading runs in a process of its own, as often as --repeat says; the fastest time and its peak memory count,
without the time of the imports. The obvious way gives one frame a field by date and symbol, without a check.
"""

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from mimstocr.data import DataSettings, load_panel
from mimstocr.data.source.sample import _us_large_files

FIELDS = ("open", "high", "low", "close", "volume", "vwap", "factor")


def ours(address: str, universe: str | None) -> int:
    return load_panel(DataSettings(source=address, universe=universe)).sizes["date"]


def naive(address: str, universe: str | None) -> int:
    scheme, _, place = address.partition(":")
    frames = naive_qlib(place, universe) if scheme == "qlib" else READERS[scheme](place)
    return len(frames["close"])


def naive_qlib(place: str, universe: str | None) -> dict[str, pd.DataFrame]:
    folder = Path(place).expanduser()
    calendar = pd.to_datetime((folder / "calendars/day.txt").read_text().split())
    spans = pd.read_csv(folder / f"instruments/{universe or 'all'}.txt", sep="\t", header=None)
    series: dict[str, dict[str, pd.Series]] = {name: {} for name in FIELDS}
    for symbol in sorted(spans[0].unique()):
        for name in FIELDS:
            path = folder / "features" / symbol.lower() / f"{name}.day.bin"
            if path.exists():
                raw = np.fromfile(path, dtype="<f4")
                first = int(raw[0])
                series[name][symbol] = pd.Series(raw[1:], index=calendar[first : first + len(raw) - 1])
    return {name: pd.DataFrame(columns) for name, columns in series.items() if columns}


def naive_long(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {name: table.pivot(index="date", columns="symbol", values=name) for name in FIELDS if name in table}


def naive_csv(place: str) -> dict[str, pd.DataFrame]:
    return naive_long(pd.read_csv(place, parse_dates=["date"]))


def naive_parquet(place: str) -> dict[str, pd.DataFrame]:
    return naive_long(pd.read_parquet(place))


def naive_sample(place: str) -> dict[str, pd.DataFrame]:
    if place == "sp500":
        spec = importlib.util.find_spec("portfolio_backtester")
        folder = Path(spec.submodule_search_locations[0]) / "data"
        files = {"close": "SP500 20060901-20211015.csv", "volume": "SP500 20060901-20211015 volume.csv"}
        return {name: pd.read_csv(folder / file, index_col=0, parse_dates=True) for name, file in files.items()}
    names = ["date", "time", "open", "high", "low", "close", "volume"]
    tables = [
        pd.read_csv(file, header=None, names=names).assign(symbol=file.name.split("_")[1].split(".")[0])
        for file in _us_large_files()
    ]
    return naive_long(pd.concat(tables))


READERS = {"csv": naive_csv, "parquet": naive_parquet, "sample": naive_sample}


def measure(way: str, address: str, universe: str | None) -> dict[str, float]:
    """Read once in this process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    days = {"ours": ours, "naive": naive}[way](address, universe)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "peak_mb": peak / 1024, "above_start_mb": (peak - before) / 1024, "days": days}


def best(way: str, args: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, args.address, "--only", way]
    command += ["--universe", args.universe] if args.universe else []
    runs = []
    for _ in range(args.repeat):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        runs.append(json.loads(done.stdout))
    return min(runs, key=lambda run: run["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="qlib:FOLDER, csv:FILE or parquet:FILE (long: date, symbol), sample:NAME")
    parser.add_argument("--universe", help="a list of a Qlib folder")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each way (default 3)")
    parser.add_argument("--only", choices=("ours", "naive"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.only, args.address, args.universe)))
        return
    results = {"mimstocr": best("ours", args)}
    comparable = not args.address.startswith("parquet:") or importlib.util.find_spec("pyarrow") is not None
    if comparable:
        results["pandas"] = best("naive", args)
    print(f"{args.address}, universe {args.universe or 'all'}")
    for name, result in results.items():
        print(
            f"{name:9} {result['seconds']:7.2f} s   peak {result['peak_mb']:7.0f} MB "
            f"({result['above_start_mb']:.0f} MB above the imports)   {result['days']} days"
        )
    if not comparable:
        print("pandas cannot read Parquet without pyarrow, which is not installed: no comparison")
        return
    ratio = results["mimstocr"]["seconds"] / results["pandas"]["seconds"]
    print(f"mimstocr takes {ratio:.2f} of the time of pandas")


if __name__ == "__main__":
    main()
