"""Columns in the table of an x1d file, and their units."""

from __future__ import annotations

#: Names of the columns in an x1d table, in the order of the file.
COLUMNS = (
    "WAVELENGTH",
    "FLUX",
    "FLUX_ERROR",
    "FLUX_VAR_POISSON",
    "FLUX_VAR_RNOISE",
    "FLUX_VAR_FLAT",
    "SURF_BRIGHT",
    "SB_ERROR",
    "SB_VAR_POISSON",
    "SB_VAR_RNOISE",
    "SB_VAR_FLAT",
    "DQ",
    "BACKGROUND",
    "BKGD_ERROR",
    "BKGD_VAR_POISSON",
    "BKGD_VAR_RNOISE",
    "BKGD_VAR_FLAT",
    "NPIXELS",
)

#: Name of the column with the part of FLUX_VAR_POISSON and FLUX_VAR_RNOISE that is due to the
#: subtracted background, which exposures at the same nod have in common.
NOD_VARIANCE = "FLUX_VAR_NOD"

#: Name of the column with the quality bits (`glue_lrs.spectra.quality`).
QUALITY = "QUALITY"

#: Names of columns that only this package writes. They are the last columns of an x1d table, and
#: `column_units` does not contain them.
OPTIONAL_COLUMNS = (QUALITY, NOD_VARIANCE)

#: Columns with flags, which are unsigned integers of 32 bits.
FLAGS = ("DQ", QUALITY)

#: Variance components. The name of a variance column ends with the name of its component.
COMPONENTS = ("POISSON", "RNOISE", "FLAT")

#: Columns whose values have errors, and the columns that contain these 1-sigma errors.
ERROR_OF = {"FLUX": "FLUX_ERROR", "SURF_BRIGHT": "SB_ERROR", "BACKGROUND": "BKGD_ERROR"}


def column_units(calibrated: bool) -> dict[str, str]:
    """Return the units of the columns in `COLUMNS`, spelled as in the pipeline.

    Parameters
    ----------
    calibrated : bool
        Whether the photometric calibration has been applied. Without calibration, fluxes and
        surface brightnesses are in DN/s.

    Returns
    -------
    dict of str
        Units, with the names of the columns as keys. Columns without a unit are omitted.
    """
    flux, flux2 = ("Jy", "Jy^2") if calibrated else ("DN/s", "DN^2 / s^2")
    bright, bright2 = ("MJy/sr", "MJy^2 / sr^2") if calibrated else ("DN/s", "DN^2 / s^2")
    units = {"WAVELENGTH": "um"}
    for name in COLUMNS[1:]:
        if name.startswith("FLUX"):
            units[name] = flux2 if "_VAR_" in name else flux
        elif name not in ("DQ", "NPIXELS"):
            units[name] = bright2 if "_VAR_" in name else bright
    return units
