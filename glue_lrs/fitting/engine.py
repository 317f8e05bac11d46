"""Parameters of the slit model and their Gauss-Newton steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from scipy.special import erf

from glue_lrs._utils.statistics import running_median, smooth_flux
from glue_lrs.fitting.least_squares import invert_ridge, pulled_back
from glue_lrs.fitting.noise_model import model_error_floor
from glue_lrs.instrument import FWHM
from glue_lrs.profiles.diffraction import (
    KNOT,
    SHAPES,
    WIDTH_KNOTS,
    WING_TERMS,
    normal_density,
    read_wing,
    width_basis,
    wing_grid_position,
    wing_integral,
)

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.fitting.cutout import SlitCutout
    from glue_lrs.profiles.base import Profile

__all__ = [
    "FOUND",
    "LOOSE",
    "TIGHT",
    "LinearFit",
    "SlitFit",
    "SmoothParameters",
    "SourceFit",
    "SourceGeometry",
    "SourceModel",
    "bend_basis",
    "correlation",
    "possible_terms",
    "profiles",
    "refine_parameters",
    "settle_parameters",
    "shape_prior",
    "typical_width",
]


@dataclass(frozen=True, eq=False)
class SourceFit:
    """What `learn` and `fit_traces` found.

    Parameters
    ----------
    profile : Profile
        The profile.
    traces : ndarray
        Column of each source in each row, shape (source, row).
    signal_to_noise : float
        Of the first source, all rows together.
    shift_error : ndarray
        Standard deviation of the position of each source that is not a negative trace, in columns.
    factor : tuple or None
        Where an empirical profile was learned from one source: the inverse covariance of its
        coefficients, as `scipy.linalg.cho_factor` gives it.
    """

    profile: Profile
    traces: NDArray[np.float64]
    signal_to_noise: float
    shift_error: NDArray[np.float64]
    factor: Any = None


#: What is assumed of them before the data speak: a Gaussian of so many arcsec a micron with so much
#: of the light; each spline is known to a part that is given, or to a least one.
_HALO, _REACH, _HALO_SURE, _HALO_LEAST = 0.05, 0.0325, 1.0, 0.005

#: How sure it is that the core has the kurtosis of a Gaussian, 0.
_KURTOSIS = 0.1

#: How sure the width is before the data speak (of its logarithm): while sources are looked for, and
#: when they are measured.
TIGHT, LOOSE = 0.05, 0.3

#: Standard deviations above which a source counts as found, and a pixel as an outlier.
FOUND, _OUTLIER = 5.0, 5.0

#: While sources are missing no pixel is an outlier that is off by less than this fraction of the
#: brightest of its row.
_MISSED = 0.05


# --- the model ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SourceGeometry:
    """Where the sources are and how wide, row by row.

    Parameters
    ----------
    traces : ndarray
        Column of each source, shape (source, row).
    log_core : ndarray
        Logarithm of the standard deviation of the core in columns, shape (row,).
    terms : ndarray
        As `Measurement.shape_terms`.
    """

    traces: Array
    log_core: Array
    terms: Array


@dataclass(frozen=True, eq=False)
class LinearFit:
    """A fit of the linear parameters in every row, and what the others would change.

    `curvature` (row, p, p) and `gradient` (row, p) belong to the shifts of all sources, the
    logarithm of the width and the terms of the shape; linear parameters are eliminated.
    """

    flux: Array
    flux_variance: Array
    smooth: Array
    light: Array
    model: Array
    chi2: float
    freedom: int
    curvature: Array
    gradient: Array
    basis: Array
    inverse: Array

    @cached_property
    def strength(self) -> Array:
        """Mean flux of each source, of no sign; rows that hardly tell it have no say."""
        weight = 1.0 / np.maximum(self.flux_variance.sum(axis=0), 1e-300)
        return np.asarray((np.abs(self.smooth) * weight).sum(axis=1) / weight.sum())


class SourceModel:
    """The data with their present weights: what is fitted to."""

    def __init__(self, slit: SlitCutout) -> None:
        self.slit = slit
        self.good = slit.good.copy()
        self.variance = self._first_variance()
        self._drop_spikes()

    @property
    def rejected(self) -> int:
        """Pixels that are left out besides those that are marked."""
        return int((self.slit.good & ~self.good).sum())

    def _first_variance(self) -> Array:
        """Total variance, its noise and its spikes taken out by a median along the rows."""
        total = sum(self.slit.variances)
        found = running_median(np.asarray(total), self.slit.good, 9)
        return model_error_floor(np.where(np.isfinite(found), found, np.nanmedian(found)))

    def _drop_spikes(self) -> None:
        """Leave out what stands out among its neighbours along the rows, before any model."""
        slit = self.slit
        around = running_median(slit.data, slit.good, 7)
        away = np.abs(slit.data - around)
        allowed = 8.0 * np.sqrt(self.variance) + 0.3 * np.abs(around)
        with np.errstate(invalid="ignore"):
            self.good &= ~(away > allowed)

    # --- the fit -------------------------------------------------------------------------------

    def solve(self, shape: SourceGeometry, derivatives: bool = True) -> LinearFit:
        """Fit fluxes and background of every row."""
        slit = self.slit
        number, rows, columns = len(shape.traces), slit.rows.size, slit.columns.size
        profile, moves = profiles(slit, shape, derivatives)
        basis = np.empty((rows, columns, number + 2))
        basis[..., :number] = np.moveaxis(profile, 0, -1)
        basis[..., number] = 1.0
        basis[..., number + 1] = slit.across
        weight = self.good / self.variance
        weighted = basis * weight[..., np.newaxis]
        normal = np.swapaxes(weighted, 1, 2) @ basis
        inverse = invert_ridge(normal)
        linear = (inverse @ (np.swapaxes(weighted, 1, 2) @ slit.data[..., np.newaxis]))[..., 0]
        model = (basis @ linear[..., np.newaxis])[..., 0]
        residual = slit.data - model
        flux, flux_variance = linear[:, :number].T, np.einsum("rii->ir", inverse)[:number]
        smooth = np.array([smooth_flux(f, v) for f, v in zip(flux, flux_variance, strict=True)])
        smooth = smooth.reshape(number, rows)
        light = np.einsum("sr,src->rc", np.abs(smooth), profile) if number else np.zeros_like(model)
        curvature, gradient = np.zeros((rows, 0, 0)), np.zeros((rows, 0))
        if derivatives:
            jacobian = np.empty((rows, columns, number + 1 + SHAPES))
            for s in range(number):
                jacobian[..., s] = smooth[s][:, np.newaxis] * moves["shift"][s]
            for n, name in enumerate(("core", "kurtosis")):
                jacobian[..., number + n] = np.einsum("sr,src->rc", smooth, moves[name])
            jacobian[..., number + 2 :] = np.einsum("sr,srck->rck", smooth, moves["wings"])
            jacobian -= basis @ (inverse @ (np.swapaxes(weighted, 1, 2) @ jacobian))
            heavy = np.swapaxes(jacobian * weight[..., np.newaxis], 1, 2)
            curvature = heavy @ jacobian
            gradient = (heavy @ residual[..., np.newaxis])[..., 0]
        used = int(self.good.sum())
        return LinearFit(
            flux=flux,
            flux_variance=flux_variance,
            smooth=smooth,
            light=light,
            model=model,
            chi2=float((weight * residual**2).sum()),
            freedom=max(used - rows * (number + 2), 1),
            curvature=curvature,
            gradient=gradient,
            basis=basis,
            inverse=inverse,
        )

    # --- weights and outliers --------------------------------------------------------------------

    def reweigh(self, solved: LinearFit) -> None:
        """Model the variances: what is read noise stays, the rest follows the fitted light.

        Poisson variance is a + b light in every row, flat-field variance f model^2, with a, b and f
        from neighbouring rows: the noise of the single pixel is no part of it.
        """
        slit = self.slit
        poisson, read, flat = slit.variances
        use = self.good.astype(float)
        length = min(15, slit.rows.size)

        def run(values: Array) -> Array:
            kernel = np.ones(length)
            return np.convolve((use * values).sum(axis=1), kernel, mode="same")

        light = solved.light
        n, sl, sll = run(np.ones_like(light)), run(light), run(light**2)
        sp, slp = run(poisson), run(light * poisson)
        spread = sll * n - sl**2
        with np.errstate(invalid="ignore", divide="ignore"):
            slope = np.where(spread > 1e-9 * sll * n, (slp * n - sl * sp) / spread, 0.0)
            slope = np.maximum(np.nan_to_num(slope), 0.0)
            level = np.maximum(np.nan_to_num((sp - slope * sl) / n), 0.0)
            relative = np.nan_to_num(run(flat) / run(slit.data**2))
        noise = level[:, np.newaxis] + slope[:, np.newaxis] * light
        # Columns differ where fewer exposures see them, or the background slopes.
        wide = min(31, slit.rows.size)
        seen, modelled = (
            uniform_filter1d(use * values, wide, axis=0, mode="nearest")
            for values in (poisson, noise)
        )
        noise *= np.where(modelled > 0, seen / np.where(modelled > 0, modelled, 1.0), 1.0)
        # Rows differ where the sensitivity falls steeply: the sum of a row is hardly noisy.
        seen, modelled = ((use * values).sum(axis=1) for values in (poisson, noise))
        ratio = np.where(modelled > 0, seen / np.where(modelled > 0, modelled, 1.0), 1.0)
        noise *= ratio[:, np.newaxis]
        self.variance = model_error_floor(noise + read + relative[:, np.newaxis] * solved.model**2)

    def reject(self, solved: LinearFit, tolerance: float = 0.0) -> int:
        """Leave out pixels that are far from the model, the furthest of a row first.

        `tolerance` is what the model may miss, as a fraction of the brightest pixel of a row.

        Returned is how many changed. Pixels that were left out before, but that the model agrees
        with, are taken back. A misfit that goes on along the rows is the profile's, not an
        outlier's: it is subtracted, and where residuals scatter by more than their errors these are
        scaled.
        """
        slit, basis = self.slit, solved.basis
        before = self.good.copy()
        scaled = self._scaled(solved.model, basis, solved.inverse)
        trend = np.nan_to_num(running_median(scaled, self.good, 25))
        spread = 1.4826 * np.nan_to_num(running_median(np.abs(scaled - trend), self.good, 25))
        spread = np.maximum(spread, 1.0)
        if tolerance:
            missed = tolerance * np.abs(solved.model).max(axis=1, keepdims=True)
            spread += missed / np.sqrt(self.variance) / _OUTLIER
        self.good |= slit.good & (np.abs(scaled - trend) < (_OUTLIER - 1.0) * spread)
        for _ in range(8):
            inverse, linear = self._linear(basis)
            model = (basis @ linear[..., np.newaxis])[..., 0]
            away = np.abs(self._scaled(model, basis, inverse) - trend) / spread
            away[~self.good] = 0.0
            worst = away.argmax(axis=1)
            rows = np.flatnonzero(away.max(axis=1) > _OUTLIER)
            if rows.size == 0:
                break
            self.good[rows, worst[rows]] = False
        return int((before ^ self.good).sum())

    def _scaled(self, model: Array, basis: Array, inverse: Array) -> Array:
        """Residuals over their own standard deviations."""
        lever = ((basis @ inverse) * basis).sum(axis=-1)
        # The model follows a pixel that it was fitted to, and is itself unsure where it was not.
        scatter = np.where(
            self.good,
            np.maximum(self.variance - lever, 0.05 * self.variance),
            self.variance + lever,
        )
        return (self.slit.data - model) / np.sqrt(scatter)

    def _linear(self, basis: Array) -> tuple[Array, Array]:
        """Inverse normal matrix and linear parameters of every row."""
        weighted = basis * (self.good / self.variance)[..., np.newaxis]
        inverse = invert_ridge(np.swapaxes(weighted, 1, 2) @ basis)
        right = np.swapaxes(weighted, 1, 2) @ self.slit.data[..., np.newaxis]
        return inverse, (inverse @ right)[..., 0]


def profiles(
    slit: SlitCutout, shape: SourceGeometry, derivatives: bool = True
) -> tuple[Array, dict[str, Array]]:
    """Light of each source in each pixel for unit flux, and its derivatives.

    Shapes are (source, row, column), also those of the derivatives to the shift, to the logarithm
    of the width and to the terms of the shape.
    """
    edges = np.arange(slit.columns[0], slit.columns[-1] + 2) - 0.5
    x = edges - shape.traces[..., np.newaxis]
    core = np.exp(shape.log_core)[:, np.newaxis]
    per_wave = slit.scale / slit.wave[:, np.newaxis]
    kurtosis, light = float(shape.terms[0]), shape.terms[1:]
    halo = float(light.sum())
    inner, outer = x / core, x * per_wave
    normal = normal_density(inner)
    square = inner * inner
    third = normal * (square - 3.0) * inner
    below = 0.5 * erf(inner / math.sqrt(2.0)) - kurtosis / 24.0 * third
    near = np.diff(below, axis=-1)
    if not derivatives:
        return (1.0 - halo) * near + np.diff(wing_integral(outer, light, 0), axis=-1), {}
    place = wing_grid_position(outer)
    each = np.diff(read_wing(place, None, 0), axis=-2)
    at = normal * (1.0 + kurtosis / 24.0 * ((square - 6.0) * square + 3.0))
    density = (1.0 - halo) * at / core + read_wing(place, light, 1) * per_wave
    return (1.0 - halo) * near + each @ light, {
        "shift": -np.diff(density, axis=-1),
        "core": -(1.0 - halo) * np.diff(inner * at, axis=-1),
        "kurtosis": -(1.0 - halo) / 24.0 * np.diff(third, axis=-1),
        "wings": each - near[..., np.newaxis],
    }


# --- the parameters ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SmoothParameters:
    """Parameters that are smooth along the rows.

    `shift` (source,) are columns at the reference row, `bend` coefficients of a polynomial that all
    traces share, `width` and `terms` those of the width and the shape, as in `Measurement`.
    """

    shift: Array
    bend: Array
    width: Array
    terms: Array

    def shape(self, slit: SlitCutout) -> SourceGeometry:
        """The same row by row."""
        common = slit.curve + bend_basis(slit, self.bend.size) @ self.bend
        return SourceGeometry(
            self.shift[:, np.newaxis] + common,
            np.log(slit.core) + width_basis(slit.wave) @ self.width,
            self.terms,
        )

    @property
    def vector(self) -> Array:
        """All parameters in a row."""
        return np.concatenate([self.shift, self.bend, self.width, self.terms])

    def moved(self, step: Array) -> SmoothParameters:
        """The parameters after a step, within what is possible."""
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
        """How shifts, width, halo and reach of a row depend on the parameters: (row, p, k)."""
        sources, bends = self.shift.size, self.bend.size
        rows, size = slit.rows.size, sources + bends + WIDTH_KNOTS + SHAPES
        out = np.zeros((rows, sources + 1 + SHAPES, size))
        for s in range(sources):
            out[:, s, s] = 1.0
            out[:, s, sources : sources + bends] = bend_basis(slit, bends)
        out[:, sources, sources + bends : sources + bends + WIDTH_KNOTS] = width_basis(slit.wave)
        for n in range(SHAPES):
            out[:, sources + 1 + n, size - SHAPES + n] = 1.0
        return out


def possible_terms(terms: Array, before: Array) -> Array:
    """Terms of the shape within what is possible, not too far from those before."""
    out = np.clip(terms, before - 0.2, before + 0.2)
    out[0] = np.clip(out[0], -1.5, 3.0)  # the series is positive, or nearly so
    halo = float(out[1:].sum())
    if halo > 0.6:
        out[1:] *= 0.6 / halo
    return out


def bend_basis(slit: SlitCutout, terms: int) -> Array:
    """Legendre polynomials 1, 2, ... along the rows."""
    basis = np.asarray(np.polynomial.legendre.legvander(slit.along, terms), dtype=float)
    return basis[:, 1:]


def _prior(
    parameters: SmoothParameters, sure: float, held: Array | None = None
) -> tuple[Array, Array]:
    """Mean and inverse variance of what is assumed of the parameters, a shape that is held too."""
    size = parameters.vector.size
    mean, precision = np.zeros(size), np.zeros(size)
    free = parameters.shift.size + parameters.bend.size
    precision[free : free + WIDTH_KNOTS] = 1.0 / sure**2
    mean[-SHAPES:], precision[-SHAPES:] = shape_prior()
    if held is not None:
        mean[-SHAPES:], precision[-SHAPES:] = held, 1e14
    return mean, precision


def shape_prior() -> tuple[Array, Array]:
    """The same of the terms of the shape alone."""
    places = np.arange(WING_TERMS) * KNOT
    share = np.exp(-0.5 * (places / _REACH) ** 2)
    share[0] *= 0.5  # both of its halves are one
    mean = _HALO * share / share.sum()
    sure = np.maximum(_HALO_SURE * mean, _HALO_LEAST)
    return np.append(0.0, mean), 1.0 / np.append(_KURTOSIS, sure) ** 2


@dataclass(frozen=True, eq=False)
class SlitFit:
    """A converged fit: parameters, their covariance, the linear fit, chi-square with the prior."""

    parameters: SmoothParameters
    covariance: Array
    solved: LinearFit
    objective: float


def refine_parameters(
    work: SourceModel,
    start: SmoothParameters,
    sure: float,
    *,
    steps: int = 12,
    close: float = 1e-4,
    hold: bool = False,
    search: bool = False,
) -> SlitFit:
    """Gauss and Newton, with steps halved where they lead up, down to chi-square within `close`.

    With `hold` the shape, but for the width, stays what it is at the start. In a `search` sources
    are missing: the less the model fits, the less it says about the shape.
    """
    slit, parameters = work.slit, start
    held = start.terms if hold else None
    solved = work.solve(parameters.shape(slit))
    firm = max(solved.chi2 / solved.freedom, 1.0) ** 2 if search else 1.0

    def assumed(at: SmoothParameters) -> tuple[Array, Array]:
        mean, precision = _prior(at, sure, held)
        return mean, firm * precision

    def objective(at: SmoothParameters, solved: LinearFit) -> float:
        mean, precision = assumed(at)
        return solved.chi2 + float((precision * (at.vector - mean) ** 2).sum())

    value = objective(parameters, solved)
    hessian = np.eye(parameters.vector.size)
    for _ in range(steps):
        tangent = parameters.tangent(slit)
        mean, precision = assumed(parameters)
        hessian = pulled_back(solved.curvature, tangent)
        hessian += np.diag(precision + 1e-12 * np.maximum(np.diag(hessian), 1e-300))
        slope = np.einsum("rpk,rp->k", tangent, solved.gradient)
        slope += precision * (mean - parameters.vector)
        step = np.linalg.solve(hessian, slope)
        gain = float(slope @ step)
        small = gain < close
        for _ in range(5):
            trial = parameters.moved(step)
            next_solved = work.solve(trial.shape(slit))
            next_value = objective(trial, next_solved)
            # The weight of a row comes from its smoothed flux, as its own is too noisy: what is
            # sought is where the slope is 0, near the least chi-square but not at it.
            if next_value <= value + (1e-3 if gain > 10.0 else 0.5):
                break
            step = step / 2.0
        else:
            break
        parameters, solved, value = trial, next_solved, next_value
        if small:
            break
    tangent = parameters.tangent(slit)
    _, precision = assumed(parameters)
    hessian = pulled_back(solved.curvature, tangent)
    hessian += np.diag(precision + 1e-12 * np.maximum(np.diag(hessian), 1e-300))
    covariance = np.asarray(np.linalg.inv(hessian), dtype=float)
    return SlitFit(parameters, covariance, solved, value)


def settle_parameters(
    work: SourceModel, fit: SlitFit, sure: float, rounds: int = 4, search: bool = False
) -> SlitFit:
    """Model the variances, leave out outliers, and fit again, until nothing more stands out."""
    for _ in range(rounds):
        work.reweigh(fit.solved)
        dropped = work.reject(fit.solved, _MISSED if search else 0.0)
        fit = refine_parameters(work, fit.parameters, sure, search=search)
        if dropped == 0:
            break
    return fit


def typical_width(slit: SlitCutout) -> float:
    """The expected FWHM in columns, in the middle of the rows."""
    return float(np.median(slit.core)) * FWHM


def correlation(work: SourceModel, fit: SlitFit) -> float:
    """Factor by which correlated noise makes the error of a sum of neighbouring pixels larger.

    The square root of the sum of the correlations of the residuals, away from sources, over lags of
    two pixels; those that the fit itself makes are taken out. 1 where it is not significant.
    """
    slit, solved = work.slit, fit.solved
    good = work.good.copy()
    for trace in fit.parameters.shape(slit).traces:
        far = np.abs(slit.columns - trace[:, np.newaxis]) > 3.0 * typical_width(slit)
        good &= far
    scaled = np.where(good, (slit.data - solved.model) / np.sqrt(work.variance), 0.0)
    scaled = np.clip(scaled, -_OUTLIER, _OUTLIER)
    power = float((scaled**2).sum())
    count = int(good.sum())
    if count < 500 or power <= 0:
        return 1.0
    root = solved.basis * np.sqrt(work.good / work.variance)[..., np.newaxis]
    total, pairs = 1.0, 0
    for down in range(3):
        for right in range(-2, 3):
            if down == 0 and right <= 0:
                continue
            here, there = _shifted(down, right)
            both = good[here] & good[there]
            number = int(both.sum())
            if number == 0:
                continue
            product = float((scaled[here] * scaled[there]).sum())
            if down == 0:
                lever = np.einsum("rci,rij,rcj->rc", root[here], solved.inverse, root[there])
                product += float(lever[both].sum()) * power / count
            total += 2.0 * product / power * count / number
            pairs += 1
    significant = total - 1.0 > 5.0 * 2.0 * math.sqrt(max(pairs, 1) / count)
    return math.sqrt(total) if significant else 1.0


def _shifted(down: int, right: int) -> tuple[Any, Any]:
    """Index of pixels, and of those some rows down and columns to the right of them."""
    columns: tuple[slice, slice] = (slice(None, -right or None), slice(right, None))
    if right < 0:
        columns = (slice(-right, None), slice(None, right))
    return (slice(None, -down or None), columns[0]), (slice(down, None), columns[1])
