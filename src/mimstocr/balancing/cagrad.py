"""Conflict-averse gradient descent."""

from __future__ import annotations

import math
import sys
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from mimstocr.balancing._gram import GramBalancer, Matrix, nearest
from mimstocr.balancing.base import BALANCERS

LEAST = 1e-7
"""The shortest g_w that is told from 0, in parts of the ball's radius."""


@BALANCERS.register("cagrad")
class CaGrad(GramBalancer):
    """CAGrad: the best step for the worst task within a ball around the mean gradient (Liu et al. 2021).

    Maximises min_k <g_k, d> over |d - g0| <= c |g0|, g0 the mean of the task gradients. The dual has the step
    d = g0 + c |g0| g_w / |g_w|, where the weights w, none negative and with sum 1, minimise
    <g_w, g0> + c |g0| |g_w|, g_w = sum_k w_k g_k. This is d as the paper has it; the authors' code divides it by
    1 + c^2, which Adam does not notice. One task alone gets (1 + c) times its gradient.
    """

    c: Annotated[float, Field(ge=0, lt=1)] = 0.4
    """Radius of the ball in parts of |g0|: 0 is the mean gradient (paper: 0.4 on NYUv2 and Cityscapes)."""

    def solve(self, gram: Tensor) -> Tensor:
        """The weights 1 / K + w c |g0| / |g_w| of the task gradients."""
        inner = gram.numpy()
        mean = np.full(len(inner), 1 / len(inner))
        radius = self.c * math.sqrt(max(0.0, float(mean @ inner @ mean)))
        if radius == 0:
            return torch.from_numpy(mean)
        return torch.from_numpy(mean + (_two(inner, radius) if len(inner) == 2 else _many(inner, radius)))


def _two(gram: Matrix, radius: float) -> Matrix:
    """w radius / |g_w| of two tasks, in closed form.

    With D = |g1 - g2|^2, |g_w|^2 = D (w - v)^2 + q, and the minimum over the whole line is where
    sqrt(D) (w - v) / |g_w| = -t, t = <g1 - g2, g0> / (radius sqrt(D)).
    """
    (g11, g12), (_, g22) = gram
    apart = g11 + g22 - 2 * g12
    w = 0.5
    if apart > 0:
        t = (g11 - g22) / 2 / (radius * math.sqrt(apart))
        if abs(t) >= 1:
            w = 0.0 if t > 0 else 1.0
        else:
            least = max(0.0, g11 * g22 - g12 * g12) / apart
            w = (g22 - g12) / apart - t * math.sqrt(least / (1 - t * t) / apart)
    weights = np.clip(np.array([w, 1 - w]), 0.0, 1.0)
    length = math.sqrt(max(0.0, float(weights @ gram @ weights)))
    return weights * radius / length if length > 0 else np.zeros(2)


def _many(gram: Matrix, radius: float) -> Matrix:
    """w radius / |g_w| of any number of tasks.

    For a step d = g0 + g_w / s, the best w is that of the shortest vector in the hull of g_k + s g0, and |g_w| / s
    falls as s grows: found is the s at which it is the radius. Where even the smallest s stays within the ball, the
    tasks are stationary but for the mean, and the step ends inside the ball.
    """
    to_mean = gram.mean(axis=1)

    def best(log_s: float) -> tuple[Matrix, float]:
        """The best w, and log(|g_w| / (s radius))."""
        s = math.exp(log_s)
        w = nearest(gram + s * (to_mean[:, None] + to_mean) + s * s * to_mean.mean())
        return w, math.log(max(float(w @ gram @ w), sys.float_info.min)) / 2 - log_s - math.log(radius)

    low, high = math.log(LEAST), math.log(2 * math.sqrt(gram.diagonal().max()) / radius)
    (w, above), (_, below) = best(low), best(high)
    x, excess = low, above
    # false position, with the weight of an end that stays halved (Illinois): some ten steps
    while above > 0 and abs(excess) > 1e-12 and high - low > 1e-14:
        x = (low * below - high * above) / (below - above)
        w, latest = best(x)
        if latest > 0:
            low, above, below = x, latest, below / 2 if excess > 0 else below
        else:
            high, below, above = x, latest, above / 2 if excess <= 0 else above
        excess = latest
    return w / math.exp(x)
