"""From outputs to task losses, and from task losses to gradients."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mimstocr.balancing import Balancer, State
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


def backward(model: Model, losses: Tensor, balancer: Balancer, state: State) -> State:
    """Set every parameter's gradient from the task losses [K]; gives the balancer's new state.

    One backward pass in all for a balancer that reads losses, one a task for one that reads gradients.
    """
    entered = balancer.transform(losses)
    model.zero_grad(set_to_none=True)
    if balancer.reads == "losses":
        weights, state = balancer.weights(entered.detach(), state)
        torch.autograd.backward((weights * entered).sum())
        return state
    shared = list(model.shared.parameters())
    rows = []
    for k, head in enumerate(model.heads.values()):
        own = list(head.parameters())
        last = k == len(model.heads) - 1
        grads = torch.autograd.grad(entered[k], shared + own, retain_graph=not last, materialize_grads=True)
        rows.append(torch.cat([grad.reshape(-1) for grad in grads[: len(shared)]]))
        for parameter, grad in zip(own, grads[len(shared) :], strict=True):
            parameter.grad = grad
    update, state = balancer.update(torch.stack(rows), state)
    done = 0
    for parameter in shared:
        parameter.grad = update[done : done + parameter.numel()].view_as(parameter)
        done += parameter.numel()
    return state
