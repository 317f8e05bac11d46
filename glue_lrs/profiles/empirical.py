"""EmpiricalProfile: a Gaussian with a spline correction, fitted to an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from glue_lrs.profiles.base import Profile, unit
from glue_lrs.profiles.gaussian import gaussian, shared_edges

if TYPE_CHECKING:
    from glue_lrs.profiles.base import Light
    from glue_lrs.profiles.gaussian import GaussianProfile

__all__ = ["REACH", "EmpiricalProfile", "splines"]

#: Columns from the source beyond which an empirical profile is 0.
REACH = 14


@dataclass(frozen=True, eq=False, kw_only=True)
class EmpiricalProfile(Profile):
    """A profile learned from data: a Gaussian, and a correction that makes up for what it is not.

    Parameters
    ----------
    base : GaussianProfile
        The Gaussian.
    coefficients : ndarray
        Coefficients of the correction, shape (knot, term): of cubic B-splines whose knots are a
        column apart, from ``-(knots // 2)`` to ``knots // 2`` columns from the source, times
        Legendre polynomials in the wavelength. No knots: none.
    center : float
        Where the source is, in columns from the middle of Gaussian and knots.

    Notes
    -----
    As the knots are a column apart, what a B-spline adds to all pixels of a row does not depend on
    where in its pixel the source is: the sum over the pixels is the same along a curved trace.
    """

    base: GaussianProfile
    coefficients: NDArray[np.float64]
    center: float = 0.0

    def __call__(  # noqa: D102 - as of Profile
        self, offset: NDArray[np.float64], wavelength: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return self.at(wavelength)(offset)

    def at(self, wavelength: NDArray[np.float64]) -> Light:  # noqa: D102 - as of Profile
        knots = self.coefficients.shape[0]
        if knots == 0:
            return self.base.at(wavelength)
        fwhm, along = self.base.fwhm(wavelength), self.along(wavelength)
        padded = np.zeros((along.shape[0], knots + 8))
        padded[:, 4:-4] = along
        row = np.arange(along.shape[0])[:, np.newaxis]
        total = (1.0 + along.sum(axis=1))[:, np.newaxis]

        def light(offset: NDArray[np.float64]) -> NDArray[np.float64]:
            if self.center:
                offset = offset + self.center
            value = gaussian(offset, fwhm)
            near = np.flatnonzero((np.abs(offset) < knots // 2 + 2.0).any(axis=0))
            if near.size:
                some = slice(int(near[0]), int(near[-1]) + 1)
                part = np.where(np.isnan(offset[:, some]), 1e3, offset[:, some])
                if shared_edges(part):  # all pixels of a row are as far from the knot below
                    knot = np.floor(part[:, :1])
                    _, heights = splines(part[:, :1] - knot, knots)
                    size = padded.shape[1] - 3
                    sums = sum(h * padded[:, j : j + size] for j, h in enumerate(heights))
                    low = knot.astype(np.intp) + (knots // 2 + 3) + np.arange(part.shape[1])
                    low = np.clip(low, 0, size - 1) + row * size
                    value[:, some] += np.ravel(sums).take(low)
                else:
                    low, heights = splines(part, knots)
                    low += row * padded.shape[1]
                    for j, height in enumerate(heights):
                        value[:, some] += height * padded.take(low + j)
            value /= total
            value[np.isnan(value)] = 0.0
            return value

        return light

    def symmetric(self) -> EmpiricalProfile:
        """The same without what is not symmetric, about the middle of Gaussian and knots."""
        even = 0.5 * (self.coefficients + self.coefficients[::-1])
        return EmpiricalProfile(base=self.base, coefficients=even)

    def along(self, wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
        """Coefficients of the splines at wavelengths, shape (row, knot)."""
        return self.terms(wavelength) @ self.coefficients.T

    def terms(self, wavelength: NDArray[np.float64]) -> NDArray[np.float64]:
        """Legendre polynomials at wavelengths, shape (row, term)."""
        count = max(self.coefficients.shape[1], 1)
        return np.asarray(
            legendre.legvander(unit(wavelength, self.base.domain), count - 1), dtype=np.float64
        )


def splines(
    offset: NDArray[np.float64], knots: int
) -> tuple[NDArray[np.intp], list[NDArray[np.float64]]]:
    """The four cubic B-splines that reach each point, of knots that are 1 apart.

    Parameters
    ----------
    offset : ndarray
        Where to evaluate.
    knots : int
        Number of knots, from ``-(knots // 2)`` to ``knots // 2``.

    Returns
    -------
    first : ndarray of int
        Number of the first of the four, where the first knot has number 4: with four splines of
        coefficient 0 on either side, points out of reach need no case of their own.
    parts : list of ndarray
        Values of the four.
    """
    half = knots // 2
    held = np.clip(offset, -half - 2.5, half + 2.5)
    low = np.floor(held)
    part = held - low
    low += half + 3
    left, square = 1.0 - part, part**2
    cube = square * part
    return low.astype(np.intp), [
        left * left * left / 6.0,
        (4.0 - 6.0 * square + 3.0 * cube) / 6.0,
        (1.0 + 3.0 * part + 3.0 * square - 3.0 * cube) / 6.0,
        cube / 6.0,
    ]
