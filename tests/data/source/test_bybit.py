"""The real client pybit against a server on this machine.

The server speaks the format of Bybit's public v5 documentation and of pybit's own parser; it was not recorded from the
exchange. Bars are random; what the store must hold is what the server was given.
"""

import importlib
import json
import threading
from contextlib import contextmanager
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import numpy as np
import polars as pl
import pytest

pytest.importorskip("pybit", reason="needs the extra crypto (pybit)")

from mimstocr.cli.main import invoke
from mimstocr.data import DataSettings, load_panel
from mimstocr.data import online as shared
from mimstocr.data.online import check, update
from mimstocr.data.panel import days_of, symbols_of
from mimstocr.data.source import bybit
from mimstocr.data.store import Store
from mimstocr.errors import ConfigError, DataError

HOUR = 3_600_000
FIELDS = ("open", "high", "low", "close", "volume", "turnover")
LENGTH = {"60": HOUR, "240": 4 * HOUR, "D": 24 * HOUR}


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def bars(first, number, step=HOUR, seed=0, gaps=()):
    """{start: [open, high, low, close, volume, turnover] as text}, without the places in `gaps`."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, number)))
    volume = rng.integers(0, 50, number)
    missing = {place for start, stop in gaps for place in range(start, stop)}
    return {
        first + place * step: [
            *(f"{close[place] * scale:.4f}" for scale in (1.0, 1.01, 0.99, 1.0)),
            str(volume[place]),
            f"{close[place] * 1.001 * volume[place]:.6f}",
        ]
        for place in range(number)
        if place not in missing
    }


class Exchange:
    """What the server knows, what it was asked, and how it misbehaves."""

    def __init__(self):
        self.now = at("2024-06-01T00:30:00")
        self.bars = {}  # (category, symbol, code) -> {start: row}
        self.asked = []  # (path, query)
        self.faults = []  # for the next requests: None, or what happens instead
        self.always = None  # what happens to every request for bars
        self.shuffle = lambda rows: rows

    def answer(self, path, query):
        if path == "/v5/market/time":
            return 0, "OK", {"timeSecond": str(self.now // 1000), "timeNano": str(self.now * 1_000_000)}
        if path == "/v5/market/instruments-info":
            names = sorted({symbol for category, symbol, _ in self.bars if category == query["category"]})
            return 0, "OK", {"category": query["category"], "list": [{"symbol": name} for name in names]}
        key = (query["category"], query["symbol"], query["interval"])
        code = key[2]
        if code == "M":
            known = [self.bars[other] for other in self.bars if other[:2] == key[:2]]
            found = {}
            for start in sorted(time for rows in known for time in rows):
                day = datetime.fromtimestamp(start / 1000, UTC)
                found.setdefault(at(f"{day:%Y-%m}-01"), ["1"] * 6)
        else:
            known, found = [self.bars[key]] if key in self.bars else [], self.bars.get(key, {})
        if not known:
            return 10001, "Not supported symbols", {}
        first, last = int(query["start"]), int(query["end"])
        rows = [[str(time), *row] for time, row in sorted(found.items(), reverse=True) if first <= time <= last]
        rows = rows[: int(query["limit"])]
        if code != "M":
            rows = self.shuffle(rows)
        return 0, "OK", {"symbol": key[1], "category": key[0], "list": rows}

    def spans(self):
        """[start, end] of the requests for bars."""
        return [
            (int(query["start"]), int(query["end"])) for path, query in self.asked if query.get("interval") in LENGTH
        ]


@pytest.fixture
def exchange(monkeypatch, tmp_path):
    known = Exchange()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            address = urlparse(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            known.asked.append((address.path, query))
            fault = known.faults.pop(0) if known.faults else None
            if query.get("interval") in LENGTH:
                fault = fault or known.always
            code, message, result = known.answer(address.path, query)
            status, headers = 200, {}
            if fault == "close":
                self.connection.close()
                return
            if isinstance(fault, tuple):
                status, code, headers = fault
                message = "Too many visits!" if code == 10006 else "Server error."
            body = json.dumps({"retCode": code, "retMsg": message, "result": result, "time": known.now}).encode()
            if fault == "garbage":
                body = b"<html>busy</html>"
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with serving(Handler) as port:
        known.port = port
        real = bybit.client

        def client():
            http = real()
            http.endpoint = f"http://127.0.0.1:{known.port}"
            known.clients.append(http.client)
            return http

        known.clients, known.slept = [], []
        monkeypatch.setattr(bybit, "client", client)
        monkeypatch.setattr(shared, "sleep", known.slept.append)
        monkeypatch.setenv("NO_PROXY", "*")
        known.store = tmp_path / "store"
        yield known
        for session in known.clients:
            session.close()


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


def asking(exchange, place="BTCUSDT", **settings):
    settings = {"interval": "1h", "store": exchange.store, **settings}
    return DataSettings(source=f"bybit:{place}", **settings)


def feed_for(exchange, settings):
    feed = bybit.feed(settings.source.partition(":")[2], settings)
    feed.clock = lambda: exchange.now / 1000
    return feed


def fetch(exchange, place="BTCUSDT", watcher=None, **settings):
    settings = asking(exchange, place, **settings)
    feed = feed_for(exchange, settings)
    accounts = update(feed, settings, watcher)
    check(accounts, feed, settings)
    return accounts


def stored(exchange, symbol="BTCUSDT", interval="1h", category="spot", store=None):
    return Store(store or exchange.store).shelf("bybit", category, interval, symbol).read()


def holds(history, truth):
    """Whether the store holds exactly these bars."""
    assert history.rows["time"].to_list() == sorted(truth)
    for place, name in enumerate(FIELDS):
        assert history.rows[name].to_list() == [float(truth[time][place]) for time in sorted(truth)]
    return True


def test_a_history_of_many_pages_with_holes(exchange):
    first = at("2024-01-05T07:00:00")
    # a hole of 1,300 hours makes pages with nothing in them; the last bar, 00:00 to 01:00, is not finished
    number = (at("2024-06-01T01:00:00") - first) // HOUR
    truth = bars(first, number, gaps=[(900, 2200), (2300, 2301)])
    exchange.bars["spot", "BTCUSDT", "60"] = truth
    (account,) = fetch(exchange)
    finished = {time: row for time, row in truth.items() if time < at("2024-06-01")}
    assert len(finished) == len(truth) - 1
    assert holds(stored(exchange), finished)
    assert (account.rows, account.new, account.revised) == (len(finished), len(finished), 0)
    assert (account.first, account.last) == (first, at("2024-05-31T23:00:00"))
    # from the month of listing on, in windows that hold no more than one answer can
    spans = exchange.spans()
    assert spans[0][0] == at("2024-01-01")
    assert spans[-1][1] == at("2024-06-01") - 1
    assert all(end - start < 1000 * HOUR for start, end in spans)


def test_the_panel_of_hours(exchange):
    first = at("2024-05-30")
    exchange.bars["spot", "BTCUSDT", "60"] = truth = bars(first, 48, seed=1)
    exchange.bars["spot", "ETHUSDT", "60"] = bars(first + 5 * HOUR, 43, seed=2)
    panel = load_panel(asking(exchange, "ETHUSDT, btcusdt"))
    assert symbols_of(panel) == ["BTCUSDT", "ETHUSDT"]
    assert days_of(panel).dtype == np.dtype("datetime64[ms]")
    assert str(days_of(panel)[1]) == "2024-05-30T01:00:00.000"
    values = np.array([[float(text) for text in row] for row in truth.values()])
    for place, name in enumerate(FIELDS[:5]):
        np.testing.assert_array_equal(panel[name].values[:, 0], values[:, place].astype(np.float32))
    traded = values[:, 4] > 0
    assert not traded.all()
    np.testing.assert_array_equal(panel["tradable"].values[:, 0], traded)
    np.testing.assert_allclose(panel["vwap"].values[traded, 0], values[traded, 5] / values[traded, 4], rtol=1e-6)
    assert np.isnan(panel["vwap"].values[~traded, 0]).all()
    assert np.isnan(panel["close"].values[:5, 1]).all()
    assert panel.attrs["days_per_year"] == 365 * 24
    assert any("labelled by their start, UTC" in note for note in panel.attrs["notes"])


@pytest.mark.parametrize(("interval", "code", "year"), [("4h", "240", 365 * 6), ("1d", "D", 365)])
def test_other_intervals(exchange, interval, code, year):
    step = LENGTH[code]
    exchange.bars["linear", "BTCUSDT", code] = bars(at("2024-05-01"), 20, step)
    panel = load_panel(asking(exchange, "linear/BTCUSDT", interval=interval))
    assert panel.sizes["date"] == 20
    assert panel.attrs["days_per_year"] == year
    assert "funding of perpetuals is not in their prices" in panel.attrs["notes"]
    if interval == "1d":
        assert days_of(panel).dtype == np.dtype("datetime64[D]")
    assert (
        load_panel(asking(exchange, "linear/BTCUSDT", interval=interval, days_per_year=252)).attrs["days_per_year"]
        == 252
    )


def test_the_days_asked_for_have_all_their_bars(exchange):
    exchange.bars["spot", "BTCUSDT", "60"] = bars(at("2024-05-01"), 24 * 20)
    panel = load_panel(asking(exchange, start=date(2024, 5, 3), end=date(2024, 5, 4)))
    assert [str(days_of(panel)[place]) for place in (0, -1)] == ["2024-05-03T00:00:00.000", "2024-05-04T23:00:00.000"]
    assert panel.sizes["date"] == 48
    with pytest.raises(
        DataError, match="no bar between 2024-04-01 and 2024-04-02; the store goes from 2024-05-01 00:00"
    ):
        load_panel(asking(exchange, start=date(2024, 4, 1), end=date(2024, 4, 2)))


def test_two_updates_make_the_store_of_one(exchange, tmp_path):
    truth = bars(at("2024-04-01"), 24 * 61 + 1)
    exchange.bars["spot", "BTCUSDT", "60"] = truth
    exchange.now = at("2024-05-01T05:30:00")
    fetch(exchange)
    exchange.asked.clear()
    exchange.now = at("2024-06-01T00:30:00")
    (account,) = fetch(exchange)
    assert account.new == 31 * 24 - 5
    assert account.revised == 0
    # only the tail, with five bars of overlap
    assert exchange.spans()[0][0] == at("2024-05-01T00:00:00")
    fetch(exchange, store=tmp_path / "once")
    twice, once = stored(exchange), stored(exchange, store=tmp_path / "once")
    assert twice.rows.equals(once.rows)
    assert twice.header == once.header
    exchange.asked.clear()
    assert fetch(exchange)[0].new == 0
    assert exchange.spans() == []


def test_an_unfinished_bar_is_never_stored(exchange):
    truth = bars(at("2024-05-31"), 25)
    exchange.bars["spot", "BTCUSDT", "60"] = {**truth, at("2024-06-01"): ["1", "1", "1", "1", "1", "1"]}
    exchange.now = at("2024-06-01T00:59:59")
    fetch(exchange)
    assert stored(exchange).rows["time"][-1] == at("2024-05-31T23:00:00")
    exchange.bars["spot", "BTCUSDT", "60"] = truth
    exchange.now = at("2024-06-01T01:00:00")
    (account,) = fetch(exchange)
    assert (account.new, account.revised) == (1, 0)
    assert holds(stored(exchange), truth)


def test_the_servers_clock_decides(exchange):
    exchange.bars["spot", "BTCUSDT", "60"] = bars(at("2024-05-31"), 25)
    settings = asking(exchange)
    feed = bybit.feed("BTCUSDT", settings)
    feed.clock = lambda: (exchange.now + 3 * HOUR) / 1000  # ours is three hours ahead
    check(update(feed, settings), feed, settings)
    assert stored(exchange).rows["time"][-1] == at("2024-05-31T23:00:00")
    assert feed.notes() == ["this machine's clock is 180 minutes ahead of Bybit's, whose time decides what is finished"]
    on_time = feed_for(exchange, settings)
    update(on_time, settings)
    assert on_time.notes() == []


def test_repeats_disorder_and_strays_are_put_right_and_counted(exchange):
    truth = bars(at("2024-05-01"), 24 * 31)
    exchange.bars["spot", "BTCUSDT", "60"] = truth
    running = ["9"] * 6

    def shuffle(rows):
        return [[str(at("2024-06-01")), *running], *rows[5:8], *rows[:5], *rows[5:]] if rows else rows

    exchange.shuffle = shuffle
    (account,) = fetch(exchange)
    assert holds(stored(exchange), truth)
    assert account.counts["came that were not asked for, and were left out"] == 1
    assert account.counts["came twice in an answer; the last of each was taken"] == 3
    assert account.counts["came out of order, and were sorted"] == 1
    panel = load_panel(asking(exchange, store=exchange.store / "other"))
    assert "3 bars came twice in an answer; the last of each was taken" in panel.attrs["notes"]


def test_earlier_history_is_fetched_when_the_start_moves_back(exchange, tmp_path):
    truth = bars(at("2023-09-10T03:00:00"), 24 * 264 + 21 - 3)
    exchange.bars["spot", "BTCUSDT", "60"] = truth
    fetch(exchange, start=date(2024, 5, 20))
    assert stored(exchange).rows["time"][0] == at("2024-05-20")
    exchange.asked.clear()
    (account,) = fetch(exchange)
    assert account.revised == 0
    assert max(end for _, end in exchange.spans()) == at("2024-05-20T05:00:00") - 1  # with five bars of overlap
    fetch(exchange, store=tmp_path / "once")
    assert stored(exchange).rows.equals(stored(exchange, store=tmp_path / "once").rows)
    assert stored(exchange).header == stored(exchange, store=tmp_path / "once").header
    assert holds(stored(exchange), {time: row for time, row in truth.items() if time < at("2024-06-01")})


def test_history_before_a_short_one_ends_with_the_last_finished_bar(exchange):
    exchange.now = at("2024-06-01T02:30:00")
    exchange.bars["spot", "BTCUSDT", "60"] = truth = bars(at("2024-05-20"), 24 * 14)
    fetch(exchange, start=date(2024, 6, 1))
    fetch(exchange)
    finished = at("2024-06-01T02:00:00")
    assert stored(exchange).header.stop == finished
    assert holds(stored(exchange), {start: row for start, row in truth.items() if start < finished})


def test_days_that_are_covered_need_no_request(exchange):
    exchange.bars["spot", "BTCUSDT", "60"] = bars(at("2024-05-01"), 24 * 31)
    fetch(exchange)
    exchange.asked.clear()
    load_panel(asking(exchange, start=date(2024, 5, 2), end=date(2024, 5, 20)))
    assert exchange.asked == []


def test_revised_bars_are_replaced_and_counted(exchange):
    truth = bars(at("2024-05-01"), 24 * 31 + 2)
    exchange.bars["spot", "BTCUSDT", "60"] = dict(truth)
    fetch(exchange)
    exchange.bars["spot", "BTCUSDT", "60"][at("2024-05-31T22:00:00")] = ["5", "6", "4", "5", "7", "35"]
    exchange.now += HOUR
    (account,) = fetch(exchange)
    assert (account.new, account.revised) == (1, 1)
    assert stored(exchange).rows.filter(pl.col("time") == at("2024-05-31T22:00:00"))["volume"].to_list() == [7.0]


@pytest.mark.parametrize(
    "fault", ["close", "garbage", (500, 0, {}), (429, 0, {}), (403, 0, {}), (200, 10006, {}), (200, 10016, {})]
)
def test_what_passes_is_tried_again(exchange, fault):
    truth = bars(at("2024-05-01"), 24 * 31)
    exchange.bars["spot", "BTCUSDT", "60"] = truth
    exchange.faults = [fault, None, fault, fault, None]
    fetch(exchange)
    assert holds(stored(exchange), truth)
    backed_off = [seconds for seconds in exchange.slept if seconds > 0.1]
    assert len(backed_off) == 3
    assert 0.5 <= backed_off[0] <= 1
    assert 1 <= backed_off[2] <= 2  # the second in a row waits for longer


def test_the_reset_of_the_rate_limit_is_honoured(exchange):
    exchange.bars["spot", "BTCUSDT", "60"] = bars(at("2024-05-01"), 24 * 31)
    reset = {"X-Bapi-Limit-Reset-Timestamp": str(exchange.now + 17_000)}
    exchange.faults = [None, (200, 10006, reset)]
    fetch(exchange)
    assert max(exchange.slept) == 17.0
    exchange.faults = [(429, 0, {"Retry-After": "3600"})]
    exchange.now += 2 * HOUR
    with pytest.raises(DataError, match=r"asked too often \(HTTP 429\); it asks to wait 3600 s"):
        fetch(exchange)


def test_a_lasting_rate_limit_keeps_what_came_and_the_next_call_goes_on(exchange, tmp_path):
    truth = bars(at("2024-01-01"), 24 * 152)
    exchange.bars["spot", "BTCUSDT", "60"] = truth
    exchange.faults = [None] * 4 + [(200, 10006, {})] * 5  # the time, the months, two pages
    with pytest.raises(DataError) as failure:
        fetch(exchange)
    for part in (
        "1 of 1 symbols could not be fetched. BTCUSDT: Bybit says that it was asked too often (code 10006) (5 tries).",
        "the same command goes on from there",
        "data.refresh=false uses the store as it is, with every symbol up to 2024-03-24 07:00",
    ):
        assert part in str(failure.value)
    assert len(stored(exchange).rows) == 2000
    exchange.asked.clear()
    fetch(exchange)
    assert exchange.spans()[0][0] == at("2024-01-01") + 1995 * HOUR
    assert holds(stored(exchange), truth)
    fetch(exchange, store=tmp_path / "once")
    assert stored(exchange).header == stored(exchange, store=tmp_path / "once").header


@pytest.mark.parametrize("page", [1, 3, 6, 8])
def test_a_stop_keeps_the_pages_that_came(exchange, page):
    truth = bars(at("2023-08-01"), 24 * 305)
    exchange.bars["spot", "BTCUSDT", "60"] = truth
    seen = []

    def stop(moment):
        seen.append(moment)
        if len(seen) == page + 1:  # the first moment is the empty start
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(exchange, watcher=stop)
    kept = stored(exchange)
    assert len(kept.rows) == min(1000 * page, len(truth)) == seen[-1].rows
    fetch(exchange)
    assert holds(stored(exchange), truth)


def test_a_stop_while_filling_the_head_leaves_no_hole(exchange):
    truth = bars(at("2023-08-01"), 24 * 305)
    exchange.bars["spot", "BTCUSDT", "60"] = truth
    fetch(exchange, start=date(2024, 5, 1))

    def stop(moment):
        if moment.rows > 3000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(exchange, watcher=stop)
    kept = stored(exchange)
    assert 3000 < len(kept.rows) < 4000
    assert kept.header.start == kept.rows["time"][0]
    assert (np.diff(kept.rows["time"].to_numpy()) == HOUR).all()
    fetch(exchange)
    assert holds(stored(exchange), truth)


def test_a_kill_loses_few_pages(exchange, monkeypatch):
    """Without the last write, as after a kill, what was written before is there."""
    exchange.bars["spot", "BTCUSDT", "60"] = truth = bars(at("2023-08-01"), 24 * 305)
    read = []

    def look(moment):
        held = stored(exchange)
        read.append((moment.rows, 0 if held is None else len(held.rows)))

    fetch(exchange, watcher=look)
    assert all(rows - there <= shared.SAVE_EVERY * 1000 for rows, there in read)
    assert any(0 < there < rows for rows, there in read)
    assert holds(stored(exchange), truth)


def test_unknown_symbols_are_named_with_near_ones_and_the_others_are_fetched(exchange):
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        exchange.bars["spot", symbol, "60"] = bars(at("2024-05-01"), 24 * 31)
    with pytest.raises(DataError) as failure:
        fetch(exchange, "BTCUST,ETHUSDT,XX")
    text = str(failure.value)
    assert "2 of 3 symbols could not be fetched" in text
    assert "BTCUST: unknown to Bybit spot; did you mean BTCUSDT" in text
    assert "XX: unknown to Bybit spot." in text
    assert "goes on" not in text
    assert len(stored(exchange, "ETHUSDT").rows) == 24 * 31
    assert stored(exchange, "XX") is None


def test_a_delisted_symbol_keeps_its_history(exchange):
    exchange.bars["spot", "BTCUSDT", "60"] = bars(at("2024-03-01"), 24 * 92)
    exchange.bars["spot", "LUNAUSDT", "60"] = bars(at("2024-03-01"), 24 * 10, seed=1)
    fetch(exchange, "BTCUSDT,LUNAUSDT")
    del exchange.bars["spot", "LUNAUSDT", "60"]
    exchange.now += 2 * HOUR
    panel = load_panel(asking(exchange, "BTCUSDT,LUNAUSDT"))
    assert np.isfinite(panel["close"].values[:, 1]).sum() == 240
    assert "1 symbols end early (delisted, or renamed): LUNAUSDT on 2024-03-10" in panel.attrs["notes"]
    assert any("LUNAUSDT: no longer known to Bybit spot" in note for note in panel.attrs["notes"])


def test_without_a_network_the_store_serves(exchange):
    exchange.bars["spot", "BTCUSDT", "60"] = bars(at("2024-05-01"), 24 * 31)
    first = load_panel(asking(exchange))
    with serving(BaseHTTPRequestHandler) as port:
        exchange.port = port  # closed by the time it is asked
    with pytest.raises(DataError) as failure:
        load_panel(asking(exchange))
    text = str(failure.value)
    assert "BTCUSDT: no connection to Bybit (ConnectionError) (5 tries)" in text
    assert "data.refresh=false uses the store as it is, with every symbol up to 2024-05-31 23:00" in text
    asked = len(exchange.asked)
    again = load_panel(asking(exchange, refresh=False))
    assert len(exchange.asked) == asked
    assert again["close"].identical(first["close"])
    assert (
        "the store as it was, up to 2024-05-31 23:00; nothing was asked of the service (refresh=false)"
        in (again.attrs["notes"])
    )
    with pytest.raises(
        DataError, match=r"has no 1h bars of ETHUSDT; `mimstocr data update bybit:BTCUSDT,ETHUSDT data\.interval=1h"
    ):
        load_panel(asking(exchange, "BTCUSDT,ETHUSDT", refresh=False))


def test_after_two_symbols_without_an_answer_the_rest_is_left(exchange):
    names = [f"A{place}USDT" for place in range(6)]
    for name in names:
        exchange.bars["spot", name, "60"] = bars(at("2024-05-01"), 24 * 31)
    fetch(exchange, ",".join(names[:1]))
    exchange.always = "close"
    exchange.now += HOUR
    with pytest.raises(DataError) as failure:
        fetch(exchange, ",".join(names))
    text = str(failure.value)
    assert "6 of 6 symbols could not be fetched" in text
    assert "A2USDT, A3USDT, A4USDT, A5USDT: not asked for" in text
    assert "The store has A0USDT, for data.refresh=false" in text
    assert not {query.get("symbol") for _, query in exchange.asked} & set(names[2:])
    exchange.always = None
    assert [account.rows for account in fetch(exchange, ",".join(names))] == [24 * 31] * 6


def test_two_updates_at_once_lose_nothing(exchange):
    truth = bars(at("2024-01-01"), 24 * 152)
    exchange.bars["spot", "BTCUSDT", "60"] = truth
    starts = (date(2024, 1, 1), date(2024, 4, 1), date(2024, 5, 1))
    threads = [threading.Thread(target=fetch, args=(exchange,), kwargs={"start": start}) for start in starts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert holds(stored(exchange), truth)


def test_addresses(exchange, tmp_path):
    for symbol in ("BTCUSDT", "ETHUSDT"):
        exchange.bars["linear", symbol, "60"] = bars(at("2024-05-01"), 24 * 31)
    names = tmp_path / "names.txt"
    names.write_text("# majors\nbtcusdt\n\nETHUSDT  # ether\n")
    assert symbols_of(load_panel(asking(exchange, f"linear/@{names}"))) == ["BTCUSDT", "ETHUSDT"]
    assert bybit.feed(f"@{names}", asking(exchange, f"@{names}")).category == "spot"
    panel = load_panel(asking(exchange, "linear/ETHUSDT", benchmark="btcusdt"))
    assert panel.attrs["benchmark_name"] == "BTCUSDT"
    assert symbols_of(panel) == ["ETHUSDT"]
    (tmp_path / "wide.txt").write_text("BTCUSDT", encoding="utf-16")
    for place, message in (
        (f"@{tmp_path / 'wide.txt'}", "wide.txt is not text in UTF-8"),
        ("inverse/BTCUSD", "unknown category 'inverse'; known: spot, linear"),
        ("linear/", "expected symbols separated by commas"),
        ("BTCUSDT,btcusdt", "symbol BTCUSDT comes twice"),
        ("@nowhere.txt", "the list of symbols nowhere.txt cannot be read"),
    ):
        with pytest.raises((ConfigError, DataError), match=message):
            load_panel(asking(exchange, place))
    with pytest.raises(ConfigError, match=r"data\.columns is for your own tables"):
        load_panel(asking(exchange, columns={"close": "x"}))


@pytest.mark.parametrize("row", [["now"], ["x"] * 7, [None] * 7, ["1"] * 3, 5])
def test_another_form_of_bars_is_one_clear_error(exchange, row):
    exchange.bars["spot", "BTCUSDT", "60"] = bars(at("2024-05-01"), 24)
    exchange.shuffle = lambda rows: [*rows, row]
    with pytest.raises(DataError, match="Bybit gave bars of another form than is known"):
        fetch(exchange)


def test_a_symbol_without_bars_is_not_taken_for_covered(exchange):
    exchange.bars["spot", "NEWUSDT", "60"] = {}
    with pytest.raises(DataError, match="NEWUSDT: Bybit spot lists it, but has no bars of it"):
        fetch(exchange, "NEWUSDT")
    assert stored(exchange, "NEWUSDT") is None
    exchange.bars["spot", "NEWUSDT", "60"] = truth = bars(at("2024-05-01"), 24 * 31)
    fetch(exchange, "NEWUSDT", end=date(2024, 4, 20))  # before its listing
    assert stored(exchange, "NEWUSDT").rows.is_empty()
    fetch(exchange, "NEWUSDT")
    assert holds(stored(exchange, "NEWUSDT"), truth)


def test_a_missing_package_names_the_extra(exchange, monkeypatch):
    def none(name):
        raise ModuleNotFoundError(name)

    monkeypatch.undo()
    monkeypatch.setattr(bybit, "import_module", none)
    with pytest.raises(ConfigError, match=r"needs the package pybit.*pip install 'mimstocr\[crypto\]'"):
        bybit.client()
    assert importlib.import_module("mimstocr.data.source.bybit") is bybit


def test_the_command(exchange, capsys):
    exchange.bars["spot", "BTCUSDT", "60"] = bars(at("2024-05-01"), 24 * 31)
    own = ["interval=1h", f"data.store={exchange.store}"]
    assert invoke(["data", "update", "bybit:BTCUSDT", *own]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    row = next(line for line in told.out.splitlines() if "BTCUSDT" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")][:6] == [
        "BTCUSDT", "744", "2024-05-01 00:00", "2024-05-31 23:00", "744", "0",
    ]  # fmt: skip
    assert "this machine's clock is" in told.out
    assert invoke(["data", "update", "bybit:BTCUSDT,ETHUST", *own]) == 2
    told = capsys.readouterr()
    assert "failed" in told.out
    assert "ETHUST: unknown to Bybit spot" in told.err
    assert invoke(["data", "inspect", "bybit:BTCUSDT", "data.refresh=false", *own]) == 0
    assert "the store as it was" in capsys.readouterr().out
    assert invoke(["data", "update", "csv:prices.csv"]) == 2
    assert "expected the address of an online source" in capsys.readouterr().err
