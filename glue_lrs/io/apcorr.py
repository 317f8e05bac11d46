"""APCORR references of MIRI LRS as FITS files."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from typing import Any

import numpy as np
from astropy.io import fits, registry

from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.errors import CorrectionError, WriteError
from glue_lrs.io.files import Source, atomic_write, opened

__all__ = ["read_apcorr", "register", "write_apcorr"]

#: Columns of the table of MIRI LRS that are used; those of other modes have others.
_COLUMNS = ("subarray", "wavelength", "nelem_wl", "size", "nelem_size", "apcorr")
#: Columns that tell the mode whose table it is.
_OTHERS = {
    "pixphase": "of NIRSpec",
    "grating": "of NIRSpec",
    "pupil": "of NIRCam or NIRISS",
    "eefraction": "of imaging",
    "radius": "of an integral field unit",
}


def read_apcorr(path: Source, subarray: str = "FULL") -> ApertureCorrection:
    """Read the row of an APCORR reference that belongs to a SUBARRAY.

    Parameters
    ----------
    path : str, path-like, file object or `~astropy.io.fits.HDUList`
        An APCORR reference of MIRI LRS.
    subarray : str
        SUBARRAY, such as ``"FULL"`` or ``"SLITLESSPRISM"``; upper and lower case do not matter.

    Returns
    -------
    ApertureCorrection
        Factors over wavelength in micron and aperture size in pixels, cut to the numbers of
        elements that the row tells.

    Raises
    ------
    CorrectionError
        If the file is not an APCORR reference of MIRI LRS, its sizes are not in pixels, or none or
        several of its rows match.
    """
    if not isinstance(subarray, str):
        raise CorrectionError(f"subarray is {subarray!r}, expected a word such as 'FULL'")
    with opened(path, CorrectionError) as (hdulist, label):
        hdu = _table(hdulist, label)
        unit = str(hdu.header.get("SIZEUNIT", "pixels")).strip().lower()
        if unit not in ("pixel", "pixels", "pix", ""):
            raise CorrectionError(f"{label}: SIZEUNIT is {unit!r}, expected 'pixels'")
        try:
            data = hdu.data
            names = [str(name).strip() for name in data["subarray"]]
        except (OSError, ValueError, TypeError) as error:  # truncated, or columns that do not fit
            raise CorrectionError(f"{label}: the table APCORR cannot be read: {error}") from None
        rows = [i for i, name in enumerate(names) if name.upper() == subarray.strip().upper()]
        if len(rows) != 1:
            found = "no row" if not rows else f"{len(rows)} rows"
            raise CorrectionError(
                f"{label}: found {found} for SUBARRAY {subarray}, expected one; there are "
                f"{', '.join(names) or 'none'}"
            )
        row = data[rows[0]]
        wavelength, size, factor = (
            np.array(row[name], dtype=float) for name in ("wavelength", "size", "apcorr")
        )
        counts = int(row["nelem_wl"]), int(row["nelem_size"])
    if wavelength.ndim != 1 or size.ndim != 1 or factor.ndim != 2:
        raise CorrectionError(
            f"{label}: WAVELENGTH, SIZE and APCORR have {wavelength.ndim}, {size.ndim} and "
            f"{factor.ndim} axes, expected 1, 1 and 2"
        )
    for name, count, lengths in (
        ("NELEM_WL", counts[0], (wavelength.size, factor.shape[0])),
        ("NELEM_SIZE", counts[1], (size.size, factor.shape[1])),
    ):
        if not 2 <= count <= min(lengths):
            raise CorrectionError(f"{label}: {name} is {count}, expected 2 to {min(lengths)}")
    return ApertureCorrection(
        wavelength=wavelength[: counts[0]],
        size=size[: counts[1]],
        factor=factor[: counts[0], : counts[1]],
        subarray=names[rows[0]],
        filename=label if isinstance(path, str | PathLike) else None,
    )


def _table(hdulist: fits.HDUList, label: str) -> Any:
    """The extension APCORR, after a look at whether it is one of MIRI LRS."""
    expected = "expected an APCORR reference of MIRI LRS"
    header = hdulist[0].header
    instrument = str(header.get("INSTRUME", "MIRI")).strip().upper()
    if instrument != "MIRI":
        raise CorrectionError(f"{label}: INSTRUME is {instrument}, {expected}")
    kind = str(header.get("REFTYPE", "APCORR")).strip().upper()
    if kind != "APCORR":
        raise CorrectionError(f"{label}: REFTYPE is {kind}, {expected}")
    if "APCORR" not in hdulist:
        there = ", ".join(hdu.name for hdu in hdulist[1:]) or "none"
        raise CorrectionError(f"{label}: has no extension APCORR (there are: {there}), {expected}")
    hdu = hdulist["APCORR"]
    if not isinstance(hdu, fits.BinTableHDU):
        raise CorrectionError(f"{label}: APCORR is not a table, {expected}")
    names = [name.lower() for name in hdu.columns.names]
    other = next((mode for name, mode in _OTHERS.items() if name in names), None)
    if other is not None:
        raise CorrectionError(f"{label}: the table is one {other}, {expected}")
    missing = [name.upper() for name in _COLUMNS if name not in names]
    if missing:
        raise CorrectionError(f"{label}: has no column {', '.join(missing)}, {expected}")
    return hdu


def write_apcorr(
    corrections: ApertureCorrection | Sequence[ApertureCorrection],
    path: str | PathLike[str],
    overwrite: bool = False,
) -> None:
    """Write an APCORR reference that the pipeline takes by ``override_apcorr``.

    Parameters
    ----------
    corrections : ApertureCorrection or sequence of them
        One for each SUBARRAY.
    path : str or path-like
        The file to write.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    CorrectionError
        If there is none, two are for the same SUBARRAY, or sizes are not whole numbers of pixels
        from 0 to 255, as the file's format has them.
    WriteError
        If the file exists or cannot be written.

    Notes
    -----
    The format has wavelengths and factors in single precision.
    """
    label = fspath(path)
    tables = [corrections] if isinstance(corrections, ApertureCorrection) else list(corrections)
    if not tables:
        raise CorrectionError(f"{label}: no aperture correction was given, expected at least one")
    names = [table.subarray.upper() for table in tables]
    for name in names:
        if names.count(name) > 1:
            raise CorrectionError(f"{label}: two corrections are for SUBARRAY {name}, expected one")
        if not 0 < len(name) <= 17 or not name.isascii():
            raise CorrectionError(f"{label}: SUBARRAY is {name!r}, expected 1 to 17 characters")
    number = max(table.wavelength.size for table in tables)
    widest = max(table.size.size for table in tables)
    if max(number, widest) > np.iinfo(np.int16).max:
        raise CorrectionError(f"{label}: the table has more than 32767 rows or columns")
    dtype = np.dtype(
        [
            ("subarray", "S17"),
            ("wavelength", "f4", (number,)),
            ("nelem_wl", "i2"),
            ("size", "u1", (widest,)),
            ("nelem_size", "i2"),
            ("apcorr", "f4", (number, widest)),
            ("apcorr_err", "f4", (number, widest)),
        ]
    )
    data = np.zeros(len(tables), dtype)
    for row, table in zip(data, tables, strict=True):
        waves, sizes = table.wavelength.size, table.size.size
        if (table.size != np.round(table.size)).any() or table.size[0] < 0 or table.size[-1] > 255:
            raise CorrectionError(
                f"{label}: SIZE goes from {table.size[0]:g} to {table.size[-1]:g}, expected whole "
                "numbers of pixels from 0 to 255"
            )
        row["subarray"], row["nelem_wl"], row["nelem_size"] = table.subarray, waves, sizes
        row["wavelength"][:waves] = table.wavelength
        row["size"][:sizes] = table.size
        row["apcorr"][:waves, :sizes] = table.factor
        if not (np.diff(row["wavelength"][:waves]) > 0).all():
            raise CorrectionError(f"{label}: wavelengths coincide in single precision")
        if not np.isfinite(row["apcorr"]).all():
            raise CorrectionError(f"{label}: a factor is too large for single precision")
    primary = fits.PrimaryHDU()
    primary.header.update(
        {
            "TELESCOP": "JWST",
            "INSTRUME": "MIRI",
            "REFTYPE": "APCORR",
            "DATAMODL": "MirLrsApcorrModel",
            "EXP_TYPE": "MIR_LRS-FIXEDSLIT" if "FULL" in names else "MIR_LRS-SLITLESS",
            "P_EXP_TY": "MIR_LRS-FIXEDSLIT|MIR_LRS-SLITLESS|",
            "PEDIGREE": "SIMULATION",
            "AUTHOR": "glue_lrs",
            "DESCRIP": "Aperture correction written by glue_lrs",
            "USEAFTER": "2022-01-01T00:00:00",
        }
    )
    table_hdu = fits.BinTableHDU(data, name="APCORR")
    table_hdu.header["SIZEUNIT"] = "pixels"
    with atomic_write(path, overwrite) as temporary:
        try:
            fits.HDUList([primary, table_hdu]).writeto(temporary)
        except OSError as error:
            raise WriteError(f"{label}: cannot be written: {error.strerror or error}") from None


def register() -> None:
    """Register the format ``apcorr`` of `ApertureCorrection`."""
    registry.register_reader("apcorr", ApertureCorrection, read_apcorr, force=True)
