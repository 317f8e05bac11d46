"""Entry points of the desktop: menus, New Data Viewer, ``glue-lrs view``."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from glue.core import Data
from glue_qt.app import GlueApplication
from qtpy import QtCore, QtGui, QtWidgets

from glue_lrs import Extract1D, Extraction
from glue_lrs.combination.combine import combine
from glue_lrs.errors import LRSError, WriteError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.viewers.datasets.images import is_lrs_image
from glue_lrs.viewers.datasets.spectra import is_lrs_spectrum
from glue_lrs.viewers.live.registry import live_for
from glue_lrs.viewers.qt import app as shell
from glue_lrs.viewers.qt import requirements
from glue_lrs.viewers.qt.image import LRSImageViewer
from glue_lrs.viewers.qt.panel.viewer import ExtractionPanel
from glue_lrs.viewers.qt.plugin import MENU_LABEL, setup
from glue_lrs.viewers.qt.profile import SlitProfileViewer
from glue_lrs.viewers.qt.spectrum import LRSSpectrumViewer
from glue_lrs.viewers.qt.tab import extract_layer, open_tab
from glue_lrs.viewers.qt.window import fill
from tests.helpers.pointer import Tab, settle

ALL = (LRSImageViewer, LRSSpectrumViewer, SlitProfileViewer, ExtractionPanel)


def menu_action(app: Any) -> Any:
    (found,) = [a for a in app._actions["plugins"] if a.text() == MENU_LABEL]
    return found


def viewers(app: Any) -> list[Any]:
    return [viewer for page in app.viewers for viewer in page]


def test_menu(app: Any, products: dict[str, Path]) -> None:
    """Plugins > MIRI LRS extraction opens a tab for each image that has none."""
    app.load_data(str(products["s2d"]))
    menu_action(app).trigger()
    assert {type(viewer) for viewer in viewers(app)} == set(ALL)
    assert app.tab_count == 1  # the empty tab was used
    app.load_data(str(products["calints"]))
    menu_action(app).trigger()
    assert app.tab_count == 2
    assert len(viewers(app)) == 8
    assert app.tab_names == ["LRS: scene_s2d", "LRS: scene_calints"]


def test_tabs_of_one_image_have_different_names(app: Any, products: dict[str, Path]) -> None:
    for _ in range(3):
        open_tab(app, products["s2d"])
    name = "LRS: scene_s2d"
    assert app.tab_names == [name, f"{name} (2)", f"{name} (3)"]


def test_menu_asks_for_a_file(
    app: Any, products: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [("", ""), (str(products["x1d"]), ""), (str(products["s2d"]), "")]
    warned: list[str] = []
    monkeypatch.setattr(QtWidgets.QFileDialog, "getOpenFileName", lambda *_: answers.pop(0))
    monkeypatch.setattr(QtWidgets.QMessageBox, "warning", lambda *args: warned.append(args[2]))
    menu_action(app).trigger()  # nothing chosen
    assert viewers(app) == []
    menu_action(app).trigger()  # no image: one line
    assert viewers(app) == []
    (line,) = warned
    assert "scene_x1d.fits" in line
    assert "\n" not in line
    menu_action(app).trigger()
    assert len(viewers(app)) == 4


def test_layer_action(app: Any, products: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    monkeypatch.setattr(QtWidgets.QMessageBox, "warning", lambda *args: warned.append(args[2]))
    other = Data(label="other", x=np.arange(3.0))
    app.data_collection.append(other)
    extract_layer(other, app.data_collection)
    assert warned == ["other: is not an LRS image, expected an s2d, cal or calints"]
    extract_layer(app.load_data(str(products["s2d"])), app.data_collection)
    assert len(viewers(app)) == 4


def dropped(app: Any, *paths: Path) -> None:
    """Send the events of files dropped on the window."""
    data = QtCore.QMimeData()
    data.setUrls([QtCore.QUrl.fromLocalFile(str(path)) for path in paths])
    button, keys = QtCore.Qt.LeftButton, QtCore.Qt.NoModifier
    at = QtCore.QPoint(300, 300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PyQt6 has no other constructor yet
        enter = QtGui.QDragEnterEvent(at, QtCore.Qt.CopyAction, data, button, keys)
    QtWidgets.QApplication.sendEvent(app, enter)  # required by Qt before a drop
    assert enter.isAccepted()
    drop = QtGui.QDropEvent(QtCore.QPointF(at), QtCore.Qt.CopyAction, data, button, keys)
    QtWidgets.QApplication.sendEvent(app, drop)
    assert drop.isAccepted()


def test_drop(app: Any, products: dict[str, Path]) -> None:
    """Dropped files are LRS data, whose tabs the menu opens."""
    dropped(app, products["s2d"], products["x1d"])
    image, spectrum = app.data_collection
    assert is_lrs_image(image)
    assert is_lrs_spectrum(spectrum)
    assert image.meta["filename"] == str(products["s2d"])
    menu_action(app).trigger()
    assert {viewer.live.data for viewer in viewers(app)} == {image}
    dropped(app, products["calints"])
    stack = app.data_collection[-1]
    assert is_lrs_image(stack)
    assert stack.ndim == 3
    menu_action(app).trigger()
    assert {viewer.live.data for viewer in viewers(app)} == {image, stack}


def test_merged_images_are_refused_in_a_line(
    app: Any, products: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Datasets that glue has merged are refused with an explanation."""
    warned: list[str] = []
    monkeypatch.setattr(QtWidgets.QMessageBox, "warning", lambda *args: warned.append(args[2]))
    other = tmp_path / "nod2_s2d.fits"
    SlitImage.read(products["s2d"]).write(other)
    live = open_tab(app, products["s2d"])
    second = app.load_data(str(other))
    assert [one.label for one in app.data_collection].count("nod2_s2d") == 1  # it is not merged
    merged = app.data_collection.merge(live.data, second)
    settle()
    assert live.closed  # its data are removed
    extract_layer(merged, app.data_collection)
    (line,) = warned
    assert "glue has merged several datasets" in line
    assert "glue-lrs combine" in line
    assert "\n" not in line
    with pytest.raises(LRSError, match="glue has merged several datasets into it"):
        open_tab(app, merged)
    assert app.new_data_viewer(ExtractionPanel, data=merged) is None
    viewer = app.new_data_viewer(LRSImageViewer, data=merged)  # as any image, and says so
    assert viewer.editor is None
    assert "glue has merged" in viewer.status.hint


