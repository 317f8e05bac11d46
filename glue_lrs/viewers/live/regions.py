"""Regions: the aperture and the background regions of an operator as drawn on an image.

A `Region` has two edges as positions on the image, where pixel i extends from i - 0.5 to i + 0.5.
`regions_of` converts an `Extract1D` operator to regions on an image. `operator_with` returns an
operator with other regions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.polynomial import Polynomial
from numpy.polynomial.polynomial import polyval
from numpy.typing import ArrayLike, NDArray

from glue_lrs._utils.validation import check_number
from glue_lrs.apertures.aperture import Aperture
from glue_lrs.apertures.background import Background
from glue_lrs.apertures.edges import Coefficients, check_variable
from glue_lrs.errors import ApertureError, ReferenceFileError, quoted
from glue_lrs.reference.schema import IN_MEMORY

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage

Kind = Literal["aperture", "background"]

#: Names of the kinds of regions in the labels of commands.
WITH_ARTICLE = {"aperture": "an aperture", "background": "a background region"}

Edge = Literal["lower", "upper"]

#: End of an edge at the first row ("bottom") or the last row ("top") that has a wavelength.
End = Literal["bottom", "top"]

Variable = Literal["pixel", "wavelength"]

#: Largest deviation in pixels between a trace and the polynomial that represents it.
TRACE_TOLERANCE = 0.01

#: Highest order of the polynomial that represents a trace.
_MAX_TRACE_ORDER = 6

#: Minimum width of a region in pixels.
_MIN_WIDTH = 1.0

#: Number of decimals to which limits are rounded if they are set with the mouse.
DIGITS = 2


@dataclass(frozen=True)
class Region:
    """A region between two edges, at its position on the image.

    Parameters
    ----------
    kind : {"aperture", "background"}
        Whether the flux in the region is extracted or defines the background.
    lower, upper : tuple of float
        Coefficients of the polynomials for the lower and the upper edge, constant term first. Edges
        are positions in columns, where pixel i extends from i - 0.5 to i + 0.5.
    variable : {"pixel", "wavelength"}
        Variable of the polynomials, either the row number or the wavelength in micron. It has no
        effect as long as both edges are straight, but is used once an edge is tilted.

    Raises
    ------
    ReferenceFileError
        If a value is not allowed.
    """

    kind: Kind
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    variable: Variable = "wavelength"

    def __post_init__(self) -> None:
        if self.kind not in ("aperture", "background"):
            raise ReferenceFileError(
                f"kind is {quoted(self.kind)}, expected 'aperture' or 'background'"
            )
        for name in ("lower", "upper"):
            values = np.atleast_1d(np.asarray(getattr(self, name), dtype=float)).tolist()
            if not values:
                raise ReferenceFileError(f"{name} is empty, expected coefficients")
            object.__setattr__(self, name, tuple(check_number(name, value) for value in values))
        object.__setattr__(self, "variable", check_variable(self.variable))

    @property
    def straight(self) -> bool:
        """Whether both edges have the same position in all rows."""
        return len(self.lower) == len(self.upper) == 1

    def at(
        self, rows: ArrayLike, wavelength: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Evaluate both edges.

        Parameters
        ----------
        rows : array_like
            Row numbers.
        wavelength : array_like
            Wavelength at each row in micron; NaN where there is none.

        Returns
        -------
        lower, upper : ndarray
            Positions of both edges, with the broadcast shape of `rows` and `wavelength`. They are
            NaN where an edge depends on the wavelength but there is none.
        """
        x = self._positions(rows, wavelength)[2]
        lower, upper = (
            np.asarray(polyval(x, edge), float) if len(edge) > 1 else np.full(x.shape, edge[0])
            for edge in (self.lower, self.upper)
        )
        return lower, upper

    def moved(self, dx: ArrayLike) -> Region:
        """Return the region moved by `dx` columns, or by a polynomial with these coefficients."""
        return self._moved(np.atleast_1d(dx), "lower", "upper")

    def _moved(self, change: NDArray[np.float64], *edges: Edge) -> Region:
        """Add a polynomial to some of the edges."""
        lower = _plus(self.lower, change) if "lower" in edges else self.lower
        upper = _plus(self.upper, change) if "upper" in edges else self.upper
        return replace(self, lower=lower, upper=upper)

    def with_edge(
        self,
        edge: Edge,
        dx: ArrayLike,
        rows: ArrayLike | None = None,
        wavelength: ArrayLike | None = None,
    ) -> Region:
        """Return the region after moving one edge, at most until the region is a pixel wide.

        Parameters
        ----------
        edge : {"lower", "upper"}
            Edge to move.
        dx : float or array_like
            Number of columns to move by, or the polynomial coefficients of this number. If the
            region would become too narrow, the movement is scaled down.
        rows, wavelength : array_like, optional
            Rows of the image and their wavelengths. They are needed to compute the width of the
            region if an edge is not straight.
        """
        if edge not in ("lower", "upper"):
            raise ReferenceFileError(f"edge is {quoted(edge)}, expected 'lower' or 'upper'")
        change = np.atleast_1d(dx)
        region = self._moved(change, edge)
        if rows is None or wavelength is None:
            if not region.straight:
                return region
            rows, wavelength = np.zeros(1), np.zeros(1)
        (lower, upper), (new_lower, new_upper) = (r.at(rows, wavelength) for r in (self, region))
        width = upper - lower
        decrease = width - (new_upper - new_lower)
        narrower = decrease > 0
        allowed = np.maximum(width[narrower] - _MIN_WIDTH, 0.0)
        fraction = float(np.min(allowed / decrease[narrower], initial=1.0))
        return region if fraction >= 1.0 else self._moved(fraction * change, edge)

    def with_end(
        self, edge: Edge, end: End, position: float, rows: ArrayLike, wavelength: ArrayLike
    ) -> Region:
        """Return the region after moving one end of an edge while its other end stays.

        Parameters
        ----------
        edge : {"lower", "upper"}
            Edge whose end is moved.
        end : {"bottom", "top"}
            End to move, at the first or the last row that has a wavelength.
        position : float
            New position of the end, which is limited so that the region stays at least a pixel
            wide.
        rows, wavelength : array_like
            Rows of the image and their wavelengths in micron; NaN where there is none.
        """
        tilt = self._tilt(end, rows, wavelength)
        if tilt is None:
            return self
        where, line = tilt
        old = self.at(*where)[0 if edge == "lower" else 1]
        return self.with_edge(edge, line * float(position - old), rows, wavelength)

    def tapered(self, end: End, dx: float, rows: ArrayLike, wavelength: ArrayLike) -> Region:
        """Return the region after moving one end of both edges outwards by `dx` columns each.

        Parameters
        ----------
        end : {"bottom", "top"}
            End to move, at the first or the last row that has a wavelength. The other end stays.
        dx : float
            Number of columns. A negative number narrows the region, but not below one pixel.
        rows, wavelength : array_like
            Rows of the image and their wavelengths in micron; NaN where there is none.
        """
        tilt = self._tilt(end, rows, wavelength)
        if tilt is None:
            return self
        where, line = tilt
        lower, upper = self.at(*where)
        if dx < 0:
            dx = max(dx, min((_MIN_WIDTH - float(upper - lower)) / 2.0, 0.0))
        region = self.with_edge("lower", -line * dx, rows, wavelength)
        return region.with_edge("upper", line * dx, rows, wavelength)

    def straightened(self, rows: ArrayLike, wavelength: ArrayLike) -> Region:
        """Return the region with straight edges at the mean position of each edge.

        Parameters
        ----------
        rows, wavelength : array_like
            Rows of the image and their wavelengths in micron; NaN where there is none.
        """
        if self.straight:
            return self
        known = np.isfinite(np.asarray(wavelength, dtype=float))
        lower, upper = (float(edge[known].mean()) for edge in self.at(rows, wavelength))
        return replace(self, lower=(lower,), upper=(upper,))

    def rounded(self, digits: int = DIGITS) -> Region:
        """Return the region with rounded limits, if its edges are straight.

        Both the positions of the edges and the inclusive pixel numbers then have `digits` decimals.
        """
        if not self.straight:
            return self
        lower, upper = self.lower[0] + 0.5, self.upper[0] - 0.5
        crossed = upper < lower - 1e-9
        lower, upper = round(lower, digits), round(upper, digits)
        if not crossed:  # rounding must not make the region narrower than a pixel
            upper = max(upper, lower)
        return replace(self, lower=(lower - 0.5,), upper=(upper + 0.5,))

    def _positions(self, rows: ArrayLike, wavelength: ArrayLike) -> tuple[NDArray[np.float64], ...]:
        """Return rows, wavelengths and the variable of the edge polynomials, in one shape."""
        both = np.asarray(rows, dtype=float), np.asarray(wavelength, dtype=float)
        rows, wavelength = np.broadcast_arrays(*both)
        return rows, wavelength, rows if self.variable == "pixel" else wavelength

    def _tilt(
        self, end: End, rows: ArrayLike, wavelength: ArrayLike
    ) -> tuple[tuple[float, float], NDArray[np.float64]] | None:
        """Return the row and wavelength at an end of the edges, and the coefficients of a line.

        The line is 1 at this end and 0 at the other end. The result is None if fewer than two rows
        have a wavelength.
        """
        if end not in ("bottom", "top"):
            raise ReferenceFileError(f"end is {quoted(end)}, expected 'bottom' or 'top'")
        rows, wavelength, x = self._positions(rows, wavelength)
        known = np.flatnonzero(np.isfinite(wavelength))
        if known.size < 2:
            return None
        moved, fixed = (known[0], known[-1]) if end == "bottom" else (known[-1], known[0])
        span = float(x[moved] - x[fixed])
        if span == 0.0:
            return None
        where = (float(rows[moved]), float(wavelength[moved]))
        return where, np.array([-float(x[fixed]) / span, 1.0 / span])


