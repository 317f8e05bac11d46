"""Subsets: what glue has selected on an image -> regions, or on a spectrum -> ranges."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import inf
from operator import and_, or_, xor
from typing import TYPE_CHECKING, Any

import numpy as np
from glue.core import Data, Subset
from glue.core.subset import (
    AndState,
    InvertState,
    OrState,
    RangeSubsetState,
    RoiSubsetState,
    SubsetState,
    XorState,
)
from glue.core.subset_group import SubsetGroup
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from glue_lrs.errors import ApertureError
from glue_lrs.viewers.live.regions import Region

if TYPE_CHECKING:
    from glue_lrs.viewers.live.regions import Kind, Variable

__all__ = ["regions_of_subset", "state_of", "wavelengths_of"]

#: A drawn polygon becomes polynomials that leave its sides by no more pixels, if there are any up
#: to the highest order.
_TOLERANCE = 0.1

_ORDER = 3

#: Fraction of the rows that must be followed so, and how often the others are left out anew.
_MOST, _ROUNDS = 0.85, 5

#: A region encloses at least a pixel.
_LEAST = 1.0 - 1e-9

Ranges = tuple[tuple[float, float], ...]


def state_of(subset: Subset | SubsetGroup | SubsetState) -> SubsetState:
    """The state of a subset, of a group of them, or itself."""
    return subset if isinstance(subset, SubsetState) else subset.subset_state


def regions_of_subset(
    subset: Subset | SubsetGroup | SubsetState,
    data: Data,
    kind: Kind,
    wavelength: NDArray[np.float64],
    variable: Variable | None = None,
) -> tuple[Region, ...]:
    """Make regions of what is selected on an image.

    Parameters
    ----------
    subset : Subset, SubsetGroup or SubsetState
        A range of columns, a region of interest on the pixels, or anything that selects pixels.
    data : Data
        The image.
    kind : {"aperture", "background"}
        What the regions become.
    wavelength : ndarray
        Wavelength of each row in micron, NaN where there is none.
    variable : {"pixel", "wavelength"}, optional
        What their edges become polynomials of, if they are not straight; by default the wavelength,
        unless fewer coefficients are enough in the row number.

    Returns
    -------
    tuple of Region
        Through all rows: straight for a range or an upright rectangle, at its very edges;
        otherwise polynomials of the lowest order that follow its left and right side within 0.1
        pixel, at most cubic ones. Rows where a drawn shape is less than half as wide as in the
        middle, as at its points, do not count. Of ranges or shapes that glue's subset modes have
        put together there is a region for each part side by side; parts of less than a pixel
        beside others are left out.

    Raises
    ------
    ApertureError
        If nothing is selected on the image, or less than a pixel.
    """
    made: list[Region] = []
    error: ApertureError | None = None
    for left, right in _parts(state_of(subset), data):
        try:
            region = _region_between(left, right, kind, wavelength, variable)
        except ApertureError as found:
            error = error or found
            continue
        made.append(region)
        if variable is None and not region.straight:
            variable = region.variable  # one for all
    if made:
        return tuple(made)
    raise error or ApertureError(
        "the subset selects no pixel of the image, expected a range of columns"
    )


def _parts(state: SubsetState, data: Data) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Left and right edge in each row, NaN where there is none, of all parts side by side."""
    rows = np.arange(data.shape[-2], dtype=float)
    row_axis, column_axis = data.pixel_component_ids[-2:]
    ranges = _ranges(state, column_axis)
    if ranges is not None:
        if not isinstance(state, RangeSubsetState):
            ranges = _beside(ranges, data.shape[-1])
        return [(np.full(rows.size, low), np.full(rows.size, high)) for low, high in ranges]
    if isinstance(state, RoiSubsetState) and {state.xatt, state.yatt} == {column_axis, row_axis}:
        x, y = (np.asarray(one, dtype=float) for one in state.roi.to_polygon())
        if state.xatt is row_axis:
            x, y = y, x
        return [_sides(x, y, rows)]
    return _outlines(state, data)


def _beside(ranges: Ranges, columns: int) -> Ranges:
    """Ranges as far as they are on the image; those with less than a pixel between them as one."""
    made: list[tuple[float, float]] = []
    for low, high in ranges:
        low, high = max(low, -0.5), min(high, columns - 0.5)
        if low < high:
            if made and low - made[-1][1] < _LEAST:
                low = made.pop()[0]
            made.append((low, high))
    return tuple(made)


