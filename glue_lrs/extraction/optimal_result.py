"""Result of an optimal extraction: spectra, profile, traces and rejected pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.display import described, rounded
from glue_lrs.errors import ProductError
from glue_lrs.extraction.base import (
    OFF_IMAGE,
    assemble_extraction,
    complete_columns,
    filled_findings,
    filled_pixels,
    flux_sign,
)
from glue_lrs.image.pixels import PLANES, lost_pixels
from glue_lrs.instrument import APERTURE_WIDTH, DO_NOT_USE
from glue_lrs.profiles.empirical import EmpiricalProfile
from glue_lrs.spectra.column_checks import NO_PIXELS, REPORTED_LOSS
from glue_lrs.spectra.columns import COLUMNS, COMPONENTS
from glue_lrs.spectra.findings import Finding

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask
    from glue_lrs.apertures.aperture_correction import ApertureCorrection
    from glue_lrs.extraction.base import Columns
    from glue_lrs.extraction.optimal import OptimalExtractor
    from glue_lrs.fitting.row_fit import RowFitter
    from glue_lrs.image.slit_image import SlitImage
    from glue_lrs.profiles.base import SpatialProfile
    from glue_lrs.spectra.extraction import Extraction

#: Row and column numbers of pixels, after their integration numbers for a stack.
PixelIndices: TypeAlias = tuple[NDArray[np.intp], ...]

#: Remark if there is no aperture correction, and the kinds of the findings that remarks become. All
#: remarks that are not listed become findings of the kind "fitted".
UNCORRECTED = "no aperture correction: flux beyond the fitted profile is not counted"
_KINDS = {UNCORRECTED: "no_aperture_correction"}


@dataclass(frozen=True, eq=False, kw_only=True)
class OptimalResult:
    """Result of an optimal extraction.

    Parameters
    ----------
    extractions : tuple of Extraction
        Extraction of each requested source, the target first.
    profile : SpatialProfile
        Spatial profile of the sources, which can be given to another `OptimalExtractor`.
    traces : ndarray
        Column of each source in each row of the image, shape (source, row). The requested sources
        come first, then other sources that overlap with them, then negative traces. Rows without a
        wavelength are NaN.
    position_errors : ndarray
        1-sigma error of the position of each trace in columns, shape (source,). NaN if the
        positions are not fitted.
    signal_to_noise : float
        Signal-to-noise ratio of the first source over all rows of the image or, for a stack, of the
        mean image.
    shifts : ndarray or None
        Shift of each integration in columns, shape (integration,), if the image is a stack and
        shifts are fitted.
    fitter : RowFitter
        Object that fitted the rows. It contains the profiles sampled on the pixels, the weights and
        the terms of the background.
    coefficients : ndarray
        Fitted flux of each source, followed by the background coefficients, for each fitted row.
        The shape is (row, term), or (integration, row, term) for a stack.
    rejected : tuple of ndarray
        Row and column numbers of the pixels that were rejected as outliers, in the format of
        `numpy.nonzero`. For a stack, the integration numbers come first.
    corrected : bool
        Whether the aperture correction defines the flux scale.
    """

    extractions: tuple[Extraction, ...]
    profile: SpatialProfile
    traces: Array
    position_errors: Array
    signal_to_noise: float
    shifts: Array | None
    rejected: PixelIndices
    fitter: RowFitter
    coefficients: Array
    corrected: bool = False

    @classmethod
    def from_fit(
        cls, fitter: RowFitter, coefficients: Array, shifts: Array | None, rejected: PixelIndices
    ) -> OptimalResult:
        """Return the result of `RowFitter.run`, without extractions."""
        cutout, fit = fitter.cutout, fitter.source_fit
        traces = np.full((len(fit.traces), cutout.image.shape[0]), np.nan)
        traces[:, cutout.rows] = fit.traces
        return cls(
            extractions=(),
            profile=fit.profile,
            traces=traces,
            position_errors=fit.shift_error,
            signal_to_noise=fit.signal_to_noise,
            shifts=shifts,
            rejected=rejected,
            fitter=fitter,
            coefficients=coefficients if cutout.image.is_stack else coefficients[0],
        )

    def __repr__(self) -> str:
        positive = int(self.positive.sum())
        negative = len(self.traces) - positive
        return described(
            self,
            f"of {self.image.label}",
            f"{len(self.extractions)} extracted, {positive} fitted source{'s' * (positive > 1)}"
            + f", {negative} negative trace{'s' * (negative > 1)}" * bool(negative),
            f"S/N {rounded(self.signal_to_noise)}, {self.number_rejected} pixels rejected",
            f"profile: {type(self.profile).__name__}",
        )

    @property
    def image(self) -> SlitImage:
        """Image that was extracted."""
        return self.fitter.cutout.image

    @property
    def number_rejected(self) -> int:
        """Number of pixels rejected as outliers."""
        return int(self.rejected[0].size)

    @property
    def positive(self) -> Mask:
        """Mask of the traces that are not negative traces, shape (source,)."""
        return np.arange(len(self.traces)) < self.fitter.positives

    @property
    def relative_flux(self) -> Array:
        """Ratio of each trace's median flux to that of the first trace, shape (source,)."""
        return flux_ratios(self.coefficients, len(self.traces))

    @property
    def remarks(self) -> list[str]:
        """Texts about rejected pixels, other sources that were fitted, and the flux scale."""
        places = [middle_row_value(trace) for trace in self.fitter.source_fit.traces]
        count, positives = self.number_rejected, self.fitter.positives
        remarks = [f"{count or 'no'} pixel{'s were' if count > 1 else ' was'} rejected"]
        shares = flux_ratios(self.coefficients, positives)
        others = [
            f"column {place:.2f} ({share:.3g} times its flux)"
            for place, share in zip(places[1:positives], shares[1:], strict=True)
        ]
        negative = [f"column {place:.2f}" for place in places[positives:]]
        for columns, one, several in (
            (others, "another source", "other sources"),
            (negative, "a negative trace", "negative traces"),
        ):
            if columns:
                noun = one if len(columns) == 1 else f"{len(columns)} {several}"
                remarks.append(f"fitted together with {noun} at {' and '.join(columns)}")
        given = self.fitter.options.profile
        beyond = given is None or isinstance(given, EmpiricalProfile)
        if beyond and not self.corrected and self.image.is_point_source:
            remarks.append(UNCORRECTED)
        return remarks

    def profile_covariance(self) -> Array | None:
        """Return the covariance of the first source's fluxes due to noise in a fitted profile.

        The errors of the spectrum do not include this contribution. It is negligible in a single
        row but correlated between rows, so that a mean over many rows is less certain than the
        errors of the rows imply.

        Returns
        -------
        ndarray or None
            Covariance matrix of the ratios of fitted to true flux, shape (row, row), for the rows
            of the spectrum. None if the profile was given, or was fitted to several sources.
        """
        found = self.fitter.profile_covariance(self.corrected)
        if found is None:
            return None
        rows = self.fitter.rows(0)
        return found[np.ix_(rows, rows)]

    def shift(self, integration: int) -> float:
        """Return the fitted shift of an integration in columns, 0 if no shifts are fitted."""
        return 0.0 if self.shifts is None else float(self.shifts[integration])

    def coefficients_of(self, integration: int) -> Array:
        """Return the coefficients of an integration, shape (row, term)."""
        return self.coefficients[integration] if self.image.is_stack else self.coefficients

    def model(self, integration: int = 0) -> Array:
        """Return the model of the image in the unit of the image, shape (row, column).

        The model is NaN outside the fitted rows and columns.

        Parameters
        ----------
        integration : int
            Index of the integration if the image is a stack.
        """
        fitter, coefficients = self.fitter, self.coefficients_of(integration)
        basis = fitter.basis(self.shift(integration))
        part = sum(coefficients[:, i, np.newaxis] * field for i, field in enumerate(basis))
        full = np.full(fitter.cutout.image.shape, np.nan)
        full[fitter.cutout.rows, fitter.columns] = part
        return full

    def residual(self, integration: int = 0) -> Array:
        """Return the image minus the model, shape (row, column), NaN where either has no value."""
        return self._plane("data", integration) - self.model(integration)

    def normalised_residual(self, integration: int = 0) -> Array:
        """Return the residual divided by the 1-sigma errors of the image, shape (row, column).

        The result is NaN in pixels that are flagged or have no value or variance.
        """
        variance = np.zeros(self.image.shape)
        for name in PLANES:
            if getattr(self.image, name) is not None:
                variance += self._plane(name, integration)
        lost = lost_pixels(self.image, integration if self.image.is_stack else ...)
        variance[lost | ~(variance > 0)] = np.nan
        return self.residual(integration) / np.sqrt(variance)

    def _plane(self, name: str, integration: int) -> Array:
        plane = np.asarray(getattr(self.image, name))
        return (plane[integration] if self.image.is_stack else plane).astype(float)


