"""The application for a notebook: drags, keys, panel, and what lives in the next cell."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ipywidgets
import numpy as np
import pytest
from astropy import units as u
from glue.core import Data
from glue.core.component import Component
from glue_jupyter import JupyterApplication
from matplotlib.figure import Figure

from glue_lrs import Aperture, ApertureCorrection, Background, Extraction, LRSError, SlitImage
from glue_lrs.io.apcorr import write_apcorr
from glue_lrs.plotting.image import plot_image
from glue_lrs.simulation import Scene
from glue_lrs.viewers import ExtractionApp, extraction_app
from tests.helpers.figure import drag, press, send
from tests.helpers.images import SOURCE, stack
from tests.helpers.live import assert_shows

#: Edges of the default aperture of `slit`: 8 columns around the source.
LOWER, UPPER = SOURCE - 4.0, SOURCE + 4.0


def drawn(app: ExtractionApp, kind: str = "aperture") -> np.ndarray:
    """Columns of the corners of the regions that the image shows."""
    mark = app.image.editor.areas[kind]
    return np.unique(np.round(mark.x, 6)) if mark.visible else np.empty(0)


def in_plot(app: ExtractionApp) -> np.ndarray:
    """Fluxes of the extraction in the unit of the plot."""
    factor = {"µJy": 1e6, "mJy": 1e3, "Jy": 1.0}[app.spectrum_viewer.unit]
    return np.asarray(app.extraction.columns["FLUX"]) * factor


# --- drags ---------------------------------------------------------------------------------------


def test_an_edge_is_dragged_and_the_spectrum_follows(app: ExtractionApp) -> None:
    viewer, before = app.image, app.spectrum
    send(viewer, "dragstart", UPPER, 12.0)
    send(viewer, "dragmove", UPPER + 1.0, 12.0)
    np.testing.assert_allclose(drawn(app), [LOWER, UPPER + 1.0])
    np.testing.assert_allclose(app.spectrum_viewer.line.y, in_plot(app))
    assert app.extraction.findings == ()  # the checks are made on release
    assert app.spectrum.flux[3] == before.flux[3]  # nothing is committed during the drag
    assert "width 9" in app.panel.status.value
    send(viewer, "dragend", UPPER + 2.0, 12.0)
    assert app.aperture == Aperture(xstart=8.8, xstop=17.8)
    assert_shows(app.live, app.extract)
    np.testing.assert_allclose(app.spectrum_viewer.line.y, in_plot(app))
    assert (app.panel.xstart.value, app.panel.xstop.value) == (8.8, 17.8)
    assert "no background was subtracted" in app.panel.message.value
    assert app.panel.status.value != app.panel.message.value


def test_a_drag_in_the_slit_profile(app: ExtractionApp) -> None:
    y = app.profile.editor.frame.at_height(0.3)
    drag(app.profile, (LOWER, y), (LOWER - 0.5, y), (LOWER - 1.0, y))
    assert app.aperture == Aperture(xstart=7.8, xstop=15.8)
    np.testing.assert_allclose(drawn(app), [LOWER - 1.0, UPPER])


def test_shift_tapers_and_escape_cancels(app: ExtractionApp) -> None:
    editor = app.image.editor
    place = dict(editor.geometry.handles(0))[
        next(h for h, _ in editor.geometry.handles(0) if (h.part, h.end) == ("upper", "top"))
    ]
    send(app.image, "keydown", key="Shift")
    send(app.image, "dragstart", *place)
    send(app.image, "dragmove", place[0] + 1.0, place[1])
    region = app.live.regions[0]
    assert not region.straight
    np.testing.assert_allclose(np.sum(region.at(39.0, app.live.row_wavelength[39])), LOWER + UPPER)
    send(app.image, "keydown", key="Escape")
    assert not editor.busy
    np.testing.assert_allclose(drawn(app), [LOWER, UPPER])
    send(app.image, "dragmove", place[0] + 2.0, place[1])
    assert app.live.operator == app.extract


def test_background_regions_are_added_by_a_drag(app: ExtractionApp) -> None:
    app.panel.adding.value = True
    drag(app.image, (30.0, 10.0), (33.0, 10.0), (36.0, 10.0))
    assert not app.panel.adding.value
    assert app.background == Background(bkg_coeff=[[30], [36]])
    np.testing.assert_allclose(drawn(app, "background"), [30.0, 36.0])
    press(app.image, "Delete")
    assert app.background is None
    assert drawn(app, "background").size == 0


def test_keys_move_the_region_and_the_crosshair(app: ExtractionApp) -> None:
    press(app.image, "ArrowRight", "ArrowRight")
    assert app.aperture == Aperture(xstart=9.0, xstop=16.0)
    row = app.live.cursor_row
    press(app.image, "ArrowUp")
    assert app.live.cursor_row == row + 1.0
    send(app.image, "keydown", key="Shift")
    send(app.image, "keydown", key="ArrowLeft")
    assert app.aperture == Aperture(xstart=8.0, xstop=15.0)


def test_a_press_beside_the_regions_moves_the_crosshair(app: ExtractionApp) -> None:
    profile = app.profile.line.y.copy()
    drag(app.image, (30.0, 5.0), (30.0, 9.0))
    assert app.live.cursor_row == 9.0
    np.testing.assert_array_equal(app.image.row_mark.y, [9.0, 9.0])
    wavelength = app.live.row_wavelength[9]
    np.testing.assert_allclose(app.spectrum_viewer.row_mark.x, wavelength)
    assert not np.array_equal(app.profile.line.y, profile)


def test_a_range_is_selected_in_the_spectrum(app: ExtractionApp) -> None:
    drag(app.spectrum_viewer, (8.0, 0.0), (9.0, 0.0))
    assert app.live.wavelength_ranges == ((8.0, 9.0),)
    assert app.spectrum_viewer.range_mark.visible
    assert app.image.range_mark.visible
    assert "8.00 – 9.00 µm" in app.panel.results.value
    drag(app.spectrum_viewer, (7.0, 0.0))
    assert app.live.cursor_row == pytest.approx(float(app.live.wavelengths.row(7.0)))
    send(app.spectrum_viewer, "dblclick", 8.5, 0.0)
    assert app.live.wavelength_ranges == ()
    assert not app.image.range_mark.visible


def test_a_tool_of_glue_has_the_mouse_while_it_is_active(app: ExtractionApp) -> None:
    app.image.toolbar.active_tool_id = "bqplot:panzoom"
    drag(app.image, (UPPER, 12.0), (UPPER + 2.0, 12.0))
    np.testing.assert_allclose(drawn(app), [LOWER, UPPER])
    app.image.toolbar.active_tool_id = None
    drag(app.image, (UPPER, 12.0), (UPPER + 2.0, 12.0))
    np.testing.assert_allclose(drawn(app), [LOWER, UPPER + 2.0])


# --- the next cell -------------------------------------------------------------------------------


def test_setting_the_aperture_moves_the_drawing(app: ExtractionApp) -> None:
    app.aperture = Aperture(xstart=10, xstop=15)
    assert app.aperture == Aperture(xstart=10, xstop=15)
    np.testing.assert_allclose(drawn(app), [9.5, 15.5])
    assert app.panel.xstart.value == 10.0
    assert isinstance(app.extraction, Extraction)
    np.testing.assert_array_equal(app.extraction.columns["NPIXELS"], 6.0)
    app.background = Background(bkg_coeff=[[30], [36]])
    np.testing.assert_allclose(drawn(app, "background"), [30.0, 36.0])
    app.set(xstart=11, bkg_fit="median", bkg_coeff=None)
    assert app.background is None
    app.panel.buttons["Undo"].click()
    app.panel.buttons["Undo"].click()
    app.panel.buttons["Undo"].click()
    np.testing.assert_allclose(drawn(app), [LOWER, UPPER])
    app.panel.buttons["Redo"].click()
    np.testing.assert_allclose(drawn(app), [9.5, 15.5])
    app.panel.buttons["Redo"].click()
    app.panel.buttons["Redo"].click()
    app.panel.buttons["Redo"].click()
    assert "nothing to redo" in app.panel.message.value


def test_wrong_keys_are_one_line_and_change_nothing(app: ExtractionApp) -> None:
    before = app.extract
    with pytest.raises(LRSError, match="unknown key 'xstrat'") as found:
        app.set(xstrat=11)
    (line,) = found.value._render_traceback_()
    assert "\n" not in line
    assert line.startswith("ReferenceFileError: ")
    with pytest.raises(LRSError, match="xstop is 15"):
        app.aperture = Aperture(xstart=20, xstop=15)
    assert app.extract == before


def test_the_aperture_correction_is_set_like_a_key(app: ExtractionApp, tmp_path: Path) -> None:
    file = tmp_path / "apcorr.fits"
    write_apcorr(Scene().aperture_correction(size=np.arange(1, 31)), file)
    before = np.array(app.extraction.columns["FLUX"])
    app.set(apcorr=file, extract_width=6)
    correction = app.extract.aperture_correction
    assert correction.filename == str(file)
    assert dict(app.extract.references)["apcorr"] == str(file)
    corrected = np.array(app.extraction.columns["FLUX"])
    app.set(apcorr=None)
    ratio = corrected / app.extraction.columns["FLUX"]
    np.testing.assert_allclose(ratio, correction(app.extraction.wavelength, 6.0), rtol=1e-6)
    app.live.session.command_stack.undo()
    app.live.session.command_stack.undo()
    np.testing.assert_array_equal(app.extraction.columns["FLUX"], before)
    with pytest.raises(LRSError, match=r"missing\.fits"):
        app.set(apcorr=tmp_path / "missing.fits", extract_width=5)
    assert app.extract.aperture_correction is None


def test_the_source_is_measured(app: ExtractionApp) -> None:
    app.panel.buttons["Measure"].click()
    assert "measured: column 12.30" in app.panel.results.value
    app.panel.buttons["3 × FWHM"].click()
    assert not app.live.regions[0].straight or app.aperture != Aperture(xstart=8.8, xstop=15.8)
    assert app.panel.xstart.disabled == (not app.live.regions[0].straight)


# --- panel ---------------------------------------------------------------------------------------


def test_the_panel_sets_limits_and_background(app: ExtractionApp) -> None:
    panel = app.panel
    panel.xstop.value = 17.5
    assert app.aperture == Aperture(xstart=8.8, xstop=17.5)
    panel.xstop.value = 1.0
    assert "xstop is 1" in panel.message.value
    assert panel.xstop.value == 17.5
    assert panel.subtract.disabled
    app.background = Background(bkg_coeff=[[25], [28], [33], [40]])
    assert panel.subtract.value
    panel.fit.value = "median"
    assert app.background.bkg_fit == "median"
    panel.subtract.value = False
    assert app.extract.subtract_background is False


def test_files_are_saved_and_never_replaced_unasked(app: ExtractionApp, path: Path) -> None:
    panel, target = app.panel, path.parent / "nod1_x1d.fits"
    panel.buttons["Save x1d"].click()
    assert f"wrote {target}" in panel.message.value
    written = target.read_bytes()
    drag(app.image, (UPPER, 12.0), (UPPER + 2.0, 12.0))
    panel.buttons["Save x1d"].click()
    assert "exists" in panel.message.value
    assert target.read_bytes() == written
    panel.replace.value = True
    panel.buttons["Save x1d"].click()
    assert target.read_bytes() != written
    panel.buttons["Save JSON"].click()
    assert (path.parent / "nod1_extract1d.json").exists()
    panel.comparison.value = "nod1_x1d.fits"
    panel.buttons["Compare"].click()
    assert app.spectrum_viewer.comparison_line.visible
    assert "flux / nod1_x1d.fits 1.0000" in panel.results.value
    panel.comparison.value = "missing_x1d.fits"
    panel.buttons["Compare"].click()
    assert "missing_x1d.fits" in panel.message.value


def test_the_grey_scale_is_that_of_figures(app: ExtractionApp) -> None:
    norm = plot_image(app.live.image, ax=Figure().subplots()).images[0].norm
    layer = app.image.layers[0].state
    assert (layer.v_min, layer.v_max) == (norm.vmin, norm.vmax)


def test_a_stack_has_a_slider(stacked: ExtractionApp) -> None:
    first = stacked.spectrum_viewer.line.y.copy()
    stacked.panel.slider.value = 3
    assert stacked.live.integration == 2
    assert stacked.image.state.slices[0] == 2
    assert not np.array_equal(stacked.spectrum_viewer.line.y, first)
    stacked.image.state.slices = (4, 0, 0)
    assert stacked.panel.slider.value == 5
    stacked.panel.median.value = True
    assert stacked.live.integration is None
    np.testing.assert_array_equal(stacked.image.state.median_plane, stacked.live.shown.data)
    assert stacked.panel.slider.disabled


def test_the_place_under_the_mouse_is_described(app: ExtractionApp) -> None:
    send(app.image, "mousemove", 12.0, 20.0)
    assert "column 12, row 20" in app.panel.status.value
    assert "aperture weight 1" in app.panel.status.value
    wavelength = float(app.live.row_wavelength[20])
    send(app.spectrum_viewer, "mousemove", wavelength, 0.0)
    assert f"{wavelength:.3f} µm, row 20" in app.panel.status.value
    send(app.profile, "mousemove", 12.0, 3.0)
    assert "column 12:" in app.panel.status.value
    send(app.profile, "mouseleave")
    assert "column" not in app.panel.status.value


def test_rows_with_quality_bits_are_marked(path: Path) -> None:
    image = SlitImage.read(path)
    data = image.data.copy()
    data[7, 12] = np.nan
    app = extraction_app(replace(image, data=data), show=False)
    flagged = app.spectrum_viewer.flagged
    assert flagged.x == pytest.approx([app.live.row_wavelength[7]])
    app.close()


# --- glue ----------------------------------------------------------------------------------------


def test_viewers_in_an_application_of_glue_jupyter(path: Path) -> None:
    glue = JupyterApplication()
    app = extraction_app(path, glue=glue, show=False, xstart=10, use_source_posn=False)
    assert app.glue is glue
    viewer = glue.new_data_viewer("lrs-image", data=app.live.data, show=False)
    drag(app.image, (9.5, 12.0), (8.5, 12.0))
    np.testing.assert_allclose(
        viewer.editor.areas["aperture"].x, app.image.editor.areas["aperture"].x
    )
    app.close()
    drag(viewer, (8.5, 12.0), (7.5, 12.0))
    assert app.live.aperture.xstart == 8.0
    viewer.close()


def test_wrong_files_leave_nothing_open(tmp_path: Path, app: ExtractionApp) -> None:
    number = len(ipywidgets.Widget.get_manager_state()["state"])
    with pytest.raises(LRSError, match="does not exist"):
        extraction_app(tmp_path / "missing_s2d.fits", show=False)
    with pytest.raises(LRSError, match="unknown key"):
        extraction_app(stack(), show=False, xstrat=3)
    assert len(ipywidgets.Widget.get_manager_state()["state"]) == number


def test_closing_leaves_no_observer_and_no_widget(path: Path) -> None:
    extraction_app(path, show=False).close()  # opens widgets that all applications share

    def opened() -> list[weakref.ref[object]]:
        app = extraction_app(path, show=False)
        drag(app.image, (UPPER, 12.0), (UPPER + 2.0, 12.0))
        app.panel.buttons["Measure"].click()
        parts = (app, app.live, app.image, app.spectrum_viewer, app.profile, app.panel, app.glue)
        app.close()
        app.close()
        return [weakref.ref(part) for part in parts]

    number = len(ipywidgets.Widget.get_manager_state()["state"])
    references = opened()
    assert len(ipywidgets.Widget.get_manager_state()["state"]) == number
    gc.collect()
    assert [reference() for reference in references] == [None] * len(references)


# --- checks, end, and several applications --------------------------------------------------------


class Loop:
    """Event loop whose timers end when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def call_later(self, delay: float, function: Callable[[], None]) -> Loop:
        assert delay > 0
        self.waiting.append(function)
        return self

    def cancel(self) -> None:
        self.waiting.clear()


