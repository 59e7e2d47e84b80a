"""The store: files that are whole, spans without holes, one writer at a time."""

import resource
import signal
import threading

import polars as pl
import pytest

from mimstocr.data import online, store
from mimstocr.data.online import NoAnswerError, Pace, PassingError
from mimstocr.data.store import Header, History, Store, merged
from mimstocr.errors import DataError


def rows(*pairs):
    return pl.DataFrame(pairs, schema={"time": pl.Int64, "close": pl.Float64}, orient="row")


def history(start, stop, *pairs, **header):
    told = {"source": "s", "category": "c", "interval": "1d", "symbol": "A", **header}
    return History(Header(**told, start=start, stop=stop), rows(*pairs))


@pytest.fixture
def shelf(tmp_path):
    return Store(tmp_path).shelf("s", "c", "1d", "A")


def write(shelf, held):
    with shelf.lock():
        shelf.write(held)


def test_what_is_written_is_read(shelf):
    assert shelf.read() is None
    held = history(0, 30, (0, 1.5), (10, None), about={"currency": "USD"})
    write(shelf, held)
    found = shelf.read()
    assert found.header == held.header
    assert found.rows.equals(held.rows)


@pytest.mark.parametrize("symbol", ["^GSPC", "EURUSD=X", "BRK-B", "0700.HK", "A/B", "..", "é"])
def test_any_symbol_is_a_file_of_its_own(tmp_path, symbol):
    one = Store(tmp_path).shelf("s", "c", "1d", symbol)
    assert one.path.parent == tmp_path / "s" / "c" / "1d"
    write(one, history(0, 10, (0, 1.0), symbol=symbol))
    assert one.read().header.symbol == symbol
    assert Store(tmp_path).shelf("s", "c", "1d", "X").read() is None


def test_merged_takes_the_new_and_counts():
    old = rows((0, 1.0), (10, 2.0), (20, None), (30, float("nan")))
    new = rows((10, 2.5), (20, None), (30, float("nan")), (5, 9.0))
    found = merged(old, new.select("close", "time"))  # in whatever order its columns are
    assert found.rows.equals(rows((0, 1.0), (5, 9.0), (10, 2.5), (20, None), (30, float("nan"))))
    assert (found.new, found.revised) == (1, 1)
    assert merged(old, rows((20, 4.0))).revised == 1  # a value where there was none
    assert merged(old, rows((0, None))).revised == 1
    assert merged(old, rows()).rows.equals(old)


def test_a_span_never_gets_a_hole():
    held = history(10, 20, (10, 1.0))
    assert held.extended(held.rows, 20, 30).covers(10, 30)
    assert held.extended(held.rows, 0, 10).covers(0, 20)
    assert not held.extended(held.rows, 0, 10).covers(0, 21)
    assert not held.extended(held.rows, 12, 15).covers(9, 20)
    for start, stop in ((21, 30), (0, 9)):
        with pytest.raises(ValueError, match="there would be a hole"):
            held.extended(held.rows, start, stop)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_write_that_is_stopped_leaves_the_file_before(shelf, monkeypatch, error):
    held = history(0, 10, (0, 1.0))
    write(shelf, held)

    def full(place):
        raise error(28, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else DataError, match="No space left"):
        write(shelf, history(0, 20, (0, 1.0), (10, 2.0)))
    monkeypatch.undo()
    assert shelf.read().rows.equals(held.rows)
    write(shelf, history(0, 20, (0, 1.0), (10, 2.0)))
    assert [path.name for path in shelf.path.parent.iterdir() if "unfinished" in path.name] == []


def test_a_disk_that_is_full_is_one_clear_error(shelf):
    held = history(0, 10, (0, 1.0))
    write(shelf, held)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(DataError, match="cannot be written"):
            write(shelf, history(0, 20_000, *((time, time**0.5) for time in range(20_000))))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert shelf.read().rows.equals(held.rows)
    assert [path.name for path in shelf.path.parent.iterdir() if "unfinished" in path.name] == []


