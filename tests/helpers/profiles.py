"""Profiles and the pixels that they are evaluated on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs.profiles import EmpiricalProfile, GaussianProfile, PSFProfile, SpatialProfile
from glue_lrs.profiles.shape_modes import shape_modes

WAVE = np.linspace(13.8, 4.2, 200)
COLUMNS = np.arange(45.0)


class LopSided(SpatialProfile):
    """A core with a shoulder on one side and wide wings, unlike any model that is fitted."""

    def __call__(self, offset: NDArray[Any], wavelength: NDArray[Any]) -> NDArray[Any]:
        core = GaussianProfile()(offset, wavelength)
        shoulder = GaussianProfile(factor=(0.8,))(offset - 2.0, wavelength)
        wings = GaussianProfile(factor=(2.2,))(offset, wavelength)
        part = 0.08 + 0.05 * ((wavelength - 9.0) / 5.0)[:, np.newaxis]
        return np.nan_to_num((1.0 - 2.0 * part) * core + part * shoulder + part * wings)


PROFILES: dict[str, SpatialProfile] = {
    "gaussian": GaussianProfile(factor=(1.2, 0.1)),
    "lop-sided": LopSided(),
    "psf": PSFProfile.sampled(LopSided(), np.linspace(3.0, 15.0, 40), subpix=20.0),
    "empirical": EmpiricalProfile(
        domain=(4.0, 14.0),
        width=(0.1, 0.05),
        wings=((0.02, 0.01), (0.01, 0.0), (0.0, 0.004), (0.003, 0.003)),
        coefficients=np.random.default_rng(1).normal(0, 0.2, (shape_modes().number, 3)),
    ),
}
