"""Reference: the EXTRACT1D reference, as a document, as an operator, and back again.

Keys and their meaning are those of the JWST pipeline's ``extract_1d``. What the pipeline passes
over in silence or stumbles upon (a misspelt key, a string for a number) is an error here.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from glue_lrs.aperture import (
    Aperture,
    Coefficients,
    check_coefficients,
    check_number,
    check_variable,
    shift_coefficients,
)
from glue_lrs.aperture_correction import ApertureCorrection
from glue_lrs.background import Background, check_fit
from glue_lrs.errors import LRSError, LRSWarning, ReferenceFileError, nearest
from glue_lrs.image import FIXED_SLIT, SLITLESS, SlitImage
from glue_lrs.unified import reader, writer

if TYPE_CHECKING:
    from glue_lrs.extract import Extract1D
    from glue_lrs.extraction import Extraction

__all__ = [
    "BUILT_IN",
    "Problem",
    "Reference",
    "operator_from_parameters",
    "operator_from_reference",
    "operator_parameters",
    "rerun",
    "to_reference",
]

#: How provenance calls the built-in defaults, and a reference that is in no file.
BUILT_IN = "<built-in>"
IN_MEMORY = "<in memory>"

#: Matches every EXP_TYPE or every spectral order.
_ANY = "ANY"

# --- keys ------------------------------------------------------------------------------------


def _check_text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ReferenceFileError(f"{key} is {value!r}, expected a word")
    return value


def _check_order(key: str, value: object) -> int | str:
    if value == _ANY:
        return _ANY
    number = check_number(key, value)
    if number != int(number):
        raise ReferenceFileError(f"{key} is {value!r}, expected a whole number or 'ANY'")
    return int(number)


def _check_axis(key: str, value: object) -> int:
    if isinstance(value, bool) or value not in (1, 2):
        raise ReferenceFileError(f"{key} is {value!r}, expected 1 (along x) or 2 (along y)")
    return int(value)


def _check_flag(key: str, value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise ReferenceFileError(f"{key} is {value!r}, expected true, false or null")
    return value


def _check_bool(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ReferenceFileError(f"{key} is {value!r}, expected true or false")
    return value


def _check_fit(key: str, value: object) -> str | None:
    if value is not None:
        check_fit(value, 0)
    return value  # type: ignore[return-value]


def _check_polynomial_order(key: str, value: object) -> int:
    return check_fit("poly", value)[1]


def _check_variable(key: str, value: object) -> str:
    return check_variable(value)


def _or_null(check: Callable[[str, object], Any]) -> Callable[[str, object], Any]:
    return lambda key, value: None if value is None else check(key, value)


def _check_fraction(key: str, value: object) -> float:
    number = check_number(key, value)
    if not 0 <= number <= 1:
        raise ReferenceFileError(f"{key} is {value!r}, expected a fraction between 0 and 1")
    return number


#: The keys of an entry that an extraction uses, and what checks each.
_KEYS: dict[str, Callable[[str, object], Any]] = {
    "id": _check_text,
    "region_type": _check_text,
    "spectral_order": _check_order,
    "dispaxis": _check_axis,
    "disp_axis": _check_axis,
    # null xstart and xstop are legal beside src_coeff: `_check_entry` sees to that
    "xstart": _or_null(check_number),
    "xstop": _or_null(check_number),
    "ystart": check_number,
    "ystop": check_number,
    "extract_width": _or_null(check_number),
    "src_coeff": check_coefficients,
    "bkg_coeff": check_coefficients,
    "independent_var": _check_variable,
    "bkg_fit": _check_fit,
    "bkg_order": _check_polynomial_order,
    "smoothing_length": check_number,
    "use_source_posn": _check_flag,
}
#: Keys that are kept and have no effect; so has every key that starts with "_".
_REMARKS = ("comment", "comments", "description", "note", "notes")
#: Keys of entries for the integral field units: they cannot be meant for LRS.
_IFU_KEYS = (
    "x_center", "y_center", "radius", "inner_bkg", "outer_bkg", "width", "height", "angle", "theta",
    "method", "subpixels",
)  # fmt: skip

_APERTURE_KEYS = (
    "xstart", "xstop", "ystart", "ystop", "extract_width", "src_coeff", "independent_var",
)  # fmt: skip

#: The pipeline's step parameters, and what checks each. None leaves the choice to the reference.
_STEP: dict[str, Callable[[str, object], Any]] = {
    "subtract_background": _check_flag,
    "apply_apcorr": _check_bool,
    "use_source_posn": _check_flag,
    "position_offset": check_number,
    "smoothing_length": _or_null(check_number),
    "bkg_fit": _check_fit,
    "bkg_order": _or_null(_check_polynomial_order),
}
#: Those that `Extract1D` keeps as such; the others become part of its `Background`.
_KEPT = ("subtract_background", "apply_apcorr", "use_source_posn", "position_offset")
#: Step parameters of optimal extraction.
_OPTIMAL = ("model_nod_pair", "optimize_psf_location")
#: What the pipeline does not have.
_OPTIONS: dict[str, Callable[[str, object], Any]] = {
    "fixed_background": _check_bool,
    "max_lost": _or_null(_check_fraction),
}


def _checked(check: Callable[[str, object], Any], key: str, value: object) -> Any:
    try:
        return check(key, value)
    except OverflowError:
        raise ReferenceFileError(
            f"{key} has too many digits, expected a number below 1e308"
        ) from None


def _check_entry(entry: Mapping[str, Any], where: str) -> None:
    """Raise `ReferenceFileError` with what is wrong with an entry."""
    try:
        for key, value in entry.items():
            if key in _KEYS:
                _checked(_KEYS[key], key, value)
            elif key not in _REMARKS and not key.startswith("_"):
                raise ReferenceFileError(
                    f"{_unknown(key)}, expected a key of an EXTRACT1D aperture"
                )
        for key in ("xstart", "xstop"):
            if key in entry and entry[key] is None and entry.get("src_coeff") is None:
                raise ReferenceFileError(f"{key} is null, expected a number (or leave the key out)")
        _aperture(entry)
    except ReferenceFileError as error:
        raise ReferenceFileError(f"{where}: {error}") from None


def _unknown(key: str) -> str:
    if key in _IFU_KEYS:
        return f"{key!r} is a key of the integral field units"
    if key in _STEP or key in _OPTIMAL:
        return f"{key!r} is a parameter of the step, not a key"
    return f"unknown key {key!r}{nearest(key, _KEYS)}"


def _aperture(entry: Mapping[str, Any]) -> Aperture:
    return Aperture(**{key: entry[key] for key in _APERTURE_KEYS if entry.get(key) is not None})


def _background(entry: Mapping[str, Any]) -> Background | None:
    if entry.get("bkg_coeff") is None or entry.get("bkg_fit", "poly") is None:
        return None
    return Background(
        bkg_coeff=entry["bkg_coeff"],
        bkg_fit=entry.get("bkg_fit", "poly"),
        bkg_order=entry.get("bkg_order", 0),
        smoothing_length=entry.get("smoothing_length", 0),
        independent_var=entry.get("independent_var", "pixel"),
    )


def _plain(value: Any) -> Any:
    """A copy made of what JSON has: dict, list, str, int, float, bool, None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _short(value: float) -> float | int:
    """The same number, without a decimal point where it is whole."""
    return int(value) if value == int(value) and abs(value) < 2**53 else value


