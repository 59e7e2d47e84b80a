from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from mimstocr.balancing import State
from mimstocr.balancing.cqb import Cqb

CPU = torch.device("cpu")
Row = list[float]
seeded = settings(derandomize=True, database=None, deadline=None, max_examples=60)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


AT_FIRST = 0.5 ** sigmoid(1)
"""beta_n while V = 1."""


def matrix(*rows: Row) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def fresh(cqb: Cqb, n_tasks: int = 2, n_shared: int = 2) -> State:
    return cqb.init(n_tasks, [n_shared], CPU)


def step(cqb: Cqb, gradients: Tensor, state: State) -> tuple[Tensor, State]:
    """One update; the losses themselves are of no matter to it."""
    return cqb.update(gradients, torch.full((len(gradients),), math.nan), state)


def mix(a: float, x: Row, b: float, y: Row) -> Row:
    return [a * i + b * j for i, j in zip(x, y, strict=True)]


def balanced(*smoothed: Row) -> Row:
    """Eqs. 11 and 12 in plain numbers; a zero contributes nothing."""
    norms = [math.sqrt(sum(x * x for x in row)) for row in smoothed]
    units = [[x / norm for x in row] for row, norm in zip(smoothed, norms, strict=True) if norm > 0]
    return [max(norms) * sum(column) for column in zip(*units, strict=True)]


# --- Eqs. 10 to 12: one step -----------------------------------------------------------------------------------


def test_three_steps_by_hand() -> None:
    """The first step is its gradients; in the second the first task has none; in the third the tasks oppose."""
    cqb, b = Cqb(), AT_FIRST
    state = fresh(cqb)
    first, state = step(cqb, matrix([3, 4], [0, 2]), state)
    # units (0.6, 0.8) and (0, 1), the larger norm 5
    assert_close(first, matrix([5 * 0.6, 5 * 1.8])[0])

    second, state = step(cqb, matrix([0, 0], [1, 0]), state)
    assert_close(second, matrix(balanced([3 * b, 4 * b], [1 - b, 2 * b]))[0])
    # by hand: the first memory still points to (0.6, 0.8) with norm 5 beta, the largest
    norm = math.hypot(1 - b, 2 * b)
    assert_close(second, matrix([5 * b * (0.6 + (1 - b) / norm), 5 * b * (0.8 + 2 * b / norm)])[0])

    third, state = step(cqb, matrix([1, 1], [-1, -1]), state)
    one, two = mix(b, [3 * b, 4 * b], 1 - b, [1, 1]), mix(b, [1 - b, 2 * b], 1 - b, [-1, -1])
    assert_close(third, matrix(balanced(one, two))[0])
    assert_close(state["smoothed"], matrix(one, two))
    assert state["steps"].tolist() == [3] * len(state["steps"])


def test_a_zero_gradient_contributes_nothing() -> None:
    cqb = Cqb()
    update, _ = step(cqb, matrix([3, 4], [0, 0]), fresh(cqb))
    assert_close(update, matrix([3, 4])[0])


def test_each_task_forgets_at_its_own_rate() -> None:
    cqb = Cqb()
    state = {**fresh(cqb), "ratio": torch.tensor([2.0, -1.0], dtype=torch.float64)}
    _, state = step(cqb, matrix([1, 0], [0, 1]), state)
    _, state = step(cqb, matrix([0, 1], [1, 0]), state)
    one, two = 0.5 ** sigmoid(2), 0.5 ** sigmoid(-1)
    assert one < two
    assert_close(state["smoothed"], matrix([one, 1 - one], [1 - two, two]))


def test_small_gradients_in_float32_keep_their_direction() -> None:
    """Squares of 1e-30 vanish in float32; the unit vector must not explode, nor the task go under."""
    cqb = Cqb()
    gradients = torch.tensor([[3.0, 4.0], [3e-30, -4e-30]])
    update, _ = step(cqb, gradients, fresh(cqb))
    assert_close(update, torch.tensor([5 * (0.6 + 0.6), 5 * (0.8 - 0.8)]), atol=1e-5, rtol=1e-5)


