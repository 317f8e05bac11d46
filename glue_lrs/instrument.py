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

#: Bit 0 of the DQ plane: the pixel must not be used.
DO_NOT_USE = 1

#: EXP_TYPE of the fixed slit.
FIXED_SLIT = "MIR_LRS-FIXEDSLIT"

#: EXP_TYPE of the slitless subarray.
SLITLESS = "MIR_LRS-SLITLESS"

#: Pixel scale along the slit: arcsec per column.
PIXEL_SCALE = 0.11

#: Expected full width at half maximum of the LRS PSF: wavelengths in micron, FWHM in arcsec.
EXPECTED_FWHM = ((5.0, 7.5, 10.0, 12.0), (0.29, 0.30, 0.36, 0.42))

#: The same table, extrapolated linearly to 0 and 100 micron.
_EXTENDED = ((0.0, *EXPECTED_FWHM[0], 100.0), (0.27, *EXPECTED_FWHM[1], 3.06))

#: FWHM of a Gaussian with unit standard deviation.
FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))


def expected_fwhm(wavelength: ArrayLike) -> NDArray[np.float64]:
    """Return the expected full width at half maximum of the LRS PSF.

    Parameters
    ----------
    wavelength : array_like
        Wavelengths in micron.

    Returns
    -------
    ndarray
        FWHM in arcsec: 0.29, 0.30, 0.36 and 0.42 at 5, 7.5, 10 and 12 micron (from the LRS
        extraction notebook of STScI), interpolated and extrapolated linearly.
    """
    return np.asarray(np.interp(np.asarray(wavelength, dtype=float), *_EXTENDED))
