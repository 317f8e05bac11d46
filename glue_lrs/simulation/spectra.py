"""Spectra of simulated sources and of the background."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from glue_lrs._utils.typing import Array
from glue_lrs.simulation.optics import SceneError

#: Type of a spectrum, which is a constant or a function of the wavelength in micron.
Spectral = float | Callable[[Array], ArrayLike]

#: Wavelength in micron of each emission line of a supernova, and its peak flux relative to the
#: continuum at 7 micron.
_LINES = ((6.636, 0.45), (6.985, 0.9), (10.521, 0.5), (11.888, 0.8), (12.814, 1.4))

#: Second radiation constant hc / k in micron kelvin.
_SECOND_RADIATION = 14387.768775


@dataclass(frozen=True)
class Supernova:
    """Spectrum that resembles an infrared supernova: dust, molecular bands and broad lines.

    Parameters
    ----------
    level : float
        Flux of the continuum at 7 micron in Jy.
    velocity : float
        Full width at half maximum of the emission lines in km/s.

    Notes
    -----
    The spectrum has emission lines of [Ni II] 6.64, [Ar II] 6.98, [Co II] 10.52, [Co III] 11.89 and
    [Ne II] 12.81 micron, P Cygni features, the CO band at 4.6 micron and the SiO band at 8 micron.
    Their strengths are illustrative and do not come from a physical model.
    """

    level: float = 2e-3
    velocity: float = 6000.0

    def __call__(self, wavelength: ArrayLike) -> Array:
        """Return the flux in Jy at wavelengths in micron."""
        wave = np.asarray(wavelength, dtype=float)
        flux = 0.8 * (wave / 7.0) ** -1.2 + 0.2 * BlackBody(450.0, 1.0, 7.0)(wave)
        width = self.velocity / 2.99792458e5 / 2.3548
        for centre, strength in _LINES:
            flux = flux + strength * np.exp(-0.5 * ((wave - centre) / (width * centre)) ** 2)
        for centre, strength in ((5.3, 0.25), (9.4, 0.2)):  # P Cygni: blueshifted absorption
            dip = np.exp(-0.5 * ((wave - centre * 0.975) / (0.009 * centre)) ** 2)
            peak = np.exp(-0.5 * ((wave - centre * 1.005) / (0.014 * centre)) ** 2)
            flux = flux + strength * (peak - 0.9 * dip)
        for centre, strength, blue, red in ((4.55, 0.6, 0.08, 0.25), (7.95, 0.7, 0.15, 0.55)):
            side = np.where(wave < centre, blue, red)
            flux = flux + strength * np.exp(-0.5 * ((wave - centre) / side) ** 2)
        return self.level * flux


@dataclass(frozen=True)
class BlackBody:
    """Spectrum of a black body.

    Parameters
    ----------
    temperature : float
        Temperature in kelvin.
    level : float
        Flux in Jy at the wavelength `pivot`.
    pivot : float
        Wavelength in micron at which the flux is `level`.
    """

    temperature: float
    level: float = 1e-3
    pivot: float = 7.0

    def __call__(self, wavelength: ArrayLike) -> Array:
        """Return the flux in Jy at wavelengths in micron."""
        wave = np.asarray(wavelength, dtype=float)
        at_pivot = _planck(self.pivot, self.temperature)
        return self.level * _planck(wave, self.temperature) / at_pivot


def _planck(wavelength: Array | float, temperature: float) -> Array:
    """Return Planck's law per unit frequency at wavelengths in micron, without constant factors."""
    return wavelength**-3.0 / np.expm1(_SECOND_RADIATION / (wavelength * temperature))


def thermal_background(wavelength: ArrayLike) -> Array:
    """Compute a background of zodiacal light and thermal emission from the telescope in MJy/sr.

    Parameters
    ----------
    wavelength : array_like
        Wavelengths in micron.
    """
    zodi = 12.0 * BlackBody(265.0, 1.0, 10.0)(wavelength)
    return zodi + 6.0 * BlackBody(110.0, 1.0, 14.0)(wavelength) + 0.3


def sensitivity(wavelength: ArrayLike) -> Array:
    """Compute the electrons per second and pixel for 1 MJy/sr, with a maximum of 0.4 at 6.5 micron.

    Parameters
    ----------
    wavelength : array_like
        Wavelengths in micron.
    """
    wave = np.asarray(wavelength, dtype=float)
    return 0.4 * np.exp(-((np.log(wave / 6.5) / 0.45) ** 2))


@dataclass(frozen=True)
class Source:
    """Point source in a scene.

    Parameters
    ----------
    flux : float or callable
        Flux in Jy, as a number or a function of the wavelength in micron.
    position : float
        Position along the slit in arcsec from the target, positive towards higher columns.
    halo : float
        Fraction of the flux in the halo of the point spread function.

    Raises
    ------
    SceneError
        If `halo` is not in the range from 0 to (excluding) 1, or `position` is not finite.
    """

    flux: Spectral = field(default_factory=Supernova)
    position: float = 0.0
    halo: float = 0.05

    def __post_init__(self) -> None:
        if not 0.0 <= self.halo < 1.0:
            raise SceneError(f"halo is {self.halo}, expected a fraction of 0 or more, below 1")
        if not np.isfinite(self.position):
            raise SceneError(f"position is {self.position}, expected a finite number of arcsec")


def evaluate(value: Spectral, wavelength: Array, name: str) -> Array:
    """Evaluate a spectrum at each wavelength.

    Parameters
    ----------
    value : float or callable
        Spectrum, as a constant or a function of the wavelength in micron.
    wavelength : ndarray
        Wavelengths in micron.
    name : str
        Name of the spectrum for messages.

    Returns
    -------
    ndarray
        Values, with the shape of `wavelength`.

    Raises
    ------
    SceneError
        If a value is not finite.
    """
    values = value(wavelength) if callable(value) else value
    result = np.broadcast_to(np.asarray(values, dtype=float), wavelength.shape)
    if not np.isfinite(result).all():
        at = wavelength[~np.isfinite(result)][0]
        raise SceneError(f"{name} is not finite at {at:.2f} um, expected a number")
    return result
