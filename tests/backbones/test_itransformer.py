import torch
from torch.testing import assert_close

from mimstocr.backbones.itransformer import ITransformer


def test_series_are_tokens_without_an_order_that_see_one_another() -> None:
    torch.manual_seed(0)
    module = ITransformer(hidden_size=8, num_heads=2, horizon=2).forecaster(4, 12).double().eval()
    x = torch.randn(3, 12, 4, dtype=torch.float64)
    out = module(x)
    assert out.shape == (3, 2, 4)
    order = [2, 0, 3, 1]
    assert_close(module(x[..., order]), out[..., order])
    moved = x.clone()
    moved[:, 5, 0] += 1
    assert (module(moved)[..., 1:] != out[..., 1:]).all()


def test_by_its_parts() -> None:
    torch.manual_seed(0)
    module = ITransformer(hidden_size=8, num_heads=2, num_layers=1).forecaster(3, 6).double().eval()
    x = torch.randn(1, 6, 3, dtype=torch.float64)
    mean, scale = x.mean(1), (x.var(1, correction=0) + 1e-5).sqrt()
    inner = module.inner
    tokens = torch.stack([inner.embed((x[0, :, c] - mean[0, c]) / scale[0, c]) for c in range(3)])
    encoded = inner.norm(inner.layers[0](tokens[None]))[0]
    expected = [inner.head(encoded[c]) * scale[0, c] + mean[0, c] for c in range(3)]
    assert_close(module(x)[0, 0], torch.cat(expected))
