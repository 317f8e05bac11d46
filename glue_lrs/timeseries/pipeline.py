"""White light curve with the numbers of the pipeline's step ``white_light``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from astropy.table import QTable

from glue_lrs.errors import LRSError
from glue_lrs.timeseries.source import stack_from

if TYPE_CHECKING:
    from glue_lrs.timeseries.source import Source

#: Cards of the header that are in the meta of the table, and their names there.
_CARDS = {
    "instrument": "INSTRUME",
    "exp_type": "EXP_TYPE",
    "subarray": "SUBARRAY",
    "filter": "FILTER",
    "pupil": "PUPIL",
    "target_name": "TARGNAME",
}


def white_light(
    source: Source, min_wavelength: float | None = None, max_wavelength: float | None = None
) -> QTable:
    """Make the white light curve of the pipeline's step ``white_light``.

    The fluxes are summed over all wavelengths, including the noisy red end. A flux that is NaN
    counts as 0, so that it is a dip; neither DQ nor NPIXELS are considered, and there are no
    errors. `glue_lrs.timeseries.light_curve` does better.

    Parameters
    ----------
    source : Extraction, `~specutils.Spectrum`, path, or sequence of paths
        Stack of spectra of shape (integration, n_wave), or x1dints files.
    min_wavelength, max_wavelength : float, optional
        Shortest and longest wavelength in micron, by default those of the spectra, as the step
        parameters of the same names.

    Returns
    -------
    `~astropy.table.QTable`
        Table with the columns MJD_UTC, BJD_TDB (both modified Julian dates) and whitelight_flux,
        in order of time. Integrations without MJD-AVG are left out, and all but the first one of
        equal times.

    Raises
    ------
    LRSError
        If the source is no stack, or has no column MJD-AVG.

    Notes
    -----
    If the integrations are not in order of time, the pipeline (3.0) sorts the times but not the
    fluxes. Here, both are sorted.
    """
    stack = stack_from(source)
    table = stack.times
    if table is None or "MJD-AVG" not in table.colnames:
        raise LRSError("has no column MJD-AVG, expected an x1dints", subject=stack.filename)
    utc = np.array(table["MJD-AVG"], dtype=float)
    known = np.flatnonzero(~np.isnan(utc))
    ordered, first = np.unique(utc[known], return_index=True)
    rows = known[first]
    tdb = np.array(table["TDB-MID"], float)[rows] if "TDB-MID" in table.colnames else np.nan
    wave = stack.wavelength
    low = -np.inf if min_wavelength is None else min_wavelength
    high = np.inf if max_wavelength is None else max_wavelength
    inside = (wave >= low) & (wave <= high)
    flux = np.nansum(stack.columns["FLUX"][rows][:, inside], axis=1)
    found = QTable(meta={name: stack.header.get(card) for name, card in _CARDS.items()})
    found["MJD_UTC"] = ordered
    found["BJD_TDB"] = np.broadcast_to(tdb, ordered.shape).copy()
    found["whitelight_flux"] = u.Quantity(flux, stack.units.get("FLUX", ""))
    return found
