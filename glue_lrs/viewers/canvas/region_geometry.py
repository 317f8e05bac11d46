"""Positions of regions on Matplotlib axes: outlines, handles, and the part at the pointer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glue_lrs.viewers.canvas.live_view import LiveView

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.regions import Edge, End, Region

_ENDS: tuple[End | None, ...] = (None, "bottom", "top")

#: Maximum distance in points from the pointer at which a press grabs a handle or an edge.
REACH = 6.0


class Handle(NamedTuple):
    """A part of a region that can be dragged: the body, an edge, or one end of an edge."""

    region: int
    part: Literal["body", "lower", "upper"]
    end: End | None = None

    @property
    def kind(self) -> Literal["body", "edge", "end"]:
        """What a drag does: move the region ("body"), move an edge, or tilt an edge ("end")."""
        if self.part == "body":
            return "body"
        return "edge" if self.end is None else "end"


class Outline(NamedTuple):
    """Outline of a region: y coordinates (``heights``), and the columns of both edges at each y."""

    heights: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


class RegionGeometry(LiveView, ABC):
    """Base class for views that draw regions on axes with columns along x.

    Subclasses define the meaning of y: the row of the image, or the surface brightness of a
    profile. All y are in data coordinates of the axes.
    """

    def __init__(self, axes: Axes, live: LiveExtraction) -> None:
        super().__init__(axes, live)
        self._regions: tuple[Region, ...] = ()

    @property
    def regions(self) -> tuple[Region, ...]:
        """Regions that are drawn, including changes that are not committed yet."""
        return self._regions

    @abstractmethod
    def row(self, y: float) -> float:
        """Return the row of the image at the data coordinate y."""

    @abstractmethod
    def extent(self) -> tuple[float, float] | None:
        """Return the range of y in which regions are visible; None if there are no rows."""

    def end_heights(self) -> tuple[float, float] | None:
        """Return the y of the handles at both ends of edges; None if ends have no handles."""
        return None

    @abstractmethod
    def handle_heights(self) -> tuple[float, float] | None:
        """Return the y of the handles of both edges, and the y of the handle of the body."""

    @abstractmethod
    def outline(self, region: Region) -> Outline | None:
        """Return the outline of a region; None if it cannot be drawn."""

    def edges_at(self, region: Region, y: float) -> tuple[float, float]:
        """Return the columns of both edges of a region at the data coordinate y."""
        row = self.row(y)
        lower, upper = region.at(row, self.wavelength.at(row))
        return float(lower), float(upper)

    def end_rows(self) -> NDArray[np.float64] | None:
        """Return the rows of the handles at the ends of edges, sorted, or None without handles."""
        heights = self.end_heights()
        return None if heights is None else np.array(sorted(self.row(y) for y in heights))

    def handles(self, index: int) -> list[tuple[Handle, tuple[float, float]]]:
        """Return the handles of a region with their positions (x, y) in data coordinates."""
        heights, region = self.handle_heights(), self._regions[index]
        if heights is None:
            return []
        edge_height, body_height = heights
        lower, upper = self.edges_at(region, body_height)
        made = [(Handle(index, "body"), ((lower + upper) / 2.0, body_height))]
        end_heights = self.end_heights() or ()
        for end, height in zip(_ENDS, (edge_height, *end_heights), strict=False):
            lower, upper = self.edges_at(region, height)
            made.append((Handle(index, "lower", end), (lower, height)))
            made.append((Handle(index, "upper", end), (upper, height)))
        return made

    def position(self, handle: Handle) -> tuple[float, float] | None:
        """Return the position of a handle in pixels of the canvas; None if it is not drawn."""
        place = dict(self.handles(handle.region)).get(handle)
        if place is None:
            return None
        x, y = self.axes.transData.transform(place)
        return float(x), float(y)

    def handle_at(self, x: float, y: float) -> Handle | None:
        """Return the part of a region that a press at a position on the canvas would grab.

        Handles take precedence over edges, and edges over bodies. Among parts of the same kind, the
        selected region takes precedence over other regions.

        Parameters
        ----------
        x, y : float
            Position of the pointer in pixels from the lower left corner of the canvas.
        """
        points, extent = self.points, self.extent()
        if extent is None:
            return None
        reach = REACH * points
        to_screen = self.axes.transData
        height = float(to_screen.inverted().transform((x, y))[1])
        bottom, top = sorted(float(to_screen.transform((0.0, end))[1]) for end in extent)
        found: list[tuple[int, float, Handle]] = []
        for index, region in enumerate(self._regions):
            bonus = 2.0 * points if index == self.live.selected else 0.0
            for handle, place in self.handles(index):
                distance = float(np.hypot(*(to_screen.transform(place) - (x, y))))
                if distance <= reach:
                    found.append((0, distance - bonus, handle))
            if not bottom - reach <= y <= top + reach:
                continue
            edges = self.edges_at(region, min(max(height, min(extent)), max(extent)))
            ends = [float(to_screen.transform((edge, height))[0]) for edge in edges]
            if not np.isfinite(ends).all():
                continue
            inside = min(ends) <= x <= max(ends)
            # Reduce the reach of the edges inside a narrow region, so that a press can also grab
            # the body.
            edge_reach = min(reach, 0.3 * abs(ends[1] - ends[0])) if inside else reach
            distances = [abs(end - x) for end in ends]
            closest = int(np.argmin(distances))
            if distances[closest] <= edge_reach:
                part: Edge = "lower" if closest == 0 else "upper"
                found.append((1, distances[closest] - bonus, Handle(index, part)))
            elif inside:
                found.append((2, abs(ends[1] - ends[0]) - 1e6 * bonus, Handle(index, "body")))
        return min(found)[2] if found else None
