import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mimstocr.backbones import Inputs
from mimstocr.backbones.gats import Gats

F, L, H = 3, 5, 4


class Largest(TorchDispatchMode):
    """Remembers the most elements that any operation's output had."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        found = (leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
        self.elements = max(self.elements, *found, 0)
        return out


class States(nn.Module):
    """Stands for the recurrent network, with given states."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.states = states

    def forward(self, x: Tensor, valid: Tensor, facts: object) -> Tensor:
        return self.states


def leaky(value: float) -> float:
    return value if value > 0 else 0.01 * value


@torch.no_grad()
def reference(module: nn.Module, windows: Tensor) -> Tensor:
    """One day without padding, [n, L, F] to [n, H], stock by stock."""
    n = len(windows)
    h = [module.encoder.rnn(window[:, None])[0][-1, 0] for window in windows]
    wh = [module.transform.weight @ state + module.transform.bias for state in h]
    a1, a2 = module.attention
    rows = []
    for i in range(n):
        score = [leaky(float(torch.cat([a1, a2]) @ torch.cat([wh[i], wh[j]]))) for j in range(n)]
        total = sum(math.exp(s) for s in score)
        mixed = h[i]
        for j in range(n):
            mixed = mixed + math.exp(score[j]) / total * h[j]
        out = module.out.weight @ mixed + module.out.bias
        rows.append(torch.tensor([leaky(float(value)) for value in out], dtype=windows.dtype))
    return torch.stack(rows)


@pytest.mark.parametrize("rnn", ["lstm", "gru"])
@pytest.mark.parametrize("n", [1, 6])
def test_is_the_attention_of_the_equations(rnn: str, n: int) -> None:
    torch.manual_seed(0)
    module = Gats(rnn=rnn, hidden_size=H).build(Inputs(F, L)).double().eval()
    with torch.no_grad():
        module.attention *= 20  # so that the stocks weigh unlike, and scores of both signs occur
    x = 3 * torch.randn(1, n, L, F, dtype=torch.float64)
    out = module(x, torch.ones(1, n, dtype=torch.bool), {})
    assert isinstance(module.encoder.rnn, nn.LSTM if rnn == "lstm" else nn.GRU)
    assert_close(out[0], reference(module, x[0]), atol=1e-10, rtol=0)


def test_by_hand() -> None:
    """States 1 and -1, scores 0 and ln 3 of whoever looks: 1 x 1/4 - 1 x 3/4 + 1 = 0.5 and - 0.5 - 1 = -1.5."""
    module = Gats(hidden_size=1, num_layers=1).build(Inputs(1, 1)).double()
    module.encoder = States(torch.tensor([[[1.0], [-1.0]]], dtype=torch.float64))
    with torch.no_grad():
        # W h = h - 1, so a2 W h = 0 and ln 3
        for parameter, value in (
            (module.transform.weight, 1.0),
            (module.transform.bias, -1.0),
            (module.out.weight, 2.0),
            (module.out.bias, 0.0),
        ):
            parameter.fill_(value)
        module.attention.copy_(torch.tensor([[0.0], [-math.log(3) / 2]]))
    out = module(torch.empty(0), torch.ones(1, 2, dtype=torch.bool), {})
    assert_close(out[0, :, 0], torch.tensor([2 * 0.5, 0.01 * 2 * -1.5], dtype=torch.float64))


def test_gradients() -> None:
    torch.manual_seed(0)
    module = Gats(hidden_size=2, num_layers=1).build(Inputs(2, 2)).double()
    x = torch.randn(1, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    valid = torch.tensor([[True, False, True, True]])
    assert gradcheck(lambda x, *_: module(x, valid, {}), (x, *module.parameters()))


def test_no_tensor_of_pairs_of_states_is_made() -> None:
    n, hidden = 40, 8  # a GRU, for an LSTM's own workspace is large
    module = Gats(rnn="gru", hidden_size=hidden, num_layers=1).build(Inputs(F, 3))
    with Largest() as largest:
        module(torch.randn(1, n, 3, F), torch.ones(1, n, dtype=torch.bool), {}).sum().backward()
    assert n * n <= largest.elements < n * n * hidden
