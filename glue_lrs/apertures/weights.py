"""Pixel weights of regions with inclusive, fractional limits."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glue_lrs.apertures.edges import BoxedLimits, Limits

__all__ = ["Weights", "cut_rows", "limit_weights", "region_weights", "union", "weighted_sum"]

#: Number of pixels whose weights are computed at a time.
_BLOCK_PIXELS = 1 << 11


@dataclass(frozen=True, eq=False)
class Weights:
    """Pixel weights between 0 and 1 on the part of an image that a region covers.

    Parameters
    ----------
    rows, columns : slice
        Part of the image that `values` covers.
    values : ndarray
        Weights, shape (row, column), or (1, column) where all rows have the same.
    lower, upper : float
        Mean inclusive limits over the image, ignoring NaN; the outermost of several regions.
    """

    rows: slice
    columns: slice
    values: NDArray[np.float64]
    lower: float
    upper: float

    @property
    def empty(self) -> bool:
        """Whether the weights of all pixels are 0."""
        return not self.values.any()

    @property
    def uniform(self) -> bool:
        """Whether all rows have the same weights."""
        return self.values.shape[0] == 1

    def full(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Return the weights on the full image, shape (row, column)."""
        out = np.zeros(shape)
        out[self.rows, self.columns] = self.values
        return out


def limit_weights(index: ArrayLike, limits: Limits, partial: bool = True) -> NDArray[np.float64]:
    """Return pixel weights for inclusive limits.

    The weight of a pixel i within [lower, upper] is 1. The weight of a pixel just outside is the
    fraction of it that the aperture covers, i - lower + 1 or upper - i + 1, as in ``extract_1d``.

    Parameters
    ----------
    index : array_like
        Pixel numbers.
    limits : Limits
        Inclusive limits that broadcast against `index`; NaN gives weight 0.
    partial : bool
        Whether partially covered pixels count with the covered fraction; otherwise they weigh 0.

    Returns
    -------
    ndarray
        Weights between 0 and 1, with the broadcast shape.
    """
    index = np.asarray(index, dtype=float)
    # Fraction of the pixel inside each edge: at least 1 within the limits, at most 0 outside.
    cover = np.minimum(index - limits.lower + 1.0, limits.upper - index + 1.0)
    weights = np.fmax(np.fmin(cover, 1.0), 0.0)  # fmin turns NaN into 1, which is reset below
    if np.ndim(limits.lower) or np.ndim(limits.upper):
        weights[np.isnan(cover)] = 0.0
    return weights if partial else np.floor(weights)


def cut_rows(weights: Weights, first: int, stop: int) -> Weights:
    """Return the weights restricted to rows `first` to `stop` - 1."""
    first, stop = max(first, weights.rows.start), min(stop, weights.rows.stop)
    stop = max(first, stop)
    values = weights.values
    if not weights.uniform:
        values = values[first - weights.rows.start : stop - weights.rows.start]
    elif stop == first:
        values = values[:0]
    return replace(weights, rows=slice(first, stop), values=values)


