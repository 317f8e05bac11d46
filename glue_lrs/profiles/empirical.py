"""EmpiricalProfile: a Gaussian with a spline correction, fitted to an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from glue_lrs._utils.typing import Array
from glue_lrs.profiles.base import Light, SpatialProfile, unit
from glue_lrs.profiles.gaussian import GaussianProfile, gaussian, shared_edges

#: Distance in columns from the source beyond which an empirical profile is 0.
REACH = 14


@dataclass(frozen=True, eq=False, kw_only=True)
class EmpiricalProfile(SpatialProfile):
    """A profile that is fitted to data: a Gaussian plus a spline correction.

    Parameters
    ----------
    base : GaussianProfile
        Gaussian to which the correction is added.
    coefficients : ndarray
        Coefficients of the correction, shape (knot, term). The correction is a sum of products of
        cubic B-splines along the slit and Legendre polynomials in the wavelength. The knots are
        one column apart, from ``-(knots // 2)`` to ``knots // 2`` columns from the source. If there
        are no knots, there is no correction.
    center : float
        Position of the source in columns, relative to the middle of Gaussian and knots.

    Notes
    -----
    Because the knots are one column apart, the sum of a B-spline over the pixels of a row does not
    depend on the position of the source within its pixel. It is therefore constant along a curved
    trace.
    """

    base: GaussianProfile
    coefficients: Array
    center: float = 0.0

    def __call__(self, offset: Array, wavelength: Array) -> Array:  # noqa: D102 - inherited
        return self.at(wavelength)(offset)

    def at(self, wavelength: Array) -> Light:  # noqa: D102 - inherited
        knots = self.coefficients.shape[0]
        if knots == 0:
            return self.base.at(wavelength)
        fwhm, along = self.base.fwhm(wavelength), self.along(wavelength)
        padded = np.zeros((along.shape[0], knots + 8))
        padded[:, 4:-4] = along
        row = np.arange(along.shape[0])[:, np.newaxis]
        total = (1.0 + along.sum(axis=1))[:, np.newaxis]

        def light(offset: Array) -> Array:
            if self.center:
                offset = offset + self.center
            value = gaussian(offset, fwhm)
            reached = np.flatnonzero((np.abs(offset) < knots // 2 + 2.0).any(axis=0))
            if reached.size:
                columns = slice(int(reached[0]), int(reached[-1]) + 1)
                part = np.where(np.isnan(offset[:, columns]), 1e3, offset[:, columns])
                # Knots are one column apart. If the offsets are too, all pixels of a row are
                # equally far from the knot to their left: one evaluation per row suffices.
                if shared_edges(part):
                    knot = np.floor(part[:, :1])
                    _, heights = splines(part[:, :1] - knot, knots)
                    size = padded.shape[1] - 3
                    sums = sum(h * padded[:, j : j + size] for j, h in enumerate(heights))
                    low = knot.astype(np.intp) + (knots // 2 + 3) + np.arange(part.shape[1])
                    low = np.clip(low, 0, size - 1) + row * size
                    value[:, columns] += np.ravel(sums).take(low)
                else:
                    low, heights = splines(part, knots)
                    low += row * padded.shape[1]
                    for j, height in enumerate(heights):
                        value[:, columns] += height * padded.take(low + j)
            value /= total
            value[np.isnan(value)] = 0.0
            return value

        return light

    def symmetric(self) -> EmpiricalProfile:
        """Return the symmetric part of the profile about the middle of Gaussian and knots."""
        even = 0.5 * (self.coefficients + self.coefficients[::-1])
        return EmpiricalProfile(base=self.base, coefficients=even)

    def along(self, wavelength: Array) -> Array:
        """Return the coefficients of the splines at the wavelength of each row, (row, knot)."""
        return self.terms(wavelength) @ self.coefficients.T

    def terms(self, wavelength: Array) -> Array:
        """Return the Legendre polynomials at the wavelength of each row, shape (row, term)."""
        count = max(self.coefficients.shape[1], 1)
        return np.asarray(
            legendre.legvander(unit(wavelength, self.base.domain), count - 1), dtype=np.float64
        )


def splines(offset: Array, knots: int) -> tuple[NDArray[np.intp], list[Array]]:
    """Evaluate cubic B-splines whose knots are a distance of 1 apart.

    At each point, only four of the splines are not 0, and only these are returned.

    Parameters
    ----------
    offset : ndarray
        Points at which the splines are evaluated.
    knots : int
        Number of knots, which are at the integers from ``-(knots // 2)`` to ``knots // 2``.

    Returns
    -------
    first : ndarray of int
        Index of the first of the four splines at each point. The spline at the first knot has the
        index 4, so that arrays of coefficients must be padded with four zeros at each end for
        points beyond the knots.
    parts : list of ndarray
        Values of the four splines, each of the same shape as `offset`.
    """
    half = knots // 2
    clipped = np.clip(offset, -half - 2.5, half + 2.5)
    low = np.floor(clipped)
    part = clipped - low
    low += half + 3
    left, square = 1.0 - part, part**2
    cube = square * part
    return low.astype(np.intp), [
        left * left * left / 6.0,
        (4.0 - 6.0 * square + 3.0 * cube) / 6.0,
        (1.0 + 3.0 * part + 3.0 * square - 3.0 * cube) / 6.0,
        cube / 6.0,
    ]
