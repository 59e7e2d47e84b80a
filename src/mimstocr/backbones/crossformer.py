"""Crossformer: segments of every series, attention across time and then across series, at several scales."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from mimstocr.backbones._forecast import Attention, EncoderLayer, feed_forward
from mimstocr.backbones._portfolio import Forecaster
from mimstocr.backbones.base import BACKBONES
from mimstocr.errors import ConfigError


class SegmentEmbedding(nn.Module):
    """Each segment of each series as one vector, with a learned place (dimension-segment-wise embedding)."""

    def __init__(self, n_series: int, window: int, size: int, hidden: int) -> None:
        super().__init__()
        self.size, self.missing = size, -window % size
        self.embed = nn.Linear(size, hidden)
        self.place = nn.Parameter(torch.randn(n_series, segments(window, size), hidden))  # N(0, 1), the authors' start
        self.norm = nn.LayerNorm(hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[D, L, C] to [D, C, S, H]; the first step is repeated before the window where it does not divide."""
        padded = torch.cat([x[:, :1].expand(-1, self.missing, -1), x], dim=1)
        parts = torch.unflatten(padded.transpose(1, 2), 2, (-1, self.size))  # D, C, S, size
        embedded: Tensor = self.norm(self.embed(parts) + self.place)
        return embedded


