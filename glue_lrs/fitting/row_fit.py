"""RowFitter: fit of fluxes and background in each row, with rejection of outliers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve

from glue_lrs.fitting.least_squares import (
    background_basis,
    inverse_normal,
    normal,
    residuals,
    solve_row_sums,
)
from glue_lrs.fitting.noise_model import model_variance
from glue_lrs.fitting.outliers import MAX_LEVERAGE, NO_PIXELS, reject_outliers, reject_rows
from glue_lrs.fitting.profile_fit import refine_positions
from glue_lrs.profiles.empirical import EmpiricalProfile, splines
from glue_lrs.profiles.psf import PSFProfile

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.fitting.cutout import Cutout, MeanCutout, Variances
    from glue_lrs.fitting.noise_model import ModelError
    from glue_lrs.fitting.options import FitOptions
    from glue_lrs.fitting.outliers import PixelIndex
    from glue_lrs.fitting.source_fit import SourceFit

#: Largest shift of an integration in columns, up to which the second-order Taylor expansion of the
#: profile is valid.
SHIFT_LIMIT = 0.5

#: Standard deviation of the prior on the shift of an integration, in columns. It limits the shifts
#: that are fitted to faint sources. The value of 0.02 arcsec is well above the pointing jitter.
_SHIFT_PRIOR = 0.2

#: Shift of an integration: change in columns below which its fit has converged (first value), and
#: shift in columns below which the errors of the fluxes are computed without it (second value).
_SHIFT_CONVERGED, _SMALL_SHIFT = 0.02, 0.05

#: Step in columns to each side for numerical derivatives of the profile.
_DERIVATIVE_STEP = 0.25

#: Outlier rejection: a row is examined if its largest squared score is above this fraction of the
#: squared threshold. The fraction is less than 1 because the first scores are approximate.
_EXAMINED = 0.8

#: Column far from every pixel, used in rows without a trace.
_NO_TRACE = -1e3

#: A row belongs to the spectrum if more than this fraction of the source's flux is on the image.
_ON_IMAGE = 0.05


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Products of all pairs of fields.

    Parameters
    ----------
    number : ndarray of int
        Index of each pair in `values`, shape (field, field), symmetric.
    values : ndarray
        Product of the two fields of each pair, shape (row, pair, column).
    """

    number: NDArray[np.intp]
    values: Array

    @classmethod
    def from_fields(cls, fields: Array) -> _Pairs:
        count = fields.shape[1]
        first, second = np.triu_indices(count)
        number = np.empty((count, count), dtype=np.intp)
        number[first, second] = number[second, first] = np.arange(first.size)
        return cls(number, np.ascontiguousarray(fields[:, first] * fields[:, second]))


