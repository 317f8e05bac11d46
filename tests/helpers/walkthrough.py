"""The section "With the mouse" of the tutorial notebook, in JupyterLab."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nbformat

from tests.helpers.lab import ROOT, Notebook, write_notebook

#: Lines that begin the cells of the tutorial that are run, and the numbers of these cells.
_CELLS = ("from dataclasses", "level3_file =", "app = ", "glue_lrs.plot_spectrum(glue_lrs.open(")
NAMES, APP, PLOT = 1, 2, 3

#: First column and number of columns that the image of a nod shows.
_SHOWN, _COLUMNS = -1.5, 47.0

#: Middle of the aperture before and after it is moved.
_MISSED, _SOURCE = 30.5, 13.0

#: Distance from the top of the square handle, in heights.
_HANDLE = 0.384


def write_section(path: Path, nod: str, apcorr: str, x1d: str) -> None:
    """Write a notebook with the cells of the tutorial, with the names of files replaced."""
    tutorial = nbformat.read(ROOT / "docs" / "extraction-notebook.ipynb", as_version=4)
    texts = [cell.source for cell in tutorial.cells if cell.cell_type == "code"]
    found = [next(text for text in texts if text.startswith(start)) for start in _CELLS]
    found[NAMES] = f'nod_file = "{nod}"\napcorr = "{apcorr}"'
    found[PLOT] = found[PLOT].replace("nod1_corrected_x1d.fits", x1d)
    write_notebook(path, *found)


def correct(page: Notebook, after: Callable[[str, int], object] = lambda step, cell: None) -> None:
    """Correct the misplaced aperture with the mouse, as the tutorial says, and save the results.

    Parameters
    ----------
    page : Notebook
        Notebook with the section, open in a browser.
    after : callable
        Function that is called with the name of each step and the number of its cell.
    """
    for number in (0, NAMES, APP):
        page.run(number)
    after("opened", APP)
    _drag(page, _MISSED, _SOURCE, _HANDLE)
    after("moved", APP)
    page.page.get_by_role("button", name="Add background").click()
    page.page.get_by_text("background at columns").wait_for()
    after("background", APP)
    for name, ending in (("Save JSON", "_extract1d.json"), ("Save x1d", "_x1d.fits")):
        page.page.get_by_role("button", name=name).click()
        page.page.get_by_text(re.compile(f"wrote .*{re.escape(ending)}")).wait_for()
    after("saved", APP)
    page.run(PLOT)
    after("x1d", PLOT)


def _drag(page: Notebook, start: float, end: float, height: float) -> None:
    """Drag from a column of the image to another."""
    box = page.axes(0)
    y = box["y"] + height * box["height"]
    x = [box["x"] + (column - _SHOWN) / _COLUMNS * box["width"] for column in (start, end)]
    page.drag((x[0], y), (x[1], y))
