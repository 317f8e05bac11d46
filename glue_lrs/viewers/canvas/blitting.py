"""Blitting: fast redrawing of a few artists on top of a cached copy of the figure.

Each figure has one `Overlay`, which may be shared by several views. After every full draw, the
overlay copies the pixels of the figure and draws its layers on top. `Overlay.update` restores the
copy and draws only the layers again. This takes a millisecond, whereas drawing an image takes tens
of milliseconds.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

from matplotlib.artist import Artist

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import DrawEvent, MouseEvent, RendererBase
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

    from glue_lrs.viewers.canvas.live_view import LiveView

_Artist = TypeVar("_Artist", bound=Artist)

_overlays: weakref.WeakKeyDictionary[Figure, Overlay] = weakref.WeakKeyDictionary()

#: Overlays to update at the end of the outermost `drawn_once` block, or None outside a block.
_waiting: list[Overlay] | None = None


def root_figure(axes: Axes) -> Any:
    """Return the outermost figure that contains the axes, or None if the axes were removed."""
    return axes.get_figure(root=True)


@contextmanager
def drawn_once() -> Iterator[None]:
    """Postpone redrawing to the end of the block, so that each canvas is redrawn only once."""
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
    """Artists of a view that are drawn together, above all other artists.

    The artists are not children of the axes, so that autoscaling and legends ignore them.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        Axes to draw on.
    """

    def __init__(self, axes: Axes) -> None:
        super().__init__()
        #: Axes to draw on. Matplotlib sets the attribute `axes`, but not this one, to None when
        #: the axes are cleared.
        self.home = axes
        # `above`, the artist and `screen_only` from each call of `put`
        self._parts: list[tuple[bool, Artist, bool]] = []
        self.set_zorder(30)
        self.set_in_layout(False)
        axes.add_artist(self)

    def put(
        self,
        artist: _Artist,
        *,
        transform: Transform | None = None,
        clip: bool = True,
        screen_only: bool = False,
        above: bool = False,
    ) -> _Artist:
        """Add an artist in front of those that were added before, and return it.

        Parameters
        ----------
        artist : `~matplotlib.artist.Artist`
            Line, patch or text to add.
        transform : `~matplotlib.transforms.Transform`, optional
            Transform from the coordinates of the artist to pixels of the canvas. By default, the
            artist is in data coordinates.
        clip : bool
            Whether to clip the artist to the axes.
        screen_only : bool
            Whether to omit the artist in saved figures.
        above : bool
            Whether to keep the artist in front of artists that are added later.
        """
        axes: Any = self.home
        artist.set_figure(axes.get_figure(root=False))
        artist.axes = axes
        artist.set_transform(axes.transData if transform is None else transform)
        if clip:
            artist.set_clip_path(axes.patch)
        self._parts.append((above, artist, screen_only))
        self._parts.sort(key=itemgetter(0))
        return artist

    def drop(self, artists: tuple[Artist, ...]) -> None:
        """Remove artists from the layer."""
        self._parts = [part for part in self._parts if part[1] not in artists]

    def draw(self, renderer: RendererBase) -> None:
        """Draw the visible artists."""
        if not self.get_visible() or not self.home.get_visible():
            return
        saving = root_figure(self.home).canvas.is_saving()
        for _, artist, screen_only in self._parts:
            if not (saving and screen_only):
                artist.draw(renderer)
        self.stale = False

    def contains(self, mouseevent: MouseEvent) -> tuple[bool, dict[Any, Any]]:
        """Return False, because the views themselves determine what is under the pointer."""
        return False, {}


class Overlay:
    """Layers of a figure, and a cached copy of the figure without the layers.

    Use `Overlay.on_axes` to get the overlay of a figure.

    Parameters
    ----------
    figure : `~matplotlib.figure.Figure`
        Figure that contains the layers. Its canvas may be replaced.
    """

    def __init__(self, figure: Figure) -> None:
        self._figure = weakref.ref(figure)
        # Weak references, because layers and views refer to the figure: with strong references,
        # `_overlays` would keep the figure in memory.
        self._layers: weakref.WeakKeyDictionary[Layer, None] = weakref.WeakKeyDictionary()
        #: The value for "focus" is the view that was clicked last, which receives key presses. The
        #: value for "cursor" is the view that changed the mouse cursor last.
        self.owners: weakref.WeakValueDictionary[str, LiveView] = weakref.WeakValueDictionary()
        self._background: Any = None
        self._size: tuple[float, ...] = ()
        self._redraw = False
        #: Whether mouse motion events on this canvas are known to list the pressed buttons.
        self.reports_buttons = False
        self.connection = figure.canvas.mpl_connect("draw_event", self._drawn)

    @classmethod
    def on_axes(cls, axes: Axes) -> Overlay:
        """Return the overlay of the figure that contains the axes. The first call creates it."""
        figure = root_figure(axes)
        if figure not in _overlays:
            _overlays[figure] = cls(figure)
        return _overlays[figure]

    @property
    def canvas(self) -> Any:
        """Canvas of the figure; None once the figure is deleted."""
        figure = self._figure()
        return None if figure is None else figure.canvas

    @property
    def blits(self) -> bool:
        """Whether the canvas can copy and restore its pixels, as blitting requires."""
        canvas = self.canvas
        # `supports_blit` is not used, because it is False for canvases in the browser, although
        # they can blit.
        return hasattr(canvas, "copy_from_bbox") and hasattr(canvas, "restore_region")

    def layer(self, axes: Axes) -> Layer:
        """Make a layer on axes in the figure. The caller must keep a reference to the layer."""
        made = Layer(axes)
        made.set_animated(self.blits)
        self._layers[made] = None
        return made

    def remove(self, layer: Layer) -> None:
        """Remove a layer, whether or not its axes still exist."""
        self._layers.pop(layer, None)
        if layer.axes is not None and layer in layer.home.get_children():
            layer.remove()
        self.update()

    def redraw(self) -> None:
        """Schedule a full draw of the figure, which is necessary after ticks or limits change."""
        self._redraw = True
        self.update()

    def update(self) -> None:
        """Restore the figure from the cached copy, and draw the layers on top."""
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
            # The GUI toolkit has deleted the canvas, for example on exit.
            if "deleted" not in str(error):
                raise
            self._layers.clear()

    def _drawn(self, event: DrawEvent) -> None:
        """Copy the pixels of the figure after a full draw, and draw the layers on top."""
        figure = self._figure()
        if figure is None or not self.blits or event.canvas.is_saving():
            return  # Matplotlib draws the layers like other artists
        if event.canvas is not figure.canvas or isinstance(
            vars(event.renderer).get("draw_path"), FunctionType
        ):
            return  # Matplotlib only computes the layout and draws nothing
        canvas: Any = event.canvas
        self._background = canvas.copy_from_bbox(figure.bbox)
        self._size = figure.bbox.bounds
        self._paint(event.renderer)

    def _paint(self, renderer: RendererBase) -> None:
        for layer in list(self._layers):
            if root_figure(layer.home) is not self._figure():
                del self._layers[layer]  # the axes of the layer were removed
                continue
            if layer.axes is None:  # the axes of the layer were cleared
                layer.home.add_artist(layer)
            layer.draw(renderer)
