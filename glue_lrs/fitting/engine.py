"""Gauss-Newton fit of the parameters of `SourceModel`, for `glue_lrs.measure`.

The curve of the traces is computed from the WCS. The fit determines the shift of each trace and, if
it is significant, a polynomial of low order in the row number that is added to all traces. The
width of the core of the profile is a smooth function of the wavelength, and the shape of the
profile is described by a few terms. Fluxes and background are eliminated row by row. The covariance
of shifts, polynomial, width and shape is the inverse of the remaining Fisher matrix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from glue_lrs._utils.typing import Array
from glue_lrs.fitting.cutout import SlitCutout
from glue_lrs.fitting.least_squares import project_curvature
from glue_lrs.fitting.source_model import OUTLIER, LinearFit, SourceGeometry, SourceModel
from glue_lrs.instrument import FWHM
from glue_lrs.profiles.diffraction import KNOT, SHAPES, WIDTH_KNOTS, WING_TERMS, width_basis

#: Gaussian prior on the fraction of the flux in each wing spline. Its mean corresponds to wings
#: with the shape of a Gaussian.
_HALO, _HALO_SIGMA, _HALO_ERROR, _MIN_HALO_ERROR = (
    0.05,  # expected fraction of the flux in the wings
    0.0325,  # standard deviation of the expected wings in arcsec per micron
    1.0,  # standard deviation of the prior on a spline, as a fraction of its expected flux
    0.005,  # minimum standard deviation of the prior on a spline
)

#: Standard deviation of the Gaussian prior on the kurtosis of the core, whose mean is 0.
_KURTOSIS_ERROR = 0.1

#: Limits on the shape terms.
_MAX_CHANGE, _KURTOSIS_RANGE, _MAX_HALO = (
    0.2,  # largest change of a term in one step
    (-1.5, 3.0),  # range of the kurtosis, in which the Gram-Charlier series is hardly negative
    0.6,  # largest fraction of the flux in the wings
)

#: Standard deviation of the Gaussian prior on the logarithm of the width. The mean is the expected
#: width.
TIGHT, LOOSE = (
    0.05,  # during the search for sources, when a broad profile could include another source
    0.3,  # when the sources are measured
)

#: Outlier rejection during the search, when sources may be missing from the model: assumed error of
#: the model, as a fraction of the largest model value in each row.
_MISSING_LIGHT = 0.05

#: Measurement of correlated noise from the residuals.
_MAX_LAG, _AWAY, _FEWEST_PIXELS, _SIGNIFICANT = (
    2,  # largest lag in pixels
    3.0,  # minimum distance of the pixels from every source in FWHM
    500,  # minimum number of pixels
    5.0,  # significance in standard deviations above which the correlations are used
)


# --- parameters ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SmoothParameters:
    """Parameters that are common to all rows.

    Parameters
    ----------
    shift : ndarray
        Column of each source in the reference row, shape (source,).
    bend : ndarray
        Coefficients of the polynomial that is added to the WCS curve for all traces. Its terms are
        returned by `trace_basis`.
    width : ndarray
        Coefficients of the width polynomial, which is the logarithm of the ratio of the core width
        to the expected core width. Its terms are returned by `width_basis`.
    terms : ndarray
        Shape terms: kurtosis of the core, then the fraction of the flux in each wing spline.
    """

    shift: Array
    bend: Array
    width: Array
    terms: Array

    def geometry(self, slit: SlitCutout) -> SourceGeometry:
        """Return the traces and the width in each row, and the shape terms."""
        common = slit.curve + trace_basis(slit, self.bend.size) @ self.bend
        return SourceGeometry(
            self.shift[:, np.newaxis] + common,
            np.log(slit.core) + width_basis(slit.wave) @ self.width,
            self.terms,
        )

    @property
    def vector(self) -> Array:
        """All parameters, concatenated in the order of the attributes, shape (k,)."""
        return np.concatenate([self.shift, self.bend, self.width, self.terms])

    def moved(self, step: Array) -> SmoothParameters:
        """Return the parameters after a step of shape (k,), restricted to their limits."""
        step = step.copy()
        step[: self.shift.size] = np.clip(step[: self.shift.size], -1.0, 1.0)
        ends = np.cumsum([self.shift.size, self.bend.size, WIDTH_KNOTS]).tolist()
        shift, bend, width, terms = np.split(self.vector + step, ends)
        width = np.clip(width, -1.0, 1.0)
        return SmoothParameters(shift, bend, width, possible_terms(terms, self.terms))

    def tangent(self, slit: SlitCutout) -> Array:
        """Return the derivatives of the row parameters with respect to these parameters.

        Returns
        -------
        ndarray
            Derivatives, shape (row, p, k). The p parameters of a row are the column of each source,
            the logarithm of the width, and the shape terms. The k parameters are those in `vector`.
        """
        sources, bends = self.shift.size, self.bend.size
        out = np.zeros((slit.rows.size, sources + 1 + SHAPES, self.vector.size))
        s, n = np.arange(sources), np.arange(SHAPES)
        out[:, s, s] = out[:, sources + 1 + n, n - SHAPES] = 1.0
        out[:, :sources, sources : sources + bends] = trace_basis(slit, bends)[:, np.newaxis]
        out[:, sources, sources + bends : -SHAPES] = width_basis(slit.wave)
        return out


def possible_terms(terms: Array, before: Array) -> Array:
    """Return the shape terms after a step, restricted to allowed values and changes.

    Parameters
    ----------
    terms, before : ndarray
        Shape terms after and before the step.
    """
    out = np.clip(terms, before - _MAX_CHANGE, before + _MAX_CHANGE)
    out[0] = np.clip(out[0], *_KURTOSIS_RANGE)
    halo = float(out[1:].sum())
    if halo > _MAX_HALO:
        out[1:] *= _MAX_HALO / halo
    return out


def trace_basis(slit: SlitCutout, terms: int) -> Array:
    """Return the Legendre polynomials of degree 1 to `terms` in each row, shape (row, term)."""
    basis = np.asarray(np.polynomial.legendre.legvander(slit.along, terms), dtype=float)
    return basis[:, 1:]


# --- priors --------------------------------------------------------------------------------------


def shape_prior() -> tuple[Array, Array]:
    """Return the means and the inverse variances of the prior on the shape terms."""
    places = np.arange(WING_TERMS) * KNOT
    share = np.exp(-0.5 * (places / _HALO_SIGMA) ** 2)
    share[0] *= 0.5  # a single B-spline; the others are pairs, one on each side of the source
    mean = _HALO * share / share.sum()
    error = np.maximum(_HALO_ERROR * mean, _MIN_HALO_ERROR)
    return np.append(0.0, mean), 1.0 / np.append(_KURTOSIS_ERROR, error) ** 2


def _prior(start: SmoothParameters, width_error: float, fix_shape: bool) -> tuple[Array, Array]:
    """Return the means and the inverse variances of the prior on all parameters.

    The arguments are those of `refine_parameters`.
    """
    mean, precision = np.zeros((2, start.vector.size))
    free = start.shift.size + start.bend.size
    precision[free:-SHAPES] = 1.0 / width_error**2
    mean[-SHAPES:], precision[-SHAPES:] = (start.terms, 1e14) if fix_shape else shape_prior()
    return mean, precision


# --- fit -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SlitFit:
    """Result of a converged fit by `refine_parameters`.

    Parameters
    ----------
    parameters : SmoothParameters
        Fitted parameters that are common to all rows.
    covariance : ndarray
        Covariance of the parameters, in the order of `SmoothParameters.vector`.
    linear : LinearFit
        Fluxes and background fitted to each row.
    objective : float
        Chi-square including the prior.
    """

    parameters: SmoothParameters
    covariance: Array
    linear: LinearFit
    objective: float


def refine_parameters(
    model: SourceModel,
    start: SmoothParameters,
    width_error: float,
    *,
    steps: int = 12,
    close: float = 1e-4,
    fix_shape: bool = False,
    search: bool = False,
) -> SlitFit:
    """Fit the parameters by Gauss-Newton steps, which are halved if chi-square increases.

    Parameters
    ----------
    model : SourceModel
        Model of the image, with the current weights of the pixels.
    start : SmoothParameters
        Initial parameters.
    width_error : float
        Standard deviation of the prior on the logarithm of the width.
    steps : int
        Largest number of steps.
    close : float
        Predicted decrease of chi-square in a step below which the fit has converged.
    fix_shape : bool
        Whether the shape terms keep their initial values.
    search : bool
        Whether sources may be missing from the model. If True, the prior is strengthened if
        chi-square is large, so that the flux of missing sources does not change the profile.
    """
    slit, parameters = model.slit, start
    linear = model.solve(parameters.geometry(slit))
    mean, precision = _prior(start, width_error, fix_shape)
    if search:
        precision *= max(linear.chi2 / linear.freedom, 1.0) ** 2

    def objective(at: SmoothParameters, linear: LinearFit) -> float:
        return linear.chi2 + float((precision * (at.vector - mean) ** 2).sum())

    def curvature(tangent: Array) -> Array:
        hessian = project_curvature(linear.curvature, tangent)
        hessian += np.diag(precision + 1e-12 * np.maximum(np.diag(hessian), 1e-300))
        return hessian

    value = objective(parameters, linear)
    for _ in range(steps):
        tangent = parameters.tangent(slit)
        hessian = curvature(tangent)
        gradient = np.einsum("rpk,rp->k", tangent, linear.gradient)
        gradient += precision * (mean - parameters.vector)
        step = np.linalg.solve(hessian, gradient)
        gain = float(gradient @ step)
        small = gain < close
        for _ in range(5):
            trial = parameters.moved(step)
            next_linear = model.solve(trial.geometry(slit))
            next_value = objective(trial, next_linear)
            # The derivatives are computed from smoothed fluxes because the fluxes in single rows
            # are too noisy. The gradient is therefore 0 near the minimum of chi-square but not
            # exactly there, so that small increases of chi-square must be accepted.
            if next_value <= value + (1e-3 if gain > 10.0 else 0.5):
                break
            step = step / 2.0
        else:
            break
        parameters, linear, value = trial, next_linear, next_value
        if small:
            break
    covariance = np.asarray(np.linalg.inv(curvature(parameters.tangent(slit))), dtype=float)
    return SlitFit(parameters, covariance, linear, value)


def settle_parameters(
    model: SourceModel, fit: SlitFit, width_error: float, rounds: int = 4, search: bool = False
) -> SlitFit:
    """Update variances and outliers, and fit again, until the same pixels are rejected as before.

    Parameters
    ----------
    model : SourceModel
        Model whose variances and outliers are updated.
    fit : SlitFit
        Initial fit.
    width_error : float
        Standard deviation of the prior on the logarithm of the width.
    rounds : int
        Largest number of repetitions.
    search : bool
        Whether sources may be missing from the model (see `refine_parameters`).
    """
    for _ in range(rounds):
        model.reweigh(fit.linear)
        changed = model.reject(fit.linear, _MISSING_LIGHT if search else 0.0)
        fit = refine_parameters(model, fit.parameters, width_error, search=search)
        if changed == 0:
            break
    return fit


# --- properties of a fit -------------------------------------------------------------------------


def typical_width(slit: SlitCutout) -> float:
    """Return the median over rows of the expected FWHM in columns."""
    return float(np.median(slit.core)) * FWHM


def correlation(model: SourceModel, fit: SlitFit) -> float:
    """Return the factor by which correlated noise increases the error of a sum over pixels.

    The factor is the square root of the sum of the correlation coefficients of the residuals for
    all lags of up to two pixels in both directions. Only pixels far from the sources are used, and
    correlations that are caused by the fit itself are removed. The factor is 1 if the correlations
    are not significant.
    """
    slit, linear = model.slit, fit.linear
    good = model.good.copy()
    for trace in fit.parameters.geometry(slit).traces:
        good &= np.abs(slit.columns - trace[:, np.newaxis]) > _AWAY * typical_width(slit)
    scaled = np.where(good, (slit.data - linear.model) / np.sqrt(model.variance), 0.0)
    scaled = np.clip(scaled, -OUTLIER, OUTLIER)
    power = float((scaled**2).sum())
    count = int(good.sum())
    if count < _FEWEST_PIXELS or power <= 0:
        return 1.0
    root = linear.basis * np.sqrt(model.weight)[..., np.newaxis]
    total, pairs = 1.0, 0
    for down in range(_MAX_LAG + 1):
        for right in range(-_MAX_LAG, _MAX_LAG + 1):
            if down == 0 and right <= 0:
                continue
            here, there = _pixel_pairs(down, right)
            both = good[here] & good[there]
            number = int(both.sum())
            if number == 0:
                continue
            product = float((scaled[here] * scaled[there]).sum())
            if down == 0:
                leverage = np.einsum("rci,rij,rcj->rc", root[here], linear.inverse, root[there])
                product += float(leverage[both].sum()) * power / count
            total += 2.0 * product / power * count / number
            pairs += 1
    significant = total - 1.0 > _SIGNIFICANT * 2.0 * math.sqrt(max(pairs, 1) / count)
    return math.sqrt(total) if significant else 1.0


def _pixel_pairs(down: int, right: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the index of pixels in an image, and the index of their neighbours in the same order.

    Each neighbour is `down` rows and `right` columns away from its pixel.
    """
    columns: tuple[slice, slice] = (slice(None, -right or None), slice(right, None))
    if right < 0:
        columns = (slice(-right, None), slice(None, right))
    return (slice(None, -down or None), columns[0]), (slice(down, None), columns[1])
