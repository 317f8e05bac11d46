"""LiveExtraction: what hands set is what `Extract1D` extracts, without any toolkit."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from glue.core import Data, DataCollection
from glue.core.application_base import Application
from glue.core.edit_subset_mode import AndMode, AndNotMode, NewMode, OrMode, ReplaceMode, XorMode
from glue.core.roi import PolygonalROI, RectangularROI
from glue.core.session import Session
from glue.core.subset import MaskSubsetState, RangeSubsetState, RoiSubsetState, SubsetState

from glue_lrs import (
    Aperture,
    ApertureCorrection,
    Background,
    Extract1D,
    Extraction,
    LRSError,
    Reference,
    SlitImage,
)
from glue_lrs.errors import WriteError
from glue_lrs.io.apcorr import write_apcorr
from glue_lrs.spectra.columns import COLUMNS
from glue_lrs.viewers import LiveExtraction, live_for, open_extraction
from glue_lrs.viewers.live import cross_dispersion_profile as cut
from glue_lrs.viewers.live import live_extraction as live_module
from glue_lrs.viewers.live.regions import Region
from tests.helpers import pipeline
from tests.helpers.cases import make_wcs
from tests.helpers.images import SOURCE, correction, saved, slit, stack


@pytest.fixture
def session() -> Session:
    return Session()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return saved(slit(), tmp_path / "nod1_s2d.fits")


@pytest.fixture
def live(session: Session, path: Path) -> LiveExtraction:
    return open_extraction(session, path)


@pytest.fixture
def stacked(session: Session, tmp_path: Path) -> LiveExtraction:
    return open_extraction(session, saved(stack(), tmp_path / "tso_calints.fits"))


@pytest.fixture
def apcorr(tmp_path: Path) -> Path:
    write_apcorr(correction(), tmp_path / "apcorr.fits")
    return tmp_path / "apcorr.fits"


def assert_same(one: Extraction | None, other: Extraction) -> None:
    """Every column is the same, bit for bit."""
    assert one is not None
    for name in COLUMNS:
        np.testing.assert_array_equal(one.columns[name], other.columns[name], err_msg=name)


def assert_shows(live: LiveExtraction, operator: Extract1D) -> None:
    """The operator is committed, and extracted, drawn and stored is what it gives."""
    assert live.extract == operator
    assert live.operator == operator
    expected = operator.run(live.shown)
    assert_same(live.extraction, expected)
    order = np.argsort(expected.wavelength)
    data = live.spectrum_data
    row = data["row"].astype(int)
    assert (np.diff(data["wavelength"]) > 0).all()
    if expected.wavelength.size == row.size:
        for name, column in (("flux", "FLUX"), ("uncertainty", "FLUX_ERROR")):
            np.testing.assert_array_equal(data[name], expected.columns[column][order])
        np.testing.assert_allclose(data["wavelength"], live.row_wavelength[row], rtol=1e-6)
    spectrum = live.spectrum
    good = ~expected.mask[order]
    np.testing.assert_array_equal(spectrum.flux.value[good], expected.columns["FLUX"][order][good])


def undo(live: LiveExtraction) -> None:
    live.session.command_stack.undo()


def redo(live: LiveExtraction) -> None:
    live.session.command_stack.redo()


# --- opening ---------------------------------------------------------------------------------


class App:
    """What is common to glue's applications."""

    def __init__(self) -> None:
        self.session = Session(application=self)
        self.data_collection = self.session.data_collection


@pytest.mark.parametrize("make", [App, Session, DataCollection, Application])
def test_opens_in_whatever_glue_has(make: Callable[[], Any], path: Path) -> None:
    where = make()
    live = open_extraction(where, path)
    collection = getattr(where, "data_collection", where)
    assert list(collection) == [live.data, live.spectrum_data]
    assert live.session.data_collection is collection
    assert open_extraction(where, live.data) is live
    assert open_extraction(live.session, str(path)) is live
    assert live_for(where, live.spectrum_data) is live
    assert open_extraction(where, live.spectrum_data) is live
    if make is not DataCollection:
        assert live.session is getattr(where, "session", where)


def test_opens_what_an_image_can_be(session: Session, path: Path) -> None:
    from glue_lrs.viewers.datasets.datasets import image_data

    image = SlitImage.read(path)
    of_image = open_extraction(session, image)
    assert of_image.image is image
    assert open_extraction(session, image) is of_image
    data = image_data(slit(), label="mine")
    of_data = open_extraction(session, data)
    assert of_data.data is data
    assert data in session.data_collection
    assert of_data is not of_image
    assert live_for(session, data.uuid) is of_data


def test_the_default_is_extracted_where_the_source_is(live: LiveExtraction) -> None:
    expected = Extract1D.from_reference(None, live.image.exp_type, apply_apcorr=False)
    assert_shows(live, replace(expected, apply_apcorr=True))
    (region,) = live.regions
    assert (region.lower[0] + region.upper[0]) / 2 == pytest.approx(SOURCE, abs=0.01)
    assert region.upper[0] - region.lower[0] == pytest.approx(8)
    assert live.spectrum.flux.unit == u.Jy
    assert live.message == ""
    assert live.spectrum_data.label == "nod1_s2d spectrum"


def test_nothing_of_a_toolkit_is_imported(path: Path) -> None:
    code = (
        "import sys; from glue.core import DataCollection\n"
        "before = set(sys.modules)  # glue loads a part of glue_qt where that is installed\n"
        "import glue_lrs.viewers; assert 'glue_lrs.viewers.live.live_extraction' not in sys.modules\n"
        "from glue_lrs.viewers import open_extraction\n"
        f"live = open_extraction(DataCollection(), {str(path)!r})\n"
        "live.preview([live.regions[0].moved(1)]); assert live.commit()\n"
        "bad = {'qtpy', 'PyQt6', 'PySide6', 'ipywidgets', 'glue_qt', 'glue_jupyter', 'jwst'}\n"
        "bad &= {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "assert not bad, bad\n"
    )
    ours = ["-W", "error::UserWarning", "-W", "ignore::DeprecationWarning"]
    subprocess.run([sys.executable, *ours, "-c", code], check=True, cwd=Path.cwd())


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("gone_s2d.fits", "gone_s2d.fits: does not exist"),
        (12, "data is a int, expected a Data, a SlitImage or the path"),
        (Data(label="table", x=[1, 2]), "table: is no LRS image"),
    ],
)
def test_what_cannot_be_opened_is_told_in_a_line(session, source, text) -> None:
    with pytest.raises(LRSError, match=text) as caught:
        open_extraction(session, source)
    assert "\n" not in str(caught.value)
    assert len(session.data_collection) == 0


def test_a_place_without_data_is_told() -> None:
    with pytest.raises(LRSError, match="int has no data collection, expected a glue application"):
        open_extraction(3, slit())


def test_an_image_whose_default_fails_opens_and_can_be_mended(session: Session) -> None:
    image = slit()
    data = np.array(image.data)
    data[:, 20:] = np.nan
    live = open_extraction(session, replace(image, data=data, source_ra=None))
    assert live.extraction is None
    assert "every pixel of the aperture is NaN" in live.message
    assert np.isnan(live.spectrum_data["flux"]).all()
    assert live.set([Region("aperture", (8.0,), (16.0,))])
    assert live.extraction is not None
    assert np.isfinite(live.spectrum_data["flux"]).all()


