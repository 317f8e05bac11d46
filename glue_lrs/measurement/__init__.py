"""Measurement of the sources in an image: positions, trace, width, curve of growth."""

from glue_lrs.measurement.background_regions import place_background
from glue_lrs.measurement.curve_of_growth import (
    CurveOfGrowth,
    curve_of_growth,
    measure_with_growth,
    region_notes,
)
from glue_lrs.measurement.error_budget import CONTRIBUTIONS, error_budget, mean_in_bands
from glue_lrs.measurement.measure import aperture_at_source, measure
from glue_lrs.measurement.measurement import DetectedSource, Measurement

__all__ = [
    "CONTRIBUTIONS",
    "CurveOfGrowth",
    "DetectedSource",
    "Measurement",
    "aperture_at_source",
    "curve_of_growth",
    "error_budget",
    "mean_in_bands",
    "measure",
    "measure_with_growth",
    "place_background",
    "region_notes",
]
