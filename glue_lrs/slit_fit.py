"""The model of what a slit shows, and its fit: what `glue_lrs.measure` measures with.

The image is described by one model,

    data(r, c) = sum_s F_s(r) P(c - t_s(r)) + b0(r) + b1(r) c,

with the fluxes F of each source and the background free in every row, the traces t known up to a
shift (the curve comes from the WCS) and, where the data ask for it, a low polynomial, and P a
profile that is integrated over the pixels: a core whose width is a smooth function of the
wavelength, and wings in the distance over the wavelength. It is fitted by weighted least squares
with the linear parameters eliminated row by row; what remains is the Fisher matrix of the shifts
and widths, whose inverse gives their errors. The weights are those of a smooth model of the
variances: the variances of a product are estimated from its own noisy data, and weights made of
those would follow the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.polynomial.polynomial import polyfit, polyval
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import BSpline
from scipy.ndimage import uniform_filter1d
from scipy.special import erf

from glue_lrs.errors import SourceError
from glue_lrs.image import DO_NOT_USE, SlitImage
from glue_lrs.position import SourcePosition, expected_position, expected_trace
from glue_lrs.profile import FWHM, PIXEL_SCALE, expected_fwhm

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Wings: cubic B-splines in the distance over the wavelength, so many of them, so many arcsec a
#: micron apart. Diffraction scales like that.
_WINGS, _KNOT = 9, 0.0125
#: What is assumed of them before the data speak: a Gaussian of so many arcsec a micron with so much
#: of the light; each spline is known to a part that is given, or to a least one.
_HALO, _REACH, _HALO_SURE, _HALO_LEAST = 0.05, 0.0325, 1.0, 0.005
#: How sure it is that the core has the kurtosis of a Gaussian, 0.
_KURTOSIS = 0.1
#: Terms of the shape: the kurtosis of the core, and the light in each of the splines.
SHAPES = 1 + _WINGS
#: How sure the width is before the data speak (of its logarithm): while sources are looked for, and
#: when they are measured.
_TIGHT, LOOSE = 0.05, 0.3
#: Terms of the polynomial of the wavelength that the width is.
_WIDTHS = 4
#: Standard deviations above which a source counts as found, and a pixel as an outlier.
_FOUND, _OUTLIER = 5.0, 5.0
#: While sources are missing no pixel is an outlier that is off by less than this fraction of the
#: brightest of its row.
_MISSED = 0.05
#: A companion nearer than so many FWHM has to beat a single source of free width...
NEAR = 3.0
#: ...by this much chi-square, and to be this bright beside it.
_COMPANION, _COMPANION_FLUX = 40.0, 0.02
#: What is further than twice the width away may be fainter.
_FAR_FLUX = 0.005
#: FWHM over the expected one from which a source may be two.
_BROAD = 1.15
#: A bend or tilt of the trace beyond the WCS's is believed above this chi-square.
_BEND = 16.0
#: The same for a blend, whose parts' colours look like a tilt.
_BEND_BLENDED = 100.0


# --- the profile ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Profile:
    """The profile across the slit: a core whose width is free, and wings that diffraction scales.

    The core is a Gaussian with a kurtosis, the wings are splines in the distance over the
    wavelength.

    Parameters
    ----------
    wavelength : ndarray
        Wavelengths in micron, ascending, shape (n,).
    core : ndarray
        Standard deviation of the core in columns there.
    kurtosis : float
        Excess kurtosis of the core.
    wings : ndarray
        Fraction of the light in each of the splines.
    pixel_scale : float
        Arcsec a column.
    """

    wavelength: Array
    core: Array
    kurtosis: float
    wings: Array
    pixel_scale: float = PIXEL_SCALE

    @property
    def halo(self) -> float:
        """Fraction of the light in the wings."""
        return float(self.wings.sum())

    def cumulative(self, x: ArrayLike, wavelength: ArrayLike) -> Array:
        """Fraction of the light below a position.

        Parameters
        ----------
        x : array_like
            Columns from the source.
        wavelength : array_like
            Wavelength in micron; broadcasts against `x`.
        """
        where, wave = np.asarray(x, dtype=float), np.asarray(wavelength, dtype=float)
        core = np.interp(wave, self.wavelength, self.core)
        inner = _below(where / core, self.kurtosis)
        outer = _wing(where * self.pixel_scale / wave, self.wings, 0)
        return (1.0 - self.halo) * inner + outer

    def enclosed(self, width: ArrayLike, wavelength: ArrayLike) -> Array:
        """Fraction of the light within a width in columns that is centred on the source."""
        half = np.asarray(width, dtype=float) / 2.0
        return self.cumulative(half, wavelength) - self.cumulative(-half, wavelength)


def profile_fwhm(
    log_core: Array, terms: Array, wavelength: Array, scale: float, slopes_too: bool = True
) -> tuple[Array, Array]:
    """FWHM in columns of core and wings together, and its slopes in core and shape (n, 1 + p)."""

    def solve(values: Array) -> Array:
        """`values`: the logarithm of the core, then the terms of the shape."""
        core, kurtosis, light = np.exp(values[0]), values[1], values[2:]
        halo = light.sum(axis=0)

        def at(x: Array) -> Array:
            inner = (1.0 - halo) / core * _at(x / core, kurtosis)
            each = _wing(x * scale / wavelength, None, 1)
            return inner + scale / wavelength * np.einsum("nk,kn->n", each, light)

        low, high = np.zeros_like(core), 6.0 * core  # down to half the top somewhere between
        half_top = 0.5 * at(low)
        for _ in range(32):
            middle = 0.5 * (low + high)
            above = at(middle) > half_top
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return low + high

    start = np.stack([log_core, *(np.full_like(log_core, term) for term in terms)])
    if not slopes_too:
        return solve(start), np.zeros((log_core.size, 0))
    slopes = []
    for n in range(len(start)):
        step = np.zeros_like(start)
        step[n] = 1e-4
        slopes.append((solve(start + step) - solve(start - step)) / 2e-4)
    return solve(start), np.stack(slopes, axis=1)


# --- the data ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Slit:
    """The pixels of a slit that hold data, as plain arrays; of a stack their mean.

    `good` tells which are to be used; `variances` are Poisson, read noise and flat field, of the
    shape of `data`. `curve` is the trace less its column at the reference row.
    """

    data: Array
    good: Mask
    variances: tuple[Array, Array, Array]
    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    wave: Array
    curve: Array
    reference: int
    scale: float
    label: str
    follows_wcs: bool

    @classmethod
    def of(cls, image: SlitImage, scale: float) -> Slit:
        """Cut out what holds data."""
        wavelength = np.asarray(image.wavelength, dtype=float)
        (left, right), (bottom, top) = image.bounding_box
        inside = np.isfinite(wavelength)
        row_index, column_index = np.arange(image.shape[0]), np.arange(image.shape[1])
        inside &= ((row_index >= bottom) & (row_index <= top))[:, np.newaxis]
        inside &= (column_index >= left) & (column_index <= right)
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        if rows.size < 3 or columns.size < 5:
            raise SourceError(
                f"{image.label}: {rows.size} rows and {columns.size} columns have a wavelength, "
                "expected at least 3 and 5"
            )
        rows = np.arange(rows[0], rows[-1] + 1)
        columns = np.arange(columns[0], columns[-1] + 1)
        window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        data, good, variances = _mean_of(image, window)
        good &= inside[window]
        # A row or column at the edge that holds nothing is no part of the image.
        columns_used = np.flatnonzero(good.mean(axis=0) > 0.2)
        if columns_used.size < 5:
            raise SourceError(f"{image.label}: hardly a pixel holds data, expected some columns")
        cut = slice(columns_used[0], columns_used[-1] + 1)
        kept = np.flatnonzero(good[:, cut].sum(axis=1) >= 5)
        if kept.size < 3:
            raise SourceError(f"{image.label}: {kept.size} rows hold data, expected at least 3")
        wave = np.nanmean(np.where(inside, wavelength, np.nan)[rows[kept]], axis=1)
        found = expected_position(image)
        reference = found.row if isinstance(found, SourcePosition) else int((bottom + top) / 2.0)
        reference = int(np.clip(reference, rows[0], rows[-1]))
        curve = _curve(image, rows[kept], reference)
        return cls(
            data=np.where(good, data, 0.0)[kept, cut],
            good=good[kept, cut],
            variances=tuple(np.where(good, v, 0.0)[kept, cut] for v in variances),  # type: ignore[arg-type]
            rows=rows[kept],
            columns=columns[cut],
            wave=wave,
            curve=np.zeros(kept.size) if curve is None else curve,
            reference=reference,
            scale=scale,
            label=image.label,
            follows_wcs=curve is not None,
        )

    @cached_property
    def core(self) -> Array:
        """Standard deviation, in columns, that the core is expected to have in each row."""
        return expected_core(self.wave, self.scale)

    @cached_property
    def along(self) -> Array:
        """Coordinate along the rows, from -1 to 1."""
        span = max(float(self.rows[-1] - self.rows[0]), 1.0)
        return 2.0 * (self.rows - self.rows[0]) / span - 1.0

    @cached_property
    def across(self) -> Array:
        """Coordinate across the columns, from -1 to 1."""
        return np.linspace(-1.0, 1.0, self.columns.size)


def _mean_of(
    image: SlitImage, window: tuple[slice, slice]
) -> tuple[Array, Mask, tuple[Array, Array, Array]]:
    """Data, which pixels are good, and the variances, of a part of an image or of a stack's mean.

    Values that stand out from a pixel's other integrations are left out of the mean.
    """
    shape = (window[0].stop - window[0].start, window[1].stop - window[1].start)
    names = ("var_poisson", "var_rnoise", "var_flat")
    planes = [getattr(image, name) for name in names]
    if all(plane is None for plane in planes) and image.err is not None:
        planes[0] = image.err  # squared below
    squared = planes[0] is image.err and planes[0] is not None
    if not image.is_stack:
        data = np.asarray(image.data[window], dtype=float)
        good = good_pixels(image, window)
        found = [np.zeros(shape) if p is None else np.asarray(p[window], float) for p in planes]
        if squared:
            found[0] = found[0] ** 2
        if not any(p is not None for p in planes):
            found[0] = np.broadcast_to(_scatter(data, good) ** 2, shape).copy()
        for plane in found:
            good &= np.isfinite(plane) & (plane >= 0)
        return data, good, (found[0], found[1], found[2])
    number = image.data.shape[0]
    data, good = np.empty(shape), np.empty(shape, dtype=bool)
    found = [np.zeros(shape) for _ in planes]
    step = max(1, (1 << 21) // (number * shape[1]))
    for first in range(0, shape[0], step):
        part = slice(first, min(first + step, shape[0]))
        where = (
            slice(None),
            slice(window[0].start + part.start, window[0].start + part.stop),
            window[1],
        )
        values = np.asarray(image.data[where], dtype=float)
        fine = good_pixels(image, where)
        if number >= 5:
            fine &= ~_stands_out(values, fine)
        count = fine.sum(axis=0)
        share = np.maximum(count, 1)
        data[part] = np.where(fine, values, 0.0).sum(axis=0) / share
        good[part] = count > 0
        for plane, name, out in zip(planes, names, found, strict=True):
            if plane is None:
                continue
            variance = np.asarray(plane[where], dtype=float)
            if squared:
                variance = variance**2
            usable = fine & np.isfinite(variance) & (variance >= 0)
            total = np.where(usable, variance, 0.0).sum(axis=0)
            # The flat field is the same in all integrations: its error does not average out.
            out[part] = total / (share if name == "var_flat" else share**2)
    if not any(p is not None for p in planes):
        found[0][...] = _scatter(data, good) ** 2
    return data, good, (found[0], found[1], found[2])


def good_pixels(image: SlitImage, where: Any) -> Mask:
    """Pixels that hold a value: no NaN in any plane, no DQ bit 0."""
    good = np.isfinite(np.asarray(image.data[where]))
    for name in ("err", "var_poisson", "var_rnoise", "var_flat"):
        plane = getattr(image, name)
        if plane is not None:
            good &= np.isfinite(np.asarray(plane[where]))
    if image.dq is not None:
        good &= (np.asarray(image.dq[where]) & DO_NOT_USE) == 0
    return good


def _stands_out(values: Array, fine: Mask) -> Mask:
    """Integrations that are far from the pixel's median."""
    masked = np.where(fine, values, np.nan)
    middle = _median(masked, axis=0)
    away = np.abs(masked - middle)
    with np.errstate(invalid="ignore"):
        return away > 6.0 * 1.4826 * np.maximum(_median(away, axis=0), 1e-300)


