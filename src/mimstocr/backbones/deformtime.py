"""DeformTime: attention to places, across series and across time, that the model itself moves."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from mimstocr.backbones._forecast import Normalised, check_patches, in_patches, patch_count, positions
from mimstocr.backbones._portfolio import Forecaster
from mimstocr.backbones.base import BACKBONES
from mimstocr.errors import ConfigError


def sample(images: Tensor, places: Tensor) -> Tensor:
    """Bilinear interpolation of images [M, C, rows, columns] at places [M, P, Q, 2], to [M, C, P, Q].

    places are (row, column), in units of pixels from the first; beyond the edges everything is zero.
    """
    rows, columns = images.shape[2:]
    size = places.new_tensor([max(rows - 1, 1), max(columns - 1, 1)])
    # grid_sample takes (x, y) from -1, the middle of the first pixel, to 1, that of the last
    grid = (2 * places / size - 1).flip(-1)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


class TemporalAttention(nn.Module):
    """Attention among the steps of a sequence, whose keys and values are taken at learned distances from the steps.

    The distances, of each group of channels its own, come from the queries around a step, and reach `kernel_size`
    steps.
    """

    def __init__(self, steps: int, hidden: int, heads: int, groups: int, kernel_size: int) -> None:
        super().__init__()
        self.query, self.value, self.out = (nn.Linear(hidden, hidden) for _ in range(3))
        self.key = nn.Linear(hidden, hidden, bias=False)  # a bias would never change a weight
        self.near = nn.Conv1d(hidden // groups, hidden // groups, kernel_size, padding="same")
        self.distance = nn.Conv1d(hidden // groups, 1, 1)
        self.place = nn.Parameter(torch.nn.init.trunc_normal_(torch.empty(steps, hidden), std=0.02))
        self.heads, self.groups, self.reach = heads, groups, kernel_size

    def forward(self, x: Tensor) -> Tensor:
        """[M, T, H] to [M, T, H]."""
        queries = self.query(x)
        sampled = self.moved(x, self.distances(queries))
        split = (queries, self.key(sampled), self.value(sampled) + self.place)
        query, key, value = (torch.unflatten(part, 2, (self.heads, -1)).transpose(1, 2) for part in split)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def distances(self, queries: Tensor) -> Tensor:
        """How far from each step is looked, in steps, [M, groups, T]."""
        grouped = torch.unflatten(queries.transpose(1, 2), 1, (self.groups, -1)).flatten(0, 1)
        found = self.distance(self.near(grouped)).tanh() * self.reach
        return torch.unflatten(found, 0, (-1, self.groups)).squeeze(2)

    def moved(self, x: Tensor, distances: Tensor) -> Tensor:
        """[M, T, H] at each step's place plus its group's distance [M, groups, T], interpolated, [M, T, H]."""
        n = x.shape[1]
        images = torch.unflatten(x.transpose(1, 2), 1, (self.groups, -1)).flatten(0, 1)[
            ..., None
        ]  # M groups, H/groups, T, 1
        rows = (torch.arange(n, device=x.device) + distances).flatten(0, 1)
        places = torch.stack([rows, torch.zeros_like(rows)], dim=-1)[:, :, None, :]
        found = torch.unflatten(sample(images, places)[..., 0], 0, (-1, self.groups)).flatten(1, 2)
        return found.transpose(1, 2)


class VariableAttention(nn.Module):
    """Attention among the steps of a patch, whose keys and values are taken at places moved in time and channel.

    A patch [T, H] is an image of one channel; every place of it has a learned distance in both directions, which comes
    from the queries around it and reaches `kernel_size`. Keys and values are scaled by one number each.
    """

    def __init__(self, steps: int, kernel_size: int) -> None:
        super().__init__()
        self.query, self.value, self.out = (nn.Conv2d(1, 1, 1) for _ in range(3))
        self.key = nn.Conv2d(1, 1, 1, bias=False)  # a bias would never change a weight
        self.near = nn.Conv2d(1, 1, kernel_size, padding="same")
        self.distance = nn.Conv2d(1, 2, 1, bias=False)
        self.place = nn.Parameter(torch.nn.init.trunc_normal_(torch.empty(steps, 1), std=0.02))
        self.reach = kernel_size

    def forward(self, x: Tensor) -> Tensor:
        """[M, T, H] to [M, T, H]."""
        image = x[:, None]
        queries = self.query(image)
        sampled = sample(image, self.places(queries))
        split = (queries, self.key(sampled), self.value(sampled) + self.place)
        out: Tensor = self.out(functional.scaled_dot_product_attention(*split))
        return out.squeeze(1)

    def places(self, queries: Tensor) -> Tensor:
        """(row, column) at which each place is read, [M, T, H, 2], from the queries [M, 1, T, H]."""
        rows, columns = (torch.arange(n, device=queries.device) for n in queries.shape[2:])
        still = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)
        moved: Tensor = self.distance(self.near(queries)).tanh() * self.reach
        return still + moved.movedim(1, -1)


class Deformed(nn.Module):
    """An attention and a layer with a ReLU, each added to its input."""

    def __init__(self, attention: nn.Module, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = attention
        self.norm = nn.LayerNorm(hidden)
        self.map = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[M, T, H] to [M, T, H]."""
        x = x + self.dropout(self.attention(x))
        out: Tensor = x + self.dropout(self.map(self.norm(x)).relu())
        return out


