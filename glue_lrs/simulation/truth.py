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

__all__ = ["Planes", "Simulated", "Truth"]


# --- what comes out ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Truth:
    """What a simulated image was made from.

    Parameters
    ----------
    wavelength : ndarray
        Wavelength of each row in micron, NaN where there is none; shape (row,).
    flux : ndarray
        Flux of the first source in each row, in `unit`; shape (row,). For a stack: at a factor
        of 1.
    unit : `~astropy.units.Unit`
        Jy, or DN/s without photometric calibration.
    column : ndarray
        Column of the first source in each row; shape (row,).
    negative : tuple of ndarray
        Columns of its negative images, which the other nods have left; each of shape (row,).
    background : ndarray
        What is left of the background in `data`, MJy/sr or DN/s, shape (row, column).
    data : ndarray
        The image without noise, shape (row, column), NaN where the image has no data for any
        reason but a bad pixel. For a stack: at a factor of 1.
    var_poisson, var_rnoise, var_flat : ndarray
        The true variances of which noise was drawn, shape (row, column).
    factors : ndarray, optional
        For a stack: what the flux of all sources is multiplied by; shape (integration,).
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

    def enclosed(self, lower: ArrayLike, upper: ArrayLike) -> NDArray[np.float64]:
        """Fraction of the first source's light between two edges, in each row.

        Parameters
        ----------
        lower, upper : array_like
            Positions of the edges in columns (pixel i reaches from i - 0.5 to i + 0.5): numbers, or
            of shape (row,).
        """
        below, above = (
            (np.asarray(edge, dtype=float) - self.column) * PIXEL_SCALE for edge in (lower, upper)
        )
        return self.psf.enclosed(below, above, self.wavelength, self.halo)


@dataclass(frozen=True, eq=False)
class Simulated:
    """A simulated image and what it was made from.

    Parameters
    ----------
    image : SlitImage
        The image.
    truth : Truth
        Its truth.
    """

    image: SlitImage
    truth: Truth


@dataclass(frozen=True)
class Planes:
    """Planes of one image or of a block of a stack."""

    data: NDArray[Any]
    var_poisson: NDArray[Any]
    var_rnoise: NDArray[Any]
    var_flat: NDArray[Any]

    def scaled(self, factor: float) -> Planes:
        """The same in another unit."""
        square = factor**2
        return Planes(
            self.data * factor,
            self.var_poisson * square,
            self.var_rnoise * square,
            self.var_flat * square,
        )
