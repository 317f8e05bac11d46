"""Layers that show LRS images: grey scale, limits of the axes, and the median of a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from scipy.ndimage import map_coordinates

from glue_lrs.viewers.live.follower import Follower

if TYPE_CHECKING:
    from collections.abc import Callable

    from glue.core.data import BaseData
    from glue.viewers.image.state import ImageViewerState
    from numpy.typing import NDArray

    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.viewers.live.live_extraction import LiveExtraction

#: Percentiles of the pixel values that become the lower and the upper limit of the grey scale.
_CUTS = (1.0, 99.7)
#: Maximum distance of the lower limit from the median, relative to that of the upper limit.
_BELOW = 0.1


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
    """Set a grey scale that shows both faint and bright pixels of an LRS image in a viewer."""
    layer = state.layers[0]
    layer.attribute = data.id["flux"]
    limits = grey_limits(np.asarray(data["flux"]))
    if limits is not None:
        layer.v_min, layer.v_max = limits
    layer.stretch = "arcsinh"
    state.color_mode = "Colormaps"
    layer.cmap = colormaps["gray"]
    layer.alpha = 1.0
    state.aspect = "auto"


def grey_limits(flux: NDArray[Any]) -> tuple[float, float] | None:
    """Return the limits of a grey scale that shows both faint and bright pixels.

    Parameters
    ----------
    flux : ndarray
        Pixel values of shape (row, column) or (integration, row, column).

    Returns
    -------
    (float, float) or None
        Lower and upper limit, or None if there are no different finite pixel values.
    """
    if flux.ndim == 3:
        flux = flux[flux.shape[0] // 2]
    finite = flux[np.isfinite(flux)]
    if not finite.size:
        return None
    low, middle, high = (float(v) for v in np.percentile(finite, [_CUTS[0], 50, _CUTS[1]]))
    low = max(low, middle - _BELOW * (high - middle))  # exclude negative traces
    return (low, high) if high > low else None


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
