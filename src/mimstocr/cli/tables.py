"""Tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mimstocr.backtest import BacktestSettings
from mimstocr.backtest.explain import Explained
from mimstocr.data.inspect import Inspection
from mimstocr.data.panel import day_text
from mimstocr.live import CASH, Positions
from mimstocr.studies.exhibits.base import Table as StudyTable
from mimstocr.workflow import RunResult

RANKING = {
    "ic": "IC",
    "icir": "ICIR",
    "rank_ic": "RankIC",
    "rank_icir": "RankICIR",
    "spread": "top - bottom tenth, a day",
    "turnover": "turnover of the top tenth",
    "days": "days",
    "days_left_out": "days left out",
}
PERCENT = ("spread", "turnover", "precision")
MONEY = {
    "cumulative_return": "cumulative return",
    "annual_return": "annual return",
    "annual_volatility": "annual volatility",
    "sharpe": "Sharpe",
    "sortino": "Sortino",
    "calmar": "Calmar",
    "max_drawdown": "max drawdown",
    "win_rate": "win rate",
    "excess_return": "annual excess return",
    "information_ratio": "information ratio",
    "alpha": "alpha",
    "beta": "beta",
    "turnover": "turnover a day (one way)",
}
RATIOS = ("sharpe", "sortino", "calmar", "information_ratio", "beta")


def print_summary(console: Console, result: RunResult) -> None:
    """The end of a run: evidence, money, where to look."""
    metrics = result.metrics
    config = result.folder.config()
    print_evidence(console, _test(metrics), f"{config.name}: test")
    money = {name: metrics["backtest"][name] for name in ("net", "gross", "universe", "index")}
    settings = config.traded()
    print_backtest(console, money, f"backtest: {terms_in_words(settings)}", metrics["backtest"]["counts"])
    if settings.delay == 0:
        console.print(
            "[yellow]delay 0:[/] the fills use the very close that the scores have seen, as the paper does; no one can "
            "trade it. tasks.<return task>.delay=1 is the tradable label.",
            soft_wrap=True,
        )
    for note in [*metrics["backtest"].get("notes", []), *result.folder.read_json("data.json")["inspection"]["notes"]]:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
    console.print(f"report: {result.folder.path / 'report.html'}", soft_wrap=True)
    if any(task.target == "position" for task in config.learned().values()):
        console.print(f"hold:   mimstocr positions {result.folder.path}", soft_wrap=True)
    console.print(f"list:   mimstocr recommend {result.folder.path} --top 10", soft_wrap=True)


def terms_in_words(settings: BacktestSettings) -> str:
    """When orders are filled, by which strategy, and what the market asks."""
    market, fill = settings.market, settings.market.price
    days = "1 day" if settings.delay == 1 else f"{settings.delay} days"
    when = f"{settings.strategy.kind}, filled at the {fill} {days} after the score"
    if market.kind == "flat":
        return f"{when}, cost {market.commission:.2%} each way"
    return f"{when}, market {market.kind}, capital {settings.capital:,.0f}"


def print_evidence(console: Console, evidence: Mapping[str, Any], title: str) -> None:
    """Mean and standard deviation over seeds, and of the averaged scores."""
    several = len(evidence["seeds"]) > 1
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    for header in ("mean", "std", "averaged scores") if several else ("",):
        table.add_column(header, justify="right")
    for name, value in evidence["mean"].items():
        if name == "stocks":
            continue
        values = [value, evidence["std"][name], evidence["ensemble"][name]] if several else [value]
        table.add_row(RANKING.get(name, name), *(_figure(name, figure) for figure in values))
    console.print(table)
    for seed, found in evidence["seeds"].items():
        for task, own in found["tasks"].items():
            if told := _task_in_words(own):
                console.print(f"seed {seed}, {task}: {told}", highlight=False, soft_wrap=True)


def _task_in_words(own: Mapping[str, Any]) -> str:
    """The chief figures of a task beside the main one, with the baseline that each must beat."""
    if "accuracy" in own:
        told = f"accuracy {_percent(own['accuracy'])} (always the most frequent: {_percent(own['majority'])})"
        figures = {"macro_f1": "macro-F1", "daily_auc": "daily AUC"}
        return ", ".join([told, *(f"{label} {_plain(own[key])}" for key, label in figures.items() if key in own)])
    if "profit" in own:
        return (
            f"profit a day {_percent(own['profit'])} without costs, {_percent(own['hit_rate'])} of the positions on "
            f"the right side, net {_percent(own['net'])}, cash {_percent(own['cash'])}"
        )
    if "qlike" in own:
        reference = own.get("reference") or {}
        return (
            f"RankIC {_plain(own['rank_ic'])}, QLIKE {_plain(own['qlike'])} (trailing volatility: "
            f"{_plain(reference.get('qlike'))})"
        )
    if "r2_zero" in own:
        return f"RankIC {_plain(own['rank_ic'])}, R2 against 0 {_plain(own['r2_zero'])}"
    return ""


def print_backtest(
    console: Console, metrics: Mapping[str, Mapping[str, float] | None], title: str, counts: Mapping[str, int]
) -> None:
    """Net, gross, universe and index side by side."""
    columns = {name: found for name, found in metrics.items() if found}
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    for name, label in MONEY.items():
        if any(name in found for found in columns.values()):
            shown = _plain if name in RATIOS else _percent
            table.add_row(label, *(shown(found.get(name)) for found in columns.values()))
    console.print(table)
    if told := [f"{name.replace('_', ' ')}: {count}" for name, count in counts.items() if count]:
        console.print(", ".join(told), highlight=False, soft_wrap=True)


def print_orders(console: Console, told: Explained) -> None:
    """Every order of a day, with the cash before and after."""
    decided = "no decision" if told.decided is None else f"decided by the scores of {day_text(told.decided)}"
    table = Table(title=f"{day_text(told.day)}: {decided}", title_justify="left")
    kinds = told.orders.columns[told.orders.columns.index("value") + 1 : told.orders.columns.index("outcome")]
    for name in ("symbol", "side", "rank", "held", "wanted", "filled", "price", "value", "costs", "cash", "outcome"):
        table.add_column(name, justify="left" if name in ("symbol", "side", "outcome") else "right", no_wrap=True)
    for row in told.orders.iter_rows(named=True):
        table.add_row(
            row["symbol"],
            row["side"],
            "–" if row["rank"] is None else str(row["rank"]),
            *(_shares(row[name]) for name in ("held", "wanted", "filled")),
            _amount(row["price"], 2),
            _amount(row["value"], 2),
            _amount(sum(row[kind] for kind in kinds), 2),
            _amount(row["cash_after"], 2),
            row["outcome"],
        )
    # a narrow terminal breaks lines rather than losing figures
    needed = Console(width=1000).measure(table).maximum
    wide = Console(width=max(console.width, needed), file=console.file)
    wide.print(table)
    for kind in kinds:
        if paid := told.orders[kind].sum():
            console.print(f"{kind.replace('_', ' ')} {paid:,.2f}", highlight=False)
    night = f" (after {told.financing:,.2f} for the night)" if told.financing else ""
    console.print(
        f"cash {told.cash_before:,.2f}{night} before, {told.cash_after:,.2f} after; "
        f"account {told.value_before:,.2f} at the close before, {told.value_after:,.2f} at this one",
        highlight=False,
        soft_wrap=True,
    )


def _shares(value: float | None) -> str:
    """Real shares; a fraction shows where there is one."""
    whole = value is not None and abs(value - round(value)) < 5e-3
    return _amount(value, 0 if whole else 2)


def _amount(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def print_list(console: Console, ranked: pl.DataFrame, title: str) -> None:
    """A ranked list; of a task with levels the likeliest one and its odds."""
    table = Table(title=title, title_justify="left")
    tasks = dict.fromkeys(name.partition(".")[0] for name in ranked.columns[ranked.columns.index("score") + 1 :])
    words = ["symbol", *(["asset_class"] if "asset_class" in ranked.columns else [])]
    words += ["date"] if ranked["date"].n_unique() > 1 else []
    for name in ("rank", *words, "score", *tasks):
        table.add_column(name.replace("_", " "), justify="left" if name in words else "right")
    for row in ranked.iter_rows(named=True):
        shown = [_answer({key: value for key, value in row.items() if key.partition(".")[0] == task}) for task in tasks]
        table.add_row(str(row["rank"]), *(str(row[name]) for name in words), f"{row['score']:.4f}", *shown)
    console.print(table)


def print_positions(console: Console, found: Positions, name: str) -> None:
    """The weights, the cash, and what is to be done with them."""
    table = Table(title=f"{name}: positions at the close of {found.day}", title_justify="left")
    several = "spread" in found.table.columns
    for header in ("symbol", "side", "weight", *(["spread of seeds"] if several else [])):
        table.add_column(header, justify="left" if header in ("symbol", "side") else "right")
    held = found.table.filter((pl.col("weight") != 0) | (pl.col("side") == CASH))
    for row in held.iter_rows(named=True):
        if row["side"] == CASH:
            table.add_section()
        spread = [_percent(row["spread"])] if several else []
        table.add_row(row["symbol"] or "", row["side"], f"{row['weight']:+.2%}", *spread)
    console.print(table)
    of_which = "" if found.hold is None else f" (Hold {_percent(found.hold)})"
    told = f"gross {_percent(found.gross)}, net {found.net:+.2%}, cash {_percent(found.cash)}{of_which}"
    others = len(found.table) - len(held)
    console.print(told + (f"; {others} stocks at 0" if others else ""), highlight=False, soft_wrap=True)
    console.print(f"to be traded {_when(found)}", highlight=False, soft_wrap=True)
    for note in found.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)


def _when(found: Positions) -> str:
    """The fill that the run's backtest takes."""
    if found.delay == 0:
        return f"at the {found.price} of {found.day} itself (delay 0), which no one can who knows that close"
    after = "the next trading day" if found.delay == 1 else f"trading day {found.delay} after it"
    known = "" if found.fill_day is None else f", {found.fill_day}"
    return f"at the {found.price} of {after}{known} (delay {found.delay})"


