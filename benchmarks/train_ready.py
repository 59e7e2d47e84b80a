"""From a source to train-ready (panel, splits, fitted features, labels, windows), in a fresh process.

    python benchmarks/train_ready.py csi300 data.source=qlib:PATH
    python benchmarks/train_ready.py demo

prints seconds with and without imports, and the peak memory of the whole process. The reference in the same run is
what a table of all windows would cost alone: time and memory to build the (rows, lags x fields) matrix that Qlib's
Alpha360 handler keeps, on the same data, with numpy.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time


def ready(arguments: list[str]) -> None:
    started = time.perf_counter()
    from mimstocr.config import load_config
    from mimstocr.training.machine import settle
    from mimstocr.training.prepare import prepare

    settle(1)
    imported = time.perf_counter()
    prepared = prepare(load_config(arguments[0], arguments[1:]))
    done = time.perf_counter()
    rows = int(prepared.rows.sum())
    print(f"train-ready: {rows} rows, {len(prepared.fitted.names)} fields x {prepared.fitted.window} lags")
    print(f"  {done - imported:.2f} s, and {imported - started:.2f} s of imports before it; {peak():.0f} MB peak")


def table(arguments: list[str]) -> None:
    import numpy as np

    from mimstocr.config import load_config
    from mimstocr.data import load_panel

    config = load_config(arguments[0], arguments[1:])
    panel = load_panel(config.data)
    started = time.perf_counter()
    window = int(config.features.model_dump()["window"])
    rows = np.nonzero(panel["member"].values)
    columns = []
    np.seterr(divide="ignore", invalid="ignore")  # volumes of 0 are ratios without a value
    for name in ("close", "open", "high", "low", "volume"):
        if name not in panel:
            continue
        values = panel[name].values
        base = values[rows]
        for lag in range(window):
            past = np.full(len(base), np.nan, dtype=np.float32)
            enough = rows[0] >= lag
            past[enough] = values[rows[0][enough] - lag, rows[1][enough]]
            columns.append(past / base)
    matrix = np.stack(columns, axis=1)
    center = np.nanmedian(matrix, axis=0)
    matrix -= center
    matrix /= 1.4826 * np.nanmedian(np.abs(matrix), axis=0) + 1e-12
    np.clip(matrix, -3, 3, out=matrix)
    print(f"the same as one table {matrix.shape}: {time.perf_counter() - started:.2f} s; {peak():.0f} MB peak")


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--part", choices=("ready", "table"))
    arguments = parser.parse_args()
    words = [arguments.config, *arguments.settings]
    if arguments.part:
        {"ready": ready, "table": table}[arguments.part](words)
        return
    for part in ("ready", "table"):
        subprocess.run([sys.executable, __file__, *words, "--part", part], check=True)


if __name__ == "__main__":
    main()
