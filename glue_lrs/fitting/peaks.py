"""Source search by peaks of the mean profile."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.statistics import median
from glue_lrs.instrument import FWHM, PIXEL_SCALE, expected_fwhm

if TYPE_CHECKING:
    from glue_lrs.fitting.cutout import PixelPlanes


@dataclass(frozen=True)
class Peak:
    """A maximum along the slit, or a minimum, of which light and ratio are negative.

    `column` is that in the middle row, `ratio` a signal-to-noise ratio, `dip` the least light
    between it and a brighter one, as a fraction of its own.
    """

    column: float
    ratio: float
    light: float
    dip: float


def find_peaks(pixels: PixelPlanes, shape: NDArray[np.float64], chunk: int = 64) -> list[Peak]:
    """Find maxima and minima along the slit.

    Parameters
    ----------
    pixels : Pixels
        The image.
    shape : ndarray
        How far the trace is from its column in the middle row, shape (row,).
    chunk : int
        Rows of which the median is taken.

    Returns
    -------
    list of Extreme
        The one with the most light first.
    """
    rows, width = pixels.data.shape
    number = max(rows // chunk, 1)
    edges = np.linspace(0, rows, number + 1).astype(int)
    light, noise = np.zeros(width), np.zeros(width)
    columns = pixels.columns
    beyond = np.arange(width + 12) + (columns[0] - 6.0)
    for first, last in pairwise(edges.tolist()):
        good = pixels.good[first:last]
        some = good.any(axis=1)
        if not some.any():
            continue
        values = np.sort(np.where(good, pixels.data[first:last], np.inf), axis=0)
        count = good.sum(axis=0)
        low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, last - first - 1)
        c = np.arange(width)
        middle = 0.5 * (values[low, c] + values[high, c])
        known = count > (last - first) / 4
        if known.sum() < 8:
            continue
        variance = np.where(good, pixels.variance[first:last], 0.0).sum(axis=0)
        variance = 1.6 * variance / np.maximum(count, 1) ** 2  # of a median
        wave = pixels.wavelength[first:last]
        sigma = float(expected_fwhm(wave[np.isfinite(wave)].mean())) / (PIXEL_SCALE * FWHM)
        level = median(middle[known])
        x = columns - np.mean(shape[first:last])
        flat = np.interp(columns, x[known], middle[known] - level, left=0.0, right=0.0)
        error = np.interp(beyond, x[known], variance[known])
        kernel = np.exp(-0.5 * (np.arange(-6, 7) / sigma) ** 2)
        weight = 1.0 / median(error[6:-6])
        light += weight * np.convolve(flat, kernel)[6:-6]
        noise += weight**2 * np.convolve(error, kernel**2, mode="valid")
    # Maxima of the light: over its own photon noise a bright source has two, one on either side.
    ratio = light / np.sqrt(np.maximum(noise, 1e-300))
    found = []
    for sign in (1.0, -1.0):
        value = sign * light
        peak = np.flatnonzero((value[1:-1] >= value[:-2]) & (value[1:-1] > value[2:])) + 1
        for at in peak:
            before, here, after = value[at - 1 : at + 2]
            curvature = before - 2.0 * here + after
            part = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
            higher = np.flatnonzero(value > here)
            between = [
                value[min(at, other) : max(at, other) + 1].min()
                for other in (higher[higher < at][-1:], higher[higher > at][:1])
                for other in other.tolist()
            ]
            dip = max(between, default=0.0) / here if here > 0 else 1.0
            column = float(columns[at] + part)
            found.append(Peak(column, float(ratio[at]), float(sign * here), float(dip)))
    return sorted(found, key=lambda item: -abs(item.light))
