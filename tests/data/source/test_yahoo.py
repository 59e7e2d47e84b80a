"""The real package yfinance against a server on this machine.

The server speaks the format that the parsers of yfinance read (chart v8, crumb, cookie); it was not recorded from
Yahoo. Prices are random; the scale that Yahoo gives them after splits and dividends is worked out here by loops.
"""

import json
import logging
import threading
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

pytest.importorskip("yfinance", reason="needs the extra yahoo (yfinance)")

from curl_cffi.requests import Session
from yfinance import cache
from yfinance.data import SingletonMeta, YfData

from mimstocr.cli.main import invoke
from mimstocr.config import write_yaml
from mimstocr.data import DataSettings, load_panel
from mimstocr.data import online as shared
from mimstocr.data.online import check, update
from mimstocr.data.panel import days_of, traded_money
from mimstocr.data.source import yahoo
from mimstocr.data.store import Store
from mimstocr.errors import ConfigError, DataError

NEW_YORK = "America/New_York"


def busdays(first, number):
    return np.busday_offset(first, np.arange(number), roll="forward").astype(object).tolist()


class Listing:
    """One symbol: prices as they were traded, and what happened to the shares."""

    def __init__(
        self, days, seed=0, zone=NEW_YORK, kind="EQUITY", currency="USD", hours=((9, 30), (16, 0)), volume=True
    ):
        rng = np.random.default_rng(seed)
        self.days, self.zone, self.kind, self.currency, self.hours = list(days), zone, kind, currency, hours
        close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, len(days))))
        self.close = dict(zip(days, close.tolist(), strict=True))
        self.volume = {day: int(rng.integers(1_000, 9_000)) if volume else 0 for day in days}
        self.splits = {}  # day -> new shares for an old one
        self.dividends = {}  # day -> money for a share of that day
        self.empty = set()  # days that come without prices
        self.extra = []  # rows (seconds, row) that come besides

    def stamp(self, day, when):
        return int(datetime(day.year, day.month, day.day, *when, tzinfo=ZoneInfo(self.zone)).timestamp())

    def seen(self, today):
        """{day: row} on the scale that holds on `today`: open, high, low, close, volume, adjusted."""
        rows = {}
        for day in self.days:
            if day > today:
                continue
            shares = 1.0
            for other, ratio in self.splits.items():
                if day < other <= today:
                    shares *= ratio
            kept = 1.0
            for other, paid in self.dividends.items():
                if day < other <= today:
                    before = max(earlier for earlier in self.days if earlier < other)
                    kept *= 1 - paid / self.close[before]
            close = self.close[day] / shares
            rows[day] = [close * 0.99, close * 1.01, close * 0.98, close, self.volume[day] * shares, close * kept]
        return rows


