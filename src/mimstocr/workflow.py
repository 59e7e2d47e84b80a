"""What the commands do, each as one Python call: run, evaluate, run_backtest, write_report; see `live` too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
import torch
import xarray as xr
from numpy.typing import NDArray

from mimstocr.backbones import Inputs
from mimstocr.backtest import BacktestResult, BacktestSettings, backtest, make_terms, simulate, view_of
from mimstocr.backtest.explain import Explained, explain
from mimstocr.backtest.run import carried
from mimstocr.backtest.strategy import check_columns
from mimstocr.config import Config, differences, write_yaml
from mimstocr.data import load_panel
from mimstocr.data.facts import gather_facts
from mimstocr.data.inspect import inspect_panel
from mimstocr.data.panel import Panel, days_of, fingerprint, symbols_of, usable
from mimstocr.errors import ConfigError, DataError, RunError
from mimstocr.evaluation import daily_metrics, quantile_returns, summarise
from mimstocr.evidence import backtest_metrics, evidence_of, run_metrics, split_of
from mimstocr.features import Fitted
from mimstocr.features.by_class import restore_by_class
from mimstocr.predictions import averaged, matrices_of, matrix_of, output_columns, prediction_table, ranked_list
from mimstocr.report import ReportInputs, render
from mimstocr.report.risk import risk_inputs
from mimstocr.runs import RunFolder
from mimstocr.sharing import mean_mixing
from mimstocr.training.batches import DayBatches, check_portfolio
from mimstocr.training.checkpoint import load_checkpoint, part
from mimstocr.training.interrupt import Stop, stop_on_signal
from mimstocr.training.loop import Moment, Setting, Trainer, Watcher
from mimstocr.training.machine import settle
from mimstocr.training.model import Model, seeded_model
from mimstocr.training.periods import PeriodTrainer, RollingTrainer
from mimstocr.training.predict import Predicted, joined, predict
from mimstocr.training.prepare import Prepared, data_account, environment, prepare
from mimstocr.training.rolling import weights_of

NOT_IDENTITY = ("name", "out", "seeds", "data", "evaluation", "backtest")
"""What a training does not depend on; the data are known by their fingerprint, wherever they lie."""
CAPITALS = (0.01, 0.1, 1, 10, 100, 1000)
"""Multiples of the capital for which the report shows what the strategy earns."""
SHARING_EVERY = 10
"""Validation days from one look at the sharing structure to the next."""
TRIED_DAYS = 10
"""Days of the test on which the backtest is tried before training."""
AS_BEFORE = {"order": "shuffled", "rolling": None}
"""Settings of the training that came later, at the value that says what was done before there was a choice."""
NOT_IDENTITY_TRAINING = ("max_epochs", "patience", "device", "threads", "test_curve", "checkpoint_seconds")
LIVED_IN = ("market", "delay", "capital")
"""Settings of the backtest that an agent's training depends on."""


class Quiet:
    """A watcher that says nothing."""

    def step(self, moment: Moment) -> None:
        """Say nothing."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Say nothing."""


class Past(Protocol):
    """Where a training stands."""

    @property
    def history(self) -> list[dict[str, Any]]:
        """A line an epoch."""


class Training(Protocol):
    """One seed under training; `Trainer` is one."""

    @property
    def at(self) -> Past:
        """Where it stands."""

    @property
    def last(self) -> Path:
        """The checkpoint to go on from."""

    def resume(self) -> None:
        """Go back to where `last` was written."""

    def fit(self, watcher: Watcher, stop: Stop) -> bool:
        """Train until the end; false when `stop` was raised first, with everything saved."""


class Learner(Protocol):
    """Who learns and predicts in a run."""

    def check(self, prepared: Prepared) -> None:
        """Refuse, before anything is written, what cannot be learned."""

    def trainings(self, prepared: Prepared, folder: RunFolder) -> Callable[[int], Training]:
        """Seed to its training."""

    def predict(self, prepared: Prepared, folder: RunFolder, seed: int, days: Sequence[int]) -> Predicted:
        """What the best of a seed's training says of `days`: the validation split, and all from the test on."""

    def finish(self, prepared: Prepared, folder: RunFolder) -> None:
        """Write what else there is to tell."""


