"""GaussianProfile: a Gaussian of a given FWHM."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial.polynomial import polyval
from numpy.typing import ArrayLike, NDArray

from glue_lrs.errors import ProfileError
from glue_lrs.instrument import FWHM, PIXEL_SCALE, expected_fwhm
from glue_lrs.profiles.base import Profile, unit

if TYPE_CHECKING:
    from glue_lrs.profiles.base import Light

__all__ = ["GaussianProfile", "gaussian", "shared_edges"]


@dataclass(frozen=True, kw_only=True)
class GaussianProfile(Profile):
    """A Gaussian, integrated over each pixel.

    Its FWHM is the one that LRS is expected to have, times a polynomial in the wavelength.

    Parameters
    ----------
    factor : tuple of float
        Coefficients of the polynomial, constant term first, in a variable that goes from -1 at the
        first to 1 at the last wavelength of `domain`.
    domain : (float, float)
        Wavelengths in micron.
    """

    factor: tuple[float, ...] = (1.0,)
    domain: tuple[float, float] = (4.0, 14.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", tuple(float(value) for value in self.factor))
        if not self.factor or not np.isfinite(self.factor).all():
            raise ProfileError(f"factor is {self.factor}, expected one or more finite numbers")
        if not self.domain[0] < self.domain[1]:
            raise ProfileError(f"domain is {self.domain}, expected two wavelengths that ascend")

    def fwhm(self, wavelength: ArrayLike) -> NDArray[np.float64]:
        """Full width at half maximum in columns, before it is smeared over a pixel."""
        wave = np.asarray(wavelength, dtype=float)
        columns = expected_fwhm(wave) / PIXEL_SCALE
        return np.maximum(columns * polyval(unit(wave, self.domain), self.factor), 0.5)

    def __call__(  # noqa: D102 - as of Profile
        self, offset: NDArray[np.float64], wavelength: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return self.at(wavelength)(offset)

    def at(self, wavelength: NDArray[np.float64]) -> Light:  # noqa: D102 - as of Profile
        return partial(gaussian, fwhm=self.fwhm(wavelength))


def gaussian(offset: NDArray[np.float64], fwhm: NDArray[np.float64]) -> NDArray[np.float64]:
    """A Gaussian integrated over pixels: offsets (row, column), widths (row,); NaN gives 0."""
    from scipy.special import erf

    out = np.zeros(offset.shape)
    near = np.flatnonzero((np.abs(offset) < 3.0 * np.nanmax(fwhm) + 1.0).any(axis=0))
    if near.size == 0:  # 7 standard deviations away from everything
        return out
    some = slice(int(near[0]), int(near[-1]) + 1)
    scale = (FWHM / np.sqrt(2.0) / fwhm)[:, np.newaxis]
    part = offset[:, some]
    if shared_edges(part):  # one edge for two
        edges = np.empty((part.shape[0], part.shape[1] + 1))
        np.subtract(part, 0.5, out=edges[:, :-1])
        np.add(part[:, -1], 0.5, out=edges[:, -1])
        edges *= scale
        value = np.diff(erf(edges), axis=1)
    else:
        value = erf((part + 0.5) * scale) - erf((part - 0.5) * scale)
    value *= 0.5
    value[np.isnan(value)] = 0.0
    out[:, some] = value
    return out


def shared_edges(offset: NDArray[np.float64]) -> bool:
    """Whether offsets are those of pixels side by side."""
    return offset.shape[1] > 1 and abs(float(offset[0, 1] - offset[0, 0]) - 1.0) < 1e-9
