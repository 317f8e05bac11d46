"""The pipeline's search for the position of a PSF."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.errors import ProductError
from glue_lrs.fitting.least_squares import invert_symmetric, normal
from glue_lrs.image.pixels import read_pixels
from glue_lrs.profiles.psf import read_rows

if TYPE_CHECKING:
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.profiles.psf import PSFProfile

__all__ = ["PSFLocation", "ProfileReader", "box_bounds", "fit_row", "normalise_rows"]


@dataclass(frozen=True, eq=False)
class PSFLocation:
    """Where the profile was put.

    Parameters
    ----------
    trace : ndarray
        Column that the header gives for each row of the image, NaN outside the bounding box.
    shift : float
        Columns that the profile was moved by: to the left where positive, as in the pipeline.
    nod_offset : float, optional
        Columns from the negative trace to the source; None: there is none.
    profiles : tuple of ndarray
        Profile of the source and, times -1, of the negative trace, on the whole image.
    """

    trace: NDArray[np.float64]
    shift: float
    nod_offset: float | None
    profiles: tuple[NDArray[np.float64], ...]


# --- geometry -------------------------------------------------------------------------------------


def box_bounds(image: SlitImage) -> tuple[tuple[int, int], tuple[int, int]]:
    """Columns and rows of the bounding box: the first, and one after the last."""
    (left, right), (bottom, top) = image.bounding_box
    rows, columns = image.shape
    return (
        (max(math.ceil(left), 0), min(math.ceil(right), columns)),
        (max(math.ceil(bottom), 0), min(math.ceil(top), rows)),
    )


@dataclass(frozen=True, eq=False)
class ProfileReader:
    """Reads the PSF image at the wavelengths of some pixels, bilinearly; 0 outside."""

    psf: PSFProfile
    table: NDArray[np.float64] | None
    low: NDArray[np.intp]
    part: NDArray[np.float64]
    inside: NDArray[np.bool_] | None

    @classmethod
    def from_psf(cls, psf: PSFProfile, wavelength: NDArray[np.float64]) -> ProfileReader:
        known = np.isfinite(wavelength)
        first = np.take_along_axis(wavelength, known.argmax(axis=1)[:, np.newaxis], axis=1)
        some = known.any(axis=1, keepdims=True)
        if np.array_equal(np.where(known, wavelength, 0.0), np.where(known, first, 0.0)):
            # All pixels of a row have the same wavelength: interpolated once for all shifts.
            table = psf.rows(np.where(some, first, np.nan)[:, 0])
            nothing = np.zeros(0)
            return cls(psf, table, nothing.astype(np.intp), nothing, _unless_all(known | ~some))
        low, part, inside = psf.between(wavelength)
        return cls(psf, None, low, part, inside)

    def __call__(self, column: NDArray[np.float64]) -> NDArray[np.float64]:
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
            near = flat[at] * (1.0 - where) + flat[at + 1] * where
            far = flat[at + width] * (1.0 - where) + flat[at + width + 1] * where
            value = (near * (1.0 - self.part) + far * self.part) * fits
        return value if self.inside is None else value * self.inside


def _unless_all(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    return None if mask.all() else mask


def normalise_rows(profile: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make rows add up to 1, in place; rows without light stay 0."""
    total = profile.sum(axis=1, keepdims=True)
    np.divide(profile, total, out=profile, where=total != 0)
    return profile


# --- the fit of the position ----------------------------------------------------------------------


def fit_row(
    image: SlitImage, cut: tuple[slice, slice], profiles: Any, nod_offset: float | None
) -> tuple[float, float | None]:
    """Shift, and offset of the negative trace, at the least squares of the first integration."""
    from scipy.optimize import minimize

    if image.var_rnoise is None:
        raise ProductError(
            f"{image.label}: has no VAR_RNOISE, expected one as the position is fitted with it "
            "(optimize_psf_location)"
        )
    cost = _cost(image, cut, profiles)
    start = [0.0] if nod_offset is None else [0.0, nod_offset]
    best = minimize(cost, start, method="Nelder-Mead").x
    return float(best[0]), None if nod_offset is None else float(best[1])


def _cost(image: SlitImage, cut: tuple[slice, slice], profiles: Any) -> Any:
    """Sum of (model - data)^2 / VAR_RNOISE as a function of the shifts."""

    def read(plane: NDArray[Any] | None) -> NDArray[Any] | None:
        if plane is None:
            return None
        return plane[(0, *cut)] if plane.ndim == 3 else plane[cut]

    data, variances, good = read_pixels(image, read)
    variance = variances[1]
    assert variance is not None
    good &= variance > 0
    weight = np.zeros_like(data)
    np.divide(1.0, variance, out=weight, where=good)
    mask = good.astype(float)
    one = np.ones_like(data)

    def cost(shifts: Any) -> float:
        lit = profiles(float(shifts[0]), float(shifts[1]) if len(shifts) > 1 else None)
        dark = lit[0] == 0
        for field in lit[1:]:
            dark &= field == 0
        used = np.where(dark, 0.0, mask) if dark.any() else mask
        basis = [one, *lit]
        weighted = [used, *(field * used for field in lit)]
        inverse, _ = invert_symmetric(normal(basis, weighted))
        vector = np.stack([np.einsum("rc,rc->r", field, data) for field in weighted], axis=-1)
        coefficients = np.einsum("rij,rj->ri", inverse, vector)
        residual = data - coefficients[:, 0, np.newaxis]
        for i, field in enumerate(lit, start=1):
            residual -= coefficients[:, i, np.newaxis] * field
        return float(np.einsum("rc,rc,rc->", residual, residual, weight))

    return cost
