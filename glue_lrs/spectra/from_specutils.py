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

__all__ = [
    "equal_values",
    "matching_rows",
    "own_arrays",
    "single",
    "spectrum_header",
    "spectrum_to_extraction",
]

#: Wavelengths that differ by less than this fraction are the same row; rows are 1e-3 apart, and the
#: way to another unit and back costs 1e-15.
_SAME = 1e-10

#: What the provenance says of a spectrum that was changed.
_CHANGED = (
    "the spectrum was changed after the extraction; columns that no longer belong are left out"
)


def single(extraction: Extraction, integration: int) -> Extraction:
    """One spectrum of a stack, with its row of the times.

    Parameters
    ----------
    extraction : Extraction
        A stack.
    integration : int
        Which of its integrations, from 0.

    Returns
    -------
    Extraction
        Columns of shape (n_wave,); the same memory.
    """
    return _integrations(extraction, slice(integration, integration + 1), drop=True)


def _integrations(extraction: Extraction, part: slice, drop: bool) -> Extraction:
    columns = {name: values[part] for name, values in extraction.columns.items()}
    if drop:
        columns = {name: values[0] for name, values in columns.items()}
    times = None if extraction.times is None else extraction.times[part]
    return replace(extraction, columns=columns, times=times)


# --- back: what may be written --------------------------------------------------------------------


def spectrum_to_extraction(spectrum: Spectrum) -> Extraction:
    """Make the columns of an x1d table from a spectrum.

    Parameters
    ----------
    spectrum : `~specutils.Spectrum`
        Flux of shape (n_wave,) or (integration, n_wave).

    Returns
    -------
    Extraction
        All columns that the spectrum was made from, for the rows that it has, where it is still as
        it was made. Otherwise WAVELENGTH, FLUX, FLUX_ERROR and DQ, from the spectrum's own flux (in
        Jy where its unit can be converted, else in its own), uncertainty and mask. Rows without
        flux have DQ 1, and masked rows whose value had only been interpolated are NaN again.

    Raises
    ------
    LRSError
        If it is not a spectrum of one or two axes over a wavelength, or has been made from a column
        that is not a flux and was changed.
    """
    wave, flux, unit, error, mask = own_arrays(spectrum, (1, 2))
    header = spectrum_header(spectrum)
    remembered = spectrum.meta.get("extraction")
    column = spectrum.meta.get("column", "FLUX")
    if not isinstance(remembered, Extraction) or column not in remembered.columns:
        return _changed(wave, flux, unit, error, mask, header, None)

    rows = ascending_rows(remembered.wavelength)
    place = matching_rows(remembered.wavelength[rows], wave)
    if place is None:
        keep: Any = slice(None)
        origin = None
        if (wave[:1] > wave[-1:]) != (remembered.wavelength[:1] > remembered.wavelength[-1:]):
            keep = slice(None, None, -1)
    else:
        index = np.arange(remembered.wavelength.size)[rows][place]
        keep = np.argsort(index)  # to the file's order
        origin = index[keep]
        kept = _unchanged(remembered, column, rows, place, (flux, unit, error, mask))
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
            "nothing else can take the place of the flux in an x1d"
        )
    wave, flux = wave[keep], flux[..., keep]
    error = None if error is None else error[..., keep]
    mask = None if mask is None else mask[..., keep]
    if origin is not None:
        wave = remembered.wavelength[origin]  # the same to rounding
        own = remembered.columns[column][..., origin]
        if mask is not None and own.shape == flux.shape:
            made_up = mask & remembered.mask[..., origin]  # was filled, not measured
            flux[made_up] = np.nan
            if error is not None:
                error[made_up] = np.nan
    return _changed(wave, flux, unit, error, mask, header, remembered)


def own_arrays(
    spectrum: Spectrum, dimensions: tuple[int, ...]
) -> tuple[
    NDArray[np.float64],
    NDArray[Any],
    u.UnitBase,
    NDArray[Any] | None,
    NDArray[np.bool_] | None,
]:
    """Copies of wavelength in micron, flux, unit, error and mask; the spectral axis last."""
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
            f"the spectral axis is in {spectrum.spectral_axis.unit}, expected something that "
            "corresponds to a wavelength"
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
    header = spectrum.meta.get("header")
    if header is None:
        return fits.Header()
    return header if isinstance(header, fits.Header) else fits.Header(header)


