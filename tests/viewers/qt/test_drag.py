"""Drags on the canvas give the spectrum of Extract1D."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy import QtCore, QtTest, QtWidgets

from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.reference.reference import Reference
from glue_lrs.viewers.qt.tab import open_tab
from tests.helpers.pointer import (
    NONE,
    Tab,
    click,
    double_click,
    drag,
    move,
    moved,
    press,
    release,
    seen,
    settle,
)


def test_open(live: Any, tab: Tab, products: dict[str, Path]) -> None:
    """The default aperture for the file and its spectrum are there at once."""
    image = SlitImage.read(products["s2d"])
    extract = Extract1D.from_reference(None, image.exp_type, apply_apcorr=False)
    assert len(live.regions) == 1
    assert_same(live.extraction, extract.run(image))
    line = tab.spectrum.plot.line.get_xydata()
    assert len(line) == len(live.extraction.wavelength)
    for viewer in tab.all:
        assert viewer.live is live
        assert viewer.isVisibleTo(viewer.parent())


def test_drag_the_body(live: Any, tab: Tab, products: dict[str, Path]) -> None:
    """The aperture's body moves by what the mouse moves, and the spectrum follows."""
    before = live.regions[0]
    left, right = before.lower[0], before.upper[0]
    middle, row = (left + right) / 2, 120.0
    extractions = []
    live.add_callback("extraction", extractions.append)
    drag(tab.image, [(middle, row), (middle + 1, row), (middle + 2.5, row), (middle + 3, row)])
    after = live.regions[0]
    assert after.lower[0] == pytest.approx(left + moved(tab.image, middle, middle + 3), abs=0.011)
    assert after.upper[0] - after.lower[0] == pytest.approx(right - left, abs=0.011)
    assert live.operator == live.extract
    # the limits have two decimals, and the spectrum is exactly that of these limits
    aperture = live.aperture
    assert round(aperture.xstart, 2) == aperture.xstart
    image = SlitImage.read(products["s2d"])
    made = Extract1D.from_reference(
        {
            "apertures": [
                {"id": "MIR_LRS-FIXEDSLIT", "xstart": aperture.xstart, "xstop": aperture.xstop}
            ]
        },
        image.exp_type,
        use_source_posn=False,
        apply_apcorr=False,
    )
    assert_same(live.extraction, made.run(image))
    assert len(extractions) >= 3  # during the drag as well
    assert len({one.columns["FLUX"].tobytes() for one in extractions}) >= 3


def test_drag_an_edge(live: Any, tab: Tab) -> None:
    """During the drag, the spectrum drawn is that of the edge under the mouse."""
    region = live.regions[0]
    edge, row = region.upper[0], 150.0
    tab.image.figure.canvas.draw()
    press(tab.image, edge, row)
    for step in (0.5, 1.0, 1.5, 2.0):
        move(tab.image, edge + step, row)
        between = live.regions[0]
        shift = moved(tab.image, edge, edge + step)
        assert between.upper[0] == pytest.approx(edge + shift, abs=0.011)
        assert between.lower[0] == pytest.approx(region.lower[0], abs=0.006)
        expected = live.operator.run(live.image)
        assert_same(live.extraction, expected)
        assert_drawn(tab, expected)
        assert live.extract != live.operator
    release(tab.image, edge + 2.0, row)
    assert live.extract == live.operator


def test_drag_in_the_profile(live: Any, tab: Tab) -> None:
    """The same edges can be dragged in the profile."""
    region = live.regions[0]
    low, high = tab.profile.axes.get_ylim()
    y = low + 0.3 * (high - low)
    drag(tab.profile, [(region.lower[0], y), (region.lower[0] - 1, y), (region.lower[0] - 2, y)])
    shift = moved(tab.profile, region.lower[0], region.lower[0] - 2)
    assert live.regions[0].lower[0] == pytest.approx(region.lower[0] + shift, abs=0.011)
    assert_same(live.extraction, live.extract.run(live.image))


