"""Simulation of the detector: noise, variance planes and bad pixels.

Poisson noise and read noise are drawn in electrons. Then each pixel is multiplied by a random
flat-field error. The variance planes are estimated from the noisy data, as in the pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from glue_lrs.simulation.optics import SceneError
from glue_lrs.simulation.spectra import evaluate

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array
    from glue_lrs.simulation.geometry import Geometry
    from glue_lrs.simulation.scene import Scene

_DO_NOT_USE = 1
_NON_SCIENCE = 512

#: DQ value of pixels outside the slit: DO_NOT_USE and NON_SCIENCE.
OUTSIDE_SLIT = _DO_NOT_USE | _NON_SCIENCE

#: DQ flags that do not exclude a pixel: JUMP_DET, and a flag in bit 23.
_HARMLESS = (4, 1 << 23)

#: Number of integrations of a stack that are simulated at once, to limit the memory use.
_BLOCK = 16


class Observation(NamedTuple):
    """Result of a simulated exposure, in MJy/sr.

    `observed` and `true` are the planes with and without noise. The planes along the first axis are
    the data and the variances from Poisson noise, read noise and flat-field error. `background` is
    the noise-free background in the data.
    """

    observed: NDArray[np.floating]
    true: Array
    background: Array


def observe(
    scene: Scene,
    rng: np.random.Generator,
    geometry: Geometry,
    sources: Array,
    sky: Array,
    nod_sources: Array | None,
) -> Observation:
    """Simulate an exposure, and subtract a simulated exposure at the other nod if requested.

    Parameters
    ----------
    scene : Scene
        Scene whose noise parameters are used.
    rng : `~numpy.random.Generator`
        Random number generator for the noise.
    geometry : Geometry
        Pixel grid of the image.
    sources, sky : ndarray
        Surface brightness of the sources and of the background in MJy/sr, shape (row, column).
    nod_sources : ndarray, optional
        Surface brightness of the sources in the exposure at the other nod, which is subtracted. If
        None, no exposure is subtracted.
    """
    electrons, noise = _electrons(scene, geometry), _noise_map(scene, geometry, rng)
    drift, signals, background = scene.background_drift, [sources + sky], sky
    if nod_sources is not None:
        signals, background = [sources + sky * (1.0 + drift), nod_sources + sky], drift * sky
    exposures = [_expose(rng, signal, electrons, noise) for signal in signals]
    flat = 1.0 + scene.flat_error * rng.standard_normal(geometry.shape)
    rnoise = len(signals) * (noise / electrons) ** 2

    def planes(images: Sequence[Array], flat: Array | float) -> Array:
        data = (images[0] - sum(images[1:])) * flat
        poisson = sum(np.maximum(image, 0.0) / electrons for image in images)
        return np.array([data, poisson, rnoise, (scene.flat_error * data) ** 2])

    return Observation(planes(exposures, flat), planes(signals, 1.0), background)


def observe_stack(
    scene: Scene,
    rng: np.random.Generator,
    geometry: Geometry,
    sources: Array,
    sky: Array,
    factors: Array,
) -> Observation:
    """Simulate a stack of integrations with the same flat-field error.

    Parameters
    ----------
    scene, rng, geometry, sources, sky
        Same parameters as in `observe`.
    factors : ndarray
        Factor that multiplies `sources` in each integration, shape (integration,).

    Returns
    -------
    Observation
        The observed planes have the shape (plane, integration, row, column), and the true planes
        have the shape (plane, row, column).
    """
    electrons, noise = _electrons(scene, geometry), _noise_map(scene, geometry, rng)
    flat = 1.0 + scene.flat_error * rng.standard_normal(geometry.shape)
    rnoise = (noise / electrons) ** 2
    planes = np.empty((4, factors.size, *geometry.shape), dtype=np.float32)
    planes[2] = rnoise
    for start in range(0, factors.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        signal = sources * factors[block, np.newaxis, np.newaxis] + sky
        data = _expose(rng, signal, electrons, noise)
        planes[1, block] = np.maximum(data, 0.0) / electrons
        data *= flat
        planes[0, block] = data
        planes[3, block] = (scene.flat_error * data) ** 2
    true = sources + sky
    true_planes = np.array([true, true / electrons, rnoise, (scene.flat_error * true) ** 2])
    return Observation(planes, true_planes, sky)


def with_bad_pixels(
    scene: Scene, rng: np.random.Generator, planes: NDArray[np.floating], resampled: bool
) -> tuple[NDArray[np.float32], NDArray[np.uint32] | None]:
    """Return the planes in single precision with bad pixels, and the DQ plane.

    If the image is resampled, all bad pixels are NaN, and the DQ plane is None.
    """
    planes = planes.astype(np.float32)
    shape, frame, fraction = planes.shape[1:], planes.shape[-2:], scene.bad_fraction
    stack = len(shape) == 3
    if stack:
        fraction /= 2
    bad = np.broadcast_to(rng.random(frame) < fraction, shape).copy()
    if stack and fraction:
        bad |= rng.random(shape, dtype=np.float32) < fraction
    if resampled:
        planes[:, bad] = np.nan
        return planes, None
    dq = np.zeros(shape, dtype=np.uint32)
    for flag in _HARMLESS:
        dq[..., rng.random(frame) < 0.02] |= np.uint32(flag)
    dq[bad] |= np.uint32(_DO_NOT_USE)
    missing = rng.random(np.count_nonzero(bad)) < 0.5
    planes[0, bad] = rng.uniform(-1e4, 1e5, missing.size)
    planes[:, bad] = np.where(missing, np.nan, planes[:, bad])
    return planes, dq


def _electrons(scene: Scene, geometry: Geometry) -> Array:
    """Return the number of electrons per pixel for 1 MJy/sr in each row, shape (row, 1)."""
    rate = evaluate(scene.sensitivity, geometry.filled_wavelength, "sensitivity")
    if not (rate > 0).all():
        raise SceneError("sensitivity is not greater than 0 everywhere")
    return np.asarray(rate * scene.exposure_time)[:, np.newaxis]


def _noise_map(scene: Scene, geometry: Geometry, rng: np.random.Generator) -> Array:
    """Draw the standard deviation of the read noise in each pixel, in electrons."""
    deviates = np.clip(rng.standard_normal(geometry.shape), -3.0, 3.0)
    return scene.read_noise * (1.0 + 0.05 * deviates)


def _expose(rng: np.random.Generator, signal: Array, electrons: Array, noise: Array) -> Array:
    """Return a surface brightness with Poisson noise and read noise added.

    `electrons` is the number of electrons for 1 MJy/sr, and `noise` is the standard deviation of
    the read noise in electrons.
    """
    if (signal < 0).any():
        raise SceneError("flux and background add up to less than 0 in some pixels")
    counts = rng.poisson(signal * electrons).astype(float)
    counts += noise * rng.standard_normal(signal.shape)
    counts /= electrons
    return counts
