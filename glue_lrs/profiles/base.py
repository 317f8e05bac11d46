"""SpatialProfile: interface for profiles along the slit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import numpy as np

from glue_lrs._utils.typing import Array

#: Type of a profile at fixed wavelengths: a function of the offsets (columns) that returns the
#: fractions of the flux. Both arrays have the shape (row, column).
Light = Callable[[Array], Array]


class SpatialProfile(ABC):
    """Fraction of a point source's flux on each pixel of a row."""

    @abstractmethod
    def __call__(self, offset: Array, wavelength: Array) -> Array:
        """Return the fraction of the flux on each pixel.

        Parameters
        ----------
        offset : ndarray
            Distance in columns from the source to the centre of each pixel, shape (row, column).
            Where it is NaN, the fraction is 0.
        wavelength : ndarray
            Wavelength in micron of each row, shape (row,). Where it is NaN, the fractions are 0.

        Returns
        -------
        ndarray
            Fractions of the flux, shape (row, column). The sum over all columns is 1 for each row.
        """

    def at(self, wavelength: Array) -> Light:
        """Return the profile at given wavelengths as a function of the offsets only.

        For several arrays of offsets, calling the returned function is faster than calling the
        profile.

        Parameters
        ----------
        wavelength : ndarray
            Wavelength in micron of each row, shape (row,).
        """
        return partial(self, wavelength=wavelength)

    def light_within(self, wavelength: Array, width: int) -> Array:
        """Return the fraction of the flux in an aperture that is centred on the source.

        Parameters
        ----------
        wavelength : ndarray
            Wavelength in micron of each row, shape (row,).
        width : int
            Width of the aperture in columns.

        Returns
        -------
        ndarray
            Fraction in each row, shape (row,).
        """
        offset = np.arange(width) - (width - 1) / 2.0
        return self(np.broadcast_to(offset, (wavelength.size, width)), wavelength).sum(axis=1)

    def derivative(self, offset: Array, wavelength: Array, step: float = 0.05) -> Array:
        """Return the derivative of the fractions with respect to the offset, shape (row, column).

        Parameters
        ----------
        offset, wavelength : ndarray
            Offsets in columns and wavelengths in micron, as for the profile itself.
        step : float
            Half of the interval in columns over which the derivative is computed numerically.
        """
        light = self.at(wavelength)
        return (light(offset + step) - light(offset - step)) / (2.0 * step)


def unit(wavelength: Array, domain: tuple[float, float]) -> Array:
    """Return wavelengths scaled linearly from `domain` to the range -1 to 1, and clipped there."""
    first, last = domain
    return np.clip((2.0 * wavelength - (first + last)) / (last - first), -1.0, 1.0)
