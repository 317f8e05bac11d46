"""Measured apertures and residuals of live extractions."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from glue.core import DataCollection
from glue.core.component_id import PixelComponentID
from glue.core.session import Session
from glue.core.state import GlueSerializer, GlueUnSerializer

from glue_lrs import Aperture, Background, LRSError, SlitImage
from glue_lrs.errors import LRSWarning
from glue_lrs.extraction.factory import optimal_for
from glue_lrs.measurement.curve_of_growth import measure_with_growth
from glue_lrs.simulation.scene import Scene
from glue_lrs.viewers import LiveExtraction, live_for, open_extraction
from glue_lrs.viewers.datasets.images import is_lrs_image, not_an_image
from glue_lrs.viewers.live import actions, live_extraction
from glue_lrs.viewers.live.regions import Region
from glue_lrs.viewers.plugin import register
from tests.helpers.images import COLUMNS, ROWS, SOURCE, saved, slit, stack
from tests.helpers.live import assert_repeats, assert_shows

register()


@pytest.fixture
def stacked(session: Session, tmp_path: Path) -> LiveExtraction:
    """A stack in which the source has another position in each integration."""
    image = stack()
    data = np.array([np.roll(plane, n, axis=1) for n, plane in enumerate(image.data)])
    return open_extraction(session, saved(replace(image, data=data), tmp_path / "a_calints.fits"))


@pytest.fixture(scope="module")
def curved() -> SlitImage:
    """A cal with a curved trace."""
    return Scene().cal().image


def middle(live: LiveExtraction) -> Any:
    """Middle of the aperture in each row."""
    lower, upper = live.regions[0].at(live.rows, live.row_wavelength)
    return (lower + upper) / 2


def width(live: LiveExtraction) -> Any:
    lower, upper = live.regions[0].at(live.rows, live.row_wavelength)
    return upper - lower


def blank(**changes: Any) -> SlitImage:
    """An image without a source."""
    noise = np.random.default_rng(7).normal(0.0, 0.3, (ROWS, COLUMNS)).astype(np.float32)
    return slit(data=noise, **changes)


# --- measuring ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_image_that_is_shown_is_measured(live: LiveExtraction) -> None:
    assert live.measured is None
    seen: list[Any] = []
    live.add_callback("measured", seen.append)
    found = live.measure()
    assert seen == [found]
    measurement, curve, background = measure_with_growth(live.image)
    assert found.measurement.to_dict() == measurement.to_dict()
    assert found.curve.to_dict() == curve.to_dict()
    assert found.background == background
    assert found.measurement.column == pytest.approx(SOURCE, abs=0.02)
    start = time.perf_counter()
    assert live.measure() is found  # cached
    assert time.perf_counter() - start < 0.01


def test_the_summary_has_column_width_and_best_width(live: LiveExtraction) -> None:
    found = live.measure()
    wave = float(live.row_wavelength[20])
    fwhm = found.measurement.width(wave)[0] / found.measurement.pixel_scale
    assert fwhm == pytest.approx(1.5 * 2.355, rel=0.05)
    assert found.measurement.column_error == pytest.approx(0.0031, abs=5e-5)
    assert found.line(wave) == (
        f"column {found.measurement.column:.4f} ± 0.0031, "
        f"FWHM {fwhm:.2f} columns at {wave:.2f} µm, best width {found.curve.best:.1f}"
    )
    assert "FWHM" not in found.line(float("nan"))


@pytest.mark.slow
def test_each_integration_is_measured_separately(stacked: LiveExtraction) -> None:
    columns = {}
    for number in (0, 2, None):
        stacked.integration = number
        assert stacked.measured is None
        columns[number] = stacked.measure().measurement.column
    assert columns[0] == pytest.approx(35.4, abs=0.02)
    assert columns[2] == pytest.approx(37.4, abs=0.02)
    stacked.integration = 2
    assert stacked.measured is not None
    assert stacked.measured.measurement.column == columns[2]


@pytest.mark.slow
def test_changed_pixels_are_measured_again(live: LiveExtraction) -> None:
    first = live.measure()
    live.residual()
    flux = np.roll(live.data["flux"], 3, axis=1)
    live.data.update_components({live.data.id["flux"]: flux})
    assert live.measured is None
    assert not live.residual_shown
    column = live.measure().measurement.column
    assert column == pytest.approx(first.measurement.column + 3, abs=1e-3)


def test_a_failed_measurement_is_one_line(session: Session) -> None:
    live = open_extraction(session, blank())
    before = live.extract
    with pytest.raises(LRSError, match="source") as caught:
        live.measure()
    assert "\n" not in str(caught.value)
    assert not live.three_fwhm()
    assert live.notices[0].text.startswith("the aperture stays as it is: ")
    assert not live.best_width()
    assert "\n" not in live.notices[0].text
    assert [(one.severity, one.count) for one in live.notices] == [("error", 2)]
    assert live.extract == before
    assert live.measured is None


# --- to the source ---------------------------------------------------------------------------


def test_the_aperture_goes_to_the_measured_source(live: LiveExtraction) -> None:
    live.set([live.regions[0].moved(8).with_edge("upper", -2)])
    live.add_region("background", 30.0, 36.0)
    before = live.extract
    background = live.regions[1]
    assert live.to_source()
    column = live.measure().measurement.column
    np.testing.assert_allclose(middle(live), column, atol=0.0051)
    np.testing.assert_allclose(width(live), 6.0, atol=1e-9)
    assert live.regions[1] == background
    assert live.extract.use_source_posn is False
    assert live.extract.position_offset == 0.0
    assert live.message == ""
    assert live.notices == ()
    assert_shows(live, live.extract)
    live.session.command_stack.undo()
    assert_shows(live, before)


def test_the_measured_position_has_precedence_over_the_header(session: Session) -> None:
    """The source is 3 columns from the header's position, and a message says so."""
    image = slit()
    live = open_extraction(session, replace(image, data=np.roll(image.data, 3, axis=1)))
    assert live.to_source()
    np.testing.assert_allclose(middle(live), SOURCE + 3, atol=0.02)
    notice = live.notices[0].text
    assert notice.startswith("the source is +3.00 columns (+0.330 arcsec) from the header position")
    assert notice.endswith("(column 12.30)")
    kept = live.extract
    assert not live.to_source()  # it is already there
    assert live.extract == kept
    assert [(one.text, one.count) for one in live.notices] == [(notice, 2)]