def _scatter(data: Array, good: Mask) -> float:
    """Noise of an image without variances: from differences between neighbouring rows."""
    both = good[1:] & good[:-1]
    steps = (data[1:] - data[:-1])[both]
    if steps.size == 0:
        return 1.0
    return max(1.4826 * float(np.median(np.abs(steps - np.median(steps)))) / math.sqrt(2.0), 1e-300)


def _median(values: Array, axis: int) -> Array:
    """Median, NaN left out; NaN where there is nothing else."""
    ordered = np.sort(values, axis=axis)
    count = np.isfinite(values).sum(axis=axis, keepdims=True)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[axis] - 1)
    both = np.take_along_axis(ordered, low, axis), np.take_along_axis(ordered, high, axis)
    return np.squeeze((both[0] + both[1]) / 2.0, axis=axis)


def _running_median(values: Array, good: Mask, length: int) -> Array:
    """Median over a run of rows of each column, of good pixels; NaN where there is none."""
    half = min(length, 2 * values.shape[0] - 1) // 2
    padded = np.full((values.shape[0] + 2 * half, values.shape[1]), np.nan)
    padded[half : half + values.shape[0]] = np.where(good, values, np.nan)
    return _median(sliding_window_view(padded, 2 * half + 1, axis=0), axis=-1)


