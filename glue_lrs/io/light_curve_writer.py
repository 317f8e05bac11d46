"""Writer of light curves as ECSV and FITS files, and reader of their provenance."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from glue_lrs.errors import WriteError, naming
from glue_lrs.io.files import asdf_hdu, atomic_write, opened, reading
from glue_lrs.io.headers import product_header, set_card
from glue_lrs.io.provenance import PROVENANCE_KEY, stored_provenance
from glue_lrs.io.tables import write_ecsv
from glue_lrs.spectra.provenance import json_tree

if TYPE_CHECKING:
    from glue_lrs.timeseries.curve import LightCurve

#: Names of the extensions with the light curves, and with the wavelengths of their bands.
EXTENSION, BANDS = "LIGHTCURVE", "BANDS"

#: Suffixes of the files that can be written.
SUFFIXES = (".ecsv", ".fits", ".fits.gz")

#: Value of the card TREFPOS for each place at which the times are given.
_TREFPOS = {"barycentre": "BARYCENTER", "spacecraft": "CUSTOM"}


def write_light_curve(
    curve: LightCurve, path: str | os.PathLike[str], overwrite: bool = False
) -> None:
    """Write light curves to an ECSV or FITS file, as its suffix says.

    Parameters
    ----------
    curve : LightCurve
        Light curves to write.
    path : str or path-like
        Path of the file to write, which ends in .ecsv, .fits or .fits.gz.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    WriteError
        If the file exists or cannot be written, or has another suffix.

    Notes
    -----
    Both formats have the columns of `LightCurve.table`. ECSV files contain its meta, too, and
    ``TimeSeries.read(path)`` returns the same table. In FITS files, times are modified Julian dates
    in double precision, with the scale in TIMESYS; the bands are in the extension BANDS, and the
    provenance is in the extension ASDF.
    """
    if not str(os.fspath(path)).lower().endswith(SUFFIXES):
        raise WriteError(
            f"ends in {Path(path).suffix!r}, expected {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}",
            subject=path,
        )
    if Path(path).suffix.lower() == ".ecsv":
        write_ecsv(curve.table, path, overwrite)
        return
    with atomic_write(path, overwrite) as temporary:
        header = product_header(curve.header, Path(path).name, "LightCurve")
        tables = [_curve_hdu(curve), _bands_hdu(curve)]
        tree = asdf_hdu({PROVENANCE_KEY: json_tree(curve.provenance)})
        hdulist = fits.HDUList([fits.PrimaryHDU(header=header), *tables, tree])
        hdulist.writeto(temporary, output_verify="silentfix")


def read_provenance(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Read the provenance of light curves that `write_light_curve` wrote.

    Parameters
    ----------
    path : str or path-like
        ECSV or FITS file.

    Returns
    -------
    mapping
        Record as in ``LightCurve.provenance``, empty if the file has none.

    Raises
    ------
    LRSError
        If the file cannot be read.
    """
    if str(os.fspath(path)).lower().endswith(".ecsv"):
        with naming(os.fspath(path)), reading("the table"):
            return dict(Table.read(path, format="ascii.ecsv").meta.get(PROVENANCE_KEY) or {})
    with opened(path) as (hdulist, label):
        stored = stored_provenance(hdulist, label, combined=True)
        return {} if stored is None else stored()


def _curve_hdu(curve: LightCurve) -> fits.BinTableHDU:
    """Return the table of the light curves, with the cards of the FITS standard for times."""
    table = curve.table
    columns = [fits.Column(name="time", format="D", unit="d", array=curve.time.mjd)]
    columns += [_column(table, name) for name in table.colnames if name != "time"]
    hdu = fits.BinTableHDU.from_columns(columns, name=EXTENSION, ver=1)
    place = _TREFPOS[curve.reference]
    for card, value, comment in (
        ("TIMESYS", curve.time.scale.upper(), "time scale"),
        ("MJDREF", 0.0, "[d] times are modified Julian dates"),
        ("TIMEUNIT", "d", "unit of times"),
        ("TREFPOS", place, "place of the times"),
        ("TCTYP1", curve.time.scale.upper(), "time scale"),
        ("TRPOS1", place, "place of the times"),
    ):
        set_card(hdu.header, card, value, comment)
    return hdu


def _column(table: Table, name: str) -> fits.Column:
    values = table[name]
    unit = getattr(values, "unit", None)
    if unit is None:
        return fits.Column(name=name, format="J", array=np.asarray(values))
    return fits.Column(name=name, format="D", unit=unit.to_string("fits"), array=values.value)


def _bands_hdu(curve: LightCurve) -> fits.BinTableHDU:
    """Return the table of the bands: column of the flux, wavelengths, elements and noise."""
    bands: list[dict[str, Any]] = curve.table.meta["bands"]
    names = [one["flux"] for one in bands]
    columns = [fits.Column(name="column", format=f"{max(map(len, names))}A", array=names)]
    for name, key, form, unit in (
        ("lower", "lower_um", "D", "um"),
        ("upper", "upper_um", "D", "um"),
        ("elements", "elements", "J", None),
        ("scatter", "scatter", "D", curve.unit),
        ("photon_noise", "photon_noise", "D", curve.unit),
    ):
        values = np.array([np.nan if one[key] is None else one[key] for one in bands])
        columns.append(fits.Column(name=name, format=form, unit=unit, array=values))
    return fits.BinTableHDU.from_columns(columns, name=BANDS, ver=1)
