"""Gauss-Newton fit of the parameters of `SourceModel`, for `glue_lrs.measure`.

The curve of the traces comes from the WCS. The fit determines the shift of each trace and, if the
data require it, a polynomial of low order in the row that is added to all traces. The width of the
core of the profile is a smooth function of the wavelength, and the shape of the profile is given by
a few terms. Fluxes and background are eliminated row by row. The inverse of the remaining Fisher
matrix is the covariance of shifts, polynomial, width and shape.
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

#: Gaussian prior on the flux in each wing spline. The expected wings contain a fraction of the flux
#: (first value) and are a Gaussian of this standard deviation in arcsec per micron (second value).
#: The standard deviation of the prior on each spline is its expected flux times the third value,
#: but at least the fourth value.
_HALO, _HALO_SIGMA, _HALO_ERROR, _MIN_HALO_ERROR = 0.05, 0.0325, 1.0, 0.005

#: Standard deviation of the Gaussian prior on the kurtosis of the core, whose mean is 0.
_KURTOSIS_ERROR = 0.1

#: Limits of the shape: largest change of a term in a step (first value), range of the kurtosis in
#: which the Gram-Charlier series is hardly negative anywhere (second value), and largest fraction
#: of the flux in the wings (third value).
_MAX_CHANGE, _KURTOSIS_RANGE, _MAX_HALO = 0.2, (-1.5, 3.0), 0.6

#: Standard deviation of the Gaussian prior on the logarithm of the width, whose mean is the
#: expected width. The prior is tight during the search for sources, when a broad profile could hide
#: a source, and loose when the sources are measured.
TIGHT, LOOSE = 0.05, 0.3

#: Outlier rejection during the search, while sources may be missing from the model: assumed error
#: of the model, as a fraction of its brightest pixel in each row.
_MISSING_LIGHT = 0.05

#: Correlated noise: largest lag in pixels (first value), distance from every source in FWHM beyond
#: which residuals are used (second value), smallest number of pixels from which correlations are
#: measured (third value), and significance in standard deviations above which the result is used
#: (fourth value).
_MAX_LAG, _AWAY, _FEWEST_PIXELS, _SIGNIFICANT = 2, 3.0, 500, 5.0


# --- parameters ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SmoothParameters:
    """Parameters that are common to all rows.

    Parameters
    ----------
    shift : ndarray
        Column of each source in the reference row, shape (source,).
    bend : ndarray
        Coefficients of the polynomial that is added to the WCS curve of all traces
        (`trace_basis`).
    width : ndarray
        Coefficients of the polynomial in wavelength (`width_basis`) that is the logarithm of the
        ratio of the core's width to the expected width.
    terms : ndarray
        Terms of the shape: kurtosis of the core, then the flux in each wing spline.
    """

    shift: Array
    bend: Array
    width: Array
    terms: Array

    def geometry(self, slit: SlitCutout) -> SourceGeometry:
        """Return the traces and widths in each row, and the shape."""
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
        """Return the parameters after a step (k,), within their limits."""
        step = step.copy()
        step[: self.shift.size] = np.clip(step[: self.shift.size], -1.0, 1.0)
        ends = np.cumsum([self.shift.size, self.bend.size, WIDTH_KNOTS]).tolist()
        shift, bend, width, terms = np.split(self.vector + step, ends)
        width = np.clip(width, -1.0, 1.0)
        return SmoothParameters(shift, bend, width, possible_terms(terms, self.terms))

    def tangent(self, slit: SlitCutout) -> Array:
        """Return derivatives of the row parameters with respect to these parameters.

        Returns
        -------
        ndarray
            Shape (row, p, k). The p parameters of a row are the column of each source, the
            logarithm of the width, and the terms of the shape; the k parameters are `vector`.
        """
        sources, bends = self.shift.size, self.bend.size
        out = np.zeros((slit.rows.size, sources + 1 + SHAPES, self.vector.size))
        s, n = np.arange(sources), np.arange(SHAPES)
        out[:, s, s] = out[:, sources + 1 + n, n - SHAPES] = 1.0
        out[:, :sources, sources : sources + bends] = trace_basis(slit, bends)[:, np.newaxis]
        out[:, sources, sources + bends : -SHAPES] = width_basis(slit.wave)
        return out


def possible_terms(terms: Array, before: Array) -> Array:
    """Return terms of the shape after a step, limited to allowed values and changes.

    Parameters
    ----------
    terms, before : ndarray
        Terms of the shape after and before the step.
    """
    out = np.clip(terms, before - _MAX_CHANGE, before + _MAX_CHANGE)
    out[0] = np.clip(out[0], *_KURTOSIS_RANGE)
    halo = float(out[1:].sum())
    if halo > _MAX_HALO:
        out[1:] *= _MAX_HALO / halo
    return out


def trace_basis(slit: SlitCutout, terms: int) -> Array:
    """Return Legendre polynomials of degree 1 to `terms` in the row, shape (row, term)."""
    basis = np.asarray(np.polynomial.legendre.legvander(slit.along, terms), dtype=float)
    return basis[:, 1:]


# --- priors --------------------------------------------------------------------------------------


def shape_prior() -> tuple[Array, Array]:
    """Return the means and the inverse variances of the prior on the terms of the shape."""
    places = np.arange(WING_TERMS) * KNOT
    share = np.exp(-0.5 * (places / _HALO_SIGMA) ** 2)
    share[0] *= 0.5  # the others are pairs of splines, with one on each side of the source
    mean = _HALO * share / share.sum()
    error = np.maximum(_HALO_ERROR * mean, _MIN_HALO_ERROR)
    return np.append(0.0, mean), 1.0 / np.append(_KURTOSIS_ERROR, error) ** 2


def _prior(start: SmoothParameters, width_error: float, fix_shape: bool) -> tuple[Array, Array]:
    """Return the means and the inverse variances of the prior on all parameters.

    The parameters are described in `refine_parameters`.
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
        Chi-square, including the terms from the prior.
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
    """Improve parameters by Gauss-Newton steps, which are halved if chi-square increases.

    Parameters
    ----------
    model : SourceModel
        Model with the data to fit and their present weights.
    start : SmoothParameters
        Initial parameters.
    width_error : float
        Standard deviation of the prior on the logarithm of the width.
    steps : int
        Largest number of steps.
    close : float
        The fit has converged when the predicted decrease of chi-square in a step is below this.
    fix_shape : bool
        Whether the terms of the shape keep their initial values.
    search : bool
        Whether the model may lack sources. If True, the prior is stronger the worse the fit is,
        because the flux of missing sources must not change the profile.
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
            # The derivatives use smoothed fluxes because fluxes of single rows are too noisy. The
            # gradient is therefore 0 close to the minimum of chi-square, not exactly there, and
            # small increases of chi-square are accepted.
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
    """Alternate between updates of variances and outliers and fits, until no outlier changes.

    Parameters
    ----------
    model : SourceModel
        Model whose variances and outliers are updated.
    fit : SlitFit
        Initial fit.
    width_error : float
        Standard deviation of the prior on the logarithm of the width.
    rounds : int
        Largest number of fits.
    search : bool
        Whether the model may lack sources (see `refine_parameters`).
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
    """Return the factor by which correlated noise increases the error of a sum of pixels.

    The factor is the square root of the sum of the correlation coefficients of the residuals over
    all lags of up to two pixels in both directions. Only pixels away from the sources are used, and
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
    """Return two indices, which select pixels and their neighbours at a lag.

    The row number of a neighbour is larger by `down`, and its column number by `right`.
    """
    columns: tuple[slice, slice] = (slice(None, -right or None), slice(right, None))
    if right < 0:
        columns = (slice(-right, None), slice(None, right))
    return (slice(None, -down or None), columns[0]), (slice(down, None), columns[1])
