"""Joint fit of the source positions and the profile width in wavelength bands.

The free parameters are the position of each source in each band, one width in each band for all
sources, and the shape of the profile, which is the same in all bands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glue_lrs.fitting.engine import LOOSE, possible_terms, shape_prior
from glue_lrs.fitting.least_squares import project_curvature
from glue_lrs.fitting.source_model import SourceGeometry
from glue_lrs.profiles.diffraction import SHAPES

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.fitting.engine import SlitFit
    from glue_lrs.fitting.source_model import SourceModel

#: Minimum squared signal-to-noise ratio of the target in a band. It reduces the number of bands for
#: faint sources.
_MIN_POWER = 150.0

#: Standard deviation in columns of the prior on the shift of a source in a band from its trace,
#: which is a smooth function of the row.
_SHIFT_PRIOR = 1.0


def assign_bands(
    model: SourceModel, fit: SlitFit, target: int, scale: float, bands: int
) -> NDArray[np.intp]:
    """Assign each fitted row to a band, so that the bands are similar in accuracy and size.

    Parameters
    ----------
    model : SourceModel
        Model of the image, with the final weights of the pixels.
    fit : SlitFit
        Converged fit of the model.
    target : int
        Index of the target among the sources of the fit.
    scale : float
        Factor by which all errors are increased (see `Measurement.noise_factor`).
    bands : int
        Maximum number of bands.

    Returns
    -------
    ndarray of int
        Index of the band to which each row belongs, counted from 0.
    """
    linear, rows = fit.linear, model.slit.rows.size
    information = linear.curvature[:, target, target]
    variance = np.maximum(linear.flux_variance[target], 1e-300)
    power = float((linear.smooth[target] ** 2 / variance).sum())
    number = min(int(np.clip(power / scale**2 / _MIN_POWER, 1, bands)), rows)
    share = np.cumsum(information) / max(float(information.sum()), 1e-300)
    position = 0.5 * share + 0.5 * (np.arange(rows) + 1.0) / rows
    band = np.minimum((position * number * (1.0 - 1e-9)).astype(int), number - 1)
    return np.unique(band, return_inverse=True)[1]


@dataclass(frozen=True, eq=False)
class BandFit:
    """Shifts of the sources and width of the profile in each band.

    The fluxes and the background, which are free in each row, are not parameters of this fit.

    Parameters
    ----------
    shift, shift_error : ndarray
        Shift of each source from its smooth trace in columns, and 1-sigma error of the shift,
        shape (source, band).
    log_core : ndarray
        Natural logarithm of the core width in columns, shape (band,).
    terms : ndarray
        Shape terms of the profile, which are common to all bands. See `Measurement.shape_terms`.
    covariance : ndarray
        Covariance matrix of `log_core` and the p `terms` in each band, shape
        (band, 1 + p, 1 + p).
    rows, wavelength : ndarray
        Weighted mean row of each band, and wavelength in micron at this row, shape (band,).
    """

    shift: Array
    shift_error: Array
    log_core: Array
    terms: Array
    covariance: Array
    rows: Array
    wavelength: Array

    @classmethod
    def from_fit(
        cls, model: SourceModel, fit: SlitFit, band: NDArray[np.intp], target: int, scale: float
    ) -> BandFit:
        """Fit the bands with Gauss-Newton steps, starting from the smooth traces and widths.

        Parameters
        ----------
        model, fit, target, scale
            As for `assign_bands`.
        band : ndarray of int
            Index of the band to which each row belongs.
        """
        slit, parameters = model.slit, fit.parameters
        number, bands = parameters.shift.size, int(band.max()) + 1
        shifts = number * bands
        tangent = _tangent(number, band)
        size = tangent.shape[2]
        mean, precision = np.zeros(size), np.zeros(size)
        precision[:shifts] = 1.0 / _SHIFT_PRIOR**2
        precision[shifts:-SHAPES] = 1.0 / LOOSE**2
        mean[-SHAPES:], precision[-SHAPES:] = shape_prior()
        vector = np.zeros(size)
        vector[-SHAPES:] = parameters.terms
        smooth = parameters.geometry(slit)
        hessian = np.eye(size)
        for _ in range(3):
            geometry = SourceGeometry(
                smooth.traces + vector[:shifts].reshape(number, bands)[:, band],
                smooth.log_core + vector[shifts:-SHAPES][band],
                possible_terms(vector[-SHAPES:], parameters.terms),
            )
            linear = model.solve(geometry)
            hessian = project_curvature(linear.curvature, tangent)
            hessian += np.diag(precision)
            gradient = np.einsum("rpk,rp->k", tangent, linear.gradient)
            gradient += precision * (mean - vector)
            step = np.linalg.solve(hessian, gradient)
            vector = vector + np.clip(step, -0.5, 0.5)
            if float(gradient @ step) < 1e-4:
                break
        covariance = np.linalg.inv(hessian) * scale**2
        weight = np.maximum(fit.linear.curvature[:, target, target], 1e-300)
        band_rows = np.bincount(band, weight * slit.rows) / np.bincount(band, weight)
        indices = [[shifts + b, *range(size - SHAPES, size)] for b in range(bands)]
        errors = np.sqrt(np.diag(covariance))
        return cls(
            shift=vector[:shifts].reshape(number, bands),
            shift_error=errors[:shifts].reshape(number, bands),
            log_core=vector[shifts:-SHAPES] + np.interp(band_rows, slit.rows, smooth.log_core),
            terms=possible_terms(vector[-SHAPES:], parameters.terms),
            covariance=np.array([covariance[np.ix_(index, index)] for index in indices]),
            rows=band_rows,
            wavelength=np.interp(band_rows, slit.rows, slit.wave),
        )


def _tangent(number: int, band: NDArray[np.intp]) -> Array:
    """Return the derivatives of the row parameters with respect to the fitted parameters.

    The row parameters are the shift of each source, the width and the shape terms. The fitted
    parameters are the shifts and the width in each band, and the common shape terms. The shape of
    the result is (row, row parameter, fitted parameter).
    """
    bands, rows = int(band.max()) + 1, np.arange(band.size)
    size = (number + 1) * bands + SHAPES
    tangent = np.zeros((band.size, number + 1 + SHAPES, size))
    for s in range(number + 1):
        tangent[rows, s, s * bands + band] = 1.0
    for n in range(SHAPES):
        tangent[:, number + 1 + n, size - SHAPES + n] = 1.0
    return tangent
