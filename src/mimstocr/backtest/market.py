"""The contract of a market: what can be traded, in which amounts, and what it costs.

A market is a set of rules, each of which can be switched. The profiles in `markets/` are markets with the rules of a
place; `Terms` are those rules worked out for the days and stocks of a panel, as arrays that the engine fills by.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from mimstocr.backtest.orders import LIMIT_DOWN, LIMIT_UP, NO_MONEY, NO_PRICE, SUSPENDED, DayTerms
from mimstocr.components import Component, Registry, Settings, component_field
from mimstocr.data.assets import OwnCalendar, own_calendars
from mimstocr.data.panel import Days, Panel, day_text, days_of, last_known, symbols_of, traded_money, within_day
from mimstocr.errors import ConfigError, DataError

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
Fraction = Annotated[float, Field(ge=0, lt=1)]

KNOWN_DAYS = 20
"""Days before the fill over which volatility and traded money are taken for the market impact."""
OLD = -10_000
"""The row of the first close of a stock that was there on the first day."""
GONE_DAYS = 20
"""A stock whose prices end counts as delisted so many days after its last one, when it is settled."""


class Fee(Settings):
    """A fee from a day on, as fractions of the traded value."""

    since: date
    """The first day on which it is asked."""
    buy: Fraction = 0.0
    """On buys."""
    sell: Fraction = 0.0
    """On sells."""


class Market(Component):
    """The rules of trading. Every trade is one order a stock and day, at one price."""

    price: Literal["close", "open", "vwap"] = "close"
    """At which price of its day an order is filled."""
    commission: Fraction = 0.0
    """Fraction of the traded value, on buys and sells."""
    min_commission: Annotated[float, Field(ge=0)] = 0.0
    """The least that an order pays as commission, in money."""
    fees: dict[str, tuple[Fee, ...]] = {}
    """Taxes and other fees by name, each with its rates from a day on; before the first day there is none."""
    slippage: Fraction = 0.0
    """Fraction of the price by which every order is filled worse, in either direction."""
    impact: Annotated[float, Field(ge=0)] = 0.0
    """Y of the square-root law: an order of value Q is filled worse by Y x volatility x sqrt(Q / traded money), both
    means of the 20 days before; about 1 in the literature, 0 switches it off."""
    participation: Annotated[float, Field(gt=0, le=1)] | None = None
    """The largest share of a stock's volume of the day that one order may be; none: no limit."""
    lot: Annotated[float, Field(gt=0)] | None = None
    """Shares (real, not adjusted) in a lot: orders are rounded down to whole lots, but all that is held can be sold;
    none: shares are fractional."""
    lot_slack: Annotated[float, Field(ge=0, lt=0.5)] = 1e-6
    """By which fraction of a lot an order may miss a whole number of them, since adjusted prices are rounded."""
    suspensions: bool = True
    """Whether a stock that is not tradable on a day cannot be traded; without, it trades wherever there is a close."""
    price_limits: bool = False
    """Whether the market's daily price limits bind: nothing is bought at the upper, nothing sold at the lower one."""
    short: bool = False
    """Whether stocks can be sold short."""
    leverage: Annotated[float, Field(ge=1)] = 1.0
    """The largest sum of the absolute weights of a decision; above 1 money is borrowed. Where stocks cannot be traded
    the account may for a while hold more beside short positions."""
    borrow: Annotated[float, Field(ge=0)] = 0.0
    """Yearly fee on the value of stocks sold short."""
    financing: Annotated[float, Field(ge=0)] = 0.0
    """Yearly interest on money borrowed."""
    delisting_loss: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of its last price that is lost when a stock whose prices have ended is settled."""

    @field_validator("fees")
    @classmethod
    def _in_order(cls, fees: dict[str, tuple[Fee, ...]]) -> dict[str, tuple[Fee, ...]]:
        for name, rates in fees.items():
            if name in OWN_KINDS:
                raise ValueError(f"fee {name!r}: that is a cost of its own; choose another name")
            if any(a.since >= b.since for a, b in itertools.pairwise(rates)):
                raise ValueError(f"fee {name!r}: expected rates in the order of their days, each day once")
        return fees

    def limits(self, prices: Prices) -> tuple[Mask, Mask] | None:  # noqa: ARG002
        """(days, stocks) where the fill price is at its upper and lower limit; none where there are no limits."""
        return None

    def lots(self, symbols: Sequence[str]) -> tuple[Values, Values]:
        """(stocks,) each: shares by which an order grows, and the least it can be; 0 for fractional shares."""
        size = np.full(len(symbols), self.lot or 0.0)
        return size, size

    def notes(self, real: bool) -> list[str]:
        """What a reader of the results must know; real: whether real prices are known beside adjusted ones."""
        lots = self.lot is not None and not real
        return ["without a factor in the source, lots are of adjusted shares"] if lots else []

    def rates(self, days: Days) -> Values:
        """(days, 2, 1 + fees): the commission and each fee as fractions of buys (0) and of sells (1)."""
        rates = np.zeros((len(days), 2, 1 + len(self.fees)))
        rates[:, :, 0] = self.commission
        for place, steps in enumerate(self.fees.values(), start=1):
            for fee in steps:
                rates[days >= np.datetime64(fee.since), :, place] = fee.buy, fee.sell
        return rates


MARKETS: Registry[type[Market]] = Registry("market", "mimstocr.backtest.markets")

AnyMarket = Annotated[Market, *component_field(MARKETS)]

OWN_KINDS = ("commission", "slippage", "impact", "financing", "delisting")


@dataclass(frozen=True, eq=False)
class Prices:
    """What a market looks at to say what is at its limit; arrays are (days, stocks)."""

    days: Days
    symbols: Sequence[str]
    fill: Values
    """The price of the fill, NaN where there is none."""
    before: Values
    """The last known close before the day, NaN where there is none."""
    age: NDArray[np.int64]
    """Days since the first close; a stock with a close on the first day of the data may be of any age, and counts as
    old."""
    factor: Values | None
    """Adjusted price over real price; none where the source does not say."""


@dataclass(frozen=True, eq=False)
class Terms:
    """A market's rules for some days and stocks. Arrays are (days, stocks) unless said otherwise.

    Shares are those of the adjusted prices throughout: a holding takes part in splits and dividends by the adjustment,
    that is dividends are reinvested in the stock that paid them, free of tax and cost.
    """

    days: Days | None
    worth: Values
    """What a share is worth when the day's orders are made: the fill price, or the last known price before."""
    mark: Values
    """The last known close, at which the account is valued after trading; 0 before the first."""
    blocked_buy: NDArray[np.uint8]
    """Why a buy cannot be filled, a code of `REASONS`; 0 where it can."""
    blocked_sell: NDArray[np.uint8]
    """The same for a sell."""
    stale: Mask
    """The mark is not of this day."""
    gone: Mask
    """The day on which what is held of a stock that was delisted is settled."""
    step: Values
    """Adjusted shares in which an order grows; 0: any amount."""
    least: Values
    """The smallest order in adjusted shares."""
    slack: float
    """By which fraction of a step an order may miss a whole number of them."""
    cap: Values
    """The largest order in adjusted shares; infinite without a limit."""
    impact: Values
    """Cost of the market impact as a fraction of an order's value, over the square root of that value."""
    rates: Values
    """(days, 2, 1 + fees): the commission and each fee as fractions of buys (0) and sells (1)."""
    kinds: tuple[str, ...]
    """Names of the costs: commission, each fee, slippage, impact, financing, delisting."""
    slippage: float
    min_commission: float
    leverage: float
    short: bool
    borrow: float
    """Fee on short positions a day."""
    financing: float
    """Interest on money borrowed a day."""
    delisting_loss: float
    notes: tuple[str, ...] = ()
    """What a reader of the results must know of these terms."""

    def free(self) -> Terms:
        """The same terms without any cost; what can be traded stays the same."""
        free = replace(self, impact=np.zeros_like(self.impact), rates=np.zeros_like(self.rates), slippage=0.0)
        return replace(free, min_commission=0.0, borrow=0.0, financing=0.0, delisting_loss=0.0)

    def day(self, at: int) -> DayTerms:
        """The terms of one day."""
        return DayTerms(
            self.worth[at],
            self.blocked_buy[at],
            self.blocked_sell[at],
            self.step[at],
            self.least[at],
            self.slack,
            self.cap[at],
            self.impact[at],
            self.rates[at],
            self.slippage,
            self.min_commission,
            self.leverage,
        )


