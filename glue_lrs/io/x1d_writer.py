"""Writer of x1d and x1dints files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import coordinates
from astropy import units as u
from astropy.io import fits
from astropy.modeling.models import Const1D, Tabular1D
from astropy.modeling.models import Mapping as AxisMapping
from gwcs import WCS, coordinate_frames
from numpy.typing import NDArray

from glue_lrs.io.files import asdf_hdu, atomic_write
from glue_lrs.io.headers import current_date, set_card, without_structure
from glue_lrs.io.provenance import PROVENANCE_KEY, provenance_tree
from glue_lrs.io.x1d_layout import (
    CARD_COMMENTS,
    CRDS_NAME,
    EXTENSION,
    INT_TIMES,
    REFERENCE_CARDS,
    TIME_COLUMNS,
    TIMES_AFTER,
    TIMES_BEFORE,
)
from glue_lrs.spectra.columns import COLUMNS, column_units

if TYPE_CHECKING:
    from glue_lrs.spectra.extraction import Extraction
    from glue_lrs.spectra.provenance import Provenance


def write_x1d(
    extraction: Extraction,
    path: str | os.PathLike[str],
    overwrite: bool = False,
    all_columns: bool = False,
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
        Whether to write also the columns of an x1d that the extraction does not have, filled with
        NaN. The data models of the pipeline cannot open a table without these columns; specutils
        and this package can.

    Raises
    ------
    WriteError
        If the file exists or cannot be written.

    Notes
    -----
    The data models of the pipeline identify the columns of a table with an unsigned column *by
    position*. In a table that lacks columns, they would silently read DQ as a variance. In such a
    table DQ is therefore written as a signed integer, so that the data models compare the names of
    the columns and raise an error.
    """
    if all_columns:
        extraction = _with_all_columns(extraction)
    with atomic_write(path, overwrite) as temporary:
        hdulist = fits.HDUList(
            [_primary_hdu(extraction, Path(path).name), *_table_hdus(extraction)]
        )
        hdulist.append(asdf_hdu(_tree(extraction)))
        hdulist.writeto(temporary, output_verify="silentfix")


def _with_all_columns(extraction: Extraction) -> Extraction:
    shape = extraction.columns["WAVELENGTH"].shape
    calibrated = "DN" not in extraction.units.get("FLUX", "")
    columns = {
        name: extraction.columns[name] if name in extraction.columns else np.full(shape, np.nan)
        for name in COLUMNS
    }
    return replace(extraction, columns=columns, units=column_units(calibrated) | extraction.units)


def _primary_hdu(extraction: Extraction, filename: str) -> fits.PrimaryHDU:
    header = without_structure(extraction.header)
    stack = extraction.is_stack
    if not extraction.keywords_source:  # header merged by specutils' JWST reader
        for name in CARD_COMMENTS:
            if name != "DETECTOR":
                header.remove(name, ignore_missing=True)
    set_card(header, "DATE", current_date(), "UTC date file created")
    set_card(header, "FILENAME", filename, "Name of the file")
    model = "TSOMultiSpecModel" if stack else "MultiSpecModel"
    set_card(header, "DATAMODL", model, "Type of data model")
    if extraction.provenance is not None or "EXP_TYPE" in header:
        set_card(header, "S_EXTR1D", "COMPLETE", "1-D Spectral Extraction")
    for key, (card, comment) in REFERENCE_CARDS.items():
        if extraction.provenance is not None:
            set_card(header, card, _reference_name(extraction.provenance, key), comment)
    return fits.PrimaryHDU(header=header)


def _reference_name(provenance: Provenance, key: str) -> str:
    """Return the name of a reference file in the form that the pipeline writes to the header."""
    record = (provenance["references"] or {}).get(key)
    name = record.get("filename") if isinstance(record, Mapping) else record
    if not name:
        return "N/A"
    name = str(name).replace("\\", "/").rsplit("/", 1)[-1]
    return f"crds://{name}" if CRDS_NAME.fullmatch(name) else name


