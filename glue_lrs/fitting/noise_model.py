"""Variance models and model-error floors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.statistics import median, row_level, running, window
from glue_lrs.fitting.least_squares import solve_rows

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.fitting.cutout import MeanCutout

__all__ = ["model_error_floor", "model_variance", "nod_variance"]

#: What a negative trace may be wrong by, as a fraction of itself: its core, and so many columns
#: from it, where the other nod may end and half of it be missing.
_UNSURE, _UNSURE_WINGS, _WINGS = 0.02, 0.5, 4.0


def nod_variance(negative: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared doubt of a negative trace so far from its middle: parts of it may be missing."""
    doubt = np.where(np.abs(offset) < _WINGS, _UNSURE, _UNSURE_WINGS) * negative
    return np.asarray(doubt * doubt)


#: Rows to each side over which the model of the variances is averaged.
_SMOOTH = 8

#: What the model may be wrong by, as a fraction of the profile's peak.
_TOLERANCE = 0.004

#: Least that it is taken to be wrong by, in standard deviations of a pixel.
_LEAST = 0.3

#: Standard deviations by which a pixel can disagree with a profile, where that is measured.
_HELD = 4.0

#: Least error of a profile, as a fraction of its peak, as far as weights are concerned: without it
#: the faintest wings of the brightest sources would count as much as the core.
_BELIEF = 1e-4


def model_variance(
    start: MeanCutout,
    inner: slice,
    lit: list[NDArray[np.float64]],
    positives: int,
    behind: list[NDArray[np.float64]],
    traces: NDArray[np.float64],
) -> tuple[NDArray[np.float64], _Doubt, NDArray[np.float64]]:
    """Variance of each pixel of one integration as a smooth function of the model.

    The photon noise is a + g |source| in each row, the flat field's f model^2, with a, g and f
    averaged over rows; the read noise is the pixel's own, which owes nothing to the data.

    Returns
    -------
    variance : ndarray
        Shape (row, column), more than 0.
    doubt : _Doubt
        Tells what the model's inaccuracy adds to squared residuals.
    added : ndarray
        What it adds, shape (row, column).
    """
    from scipy.ndimage import median_filter

    pixels = start.pixels
    data, good, x = pixels.data[:, inner], pixels.good[:, inner], pixels.columns[inner]
    weight = good / pixels.variance[:, inner]
    basis = [*lit, *behind]
    coefficients, _ = solve_rows(data, weight, basis)
    residual = data.copy()
    for i, field in enumerate(basis):
        residual -= coefficients[:, i, np.newaxis] * field
    kept = good & (residual**2 * weight < 25.0 + (0.1 * coefficients[:, :1] * lit[0]) ** 2 * weight)
    smooth = running(coefficients, np.ones(coefficients.shape, dtype=bool), 3)
    source, whole = np.zeros_like(data), np.zeros_like(data)
    for i, field in enumerate(basis):
        whole += smooth[:, i, np.newaxis] * field
        if i < len(lit):
            source += np.abs(smooth[:, i, np.newaxis]) * field
    poisson, rnoise, flat = (
        None if v is None else v[:, inner] * (start.number if i < 2 else 1)
        for i, v in enumerate(start.variances)
    )
    total = np.zeros_like(data)
    mask = kept.astype(float)
    if poisson is not None:
        total += _photon_noise(poisson, source, kept, lit)
    if rnoise is not None:
        known = good & (rnoise > 0)
        typical = running(np.where(known, rnoise, 0.0), known, _SMOOTH)
        total += np.where(known, rnoise, typical)
    if flat is not None:
        square = whole**2
        top = window((mask * square * flat).sum(axis=1), _SMOOTH)
        low = window((mask * square**2).sum(axis=1), _SMOOTH)
        total += np.divide(top, low, out=np.zeros_like(top), where=low > 0)[:, np.newaxis] * square
    some = total[good]
    if not (some > 0).any():
        total[...] = 1.0
    else:
        np.maximum(total, 1e-2 * median(some[some > 0]), out=total)
    peak = np.max([np.abs(smooth[:, i]) * f.max(axis=1) for i, f in enumerate(lit)], axis=0)
    for i in range(positives, len(lit)):
        total += nod_variance(smooth[:, i, np.newaxis] * lit[i], x - traces[i][:, np.newaxis])
    weighing = total + (_BELIEF * peak[:, np.newaxis]) ** 2
    # Where errors are too small, as those of resampled images are, more must be allowed for.
    stretch = 1.0
    near = kept & (lit[0] > 0.05)
    if start.number == 1 and near.sum() > 50:
        stretch = max(1.0, 2.198 * float(np.median((residual**2 / total)[near])))
    # Fluxes that a cosmic ray has driven up must not make room for it.
    flux = np.abs(coefficients[:, 0])
    flux = np.minimum(flux, 3.0 * median_filter(flux, 9, mode="nearest"))
    ceiling = (_TOLERANCE * lit[0].max(axis=1) * flux)[:, np.newaxis] ** 2
    doubt = _Doubt(total * stretch, np.broadcast_to(ceiling, total.shape), stretch, start.number)
    return weighing, doubt, doubt.of(residual, kept)


