"""Fit of a PSF profile's position on an image, as in the pipeline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from glue_lrs.errors import ProductError
from glue_lrs.fitting.least_squares import invert_symmetric, normal
from glue_lrs.image.pixels import read_pixels
from glue_lrs.profiles.psf import read_rows

if TYPE_CHECKING:
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.profiles.psf import PSFProfile


@dataclass(frozen=True, eq=False)
class PSFLocation:
    """Position of a PSF profile on an image, and the profile sampled there.

    Parameters
    ----------
    trace : ndarray
        Expected column of the source in each row of the image, NaN outside the bounding box.
    shift : float
        Fitted shift of the profile in columns. As in the pipeline, positive is to the left.
    nod_offset : float, optional
        Number of columns from the negative trace to the source, or None if there is no negative
        trace.
    profiles : tuple of ndarray
        Profile of the source and, if there is a negative trace, its profile times -1. Each has the
        shape (row, column) of the image.
    """

    trace: NDArray[np.float64]
    shift: float
    nod_offset: float | None
    profiles: tuple[NDArray[np.float64], ...]


def box_bounds(image: SlitImage) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the ranges (start, stop) of columns and of rows in the image's bounding box."""
    (left, right), (bottom, top) = image.bounding_box
    rows, columns = image.shape
    return (
        (max(math.ceil(left), 0), min(math.ceil(right), columns)),
        (max(math.ceil(bottom), 0), min(math.ceil(top), rows)),
    )


@dataclass(frozen=True, eq=False)
class ProfileReader:
    """Bilinear interpolation of a PSF reference image at the wavelengths of an image's pixels.

    The interpolated profile is 0 outside the PSF image.

    Parameters
    ----------
    psf : PSFProfile
        PSF reference image, with one row per wavelength.
    table : ndarray, optional
        Profile at the wavelength of each row, or None if the wavelength varies within rows.
    low : ndarray
        Row of the PSF image below the wavelength of each pixel, shape (row, column).
    part : ndarray
        Interpolation weight of the PSF image's next row, shape (row, column).
    inside : ndarray of bool, optional
        Mask of the pixels with a wavelength. If None, all pixels have a wavelength.
    """

    psf: PSFProfile
    table: NDArray[np.float64] | None
    low: NDArray[np.intp]
    part: NDArray[np.float64]
    inside: NDArray[np.bool_] | None

    @classmethod
    def from_psf(cls, psf: PSFProfile, wavelength: NDArray[np.float64]) -> ProfileReader:
        """Prepare the interpolation at wavelengths in micron, shape (row, column)."""
        known = np.isfinite(wavelength)
        first = np.take_along_axis(wavelength, known.argmax(axis=1)[:, np.newaxis], axis=1)
        in_row = known.any(axis=1, keepdims=True)
        if np.array_equal(np.where(known, wavelength, 0.0), np.where(known, first, 0.0)):
            # If the wavelength is constant in each row, the interpolation in wavelength is the same
            # for all shifts.
            table = psf.rows(np.where(in_row, first, np.nan)[:, 0])
            unused = np.zeros(0)
            return cls(psf, table, unused.astype(np.intp), unused, _unless_all(known | ~in_row))
        low, part, inside = psf.between(wavelength)
        return cls(psf, None, low, part, inside)

    def __call__(self, column: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the profile at given columns of the PSF image, shape (row, column)."""
        if self.table is not None:
            value = read_rows(self.table, column)
        else:
            width = self.psf.data.shape[1]
            fits = (column >= 0.0) & (column <= width - 1.0)
            where = np.where(fits, column, 0.0)
            left = np.minimum(where.astype(np.intp), width - 2)
            where -= left
            at = self.low * width + left
            flat = self.psf.data.ravel()
            lower = flat[at] * (1.0 - where) + flat[at + 1] * where
            upper = flat[at + width] * (1.0 - where) + flat[at + width + 1] * where
            value = (lower * (1.0 - self.part) + upper * self.part) * fits
        return value if self.inside is None else value * self.inside


def _unless_all(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Return a mask, or None if it is True everywhere."""
    return None if mask.all() else mask


def normalise_rows(profile: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normalise rows to a sum of 1 in place, except for rows whose sum is 0."""
    total = profile.sum(axis=1, keepdims=True)
    np.divide(profile, total, out=profile, where=total != 0)
    return profile


def fit_location(
    image: SlitImage,
    cut: tuple[slice, slice],
    profiles: Callable[[float, float | None], list[NDArray[np.float64]]],
    nod_offset: float | None,
) -> tuple[float, float | None]:
    """Fit the shift of the profile, and the offset of the negative trace if there is one.

    As in the pipeline, only the first integration is used.

    Parameters
    ----------
    image : SlitImage
        Image to fit, which must have VAR_RNOISE.
    cut : (slice, slice)
        Rows and columns to fit.
    profiles : callable
        Function of a shift and an offset of the negative trace (or None) that returns the profiles.
    nod_offset : float, optional
        Initial offset of the negative trace, or None if there is no negative trace.

    Returns
    -------
    shift : float
        Fitted shift of the profile in columns.
    nod_offset : float or None
        Fitted offset of the negative trace.

    Raises
    ------
    ProductError
        If the image has no VAR_RNOISE.
    """
    if image.var_rnoise is None:
        raise ProductError(
            "has no VAR_RNOISE, which the fit of the position needs (optimize_psf_location)",
            subject=image.label,
        )
    cost = _cost(image, cut, profiles)
    start = [0.0] if nod_offset is None else [0.0, nod_offset]
    best = minimize(cost, start, method="Nelder-Mead").x
    return float(best[0]), None if nod_offset is None else float(best[1])


def _cost(
    image: SlitImage,
    cut: tuple[slice, slice],
    profiles: Callable[[float, float | None], list[NDArray[np.float64]]],
) -> Callable[[Sequence[float]], float]:
    """Return a function of shift and nod offset: the sum of (model - data)^2 / VAR_RNOISE."""

    def read(plane: NDArray[Any]) -> NDArray[Any]:
        return plane[(0, *cut)] if plane.ndim == 3 else plane[cut]

    data, variances, good = read_pixels(image, read)
    variance = variances[1]
    assert variance is not None
    good &= variance > 0
    weight = np.zeros_like(data)
    np.divide(1.0, variance, out=weight, where=good)
    mask = good.astype(float)
    one = np.ones_like(data)

    def cost(shifts: Sequence[float]) -> float:
        nod_offset = float(shifts[1]) if len(shifts) > 1 else None
        profile_images = profiles(float(shifts[0]), nod_offset)
        outside = profile_images[0] == 0
        for field in profile_images[1:]:
            outside &= field == 0
        used = np.where(outside, 0.0, mask) if outside.any() else mask
        basis = [one, *profile_images]
        weighted = [used, *(field * used for field in profile_images)]
        inverse, _ = invert_symmetric(normal(basis, weighted))
        vector = np.stack([np.einsum("rc,rc->r", field, data) for field in weighted], axis=-1)
        coefficients = np.einsum("rij,rj->ri", inverse, vector)
        residual = data - coefficients[:, 0, np.newaxis]
        for i, field in enumerate(profile_images, start=1):
            residual -= coefficients[:, i, np.newaxis] * field
        return float(np.einsum("rc,rc,rc->", residual, residual, weight))

    return cost
