"""Reading of the provenance in the ASDF extension of x1d and c1d files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from astropy.io import fits

from glue_lrs.errors import LRSWarning, ProductError, naming, warn
from glue_lrs.io.files import asdf_bytes, reading
from glue_lrs.io.trees import check_tree
from glue_lrs.spectra.provenance import check_record

#: Key of the provenance in the ASDF tree.
PROVENANCE_KEY = "glue_lrs"


def stored_provenance(
    hdulist: fits.HDUList, label: str, combined: bool = False
) -> Callable[[], dict[str, Any]] | None:
    """Return a function that parses the provenance in an open FITS file.

    The provenance is not parsed until it is accessed, because parsing is slow. Return None if the
    file has no provenance. `label` is the name of the file for error messages, `combined` as for
    `check_record`.
    """
    try:
        content = asdf_bytes(hdulist)
    except ProductError as error:  # the spectrum itself is intact
        warn(LRSWarning(f"{error.text}; how the spectrum was made is unknown", subject=label))
        return None
    if content is None or f"\n{PROVENANCE_KEY}:".encode() not in content:
        return None
    return partial(_parse, content, label, combined)


def _parse(content: bytes, label: str, combined: bool) -> dict[str, Any]:
    part = "the provenance in the ASDF extension"
    with naming(label), reading(part):
        stored: dict[str, Any] = check_tree(content, part)[PROVENANCE_KEY]
        check_record(stored, combined)
    return stored
