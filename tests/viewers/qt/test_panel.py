"""The panel shows and sets the state of the extraction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from glue.core.edit_subset_mode import NewMode, OrMode
from qtpy import QtCore, QtGui, QtTest, QtWidgets

from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.io.apcorr import write_apcorr
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.viewers.live.regions import Region
from glue_lrs.viewers.qt.tab import open_tab
from tests.helpers.images import correction
from tests.helpers.pointer import Tab, button, drag, settle


def text(table: Any, row: int, column: int) -> str:
    return table.item(row, column).text()


def test_limits(live: Any, tab: Tab, panel: Any) -> None:
    """Both conventions, which differ by half a pixel, are shown with their names."""
    assert live.set([Region("aperture", (8.5,), (16.5,))])
    assert (live.aperture.xstart, live.aperture.xstop) == (9.0, 16.0)
    assert live.add_region("background", 30.0, 36.5)
    settle(0.1)
    table = panel.regions.table
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
    panel.regions.table.selectRow(0)
    panel.regions.upper.setValue(20.25)
    assert live.aperture.xstop == 19.75
    panel.regions.lower.setValue(7.5)
    assert live.aperture.xstart == 8.0
    app._actions["undo"].trigger()
    assert (live.aperture.xstart, live.aperture.xstop) == (first, 19.75)
    app._actions["undo"].trigger()
    assert live.extract == default


def test_background(live: Any, panel: Any) -> None:
    """Regions are added clear of all traces; fit, order and smoothing are set."""
    assert not panel.background.subtract.isEnabled()
    QtTest.QTest.mouseClick(panel.regions.add_button, QtCore.Qt.LeftButton)
    assert [region.kind for region in live.regions] == ["aperture", *["background"] * 2]
    assert live.background.bkg_fit == "median"
    for region in live.regions[1:]:
        assert -0.5 <= region.lower[0] < region.upper[0] <= live.image.shape[1] - 0.5
        for source in live.measure().measurement.sources:  # one of them is negative
            middle = source.trace[190]
            assert region.upper[0] < middle - 5 or region.lower[0] > middle + 5
    assert panel.message.view.lines[0].text.startswith("background at columns ")
    live.delete_region(2)
    live.selected = 1
    panel.background.fit.setCurrentIndex(0)
    panel.background.fit.activated.emit(0)
    settle(0.1)
    assert panel.background.subtract.isEnabled()
    assert panel.background.subtract.isChecked()
    panel.background.order.setValue(1)
    assert live.background.bkg_order == 1
    panel.background.fit.setCurrentIndex(1)
    panel.background.fit.activated.emit(1)
    assert live.background.bkg_fit == "median"
    settle(0.1)
    assert not panel.background.order.isEnabled()
    panel.background.smoothing.stepBy(1)
    assert live.background.smoothing_length == 3
    panel.background.smoothing.stepBy(1)
    assert live.background.smoothing_length == 5
    panel.background.smoothing.stepBy(-2)
    assert live.background.smoothing_length == 0
    panel.background.smoothing.setValue(4)  # typed: the next valid length is used and shown
    assert live.background.smoothing_length == 5
    settle(0.1)
    assert panel.background.smoothing.value() == 5
    panel.background.subtract.setChecked(False)
    assert live.extract.subtract_background is False
    assert not np.any(live.extraction.columns["BACKGROUND"])
    panel.background.subtract.setChecked(True)
    assert np.any(live.extraction.columns["BACKGROUND"])
    assert live.selected == 1
    settle(0.1)
    QtTest.QTest.mouseClick(panel.regions.delete_button, QtCore.Qt.LeftButton)
    assert live.background is None


def test_position(live: Any, panel: Any) -> None:
    kept = live.regions[0]
    panel.position.offset.setValue(1.5)
    assert live.extract.position_offset == 1.5
    assert live.regions[0].lower[0] == pytest.approx(kept.lower[0] + 1.5)
    settle(0.1)
    assert "aperture +1.50 from it" in panel.position.source_label.text()
    button(panel, "To the source").click()
    assert live.extract.position_offset == 0.0
    assert live.extract.use_source_posn is False
    found = live.measure().measurement
    lower, upper = live.regions[0].lower[0], live.regions[0].upper[0]
    assert (lower + upper) / 2 == pytest.approx(found.column, abs=0.0051)
    settle(0.1)
    away = (lower + upper) / 2 - found.expected.column
    assert f"aperture {round(away, 2) + 0.0:+.2f} from it" in panel.position.source_label.text()
    live.set([kept.moved(3.0)])
    button(panel, "Default").click()
    assert live.regions[0] == kept


def test_numbers(live: Any, panel: Any, products: dict[str, Path]) -> None:
    """Signal to noise in the range, ratio to a comparison, and lost pixels."""
    live.load_comparison(products["x1d"])
    live.wavelength_range = (6.0, 8.0)
    settle(0.1)
    assert panel.statistics.range.text() == "6.00 – 8.00 µm"
    extraction = live.extraction
    inside = (extraction.wavelength >= 6) & (extraction.wavelength <= 8) & ~extraction.mask
    signal = extraction.columns["FLUX"] / extraction.columns["FLUX_ERROR"]
    assert float(panel.statistics.signal_to_noise.text()) == pytest.approx(
        np.median(signal[inside]), rel=0.005
    )
    assert panel.statistics.ratio.text() == "1.0000"
    assert panel.comparison.label.toolTip() == products["x1d"].name
    panel.regions.upper.setValue(panel.regions.upper.value() - 4)
    settle(0.1)
    assert float(panel.statistics.ratio.text()) < 0.99
    assert panel.statistics.lost.text()


def test_files(
    app: Any,
    live: Any,
    tab: Tab,
    panel: Any,
    products: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Saved files reproduce the extraction; loaded files are used."""
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
    assert panel.method.apcorr.toolTip() == "apcorr.fits"
    panel.method.no_apcorr_button.click()
    np.testing.assert_array_equal(live.extraction.columns["FLUX"], kept)
    # an invalid file: one line, and no change
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


