"""Noise-free images of the sources and the background of a scene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from glue_lrs.simulation.optics import JY_PER_PIXEL, PIXEL_SCALE
from glue_lrs.simulation.spectra import evaluate

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.simulation.geometry import Geometry
    from glue_lrs.simulation.scene import Scene


def source_image(scene: Scene, geometry: Geometry, position: float) -> Array:
    """Compute the surface brightness of the point sources in MJy/sr, shape (row, column).

    The PSF is integrated exactly over each pixel, so that the sum of a row is the flux.

    Parameters
    ----------
    scene : Scene
        Scene with the sources, the PSF and the pointing error.
    geometry : Geometry
        Pixel grid of the image.
    position : float
        Position of the target along the slit in arcsec from the reference point, without the
        pointing error.

    Raises
    ------
    SceneError
        If a flux is not finite.
    """
    known = np.isfinite(geometry.wavelength)
    wave = geometry.wavelength[known][:, np.newaxis]
    edges = np.arange(geometry.shape[1] + 1) - 0.5
    image = np.zeros(geometry.shape)
    for source in scene.sources:
        flux = evaluate(source.flux, wave[:, 0], "flux")
        trace = geometry.trace(position + source.position + scene.pointing_error)[known]
        x = (edges - trace[:, np.newaxis]) * PIXEL_SCALE
        fractions = np.diff(scene.psf.cumulative(x, wave, source.halo), axis=1)
        image[known] += flux[:, np.newaxis] / JY_PER_PIXEL * fractions
    return image * geometry.inside


def background_image(scene: Scene, geometry: Geometry, middle: float | None = None) -> Array:
    """Compute the surface brightness of the background in MJy/sr, shape (row, column).

    Rows without a wavelength have the background of the nearest row with a wavelength.

    Parameters
    ----------
    scene : Scene
        Scene with the background and its slope.
    geometry : Geometry
        Pixel grid of the image.
    middle : float, optional
        Column at which the surface brightness is ``scene.background``; by default the column of the
        reference point.

    Raises
    ------
    SceneError
        If the background is not finite.
    """
    level = evaluate(scene.background, geometry.filled_wavelength, "background")
    middle = geometry.column if middle is None else middle
    distance = (np.arange(geometry.shape[1]) - middle) * PIXEL_SCALE
    return level[:, np.newaxis] * (1.0 + scene.background_slope * distance)
