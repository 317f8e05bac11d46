"""Fit of the position of a PSF profile on an image, as in the pipeline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

from glue_lrs.errors import ProductError
from glue_lrs.fitting.least_squares import invert_symmetric, normal
from glue_lrs.image.pixels import read_pixels
from glue_lrs.profiles.psf import read_rows

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
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
        Fitted shift of the profile in columns. As in the pipeline, a positive value is a shift to
        the left.
    nod_offset : float, optional
        Number of columns from the negative trace to the source, or None if there is no negative
        trace.
    profiles : tuple of ndarray
        Profile of the source and, if there is a negative trace, the profile of the trace times -1.
        Each has the shape (row, column) of the image.
    """

    trace: Array
    shift: float
    nod_offset: float | None
    profiles: tuple[Array, ...]


def box_bounds(image: SlitImage) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the range (start, stop) of the columns and of the rows in the bounding box."""
    (left, right), (bottom, top) = image.bounding_box
    rows, columns = image.shape
    return (
        (max(math.ceil(left), 0), min(math.ceil(right), columns)),
        (max(math.ceil(bottom), 0), min(math.ceil(top), rows)),
    )


def profile_reader(psf: PSFProfile, wavelength: Array) -> Callable[[Array], Array]:
    """Return a function that interpolates a PSF table bilinearly at the pixels of an image.

    Parameters
    ----------
    psf : PSFProfile
        PSF table with one row per wavelength.
    wavelength : ndarray
        Wavelength of each pixel in micron, shape (row, column).

    Returns
    -------
    callable
        Function of the column in the PSF table for each pixel, shape (row, column). It returns the
        profile at these columns and at the wavelengths of the pixels, and 0 outside the table.
    """
    known = np.isfinite(wavelength)
    first = np.take_along_axis(wavelength, known.argmax(axis=1)[:, np.newaxis], axis=1)
    in_row = known.any(axis=1, keepdims=True)
    if np.array_equal(np.where(known, wavelength, 0.0), np.where(known, first, 0.0)):
        # If the wavelength is constant in each row, the table can be interpolated in wavelength
        # once for all shifts.
        table = psf.rows(np.where(in_row, first, np.nan)[:, 0])
        if (known | ~in_row).all():
            return partial(read_rows, table)
        return lambda column: read_rows(table, column) * known
    low, part, inside = psf.between(wavelength)
    width, flat = psf.data.shape[1], psf.data.ravel()

    def read(column: Array) -> Array:
        fits = (column >= 0.0) & (column <= width - 1.0)
        where = np.where(fits, column, 0.0)
        left = np.minimum(where.astype(np.intp), width - 2)
        where -= left
        at = low * width + left
        lower = flat[at] * (1.0 - where) + flat[at + 1] * where
        upper = flat[at + width] * (1.0 - where) + flat[at + width + 1] * where
        return (lower * (1.0 - part) + upper * part) * fits * inside

    return read


def normalise_rows(profile: Array) -> Array:
    """Normalise each row to a sum of 1 in place, unless its sum is 0, and return the array."""
    total = profile.sum(axis=1, keepdims=True)
    np.divide(profile, total, out=profile, where=total != 0)
    return profile


def fit_location(
    image: SlitImage,
    cut: tuple[slice, slice],
    profiles: Callable[[float, float | None], list[Array]],
    nod_offset: float | None,
) -> tuple[float, float | None]:
    """Fit the shift of the profile, and the offset of the negative trace if there is one.

    The sum of (model - data)^2 / VAR_RNOISE is minimised. As in the pipeline, only the first
    integration is used.

    Parameters
    ----------
    image : SlitImage
        Image to fit, which must have VAR_RNOISE.
    cut : (slice, slice)
        Rows and columns to fit.
    profiles : callable
        Function that returns the profiles for a shift and for an offset of the negative trace (or
        None).
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
    where = (0, *cut) if image.is_stack else cut
    data, variances, good = read_pixels(image, lambda plane: plane[where])
    variance = variances[1]
    if variance is None:
        raise ProductError(
            "has no VAR_RNOISE, which the fit of the position needs (optimize_psf_location)",
            subject=image.label,
        )
    good &= variance > 0
    weight = np.zeros_like(data)
    np.divide(1.0, variance, out=weight, where=good)
    one = np.ones_like(data)

    def cost(shifts: Sequence[float]) -> float:
        offset = float(shifts[1]) if len(shifts) > 1 else None
        profile_images = profiles(float(shifts[0]), offset)
        outside = np.all([field == 0 for field in profile_images], axis=0)
        used = np.where(outside, 0.0, good)
        weighted = [used, *(field * used for field in profile_images)]
        inverse, _ = invert_symmetric(normal([one, *profile_images], weighted))
        vector = np.stack([np.einsum("rc,rc->r", field, data) for field in weighted], axis=-1)
        coefficients = np.einsum("rij,rj->ri", inverse, vector)
        residual = data - coefficients[:, 0, np.newaxis]
        for i, field in enumerate(profile_images, start=1):
            residual -= coefficients[:, i, np.newaxis] * field
        return float(np.einsum("rc,rc,rc->", residual, residual, weight))

    start = [0.0] if nod_offset is None else [0.0, nod_offset]
    best = minimize(cost, start, method="Nelder-Mead").x
    return float(best[0]), None if nod_offset is None else float(best[1])
