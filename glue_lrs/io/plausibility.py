"""Checks for values that no spectrum or image of LRS has, when files are read.

Values with which no correct result is possible are refused by an exception. Other implausible
values are reported by warnings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.errors import CorrectionError, LRSWarning, ProductError, ProfileError
from glue_lrs.instrument import PIXEL_SCALE

#: Limits in micron beyond which wavelengths must be in another unit.
_MICRON = (0.1, 1e3)
#: Range of LRS in micron.
_LRS = (3.0, 15.0)
#: Largest plausible value in Jy, MJy/sr or DN/s, or for variances in the squares of these units:
#: LRS saturates at a few Jy, 1e6 MJy/sr and 1e5 DN/s. Values with swapped bytes reach 1e38.
_LARGEST = 1e12
#: Solid angle of a pixel in sr.
_PIXEL_AREA = np.deg2rad(PIXEL_SCALE / 3600.0) ** 2
#: Upper limit of aperture corrections (only 0.1% of the flux is in the aperture), and their range
#: for apertures of a pixel or more, with a margin of 1% for noise in their derivation.
_LARGEST_FACTOR, _USUAL_FACTORS = 1e3, (0.99, 20.0)
#: Distances in pixels from the source: one within which any profile of LRS, whose FWHM is 2.3 to 4
#: pixels, has most of its flux, and one within which it has at most 40%.
_PROFILE_REACH, _NARROWEST = 3.0, 0.5


def check_wavelength(wavelength: NDArray[Any], name: str, along: str) -> list[LRSWarning]:
    """Check the wavelengths along the dispersion direction.

    Parameters
    ----------
    wavelength : ndarray
        Wavelengths in micron in the order of the rows, shape (n,). NaN is not checked.
    name : str
        Name of the plane or column for messages.
    along : str
        Noun for the elements of `wavelength` in messages, such as "rows".

    Returns
    -------
    list of LRSWarning
        Warnings about wavelengths that are 0, repeated or not in order, or not those of LRS.

    Raises
    ------
    ProductError
        If wavelengths are negative, all equal, or not in micron.
    """
    values = np.asarray(wavelength, dtype=float)
    values = values[np.isfinite(values)]
    positive = values[values > 0]
    if not values.size:
        return []
    if (values < 0).any() or not positive.size:
        raise ProductError(f"{name} is {values.min():.4g}, expected positive wavelengths")
    if not _MICRON[0] < np.median(positive) < _MICRON[1]:
        raise ProductError(
            f"{name} is {np.median(positive):.4g}, expected micron (3 to 15 for LRS), or a unit "
            "in the header"
        )
    if values.size > 1 and (values == values[0]).all():
        raise ProductError(f"{name} is {values[0]:.4g} throughout, expected a dispersed spectrum")
    notes = []
    if positive.size < values.size:
        number = values.size - positive.size
        notes.append(LRSWarning(f"{name} is 0 in {number} of {values.size} {along}"))
    step = np.diff(positive)
    wrong = int(min((step <= 0).sum(), (step >= 0).sum()))
    if wrong:
        notes.append(
            LRSWarning(
                f"{name} neither rises nor falls throughout: {wrong} of {step.size} steps between "
                f"{along} are 0 or reversed"
            )
        )
    if ((positive < _LRS[0]) | (positive > _LRS[1])).mean() > 0.5:
        notes.append(
            LRSWarning(
                f"{name} is {positive.min():.4g} to {positive.max():.4g} um, expected "
                f"{_LRS[0]:g} to {_LRS[1]:g} um for LRS"
            )
        )
    return notes


def check_pixel_area(area: float | None) -> list[LRSWarning]:
    """Return a warning if PIXAR_SR (sr) differs from the pixels of MIRI by more than a factor 10.

    Resampling may change the size of the pixels by a smaller factor.
    """
    if area is None or not area > 0 or 0.1 < area / _PIXEL_AREA < 10.0:
        return []  # an area that is missing or not positive is refused by the extraction
    return [
        LRSWarning(
            f"PIXAR_SR is {area:.4g}, expected about {_PIXEL_AREA:.3g} sr, the pixels of MIRI: the "
            f"flux would be {area / _PIXEL_AREA:.3g} times the true one"
        )
    ]


def check_plane(values: NDArray[Any], name: str) -> list[LRSWarning]:
    """Return a warning if values of a plane are too large, or errors or variances are negative.

    Parameters
    ----------
    values : ndarray
        Values of one or several rows. NaN is not checked.
    name : str
        Name of the plane, such as SCI, ERR or VAR_FLAT.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    if largest > _LARGEST:
        return [LRSWarning(f"{name} reaches {largest:.2g}, more than that of any source")]
    if name != "SCI" and values.size and ((values < 0) | np.isinf(values)).mean() > 0.5:
        return [LRSWarning(f"{name} is negative or infinite in most pixels, expected 0 or more")]
    return []


