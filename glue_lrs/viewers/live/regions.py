"""Edges: what is drawn on an image -> the limits of an operator, and back.

A `Region` is what a hand moves: two edges as positions on the image, where pixel i reaches from
i - 0.5 to i + 0.5. The operator stays the only truth: `regions_of` tells where its regions lie on
an image, `operator_with` makes the operator whose regions lie elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.polynomial import Polynomial
from numpy.polynomial.polynomial import polyval
from numpy.typing import ArrayLike, NDArray

from glue_lrs._utils.validation import check_number
from glue_lrs.apertures.aperture import Aperture
from glue_lrs.apertures.background import Background
from glue_lrs.apertures.edges import check_variable
from glue_lrs.errors import ApertureError, ReferenceFileError
from glue_lrs.reference.schema import IN_MEMORY

if TYPE_CHECKING:
    from glue_lrs.apertures.placement import Placement
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage

__all__ = [
    "TRACE_TOLERANCE",
    "Edge",
    "End",
    "Kind",
    "Region",
    "Variable",
    "operator_with",
    "regions_of",
    "row_wavelength",
]

Kind = Literal["aperture", "background"]

Edge = Literal["lower", "upper"]

#: The end of an edge: at the first row that has a wavelength, or at the last.
End = Literal["bottom", "top"]

Variable = Literal["pixel", "wavelength"]

#: An extraction along a trace becomes polynomials in the row that leave it by no more pixels.
TRACE_TOLERANCE = 0.01

#: The highest order that is tried for it.
_TRACE_ORDER = 6

#: A region encloses at least a pixel.
_LEAST = 1.0

#: Digits of a limit that a hand has set.
DIGITS = 2


@dataclass(frozen=True)
class Region:
    """A region between two edges, at the position where it lies on the image.

    Parameters
    ----------
    kind : {"aperture", "background"}
        What the region is.
    lower, upper : tuple of float
        Polynomial coefficients of the edges, constant term first; as positions, where pixel i
        reaches from i - 0.5 to i + 0.5.
    variable : {"pixel", "wavelength"}
        What the polynomials are functions of: the row number, or the wavelength in micron. Of no
        matter while both edges are straight; a straight edge that is tilted gets it.

    Raises
    ------
    ReferenceFileError
        If a value is not what is listed here.
    """

    kind: Kind
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    variable: Variable = "wavelength"

    def __post_init__(self) -> None:
        if self.kind not in ("aperture", "background"):
            raise ReferenceFileError(f"kind is {self.kind!r}, expected 'aperture' or 'background'")
        for name in ("lower", "upper"):
            values = np.atleast_1d(np.asarray(getattr(self, name), dtype=float)).tolist()
            if not values:
                raise ReferenceFileError(f"{name} is empty, expected coefficients")
            object.__setattr__(self, name, tuple(check_number(name, value) for value in values))
        object.__setattr__(self, "variable", check_variable(self.variable))

    @property
    def straight(self) -> bool:
        """Whether both edges are the same in all rows."""
        return len(self.lower) == len(self.upper) == 1

    def at(
        self, rows: ArrayLike, wavelength: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Positions of both edges.

        Parameters
        ----------
        rows : array_like
            Row numbers.
        wavelength : array_like
            Wavelength in micron at each of them, NaN where there is none.

        Returns
        -------
        lower, upper : ndarray
            Positions, of the broadcast shape; NaN where there is no wavelength and an edge depends
            on it.
        """
        rows, wavelength = np.broadcast_arrays(
            np.asarray(rows, dtype=float), np.asarray(wavelength, dtype=float)
        )
        where = rows if self.variable == "pixel" else wavelength
        lower, upper = (
            polyval(where, edge) if len(edge) > 1 else np.full(where.shape, edge[0])
            for edge in (self.lower, self.upper)
        )
        return lower, upper

    def moved(self, dx: float) -> Region:
        """Return the region moved by `dx` columns."""
        return replace(self, lower=_plus(self.lower, (dx,)), upper=_plus(self.upper, (dx,)))

    def with_edge(
        self,
        edge: Edge,
        dx: float,
        rows: ArrayLike | None = None,
        wavelength: ArrayLike | None = None,
    ) -> Region:
        """Return the region with one of its edges moved by `dx` columns.

        Parameters
        ----------
        edge : {"lower", "upper"}
            The edge.
        dx : float
            Columns to move it by.
        rows, wavelength : array_like, optional
            Rows of the image and their wavelengths. They are needed to stop an edge that is not
            straight before it comes nearer than a pixel to the other one; a straight one always
            stops there.
        """
        return self._changed(edge, (dx,), rows, wavelength)

    def with_end(
        self, edge: Edge, end: End, position: float, rows: ArrayLike, wavelength: ArrayLike
    ) -> Region:
        """Return the region with one end of an edge elsewhere; the edge's other end stays.

        Parameters
        ----------
        edge : {"lower", "upper"}
            The edge.
        end : {"bottom", "top"}
            At the first row that has a wavelength, or at the last.
        position : float
            Where the end goes, as far as a pixel is left between the edges.
        rows, wavelength : array_like
            Rows of the image and their wavelengths, NaN where there is none.
        """
        tilt = self._tilt(end, rows, wavelength)
        if tilt is None:  # one row, or none: nothing to tilt about
            return self
        where, line = tilt
        old = self.at(*where)[0 if edge == "lower" else 1]
        change = float(position - old)
        return self._changed(edge, (line[0] * change, line[1] * change), rows, wavelength)

    def tapered(self, end: End, dx: float, rows: ArrayLike, wavelength: ArrayLike) -> Region:
        """Return the region with both edges' ends moved apart by `dx` columns each.

        Parameters
        ----------
        end : {"bottom", "top"}
            At the first row that has a wavelength, or at the last; the other end stays.
        dx : float
            Columns; less than 0 brings the edges together, as far as a pixel is left between them.
        rows, wavelength : array_like
            Rows of the image and their wavelengths, NaN where there is none.
        """
        tilt = self._tilt(end, rows, wavelength)
        if tilt is None:
            return self
        where, line = tilt
        lower, upper = self.at(*where)
        if dx < 0:
            dx = max(dx, min((_LEAST - float(upper - lower)) / 2.0, 0.0))
        made = self._changed("lower", (-line[0] * dx, -line[1] * dx), rows, wavelength)
        return made._changed("upper", (line[0] * dx, line[1] * dx), rows, wavelength)

    def straightened(self, rows: ArrayLike, wavelength: ArrayLike) -> Region:
        """Return the region with straight edges, at the mean position of each.

        Parameters
        ----------
        rows, wavelength : array_like
            Rows of the image and their wavelengths, NaN where there is none.
        """
        if self.straight:
            return self
        known = np.isfinite(np.asarray(wavelength, dtype=float))
        lower, upper = (float(edge[known].mean()) for edge in self.at(rows, wavelength))
        return replace(self, lower=(lower,), upper=(upper,))

    def rounded(self, digits: int = DIGITS) -> Region:
        """Return the region with straight edges rounded, as positions and as inclusive limits."""
        if not self.straight:
            return self
        lower, upper = self.lower[0] + 0.5, self.upper[0] - 0.5
        crossed = upper < lower - 1e-9
        lower, upper = round(lower, digits), round(upper, digits)
        if not crossed:  # a width that was cut to a pixel must not become less by rounding
            upper = max(upper, lower)
        return replace(self, lower=(lower - 0.5,), upper=(upper + 0.5,))

    def _tilt(
        self, end: End, rows: ArrayLike, wavelength: ArrayLike
    ) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """Row and wavelength of an end, and the line that is 1 there and 0 at the other end."""
        if end not in ("bottom", "top"):
            raise ReferenceFileError(f"end is {end!r}, expected 'bottom' or 'top'")
        rows, wavelength = np.broadcast_arrays(
            np.asarray(rows, dtype=float), np.asarray(wavelength, dtype=float)
        )
        known = np.flatnonzero(np.isfinite(wavelength))
        if known.size < 2:
            return None
        here, there = (known[0], known[-1]) if end == "bottom" else (known[-1], known[0])
        variable = rows if self.variable == "pixel" else wavelength
        span = float(variable[here] - variable[there])
        if span == 0.0:
            return None
        where = (float(rows[here]), float(wavelength[here]))
        return where, (-float(variable[there]) / span, 1.0 / span)

    def _changed(
        self,
        edge: Edge,
        change: tuple[float, ...],
        rows: ArrayLike | None,
        wavelength: ArrayLike | None,
    ) -> Region:
        """Add a polynomial to an edge, as much of it as leaves a pixel between the edges."""
        if edge not in ("lower", "upper"):
            raise ReferenceFileError(f"edge is {edge!r}, expected 'lower' or 'upper'")
        made = self._plus(edge, change)
        if rows is None or wavelength is None:
            if not made.straight:
                return made
            rows, wavelength = np.zeros(1), np.zeros(1)
        (lower, upper), (new_lower, new_upper) = (r.at(rows, wavelength) for r in (self, made))
        old = upper - lower
        closer = old - (new_upper - new_lower)
        tight = closer > 0
        room = np.maximum(old[tight] - _LEAST, 0.0)
        part = float(np.min(room / closer[tight], initial=1.0))
        if part >= 1.0:
            return made
        return self._plus(edge, [part * one for one in change])

    def _plus(self, edge: Edge, change: Sequence[float]) -> Region:
        if edge == "lower":
            return replace(self, lower=_plus(self.lower, change))
        return replace(self, upper=_plus(self.upper, change))


