"""Stopping between two steps: Ctrl-C or SIGTERM asks, and a second Ctrl-C insists."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """A flag that a signal raises."""

    def __init__(self) -> None:
        self.asked = False

    def __bool__(self) -> bool:
        return self.asked


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Within, a signal sets the flag; the second Ctrl-C acts as it did before.

    SIGTERM asks however often it comes: whoever ends a whole group of processes sends it to a run and to the study
    above it, which hands it on. Who insists has SIGKILL.

    Outside the main thread, where Python has no signals, the flag stays down.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        stop.asked = True
        if number == signal.SIGINT:
            signal.signal(number, before[signal.SIGINT])

    try:
        for number in STOP_SIGNALS:
            signal.signal(number, ask)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
