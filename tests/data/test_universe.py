"""Spans and membership."""

import numpy as np
import pytest

from mimstocr.data.universe import Span, member_mask, read_spans
from mimstocr.errors import DataError


def day(text):
    return np.datetime64(text, "D")


def spans_of(tmp_path, text):
    path = tmp_path / "universe.txt"
    path.write_text(text, encoding="utf-8")
    return read_spans(path)


@pytest.mark.parametrize(
    "text",
    [
        "A\t2020-01-02\t2020-01-03\nB\t2020-01-06\t2020-01-06\n",
        "A,2020-01-02,2020-01-03\n\nB,2020-01-06,2020-01-06",
        "symbol, first, last\nA, 2020-01-02, 2020-01-03\nB, 2020-01-06, 2020-01-06\n",
        "\ufeffA\t2020-01-02 00:00:00\t2020-01-03 00:00:00\nB\t20200106\t20200106\n",
    ],
)
def test_the_ways_to_write_spans(tmp_path, text):
    assert spans_of(tmp_path, text) == [
        Span("A", day("2020-01-02"), day("2020-01-03")),
        Span("B", day("2020-01-06"), day("2020-01-06")),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("B\t2020-01-06", "line 2: expected symbol, first day, last day, got 'B\\\\t2020-01-06'"),
        ("B\t2020-01-06\tsoon", "line 2: expected days as YYYY-MM-DD"),
        ("B\t2020\t2021", "line 2: expected days as YYYY-MM-DD"),
        ("B\tNaT\t2021-01-01", "line 2: expected days as YYYY-MM-DD"),
        ("B\ttoday\t2050-01-01", "line 2: expected days as YYYY-MM-DD"),
        ("B\t2020-01-06\t2020-01-05", "line 2: the span of B ends before it starts"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, said):
    with pytest.raises(DataError, match=said):
        spans_of(tmp_path, f"A\t2020-01-02\t2020-01-03\n{line}\n")


def test_a_missing_or_empty_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"cannot be read \(No such file"):
        read_spans(tmp_path / "none.txt")
    with pytest.raises(DataError, match="no span in it"):
        spans_of(tmp_path, "symbol,first,last\n")


def test_membership_is_point_in_time():
    dates = np.array(["2020-01-02", "2020-01-03", "2020-01-06", "2020-01-07"], dtype="datetime64[D]")
    spans = [
        Span("B", day("2020-01-02"), day("2020-01-02")),
        Span("B", day("2020-01-04"), day("2020-01-06")),  # starts on a weekend, comes back
        Span("C", day("1990-01-01"), day("2030-01-01")),
        Span("X", day("2020-01-02"), day("2020-01-07")),
        Span("A", day("2020-01-04"), day("2020-01-05")),  # no trading day in it
    ]
    expected = [
        [False, True, True],
        [False, False, True],
        [False, True, True],
        [False, False, True],
    ]
    assert member_mask(spans, dates, ["A", "B", "C"]).tolist() == expected


def test_the_last_day_of_a_span_has_all_its_bars():
    hours = np.arange("2020-01-02T00", "2020-01-05T00", 12, dtype="datetime64[h]").astype("datetime64[ms]")
    mask = member_mask([Span("A", day("2020-01-02"), day("2020-01-03"))], hours, ["A"])
    assert mask[:, 0].tolist() == [True, True, True, True, False, False]
