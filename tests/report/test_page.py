"""The report on synthetic runs: whole and partial ones, with and without an index, and hostile names."""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import numpy as np
import polars as pl
import pytest
from plotly.offline import get_plotlyjs

from mimstocr.report import ReportInputs, render
from mimstocr.report import page as page_module
from mimstocr.report.cautions import TOO_GOOD, cautions, t_value
from mimstocr.report.chart import in_script
from mimstocr.report.inputs import dates

LEVELS = ["sink", "negative", "volatile", "positive", "bounce"]
NAN = float("nan")


def trading_days(first: date, n: int) -> list[date]:
    days = (first + timedelta(days=i) for i in range(2 * n))
    return [day for day in days if day.weekday() < 5][:n]


def ranking(rng: np.random.Generator, rank_ic: float) -> dict[str, float]:
    noise = float(rng.normal(0, 0.002))
    return {
        "ic": rank_ic - 0.004 + noise,
        "rank_ic": rank_ic + noise,
        "precision@10": 0.552,
        "precision@50": 0.541,
        "ndcg@10": 0.513,
        "ndcg@50": 0.5342,
        "spread": 0.0031,
        "turnover": 0.412,
        "stocks": 287.4,
        "icir": 0.47 + noise,
        "rank_icir": 0.55 + noise,
        "days": 898.0,
        "days_left_out": 0.0,
    }


def level_figures(rng: np.random.Generator) -> dict[str, Any]:
    confusion = rng.integers(2_000, 9_000, (5, 5)) + np.diag(rng.integers(9_000, 20_000, 5))
    total = confusion.sum()
    return {
        "accuracy": float(confusion.trace() / total),
        "macro_f1": 0.36,
        "majority": float(confusion.sum(axis=1).max() / total),
        "confusion": confusion.tolist(),
    }


def account(rng: np.random.Generator, annual: float) -> dict[str, float]:
    return {
        "cumulative_return": (1 + annual) ** 3.6 - 1,
        "annual_return": annual,
        "annual_volatility": 0.213,
        "sharpe": annual / 0.2,
        "sortino": annual / 0.14,
        "calmar": annual / 0.31,
        "max_drawdown": -0.31,
        "drawdown_days": 211.0,
        "win_rate": 0.54,
        "profit_factor": 1.17,
        "days": 897.0,
    }


def history(rng: np.random.Generator, seeds: list[int], tasks: list[str], *, telemetry: bool = True) -> list[dict]:
    rows = []
    for seed in seeds:
        best, epochs = 0.0, 16 + 2 * seed
        for epoch in range(1, epochs + 1):
            fall = 1 - 0.04 * (1 - np.exp(-epoch / 5))
            rank_ic = float(0.075 * (1 - np.exp(-epoch / 3)) - 0.0012 * epoch + rng.normal(0, 0.002))
            told: dict[str, Any] = {}
            if telemetry:
                ratio = [1.0] * len(tasks) if epoch <= 12 else rng.normal(0.5, 0.6, len(tasks)).tolist()
                beta = [0.5 ** (1 / (1 + np.exp(-r))) for r in ratio]
                told = {"ratio": ratio, "beta": beta, "decay": [1e-3 / (1 + np.exp(np.mean(ratio)))]}
            rows.append(
                {
                    "seed": seed,
                    "epoch": epoch,
                    "train": {task: float(fall + i + rng.normal(0, 0.001)) for i, task in enumerate(tasks)},
                    "valid": {
                        task: float(0.995 - 0.3 * (1 - fall) + 0.0006 * epoch + i + rng.normal(0, 0.0015))
                        for i, task in enumerate(tasks)
                    },
                    "ic": rank_ic - 0.005,
                    "rank_ic": rank_ic,
                    **told,
                    "best": rank_ic > best,
                    "seconds": 12.3,
                }
            )
            best = max(best, rank_ic)
    return rows


def backtest_table(rng: np.random.Generator, days: list[date]) -> pl.DataFrame:
    market = rng.normal(0.0003, 0.012, len(days))
    gross = market + rng.normal(0.0009, 0.004, len(days))
    return pl.DataFrame(
        {
            "date": days,
            "net": gross - 0.0006,
            "gross": gross,
            "universe": market,
            "index": market * 0.9 + rng.normal(0, 0.002, len(days)),
            "turnover": rng.uniform(0.2, 0.5, len(days)),
            "costs": rng.uniform(300, 700, len(days)),
            "n_held": [50] * len(days),
        }
    )


