import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mimstocr.backbones import Inputs
from mimstocr.backbones.rsr import Rsr
from mimstocr.errors import ConfigError

F, L, H, C = 3, 5, 4, 3

FORMS = [(strength, normalise) for strength in ("implicit", "explicit") for normalise in ("softmax", "count")]

MEMBER = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
"""Six stocks: 0, 1, 4 share concept 0 and 1, 2, 4 concept 1; 3 has none, 5 has one on its own."""


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
    return value if value > 0 else 0.2 * value


@torch.no_grad()
def reference(module: nn.Module, windows: Tensor, member: Tensor, strength: str, normalise: str) -> Tensor:
    """One day without padding, [n, L, F] to [n, 2 H], pair by pair."""
    n = len(windows)
    e = [module.encoder.rnn(window[:, None])[0][-1, 0] for window in windows]
    relations = {(i, j): (member[i] & member[j]).to(windows.dtype) for i in range(n) for j in range(n) if i != j}
    related = {i: [j for j in range(n) if j != i and relations[i, j].sum() > 0] for i in range(n)}
    w, b = module.relation.weight[0], module.relation.bias[0]
    rows = []
    for i in range(n):
        g = {}
        for j in related[i]:
            if strength == "explicit":
                g[j] = float(e[i] @ e[j]) * leaky(float(w @ relations[i, j] + b))
            else:
                u, v = module.pair.weight
                g[j] = leaky(float(torch.cat([u, v, w]) @ torch.cat([e[i], e[j], relations[i, j]]) + b))
        revised = torch.zeros(H, dtype=windows.dtype)
        for j in related[i]:
            if normalise == "softmax":
                share = math.exp(g[j]) / sum(math.exp(value) for value in g.values())
            else:
                share = g[j] / len(related[j])
            revised = revised + share * e[j]
        rows.append(torch.cat([e[i], revised]))
    return torch.stack(rows)


def case(strength: str, normalise: str, rnn: str = "lstm") -> tuple[nn.Module, Tensor]:
    torch.manual_seed(1)
    settings = Rsr(hidden_size=H, rnn=rnn, strength=strength, normalise=normalise)
    module = settings.build(Inputs(F, L, C)).double().eval()
    with torch.no_grad():
        for parameter in (module.relation.weight, *([] if module.pair is None else [module.pair.weight])):
            parameter *= 10  # so that strengths differ and have both signs
    return module, 3 * torch.randn(1, len(MEMBER), L, F, dtype=torch.float64)


@pytest.mark.parametrize(("strength", "normalise"), FORMS)
@pytest.mark.parametrize("rnn", ["lstm", "gru"])
def test_is_the_convolution_of_the_paper(strength: str, normalise: str, rnn: str) -> None:
    module, x = case(strength, normalise, rnn)
    out = module(x, torch.ones(1, len(MEMBER), dtype=torch.bool), {"concepts": MEMBER[None]})
    assert_close(out[0], reference(module, x[0], MEMBER, strength, normalise), atol=1e-10, rtol=0)
    assert isinstance(module.encoder.rnn, nn.LSTM if rnn == "lstm" else nn.GRU)


@pytest.mark.parametrize(("strength", "normalise"), FORMS)
def test_a_stock_without_relations_has_no_relational_part(strength: str, normalise: str) -> None:
    module, x = case(strength, normalise)
    out = module(x, torch.ones(1, len(MEMBER), dtype=torch.bool), {"concepts": MEMBER[None]})
    alone = [3, 5]
    assert (out[0, alone, H:] == 0).all()
    assert (out[0, alone, :H] != 0).all()
    assert (out[0, [0, 1, 2, 4], H:] != 0).any(-1).all()


@pytest.mark.parametrize(("strength", "normalise"), FORMS)
def test_a_stock_that_is_absent_relates_to_none(strength: str, normalise: str) -> None:
    """Stocks 1 and 4 are what links 0 with anyone; without them it has no relational part, whatever their concepts."""
    module, x = case(strength, normalise)
    valid = torch.tensor([[True, False, True, True, False, True]])
    out = module(x, valid, {"concepts": MEMBER[None]})
    assert (out[0, :, H:] == 0).all()


