"""Fit of the profile and the traces of all sources in an image.

The model of a row is sum_s F_s P(c - t_s) + background. The profile P (`EmpiricalProfile`) and the
traces t_s have parameters that are common to all rows. The fluxes F_s and the background of each
row are linear, and are projected out (variable projection, Kaufman 1975). The common parameters
have Gaussian priors, and are fitted by Gauss-Newton steps in three stages: first the positions,
then also the width and the wings, and finally the modes of the correction. The strength of the
prior on the modes is chosen by the data: it maximises the evidence (MacKay 1992).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from glue_lrs._utils.statistics import running_mean
from glue_lrs._utils.typing import Array
from glue_lrs.errors import ProfileError
from glue_lrs.fitting.cutout import PixelPlanes
from glue_lrs.fitting.least_squares import background_basis, common_normal, fit_rows, residuals
from glue_lrs.fitting.noise_model import nod_variance
from glue_lrs.fitting.options import FitOptions
from glue_lrs.fitting.outliers import differs_from_neighbours, reject_spikes
from glue_lrs.fitting.source_fit import SourceFit
from glue_lrs.fitting.trace_parameters import (
    TRACE_PRIOR,
    TRACE_SNR,
    count_passed,
    is_significant,
    position_matrix,
)
from glue_lrs.profiles.base import SpatialProfile
from glue_lrs.profiles.empirical import EmpiricalProfile
from glue_lrs.profiles.shape_modes import WING_FRACTION, shape_modes

#: Number of Legendre terms in the logarithm of the wavelength for the width, the wings and the
#: modes.
_WIDTH_TERMS, _WING_TERMS, _MODE_TERMS = 5, 2, 8

#: Standard deviation of the prior on the logarithm of the width. It is divided by the number of
#: each term, as is that on the coefficients of the modes, so that smooth functions are preferred.
_WIDTH_PRIOR = 0.15

#: Standard deviation in columns of the prior on the coefficients of the trace polynomial for a
#: single source; see `TRACE_PRIOR` for several.
_SINGLE_TRACE_PRIOR = 0.5

#: Largest change in a step of the positions in columns, and of the logarithm of the width.
_MAX_SHIFT, _MAX_WIDENING = 1.0, 0.5

#: Largest number of steps in a stage (first value), and decrease of chi-square in a step below
#: which a stage has converged (second value).
_STEPS, _CONVERGED = 12, 0.5

#: Number of standard deviations above which a pixel is an outlier after the second stage, when the
#: model is approximate, and after the last stage.
_FIRST_CLIP, _CLIP = 8.0, 5.0

#: Signal-to-noise ratio of the flux in a row above which fluxes are not averaged over rows.
_FLUX_SNR = 60.0

#: Signal-to-noise ratios of the source above which only every second and third row is used to fit
#: the modes.
_ROW_STEP_SNR = (4000.0, 8000.0)


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
    """
    fit = _ProfileFit(pixels, traces, options, positives, row_step)
    fit.fit_positions()
    if options.profile is not None:
        fit.reject(_FIRST_CLIP)
        fit.fit_positions()
    else:
        fit.fit_width(with_wings=options.spline)
        if options.spline:
            fit.fit_modes()
    return fit.result()


@dataclass(frozen=True)
class _Parameters:
    """Parameters that are common to all rows, and their prior.

    Parameters
    ----------
    values, mean, deviation : ndarray
        Values of the parameters, and mean and standard deviation of their Gaussian prior, shape
        (n,): the positions and distances of nods (`position_matrix`), the trace polynomial, the
        width, the wings, and the modes (mode by mode).
    sizes : tuple of int
        Number of each of these five kinds of parameters.
    """

    values: Array
    mean: Array
    deviation: Array
    sizes: tuple[int, ...]

    def slice(self, kind: int) -> slice:
        """Return the slice of a kind of parameters."""
        first = sum(self.sizes[:kind])
        return slice(first, first + self.sizes[kind])

    def __getitem__(self, kind: int) -> Array:
        return self.values[self.slice(kind)]