# --- the document ----------------------------------------------------------------------------


class Problem(str):
    """A finding of `Reference.check`: a line of text with a `level`.

    Attributes
    ----------
    level : {"error", "warning", "note"}
        An extraction fails; does something that is hardly meant; or nothing to worry about.
    """

    level: Literal["error", "warning", "note"]

    def __new__(cls, level: Literal["error", "warning", "note"], text: str) -> Problem:
        """Make a line of text with a level."""
        made = super().__new__(cls, text)
        made.level = level
        return made


@dataclass(frozen=True)
class Reference:
    """An EXTRACT1D reference: which pixels to sum for each exposure type, and what to subtract.

    Parameters
    ----------
    document : dict
        What the JSON file holds: a header whose keys are free, and the list ``apertures``. It is
        copied.
    filename : str, optional
        The file it comes from; messages begin with it.

    Raises
    ------
    ReferenceFileError
        If there is no list ``apertures``, an aperture has no ``id`` or an unknown key, or a value
        is not what its key takes. Apertures of other modes than LRS are not looked at.

    Notes
    -----
    ``"mean"`` and ``null`` for ``bkg_fit`` (no subtraction) and the spelling ``disp_axis`` are
    understood, which the pipeline does not; `write` puts them in a way that it does.
    """

    document: dict[str, Any]
    filename: str | None = field(default=None, compare=False)

    read: ClassVar[Callable[..., Reference]]
    write: ClassVar[Callable[..., None]]

    def __post_init__(self) -> None:
        if not isinstance(self.document, Mapping):
            raise ReferenceFileError(
                f"{self.name}: is a {type(self.document).__name__}, expected an object with the "
                "key 'apertures'"
            )
        document = _plain(self.document)
        object.__setattr__(self, "document", document)
        if "apertures" not in document:
            hints = (nearest(key, ["apertures"]) for key in document)
            hint = next(filter(None, hints), "")
            found = ", ".join(map(repr, document)) or "nothing"
            raise ReferenceFileError(
                f"{self.name}: found {found}, expected a key 'apertures'{hint}"
            )
        entries = document["apertures"]
        if not isinstance(entries, list) or not entries:
            raise ReferenceFileError(
                f"{self.name}: apertures is {_excerpt(entries)}, expected a list of one or more "
                "objects"
            )
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise ReferenceFileError(
                    f"{self.name}: apertures[{number}] is {_excerpt(entry)}, expected an object"
                )
            if "id" not in entry:
                hint = next((f": {_unknown(key)}" for key in entry if nearest(key, ["id"])), "")
                raise ReferenceFileError(
                    f"{self.name}: apertures[{number}] has no id, expected an EXP_TYPE such as "
                    f"{FIXED_SLIT!r}, or 'ANY'{hint}"
                )
            if not _other_mode(entry["id"]):
                _check_entry(entry, self._where(entry))

    @classmethod
    def default(cls) -> Reference:
        """The newest in-flight defaults: those of ``jwst_miri_extract1d_0006.json``.

        The slit's aperture moves to where the header and the WCS put the source, the slitless one
        does not.
        """
        return cls(deepcopy(_DEFAULT), BUILT_IN)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Reference:
        """Make a reference of what a JSON file would hold; see `Reference` for the errors."""
        return cls(document)  # type: ignore[arg-type]

    @property
    def name(self) -> str:
        """Path of the file; ``"<built-in>"`` and ``"<in memory>"`` for references without one."""
        return self.filename or IN_MEMORY

    def entry(self, exp_type: str, spectral_order: int = 1) -> dict[str, Any]:
        """The aperture of an exposure type, by the pipeline's rule.

        It is the first one whose ``id`` is the exposure type (upper and lower case differ) or
        "ANY", whose ``region_type`` is absent or "target", and whose ``spectral_order`` is absent,
        equal or "ANY".

        Parameters
        ----------
        exp_type : str
            EXP_TYPE of the image, or the name of its slit.
        spectral_order : int
            1 for a prism.

        Returns
        -------
        dict
            A copy of the entry.

        Raises
        ------
        ReferenceFileError
            If there is none; the message lists what there is.
        """
        if not isinstance(exp_type, str):
            raise ReferenceFileError(
                f"exp_type is {exp_type!r}, expected a word such as {FIXED_SLIT!r}"
            )
        orders = []
        for entry in self.document["apertures"]:
            if not _matches(entry, exp_type):
                continue
            order = entry.get("spectral_order", spectral_order)
            if order in (spectral_order, _ANY):
                return deepcopy(entry)
            orders.append(order)
        if orders:
            raise ReferenceFileError(
                f"{self.name}: aperture {exp_type!r} is there for spectral_order "
                f"{', '.join(map(str, orders))}, expected {spectral_order}"
            )
        there = [
            str(entry["id"])
            + (f" (region_type {entry['region_type']!r})" if not _is_target(entry) else "")
            for entry in self.document["apertures"]
        ]
        raise ReferenceFileError(
            f"{self.name}: no aperture has the id {exp_type!r}, found {', '.join(there)} (upper "
            "and lower case differ)"
        )

    def check(
        self, shape: tuple[int, int] | None = None, exp_type: str | None = None
    ) -> list[Problem]:
        """Look for what is legal but hardly meant.

        Parameters
        ----------
        shape : (int, int), optional
            Rows and columns of the image that the apertures have to lie on. Edges that depend on
            the wavelength are looked at with 14 to 5 micron spread over the rows.
        exp_type : str, optional
            Look at the aperture of this exposure type only.

        Returns
        -------
        list of Problem
            Lines of text, each with a `level`: "error", "warning" or "note". Empty where all is
            well.
        """
        problems: list[Problem] = []
        entries = [e for e in self.document["apertures"] if not _other_mode(e["id"])]
        if exp_type is not None:
            try:
                entries = [self.entry(exp_type)]
            except ReferenceFileError as error:
                return [Problem("error", str(error))]
        elif not any(_matches(e, mode) for e in entries for mode in (FIXED_SLIT, SLITLESS)):
            ids = ", ".join(str(e["id"]) for e in self.document["apertures"])
            problems.append(
                Problem("warning", f"{self.name}: no aperture is for MIRI LRS, found {ids}")
            )
        seen: list[dict[str, Any]] = []
        for entry in entries:
            where = self._where(entry)
            problems += [Problem(level, f"{where}: {text}") for level, text in _remarks(entry)]
            if any(_shadows(one, entry) for one in seen):
                problems.append(Problem("warning", f"{where}: never used, an earlier one matches"))
            seen.append(entry)
            if shape is not None and _is_target(entry):
                problems += [
                    Problem(level, f"{where}: {text}") for level, text in _on_image(entry, shape)
                ]
        return problems

    def for_pipeline(self) -> Reference:
        """The same reference in words that the pipeline understands.

        ``"mean"`` becomes a polynomial of order 0, ``bkg_fit: null`` takes ``bkg_coeff`` away,
        ``disp_axis`` becomes ``dispaxis``, and a key that is null is left out.
        """
        document = deepcopy(self.document)
        document["apertures"] = [
            entry if _other_mode(entry["id"]) else _pipeline_entry(entry)
            for entry in document["apertures"]
        ]
        return Reference(document, self.filename)

    def _where(self, entry: Mapping[str, Any]) -> str:
        return f"{self.name}: aperture {entry['id']!r}"