def make_inputs(seeds: tuple[int, ...] = (0, 1, 2), n_days: int = 300) -> ReportInputs:
    """A run on several seeds with everything in it."""
    rng = np.random.default_rng(7)
    days = trading_days(date(2017, 1, 3), n_days)
    tasks = ["return", "momentum"]
    ic = rng.normal(0.061, 0.12, n_days)
    daily = pl.DataFrame(
        {
            "date": days,
            "ic": ic,
            "rank_ic": ic + rng.normal(0.006, 0.03, n_days),
            "spread": rng.normal(0.003, 0.01, n_days),
            "turnover": rng.uniform(0.3, 0.5, n_days),
            "precision@10": rng.uniform(0.3, 0.8, n_days),
        }
    )
    quantiles = pl.DataFrame(
        {"date": days, **{f"q{i}": rng.normal(0.0006 * (i - 3), 0.012, n_days) for i in range(1, 6)}}
    )
    latest = pl.DataFrame(
        {
            "date": [days[-1]] * 120,
            "rank": list(range(1, 121)),
            "symbol": [f"SH6{i:05d}" for i in range(120)],
            "score": np.sort(rng.normal(0, 0.3, 120))[::-1],
            "return": rng.normal(0, 0.3, 120),
            **{f"momentum.{level}": rng.uniform(0, 1, 120) for level in LEVELS},
        }
    )
    of_seeds = {
        str(seed): {
            "best_epoch": 9,
            "epochs": 16 + 2 * seed,
            "seconds": 1834.2,
            "valid": ranking(rng, 0.071),
            "test": ranking(rng, 0.066),
            "tasks": {
                "momentum": {"valid": level_figures(rng), "test": level_figures(rng)},
                "return": {"valid": {}, "test": {"loss": 0.9934}},
            },
        }
        for seed in seeds
    }
    return ReportInputs(
        name="csi300-cqb",
        config={
            "name": "csi300-cqb",
            "out": "runs",
            "seeds": list(seeds),
            "data": {"source": "qlib:data/csi300", "universe": "csi300", "benchmark": "SH000300", "days_per_year": 252},
            "features": {"kind": "alpha360"},
            "tasks": {
                "return": {
                    "kind": "return",
                    "horizon": 1,
                    "delay": 0,
                    "normalise": "rank",
                    "loss": {"kind": "mse"},
                },
                "momentum": {"kind": "momentum_line", "s": 6, "l": 4, "loss": {"kind": "approx_ndcg", "share": 0.2}},
            },
            "backbone": {"kind": "lstm", "hidden_size": 64, "layers": 2, "dropout": 0.0},
            "sharing": {"kind": "hard"},
            "balancer": {"kind": "cqb", "beta": 0.5, "decay": 0.001, "window": 6},
            "training": {"learning_rate": 2e-4, "max_epochs": 100, "patience": 20, "monitor": "rank_ic"},
            "backtest": {"strategy": {"kind": "top_k", "k": 50}, "cost": 0.001, "capital": 1e6},
        },
        environment={
            "mimstocr": "0.1.0",
            "python": "3.12.3",
            "torch": "2.8.0",
            "numpy": "2.3.1",
            "platform": "Linux-6.8-x86_64",
            "device": "cpu",
            "device_name": "x86_64",
            "data_fingerprint": "5e0a2b1c9d8f7a6b5c4d3e2f",
            "started": "2025-11-20T07:15:42+00:00",
            "seconds": 5502.6,
        },
        data={
            "inspection": {
                "source": "qlib:data/csi300",
                "first_day": "2010-01-04",
                "last_day": "2020-09-24",
                "days": 2611,
                "symbols": 678,
                "members_min": 271,
                "members_median": 300.0,
                "members_max": 300,
                "untradable": 41_233,
                "untradable_share": 0.0532,
                "missing": {"open": 0.0, "high": 0.0, "low": 0.0, "close": 0.0, "volume": 0.0002, "factor": 0.0},
                "dropped": {"low above high": 3},
                "notes": ["fields the source lacks: vwap"],
                "extreme_changes": 17,
                "largest_changes": [["SH600001", "2015-04-02", 1.31, "2015-03-01"]],
                "gaps": [],
                "fingerprint": "5e0a2b1c9d8f7a6b5c4d3e2f",
            },
            "splits": {
                "train": {"first": "2010-01-04", "last": "2014-12-31", "days": 1212, "labelled": 1211, "rows": 341_000},
                "valid": {"first": "2015-01-05", "last": "2016-12-30", "days": 488, "labelled": 487, "rows": 121_932},
                "test": {"first": "2017-01-03", "last": "2020-09-24", "days": 909, "labelled": 908, "rows": 262_341},
            },
            "features": {"kind": "alpha360", "names": ["close", "open", "high", "low", "volume"], "window": 60},
            "learned": tasks,
            "main": "return",
            "tasks": {
                "return": {"kind": "return", "target": "value", "levels": [], "reach": 1},
                "momentum": {
                    "kind": "momentum_line",
                    "target": "level",
                    "levels": LEVELS,
                    "reach": 1,
                    "train_shares": [0.16, 0.23, 0.21, 0.25, 0.15],
                },
            },
            "delay": 0,
            "diagnostics": {
                "momentum": {
                    "days": [str(day) for day in trading_days(date(2010, 1, 4), 400)],
                    "k": (60 + rng.gamma(2.0, 22.0, 400)).round().tolist(),
                }
            },
        },
        history=history(rng, list(seeds), tasks),
        metrics={
            "seeds": of_seeds,
            "mean": {"valid": ranking(rng, 0.071), "test": ranking(rng, 0.066)},
            "std": {
                "valid": dict.fromkeys(ranking(rng, 0), 0.0021),
                "test": dict.fromkeys(ranking(rng, 0), 0.0018),
            },
            "ensemble": {"valid": ranking(rng, 0.075), "test": ranking(rng, 0.069)},
            "backtest": {
                "strategy": {"kind": "top_k", "k": 50},
                "delay": 0,
                "cost": 0.001,
                "net": {
                    **account(rng, 0.214),
                    "turnover": 0.31,
                    "excess_return": 0.12,
                    "information_ratio": 1.43,
                    "alpha": 0.13,
                    "beta": 0.97,
                    "tracking_error": 0.08,
                },
                "gross": {**account(rng, 0.391), "turnover": 0.31},
                "universe": account(rng, 0.052),
                "index": account(rng, 0.087),
            },
        },
        daily=daily,
        quantiles=quantiles,
        backtest=backtest_table(rng, days),
        recommendations=latest,
    )


