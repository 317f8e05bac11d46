"""Region editor on axes that show the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch

from glue_lrs.plotting.style import ORANGE
from glue_lrs.viewers.canvas.blitting import drawn_once
from glue_lrs.viewers.canvas.region_editor import RegionEditor, has_shift
from glue_lrs.viewers.canvas.shapes import DASHES, RANGE_STYLE, bands
from glue_lrs.viewers.live.region_geometry import ImageGeometry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import MouseEvent

    from glue_lrs.viewers.live.live_extraction import LiveExtraction


class ImageEditor(RegionEditor):
    """Editor for the aperture and the background regions on an image.

    Regions and their edges can be dragged. Dragging the end of an edge tilts the edge. With Shift,
    the same end of the opposite edge moves the other way, so that the region tapers. A press
    outside all regions moves the crosshair. A drag with Shift outside all regions selects a range
    of rows, and thus a range of wavelengths, in glue. The left and right arrow keys move the handle
    that was dragged last by 0.1 pixel, or with Shift by 1 pixel. The up and down keys move the
    crosshair. Escape cancels a drag, and Delete deletes the selected background region.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        Axes with columns along x and rows along y, both in pixels. Either axis may be inverted.
    live : LiveExtraction
        Live extraction to edit.

    Attributes
    ----------
    active : bool
        Whether the editor responds to mouse and keyboard.
    adding : bool
        Whether the next drag adds a background region.
    busy : bool
        Whether the user is dragging something.
    """

    geometry_class = ImageGeometry

    def __init__(self, axes: Axes, live: LiveExtraction) -> None:
        super().__init__(axes, live)
        put, across = self.layer.put, axes.get_yaxis_transform()
        self.range_patch = put(PathPatch(bands([]), **RANGE_STYLE, alpha=0.16), transform=across)
        casing = Line2D([], [], color="white", lw=2.6, alpha=0.6)
        self.crosshair_casing = put(casing, transform=across)
        self.crosshair = put(Line2D([], [], color=ORANGE, lw=1.3, ls=DASHES), transform=across)
        self._range: tuple[float, float] | None = None
        self.follow(self._sync, "operator", "selected")
        self.follow(self._marks_changed, "cursor_row", "wavelength_ranges")
        self.follow_limits(self._draw)
        with drawn_once():
            self._sync()
            self._marks_changed()
            self.overlay.redraw()

    # --- crosshair and range -------------------------------------------------------------------

    def _marks_changed(self, *_: object) -> None:
        """Draw the crosshair and the selected range of rows."""
        if self.removed:
            return
        for line in (self.crosshair_casing, self.crosshair):
            line.set_data([0, 1], [self.live.cursor_row] * 2)
        spans = [] if self._range is None else [self._range]
        if self._range is None:
            for selected in self.live.wavelength_ranges:
                first, last = sorted(self.wavelength.row(selected).tolist())
                spans.append((first - 0.5, last + 0.5))
        self.range_patch.set(visible=len(spans) > 0, path=bands(spans, along_y=True))
        self.overlay.update()

    def _press_empty(self, event: MouseEvent, start: tuple[float, float]) -> None:
        shift = has_shift(event)
        self.pointer.begin("range" if shift else "row", start)
        if not shift:
            self.pointer.set_row(start[1])

    def _drag(self, event: MouseEvent) -> None:
        y, drag = self.data_at(event)[1], self.pointer.drag
        assert drag is not None
        if drag.kind == "row":
            self.pointer.set_row(y)
        elif drag.kind == "range":
            last = self.live.image.shape[0] - 0.5
            low, high = sorted(min(max(end, -0.5), last) for end in (drag.start[1], y))
            self._range = (low, high) if high - low >= 1.0 else None
            self._marks_changed()
        else:
            super()._drag(event)

    def _drop(self) -> None:
        drag, span = self.pointer.drag, self._range
        self._range = None
        if drag is not None and drag.kind == "range":
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
