"""Studies whose results are made up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from mimstocr.studies.results import Result, Results
from mimstocr.studies.study import load_study

Made = Callable[..., Results]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Results of cells (method x rate): figures by (cell, seed), missing where there are none."""

    def make(figures: Mapping[tuple[str, int], Mapping[str, float]], **changes: Any) -> Results:
        raw = {
            "title": "made",
            "base": "demo",
            "axes": {
                "method": {"EW": {"balancer": "ew"}, "CQB": {"balancer": "cqb"}, "STL": {"balancer": "stl"}},
                "rate": {"slow": {"training.learning_rate": 0.1}, "fast": {"training.learning_rate": 0.2}},
            },
            "seeds": [0, 1],
            "show": [{"kind": "table", "rows": ["method"], "columns": ["rate"], "metrics": {"IC": "test.ic"}}],
            **changes,
        }
        if "axes" in changes and "show" not in changes:
            raw["show"] = [{"kind": "table", "rows": list(changes["axes"])}]
        path = tmp_path / "made.yaml"
        path.write_text(yaml.safe_dump(raw, sort_keys=False))
        grid = load_study(path)
        runs = []
        for cell in grid.cells:
            for seed in grid.seeds:
                found = figures.get((cell.name, seed))
                runs.append(Result(cell, seed, "finished" if found else "missing", found or {}, None))
        return Results(grid, runs)

    return make
