import torch
from torch.testing import assert_close

from mimstocr.backbones import Inputs
from mimstocr.backbones._portfolio import joint_window
from mimstocr.backbones.joint_lstm import JointLstm


def test_the_last_state_over_all_series_mapped_to_each_stock() -> None:
    torch.manual_seed(0)
    module = JointLstm(hidden_size=6, num_layers=2, stock_width=4).build(Inputs(3, 5, n_symbols=2)).double()
    x, valid = torch.randn(3, 2, 5, 3, dtype=torch.float64), torch.tensor([[1, 1], [0, 1], [1, 0]]).bool()
    state = module.trunk.rnn(joint_window(x, valid).transpose(0, 1))[1][0][-1]
    out = module(x, valid, {})
    for day, stock in valid.nonzero().tolist():
        rows = slice(4 * stock, 4 * stock + 4)
        assert_close(out[day, stock], module.out.weight[rows] @ state[day] + module.out.bias[rows])
