"""True values of a simulated product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from numpy.typing import ArrayLike, NDArray

from glue_lrs.simulation.optics import PIXEL_SCALE

if TYPE_CHECKING:
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.simulation.optics import PSF

__all__ = ["Observation", "Planes", "Simulated", "Truth"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Truth:
    """Noise-free values of a simulated image.

    Parameters
    ----------
    wavelength : ndarray
        Wavelength of each row in micron, NaN where the row has none; shape (row,).
    flux : ndarray
        Flux of the first source in each row, in `unit`; shape (row,). For a stack: at a factor
        of 1.
    unit : `~astropy.units.Unit`
        Jy, or DN/s without photometric calibration.
    column : ndarray
        Column of the first source in each row; shape (row,).
    negative : tuple of ndarray
        Columns of its negative traces, which come from the subtracted nods; each of shape (row,).
    background : ndarray
        Background in `data` in MJy/sr or DN/s, shape (row, column).
    data : ndarray
        Image without noise, shape (row, column); NaN where the image has no data for other reasons
        than a bad pixel. For a stack: at a factor of 1.
    var_poisson, var_rnoise, var_flat : ndarray
        Variances of the noise that was drawn, shape (row, column).
    factors : ndarray, optional
        For a stack: factor of the flux of all sources in each integration; shape (integration,).
    psf : PSF
        Point spread function.
    halo : float
        Fraction of the first source's light in the halo.
    """

    wavelength: NDArray[np.float64]
    flux: NDArray[np.float64]
    unit: u.UnitBase
    column: NDArray[np.float64]
    negative: tuple[NDArray[np.float64], ...]
    background: NDArray[np.float64]
    data: NDArray[np.float64]
    var_poisson: NDArray[np.float64]
    var_rnoise: NDArray[np.float64]
    var_flat: NDArray[np.float64]
    psf: PSF
    halo: float
    factors: NDArray[np.float64] | None = None

    @property
    def variance(self) -> NDArray[np.float64]:
        """Total variance, shape (row, column), NaN where the image has no data."""
        return self.var_poisson + self.var_rnoise + self.var_flat

    def pixel_fractions(self, offset: float = 0.0) -> NDArray[np.float64]:
        """Fraction of the first source's light on each pixel.

        Parameters
        ----------
        offset : float
            Columns by which the source is displaced.

        Returns
        -------
        ndarray
            Shape (row, column); 0 in rows without a wavelength.
        """
        columns = np.arange(self.data.shape[1]) - offset
        distance = columns - self.column[:, np.newaxis]
        lower, upper = ((distance + half) * PIXEL_SCALE for half in (-0.5, 0.5))
        return np.nan_to_num(
            self.psf.enclosed(lower, upper, self.wavelength[:, np.newaxis], self.halo)
        )

    def enclosed(self, lower: ArrayLike, upper: ArrayLike) -> NDArray[np.float64]:
        """Fraction of the first source's light between two edges, in each row.

        Parameters
        ----------
        lower, upper : array_like
            Edges in columns (pixel i extends from i - 0.5 to i + 0.5): numbers, or of shape (row,).

        Returns
        -------
        ndarray
            Shape (row,).
        """
        below, above = (
            (np.asarray(edge, dtype=float) - self.column) * PIXEL_SCALE for edge in (lower, upper)
        )
        return self.psf.enclosed(below, above, self.wavelength, self.halo)


@dataclass(frozen=True, eq=False)
class Simulated:
    """A simulated image and its truth.

    Parameters
    ----------
    image : SlitImage
        The image, with noise.
    truth : Truth
        The values without noise.
    """

    image: SlitImage
    truth: Truth


@dataclass(frozen=True, eq=False)
class Planes:
    """Data and variances of one image or stack."""

    data: NDArray[Any]
    var_poisson: NDArray[Any]
    var_rnoise: NDArray[Any]
    var_flat: NDArray[Any]

    def scaled(self, factor: float) -> Planes:
        """Convert to another unit."""
        square = factor**2
        return Planes(
            self.data * factor,
            self.var_poisson * square,
            self.var_rnoise * square,
            self.var_flat * square,
        )


@dataclass(frozen=True, eq=False)
class Observation:
    """Observed and true planes of an exposure, in MJy/sr, and the background in them."""

    observed: Planes
    true: Planes
    background: NDArray[np.float64]
