"""What the commands do, each as one Python call: run, recommend, evaluate, run_backtest, write_report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import xarray as xr

from mimstocr.backbones import Inputs
from mimstocr.backtest import BacktestResult, BacktestSettings, backtest, make_terms, simulate, view_of
from mimstocr.backtest.explain import Explained, explain
from mimstocr.config import Config, differences, write_yaml
from mimstocr.data import load_panel
from mimstocr.data.facts import gather_facts
from mimstocr.data.inspect import inspect_panel
from mimstocr.data.panel import Panel, days_of, fingerprint, symbols_of, usable
from mimstocr.errors import ConfigError, DataError, RunError
from mimstocr.evaluation import daily_metrics, quantile_returns, summarise
from mimstocr.evidence import backtest_metrics, evidence_of, run_metrics, split_of
from mimstocr.features import Fitted
from mimstocr.predictions import averaged, matrix_of, prediction_table, ranked_list
from mimstocr.report import ReportInputs, render
from mimstocr.report.risk import risk_inputs
from mimstocr.runs import RunFolder
from mimstocr.training.batches import DayBatches
from mimstocr.training.checkpoint import load_checkpoint, part
from mimstocr.training.interrupt import Stop, stop_on_signal
from mimstocr.training.loop import Moment, Setting, Trainer, Watcher
from mimstocr.training.machine import settle
from mimstocr.training.model import Model, seeded_model
from mimstocr.training.predict import Predicted, predict
from mimstocr.training.prepare import Prepared, data_account, environment, prepare, resolve_device

NOT_IDENTITY = ("name", "out", "seeds", "data", "evaluation", "backtest")
"""What a training does not depend on; the data are known by their fingerprint, wherever they lie."""
CAPITALS = (0.01, 0.1, 1, 10, 100, 1000)
"""Multiples of the capital for which the report shows what the strategy earns."""
TRIED_DAYS = 10
"""Days of the test on which the backtest is tried before training."""
NOT_IDENTITY_TRAINING = ("max_epochs", "patience", "device", "threads", "test_curve", "checkpoint_seconds")


class Quiet:
    """A watcher that says nothing."""

    def step(self, moment: Moment) -> None:
        """Say nothing."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class RunResult:
    """What `run` gives: the folder, and whether everything in it is finished."""

    folder: RunFolder
    finished: bool
    """False when a stop was asked for: everything is saved, and `run(config, resume=True)` goes on."""

    @property
    def metrics(self) -> dict[str, Any]:
        """The evidence of a finished run."""
        return self.folder.read_json("metrics.json")


def run(config: Config, *, resume: bool = False, watcher: Watcher | None = None) -> RunResult:
    """Train, predict, evaluate, backtest and report, into the run folder `config.folder`.

    A signal (Ctrl-C, SIGTERM) stops it between two steps, saved; with `resume` it goes on where it was, with the
    same numbers as if it had not been stopped. Raises RunError when the folder exists (without `resume`), belongs to
    another config or is in use, and what data and components raise; then nothing was written.
    """
    settle(config.training.threads)
    prepared = prepare(config)
    _try_backtest(prepared)
    fresh_model(prepared, config.seeds[0])  # a backbone that lacks what it needs says so before anything is written
    old = resume and (config.folder / "config.yaml").exists()
    folder = RunFolder.open(config.folder) if old else RunFolder.create(config)
    with folder.locked():
        if old:
            _check_same(folder.config(), config, folder)
            write_yaml(folder.path / "config.yaml", config)  # longer training or more seeds may be asked for now
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        folder.write_json("environment.json", {**environment(prepared), "started": started})
        folder.write_json("data.json", data_account(prepared, asdict(inspect_panel(prepared.panel))))
        with stop_on_signal() as stop:
            finished = _train(prepared, folder, watcher or Quiet(), stop)
        if finished:
            folder.write_frame("predictions.parquet", _predictions(prepared, folder))
            _conclude(folder, prepared.panel)
        return RunResult(folder, finished)


