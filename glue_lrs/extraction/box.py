"""Box extraction: weighted sums over an aperture, with the same results as the pipeline."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.validation import check_fraction
from glue_lrs.apertures.placement import PlacementRule, aperture_weights
from glue_lrs.errors import Hint, ProductError
from glue_lrs.extraction.base import (
    assemble_extraction,
    emit_findings,
    filled_findings,
    filled_pixels,
    flux_sign,
    image_findings,
    jansky_per_sum,
)
from glue_lrs.extraction.box_plan import BoxPlan, column_numbers
from glue_lrs.extraction.box_sums import sum_box
from glue_lrs.extraction.checks import background_left, background_level
from glue_lrs.extraction.keywords import position_record
from glue_lrs.image.pixels import beyond_data, lost_by_plane, lost_text
from glue_lrs.instrument import DO_NOT_USE
from glue_lrs.spectra.column_checks import NO_PIXELS, REPORTED_LOSS, empty_rows
from glue_lrs.spectra.findings import Finding

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.apertures.aperture import Aperture
    from glue_lrs.apertures.aperture_correction import ApertureCorrection
    from glue_lrs.apertures.background import Background
    from glue_lrs.apertures.placement import Placement
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.spectra.extraction import Extraction


#: Number of rows that are searched at a time for pixels beyond the data.
_ROWS = 12

#: Step in rows: only every `_STEP`-th row is searched for columns with a wavelength.
_STEP = 8


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

    def run(self, image: SlitImage, *, check: bool = True) -> Extraction:
        """Extract all columns of the spectrum.

        The result and the errors are described in `Extract1D.run`.

        Parameters
        ----------
        image : SlitImage
            Image or stack of integrations to extract.
        check : bool
            Whether to check the result. If False, it has no findings.
        """
        findings: list[Finding] | None = [] if check else None
        scale = jansky_per_sum(image)
        placement = self.placement.place(self.aperture, image, findings)
        plan = self.plan(image, placement, findings)
        level = None
        if check and not image.is_background_subtracted:  # else `glue_lrs.findings` looks for it
            level = background_level(image, plan)
        columns, without_background = sum_box(image, plan, scale)
        if findings is not None and level is not None:
            findings += background_left(image, plan, level, columns)
        total, wavelength = plan.total, plan.wavelength
        filled = filled_pixels(
            image, plan.rows, plan.source.values, column_numbers(plan.source.runs)
        )
        if plan.kept is not None:
            columns = {name: values[..., plan.kept] for name, values in columns.items()}
            total, wavelength = total[plan.kept], wavelength[plan.kept]
            without_background, filled = without_background[..., plan.kept], filled[plan.kept]
        columns["WAVELENGTH"] = np.broadcast_to(wavelength, columns["FLUX"].shape)
        lost = self._mask_lost(columns["NPIXELS"], columns["DQ"], total, image)
        short, beyond = columns["NPIXELS"] < total - REPORTED_LOSS, np.zeros_like(total)
        everywhere: Mask = np.all(np.atleast_2d(short), axis=0)
        if everywhere.any():
            beyond = self._beyond_data(plan, image, everywhere)
            short = columns["NPIXELS"] < total - beyond - REPORTED_LOSS
        if findings is not None:
            findings += self._off_data(plan, beyond, findings, image)
            if lost is not None:
                findings += self._lost_pixels(columns, lost, total - beyond, image)
            findings += empty_rows(columns)
            findings += self._row_findings(columns, int(without_background.sum()))
            findings += image_findings(image, columns["FLUX_ERROR"])
            findings += flux_sign(image, columns)
            findings += filled_findings(image, filled, total, wavelength)
            findings += self._correction_findings(plan, wavelength, total, image)
            emit_findings(image, findings)
        return assemble_extraction(
            image,
            columns,
            limits=plan.limits,
            rows=(plan.rows.start, plan.rows.stop - 1),
            centroid=plan.centroid_source(),
            aperture_weight=total,
            position=position_record(placement),
            findings=findings or [],
            quality={
                "lost": short,
                "filled": filled > REPORTED_LOSS,
                "edge": self._beyond_edge(image, placement, plan) | (beyond > REPORTED_LOSS),
                "no_background": without_background,
            },
        )

    def plan(
        self, image: SlitImage, placement: Placement, findings: list[Finding] | None = None
    ) -> BoxPlan:
        """Return the rows, weights and corrections for extracting an image.

        Findings about regions that extend beyond the image are appended to `findings`.

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
        plan = BoxPlan.from_weights(
            image,
            weights,
            self.background,
            placement.background_offset,
            self.correction_for(image),
            findings,
        )
        lower, upper = plan.limits
        if findings is not None and (lower < -0.5 or upper > image.shape[1] - 0.5):
            findings.append(
                Finding(
                    "off_image",
                    f"the aperture ({lower:.2f} to {upper:.2f}) reaches beyond the image, whose "
                    f"columns are 0 to {image.shape[1] - 1}",
                    {"lower": lower, "upper": upper, "columns": image.shape[1]},
                )
            )
        return plan

    def correction_for(self, image: SlitImage) -> ApertureCorrection | None:
        """Return the aperture correction if the source is a point source, else None."""
        if self.aperture_correction is None or not image.is_point_source:
            return None
        self.aperture_correction.check(image.subarray, image.label)
        return self.aperture_correction

    def _beyond_edge(self, image: SlitImage, placement: Placement, plan: BoxPlan) -> Mask:
        """Return the mask of rows whose aperture reaches beyond the pixels with a wavelength."""
        wavelength = image.wavelength[plan.rows]
        # The edges of the slit differ little between neighbouring rows.
        columns = np.flatnonzero(np.isfinite(wavelength[::_STEP]).any(axis=0))
        inside = column_numbers(plan.source.runs)
        missing = np.zeros(plan.n_rows)
        if columns.size == 0 or inside[0] <= columns[0] + 1 or inside[-1] >= columns[-1] - 1:
            known = np.isfinite(wavelength)
            first = known.argmax(axis=1)
            last = image.shape[1] - 1 - known[:, ::-1].argmax(axis=1)
            limits = self.aperture.regions(image.wavelength, placement.trace, placement.offset)
            for pair in limits:
                lower, upper = (_row_means(np.asarray(edge), plan.rows) for edge in pair)
                beyond = np.clip(first - lower, 0, None) + np.clip(upper - last, 0, None)
                missing = np.maximum(missing, np.minimum(beyond, upper - lower + 1.0))
        beyond_edge: Mask = missing > REPORTED_LOSS
        return beyond_edge if plan.kept is None else beyond_edge[plan.kept]

    def _mask_lost(
        self, pixels: Array, flags: NDArray[Any], total: Array, image: SlitImage
    ) -> Mask | None:
        """Mask the rows that lost more than `max_lost`, and return the mask of these rows.

        Without `max_lost`, nothing is masked, and the result is the mask of all rows that lost
        pixels. It is None if there are no such rows. `flags` (DQ) are changed in place.

        Raises
        ------
        ProductError
            If every pixel of the aperture is bad in every row.
        """
        good = pixels > NO_PIXELS
        if not good.any():
            raise ProductError(
                f"every pixel of the aperture is bad: {self._why_bad(image)}", subject=image.label
            )
        allowed = REPORTED_LOSS if self.max_lost is None else self.max_lost * total
        affected: Mask = pixels < total - allowed - NO_PIXELS  # allows for rounding errors
        if not affected.any():
            return None
        affected &= good  # rows without any good pixel have no flux
        if self.max_lost is not None:
            flags[affected] |= np.uint32(DO_NOT_USE)
        return affected

    def _lost_pixels(
        self,
        columns: dict[str, NDArray[Any]],
        affected: Mask,
        total: Array,
        image: SlitImage,
    ) -> list[Finding]:
        """Return at most one finding about the rows that lost pixels.

        `total` is the sum of the weights in each row, without pixels beyond the data.
        """
        pixels = columns["NPIXELS"]
        if self.max_lost is None:
            affected = affected & (pixels < total - REPORTED_LOSS - NO_PIXELS)
        number = int(affected.sum())
        if number == 0:
            return []
        lost = np.where(affected, total - pixels, 0.0)
        worst = np.unravel_index(int(lost.argmax()), lost.shape)
        masked = self.max_lost is not None
        hint = None if masked else Hint.to("{} masks these rows", max_lost=0)
        if hint is not None and image.is_point_source:
            hint = Hint.to("{} restores the flux", bad_pixels="profile").joined(hint)
        return [
            Finding(
                "lost_pixels",
                f"bad pixels reduce the aperture in {number} of {pixels.size} rows, by at most "
                f"{lost[worst]:.1f} of {total[worst[-1]]:.1f} pixels at "
                f"{columns['WAVELENGTH'][worst]:.2f} um; "
                + ("these rows are masked" if masked else "the flux is too low there"),
                {"rows": number, "all": pixels.size, "lost": float(lost[worst])},
                hint,
            )
        ]

    @staticmethod
    def _beyond_data(plan: BoxPlan, image: SlitImage, short: Mask) -> Array:
        """Return the sum of the weights beyond the columns with data in each row, shape (row,).

        Only the rows in the mask `short`, which lost pixels, are examined.
        """
        columns, beyond = column_numbers(plan.source.runs), np.zeros(short.size)
        numbers = np.arange(plan.n_rows) if plan.kept is None else np.arange(plan.n_rows)[plan.kept]
        affected = np.flatnonzero(short)
        for start in range(0, affected.size, _ROWS):  # the masks of all rows need much memory
            part = affected[start : start + _ROWS]
            outside = beyond_data(image, plan.rows.start + numbers[part])[:, columns]
            beyond[part] = (plan.source.weights(numbers[part]) * outside).sum(axis=1)
        return beyond

    @staticmethod
    def _off_data(
        plan: BoxPlan, beyond: Array, findings: list[Finding], image: SlitImage
    ) -> list[Finding]:
        """Return a finding if the aperture reaches beyond the data but not beyond the image."""
        number = int((beyond > REPORTED_LOSS).sum())
        lower, upper = plan.limits
        known = [one.values["lower"] for one in findings if one.kind == "off_image"]
        if number == 0 or lower in known:
            return []
        return [
            Finding(
                "off_image",
                f"the aperture ({lower:.2f} to {upper:.2f}) reaches beyond the columns with data "
                f"in {number} of {beyond.size} rows, by at most {beyond.max():.1f} pixels",
                {"lower": lower, "upper": upper, "columns": image.shape[1], "rows": number},
            )
        ]

    def _row_findings(
        self, columns: dict[str, NDArray[Any]], rows_without_background: int
    ) -> list[Finding]:
        """Return findings about rows without light, without an error, and without background."""
        findings, size = [], columns["FLUX"].size
        zero = int(np.count_nonzero((columns["FLUX"] == 0) & (columns["NPIXELS"] > NO_PIXELS)))
        if zero:
            text = f"{zero} of {size} rows have a flux of exactly 0, as the image is 0 there"
            findings.append(Finding("empty_rows", text, {"rows": zero, "all": size}))
        error = columns["FLUX_ERROR"]
        missing = np.isnan(error) | ((error == 0) & (error > 0).any())
        number = int(np.count_nonzero(missing & (columns["DQ"] == 0)))
        if number:
            findings.append(
                Finding(
                    "invalid_variances",
                    f"{number} of {size} rows have a flux and no error: their variances "
                    "(VAR_POISSON, VAR_RNOISE, VAR_FLAT) are negative or 0",
                    {"rows": number, "all": size},
                )
            )
        if rows_without_background:
            median = self.background is not None and self.background.bkg_fit == "median"
            consequence = "they have no flux" if median else "nothing was subtracted there"
            findings.append(
                Finding(
                    "rows_without_background",
                    f"{rows_without_background} of {size} rows have too few pixels in the "
                    f"background regions; {consequence}",
                    {"rows": rows_without_background, "all": size},
                )
            )
        return findings

    def _correction_findings(
        self, plan: BoxPlan, wavelength: Array, total: Array, image: SlitImage
    ) -> list[Finding]:
        """Return findings that the aperture correction is missing, or used outside its table."""
        if plan.correction is not None:
            return plan.correction.range_findings(wavelength, total)
        if not image.is_point_source:
            return []
        return [
            Finding(
                "no_aperture_correction",
                "no aperture correction was applied: the flux of a point source outside the "
                "aperture is missing",
                hint=Hint.to("give {}", "apcorr"),
            )
        ]

    def _why_bad(self, image: SlitImage) -> str:
        """Return the text that says how many pixels of the aperture each plane excludes."""
        weights = aperture_weights(self.aperture, image, self.placement.place(self.aperture, image))
        return lost_text(lost_by_plane(image, (..., weights.rows, weights.columns)))


def _row_means(edge: Array, rows: slice) -> Array:
    """Return the mean of an edge in each row (0 if it has none), or a constant edge unchanged."""
    if edge.ndim == 0:
        return edge
    known = np.isfinite(edge[rows])
    total: Array = np.where(known, edge[rows], 0.0).sum(axis=1)
    return total / np.maximum(known.sum(axis=1), 1)
