"""The image viewer in a notebook: an LRS image with editable aperture and background regions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from bqplot import Lines
from echo import delay_callback
from glue_jupyter.bqplot.image import BqplotImageView
from glue_jupyter.bqplot.image.layer_artist import (
    BqplotImageLayerArtist,
    BqplotImageSubsetLayerArtist,
)
from glue_jupyter.bqplot.image.state import BqplotImageLayerState, BqplotImageViewerState
from glue_jupyter.common.state_widgets.layer_image import ImageLayerStateWidget
from glue_jupyter.registries import viewer_registry

from glue_lrs.plotting.style import GREEN, ORANGE
from glue_lrs.viewers.datasets.images import is_lrs_image
from glue_lrs.viewers.jupyter.base import NotebookViewer
from glue_lrs.viewers.jupyter.figure import add_marks, closed, remove_marks, set_line
from glue_lrs.viewers.jupyter.regions import RegionEditor
from glue_lrs.viewers.live.image_layer import (
    IntegrationShown,
    ShowsMedian,
    set_look,
    shown_box,
)
from glue_lrs.viewers.live.region_geometry import ImageGeometry
from glue_lrs.viewers.live.residual_layer import ShowsResidual
from glue_lrs.viewers.live.viewer import ShowsOneImage, StateWithHome

if TYPE_CHECKING:
    from glue.core import BaseData, Subset
    from glue.viewers.common.state import LayerState
    from glue.viewers.image.layer_artist import ImageLayerArtist

    from glue_lrs.viewers.live.live_extraction import LiveExtraction

#: Wavelengths in micron at which the axis of the rows is labelled.
_TICKS = np.arange(5.0, 15.0)


class LRSImageLayerState(ShowsMedian, BqplotImageLayerState):
    """State of a layer that can show the median of the integrations in a stack."""


class LRSImageLayerArtist(BqplotImageLayerArtist):
    """Artist that draws a layer with an `LRSImageLayerState`."""

    _layer_state_cls = LRSImageLayerState


class LRSImageState(StateWithHome, BqplotImageViewerState):
    """State of the viewer, which resets the limits to the illuminated part of an LRS image."""


@viewer_registry("lrs-image")
class LRSImageView(ShowsResidual, NotebookViewer, ShowsOneImage, BqplotImageView):
    """Viewer for an image, with wavelength along y and editable regions."""

    LABEL = "LRS image"
    _state_cls = LRSImageState
    _layer_style_widget_cls: ClassVar[dict[type, type]] = {
        **BqplotImageView._layer_style_widget_cls,
        LRSImageLayerArtist: ImageLayerStateWidget,
    }
    tools = ("bqplot:home", "bqplot:panzoom", "bqplot:rectangle", "bqplot:polygon")

    editor: RegionEditor | None = None

    # --- layers ----------------------------------------------------------------------------------

    def get_data_layer_artist(
        self, layer: BaseData | None = None, layer_state: LayerState | None = None
    ) -> ImageLayerArtist:
        """Return the artist for a dataset; for an LRS image, an `LRSImageLayerArtist`."""
        if is_lrs_image(layer):
            return self.get_layer_artist(LRSImageLayerArtist, layer=layer, layer_state=layer_state)
        return super().get_data_layer_artist(layer=layer, layer_state=layer_state)

    def add_image_subset(self, subset: Subset) -> bool:
        """Add a subset of the image, and return whether it was added."""
        return bool(super(ShowsOneImage, self).add_subset(subset))

    def add_residual(self, data: BaseData) -> None:
        """Add the residual above the image."""
        super(ShowsOneImage, self).add_data(data)

    def _on_view_change(self, *args: object) -> None:
        """Draw subsets that were added before the figure was displayed."""
        super()._on_view_change(*args)
        for artist in self.layers:
            if isinstance(artist, BqplotImageSubsetLayerArtist) and artist.image_artist is not None:
                artist.image_artist.invalidate_cache()

    # --- the extraction --------------------------------------------------------------------------

    def attach(self, live: LiveExtraction) -> None:
        """Draw the regions with their handles, the crosshair and the selected rows."""
        set_look(self.state, live.data)
        self.state.home = self._show_bounding_box
        self._show_bounding_box()
        self.row_mark = Lines(scales=self.scales, colors=[ORANGE], stroke_width=1.3,
                              line_style="dashed", visible=False)  # fmt: skip
        self.range_mark = Lines(scales=self.scales, colors=[GREEN], fill_colors=[GREEN],
                                fill="inside", fill_opacities=[0.16],
                                stroke_width=1.0, visible=False)  # fmt: skip
        add_marks(self, self.range_mark, self.row_mark)
        self.editor = RegionEditor(self, live, ImageGeometry)
        self.editor.on_row = self.editor.pointer.set_row
        self._integration = IntegrationShown(live, self.state, self._redraw_image)
        self.follow_residual()
        self.follow(self._draw_marks, "cursor_row", "wavelength_ranges")
        for scale in (self.scale_x, self.scale_y):
            scale.observe(self._limits_changed, names=["min", "max"])
        self._limits_changed()
        self._label_axes()

    def detach(self) -> None:
        """Remove the editor and the marks."""
        assert self.editor is not None
        for scale in (self.scale_x, self.scale_y):
            scale.unobserve(self._limits_changed, names=["min", "max"])
        self.state.home = None
        self.leave_residual()
        self._integration.close()
        self.editor.close()
        self.editor = None
        remove_marks(self, self.row_mark, self.range_mark)

    def close(self, warn: bool = True) -> None:
        """Disconnect the viewer; glue-jupyter would keep it in memory through its images."""
        subsets = [getattr(artist, "image_artist", None) for artist in self.layers]
        super().close(warn)
        for image in (self._composite_image, *subsets):
            if image is not None:
                image.viewer = None

    def _show_bounding_box(self) -> None:
        """Set the limits to the illuminated part of the image, with some margin for dragging."""
        assert self.live is not None
        (left, right), (bottom, top) = shown_box(self.live.image)
        with delay_callback(self.state, "x_min", "x_max", "y_min", "y_max"):
            self.state.x_min, self.state.x_max = left, right
            self.state.y_min, self.state.y_max = bottom, top

    def _redraw_image(self) -> None:
        self._composite_image.invalidate_cache()

    def _limits_changed(self, *_: object) -> None:
        if self.editor is not None:
            self.editor.draw()
        self._draw_marks()

    def _draw_marks(self, *_: object) -> None:
        """Draw the crosshair and the selected ranges of rows."""
        live = self.live
        if live is None:
            return
        left, right = self.scale_x.min, self.scale_x.max
        set_line(self.row_mark, [left, right], [live.cursor_row] * 2)
        spans = []
        for selected in live.wavelength_ranges:
            first, last = sorted(live.wavelengths.row(selected).tolist())
            spans.append((first - 0.5, last + 0.5))
        rows = [[first, last, last, first] for first, last in spans]
        x = np.array([left, left, right, right])
        set_line(self.range_mark, *closed((x, np.array(y)) for y in rows))

    # --- axes ------------------------------------------------------------------------------------

    def _update_axes(self, *args: object) -> None:
        """Label the axes with names and units."""
        if self.live is None:
            super()._update_axes(*args)

    def _label_axes(self) -> None:
        """Label rows by their wavelengths, because the y axis of the figure is in rows."""
        assert self.live is not None
        self.state.x_axislabel, self.state.y_axislabel = "column [pixel]", "wavelength [µm]"
        self.axis_x.tick_format = ".0f"
        wavelengths = self.live.wavelengths
        low, high = wavelengths.limits
        ticks = _TICKS[(low <= _TICKS) & (high >= _TICKS)]
        rows = np.rint(wavelengths.row(ticks))
        order = np.argsort(rows)
        self.axis_y.tick_format = ".0f"
        self.axis_y.tick_values = rows[order]
        self.axis_y.tick_labels = {
            f"{row:.0f}": f"{tick:.0f}" for row, tick in zip(rows, ticks, strict=True)
        }
