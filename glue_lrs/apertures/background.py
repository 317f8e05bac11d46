"""Background regions next to the source, and the background model fitted to their pixels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from astropy.convolution import convolve
from astropy.utils.exceptions import AstropyUserWarning
from numpy.typing import NDArray

from glue_lrs._utils.validation import check_number, check_pixels
from glue_lrs.apertures.background_fit import BackgroundFit, fit_median, fit_polynomial
from glue_lrs.apertures.edges import (
    Coefficients,
    boxed_regions,
    check_coefficients,
    check_variable,
    shift_coefficients,
)
from glue_lrs.apertures.weights import Weights, region_weights, union
from glue_lrs.errors import ApertureError, Hint, LRSWarning, ReferenceFileError, quoted, warn
from glue_lrs.spectra.findings import Finding

#: Largest accepted `bkg_order`. The limit only avoids useless computation: even on all columns of
#: the detector, fits of order 15 and higher are ill-conditioned, and the background is then 0, as
#: in the pipeline.
HIGHEST_ORDER = 100

#: Largest `smoothing_length` in rows, with which the running mean in every row extends over all
#: 1024 rows of the detector.
_LONGEST_SMOOTHING = 2047


@dataclass(frozen=True, kw_only=True)
class Background:
    """Background model, which is fitted in each row to the pixels in regions next to the source.

    Parameters
    ----------
    bkg_coeff : sequence of sequences of float
        Polynomial coefficients of the lower and upper edge of each region, constant term first. The
        edges are positions on an axis on which pixel i covers i - 0.5 to i + 0.5.
    bkg_fit : {"poly", "median", "mean"}
        Background in a row: polynomial along the slit that is fitted by unweighted least squares,
        median of the pixels, or mean of the pixels (a polynomial of order 0).
    bkg_order : int
        Order of the polynomial, at most 100.
    smoothing_length : int
        Number of rows in the running mean that is applied along the dispersion before the fit: 0
        for no smoothing, else an odd number of at least 3 and less than twice the number of rows of
        the image.
    independent_var : {"pixel", "wavelength"}
        Independent variable of the edge polynomials: the row number, or the wavelength in micron.

    Raises
    ------
    ReferenceFileError
        If a value is invalid.

    Notes
    -----
    The rules are the same as in the JWST pipeline's ``extract_1d``. A polynomial is fitted with
    equal weights to all pixels that are at least partly within a region. A median uses only pixels
    that are fully within a region. As in the pipeline, its standard deviation is assumed to be 1.2
    times the standard deviation of the mean.
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
        """Return a background with straight regions between the given edge positions.

        Parameters
        ----------
        *edges : (float, float)
            Positions of the lower and upper edge of each region. Pixel i covers i - 0.5 to i + 0.5.
        **kwargs
            Other parameters of `Background`.

        Returns
        -------
        Background
            Background with `bkg_coeff`.
        """
        return cls(bkg_coeff=tuple((float(e),) for pair in edges for e in pair), **kwargs)

    @property
    def order(self) -> int:
        """Order of the polynomial that is fitted along the slit, 0 for a median."""
        return self.bkg_order if self.bkg_fit == "poly" else 0

    def shifted(self, offset: float) -> Background:
        """Return the background with its regions shifted by `offset` columns."""
        moved = shift_coefficients(self.bkg_coeff, offset)
        return replace(self, bkg_coeff=moved)  # type: ignore[arg-type]

    def weights(
        self,
        wavelength: NDArray[Any],
        offset: float = 0.0,
        findings: list[Finding] | None = None,
    ) -> Weights:
        """Return the pixel weights of the regions on an image.

        If regions overlap, the weight of a pixel is the maximum over the regions.

        Parameters
        ----------
        wavelength : ndarray
            Wavelength of each pixel in micron, shape (row, column).
        offset : float
            Shift of the regions in columns.
        findings : list of Finding, optional
            List to which findings about regions that are not completely on the image are appended.
            If None, they are issued as warnings.

        Returns
        -------
        Weights
            Pixel weights on the columns that the regions cover.

        Raises
        ------
        ApertureError
            If no region has a pixel on the image, the upper edge of a region is less than a pixel
            above the lower edge, or `smoothing_length` is at least twice the number of rows.

        Warns
        -----
        OffImageWarning
            If a region has no pixel on the image although another region has, or if a region
            extends beyond the image.
        """
        rows = wavelength.shape[0]
        if self.smoothing_length >= 2 * rows > 2:
            raise ApertureError(
                f"smoothing_length is {self.smoothing_length}, expected at most {2 * rows - 1} for "
                f"an image of {rows} rows"
            )
        partial = self.bkg_fit != "median"
        regions = boxed_regions(
            "bkg_coeff", self.bkg_coeff, self.independent_var, wavelength, offset
        )
        each = [region_weights(region, wavelength.shape, partial) for region in regions]
        weights = union(each)
        columns = wavelength.shape[1]
        found = []
        for one, region in zip(each, regions, strict=True):
            span = f"{one.lower:.2f} to {one.upper:.2f}"
            if weights.empty:
                shifted = f", shifted by {offset:+.2f} with the aperture" if offset else ""
                hint = Hint.to("{} shifts only the aperture", fixed_background=True)
                raise ApertureError(
                    f"no background region (columns {span}{shifted}) has a pixel on the image, "
                    f"whose columns are 0 to {columns - 1}",
                    subject="bkg_coeff",
                    hint=hint if offset else None,
                )
            empty = one.empty
            reached = np.isfinite(region.lower) & np.isfinite(region.upper)
            low = region.lower.min(where=reached, initial=0.0)
            high = region.upper.max(where=reached, initial=0.0)
            if empty or low < -1 or high > columns:
                how = "has no pixel on" if empty else "reaches beyond"
                found.append(
                    Finding(
                        "off_image",
                        f"the background region {span} {how} the image, whose columns are 0 to "
                        f"{columns - 1}",
                        {"lower": one.lower, "upper": one.upper, "columns": columns},
                    )
                )
        if findings is None:
            for one_finding in found:
                warn(one_finding.message)
        else:
            findings += found
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
        """Fit the background of a block of rows.

        Parameters
        ----------
        data : ndarray
            Pixels in the background columns, shape (..., row, column). Invalid pixels must be NaN.
        region : ndarray of bool
            Mask of the pixels within a region, shape (row, column) or (1, column).
        invalid : ndarray of bool
            Mask of the pixels whose value or variance is not finite, with the shape of `data`.
        x : ndarray
            Coordinate of each column, which increases from -1 to 1 across the full image. It is
            used only for polynomials of order 1 or higher.
        aperture : ndarray
            Sum over the aperture of the weights times x^i for i = 0 ... `bkg_order`, shape
            (row, order + 1) or (1, order + 1).
        smoothed : ndarray, optional
            Result of `smooth` for `data`. If given, it is fitted instead of `data`.

        Returns
        -------
        BackgroundFit
            Fitted background, and the derivative of its sum over the aperture with respect to each
            pixel.
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
        """Return the running mean over `smoothing_length` rows in each column.

        NaN values are ignored. Beyond the edges of `data`, its first and last row are repeated.

        Parameters
        ----------
        data : ndarray
            Pixels, shape (..., row, column). Invalid pixels must be NaN.

        Returns
        -------
        ndarray
            Smoothed pixels with the same shape and dtype, NaN where all averaged pixels are NaN.
        """
        length = self.smoothing_length
        kernel = np.ones((1,) * (data.ndim - 2) + (length, 1)) / length
        # astropy divides by the sum of the kernel only if the array contains NaN. This changes
        # rounding errors. The pipeline smooths the whole image, which has NaN at the edges of the
        # slit. A second column of NaN gives the same results here.
        pair = np.full((*data.shape[:-1], 2), np.nan, dtype=data.dtype)
        smoothed = np.empty_like(data)
        with warnings.catch_warnings():
            # astropy warns that NaN remain in the second column.
            warnings.simplefilter("ignore", AstropyUserWarning)
            for column in range(data.shape[-1]):  # one by one, because astropy needs much memory
                pair[..., 0] = data[..., column]
                smoothed[..., column] = convolve(pair, kernel, boundary="extend")[..., 0]
        return smoothed


def check_fit(fit: object, order: object) -> tuple[Literal["poly", "median"], int]:
    """Validate the type and the order of a background fit, and return them.

    ``"mean"``, which the pipeline does not have, is replaced by ``"poly"`` with the order 0.
    """
    if fit not in ("poly", "median", "mean"):
        raise ReferenceFileError(
            f"bkg_fit is {quoted(fit)}, expected 'mean', 'median', 'poly' or null"
        )
    number = check_number("bkg_order", order)
    if number != int(number) or number < 0:
        raise ReferenceFileError(
            f"bkg_order is {quoted(order)}, expected a whole number of 0 or more"
        )
    if number > HIGHEST_ORDER:
        raise ReferenceFileError(f"bkg_order is {quoted(order)}, expected at most {HIGHEST_ORDER}")
    if fit == "mean":
        return "poly", 0
    return fit, int(number)  # type: ignore[return-value]


def check_smoothing(length: object) -> int:
    """Return the number of rows that the pipeline would use for a requested smoothing length.

    It is 0 or an odd number of at least 3.

    Warns
    -----
    LRSWarning
        If it differs from the requested length.
    """
    number = check_pixels("smoothing_length", length)
    if number > _LONGEST_SMOOTHING:
        raise ReferenceFileError(
            f"smoothing_length is {quoted(length)}, expected at most {_LONGEST_SMOOTHING}"
        )
    rounded = round(number)
    used = 0 if rounded < 3 else rounded - (rounded % 2 == 0)
    if used != number:
        warn(
            LRSWarning(
                f"smoothing_length is {number:g}, expected 0 or an odd whole number of at least 3; "
                f"{used} is used, as in the pipeline"
            )
        )
    return used
