"""Artists for the setups that are not edited: outlines of apertures, and spectra."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from glue_lrs.viewers.live.plotted_spectrum import plotted_columns
from glue_lrs.viewers.live.setups import setup_colour

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from glue_lrs.viewers.canvas.blitting import Layer
    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.region_geometry import RegionGeometry


class _Lines:
    """One line for each setup that is not edited.

    Parameters
    ----------
    layer : Layer
        Layer on which to draw.
    """

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self.lines: dict[str, Line2D] = {}

    def _adapt(self, live: LiveExtraction) -> None:
        """Make and remove lines, so that each setup that is not edited has one."""
        names = self._names(live)
        for name in self.lines.keys() - set(names):
            self._layer.drop((self.lines.pop(name),))
        for name in names:
            if name not in self.lines:
                line = Line2D([], [], color=setup_colour(name), lw=1.1, ls=(0, (5, 2)))
                self.lines[name] = self._layer.put(line)

    def _names(self, live: LiveExtraction) -> list[str]:
        return [one.name for one in live.arrangement.others]


class OtherApertures(_Lines):
    """Edges of the apertures of the setups that are not edited."""

    def update(self, live: LiveExtraction, geometry: RegionGeometry) -> None:
        """Draw the edges where they are on the axes."""
        self._adapt(live)
        for setup in live.arrangement.others:
            x, y = [np.nan], [np.nan]
            for region in live.regions_of(setup.operator):
                outline = geometry.outline(region) if region.kind == "aperture" else None
                if outline is not None:
                    heights, lower, upper = outline
                    x = np.r_[x, lower, np.nan, upper, np.nan]
                    y = np.r_[y, heights, np.nan, heights, np.nan]
            self.lines[setup.name].set_data(x, y)


class OtherSpectra(_Lines):
    """Spectra of the setups that are not edited."""

    def update(self, live: LiveExtraction, unit: str | None, factor: float) -> None:
        """Draw the spectra.

        Parameters
        ----------
        live : LiveExtraction
            Live extraction with the setups.
        unit : str or None
            Unit of the flux of the spectrum that is edited. Others are not drawn.
        factor : float
            Factor to the unit of the plot.
        """
        self._adapt(live)
        for setup in live.arrangement.others:
            line = self.lines.get(setup.name)
            if line is None:
                continue
            extraction = setup.extraction
            if extraction is None or extraction.units.get("FLUX") != unit:
                line.set_data([], [])
                continue
            wave, flux, _, mask, _ = plotted_columns(extraction)
            line.set_data(wave, np.where(mask, np.nan, flux * factor))

    def _names(self, live: LiveExtraction) -> list[str]:
        """Omit the setup that is drawn as the comparison."""
        compared = None if live.compared is None else live.compared.source.get("setup")
        return [name for name in super()._names(live) if name != compared]

    def values(self) -> NDArray[np.float64]:
        """Return the fluxes that are drawn."""
        return np.concatenate([np.empty(0), *(line.get_ydata() for line in self.lines.values())])
