"""Spectra in text files: export of LRS spectra, and tables with named columns of other programs."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.io import ascii as ascii_tables
from astropy.nddata import StdDevUncertainty
from astropy.table import QTable, Table
from specutils import Spectrum

from glue_lrs.errors import Hint, ProductError, listed, naming, quoted
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.io.files import atomic_write, one_line
from glue_lrs.io.spectra import read_combined
from glue_lrs.io.x1d_reader import read_single
from glue_lrs.spectra.from_specutils import spectrum_to_extraction

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Bools, Floats
    from glue_lrs.spectra.extraction import Extraction

#: Formats that are written, named like the suffixes of the files, and their names in astropy.
FORMATS = {"ecsv": "ascii.ecsv", "csv": "ascii.csv", "txt": "ascii.commented_header"}

#: Suffixes of text files with spectra.
_SUFFIXES = (*FORMATS, "asc", "dat", "mrt", "tbl", "tsv")

#: Names of the columns of a spectrum, in lower case and without units, blanks and punctuation.
_NAMES = {
    "wavelength": ("wavelength", "wave", "lambda", "lam", "wl"),
    "flux": ("flux", "fluxdensity", "fnu", "flam", "flambda"),
    "error": (
        "fluxerror", "fluxerr", "fluxuncertainty", "fluxunc", "eflux", "error", "err",
        "uncertainty", "unc", "sigma",
    ),
    "dq": ("dq",),
    "integration": ("intnum",),
}  # fmt: skip

#: Unit at the end of the name of a column, such as "flux [mJy]" or "wave(um)".
_UNIT = re.compile(r"\s*[\[(](?P<unit>[^\])]+)[\])]\s*$")


def is_text(path: str) -> bool:
    """Return whether the suffix of a file is that of a text file with a table."""
    return Path(path).suffix.lower().removeprefix(".") in _SUFFIXES


# --- export ------------------------------------------------------------------------------------


def export_spectrum(
    source: str, path: str | os.PathLike[str], form: str, overwrite: bool = False
) -> None:
    """Write the columns of an x1d, x1dints or c1d file to a text file.

    A stack has one row for each integration and wavelength. ECSV contains units, header and
    provenance. In the other formats, the unit is part of the name of the column: ``FLUX[Jy]``.

    Parameters
    ----------
    source : str
        An x1d, x1dints or c1d file.
    path : str or path-like
        Path of the text file.
    form : {"ecsv", "csv", "txt"}
        Format: ECSV, comma-separated values, or columns separated by blanks below a line of names
        that starts with ``#``.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    LRSError
        If the file cannot be read, or holds several spectra with different wavelengths.
    WriteError
        If the text file exists or cannot be written.
    """
    combined = read_combined(source)
    table = _long(read_single(source).table if combined is None else combined.table)
    if form != "ecsv":
        table = _with_units_in_names(table)
    with atomic_write(path, overwrite) as temporary:
        table.write(temporary, format=FORMATS[form])


def _long(table: QTable) -> QTable:
    """Return the table of a stack with a row for each integration and wavelength."""
    shape = table["WAVELENGTH"].shape
    if len(shape) == 1:
        return table
    columns = {
        name: column.reshape(-1) if column.ndim == 2 else np.repeat(column, shape[1])
        for name, column in table.items()
    }
    return QTable(columns, meta=table.meta)


def _with_units_in_names(table: QTable) -> Table:
    columns = {}
    for name, column in table.items():
        unit = "" if column.unit is None else f"[{column.unit.to_string().replace(' ', '')}]"
        columns[f"{name}{unit}"] = getattr(column, "value", column)
    return Table(columns)


# --- reading -----------------------------------------------------------------------------------


def read_text(path: str, units: tuple[str, str] | None = None) -> Extraction:
    """Read a spectrum from a text file with named columns, in any format that astropy recognises.

    The names of the columns are those that are common for wavelength (or frequency, or wave number,
    according to the unit), flux density and its 1-sigma error: ``wave``, ``flux``, ``flux_err``,
    and so on. Text files from `export_spectrum` can be read, including stacks.

    Parameters
    ----------
    path : str
        Path of the text file.
    units : (str, str), optional
        Units of wavelength and flux if the file has none: neither in the format (ECSV, MRT, IPAC)
        nor in the name of the column (``flux [mJy]``).

    Returns
    -------
    Extraction
        Columns WAVELENGTH in micron, FLUX and FLUX_ERROR in Jy (or DN/s), and DQ, whose bit 0 is
        set in rows without flux.

    Raises
    ------
    LRSError
        If the file is not such a table, has no unit, or the unit is not that of a flux density.
    """
    with naming(path):
        table = _read_table(path)
        names = _find_columns(table)
        wave_unit, flux_unit = units or (None, None)
        wave = _quantity(table, names["wavelength"], wave_unit, u.um, u.spectral())
        flux = _quantity(table, names["flux"], flux_unit)
        error = None
        if "error" in names:
            error = _quantity(table, names["error"], flux.unit.to_string(), flux.unit)
        bad = np.isnan(flux.value)
        if "dq" in names:
            flags = np.nan_to_num(_values(table, names["dq"])).astype(np.int64)
            bad |= (flags & DO_NOT_USE) != 0
        if wave.ndim == 1 and "integration" in names:
            count = len(set(table[names["integration"]]))
            wave, flux, bad = (_stacked(values, count) for values in (wave, flux, bad))
            error = None if error is None else _stacked(error, count)
        if wave.ndim == 2:
            first = np.broadcast_to(wave[0], wave.shape, subok=True)
            if not np.array_equal(wave, first, equal_nan=True):
                raise ProductError("the integrations have different wavelengths, expected the same")
            wave = wave[0]
        return replace(_extraction(wave, flux, error, bad), filename=path)


def _read_table(path: str) -> Table:
    """Read a text file with a table, whose format is guessed."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ProductError(f"cannot be read, {one_line(error)}") from error
    except UnicodeDecodeError as error:
        raise ProductError("is not a text file in UTF-8") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ascii_tables.read(lines)
    except Exception as error:  # the parsers of the formats may raise any error
        raise ProductError(
            "is not a table with named columns, such as 'wave' and 'flux'"
        ) from error