def _plus(edge: Sequence[float], change: Sequence[float]) -> tuple[float, ...]:
    """Sum of two polynomials."""
    size = max(len(edge), len(change))
    both = [*edge, *[0.0] * (size - len(edge))]
    return tuple(
        value + (change[power] if power < len(change) else 0.0) for power, value in enumerate(both)
    )


def row_wavelength(image: SlitImage) -> NDArray[np.float64]:
    """Wavelength of each row in micron: the mean over its pixels; NaN where no pixel has one."""
    known = np.isfinite(image.wavelength)
    count = known.sum(axis=1)
    total = np.where(known, image.wavelength, 0.0).sum(axis=1, dtype=float)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def regions_of(
    operator: Extract1D, image: SlitImage, placement: Placement | None = None
) -> tuple[Region, ...]:
    """Where the regions of an operator lie on an image.

    Parameters
    ----------
    operator : Extract1D
        The operator.
    image : SlitImage
        The image: it tells where the source is.
    placement : Placement, optional
        ``operator.place(image)``, if it is known already.

    Returns
    -------
    tuple of Region
        First those of the aperture, then those of the background, whether or not it is subtracted.
        An extraction of constant width along a trace is given as polynomials in the row.

    Notes
    -----
    Straight regions get the variable of those that are not, so that one reference can hold them
    all; the wavelength if all are straight.
    """
    if placement is None:
        placement = operator.place(image)
    aperture, offset = operator.aperture, placement.offset
    edges: list[tuple[Kind, tuple[float, ...], tuple[float, ...], Variable]] = []
    if aperture.src_coeff is not None:
        moved = aperture.shifted(offset).src_coeff or ()
        edges += [("aperture", a, b, aperture.independent_var) for a, b in _pairs(moved)]
    elif aperture.extract_width is not None and placement.trace is not None:
        half = aperture.extract_width / 2.0
        middle = _trace_polynomial(placement.trace)
        edges.append(("aperture", _plus(middle, (-half,)), _plus(middle, (half,)), "pixel"))
    else:
        start = 0.0 if aperture.xstart is None else aperture.xstart
        stop = image.shape[1] - 1.0 if aperture.xstop is None else aperture.xstop
        lower, upper = start + offset, stop + offset
        if aperture.extract_width is not None:
            lower = (lower + upper) / 2.0 - (aperture.extract_width - 1.0) / 2.0
            upper = lower + aperture.extract_width - 1.0
        edges.append(("aperture", (lower - 0.5,), (upper + 0.5,), "pixel"))
    background = operator.background
    if background is not None:
        moved = background.shifted(placement.background_offset).bkg_coeff
        edges += [("background", a, b, background.independent_var) for a, b in _pairs(moved)]
    curved = [variable for _, a, b, variable in edges if len(a) > 1 or len(b) > 1]
    shared = curved[0] if curved else "wavelength"
    return tuple(
        Region(kind, a, b, variable if len(a) > 1 or len(b) > 1 else shared)
        for kind, a, b, variable in edges
    )


