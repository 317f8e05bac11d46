"""Simulated transits and eclipses: scatter beside the photon limit, and depth, of light curves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from glue_lrs import Extract1D
from glue_lrs.simulation import Scene, Simulated, Source
from glue_lrs.timeseries import LightCurve, light_curve

#: Aperture and background regions of the extraction, columns.
APERTURE = (30, 41)
BACKGROUND = [[4.5], [22.5], [48.5], [66.5]]


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
    lost: float = 0.002,
    bins: int = 20,
    flux: float = 0.1,
    **options: Any,
) -> Transit:
    """Simulate a transit of a bright star, extract it and make its light curves.

    `lost` is the fraction of pixels without a value, different ones in each integration. Another
    0.5% are bad in all integrations. `options` are those of `light_curve`.
    """
    phase = np.arange(number) / number
    inside = (phase >= 0.3) & (phase < 0.7)
    scene = Scene(sources=(Source(flux=flux),), exposure_time=30.0, seed=seed)
    made = scene.calints(number, factors=np.where(inside, 1.0 - depth, 1.0))
    rng = np.random.default_rng(seed)
    bad = rng.random(made.image.data.shape) < lost
    bad |= rng.random(made.image.data.shape[1:]) < 0.005
    image = replace(made.image, data=np.where(bad, np.float32(np.nan), made.image.data))
    extract = Extract1D.from_reference(
        None, image.exp_type, xstart=APERTURE[0], xstop=APERTURE[1], bkg_coeff=BACKGROUND
    )
    curve = light_curve(extract.run(image, check=False), bins=bins, **options)
    always = bad.all(axis=0)
    return Transit(curve, inside, depth, photon_limit(made, curve, always))


def photon_limit(made: Simulated, curve: LightCurve, bad: np.ndarray) -> np.ndarray:
    """Return the relative noise of the photons in the aperture, without pixels that are bad."""
    truth = made.truth
    columns = slice(APERTURE[0], APERTURE[1] + 1)
    variance = np.where(bad, 0.0, truth.var_poisson)[:, columns].sum(axis=1)
    star = np.where(bad, 0.0, truth.data - truth.background)[:, columns].sum(axis=1)
    found = []
    for low, high in curve.edges:
        rows = (truth.wavelength >= low) & (truth.wavelength < high)
        found.append(np.sqrt(variance[rows].sum()) / star[rows].sum())
    return np.array(found)
