"""Blitting: what moves is drawn over a copy of what does not, on any Matplotlib canvas.

An `Overlay` belongs to a figure. It copies the figure's pixels after every full draw and draws its
layers on top; `Overlay.update` puts the copy back and draws the layers anew, which costs a
millisecond where drawing an image costs tens. Several views may share one figure.
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

__all__ = ["Layer", "Overlay", "held", "root_figure"]

_overlays: weakref.WeakKeyDictionary[Any, Overlay] = weakref.WeakKeyDictionary()

#: Overlays that wait for the outermost `held` to end; None outside of one.
_waiting: list[Overlay] | None = None


def root_figure(axes: Any) -> Any:
    """The figure that an axes is on, not a part of it; None if it was removed."""
    return axes.get_figure(root=True)


@contextmanager
def held() -> Iterator[None]:
    """Let every canvas be drawn once at the end, however many of its layers change."""
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
    """Artists of one view that are drawn together, over everything else.

    They are no children of the axes: nothing that looks through an axes' lines and patches, such
    as its autoscaling and its legend, finds them.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        Where to draw.
    """

    def __init__(self, axes: Axes) -> None:
        super().__init__()
        #: The axes, which this attribute still has when they were cleared.
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
        """Add an artist, over those that are there.

        Parameters
        ----------
        artist : `~matplotlib.artist.Artist`
            A line, a patch, a text.
        transform : `~matplotlib.transforms.Transform`, optional
            That of the data by default.
        clip : bool
            Whether it ends where the axes end.
        screen_only : bool
            Whether it is left out of saved figures.
        above : bool
            Whether it stays over those that are added later.
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
        """Take artists away."""
        gone = {id(artist) for artist in artists}
        self._parts = [part for part in self._parts if id(part[0]) not in gone]

    @property
    def parts(self) -> list[Any]:
        """The artists in the order in which they are drawn."""
        return [artist for artist, _ in (*self._parts, *self._above)]

    def draw(self, renderer: Any) -> None:
        """Draw what is visible."""
        if not self.get_visible() or not self.home.get_visible():
            return
        saving = root_figure(self.home).canvas.is_saving()
        for artist, screen_only in (*self._parts, *self._above):
            if not (saving and screen_only):
                artist.draw(renderer)
        self.stale = False

    def contains(self, mouseevent: Any) -> tuple[bool, dict[str, Any]]:
        """Return that nothing here can be picked; the views do that themselves."""
        return False, {}


class Overlay:
    """The layers of a figure; get it by `Overlay.on_axes`.

    Parameters
    ----------
    figure : `~matplotlib.figure.Figure`
        The figure, whose canvas may change.
    """

    def __init__(self, figure: Figure) -> None:
        self._figure = weakref.ref(figure)
        # Weakly, all three: they lead to the figure, which would keep itself alive in `_overlays`.
        self._layers: list[weakref.ref[Layer]] = []
        self._focus: weakref.ref[Any] | None = None
        self._hinter: weakref.ref[Any] | None = None
        self._background: Any = None
        self._size: tuple[float, ...] = ()
        self._redraw = False
        #: Whether this canvas tells which buttons are held while the mouse moves.
        self.tells_buttons = False
        self.connection = figure.canvas.mpl_connect("draw_event", self._drawn)

    @classmethod
    def on_axes(cls, axes: Axes) -> Overlay:
        """The overlay of the figure that an axes belongs to."""
        figure = root_figure(axes)
        if figure not in _overlays:
            _overlays[figure] = cls(figure)
        return _overlays[figure]

    @property
    def focus(self) -> Any:
        """The view that takes the keys on this canvas: the one that was clicked last."""
        return None if self._focus is None else self._focus()

    @focus.setter
    def focus(self, view: Any) -> None:
        self._focus = None if view is None else weakref.ref(view)

    @property
    def hinter(self) -> Any:
        """The view that has changed the shape of the mouse."""
        return None if self._hinter is None else self._hinter()

    @hinter.setter
    def hinter(self, view: Any) -> None:
        self._hinter = None if view is None else weakref.ref(view)

    @property
    def canvas(self) -> Any:
        """The figure's canvas; None once the figure is gone."""
        figure = self._figure()
        return None if figure is None else figure.canvas

    @property
    def blits(self) -> bool:
        """Whether the canvas can give its pixels and take them back."""
        canvas = self.canvas
        # Those of the browser can, though `supports_blit` says no: it is for widgets.
        return hasattr(canvas, "copy_from_bbox") and hasattr(canvas, "restore_region")

    def layer(self, axes: Axes) -> Layer:
        """Make a layer on one of the figure's axes; whoever asks for it keeps it."""
        made = Layer(axes)
        made.set_animated(self.blits)
        self._layers.append(weakref.ref(made))
        return made

    def remove(self, layer: Layer) -> None:
        """Take a layer away; one whose axes are gone as well."""
        self._forget(layer)
        if layer.axes is not None and layer in layer.home.get_children():
            layer.remove()
        self.update()

    def _forget(self, layer: Layer) -> None:
        self._layers = [one for one in self._layers if one() not in (layer, None)]

    def redraw(self) -> None:
        """Draw the whole figure, soon: ticks, labels or limits have changed."""
        self._redraw = True
        self.update()

    def update(self) -> None:
        """Draw the layers anew; nothing else on the figure changes."""
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
            # A toolkit has deleted its part of the canvas, as at the end of a program.
            if "deleted" not in str(error):
                raise
            self._layers.clear()

    def _drawn(self, event: Any) -> None:
        """Copy what was drawn, and draw the layers over it."""
        figure = self._figure()
        if figure is None or not self.blits or event.canvas.is_saving():
            return  # to a file everything is drawn together
        if event.canvas is not figure.canvas or isinstance(
            vars(event.renderer).get("draw_path"), FunctionType
        ):
            return  # a layout was tried, without drawing
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