def changed(inputs: ReportInputs, path: str, value: Any) -> ReportInputs:
    """The same inputs with one value of config, data or metrics set, such as `data.delay`."""
    root, *keys = path.split("/")
    tree = copy.deepcopy(getattr(inputs, root))
    here = tree
    for key in keys[:-1]:
        here = here[key]
    here[keys[-1]] = value
    return replace(inputs, **{root: tree})


def without_index(inputs: ReportInputs) -> ReportInputs:
    emptied = inputs.backtest.with_columns(index=pl.lit(None, dtype=pl.Float64))
    return changed(replace(inputs, backtest=emptied), "metrics/backtest/index", None)


def single_task(inputs: ReportInputs) -> ReportInputs:
    """STL on the return, one seed, no telemetry, delay 1: what is left when nothing optional is there."""
    rng = np.random.default_rng(3)
    inputs = changed(inputs, "data/learned", ["return"])
    inputs = changed(inputs, "data/diagnostics", {})
    inputs = changed(inputs, "data/delay", 1)
    inputs = changed(inputs, "metrics/backtest/delay", 1)
    inputs = changed(inputs, "config/balancer", {"kind": "stl", "task": None})
    inputs = changed(inputs, "metrics/seeds", {"0": inputs.metrics["seeds"]["0"]})
    inputs = changed(inputs, "metrics/std", {"valid": {}, "test": {}})
    return replace(inputs, history=history(rng, [0], ["return"], telemetry=False))


def spoiled(inputs: ReportInputs) -> ReportInputs:
    """Every leaf of the plain parts null, every number of the tables null or NaN."""

    def nulled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: nulled(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [nulled(inner) for inner in value]
        return None if isinstance(value, float) else value

    def emptied(frame: pl.DataFrame) -> pl.DataFrame:
        floats = [name for name, kind in frame.schema.items() if kind == pl.Float64]
        return frame.with_columns(
            pl.lit(None if i % 2 else NAN, dtype=pl.Float64).alias(name) for i, name in enumerate(floats)
        )

    return ReportInputs(
        name=inputs.name,
        config=nulled(inputs.config),
        environment=nulled(inputs.environment),
        data=nulled(inputs.data),
        history=nulled(inputs.history),
        metrics=nulled(inputs.metrics),
        daily=emptied(inputs.daily),
        quantiles=emptied(inputs.quantiles),
        backtest=emptied(inputs.backtest),
        recommendations=emptied(inputs.recommendations),
    )


def bare() -> ReportInputs:
    nothing = pl.DataFrame()
    return ReportInputs("bare", {}, {}, {}, [], {}, nothing, nothing, nothing, nothing)


class Page(HTMLParser):
    """What a browser would see: visible text, tags with their attributes, and the charts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.charts: dict[str, Any] = {}
        self.words: list[str] = []
        self._in: str | None = None
        self._chart: str | None = None
        self.feed(html)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._in, self._chart = tag, dict(attrs).get("data-chart")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._in:
            self._in = self._chart = None

    def handle_data(self, data: str) -> None:
        if self._chart:
            self.charts[self._chart] = json.loads(data)
        elif self._in is None:
            self.words.append(data)


@pytest.fixture(scope="module", autouse=True)
def light() -> Iterator[None]:
    """Five megabytes of plotly.js are not what is under test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_module, "get_plotlyjs", lambda: "/* plotly.js */")
        yield


@pytest.fixture(scope="module")
def inputs() -> ReportInputs:
    return make_inputs()


@pytest.fixture(scope="module")
def html(inputs: ReportInputs) -> str:
    """The report of the whole run, for the tests that only look at it."""
    return render(inputs)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def seen(inputs: ReportInputs) -> Page:
    return Page(render(inputs))


def heads(inputs: ReportInputs) -> str:
    return " | ".join(caution.head for caution in cautions(inputs))


def array(of: Any) -> np.ndarray:
    """Values of a trace, which plotly writes as base64 or as a list."""
    if isinstance(of, dict):
        return np.frombuffer(base64.b64decode(of["bdata"]), dtype=of["dtype"])
    return np.asarray(of, dtype=float)


