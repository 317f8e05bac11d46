"""x1d and x1dints files: reading what any pipeline version wrote, writing what today's reads."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits, registry
from astropy.table import Table
from numpy.typing import NDArray

from glue_lrs.errors import ProductError
from glue_lrs.extraction import COLUMNS, Extraction, Provenance, column_units
from glue_lrs.image import SLITLESS
from glue_lrs.io._files import Source, asdf_hdu, atomic_write, opened

__all__ = ["read_single", "read_x1d", "register", "write_x1d"]

#: The extension that holds a spectrum.
EXTENSION = "EXTRACT1D"

#: What columns were called before pipeline 1.3.
_OLD_NAMES = {"ERROR": "FLUX_ERROR", "BERROR": "BKGD_ERROR"}
#: How units were spelled then.
_OLD_UNITS = {"(MJy/sr)^2": "MJy^2 / sr^2"}

#: Columns of an x1dints besides the 18: name -> (format, unit).
_BEFORE = {"INT_NUM": ("J", None)}
_AFTER = {
    "SEGMENT": ("J", None),
    "MJD-BEG": ("D", "d"),
    "MJD-AVG": ("D", "d"),
    "MJD-END": ("D", "d"),
    "TDB-BEG": ("D", "d"),
    "TDB-MID": ("D", "d"),
    "TDB-END": ("D", "d"),
}
_TIMES = (*_BEFORE, *_AFTER)

#: Columns of INT_TIMES.
_INT_TIMES = {
    "integration_number": "J",
    "int_start_MJD_UTC": "D",
    "int_mid_MJD_UTC": "D",
    "int_end_MJD_UTC": "D",
    "int_start_BJD_TDB": "D",
    "int_mid_BJD_TDB": "D",
    "int_end_BJD_TDB": "D",
}

#: Cards of the EXTRACT1D extension that the pipeline knows, with its comments.
_COMMENTS = {
    "SLTNAME": "Slit name",
    "SLITID": "Slitlet ID",
    "SOURCEID": "Source ID number",
    "SRCNAME": "Source name",
    "SRCALIAS": "Source alias",
    "STLARITY": "Source stellarity",
    "SRCTYPE": "Source type used for calibration",
    "SRCXPOS": "Source position in slit (x-axis)",
    "SRCYPOS": "Source position in slit (y-axis)",
    "SRCRA": "Right Ascension of the source",
    "SRCDEC": "Declination of the source",
    "EXTR_X": "X center of extraction region",
    "EXTR_Y": "Y center of extraction region",
    "EXTRXSTR": "X axis start of extraction region",
    "EXTRXSTP": "X axis end of extraction region",
    "EXTRYSTR": "Y axis start of extraction region",
    "EXTRYSTP": "Y axis end of extraction region",
    "SLIT_RA": "[deg] Right Ascension at middle of slit",
    "SLIT_DEC": "[deg] Declination at middle of slit",
    "SPORDER": "Spectral order number",
    "DISPAXIS": "Dispersion direction",
    "DETECTOR": "Name of detector used to acquire the data",
    "INT_NUM": "Integration number",
    "MJD-BEG": "[d] integration start time in MJD",
    "MJD-AVG": "[d] integration mid-point in MJD",
    "MJD-END": "[d] integration end time in MJD",
    "TDB-BEG": "TDB at start of integration [MJD]",
    "TDB-MID": "TDB at middle of integration [MJD]",
    "TDB-END": "TDB at end of integration [MJD]",
    "PTHLOSS": "Type of pathloss correction applied",
    "S_REGION": "Spatial footprint of the observation",
    "PA_APER": "[deg] Position angle of aperture used",
}

#: Cards that describe a table or the file itself: made anew when it is written.
_STRUCTURE = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|TFIELDS|THEAP|EXTNAME|EXTVER|EXTLEVEL|"
    r"CHECKSUM|DATASUM|(TTYPE|TFORM|TUNIT|TDIM|TNULL|TSCAL|TZERO|TDISP|TBCOL)\d+"
)
#: What the pipeline's calibration reference data system calls its files.
_CRDS_NAME = re.compile(r"jwst_[a-z0-9]+_[a-z0-9-]+_\d{4}\.[a-z]+")


#: Cards that name the references: key of the provenance -> card, comment.
_REFERENCES = {
    "extract1d": ("R_EXTR1D", "1-D extraction parameters reference file name"),
    "apcorr": ("R_APCORR", "Aperture correction reference file name"),
}


# --- reading --------------------------------------------------------------------------------------


def read_x1d(source: Source) -> list[Extraction]:
    """Read the spectra of an x1d or x1dints file.

    Parameters
    ----------
    source : str, path-like, file object or `~astropy.io.fits.HDUList`
        A file of MIRI LRS of any pipeline version from 1.3 on, or one that this package wrote.

    Returns
    -------
    list of Extraction
        One for each EXTRACT1D extension. An x1dints gives a single one, a stack, from both the
        single table with vector columns and the older layout with an extension for each
        integration; if its integrations have different wavelengths there is one for each of them.
        The numbers are the file's: rows without flux have error 0 where the pipeline wrote them.

    Raises
    ------
    ProductError
        If it is no such file.
    """
    with opened(source) as (hdulist, label):
        header = hdulist[0].header
        exp_type = header.get("EXP_TYPE")
        if exp_type is not None and not str(exp_type).startswith("MIR_LRS"):
            raise ProductError(
                f"{label}: EXP_TYPE is {exp_type} ({header.get('INSTRUME', 'no INSTRUME')}), "
                "expected MIR_LRS-FIXEDSLIT or MIR_LRS-SLITLESS"
            )
        tables = [hdu for hdu in hdulist if hdu.name == EXTENSION]
        if not tables:
            found = ", ".join(hdu.name for hdu in hdulist[1:] if hdu.name) or "no extension"
            raise ProductError(
                f"{label}: found {found}, expected an x1d with an {EXTENSION} extension"
            )
        primary = _without_structure(header)
        provenance = _provenance(hdulist, label)
        int_times = _int_times(hdulist)
        made: list[Extraction] = []
        for hdu in tables:
            columns, units, times = _read_table(hdu, label)
            keywords = {
                card.keyword: card.value
                for card in hdu.header.cards
                if card.keyword and not _STRUCTURE.fullmatch(card.keyword)
            }
            if columns["WAVELENGTH"].ndim == 1 and "INT_NUM" in keywords:
                times = _times_of_cards([keywords])
            base = Extraction(
                columns=columns,
                units=units,
                header=primary,
                keywords_source=keywords,
                times=times,
                int_times=int_times,
                provenance=provenance,
                filename=label,
            )
            made.extend(_grids(base))
    return _stacked(made)


def read_single(source: Source) -> Extraction:
    """Read the one spectrum, or the one stack of spectra, of a file.

    Parameters
    ----------
    source : str, path-like, file object or `~astropy.io.fits.HDUList`
        As for `read_x1d`.

    Returns
    -------
    Extraction
        The spectrum.

    Raises
    ------
    ProductError
        If there are several on different wavelengths.
    """
    found = read_x1d(source)
    if len(found) > 1:
        raise ProductError(
            f"{found[0].filename}: has {len(found)} spectra, each with its own wavelengths, "
            "expected one; read them with specutils.SpectrumList.read"
        )
    return found[0]


def _without_structure(header: fits.Header) -> fits.Header:
    """A copy without the cards that a writer makes."""
    return fits.Header(
        [card for card in header.cards if not _STRUCTURE.fullmatch(card.keyword)], copy=True
    )


def _read_table(
    hdu: fits.BinTableHDU, label: str
) -> tuple[dict[str, NDArray[Any]], dict[str, str], Table | None]:
    """Columns under today's names, their units, and times of a single-table x1dints."""
    if not isinstance(hdu, fits.BinTableHDU):
        raise ProductError(f"{label}: {EXTENSION} is an image, expected a table")
    names = {_OLD_NAMES.get(name.upper(), name.upper()): name for name in hdu.columns.names}
    if "WAVELENGTH" not in names or "FLUX" not in names:
        found = ", ".join(hdu.columns.names) or "none"
        raise ProductError(
            f"{label}: the table {EXTENSION} has the columns {found}, expected WAVELENGTH, FLUX "
            "and others of an x1d"
        )
    try:
        data = hdu.data
        if len(data) == 0 or data[names["WAVELENGTH"]].size == 0:
            raise ProductError(f"{label}: the table {EXTENSION} has no rows")
        columns = {
            name: np.array(data[names[name]], dtype=np.uint32 if name == "DQ" else float)
            for name in COLUMNS
            if name in names
        }
        times = None
        length = columns["WAVELENGTH"].shape[-1]
        if columns["WAVELENGTH"].ndim == 2:
            times = Table()
            for name in _TIMES:
                if name in names:
                    times[name] = np.array(data[names[name]])
                    times[name] = times[name].astype(times[name].dtype.newbyteorder("="))
                    times[name].unit = (_BEFORE | _AFTER)[name][1]
            if "N_ALONGDISP" in names:  # rows after that are padding
                length = min(length, int(np.max(data[names["N_ALONGDISP"]])))
            columns = {name: values[:, :length] for name, values in columns.items()}
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise ProductError(f"{label}: the table {EXTENSION} cannot be read, {reason}") from error
    odd = [name for name, values in columns.items() if values.shape != columns["WAVELENGTH"].shape]
    if odd or columns["WAVELENGTH"].ndim > 2 or length == 0:
        raise ProductError(
            f"{label}: {(odd or ['WAVELENGTH'])[0]} has the shape "
            f"{columns[(odd or ['WAVELENGTH'])[0]].shape}, expected that of a spectrum or a stack"
        )
    if "DQ" not in columns:
        columns["DQ"] = np.zeros(columns["WAVELENGTH"].shape, dtype=np.uint32)
    columns = {name: columns[name] for name in COLUMNS if name in columns}
    flux_unit = hdu.columns[names["FLUX"]].unit
    units = column_units(flux_unit is None or "DN" not in str(flux_unit))
    for name in columns:
        unit = hdu.columns[names[name]].unit if name in names else None
        if unit:
            units[name] = _OLD_UNITS.get(unit, unit)
    return columns, {name: unit for name, unit in units.items() if name in columns}, times


