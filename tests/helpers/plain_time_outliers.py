"""Outliers along time of one group of integrations, pixel by pixel and in double precision.

It is the twin of `glue_lrs.fitting.time_search`, for stacks with variances.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import median_filter

from glue_lrs import SlitImage
from glue_lrs.image.pixels import lost_pixels


def plain_outliers(image: SlitImage) -> tuple[np.ndarray, np.ndarray]:
    """Return the outliers and the expected values, both of shape (integration, row, column)."""
    data = np.where(lost_pixels(image), np.nan, np.asarray(image.data, dtype=float))
    variance = np.asarray(image.var_poisson, dtype=float) + np.asarray(image.var_rnoise)
    variance[np.isnan(data)] = np.nan
    middle = np.nanmedian(data, axis=0)
    sigma = np.sqrt(np.nanmedian(variance[:: max(len(data) // 16, 1)], axis=0))
    terms = np.array(list(_terms(middle)))
    pull, expected = np.zeros(data.shape), np.zeros(data.shape)
    rows = len(middle)
    height = -(-rows // max(round(rows / 24), 1))
    for first in range(0, rows, height):
        band = slice(first, first + height)
        design = (terms / sigma)[:, band].reshape(4, -1).T
        # The sample of pixels is that of a full band.
        step = max(height * middle.shape[1] // 200, 1)
        for number in range(len(data)):
            values = ((data[number] - middle) / sigma)[band].ravel()
            model = (design @ _fit(design, values, step)).reshape(-1, middle.shape[1])
            pull[number, band] = values.reshape(model.shape) - model
            expected[number, band] = middle[band] + model * sigma[band]
    pull = np.nan_to_num(pull)
    bright = np.where(middle > 5 * sigma, expected / middle, 1.0)
    count = len(data)
    of_median = np.pi / 2 / (count + (0.5 if count % 2 else 1.3))
    pull /= np.sqrt(np.maximum(bright, 1.0) + (bright - 1.0) ** 2 * of_median)
    scatter = 1.4826 * np.median(np.abs(pull), axis=0)
    smooth = median_filter(scatter, (24, 1), mode="nearest")
    return np.abs(pull) > 5 * np.maximum(np.maximum(scatter, smooth), 1.0), expected


def _terms(middle: np.ndarray) -> Iterator[np.ndarray]:
    star = middle - np.median(middle, axis=1, keepdims=True)
    spline = CubicSpline(np.arange(middle.shape[1]), star, axis=1)
    yield from (star, spline(np.arange(middle.shape[1]), 1), spline(np.arange(middle.shape[1]), 2))
    yield np.ones_like(star)


def _fit(design: np.ndarray, values: np.ndarray, step: int) -> np.ndarray:
    """Return the multiples of the terms after three fits with each of the two weights."""
    good = np.isfinite(values)
    found = np.linalg.lstsq(design[good], values[good], rcond=None)[0]
    distance = np.abs(values - design @ found)
    if np.nanmax(distance) <= 4.5 * _spread(distance[::step]):
        return found
    for attempt in range(6):
        distance = np.abs(values - design @ found)
        spread = _spread(distance[::step])
        if attempt < 3:
            weights = np.minimum(1.5 * spread / np.maximum(distance, 1e-6), 1.0)
        else:
            weights = np.maximum(1.0 - (distance / (6.0 * spread)) ** 2, 0.0) ** 2
        root = np.sqrt(weights[good])
        found = np.linalg.lstsq(
            design[good] * root[:, np.newaxis], values[good] * root, rcond=None
        )[0]
    return found


def _spread(distance: np.ndarray) -> float:
    return max(1.4826 * float(np.nanmedian(distance)), 1e-3)
