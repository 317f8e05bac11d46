"""Spline correction of a Gaussian profile."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.errors import ProfileError
from glue_lrs.fitting.least_squares import background_basis, fit_rows, row_coefficients
from glue_lrs.fitting.noise_model import nod_variance
from glue_lrs.fitting.outliers import clean
from glue_lrs.profiles.empirical import EmpiricalProfile, splines
from glue_lrs.profiles.gaussian import GaussianProfile

if TYPE_CHECKING:
    from glue_lrs.fitting.cutout import PixelPlanes
    from glue_lrs.fitting.engine import SourceFit

__all__ = [
    "CLIP",
    "CONVERGENCE",
    "MODEL_ERROR_FLOORS",
    "SPLINE_TERMS",
    "correct_profile",
    "mirror_traces",
    "pairs_of_splines",
    "spline_prior",
]

#: Pixels that disagree with the model by more standard deviations are not learned from.
CLIP = 5.0

#: What a model that is still being fitted may be wrong by, as a fraction of the profile's peak.
CONVERGENCE = 0.08

#: The same at the end of a fit.
_CLOSE = 0.003

#: Signal-to-noise ratio of a row's flux that needs no averaging.
_SURE = 60.0

#: Signal-to-noise ratio above which every other row is enough for the correction; above twice as
#: much every third.
_HALF = 2000.0

#: Signal-to-noise ratios above which the correction has one more term in the wavelength.
SPLINE_TERMS = (60.0, 150.0, 400.0, 800.0, 1500.0, 8000.0, 14000.0)

#: Signal-to-noise ratio above which the correction takes a third round.
_FINE = 1e4

#: Terms of the correction in all rounds but the last.
_FEW_TERMS = 3

#: What a learned profile may be wrong by at first, and as it gets better; as `_FLOOR`.
MODEL_ERROR_FLOORS = (0.02, 0.002, 0.0003)

#: Expected size of the spline's coefficients, as a fraction of the light, near the core and beyond:
#: it holds back a correction that faint data cannot tell.
_PRIOR, _PRIOR_WINGS = 0.02, 0.003

_CORE = 4


def correct_profile(
    pixels: PixelPlanes,
    found: SourceFit,
    positives: int,
    order: int | None,
    reach: int,
    terms: int | None,
) -> SourceFit:
    """Add the spline to a Gaussian."""
    base = found.profile
    assert isinstance(base, GaussianProfile)
    if terms is None:
        terms = 1 + sum(found.signal_to_noise > limit for limit in SPLINE_TERMS)
    knots = 2 * (reach - 2) + 1
    # Of a bright source every second or third row is enough, and not much worse than all.
    thin = 1 + (found.signal_to_noise > _HALF) + (found.signal_to_noise > 2.0 * _HALF)
    pixels, traces = pixels.thinned(thin), found.traces[:, ::thin]
    rows = pixels.data.shape[0]
    known = np.isfinite(traces).all(axis=0) & np.isfinite(pixels.wavelength)
    low = np.nanmin(traces) - reach - 1.0 if order is None else -np.inf
    high = np.nanmax(traces) + reach + 1.0 if order is None else np.inf
    pixels = clean(
        pixels.cut(max(low, pixels.columns[0]), min(high, pixels.columns[-1])), 3 if thin > 1 else 7
    )
    good = pixels.good & known[:, np.newaxis]
    offsets = [pixels.offsets(np.where(known, trace, 0.0)) for trace in traces]
    near = np.any([np.abs(offset) <= reach for offset in offsets], axis=0)
    behind = background_basis(pixels.columns, order, rows)
    data = pixels.data
    profile = EmpiricalProfile(base=base, coefficients=np.zeros((knots, terms)))
    bands = profile.terms(np.where(known, pixels.wavelength, base.domain[0]))
    light = base.at(pixels.wavelength)
    plain = [light(offset) for offset in offsets]
    # Where there is a background, all pixels tell of it.
    reached = good if behind else good & near
    # The noise of a row's flux and of its background go together, which would end up in the wings:
    # of faint sources the flux is averaged over some rows.
    each = found.signal_to_noise / np.sqrt(max(known.sum() * thin, 1))
    half = int(np.clip(0.5 * (_SURE / max(each, 1e-3)) ** 2, 0, 12))
    count = len(plain)
    flux = row_coefficients(plain + behind, reached / pixels.variance, data)[:, :count].T
    peaks = [np.abs(f) * p.max(axis=1) for f, p in zip(flux, plain, strict=True)]
    floor = np.max(peaks, axis=0)[:, np.newaxis] ** 2
    # What is below the noise needs no second look.
    floors = (
        MODEL_ERROR_FLOORS if found.signal_to_noise > _FINE or order else MODEL_ERROR_FLOORS[:2]
    )
    for step in floors:
        lit = plain
        if step < MODEL_ERROR_FLOORS[0]:
            light = profile.at(pixels.wavelength)
            lit = [light(offset) for offset in offsets]
        # What the fluxes need for a start is a profile that is about right.
        some = terms if step == floors[-1] else min(terms, _FEW_TERMS)
        variance = pixels.variance + step**2 * floor
        for i in range(positives, len(lit)):
            variance += nod_variance(flux[i][:, np.newaxis] * lit[i], offsets[i])
        weight = reached / variance
        coefficients = row_coefficients(lit + behind, weight, data)
        flux = _smooth(coefficients[:, :count].T, half)
        model = np.sum([f[:, np.newaxis] * p for f, p in zip(flux, lit, strict=True)], axis=0)
        largest = np.abs(model).max(axis=1, keepdims=True)
        tolerance = min(0.5 * CONVERGENCE, max(5.0 * step, _CLOSE))
        limit = CLIP * np.sqrt(pixels.variance) + tolerance * largest
        for i, field in enumerate(behind):
            model += coefficients[:, count + i, np.newaxis] * field
        weight[np.abs(data - model) > limit] = 0.0
        bare = np.sum([f[:, np.newaxis] * p for f, p in zip(flux, plain, strict=True)], axis=0)
        spline, factor = _fit_spline(
            data - bare,
            weight,
            np.where(known, traces, 0.0),
            flux,
            pixels.columns,
            bands[:, :some],
            knots,
            behind,
        )
        profile = EmpiricalProfile(base=base, coefficients=spline)
    return replace(found, profile=profile, factor=factor)


def mirror_traces(even: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of all knots from those of the middle one and of pairs to both its sides."""
    return np.concatenate([even[:0:-1], even]) if len(even) else even


