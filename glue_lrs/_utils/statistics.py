"""Running means and medians."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask

__all__ = [
    "masked_median",
    "median",
    "median_variance",
    "nanmedian",
    "row_level",
    "running",
    "running_median",
    "smooth_flux",
    "window",
]


def running(values: NDArray[np.float64], good: NDArray[np.bool_], half: int) -> NDArray[np.float64]:
    """Mean over rows from `half` before to `half` after, of good pixels."""
    total, count = window(values, half), window(good.astype(float), half)
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0.5)


def window(values: NDArray[np.float64], half: int) -> NDArray[np.float64]:
    """Sum over rows from `half` before to `half` after; cut off at the ends."""
    rows = values.shape[0]
    total = np.zeros((rows + 2 * half + 1, *values.shape[1:]))
    inner = slice(half + 1, half + 1 + rows)
    np.cumsum(values, axis=0, out=total[inner])
    total[inner.stop :] = total[inner.stop - 1]
    return np.asarray(total[2 * half + 1 :] - total[:rows])


def median(values: NDArray[np.float64]) -> float:
    """Median of numbers, none of them NaN; NumPy's own looks for those first."""
    low, high = (values.size - 1) // 2, values.size // 2
    ordered = np.partition(values, (low, high))
    return float(0.5 * (ordered[low] + ordered[high]))


def row_level(values: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Median of each row's pixels, shape (row, 1); more than 0."""
    ordered = np.sort(np.where(mask, values, np.inf), axis=1)
    count = mask.sum(axis=1)
    middle = ordered[np.arange(len(values)), np.maximum(count - 1, 0) // 2]
    known = (count > 0) & np.isfinite(middle) & (middle > 0)
    if not known.any():
        return np.ones((len(values), 1))
    rows = np.arange(len(values))
    return np.interp(rows, rows[known], middle[known])[:, np.newaxis]


def nanmedian(values: Array, axis: int) -> Array:
    """Median, NaN left out; NaN where there is nothing else."""
    ordered = np.sort(values, axis=axis)
    count = np.isfinite(values).sum(axis=axis, keepdims=True)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[axis] - 1)
    both = np.take_along_axis(ordered, low, axis), np.take_along_axis(ordered, high, axis)
    return np.squeeze((both[0] + both[1]) / 2.0, axis=axis)


def running_median(values: Array, good: Mask, length: int) -> Array:
    """Median over a run of rows of each column, of good pixels; NaN where there is none."""
    half = min(length, 2 * values.shape[0] - 1) // 2
    padded = np.full((values.shape[0] + 2 * half, values.shape[1]), np.nan)
    padded[half : half + values.shape[0]] = np.where(good, values, np.nan)
    return nanmedian(sliding_window_view(padded, 2 * half + 1, axis=0), axis=-1)


def smooth_flux(flux: Array, variance: Array) -> Array:
    """Flux as smooth as its noise asks for: the weight of a row must not follow its noise.

    Rows are averaged until their signal to noise is some 10; single rows stay what they are where
    it is.
    """
    known = (variance > 0) & np.isfinite(variance)
    if not known.any():
        return flux
    signal = np.maximum(flux[known] ** 2 / variance[known] - 1.0, 0.0)
    snr = math.sqrt(max(float(np.median(signal)), 0.25 * float(np.mean(signal)), 1e-4))
    length = int(min(math.ceil((10.0 / snr) ** 2), 2 * flux.size - 1))
    if length <= 1:
        return flux
    half = length // 2
    kernel = np.ones(2 * half + 1)
    weight = np.where(known, 1.0 / np.where(known, variance, 1.0), 0.0)
    return _convolve(flux * weight, kernel) / np.maximum(_convolve(weight, kernel), 1e-300)


def _convolve(values: Array, kernel: Array) -> Array:
    half = kernel.size // 2
    return np.convolve(values, kernel)[half : half + values.size]


def masked_median(values: NDArray[Any], good: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Median along the first axis of what is good; NaN where nothing is."""
    number = len(values)
    lines = np.ascontiguousarray(np.moveaxis(values, 0, -1), dtype=values.dtype.newbyteorder("="))
    low, high = (number - 1) // 2, number // 2
    parted = np.partition(lines, (low, high), axis=-1)
    made = (parted[..., low].astype(float) + parted[..., high]) / 2.0
    bad = ~good.all(axis=0)
    for place in zip(*np.nonzero(bad), strict=True):
        some = lines[place][good[(slice(None), *place)]]
        made[place] = np.median(some.astype(float)) if some.size else np.nan
    return made


def median_variance(number: NDArray[np.int_]) -> NDArray[np.float64]:
    """Variance of the median of so many values over the variance of one."""
    many = np.pi / (2.0 * number + np.where(number % 2, 1.0, 2.6))
    return np.where(number <= 2, 1.0 / number, many)
