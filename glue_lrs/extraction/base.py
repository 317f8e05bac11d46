"""Parts that all extractors share: protocol, flux scale, warnings, assembly of the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs.errors import LRSWarning, NoVariancesWarning, ProductError, warn
from glue_lrs.extraction.keywords import SpectrumKeywords, integration_times
from glue_lrs.spectra.columns import COLUMNS, column_units
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.provenance import Provenance

if TYPE_CHECKING:
    from glue_lrs.image.slit_image import SlitImage

#: A row counts as having no pixel if the sum of its aperture weights is at most this. It is the
#: tolerance of `numpy.isclose`, which the pipeline uses for this purpose.
NO_PIXELS = 1e-8

#: Factor from MJy to Jy.
_MEGA = 1e6


class Extractor(Protocol):
    """Protocol of the extractors, which do not depend on the recipe (`Extract1D`)."""

    def run(self, image: SlitImage) -> Extraction:
        """Extract all columns of the spectrum."""


def no_variances(image: SlitImage) -> list[LRSWarning]:
    """Return a list with a warning if the image has no variances, else an empty list."""
    if image.has_variances:
        return []
    return [
        NoVariancesWarning(
            "there are no variances (VAR_POISSON, VAR_RNOISE, VAR_FLAT): the errors are 0"
        )
    ]


def emit_notes(image: SlitImage, notes: Sequence[LRSWarning]) -> None:
    """Issue warnings, except those that were already issued when the image's file was read."""
    for note in notes:
        if image.path is None or not isinstance(note, NoVariancesWarning):
            warn(note.about(image.label))


def jansky_per_sum(image: SlitImage) -> float:
    """Return the factor that converts a sum of pixels in MJy/sr to a flux in Jy: 1e6 PIXAR_SR.

    As in the pipeline, the factor is 1 for an image without photometric calibration.

    Raises
    ------
    ProductError
        If a calibrated image has no solid angle per pixel.
    """
    if not image.calibrated:
        return 1.0
    if image.pixel_area is None or not image.pixel_area > 0:
        found = "missing" if image.pixel_area is None else f"{image.pixel_area:g}"
        raise ProductError(
            f"PIXAR_SR is {found}, expected a solid angle in sr, as S_PHOTOM says "
            "that the file is photometrically calibrated",
            subject=image.label,
        )
    return image.pixel_area * _MEGA


def assemble_extraction(
    image: SlitImage,
    columns: Mapping[str, NDArray[Any]],
    *,
    limits: tuple[float, float],
    rows: tuple[int, int],
    centroid: tuple[float, float] | Callable[[], tuple[float, float]],
    aperture_weight: NDArray[np.float64],
    position: dict[str, Any],
    notes: Sequence[LRSWarning],
    parameters: dict[str, Any] | Callable[[], dict[str, Any]] | None = None,
    references: dict[str, str | None] | None = None,
) -> Extraction:
    """Add units, header, keywords, times and provenance to extracted columns.

    Parameters
    ----------
    image : SlitImage
        Image that was extracted, from which header, times and calibration are taken.
    columns : mapping
        The 18 columns, in any order.
    limits, rows, centroid
        Extent and centroid of the aperture, as described in `SpectrumKeywords`.
    aperture_weight : ndarray
        Sum of the weights in each row, including lost pixels, shape (n_wave,).
    position : dict
        Position of the source, to be recorded in the provenance.
    notes : sequence of LRSWarning
        Warnings to be recorded in the provenance.
    parameters, references
        Parameters and reference files as described in `Provenance`. If the extraction was run by
        an `Extract1D` recipe, the recipe replaces them by its own.
    """
    header = LazyHeader.from_header(image.header)
    return Extraction(
        columns={name: columns[name] for name in COLUMNS},
        units=column_units(image.calibrated),
        header=header,
        keywords_source=SpectrumKeywords.from_image(image, header, limits, rows, centroid),
        times=integration_times(image),
        int_times=None if image.times is None else image.times.copy(),
        provenance=Provenance(
            {} if parameters is None else parameters,
            image.path or image.filename,
            references,
            position,
            notes,
        ),
        aperture_weight=aperture_weight,
    )
