"""Simulated LRS products with known true values.

The methods of `Scene` simulate images in the format of the pipeline's products. `LinearBound` gives
the best accuracy that an extraction from these images can reach.
"""

from glue_lrs.simulation.bounds import LinearBound, TrueProfile, best_box_error
from glue_lrs.simulation.optics import PSF, PSFLaw, SceneError
from glue_lrs.simulation.psf_laws import (
    LAWS,
    Asymmetric,
    Diffraction,
    Gaussian,
    Moffat,
    Scattered,
)
from glue_lrs.simulation.scene import Scene, demo_scene
from glue_lrs.simulation.spectra import (
    BlackBody,
    Source,
    Supernova,
    sensitivity,
    thermal_background,
)
from glue_lrs.simulation.truth import Simulated, Truth

__all__ = [
    "LAWS",
    "PSF",
    "Asymmetric",
    "BlackBody",
    "Diffraction",
    "Gaussian",
    "LinearBound",
    "Moffat",
    "PSFLaw",
    "Scattered",
    "Scene",
    "SceneError",
    "Simulated",
    "Source",
    "Supernova",
    "TrueProfile",
    "Truth",
    "best_box_error",
    "demo_scene",
    "sensitivity",
    "thermal_background",
]