def _times_of_cards(keywords: list[dict[str, Any]]) -> Table:
    """The times that extensions of single integrations have as cards."""
    table = Table()
    for name, (form, unit) in (_BEFORE | _AFTER).items():
        if name == "SEGMENT":
            continue
        if form == "J":
            values = np.array([cards[name] for cards in keywords], dtype=np.int32)
        else:
            values = np.array([cards.get(name, np.nan) for cards in keywords], dtype=float)
        table[name] = values
        table[name].unit = unit
    return table


def _grids(extraction: Extraction) -> list[Extraction]:
    """A stack if its integrations have the same wavelengths, else a spectrum for each of them."""
    from glue_lrs.spectrum import single

    wave = extraction.columns["WAVELENGTH"]
    if wave.ndim == 1 or np.array_equal(wave, np.broadcast_to(wave[0], wave.shape), equal_nan=True):
        return [extraction]
    return [single(extraction, index) for index in range(len(wave))]


def _stacked(found: list[Extraction]) -> list[Extraction]:
    """The older layout of x1dints as a stack; all else as it is."""
    if len(found) < 2 or any(one.is_stack for one in found):
        return found
    first = found[0]
    numbered = all("INT_NUM" in one.keywords for one in found)
    if not numbered and first.header.get("EXP_TYPE") != SLITLESS:
        return found
    wave = first.columns["WAVELENGTH"]
    same = all(
        list(one.columns) == list(first.columns)
        and np.array_equal(one.columns["WAVELENGTH"], wave, equal_nan=True)
        for one in found
    )
    if not same:
        return found
    keywords = [one.keywords for one in found]
    common = {
        name: value
        for name, value in first.keywords.items()
        if name not in _TIMES and all(name in cards and cards[name] == value for cards in keywords)
    }
    columns = {name: np.stack([one.columns[name] for one in found]) for name in first.columns}
    if numbered:
        times = _times_of_cards(keywords)
    else:
        times = Table({"INT_NUM": np.arange(1, len(found) + 1, dtype=np.int32)})
    return [
        Extraction(
            columns=columns,
            units=first.units,
            header=first.header,
            keywords_source=common,
            times=times,
            int_times=first.int_times,
            provenance=first.provenance,
            filename=first.filename,
        )
    ]