def test_undo_redo(app: Any, live: Any, tab: Tab) -> None:
    """Undo and redo by the actions of glue."""
    first, one = live.extract, live.extraction
    region = live.regions[0]
    drag(tab.image, [(region.upper[0], 150), (region.upper[0] + 2, 150)])
    second = live.extract
    assert second != first
    app._actions["undo"].trigger()
    assert live.extract == first
    assert_same(live.extraction, one)
    assert_drawn(tab, one)
    app._actions["redo"].trigger()
    assert live.extract == second
    assert_drawn(tab, second.run(live.image))


def test_add_background(app: Any, live: Any, tab: Tab) -> None:
    """The tool adds a region and is deactivated."""
    tab.image.toolbar.active_tool = "lrs:background"
    assert tab.image.editor.adding
    drag(tab.image, [(30, 100), (33, 110), (38, 120)])
    assert [region.kind for region in live.regions] == ["aperture", "background"]
    assert live.regions[1].lower[0] == pytest.approx(seen(tab.image, 30)[0], abs=0.011)
    assert live.regions[1].upper[0] == pytest.approx(seen(tab.image, 38)[0], abs=0.011)
    assert tab.image.toolbar.active_tool is None
    assert not tab.image.editor.adding
    assert np.any(live.extraction.columns["BACKGROUND"] != 0)
    app._actions["undo"].trigger()
    assert len(live.regions) == 1


def test_keys(live: Any, tab: Tab) -> None:
    """Arrow keys nudge by 0.1 and 1 pixel, Escape cancels a drag, Delete deletes a region."""
    canvas = tab.image.figure.canvas
    region = live.regions[0]
    middle = (region.lower[0] + region.upper[0]) / 2
    click(tab.image, middle, 100)
    start = live.regions[0].lower[0]
    QtTest.QTest.keyClick(canvas, QtCore.Qt.Key_Right)
    assert live.regions[0].lower[0] == pytest.approx(start + 0.1, abs=0.0051)
    QtTest.QTest.keyClick(canvas, QtCore.Qt.Key_Right, QtCore.Qt.ShiftModifier)
    assert live.regions[0].lower[0] == pytest.approx(start + 1.1, abs=0.0051)
    kept = live.extract
    middle += 1.1
    press(tab.image, middle, 100)
    move(tab.image, middle + 4, 100)
    assert live.operator != kept
    QtTest.QTest.keyClick(canvas, QtCore.Qt.Key_Escape)
    assert live.operator == kept
    move(tab.image, middle + 6, 100)
    release(tab.image, middle + 6, 100)
    assert live.extract == kept
    assert live.add_region("background", 30.0, 36.0)
    click(tab.image, 33.0, 100)
    assert live.selected == 1
    QtTest.QTest.keyClick(canvas, QtCore.Qt.Key_Delete)
    assert len(live.regions) == 1


def test_tilt(live: Any, tab: Tab) -> None:
    """The ends of an edge tilt it: a polynomial in wavelength."""
    places = {handle: place for handle, place in tab.image.editor.handles(0) if handle.end == "top"}
    (x, y) = next(place for handle, place in places.items() if handle.part == "upper")
    drag(tab.image, [(x, y), (x + 1, y), (x + 3, y)])
    aperture = live.aperture
    assert aperture.src_coeff is not None
    assert aperture.independent_var == "wavelength"
    upper = aperture.src_coeff[1]
    assert len(upper) == 2
    assert upper[1] != 0
    assert_same(live.extraction, live.extract.run(live.image))


def test_taper(app: Any, live: Any, tab: Tab) -> None:
    """With Shift the opposite edge is mirrored: one command, announced in the status bar."""
    before = live.regions[0]
    middle = (before.lower[0] + before.upper[0]) / 2
    places = {handle: place for handle, place in tab.image.editor.handles(0) if handle.end == "top"}
    (x, y) = next(place for handle, place in places.items() if handle.part == "upper")
    move(tab.image, x, y, pressed=NONE)
    assert "with Shift" in tab.image.status.hint
    move(tab.image, x + 12, y, pressed=NONE)
    assert tab.image.status.hint == ""
    window = app.windowHandle()  # Matplotlib takes the modifiers from Qt, not from the event
    QtTest.QTest.keyPress(window, QtCore.Qt.Key_Shift, QtCore.Qt.ShiftModifier)
    drag(tab.image, [(x, y), (x + 1, y), (x + 2, y)], QtCore.Qt.ShiftModifier)
    QtTest.QTest.keyRelease(window, QtCore.Qt.Key_Shift, QtCore.Qt.NoModifier)
    lower, upper = live.regions[0].at(live.rows, live.row_wavelength)
    known = np.isfinite(lower)
    np.testing.assert_allclose((lower + upper)[known] / 2, middle, atol=1e-6)
    assert upper[round(y)] - before.upper[0] == pytest.approx(moved(tab.image, x, x + 2), abs=0.05)
    assert_same(live.extraction, live.extract.run(live.image))
    app._actions["undo"].trigger()
    assert live.regions[0] == before


