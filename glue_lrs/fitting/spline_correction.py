"""Spline correction of a Gaussian profile, by linear least squares alternating with fluxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.ndimage import uniform_filter1d

from glue_lrs._utils.typing import Array
from glue_lrs.errors import ProfileError
from glue_lrs.fitting.cutout import PixelPlanes
from glue_lrs.fitting.least_squares import background_basis, fit_rows
from glue_lrs.fitting.noise_model import nod_variance, peak_light
from glue_lrs.fitting.options import FitOptions
from glue_lrs.fitting.outliers import reject_spikes
from glue_lrs.fitting.source_fit import SourceFit
from glue_lrs.profiles.base import SpatialProfile
from glue_lrs.profiles.empirical import EmpiricalProfile, splines
from glue_lrs.profiles.gaussian import GaussianProfile

#: Number of standard deviations above which pixels are rejected during the fit of a profile.
CLIP = 5.0

#: Outlier rejection: assumed error of the model as a fraction of the peak before the fit has
#: converged (first value) and afterwards (second value).
UNCONVERGED_ERROR, _CONVERGED_ERROR = 0.08, 0.003

#: Smallest model error that is assumed for an empirical profile in successive iterations, as a
#: fraction of the peak.
MODEL_ERROR_FLOORS = (0.02, 0.002, 0.0003)

#: Signal-to-noise ratio of the source above which the last iteration is made. For fainter sources,
#: the smallest model error of that iteration would be below the noise.
_FINE_SNR = 1e4

#: Signal-to-noise ratios of the source above which the correction has an additional term in
#: wavelength. For fainter sources, the noise of the term is larger than its benefit (an empirical
#: choice, from simulations).
_TERM_SNR = (60.0, 150.0, 400.0, 800.0, 1500.0, 8000.0, 14000.0)

#: Largest number of terms in wavelength in the first iterations, which only improve the fluxes for
#: the last iteration.
_FIRST_TERMS = 3

#: Signal-to-noise ratio of the source above which only every second row is fitted. Above twice this
#: value, only every third row is fitted. More rows would hardly improve the profile.
_ROW_STEP_SNR = 2000.0

#: Signal-to-noise ratio of the flux in a row above which fluxes are not averaged over rows.
_FLUX_SNR = 60.0

#: Standard deviation of the prior on the spline coefficients, as a fraction of the flux, within
#: `_CORE_KNOTS` columns of the source (first value) and farther away (second value). The prior
#: limits the correction for faint sources.
_PRIOR_CORE, _PRIOR_WINGS, _CORE_KNOTS = 0.02, 0.003, 4


def spline_terms(signal_to_noise: float) -> int:
    """Return the number of terms in wavelength that the signal-to-noise ratio allows."""
    return 1 + sum(signal_to_noise > limit for limit in _TERM_SNR)


def near_sources(pixels: PixelPlanes, traces: Array, options: FitOptions) -> PixelPlanes:
    """Return the part of an image that is needed to fit a profile.

    If a background is fitted, all columns are needed. Otherwise, only the columns up to `reach`
    from the traces are needed.
    """
    if options.background_order is not None:
        return pixels
    margin = options.reach + 1.0
    return pixels.cut(np.nanmin(traces) - margin, np.nanmax(traces) + margin)


def correct_profile(pixels: PixelPlanes, found: SourceFit, options: FitOptions) -> SourceFit:
    """Add a spline correction to a Gaussian profile.

    Parameters
    ----------
    pixels : PixelPlanes
        Image to fit.
    found : SourceFit
        Fit of traces and a Gaussian profile.
    options : FitOptions
        Options for the fit.

    Returns
    -------
    SourceFit
        Fit with an empirical profile and the inverse covariance of its coefficients.
    """
    base = found.profile
    assert isinstance(base, GaussianProfile)
    snr, order = found.signal_to_noise, options.background_order
    terms = spline_terms(snr)
    knots = 2 * (options.reach - 2) + 1
    row_step = 1 + (snr > _ROW_STEP_SNR) + (snr > 2.0 * _ROW_STEP_SNR)
    traces = found.traces[:, ::row_step]
    pixels = reject_spikes(near_sources(pixels, traces, options), row_step)
    known = np.isfinite(traces).all(axis=0) & np.isfinite(pixels.wavelength)
    traces = np.where(known, traces, 0.0)
    offsets = pixels.offsets(traces)
    background = background_basis(pixels.columns, order, len(known))
    used = pixels.good & known[:, np.newaxis]
    if not background:  # pixels beyond the profile would only constrain a background
        used = used & (np.abs(offsets) <= options.reach).any(axis=0)
    profile = EmpiricalProfile(base=base, coefficients=np.zeros((knots, terms)))
    bands = profile.terms(np.where(known, pixels.wavelength, base.domain[0]))
    gaussians = _evaluate(base, offsets, pixels.wavelength)
    count = len(gaussians)
    # Fluxes of faint sources are averaged over rows. The errors of flux and background in a row are
    # correlated, and would otherwise bias the wings of the profile.
    row_snr = snr / np.sqrt(max(known.sum() * row_step, 1))
    half = int(np.clip(0.5 * (_FLUX_SNR / max(row_snr, 1e-3)) ** 2, 0, 12))
    coefficients, _ = fit_rows([*gaussians, *background], used / pixels.variance, pixels.data)
    flux = coefficients[:, :count].T[..., np.newaxis]
    peak_square = peak_light(flux, gaussians) ** 2
    floors = MODEL_ERROR_FLOORS if snr > _FINE_SNR or order else MODEL_ERROR_FLOORS[:2]
    factor = None
    for floor in floors:
        images = gaussians
        if floor < MODEL_ERROR_FLOORS[0]:
            images = _evaluate(profile, offsets, pixels.wavelength)
        variance = pixels.variance + floor**2 * peak_square
        for i in range(found.positives, count):
            variance += nod_variance(flux[i] * images[i], offsets[i])
        weight = used / variance
        coefficients, _ = fit_rows([*images, *background], weight, pixels.data)
        flux = coefficients[:, :count].T
        if half:
            flux = uniform_filter1d(flux, 2 * half + 1, axis=1, mode="nearest")
        flux = flux[..., np.newaxis]
        model = (flux * images).sum(axis=0)
        tolerance = min(0.5 * UNCONVERGED_ERROR, max(5.0 * floor, _CONVERGED_ERROR))
        limit = CLIP * np.sqrt(pixels.variance)
        limit += tolerance * np.abs(model).max(axis=1, keepdims=True)
        for i, field in enumerate(background):
            model += coefficients[:, count + i, np.newaxis] * field
        weight[np.abs(pixels.data - model) > limit] = 0.0
        n_terms = terms if floor == floors[-1] else min(terms, _FIRST_TERMS)
        residual, parts = pixels.data - (flux * gaussians).sum(axis=0), bands[:, :n_terms]
        spline, factor = fit_spline(
            residual, weight, traces, flux[..., 0], pixels.columns, parts, knots, background
        )
        profile = EmpiricalProfile(base=base, coefficients=spline)
    return replace(found, profile=profile, factor=factor)


def _evaluate(profile: SpatialProfile, offsets: Array, wavelength: Array) -> Array:
    """Return the profile of each source on the pixels, shape (source, row, column)."""
    light = profile.at(wavelength)
    return np.stack([light(offset) for offset in offsets])


def spline_pairs(offset: Array, half: int) -> Array:
    """Return the sums of the two B-splines at opposite knots, shape (pair, row, column).

    The first pair consists of only one B-spline, at the middle knot.

    Parameters
    ----------
    offset : ndarray
        Distance of each pixel from the source in columns, shape (row, column).
    half : int
        Number of knots to each side of the middle one.
    """
    first, parts = splines(np.where(np.isnan(offset), 1e3, offset), 2 * half + 1)
    out = np.zeros((half + 2, *offset.shape))
    row, column = np.ogrid[: offset.shape[0], : offset.shape[1]]
    for j, part in enumerate(parts):
        knot = np.abs(first + j - 4 - half)
        out[np.minimum(knot, half + 1), row, column] += part
    return out[:-1]


def spline_prior(knots: int) -> Array:
    """Return the standard deviation of the prior on the coefficient of each knot, (knot,)."""
    distance = np.abs(np.arange(knots) - knots // 2)
    return np.where(distance <= _CORE_KNOTS, _PRIOR_CORE, _PRIOR_WINGS)


def fit_spline(
    residual: Array,
    weight: Array,
    traces: Array,
    flux: Array,
    columns: Array,
    bands: Array,
    knots: int,
    background: Sequence[Array],
) -> tuple[Array, tuple[Array, bool]]:
    """Fit sum_s flux_s sum_km c_km B_k(column - trace_s) L_m(wavelength) to a residual.

    The sums are over the sources s, the knots k and the terms m in wavelength. The background,
    whose coefficients are free in each row, is projected out.

    Parameters
    ----------
    residual, weight : ndarray
        Data minus the Gaussian model, and weights of the pixels, shape (row, column).
    traces, flux : ndarray
        Column and flux of each source in each row, shape (source, row).
    columns : ndarray
        Column numbers, shape (column,).
    bands : ndarray
        Legendre polynomials L_m of the wavelength, shape (row, term).
    knots : int
        Number of splines B_k, whose knots are one column apart.
    background : sequence of ndarray
        Terms of the background, each of shape (row, column).

    Returns
    -------
    coefficients : ndarray
        Fitted coefficients c_km, shape (knot, term).
    factor : tuple
        Cholesky factor of the inverse covariance of the coefficients, from
        `scipy.linalg.cho_factor`.

    Raises
    ------
    ProfileError
        If the normal matrix is not positive definite.
    """
    planes = np.stack([weight, *(weight * field for field in (residual, *background))])
    square, right, *across = _spline_sums(planes, traces, flux, columns[0], bands, knots)
    if background:
        coefficients, inverse = fit_rows(background, weight, residual)
        right -= sum(coefficients[:, i, np.newaxis] * part for i, part in enumerate(across))
        fields = np.stack(across, axis=1)[..., np.newaxis] * bands[:, None, None]
        fields = fields.reshape(len(bands), len(background), -1)
        square -= np.tensordot(fields, np.matmul(inverse, fields), axes=((0, 1), (0, 1)))
    square.reshape(-1)[:: len(square) + 1] += np.repeat(spline_prior(knots), bands.shape[1]) ** -2
    try:
        factor = cho_factor(square, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        raise ProfileError(
            "no profile can be fitted, expected more good pixels and fewer outliers; give a "
            "profile fitted to another image, or spline=False for a Gaussian"
        ) from None
    vector = right.T @ bands
    found = cho_solve(factor, vector.ravel(), check_finite=False)
    return np.asarray(found, dtype=np.float64).reshape(vector.shape), factor


def _spline_sums(
    planes: Array, traces: Array, flux: Array, column: float, bands: Array, knots: int
) -> tuple[Array, ...]:
    """Return the sums over pixels from which `fit_spline` computes the coefficients.

    Knots and pixels are both one column apart, so that all pixels of a row have the same distance
    from the knot to their left. The four splines that are not 0 at a pixel therefore have the same
    values for all pixels of the row, and products of two splines fill diagonal bands of the normal
    matrix. This is much faster than an explicit design matrix.

    Parameters
    ----------
    planes : ndarray
        Weights, then the weights times the residual and times each term of the background, shape
        (plane, row, column).
    traces, flux, bands, knots
        See `fit_spline`.
    column : float
        Number of the first column.

    Returns
    -------
    square : ndarray
        Normal matrix without the background, shape (knot * term, knot * term).
    *sums : ndarray
        Weighted sums over each row of splines times the residual, and of splines times each term of
        the background, each of shape (row, knot).
    """
    rows, terms = bands.shape
    half = knots // 2
    first = [np.floor(column - trace).astype(np.intp) for trace in traces]
    values = [np.stack(splines((column - t) % 1.0, knots)[1], axis=1) for t in traces]
    size = knots + 8
    upper, lower = np.triu_indices(terms)
    pairs = bands[:, upper] * bands[:, lower]
    matrix = np.zeros((knots, terms, knots, terms))
    products = np.zeros((len(planes) - 1, rows, knots))
    padded = np.pad(planes, ((0, 0), (0, 0), (size, size)))
    frame = np.arange(-half - 4, half + 5)  # knot to the left of a pixel, relative to the source
    flat = padded.reshape(len(padded), -1)
    row_start = (np.arange(rows) * padded.shape[2])[:, np.newaxis]
    i, j = np.ogrid[:4, :4]
    knot = np.arange(knots)
    for s, f in enumerate(flux):
        at = np.clip(frame - first[s][:, np.newaxis] + size, 0, padded.shape[2] - 1)
        planes = flat[:, row_start + at] * f[:, np.newaxis]
        # Values at the four pixels j (from right to left) at which the spline at knot k is not 0,
        # shape (row, j, k).
        weights, *others = (
            np.stack([plane[:, 5 - n : 5 - n + knots] for n in range(4)], 1) for plane in planes
        )
        products += [np.matmul(values[s][:, np.newaxis], part)[:, 0] for part in others]
        for t in range(s, len(flux)):  # the matrix is symmetric in the two sources
            both = values[s][:, np.newaxis] * (values[t] * flux[t][:, np.newaxis])[..., None]
            spread = np.zeros((rows, 7, 4))
            spread[:, i - j + 3, j] = both
            distances = first[t] - first[s]
            for distance in np.unique(distances).tolist():
                alike = distances == distance
                part = slice(None) if alike.all() else alike
                low = 3 if s == t else 0
                band = distance + np.arange(low - 3, 4)
                sums = np.matmul(spread[part, low:], weights[part])
                triangle = sums.reshape(len(sums), -1).T @ pairs[part]
                total = np.empty((band.size, knots, terms, terms))
                total[..., upper, lower] = triangle.reshape(band.size, knots, -1)
                total[..., lower, upper] = total[..., upper, lower]
                to = knot + band[:, np.newaxis]
                b, k = np.nonzero((to >= 0) & (to < knots))
                matrix[k, :, to[b, k], :] += total[b, k]
                if s == t:
                    b, k = b[b > 0], k[b > 0]
                matrix[to[b, k], :, k, :] += total[b, k]
    return matrix.reshape(knots * terms, knots * terms), *products
