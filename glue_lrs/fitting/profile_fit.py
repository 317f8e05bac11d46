"""Learning a profile from an image: traces, widths, and what a Gaussian leaves over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from glue_lrs.errors import ProfileError
from glue_lrs.fitting.engine import SourceFit
from glue_lrs.fitting.least_squares import (
    background_basis,
    fit_rows,
    gauss_newton,
    parameter_errors,
    row_coefficients,
)
from glue_lrs.fitting.noise_model import nod_variance
from glue_lrs.fitting.outliers import clean
from glue_lrs.fitting.spline_correction import (
    CLIP,
    CONVERGENCE,
    MODEL_ERROR_FLOORS,
    SPLINE_TERMS,
    correct_profile,
    mirror_traces,
    pairs_of_splines,
    spline_prior,
)
from glue_lrs.instrument import FWHM
from glue_lrs.profiles.base import unit
from glue_lrs.profiles.empirical import REACH, EmpiricalProfile
from glue_lrs.profiles.gaussian import GaussianProfile

if TYPE_CHECKING:
    from glue_lrs.fitting.cutout import PixelPlanes
    from glue_lrs.profiles.base import Profile

__all__ = ["fit_profile", "fit_traces", "refine_positions"]

#: The same for the weights of the fit of position and width.
_FLOOR = 0.02

#: Columns, and fractions of the width, that are near enough: `refine` does the rest.
_CONVERGED = 0.02

#: Columns from a source that tell its position.
_NEAR = 6.0

#: What the width of a profile may differ from the expected one by, where sources are blended.
_PRIOR_WIDTH = 0.1

#: What a trace may be bent by, in columns, where sources are blended.
_PRIOR_BEND = 0.05

#: Squared signal-to-noise ratio of a coefficient of a trace's bend that is believed.
_BENT = 6.0

#: Most steps of improving positions: those of faint sources that touch come nearer by half each.
_REFINED = 8

#: Most steps of learning from several sources at once.
_TOGETHER = 12


def fit_profile(
    pixels: PixelPlanes,
    traces: NDArray[np.float64],
    *,
    positives: int | None = None,
    order: int | None = 0,
    reach: int = REACH,
    spline: bool = True,
    terms: int | None = None,
    trace_order: int | None = None,
    thin: int = 1,
) -> SourceFit:
    """Learn the profile that all sources of an image share, and where they are.

    Parameters
    ----------
    pixels : Pixels
        The image.
    traces : ndarray
        Where the sources are to within some two columns, shape (source, row). The traces found
        are parallel, and differ from these by a polynomial in the row.
    positives : int, optional
        The first so many are sources; after them come negative traces, one of each source for the
        first nod, as far apart as these, one of each for the next. None: all are sources.
    order : int, optional
        Order of the background's polynomial in each row; None: there is none.
    reach : int
        Columns from the source at which the profile ends.
    spline : bool
        Whether to correct the Gaussian; without it what is learned is its width.
    terms : int, optional
        Terms of the correction's polynomial in wavelength. None: 1 to 8, as the signal-to-noise
        ratio allows.
    trace_order : int, optional
        Order of the polynomials that traces differ by. None: 0 to 3, likewise.
    thin : int
        Position and width are fitted to each so many-th row: faster, where there is light enough.

    Returns
    -------
    Learned
        The profile and traces.

    Raises
    ------
    ProfileError
        If there is no light to learn from.

    Notes
    -----
    Traces and width: Gauss-Newton, with the fluxes and the background of each row projected out
    (Kaufman 1975). The correction: linear least squares, in turns with the fluxes.
    """
    count = len(traces) if positives is None else positives
    reach = max(min(reach, pixels.columns.size), 4)
    together = count > 1
    first = 0 if together and trace_order is None else trace_order
    near_enough = _CONVERGED if spline else 1e-3
    found = _fit_shape(pixels, traces, count, order, None, first, thin, near_enough)
    if together:
        return _learn_together(pixels, found, count, order, reach, spline, terms, trace_order)
    if not spline:
        return found
    return correct_profile(pixels, found, count, order, reach, terms)


def fit_traces(
    pixels: PixelPlanes,
    profile: Profile,
    traces: NDArray[np.float64],
    *,
    positives: int | None = None,
    order: int | None = 0,
    trace_order: int | None = None,
    thin: int = 1,
) -> SourceFit:
    """Find where sources of a known profile are; parameters are those of `fit_profile`."""
    count = len(traces) if positives is None else positives
    return _fit_shape(pixels, traces, count, order, profile, trace_order, thin)


def refine_positions(
    pixels: PixelPlanes,
    variance: NDArray[np.float64],
    found: SourceFit,
    *,
    positives: int,
    behind: list[NDArray[np.float64]],
    learned: bool,
    step: float = 0.05,
) -> SourceFit:
    """Improve the positions of sources once their profile is known: all rows, the best weights.

    Parameters
    ----------
    pixels : Pixels
        The image without its negative traces.
    variance : ndarray
        Of its pixels: that of a model, not their own.
    found : Learned
        Profile and traces, right to within some tenths of a column.
    positives : int
        As for `fit_profile`.
    behind : list of ndarray
        What the background is made of.
    learned : bool
        Whether the profile was learned about these traces. Then the trace could be anywhere within
        the profile, and where it is must be said: about where it is most symmetric.
    step : float
        Columns over which derivatives are taken.

    Returns
    -------
    Learned
        Traces that have moved, and errors of their positions. What was learned is the same light at
        the same place: of the first source the traces and the profile's centre move alike.
    """
    profile, traces = found.profile, np.array(found.traces)
    shape = profile
    if learned and isinstance(profile, EmpiricalProfile):
        shape = profile.symmetric()
    known = np.isfinite(traces).all(axis=0) & np.isfinite(pixels.wavelength)
    start = np.where(known, traces, 0.0)[:positives]
    # What is farther away says nothing about the position, but may be another source.
    first, last = np.nanmin(traces[:positives]) - _NEAR, np.nanmax(traces[:positives]) + _NEAR
    some = slice(*np.searchsorted(pixels.columns, (first, last + 0.5)).tolist())  # as `cut` does
    pixels, behind = pixels.cut(first, last), [field[:, some] for field in behind]
    near = np.any([np.abs(pixels.offsets(t)) <= _NEAR for t in start], axis=0)
    told = pixels.good & near & known[:, np.newaxis]
    weight = np.where(told, 1.0 / variance[:, some], 0.0)
    moved, error = np.zeros(len(traces)), found.shift_error
    light = shape.at(pixels.wavelength)
    for _ in range(_REFINED):
        lit, slopes = [], []
        for trace, move in zip(start, moved, strict=False):
            offset = pixels.offsets(trace + move)
            right, left = light(offset + step), light(offset - step)
            # The mean is somewhat too broad, which a blended neighbour would be moved by.
            lit.append(light(offset) if positives > 1 else 0.5 * (right + left))
            slopes.append((left - right) / (2.0 * step))
        basis = [*lit, *behind]
        coefficients, inverse = fit_rows(basis, weight, pixels.data)
        residual = pixels.data.copy()
        for i, field in enumerate(basis):
            residual -= coefficients[:, i, np.newaxis] * field
        fields = [f[:, np.newaxis] * d for f, d in zip(coefficients.T, slopes, strict=False)]
        change, covariance = gauss_newton(
            fields,
            [np.ones((known.size, 1))] * positives,
            basis,
            weight,
            residual,
            inverse=inverse,
        )
        error = parameter_errors(covariance)
        moved[:positives] += np.clip(change, -0.5, 0.5)
        # Alone, a source is nearer by the square with each step; fluxes of several hold each other.
        left = change**2 if positives == 1 else np.abs(change)
        if (left < 0.1 * error).all():
            break
    moved[positives:] = moved[0]
    if learned and isinstance(profile, EmpiricalProfile):
        profile = replace(profile, center=float(moved[0]))
    else:
        moved[positives:] = 0.0
    return replace(found, profile=profile, traces=traces + moved[:, np.newaxis], shift_error=error)


def _believed(bend: NDArray[np.float64], covariance: NDArray[np.float64]) -> bool:
    """Whether a trace's bend is more than noise, which blended sources would feel."""
    return bool(bend @ np.linalg.solve(covariance, bend) > _BENT * bend.size)


