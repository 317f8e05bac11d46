"""Fits of the background in each row by a polynomial or median, and their response to each pixel.

The response is the derivative of the fitted background, summed over the aperture, with respect to
the value of the pixel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glue_lrs.apertures.weights import weighted_sum

#: Ratio of the standard deviation of a median to that of a mean, as assumed in the pipeline.
MEDIAN_FACTOR = 1.2

#: Largest condition number of the normal matrix for which a row is fitted. In other rows, the
#: background is 0.
MAX_CONDITION = 1e10

#: Number of columns whose variances are converted to double precision at a time, to limit the
#: memory.
_SPREAD_COLUMNS = 24

#: Condition number of the normal matrix up to which rounding errors, and therefore the order in
#: which pixels are added, have no noticeable effect on the fit.
SAFE_CONDITION = 1e4


class BackgroundFit(NamedTuple):
    """Fitted background of a block of rows, and its derivatives with respect to the pixels.

    Parameters
    ----------
    coefficients : ndarray or None
        Coefficients of the polynomial in x, shape (..., row, order + 1), where x is the column
        coordinate from -1 to 1 across the image. None for a median.
    level : ndarray or None
        Median, shape (..., row). None for a polynomial.
    used : ndarray of bool
        Mask of the fitted pixels, shape (..., row, column).
    response : ndarray
        Derivative K of the background summed over the aperture with respect to each fitted pixel.
        For a median, it is that of a mean times `MEDIAN_FACTOR`. Its shape is (..., row, column),
        or (..., row, 1) if it is the same for all pixels in a row.
    empty : ndarray of bool
        Mask of the rows in which no background could be fitted, shape (..., row).
    """

    coefficients: NDArray[np.float64] | None
    level: NDArray[Any] | None
    used: NDArray[np.bool_]
    response: NDArray[np.float64]
    empty: NDArray[np.bool_]

    def variance(self, variance: NDArray[Any]) -> NDArray[np.float64]:
        """Return the variance of the background summed over the aperture.

        It is the sum over the fitted pixels of the variance times K^2, the squared `response`.

        Parameters
        ----------
        variance : ndarray
            Variance of each background pixel, shape (..., row, column). The array is modified:
            pixels that are not fitted are set to 0.

        Returns
        -------
        ndarray
            Variance in each row, shape (..., row).
        """
        np.copyto(variance, 0.0, where=~self.used)
        return spread(variance, np.square(self.response))


def spread(variance: NDArray[Any], gain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum over columns of variances times squared responses.

    Parameters
    ----------
    variance : ndarray
        Variance of each pixel, shape (..., row, column). It must be 0 in pixels that are not
        fitted.
    gain : ndarray
        Square of `BackgroundFit.response`.

    Returns
    -------
    ndarray
        Sum in each row, shape (..., row).
    """
    width = variance.shape[-1]
    # Converting all columns to double precision at once would increase the peak memory.
    if width > _SPREAD_COLUMNS:
        half = width // 2
        return spread(variance[..., :half], gain[..., :half]) + spread(
            variance[..., half:], gain[..., -1:] if gain.shape[-1] == 1 else gain[..., half:]
        )
    part = variance.astype(float)
    if gain.shape[-1] > 1:
        return np.einsum("...c,...c->...", part, gain)
    total = weighted_sum(part, np.ones((1, width)))
    total *= gain[..., 0]
    return total


