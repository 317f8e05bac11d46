"""Content of a plot of a spectrum: columns, unit of the flux, range of the y axis, readout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from astropy import units as u
from numpy.typing import NDArray

from glue_lrs.plotting.spectra import flux_scale
from glue_lrs.plotting.style import unit_label
from glue_lrs.spectra.columns import QUALITY
from glue_lrs.spectra.quality import bit_names

if TYPE_CHECKING:
    from glue_lrs.spectra.extraction import Extraction

#: Rows with a larger error, as a multiple of the median error, do not affect the limits unless
#: their flux is significant.
_LARGE_ERROR = 5.0

#: An automatically chosen unit is kept while the 90th percentile of the absolute flux in this
#: unit is within this range.
_KEEP_UNIT = (0.2, 2e3)


class FluxUnit(NamedTuple):
    """Unit of the flux in a plot: unit of the column, factor to the plotted unit, and its label."""

    source: str | None
    factor: float
    label: str


def flux_unit(
    flux: NDArray[np.float64], source: str | None, before: FluxUnit, fixed: str | None = None
) -> FluxUnit:
    """Return the unit in which to plot fluxes.

    Parameters
    ----------
    flux : ndarray
        Fluxes without those of masked rows.
    source : str or None
        Unit of the fluxes.
    before : FluxUnit
        Unit of the previous plot, which is kept while the numbers are easy to read.
    fixed : str, optional
        Unit to use if the fluxes can be converted to Jy.
    """
    if source is None or not u.Unit(source).is_equivalent(u.Jy):
        return FluxUnit(source, 1.0, unit_label(source))
    if fixed is not None:
        return FluxUnit(source, u.Unit(source).to(fixed), unit_label(fixed))
    finite = np.abs(flux[np.isfinite(flux)])
    typical = float(np.percentile(finite, 90)) * before.factor if finite.size else 1.0
    if before.source == source and _KEEP_UNIT[0] <= typical <= _KEEP_UNIT[1]:
        return before
    return FluxUnit(source, *flux_scale(flux, source))


def flux_text(extraction: Extraction, wavelength: float, unit: FluxUnit) -> str:
    """Return flux and error with the quality bits at a wavelength, beginning with ":  "."""
    wave, flux, error, mask, bits = plotted_columns(extraction)
    closest = int(np.nanargmin(np.abs(wave - wavelength)))
    if abs(wave[closest] - wavelength) >= 0.1:
        return ""
    text = ":  masked"
    if not mask[closest]:
        value = with_error(flux[closest] * unit.factor, error[closest] * unit.factor)
        text = f":  {value} {unit.label}"
    if bits[closest]:
        text += f" ({', '.join(bit_names(int(bits[closest])))})"
    return text


def with_error(value: float, error: float) -> str:
    """Format a value with its error, to two significant digits of the error."""
    digits = _digits(error)
    return f"{value:.{digits}f} {f'± {error:.{digits}f}' if error > 0 else '(error unknown)'}"


def plotted_columns(
    extraction: Extraction,
) -> tuple[
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.bool_],
    NDArray[np.uint32],
]:
    """Return wavelength, flux, error, mask and quality bits, of the first spectrum in a stack."""
    pick: Any = 0 if extraction.is_stack else ...
    columns = extraction.columns
    flux = np.asarray(columns["FLUX"][pick], dtype=float)
    error = columns.get("FLUX_ERROR")
    width = np.full(flux.shape, np.nan) if error is None else np.asarray(error[pick], dtype=float)
    bits = columns.get(QUALITY)
    flags = np.zeros(flux.shape, dtype=np.uint32) if bits is None else bits[pick]
    return extraction.wavelength, flux, width, np.asarray(extraction.mask[pick]), flags


def robust_range(
    flux: NDArray[np.float64], error: NDArray[np.float64], comparison: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the range of the fluxes with their error bars, and of the comparison.

    Outliers, such as those at the ends of the LRS wavelength range, are excluded.
    """
    good = np.isfinite(flux)
    bars = good & np.isfinite(error)
    ends = []
    if bars.any():
        insignificant = np.abs(flux) < 2 * _LARGE_ERROR * error
        excluded = (error > _LARGE_ERROR * np.median(error[bars])) & insignificant
        if (bars & ~excluded).any():
            good, bars = good & ~excluded, bars & ~excluded
        for side in (flux[bars] - error[bars], flux[bars] + error[bars]):
            ends.append(np.percentile(side, [10.0, 90.0]))
    for part in (flux[good], comparison[np.isfinite(comparison)]):
        if part.size:
            ends.append(np.percentile(part, [2.0, 98.0]))
        if part.size >= 5:  # include steep rises over a few rows, but not outliers in single rows
            smooth = np.median(np.lib.stride_tricks.sliding_window_view(part, 5), axis=1)
            ends.append(np.percentile(smooth, [0.5, 99.5]))
    if not ends:
        return np.nan, np.nan
    found = np.concatenate(ends)
    return float(found.min()), float(found.max())


def isolated_points(good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask of finite points without a finite neighbour, which appear in no line."""
    padded = np.concatenate([[False], good, [False]])
    return good & ~padded[:-2] & ~padded[2:]


def _digits(error: float) -> int:
    """Return the number of decimals that shows two significant digits of an error."""
    if not np.isfinite(error) or error <= 0:
        return 3
    return int(np.clip(1 - np.floor(np.log10(error)), 0, 9))
