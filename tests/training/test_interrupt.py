"""Signals that ask, and the one that insists."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from mimstocr.training.interrupt import STOP_SIGNALS, Stop, stop_on_signal


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def test_sigterm_asks_however_often_it_comes() -> None:
    with stop_on_signal() as stop:
        assert not stop
        for _ in range(3):
            send(signal.SIGTERM)  # by its own action it would end this process
            assert stop


def test_the_second_ctrl_c_insists() -> None:
    with stop_on_signal() as stop:
        send(signal.SIGINT)
        assert stop
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with stop_on_signal():
        assert [signal.getsignal(number) for number in STOP_SIGNALS] != before
        for number in STOP_SIGNALS:
            send(number)
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


def test_in_another_thread_the_flag_stays_down() -> None:
    seen: list[Stop] = []

    def work() -> None:
        with stop_on_signal() as stop:
            seen.append(stop)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [bool(stop) for stop in seen] == [False]