class Service:
    """What the server knows, what it was asked, and how it misbehaves."""

    def __init__(self):
        self.now = datetime(2024, 6, 3, 22, 0, tzinfo=UTC)  # a Monday, two hours after the close in New York
        self.listings = {}
        self.asked = []  # (symbol, first day, query) of charts
        self.faults = []  # for the next charts: None, or (status, body)
        self.crumb = (200, "crumb")
        self.failing = {}  # symbol -> what always happens instead

    def chart(self, symbol, query):
        if symbol not in self.listings:
            return 404, failure("Not Found", "No data found, symbol may be delisted")
        listing = self.listings[symbol]
        first, last = int(query["period1"]), int(query["period2"])
        today = self.now.astimezone(ZoneInfo(listing.zone)).date()
        rows = [(listing.stamp(day, listing.hours[0]), row) for day, row in listing.seen(today).items()]
        rows = [
            (
                stamp,
                [None] * 6 if datetime.fromtimestamp(stamp, ZoneInfo(listing.zone)).date() in listing.empty else row,
            )
            for stamp, row in [*rows, *listing.extra]
            if first <= stamp < last
        ]
        period = {"start": listing.stamp(today, listing.hours[0]), "end": listing.stamp(today, listing.hours[1])}
        meta = {
            "symbol": symbol,
            "currency": listing.currency,
            "instrumentType": listing.kind,
            "exchangeTimezoneName": listing.zone,
            "regularMarketTime": int(self.now.timestamp()),
            "currentTradingPeriod": {"pre": period, "regular": period, "post": period},
        }
        events = {"dividends": {}, "splits": {}}
        for day, ratio in listing.splits.items():
            stamp = listing.stamp(day, listing.hours[0])
            if first <= stamp < last and day <= today:
                events["splits"][str(stamp)] = {
                    "date": stamp, "numerator": ratio, "denominator": 1, "splitRatio": f"{ratio}:1",
                }  # fmt: skip
        for day, paid in listing.dividends.items():
            stamp = listing.stamp(day, listing.hours[0])
            shares = np.prod([ratio for other, ratio in listing.splits.items() if day < other <= today])
            if first <= stamp < last and day <= today:
                events["dividends"][str(stamp)] = {"amount": paid / shares, "date": stamp}
        result = {"meta": meta, "indicators": {"quote": [{}], "adjclose": [{}]}}
        if rows:
            result["timestamp"] = [stamp for stamp, _ in rows]
            names = ("open", "high", "low", "close", "volume")
            quote = {name: [row[place] for _, row in rows] for place, name in enumerate(names)}
            result["indicators"] = {"quote": [quote], "adjclose": [{"adjclose": [row[5] for _, row in rows]}]}
            result["events"] = {name: found for name, found in events.items() if found}
        return 200, {"chart": {"result": [result], "error": None}}


def failure(code, description):
    return {"chart": {"result": None, "error": {"code": code, "description": description}}}


@contextmanager
def serving(handler):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def service(monkeypatch, tmp_path):
    known = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if parts.path == "/v1/test/getcrumb":
                return self.give(*known.crumb)
            if not parts.path.startswith("/v8/finance/chart/"):
                return self.give(404, "<html></html>")
            symbol = unquote(parts.path.rpartition("/")[2])
            known.asked.append((symbol, datetime.fromtimestamp(int(query["period1"]), UTC).date(), query))
            fault = known.failing.get(symbol) or (known.faults.pop(0) if known.faults else None)
            if fault == "close":
                return self.connection.close()
            status, body = fault or known.chart(symbol, query)
            return self.give(status, body if isinstance(body, str) else json.dumps(body))

        def give(self, status, text):
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def date_time_string(self, timestamp=None):
            return format_datetime(known.now, usegmt=True)

        def log_message(self, *arguments):
            pass

    class Redirected(Session):
        """Whatever yfinance asks of Yahoo goes to the server of the test."""

        def request(self, method, url, **options):
            parts = urlsplit(url)
            assert parts.hostname.endswith("yahoo.com"), url
            return super().request(method, f"http://127.0.0.1:{known.port}{parts.path or '/'}", **options)

    def forget():
        SingletonMeta._instances.pop(YfData, None)
        cache._CookieCacheManager._Cookie_cache = None
        cache._CookieDBManager.close_db()
        cache._CookieDBManager._db = None

    with serving(Handler) as known.port:
        forget()
        session = Redirected(impersonate="chrome")
        YfData(session=session)
        known.slept = []
        monkeypatch.setattr(shared, "sleep", known.slept.append)
        monkeypatch.setenv("NO_PROXY", "*")
        known.store = tmp_path / "store"
        yield known
        session.close()
        forget()


def asking(service, place, **settings):
    return DataSettings(source=f"yahoo:{place}", **{"store": service.store, **settings})


def feed_for(service, settings):
    feed = yahoo.feed(settings.source.partition(":")[2], settings)
    feed.clock = lambda: service.now.timestamp()
    return feed


def fetch(service, place="AAPL", **settings):
    settings = asking(service, place, **settings)
    feed = feed_for(service, settings)
    accounts = update(feed, settings)
    check(accounts, feed, settings)
    return accounts