def with_extractions(
    result: OptimalResult,
    extractor: OptimalExtractor,
    raw: Mapping[str, Array],
    scale: float,
    findings: list[Finding],
    check: bool,
) -> OptimalResult:
    """Return the result of a fit with the extraction of each requested source.

    `raw` is the first result of `RowFitter.run`, and `scale` converts a sum over pixels to a flux.
    `check` says whether to check the sign of the flux and the pixels that drizzle filled in.
    """
    image, fitter = result.image, result.fitter
    source_fit, first_row = fitter.source_fit, fitter.cutout.rows.start
    middle = (first_row + fitter.cutout.rows.stop - 1) // 2
    extractions = []
    corrected = extractor.aperture_correction is not None and image.is_point_source
    result = replace(result, corrected=corrected)
    for s in range(fitter.options.n_requested):
        rows = fitter.rows(s)
        if rows.size == 0:
            raise ProductError("the source has no flux on the image", subject=image.label)
        columns, weight_of_all = _columns(extractor, fitter, raw, s, rows, scale)
        remarks = [] if s else result.remarks[0 if result.number_rejected else 1 :]
        sums = flux_sign(image, columns) if check else []
        if extractor.aperture_correction is not None and corrected:
            width = np.full(columns["WAVELENGTH"].shape[-1], float(APERTURE_WIDTH))
            sums += extractor.aperture_correction.range_findings(columns["WAVELENGTH"], width)
        at, wave = rows + first_row, np.atleast_2d(columns["WAVELENGTH"])[0]
        filled = filled_pixels(image, at, _pixel_weights(result, s)[at])
        sums += filled_findings(image, filled, weight_of_all, wave) if check else []
        rejected = _rejected_pixels(result, s)[..., rows]
        doubtful = raw["doubtful"][:, s][:, rows] != 0
        trace, error = source_fit.traces[s], float(source_fit.shift_error[s])
        column = middle_row_value(trace)
        extractions.append(
            assemble_extraction(
                image,
                columns,
                limits=(
                    float(max(np.nanmean(trace) - extractor.reach, fitter.columns.start)),
                    float(min(np.nanmean(trace) + extractor.reach, fitter.columns.stop - 1)),
                ),
                rows=(first_row + int(rows[0]), first_row + int(rows[-1])),
                centroid=(column, float(middle)),
                aperture_weight=weight_of_all,
                position={
                    "column": column,
                    "column_error": error if np.isfinite(error) else None,
                    "row": middle,
                },
                findings=[
                    *findings,
                    *(Finding(_KINDS.get(remark, "fitted"), remark) for remark in remarks),
                    *sums,
                ],
                quality={
                    "lost": columns["NPIXELS"] + rejected < weight_of_all - REPORTED_LOSS,
                    "filled": filled > REPORTED_LOSS,
                    "rejected": rejected > REPORTED_LOSS,
                    "misfit": doubtful if image.is_stack else doubtful[0],
                    "edge": fitter.light_with_wavelength[s][rows] < 1.0 - OFF_IMAGE,
                },
                parameters=partial(getattr, extractor, "parameters"),
                references={"psf": getattr(extractor.profile, "filename", None)},
            )
        )
    return replace(result, extractions=tuple(extractions))