def _answer(outputs: Mapping[str, float]) -> str:
    """One task's outputs for one stock: the value, of a position without the share of Hold, or the likeliest level."""
    values = {key: value for key, value in outputs.items() if "." not in key}
    outputs = values or outputs
    name = max(outputs, key=lambda key: outputs[key])
    level = name.partition(".")[2]
    return f"{level} {outputs[name]:.0%}" if level else f"{outputs[name]:.4f}"


def print_table(console: Console, table: StudyTable) -> None:
    """A table of a study: best bold, second underlined, a level that repeats the row above left blank."""
    shown = Table(title=Text(table.title), title_justify="left")
    for number, name in enumerate(table.header):
        shown.add_column(Text(name), justify="left" if number < table.labels else "right", overflow="fold")
    style = {"": "", "best": "bold", "second": "underline"}
    before: list[str] = []
    for row in table.rows:
        labels = [entry.text for entry in row[: table.labels]]
        if before and table.labels > 1 and labels[0] != before[0]:
            shown.add_section()
        repeats = [i + 1 < table.labels and labels[: i + 1] == before[: i + 1] for i in range(table.labels)]
        names = [Text("" if again else label) for label, again in zip(labels, repeats, strict=True)]
        shown.add_row(*names, *(Text(entry.text, style=style[entry.mark]) for entry in row[table.labels :]))
        before = labels
    # a file or a pipe has no edge; a narrow terminal folds, and cuts nothing off
    if not console.is_terminal:
        console.width = max(console.width, console.measure(shown, options=console.options.update(width=10_000)).maximum)
    console.print(shown)
    for note in table.notes:
        console.print(note, style="dim", highlight=False, markup=False)


