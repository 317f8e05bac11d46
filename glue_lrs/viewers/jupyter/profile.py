"""The slit profile viewer in a notebook, with editable regions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from bqplot import Lines
from glue.viewers.common.layer_artist import LayerArtist
from glue.viewers.matplotlib.state import MatplotlibDataViewerState, MatplotlibLayerState
from glue_jupyter.bqplot.common.viewer import BqplotBaseView
from glue_jupyter.registries import viewer_registry
from ipywidgets import VBox

from glue_lrs.plotting.style import BACKGROUND, unit_label
from glue_lrs.viewers.jupyter.base import NotebookViewer
from glue_lrs.viewers.jupyter.figure import add_marks, remove_marks, set_line, set_scale
from glue_lrs.viewers.jupyter.limits import ScaleLimits
from glue_lrs.viewers.jupyter.regions import RegionEditor
from glue_lrs.viewers.live.cross_dispersion_profile import peak_limited_range
from glue_lrs.viewers.live.region_geometry import ProfileGeometry
from glue_lrs.viewers.live.viewer import ShowsOneImage, StateWithHome

if TYPE_CHECKING:
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.viewers.live.live_extraction import LiveExtraction


class SlitProfileLayerArtist(LayerArtist):
    """Artist for the layer of an image; it draws nothing, because the viewer draws the profile."""

    _layer_state_cls = MatplotlibLayerState

    def __init__(self, view: object, viewer_state: SlitProfileState, **kwargs: Any) -> None:
        super().__init__(viewer_state, **kwargs)

    def update(self) -> None:
        """Do nothing."""

    redraw = clear = update


class SlitProfileState(StateWithHome, MatplotlibDataViewerState):
    """State of the viewer, whose limits are reset by the viewer."""


class NoOptions(VBox):
    """Options of a viewer or a layer that has none."""

    def __init__(self, state: object) -> None:
        super().__init__()


@viewer_registry("lrs-profile")
class SlitProfileView(NotebookViewer, ShowsOneImage, BqplotBaseView):
    """Viewer for the brightness along the slit, averaged over rows around the crosshair."""

    LABEL = "LRS slit profile"
    _state_cls = SlitProfileState
    _options_cls = NoOptions
    _layer_style_widget_cls = NoOptions
    _data_artist_cls = SlitProfileLayerArtist
    _subset_artist_cls = SlitProfileLayerArtist
    tools = ("bqplot:home", "bqplot:panzoom")

    editor: RegionEditor | None = None

    def attach(self, live: LiveExtraction) -> None:
        """Draw the profile and the regions, and follow the extraction."""
        self.limits = ScaleLimits(self.scale_y)
        self._profile_of: SlitImage | None = None
        self.line = Lines(scales=self.scales, colors=["black"], stroke_width=1.2,
                          visible=False)  # fmt: skip
        self.band = Lines(scales=self.scales, colors=["#4D4D4D"], fill_colors=["#4D4D4D"],
                          fill="between", opacities=[0.0, 0.0], fill_opacities=[0.25, 0.25],
                          stroke_width=0, visible=False)  # fmt: skip
        self.background = Lines(scales=self.scales, colors=[BACKGROUND], stroke_width=1.4,
                                line_style="dashed", visible=False)  # fmt: skip
        add_marks(self, self.band, self.line, self.background)
        self.state.x_axislabel = "column [pixel]"
        self.state.y_axislabel = f"brightness [{unit_label(live.image.unit)}]"
        self.axis_x.tick_format, self.axis_y.tick_format = ".0f", ".4~g"
        self.editor = RegionEditor(self, live, ProfileGeometry)
        self.follow(self._profile_changed, "cursor_row", "rows_averaged", "integration")
        self.follow(self._image_changed, "extraction")
        for scale in (self.scale_x, self.scale_y):
            scale.observe(self._limits_changed, names=["min", "max"])
        self.state.home = self._home
        self._home()

    def detach(self) -> None:
        """Remove the editor and the marks."""
        assert self.editor is not None
        for scale in (self.scale_x, self.scale_y):
            scale.unobserve(self._limits_changed, names=["min", "max"])
        self.state.home = None
        self.limits.close()
        self.editor.close()
        self.editor = None
        remove_marks(self, self.line, self.band, self.background)

    def _home(self) -> None:
        """Show the whole profile."""
        assert self.live is not None
        set_scale(self.scale_x, -0.5, self.live.image.shape[1] - 0.5)
        self.limits.release()
        self._profile_changed()

    def _limits_changed(self, *_: object) -> None:
        if self.editor is not None:
            self.editor.draw()

    def _image_changed(self, *_: object) -> None:
        """Draw the profile again if another image, such as another integration, is shown.

        Otherwise, only the background that the operator fits may have changed.
        """
        if self.live is None:
            return
        if self._profile_of is not self.live.shown:
            self._profile_changed()
        else:
            self._draw_background()

    def _draw_background(self) -> None:
        """Draw the background that is fitted in the averaged rows and subtracted."""
        assert self.live is not None
        found = self.live.fitted_background()
        set_line(self.background, *(([], []) if found is None else found))

    def _profile_changed(self, *_: object) -> None:
        """Draw the profile at the row of the crosshair, and the regions where they are there."""
        live = self.live
        if live is None or live.closed:
            return
        self._profile_of = live.shown
        columns, flux, error = live.cross_dispersion_profile()
        steps = np.column_stack([columns - 0.5, columns + 0.5]).ravel()
        set_line(self.line, steps, flux.repeat(2))
        error = np.where(np.isfinite(error), error, 0.0)
        set_line(self.band, steps, np.array([flux - error, flux + error]).repeat(2, axis=1))
        self._draw_background()
        self.limits.include(*peak_limited_range(flux))
        if self.editor is not None:
            self.editor.draw()
