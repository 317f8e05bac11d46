"""Outlier rejection, before a fit by comparison with neighbouring rows and afterwards by residuals.

`glue_lrs.measure` rejects outliers by different rules (`SourceModel.reject`): it compares residuals
with their running median and scatter, and may use rejected pixels again. If both fits used the same
rules, the results of one fit would change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.ndimage import binary_opening, maximum_filter1d

from glue_lrs._utils.statistics import SIGMA_PER_MAD, nanmedian
from glue_lrs._utils.typing import Array, Mask
from glue_lrs.fitting.cutout import PixelPlanes
from glue_lrs.fitting.least_squares import fit_rows, residuals

#: Index of selected pixels: an array of row numbers and an array of column numbers.
PixelIndex = tuple[NDArray[np.intp], NDArray[np.intp]]

#: Index that selects no pixels.
NO_PIXELS: PixelIndex = (np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp))

#: Largest accepted difference of a pixel from the median of the neighbouring rows in its column:
#: the sum of `_SPIKE` standard deviations and the fraction `_SPIKE_FRACTION` of the median, which
#: allows for gradients of the spectrum.
_SPIKE, _SPIKE_FRACTION = 8.0, 0.5

#: Groups of many rows: number of ranges of rows, smallest value in units of the largest median of a
#: column in a range and its neighbours, and number of columns from which on a group may be a line.
_PARTS, _GROUP, _WIDE = 4, 3.0, 3

#: Largest number of pixels that are rejected in each row of the image, one after the other.
_ROUNDS = 12

#: Number of rows to each side from which the fluxes in a row with outliers are predicted.
_NEIGHBOURS = 4

#: A pixel belongs to the core if the model is above this fraction of its peak in the row.
_CORE = 0.3

#: Upper limit for the leverage of a pixel on the flux in its row.
MAX_LEVERAGE = 0.9


# --- before a fit --------------------------------------------------------------------------------


def reject_spikes(pixels: PixelPlanes, half: int = 3) -> PixelPlanes:
    """Reject pixels that deviate from the median of `half` rows to either side.

    This is suitable for fits of profiles and positions but not of fluxes, because narrow emission
    lines may be rejected too.
    """
    values = np.where(pixels.good, pixels.data, np.nan)
    padded = np.pad(values, ((half, half), (0, 0)), constant_values=np.nan)
    stacked = np.sort(sliding_window_view(padded, 2 * half + 1, axis=0), axis=-1)
    count = np.isfinite(stacked).sum(axis=-1, keepdims=True)
    middle = np.take_along_axis(stacked, np.maximum(count - 1, 0) // 2, axis=-1)
    middle = np.where(count > 0, middle, 0.0)[..., 0]
    limit = _SPIKE * np.sqrt(pixels.variance) + _SPIKE_FRACTION * np.abs(middle)
    good = pixels.good & ~(np.abs(pixels.data - middle) > limit)
    good &= ~_narrow_groups(pixels, good)
    return replace(pixels, good=good, data=np.where(good, pixels.data, 0.0))


def _narrow_groups(pixels: PixelPlanes, good: Mask) -> Mask:
    """Return the mask of pixels in groups of many rows that are narrower than a source.

    They are hot columns or traces of cosmic rays, longer than half of the window of
    `reject_spikes`. An emission line that is as bright has the width of the source.
    """
    values, level = np.where(good, pixels.data, np.nan), np.zeros(good.shape)
    parts = np.array_split(np.arange(len(good)), min(_PARTS, len(good)))
    medians = np.abs([np.nan_to_num(nanmedian(values[part], axis=0)) for part in parts])
    for part, largest in zip(parts, maximum_filter1d(medians, 3, axis=0), strict=True):
        level[part] = largest
    group = good & (np.abs(pixels.data) > _SPIKE * np.sqrt(pixels.variance) + _GROUP * level)
    wide = binary_opening(group, np.ones((1, _WIDE)))
    return group & ~wide


#: Number of rows to either side with whose residuals in the same column a residual is compared.
_COMPARED_ROWS = 6


def differs_from_neighbours(deviation: Array, good: Mask, threshold: float) -> Mask:
    """Return the mask of residuals that are unlike those in neighbouring rows of the same column.

    Residuals due to a wrong model are alike in many rows, in contrast to those due to cosmic rays
    and bad pixels.

    Parameters
    ----------
    deviation : ndarray
        Residuals in standard deviations, shape (row, column).
    good : ndarray of bool
        Pixels that take part in the fit, shape (row, column).
    threshold : float
        Difference from the median of the neighbours above which a residual is unlike them. Its unit
        is the larger of the standard deviation of the noise and the scatter of the neighbours.
    """
    row, column = np.nonzero(good & (np.abs(deviation) > 0.8 * threshold))
    half = min(_COMPARED_ROWS, (len(deviation) - 1) // 2)
    middle = np.clip(row, half, len(deviation) - 1 - half)
    rows = middle[:, np.newaxis] + np.arange(-half, half + 1)
    others = np.where(good, deviation, np.nan)[rows, column[:, np.newaxis]]
    center = _median(others)
    scatter = SIGMA_PER_MAD * _median(np.abs(others - center[:, np.newaxis]))
    unlike = np.abs(deviation[row, column] - center) > threshold * np.maximum(scatter, 1.0)
    out = np.zeros(deviation.shape, dtype=bool)
    out[row[unlike], column[unlike]] = True
    return out


def _median(values: Array) -> Array:
    """Return the (lower) median of each row, ignoring NaN. This is faster than NumPy's function."""
    ordered = np.sort(values, axis=1)
    middle = (np.isfinite(ordered).sum(axis=1) - 1) // 2
    return np.asarray(ordered[np.arange(len(ordered)), middle])


