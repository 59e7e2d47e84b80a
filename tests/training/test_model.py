"""The model around every backbone and sharing structure, with the embedding of asset classes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mimstocr.backbones import BACKBONES, Backbone, Inputs
from mimstocr.backbones.recurrent import Gru
from mimstocr.config import Config
from mimstocr.sharing import SHARINGS, Sharing
from mimstocr.sharing.hard import Hard
from mimstocr.tasks import Task
from mimstocr.tasks.position import Position
from mimstocr.tasks.returns import Return
from mimstocr.training.model import EMBEDDING, Model, PositionHead, WithClasses, seeded_model

TASKS: dict[str, Task] = Config().learned()
DAYS, STOCKS, WINDOW, FEATURES, CONCEPTS = 2, 6, 5, 3, 2
VALID = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])


def inputs(n_classes: int) -> Inputs:
    return Inputs(FEATURES, WINDOW, CONCEPTS, n_classes)


def batch() -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    random = torch.Generator().manual_seed(0)
    facts = {
        "concepts": torch.rand(DAYS, STOCKS, CONCEPTS, generator=random) < 0.5,
        "market_value": torch.rand(DAYS, STOCKS, generator=random) + 1,
        "asset_class": torch.tensor([[0, 0, 0, 1, 1, 2], [1, 2, 0, 0, 0, 0]]),
    }
    return torch.randn(DAYS, STOCKS, WINDOW, FEATURES, generator=random), VALID, facts


def build(backbone: Backbone, sharing: Sharing, n_classes: int = 3) -> Model:
    return seeded_model(0, backbone, sharing, TASKS, inputs(n_classes)).eval()


def total(outputs: dict[str, Tensor]) -> Tensor:
    return torch.stack([output[VALID].square().sum() for output in outputs.values()]).sum()


@pytest.mark.parametrize("sharing", SHARINGS.names())
@pytest.mark.parametrize("backbone", [name for name in BACKBONES.names() if not BACKBONES.get(name).fixed_portfolio])
def test_the_embedding_reaches_every_structure(backbone: str, sharing: str) -> None:
    model = build(BACKBONES.get(backbone)(), SHARINGS.get(sharing)())
    shared = model.shared
    assert isinstance(shared, WithClasses)
    outputs = model(*batch())
    total(outputs).backward()
    grad = shared.classes.weight.grad
    assert grad is not None
    assert grad.shape == (3, EMBEDDING)
    assert (grad.abs().sum(dim=1) > 0).all()
    assert any(parameter is shared.classes.weight for parameter in model.shared_parameters())
    with torch.no_grad():
        shared.classes.weight[1] += 1.0
        moved = model(*batch())
    own = batch()[2]["asset_class"] == 1
    for name, output in outputs.items():
        assert not torch.equal(moved[name][VALID & own], output[VALID & own])


@pytest.mark.parametrize("sharing", SHARINGS.names())
def test_what_a_structure_says_of_itself_passes_through(sharing: str) -> None:
    model = build(Gru(hidden_size=4, num_layers=1), SHARINGS.get(sharing)())
    shared = model.shared
    assert isinstance(shared, WithClasses)
    inner = shared.inner
    assert [[id(p) for p in own] for own in shared.private()] == [[id(p) for p in own] for own in inner.private()]
    assert shared.penalty(list(model.heads)[:1]) is None
    penalty, own_penalty = shared.penalty(), inner.penalty()
    assert (penalty is None) == (own_penalty is None)
    if penalty is not None and own_penalty is not None:
        assert torch.equal(penalty, own_penalty)
    x, valid, facts = batch()
    wide = torch.cat([x, shared.classes(facts["asset_class"])[:, :, None].expand(-1, -1, WINDOW, -1)], dim=-1)
    for told, expected in zip(shared.mixing(x, valid, facts), inner.mixing(wide, valid, facts), strict=True):
        assert told.name == expected.name
        assert torch.allclose(told.values, expected.values, equal_nan=True)


def test_every_parameter_is_shared_or_of_one_task() -> None:
    model = build(Gru(hidden_size=4, num_layers=1), SHARINGS.get("ple")())
    parts = [*model.shared_parameters(), *(parameter for own in model.own_parameters() for parameter in own)]
    assert len({id(parameter) for parameter in parts}) == len(parts) == len(list(model.parameters()))


def test_one_class_has_no_embedding() -> None:
    model = build(Gru(hidden_size=4, num_layers=1), Hard(), n_classes=0)
    assert not any(isinstance(module, WithClasses | nn.Embedding) for module in model.modules())
    torch.manual_seed(0)
    plain = Hard().build(Gru(hidden_size=4, num_layers=1), list(TASKS), inputs(0))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), model.shared.parameters(), strict=True))


# ---- positions -------------------------------------------------------------------------------------------------------

PORTFOLIO: dict[str, Task] = {"position": Position(delay=1), "return": Return(delay=1), "alone": Position(hold=False)}


def held(sharing: str) -> Model:
    inner = SHARINGS.get(sharing)()
    return seeded_model(0, Gru(hidden_size=4, num_layers=1), inner, PORTFOLIO, inputs(0)).eval()


@pytest.mark.parametrize("sharing", SHARINGS.names())
def test_positions_and_hold_around_every_structure(sharing: str) -> None:
    model, (x, valid, facts) = held(sharing), batch()
    outputs = model(x, valid, facts)
    assert {name: output.shape for name, output in outputs.items()} == {
        "position": (DAYS, STOCKS + 1),
        "return": (DAYS, STOCKS),
        "alone": (DAYS, STOCKS),
    }
    state = model.shared(x, valid, facts)[0]
    head = model.heads["position"]
    assert isinstance(head, PositionHead)
    assert isinstance(head.hold, nn.Linear)
    for day in range(DAYS):
        mean = torch.stack([state[day, i] for i in range(STOCKS) if valid[day, i]]).mean(dim=0)
        torch.testing.assert_close(outputs["position"][day, -1], head.hold(mean).tanh()[0])
        torch.testing.assert_close(outputs["position"][day, :-1], head.stocks(state[day]).tanh()[:, 0])
    own = {id(parameter) for parameter in model.own_parameters()[0]}
    assert {id(parameter) for parameter in head.parameters()} <= own
    assert not own & {id(parameter) for parameter in model.shared_parameters()}


@pytest.mark.parametrize("kind", ["dlinear", "joint_lstm"])
def test_an_untrained_book_of_a_fixed_portfolio_has_both_sides(kind: str) -> None:
    """A bias that all stocks have in common would put every one of them on the same side."""
    n = 40
    x = torch.randn(8, n, WINDOW, FEATURES, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(8, n, dtype=torch.bool)
    net = []
    for seed in range(8):
        asked: dict[str, Task] = {"position": Position(hold=False)}
        model = seeded_model(seed, BACKBONES.get(kind)(), Hard(), asked, Inputs(FEATURES, WINDOW, n_symbols=n)).eval()
        weights = asked["position"].said(model(x, valid, {})["position"], valid)
        net.append(weights.sum(dim=1).mean().abs())
    assert torch.stack(net).mean() < 0.25


def test_hold_knows_no_order_no_padding_and_no_size_of_the_day() -> None:
    model, (x, valid, facts) = held("hard"), batch()
    hold = model(x, valid, facts)["position"][:, -1]
    order = torch.tensor([3, 1, 0, 2, 5, 4])
    torch.testing.assert_close(model(x[:, order], valid[:, order], {})["position"][:, -1], hold)
    junk = x.masked_fill(~valid[..., None, None], 7.0)
    torch.testing.assert_close(model(junk, valid, {})["position"][:, -1], hold)
    twice = model(torch.cat([x, x], dim=1), torch.cat([valid, valid], dim=1), {})["position"]
    torch.testing.assert_close(twice[:, -1], hold)
    torch.testing.assert_close(model(x[1:, :4], valid[1:, :4], {})["position"][:, -1], hold[1:])
    nobody = model(x, torch.zeros_like(valid), {})["position"]
    assert nobody.isfinite().all()


def test_positions_stay_within_one() -> None:
    model, (x, valid, facts) = held("hard"), batch()
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter *= 1000
    outputs = model(x, valid, facts)
    assert outputs["position"].abs().max() <= 1
    assert outputs["return"].abs().max() > 1


def test_a_head_of_positions_reads_valid_stocks_alone() -> None:
    """Whatever a structure leaves where there is no stock."""
    head = PositionHead(3, holds=True)
    state, valid = torch.randn(2, 4, 3), torch.tensor([[True, False, True, False], [False] * 4])
    said = head(state.masked_fill(~valid[..., None], torch.nan), valid)
    assert head.hold is not None
    torch.testing.assert_close(said[0, -1:], head.hold((state[0, 0] + state[0, 2]) / 2).tanh())
    torch.testing.assert_close(said[1, -1:], head.hold.bias.tanh())
    (gradient,) = torch.autograd.grad(said[valid.any(dim=1), -1].sum(), head.hold.bias)
    assert gradient.isfinite().all()
