"""OptimalExtractor: optimal extraction of point sources.

Each row is fitted with the profiles of all sources and a polynomial background, each pixel weighted
with 1 / variance:

* The weights use a smooth variance model and not the variances of single pixels. These are
  estimated from the noisy data, so that a pixel that is low by chance would get a higher weight and
  the flux a negative bias. The errors are propagated from the variances of the image.
* The profile is fitted to the image (or given), and the positions of the sources are fitted.
* Outliers are rejected one at a time, the worst first, and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs._utils.validation import check_number
from glue_lrs.errors import Hint, LRSWarning, ProfileError, ReferenceFileError, SourceError
from glue_lrs.extraction.base import emit_notes, jansky_per_sum, no_variances
from glue_lrs.extraction.optimal_result import assemble_result, flux_ratios, middle_row_value
from glue_lrs.fitting.cutout import Cutout
from glue_lrs.fitting.initial_sources import BlendDiagnostics, initial_sources
from glue_lrs.fitting.options import FitOptions
from glue_lrs.fitting.profile_fit import fit_profile, fit_traces
from glue_lrs.fitting.row_fit import SHIFT_LIMIT, RowFitter
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.profiles.base import SpatialProfile
from glue_lrs.profiles.empirical import REACH

if TYPE_CHECKING:
    from specutils import Spectrum

    from glue_lrs.extraction.optimal_result import OptimalResult
    from glue_lrs.fitting.cutout import MeanCutout
    from glue_lrs.fitting.initial_sources import InitialSources
    from glue_lrs.fitting.source_fit import SourceFit
    from glue_lrs.spectra.extraction import Extraction

__all__ = ["OptimalExtractor"]

#: Largest distance (columns) of a fitted source from the requested position.
_MAX_DISTANCE = 2.5

#: Difference (columns) between fitted and header position above which it is reported; that of
#: `glue_lrs.measurement.measure.measure`.
_REPORTED_OFFSET = 0.5

#: Least separation (columns) of two requested sources.
_MIN_SEPARATION = 0.5

#: Fraction of the source's pixels above which rejections are not explained by cosmic rays.
_MANY_REJECTED = 0.05

#: Profile value, as a fraction of the total, above which a pixel counts as one of the source's.
_ON_SOURCE = 0.02

#: Fraction of the light off the image that is reported.
_OFF_IMAGE = 0.05

#: Flux ratio of a negative trace to the source that is reported, and the signal-to-noise ratio of
#: the source from which on the ratio is significant.
_NEGATIVE_RATIO, _SIGNIFICANT = 1.5, 30.0

#: Highest order of a background that is smoother than the source.
_MAX_ORDER = 4


@dataclass(frozen=True, kw_only=True)
class OptimalExtractor:
    """Optimal extraction of point sources.

    An operator: ``extract(image)`` gives a specutils spectrum, ``extract.run(image)`` all columns,
    ``extract.fit(image)`` the model as well.

    Parameters
    ----------
    profile : SpatialProfile, optional
        The spatial profile: a PSF reference (`PSFProfile`), or one fitted to another image
        (``fit(star).profile``). None: fitted to the image itself.
    position : float or sequence of float, optional
        Column of the source in the middle row, to within some two columns. Several sources are
        fitted together, and the first is the target. None: found by header and brightness.
    nods : bool
        Whether the negative traces of other nods are searched for and fitted.
    bkg_order : int, None or "auto"
        Order of the background's polynomial in each row, fitted together with the sources; None: no
        background; "auto": 0, but no background where the header says that one was subtracted.
    threshold : float, optional
        Outlier rejection in standard deviations; None: no rejection.
    fit_position : bool
        Whether the position is fitted.
    trace_order : int, optional
        Order of the polynomial by which the trace may differ from that of the WCS. None: 0 to 3, as
        the signal-to-noise ratio allows.
    fit_shift : bool
        Whether the shift of each integration of a stack is fitted.
    reach : int
        Columns from the source at which a fitted profile ends; light farther out is not counted.
    spline : bool
        Whether a fitted profile may differ from a Gaussian.
    max_lost : float, optional
        Rows in which bad pixels remove more than this fraction of the profile are masked (DQ bit
        0).

    Raises
    ------
    ReferenceFileError
        If a value is out of range.

    Notes
    -----
    After Horne (1986, PASP 98, 609), and Marsh (1989, PASP 101, 1032) for curved traces. There is
    no aperture correction: the profile is normalised to 1 over its own columns.
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
    max_lost: float | None = None

    def __post_init__(self) -> None:
        if self.profile is not None and not isinstance(self.profile, SpatialProfile):
            raise ReferenceFileError(
                f"profile is a {type(self.profile).__name__}, expected a SpatialProfile such as "
                "PSFProfile.read(path)"
            )
        if self.position is not None:
            several = np.atleast_1d(np.asarray(self.position, dtype=object)).tolist()
            columns = tuple(check_number("position", value) for value in several)
            if not columns:
                raise ReferenceFileError("position is empty, expected a column or several")
            if len(columns) > 1 and np.diff(np.sort(columns)).min() < _MIN_SEPARATION:
                raise ReferenceFileError(
                    f"position is {list(columns)}, expected columns at least {_MIN_SEPARATION:g} "
                    "apart"
                )
            object.__setattr__(self, "position", columns)
        for key in ("nods", "fit_position", "fit_shift", "spline"):
            if not isinstance(getattr(self, key), bool):
                raise ReferenceFileError(f"{key} is {getattr(self, key)!r}, expected True or False")
        for key, least in (("bkg_order", 0), ("trace_order", 0), ("reach", 4)):
            value = getattr(self, key)
            if value is None and key != "reach":
                continue
            if key == "bkg_order" and value == "auto":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ReferenceFileError(
                    f"{key} is {value!r}, expected a whole number of {least} or more"
                )
        if self.threshold is not None and not check_number("threshold", self.threshold) > 0:
            raise ReferenceFileError(f"threshold is {self.threshold!r}, expected more than 0")
        if self.max_lost is not None and not 0.0 <= check_number("max_lost", self.max_lost) <= 1.0:
            raise ReferenceFileError(
                f"max_lost is {self.max_lost!r}, expected a fraction between 0 and 1"
            )

    def __call__(self, image: SlitImage | Spectrum) -> Spectrum:
        """Extract the spectrum of the first source; see `run`.

        Parameters
        ----------
        image : SlitImage or `~specutils.Spectrum`
            An image, a stack of them, or a spectrum read with ``format="lrs-s2d"``.
        """
        return self.run(image).to_spectrum()

    def run(self, image: SlitImage | Spectrum) -> Extraction:
        """Extract all columns of the first source; see `fit`.

        Parameters
        ----------
        image : SlitImage or `~specutils.Spectrum`
            An image, a stack of them, or a spectrum read with ``format="lrs-s2d"``.

        Returns
        -------
        Extraction
            The 18 columns. SURF_BRIGHT and its errors are 0, as in the pipeline. BACKGROUND is the
            level under the source. NPIXELS is the effective number of pixels of the profile,
            sum P / sum P^2, and ``lost_fraction`` the fraction of it that bad and rejected pixels
            remove.
        """
        return self.fit(image).extractions[0]

    def fit(self, image: SlitImage | Spectrum) -> OptimalResult:
        """Extract all sources, and keep the model.

        Parameters
        ----------
        image : SlitImage or `~specutils.Spectrum`
            An image or a stack of them.

        Returns
        -------
        OptimalResult
            A spectrum of each source, the profile, traces, shifts and rejected pixels.

        Raises
        ------
        ProductError
            If the image cannot be extracted: no PIXAR_SR, nothing but NaN, no source.
        ProfileError
            If there is too little light to fit a profile.
        SourceError
            If there is no source at the requested position.

        Warns
        -----
        LRSWarning
            If header and data disagree on the position of the source.
        """
        image = SlitImage.from_any(image)
        scale = jansky_per_sum(image)
        cutout = Cutout.from_image(image)
        options = self._fit_options(image)
        mean = cutout.mean()
        initial, source_fit = _fit_sources(cutout, mean, options)
        fitter, result = _fit_rows(cutout, mean, options, initial, source_fit)
        lost = _rejected_fraction(fitter, result[2])
        if lost > _MANY_REJECTED and not initial.careful and options.n_requested == 1:
            # A further source may explain the rejected pixels.
            careful, source_fit = _fit_sources(cutout, mean, options, careful=True)
            if len(careful.traces) != len(initial.traces):
                initial = careful
                fitter, result = _fit_rows(cutout, mean, options, initial, source_fit)
                lost = _rejected_fraction(fitter, result[2])
        notes = [
            *map(LRSWarning, initial.notes),
            *_notes(self, fitter, initial, result[0]["coefficients"], result[1], lost),
            *no_variances(image),
        ]
        assembled = assemble_result(self, cutout, fitter, *result, scale, notes)
        emit_notes(image, notes)
        return assembled

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters, ready for JSON; the profile by its class name."""
        keys = (
            "position", "nods", "bkg_order", "threshold", "fit_position", "trace_order",
            "fit_shift", "reach", "spline", "max_lost",
        )  # fmt: skip
        options = {key: getattr(self, key) for key in keys}
        if options["position"] is not None:
            options["position"] = list(options["position"])
        options["profile"] = None if self.profile is None else type(self.profile).__name__
        return {"reference": {}, "step": {"extraction_type": "optimal"}, "options": options}

    def _fit_options(self, image: SlitImage) -> FitOptions:
        """Return the options of the fit, with the background's order for this image."""
        order = self.bkg_order
        if order == "auto":
            subtracted = LazyHeader.view(image.header).get("S_BKDSUB") == "COMPLETE"
            order = None if subtracted else 0
        return FitOptions(
            profile=self.profile,
            position=self.position,  # type: ignore[arg-type]
            nods=self.nods,
            background_order=order,
            threshold=self.threshold,
            fit_position=self.fit_position,
            trace_order=self.trace_order,
            fit_shift=self.fit_shift,
            reach=self.reach,
            spline=self.spline,
        )


