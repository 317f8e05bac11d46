"""Background regions, method of extraction and aperture correction, as the panel sets them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from glue.core import DataCollection
from glue.core.session import Session
from glue.core.state import GlueSerializer, GlueUnSerializer

from glue_lrs import Background, LRSError
from glue_lrs.io.psf import write_psf
from glue_lrs.measurement import place_background
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.viewers import LiveExtraction, open_extraction
from tests.helpers.images import saved, slit, stack
from tests.helpers.live import assert_repeats, assert_shows, undo


def positions(live: LiveExtraction, kind: str) -> list[tuple[float, float]]:
    at = live.rows[11], live.row_wavelength[11]
    return [tuple(map(float, one.at(*at))) for one in live.regions if one.kind == kind]


# --- background ------------------------------------------------------------------------------


def test_background_regions_are_those_of_place_background(live: LiveExtraction) -> None:
    before, aperture = live.extract, live.regions[0]
    expected = place_background(live.image, live.extract)
    assert live.add_background()
    assert live.regions[0] == aperture
    offset = before.place(live.image).background_offset
    edges = [edge[0] + offset for edge in expected.bkg_coeff]
    found = [edge for pair in positions(live, "background") for edge in pair]
    np.testing.assert_allclose(found, edges, atol=0.011)
    assert live.background.bkg_fit == "median"
    (notice,) = live.notices
    assert notice.severity == "info"
    low, high = positions(live, "background")[0]
    assert f"columns {low:.1f} to {high:.1f}" in notice.text
    assert live.regions[live.selected].kind == "background"
    assert_shows(live, live.extract)
    undo(live)
    assert live.extract == before


def test_regions_are_clear_of_a_negative_trace(session: Session) -> None:
    image = slit()
    data = np.array(image.data)
    negative = data - 0.8 * np.roll(data - np.median(data), 12, axis=1)  # 12 columns to the right
    live = open_extraction(session, replace(image, data=negative.astype(np.float32)))
    assert live.add_background()
    sources = live.measure().measurement.sources
    assert {source.flux_ratio > 0 for source in sources} == {True, False}
    for source in sources:
        middle = source.trace[11]
        for low, high in positions(live, "background"):
            assert high < middle - 2 or low > middle + 2


def test_existing_regions_stay_and_are_not_covered(live: LiveExtraction) -> None:
    assert live.add_background()
    placed = positions(live, "background")
    kept = live.extract
    assert not live.add_background()  # nothing is left
    assert live.extract == kept
    assert live.notices[0].severity == "error"
    assert "have regions" in live.notices[0].text
    live.background = replace(live.background, bkg_fit="poly", bkg_order=1)
    if len(placed) > 1:
        live.delete_region(2)
        assert live.add_background()
        np.testing.assert_allclose(positions(live, "background"), placed, atol=0.02)
    assert live.background.bkg_order == 1  # the fit stays as well


def test_no_room_for_regions_is_a_notice(live: LiveExtraction) -> None:
    columns = live.image.shape[1]
    live.set([live.regions[0].with_edge("lower", -100).with_edge("upper", 0)])
    live.aperture = replace(live.aperture, xstart=1.0, xstop=columns - 2.0)
    before = live.extract
    assert not live.add_background()
    assert live.extract == before
    assert live.notices[0].text.startswith("no background region was added: ")


# --- the fitted background in the slit profile ----------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"bkg_fit": "median"},
        {"bkg_fit": "poly", "bkg_order": 0},
        {"bkg_fit": "poly", "bkg_order": 1},
        {"bkg_fit": "poly", "bkg_order": 1, "smoothing_length": 5},
    ],
)
def test_the_fitted_background_is_what_is_subtracted(live: LiveExtraction, options) -> None:
    assert live.fitted_background() is None
    live.background = Background.from_edges((20.0, 26.0), (30.0, 36.0), **options)
    live.rows_averaged = 1
    for row in (2, 11, 18):
        live.cursor_row = float(row)
        columns, level = live.fitted_background()
        ((low, high),) = positions(live, "aperture")
        weight = np.clip(np.minimum(columns + 0.5, high) - np.maximum(columns - 0.5, low), 0, 1)
        at = np.abs(live.extraction.wavelength - live.row_wavelength[row]).argmin()
        expected = live.extraction.columns["BACKGROUND"][at]
        np.testing.assert_allclose(np.average(level, weights=weight), expected, rtol=1e-5)
    live.set(replace(live.extract, subtract_background=False))
    assert live.fitted_background() is None


# --- method and correction -----------------------------------------------------------------------


def test_the_method_is_set_and_undone(live: LiveExtraction) -> None:
    before = live.extract
    assert live.actions.set_method("learned")
    assert live.extract.mode == "learned"
    assert_shows(live, live.extract)
    undo(live)
    assert live.extract == before
    with pytest.raises(LRSError, match="needs a PSF reference"):
        live.actions.set_method("psf")
    with pytest.raises(LRSError, match="method is 'best'"):
        live.actions.set_method("best")
    assert live.extract == before


def test_a_drag_of_an_optimal_extraction_waits_for_its_end(live: LiveExtraction) -> None:
    live.actions.set_method("learned")
    shown = live.extraction
    live.preview([live.regions[0].moved(0.5)])
    assert live.extraction is shown
    assert "when the drag ends" in live.message
    assert live.commit()
    assert live.extraction is not shown
    assert_shows(live, live.extract)
    live.preview([live.regions[0].moved(300)])  # off the image
    kept = live.extract
    assert not live.commit()
    assert live.extract == kept
    assert_shows(live, kept)


def test_the_size_of_the_correction_is_stated(live: LiveExtraction, apcorr: Path) -> None:
    assert live.correction_text() == "no correction: no APCORR reference"
    plain = live.extraction.columns["FLUX"]
    live.load_apcorr(apcorr)
    text = live.correction_text()
    assert text.startswith("flux × ")
    wave = live.extraction.wavelength
    factor = live.extraction.columns["FLUX"] / plain
    for at in (5, 12):
        near = np.abs(wave - at) < 0.1
        if near.any():
            assert f"× {np.median(factor[near]):.3f} at {at} µm" in text
    assert live.actions.set_correction("none")
    np.testing.assert_array_equal(live.extraction.columns["FLUX"], plain)
    assert live.correction_text() == "no correction: switched off"
    assert live.actions.set_correction("profile")
    assert live.extract.correction == "profile"
    assert live.correction_text().startswith("flux × ")
    live.set(replace(live.extract, source_type="EXTENDED"))
    assert live.correction_text() == "no correction: not a point source"


def test_a_psf_reference_is_kept_by_sessions_and_scripts(tmp_path: Path) -> None:
    path = saved(slit(), tmp_path / "nod1_s2d.fits")
    collection = DataCollection()
    live = open_extraction(collection, path)
    wave = np.linspace(4.0, 14.5, 12)
    offset = np.arange(-20.0, 20.25, 0.25)
    data = np.exp(-0.5 * (offset[np.newaxis] / 1.6) ** 2) * np.ones((12, 1))
    psf = PSFProfile(data=data, wave=wave, subpix=4.0, center=80.0, name="ANY")
    write_psf(psf, tmp_path / "psf.fits")
    live.actions.load_psf(tmp_path / "psf.fits")
    live.actions.set_method("psf")
    assert_shows(live, live.extract)
    assert_repeats(live)
    text = GlueSerializer(collection).dumps()
    other = GlueUnSerializer.loads(text).object("__main__")
    new = open_extraction(other, next(one for one in other if one.label == "nod1_s2d"))
    assert new.extract.mode == "psf"
    np.testing.assert_array_equal(new.extraction.columns["FLUX"], live.extraction.columns["FLUX"])
    (tmp_path / "psf.fits").unlink()
    last = GlueUnSerializer.loads(text).object("__main__")
    without = open_extraction(last, next(one for one in last if one.label == "nod1_s2d"))
    assert without.extract.mode == "learned"
    assert "a fitted profile replaces the PSF reference" in without.notices[0].text
    live.actions.load_psf(None)
    assert live.extract.mode == "learned"


# --- outliers along time -------------------------------------------------------------------------


def test_outliers_along_time_are_those_of_the_stack(session: Session, tmp_path: Path) -> None:
    """An integration and the median are extracted as in the stack, without a warning."""
    image = stack()
    data = np.array(image.data)
    data[2, 10, 34] += 500.0  # a cosmic ray in the aperture
    live = open_extraction(session, saved(replace(image, data=data), tmp_path / "tso_calints.fits"))
    live.integration = 2
    plain = live.extraction.columns["FLUX"].copy()
    assert live.actions.set_time_outliers("replace")
    assert "has no effect" not in live.message
    expected = live.run_all()
    numbers = []
    for number in range(5):
        live.integration = number
        (finding,) = (one for one in live.findings if one.kind == "time_outliers")
        numbers.append(finding.values["outliers"])
        for name in ("FLUX", "FLUX_ERROR", "QUALITY"):
            np.testing.assert_allclose(
                live.extraction.columns[name], expected.columns[name][number], rtol=1e-6
            )
    live.integration = 2
    assert np.abs(live.extraction.columns["FLUX"] - plain).max() > 0.01 * np.abs(plain).max()
    (finding,) = (one for one in expected.findings if one.kind == "time_outliers")
    assert sum(numbers) == finding.values["outliers"] > numbers[2] >= 1
    np.testing.assert_array_equal(live.shown.data, live.image.data[2])  # the image stays as it is
    assert_repeats(live)
    live.integration = None
    assert "has no effect" not in live.message
    assert_repeats(live)


def test_too_few_integrations_are_counted(session: Session) -> None:
    image = stack()
    short = replace(image, data=image.data[:3], err=None, dq=None, var_poisson=None,
                    var_rnoise=None, var_flat=None)  # fmt: skip
    live = open_extraction(session, short)
    live.actions.set_time_outliers("lost")
    assert "expected a stack of at least 5 integrations, found 3 integrations" in live.message
