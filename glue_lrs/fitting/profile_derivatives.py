"""Profiles evaluated on pixels, with derivatives with respect to position and width."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import ndtr

from glue_lrs._utils.typing import Array
from glue_lrs.instrument import FWHM
from glue_lrs.profiles.base import SpatialProfile
from glue_lrs.profiles.gaussian import GaussianProfile

#: Smallest ratio of the width of a Gaussian to the expected width. Gauss-Newton steps cannot make
#: the width smaller.
MIN_FACTOR = 0.3


def profile_images(
    profile: SpatialProfile, offsets: Array, wavelength: Array
) -> tuple[Array, Array, Array]:
    """Evaluate a profile and its derivatives on pixels that are one column apart.

    The derivatives of a Gaussian are analytic. They are computed from values at the edges of the
    pixels.

    Parameters
    ----------
    profile : SpatialProfile
        Profile to evaluate.
    offsets : ndarray
        Distance in columns from each source to each pixel, shape (source, row, column).
    wavelength : ndarray
        Wavelength of each row in micron, shape (row,).

    Returns
    -------
    light : ndarray
        Fraction of the flux on each pixel, with the shape of `offsets`.
    d_offset : ndarray
        Derivative of this fraction with respect to `offsets`.
    d_log_width : ndarray
        Derivative of this fraction with respect to the logarithm of the width of a Gaussian. It is
        0 for other profiles, whose width is fixed.
    """
    if not isinstance(profile, GaussianProfile):
        light = np.stack([profile(offset, wavelength) for offset in offsets])
        slope = np.stack([profile.derivative(offset, wavelength) for offset in offsets])
        return light, slope, np.zeros_like(light)
    sigma = np.nan_to_num(profile.fwhm(wavelength)[:, np.newaxis] / FWHM, nan=1.0)
    edges = np.concatenate([offsets - 0.5, offsets[..., -1:] + 0.5], axis=-1) / sigma
    edges[np.isnan(edges)] = 0.0
    density = np.exp(-0.5 * edges**2) / np.sqrt(2.0 * np.pi)
    return np.diff(ndtr(edges)), np.diff(density) / sigma, -np.diff(density * edges)


def widen(profile: GaussianProfile, change: Array) -> GaussianProfile:
    """Return a Gaussian whose width polynomial is multiplied by 1 + change.

    `change` holds the coefficients of a polynomial in wavelength. The product is truncated to the
    higher order of the two polynomials.
    """
    size = max(len(profile.factor), change.size)
    factor, change = (np.pad(terms, (0, size - len(terms))) for terms in (profile.factor, change))
    factor = factor + np.convolve(factor, change)[:size]
    factor[0] = max(factor[0], MIN_FACTOR)
    return replace(profile, factor=tuple(factor))
