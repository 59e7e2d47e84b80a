import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mimstocr.backbones.crossformer import Crossformer, Merge, Routed, SegmentEmbedding, TwoStage
from mimstocr.errors import ConfigError


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@torch.no_grad()
@pytest.mark.parametrize(("window", "segments"), [(12, 3), (10, 3), (9, 3), (8, 2)])
def test_each_segment_of_each_series_is_one_vector(window: int, segments: int) -> None:
    torch.manual_seed(0)
    module = SegmentEmbedding(3, window, 4, 5).double()
    x = randn(2, window, 3)
    out = module(x)
    assert out.shape == (2, 3, segments, 5)
    for c in range(3):
        for s in range(segments):
            steps = [max(window - 4 * (segments - s) + k, 0) for k in range(4)]
            vector = module.embed.weight @ x[1, steps, c] + module.embed.bias + module.place[c, s]
            assert_close(out[1, c, s], nn.functional.layer_norm(vector, (5,)))


@torch.no_grad()
def one_head(module: nn.Module, queries: Tensor, items: Tensor) -> Tensor:
    """[Q, H] and [K, H] to [Q, H], a query at a time."""
    rows = []
    for query in module.query(queries):
        scores = torch.stack([query @ (module.key.weight @ item) for item in items]) / len(query) ** 0.5
        weights = scores.exp() / scores.exp().sum()
        rows.append(sum(w * module.value(item) for w, item in zip(weights, items, strict=True)))
    return module.out(torch.stack(rows))


def test_the_routers_gather_from_all_series_and_the_series_read_them() -> None:
    torch.manual_seed(0)
    module = Routed(n_segments=3, routers=2, hidden=4, heads=1).double()
    x = randn(2, 3, 5, 4)  # days, segments, series
    out = module(x)
    for day in range(2):
        for s in range(3):
            buffer = one_head(module.gather, module.routers[s], x[day, s])
            assert_close(out[day, s], one_head(module.spread, x[day, s], buffer))


def test_two_stages_across_time_then_across_series() -> None:
    torch.manual_seed(0)
    module = TwoStage(3, 2, 4, 2, 6, 0.0).double()
    x = randn(2, 5, 3, 4)  # days, series, segments
    first = torch.stack([torch.stack([module.across_time(series[None])[0] for series in day]) for day in x])
    mixed = module.across_series(first.transpose(1, 2)).transpose(1, 2)
    middle = module.first(first + mixed)
    assert_close(module(x), module.second(middle + module.feed_forward(middle)))


def test_neighbours_merge_and_the_last_of_an_odd_number_is_repeated() -> None:
    torch.manual_seed(0)
    module = Merge(3).double()
    x = randn(1, 2, 5, 3)
    out = module(x)
    assert out.shape == (1, 2, 3, 3)
    for place, pair in enumerate([(0, 1), (2, 3), (4, 4)]):
        both = torch.cat([x[0, 1, pair[0]], x[0, 1, pair[1]]])
        assert_close(out[0, 1, place], module.map(module.norm(both)))


def test_the_forecast_is_the_sum_over_the_scales() -> None:
    torch.manual_seed(0)
    module = Crossformer(patch_size=3, num_layers=3, horizon=4).forecaster(2, 24).double().eval()
    told, scales = [], []

    def listen(_: nn.Module, given: tuple[Tensor, Tensor], out: tuple[Tensor, Tensor]) -> None:
        scales.append(given[1].shape[2])
        told.append(out[1])

    for layer in module.decoder:
        layer.register_forward_hook(listen)
    out = module(randn(2, 24, 2))
    assert scales == [8, 8, 4, 2]
    assert [part.shape for part in told] == [(2, 6, 2)] * 4
    assert_close(out, sum(told)[:, :4])


def test_one_segment_ahead_has_nothing_to_attend_to_across_time() -> None:
    near, far = (Crossformer(patch_size=3, horizon=n).forecaster(2, 24) for n in (3, 4))
    assert all(layer.own.across_time is None for layer in near.decoder)
    assert all(layer.own.across_time is not None for layer in far.decoder)


def test_a_window_without_two_segments_at_the_last_scale_is_refused() -> None:
    Crossformer(patch_size=3, num_layers=3).forecaster(2, 13)
    with pytest.raises(ConfigError, match=r"at least 13 steps, so that 3 scales of segments of 3 .* got 12"):
        Crossformer(patch_size=3, num_layers=3).forecaster(2, 12)
