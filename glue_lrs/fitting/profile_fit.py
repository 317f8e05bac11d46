"""Fit of profile and positions for optimal extraction.

`fit_profile` fits an empirical profile and traces, `fit_traces` the traces of a given profile; both
begin with `_TraceFit`. `refine_positions` improves positions once the profile is known.
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

__all__ = ["fit_profile", "fit_traces", "refine_positions"]

#: Columns around the traces that are fitted: the profile and a strip of background.
_MARGIN = 9.0

#: Model-error floor of a Gaussian, as a fraction of the peak: real wings are not Gaussian, and
#: those of bright sources would otherwise determine the fit.
_GAUSSIAN_FLOOR = 0.02

#: Convergence, in columns and as a fraction of the width: before a spline correction, after which
#: `refine_positions` follows, and otherwise.
_CLOSE, _CONVERGED = 0.02, 1e-3

#: Iterations of the fit of traces, and those whose residuals reject outliers: the model is good
#: enough by then, and improves in between.
_STEPS, _REJECTING_STEPS = 9, (2, 4)

#: Largest change of positions in columns, and of the logarithm of the width, in a step.
_MAX_SHIFT, _MAX_WIDENING = 1.0, 0.3

#: Refinement of positions: columns around each source. Pixels farther away do not constrain the
#: position, but may belong to another source.
_REFINED_COLUMNS = 6.0

#: Refinement of positions: largest number of steps. Positions of faint blended sources converge by
#: a factor of 2 in each.
_REFINEMENTS = 8

#: Refinement of positions: convergence, as a fraction of the standard deviation.
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
    """Fit the profile that all sources of an image share, and their traces.

    Parameters
    ----------
    pixels : PixelPlanes
        The image.
    traces : ndarray
        Initial traces, right to about two columns, shape (source, row). Fitted traces are parallel,
        and differ from these by a polynomial in the row.
    positives : int, optional
        Number of sources, which come first; then, for each nod, a negative trace of each source,
        with the distances of the sources. None: all are sources.
    order : int, optional
        Order of the background's polynomial in each row; None: there is no background.
    reach : int
        Columns from the source at which the profile ends.
    spline : bool
        Whether the Gaussian has a spline correction; without it, only its width is fitted.
    terms : int, optional
        Terms of the correction's polynomial in wavelength. None: 1 to 8, by the signal-to-noise
        ratio.
    trace_order : int, optional
        Order of the polynomial that is added to the traces. None: 0 to 3, by the signal-to-noise
        ratio.
    row_step : int
        Position and width are fitted to every `row_step`-th row, to save time on bright sources.

    Returns
    -------
    SourceFit
        The profile and traces.

    Raises
    ------
    ProfileError
        If there is too little light to fit a profile to.

    Notes
    -----
    Traces and width are fitted by Gauss-Newton steps, with the fluxes and the background of each
    row projected out (Kaufman 1975). The correction of a single source is fitted by linear least
    squares, in turns with the fluxes; that of several together with their positions (`fit_blend`).
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
    """Fit the traces of sources of a given profile; parameters are those of `fit_profile`."""
    count = len(traces) if positives is None else positives
    fit = _TraceFit(pixels, traces, count, order, profile, trace_order, row_step)
    return fit.run(_CONVERGED)


class _TraceFit:
    """Gauss-Newton fit of traces of a given profile, or of traces and width of a Gaussian.

    Parameters
    ----------
    profile : SpatialProfile or None
        The given profile; None: a Gaussian.
    pixels, traces, positives, order, trace_order, row_step
        As of `fit_profile`.
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
        #: Pixels that count; outliers are removed on the way.
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
        #: Parameters: positions and distances of nods, coefficients of the common polynomial.
        self.positions, self.polynomial = np.zeros(len(self.matrix)), np.zeros(most)
        self.orders = (0, 0)  # of trace and width, by the signal-to-noise ratio
        self.floor = np.zeros((rows, 1))
        self.signal_to_noise = 0.0
        self.error = np.full(positives, np.nan)

    def run(self, convergence: float) -> SourceFit:
        """Iterate until positions (columns) and width (fraction) change by less."""
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
        """Fit the rows, then change the parameters; how much they change."""
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
        """Reject outliers with the tolerance of a model that has not converged."""
        model = sum(np.abs(f)[:, np.newaxis] * p for f, p in zip(flux, light, strict=True))
        peak = model.max(axis=1, keepdims=True)
        limit = CLIP * np.sqrt(self.pixels.variance) + UNCONVERGED_ERROR * peak + 0.1 * model
        self.used = self.used & ~(np.abs(residual) > limit)

    def _numbers_of_terms(self, step: int) -> tuple[int, int]:
        """Terms of trace and width: none at first, when positions are off by columns."""
        if step == 0:
            return 0, 0
        n_trace = self.orders[0] if self.trace_order is None else self.trace_order
        if not self.fits_width:
            return n_trace, 0
        return n_trace, (self.orders[1] if step > 1 else 0) + 1

    def _derivatives(
        self, flux: Array, images: list[ProfileImage], n_trace: int, n_width: int
    ) -> tuple[list[Array], list[Array]]:
        """Derivatives of the model, and the terms along the rows that each is multiplied by."""
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
        """Change the parameters by a damped step; the size of the undamped step."""
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
    """Powers 1, 2, ... of a coordinate along the rows, shape (row, order)."""
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
    """Refine positions with a known profile, all rows and the best weights.

    Parameters
    ----------
    pixels : PixelPlanes
        The image without its negative traces.
    variance : ndarray
        Smooth variances of its pixels, shape (row, column).
    found : SourceFit
        Profile and traces, right to some tenths of a column.
    positives : int
        As of `fit_profile`.
    background : list of ndarray
        Basis of the background, each of shape (row, column).
    own_profile : bool
        Whether the profile was fitted about these traces. Then the position within the profile is
        a matter of definition: it is where the profile is most symmetric.
    step : float
        Columns over which derivatives are taken.

    Returns
    -------
    SourceFit
        Shifted traces with errors of their positions. The centre of an own profile shifts with the
        trace of the first source: the model stays the same.
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
            # The mean of both is slightly too broad, which would bias blended sources.
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
        # Convergence is quadratic for a single source, linear for blends.
        remaining = change**2 if positives == 1 else np.abs(change)
        if (remaining < _REFINED * error).all():
            break
    shift[positives:] = shift[0]
    if own is not None:
        profile = replace(own, center=float(shift[0]))
    else:
        shift[positives:] = 0.0
    return replace(found, profile=profile, traces=traces + shift[:, np.newaxis], shift_error=error)
