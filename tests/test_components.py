"""Settings, components and registries."""

import sys
from importlib.metadata import EntryPoint
from typing import Annotated, Any

import pytest
from pydantic import ValidationError

import mimstocr.components as components
from mimstocr.components import Component, Registry, Settings, component_field, near, readable
from mimstocr.errors import ConfigError


class Fruit(Component):
    """What grows."""


class Apple(Fruit):
    """Round.

    More than one line.
    """

    weight: float = 150.0


class Banana(Fruit):
    bend: int = 1


@pytest.fixture
def fruits(tmp_path, monkeypatch) -> Registry[type[Fruit]]:
    """A registry whose built-in package is empty."""
    name = f"orchard_{tmp_path.name.replace('-', '_')}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield Registry("fruit", name)
    sys.modules.pop(name, None)


def basket(registry: Registry[type[Fruit]]) -> type[Settings]:
    class Basket(Settings):
        fruit: Annotated[Fruit, *component_field(registry)]

    return Basket


def test_near_names_close_matches_then_all():
    assert near("lstn", ["gru", "lstm"]) == "did you mean 'lstm'? known: gru, lstm"
    assert near("xyz", ["gru", "lstm"]) == "known: gru, lstm"
    assert near("xyz", []) == "known: none"


def test_unknown_setting_is_refused_with_the_close_match():
    with pytest.raises(ValidationError) as caught:
        Apple(wieght=3)
    assert (
        str(readable(caught.value, "apple")) == "apple: unknown setting 'wieght'; did you mean 'weight'? known: weight"
    )


def test_settings_cannot_be_changed_and_take_no_infinity():
    with pytest.raises(ValidationError, match="frozen"):
        Apple().weight = 1.0
    with pytest.raises(ValidationError, match="finite"):
        Apple(weight=float("inf"))


def test_readable_gives_one_line_a_problem_with_its_path():
    class Inner(Settings):
        depth: int = 1

    class Outer(Settings):
        inner: Inner
        name: str

    with pytest.raises(ValidationError) as caught:
        Outer(inner={"depth": "deep"})
    lines = str(readable(caught.value, "outer")).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("inner.depth: ")
    assert lines[0].endswith("got 'deep'")
    assert lines[1] == "name: Field required"


def test_a_component_parses_from_name_mapping_and_itself(fruits):
    fruits.register("apple")(Apple)
    holder = basket(fruits)
    assert holder(fruit="apple").fruit == Apple()
    assert holder(fruit={"kind": "apple", "weight": 90}).fruit == Apple(weight=90)
    assert holder(fruit=Apple(weight=80)).fruit.weight == 80


def test_a_component_survives_the_way_through_a_config_file(fruits):
    fruits.register("apple")(Apple)
    fruits.register("banana")(Banana)
    holder = basket(fruits)
    for part in (Apple(weight=120.5), Banana(bend=3)):
        written = holder(fruit=part).model_dump(mode="json")
        assert written["fruit"]["kind"] == part.kind
        assert holder(**written).fruit == part


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("aple", "unknown fruit 'aple'; did you mean 'apple'? known: apple"),
        ({"weight": 3}, "a fruit needs its 'kind'"),
        ({"kind": "apple", "wieght": 3}, "unknown setting 'wieght'; did you mean 'weight'?"),
        ({"kind": "apple", "weight": "heavy"}, "weight: "),
    ],
)
def test_a_bad_component_is_one_clear_error(fruits, raw, said):
    fruits.register("apple")(Apple)
    with pytest.raises(ValidationError) as caught:
        basket(fruits)(fruit=raw)
    assert said in str(readable(caught.value, "basket"))


def test_a_name_is_refused_twice(fruits):
    fruits.register("apple")(Apple)
    with pytest.raises(ValueError, match="fruit 'apple' is registered already"):
        fruits.register("apple")(Banana)
    assert fruits.get("apple") is Apple


def test_names_are_sorted_and_a_miss_names_close_matches(fruits):
    fruits.register("banana")(Banana)
    fruits.register("apple")(Apple)
    assert fruits.names() == ["apple", "banana"]
    assert fruits.summary("apple") == "Round."
    with pytest.raises(ConfigError, match="unknown fruit 'bananna'; did you mean 'banana'"):
        fruits.get("bananna")


def test_modules_of_the_package_register_when_first_needed(tmp_path, monkeypatch):
    package = tmp_path / "grove"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from mimstocr.components import Registry\nTREES = Registry('tree', 'grove')\n"
    )
    (package / "oak.py").write_text("from grove import TREES\n@TREES.register('oak')\ndef oak():\n    'Old.'\n")
    monkeypatch.syspath_prepend(tmp_path)
    grove = __import__("grove")
    assert "grove.oak" not in sys.modules
    assert grove.TREES.names() == ["oak"]
    assert grove.TREES.summary("oak") == "Old."
    for module in ("grove", "grove.oak"):
        monkeypatch.delitem(sys.modules, module)


def test_third_parties_add_parts_by_entry_point(fruits, tmp_path, monkeypatch):
    (tmp_path / "cherry_plugin.py").write_text(
        "from mimstocr.components import Component\nclass Cherry(Component):\n    'Small.'\n"
    )
    point = EntryPoint("cherry", "cherry_plugin:Cherry", "mimstocr.fruit")

    def points(group: str) -> list[Any]:
        return [point] if group == point.group else []

    monkeypatch.setattr(components, "entry_points", points)
    assert fruits.names() == ["cherry"]
    assert fruits.get("cherry").kind == "cherry"
    monkeypatch.delitem(sys.modules, "cherry_plugin")
