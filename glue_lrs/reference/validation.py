"""Validation of EXTRACT1D reference files that reports all errors, not only the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from glue_lrs.errors import ReferenceFileError, quoted
from glue_lrs.reference.reference import Reference
from glue_lrs.reference.schema import check_entry

#: Groups of keys that must be validated together because their values must be consistent.
_GROUPS = (("xstart", "xstop", "src_coeff"), ("ystart", "ystop"))


def reference_errors(document: object, name: str) -> list[str]:
    """Return the texts of all errors in a document, of which `Reference` raises only the first.

    Parameters
    ----------
    document : object
        Content of a JSON file.
    name : str
        Name of the file in messages.

    Returns
    -------
    list of str
        One text for each error.
    """
    whole = _errors(Reference, document, name)
    if not isinstance(document, Mapping) or not isinstance(document.get("apertures"), list):
        return whole
    found: list[str] = []
    for number, entry in enumerate(document["apertures"]):
        if not isinstance(entry, Mapping) or "id" not in entry:
            # Dummy apertures precede this aperture so that the message contains its index.
            single: list[Any] = [{"id": "dummy"}] * number + [entry]
            found += _errors(Reference, {"apertures": single}, name)
        elif _errors(Reference, {"apertures": [entry]}, name):  # no errors for other modes than LRS
            found += _entry_errors(entry, f"{name}: aperture {quoted(entry['id'])}")
    return found or whole


def _entry_errors(entry: Mapping[str, Any], where: str) -> list[str]:
    """Return the errors about single keys of an aperture, then those about groups of keys.

    Keys that are invalid by themselves are omitted from the groups.
    """
    found: list[str] = []
    good = dict(entry)
    edges = {"src_coeff": [[0], [1]]} if entry.get("src_coeff") is not None else {}
    for key, value in entry.items():
        errors = _errors(check_entry, {**edges, key: value}, where)
        if errors:
            found += errors
            del good[key]
    groups = [{key: good[key] for key in keys if key in good} for keys in _GROUPS]
    for group in (*groups, good):
        found += _errors(check_entry, group, where)
    return list(dict.fromkeys(found))


def _errors(check: Callable[[Any, str], object], value: object, name: str) -> list[str]:
    """Return a list with the error that a validator raises, or an empty list if it raises none."""
    try:
        check(value, name)
    except ReferenceFileError as error:
        return [str(error)]
    return []