def _find_columns(table: Table) -> dict[str, str]:
    """Return the name of the column in the table for each key of `_NAMES` that is found.

    Raises
    ------
    ProductError
        If there is no column for the wavelength or the flux.
    """
    found = {}
    for content, known in _NAMES.items():
        plain = {re.sub(r"[\W_]", "", _UNIT.sub("", name).lower()): name for name in table.colnames}
        name = next((plain[one] for one in known if one in plain), None)
        if name is not None:
            found[content] = name
        elif content in ("wavelength", "flux"):
            names = listed(table.colnames)
            expected = f"expected a name such as {content!r}"
            raise ProductError(f"has no column for the {content}, found {names}, {expected}")
    return found


def _quantity(
    table: Table,
    name: str,
    default: str | None,
    wanted: u.UnitBase | None = None,
    equivalencies: Sequence[Any] = (),
) -> u.Quantity:
    """Return a column in the unit `wanted`, or if this is None, in its own. Masked values are NaN.

    Its own unit is the one that the file format gives, else the one in the column name, else
    `default`.
    """
    in_name = _UNIT.search(name)
    unit = table[name].unit or (in_name and in_name["unit"]) or default
    if unit is None:
        raise ProductError(
            f"the column {quoted(name)} has no unit, expected a name such as "
            f"{quoted(f'{name}[UNIT]')}",
            hint=Hint.to("{} sets it", "units"),
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about units with several slashes
        parsed = u.Unit(unit, parse_strict="silent")
    if isinstance(parsed, u.UnrecognizedUnit):
        raise ProductError(
            f"the column {quoted(name)} is in {listed([str(unit)])}, expected a unit such as um "
            "or mJy"
        )
    try:
        quantity = u.Quantity(_values(table, name), parsed)
        return quantity if wanted is None else quantity.to(wanted, list(equivalencies))
    except (TypeError, ValueError) as error:
        raise ProductError(
            f"the column {quoted(name)} cannot be used, {one_line(error)}"
        ) from error


def _values(table: Table, name: str) -> Floats:
    """Return a column as numbers, with NaN in masked rows."""
    try:
        return np.ma.filled(np.ma.asarray(table[name], dtype=float), np.nan)
    except (TypeError, ValueError) as error:
        raise ProductError(
            f"the column {quoted(name)} cannot be used, {one_line(error)}"
        ) from error


def _stacked(values: u.Quantity, count: int) -> u.Quantity:
    """Return the values of each integration as a row of an array."""
    if len(values) % count:
        raise ProductError(f"has {len(values)} rows, expected the same number in each integration")
    return values.reshape(count, -1)


def _extraction(
    wave: u.Quantity, flux: u.Quantity, error: u.Quantity | None, bad: Bools
) -> Extraction:
    """Make an extraction, in micron and Jy, from the values that have a wavelength."""
    order = np.argsort(wave)
    order = order[np.isfinite(wave[order])]
    if order.size < 2 or (np.diff(wave[order]) == 0).any():
        raise ProductError(
            "has repeated or fewer than two wavelengths, expected a different one in each row"
        )
    if wave[order[0]] <= 0:
        raise ProductError("has wavelengths that are not positive, expected positive ones")
    spectrum = Spectrum(
        flux=flux[..., order],
        spectral_axis=wave[order],
        spectral_axis_index=flux.ndim - 1,
        uncertainty=None if error is None else StdDevUncertainty(error[..., order]),
        mask=bad[..., order],
    )
    return spectrum_to_extraction(spectrum)
