"""The five calls on a small world, from prices to the report."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import mimstocr
from mimstocr.config import Config, load_config
from mimstocr.data import load_panel
from mimstocr.errors import ConfigError, DataError, RunError
from mimstocr.training.loop import Moment
from mimstocr.workflow import Quiet

Make = Callable[..., Config]

FILES = {
    "config.yaml",
    "environment.json",
    "data.json",
    "history.jsonl",
    "checkpoints",
    "predictions.parquet",
    "backtest.parquet",
    "metrics.json",
    "recommendations.csv",
    "report.html",
}


@pytest.fixture
def finished(small: Make) -> Path:
    result = mimstocr.run(small(seeds=[0, 1]))
    assert result.finished
    return result.folder.path


def strict(text: str) -> Any:
    """JSON as the standard has it: no NaN."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_run_leaves_every_file_whole(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == FILES
    for name in ("environment.json", "data.json", "metrics.json"):
        strict((finished / name).read_text())
    rows = [strict(line) for line in (finished / "history.jsonl").read_text().splitlines()]
    assert [(row["seed"], row["epoch"]) for row in rows] == [(s, e) for s in (0, 1) for e in (1, 2, 3, 4)]
    assert "<html" in (finished / "report.html").read_text()
    assert not list(finished.rglob("*.partial"))


def test_predictions_hold_every_seed_day_and_stock(finished: Path, prices: Path) -> None:
    table = pl.read_parquet(finished / "predictions.parquet")
    levels = [f"momentum.{level}" for level in ("sink", "negative", "volatile", "positive", "bounce")]
    assert table.columns == [
        *("seed", "date", "symbol", "split", "score", "return"),
        *levels,
        *("label.return", "label.momentum"),
    ]
    assert table.select("seed", "date", "symbol").is_duplicated().sum() == 0
    assert table["score"].null_count() == 0
    assert np.allclose(table.select(levels).sum_horizontal(), 1, atol=1e-5)
    traded = pl.read_parquet(prices).filter((pl.col("volume") > 0) & (pl.col("date") >= table["date"].min()))
    for seed in (0, 1):
        mine = table.filter(pl.col("seed") == seed)
        assert mine.select("date", "symbol").sort("date", "symbol").equals(traded.select("date", "symbol"))
    # 130 days: 26 each for valid and test; a label looks two days ahead and ends inside its own split
    last_days = table.filter(pl.col("split") == "valid")["date"].unique().sort()[-2:]
    late = table.filter(pl.col("date").is_in(last_days.to_list()))
    assert late["label.return"].null_count() == len(late)


def test_labels_are_the_returns_of_the_prices(finished: Path, prices: Path) -> None:
    table = pl.read_parquet(finished / "predictions.parquet").drop_nulls("label.return").filter(pl.col("seed") == 0)
    close = pl.read_parquet(prices).pivot("symbol", index="date", values="close").sort("date")
    days = close["date"].to_list()
    for row in table.sample(20, seed=0).iter_rows(named=True):
        t = days.index(row["date"])
        expected = close[row["symbol"]][t + 2] / close[row["symbol"]][t + 1] - 1
        assert row["label.return"] == pytest.approx(expected, abs=1e-5)


def test_metrics_agree_with_evaluate_and_with_a_slow_loop(finished: Path) -> None:
    metrics = strict((finished / "metrics.json").read_text())
    again = mimstocr.evaluate(finished)
    assert again["mean"]["rank_ic"] == pytest.approx(metrics["mean"]["test"]["rank_ic"])
    assert metrics["std"]["test"]["ic"] == pytest.approx(
        np.std([metrics["seeds"][seed]["test"]["ic"] for seed in ("0", "1")], ddof=1)
    )
    table = pl.read_parquet(finished / "predictions.parquet").filter(pl.col("split") == "test")
    for seed in (0, 1):
        mine = table.filter(pl.col("seed") == seed).drop_nulls("label.return")
        daily = [
            np.corrcoef(day["score"], day["label.return"])[0, 1]
            for _, day in mine.group_by("date", maintain_order=True)
        ]
        assert metrics["seeds"][str(seed)]["test"]["ic"] == pytest.approx(np.mean(daily), abs=1e-6)
        named = table.filter((pl.col("seed") == seed) & pl.col("label.momentum").is_not_null())
        best = named.select(pl.col("^momentum\\..*$")).to_numpy().argmax(axis=1)
        hit = (best == named["label.momentum"].to_numpy()).mean()
        assert metrics["seeds"][str(seed)]["tasks"]["momentum"]["test"]["accuracy"] == pytest.approx(hit)


