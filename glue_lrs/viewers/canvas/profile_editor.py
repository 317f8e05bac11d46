"""Region editor on the cross-dispersion profile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from glue_lrs.plotting.style import unit_label
from glue_lrs.viewers.canvas.blitting import held
from glue_lrs.viewers.canvas.cached_text import CachedText
from glue_lrs.viewers.canvas.live_view import Limits
from glue_lrs.viewers.canvas.region_editor import PEAK, WILD_PERCENTILES, RegionEditor, steps_band

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from glue_lrs.viewers.live.live_extraction import LiveExtraction

__all__ = ["ProfileEditor"]


class ProfileEditor(RegionEditor):
    """A cut across the slit at the crosshair's row, with the regions' edges, to be moved by hand.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        Columns along x, surface brightness along y.
    live : LiveExtraction
        What to edit.
    labels : bool
        Whether to label the axes.

    Attributes
    ----------
    limits : Limits
        Follows the data until somebody else sets the limits; see `reset_limits`.
    """

    _cased = False  # it would hide the cut

    def __init__(self, axes: Axes, live: LiveExtraction, *, labels: bool = True) -> None:
        super().__init__(axes, live)
        self.limits = Limits(axes)
        self._cut_of: Any = None
        put = self.layer.put
        self.band = put(PolyCollection([], fc="0.3", alpha=0.25, lw=0))
        self.line = put(Line2D([], [], color="black", lw=1.2, drawstyle="steps-mid"))
        self.readout = put(
            CachedText(0.01, 0.985, "", ha="left", va="top", fontsize=9),
            transform=axes.transAxes,
            above=True,
        )
        if labels:
            axes.set_xlabel("column [pixel]")
            axes.set_ylabel(f"brightness [{unit_label(live.image.unit)}]")
            axes.grid(visible=True, alpha=0.25)
        axes.set_xlim(-0.5, live.image.shape[1] - 0.5)
        self.follow(self._sync, "operator", "selected")
        self.follow(self._cut_changed, "cursor_row", "rows_averaged", "integration")
        self.follow(self._image_changed, "extraction")
        self._view = [axes.callbacks.connect(f"{name}lim_changed", self._moved) for name in "xy"]
        with held():
            self._cut_changed()
            self.overlay.redraw()

    def close(self) -> None:
        """Give up a drag, disconnect everything, and take away what was drawn."""
        if not self.closed:
            self.limits.close()
            for connection in self._view:
                self.axes.callbacks.disconnect(connection)
        super().close()

    def reset_limits(self) -> None:
        """Let the limits follow the data again, after somebody else has set them."""
        self.limits.release()
        with held():
            self.axes.set_xlim(-0.5, self.live.image.shape[1] - 0.5)
            self._cut_changed()
            self.overlay.redraw()

    def _moved(self, axes: Axes) -> None:
        if not self.gone:
            self._draw()

    def _image_changed(self, *_: Any) -> None:
        """Draw another cut if the image is another one."""
        if self._cut_of is not self.live.shown:
            self._cut_changed()

    def _cut_changed(self, *_: Any) -> None:
        """Draw another cut."""
        if self.gone or self.live.closed:
            return
        row, number = self.live.cursor_row, self.live.rows_averaged
        self._cut_of = self.live.shown
        columns, flux, error = self.live.cross_dispersion_profile(row, number)
        self.line.set_data(columns, flux)
        self.band.set_verts(steps_band(columns, flux - error, flux + error))
        wave = f", {float(self.wavelength.at(row)):.3f} µm" if self.wavelength.covers(row) else ""
        rows = "1 row" if number == 1 else f"{number} rows"
        self.readout.set_text(f"row {row:.0f}{wave}, mean of {rows}")
        changed = self.limits.want(*_peaks(flux), self.dragging)
        self._sync()
        if changed:
            self.overlay.redraw()

    def _settle(self) -> None:
        self._cut_changed()

    def _row(self, y: float) -> float:
        row = float(self.live.cursor_row)
        if self.wavelength.empty:
            return row
        return float(min(max(row, self.wavelength.rows[0]), self.wavelength.rows[-1]))

    def _fraction(self, part: float) -> float:
        """Height at a part of the axes, whatever its scale."""
        to_data = (self.axes.transAxes + self.axes.transData.inverted()).transform
        return float(to_data((0.0, part))[1])

    def _stretch(self, index: int) -> tuple[float, float] | None:
        low, high = sorted((self._fraction(0.0), self._fraction(1.0)))
        return low, high

    def _ends(self, index: int) -> tuple[float, float] | None:
        return None

    def _heights(self, index: int) -> tuple[float, float] | None:
        return self._fraction(0.6), self._fraction(0.8)

    def _outline(
        self, index: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
        lower, upper = self._edges_at(index, 0.0)
        if not np.isfinite([lower, upper]).all():
            return None
        heights = np.array([self._fraction(0.0), self._fraction(1.0)])
        return heights, np.full(2, lower), np.full(2, upper)


def _peaks(flux: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """The range of a cut, but for peaks so high and narrow that no source makes them."""
    values = np.asarray(flux, dtype=float)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return np.nan, np.nan
    low, high = float(values.min()), float(values.max())
    if values.size < 5:
        return low, high
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(values, 3), axis=1)
    middle, bottom, top = (float(f(smooth)) for f in (np.median, np.min, np.max))
    span = max(top - bottom, 1e-6 * abs(middle))
    least = low if bottom - low <= PEAK * span else bottom - WILD_PERCENTILES * span
    most = high if high - top <= PEAK * span else top + WILD_PERCENTILES * span
    return least, most
