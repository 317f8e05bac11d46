"""Validation of an EXTRACT1D reference file that reports all errors instead of the first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glue_lrs.errors import ReferenceFileError
from glue_lrs.reference.reference import Reference
from glue_lrs.reference.schema import check_entry

#: Groups of keys that must be validated together because their values may be inconsistent.
_GROUPS = (("xstart", "xstop", "src_coeff"), ("ystart", "ystop"))


def reference_errors(document: object, name: str) -> list[str]:
    """Return all errors in a document, whereas `Reference` raises only the first error.

    Parameters
    ----------
    document : object
        Content of a JSON file.
    name : str
        Name of the file for messages.

    Returns
    -------
    list of str
        One line of text for each error.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("apertures"), list):
        return _first_error(document, name)
    found: list[str] = []
    for number, entry in enumerate(document["apertures"]):
        if not isinstance(entry, Mapping) or "id" not in entry:
            # Dummy apertures are added so that the message contains the index of this aperture.
            single: list[Any] = [{"id": "dummy"}] * number + [entry]
            found += _first_error({"apertures": single}, name)
            continue
        if not _first_error({"apertures": [entry]}, name):
            continue  # the aperture is valid, or for a mode other than LRS
        found += _entry_errors(entry, f"{name}: aperture {entry['id']!r}")
    return found or _first_error(document, name)


def _first_error(document: Any, name: str) -> list[str]:
    """Return a list with the error that `Reference` raises, or an empty list."""
    try:
        Reference(document, name)
    except ReferenceFileError as error:
        return [str(error)]
    return []


def _entry_errors(entry: Mapping[str, Any], where: str) -> list[str]:
    """Return the errors about single keys of an aperture, followed by those about groups."""
    found: dict[str, None] = {}  # the keys serve as an ordered set
    good = dict(entry)
    edges = {"src_coeff": [[0], [1]]} if entry.get("src_coeff") is not None else {}
    for key, value in entry.items():
        try:
            check_entry({**edges, key: value}, where)
        except ReferenceFileError as error:
            found[str(error)] = None
            del good[key]
    groups = [{key: good[key] for key in keys if key in good} for keys in _GROUPS]
    for group in (*groups, good):
        try:
            check_entry(group, where)
        except ReferenceFileError as error:
            found[str(error)] = None
    return list(found)
