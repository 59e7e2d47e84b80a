"""What every registered backbone promises, whatever it computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mimstocr.backbones import BACKBONES, Backbone
from mimstocr.training.checkpoint import load_checkpoint, save_checkpoint

STOCKS = (6, 0, 8, 1)
"""Valid stocks of each day of `batch`; the second day is empty, the last has one."""
PLACES, WINDOW, FEATURES = 9, 5, 3

pytestmark = pytest.mark.parametrize(
    "backbone", [BACKBONES.get(name)() for name in BACKBONES.names()], ids=BACKBONES.names()
)


def module_of(backbone: Backbone, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return backbone.build(FEATURES, WINDOW).double().eval()


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    """float64 windows and a ragged mask with holes in it."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(len(STOCKS), PLACES, WINDOW, FEATURES, generator=random, dtype=torch.float64)
    order = torch.rand(len(STOCKS), PLACES, generator=random).argsort(-1)
    return x, order < torch.tensor(STOCKS)[:, None]


def test_one_finite_representation_a_stock_and_zeros_elsewhere(backbone: Backbone) -> None:
    x, valid = batch()
    out = module_of(backbone)(x, valid)
    assert out.shape == (len(STOCKS), PLACES, backbone.width)
    assert out.dtype == torch.float64
    assert out.isfinite().all()
    assert (out[~valid] == 0).all()
    rows = out[valid]
    assert len(torch.unique(rows, dim=0)) == len(rows)


def test_float32_gives_float32_near_to_float64(backbone: Backbone) -> None:
    x, valid = batch()
    exact = module_of(backbone)(x, valid)
    single = module_of(backbone).float()(x.float(), valid)
    assert single.dtype == torch.float32
    assert_close(single.double(), exact, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("junk", [float("nan"), float("inf"), 1e300])
def test_junk_in_invalid_places_is_inert(backbone: Backbone, junk: float) -> None:
    x, valid = batch()
    results = []
    for windows in (x, x.masked_fill(~valid[..., None, None], junk)):
        module = module_of(backbone)
        windows = windows.clone().requires_grad_()
        out = module(windows, valid)
        out.square().sum().backward()
        results.append([out.detach(), windows.grad, *(parameter.grad for parameter in module.parameters())])
    for clean, dirty in zip(*results, strict=True):
        assert torch.equal(clean, dirty)
    assert (results[1][1][~valid] == 0).all()


def test_a_day_alone_equals_the_day_in_a_batch(backbone: Backbone) -> None:
    x, valid = batch()
    module = module_of(backbone)
    together = module(x, valid)
    for day in range(len(STOCKS)):
        here = valid[day].nonzero()[:, 0]
        alone = module(x[day : day + 1, here], torch.ones(1, len(here), dtype=torch.bool))
        assert_close(alone[0], together[day, here])


def test_the_order_of_the_stocks_does_not_matter(backbone: Backbone) -> None:
    x, valid = batch()
    module = module_of(backbone)
    shuffle = torch.randperm(PLACES, generator=torch.Generator().manual_seed(1))
    assert_close(module(x[:, shuffle], valid[:, shuffle]), module(x, valid)[:, shuffle])


def test_a_stock_affects_another_only_where_that_is_said(backbone: Backbone) -> None:
    x, valid = batch()
    module = module_of(backbone)
    before = module(x, valid)
    moved = x.clone()
    one = int(valid[0].nonzero()[0, 0])
    moved[0, one] += 1
    after = module(moved, valid)
    assert (after[0, one] != before[0, one]).any()
    others = torch.arange(PLACES) != one
    assert bool((after[0, others] != before[0, others]).any()) == backbone.mixes_stocks
    assert_close(after[1:], before[1:])


def test_every_day_of_the_window_and_every_feature_is_read(backbone: Backbone) -> None:
    x, valid = batch()
    x.requires_grad_()
    module_of(backbone)(x, valid).square().sum().backward()
    assert x.grad is not None
    assert (x.grad[valid].abs().amax(dim=0) > 0).all()


def test_every_parameter_has_a_gradient(backbone: Backbone) -> None:
    x, valid = batch()
    module = module_of(backbone).train()
    module(x, valid).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(), name


def test_saved_and_loaded_gives_the_same(backbone: Backbone, tmp_path: Path) -> None:
    x, valid = batch()
    module, other = module_of(backbone), module_of(backbone, seed=1)
    save_checkpoint(tmp_path / "backbone.safetensors", module.state_dict(), {})
    assert not torch.equal(other(x, valid), module(x, valid))
    other.load_state_dict(load_checkpoint(tmp_path / "backbone.safetensors", torch.device("cpu"))[0])
    assert torch.equal(other(x, valid), module(x, valid))


def test_fresh_weights_depend_on_the_seed_alone(backbone: Backbone) -> None:
    one, same, other = (module_of(backbone, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_batch_without_any_stock_gives_zeros_and_no_gradient(backbone: Backbone) -> None:
    x, valid = batch()
    module = module_of(backbone)
    out = module(x, torch.zeros_like(valid))
    assert out.shape == (len(STOCKS), PLACES, backbone.width)
    assert (out == 0).all()
    out.sum().backward()
    assert all(parameter.grad is None or (parameter.grad == 0).all() for parameter in module.parameters())
