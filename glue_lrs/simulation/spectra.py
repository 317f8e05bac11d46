"""Spectra of simulated sources and of the background."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from glue_lrs.simulation.optics import SECOND_RADIATION, SceneError

__all__ = ["BlackBody", "Source", "Spectral", "Supernova", "sensitivity", "thermal_background"]

Spectral = float | Callable[[NDArray[np.float64]], ArrayLike]


# --- what is looked at -------------------------------------------------------------------------


@dataclass(frozen=True)
class Supernova:
    """Flux of something like an infrared supernova: dust, molecular bands, broad lines.

    Parameters
    ----------
    level : float
        Flux of the continuum at 7 micron in Jy.
    velocity : float
        Full width at half maximum of the emission lines in km/s.

    Notes
    -----
    Lines of [Ni II] 6.64, [Ar II] 6.98, [Co II] 10.52, [Co III] 11.89 and [Ne II] 12.81 micron,
    P-Cygni features, the CO band at 4.6 and the SiO band at 8 micron. It looks like one; it is no
    model of one.
    """

    level: float = 2e-3
    velocity: float = 6000.0

    def __call__(self, wavelength: ArrayLike) -> NDArray[np.float64]:
        """Flux in Jy at wavelengths in micron."""
        wave = np.asarray(wavelength, dtype=float)
        flux = 0.8 * (wave / 7.0) ** -1.2 + 0.2 * BlackBody(450.0, 1.0, 7.0)(wave)
        width = self.velocity / 2.99792458e5 / 2.3548
        for centre, strength in (
            (6.636, 0.45),
            (6.985, 0.9),
            (10.521, 0.5),
            (11.888, 0.8),
            (12.814, 1.4),
        ):
            flux = flux + strength * np.exp(-0.5 * ((wave - centre) / (width * centre)) ** 2)
        for centre, strength in ((5.3, 0.25), (9.4, 0.2)):  # emission, absorption to the blue of it
            dip = np.exp(-0.5 * ((wave - centre * 0.975) / (0.009 * centre)) ** 2)
            peak = np.exp(-0.5 * ((wave - centre * 1.005) / (0.014 * centre)) ** 2)
            flux = flux + strength * (peak - 0.9 * dip)
        for centre, strength, blue, red in ((4.55, 0.6, 0.08, 0.25), (7.95, 0.7, 0.15, 0.55)):
            side = np.where(wave < centre, blue, red)
            flux = flux + strength * np.exp(-0.5 * ((wave - centre) / side) ** 2)
        return self.level * flux


@dataclass(frozen=True)
class BlackBody:
    """Flux of a black body.

    Parameters
    ----------
    temperature : float
        Kelvin.
    level : float
        Flux in Jy at the `pivot`.
    pivot : float
        Wavelength in micron.
    """

    temperature: float
    level: float = 1e-3
    pivot: float = 7.0

    def __call__(self, wavelength: ArrayLike) -> NDArray[np.float64]:
        """Flux in Jy at wavelengths in micron (Planck's law in frequency)."""

        def planck(wave: Any) -> Any:
            return wave**-3.0 / np.expm1(SECOND_RADIATION / (wave * self.temperature))

        wave = np.asarray(wavelength, dtype=float)
        return self.level * planck(wave) / planck(self.pivot)


def thermal_background(wavelength: ArrayLike) -> NDArray[np.float64]:
    """Zodiacal light and the warm telescope: MJy/sr at wavelengths in micron, steeply rising."""
    wave = np.asarray(wavelength, dtype=float)
    zodi = 12.0 * BlackBody(265.0, 1.0, 10.0)(wave)
    return zodi + 6.0 * BlackBody(110.0, 1.0, 14.0)(wave) + 0.3


def sensitivity(wavelength: ArrayLike) -> NDArray[np.float64]:
    """Electrons per second and pixel for 1 MJy/sr at wavelengths in micron; best at 6.5 micron."""
    wave = np.asarray(wavelength, dtype=float)
    return 0.4 * np.exp(-((np.log(wave / 6.5) / 0.45) ** 2))


@dataclass(frozen=True)
class Source:
    """A point source.

    Parameters
    ----------
    flux : float or callable
        Flux in Jy: a number, or a function of the wavelength in micron.
    position : float
        Arcsec from the target along the slit, to higher columns.
    halo : float
        Fraction of the light in the halo of the point spread function.
    """

    flux: Spectral = field(default_factory=Supernova)
    position: float = 0.0
    halo: float = 0.05

    def __post_init__(self) -> None:
        if not 0.0 <= self.halo < 1.0:
            raise SceneError(f"halo is {self.halo}, expected a fraction of 0 or more, below 1")
        if not np.isfinite(self.position):
            raise SceneError(f"position is {self.position}, expected arcsec")