class Network:
    """The config's own network."""

    def check(self, prepared: Prepared) -> None:
        """A backbone that lacks what it needs says so."""
        fresh_model(prepared, prepared.config.seeds[0])

    def trainings(self, prepared: Prepared, folder: RunFolder) -> Callable[[int], Training]:
        """Seed to its training, and what follows it."""
        setting = make_setting(prepared)
        return lambda seed: _training(prepared, setting, seed, folder.checkpoints(seed))

    def predict(self, prepared: Prepared, folder: RunFolder, seed: int, days: Sequence[int]) -> Predicted:
        """What the best checkpoint says; from the test on the rolling models, where there are any."""
        return predict_days(prepared.config, prepared.panel, folder, seed, days, prepared.device)

    def finish(self, prepared: Prepared, folder: RunFolder) -> None:
        """sharing.json."""
        _write_sharing(prepared, folder)


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
    another config or is in use, and what data and components raise; then nothing was written. Days that the same
    source has got since the run began are left out when it is resumed.
    """
    learner = _learner(config)
    settle(config.training.threads)
    old = resume and (config.folder / "config.yaml").exists()
    prepared = prepare(config, upto=_began_with(config) if old else None)
    _try_backtest(prepared)
    learner.check(prepared)
    folder = RunFolder.open(config.folder) if old else RunFolder.create(config)
    with folder.locked():
        if old:
            _check_same(folder.config(), config, folder)
            write_yaml(folder.path / "config.yaml", config)  # longer training or more seeds may be asked for now
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        by_agent = {} if config.agent is None else config.agent.computed_with()
        folder.write_json("environment.json", {**environment(prepared), **by_agent, "started": started})
        folder.write_json("data.json", data_account(prepared, asdict(inspect_panel(prepared.panel))))
        with stop_on_signal() as stop:
            finished = _train(prepared, folder, learner, watcher or Quiet(), stop)
        if finished:
            folder.write_frame("predictions.parquet", _predictions(prepared, folder, learner))
            learner.finish(prepared, folder)
            _conclude(folder, prepared.panel)
        return RunResult(folder, finished)


def _began_with(config: Config) -> np.datetime64 | None:
    """The last day of the data that the run in the config's folder began with, if its data are those of the config."""
    folder = RunFolder.open(config.folder)
    same = folder.config().data.model_copy(update={"refresh": config.data.refresh}) == config.data
    if not same or not (folder.path / "data.json").is_file():
        return None
    return np.datetime64(folder.read_json("data.json")["inspection"]["last_day"])


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


def _learner(config: Config) -> Learner:
    """Who learns in a run. Raises ConfigError when the packages of an agent are not there."""
    if config.agent is None:
        return Network()
    from mimstocr.agents.run import AgentLearner  # of the extra rl

    return AgentLearner(config.agent)


def _train(prepared: Prepared, folder: RunFolder, learner: Learner, watcher: Watcher, stop: Stop) -> bool:
    """All seeds in turn; false when stopped."""
    config = prepared.config
    history: list[dict[str, Any]] = []
    training_of = learner.trainings(prepared, folder)
    for seed in config.seeds:
        trainer = training_of(seed)
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
    trainer: Training
    watcher: Watcher

    def step(self, moment: Moment) -> None:
        self.watcher.step(moment)

    def epoch(self, row: Mapping[str, Any]) -> None:
        self.folder.write_history(self.before + self.trainer.at.history)
        self.watcher.epoch(row)


def _training(prepared: Prepared, setting: Setting, seed: int, checkpoints: Path) -> Training:
    """The training of a seed; with its periods, where the model is a rolling one."""
    trainer = Trainer(setting, fresh_model(prepared, seed), seed, checkpoints)
    rolling, batches = setting.training.rolling, prepared.open_batches
    if rolling is None or batches is None:
        return trainer
    rolled = PeriodTrainer(setting, trainer.model, seed, checkpoints, rolling, prepared.periods, batches)
    return RollingTrainer(trainer, rolled)


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
        identity={**identity_of(config), "data": fingerprint(prepared.panel)},
        features=prepared.fitted.names,
        concepts=prepared.concepts,
        classes=prepared.classes,
        portfolio=prepared.portfolio,
        constants={name: torch.from_numpy(value) for name, value in prepared.fitted.constants().items()},
    )


def fresh_model(prepared: Prepared, seed: int) -> Model:
    """The untrained model of a seed. Raises ConfigError when the balancer has nothing to balance in it."""
    config = prepared.config
    model = _fresh(config, prepared.fitted, prepared.concepts, prepared.classes, prepared.portfolio, seed)
    for name, start in prepared.starts.items():
        if start != 0:
            torch.nn.init.constant_(model.heads[name].get_parameter("bias"), start)
    if config.balancer.reads == "gradients" and not model.shared_parameters():
        raise ConfigError(
            f"balancer {config.balancer.kind} reads the gradients of shared parameters, but sharing "
            f"{config.sharing.kind} has none; choose a balancer that reads losses, such as ew, or another sharing"
        )
    return model


