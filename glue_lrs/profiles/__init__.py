"""Spatial profiles: the fraction of a point source's light on each pixel of a row.

`SpatialProfile` is the interface: a callable of offsets from the source in columns and of
wavelengths. Three profiles have it:

* `PSFProfile`, tabulated: a PSF reference of the pipeline.
* `GaussianProfile`, integrated over the pixels, whose width is a function of the wavelength.
* `EmpiricalProfile`, fitted to an image (`glue_lrs.fitting`): a Gaussian with a correction that is
  a cubic spline across the slit and a polynomial in wavelength.

`diffraction.DiffractionProfile` is the profile that `glue_lrs.measure` fits: a core of free width
with wings in the distance over the wavelength. It gives cumulative light rather than pixels.
"""

from glue_lrs.profiles.base import SpatialProfile
from glue_lrs.profiles.empirical import EmpiricalProfile
from glue_lrs.profiles.gaussian import GaussianProfile
from glue_lrs.profiles.psf import PSFProfile

__all__ = ["EmpiricalProfile", "GaussianProfile", "PSFProfile", "SpatialProfile"]