def stored(service, symbol="AAPL", store=None):
    return Store(store or service.store).shelf("yahoo", "prices", "1d", symbol).read()


def days_stored(service, symbol="AAPL"):
    return stored(service, symbol).rows["time"].cast(pl.Datetime("ms")).dt.date().to_list()


def holds(history, rows):
    """Whether the store holds exactly these days on this scale."""
    times = [int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000) for day in sorted(rows)]
    assert history.rows["time"].to_list() == times
    for place, name in enumerate(("open", "high", "low", "close", "volume", "adjusted")):
        np.testing.assert_allclose(
            history.rows[name].to_numpy(), [rows[day][place] for day in sorted(rows)], rtol=1e-12
        )
    return True


def eventful(number=140):
    """Days to 2024-06-03 with a split and two dividends."""
    days = [day for day in busdays("2023-11-01", 400) if day <= date(2024, 6, 28)]
    listing = Listing(days)
    listing.splits[date(2024, 2, 1)] = 4
    listing.dividends |= {date(2024, 1, 10): 1.5, date(2024, 4, 10): 0.5}
    return listing


def test_the_panel_is_adjusted_for_splits_and_dividends(service):
    service.listings["AAPL"] = listing = eventful()
    panel = load_panel(asking(service, "aapl"))
    today = date(2024, 6, 3)
    rows = listing.seen(today)
    assert days_of(panel).dtype == np.dtype("datetime64[D]")
    assert days_of(panel).astype(object).tolist() == sorted(rows)
    assert holds(stored(service), rows)
    table = np.array([rows[day] for day in sorted(rows)])
    ratio = table[:, 5] / table[:, 3]
    for name, place in (("open", 0), ("high", 1), ("low", 2), ("close", 3)):
        np.testing.assert_allclose(panel[name].values[:, 0], table[:, place] * ratio, rtol=1e-6)
    np.testing.assert_allclose(panel["volume"].values[:, 0], table[:, 4] / ratio, rtol=1e-6)
    paid = np.array([listing.close[day] for day in sorted(rows)])
    np.testing.assert_allclose(panel["factor"].values[:, 0], table[:, 5] / paid, rtol=1e-6)
    np.testing.assert_allclose(panel["close"].values[:, 0] / panel["factor"].values[:, 0], paid, rtol=1e-6)
    before = np.array([[listing.close[day]] for day in sorted(rows)])
    change = panel["close"].values[1:] / panel["close"].values[:-1]
    quiet = np.array([day not in listing.splits and day not in listing.dividends for day in sorted(rows)])[1:]
    np.testing.assert_allclose(change[quiet], (before[1:] / before[:-1])[quiet], rtol=1e-5)
    found = stored(service).rows.filter((pl.col("dividend") != 0) | (pl.col("split") != 1))
    assert found["split"].to_list() == [1, 4, 1]
    np.testing.assert_allclose(found["dividend"], [1.5 / 4, 0, 0.5])
    about = {"zone": NEW_YORK, "type": "EQUITY", "currency": "USD", "volume": "some", "shares": "1.0"}
    assert stored(service).header.about == about
    assert panel.attrs["days_per_year"] == 252
    assert panel["tradable"].values.all()