@dataclass(frozen=True, eq=False)
class RowFitter:
    """Fit of fluxes and background to each row of each integration.

    The profiles, the variances and the terms of the background are common to all integrations.

    Parameters
    ----------
    cutout : Cutout
        Image or stack of integrations to fit.
    options : FitOptions
        Options for the fit.
    source_fit : SourceFit
        Profile and traces of the sources.
    positives : int
        Number of sources, not counting negative traces.
    columns : slice
        Columns of the image that are fitted.
    profile_images : list of ndarray
        Profile of each source and negative trace, each of shape (row, column).
    d_shift, d2_shift : list of ndarray
        First and second derivative of each profile with respect to the column, each of shape
        (row, column); empty if no shifts are fitted.
    background_basis : list of ndarray
        Terms of the background, each of shape (row, column).
    variance : ndarray
        Smooth variance of each pixel in an integration, shape (row, column).
    model_error : ndarray
        Squared error of the model, shape (row, column).
    """

    cutout: Cutout
    options: FitOptions
    source_fit: SourceFit
    positives: int
    columns: slice
    profile_images: list[Array]
    d_shift: list[Array]
    d2_shift: list[Array]
    background_basis: list[Array]
    variance: Array
    model_error: Array

    # --- preparation -------------------------------------------------------------------------

    @classmethod
    def from_cutout(
        cls,
        cutout: Cutout,
        mean: MeanCutout,
        source_fit: SourceFit,
        positives: int,
        options: FitOptions,
    ) -> RowFitter:
        """Return a fitter, with positions refined if possible.

        Parameters
        ----------
        cutout, source_fit, positives, options
            See `RowFitter`.
        mean : MeanCutout
            Mean of the integrations, from which variances and refined positions are derived.
        """
        columns = _fitted_columns(cutout, source_fit, options)
        part = slice(columns.start - cutout.columns.start, columns.stop - cutout.columns.start)
        x = mean.pixels.columns[part]
        traces = _finite(source_fit.traces)
        light = source_fit.profile.at(cutout.wavelength)
        profile_images, d_shift, d2_shift = [], [], []
        has_shifts = mean.n_integrations > 1 and options.fit_shift
        for trace in traces:
            offset = x - trace[:, np.newaxis]
            profile_images.append(light(offset))
            if has_shifts:
                step = _DERIVATIVE_STEP
                right, left = light(offset + step), light(offset - step)
                d_shift.append((right - left) / (2.0 * step))
                d2_shift.append((right + left - 2.0 * profile_images[-1]) / step**2)
        background = background_basis(x, options.background_order, len(cutout.wavelength))
        variance, error, model_error = model_variance(
            mean, part, profile_images, positives, background, traces
        )
        fitter = cls(
            cutout, options, source_fit, positives, columns, profile_images, d_shift, d2_shift,
            background, variance, model_error,
        )  # fmt: skip
        if options.fit_position and (positives == 1 or options.profile is not None):
            return fitter._refined(mean, part, error)
        return fitter

    def _refined(self, mean: MeanCutout, part: slice, error: ModelError) -> RowFitter:
        """Return a copy with positions refined on the mean without outliers.

        Parameters
        ----------
        mean : MeanCutout
            Mean of the integrations.
        part : slice
            Columns of the cutout that are fitted.
        error : ModelError
            Model error as a function of residuals.
        """
        options, sources = self.options, len(self.profile_images)
        before = replace(
            mean.pixels,
            data=mean.pixels.data[:, part],
            good=mean.pixels.good[:, part],
            columns=mean.pixels.columns[part],
        )
        variance, model_error = self.variance / mean.n_integrations, self.model_error
        basis = self.basis()
        pixels, coefficients = reject_outliers(
            before, variance, model_error, basis, options.threshold, sources
        )
        # Compute the model error again, because rejected cosmic rays have increased it.
        if (pixels.good != before.good).any():
            model_error = error.squared(residuals(pixels.data, basis, coefficients), pixels.good)
        negative = np.zeros_like(pixels.data)
        for i in range(self.positives, sources):
            negative += coefficients[:, i, np.newaxis] * self.profile_images[i]
        given = options.profile is not None
        source_fit = refine_positions(
            replace(pixels, data=pixels.data - negative),
            variance,
            self.source_fit,
            positives=self.positives,
            background=self.background_basis,
            own_profile=not given,
        )
        profile_images = self.profile_images
        # With a profile from this image, the refinement does not change the model of one source.
        if given or self.positives > 1:
            light = source_fit.profile.at(self.cutout.wavelength)
            x = pixels.columns
            traces = _finite(source_fit.traces)
            profile_images = [light(x - trace[:, np.newaxis]) for trace in traces]
        return replace(
            self, source_fit=source_fit, profile_images=profile_images, model_error=model_error
        )

    # --- fields ------------------------------------------------------------------------------

    def basis(self, shift: float = 0.0) -> list[Array]:
        """Return the profiles, shifted by `shift` columns, and the terms of the background.

        Each array of the list has the shape (row, column).
        """
        if shift == 0.0 or not self.d_shift:
            return [*self.profile_images, *self.background_basis]
        moved = [
            p - shift * d + 0.5 * shift**2 * d2
            for p, d, d2 in zip(self.profile_images, self.d_shift, self.d2_shift, strict=True)
        ]
        return [*moved, *self.background_basis]

    @cached_property
    def fields(self) -> Array:
        """Profiles, terms of the background, and first and second derivatives of the profiles.

        The shape is (row, field, column).
        """
        parts = [*self.profile_images, *self.background_basis, *self.d_shift, *self.d2_shift]
        return np.ascontiguousarray(np.stack(parts, axis=1))

    def mix(self, shift: float) -> Array:
        """Return the coefficients that express `basis(shift)` by `fields`, shape (term, field)."""
        sources = len(self.profile_images)
        terms = sources + len(self.background_basis)
        mix = np.eye(terms, self.fields.shape[1])
        if self.d_shift:
            source = np.arange(sources)
            mix[source, terms + source] = -shift
            mix[source, terms + sources + source] = 0.5 * shift**2
        return mix

    @cached_property
    def pairs(self) -> _Pairs:
        """Products of all pairs of fields."""
        return _Pairs.from_fields(self.fields)

    @cached_property
    def pairs_at_rest(self) -> _Pairs:
        """Products of all pairs of fields, without the derivatives."""
        if not self.d_shift:
            return self.pairs
        terms = len(self.profile_images) + len(self.background_basis)
        return _Pairs.from_fields(self.fields[:, :terms])

    @cached_property
    def inverse(self) -> Array:
        """Weights of good pixels (inverse variances), shape (row, column)."""
        return 1.0 / self.variance

    @cached_property
    def squared(self) -> Array:
        """Squares of the weights of good pixels, shape (row, column)."""
        return self.inverse**2

    @cached_property
    def residual_weight(self) -> Array:
        """Inverse of the expected squared residual of each pixel, shape (row, column).

        The expectation is the variance, reduced by the leverage of the pixel, plus the model error.
        """
        weight = 1.0 / self.variance
        target = self.profile_images[0]
        power = np.einsum("rc,rc->r", target**2, weight)
        leverage = target**2 * weight
        leverage /= np.where(power > 0, power, 1.0)[:, np.newaxis]
        expected = self.variance * (1.0 - np.minimum(leverage, MAX_LEVERAGE))
        return 1.0 / (expected + self.model_error)

    @cached_property
    def light(self) -> list[Array]:
        """Fraction of the flux of each source on the fitted columns, each of shape (row,)."""
        return [profile.sum(axis=1) for profile in self.profile_images]

    @cached_property
    def light_with_wavelength(self) -> list[Array]:
        """Fraction of the flux of each source on pixels that have a wavelength.

        The list has one array of shape (row,) for each source.
        """
        return [(profile * self.has_wavelength).sum(axis=1) for profile in self.profile_images]

    @property
    def has_wavelength(self) -> Mask:
        """Pixels that have a wavelength, shape (row, column)."""
        first = self.cutout.columns.start
        part = slice(self.columns.start - first, self.columns.stop - first)
        return self.cutout.has_wavelength[:, part]

    @cached_property
    def level(self) -> list[Array]:
        """Mean of each background term under each source, weighted by the profile.

        The list has one array of shape (row, term) for each source.
        """
        levels = []
        for profile, light in zip(self.profile_images, self.light, strict=True):
            sums = [(profile * field).sum(axis=1) for field in self.background_basis]
            level = np.stack(sums, axis=-1)
            levels.append(level / np.where(light > 0, light, 1.0)[:, np.newaxis])
        return levels

    def rows(self, source: int) -> NDArray[np.intp]:
        """Return the row numbers in the cutout in which a source (an index) is on the image."""
        known = np.isfinite(self.cutout.wavelength)
        return np.flatnonzero((self.light[source] > _ON_IMAGE) & known)

    # --- fit ---------------------------------------------------------------------------------

    def run(self) -> tuple[dict[str, NDArray[Any]], Array | None, tuple[NDArray[np.intp], ...]]:
        """Fit all integrations.

        Returns
        -------
        columns : dict of ndarray
            ``coefficients``, shape (integration, row, term): fluxes of all sources and coefficients
            of the background; ``good``, shape (integration, source, row): fraction of the flux on
            pixels that were fitted; ``flux_variance`` and, if there is a background,
            ``background_variance``, shape (3, integration, source, row): variance from Poisson
            noise, read noise and flat field.
        shifts : ndarray or None
            Shift of each integration in columns, or None for a single image.
        rejected : tuple of ndarray
            Indices of rejected pixels in the data of the image or stack.
        """
        image, sources = self.cutout.image, self.positives
        number = image.data.shape[0] if image.is_stack else 1
        rows = len(self.profile_images[0])
        terms = len(self.profile_images) + len(self.background_basis)
        out: dict[str, NDArray[Any]] = {
            "coefficients": np.empty((number, rows, terms)),
            "good": np.empty((number, sources, rows)),
            "flux_variance": np.zeros((3, number, sources, rows)),
        }
        if self.background_basis:
            out["background_variance"] = np.zeros((3, number, sources, rows))
        shifts = np.zeros(number)
        found: list[tuple[NDArray[np.intp], ...]] = []
        for i in range(number):
            data, good, variances = self.cutout.read(i if image.is_stack else None, self.columns)
            shifts[i], rejected = self._fit(data, good, variances, i, out)
            if rejected[0].size:
                found.append((np.full(rejected[0].size, i), *rejected))
        where = [np.zeros(0, dtype=np.intp)] * 3
        if found:
            where = [np.concatenate(part) for part in zip(*found, strict=True)]
        where[1] = where[1] + self.cutout.rows.start
        where[2] = where[2] + self.columns.start
        if image.is_stack:
            return out, shifts, tuple(where)
        return out, None, tuple(where[1:])

    def _fit(
        self, data: Array, good: Mask, variances: Variances, i: int, out: dict[str, NDArray[Any]]
    ) -> tuple[float, PixelIndex]:
        """Fit integration `i`, store the results in `out`, and return shift and rejected pixels."""
        # The sums over columns of all products of fields are computed once. All further steps need
        # only small matrices for each row.
        rows = len(data)
        weight = good * self.inverse
        sums = self._sums(weight[:, np.newaxis], self.pairs)[..., 0]
        vector = np.matmul(self.fields, (weight * data)[..., np.newaxis])[..., 0]
        shift = self._shift(sums, vector) if self.d_shift else 0.0
        mix = self.mix(shift)
        coefficients, inverse = solve_row_sums(sums, vector, mix)
        rejected = self._reject(data, good, weight, shift, coefficients, inverse)
        present = [k for k, v in enumerate(variances) if v is not None]
        if present:
            planes = np.empty((rows, len(present), data.shape[1]))
            for at, k in enumerate(present):  # variances are 0 at pixels that are not good
                np.multiply(variances[k], self.squared, out=planes[:, at])  # type: ignore[arg-type]
            planes[rejected[0], :, rejected[1]] = 0.0
            at_rest = abs(shift) < _SMALL_SHIFT
            spread = self._sums(planes, self.pairs_at_rest if at_rest else self.pairs)
            if at_rest:
                mix = np.eye(mix.shape[0])
            self._propagate(spread, present, mix, inverse, i, out)
        out["coefficients"][i] = coefficients
        bad = np.nonzero(~good)
        for s in range(self.positives):
            profile = self.profile_images[s]
            lost = np.bincount(bad[0], weights=profile[bad], minlength=rows).astype(float)
            lost += np.bincount(rejected[0], weights=profile[rejected], minlength=rows)
            out["good"][i, s] = self.light[s] - lost
        return shift, rejected

    def _sums(self, planes: Array, pairs: _Pairs) -> Array:
        """Return the sums over columns of each product in `pairs` times each plane of weights.

        `planes` has the shape (row, plane, column), the result (row, field, field, plane).
        """
        return np.matmul(pairs.values, np.swapaxes(planes, 1, 2))[:, pairs.number]

    def _shift(self, matrix: Array, vector: Array) -> float:
        """Fit the shift of an integration in columns by Gauss-Newton steps.

        Rows whose individual shifts are outliers are excluded.

        Parameters
        ----------
        matrix, vector : ndarray
            Sums over columns, as for `solve_row_sums`.
        """
        sources = len(self.profile_images)
        terms = sources + len(self.background_basis)
        source = np.arange(sources)
        shift = 0.0
        for _ in range(2):
            mix = self.mix(shift)
            coefficients, inverse = solve_row_sums(matrix, vector, mix)
            change = np.zeros((len(vector), matrix.shape[-1]))
            change[:, terms + source] = -coefficients[:, :sources]
            change[:, terms + sources + source] = shift * coefficients[:, :sources]
            pushed = np.einsum("rkl,rl->rk", matrix, change)
            gradient = np.einsum("rk,rk->r", change, vector)
            gradient -= np.einsum("rk,rk->r", coefficients @ mix, pushed)
            across = pushed @ mix.T
            power = np.einsum("rk,rk->r", change, pushed)
            power -= np.einsum("ri,rij,rj->r", across, inverse, across)
            power = np.where(power > 0, power, 0.0)
            by_row = np.divide(gradient, power, out=np.zeros_like(gradient), where=power > 0)
            order = np.argsort(by_row)
            cumulative = np.cumsum(power[order])
            if not cumulative[-1] > 0:
                return 0.0
            middle = by_row[order[np.searchsorted(cumulative, 0.5 * cumulative[-1])]]
            used = (by_row - middle) ** 2 * power < 25.0  # 5 standard deviations
            total = power[used].sum()
            step = float(gradient[used].sum() / (total + _SHIFT_PRIOR**-2))
            shift = min(max(shift + step, -SHIFT_LIMIT), SHIFT_LIMIT)
            if abs(step) < _SHIFT_CONVERGED:
                break
        return shift

    def _reject(
        self,
        data: Array,
        good: Mask,
        weight: Array,
        shift: float,
        coefficients: Array,
        inverse: Array,
    ) -> PixelIndex:
        """Reject outliers, fit the affected rows again, and return the index of rejected pixels.

        `weight`, `coefficients` and `inverse` are changed in place.
        """
        threshold = self.options.threshold
        if threshold is None:
            return NO_PIXELS
        field_coefficients = (coefficients @ self.mix(shift))[:, np.newaxis]
        score = data - np.matmul(field_coefficients, self.fields)[:, 0]
        score *= score
        score *= self.residual_weight
        score *= good
        rows = np.flatnonzero(score.max(axis=1) > _EXAMINED * threshold**2)
        return reject_rows(
            rows, data, weight, self.basis(shift), self.variance, self.model_error, threshold,
            coefficients, inverse, len(self.profile_images),
        )  # fmt: skip

    def _propagate(
        self,
        sums: Array,
        present: list[int],
        mix: Array,
        inverse: Array,
        i: int,
        out: dict[str, NDArray[Any]],
    ) -> None:
        """Propagate the variances in the image to the variances of fluxes and background levels.

        Parameters
        ----------
        sums : ndarray
            Sums over columns of products of two fields, the squared weight and a variance, shape
            (row, field, field, variance).
        present : list of int
            Number of each variance in `sums`: 0 for Poisson noise, 1 for read noise, 2 for the flat
            field.
        mix : ndarray
            Coefficients that express the terms of the model by the fields, shape (term, field).
        inverse : ndarray
            Inverse normal matrices, shape (row, term, term).
        i : int
            Number of the integration.
        out : dict of ndarray
            Results, as returned by `run`, which are changed in place.
        """
        sources = len(self.profile_images)
        for s in range(self.positives):
            responses = {"flux": inverse[:, s]}
            if self.background_basis:
                of_terms = inverse[:, sources:]
                responses["background"] = np.einsum("ri,rij->rj", self.level[s], of_terms)
            for name, response in responses.items():
                spread = response @ mix
                for at, k in enumerate(present):
                    out[f"{name}_variance"][k, i, s] = np.einsum(
                        "rk,rkl,rl->r", spread, sums[..., at], spread
                    )

    # --- covariance --------------------------------------------------------------------------

    def profile_covariance(self) -> Array | None:
        """Return the covariance between rows that the noise of an empirical profile causes.

        Returns
        -------
        ndarray or None
            Covariance matrix of the logarithm of the first source's flux in all rows, shape
            (row, row), computed as if all pixels were good. None unless the profile is an empirical
            profile that was fitted to a single source.
        """
        profile, factor = self.source_fit.profile, self.source_fit.factor
        if factor is None or not isinstance(profile, EmpiricalProfile):
            return None
        basis = self.basis()
        inverse = inverse_normal(normal(basis, [field * self.inverse for field in basis]))
        response = self.inverse * np.einsum("rj,jrc->rc", inverse[:, 0], np.stack(basis))
        trace = _finite(self.source_fit.traces[0])
        columns = np.arange(self.columns.start, self.columns.stop)
        knots, rows = profile.coefficients.shape[0], len(trace)
        first, parts = splines(columns - trace[:, np.newaxis] + profile.center, knots)
        first += (np.arange(rows) * (knots + 8))[:, np.newaxis]
        sums = np.zeros(rows * (knots + 8))
        for j, part in enumerate(parts):
            weights = (response * part).ravel()
            sums += np.bincount((first + j).ravel(), weights=weights, minlength=sums.size)
        # The profile is normalised to 1, so that an increase of one coefficient decreases the
        # profile everywhere else.
        change = sums.reshape(rows, -1)[:, 4:-4] - 1.0
        terms = profile.terms(np.nan_to_num(self.cutout.wavelength))
        change /= 1.0 + (terms @ profile.coefficients.T).sum(axis=1)[:, np.newaxis]
        along = (change[:, :, np.newaxis] * terms[:, np.newaxis]).reshape(rows, -1)
        return np.asarray(along @ cho_solve(factor, along.T, check_finite=False))


def _finite(traces: Array) -> Array:
    """Replace missing values of the traces by a column far from every pixel."""
    return np.where(np.isfinite(traces), traces, _NO_TRACE)


def _fitted_columns(cutout: Cutout, source_fit: SourceFit, options: FitOptions) -> slice:
    """Return the columns of the image to fit.

    These are all columns if a background is fitted, and otherwise the columns near the sources.
    """
    columns = cutout.columns
    if options.background_order is not None:
        return columns
    reach = np.inf if isinstance(source_fit.profile, PSFProfile) else options.reach
    known = np.isfinite(source_fit.traces)
    low = np.floor(np.nanmin(source_fit.traces[known]) - reach)
    high = np.ceil(np.nanmax(source_fit.traces[known]) + reach)
    first = max(int(max(low, columns.start)), columns.start)
    last = min(int(min(high + 1, columns.stop)), columns.stop)
    return slice(first, max(last, first + 1))
