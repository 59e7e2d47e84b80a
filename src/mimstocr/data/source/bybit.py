"""Bars of the exchange Bybit by its public v5 interface: spot pairs and linear perpetuals, with a local store.

A bar is labelled by its start, UTC; `values[t]` of the panel is what was known at its end. A bar without a trade has
volume 0 and is not tradable. `vwap` is turnover / volume. Perpetuals pay funding, which is not in their prices.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from itertools import pairwise
from typing import Any

import polars as pl

from mimstocr.data.online import (
    FEEDS,
    SKEW,
    STEPS,
    Account,
    Asked,
    NoAnswerError,
    Pace,
    Page,
    PassingError,
    UnknownSymbolError,
    panel_online,
    symbols_of_place,
    when,
)
from mimstocr.data.panel import Panel
from mimstocr.data.settings import DataSettings
from mimstocr.data.sources import SOURCES
from mimstocr.data.store import History
from mimstocr.errors import ConfigError, DataError

CATEGORIES = ("spot", "linear")
CODES = {"1d": "D", "4h": "240", "1h": "60"}
"""Interval to what the interface calls it."""
LIMIT = 1000
"""Most bars of one answer."""
OVERLAP = 5
"""Bars fetched again before what is missing."""
ORIGIN = int(datetime(2018, 1, 1, tzinfo=UTC).timestamp() * 1000)
"""Before the exchange's first trade."""
SPACING = 0.05
"""Seconds between two requests: a sixth of the rate that is allowed to one address."""
COLUMNS = ("open", "high", "low", "close", "volume", "turnover")
TOO_OFTEN = 10006
PASSING = (10000, 10016)
"""Codes of the exchange's own errors: a timeout, an internal error."""


@SOURCES.register("bybit")
def load(place: str, settings: DataSettings) -> Panel:
    """Crypto bars of the exchange Bybit (bybit:BTCUSDT,ETHUSDT or bybit:linear/...), kept in a local store."""
    return panel_online(feed(place, settings), settings)


@FEEDS.register("bybit")
def feed(place: str, settings: DataSettings) -> Bybit:
    """place: symbols or @FILE, after `spot/` or `linear/`; spot without either."""
    head, slash, rest = place.partition("/")
    named = bool(slash) and not place.startswith("@")
    category, symbols = (head, rest) if named else ("spot", place)
    if category not in CATEGORIES:
        raise ConfigError(f"{settings.source}: unknown category {category!r}; known: {', '.join(CATEGORIES)}")
    return Bybit(category, settings.interval, symbols_of_place(symbols, settings))


def client() -> Any:
    """The HTTP client of pybit, which tries once and reports: trying again is for `Pace`."""
    try:
        http = import_module("pybit.unified_trading").HTTP
    except ModuleNotFoundError:
        raise ConfigError(
            "bybit: needs the package pybit, which is not installed; pip install 'mimstocr[crypto]'"
        ) from None
    # a set that is empty would be replaced by codes on which pybit sleeps by itself
    return http(timeout=20, max_retries=1, force_retry=False, retry_codes={None})


