"""The place for messages, and the groups for methods and setups in the panel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from qtpy import QtCore, QtGui, QtTest, QtWidgets

from glue_lrs.viewers.live.regions import Region
from glue_lrs.viewers.live.setups import setup_colour
from glue_lrs.viewers.qt.panel.messages import contrast, severity_colour
from glue_lrs.viewers.qt.tab import open_tab
from tests.helpers.pointer import Tab, button, settle


def themes() -> dict[str, QtGui.QPalette]:
    """Palettes with white, black and grey backgrounds."""
    made = {}
    for name in ("#ffffff", "#000000", "#232629", "#808080", "#fdf6e3"):
        palette = QtGui.QPalette()
        palette.setColor(QtGui.QPalette.Base, QtGui.QColor(name))
        made[name] = palette
    return made


def test_colours_are_readable_in_every_theme(panel: Any) -> None:
    for palette in themes().values():
        base = palette.color(QtGui.QPalette.Base)
        error, warning = (severity_colour(palette, one) for one in ("error", "warning"))
        assert error.name() != warning.name()
        assert error.hslHue() in {-1, *range(5)}
        assert contrast(error, base) >= 4.5
        assert contrast(warning, base) >= 4.5
    assert contrast(QtGui.QColor("white"), QtGui.QColor("black")) == pytest.approx(21.0)
    # the messages follow a change of the theme
    panel.report("something is wrong", "error")
    view = panel.message.view
    for name in ("#000000", "#ffffff"):
        view.setPalette(themes()[name])
        settle(0.05)
        assert severity_colour(view.palette(), "error").name() in view.toHtml()


def test_messages_stay_and_are_listed_in_a_window(live: Any, panel: Any) -> None:
    panel.report("the first error", "error")
    live.set([live.regions[0].moved(1)])
    button(panel, "Measure").click()
    panel.report("wrote something")
    settle(0.1)
    texts = [one.text for one in panel.message.view.lines]
    assert texts[0] == "wrote something"
    assert texts[-1] == "the first error"
    panel.message.list_button.click()
    dialog = panel.message.window_of_list
    assert dialog.isVisible()
    shown = dialog.findChild(QtWidgets.QTextEdit)
    assert "the first error" in shown.toPlainText()
    panel.message.clear_button.click()
    settle(0.1)
    assert "the first error" not in panel.message.text()
    assert "the first error" not in shown.toPlainText()
    dialog.close()


def test_buttons_do_not_move_when_texts_grow(live: Any, tab: Tab, panel: Any) -> None:
    def places() -> dict[str, QtCore.QPoint]:
        return {
            one.text(): one.mapTo(tab.panel, QtCore.QPoint(0, 0))
            for one in [*panel.findChildren(QtWidgets.QPushButton), panel.message.list_button]
        }

    settle(0.2)
    before = places()
    assert len(before) > 10
    live.measure()
    live.three_fwhm()  # curved edges
    live.add_background()
    live.wavelength_range = (6.0, 8.0)
    for number in range(10):
        panel.report(f"number {number}: " + "a long text that needs several lines " * 8, "error")
    settle(0.2)
    assert places() == before


def test_method_and_correction_in_the_panel(live: Any, panel: Any) -> None:
    group = panel.method

    def choose(box: Any, value: str) -> None:
        index = box.findData(value)
        box.setCurrentIndex(index)
        box.activated.emit(index)
        settle(0.1)

    assert group.size.text() == "no correction: no APCORR reference"
    assert not group.method.model().item(group.method.findData("psf")).isEnabled()
    choose(group.correction, "profile")
    assert live.extract.correction == "profile"
    assert group.size.text().startswith("flux × ")
    choose(group.method, "learned")
    assert live.extract.mode == "learned"
    assert group.correction.currentData() == "table"
    assert not group.correction.model().item(group.correction.findData("profile")).isEnabled()
    choose(group.method, "psf")  # there is none: one line, and the choice goes back
    assert live.extract.mode == "learned"
    assert group.method.currentData() == "learned"
    assert "needs a PSF reference" in panel.message.view.lines[0].text
    choose(group.method, "box")
    choose(group.correction, "none")
    assert not live.extract.apply_apcorr
    assert group.size.text() == "no correction: switched off"


def test_setups_in_the_panel_and_in_the_viewers(live: Any, tab: Tab, panel: Any) -> None:
    group, plot = panel.setups, tab.spectrum.plot
    assert not group.switch_button.isEnabled()
    first = live.extract
    group.keep_button.click()
    live.set([Region("aperture", (10.0,), (14.0,))])
    settle(0.1)
    assert group.choice.count() == 2
    assert group.choice.currentText() == "B: 10.0 – 14.0"
    assert plot.others.lines == {}  # A is drawn as the comparison
    live.load_comparison(None)
    live.arrangement.add()  # C, a copy of B
    settle(0.1)
    assert sorted(plot.others.lines) == ["A", "B"]
    flux = live.arrangement.named("A").extraction
    y = plot.others.lines["A"].get_ydata()
    scale = y[~flux.mask] / flux.columns["FLUX"][~flux.mask]
    np.testing.assert_allclose(scale, np.median(scale), rtol=1e-6)
    assert to_hex(plot.others.lines["A"].get_color()) == setup_colour("A").lower()
    labels = [text.get_text() for text in tab.spectrum.axes.get_legend().get_texts()]
    assert {"A", "B"} <= set(labels)
    for editor in (tab.image.editor, tab.profile.editor):
        x = editor.other_apertures.lines["B"].get_xdata()
        assert set(np.round(x[np.isfinite(x)], 2)) == {10.0, 14.0}
    group.choice.setCurrentIndex(0)
    group.choice.activated.emit(0)
    assert live.extract == first
    settle(0.1)
    assert sorted(plot.others.lines) == ["B", "C"]
    group.remove_button.click()
    settle(0.1)
    assert group.choice.count() == 2
    assert live.active in "BC"


def test_the_tool_places_background_regions(live: Any, tab: Tab) -> None:
    """The tool does the same as the button, and the slit profile shows the fit."""
    line = tab.profile.editor.background
    assert np.size(line.get_xdata()) == 0
    tab.image.toolbar.actions["lrs:add_background"].trigger()
    assert [region.kind for region in live.regions].count("background") == 2
    level = line.get_ydata()
    assert np.size(level) == live.image.shape[1]
    before = np.mean(level)
    live.set([live.regions[0], Region("background", (8.0,), (12.0,))])  # on the source
    assert np.mean(line.get_ydata()) > before + 10
    live.set([live.regions[0]])
    assert np.size(line.get_xdata()) == 0


def test_outliers_along_time_in_the_panel(app: Any, products: Any) -> None:
    live = open_tab(app, products["calints"])
    panel = Tab(app, live).panel.panel
    box = panel.stack.time_outliers
    index = box.findData("replace")
    box.setCurrentIndex(index)
    box.activated.emit(index)
    settle(0.1)
    assert live.extract.time_outliers == "replace"
    assert "has no effect" not in panel.message.text()
    assert "are outliers along time" in panel.message.text()
    QtTest.QTest.mouseClick(panel.stack.median, QtCore.Qt.LeftButton)
    settle(0.1)
    assert "has no effect" not in panel.message.text()
