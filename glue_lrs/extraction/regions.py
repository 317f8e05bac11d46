"""Checks of where aperture and background are on the image, according to its header."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from glue_lrs.apertures.edges import polynomial_regions
from glue_lrs.apertures.weights import region_weights
from glue_lrs.errors import Hint
from glue_lrs.image.source_position import source_position
from glue_lrs.spectra.findings import Finding

if TYPE_CHECKING:
    from glue_lrs.apertures.edges import Limits
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.image.source_position import SourcePosition

#: Largest overlap (pixels) between a background region and the aperture that may be due to
#: rounding errors and is therefore not reported.
_OVERLAP_TOLERANCE = 0.01


def region_findings(image: SlitImage, operator: Extract1D) -> list[Finding]:
    """Return findings about the positions of the aperture and the background regions.

    Parameters
    ----------
    image : SlitImage
        Image to be extracted.
    operator : Extract1D
        Operator that defines the aperture and the background regions.

    Returns
    -------
    list of Finding
        A finding is given if the aperture does not follow the source and does not include its
        expected column, and for each background region that overlaps the aperture or includes the
        expected column of the source. The columns in the messages are inclusive pixel numbers,
        counted from 0.

    Raises
    ------
    ApertureError
        If the aperture or a background region does not fit the image.

    Notes
    -----
    This function is slower than the extraction because it loads the WCS of the image.
    """
    return list(_findings(image, operator))


def _findings(image: SlitImage, operator: Extract1D) -> Iterator[Finding]:
    """Yield the findings that `region_findings` returns."""
    placement = operator.place(image)
    source = placement.position or source_position(image)
    where = ""
    if source is not None:
        where = f"which the header puts at column {source.column:.2f} in row {source.row}"
    wavelength = image.wavelength
    if source is not None and not operator.positions(image):
        regions = operator.aperture.regions(wavelength, placement.trace, placement.offset)
        spans = [_at(limits, image, source) for limits in regions]
        lower, upper = min(span[0] for span in spans), max(span[1] for span in spans)
        # The limits are NaN if the aperture does not cover this row.
        if abs(source.column - (lower + upper) / 2.0) > (upper - lower + 1.0) / 2.0:
            yield Finding(
                "aperture_off_header",
                f"the aperture ({_columns(lower, upper)}) misses the source, {where}",
                {"lower": lower, "upper": upper, "column": source.column},
                Hint.to("{} moves it there", use_source_posn=True),
            )
    background = operator.subtracted_background
    if background is None:
        return
    weights = operator.aperture.weights(wavelength, placement.trace, placement.offset)
    aperture = weights.full(image.shape)
    rows = aperture.any(axis=1)
    for limits in polynomial_regions(
        "bkg_coeff",
        background.bkg_coeff,
        background.independent_var,
        wavelength,
        placement.background_offset,
    ):
        region = region_weights(limits, image.shape, partial=background.bkg_fit != "median")
        inside = region.full(image.shape)
        # Region and aperture overlap in a pixel if together they cover more than the whole pixel.
        shared = (inside > 0) & (aperture > 0) & (inside + aperture > 1.0 + _OVERLAP_TOLERANCE)
        name = f"the background region ({_columns(region.lower, region.upper)})"
        number = int(shared.any(axis=1).sum())
        if number:
            part = "" if number == rows.sum() else f" in {number} of {rows.sum()} rows"
            yield Finding(
                "region_overlap",
                f"{name} overlaps the aperture ({_columns(weights.lower, weights.upper)}){part}: "
                "pixels in both are subtracted as background",
                {"lower": region.lower, "upper": region.upper, "rows": number},
            )
        elif source is not None:
            lower, upper = _at(limits, image, source)
            if lower - 0.5 <= source.column <= upper + 0.5:
                yield Finding(
                    "region_on_header",
                    f"{name} lies on the source, {where}",
                    {"lower": lower, "upper": upper, "column": source.column},
                )


def _at(limits: Limits, image: SlitImage, source: SourcePosition) -> tuple[float, float]:
    """Return the first and last column (inclusive) of a region in the row of the source."""
    column = int(np.clip(np.rint(source.column), 0, image.shape[1] - 1))
    lower, upper = (
        float(np.broadcast_to(edge, image.shape)[source.row, column]) for edge in limits
    )
    return lower, upper


def _columns(lower: float, upper: float) -> str:
    """Return the text for inclusive column limits in a message."""
    return f"columns {lower:.2f} to {upper:.2f}"
