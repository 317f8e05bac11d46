"""Conversion of subsets in glue: on an image to regions, in a spectrum to wavelength ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from math import inf
from operator import and_, or_, xor
from typing import TYPE_CHECKING

import numpy as np
from glue.core import Data, Subset
from glue.core import subset as states
from glue.core.component_id import ComponentID
from glue.core.subset_group import SubsetGroup
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from glue_lrs.errors import ApertureError
from glue_lrs.viewers.live.regions import Region

if TYPE_CHECKING:
    from glue_lrs.viewers.live.regions import Kind, Variable

#: The side of a drawn polygon is represented by a polynomial of at most `_MAX_ORDER`, which
#: deviates from it by at most `_TOLERANCE` in pixels.
_TOLERANCE, _MAX_ORDER = 0.1, 3

#: Fraction of the rows that must agree within the tolerance, and number of iterations in which
#: outliers are rejected.
_MIN_FRACTION, _ITERATIONS = 0.85, 5

#: Minimum width of a region in pixels, reduced by the size of rounding errors.
_MIN_WIDTH = 1.0 - 1e-9

Ranges = tuple[tuple[float, float], ...]

#: Positions of the left and the right side of a selection in each row; NaN where there are none.
_Sides = tuple[NDArray[np.float64], NDArray[np.float64]]


def state_of(subset: Subset | SubsetGroup | states.SubsetState) -> states.SubsetState:
    """Return the state (the selection) of a subset or a subset group; return a state unchanged."""
    return subset if isinstance(subset, states.SubsetState) else subset.subset_state


def regions_of_subset(
    subset: Subset | SubsetGroup | states.SubsetState,
    data: Data,
    kind: Kind,
    wavelength: NDArray[np.float64],
    variable: Variable | None = None,
) -> tuple[Region, ...]:
    """Convert a selection on an image to regions.

    Parameters
    ----------
    subset : Subset, SubsetGroup or SubsetState
        Range of columns, region of interest in pixels, or any other selection of pixels.
    data : Data
        Dataset of the image.
    kind : {"aperture", "background"}
        Whether the regions become apertures or background regions.
    wavelength : ndarray
        Wavelength of each row in micron; NaN where there is none.
    variable : {"pixel", "wavelength"}, optional
        Variable of the edges, if they are not straight. By default it is the wavelength, unless
        polynomials in the row number need fewer coefficients.

    Returns
    -------
    tuple of Region
        Regions through all rows. A range or an upright rectangle becomes a straight region with the
        same edges. Other shapes are represented by polynomials of the lowest order, at most cubic,
        that agree with the left and the right side within 0.1 pixel. Rows in which the shape is
        narrower than half its median width are excluded from the fit. A combination of ranges or
        shapes becomes one region for each part. Parts narrower than a pixel are omitted if other
        parts are wider.

    Raises
    ------
    ApertureError
        If nothing is selected on the image, or less than a pixel along the slit.
    """
    regions: list[Region] = []
    first_error: ApertureError | None = None
    for left, right in _parts(state_of(subset), data):
        try:
            region = _region_between(left, right, kind, wavelength, variable)
        except ApertureError as error:
            first_error = first_error or error
            continue
        regions.append(region)
        if variable is None and not region.straight:
            variable = region.variable  # all regions must have the same variable
    if regions:
        return tuple(regions)
    raise first_error or ApertureError(
        "the subset selects no pixel of the image, expected a range of columns"
    )


def _parts(state: states.SubsetState, data: Data) -> list[_Sides]:
    """Return the left and right sides of each part of a selection, ordered from left to right."""
    rows = np.arange(data.shape[-2], dtype=float)
    row_axis, column_axis = data.pixel_component_ids[-2:]
    ranges = _ranges(state, column_axis)
    if ranges is not None:
        if not isinstance(state, states.RangeSubsetState):
            ranges = _on_image(ranges, data.shape[-1])
        return [(np.full(rows.size, low), np.full(rows.size, high)) for low, high in ranges]
    is_roi = isinstance(state, states.RoiSubsetState)
    if is_roi and {state.xatt, state.yatt} == {column_axis, row_axis}:
        x, y = (np.asarray(vertices, dtype=float) for vertices in state.roi.to_polygon())
        if state.xatt is row_axis:
            x, y = y, x
        return [_polygon_sides(x, y, rows)]
    return _mask_sides(state, data)


def _on_image(ranges: Ranges, columns: int) -> Ranges:
    """Clip ranges to the image, and join ranges with less than a pixel between them."""
    clipped = [(max(low, -0.5), min(high, columns - 0.5)) for low, high in ranges]
    return _joined([(low, high) for low, high in clipped if low < high], _MIN_WIDTH)


def _joined(ranges: Iterable[tuple[float, float]], gap: float = 0.0) -> Ranges:
    """Join ascending ranges if the gap between them does not exceed `gap`."""
    joined: list[tuple[float, float]] = []
    for low, high in ranges:
        if joined and low - joined[-1][1] <= gap:
            low = joined.pop()[0]
        joined.append((low, high))
    return tuple(joined)


def _region_between(
    left: NDArray[np.float64],
    right: NDArray[np.float64],
    kind: Kind,
    wavelength: NDArray[np.float64],
    variable: Variable | None,
) -> Region:
    """Return the region between two sides, which may be known in some of the rows only."""
    rows = np.arange(left.size, dtype=float)
    inside = np.isfinite(left) & np.isfinite(right)
    if not inside.any():
        raise ApertureError("the subset selects no pixel of the image, expected a range of columns")
    used = np.asarray(inside & np.isfinite(wavelength))
    if not used.any():
        raise ApertureError("the subset selects rows without a wavelength only")
    width = right[used] - left[used]
    wide = width >= max(1.0, float(np.median(width)) / 2.0)  # exclude the tips of a drawn shape
    if not wide.any():
        raise ApertureError(f"the subset is {width.max():.2f} pixels wide, expected at least 1")
    used[used] = wide
    sides = left[used], right[used]
    if all(np.ptp(side) < 1e-9 for side in sides):
        left_edge, right_edge = (float(side[0]) for side in sides)
        region = Region(kind, (left_edge,), (right_edge,), variable or "wavelength")
    else:
        variables: list[Variable] = ["wavelength", "pixel"] if variable is None else [variable]
        candidates = []
        for one in variables:
            x = (wavelength if one == "wavelength" else rows)[used]
            lower, upper = (_polynomial(x, side) for side in sides)
            candidates.append(Region(kind, lower, upper, one))
        region = min(candidates, key=lambda one: len(one.lower) + len(one.upper))
    width = np.subtract(*region.at(rows[used], wavelength[used])[::-1])
    if width.min() < _MIN_WIDTH:
        raise ApertureError(
            f"the subset is {max(width.min(), 0.0):.2f} pixels wide, expected at least 1"
        )
    return region


def _ranges(state: states.SubsetState, att: ComponentID) -> Ranges | None:
    """Return the ranges that a subset selects; None unless it consists of ranges of `att` only."""
    if isinstance(state, states.RangeSubsetState) and state.att is att:
        return ((float(min(state.lo, state.hi)), float(max(state.lo, state.hi))),)
    if isinstance(state, states.InvertState):
        ranges = _ranges(state.state1, att)
        return None if ranges is None else _combined(ranges, (), lambda one, other: not one)
    condition = {states.OrState: or_, states.AndState: and_, states.XorState: xor}.get(type(state))
    if condition is None:
        return None
    first, second = _ranges(state.state1, att), _ranges(state.state2, att)
    if first is None or second is None:
        return None
    return _combined(first, second, condition)


def _combined(first: Ranges, second: Ranges, condition: Callable[[bool, bool], bool]) -> Ranges:
    """Return the ranges of values that satisfy a condition.

    The arguments of the condition are whether a value is in the first and in the second ranges.
    """
    ends = sorted({-inf, inf, *(end for one in (*first, *second) for end in one)})
    return _joined(
        (low, high)
        for low, high in pairwise(ends)
        if condition(*(any(a <= low and high <= b for a, b in one) for one in (first, second)))
    )


def _polygon_sides(
    x: NDArray[np.float64], y: NDArray[np.float64], rows: NDArray[np.float64]
) -> _Sides:
    """Return the leftmost and the rightmost point of a polygon in each row; NaN where none."""
    left, right = np.full(rows.size, np.inf), np.full(rows.size, -np.inf)
    for x0, y0, x1, y1 in zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True):
        if y0 == y1:  # horizontal: the adjacent sides contribute its end points
            continue
        crossed = (rows >= min(y0, y1)) & (rows <= max(y0, y1))
        position = x0 + (rows[crossed] - y0) / (y1 - y0) * (x1 - x0)
        left[crossed] = np.minimum(left[crossed], position)
        right[crossed] = np.maximum(right[crossed], position)
    outside = left > right
    left[outside], right[outside] = np.nan, np.nan
    return left, right


def _mask_sides(state: states.SubsetState, data: Data) -> list[_Sides]:
    """Return the outer edges of each part of a selection of pixels, for each row.

    The number of parts is the most frequent number of contiguous runs of pixels per row. Rows with
    another number of runs are not used.
    """
    try:
        mask: NDArray[np.bool_] = np.asarray(state.to_mask(data))
    except Exception:  # errors from any package; see `wavelengths_of`
        raise ApertureError(
            f"the subset cannot be seen on {data.label}, expected one drawn on the image"
        ) from None
    if mask.ndim == 3:
        mask = np.asarray(mask.any(axis=0))
    if mask.size and (mask.all(axis=1) == mask.any(axis=1)).all() and mask.any():
        raise ApertureError("the subset selects whole rows, expected a range of columns")
    steps = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    n_runs = (steps > 0).sum(axis=1)
    if not n_runs.any():
        return []
    n_parts = int(np.bincount(n_runs[n_runs > 0]).argmax())
    used = n_runs == n_parts
    left, right = np.full((2, n_parts, mask.shape[0]), np.nan)
    for sign, edges in ((1, left), (-1, right)):
        _, columns = np.nonzero(steps[used] == sign)
        edges[:, used] = columns.reshape(-1, n_parts).T - 0.5
    return list(zip(left, right, strict=True))


def _polynomial(x: NDArray[np.float64], side: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the polynomial of lowest order that agrees with a side of a selection.

    Outliers, such as the rows at the ends of a drawn shape, are rejected.
    """
    max_order = min(_MAX_ORDER, np.unique(x).size - 1)
    for order in range(max_order + 1):
        used = np.ones(x.shape, dtype=bool)
        for _ in range(_ITERATIONS):
            polynomial = Polynomial.fit(x[used], side[used], order)
            deviation = np.abs(polynomial(x) - side)
            used = np.asarray(deviation <= 3 * max(_TOLERANCE, float(np.median(deviation))))
        if np.mean(deviation <= _TOLERANCE) >= _MIN_FRACTION:
            break
    return tuple(float(value) for value in np.atleast_1d(polynomial.convert().coef))


