"""What online sources share: patience with a service, the loop that updates the store, a panel of what is stored.

A *feed* knows how one service is asked and read. It yields pages of bars; the loop here puts them into the store page
by page, so that a stop at any moment loses little and the next call goes on. Only what is missing is fetched, with a
few bars of overlap in which revisions show. A bar that is not finished by the service's own clock is never stored.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimstocr.components import Registry, near
from mimstocr.data.panel import Days, Matrix, Panel, few, repeated
from mimstocr.data.settings import DataSettings
from mimstocr.data.store import Header, History, Shelf, Store, merged
from mimstocr.data.tables import Grid, panel_of
from mimstocr.errors import ConfigError, DataError

T = TypeVar("T")

DAY = 86_400_000
"""Milliseconds."""
STEPS = {"1d": DAY, "4h": DAY // 6, "1h": DAY // 24}
"""Interval to milliseconds."""
SAVE_EVERY = 5
"""Pages between two writes of a symbol's file: the most that a kill can lose."""
FAILURES = 2
"""Symbols in a row without an answer, after which the others are not asked for."""
SKEW = 120_000
"""Milliseconds by which the local clock may be off before it is said."""
QUIET = 30
"""Days without a bar before the end of the data, after which a symbol is said to end early."""


class PassingError(Exception):
    """A request failed in a way that may pass: no connection, a server's own error, a rate limit."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait
        """Seconds that the service asks to wait; 0: it does not say."""


class NoAnswerError(DataError):
    """A service gave no usable answer, however often it was asked."""


class UnknownSymbolError(DataError):
    """The service has no such symbol."""


@dataclass
class Pace:
    """When a service is asked: not too often, and again after an error that may pass."""

    spacing: float
    """Seconds between two requests."""
    tries: int = 5
    """Requests before giving up."""
    first: float = 1.0
    """Seconds before the second try, doubled for each one after; of each between a half and all are waited."""
    longest: float = 60.0
    """Seconds; a service that asks for more is not waited for."""
    sleep: Callable[[float], None] = field(default=lambda seconds: sleep(seconds))
    clock: Callable[[], float] = monotonic
    random: Random = field(default_factory=lambda: Random(os.getpid()))
    _last: float = field(default=-np.inf, init=False)

    def call(self, request: Callable[[], T]) -> T:
        """What `request` gives; tried again on PassingError. Raises NoAnswerError after the last try."""
        for number in range(1, self.tries + 1):
            self._space()
            try:
                return request()
            except PassingError as problem:
                if problem.wait > self.longest:
                    raise NoAnswerError(f"{problem}; it asks to wait {problem.wait:.0f} s") from None
                if number == self.tries:
                    raise NoAnswerError(f"{problem} ({self.tries} tries)") from None
                backed_off = min(self.longest, self.first * 2 ** (number - 1)) * self.random.uniform(0.5, 1)
                self.sleep(max(backed_off, problem.wait))
        raise ValueError(f"tries: expected 1 or more, got {self.tries}")

    def _space(self) -> None:
        wait = self._last + self.spacing - self.clock()
        if wait > 0:
            self.sleep(wait)
        self._last = self.clock()


class Asked(NamedTuple):
    """The span that is wanted, milliseconds; none: from the first bar there is, to the last finished one."""

    start: int | None
    stop: int | None


class Page(NamedTuple):
    """Bars that a feed got, sorted and unique by time."""

    rows: pl.DataFrame
    start: int
    """Milliseconds; with `stop` the span that the store covers with this page."""
    stop: int
    anew: bool = False
    """Whether the page is all there is, in place of what is stored."""
    about: dict[str, str] = {}
    """What the service says of the symbol."""


@dataclass
class Account:
    """What an update did for one symbol."""

    symbol: str
    rows: int = 0
    first: int | None = None
    """Start of the first bar stored, milliseconds; likewise the last."""
    last: int | None = None
    new: int = 0
    revised: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    """What was put right in the answers, to how often."""
    notes: list[str] = field(default_factory=list)
    failure: str = ""
    """Why it could not be fetched."""
    unanswered: bool = False
    """Whether it failed for want of an answer, so that the same command may go on later."""


class Moment(NamedTuple):
    """How far an update is."""

    symbol: str
    number: int
    """Of the symbol, from 1."""
    symbols: int
    rows: int
    """Rows of the symbol in the store by now."""
    through: int
    """Milliseconds up to which it is covered."""


Watcher = Callable[[Moment], None]


class Feed(Protocol):
    """How one service is asked."""

    name: str
    """The scheme of its addresses."""
    category: str
    """Which of the service's markets."""
    interval: str
    symbols: list[str]
    fields: Sequence[str]
    """What `bars` gives: fields of the panel, or `adjusted`."""

    def pages(self, symbol: str, held: History | None, asked: Asked, account: Account) -> Iterator[Page]:
        """The bars that `held` lacks, oldest first after it, newest first before it; notes go to `account`.

        Raises UnknownSymbolError, NoAnswerError, or another DataError that concerns this symbol alone.
        """

    def bars(self, held: History, /) -> pl.DataFrame:
        """`time` and `fields` of what is stored of a symbol."""

    def notes(self) -> list[str]:
        """What was seen of the service itself."""

    def year(self, abouts: Sequence[dict[str, str]], /) -> int | None:
        """Bars a year, for annualising; none: as for stocks. abouts: what is known of each symbol."""

    def remarks(self, abouts: dict[str, dict[str, str]], /) -> list[str]:
        """What a reader of results must know of these symbols."""


