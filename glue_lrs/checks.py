"""Checks: what is legal but hardly meant, and everything that is wrong with a reference."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from glue_lrs.aperture import Limits, polynomial_regions, region_weights
from glue_lrs.errors import ReferenceFileError
from glue_lrs.position import SourcePosition, expected_position
from glue_lrs.reference import Reference, check_entry

if TYPE_CHECKING:
    from glue_lrs.extract import Extract1D, Placement
    from glue_lrs.image import SlitImage

__all__ = ["advice", "reference_errors", "source_position"]

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


def source_position(image: SlitImage) -> SourcePosition | None:
    """Column at which the header puts the source; None where it is not known.

    Parameters
    ----------
    image : SlitImage
        The image.
    """
    with contextlib.suppress(NotImplementedError):  # a WCS that has no inverse
        found = expected_position(image)
        return found if isinstance(found, SourcePosition) else None
    return None


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


# --- references ----------------------------------------------------------------------------------

#: Keys that only make sense, or contradict each other, together.
_TOGETHER = (("xstart", "xstop", "src_coeff"), ("ystart", "ystop"))


def reference_errors(document: object, name: str) -> list[str]:
    """List everything for which `Reference` refuses a document, which itself names the first.

    Parameters
    ----------
    document : object
        What a JSON file holds.
    name : str
        What messages call it.

    Returns
    -------
    list of str
        A line for each; empty for a document that `Reference` takes.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("apertures"), list):
        return _refusal(document, name)
    found: list[str] = []
    for number, entry in enumerate(document["apertures"]):
        if not isinstance(entry, Mapping) or "id" not in entry:
            single: list[Any] = [{"id": "dummy"}] * number + [entry]  # which keep its number
            found += _refusal({"apertures": single}, name)
            continue
        if not _refusal({"apertures": [entry]}, name):
            continue  # fine, or of another mode
        found += _entry_errors(entry, f"{name}: aperture {entry['id']!r}")
    return found or _refusal(document, name)


def _refusal(document: Any, name: str) -> list[str]:
    try:
        Reference(document, name)
    except ReferenceFileError as error:
        return [str(error)]
    return []


def _entry_errors(entry: Mapping[str, Any], where: str) -> list[str]:
    """What is wrong with each key of an entry, then with keys that belong together."""
    found: dict[str, None] = {}  # each once, in order
    good = dict(entry)
    beside = {"src_coeff": [[0], [1]]} if entry.get("src_coeff") is not None else {}
    for key, value in entry.items():
        try:
            check_entry({**beside, key: value}, where)
        except ReferenceFileError as error:
            found[str(error)] = None
            del good[key]
    groups = [{key: good[key] for key in keys if key in good} for keys in _TOGETHER]
    for group in (*groups, good):
        try:
            check_entry(group, where)
        except ReferenceFileError as error:
            found[str(error)] = None
    return list(found)
