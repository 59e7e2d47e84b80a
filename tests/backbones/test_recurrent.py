import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mimstocr.backbones import Inputs
from mimstocr.backbones.recurrent import Gru, Lstm


@pytest.mark.parametrize(("settings", "plain"), [(Lstm, nn.LSTM), (Gru, nn.GRU)])
@pytest.mark.parametrize("layers", [1, 2])
def test_is_the_last_hidden_state_of_the_top_layer(settings: type, plain: type, layers: int) -> None:
    """Stock by stock through torch's own network: the state h after the last day."""
    torch.manual_seed(0)
    module = settings(hidden_size=4, num_layers=layers).build(Inputs(3, 6))
    reference = plain(3, 4, layers, batch_first=True)
    reference.load_state_dict(module.rnn.state_dict())
    x, valid = torch.randn(2, 5, 6, 3), torch.rand(2, 5) < 0.6
    out = module(x, valid, {})
    for day, stock in valid.nonzero().tolist():
        _, state = reference(x[day, stock][None])
        hidden = state[0] if plain is nn.LSTM else state
        assert_close(out[day, stock], hidden[-1, 0])


def test_dropout_needs_two_layers() -> None:
    Lstm(dropout=0.3).build(Inputs(3, 6))
    with pytest.raises(ValueError, match="acts between layers, but num_layers is 1"):
        Gru(dropout=0.3, num_layers=1)


def test_dropout_acts_while_training_alone() -> None:
    torch.manual_seed(0)
    module = Lstm(hidden_size=8, dropout=0.5).build(Inputs(3, 6))
    x, valid = torch.randn(1, 4, 6, 3), torch.ones(1, 4, dtype=torch.bool)
    assert not torch.equal(module(x, valid, {}), module(x, valid, {}))
    module.eval()
    assert torch.equal(module(x, valid, {}), module(x, valid, {}))
