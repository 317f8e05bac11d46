"""Validation of the options that use a spatial profile."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from glue_lrs._utils.validation import one_of
from glue_lrs.errors import LRSWarning, ReferenceFileError
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.reference.schema import BAD_PIXELS, EXTRACTION_TYPES, OPTIMAL_MODES

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.image.slit_image import SlitImage

__all__ = ["check", "warn_unused"]


def check(operator: Extract1D) -> None:
    """Check the parameters of an operator that have to do with profiles.

    Parameters
    ----------
    operator : Extract1D
        The operator.

    Raises
    ------
    ReferenceFileError
        If a value is not one of those listed, or two do not go together.
    """
    one_of(*EXTRACTION_TYPES)("extraction_type", operator.extraction_type)
    for key, words in (("optimal_mode", OPTIMAL_MODES), ("bad_pixels", BAD_PIXELS)):
        value = getattr(operator, key)
        if value is not None:
            one_of(*words)(key, value)
    if operator.psf is not None and not isinstance(operator.psf, PSFProfile):
        raise ReferenceFileError(
            f"psf is a {type(operator.psf).__name__}, expected a PSFProfile such as "
            "PSFProfile.read(path)"
        )
    for key in ("model_nod_pair", "optimize_psf_location"):
        if not isinstance(getattr(operator, key), bool):
            raise ReferenceFileError(f"{key} is {getattr(operator, key)!r}, expected True or False")
    mode = operator.optimal_mode
    if mode is not None and operator.extraction_type != "optimal":
        raise ReferenceFileError(
            f"optimal_mode is {mode!r}, expected extraction_type 'optimal' with it"
        )
    if mode in ("pipeline", "psf") and operator.psf is None:
        raise ReferenceFileError(
            f"optimal_mode is {mode!r}, expected a PSF reference with it (give psf= or --psf)"
        )
    if operator.bad_pixels is not None and operator.extraction_type == "optimal":
        raise ReferenceFileError(
            "bad_pixels is 'profile', expected extraction_type 'box' with it: an optimal "
            "extraction makes up for bad pixels anyway"
        )


def warn_unused(operator: Extract1D, image: SlitImage) -> None:
    """Tell what has no effect on an optimal extraction though it was asked for."""
    idle = []
    background = operator.background
    if background is not None and operator.subtract_background is not False:
        if background.bkg_fit == "median":
            idle.append("bkg_fit 'median'")
        if background.smoothing_length:
            idle.append("smoothing_length")
    told = []
    if idle:
        verb = "have" if len(idle) > 1 else "has"
        told.append(
            f"{' and '.join(idle)} {verb} no effect: the background of an optimal extraction is a "
            "polynomial that is fitted with the source"
        )
    rows = [key for key in ("ystart", "ystop") if getattr(operator.aperture, key) is not None]
    if rows and operator.mode != "pipeline":
        told.append(
            f"{' and '.join(rows)} {'have' if len(rows) > 1 else 'has'} no effect: an optimal "
            "extraction gives all rows"
        )
    if (image.source_type or "").upper() == "EXTENDED":
        told.append(
            "SRCTYPE is EXTENDED, but an optimal extraction takes the source for a point; "
            "a box has no such need"
        )
    if operator.max_lost is not None and operator.mode == "pipeline":
        told.append("max_lost has no effect in the pipeline's optimal extraction")
    for text in told:
        warnings.warn(f"{image.label}: {text}", LRSWarning, stacklevel=4)
