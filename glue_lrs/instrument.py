"""Constants for MIRI LRS: exposure types, pixel scale, expected FWHM and data quality bits."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Value of bit 0 in the DQ plane, which marks pixels that must not be used.
DO_NOT_USE = 1

#: Names of the bits of the DQ plane, beginning with bit 0 (JWST documentation, "Data Quality
#: Flags").
DQ_NAMES = (
    *("DO_NOT_USE", "SATURATED", "JUMP_DET", "DROPOUT", "OUTLIER", "PERSISTENCE", "AD_FLOOR"),
    *("CHARGELOSS", "RESERVED", "NON_SCIENCE", "DEAD", "HOT", "WARM", "LOW_QE", "RC", "TELEGRAPH"),
    *("NONLINEAR", "BAD_REF_PIXEL", "NO_FLAT_FIELD", "NO_GAIN_VALUE", "NO_LIN_CORR"),
    *("NO_SAT_CHECK", "UNRELIABLE_BIAS", "UNRELIABLE_DARK", "UNRELIABLE_SLOPE", "UNRELIABLE_FLAT"),
    *("OPEN", "ADJ_OPEN", "FLUX_ESTIMATED", "MSA_FAILED_OPEN", "OTHER_BAD_PIXEL"),
    "REFERENCE_PIXEL",
)


def dq_names(flags: int) -> tuple[str, ...]:
    """Return the names of the bits that are set in a value of the DQ plane."""
    return tuple(name for bit, name in enumerate(DQ_NAMES) if flags >> bit & 1)


#: EXP_TYPE of fixed-slit exposures.
FIXED_SLIT = "MIR_LRS-FIXEDSLIT"

#: EXP_TYPE of slitless exposures.
SLITLESS = "MIR_LRS-SLITLESS"

#: Pixel scale along the slit in arcsec per column.
PIXEL_SCALE = 0.11

#: Wavelengths in micron that LRS covers nominally (JWST User Documentation, "JWST MIRI LRS Pipeline
#: Caveats").
NOMINAL_RANGE = (5.0, 12.0)

#: Shorter wavelengths in micron, at which the dispersion is too steep for a good calibration.
POORLY_CALIBRATED = (3.0, 5.0)

#: Width in columns of the apertures in the pipeline's EXTRACT1D references.
APERTURE_WIDTH = 8

#: FWHM of a Gaussian with a standard deviation of 1.
FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))


#: Standard deviation of the PSF along the slit, which is constant at short wavelengths and rises
#: linearly at long ones: constant in columns, slope in columns per micron, and middle and width in
#: micron of the transition between the two.
_WIDTH, _WIDTH_SLOPE, _WIDTH_ONSET, _WIDTH_RANGE = 0.97, 0.137, 8.5, 1.2


def psf_width(wavelength: ArrayLike) -> NDArray[np.float64]:
    """Return the expected standard deviation of the LRS PSF along the slit, in columns.

    It is a smooth function of the wavelength that differs by at most 3% from the widths of
    Gaussians fitted to the bright star in program 6620 from 5.5 to 14 micron. It includes the
    broadening by the integration over the pixels.

    Parameters
    ----------
    wavelength : array_like
        Wavelengths in micron.
    """
    wave = np.asarray(wavelength, dtype=float)
    with np.errstate(invalid="ignore"):  # rows without a wavelength
        rise = np.logaddexp(0.0, (wave - _WIDTH_ONSET) / _WIDTH_RANGE)
    return np.asarray(_WIDTH + _WIDTH_SLOPE * _WIDTH_RANGE * rise)


def expected_fwhm(wavelength: ArrayLike) -> NDArray[np.float64]:
    """Return the expected full width at half maximum of the LRS PSF on the detector.

    Parameters
    ----------
    wavelength : array_like
        Wavelengths in micron.

    Returns
    -------
    ndarray
        FWHM in arcsec of a Gaussian with the standard deviation `psf_width`. It is up to 13%
        smaller than the widths in STScI's LRS extraction notebook, which are not measurements.
    """
    return FWHM * PIXEL_SCALE * psf_width(wavelength)


#: Suffixes of the file names of pipeline products, which identify the type of product.
PRODUCT_SUFFIXES = (
    "uncal", "ramp", "rate", "rateints", "cal", "calints", "crf", "crfints", "bsub", "bsubints",
    "i2d", "s2d", "s3d", "x1d", "x1dints", "c1d", "whtlt",
)  # fmt: skip


def product_suffix(stem: str) -> str | None:
    """Return the suffix of a pipeline product in a file name without ``.fits``, or None."""
    base, _, suffix = stem.lower().rpartition("_")
    return suffix if base and suffix in PRODUCT_SUFFIXES else None