@dataclass(frozen=True, eq=False)
class _Doubt:
    """What the model's inaccuracy adds to squared residuals, by what neighbouring rows show.

    Parameters
    ----------
    variance : ndarray
        What squared residuals of one integration are expected to be, times `stretch`.
    ceiling : ndarray
        The most that the model is taken to be wrong by, squared.
    stretch : float
        How much larger squared residuals are than the variances say.
    number : int
        Integrations of which the residuals are the mean.
    """

    variance: NDArray[np.float64]
    ceiling: NDArray[np.float64]
    stretch: float
    number: int

    def of(self, residual: NDArray[np.float64], kept: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The doubt that residuals of pixels that are kept give, shape (row, column)."""
        mask = kept.astype(float)
        away = residual / np.sqrt(self.variance / self.number)
        away = np.clip(away, -_HELD, _HELD) * mask
        # What is wrong with a profile is so in neighbouring rows as well; in the last ones, where
        # the wavelength changes fast, in fewer of them.
        count, mean = window(mask, _SMOOTH), np.abs(window(away, _SMOOTH))
        mean /= np.maximum(count, 1.0)
        for end in (slice(None, 3), slice(-3, None)):
            near = np.abs(window(away[end], 1)) / np.maximum(window(mask[end], 1), 1.0)
            mean[end] = np.maximum(mean[end], near)
        mean *= 2.0 / (1.0 - np.minimum(mean / _HELD, 0.9))
        found = np.minimum(self.ceiling, self.variance * (_LEAST**2 + mean**2))
        found = np.where(count > 0, found, self.ceiling)
        return np.asarray(found + (1.0 - 1.0 / self.stretch) * self.variance)


def _photon_noise(
    variance: NDArray[np.float64],
    source: NDArray[np.float64],
    mask: NDArray[np.bool_],
    lit: list[NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Least squares variance = a + g source; a of each row, g of some rows; neither below 0."""
    brightest = reduce(np.maximum, lit)
    dark = mask & (brightest < 0.002)
    if np.median(dark.sum(axis=1)) < 6:
        dark = mask & (brightest < 0.02)
    few = dark.sum(axis=1, keepdims=True) < 4
    level = row_level(variance, np.where(few, mask, dark))
    # In units of the row's level: electrons for a flux change fast at the ends of the spectrum.
    x, y = source / level, variance / level - 1.0
    top = window((mask * x * y).sum(axis=1), _SMOOTH)
    low = window((mask * x * x).sum(axis=1), _SMOOTH)
    gain = np.divide(top, low, out=np.zeros_like(top), where=low > 0)
    return level * (1.0 + np.maximum(gain, 0.0)[:, np.newaxis] * x)


def model_error_floor(variance: Array) -> Array:
    """Variances that are greater than 0."""
    positive = variance[variance > 0]
    least = 1e-3 * float(np.median(positive)) if positive.size else 1.0
    return np.maximum(variance, least)
