"""Aperture: edges along the slit, and the weights of the pixels between them.

EXTRACT1D reference files use two conventions for the position of an edge:

* *Limits* (``xstart``, ``xstop``, ``extract_width``) are inclusive pixel numbers. For example, the
  limits 27 to 34 include the eight full pixels 27, 28, ... 34.
* *Coefficients* (``src_coeff``, ``bkg_coeff``) describe edge positions on a continuous axis on
  which pixel i covers i - 0.5 to i + 0.5. The same eight pixels have the edges 26.5 and 34.5.

A lower limit is equal to the lower edge plus 0.5, and an upper limit to the upper edge minus 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from astropy import units as u
from numpy.polynomial.polynomial import polyadd, polyfit, polysub
from numpy.typing import ArrayLike, NDArray

from glue_lrs._utils.polynomials import trace_terms
from glue_lrs._utils.validation import check_number, check_pixels, without_unit
from glue_lrs.apertures.edges import (
    ROUNDING,
    BoxedLimits,
    Coefficients,
    Limits,
    boxed_regions,
    check_coefficients,
    check_variable,
    polynomial_regions,
    shift_coefficients,
)
from glue_lrs.apertures.weights import Weights, cut_rows, region_weights, union
from glue_lrs.errors import ApertureError, ReferenceFileError, quoted
from glue_lrs.instrument import expected_fwhm


@dataclass(frozen=True, kw_only=True)
class Aperture:
    """Extraction aperture: the region along the slit over which the flux of each row is summed.

    If `src_coeff` is given, it defines the edges. Otherwise, if `extract_width` is given, the
    aperture has this width and is centred on the trace or, without a trace, between `xstart` and
    `xstop`. If neither is given, it extends from `xstart` to `xstop`. All values may be fractional.

    Parameters
    ----------
    xstart, xstop : float, optional
        First and last column (inclusive limits). The default is the first and last column of the
        image.
    ystart, ystop : float, optional
        First and last row to extract. The default is the first and last row of the image.
    extract_width : float, optional
        Width in pixels, at least 1.
    src_coeff : sequence of sequences of float, optional
        Polynomial coefficients of the lower and upper edge of each region, constant term first.
        Edges are half a pixel outside the inclusive limits.
    independent_var : {"pixel", "wavelength"}
        Independent variable of the polynomials: the row number, or the wavelength in micron.

    Raises
    ------
    ReferenceFileError
        If a value is not a number or out of range, if a lower limit is greater than the upper
        limit, or if the number of polynomials is odd.

    See Also
    --------
    Aperture.from_edges : Create an aperture from edge positions instead of inclusive limits.

    Notes
    -----
    The rules are the same as in the JWST pipeline's ``extract_1d`` (``box_profile``).
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
                object.__setattr__(self, key, check_pixels(key, value))
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
        """Return an aperture with the given edge positions.

        Parameters
        ----------
        lower, upper : float or sequence of float
            Position of each edge, or its polynomial coefficients, constant term first. Pixel i
            covers i - 0.5 to i + 0.5.
        **kwargs
            Other parameters of `Aperture`.

        Returns
        -------
        Aperture
            Aperture with `src_coeff`.
        """
        edges = [without_unit(edge) for edge in (lower, upper)]
        pair = [edge if isinstance(edge, u.Quantity) else np.ravel(edge).tolist() for edge in edges]
        return cls(src_coeff=pair, **kwargs)  # type: ignore[arg-type]

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
        """Return an aperture whose width is n times the FWHM at every wavelength.

        Parameters
        ----------
        fwhm : float, (array_like, array_like) or None
            Full width at half maximum in arcsec: one value for all wavelengths, or a tuple of
            wavelengths in micron and the values at these wavelengths. If None, the FWHM expected
            for LRS is used (`glue_lrs.instrument.expected_fwhm`). For a measured FWHM, use
            `glue_lrs.measurement.measurement.Measurement.tapered`.
        n : float
            Width of the aperture in units of the FWHM.
        center : float or array_like
            Central column for all rows, or the trace, which is the central column in each row,
            shape (row,). The trace must be NaN in rows in which it is unknown.
        wavelength : array_like, optional
            Wavelength of each row in micron, shape (row,). Required if `center` is a trace.
        order : int
            Degree of the polynomial that represents the width as a function of the wavelength. It
            is reduced if there are too few widths for it.
        pixel_scale : float
            Pixel scale in arcsec per column.
        **kwargs
            Other parameters of `Aperture`.

        Returns
        -------
        Aperture
            Aperture whose `src_coeff` are polynomials in the wavelength. The edges are the centre
            minus and plus n / 2 times a polynomial that is fitted to the widths by least squares.

        Raises
        ------
        ReferenceFileError
            If a value is invalid.

        Examples
        --------
        The tapered aperture from STScI's LRS extraction notebook is:

        >>> from glue_lrs import Aperture
        >>> widths = (5.0, 7.5, 10.0, 12.0), (0.29, 0.30, 0.36, 0.42)
        >>> aperture = Aperture.tapered(widths, 3, center=30.5)
        >>> print(*(f"{c:.4f}" for edge in aperture.src_coeff for c in edge))
        28.0544 -0.2580 32.9456 0.2580
        """
        for key, value in (("n", n), ("pixel_scale", pixel_scale)):
            if check_number(key, value) <= 0:
                raise ReferenceFileError(
                    f"{key} is {quoted(value)}, expected a number greater than 0"
                )
        if isinstance(order, bool) or not isinstance(order, int | np.integer) or order < 0:
            raise ReferenceFileError(
                f"order is {quoted(order)}, expected a whole number of 0 or more"
            )
        if fwhm is None:
            # LRS range in steps of 0.5 micron. The expected FWHM was measured from 5.5 to 14.
            waves = np.linspace(5.0, 14.0, 19)
            fwhm = waves, expected_fwhm(waves)
        if isinstance(fwhm, tuple | list) and len(fwhm) == 2:
            waves, widths = (np.asarray(values, dtype=float).ravel() for values in fwhm)
        else:
            waves, widths = np.zeros(1), np.array([check_number("fwhm", fwhm, u.arcsec)])
        known = np.isfinite(waves) & np.isfinite(widths) if waves.shape == widths.shape else None
        if known is None or not known.any() or (widths[known] <= 0).any():
            raise ReferenceFileError(
                f"fwhm has {waves.size} wavelengths and {widths.size} widths, expected the "
                "same number of both, and widths greater than 0"
            )
        degree = min(order, int(known.sum()) - 1)
        half = n / 2.0 / pixel_scale * polyfit(waves[known], widths[known], degree)
        if np.ndim(center) == 0:
            middle = np.array([check_pixels("center", center)])
        else:
            middle = trace_terms(center, wavelength)
        lower, upper = polysub(middle, half).tolist(), polyadd(middle, half).tolist()
        return cls.from_edges(lower, upper, independent_var="wavelength", **kwargs)

    def shifted(self, offset: float) -> Aperture:
        """Return the aperture shifted by `offset` columns. Limits that are None remain None."""
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
        """Return the inclusive limits of each region on an image.

        Parameters
        ----------
        wavelength : ndarray
            Wavelength of each pixel in micron, shape (row, column).
        trace : ndarray, optional
            Column of the source in each row, shape (row,), NaN in rows in which it is unknown.
        offset : float
            Shift of the aperture in columns. It also applies to limits that default to the edges of
            the image, but not to an aperture that is centred on a trace.

        Returns
        -------
        list of Limits
            Limits as scalars or as arrays that broadcast to (row, column).

        Raises
        ------
        ApertureError
            If a lower limit is greater than the upper limit anywhere on the image.
        """
        columns = wavelength.shape[1]
        start = (0.0 if self.xstart is None else self.xstart) + offset
        stop = (columns - 1.0 if self.xstop is None else self.xstop) + offset
        if self.src_coeff is not None:
            return polynomial_regions(
                "src_coeff", self.src_coeff, self.independent_var, wavelength, offset
            )
        if self.extract_width is not None:
            middle = np.asarray((start + stop) / 2.0) if trace is None else trace[:, np.newaxis]
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
        """Return the pixel weights of the aperture on an image.

        The parameters and errors are the same as for `regions`. The weight of a pixel is the
        maximum over the regions, and 0 in rows outside ceil(`ystart`) to floor(`ystop`).

        Returns
        -------
        Weights
            Pixel weights on the part of the image that the aperture covers.
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
        return cut_rows(weights, first, min(last + 1, rows))
