"""Metadata of datasets in a form that glue's sessions can save.

The ``meta`` of a `~specutils.Spectrum` of this package contains objects (header, provenance, the
extraction itself) that glue cannot save. A `SessionMeta` holds them in the ``meta`` of a dataset
and serialises them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import Table

from glue_lrs._utils.lazy_header import LazyHeader
from glue_lrs.errors import LRSError
from glue_lrs.spectra.extraction import Extraction
from glue_lrs.spectra.provenance import Provenance

if TYPE_CHECKING:
    import weakref

    from glue.core import Data

__all__ = [
    "KEY",
    "RESIDUAL_KEY",
    "SessionMeta",
    "data_from_file",
    "file_label",
    "file_reference",
    "header_cards",
]

#: Key of the `SessionMeta` in the ``meta`` of a dataset.
KEY = "lrs"

#: Key in the ``meta`` of a residual with the uuid of its image and the limit of the colour scale.
RESIDUAL_KEY = "glue_lrs_residual"

#: The parts of an `Extraction` that are dicts of arrays or of a header's values.
_MAPPINGS = ("columns", "keywords")

#: Cards that describe the file rather than the data.
_STRUCTURAL_CARDS = (
    *("SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "EXTEND", "PCOUNT"),
    *("GCOUNT", "EXTNAME", "EXTVER", "CHECKSUM", "DATASUM", "COMMENT", "HISTORY"),
)


def header_cards(header: fits.Header) -> dict[str, Any]:
    """Return the cards of a header that a session can save, for glue's view of the metadata."""
    cards: dict[str, Any] = {}
    for card in header.cards:
        if card.keyword and card.keyword not in _STRUCTURAL_CARDS:
            value = card.value
            plain = isinstance(value, str | bool | int | float)
            cards[card.keyword] = value if plain else str(value)
    return cards


def file_label(filename: str | None) -> str | None:
    """Return the name of a file without folder and suffix, as the label of its dataset."""
    return None if filename is None else Path(filename).name.partition(".fits")[0]


def file_reference(owner: weakref.ref[Data] | None, context: Any) -> dict[str, Any] | None:
    """Serialise an object that belongs to a dataset as a reference to the dataset's file.

    Parameters
    ----------
    owner : weak reference to `~glue.core.data.Data`, optional
        The dataset, made by a data factory.
    context : GlueSerializer
        The serialiser.

    Returns
    -------
    dict or None
        The file's log and the index of the dataset, so that the object is read from the file again,
        which may have changed; None if there is no file, or the session contains the data.
    """
    data = None if owner is None else owner()
    log = getattr(data, "_load_log", None)
    if log is None or context.include_data:
        return None
    return {"log": context.id(log), "item": [one is data for one in log.data].index(True)}


def data_from_file(rec: Mapping[str, Any], context: Any) -> Data:
    """Return the dataset that a `file_reference` refers to, read again from its file."""
    return context.object(rec["log"]).data[rec["item"]]


class SessionMeta(Mapping[str, Any]):
    """A mapping whose values a session saves, if their type is supported.

    Numbers, strings, lists and dicts of these, arrays, quantities, headers, tables, `Provenance`
    and `Extraction` are restored from a session; other values are not saved. Of a table, the
    columns and their units are restored.

    Parameters
    ----------
    values : mapping
        The objects, by name.
    """

    #: The dataset that has it in its ``meta``, if that was made by a data factory.
    owner: weakref.ref[Data] | None = None

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<SessionMeta of {', '.join(self._values)}>"

    def __gluestate__(self, context: Any) -> dict[str, Any]:
        reference = file_reference(self.owner, context)
        if reference is not None:
            return reference
        return {"values": _pairs(self._values, context)}

    @classmethod
    def __setgluestate__(cls, rec: dict[str, Any], context: Any) -> SessionMeta:
        if "log" in rec:
            return data_from_file(rec, context).meta[KEY]
        return cls({key: _restored(state, context) for key, state in rec["values"]})


