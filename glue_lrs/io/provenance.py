"""Provenance that is stored in the ASDF extension of x1d and c1d files."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from asdf.util import load_yaml
from astropy.io import fits

from glue_lrs.errors import ProductError
from glue_lrs.io.files import asdf_bytes, one_line

#: Key of the provenance in the ASDF tree.
PROVENANCE_KEY = "glue_lrs"


def provenance_tree(provenance: Mapping[str, Any]) -> dict[str, Any]:
    r"""Convert a provenance to a tree of JSON types.

    Bytes of file names that are not UTF-8 are written as ``\udc..``, because YAML cannot encode
    them.
    """
    text = json.dumps(dict(provenance), default=_json_value, ensure_ascii=False)
    tree: dict[str, Any] = json.loads(
        re.sub("[\ud800-\udfff]", lambda match: rf"\\u{ord(match[0]):04x}", text)
    )
    return tree


def _json_value(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


@dataclass(frozen=True)
class StoredProvenance:
    """Callable that parses the provenance of a file only when called, because YAML is slow.

    Parameters
    ----------
    content : bytes
        Content of the ASDF extension.
    label : str
        Name of the file in messages.
    """

    content: bytes
    label: str

    def __call__(self) -> dict[str, Any]:
        """Return the provenance; raise `ProductError` if it cannot be parsed."""
        try:
            return dict(load_yaml(io.BytesIO(self.content))[PROVENANCE_KEY])
        except Exception as error:  # a YAML parser may raise any error
            raise ProductError(
                f"the provenance in the ASDF extension cannot be read, {one_line(error)}",
                subject=self.label,
            ) from error


def stored_provenance(hdulist: fits.HDUList, label: str) -> StoredProvenance | None:
    """Return the provenance in an open FITS file; None if the file has no provenance."""
    content = asdf_bytes(hdulist, label)
    if content is None or f"\n{PROVENANCE_KEY}:".encode() not in content:
        return None
    return StoredProvenance(content, label)
