"""Sessions restore tabs with live extractions."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from glue_qt.app import GlueApplication

from glue_lrs.errors import LRSError
from glue_lrs.viewers.live.registry import live_for, registry_of
from glue_lrs.viewers.qt.app import view
from glue_lrs.viewers.qt.tab import open_tab
from glue_lrs.viewers.qt.window import make_application
from tests.helpers.pointer import Tab, drag, settle


@pytest.mark.parametrize("kind", ["s2d", "calints"])
@pytest.mark.parametrize("include", [False, True])
def test_session(
    make_app: Callable[..., Any],
    products: dict[str, Path],
    tmp_path: Path,
    kind: str,
    include: bool,
) -> None:
    """Image, aperture, background, fit, comparison, range and integration are restored."""
    app = make_app()
    live = open_tab(app, products[kind])
    tab = Tab(app, live)
    region = live.regions[0]
    drag(tab.image, [(region.upper[0], 150), (region.upper[0] + 2, 150)])
    assert live.add_region("background", 2.5, 6.5)
    panel = tab.panel.panel
    panel.background.fit.setCurrentIndex(1)
    panel.background.fit.activated.emit(1)
    if kind == "calints":
        live.integration = 3
    else:
        live.load_comparison(products["x1d"])
    live.select(7.0, 9.0)
    live.rows_averaged = 5
    live.cursor_row = 200.0
    path = tmp_path / "session.glu"
    app.save_session(str(path), include_data=include)

    back = GlueApplication.restore_session(str(path), show=False)
    make_app(back)
    image = next(data for data in back.data_collection if data.label == live.data.label)
    again = live_for(back.session, image)
    assert again is not None
    assert again is not live
    assert again.extract == live.extract
    np.testing.assert_array_equal(again.extraction.columns["FLUX"], live.extraction.columns["FLUX"])
    for name in ("integration", "rows_averaged", "cursor_row", "wavelength_range"):
        assert getattr(again, name) == getattr(live, name), name
    assert again.comparison_label == live.comparison_label
    second = Tab(back, again)
    assert second.image.editor.regions == live.regions
    assert second.panel.panel is not None
    if kind == "calints":
        assert second.image.state.slices[0] == 3
    else:
        assert second.spectrum.ratio_axes.get_visible()
    # and it is live
    kept = again.extract
    last = again.regions[0].upper[0]
    drag(second.image, [(last, 150), (last + 2, 150)])
    assert again.extract != kept
    assert live.extract == kept
    back._actions["undo"].trigger()
    assert again.extract == kept


def test_no_second_spectrum(
    make_app: Callable[..., Any], products: dict[str, Path], tmp_path: Path
) -> None:
    """Restoring a session adds no data."""
    app = make_app()
    open_tab(app, products["s2d"])
    path = tmp_path / "session.glu"
    app.save_session(str(path))
    back = GlueApplication.restore_session(str(path), show=False)
    make_app(back)
    assert [data.label for data in back.data_collection] == [
        data.label for data in app.data_collection
    ]
    assert [[type(v) for v in page] for page in back.viewers] == [
        [type(v) for v in page] for page in app.viewers
    ]
    assert back.tab_names == app.tab_names


def test_moved_file(
    make_app: Callable[..., Any], products: dict[str, Path], tmp_path: Path
) -> None:
    """The error of a session names the missing file."""
    source = tmp_path / "here_s2d.fits"
    shutil.copy(products["s2d"], source)
    app = make_app()
    open_tab(app, source)
    path = tmp_path / "session.glu"
    app.save_session(str(path))
    source.rename(tmp_path / "there_s2d.fits")
    with pytest.raises(LRSError, match=r"here_s2d\.fits") as caught:
        view([path], tmp_path / "out.png")
    assert "\n" not in str(caught.value)
    settle()


#: Names in session files, which later versions must be able to open.
NAMES = {
    "glue_lrs.viewers.datasets.coordinates.LRSCoordinates",
    "glue_lrs.viewers.datasets.coordinates.SpectrumCoordinates",
    "glue_lrs.viewers.datasets.session_image.SessionImage",
    "glue_lrs.viewers.datasets.session_meta.SessionMeta",
    "glue_lrs.viewers.qt.image.LRSImageLayerArtist",
    "glue_lrs.viewers.qt.image.LRSImageLayerState",
    "glue_lrs.viewers.qt.image.LRSImageViewer",
    "glue_lrs.viewers.qt.panel.viewer.ExtractionPanel",
    "glue_lrs.viewers.qt.panel.viewer.PanelLayerArtist",
    "glue_lrs.viewers.qt.profile.SlitProfileLayerArtist",
    "glue_lrs.viewers.qt.profile.SlitProfileViewer",
    "glue_lrs.viewers.qt.spectrum.LRSSpectrumViewer",
    "glue_lrs.viewers.qt.spectrum.SpectrumLayerArtist",
    "glue_lrs.viewers.datasets.loaders.lrs_image",
}


def test_names_in_a_session(
    make_app: Callable[..., Any], products: dict[str, Path], tmp_path: Path
) -> None:
    app = make_app()
    live = open_tab(app, products["s2d"])
    live.select(7.0, 9.0)
    path = tmp_path / "session.glu"
    app.save_session(str(path))
    found = set(re.findall(r"glue_lrs\.[\w.]+", path.read_text()))
    assert found == NAMES


def test_files_beside_a_session_that_was_sent_elsewhere(
    make_app: Callable[..., Any], products: dict[str, Path], tmp_path: Path
) -> None:
    """The list of messages names the files that were found there."""
    home, away = tmp_path / "home", tmp_path / "away"
    home.mkdir()
    shutil.copy(products["s2d"], home / "here_s2d.fits")
    app = make_app()
    live = open_tab(app, home / "here_s2d.fits")
    live.set([live.regions[0].moved(1)])
    app.save_session(str(home / "session.glu"))
    shutil.move(home, away)
    back = make_app(make_application([away / "session.glu"]))
    (again,) = registry_of(back.session).lives.values()
    assert again.extract == live.extract
    assert again.image.path == str(away / "here_s2d.fits")
    assert str(away / "here_s2d.fits") in again.notices[0].text
    np.testing.assert_array_equal(again.spectrum.flux, live.spectrum.flux)


def test_one_unreadable_file_does_not_stop_the_others(
    make_app: Callable[..., Any], products: dict[str, Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad_s2d.fits"
    bad.write_bytes(b"SIMPLE  =                    T")
    failed: list[LRSError] = []
    app = make_app(make_application([bad, products["s2d"]], failed.append))
    assert len(registry_of(app.session).lives) == 1
    (error,) = failed
    assert str(error).startswith(f"{bad}: ")
    assert "\n" not in str(error)
    (live,) = registry_of(app.session).lives.values()
    assert [one.severity for one in live.notices] == ["error"]
    with pytest.raises(LRSError, match=r"bad_s2d\.fits"):
        make_application([bad], failed.append)
    out = tmp_path / "out.png"
    paths = [tmp_path / "missing_s2d.fits", products["s2d"]]
    assert view(paths, out, failed=failed.append) == 2
    assert str(failed[-1]).endswith("missing_s2d.fits: no such file")
    assert out.exists()
