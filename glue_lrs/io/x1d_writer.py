"""Writer of x1d and x1dints files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from glue_lrs.io import tables
from glue_lrs.io import x1d_layout as layout
from glue_lrs.io.files import asdf_hdu, atomic_write
from glue_lrs.io.headers import product_header, set_card
from glue_lrs.io.image_writer import times_hdu
from glue_lrs.io.provenance import PROVENANCE_KEY
from glue_lrs.spectra.columns import COLUMNS, OPTIONAL_COLUMNS, column_units
from glue_lrs.spectra.provenance import json_tree
from glue_lrs.spectra.times import DRIFT

if TYPE_CHECKING:
    from glue_lrs.spectra.extraction import Extraction
    from glue_lrs.spectra.provenance import Provenance


def write_x1d(
    extraction: Extraction,
    path: str | os.PathLike[str],
    overwrite: bool = False,
    all_columns: bool = True,
) -> None:
    """Write a spectrum as an x1d or a stack as an x1dints, in the layout of the pipeline.

    Parameters
    ----------
    extraction : Extraction
        Spectrum or stack of integrations to write.
    path : str or path-like
        Path of the file to write.
    overwrite : bool
        Whether an existing file may be replaced.
    all_columns : bool
        Whether to write all 18 columns of an x1d, with NaN (0 for DQ) in those that the extraction
        does not have. If False, only the columns of the extraction are written. The data models of
        the pipeline cannot open such a table; specutils and this package can.

    Raises
    ------
    WriteError
        If the file exists or cannot be written.

    Notes
    -----
    If a table has a column of unsigned integers, the data models of the pipeline identify its
    columns *by position*, and would read wrong columns from a table that lacks some, such as DQ as
    a variance. In such a table, DQ is therefore written as signed integers. The data models then
    compare the names of the columns, and raise an error.
    """
    if all_columns:
        extraction = _with_all_columns(extraction)
    with atomic_write(path, overwrite) as temporary:
        primary = _primary_hdu(extraction, Path(path).name)
        hdulist = fits.HDUList([primary, *_table_hdus(extraction), asdf_hdu(_tree(extraction))])
        hdulist.writeto(temporary, output_verify="silentfix")


def _with_all_columns(extraction: Extraction) -> Extraction:
    """Return an extraction with all 18 columns of an x1d; new ones contain NaN, or 0 for DQ."""
    shape = extraction.columns["WAVELENGTH"].shape
    empty: dict[str, NDArray[Any]] = dict.fromkeys(COLUMNS, np.full(shape, np.nan))
    empty["DQ"] = np.zeros(shape, dtype=np.uint32)
    calibrated = "DN" not in extraction.units.get("FLUX", "")
    columns = extraction.columns | {
        name: extraction.columns.get(name, empty[name]) for name in COLUMNS
    }
    return replace(extraction, columns=columns, units=column_units(calibrated) | extraction.units)


def _primary_hdu(extraction: Extraction, filename: str) -> fits.PrimaryHDU:
    model = "TSOMultiSpecModel" if extraction.is_stack else "MultiSpecModel"
    header = product_header(extraction.header, filename, model)
    # A spectrum from specutils' JWST reader has the cards of all extensions in its header; those of
    # EXTRACT1D do not belong in the primary header.
    if not extraction.keywords_source:
        for name in layout.CARD_COMMENTS:
            if name != "DETECTOR":
                header.remove(name, ignore_missing=True)
    if extraction.provenance is not None or "EXP_TYPE" in header:
        set_card(header, "S_EXTR1D", "COMPLETE", "1-D Spectral Extraction")
    if extraction.provenance is not None:
        for key, (card, comment) in layout.REFERENCE_CARDS.items():
            set_card(header, card, _reference_name(extraction.provenance, key), comment)
    return fits.PrimaryHDU(header=header)


def _reference_name(provenance: Provenance, key: str) -> str:
    """Return the name of a reference file for the header, as the pipeline writes it."""
    record = (provenance["references"] or {}).get(key)
    name = record.get("filename") if isinstance(record, Mapping) else record
    if not name:
        return "N/A"
    name = str(name).replace("\\", "/").rsplit("/", 1)[-1]
    return f"crds://{name}" if layout.CRDS_NAME.fullmatch(name) else name


def _table_hdus(extraction: Extraction) -> list[fits.BinTableHDU]:
    """Make the INT_TIMES extension, if the times are known, and the EXTRACT1D extension."""
    columns = {name: extraction.columns[name] for name in COLUMNS if name in extraction.columns}
    complete = len(columns) == len(COLUMNS)
    shape = columns["WAVELENGTH"].shape
    table_columns = [
        tables.value_column(name, values.reshape(shape), extraction.units.get(name), complete)
        for name, values in columns.items()
    ]
    hdus = []
    if extraction.is_stack:
        length = np.full(shape[0], shape[1], dtype=np.uint32)
        first, *others = (_time_column(extraction, name) for name in layout.TIME_COLUMNS)
        lengths = tables.value_column("N_ALONGDISP", length, unsigned=complete)
        table_columns = [first, *table_columns, lengths, *others]
        times = extraction.int_times
        # The pipeline cannot open files in which INT_TIMES lacks columns.
        if times is not None and set(layout.INT_TIMES) <= set(times.colnames):
            hdus.append(times_hdu(times[list(layout.INT_TIMES)]))
    table_columns += [
        tables.value_column(
            name, extraction.columns[name], extraction.units.get(name), unsigned=complete
        )
        for name in OPTIONAL_COLUMNS
        if name in extraction.columns
    ]
    if extraction.is_stack and extraction.times is not None:
        table_columns += [
            fits.Column(name=name, format="D", unit=unit, array=np.asarray(extraction.times[name]))
            for name, (_, unit) in DRIFT.items()
            if name in extraction.times.colnames
        ]
    return [*hdus, tables.new_table(table_columns, layout.EXTENSION, _keywords(extraction))]


def _time_column(extraction: Extraction, name: str) -> fits.Column:
    """Make a column of `TIME_COLUMNS`, which has a value for each integration."""
    form, unit = layout.TIME_COLUMNS[name]
    number = len(extraction.columns["WAVELENGTH"])
    values: NDArray[Any]
    if extraction.times is not None and name in extraction.times.colnames:
        values = np.asarray(extraction.times[name])
    elif name == "INT_NUM":
        values = np.arange(1, number + 1, dtype=np.int32)
    elif name == "SEGMENT":
        values = np.full(number, extraction.header.get("EXSEGNUM", 1), dtype=np.int32)
    else:
        values = np.full(number, np.nan)
    return fits.Column(name=name, format=form, unit=unit, array=values)


def _keywords(extraction: Extraction) -> dict[str, Any]:
    """Return the cards of the EXTRACT1D extension.

    For a single integration, the times are cards rather than columns.
    """
    cards, times = extraction.keywords, extraction.times
    if not cards:
        header = extraction.header
        cards = {name: header[name] for name in layout.CARD_COMMENTS if name in header}
    cards = {name: value for name, value in cards.items() if name not in layout.TIME_COLUMNS}
    if not extraction.is_stack and times is not None and len(times) == 1:
        names = [name for name in layout.CARD_COMMENTS if name in times.colnames]
        cards |= {name: times[name][0].item() for name in names}
    return cards


def _tree(extraction: Extraction) -> dict[str, Any]:
    """Make the ASDF tree with the WCS, which the pipeline requires, and the provenance."""
    keywords = extraction.keywords or extraction.header
    ra, dec = (
        float(keywords.get(f"SLIT_{name}", extraction.header.get(f"TARG_{name}", 0.0)))
        for name in ("RA", "DEC")
    )
    wcs = tables.spectral_wcs(ra, dec, extraction.wavelength)
    tree: dict[str, Any] = {"spec": [{"meta": {"wcs": wcs}}]}
    if extraction.provenance is not None:
        provenance = extraction.provenance
        files = {key: {"name": _reference_name(provenance, key)} for key in layout.REFERENCE_CARDS}
        tree["meta"] = {"ref_file": files}
        tree[PROVENANCE_KEY] = json_tree(extraction.provenance)
    return tree