def _orders(signal_to_noise: float) -> tuple[int, int]:
    """Order of the trace's polynomial, and of the width's, that the data can tell."""
    trace = sum(signal_to_noise > limit for limit in (60.0, 200.0, 3000.0))
    width = sum(signal_to_noise > limit for limit in (60.0, 300.0))
    return trace, width


def _moves(count: int, positives: int) -> NDArray[np.float64]:
    """How traces move with the parameters: each source's position, each nod's distance."""
    nods = count // positives - 1
    moves = np.zeros((positives + nods, count))
    for nod in range(nods + 1):
        some = np.arange(positives) + nod * positives
        moves[np.arange(positives), some] = 1.0
        if nod:
            moves[positives + nod - 1, some] = 1.0
    return moves


def _fit_shape(
    pixels: PixelPlanes,
    traces: NDArray[np.float64],
    positives: int,
    order: int | None,
    profile: Profile | None,
    trace_order: int | None,
    thin: int,
    near_enough: float = 1e-3,
) -> SourceFit:
    """Traces of a known profile, or traces and width of a Gaussian."""
    known = np.isfinite(traces)
    if not known.any():
        raise ProfileError("no row has a trace to start from")
    near = pixels.cut(np.nanmin(traces) - 9.0, np.nanmax(traces) + 9.0).thinned(thin)
    near = clean(near, 3 if thin > 1 else 7)
    rows = near.data.shape[0]
    start = np.where(known, traces, 0.0)
    whole = np.linspace(-1.0, 1.0, pixels.data.shape[0])
    along, thinned = whole[::thin], start[:, ::thin]
    usable = (known.all(axis=0) & np.isfinite(pixels.wavelength))[::thin]
    weight = near.good / near.variance
    weight[~usable] = 0.0
    if not weight.any():
        raise ProfileError("no pixel near the source is good")
    shape = profile or GaussianProfile(domain=pixels.domain)
    count, moves = len(traces), _moves(len(traces), positives)
    most = max(3, trace_order or 0)
    powers = np.vander(along, most + 1, increasing=True)[:, 1:]
    bands = unit(np.where(np.isfinite(near.wavelength), near.wavelength, 0.0), pixels.domain)
    behind = background_basis(near.columns, order, rows)
    constants, bend = np.zeros(len(moves)), np.zeros(most)
    signal = 0.0
    floor = np.zeros((rows, 1))
    error = np.full(positives, np.nan)
    orders = (0, 0)
    for step in range(9):
        shift = (constants @ moves)[:, np.newaxis] + powers @ bend
        offsets = [near.offsets(trace) for trace in thinned + shift]
        edges = [_Edges.from_geometry(shape, offset, near.wavelength) for offset in offsets]
        lit = [edge.light() for edge in edges]
        # A Gaussian is not good enough for bright sources, whose faint wings would rule the fit.
        weight = (weight > 0) / (near.variance + floor)
        basis = lit + behind
        coefficients, inverse = fit_rows(basis, weight, near.data)
        flux = coefficients[:, :count].T
        peaks = [np.abs(f) * p.max(axis=1) for f, p in zip(flux, lit, strict=True)]
        floor = (_FLOOR * np.max(peaks, axis=0)[:, np.newaxis]) ** 2
        residual = near.data.copy()
        for i, field in enumerate(basis):
            residual -= coefficients[:, i, np.newaxis] * field
        clipped = step in (2, 4)
        if clipped:  # the model is good enough by now to tell what is not part of it
            peak = sum(np.abs(f)[:, np.newaxis] * p for f, p in zip(flux, lit, strict=True))
            largest = peak.max(axis=1, keepdims=True)
            limit = CLIP * np.sqrt(near.variance) + CONVERGENCE * largest + 0.1 * peak
            weight = np.where(np.abs(residual) > limit, 0.0, weight)
        power = np.einsum("rc,rc->r", lit[0] ** 2, (weight > 0) / near.variance)
        signal = float(np.sqrt(thin * (np.maximum(flux[0], 0.0) ** 2 * power).sum()))
        if step == 1:
            orders = _orders(signal)
        used = (orders[0] if trace_order is None else trace_order) if step > 0 else 0
        steepness = [e.steepness() * -f[:, np.newaxis] for f, e in zip(flux, edges, strict=True)]
        fields, terms = [], []
        for move in moves:
            together = [field for field, part in zip(steepness, move, strict=True) if part]
            fields.append(np.sum(together, axis=0))
            terms.append(np.ones((rows, 1)))
        if used:  # sources of one image lie along parallel traces
            fields.append(np.sum(steepness, axis=0))
            terms.append(powers[:, :used])
        wide = 0
        if isinstance(shape, GaussianProfile) and profile is None and step > 0:
            widening = [e.widening() * f[:, np.newaxis] for f, e in zip(flux, edges, strict=True)]
            wide = (orders[1] if step > 1 else 0) + 1
            fields.append(np.sum(widening, axis=0))
            terms.append(np.vander(bands, wide, increasing=True))
        held = np.zeros((2, sum(part.shape[1] for part in terms)))
        if positives > 1:
            held[:, len(moves) : len(moves) + used] = bend[:used], [_PRIOR_BEND**-2] * used
        change, covariance = gauss_newton(
            fields,
            terms,
            basis,
            weight,
            residual,
            held[0],
            held[1],
            None if clipped else inverse,
        )
        error = parameter_errors(covariance)[:positives]
        own, common = change[: len(moves)], change[len(moves) : len(moves) + used]
        biggest = float(np.abs(own).max() + np.abs(common).sum())
        damping = min(1.0, 1.0 / max(biggest, 1e-12))
        constants = constants + own * damping
        bend[:used] += common * damping
        if wide:
            wider = change[-wide:]
            total = float(np.abs(wider).sum())
            wider = wider * min(1.0, 0.3 / max(total, 1e-12))
            assert isinstance(shape, GaussianProfile)
            shape = _widen(shape, wider)
            biggest = max(biggest, total)
        if step == 2 and used and trace_order is None:
            some = slice(len(moves), len(moves) + used)
            if not _believed(bend[:used], covariance[some, some]):
                bend[:], orders = 0.0, (0, orders[1])
                continue
        if step > 2 and biggest < near_enough:
            break
    shift = (constants @ moves)[:, np.newaxis]
    moved = start + shift + np.vander(whole, most + 1, increasing=True)[:, 1:] @ bend
    if signal <= 0 or not np.isfinite(moved).all():
        raise ProfileError("the source has no light to learn a profile from")
    return SourceFit(shape, np.where(known, moved, np.nan), signal, error)


