from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from mimstocr.backbones import Inputs
from mimstocr.backbones.recurrent import Gru
from mimstocr.balancing.equal import EqualWeighting, SingleTask
from mimstocr.errors import ConfigError
from mimstocr.sharing.hard import Hard
from mimstocr.tasks.returns import Return
from mimstocr.training.model import seeded_model
from mimstocr.training.objective import backward


def test_equal_weighting_is_the_gradient_of_the_sum() -> None:
    tasks = {"day": Return(), "week": Return(horizon=5)}
    model = seeded_model(0, Gru(hidden_size=3), Hard(), tasks, Inputs(2, 4))
    x, valid = torch.randn(2, 5, 4, 2), torch.ones(2, 5, dtype=torch.bool)

    def losses() -> torch.Tensor:
        outputs = model(x, valid, {})
        return torch.stack([outputs["day"].square().mean(), 100 * (outputs["week"] - 1).square().mean()])

    backward(model, losses(), EqualWeighting(), {})
    found = [parameter.grad.clone() for parameter in model.parameters()]
    expected = torch.autograd.grad(losses().sum(), list(model.parameters()))
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, rtol=0, atol=0)


def test_equal_weighting_learns_every_task() -> None:
    assert EqualWeighting().learned(["a", "b"]) == ["a", "b"]


def test_single_task_learns_the_main_task_or_the_one_named() -> None:
    tasks = ["return", "momentum"]
    assert SingleTask().learned(tasks) == ["return"]
    assert SingleTask(task="momentum").learned(tasks) == ["momentum"]


def test_single_task_names_the_close_match() -> None:
    with pytest.raises(ConfigError, match=r"no task 'momentun'; did you mean 'momentum'.* known: momentum, return"):
        SingleTask(task="momentun").learned(["return", "momentum"])
