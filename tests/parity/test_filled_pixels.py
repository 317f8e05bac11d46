"""Bad pixels of exposures that the pipeline's ``resample_spec`` filled in."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from glue_lrs import Aperture, Extract1D, SlitImage
from glue_lrs.errors import LRSWarning
from glue_lrs.image.drizzle import filled_fraction
from glue_lrs.simulation import Scene, Source
from glue_lrs.simulation.truth import Simulated
from tests.helpers.resample import resample

SCENES: dict[str, Callable[[], Scene]] = {
    "faint": lambda: Scene(sources=(Source(flux=1e-5),), seed=1),
    "medium": lambda: Scene(sources=(Source(flux=1e-4, halo=0.02),), seed=2, flat_error=0.0),
    "bright": lambda: Scene(sources=(Source(flux=0.1, halo=0.02),), seed=3),
    "tilt": lambda: Scene(sources=(Source(flux=2e-3),), seed=4, trace_error=(0.5,)),
}


@cache
def exposure(name: str, nod: int = 1) -> Simulated:
    return SCENES[name]().cal(nod, full_frame=False)


def pixels_at_trace(made: Simulated) -> list[tuple[int, int]]:
    """A bad pixel in each ninth row, at most three columns from the trace."""
    rng = np.random.default_rng(5)
    rows = np.flatnonzero(np.isfinite(made.image.wavelength).any(axis=1))[5:-5:9]
    trace = np.round(made.truth.column[rows]).astype(int)
    return list(zip(rows.tolist(), (trace + rng.integers(-3, 4, rows.size)).tolist(), strict=True))


def flagged(image: SlitImage, pixels: list[tuple[int, int]]) -> SlitImage:
    dq = np.array(image.dq)
    dq[tuple(np.transpose(pixels))] |= 1
    return replace(image, dq=dq)


def rows_of(image: SlitImage, exposed: SlitImage, pixels: list[tuple[int, int]]) -> np.ndarray:
    """Rows of an s2d with the wavelengths of given pixels."""
    waves = [exposed.wavelength[pixel] for pixel in pixels]
    middle = image.wavelength[:, image.shape[1] // 2]
    return np.array([np.abs(middle - wave).argmin() for wave in waves])


@pytest.mark.parametrize("weight_type", ["ivm", "exptime"])
@pytest.mark.parametrize("nod", [1, 2])
@pytest.mark.parametrize("name", SCENES)
def test_each_bad_pixel_is_found_and_no_other(name: str, nod: int, weight_type: str) -> None:
    made = exposure(name, nod)
    clean = resample([made.image], weight_type)
    assert not filled_fraction(clean).any()
    pixels = pixels_at_trace(made)
    image = resample([flagged(made.image, pixels)], weight_type)
    assert np.isfinite(image.data[5:-5, 6:-6]).all()  # drizzle leaves no trace in the data
    found = filled_fraction(image)
    np.testing.assert_array_equal(
        np.flatnonzero(found.any(axis=1)), rows_of(image, made.image, pixels)
    )
    np.testing.assert_allclose(found.sum(axis=1)[found.any(axis=1)], 1.0, atol=0.15)
    assert ((found > 0).sum(axis=1) <= 2).all()


def test_weights_that_follow_the_light() -> None:
    """Ramps that saturate have a third of the groups: the variance is 30 times as large."""
    made = exposure("bright")
    light = np.nan_to_num(made.truth.data - made.truth.background)
    groups = np.floor(np.clip(12.0 * light.max() / np.maximum(light, 1.0), 19, 60))
    variance = made.image.var_rnoise * (60.0 / groups) ** 3
    exposed = replace(made.image, var_rnoise=variance)
    assert not filled_fraction(resample([exposed])).any()
    pixels = pixels_at_trace(made)
    found = filled_fraction(resample([flagged(exposed, pixels)]))
    assert found.any(axis=1).sum() >= 0.9 * len(pixels)


@pytest.mark.parametrize("weight_type", ["ivm", "exptime"])
def test_combined_exposures(weight_type: str) -> None:
    made = exposure("medium")
    pixels, other = pixels_at_trace(made), exposure("medium", 2).image
    bad = flagged(made.image, pixels)
    for good in ([bad, made.image], [made.image, other], [bad, other]):
        assert not filled_fraction(resample(good, weight_type)).any()
    found = filled_fraction(resample([bad, bad], weight_type))
    assert found.any(axis=1).sum() == len(pixels)


@pytest.fixture(scope="module")
def pair() -> tuple[SlitImage, SlitImage, np.ndarray]:
    """An s2d without bad pixels, the same with bad pixels, and the rows of these."""
    made = exposure("medium")
    pixels = pixels_at_trace(made)
    bad = resample([flagged(made.image, pixels)])
    return resample([made.image]), bad, rows_of(bad, made.image, pixels)


def operator(**options: object) -> Extract1D:
    aperture = Aperture(xstart=30.0, xstop=31.0, extract_width=8.0)
    return Extract1D(aperture=aperture, use_source_posn=True, **options)


def run(image: SlitImage, **options: object) -> dict[str, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        return operator(**options).run(image).columns


def test_the_flux_is_restored(pair: tuple[SlitImage, SlitImage, np.ndarray]) -> None:
    clean, image, rows = pair
    expected = run(clean)
    at = np.isin(expected["WAVELENGTH"], image.wavelength[rows, 20])
    assert at.sum() == rows.size
    kept = run(image)
    lost = run(image, filled_pixels="lost")
    restored = run(image, filled_pixels="lost", bad_pixels="profile")
    wrong = np.abs(kept["FLUX"] / expected["FLUX"] - 1.0)[at]
    assert (wrong > 0.02).sum() > rows.size / 2
    assert wrong.max() > 0.1
    np.testing.assert_allclose(kept["NPIXELS"][at], 8.0)
    assert (lost["NPIXELS"][at] < kept["NPIXELS"][at] - 0.5).all()
    np.testing.assert_allclose(restored["NPIXELS"][at], kept["NPIXELS"][at])
    pulls = ((restored["FLUX"] - expected["FLUX"]) / restored["FLUX_ERROR"])[at]
    assert np.abs(pulls).max() < 4.0
    assert np.sqrt(np.mean(pulls**2)) < 1.0
    assert np.abs(((kept["FLUX"] - expected["FLUX"]) / kept["FLUX_ERROR"])[at]).max() > 5.0
    for columns in (lost, restored):
        for name, values in columns.items():
            np.testing.assert_array_equal(values[~at], kept[name][~at], err_msg=name)


@pytest.mark.parametrize("extraction_type", ["box", "optimal"])
def test_they_are_reported(
    pair: tuple[SlitImage, SlitImage, np.ndarray], extraction_type: str
) -> None:
    clean, image, rows = pair
    run_with = operator(extraction_type=extraction_type)
    for one, expected in ((clean, 0), (image, rows.size)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LRSWarning)
            found = {f.kind: f for f in run_with.run(one).findings}
        if not expected or extraction_type == "box":
            assert ("filled_pixels" in found) is bool(expected)
        if "filled_pixels" in found:
            reported = found["filled_pixels"].values["rows"]
            # a fit rejects most of those that differ from the profile
            assert reported == expected if extraction_type == "box" else 0 < reported < expected


def test_optimal_extraction_without_them(pair: tuple[SlitImage, SlitImage, np.ndarray]) -> None:
    clean, image, rows = pair
    expected = run(clean, extraction_type="optimal")
    lost = run(image, extraction_type="optimal", filled_pixels="lost")
    at = np.isin(expected["WAVELENGTH"], image.wavelength[rows, 20])
    pulls = ((lost["FLUX"] - expected["FLUX"]) / lost["FLUX_ERROR"])[at]
    assert np.sqrt(np.mean(pulls**2)) < 1.0
    assert (lost["NPIXELS"] < expected["NPIXELS"] - 0.3)[at].mean() > 0.5
