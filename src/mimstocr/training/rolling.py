"""Rolling retraining: the periods for which a trained model is trained on, the days of each, and where its weights lie.

The model of a period is trained before the period's first day, on days whose labels are known by the close of the day
before that. It predicts the days of its period.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from mimstocr.components import Settings
from mimstocr.data.panel import Days
from mimstocr.errors import RunError
from mimstocr.training.checkpoint import load_checkpoint

FOLDER = "rolling"
"""In a seed's folder of checkpoints: the weights of every period, and `last` to go on from."""
LAST = "last.safetensors"
MONDAY = np.datetime64("1970-01-05", "D")


class Rolling(Settings):
    """After its training the model goes on through the test days and all after them, period by period.

    Before each period it is trained for some epochs, from the weights of the period before (the first: of the best
    epoch), on all days from the first training day on whose labels are known by then: of the training and validation
    splits and past test days. The optimiser goes on too. No figure chooses anything. The statistics of the features
    stay those of the training split, so that the inputs mean what they meant to the weights.
    """

    every: Literal["week", "month"] = "month"
    """Calendar periods: weeks begin on Mondays. The first begins on the first test day."""
    epochs: Annotated[int, Field(ge=1)] = 1
    """Epochs a period."""
    train_days: Annotated[int, Field(ge=1)] | None = None
    """Only the last so many of these days; none: all of them."""
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Adam's step size; none: that of the run, of the joint phase where there is a curriculum."""


class Period(NamedTuple):
    """Some consecutive days that one state of the model predicts; places among the days of the panel."""

    first: int
    stop: int
    """The day after its last."""
    train: list[int]
    """The days that it is trained on before, each known by the close of the day before `first`."""


def periods_of(
    rolling: Rolling, days: Days, start: int, known: NDArray[np.int64], ends: NDArray[np.int64]
) -> list[Period]:
    """The periods of the days from place `start` on.

    days: (days,) increasing. known: places of the days with a label, increasing. ends: (days,) the place of the day on
    which the last label of each day is known, beyond the last where the data do not have it.
    """
    numbers = calendar_periods(rolling.every, days)
    cuts = [start, *(np.flatnonzero(np.diff(numbers[start:])) + start + 1).tolist(), len(days)]
    found = []
    for first, stop in itertools.pairwise(cuts):
        past = known[ends[known] < first]
        if rolling.train_days is not None:
            past = past[-rolling.train_days :]
        found.append(Period(first, stop, past.tolist()))
    return found


def calendar_periods(every: str, days: Days) -> NDArray[np.int64]:
    """(days,) the number of the calendar week or month of each day, or of the day of each bar."""
    dates = days.astype("datetime64[D]")
    if every == "month":
        return dates.astype("datetime64[M]").astype(np.int64)
    return (dates - MONDAY).astype(np.int64) // 7


def period_file(checkpoints: Path, first: str) -> Path:
    """Where the weights of the period lie whose first day is `first`, YYYY-MM-DD."""
    return checkpoints / FOLDER / f"{first}.safetensors"


def weights_of(checkpoints: Path, days: Days) -> list[Path]:
    """The file of the weights that predict each day: of its period, after the last period those of the last.

    Before the first period: the best of the training. Raises RunError when the periods are not all trained.
    """
    files = _finished(checkpoints)
    starts = np.array([path.stem for path in files], dtype="datetime64[D]")
    places = np.searchsorted(starts, days.astype("datetime64[D]"), side="right") - 1
    return [checkpoints / "best.safetensors" if place < 0 else files[place] for place in places.tolist()]


def outdated(checkpoints: Path, rolling: Rolling, day: np.datetime64) -> str | None:
    """A note on a day in a later week or month than the last that was trained for; none: it is in none."""
    last = _finished(checkpoints)[-1]
    asked = np.array([last.stem, str(day)[:10]], dtype="datetime64[D]")
    before, now = calendar_periods(rolling.every, asked)
    if now <= before:
        return None
    _, header = load_checkpoint(last, torch.device("cpu"))
    return (
        f"the last rolling model, of the {rolling.every} from {last.stem}, was trained on days up to "
        f"{header['period']['until']}; {str(day)[:10]} is in a later {rolling.every}. A new run on the longer data "
        "trains for it"
    )


def _finished(checkpoints: Path) -> Sequence[Path]:
    """The files of all periods, in their order."""
    _, header = load_checkpoint(checkpoints / FOLDER / LAST, torch.device("cpu"))
    if not header["finished"]:
        raise RunError(
            f"{checkpoints / FOLDER} has not the models of all periods yet; go on with `mimstocr run --resume`"
        )
    return sorted(path for path in (checkpoints / FOLDER).glob("*.safetensors") if path.name != LAST)