def test_the_list_is_the_last_day_and_the_mean_of_the_seeds(finished: Path) -> None:
    ranked = mimstocr.recommend(finished)
    table = pl.read_parquet(finished / "predictions.parquet")
    last = table.filter(pl.col("date") == table["date"].max())
    expected = last.group_by("symbol").agg(pl.col("score").mean()).sort("score", descending=True)
    assert ranked["symbol"].to_list() == expected["symbol"].to_list()
    np.testing.assert_allclose(ranked["score"], expected["score"], rtol=1e-5)
    assert ranked["rank"].to_list() == list(range(1, len(ranked) + 1))
    assert ranked["date"].unique().to_list() == [table["date"].max()]
    saved = pl.read_csv(finished / "recommendations.csv", try_parse_dates=True)
    assert saved["symbol"].to_list() == ranked["symbol"].to_list()
    assert len(mimstocr.recommend(finished, top=3)) == 3


def test_a_list_of_a_day_equals_its_predictions(finished: Path) -> None:
    table = pl.read_parquet(finished / "predictions.parquet").filter(pl.col("split") == "test")
    day: date = table["date"].unique().sort()[5]
    ranked = mimstocr.recommend(finished, day=day).sort("symbol")
    mine = table.filter(pl.col("date") == day).group_by("symbol").agg(pl.col("score").mean()).sort("symbol")
    np.testing.assert_allclose(ranked["score"], mine["score"], rtol=1e-5)


def test_tomorrow_needs_no_new_training(finished: Path, prices: Path, tmp_path: Path) -> None:
    """The same run on prices with one more day ranks that day, and the days before as before."""
    table = pl.read_parquet(prices)
    last = table["date"].max()
    assert isinstance(last, date)
    more = table.filter(pl.col("date") == last).with_columns(
        date=pl.lit(date(2020, 7, 1)), close=pl.col("close") * 1.01
    )
    pl.concat([table, more]).write_parquet(tmp_path / "more.parquet")
    source = f"parquet:{tmp_path / 'more.parquet'}"
    assert mimstocr.recommend(finished, source=source)["date"][0] == date(2020, 7, 1)
    assert mimstocr.recommend(finished, source=source, day=last).equals(mimstocr.recommend(finished, day=last))


def test_a_day_without_trading_names_the_one_before(finished: Path) -> None:
    with pytest.raises(DataError, match=r"2020-05-02 is not a trading day .* nearest before it is 2020-05-01"):
        mimstocr.recommend(finished, day=date(2020, 5, 2))


def test_backtest_with_other_terms(finished: Path) -> None:
    usual, dear, free = (
        mimstocr.run_backtest(finished, overrides=terms)
        for terms in ([], ["market.commission=0.01"], ["market.commission=0"])
    )
    net = [run.metrics["net"]["cumulative_return"] for run in (dear, usual, free)]
    assert net == sorted(net)
    assert net[0] < net[2]
    assert free.metrics["net"]["cumulative_return"] == free.metrics["gross"]["cumulative_return"]
    assert int(mimstocr.run_backtest(finished, overrides=["strategy.k=5"]).n_held.max()) == 5
    assert mimstocr.run_backtest(finished, split="valid").days[-1] < usual.days[0]


def test_the_report_can_be_made_again(finished: Path) -> None:
    before = (finished / "report.html").read_text()
    (finished / "report.html").unlink()
    assert mimstocr.write_report(finished) == finished / "report.html"
    assert len((finished / "report.html").read_text()) == pytest.approx(len(before), rel=0.01)


def test_a_run_is_not_written_over(small: Make) -> None:
    config = small(training={"max_epochs": 1, "days_per_step": 8})
    mimstocr.run(config)
    before = (config.folder / "metrics.json").read_text()
    with pytest.raises(RunError, match="exists already; nothing was written"):
        mimstocr.run(config)
    with pytest.raises(RunError, match=r"training\.learning_rate: then 0\.0002, now 0\.5"):
        mimstocr.run(small(training={"max_epochs": 1, "days_per_step": 8, "learning_rate": 0.5}), resume=True)
    assert (config.folder / "metrics.json").read_text() == before


