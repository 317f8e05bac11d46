"""The image viewer: an LRS image with editable aperture and background regions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from astropy import units as u
from echo import delay_callback
from glue.config import viewer_tool
from glue.core import BaseData
from glue.viewers.common.tool import CheckableTool, SimpleToolMenu, Tool
from glue.viewers.image.layer_artist import ImageLayerArtist
from glue.viewers.image.state import ImageLayerState, ImageViewerState
from glue_qt.viewers.image import ImageViewer
from glue_qt.viewers.image.layer_style_editor import ImageLayerStyleEditor
from glue_qt.viewers.image.mouse_mode import RoiClickAndDragMode
from matplotlib import colormaps

from glue_lrs.errors import LRSError
from glue_lrs.viewers.canvas.image_editor import ImageEditor
from glue_lrs.viewers.datasets.coordinates import LRSCoordinates
from glue_lrs.viewers.datasets.images import is_lrs_image, not_an_image
from glue_lrs.viewers.live.messages import panel_text
from glue_lrs.viewers.qt.base import SUBTOOLS, FollowsExtraction, busy
from glue_lrs.viewers.qt.icons import icon
from glue_lrs.viewers.qt.tooltips import (
    BEST_WIDTH_HINT,
    RESIDUAL_HINT,
    THREE_FWHM_HINT,
    TO_SOURCE_HINT,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from glue_lrs.viewers.live.live_extraction import LiveExtraction

#: Percentiles of the pixel values at the lower and the upper limit of the grey scale.
_CUTS = (1.0, 99.7)
#: Largest distance of the lower limit from the median, relative to that of the upper limit.
_BELOW = 0.1
_LABEL_SIZE = 9
#: Definition of pixel coordinates for astropy's coordinate axes.
_PIXELS = {
    "type": ("scalar", "scalar"),
    "name": ("column", "row"),
    "unit": (u.dimensionless_unscaled, u.dimensionless_unscaled),
    "wrap": (None, None),
    "format_unit": (u.dimensionless_unscaled, u.dimensionless_unscaled),
}


class LRSImageLayerState(ImageLayerState):
    """State of a layer that can show the median of the integrations in a stack."""

    def get_sliced_data(self, view: Any = None, bounds: Any = None) -> NDArray[Any]:
        """Return the pixels to draw."""
        plane = getattr(self.viewer_state, "median_plane", None)
        if plane is None or getattr(self.attribute, "label", None) != "flux":
            return super().get_sliced_data(view=view, bounds=bounds)
        if bounds is None:
            return plane if view is None else plane[tuple(view)]
        rows, columns = (
            np.rint(np.linspace(low, high, number)).astype(int) for low, high, number in bounds
        )
        found = plane[
            np.clip(rows, 0, plane.shape[0] - 1)[:, np.newaxis],
            np.clip(columns, 0, plane.shape[1] - 1),
        ].astype(float)
        found[(rows < 0) | (rows >= plane.shape[0])] = np.nan
        found[:, (columns < 0) | (columns >= plane.shape[1])] = np.nan
        return found


class LRSImageState(ImageViewerState):
    """State of the viewer; limits are reset to the illuminated part of an image, if any."""

    #: Function that resets the limits; if None, they are reset to the limits of the layers.
    home: Callable[[], None] | None = None
    #: Median of all integrations, while it is shown; otherwise None.
    median_plane: Any = None

    def reset_limits(self) -> None:
        """Reset the limits of the axes."""
        if self.home is None:
            super().reset_limits()
        else:
            self.home()


class LRSImageLayerArtist(ImageLayerArtist):
    """Artist that draws a layer with an `LRSImageLayerState`."""

    _layer_state_cls = LRSImageLayerState


class EditMode(RoiClickAndDragMode):
    """Mouse mode while no tool is active: the mouse edits regions or drags a subset."""

    def activate(self) -> None:
        super().activate()
        self._viewer.editing = True

    def deactivate(self) -> None:
        super().deactivate()
        self._viewer.editing = False

    def press(self, event: Any) -> None:
        """Handle a press on a subset, unless the press is on a region that can be edited."""
        editor = self._viewer.editor
        if editor is None or not editor.wants(event):
            super().press(event)

    def _deselect_roi(self, event: Any) -> None:
        """Keep the subset selected after a click, so that the next range replaces it."""
        self._roi = None
        self._subset = None


@viewer_tool
class AddBackgroundTool(CheckableTool):
    """Tool that draws a background region when the mouse is dragged across columns."""

    tool_id = "lrs:background"
    icon = icon("background")
    action_text = "Add a background region"
    tool_tip = "Add a background region: drag across its columns"
    status_tip = "Drag from one edge of the background region to the other; Escape cancels"

    def activate(self) -> None:
        self.viewer.add_background(True)

    def deactivate(self) -> None:
        if self.viewer is not None:
            self.viewer.add_background(False)


@viewer_tool
class ApertureMenu(SimpleToolMenu):
    """Menu with tools that put the aperture on the source, or set the default aperture."""

    tool_id = "lrs:aperture"
    icon = icon("source")
    tool_tip = "Put the aperture on the source, or go back to the default"


@viewer_tool
class ToSourceTool(Tool):
    """Tool that moves the aperture to the measured position of the source."""

    tool_id = "lrs:source"
    icon = icon("source")
    action_text = "To the source"
    tool_tip = TO_SOURCE_HINT

    def activate(self) -> None:
        self.viewer.run_method("to_source")


@viewer_tool
class ThreeFWHMTool(Tool):
    """Tool that makes the aperture 3 FWHM wide."""

    tool_id = "lrs:fwhm"
    icon = icon("fwhm")
    action_text = "3 × FWHM"
    tool_tip = THREE_FWHM_HINT

    def activate(self) -> None:
        self.viewer.run_method("three_fwhm")


@viewer_tool
class BestWidthTool(Tool):
    """Tool that sets the aperture with the best signal to noise."""

    tool_id = "lrs:best"
    icon = icon("best")
    action_text = "Best S/N"
    tool_tip = BEST_WIDTH_HINT

    def activate(self) -> None:
        self.viewer.run_method("best_width")


@viewer_tool
class DefaultTool(Tool):
    """Tool that sets the default aperture."""

    tool_id = "lrs:default"
    icon = icon("default")
    action_text = "Default aperture"
    tool_tip = "Go back to the default aperture of this kind of file"

    def activate(self) -> None:
        self.viewer.run_method("default")


@viewer_tool
class ResidualTool(Tool):
    """Tool that shows or hides the residual."""

    tool_id = "lrs:residual"
    icon = icon("residual")
    action_text = "Residual"
    tool_tip = RESIDUAL_HINT

    def activate(self) -> None:
        live = self.viewer.live
        if live is not None:
            self.viewer.run_method("hide_residual" if live.residual_shown else "residual")


class LRSImageViewer(FollowsExtraction, ImageViewer):
    """Viewer for an image, with wavelength along y and editable regions."""

    LABEL = "LRS image"
    _state_cls = LRSImageState
    _default_mouse_mode_cls = EditMode
    _layer_style_widget_cls: ClassVar[dict[Any, Any]] = {
        **ImageViewer._layer_style_widget_cls,
        LRSImageLayerArtist: ImageLayerStyleEditor,
    }
    inherit_tools = False
    tools: ClassVar[list[str]] = [
        "save",
        "mpl:home",
        "mpl:pan",
        "mpl:zoom",
        "lrs:background",
        "lrs:aperture",
        "lrs:residual",
        "select:yrange",
        "select:xrange",
        "select:polygon",
        "image:contrast_bias",
        "window",
    ]
    subtools: ClassVar[dict[str, list[str]]] = {
        **SUBTOOLS,
        "lrs:aperture": ["lrs:source", "lrs:fwhm", "lrs:best", "lrs:default"],
    }

    editor: ImageEditor | None = None
    _editing = True
    _restored = False

    def __init__(self, session: Any, parent: Any = None, state: Any = None) -> None:
        super().__init__(session, parent=parent, state=state)
        self.mpl_widget.canvas.setMinimumSize(220, 200)  # glue fails on axes of zero size
        self._restored = state is not None
        self.state.x_axislabel_size = self.state.y_axislabel_size = _LABEL_SIZE
        self.state.x_ticklabel_size = self.state.y_ticklabel_size = _LABEL_SIZE
        self.axes.resizer.margins = [0.62, 0.6, 0.42, 0.45]
        self.axes.resizer.on_resize(None)
        self.figure.canvas.mpl_connect("resize_event", self._resized)

    def _resized(self, *_: Any) -> None:
        """Draw the image at once; otherwise glue stretches the old image for half a second."""
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
            self.show_error(not_an_image(data))  # it can be displayed but not extracted
        return added

    def get_data_layer_artist(self, layer: Any = None, layer_state: Any = None) -> Any:
        """Return the artist for a dataset, which is an `LRSImageLayerArtist` for LRS images."""
        if is_lrs_image(layer):
            return self.get_layer_artist(LRSImageLayerArtist, layer=layer, layer_state=layer_state)
        return super().get_data_layer_artist(layer=layer, layer_state=layer_state)

    def _set_look(self, data: Any) -> None:
        """Set a grey scale that shows faint and bright pixels, and the limits of the axes."""
        layer = self.state.layers[0]
        layer.attribute = data.id["flux"]
        flux = np.asarray(data["flux"])
        if flux.ndim == 3:
            flux = flux[flux.shape[0] // 2]
        finite = flux[np.isfinite(flux)]
        if finite.size:
            low, middle, high = (float(v) for v in np.percentile(finite, [_CUTS[0], 50, _CUTS[1]]))
            low = max(low, middle - _BELOW * (high - middle))  # ignore negative traces
            if high > low:
                layer.v_min, layer.v_max = low, high
        layer.stretch = "arcsinh"
        self.state.color_mode = "Colormaps"
        layer.cmap = colormaps["gray"]
        layer.alpha = 1.0
        self.state.aspect = "auto"
        self.state.reset_limits()

    # --- the extraction ----------------------------------------------------------------------

    @property
    def editing(self) -> bool:
        """Whether the mouse edits regions, because no tool is active."""
        return self._editing

    @editing.setter
    def editing(self, value: bool) -> None:
        self._editing = value
        if self.editor is not None:
            self.editor.active = value

    def attach(self, live: LiveExtraction) -> None:
        """Draw the regions and their handles, and follow the extraction."""
        self.editor = ImageEditor(self.axes, live)
        self.editor.active = self._editing
        self.editor.on_adding = self._adding_changed
        self.editor.on_hint = self.set_status
        self.state.add_callback("slices", self._slice_chosen)
        self.follow("integration", self._show_integration)
        self.follow("residual_shown", self._show_residual)
        self.follow("residual_limit", self._show_residual)
        if live.image.is_stack:
            self._show_integration()
        self._show_residual(restored=True)
        self.state.add_callback("layers", self._layers_changed)
        self.state.home = self._show_bounding_box
        if not self._restored:
            self._show_bounding_box()

    def detach(self) -> None:
        """Remove the region editor."""
        self.state.home = None
        self.state.remove_callback("layers", self._layers_changed)
        if self.editor is not None:
            self.editor.on_adding = self.editor.on_hint = None
            self.editor.close()
            self.editor = None
        self.state.remove_callback("slices", self._slice_chosen)

    def _adding_changed(self, on: bool) -> None:
        """Deactivate the tool once the background region has been added."""
        tool = getattr(self.toolbar, "active_tool", None)
        if not on and isinstance(tool, AddBackgroundTool):
            self.toolbar.active_tool = None

    def add_background(self, on: bool) -> None:
        """Set whether the next drag adds a background region."""
        if self.editor is not None:
            self.editor.active = on or self._editing
            self.editor.adding = on

    def run_method(self, name: str) -> None:
        """Call a method of the extraction; if it raises an `LRSError`, show the message."""
        if self.live is None:
            return
        try:
            with busy():
                getattr(self.live, name)()
        except LRSError as error:
            self.live.message = panel_text(error)

    # --- the residual ------------------------------------------------------------------------

    def add_subset(self, subset: Any) -> bool:
        """Add a subset, except on the residual, where it would duplicate that of the image."""
        if self.live is not None and subset.data is self.live.residual_data:
            return False
        return bool(super().add_subset(subset))

    def remove_data(self, data: Any) -> None:
        """Remove a dataset; remove the residual together with the image."""
        if self.live is not None and data is self.live.data:
            residual = self.live.residual_data
            if self._residual_layer() is not None:
                super().remove_data(residual)
        super().remove_data(data)

    def _residual_layer(self) -> Any:
        residual = None if self.live is None else self.live.residual_data
        if residual is None:
            return None
        return next((one for one in self.state.layers if one.layer is residual), None)

    def _show_residual(self, *_: Any, restored: bool = False) -> None:
        """Show the residual above the image in diverging colours, or hide it."""
        live = self.live
        if live is None or live.residual_data is None:
            return
        layer = self._residual_layer()
        if not live.residual_shown:
            if layer is not None:
                self.remove_data(live.residual_data)
            return
        if layer is not None and restored:  # the layer has the style saved in the session
            return
        if layer is None:
            self.add_data(live.residual_data)
            layer = self._residual_layer()
        if layer is not None:
            layer.attribute = live.residual_data.id["residual"]
            layer.stretch = "linear"
            layer.v_min, layer.v_max = -live.residual_limit, live.residual_limit
            layer.cmap = colormaps["RdBu_r"]
            layer.alpha = 1.0
            layer.visible = True

    def _layers_changed(self, *_: Any) -> None:
        """Hide the residual if its layer was deleted."""
        live = self.live
        if live is not None and live.residual_shown and self._residual_layer() is None:
            live.hide_residual()

    def _show_bounding_box(self) -> None:
        """Set the limits to the illuminated part of the image, with some margin for dragging."""
        if self.live is None:
            return
        (left, right), (bottom, top) = self.live.image.bounding_box
        rows, columns = self.live.image.shape
        with delay_callback(self.state, "x_min", "x_max", "y_min", "y_max"):
            self.state.x_min, self.state.x_max = max(left - 2, -1.5), min(right + 2, columns + 0.5)
            self.state.y_min, self.state.y_max = max(bottom - 4, -2.5), min(top + 4, rows + 1.5)

    def _show_integration(self, *_: Any) -> None:
        """Show the selected integration of the extraction, or the median of all integrations."""
        if self.live is None or not self._shows_stack():
            return
        number = self.live.integration
        self.state.median_plane = self.live.shown.data if number is None else None
        slices = (number or 0, *self.state.slices[1:])
        if tuple(self.state.slices) != slices:
            self.state.slices = slices
        self.redraw_image()

    def _slice_chosen(self, *_: Any) -> None:
        """Extract the integration that is selected with glue's slider."""
        if self.live is None or not self._shows_stack():
            return
        chosen = int(self.state.slices[0])
        if chosen != (self.live.integration or 0):
            self.live.integration = chosen

    def _shows_stack(self) -> bool:
        live = self.live
        return (
            live is not None
            and live.image.is_stack
            and self.state.reference_data is live.data
            and len(self.state.slices) == 3
        )

    def redraw_image(self) -> None:
        """Discard the cached drawing of the image and draw it again."""
        if self.axes._composite_image is not None:
            self.axes._composite_image.invalidate_cache()
        self.redraw()

    # --- axes --------------------------------------------------------------------------------

    def _set_wcs(self, *args: Any, **kwargs: Any) -> None:
        super()._set_wcs(*args, **kwargs)
        fresh = len(self.axes._all_coords) == 1  # a second layer does not make new axes
        if self._wcs_set and fresh and is_lrs_image(self.state.reference_data):
            self._decorate()

    def _update_axes(self, *args: Any) -> None:
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
        """Place wavelengths to the left, columns below, rows to the right, and arcseconds above."""
        along, across = self.axes.coords[1], self.axes.coords[0]
        overlay = self.axes.get_coords_overlay("pixel", coord_meta=_PIXELS)
        sides = ((along, "l"), (across, "t"), (overlay[0], "b"), (overlay[1], "r"))
        for helper, side in sides:
            helper.set_ticks_position(side)
            helper.set_ticklabel_position(side)
            helper.set_axislabel_position(side)
            helper.set_ticklabel(size=_LABEL_SIZE)
        overlay[0].set_ticks(number=3)
        overlay[0].set_axislabel("column [pixel]", size=_LABEL_SIZE)
        overlay[1].set_axislabel("row [pixel]", size=_LABEL_SIZE)
