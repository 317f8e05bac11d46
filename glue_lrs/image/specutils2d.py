"""Conversion of images to and from two-dimensional specutils spectra."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.nddata import StdDevUncertainty
from numpy.typing import NDArray

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs.errors import LRSError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.from_specutils import (
    equal_values,
    matching_rows,
    own_arrays,
    spectrum_header,
)
from glue_lrs.spectra.to_specutils import Meta

if TYPE_CHECKING:
    from specutils import Spectrum

__all__ = ["image_to_spectrum", "spectrum_to_image"]


# --- 2-D: an image --------------------------------------------------------------------------------


def image_to_spectrum(image: SlitImage) -> Spectrum:
    """Make a specutils spectrum of two axes of an image.

    Parameters
    ----------
    image : SlitImage
        An image, or a stack of them.

    Returns
    -------
    `~specutils.Spectrum`
        Flux of shape (column, row), or (integration, column, row), in the image's unit; the
        spectral axis is the last one and ascends. The wavelength of a row, in micron, is the median
        of those of its pixels; rows without any are left out. The uncertainty is ERR. The mask says
        where a pixel has no value: NaN in any plane, infinite data, or DQ bit 0; None where all
        have one.
        ``meta["header"]`` is a copy of the primary header, ``meta["image"]`` the image.

    Raises
    ------
    LRSError
        If no row has a wavelength.
    """
    from specutils import Spectrum

    _, wave, flux, error, mask = _image_arrays(image)
    unit = image.unit
    return Spectrum(
        flux=u.Quantity(flux, unit, copy=False),
        spectral_axis=u.Quantity(wave, u.um, copy=False),
        spectral_axis_index=flux.ndim - 1,
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
) -> tuple[
    NDArray[np.intp],
    NDArray[np.float64],
    NDArray[Any],
    NDArray[Any] | None,
    NDArray[np.bool_] | None,
]:
    """Rows by ascending wavelength, that wavelength, flux, error and mask, transposed copies."""
    rows = np.flatnonzero(np.isfinite(image.wavelength).any(axis=1))
    if rows.size == 0:
        raise LRSError(f"{image.label}: no pixel has a wavelength")
    plane = np.asarray(image.wavelength, dtype=float)[rows]
    if (plane == plane[:, :1]).all():  # resampled: a row has one wavelength
        wave = plane[:, 0].copy()
    else:
        wave = np.nanmedian(np.where(np.isfinite(plane), plane, np.nan), axis=1)
    order = np.argsort(wave, kind="stable")
    rows, wave = rows[order], wave[order]
    bad = ~np.isfinite(image.data)
    for values in (image.err, image.var_poisson, image.var_rnoise, image.var_flat):
        if values is not None:
            bad |= np.isnan(values)
    if image.dq is not None:
        bad |= (image.dq & DO_NOT_USE) != 0
    mask = _turn(bad, rows)
    error = None if image.err is None else _turn(image.err, rows)
    return rows, wave, _turn(image.data, rows), error, mask if mask.any() else None


def _turn(plane: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
    """(row, column) to (column, row) for some rows: a copy in the machine's byte order."""
    turned = np.swapaxes(plane[..., rows, :], -1, -2)
    return np.array(turned, dtype=turned.dtype.newbyteorder("="), order="C")


def spectrum_to_image(spectrum: Spectrum) -> SlitImage:
    """Make an image from a spectrum of two axes that was made from one.

    Parameters
    ----------
    spectrum : `~specutils.Spectrum`
        What `image_to_spectrum` or ``Spectrum.read(path, format="lrs-s2d")`` gave, changed or not.

    Returns
    -------
    SlitImage
        The image itself if flux, uncertainty, mask and axis are as they were given out. Otherwise
        an image of the spectrum's own values: the square of its uncertainty is the one variance
        (VAR_POISSON, no others), its mask is DQ bit 0. Where it has all columns of the image, and
        its wavelengths are rows of it, the WCS still holds, and the other rows have no wavelength.
        If not, there is no WCS, so that the source's position is not known.

    Raises
    ------
    LRSError
        If it does not come from an image, or is no surface brightness any more.
    """
    image = spectrum.meta.get("image")
    if not isinstance(image, SlitImage):
        raise LRSError(
            f"the spectrum of shape {spectrum.flux.shape} has no meta['image'], expected one read "
            "with format='lrs-s2d' or made by SlitImage.to_spectrum"
        )
    wave, flux, unit, error, mask = own_arrays(spectrum, (2, 3))
    rows, known_wave, known, known_error, known_mask = _image_arrays(image)
    if (
        unit == image.unit
        and np.array_equal(wave, known_wave)
        and equal_values(flux, known)
        and equal_values(error, known_error)
        and equal_values(mask, known_mask)
    ):
        return image
    if unit != image.unit:
        try:
            factor = unit.to(image.unit, np.ones_like(wave), u.spectral_density(wave * u.um))
        except u.UnitConversionError:
            raise LRSError(
                f"{image.label}: the spectrum is in {unit}, expected something that can be "
                f"converted to {image.unit}"
            ) from None
        flux = flux * factor
        error = None if error is None else error * factor
    columns = flux.shape[-2]
    place = matching_rows(known_wave, wave) if columns == image.shape[1] else None
    if place is not None:
        at, height = rows[place], image.shape[0]
        wavelength = np.full(image.shape, np.nan)
        wavelength[at] = image.wavelength[at]
    else:
        # As in a file of LRS, the wavelength descends along the rows.
        at, height = np.argsort(np.argsort(-wave, kind="stable")), wave.size
        wavelength = np.empty((height, columns))
        wavelength[at] = wave[:, np.newaxis]

    def plane(values: NDArray[Any], empty: float) -> NDArray[Any]:
        made = np.full((*values.shape[:-2], height, columns), empty, dtype=values.dtype)
        made[..., at, :] = np.swapaxes(values, -1, -2)
        return made

    stack_kept = image.is_stack and flux.ndim == 3 and len(flux) == len(image.data)
    return replace(
        image,
        data=plane(flux, np.nan),
        wavelength=wavelength,
        err=None if error is None else plane(error, np.nan),
        var_poisson=None if error is None else plane(error.astype(float) ** 2, np.nan),
        var_rnoise=None,
        var_flat=None,
        dq=None if mask is None else plane(mask.astype(np.uint32) * np.uint32(DO_NOT_USE), 0),
        times=image.times if stack_kept else None,
        header=spectrum_header(spectrum),
        filename=None,  # the numbers are not the file's any more
        path=None,
        wcs_source=image.wcs_source if place is not None else None,
    )
