import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.testing import assert_close

from mimstocr.backbones import Inputs
from mimstocr.backbones.alstm import Alstm

F, L, H = 3, 5, 4


@torch.no_grad()
def reference(module: nn.Module, window: Tensor) -> Tensor:
    """One stock, [L, F] to [2 H], day by day."""
    projected = torch.stack([(module.project.weight @ day + module.project.bias).tanh() for day in window])
    states, _ = module.rnn(projected[:, None])
    states = states[:, 0]
    first, _, _, last = module.attend
    scores = [float(last.weight[0] @ (first.weight @ h + first.bias).tanh()) for h in states]
    total = sum(math.exp(score) for score in scores)
    attended = torch.zeros(H, dtype=window.dtype)
    for score, h in zip(scores, states, strict=True):
        attended = attended + math.exp(score) / total * h
    return torch.cat([states[-1], attended])


@pytest.mark.parametrize("rnn", ["lstm", "gru"])
def test_is_the_attention_of_the_paper(rnn: str) -> None:
    torch.manual_seed(0)
    module = Alstm(rnn=rnn, hidden_size=H).build(Inputs(F, L)).double().eval()
    with torch.no_grad():
        module.attend[3].weight *= 20  # so that the days weigh unlike
    x, valid = 3 * torch.randn(2, 4, L, F, dtype=torch.float64), torch.tensor([[1, 0, 1, 1], [0, 1, 0, 0]]).bool()
    out = module(x, valid, {})
    assert isinstance(module.rnn, nn.LSTM if rnn == "lstm" else nn.GRU)
    for day, stock in valid.nonzero().tolist():
        assert_close(out[day, stock], reference(module, x[day, stock]), atol=1e-10, rtol=0)


def test_without_scores_it_is_the_mean_over_the_days() -> None:
    torch.manual_seed(0)
    module = Alstm(hidden_size=H).build(Inputs(F, L)).eval()
    with torch.no_grad():
        module.attend[3].weight.zero_()
    x = torch.randn(1, 1, L, F)
    states, _ = module.rnn(module.project(x[0].transpose(0, 1)).tanh())
    out = module(x, torch.ones(1, 1, dtype=torch.bool), {})
    assert_close(out[0, 0], torch.cat([states[-1, 0], states[:, 0].mean(0)]))


def test_gradients() -> None:
    torch.manual_seed(0)
    module = Alstm(hidden_size=2, num_layers=1).build(Inputs(2, 3)).double()
    x = torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    valid = torch.tensor([[True, False]])
    assert gradcheck(lambda x, *_: module(x, valid, {}), (x, *module.parameters()))


def test_dropout_acts_in_the_attention_while_training_alone() -> None:
    torch.manual_seed(0)
    module = Alstm(hidden_size=8, dropout=0.5).build(Inputs(F, L))
    module.rnn.dropout = 0.0
    x, valid = torch.randn(1, 4, L, F), torch.ones(1, 4, dtype=torch.bool)
    one, other = module(x, valid, {}), module(x, valid, {})
    assert torch.equal(one[..., :8], other[..., :8])
    assert not torch.equal(one[..., 8:], other[..., 8:])
    module.eval()
    assert torch.equal(module(x, valid, {}), module(x, valid, {}))


def test_a_hidden_size_of_one_has_an_attention_too() -> None:
    module = Alstm(hidden_size=1).build(Inputs(F, L))
    assert module(torch.randn(1, 2, L, F), torch.ones(1, 2, dtype=torch.bool), {}).shape == (1, 2, 2)
