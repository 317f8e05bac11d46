"""What a spectrum remembers, in a form that sessions keep.

The ``meta`` of a `~specutils.Spectrum` of this package has objects in it (header, provenance, the
extraction itself) that glue cannot save. A `SessionMeta` holds them in the ``meta`` of a dataset and
tells glue how to write them down.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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

__all__ = ["KEY", "SessionMeta", "log_of", "logged"]

#: Where the memory of a dataset is in its ``meta``.
KEY = "lrs"

#: The parts of an `Extraction` that are dicts of arrays or of a header's values.
_MAPPINGS = ("columns", "keywords")


def log_of(owner: weakref.ref[Data] | None, context: Any) -> dict[str, Any] | None:
    """What a session keeps of something that belongs to a dataset which a file was read into.

    Parameters
    ----------
    owner : weak reference to `~glue.core.data.Data`, optional
        The dataset that a data factory has made.
    context : GlueSerializer
        What glue gives.

    Returns
    -------
    dict or None
        Which file and dataset, so that it is taken from the file again, which may have changed; or
        None where there is no file, or the session has the data in it.
    """
    data = None if owner is None else owner()
    log = getattr(data, "_load_log", None)
    if log is None or context.include_data:
        return None
    return {"log": context.id(log), "item": [one is data for one in log.data].index(True)}


def logged(rec: Mapping[str, Any], context: Any) -> Data:
    """The dataset that `log_of` means, read again."""
    return context.object(rec["log"]).data[rec["item"]]


class SessionMeta(Mapping[str, Any]):
    """A mapping that a session keeps as far as it can.

    Numbers, texts, lists and dicts of these, arrays, quantities, headers, tables, `Provenance` and
    `Extraction` come back from a session; anything else is left out of it. A table comes back with
    its columns and their units. In the same process all objects are those that were put in.

    Parameters
    ----------
    values : mapping
        The objects, by their names.
    """

    #: The dataset in whose meta it is, where a data factory has made that.
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
        return f"<Memory of {', '.join(self._values)}>"

    def __gluestate__(self, context: Any) -> dict[str, Any]:
        log = log_of(self.owner, context)
        if log is not None:
            return log
        return {"values": _pairs(self._values, context)}

    @classmethod
    def __setgluestate__(cls, rec: dict[str, Any], context: Any) -> SessionMeta:
        if "log" in rec:
            return logged(rec, context).meta[KEY]
        return cls({key: _read(state, context) for key, state in rec["values"]})


def _pairs(values: Mapping[str, Any], context: Any) -> list[list[Any]]:
    """Keys and what can be kept of the values, as a list: a session sorts the keys of dicts."""
    pairs = [[key, _written(one, context)] for key, one in values.items() if isinstance(key, str)]
    return [pair for pair in pairs if pair[1] is not None]


def _written(value: Any, context: Any) -> dict[str, Any] | None:
    """What JSON is to hold of a value, under the name of its kind; None for what it cannot."""
    # Only `context.do`, as `context.id` tells objects by their addresses: these are short-lived.
    if isinstance(value, Extraction):
        return {"extraction": _written_extraction(value, context)}
    if isinstance(value, Provenance):
        return {"provenance": json.dumps(dict(value), default=_plain)}
    if isinstance(value, fits.Header):
        return _written_header(value)
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
    # Tuples, and keys that are no text, would come back as something else.
    return {"json": text} if _same(json.loads(text), value) else None


def _written_header(header: fits.Header) -> dict[str, Any] | None:
    try:
        text = LazyHeader.view(header).tostring(sep="\n", endcard=False, padding=False)
        return {"own_header" if isinstance(header, LazyHeader) else "header": text}
    except (ValueError, fits.VerifyError):
        return None  # a card that FITS does not allow must not keep a session from being saved


def _written_extraction(extraction: Extraction, context: Any) -> dict[str, Any]:
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
        name: _pairs(value, context) if name in _MAPPINGS else _written(value, context)
        for name, value in parts.items()
    }


def _keywords(extraction: Extraction) -> Mapping[str, Any]:
    """The keywords, without those that need the WCS of a file that is gone."""
    try:
        return extraction.keywords
    except (LRSError, OSError):
        return getattr(extraction.keywords_source, "cards", {})


def _read(state: Mapping[str, Any], context: Any) -> Any:
    ((kind, value),) = state.items()
    if kind == "array":
        return context.object(value)[()]  # a number where it was one
    if kind == "quantity":
        return u.Quantity(context.object(value[0])[()], u.Unit(value[1]), copy=False)
    if kind == "header":
        return fits.Header.fromstring(value, sep="\n")
    if kind == "own_header":
        return LazyHeader.from_header(fits.Header.fromstring(value, sep="\n"))
    if kind == "provenance":
        return Provenance.from_dict(json.loads(value))
    if kind == "table":
        return Table({name: _read(column, context) for name, column in value})
    if kind == "extraction":
        return _read_extraction(value, context)
    return json.loads(value)


def _read_extraction(state: Mapping[str, Any], context: Any) -> Extraction:
    parts: dict[str, Any] = {}
    for name, value in state.items():
        if name in _MAPPINGS:
            parts[name] = {key: _read(one, context) for key, one in value}
        elif value is not None:
            parts[name] = _read(value, context)
    return Extraction(keywords_source=parts.pop("keywords"), **parts)


def _column(column: Any) -> Any:
    """A column of a table as an array, or as a quantity where it has a unit."""
    if isinstance(column, u.Quantity) or getattr(column, "unit", None) is None:
        return column if isinstance(column, u.Quantity) else np.asarray(column)
    return u.Quantity(np.asarray(column), column.unit, dtype=column.dtype)


def _plain(value: Any) -> Any:
    """What JSON does not know."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def _same(one: Any, other: Any) -> bool:
    """Whether JSON gave back what it was given."""
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        if not isinstance(other, dict) or one.keys() != other.keys():
            return False
        return all(_same(one[key], other[key]) for key in one)
    return isinstance(other, type(one)) and bool(one == other or one != one)
