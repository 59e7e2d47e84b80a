"""The rules of trading in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mimstocr.report.formats import compact, count, counted, is_nested, text, title
from mimstocr.report.inputs import ReportInputs, dates, dig, known

PRICES = {"close": "close", "open": "open", "vwap": "volume-weighted mean price"}
NOT_TOLD = (
    "kind",
    "price",
    "commission",
    "min_commission",
    "fees",
    "lot_slack",
    "short",
    "borrow",
    "leverage",
    "financing",
)
"""Settings that have a sentence of their own, are part of another's, or are for rounding alone."""


def share(value: Any) -> str:
    """A small fraction as percent, to three significant digits."""
    found = known(value)
    return "an unknown part" if found is None else f"{found * 100:.3g}%"


RULES: dict[str, Callable[[Any], str]] = {
    "slippage": lambda v: f"every order fills {share(v)} worse than its price" if v else "",
    "impact": lambda v: (
        f"an order of value Q fills worse by {compact(v)} x daily volatility x the root of Q / money traded a day"
        if v
        else ""
    ),
    "participation": lambda v: f"an order is at most {share(v)} of the stock's volume of the day" if v else "",
    "lot": lambda v: ("whole shares" if v == 1 else f"lots of {count(v)} shares") if v else "",
    "suspensions": lambda v: "suspended stocks trade at their last known price" if v is False else "",
    "price_limits": lambda v: "nothing is bought at the upper price limit or sold at the lower one" if v else "",
    "delisting_loss": lambda v: f"a delisted stock loses {share(v)} of its last price" if v else "",
}
"""What a setting of a market means; nothing where it is switched off. Others are told by their names."""


def market_of(inputs: ReportInputs) -> Mapping[str, Any]:
    """The settings of the market; a run from before there were markets had one cost for every trade."""
    for tree in (dig(inputs.metrics, "backtest"), dig(inputs.config, "backtest")):
        market = dig(tree, "market")
        if isinstance(market, Mapping):
            return market
        if dig(tree, "cost") is not None:
            return {"kind": "flat", "commission": dig(tree, "cost")}
    return {}


def trading_terms(inputs: ReportInputs) -> str:
    """Where and when orders are filled, and what they cost, in two or three sentences."""
    market = market_of(inputs)
    if not market:
        return f"Orders fill at {_when(inputs, market)}{_every(inputs)}. What trading costs is not known."
    days = dates(inputs.backtest)
    span = (days[0], days[-1]) if days else ("", "9999")
    rules = [_commission(market), *_fees(market, span), *_short(market), *_rules(market)]
    told = "; ".join(rule for rule in rules if rule)
    place = "" if market.get("kind") in (None, "flat") else f"Market {title(market['kind'])}: "
    return f"Orders fill at {_when(inputs, market)}{_every(inputs)}. {_sentence(place + told)}"


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}." if words else ""


def _when(inputs: ReportInputs, market: Mapping[str, Any]) -> str:
    price = PRICES.get(str(market.get("price") or "close"), str(market.get("price")))
    delay = inputs.fill_delay
    if delay is None:
        return f"a {price} that is not known"
    return f"the {price} {counted(delay, 'trading day')} later" if delay else f"the very {price} the score has seen"


def _every(inputs: ReportInputs) -> str:
    every = known(dig(inputs.metrics, "backtest", "every") or dig(inputs.config, "backtest", "every"))
    return f", decided every {count(every)} trading days" if every and every > 1 else ""


def _commission(market: Mapping[str, Any]) -> str:
    least = known(market.get("min_commission"))
    at_least = f", {compact(least)} at least" if least else ""
    if known(market.get("commission")) == 0 and not least:
        return "no commission"
    return f"every buy and sell costs {share(market.get('commission'))} of its value{at_least}"


def _fees(market: Mapping[str, Any], span: tuple[str, str]) -> list[str]:
    """Fees that were asked during the backtest; a rate that changed with its lowest and highest."""
    told = []
    for name, steps in (market.get("fees") or {}).items():
        begun = [step for step in steps if str(step.get("since")) <= span[1]]
        before = [step for step in begun if str(step.get("since")) <= span[0]]
        in_force = begun[max(len(before) - 1, 0) :]
        buys, sells = _range(in_force, "buy"), _range(in_force, "sell")
        sides = [f"{rate} of {side}" for rate, side in ((buys, "buys"), (sells, "sells")) if rate]
        rates = f"{buys} of buys and sells" if buys == sells and buys else " and ".join(sides)
        if rates:
            told.append(f"{str(name).replace('_', ' ')} {rates}")
    return told


def _range(steps: list[Mapping[str, Any]], side: str) -> str:
    rates = [rate for step in steps if (rate := known(step.get(side))) is not None]
    if not any(rates):
        return ""
    low, high = share(min(rates)), share(max(rates))
    return low if low == high else f"{low} to {high}"


def _short(market: Mapping[str, Any]) -> list[str]:
    """Borrowing, where it can come about."""
    told = []
    leverage = known(market.get("leverage")) or 1.0
    if market.get("short"):
        told.append(f"stocks sold short cost {share(market.get('borrow'))} a year")
    if leverage > 1:
        told.append(
            f"up to {compact(leverage)} times the account's value is held, on credit at "
            f"{share(market.get('financing'))} a year"
        )
    return told


def _rules(market: Mapping[str, Any]) -> list[str]:
    told = [rule(market[name]) for name, rule in RULES.items() if name in market]
    others = {
        name: value
        for name, value in market.items()
        if name not in RULES and name not in NOT_TOLD and value is not None and not is_nested(value)
    }
    return told + [f"{name.replace('_', ' ')} {text(value)}" for name, value in others.items()]
