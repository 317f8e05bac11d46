"""Joint fit of profile and positions of several sources.

The flux of each source overlaps the wings of its neighbours, so that positions, width, wings and
fluxes cannot be fitted one after the other. The sources can be separated because the profile is
assumed to be symmetric, close to a Gaussian of the expected width, and smooth in wavelength.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial import legendre

from glue_lrs.fitting.least_squares import (
    background_basis,
    fit_rows,
    gauss_newton,
    parameter_errors,
)
from glue_lrs.fitting.noise_model import nod_variance
from glue_lrs.fitting.outliers import reject_spikes
from glue_lrs.fitting.profile_derivatives import MIN_FACTOR, ProfileImage
from glue_lrs.fitting.spline_correction import (
    CLIP,
    MODEL_ERROR_FLOORS,
    UNCONVERGED_ERROR,
    mirrored,
    near_sources,
    spline_pairs,
    spline_prior,
    spline_terms,
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
from glue_lrs.profiles.empirical import EmpiricalProfile
from glue_lrs.profiles.gaussian import GaussianProfile

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.fitting.cutout import PixelPlanes
    from glue_lrs.fitting.source_fit import SourceFit

#: Prior on the ratio of the width to the expected width, which is a polynomial in wavelength:
#: standard deviation of the constant term. The other terms have half this standard deviation.
_WIDTH_PRIOR = 0.1

#: Prior on the positions of the sources and the distances between nods: standard deviation in
#: columns.
_POSITION_PRIOR = 0.5

#: Largest number of Gauss-Newton steps (first value). The fit has converged when each parameter
#: changes by less than this fraction of its 1-sigma error (second value).
_STEPS, _CONVERGED = 12, 0.02

#: Largest change in a step of the positions, in columns (first value), and of the ratio of the
#: width to the expected width (second value).
_MAX_SHIFT, _MAX_WIDENING = 0.5, 0.2

#: Step in columns to each side for numerical derivatives of the splines.
_DERIVATIVE_STEP = 0.05


def fit_blend(
    pixels: PixelPlanes,
    found: SourceFit,
    positives: int,
    order: int | None,
    reach: int,
    spline: bool,
    terms: int | None,
    trace_order: int | None,
) -> SourceFit:
    """Fit profile and positions of several sources by Gauss-Newton steps.

    The fluxes and the background of each row are projected out.

    Parameters
    ----------
    pixels : PixelPlanes
        Image to fit.
    found : SourceFit
        Initial traces and Gaussian profile.
    positives, order, reach, spline, terms, trace_order
        See `fit_profile`.

    Returns
    -------
    SourceFit
        Empirical profile, traces, and errors of the positions.
    """
    fit = _BlendFit(pixels, found, positives, order, reach, spline, terms, trace_order)
    return fit.run()


class _BlendFit:
    """State of the fit by `fit_blend`, which describes the arguments.

    The fitted parameters are, in this order: the changes of the positions of the sources and of the
    distances between nods (`positions`), the polynomial in the row that is added to all traces
    (`polynomial`), the polynomial in wavelength that is the ratio of the width to the expected
    width (`width`), and the coefficients of the symmetric spline correction (`even`, shape
    (pair, term)). A pair consists of the splines at two knots on opposite sides of the source.
    """

    def __init__(
        self,
        pixels: PixelPlanes,
        found: SourceFit,
        positives: int,
        order: int | None,
        reach: int,
        spline: bool,
        terms: int | None,
        trace_order: int | None,
    ) -> None:
        assert isinstance(found.profile, GaussianProfile)
        self.found, self.base, self.positives = found, found.profile, positives
        snr = found.signal_to_noise
        if terms is None:
            terms = spline_terms(snr)
        self.half = reach - 2 if spline else 0  # number of knots on each side of the middle one
        known = np.isfinite(found.traces).all(axis=0) & np.isfinite(pixels.wavelength)
        self.pixels = reject_spikes(near_sources(pixels, found.traces, reach, order))
        rows, count = self.pixels.data.shape[0], len(found.traces)
        self.start = np.where(known, found.traces, 0.0)
        self.matrix = position_matrix(count, positives)
        self.background = background_basis(self.pixels.columns, order, rows)
        self.wave = np.where(known, self.pixels.wavelength, self.base.domain[0])
        wave_coordinate = unit(self.wave, self.base.domain)
        bands: Array = np.asarray(
            legendre.legvander(wave_coordinate, max(terms, 3) - 1), dtype=np.float64
        )
        self.bands = bands[:, :terms]
        n_width = width_order_for(snr) + 1
        self.used = self.pixels.good & known[:, np.newaxis]
        self.trace_order_given = trace_order is not None
        n_trace = trace_order_for(snr) if trace_order is None else trace_order
        coordinate = np.linspace(-1.0, 1.0, rows)
        self.curves = np.vander(coordinate, n_trace + 1, increasing=True)[:, 1:]
        self.spline = spline
        #: Terms of the polynomials along the rows, in the order of the parameters.
        self.along: list[Array] = [
            *[np.ones((rows, 1))] * len(self.matrix),
            self.curves,
            np.vander(wave_coordinate, n_width, increasing=True),
            *[self.bands] * (self.half + 1 if spline else 0),
        ]
        self.prior = np.concatenate(
            [
                np.full(len(self.matrix), _POSITION_PRIOR),
                np.full(n_trace, TRACE_PRIOR),
                np.where(np.arange(n_width) == 0, _WIDTH_PRIOR, 0.5 * _WIDTH_PRIOR),
                np.repeat(spline_prior(2 * self.half + 1)[self.half :], terms) if spline else [],
            ]
        )
        self.positions, self.polynomial = np.zeros(len(self.matrix)), np.zeros(n_trace)
        self.width = np.zeros(n_width)
        self.width[: len(self.base.factor)] = np.array(self.base.factor)[:n_width]
        self.even = np.zeros((self.half + 1, terms)) if spline else np.zeros((0, terms))
        self.weight = self.used / self.pixels.variance

    def run(self) -> SourceFit:
        """Iterate until each parameter changes by less than a small fraction of its error."""
        error = np.ones(self.prior.size)
        n_trace = self.polynomial.size
        for step in range(_STEPS):
            change, covariance = self._step(step)
            error = parameter_errors(covariance)
            if step == 4 and n_trace and not self.trace_order_given:
                polynomial = slice(len(self.matrix), len(self.matrix) + n_trace)
                if not is_significant(self.polynomial, covariance[polynomial, polynomial]):
                    self.polynomial, self.prior[polynomial] = np.zeros(n_trace), 1e-6
                    continue
            if step > 3 and np.abs(change / error).max() < _CONVERGED:
                break
        profile = EmpiricalProfile(
            base=replace(self.base, factor=tuple(self.width)), coefficients=mirrored(self.even)
        )
        shift = (self.positions @ self.matrix)[:, np.newaxis]
        traces = self.found.traces + shift + self.curves @ self.polynomial
        return replace(
            self.found, profile=profile, traces=traces, shift_error=error[: self.positives]
        )

    def _step(self, step: int) -> tuple[Array, Array]:
        """Change the parameters by a damped step; return the undamped step and the covariance."""
        pixels, count = self.pixels, len(self.start)
        shift = (self.positions @ self.matrix)[:, np.newaxis]
        traces = self.start + shift + self.curves @ self.polynomial
        offsets = [pixels.offsets(trace) for trace in traces]
        pairs = [spline_pairs(offset, self.half) for offset in offsets] if self.spline else []
        images, d_shift, d_width = self._images(offsets, pairs)
        basis = images + self.background
        coefficients, _ = fit_rows(basis, self.weight, pixels.data)
        flux = coefficients[:, :count].T[:, :, np.newaxis]
        residual = pixels.data - np.sum(
            [coefficients[:, i, np.newaxis] * field for i, field in enumerate(basis)], axis=0
        )
        self._reweigh(step, residual, [f * p for f, p in zip(flux, images, strict=True)], offsets)
        pushed = [f * d for f, d in zip(flux, d_shift, strict=True)]
        fields = position_derivatives(pushed, self.matrix)
        fields.append(np.sum(pushed, axis=0))
        fields.append(np.sum([f * d for f, d in zip(flux, d_width, strict=True)], axis=0))
        if self.spline:
            fields += list(np.sum([f * pair for f, pair in zip(flux, pairs, strict=True)], axis=0))
        change, covariance = gauss_newton(
            fields, self.along, basis, self.weight, residual, self._deviations(), self.prior**-2
        )
        self._apply(change)
        return change, covariance

    def _images(
        self, offsets: list[Array], pairs: list[Array]
    ) -> tuple[list[Array], list[Array], list[Array]]:
        """Return the profiles of all sources, and their derivatives.

        The derivatives are with respect to the position and to the logarithm of the width.
        """
        profile = replace(self.base, factor=tuple(self.width))
        coefficients = self.bands @ self.even.T
        images, d_shift, d_width = [], [], []
        for i, offset in enumerate(offsets):
            image = ProfileImage.from_profile(profile, offset, self.wave)
            light, derivative = image.light(), -image.d_offset()
            if self.spline:
                light += np.einsum("krc,rk->rc", pairs[i], coefficients)
                change = spline_pairs(offset + _DERIVATIVE_STEP, self.half)
                change -= spline_pairs(offset - _DERIVATIVE_STEP, self.half)
                derivative -= np.einsum("krc,rk->rc", change, coefficients) / (
                    2.0 * _DERIVATIVE_STEP
                )
            images.append(light)
            d_shift.append(derivative)
            d_width.append(image.d_log_width())
        return images, d_shift, d_width

    def _reweigh(
        self, step: int, residual: Array, sources: list[Array], offsets: list[Array]
    ) -> None:
        """Update the weights with the model error assumed in this step, and reject outliers."""
        pixels = self.pixels
        peak = np.abs(np.sum(sources, axis=0)).max(axis=1, keepdims=True)
        floor = MODEL_ERROR_FLOORS[min(step, len(MODEL_ERROR_FLOORS) - 1)]
        variance = pixels.variance + (floor * peak) ** 2
        for source, offset in zip(
            sources[self.positives :], offsets[self.positives :], strict=True
        ):
            variance += nod_variance(source, offset)
        self.weight = self.used / variance
        if step > 1:
            limit = CLIP * np.sqrt(pixels.variance) + 0.5 * UNCONVERGED_ERROR * peak
            self.weight[np.abs(residual) > limit] = 0.0

    def _deviations(self) -> Array:
        """Return the parameters minus the expected values, as the prior requires.

        The ratio of the width to the expected width should be 1, all other parameters 0. The
        deviations of the positions are always 0, so that the prior limits only their next change.
        """
        expected = np.zeros(self.width.size)
        expected[0] = 1.0
        return np.concatenate(
            [
                np.zeros(len(self.matrix)),
                self.polynomial,
                self.width - expected,
                self.even.ravel(),
            ]
        )

    def _apply(self, change: Array) -> None:
        """Change the parameters by a damped step."""
        sizes = [len(self.matrix), self.polynomial.size, self.width.size]
        positions, polynomial, width, rest = np.split(change, np.cumsum(sizes).tolist())
        largest = np.abs(positions).max() + np.abs(polynomial).sum()
        damping = min(
            1.0,
            _MAX_SHIFT / max(largest, 1e-9),
            _MAX_WIDENING / max(np.abs(width).max(), 1e-9),
        )
        self.positions = self.positions + damping * positions
        self.polynomial = self.polynomial + damping * polynomial
        # The step is in the logarithm of the width.
        self.width = self.width + damping * width * self.width[0]
        self.width[0] = max(self.width[0], MIN_FACTOR)
        self.even = self.even + damping * rest.reshape(self.even.shape)
