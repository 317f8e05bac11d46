"""Fast source search: extrema of the mean profile along the slit."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from glue_lrs._utils.statistics import median, nanmedian
from glue_lrs._utils.typing import Array
from glue_lrs.fitting.cutout import PixelPlanes
from glue_lrs.instrument import FWHM, PIXEL_SCALE, expected_fwhm

#: Half width of the matched filter in columns, at least 3 standard deviations of the profile.
_KERNEL = 6

#: Ratio of the variance of a median to the variance of a mean of the same number of values. It is
#: pi / 2, rounded up.
_MEDIAN_VARIANCE = 1.6

#: Minimum number of columns with values in a chunk of rows. Chunks with fewer columns are ignored.
_FEWEST_COLUMNS = 8


@dataclass(frozen=True)
class Peak:
    """A maximum of the mean profile along the slit, or a minimum if it is a negative trace.

    Parameters
    ----------
    column : float
        Column in the middle row.
    ratio : float
        Signal-to-noise ratio, negative for a minimum.
    light : float
        Value of the filtered profile at the peak, negative for a minimum.
    dip : float
        Level of the dips that separate this peak from brighter columns. On each side, it is the
        minimum of the filtered profile up to the next brighter column, as a fraction of this peak.
        The larger of the two is used. It is 0 for the brightest peak.
    """

    column: float
    ratio: float
    light: float
    dip: float


def find_peaks(pixels: PixelPlanes, trace_shape: Array, chunk: int = 64) -> list[Peak]:
    """Find maxima and minima of the mean profile along the slit.

    The rows are divided into chunks. The median profile in each chunk is convolved with a Gaussian
    of the expected width, and the weighted sum of the convolved profiles is searched.

    Parameters
    ----------
    pixels : PixelPlanes
        Image to search.
    trace_shape : ndarray
        Column of the trace relative to its column in the middle row, shape (row,).
    chunk : int
        Number of rows in a chunk. It must be small enough that the column of the trace is nearly
        constant within a chunk, and large enough that the median excludes cosmic rays.

    Returns
    -------
    list of Peak
        Maxima and minima, sorted by the absolute value of `light`, the brightest first.
    """
    light, noise = _filtered_profile(pixels, trace_shape, chunk)
    ratio = light / np.sqrt(np.maximum(noise, 1e-300))
    found = []
    # Search for extrema of the flux instead of the signal-to-noise ratio, which for a bright source
    # has two maxima beside the centre, because the photon noise is largest in the centre.
    for sign in (1.0, -1.0):
        value = sign * light
        peaks = np.flatnonzero((value[1:-1] >= value[:-2]) & (value[1:-1] > value[2:])) + 1
        for at in peaks:
            before, here, after = value[at - 1 : at + 2]
            curvature = before - 2.0 * here + after
            vertex = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
            brighter = np.flatnonzero(value > here)
            between = [
                value[min(at, other) : max(at, other) + 1].min()
                for other in (brighter[brighter < at][-1:], brighter[brighter > at][:1])
                for other in other.tolist()
            ]
            dip = max(between, default=0.0) / here if here > 0 else 1.0
            column = float(pixels.columns[at] + vertex)
            found.append(Peak(column, float(ratio[at]), float(sign * here), float(dip)))
    return sorted(found, key=lambda peak: -abs(peak.light))


def _filtered_profile(pixels: PixelPlanes, trace_shape: Array, chunk: int) -> tuple[Array, Array]:
    """Return the filtered profile along the slit and its variance, shape (column,)."""
    rows, width = pixels.data.shape
    edges = np.linspace(0, rows, max(rows // chunk, 1) + 1).astype(int)
    light, noise = np.zeros(width), np.zeros(width)
    columns = pixels.columns
    padded = np.arange(width + 2 * _KERNEL) + (columns[0] - float(_KERNEL))
    inner = slice(_KERNEL, -_KERNEL)
    for first, last in pairwise(edges.tolist()):
        good = pixels.good[first:last]
        if not good.any():
            continue
        middle = nanmedian(np.where(good, pixels.data[first:last], np.nan), axis=0)
        count = good.sum(axis=0)
        known = count > (last - first) / 4
        if known.sum() < _FEWEST_COLUMNS:
            continue
        variance = np.where(good, pixels.variance[first:last], 0.0).sum(axis=0)
        variance = _MEDIAN_VARIANCE * variance / np.maximum(count, 1) ** 2
        wave = pixels.wavelength[first:last]
        sigma = float(expected_fwhm(wave[np.isfinite(wave)].mean())) / (PIXEL_SCALE * FWHM)
        level = median(middle[known])
        x = columns - np.mean(trace_shape[first:last])
        source = np.interp(columns, x[known], middle[known] - level, left=0.0, right=0.0)
        error = np.interp(padded, x[known], variance[known])
        kernel = np.exp(-0.5 * (np.arange(-_KERNEL, _KERNEL + 1) / sigma) ** 2)
        weight = 1.0 / median(error[inner])
        light += weight * np.convolve(source, kernel)[inner]
        noise += weight**2 * np.convolve(error, kernel**2, mode="valid")
    return light, noise