def test_a_task_without_gradients_fades_without_harm() -> None:
    """Its memory shrinks by beta each step, down to denormal numbers and to nothing."""
    cqb = Cqb()
    state = fresh(cqb)
    _, state = step(cqb, torch.tensor([[3.0, 4.0], [0.2, -0.1]]), state)
    for _ in range(400):
        update, state = step(cqb, torch.tensor([[3.0, 4.0], [0.0, 0.0]]), state)
        assert update.norm() <= 2 * 5 * (1 + 1e-6)
    assert_close(update, torch.tensor([3.0, 4.0]))


# --- losses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_loss", [True, False])
def test_the_gradient_of_a_log_loss_is_the_gradient_over_the_loss(log_loss: bool) -> None:
    w = torch.tensor([0.3, 5.0], dtype=torch.float64, requires_grad=True)
    losses = torch.stack([(w[0] - 1).square(), 40 * w[1].square()])
    entered = Cqb(log_loss=log_loss).transform(losses)
    divisors = losses.detach() if log_loss else torch.ones(2)
    for k, plain in enumerate([2 * (0.3 - 1), 80 * 5.0]):
        (grad,) = torch.autograd.grad(entered[k], w, retain_graph=True)
        expected = [0.0, 0.0]
        expected[k] = plain / float(divisors[k])
        assert_close(grad, matrix(expected)[0])


def test_a_loss_of_zero_enters_finite_and_without_gradient() -> None:
    losses = torch.tensor([0.0, 2.0], requires_grad=True)
    entered = Cqb().transform(losses)
    assert entered.isfinite().all()
    entered.sum().backward()
    assert losses.grad is not None
    assert losses.grad.tolist() == [0, 0.5]


# --- Eqs. 13 to 15 and 21: over epochs -------------------------------------------------------------------------


def ratio_by_hand(train: Row, valid: Row, n: int, b: int) -> float:
    """V_n of one task from the losses L_1, L_2, ... (list position 0 is L_1), as printed in Eqs. 13 and 14."""
    if n <= 2 * b:
        return 1.0

    def change(losses: Row) -> float:
        earlier = [losses[e - 1] for e in range(n - 2 * b, n - b)]  # L_{n-2b} .. L_{n-b-1}
        return losses[n - 2] - sum(earlier) / b

    return change(valid) / change(train)


def script(epochs: int = 20) -> tuple[list[Row], list[Row]]:
    """(train, valid) losses of two tasks by epoch: the first task over-fits from epoch 10 on, the second does not."""
    train = [[1 / (n + 1), 2 - 0.05 * n] for n in range(1, epochs + 1)]
    valid = [[0.5 + 0.002 * (n - 10) ** 2, 2.1 - 0.04 * n + 0.01 * (n % 3)] for n in range(1, epochs + 1)]
    return train, valid


def close_epoch(cqb: Cqb, state: State, train: Row, valid: Row) -> State:
    return cqb.end_epoch(matrix(train)[0], matrix(valid)[0], state)


@pytest.mark.parametrize("b", [6, 2, 1])
def test_rates_and_decay_follow_the_printed_equations(b: int) -> None:
    cqb = Cqb(window=b)
    state = fresh(cqb)
    train, valid = script()

    def ratios(n: int) -> Row:
        pairs = zip(zip(*train, strict=True), zip(*valid, strict=True), strict=True)
        return [ratio_by_hand(list(t), list(v), n, b) for t, v in pairs]

    for n in range(1, 22):
        expected = [0.5 ** sigmoid(ratio) for ratio in ratios(n)]
        assert cqb.rates(state).tolist() == pytest.approx(expected, rel=1e-12)
        before = ratios(n - 1)
        assert cqb.weight_decay(state) == pytest.approx(1e-3 * sigmoid(-sum(before) / 2), rel=1e-12)
        told = cqb.telemetry(state)
        assert told["ratio"] == pytest.approx(ratios(n), rel=1e-12)
        assert told["beta"] == pytest.approx(expected, rel=1e-12)
        assert told["decay"] == [cqb.weight_decay(state)]
        if n < 21:
            state = close_epoch(cqb, state, train[n - 1], valid[n - 1])


