import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.backbones.deformtime import (
    DeformLayer,
    DeformTime,
    NeighbourEmbedding,
    TemporalAttention,
    VariableAttention,
    sample,
)
from mimstocr.errors import ConfigError


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pixel(image: Tensor, row: int, column: int) -> float:
    inside = 0 <= row < image.shape[0] and 0 <= column < image.shape[1]
    return float(image[row, column]) if inside else 0.0


def interpolated(image: Tensor, row: float, column: float) -> float:
    top, left = math.floor(row), math.floor(column)
    below, right = row - top, column - left
    return (
        (1 - below) * (1 - right) * pixel(image, top, left)
        + (1 - below) * right * pixel(image, top, left + 1)
        + below * (1 - right) * pixel(image, top + 1, left)
        + below * right * pixel(image, top + 1, left + 1)
    )


@pytest.mark.parametrize(("rows", "columns"), [(4, 6), (5, 1)])
def test_sampling_by_explicit_interpolation(rows: int, columns: int) -> None:
    images = randn(2, 3, rows, columns)
    random = torch.Generator().manual_seed(1)
    places = torch.rand(2, 7, 5, 2, generator=random, dtype=torch.float64)
    places = places * torch.tensor([rows + 2.0, columns + 2.0]) - 1.5  # some beyond each edge
    if columns == 1:
        places[..., 1] = 0
    found = sample(images, places)
    for m in range(2):
        for c in range(3):
            for p in range(7):
                for q in range(5):
                    expected = interpolated(images[m, c], *places[m, p, q].tolist())
                    assert found[m, c, p, q] == pytest.approx(expected, abs=1e-12)


@torch.no_grad()
def attended(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """[T, H] each to [T, H], a step at a time."""
    rows = []
    for query in queries:
        scores = torch.stack([query @ key for key in keys]) / math.sqrt(queries.shape[1])
        weights = scores.exp() / scores.exp().sum()
        rows.append(sum(w * value for w, value in zip(weights, values, strict=True)))
    return torch.stack(rows)


@torch.no_grad()
def test_temporal_attention_by_loops() -> None:
    torch.manual_seed(0)
    module = TemporalAttention(steps=6, hidden=8, heads=2, groups=4, kernel_size=3).double()
    x = 2 * randn(2, 6, 8)
    queries = module.query(x)
    far = module.distances(queries)
    assert far.shape == (2, 4, 6)
    assert (far.abs() < 3).all()
    assert far.std() > 0.1
    out = module(x)
    for m in range(2):
        sampled = torch.zeros(6, 8, dtype=torch.float64)
        for t in range(6):
            for c in range(8):
                sampled[t, c] = interpolated(x[m, :, c : c + 1], t + float(far[m, c // 2, t]), 0.0)
        keys, values = sampled @ module.key.weight.T, module.value(sampled) + module.place
        parts = [attended(queries[m][:, at], keys[:, at], values[:, at]) for at in (slice(0, 4), slice(4, 8))]
        assert_close(out[m], module.out(torch.cat(parts, dim=1)))


def test_the_distance_of_a_step_comes_from_the_queries_around_it() -> None:
    torch.manual_seed(0)
    module = TemporalAttention(steps=9, hidden=4, heads=1, groups=2, kernel_size=3).double()
    queries = randn(1, 9, 4)
    moved = queries.clone()
    moved[0, 4, 0] += 1  # of the first group
    change = (module.distances(moved) - module.distances(queries))[0]
    assert change[1].abs().max() == 0
    assert change[0].nonzero()[:, 0].tolist() == [3, 4, 5]


@torch.no_grad()
def test_variable_attention_by_loops() -> None:
    torch.manual_seed(0)
    module = VariableAttention(steps=4, kernel_size=3).double()
    x = 2 * randn(2, 4, 5)
    queries = module.query(x[:, None])
    places = module.places(queries)
    still = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(5), indexing="ij"), dim=-1)
    assert ((places - still).abs() < 3).all()
    assert (places - still).std() > 0.1
    out = module(x)
    for m in range(2):
        sampled = torch.tensor(
            [[interpolated(x[m], *places[m, t, c].tolist()) for c in range(5)] for t in range(4)], dtype=torch.float64
        )
        keys = module.key.weight.squeeze() * sampled
        values = module.value.weight.squeeze() * sampled + module.value.bias + module.place
        mixed = attended(queries[m, 0], keys, values)
        assert_close(out[m], module.out.weight.squeeze() * mixed + module.out.bias)


@torch.no_grad()
def test_the_temporal_block_sees_every_period_th_step_together() -> None:
    torch.manual_seed(0)
    layer = DeformLayer(8, 4, period=3, patch=(4, 2), attend=(2, 2, 3), dropout=0.0).double()
    x = randn(2, 8, 4)
    out = layer._in_time(x)
    filled = torch.cat([x, x[:, :1]], dim=1)
    for start in range(3):
        steps = [start, start + 3, start + 6]
        alone = layer.temporal(filled[:, steps])
        for place, step in enumerate(steps):
            if step < 8:
                assert_close(out[:, step], alone[:, place])


def test_series_are_embedded_in_groups_of_neighbours() -> None:
    torch.manual_seed(0)
    module = NeighbourEmbedding(n_series=6, window=3, hidden=8, groups=4, dropout=0.0).double()
    x = randn(1, 3, 6)
    out = module(x)
    groups = [(0, 1), (2, 3), (4, 5), (5, 5)]
    for t in range(3):
        parts = [module.embed.weight @ x[0, t, list(pair)] for pair in groups]
        assert_close(out[0, t], module.norm(torch.cat(parts) + module.place[t]))


def test_groups_that_do_not_divide_the_hidden_size_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"groups \(3\) divides, got 32; change"):
        DeformTime(groups=3).forecaster(2, 24)