CLOSED: dict[str, float] = {
    "worth": 0.0,
    "mark": 0.0,
    "blocked_buy": NO_PRICE,
    "blocked_sell": NO_PRICE,
    "stale": False,
    "gone": False,
    "step": 0.0,
    "least": 0.0,
    "cap": 0.0,
    "impact": 0.0,
}
"""Terms of a stock on a day on which its class is closed; `worth` and `mark` then stand once there was a close. Such a
mark is not stale: there is no later one."""


def make_terms(market: Market, panel: Panel, window: slice) -> Terms:
    """The rules of `market` for the days `window` of `panel`, all stocks.

    Those of several asset classes are worked out for each on its own calendar. While a class is closed, its stocks
    stand at their last closes and nothing of it is traded (no price).

    Raises ConfigError when a rule needs a field that the panel lacks.
    """
    needs: dict[str, str] = {market.price: f"price: {market.price}"}
    needs |= {"volume": "participation and impact"} if market.participation is not None or market.impact > 0 else {}
    for field, why in needs.items():
        if field not in panel:
            raise ConfigError(
                f"backtest.market: {why} needs the field {field}, which the source lacks; it has "
                f"{', '.join(str(name) for name in panel.data_vars)}"
            )
    year = int(panel.attrs["days_per_year"])

    def of_class(own: Panel, days: slice) -> Terms:
        return terms_of(
            market,
            close=own["close"].values,
            tradable=own["tradable"].values,
            fill=None if market.price == "close" else own[market.price].values,
            factor=own["factor"].values if "factor" in own else None,
            money=traded_money(own) if "volume" in needs else None,
            days=days_of(own),
            symbols=symbols_of(own),
            days_per_year=year,
            window=days,
        )

    calendars = own_calendars(panel)
    if len(calendars) == 1:
        return of_class(panel, window)
    each = [of_class(own.panel, slice(None)) for own in calendars]
    return _side_by_side(market, calendars, each, days_of(panel), window)


