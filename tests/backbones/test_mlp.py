import pytest
import torch
from torch.testing import assert_close

from mimstocr.backbones import Inputs
from mimstocr.backbones.mlp import Mlp


def test_by_hand() -> None:
    """The window (3, 1): 3 - 1 = 2 and 0.1 (-3 - 1 + 2) = -0.2, then 2 x 2 + 0 x -0.2 + 5 = 9."""
    module = Mlp(hidden_sizes=(2, 1)).build(Inputs(1, 2)).eval()
    weights = [[[1.0, -1.0], [-1.0, -1.0]], [0.0, 2.0], [[2.0, 0.0]], [5.0]]
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), weights, strict=True):
            parameter.copy_(torch.tensor(value))
        inner = module.layers[:3](torch.tensor([[3.0, 1.0]]))
        out = module(torch.tensor([[[[3.0], [1.0]]]]), torch.ones(1, 1, dtype=torch.bool), {})
    assert_close(inner, torch.tensor([[2.0, 0.1 * (-3.0 - 1.0 + 2.0)]]))
    assert_close(out, torch.tensor([[[9.0]]]))


def test_width_is_that_of_the_last_layer() -> None:
    backbone = Mlp(hidden_sizes=(8, 4, 5))
    assert backbone.width == 5
    module = backbone.build(Inputs(3, 6))
    assert [tuple(p.shape) for p in module.parameters() if p.ndim == 2] == [(8, 18), (4, 8), (5, 4)]


def test_initial_weights_keep_the_scale() -> None:
    """He for leaky ReLU of slope a: N(0, 2 / ((1 + a^2) fan_in))."""
    torch.manual_seed(0)
    weight = next(Mlp(hidden_sizes=(400,)).build(Inputs(5, 40)).parameters())
    assert_close(weight.std().item(), (2 / (1.01 * 200)) ** 0.5, rtol=0.02, atol=0)


def test_dropout_is_on_the_inputs_and_after_the_last_layer_while_training_alone() -> None:
    torch.manual_seed(0)
    module = Mlp(hidden_sizes=(7, 50), dropout=0.5).build(Inputs(3, 6))
    x, valid = torch.ones(1, 1, 6, 3), torch.ones(1, 1, dtype=torch.bool)
    dropped = module(x, valid, {})
    assert 10 < (dropped == 0).sum() < 40
    kept = dropped != 0
    module.eval()
    assert torch.equal(module(x, valid, {}), module(x, valid, {}))
    # the last dropout alone would have doubled what it kept
    assert not torch.allclose(dropped[kept], 2 * module(x, valid, {})[kept])


@pytest.mark.parametrize("sizes", [(), (0,), (4, -1)])
def test_sizes_are_at_least_one(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="hidden_sizes"):
        Mlp(hidden_sizes=sizes)
