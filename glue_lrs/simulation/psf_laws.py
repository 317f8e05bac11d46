"""Laws for the point spread function of simulated scenes, other than `glue_lrs.simulation.PSF`.

The laws differ in the width as a function of the wavelength, and in shape, so that scenes can show
whether an extraction works only for the law with which it was developed. Each law is integrated
over the pixels, not sampled at their centres. `LAWS` contains several instances.

The width of the real PSF is known from a bright star (program 6620). The laws do not reproduce it:
`telescope_width` differs from it by 3% to 15%, with another dependence on the wavelength.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import RectBivariateSpline
from scipy.ndimage import gaussian_filter1d
from scipy.special import erf, stdtr

from glue_lrs.simulation.optics import PIXEL_SCALE, PSFLaw, SceneError
from glue_lrs.simulation.spectra import Spectral, evaluate

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask

#: Width of the slit in dispersion direction in arcsec.
_SLIT_WIDTH = 0.51

#: Flat-to-flat width of a mirror segment of the telescope, and the width of the gap between two
#: segments, in m.
_SEGMENT, _GAP = 1.32, 0.013

#: Width in m and number of samples of the map of the pupil, and number of samples of its Fourier
#: transform along an axis.
_PUPIL_WIDTH, _PUPIL_SAMPLES, _TRANSFORM_SAMPLES = 13.0, 256, 1024

_ARCSEC_PER_RADIAN = 206264.806


def telescope_width(wavelength: ArrayLike) -> Array:
    """Return a FWHM in arcsec that resembles that of the telescope, at wavelengths in micron.

    It is the quadratic sum of a constant blur of 0.182 arcsec and of diffraction, which is
    proportional to the wavelength, 0.0307 arcsec per micron.
    """
    return np.hypot(0.182, 0.0307 * np.asarray(wavelength, dtype=float))


def straight_width(wavelength: ArrayLike) -> Array:
    """Return a FWHM in arcsec that is a linear function of the wavelength in micron."""
    return 0.22 + 0.0155 * (np.asarray(wavelength, dtype=float) - 5.0)


def wavy_width(wavelength: ArrayLike) -> Array:
    """Return `telescope_width`, modulated by a sine of the wavelength with an amplitude of 5%."""
    wave = np.asarray(wavelength, dtype=float)
    return telescope_width(wave) * (1.0 + 0.05 * np.sin(2.0 * np.pi * (wave - 5.0) / 3.5))


def _checked_width(width: Spectral, wavelength: Array) -> Array:
    """Return the FWHM in arcsec at each wavelength, NaN where the wavelength is NaN.

    Raises `SceneError` if it is not positive.
    """
    known = np.isfinite(wavelength)
    values = np.full(wavelength.shape, np.nan)
    values[known] = evaluate(width, wavelength[known], "width")
    if (values <= 0).any():
        raise SceneError(f"width is {np.nanmin(values):g} arcsec, expected more than 0")
    return values


@dataclass(frozen=True)
class Gaussian(PSFLaw):
    """Gaussian whose width is any function of the wavelength.

    Parameters
    ----------
    width : float or callable
        FWHM in arcsec, as a number or a function of the wavelength in micron.
    """

    width: Spectral = telescope_width

    def core(self, x: Array, wavelength: Array) -> Array:  # noqa: D102 - inherited
        # For a Gaussian, 1 / (sqrt(2) sigma) equals 2 sqrt(ln 2) / FWHM.
        scale = 2.0 * np.sqrt(np.log(2.0)) / _checked_width(self.width, wavelength)
        return np.asarray(0.5 * (1.0 + erf(x * scale)))


@dataclass(frozen=True)
class Moffat(PSFLaw):
    """Moffat function (1 + (r / a)^2)^-beta, integrated in dispersion direction.

    Parameters
    ----------
    width : float or callable
        FWHM in arcsec of the integrated function, as a number or a function of the wavelength in
        micron.
    beta : float
        Exponent, more than 1. The smaller the exponent, the stronger are the wings.

    Raises
    ------
    SceneError
        If `beta` is not more than 1.
    """

    width: Spectral = telescope_width
    beta: float = 2.8

    def __post_init__(self) -> None:
        if not self.beta > 1:
            raise SceneError(f"beta is {self.beta}, expected more than 1")

    def core(self, x: Array, wavelength: Array) -> Array:  # noqa: D102 - inherited
        # The integrated function is (1 + (x / a)^2)^(1/2 - beta), which is a Student distribution.
        half = _checked_width(self.width, wavelength) / 2.0
        freedom = 2.0 * self.beta - 2.0
        a = half / np.sqrt(2.0 ** (1.0 / (self.beta - 0.5)) - 1.0)
        return np.asarray(stdtr(freedom, x * np.sqrt(freedom) / a))


@dataclass(frozen=True)
class Diffraction(PSFLaw):
    """Diffraction pattern of the segmented mirror, as seen through the slit.

    Parameters
    ----------
    blur : float
        Standard deviation in arcsec of a Gaussian with which the pattern is convolved, in addition
        to the pixels.

    Notes
    -----
    The pattern is the squared Fourier transform of the 18 hexagonal segments, without struts and
    wavefront errors. It is tabulated from 2.5 to 15 micron; at other wavelengths it is that of the
    nearer end.
    """

    blur: float = 0.06

    #: Wavelengths in micron and positions in arcsec at which the pattern is tabulated.
    _wavelengths = np.linspace(2.5, 15.0, 126)
    _positions = np.arange(-8.0, 8.0001, 0.01)

    def core(self, x: Array, wavelength: Array) -> Array:  # noqa: D102 - inherited
        wave = np.clip(wavelength, self._wavelengths[0], self._wavelengths[-1])
        where = np.clip(x, self._positions[0], self._positions[-1])
        where, wave = np.broadcast_arrays(where, wave)
        known = np.isfinite(wave) & np.isfinite(where)
        inside = np.full(wave.shape, np.nan)
        inside[known] = self._cumulative.ev(wave[known], where[known])
        return inside

    @cached_property
    def _cumulative(self) -> RectBivariateSpline:
        """Fraction of the flux at positions below a given one, interpolated in wavelength (micron).

        The position is in arcsec.
        """
        pupil = np.abs(np.fft.fft2(_pupil(), (_TRANSFORM_SAMPLES,) * 2)) ** 2
        pattern = np.fft.fftshift(pupil)
        index = np.arange(_TRANSFORM_SAMPLES) - _TRANSFORM_SAMPLES // 2
        step = 0.01
        # Cumulative flux at the upper edge of each tabulated interval, starting from 0.
        table = np.zeros((self._wavelengths.size, self._positions.size))
        for line, wave in zip(table, self._wavelengths, strict=True):
            sample = wave * 1e-6 / (_TRANSFORM_SAMPLES * _PUPIL_WIDTH / _PUPIL_SAMPLES)
            angle = index * sample * _ARCSEC_PER_RADIAN
            # Fraction of each sample that is inside the slit.
            inside = np.clip(_SLIT_WIDTH / 2.0 / angle[index == 1] - np.abs(index) + 0.5, 0.0, 1.0)
            along = inside @ pattern
            light = np.interp(self._positions, angle, along, left=0.0, right=0.0)
            if self.blur:
                light = gaussian_filter1d(light, self.blur / step, mode="constant")
            line[1:] = np.cumsum((light[1:] + light[:-1]) / 2.0)
            line /= line[-1]
        # The interpolation is linear, because a cubic spline of the cumulative flux could decrease
        # with the position. Pixels would then have negative flux.
        return RectBivariateSpline(self._wavelengths, self._positions, table, kx=1, ky=1)


def _pupil() -> Mask:
    """Return the map of the telescope's pupil: 18 hexagons around a missing one."""
    axis = (np.arange(_PUPIL_SAMPLES) - _PUPIL_SAMPLES / 2.0) * _PUPIL_WIDTH / _PUPIL_SAMPLES
    x, y = np.meshgrid(axis, axis)
    half, sine = (_SEGMENT - _GAP) / 2.0, np.sqrt(3.0) / 2.0
    pupil = np.zeros(x.shape, dtype=bool)
    for q in range(-2, 3):
        for r in range(max(-2, -2 - q), min(2, 2 - q) + 1):
            if (q, r) == (0, 0):
                continue
            u, v = x - _SEGMENT * (q + r / 2.0), y - _SEGMENT * r * sine
            sides = np.array([u, 0.5 * u + sine * v, 0.5 * u - sine * v])
            pupil |= (np.abs(sides) < half).all(axis=0)
    return pupil


