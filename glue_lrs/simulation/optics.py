"""Optics of the simulator: dispersion, PSF, units."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline
from scipy.special import erf

from glue_lrs.errors import LRSError

__all__ = [
    "BLOCK",
    "DEGREE",
    "EXPOSURE_START",
    "MEGA",
    "MJYSR_PER_DN",
    "PIXEL_AREA",
    "PIXEL_SCALE",
    "PRISM",
    "PSF",
    "SECOND_RADIATION",
    "SLIT",
    "Dispersion",
    "SceneError",
]

#: Arcsec along the slit that a column covers.
PIXEL_SCALE = 0.11

#: Solid angle of a pixel in sr, as PIXAR_SR of real products has it.
PIXEL_AREA = 2.8606325654256e-13

#: MJy/sr that give one DN/s, as PHOTMJSR of real products has it.
MJYSR_PER_DN = 13.851669311523438

MEGA = 1e6

DEGREE = 3600.0  # arcsec

#: hc / k in micron kelvin.
SECOND_RADIATION = 14387.768775


class SceneError(LRSError):
    """A scene cannot be simulated as it is described."""


# --- the instrument ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Dispersion:
    """Where a wavelength falls on the detector, relative to the reference point.

    Parameters
    ----------
    rows : tuple of float
        Rows from the reference point at which the wavelength is given, ascending.
    wavelengths : tuple of float
        Wavelength there in micron, descending; a cubic spline leads through them.
    curve : tuple of float
        Columns that the trace is away from the reference point: a polynomial in the row, constant
        term first.

    Notes
    -----
    The two instances, `SLIT` and `PRISM` (slitless), follow the calibration of LRS (miricoord,
    specwcs references 0005 and 0006) to better than 0.01 micron, but for the last row of the slit,
    where 2.9 micron, as the pipeline's smoothing gives, stands for 2.23.
    """

    rows: tuple[float, ...]
    wavelengths: tuple[float, ...]
    curve: tuple[float, ...]

    @cached_property
    def _spline(self) -> Any:
        return CubicSpline(self.rows, self.wavelengths)

    def wavelength(self, row: ArrayLike) -> NDArray[np.float64]:
        """Wavelength in micron at rows from the reference point; NaN beyond the table."""
        where = np.asarray(row, dtype=float)
        inside = (where >= self.rows[0]) & (where <= self.rows[-1])
        return np.where(inside, self._spline(where), np.nan)

    def shift(self, row: ArrayLike) -> NDArray[np.float64]:
        """Columns that the trace is away from the reference point at rows from it."""
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
    """Point spread function across the slit: a Gaussian core, and a halo of compact support.

    Parameters
    ----------
    wavelengths : tuple of float
        Wavelengths in micron, ascending.
    fwhm : tuple of float
        Full width at half maximum of the core in arcsec; linear between the wavelengths and beyond.
    halo_width : float
        Arcsec per micron of wavelength at which the halo, a raised cosine, ends on either side.
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
        """FWHM of the core in arcsec."""
        at, known = np.asarray(self.wavelengths), np.asarray(self.fwhm)
        wave = np.asarray(wavelength, dtype=float)
        part = np.clip(np.searchsorted(at, wave) - 1, 0, at.size - 2)
        slope = (known[part + 1] - known[part]) / (at[part + 1] - at[part])
        return np.maximum(known[part] + slope * (wave - at[part]), 0.1)

    def cumulative(self, x: ArrayLike, wavelength: ArrayLike, halo: float) -> NDArray[np.float64]:
        """Fraction of a source's light that falls below a position.

        Parameters
        ----------
        x : array_like
            Arcsec from the source.
        wavelength : array_like
            Wavelength in micron; broadcasts against `x`.
        halo : float
            Fraction of the light in the halo.
        """
        where, wave = np.asarray(x, dtype=float), np.asarray(wavelength, dtype=float)
        # 2 sqrt(ln 2) turns the FWHM of a Gaussian into sqrt(2) sigma.
        core = 0.5 * (1.0 + erf(where * (2.0 * np.sqrt(np.log(2.0))) / self.width(wave)))
        part = np.clip(where / (self.halo_width * wave), -1.0, 1.0)
        wing = 0.5 * (1.0 + part + np.sin(np.pi * part) / np.pi)
        return (1.0 - halo) * core + halo * wing

    def enclosed(
        self, lower: ArrayLike, upper: ArrayLike, wavelength: ArrayLike, halo: float
    ) -> NDArray[np.float64]:
        """Fraction of a source's light between two positions in arcsec from the source."""
        above = self.cumulative(upper, wavelength, halo)
        return above - self.cumulative(lower, wavelength, halo)


# --- helpers -----------------------------------------------------------------------------------

#: MJD at which simulated exposures start.
EXPOSURE_START = 60994.6

#: Integrations of a stack that are made at once.
BLOCK = 16