def _pairs(values: Mapping[str, Any], context: Any) -> list[list[Any]]:
    """Keys and serialised values as a list, as a session sorts the keys of dicts."""
    pairs = [
        [key, _serialised(value, context)] for key, value in values.items() if isinstance(key, str)
    ]
    return [pair for pair in pairs if pair[1] is not None]


def _serialised(value: Any, context: Any) -> dict[str, Any] | None:
    """A value in a form for JSON, under the name of its kind; None if it is not supported."""
    # `context.id` identifies objects by their addresses, and these are temporary: use `context.do`.
    if isinstance(value, Extraction):
        return {"extraction": _serialised_extraction(value, context)}
    if isinstance(value, Provenance):
        return {"provenance": json.dumps(dict(value), default=_plain)}
    if isinstance(value, fits.Header):
        return _serialised_header(value)
    if isinstance(value, Table):
        return {"table": _pairs({name: _column(value[name]) for name in value.colnames}, context)}
    if isinstance(value, u.Quantity):
        return {"quantity": [context.do(np.array(value.value)), value.unit.to_string()]}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufcSU":
        return {"array": context.do(np.array(value))}
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return None
    # Tuples, and keys that are not strings, would be restored as something else.
    return {"json": text} if _same(json.loads(text), value) else None


def _serialised_header(header: fits.Header) -> dict[str, Any] | None:
    try:
        text = LazyHeader.view(header).tostring(sep="\n", endcard=False, padding=False)
        return {"lazy_header" if isinstance(header, LazyHeader) else "header": text}
    except (ValueError, fits.VerifyError):
        return None  # an invalid card must not prevent the session from being saved


def _serialised_extraction(extraction: Extraction, context: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "columns": extraction.columns,
        "units": extraction.units,
        "header": extraction.header,
        "keywords": _keywords(extraction),
        "times": extraction.times,
        "int_times": extraction.int_times,
        "provenance": extraction.provenance,
        "filename": extraction.filename,
        "aperture_weight": extraction.aperture_weight,
    }
    return {
        name: _pairs(value, context) if name in _MAPPINGS else _serialised(value, context)
        for name, value in parts.items()
    }


def _keywords(extraction: Extraction) -> Mapping[str, Any]:
    """The keywords, without those from the WCS if its file no longer exists."""
    try:
        return extraction.keywords
    except (LRSError, OSError):
        return getattr(extraction.keywords_source, "cards", {})


def _restored(state: Mapping[str, Any], context: Any) -> Any:
    ((kind, value),) = state.items()
    if kind == "array":
        return context.object(value)[()]  # 0-d arrays to scalars
    if kind == "quantity":
        return u.Quantity(context.object(value[0])[()], u.Unit(value[1]), copy=False)
    if kind == "header":
        return fits.Header.fromstring(value, sep="\n")
    if kind == "lazy_header":
        return LazyHeader.from_header(fits.Header.fromstring(value, sep="\n"))
    if kind == "provenance":
        return Provenance.from_dict(json.loads(value))
    if kind == "table":
        return Table({name: _restored(column, context) for name, column in value})
    if kind == "extraction":
        return _restored_extraction(value, context)
    return json.loads(value)


def _restored_extraction(state: Mapping[str, Any], context: Any) -> Extraction:
    parts: dict[str, Any] = {}
    for name, value in state.items():
        if name in _MAPPINGS:
            parts[name] = {key: _restored(one, context) for key, one in value}
        elif value is not None:
            parts[name] = _restored(value, context)
    return Extraction(keywords_source=parts.pop("keywords"), **parts)


def _column(column: Any) -> Any:
    """A column of a table as an array, or as a quantity if it has a unit."""
    if isinstance(column, u.Quantity) or getattr(column, "unit", None) is None:
        return column if isinstance(column, u.Quantity) else np.asarray(column)
    return u.Quantity(np.asarray(column), column.unit, dtype=column.dtype)


def _plain(value: Any) -> Any:
    """Convert a value that JSON does not support."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of the same type, also within lists and dicts."""
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        if not isinstance(other, dict) or one.keys() != other.keys():
            return False
        return all(_same(one[key], other[key]) for key in one)
    return isinstance(other, type(one)) and bool(one == other or one != one)