def region_weights(
    limits: Limits | BoxedLimits, shape: tuple[int, ...], partial: bool = True
) -> Weights:
    """Return the weights of one region on the columns that it covers.

    Parameters
    ----------
    limits : Limits or BoxedLimits
        Inclusive limits; NaN gives weight 0.
    shape : (int, int)
        Rows and columns of the image.
    partial : bool
        Whether partially covered pixels count with the covered fraction; otherwise they weigh 0.

    Returns
    -------
    Weights
        Without columns if all limits are NaN.
    """
    rows, columns = shape
    span = _span(limits, shape)
    if span is None:
        return Weights(slice(0, rows), slice(0, 0), np.zeros((1, 0)), np.nan, np.nan)
    left = min(max(math.floor(span.first), 0), columns)
    right = min(max(math.ceil(span.last) + 1, left), columns)
    if limits.lower.ndim == limits.upper.ndim == 0:
        index = np.arange(left, right, dtype=float)
        values = limit_weights(index, Limits(limits.lower, limits.upper), partial)[np.newaxis]
        return Weights(slice(0, rows), slice(left, right), values, span.lower, span.upper)
    box = slice(0, rows), slice(0, columns)
    if isinstance(limits, BoxedLimits):
        box = limits.rows, limits.columns
    start, stop = max(left, box[1].start), min(right, box[1].stop)
    values = np.zeros((rows, right - left))
    if start < stop:
        inside = values[box[0], start - left : stop - left]
        index = np.arange(start, stop, dtype=float)
        width = box[1].stop - box[1].start
        cut = Limits(
            *(
                _cut_columns(edge, start - box[1].start, stop - box[1].start, width)
                for edge in (limits.lower, limits.upper)
            )
        )
        # In blocks of rows: the temporary arrays are several times as large as the result.
        step = max(_BLOCK_PIXELS // index.size, 1)
        for first in range(0, len(inside), step):
            block = slice(first, first + step)
            block_limits = Limits(*(edge[block] if edge.ndim else edge for edge in cut))
            inside[block] = limit_weights(index, block_limits, partial)
    return Weights(slice(0, rows), slice(left, right), values, span.lower, span.upper)


def union(parts: list[Weights]) -> Weights:
    """Return the combined weights of several regions: the maximum, and the outermost limits."""
    if len(parts) == 1:
        return parts[0]
    covering = [part for part in parts if part.values.size] or parts
    left = min(part.columns.start for part in covering)
    right = max(part.columns.stop for part in covering)
    values = np.zeros((max(part.values.shape[0] for part in covering), right - left))
    for part in covering:
        target = values[:, part.columns.start - left : part.columns.stop - left]
        np.maximum(target, part.values, out=target)
    lower, upper = [part.lower for part in parts], [part.upper for part in parts]
    span = (min(lower), max(upper))
    if any(map(math.isnan, lower)):
        span = (np.nanmin(lower), np.nanmax(upper))
    return Weights(covering[0].rows, slice(left, right), values, *span)


class _Span(NamedTuple):
    """Mean lower and upper limit, smallest lower limit, largest upper limit."""

    lower: float
    upper: float
    first: float
    last: float


def _span(limits: Limits | BoxedLimits, shape: tuple[int, ...]) -> _Span | None:
    """Return the extent of limits, ignoring NaN; None if all are NaN."""
    if limits.lower.ndim == 0 and limits.upper.ndim == 0:
        lower, upper = float(limits.lower), float(limits.upper)
        return _Span(lower, upper, lower, upper)
    if not (np.isfinite(limits.lower).any() and np.isfinite(limits.upper).any()):
        return None
    return _Span(
        _mean(limits, limits.lower, shape),
        _mean(limits, limits.upper, shape),
        float(np.nanmin(limits.lower)),
        float(np.nanmax(limits.upper)),
    )


def _mean(limits: Limits | BoxedLimits, edge: NDArray[Any], shape: tuple[int, ...]) -> float:
    """Return the mean of an edge over the image, ignoring NaN; the same for boxed limits."""
    if not isinstance(limits, BoxedLimits):
        return float(np.nanmean(edge))
    missing = np.isnan(edge)
    full = np.zeros(shape)  # of full size, as the order in which NumPy adds depends on the shape
    full[limits.rows, limits.columns] = np.where(missing, 0.0, edge)
    return float(full.sum() / (edge.size - np.count_nonzero(missing)))


def _cut_columns(edge: NDArray[Any], left: int, right: int, columns: int) -> NDArray[Any]:
    """Return columns of an edge with one value per pixel; another edge unchanged."""
    per_pixel = edge.ndim == 2 and edge.shape[1] == columns and columns > 1
    return edge[:, left:right] if per_pixel else edge


def weighted_sum(values: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of values times weights over columns, in double precision.

    Parameters
    ----------
    values : ndarray
        Shape (..., row, column), of any precision.
    weights : ndarray
        Shape (row, column), or (1, column) where all rows have the same.

    Returns
    -------
    ndarray
        Shape (..., row).
    """
    double = values.astype(float, copy=False)  # takes less memory than the buffers of einsum
    if weights.shape[0] == 1:
        return double @ weights[0]
    return np.einsum("...c,...c->...", double, weights)
