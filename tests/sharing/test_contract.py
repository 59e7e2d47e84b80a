"""What every registered sharing structure promises, whatever it computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.backbones import Inputs
from mimstocr.backbones.recurrent import Gru
from mimstocr.sharing import SHARINGS, Sharing

BACKBONE = Gru(hidden_size=4, num_layers=1)

pytestmark = pytest.mark.parametrize(
    "sharing", [SHARINGS.get(name)() for name in SHARINGS.names()], ids=SHARINGS.names()
)


def batch() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    valid = torch.rand(2, 6, generator=random) < 0.7
    return torch.randn(2, 6, 5, 3, generator=random, dtype=torch.float64), valid


@pytest.mark.parametrize("tasks", [["return"], ["return", "momentum"], ["a", "b", "c"]], ids=len)
def test_one_representation_a_task(sharing: Sharing, tasks: list[str]) -> None:
    x, valid = batch()
    torch.manual_seed(0)
    module = sharing.build(BACKBONE, tasks, Inputs(3, 5)).double()
    states = module(x, valid, {})
    assert len(states) == len(tasks)
    for state in states:
        assert state.shape == (2, 6, BACKBONE.width)
        assert state.isfinite().all()
        assert (state[valid] != 0).any()
    # each parameter serves at least one task
    torch.stack(list(states)).square().sum().backward()
    assert all((parameter.grad != 0).any() for parameter in module.parameters())


def test_junk_in_invalid_places_is_inert(sharing: Sharing) -> None:
    x, valid = batch()
    assert not valid.all()
    torch.manual_seed(0)
    module = sharing.build(BACKBONE, ["return", "momentum"], Inputs(3, 5)).double()
    dirty = x.masked_fill(~valid[..., None, None], float("nan"))
    for clean, found in zip(module(x, valid, {}), module(dirty, valid, {}), strict=True):
        assert_close(found[valid], clean[valid])
