"""Subsets: what glue has selected on an image -> a region."""

from __future__ import annotations

from typing import Any

import numpy as np
from glue.core import Data, Subset
from glue.core.exceptions import IncompatibleAttribute
from glue.core.subset import RangeSubsetState, RoiSubsetState, SubsetState
from glue.core.subset_group import SubsetGroup
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from glue_lrs.errors import ApertureError
from glue_lrs.viewers.edges import Kind, Region, Variable

__all__ = ["region_of_subset", "state_of"]

#: A drawn polygon becomes polynomials that leave its sides by no more pixels, if there are any up
#: to the highest order.
_TOLERANCE = 0.1
_ORDER = 3
#: Fraction of the rows that must be followed so, and how often the others are left out anew.
_MOST, _ROUNDS = 0.85, 5


def state_of(subset: Subset | SubsetGroup | SubsetState) -> SubsetState:
    """The state of a subset, of a group of them, or itself."""
    return subset if isinstance(subset, SubsetState) else subset.subset_state


def region_of_subset(
    subset: Subset | SubsetGroup | SubsetState,
    data: Data,
    kind: Kind,
    wavelength: NDArray[np.float64],
    variable: Variable | None = None,
) -> Region:
    """Make a region of what is selected on an image.

    Parameters
    ----------
    subset : Subset, SubsetGroup or SubsetState
        A range of columns, a region of interest on the pixels, or anything that selects pixels.
    data : Data
        The image.
    kind : {"aperture", "background"}
        What the region becomes.
    wavelength : ndarray
        Wavelength of each row in micron, NaN where there is none.
    variable : {"pixel", "wavelength"}, optional
        What its edges become polynomials of, if they are not straight; by default the wavelength,
        unless fewer coefficients are enough in the row number.

    Returns
    -------
    Region
        Through all rows: straight for a range or an upright rectangle, at its very edges;
        otherwise polynomials of the lowest order that follow its left and right side within 0.1
        pixel, at most cubic ones. Rows where a drawn shape is less than half as wide as in the
        middle, as at its points, do not count.

    Raises
    ------
    ApertureError
        If nothing is selected on the image, or less than a pixel.
    """
    state = state_of(subset)
    rows = np.arange(data.shape[-2], dtype=float)
    row_axis, column_axis = data.pixel_component_ids[-2:]
    if isinstance(state, RangeSubsetState) and state.att is column_axis:
        left = np.full(rows.size, float(min(state.lo, state.hi)))
        right = np.full(rows.size, float(max(state.lo, state.hi)))
    elif isinstance(state, RoiSubsetState) and {state.xatt, state.yatt} == {column_axis, row_axis}:
        x, y = (np.asarray(one, dtype=float) for one in state.roi.to_polygon())
        if state.xatt is row_axis:
            x, y = y, x
        left, right = _sides(x, y, rows)
    else:
        left, right = _outline(state, data)
    inside = np.isfinite(left) & np.isfinite(right)
    if not inside.any():
        raise ApertureError("the subset selects no pixel of the image, expected a range of columns")
    known = np.asarray(inside & np.isfinite(wavelength))
    if not known.any():
        raise ApertureError("the subset selects rows without a wavelength only")
    both = left[known], right[known]
    wide = both[1] - both[0]
    enough = wide >= max(1.0, float(np.median(wide)) / 2.0)  # a drawn shape ends in a point
    if not enough.any():
        raise ApertureError(f"the subset is {wide.max():.2f} pixels wide, expected at least 1")
    known[known] = enough
    both = both[0][enough], both[1][enough]
    if all(np.ptp(side) < 1e-9 for side in both):
        region = Region(kind, (float(both[0][0]),), (float(both[1][0]),), variable or "wavelength")
    else:
        tried: list[Variable] = ["wavelength", "pixel"] if variable is None else [variable]
        made = []
        for one in tried:
            where = (wavelength if one == "wavelength" else rows)[known]
            lower, upper = (_polynomial(where, side) for side in both)
            made.append(Region(kind, lower, upper, one))
        region = min(made, key=lambda one: len(one.lower) + len(one.upper))
    width = np.subtract(*region.at(rows[known], wavelength[known])[::-1])
    if width.min() < 1.0 - 1e-9:
        raise ApertureError(
            f"the subset is {max(width.min(), 0.0):.2f} pixels wide, expected at least 1"
        )
    return region


def _sides(
    x: NDArray[np.float64], y: NDArray[np.float64], rows: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Leftmost and rightmost point of a polygon in each row; NaN where it has none."""
    left, right = np.full(rows.size, np.inf), np.full(rows.size, -np.inf)
    for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True):
        if y0 == y1:  # its ends belong to its neighbours
            continue
        crossed = (rows >= min(y0, y1)) & (rows <= max(y0, y1))
        at = x0 + (rows[crossed] - y0) / (y1 - y0) * (x1 - x0)
        left[crossed] = np.minimum(left[crossed], at)
        right[crossed] = np.maximum(right[crossed], at)
    none = left > right
    left[none], right[none] = np.nan, np.nan
    return left, right


def _outline(state: SubsetState, data: Data) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Outer edges of the selected pixels in each row; NaN where there is none."""
    try:
        mask: NDArray[Any] = np.asarray(state.to_mask(data))
    except IncompatibleAttribute:
        raise ApertureError(
            f"the subset cannot be seen on {data.label}, expected one drawn on the image"
        ) from None
    if mask.ndim == 3:
        mask = np.asarray(mask.any(axis=0))
    if mask.size and (mask.all(axis=1) == mask.any(axis=1)).all() and mask.any():
        raise ApertureError("the subset selects whole rows, expected a range of columns")
    some = mask.any(axis=1)
    left = np.where(some, mask.argmax(axis=1) - 0.5, np.nan)
    right = np.where(some, mask.shape[1] - mask[:, ::-1].argmax(axis=1) - 0.5, np.nan)
    return left, right


def _polynomial(where: NDArray[np.float64], side: NDArray[np.float64]) -> tuple[float, ...]:
    """Coefficients of the lowest order that follows a side; a few rows may be those of an end."""
    highest = min(_ORDER, np.unique(where).size - 1)
    for order in range(highest + 1):
        near = np.ones(where.shape, dtype=bool)
        for _ in range(_ROUNDS):
            found = Polynomial.fit(where[near], side[near], order)
            off = np.abs(found(where) - side)
            near = np.asarray(off <= 3 * max(_TOLERANCE, float(np.median(off))))
        if np.mean(off <= _TOLERANCE) >= _MOST:
            break
    return tuple(float(value) for value in np.atleast_1d(found.convert().coef))


def wavelengths_of(subset: Any, data: Data) -> tuple[float, float] | None:
    """Range of wavelengths that a subset selects of a spectrum; None where it selects nothing.

    Parameters
    ----------
    subset : Subset or SubsetState
        Anything that selects elements of the spectrum.
    data : Data
        A spectrum with the component ``wavelength``.
    """
    state = state_of(subset)
    if type(state) is SubsetState:  # nothing yet; glue would keep its mask, and the data, forever
        return None
    component = data.find_component_id("wavelength")
    if isinstance(state, RangeSubsetState) and state.att is component:
        return float(min(state.lo, state.hi)), float(max(state.lo, state.hi))
    try:
        mask = np.asarray(state.to_mask(data), dtype=bool)
    except IncompatibleAttribute:
        return None
    chosen = np.asarray(data[component])[mask]
    chosen = chosen[np.isfinite(chosen)]
    return (float(chosen.min()), float(chosen.max())) if chosen.size else None
