"""EXTRACT1D reference: validation, selection of an aperture, and checks for unintended settings.

The keys have the same meaning as in the JWST pipeline's ``extract_1d``. Invalid keys and values,
such as a misspelt key or a string instead of a number, raise an error here. The pipeline silently
ignores them or fails.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from astropy.io import registry

from glue_lrs._utils.display import described, settings_text
from glue_lrs._utils.registry import unified_io
from glue_lrs._utils.validation import is_deeper, plain
from glue_lrs.apertures.edges import check_variable, is_constant
from glue_lrs.errors import ReferenceFileError, listed, nearest, quoted
from glue_lrs.instrument import FIXED_SLIT, SLITLESS
from glue_lrs.reference import schema

if TYPE_CHECKING:
    from glue_lrs.io.files import Source

#: Largest number of levels to which lists and objects in a document may be nested. The keys of
#: apertures need five, but comments may have any form. Recursive functions would fail at some
#: hundred levels.
_DEEPEST = 50

#: Number of apertures in the text of a reference.
_APERTURES_SHOWN = 3

Level = Literal["error", "warning", "note"]


class ReferenceIssue(str):
    """Text that describes an issue found by `Reference.check`, with its severity as `level`.

    Attributes
    ----------
    level : {"error", "warning", "note"}
        Severity of the issue. An error makes the extraction fail. A warning means that the result
        is probably unintended. A note has no effect on the extraction.
    """

    level: Level

    def __new__(cls, level: Level, text: str) -> ReferenceIssue:
        """Create an issue from its severity and its text."""
        made = super().__new__(cls, text)
        made.level = level
        return made

    def __getnewargs__(self) -> tuple[Level, str]:  # type: ignore[override]
        return self.level, str(self)


@dataclass(frozen=True)
class Reference:
    """EXTRACT1D reference, which defines aperture and background for each exposure type.

    Parameters
    ----------
    document : dict
        Content of the JSON file: the list ``apertures``, and any other keys, which describe the
        file. The document is copied.
    filename : str, optional
        Name of the file from which the document was read. It appears in messages.

    Raises
    ------
    ReferenceFileError
        If there is no list ``apertures``, or an aperture has no ``id``, an unknown key or an
        invalid value. Apertures for modes other than LRS are not validated.

    Notes
    -----
    Unlike in the pipeline, ``bkg_fit`` may be ``"mean"`` or ``null`` (no subtraction), and the key
    ``dispaxis`` may be spelt ``disp_axis``. `write` replaces them with equivalents that the
    pipeline accepts.
    """

    document: dict[str, Any]
    filename: str | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        shown = self.document["apertures"][:_APERTURES_SHOWN]
        more = len(self.document["apertures"]) - len(shown)
        hidden = ("id", "region_type", "dispaxis", "disp_axis")
        return described(
            self,
            f"EXTRACT1D, {self.name}",
            *(
                f"{entry.get('id')}: "
                + settings_text({key: entry[key] for key in entry if key not in hidden})
                for entry in shown
            ),
            f"and {more} more" if more else None,
        )

    @unified_io("extract1d")
    @classmethod
    def read(cls, path: Source, **options: Any) -> Reference:
        """Read an EXTRACT1D reference from a JSON file.

        Parameters
        ----------
        path : str or path-like
            Path of the file.

        Returns
        -------
        Reference
            The validated content of the file.

        Raises
        ------
        ReferenceFileError
            If the file is missing, is not JSON, or is not a valid reference.
        """
        return registry.read(cls, path, **options)

    @unified_io("extract1d")
    def write(self, path: str | PathLike[str], overwrite: bool = False, **options: Any) -> None:
        """Write an EXTRACT1D reference for use in the pipeline with ``override_extract1d``.

        The reference is first converted by `for_pipeline`.

        Parameters
        ----------
        path : str or path-like
            Path of the file to write. Its name must end in ``.json``, which the pipeline requires.
        overwrite : bool
            Whether an existing file may be replaced.

        Raises
        ------
        WriteError
            If the file exists, its name does not end in ``.json``, or it cannot be written.
        """
        registry.write(self, path, overwrite=overwrite, **options)

    def __post_init__(self) -> None:
        if not isinstance(self.document, Mapping):
            found = type(self.document).__name__
            raise self._error(f"is a {found}, expected an object with the key 'apertures'")
        if is_deeper(self.document, _DEEPEST):
            raise self._error(f"is nested in more than {_DEEPEST} levels, expected at most five")
        document = plain(self.document)
        object.__setattr__(self, "document", document)
        if "apertures" not in document:
            hint = next(filter(None, (nearest(key, ["apertures"]) for key in document)), "")
            found = listed(map(quoted, document)) or "nothing"
            raise self._error(f"found {found}, expected a key 'apertures'{hint}")
        entries = document["apertures"]
        if not isinstance(entries, list) or not entries:
            raise self._error(
                f"apertures is {quoted(entries)}, expected a list of one or more objects"
            )
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise self._error(f"apertures[{number}] is {quoted(entry)}, expected an object")
            if "id" not in entry:
                similar = (schema.unknown_key(key) for key in entry if nearest(key, ["id"]))
                hint = next((f": {text}" for text in similar), "")
                raise self._error(
                    f"apertures[{number}] has no id, expected an EXP_TYPE such as "
                    f"{FIXED_SLIT!r}, or 'ANY'{hint}"
                )
            if not _other_mode(entry["id"]):
                schema.check_entry(entry, self.where(entry))

    def _error(self, text: str) -> ReferenceFileError:
        """Return an error about this reference."""
        return ReferenceFileError(text, subject=self.label)

    @classmethod
    def default(cls) -> Reference:
        """Return the built-in reference with the apertures of ``jwst_miri_extract1d_0006.json``.

        The aperture for the slit moves to the source position from the header and the WCS. The
        aperture for slitless exposures does not move.
        """
        return cls(deepcopy(schema.DEFAULT), schema.BUILT_IN)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Reference:
        """Create a reference from the content of a JSON file. `Reference` describes the errors."""
        return cls(document)  # type: ignore[arg-type]

    @property
    def name(self) -> str:
        """Path of the file, or ``"<built-in>"`` or ``"<in memory>"`` if there is no file."""
        return self.filename or schema.IN_MEMORY

    @property
    def label(self) -> str:
        """Name of the reference in messages."""
        return "the built-in reference" if self.filename == schema.BUILT_IN else self.name

    def entry(self, exp_type: str, spectral_order: int = 1) -> dict[str, Any]:
        """Return the aperture for an exposure type, selected as in the pipeline.

        This is the first aperture whose ``id`` is the exposure type (case-sensitive) or "ANY",
        whose ``region_type`` is absent or "target", and whose ``spectral_order`` is absent, "ANY"
        or equal to the given order.

        Parameters
        ----------
        exp_type : str
            EXP_TYPE or slit name of the image.
        spectral_order : int
            Spectral order. It is 1 for LRS.

        Returns
        -------
        dict
            Copy of the aperture's keys and values.

        Raises
        ------
        ReferenceFileError
            If no aperture matches. The message lists the available apertures.
        """
        if not isinstance(exp_type, str):
            raise ReferenceFileError(
                f"exp_type is {quoted(exp_type)}, expected a word such as {FIXED_SLIT!r}"
            )
        entries = self.document["apertures"]
        orders = []
        for entry in entries:
            if not _matches(entry, exp_type):
                continue
            order = entry.get("spectral_order", spectral_order)
            if order in (spectral_order, schema.ANY):
                return deepcopy(entry)
            orders.append(str(order))
        if orders:
            raise self._error(
                f"aperture {quoted(exp_type)} is for spectral_order {listed(orders)}, expected "
                f"{spectral_order}"
            )
        available = [
            quoted(entry["id"])
            + ("" if _is_target(entry) else f" (region_type {quoted(entry['region_type'])})")
            for entry in entries
        ]
        upper = [str(entry["id"]).upper() for entry in entries if entry["id"] != exp_type]
        case = " (upper and lower case differ)" if exp_type.upper() in upper else ""
        raise self._error(
            f"no aperture has the id {quoted(exp_type)}, found {listed(available)}{case}"
        )

    def check(
        self, shape: tuple[int, int] | None = None, exp_type: str | None = None
    ) -> list[ReferenceIssue]:
        """Return a list of issues, such as settings that are valid but probably unintended.

        Issues are settings without effect, apertures that are never used and, if `shape` is given,
        regions that are not on the image.

        Parameters
        ----------
        shape : (int, int), optional
            Number of rows and number of columns in an image. If given, apertures that extend beyond
            such an image are reported. Edges that depend on the wavelength are evaluated for
            wavelengths that decrease linearly from 14 micron in the first row to 5 micron in the
            last row.
        exp_type : str, optional
            Exposure type whose aperture is checked. If None, all apertures are checked.

        Returns
        -------
        list of ReferenceIssue
            One text for each issue, with a `level` "error", "warning" or "note".
        """
        return [ReferenceIssue(level, text) for level, text in self._issues(shape, exp_type)]

    def _issues(
        self, shape: tuple[int, int] | None, exp_type: str | None
    ) -> Iterator[tuple[Level, str]]:
        """Yield the level and the text of each issue that `check` returns."""
        entries = [entry for entry in self.document["apertures"] if not _other_mode(entry["id"])]
        if exp_type is not None:
            try:
                entries = [self.entry(exp_type)]
            except ReferenceFileError as error:
                yield "error", str(error)
                return
        elif not any(_matches(entry, mode) for entry in entries for mode in (FIXED_SLIT, SLITLESS)):
            ids = listed(str(entry["id"]) for entry in self.document["apertures"])
            yield "warning", f"{self.label}: no aperture is for MIRI LRS, found {ids}"
        instrument = self.document.get("instrument", "MIRI")
        if instrument != "MIRI":
            yield "warning", f"{self.label}: instrument is {quoted(instrument)}, expected 'MIRI'"
        for number, entry in enumerate(entries):
            where = self.where(entry)
            for level, _, text in remarks(entry):
                yield level, f"{where}: {text}"
            if exp_type is None and entry["id"] not in (FIXED_SLIT, SLITLESS, schema.ANY):
                expected = f"expected {FIXED_SLIT!r}, {SLITLESS!r} or 'ANY'"
                yield "warning", f"{where}: is for no exposure of LRS, {expected}"
            if any(_shadows(earlier, entry) for earlier in entries[:number]):
                yield "warning", f"{where}: never used, an earlier aperture matches first"
            if shape is not None and _is_target(entry):
                for level, text in _on_image(entry, shape):
                    yield level, f"{where}: {text}"

    def for_pipeline(self) -> Reference:
        """Return an equivalent reference that the pipeline accepts.

        A ``bkg_fit`` of ``"mean"`` becomes a polynomial of order 0. If ``bkg_fit`` is null,
        ``bkg_coeff`` is removed. ``disp_axis`` becomes ``dispaxis``. Keys whose value is null are
        removed.
        """
        document = deepcopy(self.document)
        document["apertures"] = [
            entry if _other_mode(entry["id"]) else _pipeline_entry(entry)
            for entry in document["apertures"]
        ]
        return Reference(document, self.filename)

    def where(self, entry: Mapping[str, Any]) -> str:
        """Return the names of the reference and of an aperture, with which messages begin."""
        if self.filename == schema.BUILT_IN:
            return self.label
        return f"{self.label}: aperture {quoted(entry['id'])}"


def _other_mode(name: object) -> bool:
    """Return whether an id is the EXP_TYPE of a mode other than LRS, or the placeholder "dummy".

    Apertures with such ids are not validated.
    """
    return isinstance(name, str) and (
        name == "dummy"
        or (name.startswith(("MIR_", "NRS_", "NRC_", "NIS_", "FGS_")) and "LRS" not in name.upper())
    )


def _is_target(entry: Mapping[str, Any]) -> bool:
    return entry.get("region_type", "target") == "target"


def _matches(entry: Mapping[str, Any], exp_type: str) -> bool:
    name = entry["id"]
    matches = name in (exp_type, schema.ANY) or exp_type == schema.ANY
    return matches and name != "dummy" and _is_target(entry)


def _shadows(earlier: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """Return whether `entry` is never selected because `earlier` always matches first."""
    if not (_is_target(earlier) and earlier["id"] in (entry["id"], schema.ANY)):
        return False
    order = earlier.get("spectral_order", schema.ANY)
    return order in (schema.ANY, entry.get("spectral_order"))


def remarks(entry: Mapping[str, Any]) -> Iterator[tuple[Level, str, str]]:
    """Yield remarks about keys of an aperture that have no effect, or that the pipeline rejects.

    A remark is a tuple: its level, the key, and the text for the user.
    """
    source, regions = entry.get("src_coeff"), entry.get("bkg_coeff")
    if not _is_target(entry):
        text = f"never used: region_type is {quoted(entry['region_type'])}, expected 'target'"
        yield "warning", "region_type", text
    for key in ("xstart", "xstop", "extract_width"):
        if source is not None and entry.get(key) is not None:
            yield "warning", key, f"{key} has no effect with src_coeff"
    for key in ("bkg_fit", "bkg_order", "smoothing_length"):
        if regions is None and entry.get(key):
            yield "warning", key, f"{key} has no effect without bkg_coeff"
    if regions is not None:
        fit = entry.get("bkg_fit", "poly")
        if fit is None:
            yield "warning", "bkg_fit", "bkg_fit is null, so bkg_coeff has no effect"
        elif fit != "poly" and entry.get("bkg_order"):
            yield "warning", "bkg_order", f"bkg_order has no effect with bkg_fit {quoted(fit)}"
        length = entry.get("smoothing_length", 0)
        if length != 0 and (length < 3 or length % 2 != 1):
            expected = "expected an odd whole number of at least 3, or 0"
            yield "warning", "smoothing_length", f"smoothing_length is {length}, {expected}"
    variable = check_variable(entry.get("independent_var", "pixel"))
    if variable == "wavelength" and is_constant(source) and is_constant(regions):
        yield "warning", "independent_var", "independent_var has no effect: no edge depends on it"
    axis = entry.get("dispaxis", entry.get("disp_axis"))
    if axis == 1:
        text = "dispaxis 1 has no effect: LRS disperses along y, for which dispaxis is 2"
        yield "warning", "dispaxis", text
    for key, value in (("bkg_fit", "mean"), ("bkg_fit", None), ("disp_axis", axis)):
        if key in entry and entry[key] == value:
            word = json.dumps(value)
            text = f"{key} {word} is not accepted by the pipeline; it is replaced when written"
            yield "note", key, text
    obsolete = schema.obsolete_keys(entry)
    for key in obsolete:
        text = f"{key} has no effect: it is a key of older references, which the pipeline ignores"
        yield "warning", key, text
    kept = [key for key in entry if key not in (*schema.KEYS, *obsolete)]
    if kept:
        yield "note", kept[0], f"{listed(kept)}: kept, without effect"


def _on_image(entry: Mapping[str, Any], shape: tuple[int, int]) -> Iterator[tuple[Level, str]]:
    """Yield the level and the text of issues about regions that extend beyond an image."""
    rows, columns = shape
    wavelength = np.repeat(np.linspace(14.0, 5.0, rows)[:, np.newaxis], columns, axis=1)
    extent = f"the image, whose columns are 0 to {columns - 1}"
    try:
        weights = schema.aperture_of(entry).weights(wavelength)
    except ReferenceFileError as error:
        yield "error", str(error)
        return
    span = f"the source aperture ({weights.lower:.2f} to {weights.upper:.2f})"
    if weights.empty and weights.rows.start >= weights.rows.stop:
        text = f"has no row on the image, whose rows are 0 to {rows - 1}"
        yield "error", f"the source aperture {text}"
    elif weights.empty:
        yield "error", f"{span} has no pixel on {extent}"
    elif weights.lower < -1 or weights.upper > columns:
        yield "warning", f"{span} reaches beyond {extent}"
    # The smoothing length is set to 0 here because `remarks` has already checked it.
    background = schema.background_of({**entry, "smoothing_length": 0})
    if background is None:
        return
    errors = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            background.weights(wavelength)
        except ReferenceFileError as error:
            errors.append(str(error))
    yield from (("error", text) for text in errors)
    yield from (("warning", str(warning.message)) for warning in caught)


def _pipeline_entry(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an equivalent aperture that the pipeline accepts."""
    made = {("dispaxis" if key == "disp_axis" else key): value for key, value in entry.items()}
    if made.get("bkg_fit", "poly") is None:
        made["bkg_coeff"] = None
    elif made.get("bkg_fit") == "mean":
        made |= {"bkg_fit": "poly", "bkg_order": 0}
    return {key: value for key, value in made.items() if value is not None}
