"""Profile of an image along the slit."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glue_lrs.errors import LRSError
from glue_lrs.image.pixels import lost_pixels

if TYPE_CHECKING:
    from glue_lrs.image.slit_image import SlitImage


#: Maximum height above the other columns of a peak that is only one column wide, as a multiple of
#: the range of the other columns. Higher peaks are cut off. Sources are never cut off, because even
#: the narrowest point source in MIRI images spreads over several columns.
_MAX_PEAK = 5.0

#: Margin beyond the other columns on the side where a one-column peak is cut off, as a multiple of
#: the range of the other columns.
_PEAK_ROOM = 1.0


class CrossDispersionProfile(NamedTuple):
    """Column numbers, mean flux over some rows in each column, and 1-sigma errors."""

    columns: NDArray[np.float64]
    flux: NDArray[np.float64]
    error: NDArray[np.float64]


def cross_dispersion_profile(
    image: SlitImage, row: float, number: int = 11
) -> CrossDispersionProfile:
    """Average rows of an image to a profile along the slit.

    Parameters
    ----------
    image : SlitImage
        Single image, not a stack, whose rows are averaged.
    row : float
        Row in the middle of the averaged rows.
    number : int
        Number of rows to average. Fewer are used at the ends of the image.

    Returns
    -------
    CrossDispersionProfile
        Column numbers, means in the unit of the image, and their 1-sigma errors. Pixels that are
        flagged or not finite are excluded. Columns without good pixels are NaN.

    Raises
    ------
    LRSError
        If the image is a stack, or `row` or `number` is invalid.
    """
    if image.is_stack:
        raise LRSError(
            "is a stack, expected one integration or the median of all", subject=image.label
        )
    if number < 1 or not np.isfinite(row):
        raise LRSError(
            f"row is {row} and the number of rows {number}, expected a row and 1 or more"
        )
    start = round(row - (number - 1) / 2.0)
    first = int(np.clip(start, 0, image.shape[0] - 1))
    averaged = slice(first, int(np.clip(start + number, first + 1, image.shape[0])))
    good = ~lost_pixels(image, averaged)
    count = good.sum(axis=0)
    variances = variance(image, averaged)
    with np.errstate(invalid="ignore"):  # 0 / 0 in columns without good pixels
        flux = np.where(good, image.data[averaged], 0.0).sum(axis=0, dtype=float) / count
        error = np.sqrt(np.where(good, variances, 0.0).sum(axis=0)) / count
    return CrossDispersionProfile(np.arange(image.shape[1], dtype=float), flux, error)


def variance(image: SlitImage, averaged: slice) -> NDArray[np.float64]:
    """Return the variances of pixels in some rows, or NaN if the image has no errors."""
    if image.err is not None:
        return np.asarray(image.err[averaged], dtype=float) ** 2
    planes = (image.var_poisson, image.var_rnoise, image.var_flat)
    parts = [np.asarray(plane[averaged], dtype=float) for plane in planes if plane is not None]
    return np.sum(parts, axis=0) if parts else np.array(np.nan)


def peak_limited_range(flux: NDArray[np.float64]) -> tuple[float, float]:
    """Return the range of a profile, ignoring peaks that are too high and narrow for a source."""
    values = flux[np.isfinite(flux)]
    if values.size == 0:
        return np.nan, np.nan
    low, high = float(values.min()), float(values.max())
    if values.size < 5:
        return low, high
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(values, 3), axis=1)
    middle, bottom, top = (float(f(smooth)) for f in (np.median, np.min, np.max))
    span = max(top - bottom, 1e-6 * abs(middle))
    lower = low if bottom - low <= _MAX_PEAK * span else bottom - _PEAK_ROOM * span
    upper = high if high - top <= _MAX_PEAK * span else top + _PEAK_ROOM * span
    return lower, upper
