"""The inner products, and the shortest vector of a convex hull."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.testing import assert_close

from mimstocr.balancing._gram import combine, directions, inner_products, nearest


def vectors(seed: int, n: int, dim: int) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, dim)) * 10 ** rng.uniform(-1, 1, (n, 1)) + rng.normal(size=dim)


def simplex(n: int, parts: int) -> NDArray[np.float64]:
    """Every point of the simplex whose weights are multiples of 1 / parts."""
    counts = [c for c in itertools.product(range(parts + 1), repeat=n - 1) if sum(c) <= parts]
    return np.array([[*c, parts - sum(c)] for c in counts]) / parts


def shortest_by_faces(rows: NDArray[np.float64]) -> float:
    """The length of the shortest vector of the hull: the best of all faces, each solved as if it were a plane."""
    best = np.inf
    for size in range(1, len(rows) + 1):
        for face in itertools.combinations(range(len(rows)), size):
            corner, *others = rows[list(face)]
            edges = np.array(others).reshape(-1, rows.shape[1]) - corner
            part = np.linalg.lstsq(edges.T, -corner, rcond=None)[0] if size > 1 else np.zeros(0)
            if (part >= -1e-12).all() and part.sum() <= 1 + 1e-12:
                best = min(best, float(np.linalg.norm(corner + part @ edges)))
    return best


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(12))
def test_no_vector_of_the_hull_is_shorter(seed: int, n: int) -> None:
    rows = vectors(seed, n, 3 if seed % 2 else 6)
    weights = nearest(rows @ rows.T)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1, rel=1e-12)
    length = np.linalg.norm(weights @ rows)
    grid = np.linalg.norm(simplex(n, 200 if n < 4 else 30) @ rows, axis=1)
    assert length <= grid.min() * (1 + 1e-9) + 1e-9
    assert length == pytest.approx(shortest_by_faces(rows), rel=1e-7, abs=1e-6)


def test_zero_within_the_hull_is_found() -> None:
    rows = np.array([[1.0, 0], [-1, 1], [-1, -1], [5, 5]])
    assert np.linalg.norm(nearest(rows @ rows.T) @ rows) < 1e-12


def test_many_vectors_in_few_dimensions() -> None:
    """Faces of more corners than dimensions; every vector's inner product with the shortest is at least its square."""
    for seed in range(20):
        rows = vectors(seed, 12, 3) + 2
        found = nearest(rows @ rows.T) @ rows
        assert (rows @ found >= found @ found - 1e-9 * (rows**2).sum(axis=1).max()).all()


def test_vectors_of_very_different_lengths() -> None:
    rows = np.diag([1e12, 1.0, 1e-12])
    weights = nearest(rows @ rows.T)
    # orthogonal vectors: weights fall with the squared lengths
    assert weights == pytest.approx([1e-48, 1e-24, 1], rel=1e-9)


def test_equal_vectors() -> None:
    rows = np.array([[1.0, 2], [1, 2], [1, 2]])
    assert nearest(rows @ rows.T) @ rows == pytest.approx([1, 2])


def test_inner_products_are_relative_to_the_largest_value() -> None:
    rows = torch.tensor([[3e30, -4e30], [1e30, 0.0]])
    assert_close(inner_products(rows), torch.tensor([[25, 3], [3, 1]], dtype=torch.float64) / 16, rtol=1e-6, atol=0)
    tiny = torch.tensor([[3e-40, -4e-40]])
    assert_close(inner_products(tiny), torch.tensor([[25 / 16]], dtype=torch.float64), rtol=1e-4, atol=0)
    assert (inner_products(torch.zeros(2, 3)) == 0).all()


def test_directions_of_long_short_and_zero_vectors() -> None:
    rows = torch.tensor([[3e8, 4e8], [0.0, 2e-8], [0.0, 0.0]], dtype=torch.float64)
    cosines, inverse = directions(rows @ rows.T)
    assert_close(cosines, torch.tensor([[1, 0.8, 0], [0.8, 1, 0], [0, 0, 0]], dtype=torch.float64))
    assert_close(inverse, torch.tensor([1 / 5e8, 1 / 2e-8, 0], dtype=torch.float64))


def test_large_weights_on_rows_that_cancel() -> None:
    rows = torch.tensor([[1.0, 1e-3], [-1.0, 0.0]])
    weight = torch.tensor([1e9, 1e9], dtype=torch.float64)
    assert_close(combine(weight, rows), torch.tensor([0.0, 1e6]))
