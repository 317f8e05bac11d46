"""Positions of regions on axes: outlines, handles, and the part at the pointer.

The axes have columns of the image along x. They are those of any toolkit, described by a `Frame`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from glue_lrs.viewers.live.readout import Readout

if TYPE_CHECKING:
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


class Frame(Protocol):
    """Axes on which regions are drawn: data coordinates and positions in pixels of the screen."""

    @property
    def points(self) -> float:
        """Number of pixels per point (1/72 inch)."""

    @property
    def height(self) -> float:
        """Height of the axes in pixels."""

    def at_height(self, fraction: float) -> float:
        """Return the y in data coordinates at a fraction of the height of the axes."""

    def to_screen(self, x: float, y: float) -> tuple[float, float]:
        """Convert data coordinates to pixels."""

    def to_data(self, x: float, y: float) -> tuple[float, float]:
        """Convert pixels to data coordinates."""


class RegionGeometry(ABC):
    """Base class for the positions of regions on axes with columns along x.

    Subclasses define the meaning of y: the row of the image, or the surface brightness of a
    profile. All y are in data coordinates of the axes.

    Parameters
    ----------
    live : LiveExtraction
        Live extraction whose regions are drawn.
    frame : Frame
        Axes on which the regions are drawn.

    Attributes
    ----------
    regions : tuple of Region
        Regions that are drawn, including changes that are not committed yet.
    """

    def __init__(self, live: LiveExtraction, frame: Frame) -> None:
        self.live = live
        self.frame = frame
        self.regions: tuple[Region, ...] = ()
        self.readout = Readout(live)

    @abstractmethod
    def describe(self, x: float, y: float) -> tuple[str, ...]:
        """Return lines about a place in data coordinates; see `Readout`."""

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
        lower, upper = region.at(row, self.live.wavelengths.at(row))
        return float(lower), float(upper)

    def end_rows(self) -> NDArray[np.float64] | None:
        """Return the rows of the handles at the ends of edges, sorted, or None without handles."""
        heights = self.end_heights()
        return None if heights is None else np.array(sorted(self.row(y) for y in heights))

    def handles(self, index: int) -> list[tuple[Handle, tuple[float, float]]]:
        """Return the handles of a region with their positions (x, y) in data coordinates."""
        heights, region = self.handle_heights(), self.regions[index]
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
        """Return the position of a handle in pixels; None if it is not drawn."""
        place = dict(self.handles(handle.region)).get(handle)
        if place is None:
            return None
        return self.frame.to_screen(*place)

    def handle_at(self, x: float, y: float) -> Handle | None:
        """Return the part of a region that a press at a position on the canvas would grab.

        Handles take precedence over edges, and edges over bodies. Among parts of the same kind, the
        selected region takes precedence over other regions.

        Parameters
        ----------
        x, y : float
            Position of the pointer in pixels.
        """
        points, extent = self.frame.points, self.extent()
        if extent is None:
            return None
        reach = REACH * points
        to_screen = self.frame.to_screen
        height = self.frame.to_data(x, y)[1]
        bottom, top = sorted(to_screen(0.0, end)[1] for end in extent)
        found: list[tuple[int, float, Handle]] = []
        for index, region in enumerate(self.regions):
            bonus = 2.0 * points if index == self.live.selected else 0.0
            for handle, place in self.handles(index):
                distance = float(np.hypot(*np.subtract(to_screen(*place), (x, y))))
                if distance <= reach:
                    found.append((0, distance - bonus, handle))
            if not bottom - reach <= y <= top + reach:
                continue
            edges = self.edges_at(region, min(max(height, min(extent)), max(extent)))
            ends = [to_screen(edge, height)[0] for edge in edges]
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


class ImageGeometry(RegionGeometry):
    """Positions of regions on axes that show the image, with rows along y."""

    def describe(self, x: float, y: float) -> tuple[str, ...]:
        """Return lines about the pixel at a position."""
        return self.readout.pixel(x, y)

    def row(self, y: float) -> float:
        """Return the row of the image at the data coordinate y, which is y itself."""
        return y

    def _rows_used(self) -> tuple[float, float] | None:
        """Return the outer edges of the first and last extracted row, or None if there are none."""
        first, last = self.live.wavelengths.rows[0], self.live.wavelengths.rows[-1]
        # The pipeline applies ystart and ystop of the aperture to the background as well.
        aperture = self.live.operator.aperture
        if aperture.ystart is not None:
            first = max(first, np.ceil(aperture.ystart))
        if aperture.ystop is not None:
            last = min(last, np.floor(aperture.ystop))
        return (float(first) - 0.5, float(last) + 0.5) if last >= first else None

    def extent(self) -> tuple[float, float] | None:
        """Return the lowest and the highest row at which regions are visible."""
        used = self._rows_used()
        if used is None:
            return None
        bottom, top = sorted((self.frame.at_height(0.0), self.frame.at_height(1.0)))
        low, high = max(used[0], bottom), min(used[1], top)
        return (low, high) if high > low else None

    def end_heights(self) -> tuple[float, float] | None:
        """Return the rows of the handles at the ends of edges, which stay clear of the frame."""
        extent = self.extent()
        if extent is None:
            return None
        bottom, top = sorted((self.frame.at_height(0.0), self.frame.at_height(1.0)))
        rows_per_point = (top - bottom) / max(self.frame.height, 1.0) * self.frame.points
        inset = min(1.6 * REACH * rows_per_point, 0.2 * (extent[1] - extent[0]))
        low, high = extent[0] + inset, extent[1] - inset
        return (low, high) if high - low > 1.0 else None

    def handle_heights(self) -> tuple[float, float] | None:
        """Return the row of the handles of both edges, and the row of the handle of the body."""
        extent = self.extent()
        if extent is None:
            return None
        low, high = extent
        return low + 0.5 * (high - low), low + 0.62 * (high - low)

    def outline(self, region: Region) -> Outline | None:
        """Return the outline of a region in the extracted rows."""
        used = self._rows_used()
        if used is None:
            return None
        heights = np.array(used)
        if not region.straight:
            inner = self.live.wavelengths.rows
            inner = inner[(inner > used[0]) & (inner < used[1])]
            heights = np.concatenate([[used[0]], inner, [used[1]]])
        return Outline(heights, *region.at(heights, self.live.wavelengths.at(heights)))


class ProfileGeometry(RegionGeometry):
    """Positions of regions on axes that show the slit profile, with brightness along y."""

    def describe(self, x: float, y: float) -> tuple[str, ...]:
        """Return a line about the profile in the column x."""
        return self.readout.profile(x)

    def row(self, y: float) -> float:
        """Return the row of the crosshair, or the closest row with a wavelength; `y` is ignored."""
        return self.live.wavelengths.closest(self.live.cursor_row)

    def extent(self) -> tuple[float, float] | None:
        """Return the lower and the upper limit of the axes."""
        low, high = sorted((self.frame.at_height(0.0), self.frame.at_height(1.0)))
        return low, high

    def handle_heights(self) -> tuple[float, float] | None:
        """Return the y of the handles of both edges, and the y of the handle of the body."""
        return self.frame.at_height(0.6), self.frame.at_height(0.8)

    def outline(self, region: Region) -> Outline | None:
        """Return the edges as vertical lines, or None if they have no position in this row."""
        edges = self.edges_at(region, 0.0)
        if not np.isfinite(edges).all():
            return None
        heights = np.array([self.frame.at_height(0.0), self.frame.at_height(1.0)])
        return Outline(heights, *(np.full(2, edge) for edge in edges))
