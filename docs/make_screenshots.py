"""Draw the screenshots of the desktop application; called by Sphinx in a separate process.

    glue-lrs demo --output-dir demo && python docs/make_screenshots.py demo figures

No display is needed; drags are simulated by calls of the live extraction.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ["QT_QPA_PLATFORM"] = "offscreen"

SIZE = (1500, 880)


def main(demo: Path, target: Path) -> None:
    """Open the first nod of the demonstration with a misplaced spectrum, and correct it."""
    from glue.main import load_plugins
    from glue_qt.app import GlueApplication

    from glue_lrs import Extract1D, LRSWarning, SlitImage
    from glue_lrs.viewers import open_extraction
    from glue_lrs.viewers.qt.window import close, fill

    warnings.simplefilter("ignore", LRSWarning)
    target.mkdir(parents=True, exist_ok=True)
    image = SlitImage.read(demo / "demo_nod1_s2d.fits")
    missed = Extract1D.from_reference(None, image.exp_type, use_source_posn=False)
    missed.run(image).write(target / "missed_x1d.fits", overwrite=True)
    load_plugins(require_qt_plugins=False)
    application = GlueApplication()
    try:
        fill(application, [demo / "demo_nod1_s2d.fits", target / "missed_x1d.fits"])
        application.start(maximized=False, size=SIZE, block=False)
        photograph(application, target / "view_opened.png")

        live = open_extraction(application.session, application.data_collection[0])
        live.load_apcorr(demo / "demo_apcorr.fits")
        live.add_region("background", 0.5, 4.5)
        live.add_region("background", 38.5, 43.5)
        wide = live.regions[0].with_edge("lower", -1.0).with_edge("upper", 1.0)
        live.set([wide, *live.regions[1:]], "widen the aperture")
        live.load_comparison(None)
        live.select(7.0, 9.0)
        live.selected = 0
        photograph(application, target / "view_corrected.png")

        live.deselect()
        live.three_fwhm()
        live.residual()
        photograph(application, target / "view_measured.png")
    finally:
        close(application)
        (target / "missed_x1d.fits").unlink(missing_ok=True)


def photograph(application: Any, path: Path) -> None:
    """Save a screenshot of the window after pending events."""
    from glue_lrs.viewers.qt.base import settle

    settle()
    if not application.grab().save(str(path), "PNG"):
        raise OSError(f"{path}: cannot be written")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