@dataclass(frozen=True, eq=False)
class _Edges:
    """A profile and how it changes with position and width; of a Gaussian at the pixels' edges."""

    shape: Profile
    offset: NDArray[np.float64]
    wavelength: NDArray[np.float64]
    #: Place and density of the edges in units of the Gaussian's standard deviation, and that.
    place: NDArray[np.float64] | None
    density: NDArray[np.float64] | None
    sigma: NDArray[np.float64] | None

    @classmethod
    def from_geometry(
        cls, shape: Profile, offset: NDArray[np.float64], wavelength: NDArray[np.float64]
    ) -> _Edges:
        if not isinstance(shape, GaussianProfile):
            return cls(shape, offset, wavelength, None, None, None)
        edges = np.empty((offset.shape[0], offset.shape[1] + 1))  # columns are 1 apart
        edges[:, :-1] = offset - 0.5
        edges[:, -1] = offset[:, -1] + 0.5
        sigma = np.nan_to_num(shape.fwhm(wavelength)[:, np.newaxis] / FWHM, nan=1.0)
        edges /= sigma
        edges[np.isnan(edges)] = 0.0
        density = np.exp(-0.5 * edges**2) / np.sqrt(2.0 * np.pi)
        return cls(shape, offset, wavelength, edges, density, sigma)

    def light(self) -> NDArray[np.float64]:
        """The profile."""
        from scipy.special import ndtr

        if self.place is None:
            return self.shape(self.offset, self.wavelength)
        return np.diff(ndtr(self.place), axis=1)

    def steepness(self) -> NDArray[np.float64]:
        """Derivative with regard to the offset."""
        if self.density is None or self.sigma is None:
            return self.shape.derivative(self.offset, self.wavelength)
        return np.diff(self.density, axis=1) / self.sigma

    def widening(self) -> NDArray[np.float64]:
        """Derivative with regard to the logarithm of the width."""
        assert self.density is not None
        assert self.place is not None
        return -np.diff(self.density * self.place, axis=1)


