"""Background fits: polynomial or median of each row, and their response to each pixel."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glue_lrs.apertures.weights import weighted_sum

__all__ = ["MAX_CONDITION", "BackgroundFit", "fit_median", "fit_polynomial", "spread"]

#: The pipeline's estimate of the standard deviation of a median over that of a mean.
MEDIAN_FACTOR = 1.2

#: Normal matrices with a larger condition number are not solved; the background is 0 there.
MAX_CONDITION = 1e10

#: Columns of variances that are summed at once.
_SPREAD_COLUMNS = 24

#: Up to this condition number it does not matter in what order numbers are summed.
SAFE_CONDITION = 1e4


class BackgroundFit(NamedTuple):
    """The background of a block of rows, and what its sum over the aperture owes to each pixel.

    Parameters
    ----------
    coefficients : ndarray or None
        Polynomial coefficients in x, which goes from -1 to 1 over the columns of the image; shape
        (..., row, order + 1). None for the median.
    level : ndarray or None
        The median, shape (..., row). None for a polynomial.
    used : ndarray of bool
        The pixels that it was estimated from, shape (..., row, column).
    response : ndarray
        K: how the background summed over the aperture responds to each pixel that is used. Shape
        (..., row, column), or (..., row, 1) where it is the same for all.
    empty : ndarray of bool
        Rows without any background, shape (..., row).
    """

    coefficients: NDArray[np.float64] | None
    level: NDArray[Any] | None
    used: NDArray[np.bool_]
    response: NDArray[np.float64]
    empty: NDArray[np.bool_]

    def variance(self, variance: NDArray[Any]) -> NDArray[np.float64]:
        """Variance of the background summed over the aperture: sum K^2 var.

        Parameters
        ----------
        variance : ndarray
            Variance of each pixel of the window, shape (..., row, column). It is used up: pixels
            that are not used become 0.
        """
        np.copyto(variance, 0.0, where=~self.used)
        return spread(variance, np.square(self.response))


def spread(variance: NDArray[Any], gain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of variances times squared responses over the columns.

    Parameters
    ----------
    variance : ndarray
        Shape (..., row, column), 0 at pixels that are not used.
    gain : ndarray
        Squares of `BackgroundFit.response`.
    """
    width = variance.shape[-1]
    if width > _SPREAD_COLUMNS:  # double precision takes memory: some columns at a time
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
    whole = bool(region.all())
    ordered = values.copy() if whole else np.where(region, values, values.dtype.type(np.nan))
    ordered.sort(axis=-1)  # NaN last
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
    if not whole:
        used &= region
    scale = MEDIAN_FACTOR * aperture / np.maximum(_count(used), 1)
    return BackgroundFit(None, level, used, scale[..., np.newaxis], empty)


def _count(used: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Number of pixels that are used in each row; made for there being few that are not."""
    width = used.shape[-1]
    missing = np.flatnonzero(~used)
    missing //= width
    return (width - np.bincount(missing, minlength=used.size // width)).reshape(used.shape[:-1])


def _middle(low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """Mean of the two middle values, in the data's own precision as numpy's nanmedian has it."""
    with np.errstate(invalid="ignore"):  # -inf + inf
        return (low + high) / low.dtype.type(2)


def fit_polynomial(
    values: NDArray[Any],
    used: NDArray[np.bool_],
    x: NDArray[np.float64],
    aperture: NDArray[np.float64],
    order: int,
) -> BackgroundFit:
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
        # Summed column by column like the normal matrices: what a condition number multiplies are
        # then the pipeline's own rounding errors.
        projected = np.einsum("...ji,...j->...i", basis, target)
    del target
    coefficients = np.einsum("...ij,...j->...i", inverses[which], projected)
    if len(aperture) == 1:  # once for each pattern
        response = (np.einsum("pij,i->pj", inverses, aperture[0]) @ basis.T)[which]
    else:
        by_order = np.einsum("...ij,...i->...j", inverses[which], aperture)
        response = by_order @ basis.T
    empty = (condition >= MAX_CONDITION)[which]
    return BackgroundFit(coefficients, None, used, response, empty)


def _invert(
    used: NDArray[np.bool_], basis: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Inverse normal matrices, zero where they are ill-conditioned.

    Most rows use the same pixels: the matrix of each pattern is inverted once. Returned are the
    number of each row's pattern, the inverse of each pattern, and its condition number.
    """
    rows = used.reshape(-1, used.shape[-1])
    bits = np.packbits(rows, axis=1)
    patterns = np.zeros((len(bits), -(-bits.shape[1] // 8) * 8), dtype=np.uint8)
    patterns[:, : bits.shape[1]] = bits
    words = patterns.view(np.uint64)
    # A single word is found many times faster than a row of them.
    axis = None if words.shape[1] == 1 else 0
    _, first, which = np.unique(words, axis=axis, return_index=True, return_inverse=True)
    matrices = np.empty((first.size, basis.shape[1], basis.shape[1]))
    step = max(len(rows) // 8, 16)  # patterns at once: as many as rows would take much memory
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
