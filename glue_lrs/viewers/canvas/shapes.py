"""Shapes that several views draw: bands across the axes and error bands."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.path import Path
from numpy.typing import NDArray

from glue_lrs.plotting.style import GREEN

#: Line style of crosshairs.
DASHES = (0, (6, 3))

#: Style of the bands that show selected ranges.
RANGE_STYLE: dict[str, Any] = {"fc": GREEN, "ec": GREEN, "lw": 1.0}


def bands(spans: Iterable[tuple[float, float]], along_y: bool = False) -> Path:
    """Return the path of bands that extend across the whole axes.

    Parameters
    ----------
    spans : iterable of (float, float)
        Lower and upper limit of each band.
    along_y : bool
        Whether the limits are y coordinates rather than x coordinates. In the other coordinate,
        the bands extend from 0 to 1.
    """
    order = (1, 0) if along_y else (0, 1)
    corners = (
        np.array([(low, 0.0), (high, 0.0), (high, 1.0), (low, 1.0), (low, 0.0)])
        for low, high in spans
    )
    return Path.make_compound_path(*(Path(one[:, order], closed=True) for one in corners))


def band_outlines(
    x: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Return the outlines of the area between two lines.

    Parameters
    ----------
    x, low, high : ndarray
        x coordinates, and y coordinates of the lower and the upper line. The area is interrupted
        where either line is not finite.

    Returns
    -------
    list of ndarray, shape (n, 2)
        One outline for each contiguous part. A part that consists of a single point gets a finite
        width.
    """
    outlines = []
    # `clump_unmasked` returns a slice for each contiguous run of finite values
    for run in np.ma.clump_unmasked(np.ma.masked_invalid(low + high)):  # type: ignore[no-untyped-call]
        where, bottom, top = x[run], low[run], high[run]
        if where.size == 1:  # draw a single point about as wide as its pixel
            pitch = np.abs(np.diff(x[max(run.start - 1, 0) : run.stop + 1]))
            half = 0.4 * float(np.min(pitch, initial=0.1))
            where, bottom, top = where + np.array([-half, half]), bottom.repeat(2), top.repeat(2)
        outlines.append(np.column_stack([np.r_[where, where[::-1]], np.r_[bottom, top[::-1]]]))
    return outlines
