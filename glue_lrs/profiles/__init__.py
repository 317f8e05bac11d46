"""Spatial profiles: the fraction of a point source's flux on each pixel of a row.

`SpatialProfile` is the interface: a callable whose arguments are the offsets from the source in
columns and the wavelengths. Four classes implement it:

* `PSFProfile` interpolates in a table from a PSF reference file of the pipeline.
* `GaussianProfile` is a Gaussian, integrated over the pixels, whose width is a function of the
  wavelength.
* `EmpiricalProfile` is fitted to an image (`glue_lrs.fitting`). It is a Gaussian with wings and a
  correction, which is a cubic spline along the slit and a polynomial in wavelength.
* `drizzled.DrizzledProfile` is one of the other profiles, broadened by the drizzling of the image.

`glue_lrs.measure` fits `diffraction.DiffractionProfile`, which has a core of free width, and wings
whose size is proportional to the wavelength. This class does not implement the interface, because
it returns the cumulative flux instead of the flux on the pixels.
"""

from glue_lrs.profiles.base import SpatialProfile
from glue_lrs.profiles.empirical import EmpiricalProfile
from glue_lrs.profiles.gaussian import GaussianProfile
from glue_lrs.profiles.psf import PSFProfile

__all__ = ["EmpiricalProfile", "GaussianProfile", "PSFProfile", "SpatialProfile"]
