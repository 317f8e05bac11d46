"""Aperture: pairs of edges across the slit -> fractional pixel weights.

Two conventions for the position of an edge live side by side in EXTRACT1D references:

* *limits* (``xstart``, ``xstop``, ``extract_width``) are inclusive pixel numbers: 27 to 34 means
  the eight pixels 27, 28, ... 34, whole;
* *coefficients* (``src_coeff``, ``bkg_coeff``) are positions on a continuous axis on which pixel i
  reaches from i - 0.5 to i + 0.5: the same eight pixels are 26.5 to 34.5.

A limit is the position of a lower edge plus 0.5, or of an upper edge minus 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.polynomial.polynomial import Polynomial, polyadd, polyfit, polysub, polyval
from numpy.typing import ArrayLike, NDArray

from glue_lrs.errors import ApertureError, ReferenceFileError

if TYPE_CHECKING:
    from specutils import Spectrum

    from glue_lrs.image import SlitImage

__all__ = ["Aperture", "Coefficients", "Limits", "Weights", "limit_weights"]

#: Polynomial coefficients of each edge, constant term first: lower, upper, lower, upper, ...
Coefficients = tuple[tuple[float, ...], ...]

#: Pixels whose weights are worked out at once.
_BLOCK_PIXELS = 1 << 11
#: How far a lower limit may lie above an upper one before they count as inverted: rounding only.
_ROUNDING = 1e-9


class Limits(NamedTuple):
    """Inclusive limits of one region: scalars, or arrays that broadcast to (row, column)."""

    lower: NDArray[Any]
    upper: NDArray[Any]


class BoxedLimits(NamedTuple):
    """Limits on a part of an image, arrays of its shape; outside of it there is no region.

    Most pixels of a full frame have no wavelength: nothing need be worked out for them.
    """

    lower: NDArray[Any]
    upper: NDArray[Any]
    rows: slice
    columns: slice

    def full(self, shape: tuple[int, ...]) -> Limits:
        """The same on the whole image: NaN outside of the part."""
        edges = []
        for edge in (self.lower, self.upper):
            whole = np.full(shape, np.nan)
            whole[self.rows, self.columns] = edge
            edges.append(whole)
        return Limits(*edges)


@dataclass(frozen=True, eq=False)
class Weights:
    """Pixel weights between 0 and 1 on the part of an image that has any.

    Parameters
    ----------
    rows, columns : slice
        The part of the image that `values` covers.
    values : ndarray
        Weights, shape (row, column) or (1, column) where all rows are alike.
    lower, upper : float
        Mean inclusive limits over the image, NaN left out; of several regions the outermost.
    """

    rows: slice
    columns: slice
    values: NDArray[np.float64]
    lower: float
    upper: float

    @property
    def empty(self) -> bool:
        """Whether no pixel has any weight."""
        return not self.values.any()

    @property
    def uniform(self) -> bool:
        """Whether all rows are alike."""
        return self.values.shape[0] == 1

    def full(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Weights on the whole image, shape (row, column)."""
        out = np.zeros(shape)
        out[self.rows, self.columns] = self.values
        return out


def limit_weights(index: ArrayLike, limits: Limits, partial: bool = True) -> NDArray[np.float64]:
    """Weights of pixels for inclusive limits.

    A pixel i within [lower, upper] weighs 1. A pixel just outside weighs the fraction of it that
    the aperture covers, i - lower + 1 or upper - i + 1, as ``extract_1d`` counts it.

    Parameters
    ----------
    index : array_like
        Pixel numbers.
    limits : Limits
        Inclusive limits that broadcast against `index`; NaN gives weight 0.
    partial : bool
        Whether a pixel may be covered in part; without it the weight outside is 0.

    Returns
    -------
    ndarray
        Weights between 0 and 1, of the broadcast shape.
    """
    index = np.asarray(index, dtype=float)
    # How much of the pixel each edge leaves: at least 1 inside, at most 0 beyond the pixel.
    cover = np.minimum(index - limits.lower + 1.0, limits.upper - index + 1.0)
    weights = np.fmax(np.fmin(cover, 1.0), 0.0)  # NaN gives 1: see below
    if np.ndim(limits.lower) or np.ndim(limits.upper):
        weights[np.isnan(cover)] = 0.0
    return weights if partial else np.floor(weights)