FEEDS: Registry[Callable[[str, DataSettings], Feed]] = Registry("feed", "mimstocr.data.source")
"""Scheme to what makes its feed of (place, settings)."""


# ---- the update of the store


def update(feed: Feed, settings: DataSettings, watcher: Watcher | None = None) -> list[Account]:
    """Fetch what the store lacks of the feed's symbols; gives an account for each, failures included.

    watcher: called after each page. A symbol that fails does not keep the others from being fetched, but after
    `FAILURES` in a row without an answer the rest is left. Raises DataError when the store cannot be read or written.
    """
    store = Store(settings.store)
    asked = _asked(settings)
    accounts: list[Account] = []
    unanswered = 0
    for number, symbol in enumerate(feed.symbols, start=1):
        account = Account(symbol)
        accounts.append(account)
        if unanswered >= FAILURES:
            account.failure, account.unanswered = "not asked for", True
            _count(account, shelf_of(store, feed, symbol).read())
            continue

        def tell(history: History, symbol: str = symbol, number: int = number) -> None:
            if watcher is not None:
                watcher(Moment(symbol, number, len(feed.symbols), len(history.rows), history.header.stop))

        unanswered = unanswered + 1 if _fetch(feed, shelf_of(store, feed, symbol), asked, account, tell) else 0
    return accounts


def shelf_of(store: Store, feed: Feed, symbol: str) -> Shelf:
    """The file of a symbol of a feed."""
    return store.shelf(feed.name, feed.category, feed.interval, symbol)


def check(accounts: Sequence[Account], feed: Feed, settings: DataSettings) -> None:
    """Raises one DataError that names every symbol that could not be fetched, and why."""
    failed = [account for account in accounts if account.failure]
    if not failed:
        return
    reasons: dict[str, list[str]] = {}
    for account in failed:
        reasons.setdefault(account.failure, []).append(account.symbol)
    told = "; ".join(f"{few(symbols)}: {reason}" for reason, symbols in reasons.items())
    text = f"{settings.source}: {len(failed)} of {len(accounts)} symbols could not be fetched. {told}."
    if any(account.unanswered for account in failed):
        text += f" What was fetched is kept in {Store(settings.store).root}, and the same command goes on from there."
        stored = [account for account in accounts if account.last is not None]
        if len(stored) == len(accounts):
            upto = min(account.last for account in stored if account.last is not None)
            text += f" data.refresh=false uses the store as it is, with every symbol up to {when(upto, feed.interval)}"
            text += " or its end." if len(stored) > 1 else "."
        elif stored:
            text += f" The store has {few([account.symbol for account in stored])}, for data.refresh=false."
    raise DataError(text)


def when(time: int, interval: str) -> str:
    """A time in words: the day, and of intraday bars the minute, UTC."""
    moment = datetime.fromtimestamp(time / 1000, UTC)
    return moment.strftime("%Y-%m-%d" if interval == "1d" else "%Y-%m-%d %H:%M")


