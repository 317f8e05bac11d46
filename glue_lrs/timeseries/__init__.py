"""Light curves of time series: white and spectroscopic, from the spectra of all integrations."""

from __future__ import annotations

from glue_lrs.timeseries.curve import LightCurve
from glue_lrs.timeseries.light_curve import light_curve
from glue_lrs.timeseries.noise import allan_deviation, point_scatter
from glue_lrs.timeseries.pipeline import white_light

__all__ = ["LightCurve", "allan_deviation", "light_curve", "point_scatter", "white_light"]
