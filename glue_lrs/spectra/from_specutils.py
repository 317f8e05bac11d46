"""Conversion of specutils spectra to extractions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.nddata import StdDevUncertainty
from numpy.typing import NDArray

from glue_lrs.errors import LRSError
from glue_lrs.spectra.columns import COLUMNS
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.provenance import Provenance
from glue_lrs.spectra.to_specutils import ascending_rows, parsed_unit, spectrum_arrays

if TYPE_CHECKING:
    from specutils import Spectrum

#: Maximum relative difference of wavelengths that belong to the same row. Neighbouring rows differ
#: by 1e-3, and converting a wavelength to another unit and back changes it by 1e-15.
_SAME = 1e-10

#: Text that is added to the warnings in the provenance if the spectrum was modified.
_CHANGED = "the spectrum was changed after the extraction; columns that no longer apply are omitted"


def single(extraction: Extraction, integration: int) -> Extraction:
    """Return the spectrum of one integration from a stack, including its times.

    Parameters
    ----------
    extraction : Extraction
        Stack of spectra.
    integration : int
        Index of the integration, starting at 0.

    Returns
    -------
    Extraction
        Spectrum with columns of shape (n_wave,), which are views of the stack.
    """
    return _integrations(extraction, slice(integration, integration + 1), drop=True)


def _integrations(extraction: Extraction, part: slice, drop: bool) -> Extraction:
    """Select integrations from a stack.

    If `drop` is True, only the first of them is returned, without the axis of integrations.
    """
    columns = {name: values[part] for name, values in extraction.columns.items()}
    if drop:
        columns = {name: values[0] for name, values in columns.items()}
    times = None if extraction.times is None else extraction.times[part]
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
        wavelength, flux, uncertainty and mask of the spectrum. The flux is converted to Jy if
        possible. Rows without a flux have DQ 1, and interpolated values in masked rows are replaced
        by NaN.

    Raises
    ------
    LRSError
        If the spectrum has more than two axes or no wavelengths, or if it is modified and was made
        from a column other than FLUX.
    """
    wave, flux, unit, error, mask = copied_arrays(spectrum, (1, 2))
    header = spectrum_header(spectrum)
    original = spectrum.meta.get("extraction")
    column = spectrum.meta.get("column", "FLUX")
    if not isinstance(original, Extraction) or column not in original.columns:
        return _changed(wave, flux, unit, error, mask, header, None)

    rows = ascending_rows(original.wavelength)
    place = matching_rows(original.wavelength[rows], wave)
    if place is None:
        keep: Any = slice(None)
        origin = None
        if (wave[:1] > wave[-1:]) != (original.wavelength[:1] > original.wavelength[-1:]):
            keep = slice(None, None, -1)
    else:
        index = np.arange(original.wavelength.size)[rows][place]
        keep = np.argsort(index)  # puts the rows into the order of the file
        origin = index[keep]
        kept = _unchanged(original, column, rows, place, (flux, unit, error, mask))
        if kept is not None:
            columns = {name: values[..., origin] for name, values in kept.columns.items()}
            weight = kept.aperture_weight
            return replace(
                kept,
                columns=columns,
                header=header,
                aperture_weight=None if weight is None else weight[origin],
            )
    if column != "FLUX":
        raise LRSError(
            f"the spectrum was made from the column {column} and changed since, expected FLUX, as "
            "no other column can replace the flux of an x1d"
        )
    wave, flux = wave[keep], flux[..., keep]
    error = None if error is None else error[..., keep]
    mask = None if mask is None else mask[..., keep]
    if origin is not None:
        wave = original.wavelength[origin]  # avoids the rounding errors of unit conversions
        extracted = original.columns[column][..., origin]
        if mask is not None and extracted.shape == flux.shape:
            filled = mask & original.mask[..., origin]  # rows with interpolated values
            flux[filled] = np.nan
            if error is not None:
                error[filled] = np.nan
    return _changed(wave, flux, unit, error, mask, header, original)