def _widen(shape: GaussianProfile, change: NDArray[np.float64]) -> GaussianProfile:
    """Multiply the width's polynomial by 1 + change, and cut it to its order."""
    size = max(len(shape.factor), change.size)
    factor = np.zeros(size)
    factor[: len(shape.factor)] = shape.factor
    grown = np.zeros(size)
    grown[: change.size] = change
    factor += np.convolve(factor, grown)[:size]
    factor[0] = max(factor[0], 0.3)
    return replace(shape, factor=tuple(factor))


def _learn_together(
    pixels: PixelPlanes,
    found: SourceFit,
    positives: int,
    order: int | None,
    reach: int,
    spline: bool,
    terms: int | None,
    trace_order: int | None,
) -> SourceFit:
    """Profile and positions of several sources at once: Gauss-Newton, all fluxes projected out.

    The light of one source lies in the wings of another, so that positions, width, wings and fluxes
    cannot be had one after the other. What tells them apart is that the profile is symmetric, much
    like a Gaussian of the width that is expected, and smooth in wavelength.
    """
    base = found.profile
    assert isinstance(base, GaussianProfile)
    if terms is None:
        terms = 1 + sum(found.signal_to_noise > limit for limit in SPLINE_TERMS)
    half = reach - 2 if spline else 0
    known = np.isfinite(found.traces).all(axis=0) & np.isfinite(pixels.wavelength)
    low = np.nanmin(found.traces) - reach - 1.0 if order is None else -np.inf
    high = np.nanmax(found.traces) + reach + 1.0 if order is None else np.inf
    near = clean(pixels.cut(max(low, pixels.columns[0]), min(high, pixels.columns[-1])))
    rows, count = near.data.shape[0], len(found.traces)
    start, moves = np.where(known, found.traces, 0.0), _moves(count, positives)
    behind = background_basis(near.columns, order, rows)
    wave = np.where(known, near.wavelength, base.domain[0])
    bands = legendre.legvander(unit(wave, base.domain), max(terms, 3) - 1)
    wide = _orders(found.signal_to_noise)[1] + 1
    powers = np.vander(unit(wave, base.domain), wide, increasing=True)
    good = near.good & known[:, np.newaxis]
    bent = _orders(found.signal_to_noise)[0] if trace_order is None else trace_order
    curves = np.vander(np.linspace(-1.0, 1.0, rows), bent + 1, increasing=True)[:, 1:]
    # Parameters: moves of each and of all; widths; coefficients of pairs of splines, which share
    # one number.
    along = [np.ones((rows, 1))] * len(moves) + [curves, powers]
    along += [bands[:, :terms]] * (half + 1 if spline else 0)
    pair = spline_prior(2 * half + 1)[half:]
    tight = np.concatenate(
        [
            np.full(len(moves), 0.5),
            np.full(bent, _PRIOR_BEND),
            np.where(np.arange(wide) == 0, _PRIOR_WIDTH, 0.5 * _PRIOR_WIDTH),
            np.repeat(pair, terms) if spline else [],
        ]
    )
    places, bend, widths = np.zeros(len(moves)), np.zeros(bent), np.zeros(wide)
    widths[: len(base.factor)] = np.array(base.factor)[:wide]
    even = np.zeros((half + 1, terms)) if spline else np.zeros((0, terms))
    weight = good / near.variance
    error = np.ones(tight.size)
    for step in range(_TOGETHER):
        shape = replace(base, factor=tuple(widths))
        profile = EmpiricalProfile(base=shape, coefficients=mirror_traces(even))
        offsets = [near.offsets(t) for t in start + (places @ moves)[:, np.newaxis] + curves @ bend]
        heights = [pairs_of_splines(offset, half) for offset in offsets] if spline else []
        own = bands[:, :terms] @ even.T
        lit, slopes, widenings = [], [], []
        for i, offset in enumerate(offsets):
            edges = _Edges.from_geometry(shape, offset, wave)
            lit.append(edges.light())
            slope = -edges.steepness()
            if spline:
                lit[-1] += np.einsum("krc,rk->rc", heights[i], own)
                d = pairs_of_splines(offset + 0.05, half) - pairs_of_splines(offset - 0.05, half)
                slope -= np.einsum("krc,rk->rc", d, own) / 0.1
            slopes.append(slope)
            widenings.append(edges.widening())
        basis = lit + behind
        coefficients = row_coefficients(basis, weight, near.data)
        flux = coefficients[:, :count].T[:, :, np.newaxis]
        residual = near.data - np.sum(
            [coefficients[:, i, np.newaxis] * b for i, b in enumerate(basis)], axis=0
        )
        parts = [f * p for f, p in zip(flux, lit, strict=True)]
        model = np.abs(np.sum(parts, axis=0))
        peak = model.max(axis=1, keepdims=True)
        belief = MODEL_ERROR_FLOORS[min(step, len(MODEL_ERROR_FLOORS) - 1)]
        variance = near.variance + (belief * peak) ** 2
        for i in range(positives, count):
            variance += nod_variance(parts[i], offsets[i])
        weight = good / variance
        if step > 1:
            limit = CLIP * np.sqrt(near.variance) + 0.5 * CONVERGENCE * peak
            weight[np.abs(residual) > limit] = 0.0
        pushed = [f * d for f, d in zip(flux, slopes, strict=True)]
        fields = [
            np.sum([p for p, part in zip(pushed, move, strict=True) if part], axis=0)
            for move in moves
        ]
        fields.append(np.sum(pushed, axis=0))
        fields.append(np.sum([f * d for f, d in zip(flux, widenings, strict=True)], axis=0))
        if spline:
            fields += list(np.sum([f * h for f, h in zip(flux, heights, strict=True)], axis=0))
        expected = np.zeros(wide)
        expected[0] = 1.0
        values = np.concatenate([np.zeros(len(moves)), bend, widths - expected, even.ravel()])
        change, inverse = gauss_newton(fields, along, basis, weight, residual, values, tight**-2)
        error = parameter_errors(inverse)
        here, bending, wider, rest = np.split(change, np.cumsum([len(moves), bent, wide]).tolist())
        farthest = np.abs(here).max() + np.abs(bending).sum()
        damping = min(1.0, 0.5 / max(farthest, 1e-9), 0.2 / max(np.abs(wider).max(), 1e-9))
        places, bend = places + damping * here, bend + damping * bending
        # The derivative is that of the logarithm of the width.
        widths = widths + damping * wider * widths[0]
        widths[0] = max(widths[0], 0.3)
        even = even + damping * rest.reshape(even.shape)
        if step == 4 and bent and trace_order is None:
            some = slice(len(moves), len(moves) + bent)
            if not _believed(bend, inverse[some, some]):
                bend, tight[some] = np.zeros(bent), 1e-6
                continue
        if step > 3 and np.abs(change / error).max() < 0.02:
            break
    profile = EmpiricalProfile(
        base=replace(base, factor=tuple(widths)), coefficients=mirror_traces(even)
    )
    traces = found.traces + (places @ moves)[:, np.newaxis] + curves @ bend
    return replace(found, profile=profile, traces=traces, shift_error=error[:positives])
