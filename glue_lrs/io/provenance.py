"""Reading of the provenance in the ASDF extension of x1d and c1d files."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any

from asdf.util import load_yaml
from astropy.io import fits

from glue_lrs.errors import naming
from glue_lrs.io.files import asdf_bytes, reading

#: Key of the provenance in the ASDF tree.
PROVENANCE_KEY = "glue_lrs"


def stored_provenance(hdulist: fits.HDUList, label: str) -> Callable[[], dict[str, Any]] | None:
    """Return a function that parses the provenance in an open FITS file.

    The provenance is not parsed until it is accessed, because parsing is slow. Return None if the
    file has no provenance. `label` is the name of the file for error messages.
    """
    content = asdf_bytes(hdulist)
    if content is None or f"\n{PROVENANCE_KEY}:".encode() not in content:
        return None
    return partial(_parse, content, label)


def _parse(content: bytes, label: str) -> dict[str, Any]:
    # The YAML parser may raise any error.
    with naming(label), reading("the provenance in the ASDF extension"):
        return dict(load_yaml(io.BytesIO(content))[PROVENANCE_KEY])