def _plus(edge: Sequence[float], change: Iterable[float]) -> tuple[float, ...]:
    """Return the sum of two polynomials."""
    return tuple(float(a + b) for a, b in zip_longest(edge, change, fillvalue=0.0))


def shared_variable(regions: Iterable[Region]) -> Variable | None:
    """Return the variable of the first region that is not straight, or None if all are straight."""
    return next((region.variable for region in regions if not region.straight), None)


def row_wavelength(image: SlitImage) -> NDArray[np.float64]:
    """Return the mean wavelength of each row in micron; NaN where no pixel has one."""
    known = np.isfinite(image.wavelength)
    count = known.sum(axis=1)
    total = np.where(known, image.wavelength, 0.0).sum(axis=1, dtype=float)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


class RowWavelength:
    """Conversion between row numbers, integer or fractional, and wavelengths.

    Parameters
    ----------
    wavelength : ndarray
        Wavelength of each row in micron; NaN for rows without a wavelength.
    """

    def __init__(self, wavelength: NDArray[np.float64]) -> None:
        self.all = wavelength
        known = np.isfinite(wavelength)
        if known.any():
            self.rows, self.known = np.flatnonzero(known).astype(float), wavelength[known]
        else:  # every conversion returns NaN
            self.rows = self.known = np.array([np.nan])
        order = np.argsort(self.known, kind="stable")
        self._ascending = self.known[order], self.rows[order]

    @property
    def limits(self) -> tuple[float, float]:
        """Shortest and longest wavelength in micron; NaN if no row has a wavelength."""
        return float(self.known.min()), float(self.known.max())

    def at(self, row: ArrayLike) -> NDArray[np.float64]:
        """Return the wavelength at each row, or at the closest row with a wavelength."""
        return np.asarray(np.interp(np.asarray(row, dtype=float), self.rows, self.known))

    def row(self, wavelength: ArrayLike) -> NDArray[np.float64]:
        """Return the row at each wavelength; beyond the image, its first or last row."""
        return np.asarray(np.interp(np.asarray(wavelength, dtype=float), *self._ascending))

    def covers(self, row: float) -> bool:
        """Return whether a row is between the first and the last row with a wavelength."""
        return bool(self.rows[0] - 0.5 <= row <= self.rows[-1] + 0.5)

    def closest(self, row: float) -> float:
        """Return the closest row with a wavelength, or `row` itself if no row has a wavelength."""
        return float(min(max(row, self.rows[0]), self.rows[-1]))