def _int_times(hdulist: fits.HDUList) -> Table | None:
    if "INT_TIMES" not in hdulist or not hdulist["INT_TIMES"].header.get("NAXIS2"):
        return None
    data = hdulist["INT_TIMES"].data
    table = Table()
    for column in data.columns:
        values = np.array(data[column.name])
        table[column.name] = values.astype(values.dtype.newbyteorder("="))
        table[column.name].unit = column.unit
    return table


def _provenance(hdulist: fits.HDUList, label: str) -> Provenance | None:
    if "ASDF" not in hdulist:
        return None
    raw = hdulist["ASDF"].data["ASDF_METADATA"].tobytes()
    return _StoredProvenance(raw, label) if b"\nglue_lrs:" in raw else None


class _StoredProvenance(Provenance):
    """What a file says of how it was made; parsed when first looked at, as that takes long."""

    def __init__(self, raw: bytes, label: str) -> None:
        super().__init__({})
        self._raw = raw
        self._label = label

    @cached_property
    def _values(self) -> dict[str, Any]:
        from asdf.util import load_yaml

        try:
            stored = load_yaml(io.BytesIO(self._raw))["glue_lrs"]
            return {key: stored.get(key) for key in self._keys}
        except Exception as error:  # whatever a YAML parser stumbles over
            reason = " ".join(str(error).split())
            raise ProductError(
                f"{self._label}: the provenance in the ASDF extension cannot be read, {reason}"
            ) from error

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __repr__(self) -> str:
        return f"<Provenance stored in {self._label}>"