class DeformLayer(nn.Module):
    """A temporal and a variable block side by side, joined by a linear map."""

    def __init__(
        self,
        window: int,
        hidden: int,
        period: int,
        patch: tuple[int, int],
        attend: tuple[int, int, int],
        dropout: float,
    ) -> None:
        super().__init__()
        heads, groups, kernel_size = attend
        self.period = period
        self.size, self.stride = patch
        n_patches = patch_count(window, self.size, self.stride)
        steps = -(-window // period)
        self.norm = nn.LayerNorm(hidden)
        self.temporal = Deformed(TemporalAttention(steps, hidden, heads, groups, kernel_size), hidden, dropout)
        self.variable = Deformed(VariableAttention(self.size, kernel_size), hidden, dropout)
        self.unpatch = nn.Linear(n_patches * self.size, window)
        self.join = nn.Linear(2 * hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[D, L, H] to [D, L, H]."""
        x = self.norm(x)
        out: Tensor = self.join(torch.cat([self._in_time(x), self._in_patches(x)], dim=-1))
        return out

    def _in_time(self, x: Tensor) -> Tensor:
        """Every `period`-th step together as one sequence; the first step is repeated after the end to fill them."""
        days, window, hidden = x.shape
        filled = torch.cat([x, x[:, :1].expand(-1, -window % self.period, -1)], dim=1)
        apart = torch.unflatten(filled, 1, (-1, self.period)).transpose(1, 2).flatten(0, 1)  # D period, T, H
        back = torch.unflatten(self.temporal(apart), 0, (days, -1)).transpose(1, 2)
        return back.reshape(days, -1, hidden)[:, :window]

    def _in_patches(self, x: Tensor) -> Tensor:
        patches = in_patches(x, self.size, self.stride).transpose(2, 3)  # D, patches, size, H
        seen = torch.unflatten(self.variable(patches.flatten(0, 1)), 0, patches.shape[:2]).flatten(1, 2)
        out: Tensor = self.unpatch(seen.transpose(1, 2)).transpose(1, 2)
        return out


class NeighbourEmbedding(nn.Module):
    """Groups of neighbouring series, each embedded by the same linear map in channels of its own, with fixed places."""

    def __init__(self, n_series: int, window: int, hidden: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.steps = window
        self.size = -(-n_series // groups)
        self.missing = self.size * groups - n_series
        self.embed = nn.Linear(self.size, hidden // groups, bias=False)
        self.register_buffer("place", positions(window, hidden), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[D, L, C] to [D, L, H]; the last series is repeated to fill the last group."""
        filled = torch.cat([x, x[..., -1:].expand(-1, -1, self.missing)], dim=-1)
        embedded = self.embed(torch.unflatten(filled, 2, (-1, self.size))).flatten(2) + self.place
        out: Tensor = self.norm(self.dropout(embedded))
        return out


class DeformTimeModule(nn.Module):
    """Embedding, deformable layers, and a GRU whose states are mapped over time to the forecast."""

    def __init__(self, embed: NeighbourEmbedding, layers: list[DeformLayer], n_series: int, horizon: int) -> None:
        super().__init__()
        window, hidden = embed.steps, embed.norm.normalized_shape[0]
        self.embed = embed
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(hidden, bias=False)
        self.rnn = nn.GRU(hidden, hidden, 2)
        self.ahead = nn.Sequential(nn.Linear(window, hidden), nn.LeakyReLU(), nn.Linear(hidden, horizon))
        self.head = nn.Linear(hidden, n_series)

    def forward(self, x: Tensor) -> Tensor:
        """[D, L, C] to [D, horizon, C]."""
        encoded = self.norm(self.layers(self.embed(x)))
        states, _ = self.rnn((encoded - encoded.mean(1, keepdim=True)).transpose(0, 1).contiguous())  # L, D, H
        forecast: Tensor = self.head(self.ahead(states.permute(1, 2, 0)).transpose(1, 2))
        return forecast


@BACKBONES.register("deformtime")
class DeformTime(Forecaster):
    """Deformable attention across time and across series, for a fixed portfolio (Shu and Lampos 2024, DeformTime).

    Series are normalised over the window and embedded in groups of neighbours. A layer has two blocks side by side,
    whose keys and values are interpolated at learned distances from where they stand: a temporal one among every
    `period`-th step (period 1 in the first layer), whose distances are in time, one of each group of channels; and a
    variable one in patches of time, whose distances are in time and across the channels that the series were embedded
    in. A linear map joins them. A GRU of two layers reads the result; its states are mapped over time to the horizon
    and then to the series.

    Written from the released code, and departs from it in these: temporal scores are between the steps of a sequence,
    scaled by the width of a head, where the code's come out between channels; places are interpolated where they are,
    where the code's sampling grid is off by up to half a step; where the stride does not divide the window, the first
    step is repeated before it, so that the last patch ends today; the series stand in the panel's order, where the
    paper has those that go with the forecast one first; dropout in place of dropped paths; norms of their own in the
    two blocks.
    """

    patch_size: Annotated[int, Field(ge=1)] = 12
    """Steps of a patch of the variable block."""
    stride: Annotated[int, Field(ge=1)] = 6
    """Steps from one patch to the next."""
    period: Annotated[int, Field(ge=1)] = 6
    """Steps apart that the temporal block of the second and later layers sees together."""
    kernel_size: Annotated[int, Field(ge=1)] = 5
    """Steps and channels around a place that tell its distance, and how far that may reach (released code: 5)."""
    groups: Annotated[int, Field(ge=1)] = 4
    """Groups of series, and of channels whose distance is one (released code: 4)."""
    hidden_size: Annotated[int, Field(ge=1)] = 32
    """Width of a step."""
    num_heads: Annotated[int, Field(ge=1)] = 4
    """Heads of the temporal attention."""
    num_layers: Annotated[int, Field(ge=1)] = 2
    """Layers (paper: 2)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout while training."""

    def forecaster(self, n_series: int, window: int) -> nn.Module:
        """A fresh DeformTime. Raises ConfigError when the window is shorter than a patch."""
        self._divides(self.num_heads, self.hidden_size)
        if self.hidden_size % self.groups:
            raise ConfigError(
                f"backbone {self.kind}: expected a hidden_size that groups ({self.groups}) divides, got "
                f"{self.hidden_size}; change one of the two"
            )
        check_patches(window, self.patch_size, self.stride, self.kind)
        embed = NeighbourEmbedding(n_series, window, self.hidden_size, self.groups, self.dropout)
        layers = [self._layer(window, 1 if i == 0 else self.period) for i in range(self.num_layers)]
        return Normalised(DeformTimeModule(embed, layers, n_series, self.horizon))

    def _layer(self, window: int, period: int) -> DeformLayer:
        patch = (self.patch_size, self.stride)
        attend = (self.num_heads, self.groups, self.kernel_size)
        return DeformLayer(window, self.hidden_size, period, patch, attend, self.dropout)