def print_inspection(console: Console, found: Inspection) -> None:
    """What a source holds."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("source", found.source)
    table.add_row("days", f"{found.days}, {found.first_day} to {found.last_day}")
    table.add_row("symbols", str(found.symbols))
    members = f"fewest {found.members_min}, median {found.members_median:.0f}, most {found.members_max}"
    table.add_row("members a day", members)
    for name, share in found.missing.items():
        table.add_row(f"missing {name}", f"{share:.2%} of member-days")
    table.add_row("not tradable", f"{found.untradable} member-days ({found.untradable_share:.2%})")
    for reason, count in found.dropped.items():
        table.add_row("dropped", f"{count} rows: {reason}")
    table.add_row("extreme changes", f"{found.extreme_changes} closes moved by more than half from one to the next")
    for change in found.largest_changes:
        table.add_row("", f"{change.symbol} {change.change:+.1%} from {change.since} to {change.day}")
    for gap in found.gaps:
        table.add_row("gap", f"{gap.calendar_days} calendar days from {gap.after} to {gap.before}")
    for note in found.notes:
        table.add_row("note", note)
    table.add_row("fingerprint", found.fingerprint)
    console.print(table)


def _test(metrics: Mapping[str, Any]) -> dict[str, Any]:
    seeds = {
        seed: {"tasks": {task: own["test"] for task, own in found["tasks"].items()}}
        for seed, found in metrics["seeds"].items()
    }
    return {"seeds": seeds, **{key: metrics[key]["test"] for key in ("mean", "std", "ensemble")}}


def _figure(name: str, value: float | None) -> str:
    if name.startswith("days"):
        return _whole(value)
    return _percent(value) if name.startswith(PERCENT) else _plain(value)


def _plain(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"


def _whole(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.0f}"


def _percent(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.2%}"
