"""JupyterLab in a real browser: regions are dragged with the mouse, and the kernel knows."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from glue_lrs import Extract1D, Extraction, SlitImage
from glue_lrs.io.apcorr import write_apcorr
from glue_lrs.simulation import Scene, Source
from tests.helpers.images import COLUMNS, SOURCE, saved, slit
from tests.helpers.lab import notebook, server, write_notebook
from tests.helpers.walkthrough import correct, write_section

#: Edges of the default aperture: 8 columns around the source.
UPPER = SOURCE + 4.0

_STATE = """
aperture = app.aperture
print(aperture.xstart, aperture.xstop, float(app.spectrum.flux.value.sum()), app.live.cursor_row)
"""


def test_an_edge_is_dragged_in_jupyterlab(tmp_path: Path) -> None:
    saved(slit(), tmp_path / "nod1_s2d.fits")
    opening = 'import glue_lrs\napp = glue_lrs.viewers.extraction_app("nod1_s2d.fits")'
    write_notebook(tmp_path / "test.ipynb", opening, _STATE, "app.set(xstrat=1)")
    with server(tmp_path) as url, notebook(url, "test.ipynb") as page:
        page.run(0)
        start, stop, flux, _ = map(float, page.run(1).split())
        assert (start, stop) == pytest.approx((8.8, 15.8))
        box = page.axes(0)  # the page scrolls to a cell that is run

        # the axes show the columns from -1.5 to COLUMNS + 0.5
        per_column = box["width"] / (COLUMNS + 2.0)
        x, y = box["x"] + (UPPER + 1.5) * per_column, box["y"] + 0.3 * box["height"]
        before = shot(page.page, box)
        page.drag((x, y), (x + 4.0 * per_column, y))
        start, stop, wider, row = map(float, page.run(1).split())
        assert start == pytest.approx(8.8)
        assert abs(stop - 19.8) < 0.5
        assert wider > 1.02 * flux

        # the picture has changed where the edge was and where it is, and nowhere else
        box = page.axes(0)
        changed = np.abs(shot(page.page, box) - before).max(axis=(0, 2)) > 0.1
        columns = np.flatnonzero(changed) * box["width"] / changed.size / per_column - 1.5
        assert columns.min() > SOURCE - 1.5  # the handle in the middle has moved, too
        assert columns.max() < stop + 1.5
        assert np.ptp(columns) > 3.0

        # a click beside the aperture moves the crosshair there
        page.page.mouse.click(box["x"] + 35.0 * per_column, box["y"] + 0.5 * box["height"])
        assert float(page.run(1).split()[3]) != row

        error = page.run(2).strip().splitlines()
        assert len(error) == 1
        assert re.match("ReferenceFileError: .*unknown key 'xstrat'", error[0])


def test_an_edge_is_dragged_on_a_canvas_of_ipympl(tmp_path: Path) -> None:
    saved(slit(), tmp_path / "nod1_s2d.fits")
    opening = "import glue_lrs\nopened = glue_lrs.viewers.extraction_app\n"
    opening += 'app = opened("nod1_s2d.fits", backend="ipympl")'
    # the place of the upper edge on the canvas, and the width of a column, in pixels of the page
    places = "canvas, axes = app.image.canvas, app.image.axes\n"
    places += "(left, low), (right, _) = axes.transData.transform([(0, 12), (1, 12)])\n"
    places += f"x = left + {UPPER} * (right - left)\n"
    places += "print(x, app.image.figure.bbox.height - low, right - left)"
    write_notebook(tmp_path / "test.ipynb", opening, places, _STATE)
    with server(tmp_path) as url, notebook(url, "test.ipynb") as page:
        page.run(0)
        x, y, per_column = map(float, page.run(1).split())
        start, stop, flux, row = map(float, page.run(2).split())
        assert (start, stop) == pytest.approx((8.8, 15.8))
        box = page.canvas(0)
        x, y = box["x"] + x, box["y"] + y
        before = shot(page.page, box)
        page.drag((x, y), (x + 4.0 * per_column, y))
        start, stop, wider, _ = map(float, page.run(2).split())
        assert start == pytest.approx(8.8)
        assert abs(stop - 19.8) < 0.5
        assert wider > 1.02 * flux

        box = page.canvas(0)
        assert np.abs(shot(page.page, box) - before).max() > 0.1

        # a click beside the aperture moves the crosshair there, and the figure receives the keys
        x, y = box["x"] + 0.75 * box["width"], box["y"] + 0.3 * box["height"]
        page.page.mouse.click(x, y)
        for _ in range(2):
            page.page.keyboard.press("ArrowUp")
        moved = float(page.run(2).split()[3])
        page.canvas(0)
        page.page.mouse.click(x, y)
        clicked = float(page.run(2).split()[3])
        assert clicked > row + 5.0
        assert moved == pytest.approx(clicked + 2.0, abs=0.5)


def test_a_misplaced_aperture_is_corrected_as_the_tutorial_says(tmp_path: Path) -> None:
    scene = Scene(sources=(Source(flux=1e-3),), background_drift=0.2, seed=3)
    nod = scene.s2d(1)
    nod.image.write(tmp_path / "my_nod1_s2d.fits")
    apcorr = tmp_path / "my_apcorr.fits"
    write_apcorr(scene.aperture_correction(size=np.arange(1, 31)), apcorr)
    write_section(tmp_path / "test.ipynb", "my_nod1_s2d.fits", apcorr.name, "my_nod1_x1d.fits")
    with server(tmp_path) as url, notebook(url, "test.ipynb") as page:
        correct(page)

    found = Extraction.read(tmp_path / "my_nod1_x1d.fits")
    good = ~found.mask & (found.wavelength > 5) & (found.wavelength < 12)
    assert np.median(found.columns["FLUX"][good]) == pytest.approx(1e-3, rel=0.01)
    assert np.median(found.columns["BACKGROUND"][good]) > 0
    # the saved reference repeats the extraction
    image = SlitImage.read(tmp_path / "my_nod1_s2d.fits")
    json = tmp_path / "my_nod1_extract1d.json"
    again = Extract1D.from_reference(json, image.exp_type, apcorr=apcorr).run(image)
    np.testing.assert_allclose(again.columns["FLUX"], found.columns["FLUX"], rtol=1e-6)


def shot(page: Any, box: dict[str, float]) -> np.ndarray:
    """Pixels of a part of the page, when it does not change any more."""
    before: bytes = b""
    for _ in range(60):
        now = page.screenshot(clip=box)
        if now == before:
            return np.asarray(imread(BytesIO(now)))[..., :3]
        before = now
        page.wait_for_timeout(500)
    raise AssertionError("the picture changes for half a minute")