def test_without_a_source_the_position_of_the_header_is_used(session: Session) -> None:
    live = open_extraction(session, blank())
    live.set([live.regions[0].moved(5)])
    assert live.to_source()
    np.testing.assert_allclose(middle(live), SOURCE, atol=0.0051)
    notice = live.notices[0].text
    assert notice.startswith("the source could not be measured, the header's position is")
    assert "\n" not in notice


def test_without_any_position_a_message_gives_the_reasons(session: Session) -> None:
    live = open_extraction(session, blank(source_ra=None))
    before = live.extract
    assert not live.to_source()
    assert live.notices[0].text.startswith("the aperture stays where it is: ")
    assert "the header has no DITH_RA and DITH_DEC" in live.notices[0].text
    assert live.extract == before


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["pixel", "wavelength"])
@pytest.mark.parametrize("tapered", [False, True])
def test_the_middle_follows_a_curved_trace(session, curved, variable, tapered) -> None:
    live = open_extraction(session, curved)
    left = live.image.bounding_box[0][0] + 12.0
    region = Region("aperture", (left,), (left + 7.0,), variable)
    if tapered:
        region = region.tapered("top", 1.5, live.rows, live.row_wavelength)
    assert live.set([region])
    before = width(live)
    assert live.to_source()
    trace = live.measure().measurement.trace
    known = np.isfinite(trace) & np.isfinite(live.row_wavelength)
    assert np.ptp(trace[known]) > 0.3
    np.testing.assert_allclose(middle(live)[known], trace[known], atol=0.004)
    np.testing.assert_allclose(width(live)[known], before[known], atol=1e-6)


