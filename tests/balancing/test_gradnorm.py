from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.balancing.gradnorm import FLOOR, GradNorm

CPU = torch.device("cpu")


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_two_steps_by_hand() -> None:
    gradnorm = GradNorm(alpha=1.0)
    gradients = matrix([3, 4], [0, 1])  # lengths 5 and 1
    update, state = gradnorm.update(gradients, doubles(2, 8), gradnorm.init(2, [2], CPU))
    assert_close(update, doubles(3, 5))  # weights 1: the sum
    # r = 1 for both at first, targets 3 and 3: down for the long one, up for the short one, by one step of Adam
    assert state["learned"].tolist() == pytest.approx([0.975, 1.025], rel=1e-6)
    # Adam's means of the gradients +5/3 and -1/3 (in units of the mean length 3), bias corrected
    assert (state["mean"] / 0.1).tolist() == pytest.approx([5 / 3, -1 / 3])
    # the first loss is a tenth of what it was, the second as it was: r = 0.1 / 0.55 and 1 / 0.55
    update, after = gradnorm.update(gradients, doubles(0.2, 8), state)
    assert_close(update, state["learned"] @ gradients)
    weighted = [5 * 0.975, 1.025]
    targets = [sum(weighted) / 2 * 0.1 / 0.55, sum(weighted) / 2 * 1 / 0.55]
    assert weighted[0] > targets[0]
    assert weighted[1] < targets[1]
    assert after["learned"].tolist() == pytest.approx([0.95, 1.05], rel=1e-6)
    assert gradnorm.telemetry(after)["weight"] == after["learned"].tolist()


@pytest.mark.parametrize("alpha", [0.0, 0.12, 1.5])
def test_the_weights_follow_the_gradient_of_the_printed_loss(alpha: float) -> None:
    """L_grad of Eq. 2 by autograd, the target held constant, with torch's own Adam and the renormalisation."""
    gradnorm = GradNorm(alpha=alpha, learning_rate=0.1)
    state = gradnorm.init(3, [4], CPU)
    w = torch.nn.Parameter(doubles(1, 1, 1))
    optimizer = torch.optim.Adam([w], lr=0.1)
    generator = torch.Generator().manual_seed(0)
    first = None
    for _ in range(8):
        gradients = torch.randn(3, 4, generator=generator, dtype=torch.float64) * doubles(1, 5, 0.3)[:, None]
        losses = torch.rand(3, generator=generator, dtype=torch.float64) + 0.2
        first = losses if first is None else first
        norms = torch.stack([(w[k] * gradients[k]).norm() for k in range(3)])
        ratio = losses / first
        target = (norms.mean() * (ratio / ratio.mean()) ** alpha).detach()
        optimizer.zero_grad()
        # lengths in units of their mean, so that the scale of the losses is of no matter
        ((norms - target).abs().sum() / gradients.norm(dim=1).mean()).backward()
        update, state = gradnorm.update(gradients, losses, state)
        assert_close(update, w.detach() @ gradients)
        optimizer.step()
        with torch.no_grad():
            w.clamp_(min=FLOOR)
            w.mul_(3 / w.sum())
        assert_close(state["learned"], w.detach())
        assert_close(state["learned"].sum(), doubles(3)[0])


def test_lengths_come_together_where_rates_are_equal() -> None:
    gradnorm = GradNorm()
    state = gradnorm.init(2, [2], CPU)
    gradients = matrix([3, 0], [0, 1])
    for _ in range(400):
        _, state = gradnorm.update(gradients, doubles(1, 1), state)
    # 3 w = 2 - w
    assert state["learned"].tolist() == pytest.approx([0.5, 1.5], abs=0.03)


def test_weights_stay_above_zero() -> None:
    gradnorm = GradNorm(learning_rate=0.5)
    state = gradnorm.init(2, [2], CPU)
    for _ in range(50):
        _, state = gradnorm.update(matrix([1e6, 0], [0, 1]), doubles(1, 1), state)
        assert (state["learned"] > 0).all()


def test_a_task_gets_its_first_loss_on_its_first_label() -> None:
    gradnorm = GradNorm()
    gradients = matrix([1, 0], [0, 1])
    _, state = gradnorm.update(gradients, doubles(3, 0), gradnorm.init(2, [2], CPU))
    assert state["first"].tolist() == [3, 0]
    _, state = gradnorm.update(gradients, doubles(2, 5), state)
    assert state["first"].tolist() == [3, 5]
    _, state = gradnorm.update(gradients, doubles(2, 0), state)
    assert state["first"].tolist() == [3, 5]
    assert state["learned"].isfinite().all()
