"""From outputs to task losses, and from task losses to gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from mimstocr.balancing import Balancer, State
from mimstocr.errors import TrainingError
from mimstocr.tasks import Task
from mimstocr.training.batches import DayBatch
from mimstocr.training.model import Model


def daily_losses(tasks: Mapping[str, Task], outputs: Mapping[str, Tensor], batch: DayBatch) -> tuple[Tensor, Tensor]:
    """Losses [K, D] of each task and day, and bool [K, D]: the task has a label that day."""
    losses, present = [], []
    for name, task in tasks.items():
        target, valid = labelled(task, batch, name)
        losses.append(task.loss(outputs[name], target, valid))
        present.append(valid.any(dim=-1))
    return torch.stack(losses), torch.stack(present)


def labelled(task: Task, batch: DayBatch, name: str) -> tuple[Tensor, Tensor]:
    """A task's targets [D, N] in the type that its loss takes, and the mask [D, N] of those that exist."""
    target = batch.targets[name]
    valid = batch.valid & ~target.isnan()
    if task.target == "level":
        target = target.masked_fill(~valid, 0.0).long()
    return target, valid


def mean_over_days(losses: Tensor, present: Tensor) -> Tensor:
    """[K, D] to [K]: the mean over the days on which the task has a label; 0 where it has none."""
    return losses.where(present, 0.0).sum(dim=1) / present.sum(dim=1).clamp_min(1)


def backward(
    model: Model, losses: Tensor, balancer: Balancer, state: State, tasks: Sequence[str] | None = None
) -> State:
    """Set every parameter's gradient from the losses [K] of `tasks`, by default all; gives the balancer's new state.

    One backward pass in all for a balancer that reads losses, one a task for one that reads gradients. With some of
    the tasks alone, a parameter that none of them reaches is left without gradient, so that the optimiser leaves it
    and its moments as they are: heads and private parts of the other tasks, and what these alone share. Raises
    TrainingError for a loss below 0 under a balancer that refuses it.
    """
    tasks = list(model.heads) if tasks is None else tasks
    losses = checked(losses, tasks, balancer)
    entered = balancer.transform(losses)
    model.zero_grad(set_to_none=True)
    if balancer.reads == "losses":
        weights, state = balancer.weights(entered.detach(), state)
        torch.autograd.backward((weights * entered).sum())
    else:
        state = _by_gradients(model, tasks, entered, losses, balancer, state)
    penalty = model.shared.penalty(tasks)
    if penalty is not None:
        out = [parameter for parameter in model.parameters() if parameter.grad is None]
        torch.autograd.backward(penalty)
        if len(tasks) < len(model.heads):
            for parameter in out:
                parameter.grad = None
    return state


def _by_gradients(
    model: Model, tasks: Sequence[str], entered: Tensor, losses: Tensor, balancer: Balancer, state: State
) -> State:
    """Gradients of the shared parameters by the balancer's update, of each task's own by its transformed loss."""
    shared = model.shared_parameters()
    of_task = dict(zip(model.heads, model.own_parameters(), strict=True))
    reached = [len(tasks) == len(model.heads)] * len(shared)
    rows = []
    for k, name in enumerate(tasks):
        own = of_task[name]
        grads = torch.autograd.grad(entered[k], shared + own, retain_graph=k < len(tasks) - 1, allow_unused=True)
        reached = [before or grad is not None for before, grad in zip(reached, grads, strict=False)]
        whole = [
            torch.zeros_like(parameter) if grad is None else grad
            for parameter, grad in zip(shared + own, grads, strict=True)
        ]
        rows.append(torch.cat([grad.reshape(-1) for grad in whole[: len(shared)]]))
        for parameter, grad in zip(own, whole[len(shared) :], strict=True):
            parameter.grad = grad
    update, state = balancer.update(torch.stack(rows), losses.detach(), state)
    done = 0
    for parameter, some in zip(shared, reached, strict=True):
        if some:
            parameter.grad = update[done : done + parameter.numel()].view_as(parameter)
        done += parameter.numel()
    return state


def look_back(model: Model, tasks: Mapping[str, Task], batch: DayBatch, balancer: Balancer, state: State) -> State:
    """The balancer's state after the optimiser's step, told the losses of the same batch as they are now."""
    if not balancer.looks_back:
        return state
    with torch.no_grad():
        outputs = model(batch.x, batch.valid, batch.facts)
        losses = mean_over_days(*daily_losses(tasks, outputs, batch))
    return balancer.after_step(checked(losses, tasks, balancer), state)


def checked(losses: Tensor, names: Iterable[str], balancer: Balancer) -> Tensor:
    """The losses [K]. Raises TrainingError when one is below 0 and the balancer refuses that."""
    reason = balancer.negative_losses
    if reason is None:
        return losses
    if losses.device.type != "cpu":
        # a GPU is not made to wait at every step: a NaN goes through everything and stops the run at the next look
        return losses.where(losses.detach() >= 0, math.nan)
    for name, loss in zip(names, losses.tolist(), strict=True):
        if loss < 0:
            raise TrainingError(
                f"balancer {balancer.kind}: expected losses of at least 0, but that of task {name!r} is {loss:.6g}; "
                f"{reason}"
            )
    return losses
