"""Draw the screenshots of the notebook, with JupyterLab in Debian's Chromium (by hand).

    glue-lrs demo --output-dir demo
    PYTHONPATH=. python docs/make_notebook_screenshots.py demo

The pictures are written to docs/_static.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from tests.helpers.lab import notebook, server, write_notebook

TARGET = Path(__file__).parent / "_static"

OPEN = """import glue_lrs

app = glue_lrs.viewers.extraction_app("demo_nod1_s2d.fits")"""

CORRECT = """app.aperture = glue_lrs.Aperture(xstart=8.5, xstop=17.5)
app.background = glue_lrs.Background(bkg_coeff=[[0.5], [4.5], [38.5], [43.5]])
app.compare("default_x1d.fits")"""


def main(demo: Path) -> None:
    """Open the first nod of the demonstration, and correct its extraction."""
    import glue_lrs

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(demo / "demo_nod1_s2d.fits", folder)
        image = glue_lrs.SlitImage.read(folder / "demo_nod1_s2d.fits")
        glue_lrs.Extract1D.from_reference(None, image.exp_type).run(image).write(
            folder / "default_x1d.fits"
        )
        write_notebook(folder / "extraction.ipynb", OPEN, CORRECT)
        with server(folder) as url, notebook(url, "extraction.ipynb", 1150, 980) as page:
            for number, picture in enumerate(("opened", "corrected")):
                page.run(number)
                page.axes(0)
                page.page.wait_for_timeout(3000.0)  # the figures are drawn after the cell has run
                page.page.screenshot(path=TARGET / f"notebook_{picture}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