def test_every_chart_is_there(page: Page) -> None:
    assert set(page.charts) == {
        "ic",
        "quantiles",
        "quantile-paths",
        "equity",
        "confusion-momentum",
        "levels-momentum",
        "loss-return",
        "loss-momentum",
        "validation-ic",
        "telemetry-ratio",
        "telemetry-beta",
        "telemetry-decay",
        "k-momentum",
        "time-k-momentum",
    }
    places = {attributes.get("id") for _, attributes in page.tags}
    assert {f"chart-{name}" for name in page.charts} <= places
    assert all(figure["data"] for figure in page.charts.values())


def test_every_section_of_the_navigation_is_there(inputs: ReportInputs) -> None:
    for variant in (inputs, single_task(inputs), bare()):
        page = seen(variant)
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        links = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
        assert len(links) >= 9
        assert len(set(ids)) == len(ids)
        assert {link.removeprefix("#") for link in links} <= set(ids)


def test_nothing_is_loaded_from_anywhere(html: str, page: Page) -> None:
    for tag, attributes in page.tags:
        for key in ("src", "href", "data", "action", "poster", "srcset"):
            value = attributes.get(key)
            assert value is None or value.startswith(("#", "data:,")), (tag, key, value)
    assert "//" not in " ".join(str(value) for _, attributes in page.tags for value in attributes.values())
    assert "@import" not in html
    assert "url(" not in html
    assert "http" not in html.replace("http-equiv", "")


def test_the_page_forbids_requests(page: Page) -> None:
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert "connect-src" not in directives
    assert not any("http" in value or "*" in value or "'self'" in value for value in directives.values())


def test_plotly_is_inlined_once(inputs: ReportInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "get_plotlyjs", get_plotlyjs)
    html = render(inputs)
    assert html.count("plotly.js v") == 1
    assert len(html) < 8_000_000


@pytest.mark.parametrize(
    "hostile", ['<script>alert("x")</script>', "</script><img src=x onerror=alert(1)>", "a & <b>b</b>"]
)
def test_text_of_users_is_escaped(inputs: ReportInputs, hostile: str) -> None:
    variant = replace(inputs, name=hostile)
    variant = changed(variant, "data/inspection/notes", [hostile])
    variant = changed(variant, "config/data/universe", hostile)
    variant = changed(variant, "data/tasks/momentum/levels", [hostile, *LEVELS[1:]])
    variant = changed(variant, "data/learned", ["return", "momentum"])
    variant = replace(
        variant,
        recommendations=variant.recommendations.with_columns(symbol=pl.lit(hostile)),
        history=[{**row, hostile: [1.0, 2.0]} for row in variant.history],
    )
    html = render(variant)
    assert hostile not in html
    plain, page = seen(inputs), Page(html)
    assert page.text.count(hostile) >= 5  # shown as it was written, in the head, title, note, table and chart
    count = {tag: sum(1 for found, _ in page.tags if found == tag) for tag in ("script", "img", "b")}
    assert count["img"] == 0
    assert count["script"] == 1 + sum(1 for found, _ in plain.tags if found == "script")  # the chart of the telemetry
    # plotly reads tags in labels, so they are escaped once more there
    labels = page.charts["levels-momentum"]["data"][0]["x"]
    assert labels[0] == hostile.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def test_json_cannot_end_the_script_it_stands_in() -> None:
    written = json.dumps({"name": "</script><!-- & <b>"})
    safe = in_script(written)
    assert not set("<>&") & set(safe)
    assert json.loads(safe) == json.loads(written)


@pytest.mark.parametrize(
    "variant",
    [
        lambda inputs: inputs,
        without_index,
        single_task,
        spoiled,
        lambda inputs: without_index(spoiled(single_task(inputs))),
        lambda inputs: bare(),
        lambda inputs: replace(inputs, daily=inputs.daily.clear(), quantiles=inputs.quantiles.clear()),
        lambda inputs: replace(inputs, backtest=inputs.backtest.head(1), daily=inputs.daily.head(1)),
        lambda inputs: replace(inputs, quantiles=inputs.quantiles.head(1), history=inputs.history[:1]),
        lambda inputs: replace(inputs, backtest=inputs.backtest.drop("index")),
    ],
)
def test_every_variant_renders(inputs: ReportInputs, variant: Any) -> None:
    page = seen(variant(inputs))
    for wrong in ("nan", "None", "inf ", "NaN", "{}", "[]"):
        assert not re.search(rf"(?<![\w.]){re.escape(wrong)}(?!\w)", page.text.replace("NaN is", "")), wrong
    assert "Configuration" in page.text


def test_missing_values_are_dashes_not_numbers(inputs: ReportInputs) -> None:
    page = seen(spoiled(inputs))
    assert "Test IC \u2013" in page.text
    assert set(page.charts) == {"confusion-momentum", "levels-momentum"}  # whole numbers and their shares are left


