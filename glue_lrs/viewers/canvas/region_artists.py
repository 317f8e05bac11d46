"""Matplotlib artists for a region: fill, edges, handles and the label next to the pointer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from matplotlib.transforms import IdentityTransform

from glue_lrs.plotting.style import BLUE, VERMILION
from glue_lrs.viewers.canvas.blitting import root_figure
from glue_lrs.viewers.canvas.cached_text import CachedText
from glue_lrs.viewers.live.regions import DIGITS

if TYPE_CHECKING:
    from glue_lrs.viewers.canvas.blitting import Layer
    from glue_lrs.viewers.canvas.region_geometry import Handle, Outline
    from glue_lrs.viewers.live.regions import Region

_COLOURS = {"aperture": VERMILION, "background": BLUE}

#: Sizes of handles in points: for any region, for the selected region, and under the pointer.
_SIZES = (4.5, 7.0, 10.0)

#: Index in `RegionArtists.handles` for each kind of handle. The last artist in that list draws the
#: handle under the pointer.
_HANDLE_ARTISTS = {"body": 0, "edge": 1, "end": 2}

_HOVERED = 3


class RegionArtists:
    """Matplotlib artists that draw one region.

    Parameters
    ----------
    put : callable
        Method `Layer.put` of the layer on which to draw.
    casing : bool
        Whether edges have a white border, so that they are visible on dark and on light pixels.
    """

    def __init__(self, put: Callable[..., Any], *, casing: bool = True) -> None:
        self.fill = put(Polygon(np.zeros((2, 2)), closed=True, lw=0))
        self.casing = put(Line2D([], [], color="white", alpha=0.75, solid_capstyle="butt"))
        self.edges = put(Line2D([], [], solid_capstyle="butt"))
        self.hovered_edge = put(Line2D([], [], solid_capstyle="butt"))
        self.handles = [
            put(Line2D([], [], ls="", marker=marker, mew=1.2), screen_only=True)
            for marker in ("s", "o", "D", "s")  # body, edge, end, under the pointer
        ]
        self._has_casing = casing

    @property
    def all(self) -> list[Any]:
        """Artists in drawing order."""
        return [self.fill, self.casing, self.edges, self.hovered_edge, *self.handles]

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
        self.fill.set_xy(
            np.column_stack(
                [np.concatenate([lower, upper[::-1]]), np.concatenate([heights, heights[::-1]])]
            )
        )
        self.fill.set_facecolor(colour)
        self.fill.set_alpha(0.26 if body_hovered else 0.18 if selected else 0.11)
        gap = [np.nan]
        x, y = np.concatenate([lower, gap, upper]), np.concatenate([heights, gap, heights])
        self.casing.set_visible(self._has_casing)
        width = 1.9 if selected else 1.3
        for line, thickness in ((self.casing, width + 1.8), (self.edges, width)):
            line.set_data(x, y)
            line.set_linewidth(thickness)
        self.edges.set_color(colour)
        self.hovered_edge.set_visible(False)
        if hovered is not None and not body_hovered:
            self.hovered_edge.set_visible(True)
            self.hovered_edge.set_data(lower if hovered.part == "lower" else upper, heights)
            self.hovered_edge.set_color(colour)
            self.hovered_edge.set_linewidth(width + 1.4)
        self._update_handles(handles, selected or hovered is not None, hovered, colour)

    def _update_handles(
        self,
        handles: Iterable[tuple[Handle, tuple[float, float]]],
        large: bool,
        hovered: Handle | None,
        colour: str,
    ) -> None:
        places: list[list[tuple[float, float]]] = [[] for _ in self.handles]
        marker = "s"
        for handle, place in handles:
            which = _HANDLE_ARTISTS[handle.kind]
            if handle == hovered:
                marker = str(self.handles[which].get_marker())
                places[_HOVERED].append(place)
            elif handle.kind != "end" or large:  # only the selected region has ends
                places[which].append(place)
        self.handles[_HOVERED].set_marker(marker)
        small, normal, big = _SIZES
        for which, (line, points) in enumerate(zip(self.handles, places, strict=True)):
            filled = which == _HOVERED
            line.set_data([x for x, _ in points], [y for _, y in points])
            line.set_markersize(big if filled else normal if large else small)
            line.set_markerfacecolor(colour if filled else "white")
            line.set_markeredgecolor("white" if filled else colour)


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
        self.text: CachedText = layer.put(
            CachedText(0, 0, "", fontsize=9, edge="0.6", ha="left", va="bottom", visible=False),
            transform=IdentityTransform(), clip=False, screen_only=True, above=True,
        )  # fmt: skip

    @property
    def visible(self) -> bool:
        """Whether the label is shown."""
        return bool(self.text.get_visible())

    def hide(self) -> None:
        """Hide the label."""
        self.text.set_visible(False)

    def show(self, region: Region, row: float, wavelength: float, at: tuple[float, float]) -> None:
        """Write the limits that a region has in one row.

        Parameters
        ----------
        region : Region
            Region whose limits are written.
        row, wavelength : float
            Row for which the limits are written, and its wavelength in micron.
        at : (float, float)
            Position of the pointer in pixels of the canvas.
        """
        lower, upper = (float(edge) for edge in region.at(row, wavelength))
        edges, pixels = limits_text(lower, upper)
        lines = [edges, f"({pixels})", f"width {_plain_number(upper - lower)}"]
        if not region.straight:
            lines.insert(0, f"at row {row:.0f}, {wavelength:.2f} µm")
        self.text.set_text("\n".join(lines))
        self.text.set_visible(True)
        self.text.set_color(_COLOURS[region.kind])
        self._place(at)

    def _place(self, at: tuple[float, float]) -> None:
        """Move the label next to the pointer, so that it is inside the figure and not covered."""
        figure = root_figure(self._axes)
        points = float(figure.dpi) / 72.0
        box, gap, pad = self._axes.bbox, 14.0 * points, 3.0 * points
        width, height = self.text.size(figure.dpi)
        x, y = min(max(at[0], box.x0), box.x1) + gap, min(max(at[1], box.y0), box.y1) + gap
        if x + width + pad > box.x1:
            x = x - 2.0 * gap - width
        if y + height + pad > box.y1:
            y = y - 2.0 * gap - height
        x = min(max(x, pad), max(figure.bbox.x1 - width - pad, pad))
        y = min(max(y, pad), max(figure.bbox.y1 - height - pad, pad))
        self.text.set_position((x, y))


def limits_text(lower: float, upper: float) -> tuple[str, str]:
    """Format edges as positions and as inclusive pixel numbers, which differ by half a pixel.

    Parameters
    ----------
    lower, upper : float
        Positions of the edges, where pixel i reaches from i - 0.5 to i + 0.5.

    Examples
    --------
    >>> limits_text(26.5, 34.5)
    ('edges 26.50 .. 34.50', 'pixels 27 to 34')
    """
    first, last = (_plain_number(value) for value in (lower + 0.5, upper - 0.5))
    return (
        f"edges {_plain_number(lower, short=False)} .. {_plain_number(upper, short=False)}",
        f"pixels {first} to {last}",
    )


def _plain_number(value: float, *, short: bool = True) -> str:
    """Format a number with two decimals, without trailing zeros if `short`, and without -0."""
    text = f"{value + 0.0:.{DIGITS}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.rstrip("0").rstrip(".") if short else text
