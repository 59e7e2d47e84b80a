from __future__ import annotations

import json
import math
from typing import Any, Literal

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.testing import assert_close

from mimstocr.losses import LOSSES, _pairs
from mimstocr.losses import approx_ndcg as module
from mimstocr.losses.approx_ndcg import (
    ApproxNdcg,
    adaptive_k,
    approx_ndcg,
    approx_ndcg_loss,
    expected_relevance,
    relevance,
    soft_positions,
)
from mimstocr.losses.cross_entropy import cross_entropy

E = math.e


def days(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def all_valid(x: Tensor) -> Tensor:
    return torch.ones(x.shape[:2], dtype=torch.bool)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# --- the slowest obvious reference -----------------------------------------------------------------------------


def slow_k(levels: list[int], share_percent: int) -> int:
    """Whole levels from the top until share_percent % of the stocks are reached, in whole numbers."""
    count = 0
    for level in range(max(levels), -1, -1):
        for g in levels:
            if g == level:
                count += 1
        if 100 * count >= share_percent * len(levels):
            break
    return count


def slow_ndcg(f: list[float], w: list[float], k: int, temperature: float) -> float:
    """ApproxNDCG@k of one day; ties at the cut share what is left of it."""
    n = len(f)
    k = min(k, n)
    bound = sorted(f, reverse=True)[k - 1]
    above = sum(1 for x in f if x > bound)
    tied = sum(1 for x in f if x == bound)
    dcg = 0.0
    for i in range(n):
        position = 1.0
        for j in range(n):
            if j != i:
                position += sigmoid(temperature * (f[j] - f[i]))
        counts = 1.0 if f[i] > bound else (k - above) / tied if f[i] == bound else 0.0
        dcg += counts * (2 ** w[i] - 1) / math.log2(1 + position)
    ideal = 0.0
    for place, x in enumerate(sorted(w, reverse=True)[:k], start=1):
        ideal += (2**x - 1) / math.log2(1 + place)
    return dcg / ideal if ideal > 0 else 0.0


def slow_loss(logits: list[list[float]], levels: list[int], settings: dict[str, Any]) -> float:
    """Equation 9 of one day, stock by stock."""
    n = len(levels)
    worth = (lambda g: g * g) if settings["relevance"] == "square" else (lambda g: g)
    entropy, f = 0.0, []
    for z, g in zip(logits, levels, strict=True):
        odds = [math.exp(x) for x in z]
        entropy -= math.log(odds[g] / sum(odds)) / n
        f.append(sum(p / sum(odds) * worth(c) for c, p in enumerate(odds)))
    w = [worth(g) for g in levels]
    k = {"adaptive": slow_k(levels, round(100 * settings["share"])), "all": n}.get(settings["k"], settings["k"])
    ranking = math.exp(-slow_ndcg(f, w, k, settings["temperature"])) if any(w) else 0.0
    return settings["lambda_ce"] * entropy + (1 - settings["lambda_ce"]) * ranking


# --- relevance ---------------------------------------------------------------------------------------------------


def test_relevance() -> None:
    levels = torch.arange(5)
    assert relevance(levels, "square").tolist() == [0, 1, 4, 9, 16]
    assert relevance(levels, "linear").tolist() == [0, 1, 2, 3, 4]


def test_expected_relevance_by_hand() -> None:
    """Odds 1 : 2 : 3 over the levels 0, 1, 2."""
    logits = days([1, 2, 3], [1, 0, 0]).log()
    assert_close(expected_relevance(logits, "square"), torch.tensor([(2 * 1 + 3 * 4) / 6, 0.0]).double())
    assert_close(expected_relevance(logits, "linear"), torch.tensor([(2 * 1 + 3 * 2) / 6, 0.0]).double())


def test_expected_relevance_of_huge_logits_is_the_relevance_of_the_highest() -> None:
    logits = torch.tensor([0.0, 0.0, 1e30, 0.0, -1e30])
    assert expected_relevance(logits, "square") == 4


# --- adaptive k --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "share", "k"),
    [
        ([4, 3, 2, 1, 0], 0.2, 1),  # tau = ceil(0.2 * 5) = 1, one stock of level 4
        ([4, 4, 2, 1, 0], 0.2, 2),  # level 4 is not split
        ([3, 3, 3, 1, 0], 0.2, 3),  # no level 4
        ([4, 3, 2, 2, 1, 0], 0.2, 2),  # tau = ceil(1.2) = 2: level 4, then 3
        ([4, 3, 3, 3, 1, 0], 0.2, 4),  # ... which is not split
        ([4, 4, 3, 3, 1, 0], 0.2, 2),  # tau reached to the stock: no further
        ([4, 1, 1, 1, 1, 1], 0.2, 6),  # nothing between: down to level 1
        ([4, 3, 2, 1, 0], 0.4, 2),
        ([4, 3, 2, 1, 0], 0.41, 3),
        ([4, 3, 2, 1, 0], 1.0, 5),
        ([4, 3, 2, 1, 0], 1e-9, 1),  # at least one stock
        ([0, 0, 0, 0, 0], 0.2, 5),
        ([2], 0.2, 1),
    ],
)
def test_adaptive_k_by_hand(levels: list[int], share: float, k: int) -> None:
    assert adaptive_k(torch.tensor([levels]), torch.ones(1, len(levels)) > 0, share).tolist() == [k]


