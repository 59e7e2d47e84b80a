"""Daily prices of Yahoo Finance, with a local store.

The package yfinance does the talking (browser's handshake, cookies, crumb, consent); the chart that comes back is read
here, because the tables of yfinance fill a missing volume with 0 and hide the server's clock.

A bar is labelled by the exchange's local day; it is finished `SETTLED` after the end of the day's trading by the
server's clock. Yahoo's close is adjusted for splits, its adjusted close for dividends too; both are stored, with the
dividends (and a fund's capital gains) and the splits. A split or dividend rescales the whole history at Yahoo: then the
symbol's whole history is fetched anew. In the panel splits are undone again where a price is meant to be what was paid:
close / factor is the price of the day, which no later split has a part in.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl

from mimstocr.data.online import (
    DAY,
    FEEDS,
    SKEW,
    Account,
    Asked,
    NoAnswerError,
    Pace,
    Page,
    PassingError,
    UnknownSymbolError,
    between,
    panel_online,
    symbols_of_place,
    when,
)
from mimstocr.data.panel import Panel, few
from mimstocr.data.settings import DataSettings
from mimstocr.data.sources import SOURCES
from mimstocr.data.store import History, Store
from mimstocr.errors import ConfigError, DataError

CHART = "https://query2.finance.yahoo.com/v8/finance/chart/"
FIRST = int(datetime(1900, 1, 1, tzinfo=UTC).timestamp() * 1000)
"""Before the first price that Yahoo has."""
SPACING = 0.5
"""Seconds between two requests; Yahoo does not say what it allows."""
OVERLAP = 5
"""Bars fetched again before what is missing."""
CLOSED = 10 * DAY
"""Milliseconds asked for before the first bar: an event on a day without a bar is told on the next that has one."""
SETTLED = 30 * 60 * 1000
"""Milliseconds: quotes of most exchanges come up to 20 minutes late."""
SAME = 1e-5
"""Relative: prices of two answers differ by rounding below it; the smallest dividends move them by more."""
PRICES = ("open", "high", "low", "close", "adjusted", "volume")
CRYPTO = "CRYPTOCURRENCY"
SHARES = "shares"
"""In what is known of a symbol: shares, when it was fetched, for one on the last day that is stored."""


@SOURCES.register("yahoo")
def load(place: str, settings: DataSettings) -> Panel:
    """Daily prices of Yahoo Finance (yahoo:AAPL,MSFT or yahoo:@FILE), kept in a local store."""
    return panel_online(feed(place, settings), settings)


@FEEDS.register("yahoo")
def feed(place: str, settings: DataSettings) -> Yahoo:
    """place: symbols or @FILE."""
    if settings.interval != "1d":
        raise ConfigError(
            f"data.interval: yahoo has days alone here, got {settings.interval}; leave it at 1d, or use bybit for hours"
        )
    return Yahoo(symbols_of_place(place, settings), Store(settings.store).root / "yahoo" / "session")


def session(cache: Path) -> Any:
    """The session of yfinance, with its cookies in the folder `cache`."""
    try:
        package = import_module("yfinance")
    except ModuleNotFoundError:
        raise ConfigError(
            "yahoo: needs the package yfinance, which is not installed; pip install 'mimstocr[yahoo]'"
        ) from None
    cache.mkdir(parents=True, exist_ok=True)
    package.set_tz_cache_location(str(cache))
    return import_module("yfinance.data").YfData()


class Chart(NamedTuple):
    """An answer of Yahoo."""

    rows: pl.DataFrame
    open_day: int
    """Milliseconds: the first day that is not finished."""
    about: dict[str, str]
    shares: float = 1.0
    """Shares by now for one before all splits of the answer, those on days without a row included."""

    def upto(self, stop: int | None) -> tuple[int, dict[str, str]]:
        """The first day that is not covered, and what is known of the symbol for the rows before it."""
        covered = self.open_day if stop is None else min(stop, self.open_day)
        if self.rows.is_empty():
            return covered, {}
        kept = self.rows.filter(pl.col("time") < covered)["split"].product()
        return covered, {**self.about, SHARES: repr(self.shares / kept)}


@dataclass
class Yahoo:
    """The feed of daily prices."""

    symbols: list[str]
    cache: Path
    pace: Pace = field(default_factory=lambda: Pace(SPACING))
    clock: Callable[[], float] = time.time
    name = "yahoo"
    category = "prices"
    interval = "1d"
    fields = PRICES
    _session: Any = field(default=None, init=False)
    _ahead: int = field(default=0, init=False)
    """Milliseconds by which the server's clock was ahead of ours."""
    _clockless: bool = field(default=False, init=False)

    def pages(self, symbol: str, held: History | None, asked: Asked, account: Account) -> Iterator[Page]:
        """See `Feed`: one page, of the tail alone where nothing but new days is missing."""
        start = FIRST if asked.start is None else asked.start
        if held is not None and asked.stop is not None and held.covers(start, asked.stop):
            return
        try:
            if held is None:
                yield self._whole(symbol, start, asked.stop, account)
            elif start < held.header.start or held.rows.is_empty():
                stop = None if asked.stop is None else max(asked.stop, held.header.stop)
                yield self._anew(symbol, held, min(start, held.header.start), stop, account)
            else:
                yield self._tail(symbol, held, asked.stop, account)
        except UnknownSymbolError:
            if held is None or held.rows.is_empty():
                raise
            last = when(held.rows["time"][-1], "1d")
            account.notes.append(f"no longer known to Yahoo (delisted, or renamed): its history is kept, up to {last}")

    def bars(self, held: History, /) -> pl.DataFrame:
        """Prices and volumes as they were on their day, and the adjusted close."""
        later = float(held.header.about.get(SHARES, 1)) * pl.col("split").cum_prod(reverse=True) / pl.col("split")
        priced = [pl.col(name) * later for name in ("open", "high", "low", "close")]
        return held.rows.select("time", *priced, (pl.col("volume") / later).alias("volume"), "adjusted")

    def notes(self) -> list[str]:
        """A local clock that is off."""
        if self._clockless:
            return ["Yahoo's answers had no time: this machine's clock decides what is finished"]
        if abs(self._ahead) < SKEW:
            return []
        side = "behind" if self._ahead > 0 else "ahead of"
        return [
            f"this machine's clock is {abs(self._ahead) / 60_000:.0f} minutes {side} Yahoo's, whose time decides what "
            "is finished"
        ]

    def year(self, abouts: Sequence[dict[str, str]], /) -> int | None:
        """Crypto alone trades on every day of the year."""
        return 365 if all(about.get("type") == CRYPTO for about in abouts) else None

    def remarks(self, abouts: dict[str, dict[str, str]], /) -> list[str]:
        """What is mixed, and what the prices are."""
        told = ["prices and volume are adjusted for splits and dividends; close / factor is the price of the day"]
        kinds = {about.get("type", "") for about in abouts.values()}
        if CRYPTO in kinds and len(kinds) > 1:
            told.append("crypto and others together: weekends have crypto alone")
        for what, name in (("currencies", "currency"), ("time zones, in which a day ends at different times", "zone")):
            values = sorted({about[name] for about in abouts.values() if about.get(name)})
            if len(values) > 1:
                told.append(f"prices of {len(values)} {what}: {few(values)}")
        silent = [symbol for symbol, about in abouts.items() if about.get("volume") == "none"]
        if 0 < len(silent) < len(abouts):
            told.append(f"without a volume, so never tradable beside symbols that have one: {few(silent)}")
        return told

    # ---- pages

    def _whole(self, symbol: str, start: int, stop: int | None, account: Account, anew: bool = False) -> Page:
        chart = self._chart(symbol, start, account)
        covered, about = chart.upto(stop)
        rows, volume = _settled_volume(between(chart.rows, start, covered))
        return Page(rows, start, max(covered, start), anew, {**about, "volume": volume})

    def _anew(self, symbol: str, held: History, start: int, stop: int | None, account: Account) -> Page:
        """All history in place of what is held. Raises DataError when it would lose years that are held."""
        page = self._whole(symbol, start, stop, account, anew=True)
        if len(held.rows) and (page.rows.is_empty() or page.rows["time"][0] > held.rows["time"][0] + 7 * DAY):
            begins = "is empty" if page.rows.is_empty() else f"begins on {when(page.rows['time'][0], '1d')}"
            raise DataError(
                f"Yahoo's history of {symbol} {begins}, the stored one on {when(held.rows['time'][0], '1d')}; the "
                "stored one is kept, remove its file to take Yahoo's"
            )
        return page

    def _tail(self, symbol: str, held: History, stop: int | None, account: Account) -> Page:
        known = held.rows["time"][-OVERLAP:]
        chart = self._chart(symbol, known[0], account)
        covered, about = chart.upto(stop)
        rows, volume = _settled_volume(between(chart.rows, known[0], covered), held.rows)
        if _rescaled(held.rows, rows):
            account.notes.append("a split or dividend rescaled its history at Yahoo, which was fetched anew")
            return self._anew(symbol, held, held.header.start, stop, account)
        about = {**held.header.about, **about, "volume": volume}
        return Page(rows, held.header.start, covered, about=about)

    # ---- requests

    def _chart(self, symbol: str, start: int, account: Account) -> Chart:
        """Ask for the days from `start` to now, whatever is kept of them: later splits are in the prices before."""
        end = int(self.clock() * 1000) + 3 * DAY  # later than any clock says it is: the last day is cut by the server's
        query = {
            "period1": (start - CLOSED) // 1000,
            "period2": end // 1000,
            "interval": "1d",
            "includePrePost": "false",
            "events": "div,splits,capitalGains",
        }
        result, now = self.pace.call(lambda: self._request(symbol, query))
        return _chart(symbol, result, now, account)

    def _request(self, symbol: str, query: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """The result of a chart and the server's time in milliseconds."""
        if self._session is None:
            self._session = session(self.cache)
        limited = import_module("yfinance.exceptions").YFRateLimitError
        try:
            with _silent():
                answer = self._session.get(CHART + quote(symbol), params=query, timeout=30)
        except limited:
            raise PassingError("Yahoo says that it was asked too often (HTTP 429)") from None
        except OSError as error:  # what the errors of both HTTP libraries of yfinance are
            raise PassingError(f"no connection to Yahoo ({type(error).__name__})") from None
        if answer.status_code >= 500:
            raise PassingError(f"Yahoo has an error of its own (HTTP {answer.status_code})")
        try:
            chart = answer.json()["chart"]
            failure = chart["error"]
        except (ValueError, KeyError, TypeError):
            raise PassingError(f"Yahoo gave an answer that cannot be read (HTTP {answer.status_code})") from None
        if failure:
            return _refused(failure), self._now(answer)
        return (chart.get("result") or [{}])[0], self._now(answer)

    def _now(self, answer: Any) -> int:
        here = int(self.clock() * 1000)
        told = answer.headers.get("Date")
        self._clockless = told is None
        there = here if told is None else int(parsedate_to_datetime(told).timestamp() * 1000)
        self._ahead = there - here
        return there


def _refused(failure: dict[str, str]) -> dict[str, Any]:
    """A chart without days where Yahoo says that the days asked for have none; else raises what its error means."""
    why = str(failure.get("description"))
    if "Data doesn't exist" in why:
        return {}
    if failure.get("code") == "Not Found":
        raise UnknownSymbolError(f"unknown to Yahoo ({why})")
    raise NoAnswerError(f"Yahoo refuses the request ({failure.get('code')}: {why})")


def _chart(symbol: str, result: dict[str, Any], now: int, account: Account) -> Chart:
    """A result of the chart as rows by day."""
    meta = result.get("meta") or {}
    zone = str(meta.get("exchangeTimezoneName") or "UTC")
    open_day = _open_day(meta, zone, now)
    stamps = result.get("timestamp") or []
    if not stamps:
        return Chart(_empty(), open_day, {})
    try:
        quotes = result["indicators"]["quote"][0]
        values = {name: _column(quotes[name]) for name in PRICES if name != "adjusted"}
        adjusted = result["indicators"].get("adjclose")
        values["adjusted"] = _column(adjusted[0]["adjclose"]) if adjusted else values["close"]
        table = pl.DataFrame({"time": _days(stamps, zone), **values}).select("time", *PRICES)
        events = result.get("events") or {}
        paid = [*(events.get("dividends") or {}).values(), *(events.get("capitalGains") or {}).values()]
        splits = [
            {"date": one["date"], "amount": one["numerator"] / one["denominator"]}
            for one in (events.get("splits") or {}).values()
        ]
    except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"Yahoo gave a chart of {symbol} of another form than is known ({type(error).__name__}: {error})"
        ) from None
    rows = _tidy(table, account)
    rows = _with(rows, "dividend", paid, zone, pl.col("amount").sum(), 0.0)
    rows = _with(rows, "split", splits, zone, pl.col("amount").product(), 1.0)
    about = {"zone": zone, "type": meta.get("instrumentType"), "currency": meta.get("currency")}
    shares = math.prod(one["amount"] for one in splits)
    return Chart(rows, open_day, {name: str(value) for name, value in about.items() if value}, shares)


