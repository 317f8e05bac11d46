"""Conversion of a reference, step parameters and options to arguments of `Extract1D`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any

from glue_lrs._utils.validation import checked, excerpt, plain
from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.errors import (
    Hint,
    LRSError,
    LRSWarning,
    NoApertureCorrectionWarning,
    ReferenceFileError,
    nearest,
)
from glue_lrs.instrument import SLITLESS
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.reference.reference import Reference, remarks
from glue_lrs.reference.schema import (
    ANY,
    IN_MEMORY,
    KEYS,
    OPTIONS,
    STEP,
    aperture_of,
    background_of,
    check_entry,
    check_independent_var,
    extraction_mode,
)

#: Step parameters that `Extract1D` has as well. The other step parameters are about the background
#: and become part of its `Background`.
_RECIPE_STEP_PARAMETERS = (
    "subtract_background", "apply_apcorr", "use_source_posn", "position_offset",
    "extraction_type", "model_nod_pair", "optimize_psf_location",
)  # fmt: skip


def _name(key: str, value: object) -> str:
    """Return a string, or raise `ReferenceFileError` for any other value."""
    if not isinstance(value, str):
        raise ReferenceFileError(f"{key} is {excerpt(value)}, expected a name")
    return value


#: Validators of options that recorded parameters may contain, but that users cannot set.
_RECORDED: dict[str, Callable[[str, object], Any]] = {
    "background_independent_var": check_independent_var,
    "psf_name": _name,
}


def arguments_from_reference(
    reference: str | PathLike[str] | Mapping[str, Any] | Reference | None,
    exp_type: str,
    *,
    apcorr: str | PathLike[str] | ApertureCorrection | None = None,
    psf: str | PathLike[str] | PSFProfile | None = None,
    **overrides: Any,
) -> tuple[dict[str, Any], list[LRSWarning]]:
    """Return the arguments of `Extract1D` for a reference and overrides, and a list of warnings.

    The parameters, errors and warnings are described in `Extract1D.from_reference`.
    """
    source = _as_reference(reference)
    keys, step, options = _sort_overrides(overrides)
    entry, notes = _overridden_entry(source, exp_type, keys)
    correction = _as_correction(apcorr, exp_type)
    profile = _as_psf(psf, exp_type)
    references = [("extract1d", source.name), ("apcorr", _name_of(correction))]
    if profile is not None:
        references.append(("psf", _name_of(profile)))
    arguments = _arguments(
        entry,
        step,
        options,
        aperture_correction=correction,
        psf=profile,
        references=tuple(references),
    )
    where = f"{source.name}: aperture {entry['id']!r}"
    return arguments, [*notes, *_ineffective(arguments, where, step, entry)]


def _overridden_entry(
    source: Reference, exp_type: str, keys: dict[str, Any]
) -> tuple[dict[str, Any], list[LRSWarning]]:
    """Return the aperture for an exposure type with some of its keys replaced, and warnings.

    The warnings are about replaced keys, for example if they have no effect.
    """
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
    if not keys:
        return entry, []
    check_entry(entry, f"{source.name}: aperture {entry.get('id')!r} with {', '.join(keys)}")
    notes = [
        LRSWarning(remark.text, subject=source.name)
        for remark in remarks(entry)
        if remark.level == "warning" and remark.key in keys
    ]
    return entry, notes


def _ineffective(
    arguments: Mapping[str, Any],
    where: str,
    step: Mapping[str, Any],
    entry: Mapping[str, Any],
) -> list[LRSWarning]:
    """Return warnings about a missing aperture correction and about parameters without effect."""
    found: list[LRSWarning] = []
    psf, background = arguments["psf"], arguments["background"]
    mode = extraction_mode(arguments["extraction_type"], arguments["optimal_mode"], psf is not None)
    if arguments["aperture_correction"] is None and arguments["apply_apcorr"] and mode == "box":
        found.append(
            NoApertureCorrectionWarning(
                "no aperture correction: a point source's flux is that within the aperture",
                hint=Hint.to("give {}, or {}", "apcorr", apply_apcorr=False),
            )
        )
    if background is None and step.get("subtract_background") is not False:
        fitted = mode in ("psf", "learned")
        requested = [
            key
            for key in ("subtract_background", "bkg_fit", "bkg_order", "smoothing_length")
            if step.get(key) not in (None, 0) and not (fitted and key == "subtract_background")
        ]
        if requested:
            why = "there is no bkg_coeff" if entry.get("bkg_coeff") is None else "bkg_fit is null"
            instead = (
                "the background is a constant that is fitted with the source"
                if fitted
                else "no background is subtracted"
            )
            verb = "have" if len(requested) > 1 else "has"
            found.append(
                LRSWarning(
                    f"{instead}, as {why}; {', '.join(requested)} {verb} no effect", subject=where
                )
            )
    if psf is not None and mode == "box" and arguments["bad_pixels"] is None:
        found.append(
            LRSWarning(
                "a PSF reference has no effect on a box, expected extraction_type 'optimal' or "
                "bad_pixels 'profile' with it",
                subject=_name_of(psf),
            )
        )
    return found


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
        # The SUBARRAY of the image is unknown, but each LRS mode normally uses only one subarray.
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
    if isinstance(psf, str | PathLike):
        return PSFProfile.read(psf, exp_type)  # PSF files use the EXP_TYPE as the slit name
    if not isinstance(psf, PSFProfile):
        raise LRSError(f"psf is a {type(psf).__name__}, expected a path, a PSFProfile or None")
    return psf


def _name_of(reference: ApertureCorrection | PSFProfile | None) -> str | None:
    return None if reference is None else reference.filename or IN_MEMORY


def _sort_overrides(
    overrides: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Validate overrides, and sort them into keys of an aperture, step parameters and options."""
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


