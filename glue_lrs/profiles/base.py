"""Spatial profiles: how the light of a point source is spread over the columns.

A `Profile` tells which fraction of the light falls on a pixel whose centre is `offset` columns from
the source, at a wavelength. There are three:

* `PSFProfile`, a PSF reference of the pipeline;
* `GaussianProfile`, whose width is a function of the wavelength;
* `EmpiricalProfile`, learned from data (`learn`): a Gaussian, and a correction that is a cubic
  spline across the slit and a polynomial in wavelength.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

__all__ = ["Light", "Profile", "unit"]

Light = Callable[[NDArray[np.float64]], NDArray[np.float64]]


class Profile(ABC):
    """The fraction of a point source's light that falls on each pixel of a row."""

    @abstractmethod
    def __call__(
        self, offset: NDArray[np.float64], wavelength: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Fraction of the light on pixels.

        Parameters
        ----------
        offset : ndarray
            Columns from the source to the pixel's centre, shape (row, column); NaN gives 0.
        wavelength : ndarray
            Wavelength in micron of each row, shape (row,); NaN gives 0.

        Returns
        -------
        ndarray
            Fractions, shape (row, column). Over all columns, however far, they add up to 1.
        """

    def at(self, wavelength: NDArray[np.float64]) -> Light:
        """Return the profile of rows of these wavelengths, to be called with offsets.

        Faster where it is needed at several offsets.
        """
        return partial(self, wavelength=wavelength)

    def derivative(
        self, offset: NDArray[np.float64], wavelength: NDArray[np.float64], step: float = 0.05
    ) -> NDArray[np.float64]:
        """Change of the fraction per column that the pixel is farther to the right."""
        light = self.at(wavelength)
        return (light(offset + step) - light(offset - step)) / (2.0 * step)


def unit(wavelength: NDArray[np.float64], domain: tuple[float, float]) -> NDArray[np.float64]:
    """Wavelengths as numbers from -1 to 1, held at the ends."""
    first, last = domain
    return np.clip((2.0 * wavelength - (first + last)) / (last - first), -1.0, 1.0)
