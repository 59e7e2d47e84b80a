"""Autoformer: a Transformer that decomposes series as it goes, and attends to whole delays instead of steps."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from mimstocr.backbones._forecast import CircularConv, decompose
from mimstocr.backbones._portfolio import Forecaster
from mimstocr.backbones.base import BACKBONES


def correlations(queries: Tensor, keys: Tensor) -> Tensor:
    """Of [D, T, H] each, the correlation [D, T] with the keys `delay` steps before, ends joined, for delay 0 .. T-1.

    sum_t q_t . k_{t - delay} / H, by the Fourier transform (Wiener-Khinchin).
    """
    n = queries.shape[1]
    product = torch.fft.rfft(queries, dim=1) * torch.fft.rfft(keys, dim=1).conj()
    found: Tensor = torch.fft.irfft(product.mean(-1), n=n, dim=1)
    return found


def delayed(values: Tensor, delays: Tensor) -> Tensor:
    """Values [D, T, H] brought forward by delays [D, k], ends joined: step t has that of t + delay; [D, k, T, H]."""
    n = values.shape[1]
    source = (torch.arange(n, device=values.device) + delays[..., None]) % n  # D, k, T
    day = torch.arange(len(values), device=values.device)[:, None, None]
    return values[day, source]


class AutoCorrelation(nn.Module):
    """Values at the delays at which queries and keys go together best, weighed by the softmax of how well they do."""

    def __init__(self, hidden: int, factor: int, dropout: float) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(hidden, hidden, bias=False) for _ in range(4))
        self.factor = factor
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """[D, T, H] and a memory [D, S, H], which is cut or filled with zeros to T steps, to [D, T, H]."""
        n = x.shape[1]
        fitted = nn.functional.pad(memory, [0, 0, 0, n - memory.shape[1]])  # a negative pad cuts
        found = correlations(self.query(x), self.key(fitted))
        best = found.topk(self.kept(n), dim=1)
        mixed = (best.values.softmax(1)[..., None, None] * delayed(self.value(fitted), best.indices)).sum(1)
        out: Tensor = self.dropout(self.out(mixed))
        return out

    def kept(self, n: int) -> int:
        """Delays that are kept, of n: factor * ln n, at least one."""
        return min(max(1, int(self.factor * math.log(n))), n)


class SeasonNorm(nn.Module):
    """Layer normalisation less its mean over time; a bias of it would cancel, and there is none."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[D, T, H] to [D, T, H]."""
        normalised: Tensor = self.norm(x)
        return normalised - normalised.mean(1, keepdim=True)


class EncoderLayer(nn.Module):
    """Auto-correlation and a feed-forward layer, after each of which the trend is taken away."""

    def __init__(self, hidden: int, inner: int, factor: int, dropout: float, kernel_size: int) -> None:
        super().__init__()
        self.own = AutoCorrelation(hidden, factor, dropout)
        self.feed_forward = bias_free(hidden, inner, dropout)
        self.kernel_size = kernel_size

    def forward(self, x: Tensor) -> Tensor:
        """[D, L, H] to [D, L, H]."""
        x, _ = decompose(x + self.own(x, x), self.kernel_size)
        return decompose(x + self.feed_forward(x), self.kernel_size)[0]


class DecoderLayer(nn.Module):
    """The same with a look at the encoder between the two; the trends taken away go into the forecast."""

    def __init__(self, hidden: int, inner: int, factor: int, dropout: float, kernel_size: int, n_series: int) -> None:
        super().__init__()
        self.own, self.cross = (AutoCorrelation(hidden, factor, dropout) for _ in range(2))
        self.feed_forward = bias_free(hidden, inner, dropout)
        self.project = CircularConv(hidden, n_series)
        self.kernel_size = kernel_size

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Season [D, T, H] and the encoder's [D, L, H] to the next season and what it adds to the trend, [D, T, C]."""
        x, first = decompose(x + self.own(x, x), self.kernel_size)
        x, second = decompose(x + self.cross(x, memory), self.kernel_size)
        x, third = decompose(x + self.feed_forward(x), self.kernel_size)
        return x, self.project(first + second + third)