def named(monkeypatch: pytest.MonkeyPatch, *answers: Path | str) -> list[str]:
    """Type answers into the dialogs; return the list of the names they propose."""
    proposed: list[str] = []
    remaining = [str(answer) for answer in answers]

    def save(parent: Any, title: str, name: str, filters: str) -> tuple[str, str]:
        proposed.append(name)
        return remaining.pop(0), filters

    monkeypatch.setattr(QtWidgets.QFileDialog, "getSaveFileName", save)
    return proposed


@pytest.mark.parametrize(
    ("label", "typed", "written"),
    [
        ("JSON…", "mine", "mine.json"),
        ("JSON…", "mine.JSON", "mine.JSON"),
        ("JSON…", "nod1.v2", "nod1.v2.json"),
        ("x1d…", "mine_x1d", "mine_x1d.fits"),
        ("x1d…", "mine.fits.gz", "mine.fits.gz"),
        ("Figure…", "mine", "mine.png"),
        ("Figure…", "mine.pdf", "mine.pdf"),
    ],
)
def test_a_bare_name_gets_its_ending(
    panel: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    label: str,
    typed: str,
    written: str,
) -> None:
    named(monkeypatch, tmp_path / typed)
    button(panel, label, -1).click()
    assert [path.name for path in tmp_path.iterdir()] == [written]
    assert panel.message.text().startswith(f"wrote {tmp_path / written}")


