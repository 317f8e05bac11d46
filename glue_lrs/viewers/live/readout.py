"""Readout: texts about the pixel or the wavelength under the mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from glue_lrs.errors import LRSError
from glue_lrs.instrument import dq_names
from glue_lrs.plotting.style import unit_label
from glue_lrs.viewers.live.cross_dispersion_profile import variance
from glue_lrs.viewers.live.plotted_spectrum import flux_text, with_error

if TYPE_CHECKING:
    from glue_lrs.apertures.weights import Weights
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.plotted_spectrum import FluxUnit


class Readout:
    """Texts about the pixel or the wavelength under the mouse.

    Each text is a tuple of lines, which is empty where there is nothing to describe.

    Parameters
    ----------
    live : LiveExtraction
        Live extraction whose image and spectrum are described.
    """

    def __init__(self, live: LiveExtraction) -> None:
        self._live = live
        self._weights: tuple[Extract1D, SlitImage, Weights | None] | None = None

    def pixel(self, x: float, y: float) -> tuple[str, ...]:
        """Describe a pixel of the shown image.

        Parameters
        ----------
        x, y : float
            Position in columns and rows.

        Returns
        -------
        tuple of str
            Position and wavelength of the pixel; its value with the error, its weight in the
            aperture, and the names of its DQ bits.
        """
        image = self._live.shown
        if not np.isfinite([x, y]).all():
            return ()
        column, row = round(x), round(y)
        if not (0 <= row < image.shape[0] and 0 <= column < image.shape[1]):
            return ()
        wavelength = float(image.wavelength[row, column])
        known = f", {wavelength:.3f} µm" if np.isfinite(wavelength) else ", no wavelength"
        here = slice(row, row + 1)
        error = float(
            np.sqrt(np.broadcast_to(variance(image, here), (1, image.shape[1]))[0, column])
        )
        parts = [_with_unit(float(image.data[row, column]), error, image.unit)]
        weight = self._weight(row, column)
        if weight is not None:
            parts.append(f"aperture weight {weight:.3g}")
        flags = 0 if image.dq is None else int(image.dq[row, column])
        if flags:
            parts.append(f"DQ {', '.join(dq_names(flags))}")
        return f"column {column}, row {row}{known}", "; ".join(parts)

    def spectrum(self, wavelength: float, unit: FluxUnit) -> tuple[str, ...]:
        """Describe the spectrum at the row closest to a wavelength.

        Parameters
        ----------
        wavelength : float
            Wavelength in micron.
        unit : FluxUnit
            Unit of the flux in the plot.

        Returns
        -------
        tuple of str
            Wavelength, row, flux with its error, and the names of its quality bits.
        """
        live = self._live
        low, high = live.wavelengths.limits
        if not low <= wavelength <= high:
            return ()
        row = round(live.wavelengths.closest(float(live.wavelengths.row(wavelength))))
        at = float(live.wavelengths.at(row))
        text = "" if live.extraction is None else flux_text(live.extraction, at, unit)
        return (f"{at:.3f} µm, row {row}{text}",)

    def profile(self, column: float) -> tuple[str, ...]:
        """Describe the slit profile at the crosshair in a column: brightness with its error."""
        columns, flux, error = self._live.cross_dispersion_profile()
        if not np.isfinite(column) or not 0 <= round(column) < columns.size:
            return ()
        at = round(column)
        value = _with_unit(float(flux[at]), float(error[at]), self._live.image.unit)
        return (f"column {at}: {value}",)

    def _weight(self, row: int, column: int) -> float | None:
        """Return the weight of a pixel in the aperture, or None if there is no aperture."""
        operator, image = self._live.operator, self._live.shown
        known = self._weights
        if known is None or known[0] is not operator or known[1] is not image:
            try:
                found = operator.weights(image, operator.place(image))
            except LRSError:
                found = None
            self._weights = known = (operator, image, found)
        weights = known[2]
        if weights is None:
            return None
        rows, columns = weights.rows, weights.columns
        if not (rows.start <= row < rows.stop and columns.start <= column < columns.stop):
            return 0.0
        across = weights.values[0 if weights.uniform else row - rows.start]
        return float(across[column - columns.start])


def _with_unit(value: float, error: float, unit: str) -> str:
    """Format a value with its error and unit, or say that there is none."""
    return f"{with_error(value, error)} {unit_label(unit)}" if np.isfinite(value) else "no value"
