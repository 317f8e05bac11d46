"""The panel tells and sets what the extraction has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy import QtCore, QtGui, QtTest, QtWidgets

from glue_lrs.extract import Extract1D
from glue_lrs.extraction import Extraction
from glue_lrs.image import SlitImage
from glue_lrs.io.apcorr import write_apcorr
from glue_lrs.viewers.edges import Region
from glue_lrs.viewers.qt.tab import open_tab
from tests.viewers.images import correction
from tests.viewers.qt.hands import Tab, drag, settle


@pytest.fixture
def live(app: Any, products: dict[str, Path]) -> Any:
    return open_tab(app, products["s2d"])


@pytest.fixture
def tab(app: Any, live: Any) -> Tab:
    return Tab(app, live)


@pytest.fixture
def panel(tab: Tab) -> Any:
    return tab.panel.panel


def text(table: Any, row: int, column: int) -> str:
    return table.item(row, column).text()


def test_limits(live: Any, tab: Tab, panel: Any) -> None:
    """Both conventions, which differ by half a pixel, each with its name."""
    assert live.set([Region("aperture", (8.5,), (16.5,))])
    assert (live.aperture.xstart, live.aperture.xstop) == (9.0, 16.0)
    assert live.add_region("background", 30.0, 36.5)
    settle(0.1)
    table = panel.table
    assert text(table, 0, 1) == "8.50 – 16.50"
    assert text(table, 0, 2) == "xstart 9.00\nxstop 16.00"
    assert text(table, 1, 1) == "30.00 – 36.50"
    assert text(table, 1, 2) == "bkg_coeff\n[[30.00], [36.50]]"
    # while dragging as well
    drag(tab.image, [(16.5, 150), (18.5, 150)])
    settle(0.1)
    upper = live.regions[0].upper[0]
    assert text(table, 0, 2).endswith(f"xstop {upper - 0.5:.2f}")


def test_type_an_edge(app: Any, live: Any, panel: Any) -> None:
    default = live.extract
    first = round(live.regions[0].lower[0] + 0.5, 2)
    panel.table.selectRow(0)
    panel.upper.setValue(20.25)
    assert live.aperture.xstop == 19.75
    panel.lower.setValue(7.5)
    assert live.aperture.xstart == 8.0
    app._actions["undo"].trigger()
    assert (live.aperture.xstart, live.aperture.xstop) == (first, 19.75)
    app._actions["undo"].trigger()
    assert live.extract == default


def test_background(live: Any, panel: Any) -> None:
    """Regions are added beside the source; fit, order and smoothing are set."""
    assert not panel.subtract.isEnabled()
    QtTest.QTest.mouseClick(panel.add_region, QtCore.Qt.LeftButton)
    assert [region.kind for region in live.regions] == ["aperture", "background"]
    aperture, region = live.regions
    assert region.upper[0] <= aperture.lower[0] or region.lower[0] >= aperture.upper[0]
    assert -0.5 <= region.lower[0] < region.upper[0] <= live.image.shape[1] - 0.5
    settle(0.1)
    assert panel.subtract.isEnabled()
    assert panel.subtract.isChecked()
    panel.order.setValue(1)
    assert live.background.bkg_order == 1
    panel.fit.setCurrentIndex(1)
    panel.fit.activated.emit(1)
    assert live.background.bkg_fit == "median"
    settle(0.1)
    assert not panel.order.isEnabled()
    panel.smoothing.stepBy(1)
    assert live.background.smoothing_length == 3
    panel.smoothing.stepBy(1)
    assert live.background.smoothing_length == 5
    panel.smoothing.stepBy(-2)
    assert live.background.smoothing_length == 0
    panel.smoothing.setValue(4)  # typed: cannot be, the next that can is taken and shown
    assert live.background.smoothing_length == 5
    settle(0.1)
    assert panel.smoothing.value() == 5
    panel.subtract.setChecked(False)
    assert live.extract.subtract_background is False
    assert not np.any(live.extraction.columns["BACKGROUND"])
    panel.subtract.setChecked(True)
    assert np.any(live.extraction.columns["BACKGROUND"])
    assert live.selected == 1
    settle(0.1)
    QtTest.QTest.mouseClick(panel.delete_region, QtCore.Qt.LeftButton)
    assert live.background is None


def test_position(live: Any, panel: Any) -> None:
    kept = live.regions[0]
    panel.offset.setValue(1.5)
    assert live.extract.position_offset == 1.5
    assert live.regions[0].lower[0] == pytest.approx(kept.lower[0] + 1.5)
    settle(0.1)
    assert "aperture +1.50 from it" in panel.source_label.text()
    button(panel, "To the source").click()
    assert live.extract.position_offset == 0.0
    assert live.extract.use_source_posn is True
    settle(0.1)
    assert "+0.00 from it" in panel.source_label.text()
    live.set([kept.moved(3.0)])
    button(panel, "Default").click()
    assert live.regions[0] == kept


def test_numbers(live: Any, panel: Any, products: dict[str, Path]) -> None:
    """Signal to noise in the range, the ratio to a comparison, and the pixels lost."""
    live.load_comparison(products["x1d"])
    live.wavelength_range = (6.0, 8.0)
    settle(0.1)
    assert panel.range.text() == "6.00 – 8.00 µm"
    extraction = live.extraction
    inside = (extraction.wavelength >= 6) & (extraction.wavelength <= 8) & ~extraction.mask
    signal = extraction.columns["FLUX"] / extraction.columns["FLUX_ERROR"]
    assert float(panel.signal_to_noise.text()) == pytest.approx(
        np.median(signal[inside]), rel=0.005
    )
    assert panel.ratio.text() == "1.0000"
    assert panel.comparison.full_text() == products["x1d"].name
    panel.upper.setValue(panel.upper.value() - 4)
    settle(0.1)
    assert float(panel.ratio.text()) < 0.99
    assert panel.lost.text()


def test_files(
    app: Any,
    live: Any,
    tab: Tab,
    panel: Any,
    products: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is saved is what was seen; what is loaded is used."""
    asked: list[str] = []

    def save(parent: Any, title: str, name: str, filters: str) -> tuple[str, str]:
        asked.append(Path(name).name)
        return str(tmp_path / Path(name).name), filters

    monkeypatch.setattr(QtWidgets.QFileDialog, "getSaveFileName", save)
    drag(tab.image, [(live.regions[0].upper[0], 150), (live.regions[0].upper[0] + 2, 150)])
    assert live.add_region("background", 30.0, 36.5)
    for name in ("JSON…", "x1d…", "Figure…"):
        button(panel, name, -1).click()
        assert panel.message.text().startswith("wrote ")
    assert asked == ["scene_extract1d.json", "scene_x1d.fits", "scene.png"]
    image = SlitImage.read(products["s2d"])
    made = Extract1D.from_reference(tmp_path / asked[0], image.exp_type, apply_apcorr=False)
    np.testing.assert_array_equal(made.run(image).columns["FLUX"], live.extraction.columns["FLUX"])
    stored = Extraction.read(str(tmp_path / asked[1]))
    np.testing.assert_array_equal(stored.columns["FLUX"], live.extraction.columns["FLUX"])
    assert (tmp_path / asked[2]).read_bytes().startswith(b"\x89PNG")
    # the way back
    kept = live.extraction.columns["FLUX"]
    button(panel, "Default").click()
    assert not np.array_equal(live.extraction.columns["FLUX"], kept)
    load: list[Path] = [tmp_path / asked[0]]
    monkeypatch.setattr(QtWidgets.QFileDialog, "getOpenFileName", lambda *_: (str(load[0]), ""))
    button(panel, "Load JSON…").click()
    np.testing.assert_array_equal(live.extraction.columns["FLUX"], kept)
    # an aperture correction
    table = tmp_path / "apcorr.fits"
    write_apcorr(correction(), table)
    load[0] = table
    button(panel, "File…").click()
    assert np.all(live.extraction.columns["FLUX"] != kept)
    settle(0.1)
    assert panel.apcorr.full_text() == "apcorr.fits"
    panel.apcorr_none.click()
    np.testing.assert_array_equal(live.extraction.columns["FLUX"], kept)
    # something else: one line, and nothing has changed
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"apertures": "none"}))
    load[0] = bad
    operator = live.extract
    button(panel, "Load JSON…").click()
    assert "bad.json" in panel.message.text()
    assert "\n" not in panel.message.text()
    assert live.extract == operator
    load[0] = products["s2d"]
    button(panel, "x1d…").click()
    assert "scene_s2d.fits" in panel.message.text()