def test_headline(inputs: ReportInputs, page: Page) -> None:
    text = page.text
    test = inputs.metrics["ensemble"]["test"]
    assert f"Test RankIC {test['rank_ic']:.4f}" in text
    mean = inputs.metrics["mean"]["test"]["rank_ic"]
    assert f"seeds {mean:.4f} \u00b1 0.0018" in text
    assert "LSTM learned 2 tasks (return and momentum) balanced by CQB, 3 seeds" in text
    assert f"t = {test['rank_icir'] * test['days'] ** 0.5:.1f}" in text
    assert "Annual return, net 21.4% universe 5.2%, index 8.7%" in text
    assert "it made on paper 21.4% a year after costs, beside 5.2% for the universe and 8.7% for the index" in text


def test_the_latest_list_says_that_nothing_is_known_yet(inputs: ReportInputs, page: Page) -> None:
    text = page.text
    last = inputs.recommendations["date"][0]
    assert f"Scores of {last}, the last day of the data" in text
    assert "is not known: the label of this day ends 1 trading day after it" in text
    assert "The first 100 of 120 are shown" in text
    assert "SH600099" in text
    assert "SH600100" not in text
    later = seen(changed(changed(inputs, "data/delay", 1), "config/tasks/return/horizon", 5)).text
    assert "ends 6 trading days after it" in later


def test_equity_compounds_the_daily_returns(inputs: ReportInputs, page: Page) -> None:
    traces = page.charts["equity"]["data"]
    wealth = next(t for t in traces if t["name"] == "Net" and t["yaxis"] == "y")
    below = next(t for t in traces if t["name"] == "Net" and t["yaxis"] == "y2")
    growth, highest, expected, falls = 1.0, 1.0, [], []
    for r in inputs.backtest["net"]:
        growth *= 1 + r
        highest = max(highest, growth)
        expected.append(growth)
        falls.append(growth / highest - 1)
    np.testing.assert_allclose(array(wealth["y"]), expected, rtol=1e-12)
    np.testing.assert_allclose(array(below["y"]), falls, atol=1e-12)
    assert wealth["x"][0] == str(inputs.backtest["date"][0])


def test_rolling_mean_of_ic(inputs: ReportInputs, page: Page) -> None:
    figure = page.charts["ic"]
    traces = [t for t in figure["data"] if t.get("name") == "IC"]
    mean, total = (array(t["y"]) for t in traces)
    ic = inputs.daily["ic"].to_list()
    assert np.isnan(mean[:59]).all()
    for at in (59, 60, 299):
        assert mean[at] == pytest.approx(sum(ic[at - 59 : at + 1]) / 60)
        assert total[at] == pytest.approx(sum(ic[: at + 1]))


def test_a_day_without_ic_is_left_out_not_counted_as_zero(inputs: ReportInputs) -> None:
    holed = inputs.daily.with_columns(ic=pl.when(pl.int_range(pl.len()) == 100).then(None).otherwise(pl.col("ic")))
    traces = [t for t in seen(replace(inputs, daily=holed)).charts["ic"]["data"] if t.get("name") == "IC"]
    left = [value for i, value in enumerate(inputs.daily["ic"]) if i != 100]
    assert array(traces[0]["y"])[150] == pytest.approx(sum(left[91:151]) / 60)
    assert str(inputs.daily["date"][100]) not in traces[0]["x"]


def test_quantile_bars_are_means_with_standard_errors(inputs: ReportInputs, page: Page) -> None:
    bars = page.charts["quantiles"]["data"][0]
    for place in range(5):
        values = inputs.quantiles[f"q{place + 1}"].to_list()
        mean = sum(values) / len(values)
        error = (sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values)) ** 0.5
        assert array(bars["y"])[place] == pytest.approx(1e4 * mean)
        assert array(bars["error_y"]["array"])[place] == pytest.approx(1e4 * error)


def test_ten_quantiles_stay_in_order(inputs: ReportInputs) -> None:
    ten = inputs.quantiles.select("date", **{f"q{i}": pl.lit(float(i)) for i in (10, 2, 1, 9, 3, 4, 8, 5, 6, 7)})
    bars = seen(replace(inputs, quantiles=ten)).charts["quantiles"]["data"][0]
    assert array(bars["y"]).tolist() == pytest.approx([1e4 * i for i in range(1, 11)])


def test_a_mean_over_seeds_stops_where_the_first_seed_does(inputs: ReportInputs, page: Page) -> None:
    traces = page.charts["loss-return"]["data"]
    bold = next(t for t in traces if t["name"] == "Train")
    at_ten = [row["train"]["return"] for row in inputs.history if row["epoch"] == 10]
    assert bold["x"] == list(range(1, 17))  # seeds 0, 1, 2 train for 16, 18, 20 epochs
    assert array(bold["y"])[9] == pytest.approx(sum(at_ten) / 3)
    assert [t["name"] for t in traces if t["name"].startswith("Train, seed")] == [f"Train, seed {s}" for s in (0, 1, 2)]


def test_the_best_epoch_is_the_last_improvement(inputs: ReportInputs, page: Page) -> None:
    marks = next(t for t in page.charts["loss-return"]["data"] if t["name"] == "Best epoch")
    for seed in (0, 1, 2):
        rows = [row for row in inputs.history if row["seed"] == seed and row["best"]]
        assert marks["x"][seed] == rows[-1]["epoch"]
        assert marks["y"][seed] == rows[-1]["valid"]["return"]


