"""Matplotlib artists for a region: fill, edges, handles and the label next to the pointer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from matplotlib.transforms import IdentityTransform

from glue_lrs.plotting.style import BLUE, VERMILION
from glue_lrs.viewers.canvas.blitting import root_figure
from glue_lrs.viewers.canvas.cached_text import CachedText
from glue_lrs.viewers.live.region_text import region_lines

if TYPE_CHECKING:
    from glue_lrs.viewers.canvas.blitting import Layer
    from glue_lrs.viewers.live.region_geometry import Handle, Outline
    from glue_lrs.viewers.live.regions import Region

_COLOURS = {"aperture": VERMILION, "background": BLUE}

#: Sizes in points of the handles of regions that are not selected, of the handles of the selected
#: region, and of the handle under the pointer.
_SIZES = (4.5, 7.0, 10.0)

#: Index in `RegionArtists.handles` of the artist that draws each kind of handle.
_HANDLE_ARTISTS = {"body": 0, "edge": 1, "end": 2}

#: Index in `RegionArtists.handles` of the artist that draws the handle under the pointer.
_HOVERED = 3


class RegionArtists:
    """Matplotlib artists that draw one region.

    Parameters
    ----------
    layer : Layer
        Layer on which to draw.
    casing : bool
        Whether edges have a white border, so that they are visible on dark and on light pixels.
    """

    def __init__(self, layer: Layer, *, casing: bool = True) -> None:
        put = layer.put
        self.fill = put(Polygon(np.zeros((2, 2)), closed=True, lw=0))
        self.casing = put(Line2D([], [], color="white", alpha=0.75, solid_capstyle="butt"))
        self.edges = put(Line2D([], [], solid_capstyle="butt"))
        self.hovered_edge = put(Line2D([], [], solid_capstyle="butt"))
        self.handles = [
            put(Line2D([], [], ls="", marker=marker, mew=1.2), screen_only=True)
            for marker in ("s", "o", "D", "s")  # body, edge, end, under the pointer
        ]
        self._has_casing = casing
        #: All artists of the region.
        self.all = (self.fill, self.casing, self.edges, self.hovered_edge, *self.handles)

    def update(
        self,
        region: Region,
        outline: Outline | None,
        handles: Iterable[tuple[Handle, tuple[float, float]]],
        *,
        selected: bool,
        hovered: Handle | None,
    ) -> None:
        """Move the artists to a region, and adapt their colours and sizes.

        Parameters
        ----------
        region : Region
            Region to draw.
        outline : Outline or None
            Outline of the region on the axes; if None, nothing is visible.
        handles : iterable of (Handle, (float, float))
            Handles of the region with their positions in data coordinates.
        selected : bool
            Whether the region is selected.
        hovered : Handle or None
            Handle of this region that is under the pointer; None if there is none.
        """
        for artist in self.all:
            artist.set_visible(outline is not None)
        if outline is None:
            return
        heights, lower, upper = outline
        colour = _COLOURS[region.kind]
        body_hovered = hovered is not None and hovered.kind == "body"
        around = np.column_stack([np.r_[lower, upper[::-1]], np.r_[heights, heights[::-1]]])
        alpha = 0.26 if body_hovered else 0.18 if selected else 0.11
        self.fill.set(xy=around, facecolor=colour, alpha=alpha)
        both = np.r_[lower, np.nan, upper], np.r_[heights, np.nan, heights]
        width = 1.9 if selected else 1.3
        self.casing.set(visible=self._has_casing, data=both, linewidth=width + 1.8)
        self.edges.set(data=both, linewidth=width, color=colour)
        self.hovered_edge.set_visible(hovered is not None and not body_hovered)
        if hovered is not None:
            edge = lower if hovered.part == "lower" else upper
            self.hovered_edge.set(data=(edge, heights), color=colour, linewidth=width + 1.4)
        large = selected or hovered is not None
        places: list[list[tuple[float, float]]] = [[] for _ in self.handles]
        marker = "s"
        for handle, place in handles:
            which = _HANDLE_ARTISTS[handle.kind]
            if handle == hovered:
                marker = str(self.handles[which].get_marker())
                places[_HOVERED].append(place)
            elif handle.kind != "end" or large:
                # Handles at the ends of edges are visible only on a selected or hovered region.
                places[which].append(place)
        self.handles[_HOVERED].set_marker(marker)
        small, normal, big = _SIZES
        for which, (line, points) in enumerate(zip(self.handles, places, strict=True)):
            filled = which == _HOVERED
            line.set(
                data=([x for x, _ in points], [y for _, y in points]),
                markersize=big if filled else normal if large else small,
                markerfacecolor=colour if filled else "white",
                markeredgecolor="white" if filled else colour,
            )


class RegionLabel:
    """Label next to the pointer that gives the limits of a region.

    Parameters
    ----------
    layer : Layer
        Layer on which to draw.

    Attributes
    ----------
    text : CachedText
        Artist that draws the label.
    """

    def __init__(self, layer: Layer) -> None:
        self._axes = layer.home
        text = CachedText(0, 0, "", fontsize=9, edge="0.6", ha="left", va="bottom", visible=False)
        screen = IdentityTransform()
        self.text = layer.put(text, transform=screen, clip=False, screen_only=True, above=True)

    def hide(self) -> None:
        """Hide the label."""
        self.text.set_visible(False)

    def show(self, region: Region, row: float, wavelength: float, at: tuple[float, float]) -> None:
        """Show the label with the limits of a region in one row.

        Parameters
        ----------
        region : Region
            Region whose limits are written.
        row, wavelength : float
            Row for which the limits are written, and its wavelength in micron.
        at : (float, float)
            Position of the pointer in pixels of the canvas.
        """
        text = "\n".join(region_lines(region, row, wavelength))
        self.text.set(text=text, visible=True, color=_COLOURS[region.kind])
        self._place(at)

    def _place(self, at: tuple[float, float]) -> None:
        """Put the label inside the figure next to the pointer, but not under the pointer."""
        figure = root_figure(self._axes)
        points = float(figure.dpi) / 72.0
        box, gap, pad = self._axes.bbox, 14.0 * points, 3.0 * points
        size = np.array(self.text.size(figure.dpi))
        place = np.clip(at, box.min, box.max) + gap
        place = np.where(place + size + pad > box.max, place - 2.0 * gap - size, place)
        x, y = np.clip(place, pad, np.maximum(figure.bbox.max - size - pad, pad)).tolist()
        self.text.set_position((x, y))
