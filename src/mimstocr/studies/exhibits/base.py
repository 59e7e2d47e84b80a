"""The contract of an exhibit: settings that make tables and figures of a study's results."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from mimstocr.components import Component, Registry, component_field

if TYPE_CHECKING:
    from mimstocr.studies.results import Results


@dataclass(frozen=True)
class Entry:
    """One place of a table."""

    text: str
    mark: Literal["", "best", "second"] = ""
    value: float | None = None
    """The number behind the text, for CSV."""
    std: float | None = None
    """Standard deviation over seeds, where the number is a mean over them; NaN for one seed."""
    seeds: int | None = None
    """How many they are."""
    chosen: str | None = None
    """What validation chose: a level, a seed."""


@dataclass(frozen=True)
class Table:
    """A table, ready to be written as text, Markdown, LaTeX, CSV or HTML."""

    name: str
    """For its file: letters, digits and dashes."""
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Entry]]
    labels: int
    """The first columns, which name the row."""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Drawing:
    """A figure: a matplotlib figure and what it shows."""

    name: str
    title: str
    figure: Any
    """A `matplotlib.figure.Figure`."""
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Shows:
    """What an exhibit makes."""

    tables: list[Table] = field(default_factory=list)
    drawings: list[Drawing] = field(default_factory=list)


class Exhibit(Component):
    """Settings that say what to show of a study."""

    complete: ClassVar[str] = ""
    """Where it must name every axis with several levels, or cells would hide one another, such as "neither rows nor
    columns"; empty: nowhere."""
    title: str = ""
    """A line above it; empty: the study's."""

    @abstractmethod
    def axes(self) -> list[str]:
        """The axes of the study that it names."""

    @abstractmethod
    def make(self, results: Results) -> Shows:
        """Its tables and figures; cells without a finished run are shown as missing, never left out silently."""


EXHIBITS: Registry[type[Exhibit]] = Registry("exhibit", "mimstocr.studies.exhibits")

AnyExhibit = Annotated[Exhibit, *component_field(EXHIBITS)]


def is_of_validation(figure: str) -> bool:
    """Whether a figure is of the validation split, such as valid.rank_ic or tasks.position.valid.total."""
    parts = figure.split(".")
    return parts[0] == "valid" or (parts[0] == "tasks" and len(parts) > 2 and parts[2] == "valid")


def of_validation(figure: str) -> str:
    """The figure; ValueError unless it is of the validation split."""
    if not is_of_validation(figure):
        raise ValueError(
            "expected a figure of the validation split, such as valid.rank_ic or tasks.position.valid.total, got "
            f"{figure!r}"
        )
    return figure
