"""Conversion of images to and from two-dimensional specutils spectra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.nddata import StdDevUncertainty
from numpy.typing import NDArray
from specutils import SpectralAxis, Spectrum

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs._utils.typing import Array, Mask
from glue_lrs.errors import LRSError
from glue_lrs.image.pixels import lost_pixels
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.from_specutils import (
    copied_arrays,
    equal_values,
    matching_rows,
    spectrum_header,
)
from glue_lrs.spectra.to_specutils import Meta, lookup_wcs

if TYPE_CHECKING:
    from glue_lrs.image.slit_image import SlitImage


def image_to_spectrum(image: SlitImage) -> Spectrum:
    """Convert an image to a two-dimensional specutils spectrum.

    Parameters
    ----------
    image : SlitImage
        Image or stack of integrations to convert.

    Returns
    -------
    `~specutils.Spectrum`
        Spectrum with a flux of shape (column, row), or (integration, column, row), in the unit of
        the image. The spectral axis is the last axis. The wavelengths in micron ascend, and are
        medians over the pixels in each row. Rows without a wavelength are omitted. The uncertainty
        is ERR. The mask marks lost pixels, and is None if there are no lost pixels.
        ``meta["header"]`` is a copy of the primary header, and ``meta["image"]`` is the image.

    Raises
    ------
    LRSError
        If no row has a wavelength.
    """
    _, wave, flux, error, mask = _image_arrays(image)
    unit = image.unit
    axis = SpectralAxis(u.Quantity(wave, u.um, copy=False))
    return Spectrum(
        flux=u.Quantity(flux, unit, copy=False),
        spectral_axis=axis,
        spectral_axis_index=flux.ndim - 1,
        wcs=lookup_wcs(axis, flux.ndim),
        uncertainty=None if error is None else StdDevUncertainty(error, unit=unit, copy=False),
        mask=mask,
        meta=Meta(
            header=LazyHeader.from_header(image.header),
            sci_header=LazyHeader.from_header(image.sci_header),
            image=image,
        ),
    )


def _image_arrays(
    image: SlitImage,
) -> tuple[NDArray[np.intp], Array, NDArray[Any], NDArray[Any] | None, Mask | None]:
    """Return row numbers, wavelengths, and transposed data, errors and mask of an image.

    All are in the order of ascending wavelength.
    """
    rows = np.flatnonzero(np.isfinite(image.wavelength).any(axis=1))
    if rows.size == 0:
        raise LRSError("no pixel has a wavelength", subject=image.label)
    plane = np.asarray(image.wavelength, dtype=float)[rows]
    if (plane == plane[:, :1]).all():  # a resampled image has one wavelength per row
        wave = plane[:, 0].copy()
    else:
        wave = np.nanmedian(np.where(np.isfinite(plane), plane, np.nan), axis=1)
    order = np.argsort(wave, kind="stable")
    rows, wave = rows[order], wave[order]
    mask = _transposed(lost_pixels(image), rows)
    error = None if image.err is None else _transposed(image.err, rows)
    return rows, wave, _transposed(image.data, rows), error, mask if mask.any() else None


def _transposed(plane: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
    """Return a transposed copy of selected rows, shape (..., column, row), in native byte order."""
    transposed = np.swapaxes(plane[..., rows, :], -1, -2)
    return np.array(transposed, dtype=transposed.dtype.newbyteorder("="), order="C")


def spectrum_changes(spectrum: Spectrum, image: SlitImage) -> dict[str, Any]:
    """Return the attributes of `SlitImage` that a modified spectrum changes.

    Parameters
    ----------
    spectrum : `~specutils.Spectrum`
        Result of `image_to_spectrum`, or spectrum read with ``format="lrs-s2d"``. The values may
        have been modified since.
    image : SlitImage
        Image from which the spectrum was made.

    Returns
    -------
    dict
        Names and new values of the attributes. It is empty if flux, uncertainty, mask and
        wavelengths are unmodified. The squared uncertainty becomes VAR_POISSON, the other variances
        are None, and the mask becomes DQ bit 0. The drizzle weights, which can be interpreted only
        with the original variances, are None. The WCS is retained if the spectrum has all columns
        of the image, and each wavelength of the spectrum is that of a row of the image. Other rows
        of the image then have no wavelength. Without a WCS, the source position is unknown.

    Raises
    ------
    LRSError
        If the unit of the spectrum cannot be converted to the unit of the image.
    """
    wave, flux, unit, error, mask = copied_arrays(spectrum, (2, 3))
    rows, known_wave, *known = _image_arrays(image)
    same = unit == image.unit and np.array_equal(wave, known_wave)
    if same and all(map(equal_values, (flux, error, mask), known)):
        return {}
    if unit != image.unit:
        try:
            factor = unit.to(image.unit, np.ones_like(wave), u.spectral_density(wave * u.um))
        except u.UnitConversionError:
            raise LRSError(
                f"the spectrum is in {unit}, expected a unit that converts to {image.unit}",
                subject=image.label,
            ) from None
        flux = flux * factor
        error = None if error is None else error * factor
    columns = flux.shape[-2]
    matched = matching_rows(known_wave, wave) if columns == image.shape[1] else None
    if matched is not None:
        at, height = rows[matched], image.shape[0]
        wavelength = np.full(image.shape, np.nan)
        wavelength[at] = image.wavelength[at]
    else:
        # Order the rows as in LRS files, where the wavelength decreases with the row number.
        at, height = np.argsort(np.argsort(-wave, kind="stable")), wave.size
        wavelength = np.empty((height, columns))
        wavelength[at] = wave[:, np.newaxis]

    def plane(values: NDArray[Any], empty: float) -> NDArray[Any]:
        made = np.full((*values.shape[:-2], height, columns), empty, dtype=values.dtype)
        made[..., at, :] = np.swapaxes(values, -1, -2)
        return made

    same_integrations = image.is_stack and flux.ndim == 3 and len(flux) == len(image.data)
    return {
        "data": plane(flux, np.nan),
        "wavelength": wavelength,
        "err": None if error is None else plane(error, np.nan),
        "var_poisson": None if error is None else plane(error.astype(float) ** 2, np.nan),
        "var_rnoise": None,
        "var_flat": None,
        "dq": None if mask is None else plane(mask.astype(np.uint32) * np.uint32(DO_NOT_USE), 0),
        "drizzle_weight": None,
        "times": image.times if same_integrations else None,
        "header": spectrum_header(spectrum),
        "filename": None,  # because the values differ from those in the file
        "path": None,
        "segments": (),
        "wcs_source": image.wcs_source if matched is not None else None,
    }
