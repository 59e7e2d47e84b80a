from __future__ import annotations

import math

import pytest
import torch

from mimstocr.balancing import State
from mimstocr.balancing.dwa import DynamicWeightAverage


def weights_of(dwa: DynamicWeightAverage, state: State, n: int) -> list[float]:
    weights, after = dwa.weights(torch.full((n,), 7.0, dtype=torch.float64), state)
    assert after is state
    assert dwa.telemetry(state)["weight"] == weights.tolist()
    return weights.tolist()


def by_hand(train: list[list[float]], temperature: float) -> list[float]:
    """Eq. 7 of the paper for the epoch after those of `train`."""
    if len(train) < 2:
        return [1.0] * len(train[0])
    parts = [math.exp(late / early / temperature) for early, late in zip(train[-2], train[-1], strict=True)]
    return [len(parts) * part / sum(parts) for part in parts]


@pytest.mark.parametrize("temperature", [2.0, 0.5])
def test_epochs_by_the_printed_equation(temperature: float) -> None:
    dwa = DynamicWeightAverage(temperature=temperature)
    train = [[4.0, 1.0, 3.0], [2.0, 0.9, 3.0], [1.9, 0.3, 3.3], [1.0, 0.3, 0.1]]
    state = dwa.init(3, [5], torch.device("cpu"))
    assert weights_of(dwa, state, 3) == [1, 1, 1]
    for epoch in range(1, 5):
        told = torch.tensor(train[epoch - 1], dtype=torch.float64)
        state = dwa.end_epoch(told, torch.full_like(told, math.nan), state)
        assert weights_of(dwa, state, 3) == pytest.approx(by_hand(train[:epoch], temperature), rel=1e-12)


def test_the_slower_task_weighs_more() -> None:
    dwa = DynamicWeightAverage()
    state = dwa.init(2, [5], torch.device("cpu"))
    for losses in ([1.0, 1.0], [0.5, 1.0]):
        state = dwa.end_epoch(torch.tensor(losses, dtype=torch.float64), torch.zeros(2), state)
    # r = 0.5 and 1, temperature 2: 2 exp(0.25) / (exp(0.25) + exp(0.5))
    assert weights_of(dwa, state, 2) == pytest.approx([2 / (1 + math.exp(0.25)), 2 / (1 + math.exp(-0.25))])


def test_a_task_that_had_no_loss_counts_as_standing_still() -> None:
    dwa = DynamicWeightAverage()
    state = dwa.init(2, [5], torch.device("cpu"))
    for losses in ([0.0, 1.0], [0.5, 1.0]):
        state = dwa.end_epoch(torch.tensor(losses, dtype=torch.float64), torch.zeros(2), state)
    assert weights_of(dwa, state, 2) == [1, 1]


def test_a_task_that_enters_late_stands_still_for_two_epochs_of_its_own() -> None:
    dwa = DynamicWeightAverage(temperature=2)
    state = dwa.init(2, [5], torch.device("cpu"))

    def close(*losses: float) -> None:
        nonlocal state
        state = dwa.end_epoch(torch.tensor(losses, dtype=torch.float64), torch.zeros(len(losses)), state)

    def by_ratios(*ratios: float) -> list[float]:
        parts = [math.exp(ratio / 2) for ratio in ratios]
        return pytest.approx([len(parts) * part / sum(parts) for part in parts], rel=1e-12)

    close(4, 1)
    close(2, 0.9)
    assert weights_of(dwa, state, 2) == by_ratios(0.5, 0.9)
    state = dwa.admit(state, dwa.init(3, [5], torch.device("cpu")), [0, 2])
    assert weights_of(dwa, state, 3) == by_ratios(0.5, 1, 0.9)
    close(1, 7, 0.9)
    assert weights_of(dwa, state, 3) == by_ratios(0.5, 1, 1)
    close(1, 3.5, 0.9)
    assert weights_of(dwa, state, 3) == by_ratios(1, 0.5, 1)


def test_one_that_enters_within_the_first_two_epochs_weighs_one() -> None:
    dwa = DynamicWeightAverage()
    state = dwa.init(1, [5], torch.device("cpu"))
    state = dwa.end_epoch(torch.ones(1, dtype=torch.float64), torch.zeros(1), state)
    state = dwa.admit(state, dwa.init(2, [5], torch.device("cpu")), [1])
    assert weights_of(dwa, state, 2) == [1, 1]
