"""Simulation of the detector: noise, variance planes and bad pixels.

Poisson noise and read noise are drawn in electrons. Then each pixel is multiplied by a random
flat-field error. The variance planes are estimated from the noisy data, as in the pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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

#: DQ flags that are set at random although the pixels are good: JUMP_DET, and a flag in bit 23.
_HARMLESS = (4, 1 << 23)

#: Mean of two columns, in electrons, to which `Scene.brighter_fatter` refers.
_BRIGHT = 1e5

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
    strength = charge_strength(scene, geometry)
    sources = moved_charge(sources, strength)
    drift, signals, background = scene.background_drift, [sources + sky], sky
    if nod_sources is not None:
        signals = [sources + sky * (1.0 + drift), moved_charge(nod_sources, strength) + sky]
        background = drift * sky
    exposures = [_expose(rng, signal, electrons, noise, scene) for signal in signals]
    flat = 1.0 + scene.flat_error * rng.standard_normal(geometry.shape)
    observed, true = (
        _difference(scene, images[0], images[1:], electrons, noise, gain, is_true)
        for images, gain, is_true in ((exposures, flat, False), (signals, 1.0, True))
    )
    return Observation(observed, true, background)


def observe_nods(
    scene: Scene,
    rng: np.random.Generator,
    geometry: Geometry,
    sources: Sequence[Array],
    sky: Array,
    number: int,
) -> list[Observation]:
    """Simulate several exposures at each of two nods, minus the mean of those at the other nod.

    Parameters
    ----------
    scene, rng, geometry, sky
        Same parameters as in `observe`.
    sources : sequence of ndarray
        Surface brightness of the sources in the exposures at each nod.
    number : int
        Number of exposures at each nod.

    Returns
    -------
    list of Observation
        The exposures at the first nod, followed by those at the second.
    """
    electrons, noise = _electrons(scene, geometry), _noise_map(scene, geometry, rng)
    strength = charge_strength(scene, geometry)
    drift = scene.background_drift
    signals = [
        moved_charge(image, strength) + sky * level
        for image, level in zip(sources, (1.0 + drift, 1.0), strict=True)
    ]
    exposures = [
        [_expose(rng, signal, electrons, noise, scene) for _ in range(number)] for signal in signals
    ]
    flat = 1.0 + scene.flat_error * rng.standard_normal(geometry.shape)
    made = []
    for nod, other, background in ((0, 1, drift * sky), (1, 0, -drift * sky)):
        subtracted = [signals[other]] * number
        true = _difference(scene, signals[nod], subtracted, electrons, noise, 1.0, True)
        for one in exposures[nod]:
            observed = _difference(scene, one, exposures[other], electrons, noise, flat, False)
            made.append(Observation(observed, true.copy(), background))
    return made


def _difference(
    scene: Scene,
    image: Array,
    subtracted: Sequence[Array],
    electrons: Array,
    noise: Array,
    flat: Array | float,
    is_true: bool,
) -> Array:
    """Return the planes of an image minus the mean of others: data and three variances.

    The observed planes (`is_true` is False) omit the variances of the others unless
    `Scene.nod_variance` is True. The noise that pixels have in common (`Scene.common_noise`) is
    included in the variances of the true planes only.
    """
    mean = sum(subtracted) / len(subtracted) if subtracted else 0.0
    data = (image - mean) * flat
    poisson = np.maximum(image, 0.0) / electrons
    rnoise = (noise / electrons) ** 2
    if is_true:
        rnoise = rnoise + 2.0 * (scene.common_noise * scene.read_noise / electrons) ** 2
    if subtracted and (is_true or scene.nod_variance):
        number = len(subtracted)
        poisson = poisson + sum(np.maximum(one, 0.0) for one in subtracted) / electrons / number**2
        rnoise = rnoise * (1.0 + 1.0 / number)
    return np.array([data, poisson, rnoise, (scene.flat_error * data) ** 2])


def charge_strength(scene: Scene, geometry: Geometry) -> Array:
    """Return the strength of the brighter-fatter effect for `moved_charge`, shape (row, 1)."""
    return scene.brighter_fatter / _BRIGHT * _electrons(scene, geometry)


def moved_charge(image: Array, strength: Array) -> Array:
    """Return an image after the brighter-fatter effect, which conserves the sum of each row.

    Parameters
    ----------
    image : ndarray
        Surface brightness in MJy/sr, shape (..., row, column).
    strength : ndarray
        Fraction of the difference between two columns that moves, per MJy/sr of their mean, shape
        (row, 1).
    """
    if not strength.any():
        return image
    left, right = image[..., :-1], image[..., 1:]
    moved = strength * (left + right) / 2.0 * (left - right)
    result = image.copy()
    result[..., :-1] -= moved
    result[..., 1:] += moved
    return result


def observe_stack(
    scene: Scene,
    rng: np.random.Generator,
    geometry: Geometry,
    sources: Array,
    sky: Array,
    factors: Array,
    images: Callable[[slice], Array] | None = None,
) -> Observation:
    """Simulate a stack of integrations with the same flat-field error.

    Parameters
    ----------
    scene, rng, geometry, sources, sky
        Same parameters as in `observe`.
    factors : ndarray
        Factor that multiplies `sources` in each integration, shape (integration,).
    images : callable, optional
        Function that returns the surface brightness of the sources in a slice of the integrations,
        which replaces `sources` in the observed planes, shape (integration, row, column).

    Returns
    -------
    Observation
        The observed planes have the shape (plane, integration, row, column), and the true planes
        have the shape (plane, row, column).
    """
    electrons, noise = _electrons(scene, geometry), _noise_map(scene, geometry, rng)
    flat = 1.0 + scene.flat_error * rng.standard_normal(geometry.shape)
    strength = charge_strength(scene, geometry)
    rnoise = (noise / electrons) ** 2
    planes = np.empty((4, factors.size, *geometry.shape), dtype=np.float32)
    planes[2] = rnoise
    for start in range(0, factors.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        light = sources if images is None else images(block)
        signal = moved_charge(light * factors[block, np.newaxis, np.newaxis], strength) + sky
        data = _expose(rng, signal, electrons, noise, scene)
        planes[1, block] = np.maximum(data, 0.0) / electrons
        data *= flat
        planes[0, block] = data
        planes[3, block] = (scene.flat_error * data) ** 2
    true = _difference(
        scene, moved_charge(sources, strength) + sky, [], electrons, noise, 1.0, True
    )
    return Observation(planes, true, sky)


def with_bad_pixels(
    scene: Scene,
    rng: np.random.Generator,
    planes: NDArray[np.floating],
    resampled: bool,
    reference: float,
) -> tuple[NDArray[np.float32], NDArray[np.uint32] | None]:
    """Return the planes in single precision with bad pixels, and the DQ plane.

    If the image is resampled, all bad pixels are NaN, and the DQ plane is None. `reference` is the
    column of the reference point.
    """
    planes = planes.astype(np.float32)
    shape, frame, fraction = planes.shape[1:], planes.shape[-2:], scene.bad_fraction
    stack = len(shape) == 3
    if stack:
        fraction /= 2
    bad = np.broadcast_to(rng.random(frame) < fraction, shape).copy()
    if stack and fraction:
        bad |= rng.random(shape, dtype=np.float32) < fraction
    for column in defect_columns(scene.dead_columns, reference, frame[1]):
        bad[..., column] = True
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
    """Return a random standard deviation of the read noise for each pixel, in electrons."""
    deviates = np.clip(rng.standard_normal(geometry.shape), -3.0, 3.0)
    return scene.read_noise * (1.0 + 0.05 * deviates)


def defect_columns(columns: Iterable[int], reference: float, width: int) -> list[int]:
    """Return the pixel numbers of `Scene.hot_columns` or `Scene.dead_columns` in an image.

    `reference` is the column of the reference point. Raises `SceneError` if a column is not on the
    image, which has `width` columns.
    """
    found = [round(reference) + column for column in columns]
    if any(not 0 <= column < width for column in found):
        raise SceneError(
            f"hot or dead columns are {found}, expected columns of the image (0 to {width - 1})"
        )
    return found


def _expose(
    rng: np.random.Generator, signal: Array, electrons: Array, noise: Array, scene: Scene
) -> Array:
    """Return a surface brightness with Poisson noise and read noise added.

    `electrons` is the number of electrons for 1 MJy/sr, and `noise` is the standard deviation of
    the read noise in electrons.
    """
    if (signal < 0).any():
        raise SceneError("flux and background add up to less than 0 in some pixels")
    counts = rng.poisson(signal * electrons).astype(float)
    counts += noise * rng.standard_normal(signal.shape)
    if scene.common_noise:
        *stack, rows, columns = signal.shape
        for shape in ((*stack, rows, 1), (*stack, 1, columns)):
            counts += scene.common_noise * scene.read_noise * rng.standard_normal(shape)
    counts /= electrons
    return counts
