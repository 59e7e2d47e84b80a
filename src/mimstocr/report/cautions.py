"""What a reader must know before believing a figure, in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from mimstocr.evaluation import hac_test
from mimstocr.evaluation.significance import automatic_lags
from mimstocr.report.formats import count, counted, number, percent, text, title
from mimstocr.report.inputs import ReportInputs, column, dig, known, over_seeds, spread_of

TOO_GOOD = 0.1
"""Mean daily IC above which a look into the future is likelier than skill: published models reach 0.05 to 0.07."""
CLEAR = 2.0
"""|t| of the mean daily RankIC below which it is not told apart from zero."""


FROZEN = 0.999
"""Forgetting rate above which less than a thousandth of a gradient enters the memory of CQB at each step."""


class Caution(NamedTuple):
    """One warning: `warning` bears on what the figures mean, `note` is for the record."""

    weight: Literal["warning", "note"]
    head: str
    body: str


def cautions(inputs: ReportInputs) -> list[Caution]:
    """All that apply, the weightiest first."""
    found = [caution for rule in RULES for caution in rule(inputs)]
    return sorted(found, key=lambda caution: caution.weight != "warning")


def mean_test(inputs: ReportInputs, key: str) -> float | None:
    """A test figure of the seeds' mean score; without one, the mean over the seeds."""
    figure = known(dig(inputs.metrics, "ensemble", "test", key))
    return figure if figure is not None else known(dig(inputs.metrics, "mean", "test", key))


def t_value(inputs: ReportInputs, key: str) -> float | None:
    """t of the mean of a daily figure, `ic` or `rank_ic`: mean / std x sqrt(days), days taken as independent.

    Labels that span several days overlap from day to day, and so do their figures: there by Newey and West, with at
    least the days of overlap as lags.
    """
    daily = column(inputs.daily, key)
    if inputs.horizon > 1 and daily is not None and np.isfinite(daily).sum() > inputs.horizon:
        series = daily[np.isfinite(daily)]
        return hac_test(series, max(automatic_lags(series), inputs.horizon - 1)).t
    ratio = mean_test(inputs, "icir" if key == "ic" else "rank_icir")
    days = mean_test(inputs, "days")
    return None if ratio is None or days is None else float(ratio * days**0.5)


def _untradable_delay(inputs: ReportInputs) -> Iterator[Caution]:
    seen = "A score of day t has seen the close of day t, and "
    if inputs.delay == 0 and not inputs.fill_delay:
        yield Caution(
            "warning",
            "Not tradable: label delay 0.",
            f"{seen}the label and the backtest buy at that very close. No "
            "order could have been filled there. Read the figures as a comparison with papers that use this label; "
            "for figures one could have earned, run with delay 1.",
        )
    elif inputs.delay == 0:
        yield Caution(
            "warning",
            "The ranking is judged on paper: label delay 0.",
            f"{seen}the label counts from that very close, where no order could have been filled. Only the backtest, "
            f"which fills {counted(inputs.fill_delay or 0, 'trading day')} later, is of prices one could have had.",
        )
    elif inputs.fill_delay == 0:
        yield Caution(
            "warning",
            "Not tradable: backtest delay 0.",
            f"{seen}the backtest fills on that very day. No order could have been filled there; for figures one could "
            "have earned, set backtest.delay to 1.",
        )


def _too_good(inputs: ReportInputs) -> Iterator[Caution]:
    told = []
    for key, name in (("ic", "IC"), ("rank_ic", "RankIC")):
        figures = [mean_test(inputs, key), *over_seeds(inputs, "test", key)]
        largest = max((figure for figure in figures if figure is not None), key=abs, default=0.0)
        if abs(largest) > TOO_GOOD:
            told.append(f"{name} of {number(largest)}")
    if told:
        yield Caution(
            "warning",
            f"Suspiciously good: a mean daily test {' and '.join(told)}.",
            f"Above {TOO_GOOD} a leak of the future into the features is likelier than skill. Check the source for "
            "prices stamped a day early, and adjusted or filled values, before believing anything here.",
        )