def test_several_regions_move_together(live: LiveExtraction) -> None:
    assert live.set([Region("aperture", (20.0,), (22.0,)), Region("aperture", (24.0,), (27.0,))])
    assert live.to_source()
    first, second = live.regions
    assert second.lower[0] - first.lower[0] == pytest.approx(4.0)
    assert (first.lower[0] + second.upper[0]) / 2 == pytest.approx(SOURCE, abs=0.02)


# --- 3 x FWHM, best S/N ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["s2d", "calints", "cal"])
@pytest.mark.parametrize("which", ["three_fwhm", "best_width"])
def test_apertures_are_those_of_the_measurement(live, stacked, session, curved, kind, which):
    live = {"s2d": live, "calints": stacked}.get(kind) or open_extraction(session, curved)
    live.set(replace(live.extract, position_offset=1.5))
    left = live.image.bounding_box[0][0] + 2.0
    assert live.add_region("background", left, left + 3.0)
    before, background = live.extract, live.regions[1]
    assert getattr(live, which)()
    measurement, curve = live.measure().measurement, live.measure().curve
    expected = measurement.tapered(3.0) if which == "three_fwhm" else measurement.box(curve.best)
    assert live.aperture == expected
    assert live.extract.use_source_posn is False
    assert live.extract.position_offset == 0.0
    assert (live.regions[1].lower, live.regions[1].upper) == (background.lower, background.upper)
    known = np.isfinite(measurement.trace) & np.isfinite(live.row_wavelength)
    np.testing.assert_allclose(middle(live)[known], measurement.trace[known], atol=0.02)
    assert_shows(live, live.extract)
    command = live.session.command_stack._command_stack[-1]
    assert (
        command.label
        == {
            "three_fwhm": "make the aperture 3 × FWHM",
            "best_width": "make the aperture that of best S/N",
        }[which]
    )
    live.session.command_stack.undo()
    assert_shows(live, before)
    live.session.command_stack.redo()
    assert live.aperture == expected


@pytest.mark.slow
def test_the_width_is_n_times_the_fwhm(live: LiveExtraction) -> None:
    assert live.three_fwhm(2.0)
    fwhm = live.measure().measurement.width(live.row_wavelength)[0] / 0.11
    inner = (live.row_wavelength > 5) & (live.row_wavelength < 13)
    np.testing.assert_allclose(width(live)[inner], 2 * fwhm[inner], rtol=0.04)
    assert not live.three_fwhm(2.0)  # no change
    assert not live.three_fwhm(-1.0)
    assert "n is -1.0, expected a number greater than 0" in live.notices[0].text


@pytest.mark.slow
def test_the_rows_of_the_aperture_are_kept(live: LiveExtraction) -> None:
    live.aperture = Aperture(xstart=20, xstop=27, ystart=4, ystop=30)
    for which in ("best_width", "three_fwhm", "to_source"):
        assert getattr(live, which)() or which == "to_source"
        assert (live.aperture.ystart, live.aperture.ystop) == (4, 30)
        assert live.extraction.wavelength.size == 27


@pytest.mark.slow
def test_a_measured_aperture_replaces_a_default_that_fails(session: Session) -> None:
    """The header's position is outside the image."""
    image = slit()
    ra, dec, _ = image.wcs(-40.0, ROWS / 2)
    live = open_extraction(session, replace(image, source_ra=float(ra), source_dec=float(dec)))
    assert live.best_width()
    assert live.extraction is not None
    np.testing.assert_allclose(middle(live), SOURCE, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["to_source", "three_fwhm", "best_width"])
def test_python_contains_the_measured_values(live: LiveExtraction, which: str) -> None:
    live.set([live.regions[0].moved(2), Region("background", (30.0,), (36.0,))])
    assert getattr(live, which)()
    live.residual()
    assert_repeats(live)
    assert "measure" not in live.python()


# --- residual ----------------------------------------------------------------------------------


def with_cosmic_ray() -> SlitImage:
    """A slit image with a cosmic ray that is not flagged."""
    image = slit()
    data = np.array(image.data)
    data[11, 14] += 60.0
    return replace(image, data=data)