def test_no_later_split_is_in_the_price_of_a_day(service):
    service.listings["AAPL"] = listing = Listing(busdays("2024-01-02", 120))
    listing.dividends[date(2024, 3, 1)] = 0.5
    asked = asking(service, "AAPL", end=date(2024, 4, 30))
    days = [day for day in listing.days if day <= date(2024, 4, 30)]

    def told(panel):
        assert panel.attrs["real_shares"] is False
        paid = panel["close"].values[:, 0] / panel["factor"].values[:, 0]
        return paid.astype(float), traded_money(panel)[:, 0]

    paid, money = told(load_panel(asked))
    np.testing.assert_allclose(paid, [listing.close[day] for day in days], rtol=1e-6)
    np.testing.assert_allclose(money, [listing.close[day] * listing.volume[day] for day in days], rtol=1e-6)
    # one after the end that is asked for, one beyond the days of a later end, and one that makes shares fewer
    listing.splits |= {date(2024, 5, 6): 4, date(2024, 5, 18): 0.1, date(2024, 5, 28): 3}
    for end in (date(2024, 4, 30), date(2024, 5, 10), date(2024, 5, 24), None):
        for store in (service.store, service.store.with_name(f"anew {end}")):
            panel = load_panel(asked.model_copy(update={"end": end, "store": store}))
            for got, first in zip(told(panel), (paid, money), strict=True):
                np.testing.assert_allclose(got[: len(days)], first, rtol=1e-6)
    recent = [listing.close[day] for day in listing.days if day <= date(2024, 6, 3)]
    np.testing.assert_allclose(told(panel)[0], recent, rtol=1e-6)


@pytest.mark.parametrize(
    ("now", "last"),
    [
        (datetime(2024, 6, 3, 13, 0, tzinfo=UTC), date(2024, 5, 31)),  # Monday before the opening
        (datetime(2024, 6, 3, 18, 0, tzinfo=UTC), date(2024, 5, 31)),  # while it trades
        (datetime(2024, 6, 3, 20, 29, tzinfo=UTC), date(2024, 5, 31)),  # 29 minutes after the close
        (datetime(2024, 6, 3, 20, 30, tzinfo=UTC), date(2024, 6, 3)),
        (datetime(2024, 6, 4, 3, 59, tzinfo=UTC), date(2024, 6, 3)),  # still Monday in New York
        (datetime(2024, 6, 9, 12, 0, tzinfo=UTC), date(2024, 6, 7)),  # Sunday
    ],
)
def test_a_day_is_finished_by_the_servers_clock_and_the_exchanges_hours(service, now, last):
    service.listings["AAPL"] = eventful()
    service.now = now
    settings = asking(service, "AAPL")
    feed = yahoo.feed("AAPL", settings)
    feed.clock = lambda: now.timestamp() + 86_400  # our own is a day ahead
    check(update(feed, settings), feed, settings)
    assert days_stored(service)[-1] == last
    assert feed.notes() == [
        "this machine's clock is 1440 minutes ahead of Yahoo's, whose time decides what is finished"
    ]


def test_days_are_the_exchanges_own(service):
    days = [day for day in busdays("2024-02-26", 90) if day <= date(2024, 6, 3)]  # summer time starts in between
    around = [date(2024, 5, 20) + timedelta(days=place) for place in range(15)]
    service.listings["7203.T"] = Listing(days, 1, "Asia/Tokyo", currency="JPY", hours=((9, 0), (15, 0)))
    service.listings["AAPL"] = Listing(days, 2)
    service.listings["FPH.NZ"] = Listing(days, 5, "Pacific/Auckland", hours=((9, 30), (16, 45)))
    service.listings["EURUSD=X"] = Listing(days, 3, "Europe/London", "CURRENCY", hours=((0, 0), (23, 59)), volume=False)
    service.listings["BTC-USD"] = Listing(around, 4, "UTC", "CRYPTOCURRENCY", hours=((0, 0), (23, 59)))
    fetch(service, "7203.T,AAPL,EURUSD=X,BTC-USD,FPH.NZ")
    assert days_stored(service, "AAPL") == days
    assert days_stored(service, "FPH.NZ") == days  # which begin on the day before in UTC
    assert days_stored(service, "7203.T") == days  # 2024-06-04 has begun in Tokyo
    assert days_stored(service, "EURUSD=X") == days[:-1]  # trades until midnight
    assert days_stored(service, "BTC-USD") == around[:-1]
    notes = load_panel(asking(service, "7203.T,AAPL,EURUSD=X,BTC-USD", refresh=False)).attrs["notes"]
    assert "prices of 2 currencies: JPY, USD" in notes
    assert any(note.startswith("prices of 4 time zones") for note in notes)
    assert "crypto and others together: weekends have crypto alone" in notes
    assert "without a volume, so never tradable beside symbols that have one: EURUSD=X" in notes