@pytest.mark.parametrize("kind", ALL)
def test_new_data_viewer(app: Any, products: dict[str, Path], kind: type) -> None:
    """Each view can be made by itself, of the image, and has a live extraction."""
    data = app.load_data(str(products["s2d"]))
    viewer = app.new_data_viewer(kind, data=data)
    live = live_for(app.session, data)
    assert viewer.live is live
    assert live is not None
    settle()
    viewer.close(warn=False)
    settle()
    assert viewer.live is None
    assert not live.closed


def test_spectrum_of_a_file(app: Any, products: dict[str, Path]) -> None:
    """An x1d is shown with its errors, and with a live spectrum in the unit of the latter."""
    data = app.load_data(str(products["x1d"]))
    viewer = app.new_data_viewer(LRSSpectrumViewer, data=data)
    assert viewer.live is None
    (artist,) = viewer.layers
    x, y = artist.plot_artist.get_data()
    np.testing.assert_allclose(x, data["wavelength"])
    np.testing.assert_array_equal(y, data["flux"])
    band = artist.band.get_paths()[0].vertices[:, 1]
    good = np.isfinite(data["flux"] + data["uncertainty"])
    assert np.nanmax(band) == pytest.approx(np.max((data["flux"] + data["uncertainty"])[good]))
    assert "[µm]" in viewer.axes.get_xlabel()
    image = app.load_data(str(products["s2d"]))
    viewer.add_data(image)
    live = live_for(app.session, image)
    assert viewer.live is live
    assert viewer.plot.unit != "Jy"
    settle()
    factor = {"mJy": 1e3, "µJy": 1e6}[viewer.plot.unit]
    np.testing.assert_allclose(artist.plot_artist.get_ydata(), data["flux"] * factor)


def test_other_data_are_refused(app: Any) -> None:
    other = Data(label="other", x=np.ones((4, 5)))
    app.data_collection.append(other)
    for kind in (SlitProfileViewer, ExtractionPanel):
        assert app.new_data_viewer(kind, data=other) is None
    viewer = app.new_data_viewer(LRSImageViewer, data=other)  # as any image
    assert viewer.live is None
    assert viewer.editor is None


