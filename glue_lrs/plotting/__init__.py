"""Functions that draw images, spectra, measurements and fits with Matplotlib."""

from __future__ import annotations

from glue_lrs.plotting.budget import plot_budget
from glue_lrs.plotting.files import save
from glue_lrs.plotting.image import plot_cut, plot_image, plot_width
from glue_lrs.plotting.light_curve import plot_light_curve
from glue_lrs.plotting.measurement import (
    plot_fwhm,
    plot_growth,
    plot_integrations,
    plot_measurement,
    plot_profile,
    plot_trace,
)
from glue_lrs.plotting.optimal import plot_model_profile, plot_optimal, plot_residual
from glue_lrs.plotting.product import plot_product
from glue_lrs.plotting.spectra import plot_comparison, plot_extraction
from glue_lrs.plotting.spectrum import plot_spectrum
from glue_lrs.plotting.stack import plot_stack

__all__ = [
    "plot_budget",
    "plot_comparison",
    "plot_cut",
    "plot_extraction",
    "plot_fwhm",
    "plot_growth",
    "plot_image",
    "plot_integrations",
    "plot_light_curve",
    "plot_measurement",
    "plot_model_profile",
    "plot_optimal",
    "plot_product",
    "plot_profile",
    "plot_residual",
    "plot_spectrum",
    "plot_stack",
    "plot_trace",
    "plot_width",
    "save",
]