def _fresh(
    config: Config,
    fitted: Fitted,
    concepts: Sequence[str],
    classes: Sequence[str],
    portfolio: Sequence[str],
    seed: int,
) -> Model:
    inputs = Inputs(len(fitted.names), fitted.window, len(concepts), len(classes), len(portfolio))
    return seeded_model(seed, config.backbone, config.sharing, config.learned(), inputs)


def _figures(prepared: Prepared, predicted: Predicted) -> dict[str, float]:
    returns = prepared.labels[prepared.config.priced()[0]][prepared.valid_days]
    summary = summarise(daily_metrics(predicted.scores[prepared.main], returns, precision_at=(), ndcg_at=()))
    return {name: summary[name] for name in ("ic", "rank_ic")}


def identity_of(config: Config) -> dict[str, Any]:
    """Dotted settings that the numbers of a training depend on."""
    plain = {key: value for key, value in config.plain().items() if key not in NOT_IDENTITY}
    if plain["agent"] is None:
        del plain["agent"]  # runs from before there were agents have none
    else:
        plain["backtest"] = {k: v for k, v in config.traded().model_dump(mode="json").items() if k in LIVED_IN}
    plain["training"] = {
        k: v for k, v in plain["training"].items() if k not in NOT_IDENTITY_TRAINING and v != AS_BEFORE.get(k, ...)
    }
    whole = {"tasks": list(config.tasks)} | ({} if config.agent is None else {"agent": config.agent.kind})
    return _flat(plain) | whole


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _check_same(saved: Config, asked: Config, folder: RunFolder) -> None:
    if account := differences(identity_of(saved), identity_of(asked)):
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

    The scores and outputs are random, as the future's are not to be looked at; some strategies want to sell short only
    by them.
    """
    test = prepared.splits.test.days
    settings = prepared.config.traded()
    shape = (test.stop - test.start, prepared.panel.sizes["symbol"])
    scores = np.where(prepared.rows[test], np.random.default_rng(0).normal(size=shape), np.nan)
    if prepared.config.agent is not None and not settings.market.short:
        scores = np.abs(scores)  # an agent leaves in cash what such a market does not sell short
    scores = carried(prepared.panel, scores, test)
    check_columns(settings.strategy.reads, output_columns(prepared.learned))
    made = _made_up(prepared, test)
    outputs = {name: carried(prepared.panel, made[name], test) for name in settings.strategy.reads}
    settings.strategy.plan(scores, view_of(prepared.panel, test, outputs))
    tried = slice(test.start, min(test.stop, test.start + (settings.delay or 0) + TRIED_DAYS))
    n = tried.stop - tried.start
    first = {name: values[:n] for name, values in outputs.items()}
    plan = settings.strategy.plan(scores[:n], view_of(prepared.panel, tried, first))
    how: dict[str, Any] = {"delay": settings.delay, "every": settings.every, "capital": settings.capital}
    simulate(make_terms(settings.market, prepared.panel, tried), plan, **how)


def _made_up(prepared: Prepared, days: slice) -> dict[str, NDArray[np.float64]]:
    """Random outputs of the learned tasks by column, (days, symbols) each, NaN outside the cross-section.

    Odds and shares are 0 .. 1, scales above 0, values of either sign; sizes range over what the units of a task can be.
    """
    random, rows = np.random.default_rng(1), prepared.rows[days]
    made = {}
    for name, task in prepared.learned.items():
        for column in output_columns({name: task}):
            size = 10.0 ** random.uniform(-4, 1, rows.shape)
            odds = random.random(rows.shape)
            side = np.sign(odds - 0.5)
            values = {"value": size * side, "scale": size, "position": side / rows.shape[1]}.get(task.target, odds)
            made[column] = np.where(rows, values if column != f"{name}.hold" else odds, np.nan)
    return made


# ---- predictions and the end of a run --------------------------------------------------------------------------------


def predict_days(
    config: Config, panel: Panel, folder: RunFolder, seed: int, days: Sequence[int], device: torch.device
) -> Predicted:
    """What a seed says of `days` of `panel`: its best checkpoint, or for each day the rolling model of its period."""
    checkpoints = folder.checkpoints(seed)
    best = checkpoints / "best.safetensors"
    rolling = config.training.rolling is not None
    files = weights_of(checkpoints, days_of(panel)[list(days)]) if rolling else [best] * len(days)
    tensors, header = load_checkpoint(best, torch.device("cpu"))
    constants = {name: tensor.numpy() for name, tensor in part(tensors, "features.").items()}
    concepts: list[str] = header.get("concepts", [])
    classes: list[str] = header.get("classes", [])
    portfolio: list[str] = header.get("portfolio", [])
    check_portfolio(portfolio, panel)
    fitted = restore_by_class(config.features, tuple(header["features"]), constants, classes)
    model = _fresh(config, fitted, concepts, classes, portfolio, seed)
    facts = gather_facts(config.backbone.reads, panel, concepts, classes)
    batches = DayBatches(fitted.bind(panel, device), usable(panel), {}, device, facts, fixed=bool(portfolio))
    parts, places = [], []
    for file in dict.fromkeys(files):
        own = [place for place, each in enumerate(files) if each == file]
        model = _trained(model, load_checkpoint(file, torch.device("cpu"))[0], device)
        some = [days[place] for place in own]
        parts.append(predict(model, config.learned(), batches, some, panel.sizes["symbol"]))
        places += own
    return joined(parts, places)


def _trained(model: Model, tensors: Mapping[str, torch.Tensor], device: torch.device) -> Model:
    """The model with the weights of a checkpoint."""
    model.load_state_dict(part(tensors, "model."))
    return model.to(device)


def _write_sharing(prepared: Prepared, folder: RunFolder) -> None:
    """sharing.json: what each seed's sharing structure does on some validation days, if it has anything to tell."""
    days = prepared.valid_days[::SHARING_EVERY]
    tables: list[dict[str, Any]] = []
    for seed in prepared.config.seeds:
        tensors, _ = load_checkpoint(folder.checkpoints(seed) / "best.safetensors", torch.device("cpu"))
        model = _trained(fresh_model(prepared, seed), tensors, prepared.device)
        each = (prepared.batches([day]) for day in days)
        found = mean_mixing(model.shared, ((batch.x, batch.valid, batch.facts) for batch in each))
        tables = tables or [{**table._asdict(), "values": {}} for table in found]
        for table, of_seed in zip(tables, found, strict=True):
            table["values"][str(seed)] = of_seed.values.tolist()
    if tables:
        folder.write_json("sharing.json", {"days": [str(prepared.days[day]) for day in days], "tables": tables})


