"""OptimalExtractor: optimal extraction of point sources.

In each row, the profiles of all sources and a polynomial background are fitted to the pixels, which
are weighted with 1 / variance.

* The weights are computed from a smooth variance model instead of the variances of single pixels.
  The variances of single pixels are estimated from the noisy data, so that a pixel that is low by
  chance would get a higher weight. This would bias the flux towards low values. The errors of the
  spectrum are propagated from the variances of the image.
* The profile is either given or fitted to the image. The positions of the sources are fitted.
* Outliers are rejected one at a time, starting with the largest deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from astropy import units as u

from glue_lrs._utils.validation import (
    check_bool,
    check_fraction,
    check_number,
    check_pixels,
    without_unit,
)
from glue_lrs.apertures.background import HIGHEST_ORDER
from glue_lrs.errors import Hint, ProfileError, ReferenceFileError, SourceError, quoted
from glue_lrs.extraction.base import OFF_IMAGE, emit_findings, image_findings, jansky_per_sum
from glue_lrs.extraction.optimal_result import OptimalResult, middle_row_value, with_extractions
from glue_lrs.fitting.cutout import Cutout
from glue_lrs.fitting.initial_sources import BlendDiagnostics, initial_sources, is_separate
from glue_lrs.fitting.options import FitOptions
from glue_lrs.fitting.profile_fit import fit_profile
from glue_lrs.fitting.row_fit import SHIFT_LIMIT, RowFitter
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.profiles.base import SpatialProfile
from glue_lrs.profiles.empirical import REACH
from glue_lrs.spectra.findings import Finding

if TYPE_CHECKING:
    from specutils import Spectrum

    from glue_lrs._utils.typing import Array
    from glue_lrs.apertures.aperture_correction import ApertureCorrection
    from glue_lrs.fitting.cutout import MeanCutout
    from glue_lrs.fitting.initial_sources import InitialSources
    from glue_lrs.fitting.source_fit import SourceFit
    from glue_lrs.image.slit_image import ImageSource
    from glue_lrs.spectra.extraction import Extraction

#: Largest accepted distance (columns) between a fitted source and the requested position.
_MAX_DISTANCE = 2.5

#: Difference (columns) between the fitted position and the header position above which a warning is
#: given. `glue_lrs.measurement.measure.measure` uses the same value.
_REPORTED_OFFSET = 0.5

#: Minimum separation (columns) of two requested sources.
_MIN_SEPARATION = 0.5

#: Fraction of rejected pixels on the source above which cosmic rays cannot be the only cause.
_MANY_REJECTED = 0.05

#: A pixel belongs to the source if the profile, normalised to 1 in each row, is above this value.
_ON_SOURCE = 0.02

#: A warning about a negative trace is given if both ratios are above these limits.
_NEGATIVE_RATIO, _SIGNIFICANT = (
    1.5,  # ratio of the flux of the negative trace to the flux of the source
    30.0,  # signal-to-noise ratio of the source
)

#: Largest reach: the number of columns of the detector.
_MOST_COLUMNS = 1032

#: A warning is given if the order of the background polynomial is higher than this, because such a
#: polynomial can fit the source.
_MAX_ORDER = 4


@dataclass(frozen=True, kw_only=True)
class OptimalExtractor:
    """Optimal extraction of point sources.

    ``extractor(image)`` returns a specutils spectrum, ``extractor.run(image)`` all columns, and
    ``extractor.fit(image)`` all columns and the model.

    Parameters
    ----------
    profile : SpatialProfile, optional
        Spatial profile from a PSF reference file (`PSFProfile`) or from a fit to another image
        (``fit(star).profile``). If None, the profile is fitted to the image itself.
    position : float or sequence of float, optional
        Approximate column of the source in the middle row, which must be correct to two columns.
        If several columns are given, the sources are fitted together, and the first is the target.
        If None, the source is found from the header position and the brightness.
    nods : bool
        Whether to search for negative traces, which result from the subtraction of other nods, and
        to fit them.
    bkg_order : int, None or "auto"
        Order of the background polynomial in each row, which is fitted together with the sources.
        If None, no background is fitted. If "auto", the order is 0, but no background is fitted if
        it has been subtracted according to the header.
    threshold : float, optional
        Deviation, in standard deviations, above which a pixel is rejected as an outlier. If None,
        no pixels are rejected.
    fit_position : bool
        Whether the positions of the sources are fitted.
    trace_order : int, optional
        Order of the polynomial that is fitted to the difference between the trace and the trace
        from the WCS. If None, the order is 0 to 3, depending on the signal-to-noise ratio.
    fit_shift : bool
        Whether the shift of each integration is fitted if the image is a stack.
    reach : int
        Distance from the source, in columns, within which a fitted profile is normalised to 1.
    spline : bool
        Whether a fitted profile may differ from a Gaussian.
    aperture_correction : ApertureCorrection, optional
        Aperture correction that defines the flux scale. The flux is that of the profile within 8
        columns, the aperture of the pipeline's references, multiplied by the correction for this
        width. Without it, the flux is that within `reach`.
    max_lost : float, optional
        Largest fraction of the profile that bad pixels may remove. Rows that lose more are masked
        (DQ bit 0).

    Raises
    ------
    ReferenceFileError
        If a value is out of range.

    Notes
    -----
    The method follows Horne (1986, PASP 98, 609) and, for curved traces, Marsh (1989, PASP 101,
    1032).
    """

    profile: SpatialProfile | None = None
    position: float | Sequence[float] | None = None
    nods: bool = True
    bkg_order: int | Literal["auto"] | None = "auto"
    threshold: float | None = 5.0
    fit_position: bool = True
    trace_order: int | None = None
    fit_shift: bool = True
    reach: int = REACH
    spline: bool = True
    aperture_correction: ApertureCorrection | None = None
    max_lost: float | None = None

    def __post_init__(self) -> None:
        if self.profile is not None and not isinstance(self.profile, SpatialProfile):
            raise ReferenceFileError(
                f"profile is a {type(self.profile).__name__}, expected a SpatialProfile such as "
                "PSFProfile.read(path)"
            )
        if self.position is not None:
            given = without_unit(self.position)
            several = [given] if isinstance(given, u.Quantity) else np.array(given, object).ravel()
            columns = tuple(check_pixels("position", value) for value in several)
            if not columns:
                raise ReferenceFileError("position is empty, expected a column or several")
            if len(columns) > 1 and np.diff(np.sort(columns)).min() < _MIN_SEPARATION:
                raise ReferenceFileError(
                    f"position is {quoted(list(columns))}, expected columns at least "
                    f"{_MIN_SEPARATION:g} apart"
                )
            object.__setattr__(self, "position", columns)
        for key in ("nods", "fit_position", "fit_shift", "spline"):
            check_bool(key, getattr(self, key))
        for key, least, most, others in (
            ("bkg_order", 0, HIGHEST_ORDER, (None, "auto")),
            ("trace_order", 0, HIGHEST_ORDER, (None,)),
            ("reach", 4, _MOST_COLUMNS, ()),
        ):
            value = getattr(self, key)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not (whole and least <= value <= most) and value not in others:
                raise ReferenceFileError(
                    f"{key} is {quoted(value)}, expected a whole number of {least} to {most}"
                )
        if self.threshold is not None and not check_number("threshold", self.threshold) > 0:
            raise ReferenceFileError(f"threshold is {quoted(self.threshold)}, expected more than 0")
        if self.max_lost is not None:
            check_fraction("max_lost", self.max_lost)

    def __call__(self, image: ImageSource) -> Spectrum:
        """Extract the first source with `run`, and return its spectrum.

        Parameters
        ----------
        image : SlitImage, `~specutils.Spectrum`, str or path-like
            Image, stack of integrations, or spectrum read with ``format="lrs-s2d"``.
        """
        return self.run(image).to_spectrum()

    def run(self, image: ImageSource, *, check: bool = True) -> Extraction:
        """Extract all columns of the first source's spectrum with `fit`.

        Parameters
        ----------
        image : SlitImage, `~specutils.Spectrum`, str or path-like
            Image, stack of integrations, or spectrum read with ``format="lrs-s2d"``.
        check : bool
            Whether to check the sign of the flux, and for pixels that drizzle filled in.

        Returns
        -------
        Extraction
            The columns of an x1d and QUALITY. SURF_BRIGHT and its errors are 0, as in the pipeline.
            BACKGROUND is the level under the source. NPIXELS is the effective number of pixels in
            the profile P, sum P / sum P^2, and ``lost_fraction`` is the fraction of this number
            that bad and rejected pixels remove.
        """
        return self.fit(image, check=check).extractions[0]

    def fit(self, image: ImageSource, *, check: bool = True) -> OptimalResult:
        """Extract all sources, and return the fitted model as well.

        Parameters
        ----------
        image : SlitImage, `~specutils.Spectrum`, str or path-like
            Image or stack of integrations to extract.
        check : bool
            Whether to check the sign of the flux, and for pixels that drizzle filled in.

        Returns
        -------
        OptimalResult
            Spectrum of each source, with the profile, traces, shifts and rejected pixels.

        Raises
        ------
        ProductError
            If the image cannot be extracted because it has no PIXAR_SR, only NaN, or no source.
        ProfileError
            If the source is too faint for fitting a profile.
        SourceError
            If there is no source at the requested position.

        Warns
        -----
        LRSWarning
            For each warning or error among the findings of the extraction, for example if the
            profile does not fit many pixels.
        """
        image = SlitImage.from_any(image)
        scale = jansky_per_sum(image)
        if self.aperture_correction is not None and image.is_point_source:
            self.aperture_correction.check(image.subarray, image.label)
        cutout = Cutout.from_image(image)
        options = self._fit_options(image)
        mean = cutout.mean()
        initial, source_fit = _fit_sources(cutout, mean, options)
        result, raw = _fit_rows(cutout, mean, options, initial, source_fit)
        many_rejected = _rejected_fraction(result) > _MANY_REJECTED
        if many_rejected and not initial.careful and options.n_requested == 1:
            # The pixels may have been rejected because a further source is not fitted.
            careful, source_fit = _fit_sources(cutout, mean, options, careful=True)
            if len(careful.traces) != len(initial.traces):
                initial = careful
                result, raw = _fit_rows(cutout, mean, options, initial, source_fit)
        texts = (*initial.notes, *_notes(self, initial, result))
        findings = [
            *(Finding("fit", text) for text in texts),
            *_header_findings(initial, result),
            *image_findings(image),
        ]
        result = with_extractions(result, self, raw, scale, findings, check)
        assert result.extractions[0].provenance is not None
        emit_findings(image, result.extractions[0].provenance.findings)
        return result

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters as JSON values, with the profile represented by its class name."""
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        options["profile"] = None if self.profile is None else type(self.profile).__name__
        correction = options.pop("aperture_correction")
        options["aperture_correction"] = None if correction is None else correction.filename
        if self.position is not None:
            options["position"] = list(options["position"])
        return {"reference": {}, "step": {"extraction_type": "optimal"}, "options": options}

    def _fit_options(self, image: SlitImage) -> FitOptions:
        """Return the options of the fit, including the background order for this image."""
        names = {field.name for field in fields(FitOptions)} - {"background_order"}
        order = self.bkg_order
        if order == "auto":
            order = None if image.is_background_subtracted else 0
        return FitOptions(background_order=order, **{key: getattr(self, key) for key in names})


