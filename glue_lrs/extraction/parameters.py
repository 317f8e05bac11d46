"""Parameters of an `Extract1D` operator as JSON values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glue_lrs._utils.display import changed_fields, described, joined, settings_text
from glue_lrs.extraction.noise import noise_parameters
from glue_lrs.reference.schema import IN_MEMORY, entry_of

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D

#: Fields of an operator that its text does not list as other settings.
_SHOWN = (
    "aperture", "background", "aperture_correction", "psf", "id", "references",
    "extraction_type", "optimal_mode",
)  # fmt: skip

#: Options that are omitted if they have the default value.
_DEFAULTS = {
    "bad_pixels": None, "filled_pixels": "keep", "time_outliers": "keep", "source_type": None,
    "correction": "table", "drift": "keep", "hot_pixels": "keep",
}  # fmt: skip


def operator_text(operator: Extract1D) -> str:
    """Return the text of an operator: mode, aperture and background, correction, other settings."""
    correction, psf, background = operator.aperture_correction, operator.psf, operator.background
    references = {
        "apcorr": None if correction is None else correction.filename or IN_MEMORY,
        "psf": None if psf is None else psf.filename or IN_MEMORY,
    }
    return described(
        operator,
        operator.mode + (f" for {operator.id}" if operator.id else ""),
        f"aperture: {settings_text(changed_fields(operator.aperture)) or 'all columns'}",
        f"background: {settings_text(changed_fields(background)) if background else 'none'}",
        settings_text(references),
        joined(*(f"{key}={value!r}" for key, value in changed_fields(operator, _SHOWN).items())),
    )


def operator_parameters(operator: Extract1D) -> dict[str, Any]:
    """Return the parameters of an operator, as described in `Extract1D.parameters`."""
    aperture, background = operator.aperture, operator.background
    entry: dict[str, Any] = {} if operator.id is None else {"id": operator.id}
    entry |= entry_of(aperture, background)
    if operator.reference_source_posn is not None:
        entry["use_source_posn"] = operator.reference_source_posn
    steps = ["subtract_background", "apply_apcorr", "use_source_posn", "position_offset"]
    options: dict[str, Any] = {
        "fixed_background": operator.fixed_background,
        "max_lost": None if operator.max_lost is None else float(operator.max_lost),
    }
    if background is not None and background.independent_var != aperture.independent_var:
        # An EXTRACT1D aperture has only one `independent_var`, for aperture and background.
        options["background_independent_var"] = background.independent_var
    if operator.extraction_type == "optimal":
        steps.append("extraction_type")
        options["optimal_mode"] = operator.mode
    chosen = {key: getattr(operator, key) for key in _DEFAULTS}
    options |= {key: value for key, value in chosen.items() if value != _DEFAULTS[key]}
    if operator.fits_profile:
        steps += ["model_nod_pair", "optimize_psf_location"]
    options |= noise_parameters(operator)
    if operator.psf is not None:
        options["psf_name"] = operator.psf.name
    step = {key: getattr(operator, key) for key in steps}
    return {"reference": entry, "step": step, "options": options}
