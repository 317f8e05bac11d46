"""Limits in y that follow the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from glue_lrs.viewers.canvas.blitting import root_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Limits"]

#: Margins below and above the data, relative to their range.
_MARGINS = (0.08, 0.16)

#: Height in points of the line of text in the upper corner, which must not cover data, and its
#: maximum height relative to the axes.
_TEXT_HEIGHT, _MAX_TEXT_FRACTION = 20.0, 0.35

#: Minimum range of the data relative to the axes before the limits shrink; and during a drag.
_SHRINK, _SHRINK_DRAGGING = 0.6, 0.2

#: Margin, relative to the range of the data, on a side where the data leave the axes during a drag.
#: It is wide because each change of the limits redraws the figure.
_DRAGGING_MARGIN = 0.7


class Limits:
    """Limits in y that follow the data, in steps, until a user sets them.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        The axes.
    text : bool
        Whether there is a line of text in the upper corner.
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
        """Show a range of values.

        Parameters
        ----------
        low, high : float
            The range.
        dragging : bool
            Whether a drag is in progress: limits then change in larger steps, as more changes are
            to be expected.

        Returns
        -------
        bool
            Whether the limits have changed.
        """
        if not self.follow or not np.isfinite([low, high]).all():
            return False
        self._range = low, high
        span = high - low or abs(high) or 1.0
        below, above = _MARGINS
        above = max(above, self._text_margin(below))
        if self._applied is not None:
            bottom, top = self._applied
            shrink = _SHRINK_DRAGGING if dragging else _SHRINK
            if bottom <= low and high <= top and span >= shrink * (top - bottom):
                return False
            if dragging:
                below = _DRAGGING_MARGIN if low < bottom else below
                above = _DRAGGING_MARGIN if high > top else above
        self._applied = low - below * span, high + above * span
        self._axes.set_ylim(self._applied)
        return True

    def _text_margin(self, below: float) -> float:
        """Margin above the data, relative to their range, that the line of text requires."""
        figure = root_figure(self._axes)
        height = 0.0 if figure is None else float(self._axes.bbox.height)
        if height <= 0.0 or not self._text:
            return 0.0
        fraction = min(_TEXT_HEIGHT * float(figure.dpi) / 72.0 / height, _MAX_TEXT_FRACTION)
        return (1.0 + below) * fraction / (1.0 - fraction)

    def release(self) -> None:
        """Follow the data again, beginning with the next range."""
        self.follow, self._applied, self._range = True, None, None

    def close(self) -> None:
        """Disconnect from the axes."""
        self._axes.callbacks.disconnect(self._connection)
        self._canvas.mpl_disconnect(self._resize)

    def _resized(self, *_: Any) -> None:
        """Update the margin of the text; a resized canvas is redrawn anyway."""
        if self.follow and self._range is not None and root_figure(self._axes) is not None:
            self._applied = None
            self.include(*self._range)

    def _changed(self, axes: Axes) -> None:
        now = sorted(axes.get_ylim())
        if self._applied is not None and not np.allclose(now, self._applied, rtol=1e-6, atol=0.0):
            self.follow = False