# --- edits -----------------------------------------------------------------------------------


def ends(live: LiveExtraction) -> tuple[np.ndarray, np.ndarray]:
    return live.rows, live.row_wavelength


def absolute(live: LiveExtraction, **changes: Any) -> Extract1D:
    """What the committed operator becomes when its regions are drawn elsewhere."""
    fixed = {"use_source_posn": False, "reference_source_posn": None, "position_offset": 0.0}
    return replace(live.extract, **fixed | changes)


def test_a_moved_body(live: LiveExtraction) -> None:
    expected = absolute(live, aperture=Aperture(xstart=10.55, xstop=17.55))
    (region,) = live.regions
    assert live.set([region.moved(10.05 - region.lower[0])], "move the aperture")
    assert_shows(live, expected)
    assert live.session.command_stack.undo_label == "move the aperture"


def test_a_moved_edge(live: LiveExtraction) -> None:
    (region,) = live.regions
    made = region.with_edge("upper", 15.123 - region.upper[0])
    start = round(region.lower[0] + 0.5, 2)
    expected = absolute(live, aperture=Aperture(xstart=start, xstop=14.62))
    live.preview([made])
    assert live.commit()
    assert_shows(live, expected)


def test_a_tilted_edge(live: LiveExtraction) -> None:
    (region,) = live.regions
    made = region.with_end("upper", "top", region.upper[0] + 3, *ends(live))
    assert live.set([made])
    assert_shows(
        live,
        absolute(
            live,
            aperture=Aperture(src_coeff=(made.lower, made.upper), independent_var="wavelength"),
        ),
    )
    assert len(live.extract.aperture.src_coeff[1]) == 2
    # At the last row the edge is 3 pixels further out; at the first where it was.
    _, upper = live.regions[0].at(*ends(live))
    assert upper[-1] == pytest.approx(region.upper[0] + 3)
    assert upper[0] == pytest.approx(region.upper[0])


def test_a_taper(live: LiveExtraction) -> None:
    made = live.regions[0].tapered("bottom", 2.0, *ends(live))
    assert live.set([made])
    assert_shows(
        live,
        absolute(
            live,
            aperture=Aperture(src_coeff=(made.lower, made.upper), independent_var="wavelength"),
        ),
    )


def test_background_regions_are_added_moved_and_deleted(live: LiveExtraction) -> None:
    (region,) = live.regions
    limits = Aperture(
        xstart=region.lower[0] + 0.5, xstop=region.upper[0] - 0.5
    )  # the aperture, untouched, stays to the last digit
    assert live.add_region("background", 24.504, 31.0)
    first = ((24.5,), (31.0,))
    assert_shows(live, absolute(live, aperture=limits, background=Background(bkg_coeff=first)))

    assert live.set([*live.regions, Region("background", (34.0,), (40.0,))], "add")
    both = (*first, (34.0,), (40.0,))
    assert_shows(live, absolute(live, aperture=limits, background=Background(bkg_coeff=both)))

    regions = list(live.regions)
    regions[1] = regions[1].moved(0.5)
    assert live.set(regions, "move")
    moved = ((25.0,), (31.5,), *both[2:])
    assert_shows(live, absolute(live, aperture=limits, background=Background(bkg_coeff=moved)))

    regions[2] = regions[2].with_end("lower", "top", 35.5, *ends(live))
    assert live.set(regions, "tilt")
    tilted = Background(
        bkg_coeff=(*moved[:2], regions[2].lower, (40.0,)), independent_var="wavelength"
    )
    assert_shows(live, absolute(live, aperture=limits, background=tilted))

    assert live.delete_region(2)
    assert live.extract.background == Background(bkg_coeff=moved[:2])
    assert live.delete_region(1)
    assert_shows(live, absolute(live, aperture=limits, background=None))
    for _ in range(6):
        undo(live)
    assert live.extract.background is None
    assert live.extract.use_source_posn is None


def test_the_fit_of_deleted_regions_is_that_of_new_ones(live: LiveExtraction) -> None:
    fit = Background(bkg_coeff=((1.0,), (5.0,)), bkg_fit="median", smoothing_length=5)
    live.set([live.regions[0].moved(1)])
    live.background = fit
    assert live.delete_region(1)
    assert live.background is None
    assert live.add_region("background", 2, 6)
    assert live.background == replace(fit, bkg_coeff=((2.0,), (6.0,)))


def test_who_draws_a_background_wants_it_subtracted(live: LiveExtraction) -> None:
    assert live.set(replace(live.extract, subtract_background=False))
    assert live.add_region("background", 2, 6)
    assert live.extract.subtract_background is None
    assert (live.extraction.columns["BACKGROUND"] != 0).all()


def test_wavelength_polynomials_go_in_and_out(live: LiveExtraction) -> None:
    aperture = Aperture(src_coeff=((9.0, -0.1, 0.003), (17.0, 0.1)), independent_var="wavelength")
    live.aperture = aperture
    operator = live.extract
    assert_shows(live, operator)
    region = live.regions[0].moved(1.5)
    assert live.set([region])
    offset = Placed(operator, live).offset
    assert live.extract.aperture.src_coeff == (
        (9.0 + offset + 1.5, -0.1, 0.003),
        (17.0 + offset + 1.5, 0.1),
    )


class Placed:
    def __init__(self, operator: Extract1D, live: LiveExtraction) -> None:
        self.offset = operator.place(live.image).offset


def test_an_extraction_along_the_trace_is_edited(session: Session, tmp_path: Path) -> None:
    box = ((2.5, 42.5), (3.5, 35.5))
    wavelength = 14.0 - 9.0 * (np.arange(40) / 40) ** 1.5
    wcs = make_wcs(40, 46, wavelength, 3.0, box)
    x, y = np.meshgrid(np.arange(46.0), np.arange(40.0))
    plane = np.asarray(wcs(x, y)[2], dtype=np.float32)
    ra, dec, _ = wcs(SOURCE, 20)
    image = slit(
        kind="cal", wcs_source=wcs, wavelength=plane, source_ra=float(ra), source_dec=float(dec)
    )
    live = open_extraction(session, image)
    followed = Extract1D(aperture=Aperture(extract_width=7.0), use_source_posn=True)
    assert live.set(followed)
    assert_shows(live, followed)
    (region,) = live.regions
    trace = followed.place(image).trace
    known = np.isfinite(trace)
    assert np.ptp(trace[known]) > 1.5
    lower, upper = region.at(live.rows[known], np.nan)
    np.testing.assert_allclose((lower + upper) / 2, trace[known], atol=0.01)
    assert live.set([region.moved(1.0)])
    assert live.extract.aperture.independent_var == "pixel"
    np.testing.assert_allclose(live.regions[0].at(live.rows[known], np.nan)[0], lower + 1.0)
    assert_shows(live, live.extract)
    undo(live)
    assert_shows(live, followed)


def test_regions_start_from_the_press_so_that_rounding_does_not_add_up(live) -> None:
    (region,) = live.regions
    for step in range(1, 1001):
        live.preview([region.moved(0.004 * step)])
    (after,) = live.regions
    assert after.lower[0] == pytest.approx(region.lower[0] + 4.0, abs=0.0051)


# --- preview, commit, cancel, undo ------------------------------------------------------------


