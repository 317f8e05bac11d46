"""Figures of bqplot: their size, their marks, and the events of the mouse and the keyboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from bqplot import Lines
from bqplot_image_gl.viewlistener import ViewListener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from glue_jupyter.bqplot.common.viewer import BqplotBaseView
    from numpy.typing import NDArray

#: Width and height in pixels of the axes before a browser has reported them.
_SIZE = (400.0, 300.0)

#: Number of CSS pixels per point, a ratio that the CSS specification fixes.
_POINTS = 96.0 / 72.0

#: Events that a browser sends for a pointer. A click gives the figure the keyboard focus. With
#: "mouseenter", it would take the focus from a cell or a text field that the user types in.
_EVENTS = ("dragstart", "dragmove", "dragend", "mousemove", "click", "mouseleave", "dblclick")
_KEYS = ("keydown", "keyup")

#: Names of keys in Matplotlib, which differ from those in browsers.
_NAMES = {
    "ArrowLeft": "left",
    "ArrowRight": "right",
    "ArrowUp": "up",
    "ArrowDown": "down",
    "Escape": "escape",
    "Delete": "delete",
    "Backspace": "backspace",
}


class FigureFrame:
    """Axes of a bqplot figure as a `glue_lrs.viewers.live.region_geometry.Frame`.

    Pixels are counted from the lower left corner of the axes.

    Parameters
    ----------
    viewer : BqplotBaseView
        Viewer that contains the figure.

    Attributes
    ----------
    listener : ViewListener
        Widget through which the browser reports the size of the axes as ``view_data``.
    """

    points = _POINTS

    def __init__(self, viewer: BqplotBaseView) -> None:
        self._x, self._y = viewer.scale_x, viewer.scale_y
        self.listener = ViewListener(widget=viewer.figure, css_selector=".plotarea_events")

    @property
    def _size(self) -> tuple[float, float]:
        """Size of the view that had the focus last; a notebook may show the figure twice."""
        views = self.listener.view_data.values()
        view = max(views, key=lambda one: (one["focused_at"], one["resized_at"]), default=None)
        if view is None or not view["width"] or not view["height"]:
            return _SIZE
        return float(view["width"]), float(view["height"])

    @property
    def height(self) -> float:
        """Height of the axes in pixels."""
        return self._size[1]

    def at_height(self, fraction: float) -> float:
        """Return the y in data coordinates at a fraction of the height of the axes."""
        low, high = _limits(self._y)
        return low + fraction * (high - low)

    def to_screen(self, x: float, y: float) -> tuple[float, float]:
        """Convert data coordinates to pixels."""
        (left, right), (bottom, top) = _limits(self._x), _limits(self._y)
        width, height = self._size
        return (x - left) / (right - left) * width, (y - bottom) / (top - bottom) * height

    def to_data(self, x: float, y: float) -> tuple[float, float]:
        """Convert pixels to data coordinates."""
        (left, right), (bottom, top) = _limits(self._x), _limits(self._y)
        width, height = self._size
        return left + x / width * (right - left), bottom + y / height * (top - bottom)

    def close(self) -> None:
        """Stop listening to the size of the figure."""
        self.listener.unobserve_all()
        self.listener.layout.close()
        self.listener.close()


def _limits(scale: Any) -> tuple[float, float]:
    """Return the limits of a bqplot scale, or 0 and 1 if they are not set or equal."""
    low, high = scale.min, scale.max
    return (0.0, 1.0) if low is None or high is None or low == high else (float(low), float(high))


def set_scale(scale: Any, low: float, high: float) -> None:
    """Set both limits of a scale in one message to the browser."""
    with scale.hold_sync():
        scale.min, scale.max = float(low), float(high)


def set_line(mark: Lines, x: Any, y: Any) -> None:
    """Set the points of a mark in one message to the browser; without points it is hidden."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    with mark.hold_sync():
        if x.size:
            mark.x, mark.y = x, y
        mark.visible = bool(x.size)


