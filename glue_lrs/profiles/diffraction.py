"""DiffractionProfile: a core, and wings whose size is proportional to the wavelength.

This is the profile that `glue_lrs.measure` fits. The core is a Gaussian with a kurtosis, and its
width is free. The wings are splines in the ratio of the distance to the wavelength, because
diffraction is proportional to the wavelength. Core and wings are evaluated as cumulative flux. The
flux on a pixel is the difference of the cumulative flux between the edges of the pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import BSpline
from scipy.special import erf

from glue_lrs._utils.typing import Array
from glue_lrs.instrument import FWHM, PIXEL_SCALE, expected_fwhm

#: Cubic B-splines of the wings. The outermost spline is centred at 0.1 arcsec per micron, which is
#: 1 arcsec at 10 micron.
WING_TERMS, KNOT = (
    9,  # number of splines
    0.0125,  # distance between knots in arcsec per micron
)

#: Number of shape terms: the kurtosis of the core, then the flux in each wing spline.
SHAPES = 1 + WING_TERMS

#: Number of terms in the width polynomial, a polynomial in wavelength whose value is the logarithm
#: of the ratio of the core width to the expected width.
WIDTH_KNOTS = 8

#: Constants (micron) in the variable of the width polynomial, which is
#: (wavelength - `_WAVE_CENTER`) / `_WAVE_SCALE`. From 4.5 to 12.5 micron, it is between -1 and 1.
_WAVE_CENTER, _WAVE_SCALE = 8.5, 4.0

#: Grid on which the splines are tabulated, in arcsec per micron. Its step is so small that linear
#: interpolation is accurate to 1e-6.
_WING_GRID = np.linspace(-1.0, 1.0, 4001) * KNOT * (WING_TERMS + 1.0)


# --- profile -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class DiffractionProfile:
    """Profile along the slit: a core, and wings whose size is proportional to the wavelength.

    The core is a Gaussian with a kurtosis (Gram-Charlier series). The wings are splines in the
    ratio of the distance to the wavelength.

    Parameters
    ----------
    wavelength : ndarray
        Wavelengths in micron, ascending, shape (n,).
    core : ndarray
        Standard deviation of the core at these wavelengths in columns, shape (n,).
    kurtosis : float
        Excess kurtosis of the core.
    wings : ndarray
        Fraction of the flux in each wing spline, shape (spline,).
    pixel_scale : float
        Pixel scale along the slit, in arcsec per column.
    """

    wavelength: Array
    core: Array
    kurtosis: float
    wings: Array
    pixel_scale: float = PIXEL_SCALE

    @property
    def halo(self) -> float:
        """Fraction of the flux in the halo, the sum of the wings."""
        return float(self.wings.sum())

    def cumulative(self, x: ArrayLike, wavelength: ArrayLike) -> Array:
        """Return the fraction of the flux at columns below a position.

        Parameters
        ----------
        x : array_like
            Position in columns relative to the source.
        wavelength : array_like
            Wavelength in micron. It must broadcast against `x`.
        """
        where, wave = np.asarray(x, dtype=float), np.asarray(wavelength, dtype=float)
        core = np.interp(wave, self.wavelength, self.core)
        inner = core_integral(where / core, self.kurtosis)
        outer = read_wing(wing_grid_position(where * self.pixel_scale / wave), self.wings, 0)
        return (1.0 - self.halo) * inner + outer

    def enclosed(self, width: ArrayLike, wavelength: ArrayLike) -> Array:
        """Return the fraction of the flux within a box that is centred on the source.

        Parameters
        ----------
        width : array_like
            Full width of the box in columns.
        wavelength : array_like
            Wavelength in micron. It must broadcast against `width`.
        """
        half = np.asarray(width, dtype=float) / 2.0
        return self.cumulative(half, wavelength) - self.cumulative(-half, wavelength)


def shape_in_rows(log_core: Array, terms: Array) -> Array:
    """Return the argument `shape` of `solve_fwhm` for terms that are the same at all wavelengths.

    Parameters
    ----------
    log_core : ndarray
        Natural logarithm of the standard deviation of the core in columns, shape (n,).
    terms : ndarray
        Shape terms, shape (p,): kurtosis of the core, then the fraction of the flux in each wing
        spline.
    """
    return np.vstack([log_core, np.tile(terms[:, np.newaxis], log_core.size)])


def solve_fwhm(shape: Array, wavelength: Array, scale: float) -> Array:
    """Return the FWHM in columns of the sum of core and wings, shape (n,).

    The FWHM is found by bisection. It refers to the profile before integration over the pixels.

    Parameters
    ----------
    shape : ndarray
        Array of shape (1 + p, n) for p shape terms: natural logarithm of the standard deviation of
        the core in columns, kurtosis of the core, and fraction of the flux in each wing spline.
    wavelength : ndarray
        Wavelengths in micron, shape (n,).
    scale : float
        Pixel scale along the slit, in arcsec per column.
    """
    core, kurtosis, light = np.exp(shape[0]), shape[1], shape[2:]
    halo = light.sum(axis=0)

    def density(x: Array) -> Array:
        z = x / core
        inner = (1.0 - halo) / core * (normal_density(z) * kurtosis_factor(z, kurtosis))
        each = read_wing(wing_grid_position(x * scale / wavelength), None, 1)
        return inner + scale / wavelength * np.einsum("nk,kn->n", each, light)

    low, high = np.zeros_like(core), 6.0 * core
    half_peak = 0.5 * density(low)
    for _ in range(32):
        middle = 0.5 * (low + high)
        above = density(middle) > half_peak
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return low + high


def profile_fwhm(
    log_core: Array, terms: Array, wavelength: Array, scale: float
) -> tuple[Array, Array]:
    """Return the FWHM of the sum of core and wings, and its derivatives.

    Parameters
    ----------
    log_core, terms
        See `shape_in_rows`.
    wavelength, scale
        See `solve_fwhm`.

    Returns
    -------
    fwhm : ndarray
        FWHM in columns, shape (n,).
    derivatives : ndarray
        Derivatives of the FWHM with respect to `log_core` and to each of `terms`, shape (n, 1 + p).
    """
    shape, slopes = shape_in_rows(log_core, terms), []
    for n in range(len(shape)):
        step = np.zeros_like(shape)
        step[n] = 1e-4
        above = solve_fwhm(shape + step, wavelength, scale)
        slopes.append((above - solve_fwhm(shape - step, wavelength, scale)) / 2e-4)
    return solve_fwhm(shape, wavelength, scale), np.stack(slopes, axis=1)


# --- core ----------------------------------------------------------------------------------------


def expected_core(wavelength: Array, scale: float) -> Array:
    """Return the standard deviation in columns of a Gaussian that has the expected FWHM.

    Parameters
    ----------
    wavelength : ndarray
        Wavelengths in micron.
    scale : float
        Pixel scale along the slit, in arcsec per column.
    """
    return expected_fwhm(wavelength) / (FWHM * scale)


def width_basis(wavelength: Array) -> Array:
    """Return the terms of the width polynomial, shape (n, term), at n wavelengths in micron."""
    return np.vander((wavelength - _WAVE_CENTER) / _WAVE_SCALE, WIDTH_KNOTS, increasing=True)


def normal_density(z: Array) -> Array:
    """Return the probability density of the standard normal distribution at `z`."""
    return np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def kurtosis_factor(z: Array, kurtosis: float | Array) -> Array:
    """Return the factor by which an excess kurtosis changes the normal density at `z`.

    The factor is 1 + kurtosis / 24 (z^4 - 6 z^2 + 3), from the Gram-Charlier series.
    """
    square = z * z
    return 1.0 + kurtosis / 24.0 * ((square - 6.0) * square + 3.0)


def core_integral(z: Array, kurtosis: float) -> Array:
    """Return the integral up to `z` of the normal density times `kurtosis_factor`."""
    below = 0.5 * (1.0 + erf(z / math.sqrt(2.0)))
    return below - kurtosis / 24.0 * normal_density(z) * (z * z - 3.0) * z if kurtosis else below


# --- wings ---------------------------------------------------------------------------------------


@cache
def _splines() -> Array:
    """Return the cumulative integral and the value of each wing spline on the grid.

    The shape is (2, grid, spline). Each wing spline is the mean of two B-splines on opposite sides
    of the source, and its total integral is 1.
    """
    grid = _WING_GRID
    out = np.empty((2, grid.size, WING_TERMS))
    for n in range(WING_TERMS):
        sides = []
        for middle in (n * KNOT, -n * KNOT):
            knots = middle + KNOT * np.arange(-2, 3)
            spline = BSpline.basis_element(knots, extrapolate=False)
            inside = np.clip(grid, knots[0], knots[-1])
            value = np.where(inside == grid, np.nan_to_num(spline(inside)), 0.0) / KNOT
            sides.append(np.stack([spline.antiderivative()(inside) / KNOT, value]))
        out[..., n] = 0.5 * (sides[0] + sides[1])
    out[0] -= out[0, :1]
    return out


def wing_grid_position(u: Array) -> tuple[NDArray[np.intp], Array]:
    """Return the positions of values on the grid on which the wing splines are tabulated.

    Parameters
    ----------
    u : ndarray
        Ratio of distance to wavelength, in arcsec per micron.

    Returns
    -------
    low : ndarray of int
        Index of the grid point below `u`.
    part : ndarray
        Distance from the grid point `low`, as a fraction of the distance between grid points.
    """
    step = _WING_GRID[1] - _WING_GRID[0]
    part = np.clip((u - _WING_GRID[0]) / step, 0.0, _WING_GRID.size - 1.000001)
    low = np.nan_to_num(part).astype(np.intp)  # `part` remains NaN if u is NaN
    part -= low
    return low, part


def read_wing(at: tuple[NDArray[np.intp], Array], light: Array | None, kind: int) -> Array:
    """Interpolate linearly in the tabulated wing splines.

    Parameters
    ----------
    at : tuple of ndarray
        Positions on the grid, from `wing_grid_position`.
    light : ndarray or None
        Fraction of the flux in each wing spline. If None, the splines are not added up, and the
        result has an additional last axis for the splines.
    kind : int
        Quantity to return: 0 for the integral of the wings up to a position, 1 for their value.
    """
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
