"""Profiles on the pixels: analytic derivatives equal differences."""

from __future__ import annotations

import numpy as np
import pytest

from glue_lrs.fitting.profile_derivatives import MIN_FACTOR, ProfileImage, widen
from glue_lrs.profiles import GaussianProfile
from tests.helpers.profiles import COLUMNS, PROFILES, WAVE

OFFSET = COLUMNS - 20.3 + np.zeros((WAVE.size, 1))


@pytest.mark.parametrize("name", PROFILES)
def test_light_is_the_profile(name: str) -> None:
    image = ProfileImage.from_profile(PROFILES[name], OFFSET, WAVE)
    np.testing.assert_allclose(image.light(), PROFILES[name](OFFSET, WAVE), atol=1e-12)


@pytest.mark.parametrize("name", ["gaussian", "lop-sided", "empirical"])
def test_the_derivative_in_the_offset(name: str) -> None:
    profile, step = PROFILES[name], 1e-4
    image = ProfileImage.from_profile(profile, OFFSET, WAVE)
    difference = (profile(OFFSET + step, WAVE) - profile(OFFSET - step, WAVE)) / (2.0 * step)
    np.testing.assert_allclose(image.d_offset(), difference, atol=1e-3)


def test_the_derivative_in_the_width() -> None:
    profile, step = GaussianProfile(factor=(1.2, 0.1)), np.array([1e-4])
    wider, narrower = (widen(profile, sign * step)(OFFSET, WAVE) for sign in (1.0, -1.0))
    image = ProfileImage.from_profile(profile, OFFSET, WAVE)
    np.testing.assert_allclose(image.d_log_width(), (wider - narrower) / 2e-4, atol=1e-7)


def test_a_width_has_a_lower_limit() -> None:
    assert widen(GaussianProfile(), np.array([-2.0])).factor == (MIN_FACTOR,)
