"""Validation of a whole EXTRACT1D reference, with every error that it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glue_lrs.errors import ReferenceFileError
from glue_lrs.reference.reference import Reference
from glue_lrs.reference.schema import check_entry

__all__ = ["reference_errors"]

# --- references ----------------------------------------------------------------------------------

#: Keys that only make sense, or contradict each other, together.
_TOGETHER = (("xstart", "xstop", "src_coeff"), ("ystart", "ystop"))


def reference_errors(document: object, name: str) -> list[str]:
    """List everything for which `Reference` refuses a document, which itself names the first.

    Parameters
    ----------
    document : object
        What a JSON file holds.
    name : str
        What messages call it.

    Returns
    -------
    list of str
        A line for each; empty for a document that `Reference` takes.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("apertures"), list):
        return _refusal(document, name)
    found: list[str] = []
    for number, entry in enumerate(document["apertures"]):
        if not isinstance(entry, Mapping) or "id" not in entry:
            single: list[Any] = [{"id": "dummy"}] * number + [entry]  # which keep its number
            found += _refusal({"apertures": single}, name)
            continue
        if not _refusal({"apertures": [entry]}, name):
            continue  # fine, or of another mode
        found += _entry_errors(entry, f"{name}: aperture {entry['id']!r}")
    return found or _refusal(document, name)


def _refusal(document: Any, name: str) -> list[str]:
    try:
        Reference(document, name)
    except ReferenceFileError as error:
        return [str(error)]
    return []


def _entry_errors(entry: Mapping[str, Any], where: str) -> list[str]:
    """What is wrong with each key of an entry, then with keys that belong together."""
    found: dict[str, None] = {}  # each once, in order
    good = dict(entry)
    beside = {"src_coeff": [[0], [1]]} if entry.get("src_coeff") is not None else {}
    for key, value in entry.items():
        try:
            check_entry({**beside, key: value}, where)
        except ReferenceFileError as error:
            found[str(error)] = None
            del good[key]
    groups = [{key: good[key] for key in keys if key in good} for keys in _TOGETHER]
    for group in (*groups, good):
        try:
            check_entry(group, where)
        except ReferenceFileError as error:
            found[str(error)] = None
    return list(found)
