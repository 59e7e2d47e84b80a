"""What every backbone of a fixed portfolio promises, whatever it computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mimstocr.backbones import BACKBONES, Backbone, Inputs
from mimstocr.backbones._portfolio import joint_window
from mimstocr.errors import ConfigError, DataError
from mimstocr.training.checkpoint import load_checkpoint, save_checkpoint

STOCKS, WINDOW, FEATURES = 5, 30, 3
VALID = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [1, 0, 1, 1, 0], [0, 0, 0, 1, 0]]).bool()
"""A whole day, an empty one, one with holes, and one of a single stock."""

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("dlinear", {"individual": True, "horizon": 3, "kernel_size": 4}),
    ("autoformer", {"decoder_layers": 2, "horizon": 7, "stock_width": 1}),
    ("crossformer", {"horizon": 14, "patch_size": 7, "num_layers": 3}),
    ("deformtime", {"num_layers": 3, "patch_size": 9, "stride": 7, "horizon": 2}),
    ("itransformer", {"num_layers": 1, "horizon": 4}),
    ("joint_lstm", {"num_layers": 2}),
    ("p_slstm", {"num_layers": 2, "patch_size": 7, "stride": 5, "horizon": 2}),
    ("patchtst", {"patch_size": 6, "stride": 5, "horizon": 2}),
    ("timesnet", {"num_kernels": 2, "top_k": 5, "num_layers": 1, "horizon": 6}),
]
"""Settings other than the defaults."""
NAMES = [name for name in BACKBONES.names() if BACKBONES.get(name).fixed_portfolio]
CASES = [pytest.param(BACKBONES.get(name)(), id=name) for name in NAMES]
CASES += [
    pytest.param(BACKBONES.get(name)(**settings), id=f"{name}-{'-'.join(str(value) for value in settings.values())}")
    for name, settings in VARIANTS
]
each_case = pytest.mark.parametrize("backbone", CASES)
each_name = pytest.mark.parametrize("name", NAMES)


def module_of(backbone: Backbone, seed: int = 0, stocks: int = STOCKS) -> nn.Module:
    torch.manual_seed(seed)
    return backbone.build(Inputs(FEATURES, WINDOW, n_symbols=stocks)).double().eval()


def batch(seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(len(VALID), STOCKS, WINDOW, FEATURES, generator=random, dtype=torch.float64)


def test_the_forecasters_of_the_comparison_are_there() -> None:
    published = {"autoformer", "crossformer", "deformtime", "dlinear", "p_slstm", "timesnet"}
    assert set(NAMES) >= published | {"itransformer", "joint_lstm", "patchtst"}
    assert {name for name, _ in VARIANTS} == set(NAMES)


def test_the_joint_window_has_all_series_of_the_first_stock_first() -> None:
    x = torch.arange(2 * 3 * 4 * 2).reshape(2, 3, 4, 2).float()
    valid = torch.tensor([[True, True, False], [False, True, True]])
    joint = joint_window(x, valid)
    assert joint.shape == (2, 4, 6)
    for day in range(2):
        for stock in range(3):
            for step in range(4):
                for feature in range(2):
                    expected = x[day, stock, step, feature] if valid[day, stock] else 0.0
                    assert joint[day, step, stock * 2 + feature] == expected


@each_case
def test_one_finite_representation_a_stock_and_zeros_elsewhere(backbone: Backbone) -> None:
    out = module_of(backbone)(batch(), VALID, {})
    assert out.shape == (*VALID.shape, backbone.width)
    assert out.dtype == torch.float64
    assert out.isfinite().all()
    assert (out[~VALID] == 0).all()
    rows = out[VALID]
    assert len(torch.unique(rows, dim=0)) == len(rows)


@each_case
def test_float32_gives_float32_near_to_float64(backbone: Backbone) -> None:
    exact = module_of(backbone)(batch(), VALID, {})
    single = module_of(backbone).float()(batch().float(), VALID, {})
    assert single.dtype == torch.float32
    assert_close(single.double(), exact, atol=2e-5, rtol=1e-3)


@each_case
@pytest.mark.parametrize("junk", [float("nan"), float("inf"), 1e300])
def test_junk_in_invalid_places_is_inert(backbone: Backbone, junk: float) -> None:
    results = []
    for fill in (0.0, junk):
        module = module_of(backbone)
        x = batch().masked_fill(~VALID[..., None, None], fill).requires_grad_()
        out = module(x, VALID, {})
        out.square().sum().backward()
        results.append([out.detach(), x.grad, *(parameter.grad for parameter in module.parameters())])
    for clean, dirty in zip(*results, strict=True):
        assert torch.equal(clean, dirty)
    assert (results[1][1][~VALID] == 0).all()


@each_case
def test_a_day_alone_equals_the_day_in_a_batch(backbone: Backbone) -> None:
    x = batch()
    for module in (module_of(backbone), module_of(backbone).train()):
        for part in module.modules():
            if isinstance(part, nn.Dropout):
                part.eval()  # nothing else may differ while training, such as statistics of a batch
        together = module(x, VALID, {})
        for day in range(len(x)):
            assert_close(module(x[day : day + 1], VALID[day : day + 1], {})[0], together[day])


@each_case
def test_it_is_made_for_its_stocks_in_their_order_and_mixes_them(backbone: Backbone) -> None:
    x = batch()
    module = module_of(backbone)
    out = module(x, VALID, {})
    assert backbone.mixes_stocks
    moved = x.clone()
    moved[0, 2] += torch.linspace(0, 1, WINDOW, dtype=x.dtype)[:, None]
    after = module(moved, VALID, {})
    assert (after[0] != out[0]).any(dim=-1).all()
    assert_close(after[1:], out[1:])
    shuffled = module(x.flip(1), VALID.flip(1), {}).flip(1)
    assert not torch.allclose(shuffled[0], out[0])


@each_case
def test_every_day_of_the_window_and_every_feature_is_read(backbone: Backbone) -> None:
    x = batch().requires_grad_()
    module_of(backbone)(x, VALID, {}).square().sum().backward()
    assert x.grad is not None
    assert (x.grad[VALID].abs().amax(dim=0) > 1e-12).all()


@each_case
def test_every_parameter_has_a_gradient(backbone: Backbone) -> None:
    module = module_of(backbone).train()
    module(batch(), VALID, {}).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 1e-10, name  # what cancels leaves rounding alone


@pytest.mark.parametrize("name", [name for name in NAMES if "dropout" in BACKBONES.get(name).model_fields])
def test_dropout_acts_while_training_alone(name: str) -> None:
    module = module_of(BACKBONES.get(name)(dropout=0.5)).train()
    assert not torch.equal(module(batch(), VALID, {}), module(batch(), VALID, {}))
    module.eval()
    assert torch.equal(module(batch(), VALID, {}), module(batch(), VALID, {}))
    module = module_of(BACKBONES.get(name)(dropout=0.0)).train()
    assert torch.equal(module(batch(), VALID, {}), module(batch(), VALID, {}))


@each_case
def test_saved_and_loaded_gives_the_same(backbone: Backbone, tmp_path: Path) -> None:
    x = batch()
    module, other = module_of(backbone), module_of(backbone, seed=1)
    save_checkpoint(tmp_path / "backbone.safetensors", module.state_dict(), {})
    assert not torch.equal(other(x, VALID, {}), module(x, VALID, {}))
    other.load_state_dict(load_checkpoint(tmp_path / "backbone.safetensors", torch.device("cpu"))[0])
    assert torch.equal(other(x, VALID, {}), module(x, VALID, {}))


@each_case
def test_fresh_weights_depend_on_the_seed_alone(backbone: Backbone) -> None:
    one, same, other = (module_of(backbone, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items())


@each_case
def test_a_batch_without_any_stock_gives_zeros_and_no_gradient(backbone: Backbone) -> None:
    module = module_of(backbone)
    out = module(batch(), torch.zeros_like(VALID), {})
    assert (out == 0).all()
    out.sum().backward()
    assert all(parameter.grad is None or (parameter.grad == 0).all() for parameter in module.parameters())


@each_case
@pytest.mark.parametrize("features", [1, 2])
def test_one_stock_is_a_portfolio(backbone: Backbone, features: int) -> None:
    torch.manual_seed(0)
    module = backbone.build(Inputs(features, WINDOW, n_symbols=1)).eval()
    out = module(torch.randn(3, 1, WINDOW, features), torch.ones(3, 1, dtype=torch.bool), {})
    assert out.shape == (3, 1, backbone.width)
    assert out.isfinite().all()


@each_case
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_series_that_never_move_are_finite_with_their_gradients(backbone: Backbone, value: float) -> None:
    module = module_of(backbone).float()
    x = torch.full((1, STOCKS, WINDOW, FEATURES), value, requires_grad=True)
    out = module(x, VALID[:1], {})
    out.sum().backward()
    assert out.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters() if parameter.grad is not None)


@each_name
def test_without_a_number_of_stocks_it_cannot_be_built(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"backbone {name}: expected the number of stocks .* got 0; give"):
        BACKBONES.get(name)().build(Inputs(FEATURES, WINDOW))


@each_name
def test_other_stocks_than_it_was_made_for_are_refused(name: str) -> None:
    module = module_of(BACKBONES.get(name)(), stocks=STOCKS + 1)
    with pytest.raises(DataError, match=r"portfolio of 6 stocks was given 5; give"):
        module(batch(), VALID, {})


PATCHED = [name for name in NAMES if "patch_size" in BACKBONES.get(name).model_fields]


def test_those_with_patches() -> None:
    assert set(PATCHED) == {"crossformer", "deformtime", "p_slstm", "patchtst"}


@pytest.mark.parametrize("name", PATCHED)
def test_a_window_shorter_than_a_patch_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"backbone {name}: expected a window of at least .* got 9; set a longer"):
        BACKBONES.get(name)(patch_size=10).build(Inputs(FEATURES, 9, n_symbols=2))


@pytest.mark.parametrize("name", [name for name in PATCHED if "stride" in BACKBONES.get(name).model_fields])
def test_patches_that_leave_days_out_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"backbone {name}: expected a stride of at most patch_size \(4\), got 5"):
        BACKBONES.get(name)(patch_size=4, stride=5).build(Inputs(FEATURES, WINDOW, n_symbols=2))


@pytest.mark.parametrize("name", [name for name in NAMES if "num_heads" in BACKBONES.get(name).model_fields])
def test_heads_that_do_not_divide_the_hidden_size_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"backbone {name}: .* num_heads \(3\) divides, got 16; change"):
        BACKBONES.get(name)(num_heads=3, hidden_size=16).build(Inputs(FEATURES, WINDOW, n_symbols=2))


@each_name
def test_the_shortest_windows(name: str) -> None:
    """One step where there are no patches, one patch where there are."""
    small = {"patch_size": 1, "stride": 1, "num_layers": 1}
    backbone = BACKBONES.get(name)(
        **{key: value for key, value in small.items() if key in BACKBONES.get(name).model_fields}
    )
    steps = 2 if name == "crossformer" else 1
    torch.manual_seed(0)
    module = backbone.build(Inputs(FEATURES, steps, n_symbols=2)).eval()
    out = module(torch.randn(3, 2, steps, FEATURES), torch.ones(3, 2, dtype=torch.bool), {})
    assert out.shape == (3, 2, backbone.width)
    assert out.isfinite().all()


SMALL: dict[str, dict[str, Any]] = {
    "crossformer": {"patch_size": 4},
    "deformtime": {"patch_size": 4, "stride": 2, "period": 3, "kernel_size": 3},
    "p_slstm": {"patch_size": 4, "stride": 2},
    "patchtst": {"patch_size": 4, "stride": 2},
    "timesnet": {"num_kernels": 2},
}
"""Settings for a window of 16 steps, where the defaults do not serve."""


def persistent(days: int, random: torch.Generator) -> Tensor:
    """[days, 3, 16, 1]: three unrelated series, each step 0.8 times the last and a shock; variance 1."""
    steps = [torch.randn(days, 3, generator=random)]
    for _ in range(15):
        steps.append(0.8 * steps[-1] + 0.6 * torch.randn(days, 3, generator=random))
    return torch.stack(steps, dim=2)[..., None]


@each_name
def test_it_learns_that_one_stock_follows_another(name: str) -> None:
    """Stock j's next value is stock j + 1's last: fresh days every step, and a loss of 1 for who knows nothing."""
    torch.manual_seed(0)
    kind = BACKBONES.get(name)
    plain = {"dropout": 0.0} if "dropout" in kind.model_fields else {}
    module = kind(stock_width=4, **SMALL.get(name, {}), **plain).build(Inputs(1, 16, n_symbols=3))
    head = nn.Linear(4, 1)
    optimizer = torch.optim.Adam([*module.parameters(), *head.parameters()], lr=0.01)
    random = torch.Generator().manual_seed(1)
    everyone = torch.ones(64, 3, dtype=torch.bool)
    losses = []
    while len(losses) < 120 and not sum(losses[-5:]) / 5 < 0.5 * (len(losses) >= 5):
        x = persistent(64, random)
        loss = (head(module(x, everyone, {}))[..., 0] - x[:, [1, 2, 0], -1, 0]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) / 5 < 0.5
