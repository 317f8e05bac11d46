"""Limits of the y axis that adapt to the plotted data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from glue_lrs.viewers.live.limits import adapted_limits

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Limits:
    """Limits of the y axis that adapt to the data until a user sets the limits.

    The limits change in steps, because each change redraws the whole figure.

    Parameters
    ----------
    axes : `~matplotlib.axes.Axes`
        Axes whose y limits are set.
    """

    def __init__(self, axes: Axes) -> None:
        self._axes = axes
        self._applied: tuple[float, float] | None = None
        #: Whether the limits follow the data; False once a user has set them.
        self.follow = True
        self._connection = axes.callbacks.connect("ylim_changed", self._changed)
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
        limits = adapted_limits(low, high, self._applied, dragging=dragging)
        if limits is None:
            return False
        self._applied = limits
        self._axes.set_ylim(self._applied)
        return True

    def release(self) -> None:
        """Let the limits adapt to the data again, beginning with the next call of `include`."""
        self.follow, self._applied = True, None

    def close(self) -> None:
        """Disconnect from the axes."""
        self._axes.callbacks.disconnect(self._connection)

    def _changed(self, axes: Axes) -> None:
        now = sorted(axes.get_ylim())
        if self._applied is not None and not np.allclose(now, self._applied, rtol=1e-6, atol=0.0):
            self.follow = False