@dataclass(frozen=True, kw_only=True)
class Aperture:
    """The pixels that a spectrum is summed over.

    In order of precedence: `src_coeff`; `extract_width` along a trace; `extract_width` about the
    middle of `xstart` and `xstop`; `xstart` to `xstop`. All may be fractions of a pixel.

    Parameters
    ----------
    xstart, xstop : float, optional
        First and last column, inclusive limits; the image's first and last column by default.
    ystart, ystop : float, optional
        First and last row that are used; the image's first and last row by default.
    extract_width : float, optional
        Width in pixels.
    src_coeff : sequence of sequences of float, optional
        Polynomial coefficients of the edges, constant term first, pairs of lower and upper edge, as
        positions (half a pixel outside the inclusive limits).
    independent_var : {"pixel", "wavelength"}
        Whether the polynomials are functions of the row number or of the wavelength in micron.

    Raises
    ------
    ReferenceFileError
        If a value is not a number, limits are inverted or enclose less than a pixel, or the
        polynomials do not come in pairs.

    See Also
    --------
    Aperture.from_edges : from positions of edges rather than inclusive limits.

    Notes
    -----
    The rules are those of the JWST pipeline's ``extract_1d`` (``box_profile``).
    """

    xstart: float | None = None
    xstop: float | None = None
    ystart: float | None = None
    ystop: float | None = None
    extract_width: float | None = None
    src_coeff: Coefficients | None = None
    independent_var: Literal["pixel", "wavelength"] = "pixel"

    def __post_init__(self) -> None:
        for key in ("xstart", "xstop", "ystart", "ystop", "extract_width"):
            value = getattr(self, key)
            if value is not None:
                object.__setattr__(self, key, check_number(key, value))
        if self.ystart is not None and self.ystart < 0:
            raise ReferenceFileError(
                f"ystart is {self.ystart:g}, expected a row number of 0 or more"
            )
        if self.ystart is not None and self.ystop is not None and self.ystop < self.ystart:
            raise ReferenceFileError(
                f"ystop is {self.ystop:g}, expected at least ystart, which is {self.ystart:g}"
            )
        if self.extract_width is not None and self.extract_width < 1:
            raise ReferenceFileError(
                f"extract_width is {self.extract_width:g}, expected at least 1 pixel"
            )
        if (
            self.xstart is not None
            and self.xstop is not None
            and self.src_coeff is None
            and self.xstop < self.xstart - _ROUNDING
        ):
            raise ReferenceFileError(
                f"xstop is {self.xstop:g}, expected at least xstart, which is {self.xstart:g} "
                "(both are inclusive)"
            )
        object.__setattr__(self, "src_coeff", check_coefficients("src_coeff", self.src_coeff))
        object.__setattr__(self, "independent_var", check_variable(self.independent_var))

    @classmethod
    def from_edges(
        cls, lower: float | Sequence[float], upper: float | Sequence[float], **kwargs: Any
    ) -> Aperture:
        """Make an aperture from the positions of its edges.

        Parameters
        ----------
        lower, upper : float or sequence of float
            Position of each edge, or its polynomial coefficients, constant term first. Pixel i
            reaches from i - 0.5 to i + 0.5.
        **kwargs
            Other parameters of `Aperture`.

        Returns
        -------
        Aperture
            An aperture with `src_coeff`.
        """
        pair = tuple(tuple(np.atleast_1d(edge).tolist()) for edge in (lower, upper))
        return cls(src_coeff=pair, **kwargs)

    @classmethod
    def tapered(
        cls,
        fwhm: float | tuple[ArrayLike, ArrayLike] | None = None,
        n: float = 3.0,
        *,
        center: float | ArrayLike,
        wavelength: ArrayLike | None = None,
        order: int = 1,
        pixel_scale: float = 0.11,
        **kwargs: Any,
    ) -> Aperture:
        """Make an aperture that is n times as wide as the source at every wavelength.

        Parameters
        ----------
        fwhm : float, (array_like, array_like) or None
            Full width at half maximum: wavelengths in micron and widths in arcsec there, or one
            width for all. None: what LRS is expected to have (`glue_lrs.measure.EXPECTED_FWHM`).
            For a measured one see `glue_lrs.measure.Measurement.tapered`.
        n : float
            Width of the aperture over the FWHM.
        center : float or array_like
            Column of the middle, or the trace: the column in each row, shape (row,), NaN where
            it is not known.
        wavelength : array_like, optional
            Wavelength of each row in micron, which a trace needs; shape (row,).
        order : int
            Degree of the polynomial of the wavelength that the width is made.
        pixel_scale : float
            Arcsec a column.
        **kwargs
            Other parameters of `Aperture`.

        Returns
        -------
        Aperture
            An aperture with `src_coeff`, polynomials of the wavelength: centre -+ n / 2 times the
            least-squares polynomial through the widths.

        Raises
        ------
        ReferenceFileError
            If a value is not what is listed here.

        Examples
        --------
        The tapered aperture of the STScI's LRS extraction notebook:

        >>> from glue_lrs import Aperture
        >>> widths = (5.0, 7.5, 10.0, 12.0), (0.29, 0.30, 0.36, 0.42)
        >>> aperture = Aperture.tapered(widths, 3, center=30.5)
        >>> print(*(f"{c:.4f}" for edge in aperture.src_coeff for c in edge))
        28.0544 -0.2580 32.9456 0.2580
        """
        for key, value in (("n", n), ("pixel_scale", pixel_scale)):
            if check_number(key, value) <= 0:
                raise ReferenceFileError(f"{key} is {value!r}, expected a number greater than 0")
        if isinstance(order, bool) or not isinstance(order, int | np.integer) or order < 0:
            raise ReferenceFileError(f"order is {order!r}, expected a whole number of 0 or more")
        if fwhm is None:
            from glue_lrs.measure import EXPECTED_FWHM as fwhm  # noqa: N811 - arithmetic beside it
        if isinstance(fwhm, tuple | list) and len(fwhm) == 2:
            waves, widths = (np.asarray(values, dtype=float).ravel() for values in fwhm)
        else:
            waves, widths = np.zeros(1), np.array([check_number("fwhm", fwhm)])
        known = np.isfinite(waves) & np.isfinite(widths) if waves.shape == widths.shape else None
        if known is None or not known.any() or (widths[known] <= 0).any():
            raise ReferenceFileError(
                f"fwhm has {waves.size} wavelengths and {widths.size} widths, expected as many of "
                "both, widths greater than 0"
            )
        degree = min(order, int(known.sum()) - 1)
        half = n / 2.0 / pixel_scale * polyfit(waves[known], widths[known], degree)
        if np.ndim(center) == 0:
            middle = np.array([check_number("center", center)])
        else:
            middle = _trace_terms(center, wavelength)
        lower, upper = polysub(middle, half).tolist(), polyadd(middle, half).tolist()
        return cls.from_edges(lower, upper, independent_var="wavelength", **kwargs)

    @classmethod
    def at_source(cls, image: SlitImage | Spectrum, width: float) -> Aperture:
        """Make an aperture of a width in columns about the source that is seen in an image.

        Parameters
        ----------
        image : SlitImage or `~specutils.Spectrum`
            The image; its source is measured (`glue_lrs.measure.measure`).
        width : float
            Columns, at least 1.

        Returns
        -------
        Aperture
            Edges in the image's own columns, along the trace: to be used without a source position
            (``use_source_posn=False``).

        Raises
        ------
        SourceError
            If no source is found.
        ReferenceFileError
            If the width is less than a column.
        """
        from glue_lrs.measure import measure

        if check_number("width", width) < 1:
            raise ReferenceFileError(f"width is {width!r}, expected at least 1 pixel")
        return measure(image, integrations=False).box(width)

    def shifted(self, offset: float) -> Aperture:
        """Return the aperture moved by `offset` columns; limits that are not set stay so."""
        return replace(
            self,
            xstart=None if self.xstart is None else self.xstart + offset,
            xstop=None if self.xstop is None else self.xstop + offset,
            src_coeff=shift_coefficients(self.src_coeff, offset),
        )

    def regions(
        self,
        wavelength: NDArray[Any],
        trace: NDArray[np.float64] | None = None,
        offset: float = 0.0,
    ) -> list[Limits]:
        """Inclusive limits of each region on an image.

        Parameters
        ----------
        wavelength : ndarray
            Wavelength of each pixel in micron, shape (row, column).
        trace : ndarray, optional
            Column of the source in each row, shape (row,), NaN where it is not known.
        offset : float
            Columns that the aperture is moved by, image edges that stand in for absent limits
            included; not added to a trace.

        Returns
        -------
        list of Limits
            Scalars or arrays that broadcast to (row, column).

        Raises
        ------
        ApertureError
            If somewhere the lower limit lies above the upper one.
        """
        columns = wavelength.shape[1]
        start = (0.0 if self.xstart is None else self.xstart) + offset
        stop = (columns - 1.0 if self.xstop is None else self.xstop) + offset
        if self.src_coeff is not None:
            return polynomial_regions(
                "src_coeff", self.src_coeff, self.independent_var, wavelength, offset
            )
        if self.extract_width is not None:
            middle: Any = (start + stop) / 2.0
            if trace is not None:
                middle = trace[:, np.newaxis]
            lower = middle - (self.extract_width - 1.0) / 2.0
            return [Limits(np.asarray(lower), np.asarray(lower + self.extract_width - 1.0))]
        if stop < start - _ROUNDING:
            raise ApertureError(
                f"xstop is {stop:g}, expected at least xstart, which is {start:g} "
                "(both are inclusive)"
            )
        return [Limits(np.asarray(start), np.asarray(stop))]

    def weights(
        self,
        wavelength: NDArray[Any],
        trace: NDArray[np.float64] | None = None,
        offset: float = 0.0,
    ) -> Weights:
        """Weights of the pixels of an image.

        Parameters and errors are those of `regions`. Several regions combine by their maximum. Rows
        outside ceil(`ystart`) to floor(`ystop`) weigh 0.

        Returns
        -------
        Weights
            Pixel weights on the part of the image that has any.
        """
        regions: Sequence[Limits | BoxedLimits]
        if self.src_coeff is None:
            regions = self.regions(wavelength, trace, offset)
        else:
            regions = boxed_regions(
                "src_coeff", self.src_coeff, self.independent_var, wavelength, offset
            )
        weights = union([region_weights(limits, wavelength.shape) for limits in regions])
        rows = wavelength.shape[0]
        first = 0 if self.ystart is None else int(np.ceil(self.ystart))
        last = rows - 1 if self.ystop is None else int(np.floor(self.ystop))
        return replace(weights, **_cut_rows(weights, first, min(last + 1, rows)))


