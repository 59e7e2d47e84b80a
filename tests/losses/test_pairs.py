"""Sums over pairs, with a cost that plain autograd can do as well."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.losses import _pairs
from mimstocr.losses._pairs import pair_sum, row_blocks

VALID = torch.tensor([[True] * 7, [True, False, True, True, False, True, False]])


def sample() -> tuple[Tensor, Tensor, Tensor]:
    """Two days of seven stocks: scores, weights of stocks, and what a day's value pulls by."""
    random = torch.Generator().manual_seed(0)
    f, w = torch.randn(2, 2, 7, generator=random, dtype=torch.float64)
    return f.requires_grad_(), w, torch.tensor([1.0, -3.0]).double()


def cubes(f: Tensor, w: Tensor, valid: Tensor) -> Tensor:
    """The sum of (w_i - w_j) (f_i - f_j)^3, which is the same for (i, j) and (j, i)."""
    weigh = lambda rows: w[:, rows].unsqueeze(2) - w.unsqueeze(1)  # noqa: E731
    return pair_sum(f, valid, weigh, lambda weight, gap: (weight * gap**3, 3 * weight * gap**2))


def value_and_gradient(f: Tensor, w: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
    value = cubes(f, w, VALID)
    return value.detach(), torch.autograd.grad(value, f, pull)[0]


def test_it_is_the_sum_over_the_pairs_of_valid_stocks() -> None:
    f, w, pull = sample()
    total = torch.zeros(2, dtype=torch.float64)
    for day in range(2):
        for i in range(7):
            for j in range(7):
                if VALID[day, i] and VALID[day, j]:
                    total[day] = total[day] + (w[day, i] - w[day, j]) * (f[day, i] - f[day, j]) ** 3
    value, gradient = value_and_gradient(f, w, pull)
    assert_close(value, total.detach())
    assert_close(gradient, torch.autograd.grad(total, f, pull)[0])


@pytest.mark.parametrize("block", [1, 20, 97, 98, 99])
def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Rows are 14 pairs long, all of them 98."""
    expected = value_and_gradient(*sample())
    monkeypatch.setattr(_pairs, "BLOCK", block)
    assert_close(value_and_gradient(*sample()), expected)


@pytest.mark.parametrize(
    ("block", "rows"), [(1000, [(0, 16), (16, 30)]), (1799, [(0, 29), (29, 30)]), (1800, [(0, 30)])]
)
def test_blocks_bound_what_is_held(monkeypatch: pytest.MonkeyPatch, block: int, rows: list[tuple[int, int]]) -> None:
    monkeypatch.setattr(_pairs, "BLOCK", block)
    assert row_blocks(torch.zeros(2, 30)) == [slice(*ends) for ends in rows]


def test_a_row_too_long_for_a_block_comes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pairs, "BLOCK", 10)
    assert row_blocks(torch.zeros(1, 11)) == [slice(i, i + 1) for i in range(11)]


def test_nothing_has_no_blocks() -> None:
    assert row_blocks(torch.zeros(3, 0)) == []


def test_junk_in_invalid_places_is_inert() -> None:
    f, w, pull = sample()
    junk = f.detach().masked_fill(~VALID, torch.nan).requires_grad_()
    assert_close(value_and_gradient(junk, w.masked_fill(~VALID, torch.inf), pull), value_and_gradient(f, w, pull))


def test_a_second_derivative_is_refused() -> None:
    f, w, _ = sample()
    with pytest.raises(RuntimeError, match="only once"):
        torch.autograd.grad(cubes(f, w, VALID).sum(), f, create_graph=True)