def _fit_rows(
    cutout: Cutout,
    mean: MeanCutout,
    options: FitOptions,
    initial: InitialSources,
    source_fit: SourceFit,
) -> tuple[RowFitter, tuple[Any, Any, tuple[NDArray[np.intp], ...]]]:
    """Fit the fluxes of each row; return the fitter, and its sums, shifts and rejected pixels."""
    if initial.position_fixed:
        options = replace(options, fit_position=False)
    fitter = RowFitter.from_cutout(cutout, mean, source_fit, initial.positives, options)
    _check_position(cutout, options, initial, fitter.source_fit)
    return fitter, fitter.run()


def _fit_sources(
    cutout: Cutout, mean: MeanCutout, options: FitOptions, careful: bool = False
) -> tuple[InitialSources, SourceFit]:
    """Find the sources, and fit their profile and traces."""
    initial = initial_sources(options, cutout, mean, careful=careful)
    source_fit = _fit_profile(cutout, mean, options, initial)
    blend = BlendDiagnostics.from_fit(source_fit)
    single = not initial.careful and initial.positives == 1
    # The light of an unresolved neighbour would be counted as the source's.
    if options.profile is None and single and blend.looks_blended:
        again = initial_sources(options, cutout, mean, careful=True)
        if again.positives > 1 or len(again.traces) != len(initial.traces):
            initial, source_fit = again, _fit_profile(cutout, mean, options, again)
            blend = BlendDiagnostics.from_fit(source_fit)
    if options.profile is None and initial.positives == 1 and blend.warning is not None:
        initial = replace(initial, notes=(*initial.notes, blend.warning))
    if not options.fit_position or initial.position_fixed:
        unknown = np.full(initial.positives, np.nan)
        source_fit = replace(source_fit, traces=initial.traces, shift_error=unknown)
    return initial, source_fit