# --- writing --------------------------------------------------------------------------------------


def write_x1d(
    extraction: Extraction,
    path: str | os.PathLike[str],
    overwrite: bool = False,
    all_columns: bool = False,
) -> None:
    """Write a spectrum as an x1d, a stack as an x1dints, in the pipeline's layout.

    Parameters
    ----------
    extraction : Extraction
        The columns.
    path : str or path-like
        The file to write.
    overwrite : bool
        Whether an existing file may be replaced.
    all_columns : bool
        What to do with columns that the extraction does not have. False leaves them out, and such a
        table is for specutils and this package: the pipeline's models refuse it. True
        writes them with NaN, which the pipeline takes.

    Raises
    ------
    WriteError
        If the file exists or cannot be written.

    Notes
    -----
    The pipeline's models take the columns of a table with an unsigned one *by position*, so that
    the DQ of a table that lacks columns would silently become a variance. In such a table DQ is
    therefore written as a signed integer: the models then compare the names, and refuse.
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
    from dataclasses import replace

    shape = extraction.columns["WAVELENGTH"].shape
    calibrated = "DN" not in extraction.units.get("FLUX", "")
    columns = {
        name: extraction.columns[name] if name in extraction.columns else np.full(shape, np.nan)
        for name in COLUMNS
    }
    return replace(extraction, columns=columns, units=column_units(calibrated) | extraction.units)


def _primary_hdu(extraction: Extraction, filename: str) -> fits.PrimaryHDU:
    header = _without_structure(extraction.header)
    stack = extraction.is_stack
    if not extraction.keywords_source:  # a merged header, as specutils' own reader makes
        for name in _COMMENTS:
            if name != "DETECTOR":
                header.remove(name, ignore_missing=True)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")[:-6]
    _set(header, "DATE", now, "UTC date file created")
    _set(header, "FILENAME", filename, "Name of the file")
    model = "TSOMultiSpecModel" if stack else "MultiSpecModel"
    _set(header, "DATAMODL", model, "Type of data model")
    if extraction.provenance is not None or "EXP_TYPE" in header:
        _set(header, "S_EXTR1D", "COMPLETE", "1-D Spectral Extraction")
    for key, (card, comment) in _REFERENCES.items():
        if extraction.provenance is not None:
            _set(header, card, _reference_name(extraction.provenance, key), comment)
    return fits.PrimaryHDU(header=header)


def _set(header: fits.Header, name: str, value: Any, comment: str) -> None:
    """Set a card; a new one goes behind its kin (S_..., R_...), with the comment cut to fit."""
    if isinstance(value, str):
        value = value.encode("ascii", "replace").decode()  # FITS knows no other letters
    room = 80 - len(fits.Card(name, value).image.rstrip()) - len(" / ")
    card = fits.Card(name, value, comment[: max(room, 0)])
    if name in header:
        header[name] = (card.value, card.comment)
        return
    kin = [other for other in header if name[1:2] == "_" and other.startswith(name[:2])]
    header.insert(kin[-1] if kin else len(header), card, after=bool(kin))


def _reference_name(provenance: Provenance, key: str) -> str:
    """Name of a reference as the pipeline's header cards have it."""
    record = (provenance["references"] or {}).get(key)
    name = record.get("filename") if isinstance(record, Mapping) else record
    if not name:
        return "N/A"
    name = str(name).replace("\\", "/").rsplit("/", 1)[-1]
    return f"crds://{name}" if _CRDS_NAME.fullmatch(name) else name