def operator_with(
    operator: Extract1D,
    image: SlitImage,
    regions: Sequence[Region],
    background: Background | None = None,
) -> Extract1D:
    """Make the operator whose regions lie where they are drawn.

    Parameters
    ----------
    operator : Extract1D
        Where everything but the regions comes from.
    image : SlitImage
        The image that they are drawn on.
    regions : sequence of Region
        All regions, those of the aperture and those of the background.
    background : Background, optional
        Where fit, order and smoothing come from if `operator` has no background; the default is a
        mean in each row.

    Returns
    -------
    Extract1D
        An operator that does not move: ``use_source_posn`` False, ``position_offset`` 0. A single
        straight aperture becomes ``xstart`` and ``xstop``, any other ``src_coeff``.

    Raises
    ------
    ReferenceFileError
        If a region is less than a pixel wide, or regions of a kind depend on different variables.
    ApertureError
        If there is no region of the aperture.
    """
    source = [region for region in regions if region.kind == "aperture"]
    beside = [region for region in regions if region.kind == "background"]
    if not source:
        raise ApertureError("no region is an aperture, expected at least one")
    limits: dict[str, Any] = _rows(operator, image)
    if len(source) == 1 and source[0].straight:
        (region,) = source
        limits |= {
            "xstart": _tidy(region.lower[0] + 0.5),
            "xstop": _tidy(region.upper[0] - 0.5),
        }
    else:
        limits |= {"src_coeff": _coefficients(source), "independent_var": _variable(source)}
    made = None
    if beside:
        like = operator.background or background or Background(bkg_coeff=((-0.5,), (0.5,)))
        made = replace(like, bkg_coeff=_coefficients(beside), independent_var=_variable(beside))
    return replace(
        operator,
        aperture=Aperture(**limits),
        background=made,
        use_source_posn=False,
        reference_source_posn=None,
        position_offset=0.0,
        references=tuple((dict(operator.references) | {"extract1d": IN_MEMORY}).items()),
    )


