"""Spatial profiles: normalised, and independent of the columns they are evaluated on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import BPoly
from scipy.optimize import nnls
from scipy.stats import norm

from glue_lrs.errors import ProfileError
from glue_lrs.fitting.profile_parameters import expected_wings
from glue_lrs.profiles import EmpiricalProfile, GaussianProfile, PSFProfile
from glue_lrs.profiles.shape_modes import (
    WING_WIDTHS,
    shape_modes,
    wing_fractions,
    wing_light,
    wing_shapes,
)
from tests.helpers.profiles import COLUMNS, PROFILES, WAVE


@pytest.mark.parametrize("name", PROFILES)
@given(place=st.floats(-0.5, 0.5))
def test_profiles_are_normalised(name: str, place: float) -> None:
    half = 14.0 if name == "empirical" else 28.0  # its wings go on beyond its reach
    offset = np.broadcast_to(np.arange(0.5 - half, half) + place, (WAVE.size, int(2 * half)))
    total = PROFILES[name](offset, WAVE).sum(axis=1)
    tolerance = {"psf": 2e-3, "empirical": 1e-3}.get(name, 1e-9)
    np.testing.assert_allclose(total, 1.0, atol=tolerance)


@pytest.mark.parametrize("name", PROFILES)
def test_rows_without_a_wavelength_or_a_trace_have_no_light(name: str) -> None:
    wave = WAVE.copy()
    wave[3] = np.nan
    offset = COLUMNS - np.full((WAVE.size, 1), 20.0)
    offset[5] = np.nan
    value = PROFILES[name](offset, wave)
    assert not value[5].any()
    assert np.isfinite(value).all()
    if name == "psf":
        assert not value[3].any()


@pytest.mark.parametrize("name", PROFILES)
def test_any_cutout_of_columns_gives_the_same(name: str) -> None:
    """There are fast paths for columns beyond the profile, and for adjacent pixels."""
    offset = COLUMNS - (15.0 + 4.0 * np.linspace(-1, 1, WAVE.size))[:, np.newaxis]
    whole = PROFILES[name](offset, WAVE)
    for columns in (slice(0, 3), slice(10, 30), slice(None, None, 2), slice(44, 45)):
        np.testing.assert_allclose(
            PROFILES[name](offset[:, columns], WAVE), whole[:, columns], atol=1e-12
        )


def test_wings_are_gaussians() -> None:
    offset = np.linspace(-40.0, 40.0, 161)
    for width, light, shape in zip(WING_WIDTHS, wing_light(5.0), wing_shapes(offset), strict=True):
        np.testing.assert_allclose(shape, norm.pdf(offset, 0.0, width), rtol=1e-12)
        assert light == pytest.approx(norm.cdf(5.0, 0.0, width) - norm.cdf(-5.0, 0.0, width))


def test_the_fractions_of_the_wings_are_bernstein_polynomials() -> None:
    """In the logarithm of the wavelength, and constant beyond the range of the fit."""
    wings = ((0.01, 0.04, 0.02), (0.0, 0.03, 0.0))
    fractions = np.array([*wings, (0.0,) * 3, (0.0,) * 3])
    profile = EmpiricalProfile(
        domain=(5.0, 12.0), wings=tuple(map(tuple, fractions.tolist())),
        coefficients=np.zeros((shape_modes().number, 1)),
    )  # fmt: skip
    wave = np.array([4.0, 5.0, 6.5, 9.0, 12.0, 14.0])
    expected = BPoly(fractions.T[:, np.newaxis], np.log([5.0, 12.0]))(np.log(wave.clip(5.0, 12.0)))
    np.testing.assert_allclose(profile.at(wave).wings, expected, atol=1e-14)


def test_the_expected_wings_contain_four_per_cent_of_the_flux() -> None:
    """The light of each is proportional to the inverse of its width."""
    fractions = wing_fractions()
    assert fractions.sum() == pytest.approx(0.04)
    np.testing.assert_allclose(fractions / fractions[0], 3.0 / np.array([3.0, 6.0, 12.0, 24.0]))
    assert expected_wings() == tuple((one,) * 3 for one in fractions.tolist())


def test_a_sum_of_wings_describes_other_wings() -> None:
    """Positive factors suffice for exponentials and Lorentzians, to 2% of their middle."""
    offset = np.linspace(0.0, 30.0, 61)
    shapes = np.transpose(wing_shapes(offset))
    for wanted in (np.exp(-offset / 6.0), 1.0 / (1.0 + (offset / 4.0) ** 2)):
        outer = offset > 3.0  # the core has its own Gaussian
        factors, _ = nnls(shapes[outer], wanted[outer])
        np.testing.assert_allclose(shapes[outer] @ factors, wanted[outer], atol=0.02)


def test_modes_of_the_wings_have_no_constant() -> None:
    """The mean of each is small, compared with its mean absolute value."""
    modes = shape_modes()
    wings = modes.table[:, ~modes.core & modes.even]
    assert np.abs(wings.mean(axis=0)).max() < 0.25 * np.abs(wings).mean(axis=0).max()


@pytest.mark.parametrize("name", ["offset", "width", "wings", "modes"])
def test_derivatives_of_a_fitted_profile(name: str) -> None:
    """They agree with differences."""
    profile = PROFILES["empirical"]
    assert isinstance(profile, EmpiricalProfile)
    offset = np.broadcast_to(np.arange(-14.0, 15.0) + 0.23, (WAVE.size, 29))
    derivatives = profile.at(WAVE).derivatives(offset)
    step = 1e-4
    moved, sign = [], np.array([1.0, -1.0])
    for h in step * sign:
        shifted, changed = offset, profile
        if name == "offset":
            shifted = offset + h
        elif name == "width":
            changed = replace(profile, width=(profile.width[0] + h, *profile.width[1:]))
        elif name == "wings":
            (first, *rest), *others = profile.wings
            changed = replace(profile, wings=((first + h, *rest), *others))
        else:
            coefficients = profile.coefficients.copy()
            coefficients[-1, 0] += h
            changed = replace(profile, coefficients=coefficients)
        moved.append(changed(shifted, WAVE))
    expected = (moved[0] - moved[1]) / (2.0 * step)
    found = getattr(derivatives, "d_" + name)()
    if name == "wings":
        found = found[:, 0] * profile.at(WAVE).rows.wing_terms(2)[:, :1]
    elif name != "offset":
        found = found[:, 0 if name == "width" else -1]
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max() + 2e-6)


def test_a_psf_reference_is_interpolated() -> None:
    table = np.array([[0.0, 1.0, 3.0, 0.0], [0.0, 3.0, 1.0, 0.0]])
    psf = PSFProfile(data=table[::-1], wave=[10.0, 5.0], subpix=1.0, center=1.0)
    offset = np.array([[-2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 2.1]])
    expected = np.array([[0.0, 0.0, 1.0, 2.0, 3.0, 0.0, 0.0]]) / 4
    np.testing.assert_allclose(psf(offset, np.array([5.0])), expected)
    np.testing.assert_allclose(psf(offset, np.array([7.5])), np.array([[0, 0, 2, 2, 2, 0, 0]]) / 4)
    assert not psf(offset, np.array([4.9])).any()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"wave": [5.0]}, "expected .wavelength, column."),
        ({"wave": [5.0, 5.0]}, "neither rises nor falls"),
        ({"wave": [5.0, np.nan]}, "neither rises nor falls"),
        ({"data": np.zeros((2, 3))}, "rows without flux"),
        ({"subpix": 0.0}, "subpix is 0.0"),
        ({"center": np.nan}, "center is nan"),
    ],
)
def test_psf_references_are_checked(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ProfileError, match=match):
        PSFProfile(**{"data": np.ones((2, 3)), "wave": [5.0, 10.0]} | changes)


def test_cached_psf_rows_belong_to_their_wavelengths() -> None:
    psf = PSFProfile.sampled(GaussianProfile(), np.linspace(4.0, 14.0, 30))
    offset = COLUMNS - 20.3 + np.zeros((WAVE.size, 1))
    first = psf(offset, WAVE)
    other = np.where(np.arange(WAVE.size) % 7 == 0, np.nan, WAVE[::-1])
    np.testing.assert_array_equal(psf(offset, other), replace(psf)(offset, other))
    np.testing.assert_array_equal(psf(offset, WAVE), first)
    changed = WAVE.copy()
    before = psf(offset, changed)
    changed += 0.5
    assert not np.array_equal(psf(offset, changed), before)
