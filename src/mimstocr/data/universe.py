"""Universes: who is in the cross-section on which day, point in time.

A universe is a set of spans (symbol, first day, last day); a symbol may have several. The file has one span a
line, separated by tabs or commas, as in Qlib's `instruments/*.txt`; a header line is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimstocr.data.panel import Days
from mimstocr.errors import DataError


class Span(NamedTuple):
    """`symbol` is a member from `first` to `last`, both days included."""

    symbol: str
    first: np.datetime64
    last: np.datetime64


def read_spans(path: Path) -> list[Span]:
    """The spans of a universe file.

    Raises DataError naming the line when it has not three fields, a date cannot be read, or a span ends before
    it starts; also when the file is missing or has no span.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"universe {path}: cannot be read ({error.strerror}); expected a file of spans") from None
    spans = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        parts = [part.strip() for part in line.split("\t" if "\t" in line else ",")]
        if number == 1 and parts[0].lower() in ("symbol", "instrument", "ticker"):
            continue
        if len(parts) < 3:
            raise DataError(f"{path}, line {number}: expected symbol, first day, last day, got {line.strip()!r}")
        try:
            first, last = (np.datetime64(date.fromisoformat(part[:10])) for part in parts[1:3])
        except ValueError:
            raise DataError(f"{path}, line {number}: expected days as YYYY-MM-DD, got {line.strip()!r}") from None
        if last < first:
            raise DataError(f"{path}, line {number}: the span of {parts[0]} ends before it starts; swap the days")
        spans.append(Span(parts[0], first, last))
    if not spans:
        raise DataError(f"universe {path}: no span in it; expected lines of symbol, first day, last day")
    return spans


def member_mask(spans: Iterable[Span], dates: Days, symbols: Sequence[str]) -> NDArray[np.bool_]:
    """(days, symbols): true where a span of the symbol covers the day. Spans of other symbols are passed over."""
    column = {symbol: index for index, symbol in enumerate(symbols)}
    dates = dates.astype("datetime64[D]")  # a span's last day has all its bars
    mask = np.zeros((len(dates), len(symbols)), dtype=bool)
    for symbol, first, last in spans:
        index = column.get(symbol)
        if index is not None:
            mask[np.searchsorted(dates, first) : np.searchsorted(dates, last, side="right"), index] = True
    return mask