def test_a_strategy_that_the_market_does_not_allow_is_refused_before_training(small: Make) -> None:
    config = small(backtest={"strategy": {"kind": "quantile_long_short", "fraction": 0.3}})
    with pytest.raises(DataError, match="a weight below zero"):
        mimstocr.run(config)
    assert not config.folder.exists()


SIGNAL = {"kind": "signal", "value": "return", "confidence": "momentum.positive", "above": 0.0}


def test_a_strategy_reads_the_outputs_of_the_tasks(small: Make) -> None:
    tasks = {
        "return": {"kind": "return", "delay": 1},
        "direction": {"kind": "direction"},
        "volatility": {"kind": "volatility", "horizon": 3},
        "momentum": {"kind": "momentum_line", "s": 3, "l": 2},
    }
    of = {**SIGNAL, "confidence": "direction", "side": "long_short"}
    strategy = {"kind": "vol_scaled", "of": of, "forecast": "volatility"}
    market = {"kind": "flat", "short": True}
    config = small(seeds=[0, 1], tasks=tasks, backtest={"strategy": strategy, "market": market})
    path = mimstocr.run(config).folder.path
    result = mimstocr.run_backtest(path)
    table = pl.read_parquet(path / "predictions.parquet").filter(pl.col("split") == "test")
    columns = ("return", "direction", "volatility")
    means = table.group_by("date", "symbol").agg(pl.col(columns).mean())
    days = {day: at for at, day in enumerate(result.simulated_days.tolist())}
    for row in means.sample(30, seed=0).iter_rows(named=True):
        place = days[row["date"]], result.symbols.index(row["symbol"])
        assert row["volatility"] > 0
        assert 0 < row["direction"] < 1
        for name in columns:
            assert result.outputs[name][place] == pytest.approx(row[name])
    assert result.net.shares.any()
    saved = pl.read_parquet(path / "backtest.parquet")
    assert saved.equals(result.table())
    assert strict((path / "metrics.json").read_text())["backtest"]["counts"] == result.counts
    again = mimstocr.run_backtest(path, overrides=["strategy.of.above=9"])
    assert not again.net.shares.any()
    with pytest.raises(
        ConfigError,
        match=r"'returns' .* did you mean 'return' or 'direction'\? known: direction, momentum.*volatility$",
    ):
        mimstocr.run_backtest(path, overrides=["strategy.of.value=returns"])
    with pytest.raises(ConfigError, match=r"reads the column 'label.return'"):
        mimstocr.run_backtest(path, overrides=["strategy.of.value=label.return"])


@pytest.mark.parametrize(
    ("strategy", "problem"),
    [
        ({"kind": "signal", "value": "direction"}, r"reads the column 'direction' .* known: momentum.bounce, "),
        ({"kind": "signal", "value": "momentum"}, r"reads the column 'momentum' .* did you mean 'momentum.sink'"),
        ({**SIGNAL, "confidence": "return"}, r"expected probabilities of 0 .. 1 in the column 'return'"),
        ({**SIGNAL, "side": "long_short"}, r"this market sells nothing short"),
        ({"kind": "vol_scaled", "forecast": "return", "of": SIGNAL}, r"daily volatilities in the column 'return'"),
        (
            {"kind": "vol_scaled", "of": SIGNAL, "max_leverage": 3, "max_scale": 40, "target": 9},
            r"at most 1 is allowed",
        ),
    ],
)
def test_outputs_that_cannot_be_used_are_refused_before_training(
    small: Make, strategy: dict[str, Any], problem: str
) -> None:
    config = small(backtest={"strategy": strategy})
    with pytest.raises((ConfigError, DataError), match=problem):
        mimstocr.run(config)
    assert not config.folder.exists()


def test_a_task_that_is_not_learned_has_no_column(small: Make) -> None:
    config = small(balancer="stl", backtest={"strategy": {**SIGNAL, "confidence": "momentum.positive"}})
    with pytest.raises(ConfigError, match=r"'momentum.positive' of the predictions, .* known: return$"):
        mimstocr.run(config)


def test_fewer_stocks_than_k_is_refused_before_training(small: Make) -> None:
    config = small(backtest={"strategy": {"kind": "top_k", "k": 13}})
    with pytest.raises(DataError, match="13"):
        mimstocr.run(config)
    assert not config.folder.exists()


