"""Learning a profile from an image: traces, widths, and what a Gaussian leaves over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from glue_lrs.background import MAX_CONDITION
from glue_lrs.errors import ProfileError
from glue_lrs.profile import (
    FWHM,
    EmpiricalProfile,
    GaussianProfile,
    Profile,
    splines,
    unit,
)

__all__ = ["Learned", "Pixels", "fit_traces", "learn", "refine"]

#: Columns from the source beyond which an empirical profile is 0.
REACH = 14

#: Pixels that disagree with the model by more standard deviations are not learned from.
_CLIP = 5.0

#: What a model that is still being fitted may be wrong by, as a fraction of the profile's peak.
_TOLERANCE = 0.08

#: The same at the end of a fit.
_CLOSE = 0.003

#: The same for the weights of the fit of position and width.
_FLOOR = 0.02

#: Columns, and fractions of the width, that are near enough: `refine` does the rest.
_CONVERGED = 0.02

#: Columns from a source that tell its position.
_NEAR = 6.0

#: Signal-to-noise ratio of a row's flux that needs no averaging.
_SURE = 60.0

#: Signal-to-noise ratio above which every other row is enough for the correction; above twice as
#: much every third.
_HALF = 2000.0

#: Signal-to-noise ratios above which the correction has one more term in the wavelength.
_TERMS = (60.0, 150.0, 400.0, 800.0, 1500.0, 8000.0, 14000.0)

#: Signal-to-noise ratio above which the correction takes a third round.
_FINE = 1e4

#: Terms of the correction in all rounds but the last.
_FEW_TERMS = 3

#: What a learned profile may be wrong by at first, and as it gets better; as `_FLOOR`.
_FLOORS = (0.02, 0.002, 0.0003)

#: What a negative trace may be wrong by, as a fraction of itself: its core, and so many columns
#: from it, where the other nod may end and half of it be missing.
_UNSURE, _UNSURE_WINGS, _WINGS = 0.02, 0.5, 4.0

#: Expected size of the spline's coefficients, as a fraction of the light, near the core and beyond:
#: it holds back a correction that faint data cannot tell.
_PRIOR, _PRIOR_WINGS = 0.02, 0.003

_CORE = 4

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


@dataclass(frozen=True, eq=False)
class Pixels:
    """A part of an image that a profile is fitted to.

    Parameters
    ----------
    data : ndarray
        Shape (row, column), 0 where not good.
    variance : ndarray
        Of the same shape, more than 0.
    good : ndarray of bool
        Which pixels count.
    wavelength : ndarray
        Of each row in micron, shape (row,).
    columns : ndarray
        Column number of each column.
    """

    data: NDArray[np.float64]
    variance: NDArray[np.float64]
    good: NDArray[np.bool_]
    wavelength: NDArray[np.float64]
    columns: NDArray[np.float64]

    def offsets(self, trace: NDArray[np.float64]) -> NDArray[np.float64]:
        """Columns from a trace, shape (row, column)."""
        return self.columns - trace[:, np.newaxis]

    def cut(self, first: float, last: float) -> Pixels:
        """The columns from `first` to `last`."""
        some = slice(*np.searchsorted(self.columns, (first, last + 0.5)).tolist())
        return Pixels(
            self.data[:, some],
            self.variance[:, some],
            self.good[:, some],
            self.wavelength,
            self.columns[some],
        )

    def thinned(self, step: int) -> Pixels:
        """Each so many-th row."""
        if step == 1:
            return self
        return Pixels(
            self.data[::step],
            self.variance[::step],
            self.good[::step],
            self.wavelength[::step],
            self.columns,
        )

    @property
    def domain(self) -> tuple[float, float]:
        """First and last wavelength."""
        known = self.wavelength[np.isfinite(self.wavelength)]
        if known.size < 2 or known.min() == known.max():
            raise ProfileError("the image has no two rows of different wavelength to learn from")
        return float(known.min()), float(known.max())


@dataclass(frozen=True, eq=False)
class Learned:
    """What `learn` and `fit_traces` found.

    Parameters
    ----------
    profile : Profile
        The profile.
    traces : ndarray
        Column of each source in each row, shape (source, row).
    signal_to_noise : float
        Of the first source, all rows together.
    shift_error : ndarray
        Standard deviation of the position of each source that is not a negative trace, in columns.
    factor : tuple or None
        Where an empirical profile was learned from one source: the inverse covariance of its
        coefficients, as `scipy.linalg.cho_factor` gives it.
    """

    profile: Profile
    traces: NDArray[np.float64]
    signal_to_noise: float
    shift_error: NDArray[np.float64]
    factor: Any = None


def invert(
    matrix: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Inverses of small symmetric positive matrices, 0 where the condition is 1e10 or more."""
    size = matrix.shape[-1]
    if size == 1:
        solvable = np.greater(matrix[..., 0, 0], 0.0)
        inverse = np.zeros_like(matrix)
        np.divide(1.0, matrix, out=inverse, where=matrix > 0)
        return inverse, solvable
    if size == 2:
        a, b, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 1]
        determinant = a * d - b * b
        largest = 0.5 * (a + d + np.sqrt((a - d) ** 2 + 4.0 * b * b))
        # smallest eigenvalue = determinant / largest
        solvable = np.greater(determinant * MAX_CONDITION, largest**2)
        factor = np.divide(1.0, determinant, out=np.zeros_like(a), where=solvable)
        inverse = np.empty_like(matrix)
        inverse[..., 0, 0], inverse[..., 1, 1] = d * factor, a * factor
        inverse[..., 0, 1] = inverse[..., 1, 0] = -b * factor
        return inverse, solvable
    finite = np.isfinite(matrix).all(axis=(-1, -2), keepdims=True)
    whole = np.where(finite, matrix, 0.0)
    eigenvalues: NDArray[np.float64] = np.asarray(np.linalg.eigvalsh(whole), dtype=np.float64)
    fine = np.less(eigenvalues[..., -1], MAX_CONDITION * eigenvalues[..., 0])
    whole[~fine] = np.eye(size)
    inverse = np.linalg.inv(whole)
    inverse[~fine] = 0.0
    return inverse, fine


