"""Geometry of regions on axes: outlines, handles and hit testing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from glue_lrs.viewers.canvas.live_view import LiveView
    from glue_lrs.viewers.live.regions import Edge, End, Region

__all__ = ["REACH", "Handle", "Outline", "RegionGeometry"]

#: Maximum distance in points between the pointer and a handle or an edge that it takes.
REACH = 6.0


class Handle(NamedTuple):
    """A part of a region that can be dragged: its body, an edge, or one end of an edge."""

    region: int
    part: Literal["body", "lower", "upper"]
    end: End | None = None

    @property
    def kind(self) -> Literal["body", "edge", "end"]:
        """Kind of the handle, which decides what a drag of it does."""
        if self.part == "body":
            return "body"
        return "edge" if self.end is None else "end"


class Outline(NamedTuple):
    """Heights on the axes, and the columns of both edges at these heights."""

    heights: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


class RegionGeometry(ABC):
    """Positions of regions and of their handles on the axes of a view, whose x are columns.

    Subclasses define what a height on the axes means.

    Parameters
    ----------
    view : LiveView
        The view, for its axes, its extraction and the wavelengths of the rows.
    """

    def __init__(self, view: LiveView) -> None:
        self.view = view

    @abstractmethod
    def row(self, y: float) -> float:
        """Row of the image at a height on the axes."""

    @abstractmethod
    def extent(self) -> tuple[float, float] | None:
        """Lowest and highest height at which regions are visible; None if they are at none."""

    @abstractmethod
    def end_heights(self) -> tuple[float, float] | None:
        """Heights of the handles at the ends of edges; None if there are none."""

    @abstractmethod
    def handle_heights(self) -> tuple[float, float] | None:
        """Heights of the handles of the edges, and of the handle of the body."""

    @abstractmethod
    def outline(self, region: Region) -> Outline | None:
        """Outline of a region; None if it cannot be drawn."""

    def edges_at(self, region: Region, y: float) -> tuple[float, float]:
        """Columns of both edges of a region at a height on the axes."""
        row = self.row(y)
        lower, upper = region.at(row, self.view.wavelength.at(row))
        return float(lower), float(upper)

    def end_rows(self) -> NDArray[np.float64] | None:
        """Rows, ascending, of the handles at the ends of edges."""
        heights = self.end_heights()
        return None if heights is None else np.array(sorted(self.row(y) for y in heights))

    def handles(self, index: int, region: Region) -> list[tuple[Handle, tuple[float, float]]]:
        """The handles of a region with their positions in data coordinates."""
        heights = self.handle_heights()
        if heights is None:
            return []
        lower, upper = self.edges_at(region, heights[1])
        made = [(Handle(index, "body"), ((lower + upper) / 2.0, heights[1]))]

        def add(height: float, end: End | None) -> None:
            lower, upper = self.edges_at(region, height)
            made.append((Handle(index, "lower", end), (lower, height)))
            made.append((Handle(index, "upper", end), (upper, height)))

        add(heights[0], None)
        ends = self.end_heights()
        if ends is not None:
            add(ends[0], "bottom")
            add(ends[1], "top")
        return made

    def position(self, handle: Handle, region: Region) -> tuple[float, float] | None:
        """Position of a handle in pixels of the canvas; None if it is not drawn."""
        for other, place in self.handles(handle.region, region):
            if other == handle:
                x, y = self.view.axes.transData.transform(place)
                return float(x), float(y)
        return None

    def nearest(
        self, x: float, y: float, regions: Sequence[Region], selected: int | None
    ) -> Handle | None:
        """The handle at a position on the canvas.

        Handles take precedence over edges and edges over bodies; the selected region over others.

        Parameters
        ----------
        x, y : float
            Position in pixels from the lower left corner of the canvas.
        regions : sequence of Region
            The regions that are drawn.
        selected : int or None
            Index of the selected region.
        """
        points, extent = self.view.points, self.extent()
        if extent is None:
            return None
        reach = REACH * points
        to_screen = self.view.axes.transData
        height = float(to_screen.inverted().transform((x, y))[1])
        bottom, top = sorted(float(to_screen.transform((0.0, end))[1]) for end in extent)
        found: list[tuple[int, float, Handle]] = []
        for index, region in enumerate(regions):
            bonus = 2.0 * points if index == selected else 0.0
            for handle, place in self.handles(index, region):
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
            # The middle of a narrow region stays within reach.
            edge_reach = min(reach, 0.3 * abs(ends[1] - ends[0])) if inside else reach
            distances = [abs(end - x) for end in ends]
            closest = int(np.argmin(distances))
            if distances[closest] <= edge_reach:
                part: Edge = "lower" if closest == 0 else "upper"
                found.append((1, distances[closest] - bonus, Handle(index, part)))
            elif inside:
                found.append((2, abs(ends[1] - ends[0]) - 1e6 * bonus, Handle(index, "body")))
        return min(found)[2] if found else None