def matching_rows(known: NDArray[np.float64], wave: NDArray[np.float64]) -> NDArray[np.intp] | None:
    """Which of the known, ascending wavelengths the given ones are; None if any is another one."""
    if wave.size == 0 or not np.isfinite(wave).all():
        return None
    if wave[0] > wave[-1]:
        place = matching_rows(known, wave[::-1])
        return None if place is None else place[::-1]
    place = np.searchsorted(known, wave * (1.0 - _SAME))
    # Rows of one and the same wavelength come in the order that they have.
    _, first, times = np.unique(place, return_index=True, return_counts=True)
    place = place + np.arange(wave.size) - np.repeat(first, times)
    if (place >= known.size).any() or (np.abs(known[place] - wave) > _SAME * known[place]).any():
        return None
    return place


def _unchanged(
    remembered: Extraction,
    column: str,
    rows: slice | NDArray[np.intp],
    place: NDArray[np.intp],
    own: tuple[NDArray[Any], u.UnitBase, NDArray[Any] | None, NDArray[np.bool_] | None],
) -> Extraction | None:
    """The extraction, or those integrations, whose numbers a spectrum still has; else None."""
    flux, unit, error, mask = own
    if unit != parsed_unit(remembered.units.get(column, "")):
        return None
    for fill in ("interpolate", "nan"):
        _, *given = spectrum_arrays(remembered, column, fill, rows)
        parts = [None if values is None else values[..., place] for values in given]
        known, known_error, known_mask = parts
        found = remembered
        if known.shape != flux.shape:  # type: ignore[union-attr]
            part = _which_integrations(known, flux)  # type: ignore[arg-type]
            if part is None:
                continue
            known, known_error, known_mask = (
                None if values is None else values[part].reshape(flux.shape)
                for values in (known, known_error, known_mask)
            )
            found = _integrations(remembered, part, drop=flux.ndim == 1)
        if known_mask is not None and not known_mask.any():
            known_mask = None
        pairs = ((flux, known), (error, known_error), (mask, known_mask))
        if all(equal_values(one, other) for one, other in pairs):
            return found
    return None


def _which_integrations(known: NDArray[Any], flux: NDArray[Any]) -> slice | None:
    """Where in a stack the first of the given integrations is, with as many as there are given."""
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
    return places[0] if len(places) == 1 else None  # of equal ones nobody knows which it was


def equal_values(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
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
    remembered: Extraction | None,
) -> Extraction:
    """The spectrum's own columns."""
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
            f"the flux is in {unit.to_string() or 'no unit'}, expected something that converts to "
            "Jy, or DN/s, as an x1d holds a flux"
        )
    columns: dict[str, NDArray[Any]] = {"FLUX": np.asarray(flux, dtype=float)}
    if error is not None:
        columns["FLUX_ERROR"] = np.asarray(error, dtype=float)
    bad = ~np.isfinite(flux)
    if mask is not None:
        bad |= mask
    columns["WAVELENGTH"] = np.broadcast_to(wave, flux.shape)
    columns["DQ"] = bad.astype(np.uint32)
    text = {u.MJy / u.sr: "MJy/sr", u.DN / u.s: "DN/s"}.get(unit)  # as the pipeline spells them
    text = unit.to_string() if text is None else text
    made = Extraction(
        columns={key: columns[key] for key in COLUMNS if key in columns},
        units={"WAVELENGTH": "um"}
        | {key: text for key in ("FLUX", "FLUX_ERROR") if text and key in columns},
        header=header,
    )
    if remembered is None:
        return made
    provenance = remembered.provenance
    if provenance is not None:
        stored = dict(provenance)
        provenance = Provenance.from_dict(
            stored | {"notes": [*(stored.get("notes") or []), _CHANGED]}
        )
    times = remembered.times
    fits_times = times is not None and flux.ndim == 2 and len(times) == len(flux)
    return replace(
        made,
        keywords_source=remembered.keywords_source,
        provenance=provenance,
        times=times if fits_times else None,
        int_times=remembered.int_times if fits_times else None,
    )
