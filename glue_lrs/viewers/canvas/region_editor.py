"""Editors: regions that hands move, on an image and on a cut across the slit.

What is drawn is what the extraction's operator says, on every view of it; while something is
dragged nothing but the regions is drawn anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from matplotlib.backend_tools import Cursors
from matplotlib.transforms import IdentityTransform
from numpy.typing import NDArray

from glue_lrs.plotting.style import BLUE, VERMILION
from glue_lrs.viewers.canvas.blitting import held, root_figure
from glue_lrs.viewers.canvas.cached_text import CachedText
from glue_lrs.viewers.canvas.live_view import LiveView
from glue_lrs.viewers.canvas.region_artists import (
    DIGITS,
    RegionArtists,
    edges_and_pixels,
    plain_number,
)
from glue_lrs.viewers.canvas.spectrum_plot import band_outlines
from glue_lrs.viewers.live.regions import Region

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.regions import Edge, End

__all__ = [
    "CURSORS",
    "PEAK",
    "REACH",
    "WILD_PERCENTILES",
    "Handle",
    "HeldRegion",
    "RegionEditor",
    "steps_band",
    "with_shift",
]

#: How near, in points, the mouse must be to a handle or an edge to take it.
REACH = 6.0

#: Sizes of handles in points: of regions, of the selected one, under the mouse.
_SIZES = (4.5, 7.0, 10.0)

_COLOURS = {"aperture": VERMILION, "background": BLUE}

CURSORS = (0, (6, 3))

#: A region encloses at least a pixel, and keeps as much of itself on the image.
_LEAST = 1.0

#: How far a peak of one column may stand out of the others, over their range: that of a source
#: narrower than any point source of MIRI is within. A higher one gets as much room as `_WILD`.
PEAK, WILD_PERCENTILES = 5.0, 1.0

_NUDGES = {"left": -0.1, "right": 0.1, "shift+left": -1.0, "shift+right": 1.0}

_STEPS = {"down": -1.0, "up": 1.0, "shift+down": -10.0, "shift+up": 10.0}


class Handle(NamedTuple):
    """What of a region the mouse has, or would take."""

    region: int
    part: Literal["body", "lower", "upper"]
    end: End | None = None


@dataclass(frozen=True)
class HeldRegion:
    """What is being dragged.

    `kind` is "grip", "add" (a new background region), "row" (the crosshair) or "range" (of
    wavelengths); `regions` are those before, `start` is where in the data it was taken, and
    `mirrored` whether the other edge mirrors the end that was moved last.
    """

    kind: Literal["grip", "add", "row", "range"]
    start: tuple[float, float]
    regions: tuple[Region, ...] = ()
    grip: Handle | None = None
    moved: bool = False
    mirrored: bool = False


class RegionEditor(LiveView):
    """Regions on axes whose x are columns."""

    #: Whether edges are cased in white.
    _cased = True

    def __init__(self, axes: Axes, live: LiveExtraction) -> None:
        super().__init__(axes, live)
        self._regions: tuple[Region, ...] = ()
        self._held: HeldRegion | None = None
        self._hovered: Handle | None = None
        self._focused: Handle | None = None
        self._adding = False
        self._hint = Cursors.POINTER
        #: Called with True or False when `adding` changes.
        self.on_adding: Callable[[bool], None] | None = None
        #: Called with what a drag would do where the mouse is, or "".
        self.on_hint: Callable[[str], None] | None = None
        self._artists: list[RegionArtists] = []
        self._pixels_of: tuple[Any, tuple[NDArray[np.float64], NDArray[np.float64]]] | None = None
        self._text = self.layer.put(
            CachedText(0, 0, "", fontsize=9, edge="0.6", ha="left", va="bottom", visible=False),
            transform=IdentityTransform(), clip=False, screen_only=True, above=True,
        )  # fmt: skip

    # --- what a shell asks and tells -----------------------------------------------------------

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions as they are drawn."""
        return self._regions

    @property
    def busy(self) -> bool:
        """Whether something is being dragged."""
        return self._held is not None

    @property
    def adding(self) -> bool:
        """Whether the next drag makes a background region; ends when it has."""
        return self._adding

    @adding.setter
    def adding(self, on: bool) -> None:
        if bool(on) == self._adding:
            return
        self._adding = bool(on)
        if not on:
            self._show_hint(Cursors.POINTER)
        if self.on_adding is not None:
            self.on_adding(self._adding)

    def wants(self, event: Any) -> bool:
        """Whether a press there would take hold of a region, or begin a new one."""
        if self.busy:
            return True
        if not (self.available() and self.contains(event)):
            return False
        return self._adding or self._hit(event) is not None

    def grip_at(self, x: float, y: float) -> Handle | None:
        """What the mouse would take at a place on the canvas, in pixels from its lower left."""
        return self._nearest(np.array([x, y], dtype=float))

    def delete_selected(self) -> bool:
        """Take the selected background region away; return whether there was one."""
        index, regions = self.live.selected, self._regions
        if self.busy or self.live.closed or index is None or not 0 <= index < len(regions):
            return False
        kind = regions[index].kind
        if kind == "aperture" and sum(region.kind == "aperture" for region in regions) < 2:
            return False
        with held():
            self._hovered = self._focused = None
            deleted = bool(self.live.delete_region(index))
            self.live.selected = 0
        return deleted

    def nudge(self, dx: float) -> bool:
        """Move what was taken last, or else the selected region; return whether anything moved.

        Parameters
        ----------
        dx : float
            Columns.
        """
        index, regions = self.live.selected, self._regions
        if self.busy or self.live.closed or index is None or not 0 <= index < len(regions):
            return False
        grip = self._focused
        if grip is None or grip.region != index:
            grip = Handle(index, "body")
        with held():
            made = self._edited(regions[index], grip, dx)
            if made == regions[index]:
                return False
            self.live.preview((*regions[:index], made, *regions[index + 1 :]))
            self.live.commit(_what(grip, made.kind), step=("nudge", grip))
            if index < len(self._regions):
                self._write(self._regions[index], grip, self._place(grip))
            self.overlay.update()
        return True

    @property
    def _everywhere(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Rows and wavelengths of all pixels, as far as the width of a region depends on them."""
        image = self.live.image
        if self._pixels_of is None or self._pixels_of[0] is not image.wavelength:
            rows = np.tile(np.arange(image.shape[0], dtype=float), 3)
            wave = np.concatenate([self.wavelength.all, *_extremes(image.wavelength)])
            self._pixels_of = image.wavelength, (rows, wave)
        return self._pixels_of[1]

    def _sync(self, *_: Any) -> None:
        """Draw the regions that the extraction has now."""
        if self.gone:
            return
        self._regions = tuple(self.live.regions)
        if not self.busy:
            self._text.set_visible(False)
            self._hovered = None
        self._draw()
        self.overlay.update()

    # --- geometry: the two editors differ here -------------------------------------------------

    def _row(self, y: float) -> float:
        """The row that a height on the axes stands for."""
        raise NotImplementedError

    def _stretch(self, index: int) -> tuple[float, float] | None:
        """First and last height, on the axes, at which a region can be seen; None if at none."""
        raise NotImplementedError

    def _ends(self, index: int) -> tuple[float, float] | None:
        """Heights at which the ends of edges have handles."""
        raise NotImplementedError

    def _heights(self, index: int) -> tuple[float, float] | None:
        """Heights of the handles of the edges, and of the one of the body."""
        raise NotImplementedError

    def _outline(
        self, index: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
        """Heights, and the two edges there."""
        raise NotImplementedError

    def _edges_at(self, index: int, y: float) -> tuple[float, float]:
        """Columns of a region's edges at a height on the axes."""
        row = self._row(y)
        lower, upper = self._regions[index].at(row, self.wavelength.at(row))
        return float(lower), float(upper)

    # --- the mouse ---------------------------------------------------------------------------

    def _hit(self, event: Any) -> Handle | None:
        return self._nearest(np.array([event.x, event.y], dtype=float))

    def _nearest(self, at: NDArray[np.float64]) -> Handle | None:
        """What is nearest: handles before edges, edges before bodies, the selected one first."""
        reach = REACH * self.points
        to_screen, to_data = self.axes.transData, self.axes.transData.inverted()
        y = float(to_data.transform(at)[1])
        found: list[tuple[int, float, Handle]] = []
        for index in range(len(self._regions)):
            stretch = self._stretch(index)
            if stretch is None:
                continue
            bonus = 2.0 * self.points if index == self.live.selected else 0.0
            for grip, place in self._handles(index):
                distance = float(np.hypot(*(to_screen.transform(place) - at)))
                if distance <= reach:
                    found.append((0, distance - bonus, grip))
            bottom, top = sorted(float(to_screen.transform((0.0, end))[1]) for end in stretch)
            if not bottom - reach <= at[1] <= top + reach:
                continue
            lower, upper = self._edges_at(index, min(max(y, min(stretch)), max(stretch)))
            ends = [float(to_screen.transform((edge, y))[0]) for edge in (lower, upper)]
            if not np.isfinite(ends).all():
                continue
            inside = min(ends) <= at[0] <= max(ends)
            # Within a narrow region its middle must stay in reach.
            near = min(reach, 0.3 * abs(ends[1] - ends[0])) if inside else reach
            distances = [abs(end - at[0]) for end in ends]
            nearest = int(np.argmin(distances))
            if distances[nearest] <= near:
                part: Edge = "lower" if nearest == 0 else "upper"
                found.append((1, distances[nearest] - bonus, Handle(index, part)))
            elif inside:
                found.append((2, abs(ends[1] - ends[0]) - 1e6 * bonus, Handle(index, "body")))
        return min(found)[2] if found else None

    def _handles(self, index: int) -> list[tuple[Handle, tuple[float, float]]]:
        """The handles of a region and where they are, in the units of the axes."""
        heights, ends = self._heights(index), self._ends(index)
        if heights is None:
            return []
        made: list[tuple[Handle, tuple[float, float]]] = []
        lower, upper = self._edges_at(index, heights[1])
        made.append((Handle(index, "body"), ((lower + upper) / 2.0, heights[1])))
        lower, upper = self._edges_at(index, heights[0])
        made.append((Handle(index, "lower"), (lower, heights[0])))
        made.append((Handle(index, "upper"), (upper, heights[0])))
        for end, height in zip(("bottom", "top"), ends or (), strict=False):
            lower, upper = self._edges_at(index, height)
            made.append((Handle(index, "lower", end), (lower, height)))  # type: ignore[arg-type]
            made.append((Handle(index, "upper", end), (upper, height)))  # type: ignore[arg-type]
        return made

    def _place(self, grip: Handle) -> tuple[float, float] | None:
        """Where on the canvas the handle of a grip is."""
        for other, place in self._handles(grip.region):
            if other == grip:
                x, y = self.axes.transData.transform(place)
                return float(x), float(y)
        return None

    def _hover(self, event: Any) -> None:
        was_text = self._text.get_visible()
        grip = None if event is None or self._adding else self._hit(event)
        if event is not None:
            hint = Cursors.SELECT_REGION if self._adding else _HINTS[_kind_of(grip)]
            self._show_hint(hint)
        elif self._hovered is not None or self._hint != Cursors.POINTER:
            self._show_hint(Cursors.POINTER)
        if grip == self._hovered and not was_text:
            return
        if self.on_hint is not None and _kind_of(grip) != _kind_of(self._hovered):
            self.on_hint(_TOLD[_kind_of(grip)])
        self._hovered = grip
        self._text.set_visible(False)
        self._draw()
        self.overlay.update()

    def _show_hint(self, hint: Cursors) -> None:
        canvas = self.overlay.canvas
        if hint == self._hint or canvas is None:
            return
        self._hint = hint
        if hint != Cursors.POINTER:
            self.overlay.hinter = self
        elif self.overlay.hinter is not self:
            return  # another view on this canvas has the mouse by now
        canvas.set_cursor(hint)

    def _press(self, event: Any) -> None:
        start = self.data_at(event)
        if self._adding:
            self._held = HeldRegion("add", start, self._regions)
            return
        grip = self._hit(event)
        if grip is None:
            self._press_empty(event, start)
            return
        self._held = HeldRegion("grip", start, self._regions, grip)
        self._focused = self._hovered = grip
        self.live.selected = grip.region
        self._draw()
        self.overlay.update()

    def _press_empty(self, event: Any, start: tuple[float, float]) -> None:
        """A press where no region is."""

    def _drag(self, event: Any) -> None:
        assert self._held is not None
        at = self.data_at(event)
        if not np.isfinite(at).all():
            return
        if self._held.kind == "add":
            self._drag_new(event, at)
        elif self._held.kind == "grip":
            self._drag_grip(event, at)
        self.overlay.update()

    def _drag_grip(self, event: Any, at: tuple[float, float]) -> None:
        drag = self._held
        assert drag is not None
        assert drag.grip is not None
        index = drag.grip.region
        if index >= len(drag.regions):
            return
        dx = at[0] - drag.start[0]
        if dx == 0.0 and not drag.moved:
            return
        made = drag.regions[index]
        if dx != 0.0:
            made = self._edited(made, drag.grip, dx, drag.start[1], mirrored=with_shift(event))
        self._held = replace(drag, moved=True, mirrored=with_shift(event))
        regions = (*drag.regions[:index], made, *drag.regions[index + 1 :])
        if regions != self._regions:
            self.live.preview(regions)
        if index < len(self._regions):
            self._write(self._regions[index], drag.grip, (event.x, event.y))

    def _drag_new(self, event: Any, at: tuple[float, float]) -> None:
        drag = self._held
        assert drag is not None
        columns = self.live.image.shape[1]
        lower, upper = sorted(
            round(min(max(x, -0.5), columns - 0.5), DIGITS) for x in (drag.start[0], at[0])
        )
        if upper - lower < _LEAST:
            if drag.moved:
                self._held = replace(drag, moved=False)
                self.live.cancel()
                self._text.set_visible(False)
            return
        like = [region.variable for region in drag.regions if region.kind == "background"]
        made = Region("background", (lower,), (upper,), *like[:1])
        self._held = replace(drag, moved=True)
        self.live.preview((*drag.regions, made))
        self._write(made, None, (event.x, event.y))

    def _edited(
        self,
        region: Region,
        grip: Handle,
        dx: float,
        y: float | None = None,
        mirrored: bool = False,
    ) -> Region:
        """The region with one of its parts moved, as far as it can go.

        Edges stop a pixel before the other one and at the image's own edge; a body stops while a
        pixel of it is on the image. An end that is mirrored takes that of the other edge along, the
        other way.
        """
        columns = float(self.live.image.shape[1])
        rows, wave = self._everywhere
        with np.errstate(invalid="ignore"):
            lower, upper = region.at(rows, wave)
        if grip.part == "body":
            if not np.isfinite(lower).any():
                return region
            left, right = (
                -0.5 + _LEAST - np.nanmax(upper),
                columns - 0.5 - _LEAST - np.nanmin(lower),
            )
            # A region that is off the image already may come back, and go no farther.
            dx = min(max(dx, min(left, 0.0)), max(right, 0.0))
            return region.moved(round(dx, DIGITS)).rounded()
        if grip.end is not None:
            ends = self._ends(grip.region)
            if ends is None:
                return region
            end_rows = np.array(sorted(self._row(end) for end in ends))
            return self._bent(region, grip.part, grip.end, dx, end_rows, mirrored)
        if y is None:
            heights = self._heights(grip.region)
            y = 0.0 if heights is None else heights[0]
        row = self._row(y)
        old = float(region.at(row, self.wavelength.at(row))[0 if grip.part == "lower" else 1])
        dx = _stop(old, dx, columns) - old
        return region.with_edge(grip.part, round(dx, DIGITS), rows, wave).rounded()

    def _bent(
        self, region: Region, edge: Edge, end: End, dx: float, rows: NDArray[Any], mirrored: bool
    ) -> Region:
        """The region with an end of an edge moved, `rows` being those of both ends."""
        columns = float(self.live.image.shape[1])
        wave = self.wavelength.at(rows)
        which = 0 if end == "bottom" else 1
        lower, upper = (float(ends[which]) for ends in region.at(rows, wave))
        old, other, inward = (lower, upper, 1.0) if edge == "lower" else (upper, lower, -1.0)
        dx = _stop(old, dx, columns) - old
        if mirrored:
            dx = other - _stop(other, -dx, columns)
        room = max(upper - lower - _LEAST, 0.0)
        dx = inward * min(inward * dx, room / 2.0 if mirrored else room)

        def bent(part: float) -> Region:
            step = part * dx
            if part == 1.0:
                step = round(old + step, DIGITS) - old
            made = region.with_end(edge, end, old + step, rows, wave)
            if mirrored:
                facing: Edge = "upper" if edge == "lower" else "lower"
                made = made.with_end(facing, end, other - step, rows, wave)
            return made

        made = bent(1.0)
        part = self._room(region, made)
        return made if part >= 1.0 else bent(part)

    def _room(self, region: Region, made: Region) -> float:
        """The part of a change, of which the width is a linear function, that leaves a pixel."""
        with np.errstate(invalid="ignore"):
            before, after = (upper - lower for lower, upper in
                             (one.at(*self._everywhere) for one in (region, made)))  # fmt: skip
        tight = after < _LEAST
        if not tight.any():
            return 1.0
        closer = np.maximum(before[tight] - after[tight], 1e-12)
        part = float(np.min((before[tight] - _LEAST) / closer))
        # A little less: the pipeline refuses what rounding makes narrower than a pixel.
        return max(part - 1e-6, 0.0)

    def _drop(self) -> None:
        drag, self._held = self._held, None
        assert drag is not None
        self._text.set_visible(False)
        if drag.kind == "grip" and drag.grip is not None:
            if drag.moved and drag.grip.region < len(drag.regions):
                kind = drag.regions[drag.grip.region].kind
                self.live.commit(_what(drag.grip, kind, drag.mirrored))
        elif drag.kind == "add" and drag.moved:
            # Where the extraction cannot have it, the old regions are back.
            if self.live.commit(f"add {_name('background')}"):
                self.live.selected = len(drag.regions)
                self._focused = None
            self.adding = False
        self._sync()

    def _cancel(self) -> None:
        drag, self._held = self._held, None
        if drag is not None and drag.kind in ("grip", "add") and not self.live.closed:
            self.live.cancel()
        self._text.set_visible(False)
        self._sync()

    def take_key(self, key: str) -> None:
        """Do what a key does over the view, which somebody else got.

        Parameters
        ----------
        key : str
            Matplotlib's name of it.
        """
        self._key(key)

    def _key(self, key: str) -> None:
        if key == "escape":
            if self.busy:
                self._cancel()
            else:
                self.adding = False
        elif self.busy:
            return
        elif key in _NUDGES:
            self.nudge(-_NUDGES[key] if self.axes.xaxis_inverted() else _NUDGES[key])
        elif key in ("delete", "backspace"):
            self.delete_selected()
        elif key in _STEPS and self.live.cursor_row is not None:
            step = -_STEPS[key] if self._rows_downwards() else _STEPS[key]
            last = self.live.image.shape[0] - 1.0
            self.live.cursor_row = min(max(self.live.cursor_row + step, 0.0), last)

    def _rows_downwards(self) -> bool:
        return False

    # --- drawing -----------------------------------------------------------------------------

    def _draw(self) -> None:
        """Bring the artists to where the regions are."""
        while len(self._artists) < len(self._regions):
            self._artists.append(RegionArtists(self.layer.put))
        for artists in self._artists[len(self._regions) :]:
            self.layer.drop(artists.all)
        del self._artists[len(self._regions) :]
        for index, artists in enumerate(self._artists):
            self._draw_region(index, artists)

    def _draw_region(self, index: int, artists: RegionArtists) -> None:
        region, outline = self._regions[index], self._outline(index)
        for artist in artists.all:
            artist.set_visible(outline is not None)
        if outline is None:
            return
        heights, lower, upper = outline
        colour = _COLOURS[region.kind]
        selected = index == self.live.selected
        hovered = self._hovered if self._hovered and self._hovered.region == index else None
        strong = hovered is not None and hovered.part == "body"
        artists.fill.set_xy(
            np.column_stack(
                [np.concatenate([lower, upper[::-1]]), np.concatenate([heights, heights[::-1]])]
            )
        )
        artists.fill.set_facecolor(colour)
        artists.fill.set_alpha(0.26 if strong else 0.18 if selected else 0.11)
        gap = [np.nan]
        x, y = np.concatenate([lower, gap, upper]), np.concatenate([heights, gap, heights])
        artists.casing.set_visible(self._cased)
        width = 1.9 if selected else 1.3
        for line, thick in ((artists.casing, width + 1.8), (artists.edges, width)):
            line.set_data(x, y)
            line.set_linewidth(thick)
        artists.edges.set_color(colour)
        hot = hovered is not None and hovered.part != "body"
        artists.hot.set_visible(hot)
        if hot:
            artists.hot.set_data(lower if hovered.part == "lower" else upper, heights)  # type: ignore[union-attr]
            artists.hot.set_color(colour)
            artists.hot.set_linewidth(width + 1.4)
        self._draw_handles(index, artists, selected or hovered is not None, hovered, colour)

    def _draw_handles(
        self, index: int, artists: RegionArtists, large: bool, hovered: Handle | None, colour: str
    ) -> None:
        places: list[list[tuple[float, float]]] = [[], [], [], []]
        marker = "s"
        for grip, place in self._handles(index):
            which = 0 if grip.part == "body" else 1 if grip.end is None else 2
            if grip == hovered:
                marker = str(artists.handles[which].get_marker())
                places[3].append(place)
            elif which < 2 or large:  # ends of the selected region only
                places[which].append(place)
        artists.handles[3].set_marker(marker)
        for which, (line, points) in enumerate(zip(artists.handles, places, strict=True)):
            line.set_data([x for x, _ in points], [y for _, y in points])
            small, normal, big = _SIZES
            line.set_markersize(big if which == 3 else normal if large else small)
            line.set_markerfacecolor(colour if which == 3 else "white")
            line.set_markeredgecolor("white" if which == 3 else colour)

    def _write(self, region: Region, grip: Handle | None, at: tuple[float, float] | None) -> None:
        """Write the numbers of a region beside a place on the canvas."""
        if at is None:
            self._text.set_visible(False)
            return
        row = self._row_of_text(grip, at)
        wave = float(self.wavelength.at(row))
        lower, upper = (float(edge) for edge in region.at(row, wave))
        lines = [*edges_and_pixels(lower, upper), f"width {plain_number(upper - lower)}"]
        lines[1] = f"({lines[1]})"
        if not region.straight:
            lines.insert(0, f"at row {row:.0f}, {wave:.2f} µm")
        self._text.set_text("\n".join(lines))
        self._text.set_visible(True)
        self._text.set_color(_COLOURS[region.kind])
        self._put_beside(at)

    def _row_of_text(self, grip: Handle | None, at: tuple[float, float]) -> float:
        if grip is not None and grip.end is not None:
            ends = self._ends(grip.region)
            if ends is not None:
                pair = sorted(self._row(end) for end in ends)
                return pair[0] if grip.end == "bottom" else pair[1]
        row = self._row(self.data_at(_Point(*at))[1])
        if self.wavelength.empty:
            return row
        return min(max(row, self.wavelength.rows[0]), self.wavelength.rows[-1])

    def _put_beside(self, at: tuple[float, float]) -> None:
        """Beside the mouse, within the figure, and not below the hand."""
        box, gap, pad = self.axes.bbox, 14.0 * self.points, 3.0 * self.points
        figure = root_figure(self.axes)
        width, height = self._text.size(figure.dpi)
        x, y = min(max(at[0], box.x0), box.x1) + gap, min(max(at[1], box.y0), box.y1) + gap
        if x + width + pad > box.x1:
            x = x - 2.0 * gap - width
        if y + height + pad > box.y1:
            y = y - 2.0 * gap - height
        x = min(max(x, pad), max(figure.bbox.x1 - width - pad, pad))
        y = min(max(y, pad), max(figure.bbox.y1 - height - pad, pad))
        self._text.set_position((x, y))


# --- numbers -----------------------------------------------------------------------------------


class _Point(NamedTuple):
    x: float
    y: float


_HINTS = {
    "none": Cursors.POINTER,
    "body": Cursors.MOVE,
    "edge": Cursors.RESIZE_HORIZONTAL,
    "end": Cursors.HAND,
}

#: What a drag would do, for a line of status in a narrow window.
_TOLD = {
    "none": "",
    "body": "Drag to move it; arrow keys nudge",
    "edge": "Drag to move the edge; arrow keys nudge",
    "end": "Drag to tilt the edge, with Shift to taper",
}


def with_shift(event: Any) -> bool:
    return "shift" in (getattr(event, "modifiers", None) or ()) or event.key == "shift"


def _kind_of(grip: Handle | None) -> str:
    if grip is None:
        return "none"
    if grip.part == "body":
        return "body"
    return "edge" if grip.end is None else "end"


def _name(kind: str) -> str:
    return "the aperture" if kind == "aperture" else "a background region"


def _what(grip: Handle, kind: str, mirrored: bool = False) -> str:
    """How glue's menu calls what was done."""
    if mirrored and grip.end is not None:
        return f"taper {_name(kind)}"
    verb = {"body": "move", "edge": "move an edge of", "end": "tilt an edge of"}[_kind_of(grip)]
    return f"{verb} {_name(kind)}"


def _stop(old: float, dx: float, columns: float) -> float:
    """Where an edge goes: not off the image, unless it is there already."""
    low, high = min(-0.5, old), max(columns - 0.5, old)
    return float(min(max(old + dx, low), high))


def _extremes(wavelength: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shortest and longest wavelength of each row; NaN where it has none."""
    known = np.isfinite(wavelength)
    shortest = np.where(known, wavelength, np.inf).min(axis=1)
    longest = np.where(known, wavelength, -np.inf).max(axis=1)
    none = ~known.any(axis=1)
    return np.where(none, np.nan, shortest), np.where(none, np.nan, longest)


def steps_band(
    columns: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Outlines of an error band in steps."""
    edges = np.column_stack([columns - 0.5, columns + 0.5]).ravel()
    return band_outlines(edges, low.repeat(2), high.repeat(2))
