"""Background: regions beside the source and a fit -> the background under an aperture."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from glue_lrs.aperture import (
    Coefficients,
    Weights,
    boxed_regions,
    check_coefficients,
    check_number,
    check_variable,
    region_weights,
    shift_coefficients,
    union,
    weighted_sum,
)
from glue_lrs.errors import ApertureError, LRSWarning, ReferenceFileError

__all__ = ["Background", "BackgroundFit"]

#: The pipeline's estimate of the standard deviation of a median over that of a mean.
MEDIAN_FACTOR = 1.2
#: Normal matrices with a larger condition number are not solved; the background is 0 there.
MAX_CONDITION = 1e10
#: Columns of variances that are summed at once.
_SPREAD_COLUMNS = 24
#: Up to this condition number it does not matter in what order numbers are summed.
SAFE_CONDITION = 1e4


class BackgroundFit(NamedTuple):
    """The background of a block of rows, and what its sum over the aperture owes to each pixel.

    Parameters
    ----------
    coefficients : ndarray or None
        Polynomial coefficients in x, which goes from -1 to 1 over the columns of the image; shape
        (..., row, order + 1). None for the median.
    level : ndarray or None
        The median, shape (..., row). None for a polynomial.
    used : ndarray of bool
        The pixels that it was estimated from, shape (..., row, column).
    response : ndarray
        K: how the background summed over the aperture responds to each pixel that is used. Shape
        (..., row, column), or (..., row, 1) where it is the same for all.
    empty : ndarray of bool
        Rows without any background, shape (..., row).
    """

    coefficients: NDArray[np.float64] | None
    level: NDArray[Any] | None
    used: NDArray[np.bool_]
    response: NDArray[np.float64]
    empty: NDArray[np.bool_]

    def variance(self, variance: NDArray[Any]) -> NDArray[np.float64]:
        """Variance of the background summed over the aperture: sum K^2 var.

        Parameters
        ----------
        variance : ndarray
            Variance of each pixel of the window, shape (..., row, column). It is used up: pixels
            that are not used become 0.
        """
        np.copyto(variance, 0.0, where=~self.used)
        return spread(variance, np.square(self.response))


def spread(variance: NDArray[Any], gain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of variances times squared responses over the columns.

    Parameters
    ----------
    variance : ndarray
        Shape (..., row, column), 0 at pixels that are not used.
    gain : ndarray
        Squares of `BackgroundFit.response`.
    """
    width = variance.shape[-1]
    if width > _SPREAD_COLUMNS:  # double precision takes memory: some columns at a time
        half = width // 2
        return spread(variance[..., :half], gain[..., :half]) + spread(
            variance[..., half:], gain[..., -1:] if gain.shape[-1] == 1 else gain[..., half:]
        )
    part = variance.astype(float)
    if gain.shape[-1] > 1:
        return np.einsum("...c,...c->...", part, gain)
    total = weighted_sum(part, np.ones((1, width)))
    total *= gain[..., 0]
    return total


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
            return _fit_median(values, region, invalid, aperture[:, 0])
        used = ~invalid
        if not region.all():
            used &= region
        if smoothed is not None:
            used &= np.isfinite(smoothed)
        return _fit_polynomial(values, used, x, aperture, self.bkg_order)

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


