"""The spectrum viewer: flux with errors, redrawn during edits of a live extraction."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from echo import delay_callback
from glue.config import viewer_tool
from glue.core import BaseData, Data, Subset
from glue.core.units import UnitConverter
from glue.utils import avoid_circular
from glue.viewers.common.tool import SimpleToolMenu, Tool
from glue.viewers.profile.layer_artist import ProfileLayerArtist
from glue.viewers.profile.state import ProfileViewerState
from glue_qt.utils import set_cursor_cm
from glue_qt.viewers.profile import ProfileViewer
from glue_qt.viewers.profile.layer_style_editor import ProfileLayerStyleEditor
from qtpy import QtCore

from glue_lrs.errors import LRSError
from glue_lrs.viewers.canvas.spectrum_plot import SpectrumPlot
from glue_lrs.viewers.datasets.images import is_lrs_image
from glue_lrs.viewers.live.messages import panel_text
from glue_lrs.viewers.live.tooltips import NOISES
from glue_lrs.viewers.live.viewer import StateWithHome
from glue_lrs.viewers.qt.base import ICONS, LABEL_SIZE, PLOT_TOOLS, HasPointerView

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.collections import PolyCollection
    from numpy.typing import NDArray

    from glue_lrs.viewers.live.live_extraction import LiveExtraction


class SpectrumLayerArtist(ProfileLayerArtist):
    """Artist for a line with an error band, hidden while a `SpectrumPlot` draws the data."""

    #: glue-qt requires this attribute; it is always False, because no thread is used.
    is_computing = False

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.band: PolyCollection | None = None
        self.mpl_artists: list[Artist] = []
        #: Whether a `SpectrumPlot` draws the data of this layer.
        self.drawn_elsewhere = False
        super().__init__(*args, **kwargs)

    def update(self) -> None:
        """Redraw the layer, unless a `SpectrumPlot` draws its data."""
        if not self.drawn_elsewhere:
            super().update()

    def _update_profile(self, force: bool = False, **kwargs: object) -> None:
        if not self.drawn_elsewhere:
            super()._update_profile(force=force, **kwargs)

    def set_drawn_elsewhere(self, on: bool) -> None:
        """Set whether a `SpectrumPlot` draws the data of this layer."""
        self.drawn_elsewhere = on
        for artist in self.mpl_artists:
            artist.set_visible(not on and self.state.visible)
        if not on:
            self._reset_cache()
            self.update()

    def _calculate_profile_postthread(self) -> None:
        super()._calculate_profile_postthread()
        if self.band is not None:
            self.band.remove()
            self.mpl_artists.remove(self.band)
            self.band = None
        error, profile = self._error(), self.state.profile
        if error is None or profile is None or len(profile[0]) != len(error):
            return
        x, y = profile
        with np.errstate(invalid="ignore"):
            self.band = self.axes.fill_between(x, y - error, y + error, lw=0)
        self.mpl_artists.append(self.band)
        self._style_band()

    def _error(self) -> NDArray[np.float64] | None:
        """Return the 1-sigma errors in the displayed unit, or None if no errors can be drawn."""
        data = self.layer
        if not isinstance(data, Data) or data.ndim != 1:
            return None
        if self.state.attribute is not data.find_component_id("flux"):
            return None
        name = data.find_component_id("uncertainty")
        if name is None or self._viewer_state.normalize:
            return None
        found = np.asarray(data[name], dtype=float)
        unit = self._viewer_state.y_display_unit
        return np.asarray(UnitConverter().to_unit(data, self.state.attribute, found, unit))

    def _style_band(self) -> None:
        if self.band is not None:
            self.band.set_facecolor(self.state.color)
            self.band.set_alpha(0.25 * (self.state.alpha or 1.0))
            self.band.set_visible(self.state.visible)
            self.band.set_zorder(self.state.zorder)

    def _update_visual_attributes(self) -> None:
        if not self.enabled:
            return
        artists = self.mpl_artists
        self.mpl_artists = [self.plot_artist]
        super()._update_visual_attributes()
        self.mpl_artists = artists
        self._style_band()


@viewer_tool
class ErrorsMenu(SimpleToolMenu):
    """Menu with tools that choose the noise of the errors."""

    tool_id = "lrs:errors"
    icon = str(ICONS / "errors.svg")
    tool_tip = "Choose the errors: propagated, with the other nod, or empirical"


class ErrorsTool(Tool):
    """Tool that chooses the noise of the errors."""

    noise: str

    def activate(self) -> None:
        """Choose the noise, or show why it cannot be derived."""
        if self.viewer.live is None:
            return
        try:
            with set_cursor_cm(QtCore.Qt.WaitCursor):
                self.viewer.live.actions.set_noise(self.noise)
        except LRSError as error:
            self.viewer.live.notify(panel_text(error, self.viewer.live.image), "error")


for _noise, _text, _hint in NOISES:
    _members = {
        "tool_id": f"lrs:errors_{_noise}",
        "icon": str(ICONS / "errors.svg"),
        "action_text": _text,
        "tool_tip": _hint,
        "noise": _noise,
    }
    viewer_tool(type(f"ErrorsTool_{_noise}", (ErrorsTool,), _members))


class LRSSpectrumState(StateWithHome, ProfileViewerState):
    """State of the viewer. The plot of a live spectrum resets the limits."""


class LRSSpectrumViewer(HasPointerView, ProfileViewer):
    """Viewer for flux against wavelength, for live extractions and other 1-D spectra."""

    LABEL = "LRS spectrum"
    _state_cls = LRSSpectrumState
    _data_artist_cls = SpectrumLayerArtist
    _subset_artist_cls = SpectrumLayerArtist
    _layer_style_widget_cls = ProfileLayerStyleEditor
    tools = (*PLOT_TOOLS, "lrs:errors", "select:xrange", "window")
    subtools: ClassVar[dict[str, list[str]]] = {
        **HasPointerView.subtools,
        "lrs:errors": [f"lrs:errors_{noise}" for noise, _, _ in NOISES],
    }
    minimum_size = (240, 180)
    margins = (0.74, 0.12, 0.42, 0.44)
    pointer_view = "plot"

    plot: SpectrumPlot | None = None

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.ratio_axes = self.figure.add_axes([0.1, 0.1, 0.8, 0.2], sharex=self.axes)
        self.ratio_axes.set_visible(False)

    # --- layers ------------------------------------------------------------------------------

    def add_data(self, data: BaseData) -> bool:
        """Add a spectrum; for an LRS image, add the spectrum of its live extraction."""
        if is_lrs_image(data):
            live = self.live_or_error(data, make=True)
            if live is None:
                return False
            data = live.spectrum_data
        added = super().add_data(data)
        if added:
            self._show_flux(data)
            self.find_live(make=False)
            if self.plot is None:
                self.fit_limits()
        return added

    def add_subset(self, subset: Subset) -> bool:
        """Add a subset and show its flux."""
        added = super().add_subset(subset)
        self._show_flux(subset)
        return added

    def _show_flux(self, layer: Data | Subset) -> None:
        """Show the flux of a layer, if it has one, instead of its first component."""
        data = layer.data
        flux = data.find_component_id("flux")
        for state in self.state.layers:
            if state.layer is layer and flux is not None:
                state.attribute = flux
                if layer is not data:
                    state.linewidth = 2

    # --- the extraction ----------------------------------------------------------------------

    def attach(self, live: LiveExtraction) -> None:
        """Draw the live spectrum with a `SpectrumPlot`."""
        self._draw_elsewhere(live, True)
        self._make_plot(None)
        self.state.add_callback("y_display_unit", self._unit_chosen)
        self.state.add_callback("x_display_unit", self._x_unit_chosen)
        self.follow(self._sync_unit, "extraction")
        self.follow(self._show_ratio, "comparison")
        self._show_ratio()

    def detach(self) -> None:
        """Remove the `SpectrumPlot`, so that the spectrum is drawn like any other layer."""
        assert self.live is not None
        self.state.remove_callback("y_display_unit", self._unit_chosen)
        self.state.remove_callback("x_display_unit", self._x_unit_chosen)
        super().detach()
        self.ratio_axes.set_visible(False)
        legend = self.axes.get_legend()
        if legend is not None:
            legend.remove()
        self._draw_elsewhere(self.live, False)

    def _make_plot(self, unit: str | None) -> None:
        if self.plot is not None:
            self.plot.close()
        assert self.live is not None
        self.plot = SpectrumPlot(self.axes, self.live, ratio_axes=self.ratio_axes, unit=unit)
        self.plot.on_readout = self.status.show_readout
        self.state.home = self.plot.reset_limits
        self.enable_pointer()
        self.plot.reset_limits()  # glue has changed the limits while the plot was made
        self._sync_unit()

    def _draw_elsewhere(self, live: LiveExtraction, on: bool) -> None:
        for artist in self.layers:
            if artist.layer is live.spectrum_data and isinstance(artist, SpectrumLayerArtist):
                artist.set_drawn_elsewhere(on)

    # --- units -------------------------------------------------------------------------------

    @avoid_circular  # type: ignore[untyped-decorator]
    def _sync_unit(self, *_: object) -> None:
        """Show the other layers in the unit of the live spectrum."""
        if self.plot is None:
            return
        unit = self.plot.unit.replace("µ", "u")
        if unit == (self.state.y_display_unit or "") and self.axes.get_ylabel():
            return
        choices = type(self.state).y_display_unit.get_choices(self.state)
        if unit in choices and unit != self.state.y_display_unit:
            self.state.y_display_unit = unit
            self.plot.reset_limits()
        self._update_axes()

    @avoid_circular  # type: ignore[untyped-decorator]
    def _unit_chosen(self, unit: str | None) -> None:
        """Draw the live spectrum in the unit that was chosen in the options of the viewer."""
        if self.plot is not None and unit and unit != self.plot.unit.replace("µ", "u"):
            self._make_plot(unit)
            self._update_axes()

    def _x_unit_chosen(self, unit: str | None) -> None:
        """Reset the unit of the x axis, because a live spectrum is always drawn in micron."""
        if self.plot is not None and unit not in (None, "", "um", "micron"):
            self.show_error("a live spectrum is shown in micron")
            self.state.x_display_unit = "um"
            self.plot.reset_limits()

    def _update_axes(self, *args: object) -> None:
        if self.plot is None:
            super()._update_axes(*args)
            unit = self.state.x_display_unit
            if self.state.x_att is not None and unit:
                unit = "µm" if unit in ("um", "micron") else unit
                self.state.x_axislabel = f"{self.state.x_att.label.lower()} [{unit}]"
            return
        self.state.x_axislabel = "" if self.ratio_axes.get_visible() else "wavelength [µm]"
        self.state.y_axislabel = f"flux [{self.plot.unit}]"
        self.redraw()

    def draw_legend(self, *args: object) -> None:
        """Draw glue's legend, but for a live spectrum only if the user has enabled it."""
        if self.plot is None or self.state.legend.visible:
            super().draw_legend(*args)

    # --- axes --------------------------------------------------------------------------------

    def _show_ratio(self, *_: object) -> None:
        """Show the ratio below the spectrum if there is a comparison, or else hide the ratio."""
        shown = self.live is not None and self.live.comparison is not None
        self.ratio_axes.set_visible(shown)
        self.axes.tick_params(labelbottom=not shown)
        self.ratio_axes.tick_params(labelsize=LABEL_SIZE)
        self.ratio_axes.set_xlabel("wavelength [µm]", size=LABEL_SIZE)
        self.ratio_axes.set_ylabel("ratio", size=LABEL_SIZE)
        self._update_axes()
        self.resized()
        self.state.reset_limits()

    def resized(self, *_: object) -> None:
        """Set the positions of the axes; the ratio gets about a fifth of the height."""
        left, right, bottom, top = self.margins
        width, height = self.figure.get_size_inches()
        if self.ratio_axes.get_visible():
            lower = max(0.22 * (height - bottom - top), 0.3)
            size = max(width - left - right, 0.1) / width, lower / height
            self.ratio_axes.set_position((left / width, bottom / height, *size))
            bottom += lower + 0.12
        self.axes.resizer.margins = [left, right, bottom, top]
        self.axes.resizer.on_resize(None)

    def fit_limits(self) -> None:
        """Set the y limits to the range of the spectra without outliers."""
        ranges = []
        for layer in self.state.layers:
            try:
                values = np.asarray(layer.profile[1], dtype=float)
            except Exception:  # glue cannot display this layer, so it has no range
                continue
            values = values[np.isfinite(values)]
            if values.size:
                ranges.append(np.percentile(values, [2.0, 98.0]))
        low, high = np.min(ranges, initial=np.inf), np.max(ranges, initial=-np.inf)
        if high > low:
            margin = 0.15 * (high - low)
            with delay_callback(self.state, "y_min", "y_max"):
                self.state.y_min, self.state.y_max = float(low - margin), float(high + margin)
