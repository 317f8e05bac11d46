"""Gaussian core with wings that scale with the wavelength, integrated over pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import BSpline
from scipy.special import erf

from glue_lrs.instrument import FWHM, PIXEL_SCALE, expected_fwhm

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array

#: Wings: cubic B-splines in the distance over the wavelength, so many of them, so many arcsec a
#: micron apart. Diffraction scales like that.
WING_TERMS, KNOT = 9, 0.0125

#: Terms of the shape: the kurtosis of the core, and the light in each of the splines.
SHAPES = 1 + WING_TERMS

#: Terms of the polynomial of the wavelength that the width is.
WIDTH_KNOTS = 4


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
        inner = core_integral(where / core, self.kurtosis)
        outer = wing_integral(where * self.pixel_scale / wave, self.wings, 0)
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
            each = wing_integral(x * scale / wavelength, None, 1)
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


def expected_core(wavelength: Array, scale: float) -> Array:
    """Standard deviation in columns of a Gaussian of the expected FWHM."""
    return expected_fwhm(wavelength) / (FWHM * scale)


def width_basis(wavelength: Array) -> Array:
    """Terms of the polynomial that the width is, shape (n, terms)."""
    return np.vander((wavelength - 8.5) / 4.0, WIDTH_KNOTS, increasing=True)


def normal_density(z: Array) -> Array:
    return np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def core_integral(z: Array, kurtosis: float) -> Array:
    """Integral up to z of a Gaussian with a kurtosis: the Gram-Charlier series of fourth order."""
    below = 0.5 * (1.0 + erf(z / math.sqrt(2.0)))
    return below - kurtosis / 24.0 * normal_density(z) * (z * z - 3.0) * z if kurtosis else below


def _at(z: Array, kurtosis: float | Array) -> Array:
    """The Gaussian with a kurtosis itself."""
    square = z * z
    return normal_density(z) * (1.0 + kurtosis / 24.0 * ((square - 6.0) * square + 3.0))


@cache
def _splines() -> Array:
    """The wings' splines on a grid: integral, value, slope of each; shape (3, grid, spline)."""
    grid = _WING_GRID
    out = np.empty((3, grid.size, WING_TERMS))
    for n in range(WING_TERMS):
        parts = []
        for middle in (n * KNOT, -n * KNOT):
            knots = middle + KNOT * np.arange(-2, 3)
            spline = BSpline.basis_element(knots, extrapolate=False)
            inside = np.clip(grid, knots[0], knots[-1])
            whole = spline.antiderivative()
            value = np.where(inside == grid, np.nan_to_num(spline(inside)), 0.0) / KNOT
            slope = np.where(inside == grid, np.nan_to_num(spline.derivative()(inside)), 0.0) / KNOT
            parts.append((np.asarray(whole(inside)) / KNOT, value, slope))
        for kind in range(3):
            out[kind, :, n] = 0.5 * (parts[0][kind] + parts[1][kind])
    out[0] -= out[0, :1]
    return out


#: Where the splines are tabulated, in arcsec a micron: fine enough for 1e-6 by interpolation.
_WING_GRID = np.linspace(-1.0, 1.0, 4001) * KNOT * (WING_TERMS + 1.0)


def wing_integral(u: Array, light: Array | None, kind: int) -> Array:
    """The wings' integral up to a distance over wavelength (`kind` 0), or their value (1).

    With the light of each spline their sum, else each of them along a last axis.
    """
    return read_wing(wing_grid_position(u), light, kind)


def wing_grid_position(u: Array) -> tuple[NDArray[np.intp], Array]:
    """Where on the grid of the wings: number of the point below, and the way to the next."""
    step = _WING_GRID[1] - _WING_GRID[0]
    part = np.clip((u - _WING_GRID[0]) / step, 0.0, _WING_GRID.size - 1.000001)
    low = np.nan_to_num(part).astype(np.intp)  # what is NaN stays it
    part -= low
    return low, part


def read_wing(at: tuple[NDArray[np.intp], Array], light: Array | None, kind: int) -> Array:
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
