"""Conversion of references, step parameters and options to arguments of `Extract1D`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from os import PathLike
from typing import Any, TypeVar

from glue_lrs._utils.validation import checked, plain, without_unit
from glue_lrs.apertures.aperture_correction import ApertureCorrection
from glue_lrs.errors import (
    LRSError,
    LRSWarning,
    ReferenceFileError,
    nearest,
    quoted,
)
from glue_lrs.instrument import SLITLESS
from glue_lrs.profiles.psf import PSFProfile
from glue_lrs.reference import schema
from glue_lrs.reference.reference import Reference, remarks

_T = TypeVar("_T")

#: Step parameters that are also parameters of `Extract1D`. The other step parameters are parameters
#: of `Background`.
_OPERATOR_STEP_PARAMETERS = (
    "subtract_background", "apply_apcorr", "use_source_posn", "position_offset",
    "extraction_type", "model_nod_pair", "optimize_psf_location",
)  # fmt: skip


def _check_name(key: str, value: object) -> str:
    """Return the value if it is a string, else raise `ReferenceFileError`."""
    if not isinstance(value, str):
        raise ReferenceFileError(f"{key} is {quoted(value)}, expected a name")
    return value


#: Validators for the parameters that a provenance records, by group. The last two options are
#: recorded, but are not parameters of `Extract1D.from_reference`.
_RECORDED: dict[str, dict[str, Callable[[str, object], Any]]] = {
    "step": {key: schema.STEP[key] for key in _OPERATOR_STEP_PARAMETERS},
    "options": {
        **schema.OPTIONS,
        "background_independent_var": schema.KEYS["independent_var"],
        "psf_name": _check_name,
    },
}


def arguments_from_reference(
    reference: str | PathLike[str] | Mapping[str, Any] | Reference | None,
    exp_type: str,
    apcorr: str | PathLike[str] | ApertureCorrection | None,
    psf: str | PathLike[str] | PSFProfile | None,
    overrides: Mapping[str, Any],
) -> tuple[dict[str, Any], list[LRSWarning]]:
    """Return the arguments of `Extract1D` for a reference with overrides, and a list of warnings.

    The parameters, errors and warnings are described in `Extract1D.from_reference`.
    """
    source = _as_reference(reference)
    keys, step, options = _sort_overrides(overrides)
    entry, notes = _overridden_entry(source, exp_type, keys)
    # `Extract1D` replaces None by the name of the APCORR reference, and adds that of the PSF.
    references = {"extract1d": source.name, "apcorr": None}
    arguments = _arguments(entry, step, options, apcorr, psf, exp_type, references)
    where = source.where(entry)
    obsolete = schema.obsolete_keys(entry)
    notes += [LRSWarning(text, subject=where) for _, key, text in remarks(entry) if key in obsolete]
    return arguments, [*notes, *_ineffective(arguments, where, step, entry)]


def _overridden_entry(
    source: Reference, exp_type: str, keys: dict[str, Any]
) -> tuple[dict[str, Any], list[LRSWarning]]:
    """Return the aperture for an exposure type, with the given keys replaced, and warnings.

    The warnings are about the replaced keys, for example if a key has no effect.
    """
    order = keys.pop("spectral_order", None)
    entry = source.entry(exp_type, 1 if order is None else order)
    for key, only in (("region_type", "target"), ("dispaxis", 2), ("disp_axis", 2)):
        value = keys.pop(key, None)
        if value not in (None, only):
            raise ReferenceFileError(f"{key} is {quoted(value)}, expected {only!r} for MIRI LRS")
    removed = [key for key, value in keys.items() if value is None and key != "bkg_fit"]
    entry = {key: value for key, value in (entry | keys).items() if key not in removed}
    if keys.get("id", exp_type) not in (exp_type, schema.ANY):
        raise ReferenceFileError(
            f"id is {quoted(keys['id'])}, expected {quoted(exp_type)} (the exp_type) or 'ANY'"
        )
    if not keys:
        return entry, []
    # The replaced keys are first checked alone, so that an error in one of them does not name the
    # reference, which did not cause it.
    schema.check_entry({key: keys[key] for key in keys if key not in removed}, None)
    schema.check_entry(entry, f"{source.where(entry)} with {', '.join(keys)}")
    notes = [
        LRSWarning(text)
        for level, key, text in remarks(entry)
        if level == "warning" and key in keys
    ]
    return entry, notes


def _ineffective(
    arguments: Mapping[str, Any], where: str, step: Mapping[str, Any], entry: Mapping[str, Any]
) -> Iterator[LRSWarning]:
    """Yield warnings about step parameters and references that have no effect.

    `arguments` are those of `Extract1D`, and `where` is the name of the aperture in messages.
    """
    psf, optimal_mode = arguments["psf"], arguments.get("optimal_mode")
    mode = schema.extraction_mode(arguments["extraction_type"], optimal_mode, psf is not None)
    if arguments["background"] is None and step.get("subtract_background") is not False:
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
            yield LRSWarning(
                f"{instead}, as {why}; {', '.join(requested)} {verb} no effect", subject=where
            )
    used = arguments.get("bad_pixels") is not None or arguments.get("correction") == "profile"
    if psf is not None and mode == "box" and not used:
        yield LRSWarning(
            "a PSF reference has no effect on a box, expected extraction_type 'optimal', "
            "bad_pixels 'profile' or correction 'profile' with it",
            subject=psf.filename or schema.IN_MEMORY,
        )


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


def _as_read(
    key: str, given: object, kind: type[_T], noun: str, read: Callable[..., _T]
) -> _T | None:
    """Return `given` if it is None or has the type `kind`, else read the object from this path."""
    if given is None or isinstance(given, kind):
        return given
    if isinstance(given, str | PathLike):
        return read(given)
    raise LRSError(f"{key} is a {type(given).__name__}, expected a path, {noun} or None")


def check_overrides(overrides: Mapping[str, Any]) -> None:
    """Raise `ReferenceFileError` if a key, step parameter or option, or its value, is wrong."""
    _sort_overrides(overrides)


def _sort_overrides(
    overrides: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Validate overrides, and separate them into aperture keys, step parameters and options."""
    keys: dict[str, Any] = {}
    step: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for key, given in overrides.items():
        value = plain(given)
        if key == "position_offset" and value is None:
            step[key] = 0.0
        elif key in schema.STEP:
            step[key] = checked(schema.STEP[key], key, value)
        elif key in schema.OPTIONS:
            options[key] = checked(schema.OPTIONS[key], key, value)
        elif key in schema.KEYS:
            if value is not None:
                checked(schema.KEYS[key], key, value)
            keys[key] = plain(without_unit(value))
        elif key in ("aperture", "background"):
            raise ReferenceFileError(f"{key} needs an image, as in glue_lrs.extract")
        else:
            known = [*schema.KEYS, *schema.STEP, *schema.OPTIONS]
            raise ReferenceFileError(
                f"unknown parameter {quoted(key)}{nearest(key, known)}, expected a key of an "
                "EXTRACT1D aperture or a step parameter"
            )
    if keys.get("id", "") is None:
        raise ReferenceFileError("id is null, expected an EXP_TYPE")
    return keys, step, options