def _fit_profile(
    cutout: Cutout, mean: MeanCutout, options: FitOptions, initial: InitialSources
) -> SourceFit:
    """Fit profile and traces, or the traces alone if the profile is given."""
    shared: dict[str, Any] = {
        "positives": initial.positives,
        "order": options.background_order,
        "trace_order": options.trace_order,
        "row_step": initial.row_step,
    }
    try:
        if options.profile is None:
            shared |= {"reach": options.reach, "spline": options.spline}
            return fit_profile(mean.pixels, initial.traces, **shared)
        return fit_traces(mean.pixels, options.profile, initial.traces, **shared)
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
    """Raise `SourceError` if a fit without a source at its start has gone elsewhere."""
    if not options.fit_position:
        return
    for s in range(options.n_requested):
        requested = middle_row_value(initial.traces[s])
        fitted = middle_row_value(source_fit.traces[s])
        if options.position is not None:
            requested = options.position[s]
        elif initial.target_found:
            continue
        if abs(fitted - requested) > _MAX_DISTANCE:
            raise SourceError(
                f"no source at column {requested:.2f}, the nearest light is at column "
                f"{fitted:.2f}; expected a position within {_MAX_DISTANCE:g} columns of a source",
                subject=cutout.image.label,
                hint=Hint.to("{} extracts without a source", fit_position=False),
            )


