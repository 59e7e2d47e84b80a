"""Layers that several forecasters share: normalisation, decomposition, patches, attention, embeddings."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mimstocr.errors import ConfigError

EPSILON = 1e-5
"""Added to variances (RevIN's)."""


class Normalised(nn.Module):
    """A forecaster of series brought to mean 0 and variance 1 over the window, and its forecast brought back.

    RevIN (Kim et al. 2022) without its learned scale and shift of each series, as PatchTST runs it, which is also what
    the non-stationary Transformer (Liu et al. 2022) does.
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """[D, L, C] to [D, horizon, C]."""
        mean = x.mean(1, keepdim=True)
        scale = (x.var(1, keepdim=True, correction=0) + EPSILON).sqrt()
        forecast: Tensor = self.inner((x - mean) / scale)
        return forecast * scale + mean


def moving_average(x: Tensor, size: int) -> Tensor:
    """[D, L, C] to its centred mean over `size` steps, the first and last step repeated beyond the edges.

    With an even size the window has one step more before than after.
    """
    before, after = size // 2, (size - 1) // 2
    padded = torch.cat([x[:, :1].expand(-1, before, -1), x, x[:, -1:].expand(-1, after, -1)], dim=1)
    return functional.avg_pool1d(padded.transpose(1, 2), size, stride=1).transpose(1, 2)


def decompose(x: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The season and the trend of [D, L, C]: what is left of its moving average, and that average (Wu et al. 2021)."""
    trend = moving_average(x, size)
    return x - trend, trend


def check_patches(window: int, size: int, stride: int, kind: str) -> None:
    """Raise ConfigError, naming the backbone, when a window has no patch or patches leave steps out between them."""
    if window < size:
        raise ConfigError(
            f"backbone {kind}: expected a window of at least one patch ({size} steps), got {window}; set a longer "
            "window of the features, or a smaller patch_size"
        )
    if stride > size:
        raise ConfigError(
            f"backbone {kind}: expected a stride of at most patch_size ({size}), got {stride}, which leaves steps "
            "between two patches unread; lower the stride"
        )


def patch_count(window: int, size: int, stride: int) -> int:
    """Patches of `in_patches`."""
    return -(-(window - size) // stride) + 1


def in_patches(x: Tensor, size: int, stride: int) -> Tensor:
    """[D, L, C] in overlapping patches [D, patches, C, size], the last of which ends with the window.

    Where the stride does not divide what lies before that, the first step is repeated before the window.
    """
    missing = (size - x.shape[1]) % stride
    return torch.cat([x[:, :1].expand(-1, missing, -1), x], dim=1).unfold(1, size, stride)


class Attention(nn.Module):
    """Attention of several heads by scaled inner products (Vaswani et al. 2017).

    The keys have no bias: it adds the same to all scores of a query and never changes a weight. The weights have no
    dropout, with which torch has no fast kernel (iTransformer took 4.5 times as long).
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.query, self.value, self.out = (nn.Linear(hidden, hidden) for _ in range(3))
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.heads = heads

    def forward(self, queries: Tensor, items: Tensor) -> Tensor:
        """What the queries [M, Q, H] take of the items [M, K, H], [M, Q, H]."""
        query, key, value = (self._heads(x) for x in (self.query(queries), self.key(items), self.value(items)))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, 2, (self.heads, -1)).transpose(1, 2)  # M, heads, K, H / heads


def feed_forward(hidden: int, inner: int, dropout: float) -> nn.Sequential:
    """Two linear layers with a GELU between them, applied to each token."""
    return nn.Sequential(
        nn.Linear(hidden, inner), nn.GELU(), nn.Dropout(dropout), nn.Linear(inner, hidden), nn.Dropout(dropout)
    )


class EncoderLayer(nn.Module):
    """Attention among the tokens and then a feed-forward layer, each added to its input.

    Normalised after each sum, as published (Vaswani et al. 2017), or with `before` ahead of each part, which leaves
    the size of a token as it is.
    """

    def __init__(self, hidden: int, heads: int, inner: int, dropout: float, *, before: bool = False) -> None:
        super().__init__()
        self.before = before
        self.attention = Attention(hidden, heads)
        self.feed_forward = feed_forward(hidden, inner, dropout)
        self.first, self.second = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """[M, K, H] to [M, K, H]."""
        if self.before:
            normed = self.first(tokens)
            tokens = tokens + self.dropout(self.attention(normed, normed))
            out: Tensor = tokens + self.feed_forward(self.second(tokens))
        else:
            tokens = self.first(tokens + self.dropout(self.attention(tokens, tokens)))
            out = self.second(tokens + self.feed_forward(tokens))
        return out


class CircularConv(nn.Module):
    """A convolution over three steps of time, whose ends meet, without a bias."""

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(n_inputs, n_outputs, 3, padding=1, padding_mode="circular", bias=False)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="leaky_relu")  # the authors' of Autoformer and TimesNet

    def forward(self, x: Tensor) -> Tensor:
        """[D, L, C] to [D, L, n_outputs]."""
        out: Tensor = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return out


def positions(n: int, hidden: int) -> Tensor:
    """Sines and cosines [n, hidden] of the place, of wavelengths 2 pi .. 20,000 pi (Vaswani et al. 2017)."""
    rate = torch.exp(torch.arange(0, hidden, 2) * (-math.log(10_000.0) / hidden))
    angle = torch.arange(n)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :hidden]
