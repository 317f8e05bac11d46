"""What the views draw: where it is, in which colour, and that blitting leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glue_lrs.plotting.style import BLUE, GREEN, ORANGE, VERMILION
from glue_lrs.viewers.qt.tab import open_tab
from tests.helpers.pointer import NONE, Tab, drag, move, press, release, settle


@pytest.fixture
def live(app: Any, products: dict[str, Path]) -> Any:
    return open_tab(app, products["s2d"])


@pytest.fixture
def tab(app: Any, live: Any) -> Tab:
    """The views with all there is to draw: a background, a comparison, a range, a crosshair."""
    tab = Tab(app, live)
    assert live.add_region("background", 33.0, 37.0)
    settle(0.1)
    return tab


def pixels(viewer: Any) -> NDArray[np.int_]:
    """What is on the screen, without drawing."""
    return np.array(viewer.figure.canvas.buffer_rgba())[..., :3].astype(int)


def coloured(viewer: Any, colour: str, tolerance: int = 12) -> NDArray[np.bool_]:
    """Pixels of a colour."""
    wanted = np.rint(255 * np.array(to_rgb(colour)))
    return np.asarray((np.abs(pixels(viewer) - wanted) <= tolerance).all(axis=-1))


def screen(viewer: Any, x: Any, y: Any) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Row and column of the picture of points of the data."""
    at = viewer.axes.transData.transform(np.column_stack(np.broadcast_arrays(x, y)))
    height = viewer.figure.canvas.renderer.height
    return np.floor(height - at[:, 1]).astype(int), np.floor(at[:, 0]).astype(int)


def near(mask: NDArray[np.bool_], rows: Any, columns: Any, reach: int = 2) -> NDArray[np.bool_]:
    """Whether there is one such pixel beside each place."""
    found = np.zeros(np.shape(rows), dtype=bool)
    for down in range(-reach, reach + 1):
        for across in range(-reach, reach + 1):
            found |= mask[
                np.clip(rows + down, 0, mask.shape[0] - 1),
                np.clip(columns + across, 0, mask.shape[1] - 1),
            ]
    return found


def drawn_anew(viewer: Any) -> NDArray[np.int_]:
    """A full drawing of the same."""
    viewer.figure.canvas.draw()
    return pixels(viewer)


def inside(viewer: Any, picture: NDArray[np.int_]) -> NDArray[np.int_]:
    """The part of a picture within the axes, without the frame."""
    box, height = viewer.axes.bbox, viewer.figure.canvas.renderer.height
    return picture[
        round(height - box.y1) + 3 : round(height - box.y0) - 3,
        round(box.x0) + 3 : round(box.x1) - 3,
    ]


@pytest.mark.parametrize("which", ["image", "spectrum", "profile"])
def test_blitting_draws_what_a_full_drawing_draws(live: Any, tab: Tab, which: str) -> None:
    """While the mouse drags, and after it."""
    viewer = getattr(tab, which)
    live.select(7.0, 9.0)
    settle(0.3)
    edge = live.regions[0].upper[0]
    tab.image.figure.canvas.draw()
    before = pixels(viewer)
    press(tab.image, edge, 150)
    for step in (0.6, 1.4, 1.1):
        move(tab.image, edge + step, 150)
        if step == 1.4:
            between = pixels(viewer)
            assert (between != before).any()
            np.testing.assert_array_equal(between, drawn_anew(viewer))
    release(tab.image, edge + 1.1, 150)
    settle(0.2)
    after = pixels(viewer)
    assert (after != before).any()
    np.testing.assert_array_equal(after, drawn_anew(viewer))