@pytest.mark.parametrize("share_percent", [7, 15, 20, 28, 33, 50, 55, 60])
def test_adaptive_k_is_right_at_every_boundary(share_percent: int) -> None:
    """All levels differ, so k = ceil(share * n); float64 fails at 0.07 * 100, float32 at 0.6 * 25."""
    n = torch.arange(1, 201)
    levels = torch.arange(200).expand(200, 200)
    valid = torch.arange(200) < n[:, None]
    expected = [-(-share_percent * int(x) // 100) for x in n]
    assert adaptive_k(levels, valid, share_percent / 100).tolist() == expected


def test_adaptive_k_counts_valid_stocks_only() -> None:
    levels = torch.tensor([[4, 4, 3, 2, 1, 0, 0], [-1, 4, -1, -1, 3, 3, -1], [4, 4, 4, 4, 4, 4, 4]])
    valid = torch.tensor([[0, 1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0, 0]]).bool()
    assert adaptive_k(levels, valid).tolist() == [1, 2, 0]


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_adaptive_k_refuses_a_share_out_of_range(share: float) -> None:
    with pytest.raises(ValueError, match=r"expected a share in \(0, 1\]"):
        adaptive_k(torch.tensor([[1]]), torch.tensor([[True]]), share)


# --- soft positions ----------------------------------------------------------------------------------------------


def test_soft_positions_by_hand() -> None:
    """Scores log 4, log 2, log 1: sigmoid(log a - log b) = a / (a + b)."""
    f = days([math.log(4), math.log(2), 0.0])
    expected = days([1 + 2 / 6 + 1 / 5, 1 + 4 / 6 + 1 / 3, 1 + 4 / 5 + 2 / 3])
    assert_close(soft_positions(f, all_valid(f)), expected)
    doubled = days([1 + 4 / 20 + 1 / 17, 1 + 16 / 20 + 1 / 5, 1 + 16 / 17 + 4 / 5])
    assert_close(soft_positions(f, all_valid(f), 2.0), doubled)


def test_soft_positions_of_equal_scores_are_the_middle() -> None:
    f = torch.full((1, 5), 3.0)
    assert soft_positions(f, all_valid(f)).tolist() == [[3.0] * 5]


def test_soft_positions_tend_to_places_as_the_temperature_grows() -> None:
    f = days([0.3, -1.0, 2.0, 0.1])
    assert_close(soft_positions(f, all_valid(f), 1e4), days([2, 4, 1, 3]))


def test_soft_positions_pass_over_invalid_stocks() -> None:
    f = days([math.log(4), math.nan, math.log(2), math.inf, 0.0])
    valid = torch.tensor([[True, False, True, False, True]])
    expected = days([1 + 2 / 6 + 1 / 5, 1, 1 + 4 / 6 + 1 / 3, 1, 1 + 4 / 5 + 2 / 3])
    assert_close(soft_positions(f, valid), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1e3])
def test_soft_positions_of_huge_scores(dtype: torch.dtype, temperature: float) -> None:
    """Two at the top of the scale and two at its bottom: their differences overflow."""
    huge = torch.finfo(dtype).max
    f = torch.tensor([[huge, huge, -huge, -huge]], dtype=dtype, requires_grad=True)
    positions = soft_positions(f, all_valid(f), temperature)
    assert positions.tolist() == [[1.5, 1.5, 3.5, 3.5]]
    (gradient,) = torch.autograd.grad(positions, f, torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=dtype))
    assert_close(gradient, temperature * torch.tensor([[0.25, -0.25, 0.25, -0.25]], dtype=dtype))