def test_all_checks_are_made_after_a_change(
    app: ExtractionApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Loop()
    monkeypatch.setattr("glue_lrs.viewers.jupyter.panel.get_ioloop", lambda: loop)
    app.aperture = Aperture(xstart=20, xstop=27)
    assert "source_outside" not in {one.kind for one in app.live.findings}
    assert len(loop.waiting) == 1  # the previous one is cancelled
    loop.waiting.pop()()
    assert "source_outside" in {one.kind for one in app.live.findings}
    assert "#d32f2f" in app.panel.message.value
    app.aperture = Aperture(xstart=9, xstop=16)
    app.close()
    assert not loop.waiting


def test_an_error_stays_until_it_is_cleared(app: ExtractionApp) -> None:
    app.background = Background(bkg_coeff=[[23.5], [33.5]])
    app.panel.xstop.value = 1.0
    assert "#d32f2f" in app.panel.message.value
    app.panel.xstop.value = 17.0
    assert app.aperture.xstop == 17.0
    assert "xstop is 1" in app.panel.message.value
    app.panel.buttons["Clear"].click()
    assert "#d32f2f" not in app.panel.message.value


# an optimal extraction takes its own background, as the panel says
@pytest.mark.filterwarnings("ignore::glue_lrs.errors.UnusedOptionWarning")
def test_the_panel_adds_a_background_and_sets_method_and_correction(app: ExtractionApp) -> None:
    panel = app.panel
    assert not app.profile.background.visible
    panel.buttons["Add background"].click()
    assert app.background.bkg_fit == "median"
    assert "background at columns " in panel.message.value
    assert app.profile.background.visible
    level = app.extraction.columns["BACKGROUND"]
    assert np.nanmin(level) <= np.mean(app.profile.background.y) <= np.nanmax(level)
    assert "sky included" not in panel.results.value
    panel.correction.value = "profile"
    assert app.extract.correction == "profile"
    assert "flux × " in panel.results.value
    panel.correction.value = "none"
    assert not app.extract.apply_apcorr
    assert "no correction: switched off" in panel.results.value
    panel.method.value = "psf"  # there is no PSF reference
    assert app.extract.mode == "box"
    assert panel.method.value == "box"
    assert "needs a PSF reference" in panel.message.value
    panel.method.value = "learned"
    assert app.extract.mode == "learned"
    assert_shows(app.live, app.extract)


def test_a_run_of_a_cell_may_open_several(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = [1]
    monkeypatch.setattr("glue_lrs.viewers.jupyter.app._cell", lambda: "cell")
    monkeypatch.setattr("glue_lrs.viewers.jupyter.app._cell_run", lambda: run[0])
    first, second = extraction_app(path, show=False), extraction_app(path, show=False)
    assert not first.closed
    run[0] = 2
    third = extraction_app(path, show=False)
    assert (first.closed, second.closed, third.closed) == (True, True, False)
    third.close()


def test_a_closed_application_refuses_changes(path: Path) -> None:
    app = extraction_app(path, show=False)
    app.close()
    for change in (
        lambda: setattr(app, "aperture", Aperture(xstart=3, xstop=5)),
        lambda: app.set(xstart=3),
        lambda: app.compare(None),
    ):
        with pytest.raises(LRSError, match="the application is closed"):
            change()


def test_the_limits_contain_a_comparison(app: ExtractionApp, tmp_path: Path) -> None:
    bright = replace(app.extraction, columns=dict(app.extraction.columns))
    bright.columns["FLUX"] = 10.0 * np.asarray(bright.columns["FLUX"])
    bright.write(tmp_path / "bright_x1d.fits")
    app.compare(tmp_path / "bright_x1d.fits")
    assert app.spectrum_viewer.scale_y.max > np.nanmax(app.spectrum_viewer.comparison_line.y)


# --- residual, correction, comparison, findings ---------------------------------------------------


def test_the_residual_is_a_layer_of_the_image(app: ExtractionApp) -> None:
    toggle = app.panel.residual
    toggle.value = True
    layer = app.image.state.layers[-1]
    assert layer.layer is app.live.residual_data
    assert (layer.v_min, layer.v_max) == (-app.live.residual_limit, app.live.residual_limit)
    assert "rejected" in app.panel.message.value  # a note about the fit
    before = app.live.residual_data["residual"].copy()
    drag(app.image, (UPPER, 12.0), (UPPER + 2.0, 12.0))
    np.testing.assert_array_equal(app.live.residual_data["residual"], before)
    toggle.value = False
    assert [one.layer for one in app.image.state.layers] == [app.live.data]
    app.live.residual()
    assert toggle.value


def test_the_residual_belongs_to_one_integration(stacked: ExtractionApp) -> None:
    stacked.panel.slider.value = 2
    stacked.panel.residual.value = True
    assert stacked.live.residual_shown
    stacked.panel.slider.value = 3
    assert not stacked.panel.residual.value
    assert len(stacked.image.state.layers) == 1


def test_the_aperture_correction_is_a_file(app: ExtractionApp, path: Path) -> None:
    wavelength, size = np.linspace(4.0, 15.0, 12), np.array([1.0, 50.0])
    correction = ApertureCorrection(
        wavelength=wavelength, size=size, factor=np.full((12, 2), 1.25), subarray="FULL"
    )
    write_apcorr(correction, path.parent / "test_apcorr.fits")
    panel, before = app.panel, app.spectrum_viewer.line.y.copy()
    assert panel.apcorr.placeholder == "APCORR: none"
    panel.apcorr.value = "test_apcorr.fits"
    panel.buttons["APCORR"].click()
    np.testing.assert_allclose(app.spectrum_viewer.line.y, 1.25 * before)
    assert panel.apcorr.placeholder == "APCORR: test_apcorr.fits"
    panel.apcorr.value = "missing_apcorr.fits"
    panel.buttons["APCORR"].click()
    assert "missing_apcorr.fits" in panel.message.value
    app.load_apcorr(None)
    np.testing.assert_allclose(app.spectrum_viewer.line.y, before)


def test_a_comparison_in_another_unit_is_converted_or_named(app: ExtractionApp) -> None:
    flux = app.spectrum.flux.to(u.Jy)
    wavelength = app.spectrum.spectral_axis.to(u.um)
    density = flux.to(u.W / u.m**2 / u.um, u.spectral_density(wavelength))
    for name, values, unit in (
        ("milli", flux.to_value(u.mJy), "mJy"),
        ("density", density.value, "W / (m2 um)"),
        ("bright", flux.value, "MJy / sr"),
    ):
        data = Data(label=name)
        data.add_component(Component(wavelength.value, units="um"), "wavelength")
        data.add_component(Component(values, units=unit), "flux")
        app.glue.data_collection.append(data)
        app.compare(data)
        line, text = app.spectrum_viewer.comparison_line, app.panel.results.value
        assert line.visible == (name != "bright")
        if line.visible:
            extracted = app.spectrum_viewer.line
            expected = extracted.y[np.argsort(extracted.x)]
            np.testing.assert_allclose(line.y, expected, rtol=1e-6)
            assert f"flux / {name} 1.0000" in text
        else:
            assert f"{name}: in MJy/sr, not comparable" in text


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("aperture", (3, 9), "aperture is .3, 9., expected Aperture"),
        ("aperture", None, "aperture is None, expected Aperture"),
        ("background", 3, "background is 3, expected Background or None"),
        ("extract", "box", "extract is 'box', expected Extract1D"),
    ],
)
def test_values_of_a_wrong_type_are_refused(
    app: ExtractionApp, name: str, value: object, expected: str
) -> None:
    before = app.extract
    with pytest.raises(LRSError, match=expected):
        setattr(app, name, value)
    with pytest.raises(LRSError, match="comparison is 3, expected"):
        app.compare(3)
    with pytest.raises(LRSError, match="glue is 3, expected JupyterApplication"):
        extraction_app(stack(), glue=3, show=False)
    assert app.extract is before


def test_the_findings_are_those_of_all_checks(app: ExtractionApp) -> None:
    app.aperture = Aperture(xstart=20, xstop=27)
    assert "source_outside" in {one.kind for one in app.findings}
    assert "source" in app.panel.message.value
    app.close()
    assert app.findings == tuple(app.live.findings)


def test_a_closed_application_is_shown_as_text(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = extraction_app(path, show=False)
    app.close()
    app._ipython_display_()
    assert capsys.readouterr().out == "<ExtractionApp of nod1_s2d, closed>\n"
    with pytest.raises(LRSError, match="the application is closed"):
        app.show()