def _curve(image: SlitImage, rows: NDArray[np.intp], reference: int) -> Array | None:
    """How a position on the sky moves over the columns from row to row, 0 at the reference row."""
    if image.wcs is None:
        return None
    if image.kind == "s2d":
        return np.zeros(rows.size)
    (left, right), (bottom, top) = image.bounding_box
    ra, dec = (float(v) for v in image.wcs((left + right) / 2.0, (bottom + top) / 2.0)[:2])
    if not (math.isfinite(ra) and math.isfinite(dec)):
        return None
    middle = replace(image, source_ra=ra, source_dec=dec, wcs_source=image.wcs)
    trace = expected_trace(middle)
    known = np.flatnonzero(np.isfinite(trace))
    if known.size < max(3, rows.size // 2):
        return None
    # A few rows at the ends may be missing: the curve goes on as it was.
    terms = polyfit(known - reference, trace[known], 3)
    whole = np.where(
        np.isfinite(trace[rows]), trace[rows], polyval((rows - reference).astype(float), terms)
    )
    at = trace[reference] if math.isfinite(trace[reference]) else terms[0]
    return whole - at


def expected_core(wavelength: Array, scale: float) -> Array:
    """Standard deviation in columns of a Gaussian of the expected FWHM."""
    return expected_fwhm(wavelength) / (FWHM * scale)


def width_basis(wavelength: Array) -> Array:
    """Terms of the polynomial that the width is, shape (n, terms)."""
    return np.vander((wavelength - 8.5) / 4.0, _WIDTHS, increasing=True)


def _normal(z: Array) -> Array:
    return np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def _below(z: Array, kurtosis: float) -> Array:
    """Integral up to z of a Gaussian with a kurtosis: the Gram-Charlier series of fourth order."""
    below = 0.5 * (1.0 + erf(z / math.sqrt(2.0)))
    return below - kurtosis / 24.0 * _normal(z) * (z * z - 3.0) * z if kurtosis else below


def _at(z: Array, kurtosis: float | Array) -> Array:
    """The Gaussian with a kurtosis itself."""
    square = z * z
    return _normal(z) * (1.0 + kurtosis / 24.0 * ((square - 6.0) * square + 3.0))


@cache
def _splines() -> Array:
    """The wings' splines on a grid: integral, value, slope of each; shape (3, grid, spline)."""
    grid = _WING_GRID
    out = np.empty((3, grid.size, _WINGS))
    for n in range(_WINGS):
        parts = []
        for middle in (n * _KNOT, -n * _KNOT):
            knots = middle + _KNOT * np.arange(-2, 3)
            spline = BSpline.basis_element(knots, extrapolate=False)
            inside = np.clip(grid, knots[0], knots[-1])
            whole = spline.antiderivative()
            value = np.where(inside == grid, np.nan_to_num(spline(inside)), 0.0) / _KNOT
            slope = (
                np.where(inside == grid, np.nan_to_num(spline.derivative()(inside)), 0.0) / _KNOT
            )
            parts.append((np.asarray(whole(inside)) / _KNOT, value, slope))
        for kind in range(3):
            out[kind, :, n] = 0.5 * (parts[0][kind] + parts[1][kind])
    out[0] -= out[0, :1]
    return out


#: Where the splines are tabulated, in arcsec a micron: fine enough for 1e-6 by interpolation.
_WING_GRID = np.linspace(-1.0, 1.0, 4001) * _KNOT * (_WINGS + 1.0)


def _wing(u: Array, light: Array | None, kind: int) -> Array:
    """The wings' integral up to a distance over wavelength (`kind` 0), or their value (1).

    With the light of each spline their sum, else each of them along a last axis.
    """
    return _read_wing(_place(u), light, kind)


def _place(u: Array) -> tuple[NDArray[np.intp], Array]:
    """Where on the grid of the wings: number of the point below, and the way to the next."""
    step = _WING_GRID[1] - _WING_GRID[0]
    part = np.clip((u - _WING_GRID[0]) / step, 0.0, _WING_GRID.size - 1.000001)
    low = np.nan_to_num(part).astype(np.intp)  # what is NaN stays it
    part -= low
    return low, part


def _read_wing(at: tuple[NDArray[np.intp], Array], light: Array | None, kind: int) -> Array:
    low, part = at
    table = _splines()[kind]
    if light is not None:
        table = table @ light
    else:
        part = part[..., np.newaxis]
    out = table.take(low, axis=0)
    rise = np.diff(table, axis=0).take(low, axis=0)
    rise *= part
    out += rise
    return out


# --- the model ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Shape:
    """Where the sources are and how wide, row by row.

    Parameters
    ----------
    traces : ndarray
        Column of each source, shape (source, row).
    log_core : ndarray
        Logarithm of the standard deviation of the core in columns, shape (row,).
    terms : ndarray
        As `Measurement.shape_terms`.
    """

    traces: Array
    log_core: Array
    terms: Array


@dataclass(frozen=True, eq=False)
class Solved:
    """A fit of the linear parameters in every row, and what the others would change.

    `curvature` (row, p, p) and `gradient` (row, p) belong to the shifts of all sources, the
    logarithm of the width and the terms of the shape; linear parameters are eliminated.
    """

    flux: Array
    flux_variance: Array
    smooth: Array
    light: Array
    model: Array
    chi2: float
    freedom: int
    curvature: Array
    gradient: Array
    basis: Array
    inverse: Array

    @cached_property
    def strength(self) -> Array:
        """Mean flux of each source, of no sign; rows that hardly tell it have no say."""
        weight = 1.0 / np.maximum(self.flux_variance.sum(axis=0), 1e-300)
        return np.asarray((np.abs(self.smooth) * weight).sum(axis=1) / weight.sum())


class Work:
    """The data with their present weights: what is fitted to."""

    def __init__(self, slit: Slit) -> None:
        self.slit = slit
        self.good = slit.good.copy()
        self.variance = self._first_variance()
        self._drop_spikes()

    @property
    def rejected(self) -> int:
        """Pixels that are left out besides those that are marked."""
        return int((self.slit.good & ~self.good).sum())

    def _first_variance(self) -> Array:
        """Total variance, its noise and its spikes taken out by a median along the rows."""
        total = sum(self.slit.variances)
        found = _running_median(np.asarray(total), self.slit.good, 9)
        return _floor(np.where(np.isfinite(found), found, np.nanmedian(found)))

    def _drop_spikes(self) -> None:
        """Leave out what stands out among its neighbours along the rows, before any model."""
        slit = self.slit
        around = _running_median(slit.data, slit.good, 7)
        away = np.abs(slit.data - around)
        allowed = 8.0 * np.sqrt(self.variance) + 0.3 * np.abs(around)
        with np.errstate(invalid="ignore"):
            self.good &= ~(away > allowed)

    # --- the fit -------------------------------------------------------------------------------

    def solve(self, shape: Shape, derivatives: bool = True) -> Solved:
        """Fit fluxes and background of every row."""
        slit = self.slit
        number, rows, columns = len(shape.traces), slit.rows.size, slit.columns.size
        profile, moves = profiles(slit, shape, derivatives)
        basis = np.empty((rows, columns, number + 2))
        basis[..., :number] = np.moveaxis(profile, 0, -1)
        basis[..., number] = 1.0
        basis[..., number + 1] = slit.across
        weight = self.good / self.variance
        weighted = basis * weight[..., np.newaxis]
        normal = np.swapaxes(weighted, 1, 2) @ basis
        inverse = invert(normal)
        linear = (inverse @ (np.swapaxes(weighted, 1, 2) @ slit.data[..., np.newaxis]))[..., 0]
        model = (basis @ linear[..., np.newaxis])[..., 0]
        residual = slit.data - model
        flux, flux_variance = linear[:, :number].T, np.einsum("rii->ir", inverse)[:number]
        smooth = np.array([smooth_flux(f, v) for f, v in zip(flux, flux_variance, strict=True)])
        smooth = smooth.reshape(number, rows)
        light = np.einsum("sr,src->rc", np.abs(smooth), profile) if number else np.zeros_like(model)
        curvature, gradient = np.zeros((rows, 0, 0)), np.zeros((rows, 0))
        if derivatives:
            jacobian = np.empty((rows, columns, number + 1 + SHAPES))
            for s in range(number):
                jacobian[..., s] = smooth[s][:, np.newaxis] * moves["shift"][s]
            for n, name in enumerate(("core", "kurtosis")):
                jacobian[..., number + n] = np.einsum("sr,src->rc", smooth, moves[name])
            jacobian[..., number + 2 :] = np.einsum("sr,srck->rck", smooth, moves["wings"])
            jacobian -= basis @ (inverse @ (np.swapaxes(weighted, 1, 2) @ jacobian))
            heavy = np.swapaxes(jacobian * weight[..., np.newaxis], 1, 2)
            curvature = heavy @ jacobian
            gradient = (heavy @ residual[..., np.newaxis])[..., 0]
        used = int(self.good.sum())
        return Solved(
            flux=flux,
            flux_variance=flux_variance,
            smooth=smooth,
            light=light,
            model=model,
            chi2=float((weight * residual**2).sum()),
            freedom=max(used - rows * (number + 2), 1),
            curvature=curvature,
            gradient=gradient,
            basis=basis,
            inverse=inverse,
        )

    # --- weights and outliers --------------------------------------------------------------------

    def reweigh(self, solved: Solved) -> None:
        """Model the variances: what is read noise stays, the rest follows the fitted light.

        Poisson variance is a + b light in every row, flat-field variance f model^2, with a, b and f
        from neighbouring rows: the noise of the single pixel is no part of it.
        """
        slit = self.slit
        poisson, read, flat = slit.variances
        use = self.good.astype(float)
        length = min(15, slit.rows.size)

        def run(values: Array) -> Array:
            kernel = np.ones(length)
            return np.convolve((use * values).sum(axis=1), kernel, mode="same")

        light = solved.light
        n, sl, sll = run(np.ones_like(light)), run(light), run(light**2)
        sp, slp = run(poisson), run(light * poisson)
        spread = sll * n - sl**2
        with np.errstate(invalid="ignore", divide="ignore"):
            slope = np.where(spread > 1e-9 * sll * n, (slp * n - sl * sp) / spread, 0.0)
            slope = np.maximum(np.nan_to_num(slope), 0.0)
            level = np.maximum(np.nan_to_num((sp - slope * sl) / n), 0.0)
            relative = np.nan_to_num(run(flat) / run(slit.data**2))
        noise = level[:, np.newaxis] + slope[:, np.newaxis] * light
        # Columns differ where fewer exposures see them, or the background slopes.
        wide = min(31, slit.rows.size)
        seen, modelled = (
            uniform_filter1d(use * values, wide, axis=0, mode="nearest")
            for values in (poisson, noise)
        )
        noise *= np.where(modelled > 0, seen / np.where(modelled > 0, modelled, 1.0), 1.0)
        # Rows differ where the sensitivity falls steeply: the sum of a row is hardly noisy.
        seen, modelled = ((use * values).sum(axis=1) for values in (poisson, noise))
        ratio = np.where(modelled > 0, seen / np.where(modelled > 0, modelled, 1.0), 1.0)
        noise *= ratio[:, np.newaxis]
        self.variance = _floor(noise + read + relative[:, np.newaxis] * solved.model**2)

    def reject(self, solved: Solved, tolerance: float = 0.0) -> int:
        """Leave out pixels that are far from the model, the furthest of a row first.

        `tolerance` is what the model may miss, as a fraction of the brightest pixel of a row.

        Returned is how many changed. Pixels that were left out before, but that the model agrees
        with, are taken back. A misfit that goes on along the rows is the profile's, not an
        outlier's: it is subtracted, and where residuals scatter by more than their errors these are
        scaled.
        """
        slit, basis = self.slit, solved.basis
        before = self.good.copy()
        scaled = self._scaled(solved.model, basis, solved.inverse)
        trend = np.nan_to_num(_running_median(scaled, self.good, 25))
        spread = 1.4826 * np.nan_to_num(_running_median(np.abs(scaled - trend), self.good, 25))
        spread = np.maximum(spread, 1.0)
        if tolerance:
            missed = tolerance * np.abs(solved.model).max(axis=1, keepdims=True)
            spread += missed / np.sqrt(self.variance) / _OUTLIER
        self.good |= slit.good & (np.abs(scaled - trend) < (_OUTLIER - 1.0) * spread)
        for _ in range(8):
            inverse, linear = self._linear(basis)
            model = (basis @ linear[..., np.newaxis])[..., 0]
            away = np.abs(self._scaled(model, basis, inverse) - trend) / spread
            away[~self.good] = 0.0
            worst = away.argmax(axis=1)
            rows = np.flatnonzero(away.max(axis=1) > _OUTLIER)
            if rows.size == 0:
                break
            self.good[rows, worst[rows]] = False
        return int((before ^ self.good).sum())

    def _scaled(self, model: Array, basis: Array, inverse: Array) -> Array:
        """Residuals over their own standard deviations."""
        lever = ((basis @ inverse) * basis).sum(axis=-1)
        # The model follows a pixel that it was fitted to, and is itself unsure where it was not.
        scatter = np.where(
            self.good,
            np.maximum(self.variance - lever, 0.05 * self.variance),
            self.variance + lever,
        )
        return (self.slit.data - model) / np.sqrt(scatter)

    def _linear(self, basis: Array) -> tuple[Array, Array]:
        """Inverse normal matrix and linear parameters of every row."""
        weighted = basis * (self.good / self.variance)[..., np.newaxis]
        inverse = invert(np.swapaxes(weighted, 1, 2) @ basis)
        right = np.swapaxes(weighted, 1, 2) @ self.slit.data[..., np.newaxis]
        return inverse, (inverse @ right)[..., 0]


def _floor(variance: Array) -> Array:
    """Variances that are greater than 0."""
    positive = variance[variance > 0]
    least = 1e-3 * float(np.median(positive)) if positive.size else 1.0
    return np.maximum(variance, least)


def invert(normal: Array) -> Array:
    """Inverses of the normal matrices; parameters that the row says nothing of stay at 0."""
    size = normal.shape[-1]
    diagonal = np.einsum("rii->ri", normal)
    scale = np.where(diagonal > 0, 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)), 0.0)
    # Of two sources at one place only the sum is known: a trace of a ridge keeps it solvable.
    regular = normal * scale[:, :, np.newaxis] * scale[:, np.newaxis, :]
    regular += np.eye(size) * np.where(diagonal > 0, 1e-9, 1.0)[:, np.newaxis, :]
    inverse = np.asarray(np.linalg.inv(regular), dtype=float)
    return inverse * scale[:, :, np.newaxis] * scale[:, np.newaxis, :]