def regions_of(operator: Extract1D, image: SlitImage) -> tuple[Region, ...]:
    """Return the regions of an operator at their positions on an image.

    Parameters
    ----------
    operator : Extract1D
        The `Extract1D` operator with the aperture and the background.
    image : SlitImage
        Image on which to place the regions. Its header gives the position of the source.

    Returns
    -------
    tuple of Region
        Regions of the aperture, followed by regions of the background, whether or not it is
        subtracted. An extraction with constant width along a trace is represented by polynomials in
        the row.

    Notes
    -----
    A reference file has only one variable for all regions. Straight regions therefore get the
    variable of the regions that are not straight, or the wavelength if all are straight.
    """
    placement = operator.place(image)
    aperture, offset = operator.aperture, placement.offset
    if aperture.src_coeff is not None:
        moved = aperture.shifted(offset).src_coeff or ()
        regions = _regions("aperture", moved, aperture.independent_var)
    elif aperture.extract_width is not None and placement.trace is not None:
        half, middle = aperture.extract_width / 2.0, _trace_polynomial(placement.trace)
        regions = _regions("aperture", (_plus(middle, (-half,)), _plus(middle, (half,))), "pixel")
    else:
        start = 0.0 if aperture.xstart is None else aperture.xstart
        stop = image.shape[1] - 1.0 if aperture.xstop is None else aperture.xstop
        lower, upper = start + offset, stop + offset
        if aperture.extract_width is not None:
            lower = (lower + upper) / 2.0 - (aperture.extract_width - 1.0) / 2.0
            upper = lower + aperture.extract_width - 1.0
        regions = _regions("aperture", ((lower - 0.5,), (upper + 0.5,)), "pixel")
    background = operator.background
    if background is not None:
        moved = background.shifted(placement.background_offset).bkg_coeff
        regions += _regions("background", moved, background.independent_var)
    shared = shared_variable(regions) or "wavelength"
    return tuple(replace(one, variable=shared) if one.straight else one for one in regions)