def test_a_preview_is_shown_and_not_kept(live: LiveExtraction) -> None:
    before, (region,) = live.extract, live.regions
    flux = live.spectrum_data["flux"].copy()
    live.preview([region.moved(3)])
    assert live.operator != before
    assert live.extract == before
    assert_same(live.extraction, live.operator.run(live.image))
    assert live.regions[0].lower[0] == pytest.approx(region.lower[0] + 3, abs=0.01)
    np.testing.assert_array_equal(live.spectrum.flux, before(live.image).flux)
    np.testing.assert_array_equal(live.spectrum_data["flux"], flux)
    live.cancel()
    assert_shows(live, before)
    assert not live.session.command_stack.can_undo_redo()[0]


def test_undo_and_redo(live: LiveExtraction) -> None:
    operators = [live.extract]
    for dx in (1.0, 2.5, -1.0):
        assert live.set([live.regions[0].moved(dx)])
        operators.append(live.extract)
    for operator in operators[-2::-1]:
        undo(live)
        assert_shows(live, operator)
    for operator in operators[1:]:
        redo(live)
        assert_shows(live, operator)


def test_steps_of_a_kind_are_one_command(
    live: LiveExtraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by an arrow key that is held: undo goes back to before the first step."""
    now = [100.0]
    monkeypatch.setattr(live_module, "monotonic", lambda: now[0])
    first, start = live.extract, live.regions[0]

    def step(number: float, kind: object = "nudge", after: float = 0.1) -> bool:
        now[0] += after
        return live.set([start.moved(number)], "move the aperture", step=kind)

    number = len(live.session.command_stack._command_stack)
    for count in range(1, 31):
        assert step(0.1 * count)
    assert len(live.session.command_stack._command_stack) == number + 1
    last = live.extract
    assert live.regions[0].lower[0] == pytest.approx(start.lower[0] + 3, abs=0.006)
    assert_shows(live, last)
    undo(live)
    assert live.extract == first
    redo(live)
    assert live.extract == last
    # Each of these begins another command.
    for kind, after in (("nudge", 0.1), ("nudge", 1.1), ("other", 0.1), (None, 0.1), (None, 0.1)):
        before = live.extract
        assert step(live.regions[0].lower[0] - start.lower[0] + 0.5, kind, after)
        undo(live)
        assert live.extract == before
        redo(live)
    assert step(9.0)
    live.select(6.0, 8.0)  # another edit, of the same stack
    moved = live.extract
    assert step(9.5)
    undo(live)
    assert live.extract == moved
    assert live.wavelength_range == (6.0, 8.0)


def test_undo_ends_a_drag(live: LiveExtraction) -> None:
    first = live.extract
    assert live.set([live.regions[0].moved(1)])
    live.preview([live.regions[0].moved(1)])
    undo(live)
    assert_shows(live, first)
    assert not live.commit()


def test_what_has_not_changed_is_no_command(live: LiveExtraction) -> None:
    live.preview(live.regions)
    assert live.operator is live.extract
    assert not live.commit()
    live.preview([live.regions[0].moved(1)])
    live.preview([live.regions[0].moved(-1)])
    live.cancel()
    assert not live.commit()
    assert not live.session.command_stack.can_undo_redo()[0]


def test_listeners_see_all_that_is_new(live: LiveExtraction) -> None:
    seen = []

    def look(_: Any) -> None:
        seen.append((live.operator, live.extraction, live.message, live.extract))

    for name in ("operator", "extraction", "message"):
        live.add_callback(name, look)
    live.preview([live.regions[0].moved(200)])
    assert seen
    assert all(one == seen[0] for one in seen)
    operator, extraction, message, committed = seen[0]
    assert operator is live.operator
    assert extraction is None
    assert "has no pixel on the image" in message
    assert committed is live.extract


# --- what goes wrong --------------------------------------------------------------------------


@pytest.mark.parametrize("dx", [-300, 300, 1e9])
def test_an_aperture_off_the_image_is_a_message_and_comes_back(live, dx) -> None:
    before = live.extract
    live.preview([live.regions[0].moved(dx)])
    assert live.extraction is None
    assert "has no pixel on the image" in live.message
    assert "\n" not in live.message
    assert not live.commit()
    assert_shows(live, before)
    assert live.message.startswith("not kept: ")


def test_an_edge_across_the_other_stops(live: LiveExtraction) -> None:
    (region,) = live.regions
    live.preview([region.with_edge("lower", 100)])
    assert live.extraction is not None
    assert live.operator.aperture.xstop - live.operator.aperture.xstart == pytest.approx(0)
    assert live.commit()


def test_regions_that_cross_are_a_message(live: LiveExtraction) -> None:
    before = live.extract
    live.preview([Region("aperture", (15.0,), (12.0,))])
    assert live.extraction is None
    assert "expected at least xstart" in live.message
    assert not live.commit()
    assert_shows(live, before)


def test_all_nan_columns_are_a_message(session: Session) -> None:
    image = slit()
    data = np.array(image.data)
    data[:, 20:32] = np.nan
    live = open_extraction(session, replace(image, data=data))
    live.preview([Region("aperture", (21.0,), (29.0,))])
    assert live.extraction is None
    assert "every pixel of the aperture is NaN" in live.message
    live.preview([Region("aperture", (17.0,), (25.0,))])
    assert live.extraction is not None
    assert "bad pixels took part of the aperture" in live.message
    assert live.numbers().most_lost == pytest.approx(5.5 / 8)


def test_the_last_aperture_cannot_be_deleted(live: LiveExtraction) -> None:
    before = live.extract
    assert not live.delete_region(0)
    assert "no region is an aperture" in live.message
    assert_shows(live, before)
    assert not live.delete_region(7)
    assert live.message == "region is 7, expected 0 to 0"


def test_setters_raise_and_change_nothing(live: LiveExtraction) -> None:
    before = live.extract
    with pytest.raises(LRSError, match="has no pixel on the image"):
        live.aperture = Aperture(src_coeff=((300.0,), (310.0,)))
    with pytest.raises(LRSError, match="no background region"):
        live.background = Background(bkg_coeff=((300.0,), (310.0,)))
    assert_shows(live, before)
    live.background = Background(bkg_coeff=((24.0,), (30.0,)))
    assert_shows(live, replace(before, background=live.background))
    undo(live)
    assert live.background is None


def test_the_focus_does_not_outlive_its_region(live: LiveExtraction) -> None:
    live.add_region("background", 2, 6)
    live.selected = 1
    live.delete_region(1)
    assert live.selected is None


# --- source, default, references --------------------------------------------------------------


def test_to_the_default(live: LiveExtraction) -> None:
    default = live.extract
    live.set([live.regions[0].moved(8).with_edge("upper", -2)])
    assert live.default()
    assert_shows(live, default)


def test_a_reference_is_loaded(live: LiveExtraction, tmp_path: Path) -> None:
    entry = {
        "id": live.image.exp_type,
        "xstart": 9.5,
        "xstop": 15,
        "bkg_coeff": [[25], [40]],
        "bkg_fit": "median",
        "use_source_posn": False,
    }
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"apertures": [entry]}))
    assert live.load_reference(path)
    assert_shows(live, Extract1D.from_reference(path, live.image.exp_type, apply_apcorr=True))
    assert dict(live.extract.references)["extract1d"] == str(path)
    assert live.set([live.regions[0].moved(1), live.regions[1]])
    assert dict(live.extract.references)["extract1d"] == "<in memory>"  # it is no longer that one
    with pytest.raises(LRSError, match="does not exist"):
        live.load_reference(tmp_path / "gone.json")


test_a_reference_is_loaded = pytest.mark.filterwarnings(
    "ignore:no aperture correction:UserWarning"
)(test_a_reference_is_loaded)


def test_an_aperture_correction_is_loaded_and_taken_away(live, apcorr) -> None:
    before = live.extract
    bare = live.extraction.columns["FLUX"]
    assert live.load_apcorr(apcorr)
    factor = correction()(live.extraction.wavelength, live.extraction.columns["NPIXELS"])
    np.testing.assert_allclose(live.extraction.columns["FLUX"] / bare, factor, rtol=1e-6)
    assert_shows(live, replace(before, aperture_correction=ApertureCorrection.read(apcorr)))
    assert live.set([live.regions[0].moved(1)])
    assert live.extract.aperture_correction is not None
    assert live.default()  # the present correction stays
    assert live.extract.aperture_correction is not None
    assert live.load_apcorr(None)
    assert_shows(live, before)
    with pytest.raises(LRSError, match="does not exist"):
        live.load_apcorr(apcorr.with_name("gone.fits"))


# --- comparison and numbers -------------------------------------------------------------------


def test_a_pipeline_spectrum_is_compared_with(live: LiveExtraction, tmp_path: Path) -> None:
    other = replace(live.extract, aperture=Aperture(xstart=25, xstop=36))
    other.run(live.image).write(tmp_path / "other_x1d.fits")
    live.load_comparison(tmp_path / "other_x1d.fits")
    assert live.comparison_label == "other_x1d.fits"
    wave, ratio = live.ratio()
    assert (np.diff(wave) > 0).all()
    expected = live.extraction.columns["FLUX"] / other.run(live.image).columns["FLUX"]
    np.testing.assert_allclose(ratio, expected[::-1], rtol=1e-6)
    assert live.numbers().ratio == pytest.approx(np.median(expected), rel=1e-6)
    live.load_comparison(None)
    assert live.comparison is None
    assert live.comparison_label == ""
    assert np.isnan(live.numbers().ratio)
    assert live.ratio()[0].size == 0


def test_the_ratio_is_taken_on_common_wavelengths(live: LiveExtraction) -> None:
    wave = np.linspace(6.0, 9.0, 301)
    data = Data(label="model", wavelength=wave, flux=0.001 * wave)
    data.get_component("flux").units = "Jy"
    live.load_comparison(data)
    assert live.comparison_label == "model"
    found, ratio = live.ratio()
    mine = live.extraction
    inside = (mine.wavelength >= 6) & (mine.wavelength <= 9)
    np.testing.assert_array_equal(found, mine.wavelength[::-1])
    np.testing.assert_array_equal(np.isfinite(ratio), inside[::-1])
    expected = (mine.columns["FLUX"] / (0.001 * mine.wavelength))[::-1]
    np.testing.assert_allclose(ratio[inside[::-1]], expected[inside[::-1]], rtol=1e-9)
    assert live.numbers().ratio == pytest.approx(np.median(expected[inside[::-1]]))


def test_another_live_spectrum_can_be_compared_with(live: LiveExtraction, session) -> None:
    other = open_extraction(session, slit(data=2 * np.asarray(live.image.data)))
    live.load_comparison(other.spectrum_data)
    np.testing.assert_allclose(live.ratio()[1], 0.5, rtol=1e-6)


def test_units_that_differ_have_no_ratio(live: LiveExtraction, stacked) -> None:
    live.load_comparison(stacked.spectrum_data)
    assert live.comparison is not None
    assert live.ratio()[0].size == 0


def test_what_is_no_spectrum_is_not_compared_with(live: LiveExtraction, path: Path) -> None:
    with pytest.raises(LRSError, match="expected the components wavelength and flux"):
        live.load_comparison(Data(label="table", x=[1.0, 2.0]))
    with pytest.raises(LRSError, match=r"nod1_s2d\.fits"):
        live.load_comparison(path)
    assert live.comparison is None


def test_numbers_are_those_of_the_selected_range(live: LiveExtraction) -> None:
    extraction = live.extraction
    signal = extraction.columns["FLUX"] / extraction.columns["FLUX_ERROR"]
    assert live.numbers().signal_to_noise == pytest.approx(np.median(signal))
    assert live.numbers().rows == signal.size
    live.wavelength_range = (6.0, 8.0)
    inside = (extraction.wavelength >= 6) & (extraction.wavelength <= 8)
    assert 0 < inside.sum() < signal.size
    assert live.numbers().signal_to_noise == pytest.approx(np.median(signal[inside]))
    assert live.numbers().rows == inside.sum()
    live.wavelength_range = (1.0, 2.0)
    assert np.isnan(live.numbers().signal_to_noise)


def test_both_conventions_are_told(live: LiveExtraction) -> None:
    live.set([Region("aperture", (9.25,), (16.75,))])
    numbers = live.numbers()
    assert (numbers.limits, numbers.edges) == ("9.75 to 16.25", "9.25 to 16.75")
    live.set([live.regions[0].with_end("upper", "top", 20.0, *ends(live))])
    live.cursor_row = 39.0
    assert live.numbers().limits == "9.75 to 19.50 in row 39"


def test_lost_pixels_are_counted(session: Session) -> None:
    image = slit()
    data = np.array(image.data)
    data[7, 12] = data[9, 12] = data[9, 13] = np.nan
    live = open_extraction(session, replace(image, data=data))
    live.set([Region("aperture", (8.5,), (16.5,))])
    assert live.numbers().rows_lost == 2
    assert live.numbers().most_lost == pytest.approx(2 / 8)
    # A row that is lost altogether is masked: it counts once.
    data[20] = np.nan
    live = open_extraction(session, replace(image, data=data))
    live.set([Region("aperture", (8.5,), (16.5,))])
    numbers = live.numbers()
    assert (numbers.rows, numbers.rows_masked, numbers.rows_lost) == (39, 1, 2)
    assert numbers.most_lost == pytest.approx(2 / 8)


# --- the slit profile --------------------------------------------------------------------------


def test_the_slit_profile_is_the_mean_of_rows(live: LiveExtraction) -> None:
    image = live.image
    columns, flux, error = live.cross_dispersion_profile(10, 5)
    np.testing.assert_array_equal(columns, np.arange(46))
    np.testing.assert_allclose(flux, image.data[8:13].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(
        error, np.sqrt((image.err[8:13].astype(float) ** 2).sum(axis=0)) / 5, rtol=1e-6
    )
    live.cursor_row, live.rows_averaged = 20.0, 3
    np.testing.assert_allclose(
        live.cross_dispersion_profile().flux, image.data[19:22].mean(axis=0), rtol=1e-6
    )
    # At the ends of the image there are fewer rows.
    np.testing.assert_allclose(
        live.cross_dispersion_profile(0, 5).flux, image.data[:3].mean(axis=0), rtol=1e-6
    )
    np.testing.assert_allclose(live.cross_dispersion_profile(99, 5).flux, image.data[-1], rtol=1e-6)


def test_the_slit_profile_leaves_out_bad_pixels() -> None:
    image = slit()
    data, dq = np.array(image.data), np.zeros(image.data.shape, dtype=np.uint32)
    data[9, 3] = np.nan
    dq[10, 3] = 1
    dq[10, 4] = 4
    data[8:13, 6] = np.nan
    profile = cut.cross_dispersion_profile(replace(image, data=data, dq=dq), 10, 5)
    assert profile.flux[3] == pytest.approx(image.data[[8, 11, 12], 3].mean())
    expected = np.sqrt((image.err[[8, 11, 12], 3].astype(float) ** 2).sum()) / 3
    assert profile.error[3] == pytest.approx(expected)
    assert profile.flux[4] == pytest.approx(image.data[8:13, 4].mean())
    assert np.isnan(profile.flux[6])
    assert np.isnan(profile.error[6])


# --- stacks ------------------------------------------------------------------------------------


def test_an_integration_of_a_stack_is_shown(stacked: LiveExtraction) -> None:
    whole = stacked.run_all()
    assert whole.columns["FLUX"].shape[0] == 5
    assert stacked.integration == 0
    for number in (0, 3, 4):
        stacked.integration = number
        assert_shows(stacked, stacked.extract)
        np.testing.assert_array_equal(stacked.shown.data, stacked.image.data[number])
        for name in COLUMNS:
            np.testing.assert_allclose(
                stacked.extraction.columns[name], whole.columns[name][number], rtol=1e-12
            )
    stacked.integration = 99
    assert stacked.integration == 4
    stacked.integration = -3
    assert stacked.integration == 0


def test_an_edit_holds_for_all_integrations(stacked: LiveExtraction) -> None:
    stacked.integration = 2
    assert stacked.set([Region("aperture", (31.0,), (40.0,))])
    assert_shows(stacked, stacked.extract)
    stacked.integration = 1
    assert_shows(stacked, stacked.extract)
    assert stacked.extract.aperture == Aperture(xstart=31.5, xstop=39.5)


def test_the_median_of_all_is_shown(stacked: LiveExtraction) -> None:
    stacked.integration = None
    np.testing.assert_allclose(stacked.shown.data, np.median(stacked.image.data, axis=0), rtol=1e-6)
    assert_shows(stacked, stacked.extract)


def test_a_single_image_has_no_integrations(live: LiveExtraction) -> None:
    live.integration = 3
    assert live.integration is None
    assert live.shown is live.image


def test_a_cut_is_of_one_image() -> None:
    with pytest.raises(LRSError, match="is a stack, expected one integration"):
        cut.cross_dispersion_profile(stack(), 3)


def test_a_comparison_follows_the_integration(stacked, tmp_path) -> None:
    whole = stacked.run_all()
    whole.write(tmp_path / "tso_x1dints.fits")
    stacked.load_comparison(tmp_path / "tso_x1dints.fits")
    for number in (0, 3):
        stacked.integration = number
        np.testing.assert_allclose(stacked.ratio()[1], 1.0, rtol=1e-6)
    stacked.integration = None
    median = np.median(whole.columns["FLUX"], axis=0)[::-1]
    np.testing.assert_allclose(stacked.comparison.flux.value, median, rtol=1e-6)


# --- subsets and links ---------------------------------------------------------------------------


def columns_of(live: LiveExtraction) -> Any:
    return live.data.pixel_component_ids[-1]


def rows_of(live: LiveExtraction) -> Any:
    return live.data.pixel_component_ids[-2]


def test_a_range_of_columns_becomes_the_aperture(live: LiveExtraction) -> None:
    group = live.session.data_collection.new_subset_group(
        "mine", RangeSubsetState(9.25, 16.5, columns_of(live))
    )
    for subset in (group, group.subsets[0], group.subset_state):
        assert live.subset_to_region(subset, "aperture")
        assert live.extract.aperture == Aperture(xstart=9.75, xstop=16.0)
        assert_shows(live, live.extract)
        undo(live)


def test_a_rectangle_becomes_a_background(live: LiveExtraction) -> None:
    for xatt, yatt, roi in (
        (columns_of(live), rows_of(live), RectangularROI(24.2, 30.75, 5, 30)),
        (rows_of(live), columns_of(live), RectangularROI(5, 30, 24.2, 30.75)),
    ):
        state = RoiSubsetState(xatt, yatt, roi)
        assert live.subset_to_region(state, "background")
        assert live.background == Background(bkg_coeff=((24.2,), (30.75,)))
        undo(live)
    assert live.subset_to_region(state, "background")
    assert live.subset_to_region(RangeSubsetState(35, 40, columns_of(live)), "background")
    assert len(live.background.bkg_coeff) == 4


def test_a_polygon_becomes_polynomials(live: LiveExtraction) -> None:
    # A slanted band with a pointed top and bottom.
    y = np.array([3.0, 6.0, 33.0, 36.0, 33.0, 6.0])
    left = 8 + 0.1 * y
    x = np.where(np.arange(6) < 4, left, left + 7.0)
    x[0] += 3.5
    x[3] += 3.5
    state = RoiSubsetState(columns_of(live), rows_of(live), PolygonalROI(x, y))
    assert live.subset_to_region(state, "aperture")
    region = live.regions[0]
    lower, upper = region.at(*ends(live))
    assert region.variable == "pixel"  # where it takes fewer coefficients
    inner = slice(7, 33)
    np.testing.assert_allclose(lower[inner], (8 + 0.1 * live.rows)[inner], atol=0.15)
    np.testing.assert_allclose(upper[inner], (15 + 0.1 * live.rows)[inner], atol=0.15)
    assert_shows(live, live.extract)


def test_selected_pixels_become_a_region(live: LiveExtraction) -> None:
    mask = np.zeros(live.data.shape, dtype=bool)
    mask[:, 9:16] = True
    state = MaskSubsetState(mask, live.data.pixel_component_ids)
    assert live.subset_to_region(state, "aperture")
    assert live.extract.aperture == Aperture(xstart=9.0, xstop=15.0)  # whole pixels


def test_ranges_put_together_are_regions_side_by_side(live: LiveExtraction) -> None:
    """As glue's subset modes make them: added, taken away, what both have, what one has."""
    x = columns_of(live)

    def columns(low: float, high: float) -> RangeSubsetState:
        return RangeSubsetState(low, high, x)

    for state, expected in (
        (columns(24.2, 28.0) | columns(33.3, 40.1), [(24.2, 28.0), (33.3, 40.1)]),
        (columns(24.2, 30.0) | columns(28.0, 40.1), [(24.2, 40.1)]),
        (columns(24.2, 30.0) | columns(30.4, 40.1), [(24.2, 40.1)]),  # no pixel between them
        (columns(24.2, 40.1) & ~columns(28.0, 33.3), [(24.2, 28.0), (33.3, 40.1)]),
        (columns(24.2, 40.1) & ~columns(24.9, 33.3), [(33.3, 40.1)]),  # the rest is no pixel wide
        (columns(24.2, 33.3) & columns(28.0, 40.1), [(28.0, 33.3)]),
        (columns(24.2, 33.3) ^ columns(28.0, 40.1), [(24.2, 28.0), (33.3, 40.1)]),
        (~columns(3.5, 40.1), [(-0.5, 3.5), (40.1, 45.5)]),  # the rest of the image
    ):
        assert live.subset_to_region(state, "background")
        found = [(r.lower[0], r.upper[0]) for r in live.regions if r.kind == "background"]
        np.testing.assert_allclose(found, expected)
        assert_shows(live, live.extract)
        undo(live)
    two = columns(8.0, 11.0) | columns(14.0, 18.5)
    assert live.subset_to_region(two, "aperture")
    assert live.aperture.src_coeff == ((8.0,), (11.0,), (14.0,), (18.5,))
    before = live.extract
    with pytest.raises(LRSError, match="selects no pixel of the image"):
        live.subset_to_region(columns(24.2, 28.0) & columns(33.3, 40.1), "background")
    assert_shows(live, before)


def test_shapes_put_together_are_regions_side_by_side(live: LiveExtraction) -> None:
    def drawn(x: float) -> RoiSubsetState:
        y = np.array([2.0, 37.0, 37.0, 2.0])
        sides = x + 0.1 * y + np.array([0.0, 0.0, 5.0, 5.0])
        return RoiSubsetState(columns_of(live), rows_of(live), PolygonalROI(sides, y))

    assert live.subset_to_region(drawn(2.0) | drawn(30.0), "background")
    _, first, second = live.regions
    for region, x in ((first, 2.0), (second, 30.0)):
        lower, upper = region.at(*ends(live))
        np.testing.assert_allclose(lower[5:35], (x + 0.1 * live.rows)[5:35], atol=0.6)
        np.testing.assert_allclose(upper[5:35], (x + 5 + 0.1 * live.rows)[5:35], atol=0.6)
    assert_shows(live, live.extract)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (lambda live: RangeSubsetState(3, 9, rows_of(live)), "selects whole rows"),
        (lambda live: RangeSubsetState(90, 99, columns_of(live)) | RangeSubsetState(
            95, 96, columns_of(live)), "selects no pixel of the image"),
        (lambda live: RangeSubsetState(9, 9.3, columns_of(live)), "is 0.30 pixels wide"),
        (lambda live: RangeSubsetState(0, 1, Data(x=[1, 2]).id["x"]), "cannot be seen"),
    ],
)  # fmt: skip
def test_what_is_no_range_of_columns_is_told(live, state, text) -> None:
    before = live.extract
    with pytest.raises(LRSError, match=text):
        live.subset_to_region(state(live), "aperture")
    assert_shows(live, before)


