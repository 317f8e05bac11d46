"""MIRI LRS: exposure types, pixel scale, expected FWHM, data quality bits."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "DO_NOT_USE",
    "EXPECTED_FWHM",
    "FIXED_SLIT",
    "FWHM",
    "PIXEL_SCALE",
    "SLITLESS",
    "expected_fwhm",
]

#: Bit 0 of the DQ plane: the pixel holds no measurement.
DO_NOT_USE = 1

#: EXP_TYPE of the fixed slit.
FIXED_SLIT = "MIR_LRS-FIXEDSLIT"

#: EXP_TYPE of the slitless subarray.
SLITLESS = "MIR_LRS-SLITLESS"

#: Arcsec along the slit that a column covers.
PIXEL_SCALE = 0.11

#: Full width at half maximum of LRS: wavelengths in micron, arcsec.
EXPECTED_FWHM = ((5.0, 7.5, 10.0, 12.0), (0.29, 0.30, 0.36, 0.42))

#: The same with points far beyond, on the lines through the first and the last two.
_EXTENDED = ((0.0, *EXPECTED_FWHM[0], 100.0), (0.27, *EXPECTED_FWHM[1], 3.06))

#: FWHM of a Gaussian of unit standard deviation.
FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))


def expected_fwhm(wavelength: ArrayLike) -> NDArray[np.float64]:
    """Full width at half maximum that LRS is expected to have.

    Parameters
    ----------
    wavelength : array_like
        Wavelengths in micron.

    Returns
    -------
    ndarray
        FWHM in arcsec: 0.29, 0.30, 0.36 and 0.42 at 5, 7.5, 10 and 12 micron (the STScI's LRS
        extraction notebook), linear between and beyond.
    """
    return np.asarray(np.interp(np.asarray(wavelength, dtype=float), *_EXTENDED))