def test_a_day_that_starts_before_its_midnight_is_the_next_day(service):
    days = busdays("2024-05-06", 15)
    listing = Listing(days, 1, "America/Sao_Paulo", hours=((0, 0), (17, 0)))
    listing.stamp = lambda day, when: Listing.stamp(listing, day, when) - (3600 if when == (0, 0) else 0)
    service.listings["PETR4.SA"] = listing
    fetch(service, "PETR4.SA")
    assert days_stored(service, "PETR4.SA") == days


def test_currencies_alone_are_tradable_without_a_volume(service):
    service.listings["EURUSD=X"] = Listing(
        busdays("2024-05-06", 15), 3, "Europe/London", "CURRENCY", hours=((0, 0), (23, 59)), volume=False
    )
    panel = load_panel(asking(service, "EURUSD=X"))
    assert "volume" not in panel
    assert panel["tradable"].values.all()
    assert any("every day with a close counts as tradable" in note for note in panel.attrs["notes"])


def test_crypto_alone_has_a_year_of_365_days(service):
    days = [date(2024, 5, 20) + timedelta(days=place) for place in range(10)]
    service.listings["BTC-USD"] = Listing(days, 4, "UTC", "CRYPTOCURRENCY", hours=((0, 0), (23, 59)))
    service.listings["AAPL"] = Listing(busdays("2024-05-20", 8))
    assert load_panel(asking(service, "BTC-USD")).attrs["days_per_year"] == 365
    assert load_panel(asking(service, "BTC-USD", days_per_year=300)).attrs["days_per_year"] == 300
    assert load_panel(asking(service, "BTC-USD,AAPL")).attrs["days_per_year"] == 252


def test_a_quiet_stock_keeps_its_zero_volumes(service):
    listing = Listing(busdays("2024-04-01", 60))
    for day in listing.days[20:]:
        listing.volume[day] = 0
    service.listings["AAPL"] = listing
    service.now -= timedelta(days=7)
    fetch(service)
    service.now += timedelta(days=7)
    (account,) = fetch(service)
    assert account.revised == 0
    assert stored(service).rows["volume"].to_list()[-5:] == [0.0] * 5


def test_two_updates_make_the_store_of_one_and_ask_for_the_tail(service, tmp_path):
    service.listings["AAPL"] = Listing(busdays("2024-01-02", 120))
    service.now -= timedelta(days=14)
    fetch(service)
    service.asked.clear()
    service.now += timedelta(days=14)
    (account,) = fetch(service)
    assert (account.new, account.revised, account.notes) == (10, 0, [])
    ((_, first, _),) = service.asked
    assert first == date(2024, 5, 14) - timedelta(days=10)  # ten days before the fifth day before the end
    fetch(service, store=tmp_path / "once")
    assert stored(service).rows.equals(stored(service, store=tmp_path / "once").rows)
    assert stored(service).header == stored(service, store=tmp_path / "once").header


@pytest.mark.parametrize("event", ["split", "dividend", "split today", "late split", "late dividend"])
def test_a_rescaled_history_is_fetched_anew(service, tmp_path, event):
    service.listings["AAPL"] = listing = Listing(busdays("2024-01-02", 120))
    service.now -= timedelta(days=14)
    fetch(service)
    service.now += timedelta(days=14)
    if event == "dividend":
        listing.dividends[date(2024, 5, 24)] = 0.01  # a hundredth of a percent
    elif event == "split":
        listing.splits[date(2024, 5, 24)] = 0.1
    elif event == "late dividend":  # of a day that is stored already
        listing.dividends[date(2024, 5, 15)] = 0.01
    elif event == "late split":
        listing.splits[date(2024, 5, 15)] = 2
    else:  # the day itself is not finished
        service.now = service.now.replace(hour=15)
        listing.splits[date(2024, 6, 3)] = 2
    (account,) = fetch(service)
    assert account.notes == ["a split or dividend rescaled its history at Yahoo, which was fetched anew"]
    assert account.new == (9 if event == "split today" else 10)
    fetch(service, store=tmp_path / "once")
    assert stored(service).rows.equals(stored(service, store=tmp_path / "once").rows)
    assert stored(service).header == stored(service, store=tmp_path / "once").header
    service.asked.clear()
    assert fetch(service)[0].notes == []
    assert len(service.asked) == 1