def _tidy(value: float) -> float:
    """A number without the rounding error of adding 0.5, if it then has a few digits only."""
    short = round(value, 6)
    return short if math.isclose(short, value, rel_tol=1e-14, abs_tol=1e-13) else value


def _rows(operator: Extract1D, image: SlitImage) -> dict[str, float | None]:
    """The rows of the aperture; those of the trace where that is followed."""
    aperture = operator.aperture
    rows = {"ystart": aperture.ystart, "ystop": aperture.ystop}
    if aperture.extract_width is None or aperture.src_coeff is not None:
        return rows
    trace = operator.place(image).trace
    if trace is None:
        return rows
    known = np.flatnonzero(np.isfinite(trace))
    first, last = float(known[0]), float(known[-1])
    if first > 0:
        rows["ystart"] = first if aperture.ystart is None else max(first, aperture.ystart)
    if last < image.shape[0] - 1:
        rows["ystop"] = last if aperture.ystop is None else min(last, aperture.ystop)
    return rows


def _pairs(
    coefficients: Sequence[tuple[float, ...]],
) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    return list(zip(coefficients[::2], coefficients[1::2], strict=True))


def _coefficients(regions: Sequence[Region]) -> tuple[tuple[float, ...], ...]:
    return tuple(
        tuple(_tidy(value) for value in edge) if len(edge) == 1 else edge
        for region in regions
        for edge in (region.lower, region.upper)
    )


def _variable(regions: Sequence[Region]) -> Variable:
    """The variable that all regions of a kind share."""
    found = {region.variable for region in regions if not region.straight}
    if len(found) > 1:
        raise ReferenceFileError(
            f"{regions[0].kind} regions depend on both the row and the wavelength, expected one "
            "variable for all"
        )
    return found.pop() if found else "pixel"


def _trace_polynomial(trace: NDArray[np.float64]) -> tuple[float, ...]:
    """Coefficients of the lowest order that follows a trace within `TRACE_TOLERANCE`."""
    rows = np.flatnonzero(np.isfinite(trace))
    if rows.size == 0:
        raise ApertureError("the source's trace is not known in any row, expected one to follow")
    best: Polynomial | None = None
    for order in range(min(_TRACE_ORDER, rows.size - 1) + 1):
        best = Polynomial.fit(rows, trace[rows], order)
        if np.abs(best(rows) - trace[rows]).max() <= TRACE_TOLERANCE:
            break
    assert best is not None  # there is a row
    return tuple(float(value) for value in best.convert().coef)