def test_held_keys_are_one_command(app: Any, live: Any, tab: Tab) -> None:
    canvas = tab.image.figure.canvas
    region, first = live.regions[0], live.extract
    click(tab.image, (region.lower[0] + region.upper[0]) / 2, 100)
    for _ in range(15):
        QtTest.QTest.keyClick(canvas, QtCore.Qt.Key_Right)
    assert live.regions[0].lower[0] == pytest.approx(region.lower[0] + 1.5, abs=0.02)
    app._actions["undo"].trigger()
    assert live.extract == first
    assert not app._actions["undo"].isEnabled()


def test_crosshair(live: Any, tab: Tab) -> None:
    """A crosshair in one view shows in the others."""
    click(tab.image, 35.0, 222.0)
    assert live.cursor_row == pytest.approx(222.0, abs=1.5)
    wave = live.row_wavelength[round(live.cursor_row)]
    assert tab.spectrum.plot.cursor.get_xdata()[0] == pytest.approx(wave, abs=0.05)
    assert f"row {live.cursor_row:.0f}" in tab.profile.editor.readout.get_text()
    low, high = tab.spectrum.axes.get_ylim()
    click(tab.spectrum, 7.0, (low + high) / 2)
    row = int(np.nanargmin(np.abs(live.row_wavelength - 7.0)))
    assert live.cursor_row == pytest.approx(row, abs=2)
    assert tab.image.editor.crosshair.get_ydata()[0] == pytest.approx(row, abs=2)


def test_range(app: Any, live: Any, tab: Tab) -> None:
    """A range in the spectrum selects rows of the image, and vice versa."""
    low, high = tab.spectrum.axes.get_ylim()
    y = (low + high) / 2
    drag(tab.spectrum, [(7.0, y), (8.0, y), (9.0, y)])
    assert live.wavelength_range == pytest.approx((7.0, 9.0), abs=0.05)
    (group,) = app.data_collection.subset_groups
    chosen = {subset.data.label: subset.to_mask() for subset in group.subsets}
    rows = chosen[live.data.label].any(axis=1)
    expected = (live.row_wavelength >= 7.0) & (live.row_wavelength <= 9.0)
    assert (rows != expected).sum() <= 2
    wave = live.spectrum_data["wavelength"]
    assert (chosen[live.spectrum_data.label] != ((wave >= 7.0) & (wave <= 9.0))).sum() <= 2
    # and in the image, with the tool of glue
    tab.image.toolbar.active_tool = "select:yrange"
    drag(tab.image, [(35, 100), (35, 120), (35, 150)])
    assert len(app.data_collection.subset_groups) == 1
    wave = sorted(live.row_wavelength[[100, 150]])
    assert live.wavelength_range == pytest.approx(wave, abs=0.1)
    assert tab.image.editor.active  # the tool is deactivated
    settle()
    assert f"{wave[0]:.1f}" in tab.panel.panel.statistics.range.text()


@pytest.mark.parametrize("unit", ["uJy", "Jy"])
def test_a_range_is_cleared_in_glue_as_well(app: Any, live: Any, tab: Tab, unit: str) -> None:
    """A double click empties the subset, as undo fills it again; also after another unit."""
    tab.spectrum.state.y_display_unit = unit
    settle(0.1)
    low, high = tab.spectrum.axes.get_ylim()
    y = (low + high) / 2
    drag(tab.spectrum, [(7.0, y), (8.0, y), (9.0, y)])
    (group,) = app.data_collection.subset_groups
    assert all(subset.to_mask().any() for subset in group.subsets)
    chosen = live.wavelength_range
    double_click(tab.spectrum, 6.0, y)
    assert live.wavelength_range is None
    assert app.data_collection.subset_groups == (group,)
    assert not any(subset.to_mask().any() for subset in group.subsets)
    app._actions["undo"].trigger()
    assert live.wavelength_range == chosen
    assert all(subset.to_mask().any() for subset in group.subsets)
    app._actions["redo"].trigger()
    assert live.wavelength_range is None
    drag(tab.spectrum, [(10.0, y), (10.5, y), (11.0, y)])  # the same subset is filled again
    assert app.data_collection.subset_groups == (group,)
    assert live.wavelength_range == pytest.approx((10.0, 11.0), abs=0.05)


