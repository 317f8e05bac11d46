"""The bounds of an extraction, compared with the scatter of the best linear estimate."""

from __future__ import annotations

import numpy as np
import pytest

from glue_lrs.simulation.bounds import LinearBound, TrueProfile, best_box_error
from glue_lrs.simulation.optics import JY_PER_PIXEL
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source


def scene(seed: int = 0, **changes: object) -> Scene:
    return Scene(**{"sources": (Source(flux=1e-4, halo=0.05),), "seed": seed} | changes)


@pytest.mark.parametrize("order", [None, 0, 1])
def test_noise_of_the_best_estimate_has_its_error(order: int | None) -> None:
    pulls = []
    for seed in range(10):
        simulated = scene(seed).s2d(1, subtract_nod=order is None)
        bound = LinearBound.from_truth(simulated.truth, order, data=simulated.image.data)
        pulls.append(bound.noise / bound.error)
    pull = np.concatenate(pulls)
    pull = pull[np.isfinite(pull)]
    assert pull.size > 3800
    assert pull.std() == pytest.approx(1.0, abs=0.03)
    assert abs(pull.mean()) < 0.06


def test_other_parameters_increase_the_bound() -> None:
    truth = scene().s2d(1).truth
    alone = LinearBound.from_truth(truth, None, flux=1e-4)
    known = np.isfinite(alone.error)
    for order, other in ((0, {}), (None, {"separations": (3.0,), "flux_ratios": (0.5,)})):
        bound = LinearBound.from_truth(truth, order, flux=1e-4, **other)
        assert (bound.error[known] >= alone.error[known]).all()
        assert (bound.information[known] <= alone.information[known]).all()


def test_bad_pixels_increase_the_bound() -> None:
    truth = scene().s2d(1).truth
    good = np.ones(truth.data.shape, dtype=bool)
    good[100, 13] = False
    ratio = LinearBound.from_truth(truth, None, good=good).error
    ratio /= LinearBound.from_truth(truth, None).error
    assert ratio[100] > 1.1
    np.testing.assert_array_equal(np.delete(ratio, [0, 100, 386]), 1.0)


def test_information_is_that_of_one_free_position() -> None:
    """Without background, position and flux are nearly independent."""
    truth = scene().s2d(1, edges=False).truth
    derivative = (truth.pixel_fractions(1e-3) - truth.pixel_fractions(-1e-3)) / 2e-3
    signal = derivative * 1e-4 / JY_PER_PIXEL
    expected = (signal**2 / truth.variance).sum(axis=1)
    bound = LinearBound.from_truth(truth, None, flux=1e-4)
    np.testing.assert_allclose(bound.information, expected, rtol=0.02)


@pytest.mark.slow
def test_no_box_is_better_than_the_bound() -> None:
    truth = scene(sources=(Source(flux=3e-6, halo=0.0),), background=30.0).s2d(1).truth
    error = LinearBound.from_truth(truth, None).error
    known = np.isfinite(error)
    ratio = best_box_error(truth)[known] / error[known]
    assert (ratio > 1.0).all()
    assert np.median(ratio) == pytest.approx(1.017, abs=0.002)


def test_the_true_profile_is_that_of_the_image() -> None:
    simulated = scene(background=0.0).s2d(1, subtract_nod=False, edges=False)
    truth = simulated.truth
    offset = np.arange(truth.data.shape[1]) - truth.column[:, np.newaxis]
    profile = TrueProfile(truth.psf, truth.halo)(offset, truth.wavelength)
    np.testing.assert_allclose(profile, truth.pixel_fractions(), rtol=1e-12)
    np.testing.assert_allclose(profile * 1e-4 / JY_PER_PIXEL, truth.data, atol=1e-12)
