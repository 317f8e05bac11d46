"""Background: regions beside the source and a fit -> the background under an aperture."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from glue_lrs._utils.validation import check_number
from glue_lrs.apertures.background_fit import fit_median, fit_polynomial
from glue_lrs.apertures.edges import (
    boxed_regions,
    check_coefficients,
    check_variable,
    shift_coefficients,
)
from glue_lrs.apertures.weights import region_weights, union
from glue_lrs.errors import ApertureError, LRSWarning, ReferenceFileError

if TYPE_CHECKING:
    from glue_lrs.apertures.background_fit import BackgroundFit
    from glue_lrs.apertures.edges import Coefficients
    from glue_lrs.apertures.weights import Weights

__all__ = ["Background", "check_fit"]


@dataclass(frozen=True, kw_only=True)
class Background:
    """Regions beside the source and how the background is estimated from them, row by row.

    Parameters
    ----------
    bkg_coeff : sequence of sequences of float
        Polynomial coefficients of the regions' edges, constant term first, pairs of lower and upper
        edge, as positions: pixel i reaches from i - 0.5 to i + 0.5.
    bkg_fit : {"poly", "median", "mean"}
        Unweighted least squares with a polynomial across the slit, or the median. ``"mean"`` is a
        polynomial of order 0.
    bkg_order : int
        Order of the polynomial.
    smoothing_length : int
        Rows of a running mean that is taken along the dispersion first; odd and at least 3, or 0.
    independent_var : {"pixel", "wavelength"}
        Whether the edges are functions of the row number or of the wavelength in micron.

    Raises
    ------
    ReferenceFileError
        If a value is not what is listed here.

    Notes
    -----
    The rules are those of the JWST pipeline's ``extract_1d``: every pixel that a region touches
    counts fully in a polynomial; for the median only pixels that lie within a region count; the
    standard deviation of the median is taken to be 1.2 times that of the mean.
    """

    bkg_coeff: Coefficients
    bkg_fit: Literal["poly", "median"] = "poly"
    bkg_order: int = 0
    smoothing_length: int = 0
    independent_var: Literal["pixel", "wavelength"] = "pixel"

    def __post_init__(self) -> None:
        coefficients = check_coefficients("bkg_coeff", self.bkg_coeff)
        if coefficients is None:
            raise ReferenceFileError("bkg_coeff is missing, expected pairs of edges")
        object.__setattr__(self, "bkg_coeff", coefficients)
        object.__setattr__(self, "independent_var", check_variable(self.independent_var))
        fit, order = check_fit(self.bkg_fit, self.bkg_order)
        object.__setattr__(self, "bkg_fit", fit)
        object.__setattr__(self, "bkg_order", order)
        object.__setattr__(self, "smoothing_length", check_smoothing(self.smoothing_length))

    @classmethod
    def from_edges(cls, *edges: tuple[float, float], **kwargs: Any) -> Background:
        """Make a background from the positions of the edges of straight regions.

        Parameters
        ----------
        *edges : (float, float)
            Lower and upper edge of each region; pixel i reaches from i - 0.5 to i + 0.5.
        **kwargs
            Other parameters of `Background`.
        """
        return cls(bkg_coeff=tuple((float(e),) for pair in edges for e in pair), **kwargs)

    def shifted(self, offset: float) -> Background:
        """Return the background with its regions moved by `offset` columns."""
        moved = shift_coefficients(self.bkg_coeff, offset)
        return replace(self, bkg_coeff=moved)  # type: ignore[arg-type]

    def weights(self, wavelength: NDArray[Any], offset: float = 0.0) -> Weights:
        """Weights of the pixels of the regions: their maximum, cut to the columns that have any.

        Parameters
        ----------
        wavelength : ndarray
            Wavelength of each pixel in micron, shape (row, column).
        offset : float
            Columns to move the regions by.

        Raises
        ------
        ApertureError
            If no region has any pixel on the image, or edges cross.

        Warns
        -----
        LRSWarning
            If one of several regions has no pixel on the image, or reaches beyond it.
        """
        partial = self.bkg_fit != "median"
        regions = boxed_regions(
            "bkg_coeff", self.bkg_coeff, self.independent_var, wavelength, offset
        )
        each = [region_weights(region, wavelength.shape, partial) for region in regions]
        weights = union(each)
        columns = wavelength.shape[1]
        for one, region in zip(each, regions, strict=True):
            span = f"{one.lower:.2f} to {one.upper:.2f}"
            if weights.empty:
                moved = (
                    f", moved by {offset:+.2f} with the aperture (fixed_background=True leaves it "
                    "where it was drawn),"
                    if offset
                    else ""
                )
                raise ApertureError(
                    f"bkg_coeff: no background region (columns {span}{moved}) has a pixel on the "
                    f"image, whose columns are 0 to {columns - 1}"
                )
            empty = one.empty
            reached = np.isfinite(region.lower) & np.isfinite(region.upper)
            low = region.lower.min(where=reached, initial=0.0)
            high = region.upper.max(where=reached, initial=0.0)
            if empty or low < -1 or high > columns:
                how = "has no pixel on" if empty else "reaches beyond"
                warnings.warn(
                    f"the background region {span} {how} the image, whose columns are 0 to "
                    f"{columns - 1}",
                    LRSWarning,
                    stacklevel=2,
                )
        return weights

    def fit(
        self,
        data: NDArray[Any],
        region: NDArray[np.bool_],
        invalid: NDArray[np.bool_],
        x: NDArray[np.float64],
        aperture: NDArray[np.float64],
        smoothed: NDArray[Any] | None = None,
    ) -> BackgroundFit:
        """Estimate the background of a block of rows.

        Parameters
        ----------
        data : ndarray
            Pixels of the background's window, shape (..., row, column), invalid ones NaN.
        region : ndarray of bool
            Which pixels belong to a region, shape (row, column) or (1, column).
        invalid : ndarray of bool
            Pixels without a finite value and variance, of the shape of `data`.
        x : ndarray
            Coordinate of each column of the window: from -1 to 1 over the whole image. Only
            polynomials of order 1 or more look at it.
        aperture : ndarray
            Sum of the aperture's weights times x^i, i = 0 ... `bkg_order`; shape (row, order + 1)
            or (1, order + 1).
        smoothed : ndarray, optional
            Smoothed pixels that take the place of `data` where there is smoothing.

        Returns
        -------
        BackgroundFit
            The background and how its sum over the aperture responds to the pixels.
        """
        values = data if smoothed is None else smoothed
        if self.bkg_fit == "median":
            return fit_median(values, region, invalid, aperture[:, 0])
        used = ~invalid
        if not region.all():
            used &= region
        if smoothed is not None:
            used &= np.isfinite(smoothed)
        return fit_polynomial(values, used, x, aperture, self.bkg_order)

    def smooth(self, data: NDArray[Any]) -> NDArray[Any]:
        """Running mean along the rows, NaN skipped, edge rows replicated; of the dtype of `data`.

        Parameters
        ----------
        data : ndarray
            Pixels, shape (..., row, column); NaN where there is none.

        Returns
        -------
        ndarray
            NaN only where a whole window is.
        """
        kernel = np.ones(self.smoothing_length)
        missing = np.isnan(data)
        values = data.copy()
        np.copyto(values, 0, where=missing)
        total = ndimage.correlate1d(values, kernel, axis=-2, mode="nearest")
        np.logical_not(missing, out=missing)
        values[...] = missing
        count = ndimage.correlate1d(values, kernel, axis=-2, mode="nearest")
        with np.errstate(invalid="ignore", divide="ignore"):
            total /= np.round(count, out=count)
        return total


def check_fit(fit: object, order: object) -> tuple[Literal["poly", "median"], int]:
    """Return the pipeline's pair of fit and order; ``"mean"`` is a polynomial of order 0."""
    if fit not in ("poly", "median", "mean"):
        raise ReferenceFileError(f"bkg_fit is {fit!r}, expected 'mean', 'median', 'poly' or null")
    number = check_number("bkg_order", order)
    if number != int(number) or number < 0:
        raise ReferenceFileError(f"bkg_order is {order!r}, expected a whole number of 0 or more")
    if fit == "mean":
        return "poly", 0
    return fit, int(number)  # type: ignore[return-value]


def check_smoothing(length: object) -> int:
    """Return the smoothing length that the pipeline uses: odd and at least 3, or 0.

    Warns
    -----
    LRSWarning
        If that is not the length asked for.
    """
    number = check_number("smoothing_length", length)
    whole = round(number)
    used = 0 if whole < 3 else whole - (whole % 2 == 0)
    if used != number:
        warnings.warn(
            f"smoothing_length is {number:g}, expected an odd whole number of at least 3 or 0; "
            f"{used} is used, as in the pipeline",
            LRSWarning,
            stacklevel=2,
        )
    return used
