"""Medians and median absolute deviations: the robust z-score's constants."""

from __future__ import annotations

import numpy as np

from mimstocr.data.panel import Matrix

TINY = 1e-12


def robust(values: Matrix) -> tuple[float, float]:
    """Median and 1.4826 * (MAD + 1e-12) of known values."""
    center, mad = median_and_mad(values)
    return center, 1.4826 * (mad + TINY)


def median_and_mad(values: Matrix) -> tuple[float, float]:
    """Median of known values, and the median of their distances from it."""
    center = median(values)
    return center, median(np.abs(values - np.float32(center)))


def median(values: Matrix) -> float:
    """As np.median, in one partition and without its second pass for NaN."""
    half = len(values) // 2
    part = np.partition(values, half)
    upper = float(part[half])
    return upper if len(values) % 2 else (upper + float(part[:half].max())) / 2
