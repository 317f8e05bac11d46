"""Engine of `glue_lrs.measure`: Gauss-Newton fit of the parameters of `SourceModel`.

The traces are known up to a shift (the curve comes from the WCS) and, if the data require it, a
polynomial of low order; the width of the core is a smooth function of the wavelength. Fluxes and
background are eliminated row by row; what remains is the Fisher matrix of shifts, width and shape,
whose inverse gives their errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from glue_lrs.fitting.least_squares import project_curvature
from glue_lrs.fitting.source_model import OUTLIER, SourceGeometry
from glue_lrs.instrument import FWHM
from glue_lrs.profiles.diffraction import KNOT, SHAPES, WIDTH_KNOTS, WING_TERMS, width_basis

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.fitting.cutout import SlitCutout
    from glue_lrs.fitting.source_model import LinearFit, SourceModel

__all__ = [
    "LOOSE",
    "TIGHT",
    "SlitFit",
    "SmoothParameters",
    "correlation",
    "possible_terms",
    "refine_parameters",
    "settle_parameters",
    "shape_prior",
    "trace_basis",
    "typical_width",
]

#: Gaussian prior on the wings: a Gaussian of this standard deviation, in arcsec per micron, with
#: this fraction of the light. The standard deviation of each spline's light is that light times the
#: third number, at least the fourth.
_HALO, _HALO_SIGMA, _HALO_ERROR, _MIN_HALO_ERROR = 0.05, 0.0325, 1.0, 0.005

#: Gaussian prior on the kurtosis of the core: standard deviation about 0.
_KURTOSIS_ERROR = 0.1

#: Limits of the shape: change of a term in a step, kurtosis for which the Gram-Charlier series is
#: hardly negative, and light in the wings.
_MAX_CHANGE, _KURTOSIS_RANGE, _MAX_HALO = 0.2, (-1.5, 3.0), 0.6

#: Gaussian prior on the logarithm of the width: standard deviation about the expected width while
#: sources are searched for, when a broad profile could hide one, and when they are measured.
TIGHT, LOOSE = 0.05, 0.3

#: Outlier rejection while sources are missing: error of the model, as a fraction of the brightest
#: pixel of a row.
_MISSING_LIGHT = 0.05

#: Correlated noise: largest lag in pixels, columns from sources in FWHM within which residuals do
#: not count, fewest pixels, and standard deviations above which a correlation is significant.
_MAX_LAG, _AWAY, _FEWEST_PIXELS, _SIGNIFICANT = 2, 3.0, 500, 5.0


# --- parameters ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SmoothParameters:
    """Parameters that are smooth along the rows.

    Parameters
    ----------
    shift : ndarray
        Column of each source in the reference row, shape (source,).
    bend : ndarray
        Coefficients of the polynomial that is added to the curve of all traces (`trace_basis`).
    width, terms : ndarray
        Coefficients of the logarithm of the width, and terms of the shape, as of `Measurement`.
    """

    shift: Array
    bend: Array
    width: Array
    terms: Array

    def geometry(self, slit: SlitCutout) -> SourceGeometry:
        """Return traces, widths and shape row by row."""
        common = slit.curve + trace_basis(slit, self.bend.size) @ self.bend
        return SourceGeometry(
            self.shift[:, np.newaxis] + common,
            np.log(slit.core) + width_basis(slit.wave) @ self.width,
            self.terms,
        )

    @property
    def vector(self) -> Array:
        """All parameters, concatenated."""
        return np.concatenate([self.shift, self.bend, self.width, self.terms])

    def moved(self, step: Array) -> SmoothParameters:
        """Return the parameters after a step, within their limits."""
        sources, bends = self.shift.size, self.bend.size
        step = step.copy()
        step[:sources] = np.clip(step[:sources], -1.0, 1.0)
        after = self.vector + step
        width = after[sources + bends : sources + bends + WIDTH_KNOTS]
        return SmoothParameters(
            after[:sources],
            after[sources : sources + bends],
            np.clip(width, -1.0, 1.0),
            possible_terms(after[-SHAPES:], self.terms),
        )

    def tangent(self, slit: SlitCutout) -> Array:
        """Return derivatives of the parameters of each row in these, shape (row, p, k)."""
        sources, bends = self.shift.size, self.bend.size
        rows, size = slit.rows.size, sources + bends + WIDTH_KNOTS + SHAPES
        out = np.zeros((rows, sources + 1 + SHAPES, size))
        for s in range(sources):
            out[:, s, s] = 1.0
            out[:, s, sources : sources + bends] = trace_basis(slit, bends)
        out[:, sources, sources + bends : sources + bends + WIDTH_KNOTS] = width_basis(slit.wave)
        for n in range(SHAPES):
            out[:, sources + 1 + n, size - SHAPES + n] = 1.0
        return out


def possible_terms(terms: Array, before: Array) -> Array:
    """Return terms of the shape within their limits, close to those before."""
    out = np.clip(terms, before - _MAX_CHANGE, before + _MAX_CHANGE)
    out[0] = np.clip(out[0], *_KURTOSIS_RANGE)
    halo = float(out[1:].sum())
    if halo > _MAX_HALO:
        out[1:] *= _MAX_HALO / halo
    return out


def trace_basis(slit: SlitCutout, terms: int) -> Array:
    """Return Legendre polynomials 1, 2, ... along the rows, shape (row, term)."""
    basis = np.asarray(np.polynomial.legendre.legvander(slit.along, terms), dtype=float)
    return basis[:, 1:]


# --- priors --------------------------------------------------------------------------------------


def shape_prior() -> tuple[Array, Array]:
    """Return the mean and the inverse variance of the terms of the shape."""
    places = np.arange(WING_TERMS) * KNOT
    share = np.exp(-0.5 * (places / _HALO_SIGMA) ** 2)
    share[0] *= 0.5  # the two halves of the middle spline coincide
    mean = _HALO * share / share.sum()
    error = np.maximum(_HALO_ERROR * mean, _MIN_HALO_ERROR)
    return np.append(0.0, mean), 1.0 / np.append(_KURTOSIS_ERROR, error) ** 2


def _prior(
    parameters: SmoothParameters, width_error: float, fixed: Array | None = None
) -> tuple[Array, Array]:
    """Mean and inverse variance of all parameters, with a fixed shape if it is given."""
    size = parameters.vector.size
    mean, precision = np.zeros(size), np.zeros(size)
    free = parameters.shift.size + parameters.bend.size
    precision[free : free + WIDTH_KNOTS] = 1.0 / width_error**2
    mean[-SHAPES:], precision[-SHAPES:] = shape_prior()
    if fixed is not None:
        mean[-SHAPES:], precision[-SHAPES:] = fixed, 1e14
    return mean, precision


# --- fit -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SlitFit:
    """A converged fit.

    Parameters
    ----------
    parameters : SmoothParameters
        The parameters.
    covariance : ndarray
        Their covariance, in the order of `SmoothParameters.vector`.
    linear : LinearFit
        Fluxes and background.
    objective : float
        Chi-square with the prior.
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
    """Improve parameters by Gauss-Newton steps, which are halved if chi-square rises.

    Parameters
    ----------
    model : SourceModel
        The data.
    start : SmoothParameters
        Initial parameters.
    width_error : float
        Standard deviation of the prior on the logarithm of the width.
    steps : int
        Largest number of steps.
    close : float
        Predicted gain in chi-square at which the fit has converged.
    fix_shape : bool
        Whether the terms of the shape keep their initial values.
    search : bool
        Whether sources may be missing. The worse the fit, the stronger the prior is then: light of
        missing sources must not shape the profile.
    """
    slit, parameters = model.slit, start
    fixed = start.terms if fix_shape else None
    linear = model.solve(parameters.geometry(slit))
    strength = max(linear.chi2 / linear.freedom, 1.0) ** 2 if search else 1.0

    def prior(at: SmoothParameters) -> tuple[Array, Array]:
        mean, precision = _prior(at, width_error, fixed)
        return mean, strength * precision

    def objective(at: SmoothParameters, linear: LinearFit) -> float:
        mean, precision = prior(at)
        return linear.chi2 + float((precision * (at.vector - mean) ** 2).sum())

    def curvature(tangent: Array, precision: Array) -> Array:
        hessian = project_curvature(linear.curvature, tangent)
        hessian += np.diag(precision + 1e-12 * np.maximum(np.diag(hessian), 1e-300))
        return hessian

    value = objective(parameters, linear)
    for _ in range(steps):
        tangent = parameters.tangent(slit)
        mean, precision = prior(parameters)
        hessian = curvature(tangent, precision)
        gradient = np.einsum("rpk,rp->k", tangent, linear.gradient)
        gradient += precision * (mean - parameters.vector)
        step = np.linalg.solve(hessian, gradient)
        gain = float(gradient @ step)
        small = gain < close
        for _ in range(5):
            trial = parameters.moved(step)
            next_linear = model.solve(trial.geometry(slit))
            next_value = objective(trial, next_linear)
            # Weights in the gradient use smoothed fluxes, as those of single rows are too noisy:
            # the gradient is 0 near the least chi-square, not at it.
            if next_value <= value + (1e-3 if gain > 10.0 else 0.5):
                break
            step = step / 2.0
        else:
            break
        parameters, linear, value = trial, next_linear, next_value
        if small:
            break
    _, precision = prior(parameters)
    hessian = curvature(parameters.tangent(slit), precision)
    covariance = np.asarray(np.linalg.inv(hessian), dtype=float)
    return SlitFit(parameters, covariance, linear, value)


