"""Fast extraction of JWST MIRI LRS spectra, with the same results as the JWST pipeline.

Importing the package registers the formats ``lrs-s2d`` and ``lrs-x1d`` for specutils.
"""

from __future__ import annotations

from glue_lrs._utils import interrupt as interrupt  # first because the other imports are slow

# isort: split
from typing import TYPE_CHECKING, Any

from glue_lrs import io as _io  # noqa: F401 - registers the formats
from glue_lrs.apertures.aperture import Aperture
from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.apertures.background import Background
from glue_lrs.combination.combine import combine
from glue_lrs.errors import LRSError, LRSWarning
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.extraction.optimal import OptimalExtractor
from glue_lrs.extraction.rerun import rerun
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.reference.reference import Reference
from glue_lrs.spectra.extraction import Extraction

__all__ = [
    "Aperture",
    "ApertureCorrection",
    "Background",
    "Extract1D",
    "Extraction",
    "LRSError",
    "LRSWarning",
    "OptimalExtractor",
    "PSFProfile",
    "Reference",
    "SlitImage",
    "combine",
    "curve_of_growth",
    "measure",
    "rerun",
]

if TYPE_CHECKING:
    from glue_lrs.measurement.curve_of_growth import curve_of_growth
    from glue_lrs.measurement.measure import measure

    __version__: str
else:

    def __getattr__(name: str) -> Any:
        """Import on first access what takes long and is not needed by an extraction."""
        if name == "__version__":
            from importlib.metadata import version

            return version("glue-lrs")
        if name in ("curve_of_growth", "measure"):
            from glue_lrs import measurement

            return getattr(measurement, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
