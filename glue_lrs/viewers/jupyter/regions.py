"""Region editor on a bqplot figure: regions that are drawn, and dragged with the mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from bqplot import Lines, Scatter

from glue_lrs.plotting.style import BLUE, VERMILION
from glue_lrs.viewers.jupyter.figure import (
    FigureFrame,
    PointerEvents,
    add_marks,
    closed,
    on_size,
    remove_marks,
    set_line,
)
from glue_lrs.viewers.jupyter.timing import OTHERS_DELAY, Postponed
from glue_lrs.viewers.live.follower import Follower
from glue_lrs.viewers.live.region_dragging import NUDGES, STEPS, RegionDragging
from glue_lrs.viewers.live.region_text import region_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from glue_jupyter.bqplot.common.viewer import BqplotBaseView
    from numpy.typing import NDArray

    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.region_geometry import Handle, Outline, RegionGeometry
    from glue_lrs.viewers.live.regions import Region

_COLOURS = {"aperture": VERMILION, "background": BLUE}

#: Opacity of the areas of regions.
_OPACITY = 0.2

#: Areas in square pixels of the handles of regions, and of those of the selected region.
_SIZES = (30, 70)

#: Mouse cursor (CSS) on a `Handle` of each kind.
_CURSORS = {"body": "move", "edge": "ew-resize", "end": "grab"}


class RegionEditor(Follower):
    """Editor for the aperture and the background regions on a bqplot figure.

    Parameters
    ----------
    viewer : BqplotBaseView
        Viewer on whose figure to draw.
    live : LiveExtraction
        Live extraction to edit.
    geometry_class : type of RegionGeometry
        Meaning of the y axis.

    Attributes
    ----------
    adding : bool
        Whether the next drag adds a background region.
    on_text : callable or None
        Called with a text about the region that is dragged or the place under the mouse, or "".
    on_adding : callable or None
        Called with the new value when a drag has changed `adding`.
    on_row : callable or None
        Called with the y of a press outside all regions, and of the drag that follows.
    """

    live: LiveExtraction

    def __init__(
        self, viewer: BqplotBaseView, live: LiveExtraction, geometry_class: type[RegionGeometry]
    ) -> None:
        self.viewer = viewer
        self.live = live
        self.frame = FigureFrame(viewer)
        self.geometry = geometry_class(live, self.frame)
        self.pointer = RegionDragging(self.geometry)
        self.adding = False
        self.on_text: Callable[[str], None] | None = None
        self.on_adding: Callable[[bool], None] | None = None
        self.on_row: Callable[[float], None] | None = None
        scales = viewer.scales
        self.areas = {
            kind: Lines(
                scales=scales, colors=[colour], fill_colors=[colour], fill="inside",
                fill_opacities=[_OPACITY], stroke_width=1.5, visible=False,
            )
            for kind, colour in _COLOURS.items()
        }  # fmt: skip
        self.handles = [
            Scatter(scales=scales, marker="square", default_size=size, stroke="white",
                    stroke_width=1, x=[], y=[])
            for size in _SIZES
        ]  # fmt: skip
        add_marks(viewer, *self.areas.values(), *self.handles)
        self._described = ""
        self._later = Postponed(self.draw, OTHERS_DELAY)
        self._text_later = Postponed(lambda: self._text(self._described), OTHERS_DELAY)
        self._events = PointerEvents(viewer, self)
        on_size(self.frame, self.draw)
        self.follow(self.sync, "operator", "selected")
        self.sync()

    def close(self) -> None:
        """Disconnect all callbacks and remove the marks."""
        if self.busy:
            self.cancel()
        self._later.cancel()
        self._text_later.cancel()
        self.unfollow()
        self._events.close()
        self.frame.close()
        remove_marks(self.viewer, *self.areas.values(), *self.handles)

    # --- drawing ---------------------------------------------------------------------------------

    def sync(self, *_: object) -> None:
        """Draw the regions of the extraction, with a delay during a drag in another figure."""
        self.geometry.regions = tuple(self.live.regions)
        if self.busy or self.live.operator is self.live.extract:
            self._later.call()
        else:
            self._later.request()

    def draw(self) -> None:
        """Draw the regions again after a change of the regions, the limits or the size."""
        regions, selected = self.geometry.regions, self.live.selected
        for kind, mark in self.areas.items():
            outlines = [self.geometry.outline(region) for region in regions if region.kind == kind]
            set_line(mark, *closed(_corners(one) for one in outlines if one is not None))
        for large, mark in enumerate(self.handles):
            shown = [
                (place, _COLOURS[region.kind])
                for index, region in enumerate(regions)
                if (index == selected) == bool(large)
                for handle, place in self.geometry.handles(index)
                if large or handle.kind != "end"
            ]
            with mark.hold_sync():
                mark.colors = [colour for _, colour in shown] or [VERMILION]
                mark.x = np.array([place[0] for place, _ in shown])
                mark.y = np.array([place[1] for place, _ in shown])

    # --- pointer ---------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a drag is in progress."""
        return self.pointer.drag is not None

    def handle_at(self, x: float, y: float) -> Handle | None:
        """Return the part of a region that a press at a position in data coordinates would grab."""
        return self.geometry.handle_at(*self.frame.to_screen(x, y))

    def press(self, x: float, y: float) -> None:
        """Begin to drag a part of a region, a new region or the crosshair."""
        if self.live.closed:
            return
        handle = self.handle_at(x, y)
        if self.adding:
            self.pointer.begin("add", (x, y))
        elif handle is not None:
            self.pointer.grab(handle, (x, y))
        elif self.on_row is not None:
            self.pointer.begin("row", (x, y))
            self.on_row(y)

    def drag(self, x: float, y: float, *, shift: bool) -> None:
        """Show the result of a drag, and describe the region that is dragged."""
        drag = self.pointer.drag
        if drag is not None and drag.kind == "row":
            if self.on_row is not None:
                self.on_row(y)
            return
        region = self.pointer.move(x, mirrored=shift)
        if region is not None:
            self._describe(region, y)

    def drop(self) -> None:
        """Commit the result of a drag."""
        drag = self.pointer.drop()
        self._text("")
        if drag.kind == "add" and drag.moved:
            self._set_adding(False)
        self.sync()

    def cancel(self) -> None:
        """Discard the result of a drag."""
        self.pointer.cancel()
        self._text("")
        self.sync()

    def hover(self, x: float, y: float) -> str:
        """Describe the place under the mouse, and return the name of the mouse cursor."""
        if not self.live.closed:
            self._text("; ".join(self.geometry.describe(x, y)))
        if self.adding:
            return "crosshair"
        handle = self.handle_at(x, y)
        return "auto" if handle is None else _CURSORS[handle.kind]

    def leave(self) -> None:
        """Describe nothing, as the mouse is elsewhere."""
        self._text("")

    def double_click(self) -> None:
        """Do nothing."""

    def press_key(self, key: str) -> None:
        """Nudge the selected region, move the crosshair, or delete the selected region."""
        if key == "escape":
            self._set_adding(False)
        elif key in NUDGES:
            self.pointer.nudge(NUDGES[key])
        elif key in STEPS:
            self.pointer.set_row(self.live.cursor_row + STEPS[key])
        elif key in ("delete", "backspace"):
            self.pointer.delete_selected()

    def _set_adding(self, on: bool) -> None:
        self.adding = on
        if self.on_adding is not None:
            self.on_adding(on)

    def _describe(self, region: Region, y: float) -> None:
        """Describe a region in the row of the pointer."""
        wavelengths = self.live.wavelengths
        row = wavelengths.closest(self.geometry.row(y))
        lines = region_lines(region, row, float(wavelengths.at(row)))
        self._described = f"{region.kind}: {', '.join(lines)}"
        self._text_later.request()

    def _text(self, text: str) -> None:
        """Show a text now, and not the one that waits."""
        self._text_later.cancel()
        if self.on_text is not None:
            self.on_text(text)


def _corners(outline: Outline) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y of the corners of a region."""
    heights, lower, upper = outline
    return np.r_[lower, upper[::-1]], np.r_[heights, heights[::-1]]
