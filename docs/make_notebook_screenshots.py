"""Draw the screenshots of the notebook, with JupyterLab in Debian's Chromium (by hand).

    glue-lrs demo --output-dir demo
    PYTHONPATH=. python docs/make_notebook_screenshots.py demo [VOILA]

The section "With the mouse" of docs/extraction-notebook.ipynb is run on the first nod of the
demonstration, and its steps are made with the mouse. There is a picture of each in docs/_static.
With the path of the program voila, there is a picture of the web page, too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import sync_playwright

from tests.helpers.lab import (
    BROWSER,
    Notebook,
    chromium,
    free_port,
    notebook,
    server,
)
from tests.helpers.walkthrough import correct, write_section

HERE = Path(__file__).parent
TARGET = HERE / "_static"
NOTEBOOK = "extraction-notebook.ipynb"

#: Milliseconds in which the figures are drawn, and all checks made, after the cell has run.
_SETTLED = 8000.0


def main(demo: Path) -> None:
    """Correct a misplaced aperture in the first nod of the demonstration."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = "demo_nod1_s2d.fits", "demo_apcorr.fits"
        for file in files:
            shutil.copy(demo / file, folder)
        write_section(folder / NOTEBOOK, *files, "demo_nod1_x1d.fits")
        with server(folder) as url, notebook(url, NOTEBOOK, 1150, 1080) as page:
            correct(page, lambda step, cell: photograph(page, step, cell))


def web_page(demo: Path, voila: str) -> None:
    """Show the images of the demonstration as a web page, and choose the time series."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in (demo / "demo_nod1_s2d.fits", demo / "demo_slitless_calints.fits"):
            shutil.copy(file, folder)
        shutil.copy(TARGET / "extraction-page.ipynb", folder)
        port = free_port()
        address = f"http://localhost:{port}"
        command = [voila, "--no-browser", f"--port={port}", "extraction-page.ipynb"]
        paths = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        process = subprocess.Popen(command, cwd=folder, env=environment)
        try:
            _wait(f"{address}/voila/static/voila.js", process)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium(), args=[*BROWSER])
                page = browser.new_page(viewport={"width": 1150, "height": 1080})
                page.set_default_timeout(600_000.0)
                page.goto(address)
                page.locator(".bqplot .plotarea_events").first.wait_for()
                page.locator("select").first.select_option(label="demo_slitless_calints.fits")
                page.get_by_text("median of all").wait_for()
                page.wait_for_timeout(_SETTLED)
                page.screenshot(path=TARGET / "notebook_page.png", full_page=True)
                browser.close()
        finally:
            process.terminate()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    while process.poll() is None:
        try:
            urlopen(url).close()
        except URLError as error:
            if hasattr(error, "code"):  # an answer
                return
            time.sleep(1.0)
        else:
            return
    raise SystemExit("the server has ended")


def photograph(page: Notebook, name: str, cell: int) -> None:
    """Save a picture of the page, with the top of a cell at the top."""
    page.cells.nth(cell).evaluate("element => element.scrollIntoView()")
    page.page.mouse.move(5.0, 500.0)
    page.page.wait_for_timeout(_SETTLED)
    end = page.cells.nth(cell).bounding_box()
    assert end is not None
    height = min(end["y"] + end["height"] + 20.0, page.page.viewport_size["height"])
    part = {"x": 0, "y": 0, "width": page.page.viewport_size["width"], "height": height}
    page.page.screenshot(path=TARGET / f"notebook_{name}.png", clip=part)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    if len(sys.argv) > 2:
        web_page(Path(sys.argv[1]), sys.argv[2])