@pytest.mark.parametrize(
    ("strength", "normalise", "expected"),
    [
        # phi(w . a + b) = 2 - 1 = 1 for concept 0; states 1, 2, 4; softmax over two
        ("explicit", "count", [(1 * 2 * 2 + 1 * 4 * 4) / 2, (2 * 1 * 1 + 2 * 4 * 4) / 2, (4 * 1 * 1 + 4 * 2 * 2) / 2]),
        # phi(u e_i + v e_j + 1) with u = 1, v = -2: i = 0: 1 - 4 + 1 = -2 and 1 - 8 + 1 = -6, both times 0.2
        (
            "implicit",
            "count",
            [(0.2 * -2 * 2 + 0.2 * -6 * 4) / 2, (1 * 1 + 0.2 * -5 * 4) / 2, (3 * 1 + 1 * 2) / 2],
        ),
    ],
)
def test_by_hand(strength: str, normalise: str, expected: list[float]) -> None:
    module = Rsr(hidden_size=1, strength=strength, normalise=normalise).build(Inputs(1, 1, 1)).double()
    module.encoder = States(torch.tensor([[[1.0], [2.0], [4.0]]], dtype=torch.float64))
    with torch.no_grad():
        module.relation.weight.fill_(2.0)
        module.relation.bias.fill_(-1.0)
        if module.pair is not None:
            module.pair.weight.copy_(torch.tensor([[1.0], [-2.0]]))
    everyone = torch.ones(1, 3, dtype=torch.bool)
    out = module(torch.empty(0), everyone, {"concepts": everyone[..., None]})
    assert_close(out[0, :, 1], torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(("strength", "normalise"), FORMS)
def test_gradients(strength: str, normalise: str) -> None:
    torch.manual_seed(0)
    settings = Rsr(hidden_size=2, num_layers=1, strength=strength, normalise=normalise)
    module = settings.build(Inputs(2, 2, C)).double()
    x = torch.randn(1, 6, 2, 2, dtype=torch.float64, requires_grad=True)
    valid = torch.tensor([[True, True, False, True, True, True]])
    assert gradcheck(lambda x, *_: module(x, valid, {"concepts": MEMBER[None]}), (x, *module.parameters()))


@pytest.mark.parametrize(("strength", "normalise"), FORMS)
def test_every_setting_finds_its_gradient(strength: str, normalise: str) -> None:
    module, x = case(strength, normalise)
    module(x, torch.ones(1, len(MEMBER), dtype=torch.bool), {"concepts": MEMBER[None]}).square().sum().backward()
    assert all(parameter.grad.abs().max() > 1e-6 for name, parameter in module.named_parameters() if "rnn" not in name)


@pytest.mark.parametrize(("strength", "normalise"), FORMS)
def test_no_tensor_of_pairs_of_states_or_of_concepts_is_made(strength: str, normalise: str) -> None:
    n, hidden, n_concepts = 40, 8, 8  # a GRU, for an LSTM's own workspace is large
    settings = Rsr(rnn="gru", hidden_size=hidden, num_layers=1, strength=strength, normalise=normalise)
    module = settings.build(Inputs(F, 3, n_concepts))
    facts = {"concepts": torch.rand(1, n, n_concepts, generator=torch.Generator().manual_seed(0)) < 0.3}
    with Largest() as largest:
        module(torch.randn(1, n, 3, F), torch.ones(1, n, dtype=torch.bool), facts).sum().backward()
    assert n * n <= largest.elements < n * n * hidden


def test_without_concepts_it_says_what_to_do() -> None:
    with pytest.raises(
        ConfigError, match=r"backbone rsr: expected a concept table.*data\.concepts=FILE.*symbol,concept"
    ):
        Rsr().build(Inputs(F, L))
