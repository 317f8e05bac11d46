"""Fit of the profile and the traces of all sources in an image.

The model of a row is sum_s F_s P(c - t_s) + background. The profile P (`EmpiricalProfile`) and the
traces t_s have parameters that are common to all rows. The fluxes F_s and the background of each
row are linear, and are projected out (variable projection, Kaufman 1975). The common parameters
have Gaussian priors, and are fitted by Gauss-Newton steps in three stages: first the positions,
then also the width and the wings, and finally the modes of the correction. The strength of the
prior on the modes is chosen by the data: it maximises the evidence (MacKay 1992).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.ndimage import median_filter
from scipy.optimize import nnls

from glue_lrs._utils.statistics import running_mean
from glue_lrs._utils.typing import Array, Mask
from glue_lrs.errors import ProfileError
from glue_lrs.fitting.cutout import PixelPlanes
from glue_lrs.fitting.least_squares import (
    background_basis,
    cholesky,
    common_gradient,
    common_normal,
    fit_rows,
    no_profile,
    residuals,
)
from glue_lrs.fitting.noise_model import model_change, nod_variance
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
from glue_lrs.profiles.base import Light
from glue_lrs.profiles.empirical import EmpiricalLight, EmpiricalProfile
from glue_lrs.profiles.shape_modes import shape_modes, wing_fractions

#: Number of Legendre terms in the logarithm of the wavelength for the width, the wings, the modes
#: of the core and those of the wings.
_WIDTH_TERMS, _WING_TERMS, _CORE_TERMS, _WING_MODE_TERMS = 8, 3, 8, 3

#: Standard deviation of the prior on the logarithm of the width. It is divided by the number of
#: each term, as is that on the coefficients of the modes, so that smooth functions are preferred.
_WIDTH_PRIOR = 0.15

#: Standard deviation of the prior on the coefficients of each wing, as a multiple of its mean.
_WING_PRIOR = 3.0

#: Standard deviation in columns of the prior on the coefficients of the trace polynomial for a
#: single source; see `TRACE_PRIOR` for several.
_SINGLE_TRACE_PRIOR = 0.5

#: Largest change in a step of the positions in columns, and of the logarithm of the width.
_MAX_SHIFT, _MAX_WIDENING = 1.0, 0.5

#: Largest number of steps in a stage, and predicted decrease of the objective in the next step
#: below which a stage has converged.
_STEPS, _CONVERGED = 12, 0.5

#: Damping of the first trial after a step that did not decrease the objective, as a fraction of the
#: normal matrix's diagonal, and largest number of trials, each with ten times the damping.
_DAMPING, _TRIALS = 1e-4, 5

#: Number of standard deviations above which a pixel is an outlier after the second stage, when the
#: model is approximate, and after the last stage.
_FIRST_CLIP, _CLIP = 8.0, 5.0

#: Relative change of chi-square by rejection above which the modes are fitted again. Positions and
#: width are fitted with them if chi-square is then `_MISFIT` standard deviations too large although
#: more than the fraction `_CLEAN` of the pixels was accepted.
_CHANGED, _MISFIT, _CLEAN = 0.02, 5.0, 0.95

#: Smallest fraction of good pixels within `_NEAR` columns of the source. With fewer, most rows have
#: fewer than two pixels in the core of the profile.
_FEWEST_GOOD, _NEAR = 0.25, 4.0

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
        Use every `row_step`-th row for positions and width, to save time for bright sources.

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
    if options.profile is None:
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
        Values, and mean and standard deviation of their Gaussian prior, shape (n,): positions with
        distances of nods (`position_matrix`), trace polynomial, width, wings, core and wing modes.
    sizes : tuple of int
        Number of parameters of each of these six kinds.
    """

    values: Array
    mean: Array
    deviation: Array
    sizes: tuple[int, ...]

    def slice(self, kind: int) -> slice:
        """Return the slice of `values` with the parameters of a kind, such as `_WIDTH`."""
        first = sum(self.sizes[:kind])
        return slice(first, first + self.sizes[kind])

    @property
    def modes(self) -> Array:
        """Coefficients of the modes, for each term that `_fitted_terms` selects."""
        return self.values[-(self.sizes[_CORE_MODES] + self.sizes[_WING_MODES]) :]

    @property
    def penalty(self) -> float:
        """Sum of the squared differences from the prior mean in standard deviations."""
        return float((((self.values - self.mean) / self.deviation) ** 2).sum())

    def __getitem__(self, kind: int) -> Array:
        return self.values[self.slice(kind)]


