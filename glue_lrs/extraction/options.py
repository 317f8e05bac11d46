"""Validation of profile options, and warnings about options without effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glue_lrs._utils.validation import check_bool, one_of
from glue_lrs.errors import Hint, LRSWarning, ReferenceFileError
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.reference.schema import EXTRACTION_TYPES, OPTIONS

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage


def check_profile_options(operator: Extract1D) -> None:
    """Raise `ReferenceFileError` if options about the profile are invalid or inconsistent.

    Parameters
    ----------
    operator : Extract1D
        Operator whose parameters are checked.
    """
    one_of(*EXTRACTION_TYPES)("extraction_type", operator.extraction_type)
    for key in ("optimal_mode", "bad_pixels"):
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
            f"optimal_mode is {mode!r}, expected extraction_type 'optimal' with it"
        )
    if mode in ("pipeline", "psf") and operator.psf is None:
        raise ReferenceFileError(
            f"optimal_mode is {mode!r}, which needs a PSF reference",
            hint=Hint.to("give {}", "psf"),
        )
    if operator.bad_pixels is not None and operator.extraction_type == "optimal":
        raise ReferenceFileError(
            "bad_pixels is 'profile', expected extraction_type 'box' with it: an optimal "
            "extraction always corrects for bad pixels"
        )


def unused_options(operator: Extract1D, image: SlitImage) -> list[LRSWarning]:
    """Return warnings about parameters that have no effect on an optimal extraction.

    A warning is also returned if the source is extended.

    Parameters
    ----------
    operator : Extract1D
        Operator for an optimal extraction.
    image : SlitImage
        Image to be extracted.
    """
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
    return [LRSWarning(text) for text in notes]


def _subjects(names: list[str]) -> str:
    return f"{' and '.join(names)} {'have' if len(names) > 1 else 'has'}"
