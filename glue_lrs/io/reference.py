"""EXTRACT1D references as JSON files."""

from __future__ import annotations

import json
import os
import warnings
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

from glue_lrs.errors import LRSWarning, ReferenceFileError, WriteError
from glue_lrs.io.files import atomic_write
from glue_lrs.reference.reference import Reference

__all__ = ["format_reference", "read_reference", "write_reference"]


def read_reference(path: str | PathLike[str]) -> Reference:
    """Read an EXTRACT1D reference.

    Parameters
    ----------
    path : str or path-like
        A JSON file. Unlike in the pipeline, its suffix does not matter.

    Returns
    -------
    Reference
        The validated document.

    Raises
    ------
    ReferenceFileError
        If the file cannot be read, is not UTF-8, is not JSON (the message has line and column), or
        is not a valid EXTRACT1D reference.

    Warns
    -----
    LRSWarning
        If an object has a key twice; the last one counts, as in the pipeline.
    """
    label = os.fspath(path)
    try:
        raw = Path(label).expanduser().read_bytes()
    except FileNotFoundError:
        raise ReferenceFileError(
            "does not exist, expected an EXTRACT1D JSON file", subject=label
        ) from None
    except IsADirectoryError:
        raise ReferenceFileError(
            "is a directory, expected an EXTRACT1D JSON file", subject=label
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        why = getattr(error, "strerror", None) or error
        raise ReferenceFileError(f"cannot be read: {why}", subject=label) from None
    duplicates: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        names = [key for key, _ in pairs]
        duplicates.extend(sorted({key for key in names if names.count(key) > 1}))
        return made

    def refuse(word: str) -> NoReturn:
        raise ReferenceFileError(f"holds {word}, expected finite numbers", subject=label)

    try:
        # utf-8-sig: some editors write a byte order mark
        document = json.loads(
            raw.decode("utf-8-sig"), object_pairs_hook=collect, parse_constant=refuse
        )
    except UnicodeDecodeError as error:
        kind = "a FITS file" if raw.startswith(b"SIMPLE") else f"not UTF-8 at byte {error.start}"
        raise ReferenceFileError(
            f"is {kind}, expected an EXTRACT1D JSON file", subject=label
        ) from None
    except json.JSONDecodeError as error:
        kind = "is empty" if not raw.strip() else "is not JSON"
        raise ReferenceFileError(
            f"{kind}: {error.msg} at line {error.lineno}, column {error.colno}", subject=label
        ) from None
    except (RecursionError, ValueError) as error:  # nested too deeply, too many digits
        text = str(error).splitlines()[0]
        raise ReferenceFileError(f"cannot be read as JSON: {text}", subject=label) from None
    if duplicates:
        warnings.warn(
            f"{label}: {', '.join(duplicates)}: given twice, the last one counts",
            LRSWarning,
            stacklevel=2,
        )
    return Reference(document, label)


def format_reference(reference: Reference) -> str:
    """Format a reference as JSON, with one line per key.

    Parameters
    ----------
    reference : Reference
        The document.

    Returns
    -------
    str
        The text of a JSON file.
    """

    def lines(mapping: dict[str, Any], indent: str) -> str:
        body = ",\n".join(
            f"{indent}    {json.dumps(key)}: {text(key, value, indent)}"
            for key, value in mapping.items()
        )
        return "{\n" + body + f"\n{indent}}}"

    def text(key: str, value: Any, indent: str) -> str:
        if key == "apertures" and indent == "":
            entries = ",\n".join("        " + lines(entry, "        ") for entry in value)
            return f"[\n{entries}\n    ]"
        return json.dumps(value, allow_nan=False)

    return lines(reference.document, "") + "\n"


def write_reference(
    reference: Reference, path: str | PathLike[str], overwrite: bool = False
) -> None:
    """Write an EXTRACT1D reference, for ``override_extract1d`` of the pipeline.

    Parameters
    ----------
    reference : Reference
        Written as returned by `Reference.for_pipeline`.
    path : str or path-like
        The file to write; its name must end in ``.json``.
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    WriteError
        If the file exists, has another name, or cannot be written.
    """
    label = os.fspath(path)
    if not label.lower().endswith(".json"):
        raise WriteError(
            "expected a name that ends in .json, which the pipeline requires", subject=label
        )
    text = format_reference(reference.for_pipeline())
    with atomic_write(path, overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