def _trace_terms(center: ArrayLike, wavelength: ArrayLike | None) -> NDArray[np.float64]:
    """A trace as a polynomial of the wavelength that is right to 0.01 column."""
    trace = np.asarray(center, dtype=float)
    if wavelength is None:
        raise ReferenceFileError("wavelength is missing, expected that of each row of the trace")
    waves = np.asarray(wavelength, dtype=float)
    known = np.isfinite(trace) & np.isfinite(waves) if trace.shape == waves.shape else None
    if trace.ndim != 1 or known is None or known.sum() < 2:
        raise ReferenceFileError(
            f"center has shape {trace.shape} and wavelength {waves.shape}, expected a number, or a "
            "column and a wavelength for each row"
        )
    terms = trace[known].mean(keepdims=True)
    for degree in range(10):
        terms = Polynomial.fit(waves[known], trace[known], degree).convert().coef
        if np.abs(polyval(waves[known], terms) - trace[known]).max() < 0.01:
            break
    return terms


def _cut_rows(weights: Weights, first: int, stop: int) -> dict[str, Any]:
    first, stop = max(first, weights.rows.start), min(stop, weights.rows.stop)
    stop = max(first, stop)
    values = weights.values
    if not weights.uniform:
        values = values[first - weights.rows.start : stop - weights.rows.start]
    elif stop == first:
        values = values[:0]
    return {"rows": slice(first, stop), "values": values}


