"""Simulated LRS products with known true values.

A `Scene` makes products in the form of the pipeline's files. `LinearBound` is the best accuracy
that an extraction from these products can reach.
"""

from glue_lrs.simulation.bounds import LinearBound, TrueProfile, best_box_error
from glue_lrs.simulation.optics import PSF, SceneError
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
    "PSF",
    "BlackBody",
    "LinearBound",
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