def _fetch(feed: Feed, shelf: Shelf, asked: Asked, account: Account, tell: Callable[[History], None]) -> bool:
    """Fetch one symbol; whether there was no answer."""
    with shelf.lock():
        held, waiting = shelf.read(), 0
        _count(account, held)
        try:
            for page in feed.pages(shelf.symbol, held, asked, account):
                held, waiting = _added(held, page, feed, account), waiting + 1
                if waiting == SAVE_EVERY:
                    shelf.write(held)
                    waiting = 0
                tell(held)
        except DataError as problem:
            account.failure = str(problem)
            account.unanswered = isinstance(problem, NoAnswerError)
        finally:  # a stop, too, keeps the pages that came
            if held is not None and waiting:
                shelf.write(held)
        _count(account, held)
        if held is not None:
            tell(held)
    return account.unanswered


def _added(held: History | None, page: Page, feed: Feed, account: Account) -> History:
    if held is None:
        account.new += len(page.rows)
        return History(_header(feed, account.symbol, page), page.rows)
    both = merged(held.rows, page.rows)
    account.new += both.new
    account.revised += both.revised
    if page.anew:
        return History(_header(feed, account.symbol, page), page.rows)
    grown = held.extended(both.rows, page.start, page.stop)
    if page.about:
        grown = grown._replace(header=grown.header.model_copy(update={"about": page.about}))
    return grown


def _header(feed: Feed, symbol: str, page: Page) -> Header:
    return Header(
        source=feed.name,
        category=feed.category,
        interval=feed.interval,
        symbol=symbol,
        start=page.start,
        stop=page.stop,
        about=page.about,
    )


def _count(account: Account, history: History | None) -> None:
    if history is None or history.rows.is_empty():
        return
    account.rows = len(history.rows)
    account.first, account.last = history.rows["time"][0], history.rows["time"][-1]


def _asked(settings: DataSettings) -> Asked:
    start = None if settings.start is None else midnight(settings.start)
    return Asked(start, None if settings.end is None else midnight(settings.end) + DAY)


