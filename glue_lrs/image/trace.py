"""Traces of a sky position along the rows, by the WCS."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from gwcs.wcstools import grid_from_bounding_box
from numpy.polynomial.polynomial import polyfit, polyval
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from glue_lrs.instrument import FIXED_SLIT

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.image.slit_image import SlitImage

__all__ = ["expected_trace", "sky_trace", "sky_trace_curve", "slit_centre_trace"]


def expected_trace(image: SlitImage) -> Array:
    """Return the column of the source in every row.

    Parameters
    ----------
    image : SlitImage
        An image with a WCS and the position of the source (``source_ra``, ``source_dec``).

    Returns
    -------
    ndarray
        Shape (row,), NaN outside the bounding box.
    """
    wcs = image.wcs
    assert wcs is not None  # there is a position
    _, (bottom, top) = image.bounding_box
    wavelengths = np.asarray(wcs(*grid_from_bounding_box(image.bounding_box))[2], dtype=float)
    # The sampling of the pipeline: as many wavelengths as rows, evenly spaced over their range.
    waves = np.linspace(np.nanmin(wavelengths), np.nanmax(wavelengths), int(top - bottom))
    ra, dec = np.full_like(waves, image.source_ra), np.full_like(waves, image.source_dec)
    column, row = (np.asarray(a, dtype=float) for a in wcs.backward_transform(ra, dec, waves)[:2])
    known = np.isfinite(column) & np.isfinite(row)
    row, first = np.unique(row[known], return_index=True)
    column = column[known][first]
    trace = np.full(image.shape[0], np.nan)
    inside = np.arange(
        max(math.ceil(bottom), 0), min(math.floor(top), image.shape[0] - 1) + 1, dtype=int
    )
    if row.size > 1:
        trace[inside] = make_interp_spline(row, column, k=1)(inside)
    return trace


def sky_trace(image: SlitImage, column: float, row: float) -> Array:
    """Return the trace of the sky position that a pixel sees.

    Parameters
    ----------
    image : SlitImage
        An image with a WCS.
    column, row : float
        The pixel.

    Returns
    -------
    ndarray
        Column in every row, shape (row,); NaN outside the bounding box, and everywhere if the pixel
        has no sky position.
    """
    assert image.wcs is not None
    ra, dec = (float(value) for value in image.wcs(column, row)[:2])
    if not (math.isfinite(ra) and math.isfinite(dec)):
        return np.full(image.shape[0], np.nan)
    return expected_trace(replace(image, source_ra=ra, source_dec=dec, wcs_source=image.wcs))


def slit_centre_trace(image: SlitImage) -> Array:
    """Return the trace of a source in the middle of the bounding box, as the pipeline places it.

    Parameters
    ----------
    image : SlitImage
        The image.

    Returns
    -------
    ndarray
        Column in every row, shape (row,); NaN outside the bounding box.
    """
    (_, right), (bottom, top) = image.bounding_box
    middle = (bottom + top) / 2.0
    column = (round(right) - 1) / 2.0
    if image.wcs is not None:
        columns = np.arange(round(right), dtype=float)
        waves = np.asarray(image.wcs(columns, np.full_like(columns, middle))[2], dtype=float)
        order = np.argsort(waves)
        order = order[np.isfinite(waves[order])]
        mean = float(np.nanmean(waves)) if order.size else np.nan
        # A NaN among them makes the pipeline look for the mean even if all others are equal.
        if order.size and not np.allclose(waves, mean):
            column = float(np.interp(mean, waves[order], columns[order]))
        if image.exp_type == FIXED_SLIT:
            return sky_trace(image, column, middle)
    trace = np.full(image.shape[0], np.nan)
    first = math.ceil(bottom)
    trace[max(first, 0) : first + int(top - bottom)] = column
    return trace


def sky_trace_curve(image: SlitImage, rows: NDArray[np.intp], reference: int) -> Array | None:
    """Return the trace of the middle of the slit less its column in a reference row.

    Rows at the ends where the WCS gives no column get those of a cubic polynomial through the
    others.

    Parameters
    ----------
    image : SlitImage
        The image.
    rows : ndarray of int
        Rows of the image.
    reference : int
        The reference row.

    Returns
    -------
    ndarray or None
        Columns, shape (row,); None if the WCS gives no column in half of the rows.
    """
    if image.wcs is None:
        return None
    if image.kind == "s2d":
        return np.zeros(rows.size)
    (left, right), (bottom, top) = image.bounding_box
    trace = sky_trace(image, (left + right) / 2.0, (bottom + top) / 2.0)
    known = np.flatnonzero(np.isfinite(trace))
    if known.size < max(3, rows.size // 2):
        return None
    terms = polyfit(known - reference, trace[known], 3)
    curve = np.where(
        np.isfinite(trace[rows]), trace[rows], polyval((rows - reference).astype(float), terms)
    )
    at_reference = trace[reference] if math.isfinite(trace[reference]) else terms[0]
    return curve - at_reference
