"""The desktop without a screen, closed after each test, and the viewers of a tab."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

if os.environ["QT_API"] == "pyside6" and sys.version_info < (3, 12):
    # PySide6 6.12.0 loses a reference to None in every call that returns nothing, and Python 3.11
    # aborts when none are left, at the latest on exit: provide enough of them.
    _spare = [None] * 5_000_000
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_spare))

from glue_qt.app import GlueApplication
from qtpy import QtWidgets

from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.simulation.scene import Scene, demo_scene
from glue_lrs.viewers.qt import plugin
from glue_lrs.viewers.qt.tab import open_tab
from glue_lrs.viewers.qt.window import close
from tests.helpers.pointer import Tab, settle


@pytest.fixture(scope="session")
def products(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files as the pipeline writes them: an s2d, a calints, and the x1d of the s2d."""
    folder = tmp_path_factory.mktemp("products")
    scene: Scene = demo_scene()
    made = {"s2d": folder / "scene_s2d.fits", "calints": folder / "scene_calints.fits"}
    image = scene.s2d().image
    image.write(made["s2d"])
    scene.calints(5).image.write(made["calints"])
    made["x1d"] = folder / "scene_x1d.fits"
    extract = Extract1D.from_reference(None, image.exp_type, apply_apcorr=False)
    extract.run(image).write(made["x1d"])
    return made


@pytest.fixture
def make_app(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Make applications, which are closed with their viewers after the test."""
    monkeypatch.setenv("GLUE_TESTING", "True")
    plugin.setup()
    made: list[Any] = []

    def make(application: Any = None) -> Any:
        application = application or GlueApplication()
        made.append(application)
        application.start(size=(1500, 900), maximized=False, block=False)
        return application

    yield make
    for application in made:
        close(application)


@pytest.fixture
def app(make_app: Callable[..., Any]) -> Any:
    """An application that is shown."""
    return make_app()


@pytest.fixture
def quiet(app: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail after exceptions in slots, callbacks or events, or messages in glue's error console."""
    raised: list[Any] = []
    monkeypatch.setattr(sys, "excepthook", lambda *args: raised.append(args))
    yield
    settle()
    assert raised == []
    assert app._log._text.toPlainText() == ""
    assert QtWidgets.QApplication.overrideCursor() is None


@pytest.fixture
def live(app: Any, products: dict[str, Path]) -> Any:
    """The extraction of the s2d, in a tab."""
    return open_tab(app, products["s2d"])


@pytest.fixture
def tab(app: Any, live: Any) -> Tab:
    """The viewers of the tab."""
    return Tab(app, live)


@pytest.fixture
def panel(tab: Tab) -> Any:
    """The panel of the tab."""
    return tab.panel.panel
