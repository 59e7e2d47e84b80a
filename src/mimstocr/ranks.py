"""Order within each day, with ties kept in sight."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Places(NamedTuple):
    """Each day's stocks from the highest value down, at places 0 .. stocks - 1; NaN comes last.

    order: the column of the stock at each place. first, last: the first and the last place of the tie that the
    place belongs to (equal where there is no tie). All (days, stocks), int64. The order inside a tie means
    nothing: what is computed from it must use `first` and `last`.
    """

    order: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]


def places(values: NDArray[np.float64]) -> Places:
    """The places of (days, stocks) values; NaN is never tied."""
    # descending by the negative: NaN then still sorts last; no stable sort is needed, which leaves the fast one
    order = np.argsort(-values, axis=-1)
    ranked = np.take_along_axis(values, order, axis=-1)
    starts = np.ones(values.shape, dtype=bool)
    starts[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    ends = np.ones(values.shape, dtype=bool)
    ends[:, :-1] = starts[:, 1:]
    place = np.arange(values.shape[-1])
    first = np.maximum.accumulate(np.where(starts, place, 0), axis=-1)
    last = np.minimum.accumulate(np.where(ends, place, values.shape[-1])[:, ::-1], axis=-1)[:, ::-1]
    return Places(order, first, last)


def tie_means(by_place: NDArray[np.float64], ties: Places) -> NDArray[np.float64]:
    """Values at their places, each replaced by the mean of its tie: what a place holds on average.

    The expected value over every order inside the ties, so metrics built on it do not depend on the order of
    the columns (McSherry and Najork, ECIR 2008). by_place: (days, stocks), finite.
    """
    alone = ties.first == ties.last
    if alone.all():
        return by_place
    total = np.zeros((by_place.shape[0], by_place.shape[1] + 1))
    np.cumsum(by_place, axis=-1, out=total[:, 1:])
    sums = np.take_along_axis(total, ties.last + 1, axis=-1) - np.take_along_axis(total, ties.first, axis=-1)
    return np.where(alone, by_place, sums / (ties.last - ties.first + 1))


def ranks_of(by_value: Places, n: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average ranks of the n highest placed stocks of each day, by column, the lowest is 1; the rest mean nothing.

    n: (days,), how many values are not NaN.
    """
    ranks = np.empty(by_value.order.shape)
    # from the highest down at places first .. last, so from the lowest up at n - last .. n - first
    np.put_along_axis(ranks, by_value.order, n[:, None] - (by_value.first + by_value.last) / 2, axis=-1)
    return ranks


def average_ranks(values: NDArray[Any], axis: int = -1) -> NDArray[np.float64]:
    """Ranks along `axis`, the lowest is 1, ties share the average of their ranks; NaN stays NaN.

    values: any shape, such as (days, stocks). Gives float64 of that shape.
    """
    moved = np.moveaxis(np.asarray(values, dtype=np.float64), axis, -1)
    flat = moved.reshape(-1, moved.shape[-1])
    known = ~np.isnan(flat)
    ranks = ranks_of(places(flat), known.sum(axis=-1))
    return np.moveaxis(np.where(known, ranks, np.nan).reshape(moved.shape), -1, axis)
