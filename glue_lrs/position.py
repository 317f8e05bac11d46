"""Where the header says the source is: from DITH_RA and DITH_DEC through the WCS.

The rules are the pipeline's (``location_from_wcs``) but for the trace on an image that is not
resampled: the pipeline stores it some rows from where it belongs and loses the last one; here each
row gets its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glue_lrs.image import FIXED_SLIT, SlitImage

__all__ = ["SourcePosition", "expected_position", "expected_trace"]


@dataclass(frozen=True)
class SourcePosition:
    """Where the source is expected.

    Parameters
    ----------
    row : int
        The reference row: the middle of the bounding box.
    wavelength : float
        Wavelength there in micron.
    column : float
        Column of the source there.
    """

    row: int
    wavelength: float
    column: float


def expected_position(image: SlitImage) -> SourcePosition | str:
    """Column at which the header and the WCS put the source.

    Parameters
    ----------
    image : SlitImage
        A fixed-slit image with a WCS, DITH_RA and DITH_DEC.

    Returns
    -------
    SourcePosition or str
        Or, where it is not known, why.
    """
    if image.exp_type != FIXED_SLIT:
        return f"a source position cannot be had for EXP_TYPE {image.exp_type}"
    if image.source_ra is None or image.source_dec is None:
        return "the header has no DITH_RA and DITH_DEC"
    if image.wcs is None:
        return "the file has no WCS"
    (left, right), (bottom, top) = image.bounding_box
    middle = (bottom + top) / 2.0
    columns = np.arange(round(right), dtype=float)
    wavelengths = np.asarray(image.wcs(columns, np.full_like(columns, middle))[2], dtype=float)
    finite = wavelengths[np.isfinite(wavelengths)]
    if finite.size == 0:
        return f"the WCS gives no wavelength in row {middle:g}"
    wavelength = float(finite.mean())
    backward = image.wcs.backward_transform
    column = float(backward(image.source_ra, image.source_dec, wavelength)[0])
    if not np.isfinite(column):
        return "the WCS does not reach DITH_RA, DITH_DEC"
    if not left <= column <= right:
        return (
            f"the WCS puts the source at column {column:.2f}, outside the bounding box "
            f"({left:g} to {right:g})"
        )
    return SourcePosition(int(np.round(middle)), wavelength, column)


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