def test_the_image_has_its_edges_where_they_are(live: Any, tab: Tab) -> None:
    """Aperture and background in their colours, a tilted edge as well; the crosshair is there."""
    rows, wave = live.rows, live.row_wavelength
    lower = live.regions[0].lower[0]
    live.set([live.regions[0].with_end("lower", "top", lower - 3.0, rows, wave), live.regions[1]])
    assert not live.regions[0].straight
    settle(0.3)
    tab.image.figure.canvas.draw()
    some = np.arange(40.0, 340.0, 7.0)
    at = np.interp(some, rows, np.where(np.isfinite(wave), wave, np.nan))
    for region, colour in zip(live.regions, (VERMILION, BLUE), strict=True):
        mask = coloured(tab.image, colour, 70)  # lines are thin; no grey is as near to a colour
        for edge in region.at(some, at):
            assert near(mask, *screen(tab.image, edge, some)).mean() > 0.9
        # nor where the regions are not, but for the crosshair
        beside = near(mask, *screen(tab.image, region.at(some, at)[1] + 3.5, some), 1)
        assert beside.mean() < 0.05
    left, right = tab.image.axes.get_xlim()
    across = np.linspace(left, right, 60)[1:-1]
    dashes = near(coloured(tab.image, ORANGE, 70), *screen(tab.image, across, live.cursor_row))
    assert dashes.sum() > 15


def test_the_image_is_the_flux(live: Any, tab: Tab) -> None:
    """The pixels that are seen are those of the file, the first row below, stretched by glue."""
    settle(0.3)
    layer = tab.image.layers[0].state
    data = live.image.data
    # Matplotlib's own drawing of the same numbers beside it
    figure = Figure(figsize=tab.image.figure.get_size_inches(), dpi=tab.image.figure.dpi)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes(tab.image.axes.get_position().bounds)
    scaled = (data - layer.v_min) / (layer.v_max - layer.v_min)
    grey = np.arcsinh(10 * np.clip(scaled, 0, 1)) / np.arcsinh(10)
    axes.imshow(grey, cmap="gray", origin="lower", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xlim=tab.image.axes.get_xlim(), ylim=tab.image.axes.get_ylim(), aspect="auto")
    canvas.draw()
    expected = np.array(canvas.buffer_rgba())[..., :3].astype(int)
    tab.image.editor.close()
    found = drawn_anew(tab.image)
    assert found.shape == expected.shape
    # Pixels at the edge of a pixel of the image may fall to either side.
    off = np.abs(inside(tab.image, found) - inside(tab.image, expected)).max(axis=-1)
    assert np.ptp(inside(tab.image, expected)) > 200
    assert np.median(off) <= 3
    assert np.mean(off > 12) < 0.12


def test_the_spectrum_is_on_the_screen(live: Any, tab: Tab) -> None:
    """The line and its error band, and the range that is selected."""
    live.select(7.0, 9.0)
    settle(0.3)
    drawn_anew(tab.spectrum)
    extraction = live.extraction
    factor = {"Jy": 1.0, "mJy": 1e3, "µJy": 1e6}[tab.spectrum.plot.unit]
    good = ~extraction.mask & (extraction.wavelength > 5.0) & (extraction.wavelength < 13.0)
    wave = extraction.wavelength[good]
    flux = extraction.columns["FLUX"][good] * factor
    low, high = tab.spectrum.axes.get_ylim()
    seen = (flux > low) & (flux < high)
    assert seen.mean() > 0.95
    mask = coloured(tab.spectrum, BLUE, 40)
    assert near(mask, *screen(tab.spectrum, wave[seen], flux[seen])).mean() > 0.97
    # A shade of green within the range, none beside it.
    picture = pixels(tab.spectrum)
    height = low + 0.02 * (high - low)
    shade = [picture[screen(tab.spectrum, x, height)][0] for x in (7.5, 8.5, 9.5, 6.5)]
    green = np.array(to_rgb(GREEN)).argmax()
    for place, chosen in zip(shade, (True, True, False, False), strict=True):
        assert (place[green] - place[0] > 15) == chosen