def _fit_median(
    values: NDArray[Any],
    region: NDArray[np.bool_],
    invalid: NDArray[np.bool_],
    aperture: NDArray[np.float64],
) -> BackgroundFit:
    whole = bool(region.all())
    ordered = values.copy() if whole else np.where(region, values, values.dtype.type(np.nan))
    ordered.sort(axis=-1)  # NaN last
    width = ordered.shape[-1]
    if np.isnan(ordered[..., -1]).any():
        number = _count(~np.isnan(ordered))
        low, high = np.maximum(number - 1, 0) // 2, np.minimum(number // 2, width - 1)
        start = np.arange(0, ordered.size, width).reshape(number.shape)
        flat = ordered.reshape(-1)
        level, empty = _middle(flat.take(start + low), flat.take(start + high)), number == 0
        del flat
    else:
        level = _middle(ordered[..., (width - 1) // 2], ordered[..., width // 2])
        empty = np.zeros(level.shape, dtype=bool)
    del ordered
    used = ~invalid
    if not whole:
        used &= region
    scale = MEDIAN_FACTOR * aperture / np.maximum(_count(used), 1)
    return BackgroundFit(None, level, used, scale[..., np.newaxis], empty)


def _count(used: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Number of pixels that are used in each row; made for there being few that are not."""
    width = used.shape[-1]
    missing = np.flatnonzero(~used)
    missing //= width
    return (width - np.bincount(missing, minlength=used.size // width)).reshape(used.shape[:-1])


def _middle(low: NDArray[Any], high: NDArray[Any]) -> NDArray[Any]:
    """Mean of the two middle values, in the data's own precision as numpy's nanmedian has it."""
    with np.errstate(invalid="ignore"):  # -inf + inf
        return (low + high) / low.dtype.type(2)


def _fit_polynomial(
    values: NDArray[Any],
    used: NDArray[np.bool_],
    x: NDArray[np.float64],
    aperture: NDArray[np.float64],
    order: int,
) -> BackgroundFit:
    target = values.astype(float)
    np.copyto(target, 0.0, where=~used)
    if order == 0:
        mean = weighted_sum(target, np.ones((1, used.shape[-1])))
        del target
        count = _count(used)
        inverse = np.divide(1.0, count, out=np.zeros(count.shape), where=count > 0)
        mean *= inverse
        response = (aperture[:, 0] * inverse)[..., np.newaxis]
        return BackgroundFit(mean[..., np.newaxis], None, used, response, count == 0)
    basis = np.vander(x, order + 1, increasing=True)
    which, inverses, condition = _invert(used, basis)
    if condition.max() < SAFE_CONDITION:
        projected = target @ basis
    else:
        # Summed column by column like the normal matrices: what a condition number multiplies are
        # then the pipeline's own rounding errors.
        projected = np.einsum("...ji,...j->...i", basis, target)
    del target
    coefficients = np.einsum("...ij,...j->...i", inverses[which], projected)
    if len(aperture) == 1:  # once for each pattern
        response = (np.einsum("pij,i->pj", inverses, aperture[0]) @ basis.T)[which]
    else:
        by_order = np.einsum("...ij,...i->...j", inverses[which], aperture)
        response = by_order @ basis.T
    empty = (condition >= MAX_CONDITION)[which]
    return BackgroundFit(coefficients, None, used, response, empty)


def _invert(
    used: NDArray[np.bool_], basis: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Inverse normal matrices, zero where they are ill-conditioned.

    Most rows use the same pixels: the matrix of each pattern is inverted once. Returned are the
    number of each row's pattern, the inverse of each pattern, and its condition number.
    """
    rows = used.reshape(-1, used.shape[-1])
    bits = np.packbits(rows, axis=1)
    patterns = np.zeros((len(bits), -(-bits.shape[1] // 8) * 8), dtype=np.uint8)
    patterns[:, : bits.shape[1]] = bits
    words = patterns.view(np.uint64)
    # A single word is found many times faster than a row of them.
    axis = None if words.shape[1] == 1 else 0
    _, first, which = np.unique(words, axis=axis, return_index=True, return_inverse=True)
    matrices = np.empty((first.size, basis.shape[1], basis.shape[1]))
    step = max(len(rows) // 8, 16)  # patterns at once: as many as rows would take much memory
    for start in range(0, first.size, step):
        masked = basis * rows[first[start : start + step]][..., np.newaxis]
        np.einsum("lji,ljk->lik", masked, masked, out=matrices[start : start + step])
        del masked
    with np.errstate(divide="ignore", invalid="ignore"):
        condition = np.linalg.cond(matrices)
    condition[np.isnan(condition)] = np.inf
    solvable = condition < MAX_CONDITION
    inverses = np.zeros_like(matrices)
    inverses[solvable] = np.linalg.inv(matrices[solvable])
    return which.reshape(used.shape[:-1]), inverses, condition


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
