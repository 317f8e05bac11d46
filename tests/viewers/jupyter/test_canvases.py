"""The application on canvases of ipympl: events arrive as a browser sends them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from ipympl.backend_nbagg import Canvas
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.image import imread

from glue_lrs import Aperture, Background, LRSError
from glue_lrs.plotting.image import plot_image
from glue_lrs.viewers import ExtractionApp, extraction_app
from tests.helpers.images import COLUMNS, SOURCE, saved, stack
from tests.helpers.ipympl import Browser, moved, open_widgets, seen
from tests.helpers.live import assert_shows

#: Edges of the default aperture of `slit`: 8 columns around the source.
LOWER, UPPER = SOURCE - 4.0, SOURCE + 4.0

#: Tolerance of columns: regions have two digits.
DIGITS = 0.011


@pytest.fixture
def app(path: Path) -> Iterator[ExtractionApp]:
    app = extraction_app(path, backend="ipympl", show=False)
    yield app
    app.close()


@pytest.fixture
def browser(app: ExtractionApp) -> Browser:
    return Browser(app)


def drawn(app: ExtractionApp, region: int = 0) -> np.ndarray:
    """Columns of the edges of a region that the image shows."""
    columns = app.image.editor.artists[region].edges.get_xdata()
    return np.unique(np.round(columns[np.isfinite(columns)], 6))


def assert_edges(app: ExtractionApp, *expected: float) -> None:
    """The image shows the aperture with these edges, and the operator has it."""
    np.testing.assert_allclose(drawn(app), expected, atol=DIGITS)
    limits = app.aperture.xstart - 0.5, app.aperture.xstop + 0.5
    np.testing.assert_allclose(limits, expected, atol=DIGITS)


def assert_plotted(app: ExtractionApp) -> None:
    """The plot shows the fluxes of the extraction."""
    factor = {"µJy": 1e6, "mJy": 1e3, "Jy": 1.0}[app.spectrum_viewer.plot.unit]
    flux = np.asarray(app.extraction.columns["FLUX"]) * factor
    np.testing.assert_allclose(app.spectrum_viewer.plot.line.get_ydata(), flux)


# --- drags ---------------------------------------------------------------------------------------


def test_an_edge_is_dragged_and_the_spectrum_follows(app: ExtractionApp, browser: Browser) -> None:
    image, before = app.image, app.spectrum
    browser.send(image, "motion_notify", UPPER, 12.0, buttons=0)
    assert image.canvas._cursor == "ew-resize"
    browser.reset()
    browser.send(image, "button_press", UPPER, 12.0)
    for step in range(1, 11):
        browser.send(image, "motion_notify", UPPER + 0.1 * step, 12.0)
        to = UPPER + moved(image, UPPER, UPPER + 0.1 * step)
        np.testing.assert_allclose(drawn(app), [LOWER, to], atol=DIGITS)
        assert_plotted(app)
    assert app.extraction.findings == ()  # the checks are made on release
    assert app.spectrum.flux[3] == before.flux[3]  # nothing is committed during the drag
    assert browser.draws[image] == browser.draws[app.profile] == 0  # only the regions are drawn
    assert browser.frames[image] == 11
    browser.send(image, "button_release", UPPER + 2.0, 12.0, buttons=0)
    assert_edges(app, LOWER, UPPER + moved(image, UPPER, UPPER + 2.0))
    assert_shows(app.live, app.extract)
    assert_plotted(app)
    assert app.panel.xstop.value == app.aperture.xstop
    assert "no background was subtracted" in app.panel.message.value


def test_moves_within_a_short_time_are_one_frame(
    app: ExtractionApp, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[Timer] = []

    class Timer:
        def __init__(self, delay: float, function: Callable[[], None]) -> None:
            self.delay, self.function = delay, function
            waiting.append(self)

        def cancel(self) -> None:
            waiting.remove(self)

    class Loop:
        call_later = Timer

    monkeypatch.setattr("glue_lrs.viewers.jupyter.timing.get_ioloop", Loop)
    image, spectrum, profile = browser.figures
    browser.send(image, "button_press", UPPER, 12.0)
    for step in (1.0, 2.0, 3.0):
        browser.send(image, "motion_notify", UPPER + step, 12.0)
    assert browser.frames[image] == browser.frames[profile] == 0
    first, last = sorted({timer.delay for timer in waiting})
    for timer in [one for one in waiting if one.delay == first]:
        timer.function()
    assert browser.frames[image] == 1
    assert browser.frames[spectrum] > 0
    assert browser.frames[profile] == 0  # it is not under the mouse
    for timer in [*waiting]:
        assert timer.delay == last
        timer.function()
    assert browser.frames[profile] == 1
    browser.send(image, "motion_notify", UPPER + 1.0, 12.0)
    app.close()
    assert not waiting


def test_a_move_from_before_the_press_does_not_end_the_drag(
    app: ExtractionApp, browser: Browser
) -> None:
    browser.drag(app.image, (LOWER, 12.0), (LOWER, 12.0))  # buttons are reported
    browser.send(app.image, "button_press", UPPER, 12.0)
    browser.send(app.image, "motion_notify", UPPER - 0.5, 12.0, buttons=0)
    browser.send(app.image, "motion_notify", UPPER + 2.0, 12.0)
    assert app.image.editor.busy
    browser.send(app.image, "motion_notify", UPPER + 5.0, 12.0, buttons=0)  # released elsewhere
    assert not app.image.editor.busy
    assert_edges(app, LOWER, UPPER + moved(app.image, UPPER, UPPER + 2.0))


def test_a_drag_in_the_slit_profile(app: ExtractionApp, browser: Browser) -> None:
    y = app.profile.editor.geometry.frame.at_height(0.3)
    browser.drag(app.profile, (LOWER, y), (LOWER - 0.5, y), (LOWER - 1.0, y))
    assert_edges(app, LOWER + moved(app.profile, LOWER, LOWER - 1.0), UPPER)


def test_background_regions_are_drawn_and_deleted(app: ExtractionApp, browser: Browser) -> None:
    app.panel.adding.value = True
    browser.drag(app.image, (30.0, 10.0), (33.0, 10.0), (36.0, 10.0))
    assert not app.panel.adding.value
    edges = [seen(app.image, column)[0] for column in (30.0, 36.0)]
    np.testing.assert_allclose(np.ravel(app.background.bkg_coeff), edges, atol=DIGITS)
    np.testing.assert_allclose(drawn(app, 1), edges, atol=DIGITS)
    browser.drag(app.image, (edges[1], 10.0), (38.0, 10.0))
    assert app.background.bkg_coeff[1][0] == pytest.approx(38.0, abs=0.3)
    browser.press(app.image, "kDelete")
    assert app.background is None
    assert len(app.image.editor.artists) == 1


def test_keys_move_the_region_and_not_the_limits(app: ExtractionApp, browser: Browser) -> None:
    browser.tool(app.image, "zoom")
    browser.drag(app.image, (2.0, 2.0), (30.0, 30.0))
    browser.tool(app.image, "zoom")
    limits = app.image.axes.get_xlim()
    np.testing.assert_allclose(limits, [2.0, 30.0], atol=0.2)
    browser.drag(app.image, (SOURCE, 12.0))  # the figure has the focus, the region is selected
    browser.press(app.image, "kArrowRight", "kArrowRight", "shift+kArrowLeft")
    assert app.aperture == Aperture(xstart=8.0, xstop=15.0)
    row = app.live.cursor_row
    browser.press(app.image, "kArrowUp")
    assert app.live.cursor_row == row + 1.0
    assert app.image.axes.get_xlim() == limits


def test_a_range_is_selected_in_the_spectrum(app: ExtractionApp, browser: Browser) -> None:
    spectrum = app.spectrum_viewer
    y = float(np.mean(spectrum.axes.get_ylim()))
    browser.drag(spectrum, (8.0, y), (8.5, y), (9.0, y))
    ((low, high),) = app.live.wavelength_ranges
    assert (low, high) == pytest.approx((seen(spectrum, 8.0)[0], seen(spectrum, 9.0)[0]))
    assert app.image.editor.range_patch.get_visible()
    browser.drag(spectrum, (7.0, y))
    row = float(app.live.wavelengths.row(seen(spectrum, 7.0)[0]))
    assert app.live.cursor_row == pytest.approx(row)
    browser.double_click(spectrum, 8.5, y)
    assert app.live.wavelength_ranges == ()
    assert not spectrum.plot.busy


def test_a_double_click_leaves_no_drag(app: ExtractionApp, browser: Browser) -> None:
    browser.double_click(app.image, UPPER, 12.0)
    assert not app.image.editor.busy
    browser.send(app.image, "motion_notify", UPPER + 3.0, 12.0, buttons=0)
    np.testing.assert_allclose(drawn(app), [LOWER, UPPER])


def test_a_click_beside_the_regions_moves_the_crosshair(
    app: ExtractionApp, browser: Browser
) -> None:
    profile = app.profile.editor.line.get_ydata().copy()
    browser.drag(app.image, (30.0, 5.0), (30.0, 9.0))
    row = app.live.cursor_row
    assert row == pytest.approx(seen(app.image, 30.0, 9.0)[1])
    wavelength = float(app.live.wavelengths.at(row))
    np.testing.assert_allclose(app.spectrum_viewer.plot.cursor.get_xdata(), wavelength)
    assert not np.array_equal(app.profile.editor.line.get_ydata(), profile)


# --- limits, toolbar, readout --------------------------------------------------------------------


def test_tools_have_the_mouse_and_home_shows_everything(
    app: ExtractionApp, browser: Browser
) -> None:
    for figure in browser.figures:
        whole = figure.axes.get_xlim(), figure.axes.get_ylim()
        (left, right), (bottom, top) = whole
        corners = [
            (left + part * (right - left), bottom + part * (top - bottom)) for part in (0.3, 0.6)
        ]
        browser.tool(figure, "zoom")
        browser.drag(figure, *corners)
        np.testing.assert_allclose(drawn(app), [LOWER, UPPER])
        assert figure.axes.get_ylim() != whole[1]
        browser.tool(figure, "zoom")
        browser.tool(figure, "home")
        np.testing.assert_allclose([figure.axes.get_xlim(), figure.axes.get_ylim()], whole)
    browser.drag(app.image, (UPPER, 12.0), (UPPER + 2.0, 12.0))
    assert_edges(app, LOWER, UPPER + moved(app.image, UPPER, UPPER + 2.0))


def test_the_wheel_zooms(app: ExtractionApp, browser: Browser) -> None:
    assert app.image.canvas.capture_scroll
    assert app.image.axes.get_xlim() == (-1.5, COLUMNS + 0.5)
    browser.send(app.image, "scroll", 12.0, 12.0, buttons=0, step=1)
    assert np.ptp(app.image.axes.get_xlim()) == pytest.approx((COLUMNS + 2.0) / 1.2)


def test_the_margins_are_kept_when_a_canvas_is_resized(
    app: ExtractionApp, browser: Browser
) -> None:
    before = app.image.axes.bbox
    left, right = before.x0, app.image.figure.bbox.width - before.x1
    browser._message(app.image, {"type": "resize", "width": 600, "height": 700})
    browser.settle()
    after = app.image.axes.bbox
    assert app.image.figure.bbox.width == pytest.approx(600.0)
    assert (after.x0, 600.0 - after.x1) == pytest.approx((left, right))
    browser.drag(app.image, (UPPER, 12.0), (UPPER + 2.0, 12.0))
    assert_edges(app, LOWER, UPPER + moved(app.image, UPPER, UPPER + 2.0))


def test_a_screen_of_high_resolution(
    app: ExtractionApp, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Canvas, "current_dpi_ratio", 1.0)  # the canvas sets it
    before = np.array(app.image.axes.bbox.bounds)
    browser._message(app.image, {"type": "set_dpi_ratio", "dpi_ratio": 2.0})
    browser.settle()
    np.testing.assert_allclose(app.image.axes.bbox.bounds, 2.0 * before)
    browser.reset()
    browser.drag(app.image, (UPPER, 12.0), (UPPER + 1.0, 12.0), (UPPER + 2.0, 12.0))
    assert_edges(app, LOWER, UPPER + moved(app.image, UPPER, UPPER + 2.0))
    assert browser.draws[app.image] == 0


def test_figures_are_saved_without_handles(app: ExtractionApp, browser: Browser) -> None:
    shown = np.array(app.image.canvas.buffer_rgba())
    file = BytesIO()
    app.image.figure.savefig(file)
    saved = (255 * imread(BytesIO(file.getvalue()))).round()
    assert saved.shape == shown.shape
    rows = np.flatnonzero((saved != shown).any(axis=(1, 2)))
    assert 0 < rows.size < 0.5 * len(saved)  # those of the handles


def test_the_place_under_the_mouse_is_described(app: ExtractionApp, browser: Browser) -> None:
    browser.send(app.image, "motion_notify", 12.0, 20.0, buttons=0)
    assert "column 12, row 20" in app.panel.status.value
    assert "aperture weight 1" in app.panel.status.value
    y = float(np.mean(app.spectrum_viewer.axes.get_ylim()))
    wavelength = float(app.live.row_wavelength[20])
    browser.send(app.spectrum_viewer, "motion_notify", wavelength, y, buttons=0)
    assert f"{wavelength:.3f} µm, row 20" in app.panel.status.value
    browser.send(app.spectrum_viewer, "figure_leave", wavelength, y, buttons=0)
    assert "row 20" not in app.panel.status.value


def test_the_grey_scale_is_that_of_figures(app: ExtractionApp) -> None:
    norm = plot_image(app.live.image, ax=Figure().subplots()).images[0].norm
    assert (app.image.picture.norm.vmin, app.image.picture.norm.vmax) == (norm.vmin, norm.vmax)


# --- the next cell, panel, stacks ----------------------------------------------------------------


def test_setting_the_aperture_moves_the_drawing(app: ExtractionApp, browser: Browser) -> None:
    app.aperture = Aperture(xstart=10, xstop=15)
    browser.settle()
    np.testing.assert_allclose(drawn(app), [9.5, 15.5])
    assert_plotted(app)
    assert app.panel.xstart.value == 10.0
    app.background = Background(bkg_coeff=[[30], [36]])
    np.testing.assert_allclose(drawn(app, 1), [30.0, 36.0])
    assert app.profile.editor.background.get_xdata().size
    app.set(xstart=11, bkg_coeff=None)
    app.panel.buttons["Undo"].click()
    app.panel.buttons["Undo"].click()
    app.panel.xstop.value = 14.5
    np.testing.assert_allclose(drawn(app), [9.5, 15.0])


def test_files_are_saved_and_compared(app: ExtractionApp, path: Path) -> None:
    app.panel.buttons["Save x1d"].click()
    assert (path.parent / "nod1_x1d.fits").exists()
    app.compare(path.parent / "nod1_x1d.fits")
    assert app.spectrum_viewer.plot.comparison_line.get_xdata().size
    assert "flux / nod1_x1d.fits 1.0000" in app.panel.results.value


def test_the_residual_is_shown_and_hidden(app: ExtractionApp, browser: Browser) -> None:
    assert not app.image.residual.get_visible()
    app.panel.residual.value = True
    limit = app.live.residual_limit
    assert app.image.residual.get_visible()
    assert app.image.residual.get_clim() == (-limit, limit)
    np.testing.assert_array_equal(
        app.image.residual.get_array().filled(np.nan), app.live.residual_data["residual"]
    )
    app.panel.residual.value = False
    assert not app.image.residual.get_visible()


def test_a_stack_has_a_slider(tmp_path: Path) -> None:
    file = saved(stack(), tmp_path / "tso_calints.fits")
    app = extraction_app(file, backend="ipympl", show=False)
    browser = Browser(app)
    first = app.spectrum_viewer.plot.line.get_ydata().copy()
    app.panel.slider.value = 3
    browser.settle()
    assert app.live.integration == 2
    assert browser.draws[app.image] == 1
    pixels = app.image.picture.get_array().filled(np.nan)
    np.testing.assert_array_equal(pixels, app.live.image.data[2])
    assert not np.array_equal(app.spectrum_viewer.plot.line.get_ydata(), first)
    app.panel.median.value = True
    pixels = app.image.picture.get_array().filled(np.nan)
    np.testing.assert_array_equal(pixels, app.live.shown.data)
    app.close()


# --- end -----------------------------------------------------------------------------------------


def test_an_unknown_backend_is_one_line_and_opens_nothing(path: Path, app: ExtractionApp) -> None:
    before = set(open_widgets())
    with pytest.raises(LRSError, match="backend: found 'matplotlib', expected 'bqplot' or"):
        extraction_app(path, backend="matplotlib", show=False)
    assert not set(open_widgets()) - before


def test_closing_leaves_no_observer_no_widget_and_no_figure(path: Path) -> None:
    extraction_app(path, backend="ipympl", show=False).close()  # opens widgets that all share

    def opened() -> list[weakref.ref[object]]:
        app = extraction_app(path, backend="ipympl", show=False)
        browser = Browser(app)
        browser.drag(app.image, (UPPER, 12.0), (UPPER + 2.0, 12.0))
        app.panel.buttons["Measure"].click()
        app.panel.residual.value = True
        parts = [app, app.live, app.panel, app.glue, app.live.data, app.live.image]
        for one in browser.figures:
            parts += [one, one.figure, one.canvas, one.view]
        app.close()
        app.close()
        return [weakref.ref(part) for part in parts]

    before = set(open_widgets())
    references = opened()
    assert not set(open_widgets()) - before
    for _ in range(4):
        gc.collect()
    assert [one() for one in references if one() is not None] == []
    assert plt.get_fignums() == []


def test_a_cell_that_is_run_again_closes_its_application(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = [1]
    monkeypatch.setattr("glue_lrs.viewers.jupyter.app._cell", lambda: "cell")
    monkeypatch.setattr("glue_lrs.viewers.jupyter.app._cell_run", lambda: run[0])
    first = extraction_app(path, backend="ipympl", show=False)
    run[0] = 2
    second = extraction_app(path, backend="ipympl", show=False)
    assert first.closed
    assert first.image.canvas.comm is None
    assert not second.closed
    second.close()


def test_it_follows_viewers_of_the_same_extraction(app: ExtractionApp, browser: Browser) -> None:
    other = ExtractionApp(app.live.data, app.glue)  # bqplot's, in the same application of glue
    other.aperture = Aperture(xstart=10, xstop=15)
    np.testing.assert_allclose(drawn(app), [9.5, 15.5])
    browser.drag(app.image, (15.5, 12.0), (17.5, 12.0))
    upper = 15.5 + moved(app.image, 15.5, 17.5)
    assert_edges(app, 9.5, upper)
    assert other.aperture == app.aperture
    other.close()
    browser.drag(app.image, (upper, 12.0), (16.5, 12.0))
    assert_edges(app, 9.5, upper + moved(app.image, upper, 16.5))