def copied_arrays(
    spectrum: Spectrum, dimensions: tuple[int, ...]
) -> tuple[
    NDArray[np.float64],
    NDArray[Any],
    u.UnitBase,
    NDArray[Any] | None,
    NDArray[np.bool_] | None,
]:
    """Return copies of wavelength in micron, flux, unit, error and mask.

    The last axis of flux, error and mask is the spectral axis. Error and mask may be None.
    """
    flux = spectrum.flux
    if flux.ndim not in dimensions:
        raise LRSError(
            f"the spectrum has {flux.ndim} axes, "
            f"expected {' or '.join(map(str, dimensions))}, the wavelength one of them"
        )
    axis = spectrum.spectral_axis_index
    try:
        if spectrum.spectral_axis.unit == u.um:
            wave = np.array(spectrum.spectral_axis.value, dtype=float)
        else:
            wave = np.array(u.Quantity(spectrum.spectral_axis).to_value(u.um, u.spectral()))
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
    return wave, np.array(np.moveaxis(flux.value, axis, -1)), flux.unit, error, mask


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
    """Return the indices of wavelengths `wave` in the ascending array `known`.

    Returns None if a wavelength is not in `known`.
    """
    if wave.size == 0 or not np.isfinite(wave).all():
        return None
    if wave[0] > wave[-1]:
        place = matching_rows(known, wave[::-1])
        return None if place is None else place[::-1]
    place = np.searchsorted(known, wave * (1.0 - _SAME))
    # If several rows have equal wavelengths, they are matched in order.
    _, first, times = np.unique(place, return_index=True, return_counts=True)
    place = place + np.arange(wave.size) - np.repeat(first, times)
    if (place >= known.size).any() or (np.abs(known[place] - wave) > _SAME * known[place]).any():
        return None
    return place


def _unchanged(
    original: Extraction,
    column: str,
    rows: slice | NDArray[np.intp],
    place: NDArray[np.intp],
    values: tuple[NDArray[Any], u.UnitBase, NDArray[Any] | None, NDArray[np.bool_] | None],
) -> Extraction | None:
    """Return the original extraction if the values of the spectrum are unmodified, else None.

    If the spectrum has only some of the integrations, only these are returned.
    """
    flux, unit, error, mask = values
    if unit != parsed_unit(original.units.get(column, "")):
        return None
    for fill in ("interpolate", "nan"):
        _, *given = spectrum_arrays(original, column, fill, rows)
        parts = [None if values is None else values[..., place] for values in given]
        known, known_error, known_mask = parts
        found = original
        if known.shape != flux.shape:  # type: ignore[union-attr]
            part = _which_integrations(known, flux)  # type: ignore[arg-type]
            if part is None:
                continue
            known, known_error, known_mask = (
                None if values is None else values[part].reshape(flux.shape)
                for values in (known, known_error, known_mask)
            )
            found = _integrations(original, part, drop=flux.ndim == 1)
        if known_mask is not None and not known_mask.any():
            known_mask = None
        pairs = ((flux, known), (error, known_error), (mask, known_mask))
        if all(equal_values(one, other) for one, other in pairs):
            return found
    return None


def _which_integrations(known: NDArray[Any], flux: NDArray[Any]) -> slice | None:
    """Return the range of consecutive integrations in a stack that have the given fluxes.

    Returns None if there is no such range, or more than one.
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
    """Return whether two arrays are equal (with NaN equal to NaN), or both are None."""
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and bool(
        np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    )


def _changed(
    wave: NDArray[np.float64],
    flux: NDArray[Any],
    unit: u.UnitBase,
    error: NDArray[Any] | None,
    mask: NDArray[np.bool_] | None,
    header: fits.Header,
    original: Extraction | None,
) -> Extraction:
    """Make an extraction from the values of a modified spectrum.

    Times, header cards and provenance are copied from the original extraction if there is one.
    """
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
    columns: dict[str, NDArray[Any]] = {"FLUX": np.asarray(flux, dtype=float)}
    if error is not None:
        columns["FLUX_ERROR"] = np.asarray(error, dtype=float)
    bad = ~np.isfinite(flux)
    if mask is not None:
        bad |= mask
    columns["WAVELENGTH"] = np.broadcast_to(wave, flux.shape)
    columns["DQ"] = bad.astype(np.uint32)
    # The pipeline's spelling of units differs from astropy's.
    text = {u.MJy / u.sr: "MJy/sr", u.DN / u.s: "DN/s"}.get(unit)
    text = unit.to_string() if text is None else text
    made = Extraction(
        columns={key: columns[key] for key in COLUMNS if key in columns},
        units={"WAVELENGTH": "um"}
        | {key: text for key in ("FLUX", "FLUX_ERROR") if text and key in columns},
        header=header,
    )
    if original is None:
        return made
    provenance = original.provenance
    if provenance is not None:
        stored = dict(provenance)
        provenance = Provenance.from_dict(
            stored | {"notes": [*(stored.get("notes") or []), _CHANGED]}
        )
    times = original.times
    fits_times = times is not None and flux.ndim == 2 and len(times) == len(flux)
    return replace(
        made,
        keywords_source=original.keywords_source,
        provenance=provenance,
        times=times if fits_times else None,
        int_times=original.int_times if fits_times else None,
    )
