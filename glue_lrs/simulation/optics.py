"""Optics of the simulator: pixel scale, dispersion and point spread function of LRS.

These numbers are the simulator's own. A fit must not share its assumptions with the scenes that it
is tested on, so nothing here comes from `glue_lrs.instrument`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline
from scipy.special import erf

from glue_lrs.errors import LRSError

__all__ = [
    "FIXED_SLIT",
    "JY_PER_PIXEL",
    "MJYSR_PER_DN",
    "PIXEL_AREA",
    "PIXEL_SCALE",
    "PRISM",
    "PSF",
    "SLIT",
    "SLITLESS",
    "Dispersion",
    "SceneError",
]

#: EXP_TYPE of the fixed slit.
FIXED_SLIT = "MIR_LRS-FIXEDSLIT"

#: EXP_TYPE of the slitless subarray.
SLITLESS = "MIR_LRS-SLITLESS"

#: Width of a column along the slit in arcsec.
PIXEL_SCALE = 0.11

#: Solid angle of a pixel in sr (PIXAR_SR of real products).
PIXEL_AREA = 2.8606325654256e-13

#: Surface brightness in MJy/sr that gives 1 DN/s (PHOTMJSR of real products).
MJYSR_PER_DN = 13.851669311523438

#: Flux in Jy of a pixel with a surface brightness of 1 MJy/sr.
JY_PER_PIXEL = PIXEL_AREA * 1e6


class SceneError(LRSError):
    """A scene or a product of it has invalid parameters."""


@dataclass(frozen=True)
class Dispersion:
    """Wavelength and trace on the detector, relative to the reference point.

    Parameters
    ----------
    rows : tuple of float
        Rows from the reference point at which the wavelength is given, ascending.
    wavelengths : tuple of float
        Wavelength in micron at these rows, descending; interpolated by a cubic spline.
    curve : tuple of float
        Column of the trace relative to the reference point: coefficients of a polynomial in the
        row, constant term first.

    Notes
    -----
    The two instances, `SLIT` and `PRISM` (slitless), follow the calibration of LRS (miricoord,
    specwcs references 0005 and 0006) to better than 0.01 micron. The exception is the last row of
    the slit, which has 2.9 micron, as after the pipeline's smoothing, instead of 2.23.
    """

    rows: tuple[float, ...]
    wavelengths: tuple[float, ...]
    curve: tuple[float, ...]

    @cached_property
    def _spline(self) -> CubicSpline:
        """Wavelength as a function of the row."""
        return CubicSpline(self.rows, self.wavelengths)

    def wavelength(self, row: ArrayLike) -> NDArray[np.float64]:
        """Wavelength in micron at rows from the reference point; NaN beyond the table."""
        where = np.asarray(row, dtype=float)
        inside = (where >= self.rows[0]) & (where <= self.rows[-1])
        return np.where(inside, self._spline(where), np.nan)

    def shift(self, row: ArrayLike) -> NDArray[np.float64]:
        """Columns from the reference point to the trace, at rows from the reference point."""
        return np.polynomial.polynomial.polyval(np.asarray(row, dtype=float), self.curve)


# fmt: off
#: The fixed slit.
SLIT = Dispersion(
    rows=(-293, -193, -93, 7, 40, 57, 75, 79, 85, 87, 90, 91, 92, 93, 94),
    wavelengths=(
        14.02, 12.516, 10.662, 8.136, 6.985, 6.258, 5.263, 4.977, 4.466, 4.246, 3.85, 3.666, 3.46,
        3.187, 2.9,
    ),
    curve=(-4.2336e-5, 3.049996e-3, -1.0564e-5),
)

#: The slitless subarray.
PRISM = Dispersion(
    rows=(-293, -193, -93, 7, 57, 76, 84, 89, 91, 92, 93, 94),
    wavelengths=(
        13.992, 12.556, 10.786, 8.379, 6.617, 5.671, 5.151, 4.729, 4.5, 4.367, 4.2, 3.7,
    ),
    curve=(2.31372883e-5, 1.95340972e-3, -6.70278628e-6),
)
# fmt: on


@dataclass(frozen=True)
class PSF:
    """Point spread function across the slit: a Gaussian core and a halo of compact support.

    Parameters
    ----------
    wavelengths : tuple of float
        Wavelengths in micron, ascending.
    fwhm : tuple of float
        Full width at half maximum of the core in arcsec, linear between the wavelengths and beyond.
    halo_width : float
        Half-width of the halo, a raised cosine, in arcsec per micron of wavelength.

    Raises
    ------
    SceneError
        If the wavelengths do not ascend, a width is not positive, or the lengths differ.
    """

    wavelengths: tuple[float, ...] = (5.0, 7.5, 10.0, 12.0)
    fwhm: tuple[float, ...] = (0.29, 0.30, 0.36, 0.42)
    halo_width: float = 0.09

    def __post_init__(self) -> None:
        if len(self.wavelengths) != len(self.fwhm) or len(self.fwhm) < 2:
            raise SceneError(
                f"fwhm has {len(self.fwhm)} values for {len(self.wavelengths)} wavelengths, "
                "expected at least 2 and as many"
            )
        if not (np.diff(self.wavelengths) > 0).all():
            raise SceneError("wavelengths of the FWHM do not ascend")
        if min(self.fwhm) <= 0 or self.halo_width <= 0:
            raise SceneError("fwhm and halo_width must be greater than 0")

    def width(self, wavelength: ArrayLike) -> NDArray[np.float64]:
        """FWHM of the core in arcsec at wavelengths in micron, at least 0.1."""
        nodes, fwhm = np.asarray(self.wavelengths), np.asarray(self.fwhm)
        wave = np.asarray(wavelength, dtype=float)
        i = np.clip(np.searchsorted(nodes, wave) - 1, 0, nodes.size - 2)
        slope = (fwhm[i + 1] - fwhm[i]) / (nodes[i + 1] - nodes[i])
        return np.maximum(fwhm[i] + slope * (wave - nodes[i]), 0.1)

    def cumulative(self, x: ArrayLike, wavelength: ArrayLike, halo: float) -> NDArray[np.float64]:
        """Fraction of a source's light below a position.

        Parameters
        ----------
        x : array_like
            Position in arcsec from the source.
        wavelength : array_like
            Wavelength in micron; broadcasts against `x`.
        halo : float
            Fraction of the light in the halo.

        Returns
        -------
        ndarray
            Fractions, of the broadcast shape.
        """
        where, wave = np.asarray(x, dtype=float), np.asarray(wavelength, dtype=float)
        # 2 sqrt(ln 2) / FWHM is 1 / (sqrt(2) sigma) of a Gaussian.
        core = 0.5 * (1.0 + erf(where * (2.0 * np.sqrt(np.log(2.0))) / self.width(wave)))
        t = np.clip(where / (self.halo_width * wave), -1.0, 1.0)
        wing = 0.5 * (1.0 + t + np.sin(np.pi * t) / np.pi)
        return (1.0 - halo) * core + halo * wing

    def enclosed(
        self, lower: ArrayLike, upper: ArrayLike, wavelength: ArrayLike, halo: float
    ) -> NDArray[np.float64]:
        """Fraction of a source's light between two positions in arcsec from the source."""
        above = self.cumulative(upper, wavelength, halo)
        return above - self.cumulative(lower, wavelength, halo)