def _predictions(prepared: Prepared, folder: RunFolder, learner: Learner) -> pl.DataFrame:
    """All seeds on the validation and test splits, and on every day after them."""
    config, splits = prepared.config, prepared.splits
    n = len(prepared.days)
    days = [*range(splits.valid.days.start, splits.valid.days.stop), *range(splits.test.days.start, n)]
    by_seed = {seed: learner.predict(prepared, folder, seed, days) for seed in config.seeds}
    names = np.full(n, "live", dtype=object)
    names[splits.valid.days] = "valid"
    names[splits.test.days] = "test"
    beside = {f"label.{name}": label[days] for name, label in prepared.labels.items()}
    beside |= {f"reference.{name}": usual[days] for name, usual in prepared.references.items()}
    return prediction_table(prepared.panel, days, by_seed, prepared.learned, beside, names[days])


def _backtest(
    folder: RunFolder, panel: Panel, settings: BacktestSettings | None = None, split: str = "test"
) -> BacktestResult:
    config = folder.config()
    settings = config.traded() if settings is None else settings
    check_columns(settings.strategy.reads, output_columns(config.learned()))
    table = averaged(split_of(folder.read_frame("predictions.parquet"), split))
    dates, symbols, found = matrices_of(table, ["score", *settings.strategy.reads])
    coords = {"date": dates.astype("datetime64[ns]"), "symbol": symbols}
    grids = {name: xr.DataArray(values, dims=("date", "symbol"), coords=coords) for name, values in found.items()}
    return backtest(panel, grids["score"], settings, first=dates[0], last=dates[-1], outputs=grids)


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
    folder.write_frame("backtest.parquet", result.table())
    metrics = run_metrics(config, predictions, folder.read_history(), result, folder.read_periods())
    folder.write_json("metrics.json", metrics)
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
    seconds = sum(row["seconds"] for row in [*history, *folder.read_periods()])
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
            sharing=folder.read_json("sharing.json") if (folder.path / "sharing.json").is_file() else {},
        )
    )
    return folder.write_text("report.html", html)