@dataclass(frozen=True)
class Scattered(PSFLaw):
    """Another law, a part of whose light is scattered in the detector into exponential wings.

    Parameters
    ----------
    law : PSFLaw
        Law for the light that is not scattered.
    fraction : float
        Fraction of the light that is scattered at 5 micron. It decreases with the square of the
        wavelength.
    scale : float
        Distance in arcsec over which the wings decrease by a factor of e.

    Raises
    ------
    SceneError
        If `fraction` is not between 0 and 0.25, for which nearly all light is scattered at the
        shortest wavelengths, or `scale` is not positive.
    """

    law: PSFLaw = Gaussian()
    fraction: float = 0.2
    scale: float = 0.66

    def __post_init__(self) -> None:
        if not (0 <= self.fraction <= 0.25 and self.scale > 0):
            raise SceneError(
                f"fraction is {self.fraction} and scale {self.scale}, expected a fraction from 0 "
                "to 0.25 and a scale above 0"
            )

    def core(self, x: Array, wavelength: Array) -> Array:  # noqa: D102 - inherited
        part = self.fraction * (5.0 / wavelength) ** 2
        wing = 0.5 * np.exp(-np.abs(x) / self.scale)
        wing = np.where(x < 0, wing, 1.0 - wing)
        return (1.0 - part) * self.law.core(x, wavelength) + part * wing


@dataclass(frozen=True)
class Asymmetric(PSFLaw):
    """Another law with a shoulder on one side, whose centroid is still that of the other law.

    Parameters
    ----------
    law : PSFLaw
        Law for the main part and, displaced, for the shoulder.
    fraction : float
        Fraction of the light in the shoulder.
    displacement : float
        Distance from the main part to the shoulder in arcsec, positive towards higher columns.

    Raises
    ------
    SceneError
        If `fraction` is not between 0 and 1.
    """

    law: PSFLaw = Gaussian()
    fraction: float = 0.15
    displacement: float = 2.2 * PIXEL_SCALE

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise SceneError(f"fraction is {self.fraction}, expected a number from 0 to 1")

    def core(self, x: Array, wavelength: Array) -> Array:  # noqa: D102 - inherited
        shift = self.fraction * self.displacement
        main = self.law.core(x + shift, wavelength)
        shoulder = self.law.core(x + shift - self.displacement, wavelength)
        return (1.0 - self.fraction) * main + self.fraction * shoulder


#: Laws that differ in shape or width, by name.
LAWS: dict[str, PSFLaw] = {
    "telescope": Gaussian(),
    "wavy": Gaussian(wavy_width),
    "constant": Gaussian(0.31),
    "straight": Gaussian(straight_width),
    "moffat": Moffat(),
    "diffraction": Diffraction(),
    "scattered": Scattered(fraction=0.1),
    "cross": Scattered(Diffraction(), 0.2),
    "asymmetric": Asymmetric(),
}
