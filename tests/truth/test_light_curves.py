"""Light curves of simulated transits: noise beside the photon limit, and depth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.transits import LOST, transit


@pytest.mark.parametrize("depth", [0.01, 0.5])
def test_the_noise_is_that_of_the_photons_and_the_depth_is_true(depth: float) -> None:
    """With 0.2% lost pixels, so that 2.4% of the elements are replaced in each integration."""
    found = transit(100, depth, seed=7, defects=LOST, settings={})
    curve = found.curve
    assert 4.0 < curve.replaced[:, 0].mean() < 8.0
    # The read noise and the replaced elements add a per cent to the noise.
    expected = curve.expected_noise / curve.level / found.limit
    np.testing.assert_allclose(expected, 1.01, atol=0.02)
    # The standard deviation of 60 points is known to 9%, and that of 20 bins to 2%.
    assert found.scatter_ratio[0] == pytest.approx(1.0, abs=0.3)
    assert np.mean(found.scatter_ratio[1:]) == pytest.approx(1.0, abs=0.06)
    # white, and the 20 bins together
    pulls = found.depth_pulls
    assert abs(pulls[0]) < 3.5
    assert (pulls[1:] ** 2).mean() < 2.0
    assert abs(pulls[1:].mean()) < 0.9


@pytest.mark.parametrize("depth", [0.01, 0.5])
def test_cosmic_rays_hot_pixels_and_drift_add_no_noise(depth: float) -> None:
    """0.2% lost pixels, 0.1% cosmic rays, 1% hot pixels, and a drift of 0.05 columns."""
    found = transit(128, depth, seed=9)
    # The standard deviation of 77 points is known to 8%, that of 20 bins to 2%. The read noise is
    # 1% of the noise.
    assert found.scatter_ratio[0] == pytest.approx(1.0, abs=0.25)
    assert np.sqrt(np.mean(found.scatter_ratio[1:] ** 2)) == pytest.approx(1.01, abs=0.05)
    pulls = found.depth_pulls
    assert abs(pulls[0]) < 3.5
    assert (pulls[1:] ** 2).mean() < 2.0
    assert abs(pulls[1:].mean()) < 0.9
    drift = found.curve.drift
    assert drift is not None
    expected = 0.05 * (np.arange(128) / 128 - 0.5)
    difference = drift.shift - expected
    assert np.std(difference) < 3.0 * np.median(drift.shift_error)
    # Without these steps, the noise is several times as large.
    raw = transit(128, depth, seed=9, bins=1, settings={})
    assert raw.scatter_ratio[0] > 1.5


def test_lost_pixels_hardly_add_noise() -> None:
    """The same noise without lost pixels: the difference is small beside it."""
    lost, clean = (
        transit(60, 0.01, seed=8, bins=1, settings={}, defects=replace(LOST, lost=share)).curve
        for share in (0.002, 0.0)
    )
    ratio = (lost.flux / clean.flux)[:, 0]
    assert np.std(ratio) < 0.35 * clean.expected_noise[0] / clean.level[0]
    assert clean.replaced.sum() == 0