def _excerpt(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _other_mode(name: object) -> bool:
    """Whether an id is the EXP_TYPE of another mode, whose keys are no concern of ours."""
    return isinstance(name, str) and (
        name == "dummy"
        or (name.startswith(("MIR_", "NRS_", "NRC_", "NIS_", "FGS_")) and "LRS" not in name.upper())
    )


def _is_target(entry: Mapping[str, Any]) -> bool:
    return entry.get("region_type", "target") == "target"


def _matches(entry: Mapping[str, Any], exp_type: str) -> bool:
    name = entry["id"]
    return _is_target(entry) and name != "dummy" and (name in (exp_type, _ANY) or exp_type == _ANY)


def _shadows(earlier: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """Whether an image that matches `entry` always finds `earlier` first."""
    if not (_is_target(earlier) and earlier["id"] in (entry["id"], _ANY)):
        return False
    order = earlier.get("spectral_order", _ANY)
    return order in (_ANY, entry.get("spectral_order"))


def _constant(coefficients: Coefficients | None) -> bool:
    return coefficients is None or all(not any(edge[1:]) for edge in coefficients)


def _remarks(entry: Mapping[str, Any]) -> list[tuple[Any, str]]:
    """What a key says that has no effect, or that the pipeline does not understand."""
    found: list[tuple[Any, str]] = []
    source, regions = entry.get("src_coeff"), entry.get("bkg_coeff")
    if not _is_target(entry):
        kind = entry["region_type"]
        found.append(("warning", f"never used: region_type is {kind!r}, expected 'target'"))
    for key in ("xstart", "xstop", "extract_width"):
        if source is not None and entry.get(key) is not None:
            found.append(("warning", f"{key} has no effect beside src_coeff"))
    for key in ("bkg_fit", "bkg_order", "smoothing_length"):
        if regions is None and entry.get(key):
            found.append(("warning", f"{key} has no effect without bkg_coeff"))
    if regions is not None:
        fit = entry.get("bkg_fit", "poly")
        if fit is None:
            found.append(("warning", "bkg_fit is null, so bkg_coeff has no effect"))
        elif fit != "poly" and entry.get("bkg_order"):
            found.append(("warning", f"bkg_order has no effect beside bkg_fit {fit!r}"))
        length = entry.get("smoothing_length", 0)
        if length != 0 and (length < 3 or length % 2 != 1):
            wanted = "expected an odd whole number of at least 3, or 0"
            found.append(("warning", f"smoothing_length is {length}, {wanted}"))
    variable = check_variable(entry.get("independent_var", "pixel"))
    if variable == "wavelength" and _constant(source) and _constant(regions):
        found.append(("warning", "independent_var has no effect: no edge depends on it"))
    axis = entry.get("dispaxis", entry.get("disp_axis"))
    if axis == 1:
        found.append(("warning", "dispaxis 1 has no effect: LRS disperses along rows, which is 2"))
    for key, value in (("bkg_fit", "mean"), ("bkg_fit", None), ("disp_axis", axis)):
        if key in entry and entry[key] == value:
            word = json.dumps(value)
            found.append(("note", f"{key} {word} is not what the pipeline reads; it is rewritten"))
    kept = [key for key in entry if key not in _KEYS]
    if kept:
        found.append(("note", f"{', '.join(kept)}: kept, without effect"))
    return found


def _on_image(entry: Mapping[str, Any], shape: tuple[int, int]) -> list[tuple[Any, str]]:
    """Where regions lie beside the image."""
    rows, columns = shape
    wavelength = np.repeat(np.linspace(14.0, 5.0, rows)[:, np.newaxis], columns, axis=1)
    found: list[tuple[Any, str]] = []
    extent = f"the image, whose columns are 0 to {columns - 1}"
    try:
        weights = _aperture(entry).weights(wavelength)
    except ReferenceFileError as error:
        return [("error", str(error))]
    span = f"the source aperture ({weights.lower:.2f} to {weights.upper:.2f})"
    if weights.empty and weights.rows.start >= weights.rows.stop:
        there = f"the image, whose rows are 0 to {rows - 1}"
        found.append(("error", f"the source aperture has no row on {there}"))
    elif weights.empty:
        found.append(("error", f"{span} has no pixel on {extent}"))
    elif weights.lower < -1 or weights.upper > columns:
        found.append(("warning", f"{span} reaches beyond {extent}"))
    # No smoothing here: what is odd about its length is told already.
    background = _background({**entry, "smoothing_length": 0})
    if background is None:
        return found
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            background.weights(wavelength)
        except ReferenceFileError as error:
            found.append(("error", str(error)))
    return found + [("warning", str(one.message)) for one in caught]


def _pipeline_entry(entry: dict[str, Any]) -> dict[str, Any]:
    made = dict(entry)
    if "disp_axis" in made:
        made = {("dispaxis" if key == "disp_axis" else key): value for key, value in made.items()}
    if "bkg_fit" in made and made["bkg_fit"] is None:
        for key in ("bkg_fit", "bkg_coeff"):
            made.pop(key, None)
    elif made.get("bkg_fit") == "mean":
        made |= {"bkg_fit": "poly", "bkg_order": 0}
    return {key: value for key, value in made.items() if value is not None}


_DEFAULT: dict[str, Any] = {
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
        {
            "id": FIXED_SLIT,
            "region_type": "target",
            "dispaxis": 2,
            "xstart": 27,
            "xstop": 34,
            "bkg_order": 0,
        },
        {
            "id": SLITLESS,
            "region_type": "target",
            "dispaxis": 2,
            "xstart": 30,
            "xstop": 41,
            "bkg_order": 0,
            "use_source_posn": False,
        },
    ],
}


Reference.read = reader(
    "extract1d",
    """Read an EXTRACT1D reference.

    Parameters
    ----------
    path : str or path-like
        A JSON file.

    Returns
    -------
    Reference
        The document, checked.

    Raises
    ------
    ReferenceFileError
        If the file is missing, is not JSON, or does not hold what a reference must: see
        `Reference`.
    """,
)
Reference.write = writer(
    "extract1d",
    """Write an EXTRACT1D reference that the pipeline takes by ``override_extract1d``.

    It is written as `for_pipeline` gives it.

    Parameters
    ----------
    path : str or path-like
        The file to write; its name must end in ``.json``, as the pipeline takes no other.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    WriteError
        If the file exists, has another name, or cannot be written.
    """,
)


# --- from a reference to the operator ----------------------------------------------------------


def operator_from_reference(
    cls: type[Extract1D],
    reference: str | PathLike[str] | Mapping[str, Any] | Reference | None,
    exp_type: str,
    *,
    apcorr: str | PathLike[str] | ApertureCorrection | None = None,
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
    if keys:
        _check_entry(entry, f"{source.name}: aperture {entry.get('id')!r} with {', '.join(keys)}")
    correction = _as_correction(apcorr, exp_type)
    name = None if correction is None else correction.filename or IN_MEMORY
    made = _build(
        cls,
        entry,
        step,
        options,
        aperture_correction=correction,
        references=(("extract1d", source.name), ("apcorr", name)),
    )
    if correction is None and made.apply_apcorr:
        warnings.warn(
            "no aperture correction: a point source's flux is that within the aperture "
            "(give apcorr= or --apcorr, or apply_apcorr=False)",
            LRSWarning,
            stacklevel=3,
        )
    if made.background is None and step.get("subtract_background") is not False:
        asked = [
            key
            for key in ("subtract_background", "bkg_fit", "bkg_order", "smoothing_length")
            if step.get(key) not in (None, 0)
        ]
        if asked:
            why = "there is no bkg_coeff" if entry.get("bkg_coeff") is None else "bkg_fit is null"
            warnings.warn(
                f"{source.name}: aperture {entry['id']!r}: no background is subtracted, as {why}; "
                f"{', '.join(asked)} has no effect",
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


def _sort_overrides(
    overrides: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Keys of the reference, parameters of the step and options of ours, each checked."""
    keys: dict[str, Any] = {}
    step: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for key, given in overrides.items():
        value = _plain(given)
        if key in _STEP:
            if key == "position_offset" and value is None:
                value = 0.0
            step[key] = _checked(_STEP[key], key, value)
        elif key in _OPTIONS:
            options[key] = _checked(_OPTIONS[key], key, value)
        elif key in _KEYS:
            if value is not None:
                _checked(_KEYS[key], key, value)
            keys[key] = value
        elif key == "extraction_type":
            if value not in ("box", None):
                raise ReferenceFileError(f"extraction_type is {value!r}, expected 'box'")
        elif key in _OPTIMAL:
            raise ReferenceFileError(f"{key} belongs to optimal extraction, expected one of 'box'")
        else:
            known = [*_KEYS, *_STEP, *_OPTIONS, "extraction_type"]
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
        aperture=_aperture(entry),
        background=_background(taken),
        # The operator's own default is False: an aperture made by hand stays where it is.
        use_source_posn=step.get("use_source_posn"),
        reference_source_posn=entry.get("use_source_posn"),
        position_offset=step.get("position_offset", 0.0),
        subtract_background=step.get("subtract_background"),
        apply_apcorr=step.get("apply_apcorr", True),
        fixed_background=options.get("fixed_background", False),
        max_lost=options.get("max_lost"),
        id=entry.get("id"),
        **others,
    )


# --- from the operator to its parameters, and back ----------------------------------------------


def operator_parameters(operator: Extract1D) -> dict[str, Any]:
    """All parameters of an operator but the aperture correction, ready for JSON.

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
    for key in _APERTURE_KEYS:
        value = getattr(aperture, key)
        if value is not None:
            entry[key] = _written(value)
    options: dict[str, Any] = {
        "fixed_background": bool(operator.fixed_background),
        "max_lost": None if operator.max_lost is None else float(operator.max_lost),
    }
    if background is not None:
        entry["bkg_coeff"] = _written(background.bkg_coeff)
        entry["bkg_fit"] = background.bkg_fit
        entry["bkg_order"] = background.bkg_order
        entry["smoothing_length"] = background.smoothing_length
        if background.independent_var != aperture.independent_var:
            # An entry of the pipeline has one for both.
            options["background_independent_var"] = background.independent_var
    if operator.reference_source_posn is not None:
        entry["use_source_posn"] = bool(operator.reference_source_posn)
    step = {
        "subtract_background": operator.subtract_background,
        "apply_apcorr": operator.apply_apcorr,
        "use_source_posn": operator.use_source_posn,
        "position_offset": float(operator.position_offset),
    }
    return {"reference": entry, "step": step, "options": options}


def _written(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_written(item) for item in value]
    return _short(value) if isinstance(value, float) else value


def operator_from_parameters(
    cls: type[Extract1D],
    parameters: Mapping[str, Any],
    *,
    apcorr: str | PathLike[str] | ApertureCorrection | None = None,
    references: Mapping[str, str | None] | None = None,
) -> Extract1D:
    """Make the operator that `operator_parameters` describes: see `Extract1D.from_parameters`."""
    where = "parameters"
    if not isinstance(parameters, Mapping):
        raise ReferenceFileError(f"{where} is {_excerpt(parameters)}, expected a mapping")
    known = ("reference", "step", "options")
    for key in parameters:
        if key not in known:
            raise ReferenceFileError(
                f"{where}: unknown key {key!r}{nearest(key, known)}, expected {', '.join(known)}"
            )
    if "reference" not in parameters:
        raise ReferenceFileError(f"{where}: 'reference' is missing, expected keys of an aperture")
    entry, step, options = ({**parameters.get(key, {})} for key in known)
    _check_entry(entry, where)
    checks: dict[str, tuple[dict[str, Any], dict[str, Callable[[str, object], Any]]]] = {
        "step": (step, {key: _STEP[key] for key in _KEPT}),
        "options": (options, _OPTIONS | {"background_independent_var": _check_variable}),
    }
    for part, (values, checkers) in checks.items():
        for key, value in values.items():
            if key not in checkers:
                raise ReferenceFileError(f"{where}: unknown {part} {key!r}{nearest(key, checkers)}")
            values[key] = _checked(checkers[key], key, value)
    return _build(
        cls,
        entry,
        step,
        options,
        aperture_correction=_as_correction(apcorr, entry.get("id")),
        references=tuple((references or {}).items()),
    )


def rerun(
    provenance: Mapping[str, Any],
    *,
    input: str | PathLike[str] | None = None,
    apcorr: str | PathLike[str] | ApertureCorrection | None = None,
) -> Extraction:
    """Extract once more what a provenance tells of.

    Parameters
    ----------
    provenance : Provenance or mapping
        ``meta["glue_lrs"]`` of a spectrum, or what JSON made of it.
    input : str or path-like, optional
        Where the image is now, if it was moved. Its checksum must be the recorded one.
    apcorr : str, path-like or ApertureCorrection, optional
        Where the APCORR reference is now, or what to take instead if it came from no file.

    Returns
    -------
    Extraction
        With the same parameters, of the same image.

    Raises
    ------
    LRSError
        If a file is gone, is not the same as it was, or never was one.
    """
    from glue_lrs.extract import Extract1D

    recorded = provenance["input"]
    records: Mapping[str, Any] = provenance["references"] or {}
    if recorded is None and input is None:
        raise LRSError("the spectrum was made from an image in memory, expected one from a file")
    path = _same_file(recorded, input, "the image")
    image = SlitImage.read(path)
    parameters = provenance["parameters"]
    references = {
        key: None if record is None else record["filename"] for key, record in records.items()
    }
    correction: ApertureCorrection | None = None
    record = records.get("apcorr")
    if isinstance(apcorr, ApertureCorrection):
        correction = apcorr
    elif record is not None or apcorr is not None:
        if apcorr is None and record is not None and record["filename"] == IN_MEMORY:
            raise LRSError("the aperture correction came from no file, expected it as apcorr=")
        found = _same_file(record, apcorr, "the APCORR reference")
        subarray = {} if image.subarray is None else {"subarray": image.subarray}
        correction = ApertureCorrection.read(found, **subarray)
    operator = operator_from_parameters(
        Extract1D, parameters, apcorr=correction, references=references
    )
    return operator.run(image)


def _same_file(
    record: Mapping[str, Any] | None, given: str | PathLike[str] | None, what: str
) -> str:
    """Path of a recorded file, given or recorded, after a look at its checksum."""
    path = os.fspath(given) if given is not None else (record or {})["filename"]
    try:
        with Path(path).open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise LRSError(f"{path}: {what} cannot be read: {error.strerror or error}") from None
    expected = None if record is None else record.get("sha256")
    if expected is None:
        warnings.warn(
            f"{path}: no checksum was recorded, {what} may be another one", LRSWarning, stacklevel=3
        )
    elif digest != expected:
        raise LRSError(
            f"{path}: {what} has SHA-256 {digest[:12]}..., expected {expected[:12]}... as when the "
            "spectrum was made"
        )
    return path


# --- from the operator to a reference ------------------------------------------------------------


def to_reference(
    operator: Extract1D, image: SlitImage | None = None, *, strict: bool = True
) -> Reference:
    """Write an operator as an EXTRACT1D reference: see `Extract1D.to_reference`."""
    aperture = operator.aperture
    background = operator.background if operator.subtract_background is not False else None
    offset = float(operator.position_offset)
    name = operator.id or (_ANY if image is None else image.slit_name)
    key = operator.use_source_posn
    if key is None:
        key = operator.reference_source_posn
    left: list[str] = []  # what the reference cannot say, and what to do about it
    aperture_shift = background_shift = 0.0

    if not _may_move(operator, image, name):
        aperture_shift = offset
        background_shift = 0.0 if operator.fixed_background else offset
        if offset != 0.0:
            key = False
    elif image is None:
        if offset != 0.0:
            left.append(
                f"position_offset={offset!r} where the aperture moves to the source (give the "
                f"image, or run the step with --position_offset={offset!r})"
            )
        if operator.fixed_background and background is not None:
            left.append("fixed_background, which is no parameter of the step (give the image)")
        if operator.use_source_posn:
            warnings.warn(
                "the pipeline obeys use_source_posn of a reference for SRCTYPE POINT only; for "
                "others give the image, or run the step with --use_source_posn=true",
                LRSWarning,
                stacklevel=3,
            )
    else:
        placement = operator.place(image)
        disobeyed = operator.use_source_posn is True and image.source_type != "POINT"
        stays = operator.fixed_background and background is not None and placement.offset != 0.0
        if placement.trace is not None:
            # A trace is no key of the reference: the pipeline has to find it again.
            along = "beside extract_width along the source's trace (run the step with"
            if offset != 0.0:
                left.append(f"position_offset={offset!r} {along} --position_offset={offset!r})")
            if disobeyed:
                left.append(
                    f"use_source_posn for SRCTYPE {image.source_type} {along} "
                    "--use_source_posn=true)"
                )
            # The regions will be moved along with the source: put them back beforehand.
            background_shift = -placement.offset if stays else 0.0
        elif offset != 0.0 or stays or disobeyed:
            aperture_shift = placement.offset
            background_shift = placement.background_offset
            key = False
    point = image is None or (image.source_type or "").upper() == "POINT"
    if not operator.apply_apcorr and point:
        left.append("apply_apcorr=False (run the step with --apply_apcorr=false)")
    if operator.max_lost is not None:
        warnings.warn(
            "max_lost is left out: the pipeline does not mask rows that lost pixels",
            LRSWarning,
            stacklevel=3,
        )
    if left:
        text = f"a reference cannot hold {'; nor '.join(left)}"
        if strict:
            raise ReferenceFileError(text)
        warnings.warn(text, LRSWarning, stacklevel=3)

    aperture = _shifted(aperture, aperture_shift, image)
    entry: dict[str, Any] = {"id": name, "region_type": "target", "dispaxis": 2}
    entry |= {
        one: _written(getattr(aperture, one))
        for one in _APERTURE_KEYS
        if one != "independent_var" and getattr(aperture, one) is not None
    }
    if background is not None:
        regions = shift_coefficients(background.bkg_coeff, background_shift)
        entry["bkg_coeff"] = _written(regions)
        entry["bkg_fit"] = background.bkg_fit
        entry["bkg_order"] = background.bkg_order
        entry["smoothing_length"] = background.smoothing_length
    variable = _one_variable(aperture, background)
    if variable != "pixel":
        entry["independent_var"] = variable
    if key is not None:
        entry["use_source_posn"] = key
    document = {one: value for one, value in _DEFAULT.items() if one != "apertures"}
    if name in (FIXED_SLIT, SLITLESS):
        document["exp_type"] = name
    document |= {
        "description": "MIRI LRS aperture, written by glue_lrs",
        "history": "Written by glue_lrs; parameters of the step are folded into the aperture",
        "apertures": [entry],
    }
    return Reference.from_dict(document)


def _may_move(operator: Extract1D, image: SlitImage | None, name: str) -> bool:
    """Whether the aperture moves to the source, or may do so where the image is not known."""
    if image is not None:
        return operator.positions(image)
    if operator.use_source_posn is not None:
        return operator.use_source_posn
    if operator.reference_source_posn is not None:
        return operator.reference_source_posn
    return name != SLITLESS


def _shifted(aperture: Aperture, offset: float, image: SlitImage | None) -> Aperture:
    if offset == 0.0:
        return aperture
    if aperture.src_coeff is None and None in (aperture.xstart, aperture.xstop):
        if aperture.xstop is None and image is None:
            raise ReferenceFileError(
                f"xstop is not set, expected a number to add position_offset={offset!r} to (or "
                "give the image, whose last column it is)"
            )
        last = aperture.xstop if image is None else image.shape[1] - 1.0
        aperture = replace(
            aperture,
            xstart=0.0 if aperture.xstart is None else aperture.xstart,
            xstop=last if aperture.xstop is None else aperture.xstop,
        )
    return aperture.shifted(offset)


def _one_variable(aperture: Aperture, background: Background | None) -> str:
    """The variable that the edges of both depend on, as an entry has one for both."""
    if background is None or _constant(background.bkg_coeff):
        return aperture.independent_var
    if _constant(aperture.src_coeff) or aperture.independent_var == background.independent_var:
        return background.independent_var
    raise ReferenceFileError(
        f"independent_var is {aperture.independent_var!r} for the aperture and "
        f"{background.independent_var!r} for the background, expected one for both"
    )
