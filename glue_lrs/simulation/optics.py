"""Optics of the simulated instrument: pixel scale, dispersion and point spread function of LRS.

The constants are not imported from `glue_lrs.instrument`, because tests with simulated images could
not find an error in a constant that the extraction and the simulation share.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline
from scipy.special import erf

from glue_lrs.errors import LRSError

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array

#: EXP_TYPE of the fixed slit.
FIXED_SLIT = "MIR_LRS-FIXEDSLIT"

#: EXP_TYPE of the slitless subarray.
SLITLESS = "MIR_LRS-SLITLESS"

#: Width of a column along the slit in arcsec.
PIXEL_SCALE = 0.11

#: Solid angle of a pixel in sr (PIXAR_SR in real products).
PIXEL_AREA = 2.8606325654256e-13

#: Surface brightness in MJy/sr that gives 1 DN/s (PHOTMJSR in real products).
MJYSR_PER_DN = 13.851669311523438

#: Flux in Jy on a pixel with a surface brightness of 1 MJy/sr.
JY_PER_PIXEL = PIXEL_AREA * 1e6


class SceneError(LRSError):
    """Error raised if a scene or a simulated product has invalid parameters."""


@dataclass(frozen=True)
class Dispersion:
    """Wavelength and trace on the detector as functions of the row.

    Rows and columns are relative to the reference point of the aperture.

    Parameters
    ----------
    rows : tuple of float
        Rows at which the wavelength is tabulated, in ascending order.
    wavelengths : tuple of float
        Wavelengths in micron at these rows, in descending order. Between the rows, the wavelength
        is interpolated by a cubic spline.
    curve : tuple of float
        Coefficients, constant term first, of the column of the trace as a polynomial of the row.

    Notes
    -----
    The two instances, `SLIT` and `PRISM` (slitless), agree with the calibration of LRS (miricoord,
    specwcs reference files 0005 and 0006) to better than 0.01 micron, except in the last row of the
    slit. There, the wavelength is 2.9 micron instead of 2.23 micron in the reference file, because
    the pipeline smooths the wavelengths.
    """

    rows: tuple[float, ...]
    wavelengths: tuple[float, ...]
    curve: tuple[float, ...]

    @cached_property
    def _spline(self) -> CubicSpline:
        """Wavelength as a function of the row."""
        return CubicSpline(self.rows, self.wavelengths)

    def wavelength(self, row: ArrayLike) -> Array:
        """Return the wavelength in micron at rows relative to the reference point.

        The wavelength is NaN outside the tabulated rows.
        """
        where = np.asarray(row, dtype=float)
        inside = (where >= self.rows[0]) & (where <= self.rows[-1])
        return np.where(inside, self._spline(where), np.nan)

    def shift(self, row: ArrayLike) -> Array:
        """Return the column of the trace at rows relative to the reference point.

        The column is also relative to the reference point.
        """
        return np.polynomial.polynomial.polyval(np.asarray(row, dtype=float), self.curve)


# fmt: off
#: Dispersion of the fixed slit.
SLIT = Dispersion(
    rows=(-293, -193, -93, 7, 40, 57, 75, 79, 85, 87, 90, 91, 92, 93, 94),
    wavelengths=(
        14.02, 12.516, 10.662, 8.136, 6.985, 6.258, 5.263, 4.977, 4.466, 4.246, 3.85, 3.666, 3.46,
        3.187, 2.9,
    ),
    curve=(-4.2336e-5, 3.049996e-3, -1.0564e-5),
)

#: Dispersion of the slitless subarray.
PRISM = Dispersion(
    rows=(-293, -193, -93, 7, 57, 76, 84, 89, 91, 92, 93, 94),
    wavelengths=(
        13.992, 12.556, 10.786, 8.379, 6.617, 5.671, 5.151, 4.729, 4.5, 4.367, 4.2, 3.7,
    ),
    curve=(2.31372883e-5, 1.95340972e-3, -6.70278628e-6),
)
# fmt: on


#: Half width of the halo, a raised cosine, in arcsec per micron of wavelength.
_HALO_WIDTH = 0.09


class PSFLaw(ABC):
    """Point spread function in the cross-dispersion direction: a core, and a finite halo.

    Subclasses define the core. The fraction of the flux in the halo is a property of each source;
    the halo is 0 at distances of more than `halo_width` arcsec per micron of wavelength.

    For a source without a halo, ``law(offset, wavelength)`` returns the fraction of the flux in
    each pixel.
    """

    #: Half width of the halo, a raised cosine, in arcsec per micron of wavelength.
    halo_width: float = _HALO_WIDTH

    @abstractmethod
    def core(self, x: Array, wavelength: Array) -> Array:
        """Compute the fraction of the core's flux at positions below a given position.

        Parameters
        ----------
        x : ndarray
            Position in arcsec from the centroid of the source.
        wavelength : ndarray
            Wavelength in micron. It must broadcast against `x`.

        Returns
        -------
        ndarray
            Fractions, with the broadcast shape of `x` and `wavelength`.
        """

    def __call__(self, offset: Array, wavelength: Array) -> Array:
        """Return the fraction of the flux in each pixel for a source without a halo.

        The parameters are described in `pixel_fractions`.
        """
        return self.pixel_fractions(offset, wavelength, 0.0)

    def cumulative(self, x: ArrayLike, wavelength: ArrayLike, halo: float) -> Array:
        """Compute the fraction of a source's flux at positions below a given position.

        Parameters
        ----------
        x : array_like
            Position in arcsec from the source.
        wavelength : array_like
            Wavelength in micron. It must broadcast against `x`.
        halo : float
            Fraction of the flux in the halo.

        Returns
        -------
        ndarray
            Fractions, with the broadcast shape of `x` and `wavelength`.
        """
        where, wave = np.asarray(x, dtype=float), np.asarray(wavelength, dtype=float)
        core = self.core(where, wave)
        t = np.clip(where / (self.halo_width * wave), -1.0, 1.0)
        wing = 0.5 * (1.0 + t + np.sin(np.pi * t) / np.pi)
        return (1.0 - halo) * core + halo * wing

    def enclosed(
        self, lower: ArrayLike, upper: ArrayLike, wavelength: ArrayLike, halo: float
    ) -> Array:
        """Compute the fraction of a source's flux between two positions.

        `lower` and `upper` are in arcsec from the source. The other parameters are those of
        `cumulative`.
        """
        above = self.cumulative(upper, wavelength, halo)
        return above - self.cumulative(lower, wavelength, halo)

    def pixel_fractions(self, offset: Array, wavelength: Array, halo: float) -> Array:
        """Compute the fraction of a source's flux in each pixel.

        Parameters
        ----------
        offset : ndarray
            Distance in columns from the source to each pixel centre, shape (row, column).
        wavelength : ndarray
            Wavelength of each row in micron, shape (row,).
        halo : float
            Fraction of the flux in the halo.

        Returns
        -------
        ndarray
            Fractions, shape (row, column). They are 0 in rows without a wavelength.
        """
        lower, upper = ((offset + half) * PIXEL_SCALE for half in (-0.5, 0.5))
        return np.nan_to_num(self.enclosed(lower, upper, wavelength[:, np.newaxis], halo))


@dataclass(frozen=True)
class PSF(PSFLaw):
    """Point spread function in the cross-dispersion direction: a Gaussian core and a finite halo.

    Parameters
    ----------
    wavelengths : tuple of float
        Wavelengths in micron at which `fwhm` is given, in ascending order.
    fwhm : tuple of float
        Full width at half maximum of the core in arcsec at these wavelengths. It is interpolated by
        a natural cubic spline, because the width of a diffraction pattern is smooth, and
        extrapolated linearly.
    halo_width : float
        Half width of the halo, a raised cosine, in arcsec per micron of wavelength. The halo is 0
        at larger distances from the centre.

    Raises
    ------
    SceneError
        If the wavelengths do not ascend, a width is not positive, or `wavelengths` and `fwhm` have
        different lengths.
    """

    wavelengths: tuple[float, ...] = (5.0, 7.5, 10.0, 12.0)
    fwhm: tuple[float, ...] = (0.29, 0.30, 0.36, 0.42)
    halo_width: float = _HALO_WIDTH

    def __post_init__(self) -> None:
        if len(self.wavelengths) != len(self.fwhm) or len(self.fwhm) < 2:
            raise SceneError(
                f"fwhm has {len(self.fwhm)} values for {len(self.wavelengths)} wavelengths, "
                "expected the same number, at least 2"
            )
        if not (np.diff(self.wavelengths) > 0).all():
            raise SceneError("wavelengths of the FWHM do not ascend")
        if min(self.fwhm) <= 0 or self.halo_width <= 0:
            raise SceneError("fwhm and halo_width must be greater than 0")

    def width(self, wavelength: ArrayLike) -> Array:
        """Return the FWHM of the core in arcsec at wavelengths in micron.

        It is at least 0.1 arcsec, even where the extrapolated value is smaller.
        """
        wave = np.asarray(wavelength, dtype=float)
        first, last = self.wavelengths[0], self.wavelengths[-1]
        inside = np.clip(wave, first, last)
        slope = self._spline(inside, 1) * (wave - inside)
        return np.maximum(self._spline(inside) + slope, 0.1)

    @cached_property
    def _spline(self) -> CubicSpline:
        """Width as a function of the wavelength."""
        return CubicSpline(self.wavelengths, self.fwhm, bc_type="natural")

    def core(self, x: Array, wavelength: Array) -> Array:  # noqa: D102 - inherited
        # For a Gaussian, 1 / (sqrt(2) sigma) equals 2 sqrt(ln 2) / FWHM.
        return np.asarray(
            0.5 * (1.0 + erf(x * (2.0 * np.sqrt(np.log(2.0))) / self.width(wavelength)))
        )
