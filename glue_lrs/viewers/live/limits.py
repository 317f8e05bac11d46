"""Limits of the y axis of a plot that adapt to the data in steps."""

from __future__ import annotations

#: Margins below and above the data, relative to the range of the data.
_MARGINS = (0.08, 0.16)

#: The limits shrink only if the data cover less than this fraction of the axes.
_SHRINK = 0.6

#: The corresponding fraction during a drag.
_SHRINK_DRAGGING = 0.2

#: Margin, relative to the range of the data, on a side where the data leave the axes during a drag.
#: The margin is wide because each change of the limits redraws the whole figure.
_DRAGGING_MARGIN = 0.7


def adapted_limits(
    low: float,
    high: float,
    applied: tuple[float, float] | None,
    *,
    dragging: bool = False,
) -> tuple[float, float] | None:
    """Return new limits of an axis that shows a range of values.

    Parameters
    ----------
    low, high : float
        Lowest and highest value to show.
    applied : (float, float) or None
        Present limits, if they were chosen by this function.
    dragging : bool
        Whether a drag is in progress. The limits then change in larger steps, because more changes
        are likely to follow.

    Returns
    -------
    (float, float) or None
        New limits, or None if `applied` are still suitable.
    """
    span = high - low or abs(high) or 1.0
    below, above = _MARGINS
    if applied is not None:
        bottom, top = applied
        shrink = _SHRINK_DRAGGING if dragging else _SHRINK
        if bottom <= low and high <= top and span >= shrink * (top - bottom):
            return None
        if dragging:
            below = _DRAGGING_MARGIN if low < bottom else below
            above = _DRAGGING_MARGIN if high > top else above
    return low - below * span, high + above * span
