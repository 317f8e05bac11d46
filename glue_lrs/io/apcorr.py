"""Reader and writer of APCORR reference files for MIRI LRS in FITS format."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.errors import CorrectionError, listed, quoted, warn
from glue_lrs.instrument import FIXED_SLIT, SLITLESS
from glue_lrs.io.files import Source, atomic_write, opened
from glue_lrs.io.headers import check_names, check_reference, reference_header
from glue_lrs.io.plausibility import check_factors

#: Required columns of the table.
_COLUMNS = ("subarray", "wavelength", "nelem_wl", "size", "nelem_size", "apcorr")
#: Columns that occur only in APCORR references for other instruments or modes, by lower-case name.
#: The values describe these instruments or modes in messages.
_OTHER_MODES = {
    "pixphase": "NIRSpec",
    "grating": "NIRSpec",
    "pupil": "NIRCam or NIRISS",
    "eefraction": "imaging",
    "radius": "an integral field unit",
}


def read_apcorr(path: Source, subarray: str = "FULL") -> ApertureCorrection:
    """Read the aperture correction for a SUBARRAY from an APCORR reference file.

    Parameters
    ----------
    path : str, path-like, file object or `~astropy.io.fits.HDUList`
        APCORR reference file for MIRI LRS.
    subarray : str
        SUBARRAY, such as ``"FULL"`` or ``"SLITLESSPRISM"``. Case is ignored.

    Returns
    -------
    ApertureCorrection
        Correction factors as a function of wavelength in micron and aperture size in pixels. Only
        the first NELEM_WL wavelengths and NELEM_SIZE sizes are used, because the rest is padding.

    Raises
    ------
    CorrectionError
        If the file is not an APCORR reference file for MIRI LRS, its sizes are not in pixels, the
        table has no row or several rows for this SUBARRAY, or a factor is not plausible.

    Warns
    -----
    LRSWarning
        If a factor is unusual.
    """
    if not isinstance(subarray, str):
        raise CorrectionError(f"subarray is {quoted(subarray)}, expected a word such as 'FULL'")
    with opened(path, CorrectionError) as (hdulist, label):
        hdu = _table(hdulist)
        unit = str(hdu.header.get("SIZEUNIT", "pixels")).strip().lower()
        if unit not in ("pixel", "pixels", "pix", ""):
            raise CorrectionError(f"SIZEUNIT is {quoted(unit)}, expected 'pixels'")
        names = [str(name).strip() for name in hdu.data["subarray"]]
        rows = [i for i, name in enumerate(names) if name.upper() == subarray.strip().upper()]
        if len(rows) != 1:
            found = "no row" if not rows else f"{len(rows)} rows"
            raise CorrectionError(
                f"found {found} for SUBARRAY {subarray}, expected one; there are "
                f"{listed(names) or 'none'}"
            )
        row = hdu.data[rows[0]]
        wavelength, size, factor = (
            np.array(row[name], dtype=float) for name in ("wavelength", "size", "apcorr")
        )
        if (wavelength.ndim, size.ndim, factor.ndim) != (1, 1, 2):
            raise CorrectionError(
                f"WAVELENGTH, SIZE and APCORR have {wavelength.ndim}, {size.ndim} and "
                f"{factor.ndim} axes, expected 1, 1 and 2"
            )
        counts = int(row["nelem_wl"]), int(row["nelem_size"])
        lengths = np.minimum((wavelength.size, size.size), factor.shape)
        for name, count, length in zip(("NELEM_WL", "NELEM_SIZE"), counts, lengths, strict=True):
            if not 2 <= count <= length:
                raise CorrectionError(f"{name} is {count}, expected 2 to {length}")
        factor = factor[: counts[0], : counts[1]]
        error = _errors(row, factor)
        if np.isfinite(factor).all():
            for note in check_factors(factor):
                warn(note.about(label))
    return ApertureCorrection(
        wavelength=wavelength[: counts[0]],
        size=size[: counts[1]],
        factor=factor,
        subarray=names[rows[0]],
        filename=label if isinstance(path, str | PathLike) else None,
        error=error,
    )


def _errors(row: fits.FITS_record, factor: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the errors of the factors in a row, or None if there are none or all are 0."""
    names = [name.lower() for name in row.array.names]
    if "apcorr_err" not in names:
        return None
    found = np.array(row["apcorr_err"], dtype=float)
    if found.ndim != 2 or any(n < m for n, m in zip(found.shape, factor.shape, strict=True)):
        return None
    found = found[: factor.shape[0], : factor.shape[1]]
    usable = np.isfinite(found).all() and (found >= 0).all() and (found > 0).any()
    return found if usable else None


