"""Validation of profile options, and warnings about options without effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glue_lrs._utils.validation import one_of
from glue_lrs.errors import Hint, LRSWarning, ReferenceFileError
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.reference.schema import BAD_PIXELS, EXTRACTION_TYPES, OPTIMAL_MODES

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage


def check_profile_options(recipe: Extract1D) -> None:
    """Check the parameters of a recipe that concern spatial profiles.

    Parameters
    ----------
    recipe : Extract1D
        Recipe whose parameters are checked.

    Raises
    ------
    ReferenceFileError
        If a value is not allowed, or if two values exclude each other.
    """
    one_of(*EXTRACTION_TYPES)("extraction_type", recipe.extraction_type)
    for key, words in (("optimal_mode", OPTIMAL_MODES), ("bad_pixels", BAD_PIXELS)):
        value = getattr(recipe, key)
        if value is not None:
            one_of(*words)(key, value)
    if recipe.psf is not None and not isinstance(recipe.psf, PSFProfile):
        raise ReferenceFileError(
            f"psf is a {type(recipe.psf).__name__}, expected a PSFProfile such as "
            "PSFProfile.read(path)"
        )
    for key in ("model_nod_pair", "optimize_psf_location"):
        if not isinstance(getattr(recipe, key), bool):
            raise ReferenceFileError(f"{key} is {getattr(recipe, key)!r}, expected True or False")
    mode = recipe.optimal_mode
    if mode is not None and recipe.extraction_type != "optimal":
        raise ReferenceFileError(
            f"optimal_mode is {mode!r}, expected extraction_type 'optimal' with it"
        )
    if mode in ("pipeline", "psf") and recipe.psf is None:
        raise ReferenceFileError(
            f"optimal_mode is {mode!r}, expected a PSF reference with it",
            hint=Hint.to("give {}", "psf"),
        )
    if recipe.bad_pixels is not None and recipe.extraction_type == "optimal":
        raise ReferenceFileError(
            "bad_pixels is 'profile', expected extraction_type 'box' with it: an optimal "
            "extraction always corrects for bad pixels"
        )


def unused_options(recipe: Extract1D, image: SlitImage) -> list[LRSWarning]:
    """Return warnings about parameters that have no effect on an optimal extraction.

    A warning is also returned if the source is extended.

    Parameters
    ----------
    recipe : Extract1D
        Recipe for an optimal extraction.
    image : SlitImage
        Image to be extracted.
    """
    unused = []
    background = recipe.subtracted_background
    if background is not None:
        if background.bkg_fit == "median":
            unused.append("bkg_fit 'median'")
        if background.smoothing_length:
            unused.append("smoothing_length")
    notes = []
    if unused:
        notes.append(
            f"{' and '.join(unused)} {_verb(unused)} no effect: the background of an optimal "
            "extraction is a polynomial that is fitted with the source"
        )
    rows = [key for key in ("ystart", "ystop") if getattr(recipe.aperture, key) is not None]
    if rows and recipe.mode != "pipeline":
        notes.append(
            f"{' and '.join(rows)} {_verb(rows)} no effect: an optimal extraction gives all rows"
        )
    if image.is_extended_source:
        notes.append(
            "SRCTYPE is EXTENDED, but an optimal extraction assumes a point source; "
            "a box extraction does not"
        )
    if recipe.max_lost is not None and recipe.mode == "pipeline":
        notes.append("max_lost has no effect in the pipeline's optimal extraction")
    return [LRSWarning(text) for text in notes]


def _verb(subjects: list[str]) -> str:
    return "have" if len(subjects) > 1 else "has"