_POSITIONS, _TRACE, _WIDTH, _WINGS, _CORE_MODES, _WING_MODES = range(6)


def _expected_wings() -> tuple[tuple[float, ...], ...]:
    """Return the expected coefficients of the wings, as in `EmpiricalProfile`."""
    return tuple((fraction,) * _WING_TERMS for fraction in wing_fractions().tolist())


def _fitted_terms() -> Mask:
    """Return True for each fitted term of each deformation of the profile, shape (mode, term)."""
    number = np.where(shape_modes().core, _CORE_TERMS, _WING_MODE_TERMS)
    return np.arange(_CORE_TERMS) < number[:, np.newaxis]


@dataclass(eq=False)
class _Evaluation:
    """Model for a set of parameters, fitted to each row.

    Parameters
    ----------
    light : Light
        Profile at the wavelengths of the rows.
    offsets : list of ndarray
        Distance of each pixel from each trace in columns, each of shape (row, column).
    images : list of ndarray
        Profile of each source and negative trace, each of shape (row, column).
    coefficients, inverse : ndarray
        Fluxes and background (row, term), and inverse normal matrices (row, term, term).
    residual : ndarray
        Data minus model, shape (row, column).
    chi2 : float
        Chi-square.
    """

    light: Light
    offsets: list[Array]
    images: list[Array]
    coefficients: Array
    inverse: Array
    residual: Array
    chi2: float


