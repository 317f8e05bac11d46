"""Blitting: fast redrawing of artists over a cached copy of the figure, on any Matplotlib canvas.

An `Overlay` belongs to a figure. It copies the figure's pixels after every full draw and draws its
layers on top; `Overlay.update` restores the copy and redraws the layers, which takes a millisecond
where drawing an image takes tens. Several views may share one figure.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import TYPE_CHECKING, Any

from matplotlib.artist import Artist

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Layer", "Overlay", "drawn_once", "root_figure"]

_overlays: weakref.WeakKeyDictionary[Any, Overlay] = weakref.WeakKeyDictionary()

#: Overlays to update at the end of the outermost `drawn_once`; None outside of it.
_waiting: list[Overlay] | None = None


def root_figure(axes: Any) -> Any:
    """The figure, not the subfigure, of an axes; None if the axes were removed."""
    return axes.get_figure(root=True)


@contextmanager
def drawn_once() -> Iterator[None]:
    """Redraw each canvas once at the end, regardless of the number of changes."""
    global _waiting
    if _waiting is not None:
        yield
        return
    _waiting = []
    try:
        yield
    finally:
        overlays, _waiting = _waiting, None
        for overlay in overlays:
            overlay.update()


class Layer(Artist):
    """Artists of one view that are drawn together, above all others.

    They are not children of the axes, so that autoscaling and legends ignore them.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        The axes.
    """

    def __init__(self, axes: Axes) -> None:
        super().__init__()
        #: The axes. Unlike `axes`, this attribute keeps them when they are cleared.
        self.home = axes
        self._parts: list[tuple[Any, bool]] = []
        self._above: list[tuple[Any, bool]] = []
        self.set_zorder(30)
        self.set_in_layout(False)
        axes.add_artist(self)

    def put(
        self,
        artist: Any,
        *,
        transform: Any = None,
        clip: bool = True,
        screen_only: bool = False,
        above: bool = False,
    ) -> Any:
        """Add an artist above the present ones, and return it.

        Parameters
        ----------
        artist : `~matplotlib.artist.Artist`
            A line, patch or text.
        transform : `~matplotlib.transforms.Transform`, optional
            Its transform; that of the data by default.
        clip : bool
            Whether to clip it to the axes.
        screen_only : bool
            Whether to omit it in saved figures.
        above : bool
            Whether it stays above artists that are added later.
        """
        axes: Any = self.home
        artist.set_figure(axes.get_figure(root=False))
        artist.axes = axes
        artist.set_transform(axes.transData if transform is None else transform)
        if clip:
            artist.set_clip_path(axes.patch)
        (self._above if above else self._parts).append((artist, screen_only))
        return artist

    def drop(self, artists: Iterable[Any]) -> None:
        """Remove artists."""
        dropped = {id(artist) for artist in artists}
        self._parts = [part for part in self._parts if id(part[0]) not in dropped]

    @property
    def parts(self) -> list[Any]:
        """The artists in drawing order."""
        return [artist for artist, _ in (*self._parts, *self._above)]

    def draw(self, renderer: Any) -> None:
        """Draw the visible artists."""
        if not self.get_visible() or not self.home.get_visible():
            return
        saving = root_figure(self.home).canvas.is_saving()
        for artist, screen_only in (*self._parts, *self._above):
            if not (saving and screen_only):
                artist.draw(renderer)
        self.stale = False

    def contains(self, mouseevent: Any) -> tuple[bool, dict[str, Any]]:
        """Return that nothing is hit: views do their own hit testing."""
        return False, {}


class Overlay:
    """The layers of a figure; obtained by `Overlay.on_axes`.

    Parameters
    ----------
    figure : `~matplotlib.figure.Figure`
        The figure, whose canvas may change.
    """

    def __init__(self, figure: Figure) -> None:
        self._figure = weakref.ref(figure)
        # Weak references: these objects refer to the figure, which is a weak key of `_overlays`.
        self._layers: list[weakref.ref[Layer]] = []
        self._focus: weakref.ref[Any] | None = None
        self._cursor_owner: weakref.ref[Any] | None = None
        self._background: Any = None
        self._size: tuple[float, ...] = ()
        self._redraw = False
        #: Whether motion events of this canvas report the pressed buttons.
        self.reports_buttons = False
        self.connection = figure.canvas.mpl_connect("draw_event", self._drawn)

    @classmethod
    def on_axes(cls, axes: Axes) -> Overlay:
        """The overlay of the figure of an axes."""
        figure = root_figure(axes)
        if figure not in _overlays:
            _overlays[figure] = cls(figure)
        return _overlays[figure]

    @property
    def focus(self) -> Any:
        """The view that receives keys on this canvas: the one clicked last."""
        return None if self._focus is None else self._focus()

    @focus.setter
    def focus(self, view: Any) -> None:
        self._focus = None if view is None else weakref.ref(view)

    @property
    def cursor_owner(self) -> Any:
        """The view that has changed the mouse cursor."""
        return None if self._cursor_owner is None else self._cursor_owner()

    @cursor_owner.setter
    def cursor_owner(self, view: Any) -> None:
        self._cursor_owner = None if view is None else weakref.ref(view)

    @property
    def canvas(self) -> Any:
        """The figure's canvas; None once the figure is deleted."""
        figure = self._figure()
        return None if figure is None else figure.canvas

    @property
    def blits(self) -> bool:
        """Whether the canvas can copy and restore its pixels."""
        canvas = self.canvas
        # Canvases in the browser can, although their `supports_blit`, meant for widgets, is False.
        return hasattr(canvas, "copy_from_bbox") and hasattr(canvas, "restore_region")

    def layer(self, axes: Axes) -> Layer:
        """Make a layer on one of the figure's axes; the caller keeps the reference."""
        made = Layer(axes)
        made.set_animated(self.blits)
        self._layers.append(weakref.ref(made))
        return made

    def remove(self, layer: Layer) -> None:
        """Remove a layer, whether or not its axes still exist."""
        self._forget(layer)
        if layer.axes is not None and layer in layer.home.get_children():
            layer.remove()
        self.update()

    def _forget(self, layer: Layer) -> None:
        self._layers = [one for one in self._layers if one() not in (layer, None)]

    def redraw(self) -> None:
        """Schedule a full draw, after a change of ticks, labels or limits."""
        self._redraw = True
        self.update()

    def update(self) -> None:
        """Redraw the layers; the rest of the figure is restored from the copy."""
        if _waiting is not None:
            if self not in _waiting:
                _waiting.append(self)
            return
        figure, canvas = self._figure(), self.canvas
        if figure is None or canvas is None:
            return
        try:
            if self._redraw or self._background is None or self._size != figure.bbox.bounds:
                self._redraw = False
                canvas.draw_idle()
                return
            canvas.restore_region(self._background)
            self._paint(canvas.get_renderer())
            canvas.blit(figure.bbox)
        except RuntimeError as error:
            # The toolkit has deleted the canvas, as on exit.
            if "deleted" not in str(error):
                raise
            self._layers.clear()

    def _drawn(self, event: Any) -> None:
        """Copy the drawn figure and draw the layers on top."""
        figure = self._figure()
        if figure is None or not self.blits or event.canvas.is_saving():
            return  # layers are drawn as artists of the axes
        if event.canvas is not figure.canvas or isinstance(
            vars(event.renderer).get("draw_path"), FunctionType
        ):
            return  # a dry run for the layout
        canvas: Any = event.canvas
        self._background = canvas.copy_from_bbox(figure.bbox)
        self._size = figure.bbox.bounds
        self._paint(event.renderer)

    def _paint(self, renderer: Any) -> None:
        for reference in list(self._layers):
            layer = reference()
            if layer is None:
                self._layers.remove(reference)
                continue
            if root_figure(layer.home) is not self._figure():
                self._forget(layer)  # its axes were removed
                continue
            if layer.axes is None:  # they were cleared
                layer.home.add_artist(layer)
            layer.draw(renderer)
