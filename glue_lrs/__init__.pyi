from .apertures.aperture import Aperture
from .apertures.aperture_correction import ApertureCorrection
from .apertures.background import Background
from .combination.combine import combine
from .errors import LRSError, LRSWarning
from .extraction.extract import extract
from .extraction.extract1d import Extract1D
from .extraction.optimal import OptimalExtractor
from .extraction.rerun import rerun
from .image.slit_image import SlitImage
from .io.open import open
from .measurement.curve_of_growth import curve_of_growth
from .measurement.measure import measure
from .plotting.image import plot_cut, plot_image
from .plotting.spectrum import plot_spectrum
from .profiles.psf import PSFProfile
from .reference.reference import Reference
from .spectra.extraction import Extraction

__version__: str
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
    "extract",
    "measure",
    "open",
    "plot_cut",
    "plot_image",
    "plot_spectrum",
    "rerun",
]
