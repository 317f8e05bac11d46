"""Measured apertures and the residual by the buttons of the panel and the tools of the image."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from glue_qt.app import GlueApplication
from matplotlib import colormaps
from qtpy import QtCore, QtTest, QtWidgets

from glue_lrs.image.slit_image import SlitImage
from glue_lrs.viewers.live import live_extraction as live_module
from glue_lrs.viewers.live.registry import live_for
from glue_lrs.viewers.qt.tab import open_tab
from tests.helpers.pointer import Tab, drag, settle
from tests.viewers.qt.test_figures import drawn_anew, pixels, screen
from tests.viewers.qt.test_panel import button


@pytest.fixture(autouse=True)
def quiet(app: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No exception in a slot, a callback or an event; nothing in glue's error console."""
    raised: list[Any] = []
    monkeypatch.setattr(sys, "excepthook", lambda *args: raised.append(args))
    yield
    settle()
    assert raised == []
    assert app._log._text.toPlainText() == ""
    assert QtWidgets.QApplication.overrideCursor() is None


@pytest.fixture
def live(app: Any, products: dict[str, Path]) -> Any:
    return open_tab(app, products["s2d"])


@pytest.fixture
def tab(app: Any, live: Any) -> Tab:
    return Tab(app, live)


@pytest.fixture
def panel(tab: Tab) -> Any:
    return tab.panel.panel


def click(panel: Any, label: str) -> None:
    QtTest.QTest.mouseClick(button(panel, label), QtCore.Qt.LeftButton)
    settle(0.1)


def tool(viewer: Any, menu: str, label: str) -> Any:
    """An entry of a menu of the toolbar."""
    widget = viewer.toolbar.widgetForAction(viewer.toolbar.actions[menu])
    (action,) = [one for one in widget.menu().actions() if one.text() == label]
    return action


def residual_layers(viewer: Any, live: Any) -> list[Any]:
    return [one for one in viewer.layers if one.state.layer is live.residual_data]


# --- apertures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["button", "tool"])
@pytest.mark.parametrize(
    ("label", "make"),
    [
        ("3 × FWHM", lambda m, c: m.tapered(3.0)),
        ("Best S/N", lambda m, c: m.box(c.best)),
    ],
)
def test_measured_apertures(
    app: Any, live: Any, tab: Tab, panel: Any, by: str, label: str, make: Any
) -> None:
    before = live.extract
    if by == "button":
        click(panel, label)
    else:
        tool(tab.image, "lrs:aperture", label).trigger()
    measured = live.measured
    assert live.aperture == make(measured.measurement, measured.curve)
    assert tab.image.editor.regions == live.regions
    app._actions["undo"].trigger()
    assert live.extract == before
    app._actions["redo"].trigger()
    assert live.aperture == make(measured.measurement, measured.curve)


def test_the_panel_tells_what_was_measured(live: Any, tab: Tab, panel: Any) -> None:
    assert panel.measured_label.text() == "not measured yet"
    click(panel, "Measure")
    for row in (60.0, 300.0):
        live.cursor_row = row
        settle(0.1)
        wave = float(live.row_wavelength[int(row)])
        assert panel.measured_label.text() == f"measured: {live.measured.line(wave)}"
    assert "aperture of best signal to noise" in panel.measured_label.toolTip()


def test_the_measured_source_and_the_header_disagree(
    app: Any, products: dict[str, Path], tmp_path: Path
) -> None:
    image = SlitImage.read(products["s2d"])
    path = tmp_path / "away_s2d.fits"
    replace(image, data=np.roll(image.data, 2, axis=1)).write(path)
    live = open_tab(app, path)
    panel = Tab(app, live).panel.panel
    tool(Tab(app, live).image, "lrs:aperture", "To the source").trigger()
    settle(0.1)
    assert panel.message.text().startswith("the source is +2.0")
    assert "from where the header puts it" in panel.message.text()
    assert "use_source_posn" not in panel.message.text()
    assert "aperture +2.0" in panel.source_label.text()


def test_nothing_to_measure_is_a_line(app: Any, products: dict[str, Path], tmp_path: Path) -> None:
    image = SlitImage.read(products["s2d"])
    noise = np.random.default_rng(3).normal(0.0, 1.0, image.shape).astype(np.float32)
    path = tmp_path / "empty_s2d.fits"
    replace(image, data=noise).write(path)
    live = open_tab(app, path)
    panel = Tab(app, live).panel.panel
    before = live.extract
    for label in ("Measure", "3 × FWHM", "Best S/N"):
        click(panel, label)
        assert "source" in panel.message.text()
        assert "\n" not in panel.message.text()
    assert live.extract == before
    click(panel, "To the source")
    assert "the header's position is taken" in panel.message.text()


