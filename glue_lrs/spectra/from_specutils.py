"""Conversion of specutils spectra to extractions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import StdDevUncertainty
from numpy.typing import NDArray

from glue_lrs.errors import LRSError
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.columns import FLAGS
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.findings import Finding
from glue_lrs.spectra.provenance import Provenance
from glue_lrs.spectra.to_specutils import Index, SpectrumArrays, ascending_rows, spectrum_arrays

if TYPE_CHECKING:
    from specutils import Spectrum

#: Maximum relative difference between wavelengths that are regarded as equal. Neighbouring rows
#: differ by 1e-3, and converting a wavelength to another unit and back changes it by 1e-15.
_SAME = 1e-10

#: Finding that is added to the provenance if the spectrum was modified.
_CHANGED = Finding(
    "changed",
    "the spectrum was changed after the extraction; columns that no longer apply have no values",
)


def integrations(extraction: Extraction) -> list[Extraction]:
    """Return a list with the spectrum and the times of each integration of a stack.

    The columns are views of the columns of the stack. If the extraction is not a stack, the list
    contains only the extraction itself.
    """
    if not extraction.is_stack:
        return [extraction]
    return [_select(extraction, index) for index in range(len(extraction.columns["FLUX"]))]


def _select(extraction: Extraction, part: int | slice) -> Extraction:
    """Return one integration of a stack as a single spectrum, or several as a smaller stack."""
    columns = {name: values[part] for name, values in extraction.columns.items()}
    rows = slice(part, part + 1) if isinstance(part, int) else part
    times = None if extraction.times is None else extraction.times[rows]
    return replace(extraction, columns=columns, times=times)


def spectrum_to_extraction(spectrum: Spectrum) -> Extraction:
    """Convert a specutils spectrum to an extraction.

    Parameters
    ----------
    spectrum : `~specutils.Spectrum`
        Spectrum with a flux of shape (n_wave,) or (integration, n_wave).

    Returns
    -------
    Extraction
        If the spectrum is unmodified, all columns of the original extraction, restricted to the
        rows of the spectrum. Otherwise WAVELENGTH, FLUX, FLUX_ERROR and DQ, which are made from the
        wavelength, flux, uncertainty and mask of the spectrum, and QUALITY. The flux is converted
        to Jy if possible. Bit 0 of DQ is set in rows that are masked or without a flux. If the
        wavelengths are unmodified, the other bits of DQ, and QUALITY, are those of the original.
        Interpolated values in masked rows are replaced by NaN.

    Raises
    ------
    LRSError
        If the spectrum has more than two axes or no wavelengths, or if it is modified and was made
        from a column other than FLUX.
    """
    arrays = copied_arrays(spectrum, (1, 2))
    header = spectrum_header(spectrum)
    original = spectrum.meta.get("extraction")
    column = spectrum.meta.get("column", "FLUX")
    if not isinstance(original, Extraction) or column not in original.columns:
        return _changed(spectrum, arrays, None)

    wave, known = arrays.wave, original.wavelength
    rows = ascending_rows(known)
    place = matching_rows(known[rows], wave)
    keep: Index = slice(None)  # index that puts the rows into the order of the file
    if place is not None:
        index = np.arange(known.size)[rows][place]
        keep = np.argsort(index)
        origin = index[keep]
        chosen = spectrum.meta.get("mask_quality", ())
        kept = _unchanged(original, column, rows, place, arrays, chosen)
        if kept is not None:
            if chosen:  # rows with these quality bits were masked by `to_spectrum`
                masked = np.where(kept.quality_mask(*chosen), np.uint32(DO_NOT_USE), np.uint32(0))
                kept = replace(kept, columns=kept.columns | {"DQ": kept.columns["DQ"] | masked})
            weight = kept.aperture_weight
            return replace(
                kept,
                columns={name: values[..., origin] for name, values in kept.columns.items()},
                header=header,
                aperture_weight=None if weight is None else weight[origin],
            )
    elif (wave[:1] > wave[-1:]) != (known[:1] > known[-1:]):
        keep = slice(None, None, -1)
    if column != "FLUX":
        raise LRSError(
            f"the spectrum was made from the column {column} and changed since, expected FLUX, as "
            "no other column can replace the flux of an x1d"
        )
    arrays = arrays.select(keep)
    flags: dict[str, NDArray[np.uint32]] = {}
    if place is not None:
        # Use the original wavelengths, which have no rounding errors from unit conversions.
        arrays = arrays._replace(wave=known[origin])
        masked = (original.mask | original.quality_mask(*chosen))[..., origin]
        flags = {n: original.columns[n][..., origin] for n in FLAGS if n in original.columns}
        if arrays.mask is not None and masked.shape == arrays.flux.shape:
            filled = arrays.mask & masked  # rows in which `to_spectrum` interpolated the values
            arrays.flux[filled] = np.nan
            if arrays.error is not None:
                arrays.error[filled] = np.nan
    return _changed(spectrum, arrays, original, flags)


def copied_arrays(spectrum: Spectrum, dimensions: tuple[int, ...]) -> SpectrumArrays:
    """Return copies of the arrays of a spectrum, with the spectral axis last.

    Parameters
    ----------
    spectrum : `~specutils.Spectrum`
        Spectrum. The spectral axis may be any axis of the flux.
    dimensions : tuple of int
        Accepted numbers of axes.

    Returns
    -------
    SpectrumArrays
        Wavelengths in micron, flux and errors in the unit of the flux, and mask.

    Raises
    ------
    LRSError
        If the number of axes is not in `dimensions`, or the spectral axis cannot be converted to
        wavelengths.
    """
    flux = spectrum.flux
    if flux.ndim not in dimensions:
        raise LRSError(
            f"the spectrum has {flux.ndim} axes, "
            f"expected {' or '.join(map(str, dimensions))}, the wavelength one of them"
        )
    axis = spectrum.spectral_axis_index
    try:
        wave = np.array(u.Quantity(spectrum.spectral_axis).to_value(u.um, u.spectral()), float)
    except u.UnitConversionError:
        raise LRSError(
            f"the spectral axis is in {spectrum.spectral_axis.unit}, expected a unit that converts "
            "to a wavelength"
        ) from None
    error = None
    if spectrum.uncertainty is not None:
        sigma = spectrum.uncertainty
        if not isinstance(sigma, StdDevUncertainty):
            sigma = sigma.represent_as(StdDevUncertainty)
        error = sigma.quantity.to_value(flux.unit)
        error = np.array(np.moveaxis(error, axis, -1))
    mask = None
    if spectrum.mask is not None:
        mask = np.moveaxis(np.broadcast_to(spectrum.mask, flux.shape).astype(bool), axis, -1)
        mask = mask if mask.any() else None
    values = np.array(np.moveaxis(flux.value, axis, -1))
    return SpectrumArrays(wave, values, flux.unit, error, mask)


def spectrum_header(spectrum: Spectrum) -> fits.Header:
    """Return the header of a spectrum, or an empty header if there is none.

    If the meta has no header, because jdaviz has replaced it by its cards, the header of the
    original extraction or image is returned.
    """
    meta = spectrum.meta
    header = meta.get("header")
    if header is None:
        header = getattr(meta.get("extraction", meta.get("image")), "header", None)
    if header is None:
        return fits.Header()
    return header if isinstance(header, fits.Header) else fits.Header(header)


def matching_rows(known: NDArray[np.float64], wave: NDArray[np.float64]) -> NDArray[np.intp] | None:
    """Return the index of each wavelength in `wave` within the ascending array `known`.

    Return None if a wavelength is not in `known`.
    """
    if wave.size == 0 or not np.isfinite(wave).all():
        return None
    if wave[0] > wave[-1]:
        place = matching_rows(known, wave[::-1])
        return None if place is None else place[::-1]
    place = np.searchsorted(known, wave * (1.0 - _SAME))
    # Rows with equal wavelengths are matched in order.
    _, first, times = np.unique(place, return_index=True, return_counts=True)
    place = place + np.arange(wave.size) - np.repeat(first, times)
    if (place >= known.size).any() or (np.abs(known[place] - wave) > _SAME * known[place]).any():
        return None
    return place


def _unchanged(
    original: Extraction,
    column: str,
    rows: Index,
    place: NDArray[np.intp],
    arrays: SpectrumArrays,
    mask_quality: Sequence[str],
) -> Extraction | None:
    """Return the original extraction, or None if the values of the spectrum were modified.

    If the spectrum has only some integrations of the original stack, only these are returned.
    """
    shape = arrays.flux.shape
    for fill in ("interpolate", "nan"):
        found = original
        known = spectrum_arrays(original, column, fill, rows, mask_quality).select(place)
        if known.flux.shape != shape:
            part = _which_integrations(known.flux, arrays.flux)
            if part is None:
                continue
            found = _select(original, part if len(shape) == 2 else part.start)
            known = spectrum_arrays(found, column, fill, rows, mask_quality).select(place)
        if (
            known.unit == arrays.unit
            and equal_values(known.flux, arrays.flux)
            and equal_values(known.error, arrays.error)
            and equal_values(known.mask, arrays.mask)
        ):
            return found
    return None


def _which_integrations(known: NDArray[Any], flux: NDArray[Any]) -> slice | None:
    """Return the range of consecutive integrations in a stack that have the given fluxes.

    Return None if there is no such range, or if there are several.
    """
    if known.ndim != 2 or flux.shape[-1] != known.shape[-1]:
        return None
    lines = np.atleast_2d(flux)
    same = (known == lines[0]) | (np.isnan(known) & np.isnan(lines[0]))
    starts = np.flatnonzero(same.all(axis=1))
    places = [
        slice(int(start), int(start) + len(lines))
        for start in starts
        if start + len(lines) <= len(known)
        and np.array_equal(known[start : start + len(lines)], lines, equal_nan=True)
    ]
    return places[0] if len(places) == 1 else None


def equal_values(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    """Return whether two arrays are equal or both None. NaN is regarded as equal to NaN."""
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and bool(
        np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    )


def _changed(
    spectrum: Spectrum,
    arrays: SpectrumArrays,
    original: Extraction | None,
    flags: Mapping[str, NDArray[np.uint32]] | None = None,
) -> Extraction:
    """Make an extraction from the values of a modified spectrum.

    Times, header cards and provenance are copied from the original extraction if there is one.
    Times in the meta of the spectrum have priority if there is one row for each integration.
    `flags` are the columns DQ and QUALITY of the original in the rows of the spectrum, from which
    QUALITY and all bits of DQ except bit 0 are copied.
    """
    wave, flux, unit, error, mask = arrays
    if unit != u.Jy:
        try:
            factor = unit.to(u.Jy, np.ones_like(wave), u.spectral_density(wave * u.um))
        except u.UnitConversionError:
            pass
        else:
            flux, unit = flux * factor, u.Jy
            error = None if error is None else error * factor
    if unit not in (u.Jy, u.DN / u.s):
        raise LRSError(
            f"the flux is in {unit.to_string() or 'no unit'}, expected a unit that converts to Jy, "
            "or DN/s, as an x1d contains a flux"
        )
    bad = ~np.isfinite(flux)
    columns = {"WAVELENGTH": np.broadcast_to(wave, flux.shape), "FLUX": np.asarray(flux, float)}
    text = "Jy" if unit == u.Jy else "DN/s"  # spelled as in the pipeline
    units = {"WAVELENGTH": "um", "FLUX": text}
    if error is not None:
        columns["FLUX_ERROR"], units["FLUX_ERROR"] = np.asarray(error, float), text
    columns["DQ"] = (bad if mask is None else bad | mask).astype(np.uint32)
    for name, bits in (flags or {}).items():
        if bits.shape == flux.shape:
            kept = bits & ~np.uint32(DO_NOT_USE) if name == "DQ" else bits
            columns[name] = columns.get(name, np.uint32(0)) | kept
    made = Extraction(columns=columns, units=units, header=spectrum_header(spectrum))
    if original is None:
        return made
    provenance = original.provenance
    if provenance is not None:
        findings = [one.to_dict() for one in (*provenance.findings, _CHANGED)]
        provenance = Provenance.from_dict(dict(provenance) | {"findings": findings})
    number = len(flux) if flux.ndim == 2 else 1
    known = [one for one in (spectrum.meta.get("times"), original.times) if one is not None]
    times = next((one for one in known if len(one) == number), None)
    return replace(
        made,
        keywords_source=original.keywords_source,
        provenance=provenance,
        times=times,
        int_times=None if times is None else original.int_times,
    )
