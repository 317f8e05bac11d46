"""Latency of the desktop, from a move of the mouse to the redrawn spectrum.

A glue window with the tab of an extraction (image, spectrum, slit profile, panel), offscreen unless
QT_QPA_PLATFORM is set, receives mouse events of Qt. A move is complete when the canvases are
painted. For comparison, the same run times moves with full draws of both canvases.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any

from glue_lrs.simulation.scene import Scene

#: Amplitude in columns of the moves of the aperture.
AMPLITUDE = 3.0


def benchmark_viewer(folder: Path, integrations: int, repeat: int) -> None:
    """Print the latencies for an s2d and for one integration of a stack."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from glue.main import load_plugins

    load_plugins(require_qt_plugins=False)
    platform = os.environ["QT_QPA_PLATFORM"]
    print(f"Mouse move to spectrum redrawn (milliseconds: median, 95%, most), Qt {platform}")
    image = Scene(bad_fraction=0.001).combined().image
    image.write(folder / "viewer_s2d.fits")
    _drag(folder / "viewer_s2d.fits", f"s2d {image.shape[0]}x{image.shape[1]}", 25.0, repeat)
    stack = Scene(bad_fraction=0.001).calints(integrations).image
    stack.write(folder / "viewer_calints.fits")
    shape = "x".join(map(str, stack.data.shape))
    del stack
    _drag(folder / "viewer_calints.fits", f"stack {shape}, one integration", 40.0, repeat)


def _drag(path: Path, label: str, goal: float, repeat: int) -> None:
    from glue_qt.app import GlueApplication
    from qtpy import QtCore, QtGui, QtWidgets

    from glue_lrs.viewers.qt.image import LRSImageViewer
    from glue_lrs.viewers.qt.spectrum import LRSSpectrumViewer
    from glue_lrs.viewers.qt.tab import open_tab
    from glue_lrs.viewers.qt.window import close

    class Painted(QtCore.QObject):
        """Counts the paint events of a canvas."""

        number = 0

        def eventFilter(self, watched: Any, event: Any) -> bool:  # noqa: N802
            self.number += event.type() == QtCore.QEvent.Paint
            return False

    application = GlueApplication()
    try:
        live = open_tab(application, path)
        application.start(maximized=False, size=(1600, 950), block=False)
        found = {type(viewer): viewer for tab in application.viewers for viewer in tab}
        image, spectrum = found[LRSImageViewer], found[LRSSpectrumViewer]
        canvas, line = image.figure.canvas, spectrum.figure.canvas
        _settle(QtWidgets)
        canvas.draw()
        line.draw()
        _settle(QtWidgets)
        painted = Painted()
        line.installEventFilter(painted)
        drawn = []
        canvas.mpl_connect("draw_event", drawn.append)
        low, high = live.regions[0].at(live.rows, live.row_wavelength)
        row = len(live.rows) // 2
        column = float(low[row] + high[row]) / 2
        row -= len(live.rows) // 8  # outside the handles in the middle

        def send(kind: Any, x: float, button: Any, pressed: Any) -> None:
            across, up = image.axes.transData.transform((x, row))
            ratio = canvas.device_pixel_ratio
            at = QtCore.QPointF(across / ratio, canvas.height() - up / ratio)
            place = QtCore.QPointF(canvas.mapToGlobal(at.toPoint()))
            none = QtCore.Qt.NoModifier
            event = QtGui.QMouseEvent(kind, at, place, button, pressed, none)
            QtWidgets.QApplication.sendEvent(canvas, event)

        left, nothing = QtCore.Qt.LeftButton, QtCore.Qt.NoButton
        send(QtCore.QEvent.MouseButtonPress, column, left, left)
        times, processor, seen = [], [], 0
        for step in range(repeat + 10):
            # a triangle wave without equal positions
            x = column + AMPLITUDE * (abs(step % 40 - 20) / 10 - 1) + 0.001 * step
            before, shown = live.extraction, painted.number
            start, busy = time.perf_counter(), time.process_time()
            send(QtCore.QEvent.MouseMove, x, nothing, left)
            QtWidgets.QApplication.processEvents()
            taken, worked = time.perf_counter() - start, time.process_time() - busy
            if live.extraction is before:
                continue  # moved by less than a screen pixel
            if step >= 10:  # after warm-up
                seen += painted.number > shown
                times.append(taken)
                processor.append(worked)
        redrawn = len(drawn)
        send(QtCore.QEvent.MouseButtonRelease, column, left, nothing)
        _settle(QtWidgets)
        plain = []
        for step in range(max(repeat // 5, 10)):
            regions = live.regions
            start = time.perf_counter()
            live.preview([regions[0].moved(0.1 * (-1) ** step), *regions[1:]])
            canvas.draw()
            line.draw()
            QtWidgets.QApplication.processEvents()
            plain.append(time.perf_counter() - start)
        live.cancel()
        times.sort()
        median, new = statistics.median(times), statistics.median(plain)
        late, most, work = times[int(0.95 * len(times))], times[-1], statistics.median(processor)
        print(
            f"  {label}: {median * 1e3:.1f}, {late * 1e3:.1f}, {most * 1e3:.1f} "
            f"(goal: median at most {goal:.0f}; processor time {work * 1e3:.1f})\n"
            f"    {len(times)} moves, spectrum painted in {seen}, image redrawn {redrawn} times\n"
            f"    full draws of image and spectrum: {new * 1e3:.1f}, {new / median:.1f} x"
        )
    finally:
        close(application)


def _settle(widgets: Any) -> None:
    """Process pending events, of timers and layouts."""
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        widgets.QApplication.processEvents()
        time.sleep(0.01)