def masks(live: LiveExtraction) -> tuple[np.ndarray, np.ndarray]:
    """What is selected of the image's rows, and of the spectrum's elements by row."""
    (group,) = live.session.data_collection.subset_groups
    image, spectrum = (
        next(s for s in group.subsets if s.data is data).to_mask()
        for data in (live.data, live.spectrum_data)
    )
    if image.ndim == 3:
        assert (image == image[0]).all()
        image = image[0]
    assert (image.all(axis=1) == image.any(axis=1)).all()
    rows = np.zeros(image.shape[0], dtype=bool)
    rows[live.spectrum_data["row"][spectrum].astype(int)] = True
    return image.all(axis=1), rows


@pytest.mark.parametrize("which", ["live", "stacked"])
@pytest.mark.parametrize("axis", ["component", "world"])
def test_a_range_of_wavelengths_selects_the_rows_of_the_image(request, which, axis) -> None:
    live = request.getfixturevalue(which)
    data = live.spectrum_data
    att = data.id["wavelength"] if axis == "component" else data.world_component_ids[0]
    live.session.data_collection.new_subset_group("line", RangeSubsetState(6.5, 8.5, att))
    rows, spectrum = masks(live)
    np.testing.assert_array_equal(rows, (live.row_wavelength >= 6.5) & (live.row_wavelength <= 8.5))
    np.testing.assert_array_equal(spectrum, rows)
    assert live.wavelength_range == pytest.approx((6.5, 8.5), abs=0.3)