def _empty() -> pl.DataFrame:
    return pl.DataFrame(schema={"time": pl.Int64, **dict.fromkeys((*PRICES, "dividend", "split"), pl.Float64)})


def _column(values: Sequence[float | None]) -> pl.Series:
    return pl.Series(values, dtype=pl.Float64, strict=False)


def _days(stamps: Sequence[int], zone: str) -> pl.Series:
    """Seconds at which bars start to the local day, as milliseconds of its midnight in UTC."""
    local = pd.to_datetime(np.asarray(stamps, dtype=np.int64), unit="s", utc=True).tz_convert(zone)
    # where summer time changed by other rules than Yahoo's, a day starts an hour or two before its midnight
    early = (local.hour >= 22) & (local.minute == 0)
    days = local.tz_localize(None).normalize() + pd.to_timedelta(early.astype(int), unit="D")
    return pl.Series(days.to_numpy().astype("datetime64[ms]").astype(np.int64))


def _open_day(meta: dict[str, Any], zone: str, now: int) -> int:
    """The first day that is not finished: today, or tomorrow where today's trading has ended and settled."""
    today = datetime.fromtimestamp(now / 1000, ZoneInfo(zone)).date()
    midnight = int(datetime(today.year, today.month, today.day, tzinfo=UTC).timestamp() * 1000)
    end = ((meta.get("currentTradingPeriod") or {}).get("regular") or {}).get("end")
    if end is None:
        return midnight
    ended = datetime.fromtimestamp(end, ZoneInfo(zone)).date() == today and now >= end * 1000 + SETTLED
    return midnight + DAY if ended else midnight