def test_any_telemetry_is_drawn(inputs: ReportInputs) -> None:
    rows = [{**row, "weight": [0.3, 0.7], "note": "text"} for row in inputs.history]
    charts = seen(replace(inputs, history=rows)).charts
    assert {t["name"] for t in charts["telemetry-weight"]["data"] if t["showlegend"]} == {"return", "momentum"}
    assert "telemetry-note" not in charts


def test_far_telemetry_does_not_flatten_the_rest(inputs: ReportInputs) -> None:
    rows = [{**row, "ratio": [1e6 if row["epoch"] == 14 else 1.0, 1.1]} for row in inputs.history]
    page = seen(replace(inputs, history=rows))
    assert page.charts["telemetry-ratio"]["layout"]["yaxis"]["range"][1] < 10
    assert "3 far points beyond the axis" in page.text
    rows = [{**row, "ratio": [0.3 if row["epoch"] == 14 else 1.0, 1.1]} for row in inputs.history]
    page = seen(replace(inputs, history=rows))
    assert "range" not in page.charts["telemetry-ratio"]["layout"]["yaxis"]
    assert "far point" not in page.text


def test_confusion_rows_are_shares_over_all_seeds(inputs: ReportInputs, page: Page) -> None:
    total = np.sum([of["tasks"]["momentum"]["test"]["confusion"] for of in inputs.metrics["seeds"].values()], axis=0)
    cells = page.charts["confusion-momentum"]["data"][0]
    shares = array(cells["z"]).reshape(5, 5)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert shares[2, 3] == pytest.approx(total[2, 3] / total[2].sum())
    assert f"{total[2, 3]:,}" in cells["text"][2][3]


def test_tasks_show_the_figures_they_have(inputs: ReportInputs, page: Page) -> None:
    assert "Levels Task Kind Loss function Split Accuracy Majority Macro F1 momentum momentum line" in page.text
    ranked = inputs
    for seed, rank_ic in (("0", 0.06), ("1", 0.07), ("2", 0.08)):
        ranked = changed(ranked, f"metrics/seeds/{seed}/tasks/return/test", {"rank_ic": rank_ic})
    text = seen(ranked).text
    assert "Real values Task Kind Loss function Split RankIC return return MSE Validation \u2013" in text
    assert "return return MSE Test 0.0700 \u00b1 0.0100" in text


def test_each_kind_of_task_has_its_table_its_baseline_and_its_reliability(inputs: ReportInputs) -> None:
    data = {**inputs.data, "learned": ["return", "direction", "volatility"]}
    data["tasks"] = {
        "return": inputs.data["tasks"]["return"],
        "direction": {"kind": "direction", "target": "event", "loss": "bce", "levels": []},
        "volatility": {"kind": "volatility", "target": "scale", "loss": "qlike", "levels": []},
    }
    mixed = replace(inputs, data=data)
    for seed in inputs.metrics["seeds"]:
        event = {
            "accuracy": 0.51,
            "majority": 0.52,
            "daily_auc": 0.5125,
            "reliability": {"samples": [10, 0, 30], "probability": [0.1, None, 0.8], "happened": [0.4, None, 0.6]},
        }
        scale = {"qlike": 0.5, "skill": -0.25, "reference": {"qlike": 0.375}}
        mixed = changed(mixed, f"metrics/seeds/{seed}/tasks/direction", {"test": event})
        mixed = changed(mixed, f"metrics/seeds/{seed}/tasks/volatility", {"test": scale})
    page = seen(mixed)
    assert "Events Task Kind Loss function Split Accuracy Majority Daily AUC direction direction BCE" in page.text
    assert "BCE Test 51.00% 52.00% 0.5125 " in page.text
    assert "Volatilities Task Kind Loss function Split QLIKE QLIKE trailing Skill" in page.text
    assert "QLIKE Test 0.5000 0.3750 -0.2500 " in page.text
    assert "Task direction: no better than its baseline." in page.text
    assert "Task volatility: no better than its baseline." in page.text
    bars, _, points = page.charts["reliability-direction"]["data"]
    np.testing.assert_allclose(array(bars["y"]), [0.25, 0.75])
    np.testing.assert_allclose(array(points["x"]), [0.1, 0.8])
    np.testing.assert_allclose(array(points["y"]), [0.4, 0.6])


def test_positions_have_their_table(inputs: ReportInputs) -> None:
    data = {**inputs.data, "learned": ["portfolio"]}
    data["tasks"] = {"portfolio": {"kind": "position", "target": "position", "loss": "stock_loss_l2", "levels": []}}
    earned = replace(inputs, data=data)
    for seed in inputs.metrics["seeds"]:
        figures = {"profit": 0.00051, "total": 0.1234, "hit_rate": 0.521, "size": 0.0025, "net": 0.25, "cash": 0.125}
        earned = changed(earned, f"metrics/seeds/{seed}/tasks/portfolio", {"test": figures})
    text = seen(earned).text
    assert "Task Kind Loss function Split Profit a day Profit Right side Mean size Net In cash" in text
    assert "portfolio position stock loss L2 Test 5.1 bp 12.34% 52.10% 0.25% 25.00% 12.50%" in text


