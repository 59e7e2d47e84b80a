"""P-sLSTM: patches of each series, read in turn by recurrent cells with exponential gates."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from mimstocr.backbones._forecast import check_patches, in_patches, patch_count
from mimstocr.backbones._portfolio import Forecaster
from mimstocr.backbones.base import BACKBONES

GATES = 4
"""What a cell makes of each input: input gate, forget gate, cell input, output gate, in this order."""


class HeadLinear(nn.Module):
    """A linear map within each head, without a bias; what the first heads see the others do not."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        size = hidden // heads
        self.weight = nn.Parameter(torch.randn(heads, size, size) * math.sqrt(2 / (5 * size)))  # the authors' start

    def forward(self, x: Tensor) -> Tensor:
        """[..., heads, size] to the same."""
        return torch.einsum("...hi,hio->...ho", x, self.weight)


class SLstmCell(nn.Module):
    """The recurrence of an sLSTM: exponential input gate, normaliser, and a stabiliser that keeps both finite.

    With z~, i~, f~, o~ the sums of what comes from the input and from the last hidden state, mixed within each head:
    z = tanh z~, o = sigmoid o~, m_t = max(log sigmoid f~ + m_{t-1}, i~), i = exp(i~ - m_t),
    f = exp(log sigmoid f~ + m_{t-1} - m_t), c_t = f c_{t-1} + i z, n_t = f n_{t-1} + i, h_t = o c_t / n_t.
    """

    def __init__(self, hidden: int, heads: int, depth: float) -> None:
        super().__init__()
        size = hidden // heads
        self.recurrent = nn.Parameter(torch.zeros(heads, size, GATES * size))  # from zeros, as the authors'
        self.bias = nn.Parameter(torch.zeros(GATES - 1, heads, size))
        """Of the forget gate, the cell input and the output gate: one of the input gate would cancel in c / n."""
        with torch.no_grad():
            rank = torch.linspace(0, 1, size) if size > 1 else torch.zeros(1)
            self.bias[0] = 5 - 12 * rank ** (0.3 + 1.3 * depth)  # from keeping for long to forgetting at once

    def forward(self, inputs: Tensor) -> Tensor:
        """[T, M, heads, gates, size], the inputs' part of the gates, to the hidden states [T, M, heads, size]."""
        hidden = cell = norm = inputs.new_zeros(*inputs.shape[1:3], inputs.shape[4])
        # with no state before, nothing is kept of it: the first stabiliser is the input gate's own
        stabiliser = torch.full_like(hidden, -torch.inf)
        states = []
        for given in inputs:
            back = torch.unflatten(torch.einsum("mhi,hio->mho", hidden, self.recurrent), 2, (GATES, -1))
            first, *rest = (given + back).unbind(2)
            forget, value, out = (part + bias for part, bias in zip(rest, self.bias, strict=True))
            kept = functional.logsigmoid(forget) + stabiliser
            stabiliser = torch.maximum(kept, first).detach()  # it cancels in c / n, and so do its gradients
            take, keep = (first - stabiliser).exp(), (kept - stabiliser).exp()
            cell = keep * cell + take * value.tanh()
            norm = keep * norm + take
            hidden = out.sigmoid() * cell / norm
            states.append(hidden)
        return torch.stack(states)


