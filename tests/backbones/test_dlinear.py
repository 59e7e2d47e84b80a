import pytest
import torch
from torch.testing import assert_close

from mimstocr.backbones._forecast import decompose
from mimstocr.backbones.dlinear import DLinear


@pytest.mark.parametrize("individual", [False, True])
def test_the_sum_of_a_linear_map_of_trend_and_one_of_season(individual: bool) -> None:
    torch.manual_seed(0)
    module = DLinear(individual=individual, horizon=2, kernel_size=3).forecaster(n_series=3, window=7).double()
    x = torch.randn(2, 7, 3, dtype=torch.float64)
    out = module(x)
    season, trend = decompose(x, 3)
    for day in range(2):
        for step in range(2):
            for c in range(3):
                own = c if individual else 0
                expected = module.season.bias[own, step] + module.trend.bias[own, step]
                for t in range(7):
                    expected = expected + module.season.weight[own, step, t] * season[day, t, c]
                    expected = expected + module.trend.weight[own, step, t] * trend[day, t, c]
                assert_close(out[day, step, c], expected)


def test_one_map_for_all_series_is_few_numbers() -> None:
    shared, own = (DLinear(individual=some).forecaster(n_series=400, window=96) for some in (False, True))
    assert sum(parameter.numel() for parameter in shared.parameters()) == 2 * (96 + 1)
    assert sum(parameter.numel() for parameter in own.parameters()) == 400 * 2 * (96 + 1)