def _regions(kind: Kind, edges: Coefficients, variable: Variable) -> list[Region]:
    """Return the regions between pairs of edges."""
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [Region(kind, lower, upper, variable) for lower, upper in pairs]


def operator_with(
    operator: Extract1D,
    image: SlitImage,
    regions: Sequence[Region],
    background: Background | None = None,
) -> Extract1D:
    """Return an operator with other regions, fixed at their positions on an image.

    Parameters
    ----------
    operator : Extract1D
        `Extract1D` operator that provides all other parameters.
    image : SlitImage
        Image on which the regions are drawn.
    regions : sequence of Region
        All regions, both of the aperture and of the background.
    background : Background, optional
        Background whose fit, order and smoothing are used if `operator` has no background. By
        default, the mean in each row is subtracted.

    Returns
    -------
    Extract1D
        Operator with ``use_source_posn`` False and ``position_offset`` 0. A single straight
        aperture is expressed as ``xstart`` and ``xstop``, other apertures as ``src_coeff``.

    Raises
    ------
    ReferenceFileError
        If a region is narrower than a pixel, or regions of one kind depend on different variables.
    ApertureError
        If there is no region of the aperture.
    """
    apertures = [region for region in regions if region.kind == "aperture"]
    backgrounds = [region for region in regions if region.kind == "background"]
    if not apertures:
        raise ApertureError("no region is an aperture, expected at least one")
    ystart, ystop = _rows(operator, image)
    if len(apertures) == 1 and apertures[0].straight:
        (lower,), (upper,) = apertures[0].lower, apertures[0].upper
        aperture = Aperture(xstart=_tidy(lower + 0.5), xstop=_tidy(upper - 0.5))
    else:
        coefficients, variable = _coefficients(apertures), _variable(apertures)
        aperture = Aperture(src_coeff=coefficients, independent_var=variable)
    new_background = None
    if backgrounds:
        template = operator.background or background or Background(bkg_coeff=((-0.5,), (0.5,)))
        coefficients, variable = _coefficients(backgrounds), _variable(backgrounds)
        new_background = replace(template, bkg_coeff=coefficients, independent_var=variable)
    return replace(
        operator,
        aperture=replace(aperture, ystart=ystart, ystop=ystop),
        background=new_background,
        use_source_posn=False,
        reference_source_posn=None,
        position_offset=0.0,
        references=tuple((dict(operator.references) | {"extract1d": IN_MEMORY}).items()),
    )


