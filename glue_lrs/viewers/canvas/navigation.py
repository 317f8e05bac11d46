"""Zooming with the wheel and panning with the middle button of the mouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backend_bases import MouseButton

from glue_lrs.viewers.canvas.blitting import drawn_once, root_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import MouseEvent

    from glue_lrs.viewers.canvas.live_view import LiveView

#: Factor by which a step of the wheel changes the range of an axis.
_STEP = 1.2

#: Smallest range of an axis, relative to the largest absolute value in it.
_FINEST = 1e-9


class Navigation:
    """Zoom and pan of a view, also while it does not respond to the left button.

    The wheel zooms about the pointer; below the axes or on their left, it zooms along that axis.

    Parameters
    ----------
    view : LiveView
        View whose axes are zoomed.
    """

    def __init__(self, view: LiveView) -> None:
        self._view = view
        self._axes: Axes = view.axes
        self._last: tuple[float, float] | None = None
        canvas = root_figure(self._axes).canvas
        self._connections = [
            canvas.mpl_connect("scroll_event", self._scroll),
            canvas.mpl_connect("button_press_event", self._press),
            canvas.mpl_connect("motion_notify_event", self._move),
            canvas.mpl_connect("button_release_event", self._release),
        ]

    def close(self) -> None:
        """Disconnect from the canvas."""
        canvas = self._view.overlay.canvas
        if canvas is not None:
            for connection in self._connections:
                canvas.mpl_disconnect(connection)

    @property
    def panning(self) -> bool:
        """Whether the middle button is pressed."""
        return self._last is not None

    def _scroll(self, event: MouseEvent) -> None:
        # with these keys, Matplotlib itself zooms (since version 3.11)
        if self._view.removed or self._view.busy or event.key in ("control", "x", "y"):
            return
        directions = self._directions(event)
        if directions:
            self._zoom((event.x, event.y), _STEP ** -float(event.step), directions)

    def _directions(self, event: MouseEvent) -> str:
        """Return the axes to zoom, "xy", "x", "y" or "", for a position of the pointer."""
        if not self._axes.get_visible():
            return ""
        if self._view.contains(event):
            return "xy"
        box = self._axes.bbox
        other = event.inaxes
        # axes below that share the x axis, such as those of a ratio
        shared = other is None or self._axes.get_shared_x_axes().joined(self._axes, other)
        if box.x0 <= event.x <= box.x1 and event.y < box.y0 and shared:
            return "x"
        left = other is None and event.x < box.x0 and box.y0 <= event.y <= box.y1
        return "y" if left else ""

    def _zoom(self, at: tuple[float, float], factor: float, directions: str) -> None:
        box = self._axes.bbox
        corners = np.array([box.min, box.max], dtype=float)
        self._set_limits(np.asarray(at) + factor * (corners - at), directions)

    def _set_limits(self, corners: np.ndarray, directions: str) -> None:
        """Set the limits to the data coordinates that two corners of the axes have now."""
        limits = self._axes.transData.inverted().transform(corners).T
        span, size = np.abs(np.diff(limits, axis=1)), np.abs(limits).max(axis=1, keepdims=True)
        if not (np.isfinite(limits).all() and (span > _FINEST * size).all()):
            return
        with drawn_once():
            if "x" in directions:
                self._axes.set_xlim(*limits[0])
            if "y" in directions:
                self._axes.set_ylim(*limits[1])
            self._view.overlay.redraw()

    def _press(self, event: MouseEvent) -> None:
        view = self._view
        if event.button == MouseButton.MIDDLE and not (view.removed or view.busy):
            self._last = (event.x, event.y) if view.contains(event) else None

    def _move(self, event: MouseEvent) -> None:
        if self._last is None:
            return
        buttons = getattr(event, "buttons", None)
        if self._view.removed or (buttons is not None and MouseButton.MIDDLE not in buttons):
            self._last = None  # Matplotlib did not report the release of the button
            return
        moved = np.subtract((event.x, event.y), self._last)
        self._last = (event.x, event.y)
        box = self._axes.bbox
        self._set_limits(np.array([box.min, box.max], dtype=float) - moved, "xy")

    def _release(self, event: MouseEvent) -> None:
        if event.button == MouseButton.MIDDLE:
            self._last = None
