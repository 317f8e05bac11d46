"""Limits of the y axis that adapt to the plotted data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from glue_lrs.viewers.canvas.blitting import root_figure
from glue_lrs.viewers.live.limits import adapted_limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Height in points that is reserved for a line of text at the top, so that it does not cover data.
_TEXT_HEIGHT = 20.0

#: Maximum height that is reserved for the text, as a fraction of the height of the axes.
_MAX_TEXT_FRACTION = 0.35


class Limits:
    """Limits of the y axis that adapt to the data until a user sets the limits.

    The limits change in steps, because each change redraws the whole figure.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        Axes whose y limits are set.
    text : bool
        Whether to leave room for a line of text in the upper corner.
    """

    def __init__(self, axes: Axes, *, text: bool = True) -> None:
        self._axes = axes
        self._text = text
        self._applied: tuple[float, float] | None = None
        #: Whether the limits follow the data; False once a user has set them.
        self.follow = True
        self._range: tuple[float, float] | None = None
        self._connection = axes.callbacks.connect("ylim_changed", self._changed)
        self._canvas = root_figure(axes).canvas
        self._resize = self._canvas.mpl_connect("resize_event", self._resized)
        axes.set_autoscaley_on(False)

    def include(self, low: float, high: float, *, dragging: bool = False) -> bool:
        """Extend or shrink the limits, if necessary, to show a range of values.

        Parameters
        ----------
        low, high : float
            Lowest and highest value to show.
        dragging : bool
            Whether a drag is in progress. The limits then change in larger steps, because more
            changes are likely to follow.

        Returns
        -------
        bool
            Whether the limits have changed.
        """
        if not self.follow or not np.isfinite([low, high]).all():
            return False
        self._range = low, high
        limits = adapted_limits(low, high, self._applied, self._text_margin, dragging=dragging)
        if limits is None:
            return False
        self._applied = limits
        self._axes.set_ylim(self._applied)
        return True

    def _text_margin(self, below: float) -> float:
        """Return the margin that the text requires above the data, relative to the data range."""
        height = float(self._axes.bbox.height)
        if height <= 0.0 or not self._text:
            return 0.0
        dpi = float(root_figure(self._axes).dpi)
        fraction = min(_TEXT_HEIGHT * dpi / 72.0 / height, _MAX_TEXT_FRACTION)
        return (1.0 + below) * fraction / (1.0 - fraction)

    def release(self) -> None:
        """Let the limits adapt to the data again, beginning with the next call of `include`."""
        self.follow, self._applied, self._range = True, None, None

    def close(self) -> None:
        """Disconnect from the axes."""
        self._axes.callbacks.disconnect(self._connection)
        self._canvas.mpl_disconnect(self._resize)

    def _resized(self, *_: object) -> None:
        """Adapt the margin above the data to the new size of the canvas."""
        if self.follow and self._range is not None and root_figure(self._axes) is not None:
            self._applied = None
            self.include(*self._range)

    def _changed(self, axes: Axes) -> None:
        now = sorted(axes.get_ylim())
        if self._applied is not None and not np.allclose(now, self._applied, rtol=1e-6, atol=0.0):
            self.follow = False
