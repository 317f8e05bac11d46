"""Spatial profiles: the fraction of a point source's flux on each pixel of a row.

`SpatialProfile` is the interface: a callable that takes offsets from the source in columns, and
wavelengths. Three classes implement it:

* `PSFProfile` interpolates in a table from a PSF reference file of the pipeline.
* `GaussianProfile` is integrated over the pixels. Its width is a function of the wavelength.
* `EmpiricalProfile` is fitted to an image (`glue_lrs.fitting`). It is a Gaussian with a correction
  that is a cubic spline along the slit and a polynomial in wavelength.

`glue_lrs.measure` fits `diffraction.DiffractionProfile`, which has a core of free width, and wings
whose size is proportional to the wavelength. It does not implement the interface: it returns the
cumulative flux instead of the flux on pixels.
"""

from glue_lrs.profiles.base import SpatialProfile
from glue_lrs.profiles.empirical import EmpiricalProfile
from glue_lrs.profiles.gaussian import GaussianProfile
from glue_lrs.profiles.psf import PSFProfile

__all__ = ["EmpiricalProfile", "GaussianProfile", "PSFProfile", "SpatialProfile"]