def bias_free(hidden: int, inner: int, dropout: float) -> nn.Sequential:
    """Two linear layers without biases and a GELU between them, applied to each step."""
    up, down = nn.Linear(hidden, inner, bias=False), nn.Linear(inner, hidden, bias=False)
    return nn.Sequential(up, nn.GELU(), nn.Dropout(dropout), down, nn.Dropout(dropout))


class AutoformerModule(nn.Module):
    """Encoder of the window, and decoder of its second half and the horizon after it."""

    def __init__(self, n_series: int, horizon: int, encoder: list[EncoderLayer], decoder: list[DecoderLayer]) -> None:
        super().__init__()
        hidden = encoder[0].own.query.in_features
        self.embed_window, self.embed_season = (CircularConv(n_series, hidden) for _ in range(2))
        self.dropout = nn.Dropout(encoder[0].own.dropout.p)
        self.encoder = nn.Sequential(*encoder, SeasonNorm(hidden))
        self.decoder = nn.ModuleList(decoder)
        self.norm = SeasonNorm(hidden)
        self.head = nn.Linear(hidden, n_series)
        self.horizon, self.kernel_size = horizon, encoder[0].kernel_size

    def forward(self, x: Tensor) -> Tensor:
        """[D, L, C] to [D, horizon, C]."""
        memory = self.encoder(self.dropout(self.embed_window(x)))
        season, trend = self._start(x)
        state = self.dropout(self.embed_season(season))
        for layer in self.decoder:
            state, more = layer(state, memory)
            trend = trend + more
        forecast: Tensor = trend + self.head(self.norm(state))
        return forecast[:, -self.horizon :]

    def _start(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the decoder starts from, [D, L // 2 + horizon, C]: the second half's, then zeros and the mean."""
        season, trend = (part[:, x.shape[1] - x.shape[1] // 2 :] for part in decompose(x, self.kernel_size))
        after = x.mean(1, keepdim=True).expand(-1, self.horizon, -1)
        return torch.cat([season, torch.zeros_like(after)], dim=1), torch.cat([trend, after], dim=1)


@BACKBONES.register("autoformer")
class Autoformer(Forecaster):
    """Series decomposition and auto-correlation in an encoder and decoder, for a fixed portfolio (Wu et al. 2021).

    decompose(x) gives season and trend, the trend a moving average. Auto-correlation of queries and keys over all
    delays, R(delay) = sum_t q_t . k_{t - delay}; the factor * ln T best of them; the values rolled by each of those,
    v_{t + delay}, added up by the softmax of R. Both run in every layer, each followed by a decomposition; the decoder
    starts from the season and the trend of the window's second half, and what its decompositions take away builds up
    the trend of the forecast.

    The released code is followed but in these: delays are chosen for each day while training too, where it takes those
    of the mean over the batch, so that a day does not depend on the others of its batch; no marks of the calendar; no
    bias in the projections and in the encoder's norm, where it cancels in the correlation, in the decomposition, or
    goes up in the bias of the map to the stocks. R is a mean over all channels there too, so heads would change
    nothing, and there are none. Of an odd number of steps the code's R leaves out the last; here it does not.
    """

    kernel_size: Annotated[int, Field(ge=1)] = 25
    """Steps of the moving average (released code: 25)."""
    factor: Annotated[int, Field(ge=1)] = 3
    """Delays that are kept, in units of ln T (paper: 1 to 3)."""
    hidden_size: Annotated[int, Field(ge=1)] = 32
    """Width of a step (paper: 512)."""
    feedforward_size: Annotated[int, Field(ge=1)] = 64
    """Inner width of the feed-forward layers (paper: 2048)."""
    encoder_layers: Annotated[int, Field(ge=1)] = 2
    """Layers of the encoder (paper: 2)."""
    decoder_layers: Annotated[int, Field(ge=1)] = 1
    """Layers of the decoder (paper: 1)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout while training (released code: 0.05)."""

    def forecaster(self, n_series: int, window: int) -> nn.Module:  # noqa: ARG002
        """A fresh Autoformer."""
        sizes = (self.hidden_size, self.feedforward_size, self.factor, self.dropout, self.kernel_size)
        encoder = [EncoderLayer(*sizes) for _ in range(self.encoder_layers)]
        decoder = [DecoderLayer(*sizes, n_series) for _ in range(self.decoder_layers)]
        return AutoformerModule(n_series, self.horizon, encoder, decoder)
