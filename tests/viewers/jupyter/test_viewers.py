"""Viewers in a plain application of glue-jupyter: registration, refusals, and their end."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from comm import get_comm_manager
from glue_jupyter import JupyterApplication

from glue_lrs import LRSError
from glue_lrs.viewers import LiveExtraction, extraction_app, open_extraction, register
from tests.helpers.figure import drag
from tests.helpers.images import SOURCE

VIEWERS = ("lrs-image", "lrs-spectrum", "lrs-profile")


@pytest.fixture
def glue() -> JupyterApplication:
    register()
    return JupyterApplication()


@pytest.fixture
def live(glue: JupyterApplication, path: Path) -> Iterator[LiveExtraction]:
    live = open_extraction(glue, path)
    yield live
    live.close()


def collect() -> None:
    """Collect garbage. Widgets close when they are collected, so one pass is not enough."""
    for _ in range(4):
        gc.collect()


def widgets() -> int:
    """Return the number of widgets that are connected to a front end."""
    return len(get_comm_manager().comms)


def test_files_are_loaded_and_shown(glue: JupyterApplication, path: Path) -> None:
    data = glue.load_data(str(path))
    image, spectrum, profile = (glue.new_data_viewer(one, data=data, show=False) for one in VIEWERS)
    assert image.live is spectrum.live is profile.live
    drag(image, (SOURCE + 4.0, 12.0), (SOURCE + 6.0, 12.0))
    assert image.live.aperture.xstop == pytest.approx(17.8)
    assert spectrum.line.visible
    for viewer in (image, spectrum, profile):
        viewer.close()
    image.close()


@pytest.mark.parametrize("name", ["lrs-image", "lrs-profile"])
def test_other_data_are_refused_in_one_line(
    glue: JupyterApplication, live: LiveExtraction, name: str
) -> None:
    glue.add_data(other=np.arange(12.0).reshape(3, 4))
    other = glue.data_collection["other"]
    glue.new_data_viewer(name, data=live.data, show=False).close()  # opens widgets that all share
    number = widgets()
    with pytest.raises(LRSError, match="other: is not an LRS image"):
        glue.new_data_viewer(name, data=other, show=False)
    assert widgets() == number
    viewer = glue.new_data_viewer(name, data=live.data, show=False)
    with pytest.raises(LRSError, match="other: is not an LRS image"):
        viewer.add_data(other)
    assert viewer.live is live
    viewer.close()


@pytest.mark.parametrize("name", VIEWERS)
def test_a_viewer_that_is_closed_leaves_nothing(
    glue: JupyterApplication, live: LiveExtraction, name: str
) -> None:
    data = live.spectrum_data if name == "lrs-spectrum" else live.data
    glue.new_data_viewer(name, data=data, show=False).close()  # opens widgets that all share

    def opened() -> list[weakref.ref[object]]:
        viewer = glue.new_data_viewer(name, data=data, show=False)
        parts = [weakref.ref(part) for part in (viewer, viewer.figure, viewer.state)]
        live.cursor_row += 1.0
        viewer.close()
        viewer.close()
        return parts

    number = widgets()
    parts = opened()
    assert widgets() == number
    collect()
    assert [part() for part in parts] == [None, None, None]
    live.cursor_row += 1.0


def test_an_application_that_is_closed_keeps_no_pixels(path: Path) -> None:
    def opened() -> dict[str, weakref.ref[object]]:
        app = extraction_app(path, show=False)
        drag(app.image, (SOURCE + 4.0, 12.0), (SOURCE + 6.0, 12.0))
        app.panel.residual.value = True
        live = app.live
        parts = {
            "image": live.data, "spectrum": live.spectrum_data, "residual": live.residual_data,
            "pixels": live.image, "collection": app.glue.data_collection,
        }  # fmt: skip
        app.close()
        return {name: weakref.ref(part) for name, part in parts.items()}

    opened()
    parts = opened()
    collect()
    assert [name for name, part in parts.items() if part() is not None] == []
