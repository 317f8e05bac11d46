"""Profiles evaluated on pixels, with derivatives with respect to position and width."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from glue_lrs.instrument import FWHM
from glue_lrs.profiles.gaussian import GaussianProfile

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.profiles.base import SpatialProfile

#: Smallest ratio of the width of a Gaussian to the expected width. Gauss-Newton steps cannot make
#: the width smaller.
MIN_FACTOR = 0.3


@dataclass(frozen=True, eq=False)
class ProfileImage:
    """A profile evaluated on pixels that are one column apart, with its derivatives.

    The derivatives of a Gaussian are analytic. They are computed from values at the edges of the
    pixels.

    Parameters
    ----------
    profile : SpatialProfile
        Profile to evaluate.
    offset : ndarray
        Distance in columns from the source to each pixel, shape (row, column).
    wavelength : ndarray
        Wavelength of each row in micron.
    edges, density : ndarray or None
        Distance of the pixel edges from the source in standard deviations, and the standard normal
        density there, shape (row, column + 1). None if the profile is not a Gaussian.
    sigma : ndarray or None
        Standard deviation of a Gaussian in columns, shape (row, 1). None for other profiles.
    """

    profile: SpatialProfile
    offset: Array
    wavelength: Array
    edges: Array | None = None
    density: Array | None = None
    sigma: Array | None = None

    @classmethod
    def from_profile(
        cls, profile: SpatialProfile, offset: Array, wavelength: Array
    ) -> ProfileImage:
        """Return the image of a profile; a Gaussian is evaluated at the edges of the pixels."""
        if not isinstance(profile, GaussianProfile):
            return cls(profile, offset, wavelength)
        edges = np.empty((offset.shape[0], offset.shape[1] + 1))
        edges[:, :-1] = offset - 0.5
        edges[:, -1] = offset[:, -1] + 0.5
        sigma = np.nan_to_num(profile.fwhm(wavelength)[:, np.newaxis] / FWHM, nan=1.0)
        edges /= sigma
        edges[np.isnan(edges)] = 0.0
        density = np.exp(-0.5 * edges**2) / np.sqrt(2.0 * np.pi)
        return cls(profile, offset, wavelength, edges, density, sigma)

    def light(self) -> Array:
        """Return the fraction of the flux on each pixel, shape (row, column)."""
        if self.edges is None:
            return self.profile(self.offset, self.wavelength)
        return np.diff(ndtr(self.edges), axis=1)

    def d_offset(self) -> Array:
        """Return the derivative of the fraction with respect to `offset`, shape (row, column)."""
        if self.density is None or self.sigma is None:
            return self.profile.derivative(self.offset, self.wavelength)
        return np.diff(self.density, axis=1) / self.sigma

    def d_log_width(self) -> Array:
        """Return the derivative of a Gaussian with respect to the logarithm of its width."""
        assert self.density is not None
        assert self.edges is not None
        return -np.diff(self.density * self.edges, axis=1)


def widen(profile: GaussianProfile, change: Array) -> GaussianProfile:
    """Return a Gaussian whose width polynomial is multiplied by 1 + change.

    `change` holds the coefficients of a polynomial in wavelength. The product is truncated to the
    higher order of the two polynomials.
    """
    size = max(len(profile.factor), change.size)
    factor = np.zeros(size)
    factor[: len(profile.factor)] = profile.factor
    padded = np.zeros(size)
    padded[: change.size] = change
    factor += np.convolve(factor, padded)[:size]
    factor[0] = max(factor[0], MIN_FACTOR)
    return replace(profile, factor=tuple(factor))