def _table_hdus(extraction: Extraction) -> list[fits.BinTableHDU]:
    stack = extraction.is_stack
    columns = {name: extraction.columns[name] for name in COLUMNS if name in extraction.columns}
    complete = len(columns) == len(COLUMNS)
    shape = columns["WAVELENGTH"].shape
    made = []
    if stack:
        made += [_time_column(extraction, name) for name in _BEFORE]
    for name, values in columns.items():
        form = "D"
        options: dict[str, Any] = {}
        if name == "DQ":
            form = "J"
            if complete:
                options["bzero"] = 1 << 31  # FITS has no unsigned integers
            else:
                values = values.astype(np.uint32).view(np.int32)
        if stack:
            form = f"{shape[1]}{form}"
            options["dim"] = f"({shape[1]})"
        unit = extraction.units.get(name)
        made.append(fits.Column(name=name, format=form, unit=unit, array=values, **options))
    if stack:
        length = np.full(shape[0], shape[1], dtype=np.uint32 if complete else np.int32)
        options = {"bzero": 1 << 31} if complete else {}
        made.append(fits.Column(name="N_ALONGDISP", format="J", array=length, **options))
        made += [_time_column(extraction, name) for name in _AFTER]
    table = fits.BinTableHDU.from_columns(made, name=EXTENSION)
    table.ver = 1
    for name, value in _keywords(extraction).items():
        _set(table.header, name, value, _COMMENTS.get(name, ""))
    int_times = extraction.int_times if stack else None
    if int_times is None or any(name not in int_times.colnames for name in _INT_TIMES):
        return [table]  # the pipeline refuses an INT_TIMES that lacks a column
    made = [
        fits.Column(name=name, format=form, array=np.asarray(int_times[name]))
        for name, form in _INT_TIMES.items()
    ]
    times = fits.BinTableHDU.from_columns(made, name="INT_TIMES")
    times.ver = 1
    return [times, table]


