"""The image viewer: an LRS image with editable aperture and background regions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from astropy import units as u
from echo import delay_callback
from glue.config import viewer_tool
from glue.core import BaseData
from glue.viewers.common.tool import CheckableTool, SimpleToolMenu, Tool
from glue.viewers.image.layer_artist import ImageLayerArtist
from glue.viewers.image.state import ImageLayerState, ImageViewerState
from glue_qt.utils import set_cursor_cm
from glue_qt.viewers.image import ImageViewer
from glue_qt.viewers.image.layer_style_editor import ImageLayerStyleEditor
from glue_qt.viewers.image.mouse_mode import RoiClickAndDragMode
from qtpy import QtCore

from glue_lrs.errors import LRSError
from glue_lrs.viewers.canvas.image_editor import ImageEditor
from glue_lrs.viewers.datasets.coordinates import LRSCoordinates
from glue_lrs.viewers.datasets.images import is_lrs_image, not_an_image
from glue_lrs.viewers.live.image_layer import IntegrationShown, ShowsMedian, set_look, shown_box
from glue_lrs.viewers.live.messages import panel_text
from glue_lrs.viewers.live.residual_layer import ShowsResidual
from glue_lrs.viewers.live.tooltips import ADD_BACKGROUND, RESIDUAL_HINT, SOURCE_ACTIONS
from glue_lrs.viewers.live.viewer import StateWithHome
from glue_lrs.viewers.qt.base import ICONS, LABEL_SIZE, PLOT_TOOLS, HasPointerView

if TYPE_CHECKING:
    from glue.viewers.common.state import LayerState
    from matplotlib.backend_bases import MouseEvent

    from glue_lrs.viewers.live.live_extraction import LiveExtraction

#: Definition of pixel coordinates for astropy's coordinate axes.
_PIXELS = {
    "type": ("scalar", "scalar"),
    "name": ("column", "row"),
    "unit": (u.dimensionless_unscaled, u.dimensionless_unscaled),
    "wrap": (None, None),
    "format_unit": (u.dimensionless_unscaled, u.dimensionless_unscaled),
}


class LRSImageLayerState(ShowsMedian, ImageLayerState):
    """State of a layer that can show the median of the integrations in a stack."""


class LRSImageState(StateWithHome, ImageViewerState):
    """State of the viewer, which resets the limits to the illuminated part of an LRS image."""


class LRSImageLayerArtist(ImageLayerArtist):
    """Artist that draws a layer with an `LRSImageLayerState`."""

    _layer_state_cls = LRSImageLayerState


class EditMode(RoiClickAndDragMode):
    """Mouse mode while no tool is active: the mouse edits regions or drags a subset."""

    def press(self, event: MouseEvent) -> None:
        """Let glue handle the press, unless it is on a region that the editor can drag."""
        editor = self._viewer.editor
        if editor is None or not editor.wants(event):
            super().press(event)

    def _deselect_roi(self, event: MouseEvent) -> None:
        """Keep glue's selection of a subset, so that the next drawn range replaces the subset."""
        self._roi = None
        self._subset = None


@viewer_tool
class AddBackgroundTool(CheckableTool):
    """Tool that draws a background region when the mouse is dragged across columns."""

    tool_id = "lrs:background"
    icon = str(ICONS / "background.svg")
    action_text = "Draw a background region"
    tool_tip = "Draw a background region: drag across its columns"
    status_tip = "Drag from one edge of the background region to the other; Escape cancels"

    def activate(self) -> None:
        self.viewer.add_background(True)

    def deactivate(self) -> None:
        if self.viewer is not None:
            self.viewer.add_background(False)


@viewer_tool
class PlaceBackgroundTool(Tool):
    """Tool that places background regions beside the source."""

    tool_id = "lrs:add_background"
    icon = str(ICONS / "add_background.svg")
    method, action_text, tool_tip = ADD_BACKGROUND

    def activate(self) -> None:
        self.viewer.run_method(self.method)


@viewer_tool
class ApertureMenu(SimpleToolMenu):
    """Menu with tools that put the aperture on the source, or set the default aperture."""

    tool_id = "lrs:aperture"
    icon = str(ICONS / "to_source.svg")
    tool_tip = "Put the aperture on the source, or go back to the default"


class ApertureTool(Tool):
    """Tool that calls a method of the extraction, which sets the aperture."""

    method: str

    def activate(self) -> None:
        self.viewer.run_method(self.method)


for _method, _text, _hint in (
    *SOURCE_ACTIONS,
    ("default", "Default aperture", "Go back to the default aperture for this type of file"),
):
    _members = {
        "tool_id": f"lrs:{_method}",
        "icon": str(ICONS / f"{_method}.svg"),
        "action_text": _text,
        "tool_tip": _hint,
        "method": _method,
    }
    viewer_tool(type(f"ApertureTool_{_method}", (ApertureTool,), _members))


@viewer_tool
class ResidualTool(Tool):
    """Tool that shows or hides the residual."""

    tool_id = "lrs:residual"
    icon = str(ICONS / "residual.svg")
    action_text = "Residual"
    tool_tip = RESIDUAL_HINT

    def activate(self) -> None:
        live = self.viewer.live
        if live is not None:
            self.viewer.run_method("hide_residual" if live.residual_shown else "residual")