class SLstmBlock(nn.Module):
    """An sLSTM and then a gated feed-forward layer, each on normalised inputs and added to them."""

    def __init__(self, hidden: int, heads: int, conv_size: int, inner: int, dropout: float, depth: float) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = (nn.LayerNorm(hidden, bias=False) for _ in range(2))
        self.conv = nn.Conv1d(hidden, hidden, conv_size, groups=hidden)
        self.maps = nn.ModuleList([HeadLinear(hidden, heads) for _ in range(GATES)])
        self.cell = SLstmCell(hidden, heads, depth)
        self.scale = nn.Parameter(torch.ones(hidden))
        self.up = nn.Linear(hidden, 2 * inner, bias=False)
        self.down = nn.Linear(inner, hidden, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[M, T, H] to [M, T, H]."""
        x = x + self._recurrent(self.first(x))
        gate, value = self.up(self.second(x)).chunk(2, dim=-1)
        out: Tensor = x + self.dropout(self.down(functional.gelu(gate) * value))
        return out

    def _recurrent(self, x: Tensor) -> Tensor:
        # input and forget gate see the last `conv_size` steps, cell input and output gate the step itself
        past = functional.pad(x.transpose(1, 2), [self.conv.kernel_size[0] - 1, 0])
        smooth = functional.silu(self.conv(past)).transpose(1, 2)
        sources = (smooth, smooth, x, x)
        gates = [make(torch.unflatten(of, 2, (self.heads, -1))) for make, of in zip(self.maps, sources, strict=True)]
        states = self.cell(torch.stack(gates, dim=3).transpose(0, 1))  # T, M, heads, size
        normed = functional.layer_norm(self.dropout(states), states.shape[-1:])  # each head by itself
        return normed.flatten(2).transpose(0, 1) * self.scale


class PSLstmModule(nn.Module):
    """Patches of each series in turn through the blocks, all states flattened to the forecast."""

    def __init__(
        self, n_patches: int, size: int, stride: int, hidden: int, blocks: list[SLstmBlock], horizon: int
    ) -> None:
        super().__init__()
        self.size, self.stride = size, stride
        self.embed = nn.Linear(size, hidden)
        self.blocks = nn.Sequential(*blocks, nn.LayerNorm(hidden, bias=False))
        self.head = nn.Linear(n_patches * hidden, horizon)

    def forward(self, x: Tensor) -> Tensor:
        """[D, L, C] to [D, horizon, C]."""
        patches = in_patches(x, self.size, self.stride).transpose(1, 2).flatten(0, 1)  # D C, patches, size
        states = self.blocks(self.embed(patches))
        forecast: Tensor = torch.unflatten(self.head(states.flatten(1)), 0, (-1, x.shape[2])).transpose(1, 2)
        return forecast


@BACKBONES.register("p_slstm")
class PSLstm(Forecaster):
    """sLSTM blocks over patches of each series, the same for all of a fixed portfolio (Kong et al. 2025, P-sLSTM).

    Patches of each series are embedded linearly and read in turn by blocks of the xLSTM (Beck et al. 2024) with sLSTM
    cells; the states of all patches are flattened to the forecast of the series.

    A block: normalise; a causal convolution of each channel with a SiLU for the input and forget gate; linear maps and
    recurrence within each head; normalise each head; add; then a feed-forward layer gated by a GELU, added too. The
    forget gate is a sigmoid, as in the released xLSTM, and its bias starts from 5 down to -7 over a head.

    Departures: where the stride does not divide the window the first step is repeated before it, so that the last
    patch ends today; no bias of the input gate, which would cancel. The series are not normalised over the window; the
    features are scaled as they are for all backbones.
    """

    patch_size: Annotated[int, Field(ge=1)] = 16
    """Steps of a patch (of the order of the paper's)."""
    stride: Annotated[int, Field(ge=1)] = 8
    """Steps from one patch to the next."""
    hidden_size: Annotated[int, Field(ge=1)] = 16
    """Width of a state."""
    num_heads: Annotated[int, Field(ge=1)] = 4
    """Heads within which states mix; of at least two numbers each."""
    num_layers: Annotated[int, Field(ge=1)] = 1
    """Blocks."""
    conv_size: Annotated[int, Field(ge=1)] = 4
    """Patches that the causal convolution sees (xLSTM: 4)."""
    feedforward_size: Annotated[int, Field(ge=1)] = 32
    """Inner width of the gated feed-forward layer (xLSTM: 1.3 times that of a state, in steps of 64)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout while training."""

    def forecaster(self, n_series: int, window: int) -> nn.Module:  # noqa: ARG002
        """A fresh P-sLSTM. Raises ConfigError when the window is shorter than a patch."""
        self._divides(self.num_heads, self.hidden_size)
        check_patches(window, self.patch_size, self.stride, self.kind)
        n_patches = patch_count(window, self.patch_size, self.stride)
        sizes = (self.hidden_size, self.num_heads, self.conv_size, self.feedforward_size, self.dropout)
        blocks = [SLstmBlock(*sizes, depth=i / max(1, self.num_layers - 1)) for i in range(self.num_layers)]
        return PSLstmModule(n_patches, self.patch_size, self.stride, self.hidden_size, blocks, self.horizon)
