"""Extraction of a stack whose source drifts, and of one with hot pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glue_lrs import Extract1D, Extraction, SlitImage
from glue_lrs.errors import ReferenceFileError, UnusedOptionWarning
from glue_lrs.simulation import Scene, Source

NUMBER = 24
#: A narrow aperture, which loses light if the source moves.
KEYS = {"xstart": 33, "xstop": 38, "bkg_coeff": [[4.5], [22.5], [48.5], [66.5]]}
SHIFTS = np.sin(np.linspace(0.0, 6.0, NUMBER)) / 2.0
SCENE = Scene(sources=(Source(flux=0.1),), exposure_time=30.0, flat_error=0.0, seed=6)


def stack(size: float) -> SlitImage:
    return SCENE.calints(NUMBER, shifts=size * SHIFTS).image


def extracted(image: SlitImage, **keys: object) -> Extraction:
    operator = Extract1D.from_reference(None, image.exp_type, **KEYS | keys)
    return operator.run(image, check=False)


def scatter(made: Extraction) -> float:
    """Standard deviation of the sum over the spectrum, divided by its error."""
    rows = slice(100, 300)
    flux = made.columns["FLUX"][:, rows].sum(axis=1)
    variance = sum(made.columns[f"FLUX_VAR_{name}"][:, rows] for name in ("POISSON", "RNOISE"))
    return float(flux.std(ddof=1) / np.sqrt(variance.sum(axis=1).mean()))


@pytest.mark.parametrize(("size", "without"), [(0.05, 2.0), (0.5, 20.0)])
def test_a_drift_is_corrected(size: float, without: float) -> None:
    image = stack(size)
    assert scatter(extracted(image)) > without
    found = extracted(image, drift="correct")
    assert scatter(found) < 1.4  # that of 24 points is known to 15%
    shift = np.asarray(found.times["SHIFT"])
    moved = size * SHIFTS
    assert shift - shift.mean() == pytest.approx(moved - moved.mean(), abs=0.002)


def test_rows_that_always_lack_a_bright_pixel_are_corrected_for_the_others() -> None:
    """Their flux depends more on the position than that of other rows."""
    image = stack(0.5)
    data = image.data.copy()
    rows = slice(100, 300)
    data[:, rows, 37] = np.nan
    damaged = replace(image, data=data)
    assert scatter(extracted(damaged)) > 20.0
    assert scatter(extracted(damaged, drift="correct")) < 1.6


def test_errors_are_scaled_like_the_flux() -> None:
    image = stack(0.5)
    plain, found = extracted(image).columns, extracted(image, drift="correct").columns
    factor = found["FLUX"] / plain["FLUX"]
    assert np.nanmax(factor) > 1.02
    for name in ("SURF_BRIGHT", "FLUX_ERROR", "SB_ERROR"):
        np.testing.assert_allclose(found[name], plain[name] * factor)
    for part in ("POISSON", "RNOISE", "FLAT"):
        for prefix in ("FLUX_VAR_", "SB_VAR_"):
            np.testing.assert_allclose(found[prefix + part], plain[prefix + part] * factor**2)


def test_without_a_drift_the_correction_changes_less_than_the_noise() -> None:
    image = stack(0.0)
    plain, found = extracted(image), extracted(image, drift="correct")
    error = np.sqrt(plain.columns["FLUX_VAR_POISSON"])
    change = np.abs(found.columns["FLUX"] - plain.columns["FLUX"]) / error
    assert np.nanmax(change) < 0.1
    np.testing.assert_array_equal(found.columns["NPIXELS"], plain.columns["NPIXELS"])
    np.testing.assert_array_equal(found.columns["BACKGROUND"], plain.columns["BACKGROUND"])


def test_an_optimal_extraction_follows_the_drift_anyway(tmp_path: Path) -> None:
    image = stack(0.05)
    keys = {"extraction_type": "optimal", "drift": "correct"}
    found = Extract1D.from_reference(None, image.exp_type, **keys).run(image, check=False)
    assert scatter(found) < 1.4
    plain = Extract1D.from_reference(None, image.exp_type, extraction_type="optimal")
    np.testing.assert_array_equal(
        found.columns["FLUX"], plain.run(image, check=False).columns["FLUX"]
    )
    found.write(tmp_path / "x_x1dints.fits")
    read = Extraction.read(tmp_path / "x_x1dints.fits").times
    for name in ("SHIFT", "SHIFT_ERROR", "WIDTH", "WIDTH_ERROR"):
        np.testing.assert_array_equal(read[name], found.times[name])


def test_hot_pixels_do_not_dilute_an_eclipse() -> None:
    factors = np.where(np.arange(NUMBER) < 12, 1.0, 0.5)
    image = SCENE.calints(NUMBER, factors=factors).image
    hot = np.zeros(image.shape, dtype=np.float32)
    hot[np.arange(110, 300, 10), 36] = 10000.0
    image = replace(image, data=image.data + hot)
    depths = []
    for how in ("keep", "lost"):
        found = extracted(image, hot_pixels=how)
        flux = found.columns["FLUX"][:, 100:300].sum(axis=1)
        depths.append(1.0 - flux[12:].mean() / flux[:12].mean())
    assert depths[0] < 0.4995
    assert depths[1] == pytest.approx(0.5, abs=1e-4)
    pixels = found.columns["NPIXELS"]
    assert (pixels == pixels[0]).all()  # lost in all integrations
    assert (pixels[0] < 6.0).sum() >= 19


def test_parameters_and_export() -> None:
    operator = Extract1D.from_reference(
        None, "MIR_LRS-SLITLESS", drift="correct", hot_pixels="lost"
    )
    assert operator.parameters["options"]["drift"] == "correct"
    assert Extract1D.from_parameters(operator.parameters) == operator
    for text in ("drift 'correct'", "hot_pixels 'lost'"):
        with pytest.raises(ReferenceFileError, match=text):
            operator.to_reference()
    default = Extract1D.from_reference(None, "MIR_LRS-SLITLESS")
    assert not {"drift", "hot_pixels"} & set(default.parameters["options"])


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"bad_pixels": "profile"}, "expected time_outliers 'replace' instead"),
        ({"correction": "profile"}, "expected correction 'table'"),
        ({"drift": "follow"}, "expected 'keep' or 'correct'"),
    ],
)
def test_options_that_exclude_the_correction(keys: dict[str, str], expected: str) -> None:
    with pytest.raises(ReferenceFileError, match=expected):
        Extract1D.from_reference(None, "MIR_LRS-SLITLESS", **{"drift": "correct"} | keys)


def test_a_single_image_has_no_drift() -> None:
    image = Scene().s2d().image
    with pytest.warns(UnusedOptionWarning, match="drift 'correct' has no effect"):
        Extract1D.from_reference(None, image.exp_type, drift="correct").run(image, check=False)
    with pytest.warns(UnusedOptionWarning, match="hot_pixels 'lost' has no effect"):
        Extract1D.from_reference(None, image.exp_type, hot_pixels="lost").run(image, check=False)
