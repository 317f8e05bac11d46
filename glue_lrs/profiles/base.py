"""SpatialProfile: interface of profiles across the slit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import numpy as np

from glue_lrs._utils.typing import Array

__all__ = ["Light", "SpatialProfile", "unit"]

#: A profile at given wavelengths: offsets (row, column) to fractions of the light (row, column).
Light = Callable[[Array], Array]


class SpatialProfile(ABC):
    """Fraction of a point source's light on each pixel of a row."""

    @abstractmethod
    def __call__(self, offset: Array, wavelength: Array) -> Array:
        """Return the fraction of the light on pixels.

        Parameters
        ----------
        offset : ndarray
            Columns from the source to the pixel's centre, shape (row, column); NaN gives 0.
        wavelength : ndarray
            Wavelength in micron of each row, shape (row,); NaN gives 0.

        Returns
        -------
        ndarray
            Fractions, shape (row, column); their sum over all columns is 1.
        """

    def at(self, wavelength: Array) -> Light:
        """Return the profile at given wavelengths, to be called with offsets.

        Faster than the profile itself for several offsets.

        Parameters
        ----------
        wavelength : ndarray
            Wavelength in micron of each row, shape (row,).
        """
        return partial(self, wavelength=wavelength)

    def derivative(self, offset: Array, wavelength: Array, step: float = 0.05) -> Array:
        """Return the derivative of the fraction in the offset, per column.

        Parameters
        ----------
        offset, wavelength : ndarray
            As of `__call__`.
        step : float
            Columns to each side of the difference.
        """
        light = self.at(wavelength)
        return (light(offset + step) - light(offset - step)) / (2.0 * step)


def unit(wavelength: Array, domain: tuple[float, float]) -> Array:
    """Return wavelengths scaled from a domain to [-1, 1], clipped at the ends."""
    first, last = domain
    return np.clip((2.0 * wavelength - (first + last)) / (last - first), -1.0, 1.0)