def test_the_cut_is_on_the_screen(live: Any, tab: Tab) -> None:
    """The flux of the columns at the crosshair, with the edges of its row."""
    settle(0.2)
    drawn_anew(tab.profile)
    columns, flux, _ = live.cross_dispersion_profile()
    left, right = tab.profile.axes.get_xlim()
    low, high = tab.profile.axes.get_ylim()
    assert low < np.nanmin(flux) < np.nanmax(flux) < high  # the tops of sources as well
    inner = (columns > left + 1) & (columns < right - 1)
    black = pixels(tab.profile).max(axis=-1) < 90
    assert near(black, *screen(tab.profile, columns[inner], flux[inner])).mean() > 0.85
    height = low + 0.45 * (high - low)
    for region, colour in zip(live.regions, (VERMILION, BLUE), strict=True):
        edges = np.array([region.lower[0], region.upper[0]])
        assert near(coloured(tab.profile, colour, 30), *screen(tab.profile, edges, height)).all()


def test_nothing_is_under_the_line_of_text(live: Any, tab: Tab) -> None:
    """A low window, too: the top of the source stays below the text of the cut."""
    tab.profile._mdi_wrapper.resize(420, 250)
    settle(0.3)
    drawn_anew(tab.profile)
    text = tab.profile.editor.readout
    at = text.get_transform().transform(text.get_unitless_position())[1]
    bottom = at - text.size(tab.profile.figure.dpi)[1]
    top = float(np.nanmax(live.cross_dispersion_profile().flux))
    assert tab.profile.axes.transData.transform((0.0, top))[1] < bottom


@pytest.mark.parametrize("width", [1100, 1280, 1500])
def test_the_explanation_stays_in_the_window(
    app: Any, live: Any, tab: Tab, products: dict[str, Path], width: int
) -> None:
    """Long names are shortened in the middle; wide windows show more of them."""
    live.load_comparison(products["x1d"])
    live.comparison_label = "a_rather_long_name_of_a_spectrum_of_the_pipeline_x1d.fits"
    app.resize(width, 800)
    settle(0.4)
    drawn_anew(tab.spectrum)
    figure, legend = tab.spectrum.figure, tab.spectrum.axes.get_legend()
    box = legend.get_window_extent(figure.canvas.get_renderer())
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    names = [text.get_text() for text in legend.get_texts()]
    (name,) = [name for name in names if "…" in name]
    assert name.startswith("a_ra")
    assert name.endswith("fits")
    for viewer in (tab.image, tab.spectrum, tab.profile):  # and so do the labels of the axes
        for axis in (viewer.axes.yaxis, viewer.axes.xaxis):
            label = axis.get_label()
            if label.get_text() and viewer is not tab.image:
                place = label.get_window_extent(viewer.figure.canvas.get_renderer())
                assert place.y0 >= -1
                assert place.y1 <= viewer.figure.bbox.y1 + 1


def test_a_hovered_handle_is_filled(live: Any, tab: Tab) -> None:
    """What the mouse would take stands out, and the rest is as before when it leaves."""
    settle(0.2)
    drawn_anew(tab.image)
    before = pixels(tab.image)
    (place,) = [p for grip, p in tab.image.editor._handles(0) if grip.part == "body"]
    move(tab.image, *place, held=NONE)
    mask = coloured(tab.image, VERMILION)
    assert near(mask, *screen(tab.image, *place), 1).all()
    move(tab.image, live.regions[1].upper[0] + 3.5, 40.0, held=NONE)
    np.testing.assert_array_equal(pixels(tab.image), before)


def test_a_drag_in_one_view_is_seen_in_all(live: Any, tab: Tab) -> None:
    before = [pixels(viewer) for viewer in (tab.image, tab.spectrum, tab.profile)]
    edge = live.regions[0].lower[0]
    low, high = tab.profile.axes.get_ylim()
    y = low + 0.3 * (high - low)
    drag(tab.profile, [(edge, y), (edge - 1, y), (edge - 2, y)])
    settle(0.2)
    for viewer, old in zip((tab.image, tab.spectrum, tab.profile), before, strict=True):
        assert (pixels(viewer) != old).any()
