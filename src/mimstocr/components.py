"""Settings, components and their registries: the one mechanism behind every family of parts.

A *component* is a frozen settings object that can also do its job: `Lstm(hidden_size=64)` is both the typed
entry in a config file and the thing that builds the module. A *registry* maps a name to a component class. In
a config a component is written as its bare name, or as a mapping with `kind` and its settings:

    backbone: gru
    balancer: {kind: cqb, beta: 0.5}
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from mimstocr.errors import ConfigError

T = TypeVar("T")


def near(name: str, known: Iterable[str]) -> str:
    """Text that names the close matches of `name`, then all that is known."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return f"{hint}known: {', '.join(known) or 'none'}"


class Settings(BaseModel):
    """A frozen group of settings. Unknown keys are errors that name the close match."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping):
            for key in raw:
                if key not in cls.model_fields:
                    raise ValueError(f"unknown setting {key!r}; {near(str(key), cls.model_fields)}")
        return raw


class Component(Settings):
    """A named, registered part: its settings are its fields, its behaviour its methods."""

    kind: ClassVar[str] = ""
    """The name under which the class is registered; set by the registry."""

    def changed(self, **settings: Any) -> Self:
        """The same component with other settings, validated. Raises ConfigError."""
        before = {name: getattr(self, name) for name in type(self).model_fields}
        try:
            return type(self)(**{**before, **settings})
        except ValidationError as error:
            raise readable(error, self.kind) from None

    @model_serializer(mode="wrap")
    def _with_kind(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"kind": self.kind, **handler(self)}


class Registry(Generic[T]):
    """Names to parts of one family.

    The modules of `package` register the built-in parts when they are first needed; third parties add theirs
    by an entry point in the group `mimstocr.<family>` that is named as the part and loads it.

    Raises ValueError when a name is registered twice, ConfigError when a name is not known.
    """

    def __init__(self, family: str, package: str) -> None:
        self.family = family
        self._package = package
        self._parts: dict[str, T] = {}
        self._complete = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorate a class or function to make it known as `name`."""

        def add(part: T) -> T:
            if name in self._parts:
                raise ValueError(f"{self.family} {name!r} is registered already, by {self._parts[name]!r}")
            if isinstance(part, type) and issubclass(part, Component):
                part.kind = name
            self._parts[name] = part
            return part

        return add

    def names(self) -> list[str]:
        """All known names, sorted."""
        self._load()
        return sorted(self._parts)

    def get(self, name: str) -> T:
        """The part called `name`; ConfigError names the close matches on a miss."""
        self._load()
        if name not in self._parts:
            raise ConfigError(f"unknown {self.family} {name!r}; {near(name, self._parts)}")
        return self._parts[name]

    def summary(self, name: str) -> str:
        """The first line of the part's docstring."""
        return (self.get(name).__doc__ or "").strip().partition("\n")[0]

    def parse(self, raw: Any) -> Any:
        """A component from its bare name, from a mapping with `kind`, or itself (a pydantic before-validator)."""
        if isinstance(raw, str):
            raw = {"kind": raw}
        if not isinstance(raw, Mapping):
            return raw
        if "kind" not in raw:
            article = "an" if self.family[0] in "aeiou" else "a"
            raise ValueError(f"{article} {self.family} needs its 'kind'; {near('', self.names())}")
        try:
            part: Any = self.get(str(raw["kind"]))
        except ConfigError as error:
            raise ValueError(str(error)) from None
        try:
            return part(**{key: value for key, value in raw.items() if key != "kind"})
        except ValidationError as error:
            raise ValueError(_text(error, str(raw["kind"]))) from None

    def _load(self) -> None:
        if self._complete:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self._package}.{module.name}")
        for point in entry_points(group=f"mimstocr.{self.family}"):
            self.register(point.name)(point.load())
        self._complete = True


def component_field(registry: Registry[Any]) -> tuple[Any, Any]:
    """The annotations of a settings field that holds one component of `registry`."""
    as_itself: Any = SerializeAsAny  # to a type checker it is an alias that cannot be called
    return BeforeValidator(registry.parse), as_itself()


def readable(error: ValidationError, where: str) -> ConfigError:
    """One line a problem: the path of the setting, what was wrong, what came."""
    return ConfigError(_text(error, where))


def _text(error: ValidationError, where: str) -> str:
    lines = []
    for problem in error.errors():
        path = ".".join(str(part) for part in problem["loc"]) or where
        message = problem["msg"].removeprefix("Value error, ")
        shown = "" if problem["type"] in ("value_error", "missing") else f", got {problem['input']!r}"
        lines.append(f"{path}: {message}{shown}")
    return "\n".join(lines)