def settle_parameters(
    model: SourceModel, fit: SlitFit, width_error: float, rounds: int = 4, search: bool = False
) -> SlitFit:
    """Model the variances, reject outliers and fit again, until no pixel changes."""
    for _ in range(rounds):
        model.reweigh(fit.linear)
        changed = model.reject(fit.linear, _MISSING_LIGHT if search else 0.0)
        fit = refine_parameters(model, fit.parameters, width_error, search=search)
        if changed == 0:
            break
    return fit


# --- properties of a fit -------------------------------------------------------------------------


def typical_width(slit: SlitCutout) -> float:
    """Return the median of the expected FWHM in columns."""
    return float(np.median(slit.core)) * FWHM


def correlation(model: SourceModel, fit: SlitFit) -> float:
    """Return the factor by which correlated noise increases the error of a sum of pixels.

    The square root of the sum of the correlations of residuals away from sources, over lags of up
    to two pixels, without the correlations that the fit causes; 1 where it is not significant.
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


def _pixel_pairs(down: int, right: int) -> tuple[Any, Any]:
    """Index of pixels, and of those `down` rows and `right` columns from them."""
    columns: tuple[slice, slice] = (slice(None, -right or None), slice(right, None))
    if right < 0:
        columns = (slice(-right, None), slice(None, right))
    return (slice(None, -down or None), columns[0]), (slice(down, None), columns[1])
