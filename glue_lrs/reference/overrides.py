"""Parameters: an operator out of a reference and step parameters, and its parameters for JSON."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from glue_lrs._utils.validation import checked, excerpt, plain, written
from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.errors import LRSError, LRSWarning, ReferenceFileError, nearest
from glue_lrs.instrument import SLITLESS
from glue_lrs.reference.reference import Reference, remarks
from glue_lrs.reference.schema import (
    ANY,
    APERTURE_KEYS,
    IN_MEMORY,
    KEYS,
    OPTIONS,
    STEP,
    aperture_of,
    background_of,
    check_entry,
    check_independent_var,
)

if TYPE_CHECKING:
    from glue_lrs.extraction.extract1d import Extract1D
    from glue_lrs.profiles.psf import PSFProfile

__all__ = ["operator_from_parameters", "operator_from_reference", "operator_parameters"]

#: The step parameters that `Extract1D` keeps as such; the others become part of its `Background`.
KEPT = (
    "subtract_background", "apply_apcorr", "use_source_posn", "position_offset",
    "extraction_type", "model_nod_pair", "optimize_psf_location",
)  # fmt: skip


def _name(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise ReferenceFileError(f"{key} is {excerpt(value)}, expected a name")
    return value


#: Options that nobody asks for, but that `operator_parameters` records.
_RECORDED: dict[str, Callable[[str, object], Any]] = {
    "background_independent_var": check_independent_var,
    "psf_name": _name,
}


def operator_from_reference(
    cls: type[Extract1D],
    reference: str | PathLike[str] | Mapping[str, Any] | Reference | None,
    exp_type: str,
    *,
    apcorr: str | PathLike[str] | ApertureCorrection | None = None,
    psf: str | PathLike[str] | PSFProfile | None = None,
    **overrides: Any,
) -> Extract1D:
    """Make the operator of an EXTRACT1D reference: see `Extract1D.from_reference`."""
    source = _as_reference(reference)
    keys, step, options = _sort_overrides(overrides)
    order = keys.pop("spectral_order", None)
    entry = source.entry(exp_type, 1 if order is None else order)
    for key, only in (("region_type", "target"), ("dispaxis", 2), ("disp_axis", 2)):
        value = keys.pop(key, None)
        if value not in (None, only):
            raise ReferenceFileError(f"{key} is {value!r}, expected {only!r} for MIRI LRS")
    for key, value in keys.items():
        if value is None and key != "bkg_fit":
            entry.pop(key, None)
        else:
            entry[key] = value
    if keys.get("id", exp_type) not in (exp_type, ANY):
        raise ReferenceFileError(
            f"id is {keys['id']!r}, expected {exp_type!r}, which the image is, or 'ANY'"
        )
    if keys:
        check_entry(entry, f"{source.name}: aperture {entry.get('id')!r} with {', '.join(keys)}")
        for level, text in remarks(entry):
            if level == "warning" and text.split()[0] in keys:  # what was just asked for
                warnings.warn(f"{source.name}: {text}", LRSWarning, stacklevel=3)
    correction = _as_correction(apcorr, exp_type)
    references = (("extract1d", source.name), ("apcorr", _name_of(correction)))
    profile = _as_psf(psf, exp_type)
    made = _build(
        cls,
        entry,
        step,
        options,
        aperture_correction=correction,
        psf=profile,
        references=references if profile is None else (*references, ("psf", _name_of(profile))),
    )
    if correction is None and made.apply_apcorr and made.extraction_type == "box":
        warnings.warn(
            "no aperture correction: a point source's flux is that within the aperture "
            "(give apcorr= or --apcorr, or apply_apcorr=False)",
            LRSWarning,
            stacklevel=3,
        )
    if made.background is None and step.get("subtract_background") is not False:
        fitted = made.mode in ("psf", "learned")
        asked = [
            key
            for key in ("subtract_background", "bkg_fit", "bkg_order", "smoothing_length")
            if step.get(key) not in (None, 0) and not (fitted and key == "subtract_background")
        ]
        if asked:
            why = "there is no bkg_coeff" if entry.get("bkg_coeff") is None else "bkg_fit is null"
            what = "the background is a constant that is fitted with the source"
            warnings.warn(
                f"{source.name}: aperture {entry['id']!r}: "
                f"{what if fitted else 'no background is subtracted'}, as {why}; "
                f"{', '.join(asked)} has no effect",
                LRSWarning,
                stacklevel=3,
            )
    if profile is not None and made.mode == "box" and made.bad_pixels is None:
        warnings.warn(
            f"{_name_of(profile)}: a PSF reference has no effect on a box, expected "
            "extraction_type 'optimal' or bad_pixels 'profile' with it",
            LRSWarning,
            stacklevel=3,
        )
    return made


def _as_reference(
    reference: str | PathLike[str] | Mapping[str, Any] | Reference | None,
) -> Reference:
    if reference is None:
        return Reference.default()
    if isinstance(reference, Reference):
        return reference
    if isinstance(reference, Mapping):
        return Reference.from_dict(reference)
    if isinstance(reference, str | PathLike):
        return Reference.read(reference)
    raise ReferenceFileError(
        f"reference is a {type(reference).__name__}, expected a path, a dict, a Reference or None"
    )


def _as_correction(
    apcorr: str | PathLike[str] | ApertureCorrection | None, exp_type: str | None
) -> ApertureCorrection | None:
    if apcorr is None or isinstance(apcorr, ApertureCorrection):
        return apcorr
    if isinstance(apcorr, str | PathLike):
        # The image, and with it SUBARRAY, is not known yet; each mode of LRS has one.
        subarray = "SLITLESSPRISM" if exp_type == SLITLESS else "FULL"
        return ApertureCorrection.read(apcorr, subarray=subarray)
    raise LRSError(
        f"apcorr is a {type(apcorr).__name__}, expected a path, an ApertureCorrection or None"
    )


def _as_psf(
    psf: str | PathLike[str] | PSFProfile | None, exp_type: str | None
) -> PSFProfile | None:
    if psf is None:
        return None
    from glue_lrs.profiles.psf import PSFProfile

    if isinstance(psf, str | PathLike):
        return PSFProfile.read(psf, exp_type)  # which is what the slit is called
    if not isinstance(psf, PSFProfile):
        raise LRSError(f"psf is a {type(psf).__name__}, expected a path, a PSFProfile or None")
    return psf


def _name_of(reference: ApertureCorrection | PSFProfile | None) -> str | None:
    return None if reference is None else reference.filename or IN_MEMORY


def _sort_overrides(
    overrides: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Keys of the reference, parameters of the step and options of ours, each checked."""
    keys: dict[str, Any] = {}
    step: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for key, given in overrides.items():
        value = plain(given)
        if key in STEP:
            if key == "position_offset" and value is None:
                value = 0.0
            step[key] = checked(STEP[key], key, value)
        elif key in OPTIONS:
            options[key] = checked(OPTIONS[key], key, value)
        elif key in KEYS:
            if value is not None:
                checked(KEYS[key], key, value)
            keys[key] = value
        else:
            known = [*KEYS, *STEP, *OPTIONS]
            raise ReferenceFileError(
                f"unknown parameter {key!r}{nearest(key, known)}, expected a key of an EXTRACT1D "
                "aperture or a step parameter"
            )
    if keys.get("id", "") is None:
        raise ReferenceFileError("id is None, expected an EXP_TYPE")
    return keys, step, options


