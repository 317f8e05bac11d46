"""Pixels drawn by the views: positions, colours, and equality of blitting and full draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from glue_lrs.plotting.image import plot_image
from glue_lrs.plotting.style import BLUE, GREEN, ORANGE, VERMILION
from glue_lrs.simulation.scene import demo_scene
from glue_lrs.viewers.qt.tab import open_tab
from tests.helpers.pointer import NONE, Tab, drag, move, press, release, settle
from tests.helpers.screen import coloured, inside, near, pixels, redrawn, screen


@pytest.fixture
def tab(app: Any, live: Any) -> Tab:
    """The views with a background region."""
    tab = Tab(app, live)
    assert live.add_region("background", 33.0, 37.0)
    settle(0.1)
    return tab


@pytest.mark.parametrize("which", ["image", "spectrum", "profile"])
def test_blitting_equals_a_full_draw(live: Any, tab: Tab, which: str) -> None:
    """During a drag, and after it."""
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
            np.testing.assert_array_equal(between, redrawn(viewer))
    release(tab.image, edge + 1.1, 150)
    settle(0.2)
    after = pixels(viewer)
    assert (after != before).any()
    np.testing.assert_array_equal(after, redrawn(viewer))


def test_the_image_has_its_edges_where_they_are(live: Any, tab: Tab) -> None:
    """Edges, straight and tilted, and the crosshair are drawn in their colours."""
    rows, wave = live.rows, live.row_wavelength
    lower = live.regions[0].lower[0]
    live.set([live.regions[0].with_end("lower", "top", lower - 3.0, rows, wave), live.regions[1]])
    assert not live.regions[0].straight
    settle(0.3)
    tab.image.figure.canvas.draw()
    drawn = np.arange(40.0, 340.0, 7.0)
    at = np.interp(drawn, rows, np.where(np.isfinite(wave), wave, np.nan))
    for region, colour in zip(live.regions, (VERMILION, BLUE), strict=True):
        mask = coloured(tab.image, colour, 70)  # thin lines are blended; greys differ by more
        for edge in region.at(drawn, at):
            assert near(mask, *screen(tab.image, edge, drawn)).mean() > 0.9
        # and not elsewhere, apart from the crosshair
        elsewhere = near(mask, *screen(tab.image, region.at(drawn, at)[1] + 3.5, drawn), 1)
        assert elsewhere.mean() < 0.05
    left, right = tab.image.axes.get_xlim()
    across = np.linspace(left, right, 60)[1:-1]
    dashes = near(coloured(tab.image, ORANGE, 70), *screen(tab.image, across, live.cursor_row))
    assert dashes.sum() > 15


def test_the_image_is_the_flux(live: Any, tab: Tab) -> None:
    """The image drawn is that of the file, first row at the bottom, in the stretch of glue."""
    settle(0.3)
    layer = tab.image.layers[0].state
    data = live.image.data
    # the same image drawn by Matplotlib
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
    found = redrawn(tab.image)
    assert found.shape == expected.shape
    # Screen pixels at the border of two image pixels may belong to either.
    off = np.abs(inside(tab.image, found) - inside(tab.image, expected)).max(axis=-1)
    assert np.ptp(inside(tab.image, expected)) > 200
    assert np.median(off) <= 3
    assert np.mean(off > 12) < 0.12


def test_the_grey_scale_is_that_of_figures(app: Any, products: dict[str, Path]) -> None:
    """Bright pixels of the detector beside the slit do not change it."""
    image = demo_scene().cal().image
    data = image.data.copy()
    data[:, :200] = 1e6
    opened = Tab(app, open_tab(app, replace(image, data=data))).image
    layer, norm = opened.layers[0].state, plot_image(image, ax=Figure().subplots()).images[0].norm
    assert (layer.v_min, layer.v_max) == (norm.vmin, norm.vmax)
    assert (layer.stretch, layer.cmap.name) == ("arcsinh", "gray")
    stack = demo_scene().calints(5).image
    opened = Tab(app, open_tab(app, stack)).image
    layer, norm = opened.layers[0].state, plot_image(stack, ax=Figure().subplots()).images[0].norm
    assert (layer.v_min, layer.v_max) == (norm.vmin, norm.vmax)


def test_the_spectrum_is_on_the_screen(live: Any, tab: Tab) -> None:
    """The line, its error band and the selected range are drawn."""
    live.select(7.0, 9.0)
    settle(0.3)
    redrawn(tab.spectrum)
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
    # A shade of green within the range, none outside.
    picture = pixels(tab.spectrum)
    height = low + 0.02 * (high - low)
    shade = [picture[screen(tab.spectrum, x, height)][0] for x in (7.5, 8.5, 9.5, 6.5)]
    green = np.array(to_rgb(GREEN)).argmax()
    for place, chosen in zip(shade, (True, True, False, False), strict=True):
        assert (place[green] - place[0] > 15) == chosen


def test_the_profile_is_on_the_screen(live: Any, tab: Tab) -> None:
    """The profile at the crosshair and the edges of its row are drawn."""
    settle(0.2)
    redrawn(tab.profile)
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


@pytest.mark.parametrize("which", ["spectrum", "profile"])
def test_no_data_are_under_the_heading(live: Any, tab: Tab, which: str) -> None:
    """In a low window too, the text is above the axes, and the legend above the text."""
    viewer = getattr(tab, which)
    viewer._mdi_wrapper.resize(420, 250)
    settle(0.3)
    redrawn(viewer)
    text = (viewer.editor if which == "profile" else viewer.plot).readout
    assert text.get_text()
    bottom = text.get_transform().transform(text.get_unitless_position())[1]
    top = bottom + text.size(viewer.figure.dpi)[1]
    assert viewer.axes.bbox.y1 <= bottom + 1
    assert top <= viewer.figure.bbox.y1
    if which == "spectrum":
        box = viewer.axes.get_legend().get_window_extent(viewer.figure.canvas.get_renderer())
        assert top <= box.y0 + 2
        assert box.y1 <= viewer.figure.bbox.y1 + 1


@pytest.mark.parametrize("width", [1100, 1280, 1500])
def test_the_legend_stays_in_the_window(
    app: Any, live: Any, tab: Tab, products: dict[str, Path], width: int
) -> None:
    """Long names are shortened in the middle."""
    live.load_comparison(products["x1d"])
    live.comparison_label = "a_rather_long_name_of_a_spectrum_of_the_pipeline_x1d.fits"
    app.resize(width, 800)
    settle(0.4)
    redrawn(tab.spectrum)
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
    """The handle under the mouse is highlighted, and restored when the mouse leaves."""
    settle(0.2)
    redrawn(tab.image)
    before = pixels(tab.image)
    (place,) = [p for handle, p in tab.image.editor.handles(0) if handle.part == "body"]
    move(tab.image, *place, pressed=NONE)
    mask = coloured(tab.image, VERMILION)
    assert near(mask, *screen(tab.image, *place), 1).all()
    move(tab.image, live.regions[1].upper[0] + 3.5, 40.0, pressed=NONE)
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