def _tidy(table: pl.DataFrame, account: Account) -> pl.DataFrame:
    """Sorted days with a price, each once: of a day that came twice the last, which is the live one."""
    priced = table.filter(pl.any_horizontal(pl.col("open", "high", "low", "close").is_not_null()))
    once = priced.unique("time", keep="last", maintain_order=True)
    account.counts["came without any price, and were left out"] += len(table) - len(priced)
    account.counts["came for a day that has another; the last was taken"] += len(priced) - len(once)
    return once.sort("time")


def _with(
    rows: pl.DataFrame, name: str, events: Sequence[dict[str, Any]], zone: str, total: pl.Expr, none: float
) -> pl.DataFrame:
    """Rows with a column of events, each on its day or on the next that has a row."""
    if not events or rows.is_empty():
        return rows.with_columns(pl.lit(none).alias(name))
    table = pl.DataFrame(
        {"time": _days([int(one["date"]) for one in events], zone), "amount": [float(one["amount"]) for one in events]}
    )
    on = table.sort("time").join_asof(
        rows.select(pl.col("time").alias("day")), left_on="time", right_on="day", strategy="forward"
    )
    sums = on.drop_nulls("day").group_by("day").agg(total.alias(name))
    return (
        rows.join(sums, left_on="time", right_on="day", how="left")
        .with_columns(pl.col(name).fill_null(none))
        .sort("time")
    )


def _settled_volume(rows: pl.DataFrame, *held: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Rows, and whether the symbol has "some" volume or "none": that is what 0 on every day means at Yahoo."""
    if any((table["volume"].fill_null(0) > 0).any() for table in (rows, *held)):
        return rows, "some"
    return rows.with_columns(volume=pl.lit(None, dtype=pl.Float64)), "none"


def _rescaled(held: pl.DataFrame, rows: pl.DataFrame) -> bool:
    """Whether an answer is on another scale than what is held: other prices where the overlap starts.

    A split or dividend changes all before its day, so the first bar of the overlap shows it if any does.
    """
    first = held.join(rows, on="time", how="inner", suffix=" new").sort("time").head(1)
    changed = [((pl.col(f"{name} new") / pl.col(name)) - 1).abs() > SAME for name in ("close", "adjusted")]
    return first.filter(pl.any_horizontal(changed)).height > 0


@contextmanager
def _silent() -> Iterator[None]:
    """Without the lines that yfinance and its reader of consent pages log: what matters is raised."""
    loggers = [logging.getLogger(name) for name in ("yfinance", "bs4.dammit")]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled
