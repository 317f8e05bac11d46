"""Region editor on axes that show the cross-dispersion profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D

from glue_lrs.plotting.style import BACKGROUND, unit_label
from glue_lrs.viewers.canvas.blitting import drawn_once
from glue_lrs.viewers.canvas.cached_text import heading
from glue_lrs.viewers.canvas.limits import Limits
from glue_lrs.viewers.canvas.region_editor import RegionEditor
from glue_lrs.viewers.canvas.shapes import band_outlines
from glue_lrs.viewers.live.cross_dispersion_profile import peak_limited_range
from glue_lrs.viewers.live.region_geometry import ProfileGeometry

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.viewers.live.live_extraction import LiveExtraction


class ProfileEditor(RegionEditor):
    """Cross-dispersion profile at the row of the crosshair, with the edges of the regions.

    All regions are drawn where they are in the row of the crosshair.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        Axes with columns along x and surface brightness along y.
    live : LiveExtraction
        Live extraction to edit.

    Attributes
    ----------
    limits : Limits
        Limits of the y axis, which adapt to the profile until a user sets them. `reset_limits`
        undoes the user's choice.
    """

    geometry_class = ProfileGeometry
    casing = False  # a white casing would hide the profile

    def __init__(self, axes: Axes, live: LiveExtraction) -> None:
        super().__init__(axes, live)
        self.limits = Limits(axes)
        self.y_limits.append(self.limits)
        self._profile_of: SlitImage | None = None
        put = self.layer.put
        self.band = put(PolyCollection([], fc="0.3", alpha=0.25, lw=0))
        self.line = put(Line2D([], [], color="black", lw=1.2, drawstyle="steps-mid"))
        self.background = put(Line2D([], [], color=BACKGROUND, lw=1.4, ls=(0, (4, 1.5))))
        self.readout = heading(self.layer)
        axes.set_xlabel("column [pixel]")
        axes.set_ylabel(f"brightness [{unit_label(live.image.unit)}]")
        axes.grid(visible=True, alpha=0.25)
        self._set_x_limits()
        self.follow(self._sync, "operator", "selected")
        self.follow(self._profile_changed, "cursor_row", "rows_averaged", "integration")
        self.follow(self._image_changed, "extraction")
        self.follow_limits(self._draw)
        with drawn_once():
            self._profile_changed()
            self.overlay.redraw()

    # --- drawing -------------------------------------------------------------------------------

    def _image_changed(self, *_: object) -> None:
        """Redraw the profile if another image, such as another integration, is shown.

        Otherwise, only the background that the operator fits may have changed.
        """
        if self._profile_of is not self.live.shown:
            self._profile_changed()
        elif not self.removed:
            self._draw_background()
            self.overlay.update()

    def _draw_background(self) -> None:
        """Draw the background that is fitted in the averaged rows and subtracted."""
        columns, level = self.live.fitted_background() or ([], [])
        self.background.set_data(columns, level)

    def _profile_changed(self, *_: object) -> None:
        """Draw the profile at the row of the crosshair."""
        if self.removed or self.live.closed:
            return
        row, number = self.live.cursor_row, self.live.rows_averaged
        self._profile_of = self.live.shown
        columns, flux, error = self.live.cross_dispersion_profile(row, number)
        self.line.set_data(columns, flux)
        self._draw_background()
        edges = np.column_stack([columns - 0.5, columns + 0.5]).ravel()
        low, high = (flux - error).repeat(2), (flux + error).repeat(2)
        self.band.set_verts(band_outlines(edges, low, high))
        wave = f", {float(self.wavelength.at(row)):.3f} µm" if self.wavelength.covers(row) else ""
        rows = "1 row" if number == 1 else f"{number} rows"
        self.readout.set_text(f"row {row:.0f}{wave}, mean of {rows}")
        changed = self.limits.include(*peak_limited_range(flux), dragging=self.dragging)
        self._sync()
        if changed:
            self.overlay.redraw()

    def _refresh(self) -> None:
        self._profile_changed()

    def _set_x_limits(self) -> None:
        self.axes.set_xlim(-0.5, self.live.image.shape[1] - 0.5)
