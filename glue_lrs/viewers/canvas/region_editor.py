"""Region editor: the aperture and the background regions, edited with mouse and keyboard.

All editors of a live extraction draw the regions of its current `Extract1D` operator. During a
drag, only the regions are redrawn, not the whole figure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from matplotlib.backend_tools import Cursors

from glue_lrs.viewers.canvas.blitting import drawn_once
from glue_lrs.viewers.canvas.live_view import LiveView
from glue_lrs.viewers.canvas.other_setups import OtherApertures
from glue_lrs.viewers.canvas.region_artists import RegionArtists, RegionLabel
from glue_lrs.viewers.live.region_dragging import NUDGES, STEPS, RegionDragging

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import MouseEvent

    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.region_geometry import Handle, RegionGeometry
    from glue_lrs.viewers.live.regions import Region

#: Mouse cursor and text in the status line while the pointer is on a `Handle` of each kind.
_HINTS = {
    None: (Cursors.POINTER, ""),
    "body": (Cursors.MOVE, "Drag to move the region; arrow keys nudge it"),
    "edge": (Cursors.RESIZE_HORIZONTAL, "Drag to move the edge; arrow keys nudge it"),
    "end": (Cursors.HAND, "Drag to tilt the edge; with Shift, taper the region"),
}


class AxesFrame:
    """Matplotlib axes as a `glue_lrs.viewers.live.region_geometry.Frame`.

    Parameters
    ----------
    view : LiveView
        View on the axes.
    """

    def __init__(self, view: LiveView) -> None:
        self._view = view

    @property
    def points(self) -> float:
        """Number of pixels per point (1/72 inch)."""
        return self._view.points

    @property
    def height(self) -> float:
        """Height of the axes in pixels."""
        return float(self._view.axes.bbox.height)

    def at_height(self, fraction: float) -> float:
        """Return the y in data coordinates at a fraction of the height of the axes."""
        axes = self._view.axes
        return float((axes.transAxes + axes.transData.inverted()).transform((0.0, fraction))[1])

    def to_screen(self, x: float, y: float) -> tuple[float, float]:
        """Convert data coordinates to pixels of the canvas."""
        x, y = self._view.axes.transData.transform((x, y))
        return float(x), float(y)

    def to_data(self, x: float, y: float) -> tuple[float, float]:
        """Convert pixels of the canvas to data coordinates."""
        x, y = self._view.axes.transData.inverted().transform((x, y))
        return float(x), float(y)


class RegionEditor(LiveView):
    """Base class for editors of regions on axes with columns along x.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        Axes to draw on.
    live : LiveExtraction
        Live extraction to edit.
    """

    #: Whether edges are drawn with a white border, so that they are visible on any pixels.
    casing: ClassVar[bool] = True
    #: Meaning of the y axis.
    geometry_class: ClassVar[type[RegionGeometry]]

    def __init__(self, axes: Axes, live: LiveExtraction) -> None:
        super().__init__(axes, live)
        self.geometry = self.geometry_class(live, AxesFrame(self))
        self.pointer = RegionDragging(self.geometry)
        self._hovered: Handle | None = None
        self._adding = False
        self._cursor = Cursors.POINTER
        #: Called with the new value when `adding` changes.
        self.on_adding: Callable[[bool], None] | None = None
        #: Called with a hint about the drag that a press would begin, or with "" if it begins none.
        self.on_hint: Callable[[str], None] | None = None
        self.artists: list[RegionArtists] = []
        self.label = RegionLabel(self.layer)
        self.other_apertures = OtherApertures(self.layer)
        self.follow(self._sync, "setups")

    # --- interface -----------------------------------------------------------------------------

    @property
    def regions(self) -> tuple[Region, ...]:
        """Regions that are drawn, including changes that are not committed yet."""
        return self.geometry.regions

    def handles(self, index: int) -> list[tuple[Handle, tuple[float, float]]]:
        """Return the handles of a region with their positions (x, y) in data coordinates."""
        return self.geometry.handles(index)

    def position(self, handle: Handle) -> tuple[float, float] | None:
        """Return the position of a handle in pixels of the canvas; None if it is not drawn."""
        return self.geometry.position(handle)

    def handle_at(self, x: float, y: float) -> Handle | None:
        """Return the part of a region that a press at a position on the canvas would grab."""
        return self.geometry.handle_at(x, y)

    def on_edge(self, x: float, y: float) -> bool:
        """Return whether a position on the canvas is on an edge of a region, or on its end."""
        if self.removed or self.live.closed or not self.axes.bbox.contains(x, y):
            return False
        handle = self.handle_at(x, y)
        return handle is not None and handle.kind != "body"

    @property
    def busy(self) -> bool:
        """Whether the user is dragging something."""
        return self.pointer.drag is not None

    @property
    def adding(self) -> bool:
        """Whether the next drag adds a background region; False again once it is drawn."""
        return self._adding

    @adding.setter
    def adding(self, on: bool) -> None:
        if bool(on) == self._adding:
            return
        self._adding = bool(on)
        if not on:
            self._set_cursor(Cursors.POINTER)
        if self.on_adding is not None:
            self.on_adding(self._adding)

    def wants(self, event: MouseEvent) -> bool:
        """Return whether a press at the position of `event` would drag or add a region."""
        if self.busy or not (self.available() and self.contains(event)):
            return self.busy
        return self._adding or self.handle_at(event.x, event.y) is not None

    def press_key(self, key: str) -> None:
        """Handle a key press, including those that another widget has passed on."""
        if key == "escape":
            if self.busy:
                self._cancel()
            else:
                self.adding = False
        elif self.busy:
            return
        elif key in NUDGES:
            self._nudge(-NUDGES[key] if self.axes.xaxis_inverted() else NUDGES[key])
        elif key in ("delete", "backspace"):
            self._delete_selected()
        elif key in STEPS:
            step = -STEPS[key] if self.axes.yaxis_inverted() else STEPS[key]
            self.pointer.set_row(self.live.cursor_row + step)

    def _delete_selected(self) -> None:
        """Delete the selected region unless it is the only aperture."""
        with drawn_once():
            if self.pointer.delete_selected():
                self._hovered = None

    def _nudge(self, dx: float) -> None:
        """Move the part of the selected region that was dragged last, or by default its body."""
        with drawn_once():
            handle = self.pointer.nudge(dx)
            if handle is None:
                return
            if handle.region < len(self.regions):
                self._show_label(self.regions[handle.region], handle, self.position(handle))
            self.overlay.update()

    # --- pointer -------------------------------------------------------------------------------

    def _describe(self, x: float, y: float) -> tuple[str, ...]:
        return self.geometry.describe(x, y)

    def _hover(self, event: MouseEvent | None) -> None:
        label_visible = self.label.text.get_visible()
        handle = None
        if event is not None and not self._adding:
            handle = self.handle_at(event.x, event.y)
        kind = None if handle is None else handle.kind
        if event is not None:
            self._set_cursor(Cursors.SELECT_REGION if self._adding else _HINTS[kind][0])
        elif self._hovered is not None or self._cursor != Cursors.POINTER:
            self._set_cursor(Cursors.POINTER)
        if handle == self._hovered and not label_visible:
            return
        before = None if self._hovered is None else self._hovered.kind
        if self.on_hint is not None and kind != before:
            self.on_hint(_HINTS[kind][1])
        self._hovered = handle
        self.label.hide()
        self._draw()
        self.overlay.update()

    def _set_cursor(self, cursor: Cursors) -> None:
        canvas = self.overlay.canvas
        if cursor == self._cursor or canvas is None:
            return
        self._cursor = cursor
        if cursor != Cursors.POINTER:
            self.overlay.owners["cursor"] = self
        elif self.overlay.owners.get("cursor") is not self:
            return  # another view on this canvas has set the cursor in the meantime
        canvas.set_cursor(cursor)

    def _press(self, event: MouseEvent) -> None:
        start = self.data_at(event)
        if self._adding:
            self.pointer.begin("add", start)
            return
        handle = self.handle_at(event.x, event.y)
        if handle is None:
            self._press_empty(event, start)
            return
        self._hovered = handle
        self.pointer.grab(handle, start)
        self._draw()
        self.overlay.update()

    def _press_empty(self, event: MouseEvent, start: tuple[float, float]) -> None:
        """Handle a press outside all regions."""

    def _drag(self, event: MouseEvent) -> None:
        at, drag = self.data_at(event), self.pointer.drag
        assert drag is not None
        if not np.isfinite(at).all():
            return
        moved = self.pointer.move(at[0], mirrored=has_shift(event))
        if moved is None:
            self.label.hide()
        else:
            self._show_label(moved, drag.handle, (event.x, event.y))
        self.overlay.update()

    def _drop(self) -> None:
        self.label.hide()
        drag = self.pointer.drop()
        if drag.kind == "add" and drag.moved:
            self.adding = False
        self._sync()

    def _cancel(self) -> None:
        self.pointer.cancel()
        self.label.hide()
        self._sync()

    # --- drawing -------------------------------------------------------------------------------

    def _sync(self, *_: object) -> None:
        """Draw the current regions of the extraction."""
        if self.removed:
            return
        self.geometry.regions = tuple(self.live.regions)
        if not self.busy:
            self.label.hide()
            self._hovered = None
        self._draw()
        self.overlay.update()

    def _draw(self, *_: object) -> None:
        """Adapt the artists after a change of the regions or of the limits of the axes."""
        if self.removed:
            return
        hovered = self._hovered
        self.other_apertures.update(self.live, self.geometry)
        while len(self.artists) < len(self.regions):
            self.artists.append(RegionArtists(self.layer, casing=self.casing))
        while len(self.artists) > len(self.regions):
            self.layer.drop(self.artists.pop().all)
        for index, (region, artists) in enumerate(zip(self.regions, self.artists, strict=True)):
            artists.update(
                region,
                self.geometry.outline(region),
                self.handles(index),
                selected=index == self.live.selected,
                hovered=hovered if hovered is not None and hovered.region == index else None,
            )

    def _show_label(
        self, region: Region, handle: Handle | None, at: tuple[float, float] | None
    ) -> None:
        """Write the limits of a region next to `at`, or hide the label if `at` is None."""
        if at is None:
            self.label.hide()
            return
        row = self._label_row(handle, at)
        self.label.show(region, row, float(self.wavelength.at(row)), at)

    def _label_row(self, handle: Handle | None, at: tuple[float, float]) -> float:
        """Return the row for which the label gives the limits of the region."""
        if handle is not None and handle.end is not None:
            rows = self.geometry.end_rows()
            if rows is not None:
                return float(rows[0] if handle.end == "bottom" else rows[1])
        return self.wavelength.closest(self.geometry.row(self.geometry.frame.to_data(*at)[1]))


def has_shift(event: MouseEvent) -> bool:
    """Return whether Shift is pressed during a mouse event."""
    return "shift" in (getattr(event, "modifiers", None) or ()) or event.key == "shift"
