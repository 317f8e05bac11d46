"""Statistics of an extraction in the selected ranges of wavelength."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction
    from glue_lrs.spectra.findings import Finding
    from glue_lrs.viewers.live.regions import Region
    from glue_lrs.viewers.live.subsets import Ranges

#: Lost fractions of the aperture weight that do not exceed this value are rounding errors.
_LOST_TOLERANCE = 1e-9


@dataclass(frozen=True)
class ExtractionStatistics:
    """Statistics that help to decide on the edges of the aperture.

    Parameters
    ----------
    signal_to_noise : float
        Median of flux over error in the selected wavelength ranges; NaN if there is no flux. It is
        that of the source unless `sky_included`.
    sky_included : bool
        Whether the flux contains the sky, because no background was subtracted.
    ratio : float
        Median ratio of the flux to that of the comparison spectrum in these ranges; NaN if there
        is none.
    rows : int
        Number of rows in these ranges that are not masked.
    rows_masked : int
        Number of rows in these ranges that are masked.
    rows_lost : int
        Number of rows, among `rows`, in which bad pixels reduce the effective aperture.
    most_lost : float
        Largest fraction of the aperture's weight that is lost to bad pixels in a row.
    limits : str
        Edges of the aperture as inclusive limits (``xstart``, ``xstop``), where an integer is the
        centre of a pixel.
    edges : str
        Edges of the aperture as positions (``src_coeff``): pixel i extends from i - 0.5 to i + 0.5.
    """

    signal_to_noise: float
    sky_included: bool
    ratio: float
    rows: int
    rows_masked: int
    rows_lost: int
    most_lost: float
    limits: str
    edges: str


def extraction_statistics(
    extraction: Extraction | None,
    ratio: tuple[NDArray[np.float64], NDArray[np.float64]],
    ranges: Ranges,
    limits: tuple[str, str],
    sky_included: bool = False,
) -> ExtractionStatistics:
    """Compute the statistics of an extraction.

    Parameters
    ----------
    extraction : Extraction or None
        A single spectrum; None if the extraction failed.
    ratio : (ndarray, ndarray)
        Wavelength in micron and ratio of the flux to the comparison; see
        `~glue_lrs.viewers.live.comparison.flux_ratio`.
    ranges : tuple of (float, float)
        Selected ranges in micron; empty for all wavelengths.
    limits : (str, str)
        Edges of the aperture in both conventions; see `limits_text`.
    sky_included : bool
        Whether no background was subtracted; see `includes_sky`.
    """
    if extraction is None:
        return ExtractionStatistics(math.nan, sky_included, math.nan, 0, 0, 0, math.nan, *limits)
    inside = _within(extraction.wavelength, ranges)
    good = inside & ~extraction.mask
    with np.errstate(divide="ignore", invalid="ignore"):
        signal_to_noise = extraction.columns["FLUX"][good] / extraction.columns["FLUX_ERROR"][good]
    lost = extraction.lost_fraction[good]
    return ExtractionStatistics(
        signal_to_noise=_finite_median(signal_to_noise),
        sky_included=sky_included,
        ratio=_finite_median(ratio[1][_within(ratio[0], ranges)]),
        rows=int(good.sum()),
        rows_masked=int((inside & ~good).sum()),
        rows_lost=int((lost > _LOST_TOLERANCE).sum()),
        most_lost=float(np.max(lost, initial=0.0)),
        limits=limits[0],
        edges=limits[1],
    )


def includes_sky(operator: Extract1D, image: SlitImage, findings: Iterable[Finding]) -> bool:
    """Return whether the flux contains the sky.

    This is so if neither the pipeline nor the operator has subtracted a background, or if a level
    beside the aperture was found.

    Parameters
    ----------
    operator : Extract1D
        Operator of the extraction.
    image : SlitImage
        Image that was extracted.
    findings : iterable of Finding
        Findings about the extraction.
    """
    if any(one.kind == "background_left" for one in findings):
        return True
    fitted = operator.mode != "box" and operator.subtract_background is not False
    if fitted or operator.subtracted_background is not None:
        return False
    return not image.is_background_subtracted


def limits_text(regions: Sequence[Region], row: int, wavelength: float) -> tuple[str, str]:
    """Format the edges of the aperture as inclusive limits, and as positions.

    Parameters
    ----------
    regions : sequence of Region
        All regions. Regions of the background are ignored.
    row : int
        Row in which edges are evaluated. The text mentions the row if an edge is not straight.
    wavelength : float
        Wavelength in micron in this row.
    """
    apertures = [region for region in regions if region.kind == "aperture"]
    edges = [[float(edge) for edge in region.at(row, wavelength)] for region in apertures]
    limits = ", ".join(f"{lower + 0.5:.2f} to {upper - 0.5:.2f}" for lower, upper in edges)
    positions = ", ".join(f"{lower:.2f} to {upper:.2f}" for lower, upper in edges)
    where = "" if all(region.straight for region in apertures) else f" in row {row}"
    return limits + where, positions + where


def _within(wavelength: NDArray[np.float64], ranges: Ranges) -> NDArray[np.bool_]:
    """Return which wavelengths lie in any of the ranges; all if there are no ranges."""
    inside = np.full(wavelength.shape, not ranges)
    for low, high in ranges:
        inside |= (wavelength >= low) & (wavelength <= high)
    return inside


def _finite_median(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else math.nan
