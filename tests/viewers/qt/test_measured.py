"""Measured apertures and the residual, by buttons of the panel and tools of the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from glue_qt.app import GlueApplication
from matplotlib import colormaps
from qtpy import QtCore, QtTest

from glue_lrs.image.slit_image import SlitImage
from glue_lrs.viewers.live import actions, live_extraction
from glue_lrs.viewers.live.registry import live_for
from glue_lrs.viewers.qt.tab import open_tab
from tests.helpers.pointer import Tab, button, drag, settle
from tests.helpers.screen import pixels, redrawn, screen

pytestmark = pytest.mark.usefixtures("quiet")


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


def test_the_panel_shows_the_measurement(live: Any, tab: Tab, panel: Any) -> None:
    assert panel.position.measured_label.text() == "not measured yet"
    click(panel, "Measure")
    for row in (60.0, 300.0):
        live.cursor_row = row
        settle(0.1)
        wave = float(live.row_wavelength[int(row)])
        assert panel.position.measured_label.text() == f"measured: {live.measured.line(wave)}"
    assert "aperture of best signal to noise" in panel.position.measured_label.toolTip()


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
    assert "from the header position" in panel.message.text()
    assert "use_source_posn" not in panel.message.text()
    assert "aperture +2.0" in panel.position.source_label.text()


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
    assert "the header's position is used" in panel.message.text()


def test_dragging_measures_and_fits_nothing(
    live: Any, tab: Tab, panel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    click(panel, "Measure")
    click(panel, "Residual")
    calls: list[str] = []
    for module, name in ((actions, "fit_residual"), (live_extraction, "measure_with_growth")):
        monkeypatch.setattr(module, name, lambda *_, name=name: calls.append(name))
    kept = live.residual_data["residual"].copy()
    edge = live.regions[0].upper[0]
    drag(tab.image, [(edge, 150), (edge + 1, 150), (edge + 2, 150)])
    settle(0.1)
    assert live.regions[0].upper[0] > edge + 1
    assert calls == []
    assert panel.position.residual_button.isChecked()
    np.testing.assert_array_equal(live.residual_data["residual"], kept)


# --- the residual --------------------------------------------------------------------------------


def test_the_residual_is_a_layer_in_its_colours(live: Any, tab: Tab, panel: Any) -> None:
    """Each pixel has the colour of its residual: red is positive, blue negative."""
    for _ in range(2):  # glue's lists take their final width when a layer is added
        click(panel, "Residual")
    settle(0.2)
    before = redrawn(tab.image)
    click(panel, "Residual")
    assert panel.position.residual_button.isChecked()
    (layer,) = residual_layers(tab.image, live)
    assert layer.enabled
    state = layer.state
    assert state.attribute.label == "residual"
    assert state.cmap.name == "RdBu_r"
    assert state.v_min == -state.v_max == -live.residual_limit < 0
    assert tab.image.status.hint == ""
    redrawn(tab.image)
    tab.image.redraw_image()
    redrawn(tab.image)
    residual = live.residual_data["residual"]
    # apart from the edges and handles of the aperture
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
    for values in (scaled, 1 - scaled):  # the reversed map must not fit
        colours = colormaps["RdBu_r"](values)[:, :3]
        # a row has little more than one screen pixel: accept the adjacent ones
        away = [np.abs(picture[down + n, across] - colours).max(axis=1) for n in (-1, 0, 1)]
        shares.append((np.min(away, axis=0) < 0.05)[strong].mean())
    assert shares[0] > 0.9
    assert shares[1] < 0.3
    # hidden again: every pixel is restored
    click(panel, "Residual")
    assert not panel.position.residual_button.isChecked()
    assert residual_layers(tab.image, live) == []
    np.testing.assert_array_equal(redrawn(tab.image), before)


def test_the_labels_are_written_once(live: Any, tab: Tab, panel: Any) -> None:
    settle(0.2)
    number = len(tab.image.axes._all_coords)
    click(panel, "Residual")
    assert len(tab.image.axes._all_coords) == number == 2


def test_the_tool_and_the_button_are_one(live: Any, tab: Tab, panel: Any) -> None:
    tab.image.toolbar.actions["lrs:residual"].trigger()
    settle(0.1)
    assert panel.position.residual_button.isChecked()
    assert len(residual_layers(tab.image, live)) == 1
    tab.image.toolbar.actions["lrs:residual"].trigger()
    settle(0.1)
    assert not panel.position.residual_button.isChecked()
    assert residual_layers(tab.image, live) == []


def test_a_deleted_layer_is_off(live: Any, tab: Tab, panel: Any) -> None:
    click(panel, "Residual")
    (layer,) = residual_layers(tab.image, live)
    tab.image._layer_artist_container.remove(layer)  # as glue's list of layers does
    settle(0.1)
    assert not live.residual_shown
    assert not panel.position.residual_button.isChecked()
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
    QtTest.QTest.mouseClick(panel.position.residual_button, QtCore.Qt.LeftButton)
    assert not panel.position.residual_button.isChecked()
    assert panel.message.view.lines[0].severity == "error"
    assert "\n" not in panel.message.text()


# --- robustness ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["s2d", "calints"])
def test_remove_the_image(app: Any, products: dict[str, Path], kind: str) -> None:
    """Its viewers are closed; the residual stays as an ordinary dataset."""
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
    assert not panel.position.residual_button.isChecked()
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
    assert again.panel.panel.position.residual_button.isChecked()
    assert len(residual_layers(again.image, live)) == 1


def test_two_files(app: Any, live: Any, tab: Tab, products: dict[str, Path]) -> None:
    other = open_tab(app, products["calints"])
    second = Tab(app, other)
    click(second.panel.panel, "Residual")
    assert len(residual_layers(second.image, other)) == 1
    assert len(tab.image.layers) == 1
    assert not tab.panel.panel.position.residual_button.isChecked()


def test_a_stack(app: Any, products: dict[str, Path]) -> None:
    """The residual is that of the integration shown, and hidden with another one."""
    live = open_tab(app, products["calints"])
    tab = Tab(app, live)
    panel = tab.panel.panel
    panel.stack.median.setChecked(True)
    click(panel, "Residual")
    (layer,) = residual_layers(tab.image, live)
    assert layer.enabled
    redrawn(tab.image)
    assert layer.enabled
    panel.stack.median.setChecked(False)
    settle(0.1)
    assert not panel.position.residual_button.isChecked()
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
    second = Tab(back, again)
    assert second.panel.panel.position.residual_button.isChecked()
    (layer,) = residual_layers(second.image, again)
    assert (layer.state.v_min, layer.state.v_max) == (-7.0, 7.0)
    assert layer.state.cmap.name == "RdBu_r"
    click(second.panel.panel, "Residual")
    assert len(second.image.layers) == 1
