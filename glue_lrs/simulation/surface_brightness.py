"""Noise-free images of the sources and the background of a scene."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glue_lrs.simulation.optics import JY_PER_PIXEL, PIXEL_SCALE
from glue_lrs.simulation.spectra import evaluate

if TYPE_CHECKING:
    from glue_lrs.simulation.geometry import Geometry
    from glue_lrs.simulation.optics import PSF
    from glue_lrs.simulation.spectra import Source, Spectral


def source_image(
    sources: Iterable[Source],
    psf: PSF,
    geometry: Geometry,
    position: float,
    pointing_error: float = 0.0,
) -> NDArray[np.float64]:
    """Compute the surface brightness of point sources in MJy/sr, shape (row, column).

    The PSF is integrated exactly over each pixel, so that the sum of a row is the flux.

    Parameters
    ----------
    sources : iterable of Source
        Point sources in the image.
    psf : PSF
        Point spread function.
    geometry : Geometry
        Pixel grid of the image.
    position : float
        Position of the target along the slit in arcsec from the reference point.
    pointing_error : float
        Displacement of all sources along the slit in arcsec.

    Raises
    ------
    SceneError
        If a flux is not finite.
    """
    known = np.isfinite(geometry.wavelength)
    wave = geometry.wavelength[known][:, np.newaxis]
    edges = np.arange(geometry.shape[1] + 1) - 0.5
    image = np.zeros(geometry.shape)
    for source in sources:
        flux = evaluate(source.flux, wave[:, 0], "flux")
        trace = geometry.trace(position + source.position + pointing_error)[known]
        x = (edges - trace[:, np.newaxis]) * PIXEL_SCALE
        fractions = np.diff(psf.cumulative(x, wave, source.halo), axis=1)
        image[known] += flux[:, np.newaxis] / JY_PER_PIXEL * fractions
    return image * geometry.inside


def background_image(
    background: Spectral, slope: float, geometry: Geometry, middle: float
) -> NDArray[np.float64]:
    """Compute the surface brightness of the background in MJy/sr, shape (row, column).

    Parameters
    ----------
    background : float or callable
        Surface brightness at the column `middle` in MJy/sr: a number, or a function of the
        wavelength in micron.
    slope : float
        Relative change of the background per arcsec along the slit.
    geometry : Geometry
        Pixel grid of the image. Rows without a wavelength have the background of the nearest row
        with a wavelength.
    middle : float
        Column at which the surface brightness is `background`.

    Raises
    ------
    SceneError
        If the background is not finite.
    """
    level = evaluate(background, geometry.filled_wavelength, "background")
    distance = (np.arange(geometry.shape[1]) - middle) * PIXEL_SCALE
    return level[:, np.newaxis] * (1.0 + slope * distance)