def closed(
    outlines: Iterable[tuple[NDArray[np.float64], NDArray[np.float64]]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y of a line that closes each outline and is interrupted between them.

    The outlines are a single line, because bqplot styles lines that are added later too late.
    """
    lines = [
        (np.r_[x, x[0], x[0]], np.r_[y, y[0], np.nan])  # NaN interrupts the line
        for x, y in outlines
    ]
    if not lines:
        return np.empty(0), np.empty(0)
    x, y = zip(*lines, strict=True)
    return np.concatenate(x)[:-1], np.concatenate(y)[:-1]


def boxes(
    spans: Iterable[tuple[float, float]], across: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the outlines of boxes as one line, along the spans and across them."""
    low, high = across
    other = np.array([low, low, high, high], dtype=float)
    return closed((np.array([start, end, end, start]), other) for start, end in spans)


class PointerTarget(Protocol):
    """Object that responds to the mouse and the keyboard on a figure, in data coordinates."""

    @property
    def busy(self) -> bool:
        """Whether a drag is in progress."""

    def press(self, x: float, y: float) -> None:
        """Begin a drag."""

    def drag(self, x: float, y: float, *, shift: bool) -> None:
        """Continue a drag."""

    def drop(self) -> None:
        """Finish a drag."""

    def cancel(self) -> None:
        """Cancel a drag."""

    def hover(self, x: float, y: float) -> str:
        """Return the name of the mouse cursor at a position."""

    def leave(self) -> None:
        """Handle that the mouse has left the figure."""

    def double_click(self) -> None:
        """Handle a double click."""

    def press_key(self, key: str) -> None:
        """Handle a key, named as in Matplotlib."""


class PointerEvents:
    """Connection between the events of a bqplot figure and the object that responds to them.

    Events are ignored while a tool of the viewer is active.

    Parameters
    ----------
    viewer : BqplotBaseView
        Viewer that contains the figure.
    target : PointerTarget
        Object that responds.
    """

    def __init__(self, viewer: BqplotBaseView, target: PointerTarget) -> None:
        self._viewer, self._target = viewer, target
        self._shift = False
        viewer.add_event_callback(self._handle, events=[*_EVENTS, *_KEYS])

    def close(self) -> None:
        """Disconnect from the figure."""
        self._viewer.remove_event_callback(self._handle)

    def _handle(self, message: dict[str, Any]) -> None:
        event, target = message["event"], self._target
        if event in _KEYS:
            self._handle_key(message["key"], pressed=event == "keydown")
            return
        if self._viewer.toolbar.active_tool is not None and not target.busy:
            return
        x, y = float(message["domain"]["x"]), float(message["domain"]["y"])
        if event == "dragstart":
            if target.busy:  # the browser did not report the end of the last drag
                target.drop()
            target.press(x, y)
        elif event == "dblclick":
            target.double_click()
        elif event == "mousemove" and not target.busy:
            self._viewer._mouse_interact.cursor = target.hover(x, y)
        elif event == "mouseleave":
            self._shift = False
            if not target.busy:
                target.leave()
        elif event in ("dragmove", "dragend") and target.busy:
            target.drag(x, y, shift=self._shift)
            if event == "dragend":
                target.drop()

    def _handle_key(self, key: str, *, pressed: bool) -> None:
        target = self._target
        if key == "Shift":
            self._shift = pressed
        elif pressed and key in _NAMES:
            name = _NAMES[key]
            if target.busy:
                if name == "escape":
                    target.cancel()
                return
            target.press_key(f"shift+{name}" if self._shift and key.startswith("Arrow") else name)


def add_marks(viewer: BqplotBaseView, *marks: Any) -> None:
    """Draw marks above those that the figure of a viewer has."""
    viewer.figure.marks = [*viewer.figure.marks, *marks]


def remove_marks(viewer: BqplotBaseView, *marks: Any) -> None:
    """Remove marks from the figure of a viewer, and close them."""
    gone = {mark.model_id for mark in marks}
    viewer.figure.marks = [one for one in viewer.figure.marks if one.model_id not in gone]
    for mark in marks:
        mark.unobserve_all()
        mark.close()


def on_size(frame: FigureFrame, function: Callable[[], None]) -> None:
    """Call a function when the browser reports another size of a figure."""
    frame.listener.observe(lambda _: function(), names=["view_data"])
