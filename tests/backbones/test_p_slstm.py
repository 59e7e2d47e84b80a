import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.backbones.p_slstm import PSLstm, SLstmBlock, SLstmCell


def cell(hidden: int, heads: int) -> SLstmCell:
    torch.manual_seed(0)
    module = SLstmCell(hidden, heads, depth=0.0).double()
    with torch.no_grad():
        module.recurrent += 0.7 * torch.randn_like(module.recurrent)
        module.bias += torch.randn_like(module.bias)
    return module


@torch.no_grad()
def by_steps(module: SLstmCell, inputs: Tensor) -> Tensor:
    """One sequence [T, heads, gates, size] to [T, heads, size] with plain exponentials, a number at a time."""
    steps, heads, _, size = inputs.shape
    h, c, n = ([[0.0] * size for _ in range(heads)] for _ in range(3))
    out = []
    for t in range(steps):
        before = [list(row) for row in h]
        for head in range(heads):
            for j in range(size):
                raw = []
                for gate in range(4):
                    back = sum(before[head][k] * float(module.recurrent[head, k, gate * size + j]) for k in range(size))
                    bias = float(module.bias[gate - 1, head, j]) if gate else 0.0
                    raw.append(float(inputs[t, head, gate, j]) + back + bias)
                take, keep = math.exp(raw[0]), 1 / (1 + math.exp(-raw[1]))
                c[head][j] = keep * c[head][j] + take * math.tanh(raw[2])
                n[head][j] = keep * n[head][j] + take
                h[head][j] = c[head][j] / n[head][j] / (1 + math.exp(-raw[3]))
        out.append([list(row) for row in h])
    return torch.tensor(out, dtype=torch.float64)


def test_the_cell_step_by_step() -> None:
    module = cell(6, 2)
    inputs = 2 * torch.randn(5, 3, 2, 4, 3, dtype=torch.float64)
    with torch.no_grad():
        out = module(inputs)
    for row in range(3):
        assert_close(out[:, row], by_steps(module, inputs[:, row]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gates_far_beyond_what_an_exponential_holds_are_finite(dtype: torch.dtype) -> None:
    module = cell(4, 1).to(dtype)
    inputs = torch.randn(6, 2, 1, 4, 4, dtype=dtype) * 2000
    inputs.requires_grad_()
    out = module(inputs)
    out.sum().backward()
    assert out.isfinite().all()
    assert (out.abs() <= 1).all()
    assert inputs.grad is not None
    assert inputs.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


def test_the_gradient_is_that_of_finite_differences() -> None:
    """The stabiliser is left out of the gradient, as it cancels."""
    module = cell(2, 1)
    inputs = torch.randn(3, 1, 1, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z, *_: module(z), (inputs, *module.parameters()))


def test_a_constant_more_on_every_input_gate_cancels() -> None:
    module = cell(4, 2)
    inputs = torch.randn(5, 2, 2, 4, 2, dtype=torch.float64)
    moved = inputs.clone()
    moved[:, :, :, 0] += 3
    assert_close(module(moved), module(inputs))


def test_the_forget_gates_of_a_head_start_from_long_memory_to_none() -> None:
    bias = SLstmCell(8, 2, depth=0.0).bias
    assert_close(bias[0, :, 0], torch.full((2,), 5.0))
    assert_close(bias[0, :, -1], torch.full((2,), -7.0))
    assert (bias[0].diff() < 0).all()
    assert (bias[1:] == 0).all()


def test_a_block_looks_back_only_and_its_heads_mix_in_the_feed_forward_alone() -> None:
    torch.manual_seed(0)
    block = SLstmBlock(8, 2, conv_size=3, inner=5, dropout=0.0, depth=0.0).double()
    x = torch.randn(2, 6, 8, dtype=torch.float64)
    moved = x.clone()
    moved[:, 4] += torch.randn(8, dtype=torch.float64)
    before, after = block(x), block(moved)
    assert torch.equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] != after[:, 4:]).all()
    other = x.clone()
    other[..., :4] += torch.randn(4, dtype=torch.float64)
    assert_close(block._recurrent(other)[..., 4:], block._recurrent(x)[..., 4:])
    assert (block._recurrent(other)[..., :4] != block._recurrent(x)[..., :4]).all()


def test_series_do_not_see_one_another_and_share_their_weights() -> None:
    torch.manual_seed(0)
    module = PSLstm(patch_size=4, stride=3, horizon=2).forecaster(3, 12).double().eval()
    x = torch.randn(2, 12, 3, dtype=torch.float64)
    out = module(x)
    assert out.shape == (2, 2, 3)
    for c in range(3):
        assert_close(module(x[..., c : c + 1]), out[..., c : c + 1])