class Interrupting(Quiet):
    """Sends the signal of Ctrl-C in the second epoch of a seed."""

    def __init__(self, seed: int) -> None:
        self.seed, self.sent = seed, False

    def step(self, moment: Moment) -> None:
        if (moment.seed, moment.epoch) == (self.seed, 2) and not self.sent:
            self.sent = True
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("seed", [0, 1])
def test_stopped_by_a_signal_and_resumed_is_the_same_run(
    small: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seed: int
) -> None:
    monkeypatch.setattr("mimstocr.training.loop.LOOK_SECONDS", -1.0)
    whole = mimstocr.run(small(seeds=[0, 1], out=str(tmp_path / "whole")))
    config = small(seeds=[0, 1])
    stopped = mimstocr.run(config, watcher=Interrupting(seed))
    assert not stopped.finished
    assert not (config.folder / "metrics.json").exists()
    with pytest.raises(RunError, match="has not finished"):
        mimstocr.evaluate(config.folder)
    resumed = mimstocr.run(config, resume=True)
    assert resumed.finished
    one, two = (pl.read_parquet(run.folder.path / "predictions.parquet") for run in (whole, resumed))
    assert one.equals(two)
    ours, theirs = whole.metrics, resumed.metrics
    for found in (*ours["seeds"].values(), *theirs["seeds"].values()):
        found.pop("seconds")
    assert ours == theirs


def test_resuming_a_finished_run_changes_nothing(finished: Path) -> None:
    before = pl.read_parquet(finished / "predictions.parquet")
    assert mimstocr.run(mimstocr.load_config(finished), resume=True).finished
    assert pl.read_parquet(finished / "predictions.parquet").equals(before)


def test_stl_runs_one_task(small: Make) -> None:
    result = mimstocr.run(small(balancer="stl"))
    assert list(result.metrics["seeds"]["0"]["tasks"]) == ["return"]