@dataclass
class Bybit:
    """The feed of one category and interval."""

    category: str
    interval: str
    symbols: list[str]
    pace: Pace = field(default_factory=lambda: Pace(SPACING))
    clock: Callable[[], float] = time.time
    name = "bybit"
    fields = ("open", "high", "low", "close", "volume", "vwap")
    _client: Any = field(default=None, init=False)
    _ahead: int | None = field(default=None, init=False)
    """Milliseconds by which the server's clock is ahead of ours; none: not asked yet."""

    @property
    def step(self) -> int:
        """Milliseconds of a bar."""
        return STEPS[self.interval]

    def pages(self, symbol: str, held: History | None, asked: Asked, account: Account) -> Iterator[Page]:
        """See `Feed`: the tail after what is held oldest first, the head before it newest first."""
        start = ORIGIN if asked.start is None else max(asked.start, ORIGIN)
        if held is not None and asked.stop is not None and held.covers(start, asked.stop):
            return
        stop = self._finished() if asked.stop is None else min(asked.stop, self._finished())
        try:
            if held is not None:
                yield from self._tail(symbol, held, stop, account)
            yield from self._head(symbol, held, start, stop, account)
        except UnknownSymbolError:
            if held is None or held.rows.is_empty():
                raise
            last = when(held.rows["time"][-1], self.interval)
            account.notes.append(f"no longer known to Bybit {self.category}: its history is kept, up to {last}")

    def bars(self, held: History, /) -> pl.DataFrame:
        """As they are stored."""
        return held.rows

    def notes(self) -> list[str]:
        """A local clock that is off."""
        if self._ahead is None or abs(self._ahead) < SKEW:
            return []
        side = "behind" if self._ahead > 0 else "ahead of"
        minutes = abs(self._ahead) / 60_000
        return [f"this machine's clock is {minutes:.0f} minutes {side} Bybit's, whose time decides what is finished"]

    def year(self, _abouts: Sequence[dict[str, str]], /) -> int:
        """Crypto trades on every day of the year."""
        return 365 * STEPS["1d"] // self.step

    def remarks(self, _abouts: dict[str, dict[str, str]], /) -> list[str]:
        """What is not in the prices."""
        label = "UTC days" if self.interval == "1d" else f"bars of {self.interval}, labelled by their start, UTC"
        told = [f"Bybit {self.category}, {label}; vwap is turnover / volume"]
        return [*told, "funding of perpetuals is not in their prices"] if self.category == "linear" else told

    # ---- the two ends of the history

    def _tail(self, symbol: str, held: History, stop: int, account: Account) -> Iterator[Page]:
        if stop <= held.header.stop:
            return
        at = max(held.header.start, held.header.stop - OVERLAP * self.step)
        yield from self._forward(symbol, at, stop, account)

    def _head(self, symbol: str, held: History | None, start: int, stop: int, account: Account) -> Iterator[Page]:
        """Before what is held; all of it where nothing is."""
        if held is None and start >= stop:
            return
        if held is not None and held.header.start <= start:
            return
        listed = max(start, self._listed(symbol))
        if held is None:
            yield Page(_table([]), start, min(listed, stop))
            yield from self._forward(symbol, listed, stop, account)
            return
        # what is held may be shorter than the overlap, and nothing after it may be finished
        end = min(held.header.start + OVERLAP * self.step, max(held.header.stop, stop))
        while end > listed:
            at = max(listed, end - LIMIT * self.step)
            yield self._page(symbol, at, end, account)
            end = at
        # before the first bar there is nothing to ask for
        yield Page(_table([]), start, held.header.start)

    def _forward(self, symbol: str, start: int, stop: int, account: Account) -> Iterator[Page]:
        for at in range(start, stop, LIMIT * self.step):
            yield self._page(symbol, at, min(at + LIMIT * self.step, stop), account)

    def _page(self, symbol: str, at: int, end: int, account: Account) -> Page:
        """The bars that start in [at, end), at most `LIMIT`: whichever end an answer is cut at, none is lost."""
        rows = self._bars(symbol, self.interval, at, end)
        times = [int(row[0]) for row in rows]
        kept = [row for row, start in zip(rows, times, strict=True) if at <= start < end and start % self.step == 0]
        table = _table(kept)
        account.counts["came that were not asked for, and were left out"] += len(rows) - len(kept)
        account.counts["came twice in an answer; the last of each was taken"] += len(kept) - len(table)
        account.counts["came out of order, and were sorted"] += sum(after > before for before, after in pairwise(times))
        return Page(table, at, end)

    def _listed(self, symbol: str) -> int:
        """Start of the month of the first bar, by a request for months. Raises DataError where there is none."""
        months = [int(row[0]) for row in self._bars(symbol, "months", ORIGIN, self._finished())]
        if not months:
            raise DataError(f"Bybit {self.category} lists it, but has no bars of it")
        return min(months)

    # ---- requests

    def _finished(self) -> int:
        """The start of the bar that is not finished by the server's clock."""
        if self._ahead is None:
            told = self._ask("get_server_time")
            self._ahead = int(told["timeNano"]) // 1_000_000 - int(self.clock() * 1000)
        now = int(self.clock() * 1000) + self._ahead
        return now - now % self.step

    def _bars(self, symbol: str, interval: str, at: int, end: int) -> list[list[float]]:
        """Start and `COLUMNS` of each bar, in the order of the answer."""
        told = self._ask(
            "get_kline",
            category=self.category,
            symbol=symbol,
            interval=CODES.get(interval, "M"),
            start=at,
            end=end - 1,
            limit=LIMIT,
        )
        try:
            # milliseconds are exact in a float
            return [[float(row[place]) for place in range(1 + len(COLUMNS))] for row in told["list"]]
        except (KeyError, IndexError, TypeError, ValueError):
            raise DataError(f"Bybit gave bars of another form than is known: {str(told)[:100]}") from None

    def _ask(self, method: str, **query: Any) -> dict[str, Any]:
        """The result of a request. Raises NoAnswerError, UnknownSymbolError, or DataError on another refusal."""
        if self._client is None:
            self._client = client()
        errors = import_module("pybit.exceptions")
        network = import_module("requests.exceptions")

        def request() -> dict[str, Any]:
            try:
                answer = getattr(self._client, method)(**query)
            except network.RequestException as error:
                raise PassingError(f"no connection to Bybit ({type(error).__name__})") from None
            except errors.FailedRequestError as error:
                raise self._failed(error) from None
            except errors.InvalidRequestError as error:
                raise self._refused(error, query) from None
            except KeyError:  # pybit's own, for JSON without a code
                raise PassingError("Bybit gave an answer that cannot be read") from None
            result: dict[str, Any] = answer["result"]
            return result

        return self.pace.call(request)

    def _failed(self, error: Any) -> Exception:
        """What a failed HTTP request means."""
        if error.status_code == 403:
            return PassingError(
                "Bybit refuses this address (HTTP 403): too many requests, or a country it does not serve",
                self._reset(error.resp_headers),
            )
        if error.status_code == 429:
            return PassingError("Bybit says that it was asked too often (HTTP 429)", self._reset(error.resp_headers))
        if error.status_code == 409:  # pybit's own, for an answer that is no JSON
            return PassingError("Bybit gave an answer that cannot be read")
        if error.status_code >= 500:
            return PassingError(f"Bybit has an error of its own (HTTP {error.status_code})")
        return NoAnswerError(f"Bybit refuses the request (HTTP {error.status_code})")

    def _refused(self, error: Any, query: dict[str, Any]) -> Exception:
        """What a code of the exchange means."""
        if error.status_code == TOO_OFTEN:
            return PassingError("Bybit says that it was asked too often (code 10006)", self._reset(error.resp_headers))
        if error.status_code in PASSING:
            return PassingError(f"Bybit has an error of its own (code {error.status_code}: {error.message})")
        if "symbol" in query and "symbol" in error.message.lower():
            return UnknownSymbolError(f"unknown to Bybit {self.category}{self._hint(query['symbol'])}")
        return DataError(f"Bybit refuses the request (code {error.status_code}: {error.message})")

    def _reset(self, headers: Any) -> float:
        """Seconds until the rate limit is lifted, by the headers of an answer; 0 where they do not say."""
        if told := (headers or {}).get("X-Bapi-Limit-Reset-Timestamp"):
            return max(0.0, (int(told) - self.clock() * 1000 - (self._ahead or 0)) / 1000)
        after = str((headers or {}).get("Retry-After", ""))
        return float(after) if after.isdecimal() else 0.0  # else a date, or nothing

    def _hint(self, symbol: str) -> str:
        try:
            listed = self._ask("get_instruments_info", category=self.category, limit=LIMIT)["list"]
        except DataError:
            return ""
        near = difflib.get_close_matches(symbol, [str(one["symbol"]) for one in listed], n=3, cutoff=0.6)
        return f"; did you mean {' or '.join(near)}?" if near else ""


def _table(rows: list[list[float]]) -> pl.DataFrame:
    """Bars as the store has them; of a bar that came twice the last."""
    table = pl.DataFrame(rows, schema=dict.fromkeys(("time", *COLUMNS), pl.Float64), orient="row")
    table = table.with_columns(pl.col("time").cast(pl.Int64))
    vwap = pl.when(pl.col("volume") > 0).then(pl.col("turnover") / pl.col("volume"))
    return table.unique("time", keep="last").sort("time").with_columns(vwap=vwap)