def _time_column(extraction: Extraction, name: str) -> fits.Column:
    """INT_NUM, SEGMENT or a time of each integration."""
    form, unit = (_BEFORE | _AFTER)[name]
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
    """The cards of the extension; those of the time as well where it is a single integration."""
    cards = dict(extraction.keywords)
    if not cards:
        cards = {name: extraction.header[name] for name in _COMMENTS if name in extraction.header}
    for name in _TIMES:
        cards.pop(name, None)
    if not extraction.is_stack and extraction.times is not None and len(extraction.times) == 1:
        for name in _COMMENTS:
            if name in extraction.times.colnames:
                value = extraction.times[name][0].item()
                if np.isfinite(value):  # FITS has no NaN in cards
                    cards[name] = value
    return {
        name: value
        for name, value in cards.items()
        if value is not None and not (isinstance(value, float) and not np.isfinite(value))
    }


def _tree(extraction: Extraction) -> dict[str, Any]:
    """What the ASDF extension holds: the WCS that the pipeline asks for, and the provenance."""
    keywords = extraction.keywords or extraction.header
    header = extraction.header
    right_ascension = keywords.get("SLIT_RA", header.get("TARG_RA", 0.0))
    declination = keywords.get("SLIT_DEC", header.get("TARG_DEC", 0.0))
    wcs = _spectral_wcs(float(right_ascension), float(declination), extraction.wavelength)
    tree: dict[str, Any] = {"spec": [{"meta": {"wcs": wcs}}]}
    if extraction.provenance is not None:
        names = {key: _reference_name(extraction.provenance, key) for key in _REFERENCES}
        tree["meta"] = {"ref_file": {key: {"name": name} for key, name in names.items()}}
        stored = json.dumps(dict(extraction.provenance), default=_plain, ensure_ascii=False)
        # YAML has no words for names of files that are not UTF-8: they are written as \\udc..
        tree["glue_lrs"] = json.loads(
            re.sub("[\ud800-\udfff]", lambda match: rf"\\u{ord(match[0]):04x}", stored)
        )
    return tree


def _plain(value: Any) -> Any:
    """What JSON does not know: numpy's numbers and arrays, paths."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def _spectral_wcs(ra: float, dec: float, wavelength: NDArray[np.float64]) -> Any:
    """A WCS from row number to right ascension, declination (both constant) and wavelength."""
    from astropy import coordinates
    from astropy import units as u
    from astropy.modeling.models import Const1D, Mapping, Tabular1D
    from gwcs import WCS, coordinate_frames

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
    # The model keeps the arrays it is given, and asdf writes the whole of a view's base.
    wave = np.array(wavelength, dtype=float)
    table = Tabular1D(points=row, lookup_table=wave, bounds_error=False, fill_value=None)
    transform = Mapping((0, 0, 0)) | Const1D(ra) & Const1D(dec) & table
    transform.name = "pixel_to_world"
    step = np.diff(wave)
    if wave.size > 1 and ((step > 0).all() or (step < 0).all()):
        turn = slice(None) if step[0] > 0 else slice(None, None, -1)
        transform.inverse = Mapping((2,)) | Tabular1D(
            points=wave[turn].copy(), lookup_table=row[turn].copy(), bounds_error=False
        )
    return WCS([(detector, transform), (world, None)])


# --- the registry ---------------------------------------------------------------------------------


def register() -> None:
    """Register the format ``lrs-x1d`` for `Extraction`."""
    registry.register_writer("lrs-x1d", Extraction, write_x1d, force=True)
    registry.register_reader("lrs-x1d", Extraction, read_single, force=True)
