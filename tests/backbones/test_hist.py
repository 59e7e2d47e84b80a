import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mimstocr.backbones import Inputs
from mimstocr.backbones.hist import Hist, hidden_concepts, predefined_concepts

F, L, H, C = 3, 5, 4, 4

MEMBER = torch.tensor(
    [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 1, 1, 0]], dtype=torch.bool
)
"""Seven stocks: stock 3 has no concept, concept 3 no stock."""
VALUE = torch.tensor([3e9, 1e9, 2.5e9, 4e9, 1e8, 7e9, 2e9])


class Largest(TorchDispatchMode):
    """Remembers the most elements that any operation's output had."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        found = (leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
        self.elements = max(self.elements, *found, 0)
        return out


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    return layer.weight @ x + layer.bias


def leaky(x: Tensor) -> Tensor:
    return torch.stack([value if value > 0 else 0.01 * value for value in x])


def cos(x: Tensor, y: Tensor) -> float:
    return float(x @ y) / math.sqrt(float(x @ x)) / math.sqrt(float(y @ y))


def softmax(scores: list[float]) -> list[float]:
    total = sum(math.exp(score) for score in scores)
    return [math.exp(score) / total for score in scores]


def received(x: Tensor, concepts: list[Tensor]) -> Tensor:
    """What a stock of state x receives of the day's concepts."""
    total = torch.zeros(H, dtype=x.dtype)
    for weight, concept in zip(softmax([cos(x, concept) for concept in concepts]), concepts, strict=True):
        total = total + weight * concept
    return total


def given(x: list[Tensor], member: Tensor, value: Tensor) -> list[Tensor]:
    """The corrected embeddings of the concepts that have a member."""
    found = []
    for k in range(member.shape[1]):
        members = [i for i in range(len(x)) if member[i, k]]
        if members:
            capital = sum(float(value[i]) for i in members)
            first = sum(float(value[i]) / capital * x[i] for i in members)
            weights = softmax([float(state @ first) for state in x])
            found.append(sum(weight * state for weight, state in zip(weights, x, strict=True)))
    return found


def made(x: list[Tensor], top_k: int) -> list[Tensor]:
    """The embeddings of the hidden concepts that some stock joined."""
    joined: dict[int, list[int]] = {}
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        for j in sorted(others, key=lambda j: cos(x[i], x[j]), reverse=True)[:top_k]:
            joined.setdefault(j, []).append(i)
    return [cos(x[j], x[j]) * x[j] + sum(cos(x[i], x[j]) * x[i] for i in stocks) for j, stocks in joined.items()]


@torch.no_grad()
def reference(module: nn.Module, windows: Tensor, member: Tensor | None, value: Tensor, top_k: int) -> Tensor:
    """One day without padding, [n, L, F] to [n, H], stock by stock and concept by concept."""
    n = len(windows)
    x = [module.encoder.rnn(window[:, None])[0][-1, 0] for window in windows]
    out = [torch.zeros(H, dtype=windows.dtype) for _ in range(n)]
    parts = [] if member is None else [(module.predefined, lambda x: given(x, member, value))]
    for part, find in [*parts, (module.hidden, lambda x: made(x, top_k))]:
        concepts = find(x)
        shared = [linear(part.share, received(state, concepts)) for state in x]
        out = [total + leaky(linear(part.forecast, s)) for total, s in zip(out, shared, strict=True)]
        x = [state - linear(part.backcast, s) for state, s in zip(x, shared, strict=True)]
    return torch.stack([total + leaky(linear(module.individual, state)) for total, state in zip(out, x, strict=True)])


def case(n_concepts: int = C, rnn: str = "gru", top_k: int = 3, n: int = 7) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    module = Hist(rnn=rnn, top_k=top_k, hidden_size=H).build(Inputs(F, L, n_concepts)).double().eval()
    return module, 3 * torch.randn(1, n, L, F, dtype=torch.float64)


@pytest.mark.parametrize("rnn", ["lstm", "gru"])
@pytest.mark.parametrize("top_k", [1, 3, 6, 20])
def test_is_the_three_modules_of_the_paper(rnn: str, top_k: int) -> None:
    module, x = case(C, rnn, top_k)
    facts = {"concepts": MEMBER[None], "market_value": VALUE[None]}
    out = module(x, torch.ones(1, 7, dtype=torch.bool), facts)
    assert_close(out[0], reference(module, x[0], MEMBER, VALUE.double(), top_k), atol=1e-10, rtol=0)
    assert isinstance(module.encoder.rnn, nn.LSTM if rnn == "lstm" else nn.GRU)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_without_a_table_the_first_part_is_skipped(n: int) -> None:
    module, x = case(0, n=n)
    assert module.predefined is None
    facts = {"market_value": VALUE[None, :n]}
    out = module(x, torch.ones(1, n, dtype=torch.bool), facts)
    assert_close(out[0], reference(module, x[0], None, VALUE, 3), atol=1e-10, rtol=0)


def test_on_a_day_without_a_concept_nothing_is_received() -> None:
    module, x = case(C)
    facts = {"concepts": torch.zeros(1, 7, C, dtype=torch.bool), "market_value": VALUE[None]}
    out = module(x, torch.ones(1, 7, dtype=torch.bool), facts)
    assert_close(out[0], reference(module, x[0], torch.zeros(7, C, dtype=torch.bool), VALUE, 3), atol=1e-10, rtol=0)


