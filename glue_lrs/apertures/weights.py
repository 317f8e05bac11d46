"""Pixel weights for regions with inclusive limits, which may be fractional."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glue_lrs.apertures.edges import BoxedLimits, Limits

#: Number of pixels whose weights are computed at a time, to limit the memory.
_BLOCK_PIXELS = 1 << 11


@dataclass(frozen=True, eq=False)
class Weights:
    """Pixel weights between 0 and 1 on the part of an image that a region covers.

    Parameters
    ----------
    rows, columns : slice
        Part of the image that `values` covers.
    values : ndarray
        Weights, shape (row, column), or (1, column) if all rows have the same weights.
    lower, upper : float
        Mean inclusive limits over the image, ignoring NaN. If there are several regions, these are
        the outermost limits.
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
        """Return the weights for the full image, shape (row, column)."""
        out = np.zeros(shape)
        out[self.rows, self.columns] = self.values
        return out


def limit_weights(index: ArrayLike, limits: Limits, partial: bool = True) -> NDArray[np.float64]:
    """Return pixel weights for inclusive limits.

    As in ``extract_1d``, pixels whose number i is within [lower, upper] have weight 1. The weight
    of a pixel just outside is the covered fraction of the pixel, i - lower + 1 or upper - i + 1.

    Parameters
    ----------
    index : array_like
        Pixel numbers i along the slit.
    limits : Limits
        Inclusive limits, which must broadcast against `index`. Where a limit is NaN, the weight is
        0.
    partial : bool
        Whether the weight of partially covered pixels is the covered fraction. If False, it is 0.

    Returns
    -------
    ndarray
        Weights between 0 and 1, with the broadcast shape.
    """
    index = np.asarray(index, dtype=float)
    # Covered fraction of each pixel before clipping, greater than 1 well inside the limits and
    # negative well outside.
    cover = np.minimum(index - limits.lower + 1.0, limits.upper - index + 1.0)
    weights = np.fmax(np.fmin(cover, 1.0), 0.0)  # fmin turns NaN into 1, which becomes 0 below
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
    """Return the weights for one region.

    Parameters
    ----------
    limits : Limits or BoxedLimits
        Inclusive limits of the region. Where a limit is NaN, the weight is 0.
    shape : (int, int)
        Number of rows and number of columns in the image.
    partial : bool
        Whether the weight of partially covered pixels is the covered fraction. If False, it is 0.

    Returns
    -------
    Weights
        Weights on the columns that the region covers. If all limits are NaN, there are no columns.
    """
    rows, columns = shape
    edges = limits.lower, limits.upper
    scalar = limits.lower.ndim == limits.upper.ndim == 0
    if scalar:
        lower, upper = first, last = float(limits.lower), float(limits.upper)
    elif all(np.isfinite(edge).any() for edge in edges):
        lower, upper = (_mean(limits, edge, shape) for edge in edges)
        first, last = float(np.nanmin(limits.lower)), float(np.nanmax(limits.upper))
    else:
        return Weights(slice(0, rows), slice(0, 0), np.zeros((1, 0)), np.nan, np.nan)
    left = min(max(math.floor(first), 0), columns)
    right = min(max(math.ceil(last) + 1, left), columns)
    if scalar:
        values = limit_weights(np.arange(left, right), Limits(*edges), partial)[np.newaxis]
        return Weights(slice(0, rows), slice(left, right), values, lower, upper)
    box = slice(0, rows), slice(0, columns)
    if isinstance(limits, BoxedLimits):
        box = limits.rows, limits.columns
    start, stop = max(left, box[1].start), min(right, box[1].stop)
    values = np.zeros((rows, right - left))
    if start < stop:
        inside = values[box[0], start - left : stop - left]
        index = np.arange(start, stop)
        cut = slice(start - box[1].start, stop - box[1].start)
        # Limits that have only one value per row are not cut.
        parts = [edge[:, cut] if edge.ndim == 2 and edge.shape[1] > 1 else edge for edge in edges]
        # Rows are processed in blocks, because the temporary arrays are several times larger than
        # the result.
        step = max(_BLOCK_PIXELS // index.size, 1)
        for row in range(0, len(inside), step):
            block = slice(row, row + step)
            block_limits = Limits(*(edge[block] if edge.ndim else edge for edge in parts))
            inside[block] = limit_weights(index, block_limits, partial)
    return Weights(slice(0, rows), slice(left, right), values, lower, upper)


def union(parts: list[Weights]) -> Weights:
    """Return the maximum of the weights of several regions in each pixel.

    The limits of the result are the outermost limits of the regions.
    """
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


def _mean(limits: Limits | BoxedLimits, edge: NDArray[Any], shape: tuple[int, ...]) -> float:
    """Return the mean of a limit over the image, ignoring NaN.

    `edge` is the lower or the upper limit in `limits`. For `BoxedLimits`, the mean is exactly equal
    to that for the corresponding `Limits`.
    """
    if not isinstance(limits, BoxedLimits):
        return float(np.nanmean(edge))
    missing = np.isnan(edge)
    full = np.zeros(shape)  # in full size because the order of addition depends on the shape
    full[limits.rows, limits.columns] = np.where(missing, 0.0, edge)
    return float(full.sum() / (edge.size - np.count_nonzero(missing)))


def weighted_sum(values: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of values times weights over columns, in double precision.

    Parameters
    ----------
    values : ndarray
        Values in any precision, shape (..., row, column).
    weights : ndarray
        Weights, shape (row, column), or (1, column) if all rows have the same weights.

    Returns
    -------
    ndarray
        Sum in each row, shape (..., row).
    """
    double = values.astype(float, copy=False)  # needs less memory than einsum's buffers
    if weights.shape[0] == 1:
        return double @ weights[0]
    return np.einsum("...c,...c->...", double, weights)


def mean_wavelength(
    wavelength: NDArray[Any], weights: NDArray[np.float64], total: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weighted mean wavelength of each row.

    If all weighted pixels of a row have the same wavelength, as in a resampled image, the mean is
    exactly this wavelength for any weights, without the rounding errors of a sum.

    Parameters
    ----------
    wavelength : ndarray
        Wavelength of each pixel in micron, finite also where the weight is 0, shape (row, column).
    weights : ndarray
        Weights of 0 or more, shape (row, column), or (1, column) if all rows have the same weights.
    total : ndarray
        Sum of the weights in each row, shape (row,). Where it is 0, the placeholder 1 is returned.

    Returns
    -------
    ndarray
        Mean in micron in each row, shape (row,).
    """
    weighted = weights > 0
    reference = wavelength[np.arange(len(wavelength)), weighted.argmax(axis=1)]
    differs = wavelength != reference[:, np.newaxis]
    if not weighted.all():
        differs &= weighted
    if not differs.any() and total.all():
        return reference.astype(float)
    mean = np.ones_like(total)
    np.divide(weighted_sum(wavelength, weights), total, out=mean, where=total > 0)
    np.copyto(mean, reference, where=(total > 0) & ~differs.any(axis=1))
    return mean
