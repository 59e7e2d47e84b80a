"""What the losses share: checks of shapes, and the mean over a day's valid stocks."""

from __future__ import annotations

from torch import Tensor


def check_days(*tensors: Tensor) -> None:
    """Raise ValueError unless all are (days, stocks), of one shape."""
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if len(shapes[0]) != 2 or len(set(shapes)) > 1:
        raise ValueError(f"expected tensors of one shape (days, stocks), got {', '.join(map(str, shapes))}")


def check_levels(logits: Tensor, levels: Tensor, valid: Tensor) -> None:
    """Raise ValueError unless logits are (days, stocks, levels) and the rest (days, stocks), levels in range."""
    if not (logits.ndim == 3 and logits.shape[:2] == levels.shape == valid.shape):
        raise ValueError(
            "expected logits (days, stocks, levels), and levels and valid (days, stocks), "
            f"got {tuple(logits.shape)}, {tuple(levels.shape)} and {tuple(valid.shape)}"
        )
    # To look at values on a GPU is to wait for them at every step; there the gather of the cross-entropy stops
    # the run at a level out of range.
    if levels.device.type == "cpu" and bool((((levels < 0) | (levels >= logits.shape[2])) & valid).any()):
        raise ValueError(
            f"expected levels 0 .. {logits.shape[2] - 1} for {logits.shape[2]} logits a stock, "
            f"got {int(levels[valid].min())} .. {int(levels[valid].max())}"
        )


def daily_mean(x: Tensor, valid: Tensor) -> Tensor:
    """The mean of each day's valid stocks, (days, stocks) -> (days,); 0 and no gradient for a day without one.

    Mask the inputs of `x` too: a zero gradient comes out of most functions of a NaN as NaN.
    """
    return x.masked_fill(~valid, 0.0).sum(-1) / valid.sum(-1).clamp_min(1)