def polynomial_regions(
    key: str,
    coefficients: Coefficients,
    variable: str,
    wavelength: NDArray[Any],
    offset: float = 0.0,
) -> list[Limits]:
    """Inclusive limits of the regions between pairs of polynomial edges.

    Parameters
    ----------
    key : str
        How a message calls the coefficients.
    coefficients : tuple of tuple of float
        Lower, upper, lower, upper, ... edge, constant term first.
    variable : {"pixel", "wavelength"}
        What the polynomials are functions of.
    wavelength : ndarray
        Wavelength of each pixel in micron, shape (row, column).
    offset : float
        Columns to move the edges by.

    Returns
    -------
    list of Limits
        Scalars (constant edges), shape (row, 1) or shape (row, column).

    Raises
    ------
    ApertureError
        If somewhere the edges enclose less than a pixel, or cross.
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
    """As `polynomial_regions`, on the part of an image alone that has wavelengths.

    Returns
    -------
    list of Limits or BoxedLimits
        What `region_weights` takes. `BoxedLimits` where every pixel has limits of its own.
    """
    pairs = zip(coefficients[::2], coefficients[1::2], strict=True)
    if max(map(len, coefficients)) == 1:  # straight edges, which were checked when they were given
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
        narrow = limits.upper - limits.lower < -_ROUNDING
        if narrow.any():
            at = np.argwhere(narrow)[0]
            first = 0 if box is None else box[0].start
            row = f" at row {first + at[0]}" if at.size else ""
            width = float((limits.upper - limits.lower)[tuple(at)]) + 1.0
            raise ApertureError(
                f"{key} {list(lower)} to {list(upper)} is {width:.3g} pixels wide{row}, "
                "expected at least 1 (lower edge first)"
            )
        regions.append(limits if box is None else BoxedLimits(*limits, *box))
    return regions


def _one_a_row(wavelength: NDArray[Any]) -> NDArray[Any]:
    """The wavelengths of the first column, shape (row, 1), if those of all others are the same."""
    if wavelength.strides[-1] != wavelength.itemsize:
        return wavelength
    bits = np.asarray(wavelength).view(f"u{wavelength.itemsize}")  # of any byte order; NaN as well
    return wavelength[:, :1] if (bits == bits[:, :1]).all() else wavelength


def _known_box(wavelength: NDArray[Any]) -> tuple[slice, slice]:
    """The rows and columns that hold all pixels with a wavelength."""
    known = ~np.isnan(wavelength)  # an infinite one makes an infinite limit
    rows = np.flatnonzero(known.any(axis=1))
    if rows.size == 0:
        return slice(0, 0), slice(0, 0)
    columns = np.flatnonzero(known[rows[0] : rows[-1] + 1].any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def region_weights(
    limits: Limits | BoxedLimits, shape: tuple[int, ...], partial: bool = True
) -> Weights:
    """Weights of one region, on the columns that it reaches.

    Parameters
    ----------
    limits : Limits or BoxedLimits
        Inclusive limits; where they are NaN there is no weight.
    shape : (int, int)
        Rows and columns of the image.
    partial : bool
        Whether pixels may be covered in part.
    """
    rows, columns = shape
    span = _span(limits, shape)
    if span is None:
        return Weights(slice(0, rows), slice(0, 0), np.zeros((1, 0)), np.nan, np.nan)
    left = min(max(math.floor(span.first), 0), columns)
    right = min(max(math.ceil(span.last) + 1, left), columns)
    if limits.lower.ndim == limits.upper.ndim == 0:
        index = np.arange(left, right, dtype=float)
        values = limit_weights(index, Limits(limits.lower, limits.upper), partial)[np.newaxis]
        return Weights(slice(0, rows), slice(left, right), values, span.lower, span.upper)
    box = slice(0, rows), slice(0, columns)
    if isinstance(limits, BoxedLimits):
        box = limits.rows, limits.columns
    start, stop = max(left, box[1].start), min(right, box[1].stop)
    values = np.zeros((rows, right - left))
    if start < stop:
        inside = values[box[0], start - left : stop - left]
        index = np.arange(start, stop, dtype=float)
        width = box[1].stop - box[1].start
        cut = Limits(
            *(
                _cut_columns(edge, start - box[1].start, stop - box[1].start, width)
                for edge in (limits.lower, limits.upper)
            )
        )
        # Some rows at a time: on the way numpy takes several times the memory of the result.
        step = max(_BLOCK_PIXELS // index.size, 1)
        for first in range(0, len(inside), step):
            part = slice(first, first + step)
            some = Limits(*(edge[part] if edge.ndim else edge for edge in cut))
            inside[part] = limit_weights(index, some, partial)
    return Weights(slice(0, rows), slice(left, right), values, span.lower, span.upper)


def union(parts: list[Weights]) -> Weights:
    """Weights of all regions together: their maximum; the outermost of their limits."""
    if len(parts) == 1:
        return parts[0]
    some = [part for part in parts if part.values.size] or parts
    left = min(part.columns.start for part in some)
    right = max(part.columns.stop for part in some)
    values = np.zeros((max(part.values.shape[0] for part in some), right - left))
    for part in some:
        target = values[:, part.columns.start - left : part.columns.stop - left]
        np.maximum(target, part.values, out=target)
    lower, upper = [part.lower for part in parts], [part.upper for part in parts]
    if any(map(math.isnan, lower)):
        return Weights(some[0].rows, slice(left, right), values, np.nanmin(lower), np.nanmax(upper))
    return Weights(some[0].rows, slice(left, right), values, min(lower), max(upper))


class _Span(NamedTuple):
    """Mean lower and upper limit, the least lower and the largest upper one."""

    lower: float
    upper: float
    first: float
    last: float


def _span(limits: Limits | BoxedLimits, shape: tuple[int, ...]) -> _Span | None:
    """How far limits reach, NaN left out; None where they are all NaN."""
    if limits.lower.ndim == 0 and limits.upper.ndim == 0:
        lower, upper = float(limits.lower), float(limits.upper)
        return _Span(lower, upper, lower, upper)
    if not (np.isfinite(limits.lower).any() and np.isfinite(limits.upper).any()):
        return None
    return _Span(
        _mean(limits, limits.lower, shape),
        _mean(limits, limits.upper, shape),
        float(np.nanmin(limits.lower)),
        float(np.nanmax(limits.upper)),
    )


def _mean(limits: Limits | BoxedLimits, edge: NDArray[Any], shape: tuple[int, ...]) -> float:
    """The mean over the image, NaN left out; of a part to the last digit that of the whole."""
    if not isinstance(limits, BoxedLimits):
        return float(np.nanmean(edge))
    missing = np.isnan(edge)
    whole = np.zeros(shape)  # numpy adds up in an order that depends on the shape
    whole[limits.rows, limits.columns] = np.where(missing, 0.0, edge)
    return float(whole.sum() / (edge.size - np.count_nonzero(missing)))


def _cut_columns(edge: NDArray[Any], left: int, right: int, columns: int) -> NDArray[Any]:
    """The columns of an edge that has one value for each pixel."""
    return (
        edge[:, left:right] if edge.ndim == 2 and edge.shape[1] == columns and columns > 1 else edge
    )


def weighted_sum(values: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum values times weights over columns, in double precision.

    Parameters
    ----------
    values : ndarray
        Shape (..., row, column), of any precision.
    weights : ndarray
        Shape (row, column), or (1, column) where all rows are alike.
    """
    double = values.astype(float, copy=False)  # less memory than einsum's own buffers
    if weights.shape[0] == 1:
        return double @ weights[0]
    return np.einsum("...c,...c->...", double, weights)


