"""DrizzledProfile: profile of a point source in a resampled image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glue_lrs._utils.typing import Array
from glue_lrs.profiles.base import SpatialProfile

#: Number of values of the overlap p, evenly spaced between 0 and 1, whose broadening is averaged.
_OVERLAPS = 4


@dataclass(frozen=True, eq=False)
class DrizzledProfile(SpatialProfile):
    """Profile of a point source in a resampled image, which is broadened by drizzle.

    A pixel of the output is the mean of the two pixels of the exposure that it overlaps with,
    weighted with the overlaps p and 1 - p. This adds p (1 - p) to the variance of the profile in
    squared columns. The overlap varies along a trace that is tilted on the detector.

    Parameters
    ----------
    profile : SpatialProfile
        Profile on the pixels of the detector, such as that of a PSF reference.
    amount : ndarray
        Broadening in each row relative to its mean over all overlaps, 6 p (1 - p), which is 0 to
        1.5, shape (row,). The profile can only be evaluated at the wavelengths of these rows.
    """

    profile: SpatialProfile
    amount: Array

    def __call__(self, offset: Array, wavelength: Array) -> Array:  # noqa: D102 - inherited
        light = self.profile.at(wavelength)(offset)
        change = broadening(self.profile, offset, wavelength)
        return np.asarray(light + self.amount[:, np.newaxis] * change)


def broadening(profile: SpatialProfile, offset: Array, wavelength: Array) -> Array:
    """Return the change of a profile by drizzle, averaged over all overlaps, shape (row, column).

    `offset` and `wavelength` are as in `SpatialProfile`.
    """
    light = profile.at(wavelength)
    change = -light(offset)
    for number in range(_OVERLAPS):
        part = (number + 0.5) / _OVERLAPS
        moved = (1.0 - part) * light(offset + part) + part * light(offset + part - 1.0)
        change += moved / _OVERLAPS
    return change