def test_the_residual_is_data_minus_model(session: Session) -> None:
    live = open_extraction(session, with_cosmic_ray())
    live.three_fwhm()
    before = live.extract
    data = live.residual()
    assert data is live.residual_data
    assert data in session.data_collection
    assert data.label == f"{live.data.label} residual"
    assert [cid.label for cid in data.main_components] == ["residual", "sigma", "rejected"]
    assert data.get_component("residual").units == "MJy/sr"
    result = optimal_for(live.extract, live.shown).fit(live.shown)
    np.testing.assert_allclose(data["residual"], result.residual(), rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(data["sigma"], result.normalised_residual(), rtol=1e-5, atol=1e-5)
    assert np.nanstd(data["residual"][:11]) == pytest.approx(0.5, rel=0.15)  # the noise
    assert np.argwhere(data["rejected"]).tolist() == [[11, 14]]
    assert any(one.text.startswith("1 pixel was rejected") for one in live.notices)
    assert live.residual_shown
    limit = live.residual_limit
    assert limit == pytest.approx(np.percentile(np.abs(data["residual"]), 99), rel=1e-5)
    assert live.extract == before
    assert_shows(live, before)
    assert not is_lrs_image(data)
    assert not_an_image(data).endswith(
        "residual: is the residual of an LRS image, expected the image"
    )
    assert open_extraction(session, data) is live


def test_the_residual_is_linked_by_row_and_column(live: LiveExtraction, session: Session) -> None:
    data = live.residual()
    number = len(session.data_collection.external_links)
    for mine, its in zip(live.data.pixel_component_ids, data.pixel_component_ids, strict=True):
        assert isinstance(mine, PixelComponentID)
        np.testing.assert_array_equal(live.data[its], live.data[mine])
    live.select(6.0, 7.0)  # selects rows of the residual, too
    (subset,) = data.subsets
    rows = np.flatnonzero(subset.to_mask().all(axis=1))
    wave = live.row_wavelength[rows]
    assert rows.size > 2
    assert ((wave >= 6.0) & (wave <= 7.0)).all()
    live.residual()
    assert len(session.data_collection.external_links) == number
    assert sum(one.label.endswith("residual") for one in session.data_collection) == 1


def test_edits_do_not_update_the_residual(
    live: LiveExtraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Previews and commits neither fit nor measure."""
    data = live.residual()
    live.measure()
    kept = data["residual"].copy()
    for module, name in ((actions, "fit_residual"), (live_extraction, "measure_with_growth")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("not requested"))
    live.preview([live.regions[0].moved(1)])
    live.preview([live.regions[0].moved(2)])
    assert live.commit()
    live.add_region("background", 30.0, 36.0)
    live.session.command_stack.undo()
    assert live.residual_shown
    np.testing.assert_array_equal(data["residual"], kept)


def test_the_residual_is_updated_on_request(session: Session) -> None:
    """It uses the current aperture and the current order of the background."""
    image = slit()
    gradient = np.linspace(0.0, 40.0, COLUMNS)
    live = open_extraction(session, replace(image, data=(image.data + gradient).astype(np.float32)))
    data = live.residual()
    first = np.nanstd(data["residual"])
    live.set([Region("aperture", (8.0,), (17.0,)), Region("background", (24.0,), (40.0,))])
    live.background = replace(live.background, bkg_order=1)
    np.testing.assert_allclose(np.nanstd(data["residual"]), first)
    assert live.residual() is data
    expected = optimal_for(live.extract, live.shown).fit(live.shown).residual()
    np.testing.assert_allclose(data["residual"], expected, rtol=1e-6, atol=1e-4)
    assert np.nanstd(data["residual"]) < 0.2 * first


def test_a_residual_that_fails_is_one_line_and_changes_nothing(live: LiveExtraction) -> None:
    data = live.residual()
    kept = data["residual"].copy()
    live.data.update_components({live.data.id["flux"]: np.full((ROWS, COLUMNS), np.nan)})
    with pytest.raises(LRSError) as caught:
        live.residual()
    assert "\n" not in str(caught.value)
    assert not live.residual_shown
    np.testing.assert_array_equal(data["residual"], kept)


@pytest.mark.slow
@pytest.mark.parametrize("integration", [0, 2, None])
def test_the_residual_of_a_stack_is_that_of_the_image_shown(stacked, integration) -> None:
    stacked.integration = integration
    stacked.to_source()
    data = stacked.residual()
    assert data.shape == (ROWS, COLUMNS)
    assert data.get_component("residual").units == "DN / s".replace(" ", "")
    assert u.Unit(data.get_component("residual").units) == u.DN / u.s
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)  # the source is broader than the PSF of LRS
        expected = optimal_for(stacked.extract, stacked.shown).fit(stacked.shown).residual()
    np.testing.assert_allclose(data["residual"], expected, rtol=1e-6, atol=1e-4)
    stacked.integration = 1
    assert not stacked.residual_shown  # it belongs to another integration
    assert stacked.residual() is data
    assert stacked.residual_shown


def test_a_removed_residual_is_hidden_and_can_be_made_again(
    live: LiveExtraction, session: Session
) -> None:
    data = live.residual()
    session.data_collection.remove(data)
    assert not live.residual_shown
    assert live.residual_data is None
    assert not live.closed
    again = live.residual()
    assert again is not data
    assert again in session.data_collection
    live.hide_residual()
    assert again in session.data_collection  # other viewers may show it


def test_the_residual_outlives_its_image(live: LiveExtraction, session: Session) -> None:
    data = live.residual()
    session.data_collection.remove(live.data)
    assert live.closed
    assert not live.residual_shown
    assert data in session.data_collection
    assert np.isfinite(data["residual"]).any()
    session.data_collection.append(live.data)
    again = open_extraction(session, live.data)
    assert again.residual_data is data
    assert again.residual() is data


def test_two_files_have_separate_residuals(live: LiveExtraction, session, tmp_path) -> None:
    other = open_extraction(session, saved(with_cosmic_ray(), tmp_path / "nod2_s2d.fits"))
    mine, its = live.residual(), other.residual()
    assert mine is not its
    assert not mine["rejected"].any()
    assert its["rejected"].sum() == 1
    other.hide_residual()
    assert live.residual_shown
    session.data_collection.remove(other.data)
    assert live.residual_shown
    assert live.residual() is mine


# --- sessions ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["s2d", "calints"])
@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("include_data", [True, False])
def test_a_session_restores_the_residual(
    tmp_path: Path, kind: str, shown: bool, include_data: bool
):
    collection = DataCollection()
    image = with_cosmic_ray() if kind == "s2d" else stack()
    old = open_extraction(collection, saved(image, tmp_path / f"scene_{kind}.fits"))
    old.set([Region("aperture", (8.0,), (17.0,)), Region("background", (26.0,), (30.0,))])
    if kind == "calints":
        old.integration = 3
    old.three_fwhm()
    old.residual()
    if not shown:
        old.hide_residual()
    text = GlueSerializer(collection, include_data=include_data).dumps()
    other = GlueUnSerializer.loads(text).object("__main__")
    assert [data.label for data in other] == [data.label for data in collection]
    image = next(data for data in other if data.label == old.data.label)
    new = open_extraction(other, image)
    assert live_for(other, image) is new
    assert len(other) == len(collection)
    assert new.extract == old.extract
    assert_shows(new, new.extract)
    assert new.residual_shown is shown
    assert new.residual_limit == old.residual_limit
    assert new.residual_data in other
    for name in ("residual", "sigma", "rejected"):
        np.testing.assert_array_equal(new.residual_data[name], old.residual_data[name])
    assert (
        new.residual_data.get_component("residual").units
        == old.residual_data.get_component("residual").units
    )
    kept, number = new.residual_data, len(other.external_links)
    assert new.residual() is kept  # the same dataset, without further links
    assert len(other.external_links) == number
    assert new.measure().measurement.column == old.measure().measurement.column
    assert new.background == Background(
        bkg_coeff=((26.0,), (30.0,)), independent_var=new.background.independent_var
    )