def profiles(slit: Slit, shape: Shape, derivatives: bool = True) -> tuple[Array, dict[str, Array]]:
    """Light of each source in each pixel for unit flux, and its derivatives.

    Shapes are (source, row, column), also those of the derivatives to the shift, to the logarithm
    of the width and to the terms of the shape.
    """
    edges = np.arange(slit.columns[0], slit.columns[-1] + 2) - 0.5
    x = edges - shape.traces[..., np.newaxis]
    core = np.exp(shape.log_core)[:, np.newaxis]
    per_wave = slit.scale / slit.wave[:, np.newaxis]
    kurtosis, light = float(shape.terms[0]), shape.terms[1:]
    halo = float(light.sum())
    inner, outer = x / core, x * per_wave
    normal = _normal(inner)
    square = inner * inner
    third = normal * (square - 3.0) * inner
    below = 0.5 * erf(inner / math.sqrt(2.0)) - kurtosis / 24.0 * third
    near = np.diff(below, axis=-1)
    if not derivatives:
        return (1.0 - halo) * near + np.diff(_wing(outer, light, 0), axis=-1), {}
    place = _place(outer)
    each = np.diff(_read_wing(place, None, 0), axis=-2)
    at = normal * (1.0 + kurtosis / 24.0 * ((square - 6.0) * square + 3.0))
    density = (1.0 - halo) * at / core + _read_wing(place, light, 1) * per_wave
    return (1.0 - halo) * near + each @ light, {
        "shift": -np.diff(density, axis=-1),
        "core": -(1.0 - halo) * np.diff(inner * at, axis=-1),
        "kurtosis": -(1.0 - halo) / 24.0 * np.diff(third, axis=-1),
        "wings": each - near[..., np.newaxis],
    }


