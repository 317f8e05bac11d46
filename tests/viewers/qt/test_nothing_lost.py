"""Robustness: actions in any order leave a valid state and no errors."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glue_lrs.image.slit_image import SlitImage
from glue_lrs.viewers.live.registry import live_for
from glue_lrs.viewers.qt.tab import open_tab
from tests.helpers.pointer import NONE, Tab, drag, move, press, release, settle

pytestmark = pytest.mark.usefixtures("quiet")


def sane(live: Any) -> None:
    """Check that the committed operator is shown with its spectrum."""
    assert live.operator == live.extract
    assert live.extraction is not None
    expected = live.extract.run(live.image)
    np.testing.assert_array_equal(live.extraction.columns["FLUX"], expected.columns["FLUX"])
    for region in live.regions:
        lower, upper = region.at(live.rows, live.row_wavelength)
        assert np.nanmin(upper - lower) >= 1 - 1e-6


def test_drag_off_the_image(live: Any, tab: Tab) -> None:
    region = live.regions[0]
    middle = (region.lower[0] + region.upper[0]) / 2
    drag(tab.image, [(middle, 100), (middle - 10, 100), (-300, -900), (500, 5000), (-40, 100)])
    sane(live)


def test_drag_an_edge_across_the_other(live: Any, tab: Tab) -> None:
    region = live.regions[0]
    drag(tab.image, [(region.lower[0], 150), (region.upper[0], 150), (region.upper[0] + 9, 150)])
    sane(live)
    after = live.regions[0]
    assert after.upper[0] == pytest.approx(region.upper[0], abs=0.0051)
    assert after.upper[0] - after.lower[0] == pytest.approx(1.0, abs=0.011)


def test_drag_over_columns_without_any_value(
    app: Any, products: dict[str, Path], tmp_path: Path
) -> None:
    image = SlitImage.read(products["s2d"])
    from dataclasses import replace

    data = image.data.copy()
    data[:, 24:40] = np.nan
    path = tmp_path / "holes_s2d.fits"
    replace(image, data=data).write(path)
    live = open_tab(app, path)
    tab = Tab(app, live)
    region = live.regions[0]
    middle = (region.lower[0] + region.upper[0]) / 2
    kept = live.extract
    tab.image.figure.canvas.draw()
    press(tab.image, middle, 100)
    for x in (middle + 6, middle + 12, 32.0):
        move(tab.image, x, 100)
    assert live.extraction is None
    settle(0.1)
    assert "NaN" in tab.panel.panel.message.text()
    assert "\n" not in tab.panel.panel.message.text()
    release(tab.image, 32.0, 100)
    assert live.extract == kept
    sane(live)


@pytest.mark.parametrize("which", ["image", "spectrum", "profile", "panel"])
def test_close_a_viewer_while_dragging(live: Any, tab: Tab, which: str) -> None:
    region = live.regions[0]
    edge = region.upper[0]
    kept = live.extract
    tab.image.figure.canvas.draw()
    press(tab.image, edge, 150)
    move(tab.image, edge + 2, 150)
    getattr(tab, which).close(warn=False)
    settle()
    if which != "image":
        move(tab.image, edge + 3, 150)
        release(tab.image, edge + 3, 150)
        assert live.extract != kept
    else:
        assert live.extract == kept
    sane(live)
    assert live.add_region("background", 30.0, 36.0)  # other viewers still follow
    settle()
    sane(live)


@pytest.mark.parametrize("dragging", [False, True])
def test_remove_the_data(app: Any, live: Any, tab: Tab, dragging: bool) -> None:
    """The viewers of the image are closed, the spectrum stays as an ordinary dataset."""
    if dragging:
        edge = live.regions[0].upper[0]
        tab.image.figure.canvas.draw()
        press(tab.image, edge, 150)
        move(tab.image, edge + 2, 150)
    app.data_collection.remove(live.data)
    settle(0.2)
    assert live.closed
    assert live_for(app.session, live.spectrum_data) is None
    assert live.spectrum_data in app.data_collection
    remaining = [viewer for page in app.viewers for viewer in page]
    assert all(viewer.live is None for viewer in remaining)
    spectrum = [viewer for viewer in remaining if viewer is tab.spectrum]
    assert len(spectrum) == 1  # it shows the remaining dataset
    (artist,) = spectrum[0].layers
    assert not artist.drawn_elsewhere
    assert np.isfinite(artist.plot_artist.get_ydata()).sum() > 100


def test_remove_the_spectrum(app: Any, live: Any, tab: Tab) -> None:
    app.data_collection.remove(live.spectrum_data)
    settle(0.2)
    region = live.regions[0]
    drag(tab.image, [(region.upper[0], 150), (region.upper[0] + 2, 150)])
    sane(live)


def test_two_files(app: Any, live: Any, tab: Tab, products: dict[str, Path]) -> None:
    """Two extractions are independent."""
    other = open_tab(app, products["calints"])
    assert other is not live
    second = Tab(app, other)
    kept = live.extract
    region = other.regions[0]
    drag(second.image, [(region.upper[0], 150), (region.upper[0] + 2, 150)])
    assert live.extract == kept
    assert other.extract.aperture.xstop != region.upper[0] - 0.5
    app.tab_widget.setCurrentIndex(0)
    settle()
    first = live.regions[0]
    drag(tab.image, [(first.upper[0], 150), (first.upper[0] + 2, 150)])
    assert live.extract != kept
    # both share the command stack of glue
    app._actions["undo"].trigger()
    assert live.extract == kept
    assert other.regions[0] != region
    app._actions["undo"].trigger()
    assert other.regions[0].upper == region.upper


def test_two_tabs_on_the_same_data(app: Any, live: Any, tab: Tab) -> None:
    """A second tab shows the same extraction."""
    assert open_tab(app, live.data) is live
    second = Tab(app, live, number=1)
    assert second.image is not tab.image
    region = live.regions[0]
    drag(second.image, [(region.upper[0], 150), (region.upper[0] + 2, 150)])
    sane(live)
    assert tab.image.editor.regions == second.image.editor.regions == live.regions
    app.close_tab(1, warn=False)
    settle()
    region = live.regions[0]
    drag(tab.image, [(region.upper[0], 150), (region.upper[0] + 2, 150)])
    sane(live)


def test_close_the_tab_and_open_it_again(app: Any, live: Any, tab: Tab) -> None:
    """The extraction outlives its viewers."""
    region = live.regions[0]
    drag(tab.image, [(region.upper[0], 150), (region.upper[0] + 2, 150)])
    kept = live.extract
    app.new_tab()
    app.close_tab(0, warn=False)
    settle()
    assert [viewer for page in app.viewers for viewer in page] == []
    assert open_tab(app, live.data) is live
    again = Tab(app, live)
    assert again.image.editor.regions == live.regions
    assert live.extract == kept
    assert len(app.data_collection) == 2


def test_select_with_every_tool(app: Any, live: Any, tab: Tab) -> None:
    """Subsets of columns and rows, and zooming, leave the aperture unchanged."""
    for tool in ("select:xrange", "select:yrange"):
        tab.image.toolbar.active_tool = tool
        drag(tab.image, [(28, 100), (33, 130), (36, 160)])
        settle()
    tab.image.toolbar.active_tool = "mpl:zoom"
    kept = live.extract
    middle = np.mean([live.regions[0].lower[0], live.regions[0].upper[0]])
    drag(tab.image, [(middle, 100), (middle + 6, 200), (middle + 12, 300)])
    assert live.extract == kept  # zooming moves no aperture
    tab.image.toolbar.active_tool = None
    tab.image.state.reset_limits()
    drag(tab.image, [(middle, 100), (middle + 2, 100)])
    assert live.extract != kept
    sane(live)


def test_closed_viewers_are_deleted(app: Any, live: Any, tab: Tab) -> None:
    """Neither viewers nor editors outlive their tab."""
    edge = live.regions[0].upper[0]
    move(tab.image, edge, 150, pressed=NONE)  # sets the mouse cursor
    drag(tab.image, [(edge, 150), (edge + 2, 150)])
    live.select(7.0, 9.0)
    kept = [weakref.ref(viewer) for viewer in tab.all]
    kept += [weakref.ref(tab.image.editor), weakref.ref(tab.spectrum.plot)]
    kept += [weakref.ref(tab.profile.editor), weakref.ref(tab.panel.panel)]
    tab.__dict__.clear()
    app.new_tab()
    app.close_tab(0, warn=False)
    settle(0.2)
    gc.collect()
    settle(0.1)
    gc.collect()
    assert [one() for one in kept if one() is not None] == []
    # undo reaches the extraction without its views
    app._actions["undo"].trigger()
    app._actions["undo"].trigger()
    assert live.wavelength_range is None
    assert live.regions[0].upper[0] == edge
    sane(live)
