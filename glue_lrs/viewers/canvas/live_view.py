"""LiveView: base class for views of a live extraction on Matplotlib axes."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet

from matplotlib.backend_bases import MouseButton

from glue_lrs.viewers.canvas.blitting import Overlay, drawn_once, root_figure
from glue_lrs.viewers.canvas.navigation import Navigation
from glue_lrs.viewers.live.follower import Follower

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.backend_bases import CloseEvent, KeyEvent, LocationEvent, MouseEvent

    from glue_lrs.viewers.canvas.limits import Limits
    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.regions import RowWavelength

_views: WeakKeyDictionary[LiveExtraction, WeakSet[LiveView]] = WeakKeyDictionary()


class LiveView(Follower):
    """Base class for views that show a live extraction on Matplotlib axes.

    A view is redrawn when properties of the extraction change, and responds to mouse and keyboard.
    The caller must keep a reference to it, because Matplotlib and echo hold callbacks weakly.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        Axes to draw on, on any canvas.
    live : LiveExtraction
        Live extraction to show.
    """

    live: LiveExtraction

    def __init__(self, axes: Axes, live: LiveExtraction) -> None:
        self.axes = axes
        self.live = live
        #: Whether the view responds to mouse and keyboard.
        self.active = True
        self.closed = False
        self.overlay = Overlay.on_axes(axes)
        self.layer = self.overlay.layer(axes)
        self._limit_connections: list[int] = []
        #: Limits of the y axes that adapt to the data.
        self.y_limits: list[Limits] = []
        #: Called with lines about the place under the mouse, and with none when it is elsewhere.
        self.on_readout: Callable[[tuple[str, ...]], None] | None = None
        self.navigation = Navigation(self)
        canvas = root_figure(axes).canvas
        self._connections = [
            canvas.mpl_connect("button_press_event", self._press_event),
            canvas.mpl_connect("motion_notify_event", self._motion_event),
            canvas.mpl_connect("button_release_event", self._release_event),
            canvas.mpl_connect("key_press_event", self._key_event),
            canvas.mpl_connect("figure_leave_event", self._leave_event),
            canvas.mpl_connect("close_event", self._close_event),
        ]
        self.follow(self._live_closed, "closed")
        _views.setdefault(live, WeakSet()).add(self)

    @property
    def removed(self) -> bool:
        """Whether the view is closed or its axes have been removed."""
        return self.closed or root_figure(self.axes) is None

    @property
    def wavelength(self) -> RowWavelength:
        """Conversion between rows and wavelengths for the current image."""
        return self.live.wavelengths

    @property
    def busy(self) -> bool:
        """Whether the user is dragging something in this view."""
        return False

    @property
    def dragging(self) -> bool:
        """Whether the user is dragging something in any view of the same extraction."""
        return any(view.busy for view in _views.get(self.live, ()))

    def follow_limits(self, function: Callable[[Axes], None]) -> None:
        """Call a function whenever the x or y limits of the axes change."""
        connect = self.axes.callbacks.connect
        self._limit_connections += [connect(f"{name}lim_changed", function) for name in "xy"]

    def close(self) -> None:
        """Cancel a drag in progress, disconnect all callbacks and remove the artists."""
        if self.closed:
            return
        if self.busy:
            self._cancel()
        self.closed = True
        for limits in self.y_limits:
            limits.close()
        for connection in self._limit_connections:
            self.axes.callbacks.disconnect(connection)
        self.unfollow()
        self.navigation.close()
        canvas = self.overlay.canvas
        if canvas is not None:
            for connection in self._connections:
                canvas.mpl_disconnect(connection)
        for name, view in list(self.overlay.owners.items()):
            if view is self:
                del self.overlay.owners[name]
        self.overlay.remove(self.layer)

    def reset_limits(self) -> None:
        """Let the limits adapt to the data again after a user has set them."""
        for limits in self.y_limits:
            limits.release()
        with drawn_once():
            self._set_x_limits()
            self._refresh()
            self.overlay.redraw()

    def contains(self, event: LocationEvent) -> bool:
        """Return whether a mouse event is on these axes, and not on other axes above them."""
        if not self.axes.bbox.contains(event.x, event.y):
            return False
        top = event.inaxes
        return top is None or top is self.axes or top.bbox.bounds == self.axes.bbox.bounds

    def available(self) -> bool:
        """Return whether the view may respond to the mouse; False while a tool is active."""
        canvas = self.overlay.canvas
        if self.removed or not self.active or self.live.closed or canvas is None:
            return False
        toolbar = getattr(canvas, "toolbar", None)
        free = not getattr(toolbar, "mode", "") and not canvas.widgetlock.locked()
        return bool(free and self.axes.get_visible())

    def data_at(self, event: MouseEvent) -> tuple[float, float]:
        """Return the position of a mouse event, on or off the axes, in data coordinates."""
        x, y = self.axes.transData.inverted().transform((event.x, event.y))
        return float(x), float(y)

    @property
    def points(self) -> float:
        """Number of pixels per point (1/72 inch)."""
        return float(root_figure(self.axes).dpi) / 72.0

    # --- for subclasses ----------------------------------------------------------------------

    def _press(self, event: MouseEvent) -> None:
        """Handle a press of the left button on the axes, which also gives the view the focus."""

    def _drag(self, event: MouseEvent) -> None:
        """Handle a motion of the mouse during a drag."""

    def _drop(self) -> None:
        """Finish a drag at the current position."""

    def _cancel(self) -> None:
        """Cancel a drag."""

    def _hover(self, event: MouseEvent | None) -> None:
        """Handle a mouse motion without a drag; `event` is None if the mouse is not on the axes."""

    def _describe(self, x: float, y: float) -> tuple[str, ...]:
        """Return lines about a position on the axes, in data coordinates."""
        return ()

    def _refresh(self) -> None:
        """Draw the view again after a drag in any view has ended, or the limits were reset."""

    def _set_x_limits(self) -> None:
        """Set the limits of the x axis so that all data are visible."""

    def press_key(self, key: str) -> None:
        """Handle a key press."""

    # --- events ------------------------------------------------------------------------------

    def _press_event(self, event: MouseEvent) -> None:
        if self.busy and event.button == MouseButton.LEFT:
            self._finish()  # Matplotlib did not report the release of the button
        if event.button != MouseButton.LEFT or not self.available():
            return
        if self.contains(event):
            self.overlay.owners["focus"] = self
            with drawn_once():
                self._press(event)
        elif self.overlay.owners.get("focus") is self:
            del self.overlay.owners["focus"]
            with drawn_once():
                self._hover(None)

    def _motion_event(self, event: MouseEvent) -> None:
        buttons = getattr(event, "buttons", None)
        if buttons:
            self.overlay.reports_buttons = True
        if self.busy and self.overlay.reports_buttons and MouseButton.LEFT not in (buttons or ()):
            self._finish()  # Matplotlib did not report the release of the button
        if self.busy:
            if self.live.closed or self.removed:
                self._cancel()
            else:
                with drawn_once():
                    self._drag(event)
        elif not self.removed:
            inside = self.contains(event)
            self._hover(event if inside and self.available() else None)
            self._report(event if inside else None)

    def _report(self, event: MouseEvent | None) -> None:
        """Describe the place under the mouse; `event` is None if that is not on the axes."""
        if self.on_readout is not None and not self.live.closed:
            self.on_readout(() if event is None else self._describe(*self.data_at(event)))

    def _release_event(self, event: MouseEvent) -> None:
        if self.busy and event.button == MouseButton.LEFT:
            with drawn_once():
                if not (self.live.closed or self.removed):
                    self._drag(event)
                self._finish()

    def _finish(self) -> None:
        with drawn_once():
            if self.live.closed or self.removed:
                self._cancel()
            else:
                self._drop()
            self._notify_drag_ended()

    def _notify_drag_ended(self) -> None:
        for view in list(_views.get(self.live, ())):
            if not view.removed:
                view._refresh()

    def _key_event(self, event: KeyEvent) -> None:
        if event.key is None or not (self.busy or self.available()):
            return
        below = self if event.x is not None and self.contains(event) else None
        focus = self.overlay.owners.get("focus", below)
        if self.busy or focus is self:
            was_busy = self.busy
            with drawn_once():
                self.press_key(event.key)
                if was_busy and not self.busy:
                    self._notify_drag_ended()

    def _leave_event(self, event: LocationEvent) -> None:
        if not self.busy and not self.removed:
            self._hover(None)
            self._report(None)

    def _live_closed(self, *_: object) -> None:
        if self.busy and self.live.closed:
            self._cancel()

    def _close_event(self, event: CloseEvent) -> None:
        self.close()
