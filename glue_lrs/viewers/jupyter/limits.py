"""Limits of a scale of bqplot that adapt to the plotted data."""

from __future__ import annotations

from typing import Any

import numpy as np

from glue_lrs.viewers.jupyter.figure import set_scale
from glue_lrs.viewers.live.limits import adapted_limits


class ScaleLimits:
    """Limits that adapt to the data until a user zooms or sets them.

    Parameters
    ----------
    scale : bqplot.Scale
        Scale whose limits are set.

    Attributes
    ----------
    follow : bool
        Whether the limits follow the data; False once a user has changed them.
    """

    def __init__(self, scale: Any) -> None:
        self._scale = scale
        self._applied: tuple[float, float] | None = None
        self._setting = False
        self.follow = True
        scale.observe(self._changed, names=["min", "max"])

    def include(self, low: float, high: float, *, dragging: bool = False) -> None:
        """Extend or shrink the limits, if necessary, to show a range of values.

        Parameters
        ----------
        low, high : float
            Lowest and highest value to show.
        dragging : bool
            Whether a drag is in progress. The limits then change in larger steps.
        """
        if not self.follow or not np.isfinite([low, high]).all():
            return
        limits = adapted_limits(low, high, self._applied, dragging=dragging)
        if limits is not None:
            self._applied = limits
            self._set(*limits)

    def rescale(self, factor: float) -> None:
        """Change the limits with the unit: limits of a user show the same part of the data."""
        self._applied = None
        if not self.follow:
            self._set(self._scale.min * factor, self._scale.max * factor)

    def release(self) -> None:
        """Let the limits adapt to the data again, beginning with the next call of `include`."""
        self.follow, self._applied = True, None

    def close(self) -> None:
        """Stop following the scale."""
        self._scale.unobserve(self._changed, names=["min", "max"])

    def _set(self, low: float, high: float) -> None:
        self._setting = True
        try:
            set_scale(self._scale, low, high)
        finally:
            self._setting = False

    def _changed(self, _: object) -> None:
        if self._setting or self._applied is None or None in (self._scale.min, self._scale.max):
            return
        now = self._scale.min, self._scale.max
        if not np.allclose(now, self._applied, rtol=1e-6, atol=0.0):
            self.follow = False