def _side_by_side(
    market: Market, calendars: Sequence[OwnCalendar], each: Sequence[Terms], days: Days, window: slice
) -> Terms:
    """The terms of several classes, each over all of its own days, over the days of all."""
    shape = (len(days), sum(len(own.symbols) for own in calendars))
    whole: dict[str, NDArray[Any]] = {}
    for name, closed in CLOSED.items():
        filled = np.full(shape, closed, dtype=getattr(each[0], name).dtype)
        for own, terms in zip(calendars, each, strict=True):
            filled[np.ix_(own.days, own.symbols)] = getattr(terms, name)
        whole[name] = filled
    for own, terms in zip(calendars, each, strict=True):
        shut = np.flatnonzero(~own.open & (own.last >= 0))
        for name in ("worth", "mark"):
            whole[name][np.ix_(shut, own.symbols)] = terms.mark[own.last[shut]]
    shut_note = "orders for an asset class on a day on which it is closed are not filled; they are counted as no price"
    said = tuple(dict.fromkeys([*(note for terms in each for note in terms.notes), shut_note]))
    kept: dict[str, Any] = {name: np.ascontiguousarray(values[window]) for name, values in whole.items()}
    return replace(each[0], days=days[window], rates=market.rates(days[window]), notes=said, **kept)


def terms_of(
    market: Market,
    *,
    close: NDArray[Any],
    tradable: Mask,
    fill: NDArray[Any] | None = None,
    factor: NDArray[Any] | None = None,
    money: NDArray[Any] | None = None,
    days: Days | None = None,
    symbols: Sequence[str] | None = None,
    days_per_year: int = 252,
    window: slice = slice(None),
) -> Terms:
    """The rules of a market over arrays (days, stocks); those of `window` are given, days before it are the past.

    fill: prices of the fills, by default the closes. factor: adjusted over real price, by default 1. money: traded
    money of the day. Raises DataError on shapes that differ, a tradable stock without a close, or a price not above 0.
    """
    price = np.asarray(close, dtype=np.float64)
    _check_market(price, tradable, days)
    names = [str(i) for i in range(price.shape[1])] if symbols is None else list(symbols)
    filled = price if fill is None else np.asarray(fill, dtype=np.float64)
    last = last_known(price)
    before = np.full_like(last, np.nan)
    before[1:] = last[:-1]
    ratio = None if factor is None else last_known(np.asarray(factor, dtype=np.float64))

    open_for = tradable & np.isfinite(filled)
    at = np.where(open_for, filled, last if filled is price else before)
    if not market.suspensions:
        filled = np.where(open_for, filled, at)
    blocked = np.zeros(price.shape, dtype=np.uint8)
    if market.suspensions:
        blocked[tradable & ~np.isfinite(filled)] = NO_PRICE
        blocked[~tradable] = SUSPENDED
    gone = _gone(price)
    blocked[np.isnan(at) | np.isnan(price) & (blocked == 0) | np.logical_or.accumulate(gone, axis=0)] = NO_PRICE
    impact = _impact(market.impact, price, money)
    blocked[(blocked == 0) & np.isnan(impact)] = NO_MONEY
    blocked_buy, blocked_sell = blocked, blocked.copy()
    calendar = np.arange(len(price)).astype("datetime64[D]") if days is None else days
    if market.price_limits:
        if within_day(calendar):
            raise ConfigError(
                "backtest.market.price_limits: limits go from the close of the day before, which bars within the day "
                "do not tell; set price_limits to false, or trade days"
            )
        limits = market.limits(Prices(calendar, names, filled, before, _age(price), ratio))
        if limits is not None:
            for side, at_limit, code in (
                (blocked_buy, limits[0], LIMIT_UP),
                (blocked_sell, limits[1], LIMIT_DOWN),
            ):
                side[(side == 0) & at_limit] = code

    step, least = (np.broadcast_to(size, price.shape) for size in market.lots(names))
    if ratio is not None and step.any():
        # before its first factor a stock has no price, and is not traded
        step, least = (size / np.nan_to_num(ratio, nan=1.0) for size in (step, least))
    cap = np.full(price.shape, np.inf)
    if market.participation is not None and money is not None:
        worth = np.nan_to_num(np.asarray(money, dtype=np.float64))
        cap = market.participation * np.divide(worth, last, out=np.zeros(price.shape), where=last > 0)
    return Terms(
        days=None if days is None else days[window],
        worth=np.ascontiguousarray(np.nan_to_num(at[window])),
        mark=np.ascontiguousarray(np.nan_to_num(last[window])),
        blocked_buy=np.ascontiguousarray(blocked_buy[window]),
        blocked_sell=np.ascontiguousarray(blocked_sell[window]),
        stale=~tradable[window],
        gone=gone[window],
        step=np.ascontiguousarray(step[window]),
        least=np.ascontiguousarray(least[window]),
        slack=market.lot_slack,
        cap=np.ascontiguousarray(cap[window]),
        impact=np.ascontiguousarray(np.nan_to_num(impact[window])),
        rates=market.rates(calendar[window]),
        kinds=("commission", *market.fees, "slippage", "impact", "financing", "delisting"),
        slippage=market.slippage,
        min_commission=market.min_commission,
        leverage=market.leverage,
        short=market.short,
        borrow=market.borrow / days_per_year,
        financing=market.financing / days_per_year,
        delisting_loss=market.delisting_loss,
        notes=tuple(market.notes(ratio is not None)),
    )


