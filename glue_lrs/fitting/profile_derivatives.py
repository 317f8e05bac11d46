"""Profiles on the pixels with their derivatives in position and width."""

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

__all__ = ["MIN_FACTOR", "ProfileImage", "widen"]

#: Least width of a Gaussian over the expected one, by which Gauss-Newton steps are limited.
MIN_FACTOR = 0.3


@dataclass(frozen=True, eq=False)
class ProfileImage:
    """A profile on pixels that are one column apart, with its derivatives.

    Those of a Gaussian are analytic, from values at the edges of the pixels.

    Parameters
    ----------
    profile : SpatialProfile
        The profile.
    offset : ndarray
        Columns from the source to each pixel, shape (row, column).
    wavelength : ndarray
        Wavelength of each row in micron.
    edges, density, sigma : ndarray or None
        Of a Gaussian: edges of the pixels in standard deviations, the normal density there, and
        the standard deviation in columns, shape (row, 1).
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
        """Evaluate a profile at the edges of the pixels if it is a Gaussian."""
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
        """Return the fraction of the light on each pixel, shape (row, column)."""
        if self.edges is None:
            return self.profile(self.offset, self.wavelength)
        return np.diff(ndtr(self.edges), axis=1)

    def d_offset(self) -> Array:
        """Return the derivative in the offset."""
        if self.density is None or self.sigma is None:
            return self.profile.derivative(self.offset, self.wavelength)
        return np.diff(self.density, axis=1) / self.sigma

    def d_log_width(self) -> Array:
        """Return the derivative in the logarithm of the width, of a Gaussian."""
        assert self.density is not None
        assert self.edges is not None
        return -np.diff(self.density * self.edges, axis=1)


def widen(profile: GaussianProfile, change: Array) -> GaussianProfile:
    """Multiply the polynomial of the width by 1 + change, and truncate it to its order."""
    size = max(len(profile.factor), change.size)
    factor = np.zeros(size)
    factor[: len(profile.factor)] = profile.factor
    padded = np.zeros(size)
    padded[: change.size] = change
    factor += np.convolve(factor, padded)[:size]
    factor[0] = max(factor[0], MIN_FACTOR)
    return replace(profile, factor=tuple(factor))
