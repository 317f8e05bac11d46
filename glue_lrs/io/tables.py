"""Functions that the readers and writers of tables in x1d, c1d and ECSV files share."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
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

from glue_lrs.errors import ProductError, WriteError, listed, quoted
from glue_lrs.io.files import atomic_write
from glue_lrs.io.headers import set_card
from glue_lrs.io.x1d_layout import CARD_COMMENTS
from glue_lrs.spectra.columns import FLAGS

if TYPE_CHECKING:
    from astropy.table import Table

#: Spelling of units before pipeline version 1.3, and their current spelling.
_OLD_UNITS = {"(MJy/sr)^2": "MJy^2 / sr^2"}

#: Offset with which FITS stores unsigned integers of 32 bits.
_UNSIGNED = 1 << 31


# --- reading --------------------------------------------------------------------------------------


def named(
    hdulist: fits.HDUList, name: str, expected: str, single: bool = False
) -> list[fits.BinTableHDU]:
    """Return the table extensions with a given name.

    Parameters
    ----------
    hdulist : `~astropy.io.fits.HDUList`
        Open FITS file.
    name : str
        Name of the extensions.
    expected : str
        Description of the expected file for the error message.
    single : bool
        Whether only one extension may have the name.

    Raises
    ------
    ProductError
        If there is no extension with this name, if there are several although `single` is True, or
        if an extension is not a table.
    """
    tables = [hdu for hdu in hdulist if hdu.name == name]
    if not tables or (single and len(tables) > 1):
        found = listed(hdu.name for hdu in hdulist[1:] if hdu.name) or "no extension"
        raise ProductError(f"found {found}, expected {expected}")
    if not all(isinstance(hdu, fits.BinTableHDU) for hdu in tables):
        raise ProductError(f"{name} is an image, expected a table")
    return tables


def write_ecsv(table: Table, path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Write a table of astropy to an ECSV file.

    Parameters
    ----------
    table : `~astropy.table.Table`
        Table to write.
    path : str or path-like
        Path of the file to write, which ends in .ecsv.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    WriteError
        If the file exists or cannot be written, or has another suffix.
    """
    if Path(path).suffix.lower() != ".ecsv":
        raise WriteError(f"ends in {Path(path).suffix!r}, expected .ecsv", subject=path)
    with atomic_write(path, overwrite) as temporary:
        table.write(temporary, format="ascii.ecsv")


def read_columns(
    hdu: fits.BinTableHDU, names: Mapping[str, str], units: Mapping[str, str]
) -> dict[str, NDArray[Any]]:
    """Read columns of a table, flags as unsigned integers and the others in double precision.

    Parameters
    ----------
    hdu : `~astropy.io.fits.BinTableHDU`
        Table.
    names : mapping
        Columns to read: the keys are the names in the returned dict, and the values are the names
        in the table.
    units : mapping
        Units to which the columns are converted from those in the header (TUNIT). A column whose
        header states no unit must be in this unit. Other columns must have no unit.

    Raises
    ------
    ProductError
        If a unit cannot be converted.
    """
    data = hdu.data
    columns = {
        name: np.array(data[stored], dtype=np.uint32 if name in FLAGS else float)
        for name, stored in names.items()
    }
    for name, stored in names.items():
        factor = _unit_factor(name, hdu.columns[stored].unit, units.get(name))
        if factor != 1.0:
            columns[name] *= factor
    return columns


def _unit_factor(name: str, stated: str | None, expected: str | None) -> float:
    """Return the factor that converts a column from the stated to the expected unit."""
    if not stated or stated == expected or expected is None:
        return 1.0
    unit = u.Unit(_OLD_UNITS.get(stated, stated), parse_strict="silent")
    if not unit.is_equivalent(expected):
        raise ProductError(f"{name} is in {quoted(stated)}, expected {expected!r} (TUNIT)")
    return float(unit.to(expected))


# --- writing --------------------------------------------------------------------------------------


def value_column(
    name: str, values: NDArray[Any], unit: str | None = None, unsigned: bool = True
) -> fits.Column:
    """Make a column: 32-bit integers for flags and N_ALONGDISP, double precision for other names.

    Parameters
    ----------
    name : str
        Name of the column.
    values : ndarray
        Values, shape (n_wave,), or (integration, n_wave) for the vector columns of a stack.
    unit : str, optional
        Unit of the column.
    unsigned : bool
        Whether integers are stored as unsigned integers.
    """
    form = "D"
    options: dict[str, Any] = {}
    if name in (*FLAGS, "N_ALONGDISP"):
        form = "J"
        if unsigned:
            options["bzero"] = _UNSIGNED
        else:
            values = values.astype(np.uint32).view(np.int32)
    if values.ndim == 2:
        form, options["dim"] = f"{values.shape[1]}{form}", f"({values.shape[1]})"
    return fits.Column(name=name, format=form, unit=unit, array=values, **options)


def new_table(
    columns: Sequence[fits.Column], name: str, cards: Mapping[str, Any]
) -> fits.BinTableHDU:
    """Make a table extension with header cards. Cards whose value is None or NaN are omitted."""
    table = fits.BinTableHDU.from_columns(columns, name=name, ver=1)
    for card, value in cards.items():
        if value is not None and not (isinstance(value, float) and not np.isfinite(value)):
            set_card(table.header, card, value, CARD_COMMENTS.get(card, ""))
    return table


def spectral_wcs(ra: float, dec: float, wavelength: NDArray[np.float64]) -> WCS:
    """Make a WCS that converts the row number in a spectrum to sky position and wavelength.

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
    # The array must be copied, because the model keeps a reference to it and because asdf writes
    # the complete base array of a view.
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
