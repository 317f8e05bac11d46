"""Reading and writing of the provenance in the ASDF extension of x1d and c1d files."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from asdf.util import load_yaml
from astropy.io import fits

from glue_lrs.errors import naming
from glue_lrs.io.files import asdf_bytes, reading

#: Key of the provenance in the ASDF tree.
PROVENANCE_KEY = "glue_lrs"


def provenance_tree(provenance: Mapping[str, Any]) -> dict[str, Any]:
    r"""Convert a provenance to a tree of JSON types.

    In file names that are not UTF-8, the invalid bytes are written as the text ``\udc..``, because
    YAML cannot encode them.
    """
    text = json.dumps(dict(provenance), default=_json_value, ensure_ascii=False)
    tree: dict[str, Any] = json.loads(
        re.sub("[\ud800-\udfff]", lambda match: rf"\\u{ord(match[0]):04x}", text)
    )
    return tree


def _json_value(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


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
