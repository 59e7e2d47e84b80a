"""Who is told how a discovery goes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from mimstocr.config import Config
from mimstocr.studies.runner import Silent, StudyWatcher
from mimstocr.training.loop import Watcher
from mimstocr.workflow import Quiet


class DiscoveryWatcher(Protocol):
    """Is told how a discovery goes, and lends watchers for its parts."""

    def say(self, text: str) -> None:
        """One line."""

    def training(self, config: Config) -> AbstractContextManager[Watcher]:
        """Who watches the training on which affinity is measured."""

    def trials(self, name: str) -> AbstractContextManager[StudyWatcher]:
        """Who watches the runs of one round of forward selection."""


class Unwatched:
    """Says nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""

    def training(self, config: Config) -> AbstractContextManager[Watcher]:  # noqa: ARG002
        """One that says nothing."""
        return nullcontext(Quiet())

    def trials(self, name: str) -> AbstractContextManager[StudyWatcher]:  # noqa: ARG002
        """One that says nothing."""
        return nullcontext(Silent())