@pytest.mark.parametrize("which", ["live", "stacked"])
@pytest.mark.parametrize("axis", ["pixel", "component", "world"])
def test_rows_of_the_image_select_the_range_of_the_spectrum(request, which, axis) -> None:
    live = request.getfixturevalue(which)
    data = live.data
    if axis == "pixel":
        state = RangeSubsetState(10, 20, rows_of(live))
    else:
        att = data.id["wavelength"] if axis == "component" else data.world_component_ids[-2]
        state = RangeSubsetState(live.row_wavelength[20], live.row_wavelength[10], att)
    live.session.data_collection.new_subset_group("line", state)
    rows, spectrum = masks(live)
    np.testing.assert_array_equal(np.flatnonzero(rows), np.arange(10, 21))
    np.testing.assert_array_equal(spectrum, rows)
    assert live.wavelength_range == pytest.approx(
        (live.row_wavelength[20], live.row_wavelength[10])
    )


def test_selecting_is_a_command(live: LiveExtraction) -> None:
    live.select(8.0, 6.0)
    assert live.wavelength_range == (6.0, 8.0)
    rows, spectrum = masks(live)
    np.testing.assert_array_equal(spectrum, rows)
    assert rows.sum() == live.numbers().rows
    live.select(9.0, 10.0)
    assert len(live.session.data_collection.subset_groups) == 1
    undo(live)
    assert live.wavelength_range == (6.0, 8.0)
    undo(live)
    assert live.wavelength_range is None


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (ReplaceMode, [(7.0, 9.0)]),
        (OrMode, [(6.0, 9.0)]),
        (AndMode, [(7.0, 8.0)]),
        (XorMode, [(6.0, 7.0), (8.0, 9.0)]),
        (AndNotMode, [(6.0, 7.0)]),
        (NewMode, [(7.0, 9.0)]),
    ],
)
def test_selecting_follows_the_subset_mode(live: LiveExtraction, mode, expected) -> None:
    """What is selected is what glue's own viewers would have, and the numbers count just that."""
    live.select(6.0, 8.0)
    live.session.edit_subset_mode.mode = mode
    live.select(7.0, 9.0)
    collection = live.session.data_collection
    group = collection.subset_groups[-1]
    assert len(collection.subset_groups) == (2 if mode is NewMode else 1)
    wave, chosen = live.spectrum_data["wavelength"], np.zeros(live.spectrum_data.size, dtype=bool)
    for low, high in expected:
        chosen |= (wave >= low) & (wave <= high)
    (mask,) = (one.to_mask() for one in group.subsets if one.data is live.spectrum_data)
    np.testing.assert_array_equal(mask, chosen)
    assert len(live.wavelength_ranges) == len(expected)
    np.testing.assert_allclose(live.wavelength_ranges, expected, atol=0.35)  # whole rows
    assert live.wavelength_range == (live.wavelength_ranges[0][0], live.wavelength_ranges[-1][1])
    assert live.numbers().rows == np.count_nonzero(chosen)
    flux, error = live.spectrum_data["flux"][chosen], live.spectrum_data["uncertainty"][chosen]
    assert live.numbers().signal_to_noise == pytest.approx(np.median(flux / error))
    live.deselect()
    assert (live.wavelength_range, live.wavelength_ranges) == (None, ())
    undo(live)
    assert len(live.wavelength_ranges) == len(expected)
    undo(live)
    # The subset that was new is gone; the other one was not touched.
    assert live.wavelength_ranges == (() if mode is NewMode else ((6.0, 8.0),))


