"""Background regions are placed beside the source, clear of traces and of bad columns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose

import glue_lrs
from glue_lrs import Extract1D, Extraction, SlitImage, rerun
from glue_lrs.cli import main
from glue_lrs.errors import MeasurementError, ReferenceFileError
from glue_lrs.extraction.extract import operator_for
from glue_lrs.measurement import place_background
from glue_lrs.measurement.background_regions import unusual_columns
from glue_lrs.simulation.scene import Scene
from tests.helpers.images import stack

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::glue_lrs.errors.LRSWarning"),
]

#: Hot and dead columns of the stack. A scene counts columns from the reference point.
HOT, DEAD = 20, 48


@pytest.fixture(scope="module")
def made() -> Any:
    scene = Scene(seed=2, hot_columns={HOT - 36: 40.0}, dead_columns=(DEAD - 36,))
    return scene.calints(6)


def columns_of(operator: Extract1D, image: SlitImage) -> set[int]:
    """Columns of the background regions in any row."""
    assert operator.background is not None
    offset = operator.place(image).background_offset
    weights = operator.background.weights(image.wavelength, offset)
    return set(np.flatnonzero(weights.full(image.shape).any(axis=0)).tolist())


def test_flux_without_background(made: Any) -> None:
    image = made.image
    operator = operator_for(image, background="auto", xstart=30, xstop=41)
    found = columns_of(operator, image)
    assert 14 <= len(found) <= 30
    assert {HOT, DEAD}.isdisjoint(found)
    assert min(found) < 30 < 41 < max(found)
    assert found.isdisjoint(range(29, 43))
    extraction = operator.run(image)
    band = (extraction.wavelength > 5) & (extraction.wavelength < 12)
    clean = Scene(seed=2).calints(6).image
    regions = [[8.5], [20.5], [50.5], [62.5]]
    expected = operator_for(clean, bkg_coeff=regions, bkg_fit="median", xstart=30, xstop=41)
    ratio = extraction.columns["FLUX"] / expected.run(clean).columns["FLUX"]
    assert_allclose(np.median(ratio[:, band], axis=1), 1.0, atol=0.005)
    kinds = {finding.kind for finding in operator.check(image, extraction)}
    assert kinds.isdisjoint({"background_left", "region_on_trace", "region_overlap", "off_image"})


def test_a_background_with_a_slope_has_no_hot_columns() -> None:
    image = stack(5)
    slope = np.arange(46) * np.array([[1.0], [0.5]] * 20)
    data = np.asarray(image.data) + slope
    assert not unusual_columns(replace(image, data=data), slice(28, 44)).any()
    data[:, :, 10] += 20.0
    found = unusual_columns(replace(image, data=data), slice(28, 44))
    assert np.flatnonzero(found).tolist() == [10]


def test_keys_of_the_background_are_used(made: Any) -> None:
    chosen = {"bkg_fit": "poly", "bkg_order": 1, "smoothing_length": 3}
    background = operator_for(made.image, background="auto", **chosen).background
    assert background is not None
    assert (background.bkg_fit, background.order, background.smoothing_length) == ("poly", 1, 3)


def test_regions_of_a_moved_aperture_stay_where_they_were_found() -> None:
    image = Scene(seed=3).nods()[0].image
    first = operator_for(image, background="auto", use_source_posn=True)
    moved = operator_for(image, background="auto", use_source_posn=True, position_offset=0.5)
    assert moved.place(image).background_offset != first.place(image).background_offset
    assert columns_of(first, image) == columns_of(moved, image)


def test_fixed_regions_stay_where_they_were_found() -> None:
    image = Scene(seed=3).nods()[0].image
    moved = operator_for(image, background="auto", use_source_posn=True)
    fixed = operator_for(image, background="auto", use_source_posn=True, fixed_background=True)
    assert columns_of(fixed, image) == columns_of(moved, image)


def test_negative_traces_are_avoided() -> None:
    nod = Scene(seed=3).nods()[0].image
    operator = operator_for(nod, background="auto")
    kinds = {finding.kind for finding in operator.check(nod)}
    assert "region_on_trace" not in kinds


def test_sky_without_a_source() -> None:
    image = Scene(seed=4).calints(5, factors=np.zeros(5)).image
    found = columns_of(operator_for(image, background="auto", xstart=30, xstop=41), image)
    assert found.isdisjoint(range(29, 43))
    assert min(found) < 30 < 41 < max(found)


def test_no_room(made: Any) -> None:
    operator = Extract1D.from_reference(None, made.image.exp_type, xstart=0, xstop=71)
    with pytest.raises(MeasurementError, match="no room for background regions beside the source"):
        place_background(made.image, operator)


def test_recorded_and_exported(made: Any, tmp_path: Path) -> None:
    path = tmp_path / "made_calints.fits"
    made.image.write(path)
    spectrum = glue_lrs.extract(path, background="auto")
    spectrum.write(tmp_path / "made_x1dints.fits", format="lrs-x1d")
    provenance = Extraction.read(tmp_path / "made_x1dints.fits").provenance
    assert provenance is not None
    assert len(provenance["parameters"]["reference"]["bkg_coeff"]) >= 4
    again = rerun(provenance)
    assert_allclose(again.to_spectrum().flux.value, spectrum.flux.value, rtol=1e-12)
    operator = operator_for(made.image, background="auto")
    reference = operator.to_reference(made.image)
    same = Extract1D.from_reference(reference, made.image.exp_type)
    assert same.background == operator.background
    assert reference.entry(made.image.exp_type)["bkg_fit"] == "median"


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"background": "best"}, "background is 'best', expected 'auto'"),
        ({"background": "auto", "bkg_coeff": [[1], [5]]}, "'auto' and bkg_coeff is given"),
        ({"background": "auto", "bkg_coeff": np.array([[1], [5]])}, "bkg_coeff is given"),
        ({"background": "auto", "subtract_background": False}, "subtract_background is false"),
    ],
)
def test_mistakes(keys: dict[str, Any], text: str, made: Any) -> None:
    with pytest.raises(ReferenceFileError, match=text):
        operator_for(made.image, **keys)


def test_measured_aperture() -> None:
    """The aperture of the default is beside the source that the header puts elsewhere."""
    scene = Scene(seed=5)
    image = scene.nods()[0].image
    wrong = replace(image, source_ra=None, source_dec=None)
    measured = operator_for(wrong, aperture="measured", background="auto", bkg_fit="poly")
    placed = operator_for(image, use_source_posn=True)
    width = measured.weights(wrong, measured.place(wrong)).values.sum(axis=1)
    assert_allclose(width, 8.0, atol=0.01)
    centre = [
        one.weights(image, one.place(image)).full(image.shape) @ np.arange(image.shape[1]) / 8.0
        for one in (measured, placed)
    ]
    inside = (centre[0] > 0) & (centre[1] > 0)
    assert np.abs(centre[0] - centre[1])[inside].max() < 0.2
    assert measured.background is not None
    for start in (20, 0):
        with pytest.raises(ReferenceFileError, match="'measured' and xstart is given"):
            operator_for(image, aperture="measured", xstart=start, xstop=30)


def test_an_operator_needs_the_image() -> None:
    with pytest.raises(ReferenceFileError, match="needs an image, as in"):
        Extract1D.from_reference(None, "MIR_LRS-SLITLESS", background="auto")


def test_command_line(made: Any, tmp_path: Path) -> None:
    path = tmp_path / "made_calints.fits"
    made.image.write(path)
    command = ["extract", str(path), "--output"]
    plain = CliRunner().invoke(main, [*command, str(tmp_path / "plain.fits")])
    assert "--set background=auto places regions beside the source" in plain.stderr
    automatic = [*command, str(tmp_path / "auto.fits"), "--set", "background=auto"]
    found = CliRunner().invoke(main, automatic)
    assert found.exit_code == 0
    assert "no background was subtracted" not in found.stderr