def _table_hdus(extraction: Extraction) -> list[fits.BinTableHDU]:
    stack = extraction.is_stack
    columns = {name: extraction.columns[name] for name in COLUMNS if name in extraction.columns}
    complete = len(columns) == len(COLUMNS)
    shape = columns["WAVELENGTH"].shape
    table_columns = []
    if stack:
        table_columns += [_time_column(extraction, name) for name in TIMES_BEFORE]
    for name, values in columns.items():
        form = "D"
        options: dict[str, Any] = {}
        if name == "DQ":
            form = "J"
            if complete:
                options["bzero"] = 1 << 31  # FITS stores unsigned integers with this offset
            else:
                values = values.astype(np.uint32).view(np.int32)
        if stack:
            form = f"{shape[1]}{form}"
            options["dim"] = f"({shape[1]})"
        unit = extraction.units.get(name)
        table_columns.append(
            fits.Column(name=name, format=form, unit=unit, array=values, **options)
        )
    if stack:
        length = np.full(shape[0], shape[1], dtype=np.uint32 if complete else np.int32)
        options = {"bzero": 1 << 31} if complete else {}
        table_columns.append(fits.Column(name="N_ALONGDISP", format="J", array=length, **options))
        table_columns += [_time_column(extraction, name) for name in TIMES_AFTER]
    table = fits.BinTableHDU.from_columns(table_columns, name=EXTENSION)
    table.ver = 1
    for name, value in _keywords(extraction).items():
        set_card(table.header, name, value, CARD_COMMENTS.get(name, ""))
    int_times = extraction.int_times if stack else None
    if int_times is None or any(name not in int_times.colnames for name in INT_TIMES):
        return [table]  # the pipeline does not open an incomplete INT_TIMES
    times_columns = [
        fits.Column(name=name, format=form, array=np.asarray(int_times[name]))
        for name, form in INT_TIMES.items()
    ]
    times = fits.BinTableHDU.from_columns(times_columns, name="INT_TIMES")
    times.ver = 1
    return [times, table]


def _time_column(extraction: Extraction, name: str) -> fits.Column:
    """Make the column INT_NUM, SEGMENT or a time column, with a value for each integration."""
    form, unit = (TIMES_BEFORE | TIMES_AFTER)[name]
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
    """Return the cards of the extension, including the times of a single integration."""
    cards = dict(extraction.keywords)
    if not cards:
        cards = {
            name: extraction.header[name] for name in CARD_COMMENTS if name in extraction.header
        }
    for name in TIME_COLUMNS:
        cards.pop(name, None)
    if not extraction.is_stack and extraction.times is not None and len(extraction.times) == 1:
        for name in CARD_COMMENTS:
            if name in extraction.times.colnames:
                value = extraction.times[name][0].item()
                if np.isfinite(value):  # cards cannot hold NaN
                    cards[name] = value
    return {
        name: value
        for name, value in cards.items()
        if value is not None and not (isinstance(value, float) and not np.isfinite(value))
    }


def _tree(extraction: Extraction) -> dict[str, Any]:
    """Make the ASDF tree: the WCS, which the pipeline requires, and the provenance."""
    keywords = extraction.keywords or extraction.header
    header = extraction.header
    right_ascension = keywords.get("SLIT_RA", header.get("TARG_RA", 0.0))
    declination = keywords.get("SLIT_DEC", header.get("TARG_DEC", 0.0))
    wcs = spectral_wcs(float(right_ascension), float(declination), extraction.wavelength)
    tree: dict[str, Any] = {"spec": [{"meta": {"wcs": wcs}}]}
    if extraction.provenance is not None:
        names = {key: _reference_name(extraction.provenance, key) for key in REFERENCE_CARDS}
        tree["meta"] = {"ref_file": {key: {"name": name} for key, name in names.items()}}
        tree[PROVENANCE_KEY] = provenance_tree(extraction.provenance)
    return tree


def spectral_wcs(ra: float, dec: float, wavelength: NDArray[np.float64]) -> WCS:
    """Make a WCS that transforms the row number of a spectrum to sky position and wavelength.

    Parameters
    ----------
    ra, dec : float
        Right ascension and declination (ICRS) in degrees, the same for all rows.
    wavelength : ndarray
        Wavelength of each row in micron, shape (n_wave,).
    """
    detector = coordinate_frames.CoordinateFrame(
        naxes=1, axes_type=("SPATIAL",), axes_order=(0,), unit=(u.pix,), name="pixel_frame"
    )
    sky = coordinate_frames.CelestialFrame(
        name="sky", axes_order=(0, 1), reference_frame=coordinates.ICRS()
    )
    spectral = coordinate_frames.SpectralFrame(
        name="spectral", axes_order=(2,), unit=(u.micron,), axes_names=("wavelength",)
    )
    world = coordinate_frames.CompositeFrame([sky, spectral], name="world")
    row = np.arange(wavelength.size, dtype=float)
    # Copy the array: the model keeps a reference to it, and of a view, asdf would write the whole
    # base array.
    wave = np.array(wavelength, dtype=float)
    table = Tabular1D(points=row, lookup_table=wave, bounds_error=False, fill_value=None)
    transform = AxisMapping((0, 0, 0)) | Const1D(ra) & Const1D(dec) & table
    transform.name = "pixel_to_world"
    step = np.diff(wave)
    if wave.size > 1 and ((step > 0).all() or (step < 0).all()):
        turn = slice(None) if step[0] > 0 else slice(None, None, -1)
        transform.inverse = AxisMapping((2,)) | Tabular1D(
            points=wave[turn].copy(), lookup_table=row[turn].copy(), bounds_error=False
        )
    return WCS([(detector, transform), (world, None)])
