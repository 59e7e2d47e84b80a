from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.balancing.famo import Famo
from mimstocr.config import Config
from mimstocr.training.interrupt import Stop
from mimstocr.training.loop import Trainer
from mimstocr.training.prepare import prepare
from mimstocr.workflow import Quiet, fresh_model, make_setting

CPU = torch.device("cpu")


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_two_steps_by_hand() -> None:
    famo = Famo(learning_rate=0.025, decay=0)
    weights, state = famo.weights(doubles(4, 1), famo.init(2, [3], CPU))
    # z = 1/2 each: z / L = 1/8 and 1/2, over their sum
    assert weights.tolist() == pytest.approx([0.2, 0.8], rel=1e-7)
    # the first loss halves, the second stands still: fall (log 2, 0); through the softmax (log 2 / 4, -log 2 / 4)
    state = famo.after_step(doubles(2, 1), state)
    assert state["mean"].tolist() == pytest.approx([0.1 * math.log(2) / 4, -0.1 * math.log(2) / 4], rel=1e-7)
    assert state["learned"].tolist() == pytest.approx([-0.025, 0.025], rel=1e-6)  # one step of Adam
    weights, _ = famo.weights(doubles(2, 1), state)
    z = 1 / (1 + math.exp(0.05))
    parts = z / 2, 1 - z
    assert weights.tolist() == pytest.approx([part / sum(parts) for part in parts], rel=1e-6)
    assert famo.telemetry(state)["weight"] == pytest.approx([z, 1 - z], rel=1e-6)


def test_many_steps_by_autograd() -> None:
    """Algorithm of the paper written out with torch's softmax, autograd and Adam with weight decay."""
    famo = Famo(learning_rate=0.1, decay=0.05)
    state = famo.init(3, [3], CPU)
    w = torch.nn.Parameter(doubles(0, 0, 0))
    optimizer = torch.optim.Adam([w], lr=0.1, weight_decay=0.05)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        before = torch.rand(3, generator=generator, dtype=torch.float64) + 0.5
        after = before * (0.6 + 0.5 * torch.rand(3, generator=generator, dtype=torch.float64))
        entered = before.clone().requires_grad_()
        z = torch.softmax(w, dim=0)
        c = 1 / (z / (before + 1e-8)).sum().detach()
        (c * (z.detach() * (entered + 1e-8).log()).sum()).backward()
        weights, state = famo.weights(before, state)
        assert_close(weights, entered.grad)
        assert_close(weights.sum(), doubles(1)[0])
        state = famo.after_step(after, state)
        fall = (before + 1e-8).log() - (after + 1e-8).log()
        optimizer.zero_grad()
        (torch.softmax(w, dim=0) * fall).sum().backward()
        optimizer.step()
        assert_close(state["learned"], w.detach())


def test_the_task_that_falls_slowest_gains_weight() -> None:
    famo = Famo()
    state = famo.init(3, [3], CPU)
    for _ in range(50):
        _, state = famo.weights(doubles(1, 1, 1), state)
        state = famo.after_step(doubles(0.9, 0.99, 1.01), state)
    z = famo.telemetry(state)["weight"]
    assert z[0] < z[1] < z[2]


def test_a_task_without_a_label_neither_counts_nor_learns() -> None:
    """With its loss of 0 in the sum, the weights of all others would vanish."""
    famo = Famo(decay=0)
    weights, state = famo.weights(doubles(2, 0, 2), famo.init(3, [3], CPU))
    assert weights.tolist() == pytest.approx([0.5, 0, 0.5])
    state = famo.after_step(doubles(2, 0, 2), state)
    assert state["learned"].tolist() == [0, 0, 0]
    weights, _ = famo.weights(doubles(0, 0, 0), state)
    assert weights.tolist() == [0, 0, 0]


def test_the_loop_looks_back_after_every_step(small: Callable[..., Config], tmp_path: Path) -> None:
    training = {"learning_rate": 0.01, "max_epochs": 2, "days_per_step": 40, "device": "cpu"}
    prepared = prepare(small(balancer="famo", training=training))
    trainer = Trainer(make_setting(prepared), fresh_model(prepared, 0), 0, tmp_path)
    trainer.fit(Quiet(), Stop())
    assert int(trainer.balance["steps"]) == 2 * len(trainer.order())
    assert (trainer.balance["learned"] != 0).all()