def _build(
    cls: type[Extract1D],
    entry: Mapping[str, Any],
    step: Mapping[str, Any],
    options: Mapping[str, Any],
    **others: Any,
) -> Extract1D:
    """Make the operator of a checked entry; a step parameter that is not None takes precedence."""
    taken = {**entry, **{key: value for key, value in step.items() if value is not None}}
    if "background_independent_var" in options:
        taken["independent_var"] = options["background_independent_var"]
    return cls(
        aperture=aperture_of(entry),
        background=background_of(taken),
        # The operator's own default is False: an aperture made by hand stays where it is.
        use_source_posn=step.get("use_source_posn"),
        reference_source_posn=entry.get("use_source_posn"),
        position_offset=step.get("position_offset", 0.0),
        subtract_background=step.get("subtract_background"),
        apply_apcorr=step.get("apply_apcorr", True),
        fixed_background=options.get("fixed_background", False),
        max_lost=options.get("max_lost"),
        extraction_type=step.get("extraction_type") or "box",
        optimal_mode=options.get("optimal_mode"),
        model_nod_pair=step.get("model_nod_pair", True),
        optimize_psf_location=step.get("optimize_psf_location", True),
        bad_pixels=options.get("bad_pixels"),
        id=entry.get("id"),
        **others,
    )