# --- after a fit ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FittedRows:
    """Rows of an image, and the fit of a linear model to each row.

    Parameters
    ----------
    data, weight : ndarray
        Values and weights of the pixels, shape (row, column).
    basis : sequence of ndarray
        Profiles of the sources, then terms of the background, each of shape (row, column).
    sources : int
        Number of sources in the basis, including negative traces.
    variance, model_error : ndarray
        Variance of the noise and squared error of the model, shape (row, column). Their sum is the
        expected squared residual.
    coefficients, inverse : ndarray
        Fitted coefficients (row, term) and inverse normal matrices (row, term, term).
    """

    data: Array
    weight: Array
    basis: Sequence[Array]
    sources: int
    variance: Array
    model_error: Array
    coefficients: Array
    inverse: Array

    @classmethod
    def fit(
        cls,
        data: Array,
        weight: Array,
        basis: Sequence[Array],
        sources: int,
        variance: Array,
        model_error: Array,
    ) -> FittedRows:
        """Fit the basis to each row of the data."""
        fit = fit_rows(basis, weight, data, ridge_from=2)
        return cls(data, weight, basis, sources, variance, model_error, *fit)

    def again(self, rows: NDArray[np.intp], weight: Array) -> FittedRows:
        """Return a new fit of some of the rows with other weights, shape (row, column)."""
        data, basis = self.data[rows], [field[rows] for field in self.basis]
        errors = self.variance[rows], self.model_error[rows]
        return self.fit(data, weight, basis, self.sources, *errors)

    def scores(self) -> tuple[Array, Array]:
        """Return the squared residuals, divided by two kinds of expected values.

        Returns
        -------
        scores : ndarray
            Ratio to the sum of the variances of noise and model error, shape (row, column); 0 at
            pixels without weight. Large values indicate outliers.
        noise_scores : ndarray
            Ratio to the variance of the noise alone. Its largest value in a row indicates the worst
            outlier.
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

    def reject(self, rows: NDArray[np.intp], threshold: float) -> PixelIndex:
        """Reject outliers in some of the rows and fit these rows again.

        `weight`, `coefficients` and `inverse` are changed in place.

        If a cosmic ray hits two neighbouring pixels, they look like a source, and the good pixels
        around them may be rejected because they are fainter than the fit. Rows in which several
        pixels or a pixel below the fit are rejected are therefore fitted again, without the pixels
        that disagree with a prediction from neighbouring rows. Two predictions are tried: one is
        scaled to the brightness of the core in the row, the other is not scaled. The fit that
        rejects the fewest pixels is used, or one that rejects at most one more if no pixel below
        the fit is then rejected.

        Parameters
        ----------
        rows : ndarray of int
            Rows with outliers.
        threshold : float
            Number of standard deviations above which pixels are rejected.

        Returns
        -------
        tuple of ndarray
            Row and column numbers of rejected pixels.
        """
        if rows.size == 0:
            return NO_PIXELS
        fit = self.again(rows, self.weight[rows])
        rejected = fit._reject_worst(threshold)
        self.coefficients[rows], self.inverse[rows] = fit.coefficients, fit.inverse
        lost_faint = fit._has_faint(rejected)
        doubtful = np.flatnonzero(lost_faint | (rejected.sum(axis=1) > 1))
        again = rows[doubtful]
        for scaled in (True, False) if doubtful.size else ():
            trial = self._unlike_neighbours(again, scaled, threshold)
            other = self.again(again, np.where(trial, 0.0, self.weight[again]))
            trial |= other._reject_worst(threshold)
            more = trial.sum(axis=1) - rejected[doubtful].sum(axis=1)
            still_faint = other._has_faint(trial)
            better = (more < 0) | ((more <= 1) & lost_faint[doubtful] & ~still_faint)
            rejected[doubtful[better]] = trial[better]
            self.coefficients[again[better]] = other.coefficients[better]
            self.inverse[again[better]] = other.inverse[better]
            lost_faint[doubtful[better]] = still_faint[better]
        row, column = np.nonzero(rejected)
        found = (rows[row], column)
        self.weight[found] = 0.0
        return found

    def _reject_worst(self, threshold: float) -> Mask:
        """Reject the worst pixel in each row and fit again, as long as there are outliers.

        Returns the mask of the rejected pixels. `coefficients` and `inverse` are changed in place.
        """
        rejected = np.zeros(self.data.shape, dtype=bool)
        rows, part = np.arange(len(self.data)), self
        for _ in range(_ROUNDS):
            scores, noise_scores = part.scores()
            worst = np.where(scores > threshold**2, noise_scores, 0.0).argmax(axis=1)
            bad = scores[np.arange(worst.size), worst] > threshold**2
            if not bad.any():
                break
            rows = rows[bad]
            rejected[rows, worst[bad]] = True
            part = self.again(rows, np.where(rejected[rows], 0.0, self.weight[rows]))
            self.coefficients[rows], self.inverse[rows] = part.coefficients, part.inverse
        return rejected

    def _has_faint(self, rejected: Mask) -> Mask:
        """Return for each row whether a rejected pixel is below the fit, shape (row,).

        Such a pixel is probably good, because cosmic rays only increase the value of a pixel.
        """
        model = sum(self.coefficients[:, i, np.newaxis] * f for i, f in enumerate(self.basis))
        return np.any(rejected & (self.data < model), axis=1)

    def _unlike_neighbours(self, rows: NDArray[np.intp], scaled: bool, threshold: float) -> Mask:
        """Return a mask of pixels that disagree with a prediction from neighbouring rows.

        If `scaled` is True, the prediction is scaled to the brightness of the core in the row.
        """
        half = min(_NEIGHBOURS, (len(self.data) - 1) // 2)
        middle = np.clip(rows, half, len(self.data) - 1 - half)  # same number of rows at the ends
        near = middle[:, np.newaxis] + np.arange(-half, half + 1)
        typical = np.median(self.coefficients[near], axis=1)
        fields = [typical[:, i, np.newaxis] * field[rows] for i, field in enumerate(self.basis)]
        residual, model = self.data[rows] - sum(fields[self.sources :]), sum(fields[: self.sources])
        good = self.weight[rows] > 0
        if scaled:
            core = good & (np.abs(model) > _CORE * np.abs(model).max(axis=1, keepdims=True))
            share = np.where(core, residual / np.where(core, model, 1.0), np.nan)
            known = core.any(axis=1)
            residual[known] -= np.nanmedian(share[known], axis=1)[:, np.newaxis] * model[known]
        else:
            residual -= model
        # The model error is limited, so that this trial rejects all pixels that may be outliers. If
        # the prediction is wrong, the trial rejects more pixels than the first fit and is not used.
        variance = self.variance[rows]
        allowed = variance + np.minimum(self.model_error[rows], 4.0 * variance)
        return good & (residual**2 > threshold**2 * allowed)
