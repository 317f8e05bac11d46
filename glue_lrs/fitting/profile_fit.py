"""Fit of profile and positions for optimal extraction.

`fit_profile` fits an empirical profile and the traces of the sources, or only the traces if the
profile is given. `refine_positions` improves the positions when the profile is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from glue_lrs._utils.typing import Array
from glue_lrs.errors import ProfileError
from glue_lrs.fitting import trace_parameters
from glue_lrs.fitting.blend_fit import BlendFit
from glue_lrs.fitting.cutout import PixelPlanes
from glue_lrs.fitting.least_squares import (
    background_basis,
    fit_rows,
    gauss_newton,
    parameter_errors,
    residuals,
)
from glue_lrs.fitting.noise_model import peak_light
from glue_lrs.fitting.options import FitOptions
from glue_lrs.fitting.outliers import reject_spikes
from glue_lrs.fitting.profile_derivatives import profile_images, widen
from glue_lrs.fitting.source_fit import SourceFit
from glue_lrs.fitting.spline_correction import CLIP, UNCONVERGED_ERROR, correct_profile
from glue_lrs.profiles.base import unit
from glue_lrs.profiles.empirical import EmpiricalProfile
from glue_lrs.profiles.gaussian import GaussianProfile

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

#: Refinement of positions: step in columns to each side for numerical derivatives of the profile.
_DERIVATIVE_STEP = 0.05


def fit_profile(
    pixels: PixelPlanes, traces: Array, options: FitOptions, positives: int, row_step: int = 1
) -> SourceFit:
    """Fit the traces of all sources in an image, and the profile that is common to them.

    Parameters
    ----------
    pixels : PixelPlanes
        Image to fit.
    traces : ndarray
        Column of each source and negative trace in each row, accurate to about two columns, shape
        (source, row). The sources come first, followed for each nod by the negative traces of all
        sources in the same order. The distance from source to negative trace is the same for all
        sources. The fit adds a shift to each trace, and a polynomial in the row that is the same
        for all traces.
    options : FitOptions
        Options that specify the background, the polynomial and the profile. If they contain a
        profile, only the traces are fitted.
    positives : int
        Number of sources, not counting negative traces.
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
    fitted together with the positions (`BlendFit`).
    """
    if options.profile is not None:
        return _TraceFit(pixels, traces, options, positives, row_step).run(_CONVERGED)
    options = replace(options, reach=max(min(options.reach, pixels.columns.size), 4))
    blended = positives > 1
    first = replace(options, trace_order=options.trace_order or 0) if blended else options
    fit = _TraceFit(pixels, traces, first, positives, row_step)
    found = fit.run(_CLOSE if options.spline else _CONVERGED)
    if blended:
        return BlendFit(pixels, found, options).run()
    return correct_profile(pixels, found, options) if options.spline else found


class _TraceFit:
    """Gauss-Newton fit of traces with a given profile, or of traces and width of a Gaussian.

    The parameters are described in `fit_profile`.
    """

    def __init__(
        self, pixels: PixelPlanes, traces: Array, options: FitOptions, positives: int, row_step: int
    ) -> None:
        self.known = np.isfinite(traces)
        if not self.known.any():
            raise ProfileError("no row has a trace to start from")
        part = pixels.cut(np.nanmin(traces) - _MARGIN, np.nanmax(traces) + _MARGIN)
        self.pixels = reject_spikes(part, row_step)
        self.start = np.where(self.known, traces, 0.0)
        usable = (self.known.all(axis=0) & np.isfinite(pixels.wavelength))[::row_step]
        #: Pixels that are used in the fit. Outliers are removed from it during the iterations.
        self.used = self.pixels.good & usable[:, np.newaxis]
        if not self.used.any():
            raise ProfileError("no pixel near the source is good")
        self.positives, self.row_step, self.options = positives, row_step, options
        self.profile = options.profile or GaussianProfile(domain=pixels.domain)
        self.matrix = trace_parameters.position_matrix(len(traces), positives)
        most = max(3, options.trace_order or 0)
        self.row_coordinate = np.linspace(-1.0, 1.0, pixels.data.shape[0])
        self.powers = trace_parameters.powers(self.row_coordinate[::row_step], most)
        wave = np.where(np.isfinite(self.pixels.wavelength), self.pixels.wavelength, 0.0)
        self.wave_coordinate = unit(wave, pixels.domain)
        rows = self.pixels.data.shape[0]
        self.background = background_basis(self.pixels.columns, options.background_order, rows)
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
        curve = trace_parameters.powers(self.row_coordinate, self.polynomial.size) @ self.polynomial
        traces = self.start + shift + curve
        if self.signal_to_noise <= 0 or not np.isfinite(traces).all():
            raise ProfileError("the source has no light to fit a profile to")
        traces = np.where(self.known, traces, np.nan)
        return SourceFit(self.profile, traces, self.signal_to_noise, self.error)

    def _step(self, step: int) -> float:
        """Fit the rows, change the parameters, and return the largest change."""
        pixels, count = self.pixels, len(self.start)
        shift = (self.positions @ self.matrix)[:, np.newaxis] + self.powers @ self.polynomial
        offsets = pixels.offsets(self.start[:, :: self.row_step] + shift)
        light, d_offset, d_width = profile_images(self.profile, offsets, pixels.wavelength)
        weight = self.used / (pixels.variance + self.floor)
        basis = [*light, *self.background]
        coefficients, inverse = fit_rows(basis, weight, pixels.data)
        flux = coefficients[:, :count].T[:, :, np.newaxis]
        self.floor = (_GAUSSIAN_FLOOR * peak_light(flux, light)) ** 2
        residual = residuals(pixels.data, basis, coefficients)
        rejecting = step in _REJECTING_STEPS
        if rejecting:  # with a tolerance for the errors of a model that has not converged
            model = (np.abs(flux) * light).sum(axis=0)
            peak = model.max(axis=1, keepdims=True)
            limit = CLIP * np.sqrt(pixels.variance) + UNCONVERGED_ERROR * peak + 0.1 * model
            self.used = self.used & ~(np.abs(residual) > limit)
            weight = np.where(self.used, weight, 0.0)
        power = np.einsum("rc,rc->r", light[0] ** 2, self.used / pixels.variance)
        signal = self.row_step * (np.maximum(flux[0, :, 0], 0.0) ** 2 * power).sum()
        self.signal_to_noise = float(np.sqrt(signal))
        if step == 1:
            snr = self.signal_to_noise
            self.orders = (
                trace_parameters.count_passed(snr, trace_parameters.TRACE_SNR),
                trace_parameters.count_passed(snr, trace_parameters.WIDTH_SNR),
            )
        n_trace, n_width = self._numbers_of_terms(step)
        pushed = d_offset * -flux
        fields = trace_parameters.position_derivatives(pushed, self.matrix)
        along = [np.ones((len(weight), 1))] * len(fields)
        if n_trace:
            fields.append(pushed.sum(axis=0))
            along.append(self.powers[:, :n_trace])
        if n_width:
            fields.append((d_width * flux).sum(axis=0))
            along.append(np.vander(self.wave_coordinate, n_width, increasing=True))
        prior = np.zeros((2, sum(part.shape[1] for part in along)))
        polynomial = slice(len(self.matrix), len(self.matrix) + n_trace)
        if self.positives > 1:
            prior[:, polynomial] = (
                self.polynomial[:n_trace],
                [trace_parameters.TRACE_PRIOR**-2] * n_trace,
            )
        usable = prior[0], prior[1], None if rejecting else inverse
        change, covariance = gauss_newton(fields, along, basis, weight, residual, *usable)
        self.error = parameter_errors(covariance)[: self.positives]
        biggest = self._apply(change, n_trace, n_width)
        if step == 2 and n_trace and self.options.trace_order is None:
            terms = self.polynomial[:n_trace]
            if not trace_parameters.is_significant(terms, covariance[polynomial, polynomial]):
                self.polynomial[:], self.orders = 0.0, (0, self.orders[1])
        return biggest

    def _numbers_of_terms(self, step: int) -> tuple[int, int]:
        """Return how many terms of the trace and width polynomials are fitted in a step.

        The first step fits only positions, because they may be wrong by several columns.
        """
        if step == 0:
            return 0, 0
        given = self.options.trace_order
        n_trace = self.orders[0] if given is None else given
        if self.options.profile is not None:
            return n_trace, 0
        return n_trace, (self.orders[1] if step > 1 else 0) + 1

    def _apply(self, change: Array, n_trace: int, n_width: int) -> float:
        """Change the parameters by a damped step, and return the size of the undamped step."""
        positions, polynomial, wider = np.split(
            change, np.cumsum([len(self.matrix), n_trace]).tolist()
        )
        biggest = float(np.abs(positions).max() + np.abs(polynomial).sum())
        damping = min(1.0, _MAX_SHIFT / max(biggest, 1e-12))
        self.positions = self.positions + positions * damping
        self.polynomial[:n_trace] += polynomial * damping
        if n_width:
            total = float(np.abs(wider).sum())
            wider = wider * min(1.0, _MAX_WIDENING / max(total, 1e-12))
            assert isinstance(self.profile, GaussianProfile)
            self.profile = widen(self.profile, wider)
            biggest = max(biggest, total)
        return biggest


def refine_positions(
    pixels: PixelPlanes,
    variance: Array,
    found: SourceFit,
    background: Sequence[Array],
    own_profile: bool,
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
    background : sequence of ndarray
        Terms of the background, each of shape (row, column).
    own_profile : bool
        Whether the profile was fitted to this image, relative to these traces. In this case the
        data do not define the centre of the profile, and the position is defined as the point about
        which the profile is most symmetric.

    Returns
    -------
    SourceFit
        Fit with shifted traces and errors of their positions. If the profile was fitted to this
        image, its `center` is set to the shift of the first trace, so that the model of the first
        source does not change.
    """
    profile, traces, positives = found.profile, found.traces, found.positives
    own = profile if own_profile and isinstance(profile, EmpiricalProfile) else None
    shape = profile if own is None else own.symmetric()
    known = np.isfinite(traces).all(axis=0) & np.isfinite(pixels.wavelength)
    start = np.where(known, traces, 0.0)[:positives]
    first = np.nanmin(traces[:positives]) - _REFINED_COLUMNS
    last = np.nanmax(traces[:positives]) + _REFINED_COLUMNS
    part = pixels.columns_between(first, last)
    pixels, background = pixels.part(part), [field[:, part] for field in background]
    within = (np.abs(pixels.offsets(start)) <= _REFINED_COLUMNS).any(axis=0)
    used = pixels.good & within & known[:, np.newaxis]
    weight = np.where(used, 1.0 / variance[:, part], 0.0)
    shift, error = np.zeros((len(traces), 1)), found.shift_error
    light = shape.at(pixels.wavelength)
    for _ in range(_REFINEMENTS):
        images, derivatives = [], []
        for offset in pixels.offsets(start + shift[:positives]):
            right, left = light(offset + _DERIVATIVE_STEP), light(offset - _DERIVATIVE_STEP)
            # The mean of `right` and `left` saves time, but it is slightly too broad, which would
            # bias the positions of blended sources.
            images.append(light(offset) if positives > 1 else 0.5 * (right + left))
            derivatives.append((left - right) / (2.0 * _DERIVATIVE_STEP))
        basis = [*images, *background]
        coefficients, inverse = fit_rows(basis, weight, pixels.data)
        residual = residuals(pixels.data, basis, coefficients)
        fields = [f[:, np.newaxis] * d for f, d in zip(coefficients.T, derivatives, strict=False)]
        along = [np.ones((known.size, 1))] * positives
        change, covariance = gauss_newton(fields, along, basis, weight, residual, inverse=inverse)
        error = parameter_errors(covariance)
        shift[:positives, 0] += np.clip(change, -0.5, 0.5)
        # Convergence is quadratic for a single source, but linear for blends.
        remaining = change**2 if positives == 1 else np.abs(change)
        if (remaining < _REFINED * error).all():
            break
    if own is not None:
        shift[positives:] = shift[0]
        profile = replace(own, center=float(shift[0, 0]))
    return replace(found, profile=profile, traces=traces + shift, shift_error=error)
