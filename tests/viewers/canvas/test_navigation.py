"""The wheel zooms about the pointer, and the middle button pans, beside edits and tools."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from glue.core import DataCollection
from matplotlib.axes import Axes
from matplotlib.backend_bases import MouseEvent
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from glue_lrs import Aperture, Extract1D, SlitImage
from glue_lrs.viewers import LiveExtraction, open_extraction
from glue_lrs.viewers.canvas.image_editor import ImageEditor
from glue_lrs.viewers.canvas.spectrum_plot import SpectrumPlot
from tests.helpers.canvas import Pointer

Maker = Callable[..., SlitImage]
ROWS, COLUMNS = 60, 45


@pytest.fixture
def live(make_image: Maker) -> LiveExtraction:
    made = open_extraction(DataCollection(), make_image((ROWS, COLUMNS)))
    assert made.set(Extract1D(aperture=Aperture(xstart=20, xstop=27)))
    return made


@pytest.fixture
def editor(live: LiveExtraction) -> ImageEditor:
    figure = Figure(figsize=(5, 4), dpi=100)
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0.2, 0.2, 0.7, 0.7))
    ax.set(xlim=(-0.5, 44.5), ylim=(-0.5, 59.5))
    made = ImageEditor(ax, live)
    figure.canvas.draw()
    return made


def limits(ax: Axes) -> np.ndarray:
    return np.array([ax.get_xlim(), ax.get_ylim()])


def wheel(ax: Axes, x: float, y: float, step: float, key: str | None = None) -> None:
    """Turn the wheel at a position in fractions of the axes."""
    at = ax.transAxes.transform((x, y))
    MouseEvent("scroll_event", ax.figure.canvas, *at, step=step, key=key)._process()


def test_the_wheel_zooms_about_the_pointer(editor: ImageEditor) -> None:
    ax, before = editor.axes, limits(editor.axes)
    place = ax.transAxes.transform((0.3, 0.8))
    under = ax.transData.inverted().transform(place)
    wheel(ax, 0.3, 0.8, 2)
    np.testing.assert_allclose(np.ptp(limits(ax), axis=1), np.ptp(before, axis=1) / 1.44)
    np.testing.assert_allclose(ax.transData.inverted().transform(place), under, atol=0.1)
    wheel(ax, 0.3, 0.8, -2)
    np.testing.assert_allclose(limits(ax), before, atol=1e-9)


def test_below_or_beside_the_axes_one_axis_is_zoomed(editor: ImageEditor) -> None:
    ax, before = editor.axes, limits(editor.axes)
    wheel(ax, 0.5, -0.1, 1)
    assert np.ptp(ax.get_xlim()) < np.ptp(before[0])
    assert ax.get_ylim() == tuple(before[1])
    along = ax.get_xlim()
    wheel(ax, -0.1, 0.5, 1)
    assert ax.get_xlim() == along
    assert np.ptp(ax.get_ylim()) < np.ptp(before[1])
    after = limits(ax)
    wheel(ax, 1.1, 0.5, 1)  # on the other side
    wheel(ax, 0.5, 1.1, 1)
    wheel(ax, 0.5, 0.5, 1, key="control")  # Matplotlib zooms itself
    np.testing.assert_array_equal(limits(ax), after)


def test_the_middle_button_pans(live: LiveExtraction, editor: ImageEditor) -> None:
    ax, before, pointer = editor.axes, limits(editor.axes), Pointer(editor.axes)
    extract, row = live.extract, live.cursor_row
    pointer.send("button_press_event", (23.0, 30.0), button=2)
    start = ax.transData.transform((23.0, 30.0))
    for dx, dy in ((10, 5), (35, -20)):
        MouseEvent("motion_notify_event", ax.figure.canvas, *np.add(start, (dx, dy)),
                   buttons=[2])._process()  # fmt: skip
    end = np.add(start, (35, -20))
    MouseEvent("button_release_event", ax.figure.canvas, *end, button=2)._process()
    assert ax.transData.inverted().transform(end) == pytest.approx((23.0, 30.0))
    np.testing.assert_allclose(np.ptp(limits(ax), axis=1), np.ptp(before, axis=1))
    panned = limits(ax)
    MouseEvent("motion_notify_event", ax.figure.canvas, *start, buttons=[])._process()
    np.testing.assert_array_equal(limits(ax), panned)
    assert (live.extract, live.cursor_row) == (extract, row)  # nothing was edited


def test_edges_are_dragged_after_a_zoom(live: LiveExtraction, editor: ImageEditor) -> None:
    wheel(editor.axes, 0.5, 0.5, 3)
    editor.axes.figure.canvas.draw()
    edge = live.regions[0].upper[0]
    Pointer(editor.axes).drag((edge, 35.0), (edge + 1.0, 35.0))
    assert live.regions[0].upper[0] == pytest.approx(edge + 1.0, abs=0.05)


def test_a_drag_is_not_zoomed_and_a_closed_view_does_nothing(editor: ImageEditor) -> None:
    ax, pointer = editor.axes, Pointer(editor.axes)
    before = limits(ax)
    pointer.press((23.5, 15.0))
    wheel(ax, 0.5, 0.5, 1)
    np.testing.assert_array_equal(limits(ax), before)
    pointer.key("escape")
    editor.close()
    wheel(ax, 0.5, 0.5, 1)
    np.testing.assert_array_equal(limits(ax), before)


def test_the_limits_of_a_spectrum_stay_as_zoomed_until_they_are_reset(live: LiveExtraction) -> None:
    figure = Figure(figsize=(6, 5), dpi=100)
    FigureCanvasAgg(figure)
    ax, ratio = figure.subplots(2, 1, sharex=True)
    plot = SpectrumPlot(ax, live, ratio_axes=ratio)
    figure.canvas.draw()
    home = limits(ax)
    wheel(ax, 0.5, 0.5, 3)
    zoomed = limits(ax)
    live.set([live.regions[0].moved(1.0)])
    np.testing.assert_array_equal(limits(ax), zoomed)
    wheel(ax, 0.5, -0.6, 1)  # on the ratio: the wavelengths that both show
    assert np.ptp(ax.get_xlim()) < np.ptp(zoomed[0])
    assert ax.get_ylim() == tuple(zoomed[1])
    plot.reset_limits()
    np.testing.assert_allclose(limits(ax)[0], home[0])


def test_the_zoom_ends_where_numbers_do(editor: ImageEditor) -> None:
    for _ in range(20):
        wheel(editor.axes, 0.5, 0.5, 10)
    assert np.diff(limits(editor.axes), axis=1).min() > 0
    assert np.isfinite(limits(editor.axes)).all()


def test_the_place_under_the_mouse_is_described(editor: ImageEditor) -> None:
    """Also while the editor leaves the mouse to a tool; not during a drag, nor outside."""
    told: list[tuple[str, ...]] = []
    editor.on_readout = told.append
    pointer = Pointer(editor.axes)
    pointer.move((23.0, 30.0), pressed=False)
    assert told[-1][0].startswith("column 23, row 30")
    editor.active = False
    pointer.move((5.0, 7.0), pressed=False)
    assert told[-1][0].startswith("column 5, row 7")
    editor.active = True
    pointer.press((23.5, 15.0))
    number = len(told)
    pointer.move((24.0, 15.0))
    assert len(told) == number
    pointer.release((24.0, 15.0))
    pointer.move((90.0, 30.0), pressed=False)
    assert told[-1] == ()
