"""DiffractionProfile: core with wings that scale with the wavelength.

The profile that `glue_lrs.measure` fits: a Gaussian core with a kurtosis, whose width is free, and
wings that are splines in the distance over the wavelength, as diffraction scales. Both are
integrated over the pixels.
"""

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

__all__ = [
    "KNOT",
    "SHAPES",
    "WIDTH_KNOTS",
    "WING_TERMS",
    "DiffractionProfile",
    "core_integral",
    "expected_core",
    "kurtosis_factor",
    "normal_density",
    "profile_fwhm",
    "read_wing",
    "width_basis",
    "wing_grid_position",
    "wing_integral",
]

#: Wings: number of cubic B-splines, and distance of their knots in arcsec per micron. They reach to
#: 0.1 arcsec per micron, 1 arcsec at 10 micron.
WING_TERMS, KNOT = 9, 0.0125

#: Number of terms of the shape: the kurtosis of the core, then the light in each spline.
SHAPES = 1 + WING_TERMS

#: Number of terms of the polynomial in wavelength that is the logarithm of the width over the
#: expected one.
WIDTH_KNOTS = 4

#: Center and scale of that polynomial's variable in micron: the range of LRS.
_WAVE_CENTER, _WAVE_SCALE = 8.5, 4.0

#: Grid on which the splines are tabulated, in arcsec per micron: linear interpolation is right to
#: 1e-6.
_WING_GRID = np.linspace(-1.0, 1.0, 4001) * KNOT * (WING_TERMS + 1.0)


# --- profile -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class DiffractionProfile:
    """Profile across the slit: a core of free width, and wings that scale with the wavelength.

    The core is a Gaussian with a kurtosis (Gram-Charlier series), the wings are splines in the
    distance over the wavelength.

    Parameters
    ----------
    wavelength : ndarray
        Wavelengths in micron, ascending, shape (n,).
    core : ndarray
        Standard deviation of the core at these wavelengths in columns, shape (n,).
    kurtosis : float
        Excess kurtosis of the core.
    wings : ndarray
        Fraction of the light in each of the splines.
    pixel_scale : float
        Arcsec per column.
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
        """Return the fraction of the light below a position.

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
        """Return the fraction of the light within a box that is centred on the source.

        Parameters
        ----------
        width : array_like
            Width of the box in columns.
        wavelength : array_like
            Wavelength in micron; broadcasts against `width`.
        """
        half = np.asarray(width, dtype=float) / 2.0
        return self.cumulative(half, wavelength) - self.cumulative(-half, wavelength)


def profile_fwhm(
    log_core: Array, terms: Array, wavelength: Array, scale: float, derivatives: bool = True
) -> tuple[Array, Array]:
    """Return the FWHM of core and wings together, by bisection.

    Parameters
    ----------
    log_core : ndarray
        Logarithm of the standard deviation of the core in columns, shape (n,).
    terms : ndarray
        Terms of the shape.
    wavelength : ndarray
        Wavelengths in micron, shape (n,).
    scale : float
        Arcsec per column.
    derivatives : bool
        Whether derivatives are computed.

    Returns
    -------
    fwhm : ndarray
        In columns, shape (n,).
    derivatives : ndarray
        In the logarithm of the core and the terms of the shape, shape (n, 1 + p); (n, 0) if not
        asked for.
    """

    def solve(values: Array) -> Array:
        """FWHM for the logarithm of the core, then the terms of the shape, each of shape (n,)."""
        core, kurtosis, light = np.exp(values[0]), values[1], values[2:]
        halo = light.sum(axis=0)

        def density(x: Array) -> Array:
            z = x / core
            inner = (1.0 - halo) / core * (normal_density(z) * kurtosis_factor(z, kurtosis))
            each = wing_integral(x * scale / wavelength, None, 1)
            return inner + scale / wavelength * np.einsum("nk,kn->n", each, light)

        low, high = np.zeros_like(core), 6.0 * core
        half_peak = 0.5 * density(low)
        for _ in range(32):
            middle = 0.5 * (low + high)
            above = density(middle) > half_peak
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return low + high

    start = np.stack([log_core, *(np.full_like(log_core, term) for term in terms)])
    if not derivatives:
        return solve(start), np.zeros((log_core.size, 0))
    slopes = []
    for n in range(len(start)):
        step = np.zeros_like(start)
        step[n] = 1e-4
        slopes.append((solve(start + step) - solve(start - step)) / 2e-4)
    return solve(start), np.stack(slopes, axis=1)


