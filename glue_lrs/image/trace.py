"""Traces computed with the WCS: the column of a sky position in each row."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from gwcs.wcstools import grid_from_bounding_box
from numpy.polynomial.polynomial import polyfit, polyval
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from glue_lrs._utils.typing import Array
from glue_lrs.instrument import FIXED_SLIT

if TYPE_CHECKING:
    from glue_lrs.image.slit_image import SlitImage


def expected_trace(image: SlitImage) -> Array:
    """Return the expected column of the source in every row.

    Parameters
    ----------
    image : SlitImage
        Image with a WCS and the position of the source (``source_ra``, ``source_dec``).

    Returns
    -------
    ndarray
        Column in every row, shape (row,), NaN outside the bounding box of the WCS.
    """
    wcs = image.wcs
    assert wcs is not None  # callers have checked this
    _, (bottom, top) = image.bounding_box
    wavelengths = np.asarray(wcs(*grid_from_bounding_box(image.bounding_box))[2], dtype=float)
    # As in the pipeline, the trace is computed at evenly spaced wavelengths, whose number is the
    # number of rows in the bounding box.
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
    """Return the trace of the sky position that is at a given pixel.

    Parameters
    ----------
    image : SlitImage
        Image with a WCS.
    column, row : float
        Pixel coordinates of a point on the trace.

    Returns
    -------
    ndarray
        Column in every row, shape (row,), NaN outside the bounding box of the WCS. All values are
        NaN if the pixel has no sky position.
    """
    assert image.wcs is not None
    ra, dec = (float(value) for value in image.wcs(column, row)[:2])
    if not (math.isfinite(ra) and math.isfinite(dec)):
        return np.full(image.shape[0], np.nan)
    return expected_trace(replace(image, source_ra=ra, source_dec=dec, wcs_source=image.wcs))


def slit_centre_trace(image: SlitImage) -> Array:
    """Return the trace that the pipeline uses for a source in the middle of the bounding box.

    Parameters
    ----------
    image : SlitImage
        Image with or without a WCS.

    Returns
    -------
    ndarray
        Column in every row, shape (row,), NaN outside the bounding box.
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
        # The pipeline uses the column at the mean wavelength of the row, unless all wavelengths are
        # equal. If a wavelength is NaN, `allclose` is False, as in the pipeline.
        if order.size and not np.allclose(waves, mean):
            column = float(np.interp(mean, waves[order], columns[order]))
        if image.exp_type == FIXED_SLIT:
            return sky_trace(image, column, middle)
    trace = np.full(image.shape[0], np.nan)
    first = math.ceil(bottom)
    trace[max(first, 0) : first + int(top - bottom)] = column
    return trace


def sky_trace_curve(image: SlitImage, rows: NDArray[np.intp], reference: int) -> Array | None:
    """Return the trace at the middle of the slit, relative to its column in a reference row.

    In rows for which the WCS gives no column, a cubic polynomial fitted to the other rows is used.

    Parameters
    ----------
    image : SlitImage
        Image with or without a WCS.
    rows : ndarray of int
        Numbers of the rows in which the trace is computed.
    reference : int
        Number of the reference row, in which the result is 0.

    Returns
    -------
    ndarray or None
        Columns relative to that in the reference row, shape (row,). None if the image has no WCS,
        or the WCS gives columns in less than half of the rows.
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