def smooth_flux(flux: Array, variance: Array) -> Array:
    """Flux as smooth as its noise asks for: the weight of a row must not follow its noise.

    Rows are averaged until their signal to noise is some 10; single rows stay what they are where
    it is.
    """
    known = (variance > 0) & np.isfinite(variance)
    if not known.any():
        return flux
    signal = np.maximum(flux[known] ** 2 / variance[known] - 1.0, 0.0)
    snr = math.sqrt(max(float(np.median(signal)), 0.25 * float(np.mean(signal)), 1e-4))
    length = int(min(math.ceil((10.0 / snr) ** 2), 2 * flux.size - 1))
    if length <= 1:
        return flux
    half = length // 2
    kernel = np.ones(2 * half + 1)
    weight = np.where(known, 1.0 / np.where(known, variance, 1.0), 0.0)
    return _convolve(flux * weight, kernel) / np.maximum(_convolve(weight, kernel), 1e-300)


def _convolve(values: Array, kernel: Array) -> Array:
    half = kernel.size // 2
    return np.convolve(values, kernel)[half : half + values.size]


# --- the parameters ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Parameters:
    """Parameters that are smooth along the rows.

    `shift` (source,) are columns at the reference row, `bend` coefficients of a polynomial that all
    traces share, `width` and `terms` those of the width and the shape, as in `Measurement`.
    """

    shift: Array
    bend: Array
    width: Array
    terms: Array

    def shape(self, slit: Slit) -> Shape:
        """The same row by row."""
        common = slit.curve + bend_basis(slit, self.bend.size) @ self.bend
        return Shape(
            self.shift[:, np.newaxis] + common,
            np.log(slit.core) + width_basis(slit.wave) @ self.width,
            self.terms,
        )

    @property
    def vector(self) -> Array:
        """All parameters in a row."""
        return np.concatenate([self.shift, self.bend, self.width, self.terms])

    def moved(self, step: Array) -> Parameters:
        """The parameters after a step, within what is possible."""
        sources, bends = self.shift.size, self.bend.size
        step = step.copy()
        step[:sources] = np.clip(step[:sources], -1.0, 1.0)
        after = self.vector + step
        width = after[sources + bends : sources + bends + _WIDTHS]
        return Parameters(
            after[:sources],
            after[sources : sources + bends],
            np.clip(width, -1.0, 1.0),
            possible_terms(after[-SHAPES:], self.terms),
        )

    def tangent(self, slit: Slit) -> Array:
        """How shifts, width, halo and reach of a row depend on the parameters: (row, p, k)."""
        sources, bends = self.shift.size, self.bend.size
        rows, size = slit.rows.size, sources + bends + _WIDTHS + SHAPES
        out = np.zeros((rows, sources + 1 + SHAPES, size))
        for s in range(sources):
            out[:, s, s] = 1.0
            out[:, s, sources : sources + bends] = bend_basis(slit, bends)
        out[:, sources, sources + bends : sources + bends + _WIDTHS] = width_basis(slit.wave)
        for n in range(SHAPES):
            out[:, sources + 1 + n, size - SHAPES + n] = 1.0
        return out


def possible_terms(terms: Array, before: Array) -> Array:
    """Terms of the shape within what is possible, not too far from those before."""
    out = np.clip(terms, before - 0.2, before + 0.2)
    out[0] = np.clip(out[0], -1.5, 3.0)  # the series is positive, or nearly so
    halo = float(out[1:].sum())
    if halo > 0.6:
        out[1:] *= 0.6 / halo
    return out


def pulled_back(curvature: Array, tangent: Array) -> Array:
    """Curvature in the parameters: a sum over rows of small products, which needs no threads."""
    return (np.swapaxes(tangent, 1, 2) @ (curvature @ tangent)).sum(axis=0)


def bend_basis(slit: Slit, terms: int) -> Array:
    """Legendre polynomials 1, 2, ... along the rows."""
    basis = np.asarray(np.polynomial.legendre.legvander(slit.along, terms), dtype=float)
    return basis[:, 1:]


