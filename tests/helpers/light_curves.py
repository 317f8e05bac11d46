"""Stacks of spectra of a star whose flux changes, and a plain light curve to compare with."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from glue_lrs.spectra.columns import COLUMNS, column_units
from glue_lrs.spectra.extraction import Extraction

#: Descending wavelengths in micron, closer together at the red end, as in LRS.
WAVE = np.linspace(13.9**2, 4.0**2, 120) ** 0.5
#: Flux of the star in Jy: steep, with a band of emission.
STAR = 2.0 * (5.0 / WAVE) ** 2 + 0.2 * np.exp(-(((WAVE - 9.7) / 0.5) ** 2))
#: First time, MJD, and seconds between two integrations.
START, STEP = 60000.0, 10.0
#: Pixels in the aperture.
PIXELS = 8.0


def series(
    factors: Any, noise: float = 0.0, seed: int = 0, read: float = 0.5, flat: float = 0.01
) -> Extraction:
    """Return a stack with a factor in each integration, or in each element, and relative noise.

    `read` is the part of the variance that is due to the read noise, and `flat` the relative error
    of the flat field, which the spectra do not have. Without noise, there are no errors.
    """
    rng = np.random.default_rng(seed)
    factors = np.asarray(factors, dtype=float)
    factors = factors[:, np.newaxis] if factors.ndim == 1 else factors
    flux = np.broadcast_to(factors * STAR, (len(factors), WAVE.size)).copy()
    sigma = noise * STAR * (WAVE / 5.0)
    number = len(flux)
    columns: dict[str, Any] = {name: np.zeros(flux.shape) for name in COLUMNS}
    columns["WAVELENGTH"] = np.broadcast_to(WAVE, flux.shape)
    columns["FLUX"] = flux + sigma * rng.standard_normal(flux.shape)
    variance = np.broadcast_to(sigma**2, flux.shape)
    columns["FLUX_VAR_POISSON"] = (1.0 - read) * variance
    columns["FLUX_VAR_RNOISE"] = read * variance
    columns["FLUX_VAR_FLAT"] = (flat * flux) ** 2
    columns["FLUX_ERROR"] = np.sqrt(variance + columns["FLUX_VAR_FLAT"])
    columns["DQ"] = np.zeros(flux.shape, dtype=np.uint32)
    columns["NPIXELS"] = np.full(flux.shape, PIXELS)
    if not noise:
        columns = {name: v for name, v in columns.items() if not ("_VAR_" in name or "ERR" in name)}
    header = fits.Header({"TELESCOP": "JWST", "INSTRUME": "MIRI", "EXP_TYPE": "MIR_LRS-SLITLESS"})
    header.update({"TARGNAME": "STAR", "SUBARRAY": "SLITLESSPRISM", "FILTER": "P750L"})
    return Extraction(
        columns=columns,
        units=column_units(True),
        header=header,
        keywords_source={"SLTNAME": "slitless", "SRCTYPE": "POINT", "SPORDER": 1},
        times=times(number),
    )


def times(number: int, tdb: bool = True) -> Table:
    """Return the times of integrations; the barycentre sees them four minutes later."""
    utc = START + (np.arange(number) + 0.5) * STEP / 86400.0
    half = STEP / 86400.0 / 2.0
    table = Table({"INT_NUM": np.arange(1, number + 1, dtype=np.int32)})
    table["SEGMENT"] = np.ones(number, dtype=np.int32)
    for scale, offset in (("MJD", 0.0), ("TDB", 240.0 / 86400.0 if tdb else np.nan)):
        middle = "MJD-AVG" if scale == "MJD" else "TDB-MID"
        for name, shift in ((f"{scale}-BEG", -half), (middle, 0.0), (f"{scale}-END", half)):
            table[name] = utc + offset + shift
    return table


def plain_sum(
    flux: Any, variance: Any, good: Any, spectrum: Any, weight: Any
) -> tuple[float, float]:
    """Sum one integration over a band, element by element, and return the sum and its variance.

    A lost element has the flux of the mean spectrum, scaled to the ten nearest good elements, five
    of them on either side where possible.
    """
    coefficient = np.where(good, weight, 0.0)
    places = np.flatnonzero(good)
    for element in np.flatnonzero(~good):
        first = int(np.sum(places < element)) - 5
        first = min(max(first, 0), max(places.size - 10, 0))
        near = places[first : first + 10]
        coefficient[near] += weight[element] * spectrum[element] / spectrum[near].sum()
    used = coefficient != 0
    return float(coefficient[used] @ flux[used]), float(coefficient[used] ** 2 @ variance[used])
