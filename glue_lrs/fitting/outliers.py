"""Outlier rejection: before a fit by the rows around, after it by the residuals.

The fit of `glue_lrs.measure` has another rejection (`SourceModel.reject`): it scales residuals by
their running medians and readmits pixels. Either rule in both fits would change their results.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glue_lrs.fitting.least_squares import fit_rows, residuals

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.fitting.cutout import PixelPlanes

__all__ = [
    "MAX_LEVERAGE",
    "NO_PIXELS",
    "PixelIndex",
    "reject_outliers",
    "reject_rows",
    "reject_spikes",
]

#: Row and column numbers of pixels.
PixelIndex = tuple[NDArray[np.intp], NDArray[np.intp]]

#: Index of no pixel.
NO_PIXELS: PixelIndex = (np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp))

#: Spikes: tolerance about the median of the rows around, in standard deviations and as a fraction
#: of the median, which allows for gradients of the spectrum.
_SPIKE, _SPIKE_FRACTION = 8.0, 0.5

#: Largest number of pixels that are rejected one by one in a row.
_ROUNDS = 12

#: Rows to each side whose median flux predicts that of a row that is hit.
_NEIGHBOURS = 4

#: Fraction of the row's peak above which a pixel belongs to the core.
_CORE = 0.3

#: Largest leverage of a pixel on the flux of its row.
MAX_LEVERAGE = 0.9


# --- before a fit --------------------------------------------------------------------------------


def reject_spikes(pixels: PixelPlanes, rows: int = 7) -> PixelPlanes:
    """Reject pixels that deviate from the median of neighbouring rows.

    For profiles and positions only, as narrow emission lines may be rejected too.

    Parameters
    ----------
    pixels : PixelPlanes
        The image.
    rows : int
        Number of rows of the median, odd.
    """
    half = rows // 2
    padded = np.full((pixels.data.shape[0] + 2 * half, pixels.data.shape[1]), np.nan)
    padded[half:-half] = np.where(pixels.good, pixels.data, np.nan)
    stacked = np.sort(np.stack([padded[i : i + pixels.data.shape[0]] for i in range(rows)]), axis=0)
    count = rows - np.isnan(stacked).sum(axis=0)
    at = np.maximum(count - 1, 0)[np.newaxis] // 2
    middle = np.take_along_axis(stacked, at, axis=0)[0]
    middle[count == 0] = 0.0
    limit = _SPIKE * np.sqrt(pixels.variance) + _SPIKE_FRACTION * np.abs(middle)
    good = pixels.good & ~(np.abs(pixels.data - middle) > limit)
    return replace(pixels, good=good, data=np.where(good, pixels.data, 0.0))


# --- after a fit ---------------------------------------------------------------------------------


def reject_outliers(
    pixels: PixelPlanes,
    variance: Array,
    model_error: Array,
    basis: list[Array],
    threshold: float | None,
    sources: int,
) -> tuple[PixelPlanes, Array]:
    """Fit each row of a mean and reject outliers.

    Parameters
    ----------
    pixels : PixelPlanes
        The mean.
    variance, model_error : ndarray
        Expected squared residuals: noise, and squared error of the model, shape (row, column).
    basis : list of ndarray
        Profiles of the sources, then the background, each of shape (row, column).
    threshold : float or None
        In standard deviations; None: no pixel is rejected.
    sources : int
        Number of sources in the basis.

    Returns
    -------
    pixels : PixelPlanes
        The mean without outliers.
    coefficients : ndarray
        Shape (row, term).
    """
    weight = pixels.good / variance
    coefficients, inverse = fit_rows(basis, weight, pixels.data, ridge_from=2)
    if threshold is None:
        return pixels, coefficients
    fitted = _FittedRows(pixels.data, weight, basis, variance, model_error, coefficients, inverse)
    rows = np.flatnonzero(fitted.scores()[0].max(axis=1) > threshold**2)
    reject_rows(
        rows, pixels.data, weight, basis, variance, model_error, threshold, coefficients, inverse,
        sources,
    )  # fmt: skip
    return replace(pixels, good=weight > 0), coefficients


def reject_rows(
    rows: NDArray[np.intp],
    data: Array,
    weight: Array,
    basis: list[Array],
    variance: Array,
    model_error: Array,
    threshold: float,
    coefficients: Array,
    inverse: Array,
    sources: int,
) -> PixelIndex:
    """Reject outliers of rows and fit these rows again.

    Two neighbouring pixels that are hit look like a source, and the good pixels around them are
    rejected for having too little light. Rows that lose such a pixel, or several, are therefore
    fitted again without the pixels that disagree with the rows around, first scaled to the
    brightness of the row's core, then as they are. The fit that rejects the fewest pixels is
    used.

    Parameters
    ----------
    rows : ndarray of int
        Rows with outliers.
    data, basis, variance, model_error, threshold, sources
        As of `reject_outliers`.
    weight, coefficients, inverse : ndarray
        Weights, and the fit of all rows with them; all three are changed in place.

    Returns
    -------
    tuple of ndarray
        Row and column numbers of rejected pixels.
    """
    if rows.size == 0:
        return NO_PIXELS

    def fit(part: NDArray[np.intp], start: Array) -> _RowSolution:
        fields = [field[part] for field in basis]
        return _fit_rows_rejecting(
            data[part], start, fields, variance[part], model_error[part], threshold
        )

    def unlike_neighbours(part: NDArray[np.intp], scaled: bool) -> Mask:
        half = min(_NEIGHBOURS, (len(data) - 1) // 2)
        middle = np.clip(part, half, len(data) - 1 - half)  # at the ends: the same number
        typical = np.median(coefficients[middle[:, None] + np.arange(-half, half + 1)], axis=1)
        fields = [typical[:, i, np.newaxis] * field[part] for i, field in enumerate(basis)]
        residual, model = data[part] - sum(fields[sources:]), sum(fields[:sources])
        good = weight[part] > 0
        if scaled:
            core = good & (np.abs(model) > _CORE * np.abs(model).max(axis=1, keepdims=True))
            share = np.where(core, residual / np.where(core, model, 1.0), np.nan)
            known = core.any(axis=1)
            residual[known] -= np.nanmedian(share[known], axis=1)[:, np.newaxis] * model[known]
        else:
            residual -= model
        # A limited model error: a wrong guess is discarded later, as it rejects more pixels.
        allowed = variance[part] + np.minimum(model_error[part], 4.0 * variance[part])
        return np.asarray(good & (residual**2 > threshold**2 * allowed))

    solved = fit(rows, weight[rows])
    coefficients[rows], inverse[rows] = solved.coefficients, solved.inverse
    rejected = np.zeros((rows.size, data.shape[1]), dtype=bool)
    rejected[solved.rejected] = True
    fields = [field[rows] for field in basis]
    lost_faint = _rejects_faint_pixel(rejected, data[rows], fields, coefficients[rows])
    doubtful = np.flatnonzero(lost_faint | (rejected.sum(axis=1) > 1))
    again = rows[doubtful]
    for scaled in (True, False) if doubtful.size else ():
        trial = unlike_neighbours(again, scaled)
        other = fit(again, np.where(trial, 0.0, weight[again]))
        trial[other.rejected] = True
        more = trial.sum(axis=1) - rejected[doubtful].sum(axis=1)
        fields = [field[again] for field in basis]
        still_faint = _rejects_faint_pixel(trial, data[again], fields, other.coefficients)
        better = (more < 0) | ((more <= 1) & lost_faint[doubtful] & ~still_faint)
        rejected[doubtful[better]] = trial[better]
        coefficients[again[better]] = other.coefficients[better]
        inverse[again[better]] = other.inverse[better]
        lost_faint[doubtful[better]] = still_faint[better]
    row, column = np.nonzero(rejected)
    found = (rows[row], column)
    weight[found] = 0.0
    return found


def _rejects_faint_pixel(
    rejected: Mask, data: Array, basis: list[Array], coefficients: Array
) -> Mask:
    """Rows in which a rejected pixel is below the fit, where cosmic rays only add light."""
    model = sum(coefficients[:, i, np.newaxis] * field for i, field in enumerate(basis))
    return np.any(rejected & (data < model), axis=1)


@dataclass(frozen=True, eq=False)
class _RowSolution:
    """Fits of rows, and the index of their rejected pixels."""

    coefficients: Array
    inverse: Array
    rejected: PixelIndex


def _fit_rows_rejecting(
    data: Array,
    weight: Array,
    basis: list[Array],
    variance: Array,
    model_error: Array,
    threshold: float,
) -> _RowSolution:
    """Fit each row; reject the worst pixel of each row with an outlier, and fit that row again.

    `weight` is changed in place: it becomes 0 at rejected pixels.
    """
    coefficients, inverse = fit_rows(basis, weight, data, ridge_from=2)
    rows = np.arange(data.shape[0])
    found: list[PixelIndex] = []
    part = _FittedRows(data, weight, basis, variance, model_error, coefficients, inverse)
    for _ in range(_ROUNDS):
        scores, noise_scores = part.scores()
        worst = np.where(scores > threshold**2, noise_scores, 0.0).argmax(axis=1)
        bad = scores[np.arange(worst.size), worst] > threshold**2
        if not bad.any():
            break
        rows, worst = rows[bad], worst[bad]
        found.append((rows, worst))
        weight[rows, worst] = 0.0
        fields = [field[rows] for field in basis]
        again, inverted = fit_rows(fields, weight[rows], data[rows], ridge_from=2)
        coefficients[rows], inverse[rows] = again, inverted
        part = _FittedRows(
            data[rows], weight[rows], fields, variance[rows], model_error[rows], again, inverted
        )
    if not found:
        return _RowSolution(coefficients, inverse, NO_PIXELS)
    where = (np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found]))
    return _RowSolution(coefficients, inverse, where)


@dataclass(frozen=True, eq=False)
class _FittedRows:
    """Rows and their fits."""

    data: Array
    weight: Array
    basis: list[Array]
    variance: Array
    model_error: Array
    coefficients: Array
    inverse: Array

    def scores(self) -> tuple[Array, Array]:
        """Squared residuals over their expectation with and without the model error.

        0 at pixels without weight. The second is the largest at the pixel that all others disagree
        with.
        """
        residual = residuals(self.data, self.basis, self.coefficients)
        # The fit follows a pixel by its leverage: its residual is smaller than its noise.
        leverage = self.inverse[:, 0, 0, np.newaxis] * self.basis[0] ** 2
        leverage *= self.weight
        np.minimum(leverage, MAX_LEVERAGE, out=leverage)
        expected = self.variance * (1.0 - leverage)
        residual *= residual
        residual *= self.weight > 0
        return residual / (expected + self.model_error), residual / expected