def test_soft_positions_gradient_by_hand() -> None:
    """Two stocks a = log 3, b = 0: pos_a = 1 + sigmoid(b - a), of slope sigmoid'(log 3) = 1/4 * 3/4."""
    f = days([math.log(3), 0.0]).requires_grad_()
    (gradient,) = torch.autograd.grad(soft_positions(f, all_valid(f), 2.0)[0, 0], f)
    slope = 2 * (1 / 10) * (9 / 10)
    assert_close(gradient, days([-slope, slope]))


def test_soft_positions_agree_with_plain_autograd() -> None:
    random = torch.Generator().manual_seed(2)
    f = torch.randn(3, 6, generator=random, dtype=torch.float64, requires_grad=True)
    valid = torch.rand(3, 6, generator=random) < 0.7
    ahead = (1.7 * (f.unsqueeze(1) - f.unsqueeze(2))).sigmoid() * valid.unsqueeze(1)
    plain = (1 + ahead.sum(-1) - 0.5).where(valid, torch.ones_like(f))
    pull = torch.randn(3, 6, generator=random, dtype=torch.float64)
    (expected,) = torch.autograd.grad(plain, f, pull)
    positions = soft_positions(f, valid, 1.7)
    (gradient,) = torch.autograd.grad(positions, f, pull.masked_fill(~valid, math.nan))
    assert_close(positions, plain)
    assert_close(gradient, expected)


def test_a_second_derivative_is_refused() -> None:
    f = days([1.0, 2.0]).requires_grad_()
    value = approx_ndcg(f, days([0, 1]), all_valid(f), torch.tensor([2]))
    (gradient,) = torch.autograd.grad(value.sum(), f, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient[0, 0].backward()


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_soft_positions_refuse_a_temperature_that_is_not_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="expected a positive temperature"):
        soft_positions(torch.zeros(1, 2), torch.ones(1, 2) > 0, temperature)


