"""Region editor: the aperture and the background regions, edited with mouse and keyboard.

All editors of a live extraction draw the regions of its current `Extract1D` operator. During a
drag, only the regions are redrawn, not the whole figure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from matplotlib.backend_tools import Cursors

from glue_lrs.viewers.canvas.blitting import drawn_once
from glue_lrs.viewers.canvas.region_artists import RegionArtists, RegionLabel
from glue_lrs.viewers.canvas.region_constraints import MIN_WIDTH, RegionConstraints
from glue_lrs.viewers.canvas.region_geometry import Handle, RegionGeometry
from glue_lrs.viewers.live.regions import DIGITS, Region

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import MouseEvent

    from glue_lrs.viewers.live.live_extraction import LiveExtraction

#: Number of columns by which each key moves a region or an edge.
_NUDGES = {"left": -0.1, "right": 0.1, "shift+left": -1.0, "shift+right": 1.0}

#: Number of rows by which each key moves the crosshair.
_STEPS = {"down": -1.0, "up": 1.0, "shift+down": -10.0, "shift+up": 10.0}

_NAMES = {"aperture": "the aperture", "background": "a background region"}

#: Mouse cursor and text in the status line while the pointer is on a `Handle` of each kind.
_HINTS = {
    None: (Cursors.POINTER, ""),
    "body": (Cursors.MOVE, "Drag to move the region; arrow keys nudge it"),
    "edge": (Cursors.RESIZE_HORIZONTAL, "Drag to move the edge; arrow keys nudge it"),
    "end": (Cursors.HAND, "Drag to tilt the edge; with Shift, taper the region"),
}


@dataclass(frozen=True)
class Drag:
    """State of a drag in progress.

    Parameters
    ----------
    kind : {"handle", "add", "row", "range"}
        What is dragged: a part of a region ("handle"), a new background region ("add"), the
        crosshair ("row"), or one end of a range of rows ("range").
    start : (float, float)
        Position where the drag began, in data coordinates.
    regions : tuple of Region
        Regions before the drag.
    handle : Handle, optional
        Part of a region that is dragged.
    moved : bool
        Whether the regions have changed since the drag began.
    mirrored : bool
        Whether the opposite edge moves the other way by the same distance (a taper).
    """

    kind: Literal["handle", "add", "row", "range"]
    start: tuple[float, float]
    regions: tuple[Region, ...] = ()
    handle: Handle | None = None
    moved: bool = False
    mirrored: bool = False


class RegionEditor(RegionGeometry):
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

    def __init__(self, axes: Axes, live: LiveExtraction) -> None:
        super().__init__(axes, live)
        self._constraints = RegionConstraints(self)
        self._dragged: Drag | None = None
        self._hovered: Handle | None = None
        self._focused: Handle | None = None
        self._adding = False
        self._cursor = Cursors.POINTER
        #: Called with the new value when `adding` changes.
        self.on_adding: Callable[[bool], None] | None = None
        #: Called with a hint about the drag that a press would begin, or with "" if it begins none.
        self.on_hint: Callable[[str], None] | None = None
        self.artists: list[RegionArtists] = []
        self.label = RegionLabel(self.layer)

    # --- interface -----------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether the user is dragging something."""
        return self._dragged is not None

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
        elif key in _NUDGES:
            self._nudge(-_NUDGES[key] if self.axes.xaxis_inverted() else _NUDGES[key])
        elif key in ("delete", "backspace"):
            self._delete_selected()
        elif key in _STEPS:
            step = -_STEPS[key] if self.axes.yaxis_inverted() else _STEPS[key]
            last = self.live.image.shape[0] - 1.0
            self.live.cursor_row = min(max(self.live.cursor_row + step, 0.0), last)

    def _delete_selected(self) -> None:
        """Delete the selected region unless it is the only aperture."""
        index = self._selected()
        kinds = [region.kind for region in self._regions]
        if index is None or (kinds[index] == "aperture" and kinds.count("aperture") < 2):
            return
        with drawn_once():
            self._hovered = self._focused = None
            self.live.delete_region(index)
            self.live.selected = 0

    def _nudge(self, dx: float) -> None:
        """Move the part of the selected region that was dragged last, or by default its body."""
        index, regions = self._selected(), self._regions
        if index is None:
            return
        handle = self._focused
        if handle is None or handle.region != index:
            handle = Handle(index, "body")
        with drawn_once():
            made = self._moved(regions[index], handle, dx, None, False)
            if made == regions[index]:
                return
            self.live.preview((*regions[:index], made, *regions[index + 1 :]))
            self.live.commit(_command_label(handle, made.kind), step=("nudge", handle))
            if index < len(self._regions):
                self._show_label(self._regions[index], handle, self.position(handle))
            self.overlay.update()

    def _selected(self) -> int | None:
        """Return the index of the selected region; None if no region can be edited now."""
        index = self.live.selected
        if self.busy or self.live.closed or index is None:
            return None
        return index if 0 <= index < len(self._regions) else None

    # --- pointer -------------------------------------------------------------------------------

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
            self._dragged = Drag("add", start, self._regions)
            return
        handle = self.handle_at(event.x, event.y)
        if handle is None:
            self._press_empty(event, start)
            return
        self._dragged = Drag("handle", start, self._regions, handle)
        self._focused = self._hovered = handle
        self.live.selected = handle.region
        self._draw()
        self.overlay.update()

    def _press_empty(self, event: MouseEvent, start: tuple[float, float]) -> None:
        """Handle a press outside all regions."""

    def _drag(self, event: MouseEvent) -> None:
        assert self._dragged is not None
        at = self.data_at(event)
        if not np.isfinite(at).all():
            return
        if self._dragged.kind == "add":
            self._drag_new_region(self._dragged, event, at[0])
        elif self._dragged.handle is not None:
            self._drag_handle(self._dragged, self._dragged.handle, event, at[0])
        self.overlay.update()

    def _drag_handle(self, drag: Drag, handle: Handle, event: MouseEvent, x: float) -> None:
        index = handle.region
        if index >= len(drag.regions):
            return
        dx = x - drag.start[0]
        if dx == 0.0 and not drag.moved:
            return
        mirrored = has_shift(event)
        made = drag.regions[index]
        if dx != 0.0:
            made = self._moved(made, handle, dx, drag.start[1], mirrored)
        self._dragged = replace(drag, moved=True, mirrored=mirrored)
        regions = (*drag.regions[:index], made, *drag.regions[index + 1 :])
        if regions != self._regions:
            self.live.preview(regions)
        if index < len(self._regions):
            self._show_label(self._regions[index], handle, (event.x, event.y))

    def _drag_new_region(self, drag: Drag, event: MouseEvent, x: float) -> None:
        columns = self.live.image.shape[1]
        lower, upper = sorted(
            round(min(max(end, -0.5), columns - 0.5), DIGITS) for end in (drag.start[0], x)
        )
        if upper - lower < MIN_WIDTH:
            if drag.moved:
                self._dragged = replace(drag, moved=False)
                self.live.cancel()
                self.label.hide()
            return
        variables = [region.variable for region in drag.regions if region.kind == "background"]
        made = Region("background", (lower,), (upper,), *variables[:1])
        self._dragged = replace(drag, moved=True)
        self.live.preview((*drag.regions, made))
        self._show_label(made, None, (event.x, event.y))

    def _moved(
        self, region: Region, handle: Handle, dx: float, y: float | None, mirrored: bool
    ) -> Region:
        """Return the region with a part moved by `dx` columns, or less if the limits require it.

        `y` is the data coordinate at which an edge was grabbed, or None for that of its handle.
        """
        if handle.part == "body":
            return self._constraints.move_body(region, dx)
        if handle.end is not None:
            rows, move = self.end_rows(), self._constraints.move_end
            if rows is None:
                return region
            return move(region, handle.part, handle.end, dx, rows, mirrored)
        if y is None:
            heights = self.handle_heights()
            y = 0.0 if heights is None else heights[0]
        return self._constraints.move_edge(region, handle.part, dx, self.row(y))

    def _drop(self) -> None:
        drag, self._dragged = self._dragged, None
        assert drag is not None
        self.label.hide()
        if drag.handle is not None:
            if drag.moved and drag.handle.region < len(drag.regions):
                kind = drag.regions[drag.handle.region].kind
                self.live.commit(_command_label(drag.handle, kind, mirrored=drag.mirrored))
        elif drag.kind == "add" and drag.moved:
            # `commit` returns False if nothing can be extracted with the new region.
            if self.live.commit(f"add {_NAMES['background']}"):
                self.live.selected = len(drag.regions)
                self._focused = None
            self.adding = False
        self._sync()

    def _cancel(self) -> None:
        drag, self._dragged = self._dragged, None
        if drag is not None and drag.kind in ("handle", "add") and not self.live.closed:
            self.live.cancel()
        self.label.hide()
        self._sync()

    # --- drawing -------------------------------------------------------------------------------

    def _sync(self, *_: object) -> None:
        """Draw the current regions of the extraction."""
        if self.removed:
            return
        self._regions = tuple(self.live.regions)
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
        while len(self.artists) < len(self._regions):
            self.artists.append(RegionArtists(self.layer, casing=self.casing))
        while len(self.artists) > len(self._regions):
            self.layer.drop(self.artists.pop().all)
        for index, (region, artists) in enumerate(zip(self._regions, self.artists, strict=True)):
            artists.update(
                region,
                self.outline(region),
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
            rows = self.end_rows()
            if rows is not None:
                return float(rows[0] if handle.end == "bottom" else rows[1])
        y = float(self.axes.transData.inverted().transform(at)[1])
        return self.wavelength.closest(self.row(y))


def has_shift(event: MouseEvent) -> bool:
    """Return whether Shift is pressed during a mouse event."""
    return "shift" in (getattr(event, "modifiers", None) or ()) or event.key == "shift"


def _command_label(handle: Handle, kind: str, *, mirrored: bool = False) -> str:
    """Return the label for glue's undo menu, such as "move the aperture"."""
    verb = {"body": "move", "edge": "move an edge of", "end": "tilt an edge of"}[handle.kind]
    if mirrored and handle.end is not None:
        verb = "taper"
    return f"{verb} {_NAMES[kind]}"