@pytest.mark.parametrize("content", [b"", b"PAR1 not parquet", "cut", "foreign", "header"])
def test_a_file_that_is_not_ours_is_named_with_what_to_do(shelf, content):
    write(shelf, history(0, 10, (0, 1.0)))
    if isinstance(content, bytes):
        shelf.path.write_bytes(content)
    elif content == "cut":
        shelf.path.write_bytes(shelf.path.read_bytes()[:-20])
    else:
        rows((0, 1.0)).write_parquet(shelf.path, metadata={store.KEY: "{}"} if content == "header" else None)
    with pytest.raises(DataError) as problem:
        shelf.read()
    assert str(shelf.path) in str(problem.value)
    assert "remove the file, and `mimstocr data update` fetches it again" in str(problem.value)


def test_another_version_is_refused(shelf):
    write(shelf, history(0, 10, (0, 1.0), version=2))
    with pytest.raises(DataError, match="expected version 1 of the store, got version 2; remove the file"):
        shelf.read()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(DataError, match=r"data.store .*file/s/c/1d: cannot be written"),
        Store(tmp_path / "file").shelf("s", "c", "1d", "A").lock(),
    ):
        pass


def test_one_process_at_a_time(shelf, monkeypatch):
    monkeypatch.setattr(store, "WAIT", 0.05)
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with shelf.lock():
            inside.set()
            leave.wait(5)

    other = threading.Thread(target=hold)
    other.start()
    assert inside.wait(5)
    with pytest.raises(DataError, match="another process has been fetching it"), shelf.lock():
        pass
    leave.set()
    other.join()
    with shelf.lock():
        pass


def test_the_home_folder_is_written_out(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    from pathlib import Path

    assert Store(Path("~/.mimstocr/store")).root == tmp_path / ".mimstocr/store"


# ---- patience


def paced(failures, **settings):
    """Calls of a request that fails so often, with a clock that only sleeping moves; what was slept."""
    now, slept = [0.0], []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(0.25, sleep=sleep, clock=lambda: now[0], **settings)
    left = [failures]

    def request():
        if left[0]:
            left[0] -= 1
            raise PassingError("busy")
        return "done"

    return pace, request, slept


def test_requests_keep_their_distance():
    pace, request, slept = paced(0)
    assert [pace.call(request) for _ in range(3)] == ["done"] * 3
    assert slept == [0.25, 0.25]


def test_waits_grow_and_end():
    pace, request, slept = paced(4, longest=3.0)
    assert pace.call(request) == "done"
    waits = [seconds for seconds in slept if seconds > 0.25]
    assert len(waits) == 4
    for wait, whole in zip(waits, [1, 2, 3, 3], strict=True):
        assert whole / 2 <= wait <= whole
    pace, request, slept = paced(5)
    with pytest.raises(NoAnswerError, match=r"^busy \(5 tries\)$"):
        pace.call(request)


def test_what_a_service_asks_to_wait_is_waited_for_unless_it_is_long():
    pace, _, slept = paced(0)
    asked = [PassingError("busy", 20.0)]

    def request():
        if asked:
            raise asked.pop()
        return "done"

    assert pace.call(request) == "done"
    assert slept == [20.0]
    asked.append(PassingError("busy", 61.0))
    with pytest.raises(NoAnswerError, match="busy; it asks to wait 61 s"):
        pace.call(request)


def test_an_address_that_is_not_online_is_refused():
    from mimstocr.data import DataSettings

    for source in ("csv:prices.csv", "yahoo", "yahoo:", "yaho:AAPL"):
        with pytest.raises(DataError, match="expected the address of an online source"):
            online.feed_of(DataSettings(source=source))


def test_the_year_of_old_settings_goes_on_meaning_the_same():
    from mimstocr.config import make_config
    from mimstocr.data import DataSettings
    from mimstocr.studies.study import config_hash

    assert DataSettings(days_per_year=252) == DataSettings()
    assert DataSettings(days_per_year=365).days_per_year == 365
    assert DataSettings(source="bybit:BTCUSDT", days_per_year=252).days_per_year == 252
    assert config_hash(make_config({"data": {"days_per_year": 252}})) == config_hash(make_config({}))
    assert config_hash(make_config({"data": {"days_per_year": 365}})) != config_hash(make_config({}))