def test_nothing_in_common_is_no_range(live: LiveExtraction) -> None:
    live.select(6.0, 7.0)
    live.session.edit_subset_mode.mode = AndMode
    live.select(8.0, 9.0)
    assert (live.wavelength_range, live.wavelength_ranges) == (None, ())
    undo(live)
    assert live.wavelength_range == (6.0, 7.0)


def test_a_range_set_without_glue_is_one(live: LiveExtraction) -> None:
    told: list[object] = []
    live.add_callback("wavelength_ranges", told.append)
    live.wavelength_range = (6.0, 8.0)
    live.wavelength_range = None
    assert told == [((6.0, 8.0),), ()]


def test_clearing_the_selection_is_a_command(live: LiveExtraction) -> None:
    live.deselect()  # there is none
    assert live.wavelength_range is None
    live.select(6.0, 8.0)
    before = masks(live)
    live.deselect()
    assert live.wavelength_range is None
    assert not any(mask.any() for mask in masks(live))
    undo(live)
    assert live.wavelength_range == (6.0, 8.0)
    for now, then in zip(masks(live), before, strict=True):
        np.testing.assert_array_equal(now, then)
    live.wavelength_range = (9.0, 9.5)  # set without glue
    live.deselect()
    assert live.wavelength_range is None


def test_a_deleted_selection_is_none(live: LiveExtraction) -> None:
    live.select(6.0, 8.0)
    collection = live.session.data_collection
    collection.remove_subset_group(collection.subset_groups[0])
    assert live.wavelength_range is None


