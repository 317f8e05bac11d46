"""Region editors on an image and on a profile, driven by events on an Agg canvas."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from glue.core import DataCollection
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backend_tools import Cursors
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from glue_lrs import Aperture, Background, Extract1D, SlitImage
from glue_lrs.viewers import LiveExtraction, open_extraction
from glue_lrs.viewers.canvas.image_editor import ImageEditor
from glue_lrs.viewers.canvas.profile_editor import ProfileEditor
from glue_lrs.viewers.live.region_geometry import Handle
from glue_lrs.viewers.live.region_text import edges_text
from tests.helpers.canvas import Pointer

Maker = Callable[..., SlitImage]
ROWS, COLUMNS = 60, 45
VERMILION, BLUE = (213, 94, 0), (0, 114, 178)
START = Extract1D(
    aperture=Aperture(xstart=20, xstop=27),
    background=Background(bkg_coeff=((5.5,), (10.5,))),
)


def new_axes(parts: int = 1) -> list[Axes]:
    """Axes of 450 by 360 pixels: ten of the screen for a column, and six for a row."""
    width, height = 520 * parts + 30, 450
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    FigureCanvasAgg(figure)
    return [
        figure.add_axes((60 / width + part * 520 / width, 50 / height, 450 / width, 360 / height))
        for part in range(parts)
    ]


def show(ax: Axes, live: LiveExtraction) -> ImageEditor:
    ax.imshow(live.shown.data, origin="lower", aspect="auto", cmap="gray_r")
    editor = ImageEditor(ax, live)
    ax.figure.canvas.draw()
    return editor


def place(editor: Any, handle: Handle) -> tuple[float, float]:
    return dict(editor.handles(handle.region))[handle]


@pytest.fixture
def live(make_image: Maker) -> LiveExtraction:
    made = open_extraction(DataCollection(), make_image((ROWS, COLUMNS)))
    assert made.set(START)
    return made


@pytest.fixture
def editor(live: LiveExtraction) -> ImageEditor:
    return show(new_axes()[0], live)


@pytest.fixture
def pointer(editor: ImageEditor) -> Pointer:
    return Pointer(editor.axes)


def undo_count(live: LiveExtraction) -> int:
    return len(live.session.command_stack._command_stack)


def straight(live: LiveExtraction, index: int = 0) -> tuple[float, float]:
    region = live.regions[index]
    assert region.straight
    return region.lower[0], region.upper[0]


# --- drags ---------------------------------------------------------------------------------------


def test_a_dragged_body_gives_the_spectrum_of_its_limits(
    live: LiveExtraction, editor: ImageEditor, pointer: Pointer
) -> None:
    fluxes: list[Any] = []
    live.add_callback("extraction", fluxes.append)
    before = undo_count(live)
    pointer.drag((23.5, 15), (24.0, 15), (25.75, 17), (26.5, 12))
    expected = Extract1D(
        aperture=Aperture(xstart=23, xstop=30), background=START.background
    )  # by 3 pixels
    assert live.extract.aperture == expected.aperture
    for name, values in expected.run(live.image).columns.items():
        np.testing.assert_array_equal(live.extraction.columns[name], values)
    assert len(fluxes) >= 3  # during the drag as well
    assert undo_count(live) == before + 1
    assert pointer.draws == 0  # the image was not redrawn
    live.session.command_stack.undo()
    assert straight(live) == (19.5, 27.5)
    assert editor.regions == live.regions


def test_escape_cancels_a_drag(live: LiveExtraction, pointer: Pointer) -> None:
    pointer.press((23.5, 15))
    pointer.move((24.5, 15))
    assert live.operator.aperture == Aperture(xstart=21, xstop=28)
    assert live.extract.aperture == START.aperture
    pointer.key("escape")
    assert live.operator.aperture == live.extract.aperture == START.aperture
    pointer.move((26, 15), pressed=False)
    pointer.release((26, 15))
    assert live.operator.aperture == START.aperture


@pytest.mark.parametrize("part", ["lower", "upper"])
@pytest.mark.parametrize("height", [10.0, 29.5, 55.0])
def test_an_edge_can_be_taken_anywhere(
    live: LiveExtraction, pointer: Pointer, part: str, height: float
) -> None:
    pointer.drag((19.5 if part == "lower" else 27.5, height), (22.0, height), (23.0, height))
    assert straight(live) == ((23.0, 27.5) if part == "lower" else (19.5, 23.0))


def test_an_edge_stops_a_pixel_before_the_other(live: LiveExtraction, pointer: Pointer) -> None:
    pointer.drag((19.5, 20), (24, 20), (33, 20))
    assert straight(live) == (26.5, 27.5)
    assert live.extraction is not None
    pointer.drag((27.5, 20), (3, 20))
    assert straight(live) == (26.5, 27.5)


def test_edges_and_bodies_stay_on_the_image(live: LiveExtraction, pointer: Pointer) -> None:
    pointer.drag((27.5, 20), (40, 20), (80, 90))
    assert straight(live) == (19.5, COLUMNS - 0.5)
    pointer.drag((30, 20), (-300, 20))
    assert straight(live) == (0.5 - 25.0, 0.5)  # a pixel of it is left
    assert live.extraction is not None


@pytest.mark.parametrize("end", ["bottom", "top"])
@pytest.mark.parametrize("part", ["lower", "upper"])
def test_the_end_of_an_edge_tilts_it(
    live: LiveExtraction, editor: ImageEditor, pointer: Pointer, part: str, end: str
) -> None:
    handle, other = Handle(0, part, end), Handle(0, part, "top" if end == "bottom" else "bottom")
    at, stays = place(editor, handle), place(editor, other)
    pointer.drag(at, (at[0] + 1, at[1]), (at[0] + 2, at[1]))
    assert place(editor, handle)[0] == pytest.approx(at[0] + 2, abs=0.006)
    assert place(editor, other)[0] == pytest.approx(stays[0], abs=1e-9)
    assert live.extract.aperture.src_coeff is not None
    which = 0 if part == "lower" else 1
    assert len(live.extract.aperture.src_coeff[which]) == 2
    assert len(live.extract.aperture.src_coeff[1 - which]) == 1
    assert live.extract.aperture.independent_var == "wavelength"


def test_a_tilt_stops_where_a_pixel_is_left(
    live: LiveExtraction, editor: ImageEditor, pointer: Pointer
) -> None:
    # Zoomed in, so that the edges would cross where they cannot be seen.
    editor.axes.set_ylim(20, 40)
    pointer.canvas.draw()
    at = place(editor, Handle(0, "lower", "top"))
    pointer.drag(at, (26, at[1]), (27, at[1]))
    lower, upper = live.regions[0].at(live.rows, live.row_wavelength)
    assert (upper - lower).min() == pytest.approx(1.0, abs=1e-3)
    assert live.extraction is not None
    assert live.message == ""


@pytest.mark.parametrize("end", ["bottom", "top"])
@pytest.mark.parametrize(("part", "outward"), [("lower", -1), ("upper", 1)])
def test_with_shift_the_other_edge_mirrors_an_end(
    live: LiveExtraction, editor: ImageEditor, pointer: Pointer, part: str, outward: int, end: str
) -> None:
    """A taper in one drag: symmetric about the middle, and one command."""
    before, wave = undo_count(live), live.row_wavelength
    at = place(editor, Handle(0, part, end))
    to = (at[0] + 2 * outward, at[1])
    pointer.drag(at, (at[0] + outward, at[1]), to, modifiers=["shift"])
    lower, upper = live.regions[0].at(live.rows, wave)
    np.testing.assert_allclose((lower + upper) / 2, 23.5, atol=1e-9)
    row = round(at[1])
    assert lower[row] == pytest.approx(17.5, abs=0.03)
    assert upper[row] == pytest.approx(29.5, abs=0.03)
    far = place(editor, Handle(0, part, "top" if end == "bottom" else "bottom"))
    assert far[0] == pytest.approx(19.5 if part == "lower" else 27.5, abs=1e-6)
    assert undo_count(live) == before + 1
    assert live.session.command_stack.undo_label == "taper the aperture"
    assert live.extraction is not None
    live.session.command_stack.undo()
    assert straight(live) == (19.5, 27.5)


def test_shift_counts_while_it_is_held(
    live: LiveExtraction, editor: ImageEditor, pointer: Pointer
) -> None:
    at = place(editor, Handle(0, "lower", "top"))
    pointer.press(at)
    pointer.move((at[0] - 2, at[1]), modifiers=["shift"])
    assert len(live.regions[0].upper) == 2
    pointer.move((at[0] - 2, at[1]))
    assert len(live.regions[0].upper) == 1
    pointer.release((at[0] - 2, at[1]))
    assert live.session.command_stack.undo_label == "tilt an edge of the aperture"


@pytest.mark.parametrize("dx", [20.0, -60.0])
def test_a_taper_stops_where_a_pixel_is_left_and_at_the_image(
    live: LiveExtraction, editor: ImageEditor, pointer: Pointer, dx: float
) -> None:
    at = place(editor, Handle(0, "lower", "top"))
    pointer.drag(at, (at[0] + dx, at[1]), modifiers=["shift"])
    lower, upper = live.regions[0].at(live.rows, live.row_wavelength)
    assert (upper - lower).min() >= 1.0
    np.testing.assert_allclose((lower + upper) / 2, 23.5, atol=1e-9)
    row = round(at[1])
    if dx > 0:
        assert (upper - lower).min() == pytest.approx(1.0, abs=0.1)
    else:
        assert lower[row] == pytest.approx(47.0 - (COLUMNS - 0.5), abs=0.1)  # the upper edge's end
    assert live.extraction is not None
    assert live.message == ""


def test_the_label_shows_both_conventions(editor: ImageEditor, pointer: Pointer) -> None:
    assert not editor.label.text.get_visible()
    pointer.press((23.5, 20))
    pointer.move((30.5, 20))
    assert editor.label.text.get_text() == "edges 26.50 .. 34.50\n(pixels 27 to 34)\nwidth 8"
    assert editor.label.text.get_visible()
    pointer.release((30.5, 20))
    assert not editor.label.text.get_visible()
    at = place(editor, Handle(0, "upper", "top"))
    pointer.press(at)
    pointer.move((at[0] + 2.2, at[1]))
    first = editor.label.text.get_text().splitlines()
    assert first[0].startswith(f"at row {at[1]:.0f}, ")
    assert first[1] == "edges 26.50 .. 36.70"
    pointer.release(at)


@given(st.floats(-50, 500), st.floats(1, 50))
def test_the_conventions_differ_by_half_a_pixel(lower: float, width: float) -> None:
    edges, pixels = edges_text(lower, lower + width)
    low, high = map(float, edges.removeprefix("edges ").split(" .. "))
    first, last = map(float, pixels.removeprefix("pixels ").split(" to "))
    assert (low, high) == pytest.approx((lower, lower + width), abs=0.0051)
    assert (first, last) == pytest.approx((low + 0.5, high - 0.5), abs=0.0101)
    assert "-0.00" not in edges
    assert " -0 " not in f" {pixels} "


@pytest.mark.parametrize("at", [(2, 2), (43, 57), (80, 20), (-30, -30)])
def test_the_label_stays_on_the_figure(
    editor: ImageEditor, pointer: Pointer, at: tuple[float, float]
) -> None:
    pointer.press((23.5, 20))
    pointer.move(at)
    x, y = editor.label.text.get_position()
    width, height = editor.label.text.size(100)
    figure = editor.axes.figure.bbox
    assert figure.x0 <= x <= x + width <= figure.x1
    assert figure.y0 <= y <= y + height <= figure.y1
    pointer.release(at)


# --- background regions ------------------------------------------------------------------------


def test_a_background_region_is_added_moved_selected_and_deleted(
    live: LiveExtraction, editor: ImageEditor, pointer: Pointer
) -> None:
    reported: list[bool] = []
    editor.on_adding = reported.append
    editor.adding = True
    pointer.drag((32.0, 30), (34.0, 30), (38.0, 35))
    assert [region.kind for region in live.regions] == ["aperture", "background", "background"]
    assert straight(live, 2) == pytest.approx((32.0, 38.0), abs=0.006)
    assert live.selected == 2
    assert not editor.adding
    assert reported == [True, False]
    pointer.drag((35.0, 10), (36.0, 10))
    assert straight(live, 2) == pytest.approx((33.0, 39.0), abs=0.02)
    pointer.drag((8, 20), (8, 20))  # a click selects
    assert live.selected == 1
    pointer.key("delete")
    assert len(live.regions) == 2
    assert straight(live, 1) == pytest.approx((33.0, 39.0), abs=0.02)
    live.session.command_stack.undo()
    assert straight(live, 1) == (5.5, 10.5)


def test_a_region_may_be_added_over_others_and_backwards(
    live: LiveExtraction, editor: ImageEditor, pointer: Pointer
) -> None:
    editor.adding = True
    pointer.drag((24.0, 30), (8.0, 30), (100.0, 30), (12.0, 30))
    assert straight(live, 2) == pytest.approx((12.0, 24.0), abs=0.006)


def test_less_than_a_pixel_is_no_region(
    live: LiveExtraction, editor: ImageEditor, pointer: Pointer
) -> None:
    before = undo_count(live)
    editor.adding = True
    pointer.drag((32.0, 30), (36.0, 30), (32.4, 30))
    assert len(live.regions) == 2
    assert editor.adding  # it may be tried again
    pointer.key("escape")
    assert not editor.adding
    assert undo_count(live) == before


def test_the_aperture_cannot_be_deleted(live: LiveExtraction, pointer: Pointer) -> None:
    pointer.drag((23.5, 10), (23.5, 10))
    assert live.selected == 0
    pointer.key("delete")
    assert len(live.regions) == 2


# --- keys --------------------------------------------------------------------------------------


def test_arrows_nudge_the_last_handle(live: LiveExtraction, pointer: Pointer) -> None:
    pointer.drag((23.5, 10), (23.5, 10))
    pointer.key("right")
    assert straight(live) == (19.6, 27.6)
    pointer.key("shift+left")
    assert straight(live) == (18.6, 26.6)
    pointer.drag((18.6, 10), (18.6, 10))  # its lower edge
    pointer.key("left")
    assert straight(live) == (18.5, 26.6)
    pointer.key("up")
    assert live.cursor_row == 31
    pointer.key("shift+down")
    assert live.cursor_row == 21


def test_held_arrows_are_one_command(live: LiveExtraction, pointer: Pointer) -> None:
    pointer.drag((23.5, 10), (23.5, 10))
    before = undo_count(live)
    for _ in range(25):
        pointer.key("right")
    assert straight(live) == (22.0, 30.0)
    assert undo_count(live) == before + 1
    pointer.drag((22.0, 10), (22.0, 10))  # its lower edge: something else
    for _ in range(3):
        pointer.key("left")
    assert straight(live) == (21.7, 30.0)
    assert undo_count(live) == before + 2
    live.session.command_stack.undo()
    assert straight(live) == (22.0, 30.0)
    live.session.command_stack.undo()
    assert straight(live) == (19.5, 27.5)


def test_right_is_right_where_the_columns_run_left(
    live: LiveExtraction, editor: ImageEditor, pointer: Pointer
) -> None:
    editor.axes.invert_xaxis()
    editor.axes.invert_yaxis()
    pointer.drag((23.5, 10), (23.5, 10))
    pointer.key("right")
    assert straight(live) == (19.4, 27.4)
    pointer.key("up")
    assert live.cursor_row == 29
    pointer.drag((23.4, 10), (25.4, 12))
    assert straight(live) == (21.4, 29.4)
    at = place(editor, Handle(0, "upper", "top"))
    assert at[1] > place(editor, Handle(0, "upper", "bottom"))[1]
    assert editor.handle_at(*editor.axes.transData.transform(at)) == Handle(0, "upper", "top")


@pytest.mark.slow
def test_keys_go_to_the_view_that_was_clicked(live: LiveExtraction) -> None:
    left, right = new_axes(2)
    first, second = show(left, live), ProfileEditor(right, live)
    left.figure.canvas.draw()
    pointer = Pointer(left)
    pointer.drag((23.5, 10), (23.5, 10))
    pointer.key("right")
    assert straight(live) == (19.6, 27.6)  # once, not twice
    assert first.overlay is second.overlay
    assert first.overlay.owners["focus"] is first


# --- robustness --------------------------------------------------------------------------------

places = st.tuples(st.floats(-20, 70), st.floats(-30, 90))


@pytest.mark.slow
@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from(["drag", "add", "key"]), st.lists(places, min_size=2, max_size=4),
                  st.sampled_from(["left", "shift+right", "delete", "escape", "up"])),
        max_size=6,
    ),
    st.booleans(),
)  # fmt: skip
def test_any_sequence_of_actions_leaves_a_valid_state(actions: list[Any], profile: bool) -> None:
    live = open_extraction(DataCollection(), _image())
    live.set(START)
    ax = new_axes()[0]
    editor: Any = ProfileEditor(ax, live) if profile else show(ax, live)
    ax.figure.canvas.draw()
    pointer = Pointer(ax)
    for action, where, key in actions:
        if action == "key":
            pointer.key(key)
        else:
            editor.adding = action == "add"
            pointer.drag(*where)
    pointer.key("escape")
    assert not editor.busy
    assert live.operator == live.extract
    assert live.extraction is not None
    assert editor.regions == live.regions
    for region in live.regions:
        lower, upper = region.at(live.rows, live.row_wavelength)
        assert (upper - lower).min() >= 1 - 1e-9
        assert upper.max() > -0.5
        assert lower.min() < COLUMNS - 0.5


def _image() -> SlitImage:
    """An image with columns of NaN and rows without a wavelength."""
    from astropy import units as u

    data = np.random.default_rng(3).normal(10, 1, (ROWS, COLUMNS)).astype(np.float32)
    data[:, :12] = np.nan
    wavelength = np.linspace(14.0, 5.0, ROWS)[:, np.newaxis] * np.ones(COLUMNS)
    wavelength[:4] = wavelength[-3:] = np.nan
    wavelength[:, -2:] = np.nan
    return SlitImage(
        data=data, wavelength=wavelength, unit=u.MJy / u.sr, exp_type="MIR_LRS-FIXEDSLIT",
        pixel_area=2.9e-13, err=np.ones_like(data), source_type="POINT",
    )  # fmt: skip


def test_dragging_over_columns_without_a_value(make_image: Maker) -> None:
    live = open_extraction(DataCollection(), _image())
    live.set(START)
    pointer = Pointer(show(new_axes()[0], live).axes)
    pointer.press((23.5, 20))
    pointer.move((6.0, 20))
    assert live.operator.aperture == Aperture(xstart=2.5, xstop=9.5)
    pointer.move((23.0, 20))
    assert np.isfinite(live.extraction.columns["FLUX"]).any()
    pointer.release((23.0, 20))
    assert live.extract.aperture == Aperture(xstart=19.5, xstop=26.5)


def test_a_release_may_be_lost(live: LiveExtraction, editor: ImageEditor, pointer: Pointer) -> None:
    pointer.press((23.5, 20))
    pointer.move((25.5, 20))
    pointer.move((40, 20), pressed=False)  # the button went up somewhere else
    assert not editor.busy
    assert straight(live) == (21.5, 29.5)
    pointer.press((25.5, 20))
    pointer.move((26.5, 20))
    pointer.press((8, 20))  # nor did this one come
    assert straight(live) == (22.5, 30.5)
    pointer.move((9, 20))
    pointer.release((200, 300))  # far off the axes
    assert not editor.busy
    assert live.extract == live.operator


def test_tools_of_the_toolbar_take_precedence(
    live: LiveExtraction, editor: ImageEditor, pointer: Pointer
) -> None:
    class Toolbar:
        mode = "zoom rect"

    pointer.canvas.toolbar = Toolbar()
    pointer.drag((23.5, 20), (30, 20))
    pointer.canvas.toolbar = None
    pointer.canvas.widgetlock(editor)
    pointer.drag((23.5, 20), (30, 20))
    pointer.canvas.widgetlock.release(editor)
    editor.active = False
    pointer.drag((23.5, 20), (30, 20))
    pointer.key("right")
    assert straight(live) == (19.5, 27.5)
    editor.active = True
    pointer.drag((23.5, 20), (30.5, 20))
    assert straight(live) == (26.5, 34.5)


def test_other_buttons_do_nothing(live: LiveExtraction, pointer: Pointer) -> None:
    pointer.send("button_press_event", (23.5, 20), button=3)
    pointer.move((30, 20))
    pointer.send("button_release_event", (30, 20), button=3)
    assert straight(live) == (19.5, 27.5)


def test_closed_while_dragging(live: LiveExtraction, editor: ImageEditor, pointer: Pointer) -> None:
    pointer.press((23.5, 20))
    pointer.move((25.5, 20))
    editor.close()
    assert live.operator.aperture == START.aperture
    assert editor.layer not in editor.axes.get_children()
    pointer.move((28, 20))
    pointer.release((28, 20))
    pointer.key("right")
    live.set(Extract1D(aperture=Aperture(xstart=1, xstop=5)))
    assert live.extract.aperture == Aperture(xstart=1, xstop=5)
    editor.close()


def test_the_extraction_ends_while_dragging(
    live: LiveExtraction, editor: ImageEditor, pointer: Pointer
) -> None:
    pointer.press((23.5, 20))
    pointer.move((25.5, 20))
    live.session.data_collection.remove(live.data)
    assert live.closed
    assert not editor.busy
    pointer.move((28, 20))
    pointer.release((28, 20))
    pointer.drag((23.5, 20), (28, 20))
    pointer.key("right")
    editor.close()
    assert live.extract.aperture == START.aperture


def test_axes_cleared_or_removed_while_dragging(
    live: LiveExtraction, editor: ImageEditor, pointer: Pointer
) -> None:
    pointer.press((23.5, 20))
    pointer.move((25.5, 20))
    editor.axes.clear()
    editor.axes.set(xlim=(0, 44), ylim=(0, 59))
    pointer.move((26.5, 20))
    pointer.canvas.draw()
    assert editor.layer in editor.axes.get_children()  # restored
    pointer.release((26.5, 20))
    figure = pointer.canvas.figure
    editor.axes.remove()
    live.set(START)
    figure.canvas.draw()
    pointer.drag((23.5, 20), (28, 20))
    editor.close()
    assert straight(live) == (19.5, 27.5)


def test_a_closed_figure(live: LiveExtraction, editor: ImageEditor, pointer: Pointer) -> None:
    from matplotlib.backend_bases import CloseEvent

    pointer.press((23.5, 20))
    pointer.move((25.5, 20))
    CloseEvent("close_event", pointer.canvas)._process()
    assert editor.closed
    assert live.operator == live.extract


@pytest.mark.slow
def test_an_editor_without_references_is_deleted(live: LiveExtraction) -> None:
    ax = new_axes()[0]
    reference = weakref.ref(show(ax, live))
    gc.collect()
    assert reference() is None
    pointer = Pointer(ax)
    pointer.drag((23.5, 20), (28, 20))
    live.set(Extract1D(aperture=Aperture(xstart=1, xstop=5)))


def test_two_extractions_on_one_figure(live: LiveExtraction, make_image: Maker) -> None:
    other = open_extraction(DataCollection(), make_image((ROWS, COLUMNS), seed=5))
    other.set(START)
    left, right = new_axes(2)
    editors = show(left, live), show(right, other)
    Pointer(right).drag((23.5, 20), (25.5, 20))
    assert straight(live) == (19.5, 27.5)
    assert straight(other) == (21.5, 29.5)
    assert [editor.busy for editor in editors] == [False, False]


# --- the crosshair and the range ---------------------------------------------------------------


def test_the_crosshair_follows_the_mouse_where_no_region_is(
    live: LiveExtraction, editor: ImageEditor, pointer: Pointer
) -> None:
    pointer.drag((40, 10), (41, 22.5))
    assert live.cursor_row == pytest.approx(22.5)
    assert editor.crosshair.get_ydata() == pytest.approx([22.5, 22.5])
    pointer.drag((40, 10), (41, 700))
    assert live.cursor_row == ROWS - 1
    live.cursor_row = 12.0
    assert list(editor.crosshair.get_ydata()) == [12, 12]
    assert pointer.draws == 0


def test_shift_selects_rows(live: LiveExtraction, editor: ImageEditor, pointer: Pointer) -> None:
    pointer.drag((40, 9.5), (40, 15), (40, 19.5), modifiers=["shift"])
    low, high = live.wavelength_range
    assert (low, high) == pytest.approx((live.row_wavelength[19], live.row_wavelength[10]))
    inside = (live.row_wavelength >= low - 1e-9) & (live.row_wavelength <= high + 1e-9)
    assert list(np.flatnonzero(inside)) == list(range(10, 20))
    assert editor.range_patch.get_path().get_extents().extents == pytest.approx((0, 9.5, 1, 19.5))
    pointer.drag((40, 9.5), (40, 9.6), modifiers=["shift"])
    assert live.wavelength_range is None
    assert not editor.range_patch.get_visible()


# --- the hint ----------------------------------------------------------------------------------


def test_hints_describe_the_drag(editor: ImageEditor, pointer: Pointer) -> None:
    hints: list[str] = []
    editor.on_hint = hints.append
    for at in ((23.5, 15), (19.5, 15), place(editor, Handle(0, "upper", "top")), (40, 15)):
        pointer.move(at, pressed=False)
    for hint, expected in zip(
        hints, ("move the region", "move the edge", "with Shift, taper"), strict=False
    ):
        assert expected in hint
    assert hints[3:] == [""]


def test_hovering_sets_cursor_and_highlight(
    monkeypatch: pytest.MonkeyPatch, editor: ImageEditor, pointer: Pointer
) -> None:
    cursors: list[Any] = []
    monkeypatch.setattr(pointer.canvas, "set_cursor", cursors.append)
    before = pointer.pixels()
    for at in ((23.5, 10), (27.5, 10), place(editor, Handle(0, "lower", "top")), (40, 10)):
        pointer.move(at, pressed=False)
    assert cursors == [Cursors.MOVE, Cursors.RESIZE_HORIZONTAL, Cursors.HAND, Cursors.POINTER]
    np.testing.assert_array_equal(pointer.pixels(), before)
    pointer.move((27.5, 10), pressed=False)
    assert (pointer.pixels() != before).any()  # the edge is highlighted
    assert pointer.draws == 0
    editor.adding = True
    pointer.move((27.4, 10), pressed=False)
    assert cursors[-1] == Cursors.SELECT_REGION


def test_the_middle_of_a_narrow_region_can_be_taken(
    live: LiveExtraction, editor: ImageEditor
) -> None:
    live.set(Extract1D(aperture=Aperture(xstart=23, xstop=23)))
    editor.axes.set_xlim(-100, 150)
    low, mid, high = (editor.axes.transData.transform((x, 10)) for x in (22.5, 23, 23.5))
    assert high[0] - low[0] < 5  # pixels of the screen
    assert editor.handle_at(*mid) == Handle(0, "body")
    assert editor.handle_at(low[0] - 3, low[1]) == Handle(0, "lower")
    assert editor.handle_at(high[0] + 3, low[1]) == Handle(0, "upper")
    assert editor.handle_at(high[0] + 30, low[1]) is None


@pytest.mark.parametrize("dpi", [72, 100, 220])
def test_the_reach_of_handles_does_not_depend_on_the_resolution(
    live: LiveExtraction, dpi: int
) -> None:
    figure = Figure(figsize=(5, 4), dpi=dpi)
    FigureCanvasAgg(figure)
    editor = show(figure.subplots(), live)
    x, y = editor.axes.transData.transform((27.5, 10))
    assert editor.handle_at(x + 5.5 * dpi / 72, y) == Handle(0, "upper")
    assert editor.handle_at(x + 6.5 * dpi / 72, y) is None


def test_rows_that_are_not_used_have_no_region(live: LiveExtraction, editor: ImageEditor) -> None:
    live.set(Extract1D(aperture=Aperture(xstart=20, xstop=27, ystart=15, ystop=40.5)))
    assert editor.artists[0].edges.get_ydata()[[0, 1]] == pytest.approx([14.5, 40.5])
    assert editor.handle_at(*editor.axes.transData.transform((23.5, 5))) is None


# --- drawing -----------------------------------------------------------------------------------


def count(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(pixels.astype(int) - colour).max(axis=-1) < 25).sum())


@pytest.mark.parametrize("profile", [False, True])
def test_blitting_draws_what_a_full_draw_draws(live: LiveExtraction, profile: bool) -> None:
    ax = new_axes()[0]
    editor: Any = ProfileEditor(ax, live) if profile else show(ax, live)
    ax.figure.canvas.draw()
    pointer = Pointer(ax)
    y = place(editor, Handle(0, "body"))[1]
    pointer.press((23.5, y))
    for x in (24, 27, 31, 28.5):
        pointer.move((x, y))
    blitted = pointer.pixels()
    assert pointer.draws == 0
    pointer.canvas.draw()
    np.testing.assert_array_equal(pointer.pixels(), blitted)
    pointer.release((28.5, y))
    pointer.move((28.5, y), pressed=False)
    blitted = pointer.pixels()
    pointer.canvas.draw()
    np.testing.assert_array_equal(pointer.pixels(), blitted)


def test_a_zoom_and_a_resize_are_followed(
    live: LiveExtraction, editor: ImageEditor, pointer: Pointer
) -> None:
    editor.axes.set(xlim=(10, 40), ylim=(20, 50))
    pointer.canvas.figure.set_size_inches(7, 3)
    live.cursor_row = 33.0  # asks for a drawing of another size
    assert pointer.draws == 1
    pointer.press((23.5, 40))
    pointer.move((25.5, 40))
    blitted = pointer.pixels()
    assert pointer.draws == 1
    pointer.canvas.draw()
    np.testing.assert_array_equal(pointer.pixels(), blitted)
    pointer.release((25.5, 40))
    low, high = (place(editor, Handle(0, "lower", end))[1] for end in ("bottom", "top"))
    assert 20 < low < high < 50


def test_the_edges_are_drawn_where_they_are(editor: ImageEditor, pointer: Pointer) -> None:
    pixels = pointer.pixels()[::-1]
    for x, colour in ((19.5, VERMILION), (27.5, VERMILION), (5.5, BLUE), (10.5, BLUE)):
        column, row = editor.axes.transData.transform((x, 12))
        around = pixels[int(row), int(column) - 3 : int(column) + 4][np.newaxis]
        assert count(around, colour) >= 1
    column, row = editor.axes.transData.transform((15, 12))
    around = pixels[int(row), int(column) - 3 : int(column) + 4][np.newaxis]
    assert count(around, VERMILION) == count(around, BLUE) == 0


def test_a_saved_figure_has_regions_and_no_handles(
    tmp_path: Any, editor: ImageEditor, pointer: Pointer
) -> None:
    from matplotlib import image as pictures

    before = pointer.pixels()
    editor.axes.figure.savefig(tmp_path / "saved.png", dpi=100)
    saved = (pictures.imread(tmp_path / "saved.png")[..., :3] * 255).round().astype(int)
    assert saved.shape == before.shape
    x, y = editor.axes.transData.transform(place(editor, Handle(0, "lower")))
    at = np.s_[-int(y) - 3 : -int(y) + 3, int(x) - 6 : int(x) + 7]
    assert (saved[at] != before[at]).any()
    assert count(saved, VERMILION) > 200
    pointer.move((23.5, 10), pressed=False)
    pointer.move((40, 10), pressed=False)
    np.testing.assert_array_equal(pointer.pixels(), before)  # what is blitted is as it was


def test_artists_do_not_affect_autoscaling(editor: ImageEditor) -> None:
    ax = editor.axes
    assert (list(ax.lines), list(ax.patches), list(ax.collections)) == ([], [], [])
    limits = ax.get_xlim(), ax.get_ylim()
    ax.relim()
    ax.autoscale_view()
    assert (ax.get_xlim(), ax.get_ylim()) == limits


def test_a_canvas_that_cannot_blit_is_drawn_whole(live: LiveExtraction) -> None:
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    figure = Figure()
    drawn: list[Any] = []

    class Canvas(FigureCanvasSVG):
        def draw_idle(self) -> None:
            drawn.append(1)

    Canvas(figure)
    editor = ImageEditor(figure.subplots(), live)
    count = len(drawn)
    live.cursor_row = 7.0
    assert len(drawn) == count + 1
    assert not editor.layer.get_animated()


# --- the slit profile --------------------------------------------------------------------------


@pytest.fixture
def profile(live: LiveExtraction) -> ProfileEditor:
    ax = new_axes()[0]
    made = ProfileEditor(ax, live)
    ax.figure.canvas.draw()
    return made


def test_the_profile_is_drawn(live: LiveExtraction, profile: ProfileEditor) -> None:
    live.cursor_row, live.rows_averaged = 12.0, 5
    columns, flux, _ = live.cross_dispersion_profile(12.0, 5)
    np.testing.assert_array_equal(profile.line.get_xdata(), columns)
    np.testing.assert_array_equal(profile.line.get_ydata(), flux)
    np.testing.assert_allclose(flux, live.image.data[10:15].mean(axis=0), rtol=1e-6)
    assert profile.readout.get_text() == (
        f"row 12, {live.row_wavelength[12]:.3f} µm, mean of 5 rows"
    )
    low, high = profile.axes.get_ylim()
    assert low < flux.min() < flux.max() < high
    assert profile.axes.get_ylabel() == "brightness [MJy/sr]"


def test_edges_in_the_profile_are_those_of_its_row(
    live: LiveExtraction, profile: ProfileEditor
) -> None:
    region = live.regions[0].with_end("upper", "top", 33.0, live.rows, live.row_wavelength)
    live.set([region, live.regions[1]])
    pointer = Pointer(profile.axes)
    for row in (10.0, 50.0):
        live.cursor_row = row
        lower, upper = map(float, region.at(row, live.row_wavelength[int(row)]))
        assert profile.artists[0].edges.get_xdata()[[0, -1]] == pytest.approx([lower, upper])
    y = profile.axes.get_ylim()[0] * 0.9 + profile.axes.get_ylim()[1] * 0.1
    pointer.drag((upper, y), (upper + 2, y))
    made = live.regions[0].at(50.0, live.row_wavelength[50])[1]
    assert made == pytest.approx(upper + 2, abs=0.01)
    # The edge has moved and keeps its tilt.
    assert live.regions[0].upper[1] == region.upper[1]


def test_the_profile_edits_as_the_image_does(
    live: LiveExtraction, editor: ImageEditor, profile: ProfileEditor
) -> None:
    pointer = Pointer(profile.axes)
    y = sum(profile.axes.get_ylim()) / 2
    pointer.drag((19.5, y), (17.5, y))
    assert straight(live) == (17.5, 27.5)
    pointer.press((22, y))
    pointer.move((23, y))
    assert editor.regions == profile.regions == live.regions  # both follow on the way
    pointer.release((23, y))
    assert straight(live) == (18.5, 28.5)
    profile.adding = True
    pointer.drag((32, y), (36, y))
    assert straight(live, 2) == pytest.approx((32, 36), abs=0.006)
    pointer.key("delete")
    assert len(live.regions) == 2


def test_an_outlier_does_not_set_the_limits_of_the_profile(make_image: Maker) -> None:
    image = make_image((ROWS, COLUMNS))
    image.data[25:36, 14] = 1e6
    live = open_extraction(DataCollection(), image)
    live.set(START)
    editor = ProfileEditor(new_axes()[0], live)
    assert editor.axes.get_ylim()[1] < 30
    assert editor.line.get_ydata()[14] > 1e5  # it is drawn, and leaves the axes


@pytest.mark.parametrize("fwhm", [1.3, 2.0, 4.0])
@pytest.mark.parametrize("at", [20.0, 20.5])
def test_the_top_of_a_narrow_source_is_seen(make_image: Maker, fwhm: float, at: float) -> None:
    image = make_image((ROWS, COLUMNS))
    x = np.arange(COLUMNS)
    image.data[:] = np.exp(-4 * np.log(2) * ((x - at) / fwhm) ** 2)
    live = open_extraction(DataCollection(), image)
    live.set(START)
    editor = ProfileEditor(new_axes()[0], live)
    assert editor.axes.get_ylim()[1] > np.nanmax(live.cross_dispersion_profile().flux)


@pytest.mark.slow
def test_a_figure_is_not_kept_alive(live: LiveExtraction) -> None:
    """Neither by an open view nor by one that has received events."""
    ax = new_axes()[0]
    editor = show(ax, live)
    pointer = Pointer(ax)
    pointer.drag((23.5, 20), (25.5, 20))
    pointer.move((25.5, 30), pressed=False)
    references = weakref.ref(ax.figure), weakref.ref(editor)
    del ax, editor, pointer
    gc.collect()
    assert [one() for one in references] == [None, None]


def test_limits_set_by_others_stay(live: LiveExtraction, profile: ProfileEditor) -> None:
    profile.axes.set_ylim(-3, 1000)
    live.cursor_row = 12.0
    assert profile.axes.get_ylim() == (-3, 1000)
    profile.reset_limits()
    assert profile.axes.get_ylim()[1] < 30


def test_the_profile_is_that_of_the_integration(make_image: Maker) -> None:
    live = open_extraction(DataCollection(), make_image((3, ROWS, COLUMNS)))
    live.set(START)
    editor = ProfileEditor(new_axes()[0], live)
    for number in (2, None, 0):
        live.integration = number
        np.testing.assert_array_equal(
            editor.line.get_ydata(), live.cross_dispersion_profile(live.cursor_row).flux
        )