def normal(
    basis: list[NDArray[np.float64]], weighted: list[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Normal matrices sum_c basis_i weighted_j, shape (..., p, p); symmetric by construction."""
    size = len(basis)
    shape = np.broadcast_shapes(basis[0].shape[:-1], weighted[0].shape[:-1])
    matrix = np.empty((*shape, size, size))
    for i in range(size):
        for j in range(i, size):
            matrix[..., i, j] = matrix[..., j, i] = np.einsum(
                "...c,...c->...", basis[i], weighted[j]
            )
    return matrix


def _steadied(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """A source that no pixel of a row sees must not take the others with it."""
    size = matrix.shape[-1]
    if size > 2:
        some = np.arange(size)
        matrix[:, some, some] += 1e-9 * matrix[:, some, some].max(axis=1, keepdims=True)
    return matrix


def _fit_rows(
    basis: list[NDArray[np.float64]], weight: NDArray[np.float64], data: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients (row, p) of a fit of each row, and inverse normal matrices (row, p, p)."""
    weighted = [b * weight for b in basis]
    inverse, _ = invert(_steadied(normal(basis, weighted)))
    vector = np.stack([np.einsum("rc,rc->r", b, data) for b in weighted], axis=-1)
    return np.einsum("rij,rj->ri", inverse, vector), inverse


def _coefficients(
    basis: list[NDArray[np.float64]], weight: NDArray[np.float64], data: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Coefficients (row, p) of a fit of each row."""
    return _fit_rows(basis, weight, data)[0]


def background_basis(
    columns: NDArray[np.float64], order: int | None, rows: int
) -> list[NDArray[np.float64]]:
    """Powers of a coordinate from -1 to 1 over the columns: none for an order of None."""
    if order is None:
        return []
    half = max((columns[-1] - columns[0]) / 2.0, 1.0)
    x = (columns - (columns[0] + columns[-1]) / 2.0) / half
    return [np.broadcast_to(x**power, (rows, columns.size)) for power in range(order + 1)]


def clean(pixels: Pixels, rows: int = 7) -> Pixels:
    """Leave out pixels that stand out from the median of their neighbours along the dispersion.

    Meant for learning only: it may leave out narrow emission lines as well.
    """
    half = rows // 2
    padded = np.full((pixels.data.shape[0] + 2 * half, pixels.data.shape[1]), np.nan)
    padded[half:-half] = np.where(pixels.good, pixels.data, np.nan)
    stacked = np.sort(np.stack([padded[i : i + pixels.data.shape[0]] for i in range(rows)]), axis=0)
    count = rows - np.isnan(stacked).sum(axis=0)
    at = np.maximum(count - 1, 0)[np.newaxis] // 2
    middle = np.take_along_axis(stacked, at, axis=0)[0]
    middle[count == 0] = 0.0
    limit = 8.0 * np.sqrt(pixels.variance) + 0.5 * np.abs(middle)
    # Neighbours of a pixel that stands out must not count its own variance, which may be as wild.
    odd = pixels.good & (np.abs(pixels.data - middle) > limit)
    good = pixels.good & ~odd
    return replace(pixels, good=good, data=np.where(good, pixels.data, 0.0))


def learn(
    pixels: Pixels,
    traces: NDArray[np.float64],
    *,
    positives: int | None = None,
    order: int | None = 0,
    reach: int = REACH,
    spline: bool = True,
    terms: int | None = None,
    trace_order: int | None = None,
    thin: int = 1,
) -> Learned:
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
    return _correct(pixels, found, count, order, reach, terms)


def fit_traces(
    pixels: Pixels,
    profile: Profile,
    traces: NDArray[np.float64],
    *,
    positives: int | None = None,
    order: int | None = 0,
    trace_order: int | None = None,
    thin: int = 1,
) -> Learned:
    """Find where sources of a known profile are; parameters are those of `learn`."""
    count = len(traces) if positives is None else positives
    return _fit_shape(pixels, traces, count, order, profile, trace_order, thin)


def refine(
    pixels: Pixels,
    variance: NDArray[np.float64],
    found: Learned,
    *,
    positives: int,
    behind: list[NDArray[np.float64]],
    learned: bool,
    step: float = 0.05,
) -> Learned:
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
        As for `learn`.
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
        coefficients, inverse = _fit_rows(basis, weight, pixels.data)
        residual = pixels.data.copy()
        for i, field in enumerate(basis):
            residual -= coefficients[:, i, np.newaxis] * field
        fields = [f[:, np.newaxis] * d for f, d in zip(coefficients.T, slopes, strict=False)]
        change, covariance = _gauss_newton(
            fields,
            [np.ones((known.size, 1))] * positives,
            basis,
            weight,
            residual,
            inverse=inverse,
        )
        error = _errors(covariance)
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


def unsure(negative: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared doubt of a negative trace so far from its middle: parts of it may be missing."""
    doubt = np.where(np.abs(offset) < _WINGS, _UNSURE, _UNSURE_WINGS) * negative
    return np.asarray(doubt * doubt)


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
    pixels: Pixels,
    traces: NDArray[np.float64],
    positives: int,
    order: int | None,
    profile: Profile | None,
    trace_order: int | None,
    thin: int,
    near_enough: float = 1e-3,
) -> Learned:
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
        edges = [_Edges.of(shape, offset, near.wavelength) for offset in offsets]
        lit = [edge.light() for edge in edges]
        # A Gaussian is not good enough for bright sources, whose faint wings would rule the fit.
        weight = (weight > 0) / (near.variance + floor)
        basis = lit + behind
        coefficients, inverse = _fit_rows(basis, weight, near.data)
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
            limit = _CLIP * np.sqrt(near.variance) + _TOLERANCE * largest + 0.1 * peak
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
        change, covariance = _gauss_newton(
            fields,
            terms,
            basis,
            weight,
            residual,
            held[0],
            held[1],
            None if clipped else inverse,
        )
        error = _errors(covariance)[:positives]
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
    return Learned(shape, np.where(known, moved, np.nan), signal, error)


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
    def of(
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


def _errors(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviations, shape (n,); NaN where there is none."""
    variance = np.diag(covariance)
    return np.sqrt(np.where(variance > 0, variance, np.nan))


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


def _gauss_newton(
    fields: list[NDArray[np.float64]],
    along: list[NDArray[np.float64]],
    basis: list[NDArray[np.float64]],
    weight: NDArray[np.float64],
    residual: NDArray[np.float64],
    values: NDArray[np.float64] | float = 0.0,
    hold: NDArray[np.float64] | float = 0.0,
    inverse: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least squares of a residual with fields that are multiplied by polynomials along the rows.

    What a fit of the basis to each row would take off fields and residual is taken off.

    Parameters
    ----------
    fields, along : list of ndarray
        Fields (row, column), and the terms of the polynomial of each (row, term).
    basis : list of ndarray
        Fields (row, column) of which each row has its own multiples.
    weight, residual : ndarray
        Shape (row, column).
    values, hold : ndarray or float
        Coefficients so far and the inverse variances by which they are expected to be 0.
    inverse : ndarray, optional
        Inverse normal matrices of the basis, where a fit of it, with these weights, has left the
        residual.

    Returns
    -------
    change : ndarray
        The coefficients, all polynomials in a line, shape (n,).
    covariance : ndarray
        Shape (n, n).
    """
    weighted = np.stack(fields, axis=1) * weight[:, np.newaxis]
    gram = np.matmul(weighted, np.stack(fields, axis=2))
    across = np.matmul(weighted, np.stack(basis, axis=2))
    vector = np.matmul(weighted, residual[..., np.newaxis])[..., 0]
    if inverse is None:
        left, inverse = _fit_rows(basis, weight, residual)
        vector -= np.einsum("rki,ri->rk", across, left)
    gram -= np.matmul(np.matmul(across, inverse), np.swapaxes(across, 1, 2))
    # From fields to their polynomials.
    field = np.repeat(np.arange(len(along)), [terms.shape[1] for terms in along])
    terms = np.concatenate(along, axis=1)
    products = gram[:, field[:, np.newaxis], field] * terms[:, :, np.newaxis]
    matrix = np.einsum("rij,rj->ij", products, terms)
    right = np.einsum("ri,ri->i", terms, vector[:, field])
    matrix.reshape(-1)[:: len(matrix) + 1] += 1e-12 * np.trace(matrix) + 1e-300 + hold
    covariance = np.linalg.inv(matrix)
    return covariance @ (right - values * hold), covariance


def _correct(
    pixels: Pixels,
    found: Learned,
    positives: int,
    order: int | None,
    reach: int,
    terms: int | None,
) -> Learned:
    """Add the spline to a Gaussian."""
    base = found.profile
    assert isinstance(base, GaussianProfile)
    if terms is None:
        terms = 1 + sum(found.signal_to_noise > limit for limit in _TERMS)
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
    flux = _coefficients(plain + behind, reached / pixels.variance, data)[:, :count].T
    peaks = [np.abs(f) * p.max(axis=1) for f, p in zip(flux, plain, strict=True)]
    floor = np.max(peaks, axis=0)[:, np.newaxis] ** 2
    # What is below the noise needs no second look.
    floors = _FLOORS if found.signal_to_noise > _FINE or order else _FLOORS[:2]
    for step in floors:
        lit = plain
        if step < _FLOORS[0]:
            light = profile.at(pixels.wavelength)
            lit = [light(offset) for offset in offsets]
        # What the fluxes need for a start is a profile that is about right.
        some = terms if step == floors[-1] else min(terms, _FEW_TERMS)
        variance = pixels.variance + step**2 * floor
        for i in range(positives, len(lit)):
            variance += unsure(flux[i][:, np.newaxis] * lit[i], offsets[i])
        weight = reached / variance
        coefficients = _coefficients(lit + behind, weight, data)
        flux = _smooth(coefficients[:, :count].T, half)
        model = np.sum([f[:, np.newaxis] * p for f, p in zip(flux, lit, strict=True)], axis=0)
        largest = np.abs(model).max(axis=1, keepdims=True)
        tolerance = min(0.5 * _TOLERANCE, max(5.0 * step, _CLOSE))
        limit = _CLIP * np.sqrt(pixels.variance) + tolerance * largest
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


def _learn_together(
    pixels: Pixels,
    found: Learned,
    positives: int,
    order: int | None,
    reach: int,
    spline: bool,
    terms: int | None,
    trace_order: int | None,
) -> Learned:
    """Profile and positions of several sources at once: Gauss-Newton, all fluxes projected out.

    The light of one source lies in the wings of another, so that positions, width, wings and fluxes
    cannot be had one after the other. What tells them apart is that the profile is symmetric, much
    like a Gaussian of the width that is expected, and smooth in wavelength.
    """
    base = found.profile
    assert isinstance(base, GaussianProfile)
    if terms is None:
        terms = 1 + sum(found.signal_to_noise > limit for limit in _TERMS)
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
    pair = prior(2 * half + 1)[half:]
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
        profile = EmpiricalProfile(base=shape, coefficients=_mirrored(even))
        offsets = [near.offsets(t) for t in start + (places @ moves)[:, np.newaxis] + curves @ bend]
        heights = [_pairs_of_splines(offset, half) for offset in offsets] if spline else []
        own = bands[:, :terms] @ even.T
        lit, slopes, widenings = [], [], []
        for i, offset in enumerate(offsets):
            edges = _Edges.of(shape, offset, wave)
            lit.append(edges.light())
            slope = -edges.steepness()
            if spline:
                lit[-1] += np.einsum("krc,rk->rc", heights[i], own)
                d = _pairs_of_splines(offset + 0.05, half) - _pairs_of_splines(offset - 0.05, half)
                slope -= np.einsum("krc,rk->rc", d, own) / 0.1
            slopes.append(slope)
            widenings.append(edges.widening())
        basis = lit + behind
        coefficients = _coefficients(basis, weight, near.data)
        flux = coefficients[:, :count].T[:, :, np.newaxis]
        residual = near.data - np.sum(
            [coefficients[:, i, np.newaxis] * b for i, b in enumerate(basis)], axis=0
        )
        parts = [f * p for f, p in zip(flux, lit, strict=True)]
        model = np.abs(np.sum(parts, axis=0))
        peak = model.max(axis=1, keepdims=True)
        belief = _FLOORS[min(step, len(_FLOORS) - 1)]
        variance = near.variance + (belief * peak) ** 2
        for i in range(positives, count):
            variance += unsure(parts[i], offsets[i])
        weight = good / variance
        if step > 1:
            limit = _CLIP * np.sqrt(near.variance) + 0.5 * _TOLERANCE * peak
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
        change, inverse = _gauss_newton(fields, along, basis, weight, residual, values, tight**-2)
        error = _errors(inverse)
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
        base=replace(base, factor=tuple(widths)), coefficients=_mirrored(even)
    )
    traces = found.traces + (places @ moves)[:, np.newaxis] + curves @ bend
    return replace(found, profile=profile, traces=traces, shift_error=error[:positives])


def _mirrored(even: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coefficients of all knots from those of the middle one and of pairs to both its sides."""
    return np.concatenate([even[:0:-1], even]) if len(even) else even


def _pairs_of_splines(offset: NDArray[np.float64], half: int) -> NDArray[np.float64]:
    """B-splines of which pairs to both sides of the middle are added: (pair, row, column)."""
    first, parts = splines(np.where(np.isnan(offset), 1e3, offset), 2 * half + 1)
    out = np.zeros((half + 2, *offset.shape))
    row, column = np.ogrid[: offset.shape[0], : offset.shape[1]]
    for j, part in enumerate(parts):
        knot = np.abs(first + j - 4 - half)
        out[np.minimum(knot, half + 1), row, column] += part
    return out[:-1]


def prior(knots: int) -> NDArray[np.float64]:
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
        level, inverse = _fit_rows(behind, weight, residual)
        pull -= sum(level[:, i, np.newaxis] * part for i, part in enumerate(across))
        fields = (np.stack(across, axis=1)[..., np.newaxis] * bands[:, None, None]).reshape(
            rows, len(behind), -1
        )
        square -= np.tensordot(fields, np.matmul(inverse, fields), axes=((0, 1), (0, 1)))
    right = pull.T @ bands
    square.reshape(-1)[:: len(square) + 1] += np.repeat(prior(knots), terms) ** -2
    try:
        factor = cho_factor(square, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError:
        raise ProfileError(
            "no profile can be learned, expected more good pixels and none that are wild; give one "
            "that another image has taught, or spline=False for a Gaussian"
        ) from None
    found = cho_solve(factor, right.ravel(), check_finite=False)
    return np.asarray(found, dtype=np.float64).reshape(knots, terms), factor
