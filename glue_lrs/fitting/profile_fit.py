"""Fit of profile and positions for optimal extraction.

`fit_profile` fits an empirical profile and the traces of the sources. `fit_traces` fits only the
traces, with a given profile. Both begin with `_TraceFit`. `refine_positions` improves the positions
when the profile is known.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from glue_lrs.errors import ProfileError
from glue_lrs.fitting.blend_fit import fit_blend
from glue_lrs.fitting.least_squares import (
    background_basis,
    fit_rows,
    gauss_newton,
    parameter_errors,
    residuals,
)
from glue_lrs.fitting.outliers import reject_spikes
from glue_lrs.fitting.profile_derivatives import ProfileImage, widen
from glue_lrs.fitting.source_fit import SourceFit
from glue_lrs.fitting.spline_correction import (
    CLIP,
    UNCONVERGED_ERROR,
    correct_profile,
    peak_light,
)
from glue_lrs.fitting.trace_parameters import (
    TRACE_PRIOR,
    is_significant,
    position_derivatives,
    position_matrix,
    trace_order_for,
    width_order_for,
)
from glue_lrs.profiles.base import unit
from glue_lrs.profiles.empirical import REACH, EmpiricalProfile
from glue_lrs.profiles.gaussian import GaussianProfile

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.fitting.cutout import PixelPlanes
    from glue_lrs.profiles.base import SpatialProfile

#: Distance in columns from the traces up to which pixels are fitted. It includes the profile and a
#: strip of background.
_MARGIN = 9.0

#: Smallest model error that is assumed for a Gaussian, as a fraction of the peak. Without it, the
#: wings of bright sources, which are not Gaussian, would determine the fit.
_GAUSSIAN_FLOOR = 0.02

#: Change of the positions in columns, and of the width as a fraction of the width, below which the
#: fit has converged. The first value is used if a spline correction and `refine_positions` follow,
#: the second value otherwise.
_CLOSE, _CONVERGED = 0.02, 1e-3

#: Largest number of iterations of the fit of traces (first value), and numbers of the iterations in
#: which outliers are rejected, because the model is good enough by then (second value).
_STEPS, _REJECTING_STEPS = 9, (2, 4)

#: Largest change in a step of the positions in columns (first value), and of the logarithm of the
#: width (second value).
_MAX_SHIFT, _MAX_WIDENING = 1.0, 0.3

#: Refinement of positions: distance in columns from each source up to which pixels are fitted.
#: Pixels farther away do not constrain the position, and may belong to a different source.
_REFINED_COLUMNS = 6.0

#: Refinement of positions: largest number of steps. For faint blended sources, each step reduces
#: the error of the position by a factor of only about 2.
_REFINEMENTS = 8

#: Refinement of positions: change as a fraction of the 1-sigma error below which the fit has
#: converged.
_REFINED = 0.1


def fit_profile(
    pixels: PixelPlanes,
    traces: Array,
    *,
    positives: int | None = None,
    order: int | None = 0,
    reach: int = REACH,
    spline: bool = True,
    terms: int | None = None,
    trace_order: int | None = None,
    row_step: int = 1,
) -> SourceFit:
    """Fit the traces of all sources in an image, and the profile that is common to them.

    Parameters
    ----------
    pixels : PixelPlanes
        Image to fit.
    traces : ndarray
        Column of each source and negative trace in each row, accurate to about two columns, shape
        (source, row). The fit adds a shift to each trace, and a polynomial in the row that is the
        same for all traces.
    positives : int, optional
        Number of sources, not counting negative traces. In `traces`, the sources come first,
        followed for each nod by the negative traces of all sources in the same order. The distance
        from source to negative trace is the same for all sources. If None, there are no negative
        traces.
    order : int, optional
        Order of the background polynomial in each row. If None, no background is fitted.
    reach : int
        Distance in columns from the source beyond which the profile is 0.
    spline : bool
        Whether a spline correction is added to the Gaussian. If False, only the width of the
        Gaussian is fitted.
    terms : int, optional
        Number of terms of the spline correction's polynomial in wavelength. If None, 1 to 8 terms
        are chosen by the signal-to-noise ratio.
    trace_order : int, optional
        Order of the polynomial that is added to the traces. If None, an order from 0 to 3 is chosen
        by the signal-to-noise ratio.
    row_step : int
        Step in rows of the fit of positions and width. Steps above 1 save time for bright sources.

    Returns
    -------
    SourceFit
        Fitted profile and traces.

    Raises
    ------
    ProfileError
        If there is too little flux to fit a profile.

    Notes
    -----
    Traces and width are fitted by Gauss-Newton steps, with the fluxes and the background of each
    row projected out (Kaufman 1975). For a single source, linear least-squares fits of the spline
    correction alternate with fits of the fluxes. For several sources, the spline correction is
    fitted together with the positions (`fit_blend`).
    """
    count = len(traces) if positives is None else positives
    reach = max(min(reach, pixels.columns.size), 4)
    blended = count > 1
    first_order = 0 if blended and trace_order is None else trace_order
    fit = _TraceFit(pixels, traces, count, order, None, first_order, row_step)
    found = fit.run(_CLOSE if spline else _CONVERGED)
    if blended:
        return fit_blend(pixels, found, count, order, reach, spline, terms, trace_order)
    if not spline:
        return found
    return correct_profile(pixels, found, count, order, reach, terms)


def fit_traces(
    pixels: PixelPlanes,
    profile: SpatialProfile,
    traces: Array,
    *,
    positives: int | None = None,
    order: int | None = 0,
    trace_order: int | None = None,
    row_step: int = 1,
) -> SourceFit:
    """Fit the traces of all sources with a given profile.

    Parameters
    ----------
    profile : SpatialProfile
        Profile of all sources, which is not changed.
    pixels, traces, positives, order, trace_order, row_step
        See `fit_profile`.
    """
    count = len(traces) if positives is None else positives
    fit = _TraceFit(pixels, traces, count, order, profile, trace_order, row_step)
    return fit.run(_CONVERGED)


class _TraceFit:
    """Gauss-Newton fit of traces with a given profile, or of traces and width of a Gaussian.

    Parameters
    ----------
    profile : SpatialProfile or None
        Profile of all sources. If None, a Gaussian whose width is fitted.
    pixels, traces, positives, order, trace_order, row_step
        See `fit_profile`.
    """

    def __init__(
        self,
        pixels: PixelPlanes,
        traces: Array,
        positives: int,
        order: int | None,
        profile: SpatialProfile | None,
        trace_order: int | None,
        row_step: int,
    ) -> None:
        self.known = np.isfinite(traces)
        if not self.known.any():
            raise ProfileError("no row has a trace to start from")
        part = pixels.cut(np.nanmin(traces) - _MARGIN, np.nanmax(traces) + _MARGIN)
        self.pixels = reject_spikes(part.every_nth_row(row_step), 3 if row_step > 1 else 7)
        self.start = np.where(self.known, traces, 0.0)
        usable = (self.known.all(axis=0) & np.isfinite(pixels.wavelength))[::row_step]
        #: Pixels that are used in the fit; outliers are removed during the iterations.
        self.used = self.pixels.good & usable[:, np.newaxis]
        if not self.used.any():
            raise ProfileError("no pixel near the source is good")
        self.positives, self.row_step, self.trace_order = positives, row_step, trace_order
        self.profile = profile or GaussianProfile(domain=pixels.domain)
        self.fits_width = profile is None
        self.matrix = position_matrix(len(traces), positives)
        most = max(3, trace_order or 0)
        self.row_coordinate = np.linspace(-1.0, 1.0, pixels.data.shape[0])
        self.powers = _powers(self.row_coordinate[::row_step], most)
        wave = np.where(np.isfinite(self.pixels.wavelength), self.pixels.wavelength, 0.0)
        self.wave_coordinate = unit(wave, pixels.domain)
        rows = self.pixels.data.shape[0]
        self.background = background_basis(self.pixels.columns, order, rows)
        #: Parameters of the traces: changes of positions and of distances between nods, and
        #: coefficients of the polynomial that is added to all traces.
        self.positions, self.polynomial = np.zeros(len(self.matrix)), np.zeros(most)
        self.orders = (0, 0)  # orders of the trace and width polynomials
        self.floor = np.zeros((rows, 1))
        self.signal_to_noise = 0.0
        self.error = np.full(positives, np.nan)

    def run(self, convergence: float) -> SourceFit:
        """Iterate until all changes are below `convergence`, and return the fit.

        Changes of positions are in columns, changes of the width are fractions.
        """
        for step in range(_STEPS):
            change = self._step(step)
            if step > _REJECTING_STEPS[0] and change < convergence:
                break
        shift = (self.positions @ self.matrix)[:, np.newaxis]
        powers = _powers(self.row_coordinate, self.polynomial.size)
        traces = self.start + shift + powers @ self.polynomial
        if self.signal_to_noise <= 0 or not np.isfinite(traces).all():
            raise ProfileError("the source has no light to fit a profile to")
        traces = np.where(self.known, traces, np.nan)
        return SourceFit(self.profile, traces, self.signal_to_noise, self.error)

    def _step(self, step: int) -> float:
        """Fit the rows, change the parameters, and return the largest change."""
        pixels, count = self.pixels, len(self.start)
        shift = (self.positions @ self.matrix)[:, np.newaxis] + self.powers @ self.polynomial
        offsets = [pixels.offsets(t) for t in self.start[:, :: self.row_step] + shift]
        images = [ProfileImage.from_profile(self.profile, o, pixels.wavelength) for o in offsets]
        light = [image.light() for image in images]
        weight = self.used / (pixels.variance + self.floor)
        basis = light + self.background
        coefficients, inverse = fit_rows(basis, weight, pixels.data)
        flux = coefficients[:, :count].T
        self.floor = (_GAUSSIAN_FLOOR * peak_light(flux, light)) ** 2
        residual = residuals(pixels.data, basis, coefficients)
        rejecting = step in _REJECTING_STEPS
        if rejecting:
            self._reject(residual, flux, light)
            weight = np.where(self.used, weight, 0.0)
        power = np.einsum("rc,rc->r", light[0] ** 2, self.used / pixels.variance)
        signal = self.row_step * (np.maximum(flux[0], 0.0) ** 2 * power).sum()
        self.signal_to_noise = float(np.sqrt(signal))
        if step == 1:
            snr = self.signal_to_noise
            self.orders = trace_order_for(snr), width_order_for(snr)
        n_trace, n_width = self._numbers_of_terms(step)
        fields, along = self._derivatives(flux, images, n_trace, n_width)
        prior = np.zeros((2, sum(part.shape[1] for part in along)))
        polynomial = slice(len(self.matrix), len(self.matrix) + n_trace)
        if self.positives > 1:
            prior[:, polynomial] = self.polynomial[:n_trace], [TRACE_PRIOR**-2] * n_trace
        change, covariance = gauss_newton(
            fields,
            along,
            basis,
            weight,
            residual,
            prior[0],
            prior[1],
            None if rejecting else inverse,
        )
        self.error = parameter_errors(covariance)[: self.positives]
        biggest = self._apply(change, n_trace, n_width)
        if step == 2 and n_trace and self.trace_order is None:
            terms = self.polynomial[:n_trace]
            if not is_significant(terms, covariance[polynomial, polynomial]):
                self.polynomial[:], self.orders = 0.0, (0, self.orders[1])
        return biggest

    def _reject(self, residual: Array, flux: Array, light: list[Array]) -> None:
        """Reject outliers, with a tolerance for the errors of a model that has not converged."""
        model = sum(np.abs(f)[:, np.newaxis] * p for f, p in zip(flux, light, strict=True))
        peak = model.max(axis=1, keepdims=True)
        limit = CLIP * np.sqrt(self.pixels.variance) + UNCONVERGED_ERROR * peak + 0.1 * model
        self.used = self.used & ~(np.abs(residual) > limit)

    def _numbers_of_terms(self, step: int) -> tuple[int, int]:
        """Return how many terms of the trace and width polynomials are fitted in a step.

        The first step fits only positions, because they may be wrong by several columns.
        """
        if step == 0:
            return 0, 0
        n_trace = self.orders[0] if self.trace_order is None else self.trace_order
        if not self.fits_width:
            return n_trace, 0
        return n_trace, (self.orders[1] if step > 1 else 0) + 1

    def _derivatives(
        self, flux: Array, images: list[ProfileImage], n_trace: int, n_width: int
    ) -> tuple[list[Array], list[Array]]:
        """Return the derivatives of the model, and the terms of their polynomials along the rows.

        They are the arguments `fields` and `along` of `gauss_newton`.
        """
        pushed = [
            image.d_offset() * -f[:, np.newaxis] for f, image in zip(flux, images, strict=True)
        ]
        fields = position_derivatives(pushed, self.matrix)
        along = [np.ones((self.pixels.data.shape[0], 1))] * len(fields)
        if n_trace:
            fields.append(np.sum(pushed, axis=0))
            along.append(self.powers[:, :n_trace])
        if n_width:
            widened = [
                image.d_log_width() * f[:, np.newaxis]
                for f, image in zip(flux, images, strict=True)
            ]
            fields.append(np.sum(widened, axis=0))
            along.append(np.vander(self.wave_coordinate, n_width, increasing=True))
        return fields, along

    def _apply(self, change: Array, n_trace: int, n_width: int) -> float:
        """Change the parameters by a damped step, and return the size of the undamped step."""
        positions = change[: len(self.matrix)]
        polynomial = change[len(self.matrix) : len(self.matrix) + n_trace]
        biggest = float(np.abs(positions).max() + np.abs(polynomial).sum())
        damping = min(1.0, _MAX_SHIFT / max(biggest, 1e-12))
        self.positions = self.positions + positions * damping
        self.polynomial[:n_trace] += polynomial * damping
        if n_width:
            wider = change[-n_width:]
            total = float(np.abs(wider).sum())
            wider = wider * min(1.0, _MAX_WIDENING / max(total, 1e-12))
            assert isinstance(self.profile, GaussianProfile)
            self.profile = widen(self.profile, wider)
            biggest = max(biggest, total)
        return biggest


def _powers(coordinate: Array, order: int) -> Array:
    """Return powers 1 to `order` of a coordinate along the rows, shape (row, order)."""
    return np.vander(coordinate, order + 1, increasing=True)[:, 1:]


def refine_positions(
    pixels: PixelPlanes,
    variance: Array,
    found: SourceFit,
    *,
    positives: int,
    background: list[Array],
    own_profile: bool,
    step: float = 0.05,
) -> SourceFit:
    """Refine positions with a known profile, using all rows and the final variances.

    Parameters
    ----------
    pixels : PixelPlanes
        Image from which the models of the negative traces are subtracted.
    variance : ndarray
        Smooth variances of the pixels, shape (row, column).
    found : SourceFit
        Profile and traces, accurate to some tenths of a column.
    positives : int
        Number of sources, not counting negative traces.
    background : list of ndarray
        Terms of the background, each of shape (row, column).
    own_profile : bool
        Whether the profile was fitted to this image, relative to these traces. In this case the
        data do not define the centre of the profile, and the position is defined as the point about
        which the profile is most symmetric.
    step : float
        Step in columns to each side for numerical derivatives of the profile.

    Returns
    -------
    SourceFit
        Fit with shifted traces and errors of their positions. If the profile was fitted to this
        image, its `center` is set to the shift of the first trace, so that the model of the first
        source does not change.
    """
    profile, traces = found.profile, np.array(found.traces)
    own = profile if own_profile and isinstance(profile, EmpiricalProfile) else None
    shape = profile if own is None else own.symmetric()
    known = np.isfinite(traces).all(axis=0) & np.isfinite(pixels.wavelength)
    start = np.where(known, traces, 0.0)[:positives]
    first = np.nanmin(traces[:positives]) - _REFINED_COLUMNS
    last = np.nanmax(traces[:positives]) + _REFINED_COLUMNS
    part = pixels.columns_between(first, last)
    pixels, background = pixels.cut(first, last), [field[:, part] for field in background]
    within = np.any([np.abs(pixels.offsets(t)) <= _REFINED_COLUMNS for t in start], axis=0)
    used = pixels.good & within & known[:, np.newaxis]
    weight = np.where(used, 1.0 / variance[:, part], 0.0)
    shift, error = np.zeros(len(traces)), found.shift_error
    light = shape.at(pixels.wavelength)
    for _ in range(_REFINEMENTS):
        images, derivatives = [], []
        for trace, moved in zip(start, shift, strict=False):
            offset = pixels.offsets(trace + moved)
            right, left = light(offset + step), light(offset - step)
            # The mean of `right` and `left` saves time, but it is slightly too broad, which would
            # bias the positions of blended sources.
            images.append(light(offset) if positives > 1 else 0.5 * (right + left))
            derivatives.append((left - right) / (2.0 * step))
        basis = [*images, *background]
        coefficients, inverse = fit_rows(basis, weight, pixels.data)
        residual = residuals(pixels.data, basis, coefficients)
        fields = [f[:, np.newaxis] * d for f, d in zip(coefficients.T, derivatives, strict=False)]
        along = [np.ones((known.size, 1))] * positives
        change, covariance = gauss_newton(fields, along, basis, weight, residual, inverse=inverse)
        error = parameter_errors(covariance)
        shift[:positives] += np.clip(change, -0.5, 0.5)
        # Convergence is quadratic for a single source, but linear for blends.
        remaining = change**2 if positives == 1 else np.abs(change)
        if (remaining < _REFINED * error).all():
            break
    shift[positives:] = shift[0]
    if own is not None:
        profile = replace(own, center=float(shift[0]))
    else:
        shift[positives:] = 0.0
    return replace(found, profile=profile, traces=traces + shift[:, np.newaxis], shift_error=error)
