"""Pixels that drizzle filled in are those of the bad pixels of the exposures, and no others."""

from __future__ import annotations

import copy
import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from click.testing import CliRunner

from glue_lrs import Aperture, Extract1D, SlitImage
from glue_lrs.cli import main
from glue_lrs.errors import (
    FilledPixelsWarning,
    LostPixelsWarning,
    LRSWarning,
    ReferenceFileError,
    UnusedOptionWarning,
)
from glue_lrs.extraction.rerun import rerun
from glue_lrs.image.drizzle import filled_fraction, without_filled_pixels
from glue_lrs.image.pixels import lost_pixels
from glue_lrs.instrument import FIXED_SLIT
from glue_lrs.uncertainty import AddedVariance
from glue_lrs.viewers.live.script import python_lines
from tests.helpers.drizzle import drizzled
from tests.helpers.images import COLUMNS, ROWS, SOURCE, slit

#: Bad pixels at and beside the trace, which is at column 12.3.
BAD = ((5, 12), (9, 13), (14, 11), (20, 12), (21, 30), (27, 14), (33, 12))
IMAGE = slit(
    data=np.tile(
        100.0 * np.exp(-0.5 * ((np.arange(COLUMNS) - SOURCE) / 1.5) ** 2), (ROWS, 1)
    ).astype(np.float32)
)


def steep_weights() -> np.ndarray:
    """Weights that dip by up to 5 in the trace, by an amount that differs from row to row."""
    rng = np.random.default_rng(2)
    depth = rng.uniform(0.5, 4.0, (ROWS, 1))
    profile = np.exp(-0.5 * ((np.arange(COLUMNS) - SOURCE) / 1.5) ** 2)
    return np.linspace(10.0, 20.0, ROWS)[:, np.newaxis] / (1.0 + depth * profile)


def box(**options: object) -> Extract1D:
    return Extract1D(aperture=Aperture(xstart=9, xstop=16), **options)


# --- which pixels ------------------------------------------------------------------------------


@pytest.mark.parametrize("weight_type", ["ivm", "exptime"])
@pytest.mark.parametrize("phase", [0.0, 0.35, 0.7])
def test_each_bad_pixel_is_found_and_no_other(weight_type: str, phase: float) -> None:
    weights = steep_weights()
    clean = drizzled(IMAGE, (), weights, phase, weight_type)
    assert filled_fraction(clean) is not None
    assert not filled_fraction(clean).any()
    found = filled_fraction(drizzled(IMAGE, BAD, weights, phase, weight_type))
    assert found is not None
    expected = np.zeros(IMAGE.shape, dtype=bool)
    for row, column in BAD:
        expected[row, [column - 1, column]] = True  # the columns that overlap with it
        assert found[row].sum() == pytest.approx(1.0, abs=0.15)
    assert not found[~expected].any()


def test_a_value_from_another_exposure_is_good() -> None:
    for exposures in ((BAD, ()), (BAD, (), ())):
        assert not filled_fraction(drizzled(IMAGE, exposures)).any()
    everywhere = filled_fraction(drizzled(IMAGE, (BAD, BAD)))
    np.testing.assert_allclose(everywhere, filled_fraction(drizzled(IMAGE, BAD)), atol=1e-5)


def test_a_column_that_is_bad_in_all_rows_is_found() -> None:
    column = tuple((row, 12) for row in range(1, ROWS - 1))
    found = filled_fraction(drizzled(IMAGE, column, steep_weights()))
    assert (found.sum(axis=1)[1:-1] > 0.75).all()
    assert not found[:, 14:].any()


def test_a_low_weight_is_not_a_missing_pixel() -> None:
    """Ramps with a cosmic ray or few groups have a lower weight, but a value of their own."""
    rng, weights = np.random.default_rng(3), steep_weights()
    weights[rng.random(weights.shape) < 0.03] /= 9.0
    assert not filled_fraction(drizzled(IMAGE, (), weights, 0.2)).any()


def test_lost_pixels_are_not_filled() -> None:
    image = drizzled(IMAGE, BAD)
    data = image.data.copy()
    data[5, 11:13] = np.nan
    fraction = filled_fraction(replace(image, data=data))
    assert not fraction[5].any()
    assert fraction[9].any()