def _pixel_weights(result: OptimalResult, s: int) -> Array:
    """Return the weights of all pixels of an image in the NPIXELS of source `s`, 0 if rejected."""
    profile = result.fitter.profile_images[s]
    square = (profile**2).sum(axis=1, keepdims=True)
    weights = np.zeros(result.image.shape)
    with np.errstate(invalid="ignore", divide="ignore"):
        weights[result.fitter.cutout.rows, result.fitter.columns] = profile / square
    if not result.image.is_stack:  # the weights matter for resampled images, which are no stacks
        weights[result.rejected] = 0.0
    return weights


def _rejected_pixels(result: OptimalResult, s: int) -> Array:
    """Return the effective number of rejected pixels of source `s`, shape (..., fitted row)."""
    fitter = result.fitter
    profile = fitter.profile_images[s]
    *integration, row, column = result.rejected
    row = row - fitter.cutout.rows.start
    number: Array = np.zeros((*result.coefficients.shape[:-2], len(profile)))
    light = profile[row, column - fitter.columns.start]
    np.add.at(number, (*integration, row), light)
    square = (profile**2).sum(axis=1)
    return np.asarray(number / np.where(square > 0, square, 1.0))


def _columns(
    extractor: OptimalExtractor,
    fitter: RowFitter,
    raw: Mapping[str, Array],
    s: int,
    rows: NDArray[np.intp],
    scale: float,
) -> tuple[Columns, Array]:
    """Return the table columns for source `s`, and NPIXELS as it would be without lost pixels.

    The columns have the shape (row,), or (integration, row) for a stack. The second result has the
    shape (row,).
    """
    image, profile = fitter.cutout.image, fitter.profile_images[s]
    coefficients = raw["coefficients"]
    light, square = fitter.light[s][rows], (profile**2).sum(axis=1)[rows]
    weight_of_all = light / square
    shape = (coefficients.shape[0], rows.size)
    columns: Columns = {name: np.zeros(shape) for name in COLUMNS}
    pixels = raw["good"][:, s][:, rows] / square
    columns["FLUX"] = coefficients[:, rows, s] * scale
    columns["NPIXELS"] = np.maximum(pixels, 0.0)
    for i, field in enumerate(fitter.background_basis, start=len(fitter.profile_images)):
        mean = (profile * field).sum(axis=1)[rows] / light
        columns["BACKGROUND"] += coefficients[:, rows, i] * mean
    # Rounding errors can make variances negative.
    variances = raw["flux_variance"][:, :, s][:, :, rows]
    for component, values in zip(COMPONENTS, variances, strict=True):
        columns[f"FLUX_VAR_{component}"] = np.maximum(values * scale**2, 0.0)
    if fitter.background_basis:
        for component, values in zip(COMPONENTS, raw["background_variance"], strict=True):
            columns[f"BKGD_VAR_{component}"] = np.maximum(values[:, s][:, rows], 0.0)
    # Rows without a variance are empty. If no row has a variance, rows with a flux of 0 are empty.
    has_variance = variances.sum(axis=0) > 0
    empty = ~has_variance if has_variance.any() else columns["FLUX"] == 0
    empty |= pixels <= NO_PIXELS
    # A fitted profile may be negative in the wings, but the weights of the mean wavelength must not
    # be negative.
    weight = np.where(fitter.has_wavelength, np.maximum(profile, 0.0), 0.0)[rows]
    wave = image.wavelength[fitter.cutout.rows, fitter.columns][rows]
    complete_columns(image, columns, empty, wave, weight)
    if extractor.aperture_correction is not None and image.is_point_source:
        wavelength = columns["WAVELENGTH"][0]
        factor = scale_of_aperture(
            extractor.aperture_correction, fitter.source_fit.profile, wavelength
        )
        for name in ("FLUX", "FLUX_ERROR"):
            columns[name] *= factor
        for component in COMPONENTS:
            columns[f"FLUX_VAR_{component}"] *= factor**2
    columns["DQ"][raw["doubtful"][:, s][:, rows]] |= np.uint32(DO_NOT_USE)
    if extractor.max_lost is not None:
        lost = pixels < weight_of_all * (1.0 - extractor.max_lost)
        columns["DQ"][lost] |= np.uint32(DO_NOT_USE)
    if not image.is_stack:
        columns = {name: values[0] for name, values in columns.items()}
    return columns, weight_of_all


def scale_of_aperture(
    correction: ApertureCorrection | None, profile: SpatialProfile, wavelength: Array
) -> Array:
    """Return the factor from the flux of a profile to the scale of an aperture correction.

    Parameters
    ----------
    correction : ApertureCorrection or None
        Aperture correction. Without it, the factor is 1.
    profile : SpatialProfile
        Spatial profile of the source.
    wavelength : ndarray
        Wavelength in micron of each row, shape (row,).
    """
    if correction is None:
        return np.ones(wavelength.shape)
    light = profile.light_within(wavelength, APERTURE_WIDTH)
    return np.asarray(correction(wavelength, APERTURE_WIDTH) * light)


def flux_ratios(coefficients: Array, sources: int) -> Array:
    """Return the median flux of each source divided by the median flux of the first source."""
    flux = coefficients[..., :sources].reshape(-1, sources)
    known = np.isfinite(flux).all(axis=1) & (flux != 0).any(axis=1)
    middle = np.median(flux[known], axis=0) if known.any() else np.full(sources, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(middle / middle[0])


def middle_row_value(trace: Array) -> float:
    """Return the column of a trace in the middle row."""
    return float(trace[(trace.size - 1) // 2])