def test_copy_python(live: Any, tab: Tab, panel: Any) -> None:
    """The lines on the clipboard give the same spectrum."""
    drag(tab.image, [(live.regions[0].upper[0], 150), (live.regions[0].upper[0] + 2, 150)])
    button(panel, "Copy Python").click()
    lines = QtGui.QGuiApplication.clipboard().text()
    names: dict[str, Any] = {}
    exec(compile(lines, "clipboard", "exec"), names)
    spectrum = names["spectrum"]
    np.testing.assert_array_equal(spectrum.flux.value, live.spectrum.flux.value)


def test_subsets(app: Any, live: Any, tab: Tab, panel: Any) -> None:
    """A range or a polygon drawn with glue's tools becomes the aperture or a background."""
    assert not panel.subset_row.isVisibleTo(panel)
    tab.image.toolbar.active_tool = "select:xrange"
    drag(tab.image, [(30, 100), (33, 100), (37, 100)])
    settle(0.1)
    assert panel.subset_row.isVisibleTo(panel)
    assert panel.subset.count() == 1
    panel.to_background.click()
    assert live.regions[1].kind == "background"
    assert live.regions[1].lower[0] == pytest.approx(30, abs=1.0)
    panel.to_aperture.click()
    assert live.regions[0].lower[0] == pytest.approx(30, abs=1.0)
    assert live.regions[0].kind == "aperture"


def test_follows_and_lets_go(live: Any, tab: Tab, panel: Any) -> None:
    """The panel follows what others do; its widgets tell nothing while they are filled."""
    before = live.extract
    live.rows_averaged = 21
    live.selected = None
    settle(0.1)
    assert panel.rows_averaged.value() == 21
    assert live.extract is before
    panel.rows_averaged.setValue(5)
    assert live.rows_averaged == 5
    tab.panel.close(warn=False)
    settle()
    live.rows_averaged = 7  # nobody is told who is gone
    settle(0.1)


def button(panel: Any, label: str, which: int = 0) -> Any:
    found = [b for b in panel.findChildren(QtWidgets.QPushButton) if b.text() == label]
    return found[which]