def test_a_revised_day_is_replaced_and_counted(service):
    service.listings["AAPL"] = listing = Listing(busdays("2024-01-02", 120))
    fetch(service)
    listing.volume[date(2024, 6, 3)] += 7
    service.now += timedelta(days=1)
    (account,) = fetch(service)
    assert (account.new, account.revised, account.notes) == (1, 1, [])
    assert holds(stored(service), listing.seen(date(2024, 6, 4)))


def test_a_day_that_is_gone_from_a_rescaled_history_does_not_stay_on_the_old_scale(service, tmp_path):
    service.listings["AAPL"] = listing = Listing(busdays("2024-01-02", 120))
    service.now -= timedelta(days=14)
    fetch(service)
    service.now += timedelta(days=14)
    listing.splits[date(2024, 5, 24)] = 2
    listing.days.remove(date(2024, 2, 19))
    fetch(service)
    assert holds(stored(service), listing.seen(date(2024, 6, 3)))


def test_an_event_on_a_day_without_a_row_is_told_on_the_next(service):
    service.listings["AAPL"] = listing = Listing(busdays("2024-05-06", 21))
    listing.dividends |= {date(2024, 5, 18): 0.5, date(2024, 5, 20): 0.25}  # a Saturday, and the Monday after
    fetch(service)
    paid = stored(service).rows.filter(pl.col("dividend") != 0)
    assert paid["dividend"].to_list() == [0.75]
    assert paid["time"].cast(pl.Datetime("ms")).dt.date().to_list() == [date(2024, 5, 20)]


def test_a_history_that_shrank_is_not_taken(service):
    service.listings["AAPL"] = listing = Listing(busdays("2024-01-02", 120))
    service.now -= timedelta(days=14)
    fetch(service)
    before = stored(service)
    service.now += timedelta(days=14)
    listing.splits[date(2024, 5, 24)] = 2
    listing.days = listing.days[60:]
    with pytest.raises(DataError, match="Yahoo's history of AAPL begins on 2024-03-26, the stored one on 2024-01-02"):
        fetch(service)
    assert stored(service).rows.equals(before.rows)


def test_days_without_prices_and_the_live_row(service):
    listing = Listing(busdays("2024-05-06", 21))
    today = date(2024, 6, 3)
    listing.empty = {date(2024, 5, 27)}  # a holiday
    listing.extra = [(listing.stamp(today, (15, 59)), [1.0, 2.0, 0.5, 1.5, 10, 1.5])]
    service.listings["AAPL"] = listing
    (account,) = fetch(service)
    rows = {day: row for day, row in listing.seen(today).items() if day not in listing.empty}
    assert holds(stored(service), rows | {today: listing.extra[0][1]})
    assert dict(account.counts) == {
        "came without any price, and were left out": 1,
        "came for a day that has another; the last was taken": 1,
    }


def test_earlier_history_is_fetched_when_the_start_moves_back(service, tmp_path):
    service.listings["AAPL"] = eventful()
    fetch(service, start=date(2024, 5, 1), end=date(2024, 5, 20))
    assert [days_stored(service)[place] for place in (0, -1)] == [date(2024, 5, 1), date(2024, 5, 20)]
    service.asked.clear()
    panel = load_panel(asking(service, "AAPL", start=date(2024, 5, 6), end=date(2024, 5, 10)))
    assert service.asked == []
    assert panel.sizes["date"] == 5
    fetch(service)
    fetch(service, store=tmp_path / "once")
    assert stored(service).rows.equals(stored(service, store=tmp_path / "once").rows)


