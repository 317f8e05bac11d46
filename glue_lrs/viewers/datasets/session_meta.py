"""Metadata of datasets in a form that glue can save in sessions.

The ``meta`` of a `~specutils.Spectrum` from this package contains objects that glue cannot save,
such as the header, the provenance and the `Extraction` itself. A `SessionMeta` contains such
objects in the ``meta`` of a dataset, and can be saved.
"""

from __future__ import annotations

import json
from collections import UserDict
from collections.abc import Mapping
from dataclasses import fields
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import Column, Table

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs.errors import LRSError
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.provenance import Provenance

if TYPE_CHECKING:
    import weakref

    from glue.core import Data
    from glue.core.state import GlueSerializer, GlueUnSerializer
    from numpy.typing import NDArray

#: Key of the `SessionMeta` in the ``meta`` of a dataset.
KEY = "lrs"

#: Key in the ``meta`` of a residual, for the uuid of its image and the limit of its colour scale.
RESIDUAL_KEY = "glue_lrs_residual"

#: Attributes of an `Extraction` that are dicts.
_MAPPINGS = ("columns", "keywords")

#: Keywords of header cards that describe the file rather than the data.
_STRUCTURAL_CARDS = (
    *("SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "EXTEND", "PCOUNT"),
    *("GCOUNT", "EXTNAME", "EXTVER", "CHECKSUM", "DATASUM", "COMMENT", "HISTORY"),
)


def header_cards(header: fits.Header) -> dict[str, str | float]:
    """Return the header cards, with values that a session can save, for glue's metadata viewer."""
    return {
        card.keyword: card.value if isinstance(card.value, bool | int | float) else str(card.value)
        for card in header.cards
        if card.keyword and card.keyword not in _STRUCTURAL_CARDS
    }


def file_label(filename: str | None) -> str | None:
    """Return the name of a file without folder and suffix, to be used as the label of a dataset."""
    return None if filename is None else Path(filename).name.partition(".fits")[0]


def absolute_path(path: str | PathLike[str]) -> str:
    """Return an absolute path, with ``~`` expanded."""
    return str(Path(fspath(path)).expanduser().resolve())


def file_reference(
    owner: weakref.ref[Data] | None, context: GlueSerializer
) -> dict[str, object] | None:
    """Return a reference to the file of a dataset, for a session.

    The session saves the reference instead of the coordinates or the metadata of the dataset.

    Parameters
    ----------
    owner : weak reference to `~glue.core.data.Data`, optional
        Dataset to which the object belongs.
    context : GlueSerializer
        Serialiser that saves the session.

    Returns
    -------
    dict or None
        Identifier of glue's ``LoadLog``, which records how the file was loaded and loads it again
        when the session is restored, and the index of the dataset among the datasets from this
        file. The file may have changed by then. None if the dataset was not loaded from a file, or
        if the session is saved with all data included.
    """
    data = None if owner is None else owner()
    log = getattr(data, "_load_log", None)
    if log is None or context.include_data:
        return None
    return {"log": context.id(log), "item": [one is data for one in log.data].index(True)}


def data_from_file(rec: Mapping[str, Any], context: GlueUnSerializer) -> Data:
    """Return the dataset to which a `file_reference` refers, which is read again from its file."""
    return context.object(rec["log"]).data[rec["item"]]


class SessionMeta(UserDict[str, Any]):
    """A mapping whose values can be saved in a session if their types are supported.

    Supported types are numbers, strings, lists and dicts of these, arrays, dicts of arrays,
    quantities, headers, tables, `Provenance` and `Extraction`; other values are omitted from the
    session. For tables, only the columns and their units are saved.

    Parameters
    ----------
    values : mapping
        Objects with their names.
    """

    #: Dataset whose ``meta`` contains this object. If it was loaded from a file, a session refers
    #: to the file instead of saving the values.
    owner: weakref.ref[Data] | None = None

    def __repr__(self) -> str:
        return f"<SessionMeta of {', '.join(self)}>"

    def __gluestate__(self, context: GlueSerializer) -> dict[str, Any]:
        return file_reference(self.owner, context) or {"values": _pairs(self, context)}

    @classmethod
    def __setgluestate__(cls, rec: dict[str, Any], context: GlueUnSerializer) -> SessionMeta:
        if "log" in rec:
            return data_from_file(rec, context).meta[KEY]
        return cls({key: _restored(state, context) for key, state in rec["values"]})


def session_meta(data: Data) -> Mapping[str, Any]:
    """Return the `SessionMeta` of a dataset, or an empty mapping if there is none."""
    found = data.meta.get(KEY)
    return found if isinstance(found, SessionMeta) else {}


def _pairs(values: Mapping[str, Any], context: GlueSerializer) -> list[list[Any]]:
    """Return keys and serialised values as a list, as glue would change the order of a dict."""
    pairs = [
        [key, _serialised(value, context)] for key, value in values.items() if isinstance(key, str)
    ]
    return [pair for pair in pairs if pair[1] is not None]


def _serialised(value: object, context: GlueSerializer) -> dict[str, Any] | None:
    """Convert a value for JSON, with its kind as the key; return None for unsupported types."""
    # The arrays are temporary, so `context.id` must not be used: it identifies objects by their
    # addresses. `context.do` saves a copy.
    if isinstance(value, Extraction):
        return {"extraction": _serialised_extraction(value, context)}
    if isinstance(value, Provenance):
        return {"provenance": json.dumps(dict(value), default=_plain)}
    if isinstance(value, fits.Header):
        return _serialised_header(value)
    if isinstance(value, Table):
        return {"table": _pairs({name: _column(value[name]) for name in value.colnames}, context)}
    if isinstance(value, dict) and any(isinstance(one, np.ndarray) for one in value.values()):
        return {"arrays": _pairs(value, context)}
    if isinstance(value, u.Quantity):
        return {"quantity": [context.do(np.array(value.value)), value.unit.to_string()]}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufcSU":
        return {"array": context.do(np.array(value))}
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return None
    # JSON would change the types of tuples and of keys that are not strings.
    return {"json": text} if _same(json.loads(text), value) else None


def _serialised_header(header: fits.Header) -> dict[str, Any] | None:
    try:
        text = LazyHeader.view(header).tostring(sep="\n", endcard=False, padding=False)
        return {"lazy_header" if isinstance(header, LazyHeader) else "header": text}
    except (ValueError, fits.VerifyError):
        return None  # an invalid card must not prevent the session from being saved


def _serialised_extraction(extraction: Extraction, context: GlueSerializer) -> dict[str, Any]:
    names = [one.name for one in fields(extraction) if one.name != "keywords_source"]
    parts = {"keywords": _keywords(extraction)} | {n: getattr(extraction, n) for n in names}
    return {
        name: _pairs(value, context) if name in _MAPPINGS else _serialised(value, context)
        for name, value in parts.items()
    }


def _keywords(extraction: Extraction) -> Mapping[str, Any]:
    """Return the keywords, without those derived from the WCS if the image file is missing."""
    try:
        return extraction.keywords
    except (LRSError, OSError):
        return getattr(extraction.keywords_source, "cards", {})


def _restored(state: Mapping[str, Any], context: GlueUnSerializer) -> Any:
    ((kind, value),) = state.items()
    if kind == "array":
        return context.object(value)[()]  # converts 0-d arrays to scalars
    if kind == "quantity":
        return u.Quantity(context.object(value[0])[()], u.Unit(value[1]), copy=False)
    if kind in ("header", "lazy_header"):
        header = fits.Header.fromstring(value, sep="\n")
        return LazyHeader.from_header(header) if kind == "lazy_header" else header
    if kind == "provenance":
        return Provenance.from_dict(json.loads(value))
    if kind == "table":
        return Table({name: _restored(column, context) for name, column in value})
    if kind == "arrays":
        return {name: _restored(array, context) for name, array in value}
    if kind == "extraction":
        return _restored_extraction(value, context)
    return json.loads(value)


def _restored_extraction(state: Mapping[str, Any], context: GlueUnSerializer) -> Extraction:
    parts: dict[str, Any] = {}
    for name, value in state.items():
        if name in _MAPPINGS:
            parts[name] = {key: _restored(one, context) for key, one in value}
        elif value is not None:
            parts[name] = _restored(value, context)
    return Extraction(keywords_source=parts.pop("keywords"), **parts)


def _column(column: u.Quantity | Column) -> u.Quantity | NDArray[Any]:
    """Return a column of a table as an array, or as a quantity if it has a unit."""
    if isinstance(column, u.Quantity) or getattr(column, "unit", None) is None:
        return column if isinstance(column, u.Quantity) else np.asarray(column)
    return u.Quantity(np.asarray(column), column.unit, dtype=column.dtype)


def _plain(value: object) -> object:
    """Convert a value that JSON does not support."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def _same(one: object, other: object) -> bool:
    """Return whether two values are equal and of the same type, also within lists and dicts."""
    if isinstance(one, dict) and isinstance(other, dict):
        return _same([*one, *one.values()], [*other, *other.values()])
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(other, type(one)) and bool(one == other or one != one)
