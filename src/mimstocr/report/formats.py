"""Numbers and settings as a reader wants them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any, NamedTuple

from mimstocr.report.inputs import known

NOTHING = "\u2013"
"""Stands where nothing is known."""


def number(value: Any, digits: int = 4) -> str:
    """A plain number with fixed decimals."""
    found = known(value)
    return NOTHING if found is None else f"{found:.{digits}f}"


def percent(value: Any, digits: int = 2) -> str:
    """A fraction as percent."""
    found = known(value)
    return NOTHING if found is None else f"{found:.{digits}%}"


def count(value: Any) -> str:
    """A whole number with thousands separated; a mean of whole numbers keeps one decimal."""
    found = known(value)
    if found is None:
        return NOTHING
    return f"{found:,.0f}" if abs(found - round(found)) < 1e-9 else f"{found:,.1f}"


def compact(value: Any) -> str:
    """A number of unknown size, to four significant digits."""
    found = known(value)
    return NOTHING if found is None else f"{found:.4g}"


def basis_points(value: Any) -> str:
    """A fraction in hundredths of a percent."""
    found = known(value)
    return NOTHING if found is None else f"{found * 1e4:.1f} bp"


def duration(seconds: Any) -> str:
    """Seconds in the units that suit their size."""
    found = known(seconds)
    if found is None:
        return NOTHING
    if found < 120:
        return f"{found:.1f} s"
    minutes, rest = divmod(round(found), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def text(value: Any) -> str:
    """Any single value of a table."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return compact(value)
    if isinstance(value, datetime) and value.time() != time():
        return str(value)[:16]
    if isinstance(value, date):
        return str(value)[:10]
    if isinstance(value, list | tuple):
        return ", ".join(text(inner) for inner in value) or NOTHING
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text(inner)}" for key, inner in value.items()) or NOTHING
    return str(value)


ABBREVIATIONS = {
    "a2c",
    "alstm",
    "bce",
    "cn",
    "cqb",
    "ddpg",
    "dwa",
    "ew",
    "gats",
    "gru",
    "hist",
    "l2",
    "lstm",
    "mae",
    "mgda",
    "mlp",
    "mmoe",
    "mse",
    "ndcg",
    "ple",
    "ppo",
    "qlike",
    "rlw",
    "rsr",
    "sac",
    "stl",
    "td3",
    "us",
    "uw",
}
"""Words of a kind that are written in capitals."""


def title(kind: Any) -> str:
    """A component's kind as it is usually written."""
    if not kind:
        return NOTHING
    return " ".join(word.upper() if word in ABBREVIATIONS else word for word in str(kind).split("_"))


def part(setting: Any, *, shown: bool = True) -> str:
    """A component of the config: its kind, and its plain settings where `shown`."""
    if not isinstance(setting, Mapping):
        return title(setting)
    plain = {
        key: value for key, value in setting.items() if key != "kind" and value is not None and not is_nested(value)
    }
    inner = ", ".join(f"{key} {text(value)}" for key, value in plain.items())
    return f"{title(setting.get('kind'))} ({inner})" if shown and inner else title(setting.get("kind"))


def is_nested(value: Any) -> bool:
    """Whether a setting holds settings of its own."""
    return isinstance(value, Mapping)


def counted(n: int, thing: str) -> str:
    """`1 seed`, `2 seeds`."""
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(words for words in (", ".join(names[:-1]), *names[-1:]) if words)


class Metric(NamedTuple):
    """How a figure is called, written and defined."""

    label: str
    write: Callable[[Any], str]
    meaning: str


def _ratio(value: Any) -> str:
    return number(value, 2)


EVIDENCE: dict[str, Metric] = {
    "ic": Metric("IC", number, "Pearson correlation of score and raw return over the stocks of a day; mean over days."),
    "icir": Metric("ICIR", number, "Mean of the daily IC over its standard deviation; per day, not annualised."),
    "rank_ic": Metric("RankIC", number, "Spearman correlation of score and raw return of a day; mean over days."),
    "rank_icir": Metric("RankICIR", number, "Mean of the daily RankIC over its standard deviation; not annualised."),
    "precision@": Metric("Precision@", percent, "Share of the N highest scores of a day whose return is above 0."),
    "ndcg@": Metric("NDCG@", number, "Gain of the k highest scores over that of the best order; grades are fifths."),
    "spread": Metric(
        "Spread, top - bottom tenth", basis_points, "Mean return of the highest tenth of scores minus the lowest."
    ),
    "turnover": Metric("Turnover of the top tenth", percent, "Share of the highest tenth that is new each day."),
    "stocks": Metric("Stocks a day", count, "Members of the universe with a score and a known return."),
    "days": Metric("Days", count, "Days on which the IC is defined."),
    "days_left_out": Metric("Days left out", count, "Days with fewer than two stocks, equal scores or equal returns."),
}
"""The figures of a ranking, in the order of the table; `precision@` stands for every N."""

MONEY: dict[str, Metric] = {
    "cumulative_return": Metric("Cumulative return", percent, "Final over first wealth, minus 1."),
    "annual_return": Metric("Annual return", percent, "Compounded, at the source's trading days a year."),
    "annual_volatility": Metric("Annual volatility", percent, "Standard deviation of daily returns, annualised."),
    "sharpe": Metric("Sharpe", _ratio, "Mean over standard deviation of daily returns, annualised; risk-free rate 0."),
    "sortino": Metric("Sortino", _ratio, "Mean over downside deviation against 0 over all days, annualised."),
    "calmar": Metric("Calmar", _ratio, "Annual return over the deepest drawdown."),
    "max_drawdown": Metric("Max drawdown", percent, "Deepest fall below the highest wealth before it."),
    "drawdown_days": Metric("Longest drawdown, days", count, "Most trading days in a row below the highest wealth."),
    "win_rate": Metric("Days with a gain", percent, "Share of days with a return above 0."),
    "profit_factor": Metric("Profit factor", _ratio, "Sum of gains over sum of losses."),
    "turnover": Metric("Turnover a day", percent, "Traded value, one way, as a share of the account."),
    "costs": Metric("Costs, of the capital", percent, "All that was paid for trading over the whole time."),
    "excess_return": Metric("Excess annual return", percent, "Geometric difference to the benchmark."),
    "information_ratio": Metric("Information ratio", _ratio, "Mean over standard deviation of the excess, annualised."),
    "alpha": Metric("Alpha, annual", percent, "What the benchmark's moves do not explain."),
    "beta": Metric("Beta", _ratio, "Move for a move of 1 of the benchmark."),
    "tracking_error": Metric("Tracking error", percent, "Standard deviation of the daily excess, annualised."),
    "days": Metric("Days", count, "Daily returns counted."),
}
"""The figures of a series of daily returns, in the order of the table."""


def metric(known_ones: Mapping[str, Metric], key: str) -> Metric:
    """How to show a figure; one that is not known is shown under its own name."""
    family, at, cut = key.partition("@")
    found = known_ones.get(family + at)
    if found is None:
        return Metric(key.replace("_", " "), compact, "")
    return found._replace(label=found.label + cut)


def in_order(known_ones: Mapping[str, Metric], keys: list[str]) -> list[str]:
    """Keys in the order in which `known_ones` lists them, the others after."""
    places = {family: place for place, family in enumerate(known_ones)}

    def place(key: str) -> tuple[int, int]:
        family, at, cut = key.partition("@")
        return places.get(family + at, len(places)), int(cut) if cut.isdigit() else 0

    return sorted(keys, key=place)