class _ProfileFit:
    """State of the fit by `fit_profile`, which describes the arguments."""

    def __init__(
        self, pixels: PixelPlanes, traces: Array, options: FitOptions, positives: int, row_step: int
    ) -> None:
        known = np.isfinite(traces).all(axis=0) & np.isfinite(pixels.wavelength)
        if not known.any():
            raise ProfileError("no row has a trace and a wavelength to start the fit from")
        self.all_pixels, self.all_traces, self.given = pixels, traces, options.profile
        self.order, self.trace_order = options.background_order, options.trace_order
        self.count, self.positives = len(traces), positives
        self.start_profile = EmpiricalProfile(
            domain=pixels.domain,
            width=(0.0,) * _WIDTH_TERMS,
            wings=_expected_wings() if options.spline else (),
            coefficients=np.zeros((shape_modes().number, _CORE_TERMS)),
            reach=max(min(options.reach, pixels.columns.size), 4),
        )
        self.matrix = position_matrix(self.count, self.positives)
        size = len(TRACE_SNR) if options.trace_order is None else options.trace_order
        several = self.positives > 1
        number = np.arange(1, size + 1)
        trace_prior = np.full(size, TRACE_PRIOR) if several else _SINGLE_TRACE_PRIOR / number
        parts = [np.zeros(len(self.matrix)), np.zeros(size)]
        deviations = [np.full(len(self.matrix), 10.0), trace_prior]
        if self.given is None:
            profile = self.start_profile
            # Asymmetric modes would compete with the positions of blended sources.
            used, core = shape_modes().even | (not several), shape_modes().core
            modes = [
                np.where(used[part][:, np.newaxis], 1.0 / np.arange(1, terms + 1), 1e-6).ravel()
                for part, terms in ((core, _CORE_TERMS), (~core, _WING_MODE_TERMS))
            ]
            wings = np.array(profile.wings).ravel()
            parts += [np.array(profile.width), wings, *map(np.zeros_like, modes)]
            deviations += [
                _WIDTH_PRIOR / np.arange(1, len(profile.width) + 1),
                _WING_PRIOR * wings,
                *modes,
            ]
        else:
            parts += [np.zeros(0)] * 4
            deviations += [np.zeros(0)] * 4
        values = np.concatenate(parts)
        self.parameters = _Parameters(
            values, values.copy(), np.concatenate(deviations), tuple(p.size for p in parts)
        )
        self.covariance = np.zeros((0, 0))
        self.position_error = np.full(self.positives, np.nan)
        self.signal_to_noise = 0.0
        self._choose_rows(row_step)

    def _choose_rows(self, step: int) -> None:
        """Select every `step`-th row for the fit, without the outliers rejected so far."""
        chosen = self.all_pixels.every(step)
        traces = self.all_traces[:, chosen]
        thinned = self.all_pixels.part(slice(None), chosen)
        self.pixels = pixels = reject_spikes(thinned, 3 if step == 1 else 1)
        self.number = thinned.good.sum()
        known = np.isfinite(traces).all(axis=0) & np.isfinite(pixels.wavelength)
        self.start = np.where(known, traces, 0.0)
        self.wave = np.where(known, pixels.wavelength, 8.0)
        self.good = pixels.good & known[:, np.newaxis]
        if not self.good.any():
            raise ProfileError("no pixel near the source is good")
        near = np.abs(pixels.offsets(self.start[0])) < _NEAR
        if self.good[near].mean() < _FEWEST_GOOD and self.given is None:
            raise no_profile()
        self.used = self.good
        rows, self.row_step = len(self.start[0]), step
        self.background = background_basis(pixels.columns, self.order, rows)
        coordinate = np.linspace(-1.0, 1.0, self.all_traces.shape[1])[chosen]
        self.powers: Array = np.asarray(
            legendre.legvander(coordinate, self.parameters.sizes[_TRACE])[:, 1:], dtype=float
        )
        self.variance = pixels.variance
        self.light = (self.given or self.start_profile).at(self.wave)
        self.state = self._evaluate(self.parameters)

    # --- stages ------------------------------------------------------------------------------

    def fit_positions(self) -> None:
        """Fit the positions, and with a given profile also the trace polynomial."""
        self._iterate([_POSITIONS], steps=3)
        self.reject(_FIRST_CLIP)
        self._measure_signal()
        if self.given is not None:
            for _ in range(2):
                self._iterate([_POSITIONS, self._trace_kind()])
                self.reject(_FIRST_CLIP)
            self._drop_insignificant_trace()

    def fit_width(self, with_wings: bool) -> None:
        """Fit positions, trace polynomial, width and wings."""
        wings = [_WINGS] if with_wings else []
        self._iterate([_POSITIONS, self._trace_kind(), _WIDTH, *wings], steps=5)
        self.reject(_FIRST_CLIP)
        self._measure_signal()
        self._iterate([_POSITIONS, self._trace_kind(), _WIDTH, *wings], frozen=True)
        self._drop_insignificant_trace()

    def fit_modes(self) -> None:
        """Fit the modes, with the positions and the width if there are several sources."""
        step = 1 + count_passed(self.signal_to_noise, _ROW_STEP_SNR)
        if step != self.row_step:
            self._choose_rows(step)
        blended = self.positives > 1
        kinds = [_WINGS, _CORE_MODES, _WING_MODES]
        if blended:
            kinds = [_POSITIONS, self._trace_kind(), _WIDTH, *kinds]
        self.reject(_FIRST_CLIP)
        self._iterate(kinds, frozen=not blended, evidence=2)
        before = self.state.chi2
        self.reject(_CLIP)
        if abs(self.state.chi2 - before) > _CHANGED * before:  # pixels or variances changed
            self._iterate(kinds, frozen=not blended)
        chi2, freedom = self._misfit()
        clean = self.used.sum() > _CLEAN * self.number  # otherwise, outliers may be the cause
        if clean and chi2 > freedom + _MISFIT * np.sqrt(2.0 * freedom):
            if not blended:
                kinds = [_POSITIONS, self._trace_kind(), _WIDTH, *kinds]
            self._iterate(kinds, steps=3 * _STEPS, evidence=2)
            self.reject(_CLIP)

    def reject(self, threshold: float) -> None:
        """Reject outliers, and include the error of the negative traces in the variance."""
        state = self.state
        variance = self.pixels.variance
        if threshold > _CLIP:  # the model is approximate
            peak = np.abs(state.coefficients[:, 0]) * state.images[0].max(axis=1)
            change = model_change(self.wave) * median_filter(peak, 9, mode="nearest")
            variance = variance + change[:, np.newaxis] ** 2
        self.used = self.good & ~differs_from_neighbours(
            state.residual / np.sqrt(variance), self.good, threshold
        )
        self.variance = self.pixels.variance.copy()
        for s in range(self.positives, self.count):
            negative = state.coefficients[:, s, np.newaxis] * state.images[s]
            self.variance += nod_variance(negative, state.offsets[s])
        self.state = self._fit_rows(state.light, state.offsets, state.images)

    def result(self) -> SourceFit:
        """Return the fitted profile and traces."""
        traces, parameters = self.all_traces, self.parameters
        coordinate = np.linspace(-1.0, 1.0, traces.shape[1])
        powers = legendre.legvander(coordinate, parameters.sizes[_TRACE])[:, 1:]
        shift = (parameters[_POSITIONS] @ self.matrix)[:, np.newaxis]
        traces = traces + shift + powers @ parameters[_TRACE]
        if not (np.isfinite(traces).any() and self.signal_to_noise > 0):
            raise ProfileError("the source has no light to fit a profile to")
        chi2, freedom = self._misfit()
        return SourceFit(
            profile=self.given or self._fitted(parameters),
            traces=traces,
            signal_to_noise=self.signal_to_noise,
            chi2=chi2,
            freedom=freedom,
            shift_error=self.position_error,
            covariance=self.covariance if self.positives == 1 and self.covariance.size else None,
        )

    def _misfit(self) -> tuple[float, float]:
        """Return chi-square and the number of degrees of freedom, as in `SourceFit`."""
        fluxes = self.used.any(axis=1).sum() * self.state.coefficients.shape[1]
        return self.state.chi2, float(max(self.used.sum() - fluxes, 1))

    # --- trace and signal --------------------------------------------------------------------

    def _trace_kind(self) -> int:
        """Return `_TRACE`, after fixing terms that the signal-to-noise ratio does not justify."""
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
        state = self.state
        power = np.einsum("rc,rc->r", state.images[0] ** 2, self.used / self.pixels.variance)
        signal = self.row_step * (np.maximum(state.coefficients[:, 0], 0.0) ** 2 * power).sum()
        self.signal_to_noise = float(np.sqrt(signal))

    # --- model -------------------------------------------------------------------------------

    def _light(self, parameters: _Parameters) -> Light:
        if self.given is not None:
            return self.light
        assert isinstance(self.light, EmpiricalLight)
        return self.light.changed(self._fitted(parameters))

    def _fitted(self, parameters: _Parameters) -> EmpiricalProfile:
        coefficients = np.zeros(self.start_profile.coefficients.shape)
        coefficients[_fitted_terms()] = parameters.modes
        return replace(
            self.start_profile,
            width=tuple(parameters[_WIDTH]),
            wings=tuple(map(tuple, parameters[_WINGS].reshape(-1, _WING_TERMS))),
            coefficients=coefficients,
        )

    def _evaluate(self, parameters: _Parameters) -> _Evaluation:
        """Evaluate the model, and fit the fluxes and the background of each row."""
        shift = (parameters[_POSITIONS] @ self.matrix)[:, np.newaxis]
        traces = self.start + shift + self.powers @ parameters[_TRACE]
        light = self._light(parameters)
        offsets = list(self.pixels.offsets(traces))
        return self._fit_rows(light, offsets, [light(offset) for offset in offsets])

    def _fit_rows(self, light: Light, offsets: list[Array], images: list[Array]) -> _Evaluation:
        """Fit the fluxes and the background of each row."""
        basis, weight = [*images, *self.background], self.used / self.variance
        coefficients, inverse = fit_rows(basis, weight, self.pixels.data)
        residual = residuals(self.pixels.data, basis, coefficients)
        chi2 = float((weight * residual**2).sum())
        return _Evaluation(light, offsets, images, coefficients, inverse, residual, chi2)

    def _derivatives(self, state: _Evaluation, kinds: list[int]) -> list[tuple[Array, Array]]:
        """Return the derivatives of the model for each kind of parameters.

        Each derivative is the product of fields on the pixels, shape (row, field, column), and of
        terms along the rows, shape (row, term).
        """
        flux = self._smooth_fluxes(state.coefficients[:, : self.count])
        light, out = state.light, []
        if self.given is not None:
            pushed = [-self.given.derivative(offset, self.wave) for offset in state.offsets]
            return self._trace_derivatives(kinds, flux, pushed)
        assert isinstance(light, EmpiricalLight)
        parts = [light.derivatives(offset) for offset in state.offsets]
        if _POSITIONS in kinds:
            out += self._trace_derivatives(kinds, flux, [-part.d_offset() for part in parts])
        terms = light.rows.terms(_CORE_TERMS)

        def total(fields: Iterable[Array]) -> Array:
            return np.asarray(sum(f * field for f, field in zip(by_row, fields, strict=True)))

        by_row = flux.T[..., np.newaxis, np.newaxis]
        if _WIDTH in kinds:
            out.append((total(part.d_width() for part in parts), terms[:, :_WIDTH_TERMS]))
        if _WINGS in kinds:
            out.append(
                (total(part.d_wings() for part in parts), light.rows.wing_terms(_WING_TERMS))
            )
        if _CORE_MODES in kinds:
            modes = parts[0].d_modes(flux[:, 0])
            for f, part in zip(flux.T[1:], parts[1:], strict=True):
                modes += part.d_modes(f)
            n_core = int(shape_modes().core.sum())
            out.append((modes[:, :n_core], terms[:, :_CORE_TERMS]))
            out.append((modes[:, n_core:], terms[:, :_WING_MODE_TERMS]))
        return out

    def _trace_derivatives(
        self, kinds: list[int], flux: Array, d_trace: list[Array]
    ) -> list[tuple[Array, Array]]:
        """Return the derivatives with respect to positions and trace polynomial."""
        pushed = np.stack(
            [f[:, np.newaxis] * d for f, d in zip(flux.T, d_trace, strict=True)], axis=1
        )
        ones: Array = np.ones((len(flux), 1))
        out = [(np.asarray(self.matrix @ pushed), ones)]
        if _TRACE in kinds and self.powers.shape[1]:
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
        return running_mean(flux, np.ones(flux.shape, dtype=bool), half) if half else flux

    # --- steps -------------------------------------------------------------------------------

    def _iterate(
        self, kinds: list[int], steps: int = _STEPS, *, frozen: bool = False, evidence: int = 0
    ) -> None:
        """Make Gauss-Newton steps, damped so that the objective decreases (Marquardt 1963).

        Parameters
        ----------
        kinds : list of int
            Kinds of parameters to fit.
        steps : int
            Largest number of steps.
        frozen : bool
            Whether the derivatives are computed for the first step only. This is sufficient if the
            model is nearly linear in the parameters.
        evidence : int
            Number of steps, from the first, before each of which `_choose_prior` is called.
        """
        free = np.concatenate([np.r_[self.parameters.slice(kind)] for kind in kinds])
        state, weight, damping = self.state, self.used / self.variance, 0.0
        for step in range(steps):
            if step == 0 or not frozen:
                blocks = self._derivatives(state, kinds)
                basis = [*state.images, *self.background]
                matrix = common_normal(blocks, basis, weight, state.inverse)
            parameters = self.parameters
            gradient = common_gradient(blocks, weight, state.residual)
            if step < evidence:
                self._choose_prior(matrix, gradient, free)
            precision = parameters.deviation[free] ** -2.0
            gradient -= precision * (parameters.values - parameters.mean)[free]
            total = matrix + np.diag(precision)
            change = self._step(total, gradient, free)
            gain = float(change @ (2.0 * gradient - total @ change))
            if gain < _CONVERGED and step >= evidence:
                break
            before = state.chi2 + parameters.penalty
            for _ in range(_TRIALS):
                if damping:
                    damped = total + np.diag(damping * np.diag(matrix))
                    change = self._step(damped, gradient, free)
                values = parameters.values.copy()
                values[free] += self._limit(change, kinds) * change
                trial = replace(parameters, values=values)
                new = self._evaluate(trial)
                if new.chi2 + trial.penalty < before:
                    self.parameters, state = trial, new
                    damping = 0.1 * damping if damping > _DAMPING else 0.0
                    break
                damping = max(10.0 * damping, _DAMPING)
            else:
                break
        self.state = state
        self._store_errors(cho_solve(cholesky(total), np.eye(free.size)), kinds)

    def _step(self, matrix: Array, gradient: Array, free: NDArray[np.intp]) -> Array:
        """Solve the normal equations under the condition that no wing becomes negative.

        The parameters without a limit are eliminated; the others follow from a non-negative least
        squares fit.

        Parameters
        ----------
        matrix, gradient : ndarray
            Normal matrix (n, n) and right-hand side (n,), with the prior.
        free : ndarray of int
            Numbers of the n fitted parameters.
        """
        wings = self.parameters.slice(_WINGS)
        limited = (free >= wings.start) & (free < wings.stop)
        step = cho_solve(cholesky(matrix), gradient)
        least = -self.parameters.values[free]
        if not (limited & (step < least)).any():
            return step
        rest = cholesky(matrix[np.ix_(~limited, ~limited)])
        across = matrix[np.ix_(~limited, limited)]
        follow = cho_solve(rest, across)
        reduced = matrix[np.ix_(limited, limited)] - across.T @ follow
        vector = gradient[limited] - follow.T @ gradient[~limited]
        factor = np.linalg.cholesky(reduced).T
        target = solve_triangular(factor, vector, trans=1) - factor @ least[limited]
        step[limited] = nnls(factor, target)[0] + least[limited]
        step[~limited] = cho_solve(rest, gradient[~limited]) - follow @ step[limited]
        return step

    def _limit(self, change: Array, kinds: list[int]) -> float:
        """Return the factor, at most 1, that limits the change of positions and width in a step."""
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

        The squared scale is the sum of the squared coefficients, in units of their prior, divided
        by the number of coefficients that the data determine (MacKay 1992, eq. 28 and 32).
        """
        parameters = self.parameters
        core = np.zeros(parameters.values.size, dtype=bool)
        core[parameters.slice(_CORE_MODES)] = True
        core &= parameters.deviation > 1e-5
        inside = core[free]
        for _ in range(2):
            precision = parameters.deviation[free] ** -2.0
            factor = cholesky(matrix + np.diag(precision))
            covariance = cho_solve(factor, np.eye(free.size))
            off = parameters.values[free] - parameters.mean[free]
            values = parameters.values[free] + covariance @ (gradient - precision * off)
            determined = 1.0 - np.diag(covariance) * precision
            scale = np.sqrt((values**2 * precision)[inside].sum() / determined[inside].sum())
            parameters.deviation[core] *= float(np.clip(scale, 0.03, 30.0))

    def _store_errors(self, covariance: Array, kinds: list[int]) -> None:
        """Store the errors of positions, and the covariances of trace polynomial and modes."""
        first = 0
        for kind in kinds:
            part = slice(first, first + self.parameters.sizes[kind])
            first = part.stop
            if kind == _POSITIONS:
                variance = np.diag(covariance)[part][: self.positives]
                self.position_error = np.sqrt(variance)
            elif kind == _TRACE:
                self.trace_covariance = covariance[part, part]
        if _CORE_MODES in kinds:
            fitted = np.flatnonzero(_fitted_terms())
            size = _fitted_terms().size
            self.covariance = np.zeros((size, size))
            modes = slice(-fitted.size, None)
            self.covariance[np.ix_(fitted, fitted)] = covariance[modes, modes]