def _unclear(inputs: ReportInputs) -> Iterator[Caution]:
    t, days = t_value(inputs, "rank_ic"), mean_test(inputs, "days")
    if t is not None and abs(t) < CLEAR:
        yield Caution(
            "warning",
            "Not told apart from chance.",
            f"The mean daily test RankIC has t = {number(t, 2)} over {count(days)} days, below {CLEAR:g}.",
        )


def _one_seed(inputs: ReportInputs) -> Iterator[Caution]:
    if len(inputs.seeds) == 1:
        yield Caution(
            "warning",
            "One seed.",
            "How much of the result is the luck of one initialisation is not known. Run several, such as "
            "seeds=[0,1,2,3,4].",
        )


def _days_left_out(inputs: ReportInputs) -> Iterator[Caution]:
    """Days without an IC, besides those at the end of a split, whose labels would end outside of it."""
    for split, name in (("valid", "validation"), ("test", "test")):
        left_out = known(dig(inputs.metrics, "ensemble", split, "days_left_out")) or 0.0
        used = known(dig(inputs.metrics, "ensemble", split, "days")) or 0.0
        labelled = known(dig(inputs.data, "splits", split, "labelled"))
        if labelled is not None:
            left_out = min(left_out, labelled - used)
        if left_out > 0:
            yield Caution(
                "warning",
                f"{count(left_out)} of {count(used + left_out)} {name} days are left out.",
                "On them there were fewer than two stocks, equal scores for all, or equal returns, and no IC.",
            )


def _worse_than_majority(inputs: ReportInputs) -> Iterator[Caution]:
    for task in inputs.learned:
        accuracy, _ = spread_of(over_seeds(inputs, "tasks", task, "test", "accuracy"))
        majority, _ = spread_of(over_seeds(inputs, "tasks", task, "test", "majority"))
        if accuracy is not None and majority is not None and accuracy <= majority:
            yield Caution(
                "warning",
                f"Task {task}: no better than its baseline.",
                f"Its test accuracy is {percent(accuracy)}; always naming the most frequent outcome has "
                f"{percent(majority)}.",
            )
        skill, _ = spread_of(over_seeds(inputs, "tasks", task, "test", "skill"))
        if skill is not None and skill <= 0:
            yield Caution(
                "warning",
                f"Task {task}: no better than its baseline.",
                f"By QLIKE the volatility of the last days forecast the test better (skill {skill:.2f}).",
            )


def _cut_short(inputs: ReportInputs) -> Iterator[Caution]:
    if agent := dig(inputs.config, "agent"):
        yield from _agent_cut_short(inputs, known(dig(agent, "total_steps")))
        return
    limit = known(dig(inputs.config, "training", "max_epochs"))
    at_limit = [
        seed
        for seed in inputs.seeds
        if limit is not None
        and known(dig(inputs.metrics, "seeds", seed, "best_epoch"))
        == known(dig(inputs.metrics, "seeds", seed, "epochs"))
        == limit
    ]
    if at_limit:
        yield Caution(
            "warning",
            "Training was cut short.",
            f"The best epoch of seed {', '.join(at_limit)} is the last one allowed ({count(limit)}); "
            "raise training.max_epochs.",
        )


def _agent_cut_short(inputs: ReportInputs, steps: float | None) -> Iterator[Caution]:
    """An agent lives as many steps as it is given; one whose last policy is its best may not have been done."""
    at_end = [
        seed
        for seed in inputs.seeds
        if (best := known(dig(inputs.metrics, "seeds", seed, "best_epoch"))) is not None
        and best == known(dig(inputs.metrics, "seeds", seed, "epochs"))
    ]
    if at_end:
        yield Caution(
            "warning",
            "Training was cut short.",
            f"The best policy of seed {', '.join(at_end)} is the last one, after {count(steps)} steps; raise "
            "agent.total_steps.",
        )


