"""Drift of the source: position and width of each integration of a stack."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from glue_lrs.errors import MeasurementError
from glue_lrs.fitting.drift import Drift, DriftModel, share_drift_model, stack_drift
from glue_lrs.image.stack import stack_part
from glue_lrs.simulation import PSF, Scene, Source
from glue_lrs.simulation.optics import PIXEL_SCALE

NUMBER = 30


def stack(shifts: np.ndarray, seed: int = 3, **options: object) -> object:
    scene = Scene(
        sources=(Source(flux=0.03),), exposure_time=30.0, seed=seed, flat_error=0.0, **options
    )
    return scene.calints(len(shifts), shifts=shifts).image


@pytest.mark.parametrize("size", [0.05, 0.5])
def test_the_drift_of_a_simulated_star(size: float) -> None:
    """With bad pixels, hot pixels and cosmic rays, and an eclipse of 50%."""
    shifts = size * np.sin(np.linspace(0.0, 7.0, NUMBER)) / 2.0
    factors = np.where(np.arange(NUMBER) % 10 < 4, 0.5, 1.0)
    scene = Scene(
        sources=(Source(flux=0.03),), exposure_time=30.0, seed=3, flat_error=0.0, bad_fraction=0.01
    )
    image = scene.calints(NUMBER, factors=factors, shifts=shifts).image
    rng = np.random.default_rng(4)
    data = image.data + np.where(rng.random(image.shape) < 0.01, 500.0, 0.0).astype(np.float32)
    data[rng.random(data.shape) < 0.001] += 5000.0
    found = stack_drift(replace(image, data=data))
    difference = found.shift - shifts
    difference -= difference.mean()
    pulls = difference / found.shift_error
    assert np.median(found.shift_error) < 6e-4
    assert np.sqrt((pulls**2).mean()) < 1.6
    assert np.polyfit(shifts, difference, 1)[0] == pytest.approx(0.0, abs=0.01)
    # The width depends a little on the position within a pixel.
    assert found.width == pytest.approx(np.ones(NUMBER), abs=0.005)


def test_a_jump_of_two_columns_is_found() -> None:
    shifts = np.where(np.arange(NUMBER) < 27, 0.0, 2.0)
    found = stack_drift(stack(shifts))
    assert found.shift == pytest.approx(shifts - shifts.mean(), abs=0.01)


def test_the_width_of_each_integration() -> None:
    """An integration with a PSF that is 2% wider."""
    calm, wide = (
        Scene(
            sources=(Source(flux=0.03),), exposure_time=30.0, flat_error=0.0, seed=5,
            psf=PSF(fwhm=tuple(width * one for one in PSF().fwhm)),
        ).calints(NUMBER).image
        for width in (1.0, 1.02)
    )  # fmt: skip
    data = calm.data.copy()
    data[7] = wide.data[7]
    found = stack_drift(replace(calm, data=data))
    others = np.arange(NUMBER) != 7
    assert found.width[7] == pytest.approx(1.02, abs=0.002)
    assert found.width[others] == pytest.approx(np.ones(NUMBER - 1), abs=0.002)


def test_an_integration_without_data_has_no_position() -> None:
    image = stack(np.zeros(NUMBER))
    data = image.data.copy()
    data[4] = np.nan
    found = stack_drift(replace(image, data=data))
    assert np.flatnonzero(np.isnan(found.shift)).tolist() == [4]


def test_the_parts_of_a_stack_have_its_positions() -> None:
    image = stack(0.3 * np.linspace(-0.5, 0.5, NUMBER))
    whole = stack_drift(image)
    part = stack_part(image, slice(20, None))
    share_drift_model(image, part)
    for name in ("shift", "shift_error", "width", "width_error"):
        expected = getattr(whole[20:], name)
        np.testing.assert_allclose(getattr(stack_drift(part), name), expected, rtol=1e-6)
    assert abs(DriftModel.from_stack(part).measure(part).shift.mean()) < 0.01


def test_the_light_in_an_aperture() -> None:
    """It is that of the source with the most light in it at the mean position, beside another."""
    near = Source(flux=0.1, position=1.4 * PIXEL_SCALE)
    scene = Scene(
        sources=(near, Source(flux=0.09, position=-3.6 * PIXEL_SCALE)), exposure_time=30.0, seed=3,
        flat_error=0.0,
    )  # fmt: skip
    shifts = np.linspace(0.0, 0.6, 8)
    image = scene.calints(len(shifts), shifts=shifts).image
    weights = np.zeros(image.shape)
    weights[:, 33:39] = 1.0

    def true_fraction(shift: float, width: float) -> np.ndarray:
        moved = replace(
            scene, sources=(near,), psf=PSF(fwhm=tuple(width * one for one in PSF().fwhm)),
            pointing_error=(shift + shifts.mean()) * PIXEL_SCALE,
        )  # fmt: skip
        truth = moved.calints(1).truth
        light = truth.data - truth.background
        with np.errstate(invalid="ignore"):  # rows without light
            return (light * weights).sum(axis=1) / light.sum(axis=1)

    shift, width = np.array([0.0, 0.0, 2.5, -0.3, np.nan]), np.array([1.0, 1.02, 1, 0.98, np.nan])
    drift = Drift(shift, np.zeros(5), width, np.zeros(5))
    model = DriftModel.from_stack(image)
    found, mean = model.light(drift, weights)
    rows = slice(100, 300)
    expected = [true_fraction(*one) for one in zip(shift[:4], width[:4], strict=True)]
    np.testing.assert_allclose(mean[rows], expected[0][rows], atol=2e-3)
    np.testing.assert_allclose(found[:, rows], np.array([*expected, mean])[:, rows], atol=2e-3)
    # The other source is five columns away, and has the same profile.
    other, _ = model.light(drift[:2], np.roll(weights, -5, axis=1))
    np.testing.assert_allclose(other[:, rows], found[:2, rows], atol=3e-3)
    # There is no model of rows without a wavelength, nor light in a distant aperture.
    assert (found[:, ~np.isfinite(image.wavelength).any(axis=1)] == 1.0).all()
    for far in model.light(drift, np.roll(weights, 24, axis=1)):
        assert (far == 1.0).all()
    # Nor is a fraction below 5% known well enough, or a shift of more than three columns.
    small, of_mean = model.light(drift, 0.08 * weights)
    np.testing.assert_allclose(small[1, rows], 0.08 * found[1, rows], rtol=1e-9)
    np.testing.assert_array_equal(small[2], of_mean)
    shift = np.array([3.0, 50.0, -3.0, -50.0, 0.0])
    at_limit, _ = model.light(replace(drift, shift=shift, width=np.ones(5)), weights)
    np.testing.assert_allclose(at_limit[1], at_limit[0], rtol=1e-3)
    np.testing.assert_allclose(at_limit[3], at_limit[2], rtol=1e-3)


def test_rows_that_moved_alone_count_little() -> None:
    """A misfit of one band, which is too small for outliers."""
    calm, moved = stack(np.zeros(NUMBER)), stack(np.full(NUMBER, 0.05), seed=4)
    data = calm.data.copy()
    data[7, 100:132] = moved.data[7, 100:132]
    found, before = stack_drift(replace(calm, data=data)), stack_drift(calm)
    assert abs(found.shift[7] - before.shift[7]) < 1.5 * before.shift_error[7]


def test_rows_without_wavelengths_are_left_out() -> None:
    shifts = 0.1 * np.linspace(-0.5, 0.5, NUMBER)
    image = stack(shifts)
    wavelength, data = image.wavelength.copy(), image.data.copy()
    wavelength[200:220] = np.nan
    data[:, 200:220] = 1e4
    found = stack_drift(replace(image, wavelength=wavelength, data=data))
    assert found.shift == pytest.approx(shifts, abs=5.0 * np.median(found.shift_error))


def test_correlated_noise_increases_the_errors() -> None:
    image = stack(np.zeros(5))
    model = DriftModel.from_stack(image)
    before = model.measure(image)
    model.correlation = 2.0
    found = model.measure(image)
    for name in ("shift", "width"):
        np.testing.assert_array_equal(getattr(found, name), getattr(before, name))
        error = f"{name}_error"
        np.testing.assert_allclose(getattr(found, error), 2.0 * getattr(before, error))


def test_the_error_of_the_flat_field_does_not_count() -> None:
    """It is the same in all integrations, which differ by photon noise and read noise only."""
    scene = Scene(sources=(Source(flux=0.1),), exposure_time=30.0, seed=3)
    errors = []
    for flat in (0.0, 0.02):
        found = stack_drift(replace(scene, flat_error=flat).calints(NUMBER).image)
        errors.append(np.median(found.shift_error))
        # The scatter of 30 values is known to 13%.
        assert found.shift.std(ddof=1) == pytest.approx(errors[-1], rel=0.4)
    assert errors[1] == pytest.approx(errors[0], rel=0.1)


def test_an_image_without_wavelengths_has_no_model() -> None:
    image = stack(np.zeros(3))
    empty = replace(image, wavelength=np.full(image.shape, np.nan))
    with pytest.raises(MeasurementError, match="0 rows and 0 columns have a wavelength"):
        DriftModel.from_stack(empty)