def recommend(
    path: Path, *, day: date | None = None, top: int | None = None, source: str | None = None
) -> pl.DataFrame:
    """The ranked list of a day, by default the last day of the data: date, rank, symbol, score, task outputs.

    The source is read anew, so that a run trained once gives tomorrow's list every evening; `source` is another
    address with the same fields, read with the run's data settings but for their end. Raises RunError when the run
    has not finished, DataError when the day is not a trading day of the data or has no stock that can be scored.
    """
    folder = RunFolder.open(path)
    config = folder.config()
    data = config.data if source is None else config.data.model_copy(update={"source": source, "end": None})
    panel = load_panel(data)
    days = days_of(panel)
    at = len(days) - 1 if day is None else int(np.searchsorted(days, np.datetime64(day, "D")))
    if at == len(days) or (day is not None and days[at] != np.datetime64(day, "D")):
        raise DataError(
            f"{day} is not a trading day of {data.source}, which has {days[0]} to {days[-1]}; the nearest before it is "
            f"{days[max(at - 1, 0)]}"
        )
    device = resolve_device(config.training.device)
    settle(config.training.threads)
    frames = [_predict(config, panel, folder, seed, [at], device) for seed in config.seeds]
    table = prediction_table(panel, [at], dict(zip(config.seeds, frames, strict=True)), config.learned())
    if table.is_empty():
        raise DataError(f"no stock of the universe could be traded on {days[at]}; choose a day with prices and volume")
    return ranked_list(table, top)


def evaluate(path: Path, *, split: str = "test") -> dict[str, Any]:
    """The evidence of a finished run on the valid or test split, from its predictions alone.

    Gives `seeds` (seed to metrics), `mean` and `std` over seeds, `ensemble` (of the averaged scores).
    """
    folder = RunFolder.open(path)
    config = folder.config()
    return evidence_of(folder.read_frame("predictions.parquet"), config, split)


def run_backtest(
    path: Path,
    *,
    overrides: Iterable[str] = (),
    split: str = "test",
    panel: Panel | None = None,
) -> BacktestResult:
    """The run's averaged scores through its strategy and market on the valid or test split.

    overrides: settings of the backtest that differ from the run's, as `market=cn_a_share` or `strategy.k=20`.
    panel: the run's own, where it is at hand already; by default its source is read.
    """
    folder = RunFolder.open(path)
    settings = folder.config().traded(overrides)
    panel = load_panel(folder.config().data) if panel is None else panel
    return _backtest(folder, panel, settings, split)


def explain_day(path: Path, day: date, *, overrides: Iterable[str] = (), split: str = "test") -> Explained:
    """Every order of one day of `run_backtest`, why it was filled or not, and what it cost."""
    folder = RunFolder.open(path)
    panel = load_panel(folder.config().data)
    return explain(_backtest(folder, panel, folder.config().traded(overrides), split), panel, day)


def write_report(path: Path) -> Path:
    """Make report.html of a finished run again, from its files and its source. Gives the file."""
    folder = RunFolder.open(path)
    panel = load_panel(folder.config().data)
    return _write_report(folder, panel, _backtest(folder, panel))


# ---- training ------------------------------------------------------------------------------------------------------


def _train(prepared: Prepared, folder: RunFolder, watcher: Watcher, stop: Stop) -> bool:
    """All seeds in turn; false when stopped."""
    config = prepared.config
    history: list[dict[str, Any]] = []
    setting = make_setting(prepared)
    for seed in config.seeds:
        trainer = Trainer(setting, fresh_model(prepared, seed), seed, folder.checkpoints(seed))
        if trainer.last.exists():
            trainer.resume()
        before = list(history)
        finished = trainer.fit(_Recorder(folder, before, trainer, watcher), stop)
        history = before + trainer.at.history
        folder.write_history(history)
        if not finished:
            return False
    return True


@dataclass(frozen=True)
class _Recorder:
    """Keeps history.jsonl up to date, and passes everything on."""

    folder: RunFolder
    before: list[dict[str, Any]]
    trainer: Trainer
    watcher: Watcher

    def step(self, moment: Moment) -> None:
        self.watcher.step(moment)

    def epoch(self, row: Mapping[str, Any]) -> None:
        self.folder.write_history(self.before + self.trainer.at.history)
        self.watcher.epoch(row)


