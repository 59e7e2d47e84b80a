"""What the documents show is run."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

import mimstocr
from mimstocr.balancing import BALANCERS
from mimstocr.cli.main import app
from mimstocr.components import Component
from mimstocr.config import Config, load_config
from mimstocr.overrides import apply_overrides
from mimstocr.studies import load_study, shipped_studies

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


def test_the_readme_in_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec("fakestockdata") is None:
        pytest.skip("the demo's prices come with the extra samples")
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(ROOT / "README.md", "python")
    exec(compile(code, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) > 10


def test_the_balancer_in_the_architecture(small: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BALANCERS, "_parts", dict(BALANCERS._parts))
    BALANCERS.names()
    (code,) = blocks(ROOT / "docs/architecture.md", "python")
    exec(compile(code, "architecture.md", "exec"), {})
    part = BALANCERS.get("main_only")
    assert isinstance(part, type)
    assert issubclass(part, Component)
    result = mimstocr.run(small(balancer="main_only", training={"max_epochs": 1, "days_per_step": 8}))
    assert result.finished


def test_the_study_in_the_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = blocks(ROOT / "docs/studies.md", "yaml")
    (tmp_path / "wider.yaml").write_text(text)
    assert [cell.name for cell in load_study(tmp_path / "wider.yaml").cells] == [
        "EW / 64",
        "EW / 128",
        "CQB / 64",
        "CQB / 128",
    ]
    if importlib.util.find_spec("fakestockdata") is None:
        pytest.skip("the small forms use the prices of the extra samples")
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(ROOT / "docs/studies.md", "python")
    exec(compile(code, "studies.md", "exec"), {})
    assert "1 of 1 runs finished" in capsys.readouterr().out


def test_studies_in_the_documents_exist() -> None:
    pages = "".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"mimstocr study ([a-z0-9_-]+)", pages))
    assert named
    assert named <= shipped_studies().keys()
    assert all(f"`{name}`" in pages for name in shipped_studies())


def test_commands_in_the_documents_exist() -> None:
    known = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    named = {
        word for page in PAGES for block in blocks(page, "sh") for word in re.findall(r"^mimstocr (\w+)", block, re.M)
    }
    assert named
    assert named <= known


def test_options_in_the_documents_exist() -> None:
    commands = typer.main.get_command(app).commands
    seen = 0
    for page in PAGES:
        for name, rest in re.findall(r"mimstocr (\w+)([^`\n#]*)", page.read_text()):
            if name not in commands:
                continue
            known = {option for parameter in commands[name].params for option in parameter.opts}
            asked = [word for word in rest.split() if re.fullmatch(r"--?[a-z]+", word)]
            assert set(asked) <= known, f"{page.name}: mimstocr {name}{rest}"
            seen += len(asked)
    assert seen > 8


def test_settings_in_the_documents_exist() -> None:
    """Every key=value on a `mimstocr run` line is a setting."""
    seen = 0
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in re.findall(r"^mimstocr run (.*?)(?:#.*)?$", block, re.M):
                changes = [word for word in line.split() if "=" in word and not word.startswith("--")]
                raw = apply_overrides({}, changes, Config().plain())
                Config(**{**load_config("csi300").plain(), **{k: v for k, v in raw.items() if k != "data"}})
                seen += len(changes)
    assert seen > 5


def test_links_between_documents() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
