import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mimstocr.backbones.timesnet import Inception, TimesBlock, main_periods


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_periods_of_two_sines_strongest_first() -> None:
    t = torch.arange(48, dtype=torch.float64)
    day = 3 * torch.sin(2 * math.pi * t / 8) + torch.sin(2 * math.pi * t / 24) + 100
    other = torch.sin(2 * math.pi * t / 16)
    periods, amplitudes = main_periods(torch.stack([day, other])[..., None], 2)
    assert periods[0].tolist() == [8, 24]
    assert periods[1, 0] == 16
    assert_close(amplitudes[0], torch.tensor([3 * 24, 24], dtype=torch.float64))


def test_the_mean_is_no_period_and_k_is_cut_to_what_there_is() -> None:
    periods, amplitudes = main_periods(torch.full((1, 5, 2), 7.0), 9)
    assert sorted(periods[0].tolist()) == [2, 5]
    assert_close(amplitudes, torch.zeros(1, 2), atol=1e-4, rtol=0)


def test_an_inception_layer_is_the_mean_of_its_convolutions() -> None:
    torch.manual_seed(0)
    module = Inception(3, 4, 3).double()
    x = randn(2, 3, 6, 5)
    with torch.no_grad():
        module.bias += randn(4)
        each = [nn.functional.conv2d(x, kernel, padding=kernel.shape[-1] // 2) for kernel in module.kernels]
    assert [kernel.shape[-1] for kernel in module.kernels] == [1, 3, 5]
    assert_close(module(x), sum(each) / 3 + module.bias[:, None, None])


@torch.no_grad()
@pytest.mark.parametrize("steps", [11, 12])
def test_a_block_by_loops_each_day_by_its_own_periods(steps: int) -> None:
    torch.manual_seed(0)
    block = TimesBlock(hidden=3, inner=4, n_kernels=2, top_k=2).double()
    x = randn(5, steps, 3)
    out = block(x)
    seen = set()
    for day in range(5):
        periods, amplitudes = main_periods(x[day : day + 1], 2)
        parts = []
        for period in periods[0].tolist():
            seen.add(period)
            rows = -(-steps // period)
            image = torch.zeros(3, rows, period, dtype=torch.float64)
            for t in range(steps):
                image[:, t // period, t % period] = x[day, t]
            convolved = block.convolve(image[None])[0]
            parts.append(torch.stack([convolved[:, t // period, t % period] for t in range(steps)]))
        weight = amplitudes[0].exp() / amplitudes[0].exp().sum()
        assert_close(out[day], x[day] + weight[0] * parts[0] + weight[1] * parts[1])
    assert len(seen) > 2  # days differ in their periods
