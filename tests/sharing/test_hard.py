import torch

from mimstocr.backbones import Inputs
from mimstocr.backbones.recurrent import Lstm
from mimstocr.sharing.hard import Hard


def test_every_task_reads_the_very_same_representation() -> None:
    backbone = Lstm(hidden_size=4)
    torch.manual_seed(0)
    module = Hard().build(backbone, ["return", "momentum", "volatility"], Inputs(3, 5))
    torch.manual_seed(0)
    alone = backbone.build(Inputs(3, 5))
    x, valid = torch.randn(2, 6, 5, 3), torch.ones(2, 6, dtype=torch.bool)
    states = module(x, valid, {})
    assert len(states) == 3
    assert all(state is states[0] for state in states)
    assert torch.equal(states[0], alone(x, valid, {}))
    assert sum(p.numel() for p in module.parameters()) == sum(p.numel() for p in alone.parameters())
