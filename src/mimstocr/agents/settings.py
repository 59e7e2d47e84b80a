"""The settings of the environment in which agents live."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from mimstocr.components import Settings


class EnvironmentSettings(Settings):
    """What an agent sees and what it is paid; the market, capital and delay are the backtest's, Hold is the task's."""

    window: PositiveInt = 1
    """Days of features that are seen, the day itself last; at most those of the features. 1 is what FinRL's state has,
    today's values; what the features do not carry themselves, such as past prices, is then not seen."""
    reward: Literal["log", "simple"] = "log"
    """What a day pays: log(1 + r) or r, with r the net return of the account. Logs add up to the growth of wealth."""
    reward_scale: Annotated[float, Field(gt=0)] = 100.0
    """Factor of the reward. 100 makes it percent: about 1 in size, for which the default rates of the critics and SAC's
    entropy are made; with 1 the critics learn from numbers near 0.01."""
    episode: PositiveInt | None = None
    """Days of a training episode, which starts on a day drawn at random; none: the whole split."""
    clip: Annotated[float, Field(gt=0)] = 10.0
    """Observations are cut to [-clip, clip], which gives their space its bounds. Features are within 3 by default; how
    many values were cut is counted."""
