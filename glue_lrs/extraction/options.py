"""Validation of profile options, and options without effect or without a place in a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glue_lrs._utils.validation import check_bool, one_of
from glue_lrs.errors import Hint, LRSWarning, ReferenceFileError, quoted, warn
from glue_lrs.fitting.drift import share_drift_model, without_hot_pixels
from glue_lrs.fitting.time_outliers import (
    FEWEST,
    number_of_integrations,
    one_integration,
    share_removed_outliers,
    without_time_outliers,
)
from glue_lrs.image.drizzle import filled_fraction, without_filled_pixels
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.reference.schema import EXTRACTION_TYPES, OPTIONS
from glue_lrs.spectra.findings import Finding

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import ImageSource


def prepared_image(operator: Extract1D, image: ImageSource) -> SlitImage:
    """Return the image with the source type and the pixels that the options of an operator imply.

    Filled pixels may have become lost pixels, and outliers along time lost or replaced pixels.

    Parameters
    ----------
    operator : Extract1D
        Operator that extracts the image.
    image : SlitImage, `~specutils.Spectrum`, str or path-like
        Image, as for `Extract1D.run`.
    """
    original = SlitImage.from_any(image)
    found = flagged_image(operator, typed_image(operator, original))
    if operator.time_outliers != "keep" and found.is_stack and len(found.data) >= FEWEST:
        share_removed_outliers(original, found)
        clean = without_time_outliers(found, operator.time_outliers)
        if operator.drift != "keep":
            share_drift_model(found, clean)
        found = clean
    return found


def flagged_image(operator: Extract1D, image: SlitImage) -> SlitImage:
    """Return the image in which filled and hot pixels are lost, if the options imply this.

    The parameters are those of `prepared_image`.
    """
    found = image
    if operator.filled_pixels == "lost":
        found = without_filled_pixels(found)
    if operator.hot_pixels == "lost" and found.is_stack:
        found = without_hot_pixels(found)
    return found


def prepared_integration(operator: Extract1D, image: SlitImage, number: int | None) -> SlitImage:
    """Return an integration of a stack, or the median of all, prepared like the whole stack.

    Outliers along time are those of the stack, which one integration alone does not reveal.

    Parameters
    ----------
    operator : Extract1D
        Operator that extracts the image.
    image : SlitImage
        Stack of integrations.
    number : int or None
        Index of the integration; None for the median of all.
    """
    return one_integration(prepared_image(operator, image), number)


def typed_image(operator: Extract1D, image: ImageSource) -> SlitImage:
    """Return the image with the source type of an operator. The parameters are as above."""
    return SlitImage.from_any(image).as_source_type(operator.source_type)


def check_profile_options(operator: Extract1D) -> None:
    """Raise `ReferenceFileError` if options about the profile are invalid or inconsistent.

    Parameters
    ----------
    operator : Extract1D
        Operator whose parameters are checked.
    """
    one_of(*EXTRACTION_TYPES)("extraction_type", operator.extraction_type)
    keys = ("filled_pixels", "time_outliers", "drift", "hot_pixels", "correction")
    for key in ("optimal_mode", "bad_pixels", *keys):
        OPTIONS[key](key, getattr(operator, key))
    for key in ("model_nod_pair", "optimize_psf_location"):
        check_bool(key, getattr(operator, key))
    if operator.psf is not None and not isinstance(operator.psf, PSFProfile):
        raise ReferenceFileError(
            f"psf is a {type(operator.psf).__name__}, expected a PSFProfile such as "
            "PSFProfile.read(path)"
        )
    mode = operator.optimal_mode
    if mode is not None and operator.extraction_type != "optimal":
        raise ReferenceFileError(
            f"optimal_mode is {quoted(mode)}, expected extraction_type 'optimal' with it"
        )
    if mode in ("pipeline", "psf") and operator.psf is None:
        raise ReferenceFileError(
            f"optimal_mode is {quoted(mode)}, which needs a PSF reference",
            hint=Hint.to("give {}", "psf"),
        )
    if operator.bad_pixels is not None and operator.extraction_type == "optimal":
        raise ReferenceFileError(
            "bad_pixels is 'profile', expected extraction_type 'box' with it: an optimal "
            "extraction always corrects for bad pixels"
        )
    if operator.correction == "profile" and operator.extraction_type == "optimal":
        raise ReferenceFileError(
            "correction is 'profile', expected extraction_type 'box' with it: an optimal "
            "extraction always uses the profile"
        )
    _check_drift(operator)
    if operator.correction == "profile" and operator.bad_pixels is not None:
        raise ReferenceFileError(
            "bad_pixels is 'profile', expected correction 'table' with it: the correction "
            "'profile' includes bad pixels"
        )


def _check_drift(operator: Extract1D) -> None:
    """Raise `ReferenceFileError` if `drift` cannot be combined with another option."""
    if operator.drift == "keep":
        return
    conflict = None
    if operator.extraction_type == "optimal" and operator.mode == "pipeline":
        conflict = "optimal_mode 'psf' or 'learned' with it: the pipeline's fit has one position"
    elif operator.bad_pixels is not None:
        conflict = "time_outliers 'replace' instead of bad_pixels 'profile' with it"
    elif operator.correction == "profile":
        conflict = "correction 'table' with it: 'profile' includes the drift"
    if conflict is not None:
        raise ReferenceFileError(f"drift is {quoted(operator.drift)}, expected {conflict}")


def unused_options(operator: Extract1D, image: SlitImage) -> list[Finding]:
    """Return findings about parameters that have no effect.

    A finding is also returned if an optimal extraction is requested for an extended source.

    Parameters
    ----------
    operator : Extract1D
        Operator that extracts the image.
    image : SlitImage
        Image to be extracted.
    """
    notes = []
    if operator.filled_pixels == "lost" and image.kind == "s2d" and filled_fraction(image) is None:
        notes.append(
            "filled_pixels 'lost' has no effect: the image has no drizzle weights (WHT with "
            "VAR_RNOISE), so that the pixels that drizzle filled in are unknown"
        )
    integrations = number_of_integrations(image)
    if operator.time_outliers != "keep" and integrations < FEWEST:
        stack = image.is_stack or integrations > 1
        number = f"{integrations} integrations" if stack else "a single image"
        notes.append(
            f"time_outliers {quoted(operator.time_outliers)} has no effect: expected a stack of at "
            f"least {FEWEST} integrations, found {number}"
        )
    if operator.drift != "keep" and not image.is_stack:
        notes.append("drift 'correct' has no effect: expected a stack, found a single image")
    if operator.hot_pixels == "lost" and not image.is_stack:
        notes.append("hot_pixels 'lost' has no effect: expected a stack, found a single image")
    if operator.correction == "profile" and not operator.apply_apcorr:
        notes.append("correction 'profile' has no effect, as apply_apcorr is false")
    elif operator.correction == "profile" and not image.is_point_source:
        notes.append("correction 'profile' has no effect: the source is not a point source")
    if operator.extraction_type == "optimal":
        notes += _unused_in_fit(operator, image)
    return [Finding("unused_option", text) for text in notes]


def _unused_in_fit(operator: Extract1D, image: SlitImage) -> list[str]:
    """Return texts about parameters that have no effect on an optimal extraction."""
    notes = []
    background, unused = operator.subtracted_background, []
    if background is not None and background.bkg_fit == "median":
        unused.append("bkg_fit 'median'")
    if background is not None and background.smoothing_length:
        unused.append("smoothing_length")
    if unused:
        notes.append(
            f"{_subjects(unused)} no effect: the background of an optimal extraction is a "
            "polynomial that is fitted with the source"
        )
    rows = [key for key in ("ystart", "ystop") if getattr(operator.aperture, key) is not None]
    if rows and operator.mode != "pipeline":
        notes.append(f"{_subjects(rows)} no effect: an optimal extraction gives all rows")
    if image.is_extended_source:
        notes.append(
            "SRCTYPE is EXTENDED, but an optimal extraction assumes a point source; "
            "a box extraction does not"
        )
    if operator.max_lost is not None and operator.mode == "pipeline":
        notes.append("max_lost has no effect in the pipeline's optimal extraction")
    return notes


def inexpressible(operator: Extract1D, image: SlitImage | None) -> list[str]:
    """Return texts about the parameters that no EXTRACT1D reference can express.

    If `max_lost` is set, a warning is issued.

    Parameters
    ----------
    operator : Extract1D
        Operator to be written to a reference.
    image : SlitImage, optional
        Image to which the reference will be applied.
    """
    found = []
    source_type, typed = operator.source_type, image and image.as_source_type(operator.source_type)
    if source_type is not None and (image is None or typed is not image):
        found.append(
            f"source_type {quoted(source_type)} (run the pipeline's step srctype with "
            f"--source_type={source_type})"
        )
    if not operator.apply_apcorr and (typed is None or typed.is_point_source):
        found.append("apply_apcorr false (run the step with --apply_apcorr=false)")
    if operator.mode == "pipeline":
        found.append("extraction_type 'optimal' (run the step with --extraction_type=optimal)")
    elif operator.mode != "box":
        found.append(
            f"optimal_mode {operator.mode!r}, which the pipeline does not have (its algorithm is "
            "the optimal_mode 'pipeline')"
        )
    if operator.bad_pixels is not None:
        found.append(f"bad_pixels {operator.bad_pixels!r}, which the pipeline does not have")
    if operator.correction == "profile" and operator.apply_apcorr:
        found.append("correction 'profile', which the pipeline does not have")
    if operator.filled_pixels == "lost" and (
        image is None or without_filled_pixels(image) is not image
    ):
        found.append("filled_pixels 'lost', which the pipeline does not have")
    if operator.time_outliers != "keep":
        found.append(
            f"time_outliers {quoted(operator.time_outliers)}, which the pipeline does not have"
        )
    if operator.drift != "keep":
        found.append(f"drift {quoted(operator.drift)}, which the pipeline does not have")
    if operator.hot_pixels == "lost":
        found.append("hot_pixels 'lost', which the pipeline does not have")
    if operator.noise != "propagated":
        found.append(f"noise {operator.noise!r}, which the pipeline does not have")
    if operator.max_lost is not None:
        warn(LRSWarning("max_lost is omitted: the pipeline does not mask rows with lost pixels"))
    return found


def _subjects(names: list[str]) -> str:
    return f"{' and '.join(names)} {'have' if len(names) > 1 else 'has'}"