def _impact(scale: float, close: Values, money: NDArray[Any] | None) -> Values:
    """Y x volatility / sqrt(traded money), both of the days before; NaN where they are not known."""
    if scale == 0:
        return np.zeros(close.shape)
    if money is None:
        raise ConfigError("backtest.market.impact needs traded money; the source has no volume, set impact to 0")
    moves = np.full(close.shape, np.nan)
    moves[1:] = close[1:] / close[:-1] - 1.0
    traded = np.asarray(money, dtype=np.float64)
    n, total = _trailing(np.ones(close.shape), np.isfinite(moves)), _trailing(moves, np.isfinite(moves))
    squares = _trailing(moves**2, np.isfinite(moves))
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = (squares - total**2 / n) / (n - 1)
        mean = _trailing(traded, np.isfinite(traded)) / _trailing(np.ones(close.shape), np.isfinite(traded))
        found: Values = scale * np.sqrt(np.maximum(variance, 0.0)) / np.sqrt(mean)
    found[~np.isfinite(found)] = np.nan
    return found


def _trailing(values: Values, counted: Mask) -> Values:
    """Sums over the KNOWN_DAYS days before each day, of the values that count."""
    sums = np.cumsum(np.where(counted, values, 0.0), axis=0)
    padded = np.concatenate([np.zeros((KNOWN_DAYS + 1, values.shape[1])), sums])
    trailing: Values = padded[KNOWN_DAYS:-1] - padded[: -KNOWN_DAYS - 1]
    return trailing


def _age(close: Values) -> NDArray[np.int64]:
    first = np.argmax(np.isfinite(close), axis=0)
    first[first == 0] = OLD
    age: NDArray[np.int64] = np.arange(len(close))[:, None] - first
    return age


def _gone(close: Values) -> Mask:
    """The day GONE_DAYS after the last close of each stock whose closes end so long before the last day."""
    known = np.isfinite(close)
    last = len(close) - 1 - np.argmax(known[::-1], axis=0)
    gone = np.zeros(close.shape, dtype=bool)
    ended = np.flatnonzero(known.any(axis=0) & (len(close) - 1 - last >= GONE_DAYS))
    gone[last[ended] + GONE_DAYS, ended] = True
    return gone


def day_name(days: Days | None, index: int) -> str:
    """How an error names a day."""
    return f"day {index}" if days is None else day_text(days[index])


def _check_market(close: Values, tradable: Mask, days: Days | None) -> None:
    if close.shape != np.shape(tradable) or close.ndim != 2 or 0 in close.shape:
        raise DataError(
            f"expected close and tradable of one shape (days, stocks), got {close.shape} and {np.shape(tradable)}; "
            "align both to the same days and symbols"
        )
    for bad, what, cure in (
        (np.isinf(close) | (close <= 0), "a close that is infinite or not above zero", "mark it as unknown (NaN)"),
        (tradable & np.isnan(close), "a tradable stock without a close", "mark it as not tradable"),
    ):
        if bad.any():
            day, stock = np.argwhere(bad)[0]
            raise DataError(
                f"expected prices to trade at, got {what} on {day_name(days, day)} in column {stock} "
                f"({int(bad.sum())} such rows); {cure}"
            )
