"""Addresses: which source reads which kind of place."""

from __future__ import annotations

from typing import Protocol

from mimstocr.components import Registry, near
from mimstocr.data.concepts import add_concepts, read_concepts
from mimstocr.data.panel import Panel
from mimstocr.data.settings import DataSettings
from mimstocr.errors import DataError


class Source(Protocol):
    """Reads the place of an address and gives a Panel that passed the door."""

    def __call__(self, place: str, settings: DataSettings) -> Panel:
        """place: what follows the colon. Raises a MimstocrError that says what to mend."""


SOURCES: Registry[Source] = Registry("source", "mimstocr.data.source")


def load_panel(settings: DataSettings) -> Panel:
    """The Panel at `settings.source`.

    With its concepts, where `settings.concepts` names a table. Raises DataError when the address has no scheme, or
    the source or the table is refused; ConfigError on an unknown scheme.
    """
    scheme, colon, place = settings.source.partition(":")
    if not colon or not place:
        raise DataError(
            f"expected an address scheme:place, got {settings.source!r}; "
            f"for a folder in Qlib's format write qlib:{settings.source}; {near(scheme, SOURCES.names())}"
        )
    panel = SOURCES.get(scheme)(place, settings)
    if settings.concepts is None:
        return panel
    return add_concepts(panel, read_concepts(settings.concepts.expanduser()), f"concept table {settings.concepts}")