@pytest.mark.parametrize("block", [1, 20, 21, 100, 139, 140, 141])
def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Two days of seven stocks: rows are 14 pairs long, all of them 98."""
    random = torch.Generator().manual_seed(3)
    f = torch.randn(2, 7, generator=random, dtype=torch.float64, requires_grad=True)
    valid = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    pull = torch.randn(2, 7, generator=random, dtype=torch.float64)

    def both() -> tuple[Tensor, Tensor]:
        positions = soft_positions(f, valid, 1.3)
        return positions, torch.autograd.grad(positions, f, pull)[0]

    expected = both()
    monkeypatch.setattr(_pairs, "BLOCK", block)
    assert_close(both(), expected)


def test_blocks_bound_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pairs, "BLOCK", 1000)
    f = torch.randn(2, 30, generator=torch.Generator().manual_seed(4))
    blocks = [(rows, s.numel()) for rows, s in module._sigmoids(f, all_valid(f), 1.0)]
    assert max(pairs for _, pairs in blocks) <= 1000
    assert [rows for rows, _ in blocks] == [slice(0, 16), slice(16, 30)]


# --- ApproxNDCG@k ------------------------------------------------------------------------------------------------


def test_approx_ndcg_by_hand() -> None:
    """Relevance 4, 1, 0; the best stock scored second; k = 2 leaves out the third."""
    f, w = days([math.log(2), math.log(4), 0.0]), days([4, 1, 0])
    first, second = 1 + 2 / 6 + 1 / 5, 1 + 4 / 6 + 1 / 3
    dcg = (2**1 - 1) / math.log2(1 + first) + (2**4 - 1) / math.log2(1 + second)
    ideal = (2**4 - 1) / math.log2(2) + (2**1 - 1) / math.log2(3)
    assert_close(approx_ndcg(f, w, all_valid(f), torch.tensor([2])), days([dcg / ideal])[0])


def test_approx_ndcg_at_one_looks_at_the_highest_score_only() -> None:
    """Of the three the highest score is the stock of relevance 1, whose place is among all three."""
    f, w = days([math.log(2), math.log(4), 0.0]), days([4, 1, 0])
    dcg = (2**1 - 1) / math.log2(1 + 1 + 2 / 6 + 1 / 5)
    ideal = (2**4 - 1) / math.log2(2)
    assert_close(approx_ndcg(f, w, all_valid(f), torch.tensor([1])), days([dcg / ideal])[0])


def test_ties_at_the_cut_share_the_places_left() -> None:
    """k = 2 of four: one stock above, three tied for one place, so each counts 1/3."""
    f, w = days([0.0, math.log(3), 0.0, 0.0]), days([2, 1, 0, 3])
    top, rest = 1 + 3 * 1 / 4, 1 + 3 / 4 + 2 / 2
    dcg = (2**1 - 1) / math.log2(1 + top) + ((2**2 - 1) + 0 + (2**3 - 1)) / 3 / math.log2(1 + rest)
    ideal = (2**3 - 1) / math.log2(2) + (2**2 - 1) / math.log2(3)
    assert_close(approx_ndcg(f, w, all_valid(f), torch.tensor([2])), days([dcg / ideal])[0])


@pytest.mark.parametrize("k", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_approx_ndcg_agrees_with_the_slow_reference(k: int, temperature: float) -> None:
    """Scores and relevances of few values, so that ties are everywhere."""
    random = torch.Generator().manual_seed(k)
    f = torch.randint(-2, 3, (40, 6), generator=random).double() / 2
    w = torch.randint(0, 4, (40, 6), generator=random).double()
    valid = torch.rand(40, 6, generator=random) < 0.8
    valid[:, 0] = True
    value = approx_ndcg(f, w, valid, torch.full((40,), k), temperature)
    for day in range(40):
        here = valid[day]
        slow = slow_ndcg(f[day, here].tolist(), w[day, here].tolist(), k, temperature)
        assert float(value[day]) == pytest.approx(slow, abs=1e-12)


def test_each_day_has_its_own_k() -> None:
    f, w = days([3, 2, 1, 0], [3, 2, 1, 0]), days([1, 2, 3, 0], [1, 2, 3, 0])
    both = approx_ndcg(f, w, all_valid(f), torch.tensor([1, 3]))
    assert_close(both[0], approx_ndcg(f[:1], w[:1], all_valid(f[:1]), torch.tensor([1]))[0])
    assert_close(both[1], approx_ndcg(f[:1], w[:1], all_valid(f[:1]), torch.tensor([3]))[0])
    assert both[0] != both[1]


def test_a_perfect_ranking_tends_to_one() -> None:
    w = days([9, 4, 1, 0, 0])
    f = days([4, 3, 2, 1, 0])
    k = torch.tensor([3])
    assert_close(approx_ndcg(f, w, all_valid(f), k, 1e3), days([1.0])[0])
    assert_close(approx_ndcg_loss(f, w, all_valid(f), k, 1e3), days([math.exp(-1)])[0])
    soft = [float(approx_ndcg(f, w, all_valid(f), k, a)) for a in (0.1, 0.5, 1.0, 2.0, 5.0)]
    assert soft == sorted(soft)
    assert soft[-1] < 1


def test_gains_too_large_for_float32_are_no_trouble() -> None:
    """Level 12 squared: 2^144 is beyond float32; 2^144 - 1 and 2^121 - 1 give the ratio 2^-23."""
    f, w = torch.tensor([[0.0, 200.0]]), torch.tensor([[144, 121]])
    value = approx_ndcg(f, w, all_valid(f), torch.tensor([1]))
    assert_close(value, torch.tensor([2.0**-23]))


def test_a_day_of_one_stock_is_perfect() -> None:
    f = torch.tensor([[0.7]])
    assert approx_ndcg(f, torch.tensor([[4]]), all_valid(f), torch.tensor([1])).tolist() == [1.0]


def test_no_gain_no_term_and_no_gradient() -> None:
    f = days([0.2, 0.1, 0.4], [0.2, 0.1, 0.4]).requires_grad_()
    w = days([0, 0, 0], [1, 0, 0])
    k = torch.tensor([2, 2])
    assert approx_ndcg(f, w, all_valid(f), k)[0] == 0
    value = approx_ndcg_loss(f, w, all_valid(f), k)
    assert value[0] == 0
    assert value[1] > math.exp(-1)
    (gradient,) = torch.autograd.grad(value.sum(), f)
    assert (gradient[0] == 0).all()
    assert (gradient[1] != 0).all()


def test_gains_of_invalid_stocks_do_not_count() -> None:
    f, w = days([0.2, 0.1, 0.4]), days([0, 0, 9])
    assert approx_ndcg_loss(f, w, torch.tensor([[True, True, False]]), torch.tensor([1])) == 0


def test_the_selection_carries_no_gradient_but_the_positions_of_all_stocks_do() -> None:
    """k = 1 and the top stock has the gain: the others matter by pushing it down."""
    f = days([1.0, 0.0, -1.0]).requires_grad_()
    value = approx_ndcg(f, days([3, 0, 0]), all_valid(f), torch.tensor([1]))
    (gradient,) = torch.autograd.grad(value.sum(), f)
    assert gradient[0, 0] > 0
    assert (gradient[0, 1:] < 0).all()
    assert torch.autograd.gradcheck(lambda x: approx_ndcg(x, days([3, 0, 0]), all_valid(x), torch.tensor([1])), f)


def test_k_of_the_wrong_shape_is_refused() -> None:
    f = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="expected one k a day"):
        approx_ndcg(f, f, all_valid(f), torch.tensor([1]))


# --- the component -----------------------------------------------------------------------------------------------

SETTINGS = [
    {"k": k, "share": share, "temperature": temperature, "relevance": form, "lambda_ce": lambda_ce}
    for k, share in [("adaptive", 0.2), ("adaptive", 0.5), ("all", 0.2), (3, 0.2), (50, 0.2)]
    for temperature in (0.5, 2.0)
    for form in ("square", "linear")
    for lambda_ce in (0.0, 0.3, 1.0)
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(str(x) for x in s.values()))
def test_loss_agrees_with_the_slow_reference(settings: dict[str, Any]) -> None:
    """Every setting, on days of random length; some days hold equal logits, some levels 0 only."""
    random = torch.Generator().manual_seed(5)
    logits = torch.randn(12, 9, 5, generator=random, dtype=torch.float64)
    logits[2] = 0.25
    logits[3, 1:5] = logits[3, :1]
    levels = torch.randint(0, 5, (12, 9), generator=random)
    levels[4] = 0
    levels[5] = 2
    valid = torch.rand(12, 9, generator=random) < 0.75
    valid[6] = torch.arange(9) == 4
    value = ApproxNdcg(**settings)(logits, levels, valid)
    for day in range(12):
        here = valid[day]
        slow = slow_loss(logits[day, here].tolist(), levels[day, here].tolist(), settings)
        assert float(value[day]) == pytest.approx(slow, abs=1e-12), f"day {day}"


def test_default_settings_are_the_papers() -> None:
    assert ApproxNdcg().model_dump() == {
        "kind": "approx_ndcg",
        "k": "adaptive",
        "share": 0.2,
        "temperature": 1.0,
        "relevance": "square",
        "lambda_ce": 0.5,
    }


@pytest.mark.parametrize("k", ["adaptive", "all", 4])
def test_settings_survive_a_round_trip(k: Literal["adaptive", "all"] | int) -> None:
    loss = ApproxNdcg(k=k, share=0.3, temperature=2.0, relevance="linear", lambda_ce=0.25)
    assert LOSSES.parse(loss.model_dump()) == loss
    assert LOSSES.parse(json.loads(loss.model_dump_json())) == loss


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 0},
        {"k": "some"},
        {"share": 0.0},
        {"share": 1.5},
        {"temperature": 0.0},
        {"lambda_ce": 1.1},
        {"lambda_ce": -0.1},
        {"relevance": "cubic"},
        {"temprature": 1.0},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ApproxNdcg(**wrong)


@pytest.mark.parametrize(
    ("settings", "k"), [({}, [1, 2, 0]), ({"k": "all"}, [4, 3, 0]), ({"k": 4}, [4, 3, 0]), ({"k": 2}, [2, 2, 0])]
)
def test_diagnostics_tell_the_k_of_each_day(settings: dict[str, Any], k: list[float]) -> None:
    levels = torch.tensor([[4, 3, 2, 0], [3, 3, 0, 4], [1, 1, 1, 1]])
    valid = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [0, 0, 0, 0]]).bool()
    told = ApproxNdcg(**settings).diagnostics(levels, valid)["k"]
    assert told.tolist() == k
    assert told.dtype == torch.float32


def test_lambda_mixes_cross_entropy_and_ranking() -> None:
    random = torch.Generator().manual_seed(6)
    logits = torch.randn(3, 8, 5, generator=random)
    levels = torch.randint(0, 5, (3, 8), generator=random)
    valid = all_valid(levels)
    entropy, ranking = (ApproxNdcg(lambda_ce=x)(logits, levels, valid) for x in (1.0, 0.0))
    assert_close(entropy, cross_entropy(logits, levels, valid))
    assert ((ranking > 1 / E) & (ranking < 1)).all()
    assert_close(ApproxNdcg(lambda_ce=0.3)(logits, levels, valid), 0.3 * entropy + 0.7 * ranking)


def test_ranking_better_lowers_the_loss() -> None:
    """From the worst order to the best by swaps of neighbours, each of which helps."""
    levels = torch.tensor([[0, 1, 2, 3, 4]])
    loss = ApproxNdcg(lambda_ce=0.0, k="all")
    surest = 6 * torch.eye(5)
    order, values = [4, 3, 2, 1, 0], []
    for end in range(4, -1, -1):
        for i in range(end):
            values.append(float(loss(surest[order][None], levels, all_valid(levels))))
            order[i], order[i + 1] = order[i + 1], order[i]
    values.append(float(loss(surest[order][None], levels, all_valid(levels))))
    assert order == [0, 1, 2, 3, 4]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == len(values)


@pytest.mark.parametrize(("k", "lambda_ce"), [("all", 0.0), ("adaptive", 0.5)])
def test_descent_finds_the_ranking(k: Literal["adaptive", "all"], lambda_ce: float) -> None:
    random = torch.Generator().manual_seed(7)
    levels = torch.randint(0, 5, (1, 30), generator=random)
    logits = torch.randn(1, 30, 5, generator=random).requires_grad_()
    loss, ranking, valid = ApproxNdcg(k=k, lambda_ce=lambda_ce), ApproxNdcg(lambda_ce=0.0), all_valid(levels)
    start = ranking(logits, levels, valid).item()
    optimiser = torch.optim.Adam([logits], lr=0.2)
    for _ in range(100):
        optimiser.zero_grad()
        loss(logits, levels, valid).sum().backward()
        optimiser.step()
    assert start > 0.6
    assert ranking(logits, levels, valid).item() < 0.4


def test_the_cut_term_alone_does_not_lift_a_stock_from_below_the_cut() -> None:
    """As Equation 8 has it: the best stock, scored last of three with k = 1, is pushed down, not up."""
    f = days([2.0, 1.0, 0.0]).requires_grad_()
    loss = approx_ndcg_loss(f, days([1, 0, 4]), all_valid(f), torch.tensor([1]))
    (gradient,) = torch.autograd.grad(loss.sum(), f)
    assert gradient[0, 0] < 0
    assert gradient[0, 2] > 0


@pytest.mark.parametrize("equal", [False, True], ids=["random scores", "equal scores"])
def test_ten_thousand_stocks_in_float32(equal: bool) -> None:
    """Finite, and near float64, whose positions and sums have room to spare."""
    random = torch.Generator().manual_seed(8)
    logits = torch.zeros(1, 10_000, 5) if equal else torch.randn(1, 10_000, 5, generator=random)
    levels = torch.randint(0, 5, (1, 10_000), generator=random)
    loss, valid = ApproxNdcg(lambda_ce=0.0), all_valid(levels)

    def both(z: Tensor) -> tuple[Tensor, Tensor]:
        z = z.clone().requires_grad_()
        value = loss(z, levels, valid)
        return value.detach(), torch.autograd.grad(value.sum(), z)[0]

    value, gradient = both(logits)
    exact, exact_gradient = both(logits.double())
    assert_close(value.double(), exact, rtol=1e-6, atol=0)
    assert (gradient.double() - exact_gradient).abs().max() <= 1e-4 * exact_gradient.abs().max()
