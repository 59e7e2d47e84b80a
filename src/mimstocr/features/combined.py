"""Several feature sets side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, FieldSerializationInfo, field_serializer, model_validator
from torch import Tensor

from mimstocr.data.panel import Panel, few, repeated
from mimstocr.errors import ConfigError
from mimstocr.features.alpha360 import Alpha360
from mimstocr.features.base import FEATURES, AnyFeatures, Features, Fitted, WindowMaker
from mimstocr.features.technical import Technical


@FEATURES.register("combined")
class Combined(Features):
    """Several feature sets as one, over one window: the features of each part, in the order of the parts.

    A name that two parts have is written with its part before it, as technical.return; a second part of the same
    kind is called by its number, as columns2.
    """

    window: Annotated[int, Field(ge=1)] = 60
    """Days a window covers in every part, today included; parts have no window of their own."""
    parts: Annotated[tuple[AnyFeatures, ...], Field(min_length=1)] = (Alpha360(), Technical())
    """The sets, each by its name or with its settings."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        for place, part in enumerate(self.parts):
            if isinstance(part, Combined):
                raise ValueError("parts: a part cannot be 'combined' itself; name its parts here")
            if "window" not in type(part).model_fields:
                raise ValueError(f"parts: {part.kind!r} has no setting window, so it cannot be a part")
            if "window" in part.model_fields_set and getattr(part, "window") != self.window:  # noqa: B009
                raise ValueError(f"parts: {part.kind!r} has a window of its own; set features.window for all instead")
            if part in self.parts[:place]:
                raise ValueError(f"parts: each part once, got {part.kind!r} again with the same settings")
        return self

    @field_serializer("parts")
    def _without_windows(self, parts: tuple[Features, ...], info: FieldSerializationInfo) -> list[dict[str, Any]]:
        """The parts as a config has them: the window is the whole's."""
        mode = "json" if info.mode == "json" else "python"
        return [
            part.model_dump(mode=mode, exclude={"window"}, exclude_defaults=info.exclude_defaults) for part in parts
        ]

    @property
    def reads(self) -> frozenset[str]:
        """What the parts read."""
        return frozenset().union(*(part.reads for part in self.parts))

    def fit(self, panel: Panel, rows: NDArray[np.bool_]) -> FittedParts:
        """Every part fitted. Raises what they raise; ConfigError when a name comes twice for all prefixes."""
        fitted = tuple(part.fit(panel, rows) for part in self._settled())
        counts = Counter(name for part in fitted for name in part.names)
        prefixed = np.array([counts[name] > 1 for part in fitted for name in part.names])
        names = tuple(
            f"{label}.{name}" if counts[name] > 1 else name
            for label, part in zip(self._labels(), fitted, strict=True)
            for name in part.names
        )
        if twice := repeated(names):
            raise ConfigError(f"features.parts: two features are called {few(twice)}; rename the columns of your table")
        return FittedParts(names, self.window, fitted, prefixed, tuple(note for part in fitted for note in part.notes))

    def check_known(self, panel: Panel, day: int) -> None:
        """Raise DataError when a part has nothing to go by."""
        for part in self.parts:
            part.check_known(panel, day)

    def restore(self, names: tuple[str, ...], constants: Mapping[str, NDArray[np.float64]]) -> FittedParts:
        """The fitted features of a checkpoint."""
        prefixed = constants["prefixed"].astype(bool)
        fitted = []
        for place, (label, part) in enumerate(zip(self._labels(), self._settled(), strict=True)):
            own = tuple(
                name.removeprefix(f"{label}.") if with_prefix else name
                for name, with_prefix, of in zip(names, prefixed, constants["part"], strict=True)
                if of == place
            )
            start = f"{place}."
            inner = {key.removeprefix(start): value for key, value in constants.items() if key.startswith(start)}
            fitted.append(part.restore(own, inner))
        return FittedParts(names, self.window, tuple(fitted), prefixed)

    def _settled(self) -> list[Features]:
        return [part.changed(window=self.window) for part in self.parts]

    def _labels(self) -> list[str]:
        """The parts' kinds, the second of a kind with its number."""
        kinds = [part.kind for part in self.parts]
        numbers = [kinds[: place + 1].count(kind) for place, kind in enumerate(kinds)]
        return [kind if number == 1 else f"{kind}{number}" for kind, number in zip(kinds, numbers, strict=True)]


@dataclass(frozen=True)
class FittedParts(Fitted):
    """Fitted sets side by side. prefixed: (features,), whether a name has its part before it."""

    names: tuple[str, ...]
    window: int
    parts: tuple[Fitted, ...]
    prefixed: NDArray[np.bool_]
    notes: tuple[str, ...] = ()

    def constants(self) -> dict[str, NDArray[np.float64]]:
        """Those of part 0 under `0.`, and so on; of each feature its part's number and whether its name is prefixed."""
        inner = {f"{i}.{name}": value for i, part in enumerate(self.parts) for name, value in part.constants().items()}
        of = np.repeat(np.arange(len(self.parts), dtype=np.float64), [len(part.names) for part in self.parts])
        return {**inner, "part": of, "prefixed": self.prefixed.astype(np.float64)}

    def bind(self, panel: Panel, device: torch.device) -> WindowMaker:
        """Windows of `panel` on `device`."""
        return _Windows([part.bind(panel, device) for part in self.parts])


class _Windows(WindowMaker):
    def __init__(self, makers: Sequence[WindowMaker]) -> None:
        self.makers = makers

    def __call__(self, days: Tensor, symbols: Tensor) -> Tensor:
        return torch.cat([maker(days, symbols) for maker in self.makers], dim=-1)