def pairs_of_splines(offset: NDArray[np.float64], half: int) -> NDArray[np.float64]:
    """B-splines of which pairs to both sides of the middle are added: (pair, row, column)."""
    first, parts = splines(np.where(np.isnan(offset), 1e3, offset), 2 * half + 1)
    out = np.zeros((half + 2, *offset.shape))
    row, column = np.ogrid[: offset.shape[0], : offset.shape[1]]
    for j, part in enumerate(parts):
        knot = np.abs(first + j - 4 - half)
        out[np.minimum(knot, half + 1), row, column] += part
    return out[:-1]


def spline_prior(knots: int) -> NDArray[np.float64]:
    """Expected size of the coefficient of each knot."""
    place = np.abs(np.arange(knots) - knots // 2)
    return np.where(place <= _CORE, _PRIOR, _PRIOR_WINGS)


def _smooth(flux: NDArray[np.float64], half: int) -> NDArray[np.float64]:
    """Running mean along the rows, of `half` rows to each side; shape (source, row)."""
    if half == 0:
        return flux
    from scipy.ndimage import uniform_filter1d

    return np.asarray(uniform_filter1d(flux, 2 * half + 1, axis=1, mode="nearest"))


def _fit_spline(
    residual: NDArray[np.float64],
    weight: NDArray[np.float64],
    traces: NDArray[np.float64],
    flux: NDArray[np.float64],
    columns: NDArray[np.float64],
    bands: NDArray[np.float64],
    knots: int,
    behind: list[NDArray[np.float64]],
) -> tuple[NDArray[np.float64], Any]:
    """Coefficients (knot, term) of sum_s flux_s sum_km c_km B_k(column - trace_s) L_m.

    And the Cholesky factor of their inverse covariance. What a fit of the background to each row
    would take off is taken off.
    """
    from scipy.linalg import cho_factor, cho_solve

    rows, terms = bands.shape
    half, count = knots // 2, columns.size
    # In the frame of a source all pixels of a row are as far from the knot below: the four values
    # of the splines are the row's, and products of two of them fill bands of the normal matrix.
    first = [np.floor(columns[0] - trace).astype(np.intp) for trace in traces]
    values = [np.stack(splines((columns[0] - t) % 1.0, knots)[1], axis=1) for t in traces]
    size = knots + 8
    left, other = np.triu_indices(terms)
    pairs = bands[:, left] * bands[:, other]
    matrix = np.zeros((knots, terms, knots, terms))
    # Sums over each row of splines times residual and background, shape (row, knot).
    pulls = np.zeros((1 + len(behind), rows, knots))
    padded = np.zeros((2 + len(behind), rows, count + 2 * size))
    padded[0, :, size:-size] = weight
    for plane, field in zip(padded[1:], (residual, *behind), strict=True):
        np.multiply(weight, field, out=plane[:, size:-size])
    frame = np.arange(-half - 4, half + 5)  # knots below a pixel, from the source
    flat = padded.reshape(len(padded), -1)
    start = (np.arange(rows) * padded.shape[2])[:, np.newaxis]
    i, j = np.ogrid[:4, :4]
    knot = np.arange(knots)
    for s, f in enumerate(flux):
        at = np.clip(frame - first[s][:, np.newaxis] + size, 0, padded.shape[2] - 1)
        both = flat[:, start + at] * f[:, np.newaxis]
        # Of each row the pixels that are below knot k by j, shape (row, j, k).
        near, *rest = (np.stack([b[:, 5 - n : 5 - n + knots] for n in range(4)], 1) for b in both)
        pulls += [np.matmul(values[s][:, np.newaxis], part)[:, 0] for part in rest]
        for t in range(s, len(flux)):  # the other half is its mirror image
            products = values[s][:, np.newaxis] * (values[t] * flux[t][:, np.newaxis])[..., None]
            spread = np.zeros((rows, 7, 4))
            spread[:, i - j + 3, j] = products
            apart = first[t] - first[s]
            for distance in np.unique(apart).tolist():
                some = slice(None) if (apart == distance).all() else apart == distance
                low = 3 if s == t else 0
                band = distance + np.arange(low - 3, 4)
                sums = np.matmul(spread[some, low:], near[some])
                upper = sums.reshape(len(sums), -1).T @ pairs[some]
                total = np.empty((band.size, knots, terms, terms))
                total[..., left, other] = upper.reshape(band.size, knots, -1)
                total[..., other, left] = total[..., left, other]
                to = knot + band[:, np.newaxis]
                b, k = np.nonzero((to >= 0) & (to < knots))
                matrix[k, :, to[b, k], :] += total[b, k]
                if s == t:
                    b, k = b[b > 0], k[b > 0]
                matrix[to[b, k], :, k, :] += total[b, k]
    square = matrix.reshape(knots * terms, knots * terms)
    pull, *across = pulls
    if behind:
        level, inverse = fit_rows(behind, weight, residual)
        pull -= sum(level[:, i, np.newaxis] * part for i, part in enumerate(across))
        fields = (np.stack(across, axis=1)[..., np.newaxis] * bands[:, None, None]).reshape(
            rows, len(behind), -1
        )
        square -= np.tensordot(fields, np.matmul(inverse, fields), axes=((0, 1), (0, 1)))
    right = pull.T @ bands
    square.reshape(-1)[:: len(square) + 1] += np.repeat(spline_prior(knots), terms) ** -2
    try:
        factor = cho_factor(square, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        raise ProfileError(
            "no profile can be learned, expected more good pixels and none that are wild; give one "
            "that another image has taught, or spline=False for a Gaussian"
        ) from None
    found = cho_solve(factor, right.ravel(), check_finite=False)
    return np.asarray(found, dtype=np.float64).reshape(knots, terms), factor