def test_setup_twice() -> None:
    from glue_qt.config import menubar_plugin, qt_client

    setup()
    setup()
    assert [label for label, _ in menubar_plugin.members].count(MENU_LABEL) == 1
    assert all(qt_client.members.count(kind) == 1 for kind in ALL)


def test_layout(app: Any, products: dict[str, Path]) -> None:
    """The windows fill the tab, also after it is resized, until a user moves one."""
    fill(app, [products["s2d"]])
    settle(0.1)
    tab = Tab(app)

    def covered() -> float:
        area = app.current_tab.viewport().size()
        places = [viewer._mdi_wrapper.geometry() for viewer in tab.all]
        assert not any(a.intersects(b) for a in places for b in places if a is not b)
        total = sum(place.width() * place.height() for place in places)
        return float(total / (area.width() * area.height()))

    assert covered() == pytest.approx(1.0, abs=0.01)
    app.resize(1900, 1000)
    settle(0.2)
    assert covered() == pytest.approx(1.0, abs=0.01)
    tab.spectrum._mdi_wrapper.resize(300, 300)
    app.resize(1500, 900)
    settle(0.2)
    assert tab.spectrum._mdi_wrapper.width() == 300


@pytest.mark.parametrize("kind", ["x1d", "c1d", "x1dints"])
def test_spectra_alone_are_shown(
    app: Any, products: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    path = products["x1d"]
    if kind == "c1d":
        path = tmp_path / "both_c1d.fits"
        combine([Extraction.read(products["x1d"])]).write(path)
    elif kind == "x1dints":
        path = tmp_path / "scene_x1dints.fits"
        stack = SlitImage.read(products["calints"])
        extract = Extract1D.from_reference(None, stack.exp_type, apply_apcorr=False)
        extract.run(stack).write(path)
    fill(app, [path])
    (viewer,) = [viewer for viewers in app.viewers for viewer in viewers]
    (data,) = app.data_collection
    assert data.ndim == (2 if kind == "x1dints" else 1)
    (layer,) = viewer.layers
    assert layer.layer is data
    assert layer.visible


def test_spectra_of_segments_open_as_one_stack(
    app: Any, products: dict[str, Path], tmp_path: Path
) -> None:
    image = SlitImage.read(products["calints"])
    stack = Extract1D.from_reference(None, image.exp_type, apply_apcorr=False).run(image)
    assert stack.times is not None
    paths = [tmp_path / "seg1_x1dints.fits", tmp_path / "seg2_x1dints.fits"]
    for path, part in zip(paths, (slice(0, 2), slice(2, None)), strict=True):
        columns = {name: values[part] for name, values in stack.columns.items()}
        replace(stack, columns=columns, times=stack.times[part]).write(path)
    fill(app, paths[::-1])
    (data,) = app.data_collection
    assert data.label == "seg1_x1dints.fits and 1 more segment"
    flux = stack.columns["FLUX"][:, ::-1]  # with ascending wavelengths
    np.testing.assert_array_equal(data["flux"], flux)
    assert len(viewers(app)) == 1


def test_a_combined_spectrum_is_compared_with(
    app: Any, products: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "both_c1d.fits"
    combine([Extraction.read(products["x1d"])]).write(path)
    fill(app, [products["s2d"], path])
    live = live_for(app, next(iter(app.data_collection)))
    assert live.comparison_label == "both_c1d.fits"
    np.testing.assert_allclose(np.nanmedian(live.ratio()[1]), 1.0, rtol=1e-6)


def test_a_screenshot_is_a_png(products: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"a.txt: ends in '.txt', expected '.png'"):
        shell.view([products["s2d"]], tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


def test_screenshot(qtbot: Any, products: dict[str, Path], tmp_path: Path) -> None:
    """``glue-lrs view FILE... --screenshot out.png``."""
    target = tmp_path / "out.png"
    assert shell.view([products["s2d"], products["x1d"]], target, size=(1300, 800)) == 0
    picture = QtGui.QImage(str(target))
    assert (picture.width(), picture.height()) == (1300, 800)
    colours = {picture.pixelColor(x, y).name() for x in range(0, 1300, 3) for y in range(0, 800, 3)}
    assert "#0072b2" in colours  # the spectrum
    assert "#d55e00" in colours  # the aperture
    assert len(colours) > 100
    with pytest.raises(WriteError, match="exists"):
        shell.view([products["s2d"]], target)
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("platform", [None, "offscreen", "minimal"])
def test_a_screenshot_leaves_the_platform_alone(
    qtbot: Any,
    products: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    platform: str | None,
) -> None:
    """The environment is restored, also after an error."""
    if platform is None:
        monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    else:
        monkeypatch.setenv("QT_QPA_PLATFORM", platform)
    seen: list[str | None] = []
    monkeypatch.setattr(
        shell, "require_display", lambda: seen.append(os.environ.get("QT_QPA_PLATFORM"))
    )
    shell.view([products["s2d"]], tmp_path / "out.png", size=(900, 600))
    with pytest.raises(LRSError):
        shell.view([products["s2d"], tmp_path], tmp_path / "other.png")
    assert seen == ["offscreen"] * 2
    assert os.environ.get("QT_QPA_PLATFORM") == platform


def test_view(qtbot: Any, products: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """``glue-lrs view FILE`` returns when the window is closed, without a question."""
    monkeypatch.delenv("GLUE_TESTING", raising=False)
    seen: list[int] = []

    def stop() -> None:
        (window,) = [
            one
            for one in QtWidgets.QApplication.topLevelWidgets()
            if isinstance(one, GlueApplication) and one.isVisible()
        ]
        seen.append(len(viewers(window)))
        window.close()
        QtWidgets.QApplication.quit()

    QtCore.QTimer.singleShot(1000, stop)
    assert shell.view([products["s2d"]]) == 0
    assert seen == [4]


def test_view_reports_errors_in_a_line(
    products: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, other = tmp_path / "out.png", tmp_path / "other_x1d.fits"
    shutil.copy(products["x1d"], other)
    for paths, what in (
        ([tmp_path / "none.fits"], "none.fits: no such file"),
        ([tmp_path], str(tmp_path)),
        ([products["s2d"], products["x1d"], other], "is one of 2 spectra, expected one"),
    ):
        with pytest.raises(LRSError) as caught:
            shell.view(paths, out)
        assert what in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not out.exists()
    settle()
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(LRSError, match="no display"):
        shell.view([products["s2d"]])
    # Qt would end the process where a library of its X11 plugin is missing
    monkeypatch.setenv("DISPLAY", ":99")
    monkeypatch.setattr(requirements, "loads", lambda library: "icccm" not in library)
    with pytest.raises(LRSError, match=r"libxcb-icccm\.so\.4, .* apt install libxcb-icccm4\)"):
        shell.view([products["s2d"]])


def test_missing_packages(products: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the missing extra, or the library and its package."""
    monkeypatch.setitem(sys.modules, "glue_qt", None)
    with pytest.raises(LRSError, match="pip install glue-qt qtpy PyQt6"):
        shell.view([products["s2d"]])

    def broken(name: str) -> Any:
        raise ImportError("libEGL.so.1: cannot open shared object file: No such file")

    monkeypatch.setattr(requirements, "import_module", broken)
    with pytest.raises(LRSError, match="apt install libegl1") as caught:
        shell.view([products["s2d"]])
    assert "\n" not in str(caught.value)


def test_home(app: Any, products: dict[str, Path]) -> None:
    """The home tool restores the first limits in every view."""
    fill(app, [products["s2d"]])
    tab = Tab(app)
    for viewer in (tab.image, tab.spectrum, tab.profile):
        x, y = viewer.axes.get_xlim(), viewer.axes.get_ylim()
        viewer.axes.set_xlim(np.mean(x), x[1])
        viewer.axes.set_ylim(np.mean(y), y[1])
        assert viewer.state.y_min == pytest.approx(np.mean(y))
        viewer.toolbar.tools["mpl:home"].activate()
        np.testing.assert_allclose(viewer.axes.get_xlim(), x, atol=1e-6)
        np.testing.assert_allclose(viewer.axes.get_ylim(), y, rtol=1e-6)
    assert tab.spectrum.plot.limits.follow
    assert tab.profile.editor.limits.follow
