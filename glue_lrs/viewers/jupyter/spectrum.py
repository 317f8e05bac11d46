"""The spectrum viewer in a notebook: flux with errors, redrawn during drags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from bqplot import Lines, Scatter
from glue.viewers.profile.state import ProfileViewerState
from glue_jupyter.bqplot.profile import BqplotProfileView
from glue_jupyter.registries import viewer_registry

from glue_lrs.plotting.style import BLUE, GREEN, ORANGE, PURPLE, VERMILION
from glue_lrs.viewers.datasets.images import is_lrs_image
from glue_lrs.viewers.jupyter.base import NotebookViewer
from glue_lrs.viewers.jupyter.figure import (
    FigureFrame,
    PointerEvents,
    add_marks,
    boxes,
    remove_marks,
    set_line,
    set_scale,
)
from glue_lrs.viewers.jupyter.limits import ScaleLimits
from glue_lrs.viewers.live.comparison import in_unit
from glue_lrs.viewers.live.plotted_spectrum import (
    FluxUnit,
    flux_unit,
    isolated_points,
    plotted_columns,
    robust_range,
)
from glue_lrs.viewers.live.readout import Readout
from glue_lrs.viewers.live.viewer import StateWithHome

if TYPE_CHECKING:
    from collections.abc import Callable

    from glue.core import BaseData, Subset
    from numpy.typing import NDArray

    from glue_lrs.viewers.live.live_extraction import LiveExtraction

#: Colour of the marks of rows with quality bits, as in figures.
_FLAGGED = "#737373"

#: A press is a click, not a drag, if the mouse moves by less than this distance in points.
_CLICK = 3.0


class LRSSpectrumState(StateWithHome, ProfileViewerState):
    """State of the viewer. A live spectrum resets the limits."""


@viewer_registry("lrs-spectrum")
class LRSSpectrumView(NotebookViewer, BqplotProfileView):
    """Viewer for flux against wavelength, for live extractions and other 1-D spectra.

    A click moves the crosshair. A drag selects a range of wavelengths in glue, and a double click
    or the Delete key clears this selection.
    """

    LABEL = "LRS spectrum"
    _state_cls = LRSSpectrumState
    tools = ("bqplot:home", "bqplot:panzoom", "bqplot:xrange")

    #: Called with a text about the place under the mouse, or with "".
    on_text: Callable[[str], None] | None = None

    # --- layers ----------------------------------------------------------------------------------

    def add_data(self, data: BaseData, **kwargs: Any) -> bool:
        """Add a spectrum; for an LRS image, add the spectrum of its live extraction."""
        if is_lrs_image(data):
            live = self.live_or_error(data, make=True)
            if live is None:
                return False
            data = live.spectrum_data
        added = bool(super().add_data(data, **kwargs))
        if added:
            flux = data.find_component_id("flux")
            for state in self.state.layers:
                if state.layer is data and flux is not None:
                    state.attribute = flux
            self.find_live(make=False)
        return added

    def add_subset(self, subset: Subset) -> bool:
        """Add a subset, except of the live spectrum, whose selected ranges are drawn."""
        if self.live is not None and subset.data is self.live.spectrum_data:
            return False
        return bool(super().add_subset(subset))

    # --- the extraction --------------------------------------------------------------------------

    def attach(self, live: LiveExtraction) -> None:
        """Draw the live spectrum in place of the layer."""
        self._unit = FluxUnit(None, 1.0, "")
        self._readout = Readout(live)
        self._start: tuple[float, float] | None = None
        self._dragged: tuple[float, float] | None = None
        for state in self.state.layers:
            if state.layer is live.spectrum_data:
                state.visible = False
        scales = self.scales
        self.frame = FigureFrame(self)
        self.limits = ScaleLimits(self.scale_y)
        self.range_mark = Lines(scales=scales, colors=[GREEN], fill_colors=[GREEN], fill="inside",
                                fill_opacities=[0.18], stroke_width=1.0,
                                visible=False)  # fmt: skip
        self.band = Lines(scales=scales, colors=[BLUE], fill_colors=[BLUE], fill="between",
                          opacities=[0.0, 0.0], fill_opacities=[0.25, 0.25], stroke_width=0,
                          visible=False)  # fmt: skip
        self.line = Lines(scales=scales, colors=[BLUE], stroke_width=1.3, visible=False)
        self.comparison_line = Lines(scales=scales, colors=[VERMILION], stroke_width=1.2,
                                     line_style="dashed", visible=False)  # fmt: skip
        self.isolated = Scatter(scales=scales, colors=[BLUE], default_size=12, x=[], y=[])
        self.masked = Scatter(scales=scales, colors=[PURPLE], marker="rectangle", default_size=40,
                              x=[], y=[])  # fmt: skip
        self.flagged = Scatter(scales=scales, colors=[_FLAGGED], marker="rectangle",
                               default_size=20, x=[], y=[])  # fmt: skip
        self.row_mark = Lines(scales=scales, colors=[ORANGE], stroke_width=1.2,
                              line_style="dashed", visible=False)  # fmt: skip
        self._marks = (
            self.range_mark, self.band, self.line, self.comparison_line, self.isolated, self.masked,
            self.flagged, self.row_mark,
        )  # fmt: skip
        add_marks(self, *self._marks)
        self.axis_x.label, self.axis_x.tick_format = "wavelength [µm]", ".0f"
        self.axis_y.tick_format = ".4~g"
        self._events = PointerEvents(self, self)
        self.follow(self._draw, "extraction")
        self.follow(self._draw_with_comparison, "comparison")
        self.follow(self._draw_marks, "cursor_row", "wavelength_ranges")
        self.scale_y.observe(self._draw_marks, names=["min", "max"])
        self.state.home = self._home
        self._home()

    def detach(self) -> None:
        """Remove the marks, so that the spectrum is drawn like any other layer."""
        assert self.live is not None
        self.scale_y.unobserve(self._draw_marks, names=["min", "max"])
        self.state.home = None
        self._events.close()
        self.limits.close()
        self.frame.close()
        remove_marks(self, *self._marks)
        for state in self.state.layers:
            if state.layer is self.live.spectrum_data:
                state.visible = True

    def _home(self) -> None:
        """Show the complete spectrum."""
        assert self.live is not None
        low, high = self.live.wavelengths.limits
        margin = 0.02 * (high - low) or 0.1
        if np.isfinite(margin):
            set_scale(self.scale_x, low - margin, high + margin)
        self.limits.release()
        self._draw()
        self._draw_comparison()

    def _update_axes(self, *args: object) -> None:
        """Label the axes, unless the viewer shows a live spectrum."""
        if self.live is None:
            super()._update_axes(*args)

    # --- drawing ---------------------------------------------------------------------------------

    @property
    def unit(self) -> str:
        """Unit in which fluxes are drawn."""
        return self._unit.label

    def _draw(self, *_: object) -> None:
        """Draw the spectrum with its errors, and masked rows."""
        live = self.live
        if live is None:
            return
        extraction = live.extraction
        if extraction is None:
            for mark in (self.line, self.band, self.isolated, self.masked, self.flagged):
                mark.visible = False
            return
        wave, flux, error, mask, bits = plotted_columns(extraction)
        unit = flux_unit(flux[~mask], extraction.units.get("FLUX"), self._unit)
        if unit != self._unit:
            self.limits.rescale(unit.factor / self._unit.factor)
            self._unit = unit
            self.axis_y.label = f"flux [{unit.label}]"
            self._draw_comparison()
        flux = np.where(mask, np.nan, flux * unit.factor)
        error = np.where(mask, np.nan, error * unit.factor)
        set_line(self.line, wave, flux)
        set_line(self.band, wave, np.array([flux - error, flux + error]))
        isolated = isolated_points(np.isfinite(flux))
        set_line(self.isolated, wave[isolated], flux[isolated])
        low, high = robust_range(flux, error, self._compared()[1])
        self.limits.include(low, high, dragging=live.operator is not live.extract)
        bottom, top = self._bottom_and_top()
        for mark, rows, height in (
            (self.masked, mask, 0.02),
            (self.flagged, (bits != 0) & ~mask, 0.05),
        ):
            level = bottom + height * (top - bottom)
            set_line(mark, wave[rows], np.full(int(rows.sum()), level))

    def _compared(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return wavelength and flux of the comparison in the unit of the plot, or no points."""
        nothing = np.empty(0), np.empty(0)
        live = self.live
        if live is None or live.comparison is None or self._unit.source is None:
            return nothing
        converted = in_unit(live.comparison, self._unit.source)
        if converted is None:  # the panel says so
            return nothing
        wave, flux = converted
        low, high = live.wavelengths.limits
        inside = (wave >= low) & (wave <= high)
        return wave[inside], flux[inside] * self._unit.factor

    def _draw_with_comparison(self, *_: object) -> None:
        """Draw the comparison, and everything else, as the limits change with it."""
        self._draw_comparison()
        self._draw()

    def _draw_comparison(self, *_: object) -> None:
        set_line(self.comparison_line, *self._compared())

    def _bottom_and_top(self) -> tuple[float, float]:
        return self.frame.at_height(0.0), self.frame.at_height(1.0)

    def _draw_marks(self, *_: object) -> None:
        """Draw the crosshair and the selected ranges of wavelength."""
        live = self.live
        if live is None:
            return
        row, ends = live.cursor_row, self._bottom_and_top()
        covered = live.wavelengths.covers(row)
        x = [float(live.wavelengths.at(row))] * 2 if covered else []
        set_line(self.row_mark, x, ends if covered else [])
        spans = live.wavelength_ranges if self._dragged is None else [self._dragged]
        set_line(self.range_mark, *boxes(spans, ends))

    # --- pointer ---------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a drag is in progress."""
        return self._start is not None

    def press(self, x: float, y: float) -> None:
        """Begin a click or a drag."""
        if self.live is not None and not self.live.closed:
            self._start = (x, y)

    def drag(self, x: float, y: float, *, shift: bool) -> None:
        """Mark the range of wavelengths between the press and the pointer."""
        assert self._start is not None
        assert self.live is not None
        at, start = self.frame.to_screen(x, y)[0], self.frame.to_screen(*self._start)[0]
        if self._dragged is None and abs(at - start) < _CLICK * self.frame.points:
            return
        low, high = np.clip(sorted((self._start[0], x)), *self.live.wavelengths.limits).tolist()
        self._dragged = (low, high)
        self._draw_marks()

    def drop(self) -> None:
        """Select the range of wavelengths, or after a click move the crosshair."""
        assert self._start is not None
        assert self.live is not None
        x, dragged = self._start[0], self._dragged
        self._start = self._dragged = None
        if dragged is None:
            row = float(self.live.wavelengths.row(x))
            if np.isfinite(row):
                self.live.cursor_row = row
        elif dragged[1] > dragged[0]:
            self.live.select(*dragged)
        self._draw_marks()

    def cancel(self) -> None:
        """Discard the range."""
        self._start = self._dragged = None
        self._draw_marks()

    def hover(self, x: float, y: float) -> str:
        """Describe the spectrum under the mouse, and return the name of the mouse cursor."""
        if self.on_text is not None and self.live is not None and not self.live.closed:
            self.on_text("; ".join(self._readout.spectrum(x, self._unit)))
        return "auto"

    def leave(self) -> None:
        """Describe nothing, as the mouse is elsewhere."""
        if self.on_text is not None:
            self.on_text("")

    def double_click(self) -> None:
        """Clear the selection."""
        if self.live is not None:
            self.live.deselect()

    def press_key(self, key: str) -> None:
        """Clear the selection on Delete."""
        if key in ("delete", "backspace") and self.live is not None:
            self.live.deselect()