def make_setting(prepared: Prepared) -> Setting:
    """What the training loop works on."""
    config = prepared.config
    return Setting(
        tasks=prepared.learned,
        balancer=config.balancer,
        training=config.training,
        batches=prepared.batches,
        dates=prepared.days,
        symbols=symbols_of(prepared.panel),
        train_days=prepared.train_days,
        valid_days=prepared.valid_days,
        indicator_days=prepared.indicator_days,
        curve_days=prepared.test_days[:: config.training.test_curve] if config.training.test_curve else [],
        figures=lambda predicted: _figures(prepared, predicted),
        device=prepared.device,
        identity={**_identity(config), "data": fingerprint(prepared.panel)},
        features=prepared.fitted.names,
        concepts=prepared.concepts,
        constants={name: torch.from_numpy(value) for name, value in prepared.fitted.constants().items()},
    )


def fresh_model(prepared: Prepared, seed: int) -> Model:
    """The untrained model of a seed. Raises ConfigError when the balancer has nothing to balance in it."""
    config = prepared.config
    model = _fresh(config, prepared.fitted, prepared.concepts, seed)
    if config.balancer.reads == "gradients" and not model.shared_parameters():
        raise ConfigError(
            f"balancer {config.balancer.kind} reads the gradients of shared parameters, but sharing "
            f"{config.sharing.kind} has none; choose a balancer that reads losses, such as ew, or another sharing"
        )
    return model


def _fresh(config: Config, fitted: Fitted, concepts: Sequence[str], seed: int) -> Model:
    inputs = Inputs(len(fitted.names), fitted.window, len(concepts))
    return seeded_model(seed, config.backbone, config.sharing, config.learned(), inputs)


def _figures(prepared: Prepared, predicted: Predicted) -> dict[str, float]:
    returns = prepared.labels[prepared.config.priced()[0]][prepared.valid_days]
    summary = summarise(daily_metrics(predicted.scores[prepared.main], returns, precision_at=(), ndcg_at=()))
    return {name: summary[name] for name in ("ic", "rank_ic")}


def _identity(config: Config) -> dict[str, Any]:
    """Dotted settings that the numbers of a training depend on."""
    plain = {key: value for key, value in config.plain().items() if key not in NOT_IDENTITY}
    plain["training"] = {k: v for k, v in plain["training"].items() if k not in NOT_IDENTITY_TRAINING}
    return {**_flat(plain), "tasks": list(config.tasks)}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _check_same(saved: Config, asked: Config, folder: RunFolder) -> None:
    if account := differences(_identity(saved), _identity(asked)):
        raise RunError(
            f"{folder.path} was made with another config ({account}); resume it with its own config.yaml, or choose "
            "another name for the new run"
        )
    if dropped := sorted(set(saved.seeds) - set(asked.seeds)):
        raise RunError(
            f"{folder.path} has seeds {list(saved.seeds)}, asked for are {list(asked.seeds)}: seeds {dropped} would be "
            "lost from its history; seeds can be added to a run, for fewer choose another name"
        )


def _try_backtest(prepared: Prepared) -> None:
    """Refuse before training what the backtest would refuse after it, such as a day with fewer stocks than K.

    The scores are random, as the future's are not to be looked at; some strategies want to sell short only by them.
    """
    test = prepared.splits.test.days
    settings = prepared.config.traded()
    shape = (test.stop - test.start, prepared.panel.sizes["symbol"])
    scores = np.where(prepared.rows[test], np.random.default_rng(0).normal(size=shape), np.nan)
    view = view_of(prepared.panel, test)
    settings.strategy.plan(scores, view)
    tried = slice(test.start, min(test.stop, test.start + (settings.delay or 0) + TRIED_DAYS))
    plan = settings.strategy.plan(scores[: tried.stop - tried.start], view_of(prepared.panel, tried))
    how: dict[str, Any] = {"delay": settings.delay, "every": settings.every, "capital": settings.capital}
    simulate(make_terms(settings.market, prepared.panel, tried), plan, **how)


# ---- predictions and the end of a run --------------------------------------------------------------------------------


