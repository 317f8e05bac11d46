"""x1d and x1dints files: reading what any pipeline version wrote, writing what today's reads."""

from __future__ import annotations

import io
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from glue_lrs.errors import ProductError
from glue_lrs.instrument import SLITLESS
from glue_lrs.io.files import opened
from glue_lrs.io.x1d_layout import (
    EXTENSION,
    STRUCTURE,
    TIME_COLUMNS,
    TIMES_AFTER,
    TIMES_BEFORE,
    without_structure,
)
from glue_lrs.spectra.columns import COLUMNS, column_units
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.provenance import Provenance

if TYPE_CHECKING:
    from glue_lrs.io.files import Source

__all__ = ["read_single", "read_x1d"]

#: What columns were called before pipeline 1.3.
_OLD_NAMES = {"ERROR": "FLUX_ERROR", "BERROR": "BKGD_ERROR"}

#: How units were spelled then.
_OLD_UNITS = {"(MJy/sr)^2": "MJy^2 / sr^2"}


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
        primary = without_structure(header)
        provenance = _provenance(hdulist, label)
        int_times = _int_times(hdulist)
        made: list[Extraction] = []
        for hdu in tables:
            columns, units, times = _read_table(hdu, label)
            keywords = {
                card.keyword: card.value
                for card in hdu.header.cards
                if card.keyword and not STRUCTURE.fullmatch(card.keyword)
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
            for name in TIME_COLUMNS:
                if name in names:
                    times[name] = np.array(data[names[name]])
                    times[name] = times[name].astype(times[name].dtype.newbyteorder("="))
                    times[name].unit = (TIMES_BEFORE | TIMES_AFTER)[name][1]
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
    for name, (form, unit) in (TIMES_BEFORE | TIMES_AFTER).items():
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
    from glue_lrs.spectra.from_specutils import single

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
        if name not in TIME_COLUMNS
        and all(name in cards and cards[name] == value for cards in keywords)
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