_POSITIONS, _TRACE, _WIDTH, _WINGS, _MODES = range(5)


@dataclass(eq=False)
class _Evaluation:
    """Model for a set of parameters, fitted to each row.

    Parameters
    ----------
    offsets : list of ndarray
        Distance of each pixel from each trace in columns, each of shape (row, column).
    images : list of ndarray
        Profile of each source and negative trace, each of shape (row, column).
    coefficients, inverse : ndarray
        Fluxes and background (row, term), and inverse normal matrices (row, term, term).
    residual : ndarray
        Data minus model, shape (row, column).
    objective : float
        Chi-square plus the terms of the prior.
    """

    offsets: list[Array]
    images: list[Array]
    coefficients: Array
    inverse: Array
    residual: Array
    objective: float = field(default=np.inf)


class _ProfileFit:
    """State of the fits by `fit_profile` and `fit_traces`, which describe the arguments."""

    def __init__(
        self, pixels: PixelPlanes, traces: Array, options: FitOptions, positives: int, row_step: int
    ) -> None:
        known = np.isfinite(traces).all(axis=0) & np.isfinite(pixels.wavelength)
        if not known.any():
            raise ProfileError("no row has a trace to start from")
        self.all_pixels, self.all_traces = pixels, traces
        self.order, self.trace_order = options.background_order, options.trace_order
        self.count, self.positives = len(traces), positives
        self.profile = options.profile or EmpiricalProfile(
            domain=pixels.domain,
            width=(0.0,) * _WIDTH_TERMS,
            wings=(WING_FRACTION if options.spline else 0.0,) + (0.0,) * (_WING_TERMS - 1),
            coefficients=np.zeros((shape_modes().number, _MODE_TERMS)),
            reach=max(min(options.reach, pixels.columns.size), 4),
        )
        self.matrix = position_matrix(self.count, self.positives)
        size = len(TRACE_SNR) if options.trace_order is None else options.trace_order
        several = self.positives > 1
        number = np.arange(1, size + 1)
        trace_prior = np.full(size, TRACE_PRIOR) if several else _SINGLE_TRACE_PRIOR / number
        parts = [np.zeros(len(self.matrix)), np.zeros(size)]
        deviations = [np.full(len(self.matrix), 10.0), trace_prior]
        if isinstance(self.profile, EmpiricalProfile):
            profile = self.profile
            shape = profile.coefficients.shape
            parts += [np.array(profile.width), np.array(profile.wings), np.zeros(shape).ravel()]
            decreasing = 1.0 / np.arange(1, shape[1] + 1)
            # Asymmetric modes would compete with the positions of blended sources.
            used = shape_modes().even | (not several)
            deviations += [
                _WIDTH_PRIOR / np.arange(1, len(profile.width) + 1),
                WING_FRACTION / np.arange(1, len(profile.wings) + 1) ** 2,
                np.where(used[:, np.newaxis], decreasing, 1e-6).ravel(),
            ]
        else:
            parts += [np.zeros(0)] * 3
            deviations += [np.zeros(0)] * 3
        values = np.concatenate(parts)
        self.parameters = _Parameters(
            values, values.copy(), np.concatenate(deviations), tuple(p.size for p in parts)
        )
        self.covariance = np.zeros((0, 0))
        self.position_error = np.full(self.positives, np.nan)
        self.signal_to_noise = 0.0
        self._choose_rows(row_step)

    def _choose_rows(self, step: int) -> None:
        """Select the rows to fit, and reset the rejected pixels."""
        traces = self.all_traces[:, ::step]
        self.pixels = pixels = reject_spikes(self.all_pixels, step)
        known = np.isfinite(traces).all(axis=0) & np.isfinite(pixels.wavelength)
        self.start = np.where(known, traces, 0.0)
        self.wave = np.where(known, pixels.wavelength, 8.0)
        self.good = pixels.good & known[:, np.newaxis]
        if not self.good.any():
            raise ProfileError("no pixel near the source is good")
        self.used = self.good
        rows, self.row_step = len(self.start[0]), step
        self.background = background_basis(pixels.columns, self.order, rows)
        coordinate = np.linspace(-1.0, 1.0, rows)
        self.powers = legendre.legvander(coordinate, self.parameters.sizes[_TRACE])[:, 1:]
        self.variance = pixels.variance

    # --- stages ------------------------------------------------------------------------------

    def fit_positions(self) -> None:
        """Fit the positions, and with a given profile also the trace polynomial."""
        self._iterate([_POSITIONS], steps=2)
        self.reject(_FIRST_CLIP)
        self._iterate([_POSITIONS], steps=2)
        self._measure_signal()
        if not isinstance(self.profile, EmpiricalProfile):
            self._iterate([_POSITIONS, self._trace_kind()])
            self._drop_insignificant_trace()

    def fit_width(self, with_wings: bool) -> None:
        """Fit positions, trace polynomial, width and wings."""
        kinds = [_POSITIONS, self._trace_kind(), _WIDTH, *([_WINGS] if with_wings else [])]
        self._iterate(kinds, steps=4)
        self.reject(_FIRST_CLIP)
        self._measure_signal()
        self._trace_kind()
        self._iterate(kinds)
        self._drop_insignificant_trace()

    def fit_modes(self) -> None:
        """Fit the modes, with the positions of blended sources."""
        step = 1 + count_passed(self.signal_to_noise, _ROW_STEP_SNR)
        if step != self.row_step:
            self._choose_rows(step)
        kinds = [_WINGS, _MODES]
        if self.positives > 1:
            kinds = [_POSITIONS, self._trace_kind(), *kinds]
        self.reject(_FIRST_CLIP)
        self._iterate(kinds, evidence=True)
        used = self.used
        self.reject(_CLIP)
        if (self.used != used).any():
            self._iterate(kinds)

    def reject(self, threshold: float) -> None:
        """Reject outliers, and include the error of the negative traces in the variance."""
        state = self._evaluate(self.parameters)
        self.used = self.good & ~differs_from_neighbours(
            state.residual / np.sqrt(self.pixels.variance), self.good, threshold
        )
        self.variance = self.pixels.variance.copy()
        for s in range(self.positives, self.count):
            negative = state.coefficients[:, s, np.newaxis] * state.images[s]
            self.variance += nod_variance(negative, state.offsets[s])

    def result(self) -> SourceFit:
        """Return the fitted profile and traces."""
        traces, parameters = self.all_traces, self.parameters
        coordinate = np.linspace(-1.0, 1.0, traces.shape[1])
        powers = legendre.legvander(coordinate, parameters.sizes[_TRACE])[:, 1:]
        shift = (parameters[_POSITIONS] @ self.matrix)[:, np.newaxis]
        traces = traces + shift + powers @ parameters[_TRACE]
        if self.signal_to_noise <= 0 or not np.isfinite(traces).any():
            raise ProfileError("the source has no light to fit a profile to")
        covariance = self.covariance if self.positives == 1 and self.covariance.size else None
        return SourceFit(
            self._profile(parameters), traces, self.signal_to_noise, self.position_error, covariance
        )

    # --- trace and signal --------------------------------------------------------------------

    def _trace_kind(self) -> int:
        """Return the kind of parameters of the trace, whose prior allows as many as are useful."""
        if self.trace_order is None:
            order = count_passed(self.signal_to_noise, TRACE_SNR)
            unused = self.parameters.slice(_TRACE)
            self.parameters.deviation[unused][order:] = 1e-9
        return _TRACE

    def _drop_insignificant_trace(self) -> None:
        """Set the trace polynomial to 0 if it is not significant and was not asked for."""
        part, parameters = self.parameters.slice(_TRACE), self.parameters
        free = np.flatnonzero(parameters.deviation[part] > 1e-6) + part.start
        if self.trace_order is not None or not free.size:
            return
        covariance = self.trace_covariance[np.ix_(free - part.start, free - part.start)]
        if not is_significant(parameters.values[free], covariance):
            parameters.values[part] = 0.0
            parameters.deviation[part] = 1e-9

    def _measure_signal(self) -> None:
        """Measure the signal-to-noise ratio of the first source, for all rows together."""
        state = self._evaluate(self.parameters)
        power = np.einsum("rc,rc->r", state.images[0] ** 2, self.used / self.pixels.variance)
        signal = self.row_step * (np.maximum(state.coefficients[:, 0], 0.0) ** 2 * power).sum()
        self.signal_to_noise = float(np.sqrt(signal))

    # --- model -------------------------------------------------------------------------------

    def _profile(self, parameters: _Parameters) -> SpatialProfile:
        if not isinstance(self.profile, EmpiricalProfile):
            return self.profile
        return replace(
            self.profile,
            width=tuple(parameters[_WIDTH]),
            wings=tuple(parameters[_WINGS]),
            coefficients=parameters[_MODES].reshape(self.profile.coefficients.shape),
        )

    def _evaluate(self, parameters: _Parameters) -> _Evaluation:
        """Evaluate the model, and fit the fluxes and the background of each row."""
        pixels = self.pixels
        shift = (parameters[_POSITIONS] @ self.matrix)[:, np.newaxis]
        traces = self.start + shift + self.powers @ parameters[_TRACE]
        light = self._profile(parameters).at(self.wave)
        offsets = list(pixels.offsets(traces))
        images = [light(offset) for offset in offsets]
        basis, weight = [*images, *self.background], self.used / self.variance
        coefficients, inverse = fit_rows(basis, weight, pixels.data)
        residual = residuals(pixels.data, basis, coefficients)
        deviation = (parameters.values - parameters.mean) / parameters.deviation
        objective = float((weight * residual**2).sum() + (deviation**2).sum())
        return _Evaluation(offsets, images, coefficients, inverse, residual, objective)

    def _derivatives(self, state: _Evaluation, kinds: list[int]) -> list[tuple[Array, Array]]:
        """Return the derivatives of the model for each kind of parameters.

        Each derivative is the product of fields on the pixels, shape (row, field, column), and of
        terms along the rows, shape (row, term).
        """
        flux = self._smooth_fluxes(state.coefficients[:, : self.count])
        profile, out = self._profile(self.parameters), []
        if not isinstance(profile, EmpiricalProfile):
            pushed = [-profile.derivative(offset, self.wave) for offset in state.offsets]
            return self._trace_derivatives(kinds, flux, pushed)
        light = profile.at(self.wave)
        parts = [light.derivatives(offset) for offset in state.offsets]
        if _POSITIONS in kinds:
            out += self._trace_derivatives(kinds, flux, [-part.d_offset() for part in parts])
        for kind, name, number in (
            (_WIDTH, "d_width", len(profile.width)),
            (_WINGS, "d_wings", len(profile.wings)),
            (_MODES, "d_modes", profile.coefficients.shape[1]),
        ):
            if kind in kinds:
                total: Array | float = 0.0
                for f, part in zip(flux.T, parts, strict=True):
                    total = total + f[:, np.newaxis, np.newaxis] * getattr(part, name)()
                terms = legendre.legvander(profile.unit(self.wave), number - 1)
                out.append((np.asarray(total), terms))
        return out

    def _trace_derivatives(
        self, kinds: list[int], flux: Array, d_trace: list[Array]
    ) -> list[tuple[Array, Array]]:
        """Return the derivatives with respect to positions and trace polynomial."""
        pushed = np.stack(
            [f[:, np.newaxis] * d for f, d in zip(flux.T, d_trace, strict=True)], axis=1
        )
        out = [(np.matmul(self.matrix, pushed), np.ones((len(flux), 1)))]
        if _TRACE in kinds:
            out.append((pushed.sum(axis=1, keepdims=True), self.powers))
        return out

    def _smooth_fluxes(self, flux: Array) -> Array:
        """Average the fluxes of faint sources over rows.

        The errors of flux and background in a row are correlated with its residuals, and would
        otherwise bias the profile.
        """
        rows = max(int(self.good.any(axis=1).sum()) * self.row_step, 1)
        in_row = self.signal_to_noise / np.sqrt(rows)
        half = int(np.clip(0.5 * (_FLUX_SNR / max(in_row, 1e-3)) ** 2, 0, 12))
        if not half:
            return flux
        return running_mean(flux, np.ones(flux.shape, dtype=bool), half)

    # --- steps -------------------------------------------------------------------------------

    def _iterate(self, kinds: list[int], steps: int = _STEPS, evidence: bool = False) -> None:
        """Make Gauss-Newton steps, each halved until the objective decreases."""
        state = self._evaluate(self.parameters)
        for step in range(steps):
            blocks = self._derivatives(state, kinds)
            matrix, gradient = common_normal(
                blocks, [*state.images, *self.background], self.used / self.variance,
                state.residual, state.inverse,
            )  # fmt: skip
            free = np.concatenate(
                [np.arange(self.parameters.values.size)[self.parameters.slice(k)] for k in kinds]
            )
            if evidence and step < 2:
                self._choose_prior(matrix, gradient, free)
                state.objective = self._evaluate(self.parameters).objective
            parameters = self.parameters
            precision = parameters.deviation[free] ** -2.0
            gradient = gradient - precision * (parameters.values - parameters.mean)[free]
            regular = matrix + np.diag(precision)
            change = np.linalg.solve(regular, gradient)
            predicted = float(change @ gradient)
            if predicted < _CONVERGED and not (evidence and step < 2):
                break
            damping = self._damping(change, kinds)
            for _ in range(6):
                values = parameters.values.copy()
                values[free] += damping * change
                trial = replace(parameters, values=values)
                new = self._evaluate(trial)
                if new.objective < state.objective:
                    self.parameters, state = trial, new
                    break
                damping *= 0.5
            else:
                break
        self._store_errors(np.linalg.inv(regular), kinds)

    def _damping(self, change: Array, kinds: list[int]) -> float:
        """Return the factor that limits a step of positions and width."""
        largest, first = 1.0, 0
        for kind in kinds:
            part = change[first : first + self.parameters.sizes[kind]]
            first += part.size
            limit = {_POSITIONS: _MAX_SHIFT, _WIDTH: _MAX_WIDENING}.get(kind)
            if limit is not None:
                largest = max(largest, float(np.abs(part).max()) / limit)
        return 1.0 / largest

    def _choose_prior(self, matrix: Array, gradient: Array, free: NDArray[np.intp]) -> None:
        """Scale the prior on the modes of the core to maximise the evidence.

        The squared scale is the mean square of the coefficients, in units of their prior, divided
        by the number of coefficients that the data determine (MacKay 1992, eq. 28 and 32).
        """
        parameters = self.parameters
        core = np.zeros(parameters.values.size, dtype=bool)
        modes = shape_modes()
        core[parameters.slice(_MODES)] = np.repeat(modes.core, _MODE_TERMS)
        core &= parameters.deviation > 1e-5
        inside = core[free]
        for _ in range(2):
            precision = parameters.deviation[free] ** -2.0
            covariance = np.linalg.inv(matrix + np.diag(precision))
            values = parameters.values[free] + covariance @ (
                gradient - precision * (parameters.values - parameters.mean)[free]
            )
            determined = 1.0 - np.diag(covariance) * precision
            scale = np.sqrt((values**2 * precision)[inside].sum() / determined[inside].sum())
            parameters.deviation[core] *= float(np.clip(scale, 0.03, 30.0))

    def _store_errors(self, covariance: Array, kinds: list[int]) -> None:
        """Store the covariances of positions, trace polynomial and modes."""
        first = 0
        for kind in kinds:
            part = slice(first, first + self.parameters.sizes[kind])
            first = part.stop
            if kind == _POSITIONS:
                variance = np.diag(covariance)[part][: self.positives]
                self.position_error = np.sqrt(variance)
            elif kind == _TRACE:
                self.trace_covariance = covariance[part, part]
            elif kind == _MODES:
                self.covariance = covariance[part, part]
