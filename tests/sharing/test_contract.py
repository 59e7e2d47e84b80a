"""What every registered sharing structure promises, whatever it computes and whatever backbone it is around."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mimstocr.backbones import Backbone, Inputs
from mimstocr.backbones.gats import Gats
from mimstocr.backbones.hist import Hist
from mimstocr.backbones.mlp import Mlp
from mimstocr.backbones.recurrent import Lstm
from mimstocr.sharing import SHARINGS, Sharing, SharingModule
from mimstocr.training.checkpoint import load_checkpoint, save_checkpoint

STOCKS = (5, 0, 7, 1)
"""Valid stocks of each day of `batch`; the second day is empty, the last has one."""
PLACES, WINDOW, FEATURES = 8, 4, 3
TASKS = ["return", "momentum", "volatility"]
BACKBONES = [Lstm(hidden_size=4, num_layers=1), Mlp(hidden_sizes=(5, 4)), Gats(hidden_size=4, num_layers=1)]

VARIANTS: list[tuple[str, dict[str, object]]] = [
    ("soft", {"alike": False, "strength": 0.5}),
    ("cross_stitch", {"layers": 0, "units": "tower"}),
    ("cross_stitch", {"layers": 2, "alike": False}),
    ("mmoe", {"experts": 2}),
    ("ple", {"layers": 1}),
    ("ple", {"layers": 3, "shared_experts": 2, "task_experts": 2}),
    ("ple", {"layers": 3, "shared_experts": 2, "task_experts": 0}),
    ("ple", {"layers": 4}),
    ("hierarchical", {"stop_gradient": True}),
]
"""Settings other than the defaults, which all serve any number of tasks."""
CASES = [pytest.param(SHARINGS.get(name)(), id=name) for name in SHARINGS.names()]
CASES += [
    pytest.param(SHARINGS.get(name)(**settings), id=f"{name}-{'-'.join(str(value) for value in settings.values())}")
    for name, settings in VARIANTS
]
LEVELS = SHARINGS.get("hierarchical")(levels=[["volatility"], ["momentum"], ["return"]])
WIDE = SHARINGS.get("hierarchical")(levels=[["volatility"], ["momentum", "return"]])
THREE = [*CASES, pytest.param(LEVELS, id="hierarchical-three-levels"), pytest.param(WIDE, id="hierarchical-two-on-top")]

each_case = pytest.mark.parametrize("sharing", CASES)
each_backbone = pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: backbone.kind)


def module_of(sharing: Sharing, backbone: Backbone, tasks: list[str], seed: int = 0) -> SharingModule:
    torch.manual_seed(seed)
    return sharing.build(backbone, tasks, Inputs(FEATURES, WINDOW)).double().eval()


def generic(module: nn.Module) -> nn.Module:
    """The module with every weight moved, so that nothing is zero or equal by its start."""
    random = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=random, dtype=parameter.dtype)
    return module


def batch() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(len(STOCKS), PLACES, WINDOW, FEATURES, generator=random, dtype=torch.float64)
    order = torch.rand(len(STOCKS), PLACES, generator=random).argsort(-1)
    return x, order < torch.tensor(STOCKS)[:, None]


def losses_of(states: list[Tensor]) -> list[Tensor]:
    """One loss a task, each of another direction."""
    random = torch.Generator().manual_seed(3)
    return [(state @ torch.randn(state.shape[-1], generator=random).to(state)).square().sum() for state in states]


@each_case
@each_backbone
@pytest.mark.parametrize("n_tasks", [1, 2, 3])
def test_one_representation_a_task(sharing: Sharing, backbone: Backbone, n_tasks: int) -> None:
    x, valid = batch()
    states = module_of(sharing, backbone, TASKS[:n_tasks])(x, valid, {})
    assert len(states) == n_tasks
    for state in states:
        assert state.shape == (len(STOCKS), PLACES, backbone.width)
        assert state.dtype == torch.float64
        assert state.isfinite().all()
        assert (state[~valid] == 0).all()
        assert (state[valid] != 0).any(dim=-1).all()


@each_case
@each_backbone
@pytest.mark.parametrize("n_tasks", [1, 2, 3])
def test_every_parameter_has_a_gradient(sharing: Sharing, backbone: Backbone, n_tasks: int) -> None:
    x, valid = batch()
    module = module_of(sharing, backbone, TASKS[:n_tasks]).train()
    loss = torch.stack(losses_of(module(x, valid, {}))).sum()
    penalty = module.penalty()
    (loss if penalty is None else loss + penalty).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(), name


@each_case
@each_backbone
@pytest.mark.parametrize("junk", [float("nan"), 1e300])
def test_junk_in_invalid_places_is_inert(sharing: Sharing, backbone: Backbone, junk: float) -> None:
    x, valid = batch()
    results = []
    for windows in (x, x.masked_fill(~valid[..., None, None], junk)):
        module = module_of(sharing, backbone, TASKS)
        windows = windows.clone().requires_grad_()
        states = module(windows, valid, {})
        torch.stack(losses_of(states)).sum().backward()
        results.append([*states, windows.grad, *(parameter.grad for parameter in module.parameters())])
    for clean, dirty in zip(*results, strict=True):
        assert torch.equal(clean, dirty)
    assert (windows.grad[~valid] == 0).all()


@each_case
@each_backbone
def test_a_day_alone_equals_the_day_in_a_batch(sharing: Sharing, backbone: Backbone) -> None:
    x, valid = batch()
    module = module_of(sharing, backbone, TASKS)
    together = module(x, valid, {})
    for day in range(len(STOCKS)):
        here = valid[day].nonzero()[:, 0]
        alone = module(x[day : day + 1, here], torch.ones(1, len(here), dtype=torch.bool), {})
        for one, all_ in zip(alone, together, strict=True):
            assert_close(one[0], all_[day, here])


@each_case
@each_backbone
def test_the_order_of_the_stocks_does_not_matter(sharing: Sharing, backbone: Backbone) -> None:
    x, valid = batch()
    module = module_of(sharing, backbone, TASKS)
    shuffle = torch.randperm(PLACES, generator=torch.Generator().manual_seed(1))
    moved = module(x[:, shuffle], valid[:, shuffle], {})
    for before, after in zip(module(x, valid, {}), moved, strict=True):
        assert_close(after, before[:, shuffle])


@each_case
@each_backbone
def test_a_stock_affects_another_only_where_the_backbone_mixes_them(sharing: Sharing, backbone: Backbone) -> None:
    x, valid = batch()
    module = module_of(sharing, backbone, TASKS)
    one = int(valid[0].nonzero()[0, 0])
    moved = x.clone()
    moved[0, one] += 1
    others = torch.arange(PLACES) != one
    for before, after in zip(module(x, valid, {}), module(moved, valid, {}), strict=True):
        assert (after[0, one] != before[0, one]).any()
        assert bool((after[0, others] != before[0, others]).any()) == backbone.mixes_stocks
        assert_close(after[1:], before[1:])


@each_case
def test_facts_reach_every_backbone(sharing: Sharing) -> None:
    x, valid = batch()
    torch.manual_seed(0)
    module = sharing.build(Hist(hidden_size=4, num_layers=1), TASKS, Inputs(FEATURES, WINDOW, 2)).double().eval()
    places = torch.arange(PLACES).expand(len(STOCKS), PLACES)
    concepts = torch.stack([places % 2 == 0, places % 3 == 0], dim=-1)
    value = torch.rand(len(STOCKS), PLACES, generator=torch.Generator().manual_seed(1)).double() + 0.1
    first = module(x, valid, {"concepts": concepts, "market_value": value})
    other = module(x, valid, {"concepts": concepts, "market_value": value.flip(1)})
    for before, after in zip(first, other, strict=True):
        assert (before != after).any()


@each_case
@each_backbone
def test_float32_gives_float32_near_to_float64(sharing: Sharing, backbone: Backbone) -> None:
    x, valid = batch()
    module = module_of(sharing, backbone, TASKS)
    exact = module(x, valid, {})
    for single, double in zip(module.float()(x.float(), valid, {}), exact, strict=True):
        assert single.dtype == torch.float32
        assert_close(single.double(), double, atol=1e-5, rtol=1e-4)


@each_case
def test_saved_and_loaded_gives_the_same(sharing: Sharing, tmp_path: Path) -> None:
    x, valid = batch()
    module, other = (module_of(sharing, BACKBONES[0], TASKS, seed) for seed in (0, 1))
    save_checkpoint(tmp_path / "sharing.safetensors", module.state_dict(), {})
    assert not torch.equal(other(x, valid, {})[0], module(x, valid, {})[0])
    other.load_state_dict(load_checkpoint(tmp_path / "sharing.safetensors", torch.device("cpu"))[0])
    for one, same in zip(module(x, valid, {}), other(x, valid, {}), strict=True):
        assert torch.equal(one, same)


@each_case
def test_fresh_weights_depend_on_the_seed_alone(sharing: Sharing) -> None:
    one, same, other = (module_of(sharing, BACKBONES[0], TASKS, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items())


@each_case
@pytest.mark.parametrize("places", [0, 3])
def test_a_batch_without_any_stock_gives_zeros(sharing: Sharing, places: int) -> None:
    x, valid = batch()
    for state in module_of(sharing, BACKBONES[0], TASKS)(x[:, :places], torch.zeros_like(valid[:, :places]), {}):
        assert state.shape == (len(STOCKS), places, BACKBONES[0].width)
        assert (state == 0).all()


@pytest.mark.parametrize("sharing", THREE)
@pytest.mark.parametrize("tasks", [TASKS[:2], TASKS], ids=len)
def test_private_is_what_one_task_alone_reaches(sharing: Sharing, tasks: list[str]) -> None:
    """By autograd: of each parameter, the tasks whose loss has a gradient in it."""
    if sharing in (LEVELS, WIDE) and len(tasks) < 3:
        tasks = TASKS
    x, valid = batch()
    module = generic(module_of(sharing, BACKBONES[0], tasks))
    private = module.private() or [[] for _ in tasks]
    assert len(private) == len(tasks)
    mine = {id(parameter): k for k, own in enumerate(private) for parameter in own}
    assert len(mine) == sum(len(own) for own in private)  # no parameter is private twice
    parameters = dict(module.named_parameters())
    assert mine.keys() <= {id(parameter) for parameter in parameters.values()}
    reached: dict[str, set[int]] = {name: set() for name in parameters}
    for k, loss in enumerate(losses_of(module(x, valid, {}))):
        found = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
        for name, gradient in zip(parameters, found, strict=True):
            if gradient is not None and (gradient != 0).any():
                reached[name].add(k)
    for name, parameter in parameters.items():
        if id(parameter) in mine:
            assert reached[name] == {mine[id(parameter)]}, name
        else:
            assert len(reached[name]) > 1, name


@pytest.mark.parametrize("sharing", THREE)
@pytest.mark.parametrize("n_tasks", [1, 2, 3])
def test_tables_have_their_rows_and_columns(sharing: Sharing, n_tasks: int) -> None:
    if sharing in (LEVELS, WIDE):
        n_tasks = 3
    x, valid = batch()
    tasks = TASKS[:n_tasks]
    module = generic(module_of(sharing, BACKBONES[0], tasks))
    tables = module.mixing(x, valid, {})
    assert len({table.name for table in tables}) == len(tables)
    for table in tables:
        assert table.values.shape == (len(table.rows), len(table.columns))
        assert not table.values.requires_grad
        assert not table.values.isinf().any()
        assert (~table.values.isnan()).any(dim=1).all()
        assert set(tasks) <= set(table.rows)
        assert table.meaning
