"""Spatial profiles: light is kept, and what is learned is what was there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from glue_lrs.errors import ProfileError
from glue_lrs.fitting import least_squares, spline_correction
from glue_lrs.fitting.cutout import PixelPlanes
from glue_lrs.fitting.profile_fit import fit_profile, fit_traces
from glue_lrs.profiles.base import Profile
from glue_lrs.profiles.empirical import EmpiricalProfile, splines
from glue_lrs.profiles.gaussian import GaussianProfile
from glue_lrs.profiles.psf import PSFProfile

WAVE = np.linspace(13.8, 4.2, 200)
COLUMNS = np.arange(45.0)


class LopSided(Profile):
    """A core with a shoulder on one side and wide wings: nothing that is fitted looks like it."""

    def __call__(self, offset: NDArray[Any], wavelength: NDArray[Any]) -> NDArray[Any]:
        core = GaussianProfile()(offset, wavelength)
        shoulder = GaussianProfile(factor=(0.8,))(offset - 2.0, wavelength)
        wings = GaussianProfile(factor=(2.2,))(offset, wavelength)
        part = 0.08 + 0.05 * ((wavelength - 9.0) / 5.0)[:, np.newaxis]
        return np.nan_to_num((1.0 - 2.0 * part) * core + part * shoulder + part * wings)


def make(
    profile: Profile,
    trace: NDArray[Any],
    snr: float,
    seed: int = 0,
    background: float = 0.0,
    others: tuple[tuple[float, float], ...] = (),
) -> PixelPlanes:
    """An image of a source, and of others at distances and with fluxes relative to its."""
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


PROFILES: dict[str, Profile] = {
    "gaussian": GaussianProfile(factor=(1.2, 0.1)),
    "lop-sided": LopSided(),
    "psf": PSFProfile.sampled(LopSided(), np.linspace(3.0, 15.0, 40), subpix=20.0),
    "empirical": EmpiricalProfile(
        base=GaussianProfile(), coefficients=np.random.default_rng(1).normal(0, 0.01, (21, 3))
    ),
}


@pytest.mark.parametrize("name", PROFILES)
@given(place=st.floats(-0.5, 0.5))
def test_the_pixels_of_a_row_have_all_light(name: str, place: float) -> None:
    offset = np.broadcast_to(np.arange(-28.0, 29.0) + place, (WAVE.size, 57))
    total = PROFILES[name](offset, WAVE).sum(axis=1)
    np.testing.assert_allclose(total, 1.0, atol=2e-3 if name == "psf" else 1e-9)


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
def test_any_cut_of_columns_gives_the_same(name: str) -> None:
    """The fast paths for columns out of reach, and for pixels that touch."""
    offset = COLUMNS - (15.0 + 4.0 * np.linspace(-1, 1, WAVE.size))[:, np.newaxis]
    whole = PROFILES[name](offset, WAVE)
    for some in (slice(0, 3), slice(10, 30), slice(None, None, 2), slice(44, 45)):
        np.testing.assert_allclose(
            PROFILES[name](offset[:, some], WAVE), whole[:, some], atol=1e-12
        )


def test_a_psf_reference_is_interpolated() -> None:
    table = np.array([[0.0, 1.0, 3.0, 0.0], [0.0, 3.0, 1.0, 0.0]])
    psf = PSFProfile(data=table[::-1], wave=[10.0, 5.0], subpix=1.0, center=1.0)
    offset = np.array([[-2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 2.1]])
    expected = np.array([[0.0, 0.0, 1.0, 2.0, 3.0, 0.0, 0.0]]) / 4
    np.testing.assert_allclose(psf(offset, np.array([5.0])), expected)
    np.testing.assert_allclose(psf(offset, np.array([7.5])), np.array([[0, 0, 2, 2, 2, 0, 0]]) / 4)
    assert not psf(offset, np.array([4.9])).any()


@pytest.mark.parametrize("order", [None, 0, 1])
def test_bands_of_the_normal_matrix_equal_a_plain_least_squares(order: int | None) -> None:
    rng = np.random.default_rng(1)
    rows, knots, terms = 40, 21, 3
    columns = np.arange(2.0, 35.0)
    residual, weight = rng.normal(size=(rows, 33)), rng.random((rows, 33))
    bands = np.polynomial.legendre.legvander(np.linspace(-1, 1, rows), terms - 1)
    behind = least_squares.background_basis(columns, order, rows)
    for count in (1, 2, 3):
        traces = 5 + 18 * rng.random((count, 1)) + 0.05 * np.arange(rows)
        flux = rng.normal(3, 1, (count, rows))
        found, _ = spline_correction._fit_spline(
            residual, weight, traces, flux, columns, bands, knots, behind
        )
        design = np.zeros((rows, 33, knots + 8))
        for trace, f in zip(traces, flux, strict=True):
            first, parts = splines(columns - trace[:, None], knots)
            for j, part in enumerate(parts):
                design[np.arange(rows)[:, None], np.arange(33), first + j] += part * f[:, None]
        plain = np.einsum("rck,rm->rckm", design[:, :, 4:-4], bands).reshape(-1, knots * terms)
        # Each row has a background of its own.
        levels = np.zeros((rows, 33, rows, len(behind)))
        for i, field in enumerate(behind):
            levels[np.arange(rows), :, np.arange(rows), i] = field
        plain = np.concatenate([plain, levels.reshape(rows * 33, -1)], axis=1)
        matrix = (plain * weight.reshape(-1, 1)).T @ plain
        some = np.arange(knots * terms)
        matrix[some, some] += np.repeat(spline_correction.spline_prior(knots), terms) ** -2
        expected = np.linalg.solve(matrix, plain.T @ (weight * residual).ravel())
        np.testing.assert_allclose(found.ravel(), expected[: some.size], atol=1e-12)


TRACES = {
    "straight": np.full(WAVE.size, 20.3),
    "curved": 20.0 + 1.5 * np.linspace(-1, 1, WAVE.size) ** 2 + 0.4 * np.linspace(0, 1, WAVE.size),
}


@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.parametrize("truth", ["gaussian", "lop-sided"])
@pytest.mark.parametrize("snr", [30.0, 300.0])
def test_a_profile_is_learned(trace: str, truth: str, snr: float) -> None:
    """Fluxes fitted with the learned profile are those of the true one."""
    column = TRACES[trace]
    pixels = make(PROFILES[truth], column, snr, background=30.0)
    learned = fit_profile(pixels, column[np.newaxis] - column.mean() + 20.9, order=0)
    offset = pixels.offsets(learned.traces[0])
    found, true = learned.profile(offset, WAVE), PROFILES[truth](pixels.offsets(column), WAVE)
    bias = (found * true).sum(axis=1) / (found**2).sum(axis=1) - 1.0
    total = snr * np.sqrt(WAVE.size)
    assert abs(np.median(bias)) < 7.0 / total
    assert np.abs(bias).max() < 75.0 / total
    assert np.abs(found - true).max() < 0.04 * 30 / snr + 2e-3
    if truth == "gaussian":
        assert learned.traces[0].mean() == pytest.approx(column.mean(), abs=10.0 / total)
        fwhm = PROFILES["gaussian"].fwhm(WAVE)  # type: ignore[attr-defined]
        np.testing.assert_allclose(learned.profile.base.fwhm(WAVE), fwhm, rtol=20.0 / total)  # type: ignore[attr-defined]
    assert learned.signal_to_noise == pytest.approx(total, rel=0.3)


def test_positions_have_honest_errors() -> None:
    pulls = []
    for seed in range(60):
        pixels = make(GaussianProfile(), TRACES["straight"], 20.0, seed, others=((9.0, 0.5),))
        start = np.array([[20.9], [28.9]]) + np.zeros(WAVE.size)
        found = fit_traces(pixels, GaussianProfile(), start, order=None, trace_order=0)
        error = found.traces.mean(axis=1) - np.array([20.3, 29.3])
        pulls.append(error / found.shift_error)
    assert 0.8 < np.std(pulls) < 1.2
    assert abs(np.mean(pulls)) < 0.25


def test_a_negative_trace_moves_with_its_sources() -> None:
    """Sources 3 columns apart and their negatives, of which all distances are found."""
    pixels = make(
        GaussianProfile(), TRACES["straight"] - 8, 100.0, others=((3, 0.6), (17, -1), (20, -0.6))
    )
    start = np.array([12.0, 15.6, 29.2, 32.8])[:, None] + np.zeros(WAVE.size)
    found = fit_traces(pixels, GaussianProfile(), start, positives=2, order=None)
    np.testing.assert_allclose(found.traces.mean(axis=1), [12.3, 15.3, 29.3, 32.3], atol=0.01)


def test_outliers_are_not_learned_from() -> None:
    pixels = make(LopSided(), TRACES["curved"], 100.0)
    rng = np.random.default_rng(3)
    data = pixels.data.copy()
    hit = rng.random(data.shape) < 0.01
    data[hit] += 10.0 ** rng.uniform(0.5, 5, hit.sum())
    spoilt = PixelPlanes(data, pixels.variance, pixels.good, WAVE, COLUMNS)
    found = fit_profile(spoilt, TRACES["curved"][np.newaxis], order=None)
    clean = fit_profile(pixels, TRACES["curved"][np.newaxis], order=None)
    offset = pixels.offsets(TRACES["curved"])
    assert np.abs(found.profile(offset, WAVE) - clean.profile(offset, WAVE)).max() < 0.01
    np.testing.assert_allclose(found.traces, clean.traces, atol=0.01)


def test_what_cannot_be_learned_is_told() -> None:
    pixels = make(GaussianProfile(), TRACES["straight"], 10.0)
    with pytest.raises(ProfileError, match="no row has a trace"):
        fit_profile(pixels, np.full((1, WAVE.size), np.nan))
    dark = PixelPlanes(-pixels.data, pixels.variance, pixels.good, WAVE, COLUMNS)
    with pytest.raises(ProfileError, match="no light"):
        fit_profile(dark, TRACES["straight"][np.newaxis], order=None)
    nothing = PixelPlanes(pixels.data, pixels.variance, np.zeros_like(pixels.good), WAVE, COLUMNS)
    with pytest.raises(ProfileError, match="no pixel near the source"):
        fit_profile(nothing, TRACES["straight"][np.newaxis])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"wave": [5.0]}, "expected .wavelength, column."),
        ({"wave": [5.0, 5.0]}, "neither rises nor falls"),
        ({"wave": [5.0, np.nan]}, "neither rises nor falls"),
        ({"data": np.zeros((2, 3))}, "rows of no light"),
        ({"subpix": 0.0}, "subpix is 0.0"),
        ({"center": np.nan}, "center is nan"),
    ],
)
def test_psf_references_are_checked(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ProfileError, match=match):
        PSFProfile(**{"data": np.ones((2, 3)), "wave": [5.0, 10.0]} | changes)


def test_systems_without_a_solution_give_zero() -> None:
    for size in (1, 2, 3, 4):
        rng = np.random.default_rng(size)
        vectors = rng.normal(size=(5, 6, size))
        matrix = np.einsum("rci,rcj->rij", vectors, vectors)
        matrix[2] = 0.0
        if size > 1:
            matrix[3, :, 1] = matrix[3, :, 0]
            matrix[3, 1, :] = matrix[3, 0, :]
        inverse, solvable = least_squares.invert_symmetric(matrix)
        good = [0, 1, 4] if size > 1 else [0, 1, 3, 4]
        assert np.flatnonzero(solvable).tolist() == good
        assert not inverse[~solvable].any()
        np.testing.assert_allclose(
            inverse[good] @ matrix[good],
            np.broadcast_to(np.eye(size), (len(good), size, size)),
            atol=1e-6,
        )


def test_a_psf_gives_the_same_whatever_it_was_asked_before() -> None:
    """What it keeps belongs to the wavelengths it was asked for last."""
    psf = PSFProfile.sampled(GaussianProfile(), np.linspace(4.0, 14.0, 30))
    offset = COLUMNS - 20.3 + np.zeros((WAVE.size, 1))
    first = psf(offset, WAVE)
    other = np.where(np.arange(WAVE.size) % 7 == 0, np.nan, WAVE[::-1])
    np.testing.assert_array_equal(psf(offset, other), replace(psf)(offset, other))
    np.testing.assert_array_equal(psf(offset, WAVE), first)
    changed = WAVE.copy()
    kept = psf(offset, changed)
    changed += 0.5
    assert not np.array_equal(psf(offset, changed), kept)