def _tidy(value: float) -> float:
    """Remove the rounding error from adding 0.5 to a number with at most 6 decimals."""
    short = round(value, 6)
    return short if math.isclose(short, value, rel_tol=1e-14, abs_tol=1e-13) else value


def _rows(operator: Extract1D, image: SlitImage) -> tuple[float | None, float | None]:
    """Return the row limits of an aperture; if it follows a trace, at most those of the trace."""
    aperture = operator.aperture
    ystart, ystop = aperture.ystart, aperture.ystop
    if aperture.extract_width is None or aperture.src_coeff is not None:
        return ystart, ystop
    trace = operator.place(image).trace
    if trace is not None:
        known = np.flatnonzero(np.isfinite(trace))
        first, last = float(known[0]), float(known[-1])
        if first > 0:
            ystart = first if ystart is None else max(first, ystart)
        if last < image.shape[0] - 1:
            ystop = last if ystop is None else min(last, ystop)
    return ystart, ystop


def _coefficients(regions: Sequence[Region]) -> Coefficients:
    return tuple(
        tuple(_tidy(value) for value in edge) if len(edge) == 1 else edge
        for region in regions
        for edge in (region.lower, region.upper)
    )


def _variable(regions: Sequence[Region]) -> Variable:
    """Return the variable that all regions of one kind share."""
    found = {region.variable for region in regions if not region.straight}
    if len(found) > 1:
        raise ReferenceFileError(
            f"{regions[0].kind} regions depend on both the row and the wavelength, expected one "
            "variable for all"
        )
    return found.pop() if found else "pixel"


def _trace_polynomial(trace: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the polynomial of lowest order that is within `TRACE_TOLERANCE` of a trace."""
    rows = np.flatnonzero(np.isfinite(trace))
    if rows.size == 0:
        raise ApertureError("the source's trace is not known in any row, expected one to follow")
    return fitted_polynomial(rows, trace[rows], TRACE_TOLERANCE, _MAX_TRACE_ORDER)


def fitted_polynomial(
    x: ArrayLike, y: NDArray[np.float64], tolerance: float, max_order: int
) -> tuple[float, ...]:
    """Return the polynomial of lowest order that deviates from `y` by at most a tolerance.

    If there is no such polynomial, return the polynomial of the highest order.
    """
    x = np.asarray(x, dtype=float)
    if np.ptp(x) == 0.0:  # NumPy before 2.3 cannot fit a single point
        return (float(y.mean()),)
    for order in range(min(max_order, x.size - 1) + 1):
        polynomial = Polynomial.fit(x, y, order)
        if np.abs(polynomial(x) - y).max() <= tolerance:
            break
    return tuple(float(value) for value in polynomial.convert().coef)