def _region_between(
    left: NDArray[np.float64],
    right: NDArray[np.float64],
    kind: Kind,
    wavelength: NDArray[np.float64],
    variable: Variable | None,
) -> Region:
    """The region between two edges that are known in some of the rows."""
    rows = np.arange(left.size, dtype=float)
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
    if width.min() < _LEAST:
        raise ApertureError(
            f"the subset is {max(width.min(), 0.0):.2f} pixels wide, expected at least 1"
        )
    return region


def _ranges(state: SubsetState, att: Any) -> Ranges | None:
    """The values that a subset selects, if it is made of ranges of one component alone."""
    if isinstance(state, RangeSubsetState) and state.att is att:
        return ((float(min(state.lo, state.hi)), float(max(state.lo, state.hi))),)
    if isinstance(state, InvertState):
        some = _ranges(state.state1, att)
        return None if some is None else _combined(some, (), lambda one, other: not one)
    how = {OrState: or_, AndState: and_, XorState: xor}.get(type(state))
    if how is None:
        return None
    both = _ranges(state.state1, att), _ranges(state.state2, att)
    if both[0] is None or both[1] is None:
        return None
    return _combined(both[0], both[1], how)


def _combined(one: Ranges, other: Ranges, how: Callable[[bool, bool], bool]) -> Ranges:
    """Where a condition holds on being within the one and within the other ranges."""
    ends = sorted({-inf, inf, *(end for part in (*one, *other) for end in part)})
    made: list[tuple[float, float]] = []
    for low, high in pairwise(ends):
        inner = [any(a <= low and high <= b for a, b in some) for some in (one, other)]
        if how(*inner):
            if made and made[-1][1] == low:
                low = made.pop()[0]
            made.append((low, high))
    return tuple(made)


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


def _outlines(
    state: SubsetState, data: Data
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Outer edges of the selected pixels in each row, NaN where there is none, part by part.

    There are as many parts as most rows have; the other rows do not count.
    """
    try:
        mask: NDArray[Any] = np.asarray(state.to_mask(data))
    except Exception:  # see `wavelengths_of`
        raise ApertureError(
            f"the subset cannot be seen on {data.label}, expected one drawn on the image"
        ) from None
    if mask.ndim == 3:
        mask = np.asarray(mask.any(axis=0))
    if mask.size and (mask.all(axis=1) == mask.any(axis=1)).all() and mask.any():
        raise ApertureError("the subset selects whole rows, expected a range of columns")
    steps = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    number = (steps > 0).sum(axis=1)
    if not number.any():
        return []
    most = int(np.bincount(number[number > 0]).argmax())
    made = np.full((2, most, mask.shape[0]), np.nan)
    for sign, edges in ((1, made[0]), (-1, made[1])):
        rows, columns = np.nonzero(steps[number == most] == sign)
        edges[:, number == most] = columns.reshape(-1, most).T - 0.5
        assert rows.size == edges.shape[0] * np.count_nonzero(number == most)
    return list(zip(made[0], made[1], strict=True))


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


def wavelengths_of(subset: Any, data: Data) -> Ranges:
    """Ranges of wavelengths that a subset selects of a spectrum, ascending.

    Parameters
    ----------
    subset : Subset or SubsetState
        Anything that selects elements of the spectrum.
    data : Data
        A spectrum with the component ``wavelength``, ascending.

    Returns
    -------
    tuple of (float, float)
        The range itself, if it is one; otherwise first and last wavelength of each run of selected
        elements. Nothing where no element is selected.
    """
    state = state_of(subset)
    if type(state) is SubsetState:  # nothing yet; glue would keep its mask, and the data, forever
        return ()
    component = data.find_component_id("wavelength")
    if isinstance(state, RangeSubsetState) and state.att is component:
        return ((float(min(state.lo, state.hi)), float(max(state.lo, state.hi))),)
    try:
        mask = np.asarray(state.to_mask(data), dtype=bool)
    except Exception:  # a state of anyone's: an error here would end glue's broadcast to others
        return ()
    wave = np.asarray(data[component])
    known = np.isfinite(wave)
    wave, mask = wave[known], mask[known]
    ends = np.flatnonzero(np.diff(np.pad(mask.astype(np.int8), 1)))
    return tuple(
        (float(wave[first]), float(wave[stop - 1]))
        for first, stop in zip(ends[::2], ends[1::2], strict=True)
    )
