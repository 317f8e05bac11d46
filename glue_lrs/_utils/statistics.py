"""Medians, and running sums, means and medians along the rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask

#: Ratio of a standard deviation to the median absolute deviation of a normal distribution.
SIGMA_PER_MAD = 1.4826

#: Signal-to-noise ratio that `smooth_flux` tries to reach by averaging rows.
_SMOOTH_SNR = 10.0


# --- medians -------------------------------------------------------------------------------------


def median(values: Array) -> float:
    """Return the median of a 1-D array that contains no NaN.

    This is faster than `numpy.median`, which checks for NaN.
    """
    low, high = (values.size - 1) // 2, values.size // 2
    ordered = np.partition(values, (low, high))
    return float(0.5 * (ordered[low] + ordered[high]))


def nanmedian(values: Array, axis: int) -> Array:
    """Return the median along an axis, ignoring NaN, or NaN where all values are NaN."""
    ordered = np.sort(values, axis=axis)
    count = np.isfinite(values).sum(axis=axis, keepdims=True)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[axis] - 1)
    both = np.take_along_axis(ordered, low, axis), np.take_along_axis(ordered, high, axis)
    return np.squeeze((both[0] + both[1]) / 2.0, axis=axis)


def masked_median(values: NDArray[Any], good: Mask) -> Array:
    """Return the median of the good values along the first axis, or NaN where no value is good.

    `good` has the shape of the values, or the length 1 along the first axis.
    """
    number, shape = len(values), values.shape[1:]
    lines = values.astype(values.dtype.newbyteorder("="), copy=False).reshape(number, -1)
    good = good.reshape(len(good), -1)
    partly = np.flatnonzero(~good.all(axis=0))
    some = partly.size < lines.shape[1]
    if some:
        ordered = np.sort(lines, axis=0)  # many times faster than a partition at two places
        out = (ordered[(number - 1) // 2].astype(float) + ordered[number // 2]) / 2.0
        lines, good = np.take(lines, partly, axis=1), np.take(good, partly, axis=1)
    ordered = np.where(good, lines, np.inf)
    ordered.sort(axis=0)
    count = np.broadcast_to(good, lines.shape).sum(axis=0)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, number - 1)
    pixels = np.arange(partly.size)
    middle = (ordered[low, pixels].astype(float) + ordered[high, pixels]) / 2.0
    middle[count == 0] = np.nan
    if some:
        out[partly] = middle
    return (out if some else middle).reshape(shape)


def median_variance(number: NDArray[np.int_]) -> Array:
    """Return the ratio of the variance of a median of `number` values to that of a single value.

    The values have a normal distribution. The ratio approaches pi / (2 number) for large samples,
    and is corrected for small samples.
    """
    many = np.pi / (2.0 * number + np.where(number % 2, 1.0, 2.6))
    return np.where(number <= 2, 1.0 / number, many)


# --- along the rows ------------------------------------------------------------------------------


def row_level(values: Array, mask: Mask) -> Array:
    """Return the median of the pixels that `mask` selects in each row, shape (row, 1).

    For an even number of pixels, the lower of the two middle values is used. Where the median is
    not positive, it is replaced by interpolation between the other rows, or by 1 if no row has a
    positive median.
    """
    ordered = np.sort(np.where(mask, values, np.inf), axis=1)
    count, rows = mask.sum(axis=1), np.arange(len(values))
    middle = ordered[rows, np.maximum(count - 1, 0) // 2]
    known = (count > 0) & np.isfinite(middle) & (middle > 0)
    if not known.any():
        return np.ones((len(values), 1))
    return np.interp(rows, rows[known], middle[known])[:, np.newaxis]


def running_sum(values: Array, half: int) -> Array:
    """Return the running sum over rows (the first axis): each row and `half` rows on either side.

    Near the first and the last row, the sum includes fewer rows.
    """
    rows = values.shape[0]
    total = np.zeros((rows + 2 * half + 1, *values.shape[1:]))
    inner = slice(half + 1, half + 1 + rows)
    np.cumsum(values, axis=0, out=total[inner])
    total[inner.stop :] = total[inner.stop - 1]
    return np.asarray(total[2 * half + 1 :] - total[:rows])


def running_mean(values: Array, good: Mask, half: int) -> Array:
    """Return the running mean of good pixels in each row and `half` rows on either side.

    The mean is 0 if no pixel is good. Bad pixels must have the value 0.
    """
    total, count = running_sum(values, half), running_sum(good.astype(float), half)
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0.5)


def running_median(values: Array, good: Mask, length: int) -> Array:
    """Return the running median of good pixels over `length` rows, or NaN if no pixel is good.

    The median includes each row and ``length // 2`` rows on either side.
    """
    half = min(length, 2 * values.shape[0] - 1) // 2
    padded = np.full((values.shape[0] + 2 * half, values.shape[1]), np.nan)
    padded[half : half + values.shape[0]] = np.where(good, values, np.nan)
    return nanmedian(sliding_window_view(padded, 2 * half + 1, axis=0), axis=-1)


def smooth_flux(flux: Array, variance: Array) -> Array:
    """Smooth the flux of a spectrum by a running mean with inverse-variance weights.

    The number of averaged rows is chosen so that the signal-to-noise ratio becomes about 10. If the
    ratio is already higher, the flux is returned unchanged. The smooth flux serves to compute
    weights, which must not depend on the noise in single rows.

    Parameters
    ----------
    flux, variance : ndarray
        Flux in each row and its variance, shape (row,). Rows whose variance is not greater than 0
        are ignored.
    """
    known = (variance > 0) & np.isfinite(variance)
    if not known.any():
        return flux
    signal = np.maximum(flux[known] ** 2 / variance[known] - 1.0, 0.0)
    snr = math.sqrt(max(float(np.median(signal)), 0.25 * float(np.mean(signal)), 1e-4))
    length = int(min(math.ceil((_SMOOTH_SNR / snr) ** 2), 2 * flux.size - 1))
    if length <= 1:
        return flux
    half = length // 2
    kernel = np.ones(2 * half + 1)
    weight = np.where(known, 1.0 / np.where(known, variance, 1.0), 0.0)
    return _convolve(flux * weight, kernel) / np.maximum(_convolve(weight, kernel), 1e-300)


def _convolve(values: Array, kernel: Array) -> Array:
    half = kernel.size // 2
    return np.convolve(values, kernel)[half : half + values.size]
