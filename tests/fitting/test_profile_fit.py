"""Fit of profile and positions: fitted profiles and traces are those of the image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from glue_lrs.errors import ProfileError
from glue_lrs.fitting.cutout import PixelPlanes
from glue_lrs.fitting.options import FitOptions
from glue_lrs.fitting.profile_fit import fit_profile
from glue_lrs.fitting.profile_parameters import ProfileParameters
from glue_lrs.profiles import EmpiricalProfile, GaussianProfile, SpatialProfile
from tests.helpers.profiles import COLUMNS, PROFILES, WAVE, LopSided


def make(
    profile: SpatialProfile,
    trace: NDArray[Any],
    snr: float,
    seed: int = 0,
    background: float = 0.0,
    others: tuple[tuple[float, float], ...] = (),
) -> PixelPlanes:
    """An image of a source, and of others at distances and fluxes relative to it."""
    rng = np.random.default_rng(seed)
    flux = 100.0 * (1.0 + 0.3 * np.sin(np.arange(WAVE.size) / 9.0))
    data = np.zeros((WAVE.size, COLUMNS.size)) + background
    for apart, part in ((0.0, 1.0), *others):
        data += part * flux[:, None] * profile(COLUMNS - (trace + apart)[:, None], WAVE)
    sigma = 100.0 * 0.5 / snr  # a profile of 4 pixels
    good = rng.random(data.shape) > 0.02
    data = data + sigma * rng.standard_normal(data.shape)
    return PixelPlanes(
        np.where(good, data, 0.0), np.full(data.shape, sigma**2), good, WAVE, COLUMNS
    )


def fwhm(profile: SpatialProfile) -> NDArray[Any]:
    """Return the FWHM in columns, after integration over the pixels."""
    offset = np.arange(-4.0, 4.0, 0.01) + np.zeros((WAVE.size, 1))
    light = profile(offset, WAVE)
    return 0.01 * (light > 0.5 * light.max(axis=1, keepdims=True)).sum(axis=1)


TRACES = {
    "straight": np.full(WAVE.size, 20.3),
    "curved": 20.0 + 1.5 * np.linspace(-1, 1, WAVE.size) ** 2 + 0.4 * np.linspace(0, 1, WAVE.size),
}

DARK = FitOptions(background_order=None)
GIVEN = replace(DARK, profile=GaussianProfile())


@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.parametrize("truth", ["gaussian", "lop-sided"])
@pytest.mark.parametrize("snr", [30.0, 300.0])
def test_a_profile_is_fitted(trace: str, truth: str, snr: float) -> None:
    """Fluxes by the fitted profile are those by the true one."""
    column = TRACES[trace]
    pixels = make(PROFILES[truth], column, snr, background=30.0)
    fit = fit_profile(pixels, column[np.newaxis] - column.mean() + 20.9, FitOptions(), 1)
    offset = pixels.offsets(fit.traces[0])
    found, true = fit.profile(offset, WAVE), PROFILES[truth](pixels.offsets(column), WAVE)
    bias = (found * true).sum(axis=1) / (found**2).sum(axis=1) - 1.0
    total = snr * np.sqrt(WAVE.size)
    assert abs(np.median(bias)) < 7.0 / total
    assert np.abs(bias).max() < 75.0 / total
    assert np.abs(found - true).max() < 0.04 * 30 / snr + 2e-3
    if truth == "gaussian":
        assert fit.traces[0].mean() == pytest.approx(column.mean(), abs=10.0 / total)
        ratio = fwhm(fit.profile) / fwhm(PROFILES["gaussian"])
        np.testing.assert_allclose(ratio.reshape(4, -1).mean(axis=1), 1.0, rtol=20.0 / total)
    assert fit.signal_to_noise == pytest.approx(total, rel=0.3)


def test_errors_of_positions_match_their_scatter() -> None:
    pulls = []
    for seed in range(60):
        pixels = make(GaussianProfile(), TRACES["straight"], 20.0, seed, others=((9.0, 0.5),))
        start = np.array([[20.9], [28.9]]) + np.zeros(WAVE.size)
        found = fit_profile(pixels, start, replace(GIVEN, trace_order=0), 2)
        error = found.traces.mean(axis=1) - np.array([20.3, 29.3])
        pulls.append(error / found.shift_error)
    assert 0.8 < np.std(pulls) < 1.2
    assert abs(np.mean(pulls)) < 0.25


def test_a_negative_trace_moves_with_its_sources() -> None:
    """Two sources 3 columns apart and their negative traces: all distances are fitted."""
    pixels = make(
        GaussianProfile(), TRACES["straight"] - 8, 100.0, others=((3, 0.6), (17, -1), (20, -0.6))
    )
    start = np.array([12.0, 15.6, 29.2, 32.8])[:, None] + np.zeros(WAVE.size)
    found = fit_profile(pixels, start, GIVEN, 2)
    np.testing.assert_allclose(found.traces.mean(axis=1), [12.3, 15.3, 29.3, 32.3], atol=0.01)


def test_outliers_are_rejected() -> None:
    pixels = make(LopSided(), TRACES["curved"], 100.0)
    rng = np.random.default_rng(3)
    data = pixels.data.copy()
    hit = rng.random(data.shape) < 0.01
    data[hit] += 10.0 ** rng.uniform(0.5, 5, hit.sum())
    with_outliers = PixelPlanes(data, pixels.variance, pixels.good, WAVE, COLUMNS)
    found = fit_profile(with_outliers, TRACES["curved"][np.newaxis], DARK, 1)
    clean = fit_profile(pixels, TRACES["curved"][np.newaxis], DARK, 1)
    offset = pixels.offsets(TRACES["curved"])
    assert np.abs(found.profile(offset, WAVE) - clean.profile(offset, WAVE)).max() < 0.01
    np.testing.assert_allclose(found.traces, clean.traces, atol=0.01)


def test_wings_are_not_negative() -> None:
    """A Gaussian has none, so that noise would make half of the coefficients negative."""
    pixels = make(PROFILES["gaussian"], TRACES["straight"], 100.0)
    profile = fit_profile(pixels, TRACES["straight"][None], DARK, 1).profile
    assert isinstance(profile, EmpiricalProfile)
    wings = np.array(profile.wings)
    assert (wings >= 0.0).all()
    assert (wings == 0.0).any()
    light = profile(np.arange(-30.0, 31.0) + np.zeros((WAVE.size, 1)), WAVE)
    assert light.min() > -1e-3


def test_parts_and_prior_of_the_parameters() -> None:
    sizes = (2, 1, 3, 0, 2, 1)
    values = np.arange(9.0)
    parameters = ProfileParameters(values, values - 1.0, np.array([0.5] + [1.0] * 8), sizes)
    parts = [parameters[kind].tolist() for kind in range(6)]
    assert parts == [[0.0, 1.0], [2.0], [3.0, 4.0, 5.0], [], [6.0, 7.0], [8.0]]
    assert parameters.modes.tolist() == [6.0, 7.0, 8.0]
    assert parameters.penalty == 12.0  # (1 / 0.5)^2 + 8


def test_images_without_light_raise_errors() -> None:
    pixels = make(GaussianProfile(), TRACES["straight"], 10.0)
    with pytest.raises(ProfileError, match="no row has a trace"):
        fit_profile(pixels, np.full((1, WAVE.size), np.nan), FitOptions(), 1)
    dark = PixelPlanes(-pixels.data, pixels.variance, pixels.good, WAVE, COLUMNS)
    with pytest.raises(ProfileError, match="no light"):
        fit_profile(dark, TRACES["straight"][np.newaxis], DARK, 1)
    nothing = PixelPlanes(pixels.data, pixels.variance, np.zeros_like(pixels.good), WAVE, COLUMNS)
    with pytest.raises(ProfileError, match="no pixel near the source"):
        fit_profile(nothing, TRACES["straight"][np.newaxis], FitOptions(), 1)
