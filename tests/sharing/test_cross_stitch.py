"""Cross-stitch units."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.testing import assert_close

from mimstocr.backbones import Inputs
from mimstocr.backbones.mlp import Mlp
from mimstocr.backbones.recurrent import Lstm
from mimstocr.sharing.cross_stitch import CrossStitch, CrossStitchModule, Stitch

TASKS = ["return", "momentum", "volatility"]
BACKBONE = Lstm(hidden_size=4, num_layers=1)


def module_of(n_tasks: int = 3, **settings: object) -> CrossStitchModule:
    torch.manual_seed(0)
    made = CrossStitch(**settings).build(BACKBONE, TASKS[:n_tasks], Inputs(3, 5)).double()
    assert isinstance(made, CrossStitchModule)
    return made


def batch() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(2, 6, 5, 3, generator=random).double(), torch.rand(2, 6, generator=random) < 0.7


def set_stitches(module: CrossStitchModule, table: list[list[float]]) -> None:
    with torch.no_grad():
        for stitch in (module.first, *(layer.stitch for layer in module.layers)):
            for row, values in zip(stitch.rows, table, strict=True):
                row.copy_(torch.tensor(values)[:, None].expand_as(row))


@pytest.mark.parametrize("units", ["channel", "tower"])
def test_identity_stitches_are_separate_towers(units: str) -> None:
    module = module_of(units=units, alike=False, layers=2)
    set_stitches(module, torch.eye(3).tolist())
    x, valid = batch()
    for k, state in enumerate(module(x, valid, {})):
        alone = module.towers[k](x, valid, {})
        for layer in module.layers:
            alone = layer.blocks[k](alone)
        assert torch.equal(state[valid], alone[valid])
        assert (state[~valid] == 0).all()


@pytest.mark.parametrize("units", ["channel", "tower"])
def test_what_the_paper_writes_by_hand(units: str) -> None:
    """Two tasks, no dense layer: [a_AA h_A + a_AB h_B, a_BA h_A + a_BB h_B]."""
    module = module_of(2, units=units, alike=False, layers=0)
    set_stitches(module, [[0.7, -0.2], [0.4, 1.5]])
    x, valid = batch()
    one, other = (tower(x, valid, {}) for tower in module.towers)
    first, second = module(x, valid, {})
    assert_close(first, 0.7 * one - 0.2 * other)
    assert_close(second, 0.4 * one + 1.5 * other)


def test_a_channel_has_its_own_coefficients() -> None:
    stitch = Stitch(2, 3, own=0.9)
    with torch.no_grad():
        stitch.rows[0].copy_(torch.tensor([[1.0, 2, 3], [0, 10, 0]]))
    states = [torch.tensor([[1.0, 1, 1]]), torch.tensor([[5.0, 6, 7]])]
    assert torch.equal(stitch(states)[0], torch.tensor([[1.0, 2 + 60, 3]]))
    assert_close(stitch.table(), torch.tensor([[2, 10 / 3], [0.1, 0.9]]))


def test_stitches_start_near_the_identity() -> None:
    module = module_of(own=0.8)
    assert len(module.mixing(*batch(), {})) == 2
    for table in module.mixing(*batch(), {}):
        assert_close(table.values, torch.full((3, 3), 0.1, dtype=torch.float64) + 0.7 * torch.eye(3), rtol=0, atol=1e-7)
    assert module_of(1).first.rows[0].tolist() == [[1.0] * 4]
    assert module_of(1).mixing(*batch(), {}) == []


def test_alike_towers_start_as_hard_sharing() -> None:
    """Coefficients sum to 1, so equal towers give what one of them gives, and all tasks the same."""
    x, valid = batch()
    states = module_of(layers=0)(x, valid, {})
    torch.manual_seed(0)
    alone = BACKBONE.build(Inputs(3, 5)).double()
    for state in states:
        assert_close(state, alone(x, valid, {}))
    one, other, _ = module_of(layers=2)(x, valid, {})
    assert_close(one, other)
    one, other, _ = module_of(layers=2, alike=False)(x, valid, {})
    assert not torch.allclose(one, other)


def test_alike_towers_part_under_their_tasks() -> None:
    module = module_of(2)
    one, other = module(*batch(), {})
    (one.sum() - other.square().sum()).backward()
    first, second = (next(tower.parameters()).grad for tower in module.towers)
    assert not torch.allclose(first, second)


def test_a_layer_is_dense_with_a_leaky_relu() -> None:
    torch.manual_seed(0)
    module = CrossStitch(layers=1).build(Mlp(hidden_sizes=(2,), dropout=0), ["return"], Inputs(1, 1)).double()
    x, valid = torch.tensor([[[[1.5]]]], dtype=torch.float64), torch.ones(1, 1, dtype=torch.bool)
    weight, bias = module.layers[0].blocks[0].parameters()
    inner = weight @ module.towers[0](x, valid, {})[0, 0] + bias
    assert_close(module(x, valid, {})[0][0, 0], torch.where(inner > 0, inner, 0.1 * inner))


def test_a_tower_is_its_tasks_own() -> None:
    with pytest.raises(ValidationError, match=r"own"):
        CrossStitch(own=0.5)