def _prior(parameters: Parameters, sure: float, held: Array | None = None) -> tuple[Array, Array]:
    """Mean and inverse variance of what is assumed of the parameters, a shape that is held too."""
    size = parameters.vector.size
    mean, precision = np.zeros(size), np.zeros(size)
    free = parameters.shift.size + parameters.bend.size
    precision[free : free + _WIDTHS] = 1.0 / sure**2
    mean[-SHAPES:], precision[-SHAPES:] = shape_prior()
    if held is not None:
        mean[-SHAPES:], precision[-SHAPES:] = held, 1e14
    return mean, precision


def shape_prior() -> tuple[Array, Array]:
    """The same of the terms of the shape alone."""
    places = np.arange(_WINGS) * _KNOT
    share = np.exp(-0.5 * (places / _REACH) ** 2)
    share[0] *= 0.5  # both of its halves are one
    mean = _HALO * share / share.sum()
    sure = np.maximum(_HALO_SURE * mean, _HALO_LEAST)
    return np.append(0.0, mean), 1.0 / np.append(_KURTOSIS, sure) ** 2


@dataclass(frozen=True, eq=False)
class Fit:
    """A converged fit: parameters, their covariance, the linear fit, chi-square with the prior."""

    parameters: Parameters
    covariance: Array
    solved: Solved
    objective: float


def _refine(
    work: Work,
    start: Parameters,
    sure: float,
    *,
    steps: int = 12,
    close: float = 1e-4,
    hold: bool = False,
    search: bool = False,
) -> Fit:
    """Gauss and Newton, with steps halved where they lead up, down to chi-square within `close`.

    With `hold` the shape, but for the width, stays what it is at the start. In a `search` sources
    are missing: the less the model fits, the less it says about the shape.
    """
    slit, parameters = work.slit, start
    held = start.terms if hold else None
    solved = work.solve(parameters.shape(slit))
    firm = max(solved.chi2 / solved.freedom, 1.0) ** 2 if search else 1.0

    def assumed(at: Parameters) -> tuple[Array, Array]:
        mean, precision = _prior(at, sure, held)
        return mean, firm * precision

    def objective(at: Parameters, solved: Solved) -> float:
        mean, precision = assumed(at)
        return solved.chi2 + float((precision * (at.vector - mean) ** 2).sum())

    value = objective(parameters, solved)
    hessian = np.eye(parameters.vector.size)
    for _ in range(steps):
        tangent = parameters.tangent(slit)
        mean, precision = assumed(parameters)
        hessian = pulled_back(solved.curvature, tangent)
        hessian += np.diag(precision + 1e-12 * np.maximum(np.diag(hessian), 1e-300))
        slope = np.einsum("rpk,rp->k", tangent, solved.gradient)
        slope += precision * (mean - parameters.vector)
        step = np.linalg.solve(hessian, slope)
        gain = float(slope @ step)
        small = gain < close
        for _ in range(5):
            trial = parameters.moved(step)
            next_solved = work.solve(trial.shape(slit))
            next_value = objective(trial, next_solved)
            # The weight of a row comes from its smoothed flux, as its own is too noisy: what is
            # sought is where the slope is 0, near the least chi-square but not at it.
            if next_value <= value + (1e-3 if gain > 10.0 else 0.5):
                break
            step = step / 2.0
        else:
            break
        parameters, solved, value = trial, next_solved, next_value
        if small:
            break
    tangent = parameters.tangent(slit)
    _, precision = assumed(parameters)
    hessian = pulled_back(solved.curvature, tangent)
    hessian += np.diag(precision + 1e-12 * np.maximum(np.diag(hessian), 1e-300))
    covariance = np.asarray(np.linalg.inv(hessian), dtype=float)
    return Fit(parameters, covariance, solved, value)


def _settle(work: Work, fit: Fit, sure: float, rounds: int = 4, search: bool = False) -> Fit:
    """Model the variances, leave out outliers, and fit again, until nothing more stands out."""
    for _ in range(rounds):
        work.reweigh(fit.solved)
        dropped = work.reject(fit.solved, _MISSED if search else 0.0)
        fit = _refine(work, fit.parameters, sure, search=search)
        if dropped == 0:
            break
    return fit


# --- looking for sources -----------------------------------------------------------------------


def find_sources(work: Work, max_sources: int) -> Fit:
    """Add the strongest source that is left, again and again; then take back what is none."""
    slit = work.slit
    empty = Parameters(np.zeros(0), np.zeros(0), np.zeros(_WIDTHS), shape_prior()[0])
    fit = Fit(empty, np.zeros((0, 0)), work.solve(empty.shape(slit)), 0.0)
    work.reweigh(fit.solved)
    while fit.parameters.shift.size < max_sources:
        found = _strongest(work, fit)
        if found is None:
            break
        # What is left around a blend that is taken for one source looks like more sources.
        near = np.abs(fit.parameters.shift - found) < 2.5 * typical_width(slit)
        if near.any():
            split = _split_broad(work, fit, max_sources)
            if split is not fit:
                fit = split
                continue
        starts = _starts(fit.parameters, found, typical_width(slit), max_sources)
        trials = [_refine(work, start, _TIGHT, steps=6, close=0.1, search=True) for start in starts]
        best = min(trials, key=_cost)
        fit = _settle(work, best, _TIGHT, rounds=2, search=True)
    if fit.parameters.shift.size == 0:
        raise SourceError(
            f"{slit.label}: no source above {_FOUND:g} standard deviations in columns "
            f"{slit.columns[0]} to {slit.columns[-1]}"
        )
    fit = _settle(work, fit, LOOSE)
    fit = _split_broad(work, fit, max_sources)
    fit = _take_back(work, fit)
    return _bend(work, fit)


def typical_width(slit: Slit) -> float:
    """The expected FWHM in columns, in the middle of the rows."""
    return float(np.median(slit.core)) * FWHM


def _cost(fit: Fit) -> float:
    """Chi-square, to compare fits of different numbers of sources: each has a flux in every row."""
    return fit.objective - fit.solved.freedom


def _starts(
    parameters: Parameters, column: float, width: float, max_sources: int
) -> list[Parameters]:
    """Where to begin with one source more: beside the others, or sharing a place with the nearest.

    A blend looks like one source in the middle at first.
    """
    shift = parameters.shift
    starts = [np.append(shift, column)]
    near = np.abs(shift - column)
    if near.size and near.min() < 2.0 * width:
        nearest = int(near.argmin())
        others = np.delete(shift, nearest)
        starts += [
            np.concatenate([others, shift[nearest] + half * np.array([-1.0, 1.0])])
            for half in (0.4 * width, 0.75 * width)
        ]
    else:
        # A nod repeats what is there: where there is a blend, there may be another.
        apart = np.diff(np.sort(shift))
        starts += [
            np.append(shift, [column - part * gap, column + (1.0 - part) * gap])
            for gap in apart[apart < NEAR * width][:1]
            for part in (0.0, 0.5, 1.0)
        ]
    return [
        Parameters(start, parameters.bend, np.zeros(_WIDTHS), parameters.terms)
        for start in starts
        if start.size <= max_sources
    ]


