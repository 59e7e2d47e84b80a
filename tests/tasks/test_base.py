import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mimstocr.data.panel import make_panel
from mimstocr.tasks.base import shifted, traded_close

NAN = np.nan
VALUES = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (0, [1, 2, 3]),
        (1, [2, 3, NAN]),
        (2, [3, NAN, NAN]),
        (3, [NAN, NAN, NAN]),
        (9, [NAN, NAN, NAN]),
        (-1, [NAN, 1, 2]),
        (-2, [NAN, NAN, 1]),
        (-3, [NAN, NAN, NAN]),
        (-9, [NAN, NAN, NAN]),
    ],
)
def test_shifted(days: int, expected: list[float]) -> None:
    moved = shifted(VALUES, days)
    assert moved.dtype == np.float32
    assert_array_equal(moved, np.outer(expected, [1, 10]))


def test_traded_close_is_missing_without_volume_and_without_a_row() -> None:
    close = np.array([[5.0], [6.0], [6.0], [NAN], [7.0]])
    volume = np.array([[1.0], [1.0], [0.0], [NAN], [1.0]])
    panel = make_panel(
        {"close": close, "volume": volume}, np.datetime64("2020-01-01") + np.arange(5), ["A"], source="test"
    )
    assert_array_equal(traded_close(panel)[:, 0], [5, 6, NAN, NAN, 7])
