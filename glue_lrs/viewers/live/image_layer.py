"""Layers that show LRS images: grey scale, limits of the axes, and the median of a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from scipy.ndimage import map_coordinates

from glue_lrs.errors import LRSError
from glue_lrs.plotting.grey import CMAP, grey_limits, image_limits
from glue_lrs.viewers.datasets.images import slit_image
from glue_lrs.viewers.live.follower import Follower

if TYPE_CHECKING:
    from collections.abc import Callable

    from glue.core.data import BaseData
    from glue.viewers.image.state import ImageViewerState
    from numpy.typing import NDArray

    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.viewers.live.live_extraction import LiveExtraction


class ShowsMedian:
    """Mixin for the state of a layer that can show the median of the integrations in a stack.

    The state of the viewer holds the median in ``median_plane`` while it is shown.
    """

    attribute: Any
    viewer_state: Any

    def get_sliced_data(self, view: Any = None, bounds: Any = None) -> NDArray[Any]:
        """Return the pixels to draw."""
        plane = getattr(self.viewer_state, "median_plane", None)
        if plane is None or getattr(self.attribute, "label", None) != "flux":
            sliced: NDArray[Any] = super().get_sliced_data(  # type: ignore[misc]
                view=view, bounds=bounds
            )
            return sliced
        if bounds is None:
            return np.asarray(plane if view is None else plane[tuple(view)])
        pixels = [np.rint(np.linspace(low, high, number)) for low, high, number in bounds]
        at = np.meshgrid(*pixels, indexing="ij")
        return np.asarray(map_coordinates(plane, at, output=float, order=0, cval=np.nan))


def set_look(state: ImageViewerState, data: BaseData) -> None:
    """Set the grey scale of an LRS image in a viewer to that of figures."""
    layer = state.layers[0]
    layer.attribute = data.id["flux"]
    layer.v_min, layer.v_max = _grey_limits(state, data)
    layer.stretch = "arcsinh"
    state.color_mode = "Colormaps"
    layer.cmap = colormaps[CMAP]
    layer.alpha = 1.0
    state.aspect = "auto"


def _grey_limits(state: ImageViewerState, data: BaseData) -> tuple[float, float]:
    """Return the limits of the grey scale for the integration that a viewer shows."""
    number = int(state.slices[0])
    try:
        image = slit_image(data)
    except LRSError:  # the file of the image is missing, but glue has the pixels
        part: Any = () if data.ndim == 2 else (number,)
        return grey_limits(np.asarray(data["flux"])[part], np.asarray(data["wavelength"])[part])
    return image_limits(image.integration(number) if image.is_stack else image)


def shown_box(image: SlitImage) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return limits of columns and rows: the illuminated part, with some margin for dragging."""
    (left, right), (bottom, top) = image.bounding_box
    rows, columns = image.shape
    return (
        (max(left - 2, -1.5), min(right + 2, columns + 0.5)),
        (max(bottom - 4, -2.5), min(top + 4, rows + 1.5)),
    )


class IntegrationShown(Follower):
    """Connection between the integration of an extraction and the slice that a viewer shows.

    Parameters
    ----------
    live : LiveExtraction
        Live extraction of the image.
    state : ImageViewerState
        State of the viewer. Its attribute ``median_plane`` is set to the median of all integrations
        while that is shown, and otherwise to None.
    redraw : callable
        Function that discards the drawing of the image and draws it again.
    """

    live: LiveExtraction

    def __init__(
        self, live: LiveExtraction, state: ImageViewerState, redraw: Callable[[], object]
    ) -> None:
        self.live = live
        self._state = state
        self._redraw = redraw
        state.median_plane = None
        state.add_callback("slices", self._slice_chosen)
        self.follow(self._show, "integration")
        self._show()

    def close(self) -> None:
        """Disconnect the viewer from the extraction."""
        self._state.remove_callback("slices", self._slice_chosen)
        self.unfollow()

    @property
    def _is_stack(self) -> bool:
        """Whether the viewer shows the stack of the extraction, with one slice per integration."""
        state, live = self._state, self.live
        return live.image.is_stack and state.reference_data is live.data and len(state.slices) == 3

    def _show(self, *_: object) -> None:
        """Show the selected integration of the extraction, or the median of all integrations."""
        if not self._is_stack:
            return
        state, number = self._state, self.live.integration
        state.median_plane = self.live.shown.data if number is None else None
        slices = (number or 0, *state.slices[1:])
        if tuple(state.slices) != slices:
            state.slices = slices
        self._redraw()

    def _slice_chosen(self, *_: object) -> None:
        """Extract the integration that the user has selected with the slider of the viewer."""
        if self._is_stack and int(self._state.slices[0]) != (self.live.integration or 0):
            self.live.integration = int(self._state.slices[0])