def test_the_links_are_made_once(live: LiveExtraction, session: Session) -> None:
    number = len(session.data_collection.external_links)
    assert number >= 2
    open_extraction(session, live.data)
    live._link()
    assert len(session.data_collection.external_links) == number


# --- files ---------------------------------------------------------------------------------------


def edits(live: LiveExtraction) -> dict[str, Callable[[], Any]]:
    return {
        "default": lambda: None,
        "moved": lambda: live.set([live.regions[0].moved(1.3)]),
        "tapered": lambda: live.set([live.regions[0].tapered("top", 1.5, *ends(live))]),
        "background": lambda: (
            live.set(replace(live.extract, background=Background(
                bkg_coeff=((1.0,), (5.0,)), bkg_fit="median", smoothing_length=3))),
            live.add_region("background", 24, 30.4),
        ),
        "source": lambda: (live.set([live.regions[0].moved(4)]), live.to_source()),
        "3 FWHM": lambda: (live.add_region("background", 24, 30.4), live.three_fwhm()),
        "best": lambda: (live.add_region("background", 24, 30.4), live.best_width()),
    }  # fmt: skip


NAMES = ["default", "moved", "tapered", "background", "source", "3 FWHM", "best"]


@pytest.mark.parametrize("source_type", ["POINT", "EXTENDED"])
@pytest.mark.parametrize("edit", NAMES)
def test_the_pipeline_given_the_reference_returns_the_same(
    session, tmp_path, edit, source_type
) -> None:
    live = open_extraction(session, slit(source_type=source_type))
    write_apcorr(correction(), tmp_path / "apcorr.fits")
    live.load_apcorr(tmp_path / "apcorr.fits")
    edits(live)[edit]()
    live.save_reference(tmp_path / "mine.json")
    entry = Reference.read(tmp_path / "mine.json").entry(live.image.exp_type)
    theirs = pipeline.run(live.image, entry, tmp_path, apcorr=tmp_path / "apcorr.fits")
    tolerance = 5e-6 if edit == "background" else 1e-9  # smoothing is done in single precision
    assert pipeline.disagreements(live.extraction.columns, theirs.columns, tolerance) == []
    assert np.isfinite(theirs.columns["FLUX"]).all()


def test_the_pipeline_takes_the_very_file(live: LiveExtraction, tmp_path: Path) -> None:
    from jwst.extract_1d.extract import run_extract1d

    live.set([live.regions[0].tapered("top", 1.5, *ends(live))])
    live.add_region("background", 24, 30.4)
    live.save_reference(tmp_path / "mine.json")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the pipeline warns of is not what is tested here
        model = pipeline.to_model(live.image)
        out = run_extract1d(model, str(tmp_path / "mine.json"), "N/A")[0]
    flux = np.asarray(out.spec[0].spec_table["FLUX"])
    np.testing.assert_allclose(flux, live.extraction.columns["FLUX"], rtol=1e-9)


def test_the_pipeline_returns_the_same_of_a_stack(stacked, tmp_path) -> None:
    stacked.set([Region("aperture", (31.2,), (40.0,)), Region("background", (3.0,), (20.0,))])
    stacked.save_reference(tmp_path / "mine.json")
    entry = Reference.read(tmp_path / "mine.json").entry(stacked.image.exp_type)
    image = replace(stacked.image, wavelength=np.asarray(stacked.image.wavelength))
    theirs = pipeline.run(image, entry, tmp_path, model_class="CubeModel")
    assert pipeline.disagreements(stacked.run_all().columns, theirs.columns, 1e-9) == []


def test_the_spectrum_is_written(live: LiveExtraction, tmp_path: Path) -> None:
    live.save_spectrum(tmp_path / "mine_x1d.fits")
    read = Extraction.read(tmp_path / "mine_x1d.fits")
    for name in COLUMNS:
        np.testing.assert_allclose(read.columns[name], live.extraction.columns[name], rtol=1e-6)


def test_the_spectra_of_the_whole_stack_are_written(stacked, tmp_path) -> None:
    stacked.integration = 2
    stacked.save_spectrum(tmp_path / "mine_x1dints.fits")
    read = Extraction.read(tmp_path / "mine_x1dints.fits")
    assert read.columns["FLUX"].shape[0] == 5
    np.testing.assert_allclose(read.columns["FLUX"], stacked.run_all().columns["FLUX"], rtol=1e-6)


def test_a_figure_is_written(live: LiveExtraction, tmp_path: Path) -> None:
    live.add_region("background", 24, 30)
    live.save_figure(tmp_path / "mine.png")
    assert (tmp_path / "mine.png").read_bytes().startswith(b"\x89PNG")


def test_a_figure_of_the_median_is_written(stacked, tmp_path) -> None:
    stacked.integration = None
    stacked.save_figure(tmp_path / "mine.png")
    assert (tmp_path / "mine.png").stat().st_size > 10000


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("save_reference", "mine.json"),
        ("save_spectrum", "mine_x1d.fits"),
        ("save_figure", "mine.png"),
    ],
)
def test_nothing_is_overwritten_unless_asked(live, tmp_path, method, name) -> None:
    target = tmp_path / "out" / name
    with pytest.raises(WriteError, match="does not exist"):
        getattr(live, method)(target)
    target.parent.mkdir()
    target.write_text("precious")
    with pytest.raises(WriteError, match="exists"):
        getattr(live, method)(target)
    assert target.read_text() == "precious"
    getattr(live, method)(target, overwrite=True)
    assert target.read_bytes() != b"precious"
    assert os.listdir(target.parent) == [name]


# --- Python --------------------------------------------------------------------------------------


def execute(code: str) -> Any:
    names: dict[str, Any] = {}
    exec(code, names)
    return names["spectrum"]


def assert_repeats(live: LiveExtraction) -> None:
    code = live.python()
    made, expected = execute(code), live.spectrum
    np.testing.assert_array_equal(made.flux.value, expected.flux.value)
    np.testing.assert_array_equal(made.uncertainty.array, expected.uncertainty.array)
    np.testing.assert_array_equal(made.spectral_axis.value, expected.spectral_axis.value)
    assert max(map(len, code.splitlines())) < 160


