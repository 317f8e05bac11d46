"""Validators and defaults for keys of EXTRACT1D apertures, step parameters and options."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any, Literal, TypeAlias

from glue_lrs._utils import validation
from glue_lrs.apertures.aperture import Aperture
from glue_lrs.apertures.background import Background, check_fit
from glue_lrs.apertures.edges import check_coefficients, check_variable
from glue_lrs.errors import ReferenceFileError, nearest, quoted
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import FIXED_SLIT, SLITLESS

#: Name of the built-in reference in messages and in the provenance.
BUILT_IN = "<built-in>"

#: Name of references that were not read from a file, in messages and in the provenance.
IN_MEMORY = "<in memory>"

#: Value of ``id`` or ``spectral_order`` that matches every EXP_TYPE or every spectral order.
ANY = "ANY"

#: Allowed values of `extraction_type`.
EXTRACTION_TYPES = ("box", "optimal")

#: Allowed values of `optimal_mode`.
OPTIMAL_MODES = ("pipeline", "psf", "learned")


#: Allowed values of `source_type`. Lower case is allowed as well.
SOURCE_TYPES = ("POINT", "EXTENDED")


def extraction_mode(
    extraction_type: str,
    optimal_mode: Literal["pipeline", "psf", "learned"] | None,
    has_psf: bool,
) -> Literal["box", "pipeline", "psf", "learned"]:
    """Return ``"box"`` for a box extraction, else the mode of the optimal extraction.

    If `optimal_mode` is None, the mode is ``"pipeline"`` with a PSF reference (`has_psf`), and
    ``"learned"``, with a profile fitted to the image, without one.
    """
    if extraction_type == "box":
        return "box"
    return optimal_mode or ("pipeline" if has_psf else "learned")


def _check_text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ReferenceFileError(f"{key} is {quoted(value)}, expected a word")
    return value


def _check_order(key: str, value: object) -> int | str:
    if value == ANY:
        return ANY
    number = validation.check_number(key, value)
    if number != int(number):
        raise ReferenceFileError(f"{key} is {quoted(value)}, expected a whole number or 'ANY'")
    return int(number)


def _check_axis(key: str, value: object) -> int:
    if isinstance(value, bool) or value not in (1, 2):
        raise ReferenceFileError(f"{key} is {quoted(value)}, expected 1 (along x) or 2 (along y)")
    return int(value)


def _check_bkg_fit(key: str, value: object) -> object:
    """Return the value if it is None or a type of background fit, else raise an error."""
    if value is not None:
        check_fit(value, 0)
    return value


def _check_bkg_order(key: str, value: object) -> int:
    """Return the value if it is a valid order of the background polynomial, else raise an error."""
    return check_fit("poly", value)[1]


#: Type of a validator, a function that takes a key and its value, and returns the validated value
#: or raises an error.
_Check: TypeAlias = Callable[[str, object], Any]

#: Validators for the keys of an aperture that affect an extraction.
KEYS: dict[str, _Check] = {
    "id": _check_text,
    "region_type": _check_text,
    "spectral_order": _check_order,
    "dispaxis": _check_axis,
    "disp_axis": _check_axis,
    # `check_entry` allows null for xstart and xstop only if src_coeff is given.
    "xstart": validation.or_null(validation.check_pixels),
    "xstop": validation.or_null(validation.check_pixels),
    "ystart": validation.check_pixels,
    "ystop": validation.check_pixels,
    "extract_width": validation.or_null(validation.check_pixels),
    "src_coeff": check_coefficients,
    "bkg_coeff": check_coefficients,
    "independent_var": lambda key, value: check_variable(value),
    "bkg_fit": _check_bkg_fit,
    "bkg_order": _check_bkg_order,
    "smoothing_length": validation.check_pixels,
    "use_source_posn": validation.check_flag,
}

#: Keys for comments. They are kept but have no effect, like all keys that start with "_".
_REMARKS = ("comment", "comments", "description", "note", "notes")

#: Keys of apertures that apply only to integral field units, not to LRS.
_IFU_KEYS = (
    "x_center", "y_center", "radius", "inner_bkg", "outer_bkg", "width", "height", "angle", "theta",
    "method", "subpixels",
)  # fmt: skip

#: Keys that are parameters of `Aperture`.
_APERTURE_KEYS = (
    "xstart", "xstop", "ystart", "ystop", "extract_width", "src_coeff", "independent_var",
)  # fmt: skip

#: Keys that are parameters of `Background`, apart from ``independent_var``.
_BACKGROUND_KEYS = ("bkg_coeff", "bkg_fit", "bkg_order", "smoothing_length")

#: Validators for the pipeline's step parameters. If a step parameter is None, the reference file
#: applies.
STEP: dict[str, _Check] = {
    "subtract_background": validation.check_flag,
    "apply_apcorr": validation.check_bool,
    "use_source_posn": validation.check_flag,
    "position_offset": validation.check_pixels,
    "smoothing_length": validation.or_null(validation.check_pixels),
    "bkg_fit": _check_bkg_fit,
    "bkg_order": validation.or_null(_check_bkg_order),
    "extraction_type": validation.or_null(validation.one_of(*EXTRACTION_TYPES)),
    "model_nod_pair": validation.check_bool,
    "optimize_psf_location": validation.check_bool,
}


def _check_nods(key: str, value: object) -> tuple[str | PathLike[str] | SlitImage, ...]:
    """Return a sequence of paths or images as a tuple, or raise an error for another value."""
    if isinstance(value, list | tuple):
        items = [one for one in value if isinstance(one, str | PathLike | SlitImage)]
        if len(items) == len(value):
            return tuple(items)
    raise ReferenceFileError(f"{key} is {quoted(value)}, expected a list of files")


#: Allowed values of `noise`.
NOISES = ("propagated", "nod", "empirical")

#: Validators for options that the pipeline does not have.
OPTIONS: dict[str, _Check] = {
    "fixed_background": validation.check_bool,
    "max_lost": validation.or_null(validation.check_fraction),
    "bad_pixels": validation.or_null(validation.one_of("profile")),
    "correction": validation.one_of("table", "profile"),
    "filled_pixels": validation.one_of("keep", "lost"),
    "time_outliers": validation.one_of("keep", "lost", "replace"),
    "drift": validation.one_of("keep", "correct"),
    "hot_pixels": validation.one_of("keep", "lost"),
    "optimal_mode": validation.or_null(validation.one_of(*OPTIMAL_MODES)),
    "source_type": validation.or_null(validation.one_of_any_case(*SOURCE_TYPES)),
    "noise": validation.one_of(*NOISES),
    "nods": _check_nods,
}


#: Pattern of the keys about nods in older references, all of which the pipeline ignores.
_OBSOLETE = re.compile(r"nod\d*_(offset|correction)|position_correction")


def obsolete_keys(entry: Mapping[str, Any]) -> list[str]:
    """Return the keys of an aperture that older references carry and that have no effect."""
    return [key for key in entry if _OBSOLETE.fullmatch(key)]


def check_entry(entry: Mapping[str, Any], where: str | None) -> None:
    """Raise `ReferenceFileError` if an aperture is invalid. `where` names it in the message."""
    try:
        for key, value in entry.items():
            if key in KEYS:
                validation.checked(KEYS[key], key, value)
            elif not (key in _REMARKS or key.startswith("_") or _OBSOLETE.fullmatch(key)):
                raise ReferenceFileError(
                    f"{unknown_key(key)}, expected a key of an EXTRACT1D aperture"
                )
        for key in ("xstart", "xstop"):
            if key in entry and entry[key] is None and entry.get("src_coeff") is None:
                raise ReferenceFileError(f"{key} is null, expected a number (or omit the key)")
        aperture_of(entry)
    except ReferenceFileError as error:
        raise error.about(where) from None


def unknown_key(key: str) -> str:
    """Return the part of a message that explains why a key is not allowed."""
    if key in _IFU_KEYS:
        return f"{quoted(key)} is a key of the integral field units"
    if key in STEP:
        return f"{quoted(key)} is a parameter of the step, not a key"
    if key in OPTIONS:
        return f"{quoted(key)} is an option of the extraction, which the pipeline does not have"
    return f"unknown key {quoted(key)}{nearest(key, KEYS)}"


def aperture_of(entry: Mapping[str, Any]) -> Aperture:
    """Create an aperture from the keys of an entry in a reference."""
    return Aperture(**{key: entry[key] for key in _APERTURE_KEYS if entry.get(key) is not None})


def background_of(entry: Mapping[str, Any]) -> Background | None:
    """Create a background from the keys of an entry in a reference.

    Returns None if the entry has no background regions, or if ``bkg_fit`` is null.
    """
    if entry.get("bkg_coeff") is None or entry.get("bkg_fit", "poly") is None:
        return None
    keys = (*_BACKGROUND_KEYS, "independent_var")
    return Background(**{key: entry[key] for key in keys if key in entry})


def entry_of(aperture: Aperture, background: Background | None) -> dict[str, Any]:
    """Return a reference entry with JSON values for an aperture and a background.

    The value of ``independent_var`` is that of the aperture.
    """
    values = {key: getattr(aperture, key) for key in _APERTURE_KEYS}
    if background is not None:
        values |= {key: getattr(background, key) for key in _BACKGROUND_KEYS}
    return {key: validation.json_value(value) for key, value in values.items() if value is not None}


#: Keys with the same values in all apertures for LRS.
TARGET: dict[str, Any] = {"region_type": "target", "dispaxis": 2}

#: Content of the built-in reference.
DEFAULT: dict[str, Any] = {
    "reftype": "EXTRACT1D",
    "instrument": "MIRI",
    "telescope": "JWST",
    "exp_type": f"{FIXED_SLIT}|{SLITLESS}",
    "pedigree": "INFLIGHT 2022-06-01 2022-12-01",
    "description": "MIRI LRS apertures, the defaults that are built into glue_lrs",
    "author": "glue_lrs",
    "history": "Columns and source positioning as in jwst_miri_extract1d_0006.json",
    "useafter": "2022-01-01T00:00:00",
    "apertures": [
        {"id": FIXED_SLIT, **TARGET, "xstart": 27, "xstop": 34, "bkg_order": 0},
        {
            "id": SLITLESS,
            **TARGET,
            "xstart": 30,
            "xstop": 41,
            "bkg_order": 0,
            "use_source_posn": False,
        },
    ],
}