def test_replacing_a_file_by_an_appended_ending_is_confirmed(
    live: Any, panel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dialog of Qt confirms the name as typed, without the ending."""
    box = QtWidgets.QMessageBox
    asked: list[str] = []
    answers = [box.No, box.No, box.Yes]

    def question(parent: Any, title: str, text: str, *buttons: Any) -> Any:
        asked.append(text)
        return answers.pop(0)

    monkeypatch.setattr(box, "question", question)
    path = tmp_path / "mine.json"
    path.write_text("precious")
    # no: the dialog is shown again with that name, and cancelled
    proposed = named(monkeypatch, tmp_path / "mine", "")
    button(panel, "JSON…", -1).click()
    assert path.read_text() == "precious"
    assert proposed[1] == str(path)
    # no, and another name
    named(monkeypatch, tmp_path / "mine", tmp_path / "other")
    button(panel, "JSON…", -1).click()
    assert path.read_text() == "precious"
    assert json.loads((tmp_path / "other.json").read_text())
    # yes
    named(monkeypatch, tmp_path / "mine")
    button(panel, "JSON…", -1).click()
    assert json.loads(path.read_text())
    assert len(asked) == 3
    assert all("mine.json already exists" in text for text in asked)
    # a name with an ending is confirmed by the dialog itself
    named(monkeypatch, path)
    button(panel, "JSON…", -1).click()
    assert len(asked) == 3


def test_the_spectra_of_a_stack_are_saved(
    app: Any, products: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The button writes all integrations as an x1dints, whichever is shown."""
    live = open_tab(app, products["calints"])
    panel = Tab(app, live).panel.panel
    panel.stack.median.setChecked(True)
    assert live.add_region("background", 5.0, 12.0)
    proposed = named(monkeypatch, tmp_path / "mine_x1dints")
    button(panel, "x1d…", -1).click()
    path = tmp_path / "mine_x1dints.fits"
    assert Path(proposed[0]).name == "scene_x1dints.fits"
    assert panel.message.text().startswith(f"wrote {path}")
    stored = Extraction.read(str(path))
    expected = live.extract.run(SlitImage.read(products["calints"]))
    assert stored.columns["FLUX"].shape[0] == 5
    for name in ("FLUX", "FLUX_ERROR", "BACKGROUND", "DQ"):
        np.testing.assert_array_equal(stored.columns[name], expected.columns[name], err_msg=name)


def test_no_room_for_a_background(live: Any, panel: Any) -> None:
    """One line is shown, and no region is added."""
    columns = live.image.shape[1]
    assert live.set([Region("aperture", (1.0,), (columns - 2.0,))])
    before, selected = live.extract, live.selected
    QtTest.QTest.mouseClick(panel.regions.add_button, QtCore.Qt.LeftButton)
    assert "there is no room" in panel.message.text()
    assert "\n" not in panel.message.text()
    assert live.extract == before
    assert live.selected == selected
    assert [region.kind for region in live.regions] == ["aperture"]


def test_messages_refer_to_the_panel(live: Any, tab: Tab, panel: Any) -> None:
    image = live.image
    data = np.array(image.data)
    row, column = 150, int(live.regions[0].lower[0]) + 3
    data[row, column : column + 2] = np.nan
    live.data.update_components({live.data.id["flux"]: data})
    settle(0.1)
    assert "bad pixels reduce the aperture" in panel.message.text()
    assert "max_lost" not in panel.message.text()
    assert " rows, ≤ " in panel.statistics.lost.text()


def test_held_arrows_of_a_box_are_one_command(app: Any, live: Any, panel: Any) -> None:
    before, start = live.extract, live.regions[0].upper[0]
    for _ in range(12):
        panel.regions.upper.stepUp()
        settle(0.04)  # the panel is refreshed
    assert live.regions[0].upper[0] == pytest.approx(start + 1.2, abs=0.02)
    app._actions["undo"].trigger()
    assert live.extract == before


def test_subset_modes(app: Any, live: Any, tab: Tab, panel: Any) -> None:
    """Two ranges combined by "or" are two background regions."""
    tab.image.toolbar.active_tool = "select:xrange"
    drag(tab.image, [(29, 100), (30, 100), (32, 100)])
    app.session.edit_subset_mode.mode = OrMode
    tab.image.toolbar.active_tool = "select:xrange"
    drag(tab.image, [(36, 100), (37, 100), (40, 100)])
    settle(0.1)
    assert panel.regions.subset.count() == 1
    panel.regions.to_background.click()
    assert [region.kind for region in live.regions] == ["aperture", "background", "background"]
    for region, start, stop in ((live.regions[1], 29, 32), (live.regions[2], 36, 40)):
        assert (region.lower[0], region.upper[0]) == pytest.approx((start, stop), abs=1.0)
    # and in the spectrum
    low, high = tab.spectrum.axes.get_ylim()
    app.session.edit_subset_mode.mode = NewMode
    drag(tab.spectrum, [(6.0, (low + high) / 2), (7.0, (low + high) / 2)])
    app.session.edit_subset_mode.mode = OrMode
    drag(tab.spectrum, [(9.0, (low + high) / 2), (10.0, (low + high) / 2)])
    settle(0.1)
    assert len(live.wavelength_ranges) == 2
    first, second = panel.statistics.range.text().removesuffix(" µm").split(", ")
    assert first.startswith(("5.9", "6.0"))
    assert second.startswith(("8.9", "9.0"))


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
    assert not panel.regions.subset_row.isEnabled()
    tab.image.toolbar.active_tool = "select:xrange"
    drag(tab.image, [(30, 100), (33, 100), (37, 100)])
    settle(0.1)
    assert panel.regions.subset_row.isEnabled()
    assert panel.regions.subset.count() == 1
    panel.regions.to_background.click()
    assert live.regions[1].kind == "background"
    assert live.regions[1].lower[0] == pytest.approx(30, abs=1.0)
    panel.regions.to_aperture.click()
    assert live.regions[0].lower[0] == pytest.approx(30, abs=1.0)
    assert live.regions[0].kind == "aperture"


def test_follows_until_closed(live: Any, tab: Tab, panel: Any) -> None:
    """The panel follows the extraction; filling its widgets sets nothing."""
    before = live.extract
    live.rows_averaged = 21
    live.selected = None
    settle(0.1)
    assert panel.statistics.rows_averaged.value() == 21
    assert live.extract is before
    panel.statistics.rows_averaged.setValue(5)
    assert live.rows_averaged == 5
    tab.panel.close(warn=False)
    settle()
    live.rows_averaged = 7  # the closed panel ignores it
    settle(0.1)


def test_source_type(app: Any, live: Any, panel: Any) -> None:
    """The type of the source is chosen, recorded, kept by a session's parameters, and undone."""
    default = live.extract
    box = panel.position.source_type
    assert [box.itemText(i) for i in range(3)] == ["as in the header (POINT)", "point", "extended"]
    box.setCurrentIndex(2)
    box.activated.emit(2)
    assert live.extract.source_type == "EXTENDED"
    assert live.extraction.keywords["SRCTYPE"] == "EXTENDED"
    parameters = live.extract.parameters
    assert Extract1D.from_parameters(parameters).source_type == "EXTENDED"
    app._actions["undo"].trigger()
    settle(0.1)
    assert live.extract == default
    assert box.currentIndex() == 0
