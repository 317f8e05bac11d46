"""Edges of regions as polynomials in row or wavelength, and validation of the coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from astropy import units as u
from numpy.polynomial.polynomial import polyval
from numpy.typing import NDArray

from glue_lrs._utils.validation import check_pixels, without_unit
from glue_lrs.errors import ApertureError, ReferenceFileError, quoted

#: Polynomial coefficients of each edge, constant term first. The edges are ordered lower, upper,
#: lower, upper, ...
Coefficients = tuple[tuple[float, ...], ...]

#: Largest number of regions, and largest number of coefficients of an edge. The 100th power of the
#: largest row number, 1023, is 1e301. Powers above the 102nd exceed the largest float.
_MOST_REGIONS, MOST_COEFFICIENTS = 1000, 101

#: Largest difference (columns) by which a lower limit may exceed the upper limit, to allow for
#: rounding errors.
ROUNDING = 1e-9


class Limits(NamedTuple):
    """Inclusive limits of one region, as scalars or arrays that broadcast to (row, column)."""

    lower: NDArray[Any]
    upper: NDArray[Any]


class BoxedLimits(NamedTuple):
    """Inclusive limits of one region as arrays for a part of an image.

    The part, given by `rows` and `columns`, contains all pixels with a wavelength. It is small in a
    full frame, so that the limits are computed faster than for the full image.
    """

    lower: NDArray[Any]
    upper: NDArray[Any]
    rows: slice
    columns: slice

    def full(self, shape: tuple[int, ...]) -> Limits:
        """Return the limits for the full image of the given shape, NaN outside the part."""
        edges = np.full((2, *shape), np.nan)
        edges[:, self.rows, self.columns] = self.lower, self.upper
        return Limits(*edges)


def polynomial_regions(
    key: str,
    coefficients: Coefficients,
    variable: str,
    wavelength: NDArray[Any],
    offset: float = 0.0,
) -> list[Limits]:
    """Return the inclusive limits of the regions between pairs of polynomial edges.

    Parameters
    ----------
    key : str
        Name of the coefficients in messages.
    coefficients : tuple of tuple of float
        Polynomial coefficients of each edge, constant term first. The edges are ordered lower,
        upper, lower, upper, ...
    variable : {"pixel", "wavelength"}
        Independent variable of the polynomials.
    wavelength : ndarray
        Wavelength of each pixel in micron, shape (row, column).
    offset : float
        Shift of the edges in columns.

    Returns
    -------
    list of Limits
        Limits as scalars for constant edges, else as arrays, shape (row, 1) or (row, column).

    Raises
    ------
    ApertureError
        If the upper edge of a region is less than a pixel above the lower edge anywhere on the
        image.
    """
    return [
        limits.full(wavelength.shape) if isinstance(limits, BoxedLimits) else limits
        for limits in boxed_regions(key, coefficients, variable, wavelength, offset)
    ]


def boxed_regions(
    key: str,
    coefficients: Coefficients,
    variable: str,
    wavelength: NDArray[Any],
    offset: float = 0.0,
) -> list[Limits | BoxedLimits]:
    """Return the same limits as `polynomial_regions`, but only for pixels with a wavelength.

    Returns
    -------
    list of Limits or BoxedLimits
        `BoxedLimits` for the part of the image with wavelengths if the edges depend on the
        wavelength and the wavelength varies within rows, else `Limits`.
    """
    pairs = zip(coefficients[::2], coefficients[1::2], strict=True)
    # The widths of regions with constant edges were validated by `check_coefficients`.
    if max(map(len, coefficients)) == 1:
        return [
            Limits(np.asarray(lower + offset + 0.5), np.asarray(upper + offset - 0.5))
            for (lower,), (upper,) in pairs
        ]
    box: tuple[slice, slice] | None = None
    if variable == "wavelength":
        where = _one_a_row(wavelength)
        if where.shape[1] > 1:
            box = _known_box(where)
            where = where[box]
        where = where.astype(float)
    else:
        where = np.arange(wavelength.shape[0], dtype=float)[:, np.newaxis]
    regions: list[Limits | BoxedLimits] = []
    for lower, upper in pairs:
        limits = Limits(
            np.asarray(polyval(where, lower) + offset + 0.5),
            np.asarray(polyval(where, upper) + offset - 0.5),
        )
        narrow = limits.upper - limits.lower < -ROUNDING
        if narrow.any():
            at = np.argwhere(narrow)[0]
            first = 0 if box is None else box[0].start
            row = f" at row {first + at[0]}" if at.size else ""
            width = float((limits.upper - limits.lower)[tuple(at)]) + 1.0
            raise ApertureError(
                f"{key} {quoted([*lower])} to {quoted([*upper])} is {width:.3g} pixels wide{row}, "
                "expected at least 1 (lower edge first)"
            )
        regions.append(limits if box is None else BoxedLimits(*limits, *box))
    return regions


def _one_a_row(wavelength: NDArray[Any]) -> NDArray[Any]:
    """Return only the first column, shape (row, 1), if the wavelength is constant in each row.

    Otherwise return the array unchanged.
    """
    if wavelength.strides[-1] != wavelength.itemsize:
        return wavelength
    # The values are compared as integers because this works for any byte order and for NaN.
    bits = np.asarray(wavelength).view(f"u{wavelength.itemsize}")
    return wavelength[:, :1] if (bits == bits[:, :1]).all() else wavelength


def _known_box(wavelength: NDArray[Any]) -> tuple[slice, slice]:
    """Return the smallest ranges of rows and columns that include all pixels with a wavelength."""
    known = ~np.isnan(wavelength)  # infinite wavelengths are included
    rows = np.flatnonzero(known.any(axis=1))
    if rows.size == 0:
        return slice(0, 0), slice(0, 0)
    columns = np.flatnonzero(known[rows[0] : rows[-1] + 1].any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def shift_coefficients(coefficients: Coefficients | None, offset: float) -> Coefficients | None:
    """Return the coefficients of the edges shifted by `offset` columns."""
    if coefficients is None:
        return None
    return tuple((edge[0] + offset, *edge[1:]) for edge in coefficients)


def check_coefficients(key: str, value: object) -> Coefficients | None:
    """Return the coefficients of pairs of edges as nested tuples, or None if `value` is None.

    Raises `ReferenceFileError` if the coefficients are invalid. `key` names them in the message.
    """
    if value is None:
        return None
    form = "[[lower c0, c1, ...], [upper c0, c1, ...], ...]"
    value = without_unit(value)
    if isinstance(value, np.ndarray) and not isinstance(value, u.Quantity):
        value = value.tolist()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ReferenceFileError(f"{key} is {quoted(value)}, expected {form}")
    if len(value) == 0 or len(value) % 2:
        raise ReferenceFileError(f"{key} has {len(value)} edges, expected pairs: {form}")
    if len(value) > 2 * _MOST_REGIONS:
        raise ReferenceFileError(
            f"{key} has {len(value)} edges, expected at most {2 * _MOST_REGIONS}"
        )
    edges = []
    for number, edge in enumerate(value):
        if isinstance(edge, str) or not isinstance(edge, Sequence) or len(edge) == 0:
            raise ReferenceFileError(
                f"{key}[{number}] is {quoted(edge)}, expected a list of coefficients"
            )
        if len(edge) > MOST_COEFFICIENTS:
            raise ReferenceFileError(
                f"{key}[{number}] has {len(edge)} coefficients, expected at most "
                f"{MOST_COEFFICIENTS}"
            )
        edges.append(tuple(check_pixels(f"{key}[{number}]", item) for item in edge))
    for number, (lower, upper) in enumerate(zip(edges[::2], edges[1::2], strict=True)):
        if len(lower) == len(upper) == 1 and upper[0] - lower[0] < 1 - ROUNDING:
            raise ReferenceFileError(
                f"{key} region {number + 1} goes from {lower[0]:g} to {upper[0]:g}, expected the "
                "lower edge first and at least 1 pixel between them"
            )
    return tuple(edges)


def check_variable(value: object) -> Literal["pixel", "wavelength"]:
    """Return the validated independent variable of the edge polynomials.

    Case is ignored. Any string that begins with "wavelength" is replaced by "wavelength".
    """
    if isinstance(value, str):
        if value.lower().startswith("wavelength"):
            return "wavelength"
        if value.lower() == "pixel":
            return "pixel"
    raise ReferenceFileError(
        f"independent_var is {quoted(value)}, expected 'pixel' or 'wavelength'"
    )


def is_constant(coefficients: Coefficients | None) -> bool:
    """Return whether the edges depend on neither row nor wavelength.

    Returns True if there are no edges.
    """
    return coefficients is None or all(not any(edge[1:]) for edge in coefficients)
