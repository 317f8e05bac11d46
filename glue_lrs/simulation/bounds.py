"""Bounds on the accuracy of extractions, computed from the true values of a simulated image.

The bounds depend only on the PSF and the true variances, and not on an extraction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from glue_lrs.profiles.base import SpatialProfile
from glue_lrs.simulation.optics import JY_PER_PIXEL
from glue_lrs.simulation.truth import Truth

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.simulation.optics import PSFLaw


class TrueProfile(SpatialProfile):
    """Exact spatial profile of a simulated source.

    Parameters
    ----------
    psf : PSFLaw
        Point spread function of the scene.
    halo : float
        Fraction of the source's flux in the halo.
    """

    def __init__(self, psf: PSFLaw, halo: float) -> None:
        self.psf, self.halo = psf, halo

    def __call__(self, offset: Array, wavelength: Array) -> Array:
        """Return the fraction of the flux in each pixel, shape (row, column).

        The parameters are those of `SpatialProfile`.
        """
        return self.psf.pixel_fractions(offset, wavelength, self.halo)


@dataclass(frozen=True, eq=False)
class LinearBound:
    """Cramer-Rao bounds on flux and position of the first source in each row of an image.

    Parameters
    ----------
    error : ndarray
        Smallest possible 1-sigma error of the first source's flux in Jy, shape (row,). It is NaN in
        rows without data, and in rows in which the sources cannot be separated.
    noise : ndarray
        Difference in Jy between the best linear estimate of the first source's flux from the noisy
        data and the true flux, shape (row,). It is NaN if the bound was computed without data.
    information : ndarray
        Fisher information about the first source's position in 1 / column^2, shape (row,). For a
        position that is fitted to all rows together, the inverse variance is the sum over the rows.

    Notes
    -----
    The data d in a row are modelled as A f plus independent normal noise with variances V, where f
    are the fluxes of the sources and the background coefficients. The estimate
    (A^T V^-1 A)^-1 A^T V^-1 d of f is unbiased and has the covariance (A^T V^-1 A)^-1. No linear
    unbiased estimate has a smaller variance (Gauss-Markov theorem). For normal noise this
    covariance is the Cramer-Rao bound (Kay 1993, Fundamentals of Statistical Signal Processing:
    Estimation Theory, sections 4.5 and 3.8). The information about the positions is the Schur
    complement of the Fisher matrix, in which f is eliminated.
    """

    error: Array
    noise: Array
    information: Array

    @classmethod
    def from_truth(
        cls,
        truth: Truth,
        order: int | None,
        *,
        data: ArrayLike | None = None,
        good: Mask | None = None,
        separations: tuple[float, ...] = (),
        flux_ratios: tuple[float, ...] = (),
        flux: ArrayLike = np.nan,
        factor: float = 1.0,
    ) -> LinearBound:
        """Compute the bound from the true values of a simulated image.

        Parameters
        ----------
        truth : Truth
            True values of the image.
        order : int or None
            Order of the background polynomial that is fitted in each row. If None, no background is
            fitted.
        data : array_like, optional
            Noisy image of shape (row, column). It is needed only for `noise`.
        good : ndarray of bool, optional
            Mask of the pixels that are used. The default is all pixels with data.
        separations : tuple of float
            Distances in columns from the first source to the other sources, which are fitted
            simultaneously.
        flux_ratios : tuple of float
            Flux of each other source divided by the flux of the first source.
        flux : float or array_like
            Flux of the first source in Jy, as a number or an array of shape (row,). It is needed
            only for `information`.
        factor : float
            Ratio of the flux in `data` to the flux in `truth`. It may differ from 1 if `data` is an
            integration of a stack.

        Returns
        -------
        LinearBound
            Bounds in each row.
        """
        variance = truth.variance
        use = np.isfinite(variance) & (variance > 0)
        if good is not None:
            use &= good
        weight = np.divide(1.0, variance, out=np.zeros_like(variance), where=use)
        basis = [truth.pixel_fractions(offset) for offset in (0.0, *separations)]
        rows = len(variance)
        if order is not None:
            x = np.linspace(-1, 1, variance.shape[1])
            basis += [np.broadcast_to(x**i, variance.shape) for i in range(order + 1)]
        inverse, solvable = _inverse_normal_matrix(basis, weight)
        error, noise, information = (np.full(rows, np.nan) for _ in range(3))
        error[solvable] = np.sqrt(inverse[:, 0, 0]) * JY_PER_PIXEL
        if data is not None:
            residual = np.where(use, np.asarray(data) - factor * truth.data, 0.0)
            moments = _projections(basis, weight, residual)[solvable]
            noise[solvable] = np.einsum("rj,rj->r", inverse[:, 0], moments) * JY_PER_PIXEL
        fluxes = np.broadcast_to(flux, rows)[:, np.newaxis]
        shifts = [
            (truth.pixel_fractions(offset + 0.01) - truth.pixel_fractions(offset - 0.01))
            * (50.0 * ratio * fluxes / JY_PER_PIXEL)
            for offset, ratio in zip((0.0, *separations), (1.0, *flux_ratios), strict=True)
        ]
        number = len(shifts)
        fisher = np.zeros((int(solvable.sum()), number, number))
        across = [_projections(basis, weight, shift)[solvable] for shift in shifts]
        for i, j in np.ndindex(number, number):
            fisher[:, i, j] = (weight * shifts[i] * shifts[j]).sum(axis=1)[solvable]
            fisher[:, i, j] -= np.einsum("ri,rij,rj->r", across[i], inverse, across[j])
        # The positions of the other sources are also unknown, which reduces the information.
        information[solvable] = (
            1.0 / np.linalg.inv(fisher)[:, 0, 0] if number > 1 else fisher[:, 0, 0]
        )
        return cls(error, noise, information)


def _projections(basis: Sequence[Array], weight: Array, image: Array) -> Array:
    """Return the sum of weight x basis x image in each row for each basis image.

    The result has the shape (row, basis image).
    """
    return np.stack([(b * weight * image).sum(axis=1) for b in basis], axis=-1)


def _inverse_normal_matrix(basis: Sequence[Array], weight: Array) -> tuple[Array, Mask]:
    """Return the inverse of A^T V^-1 A in the rows where it exists, and the mask of these rows.

    `basis` contains the columns of A as images, and `weight` contains the inverse variances.
    """
    matrix = np.array([[(a * b * weight).sum(axis=1) for a in basis] for b in basis])
    matrix = np.moveaxis(matrix, -1, 0)
    diagonal = np.arange(len(basis))
    scale = np.sqrt(matrix[:, diagonal, diagonal])
    solvable = (scale > 0).all(axis=1)
    matrix = matrix[solvable] / scale[solvable, :, np.newaxis] / scale[solvable, np.newaxis, :]
    regular = np.linalg.cond(matrix) < 1e8
    solvable[solvable] = regular
    inverse = np.linalg.inv(matrix[regular])
    inverse = inverse / scale[solvable, :, np.newaxis] / scale[solvable, np.newaxis, :]
    return inverse, solvable


def best_box_error(truth: Truth) -> Array:
    """Compute the smallest error in each row that a box extraction can reach.

    The flux is aperture-corrected, and no background is subtracted.

    Parameters
    ----------
    truth : Truth
        True values of the image.

    Returns
    -------
    ndarray
        Error of the corrected flux in Jy for the best box in each row, shape (row,). It is the
        error of the sum divided by the fraction of the flux inside the box.

    Notes
    -----
    Position and width of the box are optimised in each row. The edges of the box may divide pixels:
    a pixel with weight w contributes w times its flux and w^2 times its variance. For a finely
    sampled Gaussian in white noise, the result is 1.06 times the error of `LinearBound`. With the
    pixels of LRS (FWHM of 2.6 to 3.8 pixels) it is only 1.01 to 1.03 times this error, because the
    weights of divided pixels resemble the profile.
    """
    variance = np.nan_to_num(truth.variance)
    profile, columns = truth.pixel_fractions(), np.arange(truth.data.shape[1])
    best = np.full(len(profile), np.inf)
    for offset in np.arange(-0.5, 0.5, 0.05):
        for width in np.arange(1.0, 14.0, 0.05):
            distance = columns - truth.column[:, np.newaxis] - offset
            right = np.minimum(distance + 0.5, width / 2)
            left = np.maximum(distance - 0.5, -width / 2)
            weight = np.clip(right - left, 0.0, 1.0)
            with np.errstate(invalid="ignore", divide="ignore"):
                error = np.sqrt((variance * weight**2).sum(1)) / (profile * weight).sum(1)
            best = np.fmin(best, error)
    return best * JY_PER_PIXEL