def _table(hdulist: fits.HDUList) -> fits.BinTableHDU:
    """Return the APCORR extension, or raise `CorrectionError` if it is not for MIRI LRS."""
    check_reference(hdulist, "APCORR", CorrectionError)
    expected = "expected an APCORR reference of MIRI LRS"
    hdu = hdulist["APCORR"]
    if not isinstance(hdu, fits.BinTableHDU):
        raise CorrectionError(f"APCORR is not a table, {expected}")
    names = [name.lower() for name in hdu.columns.names]
    other = next((mode for name, mode in _OTHER_MODES.items() if name in names), None)
    if other is not None:
        raise CorrectionError(f"the table is for {other}, {expected}")
    missing = [name.upper() for name in _COLUMNS if name not in names]
    if missing:
        raise CorrectionError(f"has no column {', '.join(missing)}, {expected}")
    return hdu


def write_apcorr(
    corrections: ApertureCorrection | Sequence[ApertureCorrection],
    path: str | PathLike[str],
    overwrite: bool = False,
) -> None:
    """Write an APCORR reference file that the pipeline accepts as ``override_apcorr``.

    Parameters
    ----------
    corrections : ApertureCorrection or sequence of ApertureCorrection
        Aperture corrections to write, at most one for each SUBARRAY.
    path : str or path-like
        Path of the file to write.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    CorrectionError
        If there is no correction, if two corrections are for the same SUBARRAY, or if the sizes are
        not integers from 0 to 255, because the file format requires integers in this range.
    WriteError
        If the file exists or cannot be written.

    Notes
    -----
    The file format stores wavelengths and factors in single precision.
    """
    tables = [corrections] if isinstance(corrections, ApertureCorrection) else list(corrections)
    names = [table.subarray.upper() for table in tables]
    with atomic_write(path, overwrite) as temporary:
        check_names(names, "aperture correction", "SUBARRAY", CorrectionError)
        for name in names:
            if not 0 < len(name) <= 17 or not name.isascii():
                raise CorrectionError(f"SUBARRAY is {quoted(name)}, expected 1 to 17 characters")
        exp_type = FIXED_SLIT if "FULL" in names else SLITLESS
        description = "Aperture correction written by glue_lrs"
        header = reference_header("APCORR", "MirLrsApcorrModel", description, exp_type)
        table_hdu = fits.BinTableHDU(_table_data(tables), name="APCORR")
        table_hdu.header["SIZEUNIT"] = "pixels"
        fits.HDUList([fits.PrimaryHDU(header=header), table_hdu]).writeto(temporary)


def _table_data(tables: Sequence[ApertureCorrection]) -> NDArray[np.void]:
    """Make a structured array with a row for each correction, whose arrays are padded with 0."""
    number = max(table.wavelength.size for table in tables)
    widest = max(table.size.size for table in tables)
    if max(number, widest) > np.iinfo(np.int16).max:
        raise CorrectionError("has more than 32767 wavelengths or sizes, the limit of the format")
    dtype = [
        ("subarray", "S17"),
        ("wavelength", "f4", (number,)),
        ("nelem_wl", "i2"),
        ("size", "u1", (widest,)),
        ("nelem_size", "i2"),
        ("apcorr", "f4", (number, widest)),
        ("apcorr_err", "f4", (number, widest)),
    ]
    data = np.zeros(len(tables), np.dtype(dtype))
    for row, table in zip(data, tables, strict=True):
        waves, sizes = table.wavelength.size, table.size.size
        if (table.size != np.round(table.size)).any() or table.size[0] < 0 or table.size[-1] > 255:
            raise CorrectionError(
                f"SIZE goes from {table.size[0]:g} to {table.size[-1]:g}, expected whole "
                "numbers of pixels from 0 to 255"
            )
        row["subarray"], row["nelem_wl"], row["nelem_size"] = table.subarray, waves, sizes
        row["wavelength"][:waves] = table.wavelength
        row["size"][:sizes] = table.size
        row["apcorr"][:waves, :sizes] = table.factor
        if table.error is not None:
            row["apcorr_err"][:waves, :sizes] = table.error
        if not (np.diff(row["wavelength"][:waves]) > 0).all():
            raise CorrectionError("wavelengths coincide in single precision")
        if not np.isfinite(row["apcorr"]).all():
            raise CorrectionError("a factor is too large for single precision")
    return data