def test_an_index_as_the_benchmark_is_fetched_too(service):
    service.listings |= {"AAPL": eventful(), "^GSPC": Listing(busdays("2024-01-02", 100), 6, kind="INDEX")}
    panel = load_panel(asking(service, "AAPL", benchmark="^GSPC"))
    assert panel.sizes["symbol"] == 1
    assert np.isfinite(panel["benchmark"].values).sum() == 100
    assert {symbol for symbol, _, _ in service.asked} == {"AAPL", "^GSPC"}


def test_unknown_symbols_are_named_and_the_others_fetched(service):
    service.listings["AAPL"] = eventful()
    with pytest.raises(DataError) as problem:
        fetch(service, "AAPL,XXX,YYY")
    assert (
        "2 of 3 symbols could not be fetched. XXX, YYY: unknown to Yahoo (No data found, symbol may be delisted)."
        in (str(problem.value))
    )
    assert "goes on" not in str(problem.value)
    assert len(stored(service).rows) > 100


def test_a_delisted_symbol_keeps_its_history(service):
    service.listings |= {"AAPL": eventful(), "SIVB": Listing(busdays("2024-01-02", 40), 5)}
    fetch(service, "AAPL,SIVB")
    assert days_stored(service, "SIVB")[-1] == date(2024, 2, 26)
    service.asked.clear()
    service.now += timedelta(days=1)
    assert [account.new for account in fetch(service, "AAPL,SIVB")] == [1, 0]  # known still, with nothing new
    del service.listings["SIVB"]
    panel = load_panel(asking(service, "AAPL,SIVB"))
    assert np.isfinite(panel["close"].values[:, 1]).sum() == 40
    assert "1 symbols end early (delisted, or renamed): SIVB on 2024-02-26" in panel.attrs["notes"]
    assert any("SIVB: no longer known to Yahoo" in note for note in panel.attrs["notes"])
    service.failing["SIVB"] = (400, failure("Bad Request", "Data doesn't exist for startDate = 1, endDate = 2"))
    before = stored(service, "SIVB")
    assert fetch(service, "AAPL,SIVB")[1].new == 0
    assert stored(service, "SIVB").rows.equals(before.rows)
    assert stored(service, "SIVB").header.about == before.header.about


@pytest.mark.parametrize(
    "fault",
    ["close", (500, "oops"), (502, failure("x", "y")), (429, "Too Many Requests\r\n"), (200, "<html>"), (200, "[]")],
)
def test_what_passes_is_tried_again(service, fault, caplog, capfd):
    service.listings["AAPL"] = eventful()
    service.crumb = (429, "Too Many Requests")  # yfinance would log it and go on
    # yfinance itself asks twice where the status is an error
    twice = 2 if isinstance(fault, tuple) and fault[0] >= 400 else 1
    service.faults = [fault] * (2 * twice)
    fetch(service)
    assert holds(stored(service), service.listings["AAPL"].seen(date(2024, 6, 3)))
    backed_off = [seconds for seconds in service.slept if seconds > 0.5]
    assert len(backed_off) == 2
    assert 1 <= backed_off[1] <= 2
    assert caplog.records == []
    assert "".join(capfd.readouterr()) == ""


def test_a_lasting_rate_limit_says_what_is_missing_and_the_next_call_goes_on(service):
    service.listings |= {"AAPL": eventful(), "MSFT": eventful()}
    service.failing["MSFT"] = (429, "Too Many Requests\r\n")
    with pytest.raises(DataError) as problem:
        fetch(service, "AAPL,MSFT")
    text = str(problem.value)
    assert (
        "1 of 2 symbols could not be fetched. MSFT: Yahoo says that it was asked too often (HTTP 429) (5 tries)."
        in text
    )
    assert f"What was fetched is kept in {service.store}, and the same command goes on from there." in text
    assert "The store has AAPL, for data.refresh=false" in text
    service.failing.clear()
    assert [account.new for account in fetch(service, "AAPL,MSFT")] == [0, len(stored(service).rows)]