@pytest.mark.parity
def test_the_pipeline_reproduces_a_drawn_aperture(
    live: Any, tab: Tab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipeline gives the same spectrum with the JSON saved after drags."""
    from tests.helpers import pipeline

    rows = 120.0, 130.0, 140.0
    upper = live.regions[0].upper[0]
    drag(tab.image, [(upper, rows[0]), (upper + 1, rows[1]), (upper + 2, rows[2])])
    ends = [(g, p) for g, p in tab.image.editor.handles(0) if g.part == "lower" and g.end == "top"]
    ((_, (x, y)),) = ends
    drag(tab.image, [(x, y), (x - 0.5, y), (x - 1.5, y)])
    tab.image.toolbar.active_tool = "lrs:background"
    drag(tab.image, [(33, 100), (35, 110), (38, 120)])
    assert live.aperture.src_coeff is not None
    assert live.background is not None
    path = tmp_path / "drawn.json"
    monkeypatch.setattr(QtWidgets.QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    (button,) = [
        one
        for one in tab.panel.panel.findChildren(QtWidgets.QPushButton)
        if one.text() == "JSON…" and "override_extract1d" in one.toolTip()
    ]
    button.click()
    entry = Reference.read(path).entry(live.image.exp_type)
    theirs = pipeline.run(live.image, entry, tmp_path)
    assert pipeline.disagreements(live.extraction.columns, theirs.columns, 1e-9) == []
    assert np.isfinite(theirs.columns["FLUX"]).sum() > 300


def test_stack(app: Any, products: dict[str, Path]) -> None:
    """The slider chooses the integration everywhere; the median of all can be shown."""
    live = open_tab(app, products["calints"])
    tab = Tab(app, live)
    panel = tab.panel.panel
    assert live.integration == 0
    panel.stack.slider.setValue(3)
    assert live.integration == 2
    assert tab.image.state.slices[0] == 2
    one = live.extract.run(SlitImage.read(products["calints"]))
    np.testing.assert_array_equal(live.extraction.columns["FLUX"], one.columns["FLUX"][2])
    tab.image.state.slices = (4, 0, 0)
    assert live.integration == 4
    settle(0.1)
    assert panel.stack.integration.value() == 5
    panel.stack.median.setChecked(True)
    assert live.integration is None
    plane = tab.image.layers[0].state.get_sliced_data()
    np.testing.assert_array_equal(plane, live.shown.data)
    seen = tab.image.layers[0].get_image_data([(0.0, 415.0, 416), (0.0, 71.0, 72)])
    np.testing.assert_array_equal(seen, live.shown.data.astype(float))
    panel.stack.median.setChecked(False)
    assert live.integration == 4
    assert tab.image.state.median_plane is None


def assert_same(found: Any, expected: Any) -> None:
    assert found is not None
    for name, column in expected.columns.items():
        np.testing.assert_array_equal(found.columns[name], column, err_msg=name)


def assert_drawn(tab: Tab, extraction: Any) -> None:
    """The line in the spectrum viewer is that spectrum."""
    x, y = tab.spectrum.plot.line.get_data()
    order = np.argsort(x)
    wave = np.argsort(extraction.wavelength)
    np.testing.assert_array_equal(np.asarray(x)[order], extraction.wavelength[wave])
    factor = {"Jy": 1.0, "mJy": 1e3, "µJy": 1e6}[tab.spectrum.plot.unit]
    flux = np.where(extraction.mask, np.nan, extraction.columns["FLUX"])[wave]
    np.testing.assert_allclose(np.asarray(y)[order], flux * factor, rtol=1e-12)
