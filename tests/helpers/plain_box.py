"""A plain box extraction, row by row, as the specification of the fast one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from glue_lrs import Aperture, Background, SlitImage
from glue_lrs.image.pixels import lost_pixels

VARIANCES = ("var_poisson", "var_rnoise", "var_flat")


def plain_box(
    image: SlitImage, aperture: Aperture, background: Background | None = None
) -> dict[str, NDArray[np.float64]]:
    """Columns of a box extraction without smoothing and aperture correction, for all rows."""
    weights = aperture.weights(image.wavelength).full(image.shape)
    weights = weights * np.isfinite(image.wavelength)
    lost = lost_pixels(image)
    regions = ranked = np.zeros(image.shape, dtype=bool)
    if background is not None:
        regions = background.weights(image.wavelength).full(image.shape) != 0
        # As in the pipeline, infinite values have a rank, though no weight.
        finite = replace(image, data=np.where(np.isinf(image.data), 0.0, image.data))
        ranked = regions & ~lost_pixels(finite)
        infinite = [np.isinf(getattr(image, name)) for name in VARIANCES]
        regions = regions & ~lost & ~np.any(infinite, axis=0)
    x = np.linspace(-1.0, 1.0, image.shape[1])
    names = ("NPIXELS", "FLUX", "BACKGROUND", *(f"FLUX_VAR_{n[4:].upper()}" for n in VARIANCES))
    columns = {name: np.full(image.shape[0], np.nan) for name in names}
    for row in np.flatnonzero(weights.any(axis=1)):
        data = image.data[row].astype(float)
        level, response = _background(background, data, regions[row], ranked[row], x, weights[row])
        used = np.where(lost[row] | ~np.isfinite(data - level), 0.0, weights[row])
        pixels = used.sum()
        columns["NPIXELS"][row] = pixels
        if pixels <= 1e-8:
            continue
        good = used > 0
        factor = image.pixel_area * 1e6
        columns["FLUX"][row] = (used[good] * (data - level)[good]).sum() * factor
        columns["BACKGROUND"][row] = (used[good] * level[good]).sum() / pixels
        for name in VARIANCES:
            variance = getattr(image, name)[row].astype(float)
            total = (used[good] ** 2 * variance[good]).sum()
            total += (response[regions[row]] ** 2 * variance[regions[row]]).sum()
            columns[f"FLUX_VAR_{name[4:].upper()}"][row] = total * factor**2
    return columns


def _background(
    background: Background | None,
    data: NDArray[np.float64],
    region: NDArray[np.bool_],
    ranked: NDArray[np.bool_],
    x: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Background of a row, and response of its weighted sum to each pixel of the regions."""
    level, response = np.zeros(x.size), np.zeros(x.size)
    if background is None:
        return level, response
    if background.bkg_fit == "median":
        level[:] = np.median(data[ranked]) if ranked.any() else np.nan
        response[region] = 1.2 * weights.sum() / max(region.sum(), 1)
        return level, response
    basis = np.vander(x, background.bkg_order + 1, increasing=True)
    inside = basis[region]
    normal = inside.T @ inside
    if np.linalg.cond(normal) >= 1e10:
        return level, response
    solve = np.linalg.solve(normal, inside.T)
    level = basis @ (solve @ data[region])
    response[region] = weights @ basis @ solve
    return level, response
