"""Changes of the aperture and the background regions with the pointer and the keyboard.

The canvas of each toolkit reports what the pointer does; the rules are the same on all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from glue_lrs.viewers.live.region_constraints import MIN_WIDTH, RegionConstraints
from glue_lrs.viewers.live.region_geometry import Handle
from glue_lrs.viewers.live.regions import DIGITS, Region

if TYPE_CHECKING:
    from glue_lrs.viewers.live.region_geometry import RegionGeometry

#: Number of columns by which each key moves a region or an edge.
NUDGES = {"left": -0.1, "right": 0.1, "shift+left": -1.0, "shift+right": 1.0}

#: Number of rows by which each key moves the crosshair.
STEPS = {"down": -1.0, "up": 1.0, "shift+down": -10.0, "shift+up": 10.0}

_NAMES = {"aperture": "the aperture", "background": "a background region"}


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


class RegionDragging:
    """Drags of regions, and the keys that move them, on axes with columns along x.

    Parameters
    ----------
    geometry : RegionGeometry
        Positions of the regions on the axes.

    Attributes
    ----------
    drag : Drag or None
        Drag in progress.
    focused : Handle or None
        Part of a region that was dragged last, which the arrow keys move.
    """

    def __init__(self, geometry: RegionGeometry) -> None:
        self.geometry = geometry
        self.live = geometry.live
        self.drag: Drag | None = None
        self.focused: Handle | None = None
        self._constraints = RegionConstraints(geometry.live)

    # --- pointer ---------------------------------------------------------------------------------

    def grab(self, handle: Handle, start: tuple[float, float]) -> None:
        """Begin to drag a part of a region, and select the region."""
        self.drag = Drag("handle", start, self.geometry.regions, handle)
        self.focused = handle
        self.live.selected = handle.region

    def begin(self, kind: Literal["add", "row", "range"], start: tuple[float, float]) -> None:
        """Begin another drag."""
        self.drag = Drag(kind, start, self.geometry.regions)

    def move(self, x: float, *, mirrored: bool = False) -> Region | None:
        """Show the result of a drag to a column.

        Parameters
        ----------
        x : float
            Column of the pointer.
        mirrored : bool
            Whether the opposite edge moves the other way, if the end of an edge is dragged.

        Returns
        -------
        Region or None
            The region that is dragged, or None if there is none yet.
        """
        drag = self.drag
        if drag is not None and drag.kind == "add":
            return self._move_new_region(drag, x)
        if drag is not None and drag.handle is not None:
            return self._move_handle(drag, drag.handle, x, mirrored)
        return None

    def _move_handle(self, drag: Drag, handle: Handle, x: float, mirrored: bool) -> Region | None:
        index, dx = handle.region, x - drag.start[0]
        if index >= len(drag.regions) or (dx == 0.0 and not drag.moved):
            return None
        made = drag.regions[index]
        if dx != 0.0:
            made = self._moved(made, handle, dx, drag.start[1], mirrored)
        self.drag = replace(drag, moved=True, mirrored=mirrored)
        regions = (*drag.regions[:index], made, *drag.regions[index + 1 :])
        if regions != self.geometry.regions:
            self.live.preview(regions)
        shown = self.geometry.regions
        return shown[index] if index < len(shown) else None

    def _move_new_region(self, drag: Drag, x: float) -> Region | None:
        columns = self.live.image.shape[1]
        lower, upper = sorted(
            round(min(max(end, -0.5), columns - 0.5), DIGITS) for end in (drag.start[0], x)
        )
        if upper - lower < MIN_WIDTH:
            if drag.moved:
                self.drag = replace(drag, moved=False)
                self.live.cancel()
            return None
        variables = [region.variable for region in drag.regions if region.kind == "background"]
        made = Region("background", (lower,), (upper,), *variables[:1])
        self.drag = replace(drag, moved=True)
        self.live.preview((*drag.regions, made))
        return made

    def _moved(
        self, region: Region, handle: Handle, dx: float, y: float | None, mirrored: bool
    ) -> Region:
        """Return the region with a part moved by `dx` columns, or less if the limits require it.

        `y` is the data coordinate at which an edge was grabbed, or None for that of its handle.
        """
        if handle.part == "body":
            return self._constraints.move_body(region, dx)
        if handle.end is not None:
            rows, move = self.geometry.end_rows(), self._constraints.move_end
            if rows is None:
                return region
            return move(region, handle.part, handle.end, dx, rows, mirrored)
        if y is None:
            heights = self.geometry.handle_heights()
            y = 0.0 if heights is None else heights[0]
        return self._constraints.move_edge(region, handle.part, dx, self.geometry.row(y))

    def drop(self) -> Drag:
        """Commit the result of the drag, and return the drag."""
        drag, self.drag = self.drag, None
        assert drag is not None
        if drag.handle is not None:
            if drag.moved and drag.handle.region < len(drag.regions):
                kind = drag.regions[drag.handle.region].kind
                self.live.commit(_command_label(drag.handle, kind, mirrored=drag.mirrored))
        # `commit` returns False if nothing can be extracted with the new region.
        elif drag.kind == "add" and drag.moved and self.live.commit(f"add {_NAMES['background']}"):
            self.live.selected = len(drag.regions)
            self.focused = None
        return drag

    def cancel(self) -> None:
        """Discard the result of the drag."""
        drag, self.drag = self.drag, None
        if drag is not None and drag.kind in ("handle", "add") and not self.live.closed:
            self.live.cancel()

    # --- keyboard --------------------------------------------------------------------------------

    def nudge(self, dx: float) -> Handle | None:
        """Move the part of the selected region that was dragged last, or by default its body.

        Returns
        -------
        Handle or None
            The part that was moved, or None if nothing has changed.
        """
        index, regions = self._selected(), self.geometry.regions
        if index is None:
            return None
        handle = self.focused
        if handle is None or handle.region != index:
            handle = Handle(index, "body")
        made = self._moved(regions[index], handle, dx, None, False)
        if made == regions[index]:
            return None
        self.live.preview((*regions[:index], made, *regions[index + 1 :]))
        self.live.commit(_command_label(handle, made.kind), step=("nudge", handle))
        return handle

    def delete_selected(self) -> bool:
        """Delete the selected region unless it is the only aperture; return whether it was."""
        index = self._selected()
        kinds = [region.kind for region in self.geometry.regions]
        if index is None or (kinds[index] == "aperture" and kinds.count("aperture") < 2):
            return False
        self.focused = None
        self.live.delete_region(index)
        self.live.selected = 0
        return True

    def _selected(self) -> int | None:
        """Return the index of the selected region; None if no region can be edited now."""
        index = self.live.selected
        if self.drag is not None or self.live.closed or index is None:
            return None
        return index if 0 <= index < len(self.geometry.regions) else None

    def set_row(self, y: float) -> None:
        """Move the crosshair to the row at a data coordinate, or to the closest row."""
        if math.isfinite(y):
            self.live.cursor_row = float(min(max(y, 0.0), self.live.image.shape[0] - 1.0))


def _command_label(handle: Handle, kind: str, *, mirrored: bool = False) -> str:
    """Return the label for glue's undo menu, such as "move the aperture"."""
    verb = {"body": "move", "edge": "move an edge of", "end": "tilt an edge of"}[handle.kind]
    if mirrored and handle.end is not None:
        verb = "taper"
    return f"{verb} {_NAMES[kind]}"
