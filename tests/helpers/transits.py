"""Simulated transits and eclipses: scatter beside the photon limit, and depth, of light curves."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from glue_lrs import Extract1D
from glue_lrs.errors import LRSWarning
from glue_lrs.extraction.chunks import ChunkedExtraction
from glue_lrs.simulation import Simulated
from glue_lrs.timeseries import LightCurve, light_curve
from tests.helpers.time_series import APERTURE, Defects, TimeSeries

#: 0.2% lost pixels, 0.1% cosmic rays, 1% hot pixels and a drift of 0.05 columns; or the first only.
ALL, LOST = Defects(), Defects(rays=0.0, hot=0.0, drift=0.0)

#: Settings of the extraction with which none of these defects matters.
CLEAN = {"time_outliers": "replace", "drift": "correct", "hot_pixels": "lost"}


@dataclass(frozen=True)
class Transit:
    """Light curves of a simulated transit, and the noise that its photons have.

    Parameters
    ----------
    curve : LightCurve
        White light curve and those of bins.
    inside : ndarray of bool
        Points in transit; the others are out of transit.
    depth : float
        True depth.
    limit : ndarray
        Standard deviation of the photons of the star and the sky in the aperture, out of transit,
        divided by the flux of the star in it, from the truth of the simulation, shape (band,).
    """

    curve: LightCurve
    inside: np.ndarray
    depth: float
    limit: np.ndarray

    @property
    def scatter_ratio(self) -> np.ndarray:
        """Standard deviation out of transit divided by the photon limit, shape (band,)."""
        outside = self.curve.flux[~self.inside]
        spread, mean = np.nanstd(outside, axis=0, ddof=1), np.nanmean(outside, axis=0)
        return spread / mean / self.limit

    @property
    def depth_pulls(self) -> np.ndarray:
        """Error of the depth divided by the error that follows from the light curve."""
        flux, error = self.curve.flux, self.curve.error
        means, errors = [], []
        for part in (self.inside, ~self.inside):
            known = np.isfinite(flux[part]).sum(axis=0)
            means.append(np.nanmean(flux[part], axis=0))
            errors.append(np.sqrt(np.nansum(error[part] ** 2, axis=0)) / known / means[-1])
        ratio = means[0] / means[1]
        sigma = ratio * np.hypot(*errors)
        return (1.0 - ratio - self.depth) / sigma


def transit(
    number: int,
    depth: float,
    *,
    seed: int = 0,
    defects: Defects = ALL,
    settings: Mapping[str, Any] = CLEAN,
    bins: int = 20,
    **options: Any,
) -> Transit:
    """Simulate a transit of a bright star, extract it in chunks and make its light curves.

    `settings` are those of the extraction, and `options` those of `light_curve`.
    """
    series = TimeSeries(number=number, depth=depth, seed=seed, defects=defects)
    image = series.chunk(0, number)
    operator = Extract1D.from_reference(None, image.exp_type, **APERTURE, **settings)
    chunks = ChunkedExtraction(operator, image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)  # lost pixels, about which the tests are
        curve = light_curve(chunks, bins=bins, **options)
    return Transit(curve, series.inside, depth, photon_limit(series.made, curve))


def photon_limit(made: Simulated, curve: LightCurve) -> np.ndarray:
    """Return the relative noise of the photons of star and sky in the aperture, from the truth."""
    truth = made.truth
    columns = slice(APERTURE["xstart"], APERTURE["xstop"] + 1)
    variance = truth.var_poisson[:, columns].sum(axis=1)
    star = (truth.data - truth.background)[:, columns].sum(axis=1)
    found = []
    for low, high in curve.edges:
        rows = (truth.wavelength >= low) & (truth.wavelength < high)
        found.append(np.sqrt(variance[rows].sum()) / star[rows].sum())
    return np.array(found)
