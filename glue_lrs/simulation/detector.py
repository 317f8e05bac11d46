"""Detector of the simulator: noise, variance planes and bad pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glue_lrs.simulation.optics import SceneError
from glue_lrs.simulation.spectra import evaluate
from glue_lrs.simulation.truth import Observation, Planes

if TYPE_CHECKING:
    from glue_lrs.simulation.geometry import Geometry
    from glue_lrs.simulation.spectra import Spectral

_DO_NOT_USE = 1
_NON_SCIENCE = 512

#: DQ value of pixels outside the slit: DO_NOT_USE and NON_SCIENCE.
OUTSIDE_SLIT = _DO_NOT_USE | _NON_SCIENCE

#: DQ flags of pixels that are still usable: JUMP_DET, and a warning in bit 23.
_HARMLESS = (4, 1 << 23)

#: Number of integrations of a stack that are simulated at once, to limit the memory use.
_BLOCK = 16


@dataclass(frozen=True, kw_only=True)
class Detector:
    """Noise and bad pixels of the detector; the parameters are those of `Scene`.

    Poisson noise and read noise are drawn in electrons. Then each pixel is multiplied by a random
    flat-field error. The variance planes are estimated from the noisy data, as in the pipeline.
    """

    exposure_time: float
    sensitivity: Spectral
    read_noise: float
    flat_error: float
    bad_fraction: float

    def observe(
        self,
        rng: np.random.Generator,
        geometry: Geometry,
        light: NDArray[np.float64],
        sky: NDArray[np.float64],
        drift: float = 0.0,
        nod_light: NDArray[np.float64] | None = None,
    ) -> Observation:
        """Simulate an exposure, and subtract a simulated exposure of the other nod if it is given.

        Parameters
        ----------
        rng : `~numpy.random.Generator`
            Random number generator of the noise.
        geometry : Geometry
            Pixel grid of the image.
        light, sky : ndarray
            Surface brightness of the sources and of the background in MJy/sr, shape (row, column).
        drift : float
            Background in this exposure divided by the background in the other nod, minus 1. It has
            no effect without `nod_light`.
        nod_light : ndarray, optional
            Surface brightness of the sources in the other nod. If None, no nod is subtracted.
        """
        electrons = self._electrons(geometry)
        noise = self._noise_map(geometry, rng)
        signal = light + (sky if nod_light is None else sky * (1.0 + drift))
        data = self._expose(rng, signal, electrons, noise)
        true, background = signal, sky
        true_poisson, poisson = signal / electrons, np.maximum(data, 0.0) / electrons
        rnoise = (noise / electrons) ** 2
        if nod_light is not None:
            nod_signal = nod_light + sky
            nod_data = self._expose(rng, nod_signal, electrons, noise)
            true, background = signal - nod_signal, drift * sky
            data = data - nod_data
            true_poisson = true_poisson + nod_signal / electrons
            poisson += np.maximum(nod_data, 0.0) / electrons
            rnoise = 2.0 * rnoise
        data = data * (1.0 + self.flat_error * rng.standard_normal(geometry.shape))
        return Observation(
            Planes(data, poisson, rnoise, (self.flat_error * data) ** 2),
            Planes(true, true_poisson, rnoise, (self.flat_error * true) ** 2),
            background,
        )

    def observe_stack(
        self,
        rng: np.random.Generator,
        geometry: Geometry,
        light: NDArray[np.float64],
        sky: NDArray[np.float64],
        factors: NDArray[np.float64],
    ) -> Observation:
        """Simulate a stack of integrations, which share the flat-field error.

        Parameters
        ----------
        rng, geometry, light, sky
            As for `observe`.
        factors : ndarray
            Factor that multiplies `light` in each integration, shape (integration,).

        Returns
        -------
        Observation
            The observed planes have the shape (integration, row, column), and the true planes have
            the shape (row, column).
        """
        electrons = self._electrons(geometry)
        noise = self._noise_map(geometry, rng)
        flat = 1.0 + self.flat_error * rng.standard_normal(geometry.shape)
        shape = (factors.size, *geometry.shape)
        planes = Planes(*(np.empty(shape, dtype=np.float32) for _ in range(4)))
        rnoise = (noise / electrons) ** 2
        planes.var_rnoise[...] = rnoise
        for start in range(0, factors.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            signal = light * factors[block, np.newaxis, np.newaxis] + sky
            data = self._expose(rng, signal, electrons, noise)
            planes.var_poisson[block] = np.maximum(data, 0.0) / electrons
            data *= flat
            planes.data[block] = data
            planes.var_flat[block] = (self.flat_error * data) ** 2
        true = light + sky
        return Observation(
            planes, Planes(true, true / electrons, rnoise, (self.flat_error * true) ** 2), sky
        )

    def with_bad_pixels(
        self, rng: np.random.Generator, planes: Planes, *, resampled: bool
    ) -> tuple[Planes, NDArray[np.uint32] | None]:
        """Copy planes to single precision, as in a file, and add bad pixels.

        Parameters
        ----------
        rng : `~numpy.random.Generator`
            Random number generator of the bad pixels.
        planes : Planes
            Planes of an image or a stack.
        resampled : bool
            Whether the image is resampled. Then all bad pixels are NaN and there is no DQ plane.

        Returns
        -------
        (Planes, ndarray or None)
            Planes in single precision, and the DQ plane (None if resampled).
        """
        data, *variances = (
            np.array(plane, dtype=np.float32)
            for plane in (planes.data, planes.var_poisson, planes.var_rnoise, planes.var_flat)
        )
        stack, frame = data.ndim == 3, data.shape[-2:]
        fraction = self.bad_fraction / 2 if stack else self.bad_fraction
        bad = np.broadcast_to(rng.random(frame) < fraction, data.shape).copy()
        if stack and self.bad_fraction:
            bad |= rng.random(data.shape, dtype=np.float32) < self.bad_fraction / 2
        if resampled:
            for plane in (data, *variances):
                plane[bad] = np.nan
            return Planes(data, *variances), None
        dq = np.zeros(data.shape, dtype=np.uint32)
        for flag in _HARMLESS:
            dq[..., rng.random(frame) < 0.02] |= np.uint32(flag)
        where = np.nonzero(bad)
        dq[where] |= np.uint32(_DO_NOT_USE)
        missing = rng.random(where[0].size) < 0.5
        outliers = rng.uniform(-1e4, 1e5, missing.size)
        data[where] = np.where(missing, np.nan, outliers).astype(np.float32)
        for plane in variances:
            plane[where] = np.where(missing, np.nan, plane[where])
        return Planes(data, *variances), dq

    def _electrons(self, geometry: Geometry) -> NDArray[np.float64]:
        """Return the number of electrons for 1 MJy/sr in each row, shape (row, 1)."""
        rate = evaluate(self.sensitivity, geometry.filled_wavelength, "sensitivity")
        if not (rate > 0).all():
            raise SceneError("sensitivity is not greater than 0 everywhere")
        return np.asarray(rate * self.exposure_time)[:, np.newaxis]

    def _noise_map(self, geometry: Geometry, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw the standard deviation of the read noise of each pixel in electrons."""
        deviates = np.clip(rng.standard_normal(geometry.shape), -3.0, 3.0)
        return self.read_noise * (1.0 + 0.05 * deviates)

    @staticmethod
    def _expose(
        rng: np.random.Generator,
        signal: NDArray[np.float64],
        electrons: NDArray[np.float64],
        noise: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Add Poisson noise and read noise to a surface brightness.

        `electrons` is the number of electrons for 1 MJy/sr, and `noise` the standard deviation of
        the read noise in electrons.
        """
        if (signal < 0).any():
            raise SceneError("flux and background add up to less than 0 in some pixels")
        counts = rng.poisson(signal * electrons).astype(float)
        counts += noise * rng.standard_normal(signal.shape)
        counts /= electrons
        return counts