def check_spectrum(columns: Mapping[str, NDArray[Any]]) -> list[LRSWarning]:
    """Check the columns of a spectrum or of a stack of spectra.

    Parameters
    ----------
    columns : mapping
        Columns by name, with WAVELENGTH, DQ and pairs of values and errors.

    Returns
    -------
    list of LRSWarning
        Warnings about missing, infinite or implausible fluxes and errors.

    Raises
    ------
    ProductError
        If `check_wavelength` refuses the wavelengths.
    """
    wave, flux = columns["WAVELENGTH"], columns["FLUX"]
    notes = check_wavelength(wave if wave.ndim == 1 else wave[0], "WAVELENGTH", "rows")
    used = ~np.isnan(flux) & ((columns["DQ"] & 1) == 0)
    if not (~np.isnan(flux)).any():
        notes.append(LRSWarning("FLUX holds nothing but NaN"))
    elif flux.ndim == 2 and (empty := np.isnan(flux).all(axis=1)).any():
        notes.append(LRSWarning(f"{empty.sum()} of {empty.size} integrations have no FLUX"))
    for name, values in columns.items():
        if name not in ("WAVELENGTH", "DQ", "NPIXELS", "N_INPUT", "WEIGHT"):
            notes += _check_column(name, values[used], flux[used])
    return notes


def _check_column(name: str, values: NDArray[Any], flux: NDArray[Any]) -> list[LRSWarning]:
    """Return a warning about the usable values of a column, at most one."""
    is_error = name.endswith("ERROR") or "_VAR_" in name
    problems = {
        "infinite": np.isinf(values),
        f"beyond {_LARGEST:g}": np.abs(values) > _LARGEST,
        "negative": (values < 0) & is_error,
        "0 beside a flux": (values == 0) & (flux != 0) & (name in ("FLUX_ERROR", "ERROR")),
    }
    for problem, where in problems.items():
        if where.any():
            return [LRSWarning(f"{name} is {problem} in {where.sum()} of {where.size} rows")]
    return []


def check_factors(factor: NDArray[np.float64]) -> list[LRSWarning]:
    """Return warnings about aperture corrections that are unusual.

    Raises
    ------
    CorrectionError
        If a factor is not positive, or so large that the aperture would contain hardly any flux.
    """
    low, high = float(factor.min()), float(factor.max())
    if not 0 < low <= high < _LARGEST_FACTOR:
        found = low if low <= 0 else high
        raise CorrectionError(
            f"APCORR has a factor of {found:.4g}, expected 0 to {_LARGEST_FACTOR:g}"
        )
    usual = _USUAL_FACTORS
    if low < usual[0] or high > usual[1]:
        found = low if low < usual[0] else high
        return [
            LRSWarning(
                f"APCORR has a factor of {found:.4g}, expected {usual[0]:g} to {usual[1]:g}, as "
                "an aperture holds at most all of the flux"
            )
        ]
    return []


def check_profile(data: NDArray[np.float64], subpix: float, center: float) -> list[LRSWarning]:
    """Return warnings about a PSF that is not a peak at the position of the source.

    Parameters
    ----------
    data : ndarray
        Profile, shape (wavelength, column of the table).
    subpix : float
        Number of columns of the table per pixel.
    center : float
        Column of the table at which the source is.

    Raises
    ------
    ProfileError
        If the source is outside the table, or most of the flux is far from the source.
    """
    width = data.shape[1]
    if not 0 <= center <= width - 1:
        raise ProfileError(f"CENTCOL is {center:g}, expected a column of PSF, 0 to {width - 1}")
    offset = np.abs(np.arange(width) - center) / subpix
    total = data.sum(axis=1)
    inside = np.median(data[:, offset <= _PROFILE_REACH].sum(axis=1) / total)
    if not inside > 0.5:
        raise ProfileError(
            f"PSF has {inside:.0%} of its flux within {_PROFILE_REACH:g} pixels of the source "
            f"(SUBPIX {subpix:g}, CENTCOL {center:g}), expected more than half"
        )
    core = np.median(data[:, offset <= _NARROWEST].sum(axis=1) / total)
    near = offset <= 2 * _PROFILE_REACH
    mean = (data * (np.arange(width) - center) / subpix)[:, near].sum(axis=1)
    shift = float(np.median(mean / data[:, near].sum(axis=1)))
    if core > 0.9:
        return [
            LRSWarning(
                f"PSF has {core:.0%} of its flux within {_NARROWEST:g} pixels of the source "
                f"(SUBPIX {subpix:g}), narrower than the diffraction limit"
            )
        ]
    if abs(shift) > 1:
        return [LRSWarning(f"PSF has its centre {shift:+.2f} pixels from CENTCOL, expected 0")]
    return []