def _frozen(inputs: ReportInputs) -> Iterator[Caution]:
    """A gradient memory that forgets almost nothing steps on in an old direction, at Adam's full size."""
    highest = {
        (task, row["epoch"]): beta
        for row in inputs.history
        for task, beta in zip(inputs.learned, row.get("beta") or [], strict=False)
        if known(beta) is not None and beta >= FROZEN
    }
    for task in dict.fromkeys(task for task, _ in highest):
        epochs = sorted({epoch for name, epoch in highest if name == task})
        yield Caution(
            "warning",
            f"The gradient memory of task {task} stood still.",
            f"Its forgetting rate was {FROZEN} or more in {counted(len(epochs), 'epoch')}, first in epoch {epochs[0]}: "
            "the shared parameters then moved on in an old direction. The training loss had all but stopped moving.",
        )


def _incomplete_series(inputs: ReportInputs) -> Iterator[Caution]:
    for name in ("universe", "index"):
        if name in inputs.backtest.columns:
            missing = int(inputs.backtest[name].is_null().sum()) + int(inputs.backtest[name].is_nan().sum() or 0)
            if 0 < missing < len(inputs.backtest):
                yield Caution(
                    "warning",
                    f"The {name} has no return on {counted(missing, 'day')} of the backtest.",
                    "Its curve counts them as no move, and figures against it are left out.",
                )


def _no_index(inputs: ReportInputs) -> Iterator[Caution]:
    if dig(inputs.metrics, "backtest") and not dig(inputs.metrics, "backtest", "index"):
        yield Caution("note", "No index.", "The strategy is compared with the equal-weighted universe alone.")


def _fills(inputs: ReportInputs) -> Iterator[Caution]:
    counts = dig(inputs.metrics, "backtest", "counts") or {}
    told = [f"{key.replace('_', ' ')}: {count(value)}" for key, value in counts.items() if known(value)]
    if told:
        yield Caution("note", "Counted in the backtest.", f"In the backtest, {'; '.join(told)}.")


def _terms(inputs: ReportInputs) -> Iterator[Caution]:
    for note in dig(inputs.metrics, "backtest", "notes") or []:
        yield Caution("note", "Backtest.", text(note))


def _data_notes(inputs: ReportInputs) -> Iterator[Caution]:
    for note in inputs.inspection.get("notes") or []:
        yield Caution("note", "Data.", text(note))
    dropped: dict[str, Any] = inputs.inspection.get("dropped") or {}
    rows = sum(int(known(n) or 0) for n in dropped.values())
    if rows:
        account = ", ".join(f"{reason} ({count(n)})" for reason, n in dropped.items())
        yield Caution(
            "note", f"{counted(rows, 'row')} of the source {'was' if rows == 1 else 'were'} dropped.", account
        )
    listed = inputs.inspection.get("largest_changes") or []
    extreme = int(known(inputs.inspection.get("extreme_changes")) or len(listed))
    if extreme:
        yield Caution(
            "note",
            f"{counted(extreme, 'extreme move')} of a close.",
            "Kept as they are, the largest are listed under Data: news, or a split that was not adjusted.",
        )


def _who(inputs: ReportInputs) -> str:
    """Who leaves tasks aside."""
    if agent := dig(inputs.config, "agent", "kind"):
        return f"The agent {title(agent)}"
    if dig(inputs.config, "training", "learn"):
        return "By training.learn the network"
    return f"The balancer {title(dig(inputs.config, 'balancer', 'kind'))}"


def _unlearned(inputs: ReportInputs) -> Iterator[Caution]:
    idle = [task for task in dig(inputs.data, "tasks") or {} if task not in inputs.learned]
    if idle and inputs.learned:
        yield Caution(
            "note",
            f"Not learned: {', '.join(idle)}.",
            f"{_who(inputs)} learns {', '.join(inputs.learned)} alone.",
        )


RULES = (
    _untradable_delay,
    _too_good,
    _unclear,
    _one_seed,
    _days_left_out,
    _worse_than_majority,
    _cut_short,
    _frozen,
    _incomplete_series,
    _no_index,
    _fills,
    _terms,
    _unlearned,
    _data_notes,
)
