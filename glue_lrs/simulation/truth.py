"""Containers for a simulated image and its true, noise-free values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from astropy import units as u
from numpy.typing import ArrayLike

from glue_lrs.simulation.optics import PIXEL_SCALE

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.simulation.optics import PSFLaw


@dataclass(frozen=True, eq=False, kw_only=True)
class Truth:
    """Noise-free values of a simulated image.

    Parameters
    ----------
    wavelength : ndarray
        Wavelength of each row in micron, shape (row,). It is NaN in rows without a wavelength.
    flux : ndarray
        Flux of the first source in each row, in `unit`, shape (row,). In integration i of a stack,
        the flux is ``factors[i] * flux``.
    unit : `~astropy.units.Unit`
        Unit of `flux`, which is Jy, or DN/s if the image is not photometrically calibrated.
    column : ndarray
        Column of the first source in each row, shape (row,).
    negative : tuple of ndarray
        Negative traces of the first source, which result from the subtraction of nods. Each is an
        array of shape (row,) with the column in each row.
    background : ndarray
        Background contained in `data`, in MJy/sr or DN/s, shape (row, column).
    data : ndarray
        Image without noise and bad pixels in MJy/sr or DN/s, shape (row, column). It is NaN at the
        edges and outside the slit. For a stack, it is the image of an integration with a factor of
        1.
    var_poisson, var_rnoise, var_flat : ndarray
        True variances of the noise, shape (row, column).
    factors : ndarray, optional
        Factor that multiplies the flux of all sources in each integration of a stack, shape
        (integration,). The brighter-fatter effect in `pixel_fractions` and `enclosed` is that of an
        integration with a factor of 1.
    charge : ndarray, optional
        Strength of the brighter-fatter effect on the first source, shape (row,). If neighbouring
        columns contain the fractions a > b of its flux, ``charge * (a + b) / 2 * (a - b)`` moves
        from the first to the second. None if there is no such effect.
    psf : PSFLaw
        Point spread function, without the brighter-fatter effect.
    halo : float
        Fraction of the first source's flux in the halo.
    """

    wavelength: Array
    flux: Array
    unit: u.UnitBase
    column: Array
    negative: tuple[Array, ...]
    background: Array
    data: Array
    var_poisson: Array
    var_rnoise: Array
    var_flat: Array
    psf: PSFLaw
    halo: float
    factors: Array | None = None
    charge: Array | None = None

    @property
    def variance(self) -> Array:
        """Sum of the three variances, shape (row, column), NaN where the image has no data."""
        return self.var_poisson + self.var_rnoise + self.var_flat

    def pixel_fractions(self, offset: float = 0.0) -> Array:
        """Compute the fraction of the first source's flux in each pixel.

        Parameters
        ----------
        offset : float
            Displacement of the source from `column`, in columns.

        Returns
        -------
        ndarray
            Fractions, shape (row, column). They are 0 in rows without a wavelength.
        """
        columns = np.arange(self.data.shape[1]) - offset
        distance = columns - self.column[:, np.newaxis]
        fractions = self.psf.pixel_fractions(distance, self.wavelength, self.halo)
        if self.charge is not None:
            moved = self._moved(fractions)
            fractions[:, :-1] -= moved
            fractions[:, 1:] += moved
        return fractions

    def _moved(self, fractions: Array) -> Array:
        """Return the fraction of the flux that moves across the right edge of each column.

        `fractions` are the fractions of the flux in each column without the brighter-fatter effect.
        """
        assert self.charge is not None
        left, right = fractions[:, :-1], fractions[:, 1:]
        strength = np.nan_to_num(self.charge)[:, np.newaxis]
        return np.asarray(strength * (left + right) / 2.0 * (left - right))

    def enclosed(self, lower: ArrayLike, upper: ArrayLike) -> Array:
        """Compute the fraction of the first source's flux in each row between two edges.

        Parameters
        ----------
        lower, upper : array_like
            Edges in columns, as numbers or arrays of shape (row,). Pixel i extends from i - 0.5 to
            i + 0.5.

        Returns
        -------
        ndarray
            Fractions, shape (row,).
        """
        below, above = (
            (np.asarray(edge, dtype=float) - self.column) * PIXEL_SCALE for edge in (lower, upper)
        )
        inside = self.psf.enclosed(below, above, self.wavelength, self.halo)
        if self.charge is None:
            return inside
        columns = np.arange(self.data.shape[1])
        distance = columns - self.column[:, np.newaxis]
        moved = self._moved(self.psf.pixel_fractions(distance, self.wavelength, self.halo))
        edges = columns[:-1] + 0.5
        below, above = (np.broadcast_to(edge, inside.shape) for edge in (lower, upper))
        for row, flow in enumerate(moved):
            # Within a pixel, the moved light is interpolated linearly.
            inside[row] += np.interp(below[row], edges, flow) - np.interp(above[row], edges, flow)
        return inside


@dataclass(frozen=True, eq=False)
class Simulated:
    """Simulated image with its true values.

    Parameters
    ----------
    image : SlitImage
        Simulated image with noise.
    truth : Truth
        True values without noise.
    """

    image: SlitImage
    truth: Truth