def _arguments(
    entry: Mapping[str, Any],
    step: Mapping[str, Any],
    options: Mapping[str, Any],
    **others: Any,
) -> dict[str, Any]:
    """Return the arguments of `Extract1D` for an aperture, step parameters and options.

    Step parameters that are not None override the keys of the aperture with the same names.
    """
    combined = {**entry, **{key: value for key, value in step.items() if value is not None}}
    if "background_independent_var" in options:
        combined["independent_var"] = options["background_independent_var"]
    return {
        "aperture": aperture_of(entry),
        "background": background_of(combined),
        # If not given, this is None as in the pipeline, although the default of `Extract1D` is
        # False.
        "use_source_posn": step.get("use_source_posn"),
        "reference_source_posn": entry.get("use_source_posn"),
        "position_offset": step.get("position_offset", 0.0),
        "subtract_background": step.get("subtract_background"),
        "apply_apcorr": step.get("apply_apcorr", True),
        "fixed_background": options.get("fixed_background", False),
        "max_lost": options.get("max_lost"),
        "extraction_type": step.get("extraction_type") or "box",
        "optimal_mode": options.get("optimal_mode"),
        "model_nod_pair": step.get("model_nod_pair", True),
        "optimize_psf_location": step.get("optimize_psf_location", True),
        "bad_pixels": options.get("bad_pixels"),
        "id": entry.get("id"),
        **others,
    }


def arguments_from_parameters(
    parameters: Mapping[str, Any],
    *,
    apcorr: str | PathLike[str] | ApertureCorrection | None = None,
    psf: str | PathLike[str] | PSFProfile | None = None,
    references: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """Return the arguments of `Extract1D` for recorded parameters.

    The parameters and errors are described in `Extract1D.from_parameters`.
    """
    where = "parameters"
    if not isinstance(parameters, Mapping):
        raise ReferenceFileError(f"{where} is {excerpt(parameters)}, expected a mapping")
    known = ("reference", "step", "options")
    for key in parameters:
        if key not in known:
            raise ReferenceFileError(
                f"unknown key {key!r}{nearest(key, known)}, expected {', '.join(known)}",
                subject=where,
            )
    if "reference" not in parameters:
        raise ReferenceFileError(
            "'reference' is missing, expected keys of an aperture", subject=where
        )
    entry, step, options = ({**parameters.get(key, {})} for key in known)
    check_entry(entry, where)
    checks: dict[str, tuple[dict[str, Any], dict[str, Callable[[str, object], Any]]]] = {
        "step": (step, {key: STEP[key] for key in _RECIPE_STEP_PARAMETERS}),
        "options": (options, OPTIONS | _RECORDED),
    }
    for part, (values, checkers) in checks.items():
        for key, value in values.items():
            if key not in checkers:
                raise ReferenceFileError(
                    f"unknown {part} {key!r}{nearest(key, checkers)}", subject=where
                )
            values[key] = checked(checkers[key], key, value)
    return _arguments(
        entry,
        step,
        options,
        aperture_correction=_as_correction(apcorr, entry.get("id")),
        psf=_as_psf(psf, options.get("psf_name", entry.get("id"))),
        references=tuple((references or {}).items()),
    )