def test_the_first_twelve_epochs_and_the_thirteenth_by_hand() -> None:
    cqb = Cqb()
    state = fresh(cqb)
    train, valid = script()
    for n in range(1, 13):
        assert cqb.rates(state).tolist() == pytest.approx([0.6025, 0.6025], abs=5e-5)
        assert cqb.weight_decay(state) == pytest.approx(0.2689e-3, abs=5e-8)
        state = close_epoch(cqb, state, train[n - 1], valid[n - 1])
    # epoch 13: L_12 - mean(L_1 .. L_6)
    fall = 1 / 13 - (1 / 2 + 1 / 3 + 1 / 4 + 1 / 5 + 1 / 6 + 1 / 7) / 6
    rise = 0.002 * (4 - (81 + 64 + 49 + 36 + 25 + 16) / 6)
    assert cqb.rates(state)[0].item() == pytest.approx(0.5 ** sigmoid(rise / fall), rel=1e-12)
    # the decay comes an epoch later
    assert cqb.weight_decay(state) == pytest.approx(1e-3 * sigmoid(-1), rel=1e-12)
    v13 = state["ratio"].mean().item()
    state = close_epoch(cqb, state, train[12], valid[12])
    assert cqb.weight_decay(state) == pytest.approx(1e-3 * sigmoid(-v13), rel=1e-12)


def at_epoch_13(cqb: Cqb, train: Row, valid: Row) -> State:
    """The state after 2 b epochs of one task: b at the first value, then the rest at the second."""
    state = fresh(cqb, n_tasks=1)
    for n in range(2 * cqb.window):
        late = int(n >= cqb.window)
        state = close_epoch(cqb, state, [train[late]], [valid[late]])
    return state


def test_rising_validation_with_falling_training_raises_beta() -> None:
    cqb = Cqb()
    rates = [cqb.rates(at_epoch_13(cqb, [1.0, 0.8], [1.0, end])).item() for end in (0.6, 0.8, 1.0, 1.2, 1.4)]
    # V = 2, 1, 0, -1, -2
    assert rates == pytest.approx([0.5 ** sigmoid(v) for v in (2, 1, 0, -1, -2)], rel=1e-9)
    assert rates == sorted(rates)


def test_training_that_stands_still_keeps_the_last_ratio() -> None:
    cqb = Cqb(window=2)
    state = fresh(cqb)
    for _ in range(4):
        state = close_epoch(cqb, state, [1.0, 2.0], [0.5, 0.7])
    assert state["ratio"].tolist() == [1, 1]  # still since the start
    # both tasks move: V = 0.2 / -0.5 and 0.1 / -1; then the first returns to the mean of its window
    state = close_epoch(cqb, state, [0.5, 1.0], [0.7, 0.8])
    moved = state["ratio"].tolist()
    assert moved == pytest.approx([0.2 / -0.5, 0.1 / -1])
    state = close_epoch(cqb, state, [1.0, 0.5], [0.9, 0.9])
    assert state["ratio"].tolist() == pytest.approx([moved[0], 0.2 / -1.5])


@pytest.mark.parametrize(("fall", "kept"), [(0.5e-12, True), (4e-12, False)])
def test_standing_still_is_less_than_1e_minus_12(fall: float, kept: bool) -> None:
    ratio = at_epoch_13(Cqb(window=1), [1.0, 1.0 - fall], [1.0, 2.0])["ratio"].item()
    assert (ratio == 1) == kept
    if not kept:
        assert ratio == pytest.approx(-1 / fall, rel=1e-3)


@pytest.mark.parametrize("end", [1e12, -1e12])
def test_a_huge_ratio_stays_finite(end: float) -> None:
    cqb = Cqb()
    state = at_epoch_13(cqb, [1.0, 1 - 1e-11], [0.0, end])
    assert abs(state["ratio"].item()) > 1e22
    assert cqb.rates(state).item() == (0.5 if end < 0 else 1.0)
    state = close_epoch(cqb, state, [0.5], [0.0])
    assert cqb.weight_decay(state) == (0.0 if end < 0 else 1e-3)
    update, _ = step(cqb, torch.tensor([[3.0, 4.0]]), state)
    assert update.isfinite().all()


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_held_out_loss_that_is_not_finite_keeps_the_last_ratio(bad: float) -> None:
    cqb = Cqb(window=1)
    state = fresh(cqb)
    script = [(1.0, 1.0), (0.5, 0.8), (0.4, bad), (0.3, 0.7), (0.2, 0.6)]
    seen = []
    for train, valid in script:
        state = close_epoch(cqb, state, [train, train], [valid, 0.0])
        seen.append(state["ratio"][0].item())
    assert seen == pytest.approx([1, -0.2 / -0.5, 0.4, 0.4, -0.1 / -0.1])


