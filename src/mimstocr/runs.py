"""The run folder: what a run leaves behind, every file written whole or not at all.

config.yaml            the whole tree of settings, as used
environment.json       versions, device, data fingerprint, times
data.json              what the data was: the account of the door, splits, tasks, label shares
history.jsonl          one line an epoch and seed: losses per task, validation figures, what the balancer tells;
                       one a period, epoch and seed of a rolling model, with the key `period`
checkpoints/seed-N/    last.safetensors to resume from, best.safetensors to predict with;
                       rolling/ with last.safetensors and the weights of each period by its first day
predictions.parquet    seed, date, symbol, split, score, a column per task output, label.TASK where it exists
backtest.parquet       date, net, gross, universe, index (daily returns), turnover, costs, n_held
metrics.json           the evidence, per seed, mean, std, of the averaged scores, and the backtest
recommendations.csv    the list of the last day of the data
sharing.json           gates, stitches or distances of the sharing structure on some validation days, where it has any
report.html            all of it to look at
"""

from __future__ import annotations

import io
import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock, Timeout

from mimstocr.config import Config, load_config, write_yaml
from mimstocr.errors import RunError


@dataclass(frozen=True)
class RunFolder:
    """One run on disk."""

    path: Path

    @classmethod
    def create(cls, config: Config) -> RunFolder:
        """A new folder with its config. Raises RunError when there is one of that name already."""
        run = cls(config.folder)
        run.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=run.path.parent, prefix=f".{config.name}-") as made:
            write_yaml(Path(made) / "config.yaml", config)
            Path(made).chmod(0o755)
            try:
                Path(made).rename(run.path)  # whole or not at all; over an empty folder, as a kill may leave one
            except OSError:
                raise RunError(
                    f"{run.path} exists already; nothing was written. Go on with it by --resume, or choose another "
                    f"name by name={config.name}-2"
                ) from None
            Path(made).mkdir()  # for the temporary folder's own end
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run folder. Raises RunError when there is none."""
        path = path.expanduser()
        if not (path / "config.yaml").is_file():
            raise RunError(
                f"{path} is not a run folder: there is no config.yaml in it; runs are made by `mimstocr run`"
            )
        return cls(path)

    def config(self) -> Config:
        """The config as used, placed where the folder is now."""
        return load_config(self.path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone in the folder. Raises RunError when another process is at work in it."""
        place = self.path / "checkpoints"
        place.mkdir(exist_ok=True)
        lock = FileLock(place / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise RunError(f"another process is at work in {self.path}; wait for it, or stop it") from None
        try:
            yield
        finally:
            lock.release()

    def checkpoints(self, seed: int) -> Path:
        """The folder of one seed's checkpoints."""
        return self.path / "checkpoints" / f"seed-{seed}"

    def write_text(self, name: str, text: str) -> Path:
        """Write one file at once."""
        return self.write_bytes(name, text.encode())

    def write_bytes(self, name: str, content: bytes) -> Path:
        """Write one file at once."""
        path = self.path / name
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(content)
        partial.replace(path)
        return path

    def write_json(self, name: str, content: Mapping[str, Any]) -> Path:
        """Write one JSON file; what is not finite becomes null."""
        return self.write_text(name, json.dumps(finite(content), indent=1, ensure_ascii=False) + "\n")

    def write_history(self, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Write the history, one line an epoch."""
        return self.write_text("history.jsonl", "".join(json.dumps(finite(row)) + "\n" for row in rows))

    def write_frame(self, name: str, frame: pl.DataFrame) -> Path:
        """Write a Parquet or CSV table, by the suffix of `name`."""
        buffer = io.BytesIO()
        if name.endswith(".parquet"):
            frame.write_parquet(buffer)
        else:
            frame.write_csv(buffer)
        return self.write_bytes(name, buffer.getvalue())

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file of the run. Raises RunError when it is not there yet."""
        content: dict[str, Any] = json.loads(self._existing(name).read_text())
        return content

    def read_history(self) -> list[dict[str, Any]]:
        """The history of the training, one dict an epoch and seed."""
        return [row for row in self._history() if "period" not in row]

    def read_periods(self) -> list[dict[str, Any]]:
        """The history of the rolling models that follow it, one dict a period, epoch and seed; empty without them."""
        return [row for row in self._history() if "period" in row]

    def _history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._existing("history.jsonl").read_text().splitlines()]

    def read_frame(self, name: str) -> pl.DataFrame:
        """A table of the run."""
        path = self._existing(name)
        return pl.read_parquet(path) if name.endswith(".parquet") else pl.read_csv(path, try_parse_dates=True)

    def _existing(self, name: str) -> Path:
        path = self.path / name
        if not path.is_file():
            raise RunError(f"{path} is not there: the run has not finished; go on with `mimstocr run --resume`")
        return path


def finite(value: Any) -> Any:
    """The same content with NaN and infinities as null, which is all that JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