@pytest.mark.parametrize("edit", NAMES)
def test_python_repeats_the_spectrum_bit_for_bit(live, apcorr, edit) -> None:
    assert_repeats(live)
    live.load_apcorr(apcorr)
    edits(live)[edit]()
    assert_repeats(live)
    assert "ApertureCorrection.read(" in live.python()


def test_python_repeats_what_the_pipeline_does_not_have(live: LiveExtraction) -> None:
    live.set(
        replace(
            live.extract,
            position_offset=0.3,
            background=Background(bkg_coeff=((24.0,), (30.0,)), bkg_order=1),
            fixed_background=True,
            max_lost=0.1,
            subtract_background=True,
        )
    )
    assert_repeats(live)


@pytest.mark.parametrize("integration", [0, 3, None])
def test_python_repeats_the_spectrum_of_a_stack(stacked, integration) -> None:
    stacked.integration = integration
    stacked.set([Region("aperture", (31.2,), (40.0,))])
    assert_repeats(stacked)


def test_python_of_what_is_in_no_file_is_an_error(session, live) -> None:
    other = open_extraction(session, slit())
    with pytest.raises(LRSError, match="is in no file, expected one that a script can read"):
        other.python()
    live.set(replace(live.extract, aperture_correction=correction()))
    with pytest.raises(LRSError, match="the aperture correction is in no file"):
        live.python()


def test_python_names_paths_with_quotes(session, tmp_path) -> None:
    folder = tmp_path / 'it\'s "mine"'
    folder.mkdir()
    live = open_extraction(session, saved(slit(), folder / "a_s2d.fits"))
    assert_repeats(live)


# --- life ----------------------------------------------------------------------------------------


def test_removed_data_close_the_extraction(live: LiveExtraction, session: Session) -> None:
    live.set([live.regions[0].moved(1)])
    kept = live.extract
    live.preview([live.regions[0].moved(1)])
    seen = []
    live.add_callback("closed", seen.append)
    session.data_collection.remove(live.data)
    assert seen == [True]
    assert live_for(session, live.data) is None
    assert live.spectrum_data in session.data_collection
    # All that the viewers may still do.
    live.preview([live.regions[0].moved(1)])
    assert not live.commit()
    assert not live.set([live.regions[0].moved(2)])
    assert not live.to_source()
    assert not live.three_fwhm()
    assert not live.best_width()
    assert live.residual() is None
    live.hide_residual()
    assert not live.default()
    live.cancel()
    live.select(6, 8)
    live.integration = 3
    live.cursor_row = 4.0
    live.wavelength_range = (5.0, 6.0)
    live.aperture = Aperture(xstart=3, xstop=8)
    live.numbers()
    live.cross_dispersion_profile()
    session.command_stack.undo()
    session.command_stack.redo()
    live.close()
    assert live.extract == kept
    # The data come back: so does the extraction.
    session.data_collection.append(live.data)
    again = open_extraction(session, live.data)
    assert again is not live
    assert again.spectrum_data is live.spectrum_data
    assert again.extract == kept
    session.command_stack.undo()
    assert again.extract.use_source_posn is None


def test_a_removed_spectrum_comes_back_when_opened_again(live, session) -> None:
    session.data_collection.remove(live.spectrum_data)
    assert live.set([live.regions[0].moved(1)])
    assert open_extraction(session, live.data) is live
    assert live.spectrum_data in session.data_collection
    assert_shows(live, live.extract)
    live.select(6.5, 8.5)
    assert masks(live)[0].any()


def test_two_files_do_not_know_each_other(session, live, tmp_path) -> None:
    other = open_extraction(session, saved(slit(), tmp_path / "nod2_s2d.fits"))
    before = other.extract
    assert live.set([live.regions[0].moved(1)])
    assert_shows(other, before)
    assert other.set([other.regions[0].moved(-2)])
    changed = live.extract
    undo(live)  # glue has one stack for all
    assert_shows(live, changed)
    assert_shows(other, before)
    session.data_collection.remove(live.data)
    assert live.closed
    assert not other.closed
    assert other.set([other.regions[0].moved(1)])


def test_two_collections_have_an_extraction_each(path: Path) -> None:
    one, two = DataCollection(), DataCollection()
    assert open_extraction(one, path) is not open_extraction(two, path)


def test_changed_numbers_are_extracted(live: LiveExtraction) -> None:
    flux = 2 * np.asarray(live.image.data)
    before = live.extraction.columns["FLUX"]
    live.data.update_components({live.data.id["flux"]: flux})
    np.testing.assert_allclose(live.extraction.columns["FLUX"], 2 * before, rtol=1e-6)
    assert_shows(live, live.extract)


def test_nothing_is_kept_alive(path: Path) -> None:
    collection = DataCollection()
    live = open_extraction(collection, path)
    live.set([live.regions[0].moved(1)])
    live.preview([live.regions[0].moved(1)])  # no subset: glue's own groups of subsets stay alive
    live.integration, live.wavelength_range = None, (5.0, 7.0)
    gone = [weakref.ref(one) for one in (live, live.image, live.session, collection)]
    del live, collection
    for _ in range(3):
        gc.collect()
    assert [ref() for ref in gone] == [None] * 4


def test_a_closed_extraction_is_not_kept_alive(session: Session, path: Path) -> None:
    live = open_extraction(session, path)
    live.set([live.regions[0].moved(1)])
    ref = weakref.ref(live)
    session.data_collection.remove(live.data)
    del live
    gc.collect()
    assert ref() is None


def test_a_preview_extracts_once_and_leaves_glue_alone(
    live: LiveExtraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a move of the mouse costs: one extraction; the Data of the spectrum waits for commit."""
    runs: list[Extract1D] = []
    run = Extract1D.run

    def counted(self: Extract1D, image: SlitImage) -> Extraction:
        runs.append(self)
        return run(self, image)

    monkeypatch.setattr(Extract1D, "run", counted)
    before = live.spectrum_data["flux"].copy()
    for step in range(1, 4):
        live.preview([live.regions[0].moved(0.5), *live.regions[1:]])
        assert len(runs) == step
    np.testing.assert_array_equal(live.spectrum_data["flux"], before)
    live.commit("move")
    assert len(runs) == 3
    assert not np.array_equal(live.spectrum_data["flux"], before, equal_nan=True)


@pytest.mark.parametrize("name", ["wavelength", "flux"])
def test_a_component_that_was_renamed_is_told(live: LiveExtraction, name: str) -> None:
    data = live.spectrum_data
    data.find_component_id(name).label = "mine"
    before = live.extract
    assert live.set(replace(before, aperture=before.aperture.shifted(1.0)), "shift")
    assert live.extract != before  # the edit itself stands
    assert f"{name} was renamed or removed" in live.message
    data.find_component_id("mine").label = name
    live.session.command_stack.undo()
    assert live.extract == before
    assert "renamed" not in live.message


def test_a_subset_that_raises_disturbs_nobody(live: LiveExtraction) -> None:
    """A handler that raises would end glue's broadcast to all others."""

    class Odd(SubsetState):
        def to_mask(self, data: Any, view: Any = None) -> Any:
            raise IndexError("of another dataset")

        def copy(self) -> SubsetState:
            return Odd()

    collection = live.session.data_collection
    collection.new_subset_group("odd", Odd())
    collection.new_subset_group("other", live.data.id["flux"] > 0)
    assert live.wavelength_ranges == ()
