import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mimstocr.backbones._forecast import (
    Attention,
    CircularConv,
    EncoderLayer,
    Normalised,
    decompose,
    in_patches,
    moving_average,
    patch_count,
    positions,
)


def series(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [1, 2, 5, 6, 25])
def test_moving_average_repeats_the_edges(size: int) -> None:
    x = series(2, 9, 3)
    out = moving_average(x, size)
    assert out.shape == x.shape
    for t in range(9):
        around = [min(max(t + k, 0), 8) for k in range(-(size // 2), (size - 1) // 2 + 1)]
        assert len(around) == size
        assert_close(out[:, t], sum(x[:, s] for s in around) / size)


def test_season_and_trend_add_up_and_a_straight_line_is_all_trend_inside() -> None:
    x = torch.arange(9.0, dtype=torch.float64)[None, :, None] * 2 + 1
    season, trend = decompose(x, 5)
    assert_close(season + trend, x)
    assert_close(trend[0, 2:-2], x[0, 2:-2])
    assert_close(trend[0, 0, 0], torch.tensor((1 + 1 + 1 + 3 + 5) / 5, dtype=torch.float64))


class Spy(nn.Module):
    """Gives what it is told, and keeps what it was given."""

    def __init__(self, tell: object) -> None:
        super().__init__()
        self.tell = tell

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return self.tell(x)


def test_what_is_normalised_comes_back() -> None:
    x = 5 + 3 * series(2, 40, 3)
    spy = Spy(lambda z: z)
    assert_close(Normalised(spy)(x), x)
    assert_close(spy.seen.mean(1), torch.zeros(2, 3).double(), atol=1e-12, rtol=0)
    assert_close(spy.seen.var(1, correction=0), torch.ones(2, 3).double(), atol=1e-4, rtol=0)
    assert_close(Normalised(Spy(lambda z: 0 * z[:, :1]))(x), x.mean(1, keepdim=True))


def test_a_normalised_forecast_moves_with_the_level_and_scale_of_its_series() -> None:
    x = series(2, 40, 3)
    forecaster = Normalised(Spy(lambda z: (z**3)[:, -2:]))
    scale, level = torch.tensor([2.0, 0.5, 7.0]), torch.tensor([1.0, -4.0, 0.0])
    assert_close(forecaster(x * scale + level), forecaster(x) * scale + level, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("window", "size", "stride"), [(8, 4, 2), (9, 4, 2), (9, 4, 3), (5, 5, 5), (7, 3, 1)])
def test_patches_cover_the_window_and_the_last_ends_with_it(window: int, size: int, stride: int) -> None:
    x = series(2, window, 3)
    patches = in_patches(x, size, stride)
    starts = list(range(window - size, -stride, -stride))[::-1]
    assert patches.shape == (2, len(starts), 3, size)
    assert patch_count(window, size, stride) == len(starts)
    for place, start in enumerate(starts):
        for step in range(size):
            assert torch.equal(patches[:, place, :, step], x[:, max(start + step, 0)])


@torch.no_grad()
def attention_of(module: Attention, queries: Tensor, items: Tensor) -> Tensor:
    """One sequence, [Q, H] and [K, H] to [Q, H], a query and a head at a time."""
    q, k, v = module.query(queries), items @ module.key.weight.T, module.value(items)
    size = q.shape[1] // module.heads
    rows = []
    for query in q:
        parts = []
        for head in range(module.heads):
            at = slice(head * size, (head + 1) * size)
            scores = [float(query[at] @ key[at]) / math.sqrt(size) for key in k]
            total = sum(math.exp(score) for score in scores)
            parts.append(sum(math.exp(score) / total * value[at] for score, value in zip(scores, v, strict=True)))
        rows.append(torch.cat(parts))
    return module.out(torch.stack(rows))


def test_attention_by_loops() -> None:
    torch.manual_seed(0)
    module = Attention(6, 2).double()
    queries, items = 3 * series(2, 4, 6), 3 * series(2, 5, 6, seed=1)
    out = module(queries, items)
    for day in range(2):
        assert_close(out[day], attention_of(module, queries[day], items[day]))


@pytest.mark.parametrize("before", [False, True])
def test_encoder_layer_by_its_equations(before: bool) -> None:
    torch.manual_seed(0)
    layer = EncoderLayer(6, 2, 8, 0.3, before=before).double().eval()
    x = series(2, 5, 6)
    up, _, _, down, _ = layer.feed_forward

    def inner(z: Tensor) -> Tensor:
        return down(nn.functional.gelu(up(z)))

    if before:
        middle = x + layer.attention(layer.first(x), layer.first(x))
        expected = middle + inner(layer.second(middle))
    else:
        middle = layer.first(x + layer.attention(x, x))
        expected = layer.second(middle + inner(middle))
    assert_close(layer(x), expected)


def test_the_ends_of_time_meet_in_the_embedding() -> None:
    torch.manual_seed(0)
    module = CircularConv(2, 3).double()
    x = series(1, 5, 2)
    out = module(x)
    for t in range(5):
        expected = sum(module.conv.weight[:, :, k] @ x[0, (t + k - 1) % 5] for k in range(3))
        assert_close(out[0, t], expected)


def test_places_by_hand() -> None:
    found = positions(3, 5)
    assert found.shape == (3, 5)
    for t in range(3):
        slow, slower = t / 10_000 ** (2 / 5), t / 10_000 ** (4 / 5)
        expected = [math.sin(t), math.cos(t), math.sin(slow), math.cos(slow), math.sin(slower)]
        assert_close(found[t], torch.tensor(expected))