def _predict(
    config: Config, panel: Panel, folder: RunFolder, seed: int, days: Sequence[int], device: torch.device
) -> Predicted:
    """What the best checkpoint of a seed says of `days` of `panel`."""
    tensors, header = load_checkpoint(folder.checkpoints(seed) / "best.safetensors", torch.device("cpu"))
    constants = {name: tensor.numpy() for name, tensor in part(tensors, "features.").items()}
    fitted = config.features.restore(tuple(header["features"]), constants)
    concepts: list[str] = header.get("concepts", [])
    model = _fresh(config, fitted, concepts, seed)
    model.load_state_dict(part(tensors, "model."))
    model.to(device)
    facts = gather_facts(config.backbone.reads, panel, concepts)
    batches = DayBatches(fitted.bind(panel, device), usable(panel), {}, device, facts)
    return predict(model, config.learned(), batches, days, panel.sizes["symbol"])


def _predictions(prepared: Prepared, folder: RunFolder) -> pl.DataFrame:
    """All seeds on the validation and test splits, and on every day after them."""
    config, splits = prepared.config, prepared.splits
    n = len(prepared.days)
    days = [*range(splits.valid.days.start, splits.valid.days.stop), *range(splits.test.days.start, n)]
    by_seed = {seed: _predict(config, prepared.panel, folder, seed, days, prepared.device) for seed in config.seeds}
    names = np.full(n, "live", dtype=object)
    names[splits.valid.days] = "valid"
    names[splits.test.days] = "test"
    labels = {name: label[days] for name, label in prepared.labels.items()}
    return prediction_table(prepared.panel, days, by_seed, prepared.learned, labels, names[days])


def _backtest(
    folder: RunFolder, panel: Panel, settings: BacktestSettings | None = None, split: str = "test"
) -> BacktestResult:
    dates, symbols, scores = matrix_of(averaged(split_of(folder.read_frame("predictions.parquet"), split)), "score")
    return backtest(
        panel,
        xr.DataArray(
            scores, dims=("date", "symbol"), coords={"date": dates.astype("datetime64[ns]"), "symbol": symbols}
        ),
        folder.config().traded() if settings is None else settings,
        first=dates[0],
        last=dates[-1],
    )


def _conclude(folder: RunFolder, panel: Panel) -> None:
    """Metrics, the latest list and the report, from the predictions."""
    config = folder.config()
    predictions = folder.read_frame("predictions.parquet")
    try:
        result = _backtest(folder, panel)
    except DataError as error:
        raise DataError(
            f"{error}. The training and predictions.parquet are kept: go on by --resume with other settings of backtest"
        ) from None
    folder.write_json("metrics.json", run_metrics(config, predictions, folder.read_history(), result))
    folder.write_frame("recommendations.csv", ranked_list(predictions))
    _write_report(folder, panel, result)


def _capitals(settings: BacktestSettings) -> list[float] | None:
    """The capitals that the report compares."""
    return [settings.capital * scale for scale in CAPITALS] if settings.strategy.light else None


def _write_report(folder: RunFolder, panel: Panel, result: BacktestResult) -> Path:
    config = folder.config()
    table = averaged(split_of(folder.read_frame("predictions.parquet"), "test"))
    dates, _, scores = matrix_of(table, "score")
    _, _, returns = matrix_of(table, f"label.{config.priced()[0]}")
    settings = config.evaluation
    daily = daily_metrics(scores, returns, precision_at=settings.precision_at, ndcg_at=settings.ndcg_at)
    groups = quantile_returns(scores, returns, settings.quantiles)
    history = folder.read_history()
    seconds = sum(row["seconds"] for row in history)
    html = render(
        ReportInputs(
            name=config.name,
            config=config.plain(),
            environment={**folder.read_json("environment.json"), "seconds": seconds},
            data=folder.read_json("data.json"),
            history=history,
            metrics={**folder.read_json("metrics.json"), "backtest": backtest_metrics(result)},
            daily=pl.DataFrame({"date": dates, **daily}).fill_nan(None),
            quantiles=pl.DataFrame(
                {"date": dates, **{f"q{i + 1}": groups[:, i] for i in range(groups.shape[1])}}
            ).fill_nan(None),
            backtest=result.table(),
            risk=risk_inputs(panel, result, capitals=_capitals(result.settings)),
            recommendations=folder.read_frame("recommendations.csv"),
        )
    )
    return folder.write_text("report.html", html)