def _fit_rows(
    cutout: Cutout,
    mean: MeanCutout,
    options: FitOptions,
    initial: InitialSources,
    source_fit: SourceFit,
) -> tuple[OptimalResult, dict[str, Array]]:
    """Fit the fluxes in each row.

    Returns the result without extractions, and the arrays from which they are assembled.
    """
    if initial.position_fixed:
        options = replace(options, fit_position=False)
    fitter = RowFitter.from_cutout(cutout, mean, source_fit, options)
    _check_position(cutout, options, initial, fitter.source_fit)
    raw, shifts, rejected = fitter.run()
    return OptimalResult.from_fit(fitter, raw["coefficients"], shifts, rejected), raw


def _rejected_fraction(result: OptimalResult) -> float:
    """Return the fraction of pixels on the first source that were rejected as outliers."""
    fitter = result.fitter
    core = fitter.profile_images[0] > _ON_SOURCE
    row, column = result.rejected[-2:]
    inside = core[row - fitter.cutout.rows.start, column - fitter.columns.start]
    number = len(result.image.data) if result.image.is_stack else 1
    return float(inside.sum() / max(core.sum() * number, 1))


def _fit_sources(
    cutout: Cutout, mean: MeanCutout, options: FitOptions, careful: bool = False
) -> tuple[InitialSources, SourceFit]:
    """Find the sources, and fit their common profile and their traces.

    `careful` is described in `initial_sources`.
    """
    initial = initial_sources(options, cutout, mean, careful=careful)
    initial, source_fit = _fit_profile(cutout, mean, options, initial)
    if options.profile is None and initial.positives == 1:
        blend = BlendDiagnostics.from_fit(source_fit)
        # The flux of an unresolved neighbour would be attributed to the source.
        if not initial.careful and blend.looks_blended:
            again = initial_sources(options, cutout, mean, careful=True)
            if again.positives > 1 or len(again.traces) != len(initial.traces):
                initial, source_fit = _fit_profile(cutout, mean, options, again)
                blend = BlendDiagnostics.from_fit(source_fit)
        if initial.positives == 1 and blend.warning is not None:
            initial = replace(initial, notes=(*initial.notes, blend.warning))
    if not options.fit_position or initial.position_fixed:
        unknown = np.full(initial.positives, np.nan)
        source_fit = replace(source_fit, traces=initial.traces, shift_error=unknown)
    return initial, source_fit


