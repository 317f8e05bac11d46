"""Profiles on the pixels: analytic derivatives equal differences."""

from __future__ import annotations

import numpy as np
import pytest

from glue_lrs.fitting.profile_derivatives import MIN_FACTOR, profile_images, widen
from glue_lrs.profiles import GaussianProfile
from tests.helpers.profiles import COLUMNS, PROFILES, WAVE

OFFSET = COLUMNS - 20.3 + np.zeros((WAVE.size, 1))


@pytest.mark.parametrize("name", PROFILES)
def test_light_is_the_profile(name: str) -> None:
    light, *_ = profile_images(PROFILES[name], OFFSET[np.newaxis], WAVE)
    np.testing.assert_allclose(light[0], PROFILES[name](OFFSET, WAVE), atol=1e-12)


@pytest.mark.parametrize("name", ["gaussian", "lop-sided", "empirical"])
def test_the_derivative_in_the_offset(name: str) -> None:
    profile, step = PROFILES[name], 1e-4
    _, d_offset, _ = profile_images(profile, OFFSET[np.newaxis], WAVE)
    difference = (profile(OFFSET + step, WAVE) - profile(OFFSET - step, WAVE)) / (2.0 * step)
    np.testing.assert_allclose(d_offset[0], difference, atol=1e-3)


def test_the_derivative_in_the_width() -> None:
    profile, step = GaussianProfile(factor=(1.2, 0.1)), np.array([1e-4])
    wider, narrower = (widen(profile, sign * step)(OFFSET, WAVE) for sign in (1.0, -1.0))
    *_, d_log_width = profile_images(profile, OFFSET[np.newaxis], WAVE)
    np.testing.assert_allclose(d_log_width[0], (wider - narrower) / 2e-4, atol=1e-7)


def test_a_width_has_a_lower_limit() -> None:
    assert widen(GaussianProfile(), np.array([-2.0])).factor == (MIN_FACTOR,)
