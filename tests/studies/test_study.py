"""The file of a study, and the grid that comes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mimstocr.catalogue import families
from mimstocr.components import Component
from mimstocr.config import Config, make_config
from mimstocr.errors import ConfigError
from mimstocr.studies.study import Grid, _digest, config_hash, load_study, shipped_studies

FILE = {
    "title": "made",
    "base": "demo",
    "set": {"training.max_epochs": 3, "backbone": "gru"},
    "axes": {
        "method": {"EW": {"balancer": "ew"}, "CQB": {"balancer": {"kind": "cqb", "beta": 0.4}}},
        "rate": {"slow": {"training.learning_rate": 0.1}, "fast": {"training.learning_rate": 0.2}},
    },
    "seeds": [0, 5],
    "show": [{"kind": "table", "rows": ["method"], "columns": ["rate"]}],
    "smoke": {"set": {"training.max_epochs": 1}, "only": {"rate": ["slow"]}},
}


def load(folder: Path, *overrides: str, tiny: bool = False, **changes: object) -> Grid:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**FILE, **changes}, sort_keys=False))
    return load_study(path, overrides, smoke=tiny)


def test_cells_are_all_combinations_in_the_order_of_the_file(tmp_path: Path) -> None:
    grid = load(tmp_path)
    assert grid.name == "mine"
    assert grid.seeds == (0, 5)
    assert [cell.name for cell in grid.cells] == ["EW / slow", "EW / fast", "CQB / slow", "CQB / fast"]
    last = grid.cells[-1].config
    assert (last.balancer.kind, last.balancer.beta) == ("cqb", 0.4)
    assert (last.training.learning_rate, last.training.max_epochs, last.backbone.kind) == (0.2, 3, "gru")


def test_overrides_come_on_top_and_reach_into_what_an_axis_chose(tmp_path: Path) -> None:
    cells = load(tmp_path, "backbone.hidden_size=7", "data.source=csv:x.csv").cells
    assert all(cell.config.backbone.hidden_size == 7 and cell.config.backbone.kind == "gru" for cell in cells)
    assert all(cell.config.data.source == "csv:x.csv" for cell in cells)


def test_the_small_form_keeps_some_levels_and_sets_last(tmp_path: Path) -> None:
    grid = load(tmp_path, tiny=True)
    assert grid.name == "mine-smoke"
    assert [cell.name for cell in grid.cells] == ["EW / slow", "CQB / slow"]
    assert all(cell.config.training.max_epochs == 1 for cell in grid.cells)
    assert all(cell.config.data.source == "sample:us-large" for cell in grid.cells)


def test_a_base_beside_the_study_is_found(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"seeds": [9], "training": {"patience": 77}}))
    assert load(tmp_path, base="own.yaml").cells[0].config.training.patience == 77


def test_a_part_of_the_cells(tmp_path: Path) -> None:
    grid = load(tmp_path)
    assert [cell.name for cell in grid.part({"method": ["CQB"], "rate": ["fast", "slow"]}).cells] == [
        "CQB / slow",
        "CQB / fast",
    ]
    assert grid.part({}, [3]).seeds == (3,)
    for seeds in ([0, 0], [-1]):
        with pytest.raises(ConfigError, match="--seeds: expected seeds of 0 or more, each once"):
            grid.part({}, seeds)
    with pytest.raises(ConfigError, match="study mine-smoke has no cell at these levels"):
        load(tmp_path, tiny=True).part({"rate": ["fast"]})
    with pytest.raises(ConfigError, match="unknown axis 'methods' of study mine; did you mean 'method'"):
        grid.part({"methods": ["EW"]})
    with pytest.raises(ConfigError, match="unknown level 'WE' of axis method; did you mean 'EW'"):
        grid.part({"method": ["WE"]})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"axes": {}}, "axes"),
        ({"axes": {"method": {}}}, "axes.method: expected at least one level"),
        ({"show": [{"kind": "table", "rows": ["methods"]}]}, "show.table: unknown axis 'methods'; did you mean"),
        ({"show": [{"kind": "tabel", "rows": ["method"]}]}, "unknown exhibit 'tabel'; did you mean 'table'"),
        ({"show": [{"kind": "table", "rows": ["method"]}]}, "rate is in neither rows nor columns"),
        ({"smoke": {"only": {"rate": ["slwo"]}}}, r"smoke.only.rate: unknown level 'slwo'; did you mean 'slow'"),
        ({"smoke": {"seeds": [0, 0]}}, "each once"),
        ({"smoke": {"only": {"x": ["y"]}}}, "smoke.only: unknown axis 'x'"),
        ({"choose": {"axis": "x"}}, "choose.axis: unknown axis 'x'"),
        ({"choose": {"axis": "rate", "by": "test.ic"}}, "expected a figure of the validation split"),
        ({"seeds": [1, 1]}, "each once"),
        ({"tittle": "x"}, "unknown setting 'tittle'; did you mean 'title'"),
        ({"set": {"training.max_epoch": 3}}, r"unknown setting .max_epoch.; did you mean .max_epochs."),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, **changes)


def test_a_chosen_axis_cannot_be_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown axis 'rate'"):
        load(tmp_path, choose={"axis": "rate"})


def test_two_cells_that_come_out_alike_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cells 'EW / slow' and 'EW / fast' come out as the same run"):
        load(tmp_path, "training.learning_rate=0.1")


def test_an_unknown_study_names_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match="no study tabel1; write one, or name one that is shipped; did you mean"):
        load_study("tabel1")


# ---- hashes ----------------------------------------------------------------------------------------------------------


def test_the_hash_knows_what_a_result_depends_on_and_nothing_else() -> None:
    base = {"data": {"source": "qlib:one"}}
    plain = config_hash(make_config(base))
    for alike in (
        {"data": {"source": "qlib:other"}},
        {**base, "name": "x", "out": "y", "seeds": [4, 5]},
        {**base, "training": {"device": "cpu", "threads": 2, "checkpoint_seconds": 1, "test_curve": 3}},
        {**base, "balancer": {"kind": "cqb", "beta": 0.5}},  # the default, said
        {"data": {"source": "qlib:one", "concepts": "table.csv"}},  # an LSTM reads no concepts
    ):
        assert config_hash(make_config(alike)) == plain
    for other in (
        {"data": {"source": "csv:one"}},
        {"data": {"source": "qlib:one", "concepts": "table.csv"}, "backbone": "hist"},
        {**base, "balancer": "ew"},
        {**base, "training": {"patience": 3}},
        {**base, "tasks": {"return": {"kind": "return", "delay": 2}, "momentum": {"kind": "momentum_line"}}},
        {**base, "backtest": {"market": {"kind": "flat", "commission": 0.5}}},
    ):
        assert config_hash(make_config(other)) != plain


def test_the_order_of_the_tasks_is_part_of_the_hash() -> None:
    tasks = {"return": {"kind": "return"}, "momentum": {"kind": "momentum_line", "lead": 1}}
    turned = dict(reversed(tasks.items()))
    assert config_hash(make_config({"tasks": tasks})) != config_hash(make_config({"tasks": turned}))


def test_hashes_of_the_ledger_stay_what_they_are() -> None:
    """What a study asks for has kept its name in the ledgers."""
    assert config_hash(Config()) == "aec755f94f"
    cells = {cell.name: config_hash(cell.config) for cell in load_study("table1").cells}
    assert cells["CSI 300 / LSTM / MiM-StocR"] == "b99687daee"
    assert cells["CSI 300 / LSTM / EW"] == "f4ffd744db"


def test_defaults_stay_what_they_are() -> None:
    """A setting at its default is not in the hash: when a default must change, rename what it means."""
    defaults = {
        family: {
            name: part().model_dump(mode="json")
            for name in registry.names()
            if isinstance(part := registry.get(name), type) and issubclass(part, Component) and family != "exhibits"
        }
        for family, registry in families().items()
    }
    assert _digest([defaults, Config().plain()], 8) == "836f35726765c404"


def test_two_sources_are_two_run_folders(tmp_path: Path) -> None:
    folders = {
        load_study("table2", [f"data.source={source}"]).cells[0].run(0, tmp_path).folder
        for source in ("qlib:a", "qlib:b")
    }
    assert len(folders) == 2


def test_alike_cells_of_different_studies_are_one_run(tmp_path: Path) -> None:
    one = {cell.name: cell for cell in load_study("table1").cells}["CSI 300 / LSTM / MiM-StocR"]
    other = {cell.name: cell for cell in load_study("table2").cells}["LSTM / Momentum"]
    assert one.run(3, tmp_path) == other.run(3, tmp_path)
    assert one.run(3, tmp_path).folder != one.run(4, tmp_path).folder
    assert one.run(3, tmp_path).seeds == (3,)


@pytest.mark.parametrize("name", sorted(shipped_studies()))
@pytest.mark.parametrize("smoke", [False, True])
def test_shipped_studies_load_and_agree_with_their_own_text(name: str, smoke: bool) -> None:
    grid = load_study(name, smoke=smoke)
    assert grid.cells
    assert f"mimstocr study {name} " in shipped_studies()[name].read_text()