class LRSImageViewer(ShowsResidual, HasPointerView, ImageViewer):
    """Viewer for an image, with wavelength along y and editable regions."""

    LABEL = "LRS image"
    _state_cls = LRSImageState
    _default_mouse_mode_cls = EditMode
    _layer_style_widget_cls: ClassVar[dict[type, type]] = {
        **ImageViewer._layer_style_widget_cls,
        LRSImageLayerArtist: ImageLayerStyleEditor,
    }
    tools = (
        *PLOT_TOOLS,
        *("lrs:add_background", "lrs:background", "lrs:aperture", "lrs:residual"),
        *("select:yrange", "select:xrange", "select:polygon", "image:contrast_bias", "window"),
    )
    subtools: ClassVar[dict[str, list[str]]] = {
        **HasPointerView.subtools,
        "lrs:aperture": ["lrs:to_source", "lrs:three_fwhm", "lrs:best_width", "lrs:default"],
    }

    minimum_size = (220, 200)
    readout_lines = 2
    margins = (0.62, 0.6, 0.42, 0.45)
    editor: ImageEditor | None = None

    def resized(self, *_: object) -> None:
        """Draw the image at once, because glue would first show the old image stretched."""
        if self.axes._composite_image is not None:
            self.axes._composite_image.on_release()

    # --- layers ------------------------------------------------------------------------------

    def add_data(self, data: BaseData) -> bool:
        """Add an image; the first image determines the grey scale and the limits."""
        first = not self.state.layers
        added = super().add_data(data)
        if added and first and is_lrs_image(data):
            self._set_look(data)
        if added:
            self.find_live()
        residual = self.live is not None and data is self.live.residual_data
        other = not is_lrs_image(data) and isinstance(data.coords, LRSCoordinates)
        if added and other and not residual:
            self.show_error(not_an_image(data))  # glue can display it, but it cannot be extracted
        return added

    def get_data_layer_artist(
        self, layer: BaseData | None = None, layer_state: LayerState | None = None
    ) -> ImageLayerArtist:
        """Return the artist for a dataset; for an LRS image, an `LRSImageLayerArtist`."""
        if is_lrs_image(layer):
            return self.get_layer_artist(LRSImageLayerArtist, layer=layer, layer_state=layer_state)
        return super().get_data_layer_artist(layer=layer, layer_state=layer_state)

    def _set_look(self, data: BaseData) -> None:
        """Set the limits of the axes, and a grey scale that shows both faint and bright pixels."""
        set_look(self.state, data)
        self.state.reset_limits()

    # --- the extraction ----------------------------------------------------------------------

    def attach(self, live: LiveExtraction) -> None:
        """Draw the regions with their handles, and follow the extraction."""
        self.editor = ImageEditor(self.axes, live)
        self.enable_pointer()
        self.editor.on_adding = self._adding_changed
        self.editor.on_hint = self.set_status
        self.editor.on_readout = self.status.show_readout
        self._integration = IntegrationShown(live, self.state, self.redraw_image)
        self.follow_residual()
        self.state.home = self._show_bounding_box
        if not self.restored:
            self._show_bounding_box()

    def detach(self) -> None:
        """Remove the region editor."""
        super().detach()
        self.leave_residual()
        self._integration.close()

    def _adding_changed(self, on: bool) -> None:
        """Deactivate the tool that adds a background region once it has added the region."""
        tool = getattr(self.toolbar, "active_tool", None)
        if not on and isinstance(tool, AddBackgroundTool):
            self.toolbar.active_tool = None

    def add_background(self, on: bool) -> None:
        """Set whether the next drag adds a background region."""
        if self.editor is not None:
            self.editor.adding = on

    def run_method(self, name: str) -> None:
        """Call a method of the extraction; if it raises an `LRSError`, show the message."""
        if self.live is None:
            return
        try:
            with set_cursor_cm(QtCore.Qt.WaitCursor):
                getattr(self.live, name)()
        except LRSError as error:
            self.live.notify(panel_text(error), "error")

    def _show_bounding_box(self) -> None:
        """Set the limits to the illuminated part of the image, with some margin for dragging."""
        if self.live is None:
            return
        (left, right), (bottom, top) = shown_box(self.live.image)
        with delay_callback(self.state, "x_min", "x_max", "y_min", "y_max"):
            self.state.x_min, self.state.x_max = left, right
            self.state.y_min, self.state.y_max = bottom, top

    def redraw_image(self) -> None:
        """Discard the cached drawing of the image and draw it again."""
        if self.axes._composite_image is not None:
            self.axes._composite_image.invalidate_cache()
        self.redraw()

    # --- axes --------------------------------------------------------------------------------

    def _set_wcs(self, *args: object, **kwargs: object) -> None:
        super()._set_wcs(*args, **kwargs)
        fresh = len(self.axes._all_coords) == 1  # a second layer does not make new axes
        if self._wcs_set and fresh and is_lrs_image(self.state.reference_data):
            self._decorate()

    def _update_axes(self, *args: object) -> None:
        """Label the axes with names and units."""
        if not is_lrs_image(self.state.reference_data):
            super()._update_axes(*args)
            return
        data = self.state.reference_data
        for axis in ("x", "y"):
            att = getattr(self.state, f"{axis}_att_world")
            if att is not None:
                unit = str(data.get_component(att).units or "").replace("um", "µm")
                label = att.label.lower() + (f" [{unit}]" if unit else "")
                setattr(self.state, f"{axis}_axislabel", label)
        self.redraw()

    def _decorate(self) -> None:
        """Label wavelengths on the left, columns below, rows on the right, and arcseconds above."""
        along, across = self.axes.coords[1], self.axes.coords[0]
        overlay = self.axes.get_coords_overlay("pixel", coord_meta=_PIXELS)
        for helper, side in zip((along, across, *overlay), "ltbr", strict=True):
            helper.set_ticks_position(side)
            helper.set_ticklabel_position(side)
            helper.set_axislabel_position(side)
            helper.set_ticklabel(size=LABEL_SIZE)
        overlay[0].set_ticks(number=3)
        overlay[0].set_axislabel("column [pixel]", size=LABEL_SIZE)
        overlay[1].set_axislabel("row [pixel]", size=LABEL_SIZE)