def test_labels_of_several_days_overlap_and_t_allows_for_it(inputs: ReportInputs) -> None:
    """The mean of five independent days each day: seen as independent its t would be about sqrt(5) too large."""
    noise = np.random.default_rng(8).normal(size=len(inputs.daily) + 4)
    smooth = 0.05 + np.lib.stride_tricks.sliding_window_view(noise, 5).mean(axis=1) * 0.2
    daily = inputs.daily.with_columns(rank_ic=pl.Series(smooth))
    five = replace(inputs, daily=daily, data={**inputs.data, "horizon": 5})
    plain = smooth.mean() / smooth.std(ddof=1) * len(smooth) ** 0.5
    t = t_value(five, "rank_ic")
    assert t is not None
    assert 0.4 * plain < t < 0.65 * plain  # 1 / sqrt(5) is 0.45; the window takes some of it back
    assert t_value(replace(inputs, daily=daily), "rank_ic") == t_value(inputs, "rank_ic")
    assert "Labels of 5 days overlap" in seen(five).text
    assert "overlap" not in seen(inputs).text


def test_years_compound_their_own_days(inputs: ReportInputs, page: Page) -> None:
    of_2017 = inputs.backtest.filter(pl.col("date").dt.year() == 2017)
    net, index = (float(np.prod(1 + of_2017[name].to_numpy()) - 1) for name in ("net", "index"))
    ic = inputs.daily.filter(pl.col("date").dt.year() == 2017)["ic"].mean()
    text = page.text
    assert re.search(rf"2017 {len(of_2017)} {ic:.4f} \S+ {re.escape(f'{net:.2%}')} ", text)
    assert f"{(1 + net) / (1 + index) - 1:.2%}" in text


def test_without_an_index_there_is_no_index_anywhere(inputs: ReportInputs) -> None:
    page = seen(without_index(inputs))
    assert "Index" not in {t.get("name") for t in page.charts["equity"]["data"]}
    assert "No index." in page.text
    assert "against the universe" in page.text
    assert "against the index" not in page.text


def test_a_single_seed_has_bold_lines_and_no_deviation(inputs: ReportInputs) -> None:
    page = seen(single_task(inputs))
    assert {t["name"] for t in page.charts["loss-return"]["data"]} == {"Train", "Validation", "Best epoch"}
    assert "\u00b1" not in page.text
    assert not any(name.startswith(("telemetry", "confusion", "levels", "k-", "time-")) for name in page.charts)


def test_a_memory_that_stood_still_is_told(inputs: ReportInputs) -> None:
    history = [dict(row) for row in inputs.history]
    history[3]["beta"] = [0.62, 0.9995]
    told = [c for c in cautions(replace(inputs, history=history)) if "stood still" in c.head]
    assert [c.head for c in told] == ["The gradient memory of task momentum stood still."]
    assert f"first in epoch {history[3]['epoch']}:" in told[0].body


def test_cautions_of_a_plain_run(inputs: ReportInputs, page: Page) -> None:
    assert [c.head for c in cautions(inputs) if c.weight == "warning"] == ["Not tradable: label delay 0."]
    assert "buy at that very close" in page.text
    assert "fields the source lacks: vwap" in page.text
    assert "3 rows of the source were dropped." in heads(inputs)
    assert "17 extreme moves" in heads(inputs)


def test_delay_1_is_not_warned_of(inputs: ReportInputs) -> None:
    tradable = changed(changed(inputs, "data/delay", 1), "metrics/backtest/delay", 1)
    assert "Not tradable" not in heads(tradable)
    text = seen(tradable).text
    assert "it made 21.4% a year" in text
    assert "Orders fill at the close 1 trading day later. Every buy and sell costs 0.1% of its value." in text


@pytest.mark.parametrize(
    ("label", "fill", "head"),
    [
        (0, 0, "Not tradable: label delay 0."),
        (0, None, "Not tradable: label delay 0."),
        (0, 2, "The ranking is judged on paper: label delay 0."),
        (1, 0, "Not tradable: backtest delay 0."),
        (1, 1, None),
        (1, None, None),
    ],
)
def test_a_delay_of_0_is_told_of_the_label_and_of_the_fill(
    inputs: ReportInputs, label: int, fill: int | None, head: str | None
) -> None:
    variant = changed(changed(inputs, "data/delay", label), "metrics/backtest/delay", fill)
    assert [c.head for c in cautions(variant) if "delay 0" in c.head] == ([head] if head else [])
    on_paper = (label if fill is None else fill) == 0
    assert ("it made on paper" in seen(variant).text) is on_paper
    if head and fill:
        assert "which fills 2 trading days later" in seen(variant).text