def test_a_moved_run_still_works(finished: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    finished.rename(moved)
    assert len(mimstocr.recommend(moved, top=2)) == 2


def test_more_seeds_later_are_added(small: Make) -> None:
    one = mimstocr.run(small(seeds=[1]))
    first = one.metrics["seeds"]["1"]["test"]
    both = mimstocr.run(small(seeds=[1, 0]), resume=True)
    assert both.metrics["seeds"]["1"]["test"] == first
    assert list(both.metrics["seeds"]) == ["1", "0"]
    assert both.folder.config().seeds == (1, 0)
    fresh = mimstocr.run(small(name="fresh", seeds=[1, 0]))
    assert fresh.metrics["mean"] == both.metrics["mean"]
    with pytest.raises(RunError, match=r"seeds \[1\] would be lost"):
        mimstocr.run(small(seeds=[0]), resume=True)
    assert both.folder.config().seeds == (1, 0)


def test_another_order_of_the_tasks_is_another_config(small: Make) -> None:
    tasks = {"return": {"kind": "return"}, "momentum": {"kind": "momentum_line", "lead": 1}}
    mimstocr.run(small(tasks=tasks, training={"max_epochs": 1, "days_per_step": 8}))
    turned = dict(reversed(tasks.items()))
    with pytest.raises(RunError, match=r"tasks: then \['return', 'momentum'\]"):
        mimstocr.run(small(tasks=turned, training={"max_epochs": 1, "days_per_step": 8}), resume=True)


def test_only_valid_and_test_have_evidence(finished: Path) -> None:
    for call in (mimstocr.evaluate, mimstocr.run_backtest):
        with pytest.raises(RunError, match="no evidence on split 'live'; expected valid or test"):
            call(finished, split="live")


# ---- backbones that look across stocks -------------------------------------------------------------------------------


def concept_file(folder: Path, *rows: str) -> Path:
    path = folder / "concepts.csv"
    path.write_text("\n".join(["symbol,concept", *rows]) + "\n")
    return path


@pytest.mark.parametrize("kind", ["hist", "rsr", "gats"])
def test_a_cross_sectional_backbone_from_prices_to_the_list(
    kind: str, small: Make, prices: Path, tmp_path: Path
) -> None:
    table = concept_file(tmp_path, *(f"S{i:02d},{'abc'[i % 3]}" for i in range(11)))
    data = {"source": f"parquet:{prices}", "concepts": str(table)}
    result = mimstocr.run(small(backbone={"kind": kind, "hidden_size": 6, "num_layers": 1}, data=data))
    path = result.folder.path
    known = pl.read_parquet(path / "predictions.parquet")
    last = known.filter(pl.col("date") == known["date"].max()).sort("symbol")
    again = mimstocr.recommend(path).sort("symbol")
    assert np.allclose(again["score"], last["score"], atol=1e-6)  # read anew, with the concepts of the checkpoint
    notes = result.folder.read_json("data.json")["inspection"]["notes"]
    assert any("1 symbols have no concept (S11)" in note for note in notes)
    assert any("20-day mean dollar volume" in note for note in notes) == (kind == "hist")
    concept_file(tmp_path, *(f"S{i:02d},{'xyz'[i % 3]}" for i in range(11)))
    if kind == "gats":
        assert mimstocr.recommend(path).sort("symbol")["score"].equals(again["score"])
    else:
        with pytest.raises(DataError, match=r"the model has not learned 3 concepts of the table .x, y, z."):
            mimstocr.recommend(path)


def test_without_a_concept_table_rsr_is_refused_and_hist_says_what_it_leaves_out(small: Make) -> None:
    with pytest.raises(ConfigError, match=r"data\.concepts"):
        mimstocr.run(small(backbone={"kind": "rsr", "hidden_size": 4}))
    assert not small().folder.exists()
    result = mimstocr.run(small(backbone={"kind": "hist", "hidden_size": 4}))
    notes = result.folder.read_json("data.json")["inspection"]["notes"]
    assert "no concept table (data.concepts): hist runs without the part that reads concepts" in notes


def test_concepts_change_nothing_for_a_backbone_that_reads_none(small: Make, prices: Path, tmp_path: Path) -> None:
    data = {"source": f"parquet:{prices}", "concepts": str(concept_file(tmp_path, "S00,a"))}
    with_table = mimstocr.run(small(name="with", data=data))
    without = mimstocr.run(small(name="without"))
    one, other = (run.folder.read_frame("predictions.parquet") for run in (with_table, without))
    assert one.equals(other)
    prints = [run.folder.read_json("environment.json")["data_fingerprint"] for run in (with_table, without)]
    assert prints[0] == prints[1]


# ---- positions -------------------------------------------------------------------------------------------------------

PORTFOLIO = {"position": {"kind": "position", "delay": 1}, "return": {"kind": "return", "delay": 1}}
SHORTS = {"strategy": "positions", "market": {"kind": "flat", "short": True, "commission": 0.0}}


def test_positions_from_prices_to_the_report(small: Make) -> None:
    made = mimstocr.run(small(tasks=PORTFOLIO, balancer="stl", backtest=SHORTS, seeds=[0, 1])).folder
    table = made.read_frame("predictions.parquet")
    assert table.columns == [
        *("seed", "date", "symbol", "split", "score", "position", "position.hold"),
        *("label.position", "label.return"),
    ]
    assert table["score"].equals(table["position"], check_names=False)
    assert table["label.position"].equals(table["label.return"], check_names=False)
    daily = table.group_by("seed", "date").agg(
        pl.col("position").abs().sum(), pl.col("position.hold").first(), pl.col("position.hold").n_unique().alias("n")
    )
    np.testing.assert_allclose(daily["position"] + daily["position.hold"], 1, atol=1e-5)
    assert (daily["n"] == 1).all()
    metrics = strict((made.path / "metrics.json").read_text())
    for seed in (0, 1):
        found = metrics["seeds"][str(seed)]["tasks"]["position"]["test"]
        rows = table.filter((pl.col("seed") == seed) & (pl.col("split") == "test"))
        known = rows.drop_nulls("label.return")
        profits = [(day["position"] * day["label.return"]).sum() for _, day in known.group_by("date")]
        assert found["profit"] == pytest.approx(np.mean(profits), abs=1e-9)
        assert found["total"] == pytest.approx(np.prod(1 + np.array(profits)) - 1)
        cash = (
            rows.filter(pl.col("date").is_in(known["date"].implode()))
            .group_by("date")
            .agg(pl.col("position.hold").first())
        )
        assert found["cash"] == pytest.approx(cash["position.hold"].mean(), abs=1e-6)
    page = (made.path / "report.html").read_text()
    assert "Profit a day" in page
    assert set(mimstocr.recommend(made.path).columns) >= {"score", "position", "position.hold"}


@pytest.mark.parametrize("difference", ["return", "price"])
def test_whatever_positions_are_trained_on_they_are_judged_by_returns(small: Make, difference: str) -> None:
    tasks = {**PORTFOLIO, "position": {"kind": "position", "delay": 1, "difference": difference, "hold": False}}
    made = mimstocr.run(small(tasks=tasks, balancer="stl", backtest=SHORTS)).folder
    table = made.read_frame("predictions.parquet")
    assert "position.hold" not in table.columns
    assert not np.allclose(table["label.position"].drop_nulls()[:50], table["label.return"].drop_nulls()[:50])
    known = table.filter(pl.col("split") == "test").drop_nulls("label.return")
    profits = [(day["position"] * day["label.return"]).sum() for _, day in known.group_by("date")]
    metrics = strict((made.path / "metrics.json").read_text())
    assert metrics["seeds"]["0"]["tasks"]["position"]["test"]["profit"] == pytest.approx(np.mean(profits), abs=1e-9)


def test_positions_beside_other_tasks(small: Make) -> None:
    tasks = {"return": {"kind": "return", "delay": 1}, "portfolio": {"kind": "position"}, "trend": "trend"}
    made = mimstocr.run(
        small(tasks=tasks, balancer={"kind": "cqb", "window": 1, "log_loss": False}, sharing="mmoe")
    ).folder
    assert {"portfolio", "portfolio.hold"} <= set(made.read_frame("predictions.parquet").columns)
    rows = made.read_history()
    assert all(np.isfinite(row["train"]["portfolio"]) for row in rows)


def test_positions_in_a_market_without_shorts_are_refused_before_training(small: Make) -> None:
    config = small(tasks=PORTFOLIO, balancer="stl", backtest={"strategy": "positions"})
    with pytest.raises(DataError, match="choose one with short: true"):
        mimstocr.run(config)
    assert not config.folder.exists()


def test_the_notes_say_what_a_published_loss_cannot_do(small: Make) -> None:
    tasks = {**PORTFOLIO, "position": {"kind": "position", "delay": 1, "loss": "stock_loss_l2"}}
    made = mimstocr.run(small(tasks=tasks, balancer="stl", backtest=SHORTS)).folder
    notes = [note for note in made.read_json("data.json")["inspection"]["notes"] if note.startswith("task position:")]
    assert len(notes) == 2
    assert "the money ends in cash" in notes[0]
    assert "what side they are on is chance" in notes[1]


def test_on_the_sample_the_account_is_the_papers_trading_rule(tmp_path: Path) -> None:
    """Config `smoke`, positions in a market with shorts and without costs, against capital followed in a slow loop."""
    if importlib.util.find_spec("fakestockdata") is None:
        pytest.skip("the sample data come with the extra `samples`")
    made = mimstocr.run(
        load_config(
            "smoke",
            [
                f"out={tmp_path}",
                "tasks={position: {kind: position, delay: 1}, return: {kind: return, delay: 1}}",
                "balancer=stl",
                "backtest={strategy: positions, market: {kind: flat, short: true, commission: 0}}",
            ],
        )
    ).folder
    table = made.read_frame("predictions.parquet").filter(pl.col("split") == "test")
    weights = {key: dict(zip(day["symbol"], day["position"], strict=True)) for (key,), day in table.group_by("date")}
    panel = load_panel(made.config().data)
    close = {symbol: panel["close"].sel(symbol=symbol).values for symbol in panel["symbol"].values.tolist()}
    days = [day.astype("datetime64[D]").item() for day in panel["date"].values]
    test = [i for i, day in enumerate(days) if day in weights]
    capital, values = 1_000_000.0, []
    for i in test[:-2]:  # decided at the close of i, held from the close of i + 1 to that of i + 2
        earned = 0.0
        for symbol, weight in weights[days[i]].items():
            earned += weight * capital * (close[symbol][i + 2] / close[symbol][i + 1] - 1)
        capital += earned
        values.append(capital)
    account = mimstocr.run_backtest(made.path)
    np.testing.assert_allclose(account.net.value[2:], values, rtol=1e-4)
    np.testing.assert_allclose(account.net.value, account.gross.value)
    traded = np.mean([np.nansum([w for w in weights[days[i]].values() if w < 0]) for i in test])
    assert traded < -0.1  # there are short positions
    found = made.read_json("metrics.json")["seeds"]["0"]["tasks"]["position"]["test"]
    assert found["total"] == pytest.approx(capital / 1_000_000 - 1, rel=1e-3, abs=1e-4)
