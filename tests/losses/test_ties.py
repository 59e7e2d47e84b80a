from __future__ import annotations

import math

import torch

from mimstocr.losses._ties import tie_bounds


def test_by_hand() -> None:
    x = torch.tensor([[3.0, 1.0, 2.0, 1.0, 1.0], [5.0, 5.0, 5.0, 5.0, 4.0]])
    first, last = tie_bounds(x, torch.ones(2, 5) > 0)
    assert first.tolist() == [[4, 0, 3, 0, 0], [1, 1, 1, 1, 0]]
    assert last.tolist() == [[4, 2, 3, 2, 2], [4, 4, 4, 4, 0]]


def test_invalid_stocks_come_after_all_others() -> None:
    x = torch.tensor([[3.0, -9.0, 2.0, math.nan, 3.0]])
    first, last = tie_bounds(x, torch.tensor([[True, False, True, False, True]]))
    assert first[0, [0, 2, 4]].tolist() == [1, 0, 1]
    assert last[0, [0, 2, 4]].tolist() == [2, 0, 2]


def test_places_of_what_is_not_a_number_are_places_too() -> None:
    first, last = tie_bounds(torch.tensor([[math.nan, 1.0, math.nan]]), torch.ones(1, 3) > 0)
    assert ((first >= 0) & (first <= last) & (last < 3)).all()
