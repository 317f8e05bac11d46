"""Placement of an aperture on an image: shift to the source, or trace of the source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.validation import check_pixels, optional_bool
from glue_lrs.apertures.aperture import Aperture
from glue_lrs.apertures.weights import Weights
from glue_lrs.errors import ApertureError
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.image.source_position import SourcePosition, expected_position
from glue_lrs.image.trace import expected_trace
from glue_lrs.instrument import FIXED_SLIT
from glue_lrs.spectra.findings import Finding


@dataclass(frozen=True)
class Placement:
    """Position of the source and the resulting shifts of aperture and background.

    Parameters
    ----------
    position : SourcePosition, optional
        Position of the source from the header and the WCS. None if it is unknown or not used.
    offset : float
        Shift of the aperture in columns, including `PlacementRule.position_offset`.
    background_offset : float
        Shift of the background regions in columns.
    trace : ndarray, optional
        Column in each row on which the aperture is centred, shape (row,), NaN in rows in which it
        is unknown. If None, the aperture does not follow a trace.
    """

    position: SourcePosition | None = None
    offset: float = 0.0
    background_offset: float = 0.0
    trace: NDArray[np.float64] | None = None


@dataclass(frozen=True, kw_only=True)
class PlacementRule:
    """Rule by which an aperture follows the source, as in the pipeline's ``extract_1d``.

    Parameters
    ----------
    use_source_posn : bool, optional
        Whether to shift the aperture to the source position from the header and the WCS. If None,
        `reference_source_posn` applies to point sources, and the aperture is not shifted for other
        sources.
    reference_source_posn : bool, optional
        Value of ``use_source_posn`` in the EXTRACT1D reference file. If None, it is True for the
        slit and False for slitless images.
    position_offset : float
        Additional shift in columns of the aperture, the trace and, unless `fixed_background` is
        True, the background regions.
    fixed_background : bool
        Whether background regions keep their columns when the aperture is shifted. The pipeline
        shifts them with the aperture.

    Raises
    ------
    ReferenceFileError
        If a value has the wrong type.
    """

    use_source_posn: bool | None = False
    reference_source_posn: bool | None = None
    position_offset: float = 0.0
    fixed_background: bool = False

    def __post_init__(self) -> None:
        offset = check_pixels("position_offset", self.position_offset)
        object.__setattr__(self, "position_offset", offset)
        for key in ("use_source_posn", "reference_source_posn", "fixed_background"):
            optional_bool(key, getattr(self, key))

    def follows_source(self, image: SlitImage) -> bool:
        """Return whether the rule shifts the aperture to the source on a given image."""
        if self.use_source_posn is not None:
            return self.use_source_posn
        if not image.is_point_source:
            return False
        if self.reference_source_posn is not None:
            return self.reference_source_posn
        return image.exp_type == FIXED_SLIT

    def place(
        self, aperture: Aperture, image: SlitImage, findings: list[Finding] | None = None
    ) -> Placement:
        """Return the placement of an aperture on an image.

        Parameters
        ----------
        aperture : Aperture
            Aperture to be placed.
        image : SlitImage
            Image on which the aperture is placed.
        findings : list of Finding, optional
            List to which findings about the placement are appended.

        Returns
        -------
        Placement
            Shifts and trace that define the position of the aperture and of the background.
        """
        findings = [] if findings is None else findings
        offset = self.position_offset
        position, trace = None, None
        if self.follows_source(image):
            found = expected_position(image)
            if isinstance(found, SourcePosition):
                position = found
                offset += found.column - _nominal_column(aperture, image, found.row, findings)
                if aperture.extract_width is not None and aperture.src_coeff is None:
                    trace = expected_trace(image) + self.position_offset
            else:
                text = f"the aperture stays where it is: {found}"
                findings.append(Finding("position_unknown", text))
        return Placement(position, offset, 0.0 if self.fixed_background else offset, trace)


def _nominal_column(
    aperture: Aperture, image: SlitImage, row: int, findings: list[Finding]
) -> float:
    """Return the weighted mean column of the aperture in a given row before it is shifted.

    If the aperture has no pixel in this row, a finding is appended to `findings`, and the middle
    column of the image is returned.
    """
    weights = aperture.weights(image.wavelength)
    inside = weights.rows.start <= row < weights.rows.stop
    at_row = np.zeros(0)
    if inside:
        at_row = weights.values[0 if weights.uniform else row - weights.rows.start]
    if not at_row.any():
        findings.append(
            Finding(
                "position_unknown",
                f"the aperture has no pixel in row {row}, to which the source position refers; "
                "the shift to the source is counted from the middle column of the image, as in "
                "the pipeline",
            )
        )
        return (image.shape[1] - 1) / 2.0
    columns = np.arange(weights.columns.start, weights.columns.stop)
    return float(np.average(columns, weights=at_row))


def aperture_weights(aperture: Aperture, image: SlitImage, placement: Placement) -> Weights:
    """Return the pixel weights of a placed aperture.

    Parameters
    ----------
    aperture : Aperture
        Aperture before it is shifted.
    image : SlitImage
        Image or stack of integrations on which the aperture is placed.
    placement : Placement
        Placement of the aperture on this image.

    Returns
    -------
    Weights
        Fraction of each pixel that is inside the aperture.

    Raises
    ------
    ApertureError
        If the aperture has no pixel on the image.
    """
    weights = aperture.weights(image.wavelength, placement.trace, placement.offset)
    if weights.empty:
        raise ApertureError(
            f"the source aperture ({weights.lower:.2f} to {weights.upper:.2f}) "
            f"has no pixel on the image, whose columns are 0 to {image.shape[1] - 1} and "
            f"rows 0 to {image.shape[0] - 1}",
            subject=image.label,
        )
    return weights