def operator_parameters(operator: Extract1D) -> dict[str, Any]:
    """All parameters of an operator but what comes from FITS files, ready for JSON.

    Parameters
    ----------
    operator : Extract1D
        The operator.

    Returns
    -------
    dict
        ``reference``: keys of an EXTRACT1D aperture; ``step``: parameters of the pipeline's step;
        ``options``: what the pipeline does not have. Numbers survive JSON exactly.
    """
    aperture, background = operator.aperture, operator.background
    entry: dict[str, Any] = {}
    if operator.id is not None:
        entry["id"] = operator.id
    for key in APERTURE_KEYS:
        value = getattr(aperture, key)
        if value is not None:
            entry[key] = written(value)
    options: dict[str, Any] = {
        "fixed_background": bool(operator.fixed_background),
        "max_lost": None if operator.max_lost is None else float(operator.max_lost),
    }
    if background is not None:
        entry["bkg_coeff"] = written(background.bkg_coeff)
        entry["bkg_fit"] = background.bkg_fit
        entry["bkg_order"] = background.bkg_order
        entry["smoothing_length"] = background.smoothing_length
        if background.independent_var != aperture.independent_var:
            # An entry of the pipeline has one for both.
            options["background_independent_var"] = background.independent_var
    if operator.reference_source_posn is not None:
        entry["use_source_posn"] = bool(operator.reference_source_posn)
    step: dict[str, Any] = {
        "subtract_background": operator.subtract_background,
        "apply_apcorr": operator.apply_apcorr,
        "use_source_posn": operator.use_source_posn,
        "position_offset": float(operator.position_offset),
    }
    if operator.extraction_type == "optimal":
        step["extraction_type"] = "optimal"
        options["optimal_mode"] = operator.mode
    if operator.bad_pixels is not None:
        options["bad_pixels"] = operator.bad_pixels
    if operator.extraction_type == "optimal" or operator.bad_pixels is not None:
        step["model_nod_pair"] = operator.model_nod_pair
        step["optimize_psf_location"] = operator.optimize_psf_location
    if operator.psf is not None:
        options["psf_name"] = operator.psf.name
    return {"reference": entry, "step": step, "options": options}


def operator_from_parameters(
    cls: type[Extract1D],
    parameters: Mapping[str, Any],
    *,
    apcorr: str | PathLike[str] | ApertureCorrection | None = None,
    psf: str | PathLike[str] | PSFProfile | None = None,
    references: Mapping[str, str | None] | None = None,
) -> Extract1D:
    """Make the operator that `operator_parameters` describes: see `Extract1D.from_parameters`."""
    where = "parameters"
    if not isinstance(parameters, Mapping):
        raise ReferenceFileError(f"{where} is {excerpt(parameters)}, expected a mapping")
    known = ("reference", "step", "options")
    for key in parameters:
        if key not in known:
            raise ReferenceFileError(
                f"{where}: unknown key {key!r}{nearest(key, known)}, expected {', '.join(known)}"
            )
    if "reference" not in parameters:
        raise ReferenceFileError(f"{where}: 'reference' is missing, expected keys of an aperture")
    entry, step, options = ({**parameters.get(key, {})} for key in known)
    check_entry(entry, where)
    checks: dict[str, tuple[dict[str, Any], dict[str, Callable[[str, object], Any]]]] = {
        "step": (step, {key: STEP[key] for key in KEPT}),
        "options": (options, OPTIONS | _RECORDED),
    }
    for part, (values, checkers) in checks.items():
        for key, value in values.items():
            if key not in checkers:
                raise ReferenceFileError(f"{where}: unknown {part} {key!r}{nearest(key, checkers)}")
            values[key] = checked(checkers[key], key, value)
    return _build(
        cls,
        entry,
        step,
        options,
        aperture_correction=_as_correction(apcorr, entry.get("id")),
        psf=_as_psf(psf, options.get("psf_name", entry.get("id"))),
        references=tuple((references or {}).items()),
    )