def fit_median(
    values: NDArray[Any],
    region: NDArray[np.bool_],
    invalid: NDArray[np.bool_],
    aperture: NDArray[np.float64],
) -> BackgroundFit:
    """Fit the background in each row by the median of the pixels within the regions.

    NaN values are excluded. `values` are the pixels, smoothed or not, and `aperture` is the sum of
    the aperture weights in each row, shape (row,) or (1,). The other parameters are described in
    `Background.fit`.
    """
    full = bool(region.all())
    ordered = values.copy() if full else np.where(region, values, values.dtype.type(np.nan))
    ordered.sort(axis=-1)  # sorts NaN to the end of each row
    width = ordered.shape[-1]
    if np.isnan(ordered[..., -1]).any():
        number = _count(~np.isnan(ordered))
        low, high = np.maximum(number - 1, 0) // 2, np.minimum(number // 2, width - 1)
        start = np.arange(0, ordered.size, width).reshape(number.shape)
        flat = ordered.reshape(-1)
        level, empty = _middle(flat.take(start + low), flat.take(start + high)), number == 0
        del flat
    else:
        level = _middle(ordered[..., (width - 1) // 2], ordered[..., width // 2])
        empty = np.zeros(level.shape, dtype=bool)
    del ordered
    used = ~invalid
    if not full:
        used &= region
    scale = MEDIAN_FACTOR * aperture / np.maximum(_count(used), 1)
    return BackgroundFit(None, level, used, scale[..., np.newaxis], empty)


def _count(used: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the number of used pixels in each row, by counting the unused ones, which are few."""
    width = used.shape[-1]
    missing = np.flatnonzero(~used)
    missing //= width
    return (width - np.bincount(missing, minlength=used.size // width)).reshape(used.shape[:-1])


def _middle(low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """Return the mean of two values in the precision of the data, as in `numpy.nanmedian`."""
    with np.errstate(invalid="ignore"):  # for the sum of -inf and inf
        return (low + high) / low.dtype.type(2)


def fit_polynomial(
    values: NDArray[Any],
    used: NDArray[np.bool_],
    x: NDArray[np.float64],
    aperture: NDArray[np.float64],
    order: int,
) -> BackgroundFit:
    """Fit the background in each row by a least-squares polynomial through the used pixels.

    `values` are the pixels, smoothed or not, `used` is the mask of those to fit, with the same
    shape, and `order` is the order of the polynomial. `x` and `aperture` are as in
    `Background.fit`.
    """
    target = values.astype(float)
    np.copyto(target, 0.0, where=~used)
    if order == 0:
        mean = weighted_sum(target, np.ones((1, used.shape[-1])))
        del target
        count = _count(used)
        inverse = np.divide(1.0, count, out=np.zeros(count.shape), where=count > 0)
        mean *= inverse
        response = (aperture[:, 0] * inverse)[..., np.newaxis]
        return BackgroundFit(mean[..., np.newaxis], None, used, response, count == 0)
    basis = np.vander(x, order + 1, increasing=True)
    which, inverses, condition = _invert(used, basis)
    if condition.max() < SAFE_CONDITION:
        projected = target @ basis
    else:
        # With a large condition number, rounding errors are amplified. The terms are added in the
        # same order as in the pipeline, so that the rounding errors are the same.
        projected = np.einsum("...ji,...j->...i", basis, target)
    del target
    coefficients = np.einsum("...ij,...j->...i", inverses[which], projected)
    # If all rows have the same aperture weights, the response is computed only once for all rows
    # in which the same columns are used.
    if len(aperture) == 1:
        response = (np.einsum("pij,i->pj", inverses, aperture[0]) @ basis.T)[which]
    else:
        by_order = np.einsum("...ij,...i->...j", inverses[which], aperture)
        response = by_order @ basis.T
    empty = (condition >= MAX_CONDITION)[which]
    return BackgroundFit(coefficients, None, used, response, empty)


def _invert(
    used: NDArray[np.bool_], basis: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Invert the normal matrices of all rows.

    In most rows the same columns are used, so that the matrix for each combination (pattern) of
    used columns is inverted only once. The function returns the index of the pattern for each row,
    the inverse matrix for each pattern (0 if the matrix is ill-conditioned), and the condition
    number for each pattern.
    """
    rows = used.reshape(-1, used.shape[-1])
    bits = np.packbits(rows, axis=1)
    patterns = np.zeros((len(bits), -(-bits.shape[1] // 8) * 8), dtype=np.uint8)
    patterns[:, : bits.shape[1]] = bits
    words = patterns.view(np.uint64)
    # np.unique is many times faster for a 1-d array than for the rows of a 2-d array.
    axis = None if words.shape[1] == 1 else 0
    _, first, which = np.unique(words, axis=axis, return_index=True, return_inverse=True)
    matrices = np.empty((first.size, basis.shape[1], basis.shape[1]))
    step = max(len(rows) // 8, 16)  # limits the memory if most rows have different patterns
    for start in range(0, first.size, step):
        masked = basis * rows[first[start : start + step]][..., np.newaxis]
        np.einsum("lji,ljk->lik", masked, masked, out=matrices[start : start + step])
        del masked
    with np.errstate(divide="ignore", invalid="ignore"):
        condition = np.linalg.cond(matrices)
    condition[np.isnan(condition)] = np.inf
    solvable = condition < MAX_CONDITION
    inverses = np.zeros_like(matrices)
    inverses[solvable] = np.linalg.inv(matrices[solvable])
    return which.reshape(used.shape[:-1]), inverses, condition