def _rejected_fraction(fitter: RowFitter, rejected: tuple[NDArray[np.intp], ...]) -> float:
    """Fraction of the first source's pixels that were rejected."""
    core = fitter.profile_images[0] > _ON_SOURCE
    *_, row, column = rejected
    inside = core[row - fitter.cutout.rows.start, column - fitter.columns.start]
    image = fitter.cutout.image
    number = image.data.shape[0] if image.is_stack else 1
    return float(inside.sum() / max(core.sum() * number, 1))


def _notes(
    extractor: OptimalExtractor,
    fitter: RowFitter,
    initial: InitialSources,
    coefficients: NDArray[np.float64],
    shifts: NDArray[np.float64] | None,
    lost: float,
) -> list[LRSWarning]:
    """Return diagnostic notes on a fit."""
    notes = []
    source_fit = fitter.source_fit
    column = middle_row_value(source_fit.traces[0])
    expected, error = initial.header_position, float(np.nan_to_num(source_fit.shift_error[0]))
    if expected is not None and abs(column - expected) > max(_REPORTED_OFFSET, 3.0 * error):
        notes.append(
            f"the source was found at column {column:.2f}, {column - expected:+.2f} from where the "
            "header puts it"
        )
    rows = fitter.rows(0)
    missing = 1.0 - float(np.median(fitter.light_with_wavelength[0][rows])) if rows.size else 0.0
    if missing > _OFF_IMAGE and extractor.profile is None:
        notes.append(
            f"{missing:.0%} of the source's light is off the image, where a fitted profile is an "
            "extrapolation that the flux depends on: expected a profile (fit(star).profile)"
        )
    ratios = flux_ratios(coefficients, len(fitter.profile_images))
    for s in range(fitter.positives, len(fitter.profile_images), fitter.positives):
        if -ratios[s] > _NEGATIVE_RATIO and source_fit.signal_to_noise > _SIGNIFICANT:
            notes.append(
                f"the negative trace at column {middle_row_value(source_fit.traces[s]):.2f} has "
                f"{-ratios[s]:.1f} times the source's light, expected as much or less: another "
                "source may have been subtracted with the other nod"
            )
    if shifts is not None and (far := int(np.count_nonzero(np.abs(shifts) >= SHIFT_LIMIT))):
        notes.append(
            f"{far} of {len(shifts)} integrations {'is' if far == 1 else 'are'} "
            f"{SHIFT_LIMIT:g} columns or more off the mean: they are extracted as if it were "
            f"{SHIFT_LIMIT:g}, and have too little flux"
        )
    if lost > _MANY_REJECTED:
        notes.append(
            f"{lost:.0%} of the pixels on the source were rejected, as the profile does not fit "
            "them: their variances may be too small, or another source is there"
        )
    order = extractor.bkg_order
    if isinstance(order, int) and order > _MAX_ORDER:
        notes.append(
            f"a background of order {order} can follow the source and absorb its light: expected "
            f"up to {_MAX_ORDER}"
        )
    return [LRSWarning(text) for text in notes]