def segments(steps: int, size: int) -> int:
    """Segments that cover some steps."""
    return -(-steps // size)


class Routed(nn.Module):
    """Attention across series through a few routers: these gather from all series, which then read them.

    Of C series it takes 2 C scores a router, where attention among the series would take C * C.
    """

    def __init__(self, n_segments: int, routers: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.routers = nn.Parameter(torch.randn(n_segments, routers, hidden))  # N(0, 1), the authors' start
        self.gather, self.spread = (Attention(hidden, heads) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """[D, S, C, H], and by segment, to [D, S, C, H]."""
        items = x.flatten(0, 1)  # D S, C, H
        routers = self.routers.expand(len(x), -1, -1, -1).flatten(0, 1)
        out: Tensor = self.spread(items, self.gather(routers, items))
        return torch.unflatten(out, 0, x.shape[:2])


class TwoStage(nn.Module):
    """Attention across the segments of each series, then across the series at each segment."""

    def __init__(self, n_segments: int, routers: int, hidden: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        # a single segment has nothing but itself to look at: attention would be a linear map of it
        self.across_time = EncoderLayer(hidden, heads, inner, dropout) if n_segments > 1 else None
        self.across_series = Routed(n_segments, routers, hidden, heads)
        self.feed_forward = feed_forward(hidden, inner, dropout)
        self.first, self.second = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[D, C, S, H] to [D, C, S, H]."""
        if self.across_time is not None:
            x = torch.unflatten(self.across_time(x.flatten(0, 1)), 0, x.shape[:2])
        mixed = self.across_series(x.transpose(1, 2)).transpose(1, 2)
        x = self.first(x + self.dropout(mixed))
        out: Tensor = self.second(x + self.feed_forward(x))
        return out


class Merge(nn.Module):
    """Two segments beside one another become one; of an odd number the last is repeated."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm, self.map = nn.LayerNorm(2 * hidden), nn.Linear(2 * hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[D, C, S, H] to [D, C, (S + 1) // 2, H]."""
        even = torch.cat([x, x[:, :, -1:]], dim=2) if x.shape[2] % 2 else x
        out: Tensor = self.map(self.norm(torch.unflatten(even, 2, (-1, 2)).flatten(3)))
        return out


class DecoderLayer(nn.Module):
    """Two stages among the segments to forecast, a look at one scale of the encoder, and that scale's forecast."""

    def __init__(self, own: TwoStage, size: int, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.own = own
        self.cross = Attention(hidden, heads)
        self.feed_forward = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.first, self.second = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, size)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """[D, C, S', H] and the encoder's [D, C, S, H] to the next [D, C, S', H] and a forecast [D, S' size, C]."""
        x = self.own(x)
        seen = torch.unflatten(self.cross(x.flatten(0, 1), memory.flatten(0, 1)), 0, x.shape[:2])
        x = self.first(x + self.dropout(seen))
        x = self.second(x + self.feed_forward(x))
        return x, self.head(x).flatten(2).transpose(1, 2)


class CrossformerModule(nn.Module):
    """Encoder of the segments at scales that double, and a decoder that reads each of them."""

    def __init__(self, embed: SegmentEmbedding, encoder: list[nn.Module], decoder: list[DecoderLayer], n: int) -> None:
        super().__init__()
        n_series, _, hidden = embed.place.shape
        self.embed = embed
        self.encoder = nn.ModuleList(encoder)
        self.place = nn.Parameter(torch.randn(n_series, segments(n, embed.size), hidden))
        self.decoder = nn.ModuleList(decoder)
        self.horizon = n

    def forward(self, x: Tensor) -> Tensor:
        """[D, L, C] to [D, horizon, C]."""
        scales = [self.embed(x)]
        for layer in self.encoder:
            scales.append(layer(scales[-1]))
        state = self.place.expand(len(x), -1, -1, -1)
        forecasts = []
        for layer, memory in zip(self.decoder, scales, strict=True):
            state, forecast = layer(state, memory)
            forecasts.append(forecast)
        return torch.stack(forecasts).sum(0)[:, : self.horizon]


@BACKBONES.register("crossformer")
class Crossformer(Forecaster):
    """Attention across time and across series of segments at several scales, fixed portfolio (Zhang and Yan 2023).

    Every series is cut into segments of `patch_size` steps, each embedded linearly with a learned place of series and
    segment. A two-stage layer attends among the segments of each series, then, at each segment, among the series
    through `routers` learned vectors. The encoder has such layers at scales that double, neighbouring segments being
    merged before each but the first. The decoder starts from learned places of the segments to forecast; its first
    layer reads the embedding itself and each further one a scale of the encoder; the forecasts of all its layers
    add up.

    Departures from the released code: with one segment to forecast the decoder has no attention across time, which
    would be a linear map of that segment; its option to forecast the difference to the mean is not there; no dropout of
    attention weights.
    """

    patch_size: Annotated[int, Field(ge=1)] = 12
    """Steps of a segment (paper: 6 to 24)."""
    routers: Annotated[int, Field(ge=1)] = 4
    """Vectors through which the series see one another at each segment (paper: 3 to 20)."""
    hidden_size: Annotated[int, Field(ge=1)] = 16
    """Width of a segment (paper: 64 to 256)."""
    num_heads: Annotated[int, Field(ge=1)] = 2
    """Attention heads (paper: 2 to 4)."""
    num_layers: Annotated[int, Field(ge=1)] = 2
    """Scales of the encoder (paper: 3)."""
    feedforward_size: Annotated[int, Field(ge=1)] = 32
    """Inner width of the feed-forward layers (paper: 128 to 512)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout while training (released code: 0.2)."""

    def forecaster(self, n_series: int, window: int) -> nn.Module:
        """A fresh Crossformer. Raises ConfigError when the window is too short for its scales."""
        self._divides(self.num_heads, self.hidden_size)
        needed = self.patch_size * 2 ** (self.num_layers - 1) + 1
        if window < needed:
            raise ConfigError(
                f"backbone {self.kind}: expected a window of at least {needed} steps, so that {self.num_layers} scales "
                f"of segments of {self.patch_size} steps have two segments left to attend to, got {window}; set a "
                "longer window of the features, a smaller patch_size or fewer num_layers"
            )
        embed = SegmentEmbedding(n_series, window, self.patch_size, self.hidden_size)
        counts = [segments(window, self.patch_size * 2**scale) for scale in range(self.num_layers)]
        first, *rest = (self._two_stage(n) for n in counts)
        encoder = [first, *(nn.Sequential(Merge(self.hidden_size), layer) for layer in rest)]
        ahead = segments(self.horizon, self.patch_size)
        decoder = [self._decoder_layer(ahead) for _ in range(self.num_layers + 1)]
        return CrossformerModule(embed, encoder, decoder, self.horizon)

    def _two_stage(self, n_segments: int) -> TwoStage:
        sizes = (self.hidden_size, self.num_heads, self.feedforward_size, self.dropout)
        return TwoStage(n_segments, self.routers, *sizes)

    def _decoder_layer(self, n_segments: int) -> DecoderLayer:
        own = self._two_stage(n_segments)
        return DecoderLayer(own, self.patch_size, self.hidden_size, self.num_heads, self.dropout)
