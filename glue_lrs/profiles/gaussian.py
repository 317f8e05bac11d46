"""GaussianProfile: a Gaussian whose FWHM is a function of the wavelength."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.polynomial.polynomial import polyval
from numpy.typing import ArrayLike
from scipy.special import erf

from glue_lrs._utils.typing import Array
from glue_lrs.errors import ProfileError
from glue_lrs.instrument import FWHM, PIXEL_SCALE, expected_fwhm
from glue_lrs.profiles.base import Light, SpatialProfile, unit


@dataclass(frozen=True, kw_only=True)
class GaussianProfile(SpatialProfile):
    """A Gaussian, integrated over each pixel.

    Its FWHM is the expected FWHM for LRS (`glue_lrs.instrument.expected_fwhm`) times a polynomial
    in the wavelength.

    Parameters
    ----------
    factor : tuple of float
        Coefficients of the polynomial, constant term first. Its variable increases from -1 to 1
        between the two wavelengths of `domain`.
    domain : (float, float)
        Wavelengths in micron at which the variable of the polynomial is -1 and 1. At wavelengths
        outside this range, the polynomial is evaluated at the nearer end.

    Raises
    ------
    ProfileError
        If a coefficient is not finite, or if the wavelengths do not ascend.
    """

    factor: tuple[float, ...] = (1.0,)
    domain: tuple[float, float] = (4.0, 14.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", tuple(float(value) for value in self.factor))
        if not self.factor or not np.isfinite(self.factor).all():
            raise ProfileError(f"factor is {self.factor}, expected one or more finite numbers")
        if not self.domain[0] < self.domain[1]:
            raise ProfileError(f"domain is {self.domain}, expected two wavelengths that ascend")

    def fwhm(self, wavelength: ArrayLike) -> Array:
        """Return the FWHM in columns of the profile before it is integrated over the pixels.

        It is at least 0.5 columns.
        """
        wave = np.asarray(wavelength, dtype=float)
        columns = expected_fwhm(wave) / PIXEL_SCALE
        return np.maximum(columns * polyval(unit(wave, self.domain), self.factor), 0.5)

    def __call__(self, offset: Array, wavelength: Array) -> Array:  # noqa: D102 - inherited
        return self.at(wavelength)(offset)

    def at(self, wavelength: Array) -> Light:  # noqa: D102 - inherited
        return partial(gaussian, fwhm=self.fwhm(wavelength))


def gaussian(offset: Array, fwhm: Array) -> Array:
    """Return the integral of a normalised Gaussian over each pixel, shape (row, column).

    Parameters
    ----------
    offset : ndarray
        Distance in columns from the source to the centre of each pixel, shape (row, column). Where
        it is NaN, the integral is 0.
    fwhm : ndarray
        Full width at half maximum in columns, shape (row,).
    """
    out = np.zeros(offset.shape)
    reached = np.flatnonzero((np.abs(offset) < 3.0 * np.nanmax(fwhm) + 1.0).any(axis=0))
    if reached.size == 0:  # all pixels are more than 7 standard deviations from the source
        return out
    columns = slice(int(reached[0]), int(reached[-1]) + 1)
    scale = (FWHM / np.sqrt(2.0) / fwhm)[:, np.newaxis]
    part = offset[:, columns]
    if shared_edges(part):  # evaluate each edge once for both adjacent pixels
        edges = np.empty((part.shape[0], part.shape[1] + 1))
        np.subtract(part, 0.5, out=edges[:, :-1])
        np.add(part[:, -1], 0.5, out=edges[:, -1])
        edges *= scale
        value = np.diff(erf(edges), axis=1)
    else:
        value = erf((part + 0.5) * scale) - erf((part - 0.5) * scale)
    value *= 0.5
    value[np.isnan(value)] = 0.0
    out[:, columns] = value
    return out


def shared_edges(offset: Array) -> bool:
    """Return whether the pixels at these offsets are adjacent, so that they share their edges."""
    return offset.shape[1] > 1 and abs(float(offset[0, 1] - offset[0, 0]) - 1.0) < 1e-9