@pytest.mark.parametrize("where", ["metrics/ensemble/test", "metrics/seeds/1/test"])
@pytest.mark.parametrize("key", ["ic", "rank_ic"])
def test_a_test_ic_that_is_too_good_is_suspected(inputs: ReportInputs, where: str, key: str) -> None:
    assert "Suspiciously good" not in heads(changed(inputs, f"{where}/{key}", TOO_GOOD - 0.001))
    assert "Suspiciously good" in heads(changed(inputs, f"{where}/{key}", TOO_GOOD + 0.001))
    assert "Suspiciously good" in heads(changed(inputs, f"{where}/{key}", -TOO_GOOD - 0.001))


def test_an_ic_within_chance_is_said_to_be(inputs: ReportInputs) -> None:
    days = inputs.metrics["ensemble"]["test"]["days"]
    assert "chance" in heads(changed(inputs, "metrics/ensemble/test/rank_icir", 1.9 / days**0.5))
    assert "chance" not in heads(changed(inputs, "metrics/ensemble/test/rank_icir", 2.1 / days**0.5))


def test_other_warnings_appear_when_they_should(inputs: ReportInputs) -> None:
    assert "One seed." in heads(single_task(inputs))
    assert "Not learned: momentum." in heads(single_task(inputs))
    assert "3 of 901 test days are left out." in heads(changed(inputs, "metrics/ensemble/test/days_left_out", 3.0))
    # 908 of the 909 test days have a label inside the split
    ended = changed(changed(inputs, "metrics/ensemble/test/days", 908.0), "metrics/ensemble/test/days_left_out", 1.0)
    assert "left out" not in heads(ended)
    assert "1 of 908 test days are left out." in heads(changed(ended, "metrics/ensemble/test/days", 907.0))
    poor = inputs
    for seed in "012":
        poor = changed(poor, f"metrics/seeds/{seed}/tasks/momentum/test/majority", 0.9)
    assert "Task momentum: no better than its baseline." in heads(poor)
    short = changed(changed(inputs, "config/training/max_epochs", 16), "metrics/seeds/0/best_epoch", 16)
    assert "Training was cut short." in heads(short)
    holed = inputs.backtest.with_columns(
        index=pl.when(pl.int_range(pl.len()) < 4).then(None).otherwise(pl.col("index"))
    )
    assert "The index has no return on 4 days of the backtest." in heads(replace(inputs, backtest=holed))
    stuck = changed(inputs, "metrics/backtest/counts", {"stuck_sells": 12, "stale_marks": 0})
    assert next(c.body for c in cautions(stuck) if "Counted in" in c.head) == "In the backtest, stuck sells: 12."
    noted = replace(
        inputs, metrics={**inputs.metrics, "backtest": {**inputs.metrics["backtest"], "notes": ["limits are unknown"]}}
    )
    assert next(c.body for c in cautions(noted) if c.head == "Backtest.") == "limits are unknown"


def test_warnings_come_before_notes(inputs: ReportInputs) -> None:
    weights = [caution.weight for caution in cautions(single_task(inputs))]
    assert weights == sorted(weights, reverse=True)  # "warning" > "note"
    assert set(weights) == {"warning", "note"}


def test_the_config_is_shown_whole(html: str) -> None:
    assert "learning_rate: 0.0002" in html
    assert "hidden_size: 64" in html


def test_the_same_inputs_give_the_same_page(inputs: ReportInputs) -> None:
    assert render(inputs) == render(make_inputs())


def test_bars_within_the_day_show_their_time(inputs: ReportInputs) -> None:
    n = len(inputs.daily)
    hours = pl.datetime_range(datetime(2024, 1, 1), datetime(2024, 1, 1) + timedelta(hours=n - 1), "1h", eager=True)
    hourly = replace(
        inputs,
        daily=inputs.daily.with_columns(date=hours),
        backtest=inputs.backtest.with_columns(date=hours[: len(inputs.backtest)]),
        recommendations=inputs.recommendations.with_columns(date=pl.lit(datetime(2024, 1, 13, 11))),
    )
    page = seen(hourly)
    assert "Scores of 2024-01-13 11:00, the last day of the data" in page.text
    assert dates(hourly.daily)[:2] == ["2024-01-01 00:00", "2024-01-01 01:00"]
    midnight = inputs.daily.with_columns(pl.col("date").cast(pl.Datetime("us")))
    assert dates(midnight) == dates(inputs.daily)


def test_classes_have_a_table_and_dates_of_their_own(inputs: ReportInputs) -> None:
    assert "Asset class by asset class" not in seen(inputs).text
    figures = {"valid": {"rank_ic": 0.0123}, "test": {"ic": 0.0456, "days": 38}}
    frame = inputs.recommendations
    mixed = replace(
        changed(inputs, "metrics/by_class", {"stocks": figures}),
        recommendations=frame.with_columns(
            asset_class=pl.lit("stocks"),
            date=pl.when(pl.col("rank") == 1).then(date(2020, 1, 3)).otherwise(date(2020, 1, 5)),
        ),
    )
    text = seen(mixed).text
    assert "stocks 0.0123 0.0456" in text
    assert "An asset class that is closed on it stands with the scores of its own last day" in text
    assert "Rank Symbol Class Date Score" in text
    assert "stocks 2020-01-03" in text
