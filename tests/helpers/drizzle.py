"""Plain twin of drizzle along the slit: each column overlaps with two of the exposure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from glue_lrs.image.slit_image import SlitImage

Bad = tuple[tuple[int, int], ...]


def drizzled(
    image: SlitImage,
    bad: Bad | tuple[Bad, ...] = (),
    weights: NDArray[np.float64] | None = None,
    phase: float = 0.0,
    weight_type: str = "ivm",
) -> SlitImage:
    """Take an image as an exposure with bad pixels, and resample it along the slit.

    The share of the next column rises from `phase` by 0.6 over the rows, as with the tilt of the
    trace. The first three and the last three columns are outside the slit. Several lists of bad
    pixels are those of several exposures. `weights` are inverse variances of the read noise.
    """
    rows, columns = image.shape
    weights = 1.0 / np.asarray(image.var_rnoise) if weights is None else weights
    exposures = bad if bad and isinstance(bad[0][0], tuple) else (bad,)
    share = (phase + np.linspace(0.0, 0.6, rows)[:, np.newaxis]) % 1.0
    slit = np.zeros((rows, columns + 1))
    slit[1:-1, 3:-3] = 1.0
    used = weights if weight_type == "ivm" else np.full_like(weights, 100.0)
    used = np.pad(used, ((0, 0), (0, 1)), mode="edge")

    def resampled(values: NDArray[np.float64], good: NDArray[np.float64]) -> NDArray[np.float64]:
        values = values * good * used
        return (1.0 - share) * values[:, :-1] + share * values[:, 1:]

    data = np.pad(np.asarray(image.data, float), ((0, 0), (0, 1)), mode="edge")
    sigma = np.pad(weights**-0.5, ((0, 0), (0, 1)), mode="edge")
    total, flux, error = np.zeros(image.shape), np.zeros(image.shape), np.zeros(image.shape)
    for pixels in exposures:
        good = slit.copy()
        for row, column in pixels:
            good[row, column] = 0.0
        total += resampled(np.ones_like(good), good)
        flux += resampled(data, good)
        error += resampled(sigma, good)
    with np.errstate(invalid="ignore", divide="ignore"):
        value, variance = flux / total, (error / total) ** 2 / len(exposures)
    header = image.header.copy()
    header["RESWHT"] = weight_type
    return replace(
        image,
        data=value.astype(np.float32),
        var_rnoise=variance.astype(np.float32),
        drizzle_weight=total.astype(np.float32),
        header=header,
    )
