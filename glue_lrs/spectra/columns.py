"""Columns of an x1d, with their units."""

from __future__ import annotations

from functools import cache

__all__ = ["COLUMNS", "COMPONENTS", "ERROR_OF", "column_units"]

#: The columns of an x1d table, in the file's order.
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

#: What the variances are made of, as the columns' names end.
COMPONENTS = ("POISSON", "RNOISE", "FLAT")

#: The column that holds the standard deviation of another one.
ERROR_OF = {"FLUX": "FLUX_ERROR", "SURF_BRIGHT": "SB_ERROR", "BACKGROUND": "BKGD_ERROR"}


def column_units(calibrated: bool) -> dict[str, str]:
    """Units of the columns as the pipeline spells them.

    Parameters
    ----------
    calibrated : bool
        Whether the photometric calibration has been applied; DN/s otherwise.
    """
    return _column_units(calibrated).copy()


@cache
def _column_units(calibrated: bool) -> dict[str, str]:
    flux, flux2 = ("Jy", "Jy^2") if calibrated else ("DN/s", "DN^2 / s^2")
    bright, bright2 = ("MJy/sr", "MJy^2 / sr^2") if calibrated else ("DN/s", "DN^2 / s^2")
    units = {"WAVELENGTH": "um"}
    for name in COLUMNS[1:]:
        if name.startswith("FLUX"):
            units[name] = flux2 if "_VAR_" in name else flux
        elif name not in ("DQ", "NPIXELS"):
            units[name] = bright2 if "_VAR_" in name else bright
    return units
