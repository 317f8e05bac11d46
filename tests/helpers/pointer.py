"""Mouse events of Qt on the canvases of viewers, and the viewers of a tab."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from qtpy import QtCore, QtGui, QtWidgets

from glue_lrs.viewers.qt.image import LRSImageViewer
from glue_lrs.viewers.qt.panel.viewer import ExtractionPanel
from glue_lrs.viewers.qt.profile import SlitProfileViewer
from glue_lrs.viewers.qt.spectrum import LRSSpectrumViewer

LEFT = QtCore.Qt.LeftButton
NONE = QtCore.Qt.NoButton


class Tab:
    """The viewers of a tab that belong to an extraction."""

    def __init__(self, app: Any, live: Any = None, number: int = 0) -> None:
        found: dict[type, list[Any]] = {}
        for tab in app.viewers:
            for viewer in tab:
                if live is None or viewer.live is live:
                    found.setdefault(type(viewer), []).append(viewer)
        self.image: LRSImageViewer = found[LRSImageViewer][number]
        self.spectrum: LRSSpectrumViewer = found[LRSSpectrumViewer][number]
        self.profile: SlitProfileViewer = found[SlitProfileViewer][number]
        self.panel: ExtractionPanel = found[ExtractionPanel][number]
        settle()

    @property
    def all(self) -> list[Any]:
        return [self.image, self.spectrum, self.profile, self.panel]


def settle(seconds: float = 0.05) -> None:
    """Process pending events of Qt, for at least some seconds and some rounds."""
    end = time.monotonic() + seconds
    rounds = 0
    while time.monotonic() < end or rounds < 8:
        QtWidgets.QApplication.processEvents()
        time.sleep(0.005)
        rounds += 1


def wait_until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Process events until a condition holds, and fail after a number of seconds.

    Unlike ``qtbot.waitUntil``, it works after a test has quit the application, as the end of
    ``glue-lrs view`` does: event loops then return at once and process nothing.
    """
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not so within {timeout} s"
        settle()


def on_canvas(viewer: Any, x: float, y: float) -> QtCore.QPointF:
    """Position of a point in data coordinates on the canvas, in Qt's coordinates."""
    canvas = viewer.figure.canvas
    across, up = viewer.axes.transData.transform((x, y))
    ratio = canvas.device_pixel_ratio
    return QtCore.QPointF(across / ratio, canvas.height() - up / ratio)


def seen(viewer: Any, x: float, y: float = 0.0) -> tuple[float, float]:
    """Data coordinates that Matplotlib reports for the mouse: of integer pixels."""
    pixel = [int(value) for value in viewer.axes.transData.transform((x, y))]
    back = viewer.axes.transData.inverted().transform(pixel)
    return float(back[0]), float(back[1])


def moved(viewer: Any, start: float, stop: float) -> float:
    """Columns between two positions of the mouse."""
    return seen(viewer, stop)[0] - seen(viewer, start)[0]


def send(viewer: Any, kind: Any, at: QtCore.QPointF, button: Any, pressed: Any, keys: Any) -> None:
    canvas = viewer.figure.canvas
    event = QtGui.QMouseEvent(
        kind, at, QtCore.QPointF(canvas.mapToGlobal(at.toPoint())), button, pressed, keys
    )
    QtWidgets.QApplication.sendEvent(canvas, event)


def press(viewer: Any, x: float, y: float, keys: Any = QtCore.Qt.NoModifier) -> None:
    send(viewer, QtCore.QEvent.MouseButtonPress, on_canvas(viewer, x, y), LEFT, LEFT, keys)


def move(
    viewer: Any, x: float, y: float, pressed: Any = LEFT, keys: Any = QtCore.Qt.NoModifier
) -> None:
    send(viewer, QtCore.QEvent.MouseMove, on_canvas(viewer, x, y), NONE, pressed, keys)


def release(viewer: Any, x: float, y: float, keys: Any = QtCore.Qt.NoModifier) -> None:
    send(viewer, QtCore.QEvent.MouseButtonRelease, on_canvas(viewer, x, y), LEFT, NONE, keys)


def drag(viewer: Any, points: Sequence[tuple[float, float]], keys: Any = None) -> None:
    """Press at the first point, move along, release at the last."""
    keys = QtCore.Qt.NoModifier if keys is None else keys
    viewer.figure.canvas.draw()
    press(viewer, *points[0], keys)
    for point in points[1:]:
        move(viewer, *point, keys=keys)
    release(viewer, *points[-1], keys)


def click(viewer: Any, x: float, y: float) -> None:
    drag(viewer, [(x, y)])


def double_click(viewer: Any, x: float, y: float) -> None:
    """A double click as Qt sends it: the second press is an event of another type."""
    click(viewer, x, y)
    at, keys = on_canvas(viewer, x, y), QtCore.Qt.NoModifier
    send(viewer, QtCore.QEvent.MouseButtonDblClick, at, LEFT, LEFT, keys)
    release(viewer, x, y)


def wheel(viewer: Any, x: float, y: float, steps: int) -> None:
    """Turn the wheel of the mouse at a point in data coordinates."""
    canvas = viewer.figure.canvas
    at = on_canvas(viewer, x, y)
    event = QtGui.QWheelEvent(
        at, QtCore.QPointF(canvas.mapToGlobal(at.toPoint())), QtCore.QPoint(0, 0),
        QtCore.QPoint(0, 120 * steps), NONE, QtCore.Qt.NoModifier, QtCore.Qt.NoScrollPhase, False,
    )  # fmt: skip
    QtWidgets.QApplication.sendEvent(canvas, event)


def button(panel: Any, label: str, which: int = 0) -> Any:
    """A button of the panel by its label."""
    found = [b for b in panel.findChildren(QtWidgets.QPushButton) if b.text() == label]
    return found[which]
