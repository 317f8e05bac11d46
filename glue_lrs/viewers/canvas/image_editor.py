"""Region editor on the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from numpy.typing import NDArray

from glue_lrs.plotting.style import GREEN, ORANGE
from glue_lrs.viewers.canvas.blitting import held
from glue_lrs.viewers.canvas.live_view import bands
from glue_lrs.viewers.canvas.region_editor import (
    CURSORS,
    REACH,
    HeldRegion,
    RegionEditor,
    with_shift,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from glue_lrs.viewers.live.live_extraction import LiveExtraction

__all__ = ["ImageEditor"]


class ImageEditor(RegionEditor):
    """The aperture and the background regions on an image, to be moved by hand.

    Bodies and edges are dragged; the ends of an edge tilt it, with shift they taper the region: the
    other edge's end mirrors them. A press where no region is moves the
    crosshair, with shift it selects a range of rows in glue, which is one of wavelengths. Arrow
    keys move what was taken last by 0.1 pixel, with shift by 1; up and down move the crosshair;
    Escape gives up a drag; Delete takes the selected background region away.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        Columns along x, rows along y, both in pixels; in either direction, at any zoom.
    live : LiveExtraction
        What to edit.

    Attributes
    ----------
    active : bool
        Whether the mouse and the keys do anything here.
    adding : bool
        Whether the next drag makes a background region.
    busy : bool
        Whether something is being dragged.
    """

    def __init__(self, axes: Axes, live: LiveExtraction) -> None:
        super().__init__(axes, live)
        across = axes.get_yaxis_transform()
        self.range_patch = self.layer.put(
            PathPatch(bands([]), fc=GREEN, ec=GREEN, lw=1.0, alpha=0.16), transform=across
        )
        self.crosshair_casing = self.layer.put(
            Line2D([], [], color="white", lw=2.6, alpha=0.6), transform=across
        )
        self.crosshair = self.layer.put(
            Line2D([], [], color=ORANGE, lw=1.3, ls=CURSORS), transform=across
        )
        self._range: tuple[float, float] | None = None
        self.follow(self._sync, "operator", "selected")
        self.follow(self._marks_changed, "cursor_row", "wavelength_ranges")
        self._view = [axes.callbacks.connect(f"{name}lim_changed", self._moved) for name in "xy"]
        with held():
            self._sync()
            self._marks_changed()
            self.overlay.redraw()

    def close(self) -> None:
        """Give up a drag, disconnect everything, and take away what was drawn."""
        if not self.closed:
            for connection in self._view:
                self.axes.callbacks.disconnect(connection)
        super().close()

    def _moved(self, axes: Axes) -> None:
        """The view has been zoomed: handles go to where they can be seen."""
        if not self.gone:
            self._draw()

    def _rows_downwards(self) -> bool:
        return bool(self.axes.yaxis_inverted())

    def _row(self, y: float) -> float:
        return y

    def _span(self, index: int) -> tuple[float, float] | None:
        """The rows in which a region counts, outer edges of the pixels."""
        if self.wavelength.empty:
            return None
        first, last = self.wavelength.rows[0], self.wavelength.rows[-1]
        # Rows that the aperture leaves out are left out of the background as well.
        aperture = self.live.operator.aperture
        if aperture.ystart is not None:
            first = max(first, np.ceil(aperture.ystart))
        if aperture.ystop is not None:
            last = min(last, np.floor(aperture.ystop))
        return (float(first) - 0.5, float(last) + 0.5) if last >= first else None

    def _stretch(self, index: int) -> tuple[float, float] | None:
        span = self._span(index)
        if span is None:
            return None
        bottom, top = sorted(self.axes.get_ylim())
        low, high = max(span[0], bottom), min(span[1], top)
        return (low, high) if high > low else None

    def _pixels(self) -> float:
        """Rows that a point of the screen stands for."""
        bottom, top = sorted(self.axes.get_ylim())
        return (top - bottom) / max(self.axes.bbox.height, 1.0) * self.points

    def _ends(self, index: int) -> tuple[float, float] | None:
        stretch = self._stretch(index)
        if stretch is None:
            return None
        # Not on the frame, where half of a handle would be hidden.
        inset = min(1.6 * REACH * self._pixels(), 0.2 * (stretch[1] - stretch[0]))
        low, high = stretch[0] + inset, stretch[1] - inset
        return (low, high) if high - low > 1.0 else None

    def _heights(self, index: int) -> tuple[float, float] | None:
        stretch = self._stretch(index)
        if stretch is None:
            return None
        low, high = stretch
        return low + 0.5 * (high - low), low + 0.62 * (high - low)

    def _outline(
        self, index: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
        span = self._span(index)
        if span is None:
            return None
        region = self._regions[index]
        if region.straight:
            heights = np.array(span)
        else:
            inner = self.wavelength.rows
            inner = inner[(inner > span[0]) & (inner < span[1])]
            heights = np.concatenate([[span[0]], inner, [span[1]]])
        lower, upper = region.at(heights, self.wavelength.at(heights))
        return heights, lower, upper

    def _marks_changed(self, *_: Any) -> None:
        """Draw the crosshair and the selected range."""
        if self.gone:
            return
        row = self.live.cursor_row
        for line in (self.crosshair_casing, self.crosshair):
            line.set_data([0, 1] if row is not None else [], [row, row] if row is not None else [])
        spans = [] if self._range is None else [self._range]
        if self._range is None and not self.wavelength.empty:
            for chosen in self.live.wavelength_ranges:
                first, last = sorted(self.wavelength.row(chosen).tolist())
                spans.append((first - 0.5, last + 0.5))
        self.range_patch.set_visible(len(spans) > 0)
        self.range_patch.set_path(bands(spans, along_y=True))
        self.overlay.update()

    def _press_empty(self, event: Any, start: tuple[float, float]) -> None:
        shift = with_shift(event)
        self._held = HeldRegion("range" if shift else "row", start)
        if not shift:
            self._set_row(start[1])

    def _drag(self, event: Any) -> None:
        assert self._held is not None
        y = self.data_at(event)[1]
        if self._held.kind == "row":
            self._set_row(y)
        elif self._held.kind == "range":
            last = self.live.image.shape[0] - 0.5
            low, high = sorted(min(max(end, -0.5), last) for end in (self._held.start[1], y))
            self._range = (low, high) if high - low >= 1.0 else None
            self._marks_changed()
        else:
            super()._drag(event)

    def _set_row(self, y: float) -> None:
        if np.isfinite(y):
            self.live.cursor_row = float(min(max(y, 0.0), self.live.image.shape[0] - 1.0))

    def _drop(self) -> None:
        drag, span = self._held, self._range
        self._range = None
        if drag is not None and drag.kind == "range" and not self.wavelength.empty:
            rows = [0.0, 0.0] if span is None else [span[0] + 0.5, span[1] - 0.5]
            ends = sorted(self.wavelength.at(rows).tolist())
            if ends[1] > ends[0]:
                self.live.select(*ends)
            else:
                self.live.deselect()
        super()._drop()
        self._marks_changed()

    def _cancel(self) -> None:
        self._range = None
        super()._cancel()
        self._marks_changed()
