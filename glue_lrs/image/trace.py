"""Traces of a position on the sky along the rows, by the WCS."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial.polynomial import polyfit, polyval
from numpy.typing import NDArray

from glue_lrs.instrument import FIXED_SLIT

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.image.slit_image import SlitImage

__all__ = ["expected_trace", "slit_centre_trace", "wcs_bend"]


def slit_centre_trace(image: SlitImage) -> NDArray[np.float64]:
    """The trace of a source in the middle of the box, NaN outside of it."""
    (_, right), (bottom, top) = image.bounding_box
    middle = (bottom + top) / 2.0
    column = (round(right) - 1) / 2.0
    if image.wcs is not None:
        columns = np.arange(round(right), dtype=float)
        waves = np.asarray(image.wcs(columns, np.full_like(columns, middle))[2], dtype=float)
        order = np.argsort(waves)
        order = order[np.isfinite(waves[order])]
        mean = float(np.nanmean(waves)) if order.size else np.nan
        # A NaN among them makes the pipeline look for the mean even where all are alike.
        if order.size and not np.allclose(waves, mean):
            column = float(np.interp(mean, waves[order], columns[order]))
        if image.exp_type == FIXED_SLIT:
            ra, dec = (float(value) for value in image.wcs(column, middle)[:2])
            moved = replace(image, source_ra=ra, source_dec=dec, wcs_source=image.wcs)
            return expected_trace(moved)
    trace = np.full(image.shape[0], np.nan)
    first = math.ceil(bottom)
    trace[max(first, 0) : first + int(top - bottom)] = column
    return trace


def expected_trace(image: SlitImage) -> NDArray[np.float64]:
    """Column of the source in every row.

    Parameters
    ----------
    image : SlitImage
        An image on which `expected_position` has found the source.

    Returns
    -------
    ndarray
        Shape (row,), NaN outside the bounding box.
    """
    from gwcs.wcstools import grid_from_bounding_box
    from scipy.interpolate import make_interp_spline

    wcs = image.wcs
    assert wcs is not None  # there is a position
    _, (bottom, top) = image.bounding_box
    wavelengths = np.asarray(wcs(*grid_from_bounding_box(image.bounding_box))[2], dtype=float)
    # The pipeline's sampling: as many wavelengths as rows, evenly spaced over all that there are.
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


def wcs_bend(image: SlitImage, rows: NDArray[np.intp], reference: int) -> Array | None:
    """How a position on the sky moves over the columns from row to row, 0 at the reference row."""
    if image.wcs is None:
        return None
    if image.kind == "s2d":
        return np.zeros(rows.size)
    (left, right), (bottom, top) = image.bounding_box
    ra, dec = (float(v) for v in image.wcs((left + right) / 2.0, (bottom + top) / 2.0)[:2])
    if not (math.isfinite(ra) and math.isfinite(dec)):
        return None
    middle = replace(image, source_ra=ra, source_dec=dec, wcs_source=image.wcs)
    trace = expected_trace(middle)
    known = np.flatnonzero(np.isfinite(trace))
    if known.size < max(3, rows.size // 2):
        return None
    # A few rows at the ends may be missing: the curve goes on as it was.
    terms = polyfit(known - reference, trace[known], 3)
    whole = np.where(
        np.isfinite(trace[rows]), trace[rows], polyval((rows - reference).astype(float), terms)
    )
    at = trace[reference] if math.isfinite(trace[reference]) else terms[0]
    return whole - at
