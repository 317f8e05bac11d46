"""Box extraction: weighted sums over an aperture, with the same results as the pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.validation import check_fraction
from glue_lrs.apertures.placement import PlacementRule, aperture_weights
from glue_lrs.errors import (
    Hint,
    LostPixelsWarning,
    LRSWarning,
    NoApertureCorrectionWarning,
    ProductError,
)
from glue_lrs.extraction.base import (
    NO_PIXELS,
    assemble_extraction,
    emit_notes,
    jansky_per_sum,
    no_variances,
)
from glue_lrs.extraction.box_plan import BoxPlan
from glue_lrs.extraction.box_sums import sum_box
from glue_lrs.extraction.keywords import position_record
from glue_lrs.instrument import DO_NOT_USE

if TYPE_CHECKING:
    from glue_lrs.apertures.aperture import Aperture
    from glue_lrs.apertures.aperture_correction import ApertureCorrection
    from glue_lrs.apertures.background import Background
    from glue_lrs.apertures.placement import Placement
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction

#: If `max_lost` is None, a warning is given for rows in which bad pixels reduce the sum of the
#: aperture weights by more than this value (pixels). Half a pixel at the peak of the trace contains
#: a tenth of the flux.
_REPORTED_LOSS = 0.5


@dataclass(frozen=True, kw_only=True)
class BoxExtractor:
    """Box extraction, which sums the weighted pixels in an aperture in each row.

    Parameters
    ----------
    aperture : Aperture
        Pixels to sum over.
    placement : PlacementRule
        Rule by which the aperture follows the source.
    background : Background, optional
        Regions and fit of the background to subtract. If None, nothing is subtracted.
    aperture_correction : ApertureCorrection, optional
        Factors that account for flux outside the aperture. They are applied to point sources only.
    max_lost : float, optional
        Rows in which bad pixels remove more than this fraction of the aperture's weight are masked
        (DQ bit 0).

    Raises
    ------
    ReferenceFileError
        If `max_lost` is not between 0 and 1.

    Notes
    -----
    The sum in a row is S = sum w (data - background), where w are the aperture weights, set to 0 in
    pixels without a value. The variance of S is sum w^2 var + sum K^2 var. The second sum is over
    the pixels in the background regions, and K is the derivative of the background summed over the
    aperture with respect to such a pixel.
    """

    aperture: Aperture
    placement: PlacementRule = field(default_factory=PlacementRule)
    background: Background | None = None
    aperture_correction: ApertureCorrection | None = None
    max_lost: float | None = None

    def __post_init__(self) -> None:
        if self.max_lost is not None:
            check_fraction("max_lost", self.max_lost)

    def run(self, image: SlitImage) -> Extraction:
        """Extract all columns of the spectrum.

        The result and the errors are described in `Extract1D.run`.

        Parameters
        ----------
        image : SlitImage
            Image or stack of integrations to extract.
        """
        notes: list[LRSWarning] = []
        scale = jansky_per_sum(image)
        placement = self.placement.place(self.aperture, image, notes)
        plan = self.plan(image, placement)
        if plan.limits[0] < -0.5 or plan.limits[1] > image.shape[1] - 0.5:
            notes.append(
                LRSWarning(
                    f"the aperture ({plan.limits[0]:.2f} to {plan.limits[1]:.2f}) reaches beyond "
                    f"the image, whose columns are 0 to {image.shape[1] - 1}"
                )
            )
        columns, rows_without_background = sum_box(image, plan, scale)
        total, wavelength = plan.total, plan.wavelength
        if plan.kept is not None:
            columns = {name: values[..., plan.kept] for name, values in columns.items()}
            total, wavelength = total[plan.kept], wavelength[plan.kept]
        columns["WAVELENGTH"] = np.broadcast_to(wavelength, columns["FLUX"].shape)
        notes += self._inspect(columns, total, image, rows_without_background)
        notes += no_variances(image)
        emit_notes(image, notes)
        if plan.correction is None and image.is_point_source:
            # This warning is recorded but not issued, because it was already issued when the
            # operator was created from a reference.
            notes.append(NoApertureCorrectionWarning("no aperture correction was applied"))
        return assemble_extraction(
            image,
            columns,
            limits=plan.limits,
            rows=(plan.rows.start, plan.rows.stop - 1),
            centroid=plan.centroid_source(),
            aperture_weight=total,
            position=position_record(placement),
            notes=notes,
        )

    def plan(self, image: SlitImage, placement: Placement) -> BoxPlan:
        """Return the rows, weights and corrections for extracting an image.

        Raises
        ------
        ApertureError
            If the aperture or the background has no pixel on the image.
        CorrectionError
            If the aperture correction is for a different subarray.
        ProductError
            If no pixel of the aperture has a wavelength.
        """
        weights = aperture_weights(self.aperture, image, placement)
        correction = self.correction_for(image)
        return BoxPlan.from_weights(
            image, weights, self.background, placement.background_offset, correction
        )

    def correction_for(self, image: SlitImage) -> ApertureCorrection | None:
        """Return the aperture correction if the source is a point source, else None."""
        if self.aperture_correction is None or not image.is_point_source:
            return None
        self.aperture_correction.check(image.subarray, image.label)
        return self.aperture_correction

    def _inspect(
        self,
        columns: dict[str, NDArray[Any]],
        total: NDArray[np.float64],
        image: SlitImage,
        rows_without_background: int,
    ) -> list[LRSWarning]:
        """Mask rows according to `max_lost`, and return warnings about the extracted rows.

        The warnings are about lost pixels, fluxes without errors, and rows without background.

        Raises
        ------
        ProductError
            If every pixel of the aperture is bad in every row.
        """
        pixels = columns["NPIXELS"]
        if not (pixels > NO_PIXELS).any():
            raise ProductError("every pixel of the aperture is NaN or flagged", subject=image.label)
        notes = self._mask_lost(columns, total)
        without_error = np.isnan(columns["FLUX_ERROR"]) & (columns["DQ"] == 0)
        number = int(np.count_nonzero(without_error))
        if number:
            notes.append(
                LRSWarning(
                    f"{number} of {pixels.size} rows have a flux and no error: their variances "
                    "(VAR_POISSON, VAR_RNOISE, VAR_FLAT) are negative, expected 0 or more"
                )
            )
        if rows_without_background:
            median = self.background is not None and self.background.bkg_fit == "median"
            consequence = "they have no flux" if median else "nothing was subtracted there"
            notes.append(
                LRSWarning(
                    f"{rows_without_background} of {pixels.size} rows have too few pixels in the "
                    f"background regions; {consequence}"
                )
            )
        return notes

    def _mask_lost(
        self, columns: dict[str, NDArray[Any]], total: NDArray[np.float64]
    ) -> list[LRSWarning]:
        """Mask rows according to `max_lost`, and return at most one warning about lost pixels."""
        pixels = columns["NPIXELS"]
        allowed = _REPORTED_LOSS if self.max_lost is None else self.max_lost * total
        affected = pixels < total - allowed - NO_PIXELS  # NO_PIXELS allows for rounding errors
        if not affected.any():
            return []
        affected &= pixels > NO_PIXELS  # rows without any good pixel have no flux
        if self.max_lost is not None:
            columns["DQ"][affected] |= np.uint32(DO_NOT_USE)
        number = int(affected.sum())
        if not number:
            return []
        lost = np.where(affected, total - pixels, 0.0)
        worst = np.unravel_index(int(lost.argmax()), lost.shape)
        masked = self.max_lost is not None
        return [
            LostPixelsWarning(
                f"bad pixels reduce the aperture in {number} of {pixels.size} rows, by at most "
                f"{lost[worst]:.1f} of {total[worst[-1]]:.1f} pixels at "
                f"{columns['WAVELENGTH'][worst]:.2f} um; "
                + ("these rows are masked" if masked else "the flux is too low there"),
                hint=None if masked else Hint.to("{} masks these rows", max_lost=0),
            )
        ]