def test_without_a_network_the_store_serves(service):
    service.listings |= {"AAPL": eventful(), "MSFT": eventful()}
    first = load_panel(asking(service, "AAPL,MSFT"))
    with serving(BaseHTTPRequestHandler) as port:
        service.port = port  # closed by the time it is asked
    with pytest.raises(DataError) as problem:
        load_panel(asking(service, "AAPL,MSFT"))
    text = str(problem.value)
    assert "2 of 2 symbols could not be fetched. AAPL, MSFT: no connection to Yahoo" in text
    assert "data.refresh=false uses the store as it is, with every symbol up to 2024-06-03 or its end." in text
    again = load_panel(asking(service, "AAPL,MSFT", refresh=False))
    assert again["close"].identical(first["close"])
    with pytest.raises(
        DataError, match=r"has no 1d bars of TSLA; `mimstocr data update yahoo:AAPL,TSLA data\.interval=1d"
    ):
        load_panel(asking(service, "AAPL,TSLA", refresh=False))


def test_a_stop_while_waiting_keeps_what_came(service, monkeypatch):
    service.listings |= {"AAPL": eventful(), "MSFT": eventful()}
    service.failing["MSFT"] = (500, "oops")

    def stop(seconds):
        if seconds > 0.5:
            raise KeyboardInterrupt

    monkeypatch.setattr(shared, "sleep", stop)
    with pytest.raises(KeyboardInterrupt):
        fetch(service, "AAPL,MSFT")
    assert len(stored(service).rows) > 100
    assert stored(service, "MSFT") is None
    service.failing.clear()
    assert [account.new for account in fetch(service, "AAPL,MSFT")] == [0, len(stored(service).rows)]


def test_another_form_of_chart_is_one_clear_error(service):
    broken = {"chart": {"result": [{"meta": {}, "timestamp": [1], "indicators": {"quote": [{}]}}], "error": None}}
    service.failing["AAPL"] = (200, broken)
    with pytest.raises(DataError, match="Yahoo gave a chart of AAPL of another form than is known"):
        fetch(service)


def test_settings_that_yahoo_does_not_have(service, monkeypatch):
    with pytest.raises(ConfigError, match=r"data.interval: yahoo has days alone here, got 1h"):
        load_panel(asking(service, "AAPL", interval="1h"))

    def none(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(yahoo, "import_module", none)
    with pytest.raises(ConfigError, match=r"needs the package yfinance.*pip install 'mimstocr\[yahoo\]'"):
        load_panel(asking(service, "AAPL"))


def test_the_cookies_of_yfinance_are_kept_in_the_store(service):
    service.listings["AAPL"] = eventful()
    fetch(service)
    assert cache._CookieDBManager.get_location() == str(service.store / "yahoo" / "session")
    assert (service.store / "yahoo" / "session" / "cookies.db").is_file()
    assert logging.getLogger("yfinance").disabled is False


def test_the_command_and_a_run_on_the_store(service, small, tmp_path, capsys):
    names = [f"S{place}" for place in range(8)]
    for place, name in enumerate(names):
        service.listings[name] = Listing(busdays("2023-12-01", 130), place)
    own = f"data.store={service.store}"
    (tmp_path / "names.txt").write_text("\n".join(names))
    address = f"yahoo:@{tmp_path / 'names.txt'}"
    assert invoke(["data", "update", address, own]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in names)
    assert "2024-05-30" in told
    asked = len(service.asked)
    assert invoke(["data", "inspect", address, "data.refresh=false", own]) == 0
    assert "the store as it was, up to 2024-05-30" in capsys.readouterr().out
    write_yaml(tmp_path / "first.yaml", small(name="first"))
    assert invoke(["run", str(tmp_path / "first.yaml"), f"data.source={address}", own, "data.refresh=false"]) == 0
    assert "RankIC" in capsys.readouterr().out
    assert len(service.asked) == asked
