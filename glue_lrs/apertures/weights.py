"""Pixel weights of regions with inclusive, fractional limits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glue_lrs.apertures.edges import BoxedLimits, Limits

__all__ = ["Weights", "cut_rows", "limit_weights", "region_weights", "union", "weighted_sum"]

#: Pixels whose weights are worked out at once.
_BLOCK_PIXELS = 1 << 11


@dataclass(frozen=True, eq=False)
class Weights:
    """Pixel weights between 0 and 1 on the part of an image that has any.

    Parameters
    ----------
    rows, columns : slice
        The part of the image that `values` covers.
    values : ndarray
        Weights, shape (row, column) or (1, column) where all rows are alike.
    lower, upper : float
        Mean inclusive limits over the image, NaN left out; of several regions the outermost.
    """

    rows: slice
    columns: slice
    values: NDArray[np.float64]
    lower: float
    upper: float

    @property
    def empty(self) -> bool:
        """Whether no pixel has any weight."""
        return not self.values.any()

    @property
    def uniform(self) -> bool:
        """Whether all rows are alike."""
        return self.values.shape[0] == 1

    def full(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Weights on the whole image, shape (row, column)."""
        out = np.zeros(shape)
        out[self.rows, self.columns] = self.values
        return out


def limit_weights(index: ArrayLike, limits: Limits, partial: bool = True) -> NDArray[np.float64]:
    """Weights of pixels for inclusive limits.

    A pixel i within [lower, upper] weighs 1. A pixel just outside weighs the fraction of it that
    the aperture covers, i - lower + 1 or upper - i + 1, as ``extract_1d`` counts it.

    Parameters
    ----------
    index : array_like
        Pixel numbers.
    limits : Limits
        Inclusive limits that broadcast against `index`; NaN gives weight 0.
    partial : bool
        Whether a pixel may be covered in part; without it the weight outside is 0.

    Returns
    -------
    ndarray
        Weights between 0 and 1, of the broadcast shape.
    """
    index = np.asarray(index, dtype=float)
    # How much of the pixel each edge leaves: at least 1 inside, at most 0 beyond the pixel.
    cover = np.minimum(index - limits.lower + 1.0, limits.upper - index + 1.0)
    weights = np.fmax(np.fmin(cover, 1.0), 0.0)  # NaN gives 1: see below
    if np.ndim(limits.lower) or np.ndim(limits.upper):
        weights[np.isnan(cover)] = 0.0
    return weights if partial else np.floor(weights)


def cut_rows(weights: Weights, first: int, stop: int) -> dict[str, Any]:
    first, stop = max(first, weights.rows.start), min(stop, weights.rows.stop)
    stop = max(first, stop)
    values = weights.values
    if not weights.uniform:
        values = values[first - weights.rows.start : stop - weights.rows.start]
    elif stop == first:
        values = values[:0]
    return {"rows": slice(first, stop), "values": values}


def region_weights(
    limits: Limits | BoxedLimits, shape: tuple[int, ...], partial: bool = True
) -> Weights:
    """Weights of one region, on the columns that it reaches.

    Parameters
    ----------
    limits : Limits or BoxedLimits
        Inclusive limits; where they are NaN there is no weight.
    shape : (int, int)
        Rows and columns of the image.
    partial : bool
        Whether pixels may be covered in part.
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
        # Some rows at a time: on the way numpy takes several times the memory of the result.
        step = max(_BLOCK_PIXELS // index.size, 1)
        for first in range(0, len(inside), step):
            part = slice(first, first + step)
            some = Limits(*(edge[part] if edge.ndim else edge for edge in cut))
            inside[part] = limit_weights(index, some, partial)
    return Weights(slice(0, rows), slice(left, right), values, span.lower, span.upper)


def union(parts: list[Weights]) -> Weights:
    """Weights of all regions together: their maximum; the outermost of their limits."""
    if len(parts) == 1:
        return parts[0]
    some = [part for part in parts if part.values.size] or parts
    left = min(part.columns.start for part in some)
    right = max(part.columns.stop for part in some)
    values = np.zeros((max(part.values.shape[0] for part in some), right - left))
    for part in some:
        target = values[:, part.columns.start - left : part.columns.stop - left]
        np.maximum(target, part.values, out=target)
    lower, upper = [part.lower for part in parts], [part.upper for part in parts]
    if any(map(math.isnan, lower)):
        return Weights(some[0].rows, slice(left, right), values, np.nanmin(lower), np.nanmax(upper))
    return Weights(some[0].rows, slice(left, right), values, min(lower), max(upper))


class _Span(NamedTuple):
    """Mean lower and upper limit, the least lower and the largest upper one."""

    lower: float
    upper: float
    first: float
    last: float


def _span(limits: Limits | BoxedLimits, shape: tuple[int, ...]) -> _Span | None:
    """How far limits reach, NaN left out; None where they are all NaN."""
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
    """The mean over the image, NaN left out; of a part to the last digit that of the whole."""
    if not isinstance(limits, BoxedLimits):
        return float(np.nanmean(edge))
    missing = np.isnan(edge)
    whole = np.zeros(shape)  # numpy adds up in an order that depends on the shape
    whole[limits.rows, limits.columns] = np.where(missing, 0.0, edge)
    return float(whole.sum() / (edge.size - np.count_nonzero(missing)))


def _cut_columns(edge: NDArray[Any], left: int, right: int, columns: int) -> NDArray[Any]:
    """The columns of an edge that has one value for each pixel."""
    return (
        edge[:, left:right] if edge.ndim == 2 and edge.shape[1] == columns and columns > 1 else edge
    )


def weighted_sum(values: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum values times weights over columns, in double precision.

    Parameters
    ----------
    values : ndarray
        Shape (..., row, column), of any precision.
    weights : ndarray
        Shape (row, column), or (1, column) where all rows are alike.
    """
    double = values.astype(float, copy=False)  # less memory than einsum's own buffers
    if weights.shape[0] == 1:
        return double @ weights[0]
    return np.einsum("...c,...c->...", double, weights)
