"""Spline correction of a Gaussian profile, by linear least squares alternating with fluxes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.ndimage import uniform_filter1d

from glue_lrs.errors import ProfileError
from glue_lrs.fitting.least_squares import background_basis, fit_rows
from glue_lrs.fitting.noise_model import nod_variance
from glue_lrs.fitting.outliers import reject_spikes
from glue_lrs.profiles.empirical import EmpiricalProfile, splines
from glue_lrs.profiles.gaussian import GaussianProfile

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.fitting.cutout import PixelPlanes
    from glue_lrs.fitting.source_fit import SourceFit

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


def near_sources(pixels: PixelPlanes, traces: Array, reach: int, order: int | None) -> PixelPlanes:
    """Return the part of an image that is needed to fit a profile.

    If no background is fitted (`order` is None), it consists of the columns up to `reach` from the
    traces; otherwise it has all columns.
    """
    low = np.nanmin(traces) - reach - 1.0 if order is None else -np.inf
    high = np.nanmax(traces) + reach + 1.0 if order is None else np.inf
    return pixels.cut(max(low, pixels.columns[0]), min(high, pixels.columns[-1]))


def peak_light(flux: Array, images: list[Array]) -> Array:
    """Return the brightest pixel of any source in each row, shape (row, 1).

    Parameters
    ----------
    flux : ndarray
        Flux of each source, shape (source, row).
    images : list of ndarray
        Profile of each source, each of shape (row, column).
    """
    peaks = [np.abs(f) * image.max(axis=1) for f, image in zip(flux, images, strict=True)]
    return np.max(peaks, axis=0)[:, np.newaxis]


def correct_profile(
    pixels: PixelPlanes,
    found: SourceFit,
    positives: int,
    order: int | None,
    reach: int,
    terms: int | None,
) -> SourceFit:
    """Add a spline correction to a Gaussian profile.

    Parameters
    ----------
    pixels : PixelPlanes
        Image to fit.
    found : SourceFit
        Fit of traces and a Gaussian profile.
    positives, order, reach, terms
        See `fit_profile`.

    Returns
    -------
    SourceFit
        Fit with an empirical profile and the inverse covariance of its coefficients.
    """
    base = found.profile
    assert isinstance(base, GaussianProfile)
    snr = found.signal_to_noise
    if terms is None:
        terms = spline_terms(snr)
    knots = 2 * (reach - 2) + 1
    row_step = 1 + (snr > _ROW_STEP_SNR) + (snr > 2.0 * _ROW_STEP_SNR)
    pixels, traces = pixels.every_nth_row(row_step), found.traces[:, ::row_step]
    rows = pixels.data.shape[0]
    known = np.isfinite(traces).all(axis=0) & np.isfinite(pixels.wavelength)
    pixels = reject_spikes(near_sources(pixels, traces, reach, order), 3 if row_step > 1 else 7)
    traces = np.where(known, traces, 0.0)
    offsets = [pixels.offsets(trace) for trace in traces]
    background = background_basis(pixels.columns, order, rows)
    used = pixels.good & known[:, np.newaxis]
    if not background:  # pixels beyond the profile would only constrain a background
        used = used & np.any([np.abs(offset) <= reach for offset in offsets], axis=0)
    profile = EmpiricalProfile(base=base, coefficients=np.zeros((knots, terms)))
    bands = profile.terms(np.where(known, pixels.wavelength, base.domain[0]))
    light = base.at(pixels.wavelength)
    gaussians = [light(offset) for offset in offsets]
    count = len(gaussians)
    # Fluxes of faint sources are averaged over rows. The errors of flux and background in a row are
    # correlated, and would otherwise bias the wings of the profile.
    row_snr = snr / np.sqrt(max(known.sum() * row_step, 1))
    half = int(np.clip(0.5 * (_FLUX_SNR / max(row_snr, 1e-3)) ** 2, 0, 12))
    coefficients, _ = fit_rows(gaussians + background, used / pixels.variance, pixels.data)
    flux = coefficients[:, :count].T
    peak_square = peak_light(flux, gaussians) ** 2
    floors = MODEL_ERROR_FLOORS if snr > _FINE_SNR or order else MODEL_ERROR_FLOORS[:2]
    factor = None
    for floor in floors:
        images = gaussians
        if floor < MODEL_ERROR_FLOORS[0]:
            light = profile.at(pixels.wavelength)
            images = [light(offset) for offset in offsets]
        variance = pixels.variance + floor**2 * peak_square
        for i in range(positives, count):
            variance += nod_variance(flux[i][:, np.newaxis] * images[i], offsets[i])
        weight = used / variance
        coefficients, _ = fit_rows(images + background, weight, pixels.data)
        flux = _smooth(coefficients[:, :count].T, half)
        weight[_outliers(pixels, flux, images, coefficients, background, floor)] = 0.0
        n_terms = terms if floor == floors[-1] else min(terms, _FIRST_TERMS)
        spline, factor = fit_spline(
            pixels.data - _sources(flux, gaussians),
            weight,
            traces,
            flux,
            pixels.columns,
            bands[:, :n_terms],
            knots,
            background,
        )
        profile = EmpiricalProfile(base=base, coefficients=spline)
    return replace(found, profile=profile, factor=factor)


def _sources(flux: Array, images: list[Array]) -> Array:
    """Return the sum of the models of all sources, shape (row, column)."""
    return np.asarray(
        np.sum([f[:, np.newaxis] * image for f, image in zip(flux, images, strict=True)], axis=0)
    )


def _outliers(
    pixels: PixelPlanes,
    flux: Array,
    images: list[Array],
    coefficients: Array,
    background: list[Array],
    floor: float,
) -> Mask:
    """Return a mask of pixels that are far from the model of an iteration, shape (row, column).

    Parameters
    ----------
    pixels : PixelPlanes
        Image to fit.
    flux : ndarray
        Flux of each source, shape (source, row).
    images, background : list of ndarray
        Profiles of the sources and terms of the background, each of shape (row, column).
    coefficients : ndarray
        Fitted fluxes and coefficients of the background, shape (row, term).
    floor : float
        Smallest model error in this iteration, as a fraction of the peak.
    """
    model = _sources(flux, images)
    peak = np.abs(model).max(axis=1, keepdims=True)
    tolerance = min(0.5 * UNCONVERGED_ERROR, max(5.0 * floor, _CONVERGED_ERROR))
    limit = CLIP * np.sqrt(pixels.variance) + tolerance * peak
    for i, field in enumerate(background):
        model += coefficients[:, len(images) + i, np.newaxis] * field
    return np.abs(pixels.data - model) > limit


def mirrored(even: Array) -> Array:
    """Return the coefficients of all knots of a symmetric spline, shape (knot, term).

    Parameters
    ----------
    even : ndarray
        Coefficients of the middle knot, then of each pair of knots at opposite sides of it, shape
        (pair, term).
    """
    return np.concatenate([even[:0:-1], even]) if len(even) else even


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


def _smooth(flux: Array, half: int) -> Array:
    """Return the running mean of fluxes (source, row) over `half` rows to each side.

    The first and last row are repeated beyond the ends.
    """
    if half == 0:
        return flux
    return np.asarray(uniform_filter1d(flux, 2 * half + 1, axis=1, mode="nearest"))


def fit_spline(
    residual: Array,
    weight: Array,
    traces: Array,
    flux: Array,
    columns: Array,
    bands: Array,
    knots: int,
    background: list[Array],
) -> tuple[Array, tuple[Any, bool]]:
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
    background : list of ndarray
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
    square, right = _spline_sums(residual, weight, traces, flux, columns, bands, knots, background)
    square.reshape(-1)[:: len(square) + 1] += np.repeat(spline_prior(knots), bands.shape[1]) ** -2
    try:
        factor = cho_factor(square, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        raise ProfileError(
            "no profile can be fitted, expected more good pixels and fewer outliers; give a "
            "profile fitted to another image, or spline=False for a Gaussian"
        ) from None
    found = cho_solve(factor, right.ravel(), check_finite=False)
    return np.asarray(found, dtype=np.float64).reshape(right.shape), factor


def _spline_sums(
    residual: Array,
    weight: Array,
    traces: Array,
    flux: Array,
    columns: Array,
    bands: Array,
    knots: int,
    background: list[Array],
) -> tuple[Array, Array]:
    """Return the normal matrix and the right-hand side of the fit by `fit_spline`.

    Knots and pixels are both one column apart, so that all pixels of a row have the same distance
    from the knot to their left. The four splines that are not 0 at a pixel therefore have the same
    values for all pixels of the row, and products of two splines fill diagonal bands of the normal
    matrix. This is much faster than an explicit design matrix.

    The parameters are described in `fit_spline`.

    Returns
    -------
    square : ndarray
        Normal matrix, shape (knot * term, knot * term).
    right : ndarray
        Right-hand side, shape (knot, term).
    """
    rows, terms = bands.shape
    half, count = knots // 2, columns.size
    first = [np.floor(columns[0] - trace).astype(np.intp) for trace in traces]
    values = [np.stack(splines((columns[0] - t) % 1.0, knots)[1], axis=1) for t in traces]
    size = knots + 8
    upper, lower = np.triu_indices(terms)
    pairs = bands[:, upper] * bands[:, lower]
    matrix = np.zeros((knots, terms, knots, terms))
    # Weighted sums over each row of splines times the residual, and of splines times each term of
    # the background; each has the shape (row, knot).
    products = np.zeros((1 + len(background), rows, knots))
    padded = np.zeros((2 + len(background), rows, count + 2 * size))
    padded[0, :, size:-size] = weight
    for plane, field in zip(padded[1:], (residual, *background), strict=True):
        np.multiply(weight, field, out=plane[:, size:-size])
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
    square = matrix.reshape(knots * terms, knots * terms)
    right, *across = products
    if background:
        coefficients, inverse = fit_rows(background, weight, residual)
        right -= sum(coefficients[:, i, np.newaxis] * part for i, part in enumerate(across))
        fields = (np.stack(across, axis=1)[..., np.newaxis] * bands[:, None, None]).reshape(
            rows, len(background), -1
        )
        square -= np.tensordot(fields, np.matmul(inverse, fields), axes=((0, 1), (0, 1)))
    return square, right.T @ bands