def _fit_profile(
    cutout: Cutout, mean: MeanCutout, options: FitOptions, initial: InitialSources
) -> tuple[InitialSources, SourceFit]:
    """Fit the profile and the traces, or only the traces if the profile is given.

    Doubtful sources are dropped if they cannot be distinguished from a shoulder of the profile.
    """

    def fitted(sources: InitialSources) -> SourceFit:
        return fit_profile(
            mean.pixels, sources.traces, options, sources.positives, sources.row_step
        )

    try:
        found = fitted(initial)
        if not initial.doubtful:
            return initial, found
        less = initial.without_doubtful()
        alone = fitted(less)
        if is_separate(alone, found):
            return initial, found
        places = ", ".join(f"{middle_row_value(found.traces[i]):.2f}" for i in initial.doubtful)
        text = (
            f"another source at column {places} cannot be distinguished from a shoulder of the "
            "profile, and its flux is included: expected both columns in position if there are two "
            "sources"
        )
        return replace(less, notes=(*less.notes, text)), alone
    except ProfileError as error:
        column = middle_row_value(initial.traces[0])
        raise ProfileError(
            f"{error.text} (searched at column {column:.1f})",
            subject=cutout.image.label,
            hint=error.hint,
        ) from None


def _check_position(
    cutout: Cutout, options: FitOptions, initial: InitialSources, source_fit: SourceFit
) -> None:
    """Raise `SourceError` if a fitted position is too far from the requested or initial position.

    This happens if there is no source at the requested position.
    """
    if not options.fit_position or (options.position is None and initial.target_found):
        return
    expected = options.position or [middle_row_value(initial.traces[0])]
    for column, trace in zip(expected, source_fit.traces, strict=False):
        fitted = middle_row_value(trace)
        if abs(fitted - column) > _MAX_DISTANCE:
            raise SourceError(
                f"no source at column {column:.2f}, the nearest source is at column "
                f"{fitted:.2f}; expected a position within {_MAX_DISTANCE:g} columns of a source",
                subject=cutout.image.label,
                hint=Hint.to("{} extracts without a source", fit_position=False),
            )