def wavelengths_of(subset: Subset | SubsetGroup | states.SubsetState, data: Data) -> Ranges:
    """Return the ranges of wavelength that a subset selects in a spectrum, ascending.

    Parameters
    ----------
    subset : Subset, SubsetGroup or SubsetState
        Any selection of wavelength bins of the spectrum.
    data : Data
        Spectrum with the component ``wavelength``, in ascending order.

    Returns
    -------
    tuple of (float, float)
        The range itself, if the subset is a range of wavelengths. Otherwise, the first and the last
        wavelength of each run of selected bins. Empty if nothing is selected.
    """
    state = state_of(subset)
    if type(state) is states.SubsetState:  # empty; computing its mask would keep the data in memory
        return ()
    component = data.find_component_id("wavelength")
    if isinstance(state, states.RangeSubsetState) and state.att is component:
        return _ranges(state, component) or ()
    try:
        mask = np.asarray(state.to_mask(data), dtype=bool)
    except Exception:  # any error here would keep glue from informing other listeners
        return ()
    wavelength = np.asarray(data[component])
    known = np.isfinite(wavelength)
    wavelength, mask = wavelength[known], mask[known]
    ends = np.flatnonzero(np.diff(np.pad(mask.astype(np.int8), 1)))
    return tuple(
        (float(wavelength[first]), float(wavelength[stop - 1]))
        for first, stop in zip(ends[::2], ends[1::2], strict=True)
    )