def test_dragging_measures_and_fits_nothing(
    live: Any, tab: Tab, panel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    click(panel, "Measure")
    click(panel, "Residual")
    asked: list[str] = []
    for name in ("fit_residual", "measured_of"):
        monkeypatch.setattr(live_module, name, lambda *_, name=name: asked.append(name))
    kept = live.residual_data["residual"].copy()
    edge = live.regions[0].upper[0]
    drag(tab.image, [(edge, 150), (edge + 1, 150), (edge + 2, 150)])
    settle(0.1)
    assert live.regions[0].upper[0] > edge + 1
    assert asked == []
    assert panel.residual.isChecked()
    np.testing.assert_array_equal(live.residual_data["residual"], kept)


# --- the residual --------------------------------------------------------------------------------


def test_the_residual_is_a_layer_in_its_colours(live: Any, tab: Tab, panel: Any) -> None:
    """Every pixel of the image has the colour of its residual: red is plus, blue is minus."""
    settle(0.2)
    before = drawn_anew(tab.image)
    click(panel, "Residual")
    assert panel.residual.isChecked()
    (layer,) = residual_layers(tab.image, live)
    assert layer.enabled
    state = layer.state
    assert state.attribute.label == "residual"
    assert state.cmap.name == "RdBu_r"
    assert state.v_min == -state.v_max == -live.residual_limit < 0
    assert tab.image.statusBar().currentMessage() == ""
    drawn_anew(tab.image)
    tab.image._redraw_image()
    drawn_anew(tab.image)
    residual = live.residual_data["residual"]
    # away from the lines and handles of the aperture
    (_, right), (bottom, top) = live.image.bounding_box
    free = np.zeros(residual.shape, dtype=bool)
    low, high = live.regions[0].lower[0], live.regions[0].upper[0]
    free[int(bottom) + 40 : int(top) - 40 : 7, int(high) + 4 : int(right) - 3 : 2] = True
    assert low > 0
    rows, columns = np.nonzero(free & np.isfinite(residual))
    assert rows.size > 50
    down, across = screen(tab.image, columns, rows)
    picture = pixels(tab.image) / 255
    scaled = np.clip((residual[rows, columns] / live.residual_limit + 1) / 2, 0, 1)
    strong = np.abs(scaled - 0.5) > 0.15
    assert strong.sum() > 20
    shares = []
    for values in (scaled, 1 - scaled):  # the other way round must not fit
        colours = colormaps["RdBu_r"](values)[:, :3]
        # a row has little more than a pixel of the screen: the next one may be its own
        away = [np.abs(picture[down + n, across] - colours).max(axis=1) for n in (-1, 0, 1)]
        shares.append((np.min(away, axis=0) < 0.05)[strong].mean())
    assert shares[0] > 0.9
    assert shares[1] < 0.3
    # off again: as it was before, pixel by pixel
    click(panel, "Residual")
    assert not panel.residual.isChecked()
    assert residual_layers(tab.image, live) == []
    np.testing.assert_array_equal(drawn_anew(tab.image), before)


def test_the_labels_are_written_once(live: Any, tab: Tab, panel: Any) -> None:
    settle(0.2)
    number = len(tab.image.axes._all_coords)
    click(panel, "Residual")
    assert len(tab.image.axes._all_coords) == number == 2


def test_the_tool_and_the_button_are_one(live: Any, tab: Tab, panel: Any) -> None:
    tab.image.toolbar.actions["lrs:residual"].trigger()
    settle(0.1)
    assert panel.residual.isChecked()
    assert len(residual_layers(tab.image, live)) == 1
    tab.image.toolbar.actions["lrs:residual"].trigger()
    settle(0.1)
    assert not panel.residual.isChecked()
    assert residual_layers(tab.image, live) == []


def test_a_deleted_layer_is_off(live: Any, tab: Tab, panel: Any) -> None:
    click(panel, "Residual")
    (layer,) = residual_layers(tab.image, live)
    tab.image._layer_artist_container.remove(layer)  # as glue's list of layers does
    settle(0.1)
    assert not live.residual_shown
    assert not panel.residual.isChecked()
    click(panel, "Residual")
    assert len(residual_layers(tab.image, live)) == 1


def test_a_subset_is_drawn_once(live: Any, tab: Tab, panel: Any) -> None:
    click(panel, "Residual")
    live.select(7.0, 9.0)
    settle(0.1)
    owners = [one.layer.data for one in tab.image.layers if one.layer is not one.layer.data]
    assert owners == [live.data]
    (subset,) = live.residual_data.subsets  # other viewers have it
    assert subset.to_mask().any()


def test_an_image_that_cannot_be_fitted_is_a_line(live: Any, panel: Any) -> None:
    flux = np.full(live.data.shape, np.nan)
    live.data.update_components({live.data.id["flux"]: flux})
    settle(0.1)
    QtTest.QTest.mouseClick(panel.residual, QtCore.Qt.LeftButton)
    assert not panel.residual.isChecked()
    assert panel.message.text()
    assert "\n" not in panel.message.text()


# --- nothing is lost -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["s2d", "calints"])
def test_remove_the_image(app: Any, products: dict[str, Path], kind: str) -> None:
    """Its viewers go though the residual is shown; that stays as an ordinary dataset."""
    live = open_tab(app, products[kind])
    click(Tab(app, live).panel.panel, "Residual")
    residual = live.residual_data
    app.data_collection.remove(live.data)
    settle(0.2)
    assert live.closed
    assert list(app.data_collection) == [live.spectrum_data, residual]
    assert [type(v).__name__ for page in app.viewers for v in page] == ["LRSSpectrumViewer"]


def test_remove_the_residual(app: Any, live: Any, tab: Tab, panel: Any) -> None:
    click(panel, "Residual")
    app.data_collection.remove(live.residual_data)
    settle(0.1)
    assert not panel.residual.isChecked()
    assert len(tab.image.layers) == 1
    edge = live.regions[0].upper[0]
    drag(tab.image, [(edge, 150), (edge + 2, 150)])
    assert live.regions[0].upper[0] > edge + 1


def test_close_the_tab(app: Any, live: Any, tab: Tab, panel: Any) -> None:
    click(panel, "Residual")
    kept = live.residual_data
    app.new_tab()
    app.close_tab(0, warn=False)
    settle(0.1)
    assert kept in app.data_collection
    open_tab(app, live.data)
    again = Tab(app, live)
    assert live.residual_shown
    assert again.panel.panel.residual.isChecked()
    assert len(residual_layers(again.image, live)) == 1


def test_two_files(app: Any, live: Any, tab: Tab, products: dict[str, Path]) -> None:
    other = open_tab(app, products["calints"])
    beside = Tab(app, other)
    click(beside.panel.panel, "Residual")
    assert len(residual_layers(beside.image, other)) == 1
    assert len(tab.image.layers) == 1
    assert not tab.panel.panel.residual.isChecked()


def test_a_stack(app: Any, products: dict[str, Path]) -> None:
    """Of what is shown; another integration ends it."""
    live = open_tab(app, products["calints"])
    tab = Tab(app, live)
    panel = tab.panel.panel
    panel.median.setChecked(True)
    click(panel, "Residual")
    (layer,) = residual_layers(tab.image, live)
    assert layer.enabled
    drawn_anew(tab.image)
    assert layer.enabled
    panel.median.setChecked(False)
    settle(0.1)
    assert not panel.residual.isChecked()
    assert residual_layers(tab.image, live) == []
    click(panel, "Best S/N")
    assert live.aperture == live.measured.measurement.box(live.measured.curve.best)


@pytest.mark.parametrize("kind", ["s2d", "calints"])
def test_session(
    make_app: Callable[..., Any], products: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    app = make_app()
    live = open_tab(app, products[kind])
    tab = Tab(app, live)
    click(tab.panel.panel, "3 × FWHM")
    click(tab.panel.panel, "Residual")
    (layer,) = residual_layers(tab.image, live)
    layer.state.v_min, layer.state.v_max = -7.0, 7.0
    path = tmp_path / "session.glu"
    app.save_session(str(path))
    back = GlueApplication.restore_session(str(path), show=False)
    make_app(back)
    image = next(data for data in back.data_collection if data.label == live.data.label)
    again = live_for(back.session, image)
    assert again.extract == live.extract
    beside = Tab(back, again)
    assert beside.panel.panel.residual.isChecked()
    (layer,) = residual_layers(beside.image, again)
    assert (layer.state.v_min, layer.state.v_max) == (-7.0, 7.0)
    assert layer.state.cmap.name == "RdBu_r"
    click(beside.panel.panel, "Residual")
    assert len(beside.image.layers) == 1