def test_the_mean_of_members_is_weighted_by_market_value() -> None:
    """(1 x 4 + 3 x 8) / 4 = 7, against which stocks of 4, 8 and 0 are weighed by exp(7 x)."""
    state = torch.tensor([[[0.4], [0.8], [0.0]]], dtype=torch.float64)
    member = torch.tensor([[[True, False], [True, False], [False, False]]])
    found, live = predefined_concepts(
        state, torch.ones(1, 3, dtype=torch.bool), member, torch.tensor([[1e9, 3e9, 5e9]])
    )
    weights = [math.exp(0.7 * 0.4), math.exp(0.7 * 0.8), 1.0]
    assert live.tolist() == [[True, False]]
    assert_close(found[0, 0, 0].item(), (weights[0] * 0.4 + weights[1] * 0.8) / sum(weights))


def test_a_concept_whose_states_add_up_to_nothing_is_there() -> None:
    """States that cancel out make an embedding of zeros, which is a member's all the same."""
    state = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]], dtype=torch.float64)
    everyone = torch.ones(1, 2, dtype=torch.bool)
    _, live = predefined_concepts(state, everyone, everyone[..., None], torch.ones(1, 2))
    assert live.tolist() == [[True]]
    module = Hist(hidden_size=2).build(Inputs(F, L, 1)).double()
    forecast, _ = module.predefined(state, torch.zeros(1, 1, 2, dtype=torch.float64), live)
    assert forecast.isfinite().all()


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_the_unit_of_market_values_does_not_matter(factor: float) -> None:
    module, x = case()
    everyone = torch.ones(1, 7, dtype=torch.bool)
    one, other, equal = (
        module(x, everyone, {"concepts": MEMBER[None], "market_value": value[None]})
        for value in (VALUE, VALUE * factor, torch.ones(7))
    )
    assert_close(other, one, atol=1e-7, rtol=1e-6)  # market values are float32
    assert not torch.allclose(equal, one, atol=1e-5, rtol=1e-4)


def test_hidden_concepts_by_hand() -> None:
    """Three stocks at 0, 30 and 80 degrees join the nearest one: 0 and 80 join 30, 30 joins 0; nobody joins 80."""
    angles = [math.radians(degrees) for degrees in (0, 30, 80)]
    x = torch.tensor([[[r * math.cos(a), r * math.sin(a)] for r, a in zip((1, 2, 3), angles, strict=True)]])
    found, live = hidden_concepts(x, torch.ones(1, 3, dtype=torch.bool), 1)
    assert live.tolist() == [[True, True, False]]
    c30, c50 = math.cos(math.radians(30)), math.cos(math.radians(50))
    assert_close(found[0, 0], x[0, 0] + c30 * x[0, 1])
    assert_close(found[0, 1], c30 * x[0, 0] + x[0, 1] + c50 * x[0, 2])


def test_the_most_similar_may_be_unlike() -> None:
    """Two opposite stocks join each other with cosine -1: a stock's own place never counts."""
    x = torch.tensor([[[1.0, 0.0], [-2.0, 0.0]]])
    found, live = hidden_concepts(x, torch.ones(1, 2, dtype=torch.bool), 1)
    assert live.all()
    assert_close(found, torch.tensor([[[3.0, 0.0], [-3.0, 0.0]]]))


def test_all_that_tie_with_the_last_are_joined() -> None:
    """Stock 0 is as near to stock 1 as to its double, stock 2; the order of the two must not decide."""
    x = torch.tensor([[[2.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, -3.0]]])
    found, live = hidden_concepts(x, torch.ones(1, 4, dtype=torch.bool), 1)
    assert live.tolist() == [[True, True, True, False]]  # stock 3 joins 0
    assert_close(found[0, 1], found[0, 2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_order_does_not_matter_among_doubles(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = Hist(hidden_size=16, top_k=2).build(Inputs(F, L)).to(dtype).eval()
    x = torch.randn(1, 9, L, F, dtype=dtype)
    x[0, [1, 4, 6, 7]] = x[0, 2].clone()
    everyone = torch.ones(1, 9, dtype=torch.bool)
    before = module(x, everyone, {})
    for seed in range(5):
        shuffle = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
        assert_close(module(x[:, shuffle], everyone, {}), before[:, shuffle], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("n_concepts", [0, C])
def test_gradients(n_concepts: int) -> None:
    torch.manual_seed(0)
    module = Hist(hidden_size=2, num_layers=1, top_k=2).build(Inputs(2, 2, n_concepts)).double()
    x = torch.randn(1, 7, 2, 2, dtype=torch.float64, requires_grad=True)
    valid = torch.tensor([[True, True, False, True, True, True, False]])
    facts = {"concepts": MEMBER[None], "market_value": VALUE[None]}
    assert gradcheck(lambda x, *_: module(x, valid, facts), (x, *module.parameters()))


def test_no_tensor_of_pairs_of_states_or_of_concepts_is_made() -> None:
    n, hidden, n_concepts = 40, 8, 8
    module = Hist(hidden_size=hidden, num_layers=1).build(Inputs(F, 3, n_concepts))
    concepts = torch.rand(1, n, n_concepts, generator=torch.Generator().manual_seed(0)) < 0.3
    with Largest() as largest:
        module(
            torch.randn(1, n, 3, F),
            torch.ones(1, n, dtype=torch.bool),
            {"concepts": concepts, "market_value": torch.ones(1, n)},
        ).sum().backward()
    assert n * n <= largest.elements < n * n * hidden