def _strongest(work: Work, fit: Fit) -> float | None:
    """Column, at the reference row, of the strongest source that the fit leaves out, if any."""
    slit, solved, parameters = work.slit, fit.solved, fit.parameters
    weight = work.good / work.variance
    residual = weight * (slit.data - solved.model)
    heavy = np.swapaxes(solved.basis * weight[..., np.newaxis], 1, 2)
    spread = slit.curve
    grid = np.arange(
        math.ceil(slit.columns[0] - spread.max()), math.floor(slit.columns[-1] - spread.min()) + 1
    )
    # The profile at all whole columns from the source; that of a place is a part of it.
    reach = np.arange(slit.columns[0] - grid[-1], slit.columns[-1] - grid[0] + 2) - 0.5
    core = np.exp(parameters.shape(slit).log_core)[:, np.newaxis]
    wide = np.diff(_below((reach - spread[:, np.newaxis]) / core, 0.0), axis=1)
    width = typical_width(slit)
    if parameters.shift.size:
        away = np.abs(grid[:, np.newaxis] - parameters.shift).min(axis=1)
        grid = grid[away > 0.5 * width]
    first = math.floor(reach[0] + 1.0)
    quarter = np.minimum(np.arange(slit.rows.size) * 4 // slit.rows.size, 3)
    target = solved.smooth[0] if parameters.shift.size else np.ones(slit.rows.size)
    noise = correlation(work, fit) * math.sqrt(max(solved.chi2 / solved.freedom, 1.0))
    best, where = 0.0, None
    for column in grid:
        start = int(slit.columns[0] - column) - first
        profile = wide[:, start : start + slit.columns.size]
        number = (profile * residual).sum(axis=1)
        shared = (heavy @ profile[..., np.newaxis])[..., 0]
        total = (profile**2 * weight).sum(axis=1)
        rest = np.maximum(total - np.einsum("rl,rlm,rm->r", shared, solved.inverse, shared), 0.0)
        rest[rest < 0.02 * total] = 0.0  # what the others can stand in for tells nothing
        number = np.where(rest > 0, number, 0.0)
        scores = [_score(number, rest), _score(number * target, rest * target**2)]
        scores += [_score(number[quarter == n], rest[quarter == n]) for n in range(4)]
        score = max(map(abs, scores)) / noise
        if score <= max(best, _FOUND):
            continue
        if parameters.shift.size and not _bright_enough(
            solved, parameters, column, number, rest, width
        ):
            continue
        best, where = score, float(column)
    return where


def _score(number: Array, information: Array) -> float:
    total = float(information.sum())
    return float(number.sum()) / math.sqrt(total) if total > 0 else 0.0


def _bright_enough(
    solved: Solved,
    parameters: Parameters,
    column: float,
    number: Array,
    information: Array,
    width: float,
) -> bool:
    """Whether it is no misfit of a neighbour's profile: 2% of its flux near, 0.5% further away."""
    flux = abs(float(number.sum())) / max(float(information.sum()), 1e-300)
    for s, place in enumerate(parameters.shift):
        distance = abs(place - column)
        if distance > 5.0 * width:
            continue
        neighbour = abs(
            float(np.average(solved.smooth[s], weights=np.maximum(information, 1e-300)))
        )
        least = _COMPANION_FLUX if distance < 2.0 * width else _FAR_FLUX
        if flux < least * neighbour:
            return False
    return True


def _take_back(work: Work, fit: Fit) -> Fit:
    """Join sources that a single one of free width describes as well."""
    width = typical_width(work.slit)
    kept: set[tuple[float, float]] = set()
    while fit.parameters.shift.size > 1:
        shift = fit.parameters.shift
        strength = fit.solved.strength
        pairs = [
            (strength[i], i, j)
            for i in range(shift.size)
            for j in range(shift.size)
            if i != j
            and strength[i] <= strength[j]
            and abs(shift[i] - shift[j]) < NEAR * width
            and (round(shift[i], 2), round(shift[j], 2)) not in kept
        ]
        if not pairs:
            return fit
        _, weak, strong = min(pairs)
        fewer = np.delete(shift, weak)
        share = strength[[weak, strong]] / strength[[weak, strong]].sum()
        middle = fewer.copy()
        middle[strong - (weak < strong)] = float(share @ shift[[weak, strong]])
        singles = [
            _refine(work, _other_sources(fit.parameters, start), LOOSE, close=1.0)
            for start in (fewer, middle)
        ]
        single = min(singles, key=lambda trial: trial.objective)
        if _is_pair(work, fit, single, weak, strong):
            kept.add((round(shift[weak], 2), round(shift[strong], 2)))
        else:
            fit = _settle(work, single, LOOSE)
    return fit


def _other_sources(parameters: Parameters, shift: Array) -> Parameters:
    """The same parameters for other sources, the width as expected."""
    return Parameters(shift, parameters.bend, np.zeros(_WIDTHS), parameters.terms)


def _is_pair(work: Work, fit: Fit, single: Fit, weak: int, strong: int) -> bool:
    """Whether two sources describe the data better than one, by more than their freedom."""
    slit, solved = work.slit, fit.solved
    shift = fit.parameters.shift
    if abs(shift[weak] - shift[strong]) < 0.35 * typical_width(slit):
        return False
    pair_chi2 = _tied_chi2(work, fit, [(weak, strong)])
    if (single.solved.chi2 - pair_chi2) / _noise_power(work, fit) < _COMPANION:
        return False
    misfit = single.solved.chi2 - single.solved.freedom
    left = pair_chi2 - single.solved.freedom
    if left < 5.0 * math.sqrt(2.0 * single.solved.freedom):
        return True  # nothing is left to explain
    # Of a profile that is not quite the model's a second source explains a part only.
    apart = abs(shift[weak] - shift[strong])
    least = _COMPANION_FLUX if apart < 2.0 * typical_width(slit) else _FAR_FLUX
    bright = solved.strength[weak] > least * solved.strength[strong]
    return bool(bright and left < 0.6 * misfit)


def _noise_power(work: Work, fit: Fit) -> float:
    """What chi-square is to be divided by before differences of it mean something."""
    return correlation(work, fit) ** 2 * max(fit.solved.chi2 / fit.solved.freedom, 1.0)


def _tied_chi2(work: Work, fit: Fit, pairs: list[tuple[int, int]]) -> float:
    """Chi-square with the flux ratio of each pair held to one number in each quarter of the rows.

    Two sources have a flux more in every row than one: this makes the freedom of both comparable.
    """
    slit, solved = work.slit, fit.solved
    quarter = np.minimum(np.arange(slit.rows.size) * 4 // slit.rows.size, 3)
    weight = work.good / work.variance
    weak = [pair[0] for pair in pairs]
    kept = np.setdiff1d(np.arange(solved.basis.shape[2]), weak)
    ratio, error = np.zeros((len(pairs), 4)), np.ones((len(pairs), 4))
    for number, (one, other) in enumerate(pairs):
        variance = np.maximum(solved.flux_variance[one], 1e-300)
        template = solved.smooth[other]
        power = np.bincount(quarter, template**2 / variance, 4)
        cross = np.bincount(quarter, template * solved.flux[one] / variance, 4)
        ratio[number] = cross / np.maximum(power, 1e-300)
        error[number] = 1.0 / np.sqrt(np.maximum(power, 1e-300))

    def chi2(values: Array) -> Array:
        basis = solved.basis.copy()
        for (one, other), held in zip(pairs, values, strict=True):
            basis[..., other] += held[quarter][:, np.newaxis] * solved.basis[..., one]
        basis = basis[..., kept]
        heavy = np.swapaxes(basis * weight[..., np.newaxis], 1, 2)
        linear = invert(heavy @ basis) @ (heavy @ slit.data[..., np.newaxis])
        residual = slit.data - (basis @ linear)[..., 0]
        return np.asarray(np.bincount(quarter, (weight * residual**2).sum(axis=1), 4), dtype=float)

    for _ in range(2):
        for number in range(len(pairs)):
            step = np.zeros_like(error)
            step[number] = error[number]
            low, middle, high = chi2(ratio - step), chi2(ratio), chi2(ratio + step)
            bend = high - 2.0 * middle + low
            move = np.where(bend > 0, 0.5 * (low - high) / np.where(bend > 0, bend, 1.0), 0.0)
            ratio = ratio + step * np.clip(move, -3.0, 3.0)
    return float(chi2(ratio).sum())


def _split_broad(work: Work, fit: Fit, max_sources: int) -> Fit:
    """Describe sources that are too wide by two each, if that is better than one broader profile.

    A blend of two like sources is symmetric, and a profile that is free enough looks like it. Here
    both ways are given the same profile, up to a width.
    """
    slit, parameters = work.slit, fit.parameters
    if parameters.shift.size == 0 or _broadening(slit, parameters) < _BROAD:
        return fit
    strength = fit.solved.strength
    bright = np.flatnonzero(strength > 0.05 * strength.max())
    if bright.size + strength.size > max_sources:
        return fit
    faint = np.setdiff1d(np.arange(strength.size), bright)
    count = bright.size
    trials = []
    for half in np.array([0.3, 0.5, 0.75]) * typical_width(slit):
        shift = np.concatenate(
            [
                parameters.shift[bright] - half,
                parameters.shift[bright] + half,
                parameters.shift[faint],
            ]
        )
        start = Parameters(shift, parameters.bend, np.zeros(_WIDTHS), shape_prior()[0])
        trials.append(_refine(work, start, _TIGHT, steps=15, close=1.0))
    pair = _settle(work, min(trials, key=lambda trial: trial.objective), LOOSE)
    if not 0.75 < _broadening(slit, pair.parameters) < _BROAD:
        return fit
    held = replace(parameters, terms=pair.parameters.terms)
    single = _refine(work, held, LOOSE, hold=True)
    gain = single.solved.chi2 - _tied_chi2(work, pair, [(n, count + n) for n in range(count)])
    return pair if gain / _noise_power(work, pair) > _COMPANION else fit


def _broadening(slit: Slit, parameters: Parameters) -> float:
    """FWHM over the expected one, in the middle of the rows that hold the light."""
    inner = np.flatnonzero((slit.wave > 5.0) & (slit.wave < 12.0))
    rows = (inner if inner.size else np.arange(slit.wave.size))[:: max(inner.size // 20, 1)]
    log_core, wave = parameters.shape(slit).log_core[rows], slit.wave[rows]
    width, _ = profile_fwhm(log_core, parameters.terms, wave, slit.scale, slopes_too=False)
    return float(np.median(width / (slit.core[rows] * FWHM)))


def _bend(work: Work, fit: Fit) -> Fit:
    """Let the traces depart from the WCS's curve, if the data ask for it."""
    slit = work.slit
    terms = 2 if slit.follows_wcs else 4
    terms = min(terms, max(slit.rows.size - 3, 0))
    if terms == 0:
        return fit
    parameters = fit.parameters
    start = Parameters(parameters.shift, np.zeros(terms), parameters.width, parameters.terms)
    bent = _settle(work, _refine(work, start, LOOSE), LOOSE, rounds=2)
    where = slice(parameters.shift.size, parameters.shift.size + terms)
    found, covariance = bent.parameters.bend, bent.covariance[where, where]
    scale = correlation(work, bent) ** 2 * max(bent.solved.chi2 / bent.solved.freedom, 1.0)
    significance = float(found @ np.linalg.solve(covariance, found)) / scale
    apart = np.diff(np.sort(parameters.shift))
    blended = bool((apart < NEAR * typical_width(slit)).any())
    needed = _BEND_BLENDED if blended else _BEND + terms
    return bent if significance > needed else _refine(work, parameters, LOOSE)


def correlation(work: Work, fit: Fit) -> float:
    """Factor by which correlated noise makes the error of a sum of neighbouring pixels larger.

    The square root of the sum of the correlations of the residuals, away from sources, over lags of
    two pixels; those that the fit itself makes are taken out. 1 where it is not significant.
    """
    slit, solved = work.slit, fit.solved
    good = work.good.copy()
    for trace in fit.parameters.shape(slit).traces:
        far = np.abs(slit.columns - trace[:, np.newaxis]) > 3.0 * typical_width(slit)
        good &= far
    scaled = np.where(good, (slit.data - solved.model) / np.sqrt(work.variance), 0.0)
    scaled = np.clip(scaled, -_OUTLIER, _OUTLIER)
    power = float((scaled**2).sum())
    count = int(good.sum())
    if count < 500 or power <= 0:
        return 1.0
    root = solved.basis * np.sqrt(work.good / work.variance)[..., np.newaxis]
    total, pairs = 1.0, 0
    for down in range(3):
        for right in range(-2, 3):
            if down == 0 and right <= 0:
                continue
            here, there = _shifted(down, right)
            both = good[here] & good[there]
            number = int(both.sum())
            if number == 0:
                continue
            product = float((scaled[here] * scaled[there]).sum())
            if down == 0:
                lever = np.einsum("rci,rij,rcj->rc", root[here], solved.inverse, root[there])
                product += float(lever[both].sum()) * power / count
            total += 2.0 * product / power * count / number
            pairs += 1
    significant = total - 1.0 > 5.0 * 2.0 * math.sqrt(max(pairs, 1) / count)
    return math.sqrt(total) if significant else 1.0


def _shifted(down: int, right: int) -> tuple[Any, Any]:
    """Index of pixels, and of those some rows down and columns to the right of them."""
    columns: tuple[slice, slice] = (slice(None, -right or None), slice(right, None))
    if right < 0:
        columns = (slice(-right, None), slice(None, right))
    return (slice(None, -down or None), columns[0]), (slice(down, None), columns[1])