def test_without_adaptive_beta_the_rate_stays_and_the_decay_moves() -> None:
    whole, ablated = (at_epoch_13(cqb, [1.0, 0.8], [1.0, 1.2]) for cqb in (Cqb(), Cqb(adaptive_beta=False)))
    cqb = Cqb(adaptive_beta=False)
    assert cqb.rates(ablated).item() == 0.5
    ablated, whole = (close_epoch(cqb, state, [0.8], [1.2]) for state in (ablated, whole))
    assert cqb.weight_decay(ablated) == Cqb().weight_decay(whole) == pytest.approx(1e-3 * sigmoid(1))


def test_without_adaptive_decay_the_decay_stays_and_the_rate_moves() -> None:
    cqb = Cqb(adaptive_decay=False, decay=0.02)
    assert cqb.weight_decay(fresh(cqb)) == 0.02
    state = close_epoch(cqb, at_epoch_13(cqb, [1.0, 0.8], [1.0, 1.2]), [0.8], [1.2])
    assert cqb.weight_decay(state) == 0.02
    assert cqb.rates(state).item() == pytest.approx(0.5 ** sigmoid(-1))


def test_base_of_rate_and_decay() -> None:
    cqb = Cqb(beta=0.9, decay=0.5)
    assert cqb.rates(fresh(cqb)).tolist() == pytest.approx([0.9 ** sigmoid(1)] * 2)
    assert cqb.weight_decay(fresh(cqb)) == pytest.approx(0.5 * sigmoid(-1))


def test_the_meta_indicator_holds_out_a_tenth() -> None:
    assert Cqb().holdout == 0
    assert Cqb(indicator="meta").holdout == 0.1


# --- properties ------------------------------------------------------------------------------------------------


def random_gradients(seed: int, n_tasks: int, n_shared: int = 6) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    gradients = torch.randn(n_tasks, n_shared, generator=random, dtype=torch.float64)
    return gradients * 10 ** (4 * torch.rand(n_tasks, 1, generator=random, dtype=torch.float64) - 2)


def first_update(gradients: Tensor) -> Tensor:
    cqb = Cqb()
    return step(cqb, gradients, fresh(cqb, *gradients.shape))[0]


@seeded
@given(seed=st.integers(0, 10**6), n_tasks=st.integers(1, 5))
def test_the_update_is_no_longer_than_all_units_in_line(seed: int, n_tasks: int) -> None:
    gradients = random_gradients(seed, n_tasks)
    longest = gradients.norm(dim=1).max()
    assert first_update(gradients).norm() <= n_tasks * longest * (1 + 1e-12)
    aligned = gradients[:1] * torch.arange(1, n_tasks + 1)[:, None]
    assert_close(first_update(aligned), n_tasks * aligned[-1])


@seeded
@given(seed=st.integers(0, 10**6), c=st.floats(1e-6, 1e6), task=st.integers(0, 2))
def test_the_scale_of_a_task_matters_through_the_largest_norm_alone(seed: int, c: float, task: int) -> None:
    gradients = random_gradients(seed, 3)
    scaled = gradients.clone()
    scaled[task] *= c
    before = first_update(gradients) / gradients.norm(dim=1).max()
    assert_close(first_update(scaled) / scaled.norm(dim=1).max(), before)


@seeded
@given(seed=st.integers(0, 10**6))
def test_every_task_has_the_same_weight(seed: int) -> None:
    """For orthogonal gradients of any length the update has the same part along each."""
    scales = random_gradients(seed, 3).norm(dim=1)
    directions, _ = torch.linalg.qr(random_gradients(seed + 1, 6))
    gradients = scales[:, None] * directions[:3]
    parts = directions @ first_update(gradients)
    assert_close(parts[:3], scales.max().expand(3))
    assert_close(parts[3:], torch.zeros(3, dtype=torch.float64), atol=1e-9 * float(scales.max()), rtol=0)


@seeded
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 4))
def test_two_tasks_are_both_served_unless_they_are_opposite(seed: int, steps: int) -> None:
    """<update, g_k> = largest norm * |g_k| * (1 + cos), the same cosine for both; 0 only when opposite."""
    cqb = Cqb()
    state = fresh(cqb, 2, 3)
    for number in range(steps):
        update, state = step(cqb, random_gradients(seed + number, 2, 3), state)
    smoothed = state["smoothed"]
    norms = smoothed.norm(dim=1)
    cosine = smoothed[0] @ smoothed[1] / norms.prod()
    assert (smoothed @ update > 0).all()
    assert_close(smoothed @ update, norms.max() * norms * (1 + cosine))