# --- core ----------------------------------------------------------------------------------------


def expected_core(wavelength: Array, scale: float) -> Array:
    """Return the standard deviation in columns of a Gaussian of the expected FWHM."""
    return expected_fwhm(wavelength) / (FWHM * scale)


def width_basis(wavelength: Array) -> Array:
    """Return the terms of the polynomial of the width, shape (n, term)."""
    return np.vander((wavelength - _WAVE_CENTER) / _WAVE_SCALE, WIDTH_KNOTS, increasing=True)


def normal_density(z: Array) -> Array:
    """Return the density of the standard normal distribution."""
    return np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def kurtosis_factor(z: Array, kurtosis: float | Array) -> Array:
    """Return the factor of the normal density in the Gram-Charlier series of fourth order."""
    square = z * z
    return 1.0 + kurtosis / 24.0 * ((square - 6.0) * square + 3.0)


def core_integral(z: Array, kurtosis: float) -> Array:
    """Return the integral up to z of the normal density with a kurtosis."""
    below = 0.5 * (1.0 + erf(z / math.sqrt(2.0)))
    return below - kurtosis / 24.0 * normal_density(z) * (z * z - 3.0) * z if kurtosis else below


# --- wings ---------------------------------------------------------------------------------------


@cache
def _splines() -> Array:
    """Integral, value and derivative of each spline on the grid, shape (3, grid, spline)."""
    grid = _WING_GRID
    out = np.empty((3, grid.size, WING_TERMS))
    for n in range(WING_TERMS):
        sides = []
        for middle in (n * KNOT, -n * KNOT):
            knots = middle + KNOT * np.arange(-2, 3)
            spline = BSpline.basis_element(knots, extrapolate=False)
            inside = np.clip(grid, knots[0], knots[-1])
            integral = spline.antiderivative()
            value = np.where(inside == grid, np.nan_to_num(spline(inside)), 0.0) / KNOT
            slope = np.where(inside == grid, np.nan_to_num(spline.derivative()(inside)), 0.0) / KNOT
            sides.append((np.asarray(integral(inside)) / KNOT, value, slope))
        for kind in range(3):
            out[kind, :, n] = 0.5 * (sides[0][kind] + sides[1][kind])
    out[0] -= out[0, :1]
    return out


def wing_integral(u: Array, light: Array | None, kind: int) -> Array:
    """Return the integral of the wings up to a distance, or their value.

    Parameters
    ----------
    u : ndarray
        Distance over wavelength, in arcsec per micron.
    light : ndarray or None
        Light in each spline; None: the splines are returned along a last axis instead of their sum.
    kind : int
        0 for the integral, 1 for the value.
    """
    return read_wing(wing_grid_position(u), light, kind)


def wing_grid_position(u: Array) -> tuple[NDArray[np.intp], Array]:
    """Return the index of the grid point below and the fraction of the way to the next."""
    step = _WING_GRID[1] - _WING_GRID[0]
    part = np.clip((u - _WING_GRID[0]) / step, 0.0, _WING_GRID.size - 1.000001)
    low = np.nan_to_num(part).astype(np.intp)  # the fraction stays NaN
    part -= low
    return low, part


def read_wing(at: tuple[NDArray[np.intp], Array], light: Array | None, kind: int) -> Array:
    """Interpolate the tabulated wings; `at` is a `wing_grid_position`, else as `wing_integral`."""
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
