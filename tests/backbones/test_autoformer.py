import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mimstocr.backbones._forecast import decompose
from mimstocr.backbones.autoformer import (
    AutoCorrelation,
    Autoformer,
    DecoderLayer,
    EncoderLayer,
    SeasonNorm,
    correlations,
    delayed,
)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 6, 7])
def test_correlations_by_loops(steps: int) -> None:
    queries, keys = randn(2, steps, 3), randn(2, steps, 3, seed=1)
    found = correlations(queries, keys)
    for day in range(2):
        for delay in range(steps):
            terms = [queries[day, t] @ keys[day, (t - delay) % steps] / 3 for t in range(steps)]
            assert_close(found[day, delay], sum(terms))


def test_the_best_delays_of_a_pure_sine_are_its_periods() -> None:
    wave = torch.sin(2 * math.pi * torch.arange(48, dtype=torch.float64) / 12)[None, :, None]
    best = correlations(wave, wave).topk(4, dim=1)
    assert set(best.indices[0].tolist()) == {0, 12, 24, 36}
    assert_close(best.values, torch.full((1, 4), 24.0, dtype=torch.float64))
    assert int(correlations(wave, wave).argmin()) % 12 == 6


def test_delayed_values_by_hand() -> None:
    values = torch.arange(5.0)[None, :, None].repeat(2, 1, 1)
    found = delayed(values, torch.tensor([[0, 2], [4, 1]]))[..., 0]
    assert found[0].tolist() == [[0, 1, 2, 3, 4], [2, 3, 4, 0, 1]]
    assert found[1].tolist() == [[4, 0, 1, 2, 3], [1, 2, 3, 4, 0]]


@torch.no_grad()
def by_loops(module: AutoCorrelation, x: Tensor, memory: Tensor) -> Tensor:
    """One day, [T, H] and [S, H] to [T, H], a delay and a step at a time."""
    n = len(x)
    fitted = torch.zeros_like(x)
    fitted[: min(n, len(memory))] = memory[:n]
    q, k, v = (linear.weight for linear in (module.query, module.key, module.value))
    strength = [sum(float(q @ x[t] @ (k @ fitted[(t - d) % n])) for t in range(n)) / x.shape[1] for d in range(n)]
    best = sorted(range(n), key=lambda d: -strength[d])[: max(1, int(module.factor * math.log(n)))]
    total = sum(math.exp(strength[d]) for d in best)
    rows = [sum(math.exp(strength[d]) / total * (v @ fitted[(t + d) % n]) for d in best) for t in range(n)]
    return torch.stack(rows) @ module.out.weight.T


@pytest.mark.parametrize(("steps", "remembered"), [(9, 9), (6, 9), (9, 6), (1, 3)])
def test_auto_correlation_by_loops_each_day_by_its_own_delays(steps: int, remembered: int) -> None:
    torch.manual_seed(0)
    module = AutoCorrelation(4, 1, 0.0).double()
    x, memory = 2 * randn(3, steps, 4), 2 * randn(3, remembered, 4, seed=1)
    out = module(x, memory)
    for day in range(3):
        assert_close(out[day], by_loops(module, x[day], memory[day]))


def test_the_norm_has_no_mean_over_time() -> None:
    x = randn(2, 7, 4)
    out = SeasonNorm(4).double()(x)
    assert_close(out.mean(1), torch.zeros(2, 4, dtype=torch.float64), atol=1e-12, rtol=0)
    plain = torch.nn.functional.layer_norm(x, (4,))
    assert_close(out, plain - plain.mean(1, keepdim=True))


def test_the_decoder_starts_from_the_second_half_then_zeros_and_the_mean() -> None:
    module = Autoformer(horizon=2, kernel_size=3, hidden_size=4).forecaster(n_series=2, window=7).double()
    x = randn(1, 7, 2)
    season, trend = decompose(x, 3)
    start, base = module._start(x)
    assert_close(start, torch.cat([season[:, 4:], torch.zeros(1, 2, 2, dtype=torch.float64)], dim=1))
    assert_close(base, torch.cat([trend[:, 4:], x.mean(1, keepdim=True).repeat(1, 2, 1)], dim=1))


@pytest.mark.parametrize("remembered", [9, 12])
def test_a_decoder_layer_loses_nothing_of_what_it_adds(remembered: int) -> None:
    """Season out and the three trends together are the season in and what each part added."""
    torch.manual_seed(0)
    layer = DecoderLayer(4, 6, factor=1, dropout=0.0, kernel_size=3, n_series=2).double()
    x, memory = randn(2, 9, 4), randn(2, remembered, 4, seed=1)
    first = decompose(x + layer.own(x, x), 3)[0]
    second = decompose(first + layer.cross(first, memory), 3)[0]
    third = decompose(second + layer.feed_forward(second), 3)[0]
    trends = x + layer.own(x, x) + layer.cross(first, memory) + layer.feed_forward(second) - third
    season, more = layer(x, memory)
    assert_close(season, third)
    assert_close(more, layer.project(trends))


def test_an_encoder_layer_keeps_the_season() -> None:
    torch.manual_seed(0)
    layer = EncoderLayer(4, 6, factor=1, dropout=0.0, kernel_size=3).double()
    x = randn(2, 9, 4)
    middle = decompose(x + layer.own(x, x), 3)[0]
    assert_close(layer(x), decompose(middle + layer.feed_forward(middle), 3)[0])


def test_the_forecast_is_the_mean_the_trends_of_the_layers_and_the_season() -> None:
    torch.manual_seed(0)
    module = Autoformer(hidden_size=4, dropout=0, decoder_layers=2).forecaster(n_series=2, window=12).double()
    x = randn(3, 12, 2)
    told = []

    def listen(_: nn.Module, given: object, out: tuple[Tensor, Tensor]) -> None:
        told.append(out)

    for layer in module.decoder:
        layer.register_forward_hook(listen)
    out = module(x)
    season = module.head(module.norm(told[-1][0]))
    assert_close(out, x.mean(1, keepdim=True) + (told[0][1] + told[1][1] + season)[:, -1:])