def test_opposite_tasks_stand_still() -> None:
    update = first_update(matrix([3, 4], [-6, -8]))
    assert_close(update, torch.zeros(2, dtype=torch.float64), atol=1e-14, rtol=0)


def test_the_rate_of_epoch_13_enters_the_smoothing() -> None:
    """Eqs. 10 to 15 together: 12 scripted epochs, then two steps by hand."""
    cqb = Cqb()
    state = fresh(cqb)
    train, valid = script()
    for n in range(1, 13):
        state = close_epoch(cqb, state, train[n - 1], valid[n - 1])
    pairs = zip(zip(*train[:12], strict=True), zip(*valid[:12], strict=True), strict=True)
    b1, b2 = (0.5 ** sigmoid(ratio_by_hand(list(t), list(v), 13, 6)) for t, v in pairs)
    assert abs(b1 - b2) > 0.01
    assert AT_FIRST not in (b1, b2)
    _, state = step(cqb, matrix([3, 4], [0, 2]), state)
    update, state = step(cqb, matrix([1, 0], [1, 1]), state)
    one, two = mix(b1, [3, 4], 1 - b1, [1, 0]), mix(b2, [0, 2], 1 - b2, [1, 1])
    assert_close(state["smoothed"], matrix(one, two))
    assert_close(update, matrix(balanced(one, two))[0])


@pytest.mark.parametrize("log_loss", [True, False])
def test_losses_below_zero_need_log_loss_off(log_loss: bool) -> None:
    assert (Cqb(log_loss=log_loss).negative_losses is None) != log_loss
    assert "log_loss=false" in (Cqb().negative_losses or "")


def test_a_task_that_enters_late_starts_anew_and_the_others_go_on() -> None:
    """Row by row the state is that of a balancer of the old tasks alone, and of one of the new task alone."""
    cqb = Cqb(window=2)
    random = torch.Generator().manual_seed(1)

    def losses(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        train, held_out = torch.rand(2, n, generator=random, dtype=torch.float64)
        return train, held_out

    old = cqb.init(2, [5], torch.device("cpu"))
    for _ in range(5):
        for _ in range(3):
            _, old = cqb.update(torch.randn(2, 5, generator=random), torch.ones(2), old)
        old = cqb.end_epoch(*losses(2), old)
    new = cqb.init(1, [5], torch.device("cpu"))
    both = cqb.admit(old, cqb.init(3, [5], torch.device("cpu")), [0, 2])
    assert (old["ratio_before"] != 1).all()
    one, other = old["ratio_before"].tolist()
    assert cqb.weight_decay(both) == pytest.approx(1e-3 * sigmoid(-(one + 1 + other) / 3))
    for number in range(7):
        for _ in range(3):
            gradients = torch.randn(3, 5, generator=random)
            _, old = cqb.update(gradients[[0, 2]], torch.ones(2), old)
            _, new = cqb.update(gradients[[1]], torch.ones(1), new)
            update, both = cqb.update(gradients, torch.ones(3), both)
            assert torch.equal(both["smoothed"][[0, 2]], old["smoothed"])
            assert torch.equal(both["smoothed"][1], new["smoothed"][0])
            units = both["smoothed"] / both["smoothed"].norm(dim=1, keepdim=True)
            assert_close(update, both["smoothed"].norm(dim=1).max() * units.sum(dim=0))
        train, held_out = losses(3)
        old = cqb.end_epoch(train[[0, 2]], held_out[[0, 2]], old)
        new = cqb.end_epoch(train[[1]], held_out[[1]], new)
        both = cqb.end_epoch(train, held_out, both)
        for key in ("ratio", "ratio_before"):
            assert_close(both[key][[0, 2]], old[key], rtol=0, atol=0)
            assert_close(both[key][1:2], new[key], rtol=0, atol=0)
        assert (both["ratio"][1] == 1) == (number < 3)  # four epochs of its own
        assert cqb.weight_decay(both) == pytest.approx(1e-3 * sigmoid(-float(both["ratio_before"].mean())))
