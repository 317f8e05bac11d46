"""Variance models: smooth variances for the weights, and the error of the fitted model itself.

The variances in a data product are estimated from the noisy data. If the weights were computed from
these variances, they would be correlated with the noise, and the fluxes would be too low. The
weights are therefore computed from variances that are smooth functions of the fitted model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from glue_lrs._utils.statistics import median, row_level, running_mean, running_sum
from glue_lrs._utils.typing import Array, Mask
from glue_lrs.fitting.cutout import MeanCutout
from glue_lrs.fitting.least_squares import fit_rows, residuals

#: Relative error of the model of a negative trace. It is large in the wings, because they may be
#: beyond the end of the slit in the exposure of the other nod, so that they are missing here.
_NOD_ERROR, _NOD_WING_ERROR, _NOD_CORE = (
    0.02,  # error in the core
    0.5,  # error in the wings
    4.0,  # distance from the trace in columns at which the wings begin
)

#: Number of rows to either side over which gain, flat-field error, read noise and residuals are
#: averaged. These quantities change little over this number of rows.
_SMOOTHED_ROWS = 8

#: Number of rows to either side over which the fluxes in the variance model are averaged.
_SMOOTHED_FLUX_ROWS = 3

#: Smallest variance of a pixel, as a fraction of the median variance.
_LEAST_VARIANCE = 1e-2

#: Largest model error as a fraction of the peak of the profile. The value was chosen empirically.
#: Residuals that can only be explained by a larger model error are outliers.
_MAX_MODEL_ERROR = 0.004

#: Largest model error as a fraction of the peak, per change of the natural logarithm of the
#: wavelength between rows. At the blue end, where the wavelength changes fast, few rows determine
#: the profile. Its width changes at most in proportion to the wavelength.
_MAX_MODEL_CHANGE = 0.5

#: Smallest model error, in standard deviations of a pixel.
_MIN_MODEL_ERROR = 0.3

#: Number of standard deviations at which residuals are clipped before they are averaged to estimate
#: the model error.
_CLIPPED_RESIDUAL = 4.0

#: Additional error of each pixel for the weights, as a fraction of the peak of the profile. Without
#: it, the wings of the brightest sources would have as much weight as the core.
_WEIGHT_ERROR = 1e-4

#: Thresholds on the profile (fraction of the flux on a pixel) for dark and bright pixels.
_DARK, _DARK_CROWDED, _BRIGHT = (
    0.002,  # dark pixels are below this threshold
    0.02,  # threshold for dark pixels if the first threshold results in too few
    0.05,  # bright pixels are above this threshold
)

#: Minimum number of dark pixels.
_FEWEST_DARK, _FEWEST_DARK_ROW = (
    6,  # if the median number per row is smaller, `_DARK_CROWDED` replaces `_DARK`
    4,  # if a row has fewer, all of its pixels are treated as dark
)

#: Ratio of the mean to the median of a chi-square distribution with one degree of freedom.
_PER_MEDIAN_CHI2 = 2.198


def positive_variance(variance: Array) -> Array:
    """Return the variances, raised to at least 1e-3 times the median positive variance."""
    positive = variance[variance > 0]
    least = 1e-3 * float(np.median(positive)) if positive.size else 1.0
    return np.maximum(variance, least)


def peak_light(flux: Array, images: Array) -> Array:
    """Return the largest flux of a source on a pixel in each row, shape (row, 1).

    Parameters
    ----------
    flux : ndarray
        Flux of each source, shape (source, row, 1).
    images : ndarray
        Profile of each source, shape (source, row, column).
    """
    return (np.abs(flux) * images.max(axis=2, keepdims=True)).max(axis=0)


def model_change(wavelength: Array) -> Array:
    """Return an upper limit of the difference between the profiles of neighbouring rows.

    The result, a fraction of the peak of the profile, and `wavelength` in micron have the shape
    (row,).
    """
    return _MAX_MODEL_CHANGE * np.abs(np.gradient(np.log(np.nan_to_num(wavelength, nan=8.0))))


def nod_variance(negative: Array, offset: Array) -> Array:
    """Return the squared error of the model of a negative trace, shape (row, column).

    The error accounts for parts of the negative trace that may be missing in the image.

    Parameters
    ----------
    negative : ndarray
        Model of the negative trace, shape (row, column).
    offset : ndarray
        Distance of each pixel from the trace in columns, shape (row, column).
    """
    error = np.where(np.abs(offset) < _NOD_CORE, _NOD_ERROR, _NOD_WING_ERROR) * negative
    return np.asarray(error * error)


def model_variance(
    mean: MeanCutout, images: Array, positives: int, background: list[Array], offsets: Array
) -> tuple[Array, ModelError, Array]:
    """Model the variance of each pixel in one integration.

    The Poisson variance is a + g |source|, and the flat-field variance is f model^2. The level a is
    computed for each row. The coefficients g and f are computed from neighbouring rows. The
    read-noise variance of each pixel is taken from the image, because it does not depend on the
    data.

    Parameters
    ----------
    mean : MeanCutout
        Mean of the integrations, with its variances.
    images : ndarray
        Profile of each source and negative trace, shape (source, row, column).
    positives : int
        Number of sources, not counting negative traces.
    background : list of ndarray
        Terms of the background, each of shape (row, column).
    offsets : ndarray
        Distance in columns from each source and negative trace to each pixel, with the shape of
        `images`.

    Returns
    -------
    variance : ndarray
        Variance of each pixel, shape (row, column), greater than 0.
    error : ModelError
        Object that estimates the model error from residuals.
    added : ndarray
        Squared model error that is estimated from the residuals of the mean, shape (row, column).
    """
    data, good, number = mean.pixels.data, mean.pixels.good, mean.n_integrations
    weight = good / mean.pixels.variance
    basis = [*images, *background]
    coefficients, _ = fit_rows(basis, weight, data, ridge_from=2)
    residual = residuals(data, basis, coefficients)
    tolerated = 25.0 + (0.1 * coefficients[:, :1] * images[0]) ** 2 * weight
    used = good & (residual**2 * weight < tolerated)
    every = np.ones(coefficients.shape, dtype=bool)
    smooth = running_mean(coefficients, every, _SMOOTHED_FLUX_ROWS).T[..., np.newaxis]
    total = _smooth_variance(mean, images, basis, smooth, used)
    positive = total[good]
    if not (positive > 0).any():
        total[...] = 1.0
    else:
        np.maximum(total, _LEAST_VARIANCE * median(positive[positive > 0]), out=total)
    fluxes = smooth[: len(images)]
    peak = peak_light(fluxes, images)
    for i in range(positives, len(images)):
        total += nod_variance(fluxes[i] * images[i], offsets[i])
    variance = total + (_WEIGHT_ERROR * peak) ** 2
    # In resampled images, the scatter of the residuals exceeds the variances by this factor.
    excess = 1.0
    core = used & (images[0] > _BRIGHT)
    if number == 1 and core.sum() > 50:
        excess = max(1.0, _PER_MEDIAN_CHI2 * float(np.median((residual**2 / total)[core])))
    # Fluxes are clipped so that a cosmic ray does not increase the largest model error in its row.
    flux = np.abs(coefficients[:, 0])
    flux = np.minimum(flux, 3.0 * median_filter(flux, 9, mode="nearest"))
    largest = np.maximum(_MAX_MODEL_ERROR, model_change(mean.pixels.wavelength))
    ceiling = (largest * images[0].max(axis=1) * flux)[:, np.newaxis] ** 2
    error = ModelError(total * excess, np.broadcast_to(ceiling, total.shape), excess, number)
    return variance, error, error.squared(residual, used)


def _smooth_variance(
    mean: MeanCutout, images: Array, basis: list[Array], smooth: Array, used: Mask
) -> Array:
    """Return the sum of Poisson, read-noise and flat-field variance for one integration.

    Parameters
    ----------
    mean, images
        See `model_variance`.
    basis : list of ndarray
        Profiles of the sources and terms of the background, each of shape (row, column).
    smooth : ndarray
        Coefficients of the basis, averaged over rows, shape (term, row, 1).
    used : ndarray of bool
        Pixels that are neither lost nor outliers, shape (row, column).
    """
    good, number = mean.pixels.good, mean.n_integrations
    poisson, rnoise, flat = mean.variances
    total = np.zeros(good.shape)
    # For one integration, the Poisson and read-noise variances are the variances of the mean times
    # the number of integrations. The flat-field variance is the same as for the mean.
    if poisson is not None:
        source = sum(np.abs(s) * image for s, image in zip(smooth, images, strict=False))
        total += _poisson_variance(poisson * number, source, used, images)
    if rnoise is not None:
        known = good & (rnoise > 0)
        rnoise = rnoise * number
        typical = running_mean(np.where(known, rnoise, 0.0), known, _SMOOTHED_ROWS)
        total += np.where(known, rnoise, typical)
    if flat is not None:
        square = sum(s * field for s, field in zip(smooth, basis, strict=True)) ** 2
        total += _ratio(used * square * flat, used * square**2) * square
    return total


def _poisson_variance(variance: Array, source: Array, mask: Mask, images: Array) -> Array:
    """Fit the Poisson variance by a + g source, and return the fit, shape (row, column).

    The level a is the median variance of the dark pixels in each row. The gain g is fitted by least
    squares to neighbouring rows and is not negative.

    Parameters
    ----------
    variance, source : ndarray
        Poisson variance, and sum of the absolute models of all sources, shape (row, column).
    mask : ndarray of bool
        Mask of the pixels to use, shape (row, column).
    images : ndarray
        Profile of each source and negative trace, shape (source, row, column).
    """
    brightest = images.max(axis=0)
    dark = mask & (brightest < _DARK)
    if np.median(dark.sum(axis=1)) < _FEWEST_DARK:
        dark = mask & (brightest < _DARK_CROWDED)
    crowded = dark.sum(axis=1, keepdims=True) < _FEWEST_DARK_ROW
    level = row_level(variance, np.where(crowded, mask, dark))
    # Before rows are combined, the variances are divided by the level of each row, because the
    # number of electrons per unit flux changes fast at the ends of the spectrum.
    x, y = source / level, variance / level - 1.0
    return level * (1.0 + np.maximum(_ratio(mask * x * y, mask * x * x), 0.0) * x)


def _ratio(top: Array, low: Array) -> Array:
    """Return the ratio of the sums over neighbouring rows, shape (row, 1).

    The ratio is 0 if the sum of `low` is 0.
    """
    above, below = (running_sum(part.sum(axis=1), _SMOOTHED_ROWS) for part in (top, low))
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)[:, np.newaxis]


@dataclass(frozen=True, eq=False)
class ModelError:
    """Error of the fitted model, which is estimated from the residuals in neighbouring rows.

    Parameters
    ----------
    variance : ndarray
        Expected squared residuals for one integration, shape (row, column). They are the variances
        times `excess`.
    ceiling : ndarray
        Upper limit of the squared error of the model, shape (row, column).
    excess : float
        Factor by which squared residuals exceed the variances of the image.
    n_integrations : int
        Number of integrations that were averaged in the data from which residuals are computed.
    """

    variance: Array
    ceiling: Array
    excess: float
    n_integrations: int

    def squared(self, residual: Array, used: Mask) -> Array:
        """Return the squared error of the model, shape (row, column).

        Parameters
        ----------
        residual : ndarray
            Mean data minus model, shape (row, column).
        used : ndarray of bool
            Mask of the pixels whose residuals are used, shape (row, column).
        """
        mask = used.astype(float)
        score = residual / np.sqrt(self.variance / self.n_integrations)
        score = np.clip(score, -_CLIPPED_RESIDUAL, _CLIPPED_RESIDUAL) * mask
        # Residuals due to an error of the profile are similar in neighbouring rows. Near the ends
        # of the spectrum, they are similar in fewer rows because the wavelength changes faster.
        count = running_sum(mask, _SMOOTHED_ROWS)
        mean = np.abs(running_sum(score, _SMOOTHED_ROWS))
        mean /= np.maximum(count, 1.0)
        for end in (slice(None, 3), slice(-3, None)):
            of_few = np.abs(running_sum(score[end], 1))
            mean[end] = np.maximum(mean[end], of_few / np.maximum(running_sum(mask[end], 1), 1.0))
        mean *= 2.0 / (1.0 - np.minimum(mean / _CLIPPED_RESIDUAL, 0.9))
        error = np.minimum(self.ceiling, self.variance * (_MIN_MODEL_ERROR**2 + mean**2))
        error = np.where(count > 0, error, self.ceiling)
        return np.asarray(error + (1.0 - 1.0 / self.excess) * self.variance)
