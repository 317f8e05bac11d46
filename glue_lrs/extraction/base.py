"""Parts that all extractors share: the protocol, the flux scale, notes, assembly of the result."""

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

__all__ = [
    "NO_PIXELS",
    "Extractor",
    "assemble_extraction",
    "emit_notes",
    "jansky_per_sum",
    "no_variances",
]

#: An aperture with less weight than this has no pixel (`numpy.isclose` to 0 in the pipeline).
NO_PIXELS = 1e-8

#: MJy to Jy.
_MEGA = 1e6


class Extractor(Protocol):
    """A way to extract a spectrum; it knows nothing of the recipe that chose it."""

    def run(self, image: SlitImage) -> Extraction:
        """Extract all columns."""


def no_variances(image: SlitImage) -> list[LRSWarning]:
    """Return the note on an image without any variance, if it applies."""
    if image.has_variances:
        return []
    return [
        NoVariancesWarning(
            "there are no variances (VAR_POISSON, VAR_RNOISE, VAR_FLAT): the errors are 0"
        )
    ]


def emit_notes(image: SlitImage, notes: Sequence[LRSWarning]) -> None:
    """Issue notes as warnings, except those that the reader of a file has issued already."""
    for note in notes:
        if image.path is None or not isinstance(note, NoVariancesWarning):
            warn(note.about(image.label))


def jansky_per_sum(image: SlitImage) -> float:
    """Return the factor from a sum of pixels to a flux in Jy: PIXAR_SR, and MJy to Jy.

    It is 1 for an image without photometric calibration, as in the pipeline.

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
    """Return an extraction with units, header, keywords, times and provenance.

    Parameters
    ----------
    image : SlitImage
        The image that was extracted.
    columns : mapping
        The 18 columns, in any order.
    limits, rows, centroid
        Extent of the aperture: see `SpectrumKeywords`.
    aperture_weight : ndarray
        Sum of the weights in each row before any pixel was lost, shape (n_wave,).
    position : dict
        Position of the source for the provenance.
    notes : sequence of LRSWarning
        Notes for the provenance.
    parameters, references
        See `Provenance`; the recipe replaces them.
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
