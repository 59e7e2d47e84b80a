"""What every registered backbone promises, whatever it computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mimstocr.backbones import BACKBONES, Backbone, Facts, Inputs
from mimstocr.errors import ConfigError
from mimstocr.training.checkpoint import load_checkpoint, save_checkpoint

STOCKS = (6, 0, 8, 1)
"""Valid stocks of each day of `batch`; the second day is empty, the last has one."""
PLACES, WINDOW, FEATURES, CONCEPTS = 9, 5, 3, 4

NEED_CONCEPTS = {"rsr"}
"""Backbones that cannot be built without a concept table; all others can."""


def cases() -> list[object]:
    """Every backbone with its defaults, and those that read concepts also without them.

    Those of a fixed portfolio promise other things, in test_portfolio.py.
    """
    found: list[object] = []
    for name in BACKBONES.names():
        backbone = BACKBONES.get(name)()
        if backbone.fixed_portfolio:
            continue
        reads_concepts = "concepts" in backbone.reads
        if reads_concepts:
            found.append(pytest.param(backbone, CONCEPTS, id=name))
        if name not in NEED_CONCEPTS:
            found.append(pytest.param(backbone, 0, id=f"{name}-no-concepts" if reads_concepts else name))
    return found


each_case = pytest.mark.parametrize(("backbone", "n_concepts"), cases())


def module_of(backbone: Backbone, n_concepts: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return backbone.build(Inputs(FEATURES, WINDOW, n_concepts)).double().eval()


def batch(n_concepts: int = CONCEPTS, seed: int = 0) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """float64 windows, a ragged mask with holes in it, and facts.

    On days of several stocks, one has no concept; the last concept has no member.
    """
    random = torch.Generator().manual_seed(seed)
    days = len(STOCKS)
    x = torch.randn(days, PLACES, WINDOW, FEATURES, generator=random, dtype=torch.float64)
    order = torch.rand(days, PLACES, generator=random).argsort(-1)
    valid = order < torch.tensor(STOCKS)[:, None]
    facts = {"market_value": torch.rand(days, PLACES, generator=random) * 1e9 + 1e8}
    if n_concepts:
        stock, concept = order[..., None], torch.arange(n_concepts - 1)
        member = ((stock % 3 == concept) | (stock % 4 == concept)) & (stock != 3)
        facts["concepts"] = torch.cat([member, torch.zeros(days, PLACES, 1, dtype=torch.bool)], dim=-1)
    return x, valid, facts


def soiled(valid: Tensor, facts: Facts) -> dict[str, Tensor]:
    """The facts with junk where `valid` is false."""
    dirty = {"market_value": facts["market_value"].masked_fill(~valid, float("nan"))}
    if "concepts" in facts:
        dirty["concepts"] = facts["concepts"] | ~valid[..., None]
    return dirty


def picked(facts: Facts, *at: slice | Tensor) -> dict[str, Tensor]:
    """The facts of some days and places."""
    return {name: fact[at] for name, fact in facts.items()}


def test_the_batch_has_what_it_is_meant_to_have() -> None:
    _, valid, facts = batch()
    member = facts["concepts"] & valid[..., None]
    assert valid.sum(1).tolist() == list(STOCKS)
    assert not member[..., -1].any()
    for day in (0, 2):
        assert (~member[day].any(-1) & valid[day]).sum() == 1
        assert (member[day].sum(0) >= 2).tolist() == [True, True, True, False]
        assert (~valid[day]).any()
    assert member[3].any()


@pytest.mark.parametrize("name", sorted(NEED_CONCEPTS))
def test_one_that_needs_concepts_says_how_to_give_them(name: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.concepts=FILE"):
        BACKBONES.get(name)().build(Inputs(FEATURES, WINDOW, 0))


@each_case
def test_one_finite_representation_a_stock_and_zeros_elsewhere(backbone: Backbone, n_concepts: int) -> None:
    x, valid, facts = batch(n_concepts)
    out = module_of(backbone, n_concepts)(x, valid, facts)
    assert out.shape == (len(STOCKS), PLACES, backbone.width)
    assert out.dtype == torch.float64
    assert out.isfinite().all()
    assert (out[~valid] == 0).all()
    rows = out[valid]
    assert len(torch.unique(rows, dim=0)) == len(rows)


@each_case
def test_float32_gives_float32_near_to_float64(backbone: Backbone, n_concepts: int) -> None:
    x, valid, facts = batch(n_concepts)
    exact = module_of(backbone, n_concepts)(x, valid, facts)
    single = module_of(backbone, n_concepts).float()(x.float(), valid, facts)
    assert single.dtype == torch.float32
    assert_close(single.double(), exact, atol=1e-5, rtol=1e-4)


@each_case
@pytest.mark.parametrize("junk", [float("nan"), float("inf"), 1e300])
def test_junk_in_invalid_places_is_inert(backbone: Backbone, n_concepts: int, junk: float) -> None:
    x, valid, facts = batch(n_concepts)
    results = []
    for windows, known in ((x, facts), (x.masked_fill(~valid[..., None, None], junk), soiled(valid, facts))):
        module = module_of(backbone, n_concepts)
        windows = windows.clone().requires_grad_()
        out = module(windows, valid, known)
        out.square().sum().backward()
        results.append([out.detach(), windows.grad, *(parameter.grad for parameter in module.parameters())])
    for clean, dirty in zip(*results, strict=True):
        assert torch.equal(clean, dirty)
    assert (results[1][1][~valid] == 0).all()


@each_case
def test_a_day_alone_equals_the_day_in_a_batch(backbone: Backbone, n_concepts: int) -> None:
    x, valid, facts = batch(n_concepts)
    module = module_of(backbone, n_concepts)
    together = module(x, valid, facts)
    for day in range(len(STOCKS)):
        here = valid[day].nonzero()[:, 0]
        everyone = torch.ones(1, len(here), dtype=torch.bool)
        alone = module(x[day : day + 1, here], everyone, picked(facts, slice(day, day + 1), here))
        assert_close(alone[0], together[day, here])


@each_case
def test_the_order_of_the_stocks_does_not_matter(backbone: Backbone, n_concepts: int) -> None:
    x, valid, facts = batch(n_concepts)
    module = module_of(backbone, n_concepts)
    shuffle = torch.randperm(PLACES, generator=torch.Generator().manual_seed(1))
    moved = module(x[:, shuffle], valid[:, shuffle], picked(facts, slice(None), shuffle))
    assert_close(moved, module(x, valid, facts)[:, shuffle])


@each_case
def test_a_stock_affects_another_only_where_that_is_said(backbone: Backbone, n_concepts: int) -> None:
    x, valid, facts = batch(n_concepts)
    module = module_of(backbone, n_concepts)
    before = module(x, valid, facts)
    moved = x.clone()
    related = facts["concepts"][0].any(-1) if n_concepts else torch.ones(PLACES, dtype=torch.bool)
    one = int((valid[0] & related).nonzero()[0, 0])
    moved[0, one] += 1
    after = module(moved, valid, facts)
    assert (after[0, one] != before[0, one]).any()
    others = torch.arange(PLACES) != one
    assert bool((after[0, others] != before[0, others]).any()) == backbone.mixes_stocks
    assert_close(after[1:], before[1:])


@each_case
def test_the_facts_that_it_says_it_reads_are_those_it_reads(backbone: Backbone, n_concepts: int) -> None:
    x, valid, facts = batch(n_concepts)
    module = module_of(backbone, n_concepts)
    out = module(x, valid, facts)
    for name, fact in facts.items():
        other = {**facts, name: ~fact if fact.dtype == torch.bool else fact.flip(1)}
        reads = name in backbone.reads and n_concepts > 0
        assert torch.equal(module(x, valid, other), out) != reads, name


@each_case
def test_every_day_of_the_window_and_every_feature_is_read(backbone: Backbone, n_concepts: int) -> None:
    x, valid, facts = batch(n_concepts)
    x.requires_grad_()
    module_of(backbone, n_concepts)(x, valid, facts).square().sum().backward()
    assert x.grad is not None
    assert (x.grad[valid].abs().amax(dim=0) > 0).all()


@each_case
def test_every_parameter_has_a_gradient(backbone: Backbone, n_concepts: int) -> None:
    x, valid, facts = batch(n_concepts)
    module = module_of(backbone, n_concepts).train()
    module(x, valid, facts).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(), name


@each_case
def test_saved_and_loaded_gives_the_same(backbone: Backbone, n_concepts: int, tmp_path: Path) -> None:
    x, valid, facts = batch(n_concepts)
    module, other = module_of(backbone, n_concepts), module_of(backbone, n_concepts, seed=1)
    save_checkpoint(tmp_path / "backbone.safetensors", module.state_dict(), {})
    assert not torch.equal(other(x, valid, facts), module(x, valid, facts))
    other.load_state_dict(load_checkpoint(tmp_path / "backbone.safetensors", torch.device("cpu"))[0])
    assert torch.equal(other(x, valid, facts), module(x, valid, facts))


@each_case
def test_fresh_weights_depend_on_the_seed_alone(backbone: Backbone, n_concepts: int) -> None:
    one, same, other = (module_of(backbone, n_concepts, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items())


@each_case
def test_a_batch_without_any_stock_gives_zeros_and_no_gradient(backbone: Backbone, n_concepts: int) -> None:
    x, valid, facts = batch(n_concepts)
    module = module_of(backbone, n_concepts)
    out = module(x, torch.zeros_like(valid), facts)
    assert out.shape == (len(STOCKS), PLACES, backbone.width)
    assert (out == 0).all()
    out.sum().backward()
    assert all(parameter.grad is None or (parameter.grad == 0).all() for parameter in module.parameters())


@each_case
@pytest.mark.parametrize("places", [0, 1])
def test_a_batch_of_no_place_and_of_one(backbone: Backbone, n_concepts: int, places: int) -> None:
    x, _, facts = batch(n_concepts)
    everyone = torch.ones(len(STOCKS), places, dtype=torch.bool)
    out = module_of(backbone, n_concepts)(x[:, :places], everyone, picked(facts, slice(None), slice(places)))
    assert out.shape == (len(STOCKS), places, backbone.width)
    assert out.isfinite().all()


@each_case
@pytest.mark.parametrize("stocks", ["identical", "without a state"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stocks_that_cannot_be_told_apart(backbone: Backbone, n_concepts: int, stocks: str, dtype: torch.dtype) -> None:
    """Equal windows, and hidden states of 0: finite, with finite gradients, and equal where the facts are."""
    x, valid, facts = batch(n_concepts)
    x = x[:1, :1].expand_as(x).to(dtype)
    if n_concepts:
        facts["concepts"] = facts["concepts"][:1, :1].expand_as(facts["concepts"])
    module = module_of(backbone, n_concepts).to(dtype)
    if stocks == "without a state":
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.zero_()
    out = module(x, valid, facts)
    assert out.isfinite().all()
    for day in valid.any(1).nonzero()[:, 0]:
        rows = out[day, valid[day]]
        assert_close(rows, rows[:1].expand_as(rows))
    out.sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() < 1e4, name  # a cosine with a vector of 0 must not divide by its length