def midnight(day: date) -> int:
    """Milliseconds at which a day starts, UTC."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


# ---- a panel of what is stored


def panel_online(feed: Feed, settings: DataSettings) -> Panel:
    """The Panel of a feed's symbols: the store brought up to date first, unless `settings.refresh` is false.

    Raises DataError when a symbol could not be fetched, is not in the store, or has no bar in the days asked for.
    """
    if settings.columns:
        raise ConfigError(f"data.columns is for your own tables; leave it out with {feed.name}")
    notes: list[str] = []
    if settings.refresh:
        accounts = update(feed, settings)
        check(accounts, feed, settings)
        notes = [*feed.notes(), *told(accounts)]
    histories = _stored(feed, settings)
    grid = _grid(histories, feed, settings)
    if not settings.refresh:
        ends = [int(history.rows["time"][-1]) for history in histories.values() if len(history.rows)]
        upto = when(max(ends), feed.interval)
        notes.append(f"the store as it was, up to {upto}; nothing was asked of the service (refresh=false)")
    abouts = {symbol: history.header.about for symbol, history in histories.items()}
    grid.notes += [*notes, *feed.remarks(abouts)]
    year = settings.days_per_year or feed.year(list(abouts.values()))
    # the days are cut already, with the hours of the last one
    settled = {
        "start": None,
        "end": None,
        "days_per_year": year,
        "benchmark": (settings.benchmark or "").upper() or None,
    }
    return panel_of(grid, settings.model_copy(update=settled), settings.source)


def told(accounts: Sequence[Account]) -> list[str]:
    """The notes of an update; the same note of several symbols once."""
    symbols: dict[str, list[str]] = {}
    for account in accounts:
        for note in account.notes:
            symbols.setdefault(note, []).append(account.symbol)
    notes = [f"{few(names)}: {note}" for note, names in symbols.items()]
    counts = sum((account.counts for account in accounts), Counter[str]())
    notes += [f"{number} bars {what}" for what, number in counts.items() if number]
    if revised := sum(account.revised for account in accounts):
        notes.append(f"{revised} bars came with other values than the store had, and were replaced")
    return notes


def _stored(feed: Feed, settings: DataSettings) -> dict[str, History]:
    store = Store(settings.store)
    found = {symbol: shelf_of(store, feed, symbol).read() for symbol in sorted(feed.symbols)}
    histories = {symbol: held for symbol, held in found.items() if held is not None}
    if missing := [symbol for symbol in feed.symbols if symbol not in histories]:
        raise DataError(
            f"{settings.source}: the store {store.root} has no {feed.interval} bars of {few(missing)}; "
            f"`mimstocr data update {settings.source} data.interval={feed.interval} data.store={store.root}` "
            "fetches them"
        )
    return histories


def _grid(histories: dict[str, History], feed: Feed, settings: DataSettings) -> Grid:
    """Bars by time and symbol, of the days asked for; no symbol is taken for longer than its bars go."""
    asked = _asked(settings)
    rows = {symbol: between(feed.bars(history), *asked) for symbol, history in histories.items()}
    times = np.unique(np.concatenate([table["time"].to_numpy() for table in rows.values()]))
    if len(times) == 0:
        ends = [
            int(history.rows["time"][end]) for history in histories.values() if len(history.rows) for end in (0, -1)
        ]
        there = (
            f"goes from {when(min(ends), feed.interval)} to {when(max(ends), feed.interval)}" if ends else "is empty"
        )
        raise DataError(
            f"{settings.source}: no bar between {settings.start or 'the start'} and {settings.end or 'the end'}; "
            f"the store {there}"
        )
    fields: dict[str, Matrix] = {
        name: np.full((len(times), len(rows)), np.nan, dtype=np.float32) for name in feed.fields
    }
    for place, table in enumerate(rows.values()):
        at = np.searchsorted(times, table["time"].to_numpy())
        for name, matrix in fields.items():
            matrix[at, place] = table[name].to_numpy()
    known = {name: matrix for name, matrix in fields.items() if not np.isnan(matrix).all()}
    grid = Grid(_dates(times, feed.interval), list(rows), known)
    early = {symbol: int(table["time"][-1]) for symbol, table in rows.items() if len(table)}
    if ended := [symbol for symbol, last in early.items() if last < times[-1] - QUIET * DAY]:
        told = [f"{symbol} on {when(early[symbol], '1d')}" for symbol in ended]
        grid.notes.append(f"{len(ended)} symbols end early (delisted, or renamed): {few(told)}")
    return grid


def between(rows: pl.DataFrame, start: int | None, stop: int | None) -> pl.DataFrame:
    """The rows that start in [start, stop), milliseconds; none: without that end."""
    if start is not None:
        rows = rows.filter(pl.col("time") >= start)
    return rows if stop is None else rows.filter(pl.col("time") < stop)


def _dates(times: NDArray[np.int64], interval: str) -> Days:
    dates: Days = times.astype("datetime64[ms]")
    return dates.astype("datetime64[D]") if interval == "1d" else dates


# ---- addresses


def symbols_of_place(place: str, settings: DataSettings) -> list[str]:
    """The symbols of an address: separated by commas, or `@FILE` with one a line (# starts a comment).

    In capitals. The benchmark of the settings is among them. Raises DataError on none, on one that comes twice, or on
    a file that cannot be read.
    """
    if place.startswith("@"):
        try:
            lines = Path(place[1:]).expanduser().read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            raise DataError(
                f"{settings.source}: the list of symbols {place[1:]} cannot be read ({error.strerror})"
            ) from None
        except UnicodeDecodeError:
            raise DataError(
                f"{settings.source}: the list of symbols {place[1:]} is not text in UTF-8; save it as that"
            ) from None
        names = [line.partition("#")[0] for line in lines]
    else:
        names = place.split(",")
    symbols = [name.strip().upper() for name in names if name.strip()]
    if not symbols:
        raise DataError(f"{settings.source}: expected symbols separated by commas, or @FILE with one a line, got none")
    if twice := repeated(symbols):
        raise DataError(f"{settings.source}: symbol {few(twice)} comes twice; name each once")
    if settings.benchmark is not None and settings.benchmark.upper() not in symbols:
        symbols.append(settings.benchmark.upper())
    return symbols


def feed_of(settings: DataSettings) -> Feed:
    """The feed at `settings.source`. Raises DataError when the address is not that of an online source."""
    scheme, colon, place = settings.source.partition(":")
    if not colon or not place or scheme not in FEEDS.names():
        raise DataError(
            f"expected the address of an online source, such as yahoo:AAPL,MSFT, got {settings.source!r}; "
            f"{near(scheme, FEEDS.names())}"
        )
    return FEEDS.get(scheme)(place, settings)
