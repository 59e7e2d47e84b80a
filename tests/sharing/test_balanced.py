"""Steps of training: every structure under balancers of both kinds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import mimstocr
from mimstocr.backbones import Inputs
from mimstocr.backbones.recurrent import Lstm
from mimstocr.balancing import BALANCERS
from mimstocr.config import Config
from mimstocr.errors import ConfigError
from mimstocr.sharing import SHARINGS, Sharing
from mimstocr.sharing.hierarchical import Hierarchical
from mimstocr.sharing.soft import Soft
from mimstocr.tasks import Task
from mimstocr.tasks.momentum_line import MomentumLine
from mimstocr.tasks.returns import Return
from mimstocr.training.batches import DayBatch
from mimstocr.training.model import Model, seeded_model
from mimstocr.training.objective import backward, daily_losses, mean_over_days

TASKS: dict[str, Task] = {"day": Return(), "week": Return(horizon=5), "line": MomentumLine(lead=1)}
SHARED = ["cross_stitch", "hierarchical", "mmoe", "ple"]
"""Structures with shared and with private parts."""


def model_of(sharing: Sharing) -> Model:
    return seeded_model(0, Lstm(hidden_size=4, num_layers=1), sharing, TASKS, Inputs(2, 4)).double()


def losses_of(model: Model) -> Tensor:
    random = torch.Generator().manual_seed(0)
    valid = torch.rand(2, 6, generator=random) < 0.8
    targets = {name: torch.randn(2, 6, generator=random).double() for name in TASKS}
    targets["line"] = torch.randint(0, 5, (2, 6), generator=random).double()
    x = torch.randn(2, 6, 4, 2, generator=random).double()
    batch = DayBatch([7, 9], torch.arange(6).expand(2, 6), valid, x, {}, targets)
    return mean_over_days(*daily_losses(TASKS, model(batch.x, batch.valid, batch.facts), batch))


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("kind", ["ew", "uw", "db_mtl", "pcgrad", "cqb", "metabalance"])
def test_a_step(name: str, kind: str) -> None:
    """What is private follows its own task's transformed loss, what is shared the balancer's update."""
    torch.manual_seed(0)
    balancer = BALANCERS.get(kind)()
    model = model_of(SHARINGS.get(name)())
    shared, own = model.shared_parameters(), model.own_parameters()
    assert all(len(mine) > 2 for mine in own[:1])  # more than the head
    assert len(shared) + sum(map(len, own)) == len(list(model.parameters()))
    state = balancer.init(len(TASKS), [p.numel() for p in shared], torch.device("cpu"))
    losses = losses_of(model)
    backward(model, losses, balancer, state)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    entered = balancer.transform(losses_of(model))
    if balancer.reads == "losses":
        weights, _ = balancer.weights(entered.detach(), state)
        expected = torch.autograd.grad((weights * entered).sum(), list(model.parameters()))
        for p, gradient in zip(model.parameters(), expected, strict=True):
            assert_close(p.grad, gradient)
        return
    rows = []
    for loss, mine in zip(entered, own, strict=True):
        for p, gradient in zip(mine, torch.autograd.grad(loss, mine, retain_graph=True), strict=True):
            assert_close(p.grad, gradient)
        gradients = torch.autograd.grad(loss, shared, retain_graph=True, materialize_grads=True)
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    if kind != "pcgrad":  # its order of the tasks is drawn at random
        update, _ = balancer.update(torch.stack(rows), losses.detach(), state)
        assert_close(torch.cat([p.grad.flatten() for p in shared]), update)


def test_a_stopped_hierarchy_shares_the_backbone_alone() -> None:
    model = model_of(Hierarchical(stop_gradient=True))
    assert {id(p) for p in model.shared_parameters()} == {id(p) for p in model.shared.backbone.parameters()}


def test_the_penalty_comes_after_the_balancer() -> None:
    """Under weights other than 1 it keeps its strength."""
    model = model_of(Soft(strength=0.3, alike=False))
    balancer = BALANCERS.get("uw")()
    state = balancer.init(len(TASKS), [], torch.device("cpu"))
    state["log_variance"] = torch.tensor([0.5, -0.5, 1.0])
    backward(model, losses_of(model), balancer, state)
    weights, _ = balancer.weights(losses_of(model).detach(), state)
    penalty = model.shared.penalty()
    assert penalty is not None
    expected = torch.autograd.grad((weights * losses_of(model)).sum() + penalty, list(model.parameters()))
    for p, gradient in zip(model.parameters(), expected, strict=True):
        assert_close(p.grad, gradient)


def test_soft_sharing_leaves_nothing_to_balance_by_gradients(small: Callable[..., Config]) -> None:
    config = small(sharing="soft")
    with pytest.raises(
        ConfigError, match=r"balancer cqb reads the gradients of shared parameters, but sharing soft has"
    ):
        mimstocr.run(config)
    assert not config.folder.exists()


def test_levels_that_name_no_task_are_refused_before_anything_is_written(small: Callable[..., Config]) -> None:
    config = small(sharing={"kind": "hierarchical", "levels": [["momentum"], ["returns"]]})
    with pytest.raises(ConfigError, match=r"sharing\.levels: no task 'returns' is learned; did you mean 'return'"):
        mimstocr.run(config)
    assert not config.folder.exists()


@pytest.mark.parametrize("kind", ["cross_stitch", "hierarchical", "mmoe", "ple", "soft"])
def test_from_prices_to_the_report(small: Callable[..., Config], kind: str) -> None:
    balancer = "ew" if kind == "soft" else {"kind": "cqb", "window": 1}
    result = mimstocr.run(
        small(sharing=kind, balancer=balancer, training={"max_epochs": 1, "days_per_step": 8, "learning_rate": 0.01})
    )
    assert result.finished
    told = result.folder.read_json("sharing.json")
    assert len(told["days"]) >= 1
    for table in told["tables"]:
        values = table["values"]["0"]
        assert (len(values), {len(row) for row in values}) == (len(table["rows"]), {len(table["columns"])})
    before = (result.folder.path / "sharing.json").read_bytes()
    assert mimstocr.run(mimstocr.load_config(result.folder.path), resume=True).finished
    assert (result.folder.path / "sharing.json").read_bytes() == before
    assert 'data-chart="sharing-0"' in (result.folder.path / "report.html").read_text()


def test_a_folder_without_the_tables_still_has_its_report(small: Callable[..., Config], tmp_path: Path) -> None:
    result = mimstocr.run(small(training={"max_epochs": 1, "days_per_step": 8}))
    assert not (result.folder.path / "sharing.json").exists()  # hard sharing has none
    assert 'data-chart="sharing-' not in mimstocr.write_report(result.folder.path).read_text()
