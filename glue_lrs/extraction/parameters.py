"""Conversion of a recipe's parameters to JSON values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glue_lrs._utils.validation import json_value
from glue_lrs.reference.schema import APERTURE_KEYS

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D


def recorded_parameters(recipe: Extract1D) -> dict[str, Any]:
    """Return all parameters of a recipe except the contents of FITS reference files.

    Parameters
    ----------
    recipe : Extract1D
        Recipe whose parameters are recorded.

    Returns
    -------
    dict
        A dict with three groups: ``reference`` contains the keys of an EXTRACT1D aperture, ``step``
        the step parameters of the pipeline, and ``options`` the parameters that the pipeline does
        not have. Writing the numbers to JSON and reading them back does not change them.
    """
    aperture, background = recipe.aperture, recipe.background
    entry: dict[str, Any] = {}
    if recipe.id is not None:
        entry["id"] = recipe.id
    for key in APERTURE_KEYS:
        value = getattr(aperture, key)
        if value is not None:
            entry[key] = json_value(value)
    options: dict[str, Any] = {
        "fixed_background": recipe.fixed_background,
        "max_lost": None if recipe.max_lost is None else float(recipe.max_lost),
    }
    if background is not None:
        entry["bkg_coeff"] = json_value(background.bkg_coeff)
        entry["bkg_fit"] = background.bkg_fit
        entry["bkg_order"] = background.bkg_order
        entry["smoothing_length"] = background.smoothing_length
        if background.independent_var != aperture.independent_var:
            # An EXTRACT1D aperture has only one `independent_var`, for aperture and background.
            options["background_independent_var"] = background.independent_var
    if recipe.reference_source_posn is not None:
        entry["use_source_posn"] = recipe.reference_source_posn
    step: dict[str, Any] = {
        "subtract_background": recipe.subtract_background,
        "apply_apcorr": recipe.apply_apcorr,
        "use_source_posn": recipe.use_source_posn,
        "position_offset": float(recipe.position_offset),
    }
    if recipe.extraction_type == "optimal":
        step["extraction_type"] = "optimal"
        options["optimal_mode"] = recipe.mode
    if recipe.bad_pixels is not None:
        options["bad_pixels"] = recipe.bad_pixels
    if recipe.extraction_type == "optimal" or recipe.bad_pixels is not None:
        step["model_nod_pair"] = recipe.model_nod_pair
        step["optimize_psf_location"] = recipe.optimize_psf_location
    if recipe.psf is not None:
        options["psf_name"] = recipe.psf.name
    return {"reference": entry, "step": step, "options": options}
