"""Placement of background regions beside the source, clear of traces and of bad columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import median_filter

from glue_lrs._utils.statistics import SIGMA_PER_MAD, masked_median
from glue_lrs._utils.validation import check_type
from glue_lrs.apertures.background import Background
from glue_lrs.errors import MeasurementError, SourceError
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.pixels import good_pixels
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.measurement.measure import measure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from glue_lrs._utils.typing import Mask
    from glue_lrs.image.slit_image import ImageSource

#: Number of columns of the regions on each side of the source. More columns add little to the
#: precision of the level in the aperture, and a background that varies along the slit adds errors.
_COLUMNS = 12.0

#: Total number of columns in the regions that is enough. If there are fewer, regions closer to the
#: sources are considered.
_ENOUGH = 6.0

#: Smallest width of a region in columns.
_NARROWEST = 2.0

#: Distances from the sources that are tried, in units of the FWHM at the longest wavelength. In
#: 2.5 FWHM, even a profile with diffraction wings has fallen to 1% of its maximum.
_DISTANCES = (2.5, 2.0, 1.6)

#: Deviation in standard deviations above which a column is hot or dead.
_UNUSUAL = 5.0

#: Window length in columns of the running median with which the level of a column is compared.
_NEIGHBOURS = 9

#: Approximate number of integrations of a stack in which hot columns are searched for.
_INTEGRATIONS = 16


def place_background(image: ImageSource, operator: Extract1D) -> Background:
    """Place background regions on both sides of the source.

    The regions are at least 2.5 FWHM from every source and negative trace that `measure` finds (1.6
    FWHM where there is less room), outside the aperture, and without hot or dead columns. They
    follow the measured trace. The background is the median of their pixels in each row.

    Parameters
    ----------
    image : SlitImage, `~specutils.Spectrum`, str or path-like
        Image or stack of integrations to be extracted.
    operator : Extract1D
        Operator with the aperture to be used. Its background is ignored.

    Returns
    -------
    Background
        Background for this operator. If the operator moves the regions with the aperture, their
        edges are those before this shift.

    Raises
    ------
    MeasurementError
        If there is no room for regions.
    """
    check_type("operator", operator, Extract1D, "an Extract1D")
    image = SlitImage.from_any(image)
    placement = operator.place(image)
    weights = operator.weights(image, placement)
    inside = np.flatnonzero(weights.values.any(axis=0)) + weights.columns.start
    aperture = (inside[0] - 1.5, inside[-1] + 1.5)  # with a margin of one column
    bad = unusual_columns(image, slice(inside[0], inside[-1] + 1))
    independent_var = operator.aperture.independent_var
    try:
        found = measure(image, integrations=False)
    except SourceError:
        found = None  # the sky, or a source that is too faint
    if found is None:
        known = np.flatnonzero(np.isfinite(image.wavelength).any(axis=0))
        choices = iter([[(known[0] - 0.5, known[-1] + 0.5)]])
        middle = sum(aperture) / 2.0
    else:
        choices = ([(low, high) for low, high in found.clear_regions(d)] for d in _DISTANCES)
        middle = found.column
    for clear in choices:
        regions = list(_nearest(_without(clear, aperture, bad), middle))
        if sum(high - low for low, high in regions) >= _ENOUGH:
            break
    if not regions:
        raise MeasurementError(
            "there is no room for background regions beside the source, expected at least "
            f"{_NARROWEST:.0f} columns without traces",
            subject=image.label,
        )
    straight: tuple[tuple[float, ...], ...] = tuple((edge,) for pair in regions for edge in pair)
    edges = straight if found is None else found.edges(regions, independent_var)
    offset = placement.background_offset
    return Background(
        bkg_coeff=tuple((edge[0] - offset, *edge[1:]) for edge in edges),
        independent_var=independent_var,
        bkg_fit="median",
    )


def unusual_columns(image: SlitImage, aperture: slice) -> Mask:
    """Return the mask of columns that are hot or dead in most rows, shape (column,).

    Parameters
    ----------
    image : SlitImage
        Image or stack of integrations.
    aperture : slice
        Columns of the source, which are not examined.

    Notes
    -----
    The level of a column is the median over its rows of the difference from the median of the
    columns outside the aperture. It is compared with the median of the neighbouring columns. A
    column is hot if the difference exceeds the noise of a pixel and 5 times the scatter of these
    differences, and dead if it has less than half as many good pixels as other columns.
    """
    step = max(len(image.data) // _INTEGRATIONS, 1)
    where = (slice(None, None, step),) if image.is_stack else (...,)
    shape = (-1, *image.shape)
    data = np.asarray(image.data[where], dtype=float).reshape(shape)
    good = good_pixels(image, where).reshape(shape) & np.isfinite(image.wavelength)
    share = good.mean(axis=(0, 1))
    inside = np.isfinite(image.wavelength).any(axis=0)
    unusual = share < 0.5 * np.median(share[inside])  # dead
    middle = masked_median(data, good)
    outside = np.isfinite(middle)
    outside[:, aperture] = False
    level = masked_median(middle.T, outside.T)
    difference = masked_median(middle - level[:, np.newaxis], outside)
    columns = np.flatnonzero(np.isfinite(difference))
    if columns.size:
        change = difference[columns]
        change = np.abs(change - median_filter(change, size=_NEIGHBOURS, mode="nearest"))
        noise = np.abs(middle - level[:, np.newaxis] - difference)[outside]
        # What is less than the noise of a pixel hardly changes the median of a row.
        limit = SIGMA_PER_MAD * max(_UNUSUAL * np.median(change), np.nanmedian(noise))
        unusual[columns] |= change > limit
    return unusual


def _without(
    clear: list[tuple[float, float]], aperture: tuple[float, float], bad: Mask
) -> list[tuple[float, float]]:
    """Return the parts of the ranges `clear` that are outside the aperture and the bad columns.

    Parts that are narrower than `_NARROWEST` are left out.
    """
    excluded = [aperture, *((c - 0.5, c + 0.5) for c in np.flatnonzero(bad))]
    parts = clear
    for left, right in sorted(excluded):
        parts = [
            part
            for low, high in parts
            for part in ((low, min(high, left)), (max(low, right), high))
            if part[1] > part[0]
        ]
    return [part for part in parts if part[1] - part[0] >= _NARROWEST]


def _nearest(parts: list[tuple[float, float]], middle: float) -> Iterator[tuple[float, float]]:
    """Yield the parts nearest to the column `middle`, with at most `_COLUMNS` columns per side."""
    left = [part for part in parts if part[1] <= middle]
    right = [part for part in parts if part[0] >= middle]
    for side in (left[::-1], right):
        remaining = _COLUMNS
        for low, high in side:
            width = min(high - low, remaining)
            if width < _NARROWEST:
                break
            yield (high - width, high) if side is not right else (low, low + width)
            remaining -= width
