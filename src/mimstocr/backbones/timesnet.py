"""TimesNet: one-dimensional time folded by its own periods into two dimensions, and convolutions there."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from mimstocr.backbones._forecast import CircularConv, Normalised, positions
from mimstocr.backbones._portfolio import Forecaster
from mimstocr.backbones.base import BACKBONES


def main_periods(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The periods [D, k] of the k strongest frequencies of each day of [D, T, H], and their amplitudes [D, k].

    The amplitude is the mean over H of the Fourier coefficient's size; a period is T // frequency. Frequency 0, the
    mean, does not count; k is cut to the frequencies that there are.
    """
    amplitude = torch.fft.rfft(x, dim=1).abs().mean(-1)[:, 1:]
    strongest = amplitude.topk(min(k, amplitude.shape[1]), dim=1)
    return x.shape[1] // (strongest.indices + 1), strongest.values


class Inception(nn.Module):
    """The mean of two-dimensional convolutions of sizes 1, 3, 5, ..., each with its own weights.

    The mean of convolutions is the convolution by the mean of their kernels, each with zeros around it, so that it
    runs once.
    """

    def __init__(self, n_inputs: int, n_outputs: int, n_kernels: int) -> None:
        super().__init__()
        self.kernels = nn.ParameterList([torch.empty(n_outputs, n_inputs, s, s) for s in range(1, 2 * n_kernels, 2)])
        self.bias = nn.Parameter(torch.zeros(n_outputs))
        for kernel in self.kernels:
            nn.init.kaiming_normal_(kernel, mode="fan_out", nonlinearity="relu")  # the released code's

    def forward(self, x: Tensor) -> Tensor:
        """[M, n_inputs, rows, columns] to [M, n_outputs, rows, columns]."""
        most = len(self.kernels) - 1
        padded = [functional.pad(kernel, [most - i] * 4) for i, kernel in enumerate(self.kernels)]
        return functional.conv2d(x, torch.stack(padded).mean(0), self.bias, padding=most)


class TimesBlock(nn.Module):
    """Folds by the main periods of each day, convolves, unfolds, and adds up by amplitude."""

    def __init__(self, hidden: int, inner: int, n_kernels: int, top_k: int) -> None:
        super().__init__()
        self.convolve = nn.Sequential(
            Inception(hidden, inner, n_kernels), nn.GELU(), Inception(inner, hidden, n_kernels)
        )
        self.top_k = top_k

    def forward(self, x: Tensor) -> Tensor:
        """[D, T, H] to [D, T, H]."""
        periods, amplitudes = main_periods(x, self.top_k)
        listed = periods.flatten().tolist()
        order = sorted(range(len(listed)), key=listed.__getitem__)  # those of equal period lie side by side
        parts = []
        for period, places in groupby(order, listed.__getitem__):
            parts.append(self._folded(x[[place // periods.shape[1] for place in places]], period))
        back = torch.tensor(order, device=x.device).argsort()
        seen = torch.unflatten(torch.cat(parts)[back], 0, periods.shape)  # D, k, T, H
        return (amplitudes.softmax(1)[..., None, None] * seen).sum(1) + x

    def _folded(self, x: Tensor, period: int) -> Tensor:
        """[M, T, H] in rows of one period, with zeros after the end, convolved: [M, T, H]."""
        length = x.shape[1]
        padded = functional.pad(x, [0, 0, 0, -length % period])
        folded = torch.unflatten(padded, 1, (-1, period)).permute(0, 3, 1, 2)  # M, H, periods, period
        out: Tensor = self.convolve(folded).flatten(2).transpose(1, 2)[:, :length]
        return out


class TimesNetModule(nn.Module):
    """Embedding of all series, a linear map of time to the window and its horizon, blocks, and a map to the series."""

    def __init__(
        self, n_series: int, window: int, horizon: int, blocks: list[TimesBlock], hidden: int, p: float
    ) -> None:
        super().__init__()
        self.embed = CircularConv(n_series, hidden)
        self.register_buffer("place", positions(window, hidden), persistent=False)
        self.dropout = nn.Dropout(p)
        self.extend = nn.Linear(window, window + horizon)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, n_series)
        self.horizon = horizon

    def forward(self, x: Tensor) -> Tensor:
        """[D, L, C] to [D, horizon, C]."""
        state = self.dropout(self.embed(x) + self.place)
        state = self.extend(state.transpose(1, 2)).transpose(1, 2)  # D, L + horizon, H
        for block in self.blocks:
            state = self.norm(block(state))
        forecast: Tensor = self.head(state[:, -self.horizon :])
        return forecast


@BACKBONES.register("timesnet")
class TimesNet(Forecaster):
    """Convolutions over time folded by its main periods, for a fixed portfolio (Wu et al. 2023, TimesNet).

    Series are normalised over the window, embedded together by a convolution over time with fixed places, and time is
    mapped linearly to L + horizon. A block takes the `top_k` strongest frequencies of the Fourier transform, folds
    time into rows of each period, convolves in two dimensions by two inception layers with a GELU between them, and
    adds the unfolded results up by the softmax of the amplitudes, to its input; layer normalisation, the same after
    every block. A linear map gives the series.

    The released code is followed but in these: it picks the periods of a whole batch at once, where each day has its
    own here, so that a day does not depend on the others of its batch (the paper's equations are of one series); no
    marks of the calendar; what is read of a block's kernels is their mean, which is the same and runs once.
    """

    top_k: Annotated[int, Field(ge=1)] = 3
    """Periods of a block (paper: 3 for short forecasts, 5 for long ones)."""
    num_kernels: Annotated[int, Field(ge=1)] = 3
    """Convolutions of an inception layer, of sizes 1, 3, 5, ... (released code: 6)."""
    hidden_size: Annotated[int, Field(ge=1)] = 16
    """Width of a step (paper: 32 to 512)."""
    feedforward_size: Annotated[int, Field(ge=1)] = 16
    """Width between the two inception layers (paper: that of a step)."""
    num_layers: Annotated[int, Field(ge=1)] = 2
    """Blocks (paper: 2)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout of the embedding while training (released code: 0.1)."""

    def forecaster(self, n_series: int, window: int) -> nn.Module:
        """A fresh TimesNet."""
        sizes = (self.hidden_size, self.feedforward_size, self.num_kernels, self.top_k)
        blocks = [TimesBlock(*sizes) for _ in range(self.num_layers)]
        inner = TimesNetModule(n_series, window, self.horizon, blocks, self.hidden_size, self.dropout)
        return Normalised(inner)