def test_unknown_weights() -> None:
    image = drizzled(IMAGE, BAD)
    assert filled_fraction(IMAGE) is None
    assert filled_fraction(replace(image, var_rnoise=None)) is None  # RESWHT is ivm
    flat = replace(image, drizzle_weight=np.ones(image.shape, np.float32))
    assert not filled_fraction(flat).any()
    for value in (np.nan, np.inf, 0.0, -1.0):
        constant = np.full(image.shape, value, np.float32)
        assert not filled_fraction(replace(image, drizzle_weight=constant)).any()
    times = drizzled(IMAGE, BAD, weight_type="exptime")
    none = np.zeros(image.shape, np.float32)
    for changed in (replace(times, var_rnoise=None), replace(times, var_rnoise=none)):
        np.testing.assert_array_equal(filled_fraction(changed), filled_fraction(times))


def test_the_result_is_kept_and_does_not_keep_the_image() -> None:
    image = drizzled(IMAGE, BAD)
    assert filled_fraction(image) is filled_fraction(image)
    assert without_filled_pixels(image) is without_filled_pixels(image)


# --- the plane ---------------------------------------------------------------------------------


def test_weights_are_written_and_read(tmp_path: Path) -> None:
    image = drizzled(IMAGE, BAD)
    image.write(tmp_path / "a_s2d.fits")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = SlitImage.read(tmp_path / "a_s2d.fits")
    np.testing.assert_array_equal(back.drizzle_weight, image.drizzle_weight)
    np.testing.assert_array_equal(filled_fraction(back), filled_fraction(image))
    for one in (copy.deepcopy(back), pickle.loads(pickle.dumps(back))):
        np.testing.assert_array_equal(one.drizzle_weight, image.drizzle_weight)
        assert one.changed == ()
    assert replace(back, drizzle_weight=None).changed == ("drizzle_weight",)
    with fits.open(tmp_path / "a_s2d.fits") as hdulist:
        assert hdulist["WHT"].data.dtype == ">f4"
    # of two-dimensional spectra, the image with its weights is known as long as they are unchanged
    spectrum = back.to_spectrum()
    assert SlitImage.from_spectrum(spectrum) is back
    assert SlitImage.from_spectrum(spectrum * 2).drizzle_weight is None


def test_damaged_weights_are_ignored(tmp_path: Path) -> None:
    drizzled(IMAGE, BAD).write(tmp_path / "a_s2d.fits")
    table = fits.BinTableHDU.from_columns([fits.Column("A", "E", array=[1.0])], name="WHT")
    damaged = {
        "shape": fits.ImageHDU(np.ones((3, 4), np.float32), name="WHT"),
        "is a table": table,
        "": fits.ImageHDU(name="WHT"),
    }
    for text, hdu in damaged.items():
        with fits.open(tmp_path / "a_s2d.fits") as hdulist:
            hdulist["WHT"] = hdu
            hdulist.writeto(tmp_path / "b_s2d.fits", overwrite=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            image = SlitImage.read(tmp_path / "b_s2d.fits")
        assert len(caught) == bool(text)
        assert all(text in str(one.message) for one in caught)
        assert image.drizzle_weight is None
        box().run(image, check=False)


def test_stacks_have_no_filled_pixels() -> None:
    single = drizzled(IMAGE, BAD)
    planes = {
        name: np.stack([getattr(single, name)] * 2)
        for name in ("data", "err", "var_poisson", "var_rnoise", "var_flat", "drizzle_weight")
        if getattr(single, name) is not None
    }
    stack = replace(single, **planes, kind="calints")
    assert filled_fraction(stack) is None
    np.testing.assert_array_equal(stack.integration(1).drizzle_weight, single.drizzle_weight)
    assert stack.median().drizzle_weight is None


# --- extraction --------------------------------------------------------------------------------


def test_filled_pixels_are_reported_and_kept() -> None:
    image = drizzled(IMAGE, BAD, steep_weights())
    with pytest.warns(FilledPixelsWarning, match=r"in 6 of 40 rows, at most 1\.0 of 8\.0 pixels"):
        kept = box().run(image)
    (finding,) = (one for one in kept.findings if one.kind == "filled_pixels")
    assert finding.severity == "warning"
    assert finding.values["rows"] == 6  # the pixel at column 30 is outside the aperture
    assert finding.values["filled"] == pytest.approx(1.0, abs=0.1)
    assert "filled_pixels='lost'" in str(finding)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FilledPixelsWarning)
        plain = box().run(replace(image, drizzle_weight=None))
        unchecked = box().run(image, check=False)
        aside = Extract1D(aperture=Aperture(xstart=18, xstop=26)).run(image)
    assert "filled_pixels" not in {one.kind for one in (*unchecked.findings, *aside.findings)}
    for name, values in plain.columns.items():
        if name != "QUALITY":
            np.testing.assert_array_equal(kept.columns[name], values)
    assert kept.quality_mask("filled").sum() == 6
    assert not plain.quality_mask("filled").any()


