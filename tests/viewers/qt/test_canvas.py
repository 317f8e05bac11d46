"""Readout, zoom, tools that exclude editing, errors, menus, and a small window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy import QtCore, QtTest, QtWidgets

from glue_lrs.viewers.qt.menus import Menus
from glue_lrs.viewers.qt.tab import open_tab
from tests.helpers.pointer import (
    NONE,
    Tab,
    drag,
    move,
    press,
    release,
    send,
    settle,
    wait_until,
    wheel,
)
from tests.helpers.pointer import on_canvas as place


def limits(viewer: Any) -> tuple[float, ...]:
    return (*viewer.axes.get_xlim(), *viewer.axes.get_ylim())


# --- readout ---------------------------------------------------------------------------------


def test_the_place_under_the_mouse_is_described(live: Any, tab: Tab) -> None:
    move(tab.image, 13.0, 193.0, pressed=NONE)
    first, second = tab.image.status.readout.split("\n")
    assert first == f"column 13, row 193, {live.image.wavelength[193, 13]:.3f} µm"
    assert second.endswith("MJy/sr; aperture weight 1")
    low, high = tab.spectrum.axes.get_ylim()
    move(tab.spectrum, 9.0, (low + high) / 2, pressed=NONE)
    assert "mJy" in tab.spectrum.status.readout
    low, high = tab.profile.axes.get_ylim()
    move(tab.profile, 13.0, low + 0.1 * (high - low), pressed=NONE)
    assert tab.profile.status.readout.startswith("column 13: ")
    left = tab.image.axes.get_xlim()[0]
    move(tab.image, left - 2.0, 193.0, pressed=NONE)
    assert tab.image.status.readout == ""


def test_long_lines_do_not_change_the_layout(tab: Tab) -> None:
    status = tab.image.status
    before = status.size(), tab.image.figure.canvas.size()
    status.show_readout(("column 1, row 2", "x" * 400))
    status.show_hint("y" * 400)
    settle(0.1)
    assert (status.size(), tab.image.figure.canvas.size()) == before
    assert len(status.text().split("\n")) == 3
    assert "…" in status.text()
    assert "x" * 400 in status.toolTip()
    assert status.sizeHint().height() <= status.height()


# --- wheel and middle button -----------------------------------------------------------------


@pytest.mark.parametrize("which", ["image", "spectrum", "profile"])
def test_the_wheel_zooms_and_home_resets(live: Any, tab: Tab, which: str) -> None:
    viewer = getattr(tab, which)
    viewer.figure.canvas.draw()
    home = limits(viewer)
    x, y = (home[0] + home[1]) / 2, (home[2] + home[3]) / 2
    wheel(viewer, x, y, 3)
    settle(0.1)
    spans = np.ptp(np.reshape(limits(viewer), (2, 2)), axis=1)
    whole = np.ptp(np.reshape(home, (2, 2)), axis=1)
    np.testing.assert_allclose(spans, whole / 1.2**3, rtol=1e-6)
    if which == "image":
        assert (viewer.state.x_min, viewer.state.x_max) == pytest.approx(viewer.axes.get_xlim())
    viewer.toolbar.tools["mpl:home"].activate()
    settle(0.1)
    assert limits(viewer) == pytest.approx(home, rel=1e-6)


def test_the_middle_button_pans_while_editing(live: Any, tab: Tab) -> None:
    viewer, keys, middle = tab.image, QtCore.Qt.NoModifier, QtCore.Qt.MiddleButton
    viewer.figure.canvas.draw()
    before, extract = limits(viewer), live.extract
    edge = live.regions[0].upper[0]
    send(viewer, QtCore.QEvent.MouseButtonPress, place(viewer, edge, 150), middle, middle, keys)
    at = place(viewer, edge + 5, 200)
    send(viewer, QtCore.QEvent.MouseMove, at, NONE, middle, keys)
    send(viewer, QtCore.QEvent.MouseButtonRelease, at, middle, NONE, keys)
    after = limits(viewer)
    assert np.subtract(before, after)[:2] == pytest.approx(5, abs=0.3)
    assert np.subtract(before, after)[2:] == pytest.approx(50, abs=1.5)
    assert live.extract == extract


# --- tools -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["mpl:zoom", "mpl:pan", "select:xrange", "select:polygon"])
def test_a_tool_says_that_it_excludes_editing_and_gives_way_to_an_edge(
    app: Any, live: Any, tab: Tab, tool: str
) -> None:
    viewer = tab.image
    viewer.toolbar.active_tool = tool
    assert "is active, nothing is edited" in viewer.status.hint
    start, before = live.extract, limits(viewer)
    edge = live.regions[0].upper[0]
    drag(viewer, [(edge, 150), (edge + 1.0, 150), (edge + 2.0, 150)])
    assert viewer.toolbar.active_tool is None
    assert not viewer.toolbar.actions[tool].isChecked()
    assert live.regions[0].upper[0] == pytest.approx(edge + 2.0, abs=0.3)
    assert live.extract != start
    assert limits(viewer) == before  # the tool did nothing
    assert len(app.data_collection.subset_groups) == 0
    assert "nothing is edited" not in viewer.status.hint


def test_elsewhere_the_tool_keeps_the_mouse(live: Any, tab: Tab) -> None:
    viewer, start = tab.image, live.extract
    viewer.toolbar.active_tool = "mpl:zoom"
    middle = (live.regions[0].lower[0] + live.regions[0].upper[0]) / 2
    press(viewer, middle, 100)  # inside the aperture, but not on an edge
    move(viewer, middle + 10, 200)
    release(viewer, middle + 10, 200)
    settle(0.1)
    assert live.extract == start
    assert viewer.axes.get_ylim() == pytest.approx((100, 200), abs=2)
    assert viewer.toolbar.active_tool is not None
    viewer.toolbar.active_tool = None


def test_a_polygon_that_was_begun_is_not_lost(live: Any, tab: Tab) -> None:
    viewer = tab.image
    viewer.toolbar.active_tool = "select:polygon"
    press(viewer, 25.0, 100.0)
    release(viewer, 25.0, 100.0)
    edge = live.regions[0].upper[0]
    press(viewer, edge, 150)
    assert viewer.toolbar.active_tool is not None
    viewer.toolbar.active_tool = None


# --- errors ----------------------------------------------------------------------------------


def test_the_errors_are_chosen_in_the_spectrum(app: Any, live: Any, tab: Tab) -> None:
    def labels() -> list[str]:
        return [text.get_text() for text in tab.spectrum.axes.get_legend().get_texts()]

    error = live.extraction.columns["FLUX_ERROR"].copy()
    height = np.ptp(tab.spectrum.plot.band.get_paths()[0].vertices[:, 1])
    assert height > 0
    assert "±1σ" in labels()
    menu = tab.spectrum.toolbar.tools["lrs:errors"]
    assert [tool.noise for tool in menu.subtools] == ["propagated", "nod", "empirical"]
    menu.subtools[2].activate()
    settle(0.1)
    assert live.extract.noise == "empirical"
    assert "±1σ (empirical)" in labels()
    known = np.isfinite(error)
    assert np.all(live.extraction.columns["FLUX_ERROR"][known] >= error[known])
    assert np.any(live.extraction.columns["FLUX_ERROR"][known] > error[known])
    app._actions["undo"].trigger()
    settle(0.1)
    assert "±1σ" in labels()
    np.testing.assert_array_equal(live.extraction.columns["FLUX_ERROR"], error)


# --- menus -----------------------------------------------------------------------------------


def test_redo_history_and_keys(app: Any, live: Any, tab: Tab) -> None:
    assert len(app.findChildren(Menus)) == 1
    menus = app.findChild(Menus)
    states = [live.extract]
    for step in (1.0, 2.0):
        live.set([live.regions[0].moved(step)], f"move by {step:g}")
        states.append(live.extract)

    def type_key(key: Any, modifiers: Any = QtCore.Qt.NoModifier) -> None:
        app.activateWindow()
        wait_until(lambda: QtWidgets.QApplication.activeWindow() is app)
        QtTest.QTest.keyClick(tab.image.figure.canvas, key, modifiers)
        settle(0.1)

    type_key(QtCore.Qt.Key_Z, QtCore.Qt.ControlModifier)
    assert live.extract == states[1]
    type_key(QtCore.Qt.Key_Y, QtCore.Qt.ControlModifier)
    assert live.extract == states[2]
    app._actions["undo"].trigger()
    type_key(QtCore.Qt.Key_Z, QtCore.Qt.ControlModifier | QtCore.Qt.ShiftModifier)
    assert live.extract == states[2]
    menus.history.aboutToShow.emit()
    entries = menus.history.actions()
    assert [one.text() for one in entries] == ["before the first edit", "move by 1", "move by 2"]
    assert [one.isChecked() for one in entries] == [False, False, True]
    entries[0].trigger()
    assert live.extract == states[0]
    menus.fill_history()
    menus.history.actions()[1].trigger()
    assert live.extract == states[1]
    none = QtCore.Qt.NoModifier
    for key in (QtCore.Qt.Key_F1, QtCore.Qt.Key_Question):
        type_key(key, QtCore.Qt.ShiftModifier if key == QtCore.Qt.Key_Question else none)
        assert menus.keys.isVisible()
        text = menus.keys.findChild(QtWidgets.QLabel).text()
        assert "drag an edge" in text
        assert "Ctrl+Y" in text
        menus.keys.close()


# --- a small window --------------------------------------------------------------------------


def test_a_window_of_1000_by_700_is_usable(app: Any, live: Any, products: dict[str, Path]) -> None:
    """glue's lists on the left make room once; the plots have their labels inside."""
    live.load_comparison(products["x1d"])
    app.resize(1000, 700)
    settle(0.6)
    tab = Tab(app, live)
    for viewer, least in ((tab.image, 230), (tab.spectrum, 350), (tab.profile, 350)):
        canvas = viewer.figure.canvas
        assert canvas.width() >= least
        canvas.draw()
        renderer = canvas.get_renderer()
        box = viewer.axes.bbox
        assert box.width > 100
        assert box.height > 80
        texts = [viewer.axes.xaxis.label, viewer.axes.yaxis.label]
        legend = viewer.axes.get_legend()
        texts += [] if legend is None else legend.get_texts()
        for text in (one for one in texts if one.get_text() and viewer is not tab.image):
            extent = text.get_window_extent(renderer)
            assert extent.x0 >= -1
            assert extent.x1 <= viewer.figure.bbox.x1 + 1
            assert extent.y0 >= -1
        wrapper = viewer._mdi_wrapper
        assert wrapper.parentWidget().rect().contains(wrapper.geometry())
    menus = app.findChild(Menus)
    assert app._ui.main_splitter.sizes()[0] == 0
    menus.sidebar.trigger()  # the user wants to see them
    settle(0.3)
    assert app._ui.main_splitter.sizes()[0] > 100
    app.resize(1010, 700)
    settle(0.3)
    assert app._ui.main_splitter.sizes()[0] > 100


def test_a_second_image_adds_no_second_menu(app: Any, live: Any, products: dict[str, Path]) -> None:
    open_tab(app, products["calints"])
    assert len(app.findChildren(Menus)) == 1
