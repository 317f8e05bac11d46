"""Shift of the sources in each integration of a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from glue_lrs.fitting.least_squares import invert_ridge
from glue_lrs.fitting.source_model import profile_images
from glue_lrs.image.pixels import good_pixels

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.fitting.engine import SlitFit
    from glue_lrs.fitting.source_model import LinearFit, SourceModel
    from glue_lrs.image.slit_image import SlitImage

#: Maximum number of pixels that are read at once.
_BLOCK_PIXELS = 1 << 20

#: A pixel is an outlier if its residual exceeds the sum of two terms. The second term is included
#: because a shift of the source causes residuals that are proportional to its flux.
_OUTLIER, _OUTLIER_FRACTION = (
    6.0,  # first term in standard deviations
    0.1,  # second term as a fraction of the source model
)


def background_model(linear: LinearFit, number: int) -> Array:
    """Return the fitted background in each pixel, shape (row, column).

    `number` is the number of sources, which are the first terms of `linear.basis`.
    """
    sources = np.einsum("rcs,sr->rc", linear.basis[..., :number], linear.flux)
    return linear.model - sources


def integration_shifts(
    image: SlitImage, model: SourceModel, fit: SlitFit, correlation: float
) -> tuple[Array, Array]:
    """Measure the common shift of all sources in each integration relative to the mean image.

    The shift is computed by one Gauss-Newton step from the fit to the mean image. The fluxes and
    the background are free in each row. Bad pixels do not contribute. The flat-field error does not
    contribute to the errors because it is the same in all integrations.

    Parameters
    ----------
    image : SlitImage
        Stack of integrations to measure.
    model : SourceModel
        Model of the mean image, with the final weights of the pixels.
    fit : SlitFit
        Converged fit of the mean image.
    correlation : float
        Factor by which correlated noise increases the errors.

    Returns
    -------
    (ndarray, ndarray)
        Shifts and their 1-sigma errors in columns, shape (integration,). They are NaN for an
        integration without data.
    """
    slit, linear = model.slit, fit.linear
    geometry = fit.parameters.geometry(slit)
    number = image.data.shape[0]
    weight = model.good / model.variance
    basis = linear.basis
    weighted = np.swapaxes(basis * weight[..., np.newaxis], 1, 2)
    _, derivatives = profile_images(slit, geometry)
    jacobian = np.einsum("sr,src->rc", linear.smooth, derivatives["shift"])
    projected = (basis @ (linear.inverse @ (weighted @ jacobian[..., np.newaxis])))[..., 0]
    kernel = weight * (jacobian - projected)
    sources = linear.model - background_model(linear, len(geometry.traces))
    brightness = weight * _without_background(sources, basis, weighted, weight)
    brightness_norm = float((brightness * sources).sum())
    variance = np.maximum(model.variance - slit.variances[2], 0.0) * number
    shift, error = np.full(number, np.nan), np.full(number, np.nan)
    window = tuple(slice(at[0], at[-1] + 1) for at in (slit.rows, slit.columns))
    limit = _OUTLIER * np.sqrt(variance) + _OUTLIER_FRACTION * np.abs(sources)
    used_rows = slit.rows - slit.rows[0]
    step = max(1, _BLOCK_PIXELS // (slit.rows.size * slit.columns.size))
    for first in range(0, number, step):
        where = (slice(first, min(first + step, number)), *window)
        data = np.asarray(image.data[where], dtype=float)[:, used_rows]
        good = good_pixels(image, where)[:, used_rows] & model.good
        residual = np.where(good, data - linear.model, 0.0)
        factor = 1.0 + np.einsum("irc,rc->i", residual, brightness) / brightness_norm
        scaled = (factor - 1.0)[:, np.newaxis, np.newaxis] * sources
        residual = np.where(good, data - linear.model - scaled, 0.0)
        outlier = np.abs(residual) > limit
        residual[outlier] = 0.0
        used = (good & ~outlier).astype(float)
        norm = factor * np.einsum("irc,rc->i", used, kernel * jacobian)
        power = np.einsum("irc,rc->i", used, kernel**2 * variance)
        with np.errstate(invalid="ignore", divide="ignore"):
            shift[where[0]] = np.einsum("irc,rc->i", residual, kernel) / norm
            error[where[0]] = np.sqrt(power) / np.abs(norm)
    return shift, error * correlation


def _without_background(image: Array, basis: Array, weighted: Array, weight: Array) -> Array:
    """Subtract from an image the weighted fit of the background terms in each row.

    The last two terms of `basis` are the background terms. `weighted` is `basis` times the weights,
    with the last two axes swapped.
    """
    background = basis[..., -2:]
    normal = np.swapaxes(background * weight[..., np.newaxis], 1, 2) @ background
    moments = weighted[:, -2:] @ image[..., np.newaxis]
    return image - (background @ (invert_ridge(normal) @ moments))[..., 0]
