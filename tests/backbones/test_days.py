import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

from mimstocr.backbones._days import cosine, masked_softmax, to_places


def test_rows_come_to_their_places() -> None:
    valid = torch.tensor([[False, True, True], [True, False, False]])
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    expected = [[[0, 0], [1, 2], [3, 4]], [[5, 6], [0, 0], [0, 0]]]
    assert_close(to_places(rows, valid), torch.tensor(expected, dtype=torch.float))


def test_masked_softmax_by_hand() -> None:
    scores = torch.tensor([[0.0, math.log(3.0), 50.0]])
    mask = torch.tensor([[True, True, False]])
    assert_close(masked_softmax(scores, mask), torch.tensor([[0.25, 0.75, 0.0]]))
    assert_close(masked_softmax(scores.T, mask.T, dim=0), torch.tensor([[0.25], [0.75], [0.0]]))


def test_masked_softmax_over_nothing_is_nothing() -> None:
    scores = torch.tensor([[1.0, 2.0], [-3e38, 3e38]], requires_grad=True)
    out = masked_softmax(scores, torch.tensor([[False, False], [True, True]]))
    assert torch.equal(out, torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
    out.square().sum().backward()
    assert torch.equal(scores.grad, torch.zeros(2, 2))


def test_cosine_by_hand() -> None:
    x, y = torch.tensor([[[3.0, 4.0], [0.0, 0.0]]]), torch.tensor([[[8.0, 6.0], [-3.0, -4.0], [4.0, -3.0]]])
    assert_close(cosine(x, y), torch.tensor([[[0.96, -1.0, 0.0], [0.0, 0.0, 0.0]]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_vector_without_direction_has_no_gradient(dtype: torch.dtype) -> None:
    x = torch.tensor([[[0.0, 0.0], [1e-30, 0.0], [1.0, 2.0]]], dtype=dtype, requires_grad=True)
    cosine(x, x).square().sum().backward()
    assert x.grad.isfinite().all()
    assert torch.equal(x.grad[0, :2], torch.zeros(2, 2, dtype=dtype))


def test_gradients() -> None:
    torch.manual_seed(0)
    x, y = (torch.randn(2, n, 3, dtype=torch.float64, requires_grad=True) for n in (2, 4))
    mask = torch.tensor([[True, True, False, True], [False, False, False, False]])[:, None]
    assert gradcheck(lambda x, y: masked_softmax(cosine(x, y), mask), (x, y))
