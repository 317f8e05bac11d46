"""Reader for x1d and x1dints files from all pipeline versions."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from glue_lrs.errors import LRSWarning, ProductError, listed, warn
from glue_lrs.instrument import SLITLESS
from glue_lrs.io import tables
from glue_lrs.io.files import native, opened, reading
from glue_lrs.io.headers import check_exp_type, without_structure
from glue_lrs.io.plausibility import check_spectrum
from glue_lrs.io.provenance import stored_provenance
from glue_lrs.io.x1d_layout import EXTENSION, TIME_COLUMNS
from glue_lrs.spectra.columns import COLUMNS, NOD_VARIANCE, OPTIONAL_COLUMNS, column_units
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.from_specutils import integrations
from glue_lrs.spectra.provenance import Provenance
from glue_lrs.spectra.segments import (
    complete_times,
    has_times,
    integration_numbers,
    join_segments,
    spans,
)
from glue_lrs.spectra.times import DRIFT, TIMES, matching_times

if TYPE_CHECKING:
    from glue_lrs.io.files import Source

#: Columns with one value for each integration, and their units.
_ROW_COLUMNS = {name: unit for name, (_, unit) in (*TIME_COLUMNS.items(), *DRIFT.items())}

#: Names that columns had before pipeline version 1.3, and their current names.
_OLD_NAMES = {"ERROR": "FLUX_ERROR", "BERROR": "BKGD_ERROR"}


def read_x1d(source: Source) -> list[Extraction]:
    """Read the spectra from an x1d or x1dints file.

    Parameters
    ----------
    source : str, path-like, file object or `~astropy.io.fits.HDUList`
        A MIRI LRS file, written by any version of the pipeline or this package. Columns in other
        units than those of the pipeline are converted.

    Returns
    -------
    list of Extraction
        For an x1d, a spectrum for each EXTRACT1D extension. For an x1dints, one stack of all
        integrations or, if their wavelengths differ, a spectrum for each integration. All layouts
        of an x1dints can be read: a table with vector columns, one such table for each segment of
        the exposure (level 3), and the older layout with one extension per integration. Values are
        not changed, so that rows without flux have the error 0 that the pipeline writes. Times that
        the tables lack are those of INT_TIMES.

    Raises
    ------
    ProductError
        If the file is not an x1d or x1dints, is damaged, or its wavelengths cannot be those of a
        spectrum.

    Warns
    -----
    LRSWarning
        If fluxes, errors or wavelengths are not plausible, if integrations are missing between
        segments, or if INT_TIMES has times for some of the integrations only.
    """
    with opened(source) as (hdulist, label):
        header = hdulist[0].header
        check_exp_type(header)
        primary = without_structure(header)
        stored = stored_provenance(hdulist, label)
        provenance = None if stored is None else Provenance.from_dict(stored)
        int_times = _int_times(hdulist)
        spectra: list[Extraction] = []
        notes: list[LRSWarning] = []
        for hdu in tables.named(hdulist, EXTENSION, f"an x1d with an {EXTENSION} extension"):
            columns, units, times = _read_table(hdu)
            cards = without_structure(hdu.header).cards
            keywords = {card.keyword: card.value for card in cards if card.keyword}
            if columns["WAVELENGTH"].ndim == 1 and "INT_NUM" in keywords:
                times = _times_from_cards([keywords])
            notes += check_spectrum(columns)
            extraction = Extraction(
                columns=columns,
                units=units,
                header=primary,
                keywords_source=keywords,
                times=times,
                int_times=int_times,
                provenance=provenance,
                filename=label,
            )
            spectra.extend(_split_by_wavelength(extraction))
        spectra = _stacked(spectra)
        if len(spectra) > 1 and all(one.is_stack for one in spectra):
            with contextlib.suppress(ProductError), reading():  # they may be no segments
                joined, gaps = join_segments(spectra, _table_names(spectra), label)
                spectra, notes = [joined], notes + gaps
        if len(spectra) == 1 and spectra[0].is_stack:
            spectra = [_with_int_times(spectra[0], notes)]
    for note in notes:
        warn(note.about(label))
    return spectra


def read_single(source: Source | Sequence[Source]) -> Extraction:
    """Read a file that holds a single spectrum or stack of spectra, or the files of a time series.

    Parameters
    ----------
    source : str, path-like, file object, `~astropy.io.fits.HDUList`, or a list of these
        An x1d or x1dints file, as in `read_x1d`, or the x1dints files of the segments of an
        exposure in any order.

    Returns
    -------
    Extraction
        The spectrum or stack. Segments form one stack, as in
        `glue_lrs.spectra.segments.join_segments`.

    Raises
    ------
    ProductError
        If a file holds several spectra that are no time series, if several files are not those of
        the segments of an exposure, or if `read_x1d` raises an error.

    Warns
    -----
    LRSWarning
        If integrations are missing between the segments, or the segments were not extracted alike.
    """
    if not is_sequence(source):
        spectra = read_x1d(source)
        if len(spectra) == 1:
            return spectra[0]
        raise ProductError(
            f"has {len(spectra)} spectra, {_difference(spectra)}, expected one; read them with "
            "specutils.SpectrumList.read",
            subject=spectra[0].filename,
        )
    if not source:
        raise ProductError("there are no files, expected at least one")
    spectra = [read_single(one) for one in source]
    if len(spectra) == 1:
        return spectra[0]
    with reading():
        joined, notes = join_segments(spectra, [str(one.filename) for one in spectra])
    for note in notes:
        warn(note.about(joined.filename))
    return joined


def is_sequence(source: object) -> TypeGuard[Sequence[Source]]:
    """Return whether an object is a sequence of sources (an HDU list is a single source)."""
    return isinstance(source, list | tuple) and not isinstance(source, fits.HDUList)


def _difference(spectra: Sequence[Extraction]) -> str:
    """Return the reason why several spectra of a file are not one stack."""
    if all(one.is_stack for one in spectra):
        try:
            with reading():
                join_segments(spectra, _table_names(spectra))
        except ProductError as error:
            return f"which are not one time series ({error})"
    return "each with its own wavelengths"


def _table_names(spectra: Sequence[Extraction]) -> list[str]:
    """Return a name for each table of a file, such as "x_x1dints.fits, table 1", for messages."""
    return [f"{one.filename}, table {number}" for number, one in enumerate(spectra, start=1)]


def _read_table(
    hdu: fits.BinTableHDU,
) -> tuple[dict[str, NDArray[Any]], dict[str, str], Table | None]:
    """Return columns and units by current names, and the times of a stack, else None."""
    names = {_OLD_NAMES.get(name.upper(), name.upper()): name for name in hdu.columns.names}
    if "WAVELENGTH" not in names or "FLUX" not in names:
        found = listed(hdu.columns.names) or "none"
        raise ProductError(
            f"the table {EXTENSION} has the columns {found}, expected WAVELENGTH, FLUX "
            "and others of an x1d"
        )
    data = hdu.data
    if len(data) == 0 or data[names["WAVELENGTH"]].size == 0:
        raise ProductError(f"the table {EXTENSION} has no rows")
    units = column_units("DN" not in str(hdu.columns[names["FLUX"]].unit))
    units[NOD_VARIANCE] = units["FLUX_VAR_RNOISE"]
    known = (*COLUMNS, *OPTIONAL_COLUMNS)
    stored_names = {name: names[name] for name in known if name in names}
    columns = tables.read_columns(hdu, stored_names, units)
    times = None
    if columns["WAVELENGTH"].ndim == 2:
        stored = {name: native(data[names[name]]) for name in _ROW_COLUMNS if name in names}
        odd = next((name for name, values in stored.items() if values.ndim != 1), None)
        if odd is not None:
            raise ProductError(f"{odd} has the shape {stored[odd].shape}, expected ({len(data)},)")
        text = next(
            (name for name, values in stored.items() if values.dtype.kind not in "iuf"), None
        )
        if text is not None:
            raise ProductError(f"{text} is of type {stored[text].dtype}, expected numbers")
        times = _times_table(stored)
        if "N_ALONGDISP" in names:  # values after the first N_ALONGDISP are padding
            length = int(np.max(data[names["N_ALONGDISP"]]))
            columns = {name: values[..., :length] for name, values in columns.items()}
    shape = columns["WAVELENGTH"].shape
    name = next((name for name in columns if columns[name].shape != shape), "WAVELENGTH")
    if columns[name].shape != shape or len(shape) > 2 or shape[-1] == 0:
        raise ProductError(
            f"{name} has the shape {columns[name].shape}, expected that of a spectrum or a stack"
        )
    if "DQ" not in columns:
        columns["DQ"] = np.zeros(shape, dtype=np.uint32)
    columns = {name: columns[name] for name in known if name in columns}
    return columns, {name: units[name] for name in columns if name in units}, times


def _times_table(columns: dict[str, NDArray[Any]]) -> Table:
    return Table(columns, units={name: _ROW_COLUMNS[name] for name in columns})


def _times_from_cards(keywords: list[dict[str, Any]]) -> Table:
    """Make a table of times from the cards in the extensions of the integrations."""
    columns = {"INT_NUM": np.array([cards["INT_NUM"] for cards in keywords], dtype=np.int32)}
    for name, (form, _) in TIME_COLUMNS.items():
        if form == "D":
            columns[name] = np.array([cards.get(name, np.nan) for cards in keywords], dtype=float)
    return _times_table(columns)


def _split_by_wavelength(extraction: Extraction) -> list[Extraction]:
    """Split a stack into spectra if its integrations have different wavelengths."""
    wave = extraction.columns["WAVELENGTH"]
    if wave.ndim == 1 or np.array_equal(wave, np.broadcast_to(wave[0], wave.shape), equal_nan=True):
        return [extraction]
    return integrations(extraction)


def _stacked(spectra: list[Extraction]) -> list[Extraction]:
    """Join the spectra from an x1dints in the older layout to a stack.

    The spectra from other files are returned unchanged.
    """
    if len(spectra) < 2 or any(one.is_stack for one in spectra):
        return spectra
    first = spectra[0]
    numbered = all("INT_NUM" in one.keywords for one in spectra)
    if not numbered and first.header.get("EXP_TYPE") != SLITLESS:
        return spectra
    if not all(
        list(one.columns) == list(first.columns)
        and np.array_equal(one.wavelength, first.wavelength, equal_nan=True)
        for one in spectra
    ):
        return spectra
    keywords = [one.keywords for one in spectra]
    common = {
        name: value
        for name, value in first.keywords.items()
        if name not in TIME_COLUMNS
        and all(name in cards and cards[name] == value for cards in keywords)
    }
    if numbered:
        times = _times_from_cards(keywords)
    else:
        times = Table({"INT_NUM": np.arange(1, len(spectra) + 1, dtype=np.int32)})
    columns = {name: np.stack([one.columns[name] for one in spectra]) for name in first.columns}
    return [replace(first, columns=columns, keywords_source=common, times=times)]


def _with_int_times(extraction: Extraction, notes: list[LRSWarning]) -> Extraction:
    """Add the times from INT_TIMES to the integrations of a stack that have none.

    The pipeline uses the table only if it has rows for all integrations that the header names.
    """
    int_times = extraction.int_times
    if int_times is None or "integration_number" not in int_times.colnames:
        return extraction
    without = ~has_times(extraction)
    numbers = integration_numbers(extraction)
    try:
        with reading("INT_TIMES"):
            found = matching_times(numbers, int_times)
    except ProductError as error:  # the spectra themselves are intact
        notes.append(LRSWarning(f"{error.text}; the times of the integrations are unknown"))
        return extraction
    known = np.any([np.isfinite(found[name]) for name in TIMES.values()], axis=0)
    if not (without & known).any():
        return extraction
    lacking = numbers[without & ~known]
    if lacking.size:
        notes.append(
            LRSWarning(
                f"INT_TIMES has times for {known.sum()} of {known.size} integrations; those of "
                f"{spans(lacking)} are NaN"
            )
        )
    times = complete_times(extraction, numbers)
    for name, source in TIMES.items():
        times[name][without] = found[source][without]
    return replace(extraction, times=times)


def _int_times(hdulist: fits.HDUList) -> Table | None:
    """Return the INT_TIMES table, which may have no rows, or None if the file has none."""
    if "INT_TIMES" not in hdulist or not hdulist["INT_TIMES"].header.get("TFIELDS"):
        return None
    hdu = hdulist["INT_TIMES"]
    columns = {name: native(hdu.data[name]) for name in hdu.columns.names}
    return Table(columns, units=dict(zip(columns, hdu.columns.units, strict=True)))
