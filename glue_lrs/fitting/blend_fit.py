"""Joint fit of profile and positions of several sources.

The flux of each source overlaps the wings of its neighbours, so that positions, width, wings and
fluxes cannot be fitted one after the other. The sources can be separated because the profile is
assumed to be symmetric, close to a Gaussian of the expected width, and smooth in wavelength.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.polynomial import legendre

from glue_lrs._utils.typing import Array
from glue_lrs.fitting import spline_correction, trace_parameters
from glue_lrs.fitting.cutout import PixelPlanes
from glue_lrs.fitting.least_squares import (
    background_basis,
    fit_rows,
    gauss_newton,
    parameter_errors,
)
from glue_lrs.fitting.noise_model import nod_variance
from glue_lrs.fitting.options import FitOptions
from glue_lrs.fitting.outliers import reject_spikes
from glue_lrs.fitting.profile_derivatives import MIN_FACTOR, profile_images
from glue_lrs.fitting.source_fit import SourceFit
from glue_lrs.profiles.base import unit
from glue_lrs.profiles.empirical import EmpiricalProfile
from glue_lrs.profiles.gaussian import GaussianProfile

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


class BlendFit:
    """Fit of profile and positions of several sources by Gauss-Newton steps.

    The fluxes and the background of each row are projected out. The fitted parameters are, in this
    order: the changes of the positions of the sources and of the distances between nods
    (`positions`), the polynomial in the row that is added to all traces (`polynomial`), the
    polynomial in wavelength that is the ratio of the width to the expected width (`width`), and the
    coefficients of the symmetric spline correction (`even`, shape (pair, term)). A pair consists of
    the splines at two knots on opposite sides of the source.

    Parameters
    ----------
    pixels : PixelPlanes
        Image to fit.
    found : SourceFit
        Initial traces and Gaussian profile.
    options : FitOptions
        Options for the fit.
    """

    def __init__(self, pixels: PixelPlanes, found: SourceFit, options: FitOptions) -> None:
        assert isinstance(found.profile, GaussianProfile)
        self.found, self.base, self.options = found, found.profile, options
        spline, snr = options.spline, found.signal_to_noise
        terms = spline_correction.spline_terms(snr)
        self.half = options.reach - 2 if spline else 0  # number of knots on each side of the middle
        known = np.isfinite(found.traces).all(axis=0) & np.isfinite(pixels.wavelength)
        self.pixels = reject_spikes(spline_correction.near_sources(pixels, found.traces, options))
        rows = self.pixels.data.shape[0]
        self.start = np.where(known, found.traces, 0.0)
        self.matrix = trace_parameters.position_matrix(len(found.traces), found.positives)
        self.background = background_basis(self.pixels.columns, options.background_order, rows)
        self.wave = np.where(known, self.pixels.wavelength, self.base.domain[0])
        wave_coordinate = unit(self.wave, self.base.domain)
        bands = np.asarray(legendre.legvander(wave_coordinate, max(terms, 3) - 1), dtype=float)
        self.bands = bands[:, :terms]
        n_width = trace_parameters.count_passed(snr, trace_parameters.WIDTH_SNR) + 1
        self.used = self.pixels.good & known[:, np.newaxis]
        n_trace = options.trace_order
        if n_trace is None:
            n_trace = trace_parameters.count_passed(snr, trace_parameters.TRACE_SNR)
        self.curves = trace_parameters.powers(np.linspace(-1.0, 1.0, rows), n_trace)
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
                np.full(n_trace, trace_parameters.TRACE_PRIOR),
                np.where(np.arange(n_width) == 0, _WIDTH_PRIOR, 0.5 * _WIDTH_PRIOR),
                np.repeat(spline_correction.spline_prior(2 * self.half + 1)[self.half :], terms)
                if spline
                else [],
            ]
        )
        self.positions, self.polynomial = np.zeros(len(self.matrix)), np.zeros(n_trace)
        self.width = np.zeros(n_width)
        self.width[: len(self.base.factor)] = np.array(self.base.factor)[:n_width]
        self.even = np.zeros((self.half + 1 if spline else 0, terms))
        self.weight = self.used / self.pixels.variance

    def run(self) -> SourceFit:
        """Iterate until each parameter changes by less than a small fraction of its error."""
        error = np.ones(self.prior.size)
        polynomial = slice(len(self.matrix), len(self.matrix) + self.polynomial.size)
        for step in range(_STEPS):
            change, covariance = self._step(step)
            error = parameter_errors(covariance)
            free = self.polynomial.size and self.options.trace_order is None
            covered = covariance[polynomial, polynomial]
            if step == 4 and free and not trace_parameters.is_significant(self.polynomial, covered):
                self.polynomial[:], self.prior[polynomial] = 0.0, 1e-6
                continue
            if step > 3 and np.abs(change / error).max() < _CONVERGED:
                break
        profile = EmpiricalProfile(
            base=replace(self.base, factor=tuple(self.width)),
            coefficients=np.concatenate([self.even[:0:-1], self.even]),
        )
        shift = (self.positions @ self.matrix)[:, np.newaxis]
        traces = self.found.traces + shift + self.curves @ self.polynomial
        errors = error[: self.found.positives]
        return replace(self.found, profile=profile, traces=traces, shift_error=errors)

    def _step(self, step: int) -> tuple[Array, Array]:
        """Change the parameters by a damped step, and return the full step and its covariance."""
        pixels, count = self.pixels, len(self.start)
        shift = (self.positions @ self.matrix)[:, np.newaxis]
        offsets = pixels.offsets(self.start + shift + self.curves @ self.polynomial)
        profile = replace(self.base, factor=tuple(self.width))
        light, d_offset, d_width = profile_images(profile, offsets, self.wave)
        d_shift = -d_offset
        splined = offsets if self.options.spline else ()
        pairs = [spline_correction.spline_pairs(offset, self.half) for offset in splined]
        correction = self.bands @ self.even.T
        for i, pair in enumerate(pairs):
            light[i] += np.einsum("krc,rk->rc", pair, correction)
            change = spline_correction.spline_pairs(offsets[i] + _DERIVATIVE_STEP, self.half)
            change -= spline_correction.spline_pairs(offsets[i] - _DERIVATIVE_STEP, self.half)
            slope = np.einsum("krc,rk->rc", change, correction)
            d_shift[i] -= slope / (2.0 * _DERIVATIVE_STEP)
        basis = [*light, *self.background]
        coefficients, _ = fit_rows(basis, self.weight, pixels.data)
        flux = coefficients[:, :count].T[:, :, np.newaxis]
        residual = pixels.data - np.sum(
            [coefficients[:, i, np.newaxis] * field for i, field in enumerate(basis)], axis=0
        )
        self._reweigh(step, residual, flux * light, offsets)
        pushed = flux * d_shift
        fields = trace_parameters.position_derivatives(pushed, self.matrix)
        fields += [pushed.sum(axis=0), (flux * d_width).sum(axis=0)]
        if pairs:
            fields += list(np.sum([f * pair for f, pair in zip(flux, pairs, strict=True)], axis=0))
        # The ratio of the width to the expected width should be 1, all other parameters 0. The
        # prior on the positions limits only their next change.
        deviations = [np.zeros(len(self.matrix)), self.polynomial, self.width, self.even.ravel()]
        deviation = np.concatenate(deviations)
        deviation[len(self.matrix) + self.polynomial.size] -= 1.0
        change, covariance = gauss_newton(
            fields, self.along, basis, self.weight, residual, deviation, self.prior**-2
        )
        self._apply(change)
        return change, covariance

    def _reweigh(self, step: int, residual: Array, sources: Array, offsets: Array) -> None:
        """Update the weights with the model error assumed in this step, and reject outliers."""
        pixels, positives = self.pixels, self.found.positives
        peak = np.abs(sources.sum(axis=0)).max(axis=1, keepdims=True)
        floor = spline_correction.MODEL_ERROR_FLOORS[
            min(step, len(spline_correction.MODEL_ERROR_FLOORS) - 1)
        ]
        variance = pixels.variance + (floor * peak) ** 2
        for source, offset in zip(sources[positives:], offsets[positives:], strict=True):
            variance += nod_variance(source, offset)
        self.weight = self.used / variance
        if step > 1:
            limit = (
                spline_correction.CLIP * np.sqrt(pixels.variance)
                + 0.5 * spline_correction.UNCONVERGED_ERROR * peak
            )
            self.weight[np.abs(residual) > limit] = 0.0

    def _apply(self, change: Array) -> None:
        """Change the parameters by a damped step."""
        sizes = [len(self.matrix), self.polynomial.size, self.width.size]
        positions, polynomial, width, rest = np.split(change, np.cumsum(sizes).tolist())
        largest = np.abs(positions).max() + np.abs(polynomial).sum()
        narrowing = _MAX_WIDENING / max(np.abs(width).max(), 1e-9)
        damping = min(1.0, _MAX_SHIFT / max(largest, 1e-9), narrowing)
        self.positions += damping * positions
        self.polynomial += damping * polynomial
        # The step is in the logarithm of the width.
        self.width += damping * width * self.width[0]
        self.width[0] = max(self.width[0], MIN_FACTOR)
        self.even += damping * rest.reshape(self.even.shape)
