"""View: what everything that shows a live extraction on Matplotlib axes has in common."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backend_bases import MouseButton
from matplotlib.path import Path
from numpy.typing import ArrayLike, NDArray

from glue_lrs.viewers.canvas.blitting import Overlay, held, root_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from glue_lrs.viewers.live.live_extraction import LiveExtraction

__all__ = ["Limits", "LiveView", "RowWavelength", "bands"]

#: Blank part below and above what is drawn, over its height.
_MARGINS = (0.08, 0.16)

#: Height in points of the line of text in the upper corner, under which nothing is to be hidden,
#: and the part of the axes that it gets at most.
_HEAD, _HEAD_PART = 20.0, 0.35

#: What is drawn may shrink to this part of the axes before the limits follow; while dragging less.
_SHRINK, _SHRINK_DRAGGED = 0.6, 0.2

#: Room, over the height of what is drawn, on a side where it has left the axes while dragging: a
#: drag goes on, and each change of limits is a whole drawing.
_AHEAD = 0.7

_views: weakref.WeakKeyDictionary[Any, weakref.WeakSet[LiveView]] = weakref.WeakKeyDictionary()


def bands(spans: Iterable[tuple[float, float]], along_y: bool = False) -> Path:
    """Outline of bands across axes: from 0 to 1 the other way."""
    made = []
    for low, high in spans:
        corners = [(low, 0.0), (high, 0.0), (high, 1.0), (low, 1.0), (low, 0.0)]
        made.append(Path([(y, x) if along_y else (x, y) for x, y in corners], closed=True))
    return Path.make_compound_path(*made)


class RowWavelength:
    """The wavelength of rows, fractions of rows too, and the row of a wavelength.

    Parameters
    ----------
    wavelength : ndarray
        Wavelength of each row in micron, NaN where there is none.
    """

    def __init__(self, wavelength: NDArray[np.float64]) -> None:
        self.all = wavelength
        self.rows = np.flatnonzero(np.isfinite(wavelength)).astype(float)
        self.known = wavelength[np.isfinite(wavelength)]
        order = np.argsort(self.known, kind="stable")
        self._ascending = self.known[order], self.rows[order]

    @property
    def empty(self) -> bool:
        """Whether no row has a wavelength."""
        return self.rows.size == 0

    def at(self, row: ArrayLike) -> NDArray[np.float64]:
        """Wavelength at rows; beyond the rows that have one, that of the nearest of them."""
        if self.empty:
            return np.full(np.shape(row), np.nan)
        return np.asarray(np.interp(np.asarray(row, dtype=float), self.rows, self.known))

    def row(self, wavelength: ArrayLike) -> NDArray[np.float64]:
        """Row at wavelengths; beyond those of the image, the last row that has one."""
        if self.empty:
            return np.full(np.shape(wavelength), np.nan)
        return np.asarray(np.interp(np.asarray(wavelength, dtype=float), *self._ascending))

    def covers(self, row: float) -> bool:
        """Whether a row has a wavelength."""
        return not self.empty and self.rows[0] - 0.5 <= row <= self.rows[-1] + 0.5


class Limits:
    """Limits in y that follow what is drawn, in steps, until somebody else sets them.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        Whose limits.
    text : bool
        Whether there is a line of text in the upper corner.
    """

    def __init__(self, axes: Axes, *, text: bool = True) -> None:
        self._axes = axes
        self._text = text
        self._own: tuple[float, float] | None = None
        #: Whether the limits follow; False once somebody else has set them.
        self.follow = True
        self._wanted: tuple[float, float] | None = None
        self._connection = axes.callbacks.connect("ylim_changed", self._changed)
        self._canvas = root_figure(axes).canvas
        self._resize = self._canvas.mpl_connect("resize_event", self._resized)
        axes.set_autoscaley_on(False)

    def want(self, low: float, high: float, dragging: bool = False) -> bool:
        """Show a range of values; return whether the limits had to change for it.

        Parameters
        ----------
        low, high : float
            The range.
        dragging : bool
            Whether more changes will follow at once: then limits change in larger steps.
        """
        if not self.follow or not np.isfinite([low, high]).all():
            return False
        self._wanted = low, high
        span = high - low or abs(high) or 1.0
        below, above = _MARGINS
        above = max(above, self._head(below))
        if self._own is not None:
            bottom, top = self._own
            least = _SHRINK_DRAGGED if dragging else _SHRINK
            if bottom <= low and high <= top and span >= least * (top - bottom):
                return False
            if dragging:
                below, above = (
                    (_AHEAD if low < bottom else below),
                    (_AHEAD if high > top else above),
                )
        self._own = low - below * span, high + above * span
        self._axes.set_ylim(self._own)
        return True

    def _head(self, below: float) -> float:
        """What must be blank above, over the height of what is drawn, for a line of text."""
        figure = root_figure(self._axes)
        height = 0.0 if figure is None else float(self._axes.bbox.height)
        if height <= 0.0 or not self._text:
            return 0.0
        part = min(_HEAD * float(figure.dpi) / 72.0 / height, _HEAD_PART)
        return (1.0 + below) * part / (1.0 - part)

    def release(self) -> None:
        """Follow again, starting from what is drawn next."""
        self.follow, self._own, self._wanted = True, None, None

    def close(self) -> None:
        """Leave the axes alone."""
        self._axes.callbacks.disconnect(self._connection)
        self._canvas.mpl_disconnect(self._resize)

    def _resized(self, *_: Any) -> None:
        """The line of text takes another part of the axes; all is drawn anew after this."""
        if self.follow and self._wanted is not None and root_figure(self._axes) is not None:
            self._own = None
            self.want(*self._wanted)

    def _changed(self, axes: Axes) -> None:
        now = sorted(axes.get_ylim())
        if self._own is not None and not np.allclose(now, self._own, rtol=1e-6, atol=0.0):
            self.follow = False


class LiveView:
    """A view of a live extraction: listens to it, and to the mouse on its own axes.

    Whoever makes a view keeps it: Matplotlib and echo hold their listeners weakly.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        Where to draw, on any canvas.
    live : LiveExtraction
        What to show.
    """

    def __init__(self, axes: Axes, live: LiveExtraction) -> None:
        self.axes = axes
        self.live = live
        #: Whether the mouse and the keys do anything here.
        self.active = True
        self.closed = False
        self._wavelength: RowWavelength | None = None
        self.overlay = Overlay.on_axes(axes)
        self.layer = self.overlay.layer(axes)
        self._followed: list[tuple[str, Callable[..., None]]] = []
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
        _views.setdefault(live, weakref.WeakSet()).add(self)

    @property
    def gone(self) -> bool:
        """Whether there is nothing left to draw on: the view is closed, or its axes removed."""
        return self.closed or root_figure(self.axes) is None

    @property
    def wavelength(self) -> RowWavelength:
        """Wavelengths of the rows of the image, which may be exchanged."""
        if self._wavelength is None or self._wavelength.all is not self.live.row_wavelength:
            self._wavelength = RowWavelength(self.live.row_wavelength)
        return self._wavelength

    @property
    def busy(self) -> bool:
        """Whether the mouse is dragging something of this view."""
        return False

    @property
    def dragging(self) -> bool:
        """Whether something is being dragged in any view of the extraction."""
        return any(view.busy for view in _views.get(self.live, ()))

    def follow(self, function: Callable[..., None], *names: str) -> None:
        """Call a method when properties of the extraction change."""
        for name in names:
            self.live.add_callback(name, function)
            self._followed.append((name, function))

    def close(self) -> None:
        """Give up a drag, disconnect everything, and take away what was drawn."""
        if self.closed:
            return
        if self.busy:
            self._cancel()
        self.closed = True
        for name, function in self._followed:
            self.live.remove_callback(name, function)
        canvas = self.overlay.canvas
        if canvas is not None:
            for connection in self._connections:
                canvas.mpl_disconnect(connection)
        if self.overlay.focus is self:
            self.overlay.focus = None
        if self.overlay.hinter is self:
            self.overlay.hinter = None
        self.overlay.remove(self.layer)

    def contains(self, event: Any) -> bool:
        """Whether a mouse event is on these axes and not on others that lie over them."""
        if not self.axes.bbox.contains(event.x, event.y):
            return False
        top = event.inaxes
        return top is None or top is self.axes or top.bbox.bounds == self.axes.bbox.bounds

    def available(self) -> bool:
        """Whether the mouse is free for this view: no zoom, no pan, nothing closed."""
        canvas = self.overlay.canvas
        if self.gone or not self.active or self.live.closed or canvas is None:
            return False
        if not self.axes.get_visible():
            return False
        toolbar = getattr(canvas, "toolbar", None)
        return not getattr(toolbar, "mode", "") and not canvas.widgetlock.locked()

    def data_at(self, event: Any) -> tuple[float, float]:
        """Position of a mouse event in the units of the axes, off the axes as well."""
        x, y = self.axes.transData.inverted().transform((event.x, event.y))
        return float(x), float(y)

    @property
    def points(self) -> float:
        """Pixels of the screen a point (1/72 inch)."""
        return float(root_figure(self.axes).dpi) / 72.0

    # --- what views do with the mouse --------------------------------------------------------

    def _press(self, event: Any) -> None:
        """A button went down on the axes; `overlay.focus` is this view."""

    def _drag(self, event: Any) -> None:
        """The mouse moves while something is dragged."""

    def _drop(self) -> None:
        """What is dragged stays where it is now."""

    def _cancel(self) -> None:
        """What is dragged goes back."""

    def _hover(self, event: Any) -> None:
        """The mouse moves with nothing in hand; event is None when it has left."""

    def _settle(self) -> None:
        """A drag has ended, in this view or in another one of the extraction."""

    def _key(self, key: str) -> None:
        """A key was pressed for this view."""

    def _press_event(self, event: Any) -> None:
        if self.busy and event.button == MouseButton.LEFT:
            self._finish()  # the release was lost
        if event.button != MouseButton.LEFT or not self.available():
            return
        if self.contains(event):
            self.overlay.focus = self
            with held():
                self._press(event)
        elif self.overlay.focus is self:
            self.overlay.focus = None
            with held():
                self._hover(None)

    def _motion_event(self, event: Any) -> None:
        buttons = getattr(event, "buttons", None)
        if buttons:
            self.overlay.tells_buttons = True
        if self.busy and self.overlay.tells_buttons and MouseButton.LEFT not in (buttons or ()):
            self._finish()  # the release was lost
        if self.busy:
            if self.live.closed or self.gone:
                self._cancel()
                return
            with held():
                self._drag(event)
            return
        if not self.gone:
            inside = self.available() and self.contains(event)
            self._hover(event if inside else None)

    def _release_event(self, event: Any) -> None:
        if self.busy and event.button == MouseButton.LEFT:
            with held():
                if not (self.live.closed or self.gone):
                    self._drag(event)
                self._finish()

    def _finish(self) -> None:
        with held():
            if self.live.closed or self.gone:
                self._cancel()
            else:
                self._drop()
            self._settle_all()

    def _settle_all(self) -> None:
        for view in list(_views.get(self.live, ())):
            if not view.gone:
                view._settle()

    def _key_event(self, event: Any) -> None:
        if event.key is None or not (self.busy or self.available()):
            return
        focus = self.overlay.focus
        if self.busy or focus is self or (focus is None and self._under(event)):
            was_busy = self.busy
            with held():
                self._key(event.key)
                if was_busy and not self.busy:
                    self._settle_all()

    def _under(self, event: Any) -> bool:
        return event.x is not None and self.contains(event)

    def _leave_event(self, event: Any) -> None:
        if not self.busy and not self.gone:
            self._hover(None)

    def _live_closed(self, *_: Any) -> None:
        if self.busy and self.live.closed:
            self._cancel()

    def _close_event(self, event: Any) -> None:
        self.close()