def _arguments(
    entry: Mapping[str, Any],
    step: Mapping[str, Any],
    options: Mapping[str, Any],
    apcorr: str | PathLike[str] | ApertureCorrection | None,
    psf: str | PathLike[str] | PSFProfile | None,
    exp_type: str | None,
    references: Mapping[str, str | None],
) -> dict[str, Any]:
    """Return the arguments of `Extract1D` for an aperture, step parameters and options.

    Step parameters that are not None override keys of the aperture with the same names. If
    `apcorr` or `psf` is a file, the correction or the profile for `exp_type` is read from it.
    """
    # The SUBARRAY of the image is unknown here, but each LRS mode normally uses only one subarray.
    subarray = "SLITLESSPRISM" if exp_type == SLITLESS else "FULL"
    read_apcorr = partial(ApertureCorrection.read, subarray=subarray)
    # In PSF files, the name of the slit is the EXP_TYPE.
    read_psf = partial(PSFProfile.read, name=options.get("psf_name", exp_type))
    combined = {**entry, **{key: value for key, value in step.items() if value is not None}}
    if "background_independent_var" in options:
        combined["independent_var"] = options["background_independent_var"]
    return {
        # The default is None as in the pipeline, although the default of `Extract1D` is False.
        "use_source_posn": None,
        **{key: step[key] for key in _OPERATOR_STEP_PARAMETERS if key in step},
        **{key: options[key] for key in schema.OPTIONS if key in options},
        "extraction_type": step.get("extraction_type") or "box",
        "aperture": schema.aperture_of(entry),
        "background": schema.background_of(combined),
        "aperture_correction": _as_read(
            "apcorr", apcorr, ApertureCorrection, "an ApertureCorrection", read_apcorr
        ),
        "reference_source_posn": entry.get("use_source_posn"),
        "psf": _as_read("psf", psf, PSFProfile, "a PSFProfile", read_psf),
        "id": entry.get("id"),
        "references": tuple(references.items()),
    }


def arguments_from_parameters(
    parameters: Mapping[str, Any],
    apcorr: str | PathLike[str] | ApertureCorrection | None,
    psf: str | PathLike[str] | PSFProfile | None,
    references: Mapping[str, str | None] | None,
) -> dict[str, Any]:
    """Return the arguments of `Extract1D` for recorded parameters.

    The parameters and errors are described in `Extract1D.from_parameters`.
    """
    where = "parameters"
    if not isinstance(parameters, Mapping):
        raise ReferenceFileError(f"{where} is {quoted(parameters)}, expected a mapping")
    known = ("reference", "step", "options")
    for key in parameters:
        if key not in known:
            raise ReferenceFileError(
                f"unknown key {quoted(key)}{nearest(key, known)}, expected {', '.join(known)}",
                subject=where,
            )
    if "reference" not in parameters:
        raise ReferenceFileError(
            "'reference' is missing, expected keys of an aperture", subject=where
        )
    for key in known:
        if not isinstance(parameters.get(key, {}), Mapping):
            text = f"{key} is {quoted(parameters[key])}, expected a mapping"
            raise ReferenceFileError(text, subject=where)
    entry, step, options = ({**parameters.get(key, {})} for key in known)
    schema.check_entry(entry, where)
    for part, values in (("step", step), ("options", options)):
        checkers = _RECORDED[part]
        for key, value in values.items():
            if key not in checkers:
                text = f"unknown {part} {quoted(key)}{nearest(key, checkers)}"
                raise ReferenceFileError(text, subject=where)
            values[key] = checked(checkers[key], key, value)
    return _arguments(entry, step, options, apcorr, psf, entry.get("id"), references or {})
