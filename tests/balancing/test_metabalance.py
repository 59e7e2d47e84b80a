from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from mimstocr.balancing.metabalance import MetaBalance

CPU = torch.device("cpu")


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_first_step_by_hand_tensor_by_tensor() -> None:
    """Two tensors: (2,) with lengths 5 and 10, then (1,) with lengths 2 and 1; relax 0.7."""
    meta = MetaBalance()
    update, state = meta.update(matrix([3, 4, 2], [10, 0, -1]), torch.zeros(0), meta.init(2, [2, 1], CPU))
    # the lengths' memories are a tenth each, and their ratios those of the lengths: 5 / 10 and 2 / 1
    expected = [3 + 10 * (0.7 * 0.5 + 0.3), 4, 2 - 1 * (0.7 * 2 + 0.3)]
    assert update.tolist() == pytest.approx(expected)
    assert_close(state["lengths"], 0.1 * matrix([5, 2], [10, 1]))


@pytest.mark.parametrize("strategy", ["reduce", "enlarge", "both"])
def test_steps_by_the_algorithm_written_out(strategy: str) -> None:
    beta, relax, sizes = 0.6, 0.5, [3, 1, 2]
    meta = MetaBalance(beta=beta, relax=relax, strategy=strategy)
    state = meta.init(3, sizes, CPU)
    lengths = [[0.0] * 3 for _ in sizes]
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        gradients = torch.randn(3, 6, generator=generator, dtype=torch.float64) * matrix([1.0], [4.0], [0.2])
        expected, at = [], 0
        for t, size in enumerate(sizes):
            total = torch.zeros(size, dtype=torch.float64)
            for k in range(3):
                part = gradients[k, at : at + size]
                lengths[t][k] = beta * lengths[t][k] + (1 - beta) * float(part.norm())
                main, own = lengths[t][0], lengths[t][k]
                changes = {"reduce": own > main, "enlarge": own < main, "both": True}[strategy]
                total += relax * main / own * part + (1 - relax) * part if changes else part
            expected.append(total)
            at += size
        update, state = meta.update(gradients, torch.zeros(0), state)
        assert_close(update, torch.cat(expected))


def test_relax_goes_from_the_plain_sum_to_equal_lengths() -> None:
    gradients = matrix([3, 4, 0], [0, 0, 10])
    for relax, length in ((0.0, 10.0), (1.0, 5.0)):
        meta = MetaBalance(relax=relax)
        update, _ = meta.update(gradients, torch.zeros(0), meta.init(2, [3], CPU))
        assert_close(update, matrix([3, 4, length])[0])


def test_the_main_task_is_never_changed() -> None:
    meta = MetaBalance()
    state = meta.init(2, [1, 2], CPU)
    for number in range(1, 5):
        main = matrix([number, -1, 2 * number])[0]
        update, state = meta.update(torch.stack([main, torch.zeros_like(main)]), torch.zeros(0), state)
        assert_close(update, main)