def _header_findings(initial: InitialSources, result: OptimalResult) -> list[Finding]:
    """Return a finding if the source is not at the position in the header."""
    source_fit, expected = result.fitter.source_fit, initial.header_position
    column, error = middle_row_value(source_fit.traces[0]), float(source_fit.shift_error[0])
    limit = max(_REPORTED_OFFSET, 3.0 * np.nan_to_num(error))
    if expected is None or abs(column - expected) <= limit:
        return []
    offset = column - expected
    text = f"the source was found at column {column:.2f}, {offset:+.2f} from the header position"
    return [Finding("header_off", text, {"offset": offset, "error": error})]


def _notes(
    extractor: OptimalExtractor, initial: InitialSources, result: OptimalResult
) -> list[str]:
    """Return the texts of warnings about a probably wrong fit."""
    notes = []
    fitter, source_fit, shifts = result.fitter, result.fitter.source_fit, result.shifts
    rows = fitter.rows(0)
    missing = 1.0 - float(np.median(fitter.light_with_wavelength[0][rows])) if rows.size else 0.0
    if missing > OFF_IMAGE and extractor.profile is None:
        notes.append(
            f"{missing:.0%} of the source's flux is off the image and was extrapolated with the "
            "fitted profile: expected the profile of another image or of a PSF reference"
        )
    ratios = result.relative_flux
    fitted = extractor.fit_position and not initial.position_fixed
    significant = source_fit.signal_to_noise > _SIGNIFICANT and fitted
    for s in range(fitter.positives, len(fitter.profile_images), fitter.positives):
        if -ratios[s] > _NEGATIVE_RATIO and significant:
            notes.append(
                f"the negative trace at column {middle_row_value(source_fit.traces[s]):.2f} has "
                f"{-ratios[s]:.1f} times the source's flux, expected as much or less: another "
                "source may have been subtracted with the other nod"
            )
    if shifts is not None and (far := int(np.count_nonzero(np.abs(shifts) >= SHIFT_LIMIT))):
        notes.append(
            f"{far} of {len(shifts)} integrations {'is' if far == 1 else 'are'} "
            f"{SHIFT_LIMIT:g} columns or more off the mean: they are extracted with a shift of "
            f"{SHIFT_LIMIT:g} columns, and have too little flux"
        )
    lost = _rejected_fraction(result)
    if lost > _MANY_REJECTED:
        notes.append(
            f"{lost:.0%} of the pixels on the source were rejected, as the profile does not fit "
            "them: their variances may be too small, or another source is there"
        )
    order = extractor.bkg_order
    if isinstance(order, int) and order > _MAX_ORDER:
        notes.append(
            f"a background of order {order} can fit the source and reduce its flux: expected an "
            f"order up to {_MAX_ORDER}"
        )
    return notes
