"""Checks: what is legal but hardly meant, and everything that is wrong with a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from glue_lrs.apertures.edges import polynomial_regions
from glue_lrs.apertures.weights import region_weights
from glue_lrs.image.source_position import source_position

if TYPE_CHECKING:
    from glue_lrs.apertures.edges import Limits
    from glue_lrs.apertures.placement import Placement
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.image.source_position import SourcePosition

__all__ = ["advice"]

#: By how much of a pixel a background region may reach into the aperture: rounding.
_TOUCH = 0.01


def advice(image: SlitImage, operator: Extract1D) -> list[str]:
    """Look for what an extraction would do without a word, and a user would hardly want.

    Parameters
    ----------
    image : SlitImage
        The image.
    operator : Extract1D
        The operator whose aperture and background regions are looked at where they fall on this
        image.

    Returns
    -------
    list of str
        A line for each of: the image is not photometrically calibrated; the aperture stays where it
        is and misses the column at which the header puts the source; a background region overlaps
        the aperture, or lies on the source. Columns are inclusive pixel numbers from 0.

    Raises
    ------
    ApertureError
        If the aperture or a background region does not fit the image.

    Notes
    -----
    This needs the image's WCS, which takes longer to read than the extraction takes.
    """
    found = []
    if not image.calibrated:
        stated = image.header.get("S_PHOTOM")
        found.append(
            f"not photometrically calibrated (S_PHOTOM is {stated or 'missing'}): the spectrum is "
            f"in {image.unit.to_string().replace(' ', '')}, not in Jy"
        )
    placement = operator.place(image)
    source = placement.position or source_position(image)
    if source is not None and not operator.positions(image):
        found += _missed_source(image, operator, placement, source)
    if operator.background is not None and operator.subtract_background is not False:
        found += _background_on_source(image, operator, placement, source)
    return found


def _missed_source(
    image: SlitImage, operator: Extract1D, placement: Placement, source: SourcePosition
) -> list[str]:
    """Whether the source is farther from the middle of the aperture than half its width."""
    regions = operator.aperture.regions(image.wavelength, placement.trace, placement.offset)
    spans = [_at(limits, image, source) for limits in regions]
    lower, upper = min(span[0] for span in spans), max(span[1] for span in spans)
    if not abs(source.column - (lower + upper) / 2.0) > (upper - lower + 1.0) / 2.0:
        return []  # NaN as well: there is no aperture in this row
    return [
        f"the aperture ({_columns(lower, upper)}) misses the source, which the header puts at "
        f"column {source.column:.2f} in row {source.row} (use_source_posn=True would move it there)"
    ]


def _background_on_source(
    image: SlitImage, operator: Extract1D, placement: Placement, source: SourcePosition | None
) -> list[str]:
    """Which background regions overlap the aperture or lie on the source."""
    background = operator.background
    assert background is not None  # the caller has looked
    weights = operator.aperture.weights(image.wavelength, placement.trace, placement.offset)
    aperture = weights.full(image.shape)
    rows = aperture.any(axis=1)
    found = []
    for limits in polynomial_regions(
        "bkg_coeff",
        background.bkg_coeff,
        background.independent_var,
        image.wavelength,
        placement.background_offset,
    ):
        region = region_weights(limits, image.shape, partial=background.bkg_fit != "median")
        inside = region.full(image.shape)
        # Two regions that cover more than all of a pixel share a part of it.
        shared = (inside > 0) & (aperture > 0) & (inside + aperture > 1.0 + _TOUCH)
        name = f"the background region ({_columns(region.lower, region.upper)})"
        number = int(shared.any(axis=1).sum())
        if number:
            where = "" if number == rows.sum() else f" in {number} of {rows.sum()} rows"
            found.append(
                f"{name} overlaps the aperture ({_columns(weights.lower, weights.upper)}){where}: "
                "what is in both is subtracted as background"
            )
        elif source is not None:
            lower, upper = _at(limits, image, source)
            if lower - 0.5 <= source.column <= upper + 0.5:
                found.append(
                    f"{name} lies on the source, which the header puts at column "
                    f"{source.column:.2f} in row {source.row}"
                )
    return found


def _at(limits: Limits, image: SlitImage, source: SourcePosition) -> tuple[float, float]:
    """Inclusive limits of a region in the row, and for the wavelength, of the source."""
    column = int(np.clip(np.rint(source.column), 0, image.shape[1] - 1))
    lower, upper = (
        float(np.broadcast_to(edge, image.shape)[source.row, column]) for edge in limits
    )
    return lower, upper


def _columns(lower: float, upper: float) -> str:
    return f"columns {lower:.2f} to {upper:.2f}"
