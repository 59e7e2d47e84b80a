"""Batches of days: padded, aligned, and cut to blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mimstocr.features import WindowMaker
from mimstocr.training.batches import DayBatches, in_blocks

ROWS = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=bool)
LABELS = np.where(ROWS, np.arange(20, dtype=np.float32).reshape(4, 5), np.float32(np.nan))


class Places(WindowMaker):
    """Windows that say of which day and symbol they are."""

    def __call__(self, days: Tensor, symbols: Tensor) -> Tensor:
        return (10.0 * days[:, None] + symbols)[:, :, None, None]


def batches(*, aligned: bool) -> DayBatches:
    return DayBatches(Places(), ROWS, {"a": LABELS}, torch.device("cpu"), aligned=aligned)


@pytest.mark.parametrize("days", [[0, 1], [1, 3, 0], [0, 2, 1], [2], [3]])
def test_aligned_and_padded_hold_the_same(days: list[int]) -> None:
    found = []
    for aligned in (False, True):
        batch = batches(aligned=aligned)(days)
        assert batch.symbols.shape == batch.valid.shape == batch.x.shape[:2] == batch.targets["a"].shape
        row, column = batch.valid.nonzero(as_tuple=True)
        places = [(days[r], int(s)) for r, s in zip(row.tolist(), batch.symbols[row, column], strict=True)]
        assert sorted(places) == sorted((day, int(i)) for day in days for i in np.flatnonzero(ROWS[day]))
        values = {place: batch.x[r, c].item() for place, r, c in zip(places, row, column, strict=True)}
        assert all(value == 10 * day + symbol for (day, symbol), value in values.items())
        labels = {place: batch.targets["a"][r, c].item() for place, r, c in zip(places, row, column, strict=True)}
        assert all(value == LABELS[place] for place, value in labels.items())
        found.append((values, labels))
    assert found[0] == found[1]


def test_aligned_columns_are_one_stock() -> None:
    batch = batches(aligned=True)([0, 1])
    assert batch.symbols.tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert batch.valid.tolist() == [[True, False, True, True], [False, True, True, False]]


# ---- blocks ----------------------------------------------------------------------------------------------------------


def cut(n: int, size: int, seed: int) -> list[list[int]]:
    return in_blocks(list(range(100, 100 + n)), size, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("n", "size"), [(50, 10), (47, 8), (20, 20), (29, 20), (7, 20), (1, 5), (12, 1), (13, 2)])
def test_blocks_are_days_in_a_row_and_each_day_comes_once(n: int, size: int) -> None:
    for seed in range(30):
        blocks = cut(n, size, seed)
        assert sorted(day for block in blocks for day in block) == list(range(100, 100 + n))
        for block in blocks:
            assert block == list(range(block[0], block[0] + len(block)))
            inner = block[0] > 100 and block[-1] < 99 + n
            assert (len(block) == size) if inner else (2 * len(block) >= size or len(blocks) == 1)
            assert 2 * len(block) < 3 * size or len(blocks) == 1


def test_blocks_are_cut_elsewhere_and_come_in_another_order_each_time() -> None:
    many = [cut(50, 10, seed) for seed in range(40)]
    starts = {tuple(sorted(block[0] for block in blocks)) for blocks in many}
    assert len(starts) >= 8
    assert any(blocks != sorted(blocks) for blocks in many)
    assert cut(50, 10, 3) == cut(50, 10, 3)
