"""RowFitter: fit of fluxes and background in each row, with rejection of outliers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.typing import Array, Mask
from glue_lrs.fitting.cutout import Cutout, MeanCutout
from glue_lrs.fitting.least_squares import (
    background_basis,
    inverse_normal,
    normal,
    residuals,
    solve_row_sums,
)
from glue_lrs.fitting.noise_model import ModelError, model_variance
from glue_lrs.fitting.options import FitOptions
from glue_lrs.fitting.outliers import MAX_LEVERAGE, NO_PIXELS, FittedRows, PixelIndex
from glue_lrs.fitting.position_fit import refine_positions
from glue_lrs.fitting.source_fit import SourceFit
from glue_lrs.instrument import APERTURE_WIDTH
from glue_lrs.profiles.empirical import EmpiricalProfile
from glue_lrs.profiles.psf import PSFProfile

#: Largest shift of an integration in columns, up to which the second-order Taylor expansion of the
#: profile is valid.
SHIFT_LIMIT = 0.5

#: Standard deviation of the prior on the shift of an integration, in columns. It limits the shifts
#: that are fitted to faint sources. The value of 0.02 arcsec is well above the pointing jitter.
_SHIFT_PRIOR = 0.2

#: Change of an integration's shift in columns below which its fit has converged, and shift in
#: columns below which the errors of the fluxes are computed without it.
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

#: A row is doubtful if the rejected pixels hold more than `_MOST_REJECTED` of the flux, or if more
#: than `_MANY_REJECTED` of them hold more than `_ON_SOURCE` of it each. Cosmic rays hit fewer.
_MOST_REJECTED, _MANY_REJECTED, _ON_SOURCE = 0.45, 3, 0.005


def _products(fields: Array) -> tuple[NDArray[np.intp], Array]:
    """Multiply all pairs of `fields`, which have the shape (row, field, column).

    Returns
    -------
    number : ndarray of int
        Index of each pair in `products`, shape (field, field), symmetric.
    products : ndarray
        Product of the two fields of each pair, shape (row, pair, column).
    """
    first, second = np.triu_indices(fields.shape[1])
    number = np.empty((fields.shape[1], fields.shape[1]), dtype=np.intp)
    number[first, second] = number[second, first] = np.arange(first.size)
    return number, np.ascontiguousarray(fields[:, first] * fields[:, second])


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
    columns : slice
        Columns of the image that are fitted.
    profile_images : ndarray
        Profile of each source and negative trace, shape (source, row, column).
    d_shift, d2_shift : ndarray
        First and second derivative of each profile with respect to the column, shape
        (source, row, column). If no shifts are fitted, the first axis has the length 0.
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
    columns: slice
    profile_images: Array
    d_shift: Array
    d2_shift: Array
    background_basis: list[Array]
    variance: Array
    model_error: Array

    # --- preparation -------------------------------------------------------------------------

    @classmethod
    def from_cutout(
        cls, cutout: Cutout, mean: MeanCutout, source_fit: SourceFit, options: FitOptions
    ) -> RowFitter:
        """Return a fitter. Fitted positions are refined for one source or with a given profile.

        Parameters
        ----------
        cutout, source_fit, options
            See `RowFitter`.
        mean : MeanCutout
            Mean of the integrations, from which variances and refined positions are derived.
        """
        columns, positives = _fitted_columns(cutout, source_fit, options), source_fit.positives
        mean = mean.part(cutout.inner(columns))
        offsets = mean.pixels.offsets(_finite(source_fit.traces))
        light, step = source_fit.profile.at(cutout.wavelength), _DERIVATIVE_STEP
        images = np.stack([light(offset) for offset in offsets])
        d_shift = d2_shift = np.zeros((0, *offsets.shape[1:]))
        if mean.n_integrations > 1 and options.fit_shift:
            right = np.stack([light(offset + step) for offset in offsets])
            left = np.stack([light(offset - step) for offset in offsets])
            d_shift = (right - left) / (2.0 * step)
            d2_shift = (right + left - 2.0 * images) / step**2
        background = background_basis(
            mean.pixels.columns, options.background_order, len(cutout.wavelength)
        )
        variance, error, added = model_variance(mean, images, positives, background, offsets)
        fitter = cls(
            cutout, options, source_fit, columns, images, d_shift, d2_shift, background, variance,
            added,
        )  # fmt: skip
        if options.fit_position and (positives == 1 or options.profile is not None):
            return fitter._refined(mean, error)
        return fitter

    def _refined(self, mean: MeanCutout, error: ModelError) -> RowFitter:
        """Return a copy with positions refined on the mean without outliers.

        Parameters
        ----------
        mean : MeanCutout
            Mean of the integrations, with the fitted columns only.
        error : ModelError
            Model error as a function of residuals.
        """
        pixels, threshold = mean.pixels, self.options.threshold
        variance, model_error = self.variance / mean.n_integrations, self.model_error
        sources = len(self.profile_images)
        weight = pixels.good / variance
        rows = FittedRows.fit(pixels.data, weight, self.basis(), sources, variance, model_error)
        if threshold is not None:
            rows.reject(np.flatnonzero(rows.scores()[0].max(axis=1) > threshold**2), threshold)
            good = weight > 0
            # Compute the model error again, because rejected cosmic rays have increased it.
            if (good != pixels.good).any():
                pixels = replace(pixels, good=good)
                residual = residuals(pixels.data, rows.basis, rows.coefficients)
                model_error = error.squared(residual, good)
        negative = sum(
            rows.coefficients[:, i, np.newaxis] * self.profile_images[i]
            for i in range(self.positives, sources)
        )
        given = self.options.profile is not None
        pixels = replace(pixels, data=pixels.data - negative)
        source_fit = refine_positions(
            pixels, variance, self.source_fit, self.background_basis, own_profile=not given
        )
        images = self.profile_images
        # With a profile from this image, the refinement does not change the model of one source.
        if given or self.positives > 1:
            light = source_fit.profile.at(self.cutout.wavelength)
            offsets = pixels.offsets(_finite(source_fit.traces))
            images = np.stack([light(offset) for offset in offsets])
        return replace(self, source_fit=source_fit, profile_images=images, model_error=model_error)

    @property
    def positives(self) -> int:
        """Number of sources, not counting negative traces."""
        return self.source_fit.positives

    # --- fields ------------------------------------------------------------------------------

    def basis(self, shift: float = 0.0) -> list[Array]:
        """Return the profiles, shifted by `shift` columns, and the terms of the background.

        Each array of the list has the shape (row, column).
        """
        moved = self.profile_images
        if shift:
            moved = moved - shift * self.d_shift + 0.5 * shift**2 * self.d2_shift
        return [*moved, *self.background_basis]

    @property
    def n_terms(self) -> int:
        """Number of terms of the model: sources, negative traces and terms of the background."""
        return len(self.profile_images) + len(self.background_basis)

    @cached_property
    def fields(self) -> Array:
        """Profiles, terms of the background, and first and second derivatives of the profiles.

        The shape is (row, field, column).
        """
        parts = [*self.basis(), *self.d_shift, *self.d2_shift]
        return np.ascontiguousarray(np.stack(parts, axis=1))

    def mix(self, shift: float) -> Array:
        """Return the coefficients that express `basis(shift)` by `fields`, shape (term, field)."""
        mix = np.eye(self.n_terms, self.fields.shape[1])
        source = np.arange(len(self.d_shift))
        mix[source, self.n_terms + source] = -shift
        mix[source, self.n_terms + source.size + source] = 0.5 * shift**2
        return mix

    @cached_property
    def pairs(self) -> tuple[NDArray[np.intp], Array]:
        """Result of `_products` for all `fields` (profiles, background terms, derivatives)."""
        return _products(self.fields)

    @cached_property
    def pairs_at_rest(self) -> tuple[NDArray[np.intp], Array]:
        """Result of `_products` for profiles and background terms only, for small shifts."""
        return _products(self.fields[:, : self.n_terms]) if len(self.d_shift) else self.pairs

    @cached_property
    def inverse(self) -> Array:
        """Weights of good pixels (inverse variances), shape (row, column)."""
        return 1.0 / self.variance

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
    def light(self) -> Array:
        """Fraction of the flux of each source on the fitted columns, shape (source, row)."""
        return self.profile_images.sum(axis=2)

    @property
    def light_with_wavelength(self) -> Array:
        """Fraction of the flux of each source on pixels with a wavelength, shape (source, row)."""
        return (self.profile_images * self.has_wavelength).sum(axis=2)

    @property
    def has_wavelength(self) -> Mask:
        """Pixels that have a wavelength, shape (row, column)."""
        return self.cutout.has_wavelength[:, self.cutout.inner(self.columns)]

    @cached_property
    def level(self) -> Array:
        """Mean of each background term under each source, weighted by the profile.

        The shape is (source, row, term).
        """
        sums = [(self.profile_images * field).sum(axis=2) for field in self.background_basis]
        return np.stack(sums, axis=-1) / np.where(self.light > 0, self.light, 1.0)[..., np.newaxis]

    def rows(self, source: int) -> NDArray[np.intp]:
        """Return the rows of the cutout in which the source with this index is on the image."""
        known = np.isfinite(self.cutout.wavelength)
        return np.flatnonzero((self.light[source] > _ON_IMAGE) & known)

    # --- fit ---------------------------------------------------------------------------------

    def run(self) -> tuple[dict[str, Array], Array | None, tuple[NDArray[np.intp], ...]]:
        """Fit all integrations.

        Returns
        -------
        columns : dict of ndarray
            ``coefficients``, shape (integration, row, term): fluxes of all sources and coefficients
            of the background; ``good``, shape (integration, source, row): fraction of the flux on
            pixels that were fitted; ``doubtful``, with the same shape: whether so many pixels of a
            row were rejected that the profile is probably wrong there; ``flux_variance`` and, if
            there is a background, ``background_variance``, shape (3, integration, source, row):
            variance from Poisson noise, read noise and flat field.
        shifts : ndarray or None
            Shift of each integration in columns, or None for a single image.
        rejected : tuple of ndarray
            Indices of rejected pixels in the data of the image or stack.
        """
        image, sources = self.cutout.image, self.positives
        number = image.data.shape[0] if image.is_stack else 1
        rows = self.profile_images.shape[1]
        out = {
            "coefficients": np.empty((number, rows, self.n_terms)),
            "good": np.empty((number, sources, rows)),
            "doubtful": np.empty((number, sources, rows), dtype=bool),
            "flux_variance": np.zeros((3, number, sources, rows)),
        }
        if self.background_basis:
            out["background_variance"] = np.zeros((3, number, sources, rows))
        shifts = np.zeros(number)
        found = [np.zeros((3, 0), dtype=np.intp)]
        for i in range(number):
            shifts[i], (row, column) = self._fit(i, out)
            found.append(np.stack([np.full(row.size, i), row, column]))
        where = np.concatenate(found, axis=1)
        where += np.array([[0], [self.cutout.rows.start], [self.columns.start]])
        return (out, shifts, (*where,)) if image.is_stack else (out, None, (*where[1:],))

    def _fit(self, i: int, out: dict[str, Array]) -> tuple[float, PixelIndex]:
        """Fit integration `i`, store the results in `out`, and return shift and rejected pixels.

        The entries of `out` and the shift are described in `run`.
        """
        data, good, variances = self.cutout.read(i, self.columns)
        # The sums over columns of all products of fields are computed once. All further steps need
        # only small matrices for each row.
        weight = good * self.inverse
        sums = self._sums(weight[:, np.newaxis], *self.pairs)[..., 0]
        vector = np.matmul(self.fields, (weight * data)[..., np.newaxis])[..., 0]
        shift = self._shift(sums, vector) if len(self.d_shift) else 0.0
        mix = self.mix(shift)
        coefficients, inverse = solve_row_sums(sums, vector, mix)
        rejected, threshold = NO_PIXELS, self.options.threshold
        if threshold is not None:
            field_coefficients = (coefficients @ mix)[:, np.newaxis]
            score = data - np.matmul(field_coefficients, self.fields)[:, 0]
            score *= score
            score *= self.residual_weight
            score *= good
            fitted = FittedRows(
                data, weight, self.basis(shift), len(self.profile_images), self.variance,
                self.model_error, coefficients, inverse,
            )  # fmt: skip
            rows = np.flatnonzero(score.max(axis=1) > _EXAMINED * threshold**2)
            rejected = fitted.reject(rows, threshold)  # changes `coefficients` and `inverse`
        present = [k for k, v in enumerate(variances) if v is not None]
        if present:
            planes = np.stack([v for v in variances if v is not None], axis=1)
            planes *= (self.inverse**2)[:, np.newaxis]
            planes[rejected[0], :, rejected[1]] = 0.0
            at_rest = abs(shift) < _SMALL_SHIFT
            spread = self._sums(planes, *(self.pairs_at_rest if at_rest else self.pairs))
            if at_rest:
                mix = np.eye(self.n_terms)
            for s in range(self.positives):
                responses = {"flux": inverse[:, s]}
                if self.background_basis:
                    of_terms = inverse[:, len(self.profile_images) :]
                    responses["background"] = np.einsum("ri,rij->rj", self.level[s], of_terms)
                for name, response in responses.items():
                    by_field = response @ mix
                    for at, k in enumerate(present):
                        out[f"{name}_variance"][k, i, s] = np.einsum(
                            "rk,rkl,rl->r", by_field, spread[..., at], by_field
                        )
        out["coefficients"][i] = coefficients
        bad = np.nonzero(~good)
        for s, profile in enumerate(self.profile_images[: self.positives]):
            lost = np.bincount(bad[0], profile[bad], len(data)).astype(float)
            light = np.bincount(rejected[0], profile[rejected], len(data))
            hits = np.bincount(rejected[0], profile[rejected] > _ON_SOURCE, len(data))
            out["good"][i, s] = self.light[s] - lost - light
            out["doubtful"][i, s] = (light > _MOST_REJECTED) | (hits > _MANY_REJECTED)
        return shift, rejected

    def _sums(self, planes: Array, number: NDArray[np.intp], products: Array) -> Array:
        """Return the sums over columns of products of fields times each plane of weights.

        Parameters
        ----------
        planes : ndarray
            Weights, shape (row, plane, column).
        number, products
            Result of `_products`.

        Returns
        -------
        ndarray
            Sums, shape (row, field, field, plane).
        """
        return np.matmul(products, np.swapaxes(planes, 1, 2))[:, number]

    def _shift(self, matrix: Array, vector: Array) -> float:
        """Fit the shift of an integration in columns by Gauss-Newton steps.

        Rows whose individual shifts are outliers are excluded.

        Parameters
        ----------
        matrix, vector : ndarray
            Sums over columns, as for `solve_row_sums`.
        """
        sources, terms = len(self.profile_images), self.n_terms
        shift = 0.0
        for _ in range(2):
            mix = self.mix(shift)
            coefficients, inverse = solve_row_sums(matrix, vector, mix)
            change = np.zeros((len(vector), matrix.shape[-1]))
            change[:, terms : terms + sources] = -coefficients[:, :sources]
            change[:, terms + sources :] = shift * coefficients[:, :sources]
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

    # --- covariance --------------------------------------------------------------------------

    def profile_covariance(self, corrected: bool) -> Array | None:
        """Return the covariance between rows that the noise of an empirical profile causes.

        Parameters
        ----------
        corrected : bool
            Whether the flux is that in an aperture, multiplied by an aperture correction.

        Returns
        -------
        ndarray or None
            Covariance matrix of the logarithm of the first source's flux in all rows, shape
            (row, row), computed as if all pixels were good. None unless the profile is an empirical
            profile that was fitted to a single source.
        """
        profile, covariance = self.source_fit.profile, self.source_fit.covariance
        if covariance is None or not isinstance(profile, EmpiricalProfile):
            return None
        basis = self.basis()
        inverse = inverse_normal(normal(basis, [field * self.inverse for field in basis]))
        response = self.inverse * np.einsum("rj,jrc->rc", inverse[:, 0], np.stack(basis))
        wave = np.nan_to_num(self.cutout.wavelength, nan=profile.domain[0])
        columns = np.arange(self.columns.start, self.columns.stop)
        offset = columns - _finite(self.source_fit.traces[0])[:, np.newaxis] + profile.center
        light = profile.at(wave)
        change = np.einsum("rc,rkc->rk", response, light.derivatives(offset).d_modes())
        if corrected:
            half = (APERTURE_WIDTH - 1) / 2.0
            inside = np.linspace(-half, half, APERTURE_WIDTH) + profile.center
            inside = np.broadcast_to(inside, (wave.size, APERTURE_WIDTH))
            in_aperture = light.derivatives(inside).d_modes().sum(axis=2)
            change -= in_aperture / profile.light_within(wave, APERTURE_WIDTH)[:, np.newaxis]
        terms = profile.terms(wave)
        along = (change[:, :, np.newaxis] * terms[:, np.newaxis]).reshape(len(change), -1)
        return np.asarray(along @ covariance @ along.T)


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
    first, last = int(max(low, columns.start)), int(min(high + 1, columns.stop))
    return slice(first, max(last, first + 1))
