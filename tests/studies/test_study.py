"""The file of a study, and the grid that comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mimstocr.catalogue import families
from mimstocr.components import Component
from mimstocr.config import Config, load_config, make_config
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
    assert _digest([defaults, Config().plain()], 8) == "ed8a725e39d25c7c"


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


# ---- cells beside ----------------------------------------------------------------------------------------------------

SPEEDS = ("slow", "fast")
BESIDE: dict[str, Any] = {
    "axes": {
        "year": {"one": {"training.patience": 1}, "two": {"training.patience": 2}},
        "method": {"EW": {"balancer": "ew"}, "CQB": {"balancer": "cqb"}},
        "rate": {"slow": {"training.learning_rate": 0.1}, "fast": {"training.learning_rate": 0.2}},
    },
    "show": [{"kind": "table", "rows": ["year", "method", "rate"]}],
    "beside": [
        {"axis": "method", "across": ["year"], "levels": {"top": {"backtest.strategy": {"kind": "top_k", "k": 3}}}},
        {"axis": "method", "levels": {"held": {"backtest.strategy": "buy_and_hold"}}},
    ],
    "smoke": {},
}


def test_cells_beside_are_crossed_with_the_axes_they_name_alone(tmp_path: Path) -> None:
    grid = load(tmp_path, **BESIDE)
    crossed = [f"{year} / {method} / {rate}" for year in ("one", "two") for method in ("EW", "CQB") for rate in SPEEDS]
    assert [cell.name for cell in grid.cells] == [*crossed, "one / top", "two / top", "held"]
    assert grid.names == {cell.name for cell in grid.cells}
    assert grid.cells[9].levels == {"year": "two", "method": "top", "rate": "-"}
    assert grid.cells[10].levels == {"year": "-", "method": "held", "rate": "-"}
    top, held = grid.cells[9].config, grid.cells[10].config
    assert (top.training.patience, top.backtest.strategy.kind, top.backtest.strategy.k) == (2, "top_k", 3)
    assert top.training.learning_rate == held.training.learning_rate == load_config("demo").training.learning_rate
    assert held.backtest.strategy.kind == "buy_and_hold"
    assert held.backbone.kind == top.backbone.kind == "gru"  # what the study sets for all


def test_overrides_come_on_top_of_cells_beside_too(tmp_path: Path) -> None:
    assert all(cell.config.training.max_epochs == 9 for cell in load(tmp_path, "training.max_epochs=9", **BESIDE).cells)
    levels = {"top": {"backtest.strategy": "top_k"}, "best": {"backtest.strategy": {"kind": "top_k", "k": 3}}}
    beside = [{"axis": "method", "levels": levels}]
    assert len(load(tmp_path, **{**BESIDE, "beside": beside}).cells) == 10
    with pytest.raises(ConfigError, match="cells 'top' and 'best' come out as the same run"):
        load(tmp_path, "backtest.strategy.k=7", **{**BESIDE, "beside": beside})


def test_crossed_cells_are_the_same_runs_with_and_without_cells_beside(tmp_path: Path) -> None:
    plain = load(tmp_path, **{**BESIDE, "beside": []}).cells
    assert [cell.run(1, tmp_path) for cell in load(tmp_path, **BESIDE).cells[:8]] == [
        cell.run(1, tmp_path) for cell in plain
    ]


def test_a_part_keeps_the_cells_that_have_no_level_of_its_axes(tmp_path: Path) -> None:
    grid = load(tmp_path, **BESIDE)

    def part(**only: list[str]) -> list[str]:
        return [cell.name for cell in grid.part(only).cells]

    assert part(rate=["slow"], year=["one"]) == ["one / EW / slow", "one / CQB / slow", "one / top", "held"]
    assert part(method=["top"]) == ["one / top", "two / top"]
    assert part(method=["EW"], rate=["fast"]) == ["one / EW / fast", "two / EW / fast"]
    with pytest.raises(ConfigError, match="unknown level 'topp' of axis method; did you mean 'top'"):
        grid.part({"method": ["topp"]})
    with pytest.raises(ConfigError, match="unknown level '-' of axis rate"):
        grid.part({"rate": ["-"]})


def test_the_small_form_of_cells_beside(tmp_path: Path) -> None:
    smoke = {
        "set": {"training.max_epochs": 1},
        "at": {
            "method": {"top": {"training.max_epochs": 2, "backtest.strategy.k": 4}},
            "rate": {"slow": {"seeds": [3]}},
        },
        "only": {"year": ["one"], "method": ["EW", "top"], "rate": ["slow"]},
    }
    grid = load(tmp_path, tiny=True, **{**BESIDE, "smoke": smoke})
    assert [cell.name for cell in grid.cells] == ["one / EW / slow", "one / top"]
    few, top = (cell.config for cell in grid.cells)
    assert (few.training.max_epochs, few.seeds) == (1, (3,))
    assert (top.training.max_epochs, top.backtest.strategy.k, top.seeds) == (2, 4, (0,))
    assert "method top: backtest.strategy.k=4" in grid.on_top
    everywhere = load(tmp_path, "training.max_epochs=7", tiny=True, **{**BESIDE, "smoke": smoke})
    assert {cell.config.training.max_epochs for cell in everywhere.cells} == {7}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"axis": "methods"}, r"beside.axis: unknown axis 'methods'; did you mean 'method'"),
        ({"across": ["years"]}, r"beside.across: unknown axis 'years'; did you mean 'year'"),
        ({"across": ["method"]}, "beside.across: they stand among the levels of method"),
        ({"levels": {}}, "beside.0.levels"),
        ({"levels": {"EW": {}}}, "beside.levels: method has a level 'EW' already"),
        ({"levels": {"held": {}}}, "beside.levels: method has a level 'held' already"),
        ({"levels": {"-": {}}}, "beside.levels: method has a level '-' already"),
        ({"acros": []}, "unknown setting 'acros'"),
    ],
)
def test_a_mistake_beside_is_named(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    first, second = BESIDE["beside"]
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, **{**BESIDE, "beside": [{**first, **changes}, second]})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"smoke": {"at": {"methods": {}}}}, "smoke.at: unknown axis 'methods'"),
        ({"smoke": {"at": {"method": {"topp": {}}}}}, "smoke.at.method: unknown level 'topp'; did you mean 'top'"),
        ({"smoke": {"only": {"method": ["topp"]}}}, "smoke.only.method: unknown level 'topp'; did you mean 'top'"),
        ({"show": [{"kind": "table", "rows": ["year", "rate"]}]}, "method is in neither rows nor columns"),
        ({"axes": {**BESIDE["axes"], "rate": {"-": {}, "fast": {}}}}, "axes.rate: a level cannot be called '-'"),
        (
            {"choose": {"axis": "method"}, "show": [{"kind": "table", "rows": ["year", "rate"]}]},
            "beside.axis: validation chooses the level of method",
        ),
        (
            {
                "beside": [
                    *BESIDE["beside"],
                    {"axis": "rate", "across": ["year"], "levels": {"top": {"backbone": "mlp"}}},
                ]
            },
            "two cells would be called one / top, two / top",
        ),
    ],
)
def test_a_mistake_around_cells_beside_is_named(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(tmp_path, **{**BESIDE, **changes})


def test_one_level_that_is_crossed_and_one_beside_are_two(tmp_path: Path) -> None:
    axes = {**BESIDE["axes"], "method": {"EW": {"balancer": "ew"}}}
    with pytest.raises(ConfigError, match="method is in neither rows nor columns"):
        load(tmp_path, **{**BESIDE, "axes": axes, "show": [{"kind": "table", "rows": ["year", "rate"]}]})


def test_an_agent_names_its_run(tmp_path: Path) -> None:
    cells = {cell.name: cell for cell in load_study("significance").cells}
    assert cells["2018 / SAC"].run(1, tmp_path).name.startswith("sac-")
    assert cells["2018 / DLinear / Hold"].run(1, tmp_path).name.startswith("dlinear-stl-")


def test_studies_of_positions_share_their_runs(tmp_path: Path) -> None:
    def runs(study: str) -> dict[str, str]:
        return {cell.run(0, tmp_path).name: cell.name for cell in load_study(study).cells}

    whole = runs("table3_years")
    assert runs("significance").keys() <= whole.keys()
    smooth = {run for run, name in runs("table1_smoothing").items() if name.endswith("/ smooth")}
    assert len(smooth) == 4 * 4 * 2
    assert smooth <= whole.keys()
