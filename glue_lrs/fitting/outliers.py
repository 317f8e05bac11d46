"""Outlier rejection, before a fit by comparison with neighbouring rows and afterwards by residuals.

`glue_lrs.measure` rejects outliers by different rules (`SourceModel.reject`): it scales residuals
by their running medians and may use rejected pixels again. If both fits used the same rules, the
results of one fit would change.
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

#: Index of selected pixels: an array of row numbers and an array of column numbers.
PixelIndex = tuple[NDArray[np.intp], NDArray[np.intp]]

#: Index that selects no pixels.
NO_PIXELS: PixelIndex = (np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp))

#: Spikes: largest difference from the median of neighbouring rows. It is the sum of a number of
#: standard deviations (first value) and a fraction of the median, which allows for gradients of the
#: spectrum (second value).
_SPIKE, _SPIKE_FRACTION = 8.0, 0.5

#: Largest number of pixels that are rejected in each row of the image, one after the other.
_ROUNDS = 12

#: Number of rows to each side from which the fluxes in a row with outliers are predicted.
_NEIGHBOURS = 4

#: A pixel belongs to the core if the model is above this fraction of its peak in the row.
_CORE = 0.3

#: Upper limit for the leverage of a pixel on the flux in its row.
MAX_LEVERAGE = 0.9


# --- before a fit --------------------------------------------------------------------------------


def reject_spikes(pixels: PixelPlanes, rows: int = 7) -> PixelPlanes:
    """Reject pixels that deviate from the median of neighbouring rows.

    This is suitable for fits of profiles and positions but not of fluxes, because narrow emission
    lines may be rejected too.

    Parameters
    ----------
    pixels : PixelPlanes
        Image to examine.
    rows : int
        Number of rows in the running median, which must be odd.
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
    """Fit each row of a mean image and reject outliers.

    Parameters
    ----------
    pixels : PixelPlanes
        Mean of the integrations, or a single image.
    variance, model_error : ndarray
        Variance of the noise and squared error of the model, shape (row, column). Their sum is the
        expected squared residual.
    basis : list of ndarray
        Profiles of the sources, then terms of the background, each of shape (row, column).
    threshold : float or None
        Number of standard deviations above which pixels are rejected. If None, no pixel is
        rejected.
    sources : int
        Number of sources in the basis.

    Returns
    -------
    pixels : PixelPlanes
        Image in which outliers are not good.
    coefficients : ndarray
        Fitted coefficients of the basis, shape (row, term).
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
    """Reject outliers in rows and fit these rows again.

    If a cosmic ray hits two neighbouring pixels, they look like a source, and the good pixels
    around them may be rejected because they are fainter than the fit. Rows in which several pixels
    or a pixel below the fit are rejected are therefore fitted again, without the pixels that
    disagree with a prediction from neighbouring rows. Two predictions are tried: one is scaled to
    the brightness of the core in the row, the other is not scaled. The fit that rejects the fewest
    pixels is used.

    Parameters
    ----------
    rows : ndarray of int
        Rows with outliers.
    data, basis, variance, model_error, threshold, sources
        See `reject_outliers`.
    weight, coefficients, inverse : ndarray
        Weights of the pixels (row, column), and coefficients (row, term) and inverse normal
        matrices (row, term, term) of the fit of all rows. All three are changed in place.

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
        middle = np.clip(part, half, len(data) - 1 - half)  # same number of rows at the ends
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
        # The model error is limited, so that all doubtful pixels are rejected in this trial. If the
        # prediction is wrong, the trial rejects more pixels than the first fit and is not used.
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
    """Return whether a rejected pixel in each row is below the fit, shape (row,).

    Such a pixel is probably good, because cosmic rays only increase the value of a pixel.
    """
    model = sum(coefficients[:, i, np.newaxis] * field for i, field in enumerate(basis))
    return np.any(rejected & (data < model), axis=1)


@dataclass(frozen=True, eq=False)
class _RowSolution:
    """Result of `_fit_rows_rejecting`: coefficients, inverse matrices and rejected pixels."""

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
    """Fit each row, and repeat the fit without the worst pixel as long as there are outliers.

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
    """Data, weights and model of rows, with the coefficients of their fits."""

    data: Array
    weight: Array
    basis: list[Array]
    variance: Array
    model_error: Array
    coefficients: Array
    inverse: Array

    def scores(self) -> tuple[Array, Array]:
        """Return the ratio of squared residuals to their expectation, for two expectations.

        Returns
        -------
        scores : ndarray
            Ratio to the sum of noise and model error, shape (row, column); 0 at pixels without
            weight. Large values indicate outliers.
        noise_scores : ndarray
            Ratio to the noise alone. Its largest value in a row indicates the worst outlier.
        """
        residual = residuals(self.data, self.basis, self.coefficients)
        # The fit follows each pixel in proportion to its leverage, which reduces its residual.
        leverage = self.inverse[:, 0, 0, np.newaxis] * self.basis[0] ** 2
        leverage *= self.weight
        np.minimum(leverage, MAX_LEVERAGE, out=leverage)
        expected = self.variance * (1.0 - leverage)
        residual *= residual
        residual *= self.weight > 0
        return residual / (expected + self.model_error), residual / expected
