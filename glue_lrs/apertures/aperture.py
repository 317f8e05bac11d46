"""Aperture: pairs of edges across the slit -> fractional pixel weights.

Two conventions for the position of an edge live side by side in EXTRACT1D references:

* *limits* (``xstart``, ``xstop``, ``extract_width``) are inclusive pixel numbers: 27 to 34 means
  the eight pixels 27, 28, ... 34, whole;
* *coefficients* (``src_coeff``, ``bkg_coeff``) are positions on a continuous axis on which pixel i
  reaches from i - 0.5 to i + 0.5: the same eight pixels are 26.5 to 34.5.

A limit is the position of a lower edge plus 0.5, or of an upper edge minus 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.polynomial.polynomial import polyadd, polyfit, polysub
from numpy.typing import ArrayLike, NDArray

from glue_lrs._utils.polynomials import trace_terms
from glue_lrs._utils.validation import check_number
from glue_lrs.apertures.edges import (
    ROUNDING,
    Limits,
    boxed_regions,
    check_coefficients,
    check_variable,
    polynomial_regions,
    shift_coefficients,
)
from glue_lrs.apertures.weights import cut_rows, region_weights, union
from glue_lrs.errors import ApertureError, ReferenceFileError

if TYPE_CHECKING:
    from specutils import Spectrum

    from glue_lrs.apertures.edges import BoxedLimits, Coefficients
    from glue_lrs.apertures.weights import Weights
    from glue_lrs.image.slit_image import SlitImage

__all__ = ["Aperture"]


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
            and self.xstop < self.xstart - ROUNDING
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
            width for all. None: what LRS is expected to have (`glue_lrs.instrument.EXPECTED_FWHM`).
            For a measured one see `glue_lrs.measurement.measurement.Measurement.tapered`.
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
            from glue_lrs.instrument import EXPECTED_FWHM as fwhm  # noqa: N811 - arithmetic beside it
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
            middle = trace_terms(center, wavelength)
        lower, upper = polysub(middle, half).tolist(), polyadd(middle, half).tolist()
        return cls.from_edges(lower, upper, independent_var="wavelength", **kwargs)

    @classmethod
    def at_source(cls, image: SlitImage | Spectrum, width: float) -> Aperture:
        """Make an aperture of a width in columns about the source that is seen in an image.

        Parameters
        ----------
        image : SlitImage or `~specutils.Spectrum`
            The image; its source is measured (`glue_lrs.measurement.measure.measure`).
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
        from glue_lrs.measurement.measure import measure

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
        if stop < start - ROUNDING:
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
        return replace(weights, **cut_rows(weights, first, min(last + 1, rows)))