def test_filled_pixels_can_be_lost_pixels() -> None:
    dq = np.zeros(IMAGE.shape, np.uint32)
    dq[30, 12], dq[31, 12] = 4, 1
    image = replace(drizzled(IMAGE, BAD, steep_weights()), dq=dq)
    operator = box(filled_pixels="lost")
    with pytest.warns(LostPixelsWarning, match="reduce the aperture in 7 of"):
        lost = operator.run(image)
    assert "filled_pixels" not in {one.kind for one in lost.findings}
    changed = without_filled_pixels(image)
    filled = filled_fraction(image) > 0
    np.testing.assert_array_equal(lost_pixels(changed), lost_pixels(image) | filled)
    assert changed.dq[30, 12] == 4
    assert changed.changed == ()
    assert dq.sum() == 5  # the original is unchanged
    by_hand = box().run(changed, check=False)
    for name, values in by_hand.columns.items():
        np.testing.assert_array_equal(lost.columns[name], values)
    pixels = 8.0 - (filled | lost_pixels(image))[:, 9:17].sum(axis=1)
    np.testing.assert_allclose(lost.columns["NPIXELS"], pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        masked = box(filled_pixels="lost", max_lost=0.1).run(image)
    assert masked.columns["DQ"][1:-1].sum() == 7  # the first and the last row have no pixels


def test_weights_of_an_image_with_added_noise() -> None:
    """The weights are not the inverse of the variances to which those of another nod are added."""
    image = drizzled(IMAGE, BAD, steep_weights())
    rng = np.random.default_rng(7)
    added = AddedVariance(np.zeros(image.shape), rng.uniform(0, 0.5, image.shape), "of a nod")
    np.testing.assert_array_equal(filled_fraction(added.added_to(image)), filled_fraction(image))


def test_the_option_without_weights_has_no_effect() -> None:
    with pytest.warns(UnusedOptionWarning, match=r"filled_pixels 'lost' has no effect.*no drizzle"):
        found = box(filled_pixels="lost").run(IMAGE)
    assert "unused_option" in {one.kind for one in found.findings}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        box(filled_pixels="lost").run(drizzled(IMAGE, ()))
        box(filled_pixels="lost").run(replace(IMAGE, kind="cal"))


def test_the_option_is_recorded_and_repeated(tmp_path: Path) -> None:
    path = tmp_path / "a_s2d.fits"
    drizzled(IMAGE, BAD).write(path)
    image = SlitImage.read(path)
    operator = Extract1D.from_reference(
        None, FIXED_SLIT, xstart=9, xstop=16, use_source_posn=False, filled_pixels="lost"
    )
    assert "filled_pixels" not in box().parameters["options"]
    assert box(filled_pixels="keep") == box() != operator
    assert Extract1D.from_parameters(operator.parameters) == operator
    for value in ("gone", None, True):
        with pytest.raises(ReferenceFileError, match=r"filled_pixels is .*, expected 'keep' or 'l"):
            box(filled_pixels=value)
    assert "filled_pixels='lost'" in python_lines(operator, image)
    with pytest.raises(ReferenceFileError, match=r"cannot hold filled_pixels 'lost', which"):
        operator.to_reference()
    with pytest.raises(ReferenceFileError, match=r"cannot hold filled_pixels 'lost', which"):
        operator.to_reference(image)
    assert operator.to_reference(drizzled(IMAGE, ())).entry(FIXED_SLIT)["xstart"] == 9
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        lost = operator.run(image)
        again = rerun(lost.provenance)
    for name, values in lost.columns.items():
        np.testing.assert_array_equal(again.columns[name], values)


def test_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "a_s2d.fits"
    drizzled(IMAGE, BAD).write(path)
    info = CliRunner().invoke(main, ["info", str(path)])
    assert "filled pixels" in info.output
    number = int((filled_fraction(SlitImage.read(path)) > 0).sum())
    assert f"{number} of {ROWS * COLUMNS}, in which drizzle used" in info.output
    extract = ["extract", str(path), "--output-dir", str(tmp_path), "--set", "xstart=9"]
    extract += ["--set", "xstop=16", "--set", "use_source_posn=false", "--overwrite"]
    kept = CliRunner().invoke(main, extract)
    assert kept.exit_code == 0
    assert "--set filled_pixels=lost" in kept.output
    lost = CliRunner().invoke(main, [*extract, "--set", "filled_pixels=lost"])
    assert lost.exit_code == 0
    assert "drizzle filled in" not in lost.output
    wrong = CliRunner().invoke(main, [*extract, "--set", "filled_pixels=gone"])
    assert wrong.exit_code == 2
