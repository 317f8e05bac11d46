"""Names of the files that a live extraction writes, and texts about its state."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glue_lrs.viewers.live.live_extraction import LiveExtraction
    from glue_lrs.viewers.live.statistics import ExtractionStatistics


def folder_of(live: LiveExtraction) -> Path:
    """Return the folder of the image, in which results are saved by default."""
    path = live.image.path
    return Path(path).resolve().parent if path else Path()


def stem_of(live: LiveExtraction) -> str:
    """Return the file name of the image without the product type and the extension."""
    path = live.image.path or live.image.filename or live.data.label
    name = Path(path).name.removesuffix(".gz").removesuffix(".fits")
    for ending in ("_s2d", "_calints", "_cal"):
        name = name.removesuffix(ending)
    return name


def spectrum_ending(live: LiveExtraction) -> str:
    """Return the end of the name of the file with the spectrum or, for a stack, the spectra."""
    return "_x1dints.fits" if live.image.is_stack else "_x1d.fits"


def number_text(value: float, digits: int = 3) -> str:
    """Format a number with some significant digits; "–" if it is not finite."""
    return f"{value:.{digits}g}" if math.isfinite(value) else "–"


def noise_text(numbers: ExtractionStatistics) -> str:
    """Format the median S/N, with a remark if it is not that of the source alone."""
    text = number_text(numbers.signal_to_noise)
    return f"{text} (sky included)" if numbers.sky_included and text != "–" else text


def ratio_text(ratio: float) -> str:
    """Format the ratio of two spectra."""
    plain = math.isfinite(ratio) and 0.01 <= abs(ratio) < 100
    return f"{ratio:.4f}" if plain else number_text(ratio, 4)


def lost_text(numbers: ExtractionStatistics) -> str:
    """Format the number of rows with lost pixels, the largest lost fraction, and masked rows."""
    lost = "none"
    if numbers.rows_lost:
        lost = f"{numbers.rows_lost} of {numbers.rows} rows, ≤ {numbers.most_lost:.0%}"
    if numbers.rows_masked:
        lost += f"; {numbers.rows_masked} masked"
    return lost