def shift_coefficients(coefficients: Coefficients | None, offset: float) -> Coefficients | None:
    """Move polynomial edges by `offset` columns."""
    if coefficients is None:
        return None
    return tuple((edge[0] + offset, *edge[1:]) for edge in coefficients)


def check_number(key: str, value: object) -> float:
    """Return a finite number as float, or raise `ReferenceFileError` that names the key."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ReferenceFileError(f"{key} is {value!r}, expected a number")
    if not np.isfinite(float(value)):
        raise ReferenceFileError(f"{key} is {value!r}, expected a finite number")
    return float(value)


def check_coefficients(key: str, value: object) -> Coefficients | None:
    """Return pairs of polynomials as nested tuples, or raise an error that names the key."""
    if value is None:
        return None
    form = "[[lower c0, c1, ...], [upper c0, c1, ...], ...]"
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ReferenceFileError(f"{key} is {value!r}, expected {form}")
    if len(value) == 0 or len(value) % 2:
        raise ReferenceFileError(f"{key} has {len(value)} edges, expected pairs: {form}")
    edges = []
    for number, edge in enumerate(value):
        if isinstance(edge, str) or not isinstance(edge, Sequence) or len(edge) == 0:
            raise ReferenceFileError(
                f"{key}[{number}] is {edge!r}, expected a list of coefficients"
            )
        edges.append(tuple(check_number(f"{key}[{number}]", item) for item in edge))
    for number, (lower, upper) in enumerate(zip(edges[::2], edges[1::2], strict=True)):
        if len(lower) == len(upper) == 1 and upper[0] - lower[0] < 1 - _ROUNDING:
            raise ReferenceFileError(
                f"{key} region {number + 1} goes from {lower[0]:g} to {upper[0]:g}, expected the "
                "lower edge first and at least 1 pixel between them"
            )
    return tuple(edges)


def check_variable(value: object) -> Literal["pixel", "wavelength"]:
    """Return what polynomials are functions of; any word that starts with "wavelength" is that."""
    if isinstance(value, str):
        if value.lower().startswith("wavelength"):
            return "wavelength"
        if value.lower() == "pixel":
            return "pixel"
    raise ReferenceFileError(f"independent_var is {value!r}, expected 'pixel' or 'wavelength'")
