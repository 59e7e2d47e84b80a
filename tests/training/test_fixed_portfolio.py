"""Training and prediction with a backbone that is made for the stocks of one panel."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from mimstocr.backbones import BACKBONES, Inputs
from mimstocr.config import Config
from mimstocr.data.facts import Fact
from mimstocr.data.panel import Panel, symbols_of
from mimstocr.discovery.affinity import measure
from mimstocr.errors import DataError
from mimstocr.features import WindowMaker
from mimstocr.live import recommend
from mimstocr.sharing import SHARINGS
from mimstocr.training.batches import DayBatches, check_portfolio
from mimstocr.training.checkpoint import load_checkpoint
from mimstocr.training.model import seeded_model
from mimstocr.training.prepare import prepare
from mimstocr.workflow import fresh_model, run

CPU = torch.device("cpu")
FIXED = [name for name in BACKBONES.names() if BACKBONES.get(name).fixed_portfolio]


class Numbered(WindowMaker):
    """The window of a symbol on a day is 100 day + symbol."""

    def __call__(self, days: Tensor, symbols: Tensor) -> Tensor:
        return (100.0 * days[:, None] + symbols)[..., None, None]


def test_a_fixed_batch_has_every_symbol_every_day_in_the_order_of_the_panel() -> None:
    rows = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 0]], dtype=bool)
    target = np.where(rows, np.arange(12).reshape(3, 4), np.nan).astype(np.float32)
    facts = {"size": Fact(np.arange(12.0).reshape(3, 4), daily=True), "group": Fact(np.arange(4) * 2, daily=False)}
    batches = DayBatches(Numbered(), rows, {"return": target}, CPU, facts, fixed=True)
    for days in ([2, 0], [1], [0, 1, 2]):
        batch = batches(days)
        assert batch.days == days
        assert batch.symbols.tolist() == [[0, 1, 2, 3]] * len(days)
        assert np.array_equal(batch.valid.numpy(), rows[days])
        assert batch.x[..., 0, 0].tolist() == [[100 * day + symbol for symbol in range(4)] for day in days]
        assert np.array_equal(batch.targets["return"].numpy(), target[days], equal_nan=True)
        assert batch.facts["size"].tolist() == facts["size"].values[days].tolist()
        assert batch.facts["group"].tolist() == [[0, 2, 4, 6]] * len(days)
    assert [batches.size(day) for day in range(3)] == [4, 4, 4]
    loose = DayBatches(Numbered(), rows, {}, CPU)
    assert [loose.size(day) for day in range(3)] == [2, 0, 3]
    assert loose([0]).symbols.tolist() == [[0, 2]]


def test_a_portfolio_of_other_symbols_is_refused_by_name(small: Callable[..., Config]) -> None:
    panel: Panel = prepare(small()).panel
    names = symbols_of(panel)
    check_portfolio([], panel)
    check_portfolio(names, panel)
    with pytest.raises(DataError, match=r"of 13 symbols, but those of the data differ: GONE missing\. Give it"):
        check_portfolio([*names, "GONE"], panel)
    with pytest.raises(DataError, match=r"differ: GONE missing; S03, S07 new\. Give it"):
        check_portfolio([*(name for name in names if name not in ("S03", "S07")), "GONE"], panel)
    with pytest.raises(DataError, match=r"differ: their order is another\. Give it"):
        check_portfolio(names[::-1], panel)


def test_a_run_predicts_for_the_symbols_it_was_trained_on_alone(
    small: Callable[..., Config], prices: Path, tmp_path: Path
) -> None:
    config = small(backbone={"kind": "dlinear", "kernel_size": 3}, balancer="ew", training={"max_epochs": 1})
    folder = run(config).folder
    _, header = load_checkpoint(folder.checkpoints(0) / "best.safetensors", CPU)
    assert header["portfolio"] == [f"S{i:02d}" for i in range(12)]
    scores = folder.read_frame("predictions.parquet")["score"]
    assert scores.is_finite().all()
    assert scores.n_unique() > 100
    assert recommend(folder.path).height == 12
    fewer = tmp_path / "fewer.parquet"
    pl.read_parquet(prices).filter(pl.col("symbol") != "S05").write_parquet(fewer)
    with pytest.raises(DataError, match=r"portfolio of 12 symbols, but those of the data differ: S05 missing"):
        recommend(folder.path, source=f"parquet:{fewer}")


@pytest.mark.parametrize("sharing", SHARINGS.names())
@pytest.mark.parametrize("backbone", FIXED)
def test_the_embedding_of_asset_classes_reaches_every_structure(backbone: str, sharing: str) -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 30, 3, generator=random)
    valid = torch.tensor([[True] * 4, [True, True, True, False]])
    facts = {"asset_class": torch.tensor([[0, 0, 1, 2], [0, 0, 1, 2]])}
    inputs = Inputs(3, 30, n_classes=3, n_symbols=4)
    tasks = Config().learned()
    model = seeded_model(0, BACKBONES.get(backbone)(), SHARINGS.get(sharing)(), tasks, inputs).eval()
    outputs = model(x, valid, facts)
    torch.stack([output[valid].square().sum() for output in outputs.values()]).sum().backward()
    classes = model.shared.get_parameter("classes.weight")
    assert classes.grad is not None
    assert (classes.grad.abs().sum(dim=1) > 0).all()
    with torch.no_grad():
        classes[1] += 1.0
        moved = model(x, valid, facts)
    assert all(not torch.equal(moved[name][valid], output[valid]) for name, output in outputs.items())


@pytest.mark.parametrize("backbone", [{"kind": "dlinear"}, {"kind": "timesnet", "num_kernels": 1, "dropout": 0.0}])
def test_the_affinity_of_tasks_can_be_measured(small: Callable[..., Config], backbone: dict[str, object]) -> None:
    prepared = prepare(small(backbone=backbone))
    model = fresh_model(prepared, 0)
    cosines, _ = measure(model, prepared.learned, prepared.batches, prepared.valid_days[:2], 0.1)
    assert np.isfinite(cosines).all()
    np.testing.assert_allclose(cosines[:, [0, 1], [0, 1]], 1, rtol=1e-12)


def test_a_checkpoint_of_any_other_backbone_carries_no_symbols(small: Callable[..., Config]) -> None:
    assert prepare(small()).portfolio == []
    prepared = prepare(small(backbone="dlinear"))
    assert prepared.portfolio == symbols_of(prepared.panel)
    assert prepared.batches([5]).symbols.shape == (1, 12)
    (note,) = [note for note in prepared.notes if note.startswith("dlinear")]
    absent = 100 * (1 - prepared.rows[prepared.train_days].mean())
    assert 0 < absent < 5
    assert "made for the 12 symbols of the data; it reads zeros for those that" in note
    assert f"cross-section, {absent:.1f}% of all on the training days" in note
    assert not any("reads zeros" in note for note in prepare(small()).notes)
